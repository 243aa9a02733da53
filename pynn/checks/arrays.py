"""Convert user input to NumPy arrays of finite real numbers.

Arrays that already fit are passed on without a copy, and no check allocates more than a block of
rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays.sparse import Sparse
from .refused import refuse_others

Array = np.ndarray

_BLOCK = 1 << 18
"""Elements per block in the search for NaN: 2 MiB of float64, so that the block stays in the cache
between the passes for the minimum and the maximum."""


def as_array(value: Any, name: str) -> Array:
    """Return the NumPy array that ``value`` is or holds, without checking its elements."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray):
        mask = getattr(value, "mask", None)
        if mask is not None and np.any(mask):
            raise ValueError(
                f"{name}: found a masked array with {int(np.sum(mask))} masked cells, expected "
                f"none; fill them or drop their rows"
            )
        return np.asarray(value)
    if is_sparse(value):
        raise TypeError(
            f"{name}: found a sparse matrix ({type(value).__name__}), expected a dense array; "
            f"use {name}.toarray()"
        )
    if hasattr(value, "to_numpy") and not isinstance(
        value, type
    ):  # data frames and series of pandas, polars and similar libraries
        # Data frames are stored by column; gathering rows is several times as fast by row.
        return np.asarray(value.to_numpy(), order="C")
    refuse_others(value, name)
    try:
        a = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name}: found rows of different lengths, expected a rectangular array"
        ) from None
    # NumPy converts the numbers in a list of numbers and strings to strings.
    return np.asarray(value, dtype=object) if a.dtype.kind in "US" else a


def is_sparse(value: object) -> bool:
    return hasattr(value, "toarray") and hasattr(value, "nnz")


def must_be_numbers(a: Array, name: str) -> None:
    """Raise TypeError unless the dtype is of booleans or real numbers."""
    if a.dtype.kind in "biuf":
        return
    raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")


def check_finite(a: Array, name: str, dtype: np.dtype[Any], matrix: Sparse | None = None) -> None:
    """Raise if an element of ``a`` is NaN or infinite, or would be infinite in ``dtype``.

    Minimum and maximum propagate NaN and need no temporary array. ``matrix`` is the sparse matrix
    whose stored values are ``a``, for the position in the error.
    """
    if a.dtype.kind != "f" or a.size == 0:
        return
    limit = min(float(np.finfo(dtype).max), float(np.finfo(a.dtype).max))
    by_column = a.ndim == 2 and abs(a.strides[0]) < abs(a.strides[1])
    scan = a.T if by_column else a
    rows = max(1, _BLOCK // (scan.size // len(scan)))
    for start in range(0, len(scan), rows):
        block = scan[start : start + rows]
        low = float(np.minimum.reduce(block, axis=None))
        if low >= -limit and float(np.maximum.reduce(block, axis=None)) <= limit:
            continue
        where = np.argwhere(~(np.abs(block) <= limit))[0]
        where[0] += start
        index = tuple(where[::-1].tolist() if by_column else where.tolist())
        expected = "finite numbers"
        if math.isfinite(float(a[index])):
            expected = f"numbers that {np.dtype(dtype).name} can hold"
        raise ValueError(
            f"{name}: found {a[index]} at {_place(index, matrix)} (counted from 0), expected "
            f"{expected}"
        )


def _place(index: tuple[int, ...], matrix: Sparse | None) -> str:
    """Return row and column of an element, or of a stored value of a sparse matrix, as text."""
    if matrix is not None:
        row = int(np.searchsorted(matrix.indptr, index[0], side="right")) - 1
        index = row, int(matrix.indices[index[0]])
    return f"row {index[0]}" + (f", column {index[1]}" if len(index) > 1 else "")
