"""``fit(…, optimizer="lbfgs")``."""

from __future__ import annotations

import inspect
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends.choose import available
from pynn.training import lbfgs
from tests.networks import make

optimize = pytest.importorskip("scipy.optimize")

BACKENDS = [name for name, reason in available().items() if not reason]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4))
LABELS = np.where(X[:, 0] > 0.5, "a", np.where(X[:, 1] > 0, "b", "c"))
VALUES = np.sin(X[:, 0]) + X[:, 1]


def train(net: pynn.Network, y: Any = LABELS, **settings: Any) -> pynn.History:
    given = {"optimizer": "lbfgs", "epochs": 20, "l2": 0.01, "progress": False, **settings}
    return net.fit(X, y, **given)


def state(net: pynn.Network) -> tuple[Any, ...]:
    return net.parameters.tobytes(), net.epochs, net.updates, net.history.loss


@pytest.mark.parametrize("backend", BACKENDS)
def test_iterations_are_those_of_scipy(backend: str) -> None:
    settings: dict[str, Any] = {"backend": backend, "dtype": "float64", "activation": "tanh"}
    net, twin = make(**settings), make(**settings)
    history = train(net)
    train(twin, epochs=0, optimizer="adam")  # the same labels
    twin.classes = net.classes
    found = optimize.minimize(
        lambda p: _objective(twin, p),
        twin.parameters.copy(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 20},
    )
    np.testing.assert_array_equal(net.parameters, found.x)
    assert len(history) == net.epochs == net.updates == found.nit == 20
    scores = net.evaluate(X, LABELS)
    assert (history[-1].loss, history[-1].accuracy) == (scores["loss"], scores["accuracy"])
    assert history[-1].loss < history[0].loss
    assert (history[-1].step, history[-1].steps, history[-1].learning_rate) == (1, 1, 0)


def _objective(net: pynn.Network, parameters: np.ndarray) -> tuple[float, np.ndarray]:
    net.parameters = parameters
    return net.loss_and_gradient(X, LABELS, l2=0.01)


def test_training_ends_at_the_minimum() -> None:
    net = make((4, 1), loss="mse", dtype="float64")
    history = train(net, VALUES, epochs=200, l2=0)
    solution = np.linalg.lstsq(np.c_[X, np.ones(90)], VALUES, rcond=None)[0]
    np.testing.assert_allclose(net.parameters, solution, atol=1e-4)
    assert net.epochs == len(history) < 200
    single = make((4, 1), loss="mse")
    train(single, VALUES, epochs=200, l2=0, optimizer=pynn.LBFGS(gradient_tolerance=1e-8))
    np.testing.assert_allclose(single.parameters, solution, atol=1e-4)


def test_validation_metrics_callbacks_and_early_stopping(tmp_path: Path) -> None:
    seen: list[Any] = []
    every = pynn.callbacks.Every(2, lambda net, record: seen.append((net.updates, record.step)))
    stop = pynn.EarlyStopping("validation_f1", patience=2)
    net = make(activation="tanh")
    history = train(
        net,
        validation=(X[:30], LABELS[:30]),
        metrics=["f1"],
        callbacks=[every, stop, lambda net, record: seen.append(record.epoch)],
        epochs=400,
        l2=0.1,
    )
    assert len(history) == net.epochs < 400
    assert seen[:4] == [1, (2, 1), 2, 3]
    best = max(history, key=lambda record: record.validation_f1)
    scores = net.evaluate(X[:30], LABELS[:30], metrics=["f1"])
    assert (best.validation_f1, best.validation_loss) == (scores["f1"], scores["loss"])
    net.save(tmp_path / "net")
    for copied in (pynn.load(tmp_path / "net", backend="numpy"), pickle.loads(pickle.dumps(net))):
        assert state(copied) == state(net)
        train(copied, epochs=1, optimizer="adam")
        assert copied.epochs == net.epochs + 1


def test_a_callback_stops_after_an_iteration() -> None:
    net = make()
    assert len(train(net, callbacks=lambda net, record: record.epoch == 3)) == 3
    assert len(train(net, epochs=2)) == 2
    assert net.updates == 5
    assert train(net, epochs=0) == pynn.History()


