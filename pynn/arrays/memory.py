"""Working memory of one call that is kept for the next.

What goes back to the system is slow to come again: each page of it is cleared anew, and a virtual
machine may have given it to its host in the meantime. A fit of 6 million weights then spends
a third of a second on getting the same memory back.
"""

from __future__ import annotations

import os

import numpy as np

Array = np.ndarray

LEAST = 1 << 20
"""Bytes from which memory is kept; the allocator itself does well with less."""


def _most() -> int:
    """Return a sixteenth of the machine's memory, at most 1 GiB; 256 MiB if it does not tell."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 256 << 20
    return min(physical // 16, 1 << 30)


MOST = _most()
"""Bytes that are kept at most, in all."""

# Each step below is one operation on this list: threads may take turns between any two of them.
_kept: list[Array] = []


class Memory:
    """So many bytes of no particular value, in use for as long as this lives.

    Attributes
    ----------
    bytes : ndarray of uint8
        At least as many as were asked for. Views of it must not outlive this.

    Raises
    ------
    MemoryError
        If the system does not have them.
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
    # NumPy asks for huge pages where much is wanted: they take less time to get and to find.
    return np.empty(size, np.uint8)
