"""The container that loaders return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples for training and, if the files have them, for testing.

    Attributes
    ----------
    train : tuple of ndarray
        ``(x, y)``: x has one example per row (with any further dimensions), y one label per row.
    test : tuple of ndarray or None
        ``(x, y)`` of the test set, None if there is no test set.
    columns : tuple of str or None
        The names of the columns of x, for a ``.csv`` file with a header and without pixels.
    """

    train: Pair
    test: Pair | None = None
    columns: tuple[str, ...] | None = None


def check_lengths(path: Path, x: np.ndarray, name: str, y: np.ndarray) -> None:
    """Raise a ValueError unless x and y have the same number of rows, at least one."""
    if len(x) != len(y):
        raise ValueError(
            f"{path}: found {len(x)} examples but {len(y)} labels in {name}, "
            "expected one label for each example"
        )
    if not len(x):
        raise ValueError(f"{path}: found no examples, expected at least one")
