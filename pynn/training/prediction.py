"""``Prediction``: the methods of ``Network`` that measure and compute gradients."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from ..backends.contract import Data
from ..checks import targets, weights
from ..data.sources import as_source
from ..spec import arguments
from ..spec.losses import GaussianNLL
from . import evaluation, standardise
from .answers import Answers
from .model import Model
from .properties import ModelProperties
from .stream import engine_for

Array = np.ndarray


class Prediction(Answers, evaluation.Scored, ModelProperties):
    """Base class of an object whose ``_engine`` computes the model ``_model``."""

    _model: Model

    @property
    def _task(self) -> targets.Task:
        return self._model.known_task

    def _targets(self, y: Any, rows: int, missing: bool = False) -> tuple[Array, targets.Task]:
        model = self._model
        return targets.targets(
            *(y, rows, model.architecture, model.task),
            missing=missing,
            number_format=model.target_format,
        )

    def predict_distribution(self, x: Any) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of each target, with loss gaussian_nll.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``.

        Returns
        -------
        mean, deviation : ndarray
            Each in the dtype and in the shape of ``predict``.

        Raises
        ------
        TypeError, ValueError
            If x does not fit, or the loss predicts no variance.
        """
        loss = self.architecture.loss_function
        if not isinstance(loss, GaussianNLL):
            raise ValueError(
                f"predict_distribution: found loss {self.architecture.loss_text!r}, which predicts "
                "no variance, expected 'gaussian_nll'"
            )
        out = standardise.in_unit(self._model, self._outputs(x))
        flat = self._task.flat
        mean, deviation = loss.predictions(out, flat), loss.deviations(out, flat)
        return mean, deviation if self.target_scale is None else deviation * self.target_scale

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        missing_targets: str = "error",
        metrics: Any = None,
    ) -> dict[str, float]:
        """Return mean loss and accuracy on a data set, without dropout and without the L2 term.

        Parameters
        ----------
        x, y : array
            As in ``fit``; labels must be among ``classes``. For sources and batches y is None.
        sample_weight : array (n,), optional
            Weights of the rows in both means and in metrics; None for 1.
        missing_targets : {"error", "ignore"}
            As in ``fit``.
        metrics : str, function, Metric, or list of them, optional
            As in ``fit``.

        Returns
        -------
        dict
            ``{"loss": …, "accuracy": …}``, accuracy in [0, 1]; only the loss for regression. For
            multilabel targets, accuracy is the share of correct single outputs. Metrics follow by
            their names.

        Raises
        ------
        TypeError, ValueError
            If x, y or a metric does not fit.
        """
        missing = weights.ignores_missing(missing_targets)
        source = as_source(x, y, sample_weight)
        model, sums = self._model, None
        if source is not None:
            from . import stream_rows

            x, y, w, task = stream_rows.rows_of(
                source, model, model.task, model.columns, None, missing
            )
            x = standardise.read_by(model, x)
        else:
            late = self._checks_late(x)
            if not late:
                x = self._features(x)
            y, task = self._targets(y, len(x), missing)
            w = weights.sample_weight(sample_weight, len(x))
            if late:
                data = Data(x, y, *weights.combined(y, w, missing=missing))
                sums = self._engine.evaluate_unchecked(
                    model.evaluated, data, model.pixels, model.input_standard
                )
                # Values that are wrong are named by the checks.
                right = sums is not None and (not model.standardize or isfinite(sums.loss))
                x = standardise.read_by(model, x, held=True) if right else self._features(x)
        engine = engine_for(self._engine, x)
        chosen = () if metrics is None else evaluation.chosen(metrics, model, task)
        return evaluation.evaluate(model, engine, (x, y, w), task, chosen, missing, sums)

    def _checks_late(self, x: Any) -> bool:
        """Return whether an engine may check the values of x while it computes the loss."""
        model = self._model
        return (
            type(x) is np.ndarray
            and x.ndim == 2
            and len(x) > 0
            and x.shape[1] == model.architecture.n_in
            and model.target_standard is None
            and not standardise.lacks(model)
        )

    def loss_and_gradient(
        self,
        x: Any,
        y: Any,
        l2: float = 0.0,
        *,
        sample_weight: Any = None,
        class_weight: Any = None,
        missing_targets: str = "error",
    ) -> tuple[float, Array]:
        """Return mean loss plus ½·l2·Σw² and its gradient, without dropout.

        With ``standardize_targets`` it is the loss of standardised targets, which training
        minimises.

        Parameters
        ----------
        x, y : array
            As in ``fit``; labels must be among ``classes``.
        l2 : float
            As in ``fit``.
        sample_weight, class_weight, missing_targets
            As in ``fit``. The mean is Σ weight · loss / Σ weight; ``"balanced"`` counts these rows.

        Returns
        -------
        loss : float
        gradient : ndarray
            A new flat vector in the order of ``parameters``.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        l2 = arguments.number(l2, "l2", least=0)
        missing = weights.ignores_missing(missing_targets)
        x = self._features(x)
        if self.architecture.batch_layers and len(x) < 2:
            raise ValueError(
                f"x: found {len(x)} row, expected two or more, since batch norm is used"
            )
        y, task = self._targets(y, len(x), missing)
        w = weights.sample_weight(sample_weight, len(x))
        by_class, _ = weights.class_weight(class_weight, y, task, self.architecture)
        combined = weights.combined(y, w, by_class, missing=missing)
        from ..backends.contract import Data, ObjectiveSettings

        data = Data(x, standardise.scaled_targets(self._model, y), *combined)
        settings = ObjectiveSettings(l2=l2)
        return self._engine.objective(data, settings)(self._model.flat)
