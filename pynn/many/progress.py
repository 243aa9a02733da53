"""The progress of ``fit_many``: one bar or line for all networks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from ..training.progress import LINE_INTERVAL, check_progress, display


class ManyProgress(NamedTuple):
    """The progress of ``fit_many``, as its argument ``progress`` receives it.

    Parameters
    ----------
    finished, failed, networks : int
        Number of networks that are trained, that failed, and of all.
    share : float
        Share of the work that is done, in [0, 1], including epochs of networks in training.
    seconds : float
        Time since training began.
    """

    finished: int
    failed: int
    networks: int
    share: float
    seconds: float

    def __str__(self) -> str:
        parts = [f"{self.finished + self.failed}/{self.networks} networks"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        rate = (self.finished + self.failed) / max(self.seconds, 1e-9)
        parts.append(f"{rate:.0f} networks/s" if rate >= 10 else f"{rate:.2f} networks/s")
        return "  ".join(parts)


class Display:
    """Shows or passes on the progress; ``close`` ends it."""

    def __init__(self, call: Callable[[ManyProgress], object]) -> None:
        self.show = call

    def close(self) -> None:
        """End the output, so that the terminal can be used again."""


class Lines(Display):
    """Prints one line every half second to standard error."""

    def __init__(self) -> None:
        super().__init__(self._print)
        self._printed = time.perf_counter()
        self._last: ManyProgress | None = None

    def _print(self, progress: ManyProgress) -> None:
        self._last = progress
        if time.perf_counter() - self._printed >= LINE_INTERVAL:
            self._printed = time.perf_counter()
            print(progress, file=sys.stderr)

    def close(self) -> None:
        with suppress(OSError):
            if self._last is not None:
                print(self._last, file=sys.stderr)


class Bar(Display):
    """A progress bar, drawn by rich."""

    def __init__(self, notebook: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(self._draw)
        self._bar = Progress(
            BarColumn(bar_width=20),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True, force_jupyter=True if notebook else None),
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=1.0, figures="")
        self._bar.start()

    def _draw(self, progress: ManyProgress) -> None:
        self._bar.update(self._task, completed=progress.share, figures=str(progress), refresh=True)

    def close(self) -> None:
        # The terminal may be closed; its error must not hide the reason why training ended.
        with suppress(OSError):
            self._bar.stop()


def display_of(progress: Any) -> Display | None:
    """Return the display for the argument ``progress`` of ``fit_many``; None for no output.

    Raises
    ------
    ValueError
        If it is not ``"auto"``, True, False or a function.
    """
    check_progress(progress)
    if callable(progress):
        return Display(progress)
    kind = display(progress)
    if kind is None:
        return None
    return Lines() if kind == "lines" else Bar(kind == "notebook")
