"""The engine of a fitted estimator, its thread limit, and the arrays passed to it."""

from __future__ import annotations

import copy
import functools
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.exceptions import DataConversionWarning
from sklearn.neural_network import _multilayer_perceptron as sklearn_mlp
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import column_or_1d
from threadpoolctl import threadpool_limits

from ..arrays.sparse import Sparse
from ..arrays.vectors import aligned, cast, native
from ..backends import choose, contract
from ..spec.architecture import Architecture
from ..spec.caller import warn_caller
from ..spec.optimizers import ALL_OPTIMIZERS
from ..training.history import History
from .tasks import Iterations

Array = np.ndarray


class Core(NamedTuple):
    """The engine of a fitted estimator and the vector that holds its parameters.

    ``views`` are the arrays of ``coefs_`` and ``intercepts_``, views of ``flat``. ``threads`` and
    ``activation`` are the estimator's parameters when the core was made, to notice changes.
    """

    net: Architecture
    engine: contract.Engine
    flat: Array  # (n_parameters,)
    views: tuple[Array, ...]
    threads: int | None
    activation: Any

    def set_writeable(self, writeable: bool) -> None:
        """Make the views for users writeable or read-only."""
        for view in self.views:
            view.flags.writeable = writeable


@functools.lru_cache(maxsize=64)
def engine_of(net: Architecture, threads: int | None) -> contract.Engine:
    """Return the engine of an architecture, shared by all estimators that have it."""
    return choose.capable(net, threads)


def thread_limit(threads: int | None) -> int | None:
    """Return the parameter ``threads``, or 1 for None in a parallel call of joblib.

    joblib's workers already use all processors.
    """
    if threads is None and (getattr(get_active_backend()[0], "nesting_level", 0) or 0) > 0:
        return 1
    return threads


class _OneBlasThread:
    """Limits BLAS to one thread while at least one Python thread is in ``call``.

    SciPy's L-BFGS-B calls BLAS for a few vectors between two gradients. OpenBLAS's threads then
    spin for about 0.1 s on processors that the gradient needs.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._calls: list[threading.Lock] = []  # of each call, held while it runs
        self._limits: Any = None

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function with one BLAS thread."""
        own = threading.Lock()
        try:
            try:
                # The interpreter handles no signal between entering or leaving ``with`` a lock and
                # the block: after an interrupt the lock may be listed, but is not held.
                with own:
                    self._limit(own)
                    function(*arguments)
            finally:
                self._release(own)
        except BaseException:
            self._release(own)  # the first call may have been interrupted
            raise

    def _limit(self, own: threading.Lock) -> None:
        with self._lock:
            self._calls.append(own)
            if self._limits is None:
                self._limits = threadpool_limits(1, user_api="blas")

    def _release(self, own: threading.Lock) -> None:
        """End a call; restore the limits after the last one. Calling it again changes nothing."""
        with self._lock:
            self._calls = [lock for lock in self._calls if lock is not own and lock.locked()]
            if not self._calls and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


ONE_BLAS_THREAD = _OneBlasThread()


# --- Warnings -----------------------------------------------------------------------------------


_NOT_CALLERS = "pynn", "sklearn", "joblib"


def warn(message: str, category: type[Warning] = UserWarning, **_: Any) -> None:
    """Warn at the line of the program that called pynn, also through scikit-learn's tools."""
    warn_caller(message, category, _NOT_CALLERS)


def with_globals(function: Callable[..., Any], **variables: Any) -> Callable[..., Any]:
    """Return a copy of a function that finds other values of some global variables.

    This changes a step within one of scikit-learn's functions without changing its module, and so
    without an effect on its own classes or on other threads.
    """
    code: Any = function
    return types.FunctionType(
        code.__code__,
        {**code.__globals__, **variables},
        code.__name__,
        code.__defaults__,
        code.__closure__,
    )


def lbfgs_of_scikit_learn(iterations: Iterations) -> Callable[..., None]:
    """Return scikit-learn's ``_fit_lbfgs``, with warnings that point to the caller's line.

    It tells callbacks of ``iterations``.
    """
    fit: Any = sklearn_mlp.BaseMultilayerPerceptron._fit_lbfgs
    check = with_globals(
        sklearn_mlp._check_optimize_result, warnings=types.SimpleNamespace(warn=warn)
    )
    return with_globals(fit, **iterations.globals_for_fit(check))


# --- Arrays -------------------------------------------------------------------------------------


def promoted(*arrays: Any) -> np.dtype:
    """Return the dtype of a product of the arrays in NumPy, or the nearest one the core supports.

    float16 gives float32; every other dtype but float32 gives float64.
    """
    dtype = np.result_type(*arrays)
    if dtype in (np.float32, np.float64):
        return dtype
    return np.dtype(np.float32 if dtype == np.float16 else np.float64)


