"""Replace scikit-learn's classes in running code."""

from __future__ import annotations

import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron as theirs

from .estimators import MLPClassifier, MLPRegressor

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
