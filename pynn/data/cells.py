"""The columns of a CSV file or data frame: each holds numbers, or texts.

A table becomes inputs of a network in two steps: this module reads its columns, and ``table``
encodes them.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files.disk import counted, require_file, shown
from . import csv

Array = np.ndarray

MISSING = frozenset(
    ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "none"]
)
"""Texts of cells that mean a missing value."""
MOST_MIXED = 20
"""Largest number of different cells of a column that may mix numbers with other texts."""
LARGE = 1 << 21
"""Size of a file, in bytes, from which pandas is used if it is installed."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The columns of a table.

    Attributes
    ----------
    source : str
        The file, for messages; "table" for a data frame.
    columns : dict of str to ndarray (n,)
        By name and in their order: float64 with NaN, or texts (objects) with None, for missing
        values. Texts have no white space at their ends.
    path : Path or None
        The file.
    rows : ndarray (n,) or None
        The numbers of the rows in the file or data frame, if they are not all of its rows.
    skipped : tuple of str
        The names of the columns of the file that were skipped as row numbers.
    index : bool or None
        The argument of `as_cells` for a file.
    """

    source: str
    columns: dict[str, Array]
    path: Path | None = None
    rows: Array | None = None
    skipped: tuple[str, ...] = ()
    index: bool | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def take(self, rows: Array) -> Cells:
        """Return some rows, given as indices or booleans."""
        numbers = np.arange(len(self)) if self.rows is None else self.rows
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, columns=columns, rows=numbers[rows])

    def place(self, row: int) -> str:
        """Return where a row is: its line in the file, or its number in a data frame."""
        row = row if self.rows is None else int(self.rows[row])
        if self.path is not None:
            for k, (line, _) in enumerate(csv.numbered_lines(self.path)):
                if k == row + 1:  # the first is the header
                    return f"line {line}"
        return f"row {row} (counted from 0)"


def is_missing(column: Array) -> Array:
    """Return which values of a column (n,) are missing, as booleans."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    return np.array([value is None for value in column], dtype=bool)


def as_cells(
    data: Any,
    index: bool | None = None,
    keep: str | None = None,
    texts: Collection[str] = (),
    drop: Collection[str] = (),
    known: Collection[str] = (),
) -> Cells:
    """Return the columns of a file, a data frame, or a dictionary of columns.

    Parameters
    ----------
    data : path-like, data frame, mapping of str to sequence, or Cells
        A CSV file with a header, in UTF-8; a data frame of pandas or polars; or its columns.
    index : bool, optional
        Whether the first column of a file holds row numbers, as in `load_csv`.
    keep : str, optional
        The target: a column that is not skipped or refused as row numbers.
    texts : collection of str
        Columns whose cells stay texts, also if all are numbers: 01 is not 1.
    drop : collection of str
        Columns that are not used, so that what they hold is not checked.
    known : collection of str
        Columns of the training: one that counts the rows of a later file holds values.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If they cannot be read; a column mixes numbers with other texts; or two have one name.

    Warns
    -----
    UserWarning
        If columns of row numbers are skipped or used, as in `load_csv`.
    """
    if isinstance(data, Cells):
        return data
    if isinstance(data, (str, os.PathLike)):
        path = require_file(data, "a CSV file with a header")
        return _from_file(path, index, keep, texts, (drop, known))
    if isinstance(data, Mapping):
        columns: dict[Any, Any] = dict(data)
    elif hasattr(data, "columns") and hasattr(data, "__getitem__"):
        names = list(data.columns)
        _check_names(names, "table")
        columns = {name: data[name] for name in names}
    else:
        raise TypeError(
            f"data: found a {type(data).__name__}, expected a CSV file, a data frame, or a "
            "dictionary of columns"
        )
    _check_names(list(columns), "table")
    found = {name: _from_values(name, values, name in texts) for name, values in columns.items()}
    if len({len(column) for column in found.values()}) > 1:
        raise ValueError("data: found columns of different lengths, expected equal lengths")
    return Cells("table", found)


def _check_names(names: Sequence[Any], source: str) -> None:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{source}: found {name!r} as the name of a column, expected text; use "
                "frame.columns = frame.columns.astype(str)"
            )
        if names.count(name) > 1:
            raise ValueError(
                f"{source}: found {names.count(name)} columns named {shown(repr(name))}, expected "
                "one"
            )


# --- Files ----------------------------------------------------------------------------------------


