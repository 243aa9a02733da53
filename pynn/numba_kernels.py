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

import functools
import math
import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import njit, prange, types
from numba.extending import intrinsic, overload

from . import philox
from .backends import Sparse, why_numba
from .divergence import finite
from .spec import LEAKY_SLOPE, LOSSES, OPTIMIZERS, OUTPUTS, Architecture, Optimizer

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


def _tile_shape() -> tuple[int, int]:
    """Rows and vectors of the largest tile whose sums fit the registers."""
    features = _numba.config.CPU_FEATURES
    if features is None:
        named = _numba.config.CPU_NAME not in (None, "host")
        features = "" if named else binding.get_host_cpu_features().flatten()
    return (8, 2) if "+avx512f" in features.split(",") else (6, 1)


TILE_ROWS, TILE_VECTORS = _tile_shape()


@intrinsic
def tile(
    typing_context, rows, vectors, c, c0, c_row, a, a0, a_row, a_step, b, b0, b_row, depth, add
):
    """Multiply a few rows of a with a few vectors of columns of b, all sums in registers.

    c[r, :] = (c[r, :] if add else 0) + Σₖ a[r, k]·b[k, :], k ascending, each term by one fused
    multiply-add where the machine has it. Numba's own loops keep sums in memory and check anew for
    overlap at every turn; they reach between a tenth and two thirds of the speed. So this one
    loop is written in LLVM's terms.
    """
    index = types.intp
    parameters = (index, index, c, index, index, a, index, index, index, b, index, index, index)

    def codegen(context, builder, signature, args):
        element = context.get_data_type(c.dtype)
        size = context.get_abi_sizeof(element)
        lanes = VECTOR // size
        vector = ir.VectorType(element, lanes)
        word = context.get_value_type(index)
        rows, vectors, c_, c0, c_row, a_, a0, a_row, a_step, b_, b0, b_row, depth, add = args

        def number(n):
            return ir.Constant(word, n)

        def at(pointer, offset):
            return builder.gep(pointer, [offset])

        def start(kind, array, offset):
            data = context.make_array(kind)(context, builder, array).data
            return at(builder.bitcast(data, element.as_pointer()), offset)

        def column(pointer, v):
            return builder.bitcast(at(pointer, number(v * lanes)), vector.as_pointer())

        def load(pointer, v):
            return builder.load(column(pointer, v), align=size)

        def spread(x):
            i32 = ir.IntType(32)
            unknown = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(unknown, x, ir.Constant(i32, 0))
            return builder.shuffle_vector(
                first, unknown, ir.Constant(ir.VectorType(i32, lanes), [0] * lanes)
            )

        c_start, b_start = start(c, c_, c0), start(b, b_, b0)
        a_start = start(a, a_, a0)

        def emit(n_rows, n_vectors, after):
            cells = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
            c_rows = [at(c_start, builder.mul(c_row, number(r))) for r in range(n_rows)]
            a_rows = [at(a_start, builder.mul(a_row, number(r))) for r in range(n_rows)]
            before = builder.block
            loading = builder.append_basic_block("tile.load")
            loop = builder.append_basic_block("tile.loop")
            done = builder.append_basic_block("tile.done")
            builder.cbranch(builder.icmp_signed("!=", add, number(0)), loading, loop)
            builder.position_at_end(loading)
            old = [load(c_rows[r], v) for r, v in cells]
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(word)
            k.add_incoming(number(0), before)
            k.add_incoming(number(0), loading)
            sums = []
            for value in old:
                sums.append(builder.phi(vector))
                sums[-1].add_incoming(ir.Constant(vector, None), before)
                sums[-1].add_incoming(value, loading)
            b_k = at(b_start, builder.mul(k, b_row))
            columns = [load(b_k, v) for v in range(n_vectors)]
            a_k = builder.mul(k, a_step)
            factors = [spread(builder.load(at(row, a_k))) for row in a_rows]
            fused = ("contract",)
            new = [
                builder.fadd(builder.fmul(factors[r], columns[v], flags=fused), total, flags=fused)
                for (r, v), total in zip(cells, sums, strict=True)
            ]
            following = builder.add(k, number(1))
            for phi, value in zip([k, *sums], [following, *new], strict=True):
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)

            builder.position_at_end(done)
            for (r, v), value in zip(cells, new, strict=True):
                builder.store(value, column(c_rows[r], v), align=size)
            builder.branch(after)

        after = builder.append_basic_block("tile.after")
        choice = builder.add(builder.mul(rows, number(2)), vectors)
        switch = builder.switch(choice, after)
        for n_rows in range(1, TILE_ROWS + 1):
            for n_vectors in range(1, TILE_VECTORS + 1):
                case = builder.append_basic_block("tile.case")
                switch.add_case(number(2 * n_rows + n_vectors), case)
                builder.position_at_end(case)
                emit(n_rows, n_vectors, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*parameters, index), codegen


