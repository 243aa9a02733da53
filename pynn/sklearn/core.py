"""One trained engine behind an estimator, and helpers for arrays."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.utils import compute_sample_weight
from threadpoolctl import threadpool_limits

from ..arrays.sparse import Sparse
from ..arrays.vectors import aligned
from ..backends import choose as backends_choose
from ..backends import contract
from ..spec.architecture import Architecture

Array = np.ndarray


class _Core(NamedTuple):
    """What computes for a fitted estimator: ``views`` of ``flat`` are its coefs_, intercepts_."""

    net: Architecture
    engine: contract.Engine
    flat: Array
    views: tuple[Array, ...]
    threads: int | None
    activation: Any  # the parameter as it was, which may be set to another


@functools.lru_cache(maxsize=64)
def _engine(net: Architecture, threads: int | None) -> contract.Engine:
    """The engine of one architecture, shared by all estimators that have it."""
    return backends_choose.capable(net, threads)


def _threads(threads: int | None) -> int | None:
    """One thread inside a parallel call of joblib, whose workers share out the processors."""
    if threads is None and (getattr(get_active_backend()[0], "nesting_level", 0) or 0) > 0:
        return 1
    return threads


class _OneBlasThread:
    """BLAS on one thread while at least one Python thread is within.

    SciPy's L-BFGS-B calls it for a few vectors between two gradients. Threads of OpenBLAS go on
    spinning for a tenth of a second after that, on the processors that the gradient needs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._limits = threadpool_limits(1, user_api="blas")
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._limits.restore_original_limits()
                self._limits = None


_ONE_BLAS_THREAD = _OneBlasThread()


# --- Small things -------------------------------------------------------------------------------


def _is(a: object, b: object) -> bool:
    return a is b


def _same(value: object, default: object) -> bool:
    return value is default or (np.isscalar(value) and value == default)


def _plain(estimator: Any, X: Array) -> bool:
    """Whether checking X would find nothing to do or say: finite, and no names of columns known."""
    return "feature_names_in_" not in estimator.__dict__ and bool(
        np.isfinite(np.add.reduce(X, axis=None))
    )


def _promoted(*arrays: Any) -> np.dtype:
    """What NumPy promotes a product of the arrays to, or what the core has in its place."""
    dtype = np.result_type(*arrays)
    if dtype in (np.float32, np.float64):
        return dtype
    return np.dtype(np.float32 if dtype == np.float16 else np.float64)


def _rows(X: Any, dtype: Any) -> Array | Sparse:
    """X as the core takes it, its numbers in ``dtype`` or in what they are."""
    if hasattr(X, "tocsr"):
        return Sparse.of(X)
    # Rows that lie together are gathered several times as fast as columns that do.
    return np.asarray(X, dtype=dtype, order="C")


def _weights(sample_weight: Array | None) -> Array | None:
    return None if sample_weight is None else np.ascontiguousarray(sample_weight, np.float64)


def _like(flat: Array, values: Any = 0) -> Array:
    """A vector on a cache line of its own, as long as ``flat`` and of its dtype."""
    out = aligned(len(flat), flat.dtype)
    out[...] = values
    return out


def _vector(net: Architecture, coefs: Sequence[Array], intercepts: Sequence[Array]) -> Array:
    flat = aligned(net.n_parameters, net.dtype)
    _fill(net, flat, coefs, intercepts)
    return flat


def _fill(
    net: Architecture, flat: Array, coefs: Sequence[Array], intercepts: Sequence[Array]
) -> None:
    weights, biases = net.views(flat)
    for view, values in zip((*weights, *biases), (*coefs, *intercepts), strict=True):
        view[...] = values


def _by_class(class_weight: Any, y: Any, sample_weight: Any, incremental: bool) -> Array:
    """Sample weights times those of the classes."""
    if incremental and isinstance(class_weight, str):
        raise ValueError(
            f"class_weight: found {class_weight!r} in partial_fit, which sees a part of the data, "
            "expected a dictionary from labels to weights"
        )
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.ravel()
    weights = compute_sample_weight(class_weight, labels)
    if not (weights >= 0).all():
        raise ValueError(
            f"class_weight: found {class_weight!r}, expected weights of 0 or more for all classes"
        )
    return weights if sample_weight is None else weights * np.asarray(sample_weight, np.float64)


def _loss(owner: Any, y: Array, out: Array, sample_weight: Array | None) -> float:
    """The loss of outputs as in loss_curve_, but for the L2 term."""
    name = owner.loss
    if name == "log_loss" and owner.out_activation_ == "logistic":
        name = "binary_log_loss"
    return float(LOSS_FUNCTIONS[name](y, out, sample_weight))
