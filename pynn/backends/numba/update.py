"""Gradients of the weights and optimizer updates."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np

from .plan import (
    ADAGRAD,
    ADAM_HAT,
    AMSGRAD,
    AVERAGE_REST,
    AVERAGED,
    C1,
    C1_REST,
    C2,
    C2_REST,
    CENTERED,
    CLIPS,
    COUPLED,
    DZ,
    EPSILON,
    FACTOR,
    FIRST_BATCH,
    FROZEN,
    GRADIENT_SIZE,
    H_ROW,
    INSIDE,
    L1,
    L2,
    LIMITS_UNITS,
    LION,
    MOMENTUM,
    N_IN,
    N_OUT,
    NADAM,
    NESTEROV,
    RATE,
    RMSPROP,
    SGD,
    SHRINKS,
    STEP_EPSILON,
    STEP_SIZE,
    T_ROW,
    UPDATE_RULE,
    UPDATES,
    W_ROW,
    Z_ROW,
    H,
    T,
    W,
    kernel,
)
from .product import matmul, transpose

BAND = 64
"""Rows of a weight matrix whose gradient is computed and applied while it is in the cache."""


@kernel
def update(optimizer, w, g, u, v, s, c, group):
    """Apply one step to a range of parameters w with gradient g and state u, v, s; c: coefficients;
    ``group``: a row of ``groups``.

    The formulas are those of ``backends/updates.py`` and ``reference.update_group``.
    """
    n = len(w)
    factor = group[FACTOR]
    if group[COUPLED] != 0:
        coupled = group[COUPLED]
        for i in range(n):
            g[i] += coupled * w[i]
    if group[SHRINKS] != 0:
        decay_rate = factor * group[SHRINKS]
        for i in range(n):
            w[i] -= decay_rate * w[i]
    rate, c1, c1_rest, c2, c2_rest = c[RATE], c[C1], c[C1_REST], c[C2], c[C2_REST]
    epsilon = c[EPSILON]
    rate *= factor
    if optimizer == SGD:
        for i in range(n):
            w[i] -= rate * g[i]
    elif optimizer == MOMENTUM:
        for i in range(n):
            u[i] = c1 * u[i] - rate * g[i]
            w[i] += u[i]
    elif optimizer == NESTEROV:
        for i in range(n):
            u[i] = c1 * u[i] - rate * g[i]
            w[i] += c1 * u[i] - rate * g[i]
    elif optimizer == RMSPROP and (c2 != 0 or c[CENTERED] != 0):
        move_by_spread(w, g, u, v, s if c2 != 0 else v, rate, c)
    elif optimizer in (RMSPROP, ADAGRAD):
        inside = c[INSIDE]
        for i in range(n):
            u[i] = c1 * u[i] + c1_rest * g[i] * g[i]
            w[i] -= rate * g[i] / (math.sqrt(u[i] + inside) + epsilon)
    else:
        step_size, step_epsilon = factor * c[STEP_SIZE], c[STEP_EPSILON]
        if optimizer == LION:
            for i in range(n):
                move = c1 * u[i] + c1_rest * g[i]
                if move > 0:
                    w[i] -= rate
                elif move < 0:
                    w[i] += rate
                else:
                    w[i] += move  # 0 or NaN
                u[i] = c2 * u[i] + c2_rest * g[i]
        elif optimizer == AMSGRAD:
            for i in range(n):
                u[i] = c1 * u[i] + c1_rest * g[i]
                v[i] = c2 * v[i] + c2_rest * g[i] * g[i]
                s[i] = s[i] if s[i] > v[i] else v[i]  # NaN if v is
                w[i] -= step_size * u[i] / (math.sqrt(s[i]) + step_epsilon)
        elif optimizer == NADAM:
            of_g = factor * c[GRADIENT_SIZE]
            for i in range(n):
                u[i] = c1 * u[i] + c1_rest * g[i]
                v[i] = c2 * v[i] + c2_rest * g[i] * g[i]
                w[i] -= (of_g * g[i] + step_size * u[i]) / (math.sqrt(v[i]) + step_epsilon)
        else:
            for i in range(n):
                u[i] = c1 * u[i] + c1_rest * g[i]
                v[i] = c2 * v[i] + c2_rest * g[i] * g[i]
                w[i] -= step_size * u[i] / (math.sqrt(v[i]) + step_epsilon)


@kernel
def move_by_spread(w, g, u, v, mean, rate, c):
    """RMSProp with the mean gradient, with momentum v, or with both."""
    rho, rest, momentum, centered = c[C1], c[C1_REST], c[C2], c[CENTERED] != 0
    inside, epsilon = c[INSIDE], c[EPSILON]
    for i in range(len(w)):
        u[i] = rho * u[i] + rest * g[i] * g[i]
        spread = u[i]
        if centered:
            mean[i] = rho * mean[i] + rest * g[i]
            spread -= mean[i] * mean[i]
            if spread < 0:
                spread = inside * 0
        move = rate * g[i] / (math.sqrt(spread + inside) + epsilon)
        if momentum != 0:
            v[i] = momentum * v[i] + move
            move = v[i]
        w[i] -= move


@kernel
def average(p, lo, hi):
    """Update the average of the parameters lo to hi, as ``updates.average``."""
    slot = p.settings[AVERAGED] * len(p.weights)
    w, a = p.weights[lo:hi], p.state[slot + lo : slot + hi]
    rest = p.coefficients[AVERAGE_REST]
    for i in range(len(w)):
        a[i] += rest * (w[i] - a[i])


@kernel
def penalize(p, layer, lo, hi):
    """Add the terms of L1 and L2 to the gradient of rows lo to hi of the weights."""
    l1, l2 = p.coefficients[L1], p.coefficients[L2]
    a, b = layer[W] + lo * layer[W_ROW], layer[W] + hi * layer[W_ROW]
    if a >= b:
        return
    w, g = p.weights[a:b], p.gradient[a:b]
    if l2 != 0:
        for i in range(len(w)):
            g[i] += l2 * w[i]
    if l1 != 0:
        for i in range(len(w)):
            if w[i] > 0:
                g[i] += l1
            elif w[i] < 0:
                g[i] -= l1


@kernel
def apply_rows(p, k, lo, hi):
    """Update rows lo to hi of the weights and biases of layer k with their gradient."""
    layer, size = p.layers[k], len(p.weights)
    n_in, row = layer[N_IN], layer[W_ROW]
    # The last row holds the biases, which are another group.
    for j in range(1, -1, -1):
        a = layer[W] + (max(lo, n_in) if j else lo) * row
        b = layer[W] + (hi if j else min(hi, n_in)) * row
        if a >= b:
            continue
        w, g = p.weights[a:b], p.gradient[a:b]
        u, v = p.state[a:b], p.state[size + a : size + b]
        s = p.state[2 * size + a : 2 * size + b]
        update(p.settings[UPDATE_RULE], w, g, u, v, s, p.coefficients, p.groups[k, j])
        # units_pass may still change the weights, which are then averaged there.
        if p.settings[AVERAGED] >= 0 and (j or not p.settings[LIMITS_UNITS]):
            average(p, a, b)
    if k > 0 and not p.settings[LIMITS_UNITS]:
        transpose(
            *(p.weights, layer[W] + lo * row, row, p.transposed, layer[T] + lo, layer[T_ROW]),
            *(min(hi, n_in) - lo, layer[N_OUT]),
        )


@kernel
def sum_gradient(p, k, lo, hi):
    """Σg² of each of the rows lo to hi of the weights and biases of layer k."""
    layer = p.layers[k]
    for r in range(lo, hi):
        start, total = layer[W] + r * layer[W_ROW], 0.0
        for j in range(start, start + layer[N_OUT]):
            g = np.float64(p.gradient[j])
            total += g * g
        p.squares[0, k, r] = total


@kernel
def set_clip_factor(p):
    """Write the factor on the gradient, as ``reference.clip_factor``."""
    total = 0.0
    for k in range(len(p.layers)):
        if not p.layers[k, FROZEN]:
            for r in range(p.layers[k, N_IN] + 1):
                total += p.squares[0, k, r]
    factor = p.limits[0] / (math.sqrt(total) + 1e-6)
    p.limits[2] = factor if factor < 1 else 1.0


@kernel
def clipped_pass(p, part, parts):
    """Update one part of every layer's rows with the gradient times the factor."""
    factor = p.limits[2]
    for k in range(len(p.layers)):
        layer = p.layers[k]
        if layer[FROZEN]:
            continue
        n_in, row = layer[N_IN], layer[W_ROW]
        lo, hi = part * (n_in + 1) // parts, (part + 1) * (n_in + 1) // parts
        if factor < 1:
            g = p.gradient[layer[W] + lo * row : layer[W] + hi * row]
            for i in range(len(g)):
                g[i] *= factor
        apply_rows(p, k, lo, hi)


