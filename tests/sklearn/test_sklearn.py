"""pynn.sklearn and the scikit-learn that is installed side by side: numbers, words and errors."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
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
import sklearn
from sklearn import config_context, datasets, neural_network
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator

import pynn

RELEASE = tuple(map(int, sklearn.__version__.split(".")[:2]))
CLASSIFIER, REGRESSOR = "MLPClassifier", "MLPRegressor"
NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?|\binf\b|\bnan\b")
RTOL = {np.float64: 1e-8, np.float32: 2e-3}
NEW = {"history_", "validation_loss_curve_"}


# --- Side by side -------------------------------------------------------------------------------


@functools.cache
def data(name, dtype=np.float64):
    """A part of a bundled data set, scaled, in an order that mixes the classes."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    some = np.random.RandomState(0).permutation(len(x))[:230]
    x = x / 16 if name == "digits" else scale(x)
    return x[some].astype(dtype), scale(y)[some] if name == "diabetes" else y[some]


@functools.cache
def outputs(n=2):
    """Diabetes with several targets, none of them alike."""
    x, y = data("diabetes")
    return x, np.stack([y, *(np.sin(k + x[:, k]) for k in range(n - 1))], axis=1)


@functools.cache
def labels():
    """Iris with three labels at once, some rows without any."""
    x, _ = data("iris")
    return x, (x[:, :3] > np.array([0, 0.5, -0.3])).astype(int)


def attempt(estimator, action):
    """What ``action`` printed, warned and raised.

    Of warnings, not those of NumPy's arithmetic, and not the one that the compiled core is missing.
    """
    out, error = io.StringIO(), None
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        try:
            action(estimator)
        except Exception as raised:
            error = type(raised), str(raised)
    said = [
        (w.category, str(w.message))
        for w in caught
        if not re.search("encountered in|^pynn uses the backend", str(w.message))
        and w.category is not DeprecationWarning
    ]
    return out.getvalue(), said, error


def pair(name, **settings):
    return getattr(neural_network, name)(**settings), getattr(pynn.sklearn, name)(**settings)


def both(name, action, rtol=1e-8, **settings):
    """Do the same with scikit-learn's class and ours, and compare what they say."""
    two = pair(name, **settings)
    repeat(two, action, rtol)
    return two


def repeat(two, action, rtol=1e-8):
    (text, said, error), (our_text, our_said, our_error) = (attempt(e, action) for e in two)
    assert our_error == error
    assert our_said == said
    assert NUMBER.sub("#", our_text) == NUMBER.sub("#", text)
    numbers = ([float(n) for n in NUMBER.findall(t)] for t in (our_text, text))
    np.testing.assert_allclose(*numbers, rtol=rtol, atol=1.1e-6)
    return text, said, error


def close(found, expected, rtol, what):
    """Within rtol of the largest of the expected numbers, and of the same kind."""
    if isinstance(expected, list):
        assert type(found) is list, what
        assert len(found) == len(expected), what
        for k, (one, other) in enumerate(zip(found, expected)):
            close(one, other, rtol, f"{what}[{k}]")
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        assert found.dtype == expected.dtype, what
        largest = np.abs(expected).max(initial=0, where=np.isfinite(expected))
        np.testing.assert_allclose(found, expected, rtol, rtol * largest, err_msg=what)
    elif isinstance(expected, (float, np.floating)):
        np.testing.assert_allclose(found, expected, rtol, 1e-12, err_msg=what)
    elif scipy.sparse.issparse(expected):
        assert found.format == expected.format, what
        close(found.toarray(), expected.toarray(), rtol, what)
    else:
        assert np.array_equal(found, expected), what
        assert getattr(found, "dtype", None) == getattr(expected, "dtype", None), what


def fitted(estimator):
    return {k: v for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("_")}


