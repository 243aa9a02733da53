"""Second derivatives f''(z) of the activations of the NumPy reference, for tangent passes.

At a kink of the first derivative, f'' is that of one of its sides, mostly 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..spec.activations import PARAMETRIC
from ..spec.architecture import Architecture
from .activations import (
    GELU_SATURATED,
    SATURATED,
    SELU_ALPHA,
    SELU_SCALE,
    _gelu_argument,
    normal_density,
    sigmoid,
    softplus,
)

Array = np.ndarray


def sigmoid_curvature(z: Array) -> Array:
    s = sigmoid(z)
    return s * (1 - s) * (1 - 2 * s)


def tanh_curvature(z: Array) -> Array:
    t = np.tanh(z)
    return -2 * t * (1 - t * t)


def elu_curvature(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, z.dtype.type(0), z.dtype.type(alpha) * np.exp(np.minimum(z, 0)))


def selu_curvature(z: Array) -> Array:
    return z.dtype.type(SELU_SCALE) * elu_curvature(z, SELU_ALPHA)


def gelu_curvature(z: Array) -> Array:
    z = np.clip(z, -GELU_SATURATED, GELU_SATURATED)
    return normal_density(z) * (2 - z * z)


def softplus_curvature(z: Array, beta: float = 1.0) -> Array:
    s = sigmoid(z.dtype.type(beta) * z)
    return z.dtype.type(beta) * s * (1 - s)


def silu_curvature(z: Array) -> Array:
    s = sigmoid(z)
    return s * (1 - s) * (2 + np.clip(z, -SATURATED, SATURATED) * (1 - 2 * s))


def mish_curvature(z: Array) -> Array:
    s, t = sigmoid(z), np.tanh(softplus(z))
    rest = 1 - t * t
    return rest * s * (2 + np.clip(z, -SATURATED, SATURATED) * (1 - s - 2 * t * s))


def softsign_curvature(z: Array) -> Array:
    return -2 * np.sign(z) * (1 + np.abs(z)) ** -3


def hard_swish_curvature(z: Array) -> Array:
    return ((z > -3) & (z < 3)).astype(z.dtype) * z.dtype.type(1 / 3)


def gelu_tanh_curvature(z: Array) -> Array:
    """With a = z·s(u): 2·s'·u' + z·(s''·u'² + s'·u'')."""
    u, du = _gelu_argument(z)
    z = np.clip(z, -GELU_SATURATED, GELU_SATURATED)
    s = sigmoid(u)
    ddu = z.dtype.type(6 * 0.044715 * 1.5957691216057308) * z
    return s * (1 - s) * (2 * du + z * ((1 - 2 * s) * du * du + ddu))


CURVATURE: dict[str, Callable[..., Array]] = {
    **dict.fromkeys(
        ("identity", "relu", "leaky_relu", "relu6", "hard_sigmoid", "hard_tanh"),
        lambda z, *_: np.zeros_like(z),
    ),
    "sigmoid": sigmoid_curvature,
    "tanh": tanh_curvature,
    "elu": elu_curvature,
    "selu": selu_curvature,
    "gelu": gelu_curvature,
    "softplus": softplus_curvature,
    "silu": silu_curvature,
    "mish": mish_curvature,
    "softsign": softsign_curvature,
    "hard_swish": hard_swish_curvature,
    "gelu_tanh": gelu_tanh_curvature,
    "exp": np.exp,
}
"""f'' of every activation that maps each number by itself."""


def curvature_of(net: Architecture, layer: int, z: Array) -> Array:
    """f''(z) of a layer, elementwise."""
    name = net.activations[layer]
    function = CURVATURE[name]
    found: Array = (
        function(z, net.activation_parameter(layer)) if name in PARAMETRIC else function(z)
    )
    return found
