"""``Table``: how the columns of a table become the inputs and targets of a network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..files.disk import shown
from ..spec.arguments import choose
from .cells import Cells, as_cells, is_missing

Array = np.ndarray

IMPUTATIONS = ("median", "mean", "most_frequent")
TASKS = ("classification", "regression")
MOST_CLASSES = 20
"""Largest number of different whole numbers of a target that are taken for classes."""
MOST_CATEGORIES = 100
"""Largest number of categories of one column."""
LEAST, MOST = 1e-100, 1e100
"""Bounds of sample weights above 0, those of ``fit``."""


@dataclass(frozen=True)
class Column:
    """An input column of a table.

    Attributes
    ----------
    name : str
        Its name.
    categories : tuple of str or None
        The categories in the order of their inputs; None for a column of numbers.
    fill : float, str or None
        What replaces missing values; None if they are refused.
    """

    name: str
    categories: tuple[str, ...] | None = None
    fill: float | str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that it becomes: ``sex=female``, ``sex=male``."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)


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

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            If the data cannot be read, there is no such column, a column of texts has more than
            100 categories or a different one in each of more than 20 rows, or the task does not
            fit the target.
        """
        cells = as_cells(data, keep=target, texts=categories)
        _require(cells, [target], "target")
        _require(cells, categories, "categories")
        _require(cells, drop, "drop")
        _require(cells, [] if weights is None else [weights], "weights")
        _check_roles(target, drop, weights)
        others = {target, weights, *drop}
        found = tuple(
            _column(cells, name, name in categories) for name in cells.columns if name not in others
        )
        if not found:
            raise ValueError(f"{cells.source}: found no column of inputs, expected at least one")
        kind, classes = _task(cells, target, task)
        return cls(found, target, kind, classes, weights, tuple(drop))

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
                replace(column, fill=_fill(cells, column, method)) for column in self.columns
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
            _encode(cells, column, out[:, place : place + n])
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
            return _numbers(cells, self.target)
        if isinstance(self.classes[0], str):
            return _known(cells, self.target, _as_texts(column), self.classes, "class")
        values = _numbers(cells, self.target)
        kind = np.int64 if isinstance(self.classes[0], int) else np.float64
        return _known(cells, self.target, values, self.classes, "class").astype(kind)

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
        found = _numbers(cells, self.weights)
        missing = np.isnan(found)
        if missing.any():
            raise ValueError(
                f"{cells.source}: weights {shown(repr(self.weights))}: found {_count(missing)} "
                f"missing, the first in {cells.place(int(missing.argmax()))}, expected a weight in "
                "each row"
            )
        wrong = ~((found == 0) | ((found >= LEAST) & (found <= MOST)))
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{cells.source}: weights {shown(repr(self.weights))}: found {found[row]:g} in "
                f"{cells.place(row)}, expected weights of 0, or from {LEAST:g} to {MOST:g}"
            )
        return found

    def has_target(self, data: Any) -> Array:
        """Return which rows (n,) have a target, as booleans."""
        cells = self._cells(data)
        _require(cells, [self.target], "target")
        return ~is_missing(cells.columns[self.target])

    def _cells(self, data: Any) -> Cells:
        return as_cells(data, keep=self.target, texts=self.texts)

    def _check_columns(self, cells: Cells) -> None:
        names = {column.name for column in self.columns}
        absent = [name for name in (c.name for c in self.columns) if name not in cells.columns]
        if absent:
            raise ValueError(
                f"{cells.source}: found no {_plural(len(absent), 'column')} {_names(absent)}, "
                f"expected the columns of the training: {_names([c.name for c in self.columns])}"
            )
        known = names | {self.target, self.weights, *self.ignored}
        other = [name for name in cells.columns if name not in known]
        if other:
            raise ValueError(
                f"{cells.source}: found {_plural(len(other), 'column')} {_names(other)} that the "
                f"training did not have, expected {_names([c.name for c in self.columns])}"
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
        columns = tuple(_saved_column(column) for column in saved["columns"])
        target, weights = saved.get("target"), saved.get("weights")
        ignored, classes = saved.get("ignored", []), saved.get("classes")
        if not isinstance(target, str) or not isinstance(weights, (str, type(None))):
            raise ValueError("table: found a name that is no text")
        if not _are_texts(ignored):
            raise ValueError(f"table: found {shown(repr(ignored))}, expected a list of names")
        task = choose("task", saved.get("task"), TASKS)
        if (classes is None) != (task == "regression"):
            raise ValueError(f"table: found {task} with classes {shown(repr(classes))}")
        if classes is not None and not (
            _are_texts(classes)
            or (isinstance(classes, list) and all(type(c) in (int, float) for c in classes))
        ):
            raise ValueError(f"table: found classes {shown(repr(classes))}, expected labels")
        labels = None if classes is None else tuple(classes)
        return cls(columns, target, task, labels, weights, tuple(ignored))


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
                f"{argument}: found {name!r} for {cells.source}, expected one of its columns: "
                f"{_names(list(cells.columns), quoted=False)}"
            )


