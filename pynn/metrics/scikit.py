"""Metrics of scikit-learn by name: its scorers, and the functions of ``sklearn.metrics``."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .metric import Metric, Undefined
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


class _OfScikitLearn(Metric):
    """A metric of scikit-learn, which raises ValueError for some targets and predictions."""

    def check(self, rows: Rows) -> None:
        super().check(rows)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._value(rows.perfect)
        except ValueError as error:
            raise ValueError(
                f"metrics: found {self.name!r}, which scikit-learn does not define for these "
                f"{len(rows.y)} rows: {error}"
            ) from None

    def of(self, rows: Rows) -> Any:
        try:
            return self._value(rows)
        except ValueError as error:
            raise Undefined(str(error)) from error

    def _value(self, rows: Rows) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Function(_OfScikitLearn):
    """A function of ``sklearn.metrics``."""

    def _value(self, rows: Rows) -> Any:
        given = _coded(rows)
        if not self._takes_probabilities(rows):
            return self(given.truth, given.predictions, given.weight)
        # scikit-learn's functions take the probability of the second of two classes.
        two = rows.kind == "labels" and rows.n_classes == 2
        probabilities = given.probabilities[:, 1] if two else given.probabilities
        return self(given.truth, probabilities, given.weight)


@dataclass(frozen=True)
class Scorer(_OfScikitLearn):
    """A scorer of scikit-learn, ``scorer(estimator, x, y)``, of which larger is better."""

    def _value(self, rows: Rows) -> Any:
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
