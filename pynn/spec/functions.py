"""Activations and losses of one's own: functions with their derivatives, tried as they are made.

The text of a function is that of a formula on numbers, written with NumPy: the reference calls it
with whole arrays, the Numba backend compiles it for one number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Formula = Callable[..., Any]

STEP = 1e-4
"""Half the distance over which slopes are measured."""
NEAR, FAR = 8.0, 30.0
"""Slopes are measured up to FAR, most of them up to NEAR, where units spend their time."""
BEYOND = np.array([-1000.0, -100.0, 100.0, 1000.0])
"""Numbers of which nothing is asked but that what comes of them is a number."""
ENDS = {
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, np.inf),
    "softplus": (0.0, np.inf),
    "exp": (0.0, np.inf),
}
"""Between what ends the outputs of an activation lie, where they have any."""


def _spread(n: int, low: float, high: float, part: float = 0.6180339887498949) -> Array:
    """n points of an interval that lie evenly but in no pattern, and so beside kinks, not on them.

    Multiples of an irrational part, without what is before the point; of the golden ratio's, none
    lies nearer to its neighbours than it must.
    """
    return low + (high - low) * (np.arange(1, n + 1) * part % 1)


def _ask(owner: Function, role: str, *places: Array) -> Array:
    """Return what a function gives for arrays of one shape; raise if it does not give the like."""
    what = f"{owner!r}: {role}"
    shape, dtype = places[0].shape, places[0].dtype
    for place in places:
        place.flags.writeable = False
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(owner, role)(*places)
    except Exception as error:
        raise ValueError(
            f"{what}: found one that fails for arrays {shape} of {dtype} "
            f"({type(error).__name__}: {error}), expected one that gives a number for each of "
            "theirs, with the functions of NumPy: np.where(z > 0, a, b) in the place of if"
        ) from error
    if np.shape(found) != shape:
        raise ValueError(
            f"{what}: found shape {np.shape(found)} for arrays {shape}, expected {shape}: a number "
            "for each of theirs, such as np.ones_like(z) in the place of 1"
        )
    if np.asarray(found).dtype.kind not in "fiub":
        kind = np.asarray(found).dtype
        raise ValueError(f"{what}: found {kind} for arrays of {dtype}, expected real numbers")
    return np.asarray(found, dtype)


def _must(holds: Array, owner: Function, role: str, places: Sequence[Array], *told: Any) -> None:
    """Raise for the first place where something does not hold: what was found, what expected."""
    if holds.all():
        return
    k = int(holds.argmin())
    at = ", ".join(f"{name} = {p[k]:g}" for name, p in zip(owner.arguments, places, strict=True))
    found, expected = (t[k] if isinstance(t, np.ndarray) else t for t in told)
    if not isinstance(expected, str):
        expected = f"{expected:.7g}, the slope of its function there"
    raise ValueError(f"{owner!r}: {role}: found {found:.7g} at {at}, expected {expected}")


def _try(owner: Function, derivative: str, places: list[Array], beyond: list[Array]) -> None:
    """Try a function and its derivative by its first argument, in float64 and in float32.

    Raises
    ------
    ValueError
        If one does not go number by number, gives no finite numbers, or if the derivative is not
        the slope of the function where that has one.
    """
    for role in ("function", derivative):
        for dtype in (np.float64, np.float32):
            rounded = [p.astype(dtype) for p in places]
            found = _ask(owner, role, *rounded)
            finite = np.isfinite(found)
            _must(finite, owner, role, rounded, found, f"a finite number of {np.dtype(dtype)}")
            if dtype == np.float64:
                few = _ask(owner, role, *(p[:6].reshape(2, 3) for p in rounded)).reshape(-1)
                alone = np.isclose(few, found[:6], rtol=1e-6, atol=1e-9)
                other = "what it is in a larger array: that each number stand for itself"
                _must(alone, owner, role, [p[:6] for p in rounded], few, other)
            rounded = [p.astype(dtype) for p in beyond]
            found = _ask(owner, role, *rounded)
            where = f"a number, or infinity, in {np.dtype(dtype)}"
            _must(~np.isnan(found), owner, role, rounded, found, where)

    first, rest = places[0], places[1:]
    middle, above, below = (_ask(owner, "function", first + h, *rest) for h in (0.0, STEP, -STEP))
    right, left = (above - middle) / STEP, (middle - below) / STEP
    slope, found = (right + left) / 2, _ask(owner, derivative, *places)
    size = np.abs(right) + np.abs(left)
    kink = np.abs(right - left) > 1e-3 + 1e-2 * size
    # Rounding of f, which the step divides, and what a third derivative of a hundred times f' adds.
    near = 1e-6 * (1 + np.abs(middle)) + 1e-4 * (np.abs(slope) + np.abs(found))
    _must(kink | (np.abs(found - slope) <= near), owner, derivative, places, found, slope)


@dataclass(frozen=True, repr=False)
class Function:
    """What an activation and a loss have in common."""

    name: str
    function: Formula

    @property
    def arguments(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def roles(self) -> tuple[str, str]:
        """What the function and its derivative are called."""
        raise NotImplementedError

    def places(self) -> list[Array]:
        """Where it is tried: an array for each argument."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _check(self) -> None:
        from .names import LOSSES, OUTPUTS

        kind = type(self).__name__
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"{kind}.name: found {self.name!r}, expected a word such as 'swish'")
        if self.name in (*OUTPUTS, *LOSSES):
            raise ValueError(
                f"{kind}.name: found {self.name!r}, which pynn has already, expected another name"
            )
        for role in self.roles:
            if not callable(getattr(self, role)):
                raise TypeError(
                    f"{self!r}: {role}: found {getattr(self, role)!r}, expected a function"
                )

    def fingerprint(self) -> list[float]:
        """Values of the function and its derivative at fixed points: what a file tells it by."""
        places = [_spread(8, -3, 3, part) for part in (0.618034, 0.414214)][: len(self.arguments)]
        if isinstance(self, Loss):
            low, high = self._ends()
            places = [np.clip(p, max(low, -3) + 0.1, min(high, 3) - 0.1) for p in places]
        found = [_ask(self, role, *places) for role in self.roles]
        return [float(f"{value:.6g}") for value in np.concatenate(found)]


