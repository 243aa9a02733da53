"""Convert targets to labels or matrices, and remember what the outputs stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..spec.architecture import Architecture
from ..spec.arguments import number
from .features import _must_be_numbers, _without_nullable, as_array, check_finite

Array = np.ndarray

_LONGEST_LIST = 12
"""How many classes an error spells out."""


@dataclass(frozen=True, eq=False)
class Task:
    """What the outputs of a network stand for, learnt from the y it was trained on.

    Parameters
    ----------
    kind
        ``"labels"``: one class a row. ``"multilabel"``: a yes or no for each output.
        ``"values"``: regression.
    classes
        The label that each output stands for; None unless ``kind`` is ``"labels"``.
    flat
        Whether predicted values are (n,) rather than (n, 1), as y was.
    """

    kind: str
    classes: Array | None = None
    flat: bool = False


# --- Targets ------------------------------------------------------------------------------------


def targets(
    y: Any, rows: int, net: Architecture, task: Task | None, name: str = "y", rows_of: str = "x"
) -> tuple[Array, Task]:
    """Return y as the contract wants it, and what it says about the outputs.

    Parameters
    ----------
    y
        Labels (n,) or (n, 1), one-hot or soft targets (n, n_out), or values.
    rows
        How many there should be.
    net
        The network's architecture.
    task
        What the network was trained for so far; its classes hold for y too.
    name, rows_of
        The names of y and of its x, for errors.

    Returns
    -------
    Labels (n,) int32, or targets (n, n_out) in the network's dtype; and the task.

    Raises
    ------
    TypeError, ValueError
        If y does not fit the rows, the loss, the number of outputs or the classes.
    """
    single = getattr(y, "shape", ())[1:] == (1,)  # may be labels, which stay what they are
    a = as_array(y if single else _without_nullable(y), name)
    if a.ndim not in (1, 2):
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows,) or (rows, {net.n_out})")
    if len(a) != rows:
        raise ValueError(f"{name}: found {len(a)} rows, expected {rows}, as many as {rows_of} has")
    if rows == 0:
        raise ValueError(f"{name}: found no rows, expected at least one")
    if a.ndim == 2 and a.shape[1] != 1:
        return _matrix(a, net, task, name)
    column = a.reshape(-1)
    if net.n_out == 1 and net.regression:
        values = _values(column.reshape(-1, 1), net, name)
        return values, Task("values", None, a.ndim == 1)
    if net.loss == "poisson":
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows, {net.n_out})")
    return _labels(column, net, task, name)


def smoothed(y: Array, net: Architecture, share: float) -> Array:
    """Return checked targets with a share of each spread over all outputs (Szegedy et al. 2016).

    Parameters
    ----------
    y
        Labels (n,) or targets (n, n_out), as `targets` returns them.
    net
        The network's architecture.
    share
        How much of them, in [0, 1).

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


def _values(a: Array, net: Architecture, name: str) -> Array:
    _must_be_numbers(a, name)
    check_finite(a, name, np.dtype(net.dtype))
    if net.loss == "poisson" and a.min() < 0:
        raise ValueError(
            f"{name}: found {a.min():g}, expected values of 0 or more for loss 'poisson'"
        )
    return np.ascontiguousarray(a, dtype=net.dtype)


def _matrix(a: Array, net: Architecture, task: Task | None, name: str) -> tuple[Array, Task]:
    if a.shape[1] != net.n_out:
        raise ValueError(
            f"{name}: found {a.shape[1]} columns (shape {a.shape}), expected {net.n_out}, "
            "one for each output, or labels (rows,)"
        )
    values = _values(a, net, name)
    # Targets that were independent of each other in training stay so when a batch of them
    # happens to be one-hot.
    independent = task is not None and task.kind != "labels"
    if net.loss != "poisson" and not independent and _is_one_hot(values):
        return values.argmax(axis=1).astype(np.int32), _with_classes(task, net)
    if net.regression:
        return values, Task("values")
    low, high = float(values.min()), float(values.max())
    if net.loss == "binary_cross_entropy":
        if low < 0 or high > 1:
            raise ValueError(
                f"{name}: found values from {low:g} to {high:g}, expected targets in [0, 1] "
                "for loss 'binary_cross_entropy'"
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
            "each row for loss 'cross_entropy'"
        )
    return values, _with_classes(task, net)


def _is_one_hot(a: Array) -> bool:
    def holds(block: Array) -> bool:
        return bool(((block == 0) | (block == 1)).all() and (block.sum(axis=1) == 1).all())

    return holds(a[:1]) and holds(a)


def _with_classes(task: Task | None, net: Architecture) -> Task:
    if task is not None and task.classes is not None:
        return task
    return Task("labels", np.arange(_n_classes(net)))


def _n_classes(net: Architecture) -> int:
    return max(2, net.n_out)


