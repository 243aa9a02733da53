"""Activation functions of the NumPy reference: f(z) and f'(z), with their sources.

To add an activation: two formulas and a line in ``ACTIVATION`` here, its name in ``spec/names.py``,
the formulas in ``numba/activations.py`` and ``csrc/kernels/activations.h``, and a line in the table
of ``csrc/kernels/kernels.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..spec.activations import PARAMETRIC
from ..spec.architecture import Architecture

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


def leaky_relu(z: Array, slope: float = 0.01) -> Array:
    """z, or slope·z for negative z (Maas et al. 2013, section 2)."""
    return np.where(z > 0, z, z.dtype.type(slope) * z)


def leaky_relu_derivative(z: Array, slope: float = 0.01) -> Array:
    return np.where(z > 0, z.dtype.type(1), z.dtype.type(slope))


def elu(z: Array, alpha: float = 1.0) -> Array:
    """z, or α·(eᶻ − 1) for negative z (Clevert et al. 2016, section 3)."""
    return np.where(z > 0, z, z.dtype.type(alpha) * np.expm1(np.minimum(z, 0)))


def elu_derivative(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, z.dtype.type(1), z.dtype.type(alpha) * np.exp(np.minimum(z, 0)))


SELU_SCALE = 1.0507009873554804934
SELU_ALPHA = 1.6732632423543772848


def selu(z: Array) -> Array:
    """λ·elu(z, α), with λ and α for which activations of mean 0 and variance 1 keep both
    (Klambauer et al. 2017, equations 2 and 14).
    """
    return z.dtype.type(SELU_SCALE) * elu(z, SELU_ALPHA)


def selu_derivative(z: Array) -> Array:
    return z.dtype.type(SELU_SCALE) * elu_derivative(z, SELU_ALPHA)


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


def softplus(z: Array, beta: float = 1.0) -> Array:
    """log(1 + e^(β·z)) / β (Dugas et al. 2001, with β = 1)."""
    x = z.dtype.type(beta) * z
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))) / z.dtype.type(beta)


def softplus_derivative(z: Array, beta: float = 1.0) -> Array:
    return sigmoid(z.dtype.type(beta) * z)


# Where a factor is 0 or 1 in both dtypes, z is clipped: 0 · ∞ would be NaN.
SATURATED = 1000


def silu(z: Array) -> Array:
    """z·sigmoid(z) (Elfwing, Uchibe and Doya 2018, equation 4; Swish of Ramachandran et al. 2017
    with β = 1).
    """
    return np.maximum(z, -SATURATED) * sigmoid(z)


def silu_derivative(z: Array) -> Array:
    s = sigmoid(z)
    return s + np.clip(z, -SATURATED, SATURATED) * s * (1 - s)


def mish(z: Array) -> Array:
    """z·tanh(softplus(z)) (Misra 2020, equation 1)."""
    return np.maximum(z, -SATURATED) * np.tanh(softplus(z))


def mish_derivative(z: Array) -> Array:
    t = np.tanh(softplus(z))
    return t + np.clip(z, -SATURATED, SATURATED) * (1 - t * t) * sigmoid(z)


def gelu_tanh(z: Array) -> Array:
    """½·z·(1 + tanh(√(2/π)·(z + 0.044715·z³))), which approximates gelu (Hendrycks and Gimpel 2016,
    section 2), computed as z·sigmoid(u) with u twice the argument of tanh.
    """
    return np.maximum(z, -GELU_SATURATED) * sigmoid(_gelu_argument(z)[0])


def gelu_tanh_derivative(z: Array) -> Array:
    u, du = _gelu_argument(z)
    s = sigmoid(u)
    return s + np.clip(z, -GELU_SATURATED, GELU_SATURATED) * s * (1 - s) * du


GELU_SATURATED = 40


def _gelu_argument(z: Array) -> tuple[Array, Array]:
    """u = √(8/π)·(z + 0.044715·z³) and du/dz, for z clipped to where sigmoid(u) is 0 or 1."""
    c, k = z.dtype.type(math.sqrt(8 / math.pi)), z.dtype.type(0.044715)
    z = np.clip(z, -GELU_SATURATED, GELU_SATURATED)
    return c * z * (1 + k * z * z), c * (1 + 3 * k * z * z)


def softsign(z: Array) -> Array:
    """z / (1 + |z|) (Bergstra et al. 2009; Turian et al. 2009)."""
    z = np.clip(z, -1e30, 1e30)  # for ∞ / ∞
    return z / (1 + np.abs(z))


def softsign_derivative(z: Array) -> Array:
    return (1 + np.abs(z)) ** -2


def relu6(z: Array) -> Array:
    """min(max(z, 0), 6) (Krizhevsky 2010, section 2)."""
    return np.clip(z, 0, 6)


def relu6_derivative(z: Array) -> Array:
    return ((z > 0) & (z < 6)).astype(z.dtype)


def hard_sigmoid(z: Array) -> Array:
    """relu6(z + 3) / 6 (Howard et al. 2019, section 5.2; the form of PyTorch and Keras 3)."""
    return relu6(z + 3) / 6


def hard_sigmoid_derivative(z: Array) -> Array:
    return relu6_derivative(z + 3) / 6


def hard_swish(z: Array) -> Array:
    """z·relu6(z + 3) / 6 (Howard et al. 2019, section 5.2)."""
    return np.maximum(z, -3) * hard_sigmoid(z)


def hard_swish_derivative(z: Array) -> Array:
    return np.where(z >= 3, 1, np.where(z > -3, (2 * np.minimum(z, 3) + 3) / 6, 0)).astype(z.dtype)


def hard_tanh(z: Array) -> Array:
    """min(max(z, −1), 1) (Collobert 2004)."""
    return np.clip(z, -1, 1)


def hard_tanh_derivative(z: Array) -> Array:
    return ((z > -1) & (z < 1)).astype(z.dtype)


class Pair(NamedTuple):
    """An activation that maps each number by itself. Those of ``spec/activations.py`` take their
    parameter as a second argument.
    """

    function: Callable[..., Array]
    derivative: Callable[..., Array]


ACTIVATION: dict[str, Pair] = {
    "identity": Pair(lambda z: z, np.ones_like),
    "sigmoid": Pair(sigmoid, sigmoid_derivative),
    "tanh": Pair(np.tanh, tanh_derivative),
    "relu": Pair(relu, relu_derivative),
    "leaky_relu": Pair(leaky_relu, leaky_relu_derivative),
    "elu": Pair(elu, elu_derivative),
    "gelu": Pair(gelu, gelu_derivative),
    "softplus": Pair(softplus, softplus_derivative),
    "silu": Pair(silu, silu_derivative),
    "mish": Pair(mish, mish_derivative),
    "selu": Pair(selu, selu_derivative),
    "softsign": Pair(softsign, softsign_derivative),
    "relu6": Pair(relu6, relu6_derivative),
    "hard_sigmoid": Pair(hard_sigmoid, hard_sigmoid_derivative),
    "hard_swish": Pair(hard_swish, hard_swish_derivative),
    "hard_tanh": Pair(hard_tanh, hard_tanh_derivative),
    "gelu_tanh": Pair(gelu_tanh, gelu_tanh_derivative),
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
    if name == "softmax":
        return softmax(z)
    return ACTIVATION[name].function(z, *_parameter(net, layer))


def derivative_of(net: Architecture, layer: int, z: Array) -> Array:
    """f'(z) of a layer whose activation maps each number by itself."""
    name = net.activations[layer]
    custom = net.custom(name)
    if custom is not None:
        return call_custom(custom.derivative, z)
    return ACTIVATION[name].derivative(z, *_parameter(net, layer))


def _parameter(net: Architecture, layer: int) -> tuple[float, ...]:
    """Return the parameter of a layer's activation, or nothing if it has none."""
    has_one = net.activations[layer] in PARAMETRIC
    return (net.activation_parameter(layer),) if has_one else ()


def call_custom(function: Callable[..., Array], *arguments: Array) -> Array:
    """Call a custom function; an intermediate result such as e⁻ᶻ may overflow to infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(function(*arguments), arguments[0].dtype)
