"""Normalisations: frozen dataclasses. ``backends/norms.py`` has the formulas as NumPy code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .arguments import choose, not_a_class, number

LEAST, MOST = 1e-20, 1e6
"""Bounds of ε: its square root is a normal float32."""


class Norm:
    """A normalisation of the outputs of a layer.

    ``vectors`` is its number of parameters for each unit: a scale, or a scale and a shift.
    ``over_rows`` says whether its mean is over the rows of a batch rather than the units of a row;
    it then also has running statistics, a mean and a variance for each unit.
    """

    name: ClassVar[str] = ""
    vectors: ClassVar[int] = 2
    centers: ClassVar[bool] = True
    over_rows: ClassVar[bool] = False
    epsilon: float

    def __post_init__(self) -> None:
        name = f"{type(self).__name__}.epsilon"
        object.__setattr__(self, "epsilon", number(self.epsilon, name, least=LEAST, most=MOST))


@dataclass(frozen=True)
class LayerNorm(Norm):
    """γ·(z − mean) / √(variance + ε) + β over the units of each row (Ba et al. 2016, section 3).

    Parameters
    ----------
    epsilon : float
        ε, from 1e-20 to 1e6.

    Raises
    ------
    ValueError
        If epsilon is outside these bounds.

    Examples
    --------
    >>> LayerNorm(1e-3)
    LayerNorm(epsilon=0.001)
    """

    name: ClassVar[str] = "layer"
    epsilon: float = 1e-5


@dataclass(frozen=True)
class RMSNorm(Norm):
    """γ·z / √(mean of z² + ε) over the units of each row (Zhang and Sennrich 2019, equation 4).

    It has no shift, as in PyTorch.

    Parameters
    ----------
    epsilon : float
        ε, from 1e-20 to 1e6.

    Raises
    ------
    ValueError
        If epsilon is outside these bounds.
    """

    name: ClassVar[str] = "rms"
    vectors: ClassVar[int] = 1
    centers: ClassVar[bool] = False
    epsilon: float = 1e-5


@dataclass(frozen=True)
class BatchNorm(Norm):
    """γ·(z − mean) / √(variance + ε) + β over the rows of a batch (Ioffe and Szegedy 2015,
    algorithms 1 and 2).

    Predictions use running statistics, which each update moves towards the statistics of its batch:
    r ← r + momentum·(batch − r), as in PyTorch.

    Parameters
    ----------
    momentum : float
        Share of a batch in the running statistics, from 0 to 1. Keras's momentum is 1 minus this.
    epsilon : float
        ε, from 1e-20 to 1e6.
    unbiased : bool
        Whether the running variance has n − 1 degrees of freedom, as in PyTorch; False: n, as in
        Keras.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside these bounds.
    """

    name: ClassVar[str] = "batch"
    over_rows: ClassVar[bool] = True
    momentum: float = 0.1
    epsilon: float = 1e-5
    unbiased: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        momentum = number(self.momentum, "BatchNorm.momentum", least=0, most=1)
        object.__setattr__(self, "momentum", momentum)
        if not isinstance(self.unbiased, bool):
            raise TypeError(f"BatchNorm.unbiased: found {self.unbiased!r}, expected True or False")


NORMS: dict[str, type[Norm]] = {kind.name: kind for kind in (LayerNorm, RMSNorm, BatchNorm)}

NormLike = str | Norm | None
"""A normalisation as users give it: a name, an object, or None."""


def as_norms(norm: NormLike | Sequence[NormLike], hidden: int) -> tuple[Norm | None, ...]:
    """Return the normalisation of each of the hidden layers.

    Raises
    ------
    TypeError, ValueError
        If an entry is no normalisation, or the list has not one for each hidden layer.
    """
    if norm is None or isinstance(norm, (str, type, Norm)):
        return (_as_norm(norm, "norm"),) * hidden
    if not isinstance(norm, (list, tuple)):
        raise TypeError(
            f"norm: found {norm!r}, expected None, a name, an object such as pynn.LayerNorm(), or "
            "a list of them, one for each hidden layer"
        )
    if len(norm) != hidden:
        raise ValueError(
            f"norm: found {len(norm)} values, expected one or {hidden}, one for each hidden layer"
        )
    return tuple(_as_norm(each, f"norm[{k}]") for k, each in enumerate(norm))


def _as_norm(norm: Any, argument: str) -> Norm | None:
    if norm is None or isinstance(norm, Norm):
        return norm
    not_a_class(argument, norm)
    return NORMS[choose(argument, norm, NORMS)]()


def describe(norm: Norm) -> dict[str, Any]:
    """Return a normalisation as JSON can hold it."""
    return {"name": norm.name, **vars(norm)}


def from_description(saved: Any) -> Norm | None:
    """Return the normalisation that ``describe`` described; None for None."""
    if saved is None:
        return None
    if not isinstance(saved, Mapping):
        raise TypeError(f"norm: found {saved!r}, expected an object")
    settings = {name: value for name, value in saved.items() if name != "after"}
    return NORMS[choose("norm", settings.pop("name"), NORMS)](**settings)
