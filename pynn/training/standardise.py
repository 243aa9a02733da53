"""Standardised inputs and targets of one model: their statistics, and what is computed with them.

Standardised inputs are computed while a backend reads x. Targets are standardised before training,
which then minimises the loss of standardised targets; outputs and losses are converted back to the
original unit here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standard, Standardized, column_standard
from ..backends.contract import Engine, Inputs
from ..checks.standardised import require_distinct, require_held
from ..spec.architecture import Architecture
from ..spec.losses import LossFunction
from .model import Model
from .stream import Stream, stream_of

if TYPE_CHECKING:
    from ..checks.columns import Columns
    from ..checks.features import Pixels
    from ..checks.targets import Task
    from ..data.table import Table
    from .history import Record
    from .job import Job

Array = np.ndarray


class EvaluatedModel(Protocol):
    """The attributes of a ``Model`` that predictions depend on."""

    architecture: Architecture
    pixels: Pixels
    columns: Columns | None
    table: Table | None
    standardize: bool
    standardize_targets: bool
    input_standard: Standard | None
    target_standard: Standard | None
    task: Task | None

    @property
    def evaluated(self) -> Array: ...
    @property
    def input_format(self) -> str: ...
    @property
    def known_task(self) -> Task: ...


def as_flag(value: Any, name: str) -> bool:
    """Return an argument that is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: found {value!r}, expected True or False")
    return bool(value)


def check_targets(net: Architecture) -> None:
    """Raise ValueError unless the targets of a network can be standardised.

    Standardised values have any sign, and the identity reaches all of them.
    """
    loss, output = net.loss_function, net.activations[-1]
    least = getattr(loss, "least_target", None)
    if not net.regression or least is not None:
        raise ValueError(
            f"standardize_targets: found True with loss {net.loss_text!r}, expected False, or a "
            "loss for values of any sign, such as 'mse'"
        )
    if output != "identity":
        raise ValueError(
            f"standardize_targets: found True with the output activation {output!r}, expected "
            "'identity'"
        )


def read_by(model: EvaluatedModel, x: Any, name: str = "x", *, held: bool = False) -> Any:
    """Return checked x as the engine of a model reads it.

    ``held`` says that the network's dtype can hold the standardised values. Rows of a stream are
    searched when they are read.

    Raises
    ------
    ValueError
        If the model has no statistics yet; if x is sparse, and the means are not 0; or if a
        standardised value is too large for the network's dtype.
    """
    require_standards(model)
    found = _standardized(x, model.input_standard, name)
    if not held:
        _require_held(found, model.architecture.dtype, name)
    return found


def lacks(model: EvaluatedModel) -> bool:
    """Return whether means and scales that a model standardises with are not known yet."""
    return (model.standardize and model.input_standard is None) or (
        model.standardize_targets and model.target_standard is None
    )


def require_standards(model: EvaluatedModel) -> None:
    """Raise ValueError if a model standardises inputs or targets, and has no statistics yet."""
    unknown = "inputs" if model.standardize and model.input_standard is None else ""
    if model.standardize_targets and model.target_standard is None:
        unknown = "targets"
    if unknown:
        raise ValueError(
            "standardize: found a network that has not been trained, so that means and scales of "
            f"its {unknown} are not known; expected fit first"
        )


def outputs(model: Model, engine: Engine, x: Inputs) -> Array:
    """Return the outputs (n, n_out) in the original unit, float64 if targets are standardised."""
    return in_unit(model, engine.forward(model.evaluated, x))


def in_unit(model: EvaluatedModel, out: Array) -> Array:
    """Return outputs (n, n_out) in the original unit, float64 if targets are standardised."""
    unit = output_unit(model)
    if unit is None:
        return out
    factor, summand = unit
    with np.errstate(all="ignore"):
        original: Array = out * factor + summand
    return original


