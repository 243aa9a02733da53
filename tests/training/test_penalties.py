"""``fit(…, l1=, clip_norm=, max_norm=)`` on every backend, alone and together."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.backends.contract import TrainerSettings
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.networks import make
from tests.parity import (
    VARIANTS,
    Case,
    Problem,
    assert_follows_reference,
    assert_identical,
    compressed,
    instruction_set,
    mostly_zeros,
    problem,
    some_weights,
    train,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
ALL: dict[str, Any] = {"l1": 0.002, "clip_norm": 0.3, "max_norm": 0.9}
BACKENDS = [name for name, reason in choose.available().items() if not reason]


def fit(net: pynn.Network, **settings: Any) -> pynn.History:
    return net.fit(X, Y, **{"epochs": 2, "batch_size": 16, "progress": False, **settings})


def of_isa(isa: str | None) -> Any:
    return instruction_set(isa) if isa else nullcontext()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend, isa", VARIANTS)
def test_backends_follow_the_reference(backend: str, isa: str | None, dtype: str) -> None:
    """Alone and with everything else, for layers of odd sizes and batches of 2 rows or more."""
    net = Architecture.build([17, 33, 3, 40, 1, 5], "tanh", dropout=0.1, dtype=dtype)
    given = problem(net, 73)
    together = Case(
        optimizer=optimizers.NAdam(weight_decay=0.1),
        rate=0.003,
        l2=0.01,
        layer_rates=(1.0, 0.5, 2.0, 1.0, 0.0),
        frozen=(1,),
        ema=0.9,
        sample_weight=some_weights(73),
        **ALL,
    )
    cases = [Case(**{name: value}) for name, value in ALL.items()]
    cases += [
        together,
        together.but(batch_size=2),
        Case(optimizer=optimizers.AMSGrad(), rate=0.003, **ALL),
    ]
    with of_isa(isa):
        for case in cases:
            run = assert_follows_reference(backend, net, given, case)
            for threads in (1, 3):
                again = case.but(threads=threads, slices=None if threads == 1 else 7)
                assert_identical(train(backend, net, given, again), run)
        several = Case(batch_size=1300, steps=5, optimizer=optimizers.Adam(), l2=0.1, **ALL)
        assert_follows_reference(backend, net, problem(net, 1499), several.but(rate=0.003))


@pytest.mark.parametrize("isa", [isa for backend, isa in VARIANTS if backend == "cython"])
def test_sparse_and_large_layers_follow_the_reference(isa: str) -> None:
    """First layers that skip zeros, and layers of several blocks."""
    rng = np.random.default_rng(5)
    with instruction_set(isa):
        for width in (20, 70):
            net = Architecture.build([90, width, 5], "relu", dtype="float64")
            given = mostly_zeros(net, 73, share=0.95)
            rows = Problem(given.parameters, compressed(given.x, rng, "float64"), given.y)
            for optimizer in (optimizers.SGD(), optimizers.Adam()):
                case = Case(optimizer=optimizer, rate=0.003, l2=0.01, **ALL)
                run = assert_follows_reference("cython", net, given, case)
                assert_identical(train("cython", net, given, case.but(threads=3)), run)
                assert_follows_reference("cython", net, rows, case)
                limited = case.but(l1=0.0, l2=0.0, clip_norm=0.0, ema=0.9, batch_size=7)
                assert_follows_reference("cython", net, rows, limited)
        net = Architecture.build([300, 300, 260], "tanh", dtype="float64")
        case = Case(batch_size=30, steps=4, optimizer=optimizers.Adam(), rate=0.003, **ALL)
        run = assert_follows_reference("cython", net, problem(net, 60), case)
        assert_identical(train("cython", net, problem(net, 60), case.but(threads=3)), run)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "numba"])
def test_pytorch(backend: str) -> None:
    torch = pytest.importorskip("torch")
    net = make((4, 6, 3), activation="tanh", dtype="float64", backend=backend)
    layers = [torch.nn.Linear(*shape, dtype=torch.float64) for shape in ((4, 6), (6, 3))]
    for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(w.T), torch.tensor(b)
    parameters = [p for layer in layers for p in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    x, y = torch.tensor(X), torch.tensor(Y)
    clipped = 0
    for _ in range(100):
        optimizer.zero_grad()
        z = layers[1](torch.tanh(layers[0](x)))
        size = sum(layer.weight.abs().sum() for layer in layers)
        (torch.nn.functional.cross_entropy(z, y) + 0.002 * size).backward()
        clipped += float(torch.nn.utils.clip_grad_norm_(parameters, 0.3)) > 0.3
        optimizer.step()
        with torch.no_grad():
            for layer in layers:
                norm = layer.weight.norm(dim=1, keepdim=True)
                layer.weight *= torch.where(norm > 0.9, 0.9 / norm, 1.0)
    assert 0 < clipped < 100
    fit(net, epochs=100, batch_size=None, learning_rate=0.01, **ALL)
    for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
        np.testing.assert_allclose(w, layer.weight.detach().numpy().T, rtol=0, atol=1e-9)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=0, atol=1e-9)


def test_norms_of_units_are_limited_and_losses_have_no_penalty() -> None:
    plain, limited = make((4, 6, 3)), make((4, 6, 3))
    fit(plain, epochs=20, learning_rate=0.1)
    fit(limited, epochs=20, learning_rate=0.1, max_norm=0.5)
    assert max(np.linalg.norm(w, axis=0).max() for w in plain.weights) > 1
    norms = np.concatenate([np.linalg.norm(w, axis=0) for w in limited.weights])
    assert 0.499 < norms.max() < 0.5001
    penalized = make((4, 6, 3))
    fit(penalized, epochs=1, batch_size=None, l1=5.0)
    assert penalized.history[0].loss == plain_loss()


def plain_loss() -> float:
    net = make((4, 6, 3))
    return float(fit(net, epochs=1, batch_size=None)[0].loss)


@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpoints_early_stopping_and_divergence(backend: str, tmp_path: Path) -> None:
    """With everything on, results are those of a run without interruption."""
    settings: dict[str, Any] = {"l2": 0.01, "optimizer": pynn.NAdam(), "layer_rates": [1, 2], **ALL}
    whole = make((4, 6, 3), backend=backend)
    fit(whole, epochs=4, **settings)
    run: dict[str, Any] = {"checkpoint": pynn.Checkpoint(tmp_path / "run", steps=3)}
    fit(make((4, 6, 3), backend=backend), epochs=3, **settings, **run)
    again = make((4, 6, 3), backend=backend)
    for name in ALL:
        with pytest.raises(ValueError, match=f"{name}: found 0.5, but the run in"):
            fit(again, epochs=4, resume=True, **{**settings, name: 0.5}, **run)
    fit(again, epochs=4, resume=True, **settings, **run)
    np.testing.assert_array_equal(again.parameters, whole.parameters)

    best, stopped = (make((4, 6, 3), backend=backend) for _ in range(2))
    stopping = pynn.EarlyStopping("validation_loss", patience=2)
    records = fit(
        stopped, epochs=40, learning_rate=0.3, callbacks=stopping, validation=0.2, **settings
    )
    count = 1 + int(np.argmin(records.validation_loss))
    fit(best, epochs=count, learning_rate=0.3, validation=0.2, **settings)
    np.testing.assert_array_equal(stopped.parameters, best.parameters)

    def rate(time: float) -> float:
        return 1.0 if time < 2.4 else 1e200

    class Stop(pynn.Callback):
        steps = 1

        def on_steps(self, net: pynn.Network, record: pynn.Record) -> bool:
            return bool(net.updates == last)

    kind: dict[str, Any] = {
        "loss": "mse", "output": "identity", "dtype": "float64", "backend": backend,
    }  # fmt: skip
    diverged, before = make((4, 6, 3), **kind), make((4, 6, 3), **kind)
    with pytest.raises(pynn.DivergenceError), np.errstate(all="ignore"):
        fit(diverged, epochs=9, schedule=rate, **settings)
    last = diverged.updates
    assert last >= 10
    fit(before, epochs=9, schedule=rate, callbacks=Stop(), **settings)
    np.testing.assert_array_equal(diverged.parameters, before.parameters)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"l1": -1}, "l1: found -1, expected a finite number of 0 or more"),
        ({"clip_norm": 0}, "clip_norm: found 0, expected a finite number above 0"),
        ({"max_norm": np.nan}, "max_norm: found nan, expected a finite number above 0"),
        ({"max_norm": [1, 2]}, "max_norm: found "),
    ],
)
def test_numbers_that_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(make((4, 6, 3)), **given)


@pytest.mark.parametrize("name", ALL)
def test_where_they_have_no_meaning(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: found 0.5 with the convention 'sklearn'"):
        TrainerSettings(
            optimizer=optimizers.SGD(), batch_size=1, convention="sklearn", **{name: 0.5}
        )
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match=f"optimizer: found 'lbfgs' with {name}"):
        fit(make((4, 6, 3)), optimizer="lbfgs", batch_size=None, **{name: 0.5})


@pytest.mark.parametrize("isa", [isa for backend, isa in VARIANTS if backend == "cython"])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_normalised_and_residual_layers_follow_the_reference(isa: str, norm: str) -> None:
    """The gradient of scales and shifts counts in the norm."""
    net = Architecture.build([17, 33, 33, 3, 5], "tanh", dtype="float64", norm=norm, residual=True)
    given = problem(net, 73)
    case = Case(optimizer=optimizers.Adam(), rate=0.003, batch_size=7, frozen=(3,), l2=0.01, **ALL)
    case = case.but(ema=0.9)
    with instruction_set(isa):
        run = assert_follows_reference("cython", net, given, case)
        assert_identical(train("cython", net, given, case.but(threads=3, slices=5)), run)
        several = case.but(batch_size=1300, steps=5, rate=0.003)
        assert_follows_reference("cython", net, problem(net, 1499), several)
