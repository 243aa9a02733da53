"""The commands that use a trained network: ``pynn evaluate``, ``report``, ``predict``; ``info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..backends import machine
from ..checks.columns import require_places
from ..files.disk import shown
from . import folder as folders
from .app import app, metric_lines, reported, result_line
from .options import BACKEND, DATA, INDEX, LAST_RUN, METRICS, TARGET, THREADS, parse_list

if TYPE_CHECKING:
    from ..network import Network

Model = Annotated[
    Path | None, typer.Argument(help="Model file or folder of a run.", show_default=LAST_RUN)
]
Backend = Annotated[str, typer.Option(help=BACKEND)]
Threads = Annotated[int | None, typer.Option(help=THREADS, show_default="chosen by pynn")]


# --- evaluate -------------------------------------------------------------------------------------


@app.command()
@reported
def evaluate(
    model: Model = None,
    data: Annotated[
        Path | None, typer.Option(help=DATA, show_default="those of its run, or MNIST")
    ] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    target: Annotated[
        str | None,
        typer.Option(
            help=TARGET, metavar="NAME", show_default="as in its run, or the first column"
        ),
    ] = None,
    index: Annotated[
        bool | None,
        typer.Option("--index/--no-index", help=INDEX, show_default="as in its run"),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help=METRICS, metavar="NAMES", show_default="those of its run")
    ] = None,
) -> None:
    """Measure loss and accuracy of a model on the test set, or on all rows without a test set."""
    path = folders.newest_model() if model is None else model
    net = _load(path, backend, threads)
    source = folders.data_of(path) if data is None else data
    its_target, pixels, its_index = folders.csv_options(path, source, net)
    target = its_target if target is None else target
    index = its_index if index is None else index
    try:
        found = folders.read_data(source, target, pixels, index)
    except FileNotFoundError as error:
        if data is not None or source is None:
            raise
        raise FileNotFoundError(f"{error}; if it has moved, pass its path with --data") from error
    require_places(found.columns, net.columns, "data")
    x, y = found.train if found.test is None else found.test
    names = folders.metrics_of(path) if metrics is None else parse_list(metrics)
    missing = folders.missing_targets_of(path)
    result = net.evaluate(x, y, metrics=names, missing_targets=missing)
    name = "" if found.test is None else "test "
    typer.echo(f"data      {found.source}: {len(x):,} rows")
    typer.echo(f"{name}loss {result['loss']:.6g}")
    for line in metric_lines(name.strip(), result):
        typer.echo(line)
    if "accuracy" in result:
        typer.echo(result_line(name.strip(), result))


def _load(model: Path | None, backend: str, threads: int | None) -> Network:
    from ..network import load

    path = folders.newest_model() if model is None else model
    net = load(path / folders.MODEL if path.is_dir() else path, backend=backend, threads=threads)
    typer.echo(f"model     {path}: {net}")
    return net


# --- report ---------------------------------------------------------------------------------------


@app.command()
@reported
def report(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run.", show_default=LAST_RUN)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write.", show_default="RUN/report.html"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The data of the run, if they have moved.", show_default="as in training"
        ),
    ] = None,
) -> None:
    """Write a run as one HTML page: settings, curves, mistakes, timings."""
    from .report import write

    typer.echo(f"report    {write(run, output, data)}")


# --- predict --------------------------------------------------------------------------------------


@app.command()
@reported
def predict(
    images: Annotated[list[Path], typer.Argument(help="Pictures of one digit each.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Model file or folder of a run.", show_default=LAST_RUN),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Only scale the pictures, without cropping or inverting.")
    ] = False,
    top: Annotated[int, typer.Option(help="Number of classes to print.", min=1)] = 3,
    backend: Backend = "auto",
    threads: Threads = None,
) -> None:
    """Recognise the digits in pictures.

    A picture is prepared like the images of MNIST: light on dark, the digit scaled to fit 20 x 20
    pixels, with its centre of mass in the middle of 28 x 28.
    """
    from ..plots.pictures import side_of

    net = _load(model, backend, threads)
    side = side_of(net.sizes[0])
    if side is None or side < 8:
        raise ValueError(
            f"model: found one with {net.sizes[0]} inputs, expected a square number of pixels, "
            "8 x 8 or more"
        )
    if net.pixels is False:
        raise ValueError(
            "model: found one whose inputs are values and not pixels, so that it is unknown how to "
            "scale a picture; if it was trained on pixels in [0, 1], load it in Python, assign "
            "net.pixels = True and save it again"
        )
    failed = False
    for path in images:
        try:
            image = _read_image(path, side, raw)
        except (ValueError, OSError) as error:
            # Go on with the other pictures.
            text = str(error)
            typer.echo(f"pynn: {text if str(path) in text else f'{path}: {text}'}", err=True)
            failed = True
            continue
        typer.echo(f"{path}: {_answer(net, image.reshape(1, -1), top)}")
    if failed:
        raise typer.Exit(1)


def _read_image(path: Path, side: int, raw: bool) -> np.ndarray:
    from ..data.images import like_mnist, read_grey, resized

    grey = read_grey(path)
    return resized(grey, side) if raw or side != 28 else like_mnist(grey)


def _answer(net: Network, x: np.ndarray, top: int) -> str:
    """Return the most probable class of one row, and the probabilities of the `top` classes."""
    from ..plots.style import percent

    if net.classes is None or not net.architecture.loss_function.probabilities:
        return _spell(net.predict(x)[0])
    row = net.predict_proba(x)[0]
    best = np.argsort(-row, kind="stable")[:top]
    # The names come from the model file, which may hold any characters.
    names = [shown(str(name)) for name in net.classes[best]]
    shares = ", ".join(f"{name} {percent(row[k])}" for name, k in zip(names, best, strict=True))
    return f"{names[0]}  ({shares})"


def _spell(predicted: Any) -> str:
    """Return one prediction as text, with a column for each value."""
    return "  ".join(shown(str(value)) for value in np.ravel(predicted))


# --- info -----------------------------------------------------------------------------------------


@app.command()
@reported
def info() -> None:
    """Print version, instruction set, threads and backends."""
    found = machine.environment()
    reasons = found.pop("backends")
    chosen = found.pop("backend")
    typer.echo(f"{'pynn':<12}{found.pop('version')}")
    for name, reason in reasons.items():
        state = reason or "available" + (", used by default" if name == chosen else "")
        typer.echo(f"{name:<12}{state}")
    for name, value in found.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        typer.echo(f"{name:<12}{text}")
