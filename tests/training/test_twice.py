"""Gradients of gradients: backward_twice of a tape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.spec.names import BACKENDS
from tests import parity
from tests.networks import make

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


def of_dx(net: pynn.Network, x: np.ndarray, d: np.ndarray, how: dict[str, Any]) -> float:
    """A function of dx: half its sum of squares."""
    dx, _ = net.forward(x, **how).backward(**how_of(net, d))
    return float((dx**2).sum() / 2)


def how_of(net: pynn.Network, d: np.ndarray) -> dict[str, np.ndarray]:
    return {"d_outputs" if net.architecture.loss == "mse" else "d_logits": d}


OPTIONS: list[dict[str, Any]] = [
    {"output": "softmax", "loss": "mse", "activation": "tanh"},
    {"norm": "layer", "activation": "gelu", "residual": True, "dropout": 0.2},
    {"norm": "rms", "norm_after": True, "activation": "silu", "input_dropout": 0.3},
    {
        "norm": "layer",
        "norm_after": True,
        "activation": "softplus",
        "residual": True,
        "dropout": 0.3,
        "input_noise": 0.1,
        "hidden_noise": 0.1,
    },
]


@pytest.mark.parametrize("name", parity.ACTIVATIONS)
def test_gradients_of_gradients_through_every_activation(name: str) -> None:
    follows_finite_differences({"activation": name, "output": name, "loss": "mse"})


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_gradients_of_gradients_with_norms_and_dropout(settings: dict[str, Any]) -> None:
    follows_finite_differences(settings)


def follows_finite_differences(settings: dict[str, Any]) -> None:
    net = make((4, 4, 4, 3), dtype="float64", **settings)
    rng, h = np.random.default_rng(4), 1e-6
    net.parameters = net.parameters + 0.2 * rng.normal(size=len(net.parameters))
    x, d = rng.normal(size=(5, 4)), rng.normal(size=(5, 3))
    how = {"training": True, "key": (2, 9)}
    tape = net.forward(x, **how)
    dx, _ = tape.backward(**how_of(net, d))
    found = tape.backward_twice(**how_of(net, d), d_dx=dx)
    for values, slopes in ((x, found[0]), (net.parameters, found[1])):
        flat, wanted = values.reshape(-1), slopes.reshape(-1)
        for i in rng.choice(len(flat), min(8, len(flat)), replace=False):
            before, around = flat[i], []
            for step in (h, -h):
                flat[i] = before + step
                around.append(of_dx(net, x, d, how))
            flat[i] = before
            slope = (around[0] - around[1]) / (2 * h)
            assert slope == pytest.approx(wanted[i], abs=1e-6 * max(1, np.abs(wanted).max()))


def test_gradients_of_gradients_have_the_units_of_the_inputs() -> None:
    """x → 10·x, standardised, scales dx by 1/10: as a network without standardisation."""
    rng = np.random.default_rng(5)
    x, y = 10 * rng.normal(size=(30, 4)) + 3, rng.normal(size=(30, 2))
    net = make((4, 6, 2), loss="mse", activation="tanh", standardize=True, dtype="float64")
    net.fit(x, y, epochs=1, progress=False)
    plain = make((4, 6, 2), loss="mse", activation="tanh", dtype="float64")
    w, b = net.weights, net.biases
    plain.weights = [w[0] / net.input_scale[:, None], w[1]]
    plain.biases = [b[0] - (net.input_mean / net.input_scale) @ w[0], b[1]]
    d, found = np.ones((30, 2)), []
    for one in (net, plain):
        tape = one.forward(x)
        dx, _ = tape.backward(d)
        found.append(tape.backward_twice(d, 2 * dx)[0])
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if not choose.available()[name]])
def test_every_backend_has_gradients_of_gradients(backend: str) -> None:
    found = []
    for name in (backend, "numpy"):
        net = make((4, 6, 2), loss="mse", activation="tanh", dropout=0.3, backend=name)
        tape = net.forward(X, training=True, key=(1, 0))
        d = X[:, :2] + 0
        found.append(tape.backward_twice(d, tape.backward(d)[0]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_gradients_of_gradients_are_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="backward_twice: found a network with batch norm"):
        make(norm="batch").forward(X).backward_twice(np.zeros((12, 3)), X)
    double = pynn.Activation("double", lambda z: 2 * z, lambda z: 2.0 + 0 * z)
    with pytest.raises(ValueError, match="with the custom activation 'double'"):
        make(activation=double).forward(X).backward_twice(np.zeros((12, 3)), X)
    tape = make().forward(X)
    with pytest.raises(ValueError, match=r"d_dx: found shape \(12, 3\), expected \(12, 4\)"):
        tape.backward_twice(np.zeros((12, 3)), X[:, :3])
    with pytest.raises(TypeError, match="backward_twice: found neither"):
        tape.backward_twice(d_dx=X)
