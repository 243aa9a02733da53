"""Network: what a user sees, on the reference backend."""

from __future__ import annotations

import copy
import io
import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose, reference
from pynn.files.tensors import load_tensors, save_tensors
from pynn.spec import philox
from pynn.training import initialise, progress
from pynn.training.history import Record

Data = tuple[np.ndarray, np.ndarray]


def make(sizes: tuple[int, ...] = (4, 8, 3), **settings: Any) -> pynn.Network:
    return pynn.Network(sizes, **{"backend": "numpy", "seed": 3, **settings})


def quiet(net: pynn.Network, data: Data, **settings: Any) -> pynn.History:
    return net.fit(*data, **{"batch_size": 16, "learning_rate": 0.01, "epochs": 3, **settings})


# --- Construction ---------------------------------------------------------------------------------


def test_fitted_attributes_are_those_of_scikit_learn(net: pynn.Network) -> None:
    assert net.sizes == (4, 8, 3)
    assert net.seed == 3
    assert net.backend == "numpy"
    assert net.threads == 1
    assert net.dtype == np.float32
    assert net.epochs == net.updates == len(net.history) == 0
    assert net.classes is not None
    assert net.classes.tolist() == [0, 1, 2]
    assert repr(net) == (
        "Network(4-8-3, relu, softmax, cross_entropy, float32, seed 3, numpy with 1 thread)"
    )


def test_parameters_are_one_aligned_vector_and_its_views(net: pynn.Network) -> None:
    assert net.parameters.shape == (4 * 8 + 8 + 8 * 3 + 3,)
    assert net.parameters.ctypes.data % 64 == 0
    assert [w.shape for w in net.weights] == [(4, 8), (8, 3)]
    assert [b.shape for b in net.biases] == [(8,), (3,)]
    net.weights[1][0, 2] = 42
    assert net.parameters[4 * 8 + 8 + 2] == 42
    net.parameters[-1] = -42
    assert net.biases[1][2] == -42


def test_setting_parameters_copies(net: pynn.Network) -> None:
    values = np.arange(67, dtype=np.float64)
    net.parameters = values
    assert net.weights[0][0, 1] == 1
    values[1] = 9
    assert net.weights[0][0, 1] == 1


@pytest.mark.parametrize(
    ("name", "shapes"), [("weights", [(4, 8), (8, 3)]), ("biases", [(8,), (3,)])]
)
def test_setting_weights_and_biases_copies_all_or_none(name: str, shapes: list[Any]) -> None:
    net = pynn.Network([4, 8, 3], backend="numpy", seed=0)
    values: list[Any] = [np.full(shape, k + 0.5) for k, shape in enumerate(shapes)]
    setattr(net, name, [values[0].tolist(), values[1]])
    assert all((a == b).all() for a, b in zip(getattr(net, name), values, strict=True))
    before = net.parameters.copy()
    assert 0.5 in before
    assert 1.5 in before
    square = pynn.Network([4, 4, 4], backend="numpy", seed=0)
    first, second = (a.copy() for a in getattr(square, name))
    first += 1  # biases begin as zeros
    setattr(square, name, [first, second])
    setattr(square, name, getattr(square, name)[::-1])
    assert [a.tolist() for a in getattr(square, name)] == [second.tolist(), first.tolist()]
    values[0] = values[0] + 1
    turned = values[0].T if name == "weights" else values[0][1:]
    hint = r"\(8, 4\), expected \(4, 8\), \(inputs, outputs\): take the transpose"
    for wrong, error, message in [
        (values[:1], ValueError, f"{name}: found 1, expected a list of 2 arrays"),
        (values[0], ValueError, f"{name}: found ndarray, expected a list of 2 arrays"),
        (
            [turned, values[1]],
            ValueError,
            hint if name == "weights" else r"biases\[0\]: found shape",
        ),
        ([values[0], values[1] * np.nan], ValueError, rf"{name}\[1\]: found nan"),
        ([values[0], None], TypeError, rf"{name}\[1\]: found"),
    ]:
        with pytest.raises(error, match=message):
            setattr(net, name, wrong)
        assert net.parameters.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros(66), ValueError, r"parameters: found shape \(66,\), expected \(67,\)"),
        (np.zeros((67, 1)), ValueError, "parameters: found shape"),
        (np.full(67, np.nan), ValueError, "parameters: found nan at row 0"),
        (np.full(67, "a"), TypeError, "parameters: found dtype"),
    ],
)
def test_wrong_parameters_are_refused(
    net: pynn.Network, values: np.ndarray, error: type[Exception], message: str
) -> None:
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        net.parameters = values
    assert (net.parameters == before).all()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"backend": "numppy"}, ValueError, "backend: found 'numppy'.*did you mean 'numpy'"),
        ({"threads": 0}, ValueError, "threads: found 0, expected a whole number from 1 to 4096"),
        ({"threads": 100_000}, ValueError, "threads: found 100000, expected .* from 1 to 4096"),
        ({"threads": 2**70}, ValueError, f"threads: found {2**70}, expected .* from 1 to 4096"),
        ({"threads": True}, ValueError, "threads: found True"),
        ({"seed": -1}, ValueError, "seed: found -1, expected a whole number from 0 to"),
        ({"seed": 2**64}, ValueError, "seed: found 18446744073709551616"),
        ({"seed": 1.5}, ValueError, "seed: found 1.5"),
        ({"init": "he_norml"}, ValueError, "init: found 'he_norml'.*did you mean 'he_normal'"),
        ({"init": ["zeros"]}, ValueError, "init: found 1 names, expected one or 2"),
        ({"init": 0.1}, TypeError, "init: found 0.1"),
        ({"activation": "tahn"}, ValueError, "activation: found 'tahn'.*did you mean 'tanh'"),
    ],
)
def test_wrong_arguments_of_a_network_are_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(**settings)


@pytest.mark.parametrize("width", [2**57, 2**70])
def test_more_parameters_than_memory(width: int) -> None:
    count = f"{4 * width + width + 3 * width + 3:,}"
    with pytest.raises(MemoryError, match=rf"sizes: found \[4, {width}, 3\].* {count} .*GiB"):
        make((4, width, 3))


