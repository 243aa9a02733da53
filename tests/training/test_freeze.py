"""``Network.freeze``: on every backend, in files and with every way of training."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.networks import make
from tests.parity import (
    OPTIMIZERS,
    VARIANTS,
    Case,
    assert_follows_reference,
    instruction_set,
    problem,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def fit(net: pynn.Network, **settings: Any) -> pynn.History:
    return net.fit(X, Y, **{"epochs": 2, "batch_size": 16, "progress": False, **settings})


def deep(**settings: Any) -> pynn.Network:
    return make((4, 6, 5, 3), **settings)


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("backend, isa", VARIANTS)
def test_backends_follow_the_reference(
    backend: str, isa: str | None, frozen: tuple[int, ...]
) -> None:
    net = Architecture.build([17, 40, 9, 33, 5], "relu", dropout=0.1, dtype="float64")
    given = problem(net, 73)
    case = Case(optimizer=optimizers.AdamW(weight_decay=0.1), rate=0.003, l2=0.01, frozen=frozen)
    with instruction_set(isa) if isa else nullcontext():
        run = assert_follows_reference(backend, net, given, case)
    for vector in run.vectors:
        start = given.parameters if vector is run.parameters else np.zeros_like(vector)
        for found, expected in zip(net.views(vector), net.views(start), strict=True):
            for k in range(net.n_layers):
                assert np.array_equal(found[k], expected[k]) == (k in frozen)


@pytest.mark.parametrize("optimizer", [*(o for o, _ in OPTIMIZERS), pynn.LBFGS()], ids=str)
def test_every_optimizer_leaves_frozen_layers(optimizer: Any) -> None:
    net = deep(backend="auto")
    net.freeze(1)
    before = copy.deepcopy(net)
    rows = {"batch_size": "full"} if isinstance(optimizer, pynn.LBFGS) else {}
    fit(net, optimizer=optimizer, l2=0.1, **rows)
    for k in range(3):
        for now, then in ((net.weights, before.weights), (net.biases, before.biases)):
            assert np.array_equal(now[k], then[k]) == (k == 1)


def test_unfrozen_layers_go_on_with_their_optimizer_state() -> None:
    net = deep()
    fit(net)
    net.freeze([0, -1])
    assert net.frozen == (0, 2)
    fit(net)
    twin = pickle.loads(pickle.dumps(net))
    assert twin.frozen == (0, 2)
    net.unfreeze(2)
    assert net.frozen == (0,)
    net.unfreeze()
    twin.unfreeze(range(3))
    assert net.frozen == twin.frozen == ()
    fit(net)
    fit(twin)
    np.testing.assert_array_equal(net.parameters, twin.parameters)


def test_files_checkpoints_and_repr(tmp_path: Path) -> None:
    net = deep()
    net.freeze([0, 1])
    assert ", frozen [0, 1], seed" in repr(net)
    net.save(tmp_path / "net")
    loaded = pynn.load(tmp_path / "net", backend="numpy")
    assert loaded.frozen == (0, 1)
    fit(net, epochs=4)
    fit(loaded, epochs=2, checkpoint=pynn.Checkpoint(tmp_path / "run", epochs=1))
    assert pynn.load(tmp_path / "run").frozen == (0, 1)
    settings: dict[str, Any] = {
        "epochs": 4,
        "checkpoint": pynn.Checkpoint(tmp_path / "run", epochs=1),
        "resume": True,
    }
    resumed = pynn.load(tmp_path / "net", backend="numpy")
    resumed.unfreeze(1)
    with pytest.raises(ValueError, match=r"frozen: found \[0\], but the run in .* has \[0, 1\]"):
        fit(resumed, **settings)
    resumed.freeze(1)
    fit(resumed, **settings)
    np.testing.assert_array_equal(resumed.parameters, net.parameters)


@pytest.mark.parametrize("layers", [3, -4, [0, 7], "0", None, 1.5, True])
def test_layers_that_do_not_exist(layers: Any) -> None:
    net = deep()
    with pytest.raises(ValueError, match=r"^layer: found .*, expected a whole number from 0"):
        net.freeze(layers)
    assert net.frozen == ()


def test_several_arguments() -> None:
    net = deep()
    net.freeze(0, -1)
    assert net.frozen == (0, 2)
    net.unfreeze(2, [1])
    assert net.frozen == (0,)
    with pytest.raises(TypeError, match=r"freeze: found no layer, expected indices such as"):
        net.freeze()


def test_all_layers_frozen_or_in_training() -> None:
    net = deep()
    net.freeze(range(3))
    with pytest.raises(ValueError, match=r"fit: found all layers frozen, expected at least one"):
        fit(net)
    assert net._model.task is None
    net.unfreeze(2)
    with pytest.raises(ValueError, match="layers: found a network in training"):
        fit(net, callbacks=lambda net, record: net.freeze(2))
    assert net.frozen == (0, 1)


def test_losses_that_diverge_name_a_layer() -> None:
    net = deep(loss="mse", output="identity")
    net.freeze(0)
    with pytest.raises(pynn.DivergenceError):
        fit(net, optimizer="sgd", learning_rate=1e30)
    assert np.isfinite(net.parameters).all()


def test_frozen_layers_train_as_their_outputs_do() -> None:
    """The layers above frozen ones train as a network whose inputs are their outputs."""
    net = deep(dtype="float64", activation="tanh")
    net.freeze([0])
    above = make((6, 5, 3), dtype="float64", activation="tanh")
    above.weights, above.biases = net.weights[1:], net.biases[1:]
    h = net.activations(X, 0)
    fit(net)
    above.fit(h, Y, epochs=2, batch_size=16, progress=False)
    np.testing.assert_allclose(above.weights[0], net.weights[1], rtol=1e-9)
