"""Logs of an epoch: Keras's metrics, from the counts of training or from predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.contract import Engine
from ..exports.keras_losses import Objective
from ..training.model import Model
from .data import Rows

Array = np.ndarray

_BLOCK = 65536
"""Rows of predictions that a metric gets at a time."""

_COUNTED = {
    "labels": "SparseCategoricalAccuracy",
    "one-hot": "CategoricalAccuracy",
    "yes or no": "BinaryAccuracy",
}
"""Metrics that training counts, by the kind of targets."""


class Metrics:
    """The metrics of a compiled model.

    Parameters
    ----------
    keras_model
        A compiled model.
    objective
        Its loss.
    model
        pynn's, with the values to measure.
    engine
        Computes the outputs of the Keras model.
    """

    def __init__(
        self, keras_model: Any, objective: Objective, model: Model, engine: Engine
    ) -> None:
        self._keras, self._objective, self._model = keras_model, objective, model
        self._engine = engine
        self._compiled = keras_model._compile_metrics

    def build(self, rows: Rows) -> None:
        """Let Keras choose the metrics for names such as "accuracy" by the shapes."""
        if self._compiled is not None and not self._compiled.built:
            net = self._model.architecture
            self._compiled.build(rows.y[:1], np.zeros((1, net.n_out), net.dtype))

    def counted(self, rows: Rows, weighted: bool) -> list[str]:
        """Return the names of the metrics that training counts."""
        metrics = [] if self._compiled is None else self._compiled.metrics
        return [m.name for m in metrics if self._is_counted(m, rows, weighted)]

    def logs(
        self, rows: Rows, loss: float, accuracy: float | None, weighted: bool
    ) -> dict[str, float]:
        """Return the logs of rows.

        Parameters
        ----------
        rows
            Training or validation rows.
        loss
            Their loss.
        accuracy
            Their accuracy if it was counted.
        weighted
            Whether that is with the weights of the rows.
        """
        self._keras.reset_metrics()
        metrics = [] if self._compiled is None else self._compiled.metrics
        counted = [accuracy is not None and self._is_counted(m, rows, weighted) for m in metrics]
        if not all(counted):
            self._predict(rows)
        found = {"loss": loss}
        if metrics:
            results = self._compiled.result()
            flags = counted if len(results) == len(counted) else [False] * len(results)
            for (name, value), flag in zip(results.items(), flags, strict=True):
                found[name] = accuracy if flag else value  # type: ignore[assignment]
        return found

    def _is_counted(self, metric: Any, rows: Rows, weighted: bool) -> bool:
        """Return whether training counts a metric in the way that Keras does."""
        kind = type(metric).__name__
        if _COUNTED.get(self._objective.targets) != kind or not rows.hard:
            return False
        if type(metric).__module__.split(".")[0] != "keras":
            return False
        if kind == "BinaryAccuracy":
            half = metric._fn_kwargs.get("threshold", 0.5) == 0.5
            if not half or self._objective.from_logits:  # Keras compares logits with 0.5
                return False
        parts = self._compiled._flat_weighted_metrics
        takes_weights = any(metric is m for part in parts if part for m in part.metrics)
        return rows.weight is None or takes_weights == weighted

    def _predict(self, rows: Rows) -> None:
        """Update the metrics with predictions for rows."""
        x = rows.data.x
        for start in range(0, rows.n, _BLOCK):
            part = slice(start, start + _BLOCK)
            block = x if rows.n <= _BLOCK else part_of(x, part)
            outputs = self._engine.forward(self._model.flat, block)
            weight = None if rows.weight is None else rows.weight[part].astype(outputs.dtype)
            self._compiled.update_state(rows.y[part], outputs, weight)


def part_of(x: Any, part: slice) -> Any:
    """Return some rows."""
    from ..arrays.standard import Standardized

    if isinstance(x, Standardized):
        return Standardized(x.rows[part], x.standard)  # type: ignore[index]
    return x[part]