def test_no_seed_draws_one() -> None:
    a, b = make(seed=None), make(seed=None)
    assert a.seed != b.seed
    assert (make(seed=a.seed).parameters == a.parameters).all()


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("he_normal", math.sqrt(2 / 300)),
        ("he_uniform", math.sqrt(2 / 300)),
        ("glorot_normal", math.sqrt(2 / 500)),
        ("glorot_uniform", math.sqrt(2 / 500)),
        ("lecun_normal", math.sqrt(1 / 300)),
        ("lecun_uniform", math.sqrt(1 / 300)),
        ("normal", 1.0),
    ],
)
def test_initial_weights_have_their_spread(name: str, scale: float) -> None:
    net = make((300, 200, 3), init=name, dtype="float64")
    w, b = net.weights[0], net.biases[0]
    assert abs(w.std() / scale - 1) < 0.01  # 3.5 standard deviations for 60,000 weights
    assert abs(w.mean()) < 0.02 * scale
    tail = np.abs(w).max() / scale
    assert tail <= math.sqrt(3) if name.endswith("uniform") else tail > 3.5
    if name == "normal":
        assert abs(b.std() - 1) < 0.2
    else:
        assert (b == 0).all()


def test_initialisers_by_layer() -> None:
    assert initialise.names(make((4, 5, 6, 3), activation=["elu", "tanh"]).architecture, None) == [
        "he_normal", "glorot_uniform", "glorot_uniform",
    ]  # fmt: skip
    net = make(init=["zeros", None])
    assert (net.weights[0] == 0).all()
    assert (net.weights[1] != 0).all()
    # A layer's weights are its own stream: the others do not change them.
    assert (net.weights[1] == make().weights[1]).all()


def test_dtype_rounds_the_same_draw() -> None:
    single, double = make(), make(dtype="float64")
    assert (double.parameters.astype(np.float32) == single.parameters).all()
    expected = philox.normal(3, 32, philox.INITIAL).reshape(4, 8) * math.sqrt(2 / 4)
    assert (double.weights[0] == expected).all()


# --- Fit, evaluate, predict -----------------------------------------------------------------------


def test_learns_and_tells(net: pynn.Network, blobs: Data) -> None:
    x, y = blobs
    history = quiet(net, blobs, epochs=20, validation=(x, y))
    assert len(history) == 20
    assert history.epoch == list(range(1, 21))
    assert history.loss[-1] < 0.2 < history.loss[0]
    assert history[-1].accuracy is not None
    assert history[-1].accuracy > 0.95
    found = net.evaluate(x, y)
    assert found == {
        "loss": history[-1].validation_loss,
        "accuracy": history[-1].validation_accuracy,
    }
    assert found["accuracy"] == (net.predict(x) == y).mean()
    proba = net.predict_proba(x)
    assert proba.shape == (150, 3)
    assert proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
    assert net.predict(x).dtype == np.int64
    assert all(s > 0 for s in history.seconds)
    assert history[0].samples_per_second == pytest.approx(150 / history[0].seconds)


def test_record_is_the_mean_over_the_epoch(blobs: Data) -> None:
    x, y = blobs
    net = make()
    before = net.evaluate(x, y)
    record = quiet(net, blobs, epochs=1, batch_size=None, learning_rate=0.5)[0]
    assert record.loss == pytest.approx(before["loss"])
    assert record.accuracy == before["accuracy"]
    assert (record.step, record.steps, record.learning_rate) == (1, 1, 0.5)


def test_same_seed_gives_identical_results(blobs: Data) -> None:
    nets = [make(dropout=0.2, seed=s) for s in (1, 1, 2)]
    histories = [quiet(net, blobs) for net in nets]
    assert (nets[0].parameters == nets[1].parameters).all()
    assert histories[0].loss == histories[1].loss
    assert not (nets[0].parameters == nets[2].parameters).any()


@pytest.mark.parametrize("validation", [None, 0.2])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
@pytest.mark.parametrize("schedule", [None, "exponential", "inverse_time", pynn.WarmUp(6)])
def test_fit_twice_is_fit_once(
    blobs: Data, optimizer: str, schedule: Any, validation: float | None
) -> None:
    settings = {"optimizer": optimizer, "schedule": schedule, "validation": validation}
    once, twice = make(dropout=0.3), make(dropout=0.3)
    whole = quiet(once, blobs, epochs=10, **settings)
    first = quiet(twice, blobs, epochs=5, **settings)
    second = quiet(twice, blobs, epochs=5, **settings)
    assert once.parameters.tobytes() == twice.parameters.tobytes()
    assert (len(first), len(second)) == (5, 5)
    assert twice.history.loss == whole.loss == first.loss + second.loss
    assert twice.history.learning_rate == whole.learning_rate
    assert twice.history.validation_loss == whole.validation_loss
    assert once.epochs == twice.epochs == 10
    assert once.updates == twice.updates == 10 * (10 if validation is None else 8)


def test_another_optimizer_starts_afresh(blobs: Data) -> None:
    net = make()
    quiet(net, blobs, optimizer="adam")
    start = net.parameters.copy()
    quiet(net, blobs, optimizer=pynn.Adam(beta2=0.99), shuffle=False, epochs=1)
    fresh = make()
    fresh.parameters = start
    quiet(fresh, blobs, optimizer=pynn.Adam(beta2=0.99), shuffle=False, epochs=1)
    assert (net.parameters == fresh.parameters).all()


@pytest.mark.parametrize("batch_size", [None, "full", 150, 1000])
def test_full_batch(blobs: Data, batch_size: Any) -> None:
    net = make(dtype="float64")
    start = net.parameters.copy()
    x, y = blobs
    _, gradient = net.loss_and_gradient(x, y, l2=0.1)
    quiet(net, blobs, batch_size=batch_size, epochs=1, optimizer="sgd", l2=0.1, learning_rate=0.5)
    assert net.updates == 1
    np.testing.assert_allclose(net.parameters, start - 0.5 * gradient, atol=1e-12)


def test_loss_and_gradient(net: pynn.Network, blobs: Data) -> None:
    loss, gradient = net.loss_and_gradient(*blobs)
    assert loss == pytest.approx(net.evaluate(*blobs)["loss"])
    assert gradient.shape == net.parameters.shape
    assert gradient.dtype == np.float32
    assert not np.shares_memory(gradient, net.parameters)
    with pytest.raises(ValueError, match="l2: found -1"):
        net.loss_and_gradient(*blobs, l2=-1)


