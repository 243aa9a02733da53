# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""The compiled backend: the passes and the mini-batch loop of reference.py, without the GIL.

Names and order are those of the reference, so that the two can be read side by side. This file
includes the others; each uses only those above it. They are one extension module, because the
state of the thread team and the choice of an instruction set must exist once, and because calls
between modules would be indirect.

Shapes: a batch is processed in chunks of up to ``Plan.rows`` rows; layer k maps n_in to n_out
units. Leading dimensions are padded: ``ld_in`` for n_in columns, ``ld`` for n_out columns.
    h       (rows, ld_in)   input of a layer; the first is x
    w, b    (n_in, ld), (ld,)
    wt      (n_out, ld_in)  transpose of w, for dz · wᵀ
    z       (rows, ld)      = h · w + b, then f(z): the next layer's h
    dz      (rows, ld)      ∂loss/∂z
Narrow layers, with fewer outputs than a vector has lanes and many inputs, store only the transpose
of w, in the place of w. If many values of x, or in training of h and dz, are zero, products skip
them: they use lists of the others, or in narrow first layers bit masks of vectors.

With precision "bf16" wide layers multiply values rounded to bfloat16, which are stored beside the
floats in pairs of consecutive k, with halves rounded up:
    h16, dz16           (rows, ld_in / 2), (rows, ld / 2)  pairs along rows, for h · w and dz · wᵀ
    h_pairs, dz_pairs   (rows / 2, ld_in), (rows / 2, ld)  pairs along columns, for hᵀ · dz
    w_pairs, wt         (n_in / 2, ld), (n_out / 2, ld_in)
dz_pairs, w_pairs and wt are in panels of 32 columns. A first layer that skips zeros multiplies
floats with the values of bfloat16: h in its place, w_rounded and dz_rounded beside w and dz.

One step on a team of threads: each runs the passes on its own rows of the batch; barrier; each sums
the gradient of its own rows of every weight matrix over the whole batch and updates them; barrier.
No sum is divided among threads, so results do not depend on their number.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBUF_WRITABLE, PyBUF_SIMPLE,
    PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from libcpp.atomic cimport atomic

import os

import numpy as np

from pynn.arrays.coded import Coded, factors_of, step_of
from pynn.arrays.memory import MOST, Memory
from pynn.arrays.sparse import Sparse
from pynn.arrays.standard import Standardized
from pynn.backends.contract import Sums
from pynn.backends.interrupts import raise_pending
from pynn.backends.limits import default_threads

from .kernels cimport *

include "machine.pxi"     # instruction sets; costs measured on this machine
include "plan.pxi"        # the structs of a plan, and constants
include "arena.pxi"       # sizes of matrices, and their places in memory
include "choices.pxi"     # which kernels a layer uses
include "threads.pxi"     # shares of the threads, and how many of them work
include "bf16.pxi"        # operands rounded to bfloat16
include "parameters.pxi"  # copies between flat vectors and padded storage
include "sparse.pxi"      # products that skip zeros
include "passes.pxi"      # read_rows, forward, loss_and_output_gradient, backward
include "update.pxi"      # gradient and update of a layer
include "loop.pxi"        # train and sweep
include "codes.pxi"       # a copy of x with codes of one byte
include "setup.pxi"       # sets up a plan
include "tape.pxi"        # one batch, pass by pass; updates with a given gradient
include "engine.pxi"      # Engine and Trainer
include "probes.pxi"      # measurements
