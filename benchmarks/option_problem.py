"""The data on which the options are measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case


@dataclass(frozen=True, eq=False)
class Problem:
    """The data of a case, and what options need of it.

    ``x`` is (n, n_in), ``y`` (n,) labels; ``folder`` is for files.
    """

    case: Case
    x: np.ndarray
    y: np.ndarray
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of ``fit`` that every measurement has."""
        return {
            "batch_size": self.case.batch_size,
            "learning_rate": self.case.learning_rate,
            "progress": False,
        }

    @cached_property
    def values(self) -> np.ndarray:
        """Positive targets of a regression (n,)."""
        noise = np.random.default_rng(1).random(len(self.y))
        return ((1 + self.y + noise) / (2 + self.y.max())).astype(np.float32)

    @cached_property
    def pair(self) -> np.ndarray:
        """Two columns of values (n, 2)."""
        return np.stack([self.values, self.values[::-1]], axis=1)

    @cached_property
    def incomplete(self) -> np.ndarray:
        """``pair``, of which 30 % are missing."""
        gaps = np.random.default_rng(2).random(self.pair.shape) < 0.3
        return np.where(gaps, np.nan, self.pair).astype(np.float32)

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights of rows (n,)."""
        return np.random.default_rng(3).uniform(0.5, 2, len(self.y))

    @cached_property
    def sparse(self) -> Any:
        """x as a compressed matrix, as floats."""
        from scipy.sparse import csr_matrix

        scaled = self.x / np.float32(255) if self.x.dtype == np.uint8 else self.x
        return csr_matrix(scaled.astype(np.float32))
