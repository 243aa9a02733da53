"""The thread team of the compiled core: forks, many networks, more threads than cores."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import pynn

pytest.importorskip("pynn._core")

TASKS = Path("/proc/self/task")


def trained(threads: int, epochs: int = 2) -> bytes:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 40)).astype(np.float32)
    net = pynn.Network([40, 64, 3], threads=threads, dropout=0.1, backend="cython")
    net.fit(x, rng.integers(0, 3, 300), epochs=epochs, batch_size=32)
    return net.parameters.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_of_a_fork_trains_to_the_same_bits():
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


def test_pixels_are_not_copied():
    """A fit on uint8 pixels allocates far less than a copy of them, let alone one in floats."""
    import tracemalloc

    x = np.zeros((60000, 784), np.uint8)
    y = np.arange(60000, dtype=np.int32) % 10
    net = pynn.Network([784, 16, 10], backend="cython")
    tracemalloc.start()
    net.fit(x, y, epochs=1, batch_size=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 10