def same(two, x=None, rtol=1e-8):
    """Compare all that was fitted, where the random draws stand, and predictions."""
    theirs, mine = two
    expected, found = fitted(theirs), fitted(mine)
    assert set(found) - NEW == set(expected)
    for name, value in expected.items():
        close(found[name], value, rtol, name)
    states = (e._random_state.get_state(legacy=False) for e in two)
    np.testing.assert_equal(*states)
    assert getattr(mine, "_no_improvement_count", 0) == getattr(theirs, "_no_improvement_count", 0)
    if x is None:
        return
    methods = ["predict"]
    if hasattr(theirs, "predict_proba"):
        methods += ["predict_proba", "predict_log_proba"]
    for method in methods:
        with np.errstate(divide="ignore"):
            expected, found = (getattr(e, method)(x) for e in two)
        if method == "predict_log_proba":
            # What is near 0 is lost to any arithmetic.
            expected, found = np.maximum(expected, -20), np.maximum(found, -20)
        assert np.shape(found) == np.shape(expected)
        close(found, expected, rtol, method)


def compare(name, x, y, rtol=1e-8, action=None, **settings):
    settings = {"random_state": 3, "max_iter": 20, "hidden_layer_sizes": (9,), **settings}
    settings.setdefault("verbose", settings.get("solver") != "lbfgs")
    two = both(name, action or (lambda e: e.fit(x, y)), rtol, **settings)
    same(two, x, rtol)
    return two


# --- The grid -----------------------------------------------------------------------------------

SOLVERS = {
    "plain": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.02},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.02},
    "invscaling": {
        "solver": "sgd",
        "learning_rate": "invscaling",
        "power_t": 0.3,
        "learning_rate_init": 0.2,
    },
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "tol": 0.05,
        "n_iter_no_change": 2,
        "learning_rate_init": 0.05,
    },
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "lbfgs": {"solver": "lbfgs"},
}
SETS = ["iris", "digits", "breast_cancer", "wine", "diabetes"]


def kind(dataset):
    return REGRESSOR if dataset == "diabetes" else CLASSIFIER


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_training_gives_the_same_numbers(solver, activation, dataset):
    # Of L-BFGS, whose line search doubles what rounding differs by, fewer iterations.
    more = {"max_iter": 8} if solver == "lbfgs" else {}
    rtol = 1e-6 if solver == "lbfgs" else 1e-8
    x, y = data(dataset)
    compare(kind(dataset), x, y, rtol, activation=activation, **SOLVERS[solver], **more)


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("solver, activation", [("nesterov", "logistic"), ("adam", "relu")])
def test_float32_stays_and_predicts_the_same(solver, activation, dataset):
    x, y = data(dataset, np.float32)
    settings = {**SOLVERS[solver], "activation": activation, "max_iter": 20, "random_state": 3}
    theirs, mine = both(kind(dataset), lambda e: e.fit(x, y), **settings)
    assert mine.n_iter_ == theirs.n_iter_
    assert {c.dtype for c in mine.coefs_ + mine.intercepts_} == {np.dtype(np.float32)}
    np.testing.assert_allclose(mine.loss_curve_, theirs.loss_curve_, rtol=1e-3)
    expected, found = theirs.predict(x), mine.predict(x)
    assert found.dtype == expected.dtype
    if dataset == "diabetes":
        np.testing.assert_allclose(found, expected, atol=2e-3)
    else:
        assert np.array_equal(found, expected)
        proba = mine.predict_proba(x)
        assert proba.dtype == np.float32
        np.testing.assert_allclose(proba, theirs.predict_proba(x), atol=2e-3)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_very_deep_nets(solver):
    """Deeper than what the compiled core has room for."""
    x, y = data("iris")
    deep = {"hidden_layer_sizes": (3,) * 70, "activation": "tanh", "max_iter": 2}
    compare(CLASSIFIER, x, y, 1e-6, solver=solver, **deep)


def test_float32_by_lbfgs_ends_in_float64():
    x, y = data("iris", np.float32)
    compare(CLASSIFIER, x, y, 1e-4, solver="lbfgs", max_iter=8)


def test_defaults_train_to_the_end_alike():
    x, y = data("iris")
    theirs, _ = both(CLASSIFIER, lambda e: e.fit(x, y), random_state=0, max_iter=400, tol=2e-3)
    assert 100 < theirs.n_iter_ < 400


