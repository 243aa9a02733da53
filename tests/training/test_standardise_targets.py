"""Standardised targets: training on them, with predictions, losses and metrics in their unit."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn

from .runs import figures

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = 1e9 + 40 * (X[:, 0] - X[:, 1] ** 2) + RNG.normal(size=60)
TWO = np.stack([Y, 1e-3 * X[:, 2]], axis=1)
LOSSES: list[Any] = ["mse", "mae", pynn.Huber(0.5), "log_cosh", pynn.Quantile(0.8)]


def network(outputs: int = 1, **more: Any) -> pynn.Network:
    settings = {"loss": "mse", "standardize_targets": True, "backend": "numpy", **more}
    return pynn.Network([3, 4, outputs], activation="tanh", seed=1, **settings)


def fitted(net: pynn.Network, y: Any, x: Any = X, **more: Any) -> pynn.Network:
    net.fit(x, y, **{"epochs": 3, "batch_size": 16, "progress": False, **more})
    return net


def scaled(net: pynn.Network, y: np.ndarray) -> np.ndarray:
    assert net.target_mean is not None
    assert net.target_scale is not None
    columns = y.reshape(len(y), -1)
    return (columns - net.target_mean) * (1 / net.target_scale)


def defined(loss: Any, error: np.ndarray) -> np.ndarray:
    """The loss of predictions minus targets, by its definition."""
    size = np.abs(error)
    if isinstance(loss, pynn.Huber):
        d = loss.delta
        return np.where(size <= d, error**2 / 2, d * (size - d / 2))
    if isinstance(loss, pynn.Quantile):
        return np.where(error < 0, loss.q * size, (1 - loss.q) * size)
    return {"mse": error**2, "mae": size, "log_cosh": np.logaddexp(error, -error) - np.log(2)}[loss]


@pytest.mark.parametrize("backend", ["cython", "numpy"])
@pytest.mark.parametrize("y", [Y, TWO], ids=["one", "two"])
def test_training_is_that_on_targets_standardized_before(backend: str, y: np.ndarray) -> None:
    """In every bit, in float64; losses and predictions are converted."""
    outputs = y.reshape(60, -1).shape[1]
    net = fitted(network(outputs, backend=backend, dtype="float64"), y, validation=(X, y))
    plain = network(outputs, backend=backend, dtype="float64", standardize_targets=False)
    fitted(plain, scaled(net, y))
    assert net.parameters.tobytes() == plain.parameters.tobytes()
    np.testing.assert_allclose(net.target_mean, y.mean(axis=0).reshape(-1), rtol=1e-14, atol=1e-17)
    np.testing.assert_allclose(net.target_scale, y.std(axis=0).reshape(-1), rtol=1e-6)
    predicted = plain.predict(X) * net.target_scale + net.target_mean
    assert net.predict(X).tobytes() == predicted.tobytes()
    assert net.predict(X).shape == y.shape
    assert net.predict(X[7:8]).tobytes() == net.predict(X)[7:8].tobytes()
    if outputs == 1:
        factor = float(net.target_scale[0]) ** 2  # type: ignore[index]
        losses = [record.loss * factor for record in plain.history]
        assert [record.loss for record in net.history] == losses
    assert net.history[-1].validation_loss == net.evaluate(X, y)["loss"]
    loss, gradient = net.loss_and_gradient(X, y)
    assert (loss, gradient.tobytes()) == (
        plain.loss_and_gradient(X, scaled(net, y))[0],
        gradient.tobytes(),
    )


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("y", [Y, TWO], ids=["one", "two"])
def test_losses_are_those_of_predictions_in_the_original_unit(loss: Any, y: np.ndarray) -> None:
    outputs = y.reshape(60, -1).shape[1]
    net = network(outputs, loss=loss)
    fitted(net, y, validation=0.2, metrics=["mae"], epochs=2)
    expected = defined(loss, net.predict(X) - y).mean()
    assert net.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-9)
    # With one batch and a learning rate that changes nothing, the loss before the update is that
    # after the epoch.
    fitted(
        net, y, batch_size=None, learning_rate=1e-30, epochs=1, training_metrics=True, metrics="mae"
    )
    record = net.history[-1]
    assert record.loss == pytest.approx(defined(loss, net.predict(X) - y).mean(), rel=1e-5)
    assert record.metrics["mae"] == pytest.approx(np.abs(net.predict(X) - y).mean(), rel=1e-9)


@pytest.mark.parametrize("y", [Y, TWO], ids=["one", "two"])
def test_distributions_and_lists_of_quantiles(y: np.ndarray) -> None:
    columns = y.reshape(60, -1)
    n = columns.shape[1]
    net = fitted(network(2 * n, loss="gaussian_nll", dtype="float64"), y, validation=(X, y))
    mean, deviation = net.predict_distribution(X)
    assert mean.tobytes() == net.predict(X).tobytes()
    assert mean.shape == deviation.shape == y.shape
    expected = (np.log(deviation) + ((y - mean) / deviation) ** 2 / 2).mean()
    assert net.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-9)
    assert net.history[-1].validation_loss == net.evaluate(X, y)["loss"]
    fitted(net, y, batch_size=None, learning_rate=1e-30, epochs=1)
    assert net.history[-1].loss == pytest.approx(expected, rel=1e-9)

    q = 0.2, 0.5, 0.9
    net = fitted(network(3 * n, loss=pynn.Quantile(q)), y, validation=(X, y))
    error = net.predict(X).reshape(60, n, 3) - columns[:, :, None]
    expected = np.where(error < 0, -np.array(q) * error, (1 - np.array(q)) * error).mean()
    assert net.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-9)


def test_custom_losses_take_predictions_in_the_original_unit() -> None:
    relative = pynn.Loss(
        "relative", lambda a, t: ((a - t) / 3) ** 2, lambda a, t: 2 * (a - t) / 9, output="identity"
    )
    net = fitted(network(loss=relative), Y, validation=(X, Y))
    expected = (((net.predict(X) - Y) / 3) ** 2).mean()
    assert net.history[-1].validation_loss == pytest.approx(expected, rel=1e-9)


def test_metrics_and_predictions_in_float32_have_the_digits_of_float64() -> None:
    """float32 numbers near 1e9 are 64 apart."""
    net = fitted(network(), Y, epochs=200, learning_rate=0.03, validation=(X, Y), metrics=["r2"])
    assert net.predict(X).dtype == np.float64
    assert net.history[-1].metrics["validation_r2"] > 0.9
    assert net.evaluate(X, Y, metrics=["r2"])["r2"] == net.history[-1].metrics["validation_r2"]
    assert net.history[-1].loss < Y.var() / 5


def test_state(tmp_path: Path) -> None:
    """Files, copies, later fits and resumed runs keep the statistics."""
    net = fitted(network(standardize=True), Y, validation=0.2)
    assert "standardized, standardized targets" in repr(net)
    statistics = net.target_mean, net.target_scale
    net.save(tmp_path / "net")
    others = [pynn.load(tmp_path / "net"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for other in others:
        np.testing.assert_allclose(other.predict(X), net.predict(X), rtol=1e-9)
        fitted(other, Y * 3, X * 2)
        assert (other.target_mean, other.target_scale) == statistics


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if net.updates == 6:
            raise KeyboardInterrupt

    def run(path: Path, *calls: Any) -> pynn.Network:
        saved = pynn.Checkpoint(path, steps=3)
        net = network(2, standardize=True)
        return fitted(net, TWO, validation=0.2, checkpoint=saved, resume=True, callbacks=[*calls])

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", pynn.Every(1, stop))
    resumed, whole = run(tmp_path / "a"), run(tmp_path / "b")
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert figures(resumed.history) == figures(whole.history)
    with pytest.raises(ValueError, match="standardize_targets: found False, but the run"):
        saved = pynn.Checkpoint(tmp_path / "a", steps=3)
        net = network(2, standardize=True, standardize_targets=False)
        fitted(net, TWO, validation=0.2, checkpoint=saved, resume=True)


def test_losses_and_targets_that_cannot_be_standardized_are_refused() -> None:
    for more in ({"loss": "poisson"}, {"loss": "cross_entropy"}, {"output": "tanh"}):
        with pytest.raises(ValueError, match="standardize_targets: found True with"):
            network(2, **more)
    with pytest.raises(ValueError, match="standardize_targets: found True with classes in y"):
        fitted(network(2), np.arange(60) % 2)
    net = network()
    with pytest.raises(ValueError, match="means and scales of its targets are not known"):
        net.evaluate(X, Y)
    assert net.target_mean is None
    assert net.target_scale is None


def test_the_example_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "standardise.md"
    found = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page.read_text("utf-8"), re.S)
    assert found is not None
    exec(found[1], {})
    assert capsys.readouterr().out == found[2]


def test_the_options_together() -> None:
    """Leaky units, a quantile, both kinds of standardised columns, and metrics."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 20)) * 7 + 3
    y = 50 * x[:, 0] + rng.normal(size=300)
    reg = pynn.Network(
        [20, 64, 64, 1],
        activation=pynn.LeakyReLU(0.2),
        loss=pynn.Quantile(0.9),
        standardize=True,
        standardize_targets=True,
    )
    reg.fit(x, y, epochs=30, metrics=["mae", "r2"], validation=(x[:50], y[:50]), progress=False)
    assert 0.6 < (y < reg.predict(x)).mean() <= 1
    assert reg.history[-1].metrics["validation_r2"] > 0.7


