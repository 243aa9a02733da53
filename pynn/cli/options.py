"""The options of ``pynn train``, their presets, and the conversion of their text.

`Options` declares every option once; `takes_options` gives a command these options.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from ..data.table import IMPUTATIONS, TASKS
from ..spec.activations import PARAMETRIC, Parametric
from ..spec.arguments import choose
from ..spec.losses import LOSSES, LossFunction
from ..spec.names import ACTIVATIONS, DTYPES, INITIALISERS, OUTPUTS, PRECISIONS
from ..spec.norms import NORMS, Norm
from ..spec.optimizers import ALL_OPTIMIZERS, LBFGS, Optimizer
from ..spec.schedules import SCHEDULES, Schedule
from .app import paragraphs, reported

# Help texts that several commands share.
DATA = "Folder of IDX files, .csv or .npz."
TARGET = "Column of a .csv file to predict."
INDEX = "Skip the first column of a .csv file, which holds row numbers."
BACKEND = "auto, cython, numba or numpy."
THREADS = "Maximum number of threads."
METRICS = "Further measures: auc,f1 for classes, mae,r2 for values."

IDLE = ("run", "resume", "pictures", "plain", "quiet", "checkpoint")
"""Options that do not change the trained network."""
REPEATED = ("categories", "drop", "metrics", "class_weight")
"""Options that may be typed several times; their texts are joined by line breaks."""

# --- Declaration ----------------------------------------------------------------------------------

COMMON, SWITCHES = "Most used", "Switches"


def _option(panel: str, help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def _switch(help: str, *names: str, panel: str = SWITCHES, **more: Any) -> Any:
    # Typer prints <bool> for an option without a metavar.
    return _option(panel, help, *names, metavar=" ", **more)


def _names(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)


def _choices(names: Sequence[str] | Mapping[str, Any]) -> str:
    return "|".join(names)


@dataclass(frozen=True)
class Options:
    """The options of ``pynn train``, as typed or by default; in panels of ``--help``."""

    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder for the model, settings, history and plots.",
            metavar="RUN",
            show_default="runs/<date-time>",
        ),
    ] = None

    data: Annotated[Path | None, _option(COMMON, DATA, metavar="PATH", show_default="MNIST")] = None
    target: Annotated[
        str | None,
        _option(COMMON, TARGET, metavar="COLUMN", show_default="the first"),
    ] = None
    hidden: Annotated[
        str,
        _option(
            COMMON,
            "Widths of the hidden layers, or none.",
            metavar="WIDTHS",
            show_default="256,128; tables 64,32",
        ),
    ] = "256,128"
    epochs: Annotated[
        int,
        _option(
            COMMON, "Passes over the data.", metavar="N", show_default="8; tables by their rows"
        ),
    ] = 8
    batch_size: Annotated[
        str,
        _option(
            COMMON,
            "Rows for each update, or full.",
            metavar="ROWS",
            show_default="64; tables by their rows",
        ),
    ] = "64"
    learning_rate: Annotated[
        float,
        _option(
            COMMON,
            "Step size, which the schedule multiplies.",
            metavar="RATE",
            show_default="0.002; tables 0.005",
        ),
    ] = 0.002
    optimizer: Annotated[
        str,
        _option(
            COMMON,
            f"{_names(ALL_OPTIMIZERS)}; with parameters: adam:beta2=0.99,epsilon=1e-7. lbfgs takes "
            "all rows at once, by default without dropout, schedule and checkpoints.",
            metavar="NAME",
        ),
    ] = "adam"
    validation: Annotated[
        float,
        _option(
            COMMON,
            "Share of the training rows to hold out; 0 for none.",
            metavar="SHARE",
            show_default="0.1; tables 0.2",
        ),
    ] = 0.1
    fast: Annotated[
        bool, _switch("98 % on MNIST in a fraction of a second.", "--fast", panel=COMMON)
    ] = False
    resume: Annotated[
        bool,
        _switch("Continue the run in RUN with its own settings.", "--resume", panel=COMMON),
    ] = False

    task: Annotated[
        str | None,
        _option(
            "Tables",
            f"{_names(TASKS)}.",
            metavar="TASK",
            show_default="classification for text and few whole numbers",
        ),
    ] = None
    impute: Annotated[
        str | None,
        _option(
            "Tables",
            f"Replace missing numbers: {_names(IMPUTATIONS)}. Missing categories become the most "
            "frequent one.",
            metavar="METHOD",
            show_default="missing values are refused",
        ),
    ] = None
    categories: Annotated[
        str | None,
        _option(
            "Tables",
            "Columns whose numbers are names of categories.",
            metavar="COLUMNS",
            show_default="columns with text",
        ),
    ] = None
    drop: Annotated[
        str | None,
        _option(
            "Tables",
            "Columns to leave out; may be repeated, as for a name with a comma.",
            metavar="COLUMNS",
            show_default="none",
        ),
    ] = None
    weights: Annotated[
        str | None,
        _option(
            "Tables", "Column of the weights of the rows.", metavar="COLUMN", show_default="none"
        ),
    ] = None
    missing_targets: Annotated[
        str,
        _option("Tables", "ignore leaves missing targets out.", metavar="error|ignore"),
    ] = "error"
    class_weight: Annotated[
        str | None,
        _option(
            "Tables",
            "balanced: each class weighs n / (number of classes · rows of the class); or the "
            "weights of labels: ill=3,well=1.",
            metavar="WEIGHTS",
            show_default="none",
        ),
    ] = None
    metrics: Annotated[
        str | None,
        _option(
            "Tables",
            METRICS,
            metavar="NAMES",
            show_default="none; tables f1_macro,auc or r2,mae,rmse",
        ),
    ] = None

    activation: Annotated[
        str,
        _option(
            "Network",
            f"One for all hidden layers, or one for each: {_names(ACTIVATIONS)}; with parameters: "
            "leaky_relu:slope=0.2, elu:alpha=0.5, softplus:beta=2.",
            metavar="NAME",
        ),
    ] = "relu"
    output: Annotated[
        str | None,
        _option(
            "Network", f"{_names(OUTPUTS)}.", metavar="NAME", show_default="depends on the loss"
        ),
    ] = None
    loss: Annotated[
        str,
        _option(
            "Network",
            f"{_names(LOSSES)}; with parameters: huber:delta=2.",
            metavar="NAME",
            show_default="cross_entropy; mse for values in a table",
        ),
    ] = "cross_entropy"
    dropout: Annotated[
        str,
        _option(
            "Network",
            "Share of units to drop, one for all hidden layers or one for each.",
            metavar="SHARE",
            show_default="0.1; tables 0",
        ),
    ] = "0.1"
    input_dropout: Annotated[
        float, _option("Network", "Share of inputs to drop.", metavar="SHARE")
    ] = 0.0
    input_noise: Annotated[
        float,
        _option(
            "Network", "Standard deviation of noise on the scaled inputs.", metavar="DEVIATION"
        ),
    ] = 0.0
    hidden_noise: Annotated[
        str,
        _option(
            "Network",
            "Standard deviation of noise on hidden units, one for all layers or one for each.",
            metavar="DEVIATION",
        ),
    ] = "0"
    init: Annotated[
        str | None,
        _option(
            "Network",
            f"Initial weights, one for all layers or one for each: {_names(INITIALISERS)}.",
            metavar="NAME",
            show_default="depends on the activations",
        ),
    ] = None
    dtype: Annotated[str, _option("Network", "Number format.", metavar=_choices(DTYPES))] = (
        "float32"
    )
    precision: Annotated[
        str, _option("Network", "Precision of matrix products.", metavar=_choices(PRECISIONS))
    ] = "full"

    schedule: Annotated[
        str,
        _option(
            "Training",
            f"{_names(SCHEDULES)}; with parameters: one_cycle:warmup=0.2.",
            metavar="NAME",
        ),
    ] = "one_cycle"
    find_learning_rate: Annotated[
        bool,
        _switch(
            "Train with the rate that a range test of 100 steps suggests, and draw its losses.",
            "--find-learning-rate",
            panel="Training",
        ),
    ] = False
    layer_rates: Annotated[
        str | None,
        _option(
            "Training",
            "Factors on the learning rate, one for each layer: 0.1,0.5,1.",
            metavar="FACTORS",
            show_default="1 for all",
        ),
    ] = None
    l2: Annotated[
        float,
        _option(
            "Training",
            "Factor of the L2 penalty on the weights.",
            metavar="FACTOR",
            show_default="0; tables 12 / rows, at most 0.05",
        ),
    ] = 0.0
    l1: Annotated[
        float,
        _option("Training", "Factor of the L1 penalty on the weights.", metavar="FACTOR"),
    ] = 0.0
    clip_norm: Annotated[
        float | None,
        _option(
            "Training", "Limit of the norm of the gradient.", metavar="NORM", show_default="none"
        ),
    ] = None
    max_norm: Annotated[
        float | None,
        _option(
            "Training",
            "Limit of the norm of the weights into each unit.",
            metavar="NORM",
            show_default="none",
        ),
    ] = None
    ema: Annotated[
        float | None,
        _option(
            "Training",
            "Decay of a moving average of the weights, which predictions use.",
            metavar="DECAY",
            show_default="none",
        ),
    ] = None
    label_smoothing: Annotated[
        float,
        _option("Training", "Share of every target to spread over all classes.", metavar="SHARE"),
    ] = 0.0
    early_stopping: Annotated[
        int | None,
        _option(
            "Training",
            "Stop after this many epochs without a better value of --monitor, and keep the best "
            "weights.",
            metavar="EPOCHS",
        ),
    ] = None
    monitor: Annotated[
        str,
        _option(
            "Training",
            "The value that --early-stopping follows: validation_loss, validation_auc (a metric) …",
            metavar="NAME",
        ),
    ] = "validation_loss"
    stop_at_loss: Annotated[
        float | None,
        _option("Training", "Stop when the training loss is at most this.", metavar="LOSS"),
    ] = None
    seed: Annotated[
        str,
        _option(
            "Training",
            "Seed of all random numbers; with random, a new one for each run.",
            metavar="NUMBER",
        ),
    ] = "0"
    accurate: Annotated[
        bool, _switch("98.4 % on MNIST in about a second.", "--accurate", panel="Training")
    ] = False

    backend: Annotated[str, _option("Machine", BACKEND, metavar="NAME")] = "auto"
    threads: Annotated[
        int | None, _option("Machine", THREADS, metavar="N", show_default="chosen by pynn")
    ] = None
    checkpoint: Annotated[
        float,
        _option(
            "Machine",
            "Seconds between checkpoints, which stay in the folder until the run has ended; 0 for "
            "none.",
            metavar="SECONDS",
        ),
    ] = 60.0

    standardize: Annotated[
        bool,
        _switch(
            "Subtract the mean of each input and divide by its standard deviation.",
            "--standardize/--no-standardize",
            show_default="for tables",
        ),
    ] = False
    standardize_targets: Annotated[
        bool,
        _switch(
            "Standardise the values to predict; results are in the original unit. "
            "--no-standardize-targets turns it off.",
            "--standardize-targets/--no-standardize-targets",
            show_default="for tables",
        ),
    ] = False
    norm: Annotated[
        str,
        _option(
            "Network",
            f"Normalisation, one for all hidden layers or one for each: {_names(NORMS)} or none; "
            "with parameters: rms:epsilon=1e-6.",
            metavar="NAME",
        ),
    ] = "none"
    norm_after: Annotated[
        bool,
        _switch(
            "Normalise after the activation instead of before it.", "--norm-after/--norm-before"
        ),
    ] = False
    residual: Annotated[
        bool,
        _switch(
            "Add the inputs of every hidden layer with as many outputs to its outputs.",
            "--residual/--no-residual",
        ),
    ] = False
    pixels: Annotated[
        bool | None,
        _switch(
            "Inputs are pixels from 0 to 255, which are scaled, or values.",
            "--pixels/--no-pixels",
            show_default="depends on the data",
        ),
    ] = None
    index: Annotated[
        bool | None,
        _switch(INDEX, "--index/--no-index", show_default="depends on the header"),
    ] = None
    regression: Annotated[
        bool | None,
        typer.Option("--regression/--classification", hidden=True),
    ] = None
    stratify: Annotated[
        bool,
        _switch("Hold out the same share of the rows of each class.", "--stratify/--no-stratify"),
    ] = True
    shuffle: Annotated[
        bool, _switch("Take the rows in a new order in each epoch.", "--shuffle/--no-shuffle")
    ] = True
    training_metrics: Annotated[
        bool,
        _switch(
            "Measure the training rows after each epoch too, which costs a pass over them.",
            "--training-metrics",
        ),
    ] = False
    pictures: Annotated[bool, _switch("Draw plots.", "--pictures/--no-pictures")] = True
    plain: Annotated[bool, _switch("Print a line for every epoch instead of a bar.", "--plain")] = (
        False
    )
    quiet: Annotated[bool, _switch("Print only the result.", "--quiet", "-q")] = False
    old_run: Annotated[Path | None, typer.Option("--run", hidden=True)] = None

    @property
    def preset(self) -> str | None:
        """The name of the preset, if one was typed."""
        return next((name for name in PRESETS if getattr(self, name)), None)

    def to_dict(self) -> dict[str, Any]:
        """Return all options for the settings of a run, as plain data."""
        found = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(self).items()
            if name not in PRESETS and name != "old_run"
        }
        return found if self.preset is None else found | {"preset": self.preset}


def named_run(run: Path | None, old: Path | None, option: str = "--run") -> Path | None:
    """Return the run of the argument RUN, or else of the deprecated option."""
    if old is None:
        return run
    if run is not None:
        raise ValueError(f"run: found {run} and {option} {old}, expected one of them")
    typer.echo(f"pynn: {option} is deprecated, expected the run as argument: {old}", err=True)
    return old


def takes_options(command: Callable[[typer.Context, Options], None]) -> Callable[..., None]:
    """Return a command of the application with one command-line option per field of `Options`.

    Presets are applied, and errors are reported as one line.
    """

    @reported
    def run(ctx: typer.Context, **options: Any) -> None:
        options["run"] = named_run(options["run"], options.pop("old_run"))
        for name in REPEATED:
            options[name] = "\n".join(options[name]) if options[name] else None
        command(ctx, Options(**_with_preset(ctx, _with_defaults_of_lbfgs(ctx, options))))

    # Typer reads the options from the signature and the annotations of a function.
    hints = get_type_hints(Options, include_extras=True)
    for name in REPEATED:
        hints[name] = Annotated[list[str] | None, hints[name].__metadata__[0]]
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", kind, annotation=typer.Context)]
    parameters += [
        inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
        for field in dataclasses.fields(Options)
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__name__, run.__doc__ = command.__name__, paragraphs(command.__doc__)
    return run


# --- Presets --------------------------------------------------------------------------------------

# Chosen on rows 50,000 to 59,999 of the training set: see docs/development/recipes.md.
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
        # The SHA-256 of all data and the files of a checkpoint would take much of a second.
        "checkpoint": 0.0,
    }


def _with_defaults_of_lbfgs(ctx: typer.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with values that L-BFGS accepts; typed options stay."""
    if options["optimizer"].partition(":")[0].strip() != LBFGS.name:
        return options
    values = {"dropout": "0", "schedule": "constant", "checkpoint": 0.0}
    values |= {"batch_size": "full", "learning_rate": 1e-3}  # the default of fit
    return options | {name: value for name, value in values.items() if not is_typed(ctx, name)}


