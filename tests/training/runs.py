"""Small runs that are cut off, for the tests of checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.files.tensors import load_tensors

Data = tuple[np.ndarray, np.ndarray]

BACKENDS = [name for name, reason in choose.available().items() if not reason]
posix = pytest.mark.skipif(os.name != "posix", reason="as POSIX systems have it")


class Cut(Exception):
    """Ends a run early in these tests; tests/training/kill.py kills the process instead."""


def cut(after: int) -> pynn.Every:
    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if net.updates == after:
            raise Cut

    return pynn.Every(1, stop)


def make(**more: Any) -> pynn.Network:
    return pynn.Network([4, 8, 3], **{"backend": "numpy", "dropout": 0.2, "seed": 3} | more)


def fit(net: pynn.Network, data: Data, **more: Any) -> pynn.History:
    # 150 rows: 4 batches of 40, the last one of 30.
    settings = {"epochs": 4, "batch_size": 40, "progress": False}
    return net.fit(*data, **settings | more)


def figures(history: pynn.History) -> dict[str, list[Any]]:
    timed = "seconds", "samples_per_second"
    return {k: v for k, v in history.to_dict().items() if k not in timed}


def assert_same(found: pynn.Network, expected: pynn.Network) -> None:
    assert found.parameters.tobytes() == expected.parameters.tobytes()
    assert [s.tobytes() for s in found._model.vectors] == [
        s.tobytes() for s in expected._model.vectors
    ]
    assert (found.epochs, found.updates) == (expected.epochs, expected.updates)
    assert repr(figures(found.history)) == repr(figures(expected.history))


def broken_off(path: Path, data: Data, after: int, steps: int = 1, **more: Any) -> None:
    """Leave the checkpoint of a run that was cut off after ``after`` updates."""
    network = more.pop("network", {})
    new = more.pop("make", make)
    calls = [*more.pop("callbacks", []), cut(after)]
    kept = pynn.Checkpoint(path, steps=steps)
    with pytest.raises(Cut):
        fit(new(**network), data, checkpoint=kept, callbacks=calls, **more)


def document(path: Path) -> dict[str, Any]:
    return load_tensors(path)[1]["checkpoint"]
