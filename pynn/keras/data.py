"""Rows, targets and weights of a call of ``fit``, with Keras's rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..backends.contract import Data, Inputs
from ..checks import features, targets, weights
from ..checks.convert import as_numbers
from ..checks.refused import kind_of
from ..checks.targets import Task
from ..exports.keras_losses import Objective
from ..spec.arguments import number
from ..training.model import Model
from ..training.standardise import read_by

Array = np.ndarray


class Given(NamedTuple):
    """x, y and weights as arrays, before they are checked for the network."""

    x: Array
    y: Array
    weight: Array | None


class Rows(NamedTuple):
    """Rows to train on, or to validate on.

    Attributes
    ----------
    data
        As backends take them.
    y, weight
        As Keras's metrics take them.
    hard
        Whether each target is one class, or yes or no.
    constant
        What the mean loss of pynn has more than that of Keras.
    """

    data: Data
    y: Array
    weight: Array | None
    hard: bool
    constant: float

    @property
    def n(self) -> int:
        return len(self.y)


def given(x: Any, y: Any, weight: Any, names: tuple[str, str, str]) -> Given:
    """Return x, y and weights as arrays with equally many rows."""
    if y is None:
        hint = ""
        if not hasattr(x, "shape"):
            hint = "; x as a generator, a Dataset or a PyDataset is not supported: pass arrays"
        raise ValueError(f"{names[1]}: found None, expected targets{hint}")
    x, y = _single(x, y)
    arrays = [_array(a, name) for a, name in zip((x, y), names)]
    w = None if weight is None else _array(weight, names[2])
    if w is not None and w.ndim == 2 and w.shape[1] == 1:
        w = w[:, 0]
    for a, name in zip((*arrays, w), names):
        if a is not None and (a.ndim == 0 or len(a) != len(arrays[0])):
            raise ValueError(
                f"{name}: found shape {a.shape}, expected {len(arrays[0])} rows, as many as "
                f"{names[0]} has"
            )
    return Given(arrays[0], arrays[1], w)


def _single(x: Any, y: Any) -> tuple[Any, Any]:
    """Return x and y, each without a list around its only array, as Keras does."""
    targets_of = y[0] if _is_list_of_one(y, 1) else y
    if _is_list_of_one(x, 2) and len(x[0]) == _length(targets_of):
        x = x[0]
    if targets_of is not y and len(targets_of) == _length(x) > 1:
        y = targets_of
    return x, y


def _length(a: Any) -> int:
    return len(a) if hasattr(a, "__len__") else -1


def _is_list_of_one(a: Any, dimensions: int) -> bool:
    if not isinstance(a, (list, tuple)) or len(a) != 1:
        return False
    return len(getattr(a[0], "shape", ())) >= dimensions


def _array(a: Any, name: str) -> Array:
    if isinstance(a, Mapping) and not hasattr(a, "to_numpy"):
        raise ValueError(f"{name}: found {kind_of(a)}, expected one array: models have one input")
    if hasattr(a, "detach"):  # a tensor of PyTorch, on any device
        a = a.detach().cpu()
    found = as_numbers(a, name)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{name}: found dtype {found.dtype}, expected numbers")
    return found


def split(rows: Given, share: float) -> tuple[Given, Given]:
    """Return the rows to train on, and the last ones, to validate on."""
    n = len(rows.x)
    at = math.floor(n * (1.0 - share))
    if at in (0, n):
        raise ValueError(
            f"validation_split: found {share:g} for {n} rows, expected a share that leaves rows to "
            "train on and to validate on"
        )
    first, last = ([None if a is None else a[part] for a in rows] for part in _parts(at))
    return Given(*first), Given(*last)  # type: ignore[arg-type]


def _parts(at: int) -> tuple[slice, slice]:
    return slice(None, at), slice(at, None)


def by_class(rows: Given, class_weight: Any) -> Given:
    """Return rows with the weights of their classes; a class that is left out weighs 1."""
    if class_weight is None:
        return rows
    if rows.weight is not None:
        raise ValueError(
            "class_weight: found both class_weight and sample_weight, expected one of them, as in "
            "Keras"
        )
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"class_weight: found {kind_of(class_weight)}, expected a dictionary from numbers of "
            "classes to weights"
        )
    for key in class_weight:
        if not isinstance(key, (int, float, np.number)):
            raise TypeError(
                f"class_weight: found the key {key!r}, expected numbers of classes such as 0"
            )
    y = rows.y
    if y.ndim > 1:
        y = y.argmax(axis=-1) if y.shape[-1] != 1 else y[..., 0]
    with np.errstate(invalid="ignore"):  # NaN is refused with the other targets
        labels, places = np.unique(np.round(y).astype(np.int64), return_inverse=True)
    found = [number(class_weight.get(int(k), 1.0), f"class_weight[{k}]", least=0) for k in labels]
    return rows._replace(weight=np.array(found, np.float64)[places.reshape(-1)])


class Reader:
    """Checks rows, and converts them to those of a network.

    Parameters
    ----------
    model
        Of the network, whose task is set.
    objective
        The loss.
    shape
        Of a row of x, as the Keras model takes it.
    """

    def __init__(self, model: Model, objective: Objective, shape: tuple[int | None, ...]) -> None:
        self._model, self._objective, self._shape = model, objective, shape
        net = model.architecture
        tasks = {"values": Task("values"), "yes or no": Task("multilabel")}
        binary = objective.targets == "yes or no" and net.n_out == 1
        labels = Task("labels", np.arange(max(net.n_out, 2)))
        signs = labels if net.n_out == 1 else Task("multilabel")
        tasks["signs"] = signs
        self.task = labels if binary else tasks.get(objective.targets, labels)

    def rows(self, found: Given, names: tuple[str, str, str]) -> Rows:
        """Return rows of a data set.

        Raises
        ------
        TypeError, ValueError
            If they do not fit the model.
        """
        net, model = self._model.architecture, self._model
        x = self._features(found.x, names[0])
        y, hard = self._targets(found.y, names[1])
        smoothing = self._objective.smoothing
        if smoothing:
            y = self._smoothed(y, smoothing)
        checked, _ = targets.targets(y, len(x), net, self.task, names[1], names[0])
        weight = weights.sample_weight(found.weight, len(x), names[2], names[0])
        factor = self._objective.factor
        used = weight
        if factor != 1:
            used = np.full(len(x), factor) if weight is None else weight * factor
        constant = 0.0
        if net.loss == "poisson":
            divisor = used if self._objective.by_weight else None
            constant = of_poisson(checked, used, divisor)
        return Rows(Data(read_by(model, x), checked, used), found.y, weight, hard, constant)

    def _features(self, x: Array, name: str) -> Inputs:
        if x.ndim == len(self._shape) and self._shape[-1] == 1:  # as in Keras
            x = x[..., None]
        if x.shape[1:] != tuple(n or m for n, m in zip(self._shape, x.shape[1:])) or (
            x.ndim != len(self._shape) + 1
        ):
            raise ValueError(
                f"{name}: found shape {x.shape}, expected {('rows', *self._shape)} by the model"
            )
        model = self._model
        if x.dtype == np.uint8 and model.pixels is not True:
            x = x.astype(model.input_format)
        return features.features(x, model.architecture, name, model.pixels, model.input_format)

    def _targets(self, y: Array, name: str) -> tuple[Array, bool]:
        """Return y in the shape that pynn takes, and whether it has classes, or yes and no."""
        net, kind = self._model.architecture, self._objective.targets
        if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
            column: Array = y.reshape(-1)
        else:
            column = y
        if kind == "labels":
            return self._labels(column, name), True
        if column.ndim == 1 and net.n_out > 1:
            raise ValueError(
                f"{name}: found shape {y.shape}, expected (rows, {net.n_out}) for the loss "
                f"{self._objective.name}"
            )
        if kind == "values":
            return column.astype(net.dtype) if column.dtype.kind == "b" else column, False
        values = column.astype(np.float64)
        if kind == "signs":
            found = _first(values, ~np.isin(values, (-1, 0, 1)))
            if not found and (values == 0).any() and (values < 0).any():
                found = "both −1 and 0"
            if found:
                raise ValueError(f"{name}: found {found}, expected −1 and 1, or 0 and 1")
            return (values > 0).astype(np.float64), False
        return values, bool(((values == 0) | (values == 1)).all())

    def _labels(self, y: Array, name: str) -> Array:
        n = self._model.architecture.n_out
        found = f"shape {y.shape}"
        if y.ndim == 1:
            found = _first(y, ~((y >= 0) & (y < n) & (y == np.floor(y))))
        if found:
            raise ValueError(
                f"{name}: found {found}, expected whole numbers from 0 to {n - 1} (rows,) for the "
                f"loss {self._objective.name}"
            )
        return y.astype(np.int64)

    def _smoothed(self, y: Array, share: float) -> Array:
        n = self._model.architecture.n_out
        towards = 1 / n if self._objective.targets == "one-hot" else 0.5
        return y * (1.0 - share) + share * towards


def _first(a: Array, wrong: Array) -> str:
    """Return the first value that is wrong and its row as text, empty if there is none."""
    places = np.argwhere(wrong)
    if not len(places):
        return ""
    value = a[tuple(places[0])]
    text = "NaN" if np.isnan(value) else repr(value.item())
    return f"{text} at row {places[0][0]}"


def of_poisson(t: Array, weight: Array | None, divisor: Array | None) -> float:
    """Return the mean of t·log t − t, which half the deviance has more than Keras's loss,
    exp z − t·z. The weighted sum is divided by the sum of ``divisor``; None for the number of rows.
    """
    values = t.astype(np.float64)
    terms = (values * np.log(np.where(values > 0, values, 1)) - values).mean(axis=1)
    total = float(terms.sum() if weight is None else terms @ weight)
    return total / (len(t) if divisor is None else float(divisor.sum()))
