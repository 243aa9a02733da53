"""``Table``: how the columns of a table become the inputs and targets of a network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..files.disk import counted, shown
from ..spec.arguments import LEAST_WEIGHT, MOST_WEIGHT, choose
from .cells import Cells, as_cells, is_missing
from .columns import (
    MOST_CLASSES,
    Column,
    are_texts,
    as_texts,
    column_from,
    column_of,
    encode,
    fill_of,
    known_values,
    names_text,
    numbers_in,
)
from .csv import is_number, one_of

Array = np.ndarray

IMPUTATIONS = ("median", "mean", "most_frequent")
TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Table:
    """How the columns of a CSV file or data frame become inputs and targets.

    Columns of numbers become one input each. Columns of texts become one input of 0 or 1 for each
    category (one-hot), in alphabetical order. Model files contain the table (``net.table``), so
    that a network reads other files of the same columns in any order.

    Attributes
    ----------
    columns : tuple of Column
        The input columns: name, categories, and what replaces missing values.
    target : str
        The name of the column to predict.
    task : {"classification", "regression"}
        Whether the target has classes or values.
    classes : tuple or None
        The sorted labels of a classification: texts or numbers.
    weights : str or None
        The name of the column of sample weights, which is no input.
    ignored : tuple of str
        The names of columns that are no inputs.
    index : bool or None
        Whether the first column of files is skipped as row numbers; None if their headers decide.

    Examples
    --------
    >>> table = Table.of({"size": [1, 3, 2], "shape": ["ring", "bar", "ring"],
    ...                   "price": [1.5, 2.5, 1.9]}, target="price")
    >>> table.inputs
    ('size', 'shape=bar', 'shape=ring')
    >>> table.x({"shape": ["bar"], "size": [4]}).tolist()
    [[4.0, 1.0, 0.0]]
    """

    columns: tuple[Column, ...]
    target: str
    task: str
    classes: tuple[Any, ...] | None = None
    weights: str | None = None
    ignored: tuple[str, ...] = ()
    index: bool | None = None

    @classmethod
    def of(
        cls,
        data: Any,
        target: str,
        *,
        task: str | None = None,
        categories: Sequence[str] = (),
        drop: Sequence[str] = (),
        weights: str | None = None,
        index: bool | None = None,
    ) -> Table:
        """Return the table of training data.

        Parameters
        ----------
        data : path-like, data frame, or mapping of str to sequence
            A CSV file with a header, a data frame of pandas or polars, or its columns.
        target : str
            The name of the column to predict.
        task : {"classification", "regression"}, optional
            By default classification if the target has texts, or at most 20 different whole
            numbers, and regression otherwise.
        categories : sequence of str
            Columns whose numbers are names of categories, such as postcodes: each text is one, so
            that 01 is not 1. The target may be one of them.
        drop : sequence of str
            Columns that are no inputs.
        weights : str, optional
            The column of sample weights.
        index : bool, optional
            Whether the first column of a file holds row numbers or names, which are skipped, in
            this file and in later ones. By default, the header decides, as in `load_csv`.

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            If the data cannot be read, there is no such column, a column of texts has more than
            100 categories, a different one in each of more than 20 rows, or dates alone and is not
            in ``categories``, or the task does not fit the target.
        """
        if index and not isinstance(data, (str, os.PathLike, Cells)):
            raise ValueError(
                "index: found True for data that are no file, expected it with a CSV file; "
                "drop=[…] leaves columns out"
            )
        cells = as_cells(data, index, keep=target, texts=categories, drop=drop)
        _require(cells, [target], "target")
        _require(cells, categories, "categories")
        _require(cells, drop, "drop")
        _require(cells, [] if weights is None else [weights], "weights")
        _check_roles(target, drop, weights)
        others = {target, weights, *drop}
        found = tuple(
            column_of(cells, name, name in categories)
            for name in cells.columns
            if name not in others
        )
        if not found:
            raise ValueError(f"{cells.source}: found no column of inputs, expected at least one")
        kind, classes = _task(cells, target, task)
        ignored = (*drop, *_skipped_by_index(cells))
        return cls(found, target, kind, classes, weights, ignored, cells.index)

    def imputed(self, data: Any, method: str) -> Table:
        """Return a table that replaces missing values of the inputs.

        Parameters
        ----------
        data : path-like, data frame, mapping or Cells
            The rows that give the statistics.
        method : {"median", "mean", "most_frequent"}
            For columns of numbers. Categories are replaced by the most frequent one, of several
            by the first in alphabetical order, as in scikit-learn.

        Raises
        ------
        ValueError
            If a column has no value at all.
        """
        choose("impute", method, IMPUTATIONS)
        cells = self._cells(data)
        return replace(
            self,
            columns=tuple(
                replace(column, fill=fill_of(cells, column, method)) for column in self.columns
            ),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs of the network."""
        return tuple(name for column in self.columns for name in column.inputs)

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the columns whose cells are read as texts."""
        names = [column.name for column in self.columns if column.categories is not None]
        if self.classes is not None and isinstance(self.classes[0], str):
            names.append(self.target)
        return tuple(names)

    # --- Arrays -------------------------------------------------------------------------------

    def x(self, data: Any) -> Array:
        """Return the inputs (n, n_in), float64.

        Parameters
        ----------
        data : path-like, data frame, mapping or Cells
            Its columns may have any order. Target, weights and ignored columns may be missing.

        Raises
        ------
        ValueError
            If a column is missing or unknown, a category was not in the training data, or a value
            is missing and the table does not replace it.
        """
        cells = self._cells(data)
        self._check_columns(cells)
        self._check_missing(cells)
        out = np.zeros((len(cells), len(self.inputs)))
        place = 0
        for column in self.columns:
            n = len(column.inputs)
            encode(cells, column, out[:, place : place + n])
            place += n
        return out

    def y(self, data: Any) -> Array:
        """Return the targets (n,): labels, or values in float64.

        Raises
        ------
        ValueError
            If the column is missing, or holds a missing value, another label than in training, or
            text in place of a value.
        """
        cells = self._cells(data)
        _require(cells, [self.target], "target")
        column = cells.columns[self.target]
        missing = is_missing(column)
        if missing.any():
            raise ValueError(
                f"{cells.source}: target {shown(repr(self.target))}: found {_count(missing)} "
                f"missing, the first in {cells.place(int(missing.argmax()))}, expected a value in "
                "each row; missing_targets='ignore' (--missing-targets ignore) leaves these rows "
                "out"
            )
        if self.classes is None:
            return numbers_in(cells, self.target)
        if isinstance(self.classes[0], str):
            return known_values(cells, self.target, as_texts(column), self.classes, "class")
        values = numbers_in(cells, self.target)
        kind = np.int64 if isinstance(self.classes[0], int) else np.float64
        return known_values(cells, self.target, values, self.classes, "class").astype(kind)

    def sample_weight(self, data: Any) -> Array | None:
        """Return the sample weights (n,), float64; None if the data or the table have none.

        Raises
        ------
        ValueError
            If one is missing, negative, text, or not 0 but below 1e-100 or above 1e100.
        """
        cells = self._cells(data)
        if self.weights is None or self.weights not in cells.columns:
            return None
        found = numbers_in(cells, self.weights)
        missing = np.isnan(found)
        if missing.any():
            raise ValueError(
                f"{cells.source}: weights {shown(repr(self.weights))}: found {_count(missing)} "
                f"missing, the first in {cells.place(int(missing.argmax()))}, expected a weight in "
                "each row"
            )
        wrong = ~((found == 0) | ((found >= LEAST_WEIGHT) & (found <= MOST_WEIGHT)))
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{cells.source}: weights {shown(repr(self.weights))}: found {found[row]:g} in "
                f"{cells.place(row)}, expected weights of 0, or from {LEAST_WEIGHT:g} to "
                f"{MOST_WEIGHT:g}"
            )
        return found

    def has_target(self, data: Any) -> Array:
        """Return which rows (n,) have a target, as booleans."""
        cells = self._cells(data)
        _require(cells, [self.target], "target")
        return ~is_missing(cells.columns[self.target])

    def _cells(self, data: Any) -> Cells:
        return cells_for(self, data)

    def _check_columns(self, cells: Cells) -> None:
        names = [column.name for column in self.columns]
        absent = [name for name in names if name not in cells.columns]
        if absent:
            skipped = [name for name in absent if name in cells.skipped]
            raise ValueError(
                f"{cells.source}: found no {_plural(len(absent), 'column')} {names_text(absent)}, "
                f"expected the columns of the training: {names_text(names)}"
                + f"; --index skips the first column, {names_text(skipped)}: --no-index uses it, "
                "or in Python a data frame" * bool(skipped)
            )
        known = {*names, self.target, self.weights, *self.ignored}
        other = [name for name in cells.columns if name not in known]
        if other:
            raise ValueError(
                f"{cells.source}: found {_plural(len(other), 'column')} {names_text(other)} that "
                f"the training did not have, expected {names_text(names)}"
                + "; --index skips the first column on the command line"
                * (cells.path is not None and other == list(cells.columns)[:1])
            )

    def _check_missing(self, cells: Cells) -> None:
        """Raise a ValueError that names every column with missing values."""
        found = []
        for column in self.columns:
            missing = is_missing(cells.columns[column.name])
            if column.fill is None and missing.any():
                first = int(missing.argmax())
                found.append(
                    f"{shown(repr(column.name))} ({_count(missing)}, the first in "
                    f"{cells.place(first)})"
                )
        if found:
            raise ValueError(
                f"{cells.source}: found missing values in {', '.join(found)}; expected a value in "
                "each cell, or a model trained with impute (--impute median)"
            )

    # --- Files --------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain data, for JSON."""
        return {
            "columns": [
                {
                    "name": c.name,
                    "categories": None if c.categories is None else list(c.categories),
                    "fill": c.fill,
                }
                for c in self.columns
            ],
            "target": self.target,
            "task": self.task,
            "classes": None if self.classes is None else list(self.classes),
            "weights": self.weights,
            "ignored": list(self.ignored),
            "index": self.index,
        }

    @classmethod
    def from_dict(cls, saved: Any) -> Table:
        """Return the table of `to_dict`.

        Raises
        ------
        ValueError
            If ``saved`` is none.
        """
        if not isinstance(saved, Mapping) or not isinstance(saved.get("columns"), list):
            raise ValueError(f"table: found {shown(repr(saved))}, expected a description")
        columns = tuple(column_from(column) for column in saved["columns"])
        target, weights = saved.get("target"), saved.get("weights")
        ignored, classes = saved.get("ignored", []), saved.get("classes")
        if not isinstance(target, str) or not isinstance(weights, (str, type(None))):
            raise ValueError("table: found a name that is no text")
        if not are_texts(ignored):
            raise ValueError(f"table: found {shown(repr(ignored))}, expected a list of names")
        task = choose("task", saved.get("task"), TASKS)
        if (classes is None) != (task == "regression"):
            raise ValueError(f"table: found {task} with classes {shown(repr(classes))}")
        if classes is not None and not (
            are_texts(classes)
            or (isinstance(classes, list) and all(type(c) in (int, float) for c in classes))
        ):
            raise ValueError(f"table: found classes {shown(repr(classes))}, expected labels")
        index = saved.get("index")  # files of earlier versions have none
        if not isinstance(index, (bool, type(None))):
            raise ValueError(f"table: found index {shown(repr(index))}, expected true or false")
        labels = None if classes is None else tuple(classes)
        return cls(columns, target, task, labels, weights, tuple(ignored), index)


