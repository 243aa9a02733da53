"""The metrics of pynn by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import classes, values
from .metric import Metric
from .rows import Rows

FOR_CLASSES = ("labels", "multilabel")
FOR_VALUES = ("values",)


@dataclass(frozen=True)
class BuiltIn(Metric):
    """A metric of pynn.

    Parameters
    ----------
    kinds
        The kinds of tasks that it measures.
    averaging
        What it averages over if there are several classes, labels or outputs.
    """

    kinds: tuple[str, ...] = FOR_CLASSES
    averaging: str = ""

    def __post_init__(self) -> None:
        """Nothing to check."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        raise TypeError(f"{self.name}: found a call, expected net.evaluate(x, y, metrics=…)")

    def check(self, rows: Rows) -> None:
        """Nothing to check: where it has no value it is NaN."""

    def of(self, rows: Rows) -> float:
        one = self._of_values if rows.kind == "values" else self.function
        # After numpy.seterr, a number that underflows would raise.
        with np.errstate(all="ignore"):
            if rows.kind == "labels":
                return float(one(rows))
            found = np.array([one(column) for column in rows.columns()])
        defined = found[~np.isnan(found)]
        return float(defined.mean()) if len(defined) else float("nan")

    def _of_values(self, column: Rows) -> float:
        true = column.y[:, 0].astype(np.float64)
        weight = np.ones(len(true)) if column.weight is None else column.weight
        return float(self.function(true, column.out[:, 0].astype(np.float64), weight))


_MACRO = "macro"
_BINARY = "second of two classes; macro"


def _for_classes(
    name: str,
    function: Callable[..., float],
    averaging: str = "rows",
    larger: bool = True,
    needs: str = "classes",
    kinds: tuple[str, ...] = FOR_CLASSES,
) -> BuiltIn:
    return BuiltIn(name, function, larger, needs, kinds, averaging)


def _for_values(name: str, function: Callable[..., float], larger: bool = False) -> BuiltIn:
    return BuiltIn(name, function, larger, "values", FOR_VALUES, "outputs")


_ALL = [
    _for_classes("accuracy", classes.accuracy),
    _for_classes("balanced_accuracy", classes.balanced_accuracy, _MACRO),
    _for_classes("precision", classes.precision, _BINARY),
    _for_classes("recall", classes.recall, _BINARY),
    _for_classes("f1", classes.f1, _BINARY),
    _for_classes("f1_macro", classes.f1_macro, _MACRO, kinds=("labels",)),
    _for_classes("auc", classes.auc, _BINARY, needs="probabilities"),
    _for_classes("average_precision", classes.average_precision, _BINARY, needs="probabilities"),
    _for_classes("mcc", classes.mcc),
    _for_classes("log_loss", classes.log_loss, larger=False, needs="probabilities"),
    _for_classes("cross_entropy", classes.log_loss, larger=False, needs="probabilities"),
    _for_classes("brier", classes.brier, larger=False, needs="probabilities"),
    _for_values("mae", values.mae),
    _for_values("mse", values.mse),
    _for_values("rmse", values.rmse),
    _for_values("mape", values.mape),
    _for_values("median_absolute_error", values.median_absolute_error),
    _for_values("r2", values.r2, larger=True),
    _for_values("explained_variance", values.explained_variance, larger=True),
]

METRICS = {metric.name: metric for metric in _ALL}
"""All metrics of pynn by name, except ``top_<k>``."""

_TOP = re.compile(r"top_([1-9][0-9]*)")


def top(name: str, n_classes: int) -> BuiltIn | None:
    """Return the metric ``top_<k>``; None for another name.

    Raises
    ------
    ValueError
        If k is not below the number of classes.
    """
    match = _TOP.fullmatch(name)
    if match is None:
        return None
    k = int(match.group(1))
    if k >= n_classes:
        raise ValueError(
            f"metrics: found {name!r} for {n_classes} classes, expected a number below that of the "
            "classes: otherwise every row would count as right"
        )
    function = partial(classes.top_k, k=k)
    return _for_classes(name, function, needs="probabilities", kinds=("labels",))
