"""Progress of training: a bar with rich, plain lines without it, or a user's function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..spec.arguments import choose
from .history import Record

INTERVAL = 0.1
"""Seconds between two reports within an epoch."""
LINE_INTERVAL = 0.5
"""Minimum of seconds between two printed lines, so that short epochs do not fill a log."""


class Reporter:
    """Calls a function with a record about every ``INTERVAL`` seconds, and after each epoch.

    Parameters
    ----------
    call : function
        Receives the records.

    Attributes
    ----------
    slice : int or None
        Number of steps to train before ``is_due`` is asked again. It grows from one until a slice
        takes about as long as the interval. None if only whole epochs are reported.
    """

    slice: int | None = 1

    def __init__(self, call: Callable[[Record], object]) -> None:
        self.call = call
        self._shown = time.perf_counter()

    def measure(self, count: int, seconds: float) -> None:
        """Adapt the slice to ``count`` steps having taken ``seconds``."""
        if self.slice is None:
            return
        if seconds < INTERVAL / 2 and count >= self.slice:
            self.slice = 2 * count
        elif seconds > 2 * INTERVAL:
            self.slice = max(1, count // 2)

    def is_due(self) -> bool:
        """Whether it is time for a report within the epoch."""
        return self.slice is not None and time.perf_counter() - self._shown >= INTERVAL

    def show(self, record: Record) -> None:
        """Report a record."""
        self.call(record)
        self._shown = time.perf_counter()

    def close(self) -> None:
        """End the output, so that the terminal can be used again."""


class Lines(Reporter):
    """Prints one line per epoch to standard error."""

    slice = None

    def __init__(self, last: int) -> None:
        super().__init__(self._print)
        self._last = last
        self._waiting: Record | None = None
        self._printed = 0.0

    def _print(self, record: Record) -> None:
        self._waiting = record
        if time.perf_counter() - self._printed >= LINE_INTERVAL:
            self._flush()

    def _flush(self) -> None:
        if self._waiting is not None:
            record = self._waiting
            print(f"epoch {record.epoch}/{self._last}  {describe(record)}", file=sys.stderr)
            self._printed = time.perf_counter()
            self._waiting = None

    def close(self) -> None:
        with suppress(OSError):
            self._flush()


class Bar(Reporter):
    """A progress bar, drawn by rich."""

    def __init__(self, first: int, last: int, notebook: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(self._draw)
        self._first, self._last = first, last
        self._validation: Record | None = None
        # This thread redraws it after each record: a thread of rich would compete with it.
        # rich recognises the notebooks of some products only.
        console = Console(stderr=True, force_jupyter=True if notebook else None)
        wide = console.width >= 110
        timer = [TimeRemainingColumn(compact=True, elapsed_when_finished=True)] if wide else []
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20 if wide else 8),
            *timer,
            TextColumn("{task.fields[figures]}"),
            console=console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task(
            f"epoch {min(first + 1, last)}/{last}", total=last - first, figures=""
        )
        self._bar.start()

    def _draw(self, record: Record) -> None:
        share = record.step / record.steps
        # Show the last validation while the next epoch trains.
        if record.validation_loss is not None or record.metrics is not None:
            self._validation = record
        self._bar.update(
            self._task,
            description=f"epoch {record.epoch}/{self._last}",
            completed=record.epoch - 1 - self._first + share,
            figures=describe(record, self._validation),
            refresh=True,
        )

    def close(self) -> None:
        # The terminal may be closed; its error must not hide the reason why training ended.
        with suppress(OSError):
            self._bar.stop()


def describe(record: Record, validated: Record | None = None) -> str:
    """Return loss, accuracies, metrics and speed as one line.

    ``validated`` has the validation and the metrics to show, if not those of the record.
    """
    validated = validated or record
    parts = [f"loss {_loss(record.loss)}"]
    if record.accuracy is not None:
        parts.append(f"accuracy {100 * record.accuracy:.2f} %")
    if validated.validation_accuracy is not None:
        parts.append(f"validation {100 * validated.validation_accuracy:.2f} %")
    elif validated.validation_loss is not None:
        parts.append(f"validation loss {_loss(validated.validation_loss)}")
    for name, value in (validated.metrics or {}).items():
        parts.append(f"{name.replace('_', ' ')} {value:.4g}")
    return "  ".join([*parts, _speed(record.samples_per_second)])


def _loss(value: float) -> str:
    return f"{value:.4f}" if value < 1e6 else f"{value:.3g}"


def _speed(rate: float) -> str:
    if rate >= 1e6:
        return f"{rate / 1e6:.2f} M samples/s"
    return f"{rate / 1e3:.1f} k samples/s" if rate >= 1e3 else f"{rate:.0f} samples/s"


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, whatever its shell's class.

    The shells of Jupyter, Colab, Databricks and JupyterLite have different classes. A kernel is an
    attribute of its shell, and names itself in the shell's configuration; IPython in a terminal has
    neither.
    """
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell: Any = get_ipython() if get_ipython is not None else None
    if shell is None:
        return False
    config = getattr(shell, "config", None) or {}
    return getattr(shell, "kernel", None) is not None or "IPKernelApp" in config


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def check_progress(progress: object) -> None:
    """Raise ValueError if ``progress`` is not ``"auto"``, True, False or a function."""
    if not (isinstance(progress, bool) or callable(progress)):
        choose("progress", progress, ("auto", "True, False or a function"))


def reporter(progress: object, first: int, last: int) -> Reporter | None:
    """Return a reporter for the epochs ``first`` + 1 to ``last``, or None for no output.

    Raises
    ------
    ValueError
        If ``progress`` is not ``"auto"``, True, False or a function.
    """
    check_progress(progress)
    if callable(progress):
        return Reporter(progress)
    kind = display(progress)
    if kind is None:
        return None
    return Lines(last) if kind == "lines" else Bar(first, last, kind == "notebook")


def display(progress: object) -> str | None:
    """Return where progress is shown: ``"terminal"`` and ``"notebook"`` for a bar, ``"lines"``, or
    None for nowhere.

    ``progress`` is ``"auto"``, True or False.
    """
    if progress is False:
        return None
    notebook = _in_notebook()
    terminal = not notebook and sys.stderr is not None and sys.stderr.isatty()
    if progress is not True and not (terminal or notebook):
        return None
    if _has("rich") and (terminal or (notebook and _has("ipywidgets"))):
        return "notebook" if notebook else "terminal"
    return "lines"
