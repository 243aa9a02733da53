"""Convert user input to NumPy arrays of finite real numbers.

Arrays that already fit are passed on without a copy, and no check allocates more than a block of
rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.sparse import Sparse
from ..files.disk import shown
from .refused import kind_of, refuse_others

Array = np.ndarray

_BLOCK = 1 << 18
"""Elements per block in the search for NaN: 2 MiB of float64, so that the block stays in the cache
between the passes for the minimum and the maximum."""


def as_array(value: Any, name: str) -> Array:
    """Return the NumPy array that ``value`` is or holds, without checking its elements.

    Raises
    ------
    TypeError
        If it has no conversion to an array, or its own conversion fails.
    ValueError
        If rows have different lengths, or cells are masked.
    """
    if type(value) is np.ndarray:
        return _of_numpy(value)
    value = collected(value)
    if isinstance(value, np.ndarray):
        mask = getattr(value, "mask", None)
        if mask is not None and np.any(mask):
            raise ValueError(
                f"{name}: found a masked array with {int(np.sum(mask))} masked cells, expected "
                f"none; fill them or drop their rows"
            )
        return _of_numpy(np.asarray(value))
    if is_sparse(value):
        dense = "toarray" if hasattr(value, "toarray") else "todense"
        raise TypeError(
            f"{name}: found a sparse matrix ({type(value).__name__}), expected a dense array; "
            f"use {name}.{dense}()"
        )
    refuse_others(value, name)
    try:
        a = _of_numpy(_converted(value))
    except MemoryError:
        raise
    except Exception as error:  # the code of other libraries raises many kinds
        if isinstance(error, ValueError) and isinstance(value, Sequence):
            raise ValueError(
                f"{name}: found rows of different lengths, expected a rectangular array"
            ) from None
        raise TypeError(
            f"{name}: found {kind_of(value)} whose conversion to an array fails "
            f"({shown(error)}), expected an array of numbers"
        ) from error
    # NumPy converts the numbers in a list of numbers and strings to strings.
    mixed = a.dtype.kind in "US" and isinstance(value, Sequence)
    return np.asarray(value, dtype=object) if mixed else a


def collected(value: Any) -> Any:
    """Return the data frame of a lazy one of polars, or any other value unchanged."""
    lazy = hasattr(value, "collect") and hasattr(value, "collect_schema")
    return value.collect() if lazy and not hasattr(value, "to_numpy") else value


def _converted(value: Any) -> Array:
    """Return the array of an object of another library, or of a sequence."""
    if hasattr(value, "to_numpy"):  # data frames and series of pandas, polars and others
        try:
            # Data frames are stored by column; gathering rows is several times as fast by row.
            return np.asarray(value.to_numpy(), order="C")
        except Exception:  # arrays of pyarrow refuse to copy there
            if not hasattr(value, "__array__"):
                raise
    elif hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def _of_numpy(a: Array) -> Array:
    """Return numbers of dtypes that other libraries define, such as bfloat16, as float32."""
    own = a.dtype.kind == "V" and a.dtype.names is None and a.dtype.subdtype is None
    if own and np.can_cast(a.dtype, np.float32):
        return a.astype(np.float32)
    return a


def is_missing(value: Any) -> bool:
    """Return whether an object stands for a missing value: None, NaN, NaT, NA or a null.

    A missing value does not equal itself, or its comparison has no truth value.
    """
    if value is None or getattr(value, "is_valid", None) is False:  # a null of pyarrow
        return True
    if isinstance(value, (str, bytes, list, tuple, np.ndarray)):
        return False
    try:
        return not bool(value == value)
    except Exception:
        return np.ndim(value) == 0


def is_sparse(value: object) -> bool:
    """Return whether an object is a sparse matrix of SciPy or of a similar library."""
    return hasattr(value, "nnz") and (hasattr(value, "toarray") or hasattr(value, "todense"))


def must_be_numbers(a: Array, name: str) -> None:
    """Raise TypeError unless the dtype is of booleans or real numbers."""
    if a.dtype.kind in "biuf":
        return
    raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")


def check_finite(
    a: Array,
    name: str,
    dtype: np.dtype[Any],
    matrix: Sparse | None = None,
    bounds: tuple[float, float] | None = None,
    remedy: str = "",
) -> None:
    """Raise if an element of ``a`` is NaN or infinite, would be infinite in ``dtype``, or is out of
    bounds.

    Minimum and maximum propagate NaN and need no temporary array. The first block of rows with a
    wrong value ends the search.

    Parameters
    ----------
    a
        Arrays of other dtypes than floats are not searched.
    name
        The name of the argument in errors.
    dtype
        Must be able to hold every element.
    matrix
        The sparse matrix whose stored values are ``a``, for the position in the error.
    bounds
        Least and largest permitted value. They cost no further pass.
    remedy
        Text for the error about a value out of bounds, after the position of the value.
    """
    if a.dtype.kind != "f" or a.size == 0:
        return
    limit = min(float(np.finfo(dtype).max), float(np.finfo(a.dtype).max))
    least, most = (-limit, limit) if bounds is None else bounds
    by_column = a.ndim == 2 and abs(a.strides[0]) < abs(a.strides[1])
    scan = a.T if by_column else a
    rows = max(1, _BLOCK // (scan.size // len(scan)))
    for start in range(0, len(scan), rows):
        block = scan[start : start + rows]
        low = float(np.minimum.reduce(block, axis=None))
        if low >= least and float(np.maximum.reduce(block, axis=None)) <= most:
            continue
        wrong = ~(np.abs(block) <= limit)
        if not wrong.any():
            wrong = (block < least) | (block > most)
        where = np.argwhere(wrong)[0]
        where[0] += start
        index = tuple(where[::-1].tolist() if by_column else where.tolist())
        expected = remedy
        if not math.isfinite(float(a[index])):
            expected = ", expected finite numbers"
        elif abs(a[index]) > limit:
            expected = f", expected numbers that {np.dtype(dtype).name} can hold"
        raise ValueError(
            f"{name}: found {a[index]} at {place(index, matrix)} (counted from 0){expected}"
        )


def first_above(a: Array, most: float) -> tuple[int, ...] | None:
    """Return the index of an element above ``most`` in the first block of rows that has one."""
    if a.size == 0:
        return None
    rows = max(1, _BLOCK // (a.size // len(a)))
    for start in range(0, len(a), rows):
        block = a[start : start + rows]
        if np.maximum.reduce(block, axis=None) > most:
            first, *others = np.unravel_index(int(np.argmax(block > most)), block.shape)
            return (start + int(first), *map(int, others))
    return None


def place(index: tuple[int, ...], matrix: Sparse | None) -> str:
    """Return row and column of an element, or of a stored value of a sparse matrix, as text."""
    if matrix is not None:
        row = int(np.searchsorted(matrix.indptr, index[0], side="right")) - 1
        index = row, int(matrix.indices[index[0]])
    return f"row {index[0]}" + (f", column {index[1]}" if len(index) > 1 else "")
