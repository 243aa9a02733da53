"""Aligned vectors, checks for NaN and infinity, and memory maps behind arrays."""

from __future__ import annotations

import math
import mmap
import sys
from typing import Any

import numpy as np

Array = np.ndarray


def finite(*vectors: Array) -> bool:
    """Return whether all numbers are finite. A finite sum shows it fastest; it may overflow."""
    with np.errstate(all="ignore"):
        for vector in vectors:
            # Minimum and maximum propagate NaN.
            if not math.isfinite(np.add.reduce(vector)) and not (
                math.isfinite(vector.min()) and math.isfinite(vector.max())
            ):
                return False
    return True


def finite_sum(values: Array) -> bool:
    """Return whether the sum is finite, as it is without NaN and infinity unless it overflows."""
    with np.errstate(all="ignore"):
        return math.isfinite(np.add.reduce(values, axis=None))


def aligned(n: int, dtype: Any) -> Array:
    """Return a vector of zeros, aligned to a 64-byte cache line."""
    itemsize = np.dtype(dtype).itemsize
    if n * itemsize > sys.maxsize - 64:
        raise MemoryError  # NumPy would raise a ValueError about dimensions
    raw = np.zeros(n * itemsize + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n * itemsize].view(dtype)


def cast(a: Array, dtype: Any, order: str = "K") -> Array:
    """Return numbers in another dtype, without a copy if they have it, whatever numpy.seterr says.

    After ``numpy.seterr(all="raise")`` a number that becomes 0 in float32 would raise.
    """
    with np.errstate(all="ignore"):
        return a.astype(dtype, order=order, copy=False)  # type: ignore[call-overload]


def native(a: Array) -> Array:
    """Return an array as the compiled core can read it: aligned and in native byte order.

    The format of a buffer names the byte order if the dtype does, as in arrays of h5py, also if it
    is the native one.
    """
    if not (a.dtype.isnative and a.flags.aligned):
        return a.astype(a.dtype.newbyteorder("="))
    return a if a.dtype.byteorder in "=|" else a.view(a.dtype.newbyteorder("="))


def mapped_file(array: Array) -> mmap.mmap | None:
    """Return the memory-mapped file that an array is a view of, or None."""
    base: object = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None
