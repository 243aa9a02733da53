"""Copies, scikit-learn's tools, processes and threads, and the BLAS that L-BFGS-B uses."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import pickle
import re
import signal
import threading
import warnings

import numpy as np
import pytest

from pynn.sklearn import core

pytest.importorskip("sklearn", "1.7")
import joblib
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

import pynn
from pynn.sklearn.estimators import MLPClassifier, MLPRegressor
from tests.sklearn.estimators import (
    BOTH,
    X_TEST,
    Y_TEST,
    X,
    Y,
    Z,
    alike,
    small,
    theirs,
    vector,
)
from tests.training.injector import Injector

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("error::RuntimeWarning"),
]


# --- Copies ---------------------------------------------------------------------------------------


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
def test_copies_predict_and_train_the_same(how, solver, cls, y, tmp_path):
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


def test_an_estimator_with_assigned_attributes_predicts_and_is_copied():
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


def test_the_parameter_vector_equals_the_coefficients():
    one = small().fit(X, Y)
    assert one.parameters.size == vector(one).size
    one.parameters *= 2
    assert np.shares_memory(one.parameters, one.coefs_[0])
    assert np.shares_memory(one.parameters, one.intercepts_[1])
    one.coefs_[0] = np.ones_like(one.coefs_[0])
    assert (one.parameters == 1).sum() >= one.coefs_[0].size
    with pytest.raises(AttributeError, match=r"^parameters: .*not fitted"):
        _ = MLPClassifier().parameters


# --- scikit-learn's tools -------------------------------------------------------------------------


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


# --- Processes and threads ------------------------------------------------------------------------


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


def test_estimators_train_in_new_processes():
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
def test_threads_do_not_change_results(solver, dtype):
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


# --- Interrupted ----------------------------------------------------------------------------------


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


def test_an_interrupt_in_verbose_output_acts_as_in_scikit_learn(monkeypatch):
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


def test_blas_has_its_threads_back_after_an_interrupt():
    with threadpool_limits(2, user_api="blas"):
        before, one = blas_threads(), core._OneBlasThread()
        with Injector() as counter:
            one.call(len, ())
        for at in range(len(counter.events)):
            with contextlib.suppress(KeyboardInterrupt), Injector(at=at):
                one.call(len, ())
            one.call(len, ())
            assert blas_threads() == before


def test_blas_has_its_threads_back_after_the_last_of_several():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()

        def outer():
            core.ONE_BLAS_THREAD.call(lambda: None)
            assert blas_threads() == [1] * len(before)

        core.ONE_BLAS_THREAD.call(outer)
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
