"""The state of a network after ``fit`` failed in ways that users have met."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from tests.child import python

from .runs import BACKENDS, Data, assert_same, fit, make

LIMITED = """
    import resource, sys, numpy as np, pynn
    backend, limits = sys.argv[1], sys.argv[2].split(",")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 1000)).astype("f4"), np.arange(64) % 3
    if backend == "numba":  # compiles, which takes memory
        pynn.Network([4, 5, 3], backend=backend).fit(x[:, :4], y, epochs=1, progress=False)

    def new():
        return pynn.Network([1000, 1500, 3], threads=1, backend=backend)

    def train(net, optimizer="adam"):
        return net.fit(x, y, epochs=1, optimizer=optimizer, progress=False)

    def state(net):
        return [v.tobytes() for v in net._model.vectors], net._model.optimizer, net.updates

    def rebuilt():
        net = new()
        train(net, "rmsprop")
        return net

    twin = rebuilt()
    before = state(twin)
    train(twin, "momentum")
    after = state(twin)
    train(twin)

    net, failed, done = rebuilt(), 0, 0
    for limit in limits:
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (int(limit) << 20), -1))
        try:
            train(net, "momentum")
            done += 1
        except MemoryError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        assert net.parameters.flags.writeable
        found = state(net)
        if found != before:
            assert found == after
            net = rebuilt()
    train(net, "momentum")
    train(net)
    assert state(net) == state(twin)
    print(failed, done)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_limit(backend: str) -> None:
    """A real MemoryError at any allocation leaves the network unchanged.

    The vectors have 6 MB each; limits up to 64 MiB fail in different places.
    """
    limits = ",".join(map(str, (0, 1, 4, 7, 10, 13, 16, 20, 24, 32, 48, 64, 1024)))
    found = python(LIMITED, backend, limits, environment={"OPENBLAS_NUM_THREADS": "1"})
    assert found.returncode == 0, found.stderr
    failed, done = map(int, found.stdout.split())
    assert failed > 0
    assert done > 0


def interrupt(*anything: object) -> Any:
    raise KeyboardInterrupt