@pytest.mark.parametrize("calls", [1, 2, 9])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_exception_leaves_the_last_iteration(
    calls: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, twin = make(), make()
    count = [0]
    engine = type(net._engine)
    plan = engine.objective

    def objective(self: Any, data: Any, settings: Any) -> Any:
        compute = plan(self, data, settings)

        def failing(parameters: Any) -> Any:
            count[0] += 1
            if count[0] == calls:
                raise error
            return compute(parameters)

        return failing

    with monkeypatch.context() as patch:
        patch.setattr(engine, "objective", objective)
        with pytest.raises(error):
            train(net)
    assert net.parameters.flags.writeable
    assert net.epochs == net.updates == len(net.history) < 9
    assert (net._model.optimizer is None) == (net.epochs == 0)
    train(twin, epochs=net.epochs)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    train(net, epochs=1)


def test_an_exception_in_a_callback_keeps_its_iteration() -> None:
    def fail(net: pynn.Network, record: pynn.Record) -> None:
        if record.epoch == 2:
            raise FileNotFoundError

    net, twin = make(), make()
    with pytest.raises(FileNotFoundError):
        train(net, callbacks=fail)
    train(twin, epochs=2)
    assert state(net) == state(twin)


def test_a_loss_that_is_not_finite() -> None:
    net = make((4, 3, 1), loss="poisson", output="exp", dtype="float64")
    net.biases = [np.zeros(3), np.full(1, 800.0)]
    before = state(net)
    with pytest.raises(pynn.DivergenceError, match="iteration 1 of optimizer 'lbfgs' gave"):
        train(net, np.ones(90))
    assert state(net) == before


@pytest.mark.parametrize(
    "network, settings, found",
    [
        ({"dropout": 0.5}, {"schedule": "cosine"}, "dropout and a schedule"),
        ({}, {"shuffle": "blocks"}, "shuffle='blocks'"),
        ({"precision": "bf16"}, {}, "precision='bf16'"),
        ({}, {"learning_rate": 0.1, "batch_size": 90}, "learning_rate and batch_size"),
        ({}, {"batch_size": 1, "layer_rates": [1, 1]}, "batch_size and layer_rates"),
    ],
)
def test_refused_settings(network: Any, settings: Any, found: str) -> None:
    net = make(**network)
    before = state(net)
    with pytest.raises(ValueError, match=f"optimizer: found 'lbfgs' with {found}, expected none"):
        train(net, **settings)
    assert state(net) == before


def test_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'lbfgs' with a checkpoint, expected none of"):
        train(make(), checkpoint=pynn.Checkpoint(tmp_path / "c", epochs=1), resume=True)
    assert list(tmp_path.iterdir()) == []


def test_a_constant_schedule_and_label_smoothing() -> None:
    assert len(train(make(), schedule="constant", label_smoothing=0.1, epochs=2)) == 2


def test_whole_weights_are_repetitions_of_rows() -> None:
    net, twin = make(dtype="float64"), make(dtype="float64")
    count = np.arange(90) % 3
    history = train(net, sample_weight=count, epochs=5)
    rows = np.repeat(np.arange(90), count)
    twin.fit(X[rows], LABELS[rows], optimizer="lbfgs", epochs=5, l2=0.01, progress=False)
    np.testing.assert_allclose(net.parameters, twin.parameters, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(history.loss, twin.history.loss, rtol=1e-9)
    np.testing.assert_allclose(history.accuracy, twin.history.accuracy)


@pytest.mark.parametrize("size", [None, "full", lbfgs.BATCH_SIZE])
def test_defaults_and_full_batches_are_accepted(size: Any) -> None:
    defaults = inspect.signature(pynn.Network.fit).parameters
    assert defaults["batch_size"].default == lbfgs.BATCH_SIZE
    assert defaults["learning_rate"].default == lbfgs.LEARNING_RATE
    assert len(train(make(), batch_size=size, learning_rate=lbfgs.LEARNING_RATE, epochs=2)) == 2


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"optimizer: found 'lbfgs' and no SciPy .*pynn-mlp\[sc"):
        train(make())


def test_settings_are_checked() -> None:
    assert pynn.LBFGS(memory=5.0) == pynn.LBFGS(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"LBFGS.memory: found 0, expected a whole number from 1"):
        pynn.LBFGS(memory=0)
    with pytest.raises(ValueError, match=r"LBFGS.loss_tolerance: found -1"):
        pynn.LBFGS(loss_tolerance=-1)
