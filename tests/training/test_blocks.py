"""Shuffling in blocks, for files that do not fit into memory."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.spec import philox
from pynn.training import blocks

BACKENDS = [name for name, reason in choose.available().items() if not reason]
ROWS = 203


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three rows of 20 bytes, five of them a window."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 70)
    monkeypatch.setattr(blocks, "WINDOW", 5)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, size=(ROWS, 20), dtype=np.uint8)
    return x, (x[:, 0] > x[:, 1]).astype(np.int64)


def test_order_of_blocks():
    seen = set()
    for epoch in range(3):
        order = philox.permutation_in_blocks(7, epoch, ROWS, 3, 5)
        assert (np.sort(order) == np.arange(ROWS)).all()
        for start in range(0, ROWS, 15):
            # Whole blocks, but that the last one of all is shorter and may be cut.
            window = order[start : start + 15]
            assert len(np.unique(window // 3)) <= 6
            if len(window) == 15:  # and their rows are mixed
                assert np.count_nonzero(np.diff(window // 3)) > 6
        seen.add(order.tobytes())
    assert len(seen) == 3
    assert (np.abs(np.diff(order)) > 15).any()
    assert (philox.permutation_in_blocks(7, 2, ROWS, 3, 5) == order).all()


def fit(net: pynn.Network, x: np.ndarray, y: np.ndarray, **more: Any) -> pynn.Network:
    net.fit(x, y, **{"epochs": 3, "batch_size": 8, "shuffle": "blocks", "progress": False} | more)
    return net


def network(backend: str) -> pynn.Network:
    return pynn.Network([20, 6, 2], dropout=0.2, backend=backend, seed=5)


def test_backends_agree(small, backend):
    x, y = data()
    net, reference = fit(network(backend), x, y), fit(network("numpy"), x, y)
    np.testing.assert_allclose(net.parameters, reference.parameters, rtol=0, atol=1e-5)
    assert fit(network(backend), x, y).parameters.tobytes() == net.parameters.tobytes()
    # The reference takes the rows as they were put in order beforehand.
    again = network(backend)
    for epoch in range(3):
        order = philox.permutation_in_blocks(5, epoch, ROWS, 3, 5)
        fit(again, x[order], y[order], epochs=1, shuffle=False)
    assert again.parameters.tobytes() == net.parameters.tobytes()


def test_a_run_resumes_in_the_middle_of_an_epoch(small, backend, tmp_path):
    x, y = data()
    whole = fit(network(backend), x, y)
    kept = pynn.Checkpoint(tmp_path / "run", steps=1)

    class Stop(pynn.Callback):
        steps = 37

        def on_steps(self, net: pynn.Network, record: pynn.Record) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(backend), x, y, checkpoint=kept, callbacks=Stop())
    resumed = network(backend)
    with pytest.raises(ValueError, match="shuffle"):
        fit(resumed, x, y, checkpoint=kept, resume=True, shuffle=True)
    fit(resumed, x, y, checkpoint=kept, resume=True)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


def test_every_page_is_asked_for_before_it_is_read(small, backend, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3 * mmap.PAGESIZE)
    x, y = data()
    big = np.repeat(x, 200, axis=0)
    path = Path(tmp_path, "x.npy")
    np.save(path, big)
    asked: list[tuple[int, int, int]] = []

    class Noted(mmap.mmap):
        def madvise(self, option: int, start: int, length: int) -> None:  # type: ignore[override]
            assert option == mmap.MADV_WILLNEED
            assert start % mmap.PAGESIZE == 0
            super().madvise(option, start, length)
            asked.append((net.updates, start, start + length))

    with path.open("rb") as file:
        mapped = Noted(file.fileno(), 0, access=mmap.ACCESS_READ)
        offset = len(mapped) - big.nbytes
        lying = np.frombuffer(mapped, np.uint8, offset=offset).reshape(big.shape)
        net = network(backend)
        fit(net, lying, np.repeat(y, 200), epochs=2, batch_size=512)
    assert 2 * len(big) // 512 > asked[-1][0] > len(big) // 512
    for epoch in range(2):
        order = philox.permutation_in_blocks(5, epoch, len(big), blocks.BLOCK_BYTES // 20, 5)
        steps = -(-len(big) // 512)
        for step in range(steps):
            pages = (offset + 20 * order[step * 512 : (step + 1) * 512]) // mmap.PAGESIZE
            ready = {
                page
                for at, start, stop in asked
                if epoch * steps <= at <= epoch * steps + step
                for page in range(start // mmap.PAGESIZE, -(-stop // mmap.PAGESIZE))
            }
            assert set(pages.tolist()) <= ready
    fresh = fit(network(backend), big, np.repeat(y, 200), epochs=2, batch_size=512)
    assert net.parameters.tobytes() == fresh.parameters.tobytes()


def test_shapes_that_do_not_match_are_refused():
    x, y = data()
    for bad in ("block", 3, None):
        with pytest.raises(TypeError, match="shuffle: found .*, expected True, False or 'blocks'"):
            fit(network("numpy"), x, y, shuffle=bad)
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match="shuffle: found 'blocks' and a sparse x"):
        fit(network("numpy"), sparse.csr_matrix(x), y)
