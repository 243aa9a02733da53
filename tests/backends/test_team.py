"""The thread team of the compiled core: forks, many networks, more threads than cores."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn.backends.contract import Data, TrainerSettings
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture

_core = pytest.importorskip("pynn.backends.cython._core")

TASKS = Path("/proc/self/task")


def trained(threads: int, epochs: int = 2) -> bytes:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 40)).astype(np.float32)
    net = pynn.Network([40, 64, 3], threads=threads, dropout=0.1, backend="cython")
    net.fit(x, rng.integers(0, 3, 300), epochs=epochs, batch_size=32)
    return net.parameters.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_of_a_fork_gets_identical_results():
    want = trained(2)
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a process with threads
        child = os.fork()
    if child == 0:
        try:
            os.write(write, b"same" if trained(2) == want else b"different")
        finally:
            os._exit(0)
    os.close(write)
    answer = os.read(read, 100)
    os.close(read)
    os.waitpid(child, 0)
    assert answer == b"same"
    assert trained(2) == want


@pytest.mark.skipif(not TASKS.is_dir(), reason="needs Linux's /proc")
def test_networks_leave_no_threads_behind():
    trained(3)
    before = len(list(TASKS.iterdir()))
    for _ in range(50):
        trained(3, epochs=1)
    assert len(list(TASKS.iterdir())) <= before


def test_many_more_threads_than_cores_and_rows():
    assert trained(40) == trained(1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_leaves_the_caller_on_the_processors_it_was_on():
    before = os.sched_getaffinity(0)
    trained(2)
    assert os.sched_getaffinity(0) == before


def trainer(threads: int, sizes: tuple[int, ...] = (40, 64, 3)):
    rng = np.random.default_rng(1)
    net = Architecture.build(sizes, "tanh")
    parameters = rng.normal(scale=0.1, size=net.n_parameters).astype(np.float32)
    x = rng.normal(size=(300, sizes[0])).astype(np.float32)
    y = rng.integers(0, 3, 300).astype(np.int32)
    more = {"optimizer": optimizers.Adam(), "batch_size": 30, "l2": 0.0, "seed": 1, "shuffle": True}
    slots = [np.zeros_like(parameters) for _ in range(2)]
    return _core.Engine(net, threads).trainer(
        parameters, slots, Data(x, y), TrainerSettings(**more)
    )


def test_threads_divide_the_work_by_their_shares():
    some = trainer(2)
    assert some.shares == [[0.5, 0.5], [0.5, 0.5]]
    some.shares = [[1, 0], [0, 1]]
    assert some.shares == [[1, 0], [0, 1]]
    phases, spent = some.profile()
    some.steps(0, 0, [0.01], 0)
    rows, weights = phases.index("forward"), phases.index("gradient")
    assert (spent[:, :, rows] > 0).all(axis=1).tolist() == [True, False]
    assert (spent[:, :, weights] > 0).all(axis=1).tolist() == [False, True]
    assert some.shares == [[0.75, 0.25], [0.25, 0.75]]


def test_shares_are_parts_of_one_and_go_from_run_to_run():
    net = Architecture.build([40, 64, 3], "tanh")
    first = trainer(5)
    for step in range(10):
        first.steps(0, step, [0.01], step)
        for parts in first.shares:
            assert min(parts) > 0
            assert sum(parts) == pytest.approx(1, rel=1e-12)
    engine = _core.Engine(net, 2)
    parameters = np.zeros(net.n_parameters, np.float32)
    x, y = np.zeros((9, 40), np.float32), np.zeros(9, np.int32)
    more = {"optimizer": optimizers.SGD(), "batch_size": 3, "l2": 0.0, "seed": 1, "shuffle": True}
    one = engine.trainer(parameters, [], Data(x, y), TrainerSettings(**more))
    one.shares = [[0.25, 0.75], [0.125, 0.875]]
    other = engine.trainer(parameters, [], Data(x, y), TrainerSettings(**more))
    assert other.shares == one.shares == [[0.25, 0.75], [0.125, 0.875]]


def test_one_thread_too_many_threads_and_wide_layers_share_equally():
    # Alone; in a team of too many; and in one that waits for each other within a pass.
    for threads, sizes in ((1, (40, 64, 3)), (200, (40, 64, 3)), (2, (40, 600, 600, 3))):
        some = trainer(threads, sizes)
        some.shares = [[1] + [0] * (threads - 1)] * 2
        some.steps(0, 0, [0.01], 0)
        assert some.shares == [[1 / threads] * threads] * 2
    with pytest.raises(ValueError, match="expected 2 x 2"):
        trainer(2).shares = [[1], [0, 1]]


def test_pixels_are_not_copied():
    """A fit on uint8 pixels allocates far less than a copy of them, let alone one in floats."""
    import tracemalloc

    x = np.zeros((60000, 784), np.uint8)
    x[0, 0] = 255  # uint8 of only 0 and 1 would be values, which are converted to floats
    y = np.arange(60000, dtype=np.int32) % 10
    net = pynn.Network([784, 16, 10], backend="cython")
    net.fit(x, y, epochs=1, batch_size=512)  # allocates the memory that later calls use again
    tracemalloc.start()
    net.fit(x, y, epochs=1, batch_size=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 10
