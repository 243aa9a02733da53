"""Forward and backward passes over the rows of a chunk."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np

from .activations import SOFTMAX, activation, largest, softmax
from .losses import loss_of_row, takes_outputs
from .plan import (
    ADDRESS,
    ALL,
    AT_BACK,
    AT_LOSS,
    AT_OUTPUTS,
    AT_READ,
    BY_HALF,
    BY_LABEL,
    BY_LARGEST,
    COUNTED,
    CUSTOM,
    DZ,
    EPOCH,
    FIRST_ROW,
    FORWARD,
    GRADIENT,
    H_ROW,
    HAS_LABELS,
    INPUT_KEPT,
    INPUT_THRESHOLD,
    KEPT,
    LOSS_ADDRESS,
    LOWEST,
    MISSING,
    N_IN,
    N_OUT,
    N_TARGETS,
    NAME,
    OUTPUT_LOSS,
    RESIDUAL,
    SEED,
    SHUFFLED,
    STAGE,
    STREAM,
    T_ROW,
    TASK,
    THRESHOLD,
    TRAIN,
    VECTOR,
    W_ROW,
    WEIGHTED,
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
from .random import drop_inputs, dropout


@kernel
def place(p, position):
    """Row of the data set at a position of the epoch."""
    return p.order[position] if p.settings[SHUFFLED] else position


@kernel
def copy_row(x, start, step, h, factor):
    """h = factor times every step-th element of x from start."""
    to = h.dtype.type
    if step == 1:
        row = x[start : start + len(h)]
        for j in range(len(h)):
            h[j] = to(row[j]) * factor
    else:
        for j in range(len(h)):
            h[j] = to(x[start + j * step]) * factor


@kernel
def standardize_row(x, start, step, h, unit, mean, inverse):
    """h = every step-th element of x from start, times unit, standardised in float64."""
    for j in range(len(h)):
        h[j] = (np.float64(x[start + j * step]) * unit - mean[j]) * inverse[j]


@kernel
def read_rows(p, first, lo, hi):
    """Gather rows lo to hi of the chunk as floats; uint8 pixels become value / 255."""
    s = p.settings
    h0, h_row, n = p.layers[0, H], p.layers[0, H_ROW], p.layers[0, N_IN]
    one, pixel = p.block.dtype.type(1), p.block.dtype.type(1 / 255)
    for r in range(lo, hi):
        start = s[X_START] + place(p, first + r) * s[X_ROW]
        h = p.block[h0 + r * h_row : h0 + r * h_row + n]
        if len(p.mean) > 0:
            if s[X_KIND] == 0:
                standardize_row(p.x_bytes, start, s[X_COLUMN], h, 1 / 255, p.mean, p.inverse)
            elif s[X_KIND] == 1:
                standardize_row(p.x_single, start, s[X_COLUMN], h, 1.0, p.mean, p.inverse)
            else:
                standardize_row(p.x_double, start, s[X_COLUMN], h, 1.0, p.mean, p.inverse)
        elif s[X_KIND] == 0:
            copy_row(p.x_bytes, start, s[X_COLUMN], h, pixel)
        elif s[X_KIND] == 1:
            copy_row(p.x_single, start, s[X_COLUMN], h, one)
        else:
            copy_row(p.x_double, start, s[X_COLUMN], h, one)
        if s[TASK] == TRAIN and s[INPUT_THRESHOLD] >= 0:
            drop_inputs(
                *(h, np.uint64(s[SEED]), np.uint64(first + r), np.uint64(s[EPOCH])),
                *(np.uint64(s[INPUT_THRESHOLD]), p.coefficients[INPUT_KEPT]),
            )


@kernel
def add_input(p, layer, out, lo, hi):
    """Add rows lo to hi of a residual layer's h to its outputs from element ``out`` on."""
    row, n = layer[Z_ROW], layer[N_OUT]  # h has as many columns, and rows of the same length
    for r in range(lo, hi):
        h = p.block[layer[H] + r * row : layer[H] + r * row + n]
        a = p.block[out + r * row : out + r * row + n]
        for j in range(n):
            a[j] += h[j]


