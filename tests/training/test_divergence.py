"""What a training that diverges leaves behind, and what it says."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.backends.contract import Data, TrainerSettings
from pynn.training import divergence, progress

BACKENDS = [name for name, reason in choose.available().items() if not reason]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, of its overflows


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(210, 5)).astype(np.float32)
    return x, np.stack([x[:, 0] * x[:, 1], x[:, 2]], axis=1)


def growing(backend: str, **options: Any) -> pynn.Network:
    """A network that learns well for a while, and then meets rates that are far too high."""
    return pynn.Network([5, 7, 4, 2], loss="mse", backend=backend, seed=4, **options)


def rate(time: float) -> float:
    """Rows of 210 in batches of 32 are 7 steps an epoch: from the 17th on weights grow."""
    return 0.01 if time < 16 / 7 - 1e-9 else 1e6


FIT: dict[str, Any] = {
    "batch_size": 32,
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "schedule": rate,
    "progress": False,
}


def step_by_step(net: pynn.Network, x: np.ndarray, y: np.ndarray, **fit: Any) -> list[bytes]:
    """The parameters before each step and after the last, up to one that is not finite."""
    found = [net.parameters.tobytes()]

    class Look(pynn.Callback):
        steps = 1

        def on_steps(self, net: pynn.Network, record: pynn.Record) -> bool:
            found.append(net.parameters.tobytes())
            return not np.isfinite(net.parameters).all()

    try:
        net.fit(x, y, callbacks=Look(), **fit)
    except pynn.DivergenceError:
        pass
    while not np.isfinite(np.frombuffer(found[-1], net.dtype)).all():
        found.pop()
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_divergence_restores_the_last_finite_weights(backend, dtype, optimizer, data):
    fit = FIT | {"optimizer": optimizer, "epochs": 300}
    if optimizer == "adam":
        fit["schedule"] = lambda time: (
            0.01 if time < 16 / 7 - 1e-9 else 1e150 if dtype == "float64" else 1e30
        )
    found = step_by_step(growing(backend, dtype=dtype), *data, **fit)
    assert len(found) > 16
    net = growing(backend, dtype=dtype)
    with pytest.raises(pynn.DivergenceError) as caught:
        net.fit(*data, **fit)
    error = caught.value
    assert net.parameters.tobytes() == found[-1]
    assert all(np.isfinite(vector).all() for vector in net._model.vectors)
    done = len(found) - 1
    assert net.updates == done
    assert (error.epoch, error.step) == (done // 7 + 1, done % 7 + 1)
    assert net.epochs == len(net.history) == done // 7
    assert np.isfinite(net.history.loss).all()
    assert 0 <= error.layer < 3
    assert re.match(
        rf"fit: step {error.step} of epoch {error.epoch} (gave a loss that is not finite, "
        rf"beginning in layer {error.layer + 1} of 3|made weights of layer {error.layer + 1} of 3 "
        r"infinite or NaN); .*; train a new network with a lower learning_rate",
        str(error),
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_metrics_do_not_change_what_a_divergence_leaves(backend, optimizer, data):
    plain, measured = growing(backend), growing(backend)
    fit = FIT | {"optimizer": optimizer, "epochs": 300}
    if optimizer == "adam":
        fit["schedule"] = lambda time: 0.01 if time < 16 / 7 - 1e-9 else 1e30
    errors = []
    for net, more in ((plain, {}), (measured, {"metrics": "mae", "training_metrics": True})):
        with pytest.raises(pynn.DivergenceError) as caught:
            net.fit(*data, validation=data, **fit, **more)
        errors.append((caught.value.epoch, caught.value.step, caught.value.layer))
    assert errors[0] == errors[1]
    assert [v.tobytes() for v in plain._model.vectors] == [
        v.tobytes() for v in measured._model.vectors
    ]
    assert (plain.epochs, plain.updates) == (measured.epochs, measured.updates)
    assert np.isfinite(measured.history.mae).all()
    assert len(measured.history.validation_mae) == len(plain.history) == plain.epochs


def test_results_do_not_depend_on_the_interval_of_checks(backend, data, monkeypatch):
    """The outcome does not depend on when it is noticed: at each step, or at the end."""
    found = set()
    for patience, pace in ((0, True), (0, False), (1e30, False), (1e30, True)):
        monkeypatch.setattr(divergence, "PATIENCE", patience)
        monkeypatch.setattr(progress, "INTERVAL", 0.0)  # slices of one step
        net = growing(backend)
        with pytest.raises(pynn.DivergenceError) as caught:
            net.fit(
                *data, **FIT | {"epochs": 9, "progress": (lambda record: None) if pace else False}
            )
        found.add((net.parameters.tobytes(), net.updates, net.epochs, str(caught.value)))
        assert len(net.history) == net.epochs
    assert len(found) == 1


def set_layers(net: pynn.Network, *layers: tuple[float, float]) -> None:
    """Give layers of one unit their weight and bias."""
    for k, (weight, bias) in enumerate(layers):
        net.weights[k][...], net.biases[k][...] = weight, bias


def swallowed(backend: str) -> tuple[pynn.Network, np.ndarray, np.ndarray, dict[str, Any]]:
    """The fourth update makes a relu layer's weight -inf: its unit dies, the loss stays finite."""
    net = pynn.Network([1, 1, 1], loss="mse", backend=backend, seed=1)
    set_layers(net, (1, -2), (1e20, 0))
    x = np.ones((6, 1), np.float32)
    x[3] = 2.1
    y = np.zeros((6, 1), np.float32)
    fit = {"batch_size": 1, "shuffle": False, "optimizer": "sgd", "learning_rate": 1e-2}
    return net, x, y, fit


