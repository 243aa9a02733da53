"""``Network.compile``: a frozen copy with identical results."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import pynn

Array = np.ndarray

SIZES = ([20, 33, 3], [40, 12], [30, 1], [64, 70, 8, 5], [9, 16, 2])
BOTH = ["cython", "numpy"]


def network(sizes: list[int], backend: str, **settings: object) -> pynn.Network:
    if backend == "cython":
        pytest.importorskip("pynn.backends.cython._core")
    if sizes[-1] == 1:
        settings = {"loss": "binary_cross_entropy", **settings}
    net = pynn.Network(sizes, backend=backend, pixels=False, seed=4, **settings)  # type: ignore[arg-type]
    for b in net.biases:
        b[...] = np.linspace(-1, 1, len(b))
    return net


def rows(n: int, n_in: int, zeros: float = 0.0) -> Array:
    rng = np.random.default_rng(n)
    x = rng.random((n, n_in), np.float32)
    x[rng.random((n, n_in)) < zeros] = 0
    return x


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_results_are_those_of_the_network(sizes, dtype, backend):
    net = network(sizes, backend, dtype=dtype)
    made = net.compile()
    for n in (1, 2, 9, 63, 65, 300):
        for x in (rows(n, sizes[0]), rows(n, sizes[0], 0.9), rows(n, sizes[0]).astype("float64")):
            for _ in range(2):
                assert made.predict_proba(x).tobytes() == net.predict_proba(x).tobytes()
            np.testing.assert_array_equal(made.predict(x), net.predict(x))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_norms_residual_layers_and_sparse_rows(norm):
    sparse = pytest.importorskip("scipy.sparse")
    net = network([24, 24, 24, 4], "cython", norm=norm, residual=True)
    net.fit(rows(64, 24), np.arange(64) % 4, epochs=1, progress=False)
    made = net.compile()
    for n in (1, 40, 300):
        x = rows(n, 24, 0.8)
        assert made.predict_proba(x).tobytes() == net.predict_proba(x).tobytes()
        compressed = sparse.csr_matrix(x)
        assert made.predict_proba(compressed).tobytes() == net.predict_proba(compressed).tobytes()


@pytest.mark.parametrize("backend", BOTH)
def test_it_is_frozen(backend):
    net, x = network(SIZES[0], backend), rows(5, 20)
    made, before = net.compile(), net.predict_proba(x)
    net.weights[0][...] = 0
    net.fit(x, np.arange(5) % 3, epochs=2, progress=False)
    np.testing.assert_array_equal(made.predict_proba(x), before)
    assert not np.array_equal(net.predict_proba(x), before)
    out = np.empty((5, 3), np.float32)
    assert made.predict_proba(x, out=out) is out
    np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize("backend", BOTH)
def test_it_checks_as_the_network_does(backend):
    made, x = network(SIZES[0], backend).compile(), rows(5, 20)
    x[4, 3] = np.nan
    with pytest.raises(ValueError, match="row 4, column 3"):
        made.predict(x)
    with pytest.raises(ValueError, match="expected 20"):
        made.predict(rows(5, 19))
    with pytest.raises(ValueError, match="regression"):
        pynn.Network([3, 1], loss="mse", backend=backend).compile().predict_proba(rows(2, 3))


@pytest.mark.parametrize("backend", BOTH)
def test_it_uses_the_average_standardisation_and_labels(backend):
    net = network([20, 16, 3], backend, standardize=True)
    x, y = rows(90, 20), np.array(["a", "b", "c"])[np.arange(90) % 3]
    net.fit(x, y, epochs=2, ema=0.9, progress=False)
    made = net.compile()
    assert made.predict(x).tolist() == net.predict(x).tolist()
    np.testing.assert_array_equal(made.predict_proba(x), net.predict_proba(x))
    assert made.classes is not None
    assert made.classes.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("backend", BOTH)
def test_regression_in_the_original_unit(backend):
    net = network([6, 8, 1], backend, loss="mse", standardize_targets=True)
    x = rows(50, 6)
    net.fit(x, x.sum(axis=1) * 1e3, epochs=2, progress=False)
    found = net.compile().predict(x)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, net.predict(x))


@pytest.mark.parametrize("backend", BOTH)
def test_copies_and_pickles(backend):
    made, x = network(SIZES[0], backend).compile(), rows(4, 20)
    expected = made.predict_proba(x)
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        np.testing.assert_array_equal(twin.predict_proba(x), expected)
    assert repr(made).startswith("Predictor(20-33-3, float32, precision 'full', " + backend)


def test_bf16_rounds_the_products_of_a_network_in_full_precision():
    net = network([70, 128, 64, 5], "cython", threads=1)
    try:
        made = net.compile(precision="bf16")
    except ImportError as error:
        pytest.skip(str(error))
    rounded = pynn.Network(net.sizes, backend="cython", precision="bf16", pixels=False)
    rounded.parameters = net.parameters
    for n in (1, 7, 40, 300):
        x = rows(n, 70)
        np.testing.assert_array_equal(made.predict_proba(x), rounded.predict_proba(x))
        np.testing.assert_allclose(made.predict_proba(x), net.predict_proba(x), atol=0.02)
    full = rounded.compile("full")
    assert full.predict_proba(x).tobytes() == net.predict_proba(x).tobytes()


def test_precisions_that_do_not_fit_are_refused():
    net = pynn.Network([4, 3], dtype="float64", backend="numpy")
    with pytest.raises(ValueError, match="found 'bf16' with dtype float64"):
        net.compile("bf16")
    with pytest.raises(ValueError, match="precision: found 'half'"):
        net.compile("half")
