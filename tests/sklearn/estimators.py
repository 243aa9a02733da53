"""Small estimators and data for the tests of what pynn.sklearn adds to scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")
from sklearn import datasets, neural_network
from sklearn.preprocessing import scale

from pynn.sklearn.estimators import MLPClassifier, MLPRegressor

X, Y = datasets.load_wine(return_X_y=True)
MIXED = np.random.RandomState(0).permutation(len(X))
X, Y = scale(X)[MIXED], Y[MIXED]
X_TEST, Y_TEST, X, Y = X[:50], Y[:50], X[50:], Y[50:]
Z = X[:, 0] - np.sin(X[:, 1])
BOTH = [(MLPClassifier, Y), (MLPRegressor, Z)]


def small(cls=MLPClassifier, **settings):
    settings = {"hidden_layer_sizes": (9,), "max_iter": 6, "random_state": 1, **settings}
    return cls(**{"learning_rate_init": 0.01, **settings})


def theirs(cls=MLPClassifier, **settings):
    return small(getattr(neural_network, cls.__name__), **settings)


def vector(estimator):
    """A copy of all coefficients and intercepts."""
    return np.concatenate([a.ravel() for a in estimator.coefs_ + estimator.intercepts_])


def alike(a, b):
    """Whether two estimators are the same to the last bit."""
    return np.array_equal(vector(a), vector(b)) and vector(a).dtype == vector(b).dtype


def log_loss_of(estimator, x, y):
    found = np.clip(estimator.predict_proba(x), 1e-15, 1 - 1e-15)
    return -np.log(found[np.arange(len(y)), y]).mean()
