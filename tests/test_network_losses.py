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
    *("mae", "huber", "log_cosh", "quantile", "poisson", "gamma", "tweedie"),
    *(pynn.Huber(0.5), pynn.Quantile(0.75), pynn.Tweedie(1.8)),
]
CLASSES: list[Any] = ["hinge", "squared_hinge", "focal", pynn.Focal(1.0)]
SEVERAL: list[Any] = ["gaussian_nll", pynn.Quantile([0.1, 0.5, 0.9])]
"""Losses that need several outputs for each column of y."""


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


@pytest.mark.parametrize("loss", SEVERAL, ids=str)
def test_several_outputs_for_each_column_of_y(loss: Any, values: Data) -> None:
    x, y = values
    k = 2 if loss == "gaussian_nll" else 3
    net = make(loss, k)
    fit(net, values, validation=0.2, metrics=["mae"])
    assert net.history.loss[-1] < net.history.loss[0]
    point = net.predict(x) if k == 2 else net.predict(x)[:, 1]
    assert net.evaluate(x, y, metrics="mae")["mae"] == pytest.approx(
        np.abs(point - y).mean(), rel=1e-5
    )
    assert net.predict(x).shape == ((120,) if k == 2 else (120, 3))
    wide = make(loss, 2 * k)
    fit(wide, (x, np.stack([y, -y], 1)))
    assert wide.predict(x).shape == ((120, 2) if k == 2 else (120, 2, 3))
    with pytest.raises(
        ValueError, match=f"sizes: found {k + 1} outputs with loss .* multiple of {k}"
    ):
        make(loss, k + 1)
    with pytest.raises(ValueError, match=f"y: found {k} columns .*expected 1, one for {k} outputs"):
        fit(net, (x, np.ones((120, k))))
    with pytest.raises(ValueError, match=r"y: found shape \(120,\), expected \(rows, 2\)"):
        fit(wide, values)


def test_the_columns_of_quantiles_are_those_of_single_networks(values: Data) -> None:
    """Without hidden layers each output learns by itself, from a third of the gradient."""
    x, _ = values
    quantiles = [0.2, 0.5, 0.9]
    settings = {"optimizer": "sgd", "epochs": 5, "batch_size": 30}
    net = pynn.Network([3, 3], loss=pynn.Quantile(quantiles), init="zeros", backend="numpy")
    fit(net, values, learning_rate=0.3, **settings)
    for k, q in enumerate(quantiles):
        one = pynn.Network([3, 1], loss=pynn.Quantile(q), init="zeros", backend="numpy")
        fit(one, values, learning_rate=0.1, **settings)
        np.testing.assert_allclose(net.predict(x)[:, k], one.predict(x), atol=1e-5)


def test_predict_distribution(values: Data, rng: np.random.Generator) -> None:
    x = rng.normal(size=(400, 3)).astype(np.float32)
    y = x[:, 0] + np.exp(x[:, 1]) * rng.normal(size=400)
    net = make("gaussian_nll", 2)
    fit(net, (x, y), epochs=120, learning_rate=0.01)
    mean, deviation = net.predict_distribution(x)
    np.testing.assert_array_equal(mean, net.predict(x))
    assert mean.shape == deviation.shape == (400,)
    assert mean.dtype == deviation.dtype == np.float32
    assert (deviation > 0).all()
    assert np.corrcoef(np.log(deviation), x[:, 1])[0, 1] > 0.8
    assert 0.5 < (np.abs(y - mean) < deviation).mean() < 0.85
    with pytest.raises(ValueError, match="predict_distribution: found loss 'mse', which predicts"):
        make("mse").predict_distribution(x)


@pytest.mark.parametrize("loss", CLASSES, ids=str)
def test_classes(loss: Any, blobs: Data) -> None:
    x, y = blobs
    names = np.array(["a", "b", "c"])
    net = pynn.Network([4, 8, 3], loss=loss, backend="numpy", seed=1)
    fit(net, (x, names[y]), epochs=30, learning_rate=0.02, validation=0.2, metrics=["f1"])
    assert net.evaluate(x, names[y])["accuracy"] > 0.9
    assert (net.predict(x) == names[y]).mean() == net.evaluate(x, names[y])["accuracy"]
    one = pynn.Network([4, 8, 1], loss=loss, backend="numpy", seed=1)
    fit(one, (x, y == 2), epochs=30, learning_rate=0.02)
    assert one.evaluate(x, y == 2)["accuracy"] > 0.9
    found = one.evaluate(x, y == 2, metrics=["auc", "f1"])
    assert (one.predict(x) == (y == 2)).mean() == pytest.approx(found["accuracy"])
    assert min(found["auc"], found["f1"]) > 0.9
    output = "sigmoid" if one.architecture.activations[-1] == "sigmoid" else None
    many = pynn.Network([4, 8, 2], loss=loss, output=output, backend="numpy", seed=1)
    both = np.stack([y == 0, y != 1], 1).astype(int)
    fit(many, (x, both), epochs=30, learning_rate=0.02)
    assert (many.predict(x) == both).mean() == pytest.approx(many.evaluate(x, both)["accuracy"])
    assert many.evaluate(x, both)["accuracy"] > 0.9


