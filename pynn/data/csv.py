"""Load CSV files.

`load_csv` tries two fast readers (NumPy for integers, pandas for floats). Each either returns
exactly what the plain reader returns or raises an exception; then the plain reader decides, and its
errors name line, column and cell.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files.disk import counted, require_file, shown


def load_csv(
    path: str | os.PathLike[str],
    *,
    label: str | None = "first",
    header: bool | None = None,
    index: bool | None = None,
    pixels: bool | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Load rows of numbers and their labels from a comma-separated file in UTF-8.

    Reading floats is faster if pandas is installed (integers do not need it); the result is
    identical without it. Blank lines are skipped, but refused between the rows of a file of one
    column, where one may be a missing value.

    Parameters
    ----------
    path : str or path-like
        The file, one example per line, such as ``train.csv`` of Kaggle's digit recogniser.
    label : str or None, default "first"
        The column with the labels: "first" is the first column after those of row numbers, None
        means that the file has no labels (such as Kaggle's ``test.csv``), any other value is a name
        in the header.
    header : bool, optional
        Whether the first line holds column names. By default it does if none of its cells is a
        number, or if its pixel columns are numbered 0, 1, 2, … or 1, 2, 3, … and the label column
        has a name or its cell is empty.
    index : bool, optional
        Whether the first column holds row numbers or names, which are skipped. By default, the
        header decides: columns at the beginning whose name is empty or ``Unnamed: 0``, as in the
        file of a data frame that was written with its index, are skipped with a warning. Numbers 0,
        1, 2, … in the first column of a file of 3 or more rows are refused then, unless `label`
        is its name; 1, 2, 3, … and other numbers that may be those of rows (of 20 or more rows:
        counting from another number, or all different under a name such as ``id``) are used with a
        warning. False uses such a column as it is.
    pixels : bool, optional
        Whether the file has pixels. By default it does if the names of all its columns without the
        label begin with "pixel" or are pairs such as ``28x28``, or if their number is 784.

    Returns
    -------
    x : ndarray, shape (n, columns without the label and row numbers)
        uint8 if the file has pixels and every cell is written as an integer from 0 to 255,
        otherwise float32.
    y : ndarray, shape (n,), or None if `label` is None
        int64 if every label is written as an integer, float64 if every label is a number, text if
        no label is a number.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If a cell is not a finite number (the error names line, column and content), a line has
        more or fewer cells than the first, the file has no data, the column `label` does not exist
        or exists twice, the first line could be either a header or data, or the first column
        holds row numbers.

    Warns
    -----
    UserWarning
        If columns of row numbers are skipped because of their names, or used although they may be
        row numbers.
    """
    x, y, _ = load_columns(path, label, header, index, pixels, stacklevel=3)
    return x, y


