"""Estimators in files of joblib and skops, also to continue their training."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")
import pynn
from pynn.sklearn.estimators import MLPClassifier
from tests.sklearn.estimators import BOTH, X, alike, small

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = [
    {},
    {"solver": "sgd", "early_stopping": True},
    {"solver": "lbfgs"},
    {"weight_decay": 0.01, "dropout": 0.1, "activation": ["tanh"]},
]


def through_joblib(estimator, folder: Path):
    joblib.dump(estimator, folder / "estimator.joblib")
    return joblib.load(folder / "estimator.joblib", mmap_mode="r")


def through_skops(estimator, folder: Path):
    io = pytest.importorskip("skops.io")
    io.dump(estimator, folder / "estimator.skops")
    name = f"pynn.sklearn.{type(estimator).__name__}"
    assert io.get_untrusted_types(file=folder / "estimator.skops") == [name]
    return io.load(folder / "estimator.skops", trusted=[name])


WAYS = [through_joblib, through_skops, lambda one, _: copy.deepcopy(one)]


@pytest.mark.parametrize("way", WAYS, ids=["joblib", "skops", "copy"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.get("solver", "adam"))
@pytest.mark.parametrize("cls, y", BOTH)
def test_an_estimator_returns_and_continues(way, settings, cls, y, tmp_path: Path) -> None:
    one = small(cls, **settings).fit(X, y)
    again = way(one, tmp_path)
    assert alike(again, one)
    assert np.array_equal(again.predict(X), one.predict(X))
    assert again.history_ == one.history_
    assert isinstance(again.history_, pynn.History)
    assert again.history_.restored_epoch == one.history_.restored_epoch
    assert again.get_params() == one.get_params()
    if one.solver != "lbfgs" and not one.early_stopping:
        for _ in range(2):  # with moments and learning rates as before
            assert alike(again.partial_fit(X, y), one.partial_fit(X, y))
        assert again.loss_curve_ == one.loss_curve_
    again.set_params(max_iter=2).fit(X, y)


def test_an_unfitted_estimator_and_a_pipeline(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    io = pytest.importorskip("skops.io")
    assert through_skops(MLPClassifier((3,)), tmp_path).get_params()["hidden_layer_sizes"] == (3,)
    pipe = make_pipeline(StandardScaler(), small()).fit(X, BOTH[0][1])
    data = io.dumps(pipe)
    assert io.get_untrusted_types(data=data) == ["pynn.sklearn.MLPClassifier"]
    found = io.loads(data, trusted=["pynn.sklearn.MLPClassifier"])
    assert np.array_equal(found.predict_proba(X), pipe.predict_proba(X))
    with pytest.raises(Exception, match=r"pynn.sklearn.MLPClassifier"):
        io.loads(data, trusted=[])


def test_only_objects_of_parameters_need_more_trust() -> None:
    io = pytest.importorskip("skops.io")
    one = small(activation=pynn.LeakyReLU(0.2), schedule=pynn.StepDecay(every=2)).fit(X, BOTH[0][1])
    data = io.dumps(one)
    trusted = io.get_untrusted_types(data=data)
    assert len(trusted) == 3
    found = io.loads(data, trusted=trusted)
    assert np.array_equal(found.predict_proba(X), one.predict_proba(X))
    assert pickle.loads(pickle.dumps(one)).schedule == one.schedule
