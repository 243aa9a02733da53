"""Functions of single values in ONNX graphs, and the activations that they are.

A file may write an activation in many ways, such as z·sigmoid(z). The operators between z and the
result are therefore evaluated at some points, and the values compared with those of pynn's
activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.activations import ACTIVATION, SELU_ALPHA, SELU_SCALE
from ..spec.activations import LEAST, MOST, PARAMETRIC, default_parameter

Array = np.ndarray

POINTS = np.concatenate(
    [
        np.linspace(-12.0, 12.0, 193),
        [-100.0, -30.0, -20.0, -1e-3, 1e-3, 20.0, 30.0, 100.0],
        [-1e6, -1e4, -1e3, 1e3, 1e4, 1e6],
    ]
)
"""Arguments at which functions are compared."""
NEAR = 201
"""The number of first points, where functions must be finite. At the others, which find a limit
such as ``min(relu(z), 100)``, a form such as log(1 + exp(z)) may overflow."""
TOLERANCE = 2e-6
"""Largest relative difference: constants in files are rounded to float32."""

_FAR = np.arange(len(POINTS)) >= NEAR
_erf = np.frompyfunc(math.erf, 1, 1)


def _gelu(z: Array, s: dict[str, Any]) -> Array:
    tanh = s.get("approximate", b"none") == b"tanh"
    return ACTIVATION["gelu_tanh" if tanh else "gelu"].function(z)


def _clip(z: Array, s: dict[str, Any], *ends: Array | None) -> Array:
    low, high = (*ends, None, None)[:2]
    low = s.get("min", -np.inf) if low is None else low
    return np.minimum(np.maximum(z, low), s.get("max", np.inf) if high is None else high)


def _named(name: str) -> Callable[..., Array]:
    return lambda z, s: ACTIVATION[name].function(z)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Identity": lambda z, s: z,
    "Cast": lambda z, s: z,
    "Dropout": lambda z, s, *_: z,
    "Relu": lambda z, s: np.maximum(z, 0),
    "Sigmoid": _named("sigmoid"),
    "Tanh": lambda z, s: np.tanh(z),
    "Exp": lambda z, s: np.exp(z),
    "Log": lambda z, s: np.log(z),
    "Neg": lambda z, s: -z,
    "Abs": lambda z, s: np.abs(z),
    "Sqrt": lambda z, s: np.sqrt(z),
    "Reciprocal": lambda z, s: 1 / z,
    "Erf": lambda z, s: np.asarray(_erf(z), np.float64),
    "Softplus": _named("softplus"),
    "Softsign": _named("softsign"),
    "Mish": _named("mish"),
    "HardSwish": _named("hard_swish"),
    "Gelu": _gelu,
    "Elu": lambda z, s: np.where(z > 0, z, s.get("alpha", 1.0) * np.expm1(np.minimum(z, 0))),
    "Celu": lambda z, s: np.where(
        z > 0, z, s.get("alpha", 1.0) * np.expm1(np.minimum(z, 0) / s.get("alpha", 1.0))
    ),
    "Selu": lambda z, s: (
        s.get("gamma", SELU_SCALE)
        * np.where(z > 0, z, s.get("alpha", SELU_ALPHA) * np.expm1(np.minimum(z, 0)))
    ),
    "LeakyRelu": lambda z, s: np.where(z > 0, z, s.get("alpha", 0.01) * z),
    "ThresholdedRelu": lambda z, s: np.where(z > s.get("alpha", 1.0), z, 0),
    "PRelu": lambda z, s, slope: np.where(z > 0, z, slope * z),
    "HardSigmoid": lambda z, s: np.clip(s.get("alpha", 0.2) * z + s.get("beta", 0.5), 0, 1),
    "Swish": lambda z, s: z * ACTIVATION["sigmoid"].function(s.get("alpha", 1.0) * z),
    "Clip": _clip,
    "Add": lambda a, s, b: a + b,
    "Sub": lambda a, s, b: a - b,
    "Mul": lambda a, s, b: a * b,
    "Div": lambda a, s, b: a / b,
    "Pow": lambda a, s, b: a**b,
    "Max": lambda a, s, *b: np.maximum.reduce(np.broadcast_arrays(a, *b)),
    "Min": lambda a, s, *b: np.minimum.reduce(np.broadcast_arrays(a, *b)),
    "Where": lambda a, s, b, c: np.where(a, b, c),
    "Greater": lambda a, s, b: a > b,
    "GreaterOrEqual": lambda a, s, b: a >= b,
    "Less": lambda a, s, b: a < b,
    "LessOrEqual": lambda a, s, b: a <= b,
}
"""Operators that map each value by itself, by the first argument, the settings and the others."""


def apply(op: str, arguments: list[Any], settings: dict[str, Any]) -> Any:
    """Return the result of an operator for arrays, in float64 unless they are no floats."""
    wide = [
        a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
        for a in arguments
    ]
    return ELEMENTWISE[op](wide[0], settings, *wide[1:])


def linear(found: Array) -> tuple[float, float] | None:
    """Return factor and summand if values at ``POINTS`` are those of a linear function."""
    half = len(POINTS) // 2
    low, high = 0, half
    factor = float((found[high] - found[low]) / (POINTS[high] - POINTS[low]))
    summand = float(found[low] - factor * POINTS[low])
    exact = np.abs(found - (factor * POINTS + summand)) <= _LINEAR * (abs(summand) + np.abs(found))
    return (factor, summand) if factor and exact.all() else None


_LINEAR = np.where(np.arange(len(POINTS)) < NEAR, 1e-12, 1e-9)
"""Largest relative difference from a linear function, whose factor is that of near points."""


def activation(found: Array) -> tuple[str, float] | None:
    """Return name and parameter of the activation with these values at ``POINTS``, or None."""
    names = [name for name in ACTIVATION if name != "identity"]
    candidates = [(name, default_parameter(name)) for name in names]
    one, zero = int(np.abs(POINTS + 1).argmin()), int(np.abs(POINTS).argmin())
    with np.errstate(all="ignore"):
        fitted = {
            "leaky_relu": -found[one],
            "elu": found[one] / math.expm1(-1),
            "softplus": math.log(2) / found[zero],
        }
    for name, value in fitted.items():
        # Parameters in files are rounded to float32: 0.20000000298 is 0.2.
        short = float(str(np.float32(value)))
        candidates += [(name, each) for each in (short, float(value)) if LEAST <= each <= MOST]
    for name, parameter in candidates:
        settings = (parameter,) if name in PARAMETRIC else ()
        with np.errstate(all="ignore"):
            expected = ACTIVATION[name].function(POINTS, *settings)
            equal = np.abs(found - expected) <= TOLERANCE * (1 + np.abs(expected))
        if (np.where(np.isfinite(found), equal & np.isfinite(expected), _FAR)).all():
            return name, parameter
    return None
