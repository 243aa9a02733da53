"""``to_sklearn``: the estimators as those of scikit-learn."""

from __future__ import annotations

import copy
from typing import Any

from sklearn.neural_network import _multilayer_perceptron as sklearn_mlp
from sklearn.utils.validation import check_is_fitted

_ACTIVATIONS = {"sigmoid": "logistic"}
"""scikit-learn's names of activations that have another in pynn."""

_FITTED = (
    *("coefs_", "intercepts_", "n_layers_", "n_outputs_", "out_activation_", "classes_"),
    *("n_features_in_", "feature_names_in_", "_label_binarizer", "_random_state"),
    *("n_iter_", "t_", "loss_", "loss_curve_", "best_loss_", "_no_improvement_count"),
    *("validation_scores_", "best_validation_score_"),
)
"""Fitted attributes of scikit-learn's perceptrons, without the state of the optimizer."""


class Convertible:
    """Base class of the estimators."""

    def to_sklearn(self) -> Any:
        """Return the same fitted estimator as an object of scikit-learn's own class.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            A copy with the parameters that scikit-learn has. Parameters that change training alone,
            such as ``dropout``, ``schedule`` or the additional losses, are not carried over, and
            the optimizer begins anew in ``partial_fit``.

        Raises
        ------
        ValueError
            If the hidden layers have activations that scikit-learn does not have, or different
            ones.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        owner: Any = self
        kind = sklearn_mlp.MLPRegressor
        if isinstance(owner, sklearn_mlp.MLPClassifier):
            kind = sklearn_mlp.MLPClassifier
        parameters = {name: getattr(owner, name) for name in kind._get_param_names()}
        parameters["activation"] = _activation(owner)
        if parameters.get("loss", "") not in ("", "squared_error", "poisson"):
            parameters["loss"] = "squared_error"
        made = kind(**parameters)
        found = {name: vars(owner)[name] for name in _FITTED if name in vars(owner)}
        vars(made).update(copy.deepcopy(found))
        # Views of one vector become arrays of their own.
        made.coefs_ = [w.copy() for w in owner.coefs_]
        made.intercepts_ = [b.copy() for b in owner.intercepts_]
        if owner.early_stopping:  # a warm start that finds no better ones ends with these
            made._best_coefs = [w.copy() for w in owner.coefs_]
            made._best_intercepts = [b.copy() for b in owner.intercepts_]
        return made


def _activation(owner: Any) -> str:
    """Return the activation of all hidden layers as scikit-learn names it."""
    hidden = len(owner.coefs_) - 1
    names = list(dict.fromkeys(owner._activations(hidden))) if hidden else ["relu"]
    name = _ACTIVATIONS.get(names[0], names[0])
    if len(names) > 1 or name not in ("identity", "logistic", "tanh", "relu"):
        raise ValueError(
            f"activation: found {', '.join(map(repr, names))}, expected one of 'identity', "
            "'logistic', 'tanh' and 'relu' for all hidden layers, as scikit-learn has it"
        )
    return str(name)
