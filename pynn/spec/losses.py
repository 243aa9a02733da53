"""Losses: frozen dataclasses. ``backends/losses.py`` has the formulas as NumPy code."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from .arguments import choose, not_a_class, number
from .names import OUTPUTS

Array = np.ndarray


@dataclass(frozen=True)
class LossFunction:
    """A loss: what it requires of outputs and targets, and its parameters."""

    name: ClassVar[str] = ""
    outputs: ClassVar[tuple[str, ...]] = ("identity", *(o for o in OUTPUTS if o != "identity"))
    """Output activations that it works with, the default first."""
    regression: ClassVar[bool] = True
    """Whether the outputs are values rather than classes."""
    takes_labels: ClassVar[bool] = False
    """Whether y may be labels or one-hot targets."""
    least_target: ClassVar[float | None] = None
    """Targets must be at least this large."""
    positive_targets: ClassVar[bool] = False
    """Whether targets must be above 0."""

    def __str__(self) -> str:
        """Return the name, with the parameters if there are any."""
        values = ", ".join(f"{k}={_spell(v)}" for k, v in self.parameters().items())
        return f"{self.name}({values})" if values else self.name

    def parameters(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return asdict(self)

    @property
    def per_target(self) -> int:
        """Number of outputs that each column of y needs."""
        return 1

    def numbers(self) -> tuple[float, ...]:
        """Return the parameters as the backends use them."""
        return tuple(float(value) for value in self.parameters().values())

    def terms(self, n_out: int, output: str) -> int:
        """Return the number of terms of which the loss of a row is the mean."""
        return n_out

    def independent(self, output: str) -> bool:
        """Whether targets (n, n_out) are a yes or no for each output."""
        return False

    def default_output(self, n_out: int) -> str:
        """Return the output activation that goes with it if none is chosen."""
        return self.outputs[0]


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_spell, value)) + "]"
    return "None" if value is None else f"{value:g}"


# --- Classes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CrossEntropy(LossFunction):
    """Cross entropy of one class per row (softmax)."""

    name: ClassVar[str] = "cross_entropy"
    outputs: ClassVar[tuple[str, ...]] = ("softmax",)
    regression: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = True

    def terms(self, n_out: int, output: str) -> int:
        return 1


@dataclass(frozen=True)
class BinaryCrossEntropy(LossFunction):
    """Cross entropy of a yes or no for each output (sigmoid)."""

    name: ClassVar[str] = "binary_cross_entropy"
    outputs: ClassVar[tuple[str, ...]] = ("sigmoid",)
    regression: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = True

    def independent(self, output: str) -> bool:
        return True


# --- Values ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanSquaredError(LossFunction):
    """Mean of (a − t)². Labels and one-hot targets are accepted too."""

    name: ClassVar[str] = "mse"
    takes_labels: ClassVar[bool] = True


@dataclass(frozen=True)
class Poisson(LossFunction):
    """Half the Poisson deviance, for counts."""

    name: ClassVar[str] = "poisson"
    outputs: ClassVar[tuple[str, ...]] = ("exp",)
    least_target: ClassVar[float | None] = 0.0


@dataclass(frozen=True)
class MeanAbsoluteError(LossFunction):
    """Mean of |a − t|, which the median of the targets minimises."""

    name: ClassVar[str] = "mae"


@dataclass(frozen=True)
class Huber(LossFunction):
    """½·(a − t)² for errors up to ``delta``, and linear beyond (Huber 1964, eq. 2.7).

    Parameters
    ----------
    delta : float
        The error from which on the loss is linear, δ·(|a − t| − ½·δ); above 0.

    Examples
    --------
    >>> Huber(delta=2.0)
    Huber(delta=2.0)
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        number(self.delta, "Huber.delta", above=0)


@dataclass(frozen=True)
class LogCosh(LossFunction):
    """Mean of log cosh(a − t): about ½·(a − t)² for small errors, |a − t| − log 2 for large."""

    name: ClassVar[str] = "log_cosh"


@dataclass(frozen=True)
class Quantile(LossFunction):
    """The pinball loss, which a quantile of the targets minimises (Koenker and Bassett 1978).

    Parameters
    ----------
    q : float
        The quantile, in (0, 1): q·(t − a) for targets above the output a, (1 − q)·(a − t) below.

    Examples
    --------
    >>> Quantile(0.9)
    Quantile(q=0.9)
    """

    name: ClassVar[str] = "quantile"
    q: float = 0.5

    def __post_init__(self) -> None:
        number(self.q, "Quantile.q", above=0, below=1)


LOSSES: dict[str, type[LossFunction]] = {
    kind.name: kind
    for kind in (
        *(CrossEntropy, BinaryCrossEntropy, MeanSquaredError, Poisson),
        *(MeanAbsoluteError, Huber, LogCosh, Quantile),
    )
}


def as_loss(loss: str | LossFunction) -> LossFunction:
    """Return the loss of a name with default parameters, or the object itself."""
    if isinstance(loss, LossFunction):
        return loss
    not_a_class("loss", loss)
    return LOSSES[choose("loss", loss, LOSSES)]()


@functools.lru_cache(maxsize=256)
def loss_from(name: str, parameters: tuple[tuple[str, Any], ...]) -> LossFunction:
    """Return the loss of a name, with parameters as ``Architecture`` and files hold them.

    Cached, since a prediction of one row would notice the time.
    """
    kind = LOSSES[choose("loss", name, LOSSES)]
    known = [field.name for field in fields(kind)]
    for key, _ in parameters:
        if key not in known:
            raise ValueError(f"loss: found the parameter {key!r} of {name!r}, which has no such")
    return kind(**dict(parameters))
