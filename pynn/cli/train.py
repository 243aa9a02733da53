"""``pynn train``: check the options, load the data, build the network, fit, write the results."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import typer

from ..arrays.fingerprint import content_sha256
from ..backends import machine
from ..checks import features, targets
from ..spec.losses import LOSSES, LossFunction
from ..spec.optimizers import ALL_OPTIMIZERS, LBFGS
from ..spec.schedules import SCHEDULES
from ..training.callbacks import Callback
from . import folder as folders
from . import pictures
from .app import app, exit_code, fail, metric_lines, result_line, show_warning
from .options import (
    PRESETS,
    Options,
    is_typed,
    parse_activation,
    parse_class_weight,
    parse_int,
    parse_list,
    parse_number,
    parse_spec,
    parse_widths,
    takes_options,
)

if TYPE_CHECKING:
    from ..data.dataset import Pair
    from ..network import Network
    from ..training.history import Record
    from ..training.range_test import LearningRates


@app.command()
@takes_options
def train(ctx: typer.Context, options: Options) -> None:
    """Train a network, on MNIST by default, and write the results into a folder.

    A preset changes only defaults: it draws no pictures, writes no checkpoints, and on MNIST holds
    out no rows, unless you type --pictures, --checkpoint or --validation.
    """
    if options.pictures:
        pictures.check_matplotlib()
    _check(options)
    ended = folders.ended(options.run) if options.resume and options.run is not None else None
    if ended is not None:
        _check_unchanged(ctx, ended, options)
        typer.echo(f"run       {options.run} has ended already")
        return
    if options.resume and options.run is not None and folders.is_older_split(options.run):
        options = replace(options, stratify=False)
    setup = _prepare(options)
    if options.find_learning_rate:
        setup = _with_found_rate(ctx, setup)
        options = replace(options, learning_rate=setup.settings["learning_rate"])
    folder = folders.new_folder(options.run, options.resume)
    outcome, record = _fit_and_save(setup, options, folder)
    if outcome.exit_code or outcome.diverged:
        if options.pictures:
            pictures.write_curves(folder, setup.net, setup.found)
        _fail_unfinished(setup.net, outcome, folder)
    result = setup.net.evaluate(
        *setup.test, metrics=parse_list(options.metrics), missing_targets=options.missing_targets
    )
    record["result"] |= {f"{setup.tested}_{name}": value for name, value in result.items()}
    folders.write_json(folder / folders.SETTINGS, record)
    (folder / folders.CHECKPOINT).unlink(missing_ok=True)
    if options.pictures:
        pictures.write_all(folder, setup.net, setup.test, setup.found)
    if not options.quiet:
        _print_times(setup.net, outcome, folder)
    for line in metric_lines(setup.tested, result):
        typer.echo(line)
    typer.echo(result_line(setup.tested, result))


# --- Check the options ----------------------------------------------------------------------------


def _check(options: Options) -> None:
    """Raise a ValueError for options that the library does not check."""
    if not 0 <= options.validation < 1:
        raise ValueError(f"validation: found {options.validation:g}, expected a share in [0, 1)")
    if not 0 <= options.checkpoint < np.inf:
        raise ValueError(f"checkpoint: found {options.checkpoint:g}, expected seconds of 0 or more")
    if options.resume:
        _check_resume(options)
    if options.early_stopping is not None:
        if not options.validation and options.monitor.startswith("val"):
            raise ValueError("early_stopping: found no validation, expected --validation above 0")
        if options.early_stopping < 1:
            raise ValueError(
                f"early_stopping: found {options.early_stopping}, expected 1 epoch or more"
            )


def _check_resume(options: Options) -> None:
    if options.run is None:
        found = "no --run, expected --run FOLDER with the checkpoints to continue from"
    elif options.checkpoint:
        return
    elif options.preset:
        found = "a preset, which writes no checkpoint, expected --checkpoint SECONDS with it"
    else:
        found = "--checkpoint 0, expected --checkpoint SECONDS"
    raise ValueError(f"resume: found {found}")


# Options that may differ when a run is resumed.
_FREE = ("run", "resume", "checkpoint", "threads", "plain", "quiet")


def _check_unchanged(ctx: typer.Context, ended: dict[str, Any], options: Options) -> None:
    """Raise a ValueError for a typed option that differs from a run that has ended.

    Such an option would have no effect.
    """
    before = ended["options"] | {"data": ended["data"]["path"]}
    now = options.to_dict()
    if options.data is not None:
        now["data"] = str(options.data.resolve())
    for name in ctx.params:
        if name in _FREE or not is_typed(ctx, name):
            continue
        found, was = now.get(name), before.get(name)
        if name in PRESETS:
            found, was = name, before.get("preset", "no preset")
        if found != was:
            raise ValueError(
                f"{name}: found {found}, but the run in {options.run} has {was} and has ended; "
                "expected the same value, or another folder for another run"
            )


# --- Load the data, build the network -------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """Everything that is trained and measured."""

    data: folders.Data
    net: Network
    rows: Pair
    """The arguments x and y of ``fit``."""
    settings: dict[str, Any]
    """Further arguments of ``fit``."""
    tested: str
    """``"test"``, or ``"validation"`` if the data have no test set."""
    test: Pair
    """The rows to measure the trained network on."""
    found: LearningRates | None = None
    """Result of the range test that chose the learning rate."""


def _prepare(options: Options) -> Setup:
    """Convert the options, then load the data and build the network."""
    from ..network import Network

    settings = _fit_settings(options)
    widths = parse_widths(options.hidden)
    network = _network_settings(options)
    data = folders.read_data(options.data, options.target, options.pixels, options.index)
    n_out, classes = _outputs(data, network["loss"], options.regression)
    n_in = int(np.prod(data.train[0].shape[1:]))
    if not widths:
        network |= {"activation": [], "dropout": []}
    net = Network([n_in, *widths, n_out], **network)
    net.columns = data.columns
    labels = [] if classes is None else classes.tolist()
    settings["class_weight"] = parse_class_weight(options.class_weight, labels)
    if classes is not None or options.regression:
        net.classes = classes
    # All training rows decide, before some of them are held out.
    decided = options.pixels
    net.pixels = features.are_pixels(data.train[0]) if decided is None else decided
    if data.test is None:
        rows, test = folders.hold_out(
            data.train, options.validation, net.seed, classes is not None, options.stratify
        )
        return Setup(data, net, rows, settings | {"validation": test}, "validation", test)
    _check_test_set(net, data.test, settings["metrics"], options.missing_targets == "ignore")
    settings["validation"] = options.validation or None
    if not (options.validation or options.training_metrics):
        # They are those of the result only.
        settings["metrics"] = None
    return Setup(data, net, data.train, settings, "test", data.test)


def _with_found_rate(ctx: typer.Context, setup: Setup) -> Setup:
    """Return the setup with the learning rate that a range test suggests."""
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
    return replace(
        setup, settings=setup.settings | {"learning_rate": found.suggestion}, found=found
    )


def _fit_settings(options: Options) -> dict[str, Any]:
    """Return the arguments of ``fit`` that need no data."""
    batch_size = options.batch_size
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
    seed = options.seed
    return {
        "activation": _one_or_each(
            [parse_activation("activation", part) for part in parse_list(options.activation)]
        ),
        "output": None if options.output is None else parse_activation("output", options.output),
        "loss": parse_spec("loss", options.loss, LOSSES),
        "dropout": _one_or_each(dropout or [0.0]),
        "residual": options.residual,
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
            f"regression: found loss {loss.name!r}, expected a loss of values, such as --loss mse "
            "or --loss poisson"
        )
    if loss.regression and not loss.takes_labels:
        if values is False:
            raise ValueError(
                f"regression: found --classification with loss {loss.name!r}, expected another loss"
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
            "regression, use --loss mse --regression"
        )
    if classes.dtype.kind in "iu" and len(classes) > 20 and 2 * len(classes) > len(labels):
        raise ValueError(
            f"data: found {len(classes)} different whole numbers as labels of {len(labels)} rows, "
            "expected classes; for regression, use --loss mse --regression, since whole numbers "
            "are labels"
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


class Outcome(NamedTuple):
    """How the training ended."""

    seconds: float
    exit_code: int
    """Exit code of the process if a signal stopped the training, else 0."""
    diverged: str
    """Message of the DivergenceError, empty if the training did not diverge."""


def _fit_and_save(setup: Setup, options: Options, folder: Path) -> tuple[Outcome, dict[str, Any]]:
    """Train; write model, history and settings; return the settings without test results.

    If that fails, remove the folder unless it holds other files.
    """
    try:
        outcome = _fit(setup, _all_settings(setup, options, folder))
        try:
            record = _save(setup, options, outcome, folder)
        except KeyboardInterrupt:
            # A model without settings cannot be reported; training must not be lost.
            _save(setup, options, outcome, folder)
            raise
    except BaseException:
        # An empty folder would look like a run.
        with suppress(OSError):
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
    settings["callbacks"] = _callbacks(setup, options)
    # A function for --plain, not a callback: after an interrupt in a callback no checkpoint can be
    # written, after an interrupt while it prints one can.
    settings["progress"] = not options.quiet and (print_epoch if options.plain else True)
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
            setup.net.fit(*setup.rows, **settings)
    except KeyboardInterrupt as interrupt:
        stopped = exit_code(interrupt)
    except DivergenceError as error:
        diverged = str(error).removeprefix("fit: ")
    return Outcome(time.perf_counter() - began, stopped, diverged)


def _callbacks(setup: Setup, options: Options) -> list[Callback]:
    from ..training.callbacks import EarlyStopping

    found: list[Callback] = []
    if options.early_stopping is not None:
        found.append(EarlyStopping(options.monitor, patience=options.early_stopping))
    if options.stop_at_loss is not None:
        found.append(
            EarlyStopping("loss", patience=None, threshold=options.stop_at_loss, restore_best=False)
        )
    if not options.quiet:
        found.append(_AtBegin(partial(_print_summary, setup, options)))
    return found


class _AtBegin(Callback):
    """Calls a function when training begins: after ``fit`` has checked all arguments."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_fit_begin(self, net: Network) -> None:
        self._call()


