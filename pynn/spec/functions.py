"""Custom activations and losses: functions with their derivatives, checked when created.

A function is a formula on numbers, written with NumPy: the reference calls it with arrays, the
Numba backend compiles it for single numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .arguments import choose
from .names import OUTPUTS, RESERVED

Array = np.ndarray
Formula = Callable[..., Any]

STEP = 1e-4
"""Step h of the finite differences (f(z + h) - f(z)) / h and (f(z) - f(z - h)) / h."""
NEAR, FAR = 8.0, 30.0
"""Derivatives are tested up to FAR, most points being within NEAR, where most values of z are."""
BEYOND = np.array([-1000.0, -100.0, 100.0, 1000.0])
"""Arguments at which results may be infinite, but not NaN."""
ENDS = {
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, np.inf),
    "softplus": (0.0, np.inf),
    "exp": (0.0, np.inf),
    "softsign": (-1.0, 1.0),
    "relu6": (0.0, 6.0),
    "hard_sigmoid": (0.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
}
"""Interval of the outputs of an activation, if it is bounded."""

GOLDEN = 0.6180339887498949
"""(√5 − 1) / 2, whose multiples modulo 1 are spread most evenly."""


def _spread(n: int, low: float, high: float, part: float = GOLDEN) -> Array:
    """Return n quasi-random points: fractional parts of multiples of an irrational number.

    They are evenly spread, and unlikely to hit a kink such as 0 exactly.
    """
    return low + (high - low) * (np.arange(1, n + 1) * part % 1)


def _call(owner: Function, role: str, *points: Array) -> Array:
    """Call a function on arrays of one shape; raise unless it returns numbers of that shape."""
    what = f"{owner!r}: {role}"
    shape, dtype = points[0].shape, points[0].dtype
    for array in points:
        array.flags.writeable = False
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(owner, role)(*points)
    except Exception as error:
        raise ValueError(
            f"{what}: found one that fails for arrays {shape} of {dtype} "
            f"({type(error).__name__}: {error}), expected one that returns a number for each "
            "element, written with NumPy functions: np.where(z > 0, a, b) in place of if"
        ) from error
    if np.shape(found) != shape:
        raise ValueError(
            f"{what}: found shape {np.shape(found)} for arrays {shape}, expected {shape}: a number "
            "for each element, such as np.ones_like(z) in place of 1"
        )
    if np.asarray(found).dtype.kind not in "fiub":
        kind = np.asarray(found).dtype
        raise ValueError(f"{what}: found {kind} for arrays of {dtype}, expected real numbers")
    with np.errstate(all="ignore"):
        return np.asarray(found, dtype)


def _require(
    holds: Array,
    owner: Function,
    role: str,
    points: Sequence[Array],
    found: Array,
    expected: Array | str,
) -> None:
    """Raise for the first point at which a condition does not hold."""
    if holds.all():
        return
    k = int(holds.argmin())
    at = ", ".join(f"{name} = {p[k]:g}" for name, p in zip(owner.arguments, points, strict=True))
    if not isinstance(expected, str):
        expected = f"{expected[k]:.7g}, the slope of its function there"
    raise ValueError(f"{owner!r}: {role}: found {found[k]:.7g} at {at}, expected {expected}")


def _test(owner: Function, derivative: str, points: list[Array], beyond: list[Array]) -> None:
    """Test a function and its derivative by its first argument, in float64 and in float32.

    Raises
    ------
    ValueError
        If one does not work element by element, or returns numbers that are not finite; or if the
        derivative is not the slope of the function where it has one.
    """
    for role in ("function", derivative):
        for dtype in (np.float64, np.float32):
            _test_values(owner, role, points, beyond, dtype)
        _test_elementwise(owner, role, points)
    _test_slope(owner, derivative, points)


def _test_values(
    owner: Function,
    role: str,
    points: list[Array],
    beyond: list[Array],
    dtype: type[np.floating[Any]],
) -> None:
    with np.errstate(all="ignore"):
        rounded = [p.astype(dtype) for p in points]
        outside = [p.astype(dtype) for p in beyond]
    found = _call(owner, role, *rounded)
    expected = f"a finite number of {np.dtype(dtype)}"
    _require(np.isfinite(found), owner, role, rounded, found, expected)
    found = _call(owner, role, *outside)
    expected = f"a number, or infinity, in {np.dtype(dtype)}"
    _require(~np.isnan(found), owner, role, outside, found, expected)


def _test_elementwise(owner: Function, role: str, points: list[Array]) -> None:
    """Raise if an element's result differs in a smaller array of another shape."""
    whole = _call(owner, role, *points)[:6]
    part = _call(owner, role, *(p[:6].reshape(2, 3) for p in points)).reshape(-1)
    same = np.isclose(part, whole, rtol=1e-6, atol=1e-9)
    expected = "its value in a larger array: each element must be computed by itself"
    _require(same, owner, role, [p[:6] for p in points], part, expected)


