"""The tables that a compiled run works on, and names for the numbers in them."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types

from ...spec.losses import LOSSES
from ...spec.optimizers import OPTIMIZERS

Array = np.ndarray

# With error_model="numpy" a division by zero gives infinity. Python's model would add a check that
# prevents vectorised loops.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
# Only kernels call kernels, so no wrappers are needed; array views need no reference counts.
INNER: Any = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
kernel = njit(**INNER)
# LLVM does not vectorise a loop with a call in it, and by itself inlines only up to a size limit.
INLINED: Any = INNER | {"forceinline": True}
inlined_kernel = njit(**INLINED)
# Contracts a·b + c into one fused operation. Allowed only where there is a single way to do so;
# otherwise the vector body and the scalar remainder of a loop could round differently.
FUSED: Any = INLINED | {"fastmath": {"contract"}}
fused_kernel = njit(**FUSED)

VECTOR = 64
"""Bytes of a vector: those of AVX-512. LLVM splits a vector where registers are narrower."""

# --- Numbers for names ----------------------------------------------------------------------------

# In the order of ``spec.losses`` and ``spec.optimizers``.
LOSS = {name: number for number, name in enumerate(LOSSES)}
(SGD, MOMENTUM, NESTEROV, RMSPROP, ADAGRAD, ADAM, ADAM_HAT, ADAMW, AMSGRAD, NADAM, LION) = range(
    len(OPTIMIZERS)
)
OPTIMIZER = {name: number for number, name in enumerate(OPTIMIZERS)}
CUSTOM = -1  # a custom activation or loss, called by its address; activations.py has the others
# Tasks. Each does what the tasks before it do as well, except that only FORWARD keeps the outputs.
FORWARD, EVALUATE, GRADIENT, TRAIN = range(4)
# Stages of a batch, which a tape runs one by one: x to z of the last layer; outputs; losses and
# their dz; dz of all layers; the sum of the gradient; the update with the gradient in the plan.
ALL, AT_READ, AT_OUTPUTS, AT_LOSS, AT_BACK, AT_SUM, AT_APPLY = range(7)
# How count_correct decides: not at all, by the label, by the largest target, or by comparing each
# target with 0.5.
NOT_COUNTED, BY_LABEL, BY_LARGEST, BY_HALF = range(4)

# --- Columns of ``layers`` ------------------------------------------------------------------------

# Offsets are in elements of the flat array named below; ``*_ROW`` is the length of a padded row.
(N_IN, N_OUT) = (0, 1)
(W, W_ROW) = (2, 3)  # in ``weights``, ``gradient`` and each slot of ``state``
(T, T_ROW) = (4, 5)  # the transposed weights (n_out, n_in), in ``transposed``
(H, H_ROW) = (6, 7)  # input of the layer (chunk, n_in + 1), in ``block``
(Z, DZ, Z_ROW) = (8, 9, 10)  # (chunk, n_out), in ``block``; Z_ROW is the next layer's H_ROW
NAME = 11  # activation of the outputs
THRESHOLD = 12  # a unit is dropped if its random word is below; -1 without dropout
ADDRESS = 13  # machine code of a custom activation
FROZEN = 14  # whether training leaves the layer as it is
RESIDUAL = 15  # whether h is added to the outputs
FIELDS = 16

# --- Elements of ``settings`` ---------------------------------------------------------------------

(TASK, ROWS, BATCH, CHUNK) = range(4)  # ROWS of the data set, per batch, per chunk
(OUTPUT_LOSS, COUNTED, HAS_LABELS) = range(4, 7)
(X_KIND, X_START, X_ROW, X_COLUMN) = range(7, 11)  # dtype of x, offset of x[0, 0], strides
(SHUFFLED, SEED, EPOCH, STREAM) = range(11, 15)  # STREAM: Philox stream of dropout
(UPDATE_RULE, FIRST_BATCH, UPDATES, DONE) = range(15, 19)  # UPDATES before this call, DONE in it
HALT = 19  # set by another thread to make ``run`` return
(WATCH, DIVERGED) = (20, 21)  # whether to stop at a loss that is not finite; whether it did
LOSS_ADDRESS = 22  # machine code of a custom loss
N_TARGETS = 23  # columns of the targets
(WEIGHTED, MISSING) = (24, 25)  # whether rows have weights; whether targets may be NaN
LOWEST = 26  # the first layer that is not frozen, at which the backward pass ends
INPUT_THRESHOLD = 27  # an input is dropped if its random word is below; -1 without dropout
AVERAGED = 28  # slot of ``state`` that holds the average of the parameters, or -1
(CLIPS, LIMITS_UNITS) = (29, 30)  # whether there is a limit of the gradient; of the weights
(STAGE, FIRST_ROW) = (31, 32)  # one of the stages below; place of row 0, for dropout
BY_ROWS = 33  # whether the mean loss divides by the number of rows instead of their weights
SETTINGS = 34

# --- Elements of ``coefficients`` -----------------------------------------------------------------

L2 = 0  # the factor of L2
(C1, C1_REST, C2, C2_REST, EPSILON) = range(1, 6)  # decay rates of the moments, 1 − rate, ε
(RATE, STEP_SIZE, STEP_EPSILON) = range(6, 9)  # change from step to step
GRADIENT_SIZE = 9  # as STEP_SIZE, of NAdam's gradient
INPUT_KEPT = 10  # 1 / (1 − p) of the dropout of the inputs
AVERAGE_REST = 11  # 1 − d of the average of the parameters; changes from step to step
L1 = 12  # the factor of L1
INSIDE = 13  # added inside the root of RMSProp and Adagrad
CENTERED = 14  # whether RMSProp is centered; its momentum is C2
KEPT = 15  # and following: for each layer, 1 / (1 − p) of its dropout; then for each layer, the
# parameter of its activation

# --- Elements of a row of ``groups`` --------------------------------------------------------------

# The factor on the learning rate; the coupled decay; η · decoupled decay without that factor, which
# changes from step to step.
(FACTOR, COUPLED, SHRINKS) = range(3)


class Plan(NamedTuple):
    """Everything that a run works on, as flat arrays. T is the dtype of the network."""

    layers: Array  # (n_layers, FIELDS), int64
    settings: Array  # (SETTINGS,), int64
    coefficients: Array  # (KEPT + 2·n_layers,), T
    groups: Array  # (n_layers, 2, 3), T: of weights and biases
    decoupled: Array  # (n_layers, 2), float64: their decoupled decays
    constants: Array  # (9,), float64: beta1, beta2, epsilon, momentum decay; NAdam's product of the
    # momenta of updates 1 … t, and t; ema and ema_offset; whether ε is added to √v
    limits: Array  # (3,), float64: of the gradient, of the weights; the factor on the gradient
    squares: Array  # (2, n_layers, widest), float64: Σg² of each row, Σw² of each unit; or empty
    weights: Array  # T: the padded matrices (n_in + 1, W_ROW), layer by layer
    transposed: Array  # T: the padded matrices (n_out, T_ROW) of all layers but the first
    gradient: Array  # T, as weights
    state: Array  # T: the optimizer's slots, each as weights
    block: Array  # T: h, z and dz of a chunk
    x_bytes: Array  # uint8; the data set is in one of these three
    x_single: Array  # float32
    x_double: Array  # float64
    mean: Array  # (n_in,) of standardised x, float64, or empty
    inverse: Array  # (n_in,): 1 / scale, float64, or empty
    labels: Array  # (n,), int32; the targets are in one of these two
    targets: Array  # (n · n_targets,), T
    loss_parameters: Array  # T, or empty
    sample_weight: Array  # (n,), float64, or empty
    order: Array  # permutation (n,), int64, or empty
    rates: Array  # learning rate of each batch, float64
    losses: Array  # (chunk,), float64
    correct: Array  # (chunk,), float64
    sums: Array  # (6,), float64: the ``Sums`` of whole batches, and of the current batch
    out: Array  # (n · n_out,), T, or empty
    known: Array  # (chunk · 2 · n_out / n_targets,), T: z and a of one target of a row, or empty


def signature(dtype: str) -> Any:
    """Return the Numba signature of ``loop.run``."""

    def readonly(t: Any) -> Any:
        return types.Array(t, 1, "C", readonly=True)

    t = types.float32 if dtype == "float32" else types.float64
    f8, i8 = types.float64[::1], types.int64
    fields = (
        *(types.int64[:, ::1], types.int64[::1], t[::1], t[:, :, ::1], types.float64[:, ::1]),
        *(f8, f8, types.float64[:, :, ::1]),
        *(t[::1], t[::1], t[::1], t[::1], t[::1]),
        *(readonly(types.uint8), readonly(types.float32), readonly(types.float64)),
        *(readonly(types.float64), readonly(types.float64)),
        *(readonly(types.int32), readonly(t), t[::1], readonly(types.float64)),
        *(types.int64[::1], f8, f8, f8, f8, t[::1], t[::1]),
    )
    return i8(types.NamedTuple(fields, Plan), i8, i8, i8, i8)
