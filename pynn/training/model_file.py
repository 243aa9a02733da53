"""The arrays and the JSON document of a model file: made from a model, and a model from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from ..checks import targets
from ..checks.targets import Task
from ..spec import arguments
from ..spec.architecture import Architecture
from ..spec.arguments import choose
from ..spec.functions import Activation, Loss
from ..spec.optimizers import OPTIMIZERS
from .history import History
from .model import Model

Array = np.ndarray

TENSOR = "callbacks."
"""How the names of tensors begin that belong to callbacks, not to the network."""


# Exceptions that a document raises that ``describe`` did not write.
MISFITS = (
    *(LookupError, TypeError, AttributeError, ValueError, OverflowError),
    *(RecursionError, SyntaxError),  # np.dtype reads some texts as Python
)


def misfit(error: BaseException) -> str:
    """Say what did not fit, short and safe to print whatever the file held."""
    from ..files.disk import shown

    text = shown(str(error), 400)
    return f"found no {text}" if isinstance(error, KeyError) else text


class OtherFunctions(ValueError):
    """A file is a model, but of functions of the user's own that were not given."""


def describe(model: Model) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the JSON document that a file of the model holds."""
    tensors = {}
    for k, (w, b) in enumerate(zip(model.weights, model.biases, strict=True)):
        tensors[f"weights.{k}"], tensors[f"biases.{k}"] = w, b
    for k, slot in enumerate(model.optimizer_state):
        tensors[f"optimizer.{k}"] = slot
    optimizer = None
    if model.optimizer is not None:
        settings = {k: float(v) for k, v in asdict(model.optimizer).items()}
        optimizer = {"name": model.optimizer.name, **settings}
    task = None
    if model.task is not None:
        classes = model.task.classes
        task = {
            "kind": model.task.kind,
            "flat": model.task.flat,
            "classes": None if classes is None else classes.tolist(),
        }
    history = model.history.to_dict()
    a = model.architecture
    architecture = {f.name: getattr(a, f.name) for f in fields(a)}
    architecture["functions"] = {own.name: own.fingerprint() for own in a.functions}
    return tensors, {
        "architecture": architecture,
        "seed": model.seed,
        "epochs": model.epochs,
        "updates": model.updates,
        "task": task,
        "optimizer": optimizer,
        "optimizer_began": model.optimizer_began,
        # JSON has no NaN and no infinity.
        "history": {name: [_as_json(v) for v in column] for name, column in history.items()},
    }


def rebuild(
    tensors: dict[str, Array],
    about: dict[str, Any],
    functions: Sequence[Activation | Loss] | None,
    precision: str | None = None,
) -> Model:
    """Return the model of ``describe``; raise if its parts do not fit each other.

    ``functions`` are those of its user's own; None lets others stand in for them, which is enough
    where nothing is computed.
    """
    a = about["architecture"]
    own = dict(a.get("functions", {}))
    *names, output = (_function(name, Activation, own, functions) for name in a["activations"])
    loss = _function(a["loss"], Loss, own, functions)
    architecture = Architecture.build(
        *(a["sizes"], names, output, loss, a["dropout"], a["dtype"]),
        # Files of earlier versions name none.
        precision or a.get("precision", "full"),
    )

    def take(name: str, shape: tuple[int, ...]) -> Array:
        if name not in tensors:
            raise ValueError(f"found no tensor {name!r}, expected one of shape {shape}")
        t = tensors.pop(name)
        if t.shape != shape or t.dtype != architecture.dtype:
            raise ValueError(
                f"tensor {name!r}: found {t.dtype} {t.shape}, expected {architecture.dtype} {shape}"
            )
        return t

    # Everything is compared with the file before memory is asked for: a header may claim anything.
    layers = range(architecture.n_layers)
    sizes = architecture.sizes
    weights = [take(f"weights.{k}", (sizes[k], sizes[k + 1])) for k in layers]
    biases = [take(f"biases.{k}", (sizes[k + 1],)) for k in layers]
    optimizer = None
    state = []
    if about["optimizer"] is not None:
        settings = dict(about["optimizer"])
        kind = OPTIMIZERS[choose("optimizer", settings.pop("name"), OPTIMIZERS)]
        optimizer = kind(**settings)
        n = architecture.n_parameters
        state = [take(f"optimizer.{k}", (n,)) for k in range(optimizer.slots)]
    if tensors:
        raise ValueError(f"found the tensor {next(iter(tensors))!r}, which belongs nowhere")
    history = History.from_dict(
        {name: [_from_json(name, v) for v in column] for name, column in about["history"].items()}
    )

    model = Model(architecture, arguments.whole(about["seed"], "seed", 0, 2**64 - 1))
    for k in layers:
        model.weights[k][...] = weights[k]
        model.biases[k][...] = biases[k]
    if about["task"] is not None:
        model.task = _rebuild_task(about["task"], architecture)
    model.epochs = arguments.whole(about["epochs"], "epochs", 0, 2**32 - 1)
    model.updates = arguments.whole(about["updates"], "updates", 0, 2**62)
    if optimizer is not None:
        model.set_optimizer(optimizer)
        model.optimizer_began = arguments.whole(
            about["optimizer_began"], "optimizer_began", 0, model.updates
        )
        for slot, values in zip(model.optimizer_state, state, strict=True):
            slot[...] = values
    model.history = history
    return model


def _function(
    name: Any,
    kind: type[Activation] | type[Loss],
    own: dict[str, Any],
    given: Sequence[Activation | Loss] | None,
) -> Any:
    """Return what a name in a file stands for: itself, or one of the functions that were given."""
    if name not in own:
        return name
    if given is None:
        return kind(name, *((np.abs, np.sign) if kind is Activation else (_error, _slope)))
    found = next((f for f in given if f.name == name and isinstance(f, kind)), None)
    expected = f"the pynn.{kind.__name__} that the network was made with"
    if found is None:
        raise OtherFunctions(
            f"functions: found none named {name!r}, expected {expected} (a file holds no code): "
            "pynn.load(path, functions=[…])"
        )
    values, kept = found.fingerprint(), np.asarray(own[name], np.float64)
    if kept.shape != np.shape(values) or not np.allclose(values, kept, rtol=1e-4, atol=1e-9):
        raise OtherFunctions(
            f"functions: found {found!r} with other values than it had when the network was saved, "
            f"expected {expected}"
        )
    return found


def _error(a: Array, t: Array) -> Array:
    return 0.5 * (a - t) ** 2


def _slope(a: Array, t: Array) -> Array:
    return a - t


def _rebuild_task(about: dict[str, Any], net: Architecture) -> Task:
    kind = choose("task", about["kind"], ("labels", "multilabel", "values"))
    classes = about["classes"]
    if (classes is None) == (kind == "labels"):
        raise ValueError(f"task: found {kind!r} with classes {classes!r}, expected them for labels")
    if classes is not None:
        classes = targets.as_classes(classes, net)
    return Task(kind, classes, bool(about["flat"]))


def _as_json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(float(value))


def _from_json(name: str, value: Any) -> Any:
    if name in ("epoch", "step", "steps"):
        return arguments.whole(value, f"history: {name}", 0)
    if value is None and name in ("accuracy", "validation_loss", "validation_accuracy"):
        return None
    if value in ("nan", "inf", "-inf") and name not in ("learning_rate", "seconds"):
        return float(value)
    found = arguments.number(value, f"history: {name}")
    return value if isinstance(value, int) else found
