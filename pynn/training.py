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
from .checkpoint import Place, Saver, Taken, keeps
from .history import Record
from .progress import Reporter, reporter
from .spec import Schedule, as_schedule

if TYPE_CHECKING:
    from .network import Network

Array = np.ndarray


class Rates:
    """The learning rate of every step of a call of ``fit``."""

    def __init__(self, schedule: Any, learning_rate: float, start: int, stop: int) -> None:
        self.function: Callable[[float], float] | None = None
        self.schedule = Schedule()
        if callable(schedule) and not isinstance(schedule, (type, Schedule)):
            self.function = schedule
        else:
            self.schedule = as_schedule(schedule)
        self._learning_rate, self._start, self._stop = learning_rate, start, stop

    def of(self, epoch: int, steps: int) -> Array:
        """Return the rates of the steps of an epoch, float64."""
        times = epoch + np.arange(steps) / steps
        if self.function is not None:
            factors = np.array([float(self.function(t)) for t in times.tolist()])
        else:
            found = self.schedule.factors(times, self._start, self._stop)
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
        saver: Saver | None = None,
        taken: Taken | None = None,
    ) -> None:
        self.net, self.trainer = net, trainer
        self.rows, self.batch_size = rows, batch_size
        self.steps = -(-rows // batch_size)
        self.rates = rates
        self.calls = calls
        self.stepwise = [c for c in calls if c.steps is not None]
        self.held = held
        self.report: Reporter | None = None
        self.pace: list[Reporter] = []
        self.saver, self.taken = saver, taken
        self.every = [c.steps for c in self.stepwise if c.steps is not None]
        if saver is not None and saver.checkpoint.steps is not None:
            self.every.append(saver.checkpoint.steps)
        self.place = Place() if taken is None else taken.place
        self.stop = taken is not None and taken.stopped

    def run(self, start: int, stop: int, progress: Any) -> None:
        net, warned = self.net, False
        self.report = reporter(progress, start, stop)
        if self.report is not None:
            self.pace.append(self.report)
        if self.saver is not None and self.saver.checkpoint.seconds is not None:
            # Slices as short as those of a report, so that there is a moment to look at the clock.
            self.pace.append(Reporter(lambda record: None))
        net._set_writeable(False)
        try:
            for call in self.calls:
                # What had a state was restored when the checkpoint was read.
                if self.taken is None or not keeps(call):
                    call.on_fit_begin(net)
            while net.epochs < stop and not self.stop:
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
                if self.saver is not None and net.epochs < stop and not self.stop:
                    self.save_if_due(Place(), True)
            taken = self.taken
            as_it_was = taken is not None and taken.ended and taken.net.updates == net.updates
            if self.saver is not None and not as_it_was:
                self.save(Place(), ended=True)
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
        (first, loss, right, seconds), self.place = self.place, Place()
        if first > 0:
            self.trainer.sums = loss, right

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
            for every in self.every:
                count = min(count, every - net.updates % every)
            for pace in self.pace:
                count = min(count, pace.slice or count)
            began = time.perf_counter()
            try:
                loss, right = self.train(first, rates[first : first + count])
            except (KeyboardInterrupt, SystemExit):
                self.save_broken_off(first, count, seconds + time.perf_counter() - began)
                raise
            took = time.perf_counter() - began
            seconds += took
            first += count
            for pace in self.pace:
                pace.measure(count, took)
            if self.report is not None and first < self.steps and self.report.is_due():
                self.report.show(record())
            due = [c for c in self.stepwise if net.updates % c.steps == 0]  # type: ignore[operator]
            if due:
                self.trainer.store()
                for call in due:
                    self.stop |= stops(call.on_steps(net, record()))
            if self.saver is not None and first < self.steps and not self.stop:
                self.save_if_due(Place(first, loss, right, seconds), False)
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

    def train(self, first: int, rates: Array) -> tuple[float, float]:
        net = self.net
        try:
            return self.trainer.steps(net.epochs, first, rates, net.updates - net._state_began)
        finally:
            net.updates += self.trainer.done

    # --- Checkpoints ------------------------------------------------------------------------------

    def save_if_due(self, place: Place, whole_epoch: bool) -> None:
        if self.saver is not None and self.saver.is_due(self.net, whole_epoch):
            self.save(place)

    def save_broken_off(self, first: int, count: int, seconds: float) -> None:
        """Keep what was trained before an interrupt, unless a callback would miss its turn."""
        done = self.trainer.done
        due = [c for c in self.stepwise if self.net.updates % (c.steps or 1) == 0]
        if self.saver is None or (due and done == count):
            return
        loss, right = self.trainer.sums if first + done > 0 else (0.0, 0.0)
        self.save(Place(first + done, loss, right, seconds))

    def save(self, place: Place, ended: bool = False) -> None:
        assert self.saver is not None
        self.trainer.store()
        self.saver.write(self.net, place, self.calls, ended=ended, stopped=self.stop)


def _share(right: float, n: int) -> float | None:
    return None if math.isnan(right) else right / n