def test_lbfgs_minimises_the_loss_of_standardized_rows() -> None:
    pytest.importorskip("scipy")
    net = network(standardize=True)
    net.fit(X * 1e4 + 1e6, Y, optimizer="lbfgs", epochs=60, validation=(X * 1e4 + 1e6, Y))
    assert net.evaluate(X * 1e4 + 1e6, Y, metrics=["r2"])["r2"] > 0.99
    assert net.history[-1].loss == pytest.approx(net.history[-1].validation_loss, rel=1e-4)


def test_the_range_test_trains_on_standardized_rows() -> None:
    net = network(standardize=True)
    found = net.find_learning_rate(X * 1e4 + 1e6, Y, steps=8, batch_size=16)
    assert found.losses[0] < 10
    assert net.target_mean is None


def test_missing_targets_and_weights() -> None:
    """Statistics are those of known targets; losses count known targets by their weights."""
    y, w = TWO.copy(), np.arange(60) / 60.0
    y[::3, 0] = np.nan
    net = fitted(network(2), y, sample_weight=w, missing_targets="ignore", validation=(X, y, w))
    np.testing.assert_allclose(net.target_mean, np.nanmean(y, axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(net.target_scale, np.nanstd(y, axis=0), rtol=1e-6)
    known = ~np.isnan(y)
    errors = np.where(known, (net.predict(X) - np.where(known, y, 0)) ** 2, 0)
    expected = (errors * w[:, None]).sum() / (known * w[:, None]).sum()
    found = net.evaluate(X, y, sample_weight=w, missing_targets="ignore")["loss"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert net.history[-1].validation_loss == found


def test_a_column_without_a_known_target_has_scale_1(rng: np.random.Generator) -> None:
    y = rng.normal(5, 3, size=(20, 2))
    y[:, 1] = np.nan
    net = pynn.Network([3, 2], loss="mse", standardize_targets=True, backend="numpy")
    net.fit(rng.normal(size=(20, 3)), y, missing_targets="ignore", epochs=1, progress=False)
    assert net.target_scale is not None
    np.testing.assert_allclose(net.target_scale, [y[:, 0].std(), 1], rtol=1e-12)


def test_a_loss_that_float64_cannot_hold_is_infinite(rng: np.random.Generator) -> None:
    net = pynn.Network([3, 1], loss="mse", standardize_targets=True, backend="numpy")
    y = 1e160 * rng.normal(size=20)
    assert net.fit(rng.normal(size=(20, 3)), y, epochs=1, progress=False).loss == [np.inf]


@pytest.mark.parametrize("gaps", ["training", "validation", "both"])
def test_distributions_with_missing_targets(gaps: str) -> None:
    """Columns whose scales differ count with the weights of their known targets."""
    incomplete = TWO.copy()
    incomplete[::3, 0] = np.nan
    incomplete[5, :] = np.nan
    y = TWO if gaps == "validation" else incomplete
    held = TWO if gaps == "training" else incomplete
    w = np.linspace(0.5, 2, 60)
    net = network(4, loss="gaussian_nll", dtype="float64")
    fitted(
        *(net, y),
        batch_size=None,
        learning_rate=1e-30,
        epochs=1,
        missing_targets="ignore",
        sample_weight=w,
        validation=(X, held, w),
    )
    mean, deviation = net.predict_distribution(X)

    def expected(target: np.ndarray) -> float:
        terms = np.log(deviation) + ((target - mean) / deviation) ** 2 / 2
        weights = w[:, None] * ~np.isnan(target)
        return float(np.nansum(weights * terms) / weights.sum())

    assert net.history[-1].loss == pytest.approx(expected(y), rel=1e-9)
    assert net.history[-1].validation_loss == pytest.approx(expected(held), rel=1e-9)
    found = net.evaluate(X, held, sample_weight=w, missing_targets="ignore")["loss"]
    assert found == pytest.approx(expected(held), rel=1e-9)
