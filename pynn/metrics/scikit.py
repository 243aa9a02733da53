"""Metrics of scikit-learn by name: its scorers, and the functions of ``sklearn.metrics``."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .metric import Metric
from .rows import Rows

_LARGER = {"_score": True, "_error": False, "_loss": False, "_deviance": False}
"""Whether larger is better, by the end of a function's name: the convention of scikit-learn."""


def is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("sklearn") is not None


def metric_of(name: str) -> Metric | None:
    """Return the scorer or the function with a name; None if there is neither.

    Requires scikit-learn.
    """
    from sklearn import metrics

    if name in metrics.get_scorer_names():
        return Scorer(name, metrics.get_scorer(name))
    end = name[name.rfind("_") :] if "_" in name else ""
    function = getattr(metrics, name, None) if name in metrics.__all__ else None
    if function is None or end not in _LARGER:
        return None
    first, second, *rest = inspect.signature(function).parameters.values()
    required = [p.name for p in rest if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if required or first.name not in ("y_true", "y1"):
        return None
    # y_score or y_proba, where it is not y_pred (y2 in a function that is symmetric).
    needs = "classes" if second.name in ("y_pred", "y2") else "probabilities"
    return Function(name, function, _LARGER[end], needs)


@dataclass(frozen=True)
class Function(Metric):
    """A function of ``sklearn.metrics``."""

    def of(self, rows: Rows) -> Any:
        given = _coded(rows)
        if not self._takes_probabilities(rows):
            return self(given.truth, given.predictions, given.weight)
        # scikit-learn's functions take the probability of the second of two classes.
        two = rows.kind == "labels" and rows.n_classes == 2
        probabilities = given.probabilities[:, 1] if two else given.probabilities
        return self(given.truth, probabilities, given.weight)


@dataclass(frozen=True)
class Scorer(Metric):
    """A scorer of scikit-learn, ``scorer(estimator, x, y)``, of which larger is better."""

    def of(self, rows: Rows) -> Any:
        given = _coded(rows)
        estimator = _estimator(given)
        if given.weight is None:
            return self.function(estimator, given.out, given.truth)
        return self.function(estimator, given.out, given.truth, sample_weight=given.weight)


def _coded(rows: Rows) -> Rows:
    """Return the known rows with numbers as labels.

    scikit-learn expects probabilities in the order of sorted labels, and of two strings it does not
    know which is the positive class.
    """
    return replace(rows.all_known, classes=None)


def _estimator(rows: Rows) -> Any:
    """Return a fitted estimator that predicts the outputs of these rows."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    if rows.kind == "values":

        class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
            def __sklearn_is_fitted__(self) -> bool:
                return True

            def predict(self, x: Any) -> Any:
                return rows.predictions

        return Regressor()

    class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def __init__(self) -> None:
            multilabel = rows.kind == "multilabel"
            two = np.arange(2)
            self.classes_ = [two] * rows.out.shape[1] if multilabel else np.arange(rows.n_classes)

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, x: Any) -> Any:
            return rows.predictions

        def predict_proba(self, x: Any) -> Any:
            return rows.probabilities

    return Classifier()
