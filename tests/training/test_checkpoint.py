"""Checkpoints: a run that was cut off ends in the bits of one that was left alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import files
from pynn.arrays.fingerprint import SAMPLED_ROWS, WHOLE, fingerprint
from pynn.backends import choose
from pynn.files import disk as files_disk
from pynn.files import tensors as files_tensors
from pynn.spec.optimizers import OPTIMIZERS
from pynn.training import loop as training_loop
from pynn.training import progress
from tests.training import kill

Data = tuple[np.ndarray, np.ndarray]

BACKENDS = [name for name, reason in choose.available().items() if not reason]
posix = pytest.mark.skipif(os.name != "posix", reason="as POSIX systems have it")


class Cut(Exception):
    """What cuts a run off in these tests; tests/training/kill.py does it by force."""


def cut(after: int) -> pynn.Every:
    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if net.updates == after:
            raise Cut

    return pynn.Every(1, stop)


def make(**more: Any) -> pynn.Network:
    return pynn.Network([4, 8, 3], **{"backend": "numpy", "dropout": 0.2, "seed": 3} | more)


def fit(net: pynn.Network, data: Data, **more: Any) -> pynn.History:
    # 150 rows: 4 batches of 40, the last one of 30.
    settings = {"epochs": 4, "batch_size": 40, "progress": False}
    return net.fit(*data, **settings | more)


def figures(history: pynn.History) -> dict[str, list[Any]]:
    timed = "seconds", "samples_per_second"
    return {k: v for k, v in history.to_dict().items() if k not in timed}


def assert_same(found: pynn.Network, expected: pynn.Network) -> None:
    assert found.parameters.tobytes() == expected.parameters.tobytes()
    assert [s.tobytes() for s in found._state] == [s.tobytes() for s in expected._state]
    assert (found.epochs, found.updates) == (expected.epochs, expected.updates)
    assert repr(figures(found.history)) == repr(figures(expected.history))


def broken_off(path: Path, data: Data, after: int, steps: int = 1, **more: Any) -> None:
    """Leave the checkpoint of a run that was cut off after so many updates."""
    network = more.pop("network", {})
    calls = [*more.pop("callbacks", []), cut(after)]
    kept = pynn.Checkpoint(path, steps=steps)
    with pytest.raises(Cut):
        fit(make(**network), data, checkpoint=kept, callbacks=calls, **more)


def document(path: Path) -> dict[str, Any]:
    return files_tensors.load(path)[1]["checkpoint"]


def change(path: Path, edit: Any) -> None:
    """Write a checkpoint anew with its JSON, or its tensors, edited."""
    tensors, metadata = files_tensors.load(path)
    edit(metadata, tensors)
    files_tensors.save(path, tensors, metadata)


# --- The same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("after", [2, 4, 5, 10, 15])
def test_ends_in_the_bits_of_an_unbroken_run(
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
def test_every_optimizer(tmp_path: Path, blobs: Data, optimizer: str, dtype: str) -> None:
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
def test_settings(tmp_path: Path, blobs: Data, settings: dict[str, Any]) -> None:
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


def test_a_later_call_of_fit(tmp_path: Path, blobs: Data) -> None:
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


def test_goes_on_in_the_same_process(tmp_path: Path, blobs: Data) -> None:
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
def test_ctrl_c_in_the_validation_writes_one_too(
    tmp_path: Path, blobs: Data, backend: str, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings() -> dict[str, Any]:
        stopping = pynn.EarlyStopping("validation_loss", patience=1)
        return {"validation": 0.2, "callbacks": [stopping], "epochs": 6, "batch_size": 50}

    whole, resumed = (make(backend=backend) for _ in range(2))
    fit(whole, blobs, **settings())
    path = tmp_path / "c"
    with monkeypatch.context() as patched:
        new = training_loop.Loop.new_trainer
        patched.setattr(
            training_loop.Loop, "new_trainer", lambda loop: _Interrupted(new(loop), epoch)
        )
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
        new = training_loop.Loop.new_trainer
        patched.setattr(training_loop.Loop, "new_trainer", lambda loop: _Interrupted(new(loop), 2))
        with pytest.raises(KeyboardInterrupt):
            fit(resumed, blobs, checkpoint=kept, **settings())
    assert document(path)["stopped"] is True
    resumed, ends[:] = make(), []
    fit(resumed, blobs, checkpoint=kept, resume=True, **settings())
    assert_same(resumed, whole)
    assert ends == [2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_before_the_first_step_counts_none_again(
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
        new = training_loop.Loop.new_trainer
        patched.setattr(training_loop.Loop, "new_trainer", lambda loop: Early(new(loop), 4))
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
def test_ctrl_c_while_progress_is_shown_writes_one_too(
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


# --- When it is written ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "moments"),
    [
        ({"steps": 3}, [(0, 3), (1, 6), (2, 9), (3, 12), (3, 15), (4, 16)]),
        ({"steps": 4}, [(1, 4), (2, 8), (3, 12), (4, 16)]),
        ({"epochs": 2}, [(2, 8), (4, 16)]),
        ({"epochs": 9}, [(4, 16)]),
        ({"seconds": 1e-9}, [(e, u) for u in range(1, 17) for e in [u // 4]]),
        ({"seconds": 1e9}, [(4, 16)]),
    ],
)
def test_moments(
    tmp_path: Path,
    blobs: Data,
    monkeypatch: pytest.MonkeyPatch,
    every: dict[str, Any],
    moments: list[tuple[int, int]],
) -> None:
    found = []
    save = files_tensors.save

    def spy(path: Any, tensors: Any, metadata: Any) -> None:
        found.append((metadata["epochs"], metadata["updates"]))
        save(path, tensors, metadata)

    monkeypatch.setattr(files_tensors, "save", spy)
    kept = pynn.Checkpoint(tmp_path / "a", **every)
    # A function for progress: slices of 1, 2, 4 … steps, as those of seconds.
    fit(make(), blobs, checkpoint=kept)
    if "seconds" in every:
        # Slices of 1, 2 and 1 steps in the first epoch, and longer ones later.
        assert found[-1] == (4, 16)
        assert set(found) <= set(moments)
        assert len(found) == len(set(found)) >= min(4, len(moments))
    else:
        assert found == moments


def test_where_there_is_none_it_starts_afresh(tmp_path: Path, blobs: Data) -> None:
    whole, net = make(), make()
    fit(whole, blobs)
    fit(net, blobs, checkpoint=pynn.Checkpoint(tmp_path / "a", epochs=1), resume=True)
    assert_same(net, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_run_that_had_ended_trains_nothing(tmp_path: Path, blobs: Data) -> None:
    kept = pynn.Checkpoint(tmp_path / "a", steps=5)
    whole, again = make(), make()
    history = fit(whole, blobs, checkpoint=kept, resume=True)
    written = (tmp_path / "a").stat().st_mtime_ns, (tmp_path / "a").read_bytes()

    def never(net: pynn.Network, record: pynn.Record) -> None:
        raise AssertionError

    assert fit(again, blobs, checkpoint=kept, resume=True, callbacks=never) == history
    assert_same(again, whole)
    assert ((tmp_path / "a").stat().st_mtime_ns, (tmp_path / "a").read_bytes()) == written


def test_no_epochs(tmp_path: Path, blobs: Data) -> None:
    kept = pynn.Checkpoint(tmp_path / "a", steps=5)
    for _ in range(2):
        net = make()
        assert len(fit(net, blobs, epochs=0, checkpoint=kept, resume=True)) == 0
        assert (net.parameters == make().parameters).all()
    assert document(tmp_path / "a")["ended"] is True


@pytest.mark.parametrize("schedule", [None, "exponential", lambda t: 0.9**t, pynn.WarmUp(3)])
@pytest.mark.parametrize("after", [7, None])
def test_more_epochs(tmp_path: Path, blobs: Data, schedule: Any, after: int | None) -> None:
    """Both of a run that was cut off and of one that had come to its end."""
    kept, stopping = pynn.Checkpoint(tmp_path / "a", steps=1), lambda: pynn.EarlyStopping("loss")
    whole, net = make(), make()
    fit(whole, blobs, epochs=6, schedule=schedule, callbacks=stopping())
    with contextlib.suppress(Cut):
        calls = [stopping(), cut(after)] if after else stopping()
        fit(make(), blobs, schedule=schedule, checkpoint=kept, callbacks=calls)
    more = {"epochs": 6, "schedule": schedule, "callbacks": stopping()}
    history = fit(net, blobs, checkpoint=kept, resume=True, **more)
    assert_same(net, whole)
    assert history.epoch == [1, 2, 3, 4, 5, 6]


def test_other_epochs_where_they_cannot_be(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    kept = pynn.Checkpoint(path, steps=1)
    broken_off(path, blobs, 9, schedule="cosine")
    with pytest.raises(
        ValueError, match=r"epochs: found 5, but the run in .*a has 4, and its sche"
    ):
        fit(make(), blobs, epochs=5, schedule="cosine", checkpoint=kept, resume=True)
    path.unlink()
    broken_off(path, blobs, 10)
    with pytest.raises(ValueError, match=r"epochs: found 2, but the run in .*a is in epoch 3 alr"):
        fit(make(), blobs, epochs=2, checkpoint=kept, resume=True)
    net = make()
    fit(net, blobs, epochs=3, checkpoint=kept, resume=True)
    assert net.epochs == 3


# --- Callbacks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [5, 9, 14, None])
def test_early_stopping_and_norms_come_back(tmp_path: Path, blobs: Data, after: int | None) -> None:
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


def test_a_state_of_ones_own(tmp_path: Path, blobs: Data) -> None:
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


def test_a_state_that_cannot_be_kept(tmp_path: Path, blobs: Data) -> None:
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


# --- Other data, other settings -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"seed": 4}, r"seed: found 4, but the run in .*a has 3; expected the same"),
        ({"dropout": 0.1}, r"dropout: found \[0\.1\], but .* has \[0\.2\]"),
        ({"activation": "tanh"}, r"activation: found \['tanh', 'softmax'\], but .*'relu'"),
        ({"dtype": "float64"}, "dtype: found float64, but .* has float32"),
        ({"loss": "mse"}, "loss: found mse|activation: found"),
        ({"init": "zeros"}, "parameters: found others than those that the run in .*a began with"),
        ({"sizes": [4, 7, 3]}, r"sizes: found \[4, 7, 3\], but .* has \[4, 8, 3\]"),
        ({"backend": "cython"}, "backend: found cython, but .* has numpy"),
    ],
    ids=str,
)
def test_another_network(
    tmp_path: Path, blobs: Data, network: dict[str, Any], message: str
) -> None:
    if network.get("backend", "numpy") not in BACKENDS:
        pytest.skip("the compiled core is not there")
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    written = path.read_bytes()
    settings = {"backend": "numpy", "dropout": 0.2, "seed": 3} | network
    net = pynn.Network(settings.pop("sizes", [4, 8, 3]), **settings)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        fit(net, blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
    assert (net.parameters == before).all()
    assert (net.updates, len(net.history), path.read_bytes()) == (0, 0, written)
    assert net.parameters.flags.writeable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 41}, r"batch_size: found 41, but the run in .*a has 40; expected the same"),
        ({"optimizer": "sgd"}, r"optimizer: found SGD\(\), but .* has Adam\(beta1=0\.9, "),
        ({"optimizer": pynn.Adam(beta2=0.9)}, r"optimizer: found Adam\(.*beta2=0\.9,.*0\.999"),
        ({"learning_rate": 0.1}, r"learning_rate: found 0\.1, but .* has 0\.001"),
        ({"l2": 0.1}, r"l2: found 0\.1, but .* has 0\.0"),
        ({"label_smoothing": 0.1}, r"label_smoothing: found 0\.1, but .* has 0\.0"),
        ({"schedule": "step"}, r"schedule: found StepDecay\(.*\), but .* has Constant\(\)"),
        pytest.param(
            {"schedule": lambda t: 1.0},
            r"schedule: found a function, but .* has Constant\(\)",
            id="schedule-function",
        ),
        ({"validation": 0.1}, r"validation: found 0\.1, but .* has None"),
        ({"shuffle": False}, "shuffle: found False, but .* has True"),
    ],
    ids=str,
)
def test_other_settings(
    tmp_path: Path, blobs: Data, settings: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    with pytest.raises(ValueError, match=message):
        fit(make(), blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True, **settings)


def test_a_checkpoint_from_before_label_smoothing(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    change(path, lambda about, _: about["checkpoint"]["settings"].pop("label_smoothing"))
    whole, resumed = make(), make()
    fit(whole, blobs)
    fit(resumed, blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
    assert_same(resumed, whole)


def test_another_function(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6, schedule=lambda t: 1.0 if t < 2 else 0.1)
    kept = pynn.Checkpoint(path, steps=1)
    with pytest.raises(
        ValueError, match=r"schedule: found 1\.0 at epoch 2, but .* has 0\.1 at epo"
    ):
        fit(make(), blobs, schedule=lambda t: 1.0, checkpoint=kept, resume=True)


def other_rows(x: np.ndarray, y: np.ndarray) -> Data:
    x = x.copy()
    x[77, 2] = np.nextafter(x[77, 2], 9)
    return x, y


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (other_rows, r"x: found numbers of SHA-256 \w{12}…, but the run in .*a has numbers of SHA"),
        (
            lambda x, y: (x[:149], y[:149]),
            r"x: found float32 \(149, 4\), but .* float32 \(150, 4\)",
        ),
        (lambda x, y: (x.astype("f8"), y), r"x: found float64 \(150, 4\), but .* has float32"),
        (lambda x, y: (x, y[::-1]), "y: found numbers of SHA-256"),
        (lambda x, y: (x, y + 1), r"classes: found \[1, 2, 3\], but .* has \[0, 1, 2\]"),
    ],
)
def test_other_data(tmp_path: Path, blobs: Data, edit: Any, message: str) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6, batch_size=30)
    with pytest.raises(ValueError, match=message):
        kept = pynn.Checkpoint(path, steps=1)
        fit(make(), edit(*blobs), batch_size=30, checkpoint=kept, resume=True)


def test_other_validation_rows(tmp_path: Path, blobs: Data) -> None:
    x, y = blobs
    path = tmp_path / "a"
    broken_off(path, blobs, 6, validation=(x[:9], y[:9]))
    kept = pynn.Checkpoint(path, steps=1)
    for validation, message in [
        ((x[1:10], y[:9]), r"validation\[0\]: found numbers"),
        ((x[:9], y[1:10]), r"validation\[1\]: found numbers"),
        (0.1, "validation: found 0.1, but .* has rows of their own"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(make(), blobs, checkpoint=kept, validation=validation, resume=True)
    net = make()
    fit(net, blobs, checkpoint=kept, validation=(x[:9].copy(order="F"), y[:9]), resume=True)
    assert net.epochs == 4


def test_another_machine_is_told(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    change(path, lambda about, _: about["checkpoint"]["machine"].update(numpy="1.0"))
    with pytest.warns(RuntimeWarning, match=r"trained with numpy 1\.0, pynn .* last bits") as told:
        fit(make(), blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
    assert [w.filename for w in told] == [__file__]


def test_another_instruction_set_is_told(tmp_path: Path, blobs: Data) -> None:
    core = pytest.importorskip("pynn.backends.cython._core")
    first, *others = core.info()["isas"]
    before = core.use_isa(first)
    try:
        path = tmp_path / "a"
        broken_off(path, blobs, 6, network={"backend": "cython"})
        kept = pynn.Checkpoint(path, steps=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit(make(backend="cython"), blobs, epochs=3, checkpoint=kept, resume=True)
        for isa in others[:1]:
            core.use_isa(isa)
            with pytest.warns(RuntimeWarning, match=f"trained with isa {first}, .* with isa {isa}"):
                fit(make(backend="cython"), blobs, epochs=4, checkpoint=kept, resume=True)
    finally:
        core.use_isa(before)


def test_amx_is_another_instruction_set_in_bf16_alone(tmp_path: Path, blobs: Data) -> None:
    core = pytest.importorskip("pynn.backends.cython._core")
    if "amx" not in core.info()["isas"]:
        pytest.skip("needs AMX")
    for precision in ("full", "bf16"):
        network = {"backend": "cython", "precision": precision}
        kept = pynn.Checkpoint(tmp_path / precision, steps=1)
        before = core.use_isa("avx512")
        try:
            broken_off(tmp_path / precision, blobs, 6, network=network)
            core.use_isa("amx")
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                fit(make(**network), blobs, epochs=3, checkpoint=kept, resume=True)
        finally:
            core.use_isa(before)
        assert [str(w.message) for w in told if "isa avx512" in str(w.message)] == (
            [] if precision == "full" else [str(told[0].message)]
        )


def test_fingerprint_covers_every_byte_and_no_layout() -> None:
    a = np.arange(3000, dtype=np.float32).reshape(500, 6)
    same = fingerprint(a)
    assert fingerprint(np.asfortranarray(a)) == fingerprint(a[::-1].copy()[::-1]) == same
    for row in range(0, 500, 7):
        b = a.copy()
        b[row, row % 6] += 1
        assert fingerprint(b) != same
    assert fingerprint(a.view(np.int32)) != same
    assert fingerprint(a.reshape(6, 500)) != same


@posix
def test_fingerprint_of_a_large_file_reads_some_of_it(tmp_path: Path) -> None:
    # A file with holes: 4 GB, of which nothing is on the disk.
    rows, width = 5_000_000, 784
    with open(tmp_path / "x", "wb") as file:
        file.truncate(rows * width)
    x = np.memmap(tmp_path / "x", np.uint8, "r", shape=(rows, width))
    assert x.nbytes > 50 * WHOLE
    before = fingerprint(x)
    for row in 0, rows - 1:
        with open(tmp_path / "x", "r+b") as file:
            file.seek(row * width)
            file.write(b"1")
        after = fingerprint(np.memmap(tmp_path / "x", np.uint8, "r", shape=(rows, width)))
        assert after != before
        before = after


def test_fingerprint_of_a_large_array_takes_rows_of_all_of_it() -> None:
    x = np.zeros((WHOLE // 100, 200), np.uint8)
    before = fingerprint(x)
    step = len(x) // SAMPLED_ROWS + 1
    for start in range(0, len(x) - step, len(x) // 5):
        x[start : start + step] += 1
        after = fingerprint(x)
        assert after != before
        before = after


# --- Nothing lost ---------------------------------------------------------------------------------


def test_a_run_that_has_not_ended_is_not_lost(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    kept = pynn.Checkpoint(path, steps=1)
    broken_off(path, blobs, 6)
    written = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint: found a run that has not ended in .*a, whi"):
        fit(make(), blobs, checkpoint=kept)
    assert path.read_bytes() == written
    fit(make(), blobs, checkpoint=kept, resume=True)
    # One that has ended may be followed by another.
    fit(make(), blobs, checkpoint=kept, learning_rate=0.1)
    assert document(path)["settings"]["learning_rate"] == 0.1


def test_a_model_is_not_taken_for_a_checkpoint(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "model.safetensors"
    net = make()
    net.save(path)
    written = path.read_bytes()
    kept = pynn.Checkpoint(path, epochs=1)
    for resume in False, True:
        with pytest.raises(ValueError, match="checkpoint: found a model in"):
            fit(net, blobs, checkpoint=kept, resume=resume)
    assert path.read_bytes() == written


@pytest.mark.parametrize("resume", [False, True])
def test_each_call_needs_a_file_of_its_own(tmp_path: Path, blobs: Data, resume: bool) -> None:
    net, kept = make(), pynn.Checkpoint(tmp_path / "a", epochs=1)
    fit(net, blobs, checkpoint=kept, resume=True)
    if resume:
        with pytest.raises(ValueError, match="found a network after 16 updates, but .* after 0"):
            fit(net, blobs, checkpoint=kept, resume=True)
        return
    fit(net, blobs, checkpoint=kept)
    assert net.epochs == 8
    with pytest.raises(ValueError, match="found a network after 0 updates, but .* after 16"):
        fit(make(), blobs, checkpoint=kept, resume=True)


def test_a_checkpoint_is_a_model(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    x, y = blobs
    calls = [pynn.Norms(x, y), pynn.EarlyStopping("loss")]
    broken_off(path, blobs, 6, callbacks=calls)
    net, same = pynn.load(path, backend="numpy"), make()
    with pytest.raises(Cut):
        fit(same, blobs, callbacks=cut(5))
    assert_same(net, same)
    assert net.updates == 5


# --- Disks that fail ------------------------------------------------------------------------------


class Full:
    """A disk that takes some bytes and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self.attempts = room, 0
        monkeypatch.setattr(files, "open", self.open, raising=False)

    def open(self, path: Any, mode: str) -> Any:
        self.attempts += 1
        file = open(path, mode)  # noqa: SIM115
        write = file.write

        class Limited:
            fileno, flush = file.fileno, file.flush

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(_, data: bytes) -> int:
                write(data[: self.room])
                if len(data) > self.room:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return len(data)

        return Limited()


