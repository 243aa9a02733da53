"""Matrices of scipy.sparse as rows to train on."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.arrays.sparse import Sparse

sparse = pytest.importorskip("scipy.sparse")


@pytest.fixture
def x() -> np.ndarray:
    """(20, 30), four of five values zero."""
    x = np.random.default_rng(0).random((20, 30))
    return x * (np.random.default_rng(1).random((20, 30)) < 0.2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_not_copied(x: np.ndarray, dtype: type) -> None:
    matrix = sparse.csr_matrix(x.astype(dtype))
    taken = Sparse.of(matrix)
    assert np.shares_memory(taken.data, matrix.data)
    assert (taken.dense(slice(None), dtype) == x.astype(dtype)).all()


def test_integers_become_floats(x: np.ndarray) -> None:
    counts = Sparse.of(sparse.csr_array((x > 0).astype(np.int32)))
    assert (counts.dense(slice(2, 9), "float32") == (x > 0)[2:9]).all()


def test_columns_in_any_order_and_twice_are_added_up() -> None:
    matrix = sparse.csr_matrix(([1.0, 2.0, 4.0, 8.0], [3, 1, 3, 0], [0, 3, 4]), shape=(2, 5))
    matrix.has_canonical_format = True  # which is wrong
    dense = Sparse.of(matrix).dense(slice(None), "float64")
    assert dense.tolist() == [[0, 2, 0, 5, 0], [8, 0, 0, 0, 0]]
    assert matrix.nnz == 4


@pytest.mark.parametrize("damaged", ["indices", "indptr"])
@pytest.mark.parametrize("value", [10**6, -1])
def test_a_damaged_matrix_is_refused(x: np.ndarray, damaged: str, value: int) -> None:
    matrix = sparse.csr_matrix(x)
    getattr(matrix, damaged)[2] = value
    with pytest.raises(ValueError, match="sparse|index|indices"):
        Sparse.of(matrix)