def output_unit(model: EvaluatedModel) -> tuple[Array, Array] | None:
    """Return factor and summand of each output (n_out,) that convert it to the original unit; None
    unless targets are standardised.
    """
    standard = model.target_standard
    if standard is None:
        return None
    loss, factor, summand = model.architecture.loss_function, standard.scale, standard.mean
    if isinstance(loss, LossFunction):
        factor, summand = loss.outputs_in_unit(factor, summand)
    return factor, summand


def original_loss(
    model: Model,
    engine: Engine,
    x: Inputs,
    y: Array,
    sample_weight: Array | None = None,
    missing: bool = False,
) -> float:
    """Return the mean loss in the original unit of standardised targets.

    Parameters
    ----------
    x
        As the engine reads it.
    y
        Targets (n, n_targets) in their original unit, float64.
    sample_weight, missing
        As in ``contract.Data``.
    """
    from ..backends import reference

    net, standard = model.architecture, model.target_standard
    assert standard is not None
    loss = net.loss_function
    if isinstance(loss, LossFunction) and loss.degree is None:
        conversion = loss.loss_in_unit(standard.scale, _shares(y, sample_weight))
        if conversion is not None:
            scaled = scaled_targets(model, y)
            loss_sum, _, weight = engine.evaluate(
                model.evaluated, x, scaled, sample_weight, missing
            )
            return loss_sum / weight * conversion[0] + conversion[1]
    with np.errstate(all="ignore"):
        out = outputs(model, engine, x)
        found = reference.loss_and_output_gradient(net, out, y, missing=missing)
        losses, _, total = reference.weigh(*found, sample_weight)
        return float(losses.sum()) / total


def scaled_targets(model: Model, y: Array) -> Array:
    """Return targets as training of the model takes them."""
    return y if model.target_standard is None else _scaled(y, model.target_standard, model)


# --- Training -------------------------------------------------------------------------------------


def prepared(job: Job, model: Model) -> Job:
    """Return a job with standardised rows and targets, and the statistics that the model gets.

    Statistics that the model has are used again; otherwise the rows to train on give them.

    Raises
    ------
    ValueError
        If the targets are classes, or the numbers are too large.
    """
    if model.standardize:
        x, dtype = job.data.x, model.architecture.dtype
        assert not isinstance(x, Standardized)
        standard = model.input_standard or _computed(x, "x")
        share, own, others = job.compared.get("validation"), "x", "validation[0]"
        if isinstance(share, float):  # rows are no longer counted in x
            own, others = "rows to train on", f"rows that validation={share} holds out"
        if model.input_standard is None and not isinstance(x, Stream):
            require_distinct(x, standard, dtype, own)

        def read(rows: Inputs, name: str = others) -> Inputs:
            found = _standardized(rows, standard, name)
            _require_held(found, dtype, name)
            return found

        job = replace(
            job,
            data=job.data._replace(x=read(x, own)),
            held=None if job.held is None else job.held._replace(x=read(job.held.x)),
            measured=None if job.measured is None else job.measured.reading(read),
            input_standard=standard,
        )
    if model.standardize_targets:
        if job.task.kind != "values":
            raise ValueError(
                "standardize_targets: found True with classes in y, expected values to predict"
            )
        rows, _ = stream_of(job.data.x)
        if rows is not None:
            return _with_scaled_stream(job, rows, model)
        y = job.data.y
        standard = model.target_standard or _known(y)
        job = replace(
            job,
            data=job.data._replace(y=_scaled(y, standard, model)),
            target_standard=standard,
            values=y,
        )
    return job


def _with_scaled_stream(job: Job, rows: Stream, model: Model) -> Job:
    """Return a job whose stream standardises its targets."""
    from . import stream_rows

    standard = model.target_standard or stream_rows.target_standard(rows)
    loss = model.architecture.loss_function
    if not isinstance(loss, LossFunction) or loss.loss_in_unit(standard.scale, None) is None:
        raise ValueError(
            f"standardize_targets: found True with loss {model.architecture.loss_text!r} and "
            f"{len(standard.scale)} targets in rows that are read part by part, expected False, or "
            "one target and a loss such as 'mse'"
        )
    x: Any = job.data.x
    scaled: Any = stream_rows.scaling_targets(rows, standard)
    x = replace(x, rows=scaled) if isinstance(x, Standardized) else scaled
    return replace(job, data=job.data._replace(x=x), target_standard=standard)


