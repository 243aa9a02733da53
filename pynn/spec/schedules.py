"""Learning-rate schedules: frozen dataclasses that return a factor for each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arguments import choose, not_a_class, number


@dataclass(frozen=True)
class Schedule:
    """A factor by which the learning rate is multiplied, for each step.

    ``factors(epoch, start, stop)`` takes the time of each step in epochs (float array, counted
    from the first epoch the network ever trained) and the epochs at which this call of ``fit``
    starts and stops. It returns one factor per step. Schedules with a horizon (cosine, one-cycle)
    run once over a call; the others continue across calls.
    """

    name: ClassVar[str] = ""

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        raise NotImplementedError

    def _check(self, field: str, **bounds: float) -> None:
        number(getattr(self, field), f"{type(self).__name__}.{field}", **bounds)


@dataclass(frozen=True)
class Constant(Schedule):
    """A constant learning rate."""

    name: ClassVar[str] = "constant"

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return np.ones(len(epoch))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiplied by ``factor`` after every ``every`` epochs."""

    name: ClassVar[str] = "step"
    every: float = 10.0
    factor: float = 0.1

    def __post_init__(self) -> None:
        self._check("factor", least=0)
        self._check("every", above=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return self.factor ** np.floor(epoch / self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Multiplied by ``factor`` per epoch, continuously: factor ** epoch."""

    name: ClassVar[str] = "exponential"
    factor: float = 0.95

    def __post_init__(self) -> None:
        self._check("factor", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return self.factor**epoch


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1 / (1 + decay · epoch)."""

    name: ClassVar[str] = "inverse_time"
    decay: float = 1.0

    def __post_init__(self) -> None:
        self._check("decay", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return 1.0 / (1.0 + self.decay * epoch)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``final`` over the call (Loshchilov and Hutter 2017, eq. 5)."""

    name: ClassVar[str] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        self._check("final", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        t = (epoch - start) / (stop - start)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(np.pi * t))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Linear from ``initial`` to 1 in the fraction ``warmup`` of the call, then to ``final``.

    Smith and Topin 2018, section 3, without the change of momentum.
    """

    name: ClassVar[str] = "one_cycle"
    warmup: float = 0.1
    initial: float = 0.04
    final: float = 0.0

    def __post_init__(self) -> None:
        self._check("warmup", least=0, most=1)
        self._check("initial", least=0)
        self._check("final", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        t = (epoch - start) / (stop - start)
        return np.interp(t, [0.0, self.warmup, 1.0], [self.initial, 1.0, self.final])


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Linear from 0 to 1 over the first ``epochs`` epochs, then ``after`` (Goyal et al. 2017)."""

    name: ClassVar[str] = "warm_up"
    epochs: float = 1.0
    after: Schedule = Constant()

    def __post_init__(self) -> None:
        self._check("epochs", least=0)
        if not isinstance(self.after, Schedule):
            raise ValueError(f"WarmUp.after: found {self.after!r}, expected a schedule object")

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        factors = self.after.factors(epoch, start, stop)
        if self.epochs == 0:
            return factors
        rise: np.ndarray = np.minimum(epoch / self.epochs, 1.0)
        rise *= factors
        return rise


SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (Constant, StepDecay, Exponential, InverseTime, Cosine, OneCycle, WarmUp)
}


def as_schedule(schedule: str | Schedule | None) -> Schedule:
    """Return the schedule of a name, a constant one for None, or the object itself."""
    if schedule is None:
        return Constant()
    if isinstance(schedule, Schedule):
        return schedule
    not_a_class("schedule", schedule)
    return SCHEDULES[choose("schedule", schedule, SCHEDULES)]()


def has_horizon(schedule: Schedule) -> bool:
    """Return whether the factors of a schedule depend on the epoch at which ``fit`` stops."""
    if isinstance(schedule, WarmUp):
        return has_horizon(schedule.after)
    return type(schedule) not in (Schedule, Constant, StepDecay, Exponential, InverseTime)
