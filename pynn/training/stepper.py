"""Training steps of one call of ``fit``, and the counters and the position that they change."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from ..backends.contract import Engine, Sums, Trainer
from .job import Job
from .model import Model
from .slices import Position, train_slice

Array = np.ndarray


class _Slice(NamedTuple):
    """State of the counters at the beginning of a slice."""

    updates: int
    position: Position
    began: float


class Stepper:
    """Trains a model step by step and keeps its counters consistent, also after an interrupt.

    Parameters
    ----------
    model : Model
        Trained through a backend's trainer; ``trainer.store`` writes the result to its vectors.
    engine : Engine
        Makes the trainer.
    vectors : list of ndarray (n_parameters,)
        Parameters and optimizer state, which the trainer reads and writes.
    job : Job
        Data and settings.
    position : Position
        Where the first epoch begins.

    Attributes
    ----------
    trainer : Trainer
        The backend's trainer.
    data, settings, blocks : Data, TrainerSettings, Blocks or None
        Those of the job.
    position : Position
        Position in the epoch ``model.epochs``.
    resumable : bool
        Whether training can resume from ``position``: it and the counters agree with the
        parameters, and no callback of this position is outstanding.
    rows, batch_size, steps : int
        Rows of x, rows per batch, and batches per epoch.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        vectors: list[Array],
        job: Job,
        position: Position,
    ) -> None:
        self.model, self.vectors, self._engine = model, vectors, engine
        self.data, self.settings, self.blocks = job.data, job.settings, job.blocks
        self.position, self.resumable = position, False
        self.rows, self.batch_size, self.steps = len(job.data.x), job.settings.batch_size, job.steps
        self._slice: _Slice | None = None
        self.restart()

    def restart(self) -> None:
        """Train from the vectors, which have been changed."""
        self._slice = None
        self.trainer = self.new_trainer()
        self._ordered_epoch = -1

    def new_trainer(self) -> Trainer:
        model = self.model
        flat, *state = self.vectors
        trainer = self._engine.trainer(flat, state, self.data, self.settings)
        self._profile = model.active_profile
        if self._profile is not None:
            self._profile._watch(trainer)
        return trainer

    def begin_epoch(self) -> None:
        """Continue the sums of an epoch that begins in its middle."""
        if self.position.step > 0:
            position = self.position
            self.trainer.sums = Sums(position.loss, position.right, position.weight)

    def train(self, rates: Array, count: int) -> float:
        """Train ``count`` steps of the current epoch and return the seconds that they took.

        ``rates`` (steps,) are those of the whole epoch. If training ends early, by an interrupt or
        a loss that is not finite, the counters include the steps that were completed.
        """
        model, position = self.model, self.position
        self._set_order()
        # An interrupt before the first step must not count the steps of the last slice again.
        self.trainer.done = 0
        self._slice = _Slice(model.updates, position, time.perf_counter())
        try:
            reached = train_slice(
                *(self.trainer, model.epochs, position, rates, count),
                model.updates - model.optimizer_began,
            )
        except BaseException:
            self.count()
            self._add_to_profile(position)
            raise
        self._count(reached)
        self._add_to_profile(position)
        return reached.seconds - position.seconds

    def count(self) -> None:
        """Count the completed steps of an interrupted slice; calling it again changes nothing.

        An interrupt can arrive before, between and after the lines of ``train`` that count.
        """
        if self._slice is None:
            return
        position, began = self._slice.position, self._slice.began
        step = position.step + self.trainer.done
        sums = self.trainer.sums if step > 0 else Sums(0.0, 0.0, 0.0)
        seconds = position.seconds + time.perf_counter() - began
        self._count(Position(step, *sums, seconds))

    def _count(self, reached: Position) -> None:
        """End the slice at a position, in one step that no exception can divide."""
        assert self._slice is not None
        updates = self._slice.updates + self.trainer.done
        self.model.updates, self.position, self._slice = updates, reached, None

    def _add_to_profile(self, before: Position) -> None:
        if self._profile is not None:
            position = self.position
            rows = min(position.step * self.batch_size, self.rows) - before.step * self.batch_size
            seconds = position.seconds - before.seconds
            self._profile._add(self.trainer.done, rows, seconds)

    def _set_order(self) -> None:
        """Set the order of the rows of this epoch, for ``shuffle="blocks"``."""
        if self.blocks is not None and self._ordered_epoch != self.model.epochs:
            self.trainer.order(self.blocks.order(self.model.epochs))
            self._ordered_epoch = self.model.epochs

    def read_ahead(self) -> int:
        """Start reading the next blocks; return the steps until this must be called again."""
        assert self.blocks is not None
        self._set_order()
        step = self.position.step
        window = self.blocks.fetch(self.model.epochs, step * self.batch_size)
        return max(1, (window + 1) * self.blocks.rows // self.batch_size - step)
