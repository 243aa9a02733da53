"""``fit(…, layer_rates=)``: a factor on the learning rate of each layer."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.networks import make
from tests.parity import (
    VARIANTS,
    Case,
    assert_follows_reference,
    assert_identical,
    instruction_set,
    mostly_zeros,
    problem,
    train,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def fit(net: pynn.Network, **settings: Any) -> pynn.History:
    return net.fit(X, Y, **{"epochs": 2, "batch_size": 16, "progress": False, **settings})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend, isa", VARIANTS)
def test_backends_follow_the_reference(backend: str, isa: str | None, dtype: str) -> None:
    net = Architecture.build([17, 40, 9, 33, 5], "relu", dropout=0.1, dtype=dtype)
    given = problem(net, 73)
    for optimizer, rate in (
        (optimizers.SGD(), 0.1),
        (optimizers.Nesterov(), 0.03),
        (optimizers.AdamW(weight_decay=0.1), 0.003),
    ):
        case = Case(optimizer=optimizer, rate=rate, l2=0.01, layer_rates=(0.25, 3.0, 0.0, 1.0))
        with instruction_set(isa) if isa else nullcontext():
            run = assert_follows_reference(backend, net, given, case)
            for threads in (1, 3):
                assert_identical(train(backend, net, given, case.but(threads=threads)), run)
        weights, _ = net.views(run.parameters)
        before, _ = net.views(given.parameters)
        assert [np.array_equal(w, b) for w, b in zip(weights, before, strict=True)] == (
            [False, False, True, False]
        )


@pytest.mark.parametrize("width", [40, 70])
@pytest.mark.parametrize("isa", [isa for backend, isa in VARIANTS if backend == "cython"])
def test_sparse_products_follow_the_reference(isa: str, width: int) -> None:
    """SGD is applied by the sparse product itself, Adam by its last part."""
    net = Architecture.build([90, width, 5], "relu", dtype="float64")
    given = mostly_zeros(net, 73, share=0.95)
    for optimizer in (optimizers.SGD(), optimizers.Adam()):
        case = Case(optimizer=optimizer, rate=0.01, layer_rates=(0.25, 2.0))
        with instruction_set(isa):
            assert_follows_reference("cython", net, given, case)


def test_a_factor_of_zero_leaves_weights_and_moves_the_state() -> None:
    net = make((4, 6, 5, 3))
    before = [w.copy() for w in net.weights]
    fit(net, layer_rates=[0, 1, 1])
    assert np.array_equal(net.weights[0], before[0])
    assert not np.array_equal(net.weights[1], before[1])
    for slot in net._model.optimizer_state:
        assert net.architecture.views(slot)[0][0].any()


def test_equal_factors_are_another_learning_rate() -> None:
    nets = [make((4, 6, 3)) for _ in range(4)]
    fit(nets[0], learning_rate=0.01)
    fit(nets[1], learning_rate=0.02, layer_rates=(0.5, 0.5))
    fit(nets[2], learning_rate=0.01, layer_rates=np.ones(2))
    fit(nets[3], learning_rate=0.01, layer_rates=None)
    for net in nets[1:]:
        np.testing.assert_array_equal(net.parameters, nets[0].parameters)


def test_groups_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    net = make((4, 6, 3), activation="tanh", dtype="float64")
    layers = [torch.nn.Linear(*shape, dtype=torch.float64) for shape in ((4, 6), (6, 3))]
    for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(w.T), torch.tensor(b)
    optimizer = torch.optim.Adam(
        [
            {"params": layer.parameters(), "lr": 0.01 * factor}
            for layer, factor in zip(layers, (0.3, 2.0), strict=True)
        ],
    )
    x, y = torch.tensor(X), torch.tensor(Y)
    for _ in range(100):
        optimizer.zero_grad()
        z = layers[1](torch.tanh(layers[0](x)))
        torch.nn.functional.cross_entropy(z, y).backward()
        optimizer.step()
    fit(net, epochs=100, batch_size=None, learning_rate=0.01, layer_rates=[0.3, 2])
    for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
        np.testing.assert_allclose(w, layer.weight.detach().numpy().T, rtol=0, atol=1e-9)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=0, atol=1e-9)


def test_a_run_resumes_with_equal_factors_only(tmp_path: Path) -> None:
    whole, resumed = make((4, 6, 3)), make((4, 6, 3))
    fit(whole, epochs=4, layer_rates=[0.5, 2])
    run: dict[str, Any] = {"checkpoint": pynn.Checkpoint(tmp_path / "run", epochs=1)}
    fit(resumed, layer_rates=[0.5, 2], **run)
    again = make((4, 6, 3))
    with pytest.raises(ValueError, match=r"layer_rates: found None, but the run in .* \[0.5, 2.0"):
        fit(again, epochs=4, resume=True, **run)
    fit(again, epochs=4, resume=True, layer_rates=[0.5, 2], **run)
    np.testing.assert_array_equal(again.parameters, whole.parameters)


@pytest.mark.parametrize(
    "factors, message",
    [
        ([1, 1, 1], "layer_rates: found 3 numbers, expected 2 finite numbers of 0 or more"),
        ([1, -1], r"layer_rates\[1\]: found -1, expected a finite number of 0 or more"),
        ([np.inf, 1], r"layer_rates\[0\]: found inf"),
        (0.5, "layer_rates: found 0.5, expected 2 finite numbers"),
        ("11", "layer_rates: found '11', expected 2 finite numbers"),
        ([[1], [1]], "layer_rates: found .*, expected 2 finite numbers"),
    ],
)
def test_factors_that_are_refused(factors: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(make((4, 6, 3)), layer_rates=factors)


def test_lbfgs_has_no_learning_rate() -> None:
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="optimizer: found 'lbfgs' with layer_rates"):
        fit(make((4, 6, 3)), optimizer="lbfgs", batch_size="full", layer_rates=[1, 2])
