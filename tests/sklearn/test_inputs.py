"""Inputs of many kinds, errors, warnings and scikit-learn's own tests."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import pynn.sklearn
from pynn.sklearn import estimators

pytest.importorskip("sklearn", "1.7")
import scipy.sparse
from sklearn import config_context
from sklearn.utils.estimator_checks import check_estimator

import pynn
from tests.sklearn.side_by_side import (
    CLASSIFIER,
    REGRESSOR,
    SOLVER_NAMES,
    attempt,
    both,
    close,
    compare,
    data,
    kind,
    outputs,
    pair,
    repeat,
    same,
)

# --- Inputs of many kinds -------------------------------------------------------------------------


def frame(x):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(x, columns=[f"column {k}" for k in range(x.shape[1])])


def read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


def small(x):
    """The nearest of the numbers 0 to 200."""
    return np.clip(np.round(x * 40 + 100), 0, 200)


INPUTS = {
    "list": lambda x: x.tolist(),
    "frame": frame,
    "float32, columns first": lambda x: np.asfortranarray(x, np.float32),
    "columns first": np.asfortranarray,
    "read-only": read_only,
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "big-endian": lambda x: x.astype(">f8"),
    "float16": lambda x: x.astype(np.float16),
    "uint8": lambda x: small(x).astype(np.uint8),
    "int64": lambda x: small(x).astype(np.int64),
    "bool": lambda x: x > 0,
    "objects": lambda x: x.astype(object),
    "matrix of uint8": lambda x: scipy.sparse.csr_matrix(small(x).astype(np.uint8)),
    "matrix of float32": lambda x: scipy.sparse.csc_matrix(x.astype(np.float32)),
    "matrix of bool": lambda x: scipy.sparse.csr_matrix(x > 0),
    "column twice in a row": lambda x: scipy.sparse.csr_matrix(
        (
            np.concatenate([x.ravel(), x.ravel()]),
            (np.tile(np.repeat(np.arange(len(x)), x.shape[1]), 2), np.tile(np.arange(x.size), 2)),
        ),
        shape=(len(x), x.size),
    )[:, : x.shape[1]],
}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("dataset", ["wine", "diabetes"])
@pytest.mark.parametrize("given", INPUTS)
def test_inputs_of_many_kinds_train_the_same(given, dataset, solver):
    x, y = data(dataset)
    rows = INPUTS[given](x)
    single = "float32" in given
    iterations = {"max_iter": 4 if single or solver == "lbfgs" else 8}
    compare(kind(dataset), rows, y, 2e-3 if single else 1e-6, solver=solver, **iterations)


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("trained", [np.float32, np.float64])
@pytest.mark.parametrize("given", INPUTS)
def test_inputs_of_predict(given, trained):
    x, y = data("wine")
    rtol = 1e-8 if trained is np.float64 else 1e-4
    two = both(CLASSIFIER, lambda e: e.fit(x.astype(trained), y), random_state=0, max_iter=3)
    two[1].coefs_, two[1].intercepts_ = two[0].coefs_, two[0].intercepts_
    for _ in range(2):
        repeat(two, lambda e: e.predict(INPUTS[given](x)))
        rows = INPUTS[given](x)
        expected, found = (e.predict_proba(rows) for e in two)
        close(found, expected, rtol, given)
        assert np.array_equal(*(e.predict(rows) for e in two))
        # The second time from the vector that the core works on.
        attempt(two[1], lambda e: e._adopt())


def test_assigned_arrays_stay_those_of_the_program():
    x, y = data("wine")
    two = both(CLASSIFIER, lambda e: e.fit(x, y), random_state=0, max_iter=3)
    one = two[1]

    def agree():
        for rows in x[:1], x, x.astype("f4"), x.tolist():
            found, expected = one.predict_proba(rows), two[0].predict_proba(rows)
            np.testing.assert_allclose(found, expected, 1e-5)

    for e in two:
        e.coefs_ = [c.copy() for c in two[0].coefs_]
        e.intercepts_ = [b.copy() for b in two[0].intercepts_]
    agree()
    copied = one._copied
    for e in two:
        e.coefs_[0] *= 0.5  # in place
        e.intercepts_[-1][0] = 3
    agree()
    assert one._copied is copied
    for e in two:
        e.coefs_[1] = e.coefs_[1] * 2
    agree()
    assert one._copied is not copied
    assert "_copied" not in one.__getstate__()
    one.partial_fit(x, y)
    assert one._current() is not None


def test_lazy_frames():
    polars = pytest.importorskip("polars")
    x, y = data("wine")
    frame = polars.DataFrame(x, schema=[f"column {k}" for k in range(x.shape[1])])
    lazy, labels = frame.lazy(), polars.LazyFrame({"label": y.ravel()})
    one, two = (estimators.MLPClassifier((4,), max_iter=2, random_state=0) for _ in range(2))
    one.fit(frame, y)
    two.fit(lazy, labels, validation_data=(lazy, labels))
    assert np.array_equal(two.predict_proba(lazy), one.predict_proba(frame))
    assert two.score(lazy, labels) == one.score(frame, y)
    two.partial_fit(lazy, labels)


def test_predict_takes_the_dtypes_that_fit_takes():
    x, y = data("wine")
    dtypes = [np.dtype("f8").newbyteorder("<")]
    with contextlib.suppress(ImportError):
        dtypes.append(importlib.import_module("ml_dtypes").bfloat16)
    for dtype in dtypes:
        one = estimators.MLPClassifier((4,), max_iter=2, random_state=0)
        one.fit(x.astype(dtype), y)
        found = one.predict_proba(x.astype(dtype))
        np.testing.assert_allclose(found, one.predict_proba(x.astype(dtype).astype("f8")), 1e-6)


@pytest.mark.parametrize("change", [np.longdouble, np.float16], ids=["longdouble", "float16"])
def test_unsupported_dtypes_are_refused(change):
    x, y = data("wine")
    two = both(CLASSIFIER, lambda e: e.fit(x, y), random_state=0, max_iter=3)
    rtol = 1e-8
    if change is np.float16:
        rtol = 2e-3
        for one in two:
            one.coefs_ = [c.astype(change) for c in one.coefs_]
            one.intercepts_ = [b.astype(change) for b in one.intercepts_]
    expected, found = (e.predict_proba(x.astype(change)) for e in two)
    np.testing.assert_allclose(found, expected.astype(float), rtol)
    for one in two:
        one.partial_fit(x, y)
    expected, found = (e.predict_proba(x) for e in two)
    np.testing.assert_allclose(found, expected, rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_of_single_rows(dtype):
    for name, (x, y) in ((CLASSIFIER, data("iris", dtype)), (REGRESSOR, outputs())):
        two = both(name, lambda e, x=x, y=y: e.fit(x, y), random_state=0, max_iter=3)
        for k in range(5):
            expected, found = (e.predict(x[k : k + 1]) for e in two)
            close(found, expected, 1e-4, "predict")


def test_integers_as_targets():
    x, y = data("diabetes")
    compare(REGRESSOR, x, np.round(y * 5).astype(int))
    compare(REGRESSOR, x, np.round(y * 5).astype(int).tolist(), solver="lbfgs", max_iter=5)


def test_targets_of_float64_with_rows_of_float32():
    x, y = data("diabetes", np.float32)
    compare(REGRESSOR, x, 1000 + 100 * y, 2e-3)


# --- Errors and warnings --------------------------------------------------------------------------


def fit_then(action):
    """Fit on iris, then do something else."""

    def both_steps(e):
        e.fit(*data("iris"))
        action(e)

    return both_steps


def with_one(array, value):
    array = np.array(array, dtype=float)
    array.flat[7] = value
    return array


X, Y = data("iris")


Z = data("diabetes")[1][: len(X)]


ZERO_ROWS = np.zeros((0, X.shape[1]))


WRONG = {
    "bad solver": ({"solver": "rmsprop"}, lambda e: e.fit(X, Y)),
    "bad alpha": ({"alpha": -1}, lambda e: e.fit(X, Y)),
    "bad rate": ({"learning_rate_init": 0}, lambda e: e.fit(X, Y)),
    "bad schedule": ({"learning_rate": "cosine"}, lambda e: e.fit(X, Y)),
    "bad momentum": ({"solver": "sgd", "momentum": 2}, lambda e: e.fit(X, Y)),
    "bad batch": ({"batch_size": 0}, lambda e: e.fit(X, Y)),
    "bad iterations": ({"max_iter": 0.5}, lambda e: e.fit(X, Y)),
    "bad beta": ({"beta_1": 1.0}, lambda e: e.fit(X, Y)),
    "bad epsilon": ({"epsilon": 0.0}, lambda e: e.fit(X, Y)),
    "bad fraction": ({"validation_fraction": 1.0}, lambda e: e.fit(X, Y)),
    "bad layers": ({"hidden_layer_sizes": (5, 0)}, lambda e: e.fit(X, Y)),
    "bad flag": ({"shuffle": "yes"}, lambda e: e.fit(X, Y)),
    "NaN": ({}, lambda e: e.fit(with_one(X, np.nan), Y)),
    "infinity": ({}, lambda e: e.fit(with_one(X, np.inf), Y)),
    "NaN in y": ({}, lambda e: e.fit(X, with_one(Y, np.nan))),
    "NaN in predict": ({}, fit_then(lambda e: e.predict(with_one(X, np.nan)))),
    "infinity in predict": ({}, fit_then(lambda e: e.predict(with_one(X, -np.inf)))),
    "rows do not match": ({}, lambda e: e.fit(X, Y[:-1])),
    "one dimension": ({}, lambda e: e.fit(X[:, 0], Y)),
    "three dimensions": ({}, lambda e: e.fit(X[:, None], Y)),
    "no rows": ({}, lambda e: e.fit(ZERO_ROWS, Y[:0])),
    "no columns": ({}, lambda e: e.fit(X[:, :0], Y)),
    "words": ({}, lambda e: e.fit(X.astype(str).astype(object) + "x", Y)),
    "complex": ({}, lambda e: e.fit(X * 1j, Y)),
    "predicts no rows": ({}, fit_then(lambda e: e.predict(ZERO_ROWS))),
    "predicts one row, flat": ({}, fit_then(lambda e: e.predict(X[0]))),
    "predicts other columns": ({}, fit_then(lambda e: e.predict(X[:, :3]))),
    "predicts words": ({}, fit_then(lambda e: e.predict([["a"] * X.shape[1]]))),
    "scores other columns": ({}, fit_then(lambda e: e.score(X[:, :3], Y))),
    "not fitted": ({}, lambda e: e.predict(X)),
    "weights of wrong length": ({}, lambda e: e.fit(X, Y, sample_weight=np.ones(3))),
    "weights NaN": ({}, lambda e: e.fit(X, Y, sample_weight=with_one(np.ones(len(X)), np.nan))),
    "weights of two columns": ({}, lambda e: e.fit(X, Y, sample_weight=np.ones((len(X), 2)))),
    "weights all zero": ({}, lambda e: e.fit(X, Y, sample_weight=np.zeros(len(X)))),
    "weights of a batch zero": (
        {"batch_size": 5, "shuffle": False},
        lambda e: e.fit(X, Y, sample_weight=np.arange(len(X)) > 20),
    ),
    "held out one": (
        {"early_stopping": True, "validation_fraction": 0.01},
        lambda e: e.fit(np.arange(20.0)[:, None], np.zeros(20)),
    ),
    "partial_fit held out": ({"early_stopping": True}, lambda e: e.fit(X, Y).partial_fit(X, Y)),
    "partial_fit other columns": ({}, fit_then(lambda e: e.partial_fit(X[:, :2], Y))),
    "bad generator": ({"random_state": "seven"}, lambda e: e.fit(X, Y)),
}


WRONG_LABELS = {
    "held out too few": (
        {"early_stopping": True, "validation_fraction": 0.1},
        lambda e: e.fit(X[:5], [0, 1, 0, 1, 0]),
    ),
    "partial_fit by lbfgs": ({"solver": "lbfgs"}, lambda e: e.partial_fit(X, Y)),
    "warm start with others": ({"warm_start": True}, fit_then(lambda e: e.fit(X, Y + 1))),
    "warm start with fewer": ({"warm_start": True}, fit_then(lambda e: e.fit(X, Y > 1))),
    "partial_fit without classes": ({}, lambda e: e.partial_fit(X, Y)),
    "partial_fit of other classes": (
        {},
        lambda e: e.partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y + 1),
    ),
    "partial_fit of classes not named": ({}, lambda e: e.partial_fit(X, Y, classes=[0, 1])),
    "partial_fit of changed classes": (
        {},
        lambda e: e.partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y, classes=[0, 1, 3]),
    ),
    "no labels": ({}, lambda e: e.fit(X, Z[: len(X)])),
    "rare class held out": (
        {"early_stopping": True},
        lambda e: e.fit(X, np.arange(len(X)) == 3),
    ),
    "probabilities not fitted": ({}, lambda e: e.predict_proba(X)),
    "probabilities of other columns": ({}, fit_then(lambda e: e.predict_proba(X[:, :3]))),
    "several outputs": ({}, lambda e: e.fit(X, np.stack([Y, Y], axis=1))),
}


WRONG_VALUES = {
    "too large": ({}, lambda e: e.fit(X * 1e300, Y)),
}


@pytest.mark.parametrize(
    "name, case",
    [
        *itertools.product([CLASSIFIER, REGRESSOR], WRONG),
        *((CLASSIFIER, case) for case in WRONG_LABELS),
        *((REGRESSOR, case) for case in WRONG_VALUES),
    ],
)
def test_errors_are_the_same(name, case):
    settings, action = (WRONG | WRONG_LABELS | WRONG_VALUES)[case]
    two = pair(name, **{"max_iter": 2, "random_state": 0, **settings})
    _, _, error = repeat(two, action)
    assert error is not None, "found no error"


@pytest.mark.parametrize("solver", SOLVER_NAMES)
@pytest.mark.parametrize("name", [CLASSIFIER, REGRESSOR])
def test_an_unknown_activation(name, solver):
    with pytest.raises(ValueError, match=r"The 'activation' parameter of MLP\w+ must be"):
        getattr(pynn.sklearn, name)(activation="swish", solver=solver).fit(X, Y)


def test_an_unknown_loss():
    with pytest.raises(ValueError, match=r"The 'loss' parameter of MLPRegressor must be a str"):
        pynn.sklearn.MLPRegressor(loss="absolute").fit(X, Y)


def test_lbfgs_has_no_partial_fit():
    theirs, mine = pair(CLASSIFIER, solver="lbfgs")
    assert not hasattr(theirs, "partial_fit")
    assert not hasattr(mine, "partial_fit")
    assert hasattr(mine.set_params(solver="adam"), "partial_fit")


def test_partial_fit_by_lbfgs_trains_a_regressor():
    x, y = data("diabetes")
    two = pair(REGRESSOR, solver="lbfgs", max_iter=3, random_state=0)
    for _ in range(2):
        repeat(two, lambda e: e.partial_fit(x, y))
        same(two, x, 1e-6)


def test_words_in_the_targets_of_a_regressor():
    # scikit-learn's own error is one of NumPy's, about the subtraction of words.
    with pytest.raises(ValueError, match="could not convert string to float"):
        estimators.MLPRegressor().fit(X, np.array(["a"] * len(X)))


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_a_failed_fit_leaves_the_attributes_that_scikit_learn_leaves(solver):
    two = pair(CLASSIFIER, max_iter=3, random_state=0, solver=solver)
    repeat(two, lambda e: e.fit(X, Y))
    repeat(two, lambda e: e.fit(with_one(X, np.nan), Y))
    same(two, X, 1e-6)
    repeat(two, lambda e: e.partial_fit(X[:, :2], Y) if solver != "lbfgs" else e.predict(X[:, :2]))
    same(two, X, 1e-6)


@pytest.mark.parametrize("weight", ["negative", "one only", "bool", "a number", "list"])
@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_unusual_sample_weights_train_the_same(solver, weight):
    weights = {
        "negative": np.where(np.arange(len(X)) % 9, 1.0, -0.5),
        "one only": (np.arange(len(X)) == 3).astype(float),
        "bool": np.arange(len(X)) % 2 == 0,
        "a number": 0.5,
        "list": [1, 2] * (len(X) // 2),
    }[weight]
    two = pair(CLASSIFIER, solver=solver, max_iter=4, random_state=0)
    _, _, error = repeat(two, lambda e: e.fit(X, Y, sample_weight=weights))
    assert error is None
    same(two, X, 1e-6)


def test_numbers_that_are_not_finite_pass_with_assume_finite():
    two = both(CLASSIFIER, lambda e: e.fit(X, Y), random_state=0, max_iter=2)
    with config_context(assume_finite=True):
        repeat(two, lambda e: e.predict_proba(with_one(X, np.nan)))
        close(*(e.predict_proba(with_one(X, np.nan)) for e in reversed(two)), 1e-8, "proba")


def test_the_message_of_a_learning_rate_that_becomes_too_small():
    two = pair(
        CLASSIFIER,
        solver="sgd",
        learning_rate="adaptive",
        tol=10,
        n_iter_no_change=1,
        max_iter=100,
        verbose=True,
        random_state=0,
    )
    text, _, _ = repeat(two, lambda e: e.fit(X, Y))
    assert "Setting learning rate to" in text
    assert "Learning rate too small. Stopping." in text


def test_repr_and_parameters():
    theirs, mine = pair(CLASSIFIER, alpha=0.1, hidden_layer_sizes=(4,))
    assert repr(mine) == repr(theirs)
    assert mine.get_params().items() >= theirs.get_params().items()
    assert "MLPClassifier" in mine._repr_html_()
    for name in (CLASSIFIER, REGRESSOR):
        theirs, mine = pair(name)
        expected, found = theirs.get_params(), mine.get_params()
        assert {k: found[k] for k in expected} == expected
        assert isinstance(mine, type(theirs))


# --- scikit-learn's own tests ---------------------------------------------------------------------


def own_environment():
    """Where a new interpreter finds the pynn that is tested here."""
    home = str(Path(pynn.__file__).parents[1])
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path}


@pytest.mark.slow
def test_scikit_learns_own_tests_pass(tmp_path):
    where = importlib.util.find_spec("sklearn.neural_network").submodule_search_locations[0]
    source = Path(where, "tests", "test_mlp.py")
    if not source.exists():
        pytest.skip("this scikit-learn came without its tests")
    line = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
    text = source.read_text(encoding="utf-8")
    assert text.count(line) == 1
    new = "from pynn.sklearn import MLPClassifier, MLPRegressor\n"
    (tmp_path / "test_mlp.py").write_text(text.replace(line, new), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = "-m pytest -q -p no:cacheprovider -p sklearn.conftest test_mlp.py"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        env=own_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50


def checks_of(estimator):
    """The outcome of scikit-learn's checks of estimators, by their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(estimator, on_skip=None, on_fail=None)
    return {(one["check_name"], k): one for k, one in enumerate(found)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [CLASSIFIER, REGRESSOR])
def test_check_estimator(name):
    quick = {"hidden_layer_sizes": (20,), "learning_rate_init": 0.02, "max_iter": 40}
    theirs, mine = (checks_of(e) for e in pair(name, **quick))
    failed = {n: str(one["exception"]) for (n, _), one in mine.items() if one["status"] == "failed"}
    assert failed == {}
    assert len(mine) >= len(theirs) > 40

    def skipped(found):
        return sorted(n for (n, _), one in found.items() if one["status"] == "skipped")

    assert skipped(mine) == skipped(theirs)
