"""``Arrow``: rows of tables and IPC files, whose record batches are the parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..files.disk import shown
from .arrow_columns import (
    MOST_ROWS,
    Columns,
    Part,
    listed,
    load_pyarrow,
    naming,
    paths_of,
    require_once,
)
from .stream import BUFFER_BYTES, digest


class Arrow(Columns):
    """Rows in the memory formats of Apache Arrow, and in its IPC files (Feather).

    Columns become inputs as in :class:`Parquet`.

    Parameters
    ----------
    data : pyarrow.Table, record batches, files, dataset or function
        A table; a list of record batches; an IPC file or stream, a pattern or a list of files; a
        ``pyarrow.dataset.Dataset``; or a function that returns a new record batch reader (or
        iterable of record batches) for each epoch, whose batches are read in their order and are
        shuffled in windows. A reader itself is refused, since it can be read only once.
    label, columns, weights, buffer_bytes
        As for :class:`Parquet`.

    Raises
    ------
    FileNotFoundError, ImportError, TypeError, ValueError
        As for :class:`Parquet`; or if ``data`` is another object.
    """

    def __init__(
        self,
        data: Any,
        label: str | Sequence[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        weights: str | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        super().__init__(label, columns, weights, buffer_bytes)
        pa = load_pyarrow()
        self._source = "data"
        if isinstance(data, pa.RecordBatch):
            data = [data]
        if isinstance(data, (list, tuple)) and data and isinstance(data[0], pa.RecordBatch):
            data = pa.Table.from_batches(data)
        if isinstance(data, pa.Table):
            self._parts, schema = _of_table(data)
        elif isinstance(data, (str, os.PathLike, list, tuple)):
            self._parts, schema = _of_files(paths_of(data))
            self._source = self._parts[0].place
        elif hasattr(data, "to_batches") and hasattr(data, "schema"):
            self._parts = [Part("data", None, 0, partial(_read_dataset, data))]
            schema = data.schema
        elif callable(data):
            self._parts, schema = _of_function(data)
        else:
            once = "; a reader can be read only once: pass a function that returns a new one"
            raise TypeError(
                f"data: found a {type(data).__name__}, expected a pyarrow.Table, a list of record "
                "batches, IPC files, a dataset, or a function that returns record batches"
                + (once if hasattr(data, "read_next_batch") else "")
            )
        require_once(schema.names, self._source)
        self._types = {field.name: field.type for field in schema}
        self._choose()

    def fingerprint(self) -> dict[str, str]:
        """Return columns and lengths, and of tables and files the first rows of each part."""
        values: list[Any] = [self.columns, self.label, self.weights, self.parts()]
        for part in self._parts if self._parts[0].rows is not None else ():
            names = [*(self.columns or ()), *self._targets]
            batch = next(iter(part.read(names, 16)), None)
            values.append(None if batch is None else batch.slice(0, 16).to_pydict())
        rows = [part.rows for part in self._parts]
        total = "of unknown length" if None in rows else f"{sum(r or 0 for r in rows)} rows"
        return {"rows": f"Arrow, {total}", "sha256": digest(*values)}


# --- Parts ----------------------------------------------------------------------------------------


def _of_table(table: Any) -> tuple[list[Part], Any]:
    parts, first = [], 0
    for batch in table.to_batches(max_chunksize=MOST_ROWS):
        if len(batch):
            parts.append(Part("data", len(batch), first, partial(_read_batch, batch)))
        first += len(batch)
    if not parts:
        raise ValueError("data: found a table without rows, expected at least one")
    return parts, table.schema


def _read_batch(batch: Any, names: list[str], rows: int) -> Iterator[Any]:
    for start in range(0, len(batch), rows):
        yield batch.slice(start, rows).select(names)


def _read_dataset(data: Any, names: list[str], rows: int) -> Iterator[Any]:
    yield from data.to_batches(columns=names)


def _of_files(paths: list[str]) -> tuple[list[Part], Any]:
    """Return the record batches of IPC files, and the columns of the first file."""
    parts: list[Part] = []
    schema: Any = None
    for path in paths:
        streamed = _is_stream(path)
        with naming(path), _opened(path, streamed=streamed) as reader:
            names = reader.schema.names
            require_once(names, path)
            if schema is None:
                schema = reader.schema
            elif set(names) != set(schema.names):
                name = next(iter({*names} ^ {*schema.names}))
                lacking, other = (path, paths[0]) if name in schema.names else (paths[0], path)
                raise ValueError(
                    f"{lacking}: found no column {shown(repr(name))}, which {other} has; expected "
                    "the same columns in each file"
                )
            count, first = 0 if streamed else reader.num_record_batches, 0
        if streamed:
            parts.append(Part(path, None, 0, partial(_read_stream, path)))
        for k in range(count):
            with naming(path), _opened(path, [0]) as reader:
                rows = len(reader.get_batch(k))
            if rows:
                parts.append(Part(path, rows, first, partial(_read_ipc, path, k)))
            first += rows
    if not parts:
        raise ValueError(f"data: found no rows in {listed(paths)}, expected at least one")
    return parts, schema


def _is_stream(path: str) -> bool:
    """Whether a file has Arrow's streaming format, which begins with a message."""
    with open(path, "rb") as file:
        return file.read(4) == b"\xff\xff\xff\xff"


@contextmanager
def _opened(path: str, fields: list[int] | None = None, streamed: bool = False) -> Iterator[Any]:
    """Open an IPC file, to read some of its columns."""
    pa = load_pyarrow()
    options = (
        pa.ipc.IpcReadOptions() if fields is None else pa.ipc.IpcReadOptions(included_fields=fields)
    )
    # Pages of a mapped file count as memory of the process, but reading need not copy them twice.
    with pa.OSFile(path) as file:
        yield (pa.ipc.open_stream if streamed else pa.ipc.open_file)(file, options=options)


def _read_stream(path: str, names: list[str], rows: int) -> Iterator[Any]:
    with _opened(path, streamed=True) as reader:
        for batch in reader:
            for start in range(0, len(batch), rows):
                yield batch.slice(start, rows).select(names)


def _read_ipc(path: str, k: int, names: list[str], rows: int) -> Iterator[Any]:
    with _opened(path) as reader:
        places = [reader.schema.names.index(name) for name in names]
    with _opened(path, places) as reader:
        batch = reader.get_batch(k).select(names)
    for start in range(0, len(batch), rows):
        yield batch.slice(start, rows)


def _of_function(make: Callable[[], Any]) -> tuple[list[Part], Any]:
    pa = load_pyarrow()
    made = make()
    first = next(iter(made), None) if hasattr(made, "__iter__") else None
    if not isinstance(first, (pa.RecordBatch, pa.Table)):
        raise TypeError(
            f"data: found a function that returned {type(made).__name__} of "
            f"{type(first).__name__}, expected a reader or an iterable of record batches"
        )
    return [Part("data", None, 0, partial(_read_made, make))], first.schema


def _read_made(make: Callable[[], Any], names: list[str], rows: int) -> Iterator[Any]:
    for batch in make():
        for piece in batch.to_batches() if hasattr(batch, "to_batches") else [batch]:
            for start in range(0, len(piece), rows):
                yield piece.slice(start, rows).select(names)
