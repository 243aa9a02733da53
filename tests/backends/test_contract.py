"""Every backend has all members of the contract, and states what its results depend on."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from pynn.backends import choose
from pynn.backends.contract import (
    Data,
    Engine,
    ObjectiveSettings,
    Trainer,
    TrainerSettings,
)
from pynn.spec import SGD, Architecture
from pynn.spec.names import BACKENDS

NET = Architecture.build([3, 4, 2])
USABLE = [name for name in BACKENDS if not choose.available()[name]]


def members(protocol: type) -> set[str]:
    methods = {name for name, value in vars(protocol).items() if inspect.isfunction(value)}
    return {name for name in methods | set(protocol.__annotations__) if not name.startswith("_")}


@pytest.fixture(params=USABLE)
def engine(request: pytest.FixtureRequest) -> Engine:
    return choose.create(request.param, NET, 1)


def make(engine: Engine, settings: TrainerSettings) -> Trainer:
    rng = np.random.default_rng(0)
    parameters = rng.normal(size=NET.n_parameters).astype(NET.dtype)
    x = rng.normal(size=(6, 3)).astype(NET.dtype)
    return engine.trainer(parameters, [], Data(x, np.zeros(6, np.int32)), settings)


def test_engine_and_trainer_have_all_members(engine: Engine) -> None:
    trainer = make(engine, TrainerSettings(optimizer=SGD(), batch_size=2))
    assert {name for name in members(Engine) if not hasattr(engine, name)} == set()
    assert {name for name in members(Trainer) if not hasattr(trainer, name)} == set()
    trainer.steps(0, 0, np.full(3, 0.1), 0)
    assert trainer.done == 3
    assert not trainer.diverged


def test_results_depend_on_a_version_or_an_instruction_set(engine: Engine) -> None:
    (name,) = engine.depends_on()
    assert name == {"numpy": "numpy", "numba": "numba", "cython": "isa"}[engine.name]
    assert engine.depends_on() == choose.create(engine.name, NET, 2).depends_on()


@pytest.mark.skipif("cython" not in USABLE, reason="needs the compiled core")
def test_full_precision_does_not_depend_on_amx() -> None:
    from pynn.backends.cython import _core

    isas = _core.info()["isas"]
    if "amx" not in isas:
        pytest.skip("needs AMX")
    before = _core.use_isa("amx")
    try:
        assert choose.create("cython", NET, 1).depends_on() == {"isa": "avx512"}
        net = Architecture.build([3, 4, 2], precision="bf16")
        assert choose.create("cython", net, 1).depends_on() == {"isa": "amx"}
    finally:
        _core.use_isa(before)


def test_settings_of_a_trainer_are_settings_of_its_objective(engine: Engine) -> None:
    settings: Any = TrainerSettings(optimizer=SGD(), batch_size=6, l2=0.3, shuffle=False)
    assert isinstance(settings, ObjectiveSettings)
    x, y = np.ones((6, 3), np.float32), np.zeros(6, np.int32)
    parameters = np.linspace(-1, 1, NET.n_parameters).astype(np.float32)
    loss, gradient = engine.objective(Data(x, y), settings)(parameters)
    same = engine.objective(Data(x, y), ObjectiveSettings(l2=0.3))(parameters)
    assert loss == same[0]
    np.testing.assert_array_equal(gradient, same[1])
    after = parameters.copy()
    trainer = engine.trainer(after, [], Data(x, y), settings)
    trainer.steps(0, 0, np.array([0.5]), 0)
    trainer.store()
    np.testing.assert_allclose(after, parameters - 0.5 * gradient, rtol=1e-5, atol=1e-6)
