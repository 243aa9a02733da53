"""Loaders: IDX, CSV and NPZ files become NumPy arrays, or one error that names the fault.

`load` picks the right one and is what the command line uses. Nothing here runs code from a file.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pynn.files import require_file, shown

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Dataset:
    """What `load` found: examples to train on and, where the files have them, to test on.

    Attributes
    ----------
    train : tuple of ndarray
        ``(x, y)``: x has one example in each row (any further dimensions), y one label for each.
    test : tuple of ndarray or None
        The same for the test set, if there is one.
    """

    train: Pair
    test: Pair | None = None


def load(path: str | os.PathLike[str]) -> Dataset:
    """Load examples and labels from whatever holds them.

    Parameters
    ----------
    path : str or path-like
        One of

        - a folder with the MNIST files (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``
          and, for a test set, the two ``t10k-`` ones; also spelt ``.idx``), plain or ``.gz``;
        - an IDX file of images, plain or gzip, with "images" in its name, beside a file of labels
          of the same name with "labels" instead;
        - a ``.csv`` file, as `load_csv` reads it: labels in the first column;
        - an ``.npz`` file, as `load_npz` reads it.

    Returns
    -------
    Dataset
        ``train`` and, where there is one, ``test``. Labels from IDX files are int64.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or images and labels do not match, or the kind is not known.
    """
    expected = "a folder of IDX files, an IDX file, a .csv or an .npz file"
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    require_file(path, expected)
    with open(path, "rb") as file:
        start = file.read(4)
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        found = load_npz(path)
        if isinstance(found[0], tuple):
            return Dataset(*found)
        return Dataset(found)
    if start.startswith((b"\x1f\x8b", b"\0\0")):
        return Dataset(_load_images_and_labels(path))
    if path.suffix.lower() == ".csv":
        x, y = load_csv(path)
        assert y is not None
        return Dataset((x, y))
    raise ValueError(
        f"{path}: found a file that starts with {start!r} and does not end in .csv, "
        f"expected {expected}"
    )


# IDX ----------------------------------------------------------------------------------------------

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _IDX_DTYPES.items()}

# No byte of deflate data unpacks to more (zlib's technical notes: 1032:1).
_DEFLATE_LIMIT = 1032


def load_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Load one IDX file, the format of MNIST, plain or gzip (told apart by content).

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ndarray
        Of the dtype (uint8, int8, int16, int32, float32 or float64) and the shape that the header
        states; fresh, writable, in native byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no IDX file, is cut off or damaged, or goes on after its data. No more memory is
        taken than a file of its size can fill.
    """
    import gzip
    import zlib

    path = require_file(path, "an IDX file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _read_idx(path, file, size)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_idx(path, unpacked, size * _DEFLATE_LIMIT)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path}: found gzip data that is cut off or damaged ({error}), "
                "expected a whole IDX file"
            ) from error


