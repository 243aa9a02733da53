"""``pynn predict``: labels, probabilities and values for pictures and for rows of a table."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from ..files.disk import atomic_write, counted, shown
from ..spec.losses import GaussianNLL, Quantile
from . import folder as folders
from . import saved, tables
from .app import app, reported
from .options import BACKEND, INDEX, THREADS, named_run

if TYPE_CHECKING:
    from ..data.cells import Cells
    from ..network import Network

Array = np.ndarray

EPILOG = (
    "Examples: pynn predict runs/iris --data new.csv --out predictions.csv; "
    "pynn predict runs/digits seven.png --json"
)


class Predictions(NamedTuple):
    """Predictions of some rows."""

    predicted: Array
    """(n,) or (n, columns)."""
    probabilities: Array | None
    """(n, classes), if the network has them."""
    classes: list[Any]
    """The labels of their columns."""
    names: tuple[str, ...] = ()
    """What each of several numbers of a prediction is, such as ``q=0.1``."""
    deviations: Array | None = None
    """The standard deviations of the predictions, if the network has them."""


@app.command(epilog=EPILOG)
@reported
def predict(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN|PICTURE",
            help="Folder of a run or model file, then pictures of one digit each.",
            show_default=folders.LAST_RUN,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="CSV file with rows to predict.", metavar="FILE")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write.", metavar="FILE", show_default="the terminal"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON instead of text or CSV.", metavar=" ")
    ] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Only scale the pictures, without cropping or inverting.", metavar=" "
        ),
    ] = False,
    top: Annotated[
        int, typer.Option(help="Number of classes to print for a picture.", min=1, metavar="N")
    ] = 3,
    index: Annotated[
        bool | None,
        typer.Option("--index/--no-index", help=INDEX, show_default="as in its run", metavar=" "),
    ] = None,
    backend: Annotated[str, typer.Option(help=BACKEND, metavar="NAME")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help=THREADS, show_default="chosen by pynn", metavar="N")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", hidden=True)] = None,
    old_run: Annotated[Path | None, typer.Option("--run", hidden=True)] = None,
) -> None:
    """Predict the rows of a CSV file, or the digits in pictures.

    The rows need the columns of the training; their order does not matter. A picture is prepared
    like the images of MNIST: light on dark, the digit scaled to fit 20 x 20 pixels, with its centre
    of mass in the middle of 28 x 28.
    """
    pictures = list(paths or [])
    run = pictures.pop(0) if pictures and _is_run(pictures[0]) else None
    run = named_run(named_run(run, model, "--model"), old_run)
    if data is not None and pictures and run is None and not pictures[0].exists():
        raise FileNotFoundError(
            f"run: {pictures[0]}: found no such run, expected the folder of a run or a model file"
        )
    if (data is None) == (not pictures):
        found = "neither pictures nor --data" if data is None else "pictures and --data"
        raise ValueError(f"predict: found {found}, expected one of them")
    if run is None:
        run = folders.newest_run()
        # Not among the predictions, which other programs may read.
        typer.echo(f"run       {shown(str(run))} (the last one; RUN chooses another)", err=True)
    if out is not None:
        _check_out(out, pictures if data is None else [data], run)
    net = folders.load_model(run, backend, threads)
    if data is None:
        _predict_pictures(net, pictures, (raw, top, as_json), out)
        return
    if index is None:
        index = saved.flag(folders.options_of(run), "index")
    x = _rows(net, data, run, index)
    with tables.located(net.table, lambda: _places(net, data, index)):
        answers = predictions(net, x)
    target = "prediction" if net.table is None else net.table.target
    _write(_json(answers) if as_json else _csv(answers, target), out)
    if out is not None:
        typer.echo(f"{counted(len(answers.predicted), 'prediction')} in {out}")


def _is_run(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".safetensors"


def _check_out(out: Path, inputs: Sequence[Path], run: Path) -> None:
    """Raise a ValueError if ``out`` is an input, a file of the run or its training data."""
    found = next((f"the input {path}" for path in inputs if folders.are_same(out, path)), None)
    if found is None:
        folder = folders.folder_of(run)
        trained = folders.data_of(run)
        if any(folders.are_same(out, path) for path in (run, *(folder / n for n in folders.OWN))):
            found = f"a file of the run {folder}"
        elif trained is not None and folders.are_same(out, Path(trained)):
            found = f"the training data of the run {folder}"
    if found is not None:
        raise ValueError(f"out: found {out}, {found}, expected another file to write")


def _write(text: str, out: Path | None) -> None:
    if out is None:
        # Labels and names come from the model file, which may hold any characters.
        encoding = sys.stdout.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        if sys.stdout.isatty():
            text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
        # One write: the rows may be many.
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        with atomic_write(out) as file:
            file.write(text.encode(errors="backslashreplace"))


# --- Rows -----------------------------------------------------------------------------------------


def predictions(net: Network, x: Array) -> Predictions:
    """Return predictions and, if the network has them, probabilities for rows x (n, n_in)."""
    loss = net.architecture.loss_function
    if isinstance(loss, GaussianNLL):
        mean, deviation = net.predict_distribution(x)
        return Predictions(mean, None, [], deviations=deviation)
    predicted = net.predict(x)
    if isinstance(loss, Quantile) and isinstance(loss.q, tuple):
        return Predictions(predicted, None, [], tuple(f"q={q:g}" for q in loss.q))
    if net.classes is None or loss.regression or not loss.probabilities:
        return Predictions(predicted, None, [])
    return Predictions(predicted, net.predict_proba(x), net.classes.tolist())


def _rows(net: Network, path: Path, run: Path, index: bool | None) -> Array:
    """Return the inputs of the rows of a file."""
    if net.table is not None:
        return net.table.x(tables.cells_again(path, net.table, index))
    return _plain_rows(net, path, saved.text(folders.options_of(run), "target"), index)


def _places(net: Network, path: Path, index: bool | None) -> dict[str, Cells]:
    """Return where the rows of a table are."""
    assert net.table is not None
    return {"x": tables.cells_again(path, net.table, index)}


def _plain_rows(net: Network, path: Path, target: str | None, index: bool | None) -> Array:
    """Return the rows of a file of numbers, which may have the column of the labels."""
    from ..checks.columns import require_places
    from ..data import csv as files

    n_in = net.sizes[0]
    pixels = bool(net.pixels)
    layout = files.Table.open(path, None, None, index, pixels)
    found, label = layout.columns - layout.skipped, None
    if found == n_in + 1:
        label = "first" if target is None else target
    elif found != n_in:
        raise ValueError(
            f"data: found {found} columns in {path}, expected {n_in}, or {n_in + 1} with the labels"
        )
    x, _, names = files.load_columns(path, label, None, index, pixels)
    require_places(names, net.columns, "data")
    return x


def _csv(found: Predictions, target: str) -> str:
    """Return predictions as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    predicted = found.predicted.reshape(len(found.predicted), -1)
    targets = predicted.shape[1] // max(1, len(found.names))
    names = [target] if targets == 1 else [f"{target}_{k}" for k in range(targets)]
    heads = [f"{name}({part})" for name in names for part in found.names] or names
    if found.deviations is not None:
        heads = [*heads, *(f"{name}(std)" for name in names)]
        predicted = np.column_stack([predicted, found.deviations.reshape(len(predicted), -1)])
    writer.writerow([*heads, *(f"p({label})" for label in found.classes)])
    # The shortest text of each number that reads as the same number.
    cells = [list(map(str, row)) for row in predicted.tolist()]
    if found.probabilities is not None:
        for row, shares in zip(cells, found.probabilities.tolist(), strict=True):
            row += [f"{share:.6f}" for share in shares]
    writer.writerows(cells)
    return text.getvalue()