# --- Options ------------------------------------------------------------------------------------

STOCHASTIC = {
    "odd batch": {"batch_size": 37},
    "one row a batch": {"batch_size": 1, "max_iter": 3},
    "batch of all": {"batch_size": 230},
    "batch too large": {"batch_size": 10_000},
    "not shuffled": {"shuffle": False},
    "not shuffled, odd batch": {"shuffle": False, "batch_size": 37},
    "no penalty": {"alpha": 0.0},
    "much penalty": {"alpha": 30.0},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "one number": {"hidden_layer_sizes": 5},
    "an array": {"hidden_layer_sizes": np.array([4, 3])},
    "three layers": {"hidden_layer_sizes": (7, 3, 5)},
    "one unit": {"hidden_layer_sizes": (1,)},
    "stops early": {"tol": 0.05, "n_iter_no_change": 2, "max_iter": 60},
    "never stops": {"tol": 0.5, "n_iter_no_change": np.inf},
    "held out": {"early_stopping": True},
    "half held out": {"early_stopping": True, "validation_fraction": 0.5, "shuffle": False},
    "held out, stops": {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.02, "max_iter": 90},
    "held out, odd batch": {"early_stopping": True, "batch_size": 31},
    "large step": {"learning_rate_init": 0.3},
    "one epoch": {"max_iter": 1},
}
ADAM = {
    "other betas": {"beta_1": 0.5, "beta_2": 0.9},
    "no betas": {"beta_1": 0.0, "beta_2": 0.0},
    "large epsilon": {"epsilon": 0.1},
    "adam tiny epsilon": {"epsilon": 1e-12},
}
SGD = {
    "adaptive to its end": {
        "learning_rate": "adaptive",
        "tol": 0.5,
        "n_iter_no_change": 1,
        "learning_rate_init": 1e-3,
        "max_iter": 40,
    },
    "adaptive, held out": {
        "learning_rate": "adaptive",
        "early_stopping": True,
        "tol": 0.1,
        "n_iter_no_change": 1,
        "max_iter": 30,
    },
    "steep invscaling": {"learning_rate": "invscaling", "power_t": 1.5},
    "full momentum": {"momentum": 1.0, "max_iter": 5},
}
OPTIONS = [
    *((solver, option) for solver in ("sgd", "adam") for option in STOCHASTIC),
    *(("adam", option) for option in ADAM),
    *(("sgd", option) for option in SGD),
]


@pytest.mark.parametrize("solver, option", OPTIONS)
def test_options_of_stochastic_solvers(solver, option):
    settings = {"learning_rate_init": 0.01, **(STOCHASTIC | ADAM | SGD)[option]}
    for dataset in ("wine" if solver == "sgd" else "breast_cancer", "diabetes"):
        x, y = data(dataset)
        compare(kind(dataset), x, y, solver=solver, **settings)


@pytest.mark.parametrize("dataset", ["wine", "breast_cancer", "diabetes"])
@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 0.0},
        {"alpha": 30.0},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (7, 3, 5)},
        {"max_fun": 4},
        {"tol": 0.3, "max_iter": 300},
        {"max_iter": 1},
    ],
    ids=str,
)
def test_options_of_lbfgs(settings, dataset):
    x, y = data(dataset)
    compare(kind(dataset), x, y, 1e-6, **{"solver": "lbfgs", "max_iter": 8, **settings})


SOLVER_NAMES = ["sgd", "adam", "lbfgs"]


def settings_of(solver):
    return {"solver": solver, "max_iter": 8 if solver == "lbfgs" else 20}


@pytest.mark.parametrize("solver", SOLVER_NAMES)
@pytest.mark.parametrize("dataset", SETS)
def test_sample_weights(dataset, solver, rng):
    x, y = data(dataset)
    weights = rng.uniform(0.1, 3, len(x))
    weights[::4] = 0
    fit = lambda e: e.fit(x, y, sample_weight=weights)  # noqa: E731
    compare(kind(dataset), x, y, 1e-6, fit, **settings_of(solver))


