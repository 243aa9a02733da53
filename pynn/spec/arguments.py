"""Checks of plain arguments: names, numbers, keyword arguments."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np


def choose(argument: str, found: object, allowed: Iterable[str]) -> str:
    """Return ``found`` if it is one of ``allowed``; if not, raise a ValueError with a hint."""
    allowed = list(allowed)
    if isinstance(found, str) and found in allowed:
        return found
    import difflib  # only here: it would be a part of the time that importing pynn takes

    text = found.lower().replace("-", "_") if isinstance(found, str) else ""
    near = difflib.get_close_matches(text, allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{argument}: found {found!r}, expected one of {', '.join(allowed)}{hint}")


def _not_a_class(argument: str, found: object) -> None:
    if isinstance(found, type):
        name = found.__name__
        raise TypeError(f"{argument}: found the class {name}, expected an object: {name}()")


def _number(owner: object, name: str, low: float, high: float, open_high: bool = False) -> None:
    value = getattr(owner, name)
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not ok or not low <= value <= high or (open_high and value == high):
        bracket = ")" if open_high else "]"
        raise ValueError(
            f"{type(owner).__name__}.{name}: found {value!r}, "
            f"expected a number in [{low:g}, {high:g}{bracket}"
        )


MOST_THREADS = 4096
"""Each takes memory of its own: far past any machine's processors it is a slip of the keyboard."""


# --- Arrays -------------------------------------------------------------------------------------


def must_take(function: Any, arguments: tuple[object, ...], name: str, expected: str) -> None:
    """Raise TypeError if a function cannot be called with so many arguments, as far as it tells."""
    import inspect

    try:
        takes = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some functions written in C do not tell
        return
    try:
        takes.bind(*arguments)
    except TypeError:
        raise TypeError(
            f"{name}: found {function!r}, which takes {takes}, expected a function of {expected}"
        ) from None


# --- Numbers ------------------------------------------------------------------------------------


def whole(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Return a whole number of at least ``low`` and at most ``high``."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, (bool, np.bool_)) or number < low or (high is not None and number > high):
        span = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: found {value!r}, expected a whole number {span}")
    return number


def number(value: Any, name: str, above: float | None = None, least: float | None = None) -> float:
    """Return a finite float above ``above`` or of at least ``least``."""
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    result = float(value) if ok else math.nan
    ok = math.isfinite(result)
    if ok and above is not None:
        ok = result > above
    if ok and least is not None:
        ok = result >= least
    if not ok:
        span = "" if above is None else f" above {above:g}"
        span += "" if least is None else f" of {least:g} or more"
        raise ValueError(f"{name}: found {value!r}, expected a finite number{span}")
    return result


def threads(value: Any) -> int | None:
    """Return how many threads compute at most; None leaves it to the backend."""
    return None if value is None else whole(value, "threads", 1, MOST_THREADS)


def batch_size(value: Any) -> int | None:
    """Return how many rows a batch has; None, also for ``"full"``, stands for all of them."""
    if value is None or (isinstance(value, str) and value == "full"):
        return None
    if isinstance(value, str):
        choose("batch_size", value, ("full", "or a whole number of 1 or more"))
    return whole(value, "batch_size", 1)
