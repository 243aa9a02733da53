"""An exception anywhere in fit, predict, save or load leaves the state before or after it.

MemoryError and KeyboardInterrupt are raised at every event of pynn's Python code (see
``injector``), in loops of the first and the last iteration; a plain run takes a sample of them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn

from .injector import Injector
from .runs import BACKENDS, Data, figures

ERRORS = MemoryError, KeyboardInterrupt
SAMPLE, MOST = 15, 200
"""Events of a scenario at which a plain run raises, and a run of all tests."""


@pytest.fixture
def data(rng: np.random.Generator) -> Data:
    y = np.array(["a", "b", "c"])[np.arange(20) % 3]
    return rng.normal(size=(20, 4)).astype("f4"), y


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: checkpoints are written thousands of times."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def events(request: pytest.FixtureRequest) -> Callable[[list[int]], list[int]]:
    """Select the events to raise at.

    The sets of parameters that differ only in the exception, or in whether the network is trained,
    take turns: each event has its turn in one of them.
    """
    given = request.node.callspec.params
    turn, turns = ERRORS.index(given["error"]), len(ERRORS)
    if "trained" in given:
        turn, turns = turn + turns * given["trained"], 2 * turns

    def selected(numbers: list[int]) -> list[int]:
        step = max(turns, len(numbers) // MOST) if everything else max(1, len(numbers) // SAMPLE)
        return [*numbers[turn::step], numbers[-1] + 1]

    everything = request.config.getoption("--all")
    return selected


# --- State ----------------------------------------------------------------------------------------


def settings(net: pynn.Network) -> Any:
    """What ``fit`` sets before the first update, in a form that can be compared."""
    m = net._model
    classes = None if m.task is None or m.task.classes is None else m.task.classes.tolist()
    standard = m.input_standard
    means = None if standard is None else (standard.mean.tobytes(), standard.scale.tobytes())
    return m.optimizer, m.optimizer_began, classes, means


def vectors(net: pynn.Network) -> list[bytes]:
    return [vector.tobytes() for vector in net._model.vectors]


def state(net: pynn.Network) -> Any:
    history = repr(figures(net.history))
    return vectors(net), settings(net), net.epochs, net.updates, history


def check_usable(net: pynn.Network) -> None:
    for view in (net.parameters, *net.weights, *net.biases):
        assert view.flags.writeable
    assert np.isfinite(net._model.vectors).all()


class Trajectory:
    """The states that a call of ``fit`` passes through."""

    def __init__(self, net: pynn.Network, run: Callable[..., object]) -> None:
        self.before, self.vectors = state(net), {net.updates: vectors(net)}
        self.began, self.epochs = net.updates, net.epochs
        self.settings = settings(net)

        def record(net: pynn.Network, _: object) -> None:
            self.vectors[net.updates] = vectors(net)
            self.settings = settings(net)

        run(net, [pynn.Every(1, record)])
        self.after, self.history = state(net), figures(net.history)
        self.steps = max(1, (net.updates - self.began) // max(1, net.epochs - self.epochs))

    def check(self, net: pynn.Network) -> None:
        """Check that the network is in one of the states."""
        if net.updates == self.began:
            assert state(net) == self.before
            return
        assert vectors(net) == self.vectors[net.updates]
        assert settings(net) == self.settings
        whole, rest = divmod(net.updates - self.began, self.steps)
        # The epoch may be incomplete after its last update: validation and callbacks follow.
        assert net.epochs - self.epochs in ([whole] if rest else [whole, whole - 1])
        assert len(net.history) == net.epochs
        expected = {name: column[: net.epochs] for name, column in self.history.items()}
        assert repr(figures(net.history)) == repr(expected)


# --- fit ------------------------------------------------------------------------------------------


def run_plain(data: Data, folder: Path) -> Callable[..., object]:
    def run(net: pynn.Network, calls: Any = ()) -> object:
        return net.fit(*data, epochs=2, batch_size=8, progress=False, callbacks=calls)

    return run


def run_all(data: Data, folder: Path) -> Callable[..., object]:
    """Validation, a schedule, callbacks, a report and checkpoints."""

    def run(net: pynn.Network, calls: Any = ()) -> object:
        (folder / "run").unlink(missing_ok=True)
        return net.fit(
            *data,
            epochs=2,
            batch_size=8,
            optimizer="momentum",
            learning_rate=0.1,
            schedule=lambda time: 1 / (1 + time),
            validation=0.2,
            progress=lambda record: None,
            checkpoint=pynn.Checkpoint(folder / "run", steps=1),
            callbacks=[*calls, pynn.Every(2, lambda net, record: None)],
        )

    return run


def run_blocks(data: Data, folder: Path) -> Callable[..., object]:
    def run(net: pynn.Network, calls: Any = ()) -> object:
        return net.fit(
            *data,
            epochs=2,
            batch_size=8,
            shuffle="blocks",
            optimizer="sgd",
            progress=False,
            callbacks=calls,
        )

    return run


def run_divergence(data: Data, folder: Path) -> Callable[..., object]:
    """The weights of the second epoch become infinite."""

    def run(net: pynn.Network, calls: Any = ()) -> object:
        with pytest.raises(pynn.DivergenceError):
            net.fit(
                *data,
                epochs=3,
                batch_size=8,
                optimizer="momentum",
                schedule=lambda time: 1 if time < 1.5 else 1e39,
                progress=False,
                callbacks=calls,
            )
        return None

    return run


SCENARIOS = {
    "plain": run_plain,
    "all": run_all,
    "blocks": run_blocks,
    "divergence": run_divergence,
}


def network(backend: str, data: Data, trained: bool) -> pynn.Network:
    settings: Any = {"backend": backend, "threads": 1, "seed": 3}
    net = pynn.Network([4, 5, 3], dropout=0.2, standardize=True, **settings)
    if trained:
        train_once(net, data, batch_size=8, optimizer="rmsprop")
    return net


def train_once(net: pynn.Network, data: Data, **more: Any) -> None:
    net.fit(*data, **{"epochs": 1, "batch_size": 20, "progress": False} | more)


def injected(
    net: pynn.Network,
    run: Callable[..., object],
    error: type[BaseException],
    events: Any,
    least: int = 100,
) -> Iterator[tuple[pynn.Network, Injector]]:
    """Yield copies of a network after an exception at each event of ``run``."""
    run(copy.deepcopy(net))  # imports modules, compiles functions
    with Injector() as counter:
        run(copy.deepcopy(net))
    assert len(counter.events) > least
    for at in events(counter.extremes()):
        found = copy.deepcopy(net)
        injector = Injector(error, at)
        try:
            with np.errstate(), injector:
                run(found)
        except error:
            assert injector.place
        yield found, injector


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_fit(
    data: Data,
    tmp_path: Path,
    events: Any,
    backend: str,
    trained: bool,
    scenario: str,
    error: type[BaseException],
) -> None:
    net = network(backend, data, trained)
    run = SCENARIOS[scenario](data, tmp_path)
    trajectory = Trajectory(copy.deepcopy(net), run)
    failures = []
    for found, injector in injected(net, run, error, events):
        try:
            trajectory.check(found)
            check_usable(found)
            updates = found.updates
            train_once(found, data)
            assert found.updates > updates
            check_usable(found)
        except pynn.DivergenceError:
            # Weights of 1e38, which are finite.
            assert scenario == "divergence"
        except Exception as wrong:
            failures.append(f"{injector.place}: {type(wrong).__name__} {str(wrong)[:300]}")
    assert not failures, f"{len(failures)}\n" + "\n".join(failures[:20])


class Resuming:
    """A run of two epochs that writes a checkpoint after every update."""

    def __init__(self, data: Data, folder: Path) -> None:
        self.data, self.path = data, folder / "run"

    def run(self, net: pynn.Network, calls: Any = (), resume: bool = True) -> object:
        return net.fit(
            *self.data,
            epochs=2,
            batch_size=8,
            shuffle="blocks",
            progress=False,
            callbacks=[pynn.EarlyStopping("loss"), *calls],
            checkpoint=pynn.Checkpoint(self.path, steps=1),
            resume=resume,
        )

    def new(self, net: pynn.Network, calls: Any = ()) -> object:
        self.path.unlink(missing_ok=True)
        return self.run(net, calls)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_resume_after_an_exception(
    data: Data, tmp_path: Path, events: Any, backend: str, error: type[BaseException]
) -> None:
    """The run ends as an uninterrupted one wherever the exception was raised."""
    net = network(backend, data, trained=True)
    runs = Resuming(data, tmp_path)
    complete = copy.deepcopy(net)
    runs.new(complete)
    for _, injector in injected(net, runs.new, error, events):
        found = copy.deepcopy(net)
        runs.run(found)
        assert state(found) == state(complete), injector.place


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_resume_is_interrupted(
    data: Data, tmp_path: Path, events: Any, backend: str, error: type[BaseException]
) -> None:
    net = network(backend, data, trained=True)
    runs = Resuming(data, tmp_path)
    trajectory = Trajectory(copy.deepcopy(net), runs.new)

    def stop(net: pynn.Network, _: object) -> None:
        if net.updates == 5:
            raise ZeroDivisionError

    runs.path.unlink()
    with pytest.raises(ZeroDivisionError):
        runs.run(copy.deepcopy(net), [pynn.Every(1, stop)])
    checkpoint = runs.path.read_bytes()

    def run(net: pynn.Network) -> object:
        runs.path.write_bytes(checkpoint)
        return runs.run(net)

    for found, injector in injected(net, run, error, events):
        try:
            trajectory.check(found)
            check_usable(found)
            train_once(found, data)
        except (AssertionError, RuntimeError, ValueError) as wrong:
            raise AssertionError(injector.place) from wrong


# --- Prediction and files -------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "evaluate", "loss_and_gradient"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_predict(
    data: Data, events: Any, backend: str, method: str, error: type[BaseException]
) -> None:
    net = network(backend, data, trained=True)
    before, x = state(net), data[:1] if method.startswith("predict") else data

    def run(net: pynn.Network) -> object:
        return getattr(net, method)(*x)

    expected = repr(run(net))
    for found, injector in injected(net, run, error, events, least=20):
        assert state(found) == before, injector.place
        assert repr(run(found)) == expected, injector.place


@pytest.mark.parametrize("error", ERRORS)
def test_save(data: Data, tmp_path: Path, events: Any, error: type[BaseException]) -> None:
    """The file is the earlier or the new one, and no other file is left."""
    net, path = network("numpy", data, trained=True), tmp_path / "net"
    network("numpy", data, trained=False).save(path)
    earlier = path.read_bytes()
    net.save(path)
    new, before = path.read_bytes(), state(net)

    def run(net: pynn.Network) -> None:
        path.write_bytes(earlier)
        net.save(path)

    for found, injector in injected(net, run, error, events):
        assert path.read_bytes() in (earlier, new), injector.place
        assert list(tmp_path.iterdir()) == [path], injector.place
        assert state(found) == before, injector.place


@pytest.mark.parametrize("error", ERRORS)
def test_load(data: Data, tmp_path: Path, events: Any, error: type[BaseException]) -> None:
    net, path = network("numpy", data, trained=True), tmp_path / "net"
    net.save(path)
    saved = path.read_bytes()
    for _, injector in injected(net, lambda _: pynn.load(path), error, events):
        assert path.read_bytes() == saved, injector.place
        assert state(pynn.load(path)) == state(net), injector.place


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["parameters", "weights", "biases", "classes"])
def test_set(data: Data, events: Any, name: str, error: type[BaseException]) -> None:
    """Parameters and labels are set completely or not at all."""
    net = network("numpy", data, trained=True)
    other = network("numpy", data, trained=True)
    train_once(other, data)
    other.classes = ["x", "y", "z"]
    values = getattr(other, name)
    if isinstance(values, tuple):
        values = list(values)

    def run(net: pynn.Network) -> None:
        setattr(net, name, values)

    after = copy.deepcopy(net)
    run(after)
    for found, injector in injected(net, run, error, events, least=5):
        assert state(found) in (state(net), state(after)), injector.place
