"""Forward and backward passes over the rows of a chunk."""

# The types of kernels are Numba's business.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np

from .activations import activation, largest, own_loss, softmax
from .maths import HALF, exp, exp_of_any, log1p
from .plan import (
    ADDRESS,
    BY_HALF,
    BY_LABEL,
    BY_LARGEST,
    COUNTED,
    CROSS_ENTROPY,
    DZ,
    EPOCH,
    FORWARD,
    GRADIENT,
    H_ROW,
    HAS_LABELS,
    KEPT,
    LOSS_ADDRESS,
    MSE,
    N_IN,
    N_OUT,
    NAME,
    OUTPUT_LOSS,
    OWN,
    POISSON,
    SEED,
    SHUFFLED,
    SLOPE,
    SOFTMAX,
    STREAM,
    T_ROW,
    TASK,
    THRESHOLD,
    TRAIN,
    VECTOR,
    W_ROW,
    X_COLUMN,
    X_KIND,
    X_ROW,
    X_START,
    Z_ROW,
    H,
    T,
    W,
    Z,
    kernel,
)
from .product import matmul
from .random import dropout

# --- The passes -----------------------------------------------------------------------------------


@kernel
def place(p, position):
    """Which row of the data set comes at a position of the epoch."""
    return p.order[position] if p.settings[SHUFFLED] else position


@kernel
def copy_row(x, start, step, h, factor):
    to = h.dtype.type
    if step == 1:
        row = x[start : start + len(h)]
        for j in range(len(h)):
            h[j] = to(row[j]) * factor
    else:
        for j in range(len(h)):
            h[j] = to(x[start + j * step]) * factor


@kernel
def read_rows(p, first, lo, hi):
    """Gather rows of the data set as floats; bytes are pixels and become value / 255."""
    s = p.settings
    h0, h_row, n = p.layers[0, H], p.layers[0, H_ROW], p.layers[0, N_IN]
    one, pixel = p.block.dtype.type(1), p.block.dtype.type(1 / 255)
    for r in range(lo, hi):
        start = s[X_START] + place(p, first + r) * s[X_ROW]
        h = p.block[h0 + r * h_row : h0 + r * h_row + n]
        if s[X_KIND] == 0:
            copy_row(p.x_bytes, start, s[X_COLUMN], h, pixel)
        elif s[X_KIND] == 1:
            copy_row(p.x_single, start, s[X_COLUMN], h, one)
        else:
            copy_row(p.x_double, start, s[X_COLUMN], h, one)


@kernel
def forward(p, first, lo, hi):
    """Write every layer's input h and its slope f'(z), both times dropout's factor; the last z."""
    s = p.settings
    n_layers = len(p.layers)
    for k in range(n_layers):
        layer = p.layers[k]
        z0, z_row = layer[Z], layer[Z_ROW]
        matmul(
            *(p.block, z0 + lo * z_row, z_row),
            *(p.block, layer[H] + lo * layer[H_ROW], layer[H_ROW], 1),
            *(p.weights, layer[W], layer[W_ROW]),
            *(hi - lo, layer[N_OUT], layer[N_IN] + 1, 0),
        )
        if k == n_layers - 1:
            break
        h0, n = p.layers[k + 1, H], layer[N_OUT]
        z = p.block[z0 + lo * z_row : z0 + hi * z_row]
        h = p.block[h0 + lo * z_row : h0 + hi * z_row]
        activation(layer[NAME], layer[ADDRESS], z, h, p.coefficients[SLOPE])
        if s[TASK] == TRAIN and layer[THRESHOLD] >= 0:
            for r in range(hi - lo):
                dropout(
                    *(h[r * z_row : (r + 1) * z_row], z[r * z_row : (r + 1) * z_row], n),
                    *(np.uint64(s[SEED]), np.uint64(first + lo + r), np.uint64(s[EPOCH])),
                    *(np.uint64(s[STREAM] + k), np.uint64(layer[THRESHOLD])),
                    p.coefficients[KEPT + k],
                )
        for r in range(hi - lo):
            h[r * z_row + n] = h.dtype.type(1)


@kernel
def count_correct(p, z, row, n):
    """Share of a row that is classified rightly, as ``reference.count_correct``."""
    how = p.settings[COUNTED]
    if how == BY_LABEL:
        return 1.0 if largest(z, n) == p.labels[row] else 0.0
    t = p.targets[row * n : (row + 1) * n]
    if how == BY_LARGEST:
        return 1.0 if largest(z, n) == largest(t, n) else 0.0
    if how == BY_HALF:
        right = 0
        for j in range(n):
            right += (z[j] > 0) == (t[j] > 0.5)
        return right / n
    return math.nan


