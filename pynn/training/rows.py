"""The rows of one call of ``fit``: x, y, weights and ``validation``, checked and converted."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..arrays.sparse import Sparse
from ..backends import gaps
from ..backends.contract import Data, Engine
from ..checks import features, targets, weights
from ..checks.columns import Columns, names_of, require_columns
from ..checks.targets import Task
from ..data.sources import as_source
from ..data.stream import Source
from ..spec import arguments
from ..spec.optimizers import LBFGS, Optimizer
from . import stream_rows
from .job import Arguments
from .model import Model
from .split import codes_of, held_out

Array = np.ndarray
Arrays = tuple[Array | Sparse, Array, Array | None]
"""x, y and sample weights."""
OWN_ROWS = "rows of their own"
"""Describes validation rows that were given, in checkpoints."""


class Held(NamedTuple):
    """The rows to validate on."""

    data: Data | None
    weight: Array | None
    """Weights of the rows, without the shares of known targets."""
    share: float | str | None
    """The share held out, or a text if rows were given; checkpoints hold it."""
    arrays: dict[str, Any]
    """The data by the names of their arguments, if rows were given; None for no weights."""


NO_ROWS = Held(None, None, None, {})


class FitRows(NamedTuple):
    """The data of a call."""

    training: Data
    weight: Array | None
    """Weights of the rows to train on, without the shares of known targets."""
    held: Held
    stratified: bool
    """Whether the same share of each class was held out."""
    class_weight: str | list[float] | None
    """The argument, with a weight for each class; checkpoints hold it."""
    task: Task
    pixels: bool | None
    columns: Columns | None
    arrays: dict[str, Array | Sparse]
    """All data by the names of their arguments."""


class _Meaning(NamedTuple):
    """What rows to train on mean; validation rows are checked with it."""

    model: Model
    task: Task
    pixels: bool | None
    columns: Columns | None
    missing: bool
    """Whether NaN in targets are left out."""


# --- Rows to train on -----------------------------------------------------------------------------


def rows_of_arrays(given: Arguments, model: Model, engine: Engine, smoothing: float) -> FitRows:
    """Check and convert x, y, their weights and ``validation``."""
    if given.y is None and hasattr(given.x, "to_batches"):
        raise TypeError(
            f"x: found a {type(given.x).__name__} of Arrow without y, expected "
            "pynn.data.Arrow(x, label='column')"
        )
    net = model.architecture
    missing = weights.ignores_missing(given.missing_targets)
    require_columns(given.x, model.columns, "x")
    x, pixels = features.training_features(
        given.x, net, model.pixels, number_format=model.input_format
    )
    if isinstance(x, Sparse) and net.input_noise:
        raise ValueError(
            "x: found sparse rows for a network with input_noise, expected dense rows: noise makes "
            "every value different from 0"
        )
    y, task = targets.targets(
        given.y, len(x), net, model.task, missing=missing, number_format=model.target_format
    )
    w = weights.sample_weight(given.sample_weight, len(x))
    meaning = _Meaning(model, task, pixels, _columns(given.x, model), missing)
    arrays: dict[str, Any] = {"x": x, "y": y, "sample_weight": w}
    held, codes = NO_ROWS, None
    if _has_validation(given.validation):
        codes = _strata(given, y, task)
        (x, y, w), held = _validation(given.validation, (x, y, w), meaning, codes)
        if gaps.lacks(engine.name, "sparse") and held.data and isinstance(held.data.x, Sparse):
            # It refuses sparse rows, but would do so only after the first epoch.
            engine.forward(model.flat, held.data.x)
    by_class, class_weight = weights.class_weight(given.class_weight, y, task, net)
    name = "sample_weight" if by_class is None else "sample_weight, class_weight"
    kept = "rows to train on" if isinstance(held.share, float) else "rows"
    weight, _ = weights.combined(y, w, by_class, missing=False, name=name, rows=kept)
    combined = weights.combined(y, weight, missing=missing, name=name, rows=kept)
    if smoothing:
        y = targets.smoothed(y, net, smoothing)
    return FitRows(
        training=Data(x, y, *combined),
        weight=weight,
        held=held,
        stratified=codes is not None,
        class_weight=class_weight,
        task=task,
        pixels=pixels,
        columns=meaning.columns,
        arrays=_without_none({**arrays, **held.arrays}),
    )


def _columns(x: Any, model: Model) -> Columns | None:
    """Return the names of the columns, which the first training decides."""
    if model.task is not None or model.columns is not None:
        return model.columns
    found = names_of(x)
    return found if found is not None and len(found) == model.architecture.n_in else None


def _without_none(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if array is not None}


def rows_of_source(
    given: Arguments, model: Model, optimizer: Optimizer, source: Source, smoothing: float
) -> FitRows:
    """Check what can be checked before training on a source, and ``validation``."""
    _refuse_for_streams(given, model, optimizer)
    missing = weights.ignores_missing(given.missing_targets)
    size = arguments.batch_size(given.batch_size)
    if given.shuffle == "blocks" and not source.reorders:
        raise ValueError("shuffle: found 'blocks' with batches, whose order is that of x")
    by_batches = source.batches and isinstance(given.batch_size, arguments.Default)
    x, task, pixels, columns, class_weight = stream_rows.training_rows(
        *(source, model, given.class_weight, None if by_batches else size, bool(given.shuffle)),
        *(missing, smoothing),
    )
    meaning = _Meaning(model, task, pixels, columns, missing)
    held = NO_ROWS
    if _has_validation(given.validation):
        own = _rows_of_stream(given.validation, meaning)
        if own is None:
            _require_known_columns(given.validation, meaning)
            nothing = np.empty(0), np.empty(0), None
            _, own, _ = _split(given.validation, nothing, meaning, None)
        held = _held(own, None, missing)
    return FitRows(
        training=Data(x, np.empty(0)),  # type: ignore[arg-type]
        weight=None,
        held=held,
        stratified=False,
        class_weight=class_weight,
        task=task,
        pixels=pixels,
        columns=columns,
        arrays=_without_none({"x": x, **held.arrays}),
    )


def _refuse_for_streams(given: Arguments, model: Model, optimizer: Optimizer) -> None:
    """Raise ValueError for arguments that need all rows in memory."""
    number = isinstance(given.validation, (int, float, np.number)) and given.validation
    refused = {
        "validation": (number, "rows of their own, such as another source"),
        "training_metrics": (given.training_metrics is True, "False, or validation=…"),
        "optimizer": (isinstance(optimizer, LBFGS), "one that trains on batches"),
        "batch_size": (given.batch_size in (None, "full"), "a number of rows"),
        "standardize_targets": (
            model.standardize_targets and given.missing_targets == "ignore",
            "False with missing_targets='ignore'",
        ),
    }
    for name, (wrong, expected) in refused.items():
        if wrong:
            found = getattr(given, name, True)
            raise ValueError(
                f"{name}: found {found!r} with rows that are read part by part, expected {expected}"
            )
    if model.active_profile is not None:
        raise ValueError("profile: found rows that are read part by part, expected arrays")


# --- Validation -----------------------------------------------------------------------------------


def _has_validation(validation: Any) -> bool:
    number = isinstance(validation, (int, float, np.number)) and not isinstance(validation, bool)
    return validation is not None and not (number and validation == 0)


def _strata(given: Arguments, y: Array, task: Task) -> Array | None:
    """Return the class of each row, if the same share of each is to be held out."""
    if not given.stratify or isinstance(given.validation, (tuple, list)):
        return None
    if given.resume and given.checkpoint is not None:
        from .resume import is_older_split

        if is_older_split(given.checkpoint.path):
            return None
    return codes_of(y, task)


def _validation(
    validation: Any, rows: Arrays, meaning: _Meaning, codes: Array | None
) -> tuple[Arrays, Held]:
    """Return rows to train on, and rows to validate on."""
    _require_known_columns(validation, meaning)
    own, share = _rows_of_stream(validation, meaning), None
    if own is None:
        rows, own, share = _split(validation, rows, meaning, codes)
    return rows, _held(own, share, meaning.missing)


def _require_known_columns(validation: Any, meaning: _Meaning) -> None:
    if isinstance(validation, (tuple, list)) and validation:
        require_columns(validation[0], meaning.columns, "validation[0]")


def _rows_of_stream(validation: Any, meaning: _Meaning) -> Any:
    """Return x, targets and weights of a source of validation rows; None for other rows."""
    pair = isinstance(validation, tuple) and 2 <= len(validation) <= 3
    x, y, weight = (*validation, None)[:3] if pair else (validation, None, None)
    if isinstance(validation, (int, float, np.number, str)):
        return None
    source = as_source(x, y, weight, "validation")
    if source is None:
        return None
    model, task, pixels, columns, missing = meaning
    return stream_rows.rows_of(source, model, task, columns, pixels, missing)[:3]


def _split(
    validation: Any, rows: Arrays, meaning: _Meaning, codes: Array | None
) -> tuple[Arrays, Arrays, float | None]:
    """Return rows to train on, rows to validate on, and the share held out (None if rows were
    given)."""
    if isinstance(validation, (tuple, list)) and len(validation) in (2, 3):
        return rows, _given_rows(validation, meaning), None
    share = validation if isinstance(validation, (float, np.floating)) else math.nan
    if not 0 < share < 1:
        found = repr(validation) if np.isscalar(validation) else f"a {type(validation).__name__}"
        if isinstance(validation, (tuple, list)):
            found += f" of {len(validation)}"
        raise ValueError(
            f"validation: found {found}, expected a pair (x, y), or (x, y, sample_weight), or a "
            "share of the rows between 0 and 1, or None"
        )
    x, y, w = rows
    out = held_out(len(x), share, meaning.model.seed, codes)
    kept, held = (
        (x[chosen], y[chosen], None if w is None else w[chosen]) for chosen in (~out, out)
    )
    return kept, held, float(share)


def _given_rows(validation: Any, meaning: _Meaning) -> Arrays:
    """Return x, y and sample weights of a validation set that was given."""
    names = "validation[0]", "validation[1]"
    model, net = meaning.model, meaning.model.architecture
    x = features.features(validation[0], net, names[0], meaning.pixels, model.input_format)
    y, _ = targets.targets(
        *(validation[1], len(x), net, meaning.task, names[1], names[0]),
        *(meaning.missing, model.target_format),
    )
    given = validation[2] if len(validation) == 3 else None
    return x, y, weights.sample_weight(given, len(x), "validation[2]", names[0])


def _held(rows: Arrays, share: float | None, missing: bool) -> Held:
    """Return rows to validate on, of which ``share`` was held out (None if they were given)."""
    x, y, weight = rows
    if share is not None:
        name = f"rows that validation={share} holds out"
        combined = weights.combined(y, weight, missing=missing, rows=name)
        return Held(Data(x, y, *combined), weight, share, {})
    names = {"name": "validation[2]", "target": "validation[1]"}
    combined = weights.combined(y, weight, missing=missing, **names)
    arrays = {f"validation[{k}]": array for k, array in enumerate(rows)}
    return Held(Data(x, y, *combined), weight, OWN_ROWS, arrays)
