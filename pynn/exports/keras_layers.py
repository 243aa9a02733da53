"""Layers of Keras 3 as parts of a chain: which are accepted, and why others are refused.

``READERS`` is the registry. A layer that is not in it, or is of a user's own class, is refused,
with the reason of ``REFUSED`` if it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..checks.refused import kind_of
from ..spec.activations import ELU, LeakyReLU, Parametric
from ..spec.norms import BatchNorm, LayerNorm, Norm, RMSNorm
from . import chain, keras_losses
from .chain import Activate, Chain, Dense, Drop, Flatten, Noise, Normalize, Part, Place, Scale

Array = np.ndarray

ACTIVATIONS: dict[str, str | Parametric] = {
    "linear": "identity",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "leaky_relu": LeakyReLU(0.2),
    "elu": "elu",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "softplus": "softplus",
    "softsign": "softsign",
    "mish": "mish",
    "relu6": "relu6",
    "hard_sigmoid": "hard_sigmoid",
    "hard_silu": "hard_swish",
    "hard_tanh": "hard_tanh",
    "exponential": "exp",
    "softmax": "softmax",
}
"""Functions of ``keras.activations`` by their names, with Keras's default parameters."""

ONLY_OUTPUTS = ("exp", "softmax")

VARIABLES = {
    "weights": "kernel",
    "biases": "bias",
    "scale": "gamma",
    "shift": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
}
"""Attributes of Keras's layers by the names of ``chain.Slot``."""

DTYPES = ("float32", "float64")


def variable(slot: chain.Slot) -> Any:
    """Return the variable of Keras that holds an array of a chain."""
    name = VARIABLES[slot.name]
    if slot.place.kind == "RMSNormalization":
        name = "scale"
    return getattr(slot.place.source, name)


def values(source: Any) -> Array:
    """Return a variable or a tensor of Keras's backend as an array."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(source))


# --- The layers of a model ------------------------------------------------------------------------


class _Found(NamedTuple):
    layer: Any
    shape: tuple[int | None, ...]
    """Of a row of its input."""


def read(model: Any) -> Chain:
    """Return the layers of a Sequential model or of a functional chain.

    Raises
    ------
    TypeError
        If the model is no model of Keras.
    ValueError
        If it is not built, or has a layer that a network does not have. The error names the
        layer's position, its name and the reason.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"model: found {kind_of(model)}, expected a model of Keras: keras.Sequential or "
            "keras.Model(inputs, outputs)"
        )
    parts: list[Part] = []
    seen: set[int] = set()
    shape = _row_shape(model)
    for position, layer in enumerate(_layers(model)):
        place = Place(position, layer.name, type(layer).__name__, layer, "model")
        if id(layer) in seen:
            place.refuse("a second time", "every layer once: networks share no weights")
        seen.add(id(layer))
        parts += _parts(place, layer, shape)
        shape = _shape_after(layer, shape)
    found = chain.assemble(parts, "model", "Dense")
    for one in found.layers[:-1]:
        if one.activate is not None and one.activate.name in ONLY_OUTPUTS:
            one.activate.place.refuse(
                f"with {one.activate.name!r} in a hidden layer",
                "it as the activation of the outputs",
            )
    _check_dtypes(found)
    return found


def _row_shape(model: Any) -> tuple[int | None, ...]:
    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        own = type(model).__module__.split(".")[0] != "keras"
        expected = (
            "a keras.Sequential or keras.Model(inputs, outputs): the layers of a class of your own "
            "are not known"
            if own
            else "keras.Input(shape=(…,)) as its first layer, or model.build((None, …))"
        )
        raise ValueError(f"model: found {_named(model)} without inputs, expected {expected}")
    return tuple(model.inputs[0].shape[1:])


def _named(model: Any) -> str:
    return f"the {type(model).__name__} {model.name!r}"


