"""The argument ``metrics``, and the values of all metrics on some rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..files.disk import counted
from . import catalogue, scikit
from .catalogue import METRICS, BuiltIn
from .metric import Metric, Undefined
from .rows import Rows

Array = np.ndarray

_NOT_DEFINED = "expected rows of more than one class, or at least two values"
"""What the metrics of pynn need to have a value."""


def as_metrics(given: Any, kind: str, n_out: int, taken: Sequence[str] = ()) -> tuple[Metric, ...]:
    """Return the argument ``metrics`` as metrics.

    Parameters
    ----------
    given : str, function, Metric, list of them, or None
        The argument.
    kind : {"labels", "multilabel", "values"}
        The kind of the task.
    n_out : int
        Number of outputs of the network.
    taken : sequence of str
        Keys that results have already, which a function must not take.

    Raises
    ------
    TypeError, ValueError
        If a metric is unknown, does not fit the task, or has the name of another.
    ImportError
        If a metric needs scikit-learn.
    """
    if given is None:
        return ()
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    found = [_metric(one, kind, n_out) for one in several]
    names = [metric.name for metric in found]
    for metric in found:
        name = metric.name
        if names.count(name) > 1:
            raise ValueError(f"metrics: found {name!r} twice, expected different names")
        if name in taken and not isinstance(metric, BuiltIn):
            raise ValueError(
                f"metrics: found a function named {name!r}, a name that records have already; "
                "expected another name, as in pynn.Metric(name, function)"
            )
    return tuple(found)


def _metric(given: Any, kind: str, n_out: int) -> Metric:
    if isinstance(given, str):
        return _named(given, kind, n_out)
    if isinstance(given, Metric):
        return given
    if callable(given) and not isinstance(given, type):
        name = getattr(given, "name", None) or getattr(given, "__name__", None)
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(
                f"metrics: found {given!r} without a name, expected a function with one, or "
                "pynn.Metric(name, function)"
            )
        larger = getattr(given, "larger_is_better", True)
        return Metric(name, given, larger, getattr(given, "needs", "classes"))
    raise TypeError(
        f"metrics: found {given!r}, expected names, functions (y_true, y_pred) or pynn.Metric "
        "objects"
    )


def _named(name: str, kind: str, n_out: int) -> Metric:
    metric = METRICS.get(name)
    if metric is None and kind == "labels":
        metric = catalogue.top(name, max(2, n_out))
    if metric is not None:
        if kind in metric.kinds:
            return metric
        tasks = {"labels": "classes", "multilabel": "multi-label targets", "values": "regression"}
        raise ValueError(
            f"metrics: found {name!r} for {tasks[kind]}, expected one of {', '.join(_names(kind))}"
        )
    if not scikit.is_installed():
        raise _unknown(name, kind, "; other names need scikit-learn, which is not installed")
    other = scikit.metric_of(name)
    if other is None:
        raise _unknown(name, kind, ", or the name of a scorer or function of scikit-learn")
    return other


def _unknown(name: str, kind: str, more: str) -> ValueError:
    import difflib

    near = difflib.get_close_matches(name, _names(kind), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(
        f"metrics: found {name!r}, expected one of {', '.join(_names(kind))}{more}{hint}"
    )


def _names(kind: str) -> list[str]:
    found = [name for name, metric in METRICS.items() if kind in metric.kinds]
    return [*found, "top_<k>"] if kind == "labels" else found


class Measure:
    """Computes metrics, and warns once for each that is undefined.

    Parameters
    ----------
    metrics : sequence of Metric
        What to compute.
    warn : function
        Called with the text of a warning.
    """

    def __init__(
        self, metrics: Sequence[Metric], warn: Callable[[str], None] = warnings.warn
    ) -> None:
        self.metrics, self._warn = tuple(metrics), warn
        self._undefined: set[str] = set()

    def of(self, rows: Rows) -> dict[str, float]:
        """Return the value of each metric by its name; NaN if an output is not finite."""
        if not np.isfinite(rows.out).all():
            return {metric.name: math.nan for metric in self.metrics}
        found: dict[str, float] = {}
        new: dict[str, list[str]] = {}
        for metric in self.metrics:
            reason = _NOT_DEFINED if isinstance(metric, BuiltIn) else "expected a number"
            try:
                found[metric.name] = _number(metric, metric.of(rows))
            except Undefined as error:
                found[metric.name], reason = math.nan, f"expected a number: {error}"
            if math.isnan(found[metric.name]) and metric.name not in self._undefined:
                new.setdefault(reason, []).append(metric.name)
        for reason, names in new.items():
            self._undefined.update(names)
            self._warn(
                f"metrics: found NaN for {', '.join(names)} of "
                f"{counted(len(rows.out), 'row')}, {reason}"
            )
        return found


def _number(metric: Metric, value: Any) -> float:
    try:
        return float(value + 0)  # float alone would accept text
    except (TypeError, ValueError):
        raise TypeError(
            f"metrics: found {type(value).__name__} from {metric.name}, expected a number"
        ) from None
