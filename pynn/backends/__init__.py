"""One contract with three implementations: Cython and C++, Numba, and the NumPy reference."""

from .choose import (
    available,
    capable,
    create,
    resolve,
)
from .contract import (
    BACKENDS,
    Engine,
    Trainer,
)

__all__ = [
    "BACKENDS",
    "Engine",
    "Trainer",
    "available",
    "capable",
    "create",
    "resolve",
]
