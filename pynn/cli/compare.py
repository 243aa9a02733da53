"""``pynn compare``: several runs as a table and a plot."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files.disk import atomic_write, shown
from . import folder as folders
from .app import app, reported
from .options import IDLE, Options


@app.command(epilog="Example: pynn compare runs/narrow runs/wide --measure accuracy")
@reported
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs, or model files.", metavar="RUN..."),
    ],
    measure: Annotated[
        str,
        typer.Option(help="What the plot compares: loss, accuracy or a metric.", metavar="NAME"),
    ] = "loss",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="PNG file to write.", metavar="FILE")
    ] = Path("comparison.png"),
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Write the plot.", metavar=" ")
    ] = True,
) -> None:
    """Print times, results and the differing options of runs, and write a plot of their curves."""
    if pictures:
        from .pictures import check_matplotlib

        check_matplotlib()
    for run in runs:
        _check_run(run)
    names = _labels(runs)
    nets = [folders.load_model(run, "numpy") for run in runs]
    settings = [folders.settings_of(run) or {"options": {}, "result": {}} for run in runs]
    rows = [
        _row(name, net, about) | _differing(about, settings)
        for name, net, about in zip(names, nets, settings, strict=True)
    ]
    typer.echo(_text(rows), nl=False)
    if not pictures:
        return
    from ..plots import comparison, for_files

    histories = {
        name: net.history for name, net in zip(names, nets, strict=True) if len(net.history)
    }
    if not histories:
        raise ValueError("run: found no complete epoch in any of them, expected at least one")
    with for_files():
        figure: Any = comparison(histories, measure)[0].figure
        with atomic_write(output) as file:
            figure.savefig(file, format="png", dpi=150)
    typer.echo(f"plot      {output}")


def _check_run(run: Path) -> None:
    """Raise an error for a folder of runs, and for what does not exist."""
    if not run.exists():
        raise FileNotFoundError(
            f"run: {run}: found no such folder or file, expected the folder of a run or a model"
        )
    if run.is_dir() and not folders.model_in(run).is_file():
        inside = sorted(path for path in run.iterdir() if folders.model_in(path).is_file())
        if inside:
            raise ValueError(
                f"run: {run}: found a folder of runs, expected runs, such as "
                f"{shown(str(inside[0]))}; pynn report writes an index of a folder of runs"
            )


def _labels(runs: Sequence[Path]) -> list[str]:
    """Return different names of runs: the last parts of their paths, or the whole paths."""
    short = [folders.folder_of(run).resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def _row(name: str, net: Any, about: dict[str, Any]) -> dict[str, str]:
    """Return the figures of one run by the heading of their column."""
    result, history = about["result"], net.history
    unfinished = result.get("unfinished") or result.get("interrupted")
    row = {"run": name + (" (not ended)" if unfinished else "")}
    row |= {"network": "-".join(map(str, net.sizes)), "epochs": str(net.epochs)}
    row["training s"] = f"{sum(history.seconds):.3g}" if len(history) else ""
    for key, value in result.items():
        part, _, measure = key.partition("_")
        if part in ("test", "validation") and isinstance(value, (int, float)):
            row[f"{part} {measure.replace('_', ' ')}"] = f"{value:.4g}"
    return row


_LEFT_OUT = (*IDLE, "threads", "backend", "hidden", "epochs")
"""Options that do not change the results, or that have a column of their own."""


def _differing(about: dict[str, Any], settings: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the options of a run that are not the same in all runs."""
    # Settings of earlier versions lack newer options.
    usual = {field.name: field.default for field in dataclasses.fields(Options)}
    found = {}
    for name, value in about["options"].items():
        others = [other["options"].get(name, usual.get(name)) for other in settings]
        if name not in _LEFT_OUT and any(other != value for other in others):
            found[name.replace("_", " ")] = str(value)
    return found


def _text(rows: Sequence[dict[str, str]]) -> str:
    """Return a table with a line for each run; with a column for each run if lines are too wide."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    cells = [heads, *[[shown(row.get(head, "")) for head in heads] for row in rows]]
    text = _aligned(cells)
    if max(map(len, text.splitlines())) <= _width():
        return text
    return _aligned([list(column) for column in zip(*cells, strict=True)])


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return lines of cells, padded to columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in cells
    )


def _width() -> int:
    """Return the columns of the terminal; a large number if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10**6
