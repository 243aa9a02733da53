"""Optimizers of Keras 3 as optimizers of pynn: formulas, state and learning rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..spec.optimizers import (
    SGD,
    Adagrad,
    AdamHat,
    AMSGrad,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    Optimizer,
    RMSProp,
)
from ..training.history import Record

Array = np.ndarray

ACCEPTED: dict[str, str] = {
    "SGD": "`momentum`, `nesterov`",
    "Adam": "`amsgrad`",
    "AdamW": "`amsgrad`; decays all variables that `exclude_from_weight_decay` does not name",
    "Nadam": "",
    "RMSprop": "`momentum`, `centered`",
    "Adagrad": "`initial_accumulator_value`",
    "Lion": "",
}
"""Optimizers by their classes. All of them have ``weight_decay`` and schedules."""

REFUSED: dict[str, str] = {
    "Adadelta": "pynn has no such optimizer",
    "Adamax": "pynn has no such optimizer",
    "Adafactor": "pynn has no such optimizer",
    "Ftrl": "pynn has no such optimizer",
    "Lamb": "pynn has no such optimizer",
    "Muon": "pynn has no such optimizer",
    "LossScaleOptimizer": "pynn computes in float32 or float64",
}

_UNSUPPORTED: dict[str, str] = {
    "clipnorm": "its limit is that of each variable; pynn limits the gradient of all together",
    "clipvalue": "pynn does not limit single derivatives",
    "global_clipnorm": "pynn's clip_norm has 1e-6 in its formula, Keras's has not",
    "use_ema": "Keras's average has another first step than pynn's ema",
    "gradient_accumulation_steps": "pass a larger batch_size instead",
    "loss_scale_factor": "pynn computes in float32 or float64",
}


@dataclass(frozen=True)
class Rule:
    """An optimizer of pynn with the formulas of one of Keras.

    Parameters
    ----------
    optimizer
        pynn's.
    slots
        Attributes of Keras's optimizer that hold the lists of variables which correspond to the
        vectors of ``optimizer``'s state.
    decay
        Decoupled decay of every variable that is not excluded.
    """

    optimizer: Optimizer
    slots: tuple[str, ...]
    decay: float


def rule(optimizer: Any) -> Rule:
    """Return the rule of an optimizer of Keras.

    Raises
    ------
    ValueError
        If pynn does not have it, or one of its settings.
    """
    name = type(optimizer).__name__
    if optimizer is None or type(optimizer).__module__.split(".")[0] != "keras":
        _refuse(name, "of a class of your own", f"one of Keras: {', '.join(ACCEPTED)}")
    if name not in ACCEPTED:
        reason = REFUSED.get(name, "pynn has no such optimizer")
        _refuse(name, f"({reason})", f"one of {', '.join(ACCEPTED)}")
    for setting, reason in _UNSUPPORTED.items():
        value = getattr(optimizer, setting, None)
        if value:
            _refuse(name, f"with {setting}={value!r}", f"none: {reason}")
    found, slots = _FORMULAS[name](optimizer)
    return Rule(found, slots, float(optimizer.weight_decay or 0))


def _refuse(name: str, found: str, expected: str) -> NoReturn:
    raise ValueError(f"model: found the optimizer {name} {found}, expected {expected}")


Formula = Callable[[Any], "tuple[Optimizer, tuple[str, ...]]"]


def _sgd(o: Any) -> tuple[Optimizer, tuple[str, ...]]:
    if not o.momentum:
        return SGD(), ()
    return (Nesterov if o.nesterov else Momentum)(float(o.momentum)), ("momentums",)


def _adam(o: Any) -> tuple[Optimizer, tuple[str, ...]]:
    if o.amsgrad:
        slots = "_momentums", "_velocities", "_velocity_hats"
        return AMSGrad(*_moments(o), epsilon_hat=True), slots
    return AdamHat(*_moments(o)), ("_momentums", "_velocities")


def _nadam(o: Any) -> tuple[Optimizer, tuple[str, ...]]:
    return NAdam(*_moments(o), momentum_decay=1.0), ("_momentums", "_velocities")


def _lion(o: Any) -> tuple[Optimizer, tuple[str, ...]]:
    return Lion(float(o.beta_1), float(o.beta_2)), ("_momentums",)


def _rmsprop(o: Any) -> tuple[Optimizer, tuple[str, ...]]:
    found = RMSProp(
        rho=float(o.rho),
        epsilon=float(o.epsilon),
        momentum=float(o.momentum),
        centered=bool(o.centered),
        epsilon_inside=True,
    )
    momentum = ("_momentums",) if o.momentum > 0 else ()
    centered = ("_average_gradients",) if o.centered else ()
    return found, ("_velocities", *momentum, *centered)


def _adagrad(o: Any) -> tuple[Optimizer, tuple[str, ...]]:
    initial = float(o.initial_accumulator_value)
    found = Adagrad(epsilon=float(o.epsilon), initial=initial, epsilon_inside=True)
    return found, ("_accumulators",)


def _moments(o: Any) -> tuple[float, float, float]:
    return float(o.beta_1), float(o.beta_2), float(o.epsilon)


_FORMULAS: dict[str, Formula] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "Nadam": _nadam,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Lion": _lion,
}


class KerasRates:
    """The learning rates of an optimizer of Keras, in place of ``training.rates.Rates``.

    The rates of an epoch are those at its beginning, also when its steps are repeated.

    Parameters
    ----------
    optimizer
        Of Keras. Its rate is a number, which callbacks may change between epochs, a schedule, or
        a function.
    iterations
        Its updates before ``first_epoch``.
    first_epoch
        The first epoch that is trained.
    """

    def __init__(self, optimizer: Any, iterations: int, first_epoch: int) -> None:
        self._optimizer, self._iterations, self._first = optimizer, iterations, first_epoch
        self._known: dict[int, Array] = {}

    def of(self, epoch: int, steps: int, history: Iterable[Record] = ()) -> Array:
        """Return the rates of the steps of an epoch, float64 (steps,)."""
        if epoch not in self._known:
            begin = self._iterations + (epoch - self._first) * steps
            self._known = {epoch - 1: self._known.get(epoch - 1, np.empty(0))}
            self._known[epoch] = self._computed(begin, steps)
        return self._known[epoch]

    def _computed(self, begin: int, steps: int) -> Array:
        import keras

        rate = self._optimizer._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            found = np.array([float(rate(begin + k)) for k in range(steps)])
        elif callable(rate) and not hasattr(rate, "assign"):
            found = np.array([float(rate()) for _ in range(steps)])
        else:
            found = np.full(steps, float(self._optimizer.learning_rate))
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise ValueError(
                f"model: found the learning rate {found[~(found >= 0)][:1]} of the optimizer "
                f"{type(self._optimizer).__name__}, expected finite numbers of 0 or more"
            )
        return found
