"""Loss, accuracy and metrics of a model on a data set: ``Network.evaluate``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..backends.contract import Engine, Inputs, Sums
from ..checks import weights
from ..checks.targets import Task
from . import standardise
from .model import Model

if TYPE_CHECKING:
    from ..metrics.metric import Metric

Array = np.ndarray


def chosen(metrics: Any, model: Model, task: Task) -> tuple[Metric, ...]:
    """Return the metrics that the argument ``metrics`` of ``evaluate`` names."""
    from ..metrics.measure import as_metrics
    from .measurement import check_loss

    architecture = model.architecture
    found = as_metrics(metrics, task.kind, architecture.n_out, ("loss", "accuracy"))
    check_loss(found, architecture)
    return found


def exact_share(predicted: Array, y: Array, weight: Array | None) -> float:
    """Return the share of rows all of whose known labels are predicted.

    Parameters
    ----------
    predicted
        Zeros and ones (n, n_out).
    y
        Targets (n, n_out); NaN is not known. Rows without a known target are left out.
    weight
        Weights of the rows (n,), or None.
    """
    known = ~np.isnan(y)
    share, _ = weights.combined(y, known.any(axis=1).astype(np.float64), weight, missing=False)
    return float(np.average(((predicted == y) | ~known).all(axis=1), weights=share))


class Evaluated(Protocol):
    """The members of an object that ``Scored.score`` uses."""

    @property
    def _task(self) -> Task: ...

    def _targets(self, y: Any, rows: int, missing: bool = False) -> tuple[Array, Task]:
        """Return checked targets and their task."""
        ...

    def predict(self, x: Any) -> Array: ...

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        missing_targets: str = "error",
        metrics: Any = None,
    ) -> dict[str, float]: ...


class Scored:
    """Base class of ``Network`` and ``Ensemble``: the score of their predictions."""

    def score(
        self: Evaluated,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        missing_targets: str = "error",
    ) -> float:
        """Return the accuracy of the predictions, or R² for a regression, as in scikit-learn.

        Parameters
        ----------
        x, y : array
            As in ``evaluate``.
        sample_weight : array (n,), optional
            Weights of the rows; None for 1.
        missing_targets : {"error", "ignore"}
            As in ``fit``: ``"ignore"`` leaves NaN in y out.

        Returns
        -------
        float
            For labels the share of rows whose label is predicted; for multi-label targets the share
            of rows all of whose labels are; for a regression R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)², the
            mean over several targets. Sums run over the known targets.

        Raises
        ------
        TypeError, ValueError
            If x, y or the weights do not fit.
        """
        if self._task.kind == "multilabel":
            predicted = self.predict(x)
            missing = weights.ignores_missing(missing_targets)
            y, _ = self._targets(y, len(predicted), missing)
            w = weights.sample_weight(sample_weight, len(predicted))
            return exact_share(predicted, y, w)
        is_regression = self._task.kind == "values"
        found = self.evaluate(
            *(x, y),
            sample_weight=sample_weight,
            missing_targets=missing_targets,
            metrics="r2" if is_regression else None,
        )
        return float(found["r2" if is_regression else "accuracy"])


def evaluate(
    model: Model,
    engine: Engine,
    data: tuple[Inputs, Array, Array | None],
    task: Task,
    metrics: tuple[Metric, ...],
    missing: bool,
    sums: Sums | None = None,
) -> dict[str, float]:
    """Return the mean loss, the accuracy except for regression, and metrics by their names.

    Parameters
    ----------
    model, engine
        The model, and the backend that computes.
    data
        Rows x (n, n_in), labels or targets y, and weights of the rows (n,) or None, all checked.
    task
        The meaning of the outputs.
    metrics
        Result of ``chosen``.
    missing
        Whether NaN in y stands for a target that is not known.
    sums
        Result of the engine for these rows, if they are evaluated already.
    """
    x, y, w = data
    weighted = x, y, *weights.combined(y, w, missing=missing)
    if model.target_standard is None:
        loss, right, total = sums or engine.evaluate(model.evaluated, *weighted)
        found = {"loss": loss / total}
    else:
        found = {"loss": standardise.original_loss(model, engine, *weighted)}
        right = total = math.nan
    if not math.isnan(right):
        found["accuracy"] = min(1.0, right / total)  # sums of weights are rounded
    others = tuple(metric for metric in metrics if metric.name not in found)
    if others:
        from .measurement import measured

        out = standardise.outputs(model, engine, x)
        found |= measured(others, task, y, model.architecture.loss_function.measured(out), w)
    return found
