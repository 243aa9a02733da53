"""``Parquet``: rows of Parquet files, whose row groups are the parts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..files.disk import shown
from .arrow_columns import (
    Columns,
    Part,
    is_text,
    listed,
    load_pyarrow,
    naming,
    paths_of,
    require_once,
    size_of,
)
from .stream import BUFFER_BYTES, digest

LARGE_GROUP = 1 << 25
"""Bytes of a row group from which its columns are read in pieces."""


class File(NamedTuple):
    """A Parquet file."""

    name: str
    fragment: Any
    keys: dict[str, Any]
    """Columns whose value its folder names (year=2026)."""
    schema: Any


class Parquet(Columns):
    """Rows of Parquet files that need not fit into memory, for ``fit``, ``predict``, ``evaluate``.

    Columns of numbers and booleans become one input each, and vectors of one length (Arrow's
    fixed-size lists) one for each element. Columns of texts, also dictionaries, need
    ``net.table = source.table``. Columns are matched by name with those of the first
    training. Reading needs pyarrow: ``pip install "pynn-mlp[arrow]"``.

    Parameters
    ----------
    files : str, path-like, list of them, or pyarrow.dataset.Dataset
        A file, a pattern such as ``"folder/*.parquet"``, or a folder, in which names such as
        ``year=2026`` of folders are columns.
    label : str or list of str, optional
        The column to predict, or several columns of targets. Not needed for ``predict``.
    columns : list of str, optional
        The inputs; by default all columns but label and weights.
    weights : str, optional
        The column of sample weights.
    buffer_bytes : int
        Bytes of x in a window, whose rows are shuffled together. Row groups are read in a random
        order, so that windows of several row groups shuffle best. Training needs about three
        windows, and a row group.

    Attributes
    ----------
    inputs : tuple of str
        The names of the inputs of a network.
    table : Table
        The encoding of columns of texts.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If pyarrow is not installed.
    ValueError
        If a file cannot be read or lacks a column, or a name is unknown.
    """

    def __init__(
        self,
        files: Any,
        label: str | Sequence[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        weights: str | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        super().__init__(label, columns, weights, buffer_bytes)
        found = [_parquet_file(fragment) for fragment in _fragments(files)]
        if not found:
            raise FileNotFoundError(f"files: found no file in {files}, expected Parquet files")
        self._files, self._source = found, found[0].name
        self._types = _types_of(found[0])
        self._choose()
        for file in found[1:]:
            self._check_file(file)
        self._set_width()
        self._parts = [part for file in found for part in self._groups(file)]
        if not self._parts:
            raise ValueError(f"files: found no rows in {listed([f.name for f in found])}")

    def __repr__(self) -> str:
        rows = sum(part.rows or 0 for part in self._parts)
        return f"Parquet({len(self._files)} files, {rows} rows, {len(self.columns or ())} columns)"

    def _check_file(self, file: File) -> None:
        """Raise for a file without a column, or with a column that the first file lacks."""
        names, types = set(self.columns or ()), _types_of(file)
        names |= {*self._targets, *([] if self.weights is None else [self.weights])}
        for name in (*(self.columns or ()), *names):
            if name not in types:
                raise ValueError(
                    f"{file.name}: found no column {shown(repr(name))}, which {self._source} has; "
                    "expected the same columns in each file, or columns=[…] that all have"
                )
        for name in types:
            if self._asked is None and name not in self._types:
                raise ValueError(
                    f"{self._source}: found no column {shown(repr(name))}, which {file.name} has; "
                    "expected the same columns in each file, or columns=[…] that all have"
                )
            numbers = name in names and not is_text(types[name]) and not is_text(self._types[name])
            if numbers and size_of(types[name]) > size_of(self._types[name]):
                self._types[name] = types[name]  # that can hold the numbers of all files

    def _groups(self, file: File) -> Iterator[Part]:
        first = 0
        for group in file.fragment.row_groups:
            if group.num_rows:
                reader, span = partial(_read_group, file, group.id), _span(file, group.id)
                yield Part(file.name, group.num_rows, first, reader, span)
            first += group.num_rows

    def fingerprint(self) -> dict[str, str]:
        """Return names, row groups and statistics of the files."""
        names = self.columns, self.label, self.weights
        files = []
        for file in self._files:
            metadata = file.fragment.metadata
            groups = [
                (g.num_rows, g.total_byte_size, repr(g.statistics))
                for g in file.fragment.row_groups
            ]
            files.append((Path(file.name).name, metadata.num_rows, groups))
        rows = sum(part.rows or 0 for part in self._parts)
        return {"rows": f"Parquet, {rows} rows", "sha256": digest(names, files)}


# --- Files ----------------------------------------------------------------------------------------


def _fragments(files: Any) -> list[Any]:
    load_pyarrow()
    import pyarrow.dataset as ds

    if isinstance(files, ds.Dataset):
        dataset = files
    else:
        paths = paths_of(files)
        folder = len(paths) == 1 and os.path.isdir(paths[0])
        with naming(paths[0]):
            dataset = (
                ds.dataset(paths[0], format="parquet", partitioning="hive")
                if folder
                else ds.FileSystemDataset.from_paths(
                    paths,
                    schema=load_pyarrow().schema([]),
                    format=ds.ParquetFileFormat(),
                    filesystem=_local(),
                )
            )
    fragments = list(dataset.get_fragments())
    if not all(isinstance(fragment, ds.ParquetFileFragment) for fragment in fragments):
        raise TypeError("files: found a dataset of another format, expected one of Parquet files")
    return fragments


def _local() -> Any:
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem()


def _parquet_file(fragment: Any) -> File:
    """Return a file whose footer has been read."""
    import pyarrow.dataset as ds

    with naming(fragment.path):
        fragment.ensure_complete_metadata()
        schema = fragment.physical_schema
        require_once(schema.names, fragment.path)
        keys = ds.get_partition_keys(fragment.partition_expression)
        return File(fragment.path, fragment, keys, schema)


def _types_of(file: File) -> dict[str, Any]:
    pa = load_pyarrow()
    types = {field.name: field.type for field in file.schema}
    for name, value in file.keys.items():
        types.setdefault(name, pa.scalar(value).type)
    return types


def _span(file: File, group: int) -> tuple[int, int] | None:
    """Return the bytes of a row group of a local file."""
    if file.fragment.filesystem.type_name != "local":
        return None
    metadata = file.fragment.metadata.row_group(group)
    first, last = metadata.column(0), metadata.column(metadata.num_columns - 1)
    start = first.dictionary_page_offset or first.data_page_offset
    stop = (last.dictionary_page_offset or last.data_page_offset) + last.total_compressed_size
    return start, stop


def _read_group(file: File, group: int, names: list[str], rows: int) -> Iterator[Any]:
    """Read a row group of a Parquet file."""
    import pyarrow.parquet as pq

    pa = load_pyarrow()
    own = frozenset(file.schema.names)
    fragment = file.fragment
    metadata = fragment.metadata
    large = metadata.row_group(group).total_byte_size > LARGE_GROUP
    with pq.ParquetFile(
        fragment.filesystem.open_input_file(fragment.path),
        metadata=metadata,
        pre_buffer=False,
        buffer_size=1 << 18 if large else 0,
    ) as opened:
        stored = [name for name in names if name in own]
        for batch in opened.iter_batches(rows, row_groups=[group], columns=stored or None):
            for name in names if len(stored) < len(names) else ():
                if name not in stored:
                    value = pa.repeat(pa.scalar(file.keys[name]), len(batch))
                    batch = batch.append_column(name, value)
            yield batch
