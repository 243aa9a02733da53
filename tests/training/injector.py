"""Raises an exception at a chosen event of pynn's Python code.

The events are those of ``sys.settrace`` (calls, lines and returns of Python functions) and of
``sys.setprofile`` (before and after calls of built-in functions, which allocate). Ctrl-C can arrive
at nearly all of them, and MemoryError at every call.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pynn

PACKAGE = str(Path(pynn.__file__).parent)


class Injector:
    """Lists the events inside a ``with`` block, and raises at one of them.

    Parameters
    ----------
    error : exception class
        Raised at the event.
    at : int
        Number of the event, from 0; None only lists them.

    Attributes
    ----------
    events : list of tuple
        What identifies each event so far: its kind, its line and the line that called its function.
    place : str
        File, line and kind of the event at which the exception was raised.
    """

    def __init__(self, error: type[BaseException] = KeyboardInterrupt, at: int | None = None):
        self.error, self.at = error, at
        self.events: list[tuple[object, ...]] = []
        self.place = ""

    def extremes(self) -> list[int]:
        """The numbers of the first and the last of the events that only their time distinguishes.

        In a loop these are the first and the last iteration.
        """
        first: dict[tuple[object, ...], int] = {}
        last = {}
        for number, event in enumerate(self.events):
            first.setdefault(event, number)
            last[event] = number
        return sorted({*first.values(), *last.values()})

    def __enter__(self) -> Injector:
        self._old = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._old[0])
        sys.setprofile(self._old[1])

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not counts(frame):
            return None
        # A generator that the tracer interrupts at ``yield`` (a return event) ends without running
        # its ``except`` and ``finally``, which Ctrl-C cannot cause.
        yields = event == "return" and frame.f_code.co_flags & inspect.CO_GENERATOR
        if event != "exception" and not yields:
            self._note(frame, event)
        return self._trace

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("c_call", "c_return") and counts(frame):
            self._note(frame, f"{event} {argument.__name__}")

    def _note(self, frame: FrameType, event: str) -> None:
        back = frame.f_back
        called_from = (back.f_code, back.f_lineno) if back else None
        self.events.append((event, frame.f_code, frame.f_lineno, called_from))
        if len(self.events) - 1 == self.at:
            self.place = f"{frame.f_code.co_filename}:{frame.f_lineno} {event}"
            raise self.error


def counts(frame: FrameType) -> bool:
    """Whether events of a frame are counted.

    Modules run only once, and exceptions of ``__del__`` are not passed on.
    """
    code = frame.f_code
    return code.co_filename.startswith(PACKAGE) and code.co_name not in ("<module>", "__del__")
