"""Optimizers: frozen dataclasses. ``backends/updates.py`` has the formulas as NumPy code."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import ClassVar

from .arguments import choose, not_a_class, number, whole


@dataclass(frozen=True)
class Optimizer:
    """An update rule.

    Parameters w with the gradient g and the learning rate η; state vectors have their shape and
    dtype.
    """

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
    """Gradient descent: w ← w − η·g (Robbins and Monro 1951)."""

    name: ClassVar[str] = "sgd"


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Momentum: v ← μ·v − η·g, w ← w + v.

    Polyak 1964; in this form Sutskever et al. 2013, "On the importance of initialization and
    momentum in deep learning", eq. 1-2.

    Parameters
    ----------
    momentum : float
        μ in [0, 1], the share of the last step that is kept.

    Raises
    ------
    ValueError
        If it is outside these bounds.
    """

    name: ClassVar[str] = "momentum"
    _slots: ClassVar[int] = 1
    momentum: float = 0.9


@dataclass(frozen=True)
class Nesterov(Optimizer):
    """Nesterov's momentum: v ← μ·v − η·g, w ← w + μ·v − η·g.

    Nesterov 1983; in this form Sutskever et al. 2013, "On the importance of initialization and
    momentum in deep learning", eq. 3-4.

    Parameters
    ----------
    momentum : float
        μ in [0, 1], the share of the last step that is kept.

    Raises
    ------
    ValueError
        If it is outside these bounds.
    """

    name: ClassVar[str] = "nesterov"
    _slots: ClassVar[int] = 1
    momentum: float = 0.9


@dataclass(frozen=True, repr=False)
class RMSProp(Optimizer):
    """RMSProp: s ← ρ·s + (1 − ρ)·g², w ← w − η·g / (√s + ε).

    Tieleman and Hinton 2012, lecture 6.5. As ``torch.optim.RMSprop`` (whose momentum does not
    contain η, which matters only when the learning rate changes), and with ``epsilon_inside`` as
    RMSprop in Keras.

    Parameters
    ----------
    rho : float
        ρ in [0, 1), the decay of the average of g².
    epsilon : float
        ε of 0 or more.
    momentum : float
        μ in [0, 1]. Above 0: v ← μ·v + η·g / (√s + ε), w ← w − v.
    centered : bool
        Whether the root has s − a² in place of s, with the average gradient
        a ← ρ·a + (1 − ρ)·g (Graves 2013, "Generating Sequences With Recurrent Neural Networks",
        eq. 38-45).
    epsilon_inside : bool
        Whether the denominator is √(s + ε).

    Raises
    ------
    TypeError, ValueError
        If a setting is outside these bounds.
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
    """Adagrad: s ← s + g², w ← w − η·g / (√(s + s₀) + ε).

    Duchi, Hazan and Singer 2011, "Adaptive subgradient methods", section 1.1.

    Parameters
    ----------
    epsilon : float
        ε of 0 or more.
    initial : float
        s₀ of 0 or more, the initial sum of squares.
    epsilon_inside : bool
        Whether the denominator is √(s + s₀ + ε), as in Keras.

    Raises
    ------
    TypeError, ValueError
        If a setting is outside these bounds.
    """

    name: ClassVar[str] = "adagrad"
    _slots: ClassVar[int] = 1
    _later: ClassVar[tuple[str, ...]] = ("initial", "epsilon_inside")
    epsilon: float = 1e-10
    initial: float = 0.0
    epsilon_inside: bool = False


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: w ← w − η·m̂ / (√v̂ + ε) with bias-corrected moments of the gradient.

    m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²; in update t, counted from 1,
    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) (Kingma and Ba 2015, algorithm 1).

    Parameters
    ----------
    beta1, beta2 : float
        β₁ and β₂ in [0, 1), the decays of the moments.
    epsilon : float
        ε of 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.

    Examples
    --------
    >>> Adam(beta2=0.99)
    Adam(beta1=0.9, beta2=0.99, epsilon=1e-08)
    """

    name: ClassVar[str] = "adam"
    _slots: ClassVar[int] = 2
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamHat(Optimizer):
    """Adam with ε added to √v, before the bias correction; ``Adam`` adds ε to √v̂.

    The alternative form at the end of section 2 of Kingma and Ba 2015, which scikit-learn, Keras
    and TensorFlow use: w ← w − η·√(1 − β₂ᵗ) / (1 − β₁ᵗ)·m / (√v + ε).

    Parameters
    ----------
    beta1, beta2, epsilon
        As for :class:`Adam`.
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

    Parameters
    ----------
    beta1, beta2, epsilon
        As for :class:`Adam`.
    weight_decay : float
        λ of 0 or more.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
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

    u ← max(u, v), w ← w − η·m̂ / (√û + ε) with û = u / (1 − β₂ᵗ), as
    ``torch.optim.Adam(amsgrad=True)``; algorithm 2 of the paper has no bias corrections.

    Parameters
    ----------
    beta1, beta2, epsilon
        As for :class:`Adam`.
    weight_decay : float
        Decoupled weight decay λ of 0 or more, as in ``torch.optim.AdamW(amsgrad=True)``: weights
        decay, biases do not.
    epsilon_hat : bool
        Whether ε is added to √u instead of √û, as in :class:`AdamHat` and Keras.

    Raises
    ------
    TypeError, ValueError
        If a setting is outside these bounds.
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

    As ``torch.optim.NAdam``:
    w ← w − η·((1 − μₜ)/(1 − Πₜ)·g + μₜ₊₁/(1 − Πₜ₊₁)·m) / (√v̂ + ε) in update t, counted from 1, with
    μₜ = β₁·(1 − ½·0.96^(t·ψ)), Πₜ = μ₁·μ₂·…·μₜ, and m and v̂ as in :class:`Adam`.

    Parameters
    ----------
    beta1, beta2, epsilon
        As for :class:`Adam`.
    momentum_decay : float
        ψ of 0 or more; Keras's Nadam has 1.
    weight_decay : float
        Decoupled weight decay of 0 or more: weights decay, biases do not.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
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
    """Lion: w ← w − η·(sign(β₁·m + (1 − β₁)·g) + λ·w), m ← β₂·m + (1 − β₂)·g.

    Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2. Every parameter
    moves by η in each step, so choose η 3 to 10 times smaller than for Adam, and λ larger by the
    same factor (section 5 of the paper).

    Parameters
    ----------
    beta1, beta2 : float
        β₁ and β₂ in [0, 1).
    weight_decay : float
        λ of 0 or more: weights decay, biases do not.

    Raises
    ------
    ValueError
        If a setting is outside these bounds.
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
    rows once or more, in float64. Training ends after ``epochs`` iterations, or earlier by one of
    the tolerances. The learning rate and the batch size are not used. Dropout, schedules, layer
    rates, L1, limits of norms, checkpoints and ``precision="bf16"`` are refused. It needs SciPy
    (the extra ``scipy``), on whose version the results depend. Every backend has it,
    ``pynn.sklearn`` as ``solver="lbfgs"``.

    Parameters
    ----------
    memory : int
        Number of earlier steps from which the curvature is estimated, from 1 to 1000; a new call of
        ``fit`` begins without any.
    gradient_tolerance : float
        Training ends when the largest element of the gradient is at most this.
    loss_tolerance : float
        Training ends when an iteration reduces the loss by less than this times the larger of the
        loss and 1.

    Raises
    ------
    TypeError, ValueError
        If a setting is outside these bounds.
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
