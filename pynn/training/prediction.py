"""``Prediction``: the methods of ``Network`` that compute outputs, measures and gradients."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import features, targets, weights
from ..checks.columns import names_of, require_columns
from ..data.sources import as_source
from ..files.disk import shown
from ..spec import arguments
from ..spec.functions import Loss
from ..spec.losses import GaussianNLL
from . import evaluation, standardise
from .properties import ModelProperties
from .stream import engine_for

if TYPE_CHECKING:
    from ..backends.contract import Engine, Inputs
    from ..data.table import Table

Array = np.ndarray


class Prediction(evaluation.Scored, ModelProperties):
    """Base class of an object whose ``_engine`` computes the model ``_model``."""

    _engine: Engine

    @property
    def _task(self) -> targets.Task:
        return self._model.known_task

    def _features(self, x: Any, name: str = "x") -> Inputs:
        model = self._model
        require_columns(x, model.columns, name)
        _require_encoded(x, model.table)
        x = features.features(x, self.architecture, name, model.pixels, model.input_format)
        return standardise.read_by(model, x)

    def _inputs(self, x: Any) -> Any:
        """Return checked x, which may be a stream."""
        source = as_source(x)
        if source is None:
            return self._features(x)
        from . import stream_rows

        return standardise.read_by(self._model, stream_rows.inputs_of(source, self._model))

    def _outputs(self, x: Any) -> Array:
        inputs = self._inputs(x)
        return standardise.outputs(self._model, engine_for(self._engine, inputs), inputs)

    def _targets(self, y: Any, rows: int, missing: bool = False) -> tuple[Array, targets.Task]:
        model = self._model
        return targets.targets(
            *(y, rows, model.architecture, model.task),
            missing=missing,
            number_format=model.target_format,
        )

    def predict(self, x: Any) -> Array:
        """Return the most probable class of each row, or the values of a regression.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``.

        Returns
        -------
        ndarray
            Labels (n,) from ``classes``; after training on multilabel targets, int64 zeros and
            ones (n, n_out); for regression values in ``dtype``, (n, n_out), or (n,) if y was (n,).
            They are means with the losses poisson, gamma, tweedie and gaussian_nll. For a list of k
            quantiles they are (n, k), or (n, targets, k) for several columns of y. With
            ``standardize_targets`` they are float64, in the original unit.

        Raises
        ------
        TypeError, ValueError
            If x does not fit.

        Warns
        -----
        RuntimeWarning
            If outputs that determine labels are NaN or infinite.
        """
        out = self._outputs(x)
        task = self._task
        loss = self.architecture.loss_function
        if task.kind == "values":
            if isinstance(loss, Loss):
                return out.reshape(-1) if task.flat else out
            values: Array = loss.predictions(out, task.flat)
            return values
        if not np.isfinite(out).all():
            _warn_of_labels(out)
        if not loss.probabilities:
            out = loss.measured(out) if out.shape[1] == 1 or task.classes is None else out
        return task.labels(out)

    def predict_proba(self, x: Any) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``.

        Returns
        -------
        ndarray (n, classes), in ``dtype``
            Columns in the order of ``classes``; for one output, no and yes. The values
            are the outputs: they sum to 1 for softmax, and each lies in [0, 1] for sigmoid.

        Raises
        ------
        TypeError, ValueError
            If x does not fit, the network was trained for regression, or its loss is a hinge.
        """
        if not self.architecture.loss_function.probabilities:
            raise ValueError(
                f"predict_proba: found loss {self.architecture.loss!r}, whose outputs are no "
                "probabilities, expected 'cross_entropy', 'binary_cross_entropy' or 'focal'; use "
                "predict"
            )
        if self._task.kind == "values":
            raise ValueError(
                "predict_proba: found a network for regression, expected one with classes; "
                "use predict, or set net.classes if its outputs represent classes"
            )
        inputs = self._inputs(x)
        out = engine_for(self._engine, inputs).forward(self._model.evaluated, inputs)
        return np.concatenate([1 - out, out], axis=1) if out.shape[1] == 1 else out

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
        out = self._outputs(x)
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
        if source is not None:
            from . import stream_rows

            model = self._model
            x, y, w, task = stream_rows.rows_of(
                source, model, model.task, model.columns, None, missing
            )
            x = standardise.read_by(model, x)
        else:
            x = self._features(x)
            y, task = self._targets(y, len(x), missing)
            w = weights.sample_weight(sample_weight, len(x))
        engine = engine_for(self._engine, x)
        chosen = () if metrics is None else evaluation.chosen(metrics, self._model, task)
        return evaluation.evaluate(self._model, engine, (x, y, w), task, chosen, missing)

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


def _require_encoded(x: Any, table: Table | None) -> None:
    """Raise ValueError for a data frame with the columns of the table instead of its inputs."""
    names = None if table is None else names_of(x)
    if table is None or names is None or names == table.inputs:
        return
    found = next((name for name in names if name in {one.name for one in table.columns}), None)
    if found is not None:
        raise ValueError(
            f"x: found a data frame with the column {shown(repr(found))} of net.table, expected "
            f"the {len(table.inputs)} inputs that the table makes of it; use net.table.x(frame)"
        )


def _warn_of_labels(out: Array) -> None:
    """Warn of the first output (n, n_out) that is not finite and determines a label."""
    row, k = np.argwhere(~np.isfinite(out))[0].tolist()
    warnings.warn(
        f"predict: found {out[row, k]} at row {row}, output {k} (counted from 0), expected finite "
        "outputs: this row has no most probable label; look for NaN in net.weights and "
        "net.biases, and at the size of the numbers in x",
        RuntimeWarning,
        stacklevel=3,
    )
