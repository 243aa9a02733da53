"""What the classifier and the regressor share."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import _multilayer_perceptron as theirs
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ..backends.contract import Data, ObjectiveSettings
from ..spec.architecture import Architecture
from ..spec.arguments import MOST_THREADS, choose
from ..spec.names import ACTIVATIONS, INITIALISERS
from ..spec.optimizers import SGD, AdamHat, AdamW, Momentum, Nesterov, Optimizer
from ..spec.schedules import SCHEDULES, Schedule
from ..training import initialise
from ..training.callbacks import Callback
from ..training.history import History
from .core import (
    _ONE_BLAS_THREAD,
    _by_class,
    _Core,
    _engine,
    _fill,
    _is,
    _like,
    _plain,
    _promoted,
    _rows,
    _same,
    _threads,
    _vector,
    _weights,
)
from .fit import _Held, _Run

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
            Data(_rows(X, X.dtype), self._targets(y, np.float64), _weights(sample_weight)),
            ObjectiveSettings(l2=self.alpha, convention="sklearn"),
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
        classifies = is_classifier(self)
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
            y_numeric=not is_classifier(self),
            dtype=(np.float64, np.float32),
            reset=False,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if is_classifier(self):
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
