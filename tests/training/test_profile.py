"""``Network.profile``: where the time goes, on request only."""

from __future__ import annotations

import contextlib
import pickle

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.training.profile import MEETING, PASSING, Profile, Run

from .injector import Injector

needs_core = pytest.mark.skipif(
    bool(choose.available()["cython"]), reason="needs the compiled core"
)


def data(rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 30)).astype(np.float32), rng.integers(0, 3, rows)


def network(**settings: object) -> pynn.Network:
    return pynn.Network([30, 40, 20, 3], seed=1, **{"backend": "cython", **settings})  # type: ignore[arg-type]


@needs_core
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_phase_is_timed(threads: int) -> None:
    net = network(threads=threads, dropout=0.1)
    with net.profile() as profile:
        net.fit(*data(), epochs=3, batch_size=64, progress=False)
        net.fit(*data(130), epochs=2, batch_size=100, progress=False)
    assert profile.steps == net.updates == 3 * 8 + 2 * 2
    assert profile.rows == 3 * 500 + 2 * 130
    seconds = profile.seconds
    assert seconds.shape == (3, len(profile.phases))
    assert (seconds >= 0).all()
    assert 0 < seconds.sum() <= threads * profile.wall
    of = dict(zip(profile.phases, seconds.T, strict=True))
    for phase in ("forward", "gradient", "update"):
        assert (of[phase] > 0).all()
    assert (of["backward"] > 0).tolist() == [False, True, True]
    assert (of["read"] > 0).tolist() == [True, False, False]
    assert (of["loss"] > 0).tolist() == [False, False, True]
    rates = profile.gflops()
    assert np.isnan(rates["backward"][0])
    assert (rates["forward"] > 0).all()
    assert rates["forward"][1] == pytest.approx(2 * 40 * 20 * profile.rows / of["forward"][1] / 1e9)


@needs_core
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_gradient_of_a_narrow_layer_is_not_the_update(optimizer: str) -> None:
    x, y = np.random.default_rng(0).integers(0, 256, (500, 784)).astype(np.uint8), data()[1]
    net = pynn.Network([784, 3], backend="cython", threads=1)
    with net.profile() as profile:
        net.fit(x, y, epochs=3, batch_size=64, optimizer=optimizer, progress=False)
    assert dict(zip(profile.phases, profile.seconds.T, strict=True))["gradient"][0] > 0


@needs_core
def test_speedup_is_estimated_for_any_batch() -> None:
    net = network(threads=1)
    with net.profile() as profile:
        with pytest.raises(ValueError, match="0 measured steps"):
            profile.speedup(2)
        net.fit(*data(), epochs=1, batch_size=50, progress=False)
    assert profile.speedup(1) == 1
    assert 0 < profile.speedup(2) < 2
    small, large = profile.speedup(8, 50), profile.speedup(8, 50_000)
    assert small == profile.speedup(8) < large < 8
    assert "estimated speed-up of batches of 800 rows" in str(profile)
    for wrong in ((0, None), (2, 0)):
        with pytest.raises(ValueError, match="expected 1 or more"):
            profile.speedup(*wrong)


def test_speedup_counts_the_bytes_that_move_between_cores() -> None:
    cores, alone = 4, 1e-4
    seconds = np.zeros((1, 3, 2))  # (threads, layers, phases)
    seconds[0, 0] = alone, 1.0

    def speedup(dtype: str) -> float:
        found = Profile(network(dtype=dtype, backend="numpy")._model)
        found.phases = ("forward", "wait")
        found._runs = [Run(seconds, steps=1, rows=50)]
        return found.speedup(cores)

    n_parameters = 30 * 40 + 40 + 40 * 20 + 20 + 20 * 3 + 3
    for dtype, moved in (("float32", 2 * 4), ("float64", 2 * 8)):
        transfer = moved * PASSING * n_parameters * (cores - 1) / cores
        expected = alone / (alone / cores + transfer + cores * MEETING)
        assert speedup(dtype) == pytest.approx(expected, rel=1e-12)


@needs_core
def test_profiling_does_not_change_results() -> None:
    watched, twin = network(), network()
    with watched.profile() as profile:
        watched.fit(*data(), epochs=2, progress=False)
        assert pickle.loads(pickle.dumps(watched)).epochs == 2
    twin.fit(*data(), epochs=2, progress=False)
    assert watched.parameters.tobytes() == twin.parameters.tobytes()
    steps = profile.steps
    watched.fit(*data(), epochs=1, progress=False)
    assert profile.steps == steps > 0


@needs_core
def test_table() -> None:
    net = network()
    with net.profile() as profile:
        assert str(profile).startswith("profile of no step: with net.profile() as profile: ")
        net.fit(*data(), epochs=2, batch_size=100, progress=False)
    lines = str(profile).splitlines()
    assert lines[0].startswith("10 steps of 100 rows in ")
    assert lines[1].split() == ["layer", *profile.phases, "sum"]
    assert [line.split()[0] for line in lines[2:5]] == ["30-40", "40-20", "20-3"]
    total = float(lines[5].split()[-1])
    assert total == pytest.approx(profile.seconds.sum() / 10 * 1e6, abs=0.01)
    assert lines[6].split()[-1] == "100.0%"
    assert repr(profile) == "<Profile of 10 steps of (30, 40, 20, 3)>"


def test_other_backends_measure_no_times() -> None:
    with (
        pytest.raises(ValueError, match="profile: found the backend 'numpy', expected 'cython'"),
        network(backend="numpy").profile(),
    ):
        pass


@needs_core
def test_one_profile_of_a_network_at_a_time() -> None:
    net, other, (x, y) = network(), network(), data(100)
    with net.profile() as profile, other.profile() as second:
        net.fit(x, y, epochs=1, batch_size=10, progress=False)
        with pytest.raises(RuntimeError, match="found another active profile of this network"):
            net.profile().__enter__()
        net.fit(x, y, epochs=1, batch_size=10, progress=False)
        other.fit(x, y, epochs=1, batch_size=50, progress=False)
    net.fit(x, y, epochs=1, batch_size=10, progress=False)
    assert (profile.steps, second.steps) == (20, 2)
    with profile:
        net.fit(x, y, epochs=1, batch_size=10, progress=False)
    assert profile.steps == 30


@needs_core
def test_an_interrupt_cannot_leave_a_profile_active() -> None:
    net, (x, y) = network(), data(100)

    def run() -> None:
        with net.profile():
            pass

    with Injector() as counter:
        run()
    for at in range(len(counter.events)):
        injector = Injector(at=at)
        with contextlib.suppress(KeyboardInterrupt), injector:
            run()
        active = net._model.active_profile
        if active is not None:
            # The interpreter handles signals at calls, and the tracer raises at the return too.
            assert injector.place.endswith("return")
            active._active.release()
    with net.profile() as profile:
        net.fit(x, y, epochs=1, batch_size=10, progress=False)
    assert profile.steps == 10
    assert pickle.loads(pickle.dumps(profile)).steps == 10
