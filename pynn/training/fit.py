"""One call of ``Network.fit``: checking its arguments, and training in turn with other calls."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.sparse import Sparse
from ..backends.contract import Engine, Inputs, TrainerSettings
from ..checks import targets
from ..data.sources import as_source
from ..spec import arguments
from ..spec.architecture import Architecture
from ..spec.groups import Group, Groups
from ..spec.optimizers import LBFGS, Optimizer, as_optimizer
from . import stream
from .blocks import Blocks
from .callbacks import as_callbacks, check_monitors
from .checkpoint import Checkpoint
from .history import History
from .job import Arguments, Job
from .loop import Loop
from .model import Call, Model, TrainingLock
from .progress import check_progress
from .rates import Rates
from .rows import FitRows, rows_of_arrays, rows_of_source
from .standardise import prepared
from .stream import Stream

if TYPE_CHECKING:
    from .measurement import Measurement

Array = np.ndarray


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
        rows = rows_of_arrays(given, model, engine, smoothing)
    else:
        rows = rows_of_source(given, model, optimizer, source, smoothing)
    x = rows.training.x
    measured = _measurement(given, rows, net)
    directions = {} if measured is None else measured.directions
    known = rows.held.data is not None, rows.task.kind != "values", directions
    check_monitors(calls, *known)
    rates.require_measured(*known)
    batch = _batch_rows(batch_size, x, model, optimizer)
    shuffle = bool(given.shuffle) and (source is None or source.reorders)
    settings = TrainerSettings(
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
    )
    return Job(
        data=rows.training,
        held=rows.held.data,
        measured=measured,
        task=rows.task,
        pixels=rows.pixels,
        columns=rows.columns,
        settings=settings,
        rates=rates,
        epochs=epochs,
        blocks=None if isinstance(x, Stream) else _blocks(given.shuffle, x, model.seed),
        calls=calls,
        progress=given.progress,
        checkpoint=given.checkpoint,
        resume=bool(given.resume),
        compared=_compared(given, settings, rows, learning_rate, smoothing, sorted(directions)),
        arrays=rows.arrays,
        validation_factor=given.validation_factor,
    )


def _compared(
    given: Arguments,
    settings: TrainerSettings,
    rows: FitRows,
    learning_rate: float,
    smoothing: float,
    metrics: list[str],
) -> dict[str, Any]:
    """Return ``Job.compared``."""
    classes = rows.task.classes
    return {
        "pixels": rows.pixels,
        "classes": None if classes is None else classes.tolist(),
        "batch_size": settings.batch_size,
        "optimizer": repr(settings.optimizer),
        "learning_rate": learning_rate,
        "layer_rates": list(settings.layer_rates),
        "groups": [[list(astuple(group)) for group in layer] for layer in settings.groups],
        "convention": settings.convention,
        "l2": settings.l2,
        "l1": settings.l1,
        "clip_norm": settings.clip_norm,
        "max_norm": settings.max_norm,
        "ema": settings.ema,
        "frozen": list(settings.frozen),
        "label_smoothing": smoothing,
        "validation": rows.held.share,
        "stratify": rows.stratified,
        "metrics": metrics,
        "class_weight": rows.class_weight,
        "missing_targets": given.missing_targets,
        "shuffle": "blocks" if given.shuffle == "blocks" else settings.shuffle,
    }


def _batch_rows(most: int | None, x: Inputs, model: Model, optimizer: Optimizer) -> int:
    """Return the rows of a step; raise ValueError if a batch is too small for batch norm."""
    rows = x.batch if isinstance(x, Stream) else min(most or len(x), len(x))
    # Frozen layers use their running statistics; L-BFGS is refused with all batch norms.
    used = {*model.architecture.batch_layers} - {*model.frozen}
    if used and not isinstance(optimizer, LBFGS):
        _require_two_rows(len(x), rows)
    return rows


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


def _measurement(given: Arguments, rows: FitRows, net: Architecture) -> Measurement | None:
    """Return the metrics to compute after each epoch."""
    if given.metrics is None and given.training_metrics is False:
        return None
    # Imported where it is needed, since most calls have no metrics.
    from .measurement import VALIDATION, Measured, measurement

    held = None
    if rows.held.data is not None:
        held = Measured(VALIDATION, rows.held.data.x, rows.held.data.y, rows.held.weight)
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