def as_rows(X: Any, dtype: Any) -> Array | Sparse:
    """Return X as the core's input: sparse with its own dtype, or dense with ``dtype``."""
    if hasattr(X, "tocsr"):
        return Sparse.of(X)
    # Rows of a C-ordered array are gathered several times faster than those of a Fortran-ordered.
    return native(cast(np.asarray(X), dtype, "C"))


def fit_into(dtype: Any, X: Any) -> bool:
    """Return whether the numbers in X, an array or sparse matrix, are finite in ``dtype``.

    Those of an X of this dtype are known to be. Minimum and maximum propagate NaN and need no
    temporary array.
    """
    if X.dtype.kind in "biu" or X.dtype == dtype:
        return True
    values = X.data if hasattr(X, "tocsr") else X
    limit = np.finfo(dtype).max
    low = np.minimum.reduce(values, axis=None, initial=0)
    return bool(low >= -limit and np.maximum.reduce(values, axis=None, initial=0) <= limit)


def as_weights(sample_weight: Array | None) -> Array | None:
    """Return sample weights as the core's input, float64."""
    return None if sample_weight is None else np.ascontiguousarray(sample_weight, np.float64)


def aligned_like(flat: Array, values: Any = 0) -> Array:
    """Return a new vector of the shape and dtype of ``flat``, aligned to a cache line."""
    out = aligned(len(flat), flat.dtype)
    out[...] = values
    return out


def aligned_copy(values: Array) -> Array:
    """Return a copy of a vector, aligned to a cache line and in the machine's byte order."""
    out = aligned(len(values), values.dtype.newbyteorder("="))
    out[...] = values
    return out


def own_state(state: dict[str, Any]) -> None:
    """Copy the attributes of an estimator that training changes in place.

    The optimizer state of a pickle can be read-only or unaligned, or in a file or buffer that
    others use; ``copy.copy`` shares the lists.
    """
    for name in ("loss_curve_", "validation_scores_", "validation_loss_curve_"):
        if isinstance(state.get(name), list):
            state[name] = state[name].copy()
    if "history_" in state:
        state["history_"] = state["history_"][:]
    if "_optimizer" in state:
        state["_optimizer"] = copy.copy(state["_optimizer"])
    if "_slots" in state:
        state["_slots"] = [aligned_copy(slot) for slot in state["_slots"]]


def plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an estimator with plain values instead of pynn's small objects.

    Readers of files that ask which types they may trust, such as skops, then find the class of the
    estimator alone.
    """
    state = dict(state)
    history, rule, optimizer = (state.get(n) for n in ("history_", "_update_rule", "_optimizer"))
    if isinstance(history, History):
        state["history_"] = {"records": history.to_dict(), "restored": history.restored_epoch}
    if rule is not None:
        state["_update_rule"] = [rule.name, asdict(rule)]
    if isinstance(optimizer, (AdamOptimizer, SGDOptimizer)):
        state["_optimizer"] = [type(optimizer).__name__, dict(vars(optimizer))]
    return state


def state_from_plain(state: dict[str, Any]) -> dict[str, Any]:
    """Undo ``plain_state``; states of earlier versions have the objects themselves."""
    state = dict(state)
    history, rule, optimizer = (state.get(n) for n in ("history_", "_update_rule", "_optimizer"))
    if isinstance(history, dict):
        state["history_"] = found = History.from_dict(history["records"])
        found.restored_epoch = history["restored"]
    if isinstance(rule, list):
        state["_update_rule"] = ALL_OPTIMIZERS[rule[0]](**rule[1])
    if isinstance(optimizer, list):
        kind: Any = {"AdamOptimizer": AdamOptimizer, "SGDOptimizer": SGDOptimizer}[optimizer[0]]
        state["_optimizer"] = made = kind.__new__(kind)
        vars(made).update(optimizer[1])
    return state


def flat_parameters(
    net: Architecture, coefs: Sequence[Array], intercepts: Sequence[Array]
) -> Array:
    """Return a new parameter vector with these coefficients and intercepts."""
    flat = aligned(net.n_parameters, net.dtype)
    fill(net, flat, coefs, intercepts)
    return flat


def fill(
    net: Architecture, flat: Array, coefs: Sequence[Array], intercepts: Sequence[Array]
) -> None:
    """Copy coefficients and intercepts into a parameter vector."""
    weights, biases = net.views(flat)
    for view, values in zip((*weights, *biases), (*coefs, *intercepts), strict=True):
        view[...] = cast(np.asarray(values), view.dtype)


def cast_rows(X: Any, dtype: Any) -> Any:
    """Return X, an array or sparse matrix, in another dtype, whatever numpy.seterr says."""
    with np.errstate(all="ignore"):
        return X.astype(dtype, copy=False)


def as_vector(y: Any, **options: Any) -> Array:
    """Return a column of y as scikit-learn's ``column_or_1d``, but warn at the caller's line."""
    if options.pop("warn", False) and len(np.shape(y)) == 2:
        warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of "
            "y to (n_samples, ), for example using ravel().",
            DataConversionWarning,
        )
    return column_or_1d(y, **options)
