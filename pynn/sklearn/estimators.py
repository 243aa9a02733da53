"""The public classes: parameters, documentation, and what differs between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import _multilayer_perceptron as sklearn_mlp
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ..spec.activations import Parametric
from ..spec.losses import Huber, LossFunction, MeanAbsoluteError, Quantile
from ..training.history import Record
from .parameters import CONSTRAINTS
from .perceptron import Perceptron

Array = np.ndarray
_Class = TypeVar("_Class", bound=type[Perceptron])

REGRESSION_LOSSES: dict[str, Callable[[Any], LossFunction]] = {
    "absolute_error": lambda owner: MeanAbsoluteError(),
    "huber": lambda owner: Huber(float(owner.delta)),
    "quantile": lambda owner: Quantile(float(owner.quantile)),
}
"""Losses of the regressor that scikit-learn's does not have."""

_PARAMETERS = """hidden_layer_sizes, solver, alpha, batch_size, learning_rate, learning_rate_init, \
power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, \
early_stopping, validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
    As in :class:`sklearn.neural_network.{name}`, with the same defaults.
activation : str, pynn.LeakyReLU, pynn.ELU, pynn.Softplus or sequence of them, default="relu"
    ``identity``, ``logistic``, ``tanh``, ``relu``; new: all other names that ``pynn.Network``
    takes, such as ``gelu`` and ``silu``, objects such as ``pynn.LeakyReLU(0.2)``, and a list of
    one activation per hidden layer.
dropout : float or sequence of float, default=0
    New. Probability in [0, 1) of dropping a unit in training, for all hidden layers or one per
    layer. Not supported by ``solver="lbfgs"``.
init : str, sequence of str or None, default=None
    New. Initial weights, for all layers or one per layer: ``he_normal``, ``he_uniform``,
    ``glorot_normal``, ``glorot_uniform``, ``lecun_normal``, ``lecun_uniform``, ``normal`` or
    ``zeros``. None uses scikit-learn's formula.
weight_decay : float, default=0
    New. Decoupled weight decay (AdamW) for ``solver="adam"``, in addition to ``alpha``.
schedule : str, object such as pynn.Cosine(), function or None, default=None
    New. Factor on the learning rate for each step: ``cosine``, ``cosine_restarts``,
    ``flat_cosine``, ``one_cycle``, ``warm_up``, ``step``, ``exponential``, ``inverse_time``, an
    object such as ``pynn.StepDecay(every=5)``, or a function of the time in epochs; ``max_iter``
    is the horizon. Not ``ReduceOnPlateau``.
dtype : "float32", "float64" or None, default=None
    New. Dtype of the computation; None uses the dtype of X.
threads : int or None, default=None
    New. Maximum number of threads, up to 4096. With None pynn chooses, and uses one thread
    inside a parallel call of joblib, such as a grid search. Results do not depend on it.
callbacks : function, pynn.Callback, list of them or None, default=None
    New. Called as ``f(estimator, record)`` after every epoch; training stops when one returns
    True. See :mod:`pynn.callbacks`.
progress : bool, "auto" or function, default=False
    New. A progress bar, or lines of text if rich is not installed; or a function called with
    the record of each epoch."""
"""Documentation of the parameters that both classes have."""

_ATTRIBUTES = """validation_loss_curve_ : list of float or None
    New. Loss on the validation rows after every epoch, without the L2 term, or NaN if the
    validation was interrupted; None without validation rows.
history_ : pynn.History
    New. One record per epoch; its ``loss`` equals ``loss_curve_``.
parameters : ndarray (n_parameters,)
    New. All coefficients and intercepts in one vector."""


def _with_shared_documentation(cls: _Class) -> _Class:
    """Insert the shared documentation of parameters and attributes into the class docstring."""
    if cls.__doc__ is not None:  # it is None under python -OO
        text = inspect.cleandoc(cls.__doc__)
        text = text.replace("PARAMETERS_OF_BOTH", _PARAMETERS.format(name=cls.__name__))
        cls.__doc__ = text.replace("ATTRIBUTES_OF_BOTH", _ATTRIBUTES)
    return cls


