"""scikit-learn's multilayer perceptrons, trained by pynn's compiled core.

``from pynn.sklearn import MLPClassifier, MLPRegressor`` takes the place of ``from
sklearn.neural_network import …``: the same parameters, attributes, errors, warnings and numbers
(for the same ``random_state``), sooner, and some parameters more. The classes are subclasses of
scikit-learn's: checking of input, labels, random draws and the rules of stopping are those of the
scikit-learn that is installed; the passes, the updates and predictions are pynn's.

:func:`patch` puts them in the place of scikit-learn's for a whole program, and so does
``python -m pynn.sklearn script.py`` for a script that stays as it is.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import sklearn.neural_network
from joblib.parallel import get_active_backend
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import _multilayer_perceptron as theirs
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from threadpoolctl import threadpool_limits

from . import backends, initialise, training
from .backends import Sparse
from .callbacks import Callback, EarlyStopping, as_callbacks, check_monitors, stops
from .checks import MOST_THREADS
from .history import History, Record
from .network import aligned
from .progress import reporter
from .spec import (
    ACTIVATIONS,
    INITIALISERS,
    SCHEDULES,
    SGD,
    AdamHat,
    AdamW,
    Architecture,
    Momentum,
    Nesterov,
    Optimizer,
    Schedule,
    choose,
)

__all__ = ["MLPClassifier", "MLPRegressor", "patch", "unpatch"]

Array = np.ndarray

_ACTIVATIONS = {"logistic", *ACTIVATIONS}
_MORE_CONSTRAINTS: dict[str, Any] = {
    "activation": [StrOptions(_ACTIVATIONS), "array-like"],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "init": [StrOptions(set(INITIALISERS)), "array-like", None],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "schedule": [StrOptions(set(SCHEDULES)), Schedule, callable, None],
    "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
    "threads": [Interval(Integral, 1, MOST_THREADS, closed="both"), None],
    "callbacks": [callable, list, tuple, Callback, None],
    "progress": ["boolean", StrOptions({"auto"}), callable],
}


class _Core(NamedTuple):
    """What computes for a fitted estimator: ``views`` of ``flat`` are its coefs_, intercepts_."""

    net: Architecture
    engine: backends.Engine
    flat: Array
    views: tuple[Array, ...]
    threads: int | None
    activation: Any  # the parameter as it was, which may be set to another


@functools.lru_cache(maxsize=64)
def _engine(net: Architecture, threads: int | None) -> backends.Engine:
    """The engine of one architecture, shared by all estimators that have it."""
    return backends.capable(net, threads)


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


class _Perceptron(theirs.BaseMultilayerPerceptron):  # type: ignore[misc]
    """What the two estimators share; it comes before scikit-learn's class in the order of bases."""

    coefs_: list[Array]
    intercepts_: list[Array]

    # --- Parameters -----------------------------------------------------------------------------

    def _activations(self, hidden: int) -> list[str]:
        """pynn's names of the hidden layers' activations."""
        given: Any = self.activation
        names = [given] * hidden if isinstance(given, str) else list(given)
        if len(names) != hidden:
            raise ValueError(
                f"activation: found {len(names)} names, expected one, or a list of {hidden}, "
                "one for each hidden layer"
            )
        return [
            "sigmoid" if choose("activation", name, sorted(_ACTIVATIONS)) == "logistic" else name
            for name in names
        ]

    def _architecture(self, coefs: Sequence[Array], dtype: Any) -> Architecture:
        sizes = [coefs[0].shape[0], *(w.shape[1] for w in coefs)]
        rates: Any = self.dropout
        loss = {
            "softmax": "cross_entropy",
            "logistic": "binary_cross_entropy",
            "identity": "mse",
            "exp": "poisson",
        }[self.out_activation_]
        names = self._activations(len(sizes) - 2)
        return Architecture.build(sizes, names, None, loss, rates, dtype)

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
        layer = len(self.coefs_)
        n_hidden = self.n_layers_ - 2
        names = self._activations(n_hidden)
        init: Any = self.init
        if init is not None and not isinstance(init, str) and len(init) != n_hidden + 1:
            raise ValueError(
                f"init: found {len(init)} names, expected one or {n_hidden + 1}, one for each layer"
            )
        name = init if init is None or isinstance(init, str) else init[layer]
        draw = self._random_state
        if name is None:
            # As scikit-learn draws, where one activation holds for all layers.
            sigmoid = "sigmoid" in (names[layer : layer + 1] or names[-1:])
            bound = np.sqrt((2.0 if sigmoid else 6.0) / (fan_in + fan_out))
            w = draw.uniform(-bound, bound, (fan_in, fan_out))
            b = draw.uniform(-bound, bound, fan_out)
        else:
            w, b = initialise.draw(choose("init", name, INITIALISERS), fan_in, fan_out, draw)
        return w.astype(dtype, copy=False), b.astype(dtype, copy=False)

    # --- The parameters of the network ----------------------------------------------------------

    def _adopt(self) -> _Core:
        """Make coefs_ and intercepts_ views of one vector, the one that the core works on."""
        coefs, intercepts = self.coefs_, self.intercepts_
        net = self._architecture(coefs, _promoted(*coefs, *intercepts))
        flat = _vector(net, coefs, intercepts)
        weights, biases = net.views(flat)
        if self.__dict__.get("_best_coefs") is coefs:
            # scikit-learn goes on training its best arrays in place: a warm start ends with them.
            self._best_coefs, self._best_intercepts = weights, biases
        self.coefs_, self.intercepts_ = weights, biases
        threads = _threads(self.threads)
        views = (*weights, *biases)
        self._core = _Core(net, _engine(net, threads), flat, views, threads, self.activation)
        return self._core

    def _current(self) -> _Core | None:
        """The core, if coefs_ and intercepts_ are still what it works on."""
        core: _Core | None = self.__dict__.get("_core")
        if core is None or core.activation is not self.activation:
            return None
        mine = (*self.coefs_, *self.intercepts_)
        same = len(mine) == len(core.views) and all(map(_is, mine, core.views))
        return core if same else None

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_core"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "coefs_" in state:
            # Parameters that fit no longer are for the next call to complain about.
            with contextlib.suppress(AttributeError, ValueError):
                self._adopt()

    @property
    def parameters(self) -> Array:
        """All coefficients and intercepts in one vector, layer by layer; setting it copies."""
        if "coefs_" not in self.__dict__:
            raise AttributeError("parameters: found an estimator that is not fitted")
        return (self._current() or self._adopt()).flat

    @parameters.setter
    def parameters(self, values: Array) -> None:
        self.parameters[...] = values

    # --- Prediction -----------------------------------------------------------------------------

    def _outputs(self, X: Any, check_input: bool = True) -> Array:
        """The last layer's outputs (n, n_outputs)."""
        core = self._current()
        if (
            core is not None
            and type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype == core.flat.dtype
            and X.shape[1] == core.net.n_in
            and len(X)
            and (not check_input or _plain(self, X))
        ):
            return core.engine.forward(core.flat, X)
        if check_input:
            check_is_fitted(self)
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        # Whole numbers are values here, never pixels.
        dtype = _promoted(X.dtype, *self.coefs_, *self.intercepts_)
        if core is not None and dtype == core.flat.dtype:
            return core.engine.forward(core.flat, _rows(X, dtype))
        net = self._architecture(self.coefs_, dtype)
        threads = _threads(self.threads)
        flat = _vector(net, self.coefs_, self.intercepts_)
        return _engine(net, threads).forward(flat, _rows(X, dtype))

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Array:
        return self._outputs(X, check_input)

    # --- Training -------------------------------------------------------------------------------

    def _fit(
        self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False
    ) -> _Perceptron:
        dtype: Any = self.dtype
        if dtype is not None:
            choose("dtype", np.dtype(dtype).name, ("float32", "float64"))
        class_weight = getattr(self, "class_weight", None)
        if class_weight is not None:
            sample_weight = _by_class(class_weight, y, sample_weight, incremental)
        if self.solver == "lbfgs":
            self._refuse_with_lbfgs()
        return super()._fit(X, y, sample_weight=sample_weight, incremental=incremental)

    def _refuse_with_lbfgs(self) -> None:
        defaults = {
            "dropout": 0.0,
            "weight_decay": 0.0,
            "schedule": None,
            "callbacks": None,
            "progress": False,
        }
        for name, default in defaults.items():
            value = getattr(self, name)
            if not _same(value, default):
                raise ValueError(
                    f"{name}: found {value!r} with solver='lbfgs', expected {default!r}, or "
                    "solver='adam' or 'sgd'"
                )
        if self.__dict__.get("_validation") is not None:
            raise ValueError(
                "validation_data: found with solver='lbfgs', expected solver='adam' or 'sgd'"
            )

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = super()._validate_input(X, y, incremental, reset)
        dtype: Any = self.dtype
        return (X if dtype is None else X.astype(dtype, copy=False)), y

    def _initialize(self, y: Array, layer_units: list[int], dtype: Any) -> None:
        self._epochs = 0
        self.history_ = History()
        self.validation_loss_curve_: list[float] | None = None
        super()._initialize(y, layer_units, dtype)

    def _has_no_loss(self, y: Array) -> bool:
        """Whether scikit-learn's loss of these targets is NaN, while their gradient is not."""
        return self.out_activation_ == "exp" and bool((y < 0).any())

    def _targets(self, y: Array, dtype: Any) -> Array:
        """y (n, n_outputs) as the core wants it: numbers of classes, or values."""
        if self.out_activation_ == "softmax":
            return y.argmax(axis=1).astype(np.int32)
        return np.ascontiguousarray(y, dtype=dtype)

    def _fit_lbfgs(self, X: Any, y: Array, sample_weight: Array | None, *buffers: Any) -> None:
        self._objective = self._plan_objective(X, y, sample_weight)
        try:
            with _ONE_BLAS_THREAD:
                super()._fit_lbfgs(X, y, sample_weight, *buffers)
        finally:
            del self._objective
            self._adopt()

    def _plan_objective(
        self, X: Any, y: Array, sample_weight: Array | None
    ) -> Callable[[Array], tuple[float, Array]]:
        """Loss and gradient of parameters in scikit-learn's order: all coefs_, all intercepts_."""
        # SciPy's L-BFGS-B keeps its vectors in float64, whatever the data are, and a line search
        # wants exact losses.
        net = self._architecture(self.coefs_, np.float64)
        objective = _engine(net, _threads(self.threads)).objective(
            _rows(X, X.dtype),
            self._targets(y, np.float64),
            l2=self.alpha,
            sample_weight=_weights(sample_weight),
            convention="sklearn",
        )
        flat, no_loss = np.zeros(net.n_parameters), self._has_no_loss(y)

        def loss_and_gradient(packed: Array) -> tuple[float, Array]:
            self._unpack(packed)
            _fill(net, flat, self.coefs_, self.intercepts_)
            loss, gradient = objective(flat)
            dweights, dbiases = net.views(gradient)
            if no_loss:
                loss = np.nan
            return loss, np.concatenate([g.ravel() for g in (*dweights, *dbiases)])

        return loss_and_gradient

    def _loss_grad_lbfgs(
        self, packed: Array, X: Any, y: Array, sample_weight: Array | None, *buffers: Any
    ) -> tuple[float, Array]:
        objective = self.__dict__.get("_objective") or self._plan_objective(X, y, sample_weight)
        return objective(packed)

    def _rule(self) -> Optimizer:
        """The optimizer, in pynn's terms."""
        decay: float = self.weight_decay
        if self.solver == "adam":
            settings = self.beta_1, self.beta_2, self.epsilon
            return AdamW(*settings, decay) if decay else AdamHat(*settings)
        if decay:
            raise ValueError(
                f"weight_decay: found {decay!r} with solver='sgd', expected 0, or solver='adam'; "
                "alpha is the L2 term"
            )
        momentum: float = self.momentum
        if momentum == 0:
            return SGD()
        return (Nesterov if self.nesterovs_momentum else Momentum)(momentum)

    def _set_up_optimizer(self, core: _Core) -> None:
        # Their objects, without parameters, for the learning rate and its rules.
        if self.solver == "sgd":
            self._optimizer: Any = SGDOptimizer(
                [],
                self.learning_rate_init,
                self.learning_rate,
                self.momentum,
                self.nesterovs_momentum,
                self.power_t,
            )
        else:
            self._optimizer = AdamOptimizer([], self.learning_rate_init)
        self._update_rule = self._rule()
        self._slots = [_like(core.flat) for _ in range(self._update_rule.slots)]
        self._updates = 0

    def _fit_stochastic(self, X: Any, y: Array, sample_weight: Array | None, *rest: Any) -> None:
        incremental: bool = rest[-1]
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        core = self._current()
        if (
            core is None
            or core.net != self._architecture(self.coefs_, core.net.dtype)
            or core.threads != _threads(self.threads)
        ):
            core = self._adopt()
        slots: list[Array] = self.__dict__.get("_slots", [])
        fits = all(s.shape == core.flat.shape for s in slots)
        if not (incremental and hasattr(self, "_optimizer") and fits):
            self._set_up_optimizer(core)
        elif any(s.dtype != core.flat.dtype or not s.flags.writeable for s in slots):
            # coefs_ were set by hand, or the estimator read from a file that is mapped.
            self._slots = [_like(core.flat, s) for s in slots]
        if "_epochs" not in self.__dict__:  # coefs_ were set by hand
            self._epochs, self.history_, self.validation_loss_curve_ = 0, History(), None
        held = self._hold_out(X, y, sample_weight)
        X, y, sample_weight = held.training
        run = _Run(self, core, X, y, _weights(sample_weight), held)
        try:
            run.epochs(1 if incremental else self.max_iter, incremental)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        finally:
            run.end()
        if self.early_stopping:
            self.coefs_ = self._best_coefs
            self.intercepts_ = self._best_intercepts
            self._adopt()
        run.after()

    def _hold_out(self, X: Any, y: Array, sample_weight: Array | None) -> _Held:
        """Part the rows into those to train on and those to validate on, as scikit-learn draws."""
        if self.__dict__.get("_validation") is not None:
            return _Held((X, y, sample_weight), *self._given_validation(X.dtype))
        if not self.early_stopping:
            return _Held((X, y, sample_weight), None, None, None)
        classifies = isinstance(self, MLPClassifier)
        parts = train_test_split(
            *((X, y) if sample_weight is None else (X, y, sample_weight)),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if classifies and self.n_outputs_ == 1 else None,
        )
        x_train, x_held, y_train, y_held = parts[:4]
        w_train, w_held = parts[4:] or (None, None)
        if x_held.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        return _Held((x_train, y_train, w_train), x_held, y_held, w_held)

    def _given_validation(self, dtype: Any) -> tuple[Any, Array, None]:
        given = self._validation
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ValueError(
                f"validation_data: found a {type(given).__name__}, expected a pair (X, y)"
            )
        X, y = validate_data(
            self,
            *given,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=isinstance(self, MLPRegressor),
            dtype=(np.float64, np.float32),
            reset=False,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if isinstance(self, MLPClassifier):
            y = self._binarize(y)
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"validation_data: found {y.shape[1]} columns of y, expected {self.n_outputs_}"
            )
        return X.astype(dtype, copy=False), y, None

    def _fit_with(self, validation_data: Any, fit: Callable[[], Any]) -> Any:
        """Call scikit-learn's fit with validation data in reach."""
        self._validation = validation_data
        try:
            return fit()
        finally:
            del self._validation


