"""``pynn evaluate``, ``report``, ``predict`` and ``info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from ..backends import machine
from ..files.disk import shown
from . import folder as cli_folder
from .app import _reported, _result, app
from .options import BACKEND, DATA, LAST_RUN, THREADS

if TYPE_CHECKING:
    from ..network import Network


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
    path = cli_folder.newest_model() if model is None else model
    net = _open(path, backend, threads)
    place = cli_folder.data_of(path) if data is None else data
    try:
        found = cli_folder.read_data(place)
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
    from ..network import load

    path = cli_folder.newest_model() if model is None else model
    net = load(path / cli_folder.MODEL if path.is_dir() else path, backend=backend, threads=threads)
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
    from ..data import images as data_images
    from ..plots.pictures import side_of
    from ..plots.style import percent

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
            grey = data_images.read_grey(path)
            image = (
                data_images.resized(grey, side)
                if raw or side != 28
                else data_images.like_mnist(grey)
            )
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
    found = machine.environment()
    reasons = found.pop("backends")
    chosen = found.pop("backend")
    typer.echo(f"{'pynn':<12}{found.pop('version')}")
    for name, reason in reasons.items():
        state = reason or "there" + (", used by default" if name == chosen else "")
        typer.echo(f"{name:<12}{state}")
    for name, value in found.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        typer.echo(f"{name:<12}{text}")
