"""The reference backend against finite differences and against formulas written out again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import activations, reference, updates
from pynn.backends.contract import Data, ObjectiveSettings, TrainerSettings
from pynn.spec import Parametric, philox
from pynn.spec.architecture import Architecture
from pynn.spec.names import OUTPUTS
from pynn.spec.optimizers import OPTIMIZERS, AdamHat, Optimizer, as_optimizer
from tests import parity

Array = np.ndarray


def make(
    rng: np.random.Generator, sizes: list[int], **settings: Any
) -> tuple[Architecture, reference.Engine, Array]:
    net = Architecture.build(sizes, dtype="float64", **settings)
    return net, reference.Engine(net), 0.7 * rng.normal(size=net.n_parameters)


# --- Gradients ------------------------------------------------------------------------------------

HEADS: list[tuple[str, str | Parametric, str]] = [  # loss, output, kind of y
    ("cross_entropy", "softmax", "labels"),
    ("cross_entropy", "softmax", "soft"),
    ("binary_cross_entropy", "sigmoid", "labels"),
    ("binary_cross_entropy", "sigmoid", "multilabel"),
    *(
        ("mse", output, kind)
        for output in (*OUTPUTS, *parity.PARAMETRIC)
        for kind in ("labels", "values")
    ),
    ("poisson", "exp", "counts"),
]


def targets(rng: np.random.Generator, kind: str, n: int, n_out: int) -> Array:
    if kind == "labels":
        return rng.integers(0, n_out, n).astype(np.int32)
    if kind == "soft":
        return rng.dirichlet(np.ones(n_out), n)
    if kind == "counts":
        return rng.poisson(2.0, (n, n_out)).astype(float)
    return rng.random((n, n_out)) if kind == "multilabel" else rng.normal(size=(n, n_out))


def assert_gradient(net: Architecture, parameters: Array, x: Array, y: Array, l2: float) -> None:
    engine = reference.Engine(net)
    _, gradient = engine.objective(Data(x, y), ObjectiveSettings(l2=l2))(parameters)
    found = np.empty_like(gradient)
    h = 1e-6
    for i in range(len(parameters)):
        moved = parameters.copy()
        moved[i] += h
        up = engine.objective(Data(x, y), ObjectiveSettings(l2=l2))(moved)[0]
        moved[i] -= 2 * h
        found[i] = (up - engine.objective(Data(x, y), ObjectiveSettings(l2=l2))(moved)[0]) / (2 * h)
    assert np.abs(gradient).max() > 1e-3  # so that agreement means something
    np.testing.assert_allclose(gradient, found, rtol=0, atol=1e-7 * np.abs(gradient).max())


@pytest.mark.parametrize("activation", parity.ACTIVATIONS, ids=str)
@pytest.mark.parametrize(("loss", "output", "kind"), HEADS)
def test_gradient_is_the_slope_of_the_loss(
    rng: np.random.Generator,
    activation: str | Parametric,
    loss: str,
    output: str | Parametric,
    kind: str,
) -> None:
    net, _, parameters = make(rng, [3, 4, 3, 3], activation=activation, loss=loss, output=output)
    x = rng.normal(size=(5, 3))
    assert_gradient(net, parameters, x, targets(rng, kind, 5, 3), l2=0.3)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse"])
def test_gradient_of_one_output(rng: np.random.Generator, loss: str) -> None:
    net, _, parameters = make(rng, [3, 4, 1], activation="tanh", loss=loss)
    x, y = rng.normal(size=(6, 3)), rng.integers(0, 2, (6, 1)).astype(np.float64)
    assert_gradient(net, parameters, x, y, l2=0.0)


def test_gradient_without_hidden_layers_on_pixels(rng: np.random.Generator) -> None:
    net, _, parameters = make(rng, [4, 3])
    x = rng.integers(0, 256, (6, 4), dtype=np.uint8)
    assert_gradient(net, parameters, x, targets(rng, "labels", 6, 3), l2=0.1)


def test_l2_spares_the_biases(rng: np.random.Generator) -> None:
    net, engine, parameters = make(rng, [3, 4, 2])
    x, y = rng.normal(size=(5, 3)), targets(rng, "labels", 5, 2)
    loss0, g0 = engine.objective(Data(x, y), ObjectiveSettings(l2=0.0))(parameters)
    loss1, g1 = engine.objective(Data(x, y), ObjectiveSettings(l2=0.5))(parameters)
    weights, _ = net.views(parameters)
    dw, db = net.views(g1 - g0)
    for w, d, b in zip(weights, dw, db, strict=True):
        np.testing.assert_allclose(d, 0.5 * w, atol=1e-14)
        assert (b == 0).all()
    assert math.isclose(loss1 - loss0, 0.25 * sum((w**2).sum() for w in weights))


# --- Values against Python's own mathematics ------------------------------------------------------

POINTS = [-800.0, -40.0, -3.0, -1.0, -1e-3, 0.0, 1e-9, 0.5, 2.0, 30.0, 800.0]
TRUTH: dict[str, Callable[[float], float]] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)) if z > -700 else 0.0,
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "gelu": lambda z: z * 0.5 * math.erfc(-z / math.sqrt(2)),
    "softplus": lambda z: z if z > 35 else math.log1p(math.exp(z)),
    "silu": lambda z: z / (1 + math.exp(-z)) if z > -700 else 0.0,
    "mish": lambda z: z * math.tanh(z if z > 35 else math.log1p(math.exp(z))),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * math.expm1(z)),
    "softsign": lambda z: z / (1 + abs(z)),
    "relu6": lambda z: min(max(z, 0.0), 6.0),
    "hard_sigmoid": lambda z: min(max(z + 3, 0.0), 6.0) / 6,
    "hard_swish": lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
    "hard_tanh": lambda z: min(max(z, -1.0), 1.0),
    "gelu_tanh": lambda z: (
        z / (1 + math.exp(-math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))) if z > -20 else 0.0
    ),
    "LeakyReLU(slope=0.2)": lambda z: z if z > 0 else 0.2 * z,
    "ELU(alpha=0.6)": lambda z: z if z > 0 else 0.6 * math.expm1(z),
    "Softplus(beta=3.0)": lambda z: z if z > 35 else math.log1p(math.exp(3 * z)) / 3,
}


@pytest.mark.parametrize("activation", parity.ACTIVATIONS, ids=str)
def test_activation_values_without_warnings(activation: str | Parametric) -> None:
    net = Architecture.build([1, 1], output=activation, loss="mse", dtype="float64")
    with np.errstate(all="raise", under="ignore"):
        found = activations.activation_of(net, 0, np.array(POINTS))
    truth = [TRUTH[str(activation)](z) for z in POINTS]
    np.testing.assert_allclose(found, truth, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_and_loss_of_large_logits(dtype: str) -> None:
    net = Architecture.build([1, 3], dtype=dtype)
    z = np.array([[1e4, 0, -1e4], [5, 5, 5]], dtype=dtype)
    with np.errstate(over="raise", invalid="raise"):
        loss, dz = reference.loss_and_output_gradient(net, z, np.array([1, 2], dtype=np.int32))
    np.testing.assert_allclose(loss, [1e4, math.log(3)], rtol=1e-6)
    np.testing.assert_allclose(dz, [[1.0, -1.0, 0.0], [1 / 3, 1 / 3, -2 / 3]], atol=1e-7)


def test_losses_equal_values_computed_by_hand() -> None:
    z = np.array([[0.3, -1.2]])
    y = np.array([[1.0, 0.25]])
    s = [1 / (1 + math.exp(-v)) for v in z[0]]
    build = Architecture.build
    bce = -np.mean(
        [t * math.log(p) + (1 - t) * math.log(1 - p) for p, t in zip(s, y[0], strict=True)]
    )
    found = reference.loss_and_output_gradient(build([1, 2], loss="binary_cross_entropy"), z, y)
    assert math.isclose(found[0][0], bce)
    found = reference.loss_and_output_gradient(build([1, 2], loss="mse", output="sigmoid"), z, y)
    assert math.isclose(found[0][0], ((s[0] - 1) ** 2 + (s[1] - 0.25) ** 2) / 2)


def test_labels_and_one_hot_targets_give_the_same_loss(rng: np.random.Generator) -> None:
    z, y = rng.normal(size=(6, 4)), rng.integers(0, 4, 6).astype(np.int32)
    for loss in ("cross_entropy", "binary_cross_entropy", "mse"):
        net = Architecture.build([1, 4], loss=loss, dtype="float64")
        by_label = reference.loss_and_output_gradient(net, z, y)
        one_hot = reference.loss_and_output_gradient(net, z, np.eye(4)[y])
        for a, b in zip(by_label, one_hot, strict=True):
            assert (a == b).all()


# --- Optimizers -----------------------------------------------------------------------------------


def by_the_book(o: Any, w: float, gradients: list[float], rate: float, decay: bool) -> float:
    """Each rule as its paper writes it, for one number."""
    v = s = m = largest = 0.0
    momenta = 1.0
    for t, g in enumerate(gradients, start=1):
        if o.name == "sgd":
            w = w - rate * g
        elif o.name == "momentum":
            v = o.momentum * v - rate * g
            w = w + v
        elif o.name == "nesterov":
            before, v = v, o.momentum * v - rate * g
            w = w - o.momentum * before + (1 + o.momentum) * v
        elif o.name == "rmsprop":
            s = o.rho * s + (1 - o.rho) * g**2
            w = w - rate * g / (math.sqrt(s) + o.epsilon)
        elif o.name == "adagrad":
            s = s + g**2
            w = w - rate * g / (math.sqrt(s) + o.epsilon)
        elif o.name == "lion":
            move = o.beta1 * m + (1 - o.beta1) * g
            m = o.beta2 * m + (1 - o.beta2) * g
            w = w - rate * (math.copysign(1, move) + o.weight_decay * decay * w)
        else:
            m = o.beta1 * m + (1 - o.beta1) * g
            v = o.beta2 * v + (1 - o.beta2) * g**2
            corrected = (m / (1 - o.beta1**t)) / (math.sqrt(v / (1 - o.beta2**t)) + o.epsilon)
            if o.name == "adam_hat":
                step = math.sqrt(1 - o.beta2**t) / (1 - o.beta1**t)
                corrected = step * m / (math.sqrt(v) + o.epsilon)
            if o.name == "amsgrad":
                largest = max(largest, v)
                root = math.sqrt(largest / (1 - o.beta2**t))
                corrected = (m / (1 - o.beta1**t)) / (root + o.epsilon)
            if o.name == "nadam":
                now, after = (
                    o.beta1 * (1 - 0.5 * 0.96 ** (k * o.momentum_decay)) for k in (t, t + 1)
                )
                momenta *= now
                mean = after * m / (1 - momenta * after) + (1 - now) * g / (1 - momenta)
                corrected = mean / (math.sqrt(v / (1 - o.beta2**t)) + o.epsilon)
            shrink = rate * getattr(o, "weight_decay", 0.0) * w if decay else 0.0
            w = w - shrink - rate * corrected
    return w


@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize(
    "optimizer",
    [
        *map(as_optimizer, OPTIMIZERS),
        pynn.Momentum(0.5),
        pynn.Nesterov(0.99),
        pynn.RMSProp(0.5, 1e-2),
        pynn.Adagrad(0.1),
        pynn.Adam(0.5, 0.9, 1e-1),
        AdamHat(0.5, 0.9, 1e-1),
        pynn.AdamW(0.0, 0.5, 1e-3, 0.3),
        pynn.AMSGrad(0.5, 0.6, 1e-3, 0.3),
        pynn.NAdam(0.8, 0.6, 1e-3, 0.5, 0.3),
        pynn.Lion(0.5, 0.7, 0.3),
    ],
    ids=repr,
)
def test_update_follows_its_paper(
    rng: np.random.Generator, optimizer: Optimizer, decay: bool
) -> None:
    w0, gradients = rng.normal(size=5), rng.normal(size=(12, 5))
    w = w0.copy()
    state = [np.zeros(5) for _ in range(optimizer.slots)]
    for t, g in enumerate(gradients, start=1):
        reference.update(optimizer, w, g, state, t, 0.03, decay)
    expected = [
        by_the_book(optimizer, w0[i], gradients[:, i].tolist(), 0.03, decay) for i in range(5)
    ]
    np.testing.assert_allclose(w, expected, rtol=1e-12)


def test_momenta_of_nadam_depend_on_the_step_alone() -> None:
    o = pynn.NAdam(momentum_decay=0.1)
    upwards = [updates.nadam_product(o, t) for t in range(1, 9000)]
    assert [updates.nadam_product(o, t) for t in (8999, 7, 30, 29)] == (
        [upwards[8998], upwards[6], upwards[29], upwards[28]]
    )
    assert 0 <= upwards[-1] < 1e-30


def test_unknown_optimizer() -> None:
    class Mine(Optimizer):
        name = "mine"

    with pytest.raises(ValueError, match="optimizer: found 'mine'"):
        reference.update(Mine(), np.zeros(1), np.zeros(1), [], 1, 0.1, True)


# --- The loop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("n", [10, 12])
def test_epoch_is_batches_of_gradients(rng: np.random.Generator, shuffle: bool, n: int) -> None:
    """The trainer does what full-batch gradients of each batch, taken by hand, would do."""
    _, engine, start = make(rng, [3, 5, 2], activation="tanh")
    x, y = rng.normal(size=(n, 3)), rng.integers(0, 2, n).astype(np.int32)
    p = start.copy()
    trainer = engine.trainer(
        p,
        [],
        Data(x, y),
        TrainerSettings(optimizer=pynn.SGD(), batch_size=4, l2=0.1, seed=5, shuffle=shuffle),
    )
    rates = np.array([0.5, 0.25, 0.125])
    loss, right, _ = trainer.steps(3, 0, rates, 0)

    q, summed, correct = start.copy(), 0.0, 0.0
    order = philox.permutation(5, 3, n) if shuffle else np.arange(n)
    for i, rate in enumerate(rates):
        rows = order[4 * i : 4 * i + 4]
        batch_loss, batch_right, _ = engine.evaluate(q, x[rows], y[rows])
        summed, correct = summed + batch_loss, correct + batch_right
        q -= rate * engine.objective(Data(x[rows], y[rows]), ObjectiveSettings(l2=0.1))(q)[1]
    np.testing.assert_allclose(p, q, rtol=1e-12)
    assert math.isclose(loss, summed)
    assert right == correct


def test_dropout_leaves_out_and_scales_up(rng: np.random.Generator) -> None:
    """One step with dropout, against the same step on a network with the masks put in by hand."""
    net, engine, start = make(rng, [3, 6, 2], activation="tanh", dropout=0.5)
    x, y = rng.normal(size=(4, 3)), np.array([0, 1, 1, 0], dtype=np.int32)
    p = start.copy()
    trainer = engine.trainer(
        p,
        [],
        Data(x, y),
        TrainerSettings(optimizer=pynn.SGD(), batch_size=4, l2=0.0, seed=5, shuffle=False),
    )
    trainer.steps(2, 0, np.array([1.0]), 0)

    (w0, w1), (b0, b1) = net.views(start)
    mask = philox.dropout_mask(5, 2, 0, 0, (4, 6), 0.5) * 2.0
    assert 0 < mask.mean() < 2
    a = np.tanh(x @ w0 + b0)
    z = (a * mask) @ w1 + b1
    dz = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    dz[np.arange(4), y] -= 1
    da = (dz @ w1.T) * mask * (1 - a**2)
    (g0, g1), (h0, h1) = net.views(start - p)
    np.testing.assert_allclose(g1, (a * mask).T @ dz / 4, atol=1e-12)
    np.testing.assert_allclose(g0, x.T @ da / 4, atol=1e-12)
    np.testing.assert_allclose(h1, dz.mean(0), atol=1e-12)
    np.testing.assert_allclose(h0, da.mean(0), atol=1e-12)


def test_steps_may_be_cut_anywhere(rng: np.random.Generator) -> None:
    _, engine, start = make(rng, [3, 5, 2], dropout=0.3)
    x, y = rng.normal(size=(23, 3)), rng.integers(0, 2, 23).astype(np.int32)
    ends = []
    for cuts in ([6], [1, 1, 1, 1, 1, 1], [4, 2]):
        p, state = start.copy(), [np.zeros_like(start), np.zeros_like(start)]
        trainer = engine.trainer(
            p,
            state,
            Data(x, y),
            TrainerSettings(optimizer=pynn.Adam(), batch_size=4, l2=0.0, seed=5, shuffle=True),
        )
        at = 0
        for count in cuts:
            trainer.steps(0, at, np.full(count, 0.01), at)
            at += count
        ends.append(p.tobytes())
    assert ends[0] == ends[1] == ends[2] != start.tobytes()


def test_evaluate_counts_rightly(rng: np.random.Generator) -> None:
    _, engine, p = make(rng, [3, 4])
    x, y = rng.normal(size=(5000, 3)), rng.integers(0, 4, 5000).astype(np.int32)
    loss, right, _ = engine.evaluate(p, x, y)
    out = engine.forward(p, x)
    assert right == (out.argmax(1) == y).sum()
    assert math.isclose(loss, -np.log(out[np.arange(5000), y]).sum())
    np.testing.assert_allclose(out.sum(1), 1)
    soft = np.full((5000, 4), 0.1)
    soft[np.arange(5000), y] = 0.7
    assert engine.evaluate(p, x, soft)[1] == right


def test_accuracy_of_yes_or_no(rng: np.random.Generator) -> None:
    _, engine, p = make(rng, [3, 1], loss="binary_cross_entropy")
    x, y = rng.normal(size=(50, 3)), rng.integers(0, 2, (50, 1)).astype(np.float64)
    assert engine.evaluate(p, x, y)[1] == ((engine.forward(p, x) > 0.5) == y).sum()
    _, engine, p = make(rng, [3, 4], loss="binary_cross_entropy")
    y = rng.integers(0, 2, (50, 4)).astype(np.float64)
    right = engine.evaluate(p, x, y)[1]
    assert math.isclose(right, ((engine.forward(p, x) > 0.5) == y).mean(1).sum())
    _, engine, p = make(rng, [3, 4], loss="mse")
    assert math.isnan(engine.evaluate(p, x, y)[1])
