"""Layer norm and rms norm: formulas, gradients, and every backend against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.backends import choose, reference
from pynn.spec import LayerNorm, RMSNorm, optimizers
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
)

_core = pytest.importorskip("pynn.backends.cython._core")

PLACES = [False, True]
"""Values of ``norm_after``."""


def normed(sizes: list[int], activation: Any = "relu", **more: Any) -> Architecture:
    return Architecture.build(sizes, activation, **{"norm": "layer", **more})


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
    """Of all parameters, with activations whose slope is computed from f(z) and from z."""
    net = normed(
        [4, 4, 5, 5, 3],
        ["tanh", "gelu", "softplus"],
        norm=[LayerNorm(0.01), RMSNorm(0.1), "layer"],
        norm_after=after,
        residual=residual,
        dtype="float64",
    )
    given, case, h = started(net, 9), Case(l2=0.1), 1e-6
    engine = choose.create(backend, net, 2)
    _, gradient = objective(engine, given, case)
    for i in range(net.n_parameters):
        both = []
        for step in (h, -h):
            moved = given.parameters.copy()
            moved[i] += step
            both.append(objective(engine, given._replace(parameters=moved), case)[0])
        assert gradient[i] == pytest.approx((both[0] - both[1]) / (2 * h), abs=2e-8)


@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
def test_gradients_with_dropout_agree_with_finite_differences(after):
    """Of the passes of the reference, with fixed masks."""
    net = normed(
        [3, 5, 5, 2], "elu", norm=["layer", "rms"], norm_after=after, residual=True, dtype="float64"
    )
    given, rng = started(net, 6), np.random.default_rng(2)
    masks = [(rng.random((6, 5)) < 0.7) / 0.7 for _ in range(2)]
    no_running: list[list[np.ndarray]] = [[], [], []]

    def loss(parameters: np.ndarray) -> tuple[float, list[np.ndarray], list[np.ndarray], Any]:
        (w, b), scales = net.views(parameters), net.norm_views(parameters)
        hs, zs = reference.forward(net, w, b, scales, no_running, given.x, masks)
        losses, dz = reference.loss_and_output_gradient(net, zs[-1], given.y)
        return float(losses.mean()), hs, zs, dz / len(losses)

    _, hs, zs, dz = loss(given.parameters)
    gradient = np.empty_like(given.parameters)
    scales, parts = net.norm_views(given.parameters), net.views(gradient)
    weights = net.views(given.parameters)[0]
    reference.backward(
        *(net, weights, scales, no_running, hs, zs, dz, masks), *parts, net.norm_views(gradient)
    )
    for i in range(net.n_parameters):
        up, down = given.parameters.copy(), given.parameters.copy()
        up[i] += 1e-6
        down[i] -= 1e-6
        assert gradient[i] == pytest.approx((loss(up)[0] - loss(down)[0]) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("norm", [LayerNorm(), RMSNorm(1e-3)], ids=lambda norm: norm.name)
@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_training_follows_the_reference(isa, dtype, norm, after, residual):
    """Widths of 1, 3, 17 and 33 units, fewer rows in the last batch than threads, dropout."""
    more = {"norm": norm, "norm_after": after, "residual": residual, "dtype": dtype}
    sizes = [33, 33, 33, 17, 17, 3, 3, 2]
    activations = ["relu", "gelu", "tanh", "elu", "relu", "softplus"]
    net = normed(sizes, activations, dropout=[0.2, 0, 0.1, 0.2, 0, 0], **more)
    case = Case(batch_size=17, steps=20, rate=0.02, optimizer=optimizers.Momentum(), l2=0.01)
    run = assert_follows_reference("cython", net, started(net, 36), case)
    assert_same_for_any_threads(net, started(net, 36), case, run, slices=2)
    net = normed([1, 1, 1, 2], "tanh", **more)
    case = Case(batch_size=3, steps=20, rate=0.02, optimizer=optimizers.AdamW(weight_decay=0.1))
    assert_follows_reference("cython", net, started(net, 10), case)


@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
def test_chunks_frozen_layers_and_wide_layers_follow_the_reference(isa, dtype, after):
    net = normed([20, 40, 40, 3], dropout=0.2, norm_after=after, residual=True, dtype=dtype)
    case = Case(batch_size=1300, steps=3, rate=0.02, frozen=(1,))
    run = assert_follows_reference("cython", net, started(net, 1499), case)
    start = started(net, 1499).parameters
    for k, (found, before) in enumerate(
        zip(net.norm_views(run.parameters), net.norm_views(start), strict=True)
    ):
        assert all((a == b).all() == (k == 1) for a, b in zip(found, before, strict=True))
    net = normed([33, 401, 401, 3], norm=["rms", "layer"], norm_after=after, dtype=dtype)
    for size in (1, 31):
        case = Case(batch_size=size, steps=3, rate=0.01)
        run = assert_follows_reference("cython", net, started(net, 62), case)
        assert_same_for_any_threads(net, started(net, 62), case, run, slices=2)


def test_sparse_rows_follow_the_reference(isa, dtype):
    net = normed([60, 40, 3], dropout=0.1, dtype=dtype)
    given, case = mostly_zeros(net, 90), Case(batch_size=30, steps=20, rate=0.02)
    assert isinstance(given.x, np.ndarray)
    assert_follows_reference("cython", net, given, case)
    rows = compressed(given.x, np.random.default_rng(2), dtype)
    assert_follows_reference("cython", net, given._replace(x=rows), case)


@pytest.mark.skipif(not _core.info()["bf16"], reason="needs AVX512-BF16 or AMX")
@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
def test_bf16_follows_the_reference(after):
    net = normed([60, 40, 40, 3], "tanh", norm_after=after, precision="bf16")
    want = objective(reference.Engine(net), started(net, 90), Case())
    for isa in ("avx512", "amx"):
        if isa in _core.info()["isas"]:
            with instruction_set(isa):
                got = objective(_core.Engine(net, 2), started(net, 90), Case())
            assert got[0] == pytest.approx(want[0], rel=1e-5)
            # A product that is not rounded makes 5e-4.
            assert max(of_weights(net, got[1], want[1])) <= BF16_GRADIENT


@pytest.mark.parametrize("after", PLACES, ids=["before", "after"])
def test_a_row_gets_the_same_outputs_alone_and_among_others(isa, dtype, after):
    net = normed([9, 33, 5, 2], norm_after=after, dtype=dtype)
    given, engine = started(net, 600), _core.Engine(net, 2)
    many = engine.forward(given.parameters, given.x)
    for count in (1, 3, 17):
        alone = engine.forward(given.parameters, given.x[:count])
        assert alone.tobytes() == many[:count].tobytes()
    want = reference.Engine(net).forward(given.parameters, given.x)
    np.testing.assert_allclose(many, want, rtol=0, atol=1e-5 if dtype == "float32" else 1e-13)


def test_numba_refuses_it():
    if choose.available()["numba"]:
        pytest.skip("needs numba")
    with pytest.raises(ValueError, match="'numba', which does not support normalisation"):
        choose.create("numba", normed([3, 4, 2]), 1)


@pytest.mark.parametrize(
    "norm, error, match",
    [
        ("batchnorm", ValueError, "norm: found 'batchnorm', expected one of layer, rms"),
        (["layer"], ValueError, "norm: found 1 values, expected one or 2"),
        (["layer", "rmsnorm"], ValueError, r"norm\[1\]: found 'rmsnorm'"),
        (LayerNorm, TypeError, "norm: found"),
        (3, TypeError, "norm: found 3, expected None, a name"),
    ],
)
def test_other_values_are_refused(norm, error, match):
    with pytest.raises(error, match=match):
        normed([3, 4, 4, 2], norm=norm)


def test_norm_after_needs_a_norm_and_epsilon_a_number():
    with pytest.raises(ValueError, match="norm_after: found True without norm"):
        Architecture.build([3, 4, 2], norm_after=True)
    # Without hidden layers there is nothing to normalise.
    assert Architecture.build([3, 2], norm="rms", norm_after=True, hidden_noise=0.1) == (
        Architecture.build([3, 2])
    )
    with pytest.raises(ValueError, match=r"LayerNorm\.epsilon: found 0"):
        LayerNorm(0)