def cells_for(table: Table, data: Any, index: bool | None = None) -> Cells:
    """Return the columns of data for a table of the training.

    ``index`` is as in `load_csv`, by default as in the training.
    """
    index = table.index if index is None else index
    known = [column.name for column in table.columns]
    if table.weights is not None:
        known.append(table.weights)
    return as_cells(data, index, table.target, table.texts, table.ignored, known)


def as_table(table: Any, n_in: int) -> Table | None:
    """Return a table that a user or a file gives to a network, or None for none.

    Raises
    ------
    TypeError, ValueError
        If it is another object, or has another number of inputs than the network.
    """
    if table is None:
        return None
    if not isinstance(table, Table):
        raise TypeError(f"table: found a {type(table).__name__}, expected a pynn.data.Table")
    found = len(table.inputs)
    if found != n_in:
        raise ValueError(f"table: found one of {found} inputs, expected {n_in}")
    return table


# --- Training data --------------------------------------------------------------------------------


def _require(cells: Cells, names: Sequence[str], argument: str) -> None:
    for name in names:
        if name not in cells.columns:
            raise ValueError(
                f"{argument}: found {name!r} for {cells.source}, expected "
                f"{one_of(name, list(cells.columns))}"
            )


def _skipped_by_index(cells: Cells) -> list[str]:
    """Return the name of the column that ``index=True`` skipped, as a data frame has it."""
    names = cells.skipped if cells.index else ()
    return [name or "Unnamed: 0" for name in names if name not in cells.columns]


