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

from ...spec.losses import LEAST_VARIANCE
from .activations import custom_loss, softmax
from .maths import HALF, ONE, TWO, by_dtype, exp, exp_of_any, log1p, sigmoid_from, tanh
from .plan import CUSTOM, LOSS, inlined_kernel, kernel

CROSS_ENTROPY, BINARY_CROSS_ENTROPY = LOSS["cross_entropy"], LOSS["binary_cross_entropy"]
MSE, POISSON = LOSS["mse"], LOSS["poisson"]
MAE, HUBER, LOG_COSH = LOSS["mae"], LOSS["huber"], LOSS["log_cosh"]
QUANTILE, GAMMA, TWEEDIE = LOSS["quantile"], LOSS["gamma"], LOSS["tweedie"]
HINGE, SQUARED_HINGE, FOCAL = LOSS["hinge"], LOSS["squared_hinge"], LOSS["focal"]
GAUSSIAN = LOSS["gaussian_nll"]
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
    """Return a kernel: the mean of ``term`` over the outputs of a row.

    Several quantiles have one output each for every target: all targets of the first, and so on.
    """

    @kernel
    def loss(parameters, z, a, t, label, n, rows, is_softmax):
        outputs, inner = a.dtype.type(n), a.dtype.type(0)
        targets = n if label >= 0 else len(t)
        total = 0.0
        for first in range(0, n, targets):
            p = parameters[first // targets] if len(parameters) else a.dtype.type(0)
            for j in range(first, first + targets):
                value, da = term(a[j], target(a, t, label, j - first), p)
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

# The same of losses with one output activation: z in place of a, and all parameters p.


@inlined_kernel
def gamma(z, t, p):
    ratio = t * exp_of_any(-z)
    return np.float64(ratio) + np.float64(z) - (1 + math.log(np.float64(t))), ONE(z) - ratio


@inlined_kernel
def tweedie(z, t, p):
    b, c = TWO(z) - p[0], p[0] - ONE(z)
    mean = exp_of_any(b * z)
    rest = z - z  # 0·∞ would be a NaN
    constant = 0.0
    if t > 0:
        rest = t * exp_of_any(-c * z)
        constant = np.float64(t) ** np.float64(b) / (np.float64(b) * np.float64(c))
    return np.float64(mean / b) + np.float64(rest / c) - constant, mean - rest


@inlined_kernel
def hinge(z, t, p):
    s = t + t - ONE(z)
    margin = ONE(z) - s * z
    margin = z - z if margin < 0 else margin
    return margin, (-s if margin > 0 else z - z)


@inlined_kernel
def squared_hinge(z, t, p):
    s = t + t - ONE(z)
    margin = ONE(z) - s * z
    margin = z - z if margin < 0 else margin
    return margin * margin, -(s + s) * margin


@inlined_kernel
def focal(z, t, p):
    e = exp(-abs(z))
    log, likely, rare = log1p(e), ONE(z) / (ONE(z) + e), e / (ONE(z) + e)
    yes, no = (likely, rare) if z >= 0 else (rare, likely)
    above = (z if z > 0 else z - z) + log
    below = (z - z if z > 0 else -z) + log
    a = p[1] * t * exp(-p[0] * above)
    b = p[2] * (ONE(z) - t) * exp(-p[0] * below)
    return a * below + b * above, b * (p[0] * no * above + yes) - a * (p[0] * yes * below + no)


def mean_of_terms_of_z(term):
    """Return a kernel: the mean of ``term`` over the outputs of a row."""

    @kernel
    def loss(parameters, z, a, t, label, n, rows):
        outputs = a.dtype.type(n)
        total = 0.0
        for j in range(n):
            value, dz = term(z[j], target(a, t, label, j), parameters)
            total += np.float64(value)
            a[j] = dz / outputs / rows
        return total / n

    return loss


mean_of_gamma, mean_of_tweedie = mean_of_terms_of_z(gamma), mean_of_terms_of_z(tweedie)
mean_of_hinge = mean_of_terms_of_z(hinge)
mean_of_squared_hinge = mean_of_terms_of_z(squared_hinge)
mean_of_focal = mean_of_terms_of_z(focal)


# --- Other losses ---------------------------------------------------------------------------------


@inlined_kernel
def focal_term(log_p, rest, t, power):
    """Return −t·(1 − p)^γ·log p and its slope by log p; ``rest`` is 1 − p."""
    weight = rest**power
    ratio = log_p / rest if rest > 0 else -1.0
    return -t * weight * log_p, -t * weight * (1 - power * math.exp(log_p) * ratio)


@kernel
def focal_of_classes(parameters, z, a, t, label, n, rows):
    power = np.float64(parameters[0])
    log_sum, others, best = softmax(z, a, n)
    top, rest_of_best = np.float64(z[best]), np.float64(others)
    total, slope = 0.0, 0.0
    for j in range(n):
        goal = np.float64(target(a, t, label, j))
        log_p = (np.float64(z[j]) - top) - log_sum
        own = 0.0
        if goal > 0:
            rest = rest_of_best if j == best else -math.expm1(log_p)
            value, own = focal_term(log_p, rest, goal, power)
            total += value
            slope += own
        z[j] = own
    for j in range(n):
        p = np.float64(a[j])
        if j == label:
            dz = slope * (rest_of_best if j == best else 1 - p)
        else:
            dz = np.float64(z[j]) - p * slope
        a[j] = a.dtype.type(dz) / rows
    return total + log_sum * 0.0


@kernel
def gaussian(parameters, z, a, t, n, rows):
    count = n // 2
    one, least, outputs = a.dtype.type(1), a.dtype.type(LEAST_VARIANCE), a.dtype.type(count)
    total = 0.0
    for j in range(count):
        s = z[count + j]
        e = exp(-abs(s))
        variance = (s if s > 0 else s - s) + log1p(e) + least
        d = z[j] - t[j]
        q = d / variance
        total += 0.5 * (math.log(np.float64(variance)) + np.float64(d * q))
        slope = HALF(s) * (one - d * q) / variance * sigmoid_from(e, s < 0)
        a[j] = q / outputs / rows
        a[count + j] = slope / outputs / rows
    return total / count


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
def loss_of_z(kind, parameters, z, a, t, label, n, rows, is_softmax):
    """``loss_of_row`` for losses with one output activation, but for the first three."""
    if kind == GAMMA:
        return mean_of_gamma(parameters, z, a, t, label, n, rows)
    if kind == TWEEDIE:
        return mean_of_tweedie(parameters, z, a, t, label, n, rows)
    if kind == HINGE:
        return mean_of_hinge(parameters, z, a, t, label, n, rows)
    if kind == SQUARED_HINGE:
        return mean_of_squared_hinge(parameters, z, a, t, label, n, rows)
    if kind == FOCAL and is_softmax:
        return focal_of_classes(parameters, z, a, t, label, n, rows)
    if kind == FOCAL:
        return mean_of_focal(parameters, z, a, t, label, n, rows)
    return gaussian(parameters, z, a, t, n, rows)


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
    if kind > QUANTILE:
        return loss_of_z(kind, parameters, z, a, t, label, n, rows, is_softmax)
    if kind == MAE:
        return mean_of_mae(parameters, z, a, t, label, n, rows, is_softmax)
    if kind == HUBER:
        return mean_of_huber(parameters, z, a, t, label, n, rows, is_softmax)
    if kind == LOG_COSH:
        return mean_of_log_cosh(parameters, z, a, t, label, n, rows, is_softmax)
    if kind == QUANTILE:
        return mean_of_quantile(parameters, z, a, t, label, n, rows, is_softmax)
    return custom(address, z, a, t, label, n, rows, is_softmax)
