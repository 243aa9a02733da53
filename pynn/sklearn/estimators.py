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

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import r2_score
from sklearn.neural_network import _multilayer_perceptron as theirs
from sklearn.utils._param_validation import StrOptions

from ..training.history import Record
from .perceptron import _MORE_CONSTRAINTS, _Perceptron

Array = np.ndarray

__all__ = ["MLPClassifier", "MLPRegressor"]


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