def _json(found: Predictions, files: Sequence[Path] = ()) -> str:
    """Return predictions as a JSON array with an object for each row."""
    rows: list[dict[str, Any]] = [{"file": str(file)} for file in files]
    rows = rows or [{} for _ in found.predicted]
    for row, value in zip(rows, found.predicted.tolist(), strict=True):
        row["prediction"] = _named(value, found.names)
    if found.deviations is not None:
        for row, value in zip(rows, found.deviations.tolist(), strict=True):
            row["std"] = value
    if found.probabilities is not None:
        for row, shares in zip(rows, found.probabilities.tolist(), strict=True):
            row["probabilities"] = {
                str(label): round(share, 6)
                for label, share in zip(found.classes, shares, strict=True)
            }
    return json.dumps(folders.plain(rows), indent=1, allow_nan=False) + "\n"


def _named(value: Any, names: Sequence[str]) -> Any:
    """Return the numbers of a prediction by name; of several targets a list of them."""
    if not names:
        return value
    if isinstance(value[0], list):
        return [_named(part, names) for part in value]
    return dict(zip(names, value, strict=True))


# --- Pictures -------------------------------------------------------------------------------------


def _predict_pictures(
    net: Network, paths: Sequence[Path], how: tuple[bool, int, bool], out: Path | None
) -> None:
    """Print the answer for each picture; go on with the others if one cannot be read."""
    raw, top, as_json = how
    side = _side(net)
    images, read = [], []
    for path in paths:
        try:
            image = _read_image(path, side, raw)
            if not raw and _has_gap(image):
                typer.echo(f"pynn: {path}: found two shapes side by side, expected one", err=True)
            images.append(image.reshape(-1))
            read.append(path)
        except (ValueError, OSError) as error:
            text = str(error)
            typer.echo(f"pynn: {text if str(path) in text else f'{path}: {text}'}", err=True)
    if images:
        found = predictions(net, np.stack(images))
        lines = [f"{path}  {_answer(found, k, top)}\n" for k, path in enumerate(read)]
        _write(_json(found, read) if as_json else "".join(lines), out)
    if len(read) < len(paths):
        raise typer.Exit(1)


