"""Aligned vectors, and whether they are finite."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

Array = np.ndarray


def finite(*vectors: Array) -> bool:
    """Whether every number is. A sum says so sooner, unless it is too large itself."""
    with np.errstate(all="ignore"):
        for vector in vectors:
            # NaN passes through minimum and maximum.
            if not math.isfinite(np.add.reduce(vector)) and not (
                math.isfinite(vector.min()) and math.isfinite(vector.max())
            ):
                return False
    return True


def aligned(n: int, dtype: Any) -> Array:
    """Return a vector of zeros that starts on a cache line."""
    itemsize = np.dtype(dtype).itemsize
    if n * itemsize > sys.maxsize - 64:
        raise MemoryError  # NumPy speaks of dimensions
    raw = np.zeros(n * itemsize + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n * itemsize].view(dtype)