def _from_file(
    path: Path,
    index: bool | None,
    keep: str | None,
    texts: Collection[str],
    others: tuple[Collection[str], Collection[str]],
) -> Cells:
    """Read a file; ``others`` are ``drop`` and ``known``."""
    drop, known = others
    layout = csv.Table.open(path, None, True, index, False)
    assert layout.names is not None
    names = [name.strip() for name in layout.names]
    skipped = layout.skipped
    if keep in names[:skipped]:
        raise ValueError(
            f"target: found {keep!r} for {path}, the column that index=True skips "
            "(--index; --no-index uses it)"
        )
    if skipped and index is None:
        some = ", ".join(shown(repr(name)) for name in names[:skipped])
        warnings.warn(
            f"{path}: skipped the first column{'s' if skipped > 1 else ''} ({some}), which a "
            "header without a name or with 'Unnamed: 0' marks as row numbers",
            stacklevel=2,
        )
    _check_nameless(path, layout, (keep, *drop))
    _check_names(names[skipped:], str(path))
    read = _large(path, layout, texts) or _plain(path, names, texts)
    columns = {name: read[name] for name in names[skipped:]}
    cells = Cells(str(path), columns, path, skipped=tuple(names[:skipped]), index=index)
    if not len(cells):
        raise ValueError(f"{path}: found no line after the header, expected rows")
    for name, column in cells.columns.items():
        if column.dtype == object and name not in texts and name not in drop:
            _check_mixed(cells, name, column)
    if index is None and not skipped and names[0] not in {keep, *drop, *known}:
        _check_numbers(cells, layout, bool(known))
    return cells


def _check_nameless(path: Path, layout: csv.Table, used: Collection[str | None]) -> None:
    """Raise a ValueError for a column without a name that is not the first and not ``used``."""
    names = [name.strip() for name in layout.names or ()]
    for k in range(max(1, layout.skipped), len(names)):
        if not names[k] and "" not in used:
            raise ValueError(
                f"{path}: line {layout.first_line}: found no name of column {k + 1} of "
                f"{len(names)}, expected one (only the first column, of row numbers, needs none); "
                "name this column, or remove it"
            )


def _check_numbers(cells: Cells, layout: csv.Table, later: bool) -> None:
    """Refuse a first column that counts the rows; in a file of the training, warn of others.

    Of a ``later`` file, a column that the training did not have is refused anyway.
    """
    name, first = next(iter(cells.columns.items()))
    if is_missing(first).any():
        return
    if later:
        remedy = "remove this column, or skip it with --index on the command line"
    else:
        remedy = (
            f"remove this column, leave it out with drop=[{shown(repr(name))}] (--drop "
            f"{shown(name)}), or use index=True (--index on the command line) to skip it or "
            "index=False (--no-index) if it holds values"
        )
    csv.check_row_numbers(layout, first, 6, remedy, warn=not later)


def _plain(path: Path, names: Sequence[str], texts: Collection[str]) -> dict[str, Array]:
    """Read a file line by line."""
    columns: list[list[str]] = [[] for _ in names]
    lines = csv.numbered_lines(path)
    next(lines)
    for line, row in lines:
        if len(row) != len(names):
            raise ValueError(
                f"{path}: line {line}: found {counted(len(row), 'cell')}, expected {len(names)}, "
                "as in the header"
            )
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
    return {
        name: _from_texts(column, name in texts)
        for name, column in zip(names, columns, strict=True)
    }


def _large(path: Path, layout: csv.Table, as_texts: Collection[str]) -> dict[str, Array] | None:
    """Read a large file with pandas, to the same result; None if that is not possible."""
    # In a file of one column, blank lines may be missing values; pandas skips them.
    if path.stat().st_size < LARGE or layout.first_line != 1 or layout.columns == 1:
        return None
    try:
        import pandas

        # Numbers exactly as Python reads them; the other columns as texts.
        options: dict[str, Any] = {"na_values": [*MISSING], "keep_default_na": False}
        options |= {"low_memory": False, "header": None}
        if tuple(map(int, pandas.__version__.split(".")[:2])) < (3, 1):
            options["float_precision"] = "round_trip"  # the default of later versions
        with open(path, "rb") as file:
            frame = pandas.read_csv(file, skiprows=1, skipinitialspace=True, **options)
        assert layout.names is not None
        if frame.shape[1] != len(layout.names):
            return None
        kept = [name.strip() in as_texts for name in layout.names]
        texts = [k for k, dtype in enumerate(frame.dtypes) if kept[k] or dtype.kind not in "if"]
        if texts:
            with open(path, "rb") as file:
                kinds = {"dtype": str, "na_filter": False, "usecols": texts, "header": None}
                as_text = pandas.read_csv(file, skiprows=1, **kinds)
        found = {}
        for k, name in enumerate(layout.names):
            numbers = None if k in texts else frame[k].to_numpy(np.float64)
            if numbers is not None and np.isinf(numbers).any():
                return None  # the text of such a cell matters
            if numbers is None:
                numbers = _from_texts(list(as_text[k]), kept[k])
            found[name.strip()] = numbers
        # pandas completes short rows with missing values.
        if is_missing(last := list(found.values())[-1]).any() and _may_be_short(path, last, layout):
            return None
        return found
    except Exception:
        return None  # the plain reader decides, and its errors name the line


