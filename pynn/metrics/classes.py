"""Formulas of the metrics for classes.

Each function takes :class:`Rows` of the kind labels. With two classes, precision, recall, f1, auc
and average_precision are those of the second class; with more they are means over the classes that
occur ("macro"). Multi-label targets are columns of two classes each: ``catalogue`` averages over
the columns.
"""

from __future__ import annotations

import math

import numpy as np

from .rows import Rows

Array = np.ndarray


def accuracy(rows: Rows) -> float:
    """Σ w·[ŷ = y] / Σ w."""
    return _share(np.trace(rows.confusion), rows.confusion.sum())


def balanced_accuracy(rows: Rows) -> float:
    """Mean recall of the classes with rows (Brodersen et al. 2010)."""
    of_class = rows.confusion.sum(axis=1)
    has_rows = of_class > 0
    return _mean(np.diagonal(rows.confusion)[has_rows] / of_class[has_rows])


def precision(rows: Rows) -> float:
    """TP / (TP + FP); 0 for a class that is never predicted."""
    right, of_class, as_class = _counts(rows)
    return _average(rows, right, as_class, of_class + as_class)


def recall(rows: Rows) -> float:
    """TP / (TP + FN); 0 for a class without rows that is predicted."""
    right, of_class, as_class = _counts(rows)
    return _average(rows, right, of_class, of_class + as_class)


def f1(rows: Rows) -> float:
    """2·TP / (2·TP + FP + FN), the harmonic mean of precision and recall."""
    right, of_class, as_class = _counts(rows)
    return _average(rows, 2 * right, of_class + as_class, of_class + as_class)


def f1_macro(rows: Rows) -> float:
    """Mean of ``f1`` over the classes that occur, also of two classes."""
    right, of_class, as_class = _counts(rows)
    occur = of_class + as_class > 0
    return _mean(2 * right[occur] / (of_class + as_class)[occur])


def mcc(rows: Rows) -> float:
    """Correlation of true and predicted classes (Gorodkin 2004, equation 8).

    (c·s − Σ t·p) / √((s² − Σ p²)(s² − Σ t²)), where c of s rows are right, and t and p are the
    numbers of rows of each class and predicted as it. 0 if all rows, or all predictions, have one
    class.
    """
    right, of_class, as_class = _counts(rows)
    total = of_class.sum()
    covariance = right.sum() * total - of_class @ as_class
    spread = (total**2 - as_class @ as_class) * (total**2 - of_class @ of_class)
    return float(covariance / math.sqrt(spread)) if spread > 0 else 0.0


def _counts(rows: Rows) -> tuple[Array, Array, Array]:
    """For each class: rows that are right, rows of the class, rows predicted as it."""
    cells = rows.confusion
    return np.diagonal(cells), cells.sum(axis=1), cells.sum(axis=0)


def _average(rows: Rows, above: Array, below: Array, occurs: Array) -> float:
    """Return above / below of the second of two classes, or the mean over classes that occur."""
    ratios = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
    return float(ratios[1]) if rows.n_classes == 2 else _mean(ratios[occurs > 0])


# --- Rankings -------------------------------------------------------------------------------------


def auc(rows: Rows) -> float:
    """Area under the receiver operating characteristic; NaN if all rows have one class.

    The probability that a row of the class has a larger output than another row, where equal
    outputs count ½ (Hanley and McNeil 1982). With more than two classes: each against the rest.
    """
    return _one_against_rest(rows, _area)


def average_precision(rows: Rows) -> float:
    """Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over the distinct outputs, descending; NaN without rows of the class.

    Pᵢ and Rᵢ are precision and recall when rows with at least the i-th output count as the class.
    """
    return _one_against_rest(rows, _step_area)


def _one_against_rest(rows: Rows, measure: object) -> float:
    outputs, codes = rows.probabilities, rows.codes
    wanted = [1] if rows.n_classes == 2 else range(rows.n_classes)
    found = [
        measure(*_ranking(codes == k, outputs[:, k], rows.weight))  # type: ignore[operator]
        for k in wanted
    ]
    return _mean(np.array([value for value in found if not math.isnan(value)]))


