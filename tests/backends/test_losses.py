"""Every loss with every output activation: gradients, training, extreme values, on every backend.

``HEADS`` lists them once; ``targets`` draws targets that a loss accepts.
"""

from __future__ import annotations

import numpy as np
import pytest

from pynn.backends import choose, reference
from pynn.spec import names
from pynn.spec.architecture import Architecture
from pynn.spec.losses import LOSSES, Focal, Huber, Quantile, Tweedie, as_loss
from tests.parity import (
    Case,
    Problem,
    assert_follows_reference,
    objective,
    problem,
    some_weights,
    train,
    without_some,
)

MORE = [
    *(Huber(0.3), Quantile(0.9), Quantile([0.1, 0.5, 0.8]), Tweedie(1.2)),
    *(Focal(0.5), Focal(0.0), Focal(1.5, 0.3)),
]
"""Losses with other parameters than those of their names."""

HEADS = [
    *((loss, output) for loss in (kind() for kind in LOSSES.values()) for output in loss.outputs),
    *((loss, output) for loss in MORE for output in dict.fromkeys((*loss.outputs[:2], "softmax"))),
]
HEADS = [
    (loss, output)
    for loss, output in HEADS
    if output in loss.outputs
    and not (output == "softmax" and getattr(loss, "alpha", None) is not None)
]


def kind_of(loss, output):
    """The kind of targets, as ``problem`` names them, that a loss accepts."""
    special = {"poisson": "counts", "gamma": "positive", "tweedie": "claims"}
    if loss.regression:
        return special.get(loss.name, "values")
    return "soft" if output == "softmax" else "yes-no"


def head(loss, output, dtype, n_out=3, activation="tanh", rows=40):
    """A network of one hidden layer with this loss, and a problem for it."""
    sizes = [4, 6, n_out * loss.per_target]
    net = Architecture.build(sizes, activation, output, loss, dtype=dtype)
    return net, problem(net, rows, kind_of(loss, net.activations[-1]))


def heads(n_out):
    """The losses and output activations of ``HEADS`` that fit this number of outputs."""
    single = [(loss, o) for loss, o in HEADS if o != "softmax" or loss.per_target > 1]
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
        if output == loss.default_output(n_out) or loss.name == "focal":
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
        n = 3 * loss.per_target
        net = Architecture.build([1, n], output=output, loss=loss, dtype=dtype)
        y = problem(net, 1, kind_of(loss, net.activations[-1])).y
        for z in ([1e4, -1e4, 0], [-1e4, 1e4, 1e4], [88, -88, 700]):
            parameters = np.array([0] * n + z * loss.per_target, dtype)
            given = Problem(parameters, np.ones((1, 1), dtype), y)
            for engine in (choose.create(backend, net, 1), reference.Engine(net)):
                value, gradient = objective(engine, given)
                assert not np.isnan(value)
                assert not np.isnan(gradient).any()
                if output != "exp":
                    assert np.isfinite(value)
                    assert np.isfinite(gradient).all()


def test_a_nan_reaches_every_loss(backend, dtype):
    for loss, output in HEADS:
        net, given = head(loss, output, dtype)
        net.views(given.parameters)[1][1][1] = np.nan
        assert np.isnan(choose.create(backend, net, 1).evaluate(*given)[0]), (loss, output)


@pytest.mark.parametrize("convention", names.CONVENTIONS)
def test_weights_and_conventions_follow_the_reference(backend, dtype, convention):
    if backend == "numba" and convention == "sklearn":
        pytest.skip("Numba has pynn's convention only")
    for n_out in (1, 5):
        for loss, output in heads(n_out):
            net, given = head(loss, output, dtype, n_out)
            case = Case(convention=convention, sample_weight=some_weights(40), l2=0.1)
            assert_same_objective(backend, net, given, case)
            if convention == "pynn" and output != "softmax":
                some, weights = without_some(given)
                case = case.but(sample_weight=weights, missing=True)
                assert_same_objective(backend, net, some, case)


def assert_same_objective(backend, net, given, case):
    engines = choose.create(backend, net, 2), reference.Engine(net)
    got, want = (objective(engine, given, case) for engine in engines)
    near = 1e-12 if net.dtype == "float64" else 3e-5
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


def values_of_z(loss, z, t):
    """The losses of rows of one output before the output activation."""
    net = Architecture.build([1, 1], loss=loss, dtype="float64")
    return reference.loss_and_output_gradient(net, z[:, None], t[:, None])[0]


def test_values_of_logits():
    z, yes = np.array([-2.0, 0.0, 0.5, 3.0]), np.ones(4)
    np.testing.assert_allclose(values_of_z("hinge", z, yes), [3, 1, 0.5, 0])
    np.testing.assert_allclose(values_of_z("hinge", -z, 0 * yes), [3, 1, 0.5, 0])
    np.testing.assert_allclose(values_of_z("squared_hinge", z, yes), [9, 1, 0.25, 0])
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(
        values_of_z(Focal(3.0, 0.25), z, yes), -0.25 * (1 - p) ** 3 * np.log(p)
    )
    np.testing.assert_allclose(
        values_of_z(Focal(2.0, 0.25), z, 0 * yes), -0.75 * p**2 * np.log1p(-p)
    )