@pytest.mark.parametrize("patience", [0, 1e30])
def test_weights_are_checked_even_if_the_loss_stays_finite(backend, data, monkeypatch, patience):
    monkeypatch.setattr(divergence, "PATIENCE", patience)
    net, x, y, fit = swallowed(backend)
    found = step_by_step(net, x, y, epochs=1, **fit)
    net, x, y, fit = swallowed(backend)
    with pytest.raises(pynn.DivergenceError) as caught:
        net.fit(x, y, epochs=50, **fit)
    assert (caught.value.epoch, caught.value.step) == (1, 4)
    assert net.parameters.tobytes() == found[3]
    assert net.updates == 3
    assert len(net.history) == net.epochs == 0


def test_layer_of_a_loss(backend):
    """The layer is the first whose values overflow, or the last if only the loss does."""
    x = np.ones((4, 1))
    for weights, layer in (([1e200, 1e200, 1], 1), ([1, 1e200, 1e200], 2), ([1e80, 1e80, 1], 2)):
        net = pynn.Network(
            [1, 1, 1, 1], activation="identity", loss="mse", dtype="float64", backend=backend
        )
        set_layers(net, *((weight, 0) for weight in weights))
        before = net.parameters.tobytes()
        with pytest.raises(pynn.DivergenceError) as caught:
            net.fit(x, x, epochs=2, batch_size=2)
        assert (caught.value.epoch, caught.value.step, caught.value.layer) == (1, 1, layer)
        assert f"beginning in layer {layer + 1} of 3;" in str(caught.value)
        assert str(caught.value).endswith("check the scale of x and y, and the initial weights")
        assert net.parameters.tobytes() == before
        assert net.updates == 0


def test_layer_of_an_update(backend):
    """A loss that is finite, and gradients that are not: of the layer named."""
    for x, weights, rate, layer in ((1e30, [1e-12, 1], 1, 0), (1e18, [1, 1], 1e10, 1)):
        net = pynn.Network([1, 1, 1], activation="identity", loss="mse", backend=backend, seed=1)
        set_layers(net, *((weight, 0) for weight in weights))
        row = np.full((1, 1), x, np.float32)
        with pytest.raises(pynn.DivergenceError) as caught:
            net.fit(row, row * 0, epochs=1, optimizer="sgd", learning_rate=rate)
        assert caught.value.layer == layer
        assert f"made weights of layer {layer + 1} of 2" in str(caught.value)


