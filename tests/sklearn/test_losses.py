"""Losses of the regressor that scikit-learn's does not have."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")
from sklearn.base import clone
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from pynn.sklearn.estimators import MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = {"hidden_layer_sizes": (8,), "max_iter": 60, "random_state": 1, "dtype": "float64"}


@pytest.fixture
def data(rng):
    X = rng.normal(size=(200, 3))
    return X, X[:, 0] + rng.gumbel(size=200)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_losses_of_the_regressor(data, solver):
    X, y = data
    for loss, more in {
        "absolute_error": {},
        "huber": {"delta": 0.5},
        "quantile": {"quantile": 0.9},
    }.items():
        net = MLPRegressor(loss=loss, solver=solver, alpha=0.0, **more, **SETTINGS).fit(X, y)
        assert net.predict(X).shape == (200,)
        again = pickle.loads(pickle.dumps(net))
        np.testing.assert_array_equal(again.predict(X), net.predict(X))
        assert clone(net).get_params() == net.get_params()
        if solver == "lbfgs":
            expected = {
                "absolute_error": lambda a: mean_absolute_error(y, a),
                "quantile": lambda a: mean_pinball_loss(y, a, alpha=0.9),
            }.get(loss)
            if expected is not None:
                assert net.loss_ == pytest.approx(expected(net.predict(X)), rel=0.02)
            if loss == "quantile":
                assert 0.8 < (y < net.predict(X)).mean() < 0.97


def test_validation_loss_of_a_weighted_regressor(data):
    X, y = data
    net = MLPRegressor(loss="absolute_error", **{**SETTINGS, "max_iter": 2})
    net.fit(X, y, sample_weight=np.ones(200), validation_data=(X, y))
    found = net.validation_loss_curve_[-1]
    assert found == pytest.approx(mean_absolute_error(y, net.predict(X)))


@pytest.mark.parametrize(
    "settings", [{"loss": "absolute"}, {"loss": "quantile", "quantile": 1.0}, {"delta": 0.0}]
)
def test_wrong_losses_of_the_regressor(data, settings):
    with pytest.raises(ValueError, match="The '(loss|quantile|delta)' parameter of MLPRegressor"):
        MLPRegressor(**settings).fit(*data)


def test_pickles_without_the_parameters_have_their_defaults(data):
    net = MLPRegressor(**SETTINGS).fit(*data)
    state = {k: v for k, v in net.__getstate__().items() if k not in ("quantile", "delta")}
    old = MLPRegressor.__new__(MLPRegressor)
    old.__setstate__(state)
    assert old.quantile == 0.5
    assert old.delta == 1.0
