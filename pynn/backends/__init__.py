"""One contract with three implementations: Cython and C++, Numba, and the NumPy reference."""

from .choose import (
    available,
    capable,
    create,
    resolve,
)

__all__ = [
    "available",
    "capable",
    "create",
    "resolve",
]
