"""Warnings that point to the line of the program that called pynn."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection

PYNN = (__name__.partition(".")[0],)


def warn_caller(
    message: str,
    category: type[Warning] = RuntimeWarning,
    packages: Collection[str] = PYNN,
) -> None:
    """Warn at the innermost line that is in none of the packages.

    Python then shows that line, and its default filter shows the warning once for each such line.
    """
    frame, level = sys._getframe(1), 2  # 1 is this function
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in packages:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
