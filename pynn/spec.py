"""What a network, a loss, an optimizer and a schedule are: plain data that imports none.

Everything here is a frozen dataclass of numbers and names (and functions of a user's own, which
:mod:`pynn.functions` describes). The maths that gives them meaning is in :mod:`pynn.reference`; the
compiled backends follow that text.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from .functions import Activation, Function, Loss

ACTIVATIONS = (
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "softplus",
)
OUTPUTS = (*ACTIVATIONS, "softmax", "exp")
LOSSES = ("cross_entropy", "binary_cross_entropy", "mse", "poisson")
OUTPUT_OF_LOSS = {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "sigmoid",
    "mse": "identity",
    "poisson": "exp",
}
CONVENTIONS = ("pynn", "sklearn")
"""How the losses of rows make up what a batch makes small: see
``reference.loss_and_output_gradient`` and ``reference.weigh``."""

INITIALISERS = (
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "zeros",
)
DTYPES = ("float32", "float64")
PRECISIONS = ("full", "bf16")
BF16_OUTPUTS = 16
"""Layers of fewer outputs multiply in float32 with ``bf16`` too: they take little of the time, and
the last of a classifier decides on small differences."""

LEAKY_SLOPE = 0.01
"""Slope of ``leaky_relu`` for negative inputs (Maas et al. 2013, section 2)."""


def choose(argument: str, found: object, allowed: Iterable[str]) -> str:
    """Return ``found`` if it is one of ``allowed``; if not, raise a ValueError with a hint."""
    allowed = list(allowed)
    if isinstance(found, str) and found in allowed:
        return found
    import difflib  # only here: it would be a part of the time that importing pynn takes

    text = found.lower().replace("-", "_") if isinstance(found, str) else ""
    near = difflib.get_close_matches(text, allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{argument}: found {found!r}, expected one of {', '.join(allowed)}{hint}")


def _not_a_class(argument: str, found: object) -> None:
    if isinstance(found, type):
        name = found.__name__
        raise TypeError(f"{argument}: found the class {name}, expected an object: {name}()")


def _number(owner: object, name: str, low: float, high: float, open_high: bool = False) -> None:
    value = getattr(owner, name)
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not ok or not low <= value <= high or (open_high and value == high):
        bracket = ")" if open_high else "]"
        raise ValueError(
            f"{type(owner).__name__}.{name}: found {value!r}, "
            f"expected a number in [{low:g}, {high:g}{bracket}"
        )


@dataclass(frozen=True)
class Architecture:
    """Layer sizes, activations, dropout, loss and dtype of a network.

    Parameters
    ----------
    sizes
        Units of every layer from input to output, length L + 1.
    activations
        One name a layer, hidden layers first, the output activation last, length L.
    dropout
        Probability of dropping a unit of each hidden layer, length L - 1.
    loss
        Name of the loss, one of ``LOSSES`` or that of one of ``functions``.
    dtype
        ``"float32"`` or ``"float64"``, of parameters and arithmetic.
    precision
        ``"full"``, or ``"bf16"`` where the operands of matrix products are rounded to bfloat16.
    functions
        What names of the user's own stand for, those of activations and of the loss.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    dropout: tuple[float, ...]
    loss: str
    dtype: str
    precision: str = "full"
    functions: tuple[Function, ...] = ()

    @staticmethod
    def build(
        sizes: Sequence[int],
        activation: str | Activation | Sequence[str | Activation] = "relu",
        output: str | Activation | None = None,
        loss: str | Loss = "cross_entropy",
        dropout: float | Sequence[float] = 0.0,
        dtype: object = "float32",
        precision: str = "full",
    ) -> Architecture:
        """Check the arguments as a user gives them and spell them out, one value a layer."""
        try:
            # A bool would count as 0 or 1.
            widths = [0 if isinstance(s, (bool, np.bool_)) else operator.index(s) for s in sizes]
        except TypeError:
            widths = [0]
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(
                f"sizes: found {sizes!r}, expected at least two whole numbers of 1 or more, "
                "from inputs to outputs"
            )
        hidden = len(widths) - 2
        if not isinstance(loss, Loss):
            choose("loss", loss, LOSSES)
        if output is None:
            output = loss.output if isinstance(loss, Loss) else OUTPUT_OF_LOSS[loss]
        if not isinstance(output, Activation):
            choose("output", output, OUTPUTS)
        fixed = None if loss == "mse" or isinstance(loss, Loss) else OUTPUT_OF_LOSS[loss]
        if fixed and output != fixed:
            raise ValueError(
                f"output: found {output!r}, expected {fixed!r} for loss {loss!r}, "
                "which is computed together with it; 'mse' goes with any output"
            )
        if loss == "cross_entropy" and widths[-1] == 1:
            raise ValueError(
                "sizes: found 1 output with loss 'cross_entropy', expected 2 or more; for one "
                "yes-or-no output use loss='binary_cross_entropy'"
            )
        if output == "softmax" and widths[-1] == 1:
            raise ValueError(
                "output: found 'softmax' of 1 output, which is 1 always; expected more"
            )
        if not isinstance(activation, (str, Activation, list, tuple)):
            raise TypeError(
                f"activation: found {activation!r}, expected a name or a list of names, "
                "one for each hidden layer, or a pynn.Activation in the place of a name"
            )
        one = isinstance(activation, (str, Activation))
        names: list[Any] = [activation] * hidden if one else list(activation)  # type: ignore[arg-type]
        if len(names) != hidden:
            raise ValueError(
                f"activation: found {len(names)} names, expected one or {hidden}, "
                "one for each hidden layer"
            )
        if isinstance(activation, str):
            choose("activation", activation, ACTIVATIONS)
        for k, name in enumerate(names):
            if not isinstance(name, Activation):
                choose(f"activation[{k}]", name, ACTIVATIONS)
        single = isinstance(dropout, (int, float, np.integer, np.floating))
        try:
            rates = [float(dropout)] if single else [float(p) for p in dropout]  # type: ignore[arg-type, union-attr]
        except (TypeError, ValueError):
            rates = [-1.0]
        if any(not 0.0 <= p < 1.0 for p in rates):
            raise ValueError(f"dropout: found {dropout!r}, expected probabilities in [0, 1)")
        rates = rates * hidden if single else rates
        if len(rates) != hidden:
            raise ValueError(
                f"dropout: found {len(rates)} values, expected one or {hidden}, "
                "one for each hidden layer"
            )
        try:
            # NumPy takes None for float64.
            dtype_name = "None" if dtype is None else np.dtype(dtype).name  # type: ignore[call-overload]
        except TypeError:
            dtype_name = str(dtype)
        choose("dtype", dtype_name, DTYPES)
        choose("precision", precision, PRECISIONS)
        if precision == "bf16" and dtype_name != "float32":
            raise ValueError(
                f"precision: found 'bf16' with dtype {dtype_name}, expected dtype float32, which "
                "weights and sums then have"
            )
        own = list(dict.fromkeys(f for f in (*names, output, loss) if isinstance(f, Function)))
        known = [f.name for f in own]
        for name in known:
            if known.count(name) > 1:
                raise ValueError(
                    f"activation, output, loss: found two functions named {name!r}, expected a "
                    "name of its own for each"
                )
        names = [f.name if isinstance(f, Function) else f for f in (*names, output, loss)]
        return Architecture(
            *(tuple(widths), tuple(names[:-1]), tuple(rates), names[-1], dtype_name),
            precision,
            tuple(own),
        )

    def own(self, name: str) -> Any:
        """Return the Activation or Loss of the user's own that has this name, or None."""
        return next((f for f in self.functions if f.name == name), None)

    @property
    def n_in(self) -> int:
        return self.sizes[0]

    @property
    def n_out(self) -> int:
        return self.sizes[-1]

    @property
    def n_layers(self) -> int:
        """Number of weight matrices, L."""
        return len(self.sizes) - 1

    def rounds(self, layer: int) -> bool:
        """Whether the operands of a layer's matrix products are rounded to bfloat16."""
        return self.precision == "bf16" and self.sizes[layer + 1] >= BF16_OUTPUTS

    @property
    def regression(self) -> bool:
        """Whether the outputs are values rather than classes, whatever y looks like."""
        return self.loss not in ("cross_entropy", "binary_cross_entropy")

    @property
    def n_parameters(self) -> int:
        return sum(m * n + n for m, n in pairwise(self.sizes))

    def offsets(self) -> list[tuple[int, int]]:
        """Where each layer's weights and biases start in the flat parameter vector.

        The vector holds, layer by layer, the weights row-major (n_in, n_out), then the biases.
        """
        starts, at = [], 0
        for m, n in pairwise(self.sizes):
            starts.append((at, at + m * n))
            at += m * n + n
        return starts

    def views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Weights (n_in, n_out) and biases (n_out,) of every layer, as views of ``flat``."""
        weights, biases = [], []
        for (w, b), (m, n) in zip(self.offsets(), pairwise(self.sizes), strict=True):
            weights.append(flat[w : w + m * n].reshape(m, n))
            biases.append(flat[b : b + n])
        return weights, biases


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


# --- Schedules ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """A factor on the learning rate for every step.

    ``factors(epoch, start, stop)`` takes the time of each step in epochs (float array, counted
    from the first epoch the network ever trained) and the epochs at which this call of ``fit``
    starts and stops; it returns one factor for each step. Schedules with a horizon (cosine,
    one-cycle) run once over a call; the others go on where the call before stood.
    """

    name: ClassVar[str] = ""

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate as it is."""

    name: ClassVar[str] = "constant"

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return np.ones(len(epoch))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Times ``factor`` after every ``every`` epochs."""

    name: ClassVar[str] = "step"
    every: float = 10.0
    factor: float = 0.1

    def __post_init__(self) -> None:
        _number(self, "factor", 0.0, float("inf"), open_high=True)
        _number(self, "every", 0.0, float("inf"), open_high=True)
        if self.every == 0:
            raise ValueError("StepDecay.every: found 0, expected a number above 0")

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return self.factor ** np.floor(epoch / self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Times ``factor`` for each epoch, continuously: factor ** epoch."""

    name: ClassVar[str] = "exponential"
    factor: float = 0.95

    def __post_init__(self) -> None:
        _number(self, "factor", 0.0, float("inf"), open_high=True)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return self.factor**epoch


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1 / (1 + decay · epoch)."""

    name: ClassVar[str] = "inverse_time"
    decay: float = 1.0

    def __post_init__(self) -> None:
        _number(self, "decay", 0.0, float("inf"), open_high=True)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        return 1.0 / (1.0 + self.decay * epoch)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``final`` over the call (Loshchilov and Hutter 2017, eq. 5)."""

    name: ClassVar[str] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        _number(self, "final", 0.0, float("inf"), open_high=True)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        t = (epoch - start) / (stop - start)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(np.pi * t))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Linear from ``initial`` to 1 over the share ``warmup`` of the call, then linear to ``final``.

    After Smith and Topin 2018, section 3, without the change of momentum.
    """

    name: ClassVar[str] = "one_cycle"
    warmup: float = 0.1
    initial: float = 0.04
    final: float = 0.0

    def __post_init__(self) -> None:
        _number(self, "warmup", 0.0, 1.0)
        _number(self, "initial", 0.0, float("inf"), open_high=True)
        _number(self, "final", 0.0, float("inf"), open_high=True)

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        t = (epoch - start) / (stop - start)
        return np.interp(t, [0.0, self.warmup, 1.0], [self.initial, 1.0, self.final])


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Linear from 0 to 1 over the first ``epochs`` epochs, then ``after`` (Goyal et al. 2017)."""

    name: ClassVar[str] = "warm_up"
    epochs: float = 1.0
    after: Schedule = Constant()

    def __post_init__(self) -> None:
        _number(self, "epochs", 0.0, float("inf"), open_high=True)
        if not isinstance(self.after, Schedule):
            raise ValueError(f"WarmUp.after: found {self.after!r}, expected a schedule object")

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        factors = self.after.factors(epoch, start, stop)
        if self.epochs == 0:
            return factors
        rise: np.ndarray = np.minimum(epoch / self.epochs, 1.0)
        rise *= factors
        return rise


SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (Constant, StepDecay, Exponential, InverseTime, Cosine, OneCycle, WarmUp)
}


def as_schedule(schedule: str | Schedule | None) -> Schedule:
    """Return a schedule for its name, for None (constant), or the object itself."""
    if schedule is None:
        return Constant()
    if isinstance(schedule, Schedule):
        return schedule
    _not_a_class("schedule", schedule)
    return SCHEDULES[choose("schedule", schedule, SCHEDULES)]()