def _labels(a: Array, net: Architecture, task: Task | None, name: str) -> tuple[Array, Task]:
    a = plain_labels(a, name)
    count = _n_classes(net)
    classes = task.classes if task is not None else None
    if net.n_out == 1 and a.dtype.kind == "f" and a.min() >= 0 and a.max() <= 1:
        # Fractions between 0 and 1 for one sigmoid output are the probability of its yes.
        known = _with_classes(task, net)
        return np.ascontiguousarray(a.reshape(-1, 1), dtype=net.dtype), known
    codes: Array
    if classes is None:
        if a.dtype.kind in "iu" and int(a.min()) >= 0 and int(a.max()) < count:
            classes, codes = np.arange(count), a
        else:
            classes, codes = _new_classes(a, count, net, name)
    elif a.dtype.kind in "iu" and _is_plain(classes) and a.min() >= 0 and a.max() < count:
        codes = a
    else:
        codes = _codes(a, classes, name)
    task = task if task is not None and task.classes is classes else Task("labels", classes)
    if net.n_out == 1:
        return codes.astype(net.dtype).reshape(-1, 1), task
    return codes.astype(np.int32), task


def plain_labels(a: Array, name: str) -> Array:
    """Return labels (n,) as an array of booleans, whole numbers, fractions or strings."""
    if a.dtype.kind == "O":
        kinds = {_family(v) for v in a.tolist()}
        if "missing" in kinds:
            row = [_family(v) for v in a.tolist()].index("missing")
            raise ValueError(f"{name}: found {a[row]!r} at row {row}, expected a label")
        if len(kinds) != 1 or kinds == {"other"}:
            found = ", ".join(sorted({type(v).__name__ for v in a.tolist()}))
            raise TypeError(
                f"{name}: found Python objects of type {found}, expected labels that are all "
                "numbers, all strings or all booleans"
            )
        a = np.array(a.tolist())
    if a.dtype.kind == "T":
        a = a.astype(np.str_)
    if a.dtype.kind not in "biufU":
        raise TypeError(
            f"{name}: found dtype {a.dtype}, expected labels that are numbers, strings or booleans"
        )
    if a.dtype.kind == "f":
        check_finite(a, name, np.dtype(np.float64))
        rounded: Array = np.trunc(a)
        if (rounded == a).all() and np.abs(a).max(initial=0) < 2**53:
            return rounded.astype(np.int64)  # labels read from a file of numbers
    return a


def _family(value: object) -> str:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return "missing"
    if isinstance(value, float) and math.isnan(value):
        return "missing"
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "number"
    return "string" if isinstance(value, str) else "other"


def _new_classes(a: Array, count: int, net: Architecture, name: str) -> tuple[Array, Array]:
    if a.dtype.kind == "b":
        classes, codes = np.array([False, True]), a
    else:
        classes, codes = np.unique(a, return_inverse=True)
    if len(classes) != count:
        hint = ""
        if a.dtype.kind in "iu" and a.dtype.kind != "b":
            hint = f", or whole numbers from 0 to {count - 1}"
        if net.regression and a.dtype.kind in "iuf":
            hint += f"; values to be approximated have shape (rows, {net.n_out})"
        what = "2 for one output" if net.n_out == 1 else f"{count}, one for each output"
        raise ValueError(
            f"{name}: found {len(classes)} different labels ({spell(classes)}), expected {what}"
            f"{hint}"
        )
    return classes, codes.reshape(-1)


def _is_plain(classes: Array) -> bool:
    """Whether each class is the number of its output."""
    return classes.dtype.kind in "iu" and bool((classes == np.arange(len(classes))).all())


def _codes(a: Array, classes: Array, name: str) -> Array:
    """Return the index of each label in ``classes``."""
    text = classes.dtype.kind == "U"
    if (a.dtype.kind == "U") == text:
        order = np.argsort(classes)  # those set by hand are in any order
        places = np.searchsorted(classes, a, sorter=order)
        codes = order[np.minimum(places, len(classes) - 1)]
        wrong = classes[codes] != a
        if not wrong.any():
            return codes
        row = int(wrong.argmax())
    else:
        row = 0
    raise ValueError(
        f"{name}: found the label {a[row].item()!r} at row {row}, "
        f"expected one of the classes {spell(classes)}"
    )


def spell(classes: Array) -> str:
    """Return the classes as text, the middle left out where there are many."""
    words = [repr(c) for c in classes[:_LONGEST_LIST].tolist()]
    if len(classes) > _LONGEST_LIST:
        words = [*words[:-2], "…", repr(classes[-1].item())]
    return ", ".join(words)


def as_classes(classes: Any, net: Architecture) -> Array:
    """Return labels as a user gives them for a network's outputs, in the order of the outputs.

    Raises
    ------
    TypeError, ValueError
        If they are not as many different labels as there are outputs (two for one output).
    """
    a = plain_labels(as_array(classes, "classes").reshape(-1), "classes")
    count = _n_classes(net)
    if len(a) != count or len(set(a.tolist())) != count:
        raise ValueError(f"classes: found {len(a)} ({spell(a)}), expected {count} different labels")
    return a


def default_task(net: Architecture) -> Task:
    """What the outputs stand for before a y has been seen."""
    if net.regression:
        return Task("values", None, net.n_out == 1)
    return Task("labels", np.arange(_n_classes(net)))


def label_smoothing(value: Any, net: Architecture) -> float:
    """Return a share in [0, 1), which is 0 for any loss but cross entropy."""
    share = number(value, "label_smoothing", least=0)
    if share >= 1:
        raise ValueError(f"label_smoothing: found {share:g}, expected a share in [0, 1)")
    if share and net.loss != "cross_entropy":
        raise ValueError(
            f"label_smoothing: found {share:g} and loss {net.loss!r}, expected 0, or loss "
            "'cross_entropy'"
        )
    return share
