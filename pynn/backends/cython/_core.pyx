# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""The compiled backend: the passes and the mini-batch loop of pynn/reference.py, without the GIL.

Names and order are those of the reference, to be read beside it. Shapes: a chunk is up to
``Plan.rows`` rows of a batch; layer k maps n_in to n_out units. Each leading dimension is padded
(``ld`` for what is n_out wide, ``ld_in`` for what is n_in wide).
    h        (rows, ld_in)    what goes into a layer; the first is the gathered x
    w, b     (n_in, ld), (ld,)
    wt       (n_out, ld_in)   the transpose of w, for dz · wᵀ
    z        (rows, ld)       = h · w + b, then f(z): the next layer's h
    dz       (rows, ld)       ∂loss/∂z
Narrow layers, of fewer outputs than a vector has lanes and many inputs, keep wt alone, in the place of w.
Where many of x or, in training, of h and dz are zero, products go through lists of those that are not;
narrow first layers, which may have an x for each thread, leave out vectors of x.

With precision "bf16" wide layers multiply what is rounded to bfloat16, which lies beside the floats
in pairs of consecutive k (``bf16.cpp``), halves rounded up:
    h16, dz16       (rows, ld_in / 2), (rows, ld / 2)    pairs along rows, for h · w and dz · wᵀ
    h_pairs, dz_pairs  (rows / 2, ld_in), (rows / 2, ld) pairs along columns, for hᵀ · dz
    w_pairs, wt     (n_in / 2, ld), (n_out / 2, ld_in)
dz_pairs, w_pairs and wt in panels of 32 columns.
A first layer that skips zeros multiplies floats, with the values of bfloat16: those of h in their
place, w_rounded and dz_rounded beside w and dz.

One step on a team of threads: each takes its own rows of the batch through ``passes``; barrier;
each takes its own rows of every weight matrix, sums their gradient over the whole batch and updates
them; barrier. No sum is ever split among threads, so their number does not show in the bits.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBUF_WRITABLE, PyBUF_SIMPLE,
    PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from libcpp.atomic cimport atomic

import os

import numpy as np

from pynn.arrays.memory import Memory
from pynn.arrays.sparse import Sparse


cdef extern from "kernels.h" namespace "pynn" nogil:
    cdef enum:
        F32, F64, N_DTYPES
        SOURCE_UINT8, SOURCE_FLOAT32, SOURCE_FLOAT64
        IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, GELU, SOFTPLUS, SOFTMAX, EXP
        CROSS_ENTROPY, BINARY_CROSS_ENTROPY, MEAN_SQUARED_ERROR, POISSON
        RULE_SGD, RULE_MOMENTUM, RULE_NESTEROV, RULE_RMSPROP, RULE_ADAGRAD, RULE_ADAM
        FINISH_STORE, FINISH_BIAS, FINISH_ADD, FINISH_SGD, FINISH_ADAM, FINISH_ADD_ADAM
        MARKED_ROWS

    cdef struct Step:
        double rate, l2, decay, beta1, beta2, epsilon
        Py_ssize_t w, s1, s2

    cdef struct Targets:
        const int32_t* labels
        const void* values
        Py_ssize_t ld
        const double* weights
        double least

    cdef struct Dropout:
        uint64_t seed
        uint32_t epoch, stream, first_row, threshold
        double scale

    cdef struct Kernels:
        const char* isa
        int width, rows, sparse_cols, itemsize
        void (*matmul)(const void*, Py_ssize_t, int, const void*, Py_ssize_t, void*, Py_ssize_t,
                       Py_ssize_t, Py_ssize_t, Py_ssize_t, int, const void*,
                       const Step*) noexcept nogil
        void (*matmul_narrow)(const void*, Py_ssize_t, const void*, Py_ssize_t, void*, Py_ssize_t,
                              Py_ssize_t, Py_ssize_t, Py_ssize_t, const void*) noexcept nogil
        void (*narrow_marked)(const void*, Py_ssize_t, const uint64_t*, const void*, Py_ssize_t, void*,
                              Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                              const void*) noexcept nogil
        void (*gradient_marked)(const void*, Py_ssize_t, const void*, Py_ssize_t, const uint64_t*, void*,
                                Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, int,
                                const Step*) noexcept nogil
        void (*find_nonzero)(const void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, uint16_t*,
                             Py_ssize_t, uint32_t*, Py_ssize_t) noexcept nogil
        void (*matmul_sparse)(const void*, Py_ssize_t, Py_ssize_t, const uint16_t*, Py_ssize_t,
                              const uint32_t*, const uint32_t*, const void*, Py_ssize_t, void*,
                              Py_ssize_t, Py_ssize_t, Py_ssize_t, int, const void*,
                              const Step*) noexcept nogil
        void (*matmul_scatter)(const void*, Py_ssize_t, const uint16_t*, Py_ssize_t,
                               const uint32_t*, const uint32_t*, const void*, Py_ssize_t, void*,
                               Py_ssize_t, Py_ssize_t, Py_ssize_t, double) noexcept nogil
        void (*transpose)(const void*, Py_ssize_t, void*, Py_ssize_t, Py_ssize_t,
                          Py_ssize_t) noexcept nogil
        void (*column_sum)(const void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, void*,
                           int) noexcept nogil
        void (*gather)(int, const char*, Py_ssize_t, Py_ssize_t, const uint32_t*, Py_ssize_t,
                       Py_ssize_t, void*, Py_ssize_t, const uint32_t*, Py_ssize_t,
                       uint64_t*) noexcept nogil
        void (*activate)(int, void*, void*, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*times_slope)(int, void*, const void*, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*multiply)(void*, const void*, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*dropout)(void*, void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const Dropout*,
                        Py_ssize_t) noexcept nogil
        void (*loss)(int, int, void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const Targets*, int,
                     double, double*, double*) noexcept nogil
        void (*copy_far)(const void*, Py_ssize_t, void*, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*square_sum)(const void*, Py_ssize_t, Py_ssize_t, Py_ssize_t, double*) noexcept nogil
        void (*update)(int, const Step*, void*, const void*, void*, void*,
                       Py_ssize_t) noexcept nogil
        void (*philox)(uint64_t, uint32_t, uint32_t, uint32_t, Py_ssize_t,
                       uint32_t*) noexcept nogil
        double (*multiply_add)(Py_ssize_t) noexcept nogil

    cdef struct Bf16Kernels:
        double gain
        void (*matmul)(const void*, Py_ssize_t, int, const void*, Py_ssize_t, void*, Py_ssize_t,
                       Py_ssize_t, Py_ssize_t, Py_ssize_t, int, const void*,
                       const Step*) noexcept nogil
        void (*round_rows)(const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, void*, Py_ssize_t,
                           void*, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*round_transpose)(const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, void*,
                                Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*round_values)(const float*, float*, Py_ssize_t) noexcept nogil

    int isa_count()
    const char* isa_name(int)
    bint isa_usable(int)
    const Kernels* kernels(int, int)
    const Bf16Kernels* bf16_kernels(int)


cdef extern from "team.h" namespace "pynn" nogil:
    cdef cppclass Team:
        @staticmethod
        Team* acquire(int) except +
        @staticmethod
        void release(Team*)
        int size()
        void run(void (*)(void*, int) noexcept nogil, void*)
        void barrier(int)
    int usable_processors()
    double seconds()


# --- The instruction set --------------------------------------------------------------------------

cdef list _isas = [isa_name(i).decode() for i in range(isa_count())]
cdef atomic[int] _isa


def use_isa(name):
    """Use the instruction set ``name`` from now on, or the highest for None; return the last one."""
    usable = [isa for i, isa in enumerate(_isas) if isa_usable(i)]
    if name is None:
        name = usable[len(usable) - 1]
    if name not in usable:
        raise ValueError(f"PYNN_ISA: found {name!r}, expected one of {', '.join(usable)}")
    return _isas[_isa.exchange(_isas.index(name))]


use_isa((os.environ.get("PYNN_ISA") or "").lower() or None)


def info():
    """Return the instruction set in use, those compiled in and usable, whether ``precision="bf16"`` is
    there with it, and the processors."""
    return {
        "isa": _isas[_isa.load()],
        "isas": [isa for i, isa in enumerate(_isas) if isa_usable(i)],
        "compiled": list(_isas),
        "bf16": bf16_kernels(_isa.load()) != NULL,
        "threads": usable_processors(),
    }


cdef enum:
    NAN_BYTES = 0xFF
    HUGE_BYTES = 0x7F

cdef atomic[int] _poison


def poison(bint on):
    """Fill new scratch memory with NaN and 3.4e38 by turns, to show reads of what was never written.

    Otherwise it holds what it held before.
    """
    return _poison.exchange(NAN_BYTES if on else 0) != 0


# --- What skipping zeros costs here ---------------------------------------------------------------

# Of a value that is not zero, in a product that goes through lists, and of listing a value, both in parts
# of what a vector takes in a dense product. Where a core multiplies two vectors at once a list cannot keep
# up with it, where it multiplies one, it nearly can.
cdef struct Costs:
    double product, listing

cdef enum:
    MOST_ISAS = 16
    TRIAL_ROWS = 32
    TRIAL_SIZE = 64
    TRIALS = 9

cdef Costs _costs[MOST_ISAS][N_DTYPES]


cdef void measure_costs(const Kernels* k, char* room, Costs* costs) noexcept nogil:
    """Time small products, half of whose left operand is zero: some 50 us in all."""
    cdef Py_ssize_t item = k.itemsize, ld = TRIAL_SIZE + k.width, i, j, list_ld = TRIAL_SIZE + 64
    cdef char* a = room
    cdef char* w = a + TRIAL_ROWS * ld * item
    cdef char* z = w + TRIAL_SIZE * ld * item
    cdef uint32_t* starts = <uint32_t*>(z + TRIAL_ROWS * ld * item)
    cdef uint16_t* lists = <uint16_t*>(starts + 2 * TRIAL_ROWS)
    cdef double began, dense = 1, listing = 1, product = 1, lit, vectors = TRIAL_SIZE // k.width
    cdef uint32_t bits = 1
    memset(room, 0, (2 * TRIAL_ROWS + TRIAL_SIZE) * ld * item)
    for i in range(TRIAL_ROWS):
        for j in range(TRIAL_SIZE):
            bits = bits * 1664525 + 1013904223
            if bits >> 31:
                if item == sizeof(float):
                    (<float*>a)[i * ld + j] = 1
                else:
                    (<double*>a)[i * ld + j] = 1
    for i in range(TRIALS):
        began = seconds()
        k.matmul(a, ld, 0, w, ld, z, ld, TRIAL_ROWS, TRIAL_SIZE, TRIAL_SIZE, FINISH_STORE, NULL, NULL)
        dense = min(dense, seconds() - began)
        began = seconds()
        k.find_nonzero(a, ld, TRIAL_ROWS, TRIAL_SIZE, TRIAL_SIZE, lists, list_ld, starts, TRIAL_ROWS)
        listing = min(listing, seconds() - began)
        began = seconds()
        k.matmul_sparse(a, ld, 1, lists, list_ld, starts, starts + TRIAL_ROWS, w, ld, z, ld, TRIAL_ROWS,
                        TRIAL_SIZE, FINISH_STORE, NULL, NULL)
        product = min(product, seconds() - began)
    lit = 0
    for i in range(TRIAL_ROWS):
        lit += starts[TRIAL_ROWS + i]
    dense = max(dense, 1e-9) / (TRIAL_ROWS * TRIAL_SIZE * vectors)
    costs.product = max(1.0, min(4.0, product / (lit * (vectors + 0.5)) / dense))
    costs.listing = max(0.1, min(4.0, listing / (TRIAL_ROWS * TRIAL_SIZE) / dense))


cdef Costs costs_here(int isa, int dtype) except *:
    """What was measured of an instruction set and a dtype, once in a process."""
    cdef Costs* costs = &_costs[isa][dtype]
    cdef Costs found
    cdef const Kernels* k = kernels(isa, dtype)
    cdef char* room
    with cython.critical_section(_isas):
        found = costs[0]
    if found.product == 0:
        room = <char*>malloc((2 * TRIAL_ROWS + TRIAL_SIZE) * (TRIAL_SIZE + k.width) * k.itemsize
                             + TRIAL_ROWS * (2 * sizeof(uint32_t) + (TRIAL_SIZE + 64) * sizeof(uint16_t)))
        if room == NULL:
            raise MemoryError("could not get working memory")
        with nogil:
            measure_costs(k, room, &found)
        free(room)
        # Of several threads that have measured, the first one counts for all.
        with cython.critical_section(_isas):
            if costs.product == 0:
                costs[0] = found
            found = costs[0]
    return found


def skipping_costs(dtype, given=None):
    """Return what skipping a value costs with the instruction set in use, after taking it from ``given``.

    ``given`` is a pair like the one returned, for tests that must not depend on the time of day.
    """
    cdef int isa = _isa.load(), number = F32 if dtype == "float32" else F64
    if given is not None:
        with cython.critical_section(_isas):
            _costs[isa][number].product, _costs[isa][number].listing = given
    costs = costs_here(isa, number)
    return costs.product, costs.listing


# --- The plan: sizes and one arena for all that a run needs ---------------------------------------

