"""Losses of the NumPy reference, with their gradients.

Each function takes the outputs before the output activation z (m, n_out) and their targets t
(m, n_out), and returns the loss of each row (m,), float64, and dz = ∂loss/∂z (m, n_out). L stands
for the loss of a row; sums and means run over its outputs.

With the convention ``"sklearn"`` they are the losses of scikit-learn's multilayer perceptrons: sums
in place of means, except that mse is ½·mean((f(z) − t)²) with the gradient of ½·Σ(f(z) − t)²; and
cross entropies use probabilities rounded to the dtype and clipped to [ε, 1 − ε], with ε the machine
epsilon.

To add a loss: a function and a line in ``LOSS`` here, its name and output activation in
``spec/names.py``, and the formula in ``numba/losses.py`` and ``csrc/kernels/loss.h``, with its
number in ``numba/plan.py`` and ``cython/setup.pxi``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..spec.architecture import Architecture
from .activations import (
    activation_of,
    call_custom,
    derivative_of,
    sigmoid,
    softmax,
    softmax_gradient,
)

Array = np.ndarray
Result = tuple[Array, Array]


def cross_entropy(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = Σ t·(log Σ exp z − z), dz = softmax(z) − t, for targets that sum to 1 in each row."""
    shifted = z - z.max(axis=1, keepdims=True)
    # The largest exponential is exactly 1. log1p of the sum of the others keeps the digits of a
    # loss near 0.
    e = np.exp(shifted)
    e[np.arange(len(e)), z.argmax(axis=1)] = 0
    log_sum = np.log1p(e.sum(axis=1, keepdims=True))
    terms, dz = t * (log_sum - shifted), softmax(z) - t
    if convention == "sklearn":
        terms = -t * np.log(clipped(softmax(z)))
    return terms.sum(axis=1, dtype=np.float64), dz


def binary_cross_entropy(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean(softplus(z) − t·z), dz = (sigmoid(z) − t) / n_out."""
    terms, dz = np.maximum(z, 0) - t * z + np.log1p(np.exp(-np.abs(z))), sigmoid(z) - t
    if convention == "sklearn":
        p = clipped(sigmoid(z))
        terms = -t * np.log(p) - (1 - t) * np.log(1 - p)
    return over_outputs(terms, dz, convention)


def poisson(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean(exp z − t·z + t·log t − t), half the deviance; dz = (exp z − t) / n_out."""
    log_t = np.log(np.where(t > 0, t, 1))
    terms, dz = np.exp(z) - t * z + (t * log_t - t), np.exp(z) - t
    return over_outputs(terms, dz, convention)


def mse(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean((f(z) − t)²), dz = f'(z)·2·(f(z) − t) / n_out."""
    a = activation_of(net, -1, z)
    terms, dz = (a - t) ** 2, through_activation(net, z, a, a - t)
    if convention == "sklearn":
        return 0.5 * terms.mean(axis=1, dtype=np.float64), dz
    return over_outputs(terms, 2 * dz, convention)


def custom_loss(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean(function(f(z), t)), dz = f'(z)·gradient(f(z), t) / n_out, in both conventions."""
    a, loss = activation_of(net, -1, z), net.custom(net.loss)
    terms, da = call_custom(loss.function, a, t), call_custom(loss.gradient, a, t)
    return over_outputs(terms, through_activation(net, z, a, da), "pynn")


LOSS: dict[str, Callable[[Architecture, Array, Array, str], Result]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": mse,
    "poisson": poisson,
}


def over_outputs(terms: Array, dz: Array, convention: str) -> Result:
    """Combine the losses of a row's outputs: their mean, or their sum in scikit-learn."""
    if convention == "sklearn":
        return terms.sum(axis=1, dtype=np.float64), dz
    return terms.mean(axis=1, dtype=np.float64), dz / dz.shape[1]


def through_activation(net: Architecture, z: Array, a: Array, da: Array) -> Array:
    """∂loss/∂z from ∂loss/∂a, through the output activation a = f(z)."""
    if net.activations[-1] == "softmax":
        return softmax_gradient(a, da)
    return da * derivative_of(net, -1, z)


def clipped(p: Array) -> Array:
    epsilon = np.finfo(p.dtype).eps
    return np.clip(p, epsilon, 1 - epsilon)
