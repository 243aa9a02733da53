"""``Measurement``: the metrics of one call of ``fit``, computed after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backends.contract import Inputs
from ..checks.targets import Task
from ..metrics.measure import Measure, as_metrics
from ..metrics.metric import Metric
from ..metrics.rows import Rows
from ..spec.architecture import Architecture
from ..spec.caller import warn_caller
from .history import FIELDS

Array = np.ndarray

VALIDATION = "validation_"
"""Prefix of the names of metrics on the validation rows."""


class Measured(NamedTuple):
    """Rows that metrics are computed on."""

    prefix: str
    """Prefix of the names of the metrics."""
    x: Inputs
    y: Array
    weight: Array | None = None


class Measurement:
    """The metrics of one call of ``fit``.

    Parameters
    ----------
    metrics : sequence of Metric
        What to compute.
    task : Task
        The meaning of the outputs.
    sets : sequence of Measured
        The rows to compute them on.
    """

    def __init__(self, metrics: Sequence[Metric], task: Task, sets: Sequence[Measured]) -> None:
        self._metrics, self._task, self._sets = metrics, task, sets
        self._measure = Measure(metrics, _warn)

    @property
    def directions(self) -> dict[str, bool]:
        """Whether larger is better, for each value by its name in a record."""
        return {
            rows.prefix + metric.name: metric.larger_is_better
            for rows in self._sets
            for metric in self._metrics
        }

    def reading(self, inputs: Callable[[Inputs], Inputs]) -> Measurement:
        """Return these metrics on the same rows, with ``inputs(x)`` for their x."""
        sets = [rows._replace(x=inputs(rows.x)) for rows in self._sets]
        return Measurement(self._metrics, self._task, sets)

    def values(self, forward: Callable[[Inputs], Array]) -> dict[str, float]:
        """Return the metrics by name; ``forward(x)`` returns the outputs of rows (n, n_out)."""
        found: dict[str, float] = {}
        for prefix, x, y, weight in self._sets:
            values = self._measure.of(rows_of(self._task, y, forward(x), weight))
            found |= {prefix + name: value for name, value in values.items()}
        return found


def rows_of(task: Task, y: Array, out: Array, weight: Array | None) -> Rows:
    """Return targets and outputs as metrics take them."""
    return Rows(task.kind, y, out, weight, task.classes, task.flat)


def measured(
    metrics: Sequence[Metric], task: Task, y: Array, out: Array, weight: Array | None = None
) -> dict[str, float]:
    """Return the metrics of some rows by name; warn of undefined ones.

    Raises
    ------
    ValueError
        If a metric has no value for these targets.
    """
    rows = rows_of(task, y, out, weight)
    for metric in metrics:
        metric.check(rows)
    return Measure(metrics, _warn).of(rows)


def measurement(
    metrics: Any,
    training_metrics: Any,
    task: Task,
    net: Architecture,
    training: Measured,
    held: Measured | None,
) -> Measurement | None:
    """Return the metrics that ``fit`` computes after each epoch; None without any.

    Raises
    ------
    TypeError, ValueError
        If a metric does not fit, or there are no rows to compute it on.
    """
    if not isinstance(training_metrics, (bool, np.bool_)):
        raise TypeError(f"training_metrics: found {training_metrics!r}, expected True or False")
    taken = {*FIELDS, *(name.removeprefix(VALIDATION) for name in FIELDS), "metrics"}
    found = as_metrics(metrics, task.kind, net.n_out, sorted(taken))
    check_loss(found, net)
    if training_metrics and not found:
        raise ValueError(
            "training_metrics: found True and no metrics, expected some, such as metrics=['auc'] "
            "for classes or metrics=['r2'] for values"
        )
    # Records have the accuracy of a classification in any case.
    found = tuple(metric for metric in found if metric.name != "accuracy")
    if not found:
        return None
    sets = [] if held is None else [held]
    if training_metrics:
        sets.append(training)
    if not sets:
        raise ValueError(
            f"metrics: found {', '.join(metric.name for metric in found)} without validation rows, "
            "expected validation=(x, y) or a share of the rows, or training_metrics=True"
        )
    for rows in sets:
        _check(found, task, rows, net)
    return Measurement(found, task, sets)


def _check(metrics: Sequence[Metric], task: Task, rows: Measured, net: Architecture) -> None:
    """Raise ValueError for a metric that has no value for the targets of some rows."""
    # Metrics take one output for each column of y; for labels these are all.
    shape = (len(rows.y), net.n_out if rows.y.ndim == 1 else rows.y.shape[1])
    given = rows_of(task, rows.y, np.broadcast_to(np.zeros((), net.dtype), shape), rows.weight)
    for metric in metrics:
        metric.check(given)


def check_loss(metrics: Sequence[Metric], net: Architecture) -> None:
    """Raise ValueError for a metric of probabilities if the loss gives none."""
    if net.loss_function.probabilities:
        return
    for metric in metrics:
        by_order = metric.name in ("auc", "average_precision") or metric.name.startswith("top_")
        if metric.needs == "probabilities" and not by_order:
            raise ValueError(
                f"metrics: found {metric.name!r} with loss {net.loss!r}, whose outputs are no "
                "probabilities; expected metrics of classes, auc or average_precision"
            )


def _warn(message: str) -> None:
    # Imported where it is needed: it imports modules that take time to load.
    warn_caller(message)
