"""Sparse rows and zeros that the compiled core skips: results, and when it skips which."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pynn.backends import reference
from pynn.backends.contract import Data
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.parity import (
    OPTIMIZERS,
    Case,
    Problem,
    assert_follows_reference,
    assert_identical,
    assert_same_for_any_threads,
    compressed,
    mostly_zeros,
    new_trainer,
    problem,
    train,
)

_core = pytest.importorskip("pynn.backends.cython._core")

# Adam with its usual epsilon divides the smallest gradients by themselves and magnifies rounding.
TAME = [optimizers.SGD(), optimizers.Momentum(), optimizers.Adam(epsilon=0.1)]


# --- The first layer ------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("batch_size", [1, 7, 130])
@pytest.mark.parametrize("units", [3, 16, 30, 48, 49, 130])
def test_mostly_zero_pixels_follow_the_reference(isa, dtype, units, batch_size, optimizer):
    """The first layer skips zeros. Its gradient is scattered if the layer is narrow, and for few
    rows of SGD without L2 directly into the weights."""
    net = Architecture.build([1100, units, 5], "tanh", dtype=dtype)
    parameters, _, y = problem(net, 150)
    rng = np.random.default_rng(units)
    x = rng.integers(1, 256, (150, 1100)).astype(np.uint8)
    x[rng.random(x.shape) > 0.03] = 0
    x[7], x[8:20, -1], x[9:30, 500:520] = 0, 255, 3  # an empty row, the last column, and runs
    given = Problem(parameters, x, y)
    l2 = 0.01 if optimizer.name == "adam" or units % 4 else 0.0
    case = Case(batch_size=batch_size, steps=25, rate=0.02, optimizer=optimizer, l2=l2)
    assert new_trainer(_core.Engine(net, 1), given, Case(batch_size=7)).sparse or units == 3
    run = assert_follows_reference("cython", net, given, case)
    assert_same_for_any_threads(net, given, case, run, slices=4)


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("batch_size", [7, 64, 200, 1100])
def test_zeros_of_x_are_skipped(backend, dtype, optimizer, batch_size):
    net = Architecture.build([150, 270, 5], "relu", dtype=dtype)
    given = mostly_zeros(net, 1150)
    if backend == "cython":
        assert new_trainer(_core.Engine(net, 2), given, Case(batch_size=9)).sparse
    case = Case(batch_size=batch_size, steps=7, optimizer=optimizer, rate=0.01, l2=0.01)
    run = assert_follows_reference(backend, net, given, case)
    for threads in (1, 5):
        assert_identical(train(backend, net, given, case.but(threads=threads)), run)


def test_skipping_zeros_of_x_does_not_change_outputs(isa, dtype):
    # Of eight rows no zeros are skipped; of one row and of many rows they are.
    net = Architecture.build([150, 270, 5], "tanh", dtype=dtype)
    parameters, x, _ = mostly_zeros(net, 40)
    engine = _core.Engine(net, 1)
    many = engine.forward(parameters, x)
    few = np.concatenate([engine.forward(parameters, x[i : i + 8]) for i in range(0, 40, 8)])
    alone = np.concatenate([engine.forward(parameters, row[None]) for row in x])
    assert few.tobytes() == many.tobytes() == alone.tobytes()


@pytest.mark.parametrize("stored", ["float32", "float64"])
@pytest.mark.parametrize("inputs, share", [(150, 0.1), (700, 0.005), (66_000, 0.001)])
@pytest.mark.parametrize("units", [5, 130])
def test_compressed_rows_follow_the_reference(isa, dtype, stored, inputs, share, units):
    if inputs > 1000 and (units > 100 or stored != dtype):
        pytest.skip("a large layer once for each dtype")
    net = Architecture.build([inputs, units, 5], "relu", dtype=dtype)
    parameters, x, y = problem(net, 120)
    rng = np.random.default_rng(2)
    x[rng.random(x.shape) > share] = 0
    x[7] = 0
    x[8:20, -1] = 1
    sparse = compressed(x, rng, stored)
    np.testing.assert_allclose(sparse.dense(slice(None), dtype), x, rtol=0, atol=1e-6)
    case = Case(batch_size=17, steps=20 if inputs < 1000 else 5, l2=0.01, rate=0.03)
    assert_follows_reference("cython", net, Problem(parameters, sparse, y), case)
    engine, ref = _core.Engine(net, 2), reference.Engine(net)
    for rows in (slice(0, 120), slice(3, 5)):
        found = engine.forward(parameters, compressed(x[rows], rng, stored))
        np.testing.assert_allclose(found, ref.forward(parameters, x[rows]), rtol=0, atol=1e-5)
    loss = engine.evaluate(parameters, sparse, y)[0]
    assert loss == pytest.approx(ref.evaluate(parameters, x, y)[0], rel=1e-5)


# --- Empty vectors of rows, in a narrow first layer -----------------------------------------------


@pytest.mark.parametrize("optimizer", TAME, ids=lambda o: o.name)
@pytest.mark.parametrize("batch_size", [9, 16, 33, 70, 1100])
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
def test_empty_vectors_of_rows_are_skipped(isa, dtype, source, batch_size, optimizer):
    width = {"avx512": 64, "avx2": 32}.get(isa, 16) // np.dtype(dtype).itemsize
    units = max(1, width - 1)
    net = Architecture.build([1100, units, 3], "tanh", dtype=dtype)
    rng = np.random.default_rng(batch_size)
    parameters, _, y = problem(net, 1150)
    x = rng.integers(1, 256, (1150, 2200)).astype(np.uint8)
    x[np.repeat(rng.random((1150, 22)) < 0.7, 100, axis=1)] = 0
    x[7], x[8:20, -5:], x[30:40] = 0, 255, 9
    x = (x / np.uint8(255)).astype(source) if source != np.uint8 else x
    x = x[:, ::-2] if batch_size == 33 else x[:, 1000:2100]
    given = Problem(parameters, x, y)
    trainer = new_trainer(_core.Engine(net, 1), given, Case(batch_size=batch_size))
    assert trainer.marked == (batch_size >= 16 and units > 1)
    l2 = 0.0 if batch_size == 33 else 0.01
    case = Case(batch_size=batch_size, steps=9, rate=0.01, optimizer=optimizer, l2=l2)
    run = assert_follows_reference("cython", net, given, case)
    assert_same_for_any_threads(net, given, case, run, slices=4)


def test_full_rows_wide_layers_and_predictions_are_not_marked():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 64).astype(np.int32)
    x = rng.integers(1, 256, (64, 800)).astype(np.uint8)
    empty = x.copy()
    empty[:, 100:] = 0
    for units, pixels, marked in ((3, empty, True), (3, x, False), (200, empty, False)):
        net = Architecture.build([800, 3] if units == 3 else [800, units, 3], "tanh")
        given = Problem(problem(net, 64).parameters, pixels, y)
        case = Case(batch_size=64, shuffle=False)
        assert new_trainer(_core.Engine(net, 1), given, case).marked == marked
    net = Architecture.build([800, 3], "tanh")
    parameters = problem(net, 64).parameters
    parameters[-5] = np.nan  # a weight whose pixel is zero in all rows
    assert np.isnan(_core.Engine(net, 1).forward(parameters, empty)).any(axis=1).all()


# --- Hidden layers --------------------------------------------------------------------------------


@pytest.fixture
def usual_costs():
    """Fixed costs of skipping, so that no measurement decides which zeros are skipped."""
    before = {dtype: _core.skipping_costs(dtype) for dtype in ("float32", "float64")}
    for dtype in before:
        _core.skipping_costs(dtype, (1.3, 0.5))
    yield
    for dtype, costs in before.items():
        _core.skipping_costs(dtype, costs)


def test_costs_of_skipping_are_measured_once_and_in_bounds(isa, dtype):
    product, listing = _core.skipping_costs(dtype)
    assert 1 <= product <= 4
    assert 0.1 <= listing <= 4
    assert _core.skipping_costs(dtype) == (product, listing)


@pytest.mark.parametrize("costs, skips", [((1.0, 0.1), True), ((4.0, 4.0), False)])
def test_hidden_zeros_are_skipped_if_that_costs_little(dtype, usual_costs, costs, skips):
    _core.skipping_costs(dtype, costs)
    net = Architecture.build([40, 256, 256, 5], "tanh", dropout=0.5, dtype=dtype)
    trainer = new_trainer(_core.Engine(net, 1), problem(net, 64), Case(batch_size=64))
    trainer.steps(0, 0, [0.01], 0)
    assert trainer.skips[1] == (skips, skips)


@pytest.mark.parametrize(
    "batch_size, optimizer",
    [(16, TAME[0]), (16, TAME[2]), (33, TAME[1]), (70, TAME[2]), (1100, TAME[0])],
    ids=lambda value: getattr(value, "name", value),
)
def test_zeros_of_hidden_layers_are_skipped(isa, usual_costs, dtype, optimizer, batch_size):
    """Those of dropout and of relu, once they have been counted; no result depends on it."""
    net = Architecture.build(
        [40, 130, 97, 300, 5], ["relu", "tanh", "relu"], dropout=[0.6, 0.8, 0.7], dtype=dtype
    )
    given = problem(net, 1150)
    l2 = 0.0 if batch_size == 33 else 0.01
    case = Case(batch_size=batch_size, steps=19, optimizer=optimizer, rate=0.003, l2=l2)
    run = assert_follows_reference("cython", net, given, case)
    assert_same_for_any_threads(net, given, case, run, slices=3)

    # A new trainer has counted nothing yet: its first step skips none.
    parameters = given.parameters.copy()
    state = [np.zeros_like(parameters) for _ in range(optimizer.slots)]
    data = Data(given.x, given.y)
    in_epoch = -(-1150 // batch_size)
    for done in range(case.steps):
        trainer = _core.Engine(net, 2).trainer(parameters, state, data, case.settings())
        assert not any(map(any, trainer.skips))
        trainer.steps(*divmod(done, in_epoch), case.rates(done, 1), done)
        trainer.store()
        # Few rows are multiplied by wᵀ without a transpose of it, and then with their zeros.
        dz = batch_size > 32
        assert trainer.skips[1:3] == [(True, dz or found) for _, found in trainer.skips[1:3]]
    for g, a in zip(run.vectors, (parameters, *state), strict=True):
        assert g.tobytes() == a.tobytes()


def test_zeros_of_hidden_layers_are_counted_repeatedly(usual_costs):
    """Whether or not a call makes one step."""
    net = Architecture.build([3, 130, 130, 3], "relu")
    parameters, _, y = problem(net, 60 * 16)
    x = np.ones((60 * 16, 3), np.float32)
    x[20 * 16 : 50 * 16] = -1  # with weights above zero, relu is 0 in every unit
    given = Problem(np.abs(parameters), x, y)
    for count in (1, 4):
        trainer = new_trainer(_core.Engine(net, 2), given, Case(batch_size=16, shuffle=False))
        found = []
        for step in range(0, 60, count):
            trainer.steps(0, step, [1e-9] * count, step)
            found += [trainer.skips[1][0]] * count
        assert not any(found[:20] + found[52:])
        assert all(found[38:48])


ALWAYS, NEVER = (1.0, -1e9), (1.0, 1e9)
"""Costs with which the zeros of hidden layers are always skipped, and never."""


def test_measured_costs_do_not_change_results(isa, usual_costs, dtype):
    """Costs are measured, and differ between two runs of a program: the kernels that they choose
    between give identical results, with every optimizer, convention, kind of zeros and part."""
    cases = [
        ([20, 600, 512, 4], "relu", 0.0, 230, 64, "sklearn"),
        ([40, 130, 97, 300, 5], "relu", 0.5, 150, 33, "pynn"),
        ([5, 71, 1, 66, 2], ["relu", "tanh", "relu"], [0.0, 0.0, 0.9], 90, 16, "pynn"),
        ([7, 33, 130, 3], ["leaky_relu", "relu"], [0.7, 0.0], 400, 200, "sklearn"),
    ]
    for (optimizer, rate), k in zip(OPTIMIZERS, itertools.cycle(range(len(cases)))):
        sizes, activation, dropout, rows, batch_size, convention = cases[k]
        net = Architecture.build(sizes, activation, dropout=dropout, dtype=dtype)
        given = problem(net, rows)
        case = Case(
            batch_size=batch_size, steps=4, optimizer=optimizer, rate=0.3 * rate, l2=0.01,
            convention=convention, threads=1,
        )  # fmt: skip
        runs = []
        for costs, threads in ((ALWAYS, 1), (NEVER, 1), (ALWAYS, 3), ((1.3, 0.5), 1)):
            _core.skipping_costs(dtype, costs)
            runs.append(train("cython", net, given, case.but(threads=threads)))
        for run in runs[1:]:
            assert_identical(run, runs[0])


@pytest.mark.parametrize(
    "sizes, dropout, batch_size",
    [
        ([20, 200, 200, 3], 0.1, 64),
        ([20, 300, 5, 3], [0.9, 0.0], 64),
        ([20, 200, 200, 3], 0.9, 9),
    ],
    ids=["few zeros", "a narrow layer", "few rows"],
)
def test_zeros_of_hidden_layers_are_not_skipped(usual_costs, sizes, dropout, batch_size):
    net = Architecture.build(sizes, "tanh", dropout=dropout)
    trainer = new_trainer(_core.Engine(net, 2), problem(net, 300), Case(batch_size=batch_size))
    trainer.steps(0, 0, [0.01] * 4, 0)
    assert not any(map(any, trainer.skips))
