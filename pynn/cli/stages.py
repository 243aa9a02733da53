"""What the stages of ``pynn train`` hand on: the prepared training, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ..data.cells import Cells
    from ..data.dataset import Pair
    from ..network import Network
    from ..training.range_test import LearningRates
    from .folder import Data


@dataclass(frozen=True)
class Setup:
    """Everything that is trained and measured."""

    data: Data
    net: Network
    rows: Pair
    """The arguments x and y of ``fit``."""
    settings: dict[str, Any]
    """Further arguments of ``fit``."""
    tested: str
    """``"test"``, or ``"validation"`` if the data have no test set."""
    test: Pair
    """The rows to measure the trained network on."""
    test_weights: np.ndarray | None = None
    """Their sample weights."""
    places: Callable[[], Mapping[str, Cells]] = dict
    """Returns where the rows of a table are, for errors, by argument of ``fit``."""
    found: LearningRates | None = None
    """Result of the range test that chose the learning rate."""
    began: list[int] = field(default_factory=list)
    """The number of epochs when training began, also after it was resumed."""


class Outcome(NamedTuple):
    """How the training ended."""

    seconds: float
    exit_code: int
    """Exit code of the process if a signal stopped the training, else 0."""
    diverged: str
    """Message of the DivergenceError, empty if the training did not diverge."""