def test_a_hinge_has_no_probabilities(blobs: Data) -> None:
    x, y = blobs
    net = pynn.Network([4, 3], loss="hinge", backend="numpy")
    fit(net, blobs)
    with pytest.raises(ValueError, match="predict_proba: found loss 'hinge', whose outputs are no"):
        net.predict_proba(x)
    with pytest.raises(ValueError, match="metrics: found 'log_loss' with loss 'hinge'"):
        net.evaluate(x, y, metrics="log_loss")
    one = pynn.Network([4, 1], loss="hinge", backend="numpy")
    with pytest.raises(
        ValueError, match=r"y: found the target 0.5, expected 0 or 1 for loss 'hinge'"
    ):
        fit(one, (x, np.full(len(x), 0.5)))


@pytest.mark.parametrize(
    ("loss", "least", "message"),
    [
        ("gamma", 0.0, "y: found 0, expected values above 0 for loss 'gamma'"),
        ("gamma", 1e-60, "y: found 1e-60, expected values above 0 for loss 'gamma'"),
        (
            "tweedie",
            -1.0,
            r"y: found -1, expected values of 0 or more for loss 'tweedie\(power=1.5",
        ),
    ],
)
def test_targets_out_of_range_are_refused(
    loss: str, least: float, message: str, values: Data
) -> None:
    x, y = values
    y = y.copy()
    y[7] = least
    with pytest.raises(ValueError, match=message):
        fit(make(loss), (x, y))


@pytest.mark.parametrize("loss", VALUES + SEVERAL, ids=str)
def test_losses_survive_in_files_pickles_and_checkpoints(
    loss: Any, values: Data, tmp_path: Path
) -> None:
    def make(loss: Any) -> pynn.Network:
        return pynn.Network([3, 8, 6 if loss in SEVERAL else 1], loss=loss, backend="numpy")

    if loss in SEVERAL:
        k = make(loss).architecture.n_targets
        values = values[0], np.stack([values[1]] * k, 1)
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
        ({"loss": lambda: pynn.Quantile([0.5, 0])}, r"Quantile.q\[1\]: found 0, expected"),
        ({"loss": lambda: pynn.Quantile([])}, "Quantile.q: found no quantile"),
        ({"loss": lambda: pynn.Quantile("a")}, "Quantile.q: found 'a', expected"),
        ({"loss": lambda: pynn.Tweedie(2)}, r"Tweedie.power: found 2, expected .* \(1, 2\)"),
        ({"loss": lambda: pynn.Focal(-1)}, "Focal.gamma: found -1, expected .* 0 or more"),
        ({"loss": lambda: pynn.Focal(2, 1.0)}, r"Focal.alpha: found 1.0, expected .* \(0, 1\)"),
        (
            {"loss": lambda: pynn.Focal(2, 0.3), "n_out": lambda: 2},
            "loss: found Focal.alpha 0.3 with output 'softmax', expected None",
        ),
        (
            {"loss": lambda: "gamma", "output": lambda: "softplus"},
            "output: found 'softplus', expected 'exp' for loss 'gamma'",
        ),
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


def test_parameters_of_numpy_become_plain_numbers(tmp_path: Path) -> None:
    for loss in (
        pynn.Huber(np.float32(2)),
        pynn.Quantile(np.array([0.25, 0.5])),
        pynn.Tweedie(1.5),
    ):
        net = make(loss, loss.per_target)
        net.save(tmp_path / "net")
        assert pynn.load(tmp_path / "net", backend="numpy").architecture == net.architecture
    assert repr(pynn.Huber(np.float64(2))) == repr(pynn.Huber(2)) == "Huber(delta=2.0)"


def test_every_loss_is_plain_data() -> None:
    for loss in VALUES:
        if isinstance(loss, LossFunction):
            assert hash(loss) == hash(pickle.loads(pickle.dumps(loss)))


def test_the_code_on_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "losses.md"
    if not page.is_file():
        pytest.skip("needs a checkout of the sources")
    text = page.read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(code, {"__name__": "page"})
    assert capsys.readouterr().out == text.partition("```text\n")[2].partition("```")[0]