def _with_preset(ctx: typer.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with a preset's values in place of defaults; typed options stay."""
    asked = [name for name in PRESETS if options[name]]
    if not asked:
        return options
    if len(asked) > 1:
        raise ValueError(f"{asked[0]}: found --{asked[1]} as well, expected one of them")
    values = dict(PRESETS[asked[0]])
    if options["data"] is not None:
        # Other data may have no test set, and the number of epochs was not chosen for them.
        del values["validation"]
    if options["loss"] != "cross_entropy":
        del values["label_smoothing"]
    return options | {name: value for name, value in values.items() if not is_typed(ctx, name)}


def is_typed(ctx: typer.Context, option: str) -> bool:
    """Whether the user typed an option."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


# --- Conversion of text ---------------------------------------------------------------------------

Spec = TypeVar("Spec", Norm, Optimizer, Schedule, LossFunction, Parametric)


def parse_spec(option: str, text: str, kinds: Mapping[str, type[Spec]]) -> Spec:
    """Convert ``name`` or ``name:parameter=value,parameter=value`` to an object of ``kinds``.

    A list of values is divided by slashes.
    """
    name, _, rest = text.partition(":")
    kind = kinds[choose(option, name.strip().replace("-", "_"), kinds)]
    known = {key: type(one.default) for key, one in inspect.signature(kind).parameters.items()}
    values: dict[str, Any] = {}
    while rest.strip():
        key, _, rest = rest.partition("=")
        key = key.strip().replace("-", "_")
        if key not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise ValueError(f"{option}: found parameter {key!r} of {name}, expected {expected}")
        if key == "after":
            # The rest belongs to the inner schedule: warm_up:after=step:every=5,factor=0.5
            values[key], rest = parse_spec(option, rest, kinds), ""
            continue
        value, _, rest = rest.partition(",")
        if known[key] is str:
            values[key] = value.strip()
        elif known[key] is bool:
            choices = {"true": True, "false": False}
            values[key] = choices[choose(f"{option}: {name}.{key}", value.strip(), choices)]
        elif known[key] is int:
            values[key] = parse_int(f"{option}: {name}.{key}", value)
        else:
            numbers = [parse_number(f"{option}: {name}.{key}", part) for part in value.split("/")]
            values[key] = numbers if len(numbers) > 1 else numbers[0]
    return kind(**values)


def parse_activation(option: str, text: str) -> str | Parametric:
    """Convert ``leaky_relu:slope=0.2`` to an object; other text is the name of an activation."""
    name = text.partition(":")[0].strip()
    return parse_spec(option, text, PARAMETRIC) if ":" in text and name in PARAMETRIC else text


def parse_norm(text: str) -> Norm | None:
    """Convert the name of a normalisation, with parameters or without, to an object."""
    return None if text == "none" else parse_spec("norm", text, NORMS)


def parse_class_weight(text: str | None, classes: Sequence[Any]) -> str | dict[Any, float] | None:
    """Convert ``label=weight,label=weight`` to a dict; other text stays as it is."""
    if text is None or "=" not in text:
        return text
    labels = {str(label): label for label in classes}
    found = {}
    for part in parse_names(text, (), lambda part: part.rpartition("=")[0] in labels):
        name, _, weight = part.rpartition("=")
        if name not in labels:
            expected = ", ".join(labels) or "no labels, since the targets are no classes"
            raise ValueError(f"class_weight: found the label {name!r}, expected {expected}")
        found[labels[name]] = parse_number("class_weight", weight)
    return found


def parse_widths(text: str) -> list[int]:
    """Convert the widths of the hidden layers; none gives an empty list."""
    widths = [parse_int("hidden", part, "widths such as 256,128") for part in parse_list(text)]
    if any(width < 1 for width in widths):
        raise ValueError(f"hidden: found {text!r}, expected widths of 1 or more, such as 256,128")
    return widths


def parse_list(text: str | None) -> list[str]:
    """Split text at commas; no text, an empty text and none give an empty list."""
    if text is None:
        return []
    if text.strip() in ("", "none"):
        return []
    return [part.strip() for part in text.replace("\n", ",").split(",")]


def parse_names(
    text: str | None, known: Collection[str], is_one: Callable[[str], bool] | None = None
) -> list[str]:
    """Split the texts of a repeated option at commas, except a text that is one known name."""
    found = []
    for part in (text or "").split("\n"):
        whole = part.strip()
        one = (whole in known and bool(whole)) or (is_one is not None and is_one(whole))
        found += [whole] if one else parse_list(part)
    return found


def parse_number(option: str, text: str) -> float:
    """Convert text to a float; the library checks its range."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: found {text.strip()!r}, expected a number") from None


def parse_int(option: str, text: str, expected: str = "a whole number") -> int:
    """Convert text to an int; the library checks its range."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{option}: found {text.strip()!r}, expected {expected}") from None
