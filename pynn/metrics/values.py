"""Formulas of the metrics for regression, of one output each.

``true`` and ``predicted`` are float64 (n,), ``weight`` float64 (n,). The metric of several outputs
is the mean of theirs (``catalogue``).
"""

from __future__ import annotations

import math

import numpy as np

from ..spec.arguments import MOST_SQUARED

Array = np.ndarray


def mae(true: Array, predicted: Array, weight: Array) -> float:
    """Mean of |ŷ − y|."""
    return _mean(np.abs(predicted - true), weight)


def mse(true: Array, predicted: Array, weight: Array) -> float:
    """Mean of (ŷ − y)²; infinite if float64 cannot hold it."""
    with np.errstate(over="ignore"):
        return _mean((predicted - true) ** 2, weight)


def rmse(true: Array, predicted: Array, weight: Array) -> float:
    """√ mean of (ŷ − y)²."""
    unit, true, predicted = _in_unit(true, predicted)
    return unit * math.sqrt(mse(true, predicted, weight))


def mape(true: Array, predicted: Array, weight: Array) -> float:
    """Mean of |ŷ − y| / max(|y|, ε), ε = 2⁻⁵²: 0.1 means 10 %."""
    scale = np.maximum(np.abs(true), np.finfo(np.float64).eps)
    return _mean(np.abs(predicted - true) / scale, weight)


def median_absolute_error(true: Array, predicted: Array, weight: Array) -> float:
    """Median of |ŷ − y|: the error with half of the weight below and half above it."""
    weighs = weight > 0
    error, weight = np.abs(predicted - true)[weighs], weight[weighs]
    if not len(error):
        return math.nan
    order = np.argsort(error, kind="stable")
    error, below = error[order], np.cumsum(weight[order])
    low = int(np.searchsorted(below, 0.5 * below[-1]))
    # Half of the weight ends exactly between two errors: their mean.
    high = low + (below[low] == 0.5 * below[-1])
    return float(0.5 * (error[low] + error[high]))


def r2(true: Array, predicted: Array, weight: Array) -> float:
    """1 − Σ(ŷ − y)² / Σ(y − ȳ)²; NaN for fewer than two rows.

    Where all y are equal it is 1 if all predictions are right, otherwise 0.
    """
    if len(true) < 2:
        return math.nan
    _, true, predicted = _in_unit(true, predicted)
    return _explained(
        _mean((predicted - true) ** 2, weight), _mean((true - _mean(true, weight)) ** 2, weight)
    )


def explained_variance(true: Array, predicted: Array, weight: Array) -> float:
    """1 − Var(ŷ − y) / Var(y): like r2, but a constant error does not count."""
    _, true, predicted = _in_unit(true, predicted)
    error = predicted - true
    rest = _mean((error - _mean(error, weight)) ** 2, weight)
    return _explained(rest, _mean((true - _mean(true, weight)) ** 2, weight))


def _in_unit(true: Array, predicted: Array) -> tuple[float, Array, Array]:
    """Return a power of two, and both divided by it, so that squares of large values are finite."""
    most = max(float(np.abs(values).max(initial=0.0)) for values in (true, predicted))
    if not MOST_SQUARED < most < math.inf:
        return 1.0, true, predicted
    unit = math.ldexp(1.0, math.frexp(most)[1] - 1)
    return unit, true / unit, predicted / unit


def _explained(rest: float, whole: float) -> float:
    if whole == 0:
        return 1.0 if rest == 0 else 0.0
    return 1 - rest / whole


def _mean(values: Array, weight: Array) -> float:
    total = float(weight.sum())
    return float(weight @ values) / total if total > 0 else math.nan
