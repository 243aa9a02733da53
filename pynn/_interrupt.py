"""Ctrl-C while the command line is being imported ends it without a traceback.

The package imports this module first, since importing the others takes a few tenths of a second.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

STOPPED = "pynn: stopped"


def was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused an error: imports of compiled modules can replace it."""
    seen = 0
    while error is not None and seen < 100:
        if isinstance(error, KeyboardInterrupt):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _is_command() -> bool:
    """Return whether this process is ``pynn`` or ``python -m pynn``, not a program that uses it."""
    if sys.argv[:1] == ["-m"]:
        given = getattr(sys, "orig_argv", [])
        at = given.index("-m") if "-m" in given else len(given)
        return given[at + 1 : at + 2] == ["pynn"] or "-mpynn" in given
    return os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0] == "pynn"


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if was_interrupted(error):
        print(STOPPED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if _is_command() and sys.excepthook is sys.__excepthook__:
    sys.excepthook = _show