def _check_roles(target: str, drop: Sequence[str], weights: str | None) -> None:
    """Raise a ValueError for a column that is asked to be two things."""
    for name, role in (target, "the target"), (weights, "the column of the weights"):
        if name in drop:
            raise ValueError(f"drop: found {name!r}, {role}, expected other columns")
    if weights == target:
        raise ValueError(f"weights: found {weights!r}, the target, expected another column")


def _column(cells: Cells, name: str, categorical: bool) -> Column:
    """Return the column of one name in the training data."""
    values = cells.columns[name]
    if values.dtype.kind == "f" and not categorical:
        if np.isnan(values).all():
            raise ValueError(
                f"{cells.source}: column {shown(repr(name))}: found no value at all, expected "
                f"numbers or texts; leave it out with drop=[{name!r}] (--drop {shown(name)})"
            )
        return Column(name)
    known = [value for value in _as_texts(values) if value is not None]
    found = tuple(sorted(set(known)))
    if len(found) > MOST_CATEGORIES or len(found) == len(known) > MOST_CLASSES or not found:
        raise ValueError(
            f"{cells.source}: column {shown(repr(name))}: found {len(found)} different texts in "
            f"{len(cells)} rows, expected at most {MOST_CATEGORIES} categories that recur; leave "
            f"it out with drop=[{name!r}] (--drop {shown(name)})"
        )
    return Column(name, found)


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
            f"{cells.source}: target {target!r}: found one class only ({shown(str(labels[0]))}), "
            "expected at least two classes"
        )
    if len(labels) > MOST_CLASSES and 2 * len(labels) > len(known):
        raise ValueError(
            f"{cells.source}: target {target!r}: found {len(labels)} different labels in "
            f"{len(known)} rows, expected classes that recur"
        )
    return "classification", tuple(labels)


def _fill(cells: Cells, column: Column, method: str) -> float | str:
    """Return what replaces the missing values of a column."""
    values = cells.columns[column.name]
    known = values[~is_missing(values)]
    if not len(known):
        raise ValueError(
            f"impute: found no value of {shown(repr(column.name))} in the rows to train on, "
            "expected at least one"
        )
    if column.categories is not None:
        texts, counts = np.unique(_as_texts(known).astype(str), return_counts=True)
        return str(texts[counts.argmax()])
    numbers = _numbers(cells, column.name)
    numbers = numbers[~np.isnan(numbers)]
    if method == "most_frequent":
        numbers, counts = np.unique(numbers, return_counts=True)
        return float(numbers[counts.argmax()])
    return float(np.median(numbers) if method == "median" else numbers.mean())


# --- Encoding -------------------------------------------------------------------------------------


