"""Collections of Dask, and loaders of PyTorch, as sources of rows."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import pynn

RNG = np.random.default_rng(5)
X = RNG.normal(size=(600, 4)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 1)
NAMES = ["a", "b", "c", "d"]


def trained(x, y=None, **settings) -> pynn.Network:
    net = pynn.Network([4, 8, 3], seed=4)
    net.fit(x, y, **{"epochs": 1, "shuffle": False, **settings})
    return net


def same(a: pynn.Network, b: pynn.Network) -> bool:
    return bool((a.parameters == b.parameters).all())


def test_dask_arrays() -> None:
    array = pytest.importorskip("dask.array")
    x, y = array.from_array(X, chunks=(130, 3)), array.from_array(Y, chunks=200)
    weight = array.from_array(RNG.uniform(0.5, 2, 600), chunks=130)
    expected = trained(X, Y, sample_weight=weight.compute())
    found = trained(x, y, sample_weight=weight, validation=(x, y))
    assert same(expected, found)
    assert found.history[-1].validation_loss == pytest.approx(found.evaluate(X, Y)["loss"])
    np.testing.assert_array_equal(found.predict(x), found.predict(X))
    assert found.evaluate(x, y) == pytest.approx(found.evaluate(X, Y))
    assert same(trained(x, Y), trained(X, Y))  # an array y makes x an array
    with pytest.raises(TypeError, match="sample_weight: found a ndarray with a collection of D"):
        trained(x, y, sample_weight=np.ones(600))
    with pytest.raises(ValueError, match="y: found 3 partitions, expected 5"):
        trained(x, array.from_array(Y[:500], chunks=200))
    assert not [t for t in threading.enumerate() if t.name == "pynn reader"]


def test_dask_frames() -> None:
    frames = pytest.importorskip("dask.dataframe")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES).assign(y=np.array(["u", "v", "w"])[Y])
    lazy = frames.from_pandas(frame, npartitions=5)
    lazy = frames.concat([lazy, lazy[lazy.a > 1e9]])  # five empty partitions
    net = trained(lazy[NAMES], lazy["y"])
    assert same(net, trained(frame[NAMES], frame["y"]))
    assert net.columns == tuple(NAMES)
    np.testing.assert_array_equal(net.predict(lazy[["d", "c", "b", "a"]]), net.predict(X))
    with pytest.raises(ValueError, match="found no column 'c', expected the columns of the first"):
        net.predict(lazy[["d", "b", "a", "y"]])
    with pytest.raises(ValueError, match="found no targets in a Partitions as x"):
        net.fit(lazy[NAMES])


def test_a_partition_that_fails() -> None:
    array = pytest.importorskip("dask.array")

    def fails(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 3:
            raise RuntimeError("the worker was lost")
        return block

    x = array.from_array(X, chunks=(100, 4)).map_blocks(fails, dtype=np.float32)
    net = pynn.Network([4, 8, 3], seed=4)
    with pytest.raises(RuntimeError, match=r"x: partition 3 of 6 .*RuntimeError: the worker was"):
        net.fit(x, array.from_array(Y, chunks=100))
    holes = X.copy()
    holes[250, 2] = np.nan
    with pytest.raises(ValueError, match="partition 2 of 6: column 2 .* found nan in row 50"):
        net.fit(array.from_array(holes, chunks=(100, 4)), array.from_array(Y, chunks=100))
    net.fit(X, Y)


def test_loaders_of_torch() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = DataLoader(data, batch_size=50)
    net = trained(loader, validation=loader)
    assert same(net, trained(X, Y, batch_size=50))
    assert net.updates == 12
    np.testing.assert_array_equal(net.predict(loader), net.predict(X))
    assert net.evaluate(loader) == pytest.approx(net.evaluate(X, Y))
    shuffled = pynn.Network([4, 8, 3], seed=4)
    shuffled.fit(DataLoader(data, batch_size=50, shuffle=True), epochs=2)
    assert shuffled.updates == 24


def test_batches_are_read_while_training_continues() -> None:
    threads, batches = set(), [(X[k : k + 100], Y[k : k + 100]) for k in range(0, 600, 100)]

    class Slow:
        def __iter__(self):
            for batch in batches:
                threads.add(threading.current_thread().name)
                time.sleep(0.001)
                yield batch

    net = trained(Slow(), epochs=2)
    assert same(net, trained(X, Y, batch_size=100, epochs=2))
    assert threads == {"MainThread", "pynn reader"}
