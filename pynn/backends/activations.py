"""Activation functions of the NumPy reference: f(z) and f'(z), with their sources.

To add an activation: two formulas and a line in ``ACTIVATION`` here, its name in ``spec/names.py``,
and the formulas in ``numba/activations.py`` and ``csrc/kernels/activations.h``, with its number in
``numba/plan.py`` and ``cython/setup.pxi``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..spec.architecture import Architecture
from ..spec.names import LEAKY_SLOPE

Array = np.ndarray


def sigmoid(z: Array) -> Array:
    """1 / (1 + e⁻ᶻ)."""
    # e^-|z| never overflows, whatever the sign of z. It is computed in float64, since NumPy's
    # float32 exp is less accurate. e - e·q equals q, but rounds less where e is small.
    e = np.exp(-np.abs(z, dtype=np.float64))
    q = e / (1 + e)
    return np.where(z >= 0, 1 - q, e - e * q).astype(z.dtype)


def sigmoid_derivative(z: Array) -> Array:
    return sigmoid(z) * (1 - sigmoid(z))


def tanh_derivative(z: Array) -> Array:
    return 1 - np.tanh(z) ** 2


def relu(z: Array) -> Array:
    """max(z, 0) (Nair and Hinton 2010, section 2)."""
    return np.maximum(z, 0)


def relu_derivative(z: Array) -> Array:
    return (z > 0).astype(z.dtype)


def leaky_relu(z: Array) -> Array:
    """z, or s·z for negative z (Maas et al. 2013, section 2)."""
    return np.where(z > 0, z, z.dtype.type(LEAKY_SLOPE) * z)


def leaky_relu_derivative(z: Array) -> Array:
    return np.where(z > 0, z.dtype.type(1), z.dtype.type(LEAKY_SLOPE))


def elu(z: Array) -> Array:
    """z, or eᶻ − 1 for negative z (Clevert et al. 2016, section 3, with α = 1)."""
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def elu_derivative(z: Array) -> Array:
    return np.exp(np.minimum(z, 0))


def gelu(z: Array) -> Array:
    """z·Φ(z), with the exact Φ (Hendrycks and Gimpel 2016, section 2)."""
    return z * normal_cdf(z)


def gelu_derivative(z: Array) -> Array:
    return normal_cdf(z) + z * normal_density(z)


def normal_cdf(z: Array) -> Array:
    """Φ(z), by erfc, which keeps its relative precision in the lower tail."""
    erfc = np.frompyfunc(math.erfc, 1, 1)
    return 0.5 * np.asarray(erfc(z * -math.sqrt(0.5)), dtype=z.dtype)


def normal_density(z: Array) -> Array:
    return np.exp(-0.5 * z * z) * z.dtype.type(1 / math.sqrt(2 * math.pi))


def softplus(z: Array) -> Array:
    """log(1 + eᶻ) (Dugas et al. 2001)."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


class Pair(NamedTuple):
    """An activation that maps each number by itself."""

    function: Callable[[Array], Array]
    derivative: Callable[[Array], Array]


ACTIVATION: dict[str, Pair] = {
    "identity": Pair(lambda z: z, np.ones_like),
    "sigmoid": Pair(sigmoid, sigmoid_derivative),
    "tanh": Pair(np.tanh, tanh_derivative),
    "relu": Pair(relu, relu_derivative),
    "leaky_relu": Pair(leaky_relu, leaky_relu_derivative),
    "elu": Pair(elu, elu_derivative),
    "gelu": Pair(gelu, gelu_derivative),
    "softplus": Pair(softplus, sigmoid),
    "exp": Pair(np.exp, np.exp),
}


def softmax(z: Array) -> Array:
    """eᶻ / Σ eᶻ over the outputs of a row (Bridle 1990)."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_gradient(a: Array, da: Array) -> Array:
    """∂loss/∂z from ∂loss/∂a for a = softmax(z): the Jacobian is diag(a) − a·aᵀ."""
    return a * (da - (a * da).sum(axis=1, keepdims=True))


def activation_of(net: Architecture, layer: int, z: Array) -> Array:
    """f(z) of a layer."""
    name = net.activations[layer]
    custom = net.custom(name)
    if custom is not None:
        return call_custom(custom.function, z)
    return softmax(z) if name == "softmax" else ACTIVATION[name].function(z)


def derivative_of(net: Architecture, layer: int, z: Array) -> Array:
    """f'(z) of a layer whose activation maps each number by itself."""
    name = net.activations[layer]
    custom = net.custom(name)
    if custom is not None:
        return call_custom(custom.derivative, z)
    return ACTIVATION[name].derivative(z)


def call_custom(function: Callable[..., Array], *arguments: Array) -> Array:
    """Call a custom function; an intermediate result such as e⁻ᶻ may overflow to infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(function(*arguments), arguments[0].dtype)
