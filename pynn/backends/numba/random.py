"""Philox counters, permutations and dropout."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from ...spec import philox
from .plan import kernel

M0, M1 = philox._M0, philox._M1
W0, W1 = np.uint64(philox._W0), np.uint64(philox._W1)
LOW, WORD = np.uint64(0xFFFFFFFF), np.uint64(32)


@kernel
def philox_words(seed, block, row, epoch, stream):
    """The four random words of a counter, as ``philox.philox``; all arguments are uint64."""
    c0, c1, c2, c3 = block, row, epoch & LOW, stream & LOW
    k0, k1 = seed & LOW, seed >> WORD
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c2 = (p1 >> WORD) ^ c1 ^ k0, (p0 >> WORD) ^ c3 ^ k1
        c1, c3 = p1 & LOW, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


def make_permutation(version):
    """Return ``permutation``; its machine code is cached for this ``version``."""

    def permutation(seed, epoch, n):
        """The order of the rows in an epoch, as ``philox.permutation``."""
        _ = version  # the values of a closure are part of the key of Numba's cache
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

    return permutation


@kernel
def drop_inputs(h, seed, row, epoch, threshold, kept):
    """Multiply the inputs h (n,) of a row by 0 where they are dropped, else by ``kept``."""
    zero, n, stream = h.dtype.type(0), len(h), np.uint64(philox.INPUT_DROPOUT)
    for block in range((n + 3) // 4):
        words = philox_words(seed, np.uint64(block), row, epoch, stream)
        i = 4 * block
        h[i] *= kept if words[0] >= threshold else zero
        if i + 1 < n:
            h[i + 1] *= kept if words[1] >= threshold else zero
        if i + 2 < n:
            h[i + 2] *= kept if words[2] >= threshold else zero
        if i + 3 < n:
            h[i + 3] *= kept if words[3] >= threshold else zero


@kernel
def dropout(h, z, n, seed, row, epoch, stream, threshold, kept):
    """Multiply a row's h and f'(z) by 0 where a unit is dropped, and by ``kept`` elsewhere."""
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
