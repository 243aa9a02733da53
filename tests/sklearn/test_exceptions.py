"""An exception anywhere in fit and partial_fit leaves a consistent estimator.

MemoryError and KeyboardInterrupt are raised at events of pynn's Python code, as in
``tests/training/test_exceptions.py``; a plain run takes a sample of the events.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")
import pynn
from pynn.sklearn.estimators import MLPClassifier, MLPRegressor
from tests.training.injector import Injector

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Training interrupted by user"),
]

SAMPLE, MOST = 8, 60
"""Events of a scenario at which a plain run raises, and a run of all tests."""

X = np.random.default_rng(0).normal(size=(20, 4))
Y = np.arange(20) % 3
Z = np.sin(X[:, 0])


ERRORS = MemoryError, KeyboardInterrupt


class Recorder(pynn.Callback):
    """Records the vectors after every update."""

    steps = 1

    def __init__(self) -> None:
        self.seen: dict[int, list[bytes]] = {}

    def on_steps(self, net: Any, record: pynn.Record) -> None:
        self.seen[net._updates] = vectors(net)


class Idle(pynn.Callback):
    steps = 2


def make(cls: Any = MLPClassifier, **settings: Any) -> Any:
    defaults = {"hidden_layer_sizes": (5,), "max_iter": 2, "batch_size": 8, "random_state": 1}
    return cls(**{**defaults, "threads": 1, **settings})


def vectors(estimator: Any) -> list[bytes]:
    return [v.tobytes() for v in (estimator.parameters, *estimator._slots)]


def plain(value: Any) -> Any:
    """A value in a form that can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if isinstance(value, pynn.History):
        value = [r._replace(seconds=0.0, samples_per_second=0.0) for r in value]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "__dict__") and not callable(value):
        return {k: plain(v) for k, v in vars(value).items()}
    return repr(value)


def state(estimator: Any) -> Any:
    # An exception while fit removes the attributes of a call can leave some until the next call.
    of_call = {"_trained", "_scored", "_tasks"}
    left_out = {"_core", "_random_state", *of_call, *estimator.get_params()}
    return {k: plain(v) for k, v in vars(estimator).items() if k not in left_out}


SCENARIOS: dict[str, Any] = {
    "first fit": (make, lambda e: e.fit(X, Y)),
    "other data": (
        lambda: make().fit(X, Y).set_params(hidden_layer_sizes=(6,), solver="sgd"),
        lambda e: e.fit(X[:, :3], Y % 2, validation_data=(X[:5, :3], Y[:5] % 2)),
    ),
    "early stopping": (
        lambda: make(MLPRegressor, early_stopping=True).fit(X, Z),
        lambda e: e.fit(X, Z),
    ),
    "warm start": (
        lambda: make(warm_start=True, solver="sgd", learning_rate="invscaling").fit(X, Y),
        lambda e: e.fit(X, Y),
    ),
    "partial fit": (lambda: make().fit(X, Y), lambda e: e.partial_fit(X, Y)),
}


