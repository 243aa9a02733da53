"""The names of the columns of x: a network that was trained on them refuses another order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..files.disk import shown
from .shared import value_of

Columns = tuple[str, ...]


def names_of(x: Any) -> Columns | None:
    """Return the names of the columns of a data frame or table; None if not all are text."""
    x = value_of(x)
    if isinstance(x, (np.ndarray, type, list, tuple)):
        return None
    names: Any = None
    if hasattr(x, "collect_schema"):  # polars; the columns of a lazy frame would warn
        names = x.collect_schema().names()
    elif hasattr(x, "column_names"):  # pyarrow
        names = x.column_names
    elif hasattr(x, "columns") and hasattr(x, "to_numpy"):  # pandas and similar libraries
        names = x.columns
    try:
        found = tuple(names)
    except TypeError:
        return None
    return found if found and all(isinstance(name, str) for name in found) else None


def require_columns(x: Any, columns: Columns | None, name: str) -> None:
    """Raise ValueError if the columns of x have other names, or another order, than in training.

    Arrays have no names and are not checked. Another number of columns has an error of its own.
    """
    found = None if columns is None else names_of(x)
    if columns is None or found is None or found == columns or len(found) != len(columns):
        return
    k = next(k for k, pair in enumerate(zip(found, columns, strict=True)) if pair[0] != pair[1])
    remedy = f"{name}[list(net.columns)] has that order"
    if set(found) != set(columns):
        remedy = f"{name}.to_numpy() has no names"
    raise ValueError(
        f"{name}: found {shown(repr(found[k]))} as column {k} (counted from 0), expected "
        f"{shown(repr(columns[k]))} as in the first training; {remedy}"
    )


def require_places(found: Columns | None, columns: Columns | None, name: str) -> None:
    """Raise ValueError if a file has a column of the training in another place.

    A file may have other names: its columns can be those of the training all the same.
    """
    if found is None or columns is None or len(found) != len(columns):
        return
    for k, pair in enumerate(zip(found, columns, strict=True)):
        if pair[0] != pair[1] and (pair[0] in columns or pair[1] in found):
            raise ValueError(
                f"{name}: found {shown(repr(pair[0]))} as column {k} of x (counted from 0), "
                f"expected {shown(repr(pair[1]))} as in training"
            )


def as_columns(names: Any, n_in: int) -> Columns | None:
    """Return names of columns that a user or a file gives, or None for none.

    Raises
    ------
    ValueError
        If they are not n_in texts.
    """
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or len(names) != n_in:
        found = f"{len(names)} names" if isinstance(names, (list, tuple)) else shown(repr(names))
        raise ValueError(f"columns: found {found}, expected a list of {n_in} names, or None")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"columns: found {shown(repr(name))}, expected text")
    return tuple(names)
