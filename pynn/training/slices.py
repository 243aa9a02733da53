"""Parts of an epoch: the position in it, training one part, and where a part ends.

An epoch is trained in slices, so that callbacks, progress and checkpoints can run between two
steps. A slice ends at the latest where the next callback with ``steps`` is due; the cut does not
change the results. ``pynn.Network`` and ``pynn.sklearn`` both train with these functions::

    periods = [call.steps for call in stepwise]
    position = Position()
    while position.step < steps:
        count = until_due(updates, periods, steps - position.step)
        try:
            position = train_slice(trainer, epoch, position, rates, count, updates)
        finally:
            updates += trainer.done
        for call in due(stepwise, updates):
            call.on_steps(owner, position.record(epoch, rates, rows, batch_size))
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..backends.contract import Trainer
from .callbacks import Callback
from .history import Record

Array = np.ndarray


class Position(NamedTuple):
    """Position in an epoch: batches trained, the sums over their rows, and time spent.

    Attributes
    ----------
    step : int
        Batches trained.
    loss, right, weight : float
        The backend's ``Sums``: of the weighted losses, of the weights of rows classified correctly
        (NaN for regression), and of all weights. A row without a weight weighs 1.
    seconds : float
        Training time.
    """

    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    weight: float = 0.0
    seconds: float = 0.0

    def record(self, epoch: int, rates: Array, rows: int, batch_size: int) -> Record:
        """Return the record of epoch ``epoch`` (counted from 0) so far; ``rates`` are (steps,)."""
        n = min(self.step * batch_size, rows)
        return Record(
            epoch=epoch + 1,
            loss=self.loss / self.weight if self.weight else math.nan,
            accuracy=share(self.right, self.weight),
            learning_rate=float(rates[self.step - 1]),
            seconds=self.seconds,
            samples_per_second=n / max(self.seconds, 1e-9),
            step=self.step,
            steps=len(rates),
        )


def share(right: float, weight: float) -> float | None:
    """Return the accuracy; None for regression, and without weight."""
    return None if math.isnan(right) or weight == 0 else min(1.0, right / weight)


def train_slice(
    trainer: Trainer, epoch: int, position: Position, rates: Array, count: int, updates: int
) -> Position:
    """Train ``count`` batches from ``position`` on and return the position reached.

    Parameters
    ----------
    trainer : Trainer
        After an exception, its ``done`` is the number of completed steps.
    epoch : int
        Counted from 0.
    position : Position
        Where the slice begins.
    rates : ndarray (steps,)
        The learning rates of all steps of the epoch.
    count : int
        Number of batches.
    updates : int
        Number of updates that the optimizer state has had.
    """
    began = time.perf_counter()
    first = position.step
    sums = trainer.steps(epoch, first, rates[first : first + count], updates)
    seconds = position.seconds + time.perf_counter() - began
    return Position(first + trainer.done, *sums, seconds)


def until_due(updates: int, periods: Iterable[int], most: int) -> int:
    """Return the steps until the updates are a multiple of a period, but at most ``most``."""
    for period in periods:
        most = min(most, period - updates % period)
    return most


def due(calls: Iterable[Callback], updates: int) -> list[Callback]:
    """Return the callbacks whose ``on_steps`` is called after update number ``updates``."""
    return [call for call in calls if call.steps is not None and updates % call.steps == 0]
