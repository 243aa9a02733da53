"""Further steps on plain arrays, which skip scikit-learn's checks, train as those with them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from pynn.sklearn import MLPClassifier, MLPRegressor, further

SETTINGS: dict[str, Any] = {"hidden_layer_sizes": (7,), "random_state": 3}


def both_ways(estimator: Any, X: Any, y: Any) -> bool:
    """Train a further step with and without the checks; return whether they are skipped."""
    other = copy.deepcopy(estimator)
    skips = further.checked(estimator, X, y) is not None
    estimator.partial_fit(X, y)
    other.partial_fit(X.tolist() if X.dtype == np.float64 else X[::-1][::-1].copy(), list(y))
    for w, v in zip(estimator.coefs_, other.coefs_, strict=True):
        assert w.tobytes() == v.tobytes()
    np.testing.assert_array_equal(estimator.predict(X), other.predict(X))
    return skips


@pytest.mark.parametrize("labels", [[0, 1], [3, 5, 9], ["no", "yes"], [False, True], [2.0, 3.0]])
def test_labels(labels: list[Any]) -> None:
    rng = np.random.default_rng(0)
    X, classes = rng.normal(size=(20, 5)), np.array(labels)
    y = classes[rng.integers(0, len(classes), 20)]
    estimator = MLPClassifier(**SETTINGS).partial_fit(X, y, classes=classes)
    assert both_ways(estimator, X, y) == (classes.dtype.kind != "f")
    assert both_ways(estimator, X[:1], y[:1]) == (classes.dtype.kind != "f")
    with pytest.raises(ValueError, match="classes not in"):
        estimator.partial_fit(X[:1], classes[:1] + classes[-1:] if labels[0] == "no" else [77])
    if classes.dtype.kind == "i":
        with pytest.raises(ValueError, match="classes not in"):
            estimator.partial_fit(X[:2], np.array([labels[0], 77]))


def test_values() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 5)), rng.normal(size=20)
    estimator = MLPRegressor(**SETTINGS).partial_fit(X, y)
    assert both_ways(estimator, X, y)
    assert not both_ways(estimator, X, (y > 0).astype(int))


def test_what_the_checks_refuse_they_see() -> None:
    X, y = np.ones((3, 2)), np.array([0, 1, 1])
    estimator = MLPClassifier(**SETTINGS).partial_fit(X, y, classes=[0, 1])
    wrong = X.copy()
    wrong[1, 1] = np.nan
    for rows, labels, message in (
        (wrong, y, "NaN"),
        (X[:, :1], y, "features"),
        (X[:0], y[:0], "sample"),
        (X, y[:2], "inconsistent"),
        (X[0], y[:1], "2D"),
    ):
        with pytest.raises(ValueError, match=message):
            estimator.partial_fit(rows, labels)
    with pytest.raises(ValueError, match="NaN|infinity"):
        MLPRegressor(**SETTINGS).partial_fit(X, X[:, 0]).partial_fit(X, wrong[:, 1])
