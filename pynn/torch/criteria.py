"""Losses of PyTorch as losses of pynn, and the targets and weights of rows that they need.

Formulas of PyTorch are those of its documentation, with ``reduction="mean"``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..exports.chain import Chain, table
from ..exports.pytorch import hooks_of
from ..spec.losses import BinaryCrossEntropy, Focal, GaussianNLL, Huber, LossFunction, as_loss

Array = np.ndarray
Targets = tuple[Array, "Array | None"]
"""Labels (n,) or targets (n, columns), and weights of the rows (n,), or None for 1."""


@dataclass(frozen=True)
class Criterion:
    """A loss of PyTorch as pynn computes it.

    Parameters
    ----------
    loss, output
        Those of the network.
    convert
        Return targets and weights of rows for y as an array; the second argument is its name.
    smoothing
        Label smoothing of the training rows.
    factor
        PyTorch's loss divided by pynn's.
    """

    loss: LossFunction
    output: Any
    convert: Callable[[Array, str], Targets]
    smoothing: float = 0.0
    factor: float = 1.0
    found: str = ""
    """The loss in words, for messages."""


@dataclass
class _Reader:
    """A loss module, and the module whose outputs it takes."""

    loss: Any
    chain: Chain
    width: int = field(init=False)
    last: str = field(init=False)

    def __post_init__(self) -> None:
        output = self.chain.output
        self.width = self.chain.sizes[-1]
        self.last = output if isinstance(output, str) else output.name
        reduction = getattr(self.loss, "reduction", "mean")
        if reduction != "mean":
            reason = (
                "a sum weighs the rows of a shorter last batch differently"
                if reduction == "sum"
                else "a step needs one number"
            )
            self.refuse(f"reduction={reduction!r}", f"'mean': {reason}")
        if hooks_of(self.loss) is not None:
            self.refuse("hooks", "none: they are not called")

    def refuse(self, found: str, expected: str) -> NoReturn:
        raise ValueError(
            f"loss: found nn.{type(self.loss).__name__} with {found}, expected {expected}"
        )

    def require(self, *outputs: str, because: str) -> None:
        """Raise ValueError unless the module ends with one of some activations."""
        if self.last not in outputs:
            found = "no activation" if self.last == "identity" else self.last
            self.refuse(f"a module that ends with {found}", because)

    def vector(self, name: str, length: int | None = None) -> Array | None:
        """Return a tensor of weights as float64."""
        tensor = getattr(self.loss, name)
        if tensor is None:
            return None
        found: Array = tensor.detach().cpu().double().numpy().reshape(-1)
        if length is not None and found.size not in (1, length):
            self.refuse(f"{name} of {found.size} numbers", f"{length}, one for each output")
        if not (np.isfinite(found) & (found >= 0)).all():
            self.refuse(f"{name} {found.tolist()}", "finite numbers of 0 or more")
        return found

    def number(self, name: str) -> float:
        """Return the one number of a tensor of weights, 1 for None."""
        found = self.vector(name, self.width)
        if found is None:
            return 1.0
        if (found != found[0]).any():
            self.refuse(f"different {name} of outputs", "one number for all of them")
        if found[0] == 0:
            self.refuse(f"{name} 0", "a number above 0")
        return float(found[0])

    # --- Classes ----------------------------------------------------------------------------------

    def classes(self) -> Criterion:
        """−Σ w·log p of the class, divided by Σ w; w is 0 for ``ignore_index``."""
        if self.width < 2:
            self.refuse("a module with 1 output", "2 or more, or nn.BCEWithLogitsLoss")
        smoothing = float(getattr(self.loss, "label_smoothing", 0.0))
        weight = self.vector("weight", self.width)
        if weight is not None and weight.size != self.width:
            self.refuse("weight of 1 number", f"{self.width}, one for each class")
        if weight is not None and (weight == weight[0]).all() and weight[0] > 0:
            weight = None  # it cancels out
        if not 0 <= smoothing < 1:
            self.refuse(f"label_smoothing={smoothing:g}", "a number in [0, 1)")
        if smoothing and weight is not None:
            self.refuse(
                "weight and label_smoothing",
                "one of them: PyTorch divides the sum of all classes by the weight of the true one",
            )
        ignored = int(self.loss.ignore_index)
        soft = isinstance(self.loss, nn.CrossEntropyLoss)

        def convert(y: Array, name: str) -> Targets:
            return _classes(y, name, self.width, weight, ignored, soft)

        return Criterion(as_loss("cross_entropy"), "softmax", convert, smoothing)

    def cross_entropy(self) -> Criterion:
        self.require(
            *("identity", "log_softmax"),
            because="nn.Linear or nn.LogSoftmax at the end, since this loss has a softmax itself",
        )
        return self.classes()

    def nll(self) -> Criterion:
        self.require("log_softmax", because="nn.LogSoftmax at the end, or nn.CrossEntropyLoss")
        return self.classes()

    # --- Yes or no --------------------------------------------------------------------------------

    def yes_or_no(self, positive: float = 1.0) -> Criterion:
        """mean(−w·(p·t·log σ(z) + (1 − t)·log(1 − σ(z))))."""
        loss: LossFunction = BinaryCrossEntropy()
        factor = self.number("weight")
        if positive != 1:  # α = p / (1 + p) in Focal with γ = 0
            loss = Focal(gamma=0.0, alpha=positive / (1 + positive))
            factor *= 1 + positive

        def convert(y: Array, name: str) -> Targets:
            values = _values(y, name, self.width)
            with np.errstate(invalid="ignore"):
                wrong = ~((values >= 0) & (values <= 1))
            if wrong.any():
                _refuse_value(name, values, wrong, "targets in [0, 1]")
            return values, None

        return Criterion(loss, "sigmoid", convert, factor=factor)

    def bce_with_logits(self) -> Criterion:
        self.require("identity", because="nn.Linear at the end: this loss has a sigmoid itself")
        return self.yes_or_no(self.number("pos_weight"))

    def bce(self) -> Criterion:
        self.require("sigmoid", because="nn.Sigmoid at the end, or nn.BCEWithLogitsLoss")
        return self.yes_or_no()

    # --- Values -----------------------------------------------------------------------------------

    def values(self, loss: str | LossFunction, factor: float = 1.0) -> Criterion:
        if self.last == "log_softmax":
            self.refuse("a module that ends with nn.LogSoftmax", "another activation")
        return Criterion(
            *(as_loss(loss), self.chain.output),
            lambda y, name: (_values(y, name, self.width), None),
            factor=factor,
        )

    def huber(self) -> Criterion:
        return self.values(Huber(float(self.loss.delta)))

    def smooth_l1(self) -> Criterion:
        beta = float(self.loss.beta)
        if beta < 0:
            self.refuse(f"beta={beta:g}", "a number of 0 or more")
        return self.values(Huber(beta), 1 / beta) if beta else self.values("mae")

    def gaussian(self) -> Criterion:
        self.require("identity", because="nn.Linear at the end, which gives means and s")
        if self.width % 2:
            self.refuse(f"a module with {self.width} outputs", "all means, then as many s")
        if self.loss.eps != 1e-6:
            self.refuse(f"eps={self.loss.eps:g}", "1e-6, the least variance in pynn")
        n = self.width // 2
        return Criterion(
            GaussianNLL(), "identity", lambda y, name: (_values(y, name, n, "mean"), None)
        )

    def poisson(self) -> Criterion:
        self.require("identity", because="nn.Linear at the end, which gives logarithms of rates")
        if not self.loss.log_input:
            self.refuse("log_input=False", "True: pynn has the loss of the logarithm of a rate")

        def convert(y: Array, name: str) -> Targets:
            values = _values(y, name, self.width)
            if (values < 0).any():
                _refuse_value(name, values, values < 0, "counts of 0 or more")
            return values, None

        return Criterion(as_loss("poisson"), "exp", convert)


LOSSES: dict[str, tuple[Callable[[_Reader], Criterion], str]] = {
    "CrossEntropyLoss": (
        _Reader.cross_entropy,
        "module without softmax; class indices or probabilities; `weight` (with indices), "
        "`ignore_index`, `label_smoothing` (without `weight`)",
    ),
    "NLLLoss": (
        _Reader.nll,
        "module with `nn.LogSoftmax`; class indices; `weight`, `ignore_index`",
    ),
    "BCEWithLogitsLoss": (
        _Reader.bce_with_logits,
        "module without sigmoid; `weight` and `pos_weight` equal for all outputs",
    ),
    "BCELoss": (_Reader.bce, "module with `nn.Sigmoid`; `weight` equal for all outputs"),
    "MSELoss": (lambda r: r.values("mse"), "any module"),
    "L1Loss": (lambda r: r.values("mae"), "any module"),
    "HuberLoss": (_Reader.huber, "any module; `delta`"),
    "SmoothL1Loss": (_Reader.smooth_l1, "any module; `beta`"),
    "GaussianNLLLoss": (
        _Reader.gaussian,
        "all means, then s of the variance softplus(s) + 1e-6; `eps=1e-6`",
    ),
    "PoissonNLLLoss": (_Reader.poisson, "module without activation; `log_input=True`"),
}
"""How losses are read, and under which conditions."""

FUNCTIONS: dict[Any, Callable[[], Any]] = {
    functional.cross_entropy: nn.CrossEntropyLoss,
    functional.nll_loss: nn.NLLLoss,
    functional.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    functional.binary_cross_entropy: nn.BCELoss,
    functional.mse_loss: nn.MSELoss,
    functional.l1_loss: nn.L1Loss,
    functional.huber_loss: nn.HuberLoss,
    functional.smooth_l1_loss: nn.SmoothL1Loss,
    functional.gaussian_nll_loss: nn.GaussianNLLLoss,
    functional.poisson_nll_loss: nn.PoissonNLLLoss,
}
"""Functions with the default arguments of these modules."""


def losses_table() -> str:
    """Return the losses that ``fit`` accepts, as a Markdown table."""
    accepted = {f"`nn.{name}`": text for name, (_, text) in LOSSES.items()}
    return table(
        accepted,
        {
            '`reduction="sum"`': "a shorter last batch would weigh less",
            "other losses": "pynn has no such loss, or a class has a forward of its own",
        },
        "loss",
    )


def criterion(loss: Any, chain: Chain) -> Criterion:
    """Return a loss of PyTorch for the outputs of a module.

    Raises
    ------
    TypeError
        If it is no module and no function of the list.
    ValueError
        If pynn cannot compute it.
    """
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise TypeError(
            f"loss: found the class {loss.__name__}, expected an object: nn.{loss.__name__}()"
        )
    made_of = next((make for function, make in FUNCTIONS.items() if loss is function), None)
    if made_of is not None:
        loss = made_of()
    names = ", ".join(f"nn.{name}" for name in LOSSES)
    if not isinstance(loss, nn.Module):
        raise TypeError(f"loss: found {loss!r}, expected one of {names}")
    for kind in type(loss).__mro__:
        ours = getattr(nn, kind.__name__, None) is kind
        own = type(loss).forward is not getattr(kind, "forward", None) or "forward" in vars(loss)
        if ours and kind.__name__ in LOSSES and not own:
            made = LOSSES[kind.__name__][0](_Reader(loss, chain))
            return replace(made, found=f"nn.{kind.__name__}")
    raise ValueError(f"loss: found {type(loss).__name__}, expected one of {names}")


# --- Targets --------------------------------------------------------------------------------------


def _classes(
    y: Array, name: str, width: int, weight: Array | None, ignored: int, soft: bool
) -> Targets:
    """Return class indices or probabilities, and weights of the rows."""
    wanted = f"class indices (rows,) from 0 to {width - 1} as integers"
    if soft:
        wanted += f", or probabilities (rows, {width}) as floats"
    if y.dtype.kind == "f" and soft and y.ndim == 2 and y.shape[1] == width:
        if weight is not None:
            raise ValueError(
                f"{name}: found probabilities with the weight of nn.CrossEntropyLoss, expected "
                "class indices, or no weight"
            )
        return y, None
    if y.dtype.kind not in "iu" or y.ndim != 1:
        hint = "; use y.long()" if y.dtype.kind == "f" and y.ndim == 1 else ""
        hint = "; use y.squeeze(1)" if y.ndim == 2 and y.shape[1] == 1 else hint
        raise ValueError(f"{name}: found {y.dtype} of shape {y.shape}, expected {wanted}{hint}")
    labels = y.astype(np.int64, copy=False)
    left_out = labels == ignored
    wrong = ((labels < 0) | (labels >= width)) & ~left_out
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name}: found the class {labels[row]} in row {row} (counted from 0), expected "
            f"{wanted}"
        )
    if not left_out.any():
        return labels, None if weight is None else weight[labels]
    labels = np.where(left_out, 0, labels)
    return labels, np.where(left_out, 0.0, 1.0 if weight is None else weight[labels])


def _values(y: Array, name: str, columns: int, what: str = "output") -> Array:
    """Return targets (n, columns) as floats."""
    if y.ndim == 1 and columns == 1:
        y = y.reshape(-1, 1)
    if y.ndim != 2 or y.shape[1] != columns:
        one = " or (rows,)" if columns == 1 else ""
        raise ValueError(
            f"{name}: found shape {y.shape}, expected (rows, {columns}){one}, one number for each "
            f"{what}"
        )
    if y.dtype.kind not in "biuf":
        raise TypeError(f"{name}: found dtype {y.dtype}, expected numbers")
    return y if y.dtype in (np.float32, np.float64) else y.astype(np.float64)


def _refuse_value(name: str, values: Array, wrong: Array, expected: str) -> NoReturn:
    row, column = np.argwhere(wrong)[0].tolist()
    raise ValueError(
        f"{name}: found {values[row, column]:g} in row {row}, column {column} (counted from 0), "
        f"expected {expected}"
    )


def as_array(values: Any, name: str) -> Any:
    """Return a tensor as an array that shares its memory, and anything else as an array."""
    if not isinstance(values, torch.Tensor):
        if isinstance(values, np.ma.MaskedArray):
            raise TypeError(
                f"{name}: found a masked array, expected one without a mask, such as its "
                "filled(value)"
            )
        return np.asarray(values)
    if values.device.type != "cpu":
        raise ValueError(f"{name}: found a tensor on {values.device}, expected one on the CPU")
    if values.layout is not torch.strided:
        raise TypeError(f"{name}: found a tensor of {values.layout}, expected a dense one")
    values = values.detach()
    if values.dtype is torch.bfloat16:
        values = values.float()
    return values.resolve_neg().resolve_conj().numpy()
