"""The learning rate of every step of a call of ``fit``."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from ..spec import arguments
from ..spec.schedules import Constant, Schedule, as_schedule
from .callbacks import larger_is_better
from .history import Record, full_name

Array = np.ndarray

FUNCTION_EPOCHS = 100
"""Number of epochs at which a schedule that is a function is evaluated to compare it."""


class Rates:
    """The learning rate of every step of a call of ``fit``.

    Parameters
    ----------
    schedule : str, Schedule, function or None
        As for ``fit``.
    learning_rate : float
        Multiplied by the factors of the schedule.
    start, stop : int
        The epochs of the call, counted over the network's life, over which a schedule with a
        horizon runs.
    """

    def __init__(self, schedule: Any, learning_rate: float, start: int, stop: int) -> None:
        self.function: Callable[[float], float] | None = None
        self.schedule: Schedule = Constant()
        if callable(schedule) and not isinstance(schedule, (type, Schedule)):
            arguments.must_take(schedule, (0.0,), "schedule", "one argument, the time in epochs")
            self.function = schedule
        else:
            self.schedule = as_schedule(schedule)
        self._learning_rate, self._start, self._stop = learning_rate, start, stop
        self._last: tuple[int, int, Array] | None = None
        self._larger_is_better: bool | None = None

    @functools.cached_property
    def scheduled(self) -> bool:
        """Whether the schedule is another one than ``schedule=None``."""
        return self.function is not None or self.schedule != Constant()

    def begun_at(self, start: int) -> Rates:
        """Return the rates of a call of as many epochs that began at another epoch."""
        schedule = self.function or self.schedule
        rates = Rates(schedule, self._learning_rate, start, start + self._stop - self._start)
        rates._larger_is_better = self._larger_is_better
        return rates

    def require_measured(
        self, validated: bool, classified: bool, directions: Mapping[str, bool]
    ) -> None:
        """Raise ValueError if the schedule follows a value that the call does not measure.

        The arguments are as in ``callbacks.check_monitors``.
        """
        if self.schedule.monitored is not None:
            self._larger_is_better = larger_is_better(
                full_name(self.schedule.monitored),
                f"schedule: {type(self.schedule).__name__}",
                *(validated, classified, directions),
            )

    def _given(self, epoch: int, history: Iterable[Record]) -> Schedule:
        """Return the schedule of an epoch, after the records of earlier ones."""
        schedule = self.schedule
        if schedule.monitored is None:
            return schedule
        if self._larger_is_better is None:
            raise ValueError(
                f"schedule: found {schedule!r}, which follows a history that only Network.fit has; "
                "expected another schedule"
            )
        name = full_name(schedule.monitored)
        # After a divergence earlier epochs are repeated, while the history has later ones.
        before = [record.get(name) for record in history if record.epoch <= epoch]
        return schedule.given([v for v in before if v is not None], self._larger_is_better)

    def factor(self, time: float) -> float:
        """Return the factor of a schedule that is a function, at a time in epochs."""
        assert self.function is not None
        found: Any = self.function(time)
        try:
            return float(found + 0)  # float alone would accept text
        except (TypeError, ValueError):
            from ..files.disk import shown

            raise TypeError(
                f"schedule: found {shown(repr(found), 80)} from {self.function!r} at {time:g} "
                "epochs, expected a number of 0 or more, the factor on the learning rate"
            ) from None

    def of(self, epoch: int, steps: int, history: Iterable[Record] = ()) -> Array:
        """Return the rates of the steps of an epoch, float64 (steps,).

        ``history`` has the records of all epochs before it. The rates of the last epoch are
        kept: a function is called once for each of its steps.
        """
        last = self._last
        if last is not None and last[1] == steps and (last[0] == epoch or not self.scheduled):
            return last[2]
        times = epoch + np.arange(steps) / steps
        if self.function is not None:
            factors = np.array([self.factor(t) for t in times.tolist()])
        else:
            schedule = self._given(epoch, history)
            found = schedule.factors(times, self._start, self._stop)
            factors = np.asarray(found, dtype=np.float64)
        if factors.shape != (steps,) or not 0 <= factors.min() <= factors.max() < math.inf:
            raise ValueError(
                f"schedule: found factors {factors!r} in epoch {epoch}, expected {steps} finite "
                "numbers of 0 or more, one for each step"
            )
        rates: Array = self._learning_rate * factors
        self._last = epoch, steps, rates
        return rates

    def description(self, start: int, stop: int) -> Any:
        """Return the schedule as JSON can hold it, to compare two calls.

        A function is described by its values at the beginning of the epochs ``start`` to before
        ``stop``, but at most ``FUNCTION_EPOCHS`` of them.
        """
        if self.function is not None:
            times = range(start, min(stop, start + FUNCTION_EPOCHS))
            return [repr(self.factor(float(t))) for t in times]
        if is_dataclass(self.schedule):
            return repr(self.schedule)
        return f"{type(self.schedule).__qualname__}({vars(self.schedule)})"