def _side(net: Network) -> int:
    """Return the width of the pictures of a network."""
    from ..plots.pictures import side_of

    side = side_of(net.sizes[0])
    if net.table is not None:
        raise ValueError("model: found one of a table, expected --data FILE.csv with its columns")
    if side is None or side < 8:
        raise ValueError(
            f"model: found one with {net.sizes[0]} inputs, expected a square number of pixels, "
            "8 x 8 or more; for the rows of a file use --data FILE.csv"
        )
    if net.pixels is False:
        raise ValueError(
            "model: found one whose inputs are values and not pixels, so that it is unknown how to "
            "scale a picture; if it was trained on pixels in [0, 1], load it in Python, assign "
            "net.pixels = True and save it again"
        )
    return side


def _read_image(path: Path, side: int, raw: bool) -> Array:
    from ..data.images import like_mnist, read_grey, resized

    grey = read_grey(path)
    return resized(grey, side) if raw or side != 28 else like_mnist(grey)


def _has_gap(image: Array) -> bool:
    """Whether empty columns divide the ink of an image, with a fifth of it or more on each side."""
    ink = image.sum(axis=0, dtype=np.float64)
    left = np.cumsum(ink) / max(ink.sum(), 1)
    return bool(((ink == 0) & (left >= 0.2) & (left <= 0.8)).any())


def _answer(found: Predictions, k: int, top: int) -> str:
    """Return the ``top`` most probable classes of one row, such as ``7: 99.9 %, 3: 0.1 %``."""
    from ..plots.style import percent

    if found.probabilities is None:
        return "  ".join(shown(str(value)) for value in np.ravel(found.predicted[k]))
    row = found.probabilities[k]
    best = np.argsort(-row, kind="stable")[:top]
    # The names come from the model file, which may hold any characters.
    return ", ".join(f"{shown(str(found.classes[c]))}: {percent(row[c])}" for c in best)
