"""Losses of one row, with their gradients; the formulas are those of ``backends/losses.py``.

Each function takes the outputs of a row before the output activation z, its targets t (n,) or
its label (-1 without labels), and the number of rows of the batch. It returns the loss of the row
and writes dz, the gradient of the mean over the batch, to a. Those of ``takes_outputs`` are called
with the outputs in a and f'(z) in z (1 for softmax, whose derivative is a matrix); the others
compute the outputs themselves.

The sums of a row are float64; everything else has the dtype of the network.
"""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np

from .activations import custom_loss, softmax
from .maths import HALF, ONE, TWO, by_dtype, exp, exp_of_any, log1p, tanh
from .plan import CUSTOM, LOSS, inlined_kernel, kernel

CROSS_ENTROPY, BINARY_CROSS_ENTROPY = LOSS["cross_entropy"], LOSS["binary_cross_entropy"]
MSE, POISSON = LOSS["mse"], LOSS["poisson"]
MAE, HUBER, LOG_COSH = LOSS["mae"], LOSS["huber"], LOSS["log_cosh"]
QUANTILE = LOSS["quantile"]
LN2 = by_dtype(np.float32(math.log(2)), math.log(2))


@inlined_kernel
def takes_outputs(kind):
    """Whether the loss of this number is computed from the outputs a rather than from z."""
    return kind in (MSE, CUSTOM) or MAE <= kind <= QUANTILE


@inlined_kernel
def target(a, t, label, j):
    """Target of output j: t[j], or with a label 1 at the label and 0 elsewhere."""
    if label < 0:
        return t[j]
    return a.dtype.type(1) if j == label else a.dtype.type(0)


@kernel
def cross_entropy(z, a, t, label, n, rows):
    one = a.dtype.type(1)
    log_sum, others, best = softmax(z, a, n)
    top = np.float64(z[best])
    loss = 0.0
    if label >= 0:
        loss += log_sum - (z[label] - top)
        a[label] = -others if label == best else a[label] - one
    else:
        likely = (one - t[best]) - others
        for j in range(n):
            loss += t[j] * (log_sum - (z[j] - top))
            a[j] -= t[j]
        # 1 − others keeps more digits than the rounded probability, except far from 1.
        if others < HALF(others):
            a[best] = likely
    for j in range(len(a)):
        a[j] /= rows
    return loss


@kernel
def binary_cross_entropy(z, a, t, label, n, rows):
    zero, one, outputs = a.dtype.type(0), a.dtype.type(1), a.dtype.type(n)
    loss = 0.0
    for j in range(n):
        goal = target(a, t, label, j)
        e = exp(-abs(z[j]))
        logit = np.float64(z[j])
        loss += max(logit, 0.0) - np.float64(goal) * logit + np.float64(log1p(e))
        unlikely = e / (one + e)
        a[j] = (one - goal) - unlikely if z[j] > zero else unlikely - goal
        a[j] = a[j] / outputs / rows
    return loss / n


@kernel
def poisson(z, a, t, label, n, rows):
    zero, outputs = a.dtype.type(0), a.dtype.type(n)
    loss = 0.0
    for j in range(n):
        goal = target(a, t, label, j)
        e = exp_of_any(z[j])
        mean, count = np.float64(e), np.float64(goal)
        loss += mean - count * z[j] - count
        if goal > zero:
            loss += count * math.log(count)
        a[j] = (e - goal) / outputs / rows
    return loss / n


@kernel
def mse(z, a, t, label, n, rows, is_softmax):
    two, outputs = a.dtype.type(2), a.dtype.type(n)
    inner = a.dtype.type(0)
    loss = 0.0
    for j in range(n):
        error = a[j] - target(a, t, label, j)
        loss += error * error
        da = two * error / outputs
        inner += a[j] * da
        if not is_softmax:
            a[j] = da * z[j] / rows
    if is_softmax:
        for j in range(n):
            goal = target(a, t, label, j)
            a[j] = a[j] * (two * (a[j] - goal) / outputs - inner) / rows
    return loss / n


# --- Losses of one output and its target ----------------------------------------------------------
#
# Each takes an output a, its target t and a parameter p of the loss, and returns the loss of the
# output and its slope ∂loss/∂a.


@inlined_kernel
def mae(a, t, p):
    d = a - t
    return abs(d), sign(d, ONE(d), ONE(d))


@inlined_kernel
def huber(a, t, p):
    d = a - t
    near = abs(d)
    near = p if near > p else near
    return near * (abs(d) - HALF(d) * near), (near if d > 0 else -near)


@inlined_kernel
def log_cosh(a, t, p):
    d = abs(a - t)
    return d + log1p(exp(-TWO(d) * d)) - LN2(d), tanh(a - t)


@inlined_kernel
def quantile(a, t, p):
    d = a - t
    slope = sign(d, p, ONE(d) - p)
    return d * slope, slope


@inlined_kernel
def sign(d, below, above):
    """−below for negative d, above for positive d, 0 for 0."""
    return above if d > 0 else (-below if d < 0 else d)


def mean_of_terms(term):
    """Return a kernel: the mean of ``term`` over the outputs of a row."""

    @kernel
    def loss(parameters, z, a, t, label, n, rows, is_softmax):
        outputs, inner = a.dtype.type(n), a.dtype.type(0)
        p = parameters[0] if len(parameters) else inner
        total = 0.0
        for j in range(n):
            value, da = term(a[j], target(a, t, label, j), p)
            total += np.float64(value)
            if is_softmax:
                inner += a[j] * da
                z[j] = da
            else:
                a[j] = da * z[j] / outputs / rows
        if is_softmax:
            for j in range(n):
                a[j] = a[j] * (z[j] - inner) / outputs / rows
        return total / n

    return loss


mean_of_mae, mean_of_huber = mean_of_terms(mae), mean_of_terms(huber)
mean_of_log_cosh, mean_of_quantile = mean_of_terms(log_cosh), mean_of_terms(quantile)


@kernel
def custom(address, z, a, t, label, n, rows, is_softmax):
    outputs, inner = a.dtype.type(n), a.dtype.type(0)
    if is_softmax:
        for j in range(n):
            z[j] = a.dtype.type(1)
    loss = custom_loss(address, a, t, z, label, n) / n
    if is_softmax:
        for j in range(n):
            inner += a[j] * z[j]
        for j in range(n):
            z[j] = a[j] * (z[j] - inner)
    for j in range(n):
        a[j] = z[j] / outputs / rows
    return loss


@kernel
def loss_of_row(kind, address, parameters, z, a, t, label, n, rows, is_softmax):
    """Return the loss of a row and write dz to a, by the loss of this number."""
    if kind == CROSS_ENTROPY:
        return cross_entropy(z, a, t, label, n, rows)
    if kind == BINARY_CROSS_ENTROPY:
        return binary_cross_entropy(z, a, t, label, n, rows)
    if kind == MSE:
        return mse(z, a, t, label, n, rows, is_softmax)
    if kind == POISSON:
        return poisson(z, a, t, label, n, rows)
    if kind == MAE:
        return mean_of_mae(parameters, z, a, t, label, n, rows, is_softmax)
    if kind == HUBER:
        return mean_of_huber(parameters, z, a, t, label, n, rows, is_softmax)
    if kind == LOG_COSH:
        return mean_of_log_cosh(parameters, z, a, t, label, n, rows, is_softmax)
    if kind == QUANTILE:
        return mean_of_quantile(parameters, z, a, t, label, n, rows, is_softmax)
    return custom(address, z, a, t, label, n, rows, is_softmax)
