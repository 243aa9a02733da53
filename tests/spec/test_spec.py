"""Architectures, optimizers and schedules: what they accept, what they say, what they compute."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec.architecture import Architecture
from pynn.spec.optimizers import OPTIMIZERS, Optimizer, as_optimizer
from pynn.spec.schedules import SCHEDULES, Schedule, as_schedule


def test_architecture_spells_everything_out() -> None:
    net = Architecture.build([5, 4, 3, 2], "tanh", None, "cross_entropy", 0.5, np.float64)
    assert net.sizes == (5, 4, 3, 2)
    assert net.activations == ("tanh", "tanh", "softmax")
    assert net.dropout == (0.5, 0.5)
    assert net.dtype == "float64"
    assert net.n_parameters == 5 * 4 + 4 + 4 * 3 + 3 + 3 * 2 + 2


@pytest.mark.parametrize(
    ("loss", "output"),
    [("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid"), ("mse", "identity")],
)
def test_output_follows_the_loss(loss: str, output: str) -> None:
    assert Architecture.build([2, 3], loss=loss).activations == (output,)


def test_widths_of_numpy() -> None:
    net = Architecture.build(np.array([5, 4, 3], np.uint8))
    assert net.sizes == Architecture.build([np.int64(5), 4, np.int8(3)]).sizes == (5, 4, 3)
    assert all(type(width) is int for width in net.sizes)


def test_views_share_the_flat_vector() -> None:
    net = Architecture.build([2, 3, 2])
    flat = np.arange(net.n_parameters, dtype=np.float32)
    weights, biases = net.views(flat)
    assert [w.tolist() for w in weights] == [[[0, 1, 2], [3, 4, 5]], [[9, 10], [11, 12], [13, 14]]]
    assert [b.tolist() for b in biases] == [[6, 7, 8], [15, 16]]
    weights[1][0, 0] = -1
    assert flat[9] == -1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [3]}, "sizes: found"),
        ({"sizes": [3, 0]}, "sizes: found"),
        ({"sizes": [3, 2.5]}, "sizes: found"),
        ({"sizes": [3, 16.0, 2]}, r"sizes: found \[3, 16.0, 2\], expected .* whole numbers of 1"),
        ({"sizes": [3, True, 2]}, r"sizes: found \[3, True, 2\], expected"),
        ({"sizes": [3, np.True_, 2]}, "sizes: found"),
        ({"sizes": [3, float("inf")]}, "sizes: found"),
        ({"sizes": "3-2"}, "sizes: found"),
        ({"sizes": None}, "sizes: found None"),
        ({"activation": "rleu"}, "activation: found 'rleu'.*did you mean 'relu'"),
        ({"activation": ["relu", "Leaky-ReLU"]}, r"activation\[1\].*did you mean 'leaky_relu'"),
        ({"activation": ["relu"]}, "activation: found 1 names, expected one or 2"),
        ({"activation": "softmax"}, "activation: found 'softmax'"),
        ({"output": "softmaxx"}, "output: found 'softmaxx'.*did you mean 'softmax'"),
        ({"output": "sigmoid"}, "output: found 'sigmoid', expected 'softmax'"),
        ({"loss": "mse", "output": "softmax", "sizes": [3, 4, 4, 1]}, "output: found 'softmax'"),
        ({"loss": "cross-entropy"}, "loss: found 'cross-entropy'.*mean 'cross_entropy'"),
        ({"sizes": [3, 4, 4, 1]}, "sizes: found 1 output.*binary_cross_entropy"),
        ({"dropout": 1.0}, "dropout: found 1.0, expected probabilities in"),
        ({"dropout": float("nan")}, "dropout: found nan"),
        ({"dropout": [0.1]}, "dropout: found 1 values, expected one or 2"),
        ({"dropout": [0.1, -0.1]}, "dropout: found"),
        ({"dropout": None}, "dropout: found None"),
        ({"dtype": "float16"}, "dtype: found 'float16'"),
        ({"dtype": None}, "dtype: found 'None'"),
        ({"dtype": "flaot32"}, "dtype: found 'flaot32'.*did you mean 'float32'"),
    ],
)
def test_wrong_architectures_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture.build(**{"sizes": [3, 4, 4, 2], **arguments})


def test_activation_of_a_wrong_type() -> None:
    with pytest.raises(
        TypeError, match="activation: found None, expected a name, a pynn.Activation"
    ):
        Architecture.build([3, 4, 2], activation=None)  # type: ignore[arg-type]


def test_a_dropout_that_no_layer_uses_is_checked_too() -> None:
    with pytest.raises(ValueError, match="dropout: found 2"):
        Architecture.build([3, 2], dropout=2)


# --- Optimizers and schedules by name -------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_by_name(name: str) -> None:
    assert as_optimizer(name) == OPTIMIZERS[name]()
    assert as_optimizer(OPTIMIZERS[name]()).name == name


def test_optimizers_are_frozen_and_compare_by_settings() -> None:
    assert pynn.Adam(beta2=0.99) == pynn.Adam(beta2=0.99) != pynn.Adam()
    assert pynn.Adam() != pynn.AdamW()
    with pytest.raises(FrozenInstanceError):
        pynn.Adam().beta1 = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_optimizer("adamm"), "optimizer: found 'adamm'.*did you mean 'adam"),
        (lambda: as_optimizer(None), "optimizer: found None"),  # type: ignore[arg-type]
        (lambda: pynn.Adam(beta1=1.0), r"Adam.beta1: found 1.0, expected a number in \[0, 1\)"),
        (lambda: pynn.Momentum(momentum=-0.1), "Momentum.momentum: found -0.1"),
        (lambda: pynn.RMSProp(rho=float("nan")), "RMSProp.rho: found nan"),
        (lambda: pynn.AdamW(weight_decay=-1), "AdamW.weight_decay: found -1"),
        (lambda: pynn.Adagrad(epsilon="small"), "Adagrad.epsilon: found 'small'"),  # type: ignore[arg-type]
        (lambda: as_schedule("cosin"), "schedule: found 'cosin'.*did you mean 'cosine'"),
        (lambda: pynn.StepDecay(every=0), "StepDecay.every: found 0"),
        (lambda: pynn.Exponential(factor=-1), "Exponential.factor: found -1"),
        (lambda: pynn.OneCycle(warmup=1.5), "OneCycle.warmup: found 1.5"),
        (lambda: pynn.WarmUp(after="cosine"), "WarmUp.after: found 'cosine'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_of_optimizers_and_schedules_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_class_in_place_of_an_object_is_refused() -> None:
    with pytest.raises(TypeError, match=r"optimizer: found the class Adam, .*Adam\(\)"):
        as_optimizer(pynn.Adam)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"schedule: found the class Cosine"):
        as_schedule(pynn.Cosine)  # type: ignore[arg-type]


# --- Schedules ------------------------------------------------------------------------------------


def at(schedule: Schedule, *epochs: float, start: float = 0, stop: float = 10) -> list[float]:
    found = schedule.factors(np.array(epochs, dtype=np.float64), start, stop)
    assert found.dtype == np.float64
    return [round(f, 12) for f in found.tolist()]


def test_schedules_at_known_points() -> None:
    assert at(pynn.Constant(), 0, 3.5, 99) == [1, 1, 1]
    assert at(pynn.StepDecay(every=2, factor=0.5), 0, 1.99, 2, 4.5) == [1, 1, 0.5, 0.25]
    assert at(pynn.Exponential(0.81), 0, 0.5, 1, 2) == [1, 0.9, 0.81, 0.6561]
    assert at(pynn.InverseTime(0.5), 0, 2, 8) == [1, 0.5, 0.2]
    assert at(pynn.Cosine(), 0, 5, 10) == [1, 0.5, 0]
    assert at(pynn.Cosine(final=0.2), 20, 25, 30, start=20, stop=30) == [1, 0.6, 0.2]
    cycle = pynn.OneCycle(warmup=0.2, initial=0.1, final=0.0)
    assert at(cycle, 0, 1, 2, 6, 10) == [0.1, 0.55, 1, 0.5, 0]
    assert at(pynn.WarmUp(2), 0, 0.5, 2, 7) == [0, 0.25, 1, 1]
    assert at(pynn.WarmUp(0), 0, 7) == [1, 1]
    assert at(pynn.WarmUp(2, pynn.InverseTime(1)), 1, 3) == [0.25, 0.25]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_by_name(name: str) -> None:
    schedule = as_schedule(name)
    assert schedule == SCHEDULES[name]()
    factors = schedule.factors(np.linspace(0, 9.9, 100), 0, 10)
    assert factors.shape == (100,)
    assert factors.min() >= 0
    assert factors.max() <= 1


def test_no_schedule_is_the_constant_one() -> None:
    assert as_schedule(None) == pynn.Constant()


def test_every_optimizer_states_its_number_of_slots() -> None:
    slots = {name: kind().slots for name, kind in OPTIMIZERS.items()}
    assert slots == {
        "sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "adagrad": 1, "adam": 2,
        "adam_hat": 2, "adamw": 2, "amsgrad": 3, "nadam": 2, "lion": 1,
    }  # fmt: skip
    forms = [{"momentum": 0.5}, {"centered": True}, {"momentum": 0.5, "centered": True}]
    assert [pynn.RMSProp(**form).slots for form in forms] == [2, 2, 3]
    assert all(issubclass(kind, Optimizer) for kind in OPTIMIZERS.values())