def test_focal_without_exponent_is_the_cross_entropy(rng):
    for n, focal, output, plain in (
        (1, Focal(0.0), None, "binary_cross_entropy"),
        (4, Focal(0.0), "sigmoid", "binary_cross_entropy"),
        (4, Focal(0.0), None, "cross_entropy"),
    ):
        z, t = 4 * rng.normal(size=(20, n)), np.eye(n)[rng.integers(0, n, 20)]
        a, b = (
            reference.loss_and_output_gradient(
                Architecture.build([1, n], output=o, loss=loss, dtype="float64"), z, t
            )
            for loss, o in ((focal, output), (plain, None))
        )
        np.testing.assert_allclose(a[0], b[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-12, atol=1e-12)


def test_several_classes_of_a_hinge_are_one_against_the_rest(rng):
    z, y = rng.normal(size=(9, 4)), rng.integers(0, 4, 9).astype(np.int32)
    net = Architecture.build([1, 4], loss="hinge", dtype="float64")
    signs = 2 * np.eye(4)[y] - 1
    losses, _ = reference.loss_and_output_gradient(net, z, y)
    np.testing.assert_allclose(losses, np.maximum(0, 1 - signs * z).mean(axis=1))


def test_deviances_are_half_of_those_of_scikit_learn(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    z, t = rng.normal(size=60), rng.gamma(1.0, 2.0, 60)
    claims = t * (rng.random(60) < 0.5)
    for loss, y, power in (("gamma", t, 2), ("tweedie", claims, 1.5), (Tweedie(1.1), claims, 1.1)):
        deviance = metrics.mean_tweedie_deviance(y, np.exp(z), power=power)
        assert values_of_z(loss, z, y).mean() == pytest.approx(deviance / 2)
    for loss in ("gamma", "tweedie", "poisson"):
        np.testing.assert_allclose(values_of_z(loss, np.log(t), t), 0, atol=1e-12)


def test_quantile_is_the_pinball_loss_of_scikit_learn(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    a, t = rng.normal(size=(2, 50))
    for q in (0.1, 0.5, 0.95):
        expected = metrics.mean_pinball_loss(t, a, alpha=q)
        assert values_of(Quantile(q), a, t).mean() == pytest.approx(expected)


def losses_of_pytorch(torch):
    """Pairs of a loss, its output activation, and its value in PyTorch from z and t."""
    f = torch.nn.functional

    def focal(z, t):
        plain = f.binary_cross_entropy_with_logits(z, t, reduction="none")
        return ((0.3 * t + 0.7 * (1 - t)) * (1 - torch.exp(-plain)) ** 1.5 * plain).mean()

    def focal_of_classes(z, t):
        log_p = f.log_softmax(z, dim=1)
        return -(t * (1 - log_p.exp()) ** 2 * log_p).sum(dim=1).mean()

    def gaussian(z, t):
        mean, s = z.chunk(2, dim=1)
        return torch.nn.GaussianNLLLoss(eps=0)(mean, t, f.softplus(s) + 1e-6)

    def poisson(z, t):
        return torch.nn.PoissonNLLLoss()(z, t) + (torch.special.xlogy(t, t) - t).mean()

    return [
        ("mse", "tanh", lambda z, t: f.mse_loss(torch.tanh(z), t)),
        ("mae", "softplus", lambda z, t: f.l1_loss(f.softplus(z), t)),
        (Huber(0.7), None, torch.nn.HuberLoss(delta=0.7)),
        ("log_cosh", None, lambda z, t: torch.log(torch.cosh(z - t)).mean()),
        ("hinge", None, lambda z, t: torch.relu(1 - (2 * t - 1) * z).mean()),
        ("squared_hinge", None, lambda z, t: (torch.relu(1 - (2 * t - 1) * z) ** 2).mean()),
        (Focal(1.5, 0.3), "sigmoid", focal),
        ("focal", None, focal_of_classes),
        ("poisson", None, poisson),
        ("gaussian_nll", None, gaussian),
        (Quantile(0.9), None, lambda z, t: torch.maximum(0.9 * (t - z), 0.1 * (z - t)).mean()),
    ]


def test_100_steps_of_training_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    backend = "numpy" if choose.available()["cython"] else "cython"
    for loss, output, theirs in losses_of_pytorch(torch):
        n_out = 3 * as_loss(loss).per_target
        net, given = head(as_loss(loss), output, "float64", 3)
        case = Case(steps=100, rate=0.02, shuffle=False)
        weights, biases = (
            [torch.tensor(a, requires_grad=True) for a in arrays]
            for arrays in net.views(given.parameters)
        )
        assert weights[1].shape[1] == n_out
        x, t = torch.tensor(given.x), torch.tensor(given.y)
        for step, rate in enumerate(case.rates(0, 100).tolist()):
            rows = slice(10 * (step % 4), 10 * (step % 4) + 10)
            h = torch.tanh(x[rows] @ weights[0] + biases[0])
            theirs(h @ weights[1] + biases[1], t[rows]).backward()
            with torch.no_grad():
                for p in (*weights, *biases):
                    p -= rate * p.grad
                    p.grad = None
        found = net.views(train(backend, net, given, case).parameters)
        for a, b in zip((*found[0], *found[1]), (*weights, *biases), strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-9, atol=1e-9)
