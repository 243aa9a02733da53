"""The contract between a network and a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..arrays.sparse import Sparse
from ..spec.architecture import Architecture
from ..spec.optimizers import Optimizer

BACKENDS = ("cython", "numba", "numpy")


class Trainer(Protocol):
    """Parameters and optimizer state at work on one data set."""

    done: int
    """Updates that the last call of ``steps`` made, whether it returned or was interrupted."""
    diverged: bool
    """Whether it ended before an update, for a loss that was not finite (with ``watch``)."""
    sums: tuple[float, float]
    """What ``steps`` returns, for the whole batches of an epoch that was broken off; or, set in a
    new trainer, what a later ``steps`` with ``first`` above 0 goes on from."""

    finite: bool
    """Whether all that was last taken in, or stored, is known to be finite."""
    apart: bool
    """Whether it works on copies of the vectors it was made with, which only ``store`` changes."""

    def steps(self, epoch: int, first: int, rates: np.ndarray, updates: int) -> tuple[float, float]:
        """Train on batches ``first``, ``first + 1``, … of ``epoch``, one for each learning rate.

        ``epoch`` keys the permutation and dropout; ``rates`` is float64; ``updates`` is how many
        updates the optimizer state has seen before. Returns the sum of the rows' losses, without
        the L2 term, and the number of rows classified rightly (NaN for regression), both as the
        network stood at each batch and both since batch 0 of the epoch, so that they do not depend
        on how an epoch is cut into calls. Answers KeyboardInterrupt within a second, between two
        updates; ``store`` then gives the parameters of the last whole one. A batch of weighed rows
        adds their weighed mean, times their number, to the sum.
        """
        ...

    def order(self, rows: np.ndarray) -> None:
        """Take the rows in this order (n,), int64, from the next epoch on, instead of shuffling."""
        ...

    def evaluate(self, x: np.ndarray | Sparse, y: np.ndarray) -> tuple[float, float]:
        """Sum of losses and number right with the parameters as they stand, without dropout."""
        ...

    def sound(self) -> bool:
        """Whether all that ``store`` would write is known to be finite."""
        ...

    def store(self) -> None:
        """Write parameters and state back to the vectors the trainer was made with."""
        ...


class Engine(Protocol):
    """One architecture on one backend."""

    name: str
    threads: int

    def forward(self, parameters: np.ndarray, x: np.ndarray | Sparse) -> np.ndarray:
        """Outputs (n, n_out), after the output activation."""
        ...

    def evaluate(
        self, parameters: np.ndarray, x: np.ndarray | Sparse, y: np.ndarray
    ) -> tuple[float, float]:
        """Sum of the rows' losses and number of rows classified rightly (NaN for regression)."""
        ...

    def objective(
        self,
        x: np.ndarray | Sparse,
        y: np.ndarray,
        *,
        l2: float,
        sample_weight: np.ndarray | None = None,
        convention: str = "pynn",
    ) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """Return a function of the parameters: mean loss over the rows plus ½·l2·Σw², and its
        gradient, flat, without dropout."""
        ...

    def trainer(
        self,
        parameters: np.ndarray,
        state: list[np.ndarray],
        x: np.ndarray | Sparse,
        y: np.ndarray,
        *,
        optimizer: Optimizer,
        batch_size: int,
        l2: float,
        seed: int,
        shuffle: bool,
        sample_weight: np.ndarray | None = None,
        convention: str = "pynn",
        watch: bool = False,
    ) -> Trainer:
        """Set up a run of ``fit``."""
        ...


def why_numba(net: Architecture) -> str:
    """Return what tells a user who never asked for numba why an error speaks of it."""
    return f" (taken for {net.functions[0]!r}, a function of your own)" if net.functions else ""