def test_divergence_causes_no_warning(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(pynn.DivergenceError):
            growing("numpy").fit(*data, **FIT, epochs=9)


def test_divergence_is_reported_though_the_data_changed_meanwhile(backend, data, monkeypatch):
    """What went wrong is not found again: the network is finite all the same, and it is said."""
    monkeypatch.setattr(divergence, "PATIENCE", 1e30)
    net, x, y, fit = swallowed(backend)

    x[3] = 1

    class Change(pynn.Callback):
        steps = 1

        def on_steps(self, net: pynn.Network, record: pynn.Record) -> None:
            x[3] = 2.1 if net.updates == 3 else 1

    with pytest.raises(pynn.DivergenceError, match="gave a loss that is not finite;") as caught:
        net.fit(x, y, epochs=2, callbacks=Change(), **fit)
    assert caught.value.layer is None
    assert np.isfinite(net.parameters).all()


def test_weights_that_are_not_finite_to_begin_with(backend, data):
    net = growing(backend)
    net.weights[1][0, 0] = np.nan
    before = net.parameters.tobytes()
    with pytest.raises(
        ValueError, match=r"found NaN or infinity in weights\[1\], .* expected finite numbers"
    ):
        net.fit(*data, epochs=1)
    assert net.parameters.tobytes() == before


def test_a_checkpoint_never_holds_diverged_weights(backend, data, tmp_path):
    net = growing(backend)
    path = tmp_path / "run.ckpt"
    with pytest.raises(pynn.DivergenceError) as first:
        net.fit(*data, **FIT, epochs=9, checkpoint=pynn.Checkpoint(path, steps=4))
    again = growing(backend)
    with pytest.raises(pynn.DivergenceError) as second:
        again.fit(*data, **FIT, epochs=9, checkpoint=pynn.Checkpoint(path, steps=4), resume=True)
    assert str(second.value) == str(first.value)
    assert again.parameters.tobytes() == net.parameters.tobytes()


def test_an_exception_finds_finite_weights(backend, monkeypatch):
    """Whatever else ends a training in which it was not noticed yet."""
    monkeypatch.setattr(divergence, "PATIENCE", 1e30)

    class Raise(pynn.Callback):
        steps = 4

        def on_steps(self, net: pynn.Network, record: pynn.Record) -> None:
            raise KeyboardInterrupt

    net, x, y, fit = swallowed(backend)
    with pytest.raises(KeyboardInterrupt):
        net.fit(x, y, epochs=2, callbacks=Raise(), **fit)
    assert np.isfinite(net.parameters).all()


def test_the_error_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(pynn.DivergenceError("fit: …", 3, 4, None)))
    assert (str(error), error.epoch, error.step, error.layer) == ("fit: …", 3, 4, None)
    assert isinstance(error, ArithmeticError)


def test_command_line_and_page(tmp_path):
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from pynn.cli import report
    from pynn.cli.app import app

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.random((60, 3), np.float32), y=rng.random((60, 1)))
    run = tmp_path / "run"
    command = ["train", "--data", tmp_path / "d.npz", run, "--loss", "mse", "--epochs", 9]
    command += ["--optimizer", "sgd", "--learning-rate", "1e20", "--hidden", 4, "--no-pictures"]
    found = CliRunner().invoke(app, [str(part) for part in command])
    assert found.exit_code == 1
    words = (
        r"pynn: step \d+ of epoch [12] .*train a new network with a lower learning_rate; "
        r"that network is in "
    )
    assert re.search(words, found.output), found.output
    settings = json.loads((run / "settings.json").read_text())
    assert settings["result"]["diverged"].startswith("step ")
    assert not (run / "checkpoint.safetensors").exists()
    assert np.isfinite(pynn.load(run / "model.safetensors").parameters).all()
    pytest.importorskip("matplotlib")
    assert "The training diverged: step " in report.write(run).read_text()


