"""Replace scikit-learn's classes in a running program."""

from __future__ import annotations

import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron as sklearn_mlp

from .estimators import MLPClassifier, MLPRegressor


def patch() -> None:
    """Replace the classes of :mod:`sklearn.neural_network` by pynn's.

    ``from sklearn.neural_network import MLPClassifier`` then imports pynn's class. Names imported
    before the call are not changed. :func:`unpatch` restores scikit-learn's classes.
    """
    sklearn.neural_network.MLPClassifier = MLPClassifier
    sklearn.neural_network.MLPRegressor = MLPRegressor


def unpatch() -> None:
    """Undo :func:`patch`."""
    sklearn.neural_network.MLPClassifier = sklearn_mlp.MLPClassifier
    sklearn.neural_network.MLPRegressor = sklearn_mlp.MLPRegressor