class _Held(NamedTuple):
    """Rows to train on (X, y, sample_weight), and those to validate on or None."""

    training: tuple[Any, Array, Array | None]
    X: Any
    y: Array | None
    sample_weight: Array | None


class _Run:
    """One call of ``fit`` or ``partial_fit`` at work."""

    def __init__(
        self,
        owner: Any,
        core: _Core,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        held: _Held,
    ) -> None:
        self.owner, self.core, self.held = owner, core, held
        self.rows = n = X.shape[0]
        self.order = np.arange(n)
        self.sample_weight = sample_weight
        self.no_loss = owner._has_no_loss(y)
        self.has_zeros = sample_weight is not None and bool((sample_weight == 0).any())
        if owner.batch_size == "auto":
            self.batch_size = min(200, n)
        else:
            if owner.batch_size > n:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than "
                    "sample size. It is going to be clipped",
                    stacklevel=2,
                )
            self.batch_size = int(np.clip(owner.batch_size, 1, n))
        self.steps = -(-n // self.batch_size)
        dtype = core.net.dtype
        self.y_held = None if held.y is None else owner._labels_of(held.y)
        dropped = any(core.net.dropout)
        self.trainer = core.engine.trainer(
            core.flat,
            owner._slots,
            _rows(X, X.dtype),
            owner._targets(y, dtype),
            optimizer=owner._update_rule,
            batch_size=self.batch_size,
            l2=owner.alpha,
            seed=int(owner._random_state.randint(2**31 - 1)) if dropped else 0,
            shuffle=False,
            sample_weight=sample_weight,
            convention="sklearn",
        )
        self.calls = as_callbacks([] if owner.callbacks is None else owner.callbacks)
        for call in self.calls:
            monitor = call.monitor if isinstance(call, EarlyStopping) else ""
            if monitor.startswith("validation") and held.y is None:
                raise ValueError(
                    f"callbacks: found EarlyStopping on {monitor!r} but no validation data, "
                    "expected validation_data or early_stopping=True"
                )
        check_monitors(self.calls, True, isinstance(owner, MLPClassifier))
        self.report: Any = None
        self.stop = False

    # --- Between epochs -------------------------------------------------------------------------

    def epochs(self, count: int, incremental: bool) -> None:
        owner = self.owner
        if self.held.y is not None and owner.validation_loss_curve_ is None:
            owner.validation_loss_curve_ = []
            if not owner.early_stopping:
                owner.validation_scores_, owner.best_validation_score_ = [], -np.inf
        schedule = None
        if owner.schedule is not None:
            schedule = training.Rates(owner.schedule, 1.0, owner._epochs, owner._epochs + count)
        self.report = reporter(owner.progress, owner._epochs, owner._epochs + count)
        for call in self.calls:
            call.on_fit_begin(owner)
        owner.n_iter_ = 0
        for _ in range(count):
            self.shuffle()
            rates = np.full(self.steps, float(owner._optimizer.learning_rate_init))
            if isinstance(owner._optimizer, SGDOptimizer):
                rates[:] = owner._optimizer.learning_rate
            if schedule is not None:
                rates *= schedule.of(owner._epochs, self.steps)
            record = self.epoch(rates)
            if record is None:
                break
            owner.n_iter_ += 1
            owner._epochs += 1
            owner.loss_ = np.float64(record.loss)
            owner.t_ += self.rows
            owner.loss_curve_.append(owner.loss_)
            if owner.verbose:
                print(f"Iteration {owner.n_iter_}, loss = {owner.loss_:.8f}")
            record = self.judge(record)
            owner.history_.append(record)
            if self.report is not None:
                self.report.show(record)
            for call in self.calls:
                self.stop |= stops(call.on_epoch_end(owner, record))
            if self.no_longer_improves() or incremental or self.stop:
                break
            if owner.n_iter_ == owner.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({owner.max_iter}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )

    def shuffle(self) -> None:
        """Order the rows as scikit-learn's ``shuffle`` of their numbers does, draw for draw."""
        owner = self.owner
        if owner.shuffle:
            places = np.arange(self.rows)
            owner._random_state.shuffle(places)
            self.order = self.order[places]
            self.trainer.order(self.order)
        if self.has_zeros:
            assert self.sample_weight is not None
            starts = np.arange(0, self.rows, self.batch_size)
            if (np.add.reduceat(self.sample_weight[self.order], starts) == 0).any():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")

    def epoch(self, rates: Array) -> Record | None:
        """Train an epoch; None if a callback stopped it before its end."""
        owner, trainer = self.owner, self.trainer
        stepwise = [c for c in self.calls if c.steps is not None]
        first, loss, right, seconds = 0, 0.0, 0.0, 0.0

        def record() -> Record:
            n = min(first * self.batch_size, self.rows)
            return Record(
                epoch=owner._epochs + 1,
                loss=np.nan if self.no_loss else loss / n,
                accuracy=None if np.isnan(right) else right / n,
                learning_rate=float(rates[first - 1]),
                seconds=seconds,
                samples_per_second=n / max(seconds, 1e-9),
                step=first,
                steps=self.steps,
            )

        while first < self.steps and not self.stop:
            count = self.steps - first
            for call in stepwise:
                count = min(count, call.steps - owner._updates % call.steps)
            began = time.perf_counter()
            try:
                part = rates[first : first + count]
                loss, right = trainer.steps(owner._epochs, first, part, owner._updates)
            finally:
                owner._updates += trainer.done
            seconds += time.perf_counter() - began
            first += count
            due = [c for c in stepwise if owner._updates % c.steps == 0]
            if due:
                trainer.store()
                for call in due:
                    self.stop |= stops(call.on_steps(owner, record()))
        return record() if first == self.steps else None

    def judge(self, record: Record) -> Record:
        """Measure what decides on stopping, on the rows held out if there are any."""
        owner, held = self.owner, self.held
        if self.calls or held.y is not None:
            self.trainer.store()
        if held.y is None:
            owner._update_no_improvement_count(False, None, None, None)
            return record
        out = owner._outputs(held.X, check_input=False)
        loss = _loss(owner, held.y, out, held.sample_weight)
        owner.validation_loss_curve_.append(loss)
        self.scored = owner._score_outputs(self.y_held, out, held.sample_weight)
        # Their rules ask ``_score``, which answers with this.
        if owner.early_stopping:
            owner._scored = self.scored
            try:
                owner._update_no_improvement_count(True, held.X, held.y, held.sample_weight)
            finally:
                del owner._scored
        else:
            owner._update_no_improvement_count(False, None, None, None)
            owner.validation_scores_.append(self.scored)
            owner.best_validation_score_ = max(owner.best_validation_score_, self.scored)
        accuracy = self.scored if isinstance(owner, MLPClassifier) else None
        return record._replace(validation_loss=loss, validation_accuracy=accuracy)

    def no_longer_improves(self) -> bool:
        owner = self.owner
        optimizer = owner._optimizer
        optimizer.iteration_ends(owner.t_)
        if owner._no_improvement_count <= owner.n_iter_no_change:
            return False
        what = "Validation score" if owner.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={owner.tol:f} for "
            f"{owner.n_iter_no_change} consecutive epochs."
        )
        if optimizer.trigger_stopping(message, owner.verbose):
            return True
        owner._no_improvement_count = 0
        return False

    def end(self) -> None:
        """Leave the estimator with the last whole update, whatever happened."""
        self.trainer.store()
        if isinstance(self.owner._optimizer, AdamOptimizer):
            self.owner._optimizer.t = self.owner._updates
        if self.report is not None:
            self.report.close()

    def after(self) -> None:
        """What callbacks do when training has come to its end."""
        for call in self.calls:
            call.on_fit_end(self.owner)


