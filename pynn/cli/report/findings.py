"""What the page of a run shows, computed once: results, predictions, images and classes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ...metrics.classes import auc
from ...metrics.rows import Rows
from ...plots.classes import class_counts, class_indices
from ...plots.reliability import Calibration, calibration_of
from .. import pictures
from ..folder import Run

Array = np.ndarray


class Findings:
    """The predictions of a run's network on its test rows, and their measures."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def net(self) -> Any:
        return self.run.net

    @property
    def has_rows(self) -> bool:
        """Whether the rows of the run are known."""
        return len(self.run.test[0]) > 0

    @cached_property
    def kind(self) -> str:
        """``"labels"``, ``"multilabel"`` or ``"values"``."""
        return str(self.net._model.known_task.kind)

    @cached_property
    def values(self) -> dict[str, float]:
        """Loss, accuracy and metrics on the test rows; empty without rows."""
        if not self.has_rows:
            return {}
        run = self.run
        more = ["r2", "mae", "rmse"] if self.kind == "values" else []
        metrics = list(dict.fromkeys([*more, *run.metrics]))
        weights = run.weights
        asked: dict[str, Any] = {"sample_weight": weights, "missing_targets": run.missing_targets}
        try:
            return self.net.evaluate(*run.test, metrics=metrics, **asked)
        except ValueError:
            if not more:
                raise
            # R² and MAE are defined for most regressions, but not, for example, for quantiles.
            return self.net.evaluate(*run.test, metrics=run.metrics, **asked)

    @cached_property
    def labels(self) -> Array | None:
        """The true label of each row (n,); None if the targets are no labels."""
        return pictures.labels_of(self.net, self.run.test[1]) if self.has_rows else None

    @cached_property
    def predicted(self) -> Array:
        """The predictions of the network."""
        return self.net.predict(self.run.test[0])

    @cached_property
    def probabilities(self) -> Array | None:
        """The probabilities (n, n_classes); None if the outputs are none."""
        loss = self.net.architecture.loss_function
        if self.labels is None or not getattr(loss, "probabilities", False):
            return None
        return self.net.predict_proba(self.run.test[0])

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of the probabilities, if they are finite and sum to 1."""
        if self.labels is None or self.probabilities is None:
            return None
        try:
            return calibration_of(self.labels, self.probabilities, self.net.classes)
        except ValueError:
            return None

    @cached_property
    def counts(self) -> Array | None:
        """How often each class (row) was predicted as each class (column)."""
        if self.labels is None or self.net.classes is None:
            return None
        names = self.net.classes.tolist()
        return class_counts(
            class_indices(self.labels, names, "y"),
            class_indices(self.predicted, names, "predictions"),
            len(names),
        )

    @property
    def mistakes(self) -> int | None:
        """The number of rows that are classified wrongly."""
        return None if self.counts is None else int(self.counts.sum() - self.counts.trace())

    @property
    def commonest(self) -> tuple[str, float] | None:
        """The most frequent class of the rows, and its share in their weights."""
        if self.labels is None or self.net.classes is None:
            return None
        names = self.net.classes.tolist()
        codes = class_indices(self.labels, names, "y")
        sizes = np.bincount(codes, self.run.weights, len(names))
        at = int(sizes.argmax())
        return str(names[at]), float(sizes[at] / sizes.sum())

    @property
    def auc(self) -> float:
        """The area under the ROC curve, as the metric of this name; NaN if there is none."""
        if self.labels is None or self.probabilities is None:
            return np.nan
        if not np.isfinite(self.probabilities).all():
            return np.nan
        codes = class_indices(self.labels, self.net.classes.tolist(), "y").astype(np.int32)
        return auc(Rows("labels", codes, self.probabilities, self.run.weights))

    @cached_property
    def images(self) -> Array | None:
        """The rows as images (n, height, width), or None."""
        return pictures.images_of(self.net, self.run.test[0]) if self.has_rows else None

    def target(self, k: int) -> tuple[Array, Array]:
        """Return true and predicted values of a target of a regression, where both are finite."""
        y, found = np.asarray(self.run.test[1], float), np.asarray(self.predicted, float)
        true, predicted = (a.reshape(len(a), -1)[:, k] for a in (y, found))
        finite = np.isfinite(true) & np.isfinite(predicted)
        return true[finite], predicted[finite]

    @property
    def targets(self) -> int:
        """Number of targets of a regression; 0 if predictions have another shape."""
        y, found = np.asarray(self.run.test[1]), self.predicted
        return y[0].size if found.size == y.size else 0
