"""``fit(ema=…)``: the moving average of the parameters as a part of the model."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import gaps
from pynn.files.tensors import load_tensors, save_tensors
from pynn.training import divergence
from tests.training.runs import BACKENDS, Data, assert_same, broken_off, fit, make

NOISE: dict[str, Any] = {
    "input_dropout": 0.1,
    "input_noise": 0.1,
    "hidden_noise": 0.1,
    "norm": "layer",
}


def network(backend: str, **more: Any) -> dict[str, Any]:
    lacking = [gap for gap in ("noise", "norm") if gaps.lacks(backend, gap)]
    noise = {"input_dropout": 0.1} if lacking else NOISE
    return {"backend": backend, "standardize": True, **noise, **more}


def outputs(net: pynn.Network, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The outputs of the same network with other parameters and no average."""
    other = copy.copy(net)
    other.parameters = parameters
    assert other.average is None
    return other.predict_proba(x)


def average_of(net: pynn.Network) -> np.ndarray:
    assert net.average is not None
    return net.average.copy()


@pytest.mark.parametrize("backend", BACKENDS)
def test_predictions_use_the_average(tmp_path: Path, blobs: Data, backend: str) -> None:
    x, y = blobs
    net, plain = make(**network(backend)), make(**network(backend))
    history = fit(net, blobs, ema=0.95, validation=blobs, metrics="f1")
    fit(plain, blobs)
    # What trains is not changed by the average.
    np.testing.assert_array_equal(net.parameters, plain.parameters)
    average = average_of(net)
    assert (average != net.parameters).any()
    expected = outputs(net, average, x)
    np.testing.assert_array_equal(net.predict_proba(x), expected)
    np.testing.assert_array_equal(net.activations(x, -1), expected)
    other = copy.copy(net)
    other.parameters = average
    np.testing.assert_array_equal(net.activations(x, 0), other.activations(x, 0))
    found = net.evaluate(x, y, metrics="f1")
    assert found["loss"] == history.validation_loss[-1]
    assert found["f1"] == history["validation_f1"][-1]
    net.save(tmp_path / "model")
    copies = [
        pynn.load(tmp_path / "model", backend=backend),
        pickle.loads(pickle.dumps(net)),
        copy.deepcopy(net),
    ]
    fit(net, blobs, ema=0.95)
    for again in copies:
        np.testing.assert_array_equal(average_of(again), average)
        np.testing.assert_array_equal(again.predict_proba(x), expected)
        fit(again, blobs, ema=0.95)
        assert_same(again, net)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("after", [3, 8, 13])
def test_a_resumed_run_ends_identically(
    tmp_path: Path, blobs: Data, backend: str, after: int
) -> None:
    """Also with an optimizer that began after the average, and with EarlyStopping."""
    settings: dict[str, Any] = {"ema": 0.9, "validation": 0.1}
    whole, cut, resumed = (make(**network(backend, threads=k)) for k in (1, 2, 3))
    for net in (whole, cut, resumed):
        fit(net, blobs, epochs=1, ema=0.9, optimizer="sgd")

    def calls() -> list[pynn.Callback]:
        return [pynn.EarlyStopping("validation_loss", patience=9)]

    fit(whole, blobs, callbacks=calls(), **settings)
    path = tmp_path / "a"
    broken_off(path, blobs, after + 4, make=lambda: cut, callbacks=calls(), **settings)
    kept = pynn.Checkpoint(path, steps=1)
    other = copy.copy(resumed)
    fit(resumed, blobs, callbacks=calls(), checkpoint=kept, resume=True, **settings)
    assert_same(resumed, whole)
    settings["ema"] = 0.5
    with pytest.raises(ValueError, match="ema: found 0.5, but the run in"):
        fit(other, blobs, callbacks=calls(), checkpoint=kept, resume=True, **settings)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("emas", [(0.99, 0.99), (None, 0.99)], ids=["optimizer", "average"])
