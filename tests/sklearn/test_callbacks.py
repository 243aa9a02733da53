"""Callbacks, progress, weight decay and schedules of an estimator."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")
import pynn
from pynn.sklearn.estimators import MLPRegressor
from tests.sklearn.estimators import (
    X_TEST,
    Y_TEST,
    X,
    Y,
    Z,
    alike,
    log_loss_of,
    small,
    theirs,
    vector,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("error::RuntimeWarning"),
]


# --- Callbacks and progress -----------------------------------------------------------------------


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


def test_early_stopping_on_an_unmeasured_value_is_refused():
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


def test_callbacks_within_an_epoch_do_not_change_results():
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


def test_progress_is_reported_each_epoch(capfd):
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


# --- Weight decay and schedules -------------------------------------------------------------------


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


def test_schedules_continue_in_partial_fit_and_warm_start():
    decay = pynn.StepDecay(every=2, factor=0.5)
    one = small(schedule=decay)
    for _ in range(6):
        one.partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_allclose(rates(one), 0.01 * np.array([1, 1, 0.5, 0.5, 0.25, 0.25]))
    one = small(schedule=decay, warm_start=True, max_iter=3).fit(X, Y).fit(X, Y)
    np.testing.assert_allclose(rates(one), 0.01 * np.array([1, 1, 0.5, 0.5, 0.25, 0.25]))


def test_a_schedule_multiplies_the_learning_rate():
    one = small(solver="sgd", learning_rate="invscaling", schedule=lambda t: 0.5, alpha=0)
    one.fit(X, Y)
    expected = [0.005, *(0.005 / (len(X) * k + 1) ** 0.5 for k in range(1, 6))]
    np.testing.assert_allclose(rates(one), expected, rtol=1e-12)
