"""The container that loaders return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Dataset:
    """What `load` found: examples to train on and, where the files have them, to test on.

    Attributes
    ----------
    train : tuple of ndarray
        ``(x, y)``: x has one example in each row (any further dimensions), y one label for each.
    test : tuple of ndarray or None
        The same for the test set, if there is one.
    """

    train: Pair
    test: Pair | None = None


def _check_lengths(path: Path, x: np.ndarray, name: str, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise ValueError(
            f"{path}: found {len(x)} examples but {len(y)} labels in {name}, "
            "expected one label for each example"
        )
    if not len(x):
        raise ValueError(f"{path}: found no examples, expected at least one")
