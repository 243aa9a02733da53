"""Attributions: completeness, agreement with formulas, and odd input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import pynn

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 5))
LABELS = np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]
VALUES = X[:, 0] * X[:, 1] + X[:, 2]


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def trained(sizes, y, x=X, **settings) -> pynn.Network:
    net = pynn.Network(sizes, seed=1, **settings)
    net.fit(x, y, epochs=5, batch_size=20, learning_rate=0.01, progress=False)
    return net


def outputs(net: pynn.Network, x) -> np.ndarray:
    values = net.predict(x) if net.classes is None else net.predict_proba(x)
    return values.reshape(len(values), -1)


CASES = [
    trained([5, 8, 3], LABELS, activation="tanh", dtype="float64"),
    trained([5, 8, 6, 3], LABELS),
    trained([5, 8, 3], LABELS, standardize=True, norm="batch", activation="silu"),
    trained([5, 8, 1], VALUES, loss="mse", standardize=True, standardize_targets=True),
    trained([5, 8, 2], np.stack([VALUES, -VALUES], 1), loss="mse", backend="numpy"),
]


@pytest.mark.parametrize("net", CASES, ids=range(len(CASES)))
def test_the_sum_is_the_change_of_the_output(net: pynn.Network) -> None:
    x = X[:7]
    for k in range(net.architecture.n_out):
        found = net.attributions(x, output=k, baseline=0.1)
        assert found.shape == x.shape
        assert found.dtype == np.float64
        change = outputs(net, x)[:, k] - outputs(net, np.full((1, 5), 0.1))[:, k]
        assert (np.abs(found.sum(axis=1) - change) <= 1e-3 * np.abs(found).sum(axis=1)).all()
        several = net.attributions(x, "expected_gradients", baseline=X[20:40], output=k)
        change = outputs(net, x)[:, k] - outputs(net, X[20:40])[:, k].mean()
        assert (np.abs(several.sum(axis=1) - change) <= 1e-3 * np.abs(several).sum(axis=1)).all()
        single = [net.attributions(x, output=k, baseline=b) for b in X[20:40]]
        assert np.abs(np.mean(single, axis=0) - several).max() < 3e-3


def test_a_linear_network_has_its_products() -> None:
    net = trained([5, 1], VALUES, loss="mse", dtype="float64")
    expected = (X - 2) * net.weights[0][:, 0]
    assert np.abs(net.attributions(X, baseline=2) - expected).max() < 1e-12
    assert np.abs(net.attributions(X, baseline=np.full(5, 2)) - expected).max() < 1e-12
    mean = X.mean(axis=0)
    found = net.attributions(X, "expected_gradients", baseline=X)
    assert np.abs(found - (X - mean) * net.weights[0][:, 0]).max() < 1e-12


def test_a_smooth_network_agrees_with_a_riemann_sum() -> None:
    net = CASES[0]
    alphas = (np.arange(2000) + 0.5) / 2000
    for row in X[:3]:
        gradients = net.input_gradient(alphas[:, None] * row, output=2)
        expected = row * gradients.mean(axis=0)
        assert np.abs(net.attributions(row[None], output=2)[0] - expected).max() < 1e-6


def test_defaults() -> None:
    net = CASES[0]
    best = net.predict_proba(X).argmax(axis=1)
    assert np.array_equal(net.attributions(X), net.attributions(X, output=best))
    assert np.array_equal(net.attributions(X), net.attributions(X, baseline=np.zeros(5)))
    net = CASES[3]
    assert np.array_equal(net.attributions(X), net.attributions(X, baseline=net.input_mean))
    assert not net.attributions(np.zeros((1, 5)), baseline=0).any()
    before = CASES[0].parameters.copy(), CASES[0].updates
    CASES[0].attributions(X[:1])
    assert np.array_equal(CASES[0].parameters, before[0])
    assert CASES[0].updates == before[1]


@pytest.mark.parametrize("standardize", [False, True])
def test_pixels(standardize: bool) -> None:
    x = RANDOM.integers(0, 256, (40, 3, 4), dtype=np.uint8)
    x[0] = 255
    net = pynn.Network([12, 6, 2], pixels=True, standardize=standardize, seed=1)
    net.fit(x, x[:, 0, 0] > 99, epochs=2, progress=False)
    found = net.attributions(x, baseline=0, output=1)
    assert found.shape == (40, 12)
    assert (
        np.abs(found - net.attributions(x / np.float32(255), baseline=0.0, output=1)).max() < 1e-6
    )
    change = net.predict_proba(x)[:, 1] - net.predict_proba(0 * x)[:, 1]
    assert (np.abs(found.sum(axis=1) - change) <= 1e-3 * np.abs(found).sum(axis=1)).all()
    several = net.attributions(x[:3], "expected_gradients", baseline=x[10:20], output=1)
    change = net.predict_proba(x[:3])[:, 1] - net.predict_proba(x[10:20])[:, 1].mean()
    assert (np.abs(several.sum(axis=1) - change) <= 1e-3 * np.abs(several).sum(axis=1)).all()


def test_odd_input() -> None:
    net = CASES[0]
    expected = net.attributions(X[:2], output=0)
    fortran = np.asfortranarray(X)[:2]
    fortran.flags.writeable = False
    for x in (fortran, X[:2].tolist(), X[:4][::2][:1].repeat(2, 0) * 0 + X[:2]):
        assert np.allclose(net.attributions(x, output=0), expected, rtol=0, atol=1e-15)
    assert np.abs(net.attributions(X[:2].astype(np.float16), output=0) - expected).max() < 1e-2
    assert np.array_equal(net.attributions(X[:1], output=-3), expected[:1])
    pandas = pytest.importorskip("pandas")
    assert np.array_equal(net.attributions(pandas.DataFrame(X[:2]), output=0), expected)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (
            {"method": "shap"},
            ValueError,
            "method: found 'shap', expected one of integrated_gradien",
        ),
        (
            {"method": "expected_gradients"},
            ValueError,
            r"baseline: found None, expected rows \(m, 5",
        ),
        (
            {"method": "expected_gradients", "baseline": X[0]},
            ValueError,
            "baseline: found 1 dimensions, expected rows",
        ),
        ({"baseline": X}, ValueError, r"baseline: found shape \(60, 5\), expected a number or one"),
        ({"baseline": [1, 2]}, ValueError, r"baseline: found shape \(2,\), expected a number"),
        ({"baseline": np.nan}, ValueError, "baseline: found nan"),
        ({"output": 3}, ValueError, "output: found 3"),
        ({"output": [0, 1]}, ValueError, r"output: found shape \(2,\), expected"),
        ({"tolerance": 0}, ValueError, "tolerance: found 0"),
        ({"x": X[:, :3]}, ValueError, "x: "),
        ({"x": X[:0]}, ValueError, "x: "),
    ],
)
def test_wrong_arguments(settings, error, message: str) -> None:
    with pytest.raises(error, match=message):
        CASES[0].attributions(settings.pop("x", X), **settings)


def test_sparse_rows_and_several_values_are_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"x: found a sparse matrix, .*; use x.toarray\(\)"):
        CASES[0].attributions(sparse.csr_matrix(X))
    with pytest.raises(ValueError, match="output: found None, expected an index from 0 to 1"):
        CASES[4].attributions(X)


def test_an_integral_that_is_not_accurate_warns() -> None:
    net = pynn.Network([1, 1, 1], activation="sigmoid", loss="mse", dtype="float64")
    net.weights = [[[1e13]], [[1.0]]]
    net.biases = [[-0.4567e13], [0.0]]  # a step at 0.4567
    with pytest.warns(RuntimeWarning, match="attributions: found a sum of .* in row 0, expected"):
        net.attributions([[1.0]])
