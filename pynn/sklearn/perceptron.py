"""The base class of the classifier and the regressor.

It overrides the steps of scikit-learn's ``BaseMultilayerPerceptron`` that compute: initial weights,
outputs, training by ``solver="sgd"`` and ``"adam"``, and the objective of ``solver="lbfgs"``.
Attributes with a leading underscore are part of pickles: renaming one breaks estimators in files.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import _multilayer_perceptron as sklearn_mlp
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted, validate_data

from ..arrays.vectors import cast, native
from ..backends.contract import Data, ObjectiveSettings
from ..checks.arrays import collected
from ..data.stream import Source
from ..spec.activations import Parametric
from ..spec.architecture import Architecture
from ..spec.arguments import choose
from ..spec.losses import LossFunction
from ..spec.names import INITIALISERS
from ..spec.optimizers import SGD, AdamHat, AdamW, Momentum, Nesterov, Optimizer
from ..training import initialise
from ..training.history import History
from ..training.lbfgs import float64_objective
from . import further
from .convert import Convertible
from .core import (
    ONE_BLAS_THREAD,
    Core,
    aligned_like,
    as_rows,
    as_vector,
    as_weights,
    cast_rows,
    engine_of,
    fill,
    fit_into,
    flat_parameters,
    lbfgs_of_scikit_learn,
    own_state,
    plain_state,
    promoted,
    state_from_plain,
    thread_limit,
    warn,
    with_globals,
)
from .fit import Fit, TrainingRows, weight_by_class
from .parameters import LOSSES, NEW_PARAMETERS, NOT_WITH_LBFGS, pynn_name
from .tasks import ONLY_IN_FIT, CallbackSupportMixin, Iterations, Tasks

Array = np.ndarray
_Self = TypeVar("_Self", bound="Perceptron")

_NOT_PICKLED = {
    *("_core", "_copied", "_validation", "_scored", "_objective", "_trained", "_tasks"),
    *ONLY_IN_FIT,
}
"""Attributes that copies and pickles leave out: caches, and those that exist only in ``fit``."""


class Perceptron(
    Convertible,
    CallbackSupportMixin,
    sklearn_mlp.BaseMultilayerPerceptron,  # type: ignore[misc]
):
    """Base class of both estimators; precedes scikit-learn's class in their bases."""

    coefs_: list[Array]
    intercepts_: list[Array]

    # --- Parameters -----------------------------------------------------------------------------

    def __init__(self, **parameters: Any) -> None:
        for name in NEW_PARAMETERS:
            if name in parameters:
                setattr(self, name, parameters.pop(name))
        super().__init__(**parameters)

    def _activations(self, hidden: int) -> list[str | Parametric]:
        """Return the hidden layers' activations as pynn names them."""
        given: Any = self.activation
        names = [given] * hidden if isinstance(given, (str, Parametric)) else list(given)
        if len(names) != hidden:
            raise ValueError(
                f"activation: found {len(names)} names, expected one, or a list of {hidden}, "
                "one per hidden layer"
            )
        return [name if isinstance(name, Parametric) else pynn_name(name) for name in names]

    def _architecture(self, coefs: Sequence[Array], dtype: Any) -> Architecture:
        sizes = [coefs[0].shape[0], *(w.shape[1] for w in coefs)]
        rates: Any = self.dropout
        loss = self._core_loss()
        names = self._activations(len(sizes) - 2)
        return Architecture.build(sizes, names, None, loss, rates, dtype)

    def _core_loss(self) -> str | LossFunction:
        """Return pynn's loss, as ``Network`` takes it."""
        return LOSSES[self.out_activation_]

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
        layer = len(self.coefs_)
        n_hidden = self.n_layers_ - 2
        names = self._activations(n_hidden)
        init: Any = self.init
        if init is not None and not isinstance(init, str) and len(init) != n_hidden + 1:
            raise ValueError(
                f"init: found {len(init)} names, expected one, or a list of {n_hidden + 1}, one "
                "per layer"
            )
        name = init if init is None or isinstance(init, str) else init[layer]
        draw = self._random_state
        if name is None:
            # scikit-learn's formula, whose one activation applies to the output layer too, also
            # if there is no hidden layer.
            given = self.activation
            output = names[-1:] or [given if isinstance(given, str) else ""]
            sigmoid = (names[layer : layer + 1] or output)[0] in ("sigmoid", "logistic")
            bound = np.sqrt((2.0 if sigmoid else 6.0) / (fan_in + fan_out))
            w = draw.uniform(-bound, bound, (fan_in, fan_out))
            b = draw.uniform(-bound, bound, fan_out)
        else:
            w, b = initialise.draw(choose("init", name, INITIALISERS), fan_in, fan_out, draw)
        return w.astype(dtype, copy=False), b.astype(dtype, copy=False)

    # --- The network's parameter vector ---------------------------------------------------------

    def _adopt(self) -> Core:
        """Copy ``coefs_`` and ``intercepts_`` to a new parameter vector and make them its views."""
        coefs, intercepts = self.coefs_, self.intercepts_
        net = self._architecture(coefs, promoted(*coefs, *intercepts))
        flat = flat_parameters(net, coefs, intercepts)
        weights, biases = net.views(flat)
        threads = thread_limit(self.threads)
        views = (*weights, *biases)
        core = Core(net, engine_of(net, threads), flat, views, threads, self.activation)
        new: dict[str, Any] = {"coefs_": weights, "intercepts_": biases, "_core": core}
        if self.__dict__.get("_best_coefs") is coefs:
            # In scikit-learn a warm start trains the best arrays in place and ends with them.
            new |= {"_best_coefs": weights, "_best_intercepts": biases}
        self.__dict__.update(new)
        self.__dict__.pop("_copied", None)
        return core

    def _current(self) -> Core | None:
        """Return the core, or None if ``coefs_`` and ``intercepts_`` are no longer its views."""
        core: Core | None = self.__dict__.get("_core")
        if core is None or core.activation is not self.activation:
            return None
        arrays = (*self.coefs_, *self.intercepts_)
        same = len(arrays) == len(core.views) and all(map(operator.is_, arrays, core.views))
        return core if same else None

    def _assigned(self) -> Core | None:
        """Return a core for arrays that a program assigned to ``coefs_``, None without arrays.

        They stay the program's, which may change their numbers: each prediction copies these into
        the vector of the core, which is planned once for the same arrays.
        """
        arrays = (*self.__dict__.get("coefs_", ()), *self.__dict__.get("intercepts_", ()))
        if not arrays:
            return None
        core: Core | None = self.__dict__.get("_copied")
        if (
            core is None
            or core.activation is not self.activation
            or core.threads != thread_limit(self.threads)
            or len(arrays) != len(core.views)
            or not all(map(operator.is_, arrays, core.views))
        ):
            net = self._architecture(self.coefs_, promoted(*arrays))
            flat = flat_parameters(net, self.coefs_, self.intercepts_)
            threads = thread_limit(self.threads)
            core = Core(net, engine_of(net, threads), flat, arrays, threads, self.activation)
            self._copied = core
        else:
            fill(core.net, core.flat, self.coefs_, self.intercepts_)
        return core

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return plain_state({k: value for k, value in state.items() if k not in _NOT_PICKLED})

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles of earlier versions lack parameters that were added since.
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name != "self" and parameter.default is not parameter.empty:
                state.setdefault(name, parameter.default)
        super().__setstate__(state_from_plain(state))
        own_state(self.__dict__)
        if "coefs_" in state:
            # Parameters of the wrong shape raise in the next call that uses them.
            with contextlib.suppress(AttributeError, ValueError):
                self._adopt()

    @property
    def parameters(self) -> Array:
        """All coefficients and intercepts in one vector, layer by layer; assigning copies.

        Read-only during ``fit``.
        """
        if "coefs_" not in self.__dict__:
            raise AttributeError("parameters: found an estimator that is not fitted")
        core = self._current() or self._adopt()
        if core.views[0].flags.writeable:
            return core.flat
        found = core.flat.view()
        found.flags.writeable = False
        return found

    @parameters.setter
    def parameters(self, values: Array) -> None:
        parameters = self.parameters
        if not parameters.flags.writeable:
            raise ValueError(
                "parameters: found an estimator in training; its parameters are read-only until "
                "fit has ended"
            )
        parameters[...] = values

    # --- Prediction -----------------------------------------------------------------------------

    def _outputs(self, X: Any, check_input: bool = True) -> Array:
        """Return the outputs of the last layer (n, n_outputs).

        The core computes in the dtype of its parameters for X of every dtype, since a copy of the
        parameters takes longer than the prediction of a few rows. The answer has the dtype of
        ``dtype=``, or else that of scikit-learn's product of X and the coefficients.
        """
        core, X = self._current() or self._assigned(), collected(X)
        rows = None if core is None else self._rows_to_use_unchecked(core, X, check_input)
        if core is not None and rows is not None:
            return self._answer(core.engine.forward(core.flat, rows[0]), rows[1])
        if check_input:
            check_is_fitted(self)
            X = self._validated(X)
        if core is not None and fit_into(core.flat.dtype, X):
            out = core.engine.forward(core.flat, as_rows(X, core.flat.dtype))
            return self._answer(out, promoted(X.dtype, core.flat.dtype))
        dtype = promoted(X.dtype, *self.coefs_, *self.intercepts_)
        net = self._architecture(self.coefs_, dtype)
        flat = flat_parameters(net, self.coefs_, self.intercepts_)
        out = engine_of(net, thread_limit(self.threads)).forward(flat, as_rows(X, dtype))
        return self._answer(out, dtype)

    def _validated(self, X: Any) -> Any:
        """Return X of a prediction, checked by scikit-learn, as numbers."""
        settings: dict[str, Any] = {"accept_sparse": ["csr", "csc"], "reset": False}
        # scikit-learn takes bfloat16 and other dtypes that NumPy does not know for text.
        if getattr(getattr(X, "dtype", None), "kind", "") != "V":
            X = validate_data(self, X, **settings)
            if X.dtype.kind in "biuf":
                return X
        return validate_data(self, X, dtype=np.float64, **settings)  # as in fit; None becomes NaN

    def _answer(self, out: Array, dtype: np.dtype) -> Array:
        """Return outputs in the dtype of ``dtype=``, or else in ``dtype``."""
        given: Any = self.dtype
        dtype = dtype if given is None else np.dtype(given)
        if out.dtype == dtype:
            return out
        wider = dtype.itemsize > out.dtype.itemsize
        out = cast(out, dtype)
        if wider and self.out_activation_ == "softmax":
            # Probabilities that sum to 1 in float32 do not in float64, which metrics check.
            out /= out.sum(axis=1, keepdims=True)
        return out

    def _rows_to_use_unchecked(
        self, core: Core, X: Any, check_input: bool
    ) -> tuple[Array, np.dtype] | None:
        """Return X as rows for the core and the answer's dtype, or None to let scikit-learn check.

        With ``check_input`` X must be finite, and the estimator must have no column names to
        compare. scikit-learn's own checks take longer than the prediction of a few rows.
        """
        if check_input and "feature_names_in_" in self.__dict__:
            return None
        if type(X) is list:
            try:
                X = np.asarray(X)
            except ValueError:  # rows of different lengths; scikit-learn says so
                return None
        if type(X) is not np.ndarray or X.ndim != 2 or X.shape[1] != core.net.n_in or not len(X):
            return None
        own = core.flat.dtype
        if X.dtype == own:
            if check_input and not np.isfinite(np.add.reduce(X, axis=None)):
                return None
            return native(X), own
        if X.dtype.kind in "biu":  # the core would scale uint8 as pixels
            return X.astype(own), promoted(X.dtype, own)
        if X.dtype in (np.float32, np.float64) and fit_into(own, X):
            return native(X), promoted(X.dtype, own)
        return None

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Array:
        return self._outputs(X, check_input)

    # --- Training -------------------------------------------------------------------------------

    def fit(
        self: _Self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> _Self:
        """Fit the estimator.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            Integers are used as values and never scaled like pixels.
        y : array-like (n_samples,) or (n_samples, n_outputs)
            Classifier: labels, or zeros and ones for multilabel classification. Regressor: target
            values, which must be at least 0 for ``loss="poisson"``.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows.
        validation_data : (X, y), optional
            Rows on which ``validation_scores_`` (accuracy or R²) and ``validation_loss_curve_`` are
            measured after every epoch. With ``early_stopping`` they replace the rows held out.

        Returns
        -------
        MLPClassifier or MLPRegressor
            The estimator itself.
        """
        try:
            self._validation = validation_data
            return super().fit(X, y, sample_weight)
        finally:
            self.__dict__.pop("_validation", None)

    def _fit(
        self: _Self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False
    ) -> _Self:
        before = self.__dict__.copy()
        self._trained = False
        try:
            return self._fit_or_fail(X, y, sample_weight, incremental)
        except BaseException:
            if not self._trained:
                # scikit-learn ends the use of callbacks after this.
                kept = {name: vars(self)[name] for name in ONLY_IN_FIT if name in vars(self)}
                self.__dict__ = before | kept
            raise
        finally:
            for name in ("_trained", "_scored", "_tasks"):
                self.__dict__.pop(name, None)

    def _fit_or_fail(self: _Self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> _Self:
        """Fit; after an exception ``_trained`` is whether training has changed the estimator."""
        if incremental:
            self.__dict__.pop("_validation", None)  # left by an interrupt at the end of ``fit``
        dtype: Any = self.dtype
        if dtype is not None:
            choose("dtype", np.dtype(dtype).name, ("float32", "float64"))
        if isinstance(X, Source):
            raise TypeError(
                f"X: found {type(X).__name__}(…), which is read part by part, expected arrays, as "
                "scikit-learn does; fit of pynn.Network takes it"
            )
        X, y, sample_weight = collected(X), collected(y), collected(sample_weight)
        tasks = self._tasks = Tasks(self, X, y, sample_weight, incremental)
        class_weight = getattr(self, "class_weight", None)
        if class_weight is not None:
            sample_weight = weight_by_class(class_weight, y, sample_weight, incremental)
        if self.solver == "lbfgs":
            self._check_lbfgs()
        super()._fit(X, y, sample_weight=sample_weight, incremental=incremental)
        tasks.end_all()
        return self

    def _check_lbfgs(self) -> None:
        """Raise if a parameter is set that ``solver="lbfgs"`` does not support."""
        for name, default in NOT_WITH_LBFGS.items():
            value = getattr(self, name)
            if value is not default and not (np.isscalar(value) and value == default):
                raise ValueError(
                    f"{name}: found {value!r} with solver='lbfgs', expected {default!r}, or "
                    "solver='adam' or 'sgd'"
                )
        if self.__dict__.get("_validation") is not None:
            raise ValueError(
                "validation_data: found rows with solver='lbfgs', expected None, or "
                "solver='adam' or 'sgd'"
            )

    def _score(self, X: Any, y: Array, sample_weight: Array | None = None) -> float:
        found: float | None = self.__dict__.get("_scored")
        return super()._score(X, y, sample_weight) if found is None else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of a classifier, or R² of a regressor.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``.

        Returns
        -------
        float
        """
        return super().score(collected(X), collected(y), collected(sample_weight))

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        plain = further.checked(self, X, y) if incremental and not reset else None
        if plain is not None and self.dtype is None:
            return plain
        validate = with_globals(super()._validate_input.__func__, column_or_1d=as_vector)
        X, y = validate(self, X, y, incremental, reset)
        dtype: Any = self.dtype
        return (X if dtype is None else cast_rows(X, dtype)), y

    def _initialize(self, y: Array, layer_units: list[int], dtype: Any) -> None:
        self._epochs = 0
        self.history_ = History()
        self.validation_loss_curve_: list[float] | None = None
        super()._initialize(y, layer_units, dtype)

    def _loss_is_nan(self, y: Array) -> bool:
        """Return whether scikit-learn's loss is NaN for these targets, but not its gradient."""
        return self.out_activation_ == "exp" and bool((y < 0).any())

    def _targets(self, y: Array, dtype: Any) -> Array:
        """Return y (n, n_outputs) as the core's input: indices of classes, or values."""
        if self.out_activation_ == "softmax":
            return y.argmax(axis=1).astype(np.int32)
        return np.ascontiguousarray(cast(y, dtype))

    def _check_layers(self, units: list[int]) -> int:
        """Raise if a further fit asks for other layers than the network has.

        Without this check the core would read rows of another width than it is given.
        scikit-learn raises too, in the first step, except in two cases: ``solver="sgd"`` and
        ``"adam"`` ignore other numbers of units in as many hidden layers, and accept one column of
        y for several outputs; ``solver="lbfgs"`` divides its packed vector at the wrong places if
        the new layers are smaller.

        Parameters
        ----------
        units : list of int
            Numbers of features, of units of the hidden layers, and of columns of y.

        Returns
        -------
        int
            The network's number of outputs.
        """
        fitted = [self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_)]
        lbfgs = self.solver == "lbfgs"
        if units[0] != fitted[0]:
            raise ValueError(f"X: found {units[0]} features, expected {fitted[0]}, as in coefs_[0]")
        if len(units) != len(fitted) or (lbfgs and units[1:-1] != fitted[1:-1]):
            raise ValueError(
                f"hidden_layer_sizes: found {tuple(units[1:-1])}, expected {tuple(fitted[1:-1])}, "
                "as in the first fit; to train a new network call fit with warm_start=False"
            )
        if units[-1] != fitted[-1] and (lbfgs or units[-1] != 1):
            raise ValueError(
                f"y: found {units[-1]} columns, expected {fitted[-1]}, as in the first fit; to "
                "train a new network call fit with warm_start=False"
            )
        return int(fitted[-1])

    def _fit_lbfgs(self, X: Any, y: Array, sample_weight: Array | None, *buffers: Any) -> None:
        self._check_layers(buffers[-1])
        iterations = Iterations(self._tasks)
        self._objective = iterations.begun_by(self._plan_objective(X, y, sample_weight))
        try:
            fit = lbfgs_of_scikit_learn(iterations)
            ONE_BLAS_THREAD.call(fit, self, X, y, sample_weight, *buffers)
            self._adopt()
            self._trained = True
        except KeyboardInterrupt:
            # As in scikit-learn, the parameters are those of the last evaluation.
            self._adopt()
            self._trained = True
            raise
        finally:
            self.__dict__.pop("_objective", None)

    def _plan_objective(
        self, X: Any, y: Array, sample_weight: Array | None
    ) -> Callable[[Array], tuple[float, Array]]:
        """Return a function from packed parameters to loss and gradient.

        Both are in scikit-learn's order: all ``coefs_``, then all ``intercepts_``.
        """
        net = self._architecture(self.coefs_, np.float64)
        objective = float64_objective(
            engine_of(net, thread_limit(self.threads)),
            Data(as_rows(X, X.dtype), self._targets(y, np.float64), as_weights(sample_weight)),
            ObjectiveSettings(l2=self.alpha, convention="sklearn"),
        )
        flat, loss_is_nan = np.zeros(net.n_parameters), self._loss_is_nan(y)

        def loss_and_gradient(packed: Array) -> tuple[float, Array]:
            self._unpack(packed)
            fill(net, flat, self.coefs_, self.intercepts_)
            loss, gradient = objective(flat)
            dweights, dbiases = net.views(gradient)
            loss = np.float64(np.nan if loss_is_nan else loss)
            self.loss_ = loss  # that of the parameters, if Ctrl-C ends training here
            return loss, np.concatenate([g.ravel() for g in (*dweights, *dbiases)])

        return loss_and_gradient

    def _loss_grad_lbfgs(
        self, packed: Array, X: Any, y: Array, sample_weight: Array | None, *buffers: Any
    ) -> tuple[float, Array]:
        objective = self.__dict__.get("_objective") or self._plan_objective(X, y, sample_weight)
        return objective(packed)

    def _rule(self) -> Optimizer:
        """Return pynn's optimizer for the solver and its parameters."""
        decay: float = self.weight_decay
        if self.solver == "adam":
            settings = self.beta_1, self.beta_2, self.epsilon
            return AdamW(*settings, decay) if decay else AdamHat(*settings)
        if decay:
            raise ValueError(
                f"weight_decay: found {decay!r} with solver='sgd', expected 0, or solver='adam'; "
                "alpha sets the L2 term"
            )
        momentum: float = self.momentum
        if momentum == 0:
            return SGD()
        return (Nesterov if self.nesterovs_momentum else Momentum)(momentum)

    def _set_up_optimizer(self, core: Core) -> None:
        # scikit-learn's optimizers get no parameters to update: they apply its rules for the
        # learning rate only.
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
        self._slots = [aligned_like(core.flat) for _ in range(self._update_rule.slots)]
        self._updates = 0

    def _prepare_core(self, incremental: bool) -> Core:
        """Return the core to train, with optimizer state of its shape and dtype."""
        core = self._current()
        if (
            core is None
            or core.net != self._architecture(self.coefs_, core.net.dtype)
            or core.threads != thread_limit(self.threads)
        ):
            core = self._adopt()
        slots: list[Array] = self.__dict__.get("_slots", [])
        same_shape = all(s.shape == core.flat.shape for s in slots)
        if not (incremental and hasattr(self, "_optimizer") and same_shape):
            self._set_up_optimizer(core)
        elif any(s.dtype != core.flat.dtype or not s.flags.writeable for s in slots):
            # A program assigned coefs_ of another dtype, or the arrays were read memory-mapped.
            self._slots = [aligned_like(core.flat, s) for s in slots]
        if "_epochs" not in self.__dict__:  # a program assigned coefs_ instead of fitting
            self._epochs, self.history_, self.validation_loss_curve_ = 0, History(), None
        return core

    def _fit_stochastic(self, X: Any, y: Array, sample_weight: Array | None, *rest: Any) -> None:
        layer_units, incremental = rest[-2:]
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        outputs = self._check_layers(layer_units)
        core = self._prepare_core(incremental)
        rows = self._hold_out(X, y, sample_weight)
        # With one column of y for several outputs, scikit-learn trains all of them on it.
        rows = rows._replace(y=np.broadcast_to(rows.y, (len(rows.y), outputs)))
        epochs = 1 if incremental else self.max_iter
        run = Fit(self, core, rows, epochs)
        try:
            try:
                run.epochs(epochs, incremental)
            except KeyboardInterrupt:
                self._trained = True  # as in scikit-learn, also before the first update
                warn("Training interrupted by user.")
            finally:
                run.end()
        except BaseException:
            run.end()  # the first call may have been interrupted
            raise
        if self.early_stopping:
            best = {"coefs_": self._best_coefs, "intercepts_": self._best_intercepts}
            self.__dict__.update(best)
            self._adopt()
            scores = self.validation_scores_ or []
            if scores and len(scores) == len(self.history_):
                self.history_.restored_epoch = self.history_.epoch[
                    int(np.nan_to_num(scores, nan=-np.inf).argmax())
                ]
        run.call_on_fit_end()

    def _hold_out(self, X: Any, y: Array, sample_weight: Array | None) -> TrainingRows:
        """Divide the rows into training and validation rows, with scikit-learn's random draws."""
        if self.__dict__.get("_validation") is not None:
            return TrainingRows(X, y, sample_weight, *self._given_validation(X.dtype))
        if not self.early_stopping:
            return TrainingRows(X, y, sample_weight)
        rows = np.arange(X.shape[0])
        parts = train_test_split(
            *((X, y, rows) if sample_weight is None else (X, y, rows, sample_weight)),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )
        x_train, x_held, y_train, y_held = parts[:4]
        self._tasks.train_on(parts[4])
        w_train, w_held = parts[6:] or (None, None)
        if x_held.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        return TrainingRows(x_train, y_train, w_train, x_held, y_held, w_held)

    def _given_validation(self, dtype: Any) -> tuple[Any, Array]:
        """Return ``validation_data`` checked, y (n, n_outputs)."""
        given = self._validation
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ValueError(
                f"validation_data: found a {type(given).__name__}, expected a pair (X, y)"
            )
        X, y = validate_data(
            self,
            *map(collected, given),
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=not is_classifier(self),
            dtype=(np.float64, np.float32),
            reset=False,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = as_vector(y, warn=True)
        if is_classifier(self):
            y = self._binarize(y)
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"validation_data: found {y.shape[1]} columns of y, expected {self.n_outputs_}"
            )
        return cast_rows(X, dtype), y
