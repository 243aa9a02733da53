"""The mini-batch loop."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange, types

from ...spec import losses, names, philox
from ...version import __version__
from .passes import place, rows_pass
from .plan import (
    ALL,
    AT_APPLY,
    AT_LOSS,
    AT_SUM,
    BATCH,
    BY_ROWS,
    CHUNK,
    CLIPS,
    DIVERGED,
    DONE,
    FORWARD,
    GRADIENT,
    HALT,
    LIMITS_UNITS,
    OPTIONS,
    ROWS,
    STAGE,
    TASK,
    TRAIN,
    WATCH,
    WEIGHTED,
    kernel,
    signature,
)
from .random import make_permutation
from .update import clipped_pass, set_clip_factor, set_step, units_pass, weights_pass

Array = np.ndarray


@kernel
def all_finite(p, m):
    """Whether the losses of m rows are finite."""
    total = 0.0
    for r in range(m):
        total += p.losses[r] * 0.0  # NaN if and only if one is NaN or infinite
    return math.isfinite(total)


@kernel
def begin_batch(p, start, end):
    """Set the sums of the batch at positions start to end: its weight, and no losses yet."""
    p.sums[3] = p.sums[4] = 0
    p.sums[5] = end - start
    if p.settings[WEIGHTED] and not p.settings[BY_ROWS]:
        p.sums[5] = 0
        for position in range(start, end):
            p.sums[5] += p.sample_weight[place(p, position)]


@kernel
def add_up(p, position, m, last):
    """Add the m rows of a chunk to the sums of its batch, and a whole batch to the total."""
    for r in range(m):
        p.sums[3] += p.losses[r]
        if p.settings[WEIGHTED] and not p.settings[BY_ROWS]:
            p.sums[4] += p.correct[r] * p.sample_weight[place(p, position + r)]
        else:
            p.sums[4] += p.correct[r]
    if last:
        for k in range(3):
            p.sums[k] += p.sums[3 + k]


def sources() -> int:
    """Return a number that changes with the code that ``run`` is compiled from.

    Numba's cache only watches the file of the cached function, not the files of the functions that
    it calls.
    """
    digest = hashlib.sha256(__version__.encode())
    others = [Path(str(module.__file__)) for module in (philox, names, losses)]
    for path in (*sorted(Path(__file__).parent.glob("*.py")), *others):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "little")


def make_run(version):
    """Return the mini-batch loop; its machine code is cached for this ``version``."""

    def run(p, position, stop, chunks, threads):
        """Take a number of chunks from a position of the epoch; return the position reached."""
        _ = version  # the values of a closure are part of the key of Numba's cache
        s = p.settings
        # Variables, since literals would have the passes compiled again for these numbers.
        none, one = np.int64(0), np.int64(1)
        while position < stop and chunks > 0:
            batch = position // s[BATCH]
            start = batch * s[BATCH]
            end = min(start + s[BATCH], s[ROWS])
            m = min(s[CHUNK], end - position)
            before = 1 if position > start else 0
            stage = s[STAGE]  # ALL, except for tapes
            updates = s[TASK] == TRAIN and stage in (ALL, AT_APPLY)
            last = position + m == end and updates
            if position == start:
                begin_batch(p, start, end)
            weight = p.sums[5]
            if stage >= AT_SUM:
                pass
            elif threads == 1:
                rows_pass(p, none, one, position, m, weight)
            else:
                for part in prange(threads):
                    rows_pass(p, np.int64(part), threads, position, m, weight)
            if s[WATCH] and not all_finite(p, m):
                s[DIVERGED] = 1
                break
            if s[TASK] != FORWARD and stage in (ALL, AT_LOSS):
                add_up(p, position, m, position + m == end)
            if s[TASK] >= GRADIENT and weight != 0 and (stage == ALL or stage >= AT_SUM):
                if last:
                    set_step(p, batch)
                if stage == AT_APPLY:
                    pass
                elif threads == 1:
                    weights_pass(p, none, one, m, before, last)
                else:
                    for part in prange(threads):
                        weights_pass(p, np.int64(part), threads, m, before, last)
                if last and s[CLIPS]:
                    if stage == ALL:
                        set_clip_factor(p)
                    if threads == 1:
                        clipped_pass(p, none, one)
                    else:
                        for part in prange(threads):
                            clipped_pass(p, np.int64(part), threads)
                if last and s[LIMITS_UNITS]:
                    if threads == 1:
                        units_pass(p, none, one)
                    else:
                        for part in prange(threads):
                            units_pass(p, np.int64(part), threads)
            if last:
                s[DONE] += 1
            position += m
            chunks -= 1
            if s[HALT]:  # set by another thread while this runs
                break
        return position

    return run


def compile_cached(
    function: Callable[..., Any], signature: Any, **options: Any
) -> Callable[..., Any]:
    """Compile for one signature, with the machine code in Numba's cache if it has a folder."""
    options |= OPTIONS
    try:
        return njit([signature], cache=True, **options)(function)
    except RuntimeError as error:
        if "cache" not in str(error):
            raise
        return njit([signature], **options)(function)


@functools.cache
def compiled_run(dtype: str) -> Callable[..., int]:
    """Return ``run`` for networks of a dtype."""
    return compile_cached(make_run(sources()), signature(dtype), parallel=True)


@functools.cache
def compiled_permutation() -> Callable[[np.uint64, np.uint64, int], Array]:
    """Return ``permutation``, compiled."""
    return compile_cached(
        make_permutation(sources()), types.int64[::1](types.uint64, types.uint64, types.int64)
    )
