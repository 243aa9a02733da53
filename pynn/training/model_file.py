"""Model files: the arrays and the JSON document that a model becomes, and reading them back."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays.standard import Standard
from ..checks import targets
from ..checks.columns import as_columns
from ..checks.features import as_pixels
from ..checks.targets import Task
from ..spec import activations, arguments, norms
from ..spec.architecture import Architecture
from ..spec.arguments import choose
from ..spec.functions import Activation, Loss
from ..spec.losses import LossFunction, loss_from
from ..spec.optimizers import ALL_OPTIMIZERS, Optimizer
from . import standardise
from .history import History
from .model import MOST_EPOCHS, MOST_UPDATES, Model

Array = np.ndarray

OF_RUN = "model.safetensors"
"""The model in the folder of a run."""
TENSOR = "callbacks."
"""Prefix of the names of tensors that belong to the callbacks of a checkpoint."""

MISFITS = (
    *(LookupError, TypeError, AttributeError, ValueError, OverflowError),
    *(RecursionError, SyntaxError),  # np.dtype parses some texts as Python
)
"""Exceptions that a document can cause if ``describe`` did not write it."""


class OtherFunctions(ValueError):
    """A file is a model, but needs custom functions that were not given."""


def misfit(error: BaseException) -> str:
    """Return the text of a misfit, short and safe to print, whatever the file holds."""
    from ..files.disk import shown

    text = shown(str(error), 400)
    return f"found no {text}" if isinstance(error, KeyError) else text


def save(path: str | os.PathLike[str], model: Model) -> None:
    """Write a model to a file, atomically."""
    from ..files.tensors import save_tensors

    save_tensors(path, *describe(model))


def load(
    path: str | os.PathLike[str],
    functions: Sequence[Activation | Loss],
    precision: str | None = None,
) -> Model:
    """Return the model in a file, which may be a checkpoint.

    Parameters
    ----------
    path : str or path-like
        The file.
    functions : sequence of Activation and Loss
        Custom functions that the model may need.
    precision : str, optional
        Replaces the precision of the model.

    Raises
    ------
    ValueError
        If it is damaged or no model, or needs a function that was not given.
    """
    from ..files.tensors import load_tensors

    run = Path(path, OF_RUN) if isinstance(path, (str, os.PathLike)) else None
    if run is not None and run.is_file():
        path = run
    arrays, document = load_tensors(path)
    if "ensemble" in document:
        raise ValueError(
            f"{path}: found an ensemble, expected one network; use pynn.Ensemble.load(path)"
        )
    if "checkpoint" in document:
        arrays = {name: a for name, a in arrays.items() if not name.startswith(TENSOR)}
    try:
        return rebuild(arrays, document, functions, precision)
    except OtherFunctions as error:
        raise ValueError(f"{path}: {error}") from error
    except MISFITS as error:
        raise ValueError(f"{path}: not a model that pynn can use: {misfit(error)}") from error


# --- From a model to a file -----------------------------------------------------------------------


def describe(model: Model) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the JSON document of a model."""
    tensors = {}
    for k, (w, b) in enumerate(zip(model.weights, model.biases, strict=True)):
        tensors[f"weights.{k}"], tensors[f"biases.{k}"] = w, b
    for k, parts in enumerate(model.architecture.norm_views(model.flat)):
        for name, values in zip(("scales", "shifts"), parts, strict=False):
            tensors[f"{name}.{k}"] = values
    if len(model.statistics):
        tensors["statistics"] = model.statistics
    for k, slot in enumerate(model.optimizer_state):
        tensors[f"optimizer.{k}"] = slot
    if model.average is not None:
        tensors["average"] = model.average
    for name, standard in (("inputs", model.input_standard), ("targets", model.target_standard)):
        if standard is not None:
            tensors[f"{name}.mean"], tensors[f"{name}.scale"] = standard.mean, standard.scale
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
        if classes is not None and classes.dtype.kind in "iuf":
            task["dtype"] = classes.dtype.name
    history = model.history.to_dict()
    a = model.architecture
    architecture = {f.name: getattr(a, f.name) for f in fields(a)}
    architecture["loss_parameters"] = dict(a.loss_parameters)
    architecture["activations"] = a.describe_layers()
    for described in ("activation_parameters", "residual", "norms", "norm_after"):
        del architecture[described]
    architecture["functions"] = {custom.name: custom.fingerprint() for custom in a.functions}
    return tensors, {
        "architecture": architecture,
        "seed": model.seed,
        "pixels": model.pixels,
        "columns": None if model.columns is None else list(model.columns),
        "table": None if model.table is None else model.table.to_dict(),
        "frozen": list(model.frozen),
        "standardize": model.standardize,
        "standardize_targets": model.standardize_targets,
        "epochs": model.epochs,
        "updates": model.updates,
        "passes": model.passes,
        "task": task,
        "optimizer": optimizer,
        "optimizer_began": model.optimizer_began,
        "average": model.average is not None,
        "average_began": model.average_began,
        # JSON has neither NaN nor infinity.
        "history": {name: [_to_json(v) for v in column] for name, column in history.items()},
        "restored_epoch": model.history.restored_epoch,
    }