class MLPClassifier(_Perceptron, theirs.MLPClassifier):  # type: ignore[misc]
    """scikit-learn's MLPClassifier on pynn's core.

    Parameters
    ----------
    hidden_layer_sizes, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, \
max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, \
early_stopping, validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in :class:`sklearn.neural_network.MLPClassifier`, with the same defaults.
    activation : str or sequence of str, default="relu"
        ``identity``, ``logistic``, ``tanh``, ``relu``; new: ``leaky_relu``, ``elu``, ``gelu``,
        ``softplus``, and a list of one name for each hidden layer.
    dropout : float or sequence of float, default=0
        New. Probability in [0, 1) of leaving out a unit in training, for all hidden layers or one
        each. Not with ``solver="lbfgs"``.
    class_weight : dict, list of dict, "balanced" or None, default=None
        New. Weights of the classes, times ``sample_weight``; ``"balanced"`` weighs them so that
        all count the same.
    init : str, sequence of str or None, default=None
        New. Initial weights of all layers, or one for each: ``he_normal``, ``he_uniform``,
        ``glorot_normal``, ``glorot_uniform``, ``lecun_normal``, ``lecun_uniform``, ``normal`` or
        ``zeros``. None draws as scikit-learn does.
    weight_decay : float, default=0
        New. Decoupled weight decay (AdamW) for ``solver="adam"``, beside ``alpha``.
    schedule : str, pynn.Schedule, function or None, default=None
        New. Factor on the learning rate for each step: ``cosine``, ``one_cycle``, ``warm_up``,
        ``step``, ``exponential``, ``inverse_time``, an object such as ``pynn.StepDecay(every=5)``,
        or a function of the time in epochs; ``max_iter`` is the horizon.
    dtype : "float32", "float64" or None, default=None
        New. What to compute in; None keeps that of X.
    threads : int or None, default=None
        New. How many threads compute at most, up to 4096; None lets pynn choose, and takes one
        inside a parallel call of joblib, such as a grid search. The numbers do not depend on it.
    callbacks : function, pynn.Callback, list of them or None, default=None
        New. Called as ``f(estimator, record)`` after every epoch; training stops when one returns
        True. See :mod:`pynn.callbacks`.
    progress : bool, "auto" or function, default=False
        New. A bar, or lines where rich is not installed.

    Attributes
    ----------
    validation_loss_curve_ : list of float or None
        New. Loss on the validation rows after every epoch, without the L2 term; None without any.
    history_ : pynn.History
        New. One record for every epoch; its ``loss`` is that of ``loss_curve_``.
    parameters : ndarray (n_parameters,)
        New. All coefficients and intercepts in one vector.

    The others are scikit-learn's: ``coefs_``, ``intercepts_``, ``loss_``, ``best_loss_``,
    ``loss_curve_``, ``validation_scores_``, ``best_validation_score_``, ``t_``, ``n_iter_``,
    ``n_layers_``, ``n_outputs_``, ``out_activation_``, ``classes_``, ``n_features_in_``,
    ``feature_names_in_``.

    Raises
    ------
    ValueError, TypeError
        As scikit-learn's, at ``fit``.
    """

    _parameter_constraints: ClassVar[dict] = {
        **theirs.MLPClassifier._parameter_constraints,
        **_MORE_CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        class_weight: Any = None,
        init: str | Sequence[str] | None = None,
        weight_decay: float = 0.0,
        schedule: Any = None,
        dtype: Any = None,
        threads: int | None = None,
        callbacks: Any = None,
        progress: bool | str | Callable[[Record], object] = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.dropout = dropout
        self.class_weight = class_weight
        self.init = init
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.dtype = dtype
        self.threads = threads
        self.callbacks = callbacks
        self.progress = progress

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> MLPClassifier:
        """Fit the classifier.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            Whole numbers are values, never pixels to be scaled.
        y : array-like (n_samples,) or (n_samples, n_outputs)
            Labels, or zeros and ones for several labels at once.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows.
        validation_data : (X, y), optional
            Rows to measure ``validation_scores_`` and ``validation_loss_curve_`` on after every
            epoch. With ``early_stopping`` they take the place of the rows held out.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        return self._fit_with(
            validation_data, lambda: super(MLPClassifier, self).fit(X, y, sample_weight)
        )

    def _binarize(self, y: Array) -> Array:
        wrong: Any = np.setdiff1d(y, self.classes_) if y.ndim == 1 else []
        if len(wrong):
            raise ValueError(
                f"validation_data: found the label {wrong[0]!r}, expected those of y: "
                f"{self.classes_}"
            )
        return self._label_binarizer.transform(y).astype(bool)

    def _labels_of(self, y: Array) -> Array:
        return self._label_binarizer.inverse_transform(y)

    def _labels(self, out: Array) -> Array:
        """Labels from the outputs (n, n_outputs), as LabelBinarizer turns them back."""
        binarizer = self._label_binarizer
        if binarizer.y_type_ == "multiclass":
            return self.classes_.take(out.argmax(axis=1), mode="clip")
        if binarizer.y_type_ == "binary" and len(self.classes_) == 2:
            return self.classes_[(out[:, 0] > 0.5).astype(np.intp)]
        return binarizer.inverse_transform(out.ravel() if self.n_outputs_ == 1 else out)

    def _score_outputs(self, y: Array, out: Array, sample_weight: Array | None) -> float:
        right = self._labels(out) == y
        if right.ndim == 2:
            right = right.all(axis=1)
        return float(np.average(right, weights=sample_weight))

    def _score(self, X: Any, y: Array, sample_weight: Array | None = None) -> float:
        found: float | None = self.__dict__.get("_scored")
        return super()._score(X, y, sample_weight) if found is None else found

    def predict(self, X: Any) -> Array:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples,) or (n_samples, n_outputs)
        """
        return self._labels(self._outputs(X))

    def _predict(self, X: Any, check_input: bool = True) -> Array:
        return self._labels(self._outputs(X, check_input))

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        out = self._outputs(X)
        if out.shape[1] > 1:
            return out
        both = np.empty((len(out), 2), out.dtype)
        np.subtract(1, out[:, 0], out=both[:, 0])
        both[:, 1] = out[:, 0]
        return both


class MLPRegressor(_Perceptron, theirs.MLPRegressor):  # type: ignore[misc]
    """scikit-learn's MLPRegressor on pynn's core.

    Parameters
    ----------
    loss, hidden_layer_sizes, solver, alpha, batch_size, learning_rate, learning_rate_init, \
power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, \
early_stopping, validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in :class:`sklearn.neural_network.MLPRegressor`, with the same defaults.
    activation : str or sequence of str, default="relu"
        ``identity``, ``logistic``, ``tanh``, ``relu``; new: ``leaky_relu``, ``elu``, ``gelu``,
        ``softplus``, and a list of one name for each hidden layer.
    dropout : float or sequence of float, default=0
        New. Probability in [0, 1) of leaving out a unit in training, for all hidden layers or one
        each. Not with ``solver="lbfgs"``.
    init : str, sequence of str or None, default=None
        New. Initial weights of all layers, or one for each: ``he_normal``, ``he_uniform``,
        ``glorot_normal``, ``glorot_uniform``, ``lecun_normal``, ``lecun_uniform``, ``normal`` or
        ``zeros``. None draws as scikit-learn does.
    weight_decay : float, default=0
        New. Decoupled weight decay (AdamW) for ``solver="adam"``, beside ``alpha``.
    schedule : str, pynn.Schedule, function or None, default=None
        New. Factor on the learning rate for each step: ``cosine``, ``one_cycle``, ``warm_up``,
        ``step``, ``exponential``, ``inverse_time``, an object such as ``pynn.StepDecay(every=5)``,
        or a function of the time in epochs; ``max_iter`` is the horizon.
    dtype : "float32", "float64" or None, default=None
        New. What to compute in; None keeps that of X.
    threads : int or None, default=None
        New. How many threads compute at most, up to 4096; None lets pynn choose, and takes one
        inside a parallel call of joblib, such as a grid search. The numbers do not depend on it.
    callbacks : function, pynn.Callback, list of them or None, default=None
        New. Called as ``f(estimator, record)`` after every epoch; training stops when one returns
        True. See :mod:`pynn.callbacks`.
    progress : bool, "auto" or function, default=False
        New. A bar, or lines where rich is not installed.

    Attributes
    ----------
    validation_loss_curve_ : list of float or None
        New. Loss on the validation rows after every epoch, without the L2 term; None without any.
    history_ : pynn.History
        New. One record for every epoch; its ``loss`` is that of ``loss_curve_``.
    parameters : ndarray (n_parameters,)
        New. All coefficients and intercepts in one vector.

    The others are scikit-learn's: ``coefs_``, ``intercepts_``, ``loss_``, ``best_loss_``,
    ``loss_curve_``, ``validation_scores_``, ``best_validation_score_``, ``t_``, ``n_iter_``,
    ``n_layers_``, ``n_outputs_``, ``out_activation_``, ``n_features_in_``, ``feature_names_in_``.

    Raises
    ------
    ValueError, TypeError
        As scikit-learn's, at ``fit``.
    """

    _parameter_constraints: ClassVar[dict] = {
        **theirs.MLPRegressor._parameter_constraints,
        **_MORE_CONSTRAINTS,
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        init: str | Sequence[str] | None = None,
        weight_decay: float = 0.0,
        schedule: Any = None,
        dtype: Any = None,
        threads: int | None = None,
        callbacks: Any = None,
        progress: bool | str | Callable[[Record], object] = False,
    ) -> None:
        super().__init__(
            loss=loss,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.dropout = dropout
        self.init = init
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.dtype = dtype
        self.threads = threads
        self.callbacks = callbacks
        self.progress = progress

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> MLPRegressor:
        """Fit the regressor.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            Whole numbers are values, never pixels to be scaled.
        y : array-like (n_samples,) or (n_samples, n_outputs)
            The values to approximate; of 0 or more for ``loss="poisson"``.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows.
        validation_data : (X, y), optional
            Rows to measure ``validation_scores_`` (R²) and ``validation_loss_curve_`` on after
            every epoch. With ``early_stopping`` they take the place of the rows held out.

        Returns
        -------
        MLPRegressor
            Itself.
        """
        return self._fit_with(
            validation_data, lambda: super(MLPRegressor, self).fit(X, y, sample_weight)
        )

    def _labels_of(self, y: Array) -> Array:
        return y

    def _score_outputs(self, y: Array, out: Array, sample_weight: Array | None) -> float:
        if not np.isfinite(out).all():
            return float("nan")
        return float(r2_score(y, out, sample_weight=sample_weight))

    def _score(self, X: Any, y: Array, sample_weight: Array | None = None) -> float:
        found: float | None = self.__dict__.get("_scored")
        return super()._score(X, y, sample_weight) if found is None else found

    def predict(self, X: Any) -> Array:
        """Return the approximated values.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples,) or (n_samples, n_outputs)
        """
        return self._predict(X)

    def _predict(self, X: Any, check_input: bool = True) -> Array:
        out = self._outputs(X, check_input)
        return out.ravel() if out.shape[1] == 1 else out


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


# --- In the place of scikit-learn's ---------------------------------------------------------------


def patch() -> None:
    """Let ``from sklearn.neural_network import MLPClassifier`` find pynn's classes from now on.

    Call it before the imports that it should change: names that were imported already stay what
    they are. :func:`unpatch` undoes it.
    """
    sklearn.neural_network.MLPClassifier = MLPClassifier
    sklearn.neural_network.MLPRegressor = MLPRegressor


def unpatch() -> None:
    """Undo :func:`patch`."""
    sklearn.neural_network.MLPClassifier = theirs.MLPClassifier
    sklearn.neural_network.MLPRegressor = theirs.MLPRegressor


def _main() -> None:
    import os
    import runpy

    usage = "usage: python -m pynn.sklearn SCRIPT [ARGUMENTS]"
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(f"{usage}\n\nRun a script with pynn's classes in the place of scikit-learn's.")
        return
    if len(sys.argv) < 2:
        sys.exit(usage)
    if not os.path.exists(sys.argv[1]):
        sys.exit(f"python -m pynn.sklearn: found no file {sys.argv[1]!r}\n{usage}")
    del sys.argv[0]
    # This module runs as __main__ here; the classes must be those that can be imported.
    from pynn import sklearn as ours

    ours.patch()
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