def check(estimator: Any, seen: dict[int, list[bytes]], rows: int) -> None:
    """Check that vectors, counters and curves belong to the same update."""
    parameters, *slots = vectors(estimator)
    if estimator._updates in seen:
        assert slots == seen[estimator._updates][1:]
        assert estimator.early_stopping or parameters == seen[estimator._updates][0]
    best = [plain(a) for a in (*estimator._best_coefs, *estimator._best_intercepts)]
    if estimator.early_stopping and parameters not in [v[0] for v in seen.values()]:
        assert best == [plain(a) for a in (*estimator.coefs_, *estimator.intercepts_)]
    epochs = estimator._epochs
    assert len(estimator.loss_curve_) == len(estimator.history_) == epochs
    assert len(estimator.validation_loss_curve_ or [0] * epochs) == epochs
    assert estimator.t_ == rows * epochs
    assert getattr(estimator._optimizer, "t", estimator._updates) == estimator._updates
    assert all(a.flags.writeable for a in estimator.coefs_)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_fit(request: pytest.FixtureRequest, scenario: str, error: type[BaseException]) -> None:
    create, run = SCENARIOS[scenario]
    base, recorder = create(), Recorder()
    run(copy.deepcopy(base).set_params(callbacks=recorder))
    base.set_params(callbacks=Idle())
    before = state(base)
    with Injector() as counter:
        run(copy.deepcopy(base))
    places = counter.extremes()
    # The two exceptions take turns.
    turn, step = ERRORS.index(error), len(ERRORS)
    count = MOST if request.config.getoption("--all") else SAMPLE
    places = places[turn :: max(step, len(places) // count)]
    for at in places:
        found, injector, raised = copy.deepcopy(base), Injector(error, at), False
        try:
            with injector:
                run(found)
        except error:
            raised = True
        try:
            if not raised or state(found) != before:
                check(found, recorder.seen, 18 if base.early_stopping else 20)
                found.predict(X[:, : found.n_features_in_])
            run(found)
            assert "_validation" not in vars(found)
        except Exception as wrong:
            raise AssertionError(injector.place) from wrong


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_lbfgs_is_interrupted(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Ctrl-C keeps the parameters, as in scikit-learn; other exceptions those before the fit."""
    one = make(MLPRegressor, solver="lbfgs").fit(X, Z)
    before, usual, calls = state(one), MLPRegressor._loss_grad_lbfgs, []

    def fail(self: Any, *arguments: Any) -> Any:
        calls.append(arguments[0].copy())
        if len(calls) == 3:
            raise error
        return usual(self, *arguments)

    monkeypatch.setattr(MLPRegressor, "_loss_grad_lbfgs", fail)
    with pytest.raises(error):
        one.fit(X, Z)
    if error is MemoryError:
        assert state(one) == before
    else:
        packed = np.concatenate([a.ravel() for a in (*one.coefs_, *one.intercepts_)])
        assert packed.tobytes() == calls[1].tobytes()
        assert one._current() is not None
    assert one.predict(X).shape == (20,)


def test_a_fit_that_is_refused_leaves_the_estimator_fitted() -> None:
    one = make().fit(X, Y)
    before, expected = state(one), one.predict(X)
    with pytest.raises(ValueError, match="^The test_size = 1"):
        one.set_params(early_stopping=True, validation_fraction=0.01).fit(X[:, :2], Y % 2)
    assert state(one) == before
    assert np.array_equal(one.predict(X), expected)


# --- Callbacks ------------------------------------------------------------------------------------


def test_callbacks_cannot_change_parameters_that_training_would_not_use() -> None:
    def write(estimator: Any, record: pynn.Record) -> None:
        with pytest.raises(ValueError, match="read-only"):
            estimator.coefs_[0][...] = 0
        with pytest.raises(ValueError, match="^parameters: found an estimator in training"):
            estimator.parameters = 0

    def assign(estimator: Any, record: pynn.Record) -> None:
        estimator.coefs_ = [w.copy() for w in estimator.coefs_]

    one = make(callbacks=write).fit(X, Y)
    one.coefs_[0][...] = 0
    with pytest.raises(ValueError, match="^callbacks: found other coefs_"):
        one.set_params(callbacks=assign).fit(X, Y)


def test_a_copy_made_in_a_callback_holds_no_validation_rows() -> None:
    copies: list[Any] = []

    def keep(estimator: Any, record: pynn.Record) -> None:
        copies.append(copy.copy(estimator))

    make(callbacks=keep).fit(X, Y, validation_data=(X[:5], Y[:5]))
    for epoch, one in enumerate(copies, 1):
        assert "_validation" not in vars(one)
        assert one._epochs == len(one.history_) == len(one.loss_curve_) == epoch
        one.set_params(callbacks=None).partial_fit(X, Y)
        assert one.history_[-1].validation_loss is None


# --- Restored estimators --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_training_does_not_change_the_file_of_a_restored_estimator(
    tmp_path: Any, mode: str
) -> None:
    one = make().fit(X, Y)
    path = tmp_path / "one.joblib"
    joblib.dump(one, path)
    saved = path.read_bytes()
    found = joblib.load(path, mmap_mode=mode)
    assert vectors(found.partial_fit(X, Y)) == vectors(one.partial_fit(X, Y))
    del found
    assert path.read_bytes() == saved


def test_estimators_restored_from_one_buffer_share_nothing() -> None:
    one = make().fit(X, Y)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(one, protocol=5, buffer_callback=buffers.append)
    shared = [memoryview(bytearray(b"\0" + bytes(b.raw())))[1:] for b in buffers]  # unaligned
    first, second = (pickle.loads(data, buffers=shared) for _ in range(2))
    before = state(second)
    first.partial_fit(X, Y)
    assert state(second) == before
    assert vectors(first) == vectors(one.partial_fit(X, Y))
    shallow = copy.copy(second)
    shallow.partial_fit(X, Y)
    assert state(second) == before
