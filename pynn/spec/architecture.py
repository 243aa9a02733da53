"""What a network, a loss, an optimizer and a schedule are: plain data that imports none.

Everything here is a frozen dataclass of numbers and names (and functions of a user's own, which
:mod:`pynn.functions` describes). The maths that gives them meaning is in :mod:`pynn.reference`; the
compiled backends follow that text.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .arguments import choose
from .functions import Activation, Function, Loss
from .names import ACTIVATIONS, BF16_OUTPUTS, DTYPES, LOSSES, OUTPUT_OF_LOSS, OUTPUTS, PRECISIONS


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
