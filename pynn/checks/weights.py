"""Weights of rows: sample weights, class weights, and the shares of targets that are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..spec.architecture import Architecture
from ..spec.arguments import LEAST_WEIGHT, MOST_WEIGHT, choose, number
from .convert import as_numbers
from .labels import spell
from .shared import Shared
from .targets import Task

Array = np.ndarray


def ignores_missing(missing_targets: Any) -> bool:
    """Check the argument ``missing_targets``; return whether NaN in targets are left out."""
    return choose("missing_targets", missing_targets, ("error", "ignore")) == "ignore"


def sample_weight(
    value: Any, rows: int, name: str = "sample_weight", rows_of: str = "x"
) -> Array | None:
    """Return the weights of rows (n,), contiguous float64; None without weights.

    Parameters
    ----------
    value
        Numbers of 0 or more (n,), or None.
    rows
        The number of rows of x.
    name, rows_of
        The names of the weights and of x in errors.

    Raises
    ------
    TypeError, ValueError
        If there is not one number for each row, of 0 or from 1e-100 to 1e100.
    """
    if value is None:
        return None
    if isinstance(value, Shared):
        return value.once(rows, lambda: sample_weight(value.value, rows, name, rows_of))
    a = as_numbers(value, name)
    if a.ndim != 1:
        raise ValueError(
            f"{name}: found shape {a.shape}, expected (rows,), one weight for each row"
        )
    if len(a) != rows:
        raise ValueError(f"{name}: found {len(a)} rows, expected {rows}, as many as {rows_of} has")
    a = np.ascontiguousarray(a, np.float64)
    wrong = ~((a == 0) | ((a >= LEAST_WEIGHT) & (a <= MOST_WEIGHT)))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name}: found {a[row]} at row {row} (counted from 0), expected weights of 0, or from "
            f"{LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
        )
    return a


def class_weight(
    value: Any, y: Array, task: Task, net: Architecture
) -> tuple[Array | None, str | list[float] | None]:
    """Return the weights of rows (n,) by their classes, and ``value`` as JSON can hold it.

    Parameters
    ----------
    value
        None; ``"balanced"`` for n / (number of classes in y · rows of the class), as in
        scikit-learn; or a dict or a pandas series of labels and weights, in which a class that is
        left out weighs 1.
    y
        Labels (n,), or targets (n, 1) of one output, as `targets.targets` returns them.
    task
        The meaning of the outputs.
    net
        The network's architecture.

    Raises
    ------
    TypeError, ValueError
        If the value is none of these, or rows have no label.
    """
    if value is None:
        return None, None
    value = as_mapping(value)
    balanced = isinstance(value, str) and value == "balanced"
    if not balanced and not isinstance(value, Mapping):
        raise TypeError(
            f"class_weight: found {value!r}, expected None, 'balanced' or a dict of labels and "
            "their weights"
        )
    binary = net.n_out == 1 and bool(((y == 0) | (y == 1)).all())
    if task.classes is None or not (y.ndim == 1 or binary):
        kind = {"values": "regression", "multilabel": "multi-label data"}.get(task.kind)
        raise ValueError(
            f"class_weight: found {value if balanced else dict(value)!r} with targets for "
            f"{kind or 'probabilities'}, expected None, or one label for each row"
        )
    index = y.reshape(-1).astype(np.intp)
    if balanced:
        counts = np.bincount(index, minlength=len(task.classes))
        present = counts > 0
        by_class = len(y) / (np.count_nonzero(present) * np.maximum(counts, 1))
        return by_class[index], "balanced"
    by_class = _by_label(value, task.classes)
    return by_class[index], by_class.tolist()


def as_mapping(value: Any) -> Any:
    """Return a pandas series as a dict of labels and weights, and anything else as it is."""
    if not hasattr(value, "to_dict") or getattr(value, "ndim", 0) != 1:
        return value
    if not value.index.is_unique:
        raise ValueError("class_weight: found a label twice in the index, expected each label once")
    return value.to_dict()


def _by_label(value: Mapping[Any, Any], classes: Array) -> Array:
    """Return the weight of each class from a dict of labels and weights."""
    places = {label: k for k, label in enumerate(classes.tolist())}
    by_class = np.ones(len(classes))
    for label, weight in value.items():
        plain = label.item() if isinstance(label, np.generic) else label
        if plain not in places:
            raise ValueError(
                f"class_weight: found the label {plain!r}, expected labels among the classes "
                f"{spell(classes)}"
            )
        name = f"class_weight[{plain!r}]"
        least = 0 if weight == 0 else LEAST_WEIGHT
        by_class[places[plain]] = number(weight, name, least=least, most=MOST_WEIGHT)
    return by_class


def combined(
    y: Array,
    *factors: Array | None,
    missing: bool,
    name: str = "sample_weight",
    target: str = "y",
    rows: str = "rows",
) -> tuple[Array | None, bool]:
    """Return ``sample_weight`` and ``missing`` of the backends' ``Data``.

    Parameters
    ----------
    y
        Labels (n,), or targets (n, n_out).
    factors
        Weights (n,), or None, that are multiplied.
    missing
        Whether NaN in targets are left out. The share of its known targets is then a factor of a
        row, so that each known target has the weight of its row.
    name, target, rows
        The names of weights, targets and rows in the errors.

    Returns
    -------
    Weights (n,), or None if all weigh 1; and whether any target is missing.

    Raises
    ------
    ValueError
        If no row has a known target and a weight above 0.
    """
    known = ~np.isnan(y) if missing and y.ndim == 2 else None
    product: Array | None = None
    if known is not None and not known.all():
        product = known.mean(axis=1)
        if not product.any():
            raise ValueError(
                f"{target}: found no known target among {len(y)} {rows}, expected one at least"
            )
    missing = product is not None
    for factor in factors:
        if factor is not None:
            product = factor if product is None else product * factor
    if product is not None and not product.any():
        raise ValueError(
            f"{name}: found no weight above 0 among {len(y)} {rows}"
            + (" with a known target" if missing else "")
            + ", expected one at least"
        )
    return product, missing