@kernel
def units_pass(p, part, parts):
    """Limit the norms of one part of every layer's units; bring their transposes up to date."""
    limit = p.limits[1]
    for k in range(len(p.layers)):
        layer = p.layers[k]
        if layer[FROZEN]:
            continue
        n_in, n_out, row = layer[N_IN], layer[N_OUT], layer[W_ROW]
        lo, hi = part * n_out // parts, (part + 1) * n_out // parts
        if lo >= hi:
            continue
        factors = p.squares[1, k, lo:hi]
        factors[:] = 0
        for i in range(n_in):
            w = p.weights[layer[W] + i * row + lo : layer[W] + i * row + hi]
            for j in range(len(w)):
                factors[j] += np.float64(w[j]) * np.float64(w[j])
        for j in range(len(factors)):
            norm = math.sqrt(factors[j])
            factors[j] = limit / norm if norm > limit else 1.0
        for i in range(n_in):
            w = p.weights[layer[W] + i * row + lo : layer[W] + i * row + hi]
            for j in range(len(w)):
                w[j] *= factors[j]
            if p.settings[AVERAGED] >= 0:
                average(p, layer[W] + i * row + lo, layer[W] + i * row + hi)
        if k > 0:
            transpose(
                *(p.weights, layer[W] + lo, row),
                *(p.transposed, layer[T] + lo * layer[T_ROW], layer[T_ROW], n_in, hi - lo),
            )