def test_schedules_reach_the_record(blobs: Data) -> None:
    net = make()
    history = quiet(net, blobs, schedule=lambda epoch: 1 / (1 + epoch), batch_size=None)
    assert history.learning_rate == pytest.approx([0.01, 0.005, 0.01 / 3])
    again = quiet(net, blobs, schedule="one_cycle", batch_size=None, epochs=10)
    assert again.learning_rate[:2] == pytest.approx([0.01 * 0.04, 0.01])


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_schedule_that_is_no_factor(net: pynn.Network, blobs: Data, factor: float) -> None:
    with pytest.raises(ValueError, match="schedule: found factors .* expected 10 finite numbers"):
        quiet(net, blobs, schedule=lambda epoch: factor)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda epoch: "0.5", "schedule: found '0.5' from <function .* at 0 epochs, expected a nu"),
        (lambda epoch: None, "schedule: found None from"),
        (lambda epoch: [1, 1], r"schedule: found \[1, 1\] from"),
        (lambda: 1, r"schedule: found <function .*, which takes \(\), expected .* of one argument"),
        (lambda epoch, step: 1, r"schedule: found .*, which takes \(epoch, step\), expected"),
    ],
)
def test_schedule_that_is_no_function_of_time(
    net: pynn.Network, blobs: Data, schedule: Any, message: str, checkpoint: bool, tmp_path: Path
) -> None:
    kept = pynn.Checkpoint(tmp_path / "a", steps=1) if checkpoint else None
    with pytest.raises(TypeError, match=message):
        quiet(net, blobs, schedule=schedule, checkpoint=kept)
    assert net.updates == 0
    assert len(quiet(net, blobs, schedule=np.exp2, epochs=1)) == 1


def test_an_error_of_a_schedule_is_passed_on(net: pynn.Network, blobs: Data) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        quiet(net, blobs, schedule=lambda epoch: epoch + "a")


def test_no_epochs(net: pynn.Network, blobs: Data) -> None:
    start = net.parameters.copy()
    assert len(quiet(net, blobs, epochs=0)) == 0
    assert (net.parameters == start).all()


# --- Kinds of y -----------------------------------------------------------------------------------


def test_any_labels(net: pynn.Network, blobs: Data) -> None:
    x, y = blobs
    names = np.array(["rook", "ant", "bee"])[y]
    twin = make()
    quiet(net, (x, names), epochs=20)
    assert net.classes is not None
    assert net.classes.tolist() == ["ant", "bee", "rook"]
    assert (net.predict(x) == names).mean() > 0.95
    assert net.evaluate(x, names)["accuracy"] > 0.95
    with pytest.raises(ValueError, match="y: found the label 'cat' at row 0, expected one of"):
        net.evaluate(x[:1], ["cat"])
    with pytest.raises(ValueError, match=r"validation\[1\]: found the label 'cat'"):
        quiet(net, (x, names), validation=(x[:1], ["cat"]))
    # The same classes as numbers train to the same bits.
    quiet(twin, (x, np.array([2, 0, 1])[y]), epochs=20)
    assert (twin.parameters == net.parameters).all()


def test_classes_named_later(net: pynn.Network, blobs: Data) -> None:
    quiet(net, blobs, epochs=20)
    net.classes = ["rook", "ant", "bee"]
    assert net.predict(blobs[0])[:3].tolist() == ["rook", "ant", "bee"]
    assert net.evaluate(blobs[0][:3], ["rook", "ant", "bee"])["accuracy"] == 1


def test_one_hot_is_labels(blobs: Data) -> None:
    x, y = blobs
    for loss in ("cross_entropy", "binary_cross_entropy", "mse"):
        a, b = make(loss=loss), make(loss=loss)
        quiet(a, (x, y))
        quiet(b, (x, np.eye(3)[y]))
        assert (a.parameters == b.parameters).all()
        assert a.predict(x[:5]).dtype == b.predict(x[:5]).dtype == np.int64


@pytest.mark.parametrize("validation", [None, 0.2])
def test_label_smoothing(blobs: Data, validation: float | None) -> None:
    x, y = blobs
    smooth, soft, one_hot = make(), make(), make()
    history = quiet(smooth, blobs, label_smoothing=0.3, validation=validation)
    targets = (np.full((len(y), 3), 0.1) + 0.7 * np.eye(3)[y]).astype(np.float32)
    same = quiet(soft, (x, targets), validation=validation)
    np.testing.assert_allclose(smooth.parameters, soft.parameters, atol=1e-6)
    np.testing.assert_allclose(history.loss, same.loss, rtol=1e-5)
    assert history.accuracy == same.accuracy
    quiet(one_hot, (x, np.eye(3)[y]), label_smoothing=0.3, validation=validation)
    assert one_hot.parameters.tobytes() == smooth.parameters.tobytes()
    if validation:
        # Those held out are as they are.
        out = philox.held_out(smooth.seed, len(x), round(validation * len(x)))
        found = smooth.evaluate(x[out], y[out])
        assert history[-1].validation_loss == pytest.approx(found["loss"])
    assert smooth.classes is not None
    assert smooth.classes.tolist() == [0, 1, 2]


def test_label_smoothing_is_for_cross_entropy(blobs: Data) -> None:
    net = make(loss="binary_cross_entropy")
    with pytest.raises(ValueError, match="label_smoothing: found 0.1 with loss 'binary_cross_ent"):
        quiet(net, (blobs[0], np.eye(3)[blobs[1]]), label_smoothing=0.1)
    assert net.updates == 0


def test_soft_targets(net: pynn.Network, blobs: Data) -> None:
    x, y = blobs
    soft = 0.1 / 3 + 0.9 * np.eye(3)[y]
    history = quiet(net, (x, soft), epochs=20, validation=(x, soft))
    assert history[-1].validation_accuracy is not None
    assert history[-1].validation_accuracy > 0.95
    assert (net.predict(x) == y).mean() > 0.95


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], ["no", "yes"], [False, True]])
def test_one_sigmoid_output(blobs: Data, labels: list[Any]) -> None:
    x, y = blobs
    y = np.array(labels)[(y == 1).astype(int)]
    net = make((4, 8, 1), loss="binary_cross_entropy")
    quiet(net, (x, y), epochs=30)
    proba = net.predict_proba(x)
    assert proba.shape == (150, 2)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
    assert (net.predict(x) == y).mean() > 0.95
    assert (net.predict(x) == np.array(labels)[proba.argmax(1)]).all()
    assert net.evaluate(x, y)["accuracy"] == (net.predict(x) == y).mean()


def test_multilabel(blobs: Data) -> None:
    x, y = blobs
    many = np.stack([y == 0, y != 1, y < 9], axis=1)
    net = make(loss="binary_cross_entropy")
    quiet(net, (x, many), epochs=30)
    found = net.predict(x)
    assert found.dtype == np.int64
    assert found.shape == (150, 3)
    assert net.classes is None
    assert net.evaluate(x, many)["accuracy"] == pytest.approx((found == many).mean())
    assert net.predict_proba(x).shape == (150, 3)
    # The first row alone would be one-hot.
    assert net.evaluate(x[1:2], [[False, False, True]])["accuracy"] == pytest.approx(
        (found[1] == [0, 0, 1]).mean()
    )
    with pytest.raises(
        ValueError, match=r"validation\[1\]: found targets for labels, expected mul"
    ):
        quiet(net, (x, many), validation=(x, y))


