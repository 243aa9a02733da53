"""The state of optimizers: training in two parts ends as training in one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from tests.networks import make

BACKENDS = [name for name, reason in choose.available().items() if not reason]
X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "optimizer",
    [pynn.AMSGrad(weight_decay=0.1), pynn.NAdam(momentum_decay=0.1), pynn.Lion()],
    ids=lambda o: o.name,
)
def test_training_in_parts_is_identical(backend: str, optimizer: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch_size": 16, "optimizer": optimizer, "progress": False}
    whole, parts, resumed = (make((4, 6, 3), backend=backend) for _ in range(3))
    whole.fit(X, Y, epochs=5, **settings)
    parts.fit(X, Y, epochs=2, **settings)
    parts.save(tmp_path / "net")
    again = pickle.loads(pickle.dumps(pynn.load(tmp_path / "net", backend=backend)))
    again.fit(X, Y, epochs=3, **settings)
    run: dict[str, Any] = {"checkpoint": pynn.Checkpoint(tmp_path / "run", steps=3)}

    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if record.epoch == 3:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        resumed.fit(X, Y, epochs=5, callbacks=stop, **settings, **run)
    resumed = make((4, 6, 3), backend=backend)
    resumed.fit(X, Y, epochs=5, resume=True, **settings, **run)
    for net in (again, resumed):
        np.testing.assert_array_equal(net.parameters, whole.parameters)
        for found, expected in zip(
            net._model.optimizer_state, whole._model.optimizer_state, strict=True
        ):
            np.testing.assert_array_equal(found, expected)
