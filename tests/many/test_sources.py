"""``fit_many`` on rows that are read part by part: every network is as after its own ``fit``."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pynn
from tests.many.test_fit_many import assert_equal, data, networks
from tests.training.test_stream import readers

X, Y = data(600)


def readers_after_waiting(most: int) -> int:
    """Return the number of threads that read, after more than ``most`` have had time to end.

    A thread that was told to end can outlive the epoch for which it read if the processor is busy.
    One that reads for a network in training does not end while its source waits here.
    """
    deadline = time.monotonic() + 20
    while (count := len(readers())) > most and time.monotonic() < deadline:
        time.sleep(0.01)
    return count


class Batches:
    """Batches of 50 rows, which count the threads that read while two networks are in training."""

    def __init__(self, most: list[int], rows: slice = slice(None)) -> None:
        self._most, self._x, self._y = most, X[rows], Y[rows]

    def __iter__(self) -> Iterator[Any]:
        for k in range(0, len(self._x), 50):
            if self._most[0] <= 2:  # more are a failure, which needs no other wait
                self._most[0] = max(self._most[0], readers_after_waiting(2))
            yield self._x[k : k + 50], self._y[k : k + 50]


def parquet(folder: Any) -> list[Any]:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for k in range(4):
        rows = slice(150 * k, 150 * k + 150)
        columns = {name: X[rows, j] for j, name in enumerate("abcde")}
        pq.write_table(
            pa.table({**columns, "y": Y[rows]}), folder / f"{k}.parquet", row_group_size=70
        )
    read = {"label": "y", "buffer_bytes": 64 * 20}
    return [pynn.data.Parquet(folder / "*.parquet", **read)] + [
        pynn.data.Parquet(folder / f"{k}.parquet", **read) for k in range(3)
    ]


def dask_pair(_: Any) -> list[Any]:
    array = pytest.importorskip("dask.array")
    return [(array.from_array(X, chunks=(130, 5)), array.from_array(Y, chunks=130))]


def batches(_: Any) -> list[Any]:
    return [Batches([0])]


def separately(x: Any, y: Any = None, count: int = 3, **settings: Any) -> list[pynn.Network]:
    found = networks(count)
    for k, net in enumerate(found):
        given = {name: v[k] if isinstance(v, list) else v for name, v in settings.items()}
        net.fit(x[k] if isinstance(x, list) else x, y, **given)
    return found


@pytest.mark.parametrize("make", [parquet, dask_pair, batches])
def test_one_source_for_all_networks(make, tmp_path):
    found, source = networks(3), make(tmp_path)[0]
    x, y = source if isinstance(source, tuple) else (source, None)
    held = (x, y) if isinstance(source, tuple) else x
    settings = {"epochs": 2, "learning_rate": [0.01, 0.1, 0.003], "validation": held}
    pynn.fit_many(found, x, y, threads=2, **settings)
    assert_equal(found, separately(x, y, **settings))
    assert readers_after_waiting(0) == 0


def test_a_source_for_each_network(tmp_path):
    sources = parquet(tmp_path)[1:]
    found = networks(3)
    pynn.fit_many(found, sources, epochs=2, threads=2, progress=lambda progress: None)
    assert_equal(found, separately(sources, epochs=2))


def test_each_network_in_training_has_one_thread_that_reads():
    most = [0]
    sources = [Batches(most, slice(0, 50 * k)) for k in (2, 4, 6, 8, 10, 12)]
    pynn.fit_many(networks(6), sources, epochs=3, threads=2)
    assert 1 <= most[0] <= 2


def test_sources_on_other_processes(tmp_path):
    pytest.importorskip("joblib", reason="needs joblib")
    found, (source, *others) = networks(3), parquet(tmp_path)
    pynn.fit_many(found, source, epochs=1, parallel="loky", threads=2)
    pynn.fit_many(found, others, epochs=1, parallel="loky", threads=2)
    expected = separately(source, epochs=1)
    for net, one in zip(expected, others):
        net.fit(one, epochs=1)
    assert_equal(found, expected)


def test_a_source_that_fails_does_not_stop_the_others(tmp_path):
    sources = parquet(tmp_path)[1:]
    (tmp_path / "1.parquet").write_bytes(b"PAR1")
    found = networks(3)
    with pytest.raises(pynn.FitManyError, match=r"networks\[1\]: .*1\.parquet"):
        pynn.fit_many(found, sources, epochs=2, threads=2)
    expected = networks(3)
    for k in (0, 2):
        expected[k].fit(sources[k], epochs=2)
    assert found[1].updates == 0
    assert_equal([found[0], found[2]], [expected[0], expected[2]])
    assert readers_after_waiting(0) == 0


def test_what_sources_cannot_do_is_one_error(tmp_path):
    source = parquet(tmp_path)[0]
    one = networks(1)
    for more in ({"groups": np.zeros(600)}, {"rows": [[0, 1]]}):
        with pytest.raises(TypeError, match="x: found a Parquet, .* expected arrays, or a list of"):
            pynn.fit_many(one, source, **more)
    with pytest.raises(pynn.FitManyError, match="found a generator, which can be read only once"):
        pynn.fit_many(one, ((X, Y) for _ in range(2)))
    with pytest.raises(pynn.FitManyError, match="y: found a ndarray with a Parquet"):
        pynn.fit_many(one, source, Y)
    with pytest.raises(pynn.FitManyError, match=r"validation: found 0\.1 with rows that are read"):
        pynn.fit_many(one, source, validation=0.1)
    assert one[0].updates == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
def test_ctrl_c_while_a_source_is_waited_for():
    class Slow(Batches):
        def __iter__(self) -> Iterator[Any]:
            for k, batch in enumerate(super().__iter__()):
                # The first pass is in the thread that trains.
                reads = threading.current_thread().name == "pynn reader"
                if epochs[0] and reads and k == 5:
                    if first():
                        signal.raise_signal(signal.SIGINT)
                    stopped.wait(20)
                yield batch

    epochs: list[int] = [0]
    stopped, lock, asked = threading.Event(), threading.Lock(), []

    def first() -> bool:
        with lock:
            asked.append(1)
            return len(asked) == 1

    def count(net: pynn.Network, record: pynn.Record) -> None:
        epochs[0] += 1

    found = networks(3)
    try:
        with pytest.raises(KeyboardInterrupt):
            pynn.fit_many(found, Slow([0]), epochs=1000, threads=2, callbacks=count)
    finally:
        stopped.set()
    assert all(net.epochs == len(net.history) for net in found)
    pynn.fit_many(found, X, Y, epochs=1)