def _layers(model: Any) -> list[Any]:
    """Return the layers of a model and of the models within it, in the order of a forward pass."""
    import keras

    if type(model).__module__.split(".")[0] != "keras":
        raise ValueError(
            f"model: found {_named(model)} of a class of your own, expected a keras.Sequential or "
            "keras.Model(inputs, outputs): what its methods do is not known"
        )
    for kind in ("inputs", "outputs"):
        tensors = getattr(model, kind, None) or ()
        if len(tensors) != 1:
            raise ValueError(f"model: found {_named(model)} with {len(tensors)} {kind}, expected 1")
    direct = model.layers if isinstance(model, keras.Sequential) else _operations(model)
    found: list[Any] = []
    for layer in direct:
        if isinstance(layer, keras.Model):
            found += _layers(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            found.append(layer)
    return found


def _operations(model: Any) -> list[Any]:
    """Return the layers of a functional model, which must form a chain."""
    import keras

    found: list[Any] = []
    tensor = model.outputs[0]
    while tensor is not model.inputs[0]:
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if isinstance(operation, keras.layers.InputLayer):
            break
        name = f"the {type(operation).__name__} {operation.name!r}"
        if not isinstance(operation, keras.layers.Layer):
            raise ValueError(
                f"model: found {name}, an operation that is no layer, expected layers only"
            )
        if len(node.input_tensors) != 1:
            raise ValueError(
                f"model: found {name} with {len(node.input_tensors)} inputs, expected a chain, in "
                "which every layer has the outputs of one other layer as its inputs"
            )
        if node.arguments.kwargs.get("training") is not None:
            raise ValueError(
                f"model: found {name} called with training={node.arguments.kwargs['training']}, "
                "expected no such argument"
            )
        found.append(operation)
        tensor = node.input_tensors[0]
    return found[::-1]


def _shape_after(layer: Any, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    found = layer.compute_output_shape((None, *shape))
    return tuple(found[1:])


def _check_dtypes(found: Chain) -> None:
    """Raise ValueError unless all layers compute in float32, or all in float64."""
    first = found.layers[0].dense.place
    for layer in found.layers:
        parts = (layer.dense, layer.normalize, layer.activate)
        for place in (part.place for part in parts if part is not None):
            policy, expected = place.source.dtype_policy, first.source.dtype_policy.name
            if policy.name != expected:
                place.refuse(
                    f"with the dtype policy {policy.name!r}", f"{expected!r}, as that of {first}"
                )


# --- The registry ---------------------------------------------------------------------------------


def _parts(place: Place, layer: Any, shape: tuple[int | None, ...]) -> list[Part]:
    kind = type(layer).__name__
    if type(layer).__module__.split(".")[0] != "keras":
        place.refuse("of a class of your own", f"a layer of Keras: {', '.join(READERS)}")
    if kind not in READERS:
        reason = REFUSED.get(kind, "networks have no such layer")
        place.refuse(f"({reason})", f"{', '.join(READERS)}")
    policy = layer.dtype_policy.name
    if policy not in DTYPES:
        place.refuse(f"with the dtype policy {policy!r}", "float32 or float64")
    return READERS[kind].parts(place, layer, shape)


class Reader(NamedTuple):
    """How a layer is read, and its conditions, for the table of the docs."""

    parts: Callable[[Place, Any, tuple[int | None, ...]], list[Part]]
    text: str


Shape = tuple["int | None", ...]


def _dense(place: Place, layer: Any, shape: Shape) -> list[Part]:
    if len(shape) != 1:
        place.refuse(
            f"with inputs of shape {('rows', *shape)}", "(rows, inputs): Flatten before it"
        )
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        place.refuse("with LoRA or quantised", "its plain form")
    biases = values(layer.bias) if layer.use_bias else None
    return [Dense(place, values(layer.kernel), biases), *_activation(place, layer.activation)]


def _activation(place: Place, function: Any) -> list[Part]:
    """Return the part of an activation: a function of Keras, a layer or None."""
    import keras

    if function is None:
        return []
    if isinstance(function, keras.layers.Layer):
        inner = Place(place.position, place.name, type(function).__name__, function, place.argument)
        return _parts(inner, function, ())
    name = getattr(function, "__name__", "")
    if function is not getattr(keras.activations, name, None) or name not in ACTIVATIONS:
        named = name or type(function).__name__
        place.refuse(f"with the activation {named!r}", f"one of {', '.join(ACTIVATIONS)}")
    return [] if name == "linear" else [Activate(place, ACTIVATIONS[name])]


def _relu(place: Place, layer: Any, shape: Shape) -> list[Part]:
    top, slope, threshold = layer.max_value, float(layer.negative_slope or 0), layer.threshold
    if threshold or (top is not None and (top != 6 or slope)):
        place.refuse(
            f"with max_value {top}, negative_slope {slope:g} and threshold {threshold:g}",
            "threshold 0, and max_value 6 without a slope or None",
        )
    return [Activate(place, "relu6" if top is not None else _leaky(slope))]


def _leaky(slope: float) -> str | Parametric:
    return LeakyReLU(slope) if slope else "relu"


def _elu(place: Place, layer: Any, shape: Shape) -> list[Part]:
    if not layer.alpha > 0:
        place.refuse(f"with alpha {layer.alpha:g}", "one above 0")
    return [Activate(place, ELU(float(layer.alpha)))]


def _softmax(place: Place, layer: Any, shape: Shape) -> list[Part]:
    if layer.axis not in (-1, 1):
        place.refuse(f"with axis {layer.axis}", "-1")
    return [Activate(place, "softmax")]


def _batch_norm(place: Place, layer: Any, shape: Shape) -> list[Part]:
    if getattr(layer, "renorm", False):
        place.refuse("with renorm=True", "False")
    momentum = 1 - float(layer.momentum)
    norm = BatchNorm(momentum=momentum, epsilon=float(layer.epsilon), unbiased=False)
    running = {"mean": values(layer.moving_mean), "variance": values(layer.moving_variance)}
    return [_norm(place, layer, norm, shape, **running)]


def _layer_norm(place: Place, layer: Any, shape: Shape) -> list[Part]:
    if getattr(layer, "rms_scaling", False):
        place.refuse("with rms_scaling=True", "RMSNormalization")
    return [_norm(place, layer, LayerNorm(float(layer.epsilon)), shape)]


def _units(place: Place, layer: Any, shape: Shape) -> int:
    """Return the number of units that a norm normalises, or refuse it."""
    axis = list(layer.axis) if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if len(shape) != 1 or axis not in ([-1], [1]):
        place.refuse(
            f"over axis {layer.axis} of {('rows', *shape)}", "the last axis of (rows, units)"
        )
    assert shape[0] is not None
    return shape[0]


def _norm(place: Place, layer: Any, norm: Norm, shape: Shape, **running: Array) -> Normalize:
    return Normalize(
        place,
        norm,
        _units(place, layer, shape),
        values(layer.gamma) if layer.scale else None,
        values(layer.beta) if layer.center else None,
        **running,
    )


def _rms_norm(place: Place, layer: Any, shape: Shape) -> list[Part]:
    n = _units(place, layer, shape)
    return [Normalize(place, RMSNorm(float(layer.epsilon)), n, values(layer.scale))]


def _dropout(place: Place, layer: Any, shape: Shape) -> list[Part]:
    if layer.noise_shape is not None:
        place.refuse(f"with noise_shape {layer.noise_shape}", "None")
    if not layer.rate < 1:
        place.refuse(f"with rate {layer.rate:g}", "one below 1")
    return [Drop(place, float(layer.rate))] if layer.rate else []


def _noise(place: Place, layer: Any, shape: Shape) -> list[Part]:
    return [Noise(place, float(layer.stddev))] if layer.stddev else []


def _flatten(place: Place, layer: Any, shape: Shape) -> list[Part]:
    if layer.data_format == "channels_first" and len(shape) > 1:
        place.refuse("with data_format 'channels_first'", "'channels_last'")
    return [Flatten(place)]


def _rescaling(place: Place, layer: Any, shape: Shape) -> list[Part]:
    scale, offset = (np.asarray(a, np.float64) for a in (layer.scale, layer.offset))
    if not scale.all():
        place.refuse("with scale 0", "another scale")
    # x·scale + offset = (x − mean) / (1 / scale)
    return [Scale(place, _flat(-offset / scale, shape), _flat(1 / scale, shape))]


def _normalization(place: Place, layer: Any, shape: Shape) -> list[Part]:
    import keras

    if layer.invert:
        place.refuse("with invert=True", "False")
    if getattr(layer, "mean", None) is None or not getattr(layer, "built", True):
        place.refuse("without mean and variance", "layer.adapt(x) before")
    mean, variance = (values(a).astype(np.float64) for a in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return [Scale(place, _flat(mean, shape), _flat(deviation, shape))]


def _flat(a: Array, shape: Shape) -> Array:
    """Return values of the inputs as one number, or as (n_in,)."""
    if a.size == 1:
        return np.float64(a.reshape(())[()])
    return np.broadcast_to(a, (1, *(int(n or 0) for n in shape))).reshape(-1)


READERS: dict[str, Reader] = {
    "InputLayer": Reader(lambda place, layer, shape: [], "`keras.Input`, one for the model"),
    "Dense": Reader(
        _dense,
        "with any activation below; without bias too; L1 and L2 of the kernel, not of the bias",
    ),
    "Activation": Reader(
        lambda place, layer, shape: _activation(place, layer.activation),
        ", ".join(f"`{name}`" for name in ACTIVATIONS)
        + "; `exponential` and `softmax` at the end only",
    ),
    "ReLU": Reader(_relu, "with a slope, or with `max_value=6`"),
    "LeakyReLU": Reader(
        lambda place, layer, shape: [Activate(place, _leaky(float(layer.negative_slope)))], ""
    ),
    "ELU": Reader(_elu, ""),
    "Softmax": Reader(_softmax, "at the end"),
    "BatchNormalization": Reader(
        _batch_norm, "after Dense or after its activation, not of the inputs; not with `renorm`"
    ),
    "LayerNormalization": Reader(_layer_norm, "after Dense or after its activation"),
    "RMSNormalization": Reader(_rms_norm, "after Dense or after its activation"),
    "Dropout": Reader(_dropout, "of the inputs, or after an activation or a normalisation"),
    "GaussianNoise": Reader(_noise, "of the inputs, or after an activation, before Dropout"),
    "Flatten": Reader(_flatten, ""),
    "Rescaling": Reader(_rescaling, "of the inputs"),
    "Normalization": Reader(_normalization, "of the inputs, after `adapt`"),
    "Identity": Reader(lambda place, layer, shape: [], ""),
}

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("Conv1D", "Conv2D", "Conv3D", "MaxPooling2D", "GlobalAveragePooling2D"),
        "networks have dense layers only",
    ),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), "networks have no recurrence"),
    **dict.fromkeys(
        ("Embedding", "MultiHeadAttention", "EinsumDense"), "not a dense layer of rows"
    ),
    **dict.fromkeys(("Add", "Concatenate", "Multiply"), "more than one input"),
    "PReLU": "its slopes are trained",
    "ActivityRegularization": "networks have no penalties of activations",
    "Lambda": "its function is not known",
    "GroupNormalization": "networks normalise over all units of a row, or over rows",
    "UnitNormalization": "networks normalise by LayerNormalization or RMSNormalization",
    "SpectralNormalization": "it changes the weights of its layer",
    "AlphaDropout": "networks have inverted dropout",
    "GaussianDropout": "its noise multiplies; GaussianNoise adds",
    "SpatialDropout1D": "it drops whole channels",
    "Masking": "networks have no time steps",
    "Reshape": "networks have rows of units",
    "CategoryEncoding": "encode x before the model",
}
"""Reasons why layers are refused; all others have the reason that networks have no such layer."""