@pytest.mark.parametrize("dataset", ["iris", "breast_cancer", "diabetes"])
def test_sample_weights_with_rows_held_out(dataset, rng):
    x, y = data(dataset)
    weights = rng.uniform(0.1, 3, len(x))
    fit = lambda e: e.fit(x, y, weights)  # noqa: E731
    compare(kind(dataset), x, y, action=fit, early_stopping=True, learning_rate_init=0.01)


@pytest.mark.parametrize("more", [{}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_several_labels_at_once(solver, more):
    x, y = labels()
    compare(CLASSIFIER, x, y, 1e-6, **settings_of(solver), **more)
    compare(CLASSIFIER, x, scipy.sparse.csr_matrix(y), 1e-6, **settings_of(solver))


@pytest.mark.parametrize("more", [{}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_several_outputs(solver, more, rng):
    x, y = outputs(3)
    weights = rng.uniform(0.1, 3, len(x))
    fit = lambda e: e.fit(x, y, weights)  # noqa: E731
    compare(REGRESSOR, x, y, 1e-6, **settings_of(solver), **more)
    compare(REGRESSOR, x, y, 1e-6, fit, **settings_of(solver), **more)


@pytest.mark.parametrize("more", [{}, {"early_stopping": True}, {"alpha": 1.0}], ids=str)
@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_poisson(solver, more, rng):
    x, y = outputs()
    counts = np.floor(np.exp(np.clip(y, -1, 2)))
    assert (counts == 0).any()
    settings = {"loss": "poisson", **settings_of(solver), **more}
    compare(REGRESSOR, x, counts[:, 0], 1e-6, **settings)
    weights = rng.uniform(0.1, 3, len(x))
    compare(REGRESSOR, x, counts, 1e-6, lambda e: e.fit(x, counts, weights), **settings)


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_poisson_has_no_loss_below_zero(solver):
    x, y = data("diabetes")
    two = compare(REGRESSOR, x, y, loss="poisson", **settings_of(solver))
    assert np.isnan(two[1].loss_)


@pytest.mark.parametrize("solver", SOLVER_NAMES)
@pytest.mark.parametrize("make", ["csr_matrix", "csc_array"])
@pytest.mark.parametrize("dataset", ["digits", "diabetes"])
def test_sparse_rows(dataset, make, solver):
    x, y = data(dataset)
    rows = getattr(scipy.sparse, make)(np.where(np.abs(x) < 0.5, 0, x))
    compare(kind(dataset), rows, y, 1e-6, **settings_of(solver))
    compare(kind(dataset), rows, y, 1e-6, early_stopping=True)


@pytest.mark.parametrize("as_object", [False, True])
@pytest.mark.parametrize("dataset", ["iris", "breast_cancer"])
def test_labels_that_are_words(dataset, as_object):
    x, y = data(dataset)
    words = np.array(["a b", "setosa", "ünï"])[y].astype(object if as_object else "U6")
    _, mine = compare(CLASSIFIER, x, words)
    assert mine.score(x, words) == np.mean(mine.predict(x) == words)
    # Before 1.9 scikit-learn could not hold out rows whose labels are words.
    if RELEASE >= (1, 9):
        compare(CLASSIFIER, x, words, early_stopping=True)
    held, plain = (estimators.MLPClassifier(early_stopping=True, random_state=0) for _ in range(2))
    attempt(held, lambda e: e.fit(x, words))
    attempt(plain, lambda e: e.fit(x, y))
    assert held.validation_scores_ == plain.validation_scores_


@pytest.mark.parametrize(
    "change",
    [lambda y: y * 7 - 3, lambda y: y == 1, lambda y: y.astype(float), lambda y: y.tolist()],
    ids=["gaps", "bool", "float", "list"],
)
def test_labels_of_other_kinds(change):
    x, y = data("iris")
    compare(CLASSIFIER, x, change(y))


def test_one_class_alone():
    x, _ = data("iris")
    compare(CLASSIFIER, x, np.full(len(x), 4))


def test_a_column_of_labels_is_flattened_with_a_warning():
    x, y = data("iris")
    two = pair(CLASSIFIER, random_state=0, max_iter=2)
    _, said, _ = repeat(two, lambda e: e.fit(x, y[:, None]))
    assert said[0][0] is DataConversionWarning
    same(two, x)


def test_one_generator_for_many_fits():
    x, y = data("iris")
    two = [
        cls(max_iter=4, random_state=np.random.RandomState(8), early_stopping=True)
        for cls in (neural_network.MLPClassifier, estimators.MLPClassifier)
    ]
    for _ in range(3):
        repeat(two, lambda e: e.fit(x, y))
        same(two, x)


def test_the_global_generator():
    x, y = data("iris")
    two = pair(CLASSIFIER, max_iter=4)
    for one in two:
        np.random.seed(5)
        attempt(one, lambda e: e.fit(x, y))
    same(two, x)


# --- One fit after another ----------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"early_stopping": True, "tol": 0.01}], ids=str)
@pytest.mark.parametrize("solver", SOLVER_NAMES)
@pytest.mark.parametrize("dataset", ["iris", "breast_cancer", "diabetes"])
def test_warm_start(dataset, solver, more):
    x, y = data(dataset)
    settings = {**settings_of(solver), **more, "max_iter": 6, "learning_rate_init": 0.03}
    two = compare(kind(dataset), x, y, 1e-6, warm_start=True, **settings)
    for start in (0, 0, 20):
        repeat(two, lambda e, start=start: e.fit(x[start:], y[start:]), 1e-6)
        same(two, x, 1e-6)


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_fits_again_from_the_start(solver):
    x, y = data("iris")
    two = compare(CLASSIFIER, x, y, 1e-6, **settings_of(solver))
    repeat(two, lambda e: e.fit(x[:90, :3], y[:90] == 1), 1e-6)
    same(two, x[:, :3], 1e-6)


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("dataset", SETS)
def test_partial_fits(dataset, solver, schedule, rng):
    x, y = data(dataset)
    weights = rng.uniform(0.1, 2, len(x))
    settings = {"solver": solver, "learning_rate": schedule, "tol": 0.2, "n_iter_no_change": 2}
    settings |= {"random_state": 3, "batch_size": 40, "verbose": True, "hidden_layer_sizes": (9,)}
    two = pair(kind(dataset), **settings)
    first = {} if dataset == "diabetes" else {"classes": np.unique(y)}
    repeat(two, lambda e: e.partial_fit(x[:70], y[:70], **first))
    for k in range(4):
        part = slice(20 * k, 20 * k + 85)
        repeat(two, lambda e, p=part: e.partial_fit(x[p], y[p]))
        repeat(two, lambda e, p=part: e.partial_fit(x[p], y[p], sample_weight=weights[p]))
        same(two, x)


def test_partial_fits_of_several_labels():
    x, y = labels()
    two = pair(CLASSIFIER, random_state=3)
    for k in range(3):
        first = {} if k else {"classes": [0, 1, 2]}
        repeat(two, lambda e, k=k, f=first: e.partial_fit(x[k::3], y[k::3], **f))
        same(two, x)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fits_go_on_from_a_fit(solver):
    x, y = data("wine")
    two = compare(CLASSIFIER, x, y, solver=solver, max_iter=5)
    for _ in range(3):
        repeat(two, lambda e: e.partial_fit(x[:80], y[:80]))
        same(two, x)
    repeat(two, lambda e: e.fit(x, y))
    same(two, x)


@pytest.mark.parametrize(
    "before, after",
    [
        ({"solver": "adam"}, {"solver": "sgd"}),
        ({"solver": "sgd"}, {"solver": "adam"}),
        ({"solver": "adam"}, {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1}),
        ({"solver": "sgd"}, {"momentum": 0.2}),
        ({"solver": "sgd"}, {"momentum": 0.0}),
        ({"solver": "sgd", "momentum": 0.0}, {"momentum": 0.9}),
        ({"solver": "sgd"}, {"nesterovs_momentum": False}),
        ({"solver": "sgd"}, {"learning_rate": "invscaling", "power_t": 0.9}),
        ({"solver": "adam"}, {"learning_rate_init": 0.1}),
        ({"solver": "adam"}, {"alpha": 10.0, "batch_size": 13, "shuffle": False}),
        ({"solver": "sgd"}, {"activation": "tanh"}),
    ],
    ids=str,
)
def test_parameters_changed_between_partial_fits(before, after):
    x, y = data("wine")
    two = pair(CLASSIFIER, random_state=3, **before)
    for _ in range(2):
        repeat(two, lambda e: e.partial_fit(x, y, classes=[0, 1, 2]))
    for one in two:
        one.set_params(**after)
    for _ in range(3):
        repeat(two, lambda e: e.partial_fit(x, y))
        same(two, x)


def test_activation_changed_before_predicting():
    x, y = data("wine")
    two = compare(CLASSIFIER, x, y)
    for one in two:
        one.set_params(activation="tanh")
    same(two, x)


@pytest.mark.parametrize("change", ["element", "in place", "list", "integers", "float32"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_coefficients_set_by_hand(solver, change):
    x, y = data("wine")
    two = compare(CLASSIFIER, x, y, solver=solver)
    new = np.linspace(-1, 1, 27).reshape(9, 3)
    for one in two:
        if change == "element":
            one.coefs_[1], one.intercepts_[0] = new.copy(), np.arange(9.0)
        elif change == "in place":
            one.coefs_[1][...] = new
            one.intercepts_[0] += 1
        elif change == "list":
            one.coefs_ = [one.coefs_[0] * 2, new.copy()]
            one.intercepts_ = [b - 1 for b in one.intercepts_]
        elif change == "integers":
            one.coefs_[1] = np.round(new * 3).astype(int)
        else:
            one.coefs_ = [c.astype(np.float32) for c in one.coefs_]
            one.intercepts_ = [b.astype(np.float32) for b in one.intercepts_]
    rtol = 1e-5 if change == "float32" else 1e-8
    if change == "integers":
        close(two[1].predict_proba(x), two[0].predict_proba(x), rtol, "predict_proba")
        return
    same(two, x, rtol)
    for _ in range(3):
        repeat(two, lambda e: e.partial_fit(x, y), rtol)
        same(two, x, rtol)


# --- Inputs of many kinds -----------------------------------------------------------------------


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
def test_inputs(given, dataset, solver):
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


@pytest.mark.parametrize("change", [np.longdouble, np.float16], ids=["longdouble", "float16"])
def test_dtypes_that_the_core_has_not(change):
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


# --- Errors and warnings ------------------------------------------------------------------------


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
    "bad loss": ({"loss": "absolute"}, lambda e: e.fit(X, Y)),
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


def test_partial_fit_is_not_there_with_lbfgs():
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
def test_a_failed_fit_leaves_what_theirs_leaves(solver):
    two = pair(CLASSIFIER, max_iter=3, random_state=0, solver=solver)
    repeat(two, lambda e: e.fit(X, Y))
    repeat(two, lambda e: e.fit(with_one(X, np.nan), Y))
    same(two, X, 1e-6)
    repeat(two, lambda e: e.partial_fit(X[:, :2], Y) if solver != "lbfgs" else e.predict(X[:, :2]))
    same(two, X, 1e-6)


@pytest.mark.parametrize("weight", ["negative", "one only", "bool", "a number", "list"])
@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_odd_sample_weights(solver, weight):
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


def test_numbers_not_finite_are_let_through_where_told_so():
    two = both(CLASSIFIER, lambda e: e.fit(X, Y), random_state=0, max_iter=2)
    with config_context(assume_finite=True):
        repeat(two, lambda e: e.predict_proba(with_one(X, np.nan)))
        close(*(e.predict_proba(with_one(X, np.nan)) for e in reversed(two)), 1e-8, "proba")


def test_what_is_printed_when_the_rate_becomes_too_small():
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


# --- scikit-learn's own tests -------------------------------------------------------------------


def own_environment():
    """Where a new interpreter finds the pynn that is tested here."""
    home = str(Path(pynn.__file__).parents[1])
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path}


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