@kernel
def loss_and_output_gradient(p, first, lo, hi, m):
    """Write each row's loss and whether it is right, and dz, the gradient of the mean over m rows.

    The formulas are those of ``reference.loss_and_output_gradient``. For the task FORWARD, write
    the outputs instead.
    """
    s, to = p.settings, p.block.dtype.type
    layer = p.layers[len(p.layers) - 1]
    n, name, z_row = layer[N_OUT], layer[NAME], layer[Z_ROW]
    zero, one, two = to(0), to(1), to(2)
    rows, outputs = to(m), to(n)
    lanes = VECTOR // p.block.itemsize
    width = (n + lanes - 1) // lanes * lanes
    of_outputs = s[TASK] == FORWARD or s[OUTPUT_LOSS] == MSE or s[OUTPUT_LOSS] == OWN
    if s[TASK] != FORWARD and name != OWN:
        for r in range(lo, hi):
            z = p.block[layer[Z] + r * z_row : layer[Z] + r * z_row + n]
            p.correct[r] = count_correct(p, z, place(p, first + r), n)
    if name != SOFTMAX and of_outputs:
        z = p.block[layer[Z] + lo * z_row : layer[Z] + hi * z_row]
        a = p.block[layer[DZ] + lo * z_row : layer[DZ] + hi * z_row]
        activation(name, layer[ADDRESS], z, a, p.coefficients[SLOPE])
    for r in range(lo, hi):
        row = place(p, first + r)
        z = p.block[layer[Z] + r * z_row : layer[Z] + r * z_row + width]
        a = p.block[layer[DZ] + r * z_row : layer[DZ] + r * z_row + width]
        t = p.targets[row * n : (row + 1) * n]
        label = p.labels[row] if s[HAS_LABELS] else -1
        loss = 0.0
        if of_outputs:
            if name == SOFTMAX:
                softmax(z, a, n)
            if s[TASK] == FORWARD:
                out = p.out[row * n : (row + 1) * n]
                for j in range(n):
                    out[j] = a[j]
                continue
            if name == OWN:
                p.correct[r] = count_correct(p, a, row, n)
        if s[OUTPUT_LOSS] == OWN:
            if name == SOFTMAX:
                for j in range(n):
                    z[j] = one
            loss += own_loss(s[LOSS_ADDRESS], a, t, z, label, n) / n
            inner = zero
            if name == SOFTMAX:
                for j in range(n):
                    inner += a[j] * z[j]
                for j in range(n):
                    z[j] = a[j] * (z[j] - inner)
            for j in range(n):
                a[j] = z[j] / outputs / rows
        elif s[OUTPUT_LOSS] == MSE:
            inner = zero
            for j in range(n):
                goal = (one if j == label else zero) if s[HAS_LABELS] else t[j]
                error = a[j] - goal
                loss += error * error
                da = two * error / outputs
                inner += a[j] * da
                if name != SOFTMAX:
                    a[j] = da * z[j] / rows
            if name == SOFTMAX:
                for j in range(n):
                    goal = (one if j == label else zero) if s[HAS_LABELS] else t[j]
                    a[j] = a[j] * (two * (a[j] - goal) / outputs - inner) / rows
            loss /= n
        elif s[OUTPUT_LOSS] == CROSS_ENTROPY:
            log_sum, others, best = softmax(z, a, n)
            top = np.float64(z[best])
            if s[HAS_LABELS]:
                loss += log_sum - (z[label] - top)
                a[label] = -others if label == best else a[label] - one
            else:
                likely = (one - t[best]) - others
                for j in range(n):
                    loss += t[j] * (log_sum - (z[j] - top))
                    a[j] -= t[j]
                if others < HALF(others):
                    a[best] = likely
            for j in range(width):
                a[j] /= rows
        elif s[OUTPUT_LOSS] == POISSON:
            for j in range(n):
                goal = (one if j == label else zero) if s[HAS_LABELS] else t[j]
                e = exp_of_any(z[j])
                mean, count = np.float64(e), np.float64(goal)
                loss += mean - count * z[j] - count
                if goal > zero:
                    loss += count * math.log(count)
                a[j] = (e - goal) / outputs / rows
            loss /= n
        else:
            for j in range(n):
                goal = (one if j == label else zero) if s[HAS_LABELS] else t[j]
                e = exp(-abs(z[j]))
                logit = np.float64(z[j])
                loss += max(logit, 0.0) - np.float64(goal) * logit + np.float64(log1p(e))
                unlikely = e / (one + e)
                a[j] = (one - goal) - unlikely if z[j] > zero else unlikely - goal
                a[j] = a[j] / outputs / rows
            loss /= n
        p.losses[r] = loss


@kernel
def backward(p, lo, hi):
    """Write dz of every layer, from the last to the first (Nielsen 2015, BP2)."""
    for k in range(len(p.layers) - 1, 0, -1):
        layer, below = p.layers[k], p.layers[k - 1]
        row = below[Z_ROW]
        matmul(
            *(p.block, below[DZ] + lo * row, row),
            *(p.block, layer[DZ] + lo * layer[Z_ROW], layer[Z_ROW], 1),
            *(p.transposed, layer[T], layer[T_ROW]),
            *(hi - lo, layer[N_IN], layer[N_OUT], 0),
        )
        dz = p.block[below[DZ] + lo * row : below[DZ] + hi * row]
        slope = p.block[below[Z] + lo * row : below[Z] + hi * row]
        for i in range(len(dz)):
            dz[i] *= slope[i]


@kernel
def rows_pass(p, part, parts, first, m, rows):
    """Take this part of the chunk of m rows that starts at position ``first`` of the epoch.

    ``rows`` is how many the whole batch has.
    """
    lo, hi = part * m // parts, (part + 1) * m // parts
    read_rows(p, first, lo, hi)
    forward(p, first, lo, hi)
    loss_and_output_gradient(p, first, lo, hi, rows)
    if p.settings[TASK] >= GRADIENT:
        backward(p, lo, hi)
