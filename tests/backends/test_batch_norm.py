"""Batch norm: gradients, and every instruction set against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.backends import choose, reference
from pynn.spec import BatchNorm, optimizers
from pynn.spec.architecture import Architecture
from tests.parity import (
    BF16_GRADIENT,
    Case,
    Problem,
    assert_follows_reference,
    assert_same_for_any_threads,
    compressed,
    instruction_set,
    mostly_zeros,
    objective,
    of_weights,
    problem,
    train,
)

_core = pytest.importorskip("pynn.backends.cython._core")

PLACES = [False, True]
"""Values of ``norm_after``."""


def normed(sizes: list[int], activation: Any = "relu", **more: Any) -> Architecture:
    return Architecture.build(sizes, activation, **{"norm": "batch", **more})


def started(net: Architecture, rows: int) -> Problem:
    """A problem whose scales are near 1, as those of a training."""
    given = problem(net, rows)
    for scale, *_ in filter(None, net.norm_views(given.parameters)):
        scale += 1
    return given


@pytest.mark.parametrize("backend", ["numpy", "cython"])
@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_gradients_agree_with_finite_differences(backend, after, residual):
    """Through the statistics of the batch; the bias before a batch norm has gradient 0 exactly."""
    net = normed(
        [4, 4, 5, 5, 3],
        ["tanh", "gelu", "softplus"],
        norm=[BatchNorm(epsilon=0.01), "rms", "batch"],
        norm_after=after,
        residual=residual,
        dtype="float64",
    )
    given, case, h = started(net, 9), Case(l2=0.1), 1e-6
    engine = choose.create(backend, net, 3)
    _, gradient = objective(engine, given, case)
    assert len(gradient) == net.n_parameters
    for i in range(net.n_parameters):
        both = []
        for step in (h, -h):
            moved = given.parameters.copy()
            moved[i] += step
            both.append(objective(engine, given._replace(parameters=moved), case)[0])
        assert gradient[i] == pytest.approx((both[0] - both[1]) / (2 * h), abs=2e-8)
    biases = net.views(gradient)[1]
    assert [bool((b == 0).all()) for b in biases] == [not after, False, not after, False]


@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_training_follows_the_reference(isa, dtype, after, residual):
    """Widths of 1, 3, 17 and 33 units, fewer rows in the last batch than threads, dropout."""
    more = {"norm_after": after, "residual": residual, "dtype": dtype}
    norm = ["batch", BatchNorm(0.3, 1e-3, False), "layer", "batch", None, "batch"]
    net = normed(
        [33, 33, 33, 17, 17, 3, 3, 2],
        ["relu", "gelu", "tanh", "elu", "relu", "softplus"],
        norm=norm,
        dropout=[0.2, 0, 0.1, 0.2, 0, 0],
        **more,
    )
    case = Case(batch_size=17, steps=20, rate=0.01, optimizer=optimizers.Momentum(), l2=0.01)
    given = started(net, 36)
    run = assert_follows_reference("cython", net, given, case)
    assert_same_for_any_threads(net, given, case, run, slices=2)
    assert not (run.parameters[net.n_parameters :] == given.parameters[net.n_parameters :]).any()
    net = normed([1, 1, 1, 2], "tanh", **more)
    case = Case(batch_size=3, steps=20, rate=0.02, optimizer=optimizers.AdamW(weight_decay=0.1))
    assert_follows_reference("cython", net, started(net, 11), case)


@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
def test_large_batches_frozen_and_wide_layers_follow_the_reference(isa, dtype, after):
    """A batch is not divided into chunks; frozen layers use and keep their running statistics; the
    moving average has its own."""
    net = normed([20, 40, 40, 3], dropout=0.2, norm_after=after, residual=True, dtype=dtype)
    case = Case(batch_size=1300, steps=3, rate=0.02, frozen=(1,), ema=0.9)
    given = started(net, 1499)
    run = assert_follows_reference("cython", net, given, case)
    views = zip(*map(net.running_views, (run.parameters, given.parameters)), strict=True)
    for k, (found, before) in enumerate(views):
        assert all((a == b).all() == (k == 1) for a, b in zip(found, before, strict=True))
    net = normed([33, 401, 401, 3], norm_after=after, dtype=dtype)
    case = Case(batch_size=31, steps=3, rate=0.01)
    run = assert_follows_reference("cython", net, started(net, 62), case)
    assert_same_for_any_threads(net, started(net, 62), case, run, slices=2)


def test_sparse_rows_and_narrow_layers_follow_the_reference(isa, dtype):
    net = normed([60, 5, 40, 3], dropout=0.1, dtype=dtype)
    given, case = mostly_zeros(net, 90), Case(batch_size=30, steps=20, rate=0.02)
    assert isinstance(given.x, np.ndarray)
    assert_follows_reference("cython", net, given, case)
    rows = compressed(given.x, np.random.default_rng(2), dtype)
    run = assert_follows_reference("cython", net, given._replace(x=rows), case)
    assert_same_for_any_threads(net, given._replace(x=rows), case, run, slices=2)


def test_more_threads_than_rows_give_the_same_results(dtype):
    net = normed([9, 64, 20, 3], dropout=0.2, norm_after=True, dtype=dtype)
    case = Case(batch_size=2, steps=12, rate=0.01)
    one = train("cython", net, started(net, 24), case.but(threads=1))
    for threads in (2, 5):
        many = train("cython", net, started(net, 24), case.but(threads=threads))
        assert many.parameters.tobytes() == one.parameters.tobytes()


@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
def test_predictions_use_the_running_statistics(isa, dtype, after):
    net = normed([9, 33, 5, 2], norm_after=after, dtype=dtype)
    given, engine = started(net, 600), _core.Engine(net, 2)
    for mean, variance in filter(None, net.running_views(given.parameters)):
        mean[...], variance[...] = 0.3, 1.7
    many = engine.forward(given.parameters, given.x)
    for count in (1, 3, 17):
        alone = engine.forward(given.parameters, given.x[:count])
        assert alone.tobytes() == many[:count].tobytes()
    want = reference.Engine(net).forward(given.parameters, given.x)
    np.testing.assert_allclose(many, want, rtol=0, atol=1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.skipif(not _core.info()["bf16"], reason="needs AVX512-BF16 or AMX")
def test_bf16_follows_the_reference():
    net = normed([60, 40, 40, 3], "tanh", precision="bf16")
    want = objective(reference.Engine(net), started(net, 90), Case())
    for isa in ("avx512", "amx"):
        if isa in _core.info()["isas"]:
            with instruction_set(isa):
                got = objective(_core.Engine(net, 2), started(net, 90), Case())
            assert got[0] == pytest.approx(want[0], rel=1e-5)
            # A product that is not rounded makes 5e-4.
            assert max(of_weights(net, got[1], want[1])) <= BF16_GRADIENT
