"""Activations with a parameter, the initial weights that activations choose, and names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec import ACTIVATIONS, PARAMETRIC
from pynn.spec.architecture import Architecture
from pynn.training import initialise

SOME = [(pynn.LeakyReLU, "slope", 0.2), (pynn.ELU, "alpha", 0.5), (pynn.Softplus, "beta", 2.0)]


@pytest.mark.parametrize(("kind", "parameter", "value"), SOME)
def test_an_activation_with_a_parameter(kind: Any, parameter: str, value: float) -> None:
    one = kind(value)
    assert repr(one) == f"{kind.__name__}({parameter}={value})"
    assert one == kind(np.float32(value).item() if value != 0.2 else 0.2)
    assert hash(one) == hash(kind(**{parameter: value}))
    assert one != kind()
    for wrong in (0, -1, math.nan, math.inf, 1e-9, 1e9, "1", None, True):
        expected = rf"{kind.__name__}.{parameter}: found {wrong!r}, expected a number in \[1e-06, 1"
        with pytest.raises(ValueError, match=expected):
            kind(wrong)
    with pytest.raises(TypeError, match=f"activation: found the class {kind.__name__}, expected"):
        pynn.Network([2, 3, 2], activation=kind)
    with pytest.raises(TypeError, match=f"output: found the class {kind.__name__}, expected an"):
        pynn.Network([2, 3, 2], output=kind, loss="mse")


def test_the_default_parameter_is_that_of_the_name() -> None:
    for name, kind in PARAMETRIC.items():
        by_name = Architecture.build([2, 3, 2], name, name, "mse")
        assert Architecture.build([2, 3, 2], kind(), kind(), "mse") == by_name
        assert by_name.activation_parameters == ()
    assert pynn.LeakyReLU(1).slope == 1.0
    with pytest.raises(ValueError, match=r"output: found LeakyReLU\(slope=0.2\), expected 'softm"):
        pynn.Network([2, 3, 2], output=pynn.LeakyReLU(0.2))


def test_parameters_are_shown() -> None:
    hidden = [pynn.LeakyReLU(0.2), "relu", pynn.LeakyReLU(0.01)]
    net = pynn.Network(
        [2, 3, 3, 3, 2], activation=hidden, output=pynn.Softplus(2), loss="mse", backend="numpy"
    )
    shown = "2-3-3-3-2, LeakyReLU(slope=0.2)/relu/leaky_relu, Softplus(beta=2.0), mse"
    assert repr(net).startswith(f"Network({shown}, float32")
    assert net.architecture.activation_parameters == (0.2, 0.0, 0.01, 2.0)


def test_initial_weights_of_every_activation() -> None:
    def chosen(activation: Any) -> str:
        return initialise.names(Architecture.build([2, 3, 2], activation), None)[0]

    found = {name: chosen(name) for name in ACTIVATIONS}
    assert found.pop("selu") == "lecun_normal"
    bounded = {"identity", "sigmoid", "tanh", "softsign", "hard_sigmoid", "hard_tanh"}
    assert {name for name, init in found.items() if init == "glorot_uniform"} == bounded
    assert set(found.values()) == {"glorot_uniform", "he_normal"}
    assert {chosen(kind(value)) for kind, _, value in SOME} == {"he_normal"}
    net = Architecture.build([2, 2], output="selu", loss="mse")
    assert initialise.names(net, None) == ["glorot_uniform"]


def test_a_custom_function_replaces_one_that_was_added_later() -> None:
    """Scripts of earlier versions may have a custom function of that name."""
    mish = pynn.Activation("mish", lambda z: 2 * z, lambda z: 2 * np.ones_like(z))
    for backend in ("numpy", "numba"):
        if backend == "numba":
            pytest.importorskip("numba")
        net = pynn.Network([1, 1], output=mish, loss="mse", backend=backend, seed=0)
        net.weights = [np.ones((1, 1))]
        assert net.predict(np.ones((1, 1))).item() == 2
        assert initialise.names(net.architecture, None) == ["glorot_uniform"]
    with pytest.raises(ValueError, match="found two functions named 'mish'"):
        pynn.Network([1, 2, 1], activation="mish", output=mish, loss="mse")
