"""Checks of plain arguments: names, numbers, functions. Each error names the argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

MOST_THREADS = 4096
"""More than the processors of any machine: a larger number is a typing error, and each thread
allocates memory."""
LEAST_WEIGHT, MOST_WEIGHT = 1e-100, 1e100
"""Bounds of weights above 0 of rows and classes: products and sums of weights,
and their inverses, are normal numbers of float64 then."""
MOST_SQUARED = 1e150
"""Values of at most this size have squares whose sum over 1e8 rows float64 can hold."""

OTHERS = frozenset(
    [
        *("mape", "msle", "rmse", "l1", "smooth_l1", "kl_div"),
        *("nll", "bce", "celu", "prelu", "rrelu", "crelu", "swish", "softmin", "log_softmax"),
        *("log_sigmoid", "tanhshrink", "radam", "adamax", "adadelta"),
        *("adafactor", "lamb", "rprop", "asgd", "orthogonal", "truncated_normal"),
        *("uniform", "ones", "float16", "bfloat16", "int8", "cyclic", "polynomial"),
    ]
)
"""Names of functions and formats that pynn does not have, which are no misspellings of others."""


def choose(argument: str, found: object, allowed: Iterable[str]) -> str:
    """Return ``found`` if it is one of ``allowed``; otherwise raise ValueError with a hint."""
    allowed = list(allowed)
    if isinstance(found, str) and found in allowed:
        return found
    import difflib  # imported here, since it would slow down the import of pynn

    text = found.lower().replace("-", "_") if isinstance(found, str) else ""
    near = [] if text in OTHERS else difflib.get_close_matches(text, allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{argument}: found {found!r}, expected one of {', '.join(allowed)}{hint}")


def number(
    value: Any,
    name: str,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """Return a finite float within the bounds: > above, >= least, < below, <= most."""
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    try:
        result = float(value) if ok else math.nan
    except OverflowError:  # an int beyond the largest float
        result = math.inf
    if (
        math.isfinite(result)
        and (above is None or result > above)
        and (least is None or result >= least)
        and (below is None or result < below)
        and (most is None or result <= most)
    ):
        return result
    raise ValueError(f"{name}: found {value!r}, expected {_span(above, least, below, most)}")


def _span(above: float | None, least: float | None, below: float | None, most: float | None) -> str:
    """Describe the numbers within some bounds."""
    low, high = least if above is None else above, most if below is None else below
    if low is not None and high is not None:
        left, right = "[" if above is None else "(", "]" if below is None else ")"
        return f"a number in {left}{low:g}, {high:g}{right}"
    text = "a finite number"
    if low is not None:
        text += f" of {low:g} or more" if above is None else f" above {low:g}"
    if high is not None:
        text += f" of {high:g} or less" if below is None else f" below {high:g}"
    return text


def whole(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Return a whole number from ``low`` to ``high``. A bool is not one."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, (bool, np.bool_)) or number < low or (high is not None and number > high):
        span = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: found {value!r}, expected a whole number {span}")
    return number


def threads(value: Any) -> int | None:
    """Return the maximum number of threads; None leaves it to the backend."""
    return None if value is None else whole(value, "threads", 1, MOST_THREADS)


class Default(int):
    """A default that can be told from an equal number that was passed."""


BATCH_SIZE = Default(64)
"""The default of ``fit``; sources that are batches already keep theirs."""


def batch_size(value: Any) -> int | None:
    """Return the number of rows of a batch; None, also for ``"full"``, means all rows."""
    if value is None or (isinstance(value, str) and value == "full"):
        return None
    if isinstance(value, str):
        choose("batch_size", value, ("full", "or a whole number of 1 or more"))
    return whole(value, "batch_size", 1)


def leaves_one(rows: int, size: int) -> bool:
    """Return whether a batch, such as the last one, has a single row."""
    return size == 1 or rows % size == 1


def without_one(rows: int, size: int) -> int:
    """Return the size nearest to ``size`` with which no batch of two rows or more has only one."""
    size = min(size, rows)
    near = (size + sign * d for d in range(rows) for sign in (1, -1))
    return next(s for s in near if 1 < s <= rows and not leaves_one(rows, s))


def not_a_class(argument: str, found: object) -> None:
    """Raise TypeError for a class in place of an object, such as ``Adam`` for ``Adam()``."""
    if isinstance(found, type):
        name = found.__name__
        raise TypeError(f"{argument}: found the class {name}, expected an object: {name}()")


def must_take(function: Any, arguments: tuple[object, ...], name: str, expected: str) -> None:
    """Raise TypeError if a function cannot be called with these arguments, by its signature."""
    import inspect

    try:
        takes = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return
    try:
        takes.bind(*arguments)
    except TypeError:
        raise TypeError(
            f"{name}: found {function!r}, which takes {takes}, expected a function of {expected}"
        ) from None
