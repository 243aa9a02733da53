"""What a call lends from the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pynn
from pynn.arrays import memory
from pynn.arrays.memory import LEAST, MOST, Memory


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    memory._kept.clear()
    yield
    memory._kept.clear()


def test_freed_memory_is_reused() -> None:
    first = Memory(LEAST)
    where = first.bytes.ctypes.data
    second = Memory(LEAST)
    assert second.bytes.ctypes.data != where
    del first
    assert Memory(LEAST).bytes.ctypes.data == where


def test_memory_is_at_least_the_size_requested_and_at_most_twice() -> None:
    sizes = [LEAST, 3 * LEAST, 7 * LEAST]
    for lent in [Memory(size) for size in sizes]:
        del lent
    for size in (0, 1, LEAST - 1, LEAST, 2 * LEAST, 3 * LEAST, 4 * LEAST, 20 * LEAST):
        assert size <= len(Memory(size).bytes) <= max(2 * size, 1)


def test_little_and_too_much_are_not_kept() -> None:
    for size in (0, LEAST - 1, MOST + 1):
        Memory(size)
    assert memory._kept == []


def test_the_oldest_memory_is_released_first() -> None:
    size = MOST // 4 + 1
    for lent in [Memory(size) for _ in range(6)]:
        del lent
    assert len(memory._kept) == 3


def test_no_two_threads_get_the_same_memory() -> None:
    def work(thread: int) -> bool:
        alone = True
        for i in range(300):
            mine = Memory(LEAST + i % 7)
            mine.bytes[:8] = mine.bytes[-8:] = thread
            other = Memory(LEAST)
            other.bytes[:8] = 255
            alone &= bool((mine.bytes[:8] == thread).all() and (mine.bytes[-8:] == thread).all())
            del mine, other
        return alone

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_an_oversized_file_raises_one_clear_error() -> None:
    with pytest.raises(MemoryError):
        Memory(1 << 62)


def test_training_does_not_depend_on_old_contents_of_memory() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 40)), rng.integers(0, 3, 600)

    def weights() -> np.ndarray:
        net = pynn.Network([40, 500, 300, 3], seed=1)
        net.fit(x, y, epochs=2, batch_size=50, optimizer="adam", progress=False)
        return net._model.flat.copy()

    fresh = weights()
    assert memory._kept
    for kept in memory._kept:
        kept[:] = 0x7F
    assert np.array_equal(fresh, weights())
