"""Training in the conventions of scikit-learn and with sample weights, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.backends import choose, reference
from pynn.backends.contract import Data
from pynn.spec import names, optimizers
from pynn.spec.architecture import Architecture
from tests.backends.test_gradients import SKLEARN_LOSSES
from tests.parity import (
    Case,
    assert_follows_reference,
    assert_same_for_any_threads,
    problem,
    some_weights,
    train,
)


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("convention", ["pynn", "sklearn"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("loss, kind, n_out", SKLEARN_LOSSES)
def test_conventions_and_sample_weights_follow_the_reference(
    isa, dtype, loss, kind, n_out, weighted, convention, optimizer
):
    net = Architecture.build([7, 19, 12, n_out], "tanh", None, loss, 0.1, dtype)
    given = problem(net, 45, kind)
    case = Case(
        steps=30,
        rate=0.02,
        l2=0.3,
        convention=convention,
        optimizer=optimizer,
        sample_weight=some_weights(45) if weighted else None,
    )
    run = assert_follows_reference("cython", net, given, case)
    assert_same_for_any_threads(net, given, case, run, slices=2)


@pytest.mark.parametrize("convention", names.CONVENTIONS)
def test_weights_of_a_batch_of_several_chunks_follow_the_reference(isa, dtype, convention):
    net = Architecture.build([20, 40, 3], "relu", dtype=dtype)
    case = Case(
        batch_size=1300,
        steps=6,
        rate=0.02,
        l2=0.1,
        convention=convention,
        sample_weight=some_weights(1499),
    )
    assert_follows_reference("cython", net, problem(net, 1499), case)


def test_losses_divided_by_the_number_of_rows_follow_the_reference(backend, dtype):
    """Also a batch without weight, which makes an update with a gradient of 0."""
    net = Architecture.build([7, 19, 12, 3], "tanh", dropout=0.1, dtype=dtype)
    given, weights = problem(net, 45), some_weights(45)
    weights[10:20] = 0
    case = Case(
        steps=30, rate=0.003, l1=0.01, l2=0.1, clip_norm=0.5, convention="keras",
        optimizer=optimizers.Adam(), sample_weight=weights, shuffle=False, watch=True,
    )  # fmt: skip
    assert_follows_reference(backend, net, given, case)
    # One batch of all rows: the loss and the sums.
    whole = case.but(batch_size=45, steps=1, optimizer=optimizers.SGD(), l1=0.0, clip_norm=0.0)
    run = train(backend, net, given, whole)
    dropless = Architecture.build([7, 19, 12, 3], "tanh", dtype=dtype)
    engine = choose.create(backend, dropless, 2)
    sums = engine.evaluate(given.parameters, given.x, given.y, weights)
    objective = engine.objective(Data(given.x, given.y, weights), case.but(l2=0.0).settings())
    loss, gradient = objective(given.parameters)
    assert loss == pytest.approx(sums.loss / 45, rel=1e-5)
    plain = case.but(convention="pynn", l2=0.0).settings()
    _, mean = engine.objective(Data(given.x, given.y, weights), plain)(given.parameters)
    np.testing.assert_allclose(gradient, mean * (weights.sum() / 45), rtol=1e-4, atol=1e-6)
    assert run.sums[0, 2] == 45
    assert run.sums[0, 1] == round(run.sums[0, 1])


def test_the_weight_of_a_batch_that_is_divided_by_rows():
    losses, dz = np.ones(4), np.ones((4, 2))
    weights = np.array([0.0, 1.0, 2.0, 6.0])
    found = reference.weigh(losses, dz, weights, "keras")
    assert found[2] == 4
    np.testing.assert_array_equal(found[0], weights)
    np.testing.assert_array_equal(found[1], np.stack([weights, weights], axis=1) / 4)


@pytest.mark.parametrize("units", [128, 256, 512])
def test_the_l2_term_of_the_loss_has_no_pads(isa, dtype, units):
    """Rows of whole KiB are padded by a vector more, which was never written; the layer after them
    is narrow."""
    for sizes, loss, kind in (
        ([3, units, 1], "binary_cross_entropy", "yes-no"),
        ([units, 3], "cross_entropy", "labels"),
    ):
        net = Architecture.build(sizes, "relu", loss=loss, dtype=dtype)
        case = Case(batch_size=16, steps=4, rate=0.01, l2=0.3, convention="sklearn")
        assert_follows_reference("cython", net, problem(net, 40, kind), case)
