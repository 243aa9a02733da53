"""Residual layers: a hidden layer adds its input to its output where widths agree."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.arrays.standard import Standard, Standardized
from pynn.backends import choose, reference
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.parity import (
    Case,
    Problem,
    assert_follows_reference,
    assert_same_for_any_threads,
    compressed,
    mostly_zeros,
    objective,
    problem,
)

_core = pytest.importorskip("pynn.backends.cython._core")


def residual(sizes: list[int], activation: object = "relu", **more: object) -> Architecture:
    return Architecture.build(sizes, activation, residual=True, **more)  # type: ignore[arg-type]


def test_the_outputs_are_those_of_the_formula():
    net = residual([4, 4, 4, 3, 2], ["tanh", "gelu", "relu"], dtype="float64")
    assert net.residual == (True, True, False, False)
    parameters, x, _ = problem(net, 7)
    (w, b), h = net.views(parameters), x
    for k in range(3):
        a = reference.activation_of(net, k, h @ w[k] + b[k])
        h = h + a if k < 2 else a
    want = reference.activation_of(net, 3, h @ w[3] + b[3])
    np.testing.assert_allclose(reference.Engine(net).forward(parameters, x), want, rtol=1e-14)


def test_gradients_agree_with_finite_differences(backend):
    """Activations whose slope is computed from f(z) and from z, and consecutive layers."""
    net = residual([4, 4, 4, 5, 5, 3], ["tanh", "gelu", "softplus", "sigmoid"], dtype="float64")
    given, case, h = problem(net, 9), Case(l2=0.1), 1e-6
    engine = choose.create(backend, net, 2)
    _, gradient = objective(engine, given, case)
    for i in range(net.n_parameters):
        both = []
        for step in (h, -h):
            moved = given.parameters.copy()
            moved[i] += step
            both.append(objective(engine, given._replace(parameters=moved), case)[0])
        assert gradient[i] == pytest.approx((both[0] - both[1]) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("activation", ["relu", "gelu", "elu"])
@pytest.mark.parametrize(
    "sizes", [[1, 1, 1, 2], [3, 3, 3, 3, 3], [17, 33, 33, 17, 17, 2], [64, 64, 64, 64, 5]]
)
def test_training_follows_the_reference(backend, dtype, sizes, activation):
    net = residual(sizes, activation, dropout=0.2, dtype=dtype)
    case = Case(optimizer=optimizers.Adam(), rate=0.003, batch_size=17, steps=20)
    run = assert_follows_reference(backend, net, problem(net, 60), case)
    if backend == "cython":
        assert_same_for_any_threads(net, problem(net, 60), case, run, slices=2)


def test_frozen_layers_and_batches_of_several_chunks_follow_the_reference(backend, dtype):
    net = residual([12, 12, 12, 12, 3], "tanh", dropout=0.1, dtype=dtype)
    case = Case(batch_size=1300, steps=4, rate=0.05, frozen=(0, 2), l2=0.1)
    assert_follows_reference(backend, net, problem(net, 1499), case)


@pytest.mark.parametrize("batch_size", [1, 31])
def test_wide_layers_shared_by_columns_follow_the_reference(isa, dtype, batch_size):
    net = residual([33, 401, 401, 401, 3], dropout=0.2, dtype=dtype)
    given = problem(net, 62)
    case = Case(batch_size=batch_size, steps=4, rate=0.01, optimizer=optimizers.Momentum())
    run = assert_follows_reference("cython", net, given, case)
    assert_same_for_any_threads(net, given, case, run, slices=2)


def test_sparse_and_standardized_rows_follow_the_reference(isa, dtype):
    net = residual([40, 40, 40, 3], dropout=0.1, dtype=dtype)
    given, case = mostly_zeros(net, 90), Case(batch_size=30, steps=20, rate=0.05)
    assert isinstance(given.x, np.ndarray)
    assert_follows_reference("cython", net, given, case)
    rows = compressed(given.x, np.random.default_rng(2), dtype)
    run = assert_follows_reference("cython", net, given._replace(x=rows), case)
    assert_same_for_any_threads(net, given._replace(x=rows), case, run, slices=2)
    standard = Standard.of(np.zeros(40), given.x.std(axis=0) + 0.5)
    for x in (rows, given.x):
        scaled = Problem(given.parameters, Standardized(x, standard), given.y)  # type: ignore[arg-type]
        assert_follows_reference("cython", net, scaled, case)


@pytest.mark.skipif(not _core.info()["bf16"], reason="needs AVX512-BF16 or AMX")
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_the_input_that_is_added_is_not_rounded(sparse):
    net = residual([40, 40, 40, 3], dropout=0.1, precision="bf16")
    given = mostly_zeros(net, 90)
    assert isinstance(given.x, np.ndarray)
    x = compressed(given.x, np.random.default_rng(2), "float32") if sparse else given.x
    zero = given._replace(x=x, parameters=0 * given.parameters)
    last = net.views(zero.parameters)[0][-1]
    last[...] = np.eye(*last.shape)  # narrow, so not rounded
    got = _core.Engine(net, 2).forward(zero.parameters, x)
    assert got.tobytes() == _core.Engine(net, 2).forward(zero.parameters, x).tobytes()
    want = reference.Engine(net).forward(zero.parameters, x)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert_follows_reference(
        "cython", net, given._replace(x=x), Case(batch_size=30, steps=10, rate=0.02)
    )


@pytest.mark.parametrize("sizes", [[4, 5, 6, 2], [4, 4]])
def test_sizes_without_an_equal_pair_are_refused(sizes):
    with pytest.raises(ValueError, match="residual: found True with sizes"):
        residual(sizes)
    with pytest.raises(TypeError, match="residual: found 1, expected True or False"):
        Architecture.build([4, 4, 2], residual=1)  # type: ignore[arg-type]
