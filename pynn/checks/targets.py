"""Convert y to labels or targets that the backends accept, or raise one clear error."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays.vectors import cast
from ..spec.architecture import Architecture
from ..spec.arguments import MOST_SQUARED, number
from ..spec.functions import Loss
from .arrays import check_finite, collected, is_missing
from .convert import as_numbers, numbers_of
from .labels import FOR_REGRESSION, is_range, n_classes, numbered, plain_labels, spell, unrounded
from .shared import Shared

Array = np.ndarray

_FOR_YES_OR_NO = {
    "cross_entropy": "; for a yes or no in each column use loss='binary_cross_entropy'",
    "focal": "; for a yes or no in each column use output='sigmoid'",
}
"""The remedy in errors about rows with several classes, for losses of softmax."""


@dataclass(frozen=True, eq=False)
class Task:
    """The meaning of a network's outputs, derived from the y it was trained on.

    Parameters
    ----------
    kind
        ``"labels"``: one class per row. ``"multilabel"``: yes or no for each output.
        ``"values"``: regression.
    classes
        The label of each output; None unless ``kind`` is ``"labels"``.
    flat
        Whether predicted values are (n,) rather than (n, 1), like the y of training.
    """

    kind: str
    classes: Array | None = None
    flat: bool = False

    def labels(self, values: Array) -> Array:
        """Return the labels of rows, in the form that ``Network.predict`` returns.

        Parameters
        ----------
        values
            Outputs, probabilities or targets (n, n_out), or numbers of classes (n,).

        Returns
        -------
        ndarray
            Labels (n,); for multi-label data zeros and ones (n, n_out), int64.
        """
        if self.classes is None:
            return (values > 0.5).astype(np.int64)
        if values.ndim == 1:
            index = values
        elif values.shape[1] > 1:
            index = values.argmax(axis=1)
        else:
            index = values[:, 0] > 0.5
        return self.classes[index.astype(np.intp, copy=False)]


def targets(
    y: Any,
    rows: int,
    net: Architecture,
    task: Task | None,
    name: str = "y",
    rows_of: str = "x",
    missing: bool = False,
    number_format: str | None = None,
) -> tuple[Array, Task]:
    """Return y as labels or targets, and the meaning of the outputs.

    Parameters
    ----------
    y
        Labels (n,) or (n, 1), one-hot or soft targets (n, n_out), or values.
    rows
        The number of rows of x.
    net
        The network's architecture.
    task
        The task of earlier training, whose classes also apply to y; or None.
    name, rows_of
        The names of y and of x in errors.
    missing
        Whether targets of a regression and of multi-label data may be NaN, for targets that are
        not known.
    number_format
        The dtype of targets; None means that of the network.

    Returns
    -------
    Labels (n,) int32, or targets (n, n_targets) in ``number_format``; and the task.

    Raises
    ------
    TypeError, ValueError
        If y does not fit the rows, the loss, the number of outputs or the classes, or gives the
        outputs another meaning than ``task``.
    """
    if isinstance(y, Shared):
        values, found = y.once(
            _format(rows, net, task, missing, number_format),
            lambda: targets(y.value, rows, net, task, name, rows_of, missing, number_format),
        )
        if found.classes is not None:  # users may change the classes of one of the networks
            found = replace(found, classes=found.classes.copy())
        return values, found
    dtype = number_format or net.dtype
    values, found = _with_task(y, rows, net, task, name, rows_of, missing, dtype)
    if task is not None and task.kind == "labels" and net.regression and net.n_out == 1:
        return values, task  # net.classes was assigned
    # With one output and mse the shape of y decides nothing but the shape of predictions.
    if task is not None and found.kind != task.kind and not (net.regression and net.n_out == 1):
        raise _another_meaning(values, task, net, name)
    return values, found


def _format(
    rows: int, net: Architecture, task: Task | None, missing: bool, number_format: str | None
) -> tuple[Any, ...]:
    """Return what the result of `targets` depends on besides y."""
    known: tuple[Any, ...] | None = None
    if task is not None:
        classes = task.classes
        labels = None if classes is None else (classes.dtype.str, classes.tobytes())
        known = (task.kind, task.flat, labels)
    output = net.sizes[-1], net.activations[-1], net.loss, net.loss_parameters, net.functions
    return (*output, rows, net.dtype, number_format, missing, known)


def _another_meaning(values: Array, task: Task, net: Architecture, name: str) -> ValueError:
    """Return the error about y, converted to ``values``, whose meaning differs from ``task``."""
    shape = f"(rows, {net.n_targets})"
    if task.kind == "labels":
        hot = ((values == 0) | (values == 1)).all(axis=1) & (values.sum(axis=1) == 1)
        row = int(hot.argmin())
        return ValueError(
            f"{name}: found targets {shape} of which row {row} is not one-hot, but the outputs of "
            f"this network are classes since its first training or since net.classes was assigned; "
            "expected labels or one-hot targets; net.classes = None makes the outputs independent"
        )
    kind = "values" if task.kind == "values" else "independent yes-or-no targets"
    return ValueError(
        f"{name}: found one label in each row, but the outputs of this network are {kind}; "
        f"expected {shape}, or assign labels to net.classes"
    )


def _with_task(
    y: Any,
    rows: int,
    net: Architecture,
    task: Task | None,
    name: str,
    rows_of: str,
    missing: bool,
    number_format: str,
) -> tuple[Array, Task]:
    y = collected(y)
    # One column may hold labels, which must not become floats.
    shape: tuple[int, ...] = getattr(y, "shape", ())
    a = as_numbers(y, name) if len(shape) == 2 and shape[1] != 1 else unrounded(y, name)
    if a.ndim not in (1, 2):
        raise ValueError(
            f"{name}: found shape {a.shape}, expected (rows,) or (rows, {net.n_targets})"
        )
    if len(a) != rows:
        raise ValueError(f"{name}: found {len(a)} rows, expected {rows}, as many as {rows_of} has")
    if rows == 0:
        raise ValueError(f"{name}: found no rows, expected at least one")
    if a.ndim == 2 and a.shape[1] != 1:
        return _matrix(a, net, task, name, missing, number_format)
    column = a.reshape(-1)
    if net.n_targets == 1 and net.regression:
        values = _values(column.reshape(-1, 1), net, name, missing, number_format)
        return values, Task("values", None, a.ndim == 1)
    if not net.loss_function.takes_labels:
        raise ValueError(
            f"{name}: found shape {a.shape}, expected (rows, {net.n_targets}) for loss "
            f"{net.loss_text!r}"
        )
    if missing and column.dtype.kind == "f" and np.isnan(column).any():
        row = int(np.isnan(column).argmax())
        raise ValueError(
            f"{name}: found nan at row {row} (counted from 0), expected a label in each row: "
            "missing_targets='ignore' applies to values and to several columns of yes or no; leave "
            "this row out, or give it sample_weight 0 and any label"
        )
    return _labels(column, net, task, name)


def smoothed(y: Array, net: Architecture, share: float) -> Array:
    """Return targets smoothed towards equal values of all outputs (Szegedy et al. 2016).

    Parameters
    ----------
    y
        Labels (n,) or targets (n, n_out), as `targets` returns them.
    net
        The network's architecture.
    share
        Fraction of each target that is divided among all outputs, in [0, 1).

    Returns
    -------
    Targets (n, n_out) in the network's dtype.
    """
    soft = np.full((len(y), net.n_out), share / net.n_out, net.dtype)
    if y.ndim == 1:
        soft[np.arange(len(y)), y] += 1 - share
    else:
        soft += np.asarray(1 - share, net.dtype) * y
    return soft


def _values(a: Array, net: Architecture, name: str, missing: bool, number_format: str) -> Array:
    if missing and a.dtype.kind == "O":
        cells = [math.nan if is_missing(cell) else cell for cell in a.ravel().tolist()]
        a = np.array(cells, object).reshape(a.shape)
    a = numbers_of(a, name)
    checked = a
    if missing and a.dtype.kind == "f":
        checked = _known(a, net, name)
    check_finite(checked, name, np.dtype(number_format))
    _check_range(checked, net, name)
    return np.ascontiguousarray(cast(a, number_format))


def _known(a: Array, net: Architecture, name: str) -> Array:
    """Return targets in which a known target stands for each missing one.

    Raises
    ------
    ValueError
        If the loss allows no missing targets, or all are missing.
    """
    missing = np.isnan(a)
    if not missing.any():
        return a
    if net.activations[-1] == "softmax":
        row, column = np.argwhere(missing)[0].tolist()
        raise ValueError(
            f"{name}: found nan at row {row}, column {column} (counted from 0), expected no "
            "missing targets for the output softmax, whose targets in a row belong together"
        )
    if missing.all():
        raise ValueError(f"{name}: found no target that is not nan, expected one at least")
    return np.where(missing, a[~missing][0], a)


def _check_range(a: Array, net: Architecture, name: str) -> None:
    """Raise ValueError for values that the loss does not allow."""
    loss = net.loss_function
    if isinstance(loss, Loss) or loss.least_target is None:
        return
    low = a.min()
    # A number that becomes 0 in the dtype of the network has no logarithm.
    least = np.finfo(net.dtype).tiny if loss.positive_targets else loss.least_target
    if low < least:
        expected = "values above 0" if loss.positive_targets else "values of 0 or more"
        raise ValueError(f"{name}: found {low:g}, expected {expected} for loss {net.loss_text!r}")


def require_squares(y: Array, name: str) -> None:
    """Raise ValueError for targets of a regression whose squared errors float64 cannot hold.

    Losses, R² and plots are of no use then. NaN are not searched.
    """
    if y.dtype.kind not in "iuf" or y.size == 0:
        return
    sizes = np.nan_to_num(np.abs(y.astype(np.float64)), nan=0.0)
    if sizes.max() > MOST_SQUARED:
        found = y.flat[int(sizes.argmax())]
        raise ValueError(
            f"{name}: found {found:g}, expected values of at most {MOST_SQUARED:g}, whose squares "
            "float64 can hold; divide them by a power of ten"
        )


def _matrix(
    a: Array, net: Architecture, task: Task | None, name: str, missing: bool, number_format: str
) -> tuple[Array, Task]:
    _check_columns(a, net, name)
    values = _values(a, net, name, missing, number_format)
    # Targets that were independent in training remain so if a later y happens to be one-hot.
    independent = task is not None and task.kind != "labels"
    if net.loss_function.takes_labels and not independent and _is_one_hot(values):
        return values.argmax(axis=1).astype(np.int32), _with_classes(task, net)
    if net.regression:
        return values, Task("values")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if net.independent:
        _check_yes_or_no(values, net, name)
        if low < 0 or high > 1:
            raise ValueError(
                f"{name}: found values from {low:g} to {high:g}, expected targets in [0, 1] "
                f"for loss {net.loss!r}{FOR_REGRESSION}"
            )
        return values, Task("multilabel")
    total = values.sum(axis=1, dtype=np.float64)
    off = np.abs(total - 1) > 1e-3
    if low < 0 or off.any():
        found = f"a target of {low:g}"
        if low >= 0:
            row = int(off.argmax())
            found = f"targets that sum to {total[row]:g} in row {row}"
        raise ValueError(
            f"{name}: found {found}, expected labels, or targets of 0 or more that sum to 1 in "
            f"each row for loss {net.loss!r}{_FOR_YES_OR_NO[net.loss]}{FOR_REGRESSION}"
        )
    return values, _with_classes(task, net)


def _check_yes_or_no(values: Array, net: Architecture, name: str) -> None:
    """Raise ValueError for shares in place of yes or no, for a loss that has no use for them."""
    known = values[~np.isnan(values)]
    shares = known[(known != 0) & (known != 1)]
    if net.loss_function.probabilities or len(shares) == 0:
        return
    found = shares[0]
    raise ValueError(f"{name}: found the target {found:g}, expected 0 or 1 for loss {net.loss!r}")


def _check_columns(a: Array, net: Architecture, name: str) -> None:
    if a.shape[1] == net.n_targets:
        return
    loss = net.loss_function
    expected = "one for each output"
    if loss.per_target > 1:
        expected = f"one for {loss.per_target} outputs with loss {net.loss_text!r}"
    raise ValueError(
        f"{name}: found {a.shape[1]} columns (shape {a.shape}), expected {net.n_targets}, "
        f"{expected}" + (", or labels (rows,)" if loss.takes_labels else "")
    )


def _is_one_hot(a: Array) -> bool:
    def holds(block: Array) -> bool:
        return bool(((block == 0) | (block == 1)).all() and (block.sum(axis=1) == 1).all())

    return holds(a[:1]) and holds(a)  # the first row decides in most other cases


def _with_classes(task: Task | None, net: Architecture) -> Task:
    if task is not None and task.classes is not None:
        return task
    return Task("labels", np.arange(n_classes(net)))


def _labels(a: Array, net: Architecture, task: Task | None, name: str) -> tuple[Array, Task]:
    a = plain_labels(a, name)
    if net.n_out == 1 and a.dtype.kind == "f" and a.min() >= 0 and a.max() <= 1:
        # Fractions between 0 and 1 for one sigmoid output are probabilities of the second class.
        known = _with_classes(task, net)
        _check_yes_or_no(a, net, name)
        return np.ascontiguousarray(cast(a.reshape(-1, 1), net.dtype)), known
    classes, indices = numbered(a, None if task is None else task.classes, net, name)
    if task is None or task.classes is not classes:
        task = Task("labels", classes)
    if net.n_out == 1:
        return indices.astype(net.dtype).reshape(-1, 1), task
    return indices.astype(np.int32), task


def as_classes(classes: Any, net: Architecture) -> Array:
    """Return the labels of a network's outputs, given by a user in the order of the outputs.

    Raises
    ------
    TypeError, ValueError
        If they are not one different label per output (two for one output).
    """
    a = plain_labels(unrounded(classes, "classes").reshape(-1), "classes")
    count = n_classes(net)
    if len(a) != count or len(set(a.tolist())) != count:
        raise ValueError(f"classes: found {len(a)} ({spell(a)}), expected {count} different labels")
    return a


def require_numbers(task: Task, name: str = "y") -> None:
    """Raise ValueError if a batch's labels are not the numbers of their outputs.

    Text and other labels would get their numbers from each batch by itself, so that the same label
    could mean another output in the next batch.
    """
    classes = task.classes
    if classes is None or classes.dtype.kind == "b" or is_range(classes):
        return
    raise ValueError(
        f"{name}: found the labels {spell(classes)} for a network whose classes are not known, "
        f"expected numbers from 0 to {len(classes) - 1}, or net.classes = … before"
    )


def without_classes(net: Architecture) -> Task:
    """Return the meaning of outputs that are no classes, but independent targets.

    Raises
    ------
    ValueError
        If the outputs can only be classes.
    """
    if net.regression:
        return Task("values", None, net.n_targets == 1)
    if net.independent and net.n_out > 1:
        return Task("multilabel")
    raise ValueError(
        f"classes: found None for loss {net.loss!r} and {net.n_out} "
        f"output{'s' if net.n_out > 1 else ''}, expected {n_classes(net)} labels"
    )


def default_task(net: Architecture) -> Task:
    """Return the meaning of the outputs of an untrained network."""
    if net.regression:
        return Task("values", None, net.n_targets == 1)
    return Task("labels", np.arange(n_classes(net)))


def label_smoothing(value: Any, net: Architecture) -> float:
    """Return a number in [0, 1), which must be 0 for any loss but cross entropy."""
    share = number(value, "label_smoothing", least=0, below=1)
    if share and net.loss != "cross_entropy":
        raise ValueError(
            f"label_smoothing: found {share:g} with loss {net.loss!r}, expected 0, or loss "
            "'cross_entropy'"
        )
    return share
