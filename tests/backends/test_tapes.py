"""The passes of a tape: as the trainer, as the reference, and as finite differences say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.backends import choose, gaps, reference
from pynn.backends.contract import Data, Pass, TrainerSettings, UpdateSettings
from pynn.spec import names, optimizers
from pynn.spec.architecture import Architecture
from tests.parity import ACTIVATIONS, OPTIMIZERS, SEED, Problem, problem, some_weights

BUILDS: list[dict[str, Any]] = [
    {"dropout": 0.3, "input_dropout": 0.2, "activation": "elu"},
    {"activation": "gelu", "residual": True, "dropout": 0.2},
    {"norm": "batch", "residual": True, "dropout": 0.2},
    {"norm": "batch", "norm_after": True},
    {"norm": "layer", "norm_after": True, "residual": True, "dropout": 0.2, "hidden_noise": 0.1},
    {"norm": "rms", "input_noise": 0.3},
]


def built(dtype: str, sizes: tuple[int, ...] = (20, 20, 20, 3), **settings: Any) -> Architecture:
    return Architecture.build(sizes, dtype=dtype, **settings)


def on(backend: str, builds: list[dict[str, Any]], dtype: str) -> list[Architecture]:
    """Those that a backend supports."""
    nets = [built(dtype, **settings) for settings in builds]
    return [net for net in nets if not gaps.lacking_of(backend, net)]


def steps(backend: str, net: Architecture, given: Problem, rule: Any, size: int, threads: int):
    """Parameters and state after two epochs of forward, loss, backward, gradient and update."""
    engine = choose.create(backend, net, threads)
    parameters, optimizer = given.parameters.copy(), rule[0]
    state = [np.zeros_like(parameters) for _ in range(optimizer.slots)]
    tape, updates = engine.tape(), 0
    for epoch in range(2):
        for start in range(0, len(given.y), size):
            part = slice(start, start + size)
            how = Pass(True, SEED, epoch, start)
            tape.forward(parameters, given.x[part], how)
            _, d_logits = tape.loss(given.y[part])
            tape.backward(d_logits, inputs=False)
            settings = UpdateSettings(optimizer=optimizer, rate=rule[1], updates=updates)
            engine.update(parameters, state, tape.gradient(), settings)
            updates += 1
    return parameters, state


def trained(backend: str, net: Architecture, given: Problem, rule: Any, size: int):
    """The same by a trainer."""
    parameters = given.parameters.copy()
    state = [np.zeros_like(parameters) for _ in range(rule[0].slots)]
    settings = TrainerSettings(optimizer=rule[0], batch_size=size, seed=SEED, shuffle=False)
    data = Data(given.x, given.y)
    trainer = choose.create(backend, net, 2).trainer(parameters, state, data, settings)
    count = -(-len(given.y) // size)
    for epoch in range(2):
        trainer.steps(epoch, 0, np.full(count, rule[1]), epoch * count)
    trainer.store()
    return parameters, state


def assert_same_bits(found: Any, expected: Any) -> None:
    for f, e in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        assert f.tobytes() == e.tobytes()


def test_a_loop_of_passes_repeats_a_training_bit_by_bit(backend: str, dtype: str) -> None:
    """With the key of a trainer, the last batch smaller, and on any number of threads."""
    rule = optimizers.Adam(), 0.01
    for net in on(backend, BUILDS, dtype):
        given = problem(net, 71)
        expected = trained(backend, net, given, rule, 32)
        for threads in (1, 3):
            assert_same_bits(steps(backend, net, given, rule, 32, threads), expected)


def test_every_optimizer_repeats_a_training_bit_by_bit(backend: str, dtype: str) -> None:
    net = built(dtype, (7, 19, 3))
    given = problem(net, 71)
    for rule in OPTIMIZERS:
        expected = trained(backend, net, given, rule, 32)
        assert_same_bits(steps(backend, net, given, rule, 32, 2), expected)


def test_the_reference_repeats_a_training_bit_by_bit() -> None:
    for settings in BUILDS:
        net = built("float32", **settings)
        given, rule = problem(net, 71), (optimizers.NAdam(), 0.01)
        expected = trained("numpy", net, given, rule, 32)
        assert_same_bits(steps("numpy", net, given, rule, 32, 1), expected)


def test_large_batches_and_zeros_repeat_a_training_bit_by_bit(isa: str) -> None:
    """More rows than a chunk of the trainer; a first layer that skips zeros, on a team."""
    net = built("float32", (60, 40, 3))
    given = problem(net, 1300)
    x = given.x * (np.random.default_rng(2).random(given.x.shape) < 0.1)
    given, rule = given._replace(x=x), (optimizers.Adam(), 0.01)
    expected = trained("cython", net, given, rule, 1100)
    assert_same_bits(steps("cython", net, given, rule, 1100, 3), expected)


@pytest.mark.parametrize("training", [False, True])
def test_passes_follow_the_reference(backend: str, dtype: str, training: bool) -> None:
    """Also a second backward pass, weights of rows, and frozen batch norms."""
    tolerance = 1e-11 if dtype == "float64" else 2e-4
    how = Pass(training, SEED, 3, 40, (0,) if training else ())
    for net in on(backend, BUILDS, dtype):
        given, rng = problem(net, 33), np.random.default_rng(1)
        for mean, variance in filter(None, net.running_views(given.parameters)):
            mean[...], variance[...] = rng.normal(size=len(mean)), rng.random(len(mean)) + 0.5
        d = rng.normal(size=(33, 3)).astype(dtype)
        found, expected = (
            passes(engine, given, how, d)
            for engine in (choose.create(backend, net, 2), reference.Engine(net))
        )
        for f, e in zip(found, expected, strict=True):
            assert np.abs(f - e).max(initial=0) <= tolerance * max(1, np.abs(e).max(initial=0))


def passes(engine: Any, given: Problem, how: Pass, d: np.ndarray) -> list[np.ndarray]:
    parameters, tape = given.parameters.copy(), engine.tape()
    tape.forward(parameters, given.x[:20], Pass())  # a tape that was used before
    tape.forward(parameters, given.x, how)
    results = [parameters, tape.outputs(), tape.logits()]
    for weights in (None, some_weights(len(given.y))):
        loss, d_logits = tape.loss(given.y, weights)
        results += [np.array(loss), d_logits]
    for d_logits in (tape.output_gradient(d), d):
        results += [tape.backward(d_logits, inputs=True), tape.gradient()]
    return results


# --- Finite differences and PyTorch ---------------------------------------------------------------


def sum_of_outputs(net: Architecture, parameters: np.ndarray, x: np.ndarray, c: np.ndarray, how):
    tape = reference.Engine(net).tape()
    tape.forward(parameters.copy(), x, how)
    return float((c * tape.outputs()).sum())


@pytest.mark.parametrize(
    "settings",
    [{"activation": a, "output": a, "loss": "mse", "sizes": (3, 4, 2)} for a in ACTIVATIONS]
    + [{**build, "sizes": (4, 4, 4, 3), "activation": "tanh"} for build in BUILDS],
    ids=str,
)
def test_gradients_are_those_of_finite_differences(settings: dict[str, Any]) -> None:
    """Of Σ c · outputs, with respect to inputs and parameters, in training mode."""
    net = built("float64", **settings)
    given, rng = problem(net, 5), np.random.default_rng(3)
    c, how, h = rng.normal(size=(5, net.n_out)), Pass(True, SEED, 1, 0), 1e-6
    tape = reference.Engine(net).tape()
    tape.forward(given.parameters.copy(), given.x, how)
    dx = tape.backward(tape.output_gradient(c), inputs=True)
    gradient = tape.gradient()
    for values, slopes in ((given.parameters[: net.n_parameters], gradient), (given.x, dx)):
        flat, wanted = values.reshape(-1), slopes.reshape(-1)
        for i in rng.choice(len(flat), min(12, len(flat)), replace=False):
            before = flat[i]
            flat[i] = before + h
            above = sum_of_outputs(net, given.parameters, given.x, c, how)
            flat[i] = before - h
            below = sum_of_outputs(net, given.parameters, given.x, c, how)
            flat[i] = before
            assert (above - below) / (2 * h) == pytest.approx(wanted[i], abs=2e-7 * len(flat))


def test_gradients_are_those_of_pytorch(backend: str) -> None:
    torch = pytest.importorskip("torch")
    net = built("float64", (6, 8, 4), activation="tanh", loss="cross_entropy")
    given = problem(net, 9)
    tape = choose.create(backend, net, 1).tape()
    tape.forward(given.parameters, given.x, Pass())
    d = np.random.default_rng(0).normal(size=(9, 4))
    dx = tape.backward(tape.output_gradient(d), inputs=True)
    gradient = tape.gradient()
    x = torch.tensor(given.x, requires_grad=True)
    flat = torch.tensor(given.parameters, requires_grad=True)
    w0, b0, w1, b1 = torch.split(flat, [48, 8, 32, 4])
    hidden = torch.tanh(x @ w0.reshape(6, 8) + b0)
    outputs = torch.softmax(hidden @ w1.reshape(8, 4) + b1, 1)
    (outputs * torch.tensor(d)).sum().backward()
    np.testing.assert_allclose(tape.outputs(), outputs.detach(), atol=1e-12)
    np.testing.assert_allclose(dx, x.grad, atol=1e-12)
    np.testing.assert_allclose(gradient, flat.grad, atol=1e-12)


def test_output_gradients_of_every_activation_follow_the_reference(isa: str, dtype: str) -> None:
    for activation in (*names.ACTIVATIONS, "softmax", "exp"):
        net = built(dtype, (4, 5), output=activation, loss="mse")
        given, rng = problem(net, 7), np.random.default_rng(2)
        d, found = rng.normal(size=(7, 5)).astype(dtype), []
        for engine in (choose.create("cython", net, 1), reference.Engine(net)):
            tape = engine.tape()
            tape.forward(given.parameters, given.x, Pass())
            found.append(tape.output_gradient(d))
        np.testing.assert_allclose(found[0], found[1], rtol=2e-5, atol=1e-5)
