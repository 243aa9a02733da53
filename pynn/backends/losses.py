"""Losses of the NumPy reference, with their gradients.

Each function takes the outputs before the output activation z (m, n_out) and their targets t
(m, n_out), and returns the loss of each row (m,), float64, and dz = ∂loss/∂z (m, n_out). L stands
for the loss of a row; sums and means run over its outputs.

With the convention ``"sklearn"`` they are the losses of scikit-learn's multilayer perceptrons: sums
in place of means, except that mse is ½·mean((f(z) − t)²) with the gradient of ½·Σ(f(z) − t)²; and
cross entropies use probabilities rounded to the dtype and clipped to [ε, 1 − ε], with ε the machine
epsilon.

To add a loss: its class in ``spec/losses.py``; a function and a line in ``TERM`` or ``LOSS`` here;
and the formula in ``numba/losses.py`` and in ``csrc/kernels/loss.h``, with its name in
``csrc/kernels/kernels.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..spec.architecture import Architecture
from ..spec.losses import LossFunction
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


# --- Losses of one output and its target ----------------------------------------------------------
#
# Each function takes the loss with its parameters, outputs a = f(z) (m, n_out) and targets t, and
# returns the loss of each output l(a, t) and ∂l/∂a. L is their mean over the outputs.


def mae(loss: LossFunction, a: Array, t: Array) -> Result:
    """|a − t|, with slope 0 at 0."""
    return np.abs(a - t), np.sign(a - t)


def huber(loss: LossFunction, a: Array, t: Array) -> Result:
    """½·d² for |d| ≤ δ, else δ·(|d| − ½·δ), with d = a − t (Huber 1964, eq. 2.7)."""
    d, delta = a - t, a.dtype.type(*loss.numbers())
    near = np.minimum(np.abs(d), delta)
    return near * (np.abs(d) - a.dtype.type(0.5) * near), np.clip(d, -delta, delta)


def log_cosh(loss: LossFunction, a: Array, t: Array) -> Result:
    """log cosh d = |d| + log1p(e^(−2·|d|)) − log 2, with d = a − t; the slope is tanh d."""
    d = np.abs(a - t)
    return d + np.log1p(np.exp(-2 * d)) - d.dtype.type(math.log(2)), np.tanh(a - t)


def quantile(loss: LossFunction, a: Array, t: Array) -> Result:
    """max(q·(t − a), (q − 1)·(t − a)), with slope 0 at 0 (Koenker and Bassett 1978, eq. 2.1)."""
    q, d = a.dtype.type(*loss.numbers()), a - t
    slope = np.where(d > 0, 1 - q, np.where(d < 0, -q, a.dtype.type(0)))
    return np.maximum(-q * d, (1 - q) * d), slope


TERM: dict[str, Callable[[LossFunction, Array, Array], Result]] = {
    "mae": mae,
    "huber": huber,
    "log_cosh": log_cosh,
    "quantile": quantile,
}


def mean_of_terms(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean(l(f(z), t)), dz = f'(z)·∂l/∂a / n_out, with l from ``TERM``."""
    a, loss = activation_of(net, -1, z), net.loss_function
    terms, da = TERM[loss.name](loss, a, t)
    return over_outputs(terms, through_activation(net, z, a, da), convention)


LOSS: dict[str, Callable[[Architecture, Array, Array, str], Result]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": mse,
    "poisson": poisson,
    **dict.fromkeys(TERM, mean_of_terms),
}


def loss_of(net: Architecture) -> Callable[[Architecture, Array, Array, str], Result]:
    """Return the function that computes the loss of a network."""
    return custom_loss if net.custom(net.loss) else LOSS[net.loss]


def over_outputs(terms: Array, dz: Array, convention: str) -> Result:
    """Combine the terms of a row's loss: their mean, or their sum in scikit-learn."""
    if convention == "sklearn":
        return terms.sum(axis=1, dtype=np.float64), dz
    return terms.mean(axis=1, dtype=np.float64), dz / terms.shape[1]


def through_activation(net: Architecture, z: Array, a: Array, da: Array) -> Array:
    """∂loss/∂z from ∂loss/∂a, through the output activation a = f(z)."""
    if net.activations[-1] == "softmax":
        return softmax_gradient(a, da)
    return da * derivative_of(net, -1, z)


def clipped(p: Array) -> Array:
    epsilon = np.finfo(p.dtype).eps
    return np.clip(p, epsilon, 1 - epsilon)
