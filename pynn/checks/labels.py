"""Class labels: read them, number them, show them in errors."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np

from ..spec.architecture import Architecture
from .arrays import as_array, check_finite, is_missing
from .refused import whole_number

Array = np.ndarray

FOR_REGRESSION = """; for regression use Network(…, loss="mse")"""
"""The remedy in errors about numbers that are no labels."""
_MOST_SHOWN = 12
"""Number of classes that an error lists."""


def n_classes(net: Architecture) -> int:
    """Return the number of classes; one output separates two."""
    return max(2, net.n_out)


def unrounded(value: Any, name: str) -> Array:
    """Return the array that ``value`` is or holds, with whole numbers as they are.

    NumPy makes floats of a list of whole numbers that int64 cannot hold; several may be equal then.
    """
    a = as_array(value, name)
    if type(value) in (list, tuple) and a.dtype == np.float64 and np.abs(a).max(initial=0) >= 2**53:
        return np.asarray(value, dtype=object)
    return a


def plain_labels(a: Array, name: str) -> Array:
    """Return labels (n,) as an array of booleans, whole numbers, fractions or strings."""
    if a.dtype.kind in "OT":  # StringDType can hold missing values and null characters too
        a = _from_objects(a.astype(object), name)
    if a.dtype.kind not in "biufU":
        raise TypeError(
            f"{name}: found dtype {a.dtype}, expected labels that are numbers, strings or booleans"
        )
    if a.dtype.kind == "f":
        check_finite(a, name, np.dtype(np.float64))
        a = _no_longer(a, name)
        rounded: Array = np.trunc(a)
        if (rounded == a).all() and np.abs(a).max(initial=0) < 2**53:
            return rounded.astype(np.int64)  # labels read from a file of numbers
    return a.astype(a.dtype.newbyteorder("="), copy=False)


def _no_longer(a: Array, name: str) -> Array:
    """Return floats, those longer than float64 as float64, the longest that a file can hold."""
    if a.dtype.itemsize <= 8:
        return a
    with np.errstate(under="ignore"):
        short = a.astype(np.float64)
    if len(np.unique(short)) != len(np.unique(a)):
        raise ValueError(
            f"{name}: found labels of {a.dtype} that are equal as float64, expected different "
            "numbers, whole numbers or strings"
        )
    return short


def _from_objects(a: Array, name: str) -> Array:
    """Return Python objects of one kind as an array of that kind."""
    kinds = [_kind(value) for value in a.tolist()]
    if "missing" in kinds:
        row = kinds.index("missing")
        raise ValueError(f"{name}: found {a[row]!r} at row {row}, expected a label")
    if len(set(kinds)) != 1 or kinds[0] == "other":
        found = ", ".join(sorted({type(v).__name__ for v in a.tolist()}))
        raise TypeError(
            f"{name}: found Python objects of type {found}, expected labels that are all "
            "numbers, all strings or all booleans"
        )
    labels = a.tolist()
    if kinds[0] == "string":
        wrong = next((i for i, label in enumerate(labels) if label.endswith("\0")), None)
        if wrong is not None:
            raise ValueError(
                f"{name}: found the label {labels[wrong]!r} at row {wrong}, expected strings that "
                "do not end with a null character, which NumPy removes"
            )
    if kinds[0] == "number":
        if all(isinstance(label, (int, np.integer)) for label in labels):
            return _whole_numbers(labels, name)
        exact = [label for label in labels if isinstance(label, (Fraction, Decimal))]
        return np.array([float(label) for label in labels] if exact else labels)
    return np.array(labels)


def _whole_numbers(labels: list[int], name: str) -> Array:
    """Return whole numbers as an array; NumPy would round large ones to float64."""
    a = np.array(labels)
    if a.dtype.kind in "iu":
        return a
    low, high = min(labels), max(labels)
    if low < 0 or high >= 2**64:
        raise ValueError(
            f"{name}: found whole numbers from {whole_number(low)} to {whole_number(high)}, "
            "expected labels that int64 or uint64 can hold"
        )
    return np.array(labels, np.uint64)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, (int, np.integer)):
        return "number"
    if is_missing(value):
        return "missing"
    return "number" if isinstance(value, (Real, Decimal)) else "other"


def numbered(a: Array, classes: Array | None, net: Architecture, name: str) -> tuple[Array, Array]:
    """Return the classes, and for each label (n,) the index of its class.

    ``classes`` are those of earlier training. Integers from 0 to the number of classes − 1 are the
    indices themselves, unless ``classes`` says otherwise.
    """
    count = n_classes(net)
    are_indices = a.dtype.kind in "iu" and int(a.min()) >= 0 and int(a.max()) < count
    if classes is None:
        return (np.arange(count), a) if are_indices else _new_classes(a, count, net, name)
    if are_indices and is_range(classes):
        return classes, a
    return classes, _indices(a, classes, name)


def _new_classes(a: Array, count: int, net: Architecture, name: str) -> tuple[Array, Array]:
    if a.dtype.kind == "b":
        classes, indices = np.array([False, True]), a
    else:
        classes, indices = np.unique(a, return_inverse=True)
    if len(classes) != count:
        hint = ""
        if a.dtype.kind in "iu":
            hint = f", or whole numbers from 0 to {count - 1}"
        if net.regression and a.dtype.kind in "iuf":
            hint += f"; values for regression have shape (rows, {net.n_out})"
        elif a.dtype.kind == "f" or (a.dtype.kind in "iu" and net.n_out == 1):
            hint += FOR_REGRESSION
        if len(classes) < count:
            hint += "; if this data lacks some of the labels, assign all to net.classes before"
        expected = "2 for one output" if net.n_out == 1 else f"{count}, one for each output"
        raise ValueError(
            f"{name}: found {len(classes)} different labels ({spell(classes)}), expected {expected}"
            f"{hint}"
        )
    return classes, indices.reshape(-1)


def is_range(classes: Array) -> bool:
    """Return whether each class is its own index."""
    return classes.dtype.kind in "iu" and bool((classes == np.arange(len(classes))).all())


def _indices(a: Array, classes: Array, name: str) -> Array:
    """Return the index of each label in ``classes``, which may be in any order."""
    row = 0
    if (a.dtype.kind == "U") == (classes.dtype.kind == "U"):
        order = np.argsort(classes)
        places = np.searchsorted(classes, a, sorter=order)
        indices = order[np.minimum(places, len(classes) - 1)]
        wrong = classes[indices] != a
        if not wrong.any():
            return indices
        row = int(wrong.argmax())
    hint = FOR_REGRESSION if a.dtype.kind == "f" and classes.dtype.kind != "f" else ""
    raise ValueError(
        f"{name}: found the label {a[row].item()!r} at row {row}, "
        f"expected one of the classes {spell(classes)}{hint}"
    )


def spell(classes: Array) -> str:
    """Return the classes as text, abbreviated if there are many."""
    words = [repr(c) for c in classes[:_MOST_SHOWN].tolist()]
    if len(classes) > _MOST_SHOWN:
        words = [*words[:-2], "…", repr(classes[-1].item())]
    return ", ".join(words)
