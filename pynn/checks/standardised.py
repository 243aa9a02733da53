"""Check that a format can hold standardised inputs."""

from __future__ import annotations

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standard, block_rows
from .arrays import place

Array = np.ndarray


def require_held(
    rows: Array | Sparse, standard: Standard, dtype: str, name: str = "x", first: int = 0
) -> None:
    """Raise ValueError if a standardised value would be infinite in ``dtype``.

    Parameters
    ----------
    rows
        As the backends take them, of finite numbers. uint8 are not searched.
    standard
        Their means and scales; means of sparse rows are 0.
    dtype
        Of the network.
    name
        The name of the argument in errors.
    first
        The number of the first row in errors.
    """
    matrix = rows if isinstance(rows, Sparse) else None
    values: Array = rows.data if isinstance(rows, Sparse) else rows
    if values.dtype.kind != "f" or values.size == 0:
        return
    most = float(np.finfo(dtype).max)
    # Values up to this bound stay below the largest number in every column; only blocks with a
    # larger one are standardised here.
    with np.errstate(over="ignore"):
        bound = float((most * standard.scale - np.abs(standard.mean)).min())
    step = block_rows(1 if matrix else values.shape[1])
    for start in range(0, len(values), step):
        block = values[start : start + step]
        if max(-float(block.min()), float(block.max())) <= bound:
            continue
        columns = slice(None) if matrix is None else matrix.indices[start : start + step]
        mean, scale = standard.mean[columns], standard.scale[columns]
        inverse = standard.inverse[columns]
        with np.errstate(over="ignore"):
            scaled = (block.astype(np.float64) - mean) * inverse
        wrong = np.argwhere(~(np.abs(scaled) <= most))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            here = place((start + (0 if matrix else first) + at[0], *at[1:]), matrix)
            raise ValueError(
                f"{name}: found {block[at]} at {here} (counted from 0), which standardised with "
                f"mean {mean[at[-1]]:.3g} and scale {scale[at[-1]]:.3g} is {scaled[at]:.3g}, "
                f"expected numbers that {dtype} can hold once they are standardised"
            )


def require_distinct(rows: Array | Sparse, standard: Standard, dtype: str, name: str = "x") -> None:
    """Raise ValueError if an outlier among rows to train on makes all other values equal.

    Only columns with values that ``dtype`` could not hold are searched: a standardised column then
    has two different values in ``dtype``, and the column itself more.
    """
    most = float(np.finfo(dtype).max)
    if isinstance(rows, Sparse) or rows.dtype != np.float64:
        return
    # No deviation exceeds the standard deviation times the root of the number of rows.
    with np.errstate(over="ignore"):
        reach = np.abs(standard.mean) + standard.scale * np.sqrt(len(rows))
    for column in np.flatnonzero(~(reach <= most)).tolist():
        x = rows[:, column]
        with np.errstate(all="ignore"):
            scaled = ((x - standard.mean[column]) / standard.scale[column]).astype(dtype)
        row = int(np.abs(scaled).argmax())
        if abs(x[row]) > most and _has_two(scaled) and not _has_two(x):
            raise ValueError(
                f"{name}: found {x[row]} at row {row}, column {column} (counted from 0), which "
                f"gives the column the scale {standard.scale[column]:.3g}, so that its other "
                f"values are equal once standardised in {dtype}; expected numbers that {dtype} "
                "can hold"
            )


def _has_two(values: Array) -> bool:
    """Return whether values have at most two different ones."""
    return bool(((values == values.min()) | (values == values.max())).all())
