"""pynn.sklearn among scikit-learn's tools, and what it has more than scikit-learn's own classes."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from pynn.sklearn import __main__, core, patch

pytest.importorskip("sklearn", "1.7")

import joblib
import scipy.sparse
from sklearn import config_context, datasets, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_info, threadpool_limits

import pynn
from pynn.sklearn.estimators import MLPClassifier, MLPRegressor

X, Y = datasets.load_wine(return_X_y=True)
MIXED = np.random.RandomState(0).permutation(len(X))
X, Y = scale(X)[MIXED], Y[MIXED]
X_TEST, Y_TEST, X, Y = X[:50], Y[:50], X[50:], Y[50:]
Z = X[:, 0] - np.sin(X[:, 1])
Z_TEST = X_TEST[:, 0] - np.sin(X_TEST[:, 1])
BOTH = [(MLPClassifier, Y), (MLPRegressor, Z)]

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("error::RuntimeWarning"),
]


def small(cls=MLPClassifier, **settings):
    settings = {"hidden_layer_sizes": (9,), "max_iter": 6, "random_state": 1, **settings}
    return cls(**{"learning_rate_init": 0.01, **settings})


def theirs(cls=MLPClassifier, **settings):
    return small(getattr(neural_network, cls.__name__), **settings)


def vector(estimator):
    """A copy of all coefficients and intercepts."""
    return np.concatenate([a.ravel() for a in estimator.coefs_ + estimator.intercepts_])


def alike(a, b):
    """Whether two estimators are the same to the last bit."""
    return np.array_equal(vector(a), vector(b)) and vector(a).dtype == vector(b).dtype


# --- Copies -------------------------------------------------------------------------------------


def test_clone_takes_the_parameters_and_nothing_fitted():
    settings = {"dropout": [0.1], "class_weight": {0: 2.0}, "schedule": "cosine", "threads": 1}
    one = small(**settings).fit(X, Y)
    two = clone(one)
    assert two.get_params() == one.get_params()
    assert not hasattr(two, "coefs_")
    assert not hasattr(two, "parameters")
    assert alike(two.fit(X, Y), one)


def through_file(estimator, tmp_path, **how):
    joblib.dump(estimator, tmp_path / "model")
    return joblib.load(tmp_path / "model", **how)


COPIES = {
    "pickle": lambda e, _: pickle.loads(pickle.dumps(e)),
    "old pickle": lambda e, _: pickle.loads(pickle.dumps(e, protocol=2)),
    "deepcopy": lambda e, _: copy.deepcopy(e),
    "joblib": through_file,
    "joblib, mapped": lambda e, path: through_file(e, path, mmap_mode="r"),
}


@pytest.mark.parametrize("cls, y", BOTH)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("how", COPIES)
def test_copies_predict_and_go_on_the_same(how, solver, cls, y, tmp_path):
    one = small(cls, solver=solver).fit(X, y)
    two = COPIES[how](one, tmp_path)
    before = vector(one)
    assert np.array_equal(two.predict(X_TEST), one.predict(X_TEST))
    if solver != "lbfgs":
        two.partial_fit(X, y)
        assert np.array_equal(vector(one), before), "the copy trains the original"
        two.partial_fit(X, y)
        one.partial_fit(X, y).partial_fit(X, y)
        assert alike(one, two)
        assert two.loss_curve_ == one.loss_curve_
    two.parameters = np.zeros_like(before)
    assert (vector(two) == 0).all()
    assert vector(one).any()


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_warm_start_the_same_with_rows_held_out(how, tmp_path):
    settings = {"warm_start": True, "early_stopping": True, "tol": 0.01}
    two = [e(**settings).fit(X, Y) for e in (theirs, small)]
    two = [COPIES[how](e, tmp_path).fit(X, Y) for e in two]
    np.testing.assert_allclose(vector(two[1]), vector(two[0]), rtol=1e-8, atol=1e-8)


def test_pickles_hold_no_engine():
    one = small().fit(X, Y)
    one.predict(X)
    text = pickle.dumps(one)
    assert not re.search(rb"pynn\.backends|Engine|Trainer", text)
    assert "_core" not in one.__getstate__()
    # scikit-learn's holds the moments of Adam as well.
    assert len(text) < 1.5 * len(pickle.dumps(theirs().fit(X, Y)))


def test_an_estimator_made_by_hand_predicts_and_is_copied():
    full = small(MLPRegressor).fit(X, Z)
    made = MLPRegressor()
    made.coefs_, made.intercepts_ = [c.copy() for c in full.coefs_], list(full.intercepts_)
    assert vector(copy.deepcopy(made)).any()
    made.n_layers_, made.out_activation_ = 3, "identity"
    for one in (made, copy.deepcopy(made)):
        assert np.array_equal(one.predict(X_TEST), full.predict(X_TEST))


def test_an_estimator_with_a_parameter_that_no_longer_fits_is_copied():
    one = small().fit(X, Y).set_params(dropout=[0.1, 0.2, 0.3])
    two = pickle.loads(pickle.dumps(one))
    for e in (one, two):
        with pytest.raises(ValueError, match="dropout"):
            e.fit(X, Y)
    before = vector(two)
    two.set_params(dropout=0.0).predict(X_TEST)
    assert np.array_equal(vector(two), before)


def test_parameters_are_those_of_the_coefficients():
    one = small().fit(X, Y)
    assert one.parameters.size == vector(one).size
    one.parameters *= 2
    assert np.shares_memory(one.parameters, one.coefs_[0])
    assert np.shares_memory(one.parameters, one.intercepts_[1])
    one.coefs_[0] = np.ones_like(one.coefs_[0])
    assert (one.parameters == 1).sum() >= one.coefs_[0].size
    with pytest.raises(AttributeError, match=r"^parameters: .*not fitted"):
        _ = MLPClassifier().parameters


# --- scikit-learn's tools -----------------------------------------------------------------------


def test_pipeline():
    found, expected = (make_pipeline(StandardScaler(), e()).fit(X, Y) for e in (small, theirs))
    np.testing.assert_allclose(found.predict_proba(X_TEST), expected.predict_proba(X_TEST))
    assert found.score(X_TEST, Y_TEST) == expected.score(X_TEST, Y_TEST)


@pytest.mark.parametrize("cls, y", BOTH)
@pytest.mark.parametrize("jobs", [1, 2])
def test_grid_search(jobs, cls, y):
    grid = {
        "alpha": [1e-4, 10.0],
        "hidden_layer_sizes": [(3,), (8, 4)],
        "solver": ["sgd", "adam", "lbfgs"],
    }
    searches = []
    for make in (small, theirs):
        search = GridSearchCV(make(cls, max_iter=3), grid, cv=2, n_jobs=jobs)
        with joblib.parallel_backend("threading", n_jobs=jobs):
            searches.append(search.fit(X, y))
    found, expected = searches
    assert isinstance(found.best_estimator_, cls)
    assert found.best_params_ == expected.best_params_
    for figure in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(
            found.cv_results_[figure], expected.cv_results_[figure], rtol=1e-6, atol=1e-9
        )


def test_threads_inside_a_parallel_call():
    """One thread for each fit there, but those that were asked for."""

    def threads(given):
        one = small(threads=given, max_iter=1).fit(X, Y)
        return one._core.threads

    alone = threads(None)
    with joblib.parallel_backend("threading", n_jobs=2):
        inside = joblib.Parallel()(joblib.delayed(threads)(n) for n in (None, None, 2, 3))
    assert inside == [1, 1, 2, 3]
    assert threads(None) is alone is None


@pytest.mark.parametrize("cls, y", BOTH)
def test_cross_validation(cls, y):
    found, expected = (cross_val_score(e(cls), X, y, cv=3) for e in (small, theirs))
    np.testing.assert_allclose(found, expected)
    found, expected = (cross_val_predict(e(cls), X, y, cv=3) for e in (small, theirs))
    np.testing.assert_allclose(found, expected)


def test_other_estimators_around_it():
    for wrap in (
        lambda e: CalibratedClassifierCV(e, cv=2),
        lambda e: OneVsRestClassifier(e),
    ):
        found, expected = (wrap(e()).fit(X, Y).predict_proba(X_TEST) for e in (small, theirs))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("cls, y", BOTH)
def test_permutation_importance(cls, y):
    found, expected = (
        permutation_importance(e(cls).fit(X, y), X, y, n_repeats=2, random_state=0)
        for e in (small, theirs)
    )
    np.testing.assert_allclose(found.importances, expected.importances, rtol=1e-6, atol=1e-12)


def test_metadata_is_routed():
    weights = np.linspace(0.1, 2, len(X))
    held = X_TEST, Y_TEST
    expected = small().fit(X, Y, sample_weight=weights, validation_data=held)
    with config_context(enable_metadata_routing=True):
        step = small().set_fit_request(sample_weight=True, validation_data=True)
        pipe = make_pipeline(step).fit(X, Y, sample_weight=weights, validation_data=held)
        assert alike(pipe[-1], expected)
        assert pipe[-1].validation_scores_ == expected.validation_scores_
        with pytest.raises(Exception, match="validation_data.* not explicitly set"):
            make_pipeline(small()).fit(X, Y, validation_data=held)
        # The weights follow the rows of every fold.
        search = GridSearchCV(
            small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True),
            {"alpha": [0.1]},
            cv=2,
        )
        other = GridSearchCV(
            theirs().set_fit_request(sample_weight=True).set_score_request(sample_weight=True),
            {"alpha": [0.1]},
            cv=2,
        )
        scores = (s.fit(X, Y, sample_weight=weights).cv_results_ for s in (search, other))
        np.testing.assert_allclose(*(s["mean_test_score"] for s in scores))
        once = small().set_partial_fit_request(sample_weight=True)
        assert once.get_metadata_routing().partial_fit.requests["sample_weight"] is True


def frame(x):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(x, columns=[f"column {k}" for k in range(x.shape[1])])


def test_frames_through_a_pipeline():
    rows, test = frame(X), frame(X_TEST)
    pipe = make_pipeline(StandardScaler(), small()).set_output(transform="pandas").fit(rows, Y)
    assert list(pipe[-1].feature_names_in_) == list(rows.columns)
    plain = make_pipeline(StandardScaler(), small()).fit(X, Y)
    np.testing.assert_allclose(pipe.predict_proba(test), plain.predict_proba(X_TEST), rtol=1e-9)


@pytest.mark.parametrize("cls, y", BOTH)
def test_names_of_columns(cls, y):
    rows, test = frame(X), frame(X_TEST)
    named, plain = small(cls).fit(rows, y), small(cls).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(named.predict(test), plain.predict(X_TEST))
    assert not hasattr(plain, "feature_names_in_")
    with pytest.warns(UserWarning, match="X does not have valid feature names, but MLP"):
        named.predict(X_TEST)
    with pytest.warns(UserWarning, match=r"X has feature names, but MLP\w+ was fitted without"):
        plain.predict(test)
    with pytest.raises(ValueError, match="The feature names should match"):
        named.predict(test[test.columns[::-1]])
    named.partial_fit(rows, y)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        named.partial_fit(X, y)


# --- Processes and threads ----------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_predicts_and_trains_in_a_fork():
    rows = np.tile(X, (20, 1))
    one = small(hidden_layer_sizes=(64, 64), threads=2).fit(rows, np.tile(Y, 20))
    expected = one.predict_proba(rows)

    def child(results):
        results.put((one.predict_proba(rows), clone(one).fit(X, Y).predict(X_TEST)))

    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=child, args=(results,))
    process.start()
    proba, labels = results.get(timeout=500)
    process.join(500)
    assert process.exitcode == 0
    assert np.array_equal(proba, expected)
    assert np.array_equal(labels, clone(one).fit(X, Y).predict(X_TEST))


def test_new_processes():
    one, grid = small().fit(X, Y), {"alpha": [1e-4, 10.0]}
    with joblib.parallel_backend("loky", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(one.predict_proba)(x) for x in (X, X_TEST))
        search = GridSearchCV(small(), grid, cv=2).fit(X, Y)
    assert all(map(np.array_equal, found, (one.predict_proba(X), one.predict_proba(X_TEST))))
    expected = GridSearchCV(small(), grid, cv=2).fit(X, Y)
    scores = (s.cv_results_["mean_test_score"] for s in (search, expected))
    assert np.array_equal(*scores)


def in_threads(*jobs):
    """Run all at once and return what each returned."""
    found = [None] * len(jobs)

    def work(k):
        try:
            found[k] = jobs[k]()
        except BaseException as error:
            found[k] = error

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(jobs))]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    errors = [f for f in found if isinstance(f, BaseException)]
    assert not errors, errors[0]
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_many_threads_predict_from_one_estimator(threads):
    one = small(hidden_layer_sizes=(32, 16), threads=threads).fit(X, Y)
    parts = [X[k : k + 5 + 7 * k] for k in range(8)]
    expected = [one.predict_proba(p) for p in parts]

    def often(part):
        return [one.predict_proba(part) for _ in range(60)]

    for part, found in zip(expected, in_threads(*(lambda p=p: often(p) for p in parts))):
        assert all(np.array_equal(f, part) for f in found)


def test_many_estimators_of_one_architecture_train_at_once():
    seeds = range(6)
    expected = [vector(small(random_state=s).fit(X, Y)) for s in seeds]
    found = in_threads(*(lambda s=s: vector(small(random_state=s).fit(X, Y)) for s in seeds))
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_threads_change_no_bit(solver, dtype):
    rows, labels = np.tile(X, (9, 1)), np.tile(Y, 9)
    settings = {
        "solver": solver,
        "dtype": dtype,
        "hidden_layer_sizes": (70, 33),
        "max_iter": 3,
        "early_stopping": True,
        "dropout": 0.0 if solver == "lbfgs" else 0.2,
    }
    found = [small(threads=n, **settings).fit(rows, labels) for n in (1, 2, 5)]
    for one in found[1:]:
        assert alike(one, found[0])
        assert np.array_equal(one.predict_proba(rows), found[0].predict_proba(rows))
    assert {one.loss_ for one in found} == {found[0].loss_}


# --- Defaults change nothing --------------------------------------------------------------------

DEFAULTS = {
    "dropout": 0.0,
    "init": None,
    "weight_decay": 0.0,
    "schedule": None,
    "dtype": None,
    "threads": None,
    "callbacks": None,
    "progress": False,
}


@pytest.mark.parametrize("cls, y", BOTH)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_defaults_change_nothing(solver, cls, y, capfd):
    names = set(cls().get_params()) - set(theirs(cls).get_params())
    defaults = {**DEFAULTS, **({"class_weight": None} if cls is MLPClassifier else {})}
    assert names == set(defaults)
    assert {n: cls().get_params()[n] for n in names} == defaults
    one = small(cls, solver=solver).fit(X, y)
    neutral = {
        "dtype": "float64",
        "threads": 1,
        "dropout": [0.0],
        "callbacks": [],
        "schedule": None if solver == "lbfgs" else "constant",
        "activation": ["relu"],
        "init": [None, None],
    }
    if solver == "lbfgs":
        neutral = {k: v for k, v in neutral.items() if k not in ("dropout", "callbacks")}
    for settings in (defaults, *({k: v} for k, v in neutral.items()), neutral):
        two = small(cls, solver=solver, **settings).fit(X, y)
        assert alike(one, two), settings
        assert two.loss_ == one.loss_
        states = (e._random_state.get_state(legacy=False) for e in (one, two))
        np.testing.assert_equal(*states)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("more", [{}, {"callbacks": lambda e, r: None}, {"progress": lambda r: 0}])
def test_looking_on_changes_nothing(more):
    held = (X_TEST, Y_TEST) if not more else None
    one = small().fit(X, Y)
    two = small(**more).fit(X, Y, validation_data=held)
    assert alike(one, two)
    assert two.loss_curve_ == one.loss_curve_
    assert (two.best_loss_, two.n_iter_, two.t_) == (one.best_loss_, one.n_iter_, one.t_)


@pytest.mark.parametrize(
    "name, value",
    [
        ("dropout", 0.1),
        ("dropout", [0.1]),
        ("weight_decay", 0.1),
        ("schedule", "cosine"),
        ("schedule", "constant"),
        ("callbacks", lambda e, r: None),
        ("progress", True),
    ],
)
def test_what_lbfgs_refuses(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: found .*solver='lbfgs'"):
        small(solver="lbfgs", **{name: value}).fit(X, Y)


def test_lbfgs_refuses_validation_data():
    one = small(solver="lbfgs")
    with pytest.raises(ValueError, match=r"^validation_data: found with solver='lbfgs'"):
        one.fit(X, Y, validation_data=(X_TEST, Y_TEST))
    one.fit(X, Y)


@pytest.mark.parametrize(
    "name, values",
    {
        "dropout": [-0.1, 1.0, "some"],
        "init": ["glorot", 3],
        "weight_decay": [-1, "much"],
        "schedule": ["slow", 0.1],
        "dtype": ["float16", 32],
        "threads": [0, 1.5, "all", 100_000, 2**70],
        "callbacks": [3, "stop"],
        "progress": ["loud", 3],
        "class_weight": ["equal", 2],
        "activation": ["swish", 3],
    }.items(),
)
def test_values_that_cannot_be(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be"):
            small(**{name: value}).fit(X, Y)


def test_class_weights_below_zero():
    with pytest.raises(ValueError, match="class_weight: found {0: -1.0}, expected weights of 0"):
        small(class_weight={0: -1.0}).fit(X, Y)


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": [0.1, 0.1]},
        {"dropout": [1.5]},
        {"init": ["zeros"]},
        {"init": ["zeros", "glorot"]},
        {"activation": ["relu", "relu"]},
        {"activation": ["swish"]},
        {"dtype": np.float16},
        {"dtype": int},
        pytest.param({"schedule": lambda t: -1.0}, id="schedule-function"),
        {"weight_decay": 0.1, "solver": "sgd"},
    ],
    ids=str,
)
def test_lists_and_pairs_that_cannot_be(settings):
    with pytest.raises((ValueError, TypeError), match=rf"^{next(iter(settings))}\b.*: found"):
        small(**settings).fit(X, Y)


# --- Dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls, y", BOTH)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_dropout(solver, cls, y):
    def fit(rate, **more):
        return small(cls, solver=solver, hidden_layer_sizes=(20, 10), dropout=rate, **more)

    one, two, none = (fit(rate).fit(X, y) for rate in (0.4, [0.4, 0.4], 0))
    assert alike(one, two)
    assert not alike(one, none)
    assert not alike(one, fit([0.4, 0]).fit(X, y))
    assert not alike(one, fit(0.4, random_state=2).fit(X, y))
    assert one.loss_ > none.loss_
    # Off in predictions: those are scikit-learn's with the same coefficients.
    plain = theirs(cls, hidden_layer_sizes=(20, 10), max_iter=1).fit(X, y)
    plain.coefs_, plain.intercepts_ = one.coefs_, one.intercepts_
    method = "predict" if cls is MLPRegressor else "predict_proba"
    expected = getattr(plain, method)(X_TEST)
    for _ in range(2):
        np.testing.assert_allclose(getattr(one, method)(X_TEST), expected, rtol=1e-9)


def test_dropout_differs_from_epoch_to_epoch_and_fit_to_fit():
    # With a step of almost nothing the loss tells which units were left out.
    settings = {"dropout": 0.5, "learning_rate_init": 1e-12, "shuffle": False, "alpha": 0}
    one = small(**settings, max_iter=4).fit(X, Y)
    assert len(set(np.round(one.loss_curve_, 6))) == 4
    source = np.random.RandomState(3)
    curves = [
        small(**{**settings, "random_state": source}, max_iter=1, batch_size=7).fit(X, Y)
        for _ in range(2)
    ]
    assert not np.isclose(curves[0].loss_, curves[1].loss_, rtol=1e-6)


def test_dropout_in_partial_fit():
    settings = {"dropout": 0.5, "learning_rate_init": 1e-12, "shuffle": False, "alpha": 0}
    one = small(**settings)
    for _ in range(4):
        one.partial_fit(X, Y, classes=[0, 1, 2])
    assert len(set(np.round(one.loss_curve_, 6))) == 4


# --- Activations, initial weights, dtype --------------------------------------------------------


def forward(estimator, x, activations):
    for k, (w, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_)):
        x = x @ w + b
        if k < len(activations):
            x = activations[k](x)
    return x


def erf(x):
    from scipy.special import erf

    return erf(x)


FUNCTIONS = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: 0.5 * z * (1 + erf(z / np.sqrt(2))),
    "softplus": lambda z: np.log1p(np.exp(z)),
}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_activations(activation, solver):
    one = small(MLPRegressor, activation=activation, solver=solver, max_iter=40).fit(X, Z)
    expected = forward(one, X_TEST, [FUNCTIONS[activation]]).ravel()
    np.testing.assert_allclose(one.predict(X_TEST), expected, rtol=1e-6, atol=1e-6)
    assert r2_score(Z_TEST, one.predict(X_TEST)) > 0.4


def test_one_activation_for_each_layer():
    names = ["tanh", "elu", "logistic"]
    settings = {"hidden_layer_sizes": (7, 6, 5), "activation": names}
    one = small(MLPRegressor, **settings).fit(X, Z)
    expected = forward(one, X_TEST, [FUNCTIONS[n] for n in names]).ravel()
    np.testing.assert_allclose(one.predict(X_TEST), expected, rtol=1e-7)
    assert alike(clone(one).fit(X, Z), one)
    tuples = {**settings, "activation": tuple(names)}
    assert alike(small(MLPRegressor, **tuples).fit(X, Z), one)
    assert not alike(small(MLPRegressor, **{**settings, "activation": "tanh"}).fit(X, Z), one)


def test_gradients_of_mixed_activations():
    """By L-BFGS, whose line search finds no way down a wrong gradient."""
    x, y = datasets.load_diabetes(return_X_y=True)
    x, y = scale(x)[:150], scale(y)[:150]
    for names in itertools.permutations(["leaky_relu", "gelu", "softplus"], 2):
        one = small(
            MLPRegressor,
            activation=list(names),
            hidden_layer_sizes=(6, 5),
            solver="lbfgs",
            max_iter=60,
        ).fit(x, y)
        packed = np.concatenate([a.ravel() for a in one.coefs_ + one.intercepts_])
        objective = one._plan_objective(x, y[:, None], None)
        loss, gradient = objective(packed)
        for k in range(0, len(packed), 17):
            near = packed.copy()
            near[k] += 1e-6
            slope = (objective(near)[0] - loss) / 1e-6
            np.testing.assert_allclose(gradient[k], slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name, deviation",
    {
        "he_normal": np.sqrt(2 / 400),
        "he_uniform": np.sqrt(2 / 400),
        "glorot_normal": np.sqrt(2 / 700),
        "glorot_uniform": np.sqrt(2 / 700),
        "lecun_normal": np.sqrt(1 / 400),
        "lecun_uniform": np.sqrt(1 / 400),
        "normal": 1.0,
        "zeros": 0.0,
    }.items(),
)
def test_initial_weights(name, deviation):
    rows = np.random.RandomState(0).uniform(size=(8, 400))
    settings = {
        "hidden_layer_sizes": (300,),
        "learning_rate_init": 1e-30,
        "max_iter": 1,
        "init": name,
    }
    one = small(MLPRegressor, **settings).fit(rows, rows[:, 0])
    w, b = one.coefs_[0], one.intercepts_[0]
    np.testing.assert_allclose(w.std(), deviation, rtol=0.02, atol=1e-15)
    assert abs(w.mean()) < 0.01
    if name.endswith("uniform"):
        assert np.abs(w).max() < 1.01 * deviation * np.sqrt(3)
    if name == "normal":
        np.testing.assert_allclose(b.std(), 1, rtol=0.15)
    else:
        assert np.abs(b).max() < 1e-15
    again = small(MLPRegressor, **settings).fit(rows, rows[:, 0])
    assert alike(one, again)
    other = small(MLPRegressor, **{**settings, "random_state": 2}).fit(rows, rows[:, 0])
    assert name == "zeros" or not alike(one, other)


def test_initial_weights_of_each_layer():
    settings = {"learning_rate_init": 1e-30, "max_iter": 1}
    one = small(init=["zeros", "he_normal"], **settings).fit(X, Y)
    assert np.abs(one.coefs_[0]).max() < 1e-15
    assert np.abs(one.coefs_[1]).min() > 1e-6
    mixed = small(init=[None, "zeros"], **settings).fit(X, Y)
    plain = theirs(**settings).fit(X, Y)
    np.testing.assert_allclose(mixed.coefs_[0], plain.coefs_[0])
    assert np.abs(mixed.coefs_[1]).max() < 1e-15


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_dtype(dtype):
    one = small(dtype=dtype).fit(X, Y)
    assert {a.dtype for a in one.coefs_ + one.intercepts_} == {np.dtype(np.float32)}
    same = small().fit(X.astype(np.float32), Y)
    assert alike(one, same)
    wide = small(dtype="float64").fit(X.astype(np.float32), Y)
    assert wide.coefs_[0].dtype == np.float64
    one.partial_fit(X, Y)
    assert one.coefs_[0].dtype == np.float32
    one.fit(X, Y, validation_data=(X_TEST, Y_TEST))
    assert accuracy_score(Y_TEST, one.predict(X_TEST)) == one.validation_scores_[-1]


# --- Weights of classes -------------------------------------------------------------------------


def uneven():
    some = np.flatnonzero((Y != 2) | (np.arange(len(Y)) % 4 == 0))
    return X[some], Y[some]


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("weight", ["balanced", {0: 1.0, 1: 0.5, 2: 4.0}, {2: 3.0}], ids=str)
def test_class_weight_is_a_sample_weight(weight, solver):
    x, y = uneven()
    one = small(class_weight=weight, solver=solver).fit(x, y)
    weights = compute_sample_weight(weight, y)
    assert alike(one, small(solver=solver).fit(x, y, sample_weight=weights))
    assert not alike(one, small(solver=solver).fit(x, y))
    more = np.linspace(0.5, 1.5, len(x))
    one = small(class_weight=weight, solver=solver).fit(x, y, sample_weight=more)
    assert alike(one, small(solver=solver).fit(x, y, sample_weight=weights * more))


def test_class_weight_of_words_and_of_several_labels():
    x, y = uneven()
    words = np.array(["a", "b", "c"])[y]
    one = small(class_weight={"a": 1, "b": 2, "c": 3}).fit(x, words)
    two = small(class_weight={0: 1, 1: 2, 2: 3}).fit(x, y)
    assert alike(one, two)
    both = np.stack([y == 1, x[:, 0] > 0], axis=1).astype(int)
    each = [{0: 1, 1: 2}, {0: 1, 1: 5}]
    one = small(class_weight=each).fit(x, both)
    assert alike(one, small().fit(x, both, sample_weight=compute_sample_weight(each, both)))


def test_class_weight_in_partial_fit():
    x, y = uneven()
    weight = {0: 1.0, 1: 0.5, 2: 4.0}
    one = small(class_weight=weight).partial_fit(x, y, classes=[0, 1, 2])
    weights = compute_sample_weight(weight, y)
    two = small().partial_fit(x, y, classes=[0, 1, 2], sample_weight=weights)
    assert alike(one, two)
    with pytest.raises(ValueError, match=r"^class_weight: found 'balanced' in partial_fit"):
        small(class_weight="balanced").partial_fit(x, y, classes=[0, 1, 2])


# --- Validation data ----------------------------------------------------------------------------


def log_loss_of(estimator, x, y):
    found = np.clip(estimator.predict_proba(x), 1e-15, 1 - 1e-15)
    return -np.log(found[np.arange(len(y)), y]).mean()


@pytest.mark.parametrize("cls, y, y_test", [(MLPClassifier, Y, Y_TEST), (MLPRegressor, Z, Z_TEST)])
def test_validation_data(cls, y, y_test):
    scores, losses = [], []

    def measure(estimator, record):
        scores.append(estimator.score(X_TEST, y_test))
        if cls is MLPRegressor:
            losses.append(((estimator.predict(X_TEST) - y_test) ** 2).mean() / 2)
        else:
            losses.append(log_loss_of(estimator, X_TEST, y_test))
            assert record.validation_accuracy == scores[-1]
        assert record.validation_loss == pytest.approx(losses[-1], rel=1e-9)

    one = small(cls, callbacks=measure).fit(X, y, validation_data=(X_TEST, y_test))
    np.testing.assert_allclose(one.validation_scores_, scores, rtol=1e-12)
    np.testing.assert_allclose(one.validation_loss_curve_, losses, rtol=1e-9)
    assert len(scores) == one.n_iter_ == 6
    assert one.best_validation_score_ == pytest.approx(max(scores))
    assert one.best_loss_ == min(one.loss_curve_)
    assert [r.validation_loss for r in one.history_] == one.validation_loss_curve_
    assert small(cls).fit(X, y).validation_loss_curve_ is None


@pytest.mark.parametrize("cls, y, y_test", [(MLPClassifier, Y, Y_TEST), (MLPRegressor, Z, Z_TEST)])
def test_validation_data_with_early_stopping(cls, y, y_test):
    """They take the place of the rows held out: no row is held out, no draw is made for it."""
    settings = {"max_iter": 60, "n_iter_no_change": 3, "tol": 0.01}
    seen = []

    def keep(estimator, record):
        seen.append(vector(estimator))

    one = small(cls, early_stopping=True, callbacks=keep, **settings)
    one.fit(X, y, validation_data=(X_TEST, y_test))
    assert 3 < one.n_iter_ < 60
    assert len(one.validation_scores_) == len(one.validation_loss_curve_) == one.n_iter_
    assert one.best_loss_ is None
    assert one.best_validation_score_ == max(one.validation_scores_)
    assert one.score(X_TEST, y_test) == pytest.approx(one.best_validation_score_)
    assert np.array_equal(vector(one), seen[int(np.argmax(one.validation_scores_))])
    free = small(cls, **{**settings, "max_iter": one.n_iter_, "n_iter_no_change": 99}).fit(X, y)
    assert np.array_equal(vector(free), seen[-1])
    assert one.loss_curve_ == free.loss_curve_


def test_rows_held_out_give_a_loss_curve_too():
    one = small(early_stopping=True).fit(X, Y)
    assert len(one.validation_loss_curve_) == one.n_iter_
    assert one.validation_loss_curve_[0] > one.validation_loss_curve_[-1] > 0
    assert small().fit(X, Y).validation_scores_ is None


@pytest.mark.parametrize(
    "change",
    [
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_array,
        lambda x: x.astype(np.float32).astype(np.float64),
        np.asfortranarray,
        lambda x: x.tolist(),
    ],
    ids=["csr", "csc", "float32", "columns first", "list"],
)
def test_validation_data_of_many_kinds(change):
    expected = small().fit(X, Y, validation_data=(X_TEST, Y_TEST))
    found = small().fit(X, Y, validation_data=[change(X_TEST), Y_TEST.tolist()])
    assert found.validation_scores_ == expected.validation_scores_
    np.testing.assert_allclose(
        found.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-6
    )


def test_validation_data_of_sparse_rows_words_and_several_labels():
    rows = scipy.sparse.csr_matrix(np.where(np.abs(X) < 0.5, 0, X))
    words = np.array(["a", "b", "c"])
    one = small().fit(rows, words[Y], validation_data=(rows[:30], words[Y[:30]]))
    assert one.score(rows[:30], words[Y[:30]]) == one.validation_scores_[-1]
    several, tested = (np.stack([y == 1, x[:, 0] > 0], 1) for x, y in ((X, Y), (X_TEST, Y_TEST)))
    one = small().fit(X, several, validation_data=(X_TEST, tested))
    assert one.score(X_TEST, tested) == one.validation_scores_[-1]
    half = Y < 2
    one = small().fit(X[half], Y[half], validation_data=(X[half][:9], Y[half][:9]))
    assert one.score(X[half][:9], Y[half][:9]) == one.validation_scores_[-1]
    targets = np.stack([Z, -Z], axis=1)
    one = small(MLPRegressor).fit(X, targets, validation_data=(X[:9], targets[:9]))
    assert one.score(X[:9], targets[:9]) == pytest.approx(one.validation_scores_[-1])


@pytest.mark.parametrize(
    "given, expected",
    [
        (X_TEST, r"^validation_data: found a ndarray, expected a pair"),
        ((X_TEST,), r"^validation_data: found a tuple, expected a pair"),
        ((X_TEST, Y_TEST + 1), r"^validation_data: found the label .*3"),
        ((X_TEST, Y_TEST[:-1]), "inconsistent numbers of samples"),
        ((X_TEST[:, :4], Y_TEST), "X has 4 features, but MLPClassifier is expecting 13"),
        ((X_TEST * np.nan, Y_TEST), "contains NaN"),
        ((X_TEST[:0], Y_TEST[:0]), "0 sample"),
        ((X_TEST, np.stack([Y_TEST, Y_TEST > 1], 1)), "validation_data|Multioutput"),
    ],
    ids=range(8),
)
def test_validation_data_that_cannot_be(given, expected):
    one = small()
    with pytest.raises(ValueError, match=expected):
        one.fit(X, Y, validation_data=given)
    assert not hasattr(one, "_validation")
    assert one.fit(X, Y).validation_scores_ is None


def test_validation_data_of_a_regressor_that_cannot_be():
    with pytest.raises(ValueError, match=r"^validation_data: found 2 columns of y, expected 1"):
        small(MLPRegressor).fit(X, Z, validation_data=(X_TEST, np.stack([Z_TEST, Z_TEST], 1)))


# --- Callbacks and progress ---------------------------------------------------------------------


def test_a_function_is_called_after_every_epoch():
    calls = []

    def look(estimator, record):
        calls.append((estimator, record, estimator.n_iter_, vector(estimator)))
        assert estimator.predict(X_TEST).shape == (50,)

    one = small(callbacks=look).fit(X, Y)
    assert [c[0] is one for c in calls] == [True] * 6
    assert [c[1].epoch for c in calls] == [c[2] for c in calls] == [1, 2, 3, 4, 5, 6]
    assert len({c[3].tobytes() for c in calls}) == 6
    assert np.array_equal(calls[-1][3], vector(one))
    assert [c[1].loss for c in calls] == one.loss_curve_
    assert list(one.history_) == [c[1] for c in calls]
    assert all(0 <= c[1].accuracy <= 1 and c[1].samples_per_second > 0 for c in calls)


def test_a_callback_stops_training():
    one = small(callbacks=[lambda e, r: None, lambda e, r: e.n_iter_ == 3]).fit(X, Y)
    assert one.n_iter_ == len(one.loss_curve_) == 3
    assert alike(one, small(max_iter=3).fit(X, Y))
    assert one.t_ == 3 * len(X)


def test_an_exception_in_a_callback_leaves_a_usable_estimator():
    def fail(estimator, record):
        if record.epoch == 3:
            raise LookupError("no more")

    one = small(callbacks=fail)
    with pytest.raises(LookupError, match="no more"):
        one.fit(X, Y)
    expected = small(max_iter=3).fit(X, Y)
    assert alike(one, expected)
    assert one.predict_proba(X_TEST).shape == (50, 3)
    assert not hasattr(one, "_validation")
    one.set_params(callbacks=None).partial_fit(X, Y)
    assert alike(one, expected.partial_fit(X, Y))


def test_early_stopping_as_a_callback():
    stop = pynn.EarlyStopping(monitor="loss", threshold=0.5, patience=None)
    one = small(callbacks=stop, max_iter=200).fit(X, Y)
    assert one.loss_curve_[-1] <= 0.5 < one.loss_curve_[-2]
    assert stop.stopped_epoch == one.n_iter_
    stop = pynn.EarlyStopping("validation_loss", patience=2)
    one = small(callbacks=[stop], max_iter=300, learning_rate_init=0.05, n_iter_no_change=np.inf)
    one.fit(X, Y, validation_data=(X_TEST, Y_TEST))
    assert stop.best == min(one.validation_loss_curve_)
    assert stop.stopped_epoch == one.n_iter_ == stop.best_epoch + 2
    # The best parameters are back, and predict.
    assert log_loss_of(one, X_TEST, Y_TEST) == pytest.approx(stop.best, rel=1e-9)


def test_early_stopping_on_what_is_not_measured():
    stop = pynn.EarlyStopping("validation_loss")
    with pytest.raises(ValueError, match=r"^callbacks: found EarlyStopping on 'validation_loss'"):
        small(callbacks=stop).fit(X, Y)
    small(callbacks=stop, early_stopping=True).fit(X, Y)
    with pytest.raises(ValueError, match=r"^callbacks: found EarlyStopping on 'accuracy'"):
        small(MLPRegressor, callbacks=pynn.EarlyStopping("accuracy")).fit(X, Z)


@pytest.mark.parametrize("labels", [Y, Y == 1, np.stack([Y == 1, X[:, 0] > 0], 1)], ids="321")
def test_early_stopping_on_accuracy(labels):
    stop = pynn.EarlyStopping("accuracy", threshold=0.8, patience=None)
    one = small(callbacks=stop, max_iter=100, solver="adam").fit(X, labels)
    assert one.history_[-1].accuracy >= 0.8 > one.history_[-2].accuracy


def test_every_so_many_updates():
    calls = []

    def look(estimator, record):
        calls.append((record.epoch, record.step, vector(estimator)))
        return len(calls) == 7

    one = small(callbacks=pynn.Every(steps=2, call=look), batch_size=32).fit(X, Y)
    steps = -(-len(X) // 32)
    expected = [divmod(2 * k - 1, steps) for k in range(1, 8)]
    assert [(e - 1, s - 1) for e, s, _ in calls] == expected
    assert np.array_equal(calls[-1][2], vector(one))
    assert len({c[2].tobytes() for c in calls}) == 7
    # The epoch that was cut short does not count.
    assert one.n_iter_ == len(one.loss_curve_) == 14 // steps


def test_looking_on_in_the_middle_of_an_epoch_changes_nothing():
    one = small(batch_size=32).fit(X, Y)
    two = small(batch_size=32, callbacks=pynn.Every(steps=3, call=lambda e, r: None)).fit(X, Y)
    assert alike(one, two)
    assert one.loss_curve_ == two.loss_curve_


def test_a_callback_changes_parameters_when_training_has_ended():
    class Halve(pynn.Callback):
        began = 0

        def on_fit_begin(self, net):
            self.began += 1

        def on_fit_end(self, net):
            net.parameters = net.parameters / 2

    call = Halve()
    one = small(callbacks=call).fit(X, Y)
    assert call.began == 1
    assert np.array_equal(vector(one), vector(small().fit(X, Y)) / 2)
    # With rows held out, of the best ones.
    one = small(callbacks=Halve(), early_stopping=True).fit(X, Y)
    assert np.array_equal(vector(one), vector(small(early_stopping=True).fit(X, Y)) / 2)


def test_callbacks_in_partial_fit():
    records = []
    one = small(callbacks=lambda e, r: records.append(r))
    for _ in range(3):
        one.partial_fit(X, Y, classes=[0, 1, 2])
    assert [r.epoch for r in records] == [1, 2, 3]
    assert len(one.history_) == 3


def test_progress(capfd):
    seen = []
    one = small(progress=seen.append).fit(X, Y, validation_data=(X_TEST, Y_TEST))
    assert [r.epoch for r in seen] == [1, 2, 3, 4, 5, 6]
    assert seen == list(one.history_)
    assert capfd.readouterr() == ("", "")
    small(progress=True).fit(X, Y)
    out, error = capfd.readouterr()
    assert out == ""
    assert "6/6" in error
    small(progress="auto").fit(X, Y)
    assert capfd.readouterr().err == ""


# --- Weight decay and schedules -----------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, len(X))], ids=["", "weighed"])
def test_weight_decay_is_that_of_adamw(weights):
    """A net without hidden layer, in batches of all rows, updated by hand."""
    decay, rate, beta1, beta2, epsilon, steps = 0.3, 0.02, 0.8, 0.95, 1e-3, 5
    settings = {"hidden_layer_sizes": (), "shuffle": False, "batch_size": len(X), "alpha": 0.0}
    one = small(
        MLPRegressor,
        weight_decay=decay,
        learning_rate_init=rate,
        beta_1=beta1,
        beta_2=beta2,
        epsilon=epsilon,
        max_iter=steps,
        **settings,
    ).fit(X, Z, weights)
    start = theirs(MLPRegressor, learning_rate_init=1e-30, max_iter=1, **settings).fit(X, Z)
    w, b = start.coefs_[0], start.intercepts_[0]
    share = (np.ones(len(X)) if weights is None else weights)[:, None]
    share = share / share.sum()
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (w, b)]
    for t in range(1, steps + 1):
        error = (X @ w + b - Z[:, None]) * share
        w *= 1 - rate * decay
        for p, g, (m, v) in zip((w, b), (X.T @ error, error.sum(0)), moments):
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g * g - v)
            p -= rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    np.testing.assert_allclose(one.coefs_[0], w, rtol=1e-9)
    np.testing.assert_allclose(one.intercepts_[0], b, rtol=1e-9)


def rates(one):
    return [r.learning_rate for r in one.history_]


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize(
    "schedule, factors",
    [
        (pynn.StepDecay(every=2, factor=0.5), [1, 1, 0.5, 0.5, 0.25, 0.25]),
        (lambda t: 1 / (1 + t), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]),
        ("exponential", [0.95**k for k in range(6)]),
        ("cosine", [0.5 * (1 + np.cos(np.pi * k / 6)) for k in range(6)]),
        ("inverse_time", [1 / (1 + k) for k in range(6)]),
    ],
    ids=["object", "function", "exponential", "cosine", "inverse_time"],
)
def test_schedules(schedule, factors, solver):
    settings = {"solver": solver, "batch_size": len(X), "shuffle": False}
    one = small(schedule=schedule, **settings).fit(X, Y)
    np.testing.assert_allclose(rates(one), 0.01 * np.array(factors), rtol=1e-12)
    # The same by hand, one epoch after another.
    two = small(**settings)
    for factor in factors:
        two.partial_fit(X, Y, classes=[0, 1, 2])
        assert not alike(one, two) or factor == factors[-1]
        two._optimizer.learning_rate = two._optimizer.learning_rate_init = (
            0.01 * factors[min(two.t_ // len(X), 5)]
        )
    np.testing.assert_allclose(vector(one), vector(two), rtol=1e-10, atol=1e-12)


def test_schedules_go_on_in_partial_fit_and_warm_start():
    decay = pynn.StepDecay(every=2, factor=0.5)
    one = small(schedule=decay)
    for _ in range(6):
        one.partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_allclose(rates(one), 0.01 * np.array([1, 1, 0.5, 0.5, 0.25, 0.25]))
    one = small(schedule=decay, warm_start=True, max_iter=3).fit(X, Y).fit(X, Y)
    np.testing.assert_allclose(rates(one), 0.01 * np.array([1, 1, 0.5, 0.5, 0.25, 0.25]))


def test_a_schedule_times_their_learning_rate():
    one = small(solver="sgd", learning_rate="invscaling", schedule=lambda t: 0.5, alpha=0)
    one.fit(X, Y)
    expected = [0.005, *(0.005 / (len(X) * k + 1) ** 0.5 for k in range(1, 6))]
    np.testing.assert_allclose(rates(one), expected, rtol=1e-12)


# --- In the place of scikit-learn's -------------------------------------------------------------


def test_patch():
    before = neural_network.MLPClassifier, neural_network.MLPRegressor
    try:
        patch.patch()
        patch.patch()
        from sklearn.neural_network import MLPClassifier as Found

        assert Found is MLPClassifier
        assert neural_network.MLPRegressor is MLPRegressor
        assert pickle.loads(pickle.dumps(Found().fit(X, Y))).score(X, Y) > 0.5
    finally:
        patch.unpatch()
    assert (neural_network.MLPClassifier, neural_network.MLPRegressor) == before
    assert before[0].__module__.startswith("sklearn.")
    patch.unpatch()
    assert neural_network.MLPClassifier is before[0]


def test_a_script_runs_unchanged(tmp_path):
    """With its arguments, its neighbours, its own errors, and what it pickles."""
    (tmp_path / "neighbour.py").write_text("NAME = 'next door'\n")
    script = tmp_path / "script.py"
    text = """
        import neighbour, pickle, sys
        from sklearn.datasets import load_iris
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        if __name__ == "__main__":
            print(MLPClassifier.__module__, MLPRegressor.__module__, neighbour.NAME, sys.argv)
            one = MLPClassifier(max_iter=2).fit(*load_iris(return_X_y=True))
            print(type(pickle.loads(pickle.dumps(one))) is MLPClassifier)
        sys.exit(3)
    """
    script.write_text(textwrap.dedent(text), encoding="utf-8")
    home = str(Path(pynn.__file__).parents[1])
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH")) if p)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pynn.sklearn", script, "--flag", "3"],
        capture_output=True,
        encoding="utf-8",
        timeout=500,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout.splitlines() == [
        f"pynn.sklearn pynn.sklearn next door {[str(script), '--flag', '3']}",
        "True",
    ], done.stderr
    assert done.returncode == 3


def test_a_script_must_be_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pynn.sklearn"])
    with pytest.raises(SystemExit, match=r"^usage: python -m pynn\.sklearn SCRIPT"):
        __main__._main()
    monkeypatch.setattr(sys, "argv", ["pynn.sklearn", "gone.py"])
    with pytest.raises(SystemExit, match=r"^python -m pynn\.sklearn: found no file 'gone.py'"):
        __main__._main()
    for option in ("-h", "--help"):
        monkeypatch.setattr(sys, "argv", ["pynn.sklearn", option])
        __main__._main()
        assert "usage: python -m pynn.sklearn SCRIPT" in capsys.readouterr().out


# --- Interrupted --------------------------------------------------------------------------------


def interrupted(one, *arguments, **named):
    try:
        with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
            one.fit(*arguments, **named)
    except KeyboardInterrupt:
        pytest.fail("the interrupt came through")
    assert np.isfinite(vector(one)).all()
    return one


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("cls, y", BOTH)
def test_interrupted_by_a_callback(cls, y, early):
    def stop(estimator, record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    one = interrupted(small(cls, callbacks=stop, early_stopping=early), X, y)
    assert one.n_iter_ == len(one.loss_curve_) == 3
    expected = small(cls, max_iter=3, early_stopping=early).fit(X, y)
    assert alike(one, expected)
    assert np.array_equal(one.predict(X_TEST), expected.predict(X_TEST))
    if not early:
        one.set_params(callbacks=None).partial_fit(X, y)
        assert alike(one, expected.partial_fit(X, y))


def test_interrupted_by_verbose_output_as_theirs_is(monkeypatch):
    """Where both can be stopped at the same place, both stand at the same place."""

    def stop(text):
        if text.startswith("Iteration 3"):
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", stop)
    two = [interrupted(make(verbose=True), X, Y) for make in (theirs, small)]
    assert two[0].n_iter_ == two[1].n_iter_ == 3
    assert two[0].t_ == two[1].t_
    np.testing.assert_allclose(vector(two[1]), vector(two[0]), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(two[1].loss_curve_, two[0].loss_curve_)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_interrupted_by_a_signal_in_the_middle_of_an_epoch(solver):
    class Alarm(pynn.Callback):
        def on_fit_begin(self, net):
            signal.setitimer(signal.ITIMER_REAL, 0.3)

    rows = np.random.default_rng(0).normal(size=(60_000, 40)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(int)
    settings = {"solver": solver, "hidden_layer_sizes": (200, 100), "batch_size": 20}
    one = small(**settings, max_iter=200, callbacks=Alarm())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        interrupted(one, rows, labels)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert one.n_iter_ == len(one.loss_curve_) < 200
    assert one.predict_proba(rows[:9]).shape == (9, 2)
    one.set_params(callbacks=None).partial_fit(rows[:2000], labels[:2000])
    assert one.n_iter_ == 1


# --- BLAS beside L-BFGS-B -------------------------------------------------------------------------


def blas_threads() -> list[int]:
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


def test_blas_stays_on_one_thread_during_lbfgs(monkeypatch):
    with threadpool_limits(2, user_api="blas"):
        before, during = blas_threads(), []

        def look(self, *arguments):
            during.append(blas_threads())
            if len(during) == 3:
                raise RuntimeError("in the middle")
            return usual(self, *arguments)

        usual = MLPClassifier._loss_grad_lbfgs
        monkeypatch.setattr(MLPClassifier, "_loss_grad_lbfgs", look)
        with pytest.raises(RuntimeError, match="in the middle"):
            MLPClassifier(3, solver="lbfgs", max_iter=5, random_state=1).fit(X, Y)
        assert during == [[1] * len(before)] * 3
        assert blas_threads() == before


def test_blas_has_its_threads_back_after_the_last_of_several():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with core._ONE_BLAS_THREAD:
            with core._ONE_BLAS_THREAD:
                pass
            assert blas_threads() == [1] * len(before)
        assert blas_threads() == before
        fits = [
            threading.Thread(
                target=MLPClassifier(3, solver="lbfgs", max_iter=20, random_state=i).fit,
                args=(X, Y),
            )
            for i in range(4)
        ]
        for fit in fits:
            fit.start()
        for fit in fits:
            fit.join()
        assert blas_threads() == before