def _test_slope(owner: Function, derivative: str, points: list[Array]) -> None:
    first, rest = points[0], points[1:]
    middle, above, below = (_call(owner, "function", first + h, *rest) for h in (0.0, STEP, -STEP))
    right, left = (above - middle) / STEP, (middle - below) / STEP
    slope, found = (right + left) / 2, _call(owner, derivative, *points)
    kink = np.abs(right - left) > 1e-3 + 1e-2 * (np.abs(right) + np.abs(left))
    # Rounding of f divided by STEP, and the error of central differences, STEP² / 6 times the third
    # derivative, if that is up to about 100 times the first.
    tolerance = 1e-6 * (1 + np.abs(middle)) + 1e-4 * (np.abs(slope) + np.abs(found))
    close = np.abs(found - slope) <= tolerance
    _require(kink | close, owner, derivative, points, found, slope)


@dataclass(frozen=True, repr=False)
class Function:
    """The common part of custom activations and losses."""

    name: str
    function: Formula

    @property
    def arguments(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def roles(self) -> tuple[str, str]:
        """Names of the attributes that hold the function and its derivative."""
        raise NotImplementedError

    def points(self) -> list[Array]:
        """Return the points at which it is tested: an array for each argument."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _check(self) -> None:
        kind = type(self).__name__
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"{kind}.name: found {self.name!r}, expected a word such as 'swish'")
        if self.name in RESERVED:
            raise ValueError(
                f"{kind}.name: found {self.name!r}, a function of pynn, expected another name"
            )
        for role in self.roles:
            if not callable(getattr(self, role)):
                raise TypeError(
                    f"{self!r}: {role}: found {getattr(self, role)!r}, expected a function"
                )

    def fingerprint(self) -> list[float]:
        """Return values of function and derivative at fixed points, to recognise it in a file."""
        points = [_spread(8, -3, 3, part) for part in (0.618034, 0.414214)][: len(self.arguments)]
        if isinstance(self, Loss):
            low, high = self._ends()
            points = [np.clip(p, max(low, -3) + 0.1, min(high, 3) - 0.1) for p in points]
        found = [_call(self, role, *points) for role in self.roles]
        return [float(f"{value:.6g}") for value in np.concatenate(found)]


@dataclass(frozen=True, repr=False)
class Activation(Function):
    """A custom activation, for hidden layers or outputs.

    Parameters
    ----------
    name : str
        Its name in files and messages, different from the names of pynn's functions.
    function : function of z
        f(z) for an array of any shape, float32 or float64, computed element by element with
        arithmetic and NumPy functions, such as ``lambda z: z / (1 + np.exp(-z))``.
    derivative : function of z
        f'(z), also as a function of z. At a kink any slope is accepted.

    Raises
    ------
    TypeError, ValueError
        If a function does not return a finite number for each element, or the derivative is not
        the slope of the function. Both are tested at 400 points from −30 to 30.

    Notes
    -----
    Use ``np.where(z > 0, …)`` in place of ``if``. Do not change global variables that the function
    reads: Numba reads them once, when a network is created. Weights of units whose activation is
    near zero on one side and grows on the other, as relu does, are initialised like those of relu
    (he_normal).

    Examples
    --------
    >>> def sigmoid(z):
    ...     return 1 / (1 + np.exp(-z))
    >>> swish = Activation(
    ...     "swish", lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z)))
    ... )
    >>> Activation("wrong", np.tanh, lambda z: 1 - np.tanh(z))
    Traceback (most recent call last):
    ValueError: Activation('wrong'): derivative: found ... at z = 1.88854, expected ...
    """

    derivative: Formula

    def __post_init__(self) -> None:
        self._check()
        _test(self, "derivative", self.points(), [BEYOND])

    def points(self) -> list[Array]:
        return [np.concatenate([_spread(300, -NEAR, NEAR), _spread(100, -FAR, FAR)])]

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("z",)

    @property
    def roles(self) -> tuple[str, str]:
        return "function", "derivative"

    @property
    def rectifies(self) -> bool:
        """Whether it is near zero on one side and grows on the other, as relu does."""
        left, right = np.abs(_call(self, "function", np.array([-FAR, FAR])))
        return bool(left < 0.1 * right and right > 0.3 * FAR)


@dataclass(frozen=True, repr=False)
class Loss(Function):
    """A custom loss: the mean over a row's outputs of a function of output and target.

    Parameters
    ----------
    name : str
        Its name in files and messages, different from the names of pynn's functions.
    function : function of a and t
        L(a, t) for two arrays of the same shape, float32 or float64, computed element by element:
        the outputs a (after the output activation) and their targets t. Labels become one-hot
        targets.
    gradient : function of a and t
        ∂L/∂a. pynn multiplies it by the derivative of the output activation.
    output : str or Activation
        The default output activation of networks with this loss.

    Raises
    ------
    TypeError, ValueError
        If a function does not return a finite number for each pair, or the gradient is not the
        slope of the function. Both are tested at 400 pairs within the range of the output
        activation.

    Examples
    --------
    >>> pseudo_huber = Loss(
    ...     "pseudo_huber",
    ...     lambda a, t: np.sqrt(1 + (a - t) ** 2) - 1,
    ...     lambda a, t: (a - t) / np.sqrt(1 + (a - t) ** 2),
    ... )
    """

    gradient: Formula
    output: str | Activation = "identity"

    # What ``spec.losses.LossFunction`` tells of a loss of pynn.
    regression: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = True
    probabilities: ClassVar[bool] = True
    per_target: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._check()
        if not isinstance(self.output, Activation):
            choose(f"{self!r}: output", self.output, OUTPUTS)
        low, high = self._ends()
        ends = BEYOND[low < BEYOND] if np.isinf(high) else np.array([low, high])
        beyond = [grid.reshape(-1) for grid in np.meshgrid(ends, np.clip(ends, low, high))]
        _test(self, "gradient", self.points(), beyond)

    def points(self) -> list[Array]:
        low, high = self._ends()
        low, high = max(low, -NEAR), min(high, NEAR)
        margin = 0.01 * (high - low)
        a = _spread(400, low + margin, high - margin)
        t = _spread(400, low, high, 0.4142135623730951)  # √2 − 1, so that pairs fill the square
        t[::8] = np.clip(np.round(t[::8]), low, high)
        return [a, t]

    def measured(self, out: Array) -> Array:
        """Return outputs as metrics take them."""
        return out

    def _ends(self) -> tuple[float, float]:
        known = ENDS.get(self.output) if isinstance(self.output, str) else None
        return (-np.inf, np.inf) if known is None else known

    @property
    def arguments(self) -> tuple[str, ...]:
        return "a", "t"

    @property
    def roles(self) -> tuple[str, str]:
        return "function", "gradient"
