"""Layers of other frameworks, in the order of a forward pass, as the layers of a network.

A reader of a framework turns its layers into parts, each with the place that messages name.
``assemble`` arranges them as networks compute them, or refuses the part that does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np

from ..arrays.standard import Standard
from ..spec.activations import Parametric
from ..spec.architecture import Architecture
from ..spec.norms import Norm

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Place:
    """Where a part comes from.

    Parameters
    ----------
    position
        Number of the layer in the order of a forward pass, from 0.
    name
        The name of the layer.
    kind
        Its class, such as ``"nn.Linear"``.
    source
        The layer, for what is written back to it.
    argument
        The argument that contains it.
    """

    position: int
    name: str
    kind: str
    source: Any = None
    argument: str = "module"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} at position {self.position} (counted from 0)"

    def refuse(self, found: str, expected: str) -> NoReturn:
        """Raise ValueError: what was found at this place, and what was expected."""
        raise ValueError(f"{self.argument}: found {self} {found}, expected {expected}")


@dataclass(frozen=True, eq=False)
class Dense:
    """x @ weights + biases; without biases they are 0 and stay 0."""

    place: Place
    weights: Array  # (n_in, n_out)
    biases: Array | None  # (n_out,)


@dataclass(frozen=True, eq=False)
class Activate:
    """An activation, or ``"softmax"`` or ``"log_softmax"`` of the outputs."""

    place: Place
    function: str | Parametric

    @property
    def name(self) -> str:
        return self.function if isinstance(self.function, str) else self.function.name


@dataclass(frozen=True, eq=False)
class Normalize:
    """A normalisation of n units; scale and shift that are None are 1 and 0 and stay so.

    ``mean`` and ``variance`` are the running statistics of batch norms.
    """

    place: Place
    norm: Norm
    n: int
    scale: Array | None = None  # (n,)
    shift: Array | None = None
    mean: Array | None = None
    variance: Array | None = None


@dataclass(frozen=True, eq=False)
class Drop:
    """Dropout with a probability in [0, 1)."""

    place: Place
    rate: float


@dataclass(frozen=True, eq=False)
class Noise:
    """Gaussian noise, added in training, with a standard deviation."""

    place: Place
    deviation: float


@dataclass(frozen=True, eq=False)
class Scale:
    """(x − mean) / scale of the inputs; numbers, or arrays (n_in,)."""

    place: Place
    mean: Array
    scale: Array


@dataclass(frozen=True, eq=False)
class Flatten:
    """All axes but the first become one."""

    place: Place


Part = Dense | Activate | Normalize | Drop | Noise | Scale | Flatten


class Slot(NamedTuple):
    """An array of a part, and its place in the values of a network.

    Attributes
    ----------
    layer
        Index of the layer from 0.
    place
        Of the part.
    name
        ``"weights"``, ``"biases"``, ``"scale"``, ``"shift"``, ``"mean"`` or ``"variance"``.
    array
        The array of the part; None if it has none, so that the values must stay as they are.
    view
        The view of the network's values.
    """

    layer: int
    place: Place
    name: str
    array: Array | None
    view: Array


@dataclass(eq=False)
class Layer:
    """The parts of one layer."""

    dense: Dense
    normalize: Normalize | None = None
    activate: Activate | None = None
    norm_after: bool = False
    """Whether the normalisation follows the activation; False without one of them."""
    noise: Noise | None = None
    drops: list[Drop] = field(default_factory=list)

    HOMOGENEOUS: ClassVar[tuple[str, ...]] = ("relu", "leaky_relu")
    """f(s·z) = s·f(z) for s ≥ 0: dropout before or after them gives the same values."""

    def add(self, part: Part) -> None:
        """Add a part that follows the others."""
        if isinstance(part, Activate):
            self._add_activation(part)
        elif isinstance(part, Normalize):
            self._add_norm(part)
        elif isinstance(part, Noise):
            if self.noise is not None or self.drops:
                part.place.refuse(
                    f"after {(self.noise or self.drops[-1]).place}",
                    "noise once in a layer, and before dropout",
                )
            self.noise = part
        elif isinstance(part, Drop):
            self.drops.append(part)
        elif isinstance(part, Scale):
            part.place.refuse("after a dense layer", "a scaling of the inputs, before all others")

    def _add_activation(self, part: Activate) -> None:
        if self.activate is not None:
            part.place.refuse(f"after {self.activate.place}", "one activation in each layer")
        if self.noise is not None:
            self.noise.place.refuse("before an activation", "noise after the activation")
        if self.drops and part.name not in self.HOMOGENEOUS:
            self.drops[-1].place.refuse(
                f"before {part.place}",
                "dropout after the activation; before it only with "
                + " or ".join(self.HOMOGENEOUS),
            )
        self.activate = part

    def _add_norm(self, part: Normalize) -> None:
        for other in (self.normalize, self.noise, *self.drops):
            if isinstance(other, Normalize):
                part.place.refuse(f"after {other.place}", "one normalisation in each layer")
            if other is not None:
                part.place.refuse(
                    f"after {other.place}", "normalisations before noise and dropout of their layer"
                )
        n = self.dense.weights.shape[1]
        if part.n != n:
            part.place.refuse(f"for {part.n} units", f"{n}, the outputs of {self.dense.place}")
        self.normalize, self.norm_after = part, self.activate is not None


@dataclass(eq=False)
class Chain:
    """Layers in the order of a forward pass.

    ``flattens`` says whether the rows of x may have any shape.
    """

    layers: list[Layer]
    scales: list[Scale] = field(default_factory=list)
    noise: Noise | None = None
    drops: list[Drop] = field(default_factory=list)
    flattens: bool = False

    @property
    def sizes(self) -> list[int]:
        """Number of units of every layer, from the inputs on."""
        weights = [layer.dense.weights for layer in self.layers]
        return [weights[0].shape[0], *(w.shape[1] for w in weights)]

    @property
    def output(self) -> str | Parametric:
        """The activation of the outputs, which may be ``"log_softmax"``."""
        last = self.layers[-1].activate
        return "identity" if last is None else last.function

    @property
    def dtype(self) -> str:
        """float64 if weights are, otherwise float32."""
        found = np.result_type(*(layer.dense.weights for layer in self.layers))
        return "float64" if found == np.float64 else "float32"

    @property
    def standard(self) -> Standard | None:
        """The scaling of the inputs; None without one."""
        if not self.scales:
            return None
        mean, scale = np.zeros(self.sizes[0]), np.ones(self.sizes[0])
        for part in self.scales:
            mean, scale = mean + scale * part.mean, scale * part.scale
        return Standard.of(mean, scale)

    def settings(self) -> dict[str, Any]:
        """Return the arguments of ``Network``, without sizes, loss and output."""
        hidden = self.layers[:-1]
        norms = [None if p.normalize is None else p.normalize.norm for p in hidden]
        return {
            "activation": [
                "identity" if layer.activate is None else layer.activate.function
                for layer in hidden
            ],
            "norm": norms if any(norms) else None,
            "norm_after": any(layer.norm_after for layer in hidden),
            "dropout": [_rate(layer.drops) for layer in hidden],
            "hidden_noise": [_deviation(layer.noise) for layer in hidden],
            "input_dropout": _rate(self.drops),
            "input_noise": _deviation(self.noise),
            "pixels": False,
            "standardize": bool(self.scales),
            "dtype": self.dtype,
        }

    def slots(self, net: Architecture, values: Array) -> list[Slot]:
        """Return all arrays of the parts with the views of a network's values (n_values,)."""
        parameters = values[: net.n_parameters]
        weights, biases = net.views(parameters)
        scales, running = net.norm_views(parameters), net.running_views(values)
        found: list[Slot] = []
        for k, layer in enumerate(self.layers):
            dense, norm = layer.dense, layer.normalize
            found.append(Slot(k, dense.place, "weights", dense.weights, weights[k]))
            found.append(Slot(k, dense.place, "biases", dense.biases, biases[k]))
            if norm is not None:
                given = {"scale": norm.scale, "shift": norm.shift}
                for (name, array), view in zip(given.items(), scales[k]):
                    found.append(Slot(k, norm.place, name, array, view))
                given = {"mean": norm.mean, "variance": norm.variance}
                for (name, array), view in zip(given.items(), running[k]):
                    found.append(Slot(k, norm.place, name, array, view))
        return found

    def copy_to(self, net: Architecture, values: Array) -> None:
        """Copy all arrays into a network's values (n_values,).

        Raises
        ------
        ValueError
            If a value is not finite, or a running variance negative.
        """
        for slot in self.slots(net, values):
            if slot.array is None:
                slot.view[...] = float(slot.name in ("scale", "variance"))
                continue
            with np.errstate(over="ignore"):
                slot.view[...] = slot.array
            if not np.isfinite(slot.view).all():
                slot.place.refuse(f"with {slot.name} that are NaN or infinite", "finite ones")
            if slot.name == "variance" and (slot.view < 0).any():
                slot.place.refuse("with a negative running variance", "0 or more")