@kernel
def weights_pass(p, part, parts, m, before, last):
    """Sum the gradient of one part of every layer's weight rows over the m rows of the chunk.

    ``before`` says whether to add to the gradient of earlier chunks of the batch, ``last`` whether
    this is the last chunk, after which the update follows.
    """
    for k in range(len(p.layers)):
        layer = p.layers[k]
        n_in, row = layer[N_IN], layer[W_ROW]
        begin, stop = part * (n_in + 1) // parts, (part + 1) * (n_in + 1) // parts
        if layer[FROZEN]:
            if last and p.settings[AVERAGED] >= 0:
                average(p, layer[W] + begin * row, layer[W] + stop * row)
            continue
        for lo in range(begin, stop, BAND):
            hi = min(stop, lo + BAND)
            start = layer[W] + lo * row
            matmul(
                *(p.gradient, start, row),
                *(p.block, layer[H] + lo, 1, layer[H_ROW]),
                *(p.block, layer[DZ], layer[Z_ROW]),
                *(hi - lo, layer[N_OUT], m, before),
            )
            if not last:
                continue
            penalize(p, layer, lo, min(hi, n_in))
            if p.settings[CLIPS]:
                sum_gradient(p, k, lo, hi)
            else:
                apply_rows(p, k, lo, hi)


@kernel
def set_step(p, batch):
    """Write the coefficients that change from step to step."""
    i = batch - p.settings[FIRST_BATCH]
    step, rate = p.settings[UPDATES] + i + 1, p.rates[i]
    beta1, beta2 = p.constants[0], p.constants[1]
    epsilon = p.constants[2]
    c = math.sqrt(1 - beta2**step)
    p.coefficients[RATE] = rate
    for k in range(len(p.layers)):
        for j in range(2):
            p.groups[k, j, SHRINKS] = rate * p.decoupled[k, j]
    p.coefficients[STEP_SIZE] = rate * c / (1 - beta1**step)
    t = step - p.constants[7]
    p.coefficients[AVERAGE_REST] = 1 - min(p.constants[6], (1 + t) / (10 + t))
    hat = p.settings[UPDATE_RULE] == ADAM_HAT or p.constants[8] != 0
    p.coefficients[STEP_EPSILON] = epsilon if hat else c * epsilon
    if p.settings[UPDATE_RULE] == NADAM:
        set_momenta(p, step, rate * c)


@kernel
def set_momenta(p, step, rate):
    """Write NAdam's coefficients. The product of the momenta is a function of ``step`` alone; that
    of the step before is usually known."""
    known, beta1, decay = p.constants[4:], p.constants[0], p.constants[3]
    if known[1] > step or known[1] == 0:
        known[0], known[1] = 1, 0
    while known[1] < step and known[0] >= 1e-30:  # then 1 - product is 1
        known[1] += 1
        known[0] *= beta1 * (1 - 0.5 * 0.96 ** (known[1] * decay))
    known[1] = step
    now = beta1 * (1 - 0.5 * 0.96 ** (step * decay))
    after = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * decay))
    p.coefficients[GRADIENT_SIZE] = rate * (1 - now) / (1 - known[0])
    p.coefficients[STEP_SIZE] = rate * after / (1 - known[0] * after)
