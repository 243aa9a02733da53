"""The architecture of a network: a frozen dataclass of numbers, names and custom functions.

``backends/reference.py`` defines what they compute.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .activations import (
    Parametric,
    check_activation,
    default_parameter,
    describe,
    with_parameter,
)
from .arguments import choose, number
from .functions import Activation, Function, Loss
from .losses import LossFunction, as_loss, loss_from
from .names import ACTIVATIONS, BF16_OUTPUTS, DTYPES, OUTPUTS, PRECISIONS
from .norms import Norm, NormLike, as_norms
from .norms import describe as describe_norm

ActivationLike = str | Activation | Parametric
"""An activation as users give it: a name, a custom one, or one with a parameter."""


@dataclass(frozen=True)
class Architecture:
    """Layer sizes, activations, dropout, noise, loss and dtype of a network.

    Parameters
    ----------
    sizes
        Units of every layer from input to output, length L + 1.
    activations
        One name per layer, the output activation last, length L.
    dropout
        Probability of dropping a unit of each hidden layer, length L - 1.
    loss
        Name of the loss, one of ``LOSSES`` or of ``functions``.
    dtype
        ``"float32"`` or ``"float64"``, of parameters and arithmetic.
    precision
        ``"full"``, or ``"bf16"`` to round the operands of matrix products to bfloat16.
    functions
        Custom activations and losses, which ``activations`` and ``loss`` refer to by name.
    loss_parameters
        Names and values of the parameters of the loss; parameters that are left out have their
        defaults.
    activation_parameters
        Parameter of each activation, 0 for those without one, length L; empty if all have their
        default.
    residual
        Whether each layer adds its input to its output, length L; empty if none does.
    norms
        Normalisation of each layer or None, length L; empty if none has one.
    norm_after
        Whether normalisations follow the activation, rather than the product.
    input_dropout
        Probability of dropping an input.
    input_noise, hidden_noise
        Standard deviation of the Gaussian noise that training adds to the inputs, and to the
        outputs of each hidden layer; length L - 1, or empty if all are 0.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    dropout: tuple[float, ...]
    loss: str
    dtype: str
    precision: str = "full"
    functions: tuple[Function, ...] = ()
    loss_parameters: tuple[tuple[str, Any], ...] = ()
    activation_parameters: tuple[float, ...] = ()
    residual: tuple[bool, ...] = ()
    norms: tuple[Norm | None, ...] = ()
    norm_after: bool = False
    input_dropout: float = 0.0
    input_noise: float = 0.0
    hidden_noise: tuple[float, ...] = ()

    @staticmethod
    def build(
        sizes: Sequence[int],
        activation: ActivationLike | Sequence[ActivationLike] = "relu",
        output: ActivationLike | None = None,
        loss: str | LossFunction | Loss = "cross_entropy",
        dropout: float | Sequence[float] = 0.0,
        dtype: object = "float32",
        precision: str = "full",
        residual: bool = False,
        norm: NormLike | Sequence[NormLike] = None,
        norm_after: bool = False,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
        hidden_noise: float | Sequence[float] = 0.0,
    ) -> Architecture:
        """Check the arguments of a user and expand them to one value per layer."""
        widths = _widths(sizes)
        hidden = len(widths) - 2
        loss = loss if isinstance(loss, Loss) else as_loss(loss)
        _check_outputs(loss, widths[-1])
        chosen = _output(output, loss, widths[-1])
        activations = [*_activations(activation, hidden), chosen]
        functions = [*activations, loss]
        rates = _dropout(dropout, hidden)
        norms = as_norms(norm, hidden)
        dtype_name = _dtype(dtype)
        choose("precision", precision, PRECISIONS)
        if precision == "bf16" and dtype_name != "float32":
            raise ValueError(
                f"precision: found 'bf16' with dtype {dtype_name}, expected dtype float32, the "
                "dtype of weights and sums with 'bf16'"
            )
        custom = list(dict.fromkeys(f for f in functions if isinstance(f, Function)))
        given = {f for f in activations if isinstance(f, str)}
        _must_differ([*(f.name for f in dict.fromkeys([*custom, loss])), *given])
        names = [f if isinstance(f, str) else f.name for f in functions]
        return Architecture(
            sizes=tuple(widths),
            activations=tuple(names[:-1]),
            dropout=tuple(rates),
            loss=names[-1],
            dtype=dtype_name,
            precision=precision,
            functions=tuple(custom),
            loss_parameters=(
                () if isinstance(loss, Loss) else tuple(sorted(loss.parameters().items()))
            ),
            activation_parameters=_parameters(activations),
            residual=_residual(residual, widths),
            norms=(*norms, None) if any(norms) else (),
            norm_after=_norm_after(norm_after, norms, given=norm is not None),
            input_dropout=number(input_dropout, "input_dropout", least=0, below=1),
            input_noise=number(input_noise, "input_noise", least=0),
            hidden_noise=_noise(hidden_noise, hidden),
        )

    def custom(self, name: str) -> Any:
        """Return the custom Activation or Loss of this name, or None."""
        return next((f for f in self.functions if f.name == name), None)

    def activation_parameter(self, layer: int) -> float:
        """Return the parameter of a layer's activation, or 0 if it has none."""
        if self.activation_parameters:
            return self.activation_parameters[layer]
        return default_parameter(self.activations[layer])

    def adds_input(self, layer: int) -> bool:
        """Return whether a layer adds its input to its output."""
        return bool(self.residual) and self.residual[layer]

    def norm(self, layer: int) -> Norm | None:
        """Return the normalisation of a layer, or None if it has none."""
        return self.norms[layer] if self.norms else None

    def given_activations(self) -> list[str | Parametric]:
        """Return the activation of every layer: a name, or an object if its parameter differs from
        the default.
        """
        layers = enumerate(self.activations)
        return [with_parameter(name, self.activation_parameter(k)) for k, name in layers]

    def describe_layers(self) -> list[str | dict[str, Any]]:
        """Return every layer as JSON can hold it: its activation, and what else it does.

        Both stand in one entry, so that earlier versions refuse what they do not know.
        """
        layers: list[str | dict[str, Any]] = []
        for k, activation in enumerate(self.given_activations()):
            layer = describe(activation)
            more: dict[str, Any] = {"residual": True} if self.adds_input(k) else {}
            norm = self.norm(k)
            if norm is not None:
                more["norm"] = describe_norm(norm) | {"after": self.norm_after}
            if more:
                layer = {**({"name": layer} if isinstance(layer, str) else layer), **more}
            layers.append(layer)
        return layers

    @property
    def loss_function(self) -> Any:
        """The loss, a ``LossFunction`` or a custom ``Loss``."""
        custom = self.custom(self.loss)
        return loss_from(self.loss, self.loss_parameters) if custom is None else custom

    @property
    def loss_text(self) -> str:
        """The name of the loss, with its parameters if it has any."""
        return self.loss if self.custom(self.loss) else str(self.loss_function)

    @property
    def noisy(self) -> bool:
        """Whether training adds noise to inputs or to hidden layers."""
        return self.input_noise > 0 or any(self.hidden_noise)

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
        """Return whether the operands of a layer's matrix products are rounded to bfloat16.

        Not if the layer adds x to its outputs: x is rounded where it is stored.
        """
        if layer == 0 and self.adds_input(layer):
            return False
        return self.precision == "bf16" and self.sizes[layer + 1] >= BF16_OUTPUTS

    @property
    def n_targets(self) -> int:
        """Number of columns of y."""
        per_target: int = self.loss_function.per_target
        return self.n_out // per_target

    @property
    def regression(self) -> bool:
        """Whether the outputs are values rather than classes. The loss alone decides."""
        return self.loss_function.regression

    @property
    def independent(self) -> bool:
        """Whether targets (n, n_out) are a yes or no for each output."""
        loss = self.loss_function
        return not self.regression and bool(loss.independent(self.activations[-1]))

    @property
    def loss_terms(self) -> int:
        """Number of terms of which the loss of a row is the mean."""
        loss = self.loss_function
        if isinstance(loss, Loss):
            return self.n_out
        return int(loss.terms(self.n_out, self.activations[-1]))

    @property
    def n_parameters(self) -> int:
        layers = enumerate(pairwise(self.sizes))
        return sum((m + 1 + self.norm_vectors(k)) * n for k, (m, n) in layers)

    @property
    def norm_text(self) -> str:
        """The normalisations of the hidden layers, or None, for messages."""
        layers = [str(norm) for norm in self.norms[:-1]]
        text = layers[0] if len(set(layers)) == 1 else "/".join(layers)
        return text + (" after the activation" if self.norm_after else "")

    @property
    def noise_text(self) -> list[str]:
        """Dropout and noise of the inputs and noise of the hidden layers, for messages; nothing for
        what is 0.
        """
        levels = [f"{level:g}" for level in self.hidden_noise]
        hidden = "/".join(levels if len(set(levels)) > 1 else levels[:1])
        found = {
            "input dropout": f"{self.input_dropout:g}" if self.input_dropout else "",
            "input noise": f"{self.input_noise:g}" if self.input_noise else "",
            "hidden noise": hidden,
        }
        return [f"{name} {text}" for name, text in found.items() if text]

    def norm_vectors(self, layer: int) -> int:
        """Number of parameters of a layer's normalisation for each unit: 0, 1 or 2."""
        norm = self.norm(layer)
        return 0 if norm is None else norm.vectors

    @property
    def n_statistics(self) -> int:
        """Number of running statistics of batch norms: two for each unit."""
        return sum(2 * self.sizes[k + 1] for k in self.batch_layers)

    @property
    def n_values(self) -> int:
        """Length of the vectors of a model: the parameters, then the running statistics."""
        return self.n_parameters + self.n_statistics

    @property
    def batch_layers(self) -> list[int]:
        """The layers with a batch norm."""
        return [k for k, norm in enumerate(self.norms) if norm is not None and norm.over_rows]

    def subtracts_bias(self, layer: int) -> bool:
        """Return whether a batch norm subtracts the biases of a layer with the mean of the batch,
        so that their gradient is 0.
        """
        return layer in self.batch_layers and not self.norm_after

    def running_views(self, values: np.ndarray) -> list[list[np.ndarray]]:
        """Return running mean and variance (n_out,) of every layer, as views of ``values``
        (n_values,); nothing without a batch norm.
        """
        views: list[list[np.ndarray]] = [[] for _ in self.sizes[1:]]
        start = self.n_parameters
        for k in self.batch_layers:
            n = self.sizes[k + 1]
            views[k] = [values[start : start + n], values[start + n : start + 2 * n]]
            start += 2 * n
        return views

    def offsets(self) -> list[tuple[int, int]]:
        """Return where each layer's weights and biases start in the flat parameter vector.

        The vector holds, layer by layer, the weights row-major (n_in, n_out), then the biases, then
        scale and shift of the normalisation if it has one.
        """
        offsets, start = [], 0
        for k, (m, n) in enumerate(pairwise(self.sizes)):
            offsets.append((start, start + m * n))
            start += (m + 1 + self.norm_vectors(k)) * n
        return offsets

    def views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return weights (n_in, n_out) and biases (n_out,) of every layer, as views of ``flat``."""
        weights, biases = [], []
        for (w, b), (m, n) in zip(self.offsets(), pairwise(self.sizes), strict=True):
            weights.append(flat[w : w + m * n].reshape(m, n))
            biases.append(flat[b : b + n])
        return weights, biases

    def layer_views(self, flat: np.ndarray) -> list[np.ndarray]:
        """Return all parameters of every layer, as views of ``flat``."""
        starts = [w for w, _ in self.offsets()]
        return [flat[a:b] for a, b in pairwise([*starts, self.n_parameters])]

    def norm_views(self, flat: np.ndarray) -> list[list[np.ndarray]]:
        """Return the parameters of every layer's normalisation, as views of ``flat``: its scale
        (n_out,) and, unless it is an rms norm, its shift (n_out,); nothing without one.
        """
        views = []
        for k, ((_, b), n) in enumerate(zip(self.offsets(), self.sizes[1:], strict=True)):
            ends = range(b + n, b + n * (1 + self.norm_vectors(k)), n)
            views.append([flat[i : i + n] for i in ends])
        return views


# --- Checks of the arguments of ``build`` ---------------------------------------------------------


def _widths(sizes: Sequence[int]) -> list[int]:
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
    return widths


def _check_outputs(loss: LossFunction | Loss, n_out: int) -> None:
    """Raise ValueError unless the number of outputs fits the loss."""
    if loss.name == "cross_entropy" and n_out == 1:
        raise ValueError(
            "sizes: found 1 output with loss 'cross_entropy', expected 2 or more; for one "
            "yes-or-no output use loss='binary_cross_entropy', for regression loss='mse'"
        )
    if n_out % loss.per_target:
        raise ValueError(
            f"sizes: found {n_out} outputs with loss {str(loss)!r}, expected a multiple of "
            f"{loss.per_target}, the outputs that it needs for each column of y"
        )


def _output(output: ActivationLike | None, loss: LossFunction | Loss, n_out: int) -> ActivationLike:
    """Return the output activation, which must fit the loss and the number of outputs."""
    if output is None:
        output = loss.output if isinstance(loss, Loss) else loss.default_output(n_out)
    check_activation("output", output, OUTPUTS)
    if isinstance(loss, LossFunction):
        # A custom output activation works with the losses that work with every other.
        any_output = len(loss.outputs) == len(OUTPUTS)
        if not (any_output or output in loss.outputs):
            expected = " or ".join(map(repr, loss.outputs))
            raise ValueError(
                f"output: found {output!r}, expected {expected} for loss {loss.name!r}, "
                "which is computed together with it; 'mse' works with any output"
            )
        if isinstance(output, str):
            loss.check_output(output)
    if output == "softmax" and n_out == 1:
        raise ValueError(
            "output: found 'softmax' with 1 output, which would always be 1; expected 2 or more"
        )
    return output


def _activations(
    activation: ActivationLike | Sequence[ActivationLike], hidden: int
) -> list[ActivationLike]:
    """Return the activation of each hidden layer."""
    if isinstance(activation, (str, type)):
        check_activation("activation", activation, ACTIVATIONS)
    if isinstance(activation, (str, Activation, Parametric)):
        return [activation] * hidden
    if not isinstance(activation, (list, tuple)):
        raise TypeError(
            f"activation: found {activation!r}, expected a name, a pynn.Activation, or a list of "
            "them, one for each hidden layer"
        )
    names = list(activation)
    if len(names) != hidden:
        raise ValueError(
            f"activation: found {len(names)} names, expected one or {hidden}, "
            "one for each hidden layer"
        )
    for k, name in enumerate(names):
        check_activation(f"activation[{k}]", name, ACTIVATIONS)
    return names


def _parameters(activations: list[ActivationLike]) -> tuple[float, ...]:
    """Return the parameter of each activation, or an empty tuple if all have their default."""
    defaults = tuple(
        0.0 if isinstance(f, Activation) else default_parameter(f if isinstance(f, str) else f.name)
        for f in activations
    )
    found = tuple(
        f.parameter if isinstance(f, Parametric) else default
        for f, default in zip(activations, defaults, strict=True)
    )
    return () if found == defaults else found


def _dropout(dropout: float | Sequence[float], hidden: int) -> list[float]:
    """Return the dropout probability of each hidden layer."""
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
    return rates


def _residual(residual: object, widths: list[int]) -> tuple[bool, ...]:
    """Return whether each layer adds its input: the hidden ones with as many outputs as inputs."""
    if not isinstance(residual, (bool, np.bool_)):
        raise TypeError(f"residual: found {residual!r}, expected True or False")
    adds = [m == n for m, n in pairwise(widths[:-1])]
    if residual and not any(adds):
        raise ValueError(
            f"residual: found True with sizes {widths}, expected a hidden layer with as many "
            "outputs as inputs, since only such layers can add their input"
        )
    return (*adds, False) if residual else ()


def _norm_after(norm_after: object, norms: tuple[Norm | None, ...], *, given: bool) -> bool:
    """Return whether norms follow the activation: False without hidden layers."""
    if not isinstance(norm_after, (bool, np.bool_)):
        raise TypeError(f"norm_after: found {norm_after!r}, expected True or False")
    if norm_after and not any(norms) and (norms or not given):
        raise ValueError("norm_after: found True without norm, expected a normalisation")
    return bool(norm_after) and any(norms)


def _noise(noise: float | Sequence[float], hidden: int) -> tuple[float, ...]:
    """Return the standard deviation of the noise of each hidden layer; empty if all are 0."""
    if isinstance(noise, (list, tuple, np.ndarray)):
        found = [number(s, f"hidden_noise[{k}]", least=0) for k, s in enumerate(noise)]
        if len(found) != hidden:
            raise ValueError(
                f"hidden_noise: found {len(found)} values, expected one or {hidden}, "
                "one for each hidden layer"
            )
    else:
        found = [number(noise, "hidden_noise", least=0)] * hidden
    return tuple(found) if any(found) else ()


def _dtype(dtype: object) -> str:
    try:
        # NumPy reads None as float64.
        name = "None" if dtype is None else np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        name = str(dtype)
    return choose("dtype", name, DTYPES)


def _must_differ(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"activation, output, loss: found two functions named {name!r}, expected "
                "different names"
            )
