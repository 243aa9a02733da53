"""The command line: from options to the words of the library, from its errors to one line."""

from __future__ import annotations

import dataclasses
import functools
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import numpy as np
import typer

from . import checks
from . import run as runs
from .callbacks import Callback
from .files import shown
from .spec import (
    ACTIVATIONS,
    DTYPES,
    INITIALISERS,
    LOSSES,
    OPTIMIZERS,
    OUTPUTS,
    PRECISIONS,
    SCHEDULES,
    Optimizer,
    Schedule,
    choose,
)

if TYPE_CHECKING:
    from .network import Network

Command = TypeVar("Command", bound=Callable[..., None])

app = typer.Typer(
    help="Train dense neural networks on the CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# --- Errors ---------------------------------------------------------------------------------------


def _fail(message: str, code: int = 1) -> NoReturn:
    # The terminal may have closed.
    with suppress(OSError):
        typer.echo(f"pynn: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    typer.echo(f"pynn: {message}", err=True)


class _Terminated(KeyboardInterrupt):
    """A signal that ends a process, and is to save what Ctrl-C saves."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM, and SIGHUP of a terminal that closes, raise ``_Terminated``.

    But for those that somebody has given another meaning, as nohup does.
    """
    ours = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if ours else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]

    def stop(number: int, frame: object) -> NoReturn:
        # Some send it twice, and a shell both, which shall not break off the saving.
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Terminated(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 and the number of the signal, as shells do."""
    number = interrupt.args[0] if isinstance(interrupt, _Terminated) else signal.SIGINT
    return 128 + int(number)


def _reported(command: Command) -> Command:
    """Make a command say what a user can do something about in one line instead of a traceback."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        try:
            with _terminable():
                command(**options)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt as interrupt:
            _fail("stopped", _exit_code(interrupt))
        except OSError as error:
            if error.strerror is None:
                _fail(str(error))
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror}")
        except (ValueError, TypeError, ImportError, MemoryError) as error:
            text = str(error) or type(error).__name__
            # The library names its argument; here that is an option.
            name = re.match(r"\w+", text)
            if name and name.group() in options and re.match(r"\w+(\[\d+\])?: ", text):
                text = "--" + name.group().replace("_", "-") + text[name.end() :]
            _fail(text)

    return run  # type: ignore[return-value]


# --- From text to settings ------------------------------------------------------------------------

Spec = TypeVar("Spec", Optimizer, Schedule)


def _spec(option: str, text: str, kinds: Mapping[str, type[Spec]]) -> Spec:
    """Read ``name`` or ``name:parameter=value,parameter=value``."""
    name, _, rest = text.partition(":")
    kind = kinds[choose(option, name.strip().replace("-", "_"), kinds)]
    known = [field.name for field in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    while rest.strip():
        key, _, rest = rest.partition("=")
        key = key.strip().replace("-", "_")
        if key not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise ValueError(f"{option}: found parameter {key!r} of {name}, expected {expected}")
        if key == "after":
            # The rest belongs to the schedule inside: warm_up:after=step:every=5,factor=0.5
            values[key], rest = _spec(option, rest, kinds), ""
        else:
            value, _, rest = rest.partition(",")
            values[key] = _number(f"{option}: {name}.{key}", value)
    return kind(**values)


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{what}: found {text.strip()!r}, expected a number") from None


def _whole(what: str, text: str, expected: str = "a whole number") -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what}: found {text.strip()!r}, expected {expected}") from None


def _one_or_each(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _hidden(text: str) -> list[int]:
    widths = [_whole("hidden", part, "widths such as 256,128") for part in _parts(text)]
    if any(width < 1 for width in widths):
        raise ValueError(f"hidden: found {text!r}, expected widths of 1 or more, such as 256,128")
    return widths


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() not in ("", "none") else []


# --- Data -----------------------------------------------------------------------------------------


def _outputs(data: runs.Data, loss: str) -> tuple[int, np.ndarray | None]:
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


# --- Commands -------------------------------------------------------------------------------------


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(f"pynn {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


DATA = "Folder of IDX files, .csv (labels in the first column) or .npz."
BACKEND = "auto, cython, numba or numpy."
THREADS = "How many threads compute."
LAST_RUN = "that of the last run in runs/"


def _option(panel: str, help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def _names(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)


# Chosen on rows 50,000 to 59,999 of the training set; docs/time-to-accuracy.md says how.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "hidden": "144",
        "epochs": 2,
        "batch_size": "256",
        "learning_rate": 0.014,
    },
    "accurate": {
        "hidden": "384",
        "epochs": 3,
        "batch_size": "256",
        "learning_rate": 0.01,
    },
}
for _preset in PRESETS.values():
    _preset |= {
        "activation": "gelu",
        "dropout": "0",
        "optimizer": "adam:beta1=0.8,beta2=0.95",
        "schedule": "one_cycle:warmup=0.2,initial=0.2",
        "label_smoothing": 0.1,
        "validation": 0.0,
        "pictures": False,
        # Its SHA-256 of all data and its files take a good part of the time of so short a training.
        "checkpoint": 0.0,
    }


def _with_presets(command: Command) -> Command:
    """Have a preset stand in for the defaults of options that were not given."""

    @functools.wraps(command)
    def run(ctx: typer.Context, **options: Any) -> None:
        asked = [name for name in PRESETS if options[name]]
        if len(asked) > 1:
            raise ValueError(f"{asked[0]}: found --{asked[1]} as well, expected one of them")
        for name in asked:
            values = dict(PRESETS[name])
            if options["data"] is not None:
                # Other data may have no test set, and nobody knows yet when to stop on them.
                del values["validation"]
            if options["loss"] != "cross_entropy":
                del values["label_smoothing"]
            for option, value in values.items():
                source = ctx.get_parameter_source(option)
                if source is not None and source.name == "DEFAULT":
                    options[option] = value
        command(ctx=ctx, **options)

    return run  # type: ignore[return-value]


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
    from .callbacks import EarlyStopping
    from .checkpoint import Checkpoint
    from .divergence import DivergenceError
    from .network import Network

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
    ended = runs.ended(run) if resume and run is not None else None
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

    found = runs.read_data(data)
    n_out, classes = _outputs(found, loss)
    n_in = int(np.prod(found.train[0].shape[1:]))
    net = Network([n_in, *widths, n_out], **network)
    if classes is not None:
        net.classes = classes

    (x, y), test, tested = found.train, found.test, "test"
    if test is None:
        (x, y), test = runs.hold_out(found.train, validation, net.seed)
        settings["validation"], tested = test, "validation"
    else:
        settings["validation"] = validation or None
        try:
            a = net.architecture
            checks.targets(test[1], len(checks.features(test[0], a)), a, net._task)
        except (ValueError, TypeError) as error:
            # Better now than after hours of training.
            raise ValueError(f"data: the test set does not fit: {error}") from error

    folder = runs.new_folder(run, resume)
    kept = folder / runs.CHECKPOINT
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

        net.save(folder / runs.MODEL)
    except BaseException:
        # An empty folder would look like a run.
        with suppress(OSError):
            folder.rmdir()
        raise
    runs.write_json(folder / runs.HISTORY, net.history.to_dict())
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
            "sha256": runs.fingerprint(found.train + (found.test or ())),
        },
        "environment": runs.environment(),
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
        runs.write_json(folder / runs.SETTINGS, record)
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
    runs.write_json(folder / runs.SETTINGS, record)
    kept.unlink(missing_ok=True)
    if pictures:
        _draw(net, test, folder)
    if not quiet:
        speed = sum(net.history.seconds)
        typer.echo(f"trained   {net.epochs} epochs in {seconds:.2f} s ({speed:.2f} s of training)")
        since_start = runs.process_seconds()
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
    from . import plots

    try:
        plots.require()
    except ImportError as error:
        raise ImportError(f"{error}, or train with --no-pictures") from error


def _print_epoch(net: Network, record: Any) -> None:
    from .progress import describe

    typer.echo(f"epoch {record.epoch}  {describe(record)}", err=True)


def _print_whole_epochs(net: Network, record: Any) -> None:
    if record.step == record.steps:
        _print_epoch(net, record)


def _once(names: Sequence[str]) -> str:
    return "/".join(names[:1] if len(set(names)) == 1 else names)


def _describe(
    net: Network, data: runs.Data, settings: dict[str, Any], rows: int, options: dict[str, Any]
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
    from . import plots

    if len(net.history):
        with plots.for_files():
            curves = plots.learning_curves(net.history)
            runs.write_picture(folder / "learning_curve.png", curves[0])


def _draw(net: Network, test: runs.Pair, folder: Path) -> None:
    from . import plots

    _draw_curves(net, folder)
    images, labels = runs.images_of(test[0]), runs.labels_of(net, test[1])
    with plots.for_files():
        if labels is not None and net.classes is not None:
            probabilities = net.predict_proba(test[0])
            predicted = net.classes[probabilities.argmax(axis=1)]
            ax = plots.confusion_matrix(labels, predicted, net.classes)
            runs.write_picture(folder / "confusion_matrix.png", ax)
            if images is not None:
                for name, draw in ("predictions", plots.predictions), ("mistakes", plots.mistakes):
                    ax = draw(probabilities, images, labels, classes=net.classes)
                    runs.write_picture(folder / f"{name}.png", ax)
        if images is not None:
            ax = plots.first_layer_weights(net, shape=images.shape[1:])
            runs.write_picture(folder / "first_layer.png", ax)


def _result(name: str, result: Mapping[str, float | None]) -> str:
    accuracy = result.get("accuracy")
    if accuracy is None or np.isnan(accuracy):
        return f"{name} loss {result['loss']:.6g}".strip()
    return f"{name} accuracy {100 * accuracy:.2f} %".strip()


Model = Annotated[
    Path | None,
    typer.Argument(help="File of a model.", show_default=LAST_RUN),
]


@app.command()
@_reported
def evaluate(
    model: Model = None,
    data: Annotated[
        Path | None, typer.Option(help=DATA, show_default="those of its run, or MNIST")
    ] = None,
    backend: Annotated[str, typer.Option(help=BACKEND)] = "auto",
    threads: Annotated[int | None, typer.Option(help=THREADS, show_default="pynn chooses")] = None,
) -> None:
    """Measure loss and accuracy of a model on the test set, or on all rows if there is none."""
    path = runs.newest_model() if model is None else model
    net = _open(path, backend, threads)
    place = runs.data_of(path) if data is None else data
    try:
        found = runs.read_data(place)
    except FileNotFoundError as error:
        if data is not None or place is None:
            raise
        raise FileNotFoundError(f"{error}; if it has moved, say where with --data") from error
    x, y = found.train if found.test is None else found.test
    result = net.evaluate(x, y)
    name = "" if found.test is None else "test "
    typer.echo(f"data      {found.source}: {len(x):,} rows")
    typer.echo(f"{name}loss {result['loss']:.6g}")
    if "accuracy" in result:
        typer.echo(_result(name.strip(), result))


@app.command()
@_reported
def report(
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run.", show_default="the last run in runs/"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write it.", show_default="RUN/report.html"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Where the data of the run are now.", show_default="where they were in training"
        ),
    ] = None,
) -> None:
    """Make one page of a run: settings, curves, mistakes, timings. It needs no other file."""
    from .report import write

    typer.echo(f"report    {write(run, output, data)}")


