"""A trained network as a list of operations on one row, which every exporter translates.

``describe`` is the only function that reads the options of a network: an option that changes
predictions is added here, and exporters get it as operations that they have. An exporter raises
``refuse`` for an operation that it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..arrays.standard import Standard
from ..backends.reference import to_bf16
from ..spec.activations import PARAMETRIC
from ..spec.architecture import Architecture
from ..spec.functions import Loss
from ..spec.losses import LEAST_VARIANCE, GaussianNLL, Quantile
from ..spec.names import OUTPUTS
from ..training.standardise import output_unit

if TYPE_CHECKING:
    from ..checks.targets import Task
    from ..training.model import Model

Array = np.ndarray

INPUT_DTYPES = ("float32", "float64", "uint8")


@dataclass(frozen=True, eq=False)
class Cast:
    """Convert the values to another number format."""

    dtype: str


@dataclass(frozen=True, eq=False)
class Affine:
    """(h − center) · factor + summand, in the format of h; parts that are None are left out.

    The parts are numbers (), or arrays (n,).
    """

    center: Array | None = None
    factor: Array | None = None
    summand: Array | None = None


@dataclass(frozen=True, eq=False)
class Dense:
    """h @ weights + biases; with ``rounds`` h is rounded to bfloat16, as the weights are."""

    weights: Array  # (n_in, n_out)
    biases: Array  # (n_out,)
    rounds: bool = False


@dataclass(frozen=True, eq=False)
class RowNorm:
    """scale · (h − mean) / √(variance + ε) + shift over the units of a row.

    Without ``centers`` the mean is left out, and the variance is the mean of h²; the shift of an
    rms norm is None.
    """

    centers: bool
    epsilon: float
    scale: Array  # (n,)
    shift: Array | None


@dataclass(frozen=True)
class Activate:
    """An activation by its name, with its parameter if it has one."""

    name: str
    parameter: float = 0.0


@dataclass(frozen=True)
class AddInput:
    """Add the input of the last ``Dense`` to h."""


Operation = Cast | Affine | Dense | RowNorm | Activate | AddInput


@dataclass(frozen=True, eq=False)
class Outputs:
    """The meaning of the values that the operations end with.

    Parameters
    ----------
    kind
        ``"classes"``, ``"multilabel"``, ``"values"``, ``"quantiles"`` or ``"distribution"``.
    width
        Number of values.
    targets
        Number of columns of y.
    classes
        The label of each value, or those of no and yes for a single one; None except for classes.
    threshold
        A single value above it, or each value of multilabel targets, means yes: ½ for
        probabilities, 0 for scores.
    probabilities
        Whether the values are returned as ``predict_proba`` returns them, rather than as scores.
    flat
        Whether predictions of one target are (n,) rather than (n, 1).
    deviation_scale
        (targets,): factor on the standard deviations of a distribution, which are those of
        ``GaussianNLL.deviations``; None without.
    """

    kind: str
    width: int
    targets: int
    classes: Array | None = None
    threshold: float = 0.5
    probabilities: bool = True
    flat: bool = False
    deviation_scale: Array | None = None
    least_variance: float = LEAST_VARIANCE


@dataclass(frozen=True, eq=False)
class Program:
    """A network as operations on a row x (n_in,) of ``input_dtype``.

    ``dtype`` is the number format of the layers.
    """

    input_dtype: str
    dtype: str
    n_in: int
    operations: tuple[Operation, ...]
    outputs: Outputs

    @property
    def widths(self) -> list[int]:
        """Number of units of every layer, from the inputs on."""
        dense = [step for step in self.operations if isinstance(step, Dense)]
        return [self.n_in, *(step.weights.shape[1] for step in dense)]


def refuse(exporter: str, found: object, expected: str) -> NoReturn:
    """Raise the error for an operation that an exporter lacks."""
    raise ValueError(f"{exporter}: found {found}, expected {expected}")


def input_format(model: Model, given: Any, default: str) -> str:
    """Return the number format of the inputs of an exported network.

    None means uint8 for pixels, and ``default`` for values.

    Raises
    ------
    ValueError
        If the network cannot take such inputs.
    """
    if given is None:
        return "uint8" if model.pixels is True else default
    try:
        name = np.dtype(given).name
    except TypeError:
        name = ""
    if name not in INPUT_DTYPES:
        raise ValueError(f"input_dtype: found {given!r}, expected one of {', '.join(INPUT_DTYPES)}")
    if name == "uint8" and model.pixels is False:
        raise ValueError(
            "input_dtype: found 'uint8' for a network whose inputs are values and not pixels, "
            "expected 'float32' or 'float64'"
        )
    return name


def describe(model: Model, input_dtype: str) -> Program:
    """Return the operations that compute the predictions of a model.

    They use the moving average of the parameters if there is one.

    Parameters
    ----------
    model
        The model.
    input_dtype
        The format of x: uint8 for pixels from 0 to 255, else a format of floats.

    Raises
    ------
    ValueError
        If the model has a custom activation, a parameter that is not finite, or no statistics for
        the standardisation yet; or if float32 cannot hold the inputs.
    """
    net = model.architecture
    _check(model)
    operations = [*_read(model, input_dtype), *_layers(net, model.evaluated), *_finish(model)]
    outputs = _outputs(net, model.known_task)
    if outputs.kind == "distribution" and model.target_standard is not None:
        outputs = Outputs(**{**vars(outputs), "deviation_scale": model.target_standard.scale})
    return Program(input_dtype, net.dtype, net.n_in, tuple(operations), outputs)


def layers_of(net: Architecture, values: Array) -> list[Operation]:
    """Return the operations of all layers for the values (n_values,) of a model."""
    _check_activations(net)
    return list(_layers(net, values))


def _check(model: Model) -> None:
    """Raise ValueError unless a model computes finite numbers from its inputs."""
    _check_activations(model.architecture)
    if not np.isfinite(model.evaluated).all():
        raise ValueError("parameters: found values that are NaN or infinite, expected finite ones")
    for flag, standard, name in (
        (model.standardize, model.input_standard, "inputs"),
        (model.standardize_targets, model.target_standard, "targets"),
    ):
        if flag and standard is None:
            raise ValueError(
                "standardize: found a network that has not been trained, so that means and scales "
                f"of its {name} are not known; expected fit first"
            )


def _check_activations(net: Architecture) -> None:
    for k, name in enumerate(net.activations):
        if net.custom(name) is not None or name not in OUTPUTS:
            raise ValueError(
                f"activation: found the custom activation {name!r} in layer {k} (counted from 0), "
                "whose formula is Python code, expected activations of pynn"
            )


# --- Operations -----------------------------------------------------------------------------------


def _read(model: Model, input_dtype: str) -> Iterator[Operation]:
    """Yield how x becomes the input of the first layer, as ``reference.read_rows`` defines it."""
    dtype, standard = model.architecture.dtype, model.input_standard
    working = dtype if standard is None else "float64"
    if input_dtype != working:
        yield Cast(working)
    if input_dtype == "uint8":
        yield Affine(factor=np.asarray(1 / 255, working))
    if standard is not None:
        if input_dtype == "float32":
            _check_float32(standard)
        yield Affine(center=standard.mean, factor=standard.inverse)
        if dtype != working:
            yield Cast(dtype)


def _check_float32(standard: Standard) -> None:
    """Raise ValueError if rounding to float32 would change standardised inputs visibly."""
    k = standard.too_fine_for("float32")
    if k is not None:
        raise ValueError(
            f"input_dtype: found 'float32' for input {k} (counted from 0) with mean "
            f"{standard.mean[k]:g} and standard deviation {standard.scale[k]:g}, whose differences "
            "float32 cannot hold, expected 'float64'"
        )


def _layers(net: Architecture, values: Array) -> Iterator[Operation]:
    parameters = values[: net.n_parameters]
    weights, biases = net.views(parameters)
    scales, running = net.norm_views(parameters), net.running_views(values)
    for k in range(net.n_layers):
        rounds = net.rounds(k)
        yield Dense(to_bf16(weights[k]) if rounds else weights[k], biases[k], rounds)
        activate = [_activation(net, k)] if net.activations[k] != "identity" else []
        norm = list(_norm(net, k, scales[k], running[k]))
        yield from [*activate, *norm] if net.norm_after else [*norm, *activate]
        if net.adds_input(k):
            yield AddInput()


def _activation(net: Architecture, layer: int) -> Activate:
    name = net.activations[layer]
    return Activate(name, net.activation_parameter(layer) if name in PARAMETRIC else 0.0)


def _norm(
    net: Architecture, layer: int, parameters: list[Array], running: list[Array]
) -> Iterator[Operation]:
    kind = net.norm(layer)
    if kind is None:
        return
    if kind.over_rows:
        mean, variance = running
        factor = parameters[0] / np.sqrt(variance.astype(np.float64) + kind.epsilon)
        yield Affine(mean, factor.astype(net.dtype), parameters[1])
    else:
        shift = parameters[1] if kind.centers else None
        yield RowNorm(kind.centers, kind.epsilon, parameters[0], shift)


def _finish(model: Model) -> Iterator[Operation]:
    """Yield how outputs get the unit of the targets, as ``standardise.outputs`` defines it."""
    unit = output_unit(model)
    if unit is None:
        return
    factor, summand = unit
    if model.architecture.dtype != "float64":
        yield Cast("float64")
    yield Affine(factor=factor, summand=summand)


def _outputs(net: Architecture, task: Task) -> Outputs:
    """Return the meaning of the outputs, as ``Network.predict`` defines it."""
    loss = net.loss_function
    width, targets = net.n_out, net.n_targets
    if task.kind == "values":
        kind = "values"
        if isinstance(loss, GaussianNLL):
            kind = "distribution"
        elif isinstance(loss, Quantile) and isinstance(loss.q, tuple):
            kind = "quantiles"
        return Outputs(kind, width, targets, flat=task.flat)
    scores = not isinstance(loss, Loss) and not loss.probabilities
    kind = "multilabel" if task.classes is None else "classes"
    return Outputs(
        *(kind, width, targets, task.classes),
        threshold=0.0 if scores else 0.5,
        probabilities=not scores,
    )
