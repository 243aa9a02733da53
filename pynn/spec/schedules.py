"""Learning-rate schedules: frozen dataclasses that return a factor for each step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .arguments import choose, not_a_class, number, whole


@dataclass(frozen=True)
class Schedule(ABC):
    """A factor by which the learning rate is multiplied, for each step.

    ``factors(epoch, start, stop)`` takes the time of each step in epochs (float array, counted
    from the first epoch the network ever trained) and the epochs at which this call of ``fit``
    starts and stops. It returns one factor per step. Schedules with a horizon (cosine, one-cycle)
    run once over a call; the others continue across calls.
    """

    name: ClassVar[str] = ""

    @abstractmethod
    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        """Return the factor of each step."""

    @property
    def monitored(self) -> str | None:
        """The value of the history that the factors depend on, if they depend on one."""
        return None

    def given(self, values: Iterable[float], larger_is_better: bool) -> Schedule:
        """Return the schedule of an epoch, after epochs with these values of ``monitored``."""
        return self

    def _check(self, field: str, **bounds: float) -> None:
        number(getattr(self, field), f"{type(self).__name__}.{field}", **bounds)


@dataclass(frozen=True)
class Constant(Schedule):
    """The factor 1: a constant learning rate, the default of ``fit``."""

    name: ClassVar[str] = "constant"

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return np.ones(len(epoch))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Steps: factor ** floor(epoch / every).

    Parameters
    ----------
    every : float
        Number of epochs between two steps, above 0.
    factor : float
        Factor of each step, 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
    """

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
    """Exponential decay in each step: factor ** epoch, where epoch has a fraction.

    Parameters
    ----------
    factor : float
        Factor of one epoch, 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
    """

    name: ClassVar[str] = "exponential"
    factor: float = 0.95

    def __post_init__(self) -> None:
        self._check("factor", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return self.factor**epoch


@dataclass(frozen=True)
class InverseTime(Schedule):
    """Decay with the time: 1 / (1 + decay · epoch), where epoch has a fraction.

    Parameters
    ----------
    decay : float
        0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
    """

    name: ClassVar[str] = "inverse_time"
    decay: float = 1.0

    def __post_init__(self) -> None:
        self._check("decay", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return 1.0 / (1.0 + self.decay * epoch)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``final`` over the call of ``fit``.

    final + (1 − final)·½·(1 + cos(π·t)), where t grows from 0 to 1 (Loshchilov and Hutter 2017,
    "SGDR", eq. 5).

    Parameters
    ----------
    final : float
        The factor at the end, 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
    """

    name: ClassVar[str] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        self._check("final", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        t = (epoch - start) / (stop - start)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(np.pi * t))


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a cosine from 1 to ``final``, repeated (Loshchilov and Hutter 2017, "SGDR", section 3).

    Parameters
    ----------
    every : float
        Length of the first cycle in epochs, above 0; T_0 in the paper.
    growth : float
        Length of a cycle divided by that of the one before, 1 or more; T_mult in the paper.
    final : float
        The factor at the end of each cycle, 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
    """

    name: ClassVar[str] = "cosine_restarts"
    every: float = 10.0
    growth: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        self._check("every", above=0)
        self._check("growth", least=1)
        self._check("final", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        t = self._times(epoch / self.every)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(np.pi * t))

    def _times(self, cycles: np.ndarray) -> np.ndarray:
        """Return the share of its cycle that has passed; ``cycles`` are times in first cycles."""
        q = self.growth
        if q == 1:
            return cycles % 1.0
        # Cycle k begins at 1 + q + … + q^(k-1) = (q^k - 1) / (q - 1). The logarithm can be rounded
        # to the neighbour of k.
        k = np.floor(np.log1p(cycles * (q - 1)) / math.log(q))
        k -= cycles < (q**k - 1) / (q - 1)
        k += cycles >= (q ** (k + 1) - 1) / (q - 1)
        return (cycles - (q**k - 1) / (q - 1)) / q**k


@dataclass(frozen=True)
class FlatCosine(Schedule):
    """1 in the first part of the call of ``fit``, then half a cosine to ``final``.

    The cosine is equation 5 of Loshchilov and Hutter 2017, "SGDR"; fastai calls this schedule
    flat_cos.

    Parameters
    ----------
    flat : float
        Share of the call with the factor 1, from 0 to 1.
    final : float
        The factor at the end, 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
    """

    name: ClassVar[str] = "flat_cosine"
    flat: float = 0.75
    final: float = 0.0

    def __post_init__(self) -> None:
        self._check("flat", least=0, most=1)
        self._check("final", least=0)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        if self.flat == 1:
            return np.ones(len(epoch))
        t = np.maximum((epoch - start) / (stop - start) - self.flat, 0.0) / (1.0 - self.flat)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(np.pi * t))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Linear from ``initial`` to 1 and then to ``final``, over the call of ``fit``.

    Smith and Topin 2018, "Super-convergence", section 3, without the change of momentum.

    Parameters
    ----------
    warmup : float
        Share of the call in which the factor grows, from 0 to 1.
    initial, final : float
        The factors at the beginning and at the end, 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
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
    """Linear from 0 to 1 over the first epochs of the network (Goyal et al. 2017, section 2.2).

    The factor multiplies that of another schedule, which runs from the beginning.

    Parameters
    ----------
    epochs : float
        Number of epochs in which the factor grows, 0 or more.
    after : Schedule
        The other schedule.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
    """

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

    @property
    def monitored(self) -> str | None:
        return self.after.monitored

    def given(self, values: Iterable[float], larger_is_better: bool) -> Schedule:
        return replace(self, after=self.after.given(values, larger_is_better))


@dataclass(frozen=True)
class _Fixed(Schedule):
    """The factor ``factor`` for every step."""

    factor: float

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return np.full(len(epoch), self.factor)


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiplied by ``factor`` when a value of the history has stopped improving.

    PyTorch's ReduceLROnPlateau has the same rules. The factor of an epoch is a function of the
    records of all earlier epochs of the network, so that a resumed run has the same factors, and
    two calls of five epochs have the factors of one call of ten. Epochs without the value are left
    out. A value that is NaN is no improvement.

    Parameters
    ----------
    monitor : str
        ``"validation_loss"``, ``"loss"``, ``"validation_accuracy"``, ``"accuracy"``, or one of the
        ``metrics`` of ``fit``, such as ``"validation_auc"``, which states whether larger is better.
        ``val_`` is short for ``validation_``.
    factor : float
        In [0, 1); the learning rate is multiplied by it each time.
    patience : int
        Number of epochs in a row without improvement before an epoch that reduces the rate.
    threshold : float
        A value counts as an improvement if it is better than the best one so far by more than this
        share of it: value < best - threshold · abs(best), or > best + threshold · abs(best).
    cooldown : int
        Number of epochs after a reduction in which epochs without improvement do not count.
    minimum : float
        The factor on the learning rate never falls below it; from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If a setting is outside these bounds.
    """

    name: ClassVar[str] = "reduce_on_plateau"
    monitor: str = "validation_loss"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        found = self.monitor
        if not isinstance(found, str) or not found.isidentifier():
            raise ValueError(
                f"ReduceOnPlateau.monitor: found {found!r}, expected the name of a value of the "
                "history, such as 'validation_loss'"
            )
        self._check("factor", least=0, below=1)
        self._check("threshold", least=0)
        self._check("minimum", least=0, most=1)
        whole(self.patience, "ReduceOnPlateau.patience", 0)
        whole(self.cooldown, "ReduceOnPlateau.cooldown", 0)

    @property
    def monitored(self) -> str | None:
        return self.monitor

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        """Return the factors before the first epoch; ``given`` has the factor after them."""
        return np.ones(len(epoch))

    def given(self, values: Iterable[float], larger_is_better: bool) -> Schedule:
        sign = -1.0 if larger_is_better else 1.0
        found, best, bad, pause = 1.0, math.inf, 0, 0
        for value in values:
            margin = self.threshold * abs(best) if math.isfinite(best) else 0.0
            improved = sign * value < best - margin
            if improved:
                best = sign * value
            bad = 0 if improved else bad + 1
            if pause > 0:
                pause, bad = pause - 1, 0
            if bad > self.patience:
                found, bad, pause = max(found * self.factor, self.minimum), 0, self.cooldown
        return _Fixed(found)


SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (
        *(Constant, StepDecay, Exponential, InverseTime, Cosine, CosineRestarts, FlatCosine),
        *(OneCycle, WarmUp, ReduceOnPlateau),
    )
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
    return type(schedule) not in (
        *(Constant, StepDecay, Exponential, InverseTime, CosineRestarts, ReduceOnPlateau),
    )
