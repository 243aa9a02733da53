"""One call of ``fit`` at work: the loop over epochs, and what happens between them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .backends import Trainer
from .callbacks import Callback, stops
from .history import Record
from .progress import Reporter, reporter
from .spec import Schedule, as_schedule

if TYPE_CHECKING:
    from .network import Network

Array = np.ndarray


class Rates:
    """The learning rate of every step of a call of ``fit``."""

    def __init__(self, schedule: Any, learning_rate: float, start: int, stop: int) -> None:
        self._function: Callable[[float], float] | None = None
        self._schedule = Schedule()
        if callable(schedule) and not isinstance(schedule, (type, Schedule)):
            self._function = schedule
        else:
            self._schedule = as_schedule(schedule)
        self._learning_rate, self._start, self._stop = learning_rate, start, stop

    def of(self, epoch: int, steps: int) -> Array:
        """Return the rates of the steps of an epoch, float64."""
        times = epoch + np.arange(steps) / steps
        if self._function is not None:
            factors = np.array([float(self._function(t)) for t in times.tolist()])
        else:
            found = self._schedule.factors(times, self._start, self._stop)
            factors = np.asarray(found, dtype=np.float64)
        if factors.shape != (steps,) or not 0 <= factors.min() <= factors.max() < math.inf:
            raise ValueError(
                f"schedule: found factors {factors!r} in epoch {epoch}, expected {steps} finite "
                "numbers of 0 or more, one for each step"
            )
        return self._learning_rate * factors


class Loop:
    """One call of ``fit`` at work."""

    def __init__(
        self,
        net: Network,
        trainer: Trainer,
        rows: int,
        batch_size: int,
        rates: Rates,
        calls: list[Callback],
        held: tuple[Array, Array] | None,
    ) -> None:
        self.net, self.trainer = net, trainer
        self.rows, self.batch_size = rows, batch_size
        self.steps = -(-rows // batch_size)
        self.rates = rates
        self.calls = calls
        self.stepwise = [c for c in calls if c.steps is not None]
        self.held = held
        self.report: Reporter | None = None
        self.stop = False

    def run(self, epochs: int, progress: Any) -> None:
        net, first, warned = self.net, self.net.epochs, False
        self.report = reporter(progress, first, first + epochs)
        net._set_writeable(False)
        try:
            for call in self.calls:
                call.on_fit_begin(net)
            while net.epochs < first + epochs and not self.stop:
                record = self.epoch()
                if record is None:
                    break
                net.history.append(record)
                net.epochs += 1
                if not (math.isfinite(record.loss) or warned):
                    warned = True
                    warnings.warn(
                        f"fit: the loss is {record.loss} after epoch {record.epoch}: training has "
                        "diverged; try a lower learning_rate",
                        RuntimeWarning,
                        stacklevel=4,
                    )
                if self.report is not None:
                    self.report.show(record)
                if self.calls:
                    self.trainer.store()
                    for call in self.calls:
                        self.stop |= stops(call.on_epoch_end(net, record))
        finally:
            self.trainer.store()
            net._set_writeable(True)
            if self.report is not None:
                self.report.close()
        for call in self.calls:
            call.on_fit_end(net)

    def epoch(self) -> Record | None:
        """Train an epoch; None if a callback stopped it before its end."""
        net = self.net
        rates = self.rates.of(net.epochs, self.steps)
        first, loss, right, seconds = 0, 0.0, 0.0, 0.0

        def record() -> Record:
            n = min(first * self.batch_size, self.rows)
            return Record(
                epoch=net.epochs + 1,
                loss=loss / n,
                accuracy=_share(right, n),
                learning_rate=float(rates[first - 1]),
                seconds=seconds,
                samples_per_second=n / max(seconds, 1e-9),
                step=first,
                steps=self.steps,
            )

        while first < self.steps and not self.stop:
            count = self.steps - first
            for call in self.stepwise:
                count = min(count, call.steps - net.updates % call.steps)  # type: ignore[operator]
            if self.report is not None and self.report.slice is not None:
                count = min(count, self.report.slice)
            began = time.perf_counter()
            try:
                loss, right = self.trainer.steps(
                    net.epochs, first, rates[first : first + count], net.updates - net._state_began
                )
            finally:
                net.updates += self.trainer.done
            took = time.perf_counter() - began
            seconds += took
            first += count
            if self.report is not None:
                self.report.measure(count, took)
                if first < self.steps and self.report.is_due():
                    self.report.show(record())
            due = [c for c in self.stepwise if net.updates % c.steps == 0]  # type: ignore[operator]
            if due:
                self.trainer.store()
                for call in due:
                    self.stop |= stops(call.on_steps(net, record()))
        if first < self.steps:
            return None
        done = record()
        if self.held is None:
            return done
        held_loss, held_right = self.trainer.evaluate(*self.held)
        n = len(self.held[0])
        return done._replace(
            validation_loss=held_loss / n, validation_accuracy=_share(held_right, n)
        )


def _share(right: float, n: int) -> float | None:
    return None if math.isnan(right) else right / n
