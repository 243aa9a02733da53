"""The command ``pynn report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import folder as folders
from .app import app, reported
from .options import named_run


@app.command()
@reported
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of a run, several to compare, or a folder of runs for an index.",
            metavar="[RUN]...",
            show_default="the last run in runs/",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write.",
            show_default="RUN/report.html, comparison.html or index.html",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The data of the run, if they have moved.", show_default="as in training"
        ),
    ] = None,
    old_run: Annotated[Path | None, typer.Option("--run", hidden=True)] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write a run, a comparison of runs, or an index of a folder of runs as one HTML page.

    A run that has not ended is shown as of its last checkpoint.
    """
    if old_run is not None:
        named_run(runs[0] if runs else None, old_run)  # warns, or raises if there are both
        runs = [old_run]
    given = [folders.folder_of(run) for run in runs or []]
    if len(given) > 1:
        if data is not None:
            raise ValueError("data: found it with several runs, expected it with one run")
        page = _compare(given, output)
    elif given and _is_folder_of_runs(given[0]):
        page = _index(given[0], output)
    else:
        from .report import write

        page = write(given[0] if given else None, output, data)
    typer.echo(f"report    {page}")
    if open_page:
        typer.launch(page.resolve().as_uri())


def _is_folder_of_runs(folder: Path) -> bool:
    from .report import runs, source

    return folder.is_dir() and not source.is_run(folder) and bool(runs.found_in(folder))


def _compare(given: list[Path], output: Path | None) -> Path:
    from .report import runs, source, write_text

    for folder in given:
        if not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise FileNotFoundError(f"run: {folder}: found {found}, expected the folder of a run")
        if not source.is_run(folder):
            raise ValueError(f"run: {folder}: found no run, expected a folder of pynn train")
    entries = [runs.entry(folder) for folder in given]
    target = Path("comparison.html") if output is None else output
    return write_text(target, runs.comparison(entries), given=output is not None)


def _index(folder: Path, output: Path | None) -> Path:
    """Write the index of a folder, and the pages of its runs that have none or an older one."""
    from .report import runs, write, write_text

    entries, failures = [], []
    for run in runs.found_in(folder):
        try:
            if _is_stale(run):
                typer.echo(f"report    {write(run)}")
        except (OSError, ValueError, TypeError, ImportError) as error:
            failures.append(f"{run.name}: no page: {error}")
        try:
            entries.append(runs.entry(run))
        except (OSError, ValueError, TypeError) as error:
            failures.append(f"{run.name}: {error}")
    for failure in failures:
        typer.echo(f"pynn: {failure}", err=True)
    target = folder / "index.html" if output is None else output
    page = runs.index(folder, entries, failures)
    return write_text(target, page, given=output is not None)


def _is_stale(run: Path) -> bool:
    page = run / "report.html"
    if not page.is_file():
        return True
    names = folders.MODEL, folders.CHECKPOINT
    times = [(run / name).stat().st_mtime_ns for name in names if (run / name).is_file()]
    return bool(times) and max(times) > page.stat().st_mtime_ns
