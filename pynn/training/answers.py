"""``Answers``: predict and predict_proba of a model, for ``Network`` and ``Predictor``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checks import features
from ..checks.columns import names_of, require_columns
from ..checks.targets import Task
from ..data.sources import as_source
from ..files.disk import shown
from ..spec.architecture import Architecture
from ..spec.functions import Loss
from . import standardise
from .stream import engine_for

if TYPE_CHECKING:
    from ..backends.contract import Engine, Inputs
    from ..data.table import Table

Array = np.ndarray


class Meaning(NamedTuple):
    """What follows from an architecture and a task, computed once for many predictions."""

    architecture: Architecture
    task: Task | None
    probabilities: bool
    """Whether the outputs are the probabilities of all classes."""
    classes: Array | None
    """The labels of outputs of which the largest one decides, or None."""


class Answers:
    """Base class of an object whose ``_engine`` computes the model ``_model``."""

    _engine: Engine
    _model: Any
    _meaning: Meaning | None = None

    def predict(self, x: Any, *, out: Array | None = None) -> Array:
        """Return the most probable class of each row, or the values of a regression.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``.
        out : ndarray, optional
            A C-contiguous array of the shape and dtype of the result, to write it to. It must not
            overlap x.

        Returns
        -------
        ndarray
            Labels (n,) from ``classes``; after training on multilabel targets, int64 zeros and
            ones (n, n_out); for regression values in ``dtype``, (n, n_out), or (n,) if y was (n,).
            They are means with the losses poisson, gamma, tweedie and gaussian_nll. For a list of k
            quantiles they are (n, k), or (n, targets, k) for several columns of y. With
            ``standardize_targets`` they are float64, in the original unit. It is ``out`` if given.

        Raises
        ------
        TypeError, ValueError
            If x or ``out`` does not fit.

        Warns
        -----
        RuntimeWarning
            If outputs that determine labels are NaN or infinite.
        """
        meaning = self._known_meaning()
        if out is not None:
            self._refuse_parameters(out)
        found = self._outputs(x)
        if meaning.classes is not None:
            index = self._engine.labels(found)
            if index is not None:
                return _written(meaning.classes[index], x, out)
        return _written(self._answer(found), x, out)

    def predict_proba(self, x: Any, *, out: Array | None = None) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``fit``.
        out : ndarray (n, classes), optional
            A C-contiguous array in ``dtype`` to write the result to. It must not overlap x.

        Returns
        -------
        ndarray (n, classes), in ``dtype``
            Columns in the order of ``classes``; for one output, no and yes. The values are the
            outputs: they sum to 1 for softmax, and each lies in [0, 1] for sigmoid. It is ``out``
            if given.

        Raises
        ------
        TypeError, ValueError
            If x or ``out`` does not fit, the network was trained for regression, or its loss is a
            hinge.
        """
        meaning = self._known_meaning()
        if not meaning.probabilities:
            self._refuse_probabilities()
        if out is not None:
            self._refuse_parameters(out)
        if out is None or meaning.architecture.n_out == 1:
            found = self._outputs(x)
            if found.shape[1] == 1:
                found = np.concatenate([1 - found, found], axis=1)
            return _written(found, x, out)
        rows = x.shape[0] if isinstance(x, np.ndarray) and x.ndim > 1 else None
        if rows is None:  # the checks find the number of rows
            return _written(self._outputs(x), x, out)
        architecture = meaning.architecture
        _check_out(out, x, (rows, architecture.n_out), np.dtype(architecture.dtype))
        return self._outputs(x, out)

    def _refuse_parameters(self, out: Any) -> None:
        evaluated = self._model.evaluated  # the moving average, if there is one
        own = getattr(self._model, "flat", evaluated)
        if isinstance(out, np.ndarray) and any(
            np.may_share_memory(out, values) for values in (own, evaluated)
        ):
            raise ValueError("out: found an array that overlaps the parameters")

    # --- Outputs and their meaning --------------------------------------------------------------

    def _features(self, x: Any, name: str = "x") -> Inputs:
        model = self._model
        require_columns(x, model.columns, name)
        _require_encoded(x, model.table)
        x = features.features(x, model.architecture, name, model.pixels, model.input_format)
        return standardise.read_by(model, x, name)

    def _inputs(self, x: Any) -> Any:
        """Return checked x, which may be a stream."""
        source = as_source(x)
        if source is None:
            return self._features(x)
        from . import stream_rows

        return standardise.read_by(self._model, stream_rows.inputs_of(source, self._model))

    def _outputs(self, x: Any, out: Array | None = None) -> Array:
        """Return the engine's outputs (n, n_out) for x, which is checked, in ``out`` if given.

        The engine checks the values of plain arrays while it reads them; if one is wrong, the
        checks of all other inputs find it and name it. It does not compare standardised values
        with the largest number of the dtype: outputs that are not finite (no labels) show them.
        """
        model = self._model
        if type(x) is np.ndarray and not standardise.lacks(model):
            found = self._engine.forward_unchecked(
                model.evaluated, x, model.pixels, model.input_standard, out
            )
            if found is not None and (
                model.input_standard is None or self._engine.labels(found) is not None
            ):
                return found
        inputs = self._inputs(x)
        return engine_for(self._engine, inputs).forward(model.evaluated, inputs, out)

    def _known_meaning(self) -> Meaning:
        meaning, architecture, task = self._meaning, self._model.architecture, self._model.task
        if meaning is None or meaning.architecture is not architecture or meaning.task is not task:
            loss, known = architecture.loss_function, self._model.known_task
            several = architecture.n_out > 1 and known.classes is not None
            decides = several and not isinstance(loss, Loss) and known.kind != "values"
            meaning = self._meaning = Meaning(
                architecture,
                task,
                loss.probabilities and known.kind != "values",
                known.classes if decides else None,
            )
        return meaning

    def _refuse_probabilities(self) -> None:
        architecture = self._model.architecture
        if not architecture.loss_function.probabilities:
            raise ValueError(
                f"predict_proba: found loss {architecture.loss!r}, whose outputs are no "
                "probabilities, expected 'cross_entropy', 'binary_cross_entropy' or 'focal'; use "
                "predict"
            )
        raise ValueError(
            "predict_proba: found a network for regression, expected one with classes; "
            "use predict, or set net.classes if its outputs represent classes"
        )

    def _answer(self, out: Array) -> Array:
        """Return what outputs (n, n_out) predict."""
        task = self._model.known_task
        loss = self._model.architecture.loss_function
        out = standardise.in_unit(self._model, out)
        if task.kind == "values":
            if isinstance(loss, Loss):
                return out.reshape(-1) if task.flat else out
            return loss.predictions(out, task.flat)
        if not np.isfinite(out).all():
            _warn_of_labels(out)
        if not loss.probabilities:
            out = loss.measured(out) if out.shape[1] == 1 or task.classes is None else out
        return task.labels(out)


# --- Checks ---------------------------------------------------------------------------------------


def _written(found: Array, x: Any, out: Array | None) -> Array:
    """Return a result in ``out`` if that is given."""
    if out is None:
        return found
    _check_out(out, x, found.shape, found.dtype)
    out[...] = found
    return out


def _check_out(out: Any, x: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise unless ``out`` can hold a result that is computed from x."""
    if type(out) is not np.ndarray:
        raise TypeError(f"out: found a {type(out).__name__}, expected a numpy.ndarray")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"out: found shape {out.shape} and dtype {out.dtype}, expected {shape} and {dtype}"
        )
    if not out.flags.c_contiguous or not out.flags.writeable:
        found = "a read-only" if out.flags.c_contiguous else "a strided"
        raise ValueError(f"out: found {found} array, expected a writeable and C-contiguous one")
    if isinstance(x, np.ndarray) and np.may_share_memory(out, x):
        raise ValueError("out: found an array that overlaps x, expected memory of its own")


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
        stacklevel=4,
    )
