"""The passes of a training step one by one, for tapes, and updates with a given gradient."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import prange

from .loop import compile_cached, sources
from .passes import (
    activate_outputs,
    backward,
    forward,
    loss_and_output_gradient,
    read_rows,
)
from .plan import FROZEN, N_IN, kernel, signature
from .update import apply_rows, set_step, weights_pass

(READ, OUTPUTS, LOSSES, BACK, SUM, APPLY) = range(6)
"""Parts: rows of x to z of the last layer; outputs; losses and their dz; dz of all layers; the sum
of the gradient; the update with the gradient of the plan."""


@kernel
def tape_part(p, what, part, parts, m, first):
    """Take one of ``parts`` shares of a part for m rows; ``first`` is the place of row 0."""
    lo, hi = part * m // parts, (part + 1) * m // parts
    if what == READ:
        read_rows(p, first, lo, hi)
        forward(p, first, lo, hi)
    elif what == OUTPUTS:
        activate_outputs(p, lo, hi)
    elif what == LOSSES:
        loss_and_output_gradient(p, np.int64(0), lo, hi, p.sums[5])
    elif what == BACK:
        backward(p, lo, hi)
    elif what == SUM:
        weights_pass(p, part, parts, m, np.int64(0), False)
    else:
        for k in range(len(p.layers)):
            rows = p.layers[k, N_IN] + 1
            if not p.layers[k, FROZEN]:
                apply_rows(p, k, part * rows // parts, (part + 1) * rows // parts)


def make_tape(version):
    """Return the function of a part; its machine code is cached for this ``version``."""

    def run(p, what, m, first, threads):
        """Take a part on some threads."""
        _ = version  # the values of a closure are part of the key of Numba's cache
        none, one = np.int64(0), np.int64(1)
        if what == APPLY:
            set_step(p, none)
        if threads == 1:
            tape_part(p, what, none, one, m, first)
        else:
            for part in prange(threads):
                tape_part(p, what, np.int64(part), threads, m, first)
        return none

    return run


@functools.cache
def compiled_tape(dtype: str) -> Callable[..., int]:
    """Return ``run`` for networks of a dtype."""
    return compile_cached(make_tape(sources()), signature(dtype), parallel=True)
