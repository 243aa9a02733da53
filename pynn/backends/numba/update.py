"""Gradients of the weights and optimizer updates."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

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
    DECAY,
    DZ,
    EPSILON,
    FIRST_BATCH,
    FROZEN,
    GRADIENT_SIZE,
    H_ROW,
    KEPT,
    L2,
    LION,
    MOMENTUM,
    N_IN,
    N_OUT,
    NADAM,
    NESTEROV,
    RATE,
    RMSPROP,
    SGD,
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
def update(optimizer, w, g, u, v, s, c, factor, decay):
    """Apply one step to a range of parameters w with gradient g and state u, v, s; c: coefficients;
    ``factor``: of the learning rate.

    The formulas are those of ``backends/updates.py``.
    """
    n = len(w)
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
    elif optimizer in (RMSPROP, ADAGRAD):
        for i in range(n):
            u[i] = c1 * u[i] + c1_rest * g[i] * g[i]
            w[i] -= rate * g[i] / (math.sqrt(u[i]) + epsilon)
    else:
        step_size, step_epsilon = factor * c[STEP_SIZE], c[STEP_EPSILON]
        if decay and c[DECAY] != 0:
            decay_rate = factor * c[DECAY]
            for i in range(n):
                w[i] -= decay_rate * w[i]
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
def average(p, lo, hi):
    """Update the average of the parameters lo to hi, as ``updates.average``."""
    slot = p.settings[AVERAGED] * len(p.weights)
    w, a = p.weights[lo:hi], p.state[slot + lo : slot + hi]
    rest = p.coefficients[AVERAGE_REST]
    for i in range(len(w)):
        a[i] += rest * (w[i] - a[i])


@kernel
def weights_pass(p, part, parts, m, before, last):
    """Sum the gradient of one part of every layer's weight rows over the m rows of the chunk.

    ``before`` says whether to add to the gradient of earlier chunks of the batch, ``last`` whether
    this is the last chunk, after which the update follows.
    """
    size, l2 = len(p.weights), p.coefficients[L2]
    for k in range(len(p.layers)):
        layer = p.layers[k]
        n_in, row = layer[N_IN], layer[W_ROW]
        factor = p.coefficients[KEPT + 2 * len(p.layers) + k]
        begin, stop = part * (n_in + 1) // parts, (part + 1) * (n_in + 1) // parts
        averages = last and p.settings[AVERAGED] >= 0
        if layer[FROZEN]:
            if averages:
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
            # The last row holds the biases, to which neither L2 nor weight decay applies.
            for decay in range(2):
                a = start if decay else layer[W] + max(lo, n_in) * row
                b = layer[W] + (min(hi, n_in) if decay else hi) * row
                if a >= b:
                    continue
                w, g = p.weights[a:b], p.gradient[a:b]
                if decay and l2 != 0:
                    for i in range(len(w)):
                        g[i] += l2 * w[i]
                u, v = p.state[a:b], p.state[size + a : size + b]
                s = p.state[2 * size + a : 2 * size + b]
                update(p.settings[UPDATE_RULE], w, g, u, v, s, p.coefficients, factor, decay)
            if averages:
                average(p, start, layer[W] + hi * row)
            if k > 0:
                transpose(
                    *(p.weights, start, row, p.transposed, layer[T] + lo, layer[T_ROW]),
                    *(min(hi, n_in) - lo, layer[N_OUT]),
                )


@kernel
def set_step(p, batch):
    """Write the coefficients that change from step to step."""
    i = batch - p.settings[FIRST_BATCH]
    step, rate = p.settings[UPDATES] + i + 1, p.rates[i]
    beta1, beta2 = p.constants[0], p.constants[1]
    epsilon, weight_decay = p.constants[2], p.constants[3]
    c = math.sqrt(1 - beta2**step)
    p.coefficients[RATE] = rate
    p.coefficients[DECAY] = rate * weight_decay
    p.coefficients[STEP_SIZE] = rate * c / (1 - beta1**step)
    t = step - p.constants[8]
    p.coefficients[AVERAGE_REST] = 1 - min(p.constants[7], (1 + t) / (10 + t))
    hat = p.settings[UPDATE_RULE] == ADAM_HAT
    p.coefficients[STEP_EPSILON] = epsilon if hat else c * epsilon
    if p.settings[UPDATE_RULE] == NADAM:
        set_momenta(p, step, rate * c)


@kernel
def set_momenta(p, step, rate):
    """Write NAdam's coefficients. The product of the momenta is a function of ``step`` alone; that
    of the step before is usually known."""
    known, beta1, decay = p.constants[5:], p.constants[0], p.constants[4]
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
