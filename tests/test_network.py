"""Network: what a user sees, on the reference backend."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.spec import philox
from pynn.training import initialise, split
from tests.child import python
from tests.networks import Data, make, quiet

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
        (np.full(67, "a"), TypeError, r"parameters: found text \('a'\) at row 0"),
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


def test_another_optimizer_starts_with_new_state(blobs: Data) -> None:
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
    # The same classes as numbers give identical results.
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
    # Soft targets are no labels, by which rows could be held out.
    held: dict[str, Any] = {"validation": validation, "stratify": False}
    history = quiet(smooth, blobs, label_smoothing=0.3, **held)
    targets = (np.full((len(y), 3), 0.1) + 0.7 * np.eye(3)[y]).astype(np.float32)
    same = quiet(soft, (x, targets), **held)
    np.testing.assert_allclose(smooth.parameters, soft.parameters, atol=1e-6)
    np.testing.assert_allclose(history.loss, same.loss, rtol=1e-5)
    assert history.accuracy == same.accuracy
    quiet(one_hot, (x, np.eye(3)[y]), label_smoothing=0.3, **held)
    assert one_hot.parameters.tobytes() == smooth.parameters.tobytes()
    if validation:
        # Those held out are as they are.
        out = split.held_out(len(x), validation, smooth.seed)
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
        ValueError, match=r"validation\[1\]: found one label in each row, .* are independent"
    ):
        quiet(net, (x, many), validation=(x, y))


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse"])
def test_every_call_gives_the_outputs_the_same_meaning(blobs: Data, loss: str) -> None:
    x, y = blobs
    one_hot = np.eye(3)[y]
    many = one_hot.copy()
    many[7] = [1, 1, 0]
    # A first batch that happens to be one-hot makes the outputs classes.
    net = make(loss=loss)
    quiet(net, (x[:5], many[:5]))
    before = net.parameters.copy()
    for call in (
        lambda: quiet(net, (x, many)),
        lambda: net.evaluate(x, many),
        lambda: net.loss_and_gradient(x, many),
    ):
        with pytest.raises(ValueError, match=r"^y: found .* row 7 is not one-hot.*classes = None"):
            call()
    with pytest.raises(ValueError, match=r"^validation\[1\]: found .* row 7 is not one-hot"):
        quiet(net, (x, one_hot), validation=(x, many))
    assert (net.parameters == before).all()
    # None says that they are not.
    net = make(loss=loss)
    net.classes = None
    quiet(net, (x[:5], many[:5]))
    quiet(net, (x, many))
    assert net.classes is None
    assert net.predict(x).shape == (150, 3)
    with pytest.raises(ValueError, match="^y: found one label in each row.*assign labels to net"):
        quiet(net, (x, y))
    net.classes = ["a", "b", "c"]
    quiet(net, (x, one_hot))
    assert net.predict(x).shape == (150,)


@pytest.mark.parametrize(
    ("loss", "n_out"), [("cross_entropy", 3), ("binary_cross_entropy", 1), ("poisson", 1)]
)
def test_outputs_without_classes(loss: str, n_out: int) -> None:
    net = make((4, n_out), loss=loss)
    if loss == "poisson":
        net.classes = None
        assert net.predict(np.zeros((2, 4))).shape == (2,)
        return
    with pytest.raises(ValueError, match="^classes: found None for loss"):
        net.classes = None


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
    found = quiet(a, blobs, validation=0.2, stratify=False)
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
        ((1, 2, 3, 4), "validation: found a tuple of 4, expected a pair"),
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


# --- The package ----------------------------------------------------------------------------------


def test_names_of_the_package() -> None:
    for name in set(pynn.__all__) - {"data", "datasets", "plots"}:
        assert hasattr(pynn, name), name
    assert set(pynn.__all__) <= set(dir(pynn))
    with pytest.raises(AttributeError, match="module 'pynn' has no attribute 'Netwrok'"):
        pynn.Netwrok  # noqa: B018


def test_the_instruction_set_may_be_written_in_any_case() -> None:
    if choose.available()["cython"]:
        pytest.skip("the compiled core is not there")
    code = "import pynn; print(pynn.info()['isa'])"
    for name in pynn.info()["isas"]:
        run = python(code, environment={"PYNN_ISA": name.upper()})
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
    run = [python(c) for c in (code, bare)]
    assert run[0].returncode == 0, run[0].stderr
    assert set(run[0].stdout.split()) <= set(run[1].stdout.split())


@pytest.mark.parametrize("backend", ["numpy", "cython"])
def test_sparse_rows_give_the_results_of_dense_rows(backend: str, tmp_path: Path) -> None:
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


def test_load_names_a_missing_backend(tmp_path):
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


def test_more_layers_than_the_compiled_backend_supports_are_refused():
    pytest.importorskip("pynn.backends.cython._core")
    with pytest.raises(ValueError, match="'cython', which does not support more than 64 layers"):
        pynn.Network([10] + [12] * 70 + [2], backend="cython")
    assert pynn.Network([10] + [12] * 70 + [2], backend="numpy").epochs == 0


def test_the_folder_of_a_run_is_loaded(tmp_path: Path) -> None:
    net = pynn.Network([2, 3])
    net.save(tmp_path / "model.safetensors")
    assert np.array_equal(pynn.load(tmp_path).parameters, net.parameters)