@kernel
def forward(p, first, lo, hi):
    """Write every layer's h and f'(z), both times the factor of dropout, and the last layer's z."""
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
        parameter = p.coefficients[KEPT + n_layers + k]
        activation(layer[NAME], layer[ADDRESS], z, h, parameter)
        if s[TASK] == TRAIN and layer[THRESHOLD] >= 0:
            for r in range(hi - lo):
                dropout(
                    *(h[r * z_row : (r + 1) * z_row], z[r * z_row : (r + 1) * z_row], n),
                    *(np.uint64(s[SEED]), np.uint64(first + lo + r), np.uint64(s[EPOCH])),
                    *(np.uint64(s[STREAM] + k), np.uint64(layer[THRESHOLD])),
                    p.coefficients[KEPT + k],
                )
        if layer[RESIDUAL]:
            add_input(p, layer, h0, lo, hi)
        for r in range(hi - lo):
            h[r * z_row + n] = h.dtype.type(1)


@kernel
def count_correct(p, z, row, n):
    """1 for a row classified correctly, as ``reference.count_correct``, 0 or a fraction if not."""
    how = p.settings[COUNTED]
    if how == BY_LABEL:
        return 1.0 if largest(z, n) == p.labels[row] else 0.0
    t = p.targets[row * n : (row + 1) * n]
    if how == BY_LARGEST:
        return 1.0 if largest(z, n) == largest(t, n) else 0.0
    if how == BY_HALF:
        right, known = 0, 0
        for j in range(n):
            if t[j] == t[j]:
                right += (z[j] > 0) == (t[j] > 0.5)
                known += 1
        return right / max(known, 1)
    return math.nan


@kernel
def write_outputs(p, first, lo, hi):
    """Write the outputs a of each row to ``p.out``."""
    layer = p.layers[len(p.layers) - 1]
    n, z_row = layer[N_OUT], layer[Z_ROW]
    for r in range(lo, hi):
        a = p.block[layer[DZ] + r * z_row : layer[DZ] + (r + 1) * z_row]
        row = place(p, first + r)
        out = p.out[row * n : (row + 1) * n]
        for j in range(n):
            out[j] = a[j]


@kernel
def activate_outputs(p, lo, hi):
    """Write the outputs a over dz, and f'(z) over z (not for softmax)."""
    layer = p.layers[len(p.layers) - 1]
    z_row, width = layer[Z_ROW], padded(p, layer[N_OUT])
    if layer[NAME] == SOFTMAX:
        for r in range(lo, hi):
            z = p.block[layer[Z] + r * z_row : layer[Z] + r * z_row + width]
            a = p.block[layer[DZ] + r * z_row : layer[DZ] + r * z_row + width]
            softmax(z, a, layer[N_OUT])
    else:
        z = p.block[layer[Z] + lo * z_row : layer[Z] + hi * z_row]
        a = p.block[layer[DZ] + lo * z_row : layer[DZ] + hi * z_row]
        parameter = p.coefficients[KEPT + 2 * len(p.layers) - 1]
        activation(layer[NAME], layer[ADDRESS], z, a, parameter)


@kernel
def padded(p, n):
    """n rounded up to whole vectors."""
    lanes = VECTOR // p.block.itemsize
    return (n + lanes - 1) // lanes * lanes


@kernel
def loss_of_known(p, r, z, a, t, n, rows):
    """As ``loss_of_row``, for row r of the chunk with missing targets, which are NaN: the mean over
    the others.

    Each known target counts as a row with one target. Its outputs are copied to ``p.known``: those
    of target k are elements k, len(t) + k, …
    """
    s, loss, known = p.settings, 0.0, 0
    per_target = n // len(t)
    start = 2 * r * per_target
    one_z = p.known[start : start + per_target]
    one_a = p.known[start + per_target : start + 2 * per_target]
    for k in range(len(t)):
        known += t[k] == t[k]
    for k in range(len(t)):
        missing = t[k] != t[k]
        for i in range(per_target):
            one_z[i], one_a[i] = z[i * len(t) + k], a[i * len(t) + k]
        if not missing:
            loss += loss_of_row(
                *(s[OUTPUT_LOSS], s[LOSS_ADDRESS], p.loss_parameters),
                *(one_z, one_a, t[k : k + 1], np.int64(-1), per_target),
                *(rows * a.dtype.type(known), False),
            )
        for i in range(per_target):
            a[i * len(t) + k] = a.dtype.type(0) if missing else one_a[i]
    return loss / max(known, 1)


