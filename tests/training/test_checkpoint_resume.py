"""A run that was cut off and resumed ends with the results of a run that was not."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec.optimizers import OPTIMIZERS
from pynn.training import progress, stepper
from tests.training import kill
from tests.training.runs import (
    BACKENDS,
    Cut,
    Data,
    assert_same,
    broken_off,
    cut,
    document,
    figures,
    fit,
    make,
    posix,
)

# --- The same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("after", [2, 4, 5, 10, 15])
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    tmp_path: Path, blobs: Data, backend: str, after: int
) -> None:
    path = tmp_path / "run.ckpt"
    settings: dict[str, Any] = {"schedule": "one_cycle", "validation": 0.1, "l2": 1e-3}
    network = {"backend": backend}
    whole, resumed = make(**network), make(**network, threads=3)
    history = fit(whole, blobs, **settings)
    # Threads before and after differ.
    broken_off(path, blobs, after, network=network | {"threads": 1}, **settings)
    kept = pynn.Checkpoint(path, steps=1)
    again = fit(resumed, blobs, checkpoint=kept, resume=True, **settings)
    assert_same(resumed, whole)
    assert figures(again) == figures(history)
    x, _ = blobs
    assert resumed.predict_proba(x).tobytes() == whole.predict_proba(x).tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_resumed_run_ends_identically_with_every_optimizer(
    tmp_path: Path, blobs: Data, optimizer: str, dtype: str
) -> None:
    network = {"backend": "auto", "dtype": dtype}
    whole, resumed = make(**network), make(**network)
    fit(whole, blobs, optimizer=optimizer)
    broken_off(tmp_path / "a", blobs, 7, optimizer=optimizer, network=network)
    kept = pynn.Checkpoint(tmp_path / "a", epochs=1)
    fit(resumed, blobs, optimizer=optimizer, checkpoint=kept, resume=True)
    assert_same(resumed, whole)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": "full"},
        {"batch_size": 1, "epochs": 2},
        {"shuffle": False},
        {"label_smoothing": 0.2, "validation": 0.1},
        {"optimizer": pynn.Adam(beta2=0.9)},
        {"schedule": pynn.WarmUp(2, pynn.Cosine(0.1))},
        pytest.param({"schedule": lambda t: 1 / (1 + t)}, id="schedule-function"),
        pytest.param({"progress": lambda record: None}, id="progress-function"),
    ],
    ids=str,
)
def test_a_resumed_run_ends_identically_with_every_setting(
    tmp_path: Path, blobs: Data, settings: dict[str, Any]
) -> None:
    whole, resumed = make(), make()
    fit(whole, blobs, **settings)
    broken_off(tmp_path / "a", blobs, 3, steps=2, **settings)
    kept = pynn.Checkpoint(tmp_path / "a", steps=2)
    fit(resumed, blobs, checkpoint=kept, resume=True, **settings)
    assert_same(resumed, whole)


@pytest.mark.parametrize("loss", ["mse", "poisson"])
def test_regression(tmp_path: Path, blobs: Data, loss: str) -> None:
    """The number of right answers is NaN there."""
    x, y = blobs
    data = x, np.stack([y, y, 2 * y], 1).astype("f4")
    whole, resumed = make(loss=loss), make(loss=loss)
    fit(whole, data, learning_rate=0.01)
    broken_off(tmp_path / "a", data, 6, network={"loss": loss}, learning_rate=0.01)
    kept = pynn.Checkpoint(tmp_path / "a", steps=1)
    fit(resumed, data, checkpoint=kept, resume=True, learning_rate=0.01)
    assert whole.history.accuracy == [None] * 4
    assert_same(resumed, whole)


def test_labels_that_are_words(tmp_path: Path, blobs: Data) -> None:
    x, y = blobs
    data = x, np.array(["cat", "dog", "owl"])[y]
    broken_off(tmp_path / "a", data, 6)
    net = make()
    fit(net, data, checkpoint=pynn.Checkpoint(tmp_path / "a", steps=1), resume=True)
    assert set(net.predict(x)) == {"cat", "dog", "owl"}


def test_a_later_fit_continues_from_its_checkpoint(tmp_path: Path, blobs: Data) -> None:
    """The network comes with a history, and Adam with a state, from a call before."""
    whole, resumed = make(), make()
    for net in whole, resumed:
        fit(net, blobs, epochs=2)
    fit(whole, blobs, epochs=3, schedule="cosine")
    kept = pynn.Checkpoint(tmp_path / "a", steps=1)
    settings: dict[str, Any] = {"epochs": 3, "schedule": "cosine", "checkpoint": kept}
    with pytest.raises(Cut):
        fit(resumed, blobs, callbacks=cut(14), **settings)
    fresh = make()
    fit(fresh, blobs, epochs=2)
    history = fit(fresh, blobs, resume=True, **settings)
    assert_same(fresh, whole)
    assert history.epoch == [3, 4, 5]


def test_a_run_resumes_in_the_same_process(tmp_path: Path, blobs: Data) -> None:
    whole, net = make(), make()
    fit(whole, blobs)
    kept = pynn.Checkpoint(tmp_path / "a", steps=3)
    norms = pynn.Norms(*blobs, steps=1)
    with pytest.raises(Cut):
        fit(net, blobs, checkpoint=kept, callbacks=[norms, cut(8)])
    # Back to the checkpoint, and the record of norms with it.
    fit(net, blobs, checkpoint=kept, callbacks=norms, resume=True)
    assert_same(net, whole)
    assert norms.updates == list(range(17))


@posix
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_writes_a_checkpoint(tmp_path: Path, backend: str) -> None:
    """A real signal, in the middle of batches so large that they go through in chunks."""
    rng = np.random.default_rng(0)
    n = 30_000
    data = rng.normal(size=(n, 40)).astype("f4"), rng.integers(0, 3, n)
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 5000, "progress": False}

    def net() -> pynn.Network:
        hidden = 2000 if backend == "cython" else 300  # some of its slices of 50 ms
        return pynn.Network([40, hidden, 3], backend=backend, seed=1, threads=1)

    net().fit(data[0][:5000], data[1][:5000], **settings)  # compiles what has to be compiled
    stages = set()
    # Three signals, each aimed at the middle of an epoch by the time that one took. On a busy
    # machine they may all miss it: then more.
    for attempt in range(60):
        if attempt >= 3 and stages:
            break
        began = time.perf_counter()
        whole = net()
        whole.fit(*data, **settings)
        took = time.perf_counter() - began
        share = (0.3, 0.5, 0.7)[attempt % 3]
        path = tmp_path / f"{attempt}"
        kept = pynn.Checkpoint(path, epochs=1000)
        resumed, before = net(), signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, share * took)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                resumed.fit(*data, **settings, checkpoint=kept)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        if path.exists() and not document(path)["ended"]:
            stages.add(document(path)["place"]["first"])
            resumed = net()
        resumed.fit(*data, **settings, checkpoint=kept, resume=path.exists() and resumed.epochs < 1)
        if resumed.epochs == 1:
            assert_same(resumed, whole)
    assert stages
    assert stages <= set(range(7))


class _Interrupted:
    """A trainer whose evaluation of the epoch ``epoch`` is broken off."""

    def __init__(self, trainer: Any, epoch: int) -> None:
        self.__dict__.update(trainer=trainer, left=epoch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.trainer, name, value)

    def evaluate(self, *data: Any) -> Any:
        self.__dict__["left"] -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.trainer.evaluate(*data)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_ctrl_c_during_validation_writes_a_checkpoint(
    tmp_path: Path, blobs: Data, backend: str, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings() -> dict[str, Any]:
        stopping = pynn.EarlyStopping("validation_loss", patience=1)
        return {"validation": 0.2, "callbacks": [stopping], "epochs": 6, "batch_size": 50}

    whole, resumed = (make(backend=backend) for _ in range(2))
    fit(whole, blobs, **settings())
    path = tmp_path / "c"
    with monkeypatch.context() as patched:
        new = stepper.Stepper.new_trainer
        patched.setattr(stepper.Stepper, "new_trainer", lambda made: _Interrupted(new(made), epoch))
        with pytest.raises(KeyboardInterrupt):
            fit(resumed, blobs, checkpoint=pynn.Checkpoint(path, seconds=1000), **settings())
    assert resumed.epochs == epoch - 1
    assert document(path)["place"]["first"] == 3  # batches of 120 rows: the whole epoch
    resumed = make(backend=backend)
    kept = pynn.Checkpoint(path, seconds=1000)
    fit(resumed, blobs, checkpoint=kept, resume=True, **settings())
    assert_same(resumed, whole)


def test_stopped_by_the_last_step_and_broken_off_after_it(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch has yet to end, with its validation and its callbacks."""
    ends: list[int] = []

    class Ends(pynn.Callback):
        def on_epoch_end(self, net: pynn.Network, record: pynn.Record) -> None:
            ends.append(record.epoch)

    def settings() -> dict[str, Any]:
        last = pynn.Every(3, lambda net, record: net.updates == 6)
        return {"validation": 0.2, "callbacks": [last, Ends()], "batch_size": 50}

    whole, resumed, path = make(), make(), tmp_path / "c"
    fit(whole, blobs, **settings())
    assert ends == [1, 2]
    kept = pynn.Checkpoint(path, seconds=1000)
    with monkeypatch.context() as patched:
        new = stepper.Stepper.new_trainer
        patched.setattr(stepper.Stepper, "new_trainer", lambda made: _Interrupted(new(made), 2))
        with pytest.raises(KeyboardInterrupt):
            fit(resumed, blobs, checkpoint=kept, **settings())
    assert document(path)["stopped"] is True
    resumed, ends[:] = make(), []
    fit(resumed, blobs, checkpoint=kept, resume=True, **settings())
    assert_same(resumed, whole)
    assert ends == [2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_are_not_counted_twice_after_an_interrupt_before_the_first_step(
    tmp_path: Path, blobs: Data, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Early(_Interrupted):
        def steps(self, *arguments: Any) -> Any:
            self.__dict__["left"] -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return self.trainer.steps(*arguments)

    whole, resumed, path = make(backend=backend), make(backend=backend), tmp_path / "c"
    fit(whole, blobs)
    kept = pynn.Checkpoint(path, steps=2)  # slices of two batches
    with monkeypatch.context() as patched:
        new = stepper.Stepper.new_trainer
        patched.setattr(stepper.Stepper, "new_trainer", lambda made: Early(new(made), 4))
        with pytest.raises(KeyboardInterrupt):
            fit(resumed, blobs, checkpoint=kept)
    assert (resumed.epochs, resumed.updates) == (1, 6)
    assert document(path)["place"]["first"] == 2
    resumed = make(backend=backend)
    fit(resumed, blobs, checkpoint=kept, resume=True)
    assert_same(resumed, whole)


@pytest.mark.parametrize("steps", [None, 2])
def test_ctrl_c_in_a_callback_leaves_the_last_checkpoint(
    tmp_path: Path, blobs: Data, steps: int | None
) -> None:
    """What other callbacks have seen of that moment, and what not, nobody knows."""

    def press(net: pynn.Network, record: pynn.Record) -> None:
        if net.updates > 5:
            raise KeyboardInterrupt

    net, path = make(), tmp_path / "c"
    calls = [press if steps is None else pynn.Every(steps, press)]
    with pytest.raises(KeyboardInterrupt):
        fit(net, blobs, checkpoint=pynn.Checkpoint(path, seconds=1000), callbacks=calls)
    assert net.updates == (8 if steps is None else 6)
    assert not path.exists()


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_ctrl_c_during_progress_writes_a_checkpoint(
    tmp_path: Path, blobs: Data, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of an epoch, and in the middle of one: what is shown is shown every time."""
    monkeypatch.setattr(progress, "INTERVAL", 0)
    seen = []

    def press(record: pynn.Record) -> None:
        seen.append((record.epoch, record.step))
        if len(seen) == calls:
            raise KeyboardInterrupt

    whole, path = make(), tmp_path / "c"
    fit(whole, blobs)
    kept = pynn.Checkpoint(path, seconds=1000)
    with pytest.raises(KeyboardInterrupt):
        fit(make(), blobs, checkpoint=kept, progress=press)
    _epoch, step = seen[-1]
    assert document(path)["place"]["first"] == step
    resumed = make()
    fit(resumed, blobs, checkpoint=kept, resume=True)
    assert_same(resumed, whole)


# --- Callbacks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [5, 9, 14, None])
def test_the_state_of_early_stopping_and_norms_is_restored(
    tmp_path: Path, blobs: Data, after: int | None
) -> None:
    """The best epoch may lie before the cut, and the patience run out after it."""
    x, y = blobs
    settings: dict[str, Any] = {"epochs": 12, "learning_rate": 0.5, "validation": 0.2}

    def calls() -> tuple[pynn.EarlyStopping, pynn.Norms]:
        return pynn.EarlyStopping(patience=3), pynn.Norms(x[:9], y[:9], steps=2)

    (a, b), (c, d) = calls(), calls()
    whole, net = make(), make()
    history = fit(whole, blobs, callbacks=[a, b], **settings)
    assert a.stopped_epoch is not None
    assert a.best_epoch < a.stopped_epoch < 12
    assert after is None or after < whole.updates
    kept = pynn.Checkpoint(tmp_path / "a", steps=2)
    with contextlib.suppress(Cut):
        more = [*calls(), cut(after)] if after else [*calls()]
        fit(make(), blobs, callbacks=more, checkpoint=kept, **settings)
    again = fit(net, blobs, callbacks=[c, d], checkpoint=kept, resume=True, **settings)
    assert_same(net, whole)
    assert figures(again) == figures(history)
    names = "best", "best_epoch", "stopped_epoch"
    assert [getattr(c, n) for n in names] == [getattr(a, n) for n in names]
    assert (d.updates, d.weights, d.gradients, d.sizes) == (
        b.updates,
        b.weights,
        b.gradients,
        b.sizes,
    )


class Counting(pynn.Callback):
    steps = 1

    def __init__(self) -> None:
        self.began, self.seen, self.odd = 0, 0, np.zeros(0)

    def on_fit_begin(self, net: pynn.Network) -> None:
        self.began += 1

    def on_steps(self, net: pynn.Network, record: pynn.Record) -> None:
        self.seen += 1
        self.odd = np.append(self.odd, net.updates % 2)

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen, "odd": self.odd, "nan": float("nan")}

    def restore(self, state: Any) -> None:
        assert np.isnan(state["nan"])
        self.seen, self.odd = state["seen"], state["odd"]


def test_the_state_of_a_custom_callback_is_restored(tmp_path: Path, blobs: Data) -> None:
    path, mine, plain = tmp_path / "a", Counting(), pynn.Callback()
    broken_off(path, blobs, 6, callbacks=[Counting()])
    kept = pynn.Checkpoint(path, steps=1)
    fit(make(), blobs, callbacks=[plain, mine], checkpoint=kept, resume=True)
    assert (mine.began, mine.seen) == (0, 16)
    assert mine.odd.tolist() == [1.0, 0.0] * 8


def test_callbacks_that_differ(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6, callbacks=[pynn.EarlyStopping("loss")])
    kept = pynn.Checkpoint(path, steps=1)
    net = make()
    for calls, message in [
        ([], r"callbacks: found none with a state, but the run in .*a has EarlyStopping"),
        (pynn.EarlyStopping("loss", patience=9), r"patience=9.*expected EarlyStopping\(.*ience=5"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(net, blobs, callbacks=calls, checkpoint=kept, resume=True)
    assert (net.parameters == make().parameters).all()
    assert net.updates == 0


def test_a_callback_state_that_json_cannot_hold_is_refused(tmp_path: Path, blobs: Data) -> None:
    call = Counting()
    call.state = lambda: {"what": object()}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="callbacks: found a state of Counting that JSON cannot"):
        fit(make(), blobs, callbacks=call, checkpoint=pynn.Checkpoint(tmp_path / "a", steps=1))


@pytest.mark.parametrize("steps", [6, 4])
def test_a_run_that_a_callback_stopped(tmp_path: Path, blobs: Data, steps: int) -> None:
    """In the middle of an epoch and at its end: nothing is left to do, however many epochs."""
    kept = pynn.Checkpoint(tmp_path / "a", steps=5)
    whole = make()
    fit(whole, blobs, callbacks=pynn.Every(steps, lambda net, record: True), checkpoint=kept)
    for epochs in 4, 7:
        net = make()
        fit(net, blobs, epochs=epochs, checkpoint=kept, resume=True)
        assert_same(net, whole)


# --- Killed ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX systems")
def test_runs_killed_at_random_times_end_identically(tmp_path: Path) -> None:
    """The same with 200 kills: python -m tests.training.kill."""
    found = kill.kill(10, 1, tmp_path, [0, 3])
    assert found.kills == 10
    assert found.runs >= 1
    assert found.loaded >= 1