def _to_json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(float(value))


# --- From a file to a model -----------------------------------------------------------------------


def rebuild(
    tensors: dict[str, Array],
    document: dict[str, Any],
    functions: Sequence[Activation | Loss] | None,
    precision: str | None = None,
) -> Model:
    """Return the model that ``describe`` described; raise if its parts do not fit each other.

    Parameters
    ----------
    tensors : dict
        The arrays, which are removed from it.
    document : dict
        The JSON document.
    functions : sequence of Activation and Loss, or None
        Custom functions. None substitutes placeholders, which is enough if nothing is computed.
    precision : str, optional
        Replaces the precision of the model.
    """
    architecture = _architecture(document["architecture"], functions, precision)
    arrays = _arrays(tensors, document, architecture)
    history = _history(document)
    model = _untrained(document, architecture, arrays.standards)
    views = *model.weights, *model.biases, *chain(*architecture.norm_views(model.flat))
    for view, values in zip(views, arrays.parameters, strict=True):
        view[...] = values
    model.statistics[...] = arrays.statistics
    model.check_variances(model.flat, "statistics")
    model.columns = as_columns(document.get("columns"), architecture.n_in)
    # Files of earlier versions have no table.
    if document.get("table") is not None:
        from ..data.table import Table, as_table

        model.table = as_table(Table.from_dict(document["table"]), architecture.n_in)
    if document["task"] is not None:
        model.task = _task(document["task"], architecture)
    model.epochs = arguments.whole(document["epochs"], "epochs", 0, MOST_EPOCHS)
    model.updates = arguments.whole(document["updates"], "updates", 0, MOST_UPDATES)
    # Files of earlier versions have none.
    model.passes = arguments.whole(document.get("passes", 0), "passes", 0, MOST_UPDATES)
    _restore_optimizer(model, document, arrays)
    model.history = history
    # Files of earlier versions do not name frozen layers.
    last = architecture.n_layers - 1
    frozen = {arguments.whole(k, "frozen", 0, last) for k in document.get("frozen", ())}
    model.frozen = tuple(sorted(frozen))
    return model


class _Arrays(NamedTuple):
    """The arrays of a file."""

    parameters: list[Array]
    """Weights and biases of all layers, then scales and shifts of norms."""
    statistics: Array
    optimizer: Optimizer | None
    state: list[Array]
    """Of the optimizer."""
    average: Array | None
    standards: tuple[Standard | None, Standard | None]
    """Of inputs and of targets."""


def _arrays(tensors: dict[str, Array], document: dict[str, Any], net: Architecture) -> _Arrays:
    """Remove the arrays of a network from a dictionary and return them.

    All shapes are compared with the arrays before memory is allocated: a damaged file can claim
    any size.
    """
    layers, sizes, n, dtype = range(net.n_layers), net.sizes, net.n_values, net.dtype
    weights = [_take(tensors, f"weights.{k}", (sizes[k], sizes[k + 1]), dtype) for k in layers]
    biases = [_take(tensors, f"biases.{k}", (sizes[k + 1],), dtype) for k in layers]
    normed = [
        _take(tensors, f"{name}.{k}", (sizes[k + 1],), dtype)
        for k in layers
        for name in ("scales", "shifts")[: net.norm_vectors(k)]
    ]
    statistics = np.empty(0, dtype)
    if net.n_statistics:
        statistics = _take(tensors, "statistics", (net.n_statistics,), dtype)
    optimizer = _optimizer(document["optimizer"])
    slots = range(optimizer.slots if optimizer is not None else 0)
    state = [_take(tensors, f"optimizer.{k}", (n,), dtype) for k in slots]
    # Files of earlier versions do not tell whether there is an average.
    averaged = bool(document.get("average", "average" in tensors))
    average = _take(tensors, "average", (n,), dtype) if averaged else None
    standards = (
        _standard(tensors, "inputs", sizes[0]),
        _standard(tensors, "targets", net.n_targets),
    )
    if tensors:
        raise ValueError(f"found the tensor {next(iter(tensors))!r}, which belongs nowhere")
    parameters = [*weights, *biases, *normed]
    return _Arrays(parameters, statistics, optimizer, state, average, standards)


