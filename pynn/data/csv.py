"""Read CSV files."""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files.disk import require_file, shown

# CSV ----------------------------------------------------------------------------------------------


def load_csv(
    path: str | os.PathLike[str], *, label: str | None = "first", header: bool | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Load rows of pixels and their labels from a comma-separated file in UTF-8.

    Where pandas is installed, it makes reading floats faster (pixels do not need it). The result is
    the same without. Blank lines are skipped.

    Parameters
    ----------
    path : str or path-like
        The file, one example a line, as Kaggle's ``train.csv`` for its digit recogniser.
    label : str or None, default "first"
        Which column holds the labels: "first" is the first one, None says that there are none (as
        in Kaggle's ``test.csv``), anything else is a name in the header.
    header : bool, optional
        Whether the first line holds names. By default it does if no cell in it is a number, or if
        its pixel columns are numbered 0, 1, 2, … or 1, 2, 3, … and the label column is named.

    Returns
    -------
    x : ndarray, shape (n, columns without the label)
        uint8 if every cell is written as a whole number from 0 to 255 (pynn reads uint8 as pixels,
        and scales them to [0, 1]), float32 otherwise.
    y : ndarray, shape (n,), or None if `label` is None
        int64 if every label is written as a whole number, float64 if every label is a number, text
        if none is.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a cell holds no finite number (the error names line, column and content), a line has
        more or fewer cells than the first, the file has no data, the column `label` is not there,
        or it cannot be told whether the first line is a header.
    """
    path = require_file(path, "a CSV file")
    table = _Table.open(path, label, header)
    for read in _read_whole, _read_pandas:
        # Fast, but each returns only what the plain reader would return. About all the rest the
        # plain reader decides, and it names the fault.
        try:
            return read(table)
        except Exception:
            continue
    return _read_plain(table)


@dataclass(frozen=True)
class _Table:
    """Where things are in a CSV file."""

    path: Path
    columns: int
    label: int | None
    names: list[str] | None
    first_line: int

    @staticmethod
    def open(path: Path, label: str | None, header: bool | None) -> _Table:
        first = next(_rows(path), None)
        if first is None:
            raise ValueError(f"{path}: found an empty file, expected lines of numbers")
        line, cells = first
        if header is None:
            header = label not in (None, "first") or _is_header(path, cells, label)
        index: int | None = None
        if label == "first":
            index = 0
            stem = cells[0].strip("0123456789")
            if header and len(cells) > 1 and stem and stem == cells[1].strip("0123456789"):
                raise ValueError(
                    f"{path}: found {shown(repr(cells[0]))} and {shown(repr(cells[1]))} as the "
                    "names of the first two columns, expected labels in the first; with "
                    "label=None there are none"
                )
        elif label is not None:
            if not header or label not in cells:
                some = shown(", ".join(cells[:3])) + (", …" if len(cells) > 3 else "")
                names = f"one of its columns: {some}" if header else "a header to find it in"
                raise ValueError(f"label: found {label!r} for {path}, expected {names}")
            index = cells.index(label)
        if len(cells) < 1 + (index is not None):
            raise ValueError(
                f"{path}: found 1 column, expected a column of labels and at least one of pixels, "
                "separated by commas"
            )
        return _Table(path, len(cells), index, cells if header else None, line if header else 0)

    def fault(self, line: int, column: int, cell: str, expected: str) -> ValueError:
        name = f" ({shown(repr(self.names[column]))})" if self.names else ""
        found = shown(repr(cell)) if cell.strip() else "an empty cell"
        return ValueError(
            f"{self.path}: line {line}, column {column + 1}{name}: found {found}, "
            f"expected {expected}"
        )


def _is_header(path: Path, cells: list[str], label: str | None) -> bool:
    if not any(map(_is_number, cells)):
        return True
    # A line of data with a text label may well begin "cat,0,1", but not go on for long like that.
    if label is not None and len(cells) > 4 and not _is_number(cells[0]):
        return _counts(cells[1:], 0) or _counts(cells[1:], 1)
    if len(cells) > 1 and _counts(cells, 0):
        raise ValueError(
            f"header: found a first line of {path} that counts 0, 1, 2, …, which may be names or "
            "data; expected header=True or header=False"
        )
    return False


def _counts(cells: list[str], start: int) -> bool:
    return all(cell == str(k) for k, cell in enumerate(cells, start))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of every line that is not blank."""
    import csv

    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield reader.line_num, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: found what is no CSV after line {reader.line_num} "
                f"({shown(error)}), "
                "expected comma-separated text in UTF-8"
            ) from error


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(_number(float, cell))
    except ValueError:
        return False


def _number(kind: Callable[[str], Any], cell: str) -> Any:
    # Of text in ASCII, int and float themselves strip fewer kinds of blanks than NumPy does.
    cell = cell.strip()
    # Python also reads 1_000 and digits of other scripts, which no other program takes for numbers.
    if "_" in cell or not cell.isascii():
        raise ValueError
    return kind(cell)


def _read_plain(table: _Table) -> tuple[np.ndarray, np.ndarray | None]:
    from array import array

    # Of short lines an object for each would take many times what the file does.
    data, dtype = bytearray(), np.dtype(np.uint8)
    labels: list[str] = []
    lines = array("q")
    for line, cells in _rows(table.path):
        if line <= table.first_line:
            continue
        if len(cells) != table.columns:
            raise ValueError(
                f"{table.path}: line {line}: found {len(cells)} cells, expected {table.columns}, "
                "as in the first line"
            )
        row = _pixels(table, line, cells)
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
    y = None if table.label is None else _labels(table, labels, lines)
    x = np.frombuffer(data, dtype).reshape(len(lines), -1)
    if dtype != np.uint8:
        x += np.float32(0)  # makes -0 plain 0, for not every reader keeps its sign
    return x, y


def _pixels(table: _Table, line: int, cells: list[str]) -> bytes | np.ndarray:
    """Return the pixels of one line: bytes if they are that, else float32."""
    pixels = cells.copy()
    if table.label is not None:
        del pixels[table.label]
    for stripped in False, True:
        if stripped:
            pixels = [cell.strip() for cell in pixels]
        text = "".join(pixels)
        if not text.isascii() or "_" in text:
            continue
        # This order makes the common case fast: cells are looked at one by one only for a fault.
        try:
            return bytes(map(int, pixels))
        except ValueError:
            pass
        try:
            with np.errstate(over="ignore"):
                row = np.fromiter(map(float, pixels), np.float64, len(pixels)).astype(np.float32)
        except ValueError:
            continue
        if np.isfinite(row).all():
            return row
    for column, cell in enumerate(cells):
        if column != table.label:
            with np.errstate(over="ignore"):
                good = _is_number(cell) and np.isfinite(np.float32(_number(float, cell)))
            if not good:
                raise table.fault(line, column, cell, "a finite number that float32 can hold")
    raise AssertionError(f"{table.path}: line {line} was refused as a whole but not in any cell")


def _labels(table: _Table, labels: list[str], lines: Sequence[int]) -> np.ndarray:
    try:
        return _numbers(labels)
    except ValueError:
        assert table.label is not None
    for line, cell in zip(lines, labels, strict=True):
        if not cell.strip():
            raise table.fault(line, table.label, cell, "a label")
    number = [_is_number(cell) for cell in labels]
    if any(number):
        odd = number.index(not number[0])
        raise table.fault(
            lines[odd],
            table.label,
            labels[odd],
            f"labels that are all numbers or all text, but line {lines[0]} holds "
            f"{shown(repr(labels[0]))}",
        )
    # In an array each takes as much as the longest: one long one must not make it a huge one.
    most = 32 * (table.path.stat().st_size + (1 << 20)) // (4 * len(labels))
    long = next((k for k, cell in enumerate(labels) if len(cell) > most), None)
    if long is not None:
        raise table.fault(
            lines[long],
            table.label,
            labels[long],
            f"a label of at most {most} characters in a file of {len(labels):,} labels, but it has "
            f"{len(labels[long]):,}",
        )
    return np.array(labels)


def _read_whole(table: _Table) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a file of nothing but whole numbers, with pixels from 0 to 255, or fail."""
    _check_columns(table, 128)
    before = table.columns if table.label is None else table.label
    after = 0 if table.label is None else table.columns - table.label - 1
    fields: list[Any] = [("before", np.uint8, (before,)), ("after", np.uint8, (after,))]
    if table.label is not None:
        fields.insert(1, ("label", np.int64))
    # Faster than pandas on Kaggle's train.csv, so that is not asked for it.
    with warnings.catch_warnings():
        # Older NumPy only warns where it takes 5.0 for 5 or 256 for 0.
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


def _read_pandas(table: _Table) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a file of numbers, among them one that is no pixel, or fail."""
    _check_columns(table, 4096)
    pandas = importlib.import_module("pandas")
    # Up to pandas 3.0 the default is off by a last digit now and then.
    exact = tuple(map(int, pandas.__version__.split(".")[:2])) >= (3, 1)
    with open(table.path, "rb") as file:
        frame = pandas.read_csv(
            file,
            header=None,
            skiprows=_header_lines(table),
            dtype={} if table.label is None else {table.label: str},
            na_filter=False,
            low_memory=False,
            float_precision=None if exact else "round_trip",
        )
    labels = None if table.label is None else frame.pop(table.label)
    if len(frame.columns) + (labels is not None) != table.columns:
        raise ValueError
    # Told to expect floats, it would take "true" for 1.
    if any(dtype.kind not in "if" for dtype in frame.dtypes):
        raise ValueError
    return _floats(frame.to_numpy()), None if labels is None else _numbers(list(labels))


def _check_columns(table: _Table, each: int) -> None:
    # So many bytes the fast readers take for each; and a line of commas has one for each byte.
    if table.columns * each > (1 << 20) + 8 * table.path.stat().st_size:
        raise ValueError


def _header_lines(table: _Table) -> int:
    if table.first_line > 1:
        raise ValueError  # readers count blank and quoted lines each in their own way
    return table.first_line


def _floats(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(values, np.float32)
    x += np.float32(0)  # as in the plain reader
    if not x.size or not np.isfinite(x).all():
        raise ValueError
    # These are pixels if they are all written as such, which only the text can tell.
    if ((x >= 0) & (x <= 255) & (x == np.floor(x))).all():
        raise ValueError
    return x


def _numbers(labels: list[str]) -> np.ndarray:
    """Convert labels that are all finite numbers, or fail."""
    try:
        return np.array([_number(int, cell) for cell in labels], np.int64)
    except (ValueError, OverflowError):
        if not all(map(_is_number, labels)):
            raise ValueError from None
        return np.array([_number(float, cell) for cell in labels])
