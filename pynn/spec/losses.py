"""Losses: frozen dataclasses. ``backends/losses.py`` has the formulas as NumPy code."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
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
    probabilities: ClassVar[bool] = True
    """Whether the outputs are probabilities, if they are not values."""
    degree: ClassVar[int | None] = None
    """The number k for which l(s·a, s·t) = s^k · l(a, t) for any outputs a, targets t and s > 0."""

    def __str__(self) -> str:
        """Return the name, with the parameters if there are any."""
        values = ", ".join(f"{k}={_spell(v)}" for k, v in self.parameters().items())
        return f"{self.name}({values})" if values else self.name

    def _set(self, name: str, value: Any) -> None:
        """Store a checked parameter: a float or tuple of floats, as files can hold it."""
        object.__setattr__(self, name, value)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return dict(vars(self))  # its fields; ``asdict`` takes ten times as long

    @property
    def per_target(self) -> int:
        """Number of outputs that each column of y needs."""
        return 1

    def numbers(self) -> tuple[float, ...]:
        """Return the parameters as the backends use them."""
        return tuple(float(value) for value in self.parameters().values())

    def outputs_in_unit(self, scale: Array, mean: Array) -> tuple[Array, Array]:
        """Return factor and summand of each output (n_out,) that undo the standardising of targets
        by means and scales (n_targets,).
        """
        return np.tile(scale, self.per_target), np.tile(mean, self.per_target)

    def loss_in_unit(self, scale: Array, shares: Array | None = None) -> tuple[float, float] | None:
        """Return factor and summand that convert the loss of standardised targets to the loss of
        the original ones; None if there are none.

        ``scale`` has the scale of each column of y, ``shares`` its share of the weights of the
        mean, (n_targets,) both; None for equal shares.
        """
        if self.degree is None or (scale != scale[0]).any():
            return None
        with np.errstate(over="ignore"):  # then losses in the original unit are infinite
            return float(np.float64(scale[0]) ** self.degree), 0.0

    def terms(self, n_out: int, output: str) -> int:
        """Return the number of terms of which the loss of a row is the mean."""
        return n_out

    def independent(self, output: str) -> bool:
        """Whether targets (n, n_out) are a yes or no for each output."""
        return False

    def default_output(self, n_out: int) -> str:
        """Return the output activation that goes with it if none is chosen."""
        return self.outputs[0]

    def check_output(self, output: str) -> None:
        """Raise ValueError if a parameter does not fit the output activation."""

    def predictions(self, out: Array, flat: bool) -> Array:
        """Return the values that outputs (n, n_out) predict; (n,) for one target if ``flat``."""
        return out.reshape(-1) if flat else out

    def measured(self, out: Array) -> Array:
        """Return outputs as metrics take them: values (n, n_targets), or above ½ for a yes."""
        return out


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


@dataclass(frozen=True)
class Hinge(LossFunction):
    """Mean of max(0, 1 − s·z), with s = 1 for yes and −1 for no.

    Several classes are one yes and many no, one for each output (one-vs-rest, Rifkin and Klautau
    2004, section 2), as for ``Hinge`` of Keras and ``SGDClassifier`` of scikit-learn.
    """

    name: ClassVar[str] = "hinge"
    outputs: ClassVar[tuple[str, ...]] = ("identity",)
    regression: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = True
    probabilities: ClassVar[bool] = False

    def independent(self, output: str) -> bool:
        return True

    def measured(self, out: Array) -> Array:
        # In the order of z, which decides at 0.
        half = out.dtype.type(0.5)
        return half + half * out / (1 + np.abs(out))


@dataclass(frozen=True)
class SquaredHinge(Hinge):
    """Mean of max(0, 1 − s·z)², with s = 1 for yes and −1 for no; several classes as in Hinge."""

    name: ClassVar[str] = "squared_hinge"


@dataclass(frozen=True)
class Focal(LossFunction):
    """Cross entropy with less weight on rows that are classified well (Lin et al. 2017, eq. 4-5).

    −(1 − p)^γ·log p with the probability p of the true class. With the output activation softmax
    there is one class per row; with sigmoid, the default for one output, a yes or no per output.

    Parameters
    ----------
    gamma : float
        The exponent γ of 0 or more; 0 gives the cross entropy.
    alpha : float, optional
        Weight in (0, 1) of a yes; a no has the weight 1 − alpha. Only for sigmoid. None: both have
        the weight 1.

    Raises
    ------
    ValueError
        If a parameter is outside these bounds.

    Examples
    --------
    >>> Focal(gamma=2.0, alpha=0.25)
    Focal(gamma=2.0, alpha=0.25)
    """

    name: ClassVar[str] = "focal"
    outputs: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid")
    regression: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = True
    gamma: float = 2.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        self._set("gamma", number(self.gamma, "Focal.gamma", least=0))
        if self.alpha is not None:
            self._set("alpha", number(self.alpha, "Focal.alpha", above=0, below=1))

    def numbers(self) -> tuple[float, ...]:
        yes, no = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        return float(self.gamma), float(yes), float(no)

    def terms(self, n_out: int, output: str) -> int:
        return 1 if output == "softmax" else n_out

    def independent(self, output: str) -> bool:
        return output == "sigmoid"

    def default_output(self, n_out: int) -> str:
        return "sigmoid" if n_out == 1 else "softmax"

    def check_output(self, output: str) -> None:
        if output == "softmax" and self.alpha is not None:
            raise ValueError(
                f"loss: found Focal.alpha {self.alpha:g} with output 'softmax', expected None, or "
                "output 'sigmoid': alpha weighs a yes against a no"
            )


# --- Values ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanSquaredError(LossFunction):
    """Mean of (a − t)². Labels and one-hot targets are accepted too."""

    name: ClassVar[str] = "mse"
    degree: ClassVar[int | None] = 2
    takes_labels: ClassVar[bool] = True


@dataclass(frozen=True)
class Poisson(LossFunction):
    """Half the Poisson deviance, for counts."""

    name: ClassVar[str] = "poisson"
    outputs: ClassVar[tuple[str, ...]] = ("exp",)
    least_target: ClassVar[float | None] = 0.0


@dataclass(frozen=True)
class MeanAbsoluteError(LossFunction):
    """Mean of the absolute error, which the median of the targets minimises."""

    name: ClassVar[str] = "mae"
    degree: ClassVar[int | None] = 1


@dataclass(frozen=True)
class Huber(LossFunction):
    """½·(a − t)² for errors up to ``delta``, and linear beyond (Huber 1964, eq. 2.7).

    Parameters
    ----------
    delta : float
        The size above which an error e has the linear loss δ·(e − ½·δ); above 0.

    Raises
    ------
    ValueError
        If delta is not above 0.

    Examples
    --------
    >>> Huber(delta=2.0)
    Huber(delta=2.0)
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        self._set("delta", number(self.delta, "Huber.delta", above=0))


