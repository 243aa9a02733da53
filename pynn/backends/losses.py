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
from ..spec.losses import LEAST_VARIANCE, LossFunction
from .activations import (
    activation_of,
    call_custom,
    derivative_of,
    sigmoid,
    softmax,
    softmax_gradient,
    softplus,
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
    """max(q·(t − a), (q − 1)·(t − a)), with slope 0 at 0 (Koenker and Bassett 1978, eq. 2.1).

    Several quantiles q have one output each for every target: all targets of the first, and so on.
    """
    q = np.repeat(np.array(loss.numbers(), a.dtype), t.shape[1])
    d = a - np.tile(t, len(loss.numbers()))
    slope = np.where(d > 0, 1 - q, np.where(d < 0, -q, a.dtype.type(0)))
    return np.maximum(-q * d, (1 - q) * d), slope


TERM: dict[str, Callable[[LossFunction, Array, Array], Result]] = {
    "mae": mae,
    "huber": huber,
    "log_cosh": log_cosh,
    "quantile": quantile,
}

# The same of losses with one output activation, in z: they return l(z, t) and ∂l/∂z.


def gamma(loss: LossFunction, z: Array, t: Array) -> Result:
    """t/μ − 1 − log(t/μ) with μ = exp z (half of McCullagh and Nelder 1989, section 2.3)."""
    ratio = t * np.exp(-z)
    return ratio + z - (1 + np.log(t)), 1 - ratio


def tweedie(loss: LossFunction, z: Array, t: Array) -> Result:
    """μ^b/b + t·μ^−c/c − t^b/(b·c) with μ = exp z, b = 2 − p, c = p − 1.

    Half the deviance of Jørgensen 1987, section 5.
    """
    (power,) = loss.numbers()
    b, c = z.dtype.type(2 - power), z.dtype.type(power - 1)
    mean, rest = np.exp(b * z), np.where(t > 0, t * np.exp(-c * z), z.dtype.type(0))
    return mean / b + rest / c - t**b / (b * c), mean - rest


def hinge(loss: LossFunction, z: Array, t: Array) -> Result:
    """max(0, 1 − s·z) with s = 2t − 1 (Cortes and Vapnik 1995); slope 0 at the kink."""
    s = t + t - 1
    margin = np.maximum(1 - s * z, 0)
    return margin, np.where(margin > 0, -s, z.dtype.type(0))


def squared_hinge(loss: LossFunction, z: Array, t: Array) -> Result:
    """max(0, 1 − s·z)² with s = 2t − 1."""
    s = t + t - 1
    margin = np.maximum(1 - s * z, 0)
    return margin**2, -2 * s * margin


def focal(loss: LossFunction, z: Array, t: Array) -> Result:
    """t·α·(1 − p)^γ·(−log p) + (1 − t)·(1 − α)·p^γ·(−log(1 − p)) (Lin et al. 2017, eq. 5).

    p = sigmoid(z), so −log p is softplus(−z) and (1 − p)^γ is e^(−γ·softplus(z)).
    """
    power, yes, no = (z.dtype.type(value) for value in loss.numbers())
    p, q, above, below = sigmoid(z), sigmoid(-z), softplus(z), softplus(-z)
    a, b = yes * t * np.exp(-power * above), no * (1 - t) * np.exp(-power * below)
    dz = b * (power * q * above + p) - a * (power * p * below + q)
    return a * below + b * above, dz


TERM_OF_Z: dict[str, Callable[[LossFunction, Array, Array], Result]] = {
    "gamma": gamma,
    "tweedie": tweedie,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
    "focal": focal,
}


def mean_of_terms(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean(l(f(z), t)), dz = f'(z)·∂l/∂a / n_out, with l from ``TERM``."""
    a, loss = activation_of(net, -1, z), net.loss_function
    terms, da = TERM[loss.name](loss, a, t)
    return over_outputs(terms, through_activation(net, z, a, da), convention)


def mean_of_terms_of_z(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean(l(z, t)), dz = ∂l/∂z / n_out, with l from ``TERM_OF_Z``."""
    loss = net.loss_function
    if loss.name == "focal" and net.activations[-1] == "softmax":
        return focal_of_classes(net, z, t)
    terms, dz = TERM_OF_Z[loss.name](loss, z, t)
    return over_outputs(terms, dz, convention)


def focal_of_classes(net: Architecture, z: Array, t: Array) -> Result:
    """L = Σ t·(1 − p)^γ·(−log p) with p = softmax(z) (Lin et al. 2017, eq. 4).

    dz = t·c − p·Σ t·c with c = (1 − p)^γ·(γ·p·log p / (1 − p) − 1), where log p / (1 − p) is −1 at
    p = 1. Computed in float64, since 1 − p cancels.
    """
    (power, *_), z64 = net.loss_function.numbers(), z.astype(np.float64)
    best = np.arange(len(z)), z.argmax(axis=1)
    shifted = z64 - z64[best][:, None]
    e = np.exp(shifted)
    e[best] = 0
    others = e.sum(axis=1)
    log_p = shifted - np.log1p(others)[:, None]
    p, rest = np.exp(log_p), -np.expm1(log_p)
    rest[best] = others / (1 + others)
    weight = rest**power
    ratio = np.where(rest > 0, log_p / np.where(rest > 0, rest, 1), -1)
    c = t * weight * (power * p * ratio - 1)
    total = c.sum(axis=1, keepdims=True)
    # Where all of the target is in one class, c − p·c is (1 − p)·c, without cancellation.
    dz = np.where(c == total, rest * total, c - p * total)
    losses = np.where(t > 0, -t * weight * log_p, 0).sum(axis=1) + 0 * z64.sum(axis=1)
    return losses, dz.astype(z.dtype)


def gaussian_nll(net: Architecture, z: Array, t: Array, convention: str) -> Result:
    """L = mean(½·(log v + (μ − t)²/v)) with μ the first half of z (Nix and Weigend 1994, eq. 4).

    v = softplus(s) + 10⁻⁶, s the second half (Lakshminarayanan et al. 2017, section 2.2).
    """
    mean, s = np.split(z, 2, axis=1)
    v = softplus(s) + z.dtype.type(LEAST_VARIANCE)
    d = mean - t
    q = d / v
    dz = np.concatenate([q, z.dtype.type(0.5) * (1 - d * q) / v * sigmoid(s)], axis=1)
    return over_outputs(0.5 * (np.log(v) + d * q), dz, convention)


LOSS: dict[str, Callable[[Architecture, Array, Array, str], Result]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": mse,
    "poisson": poisson,
    **dict.fromkeys(TERM, mean_of_terms),
    **dict.fromkeys(TERM_OF_Z, mean_of_terms_of_z),
    "gaussian_nll": gaussian_nll,
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
