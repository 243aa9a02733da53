"""Counter-based random numbers: Philox 4x32-10 in NumPy, and the draws that pynn makes with it.

A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
section 3.3) is a keyed bijection of a 128-bit counter. The key is the network's seed; the counter
(block, row, epoch, stream) identifies the use of the number. Every number can be computed
independently, so that it depends neither on the order of execution nor on the number of threads,
and is identical in every backend.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

SHUFFLE = 0
"""Stream of the permutation of the rows in an epoch."""
DROPOUT = 1
"""Stream of the first hidden layer's dropout; hidden layer k uses DROPOUT + k."""
INPUTS = -1
"""Number of the inputs where draws are numbered by the hidden layer that they are for."""
INITIAL = 1 << 16
"""Stream of the first layer's initial weights; layer k uses INITIAL + 2k, its biases one more."""

NOISE = 1 << 24
"""Stream of the Gaussian noise of the inputs; hidden layer k uses NOISE + 1 + k."""

INPUT_DROPOUT = 0xFFFFFFFD
"""Stream of the dropout of the inputs."""
BLOCKS = 0xFFFFFFFE
"""Stream of the order of blocks of rows."""
HELD_OUT = 0xFFFFFFFF
"""Stream that selects the rows held out for validation."""

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(seed: int, block: np.ndarray, row: object, epoch: int, stream: int) -> np.ndarray:
    """Return four 32-bit words for each counter.

    Parameters
    ----------
    seed
        The 64-bit key.
    block, row
        First two words of the counter, broadcast against each other.
    epoch, stream
        Last two words of the counter.

    Returns
    -------
    uint32 array of the broadcast shape with a last axis of 4.
    """
    c0, c1 = np.broadcast_arrays(
        np.asarray(block, dtype=np.uint64), np.asarray(row, dtype=np.uint64)
    )
    c2 = np.full_like(c0, epoch & 0xFFFFFFFF)
    c3 = np.full_like(c0, stream & 0xFFFFFFFF)
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0 = (p1 >> _HALF) ^ c1 ^ np.uint64(k0)
        c2 = (p0 >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(seed: int, count: int, epoch: int, stream: int, row: int = 0) -> np.ndarray:
    """Return the first ``count`` words of one stream, of blocks 0, 1, 2, … in order."""
    blocks = (count + 3) // 4
    out = np.empty((blocks, 4), dtype=np.uint32)
    # In parts of 2^15 blocks: intermediate arrays of 256 KiB stay in the cache.
    part = 1 << 15
    for start in range(0, blocks, part):
        block = np.arange(start, min(start + part, blocks), dtype=np.uint64)
        out[start : start + part] = philox(seed, block, row, epoch, stream)
    return out.reshape(-1)[:count]


class Words(Protocol):
    """A function with the results of `words`, which compiled code computes faster."""

    def __call__(self, seed: int, count: int, epoch: int, stream: int) -> np.ndarray:
        """Return the first ``count`` words of one stream."""
        ...


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order of the ``n`` rows in an epoch, int64.

    Fisher-Yates from the last position (Durstenfeld 1964): position i is swapped with
    j = ⌊word[i]·(i + 1) / 2³²⌋ ≤ i. The bias of j is below n / 2³².
    """
    word = words(seed, n, epoch, SHUFFLE).astype(np.uint64)
    partner = ((word * np.arange(1, n + 1, dtype=np.uint64)) >> _HALF).tolist()
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = partner[i]
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.int64)


def permutation_in_blocks(seed: int, epoch: int, n: int, block: int, window: int) -> np.ndarray:
    """Return an order of ``n`` rows that reads them block by block, int64.

    The blocks of ``block`` rows are put in random order; then the rows of every ``window``
    consecutive blocks are shuffled together. Both orders sort by random words.
    """
    word = words(seed, -(-n // block), epoch, BLOCKS)
    first = np.argsort(word, kind="stable").astype(np.int64) * block
    order = (first[:, None] + np.arange(block)).reshape(-1)
    order = order[order < n]
    word = words(seed, n, epoch, SHUFFLE)
    for start in range(0, n, block * window):
        part = slice(start, start + block * window)
        order[part] = order[part][np.argsort(word[part], kind="stable")]
    return order


def held_out(seed: int, n: int, count: int) -> np.ndarray:
    """Return a mask (n,) of the ``count`` rows that are held out, those with the smallest words."""
    out = np.zeros(n, dtype=bool)
    out[np.argsort(words(seed, n, 0, HELD_OUT), kind="stable")[:count]] = True
    return out


def dropout_threshold(rate: float) -> int:
    """Return the smallest word for which a unit is kept."""
    return min(round(rate * 2**32), 2**32 - 1)


def dropout_mask(
    seed: int, epoch: int, layer: int, first_row: int, shape: tuple[int, int], rate: float
) -> np.ndarray:
    """Return a mask (rows, units) of the units of hidden layer ``layer``, or of the ``INPUTS``,
    that are kept.

    Rows are numbered by their position in the epoch's order, starting at ``first_row``; unit u uses
    word u mod 4 of block u div 4.
    """
    m, n = shape
    blocks = np.arange((n + 3) // 4, dtype=np.uint64)[None, :]
    rows = np.arange(first_row, first_row + m, dtype=np.uint64)[:, None]
    stream = INPUT_DROPOUT if layer == INPUTS else DROPOUT + layer
    word = philox(seed, blocks, rows, epoch, stream).reshape(m, -1)[:, :n]
    return word >= np.uint32(dropout_threshold(rate))


def noise(seed: int, epoch: int, layer: int, first_row: int, shape: tuple[int, int]) -> np.ndarray:
    """Return values (rows, units) from N(0, 1) for hidden layer ``layer`` or the ``INPUTS``.

    Box and Muller (1958) with 23 bits for the radius and 24 for the angle, which float32 holds
    exactly, so that every dtype and backend computes with equal numbers. In each group of 64 units,
    word u < 32 gives the radius and word u + 32 the angle of units u and u + 32. The largest value
    is 5.77. Rows are numbered as in ``dropout_mask``.
    """
    m, n = shape
    blocks = np.arange(16 * -(-n // 64), dtype=np.uint64)[None, :]
    rows = np.arange(first_row, first_row + m, dtype=np.uint64)[:, None]
    word = philox(seed, blocks, rows, epoch, NOISE + 1 + layer).reshape(m, -1, 2, 32)
    radius = np.sqrt(-2.0 * np.log(((word[:, :, 0] >> np.uint32(9)) + 0.5) * 2.0**-23))
    angle = (np.pi * 2.0**-23) * (word[:, :, 1].view(np.int32) >> 8)
    found = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return found.reshape(m, -1)[:, :n]


def uniform(seed: int, count: int, stream: int, words: Words = words) -> np.ndarray:
    """Return ``count`` float64 values in (0, 1): (word + ½) / 2³²."""
    return (words(seed, count, 0, stream) + 0.5) * 2.0**-32


def normal(seed: int, count: int, stream: int, words: Words = words) -> np.ndarray:
    """Return ``count`` float64 values from N(0, 1) by Box and Muller (1958)."""
    u = uniform(seed, 2 * ((count + 1) // 2), stream, words).reshape(2, -1)
    radius = np.sqrt(-2.0 * np.log(u[0]))
    angle = (2.0 * np.pi) * u[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
