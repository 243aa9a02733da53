"""What ``pynn train`` prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..files.disk import counted, shown
from ..spec.losses import Quantile
from ..spec.optimizers import LBFGS
from . import folder as folders
from . import tables
from .app import line
from .options import Options

if TYPE_CHECKING:
    from ..training.history import Record
    from .stages import Outcome, Setup


@contextmanager
def compilation_named(backend: str) -> Iterator[None]:
    """Print a line when Numba begins to compile: it takes a minute or more, without other output.

    Numba reports no compilation of a function whose machine code is in its cache.
    """
    if backend != "numba":
        yield
        return
    from numba.core import event

    class Named(event.Listener):  # type: ignore[misc]
        said = False

        def on_start(self, event: object) -> None:
            if not self.said:
                self.said = True
                typer.echo("compiling for this machine, once …", err=True)

        def on_end(self, event: object) -> None:
            pass

    with event.install_listener("numba:compile", Named()):
        yield


def print_summary(setup: Setup, options: Options) -> None:
    """Print network, data, training and machine, before the first epoch."""
    net, settings = setup.net, setup.settings
    a = net.architecture
    dropout = _once([f"{p:g}" for p in a.dropout]) or "0"
    noise = _once([f"{s:g}" for s in a.hidden_noise])
    others = {"input dropout": a.input_dropout, "input noise": a.input_noise, "noise": noise}
    dropout += "".join(f", {what} {x}" for what, x in others.items() if x)
    residual = f", norm {a.norm_text}" if a.norms else ""
    residual += ", residual" if options.residual else ""
    *names, output = map(str, a.given_activations())
    hidden = _once(names) or "no hidden layer"
    flags = ("inputs", options.standardize), ("targets", options.standardize_targets)
    standardized = "".join(f", standardized {what}" for what, flag in flags if flag)
    line(
        "network",
        f"{'-'.join(map(str, a.sizes))}, {hidden}, {output}, {a.loss_text}, "
        f"dropout {dropout}{residual}{standardized}: {a.n_parameters:,} parameters",
    )
    line("data", f"{setup.data.source}: {_rows_text(setup)}")
    if setup.data.table is not None:
        for k, text in enumerate(tables.summary(setup.data.table, options.impute)):
            line("" if k else "table", text)
        if isinstance(a.loss_function, Quantile) and not options.metrics:
            line("", "no metrics by default: no quantile is 0.5; --metrics chooses some")
    smoothing = settings["label_smoothing"]
    steps = (
        f"{settings['epochs']} epochs, batch {settings['batch_size']}, {options.optimizer}, "
        f"learning rate {settings['learning_rate']:g}"
        + ("" if setup.found is None else " (from a range test)")
        + f", {options.schedule}"
    )
    if isinstance(settings["optimizer"], LBFGS):
        steps = f"{settings['epochs']} iterations, all rows, {options.optimizer}"
    line(
        "training",
        f"{steps}, l2 {settings['l2']:g}, "
        + (f"label smoothing {smoothing:g}, " if smoothing else "")
        + (f"moving average {options.ema:g}, " if options.ema else "")
        + (f"class weights {_on_line(options.class_weight)}, " if settings["class_weight"] else "")
        + f"seed {net.seed}",
    )
    plural = "s" if net.threads > 1 else ""
    precision = f", {a.precision}" if a.precision != "full" else ""
    line("machine", f"{net.backend}, {net.threads} thread{plural}, {a.dtype}{precision}")


def _on_line(text: str | None) -> str:
    """Return the texts of a repeated option as one line."""
    return shown((text or "").replace("\n", ","))


def _once(names: Sequence[str]) -> str:
    return "/".join(names[:1] if len(set(names)) == 1 else names)


def _rows_text(setup: Setup) -> str:
    rows, held = len(setup.rows[0]), setup.settings["validation"]
    if setup.data.test is None and held is None:
        return f"{rows:,} rows to train, none to validate"
    if setup.data.test is None:
        return f"{counted(rows, 'row')} to train, {len(held[0]):,} to validate"
    count = round((held or 0) * rows)
    validated = f", {count:,} to validate" if count else ""
    return (
        f"{counted(rows - count, 'row')} to train{validated}, {len(setup.data.test[0]):,} to test"
    )


def print_epoch(epochs: int, record: Record) -> None:
    """Print a line for a complete epoch; ``fit`` also calls it within epochs."""
    from ..training.progress import row

    if record.step == record.steps:
        typer.echo(row(record, epochs), err=True)


def print_times(setup: Setup, outcome: Outcome, folder: Path) -> None:
    """Print the times of a run and its folder."""
    net, before = setup.net, setup.began[0] if setup.began else 0
    training = sum(net.history.seconds)
    if before:
        epochs, more = net.epochs - before, " since it was resumed"
    else:
        epochs, more = net.epochs, f" ({training:.2f} s of training)"
    line("trained", f"{epochs} epochs in {outcome.seconds:.2f} s{more}")
    since_start = folders.process_seconds()
    if since_start is not None:
        line("total", f"{since_start:.2f} s since the command was started")
    line("run", shown(str(folder)))


def print_next(setup: Setup, folder: Path) -> None:
    """Print the commands that use a run."""
    run = shlex.quote(str(folder))
    commands = [f"pynn report {run}", f"pynn evaluate {run}"]
    if not len(setup.test[0]) and setup.data.table is not None:
        commands[1] += " --data test.csv"
    if setup.data.table is not None:
        commands.append(f"pynn predict {run} --data new.csv")
    elif setup.net.pixels:
        commands.append(f"pynn predict {run} picture.png")
    for k, command in enumerate(commands):
        typer.echo(f"{'' if k else 'next':<10}{command}")
