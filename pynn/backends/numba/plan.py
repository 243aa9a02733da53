"""The algorithm of ``reference.py`` as Numba kernels: the same text, in the same order, compiled.

Importing this module imports Numba. Nothing is compiled before an ``Engine`` first computes, and
then only for the dtype in use; Numba keeps the machine code in its cache for the next process.

One compiled function serves every architecture: all that differs between networks is numbers in
tables (``layers``, ``settings``, ``coefficients``) and places in flat arrays. ``run`` is the
mini-batch loop. It cuts a batch into chunks of rows and takes each through two parallel regions:

1. ``rows_pass``: a thread takes its rows of the chunk through ``read_rows``, ``forward``,
   ``loss_and_output_gradient`` and ``backward``.
2. ``weights_pass``: a thread takes its rows of every weight matrix, sums their gradient over the
   rows of the chunk and, after the last chunk, applies ``update``.

Every sum is made by one thread, term by term in ascending order, whichever thread that is and
wherever a chunk ends. So the bits depend neither on the number of threads nor on the chunks.

How things lie in memory: a layer's weights and biases are one matrix (n_in + 1, n_out), the biases
its last row, and its input h has a last column of ones: z = h @ w does both. Rows are padded to
whole vectors of 64 bytes. Padding holds numbers that nothing reads: no column of a product depends
on another one.
"""

# The types of kernels are Numba's business.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit, types

from ...spec.names import LOSSES, OUTPUTS
from ...spec.optimizers import OPTIMIZERS

Array = np.ndarray
_numba: Any = numba

# By "numpy", a division by zero gives infinity instead of a check that no vector unit can make.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
# Kernels are called by kernels alone, and views of arrays in them need no reference counts.
INNER: Any = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
kernel = njit(**INNER)
# A loop with a call in it does not become vector code, and LLVM grows tired of inlining.
INLINED: Any = INNER | {"forceinline": True}
inlined_kernel = njit(**INLINED)
# Here a·b + c is one fused operation. Only where there is one way to fuse may this be allowed: the
# bits must not depend on whether a number fell to a vector or to what is left over.
FUSED: Any = INLINED | {"fastmath": {"contract"}}
fused_kernel = njit(**FUSED)

# --- Names for the numbers in the tables ----------------------------------------------------------

(IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, GELU, SOFTPLUS, SOFTMAX, EXP) = range(len(OUTPUTS))
OWN = -1  # an activation or a loss of the user's own, which is called by its address
ACTIVATION = {
    "identity": IDENTITY,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "gelu": GELU,
    "softplus": SOFTPLUS,
    "softmax": SOFTMAX,
    "exp": EXP,
}
(CROSS_ENTROPY, BINARY_CROSS_ENTROPY, MSE, POISSON) = range(len(LOSSES))
LOSS = {
    "cross_entropy": CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "mse": MSE,
    "poisson": POISSON,
}
(SGD, MOMENTUM, NESTEROV, RMSPROP, ADAGRAD, ADAM, ADAM_HAT, ADAMW) = range(len(OPTIMIZERS))
OPTIMIZER = {
    "sgd": SGD,
    "momentum": MOMENTUM,
    "nesterov": NESTEROV,
    "rmsprop": RMSPROP,
    "adagrad": ADAGRAD,
    "adam": ADAM,
    "adam_hat": ADAM_HAT,
    "adamw": ADAMW,
}
# What to do with the rows; each task includes the ones before it, save that only FORWARD keeps the
# outputs.
FORWARD, EVALUATE, GRADIENT, TRAIN = range(4)
# What count_correct compares: nothing, labels, the largest target, or each target with a half.
NOT_COUNTED, BY_LABEL, BY_LARGEST, BY_HALF = range(4)

# Columns of ``layers``: sizes; where w, its transpose, h, z and dz start, and the length of their
# rows (z and dz share theirs with the next layer's h); activation (of one's own: where it starts in
# memory) and dropout of the outputs.
(N_IN, N_OUT, W, W_ROW, T, T_ROW, H, H_ROW, Z, DZ, Z_ROW, NAME, THRESHOLD) = range(13)
(ADDRESS, FIELDS) = range(13, 15)
# Places in ``settings``.
(TASK, ROWS, BATCH, CHUNK, OUTPUT_LOSS, COUNTED, HAS_LABELS, X_KIND, X_START, X_ROW, X_COLUMN) = (
    range(11)
)
(SHUFFLED, SEED, EPOCH, STREAM, UPDATE_RULE, FIRST_BATCH, UPDATES, DONE, HALT) = range(11, 20)
(WATCH, DIVERGED, LOSS_ADDRESS) = range(20, 23)
# Places in ``coefficients``: the slope of leaky_relu, L2, the optimizer's constants as its formula
# needs them, what of them changes from step to step, and dropout's factor for each layer.
(SLOPE, L2, C1, C1_REST, C2, C2_REST, EPSILON) = range(7)
(RATE, STEP_SIZE, STEP_EPSILON, DECAY, KEPT) = range(7, 12)


class Plan(NamedTuple):
    """All that a run works on, as flat arrays."""

    layers: Array  # int64 (n_layers, FIELDS)
    settings: Array  # int64
    coefficients: Array  # dtype
    constants: Array  # float64: beta1, beta2, epsilon, weight decay
    weights: Array  # dtype, padded, as are the next three
    transposed: Array
    gradient: Array
    state: Array
    block: Array  # dtype: h, z and dz of a chunk
    x_bytes: Array  # uint8; the data set is in one of these three
    x_single: Array  # float32
    x_double: Array  # float64
    labels: Array  # int32; the targets are in one of these two
    targets: Array  # dtype
    order: Array  # int64 permutation, or empty
    rates: Array  # float64, one for each batch
    losses: Array  # float64 (chunk,)
    correct: Array  # float64 (chunk,)
    sums: Array  # float64: losses and correct of the whole batches so far, and of the present one
    out: Array  # dtype (n * n_out,), or empty


def _signature(dtype: str) -> Any:
    def readonly(t: Any) -> Any:
        return types.Array(t, 1, "C", readonly=True)

    t = types.float32 if dtype == "float32" else types.float64
    f8, i8 = types.float64[::1], types.int64
    fields = (
        *(types.int64[:, ::1], types.int64[::1], t[::1], f8),
        *(t[::1], t[::1], t[::1], t[::1], t[::1]),
        *(readonly(types.uint8), readonly(types.float32), readonly(types.float64)),
        *(readonly(types.int32), readonly(t), types.int64[::1], f8, f8, f8, f8, t[::1]),
    )
    return i8(types.NamedTuple(fields, Plan), i8, i8, i8, i8)


# --- Matrix product -------------------------------------------------------------------------------

VECTOR = 64
"""Bytes of a vector: the widest there is; LLVM splits it where registers are narrower."""
