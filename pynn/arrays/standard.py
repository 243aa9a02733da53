"""Standardised columns: their means and scales, and data sets that are read with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sparse import Sparse

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Standard:
    """Means and scales of columns. A value x counts as (x − mean) · (1 / scale), in float64.

    Parameters
    ----------
    mean
        (columns,), float64.
    scale
        (columns,), float64, above 0, with a finite reciprocal.
    """

    mean: Array
    scale: Array

    @staticmethod
    def of(mean: Array, scale: Array) -> Standard:
        """Return means and scales as contiguous, read-only copies."""
        copies = np.array(mean, np.float64, order="C"), np.array(scale, np.float64, order="C")
        for copy in copies:
            copy.flags.writeable = False
        return Standard(*copies)

    @property
    def inverse(self) -> Array:
        """1 / scale, (columns,)."""
        return 1 / self.scale

    def too_fine_for(self, dtype: str) -> int | None:
        """Return the column that loses most if values are rounded to a dtype before they are
        standardised, None if no rounding error exceeds 1/1000 of a standard deviation.
        """
        lost = np.abs(self.mean) / self.scale * np.finfo(dtype).eps
        return int(lost.argmax()) if lost.max() > 1e-3 else None


@dataclass(frozen=True, eq=False)
class Standardized:
    """A data set whose rows are standardised while a backend reads them.

    Parameters
    ----------
    rows
        (n, n_in), as the backends take them without standardisation; uint8 counts as value / 255.
        Sparse rows require means of 0.
    standard
        Of the columns.
    """

    rows: Array | Sparse
    standard: Standard

    def __len__(self) -> int:
        return len(self.rows)


# --- Computing them -------------------------------------------------------------------------------

_BLOCK = 1 << 15
"""Elements per block: 256 KiB of float64, so that a block stays in L2 between its passes. Blocks
depend on the number of columns only, so that results do not depend on the storage of the data."""


def column_standard(rows: Array | Sparse) -> Standard:
    """Return means and population standard deviations of the columns, in float64.

    A column gets scale 1 if all its values are equal, except for rounding (a deviation of at most
    2ε times the mean, ε being float64's), or its deviation has no finite reciprocal.
    uint8 counts as value / 255. The means of sparse rows are returned as 0, and their deviations
    are those from the true means over all entries, as by ``StandardScaler(with_mean=False)`` of
    scikit-learn.

    Raises
    ------
    OverflowError
        If a mean or deviation is not finite, because values are near the largest float64.
    """
    with np.errstate(all="ignore"):
        if isinstance(rows, Sparse):
            mean, variance = np.zeros(rows.shape[1]), _sparse_variance(rows)
        else:
            mean, variance = _moments(rows, np.ones(rows.shape[1]))
            kept = np.isfinite(variance) & (variance > np.finfo(np.float64).tiny)
            if not kept.all() and (_vary(rows) & ~kept).any():
                # Squares of very small or large deviations do not fit into a float64.
                unit = _unit(rows)
                mean, scaled = _moments(rows, unit)
                return _checked(mean * unit, np.sqrt(scaled) * unit)
        return _checked(mean, np.sqrt(variance))


def _checked(mean: Array, scale: Array) -> Standard:
    wrong = ~(np.isfinite(mean) & np.isfinite(scale))
    if wrong.any():
        raise OverflowError(int(wrong.argmax()))
    # Equal numbers that were computed in different ways differ by rounding.
    varies = np.isfinite(1 / scale) & (scale > 2 * np.finfo(np.float64).eps * np.abs(mean))
    return Standard.of(mean, np.where(varies, scale, 1.0))


def as_float64(block: Array) -> Array:
    """Return numbers (m, columns) as contiguous float64; uint8 counts as value / 255."""
    values = np.array(block, np.float64, order="C")
    return values * (1 / 255) if block.dtype == np.uint8 else values


def _blocks(rows: Array) -> list[slice]:
    step = block_rows(rows.shape[1])
    return [slice(start, start + step) for start in range(0, len(rows), step)]


class Moments:
    """Means and population variances of columns / unit, from blocks in the order of the rows.

    The blocks' sums of squared deviations are merged (Chan, Golub and LeVeque 1983, equation 2.1).
    The first row is subtracted from all rows, so that constant columns have exactly their value as
    mean and variance 0, and a large mean costs no digits of a small variance.

    Parameters
    ----------
    first
        The first row (1, columns).
    unit
        (columns,), by which all values are divided.
    """

    def __init__(self, first: Array, unit: Array) -> None:
        self._unit, self._first = unit, as_float64(first)[0] / unit
        self._mean, self._squares = np.zeros(len(unit)), np.zeros(len(unit))
        self._count = 0

    def add(self, block: Array) -> None:
        """Add rows (m, columns)."""
        values = as_float64(block) / self._unit - self._first
        m, count = len(values), self._count
        block_mean = np.add.reduce(values, axis=0) / m
        values -= block_mean
        values *= values
        delta = block_mean - self._mean
        self._mean += delta * (m / (count + m))
        self._squares += np.add.reduce(values, axis=0) + delta * delta * (count * m / (count + m))
        self._count += m

    @property
    def mean(self) -> Array:
        """(columns,), float64."""
        return self._mean + self._first

    @property
    def variance(self) -> Array:
        """(columns,), float64."""
        return self._squares / self._count


def standard_of(moments: Moments) -> Standard:
    """Return means and scales of columns that are read in blocks of ``block_rows`` rows.

    They are identical to those of ``column_standard``, unless squares of deviations do not fit into
    a float64: a column of deviations below 1e-154 gets scale 1.

    Raises
    ------
    OverflowError
        If a mean or deviation is not finite: values reach 1e154.
    """
    with np.errstate(all="ignore"):
        return _checked(moments.mean, np.sqrt(moments.variance))


def block_rows(columns: int) -> int:
    """Return the number of rows of a block."""
    return max(1, _BLOCK // max(1, columns))


def _moments(rows: Array, unit: Array) -> tuple[Array, Array]:
    """Return means and population variances of columns / unit."""
    moments = Moments(rows[:1], unit)
    for block in _blocks(rows):
        moments.add(rows[block])
    return moments.mean, moments.variance


def _vary(rows: Array) -> Array:
    """Return whether the values of each column differ."""
    vary = np.zeros(rows.shape[1], bool)
    for block in _blocks(rows):
        vary |= (rows[block] != rows[:1]).any(axis=0)
    return vary


def _unit(rows: Array) -> Array:
    """Return for each column the power of two above its largest deviation from the first row.

    The square of a deviation divided by it lies in [0, 1].
    """
    first = as_float64(rows[:1])[0] / 2
    most = np.zeros(len(first))
    for block in _blocks(rows):
        half = np.abs(as_float64(rows[block]) / 2 - first)
        most = np.maximum(most, np.maximum.reduce(half, axis=0))
    _, exponent = np.frexp(most)
    # A column of deviations 0 keeps its unit; 2^1024 is not a float64.
    return np.where(most > 0, np.ldexp(1.0, np.clip(exponent + 1, -1021, 1023)), 1.0)


def _sparse_variance(x: Sparse) -> Array:
    """Return the population variances of the columns of compressed rows."""
    n, columns = x.shape
    stored = np.bincount(x.indices, minlength=columns)
    first = np.zeros(columns)
    first[x.indices[::-1]] = x.data[::-1]
    # As in _moments, the first stored value is subtracted, so that equal values have no variance.
    data = x.data.astype(np.float64) - first[x.indices]
    others = np.where(stored < n, -first, 0.0)  # the value of the n − stored zeros
    mean = (np.bincount(x.indices, data, columns) + (n - stored) * others) / n
    data -= mean[x.indices]
    squares = np.bincount(x.indices, data * data, columns) + (n - stored) * (others - mean) ** 2
    return squares / n