def _without_self(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``__init__`` from its local variables."""
    return {key: value for key, value in variables.items() if key not in ("self", "__class__")}


@_with_shared_documentation
class MLPClassifier(Perceptron, sklearn_mlp.MLPClassifier):  # type: ignore[misc]
    """scikit-learn's MLPClassifier on pynn's core.

    Parameters
    ----------
    PARAMETERS_OF_BOTH
    class_weight : dict, pandas series, list of dict, "balanced" or None, default=None
        New. Weights of the classes, multiplied by ``sample_weight``. ``"balanced"`` gives all
        classes the same total weight.

    Attributes
    ----------
    ATTRIBUTES_OF_BOTH

    Raises
    ------
    ValueError, TypeError
        At ``fit``, as in scikit-learn.

    Notes
    -----
    The other fitted attributes are scikit-learn's: ``coefs_``, ``intercepts_``, ``loss_``,
    ``best_loss_``, ``loss_curve_``, ``validation_scores_``, ``best_validation_score_``, ``t_``,
    ``n_iter_``, ``n_layers_``, ``n_outputs_``, ``out_activation_``, ``classes_``,
    ``n_features_in_``, ``feature_names_in_``.
    """

    __module__ = "pynn.sklearn"  # named in pickles, which other versions read too

    _parameter_constraints: ClassVar[dict] = {
        **sklearn_mlp.MLPClassifier._parameter_constraints,
        **CONSTRAINTS,
        "class_weight": [dict, list, HasMethods("to_dict"), StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str | Parametric | Sequence[str | Parametric] = "relu",
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
        super().__init__(**_without_self(locals()))

    def _binarize(self, y: Array) -> Array:
        wrong: Any = np.setdiff1d(y, self.classes_) if y.ndim == 1 else []
        if len(wrong):
            raise ValueError(
                f"validation_data: found the label {wrong[0]!r}, expected one of y's: "
                f"{self.classes_}"
            )
        return self._label_binarizer.transform(y).astype(bool)

    def _labels_of(self, y: Array) -> Array:
        return self._label_binarizer.inverse_transform(y)

    def _labels(self, out: Array) -> Array:
        """Return the labels for outputs (n, n_outputs), as LabelBinarizer inverts them."""
        binarizer = self._label_binarizer
        if binarizer.y_type_ == "multiclass":
            return self.classes_.take(out.argmax(axis=1), mode="clip")
        if binarizer.y_type_ == "binary" and len(self.classes_) == 2:
            return self.classes_[(out[:, 0] > 0.5).astype(np.intp)]
        return binarizer.inverse_transform(out.ravel() if self.n_outputs_ == 1 else out)

    def _score_outputs(self, y: Array, out: Array, sample_weight: Array | None) -> float:
        found = self._labels(out)
        # Multilabel targets that were sparse have sparse labels.
        if sample_weight is not None or not isinstance(found, np.ndarray):
            return float(accuracy_score(y, found, sample_weight=sample_weight))
        correct = found == y  # without checks that take longer than an epoch of few rows
        if correct.ndim == 2:
            correct = correct.all(axis=1)
        return float(np.mean(correct))

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


@_with_shared_documentation
class MLPRegressor(Perceptron, sklearn_mlp.MLPRegressor):  # type: ignore[misc]
    """scikit-learn's MLPRegressor on pynn's core.

    Parameters
    ----------
    PARAMETERS_OF_BOTH
    loss : str, default="squared_error"
        ``squared_error`` and ``poisson`` as in :class:`sklearn.neural_network.MLPRegressor`; new:
        ``absolute_error``, ``huber`` and ``quantile`` (the pinball loss). With several outputs the
        last three are sums over them, as ``poisson`` is.
    quantile : float, default=0.5
        New. The quantile in (0, 1) that ``loss="quantile"`` estimates, as in
        :class:`sklearn.linear_model.QuantileRegressor`.
    delta : float, default=1
        New. The error above which ``loss="huber"`` is linear.

    Attributes
    ----------
    ATTRIBUTES_OF_BOTH

    Raises
    ------
    ValueError, TypeError
        At ``fit``, as in scikit-learn.

    Notes
    -----
    The other fitted attributes are scikit-learn's: ``coefs_``, ``intercepts_``, ``loss_``,
    ``best_loss_``, ``loss_curve_``, ``validation_scores_``, ``best_validation_score_``, ``t_``,
    ``n_iter_``, ``n_layers_``, ``n_outputs_``, ``out_activation_``,
    ``n_features_in_``, ``feature_names_in_``.
    """

    __module__ = "pynn.sklearn"  # named in pickles, which other versions read too

    _parameter_constraints: ClassVar[dict] = {
        **sklearn_mlp.MLPRegressor._parameter_constraints,
        **CONSTRAINTS,
        "loss": [StrOptions({"squared_error", "poisson", *REGRESSION_LOSSES})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "delta": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str | Parametric | Sequence[str | Parametric] = "relu",
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
        quantile: float = 0.5,
        delta: float = 1.0,
        init: str | Sequence[str] | None = None,
        weight_decay: float = 0.0,
        schedule: Any = None,
        dtype: Any = None,
        threads: int | None = None,
        callbacks: Any = None,
        progress: bool | str | Callable[[Record], object] = False,
    ) -> None:
        super().__init__(**_without_self(locals()))

    def _core_loss(self) -> str | LossFunction:
        if self.out_activation_ == "identity" and self.loss in REGRESSION_LOSSES:
            return REGRESSION_LOSSES[self.loss](self)
        return super()._core_loss()

    def _labels_of(self, y: Array) -> Array:
        return y

    def _score_outputs(self, y: Array, out: Array, sample_weight: Array | None) -> float:
        if not np.isfinite(out).all():
            return float("nan")
        return float(r2_score(y, out, sample_weight=sample_weight))

    def predict(self, X: Any) -> Array:
        """Return the predicted values.

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
