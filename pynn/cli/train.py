"""``pynn train``: check the options, load the data, build the network, fit, write the results."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from ..arrays.fingerprint import content_sha256
from ..backends import machine
from ..checks import features, targets
from ..data.table import IMPUTATIONS, TASKS
from ..spec.arguments import choose
from ..spec.losses import LOSSES, LossFunction
from ..spec.optimizers import ALL_OPTIMIZERS
from ..spec.schedules import SCHEDULES
from ..training.callbacks import Callback
from . import folder as folders
from . import output, pictures, resume, tables
from .app import app, exit_code, fail, metric_lines, result_line, show_warning
from .options import (
    Options,
    is_typed,
    parse_activation,
    parse_class_weight,
    parse_int,
    parse_list,
    parse_norm,
    parse_number,
    parse_spec,
    parse_widths,
    takes_options,
)
from .stages import Outcome, Setup

if TYPE_CHECKING:
    from ..data.dataset import Pair
    from ..network import Network


EPILOG = (
    "Example: pynn train runs/iris --data iris.csv --target species; "
    "https://pynn-mlp.github.io/pynn/how-to/ has pages on tables, weights and runs."
)


@app.command(epilog=EPILOG)
@takes_options
def train(ctx: typer.Context, options: Options) -> None:
    """Train a network, on MNIST by default, and write the results into the folder RUN.

    A preset changes only defaults: it draws no plots, writes no checkpoints, and on MNIST holds out
    no rows, unless you type --pictures, --checkpoint or --validation.
    """
    found = _resumed(ctx, options)
    if found is None:
        return
    options = found
    if options.pictures:
        pictures.check_matplotlib()
    _check(options)
    setup, options = _prepare(ctx, options)
    with tables.located(setup.net.table, setup.places):
        if options.find_learning_rate:
            setup, options = _with_found_rate(ctx, setup, options)
        folder = folders.new_folder(options.run, options.resume)
        outcome, record = _fit_and_save(setup, options, folder)
    if outcome.exit_code or outcome.diverged:
        if options.pictures:
            pictures.write_curves(folder, setup.net, setup.found)
        _fail_unfinished(setup.net, outcome, folder)
    result = _measured(setup, options)
    record["result"] |= {f"{setup.tested}_{name}": value for name, value in result.items()}
    folders.write_json(folder / folders.SETTINGS, record)
    (folder / folders.CHECKPOINT).unlink(missing_ok=True)
    if options.pictures:
        if not options.quiet:
            typer.echo("drawing plots …", err=True)
        if result:
            pictures.write_all(folder, setup.net, setup.test, setup.found)
        else:
            pictures.write_curves(folder, setup.net, setup.found)
    if not options.quiet:
        output.print_times(setup, outcome, folder)
    for line in metric_lines(setup.tested, result):
        typer.echo(line)
    if result:
        typer.echo(result_line(setup.tested, result))
    elif len(setup.net.history):
        last = setup.net.history[-1]
        typer.echo(result_line("training", {"loss": last.loss, "accuracy": last.accuracy}))
    if not options.quiet:
        output.print_next(setup, folder)


def _measured(setup: Setup, options: Options) -> dict[str, float]:
    """Return loss and metrics on the rows to measure; empty if all rows were trained on."""
    if not len(setup.test[0]):
        return {}
    return setup.net.evaluate(
        *setup.test,
        sample_weight=setup.test_weights,
        metrics=parse_list(options.metrics),
        missing_targets=options.missing_targets,
    )


# --- Check the options ----------------------------------------------------------------------------


def _resumed(ctx: typer.Context, options: Options) -> Options | None:
    """Return the options of the run to resume; None if it has ended."""
    if not options.resume or options.run is None:
        return options
    settings = folders.settings_in(options.run)
    if settings is None:
        names = (folders.CHECKPOINT, folders.MODEL)
        begun = any((options.run / name).exists() for name in names)
        if begun or options.data is None:
            folders.check_settings(options.run)
        if options.data is None and not begun:
            raise ValueError(
                f"run: found no run in {options.run}, expected the folder of a run, or --data with "
                "the data of a new one"
            )
        # A new run, or one that an earlier version began.
        return _with_older_split(options)
    ended = folders.ended(options.run) is not None
    resume.check_unchanged(ctx, settings, options, ended)
    if ended:
        epochs = settings["result"].get("epochs")
        typer.echo(f"run       {options.run} has ended already, after {epochs} epochs")
        return None
    found = resume.saved_options(settings, options)
    if is_typed(ctx, "epochs"):
        found = replace(found, epochs=options.epochs)
    return _with_older_split(found)


def _has_begun(options: Options) -> bool:
    """Whether the folder of the run has settings."""
    return options.run is not None and folders.settings_in(options.run) is not None


def _with_older_split(options: Options) -> Options:
    """Return the options; a checkpoint written before splits were stratified keeps its rows."""
    assert options.run is not None
    older = folders.is_older_split(options.run)
    return replace(options, stratify=False) if older else options


def _check(options: Options) -> None:
    """Raise a ValueError for options that the library does not check."""
    if not 0 <= options.validation < 1:
        raise ValueError(f"validation: found {options.validation:g}, expected a share in [0, 1)")
    if not 0 <= options.checkpoint < np.inf:
        raise ValueError(f"checkpoint: found {options.checkpoint:g}, expected seconds of 0 or more")
    if options.resume and options.run is None:
        raise ValueError("resume: found no RUN, expected the folder of the run to continue")
    if options.resume and not options.checkpoint and not _has_begun(options):
        found = "--checkpoint 0, expected --checkpoint SECONDS"
        if options.preset:
            found = "a preset, which writes no checkpoint, expected --checkpoint SECONDS with it"
        raise ValueError(f"resume: found {found}")
    if options.task is not None:
        choose("task", options.task, TASKS)
    if options.impute is not None:
        choose("impute", options.impute, IMPUTATIONS)
    if options.early_stopping is not None:
        if not options.validation and options.monitor.startswith("val"):
            raise ValueError("early_stopping: found no validation, expected --validation above 0")
        if options.early_stopping < 1:
            raise ValueError(
                f"early_stopping: found {options.early_stopping}, expected 1 epoch or more"
            )


# --- Load the data, build the network -------------------------------------------------------------


def _prepare(ctx: typer.Context, options: Options) -> tuple[Setup, Options]:
    """Convert the options, then load the data and build the network.

    For tables the returned options have other defaults.
    """
    where = options.data, options.target, options.pixels, options.index
    if tables.is_table(*where):
        return _prepare_table(ctx, options)
    if options.data is None or options.target is None:
        _check_no_table(options)
    if options.task is not None:
        options = replace(options, regression=options.task == "regression")
    settings = _fit_settings(options)
    data = folders.read_data(*where)
    # Only now: a table that cannot be read has an error of its own.
    _check_no_table(options)
    net = _network(options, data)
    if net.classes is None:
        for _, y in filter(None, (data.train, data.test)):
            targets.require_squares(y, "data")
        _start_at_mean(net, data.train[1], None)
    settings["class_weight"] = _class_weight(options, net)
    # All training rows decide, before some of them are held out.
    decided = options.pixels
    net.pixels = features.are_pixels(data.train[0]) if decided is None else decided
    if data.test is None:
        labels = net.classes is not None
        rows, test = folders.hold_out(
            data.train, options.validation, net.seed, labels, options.stratify
        )
        settings |= _held(test, settings)
        return Setup(data, net, rows, settings, "validation", test), options
    _check_test_set(net, data.test, settings["metrics"], options.missing_targets == "ignore")
    settings["validation"] = options.validation or None
    if not (options.validation or options.training_metrics):
        # The result alone has metrics.
        settings["metrics"] = None
    return Setup(data, net, data.train, settings, "test", data.test), options


def _prepare_table(ctx: typer.Context, options: Options) -> tuple[Setup, Options]:
    """Load a table and build its network; return the options with the defaults for tables."""
    table, cells = tables.read(options)
    if not (options.resume and _has_begun(options)):
        options = tables.with_defaults(ctx, options, table, len(cells))
    settings = _fit_settings(options)
    y = table.y(cells)
    network = _network_settings(options)
    seed = network["seed"]
    if seed is None:
        seed = int.from_bytes(os.urandom(8), "little")
    labels = table.classes is not None
    held = folders.rows_held_out(y, options.validation, seed, labels, options.stratify)
    if options.impute is not None:
        table = table.imputed(cells.take(~held), options.impute)
    rows = tables.rows_of(cells, table)
    train, test = rows.take(~held), rows.take(held)
    tables.check_weights(table, train, test)
    data = folders.Data(str(options.data), rows.pair, None, table.inputs, table, train.weights)
    net = _network(replace(options, seed=str(seed), regression=not labels), data)
    net.pixels = False
    net.table = table
    _start_at_mean(net, train.y, train.weights)
    settings["class_weight"] = _class_weight(options, net)
    settings["sample_weight"] = train.weights
    settings |= _held(test.pair if test.weights is None else test, settings)
    bare = tables.without_columns(cells)
    setup = Setup(
        *(data, net, train.pair, settings, "validation", test.pair, test.weights),
        places=lambda: {"x": bare.take(~held), "validation[0]": bare.take(held)},
    )
    return setup, options


def _held(rows: tuple[Any, ...], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``fit`` for held-out rows: x, y and perhaps weights."""
    if len(rows[0]):
        return {"validation": rows}
    # No row is held out, so that metrics have only the rows to train on.
    return {
        "validation": None,
        "metrics": settings["metrics"] if settings["training_metrics"] else None,
    }


