"""The learning rate of every step of a call of ``fit``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from ..spec import arguments
from ..spec.schedules import Schedule, as_schedule

Array = np.ndarray


class Rates:
    """The learning rate of every step of a call of ``fit``."""

    def __init__(self, schedule: Any, learning_rate: float, start: int, stop: int) -> None:
        self.function: Callable[[float], float] | None = None
        self.schedule = Schedule()
        if callable(schedule) and not isinstance(schedule, (type, Schedule)):
            arguments.must_take(schedule, (0.0,), "schedule", "one argument, the time in epochs")
            self.function = schedule
        else:
            self.schedule = as_schedule(schedule)
        self._learning_rate, self._start, self._stop = learning_rate, start, stop

    def factor(self, time: float) -> float:
        """Return what a schedule that is a function gives at a time in epochs."""
        assert self.function is not None
        found: Any = self.function(time)
        try:
            return float(found + 0)  # float alone would read text
        except (TypeError, ValueError):
            from ..files.disk import shown

            raise TypeError(
                f"schedule: found {shown(repr(found), 80)} from {self.function!r} at {time:g} "
                "epochs, expected a number of 0 or more, the factor on the learning rate"
            ) from None

    def of(self, epoch: int, steps: int) -> Array:
        """Return the rates of the steps of an epoch, float64."""
        times = epoch + np.arange(steps) / steps
        if self.function is not None:
            factors = np.array([self.factor(t) for t in times.tolist()])
        else:
            found = self.schedule.factors(times, self._start, self._stop)
            factors = np.asarray(found, dtype=np.float64)
        if factors.shape != (steps,) or not 0 <= factors.min() <= factors.max() < math.inf:
            raise ValueError(
                f"schedule: found factors {factors!r} in epoch {epoch}, expected {steps} finite "
                "numbers of 0 or more, one for each step"
            )
        return self._learning_rate * factors


FUNCTION_EPOCHS = 100
"""At how many epochs a schedule that is a function is compared."""


def _schedule(rates: Rates, start: int, stop: int) -> Any:
    if rates.function is not None:
        times = range(start, min(stop, start + FUNCTION_EPOCHS))
        return [repr(rates.factor(float(t))) for t in times]
    if is_dataclass(rates.schedule):
        return repr(rates.schedule)
    return f"{type(rates.schedule).__qualname__}({vars(rates.schedule)})"
