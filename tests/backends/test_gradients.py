"""Outputs, losses and gradients of every compiled backend against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.backends import choose, reference
from pynn.backends.contract import Data
from pynn.spec.architecture import Architecture
from tests.parity import ACTIVATIONS, Case, objective, problem, some_weights

_core = pytest.importorskip("pynn.backends.cython._core")

SKLEARN_LOSSES = [
    ("cross_entropy", "labels", 5),
    ("cross_entropy", "labels", 21),
    ("binary_cross_entropy", "yes-no", 1),
    ("binary_cross_entropy", "yes-no", 18),
    ("mse", "values", 1),
    ("mse", "values", 18),
    ("poisson", "counts", 1),
    ("poisson", "counts", 18),
]


@pytest.mark.parametrize("rows", [1, 5, 1500])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_forward_evaluate_and_gradient_follow_the_reference(backend, dtype, rows, threads):
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for kind, loss in (("labels", "cross_entropy"), ("soft", "cross_entropy"), ("values", "mse")):
        net = Architecture.build([33, 20, 6, 17], "elu", None, loss, 0.5, dtype)
        given = problem(net, rows, kind)
        engine, ref = choose.create(backend, net, threads), reference.Engine(net)
        outputs, want = (e.forward(given.parameters, given.x) for e in (engine, ref))
        np.testing.assert_allclose(outputs, want, rtol=0, atol=tolerance)
        losses, want = (e.evaluate(*given) for e in (engine, ref))
        np.testing.assert_allclose(losses, want, rtol=tolerance)
        assert_same_objective(engine, ref, given, Case(l2=0.1), tolerance)


def assert_same_objective(engine, ref, given, case, tolerance):
    (found, gradient), (expected, want) = (objective(e, given, case) for e in (engine, ref))
    assert found == pytest.approx(expected, rel=tolerance)
    assert np.abs(gradient - want).max() <= tolerance * np.abs(want).max()


def test_gradients_agree_with_finite_differences(backend):
    """Every activation in a hidden layer and as the output, and in a deeper network."""
    cases = [([4, 6, 5], a, a, "mse", "values") for a in ACTIVATIONS]
    cases.append(([4, 6, 3, 5], ["gelu", "softplus"], None, "cross_entropy", "labels"))
    for sizes, hidden, output, loss, kind in cases:
        net = Architecture.build(sizes, hidden, output, loss, dtype="float64")
        given, case, h = problem(net, 9, kind), Case(l2=0.1), 1e-6
        engine = choose.create(backend, net, 1)
        _, gradient = objective(engine, given, case)
        for i in range(net.n_parameters):
            up, down = given.parameters.copy(), given.parameters.copy()
            up[i] += h
            down[i] -= h
            above, below = (
                objective(engine, given._replace(parameters=p), case)[0] for p in (up, down)
            )
            slope = (above - below) / (2 * h)
            assert gradient[i] == pytest.approx(slope, abs=1e-7 * np.abs(gradient).max()), hidden


def test_extreme_logits_stay_finite(backend, dtype):
    for loss, kind in (("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")):
        net = Architecture.build([3, 4], loss=loss, dtype=dtype)
        given = problem(net, 30, kind)
        given.parameters[...] *= 1e4
        got = objective(choose.create(backend, net, 1), given)
        want = objective(reference.Engine(net), given)
        assert np.isfinite(got[1]).all()
        assert got[0] == pytest.approx(want[0], rel=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_nan_reaches_every_output_and_the_loss(backend, dtype, activation):
    for loss, kind in (("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")):
        net = Architecture.build([20, 9, 4], activation, loss=loss, dtype=dtype)
        given = problem(net, 3, kind)
        net.views(given.parameters)[0][0][2, 5] = np.nan
        engine = choose.create(backend, net, 1)
        assert np.isnan(engine.forward(given.parameters, given.x)).all()
        assert np.isnan(engine.evaluate(*given)[0])


def test_pixels_are_scaled_to_one(backend):
    net = Architecture.build([5, 2], dtype="float64")
    parameters = problem(net, 1).parameters
    x = np.array([[0, 1, 127, 254, 255]], np.uint8)
    engine = choose.create(backend, net, 1)
    np.testing.assert_allclose(
        engine.forward(parameters, x), engine.forward(parameters, x / 255), rtol=1e-14
    )


@pytest.mark.parametrize("sizes", [[40, 16, 17, 4], [300, 64, 32], [5, 100, 3], [7, 33, 1], [3, 2]])
def test_a_few_rows_get_the_outputs_that_they_get_among_many(isa, dtype, sizes):
    """Few rows are multiplied by the weights in place, many by a padded copy of them."""
    loss = "binary_cross_entropy" if sizes[-1] == 1 else "cross_entropy"
    net = Architecture.build(sizes, "gelu", loss=loss, dtype=dtype)
    parameters, x, _ = problem(net, 600, "values")
    engine = _core.Engine(net, 2)
    many = engine.forward(parameters, x)
    for count in (1, 3, 16, 17):
        assert engine.forward(parameters, x[:count]).tobytes() == many[:count].tobytes()


# --- Conventions of scikit-learn, and sample weights ----------------------------------------------


@pytest.mark.parametrize("convention", ["pynn", "sklearn"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("loss, kind, n_out", SKLEARN_LOSSES)
def test_objective_of_every_convention_follows_the_reference(
    isa, dtype, loss, kind, n_out, weighted, convention
):
    net = Architecture.build([7, 19, n_out], "relu", None, loss, dtype=dtype)
    given = problem(net, 1100, kind)
    weights = some_weights(1100) if weighted else None
    case = Case(l2=0.3, convention=convention, sample_weight=weights)
    tolerance = 1e-12 if dtype == "float64" else 3e-5
    data, settings = Data(given.x, given.y, weights), case.settings()
    got, want = (e.Engine(net, 2).objective(data, settings) for e in (_core, reference))
    for scale in (1.0, 0.5, -0.1):  # planned once, called again
        parameters = given.parameters * np.dtype(dtype).type(scale)
        (found, gradient), (expected, slope) = got(parameters), want(parameters)
        assert found == pytest.approx(expected, rel=tolerance)
        assert np.abs(gradient - slope).max() <= tolerance * np.abs(slope).max()


@pytest.mark.parametrize(
    "loss, kind", [("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")]
)
def test_probabilities_are_clipped_in_the_convention_of_scikit_learn(isa, dtype, loss, kind):
    net = Architecture.build([3, 4], loss=loss, dtype=dtype)
    given = problem(net, 30, kind)
    given.parameters[...] *= 1e4
    engines = _core.Engine(net, 1), reference.Engine(net)
    got, want = (objective(e, given, Case(convention="sklearn")) for e in engines)
    assert got[0] == pytest.approx(want[0], rel=1e-6)
    assert want[0] < -4 * np.log(np.finfo(dtype).eps)
