"""One call of ``Network.fit``: checking its arguments, and training in turn with other calls."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays.sparse import Sparse
from ..backends import gaps
from ..backends.contract import Data, Engine, Inputs, TrainerSettings
from ..checks import features, targets, weights
from ..checks.columns import Columns, names_of, require_columns
from ..checks.targets import Task
from ..data.sources import as_source
from ..data.stream import Source
from ..spec import arguments
from ..spec.architecture import Architecture
from ..spec.groups import Group, Groups
from ..spec.optimizers import LBFGS, Optimizer, as_optimizer
from . import stream, stream_rows
from .blocks import Blocks
from .callbacks import as_callbacks, check_monitors
from .checkpoint import Checkpoint
from .history import History
from .job import Arguments, Job
from .loop import Loop
from .model import Call, Model, TrainingLock
from .progress import check_progress
from .rates import Rates
from .split import codes_of, held_out
from .standardise import prepared
from .stream import Stream

if TYPE_CHECKING:
    from .measurement import Measurement

Array = np.ndarray
Rows = tuple[Array | Sparse, Array, Array | None]
"""x, y and sample weights."""
OWN_ROWS = "rows of their own"
"""Describes validation rows that were given, in checkpoints."""


def fit(owner: Any, model: Model, engine: Engine, lock: TrainingLock, given: Arguments) -> History:
    """Check the arguments of ``fit``, train, and return the records of the call.

    Parameters
    ----------
    owner : object
        The object whose ``fit`` was called, which callbacks receive.
    model : Model
        Trained in place.
    engine : Engine
        Computes.
    lock : TrainingLock
        The lock of the network.
    given : Arguments
        The arguments of the call.
    """
    epochs, task, pixels = model.epochs, model.task, model.pixels
    job = check(model, engine, given)
    call = Call()
    try:
        with call.running:
            # The checks read the model: they hold only if no other call has trained it since.
            lock.claim(call, model, epochs, task, pixels)
            return _train(owner, model, engine, job, given)
    finally:
        lock.remove(call)


def _train(owner: Any, model: Model, engine: Engine, job: Job, given: Arguments) -> History:
    first, records = model.epochs, len(model.history)
    by_iterations = isinstance(job.settings.optimizer, LBFGS)
    if by_iterations:
        # Imported where it is needed, since most calls train with gradients of batches.
        from . import lbfgs

        job = lbfgs.adapted(job, model, given)
    saver = resumed = None
    if job.checkpoint is not None:
        # Imported where they are needed: they import modules that take time to load.
        from .compare import describe_run
        from .resume import resume
        from .saver import Saver, require_writeable

        require_writeable(job.checkpoint.path)
        run = describe_run(model, engine, job)
        resumed = resume(job.checkpoint.path, run, job, model)
        saver = Saver(job.checkpoint, run)
    if resumed is not None:
        first, records = resumed.began, resumed.history
        job = replace(job, rates=job.rates.begun_at(first))
    epoch = model.epochs if resumed is None else resumed.model.epochs
    if epoch < first + job.epochs and (resumed is None or not resumed.stopped):
        # A schedule that fails in the first epoch leaves the network unchanged.
        past = model.history if resumed is None else resumed.model.history
        job.rates.of(epoch, job.steps, past)
    if resumed is not None:
        model.restore(resumed.model)
    job = prepared(job, model)
    if job.streams:
        engine = stream.StreamEngine(engine)
    try:
        loop = (
            lbfgs.LbfgsLoop(owner, model, engine, job)
            if by_iterations
            else Loop(owner, model, engine, job, saver, resumed)
        )
        loop.run(first, first + job.epochs)
    finally:
        if isinstance(engine, stream.StreamEngine):
            engine.close()
    return model.history[records:]


# --- Arguments ------------------------------------------------------------------------------------


def check(model: Model, engine: Engine, given: Arguments) -> Job:
    """Return the checked arguments.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    net = model.architecture
    epochs = arguments.whole(given.epochs, "epochs", 0)
    batch_size = arguments.batch_size(given.batch_size)
    optimizer = as_optimizer(given.optimizer)
    learning_rate = arguments.number(given.learning_rate, "learning_rate", above=0)
    factors, groups = _layer_rates(given.layer_rates, net), _groups(given.groups, net)
    l2 = arguments.number(given.l2, "l2", least=0)
    norms = _norms(given)
    ema = 0.0 if given.ema is None else arguments.number(given.ema, "ema", above=0, below=1)
    smoothing = targets.label_smoothing(given.label_smoothing, net)
    rates = Rates(given.schedule, learning_rate, model.epochs, model.epochs + epochs)
    _check_modes(given)
    calls = as_callbacks(given.callbacks)
    check_progress(given.progress)

    source = as_source(given.x, given.y, given.sample_weight)
    if source is None:
        if given.y is None and hasattr(given.x, "to_batches"):
            raise TypeError(
                f"x: found a {type(given.x).__name__} of Arrow without y, expected "
                "pynn.data.Arrow(x, label='column')"
            )
        rows = _rows(given, model, engine, smoothing)
    else:
        _refuse_for_streams(given, model, optimizer)
        rows = _streamed_rows(given, model, engine, source, smoothing)
    x = rows.training.x
    measured = _measurement(given, rows, net)
    known = (
        rows.held is not None,
        rows.task.kind != "values",
        {} if measured is None else measured.directions,
    )
    check_monitors(calls, *known)
    rates.require_measured(*known)
    batch = x.batch if isinstance(x, Stream) else min(batch_size or len(x), len(x))
    # Frozen layers use their running statistics; L-BFGS is refused with all batch norms.
    if {*net.batch_layers} - {*model.frozen} and not isinstance(optimizer, LBFGS):
        _require_two_rows(len(x), batch)
    shuffle = bool(given.shuffle) and (source is None or source.reorders)
    return Job(
        data=rows.training,
        held=rows.held,
        measured=measured,
        task=rows.task,
        pixels=rows.pixels,
        columns=rows.columns,
        settings=TrainerSettings(
            optimizer=optimizer,
            batch_size=batch,
            l2=l2,
            **norms,
            seed=model.seed,
            shuffle=shuffle,
            # A part of a stream is read once, and blocks are for more rows than memory holds.
            epochs=epochs if shuffle and source is None and given.shuffle != "blocks" else 1,
            watch=True,
            frozen=_frozen(model),
            layer_rates=factors,
            groups=groups,
            convention=given.convention,
            ema=ema,
        ),
        rates=rates,
        epochs=epochs,
        blocks=None if isinstance(x, Stream) else _blocks(given.shuffle, x, model.seed),
        calls=calls,
        progress=given.progress,
        checkpoint=given.checkpoint,
        resume=bool(given.resume),
        compared={
            "pixels": rows.pixels,
            "classes": None if rows.task.classes is None else rows.task.classes.tolist(),
            "batch_size": batch,
            "optimizer": repr(optimizer),
            "learning_rate": learning_rate,
            "layer_rates": list(factors),
            "groups": [[list(astuple(group)) for group in layer] for layer in groups],
            "convention": given.convention,
            "l2": l2,
            **norms,
            "ema": ema,
            "frozen": list(model.frozen),
            "label_smoothing": smoothing,
            "validation": rows.share,
            "stratify": rows.stratified,
            "metrics": [] if measured is None else sorted(measured.directions),
            "class_weight": rows.class_weight,
            "missing_targets": given.missing_targets,
            "shuffle": "blocks" if given.shuffle == "blocks" else shuffle,
        },
        arrays=rows.arrays,
        validation_factor=given.validation_factor,
    )