cdef enum:
    MAX_LAYERS = 64
    # A batch of more rows goes through in equal chunks that add into the gradient.
    MAX_ROWS = 512
    # Bytes of gradient that a thread computes before it updates those weights: what stays in L2
    # beside the weights and the state of the optimizer.
    BLOCK_BYTES = 512 * 1024
    # Rows of a block whose product takes dz from afar, which is then read so much less often.
    WIDE_ROWS = 256
    ALIGNMENT = 64
    # Inputs, or rows of a batch, that a sparse product goes through at a time: so many rows of a
    # panel of eight vectors fit the nearest cache. Where fewer than FEW_LIT of so many inputs are
    # not zero, there is nothing to keep in it, and a part has more inputs.
    SPARSE_PART = 64
    FEW_LIT = 8
    # Batches of so many rows may do without a transpose of the weights.
    DOT_ROWS = 32
    # Threads share the outputs of layers with so many bytes of weights, if each had but so few rows.
    COLUMN_BYTES = 512 * 1024
    COLUMN_ROWS = 32
    # Rows of a gradient of so few bytes are added to in place, each row of the batch in turn.
    SCATTER_BYTES = 192
    # And those of so few rows to the weights themselves: a weight is then rounded as often as rows
    # of the batch have its input, rather than once.
    SCATTER_ROWS = 16
    # Rows of a gradient whose lists of what is not zero in a part of the batch are made at a time.
    TURNED_ROWS = 128
    TURNED_LD = SPARSE_PART + 32
    # Chunks from one count of the zeros that a layer multiplies to the next, if it does not skip them.
    COUNT_EVERY = 16
    # Lists hold columns as 16 bits, counted from the last multiple of this.
    SPARSE_GROUP = 65536
    # Bytes of x that are gathered at a time at most, if that leaves MIN_ROWS rows.
    GATHER_BYTES = 64 * 1024 * 1024
    # The same of compressed rows that need no gradient: what stays in cache.
    SPREAD_BYTES = 2 * 1024 * 1024
    MIN_ROWS = 16
    # Bytes of x that are fetched before they are needed, beside all else that a thread's cache holds.
    FETCH_BYTES = 128 * 1024
    PACK_BYTES = 4 * 1024 * 1024
    # The second cache of a core, or what it may be taken for.
    CACHE_BYTES = 1024 * 1024
    # Numbers of a thread and a layer in ``found``, in a line of their own.
    FOUND = 8
    # Rows of a copy that are looked at together, while they are in the nearest cache.
    LOOK_ROWS = 8
    # A matrix that is copied past the caches, and the least that its rows are to have.
    FAR_BYTES = 64 * 1024 * 1024
    FAR_ROW = 8 * 1024
    # So few rows are not worth a copy of the weights into whole vectors.
    DIRECT_ROWS = 16
    # Columns of a panel of what is rounded; see kernels.h.
    PANEL = 32
    # Where the rows of x are compressed: beside the sources of kernels.h.
    SOURCE_SPARSE = 100

# What a thread does in a step, for a profile. The gradient's is with SGD's update, if that is fused.
cdef enum:
    READ, FORWARD, LOSS, BACKWARD, GRADIENT, UPDATE, TRANSPOSE, WAIT, N_PHASES

_PHASES = ("read", "forward", "loss", "backward", "gradient", "update", "transpose", "wait")

cdef double FLOPS_A_THREAD = 250e3   # below this a further thread costs more than it does
cdef double SHORT_SWEEP = 100e6      # a prediction of less is over before a second thread is awake
cdef double LONG_CHUNK = 1e9         # such a chunk is not tried on one thread before the first trial is due
cdef double SLICE_SECONDS = 0.05     # how long the loop runs before it asks for signals
cdef double TRIAL_SECONDS = 0.002    # how long it runs to find out how fast it goes
cdef double MARGIN = 1.05            # by which one thread has to be faster than all
cdef double TRIAL_EVERY = 0.8        # seconds of work between two trials of the other number of threads,
cdef double FAR_COST = 1.8           # vectors that a value costs, at least, whose weights no near cache holds
cdef double TRIAL_FLOPS = 1e9        # and one for so many operations of a chunk, if that is more
cdef double UNEVEN = 1.02            # by which the slowest thread may be later than all on average

# Zeros in one operand of a product, and whether it skips them. Only thread 0 writes ``on``, while no
# thread reads it.
cdef struct Zeros:
    bint may, on

# What is not zero in each row of a chunk: its columns, by parts of so many.
cdef struct Lists:
    uint16_t* columns
    Py_ssize_t ld
    uint32_t* starts       # (parts + 1, rows)
    Py_ssize_t part, parts

cdef struct Layer:
    Py_ssize_t n_in, n_out, ld_in, ld, ld_w, block
    int activation
    bint narrow, keep_slope
    bint dots              # dz · wᵀ by dot products with the rows of w, and no transpose
    bint by_columns        # threads share its outputs, not the rows of the batch
    bint direct            # weights stay where they are, in rows of n_out
    Zeros in_h, in_dz      # of what the layers below and this one have switched off
    bint skips             # whether its gradient skips those in h
    double dropout
    char *w
    char *wt
    char *b
    char *dw
    char *db
    char *sw[2]
    char *sb[2]
    char *h
    char *z
    char *slope
    char *dz
    bint bf16              # operands of its products are rounded
    char *h16
    char *h_pairs
    char *w_pairs
    char *w_rounded
    char *dz16
    char *dz_pairs
    char *dz_rounded
    double *squares        # of weights: for each row or, of narrow layers, each vector of columns
    Py_ssize_t n_squares

# What a thread did: rows of a batch, or weights, and the seconds that they took.
cdef enum:
    BATCH_ROWS, WEIGHTS, N_WORKS
    MOST_BALANCED = 128    # larger teams share equally

cdef struct Work:
    double amount, seconds
    double in_doubt        # whether what it copied may not be finite
    double apart           # two of them fill a line

cdef struct Trials:
    double pace[2]         # chunks a second, by all and by one
    int made               # of the three that a choice takes
    double worked          # seconds, in all that share these
    double due             # at how many to try both again
    int team               # how many share a chunk, and where the share of each begins, of 1
    double shares[N_WORKS][MOST_BALANCED + 1]

cdef struct Plan:
    const Kernels* k
    const Bf16Kernels* k16  # null: precision "full"
    Team* team
    int n_layers, loss, output, threads, slots, rule
    bint gradients, training
    bint direct            # whether wide layers may be direct
    Py_ssize_t rows        # of a chunk, at most
    Py_ssize_t row_unit    # whole units of them for each thread
    Layer layer[MAX_LAYERS]
    # The arena, and what is carved from it beside the layers.
    char* arena
    int32_t* labels
    char* targets
    Py_ssize_t ld_targets
    char* zeros            # as many as the widest layer has inputs
    Py_ssize_t widest
    bint columns           # whether threads share the outputs of some layer
    double* row_loss
    double* row_right
    double* row_weight     # null: all count the same
    double* batch_weight   # their sums, for each batch of an epoch
    char* blocks           # a gradient block for each thread
    size_t block_bytes
    # Where most of x is zero: what is not, and turned round for each thread, the rows that are not, for
    # each column of a block.
    bint sparse, scatter
    uint64_t* marks        # or null: which vectors of each row of x, for a narrow layer, are not zero
    Py_ssize_t mark_words
    size_t h_step          # bytes from one thread's copy of x to the next one's, or 0: one for all
    Lists lit
    int64_t* spread        # compressed rows: which lies in each row of h, or -1
    char* turned
    size_t turned_bytes
    # The same of hidden layers, for one at a time.
    bint counts            # whether some hidden layer may skip zeros
    bint counting          # whether those are counted that it does not skip
    Costs costs
    Lists listed
    uint64_t* found        # (threads, layers, FOUND): values of h and of dz that were not zero
    # The data set.
    const char* x
    Py_ssize_t n, x_row, x_col
    int source
    const int64_t* x_starts   # compressed rows, and their columns, rising
    const int32_t* x_columns
    Py_ssize_t ahead          # rows of the order from one that is read to one that is fetched
    Py_ssize_t most_lit       # values that a row of x may have beside zeros
    const double* sample_weight
    const int32_t* y_labels
    const char* y_values
    uint32_t* order        # null: rows as they stand
    # Settings and position of a run.
    Step settings
    Step step_w
    Step step_b
    double weight_decay, l2
    # The convention of scikit-learn: the factors on dz and on loss that make sums of means, the least
    # probability that counts, and the L2 term of this batch, which is part of its loss.
    bint sums
    double gain, loss_gain, least, penalty
    bint unscaled_epsilon
    uint64_t seed
    uint32_t epoch
    const double* rates
    Py_ssize_t batch_size, first, steps, step, row, updates
    double loss_sum, right_sum, batch_loss, until
    double right_before   # right_sum without the chunks of a batch that is not whole yet
    Py_ssize_t check_every, chunks_done
    bint stop
    bint watch, diverged   # stop before an update whose batch has a loss that is not finite
    # The choice between one thread and all, made by measuring: chunks a second with each.
    bint choosing, tries_late
    double trial_every
    Trials trials
    int team_size
    bint balanced          # whether all share work by what they took for it
    Work* work             # (team_size, N_WORKS): since that was last looked at
    double slice           # seconds until then, at most
    char* out              # forward: (n, n_out), not padded
    char* flat             # pack and unpack
    int moved              # -1 for parameters, or which state of the optimizer
    bint packing
    # A profile: seconds (threads, layers, phases) and when each thread last looked, or null.
    double* spent
    double* looked


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t to) noexcept nogil:
    return (n + to - 1) // to * to


cdef Py_ssize_t padded(const Kernels* k, Py_ssize_t n) noexcept nogil:
    """Whole vectors, and off multiples of 1 KiB, where the rows of a panel would share cache sets."""
    cdef Py_ssize_t ld = round_up(n, k.width)
    if ld * k.itemsize % 1024 == 0:
        ld += k.width
    return ld


cdef char* carve(char* base, size_t* used, size_t size) noexcept nogil:
    cdef size_t at = used[0]
    used[0] += round_up(size, ALIGNMENT)
    if base == NULL:
        return NULL
    return base + at


cdef inline Py_ssize_t panels(Py_ssize_t n) noexcept nogil:
    return (n + PANEL - 1) // PANEL


cdef inline Py_ssize_t panel_size(Py_ssize_t k) noexcept nogil:
    """Bytes of a panel of pairs; those of k are rounded up."""
    return (k + 1) // 2 * PANEL * 4


cdef void carve_lists(Plan* p, Lists* lists, Py_ssize_t values, Py_ssize_t parts, char* base,
                      size_t* used) noexcept nogil:
    """Room for lists of so many values and parts a row. They are written by whole vectors."""
    lists.ld = round_up(values, 32) + 32
    lists.columns = <uint16_t*>carve(base, used, p.rows * lists.ld * sizeof(uint16_t))
    lists.starts = <uint32_t*>carve(base, used, (parts + 1) * p.rows * sizeof(uint32_t))


