"""``Columns``: how columns of Apache Arrow become inputs, targets and weights.

``Parquet`` and ``Arrow`` are sources of this kind. Row groups and record batches are their parts.
"""

from __future__ import annotations

import copy
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..files.disk import shown
from .cells import Cells
from .columns import MOST_CATEGORIES, MOST_CLASSES, Column
from .stream import Chunk, Source
from .table import Table

Array = np.ndarray

BATCH_BYTES = 1 << 21
"""Bytes of x in a chunk: reading smaller ones takes longer."""
BLOCK_BYTES = 1 << 19
"""Bytes of x that are gathered from columns at a time: two of them fit into L2."""
READ_AHEAD = 1 << 17
"""Bytes per request to read ahead, the default limit of Linux."""
MOST_ROWS = 1 << 16
"""Most rows of a part of a table in memory."""


class Part(NamedTuple):
    """A unit that is read: a row group, a record batch, or a file of unknown length."""

    place: str
    rows: int | None
    first: int
    read: Callable[[list[str], int], Iterator[Any]]
    """Takes names of columns and a number of rows; returns record batches of about this size."""
    span: tuple[int, int] | None = None
    """The bytes of a local file that contain it."""


class Columns(Source):
    """Base class of ``Parquet`` and ``Arrow``: columns that become inputs, targets and weights."""

    def __init__(
        self,
        label: str | Sequence[str] | None,
        columns: Sequence[str] | None,
        weights: str | None,
        buffer_bytes: int,
    ) -> None:
        self.label: str | list[str] | None = label if isinstance(label, str) else None
        if label is not None and not isinstance(label, str):
            self.label = _names(label, "label")
        self.weights = weights
        if weights is not None and not isinstance(weights, str):
            raise TypeError(f"weights: found {weights!r}, expected the name of a column")
        self._asked = None if columns is None else tuple(_names(columns, "columns"))
        if isinstance(buffer_bytes, bool) or not isinstance(buffer_bytes, (int, np.integer)):
            raise TypeError(f"buffer_bytes: found {buffer_bytes!r}, expected a whole number")
        if buffer_bytes < 1:
            raise ValueError(f"buffer_bytes: found {buffer_bytes}, expected 1 or more")
        self.buffer_bytes = int(buffer_bytes)
        self.has_targets, self.has_weights = label is not None, weights is not None
        self._encoding: Table | None = None
        self._null_targets = False
        self._table: Table | None = None

    # --- Given by subclasses ----------------------------------------------------------------------

    _parts: list[Part]
    _source: str
    """The file or object that names and types of columns are from, for messages."""
    _types: dict[str, Any]
    """The Arrow type of each column."""

    # --- Columns ----------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Choose the columns of x, after the subclass has found all columns and their types."""
        targets = self._targets
        others = {*targets, *([] if self.weights is None else [self.weights])}
        for argument, names in (
            ("label", targets),
            ("weights", [] if self.weights is None else [self.weights]),
            ("columns", self._asked or ()),
        ):
            for name in names:
                if name not in self._types:
                    raise ValueError(
                        f"{argument}: found {name!r}, expected one of the columns of "
                        f"{self._source}: {listed(self._types)}"
                    )
        if self.weights in targets:
            raise ValueError(f"weights: found {self.weights!r}, the label, expected another column")
        for name in self._asked or ():
            if name in others:
                raise ValueError(
                    f"columns: found {name!r}, which is the label or the weights, expected others"
                )
        self.columns = self._asked or tuple(name for name in self._types if name not in others)
        if not self.columns:
            raise ValueError(f"{self._source}: found no column of inputs, expected at least one")
        self._set_width()

    @property
    def _targets(self) -> list[str]:
        if self.label is None:
            return []
        return [self.label] if isinstance(self.label, str) else self.label

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs of the network: columns of texts have one for each category."""
        return self.table.inputs if self._texts else self._inputs

    @property
    def _inputs(self) -> tuple[str, ...]:
        assert self.columns is not None
        found: list[str] = []
        for name in self.columns:
            size = getattr(self._types[name], "list_size", None)
            found += [name] if size is None else [f"{name}[{k}]" for k in range(size)]
        return tuple(found)

    @property
    def _texts(self) -> list[str]:
        return [name for name in self.columns or () if is_text(self._types[name])]

    @property
    def table(self) -> Table:
        """How columns become inputs, for ``net.table = source.table``.

        The categories are collected in a pass over the columns of texts and the label.
        """
        if self._table is None:
            self._table = self._described()
        return self._table

    def _described(self) -> Table:
        """Return the table of categories and labels, from one pass over them."""
        if not isinstance(self.label, str):
            raise ValueError(
                f"table: found label={self.label!r}, expected the name of one column to predict"
            )
        assert self.columns is not None
        text = is_text(self._types[self.label])
        read = [*self._texts, self.label]
        found: dict[str, set[Any]] = {name: set() for name in read}
        for part in self._parts:
            with naming(part.place):
                for batch in part.read(read, MOST_ROWS):
                    for name in read:
                        if len(found[name]) <= MOST_CATEGORIES or (text and name == self.label):
                            found[name] |= set(_uniques(batch.column(name)))
        for name in self._texts:
            found[name].discard(None)
            if not 1 <= len(found[name]) <= MOST_CATEGORIES:
                raise ValueError(
                    f"{self._source}: column {shown(repr(name))}: found {len(found[name])} "
                    f"different texts, expected 1 to {MOST_CATEGORIES} categories; leave it out "
                    "with columns=[…]"
                )
        labels = found[self.label] - {None}
        if not text and not all(isinstance(v, (int, float, Decimal)) for v in labels):
            raise TypeError(
                f"{self._source}: column {shown(repr(self.label))}: found "
                f"{self._types[self.label]}, expected numbers or texts as labels"
            )
        whole = all(float(v).is_integer() for v in labels) if not text else True
        classes: tuple[Any, ...] | None = None
        if text or (whole and len(labels) <= MOST_CLASSES):
            classes = tuple(sorted(labels if text else map(int, labels)))
        return Table(
            tuple(
                Column(name, tuple(sorted(found[name])) if name in found else None)
                for name in self.columns
            ),
            self.label,
            "regression" if classes is None else "classification",
            classes,
            self.weights,
        )

    def prepared(
        self, columns: tuple[str, ...] | None, table: Any, missing: bool = False
    ) -> Source:
        """Return the source with the columns of a network, and encoded by its table."""
        found = copy.copy(self)
        found._null_targets = missing
        if table is not None:
            wanted = tuple(column.name for column in table.columns)
            found.columns = self._matched(wanted)
            found._encoding = table
        elif columns is not None:
            found.columns = self._matched(columns)
        if table is None and found._texts:
            raise ValueError(
                f"{self._source}: found the column {shown(repr(found._texts[0]))} of texts, "
                "expected a network with len(source.inputs) inputs that knows its categories: "
                "net.table = source.table; or columns=[…] without it"
            )
        found._set_width()
        return found

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the inputs, for messages."""
        return self._inputs if self._encoding is None else self._encoding.inputs

    def _matched(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns of a network; raise if the source lacks one or was given others."""
        if self._asked is not None and {*self._asked} != {*names}:
            unknown = [name for name in self._asked if name not in names]
            lacking = [name for name in names if name not in self._asked]
            found = f"the unknown {listed(unknown)}" if unknown else f"no {listed(lacking)}"
            raise ValueError(
                f"columns: found {found}, expected the columns of the training, in any order: "
                f"{listed(names)}"
            )
        for name in names:
            if name not in self._types:
                raise ValueError(
                    f"{self._source}: found no column {shown(repr(name))}, expected the columns of "
                    f"the training: {listed(names)}"
                )
        return names

    # --- Reading ----------------------------------------------------------------------------------

    def parts(self) -> list[int | None]:
        """Return the rows of the parts."""
        return [part.rows for part in self._parts]

    def fetch(self, part: int) -> None:
        """Let the operating system begin to read a part of a local file."""
        unit = self._parts[part]
        if unit.span is None or not hasattr(os, "posix_fadvise"):
            return
        try:
            file = os.open(unit.place, os.O_RDONLY)
        except OSError:
            return  # reading the part will raise
        try:
            # Linux reads no more than this of a request; the disk reads while columns are decoded.
            for start in range(*unit.span, READ_AHEAD):
                os.posix_fadvise(file, start, READ_AHEAD, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)

    def read(self, part: int, x: bool = True) -> Iterator[Chunk]:
        """Read a part as chunks of about 2 MiB."""
        assert self.columns is not None
        unit = self._parts[part]
        x = x or not (self.has_targets or self.has_weights)
        names = [*(self.columns if x else ()), *self._targets]
        names += [] if self.weights is None else [self.weights]
        row = self._dtype.itemsize * self._width
        first = unit.first
        with naming(unit.place):
            for batch in unit.read(names, max(1 << 10, BATCH_BYTES // max(1, row))):
                if not len(batch):
                    continue
                for start in range(0, len(batch), MOST_ROWS):
                    piece = batch.slice(start, MOST_ROWS)
                    fields = self._converted(piece, x, unit.place, first)
                    yield Chunk(*fields, unit.place, first, tuple(self._targets), self.weights)
                    first += len(piece)

    def _set_width(self) -> None:
        """Set number and dtype of the inputs, after the columns have been chosen."""
        self._dtype = _dtype(self._types[name] for name in self.columns or ())
        if self._encoding is not None:
            self._width = len(self._encoding.inputs)
            return
        self._width = sum(getattr(self._types[name], "list_size", 1) for name in self.columns or ())

    def _converted(self, batch: Any, x: bool, place: str, first: int) -> tuple[Any, Any, Any]:
        for field in batch.schema:
            self._check_type(field, place)
        y = w = rows = None
        if isinstance(self.label, str):
            y = self._target(batch, self.label, place, first)
        elif self.label:
            columns = [self._target(batch, name, place, first) for name in self.label]
            y = np.stack(columns, axis=1)
        if self.weights is not None:
            w = _values(batch.column(self.weights), self.weights, place, first)
        if x and self._encoding is not None:
            rows = self._encoded(batch, place, first)
        elif x:
            rows = self._gathered(batch, place, first)
        return rows, y, w

    def _target(self, batch: Any, name: str, place: str, first: int) -> Array:
        column = batch.column(name)
        if self._null_targets and column.null_count and _is_plain(column.type):
            column = column.cast("float64").fill_null(np.nan)
        return _values(column, name, place, first)

    def _check_type(self, field: Any, place: str) -> None:
        """Raise for a column of texts in one file and of numbers in another."""
        name, found, expected = field.name, field.type, self._types[field.name]
        if found == expected:
            return
        if is_text(found) != is_text(expected) or getattr(found, "list_size", 0) != getattr(
            expected, "list_size", 0
        ):
            raise ValueError(
                f"{place}: column {shown(repr(name))}: found {found}, expected {expected}, as in "
                f"{self._source}"
            )

    def _gathered(self, batch: Any, place: str, first: int) -> Array:
        """Return columns of numbers as rows (m, n_in)."""
        assert self.columns is not None
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        values = [_values(columns[name], name, place, first) for name in self.columns]
        with np.errstate(over="ignore"):  # infinite numbers are refused by the network
            if all(column.ndim == 1 for column in values):
                return _by_row(values, self._dtype)
            rows, k = np.empty((len(batch), self._width), self._dtype), 0
            for column in values:
                width = 1 if column.ndim == 1 else column.shape[1]
                rows[:, k : k + width] = column.reshape(len(column), width)
                k += width
        return rows

    def _encoded(self, batch: Any, place: str, first: int) -> Array:
        """Return the inputs that the table of the network makes of the columns."""
        from pyarrow.types import is_temporal

        assert self._encoding is not None
        cells = {}
        for name in self.columns or ():
            column = batch.column(name)
            if is_text(column.type):
                cells[name] = _texts(column)
            elif is_temporal(column.type):
                _other_values(column, name, place, first)  # raises
            else:
                cells[name] = column.cast("float64").to_numpy(zero_copy_only=False)
        numbers = np.arange(first, first + len(batch))
        return self._encoding.x(Cells(place, cells, None, numbers))


# --- Files ----------------------------------------------------------------------------------------


def load_pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "pynn.data.Parquet and Arrow need pyarrow; install it with pip install "
            '"pynn-mlp[arrow]"'
        ) from error
    return pyarrow


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Let errors of pyarrow name a file."""
    pa = load_pyarrow()
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        if str(error).startswith(f"{place}:"):
            raise
        other = "magic bytes" in str(error)
        hint = "; IPC (Feather) files are read by pynn.data.Arrow" if other else ""
        raise ValueError(f"{place}: cannot be read: {str(error).rstrip('.')}{hint}") from error


def paths_of(files: Any) -> list[str]:
    """Return the names of the files that a name, a pattern or a list of them stands for."""
    found: list[str] = []
    for given in files if isinstance(files, (list, tuple)) else [files]:
        if not isinstance(given, (str, os.PathLike)):
            raise TypeError(f"files: found a {type(given).__name__}, expected names of files")
        name = os.fspath(given)
        if os.path.exists(name):
            found.append(name)
            continue
        matching = sorted(glob.glob(name)) if glob.has_magic(name) else []
        if not matching:
            raise FileNotFoundError(
                f"files: found no file {shown(name)}, expected Parquet or Arrow files"
            )
        found += matching
    if not found:
        raise ValueError("files: found an empty list, expected at least one file")
    return found


def require_once(names: Sequence[str], place: str) -> None:
    listed_names = list(names)
    for name in listed_names if len(set(listed_names)) < len(listed_names) else ():
        if listed_names.count(name) > 1:
            raise ValueError(f"{place}: found two columns {shown(repr(name))}, expected one")


# --- Values ---------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def is_text(kind: Any) -> bool:
    """Whether a column has texts, or codes of texts."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


@lru_cache(maxsize=256)
def _numpy_type(kind: Any) -> np.dtype[Any]:
    """Return the dtype of the numbers of a column."""
    from pyarrow import types

    if types.is_fixed_size_list(kind) or types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_boolean(kind):
        return np.dtype(np.uint8)
    other = types.is_decimal(kind) or types.is_null(kind) or types.is_temporal(kind)
    if other or not types.is_primitive(kind):
        return np.dtype(np.float64)
    return np.dtype(kind.to_pandas_dtype())


@lru_cache(maxsize=256)
def _is_plain(kind: Any) -> bool:
    """Whether NumPy can hold the values of a column."""
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def size_of(kind: Any) -> int:
    """Return the bytes of a number of a column."""
    return _numpy_type(kind).itemsize


def _dtype(kinds: Any) -> np.dtype[Any]:
    """Return the dtype of rows: uint8, float32 or float64."""
    found = np.result_type(*(_numpy_type(kind) for kind in kinds))
    if found == np.uint8:
        return found
    exact = np.can_cast(found, np.float32)
    return np.dtype(np.float32 if exact else np.float64)


def _values(column: Any, name: str, place: str, first: int, size: int = 1) -> Array:
    """Return a column as numbers (m,) or (m, size), or as texts; raise for missing values.

    ``size`` is the number of elements of a row in ``column``.
    """
    kind = column.type
    if column.null_count:
        row = first + int(np.asarray(column.is_null()).argmax()) // size
        raise ValueError(
            f"{place}: column {shown(repr(name))}: found a missing value in row {row} (counted "
            "from 0), expected a value in each row; fill them or drop their rows"
        )
    if _is_plain(kind):
        return column.to_numpy(zero_copy_only=False)
    if is_text(kind):
        return _texts(column).astype(str)
    return _other_values(column, name, place, first)


def _by_row(columns: list[Array], dtype: np.dtype[Any]) -> Array:
    """Return columns as rows (m, columns).

    Copying a block by column and then transposing it is seven times as fast as writing single
    columns, since the block stays in L2.
    """
    rows = np.empty((len(columns[0]), len(columns)), dtype)
    step = max(64, BLOCK_BYTES // (len(columns) * dtype.itemsize))
    block = np.empty((len(columns), min(step, len(rows))), dtype)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        for k, column in enumerate(columns):
            block[k, : len(part)] = column[start : start + step]
        part[...] = block[:, : len(part)].T
    return rows


def _other_values(column: Any, name: str, place: str, first: int) -> Array:
    """Return a column of dictionaries, decimals or vectors as numbers."""
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return _values(column.dictionary_decode(), name, place, first)
    if types.is_decimal(kind):
        return _values(column.cast("float64"), name, place, first)
    if types.is_fixed_size_list(kind) and _is_plain(kind.value_type):
        flat = _values(column.flatten(), name, place, first, kind.list_size)
        return flat.reshape(len(column), kind.list_size)
    raise TypeError(
        f"{place}: column {shown(repr(name))}: found {kind}, expected numbers, texts or "
        "fixed-size lists of numbers; convert it, or leave it out with columns=[…]"
    )


def _texts(column: Any) -> Array:
    """Return a column of texts (m,) as objects, with None for missing values."""
    from pyarrow import types

    codes = column if types.is_dictionary(column.type) else column.dictionary_encode()
    words = np.array([*codes.dictionary.to_pylist(), None], dtype=object)
    index = codes.indices.fill_null(len(words) - 1) if codes.null_count else codes.indices
    return words[index.to_numpy(zero_copy_only=False)]


def _uniques(column: Any) -> list[Any]:
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.unique().to_pylist()


def _names(names: Any, argument: str) -> list[str]:
    found = [names] if isinstance(names, str) else list(names)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"{argument}: found {name!r}, expected names of columns")
        if found.count(name) > 1:
            raise ValueError(f"{argument}: found {name!r} twice, expected each name once")
    if not found:
        raise ValueError(f"{argument}: found no names, expected at least one")
    return found


def listed(names: Any) -> str:
    """Return names as text; of many, the first twenty."""
    found = [shown(name) for name in list(names)[:20]]
    return ", ".join(found) + (", …" if len(list(names)) > 20 else "")
