"""Every loss with every output activation: gradients, training, extreme values, on every backend.

``HEADS`` lists them once; ``targets`` draws targets that a loss accepts.
"""

from __future__ import annotations

import numpy as np
import pytest

from pynn.backends import choose, reference
from pynn.spec import names
from pynn.spec.architecture import Architecture
from pynn.spec.losses import LOSSES, Huber, Quantile
from tests.parity import Case, Problem, assert_follows_reference, objective, problem

MORE = [Huber(0.3), Quantile(0.9)]
"""Losses with other parameters than those of their names."""

HEADS = [
    (loss, output)
    for loss in [*(kind() for kind in LOSSES.values()), *MORE]
    for output in loss.outputs
]


def kind_of(loss):
    """The kind of targets, as ``problem`` names them, that a loss accepts."""
    if loss.regression:
        return "counts" if loss.name == "poisson" else "values"
    return "soft" if loss.name == "cross_entropy" else "yes-no"


def head(loss, output, dtype, n_out=3, activation="tanh", rows=40):
    """A network of one hidden layer with this loss, and a problem for it."""
    net = Architecture.build([4, 6, n_out], activation, output, loss, dtype=dtype)
    return net, problem(net, rows, kind_of(loss))


def heads(n_out):
    """The pairs of ``HEADS`` that so many outputs allow."""
    single = [h for h in HEADS if h[1] != "softmax"]
    return single if n_out == 1 else HEADS


def test_every_gradient_is_the_slope_of_its_loss(backend):
    for n, (loss, output) in enumerate(HEADS):
        activation = ["tanh", "gelu", "softplus"][n % 3]
        net, given = head(loss, output, "float64", activation=activation, rows=7)
        assert_slope(choose.create(backend, net, 1), given, 1e-7)
        assert_slope(reference.Engine(net), given, 1e-7)


def assert_slope(engine, given, tolerance, h=1e-6):
    _, gradient = objective(engine, given)
    for i in range(0, len(gradient), 3):
        values = []
        for step in (h, -h):
            moved = given.parameters.copy()
            moved[i] += step
            values.append(objective(engine, given._replace(parameters=moved))[0])
        slope = (values[0] - values[1]) / (2 * h)
        assert gradient[i] == pytest.approx(slope, abs=tolerance * max(1, np.abs(gradient).max()))


@pytest.mark.parametrize("n_out", [1, 19])
def test_every_loss_with_its_own_output_follows_the_reference(backend, dtype, n_out):
    for loss, output in heads(n_out):
        if output == loss.default_output(n_out):
            net, given = head(loss, output, dtype, n_out)
            assert_follows_reference(backend, net, given, Case(steps=20, rate=0.05))


@pytest.mark.parametrize("n_out", [1, 300])
def test_every_loss_of_any_output_follows_the_reference(backend, dtype, n_out):
    """One evaluation: 300 outputs are more than a kernel's block of slopes."""
    for loss, output in heads(n_out):
        net, given = head(loss, output, dtype, n_out, rows=9)
        got, want = (
            objective(e, given) for e in (choose.create(backend, net, 2), reference.Engine(net))
        )
        assert got[0] == pytest.approx(want[0], rel=1e-12 if dtype == "float64" else 2e-5, abs=1e-7)
        near = (1e-12 if dtype == "float64" else 3e-5) * np.abs(want[1]).max()
        assert np.abs(got[1] - want[1]).max() <= near, (loss, output)


def test_outputs_up_to_ten_thousand_give_no_nan(backend, dtype):
    for loss, output in HEADS:
        net = Architecture.build([1, 3], output=output, loss=loss, dtype=dtype)
        for z in ([1e4, -1e4, 0], [-1e4, 1e4, 1e4], [88, -88, 700]):
            parameters = np.array([0, 0, 0, *z], dtype)
            given = Problem(parameters, np.ones((1, 1), dtype), problem(net, 1, kind_of(loss)).y)
            for engine in (choose.create(backend, net, 1), reference.Engine(net)):
                value, gradient = objective(engine, given)
                assert not np.isnan(value)
                assert not np.isnan(gradient).any()
                if "exp" not in (output, *loss.outputs[:1]):
                    assert np.isfinite(value)
                    assert np.isfinite(gradient).all()


def test_a_nan_reaches_every_loss(backend, dtype):
    for loss, output in HEADS:
        net, given = head(loss, output, dtype)
        net.views(given.parameters)[1][1][1] = np.nan
        assert np.isnan(choose.create(backend, net, 1).evaluate(*given)[0]), (loss, output)


@pytest.mark.parametrize("convention", names.CONVENTIONS)
def test_weights_and_conventions_follow_the_reference(isa, dtype, convention):
    weights = np.random.default_rng(9).gamma(1.0, size=40)
    for n_out in (1, 5):
        for loss, output in heads(n_out):
            net, given = head(loss, output, dtype, n_out)
            case = Case(convention=convention, sample_weight=weights, l2=0.1)
            engines = choose.create("cython", net, 2), reference.Engine(net)
            got, want = (objective(engine, given, case) for engine in engines)
            near = 1e-12 if dtype == "float64" else 3e-5
            assert got[0] == pytest.approx(want[0], rel=near)
            assert np.abs(got[1] - want[1]).max() <= near * np.abs(want[1]).max()


# --- Formulas against other libraries -------------------------------------------------------------


def values_of(loss, a, t):
    """The losses of rows of one output a with target t, by the reference."""
    net = Architecture.build([1, 1], output="identity", loss=loss, dtype="float64")
    return reference.loss_and_output_gradient(net, a[:, None], t[:, None])[0]


def test_values_of_errors():
    d = np.array([-30.0, -1.5, -0.25, 0.0, 0.5, 3.0])
    zero = np.zeros_like(d)
    np.testing.assert_allclose(values_of("mae", d, zero), np.abs(d))
    np.testing.assert_allclose(values_of(Huber(0.5), d, zero)[1:4], [0.625, 0.03125, 0.0])
    np.testing.assert_allclose(values_of("log_cosh", d, zero), np.log(np.cosh(d)), atol=1e-15)
    np.testing.assert_allclose(values_of(Quantile(0.9), d, zero)[[0, 5]], [27.0, 0.3])


def test_quantile_is_the_pinball_loss_of_scikit_learn(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    a, t = rng.normal(size=(2, 50))
    for q in (0.1, 0.5, 0.95):
        expected = metrics.mean_pinball_loss(t, a, alpha=q)
        assert values_of(Quantile(q), a, t).mean() == pytest.approx(expected)


def test_losses_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    a, t = rng.normal(size=(2, 50))
    pairs = [("mae", torch.nn.L1Loss()), (Huber(0.7), torch.nn.HuberLoss(delta=0.7))]
    for loss, theirs in pairs:
        outputs = torch.tensor(a, requires_grad=True)
        value = theirs(outputs, torch.tensor(t))
        value.backward()
        net = Architecture.build([1, 1], loss=loss, dtype="float64")
        losses, dz = reference.loss_and_output_gradient(net, a[:, None], t[:, None])
        assert losses.mean() == pytest.approx(float(value), rel=1e-12)
        np.testing.assert_allclose(dz[:, 0] / 50, outputs.grad.numpy(), rtol=1e-12)
