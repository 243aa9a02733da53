"""Training, options and further fits give the numbers that scikit-learn gives."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from pynn.sklearn import estimators

pytest.importorskip("sklearn", "1.7")
import scipy.sparse
import sklearn
from sklearn import neural_network
from sklearn.exceptions import DataConversionWarning

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

RELEASE = tuple(map(int, sklearn.__version__.split(".")[:2]))


# --- Side by side ---------------------------------------------------------------------------------


@functools.cache
def labels():
    """Iris with three labels at once, some rows without any."""
    x, _ = data("iris")
    return x, (x[:, :3] > np.array([0, 0.5, -0.3])).astype(int)


# --- The grid -------------------------------------------------------------------------------------


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


# --- Options --------------------------------------------------------------------------------------


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


# --- One fit after another ------------------------------------------------------------------------


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
def test_partial_fits_continue_a_fit(solver):
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
def test_assigned_coefficients_are_used(solver, change):
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


# --- Layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVER_NAMES)
@pytest.mark.parametrize("hidden", [(), []], ids=str)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dataset", ["iris", "breast_cancer", "diabetes"])
def test_a_network_without_hidden_layers_starts_from_the_same_weights(
    dataset, activation, hidden, solver
):
    x, y = data(dataset)
    settings = {"hidden_layer_sizes": hidden, "activation": activation, "max_iter": 3}
    compare(kind(dataset), x, y, 1e-6, solver=solver, **settings)


@pytest.mark.parametrize("dataset", ["iris", "diabetes"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_the_type_of_the_loss(solver, dtype, dataset):
    x, y = data(dataset, dtype)
    theirs, mine = both(kind(dataset), lambda e: e.fit(x, y), 1e-3, solver=solver, max_iter=2)
    assert type(mine.loss_) is type(theirs.loss_) is np.float64


FURTHER = {
    "partial_fit": ({}, "partial_fit"),
    "warm start": ({"warm_start": True}, "fit"),
}


@pytest.mark.parametrize("hidden", [(), (9,), (7, 3), (9, 4, 3), 9], ids=str)
@pytest.mark.parametrize("first", [(), (9,), (7, 4)], ids=str)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("further", FURTHER)
@pytest.mark.parametrize("dataset", ["iris", "diabetes"])
def test_changed_layers_raise_where_scikit_learn_raises(dataset, further, solver, first, hidden):
    settings, method = FURTHER[further]
    x, y = data(dataset)
    settings = {"max_iter": 2, "random_state": 0, **settings}
    two = pair(kind(dataset), hidden_layer_sizes=first, solver=solver, **settings)
    for one in two:
        attempt(one, lambda e: e.fit(x, y))
        one.set_params(hidden_layer_sizes=hidden)
    before = [w.copy() for w in two[1].coefs_]
    errors = [attempt(e, lambda e: getattr(e, method)(x, y))[2] for e in two]
    asked = tuple(np.atleast_1d(hidden).tolist())
    layers = [len(first), len(asked)]
    assert [error is None for error in errors] == [layers[0] == layers[1]] * 2
    if errors[1] is None:
        close(two[1].coefs_, two[0].coefs_, 1e-8, "coefs_")
        return
    assert errors[1][0] is ValueError
    assert errors[1][1].startswith(f"hidden_layer_sizes: found {asked}, expected {first}, ")
    close(two[1].coefs_, before, 0, "coefs_")
    two[1].set_params(warm_start=False).fit(x, y)
    assert len(two[1].coefs_) == 1 + layers[1]


@pytest.mark.parametrize("hidden", [(), (4,), (9,), (9, 3)], ids=str)
def test_changed_layers_of_lbfgs(hidden):
    x, y = data("iris")
    mine = estimators.MLPClassifier((5,), solver="lbfgs", max_iter=2, warm_start=True)
    attempt(mine, lambda e: e.fit(x, y))
    mine.set_params(hidden_layer_sizes=hidden)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes: found .*, expected \(5,\)"):
        mine.fit(x, y)


@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
@pytest.mark.parametrize("n_then", [1, 2, 3])
@pytest.mark.parametrize("n_first", [1, 2, 3])
@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_another_number_of_targets(solver, n_first, n_then, hidden):
    """Only one column for several outputs is possible; lbfgs refuses it in pynn."""
    settings = {"solver": solver, "warm_start": True, "hidden_layer_sizes": hidden, "max_iter": 2}
    two = pair(REGRESSOR, random_state=0, **settings)
    for one in two:
        attempt(one, lambda e: e.fit(*outputs(n_first)))
    errors = [attempt(e, lambda e: e.fit(*outputs(n_then)))[2] for e in two]
    if n_then == n_first or (n_then == 1 and solver != "lbfgs"):
        assert errors == [None, None]
        same(two, outputs()[0])
    else:
        assert errors[1][1].startswith(f"y: found {n_then} columns, expected {n_first}")
        assert errors[0] is not None or solver == "lbfgs"


def test_assigned_coefficients_of_another_width():
    x, y = data("iris")
    mine = estimators.MLPClassifier((5,), max_iter=2).fit(x, y)
    mine.coefs_ = [mine.coefs_[0][:3], mine.coefs_[1]]
    with pytest.raises(ValueError, match="X: found 4 features, expected 3"):
        mine.partial_fit(x, y)


@pytest.mark.parametrize("name, dataset", [(CLASSIFIER, "iris"), (REGRESSOR, "diabetes")])
def test_held_out_rows_that_weigh_nothing(name, dataset):
    x, y = data(dataset)
    weights = np.zeros(len(x))
    weights[:3] = 1
    fit = lambda e: e.fit(x, y, weights)  # noqa: E731
    settings = {"early_stopping": True, "batch_size": len(x), "max_iter": 2}
    two = both(name, fit, random_state=1, **settings)
    assert two[1].n_iter_ == two[0].n_iter_


# --- Changed stopping rules -----------------------------------------------------------------------


RULES = {
    "lbfgs": {"solver": "lbfgs"},
    "early stopping": {"early_stopping": True},
    "training loss": {"early_stopping": False},
    "sgd, early stopping": {"early_stopping": True, "solver": "sgd"},
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("then", list(RULES)[1:])
@pytest.mark.parametrize("first", RULES)
@pytest.mark.parametrize("dataset", ["iris", "breast_cancer", "diabetes"])
def test_training_continues_after_a_change_of_the_stopping_rules(dataset, first, then, method):
    """scikit-learn fails in the middle of the first epoch for most of these changes."""
    defaults = {"solver": "adam", "early_stopping": False}
    x, y = data(dataset)
    one = pair(kind(dataset), max_iter=3, random_state=0, **RULES[first])[1]
    attempt(one, lambda e: e.fit(x, y))
    losses = len(getattr(one, "loss_curve_", ()))
    one.set_params(warm_start=True, **defaults | RULES[then])
    weights = [w.copy() for w in one.coefs_]
    error = attempt(one, lambda e: getattr(e, method)(x, y))[2]
    if one.early_stopping and method == "partial_fit":
        assert error == (ValueError, "partial_fit does not support early_stopping=True")
        close(one.coefs_, weights, 0, "coefs_")
        return
    assert error is None
    assert len(one.loss_curve_) == losses + (1 if method == "partial_fit" else one.n_iter_)
    if one.early_stopping:
        assert one.best_validation_score_ == max(one.validation_scores_)
    else:
        assert one.best_loss_ <= min(one.loss_curve_[losses:])
    assert np.isfinite(one.predict(x) if dataset == "diabetes" else one.predict_proba(x)).all()


def test_sparse_multilabel_targets_with_early_stopping():
    x, y = outputs(2)
    y = scipy.sparse.csr_matrix((y > 0).astype(int))
    compare(CLASSIFIER, x, y, max_iter=3, early_stopping=True)


def test_one_column_for_several_outputs_has_no_validation_score():
    """A warm start with early stopping raises as in scikit-learn."""
    x, y = outputs(3)
    two = both(REGRESSOR, lambda e: e.fit(x, y), max_iter=2, early_stopping=True, warm_start=True)
    _, _, error = repeat(two, lambda e: e.fit(x, y[:, 0]))
    assert error is not None
