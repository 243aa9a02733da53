"""Optimizers: frozen dataclasses; their formulas are in ``backends.reference.update``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from .arguments import _not_a_class, _number, choose

# --- Optimizers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimizer:
    """A rule that turns a gradient into an update; its formula is in ``reference.update``.

    ``slots`` is how many flat vectors of state it keeps, each shaped like the parameters.
    """

    name: ClassVar[str] = ""
    slots: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name in ("rho", "beta1", "beta2"):
                _number(self, f.name, 0.0, 1.0, open_high=True)
            elif f.name == "momentum":
                _number(self, f.name, 0.0, 1.0)
            else:
                _number(self, f.name, 0.0, float("inf"), open_high=True)


@dataclass(frozen=True)
class SGD(Optimizer):
    """w ← w − η·g (Robbins and Monro 1951)."""

    name: ClassVar[str] = "sgd"


@dataclass(frozen=True)
class Momentum(Optimizer):
    """v ← μ·v − η·g, w ← w + v (Polyak 1964; this form: Sutskever et al. 2013, eq. 1-2)."""

    name: ClassVar[str] = "momentum"
    slots: ClassVar[int] = 1
    momentum: float = 0.9


@dataclass(frozen=True)
class Nesterov(Optimizer):
    """v ← μ·v − η·g, w ← w + μ·v − η·g (Sutskever et al. 2013, eq. 3-4, looking ahead)."""

    name: ClassVar[str] = "nesterov"
    slots: ClassVar[int] = 1
    momentum: float = 0.9


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """s ← ρ·s + (1 − ρ)·g², w ← w − η·g / (√s + ε) (Tieleman and Hinton 2012, lecture 6.5)."""

    name: ClassVar[str] = "rmsprop"
    slots: ClassVar[int] = 1
    rho: float = 0.9
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """s ← s + g², w ← w − η·g / (√s + ε) (Duchi, Hazan and Singer 2011, section 1.1)."""

    name: ClassVar[str] = "adagrad"
    slots: ClassVar[int] = 1
    epsilon: float = 1e-10


@dataclass(frozen=True)
class Adam(Optimizer):
    """Bias-corrected first and second moments (Kingma and Ba 2015, algorithm 1)."""

    name: ClassVar[str] = "adam"
    slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamHat(Optimizer):
    """Adam in the other order of the paper (section 2, at its end): ε̂ stands beside √v as it is.

    That is how scikit-learn and TensorFlow have it; ``Adam`` adds ε after the bias correction.
    """

    name: ClassVar[str] = "adam_hat"
    slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam, with w ← w − η·λ·w apart from the gradient (Loshchilov and Hutter 2019, algorithm 2).

    Weights decay, biases do not.
    """

    name: ClassVar[str] = "adamw"
    slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.name: kind for kind in (SGD, Momentum, Nesterov, RMSProp, Adagrad, Adam, AdamHat, AdamW)
}


def as_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer for its name, or the object itself."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    _not_a_class("optimizer", optimizer)
    return OPTIMIZERS[choose("optimizer", optimizer, OPTIMIZERS)]()
