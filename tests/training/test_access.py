"""Network.activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends.activations import activation_of
from pynn.backends.choose import available
from pynn.backends.reference import read_rows
from tests.networks import make

BACKENDS = [name for name, reason in available().items() if not reason]


def expected(net: pynn.Network, x: np.ndarray, layer: int) -> np.ndarray:
    """The outputs of a layer, from the formulas of the reference."""
    h = read_rows(x, slice(None), "float64")
    for k in range(layer + 1):
        h = activation_of(net.architecture, k, h @ net.weights[k] + net.biases[k])
    return h


@pytest.mark.parametrize("backend", BACKENDS)
def test_activations_are_the_outputs_of_each_layer(backend: str) -> None:
    net = make(
        (6, 17, 5, 3),
        backend=backend,
        activation=["silu", pynn.LeakyReLU(0.3)],
        dropout=0.5,
        dtype="float64",
    )
    x = np.random.default_rng(0).normal(size=(700, 6))
    for layer in range(3):
        found = net.activations(x, layer)
        np.testing.assert_allclose(found, expected(net, x, layer), rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(found, net.activations(x, layer=layer - 3))
    np.testing.assert_array_equal(net.activations(x, -1), net.predict_proba(x))


@pytest.mark.parametrize("kind", ["pixels", "sparse", "custom", "sigmoid"])
def test_activations_of_every_kind_of_network(kind: str) -> None:
    x: Any = np.random.default_rng(1).integers(0, 256, (20, 6))
    settings: dict[str, Any] = {"dtype": "float64", "backend": "auto"}
    dense = x / 255 if kind == "pixels" else x.astype(float)
    if kind == "pixels":
        settings |= {"pixels": True, "backend": "auto"}
        x = x.astype(np.uint8)
    elif kind == "sparse":
        settings["backend"] = "cython" if "cython" in BACKENDS else "numpy"
        x = pytest.importorskip("scipy.sparse").csr_array(dense)
    elif kind == "custom":
        cube = pynn.Activation("cube", np.tanh, lambda z: 1 - np.tanh(z) ** 2)
        settings |= {"activation": ["tanh", cube], "backend": "numpy", "loss": "mse"}
    else:
        settings |= {"loss": "binary_cross_entropy", "activation": "tanh"}
    net = make((6, 4, 5, 1 if kind == "sigmoid" else 3), **settings)
    for layer in range(3):
        found = net.activations(x, layer)
        np.testing.assert_allclose(found, expected(net, dense, layer), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layer", [2, -3, 1.0, True, "hidden", None])
def test_activations_of_no_layer(layer: Any) -> None:
    net = make()
    with pytest.raises(ValueError, match=r"^layer: found .*, expected a whole number from 0, the"):
        net.activations(np.ones((2, 4)), layer)
    with pytest.raises(ValueError, match="x: found"):
        net.activations(np.ones((2, 5)), 0)


def test_activations_change_nothing() -> None:
    net = make()
    before = net.parameters.copy()
    net.activations(np.ones((2, 4)), 0)[...] = 9
    np.testing.assert_array_equal(net.parameters, before)
    assert net.pixels == "auto"
