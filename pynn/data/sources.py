"""``as_source``: which arguments are sources of rows; ``Batches``: iterables of batches."""

from __future__ import annotations

from collections.abc import Iterator, MappingView
from typing import Any

import numpy as np

from .stream import Chunk, Source, digest

_ARRAY_LIKE = ("__array__", "__array_interface__", "__dlpack__", "shape", "to_numpy", "keys")


class Batches(Source):
    """An object that can be iterated again and again, and gives batches (x, y) or (x, y, weight).

    Parameters
    ----------
    batches : iterable
        For example a list of batches, or a ``DataLoader`` of PyTorch.
    name : str
        The argument, for messages.
    """

    reorders = repeats = False
    batches = True

    def __init__(self, batches: Any, name: str = "x") -> None:
        if hasattr(batches, "__next__"):
            kind = type(batches).__name__
            raise TypeError(
                f"{name}: found a{'n' * (kind[0] in 'aeiou')} {kind}, which can be read only once; "
                "expected batches that can be iterated again, since the first pass only counts and "
                "checks them: a list of batches, a DataLoader, or a class with __iter__; rows that "
                f"fit into memory become an array with numpy.stack(list({name}))"
            )
        self._batches, self._name = batches, name
        self.repeats = isinstance(batches, (list, tuple))

    def parts(self) -> list[int | None]:
        """Return one part, whose rows are not known."""
        return [None]

    def read(self, part: int, x: bool = True) -> Iterator[Chunk]:
        """Iterate over the batches."""
        for k, batch in enumerate(self._batches):
            fields = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
            fields = tuple(map(_plain, fields))
            if any(hasattr(field, "tocsr") for field in fields):
                raise TypeError(
                    f"{self._name}: found sparse rows in batch {k} (counted from 0), expected "
                    "dense ones, such as x.toarray()"
                )
            known = [field is None or hasattr(field, "__len__") for field in fields]
            if not 1 <= len(fields) <= 3 or not all(known) or isinstance(batch, dict):
                found = type(batch).__name__
                found += f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
                raise TypeError(
                    f"{self._name}: found a {found} as batch {k} (counted from 0), expected "
                    "(x, y) or (x, y, sample_weight)"
                )
            rows, y, weight = (*fields, None, None)[:3]
            yield Chunk(rows, y, weight, f"batch {k}")

    def fingerprint(self) -> dict[str, str]:
        """Return the type, since reading all batches would take as long as an epoch."""
        return {"rows": "batches", "sha256": digest(type(self._batches).__name__)}


def as_source(x: Any, y: Any = None, weight: Any = None, name: str = "x") -> Source | None:
    """Return the source that arguments are or hold; None for arrays.

    Parameters
    ----------
    x
        A source; a collection of Dask; or, without ``y``, an iterable of batches.
    y, weight
        Targets and sample weights of Dask.
    name
        The name of x in errors.

    Raises
    ------
    TypeError, ValueError
        If x is a source that cannot be used, or has targets of its own.
    """
    if isinstance(x, np.ndarray) or x is None:
        return None
    if isinstance(x, Source):
        _require_none(y, "y", x)
        _require_none(weight, "sample_weight", x)
        return x
    if type(x).__module__ == "dask.delayed":
        raise TypeError(
            f"{name}: found a Delayed of Dask, expected an array or data frame of Dask: "
            "dask.array.from_delayed or dask.dataframe.from_delayed"
        )
    if _is_dask(x) and (y is None or _is_dask(y)):
        from .partitions import Partitions  # imported when needed: it imports Dask

        return Partitions(x, y, weight, name)
    if y is None and _are_batches(x):
        _require_none(weight, "sample_weight", x)
        return Batches(x, name)
    return None


def is_source(x: Any, y: Any = None) -> bool:
    """Return whether x is read part by part, or refused as something that can be read only once."""
    if isinstance(x, np.ndarray) or x is None:
        return False
    dask = _is_dask(x) and (y is None or _is_dask(y))
    return isinstance(x, Source) or dask or (y is None and _are_batches(x))


def _plain(field: Any) -> Any:
    """Return a tensor that NumPy can read."""
    if not hasattr(field, "detach") or not hasattr(field, "dtype"):
        return field
    field = field.detach()
    return field.float() if str(field.dtype) == "torch.bfloat16" else field


def _is_dask(value: Any) -> bool:
    return type(value).__module__.split(".")[0].startswith("dask") and hasattr(
        value, "__dask_graph__"
    )


def _require_none(value: Any, name: str, source: Any) -> None:
    if value is not None:
        raise ValueError(
            f"{name}: found a {type(value).__name__} with a {type(source).__name__}, which has "
            f"columns or fields of its own for it; expected None"
        )


def _are_batches(x: Any) -> bool:
    """Whether an argument without targets is an iterable of batches."""
    if isinstance(x, (str, bytes, type, set, frozenset, range, memoryview, bytearray, MappingView)):
        return False
    if isinstance(x, (list, tuple)):
        first = x[0] if len(x) else None
        if not isinstance(first, (tuple, list)) or not 2 <= len(first) <= 3:
            return False
        return len(getattr(first[0], "shape", ())) >= 2
    if any(hasattr(x, attribute) for attribute in _ARRAY_LIKE):
        return False
    # The data sets of PyTorch have single rows as items.
    return hasattr(x, "__iter__")