def _check_no_table(options: Options) -> None:
    """Raise a ValueError for options that need the names of columns."""
    for name in ("impute", "categories", "drop", "weights"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"{name}: found {getattr(options, name)}, expected it with --data FILE.csv and "
                "--target COLUMN"
            )


def _network(options: Options, data: folders.Data) -> Network:
    """Build the network for the columns and targets of the data."""
    from ..network import Network

    widths = parse_widths(options.hidden)
    network = _network_settings(options)
    n_out, classes = _outputs(data, network["loss"], options.regression)
    n_in = int(np.prod(data.train[0].shape[1:]))
    if not widths:
        network |= {"activation": [], "dropout": [], "norm": None, "hidden_noise": []}
    net = Network([n_in, *widths, n_out], **network)
    net.columns = data.columns
    if classes is not None or options.regression:
        net.classes = classes
    return net


def _start_at_mean(net: Network, y: np.ndarray, weights: np.ndarray | None) -> None:
    """Let a network whose output is an exponential begin at the mean of its targets.

    The logarithm of the mean is the best constant of Poisson, gamma and Tweedie losses. From 0, the
    last bias would need thousands of updates to reach it, while large weights take its place.
    """
    if net.architecture.activations[-1] != "exp" or not net.architecture.regression:
        return
    values = np.asarray(y, np.float64).reshape(len(y), -1)
    known = ~np.isnan(values)
    shares = known * (1.0 if weights is None else weights[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        start = np.log((np.where(known, values, 0) * shares).sum(axis=0) / shares.sum(axis=0))
    if start.shape == net.biases[-1].shape:
        net.biases[-1][:] = np.where(np.isfinite(start), start, 0)


def _class_weight(options: Options, net: Network) -> Any:
    labels = [] if net.classes is None else net.classes.tolist()
    return parse_class_weight(options.class_weight, labels)


def _with_found_rate(ctx: typer.Context, setup: Setup, options: Options) -> tuple[Setup, Options]:
    """Return setup and options with the learning rate that a range test suggests."""
    from ..training.range_test import NOT_FOR_A_STEP

    if is_typed(ctx, "learning_rate"):
        raise ValueError(
            "find_learning_rate: found --learning-rate as well, expected one of the two"
        )
    settings = {k: v for k, v in setup.settings.items() if k not in NOT_FOR_A_STEP}
    found = setup.net.find_learning_rate(*setup.rows, **settings)
    if found.suggestion is None:
        raise ValueError(
            f"find_learning_rate: found no rate from {found.rates[0]:g} on that lowers the loss, "
            "expected --learning-rate RATE"
        )
    rate = found.suggestion
    setup = replace(setup, settings=setup.settings | {"learning_rate": rate}, found=found)
    return setup, replace(options, learning_rate=rate)


def _fit_settings(options: Options) -> dict[str, Any]:
    """Return the arguments of ``fit`` that need no data."""
    batch_size = options.batch_size
    if options.training_metrics and not parse_list(options.metrics):
        raise ValueError(
            "training_metrics: found no metrics, expected --metrics NAMES, such as auc,f1 for "
            "classes or mae,r2 for values"
        )
    return {
        "epochs": options.epochs,
        "batch_size": "full" if batch_size == "full" else parse_int("batch_size", batch_size),
        "optimizer": parse_spec("optimizer", options.optimizer, ALL_OPTIMIZERS),
        "learning_rate": options.learning_rate,
        "layer_rates": [
            parse_number("layer_rates", part) for part in parse_list(options.layer_rates)
        ]
        or None,
        "schedule": parse_spec("schedule", options.schedule, SCHEDULES),
        "l2": options.l2,
        "l1": options.l1,
        "clip_norm": options.clip_norm,
        "max_norm": options.max_norm,
        "ema": options.ema,
        "label_smoothing": options.label_smoothing,
        "missing_targets": options.missing_targets,
        "metrics": parse_list(options.metrics),
        "training_metrics": options.training_metrics,
        "stratify": options.stratify,
        "shuffle": options.shuffle,
    }


def _network_settings(options: Options) -> dict[str, Any]:
    """Return the arguments of ``Network``, without its sizes."""
    dropout = [parse_number("dropout", part) for part in parse_list(options.dropout)]
    noise = [parse_number("hidden_noise", part) for part in parse_list(options.hidden_noise)]
    seed = options.seed
    return {
        "activation": _one_or_each(
            [parse_activation("activation", part) for part in parse_list(options.activation)]
        ),
        "output": None if options.output is None else parse_activation("output", options.output),
        "loss": parse_spec("loss", options.loss, LOSSES),
        "dropout": _one_or_each(dropout or [0.0]),
        "norm": _one_or_each([parse_norm(part) for part in parse_list(options.norm)] or [None]),
        "norm_after": options.norm_after,
        "residual": options.residual,
        "input_dropout": options.input_dropout,
        "input_noise": options.input_noise,
        "hidden_noise": _one_or_each(noise or [0.0]),
        "init": None if options.init is None else _one_or_each(parse_list(options.init)),
        "standardize": options.standardize,
        "standardize_targets": options.standardize_targets,
        "dtype": options.dtype,
        "precision": options.precision,
        "backend": options.backend,
        "threads": options.threads,
        "seed": None if seed == "random" else parse_int("seed", seed, "a whole number or random"),
    }


def _one_or_each(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _outputs(
    data: folders.Data, loss: LossFunction, values: bool | None
) -> tuple[int, np.ndarray | None]:
    """Return the number of outputs that the targets need, and the classes if they are labels."""
    y = data.train[1]
    if values and not loss.regression:
        raise ValueError(
            f"task: found 'regression' with loss {loss.name!r}, expected a loss of values, such as "
            "--loss mse or --loss poisson"
        )
    if loss.regression and not loss.takes_labels:
        if values is False:
            raise ValueError(
                f"task: found 'classification' with loss {loss.name!r}, expected another loss"
            )
        values = True
    if y.ndim == 2 and y.shape[1] > 1:
        return y.shape[1] * loss.per_target, None
    if values and y.dtype.kind not in "biuf":
        raise ValueError(f"data: found the label {str(y.flat[0])!r}, expected numbers to predict")
    if values or (values is None and loss.regression and y.dtype.kind == "f"):
        return loss.per_target, None
    labels = np.concatenate([y.ravel()] + ([] if data.test is None else [data.test[1].ravel()]))
    if labels.dtype.kind in "iu":
        # Like np.unique, which imports numpy.ma (15 ms) for it.
        ordered = np.sort(labels)
        classes = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    else:
        classes = np.unique(labels)
    if classes.dtype.kind == "f" and (classes % 1).any() and 2 * len(classes) > len(labels):
        raise ValueError(
            f"data: found {len(classes)} different labels in {len(labels)} rows, many of them "
            f"fractions (the first is {classes[classes % 1 != 0][0]}), expected classes; for "
            "regression, use --loss mse --task regression"
        )
    if classes.dtype.kind in "iu" and len(classes) > 20 and 2 * len(classes) > len(labels):
        raise ValueError(
            f"data: found {len(classes)} different whole numbers as labels of {len(labels)} rows, "
            "expected classes; for regression, use --loss mse --task regression, since whole "
            "numbers are labels"
        )
    if len(classes) < 2:
        raise ValueError(
            f"data: found labels of one class only ({classes[0]}), expected at least two classes"
        )
    one = loss.name in ("binary_cross_entropy", "hinge", "squared_hinge") and len(classes) == 2
    return 1 if one else len(classes), classes


def _check_test_set(net: Network, test: Pair, metrics: list[str], missing: bool) -> None:
    """Raise a ValueError if the test set or a metric does not fit: before hours of training."""
    a = net.architecture
    try:
        number_format = net._model.input_format
        x = features.features(test[0], a, pixels=net.pixels, number_format=number_format)
        _, task = targets.targets(test[1], len(x), a, net._model.task, missing=missing)
    except (ValueError, TypeError) as error:
        raise ValueError(f"data: the test set does not fit: {error}") from error
    if metrics:
        from ..metrics.measure import as_metrics

        as_metrics(metrics, task.kind, a.n_out)


# --- Fit ------------------------------------------------------------------------------------------


def _fit_and_save(setup: Setup, options: Options, folder: Path) -> tuple[Outcome, dict[str, Any]]:
    """Train; write model, history and settings; return the settings without test results.

    If that fails, remove the folder unless it holds other files.
    """
    begun = (folder / folders.SETTINGS).exists()
    try:
        outcome = _fit(setup, _all_settings(setup, options, folder))
        try:
            record = _save(setup, options, outcome, folder)
        except KeyboardInterrupt:
            # A model without settings cannot be reported; training must not be lost.
            _save(setup, options, outcome, folder)
            raise
    except BaseException:
        # An empty folder would look like a run, as would settings without a checkpoint.
        with suppress(OSError):
            if not begun and not (folder / folders.CHECKPOINT).exists():
                (folder / folders.SETTINGS).unlink(missing_ok=True)
            folder.rmdir()
        raise
    return outcome, record


def _all_settings(setup: Setup, options: Options, folder: Path) -> dict[str, Any]:
    """Return all arguments of ``fit`` but the rows."""
    settings = dict(setup.settings)
    if options.checkpoint:
        from ..training.checkpoint import Checkpoint

        settings["checkpoint"] = Checkpoint(folder / folders.CHECKPOINT, seconds=options.checkpoint)
        settings["resume"] = options.resume
    settings["callbacks"] = _callbacks(setup, options, folder)
    # A function for --plain, not a callback: after an interrupt in a callback no checkpoint can be
    # written, after an interrupt while it prints one can.
    settings["progress"] = not options.quiet and (
        partial(output.print_epoch, options.epochs) if options.plain else True
    )
    return settings


def _save(setup: Setup, options: Options, outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Write model, history and settings; return the settings without test results."""
    setup.net.save(folder / folders.MODEL)
    folders.write_json(folder / folders.HISTORY, setup.net.history.to_dict())
    record = _record(setup, options, outcome)
    folders.write_json(folder / folders.SETTINGS, record)
    return record


def _fit(setup: Setup, settings: dict[str, Any]) -> Outcome:
    from ..training.divergence import DivergenceError

    began = time.perf_counter()
    stopped, diverged = 0, ""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            # A quiet run has no progress either.
            backend = setup.net.backend if settings["progress"] else ""
            with output.compilation_named(backend):
                setup.net.fit(*setup.rows, **settings)
    except KeyboardInterrupt as interrupt:
        stopped = exit_code(interrupt)
    except DivergenceError as error:
        diverged = str(error).removeprefix("fit: ")
    return Outcome(time.perf_counter() - began, stopped, diverged)


def _callbacks(setup: Setup, options: Options, folder: Path) -> list[Callback]:
    from ..training.callbacks import EarlyStopping

    found: list[Callback] = []
    if options.early_stopping is not None:
        found.append(EarlyStopping(options.monitor, patience=options.early_stopping))
    if options.stop_at_loss is not None:
        found.append(
            EarlyStopping("loss", patience=None, threshold=options.stop_at_loss, restore_best=False)
        )
    found.append(_AtBegin(partial(_begin, setup, options, folder)))
    return found


def _begin(setup: Setup, options: Options, folder: Path) -> None:
    """Write the settings, so that the run can be resumed, and print what is trained."""
    setup.began.append(setup.net.epochs)
    folders.write_json(folder / folders.SETTINGS, _record(setup, options, None))
    if options.quiet:
        return
    output.print_summary(setup, options)
    if options.resume and (folder / folders.CHECKPOINT).exists():
        epoch = min(setup.net.epochs + 1, options.epochs)
        typer.echo(f"resumed   at epoch {epoch} of {options.epochs}")
    elif options.resume:
        typer.echo("resumed   no checkpoint to resume from: starts at the first epoch")


class _AtBegin(Callback):
    """Calls a function when training begins: after ``fit`` has checked all arguments."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_fit_begin(self, net: Network) -> None:
        self._call()


# --- Results --------------------------------------------------------------------------------------


def _record(setup: Setup, options: Options, outcome: Outcome | None) -> dict[str, Any]:
    """Return the settings file of the run, without the results of its evaluation.

    ``outcome`` is None when training begins.
    """
    data, net = setup.data, setup.net
    if outcome is None:
        result: dict[str, Any] = {"epochs": net.epochs, "updates": net.updates}
        result |= {"interrupted": True, "diverged": "", "unfinished": True}
    else:
        result = {
            "epochs": net.epochs,
            "seconds": outcome.seconds,
            "updates": net.updates,
            "interrupted": bool(outcome.exit_code),
            "diverged": outcome.diverged,
        }
    return {
        "options": options.to_dict(),
        "sizes": net.sizes,
        "parameters": len(net.parameters),
        "seed": net.seed,
        "backend": net.backend,
        "threads": net.threads,
        "data": {
            "source": data.source,
            "path": None if options.data is None else str(options.data.resolve()),
            "train_rows": len(setup.rows[0]),
            "validation_rows": len(setup.test[0]) if setup.tested == "validation" else None,
            "test_rows": None if data.test is None else len(data.test[0]),
            "sha256": content_sha256(data.train + (data.test or ())),
        },
        "range_test": None if setup.found is None else setup.found.to_dict(),
        "environment": machine.environment(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "result": result,
    }


def _fail_unfinished(net: Network, outcome: Outcome, folder: Path) -> None:
    """Exit with a message about a training that was interrupted or diverged."""
    checkpoint = folder / folders.CHECKPOINT
    if outcome.diverged:
        # A resumed run would diverge again.
        checkpoint.unlink(missing_ok=True)
        fail(f"{outcome.diverged}; that network is in {folder}")
    advice = f"; continue with pynn train {folder} --resume" if checkpoint.exists() else ""
    fail(
        f"stopped after {net.epochs} complete epochs; the network is in {folder}{advice}",
        outcome.exit_code,
    )
