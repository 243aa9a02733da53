"""The rows that ``validation=share`` holds out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec import philox
from pynn.training import saver
from pynn.training.split import held_out, shares

from . import runs

Data = tuple[np.ndarray, np.ndarray]


def test_shares_are_proportional_by_largest_remainder() -> None:
    # 3 of 10 rows: 1.5, 0.9 and 0.6.
    assert shares(np.array([5, 3, 2]), 3).tolist() == [1, 1, 1]
    assert shares(np.array([4, 4, 4]), 4).tolist() == [2, 1, 1]  # equal remainders
    assert shares(np.array([1, 1, 8]), 2).tolist() == [0, 0, 2]  # single rows stay
    assert shares(np.array([2, 2, 1]), 3).tolist() == [2, 1, 0]  # too many rows for one of each
    assert shares(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]
    assert shares(np.array([0, 4, 0, 8]), 3).tolist() == [0, 1, 0, 2]  # classes without rows
    random = np.random.default_rng(0)
    for _ in range(200):
        sizes = random.integers(1, 30, random.integers(1, 8))
        count = int(random.integers(0, sizes.sum()))
        found = shares(sizes, count)
        assert found.sum() == count
        assert ((found >= 0) & (found <= sizes)).all()
        if count <= (sizes - 1).sum():
            assert (found < sizes).all()
        pool = sizes[sizes > 1]
        if count + len(pool) <= pool.sum():
            exact = count * pool / pool.sum()
            assert (np.abs(found[sizes > 1] - exact) < 2).all()


def test_rows_of_a_class_are_those_with_the_smallest_words() -> None:
    codes = np.array([2, 0, 0, 2, 1, 0, 2, 0, 0, 1, 0, 0])
    out = held_out(12, 0.34, 7, codes)
    words = philox.words(7, 12, 0, philox.HELD_OUT)
    for code, count in ((0, 2), (1, 1), (2, 1)):
        rows = np.flatnonzero(codes == code)
        first = rows[np.argsort(words[rows])][:count]
        np.testing.assert_array_equal(rows[out[rows]], np.sort(first))
    np.testing.assert_array_equal(held_out(12, 0.34, 7), philox.held_out(7, 12, 4))
    with pytest.raises(ValueError, match="validation: found the share 0.01, which is 0 of 12 rows"):
        held_out(12, 0.01, 7, codes)


def trained(data: Data, net: pynn.Network | None = None, **more: Any) -> bytes:
    net = runs.make(dropout=0) if net is None else net
    net.fit(*data, **{"epochs": 1, "batch_size": 16, "progress": False} | more)
    return net.parameters.tobytes()


def test_classes_are_held_out_in_proportion(blobs: Data) -> None:
    x, y = blobs
    y = np.where(np.arange(150) < 100, 0, np.where(np.arange(150) < 147, 1, 2))
    out = held_out(150, 0.1, 3, y)
    assert np.bincount(y[out], minlength=3).tolist() == [10, 5, 0]
    explicit = trained((x[~out], y[~out]), validation=(x[out], y[out]))
    names = np.array(["ant", "bee", "cat"])[y]
    one_hot = np.eye(3)[y]
    for labels in (y, y.astype(float), y.tolist(), names, names.astype(object), one_hot):
        assert trained((x, labels), validation=0.1) == explicit
    former = philox.held_out(3, 150, 15)
    explicit = trained((x[~former], y[~former]), validation=(x[former], y[former]))
    assert trained((x, y), validation=0.1, stratify=False) == explicit


def test_only_class_labels_are_stratified(blobs: Data) -> None:
    x, y = blobs
    two, values, soft = y > 0, x[:, :1] * 2, np.full((150, 3), 1 / 3)
    for kind, sizes, targets, same in (
        ("binary_cross_entropy", (4, 5, 1), two, False),
        ("binary_cross_entropy", (4, 5, 3), np.stack([two, ~two, two], axis=1), True),
        ("mse", (4, 5, 1), values, True),
        ("cross_entropy", (4, 5, 3), soft, True),
    ):
        found = [
            trained((x, targets), pynn.Network(sizes, loss=kind, backend="numpy"), **more)
            for more in ({"validation": 0.1}, {"validation": 0.1, "stratify": False})
        ]
        assert (found[0] == found[1]) == same, kind
    with pytest.raises(TypeError, match="stratify: found 1, expected True or False"):
        trained((x, y), validation=0.1, stratify=1)


def test_a_resumed_run_holds_out_the_rows_of_its_beginning(
    blobs: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    x, y = blobs
    uneven = x[:130], y[:130]
    more: dict[str, Any] = {"validation": 0.15}
    whole = {}
    for stratify in (True, False):
        net, again = runs.make(), runs.make()
        runs.fit(net, uneven, stratify=stratify, **more)
        whole[stratify] = net
        path = tmp_path / f"run-{stratify}"
        runs.broken_off(path, uneven, 7, stratify=stratify, **more)
        kept: dict[str, Any] = {"checkpoint": pynn.Checkpoint(path, epochs=1), "resume": True}
        with pytest.raises(ValueError, match="stratify: found .*, but the run in .* has"):
            runs.fit(runs.make(), uneven, stratify=not stratify, **more, **kept)
        runs.fit(again, uneven, stratify=stratify, **more, **kept)
        runs.assert_same(again, net)
    assert whole[True].parameters.tobytes() != whole[False].parameters.tobytes()

    # A checkpoint written before there was ``stratify``: its run goes on with its own rows.
    path = tmp_path / "earlier"
    original = saver.Saver.write

    def without(self: Any, *arguments: Any, **options: Any) -> None:
        self._run["settings"].pop("stratify", None)
        original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(saver.Saver, "write", without)
        runs.broken_off(path, uneven, 7, stratify=False, **more)
    again = runs.make()
    runs.fit(again, uneven, checkpoint=pynn.Checkpoint(path, epochs=1), resume=True, **more)
    runs.assert_same(again, whole[False])
