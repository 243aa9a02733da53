"""Errors for objects that hold data but are not arrays: iterators, data sets, paths."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, MappingView
from contextlib import suppress
from typing import Any

_ARRAY_LIKE = ("__array__", "__array_interface__", "__array_struct__", "__dlpack__", "shape")


def refuse_others(value: Any, name: str) -> None:
    """Raise TypeError if ``value`` is neither array-like nor a sequence, with the remedy.

    Objects are recognised by their methods and attributes, so that subclasses and similar classes
    of other libraries get the same message.
    """
    if isinstance(value, type):
        raise TypeError(f"{name}: found the class {value.__name__}, expected an array of numbers")
    if isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(
            f"{name}: found {kind_of(value)}, expected an array of numbers; read a file with "
            "pynn.data.load"
        )
    if isinstance(value, (Mapping, set, frozenset)) or value is None:
        raise TypeError(f"{name}: found {kind_of(value)}, expected an array of numbers")
    if isinstance(value, (list, tuple)):
        _refuse_pairs(value, name)
        return
    if isinstance(value, (range, memoryview, bytearray)) or any(
        hasattr(value, attribute) for attribute in _ARRAY_LIKE
    ):
        return
    remedy = _remedy(value, name)
    if remedy:
        raise TypeError(f"{name}: found {kind_of(value)}, expected an array of all rows; {remedy}")


def kind_of(value: object) -> str:
    """Return the type of a value with its article."""
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" or kind == "ndarray" else f"a {kind}"


def whole_number(value: int) -> str:
    """Return a whole number as text, or of a long one, which Python may not print, its length."""
    value = int(value)
    if value.bit_length() <= 128:
        return str(value)
    digits = int((value.bit_length() - 1) * math.log10(2)) + 1
    digits += abs(value) >= 10**digits
    return f"a number of {digits:,} digits"


def _remedy(value: Any, name: str) -> str:
    """Return how to make arrays of an object that is not one, or "" for a sequence of rows."""
    if isinstance(getattr(value, "tensors", None), (tuple, list)):  # TensorDataset of PyTorch
        return "pass its tensors: x, y = dataset.tensors"
    if hasattr(value, "dataset") and hasattr(value, "__iter__"):  # DataLoader of PyTorch
        return (
            "pass the arrays or tensors behind its dataset, and batch_size to fit, which makes "
            "batches and shuffles itself"
        )
    if hasattr(value, "as_numpy_iterator"):  # tf.data.Dataset
        return "pass the arrays that it was made of; fit makes batches and shuffles itself"
    if hasattr(value, "to_pandas"):
        return f"use {name}.to_pandas()"
    if hasattr(value, "__next__"):
        return (
            f"use numpy.stack(list({name})) if they fit into memory; otherwise a numpy.memmap, or "
            "one call of fit for each part"
        )
    if isinstance(value, MappingView):
        return f"use list({name})"
    if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        first = None
        with suppress(Exception):  # code of others
            first = value[0] if len(value) else None
        if isinstance(first, (tuple, dict)):  # a map-style data set of PyTorch
            return (
                "its items are not rows of numbers: collect its inputs and its targets in two "
                "arrays, for example with numpy.stack"
            )
        return "" if first is not None else "this object has no conversion to an array"
    if hasattr(value, "__iter__"):
        return f"use numpy.stack(list({name}))"
    if isinstance(value, (int, float, complex)):
        return ""
    return "this object has neither rows nor a conversion to an array"


def _refuse_pairs(rows: Any, name: str) -> None:
    """Raise TypeError for a list of pairs of a row of several numbers and a label."""
    if not len(rows) or not isinstance(rows[0], (tuple, list)) or len(rows[0]) != 2:
        return
    row, label = rows[0]
    if hasattr(row, "__len__") and not isinstance(row, str) and not hasattr(label, "__len__"):
        raise TypeError(
            f"{name}: found a {type(rows).__name__} of pairs, expected an array of all rows; "
            f"separate inputs and targets: x, y = zip(*{name})"
        )
