"""The moving average of parameters on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.backends import choose, gaps
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.parity import (
    OPTIMIZERS,
    Case,
    assert_follows_reference,
    assert_same_for_any_threads,
    mostly_zeros,
    new_trainer,
    problem,
    some_weights,
    train,
)


def test_the_reference_averages_the_parameters_of_every_step() -> None:
    net = Architecture.build([4, 6, 3], dtype="float64")
    given = problem(net, 30)
    case = Case(optimizer=optimizers.Adam(), rate=0.01, ema=0.7, ema_offset=-5)
    expected = given.parameters.copy()
    for steps in range(1, 41):
        run = train("numpy", net, given, case.but(steps=steps))
        t = steps + 5
        decay = min(0.7, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * run.parameters
        np.testing.assert_allclose(run.state[-1], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
def test_averages_follow_the_reference(
    backend: str, dtype: str, optimizer: optimizers.Optimizer, rate: float
) -> None:
    """Wide and narrow layers, one of them frozen, in one chunk and in several."""
    norm = None if gaps.lacks(backend, "norm") else "layer"
    net = Architecture.build([17, 33, 3, 5], "tanh", dropout=[0.3, 0.1], dtype=dtype, norm=norm)
    case = Case(optimizer=optimizer, rate=rate, l2=0.01, ema=0.9, ema_offset=-3, frozen=(1,))
    run = assert_follows_reference(backend, net, problem(net, 73), case)
    plain = train(backend, net, problem(net, 73), case.but(ema=0.0))
    assert run.parameters.tobytes() == plain.parameters.tobytes()
    case = case.but(batch_size=1300, steps=3, sample_weight=some_weights(1499))
    assert_follows_reference(backend, net, problem(net, 1499), case)


def test_layers_that_update_in_the_product(backend: str, dtype: str) -> None:
    """SGD in dense products, Adam in sparse ones, and layers of several blocks."""
    net = Architecture.build([130, 300, 260], "relu", dtype=dtype)
    given = mostly_zeros(net, 80)
    for optimizer in (optimizers.SGD(), optimizers.Adam()):
        case = Case(optimizer=optimizer, rate=0.01, batch_size=30, steps=6, ema=0.99)
        run = assert_follows_reference(backend, net, given, case)
        if backend == "cython":
            assert_same_for_any_threads(net, given, case, run, slices=2)


@pytest.mark.parametrize("sizes", [[1, 1, 2], [3, 17, 33, 3]])
@pytest.mark.parametrize("batch_size", [1, 33])
def test_with_noise_and_any_threads(
    backend: str, dtype: str, sizes: list[int], batch_size: int
) -> None:
    noise: dict[str, Any] = {"input_noise": 0.1, "hidden_noise": 0.2}
    if gaps.lacks(backend, "noise"):
        noise = {}
    net = Architecture.build(sizes, "relu", dtype=dtype, dropout=0.1, input_dropout=0.2, **noise)
    case = Case(optimizer=optimizers.Adam(), rate=0.003, batch_size=batch_size, ema=0.95)
    given = problem(net, 73)
    one, *others = (train(backend, net, given, case.but(threads=k)) for k in (1, 2, 3))
    for run in others:
        for found, expected in zip(run.vectors, one.vectors, strict=True):
            assert found.tobytes() == expected.tobytes()
    assert_follows_reference(backend, net, given, case)


def test_a_trainer_evaluates_the_average(backend: str, dtype: str) -> None:
    net = Architecture.build([9, 20, 3], dtype=dtype)
    given = problem(net, 60)
    case = Case(optimizer=optimizers.Adam(), rate=0.01, ema=0.9)
    engine = choose.create(backend, net, 2)
    trainer = new_trainer(engine, given, case)
    trainer.steps(0, 0, case.rates(0, 6), 0)
    average = train(backend, net, given, case.but(steps=6)).state[-1]
    found = trainer.evaluate(given.x, given.y)
    assert found == engine.evaluate(average, given.x, given.y)
