"""Predictions for every pair of trained and requested dtype: results, dtypes, and no copies."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

from pynn.sklearn import core, perceptron

pytest.importorskip("sklearn", "1.7")
import scipy.sparse
from sklearn.metrics import log_loss

from tests.sklearn.side_by_side import CLASSIFIER, REGRESSOR, attempt, pair

ROWS = 40
RNG = np.random.default_rng(0)
X = RNG.integers(0, 9, (ROWS, 7)) / 4
LABELS = {
    "classes": np.arange(ROWS) % 4,
    "binary": np.arange(ROWS) % 3 > 0,
    "values": X[:, 0] + X[:, 1] ** 2,
    "targets": X[:, :2],
}
GIVEN = {
    **{d: lambda x, d=d: x.astype(d) for d in ("float16", "float32", "float64", "bool")},
    **{d: lambda x, d=d: x.astype(d) for d in ("uint8", "int8", "int16", "int32", "int64")},
    "uint64": lambda x: x.astype("uint64"),
    "longdouble": lambda x: x.astype(np.longdouble),
    "other byte order": lambda x: x.astype(">f8"),
    "list": lambda x: x.tolist(),
    "list of integers": lambda x: x.astype(int).tolist(),
    "list of rows": lambda x: list(x.astype("float32")),
    "columns first": lambda x: np.asfortranarray(x),
    "every second": lambda x: np.repeat(x, 2, axis=0)[::2],
    "sparse": lambda x: scipy.sparse.csr_matrix(x),
    "sparse float32": lambda x: scipy.sparse.csc_matrix(x.astype("float32")),
}
FAST = ["float32", "float64", "bool", "uint8", "int16", "int32", "int64", "uint64", "list",
        "list of integers", "list of rows", "columns first", "every second"]  # fmt: skip
METHODS = ["predict", "predict_proba", "predict_log_proba", "score"]


def trained(y, trained_dtype, hidden=(16,), **settings):
    """scikit-learn's estimator and pynn's with the coefficients of the first."""
    name = REGRESSOR if y in ("values", "targets") else CLASSIFIER
    two = pair(name, hidden_layer_sizes=hidden, max_iter=3, random_state=0)
    two[1].set_params(**settings)
    for one in two:
        attempt(one, lambda e: e.fit(X.astype(trained_dtype), LABELS[y]))
    two[1].coefs_, two[1].intercepts_ = two[0].coefs_, two[0].intercepts_
    two[1]._adopt()
    return two


@pytest.mark.parametrize("y", LABELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", GIVEN)
def test_answers_are_those_of_scikit_learn(given, dtype, y):
    two = trained(y, dtype)
    rows = GIVEN[given](X)
    for method in METHODS[:3]:
        if not hasattr(two[0], method):
            continue
        expected, found = (getattr(e, method)(rows) for e in two)
        if expected.dtype in (np.float32, np.float64):
            assert found.dtype == expected.dtype, method
        if expected.dtype.kind == "f":
            single = dtype == "float32" or found.dtype == np.float32
            np.testing.assert_allclose(found, expected.astype(float), 1e-4 if single else 1e-9)
        else:
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("y", LABELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", GIVEN)
def test_the_parameter_dtype_is_the_dtype_of_answers(given, dtype, y):
    mine = trained(y, dtype, dtype=dtype)[1]
    out = (mine.predict_proba if hasattr(mine, "predict_proba") else mine.predict)(GIVEN[given](X))
    assert out.dtype == dtype


def test_the_parameter_dtype_is_the_dtype_of_answers_after_lbfgs():
    two = pair(CLASSIFIER, solver="lbfgs", max_iter=3)
    attempt(two[1], lambda e: e.set_params(dtype="float32").fit(X, LABELS["classes"]))
    assert two[1].predict_proba(X).dtype == np.float32


@pytest.mark.parametrize("y, dtype", [("classes", "float32"), ("values", "float64")])
@pytest.mark.parametrize("parameter", [None, "float32", "float64"])
@pytest.mark.parametrize("given", FAST)
def test_no_call_copies_the_coefficients(given, parameter, dtype, y, monkeypatch):
    mine = trained(y, dtype, (512, 512), dtype=None)[1]
    mine.set_params(dtype=parameter)
    rows = GIVEN[given](X[:3])
    calls = []
    for module, name in (
        (perceptron, "flat_parameters"),
        (core, "flat_parameters"),
        (perceptron, "validate_data"),
    ):
        monkeypatch.setattr(module, name, lambda *a, name=name, **k: calls.append(name))
    for method in METHODS:
        if not hasattr(mine, method):
            continue
        arguments = (rows, LABELS[y][:3]) if method == "score" else (rows,)
        getattr(mine, method)(*arguments)
        tracemalloc.start()
        try:
            getattr(mine, method)(*arguments)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < mine.parameters.nbytes / 8
    assert calls == []


@pytest.mark.parametrize("given", ["sparse", "sparse float32", "float16", "longdouble"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_scikit_learn_checks_copy_no_coefficients_either(dtype, given, monkeypatch):
    mine = trained("classes", dtype)[1]
    monkeypatch.setattr(perceptron, "flat_parameters", None)
    mine.predict_proba(GIVEN[given](X))


def test_a_list_is_converted_once(monkeypatch):
    mine = trained("classes", "float32")[1]
    rows, converted = X[:2].tolist(), []

    class Numpy:
        def __getattr__(self, name):
            return getattr(np, name)

        def asarray(self, a, *args, **kwargs):
            converted.append(type(a))
            return np.asarray(a, *args, **kwargs)

    monkeypatch.setattr(perceptron, "np", Numpy())
    mine.predict(rows)
    assert converted == [list]


def test_probabilities_sum_to_one_in_the_dtype_of_the_answer():
    mine = trained("classes", "float32")[1]
    found = mine.predict_proba(X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_loss(LABELS["classes"], found)


@pytest.mark.parametrize("make", [np.array, scipy.sparse.csr_matrix, np.ndarray.tolist])
def test_numbers_that_float32_cannot_hold(make):
    rows = X.copy()
    rows[1, 2], rows[3, 0] = 1e300, -1e200
    theirs, mine = trained("values", "float32")
    expected, found = (e.predict(make(rows)) for e in (theirs, mine))
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, 1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("given", ["float32", "float64", "list", "columns first"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_that_are_not_finite_are_refused(dtype, given, value):
    two = trained("classes", dtype)
    rows = X.copy()
    rows[3, 1] = value
    errors = [attempt(e, lambda e: e.predict(GIVEN[given](rows)))[2] for e in two]
    assert errors[0] == errors[1] is not None


WRONG = {
    "no rows": [],
    "one row": X[0].tolist(),
    "rows of different lengths": [[1.0] * 7, [1.0] * 6],
    "too few columns": X[:, :6].tolist(),
    "text": [["a"] * 7],
    "numbers as text": [["1.5"] * 7],
    "complex": [[1j] * 7],
    "three axes": X[None].tolist(),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrong", WRONG)
def test_unusual_lists_give_the_same_answers_and_errors(wrong):
    two = trained("classes", "float64")
    errors = [attempt(e, lambda e: e.predict(WRONG[wrong]))[2] for e in two]
    assert errors[0] == errors[1]


def test_lists_of_python_objects():
    mine = trained("values", "float64")[1]
    np.testing.assert_array_equal(mine.predict([[10**30] * 7]), mine.predict([[1e30] * 7]))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        mine.predict([[1.0] * 6 + [None]])
