"""Padded copies of parameters, optimizer state and data."""

# The types of kernels are Numba's business.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ...spec import philox
from ...spec.architecture import Architecture
from .plan import (
    ACTIVATION,
    ADDRESS,
    DZ,
    FIELDS,
    H_ROW,
    N_IN,
    N_OUT,
    NAME,
    OWN,
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

# --- Memory ---------------------------------------------------------------------------------------


def _zeros(n: int, dtype: str) -> Array:
    """Zeros that start at a multiple of VECTOR bytes."""
    size = np.dtype(dtype).itemsize
    memory = np.zeros(n + VECTOR // size, dtype)
    skip = -memory.ctypes.data % VECTOR // size
    return memory[skip : skip + n]


def _row(n: int, dtype: str) -> int:
    """Length of a row of n numbers: whole vectors, but no multiple of 1 KiB.

    Rows that far apart would fall on the same few lines of the cache.
    """
    size = np.dtype(dtype).itemsize
    padded = -(-n * size // VECTOR) * VECTOR
    return (padded + (VECTOR if padded % 1024 == 0 else 0)) // size


class _Weights:
    """Parameters and optimizer state, padded; with ``learning``, gradient and transpose too."""

    def __init__(
        self,
        net: Architecture,
        own: dict[str, Any],
        parameters: Array,
        state: list[Array],
        learning: bool,
    ) -> None:
        # What is called by its address has to stay in memory.
        self.own, self.net, self.parameters, self.flat_state = own, net, parameters, state
        self.layers = np.zeros((net.n_layers, FIELDS), np.int64)
        size = transposed_size = 0
        for k, (n_in, n_out) in enumerate(pairwise(net.sizes)):
            layer = self.layers[k]
            name = net.activations[k]
            layer[N_IN], layer[N_OUT], layer[NAME] = n_in, n_out, ACTIVATION.get(name, OWN)
            layer[ADDRESS] = own[name].address if name in own else 0
            layer[W], layer[W_ROW] = size, _row(n_out, net.dtype)
            layer[T], layer[T_ROW] = transposed_size, _row(n_in, net.dtype)
            rate = net.dropout[k] if k < len(net.dropout) else 0.0
            layer[THRESHOLD] = philox.dropout_threshold(rate) if rate else -1
            size += (n_in + 1) * int(layer[W_ROW])
            transposed_size += n_out * int(layer[T_ROW]) if learning and k else 0
        self.weights = _zeros(size, net.dtype)
        self.transposed = _zeros(transposed_size, net.dtype)
        self.gradient = _zeros(size if learning else 0, net.dtype)
        self.state = _zeros(size * len(state), net.dtype)
        for padded, flat in self.pairs():
            self.copy(flat, padded)
        if learning:
            for layer, w in zip(self.layers[1:], self._matrices(self.weights)[1:], strict=True):
                rows = self.transposed[layer[T] :][: layer[N_OUT] * layer[T_ROW]]
                rows.reshape(layer[N_OUT], -1)[:, : layer[N_IN]] = w[:-1].T

    def copy(self, source: Array, target: Array) -> None:
        """Copy a padded vector to a flat one or the other way round."""
        for a, b in zip(self._matrices(source), self._matrices(target), strict=True):
            b[...] = a

    def store(self) -> None:
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
        slots = np.split(self.state, max(1, len(self.flat_state)))
        return [(self.weights, self.parameters), *zip(slots, self.flat_state)]


def _block(layers: Array, rows: int, dtype: str) -> Array:
    """Carve h, z and dz of ``rows`` rows for every layer, and set the ones beside each h."""
    widths = [int(layers[0, N_IN]), *layers[:, N_OUT].tolist()]
    row = [_row(n + 1, dtype) for n in widths]
    size = 0
    for k, layer in enumerate(layers):
        layer[H_ROW], layer[Z_ROW] = row[k], row[k + 1]
        layer[H] = size
        layer[Z] = layer[H] + rows * row[k]
        layer[DZ] = layer[Z] + rows * row[k + 1]
        size = int(layer[DZ]) + rows * row[k + 1]
    block = _zeros(size, dtype)
    for k, layer in enumerate(layers):
        block[layer[H] : layer[Z]].reshape(rows, row[k])[:, widths[k]] = 1
    return block


CHUNK_ROWS = 512
"""Rows at a time; so many pass through the caches well while the gradient is touched seldom."""


def _chunk(net: Architecture, batch: int) -> int:
    """Rows of a batch that are worked on at a time: few enough for Ctrl-C to be answered."""
    most = min(CHUNK_ROWS, max(64, int(1e10 / (6 * net.n_parameters))))
    parts = -(-batch // most)
    return -(-batch // max(1, parts))


def _source(x: Array) -> tuple[Array, int, int, int]:
    """A read-only flat view of x, the place of x[0, 0] in it, and the steps of row and column."""
    if not x.flags.aligned or any(step % x.itemsize for step in x.strides):
        x = np.ascontiguousarray(x)
    steps = [s // x.itemsize if n > 1 else 0 for n, s in zip(x.shape, x.strides, strict=True)]
    reach = [(n - 1) * step for n, step in zip(x.shape, steps, strict=True)]
    start = -sum(min(r, 0) for r in reach)
    first = x[tuple(slice(None, None, -1) if r < 0 else slice(None) for r in reach)]
    length = start + sum(max(r, 0) for r in reach) + 1
    flat = np.lib.stride_tricks.as_strided(first, (length,), (x.itemsize,), writeable=False)
    return flat, start, steps[0], steps[1] if x.shape[1] > 1 else 1
