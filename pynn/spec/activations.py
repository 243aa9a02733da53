"""Activations with a parameter: frozen dataclasses. Formulas are in ``backends/activations.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from .arguments import choose, not_a_class, number
from .functions import Activation

LEAST, MOST = 1e-6, 1e6
"""Bounds of the parameters: products with them stay within the range of float32."""


@dataclass(frozen=True)
class Parametric:
    """An activation of pynn with one parameter, the only field of its class.

    Its name as a string stands for the default value.
    """

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        field = fields(self)[0].name
        value = number(self.parameter, f"{type(self).__name__}.{field}", least=LEAST, most=MOST)
        object.__setattr__(self, field, value)

    @property
    def parameter(self) -> float:
        return getattr(self, fields(self)[0].name)


@dataclass(frozen=True)
class LeakyReLU(Parametric):
    """z for z > 0, slope·z elsewhere (Maas et al. 2013, section 2).

    Parameters
    ----------
    slope : float
        Slope for negative z, from 1e-6 to 1e6. ``"leaky_relu"`` stands for 0.01.

    Raises
    ------
    ValueError
        If the slope is outside these bounds.

    Examples
    --------
    >>> LeakyReLU(0.2)
    LeakyReLU(slope=0.2)
    """

    name: ClassVar[str] = "leaky_relu"
    slope: float = 0.01


@dataclass(frozen=True)
class ELU(Parametric):
    """z for z > 0, α·(eᶻ − 1) elsewhere (Clevert et al. 2016, section 3).

    Parameters
    ----------
    alpha : float
        Negative of the limit for z → −∞, from 1e-6 to 1e6. ``"elu"`` stands for 1.

    Raises
    ------
    ValueError
        If alpha is outside these bounds.
    """

    name: ClassVar[str] = "elu"
    alpha: float = 1.0


@dataclass(frozen=True)
class Softplus(Parametric):
    """ln(1 + e^(β·z)) / β, a smooth relu (Dugas et al. 2001; β as in PyTorch).

    It is computed exactly for large z too, where PyTorch switches to the identity.

    Parameters
    ----------
    beta : float
        Sharpness, from 1e-6 to 1e6: larger values are closer to relu. ``"softplus"`` stands for 1.

    Raises
    ------
    ValueError
        If beta is outside these bounds.
    """

    name: ClassVar[str] = "softplus"
    beta: float = 1.0


PARAMETRIC: dict[str, type[Parametric]] = {kind.name: kind for kind in (LeakyReLU, ELU, Softplus)}


def describe(activation: str | Parametric) -> str | dict[str, Any]:
    """Return an activation as JSON can hold it: a name, or a name with a parameter."""
    if isinstance(activation, str):
        return activation
    return {"name": activation.name, **asdict(activation)}


def from_description(saved: Any) -> Any:
    """Return the activation that ``describe`` described; anything but a dictionary is a name."""
    if not isinstance(saved, Mapping):
        return saved
    settings = dict(saved)
    return PARAMETRIC[choose("activation", settings.pop("name"), PARAMETRIC)](**settings)


def with_parameter(name: str, value: float) -> str | Parametric:
    """Return an activation as users give it: a name if the parameter has its default."""
    if value == default_parameter(name):
        return name
    kind = PARAMETRIC[name]
    return kind(**{fields(kind)[0].name: value})


def default_parameter(name: str) -> float:
    """Return the parameter that the name of an activation stands for; 0 if it has none."""
    return PARAMETRIC[name]().parameter if name in PARAMETRIC else 0.0


def check_activation(argument: str, found: object, allowed: tuple[str, ...]) -> None:
    """Raise unless ``found`` is a custom or parametric activation, or one of the names."""
    if not isinstance(found, (Activation, Parametric)):
        not_a_class(argument, found)
        choose(argument, found, allowed)
