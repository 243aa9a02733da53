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
    AMSGrad,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    RMSProp,
)

Array = np.ndarray


State = list[Array]


def average(a: Array, w: Array, decay: float, step: int) -> None:
    """a ← a + (1 − d)·(w − a) with d = min(decay, (1 + t) / (10 + t)), where t is ``step``.

    Exponential moving average of any vector w; t counts its updates from 1. The lower decay of the
    first updates is that of TensorFlow's ExponentialMovingAverage: the average soon forgets where
    training began.
    """
    a += a.dtype.type(1 - min(decay, (1 + step) / (10 + step))) * (w - a)


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
    """s ← ρ·s + (1 − ρ)·g², w ← w − η·g / (√s + ε).

    Centered: a ← ρ·a + (1 − ρ)·g, and s − a² in the root, or 0 where rounding makes it negative.
    With momentum: v ← μ·v + η·g / (√s + ε), w ← w − v.
    """
    s, *others = state
    s[...] = o.rho * s + (1 - o.rho) * g * g
    inside, outside = (o.epsilon, 0.0) if o.epsilon_inside else (0.0, o.epsilon)
    spread = s
    if o.centered:
        a = others[-1]
        a[...] = o.rho * a + (1 - o.rho) * g
        spread = np.maximum(s - a * a, 0)
    move = rate * g / (np.sqrt(spread + inside) + outside)
    if o.momentum > 0:
        v = others[0]
        v[...] = o.momentum * v + move
        move = v
    w -= move


def adagrad(
    o: Adagrad, w: Array, g: Array, state: State, step: int, rate: float, decay: bool
) -> None:
    """s ← s + g², w ← w − η·g / (√(s + s₀) + ε), or √(s + s₀ + ε) as the denominator."""
    (s,) = state
    s += g * g
    inside, outside = (o.epsilon, 0.0) if o.epsilon_inside else (0.0, o.epsilon)
    w -= rate * g / (np.sqrt(s + (o.initial + inside)) + outside)


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


def amsgrad(
    o: AMSGrad, w: Array, g: Array, state: State, step: int, rate: float, decay: bool
) -> None:
    """As ``adam``, with the largest v̂ so far: u ← max(u, v), w ← w − η·m̂ / (√û + ε).

    The bias correction û = u / (1 − β₂ᵗ) is applied after the maximum. With ``epsilon_hat`` ε is
    added to √u instead of √û.
    """
    m, v, u = state
    m[...] = o.beta1 * m + (1 - o.beta1) * g
    v[...] = o.beta2 * v + (1 - o.beta2) * g * g
    np.maximum(u, v, out=u)
    if decay:
        w -= rate * o.weight_decay * w
    c = math.sqrt(1 - o.beta2**step)
    epsilon = o.epsilon if o.epsilon_hat else c * o.epsilon
    w -= (rate * c / (1 - o.beta1**step)) * m / (np.sqrt(u) + epsilon)


def nadam(o: NAdam, w: Array, g: Array, state: State, step: int, rate: float, decay: bool) -> None:
    """m and v as in ``adam``, w ← w − η·((1 − μₜ)/(1 − Πₜ)·g + μₜ₊₁/(1 − Πₜ₊₁)·m) / (√v̂ + ε).

    With μₜ = β₁·(1 − ½·0.96^(t·ψ)) and Πₜ = μ₁·μ₂·…·μₜ; ψ is ``momentum_decay``.
    """
    m, v = state
    m[...] = o.beta1 * m + (1 - o.beta1) * g
    v[...] = o.beta2 * v + (1 - o.beta2) * g * g
    if decay:
        w -= rate * o.weight_decay * w
    c = math.sqrt(1 - o.beta2**step)
    now, after = nadam_momentum(o, step), nadam_momentum(o, step + 1)
    product = nadam_product(o, step)
    of_g, of_m = rate * c * (1 - now) / (1 - product), rate * c * after / (1 - product * after)
    w -= (of_g * g + of_m * m) / (np.sqrt(v) + c * o.epsilon)


def nadam_momentum(o: NAdam, step: int) -> float:
    """μₜ = β₁·(1 − ½·0.96^(t·ψ))."""
    return o.beta1 * (1 - 0.5 * 0.96 ** (step * o.momentum_decay))


_PRODUCT: dict[NAdam, tuple[int, float]] = {}
"""The last step that ``nadam_product`` was asked for, and its result."""


def nadam_product(o: NAdam, step: int) -> float:
    """Πₜ = μ₁·μ₂·…·μₜ, multiplied in this order until it is below 1e-30.

    It is a function of the step alone, so that training resumes with identical results. The product
    of the step before it is remembered.
    """
    known, product = _PRODUCT.get(o, (0, 1.0))
    if known > step:
        known, product = 0, 1.0
    for t in range(known + 1, step + 1):
        if product < 1e-30:  # 1 − Π is 1 from here on
            break
        product *= nadam_momentum(o, t)
    _PRODUCT[o] = step, product
    return product


def lion(o: Lion, w: Array, g: Array, state: State, step: int, rate: float, decay: bool) -> None:
    """w ← w − η·λ·w − η·sign(β₁·m + (1 − β₁)·g), then m ← β₂·m + (1 − β₂)·g."""
    (m,) = state
    if decay:
        w -= rate * o.weight_decay * w
    w -= rate * np.sign(o.beta1 * m + (1 - o.beta1) * g)
    m[...] = o.beta2 * m + (1 - o.beta2) * g


UPDATE: dict[str, Callable[..., None]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "adam_hat": adam,
    "adamw": adam,
    "amsgrad": amsgrad,
    "nadam": nadam,
    "lion": lion,
}