def _rate(drops: list[Drop]) -> float:
    """Return the probability that one of some dropouts drops a value."""
    kept = 1.0
    for part in drops:
        kept *= 1 - part.rate
    return drops[0].rate if len(drops) == 1 else 1 - kept


def _deviation(noise: Noise | None) -> float:
    return 0.0 if noise is None else noise.deviation


def assemble(parts: Iterable[Part], argument: str = "module", dense: str = "nn.Linear") -> Chain:
    """Return the layers that parts make in their order.

    Parameters
    ----------
    parts
        Those of the framework's layers.
    argument, dense
        The argument and the class of dense layers, for messages.

    Raises
    ------
    ValueError
        If the parts are not the layers of a network; the error names the first that does not fit.
    """
    layers: list[Layer] = []
    before, flattens = _Inputs(), False
    for part in parts:
        if isinstance(part, Flatten):
            flattens = flattens or not layers  # rows that have one axis stay as they are
        elif isinstance(part, Dense):
            _check_width(part, layers)
            layers.append(Layer(part))
        elif layers:
            layers[-1].add(part)
        else:
            before.add(part, dense)
    if not layers:
        raise ValueError(f"{argument}: found no {dense}, expected one at least")
    _check_output(layers)
    _check_order(layers)
    if any(np.size(p.mean) not in (1, layers[0].dense.weights.shape[0]) for p in before.scales):
        before.scales[0].place.refuse(
            "with another number of means", f"{layers[0].dense.weights.shape[0]} or one"
        )
    return Chain(layers, before.scales, before.noise, before.drops, flattens)


