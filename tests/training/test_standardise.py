"""Standardised inputs: the statistics of the first fit, and every use of them later."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.files.tensors import load_tensors, save_tensors

from .runs import figures

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)) * [1, 1e-6, 1e5, 3, 1] + [0, 0, 1e9, -2, 7]
X[:, 4] = 7
Y = np.arange(60) % 3
MEAN, SCALE = X.mean(axis=0), np.where(X.std(axis=0) > 0, X.std(axis=0), 1)


def network(**more: Any) -> pynn.Network:
    return pynn.Network([5, 4, 3], seed=1, **{"standardize": True, "backend": "numpy", **more})


def fitted(net: pynn.Network, x: Any = X, y: Any = Y, **more: Any) -> pynn.Network:
    net.fit(x, y, **{"epochs": 3, "batch_size": 16, "progress": False, **more})
    return net


def statistics(net: pynn.Network) -> list[bytes]:
    assert net.input_mean is not None
    assert net.input_scale is not None
    return [net.input_mean.tobytes(), net.input_scale.tobytes()]


@pytest.fixture(scope="module")
def trained() -> pynn.Network:
    return fitted(network())


def copied(net: pynn.Network, tmp_path: Path) -> list[pynn.Network]:
    net.save(tmp_path / "net")
    loaded = pynn.load(tmp_path / "net", backend="numpy")
    return [loaded, copy.deepcopy(net), pickle.loads(pickle.dumps(net))]


# --- Statistics -----------------------------------------------------------------------------------


def test_as_numpy_computes_them(trained: pynn.Network) -> None:
    assert trained.input_mean is not None
    assert trained.input_scale is not None
    np.testing.assert_allclose(trained.input_mean, MEAN, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(trained.input_scale, SCALE, rtol=1e-7)
    assert trained.input_scale.dtype == np.float64
    assert not trained.input_mean.flags.writeable
    assert "standardized" in repr(trained)
    assert "standardized" not in repr(network(standardize=0 > 1))


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_training_is_that_on_rows_standardized_before(backend: str) -> None:
    """In every bit, in float64."""
    net = fitted(network(backend=backend, dtype="float64"))
    x = (X - net.input_mean) * (1 / net.input_scale)
    plain = fitted(network(backend=backend, dtype="float64", standardize=False), x)
    assert net.parameters.tobytes() == plain.parameters.tobytes()
    assert figures(net.history) == figures(plain.history)
    assert net.predict_proba(X).tobytes() == plain.predict_proba(x).tobytes()
    assert net.evaluate(X, Y) == plain.evaluate(x, Y)
    assert net.predict_proba(X[3:4]).tobytes() == net.predict_proba(X)[3:4].tobytes()
    loss, gradient = net.loss_and_gradient(X, Y)
    assert (loss, gradient.tolist()) == (plain.loss_and_gradient(x, Y)[0], gradient.tolist())


def test_containers_of_the_same_numbers_agree() -> None:
    """Whole numbers above 2²⁴, which float32 would round."""
    whole = (RNG.integers(0, 50, (60, 5)) + 1_700_000_000).astype(np.int64)
    pandas: Any = pytest.importorskip("pandas")
    frame = pandas.DataFrame(whole).astype({2: "float64"})
    nets = [fitted(network(), x) for x in (whole, whole.astype(float), whole.tolist(), frame)]
    assert len({net.parameters.tobytes() for net in nets}) == 1
    assert nets[0].input_scale is not None
    assert nets[0].input_scale[0] > 10


def test_only_the_rows_to_train_on_count() -> None:
    net = fitted(network(), validation=0.25)
    held = RNG.normal(size=(9, 5)) * 1e6
    other = fitted(network(), validation=(held, Y[:9]))
    assert statistics(net) != statistics(fitted(network())) == statistics(other)
    expected = other.evaluate(held, Y[:9])
    assert other.history[-1].validation_loss == pytest.approx(expected["loss"], rel=1e-6)


def test_pixels_count_as_value_over_255() -> None:
    pixels = RNG.integers(0, 256, (60, 5), dtype=np.uint8)
    net, same = fitted(network()), fitted(network(pixels=True), pixels)
    net = fitted(network(), pixels)
    assert net.pixels is True
    assert statistics(net) == statistics(same)
    np.testing.assert_allclose(net.input_mean, (pixels / 255).mean(axis=0), rtol=1e-12)
    outputs = net.predict_proba(pixels), net.predict_proba(pixels / 255)
    np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_sparse_matrices_are_only_scaled() -> None:
    sparse: Any = pytest.importorskip("scipy.sparse")
    x = np.where(RNG.random((60, 5)) < 0.4, X[:, [0, 3, 0, 3, 0]], 0)
    net = fitted(network(backend="auto"), sparse.csr_matrix(x), validation=0.2)
    other = fitted(network(backend="numpy"), sparse.csr_matrix(x), validation=0.2)
    assert statistics(net) == statistics(other)
    assert not np.any(net.input_mean)
    np.testing.assert_allclose(net.parameters, other.parameters, atol=1e-4)
    np.testing.assert_allclose(
        net.predict_proba(x), net.predict_proba(sparse.coo_matrix(x)), rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"x: found a sparse matrix .*toarray"):
        fitted(network()).predict(sparse.csr_matrix(x))


def test_the_first_fit_decides(trained: pynn.Network, tmp_path: Path) -> None:
    """Also for copies, and whatever the later data are."""
    for net in copied(trained, tmp_path):
        assert statistics(net) == statistics(trained)
        assert net.predict_proba(X).tobytes() == trained.predict_proba(X).tobytes()
        fitted(net, X * 2 + 5)
        assert statistics(net) == statistics(trained)


# --- State ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(backend: str, tmp_path: Path) -> None:
    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if len(net.history) == 2:
            raise KeyboardInterrupt

    def run(path: Path, *calls: Callable[..., object]) -> pynn.Network:
        net = network(backend=backend)
        saved = pynn.Checkpoint(path, steps=3)
        fitted(net, epochs=4, checkpoint=saved, resume=True, callbacks=list(calls))
        return net

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", stop)
    resumed, whole = run(tmp_path / "a"), run(tmp_path / "b")
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert statistics(resumed) == statistics(whole)
    with pytest.raises(ValueError, match=r"standardize: found False, but the run .* has True"):
        saved = pynn.Checkpoint(tmp_path / "a", steps=3)
        fitted(network(backend=backend, standardize=False), epochs=4, checkpoint=saved, resume=True)


def test_early_stopping_restores_a_network_with_its_statistics() -> None:
    stopping = pynn.EarlyStopping(patience=1, monitor="validation_loss")
    net = fitted(network(), epochs=30, learning_rate=1.0, validation=0.2, callbacks=stopping)
    held = net.history
    best = min(record.validation_loss for record in held if record.validation_loss is not None)
    assert np.isfinite(best)
    assert net.input_mean is not None


def test_divergence_names_the_layer_and_keeps_the_statistics() -> None:
    net = network(backend="auto")
    with pytest.raises(pynn.DivergenceError) as caught:
        fitted(net, X * 1e30, optimizer="sgd", learning_rate=1e30)
    assert caught.value.layer is not None
    assert np.isfinite(net.parameters).all()


def test_before_the_first_fit_there_are_none() -> None:
    net = network()
    assert net.input_mean is None
    assert net.input_scale is None
    with pytest.raises(ValueError, match="standardize: found a network that has not been trained"):
        net.predict(X)
    with pytest.raises(ZeroDivisionError):
        fitted(net, callbacks=Failing())
    assert net.input_mean is None  # nothing was trained


class Failing(pynn.Callback):
    """Fails before the first step."""

    def on_fit_begin(self, net: Any) -> None:
        raise ZeroDivisionError


def test_earlier_files_and_pickles_load(trained: pynn.Network, tmp_path: Path) -> None:
    plain = network(standardize=False)
    plain.save(tmp_path / "net")
    tensors, document = load_tensors(tmp_path / "net")
    del document["standardize"]
    save_tensors(tmp_path / "net", tensors, document)
    state = plain._model.__getstate__()
    del state["standardize"], state["input_standard"]
    for model in (pynn.load(tmp_path / "net")._model, type(plain._model).from_state(state)):
        assert model.standardize is False
        assert model.input_standard is None


def test_damaged_statistics_are_refused(trained: pynn.Network, tmp_path: Path) -> None:
    for change in ({"inputs.scale": SCALE * 0}, {"inputs.mean": MEAN[:4]}, {"inputs.mean": X[0:1]}):
        trained.save(tmp_path / "net")
        tensors, document = load_tensors(tmp_path / "net")
        save_tensors(tmp_path / "net", {**tensors, **change}, document)
        with pytest.raises(ValueError, match="not a model that pynn can use"):
            pynn.load(tmp_path / "net")


def test_arguments() -> None:
    with pytest.raises(ValueError, match="standardize: found 1, expected True or False"):
        network(standardize=1)
    x = X.copy()
    x[2, 3] = np.nan
    with pytest.raises(ValueError, match="x: found nan at row 2, column 3"):
        fitted(network(), x)
    x[2, 3] = 1.7e308
    x[3, 3] = -1.7e308
    net = fitted(network(), x)
    assert net.input_scale is not None
    assert np.isfinite(net.input_scale).all()


def test_equal_numbers_that_differ_by_rounding_are_constant(rng: np.random.Generator) -> None:
    a = rng.uniform(1, 9, 100)
    x = np.stack([a * 0.1 / a, a, np.full(100, 1e9) + 1e-5 * a], axis=1)
    assert x[:, 0].std() > 0
    net = pynn.Network([3, 1], loss="mse", standardize=True, backend="numpy")
    net.fit(x, a, epochs=1, progress=False)
    assert net.input_scale is not None
    assert net.input_scale[0] == 1
    np.testing.assert_allclose(net.input_scale[1:], x[:, 1:].std(axis=0), rtol=1e-2)


# --- Numbers that are too large -------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "cython"])
def test_numbers_that_are_too_large_once_standardized_are_refused(backend: str) -> None:
    if backend == "cython":
        pytest.importorskip("pynn.backends.cython._core")
    net = fitted(network(backend=backend))
    large = X[:2].copy()
    large[1, 0] = 1e39
    match = r"found 1e\+39 at row 1, column 0 \(counted from 0\), which standardised with mean"
    calls: list[Callable[[Any], Any]] = [
        *(net.predict, net.predict_proba, net.compile().predict, net.forward),
        lambda x: net.activations(x, 0),
        lambda x: net.evaluate(x, [0, 1]),
        lambda x: net.score(x, [0, 1]),
        lambda x: net.fit(x, [0, 1], epochs=1, progress=False),
        lambda x: net.evaluate([(x, np.array([0, 1]))]),
    ]
    for call in calls:
        for x in (large, np.asfortranarray(large)):
            with pytest.raises(ValueError, match=match):
                call(x)
    with pytest.raises(ValueError, match=match):
        net.predict(large.tolist())
    with pytest.raises(ValueError, match=r"^validation\[0\]: " + match):
        fitted(net, validation=(large, [0, 1]))
    with pytest.raises(ValueError, match=r"row 4, column 0"):  # of a stream
        net.evaluate([(X[:3], Y[:3]), (large, Y[:2])])
    large[1, 0] = 1e37
    assert np.isfinite(net.predict_proba(large)).all()


def test_stored_values_of_sparse_rows_are_searched() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    net = fitted(network(), sparse.csr_array(X))
    large = np.zeros((3, 5))
    large[2, 3] = 1e300
    with pytest.raises(ValueError, match=r"found 1e\+300 at row 2, column 3"):
        net.predict(sparse.csr_array(large))


def test_an_outlier_that_hides_the_other_values_is_refused() -> None:
    x = X.copy()
    x[7, 3] = -1e300
    with pytest.raises(ValueError, match=r"^x: found -1e\+300 at row 7, column 3 .* the scale 1"):
        fitted(network(), x)
    x[7, 3], x[8, 3] = 0, -1e300
    with pytest.raises(ValueError, match=r"^rows (to train on|that validation=0.2 holds out): "):
        fitted(network(), x, validation=0.2)
    fitted(network(), X * 1e60)  # large everywhere
    fitted(network(), np.where(X > 0, 1e60, 0))  # two values
