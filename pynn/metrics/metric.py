"""``Metric``: a function of true and predicted values, and how to read its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..spec.arguments import choose, must_take
from .rows import Rows

Array = np.ndarray

NEEDS = ("classes", "probabilities", "values")


@dataclass(frozen=True)
class Metric:
    """A measure of predictions for the argument ``metrics`` of ``fit`` and ``evaluate``.

    A function alone is enough if a larger result is better and it takes predicted labels (for
    regression: predicted values): its name is then the name of the metric.

    Parameters
    ----------
    name : str
        Key of the results: a Python identifier.
    function : function
        ``function(y_true, y_pred)`` returns a number. If it has a parameter ``sample_weight``, it
        also receives the weights (n,) of the rows, when there are any.
    larger_is_better : bool
        Direction, for callbacks that monitor the metric.
    needs : {"classes", "probabilities", "values"}
        What ``y_pred`` is: ``"classes"`` the labels that ``predict`` returns, ``"probabilities"``
        the result (n, classes) of ``predict_proba``, ``"values"`` the values that ``predict``
        returns. For regression it is ``"values"`` whatever is given here. ``y_true`` has labels
        (n,), zeros and ones (n, n_out) for multi-label targets, or values shaped like ``y_pred``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> def worst(y_true, y_pred):
    ...     return np.abs(y_true - y_pred).max()
    >>> metric = Metric("worst", worst, larger_is_better=False)
    >>> float(metric(np.array([1.0, 2.0]), np.array([1.5, 2.0])))
    0.5
    """

    name: str
    function: Callable[..., Any]
    larger_is_better: bool = True
    needs: str = "classes"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(
                f"Metric.name: found {self.name!r}, expected letters, digits and underscores"
            )
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(
                f"Metric.function: found {self.function!r}, expected a function (y_true, y_pred)"
            )
        if not isinstance(self.larger_is_better, (bool, np.bool_)):
            raise TypeError(
                f"Metric.larger_is_better: found {self.larger_is_better!r}, expected True or False"
            )
        choose("Metric.needs", self.needs, NEEDS)
        must_take(
            self.function, (None, None), f"metrics: {self.name}", "two arguments (y_true, y_pred)"
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the value of the function."""
        if sample_weight is None or not takes_weights(self.function):
            return self.function(y_true, y_pred)
        return self.function(y_true, y_pred, sample_weight=sample_weight)

    def of(self, rows: Rows) -> Any:
        """Return the value for some rows."""
        given = rows.all_known
        predicted = given.probabilities if self._takes_probabilities(rows) else given.predictions
        return self(given.truth, predicted, given.weight)

    def check(self, rows: Rows) -> None:
        """Raise ValueError if the metric has no value for the targets of some rows.

        Functions take rows whose targets are all known.
        """
        if not len(rows.all_known.y):
            raise ValueError(
                f"metrics: found {self.name!r} and no row among {len(rows.y)} whose targets are "
                "all known, expected one at least: functions and metrics of scikit-learn take such "
                "rows; those of pynn measure each column on its own"
            )

    def _takes_probabilities(self, rows: Rows) -> bool:
        return self.needs == "probabilities" and rows.kind != "values"


class Undefined(ValueError):
    """A metric has no value for some rows."""


def takes_weights(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter ``sample_weight``."""
    import inspect

    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return False
