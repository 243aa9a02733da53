"""Losses of one row, with their gradients; the formulas are those of ``backends/losses.py``.

Each function takes the outputs of a row before the output activation z, its targets t (n,) or
its label (-1 without labels), and the number of rows of the batch. It returns the loss of the row
and writes dz, the gradient of the mean over the batch, to a. ``mse`` and ``custom`` are called with
the outputs in a and f'(z) in z (1 for softmax, whose derivative is a matrix); the others compute
the outputs themselves.

The sums of a row are float64; everything else has the dtype of the network.
"""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np

from .activations import custom_loss, softmax
from .maths import HALF, exp, exp_of_any, log1p
from .plan import (
    BINARY_CROSS_ENTROPY,
    CROSS_ENTROPY,
    MSE,
    POISSON,
    inlined_kernel,
    kernel,
)


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
def loss_of_row(kind, address, z, a, t, label, n, rows, is_softmax):
    """Return the loss of a row and write dz to a, by the loss of this number."""
    if kind == CROSS_ENTROPY:
        return cross_entropy(z, a, t, label, n, rows)
    if kind == BINARY_CROSS_ENTROPY:
        return binary_cross_entropy(z, a, t, label, n, rows)
    if kind == MSE:
        return mse(z, a, t, label, n, rows, is_softmax)
    if kind == POISSON:
        return poisson(z, a, t, label, n, rows)
    return custom(address, z, a, t, label, n, rows, is_softmax)