def _check_roles(target: str, drop: Sequence[str], weights: str | None) -> None:
    """Raise a ValueError for a column that is asked to be two things."""
    for name, role in (target, "the target"), (weights, "the column of the weights"):
        if name in drop:
            raise ValueError(f"drop: found {name!r}, {role}, expected other columns")
    if weights == target:
        raise ValueError(f"weights: found {weights!r}, the target, expected another column")


def _task(cells: Cells, target: str, task: str | None) -> tuple[str, tuple[Any, ...] | None]:
    """Return the task, and the classes of a classification."""
    if task is not None:
        choose("task", task, TASKS)
    column = cells.columns[target]
    known = column[~is_missing(column)]
    if not len(known):
        raise ValueError(f"{cells.source}: target {target!r}: found no value, expected values")
    text = column.dtype.kind != "f"
    if text and task == "regression":
        raise ValueError(
            f"task: found 'regression' with the text {shown(repr(known[0]))} in the target "
            f"{target!r}, expected numbers to predict"
        )
    if task == "regression":
        return task, None
    labels = sorted(set(known.tolist()))
    if not text:
        whole = all(float(label).is_integer() for label in labels)
        if task is None and not (whole and len(labels) <= MOST_CLASSES):
            return "regression", None
        if whole and max(map(abs, labels)) >= 2**53:
            raise ValueError(
                f"{cells.source}: target {target!r}: found labels of 2**53 or more, which float64 "
                f"rounds, expected smaller ones; categories=[{target!r}] (--categories "
                f"{shown(target)}) reads them as texts"
            )
        labels = [int(label) if whole else label for label in labels]
    if len(labels) < 2:
        raise ValueError(
            f"{cells.source}: target {target!r}: found one class only ({shown(str(labels[0]))})"
            f"{_gaps(column)}, expected at least two classes"
        )
    if len(labels) > MOST_CLASSES and 2 * len(labels) > len(known):
        raise ValueError(
            f"{cells.source}: target {target!r}: found {len(labels)} different labels in "
            f"{len(known)} rows{_first_text(cells, column)}, expected classes that recur"
        )
    return "classification", tuple(labels)


def _gaps(column: Array) -> str:
    """Return a part of a message about the missing values of a column."""
    missing = is_missing(column)
    if not missing.any():
        return ""
    n = counted(int(missing.sum()), "missing value")
    return f" and {n} (empty cells, and texts such as NA and None)"


def _first_text(cells: Cells, column: Array) -> str:
    """Return a part of a message about the first cell of a column that is no number."""
    if column.dtype.kind == "f":
        return ""
    for row, value in enumerate(column):
        if value is not None and not is_number(value):
            return f", read as texts since {shown(repr(value))} in {cells.place(row)} is no number"
    return ""


# --- Text -----------------------------------------------------------------------------------------


def _plural(n: int, noun: str) -> str:
    return noun if n == 1 else f"{noun}s"


def _count(missing: Array) -> str:
    return f"{int(missing.sum()):,} of {len(missing):,}"
