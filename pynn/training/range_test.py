"""The learning-rate range test: how the loss changes while the learning rate grows.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3, proposes to train
for a few epochs while the rate grows, and to read the useful range from the curve. Here it grows
exponentially, a step at a time.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.vectors import aligned
from ..backends.contract import Engine, Sums
from ..spec import arguments
from ..spec.optimizers import LBFGS
from . import fit
from .job import Arguments, Job
from .model import Model
from .standardise import prepared
from .stream import StreamEngine, engine_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray

RECENT = 5
"""Losses whose mean is compared with that of the first ones, to end the test."""
DIVERGED = 3.0
"""End the test when that mean has risen by this many times the first one: the loss of a batch
varies, but does not quadruple at a useful rate."""
NOT_FOR_A_STEP = (
    *("learning_rate", "epochs", "schedule", "validation", "metrics", "training_metrics"),
    *("stratify", "callbacks", "progress", "checkpoint", "resume", "ema"),
)
"""Arguments of ``fit`` that the range test does not have."""


@dataclass(frozen=True, eq=False)
class LearningRates:
    """Result of a learning-rate range test.

    Parameters
    ----------
    rates : ndarray (steps,)
        The learning rate of each step, growing exponentially; float64.
    losses : ndarray (steps,)
        The loss of each step's batch before its update, with dropout and without the L2 term.
        Shorter tests end where the loss diverged.
    smoothed : ndarray (steps,)
        The centred moving average of the losses, over about a tenth of the steps.
    suggestion : float or None
        A tenth of the rate at which the smoothed loss is lowest, which is where training is about
        to become unstable (Howard and Gugger 2020, "Deep Learning for Coders", chapter 5). None if
        the loss is lowest at the first rate: the rates were too high, or nothing was learned.
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float | None

    def __repr__(self) -> str:
        text = "none" if self.suggestion is None else f"{self.suggestion:.3g}"
        return (
            f"LearningRates({len(self.rates)} from {self.rates[0]:.3g} to {self.rates[-1]:.3g}, "
            f"suggestion {text})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return rates, losses and suggestion as plain data."""
        return {
            "rates": self.rates.tolist(),
            "losses": self.losses.tolist(),
            "suggestion": self.suggestion,
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses over the rates: :func:`pynn.plots.learning_rates`."""
        from ..plots import curves

        return curves.learning_rates(self, ax)


def range_test(
    owner: Any,
    model: Model,
    engine: Engine,
    data: tuple[Any, Any],
    span: tuple[Any, Any, Any],
    settings: Mapping[str, Any],
) -> LearningRates:
    """Return the result of a range test on copies of the parameters.

    ``data`` are x and y, ``span`` the lowest rate, the highest and the number of steps, and
    ``settings`` arguments of ``owner.fit``.
    """
    lowest = arguments.number(span[0], "lowest", above=0)
    highest = arguments.number(span[1], "highest", above=lowest)
    steps = arguments.whole(span[2], "steps", 2)
    job = prepared(fit.check(model, engine, _arguments(owner, data, settings)), model)
    if isinstance(job.settings.optimizer, LBFGS):
        raise ValueError(
            "optimizer: found 'lbfgs', which has no learning rate, expected another optimizer"
        )
    rates = lowest * (highest / lowest) ** (np.arange(steps) / (steps - 1))
    engine = engine_for(engine, job.data.x)
    try:
        losses = _losses(model, engine, job, rates)
    finally:
        if isinstance(engine, StreamEngine):
            engine.close()
    if not len(losses):
        raise ValueError(
            "find_learning_rate: found a first loss that is not finite, expected a finite one; "
            "check the scale of x and y, and the initial weights"
        )
    return _result(rates[: len(losses)], losses)


def _arguments(owner: Any, data: tuple[Any, Any], settings: Mapping[str, Any]) -> Arguments:
    """Return arguments of ``fit``: those given, and its defaults."""
    signature = inspect.signature(owner.fit)
    allowed = [name for name in list(signature.parameters)[2:] if name not in NOT_FOR_A_STEP]
    for name in settings:
        arguments.choose("find_learning_rate", name, allowed)
    bound = signature.bind(*data, **{"optimizer": "adam", **settings})
    bound.apply_defaults()
    return Arguments(**bound.arguments)


def _losses(model: Model, engine: Engine, job: Job, rates: Array) -> Array:
    """Train copies with the rates, and return the losses until one is not finite or they rise."""
    flat = aligned(len(model.flat), model.dtype)
    flat[...] = model.flat
    state = [aligned(len(flat), model.dtype) for _ in range(job.settings.optimizer.slots)]
    trainer = engine.trainer(flat, state, job.data, replace(job.settings, watch=True))
    losses: list[float] = []
    before = Sums(0.0, 0.0, 0.0)
    for i in range(len(rates)):
        epoch, first = divmod(i, job.steps)
        if first == 0:
            before = Sums(0.0, 0.0, 0.0)
            if job.blocks is not None:
                trainer.order(job.blocks.order(model.epochs + epoch))
        sums = trainer.steps(model.epochs + epoch, first, rates[i : i + 1], i)
        if trainer.diverged or not math.isfinite(sums.loss):
            break
        weight = sums.weight - before.weight
        # A batch without weight has no loss.
        losses.append((sums.loss - before.loss) / weight if weight else [0.0, *losses][-1])
        before = sums
        if _diverges(losses):
            break
    return np.array(losses)


def _diverges(losses: list[float]) -> bool:
    if len(losses) < 2 * RECENT:
        return False
    first, last = float(np.mean(losses[:RECENT])), float(np.mean(losses[-RECENT:]))
    return last - first > DIVERGED * abs(first)


def _result(rates: Array, losses: Array) -> LearningRates:
    window = np.ones(2 * (len(losses) // 20) + 1)
    counts = np.convolve(np.ones(len(losses)), window, "same")
    smoothed = np.convolve(losses, window, "same") / counts
    lowest = int(smoothed.argmin())
    suggestion = float(rates[lowest]) / 10 if lowest else None
    return LearningRates(rates, losses, smoothed, suggestion)
