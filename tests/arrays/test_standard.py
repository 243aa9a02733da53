"""Means and scales of columns, against NumPy's extended precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.arrays.sparse import Sparse
from pynn.arrays.standard import Standard, column_standard

RNG = np.random.default_rng(3)


def exact(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and population standard deviations, 1 for 0, in extended precision."""
    values = x.astype(np.longdouble)
    mean = values.mean(axis=0)
    deviation = np.sqrt(((values - mean) ** 2).mean(axis=0))
    return mean, np.where(deviation > 0, deviation, 1)


def same(a: Standard, b: Standard) -> bool:
    return a.mean.tobytes() == b.mean.tobytes() and a.scale.tobytes() == b.scale.tobytes()


HARD: dict[str, np.ndarray] = {
    "large mean": RNG.normal(1e9, 1e-3, (5000, 3)),
    "a million rows": RNG.normal(5, 2, (1_000_000, 2)),
    "one column": RNG.exponential(size=(100_000, 1)),
    "one row": RNG.normal(size=(1, 4)),
    "constant": np.full((777, 3), 0.1),
    "large and small": RNG.normal(size=(5000, 4)) * [1e-200, 1e-9, 1e150, 1e200],
    "a first row far away": np.concatenate([[[1e6, -1e6]], RNG.normal(size=(9999, 2))]),
    "ends of float64": np.tile([[1.7e308, 1.0], [-1.7e308, 2.0]], (50, 1)),
    "float32": RNG.normal(1e4, 1, (30_000, 3)).astype(np.float32),
    "wide": RNG.normal(size=(5, 40_000)),
}


@pytest.mark.parametrize("name", HARD)
def test_statistics_of_hard_data(name: str) -> None:
    x = HARD[name]
    found, (mean, scale) = column_standard(x), exact(x)
    np.testing.assert_allclose(found.scale, scale.astype(float), rtol=1e-11)
    assert (np.abs(found.mean - mean) <= 1e-12 * (np.abs(mean) + scale)).all()


def test_constant_columns_become_zeros() -> None:
    x = RNG.normal(size=(20_000, 3))
    x[:, 1] = 0.1
    found = column_standard(x)
    assert found.mean[1] == 0.1
    assert found.scale[1] == 1


def test_the_column_that_rounding_changes_most() -> None:
    found = Standard.of(np.array([1e5, 3e5, 0.0]), np.array([0.1, 0.1, 1e-9]))
    assert found.too_fine_for("float32") == 1
    assert found.too_fine_for("float64") is None


def test_deviations_without_a_reciprocal() -> None:
    """Their scale is 1, so that no input becomes infinite."""
    found = column_standard(np.array([[1e-310], [2e-310]]))
    assert found.scale[0] == 1


def test_storage_does_not_change_the_statistics() -> None:
    x = RNG.normal(size=(9000, 6)).astype(np.float32)
    expected = column_standard(x)
    wide = np.zeros((9000, 12))
    wide[:, ::2] = x
    for other in (x.astype(np.float64), np.asfortranarray(x), wide[:, ::2], x[::-1].copy()[::-1]):
        assert same(column_standard(other), expected)


def test_bytes_count_as_value_over_255() -> None:
    x = RNG.integers(0, 256, (5000, 5), dtype=np.uint8)
    assert same(column_standard(x), column_standard(x * (1 / 255)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_rows(dtype: str) -> None:
    """The deviations are those of all entries, with the zeros."""
    sparse: Any = pytest.importorskip("scipy.sparse")
    x = RNG.normal(3, 1, (3000, 6)) * (RNG.random((3000, 6)) < 0.2)
    x[:, 1], x[:, 2], x[:, 3] = 0.1, 0, 0
    x[7, 3] = 5
    x = x.astype(dtype)
    found = column_standard(Sparse.of(sparse.csr_array(x)))
    np.testing.assert_allclose(found.scale, exact(x)[1].astype(float), rtol=1e-11)
    assert (found.mean == 0).all()
    assert found.scale[1] == found.scale[2] == 1


def test_values_that_float64_cannot_sum_up() -> None:
    with pytest.raises(OverflowError, match="1"):
        column_standard(np.array([[0, np.inf], [1, 2]]))