cdef size_t lay_out(Plan* p, char* base) noexcept nogil:
    """Carve the arena at ``base``; with NULL, tell its size. One function, so that they agree."""
    cdef size_t used = 0, item = p.k.itemsize, largest = 0
    cdef Py_ssize_t w_size, half = (p.rows + 1) // 2
    cdef Layer* l
    cdef int i, s
    for i in range(p.n_layers):
        l = &p.layer[i]
        w_size = (l.n_out * l.ld_in if l.narrow else l.n_in * l.ld) * item
        if not l.direct:
            l.w = carve(base, &used, w_size)
        l.b = carve(base, &used, l.ld * item)
        l.wt = NULL
        if i > 0 and p.gradients and l.bf16:
            l.wt = carve(base, &used, panels(l.n_in) * panel_size(l.n_out))
        elif i > 0 and p.gradients and not l.narrow and not l.dots:
            l.wt = carve(base, &used, l.n_out * l.ld_in * item)
        for s in range(p.slots):
            l.sw[s] = carve(base, &used, w_size)
            l.sb[s] = carve(base, &used, l.ld * item)
        l.dw = NULL
        l.db = NULL
        if p.gradients:
            l.db = carve(base, &used, l.ld * item)
            if l.narrow or p.batch_size > p.rows or not p.training:
                l.dw = carve(base, &used, w_size)
            elif <size_t>(l.block * l.ld) * item > largest:
                largest = <size_t>(l.block * l.ld) * item
        if i > 0:
            l.h = p.layer[i - 1].z
        elif p.h_step:
            l.h = carve(base, &used, p.team_size * p.h_step)
        else:
            l.h = carve(base, &used, p.rows * l.ld_in * item)
        l.z = carve(base, &used, p.rows * l.ld * item)
        l.dz = NULL
        l.slope = NULL
        if p.gradients:
            if i < p.n_layers - 1:
                l.dz = carve(base, &used, p.rows * l.ld * item)
            else:
                l.dz = l.z
            if l.keep_slope:
                l.slope = carve(base, &used, p.rows * l.ld * item)
        l.h16 = l.h_pairs = l.w_pairs = l.w_rounded = NULL
        l.dz16 = l.dz_pairs = l.dz_rounded = NULL
        if l.bf16 and i == 0 and p.sparse:
            l.w_rounded = carve(base, &used, w_size)
            if p.gradients:
                l.dz_rounded = carve(base, &used, p.rows * l.ld * item)
        elif l.bf16:
            l.h16 = carve(base, &used, p.rows * l.ld_in * 2)
            l.w_pairs = carve(base, &used, panels(l.n_out) * panel_size(l.n_in))
            if p.gradients:
                l.h_pairs = carve(base, &used, half * l.ld_in * 4)
                l.dz_pairs = carve(base, &used, panels(l.n_out) * panel_size(p.rows))
                if i > 0:
                    l.dz16 = carve(base, &used, p.rows * l.ld * 2)
        l.squares = NULL
        if p.training and p.sums and p.l2 > 0:
            l.n_squares = l.ld_in // p.k.width if l.narrow else l.n_in
            l.squares = <double*>carve(base, &used, l.n_squares * sizeof(double))
    p.zeros = carve(base, &used, p.widest * item)
    p.labels = <int32_t*>carve(base, &used, p.rows * sizeof(int32_t))
    p.targets = NULL
    if p.y_values != NULL:
        p.targets = carve(base, &used, p.rows * p.ld_targets * item)
    p.row_loss = <double*>carve(base, &used, p.rows * sizeof(double))
    p.row_right = <double*>carve(base, &used, p.rows * sizeof(double))
    p.row_weight = NULL
    p.batch_weight = NULL
    if p.sample_weight != NULL:
        p.row_weight = <double*>carve(base, &used, p.rows * sizeof(double))
        p.batch_weight = <double*>carve(
            base, &used, (p.n + p.batch_size - 1) // p.batch_size * sizeof(double))
    p.block_bytes = round_up(largest, ALIGNMENT)
    p.blocks = carve(base, &used, p.threads * p.block_bytes)
    p.turned = NULL
    p.spread = NULL
    if p.source == SOURCE_SPARSE:
        p.spread = <int64_t*>carve(base, &used, p.rows * sizeof(int64_t))
    p.turned_bytes = 0
    if p.sparse:
        l = &p.layer[0]
        p.lit.parts = (l.n_in + p.lit.part - 1) // p.lit.part
        carve_lists(p, &p.lit, p.most_lit, p.lit.parts, base, &used)
        p.turned_bytes = round_up(
            2 * p.rows * sizeof(uint32_t) if p.scatter
            else l.block * (SPARSE_PART * sizeof(uint16_t) + 2 * sizeof(uint32_t)), ALIGNMENT)
    if p.mark_words:
        p.marks = <uint64_t*>carve(base, &used, p.rows * p.mark_words * sizeof(uint64_t))
    p.found = NULL
    if p.counts:
        carve_lists(p, &p.listed, p.widest, p.widest // SPARSE_PART + 1, base, &used)
        p.found = <uint64_t*>carve(base, &used, p.threads * p.n_layers * FOUND * sizeof(uint64_t))
        p.turned_bytes = max(p.turned_bytes, lay_out_turned(p, NULL, NULL))
    if p.gradients and p.turned_bytes:
        p.turned = carve(base, &used, p.threads * p.turned_bytes)
    p.work = <Work*>carve(base, &used, p.team_size * N_WORKS * sizeof(Work))
    p.order = NULL
    if p.training:
        p.order = <uint32_t*>carve(base, &used, round_up(p.n, 64) * sizeof(uint32_t))
    return used


# Rows of a gradient: the columns of h that they come from, each of a part of the batch, and which of
# those values are not zero.
cdef struct Turned:
    char* columns          # (TURNED_ROWS, SPARSE_PART)
    uint16_t* lists
    uint32_t* starts       # (2, TURNED_ROWS)


cdef size_t lay_out_turned(Plan* p, char* base, Turned* turned) noexcept nogil:
    cdef size_t used = 0
    cdef Turned room
    room.columns = carve(base, &used, TURNED_ROWS * SPARSE_PART * p.k.itemsize)
    room.lists = <uint16_t*>carve(base, &used, TURNED_ROWS * TURNED_LD * sizeof(uint16_t))
    room.starts = <uint32_t*>carve(base, &used, 2 * TURNED_ROWS * sizeof(uint32_t))
    if base != NULL:
        turned[0] = room
    return used


cdef Py_ssize_t common_multiple(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    cdef Py_ssize_t m = a
    while m % b:
        m += a
    return m


cdef Py_ssize_t block_rows(const Kernels* k, Py_ssize_t ld, Py_ssize_t size) noexcept nogil:
    """Rows of weights in a block: whole vectors for the transpose and, if they fit, whole tiles."""
    cdef Py_ssize_t fit = size // (ld * k.itemsize)
    cdef Py_ssize_t tiles = common_multiple(k.rows, k.width)
    if fit >= tiles:
        return fit // tiles * tiles
    return max(fit // k.width, 2) * k.width


cdef double density(Plan* p, Py_ssize_t together) noexcept nogil:
    """Share of x that is not zero, by so many columns together, from rows spread over the data set."""
    cdef Py_ssize_t samples = min(p.n, 64), i, j, left, count = 0, total = 0, n_in = p.layer[0].n_in
    cdef Py_ssize_t apart
    cdef const char* value
    cdef bint lit = False
    if p.n == 0:
        return 0
    if p.source == SOURCE_SPARSE:
        return (p.x_starts[p.n] - p.x_starts[0]) / (<double>p.n * n_in)
    # Divided once: tens of thousands of divisions would be most of a short fit.
    apart = p.n // samples * p.x_row
    for i in range(samples):
        value = p.x + i * apart
        left = together
        for j in range(n_in):
            if p.source == SOURCE_UINT8:
                lit = lit or (<const uint8_t*>value)[0] != 0
            elif p.source == SOURCE_FLOAT32:
                lit = lit or (<const float*>value)[0] != 0
            else:
                lit = lit or (<const double*>value)[0] != 0
            value += p.x_col
            left -= 1
            if left == 0 or j == n_in - 1:
                count += lit
                total += 1
                lit = False
                left = together
    return count / <double>total


cdef bint narrow_pays(Plan* p, Layer* l, Py_ssize_t batch) noexcept nogil:
    """Whether a layer of fewer outputs than a vector has lanes does better by dot products along k.

    In vector instructions for a row, forward and gradient: these leave no lane idle, but to add up the
    lanes of one takes about eight; else about two for each input, twice, since a tile one vector wide
    waits for its broadcasts, and, if dz · wᵀ is needed, for each of so many rows a share of the
    transpose, six for each input. Measured on a Zen 4, 8 to 100 inputs. Of predictions the shape alone
    decides: their bits do not depend on the rows beside them.
    """
    cdef double vectors = (l.n_in + p.k.width - 1) // p.k.width, wide = 4 * l.n_in
    if batch > 0:
        wide += 6.0 * l.n_in / batch
    return l.n_out < p.k.width and l.n_out * (2 * vectors + 8) < wide


cdef bint dots_pay(Plan* p, Layer* l) noexcept nogil:
    """Whether dz · wᵀ does better without a transpose of w, which each update makes anew.

    In vector instructions for a row of w: adding up the lanes of a dot product takes about eight,
    once for each row of the batch; the transpose about five for each vector of the row.
    """
    if l.narrow or l.bf16 or p.rows > DOT_ROWS:
        return False
    return p.rows * 8 < l.n_out // p.k.width * 5


cdef bint columns_pay(Plan* p, Layer* l) noexcept nogil:
    """Whether threads had better share the outputs of a layer than the rows of a batch.

    Weights that no cache of one core holds are then read by one thread each, not by all; worth two
    more barriers where the few rows are soon done.
    """
    if l.narrow or l.bf16 or p.team_size == 1 or p.rows > COLUMN_ROWS * p.team_size:
        return False
    return l.n_in * l.n_out * p.k.itemsize >= COLUMN_BYTES


cdef Py_ssize_t part_of(Plan* p, Py_ssize_t n_out) noexcept nogil:
    """Inputs that a sparse product goes through at a time: as much of a narrow layer fits the cache as
    of a panel of a wide one."""
    cdef Py_ssize_t vectors = (n_out + p.k.width - 1) // p.k.width, part = SPARSE_PART
    while part * vectors < 8 * SPARSE_PART:
        part *= 2
    return part


cdef bint sparse_pays(Plan* p) noexcept nogil:
    """Whether the first layer does better without the zeros of x.

    In vector instructions for each input and row: dense takes one for each vector of outputs, or the
    part of one that a narrow layer fills; sparse takes half as many again for each input that is not
    zero, to find the row and the factor too, and half of one to find out which are. Measured on a
    Zen 4, 10 to 256 outputs wide and 5 to 60 % dense.
    """
    cdef Layer* l = &p.layer[0]
    cdef double vectors = (l.n_out + p.k.width - 1) // p.k.width, share = density(p, 1)
    cdef double dense = <double>l.n_out / p.k.width if l.narrow else vectors
    p.lit.part = part_of(p, l.n_out)
    if p.source == SOURCE_SPARSE:
        while p.lit.part < SPARSE_GROUP and p.lit.part * share < <double>FEW_LIT:
            p.lit.part *= 2
        return True
    if l.n_in >= SPARSE_GROUP:
        return False
    # Rounded products skip zeros only in training: their sums have other bits than dense ones, and a
    # prediction must not depend on the rows beside it.
    if l.bf16 and not p.gradients:
        return False
    # A tile of one or two rows waits for its few accumulators; a sparse product has eight.
    if p.direct and p.n <= 2:
        return True
    if p.n < 16:
        return False
    return share * 1.5 * (vectors + 0.5) + 0.5 < (dense / p.k16.gain if l.bf16 else dense)


cdef bint marks_pay(Plan* p) noexcept nogil:
    """Whether a narrow first layer does better without the vectors of x that are zero, in training.

    In vector instructions for each vector of a row: one for each output, and one more to load x where
    no further row shares it; but for the additions not to wait for each other it takes five. A row,
    and a vector of columns, ends with a branch that is guessed wrong.
    """
    cdef Layer* l = &p.layer[0]
    cdef double vectors = (l.n_in + p.k.width - 1) // p.k.width
    if not (p.training and l.narrow) or l.bf16 or p.rows < MIN_ROWS or p.rows > MARKED_ROWS:
        return False
    return density(p, p.k.width) * max(5, l.n_out + 1) + 0.5 + 20 / vectors < l.n_out


cdef inline bint switches_off(Plan* p, Py_ssize_t i) noexcept nogil:
    """Whether layer i has outputs that are 0, with a slope of 0."""
    return i < p.n_layers - 1 and (p.layer[i].activation == RELU or p.layer[i].dropout > 0)


cdef void may_skip(Plan* p, Py_ssize_t i) noexcept nogil:
    """Which products of layer i may skip the zeros of hidden layers. In training alone: a prediction
    is to see a weight that is not finite in whatever chunk its row lies."""
    cdef Layer* l = &p.layer[i]
    cdef bint wide = (p.training and not l.narrow and not l.bf16 and not l.by_columns
                      and p.rows >= MIN_ROWS)
    l.in_h.may = wide and i > 0 and switches_off(p, i - 1) and l.n_in < SPARSE_GROUP
    l.in_dz.may = wide and i > 0 and switches_off(p, i) and not l.dots and l.n_out < SPARSE_GROUP
    l.in_h.on = l.in_dz.on = l.skips = False
    p.counts = p.counts or l.in_h.may or l.in_dz.may


cdef bint skipping_pays(Plan* p, Layer* l, Py_ssize_t n_out, double share) noexcept nogil:
    """Whether a product of a hidden layer, n_out wide, does better without so many zeros.

    As ``sparse_pays`` counts, by costs measured where all weights lie in a near cache. Where none do, memory
    has a say in both products, and what is not zero costs 1.8 vectors on a Zen 4, which near ones do 1.3 of,
    and 2.1 on a Xeon, as near ones do: for 2,048 x 2,048 weights and 30 to 50 % that is not zero.
    """
    cdef double vectors = (n_out + p.k.width - 1) // p.k.width
    cdef double size = l.n_in * l.n_out * p.k.itemsize
    cdef double cost = p.costs.product
    cost += max(0.0, FAR_COST - cost) * min(1.0, size / CACHE_BYTES)
    return share * cost * (vectors + 0.5) + p.costs.listing < 0.95 * vectors


cdef void choose_skips(Plan* p, Py_ssize_t m) noexcept nogil:
    """From what was found in a chunk of m rows, what the next one skips."""
    cdef Py_ssize_t i
    cdef Layer* l
    for i in range(p.n_layers):
        l = &p.layer[i]
        if l.in_h.may and (l.in_h.on or p.counting):
            l.in_h.on = skipping_pays(p, l, l.n_out, share_found(p, i, 0, m * l.n_in))
        if l.in_dz.may and (l.in_dz.on or p.counting):
            l.in_dz.on = skipping_pays(p, l, l.n_in, share_found(p, i, 1, m * l.n_out))
    p.counting = p.chunks_done % COUNT_EVERY == 0


cdef double share_found(Plan* p, Py_ssize_t i, int which, Py_ssize_t values) noexcept nogil:
    cdef uint64_t total = 0
    cdef int thread
    for thread in range(p.threads):
        total += p.found[(thread * p.n_layers + i) * FOUND + which]
    return total / <double>values


# --- Sharing out work -----------------------------------------------------------------------------

cdef inline void share(Py_ssize_t n, Py_ssize_t unit, int thread, int threads,
                       Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
    """The part of n that is this thread's, in whole units."""
    cdef Py_ssize_t units = (n + unit - 1) // unit
    start[0] = min(n, units * thread // threads * unit)
    stop[0] = min(n, units * (thread + 1) // threads * unit)


cdef inline void share_work(Plan* p, int which, Py_ssize_t n, Py_ssize_t unit, int thread,
                            Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
    """The same in the proportions of ``shares``, if all of the team are at work."""
    cdef Py_ssize_t units = (n + unit - 1) // unit
    cdef double* at = &p.trials.shares[which][thread]
    if not p.balanced or p.threads != p.team_size:
        share(n, unit, thread, p.threads, start, stop)
        return
    start[0] = min(n, <Py_ssize_t>(units * at[0] + 0.5) * unit)
    stop[0] = min(n, <Py_ssize_t>(units * at[1] + 0.5) * unit)


cdef void share_equally(Plan* p) noexcept nogil:
    cdef int which, thread
    p.trials.team = p.team_size
    for which in range(N_WORKS):
        for thread in range(p.team_size + 1):
            p.trials.shares[which][thread] = <double>thread / p.team_size


cdef void note_work(Plan* p, int which, int thread, double amount, double began) noexcept nogil:
    cdef Work* work = p.work + thread * N_WORKS + which
    work.amount += amount
    work.seconds += seconds() - began


cdef double weights_of(Plan* p, int thread) noexcept nogil:
    cdef Py_ssize_t start, stop
    cdef double total = 0
    cdef int i
    for i in range(p.n_layers):
        share_work(p, WEIGHTS, p.layer[i].n_in, p.k.width, thread, &start, &stop)
        total += <double>(stop - start) * p.layer[i].n_out
    return total


cdef void balance(Plan* p) noexcept nogil:
    """Change the shares by what the threads took for theirs, so that all are done at the same time.

    Cores differ: in kind, in what else they do, and a virtual one in whom it shares the real one with.
    Half of the way each time, since what was measured may have been a moment's. A thread that had
    nothing to do is tried with more. The bits do not depend on the shares.
    """
    cdef int which, thread, n = p.team_size
    cdef double most, total, pace, place, share
    cdef bint idle
    cdef Work* work
    cdef double* at
    if not p.balanced or p.threads != n:
        return
    for which in range(N_WORKS):
        at = p.trials.shares[which]
        most = total = pace = 0
        idle = False
        for thread in range(n):
            work = p.work + thread * N_WORKS + which
            if work.amount <= 0 or work.seconds <= 0:
                idle = True
                break
            most = max(most, work.seconds)
            total += work.seconds
            pace += work.amount / work.seconds
        if idle or most * n > UNEVEN * total:
            place = 0
            for thread in range(n):
                work = p.work + thread * N_WORKS + which
                share = 1.0 / n if idle else work.amount / work.seconds / pace
                share = 0.5 * (at[thread + 1] - at[thread] + share)
                at[thread] = place
                place += share
    memset(p.work, 0, n * N_WORKS * sizeof(Work))


# --- A profile ------------------------------------------------------------------------------------

cdef inline void tick(Plan* p, int thread, int phase, Py_ssize_t layer) noexcept nogil:
    """What has passed since this thread last looked went into that phase; a negative one counts for
    nothing."""
    cdef double now
    cdef double* looked
    if p.spent == NULL:
        return
    now = seconds()
    looked = p.looked + thread * (ALIGNMENT // <int>sizeof(double))
    if phase >= 0:
        p.spent[(thread * p.n_layers + layer) * N_PHASES + phase] += now - looked[0]
    looked[0] = now


cdef inline void wait(Plan* p, int thread) noexcept nogil:
    p.team.barrier(thread)
    tick(p, thread, WAIT, 0)


# --- Parameters in and out ------------------------------------------------------------------------

cdef void copy_turned(char* to, Py_ssize_t to_row, Py_ssize_t to_col, const char* source,
                      Py_ssize_t row, Py_ssize_t col, Py_ssize_t m, Py_ssize_t n,
                      int item) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(n):
            memcpy(to + i * to_row + j * to_col, source + i * row + j * col, item)


cdef void see_to_finite(Plan* p, const char* w, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n,
                        int thread) noexcept nogil:
    """Take note if rows of padded storage, which have just been copied, may hold what is not finite."""
    cdef double squares[LOOK_ROWS]
    cdef double total = 0
    cdef Py_ssize_t i
    p.k.square_sum(w, ld, m, n, squares)
    for i in range(m):
        total += squares[i]
    # Numbers of over 1e19 have squares that are not finite either.
    if not isfinite(total):
        p.work[thread * N_WORKS].in_doubt = 1


cdef void move_layer(Plan* p, Layer* l, char* w, char* b, char* flat, bint pack,
                     int thread) noexcept nogil:
    """Copy this thread's share of a layer between the flat vector and padded storage."""
    cdef Py_ssize_t i, start, stop, some, item = p.k.itemsize, ld
    cdef char* flat_b = flat + l.n_in * l.n_out * item
    if l.narrow:
        ld = l.ld_in
        if thread == 0:
            if pack:
                copy_turned(w, item, ld * item, flat, l.n_out * item, item, l.n_in, l.n_out, item)
                for i in range(l.n_out):
                    memset(w + (i * ld + l.n_in) * item, 0, (ld - l.n_in) * item)
            else:
                copy_turned(flat, l.n_out * item, item, w, item, ld * item, l.n_in, l.n_out, item)
            i = 0
            while i < l.n_out:
                some = min(l.n_out - i, <Py_ssize_t>LOOK_ROWS)
                see_to_finite(p, w + i * ld * item, ld, some, l.n_in, thread)
                i += some
    else:
        ld = l.ld
        share(l.n_in, p.k.width, thread, p.threads, &start, &stop)
        if (l.n_in * l.n_out * item >= FAR_BYTES and l.n_out * item >= FAR_ROW
                and l.n_out % p.k.width == 0):
            while start < stop:
                some = min(stop - start, <Py_ssize_t>LOOK_ROWS)
                if pack:
                    see_to_finite(p, flat + start * l.n_out * item, l.n_out, some, l.n_out, thread)
                else:
                    see_to_finite(p, w + start * ld * item, ld, some, l.n_out, thread)
                if pack:
                    p.k.copy_far(flat + start * l.n_out * item, l.n_out, w + start * ld * item, ld, some, l.n_out)
                    for i in range(start, start + some):
                        memset(w + (i * ld + l.n_out) * item, 0, (ld - l.n_out) * item)
                else:
                    p.k.copy_far(w + start * ld * item, ld, flat + start * l.n_out * item, l.n_out, some, l.n_out)
                start += some
        for i in range(start, stop):
            if pack:
                memcpy(w + i * ld * item, flat + i * l.n_out * item, l.n_out * item)
                memset(w + (i * ld + l.n_out) * item, 0, (ld - l.n_out) * item)
            else:
                memcpy(flat + i * l.n_out * item, w + i * ld * item, l.n_out * item)
            if (i + 1 - start) % LOOK_ROWS == 0 or i + 1 == stop:
                some = (i - start) % LOOK_ROWS + 1
                see_to_finite(p, w + (i + 1 - some) * ld * item, ld, some, l.n_out, thread)
    if thread == 0:
        if pack:
            memcpy(b, flat_b, l.n_out * item)
            memset(b + l.n_out * item, 0, (l.ld - l.n_out) * item)
        else:
            memcpy(flat_b, b, l.n_out * item)
        see_to_finite(p, b, l.ld, 1, l.n_out, 0)


cdef void point_at_layer(Plan* p, Layer* l, char* flat) noexcept nogil:
    """Use a wide layer's weights where they are. Reading whole vectors past the end of a row gives
    values of the next or, after the last, of the biases, for columns that nobody looks at."""
    cdef Py_ssize_t item = p.k.itemsize
    l.w = flat
    memcpy(l.b, flat + l.n_in * l.n_out * item, l.n_out * item)
    memset(l.b + l.n_out * item, 0, (l.ld - l.n_out) * item)


cdef void refresh_transpose(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """What else is kept of rows start … stop of w: its transpose, or what is rounded."""
    cdef Py_ssize_t item = p.k.itemsize
    if l.bf16:
        round_weights(p, l, <const float*>l.w, start, stop)
    elif l.wt != NULL:
        p.k.transpose(l.w + start * l.ld * item, l.ld, l.wt + start * item, l.ld_in, stop - start,
                      l.n_out)


cdef void round_weights(Plan* p, Layer* l, const float* w, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil:
    """Round rows start … stop of weights that lie at ``w``, in rows of ``ld_w``."""
    cdef Py_ssize_t i
    w += start * l.ld_w
    if l.w_rounded != NULL:
        for i in range(stop - start):
            p.k16.round_values(w + i * l.ld_w, <float*>l.w_rounded + (start + i) * l.ld,
                               round_up(l.n_out, p.k.width))
    if l.w_pairs != NULL:
        p.k16.round_rows(w, l.ld_w, stop - start, l.n_out, NULL, 0,
                         l.w_pairs + start // 2 * PANEL * 4, PANEL, panel_size(l.n_in) // 4)
    if l.wt != NULL:
        p.k16.round_transpose(w, l.ld_w, stop - start, l.n_out, l.wt, panel_size(l.n_out) // 4, start)


cdef void pack_parameters(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef char* flat = p.flat
    cdef Py_ssize_t start, stop
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        if l.direct:
            if thread == 0:
                point_at_layer(p, l, flat)
        else:
            move_layer(p, l, l.w, l.b, flat, True, thread)
        share(l.n_in, p.k.width, thread, p.threads, &start, &stop)
        if start < stop:
            if l.direct and l.bf16:
                round_weights(p, l, <const float*>flat, start, stop)
            else:
                refresh_transpose(p, l, start, stop)
        flat += (l.n_in + 1) * l.n_out * p.k.itemsize


cdef void move_share(void* context, int thread) noexcept nogil:
    """Copy this thread's share of parameters (slot -1) or of a state of the optimizer."""
    cdef Plan* p = <Plan*>context
    cdef char* flat = p.flat
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        if p.moved < 0:
            move_layer(p, l, l.w, l.b, flat, p.packing, thread)
        else:
            move_layer(p, l, l.sw[p.moved], l.sb[p.moved], flat, p.packing, thread)
        flat += (l.n_in + 1) * l.n_out * p.k.itemsize


cdef void look_at_share(void* context, int thread) noexcept nogil:
    """Take note if this thread's share of the parameters and their state may not be finite."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l
    cdef Py_ssize_t start, stop, some, n, ld
    cdef char* w
    cdef int i, s
    for i in range(p.n_layers):
        l = &p.layer[i]
        n, ld = (l.n_in, l.ld_in) if l.narrow else (l.n_out, l.ld)
        for s in range(-1, p.slots):
            share(l.n_out if l.narrow else l.n_in, p.k.width, thread, p.threads, &start, &stop)
            w = l.w if s < 0 else l.sw[s]
            while start < stop:
                some = min(stop - start, <Py_ssize_t>LOOK_ROWS)
                see_to_finite(p, w + start * ld * p.k.itemsize, ld, some, n, thread)
                start += some
            if thread == 0:
                see_to_finite(p, l.b if s < 0 else l.sb[s], l.ld, 1, l.n_out, 0)


cdef int run_on_team(Plan* p, void (*task)(void*, int) noexcept nogil,
                     Py_ssize_t size) except -1 nogil:
    """Run a copy of so many bytes on the team, or alone where it is over before one is awake."""
    cdef int threads = p.threads
    p.threads = p.team_size if size >= PACK_BYTES else 1
    p.team = Team.acquire(p.threads)
    p.threads = p.team.size()
    p.team.run(task, p)
    Team.release(p.team)
    p.threads = threads
    return 0


cdef void unpack_gradient(Plan* p, char* flat) noexcept nogil:
    cdef Layer* l
    cdef int i
    p.threads = 1
    for i in range(p.n_layers):
        l = &p.layer[i]
        move_layer(p, l, l.dw, l.db, flat, False, 0)
        flat += (l.n_in + 1) * l.n_out * p.k.itemsize


# --- Rounding to bfloat16 -------------------------------------------------------------------------

cdef inline float rounded(float value) noexcept nogil:
    """One value as ``round_values`` rounds it."""
    cdef uint32_t bits
    memcpy(&bits, &value, sizeof(bits))
    if value != value:
        return value
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    memcpy(&value, &bits, sizeof(bits))
    return value


cdef void round_h(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """Rows start … start + m of what goes into a layer. Pairs of rows: start is even."""
    cdef float* h = <float*>l.h + start * l.ld_in
    if l.h16 != NULL:
        p.k16.round_rows(h, l.ld_in, m, l.n_in, l.h16 + start * l.ld_in * 2, l.ld_in // 2,
                         NULL if l.h_pairs == NULL else l.h_pairs + start // 2 * l.ld_in * 4,
                         l.ld_in, PANEL)
    elif l.bf16 and p.source != SOURCE_SPARSE:
        p.k16.round_values(h, h, m * l.ld_in)


cdef void round_dz(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    cdef float* dz = <float*>l.dz + start * l.ld
    if l.dz_rounded != NULL:
        p.k16.round_values(dz, <float*>l.dz_rounded + start * l.ld, m * l.ld)
    elif l.bf16:
        p.k16.round_rows(dz, l.ld, m, l.n_out,
                         NULL if l.dz16 == NULL else l.dz16 + start * l.ld * 2, l.ld // 2,
                         l.dz_pairs + start // 2 * PANEL * 4, PANEL, panel_size(p.rows) // 4)


# --- The passes -----------------------------------------------------------------------------------

cdef void spread_row(Plan* p, Py_ssize_t row, Py_ssize_t at) noexcept nogil:
    """Put a compressed row of x in place of the one that lies in row ``at`` of h."""
    cdef Py_ssize_t i, item = p.k.itemsize
    cdef int64_t before = p.spread[at]
    cdef char* h = p.layer[0].h + at * p.layer[0].ld_in * item
    cdef double value
    if before < 0:
        memset(h, 0, p.layer[0].ld_in * item)
    else:
        for i in range(p.x_starts[before], p.x_starts[before + 1]):
            memset(h + p.x_columns[i] * item, 0, item)
    p.spread[at] = row
    for i in range(p.x_starts[row], p.x_starts[row + 1]):
        if p.x_col == sizeof(float):
            value = (<const float*>p.x)[i]
        else:
            value = (<const double*>p.x)[i]
        if p.layer[0].bf16:
            (<float*>h)[p.x_columns[i]] = rounded(<float>value)
        elif item == sizeof(float):
            (<float*>h)[p.x_columns[i]] = <float>value
        else:
            (<double*>h)[p.x_columns[i]] = value


cdef void list_row(Plan* p, Py_ssize_t at) noexcept nogil:
    """The columns of the compressed row in row ``at`` of h, as ``find_nonzero`` lists them."""
    cdef Py_ssize_t i = p.x_starts[p.spread[at]], end = p.x_starts[p.spread[at] + 1], q, count = 0
    cdef uint16_t* lit = p.lit.columns + at * p.lit.ld
    for q in range(p.lit.parts):
        p.lit.starts[q * p.rows + at] = <uint32_t>count
        while i < end and p.x_columns[i] < (q + 1) * p.lit.part:
            lit[count] = <uint16_t>(p.x_columns[i] & (SPARSE_GROUP - 1))
            count += 1
            i += 1
    p.lit.starts[p.lit.parts * p.rows + at] = <uint32_t>count


cdef void gather(Plan* p, int source, const char* rows, Py_ssize_t row_stride, Py_ssize_t col_stride,
                 Py_ssize_t at, Py_ssize_t m, Py_ssize_t n, char* out, Py_ssize_t ld,
                 uint64_t* marks) noexcept nogil:
    """Gather m rows of n from place ``at`` of the order on, and fetch those that are next."""
    if p.order == NULL:
        p.k.gather(source, rows + at * row_stride, row_stride, col_stride, NULL, m, n, out, ld, NULL, 0,
                   marks)
    else:
        p.k.gather(source, rows, row_stride, col_stride, p.order + at, m, n, out, ld,
                   p.order + at + p.ahead, p.n - at - p.ahead, marks)


cdef void read_rows(Plan* p, Py_ssize_t row, Py_ssize_t start, Py_ssize_t m, int thread) noexcept nogil:
    """Gather rows start … start + m of the chunk that begins at ``row`` of the order."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = p.k.itemsize, i, at = row + start
    cdef uint64_t* marks = NULL
    if p.marks != NULL:
        marks = p.marks + start * p.mark_words
    if p.source == SOURCE_SPARSE:
        for i in range(m):
            spread_row(p, <Py_ssize_t>p.order[at + i] if p.order != NULL else at + i, start + i)
    else:
        gather(p, p.source, p.x, p.x_row, p.x_col, at, m, l.n_in,
               l.h + thread * p.h_step + start * l.ld_in * item, l.ld_in, marks)
    round_h(p, l, start, m)
    if p.row_weight != NULL:
        for i in range(m):
            p.row_weight[start + i] = p.sample_weight[
                <Py_ssize_t>p.order[at + i] if p.order != NULL else at + i]
    if p.y_labels != NULL:
        for i in range(m):
            p.labels[start + i] = p.y_labels[
                <Py_ssize_t>p.order[at + i] if p.order != NULL else at + i]
    elif p.y_values != NULL:
        l = &p.layer[p.n_layers - 1]
        gather(p, SOURCE_FLOAT32 if item == 4 else SOURCE_FLOAT64, p.y_values, l.n_out * item, item, at, m,
               l.n_out, p.targets + start * p.ld_targets * item, p.ld_targets, NULL)


cdef void read_columns(Plan* p, Py_ssize_t row, Py_ssize_t start, Py_ssize_t m, int thread) noexcept nogil:
    """Gather of other threads' rows start … start + m what this one's share of the gradient needs."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t first, end
    share_work(p, WEIGHTS, l.n_in, p.k.width, thread, &first, &end)
    if m > 0 and first < end:
        gather(p, p.source, p.x + first * p.x_col, p.x_row, p.x_col, row + start, m, end - first,
               l.h + thread * p.h_step + (start * l.ld_in + first) * p.k.itemsize, l.ld_in, NULL)


cdef void forward(Plan* p, Py_ssize_t start, Py_ssize_t m, Py_ssize_t all_rows, Py_ssize_t row,
                  int thread) noexcept nogil:
    """Read rows start … start + m of the chunk of all_rows that begins at ``row``; on to the last z."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize
    cdef Layer* l
    cdef Lists lists = p.listed
    cdef Dropout drop
    cdef char *z
    cdef char *slope
    cdef Py_ssize_t first, end
    cdef int i
    read_rows(p, row, start, m, thread)
    tick(p, thread, READ, 0)
    for i in range(p.n_layers):
        l = &p.layer[i]
        z = l.z + start * l.ld * item
        if l.by_columns:
            wait(p, thread)
            share(l.n_out, k.width, thread, p.threads, &first, &end)
            k.matmul(l.h, l.ld_in, 0, l.w + first * item, l.ld_w, l.z + first * item, l.ld, all_rows,
                     end - first, l.n_in, FINISH_BIAS, l.b + first * item, NULL)
            tick(p, thread, FORWARD, i)
            wait(p, thread)
        elif i == 0 and p.sparse:
            forward_sparse(p, start, m)
        elif l.bf16:
            p.k16.matmul(l.h16 + start * l.ld_in * 2, l.ld_in // 2, 0, l.w_pairs,
                         panel_size(l.n_in) // 4, z, l.ld, m, l.n_out, (l.n_in + 1) // 2,
                         FINISH_BIAS, l.b, NULL)
        elif i == 0 and p.marks != NULL:
            k.narrow_marked(l.h + thread * p.h_step + start * l.ld_in * item, l.ld_in,
                            p.marks + start * p.mark_words, l.w, l.ld_in, z, l.ld, m, l.n_out, l.n_in,
                            l.b)
        elif l.narrow:
            k.matmul_narrow(l.h + start * l.ld_in * item, l.ld_in, l.w, l.ld_in, z, l.ld, m,
                            l.n_out, l.n_in, l.b)
        elif l.in_h.on:
            list_hidden(p, &lists, i, 0, start, m, thread)
            times_listed(p, &lists, l.h, l.ld_in, start, m, l.w, l.ld_w, l.z, l.ld, l.n_out, l.b)
        else:
            if l.in_h.may and p.counting:
                list_hidden(p, &lists, i, 0, start, m, thread)
            k.matmul(l.h + start * l.ld_in * item, l.ld_in, 0, l.w, l.ld_w, z, l.ld, m, l.n_out,
                     l.n_in, FINISH_BIAS, l.b, NULL)
        if i < p.n_layers - 1:
            slope = NULL
            if l.slope != NULL:
                slope = l.slope + start * l.ld * item
            k.activate(l.activation, z, slope, l.ld, m, l.n_out)
            if p.training and l.dropout > 0:
                drop.seed = p.seed
                drop.epoch = p.epoch
                drop.stream = 1 + i
                drop.first_row = <uint32_t>(row + start)
                drop.threshold = <uint32_t>min(round_half_even(l.dropout * 4294967296.0),
                                               4294967295.0)
                drop.scale = 1.0 / (1.0 - l.dropout)
                k.dropout(z, slope, l.ld, m, l.n_out, &drop, 0)
            round_h(p, &p.layer[i + 1], start, m)
        tick(p, thread, FORWARD, i)


cdef Py_ssize_t panel(const Kernels* k, Py_ssize_t n_out) noexcept nogil:
    """Columns of a sparse product that are computed at a time: few equal parts of whole vectors."""
    cdef Py_ssize_t vectors = (n_out + k.width - 1) // k.width
    cdef Py_ssize_t panels = (vectors + k.sparse_cols - 1) // k.sparse_cols
    return (vectors + panels - 1) // panels * k.width


cdef void list_rows(Plan* p, const Lists* lists, const char* a, Py_ssize_t ld, Py_ssize_t n,
                    Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """List what is not zero in rows start … start + m of a (rows, n)."""
    p.k.find_nonzero(a + start * ld * p.k.itemsize, ld, m, n, lists.part,
                     lists.columns + start * lists.ld, lists.ld, lists.starts + start, p.rows)


cdef void forward_sparse(Plan* p, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """The first layer's z from the inputs that are not zero."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t i
    if p.source == SOURCE_SPARSE:
        for i in range(start, start + m):
            list_row(p, i)
    else:
        list_rows(p, &p.lit, l.h, l.ld_in, l.n_in, start, m)
    if l.w_rounded == NULL:
        times_listed(p, &p.lit, l.h, l.ld_in, start, m, l.w, l.ld_w, l.z, l.ld, l.n_out, l.b)
    else:
        times_listed(p, &p.lit, l.h, l.ld_in, start, m, l.w_rounded, l.ld, l.z, l.ld, l.n_out, l.b)


cdef void list_hidden(Plan* p, Lists* lists, Py_ssize_t i, int which, Py_ssize_t start, Py_ssize_t m,
                      int thread) noexcept nogil:
    """List what layer i has in h (0) or dz (1) that is not zero, and count it. ``lists`` are the caller's
    own: other threads may be in other layers."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t r
    cdef uint64_t total = 0
    cdef Py_ssize_t n = l.n_out if which else l.n_in
    lists.part = part_of(p, l.n_in if which else l.n_out)
    lists.parts = (n + lists.part - 1) // lists.part
    if which:
        list_rows(p, lists, l.dz, l.ld, l.n_out, start, m)
    else:
        list_rows(p, lists, l.h, l.ld_in, l.n_in, start, m)
    for r in range(start, start + m):
        total += lists.starts[lists.parts * p.rows + r]
    p.found[(thread * p.n_layers + i) * FOUND + which] = total


cdef void times_listed(Plan* p, const Lists* lists, const char* a, Py_ssize_t lda, Py_ssize_t start,
                       Py_ssize_t m, const char* w, Py_ssize_t ld_w, char* z, Py_ssize_t ld,
                       Py_ssize_t n_out, const char* b) noexcept nogil:
    """z = b + a · w, or without b, for rows start … start + m of a, which are listed: a part of the
    inputs at a time."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, q, base, j = 0, columns = panel(k, n_out)
    cdef const uint32_t* starts = lists.starts + start
    cdef int finish = FINISH_STORE
    if b != NULL:
        finish = FINISH_BIAS
    if m == 0:
        return
    # As many panels as half of the second cache holds of z: a is read from afar so much less often.
    columns *= max(<Py_ssize_t>1, CACHE_BYTES // 2 // (m * columns * item))
    while j < n_out:
        for q in range(lists.parts):
            base = q * lists.part & ~(<Py_ssize_t>SPARSE_GROUP - 1)
            k.matmul_sparse(a + (start * lda + base) * item, lda, 1, lists.columns + start * lists.ld,
                            lists.ld, starts + q * p.rows, starts + (q + 1) * p.rows,
                            w + (base * ld_w + j) * item, ld_w, z + (start * ld + j) * item, ld, m,
                            min(columns, n_out - j), FINISH_ADD if q else finish, b, NULL)
        if b != NULL:
            b += columns * item
        j += columns


cdef void turn_lists(Plan* p, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t start, Py_ssize_t count,
                     uint16_t* lists, uint32_t* counts) noexcept nogil:
    """For each of ``count`` inputs from ``start`` on, which of ``rows`` rows from ``row`` on have it."""
    cdef Py_ssize_t i, base, low, high, first, after
    cdef uint16_t* lit
    cdef uint16_t* end
    cdef uint32_t column
    memset(counts, 0, count * sizeof(uint32_t))
    base = start & ~(<Py_ssize_t>SPARSE_GROUP - 1)
    while base < start + count:
        low = max(start - base, <Py_ssize_t>0)
        high = min(start + count - base, <Py_ssize_t>SPARSE_GROUP)
        first = (base + low) // p.lit.part
        after = min((base + SPARSE_GROUP) // p.lit.part, p.lit.parts)
        for i in range(rows):
            lit = p.lit.columns + (row + i) * p.lit.ld
            end = lit + p.lit.starts[after * p.rows + row + i]
            lit += p.lit.starts[first * p.rows + row + i]
            while lit < end and lit[0] < low:
                lit += 1
            while lit < end and lit[0] < high:
                column = <uint32_t>(base + lit[0] - start)
                lists[column * SPARSE_PART + counts[column]] = <uint16_t>i
                counts[column] += 1
                lit += 1
        base += SPARSE_GROUP


cdef inline int finish_of_part(int finish, Py_ssize_t row, bint last, const Step* step) noexcept nogil:
    """How the product of a part of the batch ends, from how all together do."""
    if last and step.w != 0:
        return FINISH_ADAM if row == 0 and finish == FINISH_STORE else FINISH_ADD_ADAM
    return FINISH_ADD if row else finish


cdef void gradient_sparse(Plan* p, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                          int finish, const Step* step, int thread) noexcept nogil:
    """Rows start … start + count of the first layer's gradient, a part of the batch at a time."""
    if p.scatter:
        scatter_gradient(p, m, start, count, g, finish, thread)
        return
    cdef const Kernels* k = p.k
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = k.itemsize, row, rows, j, columns = panel(k, l.n_out)
    cdef char* dz = l.dz if l.dz_rounded == NULL else l.dz_rounded
    cdef char* mine = p.turned + thread * p.turned_bytes
    cdef uint32_t* counts = <uint32_t*>mine
    cdef uint32_t* zeros = counts + l.block
    cdef uint16_t* lists = <uint16_t*>(zeros + l.block)
    memset(zeros, 0, count * sizeof(uint32_t))
    row = 0
    while row < m:
        rows = min(SPARSE_PART, m - row)
        turn_lists(p, row, rows, start, count, lists, counts)
        j = 0
        while j < l.n_out:
            k.matmul_sparse(l.h + (row * l.ld_in + start) * item, 1, l.ld_in, lists, SPARSE_PART,
                            zeros, counts, dz + (row * l.ld + j) * item, l.ld, g + j * item, l.ld,
                            count, min(columns, l.n_out - j),
                            finish_of_part(finish, row, row + rows == m, step), NULL, step)
            j += columns
        row += rows


cdef void gradient_listed(Plan* p, Layer* l, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                          int finish, const Step* step, int thread) noexcept nogil:
    """Rows start … start + count of a hidden layer's gradient without the zeros of h, a part of the
    batch at a time."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, row = 0, rows, i, at, some, j, columns = panel(k, l.n_out)
    cdef char* h
    cdef Turned turned
    lay_out_turned(p, p.turned + thread * p.turned_bytes, &turned)
    while row < m:
        rows = min(SPARSE_PART, m - row)
        at = 0
        while at < count:
            some = min(TURNED_ROWS, count - at)
            h = l.h + (row * l.ld_in + start + at) * item
            k.transpose(h, l.ld_in, turned.columns, SPARSE_PART, rows, some)
            k.find_nonzero(turned.columns, SPARSE_PART, some, rows, SPARSE_PART, turned.lists,
                           TURNED_LD, turned.starts, TURNED_ROWS)
            j = 0
            while j < l.n_out:
                k.matmul_sparse(turned.columns, SPARSE_PART, 1, turned.lists, TURNED_LD, turned.starts,
                                turned.starts + TURNED_ROWS, l.dz + (row * l.ld + j) * item, l.ld,
                                g + (at * l.ld + j) * item, l.ld, some, min(columns, l.n_out - j),
                                finish_of_part(finish, row, row + rows == m, step), NULL, step)
                j += columns
            at += some
        row += rows


cdef void scatter_gradient(Plan* p, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                           int finish, int thread) noexcept nogil:
    """The same where a row of weights is few vectors: each row of the batch adds to it in turn."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = p.k.itemsize, i, q, base, low, high
    cdef uint32_t* begin = <uint32_t*>(p.turned + thread * p.turned_bytes)
    cdef uint32_t* end = begin + p.rows
    cdef uint32_t stop
    cdef uint16_t* lit
    cdef char* dz = l.dz if l.dz_rounded == NULL else l.dz_rounded
    cdef double scale = -p.step_w.rate if finish == FINISH_SGD else 1
    if finish == FINISH_STORE:
        memset(g, 0, count * l.ld * item)
    cdef Py_ssize_t part = p.lit.part, first = start // part, parts = (start + count + part - 1) // part
    for q in range(first, parts):
        base = q * part & ~(<Py_ssize_t>SPARSE_GROUP - 1)
        low, high = start - base, start + count - base
        for i in range(m):
            lit = p.lit.columns + i * p.lit.ld
            begin[i] = p.lit.starts[q * p.rows + i]
            end[i] = stop = p.lit.starts[(q + 1) * p.rows + i]
            if q * part < start:
                while begin[i] < stop and lit[begin[i]] < low:
                    begin[i] += 1
            if (q + 1) * part > start + count:
                end[i] = begin[i]
                while end[i] < stop and lit[end[i]] < high:
                    end[i] += 1
        p.k.matmul_scatter(l.h + base * item, l.ld_in, p.lit.columns, p.lit.ld, begin, end, dz, l.ld,
                           g + (base - start) * l.ld * item, l.ld, m, l.n_out, scale)


cdef inline double round_half_even(double x) noexcept nogil:
    # Python's round(), which the reference uses; x is below 2**32, so this is exact.
    return (x + 6755399441055744.0) - 6755399441055744.0


cdef void times_transpose(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m, Py_ssize_t first,
                          Py_ssize_t end, char* out, Py_ssize_t ld) noexcept nogil:
    """Columns first … end of dz · wᵀ, for rows start … start + m."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, i
    cdef const char* dz = l.dz + start * l.ld * item
    out += (start * ld + first) * item
    if first >= end:
        return
    if l.dots:
        k.matmul_narrow(dz, l.ld, l.w + first * l.ld * item, l.ld, out, ld, m, end - first, l.n_out,
                        p.zeros)
        if end == l.n_in:
            for i in range(m):
                memset(out + (i * ld + end - first) * item, 0, (ld - end) * item)
    else:
        k.matmul(dz, l.ld, 0, (l.w if l.narrow else l.wt) + first * item, l.ld_in, out, ld, m,
                 end - first, l.n_out, FINISH_STORE, NULL, NULL)


cdef void backward(Plan* p, Py_ssize_t start, Py_ssize_t m, Py_ssize_t all_rows,
                   int thread) noexcept nogil:
    """From the last dz down to the first: dz ← (dz · wᵀ) · f'(z)."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize
    cdef Layer* l
    cdef Lists lists = p.listed
    cdef Layer* below
    cdef char *dz
    cdef Py_ssize_t first, end
    cdef int i
    for i in range(p.n_layers - 1, 0, -1):
        l = &p.layer[i]
        below = &p.layer[i - 1]
        dz = below.dz + start * below.ld * item
        if l.bf16:
            p.k16.matmul(l.dz16 + start * l.ld * 2, l.ld // 2, 0, l.wt, panel_size(l.n_out) // 4,
                         dz, below.ld, m, l.n_in, (l.n_out + 1) // 2, FINISH_STORE, NULL, NULL)
        elif l.by_columns:
            wait(p, thread)
            share(l.n_in, k.width, thread, p.threads, &first, &end)
            times_transpose(p, l, 0, all_rows, first, end, below.dz, below.ld)
            tick(p, thread, BACKWARD, i)
            wait(p, thread)
        elif l.in_dz.on:
            list_hidden(p, &lists, i, 1, start, m, thread)
            times_listed(p, &lists, l.dz, l.ld, start, m, l.wt, l.ld_in, below.dz, below.ld, l.n_in, NULL)
        else:
            if l.in_dz.may and p.counting:
                list_hidden(p, &lists, i, 1, start, m, thread)
            times_transpose(p, l, start, m, 0, l.n_in, below.dz, below.ld)
        if below.slope != NULL:
            k.multiply(dz, below.slope + start * below.ld * item, below.ld, m)
        else:
            k.times_slope(below.activation, dz, l.h + start * l.ld_in * item, below.ld, m)
        round_dz(p, below, start, m)
        tick(p, thread, BACKWARD, i)


cdef void loss_and_output_gradient(Plan* p, Py_ssize_t start, Py_ssize_t m,
                                   double scale) noexcept nogil:
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Targets t
    t.labels = p.labels if p.y_labels != NULL else NULL
    t.values = p.targets
    t.ld = p.ld_targets
    t.weights = p.row_weight + start if p.row_weight != NULL else NULL
    t.least = p.least
    if t.labels != NULL:
        t.labels += start
    if t.values != NULL:
        t.values = <const char*>t.values + start * t.ld * p.k.itemsize
    p.k.loss(p.loss, p.output, l.z + start * l.ld * p.k.itemsize, l.ld, m, l.n_out, &t,
             p.gradients, scale * p.gain, p.row_loss + start, p.row_right + start)
    if p.gradients:
        round_dz(p, l, start, m)


# --- Gradient and update of this thread's share of a layer ----------------------------------------

cdef void update_layer(Plan* p, Layer* l, Py_ssize_t row, Py_ssize_t m, bint first, bint last,
                       int thread) noexcept nogil:
    """Sum the gradient over the m rows of the chunk at ``row``; with the last of a batch, update."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, start, stop, i, j, rows, at
    cdef int finish = FINISH_STORE if first else FINISH_ADD
    cdef bint sparse = p.sparse and l == &p.layer[0]
    cdef bint fused = p.training and first and last and p.rule == RULE_SGD
    if sparse and p.scatter:
        fused = fused and m <= SCATTER_ROWS and p.step_w.l2 == 0
    elif (sparse or l.skips) and m > SPARSE_PART:
        fused = False
    # Where the product goes by lists, Adam takes sums as they end; but weights and moments from afar come
    # sooner in whole blocks.
    cdef bint adam = (p.training and last and p.rule == RULE_ADAM and not l.narrow
                      and (not p.scatter if sparse else l.skips)
                      and l.n_in * l.ld * item <= CACHE_BYTES)
    cdef Step step = p.step_w
    step.w = 0
    cdef char *g
    cdef Py_ssize_t number = l - &p.layer[0]
    if l.narrow:
        share_work(p, WEIGHTS, l.n_in, k.width, thread, &start, &stop)
        if start < stop:
            g = l.w if fused else l.dw
            if fused:
                finish = FINISH_SGD
            if number == 0 and p.marks != NULL:
                k.gradient_marked(l.dz, l.ld, l.h + thread * p.h_step, l.ld_in, p.marks, g, l.ld_in,
                                  l.n_out, start, stop, m, finish, &p.step_w)
            else:
                k.matmul(l.dz, l.ld, 1, l.h + start * item, l.ld_in, g + start * item, l.ld_in, l.n_out,
                         stop - start, m, finish, NULL, &p.step_w)
            tick(p, thread, GRADIENT, number)
            if not fused and last and p.training:
                for j in range(l.n_out):
                    at = (j * l.ld_in + start) * item
                    k.update(p.rule, &p.step_w, l.w + at, l.dw + at,
                             NULL if p.slots < 1 else l.sw[0] + at,
                             NULL if p.slots < 2 else l.sw[1] + at, round_up(stop - start, k.width))
            if last and l.squares != NULL:
                square_weights(p, l, start, stop)
    else:
        share_work(p, WEIGHTS, l.n_in, k.width, thread, &start, &stop)
        i = start
        while i < stop:
            rows = min(l.block, stop - i)
            at = i * l.ld * item
            g = l.w + at
            if not fused:
                g = p.blocks + thread * p.block_bytes if l.dw == NULL else l.dw + at
            if adam:
                step.w, step.s1, step.s2 = l.w + at - g, l.sw[0] + at - g, l.sw[1] + at - g
            if sparse:
                gradient_sparse(p, m, i, rows, g, FINISH_SGD if fused else finish, &step, thread)
            elif l.skips:
                gradient_listed(p, l, m, i, rows, g, FINISH_SGD if fused else finish, &step, thread)
            elif l.bf16:
                p.k16.matmul(l.h_pairs + i * 4, l.ld_in, 1, l.dz_pairs, panel_size(p.rows) // 4, g,
                             l.ld, rows, l.n_out, (m + 1) // 2, FINISH_SGD if fused else finish,
                             NULL, &p.step_w)
            else:
                k.matmul(l.h + i * item, l.ld_in, 1, l.dz, l.ld, g, l.ld, rows, l.n_out, m,
                         FINISH_SGD if fused else finish, NULL, &p.step_w)
            tick(p, thread, GRADIENT, number)
            if not fused and not adam:
                if last and p.training:
                    k.update(p.rule, &p.step_w, l.w + at, g,
                             NULL if p.slots < 1 else l.sw[0] + at,
                             NULL if p.slots < 2 else l.sw[1] + at, rows * l.ld)
                    tick(p, thread, UPDATE, number)
            if last and p.training:
                refresh_transpose(p, l, i, i + rows)
                tick(p, thread, TRANSPOSE, number)
                if l.squares != NULL:
                    square_weights(p, l, i, i + rows)
            i += rows
    share(l.n_out, k.width, thread, p.threads, &start, &stop)
    if start < stop:
        at = start * item
        k.column_sum(l.dz + at, l.ld, m, stop - start, l.db + at, not first)
        if last and p.training:
            k.update(p.rule, &p.step_b, l.b + at, l.db + at,
                     NULL if p.slots < 1 else l.sb[0] + at,
                     NULL if p.slots < 2 else l.sb[1] + at, round_up(stop - start, k.width))
    tick(p, thread, UPDATE, number)


cdef void square_weights(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Squares of the weights that inputs start … stop have, to be summed for the L2 term."""
    cdef Py_ssize_t i, j, item = p.k.itemsize
    cdef double row[64]
    if not l.narrow:
        p.k.square_sum(l.w + start * l.ld * item, l.ld, stop - start, l.n_out, l.squares + start)
        return
    for i in range(start // p.k.width, (stop + p.k.width - 1) // p.k.width):
        p.k.square_sum(l.w + i * p.k.width * item, l.ld_in, l.n_out, p.k.width, row)
        l.squares[i] = 0
        for j in range(l.n_out):
            l.squares[i] += row[j]


cdef void square_all_weights(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef int i
    for i in range(p.n_layers):
        if p.layer[i].squares != NULL:
            square_weights(p, &p.layer[i], 0, p.layer[i].n_in)


cdef double sum_squares(Plan* p) noexcept nogil:
    cdef Py_ssize_t j
    cdef int i
    cdef double total = 0
    for i in range(p.n_layers):
        for j in range(p.layer[i].n_squares):
            total += p.layer[i].squares[j]
    return total


cdef void prepare_step(Plan* p, double rate, double batch_weight) noexcept nogil:
    """Coefficients of one update, those of reference.update; the step counts from 1."""
    cdef double t = <double>(p.updates + p.step + 1), c, l2 = p.l2
    if p.sums:
        l2 /= batch_weight
        if p.l2 > 0:
            p.penalty = 0.5 * l2 * sum_squares(p)
    p.step_w = p.settings
    p.step_w.rate = rate
    if p.rule == RULE_ADAM:
        c = sqrt(1.0 - pow(p.settings.beta2, t))
        p.step_w.rate = rate * c / (1.0 - pow(p.settings.beta1, t))
        p.step_w.epsilon = p.settings.epsilon if p.unscaled_epsilon else c * p.settings.epsilon
    p.step_b = p.step_w
    p.step_b.l2 = 0
    p.step_b.decay = 0
    p.step_w.l2 = l2
    p.step_w.decay = rate * p.weight_decay


# --- The loops, each run by every thread of the team ----------------------------------------------

cdef void sum_rows(Plan* p, Py_ssize_t m) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(m):
        p.batch_loss += p.row_loss[i]
        p.right_sum += p.row_right[i]


cdef bint all_finite(Plan* p, Py_ssize_t m) noexcept nogil:
    """Whether the losses of the m rows of a chunk are: each thread finds out for itself."""
    cdef Py_ssize_t i
    cdef double* loss = p.row_loss
    # Each product is NaN if the loss is NaN or infinite. Four chains, so that none waits long.
    cdef double a = 0, b = 0, c = 0, d = 0
    for i in range(0, m - 3, 4):
        a += loss[i] * 0
        b += loss[i + 1] * 0
        c += loss[i + 2] * 0
        d += loss[i + 3] * 0
    for i in range(m - m % 4, m):
        a += loss[i] * 0
    return isfinite(a + b + c + d)


cdef double weight_of_batch(Plan* p, Py_ssize_t batch) noexcept nogil:
    """The sum of the sample weights of the batch that begins at the row ``batch``."""
    if p.batch_weight != NULL:
        return p.batch_weight[batch // p.batch_size]
    return <double>(min(batch + p.batch_size, p.n) - batch)


cdef void weigh_batches(Plan* p) noexcept nogil:
    cdef Py_ssize_t i, at
    if p.batch_weight == NULL:
        return
    for i in range(p.n):
        at = i // p.batch_size
        if i % p.batch_size == 0:
            p.batch_weight[at] = 0
        p.batch_weight[at] += p.sample_weight[<Py_ssize_t>p.order[i] if p.order != NULL else i]


cdef void train(void* context, int thread) noexcept nogil:
    """Chunk after chunk from p.row on, until p.steps batches are done or the slice is over."""
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t row, batch, batch_end, m, start, stop, step, chunks = 0
    cdef bint first, last, timed
    cdef double weight, began = 0
    cdef int i
    tick(p, thread, -1, 0)
    while True:
        timed = p.balanced and chunks % p.check_every == 0 and p.threads == p.team_size
        chunks += 1
        if timed:
            began = seconds()
        # Only thread 0 moves these on, between the two barriers; all read them after the second.
        row = p.row
        step = p.step
        batch = (p.first + step) * p.batch_size
        batch_end = min(batch + p.batch_size, p.n)
        m = min(p.rows, batch_end - row)
        first = row == batch
        last = row + m == batch_end
        weight = weight_of_batch(p, batch)

        share_work(p, BATCH_ROWS, m, p.row_unit, thread, &start, &stop)
        if start < stop or p.columns:
            forward(p, start, stop - start, m, row, thread)
            loss_and_output_gradient(p, start, stop - start, 1.0 / weight)
            tick(p, thread, LOSS, p.n_layers - 1)
            backward(p, start, stop - start, m, thread)
        elif p.counts:
            memset(p.found + thread * p.n_layers * FOUND, 0, p.n_layers * FOUND * sizeof(uint64_t))
        if p.h_step:
            read_columns(p, row, 0, start, thread)
            read_columns(p, row, stop, m - stop, thread)
            tick(p, thread, READ, 0)
        if timed:
            note_work(p, BATCH_ROWS, thread, <double>(stop - start), began)
        if thread == 0:
            for i in range(p.n_layers):
                p.layer[i].skips = p.layer[i].in_h.on
            if last:
                prepare_step(p, p.rates[step], weight)
        wait(p, thread)
        if p.watch and not all_finite(p, m):
            if thread == 0:
                p.diverged = True
            return

        if timed:
            began = seconds()
        for i in range(p.n_layers - 1, -1, -1):
            update_layer(p, &p.layer[i], row, m, first, last, thread)
        if thread == 0:
            sum_rows(p, m)
            if last:
                p.loss_sum += (p.batch_loss / weight * p.loss_gain + p.penalty) * <double>(
                    batch_end - batch)
                p.batch_loss = 0
                p.right_before = p.right_sum
            p.row = row + m
            p.step = step + last
            p.chunks_done += 1
            if p.counts:
                choose_skips(p, m)
            # Where another process has a core, a team may wait for it at every step.
            p.stop = p.step == p.steps or (
                (p.threads > 1 or p.chunks_done % p.check_every == 0) and seconds() > p.until)
        if timed:
            note_work(p, WEIGHTS, thread, weights_of(p, thread), began)
        wait(p, thread)
        if p.stop:
            return


cdef void sweep(void* context, int thread) noexcept nogil:
    """All rows in their own order: outputs, or losses, or the gradient, with nothing updated."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t row = p.row, m, start, stop, i, item = p.k.itemsize, chunks = 0
    cdef bint timed
    cdef double began = 0
    cdef int k
    while row < p.n:
        timed = p.balanced and chunks % p.check_every == 0 and p.threads == p.team_size
        chunks += 1
        if timed:
            began = seconds()
        m = min(p.rows, p.n - row)
        share_work(p, BATCH_ROWS, m, p.row_unit, thread, &start, &stop)
        if start < stop or p.columns:
            forward(p, start, stop - start, m, row, thread)
            if p.out != NULL:
                p.k.activate(p.output, l.z + start * l.ld * item, NULL, l.ld, stop - start, l.n_out)
                for i in range(start, stop):
                    memcpy(p.out + (row + i) * l.n_out * item, l.z + i * l.ld * item,
                           l.n_out * item)
            else:
                loss_and_output_gradient(p, start, stop - start, 1.0 / weight_of_batch(p, 0))
                if p.gradients:
                    backward(p, start, stop - start, m, thread)
        if timed:
            note_work(p, BATCH_ROWS, thread, <double>(stop - start), began)
        # Needed for outputs too: past it, all have read p.stop and thread 0 may write it.
        p.team.barrier(thread)
        if p.out == NULL:
            if p.gradients:
                if timed:
                    began = seconds()
                for k in range(p.n_layers - 1, -1, -1):
                    update_layer(p, &p.layer[k], row, m, row == 0, row + m == p.n, thread)
                if timed:
                    note_work(p, WEIGHTS, thread, weights_of(p, thread), began)
            if thread == 0:
                sum_rows(p, m)
        row += m
        if thread == 0:
            p.chunks_done += 1
            p.row = row
            p.stop = ((p.threads > 1 or p.chunks_done % p.check_every == 0)
                      and seconds() > p.until)
        p.team.barrier(thread)
        if p.stop:
            return


cdef double longer_slice(Plan* p) noexcept nogil:
    """At first shares are soon balanced; what comes later is for the long run."""
    p.slice = min(2 * p.slice, SLICE_SECONDS)
    return p.slice


cdef double choose_threads(Plan* p) noexcept nogil:
    """Set the threads of the next slice; return how long it may last.

    Where another process holds a core, a team waits for that core at every barrier and one thread
    alone may be faster; so it may where a step is less work than passing weights from core to core.
    The bits do not depend on the choice, so it is free: both are timed, and the other one again now
    and then.
    """
    if not p.choosing:
        return longer_slice(p)
    if p.tries_late and p.trials.due == 0:
        p.trials.made = 3
        p.trials.due = p.trials.worked + p.trial_every
    cdef bint slow = p.trials.pace[0] * MARGIN < p.trials.pace[1]
    # A new plan begins with all threads, which does not mean that they have been at work.
    cdef bint turned = slow and p.threads > 1 and p.chunks_done > 0
    if p.trials.made >= 3 and (p.trials.worked > p.trials.due or turned):
        p.trials.made = 0
    if p.trials.made < 3:
        # All of them twice: the first time some may still be asleep, or on each other's core.
        p.threads = 1 if p.trials.made == 2 else p.team_size
        p.trials.made += 1
        p.trials.due = p.trials.worked + p.trial_every
        return TRIAL_SECONDS
    p.threads = 1 if slow else p.team_size
    return longer_slice(p)


cdef int run_in_slices(Plan* p, void (*task)(void*, int) noexcept nogil,
                       bint training) except -1:
    """Run a loop on a team, and let Python see to signals now and then."""
    cdef double began, took
    cdef Py_ssize_t chunks
    if p.balanced and p.trials.team != p.team_size:
        share_equally(p)
    while (p.step < p.steps and not p.diverged) if training else (p.row < p.n):
        with nogil:
            began = seconds()
            chunks = p.chunks_done
            p.until = began + choose_threads(p)
            p.stop = False
            p.team = Team.acquire(p.threads)
            p.threads = p.team.size()
            p.team.run(task, p)
            Team.release(p.team)
            took = seconds() - began
            p.trials.worked += took
            p.trials.pace[p.threads == 1] = (p.chunks_done - chunks) / took
            balance(p)
        PyErr_CheckSignals()
    return 0


cdef bint shuffle_rows(Plan* p) noexcept nogil:
    """The permutation of ``philox.permutation`` into p.order; False if there is no memory for it."""
    cdef uint32_t* word = <uint32_t*>malloc((round_up(p.n, 4) + 4) * sizeof(uint32_t))
    cdef Py_ssize_t i
    cdef uint32_t j, held
    if word == NULL:
        return False
    p.k.philox(p.seed, 0, p.epoch, 0, (p.n + 3) // 4, word)
    for i in range(p.n):
        p.order[i] = <uint32_t>i
    for i in range(p.n - 1, 0, -1):
        j = <uint32_t>((<uint64_t>word[i] * <uint64_t>(i + 1)) >> 32)
        held = p.order[i]
        p.order[i] = p.order[j]
        p.order[j] = held
    free(word)
    return True


# --- What Python sees -----------------------------------------------------------------------------

_ACTIVATION = {
    "identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU,
    "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "softplus": SOFTPLUS, "softmax": SOFTMAX,
    "exp": EXP,
}
_LOSS = {
    "cross_entropy": CROSS_ENTROPY, "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "mse": MEAN_SQUARED_ERROR, "poisson": POISSON,
}
_RULE = {
    "sgd": RULE_SGD, "momentum": RULE_MOMENTUM, "nesterov": RULE_NESTEROV, "rmsprop": RULE_RMSPROP,
    "adagrad": RULE_ADAGRAD, "adam": RULE_ADAM, "adam_hat": RULE_ADAM, "adamw": RULE_ADAM,
}


cdef class Held:
    """A buffer of a Python object, held for as long as this lives."""
    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, object array, int flags):
        self.held = False
        PyObject_GetBuffer(array, &self.view, flags)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef int move_flat(Plan* p, int slot, Held flat, bint pack) except -1:
    """Copy between a flat vector and parameters (slot -1) or a state of the optimizer."""
    p.flat, p.moved, p.packing = <char*>flat.view.buf, slot, pack
    with nogil:
        run_on_team(p, move_share, flat.view.len)
    return 0


cdef class _Plan:
    """Owner of a Plan, its arena, and the arrays that it points into."""
    cdef Plan p
    cdef Held x, y, x_starts, x_columns, sample_weight, parameters, memory
    cdef object lent
    cdef Py_ssize_t n_parameters

    cdef int set_up(self, object net, object threads, object x, object y, Py_ssize_t batch_size,
                    bint gradients, bint training, int slots, double l2=0, object sample_weight=None,
                    bint sums=False) except -1:
        cdef Plan* p = &self.p
        cdef Layer* l
        cdef size_t size
        cdef double flops = 0, total, share
        cdef int i, fill
        p.k = kernels(_isa.load(), F32 if net.dtype == "float32" else F64)
        p.k16 = NULL
        p.row_unit = 1
        if net.precision == "bf16":
            p.k16 = bf16_kernels(_isa.load())
            p.row_unit = 2
            p.direct = False
            if p.k16 == NULL:
                raise ImportError("precision: found 'bf16', which the instruction set does not have")
        p.n_layers = net.n_layers
        self.n_parameters = net.n_parameters
        p.loss = _LOSS[net.loss]
        p.output = _ACTIVATION[net.activations[net.n_layers - 1]]
        p.gradients = gradients
        p.training = training
        p.slots = slots
        p.batch_size = batch_size
        p.l2 = l2
        self.point_at(x, y, sample_weight)
        for i in range(p.n_layers):
            l = &p.layer[i]
            l.n_in = net.sizes[i]
            l.n_out = net.sizes[i + 1]
            l.ld_in = padded(p.k, l.n_in)
            l.ld = padded(p.k, l.n_out)
            l.bf16 = net.rounds(i)
            # Vectors past the end of such weights end in the biases. Rounded ones are packed anew.
            l.direct = (p.direct and l.n_out >= p.k.width) or (l.bf16 and not training)
            l.ld_w = l.n_out if l.direct else l.ld
            # The faster the product, the more it waits for dz, which comes anew for each block.
            l.block = block_rows(
                p.k, l.ld, 2 * BLOCK_BYTES if l.bf16 and p.k16.gain > 4 else BLOCK_BYTES)
            # The first layer of sparse rows goes by lists of columns, which narrow ones cannot.
            l.narrow = (i > 0 or p.source != SOURCE_SPARSE) and narrow_pays(
                p, l, max(1, min(batch_size, p.n)) if i > 0 and gradients else 0)
            l.activation = _ACTIVATION[net.activations[i]]
            l.dropout = net.dropout[i] if i < p.n_layers - 1 else 0.0
            l.keep_slope = i < p.n_layers - 1 and (
                l.activation == GELU or (training and l.dropout > 0))
            share = density(p, 1) if i == 0 and p.source == SOURCE_SPARSE else 1.0
            flops += 2.0 * l.n_in * l.n_out * share * (3 if gradients else 1)
        p.sparse = sparse_pays(p)
        p.scatter = p.layer[0].n_out * p.k.itemsize <= SCATTER_BYTES
        if p.sparse:
            p.layer[0].narrow = False
        self.use_convention(net, sums)
        p.ld_targets = padded(p.k, p.layer[p.n_layers - 1].n_out)
        cdef Py_ssize_t batch = max(1, min(batch_size, p.n))
        cdef Py_ssize_t most = GATHER_BYTES
        if p.source == SOURCE_SPARSE and not gradients:
            most = SPREAD_BYTES
        most //= p.layer[0].ld_in * p.k.itemsize
        most = max(<Py_ssize_t>MIN_ROWS, min(<Py_ssize_t>MAX_ROWS, most))
        p.rows = (batch + (batch + most - 1) // most - 1) // ((batch + most - 1) // most)
        # The same rows of the next chunk, which the same thread will read, if so many fit its cache.
        p.ahead = p.rows if p.rows * p.layer[0].n_in * p.x_col <= FETCH_BYTES else MIN_ROWS
        total = flops * p.n
        flops *= p.rows
        if threads is None:
            p.threads = <int>max(1.0, min(<double>usable_processors(), flops / FLOPS_A_THREAD))
            if not gradients and total < SHORT_SWEEP:
                p.threads = 1
        else:
            p.threads = threads
        p.team_size = p.threads
        p.widest = p.columns = p.counts = 0
        p.counting = True
        for i in range(p.n_layers):
            l = &p.layer[i]
            p.widest = max(p.widest, l.ld_in)
            l.dots = i > 0 and gradients and dots_pay(p, l)
            l.by_columns = columns_pay(p, l) and not (i == 0 and p.sparse)
            p.columns = p.columns or l.by_columns
        for i in range(p.n_layers):
            may_skip(p, i)
            l = &p.layer[i]
            if (not l.bf16 and not l.narrow and not (i == 0 and p.sparse)
                    and p.rows * l.ld * p.k.itemsize > CACHE_BYTES):
                l.block = max(l.block, min(<Py_ssize_t>WIDE_ROWS, round_up(
                    (l.n_in + p.threads - 1) // p.threads, p.k.width)))
        if p.counts:
            p.costs = costs_here(_isa.load(), F32 if net.dtype == "float32" else F64)
        p.marks = NULL
        p.mark_words = 0
        p.h_step = 0
        if marks_pay(p):
            p.mark_words = (p.layer[0].ld_in // p.k.width + 63) // 64
            # Floats that another core has written come to this one dearer than bytes come from memory.
            if p.threads > 1 and p.rows * p.layer[0].ld_in * p.k.itemsize <= CACHE_BYTES // 2:
                p.h_step = round_up(p.rows * p.layer[0].ld_in * p.k.itemsize, ALIGNMENT)
        p.choosing = p.threads > 1
        p.trial_every = max(TRIAL_EVERY, flops / TRIAL_FLOPS)
        p.tries_late = flops > LONG_CHUNK
        # Threads that wait for each other within a phase take the same time for it.
        p.balanced = 1 < p.threads <= MOST_BALANCED and not p.columns
        p.slice = TRIAL_SECONDS
        # About a millisecond at 10 GFLOP/s between two looks at the clock.
        p.check_every = <Py_ssize_t>max(1.0, 1e7 / max(flops, 1.0))
        size = lay_out(p, NULL)
        try:
            self.lent = Memory(size + 2 * ALIGNMENT)
        except MemoryError:
            raise MemoryError(f"could not get {size} bytes of working memory") from None
        self.memory = Held(self.lent.bytes, PyBUF_WRITABLE)
        p.arena = <char*>(round_up(<Py_ssize_t><uintptr_t>self.memory.view.buf, ALIGNMENT))
        fill = _poison.load()
        if fill:
            # By turns, since what is blind to one may take the other for a number.
            memset(p.arena, fill, size)
            _poison.store(HUGE_BYTES if fill == NAN_BYTES else NAN_BYTES)
        lay_out(p, p.arena)
        memset(p.zeros, 0, p.widest * p.k.itemsize)
        memset(p.work, 0, p.team_size * N_WORKS * sizeof(Work))
        if p.spread != NULL:
            memset(p.spread, 0xFF, p.rows * sizeof(int64_t))
        return 0

    cdef int use_convention(self, object net, bint sums) except -1:
        cdef Plan* p = &self.p
        cdef double n_out = net.n_out
        p.sums = sums
        p.gain = p.loss_gain = 1
        p.least = 0
        if not sums:
            return 0
        if p.loss == MEAN_SQUARED_ERROR:
            p.gain, p.loss_gain = n_out / 2, 0.5
        elif p.loss != CROSS_ENTROPY:
            p.gain = p.loss_gain = n_out
        p.least = np.finfo(net.dtype).eps
        return 0

    cdef int point_at(self, object x, object y, object sample_weight) except -1:
        """Take the data set: x (n, n_in) of any strides or Sparse, y labels (n,), targets
        (n, n_out) or None, and weights (n,) or None."""
        cdef Plan* p = &self.p
        if isinstance(x, Sparse):
            self.x = Held(x.data, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            self.x_starts = Held(x.indptr, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            self.x_columns = Held(x.indices, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            p.source = SOURCE_SPARSE
            p.n, p.x_col = len(x), self.x.view.itemsize
            p.x_starts = <const int64_t*>self.x_starts.view.buf
            p.x_columns = <const int32_t*>self.x_columns.view.buf
            p.most_lit = np.diff(x.indptr).max(initial=0)
        else:
            self.x = Held(x, PyBUF_STRIDED_RO | PyBUF_FORMAT)
            p.n = self.x.view.shape[0]
            p.x_row = self.x.view.strides[0]
            p.x_col = self.x.view.strides[1]
            p.most_lit = self.x.view.shape[1]
            p.source = {b"B": SOURCE_UINT8, b"f": SOURCE_FLOAT32, b"d": SOURCE_FLOAT64}[
                <bytes>self.x.view.format]
        p.x = <const char*>self.x.view.buf
        if p.n > 0xFFFFFFFF:
            raise ValueError(f"x: found {p.n} rows, expected at most {0xFFFFFFFF}")
        p.sample_weight = NULL
        if sample_weight is not None:
            self.sample_weight = Held(sample_weight, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            p.sample_weight = <const double*>self.sample_weight.view.buf
        p.y_labels = NULL
        p.y_values = NULL
        self.y = None
        if y is not None:
            self.y = Held(y, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
            if self.y.view.ndim == 1:
                p.y_labels = <const int32_t*>self.y.view.buf
            else:
                p.y_values = <const char*>self.y.view.buf
        return 0

    cdef int pack(self, object parameters) except -1:
        cdef Plan* p = &self.p
        self.parameters = Held(parameters, PyBUF_SIMPLE)
        p.flat = <char*>self.parameters.view.buf
        if self.parameters.view.len != self.n_parameters * p.k.itemsize:
            raise ValueError(
                f"parameters: found {self.parameters.view.len} bytes, expected "
                f"{self.n_parameters * p.k.itemsize}")
        with nogil:
            run_on_team(p, pack_parameters, self.parameters.view.len)
        return 0


cdef _Plan planned(object net, object threads, object parameters, object x, object y):
    cdef _Plan plan = _Plan.__new__(_Plan)
    plan.p.direct = len(x) <= DIRECT_ROWS
    plan.set_up(net, threads, x, y, len(x), False, False, 0)
    plan.p.rule = -1
    plan.pack(parameters)
    return plan


cdef class Objective:
    """The function that ``Engine.objective`` returns: planned once, called many times."""
    cdef _Plan plan
    cdef object net
    cdef double l2

    def __init__(self, net, threads, data, settings):
        self.net = net
        self.plan = _Plan.__new__(_Plan)
        self.plan.set_up(net, threads, data.x, data.y, len(data.x), True, False, 0, settings.l2,
                         data.sample_weight, settings.convention == "sklearn")
        self.plan.p.rule = -1
        weigh_batches(&self.plan.p)

    def __call__(self, parameters):
        cdef Plan* p = &self.plan.p
        cdef double weight = weight_of_batch(p, 0), l2 = p.l2 / weight if p.sums else p.l2
        p.threads = p.team_size
        self.plan.pack(parameters)
        p.row = 0
        p.batch_loss = p.right_sum = 0
        run_in_slices(p, sweep, False)
        gradient = np.empty(self.net.n_parameters, self.net.dtype)
        cdef Held held = Held(gradient, PyBUF_WRITABLE | PyBUF_SIMPLE)
        unpack_gradient(p, <char*>held.view.buf)
        loss = p.batch_loss / weight * p.loss_gain
        if l2:
            weights, _ = self.net.views(parameters)
            for w, dw in zip(weights, self.net.views(gradient)[0]):
                dw += l2 * w
                loss += 0.5 * l2 * float(np.square(w, dtype=np.float64).sum())
        return loss, gradient


cdef int copy_trials(Engine engine, Trials* to, const Trials* source) except -1:
    """Copy to or from an engine. It may serve many threads, all but this without locks: a trainer
    belongs to one thread, and the plan of a prediction to one call."""
    with cython.critical_section(engine):
        to[0] = source[0]
    return 0


cdef class Engine:
    """The compiled backend; the contract is that of ``pynn.backends.Engine``."""
    cdef readonly str name
    cdef readonly object net
    cdef object _threads
    # What the last trainer found out about threads, for the next one to start from.
    cdef Trials trials, sweeps

    def __init__(self, net, threads=None):
        if net.n_layers > MAX_LAYERS:
            raise ValueError(
                f"sizes: found {net.n_layers} layers, expected at most {MAX_LAYERS} "
                "with the compiled backend; the backend 'numpy' takes any number")
        self.name = "cython"
        self.net = net
        self._threads = threads

    @property
    def threads(self):
        return usable_processors() if self._threads is None else self._threads

    def depends_on(self):
        isa = _isas[_isa.load()]
        # The instruction set amx has no kernels of its own for full precision.
        return {"isa": "avx512" if isa == "amx" and self.net.precision == "full" else isa}

    def forward(self, parameters, x):
        out = np.empty((len(x), self.net.n_out), self.net.dtype)
        if len(x) == 0:
            return out
        cdef _Plan plan = planned(self.net, self._threads, parameters, x, None)
        cdef Held held = Held(out, PyBUF_WRITABLE | PyBUF_SIMPLE)
        plan.p.out = <char*>held.view.buf
        copy_trials(self, &plan.p.trials, &self.sweeps)
        run_in_slices(&plan.p, sweep, False)
        copy_trials(self, &self.sweeps, &plan.p.trials)
        return out

    def evaluate(self, parameters, x, y):
        cdef _Plan plan = planned(self.net, self._threads, parameters, x, y)
        run_in_slices(&plan.p, sweep, False)
        return plan.p.batch_loss, plan.p.right_sum

    def objective(self, data, settings):
        return Objective(self.net, self._threads, data, settings)

    def trainer(self, parameters, state, data, settings):
        return Trainer(self, parameters, state, data, settings)


cdef class Trainer:
    """The mini-batch loop; the contract is that of ``pynn.backends.Trainer``."""
    cdef _Plan plan
    cdef Engine engine
    cdef object parameters, state
    cdef bint shuffle, ordered, given, looked_at
    cdef object profiled
    cdef Held spent, looked

    def __init__(self, Engine engine, parameters, state, data, settings):
        cdef Plan* p
        cdef Held flat
        cdef int s
        optimizer = settings.optimizer
        self.engine = engine
        self.parameters, self.state = parameters, list(state)
        self.shuffle = settings.shuffle
        self.ordered = self.given = self.looked_at = False
        self.plan = _Plan.__new__(_Plan)
        p = &self.plan.p
        self.plan.set_up(engine.net, engine._threads, data.x, data.y,
                         min(<Py_ssize_t>settings.batch_size, len(data.x)), True, True,
                         len(self.state), settings.l2, data.sample_weight,
                         settings.convention == "sklearn")
        p.rule = _RULE[optimizer.name]
        p.unscaled_epsilon = optimizer.name == "adam_hat"
        p.watch = settings.watch
        p.seed = settings.seed
        p.settings.beta1 = getattr(optimizer, "beta1", None) or getattr(
            optimizer, "momentum", None) or getattr(optimizer, "rho", None) or 0.0
        p.settings.beta2 = getattr(optimizer, "beta2", 0.0)
        p.settings.epsilon = getattr(optimizer, "epsilon", 0.0)
        p.weight_decay = getattr(optimizer, "weight_decay", 0.0)
        self.plan.pack(parameters)
        if p.slots != optimizer.slots:
            raise ValueError(f"state: found {p.slots} vectors, expected {optimizer.slots}")
        for s in range(p.slots):
            flat = Held(self.state[s], PyBUF_SIMPLE)
            if flat.view.len != self.plan.parameters.view.len:
                raise ValueError(
                    f"state: found {flat.view.len} bytes, expected {self.plan.parameters.view.len}")
            move_flat(p, s, flat, True)
        self.looked_at = True
        p.team = Team.acquire(1)
        p.team.run(square_all_weights, p)
        Team.release(p.team)

    def profile(self):
        """Take times from now on: return the phases, and seconds (threads, layers, phases) that
        ``steps`` adds to."""
        cdef Plan* p = &self.plan.p
        if self.profiled is None:
            spent = np.zeros((p.team_size, p.n_layers, N_PHASES))
            looked = np.zeros(p.team_size * ALIGNMENT // sizeof(double))
            self.spent, self.looked = Held(spent, PyBUF_WRITABLE), Held(looked, PyBUF_WRITABLE)
            p.spent, p.looked = <double*>self.spent.view.buf, <double*>self.looked.view.buf
            self.profiled = spent
        return _PHASES, self.profiled

    def order(self, rows):
        cdef Held held = Held(np.ascontiguousarray(rows, dtype=np.int64), PyBUF_SIMPLE)
        cdef const int64_t* row = <const int64_t*>held.view.buf
        cdef Plan* p = &self.plan.p
        cdef Py_ssize_t i
        if held.view.len != p.n * <Py_ssize_t>sizeof(int64_t):
            raise ValueError(f"rows: found {len(rows)}, expected {p.n}")
        for i in range(p.n):
            if not 0 <= row[i] < p.n:
                raise ValueError(f"rows: found {row[i]}, expected numbers from 0 to {p.n - 1}")
            p.order[i] = <uint32_t>row[i]
        self.given = True
        self.ordered = False

    def steps(self, epoch, Py_ssize_t first, rates, Py_ssize_t updates):
        cdef Plan* p = &self.plan.p
        cdef Py_ssize_t i
        cdef Held held
        rates = np.ascontiguousarray(rates, dtype=np.float64)
        held = Held(rates, PyBUF_SIMPLE)
        if not self.ordered or p.epoch != <uint32_t>epoch:
            p.epoch = epoch
            with nogil:
                if self.given:
                    self.ordered = True
                elif self.shuffle:
                    self.ordered = shuffle_rows(p)
                else:
                    for i in range(p.n):
                        p.order[i] = <uint32_t>i
                    self.ordered = True
                weigh_batches(p)
            if not self.ordered:
                raise MemoryError(f"could not get memory to shuffle {p.n} rows")
        self.looked_at = False
        p.rates = <const double*>held.view.buf
        p.first = first
        p.steps = len(rates)
        p.step = 0
        p.updates = updates
        p.row = first * p.batch_size
        p.batch_loss = 0
        p.diverged = False
        if first == 0:
            p.loss_sum = p.right_sum = p.right_before = 0
        copy_trials(self.engine, &p.trials, &self.engine.trials)
        try:
            run_in_slices(p, train, True)
        finally:
            copy_trials(self.engine, &self.engine.trials, &p.trials)
        return p.loss_sum, p.right_sum

    @property
    def done(self):
        return self.plan.p.step

    @done.setter
    def done(self, count):
        self.plan.p.step = count

    @property
    def diverged(self):
        return bool(self.plan.p.diverged)

    @property
    def sums(self):
        return self.plan.p.loss_sum, self.plan.p.right_before

    @sums.setter
    def sums(self, found):
        self.plan.p.loss_sum, self.plan.p.right_sum = found
        self.plan.p.right_before = self.plan.p.right_sum

    @property
    def sparse(self):
        """Whether the first layer skips the zeros of x."""
        return bool(self.plan.p.sparse)

    @property
    def marked(self):
        """Whether the first layer, a narrow one, skips the vectors of x that are zero."""
        return self.plan.p.marks != NULL

    @property
    def shares(self):
        """How the threads share a chunk, all being at work: for each the part of its rows that it has, and
        the part of the weights.

        They follow what the threads take for theirs. Those that are set are for the next steps, but have
        no effect where threads always share equally.
        """
        cdef Plan* p = &self.plan.p
        cdef Trials trials
        copy_trials(self.engine, &trials, &self.engine.trials)
        if not p.balanced or trials.team != p.team_size:
            return [[1.0 / p.team_size] * p.team_size] * N_WORKS
        return [[trials.shares[which][i + 1] - trials.shares[which][i] for i in range(p.team_size)]
                for which in range(N_WORKS)]

    @shares.setter
    def shares(self, wanted):
        cdef Plan* p = &self.plan.p
        cdef int which, i
        if [len(parts) for parts in wanted] != [p.team_size] * N_WORKS:
            raise ValueError(f"shares: found {wanted}, expected {N_WORKS} x {p.team_size}")
        if not p.balanced:
            return
        share_equally(p)
        for which in range(N_WORKS):
            for i in range(p.team_size - 1):
                p.trials.shares[which][i + 1] = p.trials.shares[which][i] + wanted[which][i]
        p.trials.made = 0
        copy_trials(self.engine, &self.engine.trials, &p.trials)

    @property
    def skips(self):
        """For each layer, whether the next step skips the zeros of its inputs and of its dz."""
        cdef int i
        return [(bool(self.plan.p.layer[i].in_h.on), bool(self.plan.p.layer[i].in_dz.on))
                for i in range(self.plan.p.n_layers)]

    def evaluate(self, x, y):
        # Through the flat vector: one text for evaluation, and a copy that costs less than a batch.
        net = self.engine.net
        parameters = np.empty(net.n_parameters, net.dtype)
        cdef Held flat = Held(parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
        move_flat(&self.plan.p, -1, flat, False)
        return self.engine.evaluate(parameters, x, y)

    def would_store_finite(self):
        """Whether all that ``store`` would write is known to be finite."""
        self.see_anew()
        with nogil:
            run_on_team(&self.plan.p, look_at_share, self.plan.parameters.view.len)
        return not self.in_doubt()

    cdef int see_anew(self) except -1:
        self.looked_at = False
        memset(self.plan.p.work, 0, self.plan.p.team_size * N_WORKS * sizeof(Work))
        return 0

    cdef bint in_doubt(self) except -1:
        cdef int thread
        return any(
            [self.plan.p.work[thread * N_WORKS].in_doubt for thread in range(self.plan.p.team_size)])

    def store(self):
        self.see_anew()
        cdef Held flat = Held(self.parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
        cdef int s
        move_flat(&self.plan.p, -1, flat, False)
        for s in range(self.plan.p.slots):
            flat = Held(self.state[s], PyBUF_WRITABLE | PyBUF_SIMPLE)
            move_flat(&self.plan.p, s, flat, False)
        self.looked_at = True

    @property
    def works_on_copies(self):
        """Whether it trains copies of the vectors it was made with, which only ``store`` changes."""
        return True

    @property
    def stored_is_finite(self):
        """Whether all that was last taken in or stored is known to be finite."""
        return self.looked_at and not self.in_doubt()


def peak(dtype, double least=0.05):
    """Multiplications and additions a second of one core, in so many seconds of nothing else."""
    cdef const Kernels* k = kernels(_isa.load(), F32 if dtype == "float32" else F64)
    cdef double done = 0, began, passed = 0
    with nogil:
        began = seconds()
        while passed < least:
            done += k.multiply_add(10_000)
            passed = seconds() - began
    return done / passed


cdef void meet(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t i
    for i in range(p.steps):
        p.team.barrier(thread)


def meeting(int threads, Py_ssize_t rounds=20_000):
    """Seconds that so many threads take to wait for each other once."""
    cdef Plan p
    cdef double began
    if threads < 1:
        raise ValueError(f"threads: found {threads}, expected 1 or more")
    with nogil:
        p.steps = rounds
        p.team = Team.acquire(threads)
        began = seconds()
        p.team.run(meet, &p)
        began = seconds() - began
        Team.release(p.team)
    return began / rounds


def philox_words(seed, Py_ssize_t count, epoch, stream, row=0):
    """Words of one stream, as ``pynn.philox.words`` draws them."""
    out = np.empty(round_up(count, 4), np.uint32)
    cdef Held held = Held(out, PyBUF_WRITABLE | PyBUF_SIMPLE)
    kernels(_isa.load(), F32).philox(seed, row, epoch, stream, (count + 3) // 4,
                              <uint32_t*>held.view.buf)
    return out[:count]
