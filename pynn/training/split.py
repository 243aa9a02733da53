"""Which rows ``validation=share`` holds out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks.targets import Task
from ..spec import philox

Array = np.ndarray


def held_out(
    n: int, share: float | np.floating[Any], seed: int, codes: Array | None = None
) -> Array:
    """Return the rows to hold out for validation, a random share of them, as booleans (n,).

    Parameters
    ----------
    n : int
        Number of rows.
    share : float
        Their share to hold out, which is rounded to whole rows.
    seed : int
        Key of the random numbers.
    codes : ndarray (n,), optional
        The class of each row, whole numbers from 0: the share of each is held out (`shares`).

    Raises
    ------
    ValueError
        If no row would be held out, or all rows.
    """
    count = round(share * n)
    if not 0 < count < n:
        raise ValueError(
            f"validation: found the share {share:g}, which is {count} of "
            f"{n} row{'s' * (n != 1)}; expected at least one row to train on and one to hold out"
        )
    if codes is None:
        return philox.held_out(seed, n, count)
    codes = codes.astype(np.int64)
    sizes = np.bincount(codes)
    # By class, then by random word: the first rows of each class are held out.
    key = (codes << 32) | philox.words(seed, n, 0, philox.HELD_OUT)
    order = np.argsort(key, kind="stable")
    place = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    out = np.zeros(n, dtype=bool)
    out[order[place < np.repeat(shares(sizes, count), sizes)]] = True
    return out


def shares(sizes: Array, count: int) -> Array:
    """Divide ``count`` rows among classes of the given sizes, by largest remainder.

    Each class contributes in proportion to its size, rounded down; the rows that remain come from
    the classes with the largest remainders, of equal ones those with the lower number. A class
    keeps at least one row to train on, so that a class of one row is not held out, unless ``count``
    is too large for that.

    Parameters
    ----------
    sizes : ndarray (classes,)
        Rows of each class, 0 or more.
    count : int
        Below the sum of the sizes.

    Returns
    -------
    ndarray (classes,), whose sum is ``count``
    """
    most = np.maximum(sizes - 1, 0)
    if most.sum() < count:
        most = np.where(sizes > 1, sizes, 0)
    if most.sum() < count:
        most = sizes
    pool = np.where(most > 0, sizes, 0)
    found: Array = np.minimum(count * pool // pool.sum(), most)
    order = np.argsort(-(count * pool % pool.sum()), kind="stable")
    while (left := count - int(found.sum())) > 0:
        found[order[found[order] < most[order]][:left]] += 1
    return found


def codes_of(y: Array, task: Task) -> Array | None:
    """Return the class of each row as a number (n,); None if the targets are not class labels.

    ``y`` has labels (n,) or targets (n, n_out), as ``checks.targets`` returns them.
    """
    if task.kind != "labels":
        return None
    if y.ndim == 1:
        return y
    hard = y.shape[1] == 1 and bool(((y == 0) | (y == 1)).all())
    return y[:, 0] if hard else None
