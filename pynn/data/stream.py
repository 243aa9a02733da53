"""Sources of rows that are read part by part: for data that do not fit into memory.

A source knows where rows are and reads them; ``training/stream.py`` checks, shuffles and trains on
them. Parts are the units of the storage, such as row groups of Parquet files; they are read in a
random order if the source has more than one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray

BUFFER_BYTES = 1 << 26
"""Default size of a window: several row groups, and little memory."""


class Chunk(NamedTuple):
    """Some consecutive rows of a part."""

    x: Any
    """Inputs (m, n_in), or None if they were not asked for."""
    y: Any
    """Labels or targets, or None."""
    weight: Any
    """Sample weights (m,), or None."""
    place: str
    """The file, partition or batch, for messages."""
    first: int = 0
    """The number of the first row there."""
    targets: tuple[str, ...] = ()
    """The names of the columns of y, for messages."""
    weights: str | None = None
    """The name of the column of weights."""


class Source(ABC):
    """Rows that are read part by part, as often as needed.

    Attributes
    ----------
    columns : tuple of str or None
        The names of the columns of x.
    has_targets, has_weights : bool
        Whether there are targets and sample weights.
    reorders : bool
        Whether training may shuffle the rows; otherwise the source determines their order.
    repeats : bool
        Whether every pass reads the same rows, so that parts can be read again.
    batches : bool
        Whether the chunks are the batches of training.
    buffer_bytes : int
        Bytes of x in a window, whose rows are shuffled together. Training needs about three times
        as much memory, and the memory of one part.
    """

    columns: tuple[str, ...] | None = None
    has_targets = True
    has_weights = False
    reorders = True
    repeats = True
    batches = False
    buffer_bytes = BUFFER_BYTES

    @abstractmethod
    def parts(self) -> list[int | None]:
        """Return the number of rows of each part; None if it is not known before reading."""

    @abstractmethod
    def read(self, part: int, x: bool = True) -> Iterator[Chunk]:
        """Read the rows of a part; without ``x`` only targets and weights, if there are any, and if
        that is faster."""

    def fetch(self, part: int) -> None:
        """Let the operating system begin to read a part, if it can, without waiting for it."""
        return

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Return what recognises the data, for checkpoints."""

    def prepared(
        self, columns: tuple[str, ...] | None, table: Any, missing: bool = False
    ) -> Source:
        """Return the source as a network reads it that has names of columns and a table, and of
        which targets may be ``missing``."""
        return self

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the inputs, for messages."""
        return self.columns


def digest(*values: Any) -> str:
    """Return the SHA-256 of the texts of some values."""
    import hashlib

    return hashlib.sha256(repr(values).encode()).hexdigest()