def test_regression(rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, 4))
    y = x @ [1.0, -2.0, 0.5, 0.0] + 3
    net = make((4, 1), loss="mse")
    history = quiet(net, (x, y), epochs=150, validation=0.2, learning_rate=0.03)
    assert history.accuracy == [None] * 150
    assert history[-1].validation_loss is not None
    assert history[-1].validation_loss < 1e-3
    assert net.predict(x).shape == (200,)
    assert net.predict(x).dtype == np.float32
    assert set(net.evaluate(x, y)) == {"loss"}
    assert net.evaluate(x, y)["loss"] == pytest.approx(((net.predict(x) - y) ** 2).mean(), rel=1e-3)
    with pytest.raises(ValueError, match="predict_proba: found a network for regression"):
        net.predict_proba(x)
    quiet(net, (x, y[:, None]))
    assert net.predict(x).shape == (200, 1)
    wide = make((4, 2), loss="mse")
    quiet(wide, (x, np.stack([y, -y], 1)))
    assert wide.predict(x).shape == (200, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_are_scaled(dtype: str, rng: np.random.Generator) -> None:
    x, y = rng.integers(0, 256, (40, 2, 2), dtype=np.uint8), rng.integers(0, 3, 40)
    a, b = make(dtype=dtype), make(dtype=dtype)
    quiet(a, (x, y))
    quiet(b, (x.reshape(40, 4).astype(dtype) * np.dtype(dtype).type(1 / 255), y))
    np.testing.assert_allclose(a.parameters, b.parameters, rtol=1e-5, atol=1e-6)


def test_inputs_are_left_alone(net: pynn.Network, blobs: Data) -> None:
    x, y = (a.copy() for a in blobs)
    for a in (x, y):
        a.flags.writeable = False
    quiet(net, (x, y), validation=0.2)
    assert (x == blobs[0]).all()
    assert (y == blobs[1]).all()


# --- Validation -----------------------------------------------------------------------------------


def test_held_out_rows_are_not_trained_on(blobs: Data) -> None:
    x, y = blobs
    out = np.zeros(150, bool)
    words = philox.words(3, 150, 0, 0xFFFFFFFF)
    out[np.argsort(words, kind="stable")[:30]] = True
    a, b = make(), make()
    found = quiet(a, blobs, validation=0.2)
    expected = quiet(b, (x[~out], y[~out]), validation=(x[out], y[out]))
    assert (a.parameters == b.parameters).all()
    assert found.validation_loss == expected.validation_loss
    assert len(set(np.flatnonzero(out) // 50)) == 3  # from all over the data


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (False, "validation: found False, expected a pair .*, or None"),
        (-0.1, "validation: found -0.1, expected"),
        (1.0, "validation: found 1.0"),
        (math.nan, "validation: found nan"),
        (1, "validation: found 1, expected"),
        ("10%", "validation: found '10%'"),
        ((1, 2, 3), "validation: found a tuple of 3, expected a pair"),
        (0.001, "validation: found the share 0.001, which is 0 of 150 rows"),
        (0.999, "validation: found the share 0.999, which is 150 of 150 rows"),
        ((np.zeros((5, 3)), np.zeros(5)), r"validation\[0\]: found 3 values in a row"),
        ((np.zeros((5, 4)), np.zeros(4)), r"validation\[1\]: found 4 rows, expected 5"),
        ((np.zeros((1, 4)), [7]), r"validation\[1\]: found the label 7"),
        ((np.full((1, 4), np.nan), [0]), r"validation\[0\]: found nan"),
    ],
)
def test_wrong_validation_data_are_refused(
    net: pynn.Network, blobs: Data, validation: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quiet(net, blobs, validation=validation)


@pytest.mark.parametrize("validation", [0, 0.0, np.float32(0)])
def test_nothing_is_held_out(net: pynn.Network, blobs: Data, validation: Any) -> None:
    twin = make(seed=net.seed)
    quiet(twin, blobs)
    assert quiet(net, blobs, validation=validation).validation_loss == [None] * 3
    assert (net.parameters == twin.parameters).all()
    with pytest.raises(ValueError, match="no validation data"):
        quiet(net, blobs, validation=validation, callbacks=pynn.EarlyStopping())


# --- Errors leave the network as it was -----------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"x": np.zeros((150, 5))}, ValueError, "x: found 5 values in a row"),
        ({"x": np.zeros((0, 4)), "y": []}, ValueError, "x: found no rows"),
        ({"x": np.full((150, 4), np.nan)}, ValueError, "x: found nan at row 0, column 0"),
        ({"y": np.zeros(149)}, ValueError, "y: found 149 rows, expected 150"),
        ({"y": ["a", "b"] * 75}, ValueError, "y: found 2 different labels"),
        ({"epochs": -1}, ValueError, "epochs: found -1"),
        ({"epochs": 1.5}, ValueError, "epochs: found 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size: found 0"),
        ({"batch_size": -1}, ValueError, "batch_size: found -1"),
        ({"batch_size": True}, ValueError, "batch_size: found True"),
        ({"batch_size": 2.5}, ValueError, "batch_size: found 2.5"),
        ({"optimizer": "addam"}, ValueError, "optimizer: found 'addam'.*did you mean 'adam"),
        ({"optimizer": pynn.Adam}, TypeError, "optimizer: found the class Adam"),
        ({"learning_rate": 0}, ValueError, "learning_rate: found 0, expected .* above 0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate: found nan"),
        ({"l2": -0.1}, ValueError, "l2: found -0.1, expected a finite number of 0 or more"),
        ({"label_smoothing": 1.0}, ValueError, "label_smoothing: found 1.0, expected a number in"),
        ({"label_smoothing": -1}, ValueError, "label_smoothing: found -1, expected a finite num"),
        ({"schedule": "cosyne"}, ValueError, "schedule: found 'cosyne'.*did you mean 'cosine'"),
        ({"schedule": pynn.Cosine}, TypeError, "schedule: found the class Cosine"),
        ({"shuffle": "no"}, TypeError, "shuffle: found 'no', expected True, False or 'blocks'"),
        ({"callbacks": [3]}, TypeError, "callbacks: found 3, expected functions"),
        ({"callbacks": pynn.EarlyStopping}, TypeError, "callbacks: found <class"),
        ({"progress": "atuo"}, ValueError, "progress: found 'atuo'.*did you mean 'auto'"),
        ({"progress": "x"}, ValueError, "progress: found 'x', .* auto, True, False or a function"),
        ({"progress": 3}, ValueError, "progress: found 3, .* auto, True, False or a function"),
        (
            {"callbacks": pynn.EarlyStopping()},
            ValueError,
            "callbacks: found EarlyStopping on 'validation_loss' but no validation data",
        ),
    ],
)
def test_wrong_arguments_of_fit_are_refused(
    net: pynn.Network,
    blobs: Data,
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    before = net.parameters.copy()
    x, y = settings.pop("x", blobs[0]), settings.pop("y", blobs[1])
    with pytest.raises(error, match=message):
        quiet(net, (x, y), **settings)
    assert (net.parameters == before).all()
    assert net.parameters.flags.writeable
    assert len(net.history) == net.updates == net.epochs == 0
    assert len(quiet(net, blobs)) == 3


@pytest.mark.parametrize(
    ("sizes", "loss", "y"),
    [
        ((4, 8, 3), "cross_entropy", None),
        ((4, 1), "binary_cross_entropy", None),
        ((4, 2), "binary_cross_entropy", np.ones((150, 2))),
    ],
    ids=["classes", "yes or no", "multilabel"],
)
def test_labels_of_outputs_that_are_not_finite(
    blobs: Data, sizes: tuple[int, ...], loss: str, y: Any
) -> None:
    x = blobs[0]
    net = make(sizes, loss=loss)
    if y is not None:
        quiet(net, (x, y), epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.predict(x)
        values = make(sizes, loss="mse")
        values.biases[-1][0] = np.nan
        values.predict(x)  # shows it itself
    net.biases[-1][-1] = np.nan
    last = 0 if len(sizes) == 3 else sizes[-1] - 1
    with pytest.warns(RuntimeWarning, match=f"predict: found nan at row 0, output {last} ") as told:
        assert len(net.predict(x)) == 150
    assert [w.filename for w in told] == [__file__]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_the_first_row_without_a_label_is_named(blobs: Data) -> None:
    net, x = make((4, 3)), blobs[0].copy()
    net.weights[0][...] = 2
    x[[5, 9]] = np.finfo(np.float32).max
    with pytest.warns(RuntimeWarning, match="predict: found nan at row 5, output 0 "):
        net.predict(x)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_wrong_arguments_of_predict_are_refused(net: pynn.Network, method: str) -> None:
    with pytest.raises(ValueError, match=r"x: found shape \(4,\).*x\[None, :\]"):
        getattr(net, method)(np.zeros(4))
    with pytest.raises(ValueError, match="x: found no rows"):
        getattr(net, method)(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="x: found inf"):
        getattr(net, method)(np.full((1, 4), np.inf))


# --- Callbacks ------------------------------------------------------------------------------------


def test_function_as_callback(net: pynn.Network, blobs: Data) -> None:
    seen: list[tuple[int, float, float]] = []

    def look(n: pynn.Network, record: Record) -> bool | None:
        seen.append((record.epoch, record.loss, n.evaluate(*blobs)["loss"]))
        return record.epoch == 4

    history = quiet(net, blobs, epochs=50, callbacks=look)
    assert [s[0] for s in seen] == [1, 2, 3, 4]
    assert [s[1] for s in seen] == history.loss
    assert seen[-1][2] == net.evaluate(*blobs)["loss"]
    assert len({s[2] for s in seen}) == 4
    # Watching changes nothing.
    twin = make()
    quiet(twin, blobs, epochs=4)
    assert (twin.parameters == net.parameters).all()


def test_callback_object(net: pynn.Network, blobs: Data) -> None:
    calls: list[str] = []

    class Watch(pynn.Callback):
        steps = 7

        def on_fit_begin(self, net: pynn.Network) -> None:
            calls.append("begin")

        def on_steps(self, net: pynn.Network, record: Record) -> None:
            calls.append(f"{net.updates}:{record.step}")

        def on_epoch_end(self, net: pynn.Network, record: Record) -> None:
            calls.append(f"epoch {record.epoch}")

        def on_fit_end(self, net: pynn.Network) -> None:
            calls.append("end")

    quiet(net, blobs, epochs=2, callbacks=[Watch()])
    assert calls == ["begin", "7:7", "epoch 1", "14:4", "epoch 2", "end"]


def test_callbacks_every_n_steps_do_not_change_results(blobs: Data) -> None:
    a, b = make(dropout=0.2), make(dropout=0.2)
    seen: list[tuple[int, int, int]] = []
    every = pynn.Every(3, lambda net, r: seen.append((net.updates, r.epoch, r.step)))
    with_calls = quiet(a, blobs, callbacks=every)
    without = quiet(b, blobs)
    assert a.parameters.tobytes() == b.parameters.tobytes()
    assert with_calls.loss == pytest.approx(without.loss, rel=1e-12)
    assert seen[:4] == [(3, 1, 3), (6, 1, 6), (9, 1, 9), (12, 2, 2)]
    assert len(seen) == 10


def test_stopping_between_steps(net: pynn.Network, blobs: Data) -> None:
    history = quiet(net, blobs, callbacks=pynn.Every(4, lambda n, r: n.updates == 12))
    assert net.updates == 12
    assert net.epochs == len(history) == 1
    history = quiet(net, blobs, callbacks=pynn.Every(11, lambda n, r: n.updates == 22))
    assert net.updates == 22  # the last step of an epoch, which counts
    assert net.epochs == 2
    assert history.epoch == [2]


@pytest.mark.parametrize("answer", [None, False, np.False_, 1, "stop"])
def test_only_true_stops(net: pynn.Network, blobs: Data, answer: Any) -> None:
    assert len(quiet(net, blobs, callbacks=lambda n, r: answer)) == 3


def test_parameters_are_read_only_while_training(net: pynn.Network, blobs: Data) -> None:
    def meddle(n: pynn.Network, record: Record) -> None:
        for change in (
            lambda: n.parameters.fill(0),
            lambda: n.weights[0].fill(0),
            lambda: n.biases[1].fill(0),
            lambda: setattr(n, "parameters", np.zeros(67)),
        ):
            with pytest.raises(ValueError, match="read-only"):
                change()
        with pytest.raises(RuntimeError, match="fit: found this network training already"):
            n.fit(*blobs)

    assert len(quiet(net, blobs, callbacks=meddle)) == 3
    net.parameters[:] = 1
    assert (net.weights[0] == 1).all()


def test_exception_in_a_callback(net: pynn.Network, blobs: Data) -> None:
    class Mine(Exception):
        pass

    def fail(n: pynn.Network, record: Record) -> None:
        if record.epoch == 2:
            raise Mine

    with pytest.raises(Mine):
        quiet(net, blobs, callbacks=fail)
    twin = make()
    quiet(twin, blobs, epochs=2)
    assert (net.parameters == twin.parameters).all()
    assert net.history.loss == twin.history.loss
    assert net.parameters.flags.writeable
    # It goes on from there, as if nothing had happened.
    quiet(net, blobs)
    quiet(twin, blobs)
    assert (net.parameters == twin.parameters).all()


def test_an_interrupt_between_updates_leaves_whole_epochs(net: pynn.Network, blobs: Data) -> None:
    def press(n: pynn.Network, record: Record) -> None:
        if n.updates == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quiet(net, blobs, callbacks=pynn.Every(5, press))
    assert net.updates == 15
    assert net.epochs == len(net.history) == 1
    assert np.isfinite(net.parameters).all()
    assert net.parameters.flags.writeable
    assert quiet(net, blobs).epoch == [2, 3, 4]


@pytest.mark.parametrize("call", range(1, 9))
def test_interrupt_in_the_middle_of_an_update(
    blobs: Data, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """NumPy's steps are Python, and so can be broken off between two layers, or within one."""
    net = pynn.Network([2, 5, 3], seed=1, backend="numpy")
    x, y = blobs[0][:, :2], blobs[1]
    update, calls = reference.update, 0

    def broken(optimizer: Any, w: Any, g: Any, state: Any, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4 + call:
            state[0][...] = 1
            raise KeyboardInterrupt
        update(optimizer, w, g, state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(reference, "update", broken)
        with pytest.raises(KeyboardInterrupt):
            net.fit(x, y, epochs=1, batch_size=30, progress=False)
    whole = 1 + (call - 1) // 4
    assert net.updates == whole
    twin = pynn.Network([2, 5, 3], seed=1, backend="numpy")
    with pytest.raises(ZeroDivisionError):
        twin.fit(
            x, y, batch_size=30, progress=False, callbacks=pynn.Every(whole, lambda n, r: 1 / 0)
        )
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    assert [s.tobytes() for s in net._model.vectors] == [s.tobytes() for s in twin._model.vectors]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timer")
def test_ctrl_c() -> None:
    """A real signal in the middle of training, in a process of its own."""
    code = """
        import signal, numpy as np, pynn
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2000, 20)).astype("f4"), rng.integers(0, 3, 2000)
        net = pynn.Network([20, 64, 3], backend="numpy")
        start = net.parameters.copy()
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        def begin(net, record):
            if record.epoch == 1:
                signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            net.fit(x, y, epochs=10**9, callbacks=begin)
        except KeyboardInterrupt:
            assert len(net.history) == net.epochs > 0, net.epochs
            assert np.isfinite(net.parameters).all() and (net.parameters != start).any()
            assert len(net.fit(x, y, epochs=2)) == 2
            print("answered")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.stdout.strip() == "answered", done.stderr


# --- Early stopping -------------------------------------------------------------------------------


def test_stops_at_a_loss(net: pynn.Network, blobs: Data) -> None:
    stop = pynn.EarlyStopping("loss", patience=None, threshold=0.4)
    history = quiet(net, blobs, epochs=500, callbacks=stop)
    assert history.loss[-1] <= 0.4 < history.loss[-2]
    assert stop.stopped_epoch == len(history) < 500


def test_stops_at_an_accuracy(net: pynn.Network, blobs: Data) -> None:
    stop = pynn.EarlyStopping("validation_accuracy", patience=None, threshold=0.9)
    history = quiet(net, blobs, epochs=500, callbacks=[stop], validation=blobs)
    figures = [a or 0.0 for a in history.validation_accuracy]
    assert figures[-1] >= 0.9 > figures[-2]


def test_keeps_the_best(blobs: Data, rng: np.random.Generator) -> None:
    """Random labels to validate on: their loss can only rise once the others are learnt."""
    held = (rng.normal(size=(60, 4)) * 3, rng.integers(0, 3, 60))
    stop = pynn.EarlyStopping(patience=4)
    net = make()
    history = quiet(net, blobs, epochs=300, learning_rate=0.05, validation=held, callbacks=stop)
    losses = [loss or 0.0 for loss in history.validation_loss]
    best = int(np.argmin(losses))
    assert stop.best_epoch == best + 1
    assert stop.best == losses[best]
    assert stop.stopped_epoch == len(history) == best + 1 + 4
    assert net.evaluate(*held)["loss"] == losses[best]
    kept = make()
    stop = pynn.EarlyStopping(patience=4, restore_best=False)
    quiet(kept, blobs, epochs=300, learning_rate=0.05, validation=held, callbacks=stop)
    assert kept.evaluate(*held)["loss"] == losses[-1] != losses[best]


def play(stop: pynn.EarlyStopping, net: pynn.Network, losses: list[float]) -> int:
    """How many epochs with these losses it lets pass."""
    stop.on_fit_begin(net)
    for k, loss in enumerate(losses, start=1):
        if stop.on_epoch_end(net, Record(k, loss)):
            return k
    return len(losses)


def test_patience_and_min_delta(net: pynn.Network) -> None:
    stop = pynn.EarlyStopping("loss", patience=2)
    assert play(stop, net, [5, 4, 4.5, 3, 3, 3, 2]) == 6
    assert play(stop, net, [5, 4, 3, 2, 1]) == 5
    assert stop.stopped_epoch is None
    assert play(pynn.EarlyStopping("loss", 2, min_delta=1), net, [5, 4.5, 4.2, 3]) == 3
    assert play(stop, net, [math.nan, math.nan, math.nan]) == 3
    assert play(stop, net, [math.nan, 2, math.nan, 1, 1, 1, 1]) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monitor": "val_loss"}, "monitor: found 'val_loss'.*did you mean 'validation_loss'"),
        ({"patience": 0}, "patience: found 0"),
        ({"min_delta": -1}, "min_delta: found -1"),
        ({"threshold": math.nan}, "threshold: found nan"),
    ],
)
def test_wrong_settings_of_early_stopping_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pynn.EarlyStopping(**settings)


def test_regression_has_no_accuracy_to_watch(rng: np.random.Generator) -> None:
    net = make((4, 1), loss="mse")
    with pytest.raises(ValueError, match="found EarlyStopping on 'accuracy', expected a loss"):
        net.fit(rng.normal(size=(9, 4)), np.zeros(9), callbacks=pynn.EarlyStopping("accuracy"))


def test_wrong_settings_of_every_are_refused() -> None:
    with pytest.raises(ValueError, match="steps: found 0"):
        pynn.Every(0, print)
    with pytest.raises(TypeError, match="call: found None"):
        pynn.Every(1, None)  # type: ignore[arg-type]


# --- Progress -------------------------------------------------------------------------------------


def test_a_progress_function_does_not_change_results(
    blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    seen: list[Record] = []
    a, b = make(dropout=0.2), make(dropout=0.2)
    quiet(a, blobs, progress=seen.append, validation=blobs)
    quiet(b, blobs, progress=False, validation=blobs)
    assert a.parameters.tobytes() == b.parameters.tobytes()
    assert len(seen) > 10
    ends = [r for r in seen if r.step == r.steps]
    assert ends == list(a.history)
    assert all(r.validation_loss is None for r in seen if r.step < r.steps)


def test_slices_grow_to_the_interval() -> None:
    report = progress.Reporter(print)
    for _ in range(30):
        assert report.slice is not None
        report.measure(report.slice, report.slice * 1e-4)
    assert report.slice is not None
    assert 500 <= report.slice <= 2000
    report.measure(report.slice, 10.0)
    assert report.slice <= 1000


def test_nothing_is_printed_without_a_terminal(
    net: pynn.Network, blobs: Data, capfd: pytest.CaptureFixture[str]
) -> None:
    quiet(net, blobs)
    assert capfd.readouterr() == ("", "")


def test_lines(net: pynn.Network, blobs: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    quiet(net, blobs, progress=True, validation=blobs)
    lines = stderr.getvalue().splitlines()
    assert lines[0].startswith("epoch 1/3  loss ")
    assert lines[-1].startswith("epoch 3/3  loss ")  # the last is never left out
    assert "samples/s" in lines[-1]
    accuracy = net.history[-1].validation_accuracy
    assert accuracy is not None
    assert f"validation {100 * accuracy:.2f} %" in lines[-1]


def test_the_progress_bar_shows_epochs_and_loss(
    net: pynn.Network, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    quiet(net, blobs, validation=blobs)
    text = stderr.getvalue()
    assert "epoch 3/3" in text
    assert "validation" in text
    assert "samples/s" in text
    assert text.rstrip("\n").endswith("\x1b[?25h")  # the cursor is back


# --- To disk and back, copies ---------------------------------------------------------------------


def test_training_continues_exactly_after_save_and_load(tmp_path: Path, blobs: Data) -> None:
    x, y = blobs
    names = np.array(["rook", "ant", "bee"])[y]
    net = make(dropout=0.2)
    quiet(net, (x, names), validation=0.2)
    path = tmp_path / "net.safetensors"
    net.save(path)
    twin = pynn.load(path, backend="numpy")
    assert repr(twin) == repr(net)
    assert twin.parameters.tobytes() == net.parameters.tobytes()
    assert twin.history == net.history
    assert (twin.predict(x) == net.predict(x)).all()
    assert (twin.epochs, twin.updates) == (net.epochs, net.updates)
    for one in (net, twin):
        quiet(one, (x, names), validation=0.2)
    assert twin.parameters.tobytes() == net.parameters.tobytes()
    assert twin.history.loss == net.history.loss


@pytest.mark.parametrize("labels", [[3, 5, 9], [0.5, 1.5, 2.5], ["a", "ü", "c"]])
def test_classes_survive(tmp_path: Path, net: pynn.Network, blobs: Data, labels: list[Any]) -> None:
    x, y = blobs
    quiet(net, (x, np.array(labels)[y]))
    net.save(tmp_path / "net")
    classes = pynn.load(tmp_path / "net", backend="numpy").classes
    assert classes is not None
    assert net.classes is not None
    assert classes.tolist() == net.classes.tolist()
    assert classes.dtype.kind == net.classes.dtype.kind


def test_untrained_regression_and_multilabel_survive(tmp_path: Path, blobs: Data) -> None:
    x, y = blobs
    path = tmp_path / "net"
    net = make(seed=2**64 - 1)
    net.save(path)
    assert pynn.load(path, backend="numpy").seed == 2**64 - 1
    net = make((4, 1), loss="mse", output="tanh", dtype="float64")
    quiet(net, (x, y / 3))
    net.save(path)
    again = pynn.load(path, backend="numpy")
    assert (again.predict(x) == net.predict(x)).all()
    assert again.predict(x).shape == (150,)
    net = make(loss="binary_cross_entropy")
    quiet(net, (x, np.ones((150, 3))))
    net.save(path)
    assert pynn.load(path, backend="numpy").predict(x).shape == (150, 3)


def test_a_history_that_is_not_finite_survives(tmp_path: Path, net: pynn.Network) -> None:
    net.history.append(pynn.Record(1, math.nan, validation_loss=math.inf))
    net.save(tmp_path / "net")
    again = pynn.load(tmp_path / "net", backend="numpy")
    assert math.isnan(again.history.loss[0])
    assert again.history.validation_loss == [math.inf]


def change(about: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        about = about[name]
    if value is KeyError:
        del about[last]
    else:
        about[last] = value


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("architecture", KeyError, "found no 'architecture'"),
        ("architecture.sizes", [4, 9, 3], r"tensor 'weights.0': found float32 \(4, 8\), expected"),
        ("architecture.sizes", [4, 8, 3, 3], "activation: found 1 names, expected one or 2"),
        ("architecture.sizes", [10**9, 10**9, 10**9], r"'weights.0': found float32 \(4, 8\)"),
        ("architecture.dtype", "float64", "expected float64"),
        ("architecture.activations", [], "not a model that pynn can use"),
        ("architecture.activations", ["relu", "exec"], "output: found 'exec'"),
        ("architecture.loss", None, "loss: found None"),
        ("seed", -1, "seed: found -1"),
        ("epochs", 1e99, "epochs: found 1e.99"),
        ("task.kind", "magic", "task: found 'magic'"),
        ("task.classes", None, "task: found 'labels' with classes None"),
        ("task.classes", ["a", "b"], "classes: found 2"),
        ("task", 3, "not a model that pynn can use"),
        ("optimizer.name", "adam9", "optimizer: found 'adam9'"),
        ("optimizer.name", "sgd", "not a model that pynn can use"),
        ("optimizer.beta1", 2, "Adam.beta1: found 2"),
        ("optimizer", None, "found the tensor 'optimizer.0', which belongs nowhere"),
        ("optimizer_began", 10**6, "optimizer_began: found 1000000"),
        ("history.loss", [1.0], "history: found columns of"),
        ("history.loss", ["a", "b", "c"], "history: loss: found 'a', expected a finite number"),
        ("history", [], "not a model that pynn can use"),
    ],
)
def test_models_that_do_not_fit(
    tmp_path: Path, net: pynn.Network, blobs: Data, where: str, value: Any, message: str
) -> None:
    path = tmp_path / "net"
    quiet(net, blobs)
    net.save(path)
    tensors, about = load_tensors(path)
    change(about, where, value)
    save_tensors(path, tensors, about)
    with pytest.raises(ValueError, match=message) as caught:
        pynn.load(path, backend="numpy")
    assert str(path) in str(caught.value)


def test_a_missing_tensor(tmp_path: Path, net: pynn.Network) -> None:
    path = tmp_path / "net"
    net.save(path)
    tensors, about = load_tensors(path)
    del tensors["biases.1"]
    save_tensors(path, tensors, about)
    with pytest.raises(
        ValueError, match=r"found no tensor 'biases.1', expected one of shape \(3,\)"
    ):
        pynn.load(path, backend="numpy")


@pytest.mark.parametrize("way", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_whole_and_separate(net: pynn.Network, blobs: Data, way: Any) -> None:
    quiet(net, blobs)
    twin = way(net)
    assert twin.parameters.ctypes.data % 64 == 0
    for one in (net, twin):
        quiet(one, blobs)
        one.weights[0][0, 0] += 1
    assert twin.parameters.tobytes() == net.parameters.tobytes()
    twin.weights[0][:] = 0
    assert twin.parameters[0] == 0 != net.parameters[0]
    assert len(twin.history) == 6


def test_many_threads_predict_at_once(net: pynn.Network, blobs: Data) -> None:
    x, _ = blobs
    expected = net.predict_proba(x).tobytes()
    found: list[bytes] = []

    def work() -> None:
        found.extend(net.predict_proba(x).tobytes() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [expected] * 160


# --- The package ----------------------------------------------------------------------------------


def test_names_of_the_package() -> None:
    for name in set(pynn.__all__) - {"data", "datasets", "plots"}:
        assert hasattr(pynn, name), name
    assert set(pynn.__all__) <= set(dir(pynn))
    with pytest.raises(AttributeError, match="module 'pynn' has no attribute 'Netwrok'"):
        pynn.Netwrok  # noqa: B018


def test_the_instruction_set_may_be_written_in_any_case(tmp_path) -> None:
    if choose.available()["cython"]:
        pytest.skip("the compiled core is not there")
    code = "import pynn; print(pynn.info()['isa'])"
    for name in pynn.info()["isas"]:
        environment = os.environ | {"PYNN_ISA": name.upper()}
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert (run.stdout.strip(), run.stderr) == (name, "")


def test_info() -> None:
    found = pynn.info()
    assert found["version"] == pynn.__version__
    assert found["backend"] in found["backends"]
    assert found["backends"]["numpy"] == ""


def test_import_needs_numpy_alone() -> None:
    code = (
        "import sys, pynn; print(*sorted({'numba', 'rich', 'matplotlib', 'safetensors', 'pandas', "
        "'scipy', 'json', 'difflib'} & set(sys.modules)))"
    )
    bare = "import sys, numpy; print(*sorted({'json', 'difflib'} & set(sys.modules)))"
    run = [
        subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True).stdout
        for c in (code, bare)
    ]
    assert set(run[0].split()) <= set(run[1].split())


@pytest.mark.parametrize("backend", ["numpy", "cython"])
def test_sparse_rows_give_what_dense_ones_do(backend: str, tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    if choose.available()[backend]:
        pytest.skip(choose.available()[backend])
    rng = np.random.default_rng(0)
    x = np.where(rng.random((300, 60)) < 0.1, rng.normal(size=(300, 60)), 0).astype(np.float32)
    y = rng.integers(0, 3, 300)
    settings: dict[str, Any] = {"validation": 0.2, "progress": False, "epochs": 3, "batch_size": 32}
    nets = [pynn.Network([60, 8, 3], backend=backend, dropout=0.1, seed=1) for _ in range(3)]
    for net, rows in zip(nets, (x, sparse.csr_matrix(x), sparse.coo_array(x)), strict=True):
        net.fit(rows, y, **settings)
        np.testing.assert_allclose(net.parameters, nets[0].parameters, rtol=0, atol=1e-5)
        np.testing.assert_allclose(net.history.validation_loss, nets[0].history.validation_loss)
        assert (net.predict(rows) == nets[0].predict(x)).all()
        assert net.evaluate(rows, y) == pytest.approx(nets[0].evaluate(x, y))
    resumed = pynn.Network([60, 8, 3], backend=backend, dropout=0.1, seed=1)
    kept = pynn.Checkpoint(tmp_path / "run", steps=5)
    rows = sparse.csr_matrix(x)

    def stop(net: pynn.Network, record: pynn.Record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resumed.fit(rows, y, **settings, checkpoint=kept, callbacks=stop)
    other = rows.copy()
    other.data[7] += 1
    resumed = pynn.Network([60, 8, 3], backend=backend, dropout=0.1, seed=1)
    with pytest.raises(ValueError, match="x"):
        resumed.fit(other, y, **settings, checkpoint=kept, resume=True)
    resumed.fit(rows, y, **settings, checkpoint=kept, resume=True)
    assert resumed.parameters.tobytes() == nets[1].parameters.tobytes()


def test_sparse_validation_is_refused_before_training_with_numba():
    sparse = pytest.importorskip("scipy.sparse")
    if choose.available()["numba"]:
        pytest.skip(choose.available()["numba"])
    x, y = np.eye(6, dtype=np.float32), np.arange(6) % 3
    net = pynn.Network([6, 3], backend="numba", seed=1)
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match="^backend: found 'numba'"):
        net.fit(x, y, epochs=2, validation=(sparse.csr_matrix(x), y))
    with pytest.raises(ValueError, match="^backend: found 'numba'"):
        net.fit(sparse.csr_matrix(x), y, epochs=2, validation=0.5)
    assert net.parameters.tobytes() == before
    assert len(net.history) == 0


def test_load_names_a_backend_that_there_is_not(tmp_path):
    pynn.Network([2, 3]).save(tmp_path / "net")
    with pytest.raises(ValueError, match="^backend: found 'abacus', expected one of auto"):
        pynn.load(tmp_path / "net", backend="abacus")


def test_copy_is_independent(blobs):
    net, twin = (pynn.Network([4, 8, 3], seed=1) for _ in range(2))
    for each in (net, twin):
        each.fit(*blobs, epochs=2)
    copy.copy(net).fit(*blobs, epochs=5)
    for each in (net, twin):
        each.fit(*blobs, epochs=2)
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    assert len(net.history) == 4


def test_too_many_layers_for_the_compiled_backend():
    pytest.importorskip("pynn.backends.cython._core")
    with pytest.raises(ValueError, match="sizes: found 71 layers, expected at most 64"):
        pynn.Network([10] + [12] * 70 + [2], backend="cython")
    assert pynn.Network([10] + [12] * 70 + [2], backend="numpy").epochs == 0