def test_the_decay_counts_the_updates_of_the_average(
    blobs: Data, backend: str, emas: tuple[float | None, float]
) -> None:
    """The optimizer begins after the average, or the average after the optimizer."""
    net = make(backend=backend, dtype="float64")
    expected, t = net.parameters.copy(), 0

    def follow(net: pynn.Network, record: pynn.Record) -> None:
        nonlocal expected, t
        t += 1
        expected += (1 - min(0.99, (1 + t) / (10 + t))) * (net.parameters - expected)

    for ema, optimizer in zip(emas, ("sgd" if emas[0] else "adam", "adam"), strict=True):
        calls = [pynn.Every(1, follow)] if ema else []
        if not t:
            expected = net.parameters.copy()
        fit(net, blobs, epochs=2, ema=ema, optimizer=optimizer, callbacks=calls)
    assert t == sum(net.updates // 2 for ema in emas if ema)
    np.testing.assert_allclose(average_of(net), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_calls_are_one(blobs: Data, backend: str) -> None:
    whole, halves = make(**network(backend)), make(**network(backend))
    fit(whole, blobs, epochs=4, ema=0.9)
    for _ in range(2):
        fit(halves, blobs, epochs=2, ema=0.9)
    assert_same(halves, whole)


def test_early_stopping_restores_parameters_and_average(tmp_path: Path, blobs: Data) -> None:
    net = make(backend="auto")
    best = tmp_path / "best"
    stopping = pynn.EarlyStopping("loss", patience=2, min_delta=10.0)
    fit(net, blobs, epochs=9, ema=0.9, callbacks=[stopping, pynn.SaveBest(best, "loss", 10.0)])
    assert net.epochs == 3
    saved = pynn.load(best)
    assert saved.epochs == 1
    np.testing.assert_array_equal(average_of(net), average_of(saved))
    np.testing.assert_array_equal(net.parameters, saved.parameters)
    fit(net, blobs, ema=0.9)


def test_setting_parameters_removes_the_average(blobs: Data) -> None:
    x, _ = blobs
    changes: list[Any] = [
        lambda net: setattr(net, "parameters", net.parameters),
        lambda net: setattr(net, "weights", net.weights),
        lambda net: setattr(net, "biases", net.biases),
        lambda net: setattr(net, "average", None),
    ]
    for change in changes:
        net = make()
        fit(net, blobs, ema=0.9)
        trained = outputs(net, net.parameters, x)
        # Writes through views would leave the average behind.
        with pytest.raises(ValueError, match="read-only"):
            net.weights[0][0, 0] = 1
        change(net)
        assert net.average is None
        np.testing.assert_array_equal(net.predict_proba(x), trained)
        net.weights[0][0, 0] = 1
        net.parameters[0] = 2


def test_a_file_without_its_average_is_refused(tmp_path: Path, blobs: Data) -> None:
    net, path = make(**network("numpy")), tmp_path / "model"
    fit(net, blobs, ema=0.9)
    net.save(path)
    tensors, document = load_tensors(path)
    del tensors["average"]
    save_tensors(path, tensors, document)
    with pytest.raises(ValueError, match="found no tensor 'average', expected one of shape"):
        pynn.load(path)
    del document["average"]  # as in files of earlier versions
    save_tensors(path, tensors, document)
    assert pynn.load(path, backend="numpy").average is None


def test_assigning_an_average(blobs: Data) -> None:
    x, _ = blobs
    net = make()
    expected = outputs(net, 2 * net.parameters, x)
    net.average = 2 * net.parameters
    np.testing.assert_array_equal(net.predict_proba(x), expected)
    with pytest.raises(ValueError, match="read-only"):
        net.average[0] = 1
    with pytest.raises(ValueError, match=r"average: found shape \(2,\), expected"):
        net.average = [1, 2]
    with pytest.raises(ValueError, match="average"):
        net.average = np.full(len(net.parameters), np.nan)


def test_a_call_without_ema_drops_the_average_at_its_first_update(blobs: Data) -> None:
    net = make()
    fit(net, blobs, ema=0.9)
    average = average_of(net)
    fit(net, blobs, epochs=0)
    np.testing.assert_array_equal(average_of(net), average)

    def fail(net: pynn.Network, record: pynn.Record) -> None:
        raise KeyError

    class Failing(pynn.Callback):
        def on_fit_begin(self, net: pynn.Network) -> None:
            raise KeyError

    with pytest.raises(KeyError):
        fit(net, blobs, callbacks=Failing())
    np.testing.assert_array_equal(average_of(net), average)
    with pytest.raises(KeyError):
        fit(net, blobs, callbacks=fail)
    assert net.average is None
    net.weights[0][0, 0] = 1
    fit(net, blobs, epochs=0, ema=0.9)
    assert net.average is None
    net.weights[0][0, 0] = 1


@pytest.mark.parametrize(
    ("patience", "huge"), [(divergence.PATIENCE, 1e38), (1e30, 1e44)], ids=["loss", "parameters"]
)
def test_a_divergence_restores_the_average(
    blobs: Data, monkeypatch: pytest.MonkeyPatch, patience: float, huge: float
) -> None:
    """With everything on, the result is that of a run that stopped before it.

    After an update with infinite parameters, all epochs are repeated with the same learning rates.
    """
    monkeypatch.setattr(divergence, "PATIENCE", patience)
    plateau = pynn.ReduceOnPlateau("loss", factor=0.5, patience=0, threshold=0.5)
    settings: dict[str, Any] = {"ema": 0.9, "optimizer": "sgd", "batch_size": 10}

    def spoilt(net: pynn.Network, steps: int) -> pynn.Every:
        """Stop after so many updates; 0 for never."""
        return pynn.Every(1, lambda net, record: net.updates == steps)

    class Growing(pynn.ReduceOnPlateau):
        """The plateau's rates until epoch 3, where they are much too large."""

        def given(self, values: Any, larger_is_better: bool) -> Any:
            found = list(values)
            if len(found) < 3:
                return plateau.given(found, larger_is_better)
            return pynn.Constant() if len(found) > 3 else _Huge(huge)

    schedule = Growing("loss")
    net, stopped = make(backend="auto", **NOISE), make(backend="auto", **NOISE)
    with pytest.raises(pynn.DivergenceError) as caught:
        fit(net, blobs, schedule=schedule, **settings)
    assert caught.value.epoch == 4
    steps = 3 * 15 + caught.value.step - 1
    if caught.value.step > 1:
        fit(stopped, blobs, schedule=schedule, callbacks=spoilt(stopped, steps), **settings)
    else:
        fit(stopped, blobs, schedule=schedule, **settings | {"epochs": 3})
    assert net.updates == stopped.updates == steps
    np.testing.assert_array_equal(net.parameters, stopped.parameters)
    np.testing.assert_array_equal(average_of(net), average_of(stopped))


@dataclass(frozen=True)
class _Huge(pynn.Constant):
    factor: float = 1.0

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return np.full(len(epoch), self.factor)


def test_standardised_targets_are_predicted_with_the_average(blobs: Data) -> None:
    x, _ = blobs
    y = 100 + 9 * x[:, 0]
    net = pynn.Network([4, 8, 1], loss="mse", standardize_targets=True, seed=1)
    net.fit(x, y, epochs=3, ema=0.9, progress=False, validation=(x, y))
    other = copy.copy(net)
    other.parameters = average_of(net)
    np.testing.assert_array_equal(net.predict(x), other.predict(x))
    expected = other.evaluate(x, y)["loss"]
    assert net.history.validation_loss[-1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ema", [0, 1, -0.1, "0.9", True])
def test_wrong_decays_are_refused(blobs: Data, ema: Any) -> None:
    with pytest.raises(ValueError, match=r"ema: found .*, expected a number in \(0, 1\)"):
        fit(make(), blobs, ema=ema)


def test_lbfgs_has_no_average(blobs: Data) -> None:
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="found 'lbfgs' with ema"):
        fit(make(dropout=0), blobs, optimizer="lbfgs", ema=0.9)
