"""Losses of Keras 3 as losses of pynn.

Keras's losses take the outputs of the model, or its logits with ``from_logits=True``; losses of
pynn determine the output activation. ``objective`` matches the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ..spec.activations import Parametric
from ..spec.losses import Focal, Huber, LossFunction

Output = str | Parametric

ACCEPTED: dict[str, str] = {
    "CategoricalCrossentropy": "softmax, or `from_logits=True`; `label_smoothing`",
    "SparseCategoricalCrossentropy": "softmax, or `from_logits=True`",
    "BinaryCrossentropy": "sigmoid, or `from_logits=True`; `label_smoothing`",
    "CategoricalFocalCrossentropy": "softmax, or `from_logits=True`; one number `alpha`",
    "BinaryFocalCrossentropy": "sigmoid, or `from_logits=True`",
    "MeanSquaredError": "any activation",
    "MeanAbsoluteError": "any activation",
    "Huber": "any activation",
    "LogCosh": "any activation",
    "Poisson": "`exponential`; without Keras's ε = 10⁻⁷ in the logarithm",
    "Hinge": "none (`linear`)",
    "SquaredHinge": "none (`linear`)",
}
"""Losses by their classes, with the output activations that they accept."""

_FUNCTIONS = {
    "categorical_crossentropy": "CategoricalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "binary_crossentropy": "BinaryCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "mean_squared_error": "MeanSquaredError",
    "mean_absolute_error": "MeanAbsoluteError",
    "huber": "Huber",
    "log_cosh": "LogCosh",
    "poisson": "Poisson",
    "hinge": "Hinge",
    "squared_hinge": "SquaredHinge",
}
_ENTROPIES = {
    "CategoricalCrossentropy": ("cross_entropy", "softmax", "one-hot"),
    "SparseCategoricalCrossentropy": ("cross_entropy", "softmax", "labels"),
    "BinaryCrossentropy": ("binary_cross_entropy", "sigmoid", "yes or no"),
    "CategoricalFocalCrossentropy": ("focal", "softmax", "one-hot"),
    "BinaryFocalCrossentropy": ("focal", "sigmoid", "yes or no"),
}
_VALUES = {
    "MeanSquaredError": "mse",
    "MeanAbsoluteError": "mae",
    "LogCosh": "log_cosh",
    "Poisson": "poisson",
}
_HINGES = {"Hinge": "hinge", "SquaredHinge": "squared_hinge"}


@dataclass(frozen=True)
class Objective:
    """What a model is trained for.

    Parameters
    ----------
    name
        The class of Keras.
    loss
        pynn's loss.
    output
        The output activation of the network.
    targets
        ``"labels"``, ``"one-hot"``, ``"yes or no"``, ``"signs"`` or ``"values"``.
    from_logits
        Whether the outputs of the model are those before ``output``.
    smoothing
        Share of label smoothing.
    factor
        Of the loss.
    by_weight
        Whether the loss of weighted rows is divided by the sum of the weights, rather than by their
        number.
    """

    name: str
    loss: str | LossFunction
    output: Output
    targets: str
    from_logits: bool = False
    smoothing: float = 0.0
    factor: float = 1.0
    by_weight: bool = False


def objective(model: Any, output: Output, n_out: int) -> Objective:
    """Return what a compiled model is trained for.

    Parameters
    ----------
    model
        A compiled model of Keras.
    output
        The activation of its last layer.
    n_out
        Number of its outputs.

    Raises
    ------
    ValueError
        If pynn does not have the loss, or not with this output activation.
    """
    name, config = _named(model.loss)
    if getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None) is not None:
        _refuse(name, "loss_weights", "none: scale the learning rate instead")
    reduction = config.pop("reduction", "sum_over_batch_size")
    if reduction not in ("sum_over_batch_size", "mean", "mean_with_sample_weight"):
        _refuse(name, f"reduction {reduction!r}", "'sum_over_batch_size'")
    if config.pop("axis", -1) not in (-1, 1):
        _refuse(name, "another axis", "-1")
    if config.pop("ignore_class", None) is not None:
        _refuse(name, "ignore_class", "None, and sample_weight 0 for rows to ignore")
    by_weight = reduction == "mean_with_sample_weight"
    if name in _ENTROPIES:
        return _entropy(name, config, output, n_out, by_weight)
    if name in _HINGES:
        if output != "identity":
            _refuse(name, f"the output activation {output!r}", "'linear'")
        return Objective(name, _HINGES[name], output, "signs", by_weight=by_weight)
    if name == "Poisson" and output != "exp":
        _refuse(name, f"the output activation {output!r}", "'exponential'")
    loss = Huber(float(config["delta"])) if name == "Huber" else _VALUES[name]
    return Objective(name, loss, output, "values", by_weight=by_weight)


def _entropy(
    name: str, config: Mapping[str, Any], output: Output, n_out: int, by_weight: bool
) -> Objective:
    loss: str | LossFunction
    loss, expected, targets = _ENTROPIES[name]
    from_logits = bool(config.get("from_logits", False))
    if output != ("identity" if from_logits else expected):
        _refuse(
            name,
            f"the output activation {str(output)!r} and from_logits={from_logits}",
            f"{expected!r}, or 'linear' with from_logits=True",
        )
    if expected == "softmax" and n_out < 2:
        _refuse(name, "1 output", "two or more, or BinaryCrossentropy")
    smoothing, factor = float(config.get("label_smoothing") or 0), 1.0
    if loss == "focal":
        if smoothing:
            _refuse(name, f"label_smoothing {smoothing:g}", "0")
        alpha = config.get("alpha", 0.25)
        if expected == "softmax":
            if isinstance(alpha, (list, tuple)):
                _refuse(name, "a list alpha", "one number")
            if by_weight:
                _refuse(name, "reduction 'mean_with_sample_weight'", "'sum_over_batch_size'")
            loss, factor = Focal(float(config["gamma"])), float(alpha)
        else:
            balanced = config.get("apply_class_balancing", False)
            loss = Focal(float(config["gamma"]), float(alpha) if balanced else None)
    return Objective(name, loss, expected, targets, from_logits, smoothing, factor, by_weight)


def _named(loss: Any) -> tuple[str, dict[str, Any]]:
    """Return the class of a loss that was given to ``compile``, and its settings."""
    import keras

    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, Mapping) and len(loss) == 1:
        (loss,) = loss.values()
    if loss is None:
        raise ValueError("model: found a model compiled without a loss, expected one")
    if loss in ("ce", "crossentropy"):  # Keras chooses by the shape of y
        raise ValueError(
            f"model: found the loss {loss!r}, expected its full name, such as "
            "'sparse_categorical_crossentropy'"
        )
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        name = type(found).__name__
        if type(found).__module__.split(".")[0] == "keras" and name in ACCEPTED:
            return name, found.get_config() | getattr(found, "_fn_kwargs", {})
    else:
        function = getattr(found, "__name__", "")
        known = found is getattr(keras.losses, function, None) and function in _FUNCTIONS
        name = _FUNCTIONS[function] if known else function or repr(found)
        if known:
            return _named(getattr(keras.losses, name)())
    raise ValueError(
        f"model: found the loss {name}, which pynn does not have, expected one of "
        f"{', '.join(ACCEPTED)}"
    )


def _refuse(name: str, found: str, expected: str) -> NoReturn:
    raise ValueError(f"model: found the loss {name} with {found}, expected {expected}")
