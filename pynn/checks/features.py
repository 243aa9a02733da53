"""From what a user gives as x and y to what the contract of ``backends`` wants, or one clear error.

Arrays that fit already are passed on as they are: nothing is copied that need not be, and no check
allocates more than a block of rows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays.sparse import Sparse
from ..spec.architecture import Architecture

Array = np.ndarray

_BLOCK = 1 << 18
"""Elements looked at together when searching for NaN: they stay in the cache between two passes."""


def as_array(value: Any, name: str) -> Array:
    """Return the NumPy array that ``value`` is or holds, without looking at its numbers."""
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
    if _is_sparse(value):
        raise TypeError(
            f"{name}: found a sparse matrix ({type(value).__name__}), expected a dense array; "
            f"use {name}.toarray()"
        )
    if hasattr(value, "to_numpy"):  # frames and series of pandas, polars and their kin
        # Frames keep columns together, and rows are gathered several times as fast from rows.
        return np.asarray(value.to_numpy(), order="C")
    if isinstance(value, (str, bytes, dict, set, frozenset)) or value is None:
        raise TypeError(f"{name}: found {_kind_of(value)}, expected an array of numbers")
    try:
        a = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name}: found rows of different lengths, expected a rectangular array"
        ) from None
    # NumPy makes text of the numbers in a list that holds both.
    return np.asarray(value, dtype=object) if a.dtype.kind in "US" else a


def _kind_of(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _must_be_numbers(a: Array, name: str) -> None:
    kind = a.dtype.kind
    if kind in "biuf":
        return
    if kind == "O":
        first = f" ({type(a.flat[0]).__name__})" if a.size else ""
        raise TypeError(
            f"{name}: found an array of Python objects{first}, expected numbers; if all of them "
            f"are, use {name}.astype('float32')"
        )
    raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")


def check_finite(a: Array, name: str, dtype: np.dtype[Any], matrix: Sparse | None = None) -> None:
    """Raise if an element of ``a`` is NaN or infinite, or would be in ``dtype``.

    Minimum and maximum carry NaN along and need no temporary array. ``matrix`` is that of which
    ``a`` are the values.
    """
    if a.dtype.kind != "f" or a.size == 0:
        return
    limit = min(float(np.finfo(dtype).max), float(np.finfo(a.dtype).max))
    across = a.ndim == 2 and abs(a.strides[0]) < abs(a.strides[1])
    scan = a.T if across else a
    rows = max(1, _BLOCK // (scan.size // len(scan)))
    for start in range(0, len(scan), rows):
        block = scan[start : start + rows]
        low = float(np.minimum.reduce(block, axis=None))
        if low >= -limit and float(np.maximum.reduce(block, axis=None)) <= limit:
            continue
        where = np.argwhere(~(np.abs(block) <= limit))[0]
        where[0] += start
        place = shown = tuple(where[::-1].tolist() if across else where.tolist())
        if matrix is not None:
            row = int(np.searchsorted(matrix.indptr, place[0], side="right")) - 1
            shown = row, int(matrix.indices[place[0]])
        at = f"row {shown[0]}" + (f", column {shown[1]}" if len(shown) > 1 else "")
        expected = "finite numbers"
        if math.isfinite(float(a[place])):
            expected = f"numbers that {np.dtype(dtype).name} can hold"
        raise ValueError(f"{name}: found {a[place]} at {at} (counted from 0), expected {expected}")


def _is_sparse(value: object) -> bool:
    return hasattr(value, "toarray") and hasattr(value, "nnz")


def _without_nullable(value: Any) -> Any:
    """Return a frame of pandas with nullable columns of numbers as float64, NaN where one misses.

    Of itself such a frame becomes an array of Python objects. Anything else is returned as it is.
    """
    if not hasattr(value, "to_numpy") or getattr(value, "ndim", 0) != 2:
        return value
    dtypes = list(getattr(value, "dtypes", ()))
    if all(isinstance(d, np.dtype) for d in dtypes):
        return value
    if not all(getattr(d, "kind", "O") in "biuf" for d in dtypes):
        return value
    return np.asarray(value.to_numpy(dtype=np.float64, na_value=np.nan), order="C")


def features(x: Any, net: Architecture, name: str = "x") -> Array | Sparse:
    """Return x as a uint8, float32 or float64 array (n, n_in), n ≥ 1, or as compressed rows.

    Those three dtypes are passed on without a copy, whatever their strides; other numbers are
    converted to the network's dtype. SciPy's sparse matrices stay sparse, as float32 or float64.

    Raises
    ------
    TypeError
        If x is not an array of real numbers.
    ValueError
        If its shape does not fit, or it is empty, masked, or holds NaN or infinity.
    """
    if _is_sparse(x):
        return _compressed_rows(x, net, name)
    a = as_array(_without_nullable(x), name)
    n_in = net.sizes[0]
    if a.ndim < 2:
        hint = ""
        if a.ndim == 1 and n_in == 1:
            hint = f"; for one column write {name}[:, None]"
        elif a.ndim == 1 and len(a) == n_in:
            hint = f"; for one row write {name}[None, :]"
        if a.dtype.kind == "O":
            _must_be_numbers(a, name)
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows, {n_in}){hint}")
    if a.shape[0] == 0:
        raise ValueError(f"{name}: found no rows (shape {a.shape}), expected at least one")
    width = a.shape[1] if a.ndim == 2 else math.prod(a.shape[1:])
    if width != n_in:
        hint = f"; for one row write {name}[None]" if a.size == n_in else ""
        raise ValueError(
            f"{name}: found {width} values in a row (shape {a.shape}), expected {n_in}{hint}"
        )
    _must_be_numbers(a, name)
    if a.ndim != 2:
        a = a.reshape(len(a), n_in)
    if a.dtype == np.uint8:
        return a
    if a.dtype.char in "fd":
        if not (a.dtype.isnative and a.flags.aligned):
            a = a.astype(a.dtype.newbyteorder("="))
        check_finite(a, name, np.dtype(net.dtype))
        return a
    check_finite(a, name, np.dtype(net.dtype))
    return a.astype(net.dtype)


def _compressed_rows(x: Any, net: Architecture, name: str) -> Sparse:
    if len(x.shape) != 2 or x.shape[1] != net.sizes[0]:
        raise ValueError(f"{name}: found shape {x.shape}, expected (rows, {net.sizes[0]})")
    if x.shape[0] == 0:
        raise ValueError(f"{name}: found no rows (shape {x.shape}), expected at least one")
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: found a sparse matrix of {x.dtype}, expected numbers")
    found = Sparse.of(x, name)
    check_finite(found.data, name, np.dtype(net.dtype), found)
    if x.dtype.char in "fd":
        return found
    data = found.data.astype(net.dtype)
    if x.dtype == np.uint8:
        data *= data.dtype.type(1 / 255)
    return replace(found, data=data)
