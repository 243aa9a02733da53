"""Padded copies of parameters, optimizer state and data."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ...spec import philox
from ...spec.architecture import Architecture
from .activations import ACTIVATION
from .plan import (
    ADDRESS,
    CUSTOM,
    DZ,
    FIELDS,
    H_ROW,
    N_IN,
    N_OUT,
    NAME,
    RESIDUAL,
    T_ROW,
    THRESHOLD,
    VECTOR,
    W_ROW,
    Z_ROW,
    H,
    T,
    W,
    Z,
)

Array = np.ndarray


def zeros(n: int, dtype: str) -> Array:
    """Return n zeros that start at a multiple of VECTOR bytes."""
    size = np.dtype(dtype).itemsize
    memory = np.zeros(n + VECTOR // size, dtype)
    skip = -memory.ctypes.data % VECTOR // size
    return memory[skip : skip + n]


def row_length(n: int, dtype: str) -> int:
    """Return the padded length of a row of n elements: whole vectors, but no multiple of 1 KiB.

    Rows a multiple of 1 KiB apart would share a few sets of the L1 cache.
    """
    size = np.dtype(dtype).itemsize
    padded = -(-n * size // VECTOR) * VECTOR
    return (padded + (VECTOR if padded % 1024 == 0 else 0)) // size


class Weights:
    """Padded parameters and optimizer state; with ``learning`` also gradient and transposes.

    Parameters
    ----------
    net
        The architecture.
    custom
        Compiled custom functions by name.
    parameters, state
        Flat vectors that are copied in; ``store`` copies back to them.
    learning
        Whether gradients will be computed.
    """

    def __init__(
        self,
        net: Architecture,
        custom: dict[str, Any],
        parameters: Array,
        state: list[Array],
        learning: bool,
    ) -> None:
        # Keeps the machine code of custom functions alive, which the kernels call by address.
        self.custom, self.net, self.parameters, self.flat_state = custom, net, parameters, state
        self.layers = np.zeros((net.n_layers, FIELDS), np.int64)
        size = transposed_size = 0
        for k, (n_in, n_out) in enumerate(pairwise(net.sizes)):
            layer = self.layers[k]
            name = net.activations[k]
            layer[N_IN], layer[N_OUT] = n_in, n_out
            layer[NAME] = CUSTOM if name in custom else ACTIVATION[name]
            layer[ADDRESS] = custom[name].address if name in custom else 0
            layer[W], layer[W_ROW] = size, row_length(n_out, net.dtype)
            layer[T], layer[T_ROW] = transposed_size, row_length(n_in, net.dtype)
            layer[RESIDUAL] = net.adds_input(k)
            rate = net.dropout[k] if k < len(net.dropout) else 0.0
            layer[THRESHOLD] = philox.dropout_threshold(rate) if rate else -1
            size += (n_in + 1) * int(layer[W_ROW])
            transposed_size += n_out * int(layer[T_ROW]) if learning and k else 0
        self.weights = zeros(size, net.dtype)
        self.transposed = zeros(transposed_size, net.dtype)
        self.gradient = zeros(size if learning else 0, net.dtype)
        self.state = zeros(size * len(state), net.dtype)
        for padded, flat in self.pairs():
            self.copy(flat, padded)
        if learning:
            for layer, w in zip(self.layers[1:], self._matrices(self.weights)[1:], strict=True):
                rows = self.transposed[layer[T] :][: layer[N_OUT] * layer[T_ROW]]
                rows.reshape(layer[N_OUT], -1)[:, : layer[N_IN]] = w[:-1].T

    def copy(self, source: Array, target: Array) -> None:
        """Copy a padded vector to a flat one, or a flat one to a padded one."""
        for a, b in zip(self._matrices(source), self._matrices(target), strict=True):
            b[...] = a

    def store(self) -> None:
        """Copy parameters and state back to the flat vectors."""
        for padded, flat in self.pairs():
            self.copy(padded, flat)

    def _matrices(self, vector: Array) -> list[Array]:
        """Views (n_in + 1, n_out) of each layer's weights and biases in a flat or padded vector."""
        views, at = [], 0
        padded = len(vector) == len(self.weights)
        for layer in self.layers.tolist():
            n_in, n_out = layer[N_IN], layer[N_OUT]
            row = layer[W_ROW] if padded else n_out
            size = (n_in + 1) * row
            views.append(vector[at : at + size].reshape(n_in + 1, row)[:, :n_out])
            at += size
        return views

    def pairs(self) -> list[tuple[Array, Array]]:
        """Return (padded, flat) for the parameters and each slot of the optimizer state."""
        slots = np.split(self.state, max(1, len(self.flat_state)))
        return [(self.weights, self.parameters), *zip(slots, self.flat_state)]


def carve_block(layers: Array, rows: int, dtype: str) -> Array:
    """Return memory for h, z and dz of ``rows`` rows of every layer, with the column of ones in h.

    Writes their offsets to ``layers``.
    """
    widths = [int(layers[0, N_IN]), *layers[:, N_OUT].tolist()]
    row = [row_length(n + 1, dtype) for n in widths]
    size = 0
    for k, layer in enumerate(layers):
        layer[H_ROW], layer[Z_ROW] = row[k], row[k + 1]
        layer[H] = size
        layer[Z] = layer[H] + rows * row[k]
        layer[DZ] = layer[Z] + rows * row[k + 1]
        size = int(layer[DZ]) + rows * row[k + 1]
    block = zeros(size, dtype)
    for k, layer in enumerate(layers):
        block[layer[H] : layer[Z]].reshape(rows, row[k])[:, widths[k]] = 1
    return block


CHUNK_ROWS = 512
"""Rows of a chunk at most: activations mostly stay in the caches, and the gradient is read and
written once per chunk."""


def chunk_rows(net: Architecture, batch: int) -> int:
    """Return the rows of a chunk: at most CHUNK_ROWS, and few enough to answer Ctrl-C in time.

    A chunk takes about 6·n_parameters operations per row; 1e10 operations take less than a second.
    """
    most = min(CHUNK_ROWS, max(64, int(1e10 / (6 * net.n_parameters))))
    parts = -(-batch // most)
    return -(-batch // max(1, parts))


def flat_source(x: Array) -> tuple[Array, int, int, int]:
    """Return a read-only flat view of x, the offset of x[0, 0], and the row and column strides.

    Offset and strides are in elements.
    """
    if not x.flags.aligned or any(step % x.itemsize for step in x.strides):
        x = np.ascontiguousarray(x)
    steps = [s // x.itemsize if n > 1 else 0 for n, s in zip(x.shape, x.strides, strict=True)]
    reach = [(n - 1) * step for n, step in zip(x.shape, steps, strict=True)]
    start = -sum(min(r, 0) for r in reach)
    first = x[tuple(slice(None, None, -1) if r < 0 else slice(None) for r in reach)]
    length = start + sum(max(r, 0) for r in reach) + 1
    flat = np.lib.stride_tricks.as_strided(first, (length,), (x.itemsize,), writeable=False)
    return flat, start, steps[0], steps[1] if x.shape[1] > 1 else 1
