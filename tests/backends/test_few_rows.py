"""A row gets the same outputs and the same loss alone, among many rows, and without its zeros."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.arrays.sparse import Sparse
from pynn.backends import choose
from pynn.backends.contract import Engine
from pynn.spec.architecture import Architecture
from tests.parity import problem

WIDTHS = range(1, 71)
SHARES = (1.0, 0.5, 0.15, 0.02)
"""Shares of the inputs that are not zero. Lists of them, marks and dense products take turns."""

Array = np.ndarray


def rows_of(n_in: int, rows: int, share: float, dtype: str, seed: int) -> tuple[Array, Array]:
    """uint8 pixels (rows, n_in) of which ``share`` are not zero, and the same values as floats."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 256, (rows, n_in)).astype(np.uint8)
    pixels[rng.random((rows, n_in)) >= share] = 0
    return pixels, pixels.astype(dtype) * np.dtype(dtype).type(1 / 255)


def compressed(x: Array) -> Sparse:
    """x in compressed rows."""
    starts = np.concatenate([[0], np.count_nonzero(x, axis=1).cumsum()])
    columns = np.nonzero(x)[1].astype(np.int32)
    return Sparse(x[x != 0], columns, starts.astype(np.int64), x.shape)


def counts_for(width: int) -> list[int]:
    """Numbers of rows: those around the limits of the choices, and one that depends on width."""
    return [1, 2, 3, 15 + width % 3, 4 + width % 11]


def assert_alike(engine: Engine, forms: dict[str, Array | Sparse], counts: list[int]) -> None:
    """Assert that every form of x, and the first rows of each, have identical outputs."""
    net = engine.net
    parameters = problem(net, 1, seed=net.n_in).parameters
    many = engine.forward(parameters, forms["floats"])
    for form, x in forms.items():
        assert engine.forward(parameters, x).tobytes() == many.tobytes(), (net.sizes, form)
        for count in counts:
            few = (
                Sparse(x.data, x.indices, x.indptr[: count + 1], (count, x.shape[1]))
                if isinstance(x, Sparse)
                else x[:count]
            )
            found = engine.forward(parameters, few)
            assert found.tobytes() == many[:count].tobytes(), (net.sizes, form, count)


def assert_width(backend: str, width: int, dtype: str, share: float, counts: list[int]) -> None:
    """Check layers of this width, as the first layer of a network and as another."""
    n_in = 1 + width * 37 % 101
    for sizes in ([n_in, width], [n_in + 700 * (width % 9 == 0), width, 1 + width % 16]):
        net = Architecture.build(sizes, "tanh", "identity", "mse", dtype=dtype)
        pixels, floats = rows_of(sizes[0], 70, share, dtype, width)
        forms: dict[str, Array | Sparse] = {"pixels": pixels, "floats": floats}
        if backend == "cython":
            forms["compressed"] = compressed(floats)
        for threads in (1, 2) if width % 10 == 0 else (1,):
            assert_alike(choose.create(backend, net, threads), forms, counts)


def test_few_rows_get_the_outputs_of_many_at_every_width(backend, dtype):
    for width in WIDTHS:
        assert_width(backend, width, dtype, SHARES[width % len(SHARES)], counts_for(width))


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_any_number_of_rows_gets_the_outputs_of_many_at_every_width(backend, dtype, share):
    for width in WIDTHS:
        assert_width(backend, width, dtype, share, list(WIDTHS))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse", "poisson"])
def test_the_loss_of_a_row_does_not_depend_on_the_other_rows(backend, dtype, loss):
    """The sum of the losses of single rows, in order, is the loss of all of them."""
    for width in (1, 2, 3, 5, 8, 10, 15, 16, 33, 64):
        if loss == "cross_entropy" and width == 1:
            continue
        output = {"mse": "identity"}.get(loss)
        net = Architecture.build([20, width], "tanh", output, loss, dtype=dtype)
        kind = {"cross_entropy": "labels", "poisson": "counts"}.get(loss, "yes-no")
        parameters, x, y = problem(net, 40, kind)
        engine = choose.create(backend, net, 1)
        alone = np.array(
            [engine.evaluate(parameters, x[i : i + 1], y[i : i + 1]) for i in range(40)]
        )
        expected = np.zeros(alone.shape[1])
        for row in alone:
            expected += row
        np.testing.assert_array_equal(engine.evaluate(parameters, x, y), expected)
