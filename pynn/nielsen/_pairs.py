"""The book's training data, lists of pairs (x, y), checked and converted to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks.arrays import check_finite
from ..checks.convert import as_numbers
from ..spec import arguments

Array = np.ndarray


def as_pairs(data: Any, name: str) -> list[Any] | tuple[Any, ...]:
    """Return data as a non-empty list or tuple; an iterator, such as a zip, is consumed."""
    if not isinstance(data, (list, tuple)):
        try:
            data = list(data)
        except TypeError:
            raise TypeError(
                f"{name}: found a {type(data).__name__}, expected a list of pairs (x, y)"
            ) from None
    if not data:
        raise ValueError(f"{name}: found no pairs (x, y), expected one or more")
    return data


def as_trainable(data: Any) -> list[Any]:
    """Return ``training_data`` if it can be shuffled in place, as the book does."""
    if not isinstance(data, list):
        kind = type(data).__name__
        hint = "; use list(training_data)" if hasattr(data, "__iter__") else ""
        raise TypeError(
            f"training_data: found a {kind}, expected a list of pairs (x, y), which is "
            f"shuffled in place{hint}"
        )
    as_pairs(data, "training_data")
    return data


def real_array(value: Any, shape: tuple[int, ...], name: str) -> Array:
    """Return value as an array of real numbers of this shape, or raise."""
    a = as_numbers(value, name)
    if a.shape != shape:
        found = f"the number {a}" if a.ndim == 0 else f"shape {a.shape}"
        raise ValueError(f"{name}: found {found}, expected an array of shape {shape}")
    return a


class Pairs:
    """A list of pairs (x, y) as arrays, converted once for all epochs.

    Parameters
    ----------
    data : sequence or iterator of pairs
        ``x`` (n_in, 1); ``y`` the index of the correct output if ``numbered``, else (n_out, 1).
    name : str
        Name of the argument in error messages.
    sizes : sequence of int
        Units of every layer of the network.

    Attributes
    ----------
    x : ndarray (m, n_in), float32 or float64
    targets : ndarray (m, n_out), float64
    labels : ndarray (m,), int64
        Index of the correct output, or of the largest target.
    """

    def __init__(self, data: Any, name: str, sizes: Sequence[int], *, numbered: bool) -> None:
        data = as_pairs(data, name)
        try:
            xs, ys = [x for x, _ in data], [y for _, y in data]
        except (TypeError, ValueError):
            i = next(i for i, item in enumerate(data) if not _is_pair(item))
            raise ValueError(
                f"{name}[{i}]: found a {type(data[i]).__name__}, expected a pair (x, y)"
            ) from None
        n_out = sizes[-1]
        self.x = _rows(xs, sizes[0], "x", name)
        if numbered:
            self.labels = _labels(ys, n_out, name)
            self.targets = np.eye(max(n_out, 2))[self.labels][:, :n_out]
        else:
            self.targets = _rows(ys, n_out, "y", name).astype(np.float64, copy=False)
            self.labels = self.targets.argmax(axis=1)

    def __len__(self) -> int:
        return len(self.x)


def _is_pair(item: Any) -> bool:
    try:
        _, _ = item
    except (TypeError, ValueError):
        return False
    return True


def _rows(columns: list[Any], n: int, part: str, name: str) -> Array:
    """Return m columns (n, 1) as the rows of an array (m, n), float32 or float64."""
    shape = (n, 1)
    if not all(
        type(c) is np.ndarray and c.shape == shape and c.dtype.kind in "biuf" for c in columns
    ):
        columns = [real_array(c, shape, f"{part} of {name}[{i}]") for i, c in enumerate(columns)]
    rows = np.concatenate(columns).reshape(len(columns), n)
    if rows.dtype not in (np.float32, np.float64):
        # uint8 among them: the core would scale it as pixels, but the book's arrays hold numbers.
        rows = rows.astype(np.float64)
    check_finite(rows, f"{part} of {name}", np.dtype(np.float64))
    return rows


def _labels(ys: list[Any], n_out: int, name: str) -> Array:
    """Return the indices of the correct outputs (m,), int64."""
    # With a single output the largest output is always number 0, so that label 1 is never correct.
    n_out = max(n_out, 2)
    labels = np.empty(len(ys), np.int64)
    for i, y in enumerate(ys):
        if isinstance(y, np.ndarray) and y.ndim:
            raise ValueError(
                f"y of {name}[{i}]: found shape {y.shape}, expected a whole number from 0 to "
                f"{n_out - 1}"
            )
        labels[i] = arguments.whole(y, f"y of {name}[{i}]", 0, n_out - 1)
    return labels