def _require_two_rows(n: int, batch: int) -> None:
    """Raise ValueError if a batch of n rows in batches, also the last one, has a single row."""
    if n == 1:
        raise ValueError(
            "x: found 1 row to train on, expected two or more, since batch norm is used"
        )
    if arguments.leaves_one(n, batch):
        last = "" if batch == 1 else f", which leaves a last batch of 1 for {n} rows to train on"
        raise ValueError(
            f"batch_size: found {batch}{last}; expected two rows or more in every batch, since "
            f"batch norm is used: for example {arguments.without_one(n, batch)}"
        )


def _frozen(model: Model) -> tuple[int, ...]:
    """Return the frozen layers; raise ValueError if they are all."""
    if len(model.frozen) == model.architecture.n_layers:
        raise ValueError(
            "fit: found all layers frozen, expected at least one to train; see net.unfreeze"
        )
    return model.frozen


def _norms(given: Arguments) -> dict[str, Any]:
    """Return the factor of L1, and the limits of the norms of the gradient and of the weights; 0
    for none."""
    found = {"l1": arguments.number(given.l1, "l1", least=0)}
    for name in ("clip_norm", "max_norm"):
        limit = getattr(given, name)
        found[name] = 0.0 if limit is None else arguments.number(limit, name, above=0)
    return found