def load_columns(
    path: str | os.PathLike[str],
    label: str | None = "first",
    header: bool | None = None,
    index: bool | None = None,
    pixels: bool | None = None,
    *,
    stacklevel: int = 2,
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    """Load a file as `load_csv` does, with the names of the columns of x if it has a header.

    Pixels have no names. Warnings name the caller ``stacklevel`` frames above.
    """
    path = require_file(path, "a CSV file")
    table = Table.open(path, label, header, index, pixels)
    if table.skipped and index is None:
        assert table.names is not None
        names = ", ".join(shown(repr(name)) for name in table.names[: table.skipped])
        warnings.warn(
            f"{path}: skipped the first column{'s' if table.skipped > 1 else ''} ({names}), which "
            "a header without a name or with 'Unnamed: 0' marks as row numbers; index=True skips "
            "the first column without this warning, index=False uses it",
            stacklevel=stacklevel,
        )
    x, y = _read(table)
    named = table.label == 0 and label != "first"
    if index is None and not table.skipped and not named:
        first = y if table.label == 0 else x[:, 0]
        assert first is not None
        check_row_numbers(table, first, stacklevel + 1)
    named_values = table.names is not None and not table.pixels
    return x, y, tuple(table.cells_of_x(table.names or [])) if named_values else None


def _read(table: Table) -> tuple[np.ndarray, np.ndarray | None]:
    for read in read_integers, read_pandas:
        try:
            return read(table)
        except Exception:
            continue
    return read_plain(table)


def check_row_numbers(
    table: Table,
    first: np.ndarray,
    stacklevel: int,
    remedy: str | None = None,
    *,
    warn: bool = True,
) -> None:
    """Raise a ValueError if the first column, (n,), counts the rows; warn if it may number them.

    ``remedy`` ends the messages; by default it is that of `load_csv`.
    """
    n = len(first)
    # Two rows with the labels 0 and 1 are more likely than a table of two rows with numbers.
    if n < 3 or first.dtype.kind not in "iuf":
        return
    name = f" {shown(repr(table.names[0]))}" if table.names else ""
    role = "labels" if table.label == 0 else "values"
    if remedy is None:
        remedy = (
            "remove this column, or use index=True (--index on the command line) to skip it or "
            f"index=False (--no-index) if it holds {role}; label='…' (--target) names the column "
            "with the labels"
        )
    if np.array_equal(first, np.arange(n)):
        raise ValueError(
            f"{table.path}: found the row numbers 0 to {n - 1} in the first column{name}, expected "
            f"{role}; {remedy}"
        )
    if warn and _may_be_row_numbers(
        first.astype(np.float64), table.names[0] if table.names else ""
    ):
        warnings.warn(
            f"{table.path}: used the first column{name} as {role}, although its numbers from "
            f"{first.min():.15g} to {first.max():.15g} may be those of the rows; {remedy}",
            stacklevel=stacklevel,
        )


def _may_be_row_numbers(first: np.ndarray, name: str) -> bool:
    """Return whether a column (n,) counts up in steps of 1, or has different whole numbers and the
    name of an identifier. Only a count from 1 is unusual enough in fewer than 20 rows.
    """
    n = len(first)
    if n < 20 and first[0] != 1:
        return False
    if (first[1:] - first[:-1] == 1).all():
        return True
    pattern = r"(.*[_ ])?(?i:id|index|row|nr|no)\.?|.*[a-z](Id|ID|Index|Row|Nr|No)"
    identifier = re.fullmatch(pattern, name.strip())
    whole = n >= 20 and identifier is not None and (first == np.trunc(first)).all()
    return bool(whole and (np.diff(np.sort(first)) > 0).all())


@dataclass(frozen=True)
class Table:
    """The layout of a CSV file."""

    path: Path
    columns: int
    label: int | None
    """Index of the column with the labels."""
    names: list[str] | None
    """Names of the columns, if there is a header."""
    first_line: int
    """Line number of the header, 0 without a header."""
    skipped: int = 0
    """Number of columns at the beginning that hold row numbers."""
    pixels: bool = True
    """Whether whole numbers from 0 to 255 are pixels."""

    @staticmethod
    def open(
        path: Path,
        label: str | None,
        header: bool | None,
        index: bool | None = None,
        pixels: bool | None = None,
    ) -> Table:
        """Read the first line that is not blank, and find the header and the label column."""
        first = next(numbered_lines(path), None)
        if first is None:
            raise ValueError(f"{path}: found an empty file, expected comma-separated lines")
        line, cells = first
        _check_separator(path, cells, label)
        if header is None:
            header = label not in (None, "first") or _is_header(path, cells, label)
        skipped = _row_number_columns(cells, label, header, index)
        place = _label_column(path, cells, label, header, skipped)
        if len(cells) < skipped + 1 + (place is not None):
            raise ValueError(
                f"{path}: found {len(cells)} column{'s' if len(cells) > 1 else ''}, expected "
                + ("one of row numbers, " if skipped else "")
                + "a column of labels and at least one of values, separated by commas"
            )
        names, line = (cells, line) if header else (None, 0)
        table = Table(path, len(cells), place, names, line, skipped)
        if pixels is None:
            pixels = _are_pixels(table.cells_of_x(cells), header)
        return replace(table, pixels=pixels)

    def cells_of_x(self, cells: list[str]) -> list[str]:
        """Return the cells of one line without the label and the row numbers."""
        found = cells[self.skipped :]
        if self.label is not None:
            del found[self.label - self.skipped]
        return found

    def fault(self, line: int, column: int, cell: str, expected: str) -> ValueError:
        """Return the error for one cell."""
        name = f" ({shown(repr(self.names[column]))})" if self.names else ""
        found = shown(repr(cell)) if cell.strip() else "an empty cell"
        return ValueError(
            f"{self.path}: line {line}, column {column + 1}{name}: found {found}, "
            f"expected {expected}"
        )


# --- Lines, header, cells -------------------------------------------------------------------------


def numbered_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every line that is not blank.

    In a file of one column, `""` is an empty cell. A blank line before another row may be one too,
    and raises a ValueError: later rows would move up if it were skipped.
    """
    import csv

    width = blank = 0
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()) or (width == 1 and cells == [""]):
                    if blank:
                        raise ValueError(
                            f"{path}: line {blank}: found a blank line between rows of one column, "
                            'expected a value, or "" or NA for a missing one'
                        )
                    width = width or len(cells)
                    yield reader.line_num, cells
                elif width == 1:
                    blank = blank or reader.line_num
        except (csv.Error, UnicodeDecodeError) as error:
            where = f" after line {reader.line_num}" if reader.line_num else " at its beginning"
            found = f"found invalid CSV{where} ({shown(error)})"
            with open(path, "rb") as binary:
                if binary.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                    found = "found text in UTF-16"
            raise ValueError(f"{path}: {found}, expected comma-separated text in UTF-8") from error


def _check_separator(path: Path, cells: list[str], label: str | None) -> None:
    """Raise a ValueError if other separators than commas divide the cells of the first line."""
    text = ",".join(cells)
    for separator, name in ((";", "semicolon"), ("\t", "tab")):
        parts = [part.strip() for part in text.split(separator)]
        few = len(cells) == 1 < len(parts) or len(parts) > 2 * len(cells)
        if label not in cells and (few or (label in parts and len(parts) > 1)):
            raise ValueError(
                f"{path}: found {counted(len(parts) - 1, name)} and "
                f"{counted(len(cells) - 1, 'comma')} in the first line, expected cells that are "
                f"separated by commas, not by {name}s"
            )


def _row_number_columns(
    cells: list[str], label: str | None, header: bool, index: bool | None
) -> int:
    """Return how many columns at the beginning hold row numbers.

    pandas writes an index under an empty name, and reads this name as ``Unnamed: 0``; files that
    were written repeatedly have several of them.
    """
    if index is not None:
        return int(index)
    if not header:
        return 0
    count = 0
    for name in cells:
        if name == label or not re.fullmatch(r"(Unnamed: \d+(\.\d+)*)?", name.strip()):
            break
        count += 1
    return count


def _are_pixels(cells: list[str], header: bool) -> bool:
    """Return whether columns are pixels, by their number or by their names in the header."""
    pattern = re.compile(r"pixel.*|\d+x\d+", re.IGNORECASE)
    return len(cells) == 28 * 28 or (
        header and all(pattern.fullmatch(name.strip()) for name in cells)
    )


def _label_column(
    path: Path, cells: list[str], label: str | None, header: bool, skipped: int
) -> int | None:
    """Return the index of the column with the labels, None if the file has no labels."""
    if label is None:
        return None
    if label == "first":
        first, second = (*cells[skipped : skipped + 2], "", "")[:2]
        stem = first.strip("0123456789")
        if header and stem and stem == second.strip("0123456789"):
            raise ValueError(
                f"{path}: found {shown(repr(first))} and {shown(repr(second))} as the names "
                "of the first two columns, expected labels in the first; use label=None if the "
                "file has no labels"
            )
        return skipped
    if not header or label not in cells:
        expected = one_of(label, cells) if header else "a file with a header"
        if header and any(map(is_number, cells)):
            some = shown(", ".join(cells[:3])) + (", …" if len(cells) > 3 else "")
            expected = f"the names of columns in its first line, which holds {some}"
        raise ValueError(f"label: found {label!r} for {path}, expected {expected}")
    if cells.count(label) > 1:
        raise ValueError(
            f"label: found {cells.count(label)} columns named {label!r} in {path}, expected one"
        )
    place = cells.index(label)
    if place < skipped:
        raise ValueError(f"label: found {label!r} for {path}, the column that index=True skips")
    return place


def one_of(name: str, columns: Sequence[str]) -> str:
    """Return what errors about an unknown name expect: names of columns, and the closest ones."""
    from difflib import get_close_matches

    some = ", ".join(map(shown, columns[:20])) + (", …" if len(columns) > 20 else "")
    # The search takes time that grows with the square of the lengths.
    folded = {column[:100].casefold().strip(): column for column in columns[:2000]}
    close = get_close_matches(name[:100].casefold().strip(), folded)
    hint = f"; similar: {', '.join(shown(repr(folded[key])) for key in close)}" if close else ""
    return f"one of its columns: {some}{hint}"


def _is_header(path: Path, cells: list[str], label: str | None) -> bool:
    if not any(map(is_number, cells)):
        return True
    # A data frame without column names, written with its index.
    if len(cells) > 1 and not cells[0].strip() and _counts_from(0, cells[1:]):
        return True
    # A data row with a text label may begin "cat,0,1", but rarely goes on counting.
    if label is not None and len(cells) > 4 and not is_number(cells[0]):
        return _counts_from(0, cells[1:]) or _counts_from(1, cells[1:])
    if len(cells) > 1 and _counts_from(0, cells):
        raise ValueError(
            f"header: found a first line of {path} that counts 0, 1, 2, …, which may be names or "
            "data; expected header=True or header=False"
        )
    return False


def _counts_from(start: int, cells: list[str]) -> bool:
    return all(cell == str(k) for k, cell in enumerate(cells, start))


def is_number(cell: str) -> bool:
    """Whether a cell is a finite number, without white space inside."""
    try:
        return math.isfinite(_parse_cell(float, cell))
    except ValueError:
        return False


def _parse_cell(kind: Callable[[str], Any], cell: str) -> Any:
    """Convert a cell to int or float, or raise a ValueError."""
    # Strip first: int and float strip fewer kinds of ASCII white space than NumPy.
    cell = cell.strip()
    # Python alone accepts 1_000 and digits of other scripts.
    if "_" in cell or not cell.isascii():
        raise ValueError
    return kind(cell)


# --- Plain reader ---------------------------------------------------------------------------------


def read_plain(table: Table) -> tuple[np.ndarray, np.ndarray | None]:
    """Read any file line by line; the only reader that reports errors."""
    from array import array

    # One buffer: a Python object per short line would take many times the size of the file.
    data, dtype = bytearray(), np.dtype(np.uint8 if table.pixels else np.float32)
    labels: list[str] = []
    lines = array("q")
    for line, cells in numbered_lines(table.path):
        if line <= table.first_line:
            continue
        if len(cells) != table.columns:
            raise ValueError(
                f"{table.path}: line {line}: found {counted(len(cells), 'cell')}, expected "
                f"{table.columns}, "
                "as in the first line"
            )
        row = _parse_row(table, line, cells)
        if isinstance(row, bytes):
            data += row if dtype == np.uint8 else np.frombuffer(row, np.uint8).astype(dtype).data
        else:
            if dtype == np.uint8:
                dtype = row.dtype
                data = bytearray(np.frombuffer(data, np.uint8).astype(dtype).data)
            data += row.data
        lines.append(line)
        if table.label is not None:
            labels.append(cells[table.label])
    if not lines:
        raise ValueError(f"{table.path}: found no line after the header, expected lines of numbers")
    y = None if table.label is None else _parse_labels(table, labels, lines)
    x = np.frombuffer(data, dtype).reshape(len(lines), -1)
    if dtype != np.uint8:
        x += np.float32(0)  # -0 becomes 0, since not every reader keeps the sign
    return x, y


def _parse_row(table: Table, line: int, cells: list[str]) -> bytes | np.ndarray:
    """Return x of one line: bytes if all are integers from 0 to 255, else float32."""
    pixels = table.cells_of_x(cells)
    for stripped in False, True:
        if stripped:
            pixels = [cell.strip() for cell in pixels]
        text = "".join(pixels)
        if not text.isascii() or "_" in text:
            continue
        # Converting all cells at once is fast. Single cells are checked only to find a fault.
        try:
            return bytes(map(int, pixels))
        except ValueError:
            pass
        try:
            with np.errstate(all="ignore"):
                row = np.fromiter(map(float, pixels), np.float64, len(pixels)).astype(np.float32)
        except ValueError:
            continue
        if np.isfinite(row).all():
            return row
    for column, cell in enumerate(cells):
        if column < table.skipped or column == table.label:
            continue
        with np.errstate(all="ignore"):
            good = is_number(cell) and np.isfinite(np.float32(_parse_cell(float, cell)))
        if not good:
            raise table.fault(line, column, cell, "a finite number that float32 can hold")
    raise AssertionError(f"{table.path}: line {line} was rejected, but none of its cells")


def _parse_labels(table: Table, labels: list[str], lines: Sequence[int]) -> np.ndarray:
    try:
        return _numbers(labels)
    except ValueError:
        assert table.label is not None
    for line, cell in zip(lines, labels, strict=True):
        if not cell.strip():
            raise table.fault(line, table.label, cell, "a label")
    number = [is_number(cell) for cell in labels]
    if any(number):
        odd = number.index(not number[0])
        expected = (
            f"labels that are all numbers or all text, but line {lines[0]} holds "
            f"{shown(repr(labels[0]))}"
        )
        raise table.fault(lines[odd], table.label, labels[odd], expected)
    # In an array of text every element takes as much memory as the longest: limit the array to
    # about 32 times the size of the file (4 bytes per character).
    most = 32 * (table.path.stat().st_size + (1 << 20)) // (4 * len(labels))
    long = next((k for k, cell in enumerate(labels) if len(cell) > most), None)
    if long is not None:
        expected = (
            f"a label of at most {most} characters in a file of {len(labels):,} labels, but it has "
            f"{len(labels[long]):,}"
        )
        raise table.fault(lines[long], table.label, labels[long], expected)
    return np.array(labels)


def _numbers(labels: list[str]) -> np.ndarray:
    """Convert labels that are all finite numbers, or raise a ValueError."""
    try:
        return np.array([_parse_cell(int, cell) for cell in labels], np.int64)
    except (ValueError, OverflowError):
        if not all(map(is_number, labels)):
            raise ValueError from None
        return np.array([_parse_cell(float, cell) for cell in labels])


# --- Fast readers ---------------------------------------------------------------------------------


def read_integers(table: Table) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a file of integers only, with pixels from 0 to 255, or raise any exception.

    For Kaggle's ``train.csv`` this is faster than pandas.
    """
    if not table.pixels:
        raise ValueError
    _check_columns(table, 128)
    place = table.columns if table.label is None else table.label
    fields: list[Any] = [
        ("row", np.int64, (table.skipped,)),
        ("before", np.uint8, (place - table.skipped,)),
        ("after", np.uint8, (max(0, table.columns - place - 1),)),
    ]
    if table.label is not None:
        fields.insert(2, ("label", np.int64))
    with warnings.catch_warnings():
        # Older NumPy accepts 5.0 or 256 as uint8 and only warns.
        warnings.simplefilter("error")
        rows = np.loadtxt(
            table.path,
            np.dtype(fields),
            comments=None,
            delimiter=",",
            skiprows=_header_lines(table),
            ndmin=1,
            encoding="utf-8-sig",
        )
    x = np.concatenate([rows["before"], rows["after"]], axis=1)
    return x, None if table.label is None else rows["label"].copy()


def read_pandas(table: Table) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a file of floats, or raise any exception, also if all numbers can be pixels."""
    _check_columns(table, 4096)
    pandas = importlib.import_module("pandas")
    # The default of pandas before 3.1 sometimes differs in the last digit.
    exact = tuple(map(int, pandas.__version__.split(".")[:2])) >= (3, 1)
    texts = [*range(table.skipped), *([] if table.label is None else [table.label])]
    with open(table.path, "rb") as file:
        frame = pandas.read_csv(
            file,
            header=None,
            skiprows=_header_lines(table),
            dtype=dict.fromkeys(texts, str),
            na_filter=False,
            low_memory=False,
            float_precision=None if exact else "round_trip",
        )
    if len(frame.columns) != table.columns:
        raise ValueError
    labels = None if table.label is None else frame[table.label]
    frame = frame.drop(columns=texts)
    # With dtype=float pandas would read "true" as 1.
    if any(dtype.kind not in "if" for dtype in frame.dtypes):
        raise ValueError
    # float64 first, as in the plain reader: large integers would be rounded once instead of twice.
    return _floats(frame.to_numpy(np.float64), table.pixels), None if labels is None else _numbers(
        list(labels)
    )


def _check_columns(table: Table, bytes_per_column: int) -> None:
    """Raise if a fast reader would take too much memory for its columns (a line of commas), or skip
    blank lines that may be missing values.
    """
    if (
        table.columns == 1
        or table.columns * bytes_per_column > (1 << 20) + 8 * table.path.stat().st_size
    ):
        raise ValueError


def _header_lines(table: Table) -> int:
    if table.first_line > 1:
        raise ValueError  # readers count blank and quoted lines differently
    return table.first_line


def _floats(values: np.ndarray, may_be_pixels: bool) -> np.ndarray:
    with np.errstate(all="ignore"):
        x = np.ascontiguousarray(values, np.float32)
    x += np.float32(0)  # as in the plain reader
    if not x.size or not np.isfinite(x).all():
        raise ValueError
    # These are pixels if all are written as integers, which only the text shows.
    if may_be_pixels and ((x >= 0) & (x <= 255) & (x == np.floor(x))).all():
        raise ValueError
    return x
