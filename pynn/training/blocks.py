"""Shuffling in blocks: for data that do not fit into memory, read at the speed of the disk.

Reading single rows at random positions of a memory-mapped file costs one disk access per row.
Instead, whole blocks are read in a random order, and the rows of a window of blocks are shuffled,
while the operating system already reads the blocks of the next window.
"""

from __future__ import annotations

import mmap

import numpy as np

from ..arrays.vectors import mapped_file
from ..spec import philox

BLOCK_BYTES = 1 << 20
"""Bytes per block: reading them takes much longer than seeking to them."""
WINDOW = 64
"""Blocks per window, whose rows are shuffled together."""


class Blocks:
    """The order in which the rows of ``x`` are read, and reading ahead in that order."""

    def __init__(self, x: np.ndarray, seed: int) -> None:
        self._seed, self._n = seed, len(x)
        self._row = max(1, x.nbytes // len(x))
        self._block = min(self._n, max(1, BLOCK_BYTES // self._row))
        self.rows = self._block * WINDOW
        self._map, self._offset = _mapping(x)
        self._order = np.empty(0, np.int64)
        self._fetched: list[tuple[int, int]] = []

    def order(self, epoch: int) -> np.ndarray:
        """Return the indices of the rows in the order of an epoch, int64 (n,)."""
        self._order = philox.permutation_in_blocks(self._seed, epoch, self._n, self._block, WINDOW)
        return self._order

    def fetch(self, epoch: int, row: int) -> int:
        """Start reading the window of position ``row`` in the order, and the next window.

        Windows that were requested before are not requested again.

        Returns
        -------
        int
            Index of the window.
        """
        window = row // self.rows
        wanted = [(epoch, window), (epoch, window + 1)]
        if self._map is not None:
            for each in wanted:
                if each not in self._fetched:
                    self._fetch(self._map, each[1] * self.rows)
        self._fetched = wanted
        return window

    def _fetch(self, mapped: mmap.mmap, first: int) -> None:
        size = self._block * self._row
        for block in np.unique(self._order[first : first + self.rows] // self._block).tolist():
            start = self._offset + block * size
            stop = min(start + size, len(mapped))
            start -= start % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, start, stop - start)


def _mapping(x: np.ndarray) -> tuple[mmap.mmap | None, int]:
    """Return the mapped file with the rows of ``x``, if they are contiguous, and their offset."""
    base = mapped_file(x)
    if base is None or not x.flags.c_contiguous or not hasattr(base, "madvise"):
        return None, 0
    return base, x.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
