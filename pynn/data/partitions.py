"""``Partitions``: arrays and data frames of Dask, of which one partition is computed at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..files.disk import shown
from .stream import Chunk, Source, digest


class Partitions(Source):
    """Rows in collections of Dask with equal partitions.

    Parameters
    ----------
    x : dask array (n, n_in) or dask data frame
        A part is a chunk of rows, or a partition.
    y, weight : dask array, series or data frame, optional
        Targets and sample weights.
    name : str
        The argument x, for messages.

    Raises
    ------
    TypeError, ValueError
        If the collections do not fit each other.
    """

    def __init__(self, x: Any, y: Any = None, weight: Any = None, name: str = "x") -> None:
        self._name = name
        self._fields = {"x": _by_rows(x, name)}
        for field, value in (("y", y), ("sample_weight", weight)):
            if value is not None:
                if not hasattr(value, "__dask_graph__"):
                    raise TypeError(
                        f"{field}: found a {type(value).__name__} with a collection of Dask as "
                        f"{name}, expected one of Dask with the same partitions"
                    )
                self._fields[field] = _by_rows(value, field)
        x = self._fields["x"]
        for field, value in self._fields.items():
            known = hasattr(x, "chunks") and hasattr(value, "chunks")
            if known and value.chunks[0] != x.chunks[0] and sum(value.chunks[0]) == len(x):
                self._fields[field] = value = value.rechunk({0: x.chunks[0]})
            if _count(value) != _count(x):
                raise ValueError(
                    f"{field}: found {_count(value)} partitions, expected {_count(x)}, as many as "
                    f"{name} has"
                )
        self.has_targets, self.has_weights = y is not None, weight is not None
        columns = getattr(x, "columns", None)
        if columns is not None and all(isinstance(name, str) for name in columns):
            self.columns = tuple(columns)

    def prepared(
        self, columns: tuple[str, ...] | None, table: Any, missing: bool = False
    ) -> Source:
        """Return the source with the columns of a data frame in the order of the training."""
        if columns is None or self.columns is None or columns == self.columns:
            return self
        for name in columns:
            if name not in self.columns:
                raise ValueError(
                    f"{self._name}: found no column {shown(repr(name))}, expected the columns of "
                    "the first training"
                )
        found = copy.copy(self)
        found._fields = {**self._fields, "x": self._fields["x"][list(columns)]}
        found.columns = columns
        return found

    def parts(self) -> list[int | None]:
        """Return the rows of the partitions; those of data frames are not known."""
        x = self._fields["x"]
        rows = x.chunks[0] if hasattr(x, "chunks") else [np.nan] * x.npartitions
        return [None if n != n else int(n) for n in rows]

    def read(self, part: int, x: bool = True) -> Iterator[Chunk]:
        """Compute one partition, on the scheduler that Dask uses."""
        import dask

        place = f"partition {part} of {len(self.parts())}"
        x = x or len(self._fields) == 1
        fields = {name: value for name, value in self._fields.items() if x or name != "x"}
        try:
            computed = dask.compute(*(_part(value, part) for value in fields.values()))
        except Exception as error:  # of the code in the graph, or a lost worker
            raise RuntimeError(
                f"{self._name}: {place} (counted from 0) could not be computed: "
                f"{type(error).__name__}: {error}"
            ) from error
        found = dict(zip(fields, computed, strict=True))
        if len({len(value) for value in found.values()}) > 1:
            shown = ", ".join(f"{len(value)} rows of {name}" for name, value in found.items())
            raise ValueError(f"{place}: found {shown}, expected as many rows of each")
        if len(computed[0]):
            yield Chunk(found.get("x"), found.get("y"), found.get("sample_weight"), place)

    def fingerprint(self) -> dict[str, str]:
        """Return the partitions; Dask names a collection by the graph that computes it."""
        names = [
            str(value.dtypes if hasattr(value, "dtypes") else value.dtype)
            for value in self._fields.values()
        ]
        rows = self.parts()
        return {"rows": f"Dask, {len(rows)} partitions", "sha256": digest(names, rows)}


def _by_rows(value: Any, name: str) -> Any:
    """Return a collection that is divided between rows only."""
    if not hasattr(value, "chunks") or not hasattr(value, "rechunk"):
        if not hasattr(value, "npartitions") or not hasattr(value, "partitions"):
            raise TypeError(
                f"{name}: found a {type(value).__name__} of Dask, expected an array or data frame"
            )
        return value
    if value.ndim > 1 and any(len(sizes) > 1 for sizes in value.chunks[1:]):
        return value.rechunk(dict.fromkeys(range(1, value.ndim), -1))
    return value


def _count(value: Any) -> int:
    return len(value.chunks[0]) if hasattr(value, "rechunk") else int(value.npartitions)


def _part(value: Any, k: int) -> Any:
    return value.blocks[k] if hasattr(value, "rechunk") else value.partitions[k]
