"""``pynn.Ensemble``: combined predictions, and its file."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest

import pynn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 5))
NAMES = np.array(["no", "perhaps", "yes"])[np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.5])]


def trained(y: Any, *, n_out: int, count: int = 3, **settings: Any) -> list[pynn.Network]:
    networks = [pynn.Network([5, 12, n_out], seed=k, **settings) for k in range(count)]
    pynn.fit_many(networks, X, y, epochs=20, batch_size=16, learning_rate=0.01)
    return networks


def test_labels():
    networks = trained(NAMES, n_out=3)
    ensemble = pynn.Ensemble(networks)
    probabilities = np.array([net.predict_proba(X) for net in networks], np.float64)
    mean = probabilities.mean(axis=0)
    assert ensemble.predict_proba(X).dtype == np.float32
    assert np.allclose(ensemble.predict_proba(X), mean)
    assert np.array_equal(ensemble.predict(X), networks[0].classes[mean.argmax(axis=1)])
    assert np.allclose(ensemble.spread(X), probabilities.std(axis=0))
    found = ensemble.evaluate(X, NAMES, metrics=["log_loss", "f1"])
    assert found["accuracy"] == ensemble.score(X, NAMES)
    assert found["accuracy"] == np.mean(ensemble.predict(X) == NAMES)
    of_label = mean[np.arange(80), np.searchsorted(networks[0].classes, NAMES)]
    assert np.isclose(found["loss"], -np.log(of_label).mean())
    assert np.isclose(found["log_loss"], found["loss"], rtol=1e-5)
    weight = np.arange(80.0)
    weighted = ensemble.evaluate(X, NAMES, sample_weight=weight)
    assert np.isclose(weighted["loss"], -(np.log(of_label) @ weight) / weight.sum())
    alone = pynn.Ensemble(networks[:1])
    expected = networks[0].evaluate(X, NAMES)
    assert alone.evaluate(X, NAMES) == pytest.approx(expected, rel=1e-5)
    assert not alone.spread(X).any()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_members_with_norms(tmp_path, norm):
    """Predictions use the running statistics and the averages, also from a file."""
    networks = [pynn.Network([5, 12, 12, 3], seed=k, norm=norm) for k in range(3)]
    pynn.fit_many(networks, X, NAMES, epochs=5, batch_size=16, ema=[None, 0.9, 0.9])
    ensemble = pynn.Ensemble(networks)
    probabilities = np.array([net.predict_proba(X) for net in networks], np.float64)
    assert np.allclose(ensemble.predict_proba(X), probabilities.mean(axis=0), rtol=1e-6)
    assert np.allclose(ensemble.spread(X), probabilities.std(axis=0))
    ensemble.save(tmp_path / "all")
    loaded = pynn.Ensemble.load(tmp_path / "all")
    assert np.array_equal(loaded.predict_proba(X), ensemble.predict_proba(X))
    for one, other in zip(loaded, networks, strict=True):
        assert one._model.flat.tobytes() == other._model.flat.tobytes()
        assert (one.average is None) == (other.average is None)


def test_a_majority():
    networks = trained(NAMES, n_out=3, count=4)
    ensemble = pynn.Ensemble(networks, voting="majority")
    for row in range(80):
        votes = [net.predict(X[row : row + 1])[0] for net in networks]
        most = max(votes.count(one) for one in votes)
        chosen = ensemble.predict(X[row : row + 1])[0]
        assert votes.count(chosen) == most
    # Equal votes: the larger mean probability decides.
    first, second = networks[0], networks[1]
    differ = first.predict(X) != second.predict(X)
    two, mean = (pynn.Ensemble([first, second], voting) for voting in ("majority", "mean"))
    chosen = two.predict_proba(X).argmax(axis=1)
    among = (first.predict_proba(X).argmax(axis=1) == chosen) | (
        second.predict_proba(X).argmax(axis=1) == chosen
    )
    assert np.array_equal(two.predict(X)[differ & among], mean.predict(X)[differ & among])
    hinge = pynn.Ensemble(trained(NAMES, n_out=3, loss="hinge"))
    assert hinge.score(X, NAMES) > 0.7
    with pytest.raises(ValueError, match="predict_proba"):
        hinge.predict_proba(X)


def test_one_output_and_multilabel_data():
    y = (X[:, 0] > 0).astype(int)
    binary = pynn.Ensemble(trained(y, n_out=1, loss="binary_cross_entropy"))
    assert binary.predict_proba(X).shape == (80, 2)
    p = np.array([net.predict_proba(X)[:, 1] for net in binary], np.float64).mean(axis=0)
    assert np.array_equal(binary.predict(X), p > 0.5)
    assert np.array_equal(binary[0].predict(X), binary[0].predict_proba(X)[:, 1] > 0.5)
    loss = -np.log(np.where(y == 1, p, 1 - p)).mean()
    assert np.isclose(binary.evaluate(X, y)["loss"], loss, rtol=1e-5)
    both = np.stack([y, X[:, 1] > 0], axis=1).astype(float)
    for voting in ("mean", "majority"):
        many = pynn.Ensemble(trained(both, n_out=2, loss="binary_cross_entropy"), voting)
        votes = sum(net.predict(X) for net in many)
        found = many.predict(X)
        assert found.shape == (80, 2)
        assert voting == "mean" or np.array_equal(found, votes >= 2)
        assert many.evaluate(X, both)["accuracy"] == np.mean(found == both)
        assert many.score(X, both) == np.mean((found == both).all(axis=1))


@pytest.mark.parametrize("loss", ["mse", "poisson", "quantile", "gaussian_nll"])
def test_values(loss):
    y = np.exp(0.5 * X[:, 0])
    n_out = 2 if loss == "gaussian_nll" else 1
    standard = {"standardize_targets": True} if loss in ("mse", "gaussian_nll") else {}
    networks = trained(y, n_out=n_out, loss=loss, **standard)
    ensemble = pynn.Ensemble(networks)
    values = np.array([net.predict(X) for net in networks], np.float64)
    assert np.allclose(ensemble.predict(X), values.mean(axis=0))
    assert np.allclose(ensemble.spread(X), values.std(axis=0))
    residual = ((y - values.mean(axis=0)) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert np.isclose(ensemble.score(X, y), 1 - residual, rtol=1e-4)
    alone = pynn.Ensemble(networks[:1])
    assert np.isclose(alone.evaluate(X, y)["loss"], networks[0].evaluate(X, y)["loss"], rtol=1e-4)
    if loss == "gaussian_nll":
        parts = [net.predict_distribution(X) for net in networks]
        mean, deviation = ensemble.predict_distribution(X)
        squares = np.mean([s**2 + m**2 for m, s in parts], axis=0)
        assert np.allclose(deviation, np.sqrt(squares - mean**2), rtol=1e-4)
        expected = 0.5 * np.mean(2 * np.log(deviation) + ((y - mean) / deviation) ** 2)
        assert np.isclose(ensemble.evaluate(X, y)["loss"], expected, rtol=1e-4)


@pytest.mark.parametrize("voting", ["mean", "majority"])
def test_missing_targets(voting):
    """Values of outputs that are not known do not count, in networks and in ensembles."""
    given = {"missing_targets": "ignore"}
    weight = np.arange(80.0)
    hidden = np.random.default_rng(1).random((80, 2)) < 0.3
    hidden[1] = True
    labels = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(float)
    many = pynn.Ensemble(trained(labels, n_out=2, loss="binary_cross_entropy"), voting)
    y = np.where(hidden, np.nan, labels)
    known = ~hidden.all(axis=1)
    for one in (many, many[0]):
        right = ((one.predict(X) == labels) | hidden).all(axis=1)
        assert one.score(X, y, **given) == right[known].mean()
        assert np.isclose(
            one.score(X, y, weight, **given), np.average(right, weights=weight * known)
        )
        with pytest.raises(ValueError, match="y"):
            one.score(X, y)
    with pytest.raises(ValueError, match="expected weights of 0"):
        many.score(X, labels, -weight)
    values = X[:, :2] + 1
    both = pynn.Ensemble(trained(values, n_out=2, loss="mse"), voting)
    y = np.where(hidden, np.nan, values)
    for one in (both, both[0]):
        part = [
            1 - ((a - b) ** 2)[k].sum() / ((a - a[k].mean()) ** 2)[k].sum()
            for a, b, k in zip(values.T, one.predict(X).T, ~hidden.T, strict=True)
        ]
        assert np.isclose(one.score(X, y, **given), np.mean(part), rtol=1e-4)
    for ensemble, targets in ((both, values), (many, labels)):
        t = np.where(hidden, np.nan, targets)
        for w in (None, weight):
            found = pynn.Ensemble(ensemble[:1]).evaluate(X, t, sample_weight=w, **given)
            expected = ensemble[0].evaluate(X, t, sample_weight=w, **given)
            assert found == pytest.approx(expected, rel=1e-5)


def test_files(tmp_path):
    cube = pynn.Activation("cube", lambda z: z**3, lambda z: 3 * z**2)
    networks = trained(NAMES, n_out=3)
    ensemble = pynn.Ensemble(networks, "majority")
    path = tmp_path / "all.safetensors"
    ensemble.save(path)
    with pytest.raises(ValueError, match=r"found an ensemble, .*; use pynn.Ensemble.load\(path\)"):
        pynn.load(path)
    loaded = pynn.Ensemble.load(path, threads=1)
    assert loaded.voting == "majority"
    assert np.array_equal(loaded.predict_proba(X), ensemble.predict_proba(X))
    assert loaded[1].history.loss == networks[1].history.loss
    loaded[1].fit(X, NAMES, epochs=1)
    assert len(pickle.loads(pickle.dumps(ensemble))) == 3
    assert repr(loaded).startswith("Ensemble(3 × Network(5-12-3")
    networks[0].save(path)
    with pytest.raises(ValueError, match="found no ensemble"):
        pynn.Ensemble.load(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="truncated"):
        pynn.Ensemble.load(path)
    custom = pynn.Ensemble([pynn.Network([5, 4, 2], activation=cube, backend="numpy")])
    custom.save(path)
    with pytest.raises(ValueError, match="functions: found none named 'cube'"):
        pynn.Ensemble.load(path, backend="numpy")
    again = pynn.Ensemble.load(path, functions=cube, backend="numpy")
    assert np.array_equal(again.predict(X), custom.predict(X))


def test_members_must_fit():
    first = pynn.Network([5, 4, 2])
    for other, text in (
        (pynn.Network([4, 4, 2]), "networks[1]: found inputs: 4, expected 5"),
        (pynn.Network([5, 4, 3]), "networks[1]: found outputs: 3, expected 2"),
        (pynn.Network([5, 4, 2], loss="mse"), "networks[1]: found targets of the kind: values"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            pynn.Ensemble([first, other])
    other = pynn.Network([5, 4, 2])
    other.classes = ["a", "b"]
    with pytest.raises(ValueError, match="found classes"):
        pynn.Ensemble([first, other])
    with pytest.raises(ValueError, match="found none"):
        pynn.Ensemble([])
    with pytest.raises(TypeError, match="found str"):
        pynn.Ensemble([first, "a"])
    with pytest.raises(ValueError, match="voting"):
        pynn.Ensemble([first], voting="median")