def _open(model: Path | None, backend: str, threads: int | None) -> Network:
    from .network import load

    path = runs.newest_model() if model is None else model
    net = load(path / runs.MODEL if path.is_dir() else path, backend=backend, threads=threads)
    typer.echo(f"model     {path}: {net}")
    return net


@app.command()
@_reported
def predict(
    images: Annotated[list[Path], typer.Argument(help="Pictures of one digit each.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="File of a model.", show_default=LAST_RUN),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Only scale the pictures: no cropping, no inverting.")
    ] = False,
    top: Annotated[int, typer.Option(help="How many classes to print.", min=1)] = 3,
    backend: Annotated[str, typer.Option(help=BACKEND)] = "auto",
    threads: Annotated[int | None, typer.Option(help=THREADS, show_default="pynn chooses")] = None,
) -> None:
    """Tell what digits pictures show.

    A picture is prepared as the images of MNIST were: light on dark, the digit fitted into 20 x 20
    pixels and centred by its mass in 28 x 28.
    """
    from . import images as pictures
    from .plots import percent, side_of

    net = _open(model, backend, threads)
    side = side_of(net.sizes[0])
    if side is None or side < 8:
        raise ValueError(
            f"model: found one with {net.sizes[0]} inputs, expected a square number of pixels, "
            "8 x 8 or more"
        )
    failed = False
    for path in images:
        try:
            grey = pictures.read_grey(path)
            image = pictures.resized(grey, side) if raw or side != 28 else pictures.like_mnist(grey)
        except (ValueError, OSError) as error:
            # The other pictures still get their answer.
            text = str(error)
            typer.echo(f"pynn: {text if str(path) in text else f'{path}: {text}'}", err=True)
            failed = True
            continue
        x = image.reshape(1, -1)
        if net.classes is None:
            typer.echo(f"{path}: {net.predict(x)[0]}")
            continue
        row = net.predict_proba(x)[0]
        best = np.argsort(-row, kind="stable")[:top]
        # They are what the model's file says.
        names = [shown(str(name)) for name in net.classes[best]]
        shares = ", ".join(f"{name} {percent(row[k])}" for name, k in zip(names, best, strict=True))
        typer.echo(f"{path}: {names[0]}  ({shares})")
    if failed:
        raise typer.Exit(1)


@app.command()
@_reported
def info() -> None:
    """Print version, instruction set, threads and backends."""
    found = runs.environment()
    reasons = found.pop("backends")
    chosen = found.pop("backend")
    typer.echo(f"{'pynn':<12}{found.pop('version')}")
    for name, reason in reasons.items():
        state = reason or "there" + (", used by default" if name == chosen else "")
        typer.echo(f"{name:<12}{state}")
    for name, value in found.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        typer.echo(f"{name:<12}{text}")