def test_interrupt_while_the_lock_is_taken(blobs: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    net, twin = make(), make()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(net, blobs)
    assert_same(net, twin)
    assert net.parameters.flags.writeable
    for each in (net, twin):
        fit(each, blobs)
    assert_same(net, twin)


@pytest.mark.parametrize("backend", BACKENDS)
def test_interrupt_while_optimizer_state_is_allocated(
    blobs: Data, monkeypatch: pytest.MonkeyPatch, backend: str, tmp_path: Path
) -> None:
    net, twin = make(backend=backend), make(backend=backend)
    for each in (net, twin):
        fit(each, blobs, optimizer="rmsprop")
    with monkeypatch.context() as patch:
        patch.setattr("pynn.training.model.aligned", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(net, blobs, optimizer="momentum")
    assert_same(net, twin)
    net.save(tmp_path / "net")
    assert_same(pynn.load(tmp_path / "net", backend=backend), twin)
    for each in (net, twin):
        fit(each, blobs, optimizer="momentum")
    assert_same(net, twin)


def test_the_classes_are_those_before(blobs: Data) -> None:
    """Labels of a call that trained nothing do not stay."""

    class Refusing(pynn.callbacks.Callback):
        def on_fit_begin(self, net: Any) -> None:
            assert net.classes.tolist() == ["a", "b", "c"]
            raise ZeroDivisionError

    net, x = make(), blobs[0]
    with pytest.raises(ZeroDivisionError):
        fit(net, (x, np.array(["a", "b", "c"])[blobs[1]]), callbacks=Refusing())
    fit(net, (x, np.array(["u", "v", "w"])[blobs[1]]))
    assert net.classes is not None
    assert net.classes.tolist() == ["u", "v", "w"]


@pytest.mark.parametrize("trained", [False, True])
def test_values_that_are_not_finite_change_nothing(blobs: Data, trained: bool) -> None:
    net = make()
    if trained:
        fit(net, blobs, optimizer="rmsprop")
    net.parameters[3] = np.nan
    before, settings = [v.tobytes() for v in net._model.vectors], net._model.settings()
    with pytest.raises(ValueError, match=r"fit: found NaN"):
        fit(net, blobs, optimizer="momentum")
    assert [v.tobytes() for v in net._model.vectors] == before
    assert net._model.settings() == settings


# --- Schedules ------------------------------------------------------------------------------------


def failing(after: float, wrong: Any) -> Any:
    def schedule(time: float) -> Any:
        if time < after:
            return 1.0
        return wrong() if callable(wrong) else wrong

    return schedule


@pytest.mark.parametrize("wrong", [-1.0, "text", lambda: 1 / 0])
def test_a_schedule_that_fails_at_once_changes_nothing(blobs: Data, wrong: Any) -> None:
    net, twin = make(), make()
    for each in (net, twin):
        fit(each, blobs, epochs=1)
    before = net._model.settings()
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        fit(net, blobs, optimizer="momentum", schedule=failing(1.2, wrong))
    assert_same(net, twin)
    assert net._model.settings() == before


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", [-1.0, "text", lambda: 1 / 0])
def test_a_schedule_that_fails_later_keeps_the_epochs_before(
    blobs: Data, backend: str, wrong: Any
) -> None:
    net, twin = make(backend=backend), make(backend=backend)
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        fit(net, blobs, schedule=failing(2.5, wrong))
    fit(twin, blobs, epochs=2)
    assert_same(net, twin)


def test_a_schedule_is_called_once_for_each_step(blobs: Data) -> None:
    times: list[float] = []
    fit(make(), blobs, epochs=2, schedule=lambda time: times.append(time) or 1.0)
    # The first call checks the function.
    assert [time for time in times if time] == [k / 4 for k in range(1, 8)]


# --- Checkpoints ----------------------------------------------------------------------------------


def test_an_interrupt_before_the_first_step_of_an_epoch(
    blobs: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of the interrupt does not count the steps of the epoch before again."""
    from pynn.training.stepper import Stepper

    uninterrupted, interrupted, resumed = make(), make(), make()
    fit(uninterrupted, blobs, epochs=2)
    arguments = {"epochs": 2, "checkpoint": pynn.Checkpoint(tmp_path / "run", epochs=1)}
    train = Stepper.train

    def begin(stepper: Stepper, *rest: Any) -> float:
        if stepper.model.epochs == 1:
            raise KeyboardInterrupt
        return train(stepper, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "train", begin)
        with pytest.raises(KeyboardInterrupt):
            fit(interrupted, blobs, **arguments)
    fit(resumed, blobs, resume=True, **arguments)
    assert_same(resumed, uninterrupted)


@pytest.mark.parametrize(
    "name, value",
    [("seed", -1), ("epochs", 1.5), ("epochs", 2**32), ("updates", -1), ("history", [])],
)
def test_no_attribute_can_be_set_that_a_file_cannot_hold(name: str, value: Any) -> None:
    """Before, ``save`` wrote a file that ``load`` refused."""
    net = pynn.Network([2, 2], backend="numpy")
    before = getattr(net, name)
    with pytest.raises((TypeError, ValueError), match=f"^{name}: found "):
        setattr(net, name, value)
    assert getattr(net, name) is before


def test_counters_are_read_only_during_training(blobs: Data) -> None:
    def change(net: pynn.Network, record: pynn.Record) -> None:
        for name in ("seed", "history", "epochs", "updates"):
            with pytest.raises(ValueError, match=f"^{name}: found a network in training"):
                setattr(net, name, getattr(net, name))

    net = make(backend="numpy")
    fit(net, blobs, epochs=1, callbacks=change)
    assert net.epochs == len(net.history) == 1


def test_fewer_updates_do_not_reset_the_optimizer(blobs: Data, tmp_path: Path) -> None:
    net, twin = make(backend="numpy"), make(backend="numpy")
    for one in (net, twin):
        fit(one, blobs, epochs=1, optimizer="sgd")
        fit(one, blobs, epochs=1, optimizer="adam")
    net.updates = 0
    net.save(tmp_path / "net")
    net = pynn.load(tmp_path / "net", backend="numpy")
    for one in (net, twin):
        fit(one, blobs, epochs=1, optimizer="adam")
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    assert net.updates == twin.updates // 3