@dataclass(frozen=True, repr=False)
class Activation(Function):
    """An activation of one's own, for hidden layers or outputs.

    Parameters
    ----------
    name : str
        What it is called in files and messages; no name of pynn's own.
    function : function of z
        f(z), of an array of any shape and float32 or float64, each number by itself: plain
        arithmetic and functions of NumPy, such as ``lambda z: z / (1 + np.exp(-z))``.
    derivative : function of z
        f'(z), of z as well. At a kink any slope will do.

    Raises
    ------
    TypeError, ValueError
        If a function gives no finite number for each of an array, or the derivative is not the
        slope of the function: both are tried at some hundred points from −30 to 30.

    Notes
    -----
    Written with ``np.where(z > 0, …)``, not with ``if``. Numbers that it takes from around it are
    taken as they are when a network is made. A unit that is near zero on one side and grows on the
    other, as relu does, gets the first weights that relu gets (he_normal).

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
        _try(self, "derivative", self.places(), [BEYOND])

    def places(self) -> list[Array]:
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
        left, right = np.abs(_ask(self, "function", np.array([-FAR, FAR])))
        return bool(left < 0.1 * right and right > 0.3 * FAR)


@dataclass(frozen=True, repr=False)
class Loss(Function):
    """A loss of one's own: the mean over a row's outputs of what one of them costs.

    Parameters
    ----------
    name : str
        What it is called in files and messages; no name of pynn's own.
    function : function of a and t
        L(a, t), of two arrays of the same shape, float32 or float64: the outputs a (after the
        output activation) and their targets t, each pair by itself. Labels are one-hot targets.
    gradient : function of a and t
        ∂L/∂a. The gradient by z, through the output activation, is made of it.
    output : str or Activation
        The output activation that it goes with, unless a network names another.

    Raises
    ------
    TypeError, ValueError
        If a function gives no finite number for each pair, or the gradient is not the slope of the
        function: both are tried at some hundred pairs of what the output activation can give.

    Examples
    --------
    >>> huber = Loss(
    ...     "huber",
    ...     lambda a, t: np.where(np.abs(a - t) < 1, 0.5 * (a - t) ** 2, np.abs(a - t) - 0.5),
    ...     lambda a, t: np.clip(a - t, -1, 1),
    ... )
    """

    gradient: Formula
    output: str | Activation = "identity"

    def __post_init__(self) -> None:
        from .arguments import choose
        from .names import OUTPUTS

        self._check()
        if not isinstance(self.output, Activation):
            choose(f"{self!r}: output", self.output, OUTPUTS)
        low, high = self._ends()
        ends = BEYOND[low < BEYOND] if np.isinf(high) else np.array([low, high])
        beyond = [grid.reshape(-1) for grid in np.meshgrid(ends, np.clip(ends, low, high))]
        _try(self, "gradient", self.places(), beyond)

    def places(self) -> list[Array]:
        low, high = self._ends()
        low, high = max(low, -NEAR), min(high, NEAR)
        room = 0.01 * (high - low)
        a = _spread(400, low + room, high - room)
        t = _spread(400, low, high, 0.4142135623730951)  # by another part: pairs fill the square
        t[::8] = np.clip(np.round(t[::8]), low, high)
        return [a, t]

    def _ends(self) -> tuple[float, float]:
        known = ENDS.get(self.output) if isinstance(self.output, str) else None
        return (-np.inf, np.inf) if known is None else known

    @property
    def arguments(self) -> tuple[str, ...]:
        return "a", "t"

    @property
    def roles(self) -> tuple[str, str]:
        return "function", "gradient"