def _history(document: dict[str, Any]) -> History:
    columns = document["history"].items()
    history = History.from_dict(
        {name: [_from_json(name, v) for v in column] for name, column in columns}
    )
    # Files of earlier versions do not name it.
    restored = document.get("restored_epoch")
    history.restored_epoch = (
        None if restored is None else arguments.whole(restored, "restored_epoch", 0, MOST_EPOCHS)
    )
    return history


def _untrained(
    document: dict[str, Any],
    net: Architecture,
    standards: tuple[Standard | None, Standard | None],
) -> Model:
    """Return a model with initial parameters, and with the means and scales of the file."""
    seed = arguments.whole(document["seed"], "seed", 0, 2**64 - 1)
    # Files of earlier versions do not tell whether inputs are pixels.
    pixels = document.get("pixels")
    pixels = None if pixels is None else as_pixels(pixels)
    # Files of earlier versions name neither.
    flags = [bool(document.get(name, False)) for name in ("standardize", "standardize_targets")]
    model = Model(net, seed, pixels, *flags)
    trained = bool(document["updates"])
    for name, flag, standard in zip(("inputs", "targets"), flags, standards, strict=True):
        if (standard is not None) > flag or (standard is None and flag and trained):
            found = "no means and scales" if flag else "means and scales"
            raise ValueError(f"found {found} of {name} with standardize={flag}")
    if flags[1]:
        standardise.check_targets(net)
    model.input_standard, model.target_standard = standards
    return model


def _restore_optimizer(model: Model, document: dict[str, Any], arrays: _Arrays) -> None:
    """Give a model the optimizer of the file with its state, and the average of parameters."""
    optimizer = arrays.optimizer
    if optimizer is not None:
        empty = model.state_for(optimizer)
        model.begin(model.task, model.pixels, optimizer, empty, model.columns, arrays.standards)
        model.optimizer_began = arguments.whole(
            document["optimizer_began"], "optimizer_began", -MOST_UPDATES, model.updates
        )
        for slot, values in zip(model.optimizer_state, arrays.state, strict=True):
            slot[...] = values
    if arrays.average is not None:
        model.set_average(arrays.average)
        bounds = -MOST_UPDATES, model.updates
        model.average_began = arguments.whole(document["average_began"], "average_began", *bounds)


def _architecture(
    saved: Mapping[str, Any],
    functions: Sequence[Activation | Loss] | None,
    precision: str | None,
) -> Architecture:
    values = dict(saved.get("functions", {}))
    layers, others = zip(*map(_separate, saved["activations"]), strict=True)
    normed = [norms.from_description(other.get("norm")) for other in others[:-1]]
    after = any(other.get("norm", {}).get("after", False) for other in others)
    *hidden, output = (
        _function(name, Activation, values, functions)
        for name in map(activations.from_description, layers)
    )
    loss = _function(saved["loss"], Loss, values, functions)
    if isinstance(loss, str):
        # Files of earlier versions hold no parameters of losses.
        loss = _loss(loss, saved.get("loss_parameters", {}))
    return Architecture.build(
        *(saved["sizes"], hidden, output, loss, saved["dropout"], saved["dtype"]),
        # Files of earlier versions do not name the precision.
        precision or saved.get("precision", "full"),
        any(other.get("residual", False) for other in others),
        normed,
        after,
        # Nor these; an empty list of noise stands for 0 in all layers.
        input_dropout=saved.get("input_dropout", 0.0),
        input_noise=saved.get("input_noise", 0.0),
        hidden_noise=saved.get("hidden_noise") or 0.0,
    )


