"""Compressed rows of a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .vectors import cast


@dataclass(frozen=True, eq=False)
class Sparse:
    """Compressed rows of a sparse matrix.

    Parameters
    ----------
    data
        Stored values (nnz,), float32 or float64, contiguous.
    indices
        Their columns (nnz,), int32, each in 0 … shape[1] − 1, increasing within a row, contiguous.
    indptr
        Index of each row's first value (rows + 1,), int64, not decreasing, contiguous.
    shape
        (rows, columns).
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @staticmethod
    def of(matrix: Any, name: str = "x") -> Sparse:
        """Convert a sparse matrix or array of SciPy, without a copy if its format fits.

        Integers and booleans become float64.

        Raises
        ------
        ValueError
            If its arrays are inconsistent.
        """
        # SciPy's conversions do not check indices; a wrong one would read out of bounds.
        try:
            fresh = _checked(matrix)
            if fresh.format != "csr":
                fresh = _checked(fresh.tocsr())
        except ValueError as error:
            raise ValueError(f"{name}: found a broken sparse matrix: {error}") from error
        if not fresh.has_canonical_format:
            fresh = fresh.copy()
            fresh.sum_duplicates()
        data = fresh.data
        if data.dtype not in (np.float32, np.float64):
            data = cast(data, np.float64)
        return Sparse(
            np.ascontiguousarray(data),
            np.ascontiguousarray(fresh.indices, dtype=np.int32),
            np.ascontiguousarray(fresh.indptr, dtype=np.int64),
            fresh.shape,
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, mask: np.ndarray) -> Sparse:
        """Return the rows for which a mask (rows,) is true."""
        counts = np.diff(self.indptr)
        stored = np.repeat(mask, counts)
        indptr = np.concatenate([[0], np.cumsum(counts[mask])])
        shape = len(indptr) - 1, self.shape[1]
        return Sparse(self.data[stored], self.indices[stored], indptr, shape)

    def dense(self, rows: np.ndarray | slice, dtype: str) -> np.ndarray:
        """Return some rows as a dense array (rows, columns)."""
        chosen = np.arange(len(self))[rows]
        out = np.zeros((len(chosen), self.shape[1]), dtype)
        for row, i in zip(out, chosen, strict=True):
            part = slice(self.indptr[i], self.indptr[i + 1])
            row[self.indices[part]] = self.data[part]
        return out


def _checked(matrix: Any) -> Any:
    """Return a matrix of SciPy, or raise ValueError if an index is out of range."""
    if matrix.format in ("csr", "csc", "bsr"):
        # A new matrix has no cached flags, such as has_sorted_indices, that could be wrong.
        parts = matrix.data, matrix.indices, matrix.indptr
        matrix = type(matrix)(parts, shape=matrix.shape, copy=False)
        matrix.check_format(full_check=True)
    elif matrix.format == "coo":
        for indices, size in zip((matrix.row, matrix.col), matrix.shape, strict=True):
            if len(indices) != len(matrix.data):
                raise ValueError(f"{len(matrix.data)} values and {len(indices)} indices")
            if len(indices) and not 0 <= indices.min() <= indices.max() < size:
                raise ValueError(f"indices from {indices.min()} to {indices.max()} of {size}")
    return matrix