@dataclass(frozen=True)
class LogCosh(LossFunction):
    """Mean of log cosh(a − t): about ½·(a − t)² for small errors, |a − t| − log 2 for large."""

    name: ClassVar[str] = "log_cosh"


@dataclass(frozen=True)
class Quantile(LossFunction):
    """The pinball loss, which a quantile of the targets minimises (Koenker and Bassett 1978).

    Parameters
    ----------
    q : float or list of float
        The quantile, in (0, 1): q·(t − a) for targets above the output a, (1 − q)·(a − t) below. A
        list of k quantiles needs k outputs for each column of y: all columns of the first
        quantile, then those of the second, and so on. The loss is the mean over all outputs. The
        quantiles are learned separately, so that their predictions can cross.

    Raises
    ------
    ValueError
        If a quantile is outside these bounds, or there is none.

    Examples
    --------
    >>> Quantile(0.9)
    Quantile(q=0.9)
    >>> Quantile([0.1, 0.5, 0.9])
    Quantile(q=(0.1, 0.5, 0.9))
    """

    name: ClassVar[str] = "quantile"
    degree: ClassVar[int | None] = 1
    q: float | tuple[float, ...] = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.q, (list, tuple, np.ndarray)):
            self._set("q", number(self.q, "Quantile.q", above=0, below=1))
            return
        found = tuple(
            number(value, f"Quantile.q[{k}]", above=0, below=1) for k, value in enumerate(self.q)
        )
        if not found:
            raise ValueError("Quantile.q: found no quantile, expected at least one")
        self._set("q", found)

    @property
    def per_target(self) -> int:
        return len(self.q) if isinstance(self.q, tuple) else 1

    def numbers(self) -> tuple[float, ...]:
        return self.q if isinstance(self.q, tuple) else (float(self.q),)

    def predictions(self, out: Array, flat: bool) -> Array:
        if not isinstance(self.q, tuple):
            return super().predictions(out, flat)
        # (n, k) for one target, (n, targets, k) for several.
        found = out.reshape(len(out), len(self.q), -1).transpose(0, 2, 1)
        return np.ascontiguousarray(found[:, 0] if found.shape[1] == 1 else found)

    def measured(self, out: Array) -> Array:
        # Those of the quantile that is nearest the median.
        nearest = int(np.abs(np.array(self.numbers()) - 0.5).argmin())
        return np.split(out, self.per_target, axis=1)[nearest]


