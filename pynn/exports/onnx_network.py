"""Networks from the layers of ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.standard import Standard
from ..spec.activations import with_parameter
from ..spec.norms import LayerNorm, Norm, RMSNorm
from ..training.model import Model
from ..training.standardise import check_targets
from .onnx_layers import Found, fold, unit
from .operations import RowNorm


def network(create: Callable[..., Any], found: Found, loss: Any) -> Any:
    """Return a network with the layers of a file.

    Parameters
    ----------
    create : function
        ``create(sizes, **settings)`` returns a network.
    found
        What the file contains.
    loss
        That of ``from_onnx``.
    """
    layers = found.layers
    sizes = [layers[0].weights.shape[0], *(len(layer.biases) for layer in layers)]
    settings = _settings(found, loss)
    net = create(sizes, **settings)
    standard = _target_standard(net._model, found)
    if standard is not None:
        net = create(sizes, **settings, standardize_targets=True)
    fold(layers[-1])
    net.weights = [layer.weights for layer in layers]
    net.biases = [layer.biases for layer in layers]
    norms = [layer.norm for layer in layers]
    if any(norms):
        net.scales = [None if norm is None else norm.scale for norm in norms]
        net.shifts = [None if norm is None else norm.shift for norm in norms]
    if found.multilabel and len(layers[-1].biases) > 1:
        net.classes = None
    elif found.classes is not None:
        net.classes = found.classes
    net._model.replace(input_standard=found.standard, target_standard=standard)
    return net


def _target_standard(model: Model, found: Found) -> Standard | None:
    """Return mean and scale of the targets, and leave them out of the layers; None if the outputs
    are none of values, or float32 weights can include them.
    """
    net, last = model.architecture, found.layers[-1]
    scales = unit(last)
    if scales is None or found.classes is not None or found.multilabel:
        return None
    factor, summand = scales
    try:
        check_targets(net)
    except ValueError:
        return None
    if net.n_targets != net.n_out or not (np.isfinite([factor, summand, 1 / factor]).all()):
        return None
    sign = np.sign(factor).astype(last.weights.dtype)
    last.weights, last.biases, last.after = last.weights * sign, last.biases * sign, []
    return Standard.of(summand, np.abs(factor))


def _settings(found: Found, loss: Any) -> dict[str, Any]:
    """Return the arguments of ``Network`` for the layers of a file."""
    *hidden, last = [
        with_parameter(layer.function.name, layer.function.parameter)
        if layer.function is not None
        else "identity"
        for layer in found.layers
    ]
    labelled = found.classes is not None or found.multilabel
    output: Any = last
    if loss is None:
        loss = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}.get(str(last), "mse")
        loss = "hinge" if labelled and last == "identity" else loss
    elif last == "identity":
        output = None  # that of the loss
    norms = [_as_norm(layer.norm) for layer in found.layers[:-1]]
    return {
        "activation": hidden,
        "output": output,
        "loss": loss,
        "norm": norms if any(norms) else None,
        "norm_after": any(layer.norm_after for layer in found.layers),
        "residual": any(layer.residual for layer in found.layers),
        "dtype": found.dtype,
        "pixels": found.pixels,
        "standardize": found.standard is not None,
    }


def _as_norm(norm: RowNorm | None) -> Norm | None:
    if norm is None:
        return None
    return LayerNorm(norm.epsilon) if norm.centers else RMSNorm(norm.epsilon)