def _read_idx(path: Path, file: BufferedIOBase, limit: int) -> np.ndarray:
    """Read a whole IDX file that cannot be longer than `limit` bytes."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"{path}: found {magic.hex(' ') or 'nothing'} at the start, "
            "expected an IDX file: 00 00, a dtype code and the number of dimensions"
        )
    code, rank = magic[2], magic[3]
    if code not in _IDX_DTYPES:
        known = ", ".join(f"0x{code:02x} ({np.dtype(t).name})" for code, t in _IDX_DTYPES.items())
        raise ValueError(f"{path}: found IDX dtype code 0x{code:02x}, expected one of {known}")
    dtype = np.dtype(_IDX_DTYPES[code])
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise ValueError(
            f"{path}: found an IDX header cut off after {4 + len(header)} bytes, "
            f"expected {4 + 4 * rank} bytes for {rank} dimensions"
        )
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    needed = math.prod(shape) * dtype.itemsize
    claim = f"{shown(needed)} bytes of data, as its header says "
    claim += f"(shape {shown(shape)}, {dtype.name})"
    if needed > limit - 4 - 4 * rank:
        raise ValueError(f"{path}: found a file too short, expected {claim}")
    try:
        array = np.empty(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{path}: found {claim}, expected an array that fits ({error})") from error
    filled = _fill(array, file)
    if filled < needed:
        raise ValueError(f"{path}: found {filled} bytes of data, expected {claim}")
    if file.read(1):
        raise ValueError(f"{path}: found more bytes after the data, expected {claim}")
    if dtype.itemsize > 1 and sys.byteorder == "little":
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def idx_header(array: np.ndarray) -> bytes:
    """Return the IDX header of an array: what stands before its big-endian bytes in a file.

    Parameters
    ----------
    array : ndarray
        Of a dtype that IDX knows.

    Returns
    -------
    bytes
        ``4 + 4 * array.ndim`` bytes.
    """
    code = _IDX_CODES[array.dtype.newbyteorder("=")]
    return bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()


def _load_folder(folder: Path) -> Dataset:
    pairs = {}
    for part in "train", "t10k":
        images = _existing(folder / f"{part}-images-idx3-ubyte")
        labels = _existing(folder / f"{part}-labels-idx1-ubyte")
        # A folder without a test set is fine, but half a test set is a mistake.
        if part == "train" or images.exists() or labels.exists():
            pairs[part] = _images_and_labels(images, labels)
    return Dataset(pairs["train"], pairs.get("t10k"))


def _load_images_and_labels(images: Path) -> Pair:
    name = images.name.removesuffix(".gz")
    if "images" not in name:
        raise ValueError(
            f"{images}: found an IDX or gzip file without 'images' in its name, expected one with "
            "it, so that the file of labels beside it is found by putting 'labels' there"
        )
    partner = name.replace("images", "labels").replace("idx3", "idx1")
    return _images_and_labels(images, _existing(images.with_name(partner)))


def _existing(path: Path) -> Path:
    """Return the path of the file as it is spelt there, or as given if there is none."""
    for name in path.name, path.name.replace("-idx", ".idx"):
        for spelt in name, name + ".gz":
            if path.with_name(spelt).exists():
                return path.with_name(spelt)
    return path


def _images_and_labels(images: Path, labels: Path) -> Pair:
    require_file(images, "an IDX file of images, plain or .gz")
    require_file(labels, "an IDX file of labels, plain or .gz")
    x, y = load_idx(images), load_idx(labels)
    if x.ndim < 2:
        raise ValueError(f"{images}: found shape {x.shape}, expected images: 2 dimensions or more")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(
            f"{labels}: found shape {y.shape} of {y.dtype}, expected integer labels in 1 dimension"
        )
    _check_lengths(images, x, f"{labels}", y)
    return x, y.astype(np.int64)


def _check_lengths(path: Path, x: np.ndarray, name: str, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise ValueError(
            f"{path}: found {len(x)} examples but {len(y)} labels in {name}, "
            "expected one label for each example"
        )
    if not len(x):
        raise ValueError(f"{path}: found no examples, expected at least one")


# NPZ ----------------------------------------------------------------------------------------------


def load_npz(path: str | os.PathLike[str]) -> Pair | tuple[Pair, Pair]:
    """Load examples and labels from an ``.npz`` file, by the names of its arrays.

    Parameters
    ----------
    path : str or path-like
        A file with arrays named ``x`` and ``y``; or ``x_train`` and ``y_train``; or these two and
        ``x_test`` and ``y_test`` (the layout of Keras' ``mnist.npz``). Capitals do not matter,
        and other arrays are left alone.

    Returns
    -------
    (x, y), or ((x_train, y_train), (x_test, y_test)) if the file has a test set
        The arrays as they are stored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no whole ``.npz`` file, has other names, holds Python objects (they are never
        unpickled), or has not one label for each example.
    """
    import zipfile

    path = require_file(path, "an .npz file")
    with open(path, "rb") as file:
        whole = os.fstat(file.fileno()).st_size
        if file.read(2) != b"PK":
            raise ValueError(f"{path}: found no ZIP archive, expected an .npz file")
        file.seek(0)
        # The readers of archives and headers fail on damaged files in a dozen ways.
        try:
            with zipfile.ZipFile(file) as archive:
                members = {
                    member.filename.removesuffix(".npy").lower(): member
                    for member in archive.infolist()
                }
                layout = _npz_layout(list(members))
                arrays = {
                    name: _read_npy(archive, members[name], whole)
                    for pair in layout
                    for name in pair
                }
        except Exception as error:
            raise ValueError(
                f"{path}: found an archive that is damaged or holds no plain arrays "
                f"({shown(error)}), expected an .npz file of numbers"
            ) from error
    if not layout:
        names = ", ".join(member.filename.removesuffix(".npy") for member in members.values())
        raise ValueError(
            f"{path}: found arrays named {shown(names or 'nothing')}, "
            "expected x and y, or x_train, y_train and perhaps x_test, y_test"
        )
    pairs = []
    for x_name, y_name in layout:
        x, y = arrays[x_name], arrays[y_name]
        for name, array in (x_name, x), (y_name, y):
            if not array.ndim:
                raise ValueError(f"{path}: found no array in {name}, expected one row per example")
        if x.dtype.kind not in "buif":
            raise ValueError(f"{path}: found dtype {x.dtype} in {x_name}, expected numbers")
        _check_lengths(path, x, y_name, y)
        pairs.append((x, y))
    return pairs[0] if len(pairs) == 1 else (pairs[0], pairs[1])


_LONGEST_NPY_HEADER = 10_000  # as NumPy has it


def _read_npy(archive: ZipFile, about: ZipInfo, whole: int) -> np.ndarray:
    """Read an array from an archive of so many bytes, with no more memory than they can fill."""
    from zipfile import ZIP_DEFLATED, ZIP_STORED

    name = shown(about.filename)
    # As NumPy packs; what others pack has no such limit.
    limits = {ZIP_STORED: 1, ZIP_DEFLATED: _DEFLATE_LIMIT}
    if about.compress_type not in limits:
        raise ValueError(f"{name} is packed by method {about.compress_type}, not by deflate")
    size = min(about.file_size, min(about.compress_size, whole) * limits[about.compress_type])
    with archive.open(about) as file:
        start = file.read(12)
        wide = start[6:7] > b"\1"
        length = int.from_bytes(start[8 : 12 if wide else 10], "little")
        if length > _LONGEST_NPY_HEADER:
            raise ValueError(f"{name} has a header of {length} bytes")
        rest = length + (12 if wide else 10) - len(start)
        header = io.BytesIO(start + file.read(max(0, rest)))
        np.lib.format.read_magic(header)
        read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
        with warnings.catch_warnings():
            # It tells of headers that Python 2 wrote.
            warnings.simplefilter("ignore", UserWarning)
            shape, fortran, dtype = read(header)
        # NumPy takes text of no length for text of length 1.
        if dtype.kind not in "buifSU" or not dtype.itemsize:
            raise ValueError(
                f"{name} has dtype {shown(dtype)}, which holds neither numbers nor text"
            )
        needed = math.prod(shape) * dtype.itemsize
        if needed > size - header.tell():
            raise ValueError(f"{name} is too short for its shape {shown(shape)} of {dtype}")
        array = np.empty(shape[::-1] if fortran else shape, dtype)
        filled = _fill(array, file)
        if filled < needed:
            raise ValueError(f"{name} is cut off after {filled} bytes of data")
        if file.read(1):  # which also compares the checksum
            raise ValueError(f"{name} goes on after its data")
    if dtype.kind == "U" and array.size:
        points = array.reshape(-1).view(np.uint32 if dtype.isnative else ">u4")
        if points.max() > sys.maxunicode:
            raise ValueError(f"{name} holds what is no text")
    return array.T if fortran else array


def _fill(array: np.ndarray, file: Any) -> int:
    """Read a file into an array until either ends; return how many bytes were read."""
    view = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < array.nbytes:
        # In pieces, since Python's readers make a copy of what they are asked for.
        count = file.readinto(view[filled : filled + (1 << 20)])
        if not count:
            break
        filled += count
    return filled


def _npz_layout(names: Sequence[str]) -> list[tuple[str, str]]:
    train, test = ("x_train", "y_train"), ("x_test", "y_test")
    for layout in [train, test], [train], [("x", "y")]:
        if all(name in names for pair in layout for name in pair):
            # Half a test set is a mistake, not a file without one.
            return [] if layout == [train] and set(test) & set(names) else layout
    return []


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