@dataclass(frozen=True)
class Gamma(LossFunction):
    """Half the gamma deviance, for values above 0 whose deviation grows with their mean."""

    name: ClassVar[str] = "gamma"
    outputs: ClassVar[tuple[str, ...]] = ("exp",)
    least_target: ClassVar[float | None] = 0.0
    positive_targets: ClassVar[bool] = True


@dataclass(frozen=True)
class Tweedie(LossFunction):
    """Half the Tweedie deviance, for values above 0 and exact zeros, such as insurance claims.

    a^b / b + t·a^−c / c − t^b / (b·c) with b = 2 − p and c = p − 1, for the output a and the target
    t (Jørgensen 1987, "Exponential dispersion models", section 5).

    Parameters
    ----------
    power : float
        The exponent p in (1, 2) of the mean in the variance: near 1 as for ``poisson``, near 2 as
        for ``gamma``.

    Raises
    ------
    ValueError
        If the power is outside these bounds.

    Examples
    --------
    >>> Tweedie(power=1.2)
    Tweedie(power=1.2)
    """

    name: ClassVar[str] = "tweedie"
    outputs: ClassVar[tuple[str, ...]] = ("exp",)
    least_target: ClassVar[float | None] = 0.0
    power: float = 1.5

    def __post_init__(self) -> None:
        self._set("power", number(self.power, "Tweedie.power", above=1, below=2))


LEAST_VARIANCE = 1e-6
"""Added to the variance of ``gaussian_nll`` (Lakshminarayanan et al. 2017, section 2.2)."""


@dataclass(frozen=True)
class GaussianNLL(LossFunction):
    """Negative log-likelihood of a normal distribution, whose mean and variance are predicted.

    Each column of y needs two outputs: all means, then all s, with the variance softplus(s) + 1e-6.
    The constant ½·log 2π is left out.
    """

    name: ClassVar[str] = "gaussian_nll"
    outputs: ClassVar[tuple[str, ...]] = ("identity",)

    @property
    def per_target(self) -> int:
        return 2

    def terms(self, n_out: int, output: str) -> int:
        return n_out // 2

    def outputs_in_unit(self, scale: Array, mean: Array) -> tuple[Array, Array]:
        # ``deviations`` are standardised.
        return np.append(scale, np.ones_like(scale)), np.append(mean, np.zeros_like(mean))

    def loss_in_unit(self, scale: Array, shares: Array | None = None) -> tuple[float, float] | None:
        logarithms = np.log(scale)
        return 1.0, float(logarithms.mean() if shares is None else logarithms @ shares)

    def predictions(self, out: Array, flat: bool) -> Array:
        mean = np.ascontiguousarray(out[:, : out.shape[1] // 2])
        return mean.reshape(-1) if flat else mean

    def measured(self, out: Array) -> Array:
        return self.predictions(out, False)

    def deviations(self, out: Array, flat: bool) -> Array:
        """Return the standard deviations of outputs (n, n_out)."""
        s = out[:, out.shape[1] // 2 :]
        variance = np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s))) + s.dtype.type(LEAST_VARIANCE)
        found: Array = np.sqrt(variance)
        return found.reshape(-1) if flat else found


LOSSES: dict[str, type[LossFunction]] = {
    kind.name: kind
    for kind in (
        *(CrossEntropy, BinaryCrossEntropy, MeanSquaredError, Poisson),
        *(MeanAbsoluteError, Huber, LogCosh, Quantile),
        *(Gamma, Tweedie, Hinge, SquaredHinge, Focal, GaussianNLL),
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
