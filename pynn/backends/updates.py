"""Update rules of the NumPy reference, one per optimizer.

Each function changes parameters w and the optimizer's state in place, for a gradient g of the same
shape and the settings o of the optimizer. ``step`` counts updates from 1 and is never reset;
``decay`` is True for weights and False for biases, which weight decay leaves unchanged. The papers
are cited in ``spec/optimizers.py``.

To add an optimizer: a function and a line in ``UPDATE`` here, a dataclass in
``spec/optimizers.py``, and the formula in ``numba/update.py`` and ``csrc/kernels/optimizers.h``,
with its number in ``numba/plan.py`` and ``cython/setup.pxi``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..spec.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamHat,
    AdamW,
    Momentum,
    Nesterov,
    RMSProp,
)

Array = np.ndarray


State = list[Array]


def sgd(o: SGD, w: Array, g: Array, state: State, step: int, rate: float, decay: bool) -> None:
    """w ← w − η·g."""
    w -= rate * g


def momentum(
    o: Momentum, w: Array, g: Array, state: State, step: int, rate: float, decay: bool
) -> None:
    """v ← μ·v − η·g, w ← w + v."""
    (v,) = state
    v[...] = o.momentum * v - rate * g
    w += v


def nesterov(
    o: Nesterov, w: Array, g: Array, state: State, step: int, rate: float, decay: bool
) -> None:
    """v ← μ·v − η·g, w ← w + μ·v − η·g."""
    (v,) = state
    v[...] = o.momentum * v - rate * g
    w += o.momentum * v - rate * g


def rmsprop(
    o: RMSProp, w: Array, g: Array, state: State, step: int, rate: float, decay: bool
) -> None:
    """s ← ρ·s + (1 − ρ)·g², w ← w − η·g / (√s + ε)."""
    (s,) = state
    s[...] = o.rho * s + (1 - o.rho) * g * g
    w -= rate * g / (np.sqrt(s) + o.epsilon)


def adagrad(
    o: Adagrad, w: Array, g: Array, state: State, step: int, rate: float, decay: bool
) -> None:
    """s ← s + g², w ← w − η·g / (√s + ε)."""
    (s,) = state
    s += g * g
    w -= rate * g / (np.sqrt(s) + o.epsilon)


def adam(
    o: Adam | AdamHat | AdamW,
    w: Array,
    g: Array,
    state: State,
    step: int,
    rate: float,
    decay: bool,
) -> None:
    """m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², w ← w − η·m̂ / (√v̂ + ε).

    With m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ). AdamHat adds ε to √v instead of √v̂; AdamW first
    decays the weights, w ← w − η·λ·w.
    """
    m, v = state
    m[...] = o.beta1 * m + (1 - o.beta1) * g
    v[...] = o.beta2 * v + (1 - o.beta2) * g * g
    if isinstance(o, AdamW) and decay:
        w -= rate * o.weight_decay * w
    # The bias corrections are moved into the step size and epsilon:
    # m̂ / (√v̂ + ε) = (c / (1 − β₁ᵗ))·m / (√v + c·ε) with c = √(1 − β₂ᵗ).
    c = math.sqrt(1 - o.beta2**step)
    epsilon = o.epsilon if isinstance(o, AdamHat) else c * o.epsilon
    w -= (rate * c / (1 - o.beta1**step)) * m / (np.sqrt(v) + epsilon)


UPDATE: dict[str, Callable[..., None]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "adam_hat": adam,
    "adamw": adam,
}