def _separate(layer: Any) -> tuple[Any, dict[str, Any]]:
    """Return the activation of ``Architecture.describe_layers``, and what else the layer does."""
    if not isinstance(layer, Mapping):
        return layer, {}
    settings = dict(layer)
    others = {name: settings.pop(name) for name in ("residual", "norm") if name in settings}
    return settings["name"] if len(settings) == 1 else settings, others


def _loss(name: str, parameters: Mapping[str, Any]) -> LossFunction:
    """Return the loss of a name and of parameters in a file."""
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
    return loss_from(name, tuple(sorted(lists.items())))


def _function(
    name: Any,
    kind: type[Activation] | type[Loss],
    saved: Mapping[str, Any],
    given: Sequence[Activation | Loss] | None,
) -> Any:
    """Return a name or an object from a file, or the custom function with this name.

    ``saved`` maps the names of custom functions to their values when the file was written.
    """
    if not isinstance(name, str) or name not in saved:
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
    now, then = found.fingerprint(), np.asarray(saved[name], np.float64)
    if then.shape != np.shape(now) or not np.allclose(now, then, rtol=1e-4, atol=1e-9):
        raise OtherFunctions(
            f"functions: found {found!r} with other values than it had when the network was saved, "
            f"expected {expected}"
        )
    return found


def _error(a: Array, t: Array) -> Array:
    return 0.5 * (a - t) ** 2


def _slope(a: Array, t: Array) -> Array:
    return a - t


def _take(tensors: dict[str, Array], name: str, shape: tuple[int, ...], dtype: str) -> Array:
    """Remove a tensor from a dictionary and return it."""
    if name not in tensors:
        raise ValueError(f"found no tensor {name!r}, expected one of shape {shape}")
    t = tensors.pop(name)
    if t.shape != shape or t.dtype != dtype:
        raise ValueError(f"tensor {name!r}: found {t.dtype} {t.shape}, expected {dtype} {shape}")
    return t


def _standard(tensors: dict[str, Array], name: str, n: int) -> Standard | None:
    """Remove means and scales of n columns from a dictionary and return them, if it has them."""
    if f"{name}.mean" not in tensors:
        return None
    mean, scale = (_take(tensors, f"{name}.{part}", (n,), "float64") for part in ("mean", "scale"))
    with np.errstate(all="ignore"):
        sound = np.isfinite(mean) & np.isfinite(scale) & (scale > 0) & np.isfinite(1 / scale)
    if not sound.all():
        raise ValueError(f"found means and scales of {name} that no training can give")
    return Standard.of(mean, scale)


def _optimizer(saved: Mapping[str, Any] | None) -> Optimizer | None:
    if saved is None:
        return None
    settings = dict(saved)
    kind = ALL_OPTIMIZERS[choose("optimizer", settings.pop("name"), ALL_OPTIMIZERS)]
    return kind(**settings)


def _task(saved: Mapping[str, Any], net: Architecture) -> Task:
    kind = choose("task", saved["kind"], ("labels", "multilabel", "values"))
    classes = saved["classes"]
    if (classes is None) == (kind == "labels"):
        raise ValueError(f"task: found {kind!r} with classes {classes!r}, expected them for labels")
    if classes is not None:
        found = targets.as_classes(classes, net)
        # Files of earlier versions do not name the dtype.
        classes = _typed(classes, saved["dtype"]) if "dtype" in saved else found
    return Task(kind, classes, bool(saved["flat"]))


def _typed(classes: Any, dtype: Any) -> Array:
    """Return numbers as an array of a dtype that a file names."""
    found = np.array(classes, choose("task: dtype", dtype, _CLASS_DTYPES))
    if found.tolist() != classes:
        raise ValueError(f"task: found classes {classes!r} that {dtype} cannot hold")
    return found


_CLASS_DTYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


def _from_json(name: str, value: Any) -> Any:
    """Return a value of the history, whose column is ``name``."""
    if name in ("epoch", "step", "steps"):
        return arguments.whole(value, f"history: {name}", 0)
    if value is None and name not in ("loss", "learning_rate", "seconds", "samples_per_second"):
        return None
    if value in ("nan", "inf", "-inf") and name not in ("learning_rate", "seconds"):
        return float(value)
    found = arguments.number(value, f"history: {name}")
    return value if isinstance(value, int) else found