class Reported:
    """The losses of one call of ``fit`` in the original unit of the targets.

    The training loss is converted by ``LossFunction.loss_in_unit``; if that has no conversion, it
    is measured after the epoch.
    """

    def __init__(self, model: Model, engine: Engine, job: Job) -> None:
        assert job.target_standard is not None
        self._model, self._engine, self._job = model, engine, job
        loss = model.architecture.loss_function
        self._conversion: tuple[float, float] | None = None
        if isinstance(loss, LossFunction):
            shares = None
            if job.values is not None:  # they are not in memory for a stream
                shares = _shares(job.values, job.data.sample_weight)
            self._conversion = loss.loss_in_unit(job.target_standard.scale, shares)

    def converted(self, record: Record) -> Record:
        """Return a record with its loss in the original unit, if it can be converted."""
        if self._conversion is None:
            return record
        factor, summand = self._conversion
        return record._replace(loss=record.loss * factor + summand)

    def complete(self, record: Record) -> Record:
        """Return the record of a complete epoch; the model has its parameters."""
        held, values = self._job.held, self._job.values
        if self._conversion is None:
            assert values is not None
            data = self._job.data._replace(y=values)
            loss = original_loss(self._model, self._engine, *data)
            record = record._replace(loss=loss)
        if held is not None:
            loss = original_loss(self._model, self._engine, *held)
            record = record._replace(validation_loss=loss)
        return record


# --- Both -----------------------------------------------------------------------------------------


def _computed(columns: Any, name: str) -> Standard:
    try:
        if isinstance(columns, Stream):
            from . import stream_rows

            return stream_rows.column_standard(columns)
        return column_standard(columns)
    except OverflowError as error:
        raise ValueError(
            f"{name}: found values in column {error} (counted from 0) whose standard deviation "
            "float64 cannot hold, expected smaller numbers"
        ) from None


def _known(y: Array) -> Standard:
    """Return means and scales of targets (n, n_targets), of which NaN are left out.

    A column without any other number has mean 0 and scale 1.
    """
    if not np.isnan(y).any():
        return _computed(y, "y")
    known = ~np.isnan(y)
    columns = [
        _computed(y[known[:, k], k : k + 1] if known[:, k].any() else np.zeros((1, 1)), "y")
        for k in range(y.shape[1])
    ]
    return Standard.of(
        np.concatenate([column.mean for column in columns]),
        np.concatenate([column.scale for column in columns]),
    )


def _shares(y: Array, sample_weight: Array | None) -> Array | None:
    """Return the share of each column (n_targets,) in the weights of the mean loss of all rows.

    A row has the mean loss of its known targets, with the weight of the row. None if all targets
    are known.
    """
    known = ~np.isnan(y)
    if known.all():
        return None
    assert sample_weight is not None  # missing targets give weights
    of_row = sample_weight / np.maximum(known.sum(axis=1), 1)
    by_column: Array = of_row @ known
    return by_column / by_column.sum()


def _scaled(y: Array, standard: Standard, model: Model) -> Array:
    with np.errstate(all="ignore"):
        values: Array = (y - standard.mean) * standard.inverse
        return values.astype(model.dtype)


def _standardized(x: Inputs, standard: Standard | None, name: str) -> Inputs:
    if standard is None:
        return x
    assert not isinstance(x, Standardized)
    if isinstance(x, Sparse) and standard.mean.any():
        raise ValueError(
            f"{name}: found a sparse matrix for a network whose means of the inputs were computed "
            f"from dense rows; expected dense rows, such as {name}.toarray()"
        )
    return Standardized(x, standard)


def _require_held(x: Inputs, dtype: str, name: str) -> None:
    """Raise ValueError if standardised rows in memory have a value that ``dtype`` cannot hold."""
    if isinstance(x, Standardized) and not isinstance(x.rows, Stream):
        require_held(x.rows, x.standard, dtype, name)