# --- Networks -------------------------------------------------------------------------------------


def scales_pixels(found: Chain) -> bool:
    """Return whether the only scaling of the inputs is a division by 255."""
    if len(found.scales) != 1:
        return False
    (part,) = found.scales
    return bool(np.all(part.mean == 0) and np.allclose(part.scale, 255, rtol=1e-12, atol=0))


def network(create: Callable[..., Any], model: Any, loss: Any) -> Any:
    """Return a network with the layers of a model.

    Parameters
    ----------
    create : function
        ``create(sizes, **settings)`` returns a network.
    model
        A model of Keras.
    loss
        A loss; None: that of ``model.compile``, or one that fits the output activation.
    """
    found = read(model)
    settings: dict[str, Any] = {}
    if loss is None and getattr(model, "compiled", False):
        aim = keras_losses.objective(model, found.output, found.sizes[-1])
        loss, settings["output"] = aim.loss, aim.output
    if scales_pixels(found):
        found = replace(found, scales=[])
        settings |= {"pixels": True}
    return chain.network(create, found, loss, **settings)


def table() -> str:
    """Return the accepted layers, and refused ones with their reasons, as Markdown."""
    accepted = {f"`{name}`": reader.text for name, reader in READERS.items()}
    return chain.table(accepted, {f"`{name}`": reason for name, reason in REFUSED.items()})