def _layer_rates(given: Any, net: Architecture) -> tuple[float, ...]:
    """Return a factor on the learning rate for each layer; none if all are 1."""
    if given is None:
        return ()
    expected = f"{net.n_layers} finite numbers of 0 or more, one for each layer"
    if isinstance(given, (str, bytes)) or not hasattr(given, "__len__") or np.ndim(given) != 1:
        raise ValueError(f"layer_rates: found {given!r}, expected {expected}")
    if len(given) != net.n_layers:
        raise ValueError(f"layer_rates: found {len(given)} numbers, expected {expected}")
    found = tuple(
        arguments.number(value, f"layer_rates[{k}]", least=0) for k, value in enumerate(given)
    )
    return () if all(factor == 1 for factor in found) else found


def _groups(given: Any, net: Architecture) -> Groups:
    """Return a group for each array of each layer; none if none are given."""
    found: Groups = tuple(tuple(layer) for layer in given)
    counts = [2 + net.norm_vectors(k) for k in range(net.n_layers)]
    if found and [len(layer) for layer in found] != counts:
        raise ValueError(
            f"groups: found {[len(layer) for layer in found]} groups of the layers, expected "
            f"{counts}, one for each array of parameters"
        )
    for k, layer in enumerate(found):
        for j, group in enumerate(layer):
            if not isinstance(group, Group):
                raise TypeError(f"groups[{k}][{j}]: found {group!r}, expected a Group")
    return found


class _Rows(NamedTuple):
    """The data of a call."""

    training: Data
    weight: Array | None
    """Weights of the rows to train on, without the shares of known targets."""
    held: Data | None
    held_weight: Array | None
    share: float | str | None
    """The share held out, or a text if rows were given; checkpoints hold it."""
    stratified: bool
    """Whether the same share of each class was held out."""
    class_weight: str | list[float] | None
    """The argument, with a weight for each class; checkpoints hold it."""
    task: Task
    pixels: bool | None
    columns: Columns | None
    arrays: dict[str, Array | Sparse]
    """All data by the names of their arguments."""


