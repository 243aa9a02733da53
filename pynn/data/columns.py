"""``Column``: an input column of a table, as it is found, filled, encoded and saved."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..files.disk import shown
from . import csv
from .cells import Cells, as_text, is_missing

Array = np.ndarray

MOST_CLASSES = 20
"""Largest number of different whole numbers of a target that are taken for classes, and of rows of
a column that may all have different texts."""
MOST_CATEGORIES = 100
"""Largest number of categories of one column."""
_DAY, _MONTH, _YEAR = r"(0?[1-9]|[12]\d|3[01])", r"(0?[1-9]|1[0-2])", r"[12]\d{3}"
_NAMED_MONTH = (
    "(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?"
    r"|nov(ember)?|dec(ember)?)\.?"
)
_TIME = r"(,?[T ]\d?\d:\d\d(:\d\d([.,]\d+)?)?( ?[AP]M)?( ?Z| ?[+-]\d\d(:?\d\d)?)?)?"
_DATES = tuple(
    re.compile(f"({form}){_TIME}", re.IGNORECASE)
    for form in (
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])",  # ISO 8601
        rf"{_YEAR}/{_MONTH}/{_DAY}",
        rf"{_YEAR}\.{_MONTH}\.{_DAY}\.?",
        # Years of two digits need zeros before dots: 1.2.10 may be a version.
        rf"{_DAY}\.{_MONTH}\.{_YEAR}|(0[1-9]|[12]\d|3[01])\.(0[1-9]|1[0-2])\.\d\d",
        rf"{_DAY}/{_MONTH}/({_YEAR}|\d\d)|{_DAY}-{_MONTH}-{_YEAR}",
        rf"{_MONTH}/{_DAY}/({_YEAR}|\d\d)|{_MONTH}-{_DAY}-{_YEAR}",
        rf"{_DAY}[ -]{_NAMED_MONTH}[ -]({_YEAR}|\d\d)",
    )
)
"""Common forms of dates, also with a time. A column of dates has one form."""


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


# --- Training data --------------------------------------------------------------------------------


def column_of(cells: Cells, name: str, categorical: bool) -> Column:
    """Return the column of one name in the training data."""
    values = cells.columns[name]
    if values.dtype.kind == "f" and not categorical:
        if np.isnan(values).all():
            raise ValueError(
                f"{cells.source}: column {shown(repr(name))}: found no value at all, expected "
                f"numbers or texts; leave it out with drop=[{name!r}] (--drop {shown(name)})"
            )
        return Column(name)
    known = [value for value in as_texts(values) if value is not None]
    if not categorical and known and any(all(map(form.fullmatch, known)) for form in _DATES):
        raise ValueError(
            f"{cells.source}: column {shown(repr(name))}: found dates, the first "
            f"{shown(repr(known[0]))}, expected numbers or texts; convert dates to numbers, such "
            f"as days since a date, or leave them out with drop=[{name!r}] (--drop {shown(name)})"
        )
    found = tuple(sorted(set(known)))
    if len(found) > MOST_CATEGORIES or len(found) == len(known) > MOST_CLASSES or not found:
        raise ValueError(
            f"{cells.source}: column {shown(repr(name))}: found {len(found)} different texts in "
            f"{len(cells)} rows, expected at most {MOST_CATEGORIES} categories that recur; leave "
            f"it out with drop=[{name!r}] (--drop {shown(name)})"
        )
    return Column(name, found)


def fill_of(cells: Cells, column: Column, method: str) -> float | str:
    """Return what replaces the missing values of a column."""
    values = cells.columns[column.name]
    known = values[~is_missing(values)]
    if not len(known):
        raise ValueError(
            f"impute: found no value of {shown(repr(column.name))} in the rows to train on, "
            "expected at least one"
        )
    if column.categories is not None:
        texts, counts = np.unique(as_texts(known).astype(str), return_counts=True)
        return str(texts[counts.argmax()])
    numbers = numbers_in(cells, column.name)
    numbers = numbers[~np.isnan(numbers)]
    if method == "most_frequent":
        numbers, counts = np.unique(numbers, return_counts=True)
        return float(numbers[counts.argmax()])
    return float(np.median(numbers) if method == "median" else numbers.mean())


# --- Encoding -------------------------------------------------------------------------------------


def encode(cells: Cells, column: Column, out: Array) -> None:
    """Write the inputs of one column into ``out`` (n, inputs of the column), which is 0."""
    if column.categories is None:
        values = numbers_in(cells, column.name)
        if not np.isfinite(values[~np.isnan(values)]).all():
            raise ValueError(
                f"{cells.source}: column {shown(repr(column.name))}: found an infinite number, "
                "expected finite ones"
            )
        out[:, 0] = (
            values if column.fill is None else np.where(np.isnan(values), column.fill, values)
        )
        return
    texts = as_texts(cells.columns[column.name])
    if column.fill is not None:
        texts = np.where(is_missing(texts), column.fill, texts)
    places = _places(cells, column.name, texts, column.categories, "category")
    out[np.arange(len(texts)), places] = 1


def known_values(cells: Cells, name: str, values: Array, known: Sequence[Any], what: str) -> Array:
    """Return values as an array; raise if one is not among the known ones."""
    places = _places(cells, name, values, known, what)
    return np.asarray(known)[places]


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
            f"{names_text([str(value) for value in known])}"
        )
    return places


def numbers_in(cells: Cells, name: str) -> Array:
    """Return a column as numbers (n,) with NaN; raise a ValueError if it has texts."""
    column = cells.columns[name]
    if column.dtype.kind == "f":
        return column
    for row, value in enumerate(column):
        if value is not None and not csv.is_number(value):
            raise ValueError(
                f"{cells.source}: column {shown(repr(name))}: found {shown(repr(value))} in "
                f"{cells.place(row)}, expected a number"
            )
    return np.array([np.nan if value is None else float(value) for value in column])


def as_texts(column: Array) -> Array:
    """Return a column as texts (n,) with None, numbers as a file would hold them: 3, 0.5."""
    if column.dtype == object:
        return column
    found = np.empty(len(column), dtype=object)
    found[:] = [None if math.isnan(v) else as_text(v) for v in column.tolist()]
    return found


# --- Files and text -------------------------------------------------------------------------------


def column_from(saved: Any) -> Column:
    """Return a column that a file describes."""
    if not isinstance(saved, Mapping) or not isinstance(saved.get("name"), str):
        raise ValueError(f"table: found {shown(repr(saved))}, expected the description of a column")
    categories, fill = saved.get("categories"), saved.get("fill")
    if categories is not None and not (are_texts(categories) and categories):
        raise ValueError(f"table: found categories {shown(repr(categories))}, expected texts")
    number = isinstance(fill, (int, float)) and math.isfinite(fill)
    fits = number if categories is None else fill in categories
    if fill is not None and not fits:
        raise ValueError(f"table: found {shown(repr(fill))} for missing values, expected a value")
    return Column(saved["name"], None if categories is None else tuple(categories), fill)


def are_texts(values: Any) -> bool:
    """Whether a value of a file is a list of texts."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def names_text(names: Sequence[str], quoted: bool = True) -> str:
    """Return names as text; of many, the first twenty."""
    some = [shown(repr(name) if quoted else name) for name in names[:20]]
    return ", ".join(some) + (", …" if len(names) > 20 else "")
