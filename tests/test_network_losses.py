"""Losses of a network: what they accept, predict and show, and how they survive in files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec.architecture import Architecture
from pynn.spec.losses import LossFunction

Data = tuple[np.ndarray, np.ndarray]
VALUES: list[Any] = [
    *("mae", "huber", "log_cosh", "quantile", "poisson"),
    *(pynn.Huber(0.5), pynn.Quantile(0.75)),
]


@pytest.fixture
def values(rng: np.random.Generator) -> Data:
    """x (120, 3) and positive y (120,)."""
    x = rng.normal(size=(120, 3)).astype(np.float32)
    return x, np.exp(0.5 * x[:, 0]) + 0.2 * rng.random(120)


def make(loss: Any, n_out: int = 1, **more: Any) -> pynn.Network:
    return pynn.Network([3, 8, n_out], loss=loss, **{"backend": "numpy", "seed": 3, **more})


def fit(net: pynn.Network, data: Data, **more: Any) -> pynn.History:
    return net.fit(*data, **{"epochs": 2, "progress": False, **more})


@pytest.mark.parametrize("loss", VALUES, ids=str)
def test_values_in_the_shape_of_y(loss: Any, values: Data) -> None:
    x, y = values
    net = make(loss)
    assert fit(net, values).loss[-1] < net.history.loss[0]
    assert set(net.evaluate(x, y)) == {"loss"}
    assert net.predict(x).shape == (120,)
    assert net.predict(x).dtype == np.float32
    fit(net, (x, y[:, None]))
    assert net.predict(x).shape == (120, 1)
    with pytest.raises(ValueError, match="predict_proba: found a network for regression"):
        net.predict_proba(x)
    wide = make(loss, 2)
    fit(wide, (x, np.stack([y, y], 1)))
    assert wide.predict(x).shape == (120, 2)
    with pytest.raises(ValueError, match=r"y: found (shape \(120,\)|3 columns .*expected 2)"):
        fit(wide, (x, y))
    with pytest.raises(ValueError, match="y: found 3 columns .*expected 2"):
        fit(wide, (x, np.ones((120, 3))))


@pytest.mark.parametrize("loss", VALUES, ids=str)
def test_losses_survive_in_files_pickles_and_checkpoints(
    loss: Any, values: Data, tmp_path: Path
) -> None:
    net = make(loss)
    fit(net, values)
    net.save(tmp_path / "net")
    checkpoint = pynn.Checkpoint(tmp_path / "run", epochs=1)
    run = make(loss)
    fit(run, values, checkpoint=checkpoint)
    for twin in (
        pynn.load(tmp_path / "net", backend="numpy"),
        pynn.load(tmp_path / "run", backend="numpy"),
        pickle.loads(pickle.dumps(net)),
    ):
        assert twin.architecture == net.architecture
        assert repr(twin) == repr(net)
        assert twin.evaluate(*values) == net.evaluate(*values)
    again = make(loss)
    fit(again, values, epochs=3, checkpoint=checkpoint, resume=True)
    fit(net, values, epochs=1)
    np.testing.assert_array_equal(again.parameters, net.parameters)


def test_a_run_of_another_parameter_is_not_continued(values: Data, tmp_path: Path) -> None:
    checkpoint = pynn.Checkpoint(tmp_path / "run", epochs=1)
    fit(make(pynn.Huber(2.0)), values, checkpoint=checkpoint)
    with pytest.raises(ValueError, match=r"loss: found huber\(delta=1\), but .* huber\(delta=2\)"):
        fit(make("huber"), values, epochs=3, checkpoint=checkpoint, resume=True)


def test_a_name_means_the_default_parameters() -> None:
    for name, loss in (("huber", pynn.Huber(delta=1.0)), ("quantile", pynn.Quantile(q=0.5))):
        assert make(name).architecture == make(loss).architecture
        assert eval(repr(loss), vars(pynn)) == loss
    assert "huber(delta=1)" in repr(make("huber"))


def test_architectures_of_earlier_pickles_have_the_default_parameters() -> None:
    net = Architecture((3, 1), ("identity",), (), "huber", "float32")
    state = {k: v for k, v in vars(net).items() if k != "loss_parameters"}
    old = Architecture.__new__(Architecture)
    old.__dict__.update(state)
    assert old.loss_function == pynn.Huber(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": lambda: pynn.Huber(0)}, "Huber.delta: found 0, expected a finite number above 0"),
        ({"loss": lambda: pynn.Quantile(1.0)}, r"Quantile.q: found 1.0, expected .* \(0, 1\)"),
        ({"loss": lambda: pynn.Huber}, r"loss: found the class Huber, expected an object: Huber()"),
        ({"loss": lambda: "hubber"}, "loss: found 'hubber'.*did you mean 'huber'"),
        ({"loss": lambda: None}, "loss: found None, expected one of cross_entropy"),
    ],
)
def test_wrong_losses_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make(**{name: value() for name, value in arguments.items()})


def test_custom_losses_with_the_name_of_a_later_loss_stay(values: Data, tmp_path: Path) -> None:
    """Files of earlier versions may hold a custom loss that is named like a loss of pynn now."""
    own = pynn.Loss("huber", lambda a, t: (a - t) ** 2, lambda a, t: 2 * (a - t))
    net, mse = make(own), make("mse")
    fit(net, values)
    fit(mse, values)
    np.testing.assert_allclose(net.parameters, mse.parameters, rtol=1e-5)
    net.save(tmp_path / "net")
    twin = pynn.load(tmp_path / "net", functions=[own], backend="numpy")
    assert twin.evaluate(*values) == net.evaluate(*values)


def test_every_loss_is_plain_data() -> None:
    for loss in VALUES:
        if isinstance(loss, LossFunction):
            assert hash(loss) == hash(pickle.loads(pickle.dumps(loss)))