def _may_be_short(path: Path, column: Array, layout: csv.Table) -> bool:
    """Whether the commas of a file may not be those of complete rows; ``column`` is one of it."""
    commas, quotes = 0, False
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            commas += block.count(b",")
            quotes = quotes or b'"' in block
    return quotes or commas != (len(column) + 1) * (layout.columns - 1)


def _from_texts(cells: list[str], keep: bool = False) -> Array:
    """Return a column as numbers if each cell is a number or missing, otherwise or if ``keep`` as
    texts.
    """
    texts = [cell.strip() for cell in cells]
    if keep:
        return _texts([None if text in MISSING else text for text in texts])
    joined = "".join(texts)
    # Converting all cells at once is fast; Python alone accepts 1_000 and digits of other scripts.
    if joined.isascii() and "_" not in joined:
        try:
            found = np.array(list(map(float, texts)))
        except ValueError:
            pass
        else:
            if np.isfinite(found).all():
                return found
    numbers = np.empty(len(texts))
    for k, text in enumerate(texts):
        if text in MISSING:
            numbers[k] = np.nan
        elif csv.is_number(text):
            numbers[k] = float(text)
        else:
            return _texts([None if text in MISSING else text for text in texts])
    return numbers


def _texts(values: Sequence[str | None]) -> Array:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _check_mixed(cells: Cells, name: str, column: Array) -> None:
    """Raise a ValueError if a column of many different cells mixes numbers with other texts."""
    known = [value for value in column if value is not None]
    numbers = sum(csv.is_number(value) for value in known)
    if 2 * numbers <= len(known) or len(set(known)) <= MOST_MIXED:
        return
    row = next(k for k, v in enumerate(column) if v is not None and not csv.is_number(v))
    found = f"{counted(len(known) - numbers, 'text')} among {counted(numbers, 'number')}"
    raise ValueError(
        f"{cells.source}: column {shown(repr(name))}: found {found}, the first "
        f"{shown(repr(column[row]))} in {cells.place(row)}; expected numbers (an empty "
        "cell or NA is a missing value)"
    )


# --- Values ---------------------------------------------------------------------------------------


def _from_values(name: str, values: Any, keep: bool = False) -> Array:
    """Return a column of a data frame, or a sequence, as numbers or texts; as texts if ``keep``."""
    dtype = getattr(values, "dtype", None)
    kind = getattr(dtype, "kind", None)
    text = isinstance(values, (str, bytes))
    if text or not hasattr(values, "__iter__") or getattr(values, "ndim", 1) == 0:
        number = isinstance(values, (int, float, np.number)) and not isinstance(values, bool)
        found = "text" if text else "a number" if number else f"a {type(values).__name__}"
        raise TypeError(
            f"column {shown(repr(name))}: found {found}, expected a list of values, one "
            "for each row"
        )
    if kind in ("i", "u", "f") and not keep:
        if isinstance(dtype, np.dtype):
            return np.array(values, dtype=np.float64)
        return np.array(values.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind in ("M", "m", "c"):
        raise TypeError(
            f"column {shown(repr(name))}: found {dtype}, expected numbers or texts; convert dates "
            "to numbers, such as days since a date"
        )
    # float64 would round whole numbers above 2**53.
    listed = [
        str(int(value))
        if keep and isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        else _plain_value(name, value)
        for value in list(values)
    ]
    if not keep and all(value is None or isinstance(value, float) for value in listed):
        return np.array([np.nan if value is None else value for value in listed], dtype=np.float64)
    return _texts([value if value is None else as_text(value) for value in listed])


def _plain_value(name: str, value: Any) -> str | float | None:
    """Return one cell as text, as a number, or as None if it is missing."""
    if isinstance(value, (str, np.str_)):
        text = str(value).strip()
        return None if text in MISSING else text
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        dates = "; convert dates to numbers, such as days since a date"
        raise TypeError(
            f"column {shown(repr(name))}: found {shown(repr(value))}, expected numbers or texts"
            + dates * hasattr(value, "isoformat")
        ) from None
    return None if math.isnan(number) else number


def as_text(value: str | float) -> str:
    """Return a cell as a CSV file would hold it: 3 instead of 3.0."""
    if isinstance(value, str):
        return value
    return str(int(value)) if value.is_integer() else repr(value)
