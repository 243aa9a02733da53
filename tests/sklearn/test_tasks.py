"""scikit-learn's callbacks (``set_callbacks``), alone, in pipelines and in searches."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")
from joblib import parallel_config
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pynn.sklearn.estimators import MLPClassifier, MLPRegressor
from tests.sklearn.estimators import BOTH, X, Y, Z, alike, small

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Recording:
    """A callback that stores its calls, and does what it is told to at the end of a task."""

    def __init__(self, at_end=lambda context: None):
        self.calls, self.at_end = [], at_end

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.calls.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.calls.append(("end", context.task_name, context.task_id))
        self.last = X, y, metadata, fitted_estimator
        return self.at_end(context)

    def ends(self, name):
        return [call for call in self.calls if call[:2] == ("end", name)]


@pytest.mark.parametrize("solver, task", [("adam", "epoch"), ("lbfgs", "iteration")])
def test_every_epoch_and_every_iteration_is_a_task(solver, task):
    recording = Recording()
    one = small(solver=solver).set_callbacks(recording)
    one.fit(X, Y)
    assert alike(one, small(solver=solver).fit(X, Y))
    tasks = [(kind, task, k) for k in range(one.n_iter_) for kind in ("begin", "end")]
    whole = [("begin", "fit", 0), *tasks, ("end", "fit", 0)]
    assert recording.calls == ["setup", *whole, "teardown"]
    x, y, metadata, fitted = recording.last
    assert x is X
    assert y is Y
    assert metadata is None
    assert alike(fitted, one)
    assert fitted is not one
    assert not {"_tasks", "_callback_fit_ctx"} & set(vars(one))
    one.set_callbacks().fit(X, Y)
    assert len(recording.calls) == 2 * one.n_iter_ + 4


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_callback_stops_training_without_a_warning(solver):
    recording = Recording(lambda context: context.task_id == 2)
    one = small(solver=solver, max_iter=50).set_callbacks(recording)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.fit(X, Y)
    assert one.n_iter_ == 3
    expected = small(solver=solver, max_iter=3).fit(X, Y)
    assert np.allclose(one.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-12)
    assert recording.calls[-2:] == [("end", "fit", 0), "teardown"]


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls, y", BOTH)
def test_scores_of_every_epoch_are_those_of_the_training_so_far(cls, y, solver):
    monitor = ScoringMonitor(scoring={MLPClassifier: "accuracy", MLPRegressor: "r2"}[cls])
    weight = np.linspace(0.5, 2, len(X))
    one = small(cls, solver=solver).set_callbacks(monitor).fit(X, y, sample_weight=weight)
    rows = monitor.get_logs().data
    scores = [row.get("accuracy", row.get("r2")) for row in rows if row["task_name"] != "fit"]
    expected = [
        small(cls, solver=solver, max_iter=n).fit(X, y, weight).score(X, y, weight)
        for n in range(1, one.n_iter_ + 1)
    ]
    assert scores == pytest.approx(expected, abs=1e-9)


def test_data_frames_and_labels_reach_callbacks_without_the_rows_held_out():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X).add_prefix("x")
    names = np.array(["a", "b", "c"])[Y]
    recording, monitor = Recording(), ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    one = small(early_stopping=True).set_callbacks(recording, monitor)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "X ")  # about the names of columns
        one.fit(frame, names)
    x, y, _, fitted = recording.last
    assert list(x.columns) == list(frame.columns)
    assert len(x) == len(y) < len(X)
    assert (names[x.index] == y).all()
    (whole,) = (row for row in monitor.get_logs().data if row["task_name"] == "fit")
    assert whole["accuracy"] == np.mean(fitted.predict(x) == y)
    assert alike(one, small(early_stopping=True).fit(frame, names))


def test_partial_fit_is_a_task_of_one_epoch():
    recording = Recording()
    one = small().set_callbacks(recording).partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y)
    epoch = [("begin", "epoch", 0), ("end", "epoch", 0)]
    call = ["setup", ("begin", "partial_fit", 0), *epoch, ("end", "partial_fit", 0), "teardown"]
    assert recording.calls == 2 * call
    assert alike(one, small().partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y))


def test_a_search_propagates_a_progress_bar(capsys):
    pytest.importorskip("rich")
    search = GridSearchCV(small(), {"alpha": [1e-4, 1e-2]}, cv=2).set_callbacks(ProgressBar())
    search.fit(X, Y)
    text = capsys.readouterr().out
    assert "GridSearchCV" in text
    assert "MLPClassifier" in text
    plain = GridSearchCV(small(), {"alpha": [1e-4, 1e-2]}, cv=2).fit(X, Y)
    assert search.best_params_ == plain.best_params_
    assert alike(search.best_estimator_, plain.best_estimator_)
    assert not hasattr(search.best_estimator_, "_skl_callbacks")


@pytest.mark.parametrize("jobs", [1, 2])
def test_scores_of_all_fits_of_a_search(jobs):
    monitor = ScoringMonitor(scoring="accuracy")
    one = small(MLPClassifier, max_iter=3).set_callbacks(monitor)
    with parallel_config("threading"):
        GridSearchCV(one, {"alpha": [1e-4, 1e-2]}, cv=2, n_jobs=jobs).fit(X, Y)
    logs = monitor.get_logs(select="all")
    rows = [row for log in logs for row in log.data if row["task_name"] == "epoch"]
    assert len(rows) == (2 * 2 + 1) * 3
    assert {len(row["task_id_path"]) for row in rows} == {3, 4}  # refit, and candidates in a search


def test_cross_validation_and_pipelines_call_the_callbacks():
    monitor = ScoringMonitor(scoring="r2")
    found = cross_validate(small(MLPRegressor).set_callbacks(monitor), X, Z, cv=3)
    assert len(monitor.get_logs(select="all")) == len(found["test_score"]) == 3
    recording = Recording()
    pipe = make_pipeline(StandardScaler(), small().set_callbacks(recording))
    pipe.fit(X, Y)
    assert len(recording.ends("epoch")) == 6
    assert recording.ends("fit") == [("end", "fit", 1)]  # the second step of the pipeline


def test_teardown_follows_every_exception():
    def fail(context):
        if context.task_id == 1:
            raise LookupError("no more")

    recording = Recording(fail)
    one = small().set_callbacks(recording)
    with pytest.raises(LookupError, match="no more"):
        one.fit(X, Y)
    assert recording.calls[-1] == "teardown"
    assert alike(one, small(max_iter=2).fit(X, Y))
    recording = Recording()
    with pytest.raises(ValueError, match="NaN"):
        small().set_callbacks(recording).fit(np.full_like(X, np.nan), Y)
    assert recording.calls == ["setup", ("begin", "fit", 0), "teardown"]


def test_callbacks_are_part_of_clones_and_pickles():
    monitor = ScoringMonitor(scoring="accuracy")
    one = small().set_callbacks(monitor)
    assert clone(one)._skl_callbacks == [monitor]
    one.fit(X, Y)
    again = pickle.loads(pickle.dumps(one))
    assert alike(again, one)
    assert len(again._skl_callbacks) == 1
    assert not hasattr(copy.copy(one), "_callback_fit_ctx")


def test_what_is_no_callback_is_refused_as_in_scikit_learn():
    for wrong in (3, ProgressBar, lambda net, record: None):
        with pytest.raises(TypeError) as ours:
            small().set_callbacks(wrong)
        with pytest.raises(TypeError) as theirs:
            LogisticRegression().set_callbacks(wrong)
        assert str(ours.value) == str(theirs.value)