# --- Results --------------------------------------------------------------------------------------


def _record(setup: Setup, options: Options, outcome: Outcome) -> dict[str, Any]:
    """Return the settings file of the run, without the results of its evaluation."""
    data, net = setup.data, setup.net
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
            "train_rows": len(data.train[0]),
            "test_rows": None if data.test is None else len(data.test[0]),
            "sha256": content_sha256(data.train + (data.test or ())),
        },
        "range_test": None if setup.found is None else setup.found.to_dict(),
        "environment": machine.environment(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "result": {
            "epochs": net.epochs,
            "seconds": outcome.seconds,
            "updates": net.updates,
            "interrupted": bool(outcome.exit_code),
            "diverged": outcome.diverged,
        },
    }


def _fail_unfinished(net: Network, outcome: Outcome, folder: Path) -> None:
    """Exit with a message about a training that was interrupted or diverged."""
    checkpoint = folder / folders.CHECKPOINT
    if outcome.diverged:
        # A resumed run would diverge again.
        checkpoint.unlink(missing_ok=True)
        fail(f"{outcome.diverged}; that network is in {folder}")
    advice = f"; continue with --run {folder} --resume" if checkpoint.exists() else ""
    fail(
        f"stopped after {net.epochs} complete epochs; the network is in {folder}{advice}",
        outcome.exit_code,
    )