@kernel
def loss_of_weighted(p, r, row, z, a, t, label, n, weight, is_softmax):
    """Return the loss of a row times its weight, and write dz, the gradient of the weighted mean
    over a batch of this weight.
    """
    s = p.settings
    own = p.sample_weight[row] if s[WEIGHTED] else 1.0
    rows = a.dtype.type(weight / own)
    if own == 0:
        a[:] = 0
        return 0.0
    if s[MISSING]:
        for k in range(len(t)):
            if t[k] != t[k]:
                return own * loss_of_known(p, r, z, a, t, n, rows)
    return own * loss_of_row(
        *(s[OUTPUT_LOSS], s[LOSS_ADDRESS], p.loss_parameters),
        *(z, a, t, label, n, rows, is_softmax),
    )


@kernel
def loss_and_output_gradient(p, first, lo, hi, weight):
    """Write each row's weighted loss and whether it is correct, and dz, the gradient of the mean
    over a batch of this weight.
    """
    s = p.settings
    layer = p.layers[len(p.layers) - 1]
    n, name, z_row = layer[N_OUT], layer[NAME], layer[Z_ROW]
    width = padded(p, n)
    if name != CUSTOM:
        # Before z is overwritten. A custom activation may not increase: then the outputs decide.
        for r in range(lo, hi):
            z = p.block[layer[Z] + r * z_row : layer[Z] + r * z_row + n]
            p.correct[r] = count_correct(p, z, place(p, first + r), n)
    if takes_outputs(s[OUTPUT_LOSS]):
        activate_outputs(p, lo, hi)
    for r in range(lo, hi):
        row = place(p, first + r)
        z = p.block[layer[Z] + r * z_row : layer[Z] + r * z_row + width]
        a = p.block[layer[DZ] + r * z_row : layer[DZ] + r * z_row + width]
        if name == CUSTOM:
            p.correct[r] = count_correct(p, a, row, n)
        t = p.targets[row * s[N_TARGETS] : (row + 1) * s[N_TARGETS]]
        label = p.labels[row] if s[HAS_LABELS] else -1
        p.losses[r] = loss_of_weighted(p, r, row, z, a, t, label, n, weight, name == SOFTMAX)


@kernel
def backward(p, lo, hi):
    """Write dz of every layer, from the last to the lowest trained (Nielsen 2015, BP2).

    In a residual layer the gradient of its outputs takes the place of f'(z), for that of its h.
    """
    for k in range(len(p.layers) - 1, p.settings[LOWEST], -1):
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
        if layer[RESIDUAL]:
            passed = p.block[layer[Z] + lo * row : layer[Z] + hi * row]
            for i in range(len(dz)):
                dz[i] += passed[i]
        if below[RESIDUAL]:
            for i in range(len(dz)):
                dz[i], slope[i] = dz[i] * slope[i], dz[i]
        else:
            for i in range(len(dz)):
                dz[i] *= slope[i]


@kernel
def rows_pass(p, part, parts, first, m, weight):
    """Take one part of the chunk of m rows that starts at position ``first`` of the epoch.

    ``weight`` is the sum of the weights of the whole batch.
    """
    lo, hi, s = part * m // parts, (part + 1) * m // parts, p.settings
    if s[STAGE] <= AT_READ:
        place0 = first + s[FIRST_ROW]
        read_rows(p, place0, lo, hi)
        forward(p, place0, lo, hi)
    elif s[STAGE] == AT_OUTPUTS:
        activate_outputs(p, lo, hi)
    if s[TASK] == FORWARD:
        activate_outputs(p, lo, hi)
        last = p.layers[len(p.layers) - 1]
        if last[RESIDUAL]:
            add_input(p, last, last[DZ], lo, hi)
        write_outputs(p, first, lo, hi)
        return
    if s[STAGE] in (ALL, AT_LOSS):
        loss_and_output_gradient(p, first, lo, hi, weight)
    if (s[STAGE] == ALL and s[TASK] >= GRADIENT) or s[STAGE] == AT_BACK:
        backward(p, lo, hi)
