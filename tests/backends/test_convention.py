"""Training in the conventions of scikit-learn and with sample weights, against the reference."""

from __future__ import annotations

import pytest

from pynn.spec import names, optimizers
from pynn.spec.architecture import Architecture
from tests.backends.test_gradients import SKLEARN_LOSSES
from tests.parity import (
    Case,
    assert_follows_reference,
    assert_same_for_any_threads,
    problem,
    some_weights,
)


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("convention", names.CONVENTIONS)
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