def _ranking(is_class: Array, output: Array, weight: Array | None) -> tuple[Array, Array]:
    """For each distinct output, descending, count rows of the class and others at or above it.

    Without weights the counts are int64, so that the area is exact.
    """
    order = np.argsort(-output, kind="stable")
    output, is_class = output[order], is_class[order]
    last = np.flatnonzero(np.append(output[1:] != output[:-1], True))
    if weight is None:
        true = np.cumsum(is_class, dtype=np.int64)[last]
        return true, last + 1 - true
    weight = weight[order]
    true = np.cumsum(np.where(is_class, weight, 0.0))[last]
    return true, np.cumsum(np.where(is_class, 0.0, weight))[last]


def _area(true: Array, false: Array) -> float:
    if not (len(true) and true[-1] > 0 and false[-1] > 0):
        return math.nan
    before = true - np.diff(true, prepend=true.dtype.type(0))
    twice = np.diff(false, prepend=false.dtype.type(0)) @ (true + before)
    # Python's numbers: the product of two counts may exceed int64.
    return _share(twice.item(), 2 * true[-1].item() * false[-1].item())


def _step_area(true: Array, false: Array) -> float:
    if not (len(true) and true[-1] > 0):
        return math.nan
    more = np.diff(true, prepend=true.dtype.type(0))
    above = (true + false).astype(np.float64)
    precision = np.divide(true, above, out=np.zeros(len(above)), where=above > 0)
    return _share(more @ precision, true[-1])


# --- Probabilities --------------------------------------------------------------------------------


def top_k(rows: Rows, k: int) -> float:
    """Share of the rows whose class is among the k largest outputs.

    Of equal outputs the one with the lower index counts as larger, as in ``predict``.
    """
    outputs, index = rows.probabilities, rows.codes[:, None]
    own = np.take_along_axis(outputs, index, axis=1)
    earlier = np.arange(rows.n_classes) < index
    ahead = ((outputs > own) | ((outputs == own) & earlier)).sum(axis=1)
    return _share(*_weighted(ahead < k, rows.weight))


def log_loss(rows: Rows) -> float:
    """−Σ w·ln p / Σ w, p the probability of the row's class, at least the epsilon of its dtype."""
    p = _own_probability(rows)
    tiny = float(np.finfo(rows.out.dtype).eps)
    return _ratio(*_weighted(-np.log(np.clip(p, tiny, 1 - tiny)), rows.weight))


def brier(rows: Rows) -> float:
    """Mean of (p − [y])² for two classes; of Σₖ (pₖ − [y = k])² for more (Brier 1950)."""
    p = rows.probabilities.astype(np.float64)
    if rows.n_classes == 2:
        return _ratio(*_weighted((p[:, 1] - rows.codes) ** 2, rows.weight))
    p[np.arange(len(p)), rows.codes] -= 1
    return _ratio(*_weighted((p**2).sum(axis=1), rows.weight))


def _own_probability(rows: Rows) -> Array:
    p = rows.out.astype(np.float64)
    if p.shape[1] == 1:
        return np.where(rows.codes == 1, p[:, 0], 1 - p[:, 0])
    return np.take_along_axis(p, rows.codes[:, None], axis=1)[:, 0]


# --- Means ----------------------------------------------------------------------------------------


def _weighted(values: Array, weight: Array | None) -> tuple[float, float]:
    """Return the weighted sum of values (n,), and the sum of the weights."""
    if weight is None:
        return float(values.sum(dtype=np.float64)), float(len(values))
    return float(weight @ values), float(weight.sum())


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else math.nan


def _share(part: float, whole: float) -> float:
    """Return part / whole, at most 1: sums of weights depend on the order of their terms."""
    return _ratio(min(part, whole), whole)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan
