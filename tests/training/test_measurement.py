"""Metrics in ``fit`` and ``evaluate``: values, directions, files, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pynn

from . import runs

Data = tuple[np.ndarray, np.ndarray]

METRICS = ["auc", "f1", "log_loss", "top_2"]


def make(**more: Any) -> pynn.Network:
    return pynn.Network([4, 8, 3], **{"backend": "numpy", "dropout": 0.3, "seed": 3} | more)


def fit(net: pynn.Network, data: Data, **more: Any) -> pynn.History:
    return net.fit(*data, **{"epochs": 3, "batch_size": 16, "progress": False} | more)


@pytest.mark.parametrize("backend", runs.BACKENDS)
def test_metrics_are_those_of_evaluate_after_each_epoch(blobs: Data, backend: str) -> None:
    held, seen = (blobs[0][:50], blobs[1][:50]), []

    def look(net: pynn.Network, record: pynn.Record) -> None:
        here = net.evaluate(*held, metrics=METRICS)
        here = {f"validation_{name}": here[name] for name in METRICS}
        there = net.evaluate(*blobs, metrics=METRICS)
        seen.append(here | {name: there[name] for name in METRICS})

    net, plain = make(backend=backend), make(backend=backend)
    settings: dict[str, Any] = {"validation": held, "label_smoothing": 0.1}
    history = fit(net, blobs, metrics=METRICS, training_metrics=True, callbacks=look, **settings)
    assert [record.metrics for record in history] == seen
    assert history["val_auc"] == [values["validation_auc"] for values in seen]
    # Measuring does not change the training.
    without = fit(plain, blobs, **settings)
    assert plain.parameters.tobytes() == net.parameters.tobytes()
    assert without.validation_loss == history.validation_loss
    assert without[0].metrics is None


def test_functions_and_the_accuracy(blobs: Data) -> None:
    def share_of_ones(y_true, y_pred):
        return np.mean(y_pred == 1)

    net = make()
    history = fit(net, blobs, validation=0.2, metrics=["accuracy", share_of_ones])
    assert list(history[-1].metrics or ()) == ["validation_share_of_ones"]
    found = net.evaluate(*blobs, metrics=["accuracy", share_of_ones])
    assert list(found) == ["loss", "accuracy", "share_of_ones"]
    assert found["share_of_ones"] == np.mean(net.predict(blobs[0]) == 1)
    assert list(net.evaluate(*blobs)) == ["loss", "accuracy"]


def test_regression(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    net = pynn.Network([4, 3, 1], loss="mse", backend="numpy")

    def bias(y_true, y_pred):
        assert y_true.shape == y_pred.shape == (60,)
        return np.mean(y_pred - y_true)

    history = fit(net, (x, y), metrics=["mae", "r2", bias], training_metrics=True)
    error = net.predict(x) - y
    found = net.evaluate(x, y, metrics="rmse")
    assert history.mae[-1] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert history.bias[-1] == pytest.approx(error.mean(), rel=1e-5)
    assert history.r2[-1] == pytest.approx(1 - (error**2).mean() / y.var(), rel=1e-5)
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"metrics": "auc"}, ValueError, "metrics: found auc without validation rows, expected"),
        ({"metrics": "r2", "validation": 0.2}, ValueError, "metrics: found 'r2' for classes"),
        ({"training_metrics": True}, ValueError, "training_metrics: found True and no metrics"),
        ({"training_metrics": 1, "metrics": "f1"}, TypeError, "training_metrics: found 1, expec"),
        (
            {"callbacks": pynn.EarlyStopping("val_auc"), "metrics": "f1", "validation": 0.2},
            ValueError,
            "EarlyStopping.monitor: found 'validation_auc', expected one of .*validation_f1",
        ),
        (
            {"callbacks": pynn.EarlyStopping("validation_los")},
            ValueError,
            "EarlyStopping.monitor: found 'validation_los'.*did you mean 'validation_loss'",
        ),
    ],
)
def test_refused_arguments(
    blobs: Data, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    net = make()
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        fit(net, blobs, **settings)
    assert net.parameters.tobytes() == before.tobytes()


def test_a_function_must_not_take_the_name_of_another_value(blobs: Data) -> None:
    def seconds(y_true, y_pred):
        return 1.0

    with pytest.raises(ValueError, match="metrics: found a function named 'seconds'"):
        fit(make(), blobs, metrics=seconds, validation=0.2)


@pytest.mark.parametrize("larger", [True, False])
def test_early_stopping_takes_the_direction_from_the_metric(blobs: Data, larger: bool) -> None:
    values = iter([3.0, 4.0, 2.0, 5.0, 1.0, 0.5])
    metric = pynn.Metric("made_up", lambda y, p: next(values), larger_is_better=larger)
    stop = pynn.EarlyStopping("val_made_up", patience=2)
    history = fit(make(), blobs, epochs=6, validation=0.2, metrics=metric, callbacks=stop)
    best = (5.0, 4, 6) if larger else (0.5, 6, None)
    assert (stop.best, stop.best_epoch, stop.stopped_epoch) == best
    assert len(history) == 6
    stop = pynn.EarlyStopping("val_auc", threshold=0.6)
    history = fit(make(), blobs, epochs=50, validation=0.2, metrics="auc", callbacks=stop)
    assert len(history) < 50
    assert history.validation_auc[-1] >= 0.6 > max(history.validation_auc[:-1], default=0)


def test_undefined_metrics_warn_once_in_a_call(blobs: Data) -> None:
    one_class = blobs[0][blobs[1] == 1], blobs[1][blobs[1] == 1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(make(), blobs, validation=one_class, metrics=["auc", "f1"])
    (warning,) = caught
    assert str(warning.message).startswith("metrics: found NaN for auc of 50 rows, exp")
    assert warning.filename == __file__
    assert np.isnan(history.validation_auc).all()


def test_files_have_the_metrics(blobs: Data, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    net = make()
    fit(net, blobs, validation=0.2, metrics=METRICS)
    net.save(tmp_path / "model")
    loaded = pynn.load(tmp_path / "model", backend="numpy")
    assert loaded.history == net.history
    assert list(loaded.history.metrics) == [f"validation_{name}" for name in METRICS]
    # Epochs without metrics have none.
    fit(loaded, blobs)
    assert loaded.history["validation_auc"][3:] == [None] * 3
    loaded.save(tmp_path / "model")
    assert pynn.load(tmp_path / "model").history == loaded.history


def test_a_resumed_run_has_the_metrics(blobs: Data, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "run"
    checkpoint = pynn.Checkpoint(path, epochs=1)
    more: dict[str, Any] = {"validation": 0.2, "metrics": METRICS}
    whole, resumed = runs.make(), runs.make()
    runs.fit(whole, blobs, callbacks=pynn.EarlyStopping("val_auc", 30), **more)
    runs.broken_off(path, blobs, 7, callbacks=[pynn.EarlyStopping("val_auc", 30)], **more)
    more |= {"checkpoint": checkpoint, "resume": True}
    for found in ([], "f1"):
        with pytest.raises(ValueError, match="metrics: found .* but the run in .* has .*auc"):
            runs.fit(resumed, blobs, **more | {"metrics": found})
    more["metrics"] = METRICS[::-1]  # in any order
    history = runs.fit(resumed, blobs, callbacks=pynn.EarlyStopping("val_auc", 30), **more)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert [record.metrics for record in history] == [r.metrics for r in whole.history]
    assert history.validation_auc == whole.history.validation_auc


def test_the_best_epoch_is_saved(blobs: Data, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    values = [3.0, 4.0, 2.0, 5.0, 4.5, 1.0]
    metric = pynn.Metric("made_up", lambda y, p: next(left))
    whole: dict[str, Any] = {"validation": 0.2, "metrics": metric, "epochs": 6}
    kept, run = tmp_path / "best", pynn.Checkpoint(tmp_path / "run", epochs=1)

    def best() -> pynn.SaveBest:
        return pynn.SaveBest(kept, "val_made_up")

    net, saved, left = runs.make(), best(), iter(values)
    runs.fit(net, blobs, callbacks=saved, **whole)
    assert (saved.best, saved.best_epoch) == (5.0, 4)
    found = pynn.load(kept, backend="numpy")
    left = iter(values[:4])
    until = runs.make()
    runs.fit(until, blobs, **whole | {"epochs": 4})
    runs.assert_same(found, until)

    # A resumed run knows the value of the file.
    left = iter(values)
    with pytest.raises(runs.Cut):
        runs.fit(runs.make(), blobs, callbacks=[best(), runs.cut(13)], checkpoint=run, **whole)
    kept.unlink()
    left, again = iter(values[4:]), best()
    runs.fit(runs.make(), blobs, callbacks=again, checkpoint=run, resume=True, **whole)
    assert (again.best, again.best_epoch) == (5.0, 4)
    assert not kept.exists()


def test_refused_files_of_the_best_epoch(blobs: Data, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="path: found 3, expected the path of a file"):
        pynn.SaveBest(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="callbacks: found no folder .*nowhere, expected"):
        fit(make(), blobs, callbacks=pynn.SaveBest(tmp_path / "nowhere" / "best", "loss"))
    with pytest.raises(ValueError, match="found SaveBest on 'validation_loss' but no validation"):
        fit(make(), blobs, callbacks=pynn.SaveBest(tmp_path / "best"))
    with pytest.raises(TypeError, match="callbacks: found SaveBest for a SimpleNamespace"):
        pynn.SaveBest(tmp_path / "best").on_fit_begin(SimpleNamespace())


def test_progress_shows_metrics(blobs: Data, capsys: pytest.CaptureFixture[str]) -> None:
    from pynn.training.progress import describe

    history = fit(make(), blobs, validation=0.2, metrics=["auc", "f1"], training_metrics=True)
    line = describe(history[-1])
    for name in ("validation_auc", "validation_f1", "auc", "f1"):
        assert f"  {name.replace('_', ' ')} {history[name][-1]:.4g}" in line


def test_metrics_without_complete_rows_are_refused_before_training(rng) -> None:
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    y[np.arange(40), np.arange(40) % 2] = np.nan

    def worst(y_true, y_pred):
        return np.abs(y_true - y_pred).max()

    net = pynn.Network([3, 2], loss="mse", backend="numpy")
    before = net.parameters.copy()
    more = {"missing_targets": "ignore", "progress": False, "epochs": 1}
    with pytest.raises(ValueError, match="metrics: found 'worst' and no row among 8 whose targets"):
        net.fit(x, y, validation=0.2, metrics=worst, **more)
    assert net.parameters.tobytes() == before.tobytes()
    assert net.epochs == 0
    with pytest.raises(ValueError, match="metrics: found 'worst' and no row among 40 whose target"):
        net.evaluate(x, y, missing_targets="ignore", metrics=worst)
    y[0] = 1.0
    with pytest.raises(ValueError, match="metrics: found 'worst' and no row among 10"):
        net.fit(x, y, validation=(x[10:20], y[10:20]), metrics=worst, **more)
    history = net.fit(x, y, validation=(x[:9], y[:9]), metrics=[worst, "mae"], **more)
    assert history[-1].validation_worst == worst(y[:1], net.predict(x[:1]))