@dataclass(eq=False)
class _Inputs:
    """What precedes the first dense layer."""

    scales: list[Scale] = field(default_factory=list)
    noise: Noise | None = None
    drops: list[Drop] = field(default_factory=list)

    def add(self, part: Part, dense: str) -> None:
        previous = self.drops[-1] if self.drops else self.noise
        if isinstance(part, (Scale, Noise)) and previous is not None:
            part.place.refuse(
                f"after {previous.place}", "scaling, noise and dropout of the inputs in this order"
            )
        if isinstance(part, Scale):
            self.scales.append(part)
        elif isinstance(part, Noise):
            self.noise = part
        elif isinstance(part, Drop):
            self.drops.append(part)
        elif isinstance(part, Normalize):
            part.place.refuse(
                f"before the first {dense}",
                f"{dense} first: networks have no norms of the inputs, whose columns can be "
                "standardised instead",
            )
        elif isinstance(part, Activate):
            part.place.refuse(f"before the first {dense}", f"{dense} first")


def _check_width(part: Dense, layers: list[Layer]) -> None:
    n_in = part.weights.shape[0]
    if 0 in part.weights.shape:
        part.place.refuse(f"with weights of shape {part.weights.shape}", "one unit at least")
    if layers and n_in != layers[-1].dense.weights.shape[1]:
        last = layers[-1].dense
        part.place.refuse(f"with {n_in} inputs", f"{last.weights.shape[1]}, those of {last.place}")


def _check_output(layers: list[Layer]) -> None:
    """Raise ValueError if softmax is not at the end, or something else is."""
    for layer in layers[:-1]:
        if layer.activate is not None and layer.activate.name in ("softmax", "log_softmax"):
            layer.activate.place.refuse("in a hidden layer", "it as the last layer")
    last = layers[-1]
    for part in (last.normalize, last.noise, *last.drops):
        if part is not None:
            part.place.refuse(
                f"after the last dense layer, {last.dense.place}",
                "outputs without normalisation, noise and dropout",
            )


def _check_order(layers: list[Layer]) -> None:
    """Raise ValueError unless norms are before all activations, or after all."""
    both = [layer for layer in layers if layer.normalize is not None and layer.activate is not None]
    for layer in both:
        if layer.norm_after != both[0].norm_after:
            assert layer.normalize is not None
            assert both[0].normalize is not None
            here, there = ("after", "before") if layer.norm_after else ("before", "after")
            layer.normalize.place.refuse(
                f"{here} the activation",
                f"it {there} the activation, as {both[0].normalize.place} is",
            )


def network(create: Callable[..., Any], chain: Chain, loss: Any, **settings: Any) -> Any:
    """Return a network with the layers of a chain.

    Parameters
    ----------
    create : function
        ``create(sizes, **settings)`` returns a network.
    chain
        The layers.
    loss
        A loss, for which outputs without an activation get that of the loss. None: cross_entropy
        after softmax, binary_cross_entropy after sigmoid, otherwise mse.
    settings
        Further arguments of ``Network``.
    """
    output: Any = "softmax" if chain.output == "log_softmax" else chain.output
    if loss is None:
        known = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}
        loss = known.get(output, "mse") if isinstance(output, str) else "mse"
    elif output == "identity":
        output = None  # that of the loss
    given = {**chain.settings(), "output": output, "loss": loss, "init": "zeros", **settings}
    net = create(chain.sizes, **given)
    values = net._model.flat.copy()
    chain.copy_to(net.architecture, values)
    net._model.set_values(values, "parameters")
    if chain.scales:
        net._model.replace(input_standard=chain.standard)
    return net


def table(accepted: Mapping[str, str], refused: Mapping[str, str], subject: str = "layer") -> str:
    """Return layers with their conditions, or the reason why they are refused, as Markdown."""
    lines = [f"| {subject} | accepted | |", "| --- | --- | --- |"]
    lines += [f"| {name} | yes | {text} |" for name, text in accepted.items()]
    lines += [f"| {name} | no | {text} |" for name, text in refused.items()]
    return "\n".join(lines)
