"""The mini-batch loop."""

# The types of kernels are Numba's business.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange, types

from .passes import rows_pass
from .plan import (
    BATCH,
    CHUNK,
    DIVERGED,
    DONE,
    FORWARD,
    GRADIENT,
    HALT,
    OPTIONS,
    ROWS,
    TASK,
    TRAIN,
    WATCH,
    _signature,
    kernel,
)
from .random import permutation
from .update import set_step, weights_pass

Array = np.ndarray


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
