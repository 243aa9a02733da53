"""Custom training steps: what Network adds to the passes of a tape."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from tests.networks import make

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = np.arange(12) % 3


def gradient(net: pynn.Network, x: Any = X, y: Any = Y, **how: Any) -> np.ndarray:
    tape = net.forward(x, **how)
    _, d_logits = tape.loss(y)
    return tape.backward(d_logits=d_logits, inputs=False)[1]


def test_a_loop_with_keys_repeats_fit() -> None:
    net = make(dropout=0.3)
    twin = copy.deepcopy(net)
    net.fit(X, Y, epochs=2, batch_size=5, optimizer="momentum", shuffle=False, progress=False)
    tape = None
    for epoch in range(2):
        for start in (0, 5, 10):
            part = slice(start, start + 5)
            tape = twin.forward(X[part], training=True, key=(epoch, start), tape=tape)
            _, d_logits = tape.loss(Y[part])
            _, found = tape.backward(d_logits=d_logits, inputs=False)
            twin.step(found, "momentum", 1e-3)
    assert twin.parameters.tobytes() == net.parameters.tobytes()
    assert (twin.updates, twin.epochs, len(twin.history)) == (6, 0, 0)


def test_outputs_are_those_of_predict_and_the_gradient_that_of_the_loss() -> None:
    net = make(norm="layer")
    tape = net.forward(X)
    np.testing.assert_allclose(tape.outputs, net.predict_proba(X), atol=1e-6)
    assert len(tape) == 12
    assert repr(tape) == "Tape(12 rows of 4 inputs)"
    loss, found = net.loss_and_gradient(X, Y)
    assert tape.loss(Y)[0] == pytest.approx(loss)
    np.testing.assert_allclose(gradient(net), found, atol=1e-6)
    weights = np.arange(12.0)
    loss, _ = net.loss_and_gradient(X, Y, sample_weight=weights)
    assert tape.loss(Y, sample_weight=weights)[0] == pytest.approx(loss)
    values = make((4, 3), loss="mse")
    y = np.ones((12, 3))
    y[::2, 1] = np.nan
    loss, _ = values.loss_and_gradient(X, y, missing_targets="ignore")
    found = values.forward(X).loss(y, missing_targets="ignore")[0]
    assert found == pytest.approx(loss)


def test_states_of_optimizers_belong_to_the_network(tmp_path: Path) -> None:
    net, whole = make(), make()
    for _ in range(4):
        whole.step(gradient(whole), "adam", 0.01)
    for _ in range(2):
        net.step(gradient(net), "adam", 0.01)
    net.save(tmp_path / "net")
    net = pynn.load(tmp_path / "net", backend="numpy")
    for _ in range(2):
        net.step(gradient(net), "adam", 0.01)
    assert net.parameters.tobytes() == whole.parameters.tobytes()
    # Another optimizer begins with an empty state.
    before = net.parameters.copy()
    net.step(np.ones_like(before), "sgd", 0.5)
    np.testing.assert_allclose(net.parameters, before - 0.5, atol=1e-7)


def test_passes_without_a_key_are_counted(tmp_path: Path) -> None:
    net = make(dropout=0.5)
    first, second = (net.forward(X, training=True).outputs for _ in range(2))
    assert (first != second).any()
    net.save(tmp_path / "net")
    third = net.forward(X, training=True).outputs
    loaded = pynn.load(tmp_path / "net", backend="numpy")
    copied = pickle.loads(pickle.dumps(loaded))
    for other in (loaded, copied):
        assert other.forward(X, training=True).outputs.tobytes() == third.tobytes()
    again = make(dropout=0.5)
    assert again.forward(X, training=True, key=(0, 0)).outputs.tobytes() != first.tobytes()
    assert again.forward(X, training=True).outputs.tobytes() == first.tobytes()


def test_running_statistics_move_in_training_passes_only() -> None:
    net = make(norm="batch")
    before = net.statistics.copy()
    net.forward(X)
    assert (net.statistics == before).all()
    net.forward(X, training=True)
    moved = net.statistics.copy()
    assert (moved != before).any()
    net.freeze(0)
    net.forward(X[:1], training=True)
    assert (net.statistics == moved).all()
    net.unfreeze(0)
    with pytest.raises(ValueError, match="x: found 1 row, expected two or more"):
        net.forward(X[:1], training=True)


def changes(net: pynn.Network) -> dict[str, Any]:
    return {
        "step": lambda: net.step(np.zeros(len(net.parameters))),
        "fit": lambda: net.fit(X, Y, epochs=1, progress=False),
        "parameters": lambda: setattr(net, "parameters", net.parameters),
        "weights": lambda: setattr(net, "weights", list(net.weights)),
        "polyak": lambda: net.polyak(net, 0.5),
        "train_on": lambda: net.train_on([(X, Y)]),
    }


@pytest.mark.parametrize("change", changes(make()))
def test_a_stale_tape_is_refused(change: str) -> None:
    net = make()
    tape = net.forward(X)
    changes(net)[change]()
    assert repr(tape).endswith("stale)")
    for use in (lambda: tape.loss(Y), lambda: tape.backward(np.zeros((12, 3)))):
        with pytest.raises(RuntimeError, match="tape of parameters that have changed since"):
            use()
    net.forward(X, tape=tape).backward(np.zeros((12, 3)))


def test_tapes_can_be_used_again_with_other_rows() -> None:
    net = make()
    tape = net.forward(X)
    for rows in (3, 12, 1):
        assert net.forward(X[:rows], tape=tape) is tape
        np.testing.assert_array_equal(tape.logits, net.forward(X[:rows]).logits)
        np.testing.assert_allclose(tape.outputs, net.predict_proba(X[:rows]), atol=1e-6)
        assert tape.backward(tape.outputs)[0].shape == (rows, 4)


def test_wrong_arguments_are_refused() -> None:
    net = make()
    tape = net.forward(X)
    with pytest.raises(ValueError, match="tape: found one of another network, expected"):
        make().forward(X, tape=tape)
    with pytest.raises(ValueError, match=r"d_outputs: found shape \(12, 2\), expected \(12, 3\)"):
        tape.backward(np.zeros((12, 2)))
    with pytest.raises(TypeError, match="found both, expected one of d_outputs and d_logits"):
        tape.backward(np.zeros((12, 3)), d_logits=np.zeros((12, 3)))
    with pytest.raises(TypeError, match="found neither d_outputs nor d_logits"):
        tape.backward()
    with pytest.raises(TypeError, match="d_logits: found dtype complex128, expected real"):
        tape.backward(d_logits=np.zeros((12, 3), complex))
    with pytest.raises(ValueError, match="y: found 2 rows, expected 12"):
        tape.loss(Y[:2])
    for key in (3, (1, 2, 3), (-1, 0), (0, 2**32)):
        with pytest.raises(ValueError, match="key"):
            net.forward(X, training=True, key=key)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="key: found .* with training=False"):
        net.forward(X, key=(0, 0))
    n = len(net.parameters)
    before = net.parameters.copy()
    for found, message in (
        (np.zeros(n - 1), rf"gradient: found shape \({n - 1},\), expected \({n},\)"),
        (np.full(n, np.nan), "gradient: found nan at 0"),
        (np.zeros(n, complex), "gradient: found dtype complex128"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            net.step(found)
    with pytest.raises(ValueError, match="optimizer: found 'lbfgs'"):
        net.step(np.zeros(n), "lbfgs")
    with pytest.raises(ValueError, match="learning_rate: found 0, expected"):
        net.step(np.zeros(n), learning_rate=0)
    net.freeze(0, 1)
    with pytest.raises(ValueError, match="step: found all layers frozen"):
        net.step(np.zeros(n))
    assert (net.parameters == before).all()
    assert net.updates == 0


def test_frozen_layers_stay_and_a_step_drops_the_average() -> None:
    net = make()
    net.fit(X, Y, epochs=1, ema=0.9, progress=False)
    net.freeze(0)
    before = [w.copy() for w in net.weights]
    found = gradient(net)
    assert np.abs(net.architecture.views(found)[0][0]).max() > 0  # the gradient has all layers
    net.step(found, learning_rate=0.1)
    assert (net.weights[0] == before[0]).all()
    assert (net.weights[1] != before[1]).any()
    assert net.average is None
    net.weights[1][...] = 0  # writeable again


def test_any_array_is_a_gradient_and_a_batch() -> None:
    net = make()
    tape = net.forward(np.asfortranarray(X.astype(np.float64)))
    expected = tape.backward(np.ones((12, 3), np.float32))
    for d in (np.ones((12, 3), int), [[1.0] * 3] * 12, np.ones((24, 6))[::2, ::2]):
        for found, wanted in zip(tape.backward(d), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    readonly = X[::2, :]
    readonly.flags.writeable = False
    assert net.forward(readonly.tolist()).outputs.shape == (6, 3)
    one = make((1, 1), loss="mse")
    one.step([0.0, 1.0], "sgd", 1.0)
    assert one.biases[0][0] == -1


def test_arrays_that_need_no_conversion_are_checked_too() -> None:
    net, values = make(), make((4, 2), loss="mse")
    for found in (np.nan, np.inf):
        x, y = X.copy(), X[:, :2].copy()
        x[3, 1] = y[2, 0] = found
        with pytest.raises(ValueError, match=rf"x: found {found} at row 3, column 1"):
            net.forward(x)
        with pytest.raises(ValueError, match=rf"y: found {found} at row 2, column 0"):
            values.forward(X).loss(y)
    with pytest.raises(ValueError, match="y: found -1"):
        make((4, 2), loss="poisson").forward(X).loss(-np.ones((12, 2), np.float32))
    with pytest.raises(ValueError, match="x: found no rows"):
        net.forward(X[:0])
    with pytest.raises(ValueError, match="floats in"):
        make(pixels=True).forward(X)
    with pytest.raises(ValueError, match="missing_targets: found 'no'"):
        values.forward(X).loss(X[:, :2].copy(), missing_targets="no")


# --- Units of the inputs --------------------------------------------------------------------------


def slopes(net: pynn.Network, x: np.ndarray, h: float) -> np.ndarray:
    """The Jacobian of predict by central differences, per unit of x."""
    found = np.empty((len(x), net.architecture.n_out, x.shape[1]))
    for k in range(x.shape[1]):
        step = h * (np.arange(x.shape[1]) == k)
        above, below = (net.predict(x + sign * step) for sign in (1, -1))
        found[:, :, k] = (above - below).reshape(len(x), -1) / (2 * h)
    return found


def test_gradients_are_per_unit_of_the_inputs_and_targets() -> None:
    rng = np.random.default_rng(1)
    x, y = 100 + 10 * rng.normal(size=(40, 4)), 1000 * rng.normal(size=(40, 2))
    how = {"loss": "mse", "activation": "tanh", "dtype": "float64"}
    net = make((4, 6, 2), standardize=True, standardize_targets=True, **how)
    with pytest.raises(ValueError, match="standardize: found a network that has not been trained"):
        net.forward(x)
    net.fit(x, y, epochs=1, progress=False)
    expected = slopes(net, x[:5], 1e-4)
    np.testing.assert_allclose(net.jacobian(x[:5]), expected, rtol=1e-5, atol=1e-5)
    found = net.input_gradient(x[:5], output=[0, 1, -1, 0, 0])
    np.testing.assert_allclose(found, expected[range(5), [0, 1, 1, 0, 0]], rtol=1e-5, atol=1e-5)
    # A tape has the standardised outputs.
    tape = net.forward(x[:5])
    targets = (y[:5] - net.target_mean) / net.target_scale
    expected_loss = ((tape.outputs - targets) ** 2).mean()
    assert tape.loss(y[:5])[0] == pytest.approx(expected_loss, rel=1e-12)
    assert tape.loss(y[:5].tolist())[0] == pytest.approx(expected_loss, rel=1e-12)
    dx, _ = tape.backward(np.array([[1.0, 0]] * 5))
    np.testing.assert_allclose(dx * net.target_scale[0], expected[:, 0], rtol=1e-5, atol=1e-5)


def test_pixels_and_sparse_rows() -> None:
    scipy = pytest.importorskip("scipy.sparse")
    pixels = (np.arange(24).reshape(6, 4) * 9).astype(np.uint8)
    undecided = make()
    for x in (pixels, scipy.csr_matrix(pixels)):
        with pytest.raises(ValueError, match="x: found the uint8 .* has not been trained"):
            undecided.forward(x)
    net = make(pixels=True)
    expected = net.forward(pixels / 255).backward(np.eye(6, 3))
    for x in (pixels, scipy.csr_matrix(pixels)):
        dx, found = net.forward(x).backward(np.eye(6, 3))
        np.testing.assert_allclose(dx, expected[0] / 255, atol=1e-7)
        np.testing.assert_allclose(found, expected[1], atol=1e-6)
        np.testing.assert_allclose(net.jacobian(x), net.jacobian(pixels / 255) / 255, atol=1e-7)
    many = np.random.default_rng(2).integers(0, 256, (1030, 4), dtype=np.uint8)  # two blocks
    chosen = np.arange(1030) % 3
    expected = net.input_gradient(many[-6:], output=chosen[-6:])
    for x in (many, scipy.csr_matrix(many)):
        found = net.input_gradient(x, output=chosen)
        np.testing.assert_allclose(found[-6:], expected, rtol=1e-5, atol=1e-8)
    noisy = make(input_noise=0.1)
    with pytest.raises(ValueError, match="x: found sparse rows for a network with input_noise"):
        noisy.forward(scipy.csr_matrix(X), training=True)


def test_input_gradients_use_the_average_and_refuse_outputs_that_do_not_exist() -> None:
    net = make()
    net.fit(X, Y, epochs=2, ema=0.9, learning_rate=0.1, progress=False)
    averaged, average = net.jacobian(X), net.average.copy()
    net.average = None
    assert (net.jacobian(X) != averaged).any()
    net.parameters = average
    np.testing.assert_array_equal(net.jacobian(X), averaged)
    np.testing.assert_array_equal(net.input_gradient(X, output=2), averaged[:, 2])
    for output in (None, 3, -4, 0.5, [0, 1], np.full(12, 3), np.zeros(12)):
        with pytest.raises(ValueError, match="output: found"):
            net.input_gradient(X, output=output)
    single = make((4, 1), loss="mse")
    np.testing.assert_array_equal(single.input_gradient(X), np.tile(single.weights[0].T, (12, 1)))


# --- train_on, polyak, copies ---------------------------------------------------------------------


def squared(outputs: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    return float(((outputs - y) ** 2).mean()), 2 * (outputs - y) / outputs.size


def test_train_on_takes_the_same_steps() -> None:
    net, twin = (make((4, 8, 2), loss="mse", norm="layer") for _ in range(2))
    y = X[:, :2] * 2
    batches = [(X[:7], y[:7]), (X[7:], y[7:])] * 30
    losses = net.train_on(iter(batches), loss=squared, optimizer="momentum", learning_rate=0.01)
    assert losses.shape == (60,)
    assert losses[-1] < losses[0] / 2
    own = twin.train_on(batches, optimizer="momentum", learning_rate=0.01)
    np.testing.assert_allclose(own, losses, rtol=1e-3)
    np.testing.assert_allclose(twin.parameters, net.parameters, atol=1e-4)
    assert net.train_on([]).shape == (0,)


def test_train_on_refuses_what_is_no_batch_or_no_loss() -> None:
    net = make()
    with pytest.raises(ValueError, match=r"batches: found a ndarray at 0, expected \(x, y\)"):
        net.train_on([X])
    with pytest.raises(TypeError, match="loss: found 'mse', expected a function"):
        net.train_on([(X, Y)], loss="mse")  # type: ignore[arg-type]
    for loss, message in (
        (lambda outputs, y: 1.0, "loss: found a function that returns 1.0"),
        (lambda outputs, y: (outputs, outputs), r"loss: found a loss of shape \(12, 3\) and"),
        (lambda outputs, y: (np.nan, outputs), "loss: found nan in batch 0"),
        (lambda outputs, y: (1.0, outputs[:2]), r"d_outputs: found shape \(2, 3\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            net.train_on([(X, Y)], loss=loss)
    assert net.updates == 0


def test_train_on_takes_a_dataloader() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(X[:, :2]))
    loader = torch.utils.data.DataLoader(data, batch_size=5)
    net = make((4, 8, 2), loss="mse")
    assert len(net.train_on(loader, loss=squared)) == 3


def test_polyak_moves_towards_another_network() -> None:
    net, other = make(norm="batch", seed=1), make(norm="batch", seed=2)
    other.forward(X, training=True)
    before = net.parameters.copy()
    net.polyak(other, 0.25)
    np.testing.assert_allclose(net.parameters, 0.75 * before + 0.25 * other.parameters, atol=1e-6)
    net.polyak(other, 1)
    assert (net.parameters == other.parameters).all()
    assert (net.statistics == other.statistics).all()
    with pytest.raises(ValueError, match=r"other: found sizes \(4, 3\), expected \(4, 8, 3\)"):
        net.polyak(make((4, 3)), 0.1)
    with pytest.raises(TypeError, match="other: found 3, expected a pynn.Network"):
        net.polyak(3, 0.1)
    with pytest.raises(ValueError, match="tau: found 2"):
        net.polyak(other, 2)


def test_copies_are_independent() -> None:
    net = make()
    tape = net.forward(X)
    target = copy.deepcopy(net)
    target.step(np.ones(len(target.parameters)), "sgd", 1.0)
    tape.backward(np.zeros((12, 3)))  # not stale
    with pytest.raises(ValueError, match="tape: found one of another network"):
        target.forward(X, tape=tape)


def test_a_network_in_training_takes_no_steps() -> None:
    net, errors = make(), []

    def use(found: pynn.Network, *_: object) -> None:
        for call in (
            lambda: found.forward(X),
            lambda: found.step(np.zeros(len(found.parameters))),
            lambda: found.polyak(net, 0.5),
        ):
            with pytest.raises(ValueError, match="found a network in training"):
                call()
            errors.append(1)

    net.fit(X, Y, epochs=1, callbacks=use, progress=False)
    assert len(errors) == 3


def test_labels_of_a_batch_are_numbers_until_the_classes_are_known() -> None:
    """Other labels would be numbered anew in each batch."""
    net, pairs = make(), make((4, 8, 1), loss="binary_cross_entropy")
    for one, wrong in ((net, Y + 1), (net, np.array(["a", "b", "c"])[Y]), (pairs, 2 * (Y > 0) - 1)):
        with pytest.raises(ValueError, match=r"y: found the labels .*expected .*net\.classes = "):
            one.train_on([(X, wrong)])
        assert one.updates == 0
    with pytest.raises(ValueError, match=r"assign all to net\.classes"):
        net.forward(X).loss(["a"] * 12)
    pairs.train_on([(X, Y > 0), (X, np.zeros(12)), (X, np.ones(12, int))])
    net.classes = ["a", "b", "c"]
    other = make()
    assert net.forward(X).loss(["b"] * 12)[0] == other.forward(X).loss([1] * 12)[0]


def test_small_errors_and_conversions() -> None:
    net, other = make(), make(activation="tanh")
    with pytest.raises(ValueError, match="other: found activations"):
        net.polyak(other, 0.5)
    tape = net.forward(X)
    for function in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="Tape: found a copy or pickle"):
            function(tape)
    x = X.copy()
    x[0, :2] = np.inf, -np.inf
    with pytest.raises(ValueError, match="x: found"):  # and no RuntimeWarning
        net.forward(x)
    net.train_on([(X, Y)], loss=lambda outputs, y: (np.array([1.0]), outputs))


@pytest.mark.parametrize("columns", [(), (1,)], ids=str)
def test_predictions_have_the_shape_of_the_targets(columns: tuple[int, ...]) -> None:
    net, y = make((4, 8, 1), loss="mse"), X[:, 0].reshape(12, *columns)
    net.train_on([(X, y)])
    assert net.predict(X).shape == y.shape
    net = make((1, 3, 1), loss="mse")
    with pytest.raises(ValueError, match="out: found an array that overlaps the parameters"):
        net.predict(X[:3, :1], out=net.parameters[:3])
