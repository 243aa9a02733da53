"""Networks restored from memory that they must not write to, or that changes afterwards."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn

from .runs import BACKENDS, Data, assert_same, fit, make


def read_only(data: bytes) -> memoryview:
    return memoryview(data)


def unaligned(data: bytes) -> memoryview:
    return memoryview(b"\0" + data)[1:]


def restored(net: pynn.Network, convert: Any = read_only) -> pynn.Network:
    """Return a copy whose arrays arrive in buffers that the pickle does not contain."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(net, protocol=5, buffer_callback=buffers.append)
    found: pynn.Network = pickle.loads(data, buffers=[convert(bytes(b.raw())) for b in buffers])
    return found


def check_owned(net: pynn.Network) -> None:
    for vector in net._model.vectors:
        assert vector.flags.writeable
        assert vector.ctypes.data % 64 == 0
        assert vector.dtype == net.dtype
    for view in (net.parameters, *net.weights, *net.biases):
        assert view.flags.writeable
        assert np.shares_memory(view, net._model.flat)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("convert", [read_only, unaligned])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_training_continues_from_buffers(
    blobs: Data, backend: str, convert: Any, optimizer: str
) -> None:
    original = make(backend=backend)
    fit(original, blobs, epochs=1, optimizer=optimizer)
    found = restored(original, convert)
    assert_same(found, original)
    check_owned(found)
    for net in (original, found):
        fit(net, blobs, epochs=1, optimizer=optimizer)
    assert_same(found, original)


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_continues_from_a_memory_mapped_pickle(
    blobs: Data, backend: str, tmp_path: Path
) -> None:
    joblib = pytest.importorskip("joblib")
    original = make(backend=backend)
    labels = np.array(["a", "b", "c"])[blobs[1]]
    fit(original, (blobs[0], labels), epochs=1)
    path = tmp_path / "network.joblib"
    joblib.dump(original, path)
    found = joblib.load(path, mmap_mode="r")
    check_owned(found)
    # Nothing of the network refers to the file, which may be overwritten.
    path.write_bytes(bytes(path.stat().st_size))
    for net in (original, found):
        fit(net, (blobs[0], labels), epochs=1)
    assert_same(found, original)
    assert found.predict(blobs[0]).tolist() == original.predict(blobs[0]).tolist()


def test_the_buffers_may_change_afterwards(blobs: Data) -> None:
    original = make()
    original.classes = [10, 20, 30]
    fit(original, (blobs[0], 10 * blobs[1] + 10), epochs=1)
    kept: list[bytearray] = []

    def writeable(data: bytes) -> bytearray:
        kept.append(bytearray(data))
        return kept[-1]

    found = restored(original, writeable)
    for data in kept:
        data[:] = bytes(len(data))
    assert_same(found, original)
    assert found.classes.tolist() == [10, 20, 30]


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_byte_order(blobs: Data, backend: str) -> None:
    """The arrays of a pickle that was written on a machine of the other byte order."""
    original = make(backend=backend)
    fit(original, blobs, epochs=1)
    state = original._model.__getstate__()
    swapped = state["flat"].dtype.newbyteorder()
    state["flat"] = state["flat"].astype(swapped)
    state["optimizer_state"] = [slot.astype(swapped) for slot in state["optimizer_state"]]
    found = pynn.Network._from_model(pynn.training.model.Model.from_state(state), backend, None)
    check_owned(found)
    assert_same(found, original)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_are_aligned(blobs: Data, copied: Any) -> None:
    original = make()
    fit(original, blobs, epochs=1)
    found = copied(original)
    check_owned(found)
    assert not any(
        np.shares_memory(a, b)
        for a, b in zip(found._model.vectors, original._model.vectors, strict=True)
    )