def test_disk_full(tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, net = make(), make()
    fit(whole, blobs)
    path = tmp_path / "a"
    disk = Full(monkeypatch, 100)
    kept = pynn.Checkpoint(path, steps=2)
    with pytest.warns(RuntimeWarning) as told:
        fit(net, blobs, checkpoint=kept)
    assert_same(net, whole)
    (warning,) = told
    assert "could not write" in str(warning.message)
    assert str(path) in str(warning.message)
    assert os.strerror(errno.ENOSPC) in str(warning.message)
    assert warning.filename == __file__
    assert disk.attempts == 8
    assert list(tmp_path.iterdir()) == []


def test_disk_full_for_a_while(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands there stays whole, and the next one is written when there is room again."""
    path = tmp_path / "a"
    broken_off(path, blobs, 4)
    written = path.read_bytes()
    disk = Full(monkeypatch, 100)

    def look(net: pynn.Network, record: pynn.Record) -> None:
        if net.updates < 10:
            assert path.read_bytes() == written
            assert [p.name for p in tmp_path.iterdir()] == ["a"]
        else:
            disk.room = 10**9

    kept, net, whole = pynn.Checkpoint(path, steps=1), make(), make()
    with pytest.warns(RuntimeWarning, match="could not write") as told:
        fit(net, blobs, checkpoint=kept, callbacks=pynn.Every(1, look), resume=True)
    assert len(told) == 1
    assert document(path)["ended"] is True
    fit(whole, blobs)
    assert_same(net, whole)


@contextlib.contextmanager
def no_superuser() -> Iterator[None]:
    """The superuser may write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@posix
def test_read_only_folder(blobs: Data) -> None:
    # Not in tmp_path, into which nobody but its owner may look.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    kept, net = pynn.Checkpoint(folder / "a", steps=2), make()
    denied = pytest.warns(RuntimeWarning, match="could not write .*: Permission denied")
    try:
        with denied as told, no_superuser():
            fit(net, blobs, checkpoint=kept)
        assert len(told) == 1
        assert net.epochs == 4
        assert list(folder.iterdir()) == []
    finally:
        folder.rmdir()


@posix
def test_a_small_disk(tmp_path: Path, blobs: Data) -> None:
    """A file system of 16 kB, where it can be had."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "pynn-test", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this user may not mount a file system")
    try:
        path = tmp_path / "a"
        broken_off(path, blobs, 3)
        kept = document(path)["place"]
        with contextlib.suppress(OSError), open(tmp_path / "filler", "wb", 0) as file:
            while file.write(b"1" * 1024):
                pass
        net = make()
        with pytest.warns(RuntimeWarning, match="could not write") as told:
            fit(net, blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
        assert len(told) == 1
        assert net.epochs == 4
        assert document(path)["place"] == kept
        assert {p.name for p in tmp_path.iterdir()} == {"a", "filler"}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@posix
def test_something_else_comes_to_stand_there(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"

    def obstruct(net: pynn.Network, record: pynn.Record) -> None:
        path.mkdir()

    kept = pynn.Checkpoint(path, steps=10)
    with pytest.warns(RuntimeWarning, match="could not write .*found a folder"):
        fit(make(), blobs, checkpoint=kept, callbacks=pynn.Every(9, obstruct))


def test_what_killed_writers_left_is_removed(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "run.ckpt"
    with contextlib.suppress(Cut), files_disk.atomic_write(path) as file:
        (leftover,) = tmp_path.iterdir()
        file.write(b"half")
        copy = leftover.with_name(leftover.name[:15] + "0" * 16 + ".tmp")
        copy.write_bytes(b"half")
        raise Cut
    other = tmp_path / ".pynn-other.tmp"
    other.write_bytes(b"not ours")
    assert copy.exists()
    fit(make(), blobs, checkpoint=pynn.Checkpoint(path, epochs=1))
    assert {p.name for p in tmp_path.iterdir()} == {"run.ckpt", ".pynn-other.tmp"}


# --- Files that are damaged or hostile ------------------------------------------------------------


def test_a_checkpoint_cut_off_anywhere_is_refused(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    content = path.read_bytes()
    net, kept = make(), pynn.Checkpoint(path, steps=1)
    for length in [0, 5, 8, 100, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        for resume in True, False:
            with pytest.raises(ValueError, match=str(path)):
                fit(net, blobs, checkpoint=kept, resume=resume)
        assert path.read_bytes() == content[:length]
    assert (net.parameters == make().parameters).all()


@pytest.mark.parametrize(
    "edit",
    [
        lambda about, tensors: about.update(checkpoint=7),
        lambda about, tensors: about["checkpoint"].clear(),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("place", "began")),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("settings", "data")),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("epochs", "machine")),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("ended", "schedule")),
        lambda about, tensors: about["checkpoint"]["place"].update(first=5),
        lambda about, tensors: about["checkpoint"]["place"].update(first=-1),
        lambda about, tensors: about["checkpoint"]["place"].update(loss="a lot"),
        lambda about, tensors: about["checkpoint"]["began"].update(epochs=10**30),
        lambda about, tensors: about["checkpoint"]["began"].update(history=9),
        lambda about, tensors: about["checkpoint"]["began"].update(updates=None),
        lambda about, tensors: about["checkpoint"].update(data=[]),
        lambda about, tensors: about["checkpoint"].update(data={"x": 1, "y": 2}),
        lambda about, tensors: about["checkpoint"].update(callbacks=[{"name": "a", "state": "{"}]),
        lambda about, tensors: about["checkpoint"].update(callbacks=3),
        lambda about, tensors: about["checkpoint"].update(machine=3),
        lambda about, tensors: about["checkpoint"].update(epochs="four"),
        lambda about, tensors: tensors.pop("weights.1"),
        lambda about, tensors: tensors.pop("optimizer.0"),
        lambda about, tensors: tensors.update({"weights.0": np.zeros((9, 9), "f4")}),
        lambda about, tensors: tensors.update({"callbacks.5.a": np.zeros(3)}),
        lambda about, tensors: about.update(optimizer=None),
    ],
)
def test_a_hostile_checkpoint_is_one_clear_error(tmp_path: Path, blobs: Data, edit: Any) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    change(path, edit)
    net, kept = make(), pynn.Checkpoint(path, steps=1)
    with pytest.raises(ValueError, match=str(path)):
        fit(net, blobs, checkpoint=kept, resume=True)
    assert (net.parameters == make().parameters).all()
    assert net.updates == 0


class Trap:
    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


def test_loading_runs_no_code(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps(Trap()))
    kept = pynn.Checkpoint(path, steps=1)
    for use in (
        lambda: pynn.load(path),
        lambda: fit(make(), blobs, checkpoint=kept, resume=True),
        lambda: fit(make(), blobs, checkpoint=kept),
    ):
        with pytest.raises(ValueError, match=str(path)):
            use()
    assert not Trap.sprung
    # It does spring for those who do run code.
    pickle.loads(path.read_bytes())
    assert Trap.sprung


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "Checkpoint: found neither, expected one of steps, epochs and seconds"),
        ({"steps": 1, "epochs": 1}, ValueError, "Checkpoint: found steps and epochs, expected one"),
        ({"steps": 0}, ValueError, "steps: found 0"),
        ({"epochs": 1.5}, ValueError, "epochs: found 1.5"),
        ({"seconds": 0}, ValueError, "seconds: found 0"),
        ({"path": None, "steps": 1}, TypeError, "path: found None"),
    ],
)
def test_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pynn.Checkpoint(**{"path": "a"} | arguments)


def test_arguments_of_fit(tmp_path: Path, blobs: Data) -> None:
    net = make()
    for more, error, message in [
        (
            {"checkpoint": "run.ckpt"},
            TypeError,
            "checkpoint: found 'run.ckpt', expected pynn.Check",
        ),
        ({"resume": True}, ValueError, "resume: found True and no checkpoint"),
        ({"resume": "yes"}, TypeError, "resume: found 'yes'"),
        (
            {"checkpoint": pynn.Checkpoint(tmp_path / "no" / "a", steps=1)},
            FileNotFoundError,
            "checkpoint: found no folder .*no, expected one to write a into",
        ),
        ({"checkpoint": pynn.Checkpoint(tmp_path, steps=1)}, ValueError, "found a folder, expect"),
    ]:
        with pytest.raises(error, match=message):
            fit(net, blobs, **more)
    assert net.updates == 0


def test_the_path_stays_where_it_was(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = pynn.Checkpoint("run.ckpt", seconds=60)
    assert repr(kept) == f"Checkpoint({str(tmp_path / 'run.ckpt')!r}, seconds=60.0)"
    (tmp_path / "there").mkdir()
    monkeypatch.chdir("there")
    fit(make(), blobs, checkpoint=kept)
    assert (tmp_path / "run.ckpt").exists()


# --- Killed ---------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX systems")
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """The same with 200 kills: python -m tests.kill."""
    found = kill.kill(10, 1, tmp_path, [0, 3])
    assert found.kills == 10
    assert found.runs >= 1
    assert found.loaded >= 1


# --- The command line -----------------------------------------------------------------------------


def csv(folder: Path, data: Data) -> Path:
    x, y = data
    path = folder / "rows.csv"
    path.write_text("\n".join(f"{b}," + ",".join(map(str, a)) for a, b in zip(x, y, strict=True)))
    return path


def test_a_run_of_the_command_line_goes_on(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from pynn.cli import app, train

    options = [
        *("train", "--data", str(csv(tmp_path, blobs)), "--backend", "numpy", "--hidden", "8"),
        *("--epochs", "4", "--batch-size", "40", "--no-pictures", "--plain"),
    ]

    def run(name: str, *more: str) -> Any:
        return CliRunner().invoke(app, [*options, "--run", str(tmp_path / name), *more])

    assert run("whole").exit_code == 0
    assert {p.name for p in (tmp_path / "whole").iterdir()} == {
        "model.safetensors",
        "history.json",
        "settings.json",
    }
    before = (tmp_path / "whole" / "model.safetensors").read_bytes()
    told = run("whole", "--resume")
    assert (told.exit_code, told.output.split()[-3:]) == (0, ["has", "ended", "already"])
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == before
    (tmp_path / "whole" / "settings.json").unlink()
    told = run("whole", "--resume")
    assert told.exit_code == 1
    assert "already and no checkpoint to resume from" in " ".join(told.output.split())

    printed = train._print_epoch

    def die(net: pynn.Network, record: pynn.Record) -> None:
        if record.epoch == 3:
            raise Cut

    monkeypatch.setattr(train, "_print_epoch", die)
    # Where there is nothing to go on from it starts afresh.
    assert isinstance(run("cut", "--checkpoint", "1e-9", "--resume").exception, Cut)
    monkeypatch.setattr(train, "_print_epoch", printed)
    told = run("cut")
    assert "--run: found a run in" in told.output
    assert "cut off, expected --resume" in " ".join(told.output.split())
    told = run("cut", "--resume", "--learning-rate", "0.1")
    assert "--learning-rate: found 0.1, but the run in" in " ".join(told.output.split())
    done = run("cut", "--resume")
    assert done.exit_code == 0, done.output
    assert "epoch 1 " not in done.output
    assert "epoch 4 " in done.output
    for name in "whole", "cut":
        assert not (tmp_path / name / "checkpoint.safetensors").exists()
    whole, again = (
        pynn.load(tmp_path / name / "model.safetensors", backend="numpy")
        for name in ("whole", "cut")
    )
    assert_same(again, whole)
    history = json.loads((tmp_path / "cut" / "history.json").read_text())
    assert history["epoch"] == [1, 2, 3, 4]

    for more, message in [
        (
            ["--resume", "--checkpoint", "0"],
            "--resume: found --checkpoint 0, expected --checkpoint SECONDS",
        ),
        (["--resume", "--fast"], "--resume: found a preset, which keeps no checkpoint"),
        (["--checkpoint", "-1"], "--checkpoint: found -1, expected seconds of 0 or more"),
    ]:
        assert message in " ".join(run("new", *more).output.split())
    told = CliRunner().invoke(app, [*options, "--resume"])
    assert "--resume: found no --run" in told.output
    assert not (tmp_path / "new").exists()
