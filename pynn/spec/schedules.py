"""Learning-rate schedules: frozen dataclasses that return one factor per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arguments import _not_a_class, _number, choose

# --- Schedules ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """A factor on the learning rate for every step.

    ``factors(epoch, start, stop)`` takes the time of each step in epochs (float array, counted
    from the first epoch the network ever trained) and the epochs at which this call of ``fit``
    starts and stops; it returns one factor for each step. Schedules with a horizon (cosine,
    one-cycle) run once over a call; the others go on where the call before stood.
    """

    name: ClassVar[str] = ""

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate as it is."""

    name: ClassVar[str] = "constant"

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return np.ones(len(epoch))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Times ``factor`` after every ``every`` epochs."""

    name: ClassVar[str] = "step"
    every: float = 10.0
    factor: float = 0.1

    def __post_init__(self) -> None:
        _number(self, "factor", 0.0, float("inf"), open_high=True)
        _number(self, "every", 0.0, float("inf"), open_high=True)
        if self.every == 0:
            raise ValueError("StepDecay.every: found 0, expected a number above 0")

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return self.factor ** np.floor(epoch / self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Times ``factor`` for each epoch, continuously: factor ** epoch."""

    name: ClassVar[str] = "exponential"
    factor: float = 0.95

    def __post_init__(self) -> None:
        _number(self, "factor", 0.0, float("inf"), open_high=True)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return self.factor**epoch


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1 / (1 + decay · epoch)."""

    name: ClassVar[str] = "inverse_time"
    decay: float = 1.0

    def __post_init__(self) -> None:
        _number(self, "decay", 0.0, float("inf"), open_high=True)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return 1.0 / (1.0 + self.decay * epoch)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``final`` over the call (Loshchilov and Hutter 2017, eq. 5)."""

    name: ClassVar[str] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        _number(self, "final", 0.0, float("inf"), open_high=True)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        t = (epoch - start) / (stop - start)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(np.pi * t))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Linear from ``initial`` to 1 over the share ``warmup`` of the call, then linear to ``final``.

    After Smith and Topin 2018, section 3, without the change of momentum.
    """

    name: ClassVar[str] = "one_cycle"
    warmup: float = 0.1
    initial: float = 0.04
    final: float = 0.0

    def __post_init__(self) -> None:
        _number(self, "warmup", 0.0, 1.0)
        _number(self, "initial", 0.0, float("inf"), open_high=True)
        _number(self, "final", 0.0, float("inf"), open_high=True)

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
        _number(self, "epochs", 0.0, float("inf"), open_high=True)
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
    """Return a schedule for its name, for None (constant), or the object itself."""
    if schedule is None:
        return Constant()
    if isinstance(schedule, Schedule):
        return schedule
    _not_a_class("schedule", schedule)
    return SCHEDULES[choose("schedule", schedule, SCHEDULES)]()


def has_horizon(schedule: Schedule) -> bool:
    """Whether the rates of a schedule depend on when the call of ``fit`` is to end."""
    if isinstance(schedule, WarmUp):
        return has_horizon(schedule.after)
    return type(schedule) not in (Schedule, Constant, StepDecay, Exponential, InverseTime)
