"""``pynn train``."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..backends import machine
from ..checks import features, targets
from ..spec.names import ACTIVATIONS, DTYPES, INITIALISERS, LOSSES, OUTPUTS, PRECISIONS
from ..spec.optimizers import OPTIMIZERS
from ..spec.schedules import SCHEDULES
from ..training.callbacks import Callback
from . import folder as cli_folder
from .app import _exit_code, _fail, _reported, _result, _show_warning, app
from .options import (
    BACKEND,
    DATA,
    PRESETS,
    THREADS,
    _hidden,
    _names,
    _number,
    _one_or_each,
    _option,
    _parts,
    _spec,
    _whole,
    _with_presets,
)

if TYPE_CHECKING:
    from ..network import Network


# --- Data -----------------------------------------------------------------------------------------


def _outputs(data: cli_folder.Data, loss: str) -> tuple[int, np.ndarray | None]:
    """How many outputs the targets need, and the classes if they are labels."""
    y = data.train[1]
    if y.ndim == 2 and y.shape[1] > 1:
        return y.shape[1], None
    if loss == "mse" and y.dtype.kind == "f":
        return 1, None
    labels = [y.ravel()] if data.test is None else [y.ravel(), data.test[1].ravel()]
    labels_in_all = np.concatenate(labels)
    if labels_in_all.dtype.kind in "iu":
        # As np.unique does it, which loads numpy.ma for that: some 15 ms.
        ordered = np.sort(labels_in_all)
        classes = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    else:
        classes = np.unique(labels_in_all)
    if classes.dtype.kind == "f" and (classes % 1).any() and 2 * len(classes) > len(labels_in_all):
        raise ValueError(
            f"data: found {len(classes)} different labels in {len(labels_in_all)} rows, many of "
            f"them fractions (the first is {classes[classes % 1 != 0][0]}), expected classes; to "
            "learn values, use --loss mse"
        )
    if len(classes) < 2:
        raise ValueError(
            f"data: found labels of one class only ({classes[0]}), expected at least two classes"
        )
    return 1 if loss == "binary_cross_entropy" and len(classes) == 2 else len(classes), classes


@app.command()
@_reported
@_with_presets
def train(
    ctx: typer.Context,
    fast: Annotated[
        bool,
        _option("Presets", "98 % on MNIST in a fraction of a second.", "--fast"),
    ] = False,
    accurate: Annotated[
        bool,
        _option("Presets", "98.4 % on MNIST in about a second.", "--accurate"),
    ] = False,
    data: Annotated[Path | None, _option("Data", DATA, show_default="MNIST")] = None,
    validation: Annotated[
        float,
        _option("Data", "Share of the training rows held out to validate on; 0 for none."),
    ] = 0.1,
    hidden: Annotated[
        str, _option("Network", "Widths of the hidden layers, or none.", metavar="WIDTHS")
    ] = "256,128",
    activation: Annotated[
        str, _option("Network", f"One for all hidden layers, or one each: {_names(ACTIVATIONS)}.")
    ] = "relu",
    output: Annotated[
        str | None,
        _option(
            "Network",
            f"{_names(OUTPUTS)}.",
            show_default="what the loss needs",
        ),
    ] = None,
    loss: Annotated[str, _option("Network", f"{_names(LOSSES)}.")] = "cross_entropy",
    dropout: Annotated[
        str,
        _option("Network", "Share of units left out, for all hidden layers or one each."),
    ] = "0.1",
    init: Annotated[
        str | None,
        _option(
            "Network",
            f"Initial weights, of all layers or one each: {_names(INITIALISERS)}.",
            show_default="what the activations need",
        ),
    ] = None,
    dtype: Annotated[str, _option("Network", f"{_names(DTYPES)}.")] = "float32",
    precision: Annotated[
        str, _option("Network", f"Of matrix products: {_names(PRECISIONS)}.")
    ] = "full",
    epochs: Annotated[int, _option("Training", "Times to go through the data.")] = 8,
    batch_size: Annotated[
        str, _option("Training", "Rows for each update, or full.", metavar="ROWS")
    ] = "64",
    optimizer: Annotated[
        str,
        _option(
            "Training", f"{_names(OPTIMIZERS)}; with parameters: adam:beta2=0.99,epsilon=1e-7."
        ),
    ] = "adam",
    learning_rate: Annotated[float, _option("Training", "Step size, before the schedule.")] = 0.002,
    schedule: Annotated[
        str,
        _option("Training", f"{_names(SCHEDULES)}; with parameters: one_cycle:warmup=0.2."),
    ] = "one_cycle",
    l2: Annotated[float, _option("Training", "Weight of the penalty on large weights.")] = 0.0,
    label_smoothing: Annotated[
        float,
        _option("Training", "Share of every target that is spread over all classes."),
    ] = 0.0,
    shuffle: Annotated[
        bool,
        _option(
            "Training", "Take the rows in a new order in each epoch.", "--shuffle/--no-shuffle"
        ),
    ] = True,
    early_stopping: Annotated[
        int | None,
        _option(
            "Training",
            "Stop after so many epochs without a lower validation loss, and keep the best weights.",
            metavar="PATIENCE",
        ),
    ] = None,
    stop_at_loss: Annotated[
        float | None,
        _option("Training", "Stop when the training loss is at most this.", metavar="LOSS"),
    ] = None,
    seed: Annotated[
        str, _option("Training", "Key of all random numbers; random draws one.", metavar="NUMBER")
    ] = "0",
    backend: Annotated[str, _option("Machine", BACKEND)] = "auto",
    threads: Annotated[int | None, _option("Machine", THREADS, show_default="pynn chooses")] = None,
    run: Annotated[
        Path | None,
        _option(
            "Results",
            "Folder for the model, settings, history and pictures.",
            metavar="FOLDER",
            show_default="runs/<date-time>",
        ),
    ] = None,
    checkpoint: Annotated[
        float,
        _option(
            "Results",
            "Seconds from one checkpoint to the next, kept in the folder until the run has ended; "
            "0 for none.",
            metavar="SECONDS",
        ),
    ] = 60.0,
    resume: Annotated[
        bool,
        _option(
            "Results", "Go on with the run in --run that was cut off, if there is one.", "--resume"
        ),
    ] = False,
    pictures: Annotated[
        bool, _option("Results", "Draw pictures.", "--pictures/--no-pictures")
    ] = True,
    plain: Annotated[
        bool, _option("Results", "A line for every epoch instead of a bar.", "--plain")
    ] = False,
    quiet: Annotated[bool, _option("Results", "Print the result alone.", "--quiet", "-q")] = False,
) -> None:
    """Train a network, on MNIST if no data is given, and write what came of it into a folder.

    A preset only changes defaults: it draws no pictures and keeps no checkpoint, and on MNIST it
    holds out no rows, unless told --pictures, --checkpoint or --validation.
    """
    options = {key: str(v) if isinstance(v, Path) else v for key, v in locals().items()}
    for name in ("ctx", *PRESETS):
        del options[name]
    if fast or accurate:
        options["preset"] = "fast" if fast else "accurate"
    if pictures:
        _check_matplotlib()
    from ..network import Network
    from ..training.callbacks import EarlyStopping
    from ..training.checkpoint import Checkpoint
    from ..training.divergence import DivergenceError

    if not 0 <= validation < 1:
        raise ValueError(f"validation: found {validation:g}, expected a share in [0, 1)")
    if not 0 <= checkpoint < np.inf:
        raise ValueError(f"checkpoint: found {checkpoint:g}, expected seconds of 0 or more")
    if resume and (run is None or not checkpoint):
        if run is None:
            what = "no --run, expected --run FOLDER, and checkpoints in it, to go on from"
        elif fast or accurate:
            what = "a preset, which keeps no checkpoint, expected --checkpoint SECONDS with it"
        else:
            what = "--checkpoint 0, expected --checkpoint SECONDS, to go on from one"
        raise ValueError(f"resume: found {what}")
    ended = cli_folder.ended(run) if resume and run is not None else None
    if ended is not None:
        _must_be_the_same(ctx, ended, options)
        typer.echo(f"run       {run} has ended already")
        return
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": "full" if batch_size == "full" else _whole("batch_size", batch_size),
        "optimizer": _spec("optimizer", optimizer, OPTIMIZERS),
        "learning_rate": learning_rate,
        "schedule": _spec("schedule", schedule, SCHEDULES),
        "l2": l2,
        "label_smoothing": label_smoothing,
        "shuffle": shuffle,
    }
    callbacks: list[Any] = []
    if early_stopping is not None:
        if not validation:
            raise ValueError("early_stopping: found no validation, expected --validation above 0")
        if early_stopping < 1:
            raise ValueError(f"early_stopping: found {early_stopping}, expected 1 epoch or more")
        callbacks.append(EarlyStopping("validation_loss", patience=early_stopping))
    if stop_at_loss is not None:
        callbacks.append(
            EarlyStopping("loss", patience=None, threshold=stop_at_loss, restore_best=False)
        )
    widths = _hidden(hidden)
    network = {
        "activation": _one_or_each(_parts(activation)),
        "output": output,
        "loss": loss,
        "dropout": _one_or_each([_number("dropout", part) for part in _parts(dropout)] or [0.0]),
        "init": None if init is None else _one_or_each(_parts(init)),
        "dtype": dtype,
        "precision": precision,
        "backend": backend,
        "threads": threads,
        "seed": None if seed == "random" else _whole("seed", seed, "a whole number or random"),
    }
    if not widths:
        network |= {"activation": [], "dropout": []}

    found = cli_folder.read_data(data)
    n_out, classes = _outputs(found, loss)
    n_in = int(np.prod(found.train[0].shape[1:]))
    net = Network([n_in, *widths, n_out], **network)
    if classes is not None:
        net.classes = classes

    (x, y), test, tested = found.train, found.test, "test"
    if test is None:
        (x, y), test = cli_folder.hold_out(found.train, validation, net.seed)
        settings["validation"], tested = test, "validation"
    else:
        settings["validation"] = validation or None
        try:
            a = net.architecture
            targets.targets(test[1], len(features.features(test[0], a)), a, net._model.task)
        except (ValueError, TypeError) as error:
            # Better now than after hours of training.
            raise ValueError(f"data: the test set does not fit: {error}") from error

    folder = cli_folder.new_folder(run, resume)
    kept = folder / cli_folder.CHECKPOINT
    if checkpoint:
        settings |= {"checkpoint": Checkpoint(kept, seconds=checkpoint), "resume": resume}
    try:
        if not quiet:
            callbacks.append(_Header(lambda: _describe(net, found, settings, len(x), options)))
        began = time.perf_counter()
        stopped, diverged = 0, ""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                # Not as a callback: an interrupt while it prints is as good as any.
                shown = functools.partial(_print_whole_epochs, net) if plain else True
                net.fit(x, y, **settings, callbacks=callbacks, progress=not quiet and shown)
        except KeyboardInterrupt as interrupt:
            stopped = _exit_code(interrupt)
        except DivergenceError as error:
            diverged = str(error).removeprefix("fit: ")
        seconds = time.perf_counter() - began

        net.save(folder / cli_folder.MODEL)
    except BaseException:
        # An empty folder would look like a run.
        with suppress(OSError):
            folder.rmdir()
        raise
    cli_folder.write_json(folder / cli_folder.HISTORY, net.history.to_dict())
    record: dict[str, Any] = {
        "options": options,
        "sizes": net.sizes,
        "parameters": len(net.parameters),
        "seed": net.seed,
        "backend": net.backend,
        "threads": net.threads,
        "data": {
            "source": found.source,
            "path": None if data is None else str(data.resolve()),
            "train_rows": len(found.train[0]),
            "test_rows": None if found.test is None else len(found.test[0]),
            "sha256": cli_folder.fingerprint(found.train + (found.test or ())),
        },
        "environment": machine.environment(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "result": {
            "epochs": net.epochs,
            "seconds": seconds,
            "updates": net.updates,
            "interrupted": bool(stopped),
            "diverged": diverged,
        },
    }
    if stopped or diverged:
        cli_folder.write_json(folder / cli_folder.SETTINGS, record)
        if pictures:
            _draw_curves(net, folder)
        if diverged:
            # To go on from it would lead to the same place.
            kept.unlink(missing_ok=True)
            _fail(f"{diverged}; that network is in {folder}")
        how = f"; --run {folder} --resume goes on" if kept.exists() else ""
        _fail(
            f"stopped after {net.epochs} whole epochs; what was trained is in {folder}{how}",
            stopped,
        )

    result = net.evaluate(*test)
    record["result"] |= {f"{tested}_{name}": value for name, value in result.items()}
    cli_folder.write_json(folder / cli_folder.SETTINGS, record)
    kept.unlink(missing_ok=True)
    if pictures:
        _draw(net, test, folder)
    if not quiet:
        speed = sum(net.history.seconds)
        typer.echo(f"trained   {net.epochs} epochs in {seconds:.2f} s ({speed:.2f} s of training)")
        since_start = cli_folder.process_seconds()
        if since_start is not None:
            typer.echo(f"process   {since_start:.2f} s since its start")
        typer.echo(f"run       {folder}")
    typer.echo(_result(tested, result))


# What may differ from one part of a run to the next.
_FREE = ("run", "resume", "checkpoint", "threads", "plain", "quiet")


def _must_be_the_same(ctx: typer.Context, ended: dict[str, Any], options: dict[str, Any]) -> None:
    """Raise if an option was typed that is not as in a run that has ended: it would do nothing."""
    kept = ended["options"] | {"data": ended["data"]["path"]}
    now = dict(options)
    if now["data"] is not None:
        now["data"] = str(Path(now["data"]).resolve())
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if name in _FREE or source is None or source.name != "COMMANDLINE":
            continue
        found, was = now.get(name), kept.get(name)
        if name in PRESETS:
            found, was = name, kept.get("preset", "no preset")
        if found != was:
            raise ValueError(
                f"{name}: found {found}, but the run in {options['run']} has {was} and has ended; "
                "expected the same, or another folder for another run"
            )


class _Header(Callback):
    """Says what is to be trained once nothing of it is refused any more."""

    def __init__(self, say: Callable[[], None]) -> None:
        self._say = say

    def on_fit_begin(self, net: Network) -> None:
        self._say()


def _check_matplotlib() -> None:
    """Fail before training, not after it, if there is nothing to draw with."""
    from ..plots import style

    try:
        style.require()
    except ImportError as error:
        raise ImportError(f"{error}, or train with --no-pictures") from error


def _print_epoch(net: Network, record: Any) -> None:
    from ..training.progress import describe

    typer.echo(f"epoch {record.epoch}  {describe(record)}", err=True)


def _print_whole_epochs(net: Network, record: Any) -> None:
    if record.step == record.steps:
        _print_epoch(net, record)


def _once(names: Sequence[str]) -> str:
    return "/".join(names[:1] if len(set(names)) == 1 else names)


def _describe(
    net: Network,
    data: cli_folder.Data,
    settings: dict[str, Any],
    rows: int,
    options: dict[str, Any],
) -> None:
    a = net.architecture
    shares = _once([f"{p:g}" for p in a.dropout]) or "0"
    hidden = _once(a.activations[:-1]) or "no hidden layer"
    typer.echo(
        f"network   {'-'.join(map(str, a.sizes))}, {hidden}, {a.activations[-1]}, {a.loss}, "
        f"dropout {shares}: {a.n_parameters:,} parameters"
    )
    held = settings["validation"]
    if isinstance(held, tuple):
        split = f"{rows:,} rows to train, {len(held[0]):,} to validate"
    else:
        count = round((held or 0) * rows)
        split = f"{rows - count:,} rows to train" + (f", {count:,} to validate" if count else "")
    if data.test is not None:
        split += f", {len(data.test[0]):,} to test"
    typer.echo(f"data      {data.source}: {split}")
    smoothing = settings["label_smoothing"]
    typer.echo(
        f"training  {settings['epochs']} epochs, batch {settings['batch_size']}, "
        f"{options['optimizer']}, learning rate {settings['learning_rate']:g}, "
        f"{options['schedule']}, l2 {settings['l2']:g}, "
        + (f"label smoothing {smoothing:g}, " if smoothing else "")
        + f"seed {net.seed}"
    )
    many = "s" if net.threads > 1 else ""
    rounded = f", {a.precision}" if a.precision != "full" else ""
    typer.echo(f"machine   {net.backend}, {net.threads} thread{many}, {a.dtype}{rounded}")


def _draw_curves(net: Network, folder: Path) -> None:
    from ..plots import curves as plots_curves
    from ..plots import style

    if len(net.history):
        with style.for_files():
            curves = plots_curves.learning_curves(net.history)
            cli_folder.write_picture(folder / "learning_curve.png", curves[0])


def _draw(net: Network, test: cli_folder.Pair, folder: Path) -> None:
    from ..plots import classes as plots_classes
    from ..plots import pictures as plots_pictures
    from ..plots import style

    _draw_curves(net, folder)
    images, labels = cli_folder.images_of(test[0]), cli_folder.labels_of(net, test[1])
    with style.for_files():
        if labels is not None and net.classes is not None:
            probabilities = net.predict_proba(test[0])
            predicted = net.classes[probabilities.argmax(axis=1)]
            ax = plots_classes.confusion_matrix(labels, predicted, net.classes)
            cli_folder.write_picture(folder / "confusion_matrix.png", ax)
            if images is not None:
                for name, draw in (
                    ("predictions", plots_pictures.predictions),
                    ("mistakes", plots_pictures.mistakes),
                ):
                    ax = draw(probabilities, images, labels, classes=net.classes)
                    cli_folder.write_picture(folder / f"{name}.png", ax)
        if images is not None:
            ax = plots_pictures.first_layer_weights(net, shape=images.shape[1:])
            cli_folder.write_picture(folder / "first_layer.png", ax)