# --- Output ---------------------------------------------------------------------------------------


def _print_summary(setup: Setup, options: Options) -> None:
    """Print network, data, training and machine, before the first epoch."""
    net, settings = setup.net, setup.settings
    a = net.architecture
    dropout = _once([f"{p:g}" for p in a.dropout]) or "0"
    residual = ", residual" if options.residual else ""
    *names, output = map(str, a.given_activations())
    hidden = _once(names) or "no hidden layer"
    flags = ("inputs", options.standardize), ("targets", options.standardize_targets)
    standardized = "".join(f", standardized {what}" for what, flag in flags if flag)
    typer.echo(
        f"network   {'-'.join(map(str, a.sizes))}, {hidden}, {output}, {a.loss_text}, "
        f"dropout {dropout}{residual}{standardized}: {a.n_parameters:,} parameters"
    )
    typer.echo(f"data      {setup.data.source}: {_rows_text(setup)}")
    smoothing = settings["label_smoothing"]
    steps = (
        f"{settings['epochs']} epochs, batch {settings['batch_size']}, {options.optimizer}, "
        f"learning rate {settings['learning_rate']:g}"
        + ("" if setup.found is None else " (from a range test)")
        + f", {options.schedule}"
    )
    if isinstance(settings["optimizer"], LBFGS):
        steps = f"{settings['epochs']} iterations, all rows, {options.optimizer}"
    typer.echo(
        f"training  {steps}, l2 {settings['l2']:g}, "
        + (f"label smoothing {smoothing:g}, " if smoothing else "")
        + f"seed {net.seed}"
    )
    plural = "s" if net.threads > 1 else ""
    precision = f", {a.precision}" if a.precision != "full" else ""
    typer.echo(f"machine   {net.backend}, {net.threads} thread{plural}, {a.dtype}{precision}")


def _once(names: Sequence[str]) -> str:
    return "/".join(names[:1] if len(set(names)) == 1 else names)


def _rows_text(setup: Setup) -> str:
    rows, held = len(setup.rows[0]), setup.settings["validation"]
    if setup.data.test is None:
        return f"{rows:,} rows to train, {len(held[0]):,} to validate"
    count = round((held or 0) * rows)
    validated = f", {count:,} to validate" if count else ""
    return f"{rows - count:,} rows to train{validated}, {len(setup.data.test[0]):,} to test"


def print_epoch(record: Record) -> None:
    """Print a line for a complete epoch; ``fit`` also reports progress within epochs."""
    from ..training.progress import describe

    if record.step == record.steps:
        typer.echo(f"epoch {record.epoch}  {describe(record)}", err=True)


def _print_times(net: Network, outcome: Outcome, folder: Path) -> None:
    training = sum(net.history.seconds)
    typer.echo(
        f"trained   {net.epochs} epochs in {outcome.seconds:.2f} s ({training:.2f} s of training)"
    )
    since_start = folders.process_seconds()
    if since_start is not None:
        typer.echo(f"process   {since_start:.2f} s since its start")
    typer.echo(f"run       {folder}")
