"""The commands ``pynn evaluate`` and ``info``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..backends import machine
from ..checks.columns import require_places
from ..files.disk import counted
from ..spec.arguments import choose
from . import folder as folders
from . import saved, tables
from .app import app, line, metric_lines, reported, result_line
from .options import BACKEND, DATA, INDEX, METRICS, TARGET, THREADS, named_run, parse_list

if TYPE_CHECKING:
    from ..data.cells import Cells
    from ..network import Network

Run = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of a run, or model file.", metavar="RUN", show_default=folders.LAST_RUN
    ),
]
OldRun = Annotated[Path | None, typer.Option("--run", hidden=True)]
OldModel = Annotated[Path | None, typer.Option("--model", hidden=True)]
Backend = Annotated[str, typer.Option(help=BACKEND, metavar="NAME")]
Threads = Annotated[
    int | None, typer.Option(help=THREADS, show_default="chosen by pynn", metavar="N")
]


# --- evaluate -------------------------------------------------------------------------------------


@app.command(epilog="Example: pynn evaluate runs/iris --data test.csv")
@reported
def evaluate(
    run: Run = None,
    data: Annotated[
        Path | None,
        typer.Option(help=DATA, metavar="PATH", show_default="the data of its run, or MNIST"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help=TARGET, metavar="COLUMN", show_default="as in its run, or the first column"
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help=METRICS, metavar="NAMES", show_default="as in its run"),
    ] = None,
    index: Annotated[
        bool | None,
        typer.Option("--index/--no-index", help=INDEX, show_default="as in its run", metavar=" "),
    ] = None,
    missing_targets: Annotated[
        str | None,
        typer.Option(
            help="ignore leaves missing targets out.",
            metavar="error|ignore",
            show_default="as in its run",
        ),
    ] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    old_run: OldRun = None,
    old_model: OldModel = None,
) -> None:
    """Measure a network on the test set of its run, or on other data.

    Without a test set it uses the held-out rows of a table, and all rows of other data.
    """
    run = named_run(named_run(run, old_run), old_model, "--model")
    path = folders.newest_run() if run is None else run
    if data is None or path.is_dir():
        folders.check_settings(folders.folder_of(path))
    net = folders.load_model(path, backend, threads)
    typer.echo(f"model     {path}: {net}")
    options = dict(folders.options_of(path))
    if index is not None:
        options["index"] = index
    if missing_targets is not None:
        options["missing_targets"] = choose("missing_targets", missing_targets, ("error", "ignore"))
    names = parse_list(",".join(metrics)) if metrics else saved.metrics(options)
    if net.table is not None:
        if target not in (None, net.table.target):
            raise ValueError(
                f"target: found {target!r}, expected {net.table.target!r} as in training"
            )
        found = _table_rows(net, path, data, options)
        if not metrics and not names:
            loss = net.architecture.loss_function
            names = parse_list(tables.usual_metrics(net.table, loss))
    else:
        found = _other_rows(net, path, data, (target, index))
    name, source, (x, y, weights) = found
    missing = saved.missing_targets(options)
    table = None if data is None else net.table
    with tables.located(table, lambda: _places(net, data, options)):
        result = net.evaluate(x, y, sample_weight=weights, metrics=names, missing_targets=missing)
    typer.echo(f"data      {source}: {counted(len(x), 'row')}")
    typer.echo(f"{name} loss {result['loss']:.6g}".strip())
    for text in metric_lines(name, result):
        typer.echo(text)
    if "accuracy" in result:
        typer.echo(result_line(name, result))


Found = tuple[str, str, tuple[Any, Any, Any]]


def _table_rows(net: Network, path: Path, data: Path | None, options: Mapping[str, Any]) -> Found:
    """Return rows of a table: the rows that the run held out, or all rows of another file."""
    if data is None:
        settings = folders.settings_of(path)
        if settings is None:
            raise ValueError(f"data: found no settings of {path}, expected --data FILE.csv")
        about = folders.read(folders.folder_of(path))
        if not len(about.test[0]):
            raise ValueError(
                f"data: found no held-out rows in {path}, whose training took all rows "
                "(--validation 0), expected --data FILE.csv with others"
            )
        return about.tested, str(settings["data"].get("source")), (*about.test, about.weights)
    assert net.table is not None
    rows = tables.read_again(data, net.table, options)
    return "", str(data), (rows.x, rows.y, rows.weights)


def _places(net: Network, data: Path | None, options: Mapping[str, Any]) -> dict[str, Cells]:
    """Return where the rows of a table in a file are."""
    assert data is not None
    assert net.table is not None
    return {"x": tables.targets_again(data, net.table, options)}


def _other_rows(
    net: Network, path: Path, data: Path | None, columns: tuple[str | None, bool | None]
) -> Found:
    """Return the test set, or all rows without one."""
    source = folders.data_of(path) if data is None else data
    its_target, pixels, its_index = folders.csv_options(path, source, net)
    target = its_target if columns[0] is None else columns[0]
    index = its_index if columns[1] is None else columns[1]
    try:
        found = folders.read_data(source, target, pixels, index)
    except FileNotFoundError as error:
        if data is not None or source is None:
            raise
        raise FileNotFoundError(f"{error}; if it has moved, pass its path with --data") from error
    require_places(found.columns, net.columns, "data")
    rows = found.train if found.test is None else found.test
    return "" if found.test is None else "test", found.source, (*rows, None)


# --- info -----------------------------------------------------------------------------------------


@app.command()
@reported
def info() -> None:
    """Print versions, backends, instruction sets and processor."""
    found = machine.environment()
    line("pynn", found["version"])
    line("python", f"{found['python']}, NumPy {found['numpy']}")
    for name, reason in found["backends"].items():
        used = ", used by default" if name == found["backend"] else ""
        line("backend", f"{name}: {reason or 'available' + used}")
    if "isa" in found:
        line("code for", f"{found['isa']} (the instruction set in use)")
        line("", f"{', '.join(found['isas'])} (this processor has them; PYNN_ISA limits them)")
        line("", f"{', '.join(found['compiled'])} (this build of pynn contains them)")
        line("bf16", "available" if found["bf16"] else "not available")
        line("threads", f"{found['threads']} by default")
    line("cpu", f"{found['cpu']}, {found['cores']} cores")
    line("platform", found["platform"])
