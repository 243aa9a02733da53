"""Scratch memory that is reused by later calls.

Memory returned to the operating system is slow to allocate again: each page is cleared, and a
virtual machine may have returned it to its host. Without reuse, a fit of 6 million weights spends
a third of a second on allocation.
"""

from __future__ import annotations

import os

import numpy as np

Array = np.ndarray

LEAST = 1 << 20
"""Smallest block in bytes that is kept; the allocator reuses smaller ones itself."""


def _most() -> int:
    """Return 1/16 of the machine's memory, at most 1 GiB; 256 MiB if its size is unknown."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 256 << 20
    return min(physical // 16, 1 << 30)


MOST = _most()
"""Maximum total of kept blocks in bytes."""

# Every access below is a single atomic list operation, since threads may switch between any two.
_kept: list[Array] = []


class Memory:
    """A block of uninitialised memory, in use until this object is deleted.

    Attributes
    ----------
    bytes : ndarray of uint8
        At least the requested size. Views of it must not outlive this object.

    Raises
    ------
    MemoryError
        If the system cannot provide it.
    """

    def __init__(self, size: int) -> None:
        self.bytes = _take(size)

    def __del__(self, least: int = LEAST, most: int = MOST, kept: list[Array] = _kept) -> None:
        mine = self.__dict__.get("bytes")
        if mine is None or not least <= len(mine) <= most:
            return
        kept.append(mine)
        while sum(len(a) for a in kept.copy()) > most:
            try:
                kept.pop(0)
            except IndexError:
                break


def _take(size: int) -> Array:
    if size >= LEAST:
        for _ in range(len(_kept)):
            try:
                found = _kept.pop()
            except IndexError:
                break
            if size <= len(found) <= 2 * size:
                return found
            _kept.insert(0, found)
    # np.empty requests huge pages for large blocks, which are faster to allocate and to address.
    return np.empty(size, np.uint8)
