"""Convert x to the arrays that the backends accept, or raise one clear error."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays.sparse import Sparse
from ..spec.architecture import Architecture
from .arrays import check_finite, is_sparse
from .convert import as_numbers

Array = np.ndarray


def features(x: Any, net: Architecture, name: str = "x") -> Array | Sparse:
    """Return x as a uint8, float32 or float64 array (n, n_in), n ≥ 1, or as compressed rows.

    Arrays of these three dtypes are passed on without a copy, with any strides; other numbers are
    converted to the network's dtype. SciPy's sparse matrices stay sparse, as float32 or float64.

    Raises
    ------
    TypeError
        If x is not an array of real numbers.
    ValueError
        If its shape does not fit, or it is empty, masked, or holds NaN or infinity.
    """
    if is_sparse(x):
        return _compressed_rows(x, net, name)
    a = as_numbers(x, name)
    _check_shape(a, net.n_in, name)
    if a.ndim != 2:
        a = a.reshape(len(a), net.n_in)
    if a.dtype == np.uint8:
        return a
    if a.dtype.char in "fd":
        if not (a.dtype.isnative and a.flags.aligned):
            a = a.astype(a.dtype.newbyteorder("="))
        check_finite(a, name, np.dtype(net.dtype))
        return a
    check_finite(a, name, np.dtype(net.dtype))
    with np.errstate(all="ignore"):  # after numpy.seterr a number that becomes 0 would raise
        return a.astype(net.dtype)


def _check_shape(a: Array, n_in: int, name: str) -> None:
    """Raise unless an array has rows of n_in values, which may be of any shape, such as images."""
    if a.ndim < 2:
        hint = ""
        if a.ndim == 1 and n_in == 1:
            hint = f"; for one column write {name}[:, None]"
        elif a.ndim == 1 and len(a) == n_in:
            hint = f"; for one row write {name}[None, :]"
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows, {n_in}){hint}")
    if a.shape[0] == 0:
        raise ValueError(f"{name}: found no rows (shape {a.shape}), expected at least one")
    width = math.prod(a.shape[1:])
    if width != n_in:
        hint = f"; for one row write {name}[None]" if a.size == n_in else ""
        raise ValueError(
            f"{name}: found {width} values in a row (shape {a.shape}), expected {n_in}{hint}"
        )


def _compressed_rows(x: Any, net: Architecture, name: str) -> Sparse:
    if len(x.shape) != 2 or x.shape[1] != net.n_in:
        raise ValueError(f"{name}: found shape {x.shape}, expected (rows, {net.n_in})")
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
