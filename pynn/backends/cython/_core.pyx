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

from .kernels cimport *

# One extension module: the static state of the thread team and the choice of an instruction set must
# exist once, and calls between files stay direct. Each file uses only those above it.
include "machine.pxi"     # instruction sets; costs measured on this machine
include "plan.pxi"        # sizes of a run, and the layout of its working memory
include "choices.pxi"     # which kernels a layer uses
include "threads.pxi"     # shares of the threads, and how many to use
include "bf16.pxi"        # operands rounded to bfloat16
include "parameters.pxi"  # copies between flat vectors and padded storage
include "sparse.pxi"      # products that skip zeros
include "passes.pxi"      # read_rows, forward, loss_and_output_gradient, backward
include "update.pxi"      # gradient and update of a layer
include "loop.pxi"        # train and sweep
include "engine.pxi"      # what Python sees: Engine and Trainer
include "probes.pxi"      # measurements and tests
