"""Pickles of estimators written when pynn.sklearn was a module instead of a package.

``earlier_files`` was written by commit 94f5bfd with Python 3.11, scikit-learn 1.9 and pickle
protocol 4: two fitted estimators, their predictions, and the predictions after training on.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import pynn
from pynn.sklearn import MLPClassifier, MLPRegressor

FILES = Path(__file__).parent / "earlier_files"

X = ((np.arange(90) * 7) % 16 / 8 - 1).reshape(30, 3)
LABELS = np.array(["a", "b", "c"])[np.arange(30) * 5 % 7 % 3]
VALUES = np.column_stack([X.sum(axis=1), X[:, 0] * X[:, 1]])

# BLAS libraries differ in the order of their sums.
CLOSE = {"rtol": 1e-9, "atol": 1e-12}

# Not converged, and pickled with another version of scikit-learn.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def estimators():
    return pickle.loads((FILES / "estimators.pickle").read_bytes())


@pytest.fixture
def expected():
    with np.load(FILES / "estimators.npz") as file:
        return dict(file)


def test_pickled_classifier_predicts_and_trains_on(estimators, expected):
    one = estimators["classifier"]
    assert type(one) is MLPClassifier
    assert (len(one.history_), one.callbacks.monitor) == (3, "loss")
    assert one.schedule == pynn.StepDecay(every=2)
    np.testing.assert_allclose(one.predict_proba(X), expected["probabilities"], **CLOSE)
    one.fit(X, LABELS)  # warm_start=True
    np.testing.assert_allclose(one.predict_proba(X), expected["probabilities_after"], **CLOSE)


def test_pickled_regressor_predicts_and_trains_on(estimators, expected):
    one = estimators["regressor"]
    assert type(one) is MLPRegressor
    assert one.history_.validation_loss == one.validation_loss_curve_
    np.testing.assert_allclose(one.predict(X), expected["values"], **CLOSE)
    one.partial_fit(X, VALUES)  # with the momentum of the updates before
    np.testing.assert_allclose(one.predict(X), expected["values_after"], **CLOSE)


def test_new_pickles_name_the_public_module():
    assert b"pynn.sklearn\nMLPClassifier" in pickle.dumps(MLPClassifier(), 0)