def _rows(given: Arguments, model: Model, engine: Engine, smoothing: float) -> _Rows:
    """Check and convert x, y, their weights and ``validation``."""
    net = model.architecture
    missing = weights.ignores_missing(given.missing_targets)
    columns = model.columns
    require_columns(given.x, columns, "x")
    x, pixels = features.training_features(
        given.x, net, model.pixels, number_format=model.input_format
    )
    if model.task is None and columns is None:  # the first training
        columns = names_of(given.x)
        columns = columns if columns is not None and len(columns) == net.n_in else None
    if isinstance(x, Sparse) and net.input_noise:
        raise ValueError(
            "x: found sparse rows for a network with input_noise, expected dense rows: noise makes "
            "every value different from 0"
        )
    y, task = targets.targets(
        given.y, len(x), net, model.task, missing=missing, number_format=model.target_format
    )
    w = weights.sample_weight(given.sample_weight, len(x))
    arrays: dict[str, Array | Sparse | None] = {"x": x, "y": y, "sample_weight": w}
    held: Data | None = None
    held_weight: Array | None = None
    share: float | str | None = None
    codes = None
    if _has_validation(given.validation):
        codes = _strata(given, y, task)
        if isinstance(given.validation, (tuple, list)) and given.validation:
            require_columns(given.validation[0], columns, "validation[0]")
        own = _validation_stream(given.validation, task, pixels, columns, model, missing)
        if own is None:
            (x, y, w), own, share = _validation(
                *(given.validation, (x, y, w), task, pixels, model, missing, codes)
            )
        names = {"rows": f"rows that validation={share} holds out"}
        if share is None:
            share, names = OWN_ROWS, {"name": "validation[2]", "target": "validation[1]"}
            arrays |= {f"validation[{k}]": array for k, array in enumerate(own)}
        held_weight = own[2]
        combined = weights.combined(own[1], held_weight, missing=missing, **names)
        held = Data(own[0], own[1], *combined)
        if gaps.lacks(engine.name, "sparse") and isinstance(held.x, Sparse):
            # It refuses sparse rows, but would do so only after the first epoch.
            engine.forward(model.flat, held.x)
    by_class, class_weight = weights.class_weight(given.class_weight, y, task, net)
    name = "sample_weight" if by_class is None else "sample_weight, class_weight"
    kept = "rows to train on" if isinstance(share, float) else "rows"
    weight, _ = weights.combined(y, w, by_class, missing=False, name=name, rows=kept)
    combined = weights.combined(y, weight, missing=missing, name=name, rows=kept)
    if smoothing:
        y = targets.smoothed(y, net, smoothing)
    return _Rows(
        training=Data(x, y, *combined),
        weight=weight,
        held=held,
        held_weight=held_weight,
        share=share,
        stratified=codes is not None,
        class_weight=class_weight,
        task=task,
        pixels=pixels,
        columns=columns,
        arrays={name: array for name, array in arrays.items() if array is not None},
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


def _streamed_rows(
    given: Arguments, model: Model, engine: Engine, source: Source, smoothing: float
) -> _Rows:
    """Check what can be checked before training on a source, and ``validation``."""
    missing = weights.ignores_missing(given.missing_targets)
    size = arguments.batch_size(given.batch_size)
    if given.shuffle == "blocks" and not source.reorders:
        raise ValueError("shuffle: found 'blocks' with batches, whose order is that of x")
    by_batches = source.batches and isinstance(given.batch_size, arguments.Default)
    x, task, pixels, columns, class_weight = stream_rows.training_rows(
        *(source, model, given.class_weight, None if by_batches else size, bool(given.shuffle)),
        *(missing, smoothing),
    )
    held: Data | None = None
    held_weight: Array | None = None
    share = None
    arrays: dict[str, Any] = {"x": x}
    if _has_validation(given.validation):
        own = _validation_stream(given.validation, task, pixels, columns, model, missing)
        if own is None:
            if isinstance(given.validation, (tuple, list)) and given.validation:
                require_columns(given.validation[0], columns, "validation[0]")
            nothing = np.empty(0), np.empty(0), None
            _, own, _ = _validation(given.validation, nothing, task, pixels, model, missing, None)
        share, held_weight = OWN_ROWS, own[2]
        names = {"name": "validation[2]", "target": "validation[1]"}
        held = Data(
            own[0], own[1], *weights.combined(own[1], held_weight, missing=missing, **names)
        )
        arrays |= {f"validation[{k}]": a for k, a in enumerate(own) if a is not None}
    return _Rows(
        training=Data(x, np.empty(0)),  # type: ignore[arg-type]
        weight=None,
        held=held,
        held_weight=held_weight,
        share=share,
        stratified=False,
        class_weight=class_weight,
        task=task,
        pixels=pixels,
        columns=columns,
        arrays=arrays,
    )


def _validation_stream(
    validation: Any,
    task: Task,
    pixels: bool | None,
    columns: Columns | None,
    model: Model,
    missing: bool,
) -> Any:
    """Return x, targets and weights of a source of validation rows; None for other rows."""
    pair = isinstance(validation, tuple) and 2 <= len(validation) <= 3
    x, y, weight = (*validation, None)[:3] if pair else (validation, None, None)
    if isinstance(validation, (int, float, np.number, str)):
        return None
    source = as_source(x, y, weight, "validation")
    if source is None:
        return None
    return stream_rows.rows_of(source, model, task, columns, pixels, missing)[:3]


def _measurement(given: Arguments, rows: _Rows, net: Architecture) -> Measurement | None:
    """Return the metrics to compute after each epoch."""
    if given.metrics is None and given.training_metrics is False:
        return None
    # Imported where it is needed, since most calls have no metrics.
    from .measurement import VALIDATION, Measured, measurement

    held = None
    if rows.held is not None:
        held = Measured(VALIDATION, rows.held.x, rows.held.y, rows.held_weight)
    training = Measured("", rows.training.x, rows.training.y, rows.weight)
    return measurement(given.metrics, given.training_metrics, rows.task, net, training, held)


def _check_modes(given: Arguments) -> None:
    """Check ``resume``, ``stratify``, ``shuffle`` and ``checkpoint``."""
    if not isinstance(given.stratify, (bool, np.bool_)):
        raise TypeError(f"stratify: found {given.stratify!r}, expected True or False")
    if not isinstance(given.resume, (bool, np.bool_)):
        raise TypeError(f"resume: found {given.resume!r}, expected True or False")
    if not isinstance(given.shuffle, (bool, np.bool_)) and given.shuffle != "blocks":
        raise TypeError(f"shuffle: found {given.shuffle!r}, expected True, False or 'blocks'")
    if given.checkpoint is not None and not isinstance(given.checkpoint, Checkpoint):
        raise TypeError(
            f"checkpoint: found {given.checkpoint!r}, expected pynn.Checkpoint(path, steps=…), or "
            "with epochs or seconds"
        )
    if given.resume and given.checkpoint is None:
        raise ValueError(
            "resume: found True and no checkpoint, expected one to continue from: "
            "checkpoint=pynn.Checkpoint(path, …)"
        )


def _blocks(shuffle: Any, x: Inputs, seed: int) -> Blocks | None:
    if shuffle != "blocks":
        return None
    if isinstance(x, Sparse):
        raise ValueError("shuffle: found 'blocks' and a sparse x, expected True or False")
    assert isinstance(x, np.ndarray)
    return Blocks(x, seed)


def _strata(given: Arguments, y: Array, task: Task) -> Array | None:
    """Return the class of each row, if the same share of each is to be held out."""
    if not given.stratify or isinstance(given.validation, (tuple, list)):
        return None
    if given.resume and given.checkpoint is not None:
        from .resume import is_older_split

        if is_older_split(given.checkpoint.path):
            return None
    return codes_of(y, task)


def _has_validation(validation: Any) -> bool:
    number = isinstance(validation, (int, float, np.number)) and not isinstance(validation, bool)
    return validation is not None and not (number and validation == 0)


def _validation(
    validation: Any,
    rows: Rows,
    task: Task,
    pixels: bool | None,
    model: Model,
    missing: bool,
    codes: Array | None,
) -> tuple[Rows, Rows, float | None]:
    """Return rows to train on, rows to validate on, and the share held out (None if rows were
    given)."""
    if isinstance(validation, (tuple, list)) and len(validation) in (2, 3):
        return rows, _given_rows(validation, task, pixels, model, missing), None
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
    out = held_out(len(x), share, model.seed, codes)
    kept, held = (
        (x[chosen], y[chosen], None if w is None else w[chosen]) for chosen in (~out, out)
    )
    return kept, held, float(share)


def _given_rows(
    validation: Any, task: Task, pixels: bool | None, model: Model, missing: bool
) -> Rows:
    """Return x, y and sample weights of a validation set that was given."""
    names = "validation[0]", "validation[1]"
    net = model.architecture
    x = features.features(validation[0], net, names[0], pixels, model.input_format)
    y, _ = targets.targets(
        validation[1], len(x), net, task, names[1], names[0], missing, model.target_format
    )
    given = validation[2] if len(validation) == 3 else None
    return x, y, weights.sample_weight(given, len(x), "validation[2]", names[0])
