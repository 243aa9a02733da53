"""Activations against PyTorch, an independent implementation, where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.spec import Parametric
from tests import parity

torch = pytest.importorskip("torch")
nn = torch.nn

MODULES: dict[str, Any] = {
    "identity": nn.Identity(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(),
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "softplus": nn.Softplus(),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "selu": nn.SELU(),
    "softsign": nn.Softsign(),
    "relu6": nn.ReLU6(),
    "hard_sigmoid": nn.Hardsigmoid(),
    "hard_swish": nn.Hardswish(),
    "hard_tanh": nn.Hardtanh(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "LeakyReLU(slope=0.2)": nn.LeakyReLU(0.2),
    "ELU(alpha=0.6)": nn.ELU(0.6),
    "Softplus(beta=3.0)": nn.Softplus(3.0, threshold=100.0),
}
BACKENDS = [name for name in ("cython", "numpy") if not choose.available()[name]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", parity.ACTIVATIONS, ids=str)
def test_a_hundred_steps_follow_pytorch(backend: str, activation: str | Parametric) -> None:
    """Hidden and output activation, gradient and update: full batches, SGD, float64."""
    rng = np.random.default_rng(4)
    x, y = 2 * rng.normal(size=(20, 4)), rng.random((20, 2))
    net = pynn.Network(
        [4, 6, 2],
        activation=activation,
        output=activation,
        loss="mse",
        dtype="float64",
        backend=backend,
        seed=1,
    )
    module = MODULES[str(activation)]
    layers = [nn.Linear(4, 6, dtype=torch.float64), nn.Linear(6, 2, dtype=torch.float64)]
    with torch.no_grad():
        for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight[...] = torch.from_numpy(w.T.copy())
            layer.bias[...] = torch.from_numpy(b.copy())
    model = nn.Sequential(layers[0], module, layers[1], module)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    net.fit(x, y, epochs=100, batch_size="full", optimizer="sgd", learning_rate=0.05)
    # PyTorch computes hard_sigmoid and hard_swish with 1/6 rounded to float32.
    near = {"rtol": 0, "atol": 1e-7 if activation in ("hard_sigmoid", "hard_swish") else 1e-9}
    for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
        np.testing.assert_allclose(w, layer.weight.detach().numpy().T, **near)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), **near)


OPTIMIZERS: dict[str, tuple[Any, Any]] = {
    "amsgrad": (
        pynn.AMSGrad(beta2=0.9),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.9), amsgrad=True),
    ),
    "nadam": (pynn.NAdam(), lambda p: torch.optim.NAdam(p, lr=0.01)),
    "decayed nadam": (
        pynn.NAdam(0.8, 0.99, 1e-3, momentum_decay=0.1, weight_decay=0.2),
        lambda p: torch.optim.NAdam(
            [
                {"params": [q for q in p if q.ndim == 2], "weight_decay": 0.2},
                {"params": [q for q in p if q.ndim == 1]},
            ],
            lr=0.01,
            betas=(0.8, 0.99),
            eps=1e-3,
            momentum_decay=0.1,
            decoupled_weight_decay=True,
        ),
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_follow_pytorch(backend: str, name: str) -> None:
    ours, theirs = OPTIMIZERS[name]
    rng = np.random.default_rng(4)
    x, y = 2 * rng.normal(size=(20, 4)), rng.random((20, 2))
    net = pynn.Network(
        [4, 6, 2], activation="tanh", loss="mse", dtype="float64", backend=backend, seed=1
    )
    layers = [nn.Linear(4, 6, dtype=torch.float64), nn.Linear(6, 2, dtype=torch.float64)]
    with torch.no_grad():
        for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight[...] = torch.from_numpy(w.T.copy())
            layer.bias[...] = torch.from_numpy(b.copy())
    model = nn.Sequential(layers[0], nn.Tanh(), layers[1])
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of NAdam's product of momenta
    try:
        optimizer = theirs(list(model.parameters()))
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            optimizer.step()
    finally:
        torch.set_default_dtype(before)
    settings: dict[str, Any] = {"batch_size": "full", "optimizer": ours, "learning_rate": 0.01}
    net.fit(x, y, epochs=60, **settings)
    net.fit(x, y, epochs=40, **settings)
    for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
        np.testing.assert_allclose(w, layer.weight.detach().numpy().T, rtol=0, atol=1e-9)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=0, atol=1e-9)
