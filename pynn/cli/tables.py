"""Tables on the command line: which files are tables, their defaults, and their rows."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import typer

from ..checks.targets import require_squares
from ..data import csv
from ..data.cells import Cells, as_cells
from ..data.table import Table, cells_for
from ..files.disk import shown
from ..spec import arguments
from ..spec.losses import LOSSES, LossFunction, Quantile
from ..spec.norms import BatchNorm
from ..spec.optimizers import LBFGS
from . import saved
from .app import show_warning
from .options import PRESETS, Options, is_typed, parse_names, parse_spec

if TYPE_CHECKING:
    from ..data.dataset import Pair

Array = np.ndarray

# Chosen with 4-fold cross-validation on scikit-learn's iris, wine, breast cancer and diabetes, and
# on two generated tables of 1,500 and 3,000 rows.
UPDATES = 3000
L2_ROWS, MOST_L2 = 12, 0.05

OF_TABLES = (
    *("hidden", "dropout", "validation", "learning_rate", "standardize", "standardize_targets"),
    *("loss", "batch_size", "l2", "epochs", "metrics"),
)
"""Options with other defaults for tables."""


class Rows(NamedTuple):
    """Inputs, targets and weights of a table."""

    x: Array
    y: Array
    weights: Array | None

    @property
    def pair(self) -> Pair:
        """Inputs and targets."""
        return self.x, self.y

    def take(self, rows: Array) -> Rows:
        """Return some rows, given as booleans."""
        weights = None if self.weights is None else self.weights[rows]
        return Rows(self.x[rows], self.y[rows], weights)


def is_table(
    path: str | os.PathLike[str] | None,
    target: str | None,
    pixels: bool | None,
    index: bool | None,
) -> bool:
    """Whether a file is a table: a CSV file without pixels, and the name of its target."""
    if path is None or target is None or pixels or Path(path).suffix.lower() != ".csv":
        return False
    try:
        return not csv.Table.open(Path(path), target, None, index, pixels).pixels
    except (OSError, ValueError):
        return False  # the reader of other files reports it


def read(options: Options) -> tuple[Table, Cells]:
    """Read the file and find out what its columns are.

    Rows without a target are left out with ``--missing-targets ignore``.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or a column cannot be used.
    """
    assert options.data is not None
    assert options.target is not None
    task = options.task
    if task is None and options.regression is not None:
        task = "regression" if options.regression else "classification"
    loss: LossFunction = parse_spec("loss", options.loss, LOSSES)
    if task is None and loss.regression and not loss.takes_labels:
        task = "regression"
    names = _names_in(options.data, options.index)
    categories = parse_names(options.categories, names)
    drop = parse_names(options.drop, names)
    cells = cells_of(options.data, options.target, options.index, categories, drop)
    table = Table.of(
        cells,
        options.target,
        task=task,
        categories=categories,
        drop=drop,
        weights=options.weights,
    )
    return table, _with_targets(cells, table, options.missing_targets)


def _names_in(path: Path, index: bool | None) -> list[str]:
    """Return the names in the header of a file."""
    return [name.strip() for name in csv.Table.open(path, None, True, index, False).names or ()]


def cells_of(
    path: str | os.PathLike[str],
    target: str,
    index: bool | None,
    texts: Collection[str] = (),
    drop: Collection[str] = (),
) -> Cells:
    """Read the columns of a file, some as texts and some unchecked; its warnings are printed."""
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        return as_cells(path, index, target, texts, drop)


def cells_again(path: str | os.PathLike[str], table: Table, index: bool | None) -> Cells:
    """Read the columns of a file for a table of the training; its warnings are printed."""
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        return cells_for(table, path, index)


def rows_of(cells: Cells, table: Table) -> Rows:
    """Return all rows as arrays.

    Raises
    ------
    ValueError
        If a value to predict is too large to be measured, or a cell cannot be used.
    """
    y = table.y(cells)
    if table.classes is None:
        require_squares(y, f"target {shown(table.target)!r}")
    return Rows(table.x(cells), y, table.sample_weight(cells))


def read_again(path: str | os.PathLike[str], table: Table, options: Mapping[str, Any]) -> Rows:
    """Return the rows of a file for a trained network, whose run had ``options``."""
    return rows_of(targets_again(path, table, options), table)


def targets_again(path: str | os.PathLike[str], table: Table, options: Mapping[str, Any]) -> Cells:
    """Return the cells of `read_again`."""
    cells = cells_again(path, table, saved.flag(options, "index"))
    return _with_targets(cells, table, saved.missing_targets(options))


_CELL = re.compile(
    r"(x|validation\[0\]): found (\S+) at row (\d+), column (\d+) \(counted from 0\)"
)


@contextmanager
def located(table: Table | None, places: Callable[[], Mapping[str, Cells]]) -> Iterator[None]:
    """Let errors about inputs of a network name file, line and column of a table.

    Parameters
    ----------
    table : Table or None
        None changes no error.
    places : callable
        Returns the cells of the arguments ``x`` and ``validation[0]``, if there are any; it is only
        called after an error.
    """
    try:
        yield
    except ValueError as error:
        text = None if table is None else _located(str(error), table, places)
        if text is None:
            raise
        raise ValueError(text) from error


def _located(text: str, table: Table, places: Callable[[], Mapping[str, Cells]]) -> str | None:
    """Return an error with file, line and column; None if it is about something else."""
    found = _CELL.match(text)
    cells = None if found is None else places().get(found[1])
    if found is None or cells is None:
        return None
    names = [column.name for column in table.columns for _ in column.inputs]
    return (
        f"{cells.source}: column {shown(repr(names[int(found[4])]))}: found {found[2]} in "
        f"{cells.place(int(found[3]))}{text[found.end() :]}"
    )


def without_columns(cells: Cells) -> Cells:
    """Return cells that know the places of their rows alone, which takes less memory."""
    rows = np.arange(len(cells)) if cells.rows is None else cells.rows
    return replace(cells, columns={}, rows=rows)


def check_weights(table: Table, train: Rows, test: Rows) -> None:
    """Raise a ValueError if all rows to train on, or all held out, have the weight 0."""
    for name, rows in (("train on", train), ("validate", test)):
        if rows.weights is not None and len(rows.weights) and not rows.weights.any():
            raise ValueError(
                f"weights: found 0 in the column {table.weights!r} of all {len(rows.weights):,} "
                f"rows to {name}, expected a weight above 0"
            )


def _with_targets(cells: Cells, table: Table, missing: str) -> Cells:
    if missing != "ignore":
        return cells
    found = table.has_target(cells)
    return cells if found.all() else cells.take(found)


# --- Defaults -------------------------------------------------------------------------------------


def with_defaults(ctx: typer.Context, options: Options, table: Table, rows: int) -> Options:
    """Return the options with the defaults for tables in place of the usual ones.

    Parameters
    ----------
    ctx, options, table
        Typed options and the options of the preset stay.
    rows : int
        All rows of the file.
    """
    values: dict[str, Any] = {
        "hidden": "64,32",
        "dropout": "0",
        "validation": 0.2,
        "learning_rate": 0.005,
        "standardize": True,
    }
    if table.task == "regression":
        values["loss"] = "mse"
    typed = {name for name in vars(options) if is_typed(ctx, name)}
    typed |= set(PRESETS.get(options.preset or "", ()))
    if options.optimizer.partition(":")[0].strip() == LBFGS.name:
        typed |= {"batch_size", "learning_rate"}  # it has neither
    options = _updated(options, values, typed)
    n = max(1, round(rows * (1 - options.validation)))
    batch = 32 if n < 10_000 else 128 if n < 100_000 else 512
    trained = rows - round(options.validation * rows)
    if trained > 1 and BatchNorm.name in (options.norm or ""):
        batch = arguments.without_one(trained, batch)
    values = {"batch_size": str(batch), "l2": float(f"{min(MOST_L2, L2_ROWS / n):.2g}")}
    options = _updated(options, values, typed)
    if options.batch_size.isdecimal():
        batch = max(1, int(options.batch_size))
    loss: LossFunction = parse_spec("loss", options.loss, LOSSES)
    values = {"epochs": int(np.clip(round(UPDATES * batch / n), 10, 200))}
    values["metrics"] = usual_metrics(table, loss)
    if options.preset and loss.name != "cross_entropy" and not is_typed(ctx, "label_smoothing"):
        options = replace(options, label_smoothing=0.0)
    if table.task == "regression":
        values["standardize_targets"] = _can_standardize(loss, options)
    return replace(_updated(options, values, typed), task=table.task, regression=None)


def usual_metrics(table: Table, loss: LossFunction) -> str:
    """Return the metrics that fit a task and a loss."""
    if table.task == "classification":
        return "f1_macro,auc" if loss.probabilities else "f1_macro"
    if isinstance(loss, Quantile):
        # Metrics measure the quantile that is nearest the median; others are no estimate of y.
        return "mae" if 0.5 in loss.numbers() else ""
    return "r2,mae,rmse"


def _updated(options: Options, values: Mapping[str, Any], typed: set[str]) -> Options:
    return replace(options, **{k: v for k, v in values.items() if k not in typed})


def _can_standardize(loss: LossFunction, options: Options) -> bool:
    """Whether targets of a loss can be standardised: values of any sign."""
    sign = getattr(loss, "least_target", None) is None
    return loss.regression and sign and options.output in (None, "identity")


# --- Text -----------------------------------------------------------------------------------------


def summary(table: Table, impute: str | None) -> list[str]:
    """Return what a table does as lines of text; ``impute`` is the option."""
    classes = table.classes
    target = f"target {shown(table.target)}: "
    if classes is None:
        target += "values (regression; --task classification for classes)"
    else:
        some = ", ".join(shown(str(label)) for label in classes[:8])
        more = f", … ({len(classes)})" if len(classes) > 8 else ""
        target += f"classes {some}{more}"
        if not isinstance(classes[0], str):
            target += " (--task regression for values)"
    n, count = len(table.columns), len(table.inputs)
    lines = [f"{count} input{'s' * (count != 1)} from {n} column{'s' * (n != 1)}", target]
    encoded = [c for c in table.columns if c.categories is not None]
    if encoded:
        names = [f"{shown(c.name)} ({len(c.categories or ())})" for c in encoded[:6]]
        lines.append("one-hot: " + ", ".join(names) + (", …" if len(encoded) > 6 else ""))
    if impute is not None:
        lines.append(
            f"missing numbers become: {impute.replace('_', ' ')}; categories: most frequent"
        )
    if table.weights is not None:
        lines.append(f"weights {shown(table.weights)}")
    if table.ignored:
        lines.append("left out: " + ", ".join(map(shown, table.ignored)))
    return lines