@kernel
def matmul(c, c0, c_row, a, a0, a_row, a_step, b, b0, b_row, m, n, depth, add):
    """c (m, n) = a (m, depth) @ b (depth, n), or c += …; n is rounded up to whole vectors.

    Matrices start at an offset into flat arrays; a step along the depth of ``a`` is ``a_step``, so
    that it may be read transposed.
    """
    lanes = VECTOR // c.itemsize
    wide = lanes * TILE_VECTORS
    groups = (m + TILE_ROWS - 1) // TILE_ROWS
    for j in range(0, n, wide):
        vectors = min(TILE_VECTORS, (n - j + lanes - 1) // lanes)
        for g in range(groups):
            i = g * m // groups
            rows = (g + 1) * m // groups - i
            tile(
                *(rows, vectors, c, c0 + i * c_row + j, c_row),
                *(a, a0 + i * a_row, a_row, a_step, b, b0 + j, b_row, depth, add),
            )


# --- Activations: f(z), and f'(z) -----------------------------------------------------------------

# They are sums and products of e^x, ln(1 + u) for u in (0, 1], tanh x for small x and the normal
# density and distribution, all in plain arithmetic without calls, so that loops over them become
# vector code.


def by_dtype(single: Any, double: Any) -> Callable[[Any], Any]:
    """Return a function for kernels that is one of two constants, by the type of its argument."""

    def constant(x: Any) -> Any:
        raise NotImplementedError("for kernels alone")

    @overload(constant, jit_options=INLINED)
    def _constant(x):
        return (lambda x: single) if x == types.float32 else (lambda x: double)

    return constant


def polynomial(single: list[float], double: list[float]) -> Callable[[Any], Any]:
    """Return a function for kernels that is a polynomial with these coefficients, lowest first."""
    of = {types.float32: np.array(single[::-1], np.float32), types.float64: np.array(double[::-1])}

    def value(x: Any) -> Any:
        raise NotImplementedError("for kernels alone")

    @overload(value, jit_options=FUSED)
    def _value(x):
        series = of[x]

        def horner(x):
            y = series[0]
            for i in range(1, len(series)):
                y = y * x + series[i]
            return y

        return horner

    return value


ONE, HALF = by_dtype(np.float32(1), 1.0), by_dtype(np.float32(0.5), 0.5)
TWO = by_dtype(np.float32(2), 2.0)

# e^x = 2^n·e^r with x = n·ln 2 + r and |r| <= ½·ln 2, and e^r by its Taylor series. Adding 1.5·2^23
# (or 2^52) to x / ln 2 rounds it to n and leaves n in the low bits of the sum, from where it is
# shifted into the exponent of 2^n. ln 2 is cut in two, the first part so short that n times it is
# exact. Below the limits 2^n would not be a normal number any more, and e^x is taken for zero; past
# the tops e^x is infinite, and the largest numbers take the last doubling at the end.
EXP_LIMIT = by_dtype(np.float32(-87.5), -708.5)
EXP_TOP = by_dtype(np.float32(89), 710.0)
MOST_POWER = by_dtype(np.float32(2.0**127), 2.0**1023)
EXP_ROUND = by_dtype(np.float32(1.5 * 2**23), 1.5 * 2**52)
PER_LN2 = by_dtype(np.float32(1 / math.log(2)), 1 / math.log(2))
LN2_FIRST = by_dtype(np.float32(0.693115234375), 0.6931471803691238)
LN2_REST = by_dtype(np.float32(3.194618494530942e-05), 1.908214929270588e-10)
exp_series = polynomial(*([1 / math.factorial(i) for i in range(2, n)] for n in (8, 14)))


def power_of_two(shifted: Any) -> Any:
    """2^n for the n in the low bits of a sum with EXP_ROUND."""
    raise NotImplementedError("for kernels alone")


@overload(power_of_two, jit_options=INLINED)
def _power_of_two(shifted):
    def single(shifted):
        bits = (np.float32(shifted).view(np.int32) << 23) + (127 << 23)
        return np.int32(bits).view(np.float32)

    def double(shifted):
        bits = (np.float64(shifted).view(np.int64) << 52) + (1023 << 52)
        return np.int64(bits).view(np.float64)

    return single if shifted == types.float32 else double


@fused_kernel
def exp_parts(x):
    """2^n and e^r − 1, for x up to EXP_TOP."""
    vanishes = x < EXP_LIMIT(x)
    x = EXP_LIMIT(x) if vanishes else x
    shifted = x * PER_LN2(x) + EXP_ROUND(x)
    n = shifted - EXP_ROUND(x)
    r = x - n * LN2_FIRST(x) - n * LN2_REST(x)
    power = x - x if vanishes else power_of_two(shifted)
    return power, exp_series(r) * r * r + r


@inlined_kernel
def exp(x):
    """e^x for x <= 0."""
    power, rest = exp_parts(x)
    return (ONE(x) + rest) * power


@inlined_kernel
def exp_of_any(x):
    """e^x for any x."""
    power, rest = exp_parts(EXP_TOP(x) if x > EXP_TOP(x) else x)
    large = power > MOST_POWER(x)
    scaled = (ONE(x) + rest) * (MOST_POWER(x) if large else power)
    return scaled * (TWO(x) if large else ONE(x))


@inlined_kernel
def expm1(x):
    """e^x − 1 for x up to EXP_TOP, with its relative precision kept near 0."""
    power, rest = exp_parts(x)
    return (power - ONE(x)) + power * rest


@inlined_kernel
def sigmoid_from(e, negative):
    """sigmoid(x) from e^-|x|: e − e·q is q, with fewer roundings that count where e is small."""
    q = e / (ONE(e) + e)
    return e - e * q if negative else ONE(e) - q


# (tanh(x)/x − 1) / x² in x² for |x| <= ½·ln 2: the Chebyshev series, computed to 60 digits and
# summed to where what is left is a thirtieth of a unit in the last place of tanh(x).
# fmt: off
tanh_series = polynomial(
    [
        -0.33333333317766481566, 0.13333326847191532673, -0.053963912025196616291,
        0.02176712884858695726, -0.0078645945996405782397,
    ],
    [
        -0.3333333333333333333, 0.13333333333333327191, -0.05396825396823707197,
        0.021869488534350503521, -0.0088632354318825774631, 0.0035921249730682944541,
        -0.0014557759330449634172, 0.00058933378581985214105, -0.00023410705368356484702,
        0.000076306339166520422811,
    ],
)
# fmt: on
TANH_SMALL = by_dtype(np.float32(0.34657), 0.34657)
TANH_LARGE = by_dtype(np.float32(40), 40.0)  # where it has long been 1


@inlined_kernel
def tanh(x):
    """tanh(x); e / (e + 2) with e = e^2|x| − 1 is rounded too often where it is small."""
    a = abs(x)
    e = expm1(TANH_LARGE(x) if a > TANH_LARGE(x) else a + a)
    small = a + a * a * a * tanh_series(a * a)
    t = small if a < TANH_SMALL(x) else e / (e + TWO(x))
    return -t if x < 0 else t


# artanh(s) / s in s², for s up to a third.
artanh_series = polynomial(*([1 / (2 * i + 1) for i in range(n)] for n in (8, 17)))


@inlined_kernel
def log1p(u):
    """ln(1 + u) for u from 0 to 1, as 2·artanh(u / (2 + u))."""
    s = u / (u + ONE(u) + ONE(u))
    return (s + s) * artanh_series(s * s)


# (1 + q)·e^(q²)·erfc(q) for q >= 0 in t = (q − 2.5) / (q + 2.5): the Chebyshev series, computed to
# 60 digits and summed to the first term below a unit in the last place.
# fmt: off
erfc_series = polynomial(
    [
        0.73782227414665513063, -0.24704676461094653944, 0.076344333347199865337,
        0.016298893470634176426, -0.031522361095252886342, 0.014379805004904116611,
        -0.00085463819895897350943, -0.0017394926125912139406, 0.00035850175550056198724,
        0.00022722900711908590065, -0.000059222550199797224596, -0.000024879592717953064292,
        5.9044393793545584579e-6,
    ],
    [
        0.73782227421400253146, -0.24704674851568876743, 0.076344326821923804392,
        0.016298433322187700181, -0.031522258481489064337, 0.01438359605163137689,
        -0.0008552365738881081966, -0.0017530814484562350989, 0.00036012310737665312614,
        0.00025162360948518848727, -0.000061330908718875068337, -0.000047454049218017923041,
        6.9108312444187622561e-6, 0.000010201084189014654192, 3.9525304291351868906e-7,
        -2.0721378477754495967e-6, -5.9585219998689977829e-7, 3.0837712773309654091e-7,
        2.3444738846058213611e-7, -2.7259048434171245565e-9, -6.0320305221148396068e-8,
        -1.6266518891570182297e-8, 1.0073852159744780416e-8, 5.087196820270810473e-9,
        -8.3835154264997100915e-10, -6.1430515153705860037e-10,
    ],
)
# fmt: on


ERFC_MIDDLE = by_dtype(np.float32(2.5), 2.5)
ROOT_HALF = by_dtype(np.float32(math.sqrt(0.5)), math.sqrt(0.5))
DENSITY_PEAK = by_dtype(np.float32(1 / math.sqrt(2 * math.pi)), 1 / math.sqrt(2 * math.pi))


@inlined_kernel
def normal(x):
    """The normal distribution Φ(x), and its density."""
    q = abs(x) * ROOT_HALF(x)
    e = exp(-HALF(x) * x * x)
    t = (q - ERFC_MIDDLE(x)) / (q + ERFC_MIDDLE(x))
    tail = HALF(x) * e * erfc_series(t) / (ONE(x) + q)
    return (ONE(x) - tail if x > 0 else tail), e * DENSITY_PEAK(x)


def _call_address(context, builder, address, result, arrays, kinds, numbers):
    """Call what starts at an address with the places where arrays start, and with numbers."""
    places = [
        context.make_array(kind)(context, builder, array).data
        for kind, array in zip(kinds, arrays, strict=True)
    ]
    given = [*places, *numbers]
    function = ir.FunctionType(result, [value.type for value in given])
    return builder.call(builder.inttoptr(address, function.as_pointer()), given)


@intrinsic
def own_activation(typing_context, address, z, h, n):
    """h = f(z), and then z = f'(z), by a function of ``numba_functions.activation``."""

    def codegen(context, builder, signature, args):
        address, z_, h_, n = args
        _call_address(context, builder, address, ir.VoidType(), (z_, h_), (z, h), (n,))
        return context.get_dummy_value()

    return types.void(types.int64, z, h, types.int64), codegen


@intrinsic
def own_loss(typing_context, address, a, t, d, label, n):
    """Return the sum of a row's losses, and multiply d by their gradient by a; the targets are t,
    or zeros but for one at ``label``. By a function of ``numba_functions.loss``.
    """

    def codegen(context, builder, signature, args):
        address, a_, t_, d_, label, n = args
        arrays, kinds = (a_, t_, d_), (a, t, d)
        return _call_address(context, builder, address, ir.DoubleType(), arrays, kinds, (label, n))

    return types.float64(types.int64, a, t, d, types.int64, types.int64), codegen


@kernel
def activation(name, address, z, h, slope):
    """h = f(z), and then z = f'(z)."""
    zero, one = h.dtype.type(0), h.dtype.type(1)
    if name == OWN:
        own_activation(address, z, h, len(z))
    elif name == SIGMOID:
        for i in range(len(z)):
            a = sigmoid_from(exp(-abs(z[i])), z[i] < zero)
            h[i] = a
            z[i] = a * (one - a)
    elif name == TANH:
        for i in range(len(z)):
            a = tanh(z[i])
            h[i] = a
            z[i] = one - a * a
    elif name == RELU:
        for i in range(len(z)):
            h[i] = zero if z[i] < zero else z[i]
            z[i] = one if z[i] > zero else zero
    elif name == LEAKY_RELU:
        for i in range(len(z)):
            d = one if z[i] > zero else slope
            h[i] = d * z[i]
            z[i] = d
    elif name == ELU:
        for i in range(len(z)):
            e = expm1(zero if z[i] > zero else z[i])
            h[i] = z[i] if z[i] > zero else e
            z[i] = e + one
    elif name == GELU:
        for i in range(len(z)):
            below, density = normal(z[i])
            h[i] = z[i] * below
            z[i] = below + z[i] * density
    elif name == SOFTPLUS:
        for i in range(len(z)):
            e = exp(-abs(z[i]))
            h[i] = (zero if z[i] < zero else z[i]) + log1p(e)
            z[i] = sigmoid_from(e, z[i] < zero)
    elif name == EXP:
        for i in range(len(z)):
            e = exp_of_any(z[i])
            h[i] = e
            z[i] = e
    else:
        for i in range(len(z)):
            h[i] = z[i]
            z[i] = one


@kernel
def largest(z, n):
    """Index of the largest of n numbers, or of the first that is none, as NumPy's argmax."""
    best = 0
    for j in range(1, n):
        if z[j] > z[best] or (z[j] != z[j] and z[best] == z[best]):
            best = j
    return best


@kernel
def softmax(z, a, n):
    """Write the softmax of a row's n logits; return log Σ exp(z − max), Σ of all but the largest
    probability, and where that is. Near 0 the two sums keep their relative precision.
    """
    best = largest(z, n)
    for j in range(len(z)):
        a[j] = exp(z[j] - z[best])
    rest = a.dtype.type(0)
    for j in range(n):
        rest += a[j] if j != best else a.dtype.type(0)
    total = rest + a[best]
    for j in range(len(z)):
        a[j] /= total
    for j in range(n, len(z)):
        a[j] = a.dtype.type(0)
    return math.log1p(np.float64(rest)), rest / total, best


# --- Random numbers -------------------------------------------------------------------------------

M0, M1 = philox._M0, philox._M1
W0, W1 = np.uint64(philox._W0), np.uint64(philox._W1)
LOW, WORD = np.uint64(0xFFFFFFFF), np.uint64(32)


@kernel
def philox_words(seed, block, row, epoch, stream):
    """The four words of a counter, as ``philox.philox``; everything is uint64."""
    c0, c1, c2, c3 = block, row, epoch & LOW, stream & LOW
    k0, k1 = seed & LOW, seed >> WORD
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c2 = (p1 >> WORD) ^ c1 ^ k0, (p0 >> WORD) ^ c3 ^ k1
        c1, c3 = p1 & LOW, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


def permutation(seed, epoch, n):
    """The order of the rows in an epoch, as ``philox.permutation``."""
    partner = np.empty(n + 3, np.int64)
    zero, stream = np.uint64(0), np.uint64(philox.SHUFFLE)
    for block in range((n + 3) // 4):
        i = np.uint64(4 * block + 1)
        words = philox_words(seed, np.uint64(block), zero, epoch, stream)
        partner[4 * block] = (words[0] * i) >> WORD
        partner[4 * block + 1] = (words[1] * (i + np.uint64(1))) >> WORD
        partner[4 * block + 2] = (words[2] * (i + np.uint64(2))) >> WORD
        partner[4 * block + 3] = (words[3] * (i + np.uint64(3))) >> WORD
    order = np.arange(n)
    for i in range(n - 1, 0, -1):
        j = partner[i]
        order[i], order[j] = order[j], order[i]
    return order


@kernel
def dropout(h, z, n, seed, row, epoch, stream, threshold, kept):
    """Multiply a row's activations and slopes by 0 where a unit drops out, else by ``kept``."""
    zero = h.dtype.type(0)
    for block in range((n + 3) // 4):
        words = philox_words(seed, np.uint64(block), row, epoch, stream)
        i = 4 * block
        f0 = kept if words[0] >= threshold else zero
        f1 = kept if words[1] >= threshold else zero
        f2 = kept if words[2] >= threshold else zero
        f3 = kept if words[3] >= threshold else zero
        h[i] *= f0
        z[i] *= f0
        h[i + 1] *= f1
        z[i + 1] *= f1
        h[i + 2] *= f2
        z[i + 2] *= f2
        h[i + 3] *= f3
        z[i + 3] *= f3


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


BAND = 64
"""Rows of a weight matrix whose gradient and update are made together, while they are in cache."""


@kernel
def update(optimizer, w, g, u, v, c, decay):
    """Apply one step to a stretch of parameters w with gradient g and state u, v."""
    n = len(w)
    rate, c1, c1_rest, c2, c2_rest = c[RATE], c[C1], c[C1_REST], c[C2], c[C2_REST]
    epsilon = c[EPSILON]
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
        step_size, step_epsilon = c[STEP_SIZE], c[STEP_EPSILON]
        if optimizer == ADAMW and decay:
            decay_rate = c[DECAY]
            for i in range(n):
                w[i] -= decay_rate * w[i]
        for i in range(n):
            u[i] = c1 * u[i] + c1_rest * g[i]
            v[i] = c2 * v[i] + c2_rest * g[i] * g[i]
            w[i] -= step_size * u[i] / (math.sqrt(v[i]) + step_epsilon)


@kernel
def transpose(w, w0, w_row, t, t0, t_row, m, n):
    """t (n, m) = the transpose of w (m, n), both starting at an offset into flat arrays."""
    for j in range(n):
        to = t[t0 + j * t_row : t0 + j * t_row + m]
        for i in range(len(to)):
            to[i] = w[w0 + i * w_row + j]


@kernel
def weights_pass(p, part, parts, m, before, last):
    """Sum the gradient of this part of every layer's rows over the m rows of the chunk.

    ``before`` says that the gradient goes on from an earlier chunk of the batch, ``last`` that it
    is whole now and is to be applied.
    """
    size, l2 = len(p.weights), p.coefficients[L2]
    for k in range(len(p.layers)):
        layer = p.layers[k]
        n_in, row = layer[N_IN], layer[W_ROW]
        stop = (part + 1) * (n_in + 1) // parts
        for lo in range(part * (n_in + 1) // parts, stop, BAND):
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
            # The last row holds the biases, which neither L2 nor weight decay touches.
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
                update(p.settings[UPDATE_RULE], w, g, u, v, p.coefficients, decay)
            if k > 0:
                transpose(
                    *(p.weights, start, row, p.transposed, layer[T] + lo, layer[T_ROW]),
                    *(min(hi, n_in) - lo, layer[N_OUT]),
                )


@kernel
def set_step(p, batch):
    """Put what changes from step to step into ``coefficients``."""
    i = batch - p.settings[FIRST_BATCH]
    step, rate = p.settings[UPDATES] + i + 1, p.rates[i]
    beta1, beta2 = p.constants[0], p.constants[1]
    epsilon, weight_decay = p.constants[2], p.constants[3]
    c = math.sqrt(1 - beta2**step)
    p.coefficients[RATE] = rate
    p.coefficients[DECAY] = rate * weight_decay
    p.coefficients[STEP_SIZE] = rate * c / (1 - beta1**step)
    hat = p.settings[UPDATE_RULE] == ADAM_HAT
    p.coefficients[STEP_EPSILON] = epsilon if hat else c * epsilon


@kernel
def all_finite(p, m):
    total = 0.0
    for r in range(m):
        total += p.losses[r] * 0.0  # NaN if and only if one is NaN or infinite
    return math.isfinite(total)


@kernel
def add_up(p, m, first, last):
    """Add the m rows of a chunk to the sums of its batch, and a whole batch to those before it."""
    if first:
        p.sums[2:] = 0
    for r in range(m):
        p.sums[2] += p.losses[r]
        p.sums[3] += p.correct[r]
    if last:
        p.sums[0] += p.sums[2]
        p.sums[1] += p.sums[3]


def run(p, position, stop, chunks, threads):
    """Take a number of chunks from a position of the epoch, and return the position reached."""
    s = p.settings
    # Literals would have the passes compiled a second time, for these very numbers.
    none, one = np.int64(0), np.int64(1)
    while position < stop and chunks > 0:
        batch = position // s[BATCH]
        start = batch * s[BATCH]
        end = min(start + s[BATCH], s[ROWS])
        m = min(s[CHUNK], end - position)
        before = 1 if position > start else 0
        last = position + m == end and s[TASK] == TRAIN
        if threads == 1:
            rows_pass(p, none, one, position, m, end - start)
        else:
            for part in prange(threads):
                rows_pass(p, np.int64(part), threads, position, m, end - start)
        if s[WATCH] and not all_finite(p, m):
            s[DIVERGED] = 1
            break
        if s[TASK] != FORWARD:
            add_up(p, m, position == start, position + m == end)
        if s[TASK] >= GRADIENT:
            if last:
                set_step(p, batch)
            if threads == 1:
                weights_pass(p, none, one, m, before, last)
            else:
                for part in prange(threads):
                    weights_pass(p, np.int64(part), threads, m, before, last)
        if last:
            s[DONE] += 1
        position += m
        chunks -= 1
        if s[HALT]:  # set from outside, while this runs
            break
    return position


# --- Compilation and calls ------------------------------------------------------------------------

_guard = threading.Lock()
_after_fork = False


def _layer() -> str | None:
    """Numba's threading layer, or None as long as nothing has started one."""
    try:
        return str(_numba.threading_layer())
    except ValueError:
        return None


def _forked() -> None:
    """In a child process: take new locks, and stay clear of a GNU OpenMP that did not survive."""
    global _guard, _after_fork
    _guard = threading.Lock()
    _after_fork = _after_fork or _layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _compile(function: Callable[..., Any], signature: Any, **options: Any) -> Callable[..., Any]:
    options |= OPTIONS
    try:
        return njit([signature], cache=True, **options)(function)
    except RuntimeError as error:  # there is no folder that a cache could be written to
        if "cache" not in str(error):
            raise
        return njit([signature], **options)(function)


@functools.cache
def _run(dtype: str) -> Callable[..., int]:
    return _compile(run, _signature(dtype), parallel=True)


@functools.cache
def _permutation() -> Callable[[np.uint64, np.uint64, int], Array]:
    return _compile(permutation, types.int64[::1](types.uint64, types.uint64, types.int64))


def _call(
    function: Callable[..., int], plan: Plan, position: int, stop: int, chunks: int, threads: int
) -> int:
    """Call ``run`` on so many threads, or on one where a parallel region would end the process."""
    plan.settings[HALT] = 0
    if threads == 1 or _after_fork:
        return function(plan, position, stop, chunks, 1)
    mask = _numba.get_num_threads()
    # The work queue, Numba's layer where there is neither TBB nor OpenMP, aborts when a second
    # thread enters it. Whoever finds it taken does without: the bits are the same.
    alone = _layer() == "workqueue"
    if alone and not _guard.acquire(blocking=False):
        return function(plan, position, stop, chunks, 1)
    # A region lasts a thousand times longer when another process takes a core that OpenMP waits
    # for, and Ctrl-C must not wait as long.
    watch = threading.Timer(2 * LONGEST_SLICE, plan.settings.__setitem__, (HALT, 1))
    watch.daemon = True
    try:
        watch.start()
        _numba.set_num_threads(min(threads, _numba.config.NUMBA_NUM_THREADS))
        return function(plan, position, stop, chunks, threads)
    finally:
        watch.cancel()
        _numba.set_num_threads(mask)
        if alone:
            _guard.release()


def _default_threads() -> int:
    """Processors that this process may use, within what Numba and this thread's mask allow."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:
        processors = os.cpu_count() or 1
    # Without a layer nobody can have set a mask, and asking for it would start one.
    mask = _numba.get_num_threads() if _layer() else _numba.config.NUMBA_NUM_THREADS
    return min(processors, int(mask))


FLOPS = 6e10
"""Operations a second on one thread, roughly, for the first guess of how many threads pay."""
LAUNCH = 6e-6
"""Seconds that a parallel region costs, roughly: 1.3 µs with OpenMP, 60 with the work queue."""
FIRST_SLICE, LONGEST_SLICE = 2e-3, 0.1
"""Seconds between returns to Python, where Ctrl-C is answered; doubled from first to longest."""
TRIALS = 0.03
"""Share of the time to spend on trying other numbers of threads than the best known one."""


class _Pace:
    """How many threads to use and how many chunks to take before returning to Python.

    Starts from a guess and goes on with what each slice took, so that threads are not used where
    steps are too small for them or other processes hold the processors. Other numbers of threads
    are tried in turn, whenever the time for it has been saved up.
    """

    def __init__(self, threads: int, seconds: float) -> None:
        choices = [2**i for i in range(threads.bit_length()) if 2**i < threads] + [threads]
        self.cost = {t: seconds / t + (2 * LAUNCH if t > 1 else 0.0) for t in choices}
        self.others = choices  # those tried longest ago come first
        self.threads, self.slice, self.saved = 0, FIRST_SLICE / 2, 0.0

    def choose(self) -> tuple[int, int]:
        """Return threads and chunks of the next slice."""
        best = min(self.cost, key=self.cost.__getitem__)
        other = next((t for t in self.others if t != best), None)
        if other and self.saved > max(FIRST_SLICE, self.cost[other]):
            self.threads, self.saved = other, 0.0
            return other, max(1, int(FIRST_SLICE / self.cost[other]))
        self.threads = best
        self.slice = min(2 * self.slice, LONGEST_SLICE)
        return best, max(1, int(self.slice / self.cost[best]))

    def note(self, seconds: float, chunks: float) -> None:
        """Learn what the chunks of the last slice took each on the threads chosen for it."""
        self.cost[self.threads] = seconds
        self.others.remove(self.threads)
        self.others.append(self.threads)
        self.saved += TRIALS * seconds * chunks


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


# --- The backend ----------------------------------------------------------------------------------


class _Job:
    """One task on one data set, ready to run from any position in it."""

    def __init__(
        self,
        weights: _Weights,
        threads: int,
        task: int,
        x: Array,
        y: Array | None,
        batch_size: int,
        optimizer: Optimizer | None = None,
        l2: float = 0.0,
    ) -> None:
        net, n = weights.net, len(x)
        chunk = _chunk(net, min(batch_size, n))
        layers = weights.layers.copy()
        block = _block(layers, chunk, net.dtype)
        flat, start, row, column = _source(x)
        kind = ("uint8", "float32", "float64").index(x.dtype.name)
        sources = [np.empty(0, dtype) for dtype in (np.uint8, np.float32, np.float64)]
        sources[kind] = flat
        labels, targets = np.empty(0, np.int32), np.empty(0, net.dtype)
        if y is not None and y.ndim == 2:
            targets = np.asarray(y).reshape(-1)
        elif y is not None:
            if net.n_out == 1:
                raise ValueError("y: found labels for a single output, expected targets (n, 1)")
            labels = np.asarray(y).view()
        for array in (*sources, labels, targets):
            array.flags.writeable = False
        settings = np.zeros(LOSS_ADDRESS + 1, np.int64)
        settings[[TASK, ROWS, BATCH, CHUNK]] = task, n, batch_size, chunk
        settings[[X_KIND, X_START, X_ROW, X_COLUMN]] = kind, start, row, column
        settings[[OUTPUT_LOSS, COUNTED]] = LOSS.get(net.loss, OWN), _what_to_count(net, y)
        if net.loss in weights.own:
            settings[LOSS_ADDRESS] = weights.own[net.loss].address
        settings[[HAS_LABELS, STREAM]] = len(labels) > 0, philox.DROPOUT
        settings[UPDATE_RULE] = OPTIMIZER[optimizer.name] if optimizer else 0
        constants, coefficients = _coefficients(net, optimizer, l2)
        self.plan = Plan(
            layers=layers,
            settings=settings,
            coefficients=coefficients,
            constants=constants,
            weights=weights.weights,
            transposed=weights.transposed,
            gradient=weights.gradient,
            state=weights.state,
            block=block,
            x_bytes=sources[0],
            x_single=sources[1],
            x_double=sources[2],
            labels=labels,
            targets=targets,
            order=np.empty(0, np.int64),
            rates=np.empty(0),
            losses=np.zeros(chunk),
            correct=np.zeros(chunk),
            sums=np.zeros(4),
            out=np.empty(n * net.n_out if task == FORWARD else 0, net.dtype),
        )
        operations = (6 if task >= GRADIENT else 2) * net.n_parameters * chunk
        self.pace = _Pace(threads, operations / FLOPS)

    def run(self, start: int, stop: int) -> tuple[float, float]:
        """Go from one position of the epoch to another, in slices that leave room for Ctrl-C.

        Returns the sums of losses and correct since the job began or its epoch did.
        """
        if start == 0:
            self.plan.sums[:2] = 0
        function = _run(self.plan.weights.dtype.name)
        position = start
        while position < stop and not self.plan.settings[DIVERGED]:
            threads, chunks = self.pace.choose()
            began, before = time.perf_counter(), position
            position = _call(function, self.plan, position, stop, chunks, threads)
            took = time.perf_counter() - began
            done = max(1.0, (position - before) / int(self.plan.settings[CHUNK]))
            self.pace.note(took / done, done)
        loss, correct = self.plan.sums[:2].tolist()
        return loss, correct


def _coefficients(net: Architecture, optimizer: Optimizer | None, l2: float) -> tuple[Array, Array]:
    """``constants`` and ``coefficients`` of a plan."""
    o: Any = optimizer
    name = "" if optimizer is None else optimizer.name
    c = np.zeros(KEPT + net.n_layers, net.dtype)
    constants = np.zeros(4)
    c[SLOPE], c[L2] = LEAKY_SLOPE, l2
    for k, rate in enumerate(net.dropout):
        c[KEPT + k] = 1 / (1 - rate)
    if name in ("momentum", "nesterov"):
        c[C1] = o.momentum
    elif name == "rmsprop":
        c[C1], c[C1_REST], c[EPSILON] = o.rho, 1 - o.rho, o.epsilon
    elif name == "adagrad":
        c[C1], c[C1_REST], c[EPSILON] = 1, 1, o.epsilon
    elif name in ("adam", "adam_hat", "adamw"):
        c[C1], c[C1_REST], c[C2], c[C2_REST] = o.beta1, 1 - o.beta1, o.beta2, 1 - o.beta2
        constants[:] = o.beta1, o.beta2, o.epsilon, getattr(o, "weight_decay", 0.0)
    return constants, c


def _what_to_count(net: Architecture, y: Array | None) -> int:
    if y is None:
        return NOT_COUNTED
    if net.n_out == 1 or (net.loss == "binary_cross_entropy" and y.ndim == 2):
        return NOT_COUNTED if net.regression else BY_HALF
    if y.ndim == 1:
        return BY_LABEL
    return NOT_COUNTED if net.regression else BY_LARGEST


def _refuse(
    net: Architecture, x: Array | Sparse, sample_weight: Array | None, convention: str
) -> Array:
    """Return x, or say what this backend cannot do."""
    if isinstance(x, Sparse) or sample_weight is not None or convention != "pynn":
        raise ValueError(
            f"backend: found 'numba'{why_numba(net)}, which takes no sparse rows, sample weights "
            "or conventions of other libraries; expected "
            + ("backend='numpy', or dense rows" if net.functions else "'cython' or 'numpy'")
        )
    return x


class Engine:
    """The Numba backend: the contract of ``pynn.backends.Engine``.

    Parameters
    ----------
    net
        What to compute.
    threads
        The most threads to use; None takes the processors this process may run on. Steps too
        small for several threads run on fewer.

    Raises
    ------
    ValueError
        If a function of the user's own cannot be compiled.
    """

    name = "numba"

    def __init__(self, net: Architecture, threads: int | None = None) -> None:
        self.net = net
        self.own: dict[str, Any] = {}
        if net.functions:
            from . import numba_functions

            self.own = {own.name: numba_functions.compiled(own, net.dtype) for own in net.functions}
        self.threads = _default_threads() if threads is None else threads

    def forward(self, parameters: Array, x: Array | Sparse) -> Array:
        x = _refuse(self.net, x, None, "pynn")
        weights = _Weights(self.net, self.own, parameters, [], learning=False)
        job = _Job(weights, self.threads, FORWARD, x, None, len(x))
        job.run(0, len(x))
        return job.plan.out.reshape(len(x), self.net.n_out)

    def evaluate(self, parameters: Array, x: Array | Sparse, y: Array) -> tuple[float, float]:
        x = _refuse(self.net, x, None, "pynn")
        weights = _Weights(self.net, self.own, parameters, [], learning=False)
        return _Job(weights, self.threads, EVALUATE, x, y, len(x)).run(0, len(x))

    def objective(
        self,
        x: Array | Sparse,
        y: Array,
        *,
        l2: float,
        sample_weight: Array | None = None,
        convention: str = "pynn",
    ) -> Callable[[Array], tuple[float, Array]]:
        x = _refuse(self.net, x, sample_weight, convention)
        net, n = self.net, len(x)

        def loss_and_gradient(parameters: Array) -> tuple[float, Array]:
            weights = _Weights(net, self.own, parameters, [], learning=True)
            loss = _Job(weights, self.threads, GRADIENT, x, y, n).run(0, n)[0] / n
            gradient = np.empty_like(parameters)
            weights.copy(weights.gradient, gradient)
            for w, dw in zip(net.views(parameters)[0], net.views(gradient)[0], strict=True):
                dw += l2 * w
                loss += 0.5 * l2 * float(np.square(w, dtype=np.float64).sum())
            return loss, gradient

        return loss_and_gradient

    def trainer(
        self,
        parameters: Array,
        state: list[Array],
        x: Array | Sparse,
        y: Array,
        *,
        optimizer: Optimizer,
        batch_size: int,
        l2: float,
        seed: int,
        shuffle: bool,
        sample_weight: Array | None = None,
        convention: str = "pynn",
        watch: bool = False,
    ) -> Trainer:
        x = _refuse(self.net, x, sample_weight, convention)
        if optimizer.name not in OPTIMIZER:
            raise ValueError(
                f"optimizer: found {optimizer.name!r}, which this backend does not know"
            )
        weights = _Weights(self.net, self.own, parameters, state, learning=True)
        job = _Job(weights, self.threads, TRAIN, x, y, batch_size, optimizer, l2)
        job.plan.settings[WATCH] = watch
        return Trainer(weights, job, self.threads, seed, shuffle)


class Trainer:
    """The mini-batch loop; the contract is that of ``pynn.backends.Trainer``."""

    finite, apart = False, True

    def __init__(
        self, weights: _Weights, job: _Job, threads: int, seed: int, shuffle: bool
    ) -> None:
        self._weights, self._job, self._threads = weights, job, threads
        self._seed, self._shuffle = np.uint64(seed & 0xFFFFFFFFFFFFFFFF), shuffle
        job.plan.settings[SHUFFLED] = shuffle
        job.plan.settings[SEED] = self._seed.astype(np.int64)
        self._epoch: int | None = None
        self._given = False
        self.done, self.diverged = 0, False

    @property
    def done(self) -> int:
        return int(self._job.plan.settings[DONE])

    @done.setter
    def done(self, count: int) -> None:
        self._job.plan.settings[DONE] = count

    @property
    def sums(self) -> tuple[float, float]:
        loss, correct = self._job.plan.sums[:2].tolist()
        return loss, correct

    @sums.setter
    def sums(self, found: tuple[float, float]) -> None:
        self._job.plan.sums[:2] = found

    def order(self, rows: Array) -> None:
        """Take the rows in this order from the next epoch on."""
        job = self._job
        n = int(job.plan.settings[ROWS])
        if len(rows) != n or rows.min() < 0 or rows.max() >= n:
            raise ValueError(f"rows: found {rows!r}, expected {n} numbers from 0 to {n - 1}")
        order = np.array(rows, dtype=job.plan.order.dtype)
        job.plan, self._given = job.plan._replace(order=order), True
        job.plan.settings[SHUFFLED] = True

    def steps(self, epoch: int, first: int, rates: Array, updates: int) -> tuple[float, float]:
        """Train on batches first, first + 1, … of an epoch, one for each learning rate."""
        job = self._job
        settings = job.plan.settings
        n, batch = int(settings[ROWS]), int(settings[BATCH])
        settings[DONE] = settings[DIVERGED] = 0
        if self._shuffle and not self._given and self._epoch != epoch:
            order = _permutation()(self._seed, np.uint64(epoch & 0xFFFFFFFF), n)
            job.plan, self._epoch = job.plan._replace(order=order), epoch
        job.plan = job.plan._replace(rates=np.array(rates, np.float64))
        settings[[EPOCH, FIRST_BATCH, UPDATES]] = epoch, first, updates
        try:
            return job.run(first * batch, min(n, (first + len(rates)) * batch))
        finally:
            self.diverged = bool(settings[DIVERGED])

    def evaluate(self, x: Array | Sparse, y: Array) -> tuple[float, float]:
        """Sum of losses and number right with the parameters as they stand, without dropout."""
        x = _refuse(self._weights.net, x, None, "pynn")
        return _Job(self._weights, self._threads, EVALUATE, x, y, len(x)).run(0, len(x))

    def sound(self) -> bool:
        """Whether all that ``store`` would write is finite."""
        return finite(*(padded for padded, _ in self._weights.pairs()))

    def store(self) -> None:
        """Write parameters and state back to the vectors the trainer was made with."""
        self._weights.store()