def _encode(cells: Cells, column: Column, out: Array) -> None:
    """Write the inputs of one column into ``out`` (n, inputs of the column), which is 0."""
    if column.categories is None:
        values = _numbers(cells, column.name)
        if not np.isfinite(values[~np.isnan(values)]).all():
            raise ValueError(
                f"{cells.source}: column {shown(repr(column.name))}: found an infinite number, "
                "expected finite ones"
            )
        out[:, 0] = (
            values if column.fill is None else np.where(np.isnan(values), column.fill, values)
        )
        return
    texts = _as_texts(cells.columns[column.name])
    if column.fill is not None:
        texts = np.where(is_missing(texts), column.fill, texts)
    places = _places(cells, column.name, texts, column.categories, "category")
    out[np.arange(len(texts)), places] = 1


def _known(cells: Cells, name: str, values: Array, known: Sequence[Any], what: str) -> Array:
    """Return values as an array; raise if one is not among the known ones."""
    places = _places(cells, name, values, known, what)
    found: Array = np.asarray(known)[places]
    return found


def _places(cells: Cells, name: str, values: Array, known: Sequence[Any], what: str) -> Array:
    """Return the index of each value (n,) among the known ones."""
    index = {value: k for k, value in enumerate(known)}
    places = np.array([index.get(value, -1) for value in values.tolist()], dtype=np.intp)
    for row in np.flatnonzero(places < 0).tolist():
        # pandas writes whole numbers as 3.0 if the column has a gap.
        if isinstance(value := values[row], str) and re.fullmatch(r"-?\d+(\.0)?", value):
            other = value[:-2] if value.endswith(".0") else f"{value}.0"
            places[row] = index.get(other, -1)
    if (places < 0).any():
        row = int((places < 0).argmax())
        value = values[row]
        text = repr(value) if isinstance(value, str) else f"{value:g}"
        raise ValueError(
            f"{cells.source}: column {shown(repr(name))}: found the {what} {shown(text)} in "
            f"{cells.place(row)}, which the training data did not have; expected one of "
            f"{_names([str(value) for value in known])}"
        )
    return places


def _numbers(cells: Cells, name: str) -> Array:
    """Return a column as numbers (n,) with NaN; raise a ValueError if it has texts."""
    column = cells.columns[name]
    if column.dtype.kind == "f":
        return column
    for row, value in enumerate(column):
        if value is not None and not _is_finite(value):
            raise ValueError(
                f"{cells.source}: column {shown(repr(name))}: found {shown(repr(value))} in "
                f"{cells.place(row)}, expected a number"
            )
    return np.array([np.nan if value is None else float(value) for value in column])


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _as_texts(column: Array) -> Array:
    """Return a column as texts (n,) with None, numbers as a file would hold them: 3, 0.5."""
    if column.dtype == object:
        return column
    found = np.empty(len(column), dtype=object)
    found[:] = [
        None if math.isnan(v) else str(int(v)) if v.is_integer() else repr(v)
        for v in column.tolist()
    ]
    return found


# --- Files and text -------------------------------------------------------------------------------


def _saved_column(saved: Any) -> Column:
    """Return a column that a file describes."""
    if not isinstance(saved, Mapping) or not isinstance(saved.get("name"), str):
        raise ValueError(f"table: found {shown(repr(saved))}, expected the description of a column")
    categories, fill = saved.get("categories"), saved.get("fill")
    if categories is not None and not (_are_texts(categories) and categories):
        raise ValueError(f"table: found categories {shown(repr(categories))}, expected texts")
    number = isinstance(fill, (int, float)) and math.isfinite(fill)
    fits = number if categories is None else fill in categories
    if fill is not None and not fits:
        raise ValueError(f"table: found {shown(repr(fill))} for missing values, expected a value")
    return Column(saved["name"], None if categories is None else tuple(categories), fill)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _names(names: Sequence[str], quoted: bool = True) -> str:
    """Return names as text; of many, the first twenty."""
    some = [shown(repr(name) if quoted else name) for name in names[:20]]
    return ", ".join(some) + (", …" if len(names) > 20 else "")


def _plural(n: int, noun: str) -> str:
    return noun if n == 1 else f"{noun}s"


def _count(missing: Array) -> str:
    return f"{int(missing.sum()):,} of {len(missing):,}"
