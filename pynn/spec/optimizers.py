"""Optimizers: frozen dataclasses. ``backends/updates.py`` has the formulas as NumPy code."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import ClassVar

from .arguments import choose, not_a_class, number, whole


@dataclass(frozen=True)
class Optimizer:
    """An update rule."""

    name: ClassVar[str] = ""
    _slots: ClassVar[int] = 0
    _later: ClassVar[tuple[str, ...]] = ()
    """Fields that ``repr`` leaves out at their defaults: checkpoints from before them hold it."""

    @property
    def slots(self) -> int:
        """The number of state vectors, each shaped like the parameters."""
        return self._slots

    def __repr__(self) -> str:
        shown = [f for f in fields(self) if f.name not in self._later or getattr(self, f.name)]
        settings = (f"{f.name}={getattr(self, f.name)!r}" for f in shown)
        return f"{type(self).__name__}({', '.join(settings)})"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, name = getattr(self, field.name), f"{type(self).__name__}.{field.name}"
            if isinstance(field.default, bool):
                if value not in (False, True):  # model files hold floats
                    raise TypeError(f"{name}: found {value!r}, expected True or False")
                object.__setattr__(self, field.name, bool(value))
            elif field.name in ("rho", "beta1", "beta2"):
                number(value, name, least=0, below=1)
            elif field.name == "momentum":
                number(value, name, least=0, most=1)
            else:
                number(value, name, least=0)


@dataclass(frozen=True)
class SGD(Optimizer):
    """w ← w − η·g (Robbins and Monro 1951)."""

    name: ClassVar[str] = "sgd"


@dataclass(frozen=True)
class Momentum(Optimizer):
    """v ← μ·v − η·g, w ← w + v (Polyak 1964; this form: Sutskever et al. 2013, eq. 1-2)."""

    name: ClassVar[str] = "momentum"
    _slots: ClassVar[int] = 1
    momentum: float = 0.9


@dataclass(frozen=True)
class Nesterov(Optimizer):
    """v ← μ·v − η·g, w ← w + μ·v − η·g (Sutskever et al. 2013, eq. 3-4)."""

    name: ClassVar[str] = "nesterov"
    _slots: ClassVar[int] = 1
    momentum: float = 0.9


@dataclass(frozen=True, repr=False)
class RMSProp(Optimizer):
    """s ← ρ·s + (1 − ρ)·g², w ← w − η·g / (√s + ε) (Tieleman and Hinton 2012, lecture 6.5).

    With ``momentum`` μ: v ← μ·v + η·g / (√s + ε), w ← w − v. ``centered`` subtracts the square of
    the average gradient, a ← ρ·a + (1 − ρ)·g, from s in the root (Graves 2013, "Generating
    Sequences With Recurrent Neural Networks", eq. 38-45). With ``epsilon_inside`` the denominator
    is √(s + ε). As ``torch.optim.RMSprop`` (whose momentum does not contain η, which matters only
    when the learning rate changes), and with ``epsilon_inside`` as RMSprop in Keras.
    """

    name: ClassVar[str] = "rmsprop"
    _later: ClassVar[tuple[str, ...]] = ("momentum", "centered", "epsilon_inside")
    rho: float = 0.9
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    epsilon_inside: bool = False

    @property
    def slots(self) -> int:
        """The number of state vectors: s, v with momentum, a if centered."""
        return 1 + (self.momentum > 0) + self.centered


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """s ← s + g², w ← w − η·g / (√(s + s₀) + ε) (Duchi, Hazan and Singer 2011, section 1.1).

    s₀ is ``initial``. With ``epsilon_inside`` the denominator is √(s + s₀ + ε), as in Keras.
    """

    name: ClassVar[str] = "adagrad"
    _slots: ClassVar[int] = 1
    _later: ClassVar[tuple[str, ...]] = ("initial", "epsilon_inside")
    epsilon: float = 1e-10
    initial: float = 0.0
    epsilon_inside: bool = False


@dataclass(frozen=True)
class Adam(Optimizer):
    """Bias-corrected first and second moments (Kingma and Ba 2015, algorithm 1)."""

    name: ClassVar[str] = "adam"
    _slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamHat(Optimizer):
    """Adam in the alternative form at the end of section 2 of the paper: ε̂ is added to √v.

    scikit-learn and TensorFlow use this form; ``Adam`` adds ε to √v̂, after the bias correction.
    """

    name: ClassVar[str] = "adam_hat"
    _slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay, w ← w − η·λ·w (Loshchilov and Hutter 2019, algorithm 2).

    Weights decay, biases do not.
    """

    name: ClassVar[str] = "adamw"
    _slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01


@dataclass(frozen=True, repr=False)
class AMSGrad(Optimizer):
    """Adam with the largest second moment so far in the denominator (Reddi et al. 2018).

    As ``torch.optim.Adam(amsgrad=True)``, which differs from algorithm 2 of the paper in Adam's
    bias corrections; with ``weight_decay`` as ``torch.optim.AdamW(amsgrad=True)``: weights decay,
    biases do not. With ``epsilon_hat`` ε is added to the root of u instead of û, as in ``AdamHat``
    and Keras.
    """

    name: ClassVar[str] = "amsgrad"
    _slots: ClassVar[int] = 3
    _later: ClassVar[tuple[str, ...]] = ("epsilon_hat",)
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    epsilon_hat: bool = False


@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016, "Incorporating Nesterov Momentum into Adam").

    As ``torch.optim.NAdam``, with the momentum of step t, counted from 1,
    μₜ = β₁·(1 − ½·0.96^(t·``momentum_decay``)); Keras's Nadam has ``momentum_decay=1``.
    ``weight_decay`` is decoupled: weights decay, biases do not.
    """

    name: ClassVar[str] = "nadam"
    _slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 4e-3
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Lion(Optimizer):
    """w ← w − η·(sign(β₁·m + (1 − β₁)·g) + λ·w), m ← β₂·m + (1 − β₂)·g (Chen et al. 2023).

    Algorithm 2 of "Symbolic Discovery of Optimization Algorithms". Every parameter moves by η in
    each step, so η is 3 to 10 times smaller than Adam's, and λ, ``weight_decay``, larger by the
    same factor (section 5 of the paper). Weights decay, biases do not.
    """

    name: ClassVar[str] = "lion"
    _slots: ClassVar[int] = 1
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0


@dataclass(frozen=True)
class LBFGS(Optimizer):
    """Limited-memory BFGS on all rows at once (Liu and Nocedal 1989; Byrd et al. 1995), by SciPy.

    Each epoch is one iteration with a line search, which evaluates the loss and its gradient on all
    rows once or more, in float64. The learning rate and the batch size are not used. Training ends
    after ``epochs`` iterations, or when the largest element of the gradient is at most
    ``gradient_tolerance``, or when an iteration reduces the loss by less than ``loss_tolerance``
    times the larger of the loss and 1. ``memory`` is the number of earlier steps from which the
    curvature is estimated; a new call of ``fit`` begins without any. Dropout, schedules,
    layer rates, L1, limits of norms, checkpoints and ``precision="bf16"`` are refused. It needs
    SciPy (the extra ``scipy``), on whose version the results depend. Every backend has it,
    ``pynn.sklearn`` as ``solver="lbfgs"``.
    """

    name: ClassVar[str] = "lbfgs"
    memory: int = 10
    gradient_tolerance: float = 1e-5
    loss_tolerance: float = 2.2e-9

    def __post_init__(self) -> None:
        memory: object = self.memory
        if isinstance(memory, float) and memory.is_integer():  # model files hold floats
            memory = int(memory)
        object.__setattr__(self, "memory", whole(memory, "LBFGS.memory", 1, 1000))
        for name in ("gradient_tolerance", "loss_tolerance"):
            number(getattr(self, name), f"LBFGS.{name}", least=0)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.name: kind
    for kind in (
        *(SGD, Momentum, Nesterov, RMSProp, Adagrad, Adam, AdamHat, AdamW),
        *(AMSGrad, NAdam, Lion),
    )
}


ALL_OPTIMIZERS: dict[str, type[Optimizer]] = {**OPTIMIZERS, LBFGS.name: LBFGS}
"""``OPTIMIZERS``, which the trainers of all backends implement, and L-BFGS, which calls
``Engine.objective`` instead."""


def as_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return the optimizer of a name with default parameters, or the object itself."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    not_a_class("optimizer", optimizer)
    return _by_name(choose("optimizer", optimizer, ALL_OPTIMIZERS))


@functools.cache
def _by_name(name: str) -> Optimizer:
    return ALL_OPTIMIZERS[name]()
