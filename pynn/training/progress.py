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
LINE_INTERVAL = 30.0
"""Maximum of seconds without a printed line, if an epoch has ended."""
MOST_EACH, MOST_ROWS = 100, 20
"""Number of epochs up to which each has a row, and of rows of more epochs."""


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
    """Prints a line for every epoch, or every n-th, to standard error.

    A line also follows after ``LINE_INTERVAL`` seconds without one.
    """

    slice = None

    def __init__(self, first: int, last: int) -> None:
        super().__init__(self._print)
        self._last, self._every = last, rows_apart(last - first)
        self._waiting: Record | None = None
        self._printed = time.perf_counter()
        if self._every > 1:
            print(f"one line for every {_ordinal(self._every)} epoch", file=sys.stderr)

    def _print(self, record: Record) -> None:
        self._waiting = record
        due = time.perf_counter() - self._printed >= LINE_INTERVAL
        if due or record.epoch % self._every == 0:
            self._flush()

    def _flush(self) -> None:
        if self._waiting is not None:
            print(row(self._waiting, self._last), file=sys.stderr)
            self._printed = time.perf_counter()
            self._waiting = None

    def close(self) -> None:
        with suppress(OSError):
            self._flush()


class Bar(Reporter):
    """A progress bar, drawn by rich, below a row for every epoch, or every n-th."""

    def __init__(self, first: int, last: int, notebook: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        super().__init__(self._draw)
        self._first, self._last, self._every = first, last, rows_apart(last - first)
        self._row: Record | None = None
        self._began = time.perf_counter()
        # This thread redraws it after each record: a thread of rich would compete with it.
        # rich recognises the notebooks of some products only.
        console = Console(stderr=True, force_jupyter=True if notebook else None, highlight=False)
        # Colours that are visible on light and dark and do not look like an error.
        figures = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self._bar = Progress(
            TextColumn("{task.description}", style="none"),
            BarColumn(12, "bright_black", "green", "green"),
            TextColumn("{task.fields[times]}", style="none"),
            TextColumn("{task.fields[figures]}", table_column=figures, style="none"),
            console=console,
            auto_refresh=False,
            expand=True,
        )
        self._task = self._bar.add_task(
            f"epoch {min(first + 1, last)}/{last}", total=last - first, figures="", times=""
        )
        if self._every > 1:
            console.print(f"one row for every {_ordinal(self._every)} epoch")
        self._bar.start()

    def _draw(self, record: Record) -> None:
        whole = record.step == record.steps
        done = record.epoch - 1 - self._first + record.step / record.steps
        if whole:
            self._row = record
            if record.epoch % self._every == 0:
                self._print_row()
        self._bar.update(
            self._task,
            description=f"epoch {record.epoch}/{self._last}",
            completed=done,
            times=self._times(done),
            figures=f"loss {_loss(record.loss)}  {_speed(record.samples_per_second)}",
            refresh=True,
        )

    def _print_row(self) -> None:
        """Print the row of the last whole epoch above the bar, as far as it fits."""
        if self._row is not None:
            text = row(self._row, self._last, self._bar.console.width)
            self._bar.console.print(text, markup=False, no_wrap=True, overflow="ellipsis")
            self._row = None

    def _times(self, done: float) -> str:
        elapsed = time.perf_counter() - self._began
        if done <= 0:
            return f"{_clock(elapsed)} elapsed"
        left = elapsed / done * (self._last - self._first - done)
        return f"{_clock(elapsed)} elapsed, {_clock(left)} left"

    def close(self) -> None:
        # The terminal may be closed; its error must not hide the reason why training ended.
        with suppress(OSError):
            self._print_row()
            # The rows stay on the screen, the bar does not.
            self._bar.remove_task(self._task)
            self._bar.stop()


def rows_apart(epochs: int) -> int:
    """Return n for a row for every n-th of many epochs: 1, 2, 5, 10, 20, 50, …"""
    n = 1
    while n * MOST_ROWS < epochs > MOST_EACH:
        n = n * 5 // 2 if str(n).startswith("2") else 2 * n
    return n


def _ordinal(n: int) -> str:
    return f"{n}{'nd' if n == 2 else 'th'}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def row(record: Record, last: int, width: int | None = None) -> str:
    """Return the line of a whole epoch; without its last parts if it would exceed the width."""
    parts = [f"epoch {record.epoch:>{len(str(last))}}/{last}", *_figures(record)]
    while width is not None and len("  ".join(parts)) > width and len(parts) > 3:
        parts.pop()
    return "  ".join(parts)


def describe(record: Record) -> str:
    """Return loss, accuracies, metrics and speed as one line."""
    return "  ".join(_figures(record))


def _figures(record: Record) -> list[str]:
    parts = [f"loss {_loss(record.loss)}"]
    if record.accuracy is not None:
        parts.append(f"accuracy {100 * record.accuracy:.2f} %")
    if record.validation_accuracy is not None:
        parts.append(f"validation {100 * record.validation_accuracy:.2f} %")
    elif record.validation_loss is not None:
        parts.append(f"validation loss {_loss(record.validation_loss)}")
    metrics = record.metrics or {}
    # "validation" once, unless metrics of the training rows follow.
    prefix = "validation_" if all(name.startswith("validation_") for name in metrics) else ""
    for name, value in metrics.items():
        parts.append(f"{name.removeprefix(prefix).replace('_', ' ')} {value:.4g}")
    return [*parts, _speed(record.samples_per_second)]


def _loss(value: float) -> str:
    if 0 < abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:.4f}" if value < 100 else f"{value:.5g}"


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
    return Lines(first, last) if kind == "lines" else Bar(first, last, kind == "notebook")


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