@pytest.mark.skipif("cython" not in BACKENDS, reason="needs the compiled core")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes",
    [
        [1, 1],
        [70, 33, 3],
        [40, 300, 7, 2],
        pytest.param([3, 1100, 1100, 1], marks=pytest.mark.slow),
        pytest.param([2, 4096, 0, 1], marks=pytest.mark.slow),
    ],
)
def test_values_that_are_not_finite_are_found_while_copying(dtype: str, sizes: list[int]) -> None:
    """Wherever it stands, in parameters and in state; large numbers are in doubt."""
    from pynn.backends.cython import _core
    from pynn.spec.architecture import Architecture
    from pynn.spec.optimizers import Adam

    # As much as is copied past the caches.
    sizes = [n or {"float32": 4096, "float64": 2048}[dtype] for n in sizes]
    net = Architecture.build(sizes, "tanh", loss="mse", dtype=dtype)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, net.n_in)).astype(dtype)
    y = rng.normal(size=(20, net.n_out)).astype(dtype)
    vectors = [rng.normal(size=net.n_parameters).astype(dtype) for _ in range(3)]
    vectors[2] = np.abs(vectors[2])
    more: dict[str, Any] = {
        "optimizer": Adam(),
        "batch_size": 10,
        "l2": 0.0,
        "seed": 1,
        "shuffle": True,
    }

    def trainer() -> Any:
        return _core.Engine(net, 2).trainer(
            vectors[0], vectors[1:], Data(x, y), TrainerSettings(**more)
        )

    trained = trainer()
    assert trained.stored_is_finite
    before = [vector.copy() for vector in vectors]
    for vector in vectors:
        vector[...] = 0
    trained.store()
    assert all(np.array_equal(a, b) for a, b in zip(before, vectors, strict=True))
    trained.steps(0, 0, [1e-3], 0)
    assert not trained.stored_is_finite  # not checked since the update
    assert all(np.array_equal(a, b) for a, b in zip(before, vectors, strict=True))
    assert trained.would_store_finite()
    trained.store()
    assert trained.stored_is_finite
    assert not np.array_equal(before[0], vectors[0])
    del before, trained
    some = 20 if net.n_parameters < 1e6 else 3
    places = {0, net.n_parameters - 1, *rng.integers(0, net.n_parameters, some).tolist()}
    places.add(net.views(vectors[0])[0][0].size)  # the first of the biases
    for vector in vectors:
        for at in places:
            kept = vector[at]
            for odd in (np.nan, np.inf, -np.inf, np.finfo(dtype).max):
                vector[at] = odd
                broken = trainer()
                assert not broken.stored_is_finite
                assert not broken.would_store_finite()
                del broken  # before the next is made: they are large
            vector[at] = kept
    assert trainer().stored_is_finite


@pytest.mark.skipif("cython" not in BACKENDS, reason="needs the compiled core")
def test_training_works_without_memory_for_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, epochs and updates are then those before training."""

    def none(size: int) -> None:
        raise MemoryError

    monkeypatch.setattr(divergence, "Memory", none)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 20)), rng.normal(size=(400, 1))
    net = pynn.Network([20, 30, 1], loss="mse", backend="cython", seed=3)
    before = net.parameters.copy()
    net.fit(x, y, epochs=1, optimizer="sgd", learning_rate=0.01, batch_size=100)  # takes none
    assert (net.epochs, net.updates) == (1, 4)
    assert not np.array_equal(net.parameters, before)
    before = net.parameters.copy()
    with pytest.raises(MemoryError):
        # Finite, but too large for that to be seen from the sum of squares.
        net.fit(x * 1e5, y * 1e30, epochs=2, learning_rate=1e-3, batch_size=100)
    assert (net.epochs, net.updates, len(net.history)) == (1, 4, 1)
    assert np.array_equal(net.parameters, before)


@pytest.mark.skipif("cython" not in BACKENDS, reason="needs the compiled core")
def test_a_second_interrupt_during_the_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained is not written back any more, and does not count."""
    from pynn.training.divergence import Guard

    def interrupted(*anything: object) -> None:
        raise KeyboardInterrupt

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 20)), rng.normal(size=(400, 1))
    net = pynn.Network([20, 30, 1], loss="mse", backend="cython", seed=3)
    net.fit(x, y, epochs=1)
    before, at = net.parameters.copy(), (net.epochs, net.updates, len(net.history))
    with monkeypatch.context() as patch:
        patch.setattr(Guard, "write_back", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.fit(x, y, epochs=2, callbacks=[interrupted])
    assert np.array_equal(net.parameters, before)
    assert (net.epochs, net.updates, len(net.history)) == at
    net.fit(x, y, epochs=1)
    assert net.epochs == 2
