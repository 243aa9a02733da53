"""Forms of optimizers that PyTorch and Keras have, against the reference and against both."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import updates
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from pynn.spec.optimizers import Optimizer
from tests.networks import make
from tests.parity import (
    FORMS,
    VARIANTS,
    Case,
    assert_follows_reference,
    assert_identical,
    instruction_set,
    problem,
    train,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend, isa", VARIANTS)
def test_every_form_follows_the_reference(backend: str, isa: str | None, dtype: str) -> None:
    """With an average after two or three slots, and wide and narrow layers."""
    net = Architecture.build([17, 33, 3, 5], "tanh", dropout=[0.3, 0.1], dtype=dtype)
    given = problem(net, 73)
    with instruction_set(isa) if isa else nullcontext():
        for optimizer, rate in FORMS:
            case = Case(optimizer=optimizer, rate=rate, l2=0.01, ema=0.9, steps=30)
            run = assert_follows_reference(backend, net, given, case)
            assert_identical(train(backend, net, given, case.but(threads=1)), run)


def test_a_constant_gradient_leaves_no_spread() -> None:
    """s − a² of a constant gradient may round to less than 0, whose root is NaN in PyTorch."""
    rule = optimizers.RMSProp(centered=True, rho=0.3, epsilon=1e-3)
    w, g, state = np.zeros(200), np.random.default_rng(0).normal(size=200), [np.zeros(200)] * 2
    state = [s.copy() for s in state]
    for step in range(100):
        updates.rmsprop(rule, w, g, state, step + 1, 1e-6, True)
    assert (state[0] - state[1] ** 2).min() < 0
    assert np.isfinite(w).all()


def test_settings() -> None:
    assert repr(pynn.RMSProp()) == "RMSProp(rho=0.9, epsilon=1e-08)"
    assert repr(pynn.RMSProp(centered=True)) == "RMSProp(rho=0.9, epsilon=1e-08, centered=True)"
    assert repr(pynn.Adagrad()) == "Adagrad(epsilon=1e-10)"
    assert repr(pynn.Adam()) == "Adam(beta1=0.9, beta2=0.999, epsilon=1e-08)"
    with pytest.raises(TypeError, match="RMSProp.centered: found 2, expected True or False"):
        pynn.RMSProp(centered=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Adagrad.initial: found -1"):
        pynn.Adagrad(initial=-1)
    # Pickles of earlier versions have no such fields.
    old = object.__new__(pynn.RMSProp)
    old.__dict__.update(rho=0.9, epsilon=1e-8)
    assert old == pynn.RMSProp()
    assert old.slots == 1


def test_a_file_has_every_form(tmp_path: Any) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3
    for rule, rate in FORMS:
        net = make((4, 6, 3))
        net.fit(x, y, epochs=1, optimizer=rule, learning_rate=rate, progress=False)
        net.save(tmp_path / "net")
        loaded = pynn.load(tmp_path / "net", backend="numpy")
        assert loaded._model.optimizer == rule
        for again in (net, loaded):
            again.fit(x, y, epochs=1, optimizer=rule, learning_rate=rate, progress=False)
        np.testing.assert_array_equal(loaded.parameters, net.parameters)


# --- Against other libraries ----------------------------------------------------------------------

GRADIENTS = np.random.default_rng(3).normal(size=(100, 5)) * np.geomspace(1e-3, 1, 5)
START = np.linspace(-1, 1, 5)


def moved(rule: Optimizer, rate: float) -> np.ndarray:
    """The parameters after 100 updates by the reference."""
    w, state = START.copy(), [np.zeros(5) for _ in range(rule.slots)]
    for step, g in enumerate(GRADIENTS):
        updates.UPDATE[rule.name](rule, w, g, state, step + 1, rate, True)
    return w


TORCH: list[tuple[str, dict[str, Any], Optimizer]] = [
    ("RMSprop", {"alpha": 0.9, "momentum": 0.8}, optimizers.RMSProp(momentum=0.8)),
    ("RMSprop", {"alpha": 0.9, "centered": True}, optimizers.RMSProp(centered=True)),
    (
        "RMSprop",
        {"alpha": 0.95, "centered": True, "momentum": 0.7, "eps": 1e-4},
        optimizers.RMSProp(rho=0.95, centered=True, momentum=0.7, epsilon=1e-4),
    ),
    ("Adagrad", {"initial_accumulator_value": 0.2}, optimizers.Adagrad(initial=0.2)),
]


def test_forms_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    for name, options, rule in TORCH:
        w = torch.tensor(START.copy(), requires_grad=True)
        theirs = getattr(torch.optim, name)([w], lr=0.01, **options)
        for g in GRADIENTS:
            w.grad = torch.tensor(g)
            theirs.step()
        np.testing.assert_allclose(moved(rule, 0.01), w.detach().numpy(), rtol=0, atol=1e-9)


KERAS: list[tuple[str, dict[str, Any], Optimizer]] = [
    ("SGD", {}, optimizers.SGD()),
    ("SGD", {"momentum": 0.8}, optimizers.Momentum(0.8)),
    ("SGD", {"momentum": 0.8, "nesterov": True}, optimizers.Nesterov(0.8)),
    ("RMSprop", {}, optimizers.RMSProp(epsilon=1e-7, epsilon_inside=True)),
    (
        "RMSprop",
        {"momentum": 0.7, "centered": True, "epsilon": 1e-5},
        optimizers.RMSProp(epsilon=1e-5, epsilon_inside=True, momentum=0.7, centered=True),
    ),
    ("Adagrad", {}, optimizers.Adagrad(epsilon=1e-7, epsilon_inside=True, initial=0.1)),
    ("Adam", {}, optimizers.AdamHat(epsilon=1e-7)),
    ("Adam", {"amsgrad": True}, optimizers.AMSGrad(epsilon=1e-7, epsilon_hat=True)),
    ("Nadam", {}, optimizers.NAdam(epsilon=1e-7, momentum_decay=1)),
    ("Lion", {}, optimizers.Lion()),
]


def test_forms_of_keras() -> None:
    pytest.importorskip("torch")  # the backend that runs everywhere
    keras = pytest.importorskip("keras")
    for name, options, rule in KERAS:
        w = keras.Variable(START.copy(), dtype="float64")
        theirs = getattr(keras.optimizers, name)(learning_rate=0.0078125, **options)
        theirs.build([w])
        for g in GRADIENTS:
            theirs.apply([keras.ops.convert_to_tensor(g, dtype="float64")], [w])
        found = moved(rule, 0.0078125)  # exact in float32, in which Keras keeps it
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(w), rtol=0, atol=1e-9)
