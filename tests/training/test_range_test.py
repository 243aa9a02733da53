"""``Network.find_learning_rate`` and its plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends.choose import available
from tests.networks import make

BACKENDS = [name for name, reason in available().items() if not reason]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def state(net: pynn.Network) -> tuple[Any, ...]:
    vectors = [vector.tobytes() for vector in net._model.vectors]
    return vectors, net.epochs, net.updates, net.pixels, net._model.task, net._model.optimizer


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_are_those_of_training_with_these_rates(backend: str) -> None:
    net = make(backend=backend, dropout=0.1)
    before = state(net)
    found = net.find_learning_rate(
        X, Y, lowest=1e-4, highest=0.1, steps=11, optimizer="sgd", batch_size=32
    )
    assert state(net) == before
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 0.1, 11))
    rates = dict(enumerate(found.rates))
    losses: list[float] = []

    def collect(net: pynn.Network, record: pynn.Record) -> bool:
        rows = min(record.step * 32, 200)
        earlier = sum(
            loss * min(32, 200 - 32 * k) for k, loss in enumerate(losses[len(losses) // 7 * 7 :])
        )
        losses.append((record.loss * rows - earlier) / (rows - (record.step - 1) * 32))
        return len(losses) == 11

    net.fit(
        *(X, Y),
        epochs=2,
        batch_size=32,
        optimizer="sgd",
        learning_rate=1.0,
        schedule=lambda time: rates.get(round(time * 7), 0.0),
        callbacks=pynn.callbacks.Every(1, collect),
    )
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)


def test_the_suggestion_is_a_tenth_of_the_rate_with_the_lowest_loss() -> None:
    net = make(activation="tanh")
    found = net.find_learning_rate(X, Y, highest=1000)
    again = net.find_learning_rate(X, Y, highest=1000)
    np.testing.assert_array_equal(found.losses, again.losses)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 100
    assert found.suggestion == found.rates[found.smoothed.argmin()] / 10
    assert 1e-3 < found.suggestion < 1
    assert repr(found).startswith(f"LearningRates({len(found.rates)} from 1e-06 to ")
    history = net.fit(X, Y, learning_rate=found.suggestion, epochs=20)
    assert history[-1].loss < 0.5


def test_the_test_ends_when_the_loss_diverges() -> None:
    net = make((4, 8, 1), loss="mse")
    found = net.find_learning_rate(X, X[:, 0], optimizer="sgd", highest=1e9, batch_size=10)
    assert len(found.losses) < 100
    assert np.isfinite(found.losses).all()
    assert found.suggestion is not None
    too_high = net.find_learning_rate(X, X[:, 0], optimizer="sgd", lowest=10, highest=1e9)
    assert too_high.suggestion is None
    assert repr(too_high).endswith("suggestion none)")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lowest": 0}, "lowest: found 0, expected a finite number above 0"),
        ({"lowest": 1, "highest": 1}, "highest: found 1, expected a finite number above 1"),
        ({"steps": 1}, "steps: found 1, expected a whole number of 2 or more"),
        ({"learning_rate": 1}, "find_learning_rate: found 'learning_rate', expected one of"),
        ({"optimizer": "lbfgs"}, "optimizer: found 'lbfgs', which has no learning rate"),
        ({"batch_size": 0}, "batch_size: found 0"),
    ],
)
def test_wrong_arguments(settings: dict[str, Any], message: str) -> None:
    net = make()
    before = state(net)
    with pytest.raises(ValueError, match=message):
        net.find_learning_rate(X, Y, **settings)
    assert state(net) == before


def test_a_first_loss_that_is_not_finite() -> None:
    net = make((4, 1), loss="poisson", output="exp")
    net.biases = [np.full(1, 1000.0)]
    with pytest.raises(ValueError, match="found a first loss that is not finite"):
        net.find_learning_rate(X, np.ones(200))


def test_the_plot_has_rates_losses_and_suggestion() -> None:
    pytest.importorskip("matplotlib")
    found = make().find_learning_rate(X, Y, steps=40)
    ax = found.plot()
    points, line, suggestion = ax.get_lines()
    np.testing.assert_array_equal(points.get_xdata(), found.rates)
    np.testing.assert_array_equal(points.get_ydata(), found.losses)
    np.testing.assert_array_equal(line.get_ydata(), found.smoothed)
    assert suggestion.get_xdata() == [found.suggestion, found.suggestion]
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "learning rate")
    assert pynn.plots.learning_rates(found, ax) is ax
    with pytest.raises(TypeError, match="found a float, expected the result of Network.find_lear"):
        pynn.plots.learning_rates(0.1)
