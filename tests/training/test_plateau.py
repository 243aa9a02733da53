"""``ReduceOnPlateau`` in ``fit``: a function of the history alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from tests.training.runs import Data, assert_same, broken_off, fit, make

PLATEAU = pynn.ReduceOnPlateau("loss", factor=0.5, patience=0, threshold=0.05)


def expected(schedule: pynn.ReduceOnPlateau, values: list[float], larger: bool) -> list[float]:
    ends = [schedule.given(values[:k], larger) for k in range(len(values))]
    return [1e-3 * float(end.factors(np.zeros(1), 0, 1)[0]) for end in ends]


@pytest.mark.parametrize("monitor", ["loss", "val_loss", "validation_accuracy", "validation_auc"])
def test_rates_follow_the_history(blobs: Data, monitor: str) -> None:
    schedule = pynn.ReduceOnPlateau(monitor, factor=0.5, patience=0, threshold=0.1)
    net = make()
    history = fit(net, blobs, epochs=12, schedule=schedule, validation=0.2, metrics="auc")
    assert history.learning_rate == expected(
        schedule, history[monitor], larger=not monitor.endswith("loss")
    )
    assert history.learning_rate[-1] < 1e-3


def test_two_calls_are_one(blobs: Data) -> None:
    whole, halves = make(), make()
    fit(whole, blobs, epochs=8, schedule=PLATEAU)
    for _ in range(2):
        fit(halves, blobs, epochs=4, schedule=PLATEAU)
    assert_same(halves, whole)
    assert whole.history.learning_rate[-1] < 1e-3


def test_epochs_without_the_value_are_left_out(blobs: Data) -> None:
    net = make()
    fit(net, blobs, epochs=3)
    schedule = pynn.ReduceOnPlateau(factor=0.5, patience=0, threshold=1.0)
    fit(net, blobs, epochs=3, validation=0.2, schedule=schedule)
    assert net.history.learning_rate == [1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 5e-4]


@pytest.mark.parametrize("after", [6, 12, 15])
def test_a_resumed_run_ends_identically(tmp_path: Path, blobs: Data, after: int) -> None:
    settings: dict[str, Any] = {
        "schedule": pynn.WarmUp(1.5, PLATEAU),
        "validation": 0.1,
        "epochs": 8,
        "callbacks": [pynn.EarlyStopping("loss", patience=8)],
    }
    whole, resumed = make(), make()
    fit(whole, blobs, **settings)
    assert whole.history.learning_rate[-1] < 1e-3
    broken_off(tmp_path / "a", blobs, after, steps=3, **settings)
    fit(
        resumed, blobs, checkpoint=pynn.Checkpoint(tmp_path / "a", steps=3), resume=True, **settings
    )
    assert_same(resumed, whole)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("validation_loss", "schedule: found ReduceOnPlateau on 'validation_loss' but no valida"),
        ("validation_f1", "schedule: ReduceOnPlateau.monitor: found 'validation_f1', expected one"),
    ],
)
def test_a_value_that_is_not_measured_is_refused(blobs: Data, monitor: str, message: str) -> None:
    net = make()
    before = net.parameters.copy()
    for schedule in (pynn.ReduceOnPlateau(monitor), pynn.WarmUp(1, pynn.ReduceOnPlateau(monitor))):
        named = message.replace("ReduceOnPlateau", type(schedule).__name__)
        with pytest.raises(ValueError, match=named):
            fit(net, blobs, schedule=schedule)
    assert net.parameters.tobytes() == before.tobytes()
    assert net.epochs == 0


def test_regression_has_no_accuracy(blobs: Data) -> None:
    x, _ = blobs
    net = pynn.Network([4, 3, 1], loss="mse", backend="numpy")
    with pytest.raises(ValueError, match="'accuracy', expected a loss: regression has no"):
        net.fit(x, x[:, :1], schedule=pynn.ReduceOnPlateau("accuracy"), progress=False)


def test_estimators_have_no_history(blobs: Data) -> None:
    pytest.importorskip("sklearn")
    from pynn.sklearn import MLPClassifier

    with pytest.raises(ValueError, match="follows a history that only Network.fit has"):
        MLPClassifier((3,), schedule=PLATEAU).fit(*blobs)
