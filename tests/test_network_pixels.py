"""Whether inputs are pixels is a property of the network, and not of the dtype of one call's x."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.checks import arrays
from pynn.checks.features import are_pixels, features
from pynn.files.tensors import load_tensors, save_tensors
from pynn.spec.architecture import Architecture

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
BYTES = RNG.integers(0, 256, (60, 5), dtype=np.uint8)
SCALED = (BYTES / 255).astype(np.float32)
BITS = RNG.integers(0, 2, (60, 5), dtype=np.uint8)


def network(pixels: Any = "auto", **more: Any) -> pynn.Network:
    return pynn.Network([5, 4, 3], pixels=pixels, backend="numpy", seed=1, **more)


def trained(x: Any, pixels: Any = "auto", **more: Any) -> pynn.Network:
    net = network(pixels)
    net.fit(x, Y, epochs=2, progress=False, **more)
    return net


def sparse(x: np.ndarray) -> Any:
    return pytest.importorskip("scipy.sparse").csr_array(x)


USES: dict[str, Callable[[pynn.Network, Any], Any]] = {
    "predict": lambda net, x: net.predict(x),
    "predict_proba": lambda net, x: net.predict_proba(x),
    "evaluate": lambda net, x: net.evaluate(x, Y),
    "loss_and_gradient": lambda net, x: net.loss_and_gradient(x, Y)[1],
    "fit": lambda net, x: net.fit(x, Y, epochs=1, progress=False),
    "validation": lambda net, x: net.fit(
        SCALED if net.pixels else BITS.astype("f4"), Y, epochs=1, progress=False, validation=(x, Y)
    ),
    "Norms": lambda net, x: net.fit(
        SCALED if net.pixels else BITS.astype("f4"),
        *(Y,),
        epochs=1,
        progress=False,
        callbacks=pynn.Norms(x, Y),
    ),
}
"""Every way to give x to a network."""


# --- Only fit decides -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "decision"),
    [
        (BYTES, True),
        (BYTES.reshape(60, 1, 5), True),
        (np.full((60, 5), 2, np.uint8), True),
        (BITS, False),
        (np.zeros((60, 5), np.uint8), False),
        (BYTES.astype(np.int64), False),
        (BYTES.tolist(), False),
        (BYTES.astype(np.float32), False),
        (SCALED, False),
        (BITS.astype(bool), False),
        (BYTES.astype(np.int8), False),
    ],
)
def test_the_first_fit_decides(x, decision):
    net = network()
    assert net.pixels == "auto"
    net.fit(x, Y, epochs=1, progress=False)
    assert net.pixels is decision
    assert ("pixels" in repr(net), "values" in repr(net)) == (decision, not decision)


def test_the_first_fit_decides_for_sparse_rows():
    for x, decision in (BYTES, True), (BITS, False), (SCALED, False), (BYTES.astype("i8"), False):
        assert trained(sparse(x)).pixels is decision


def test_one_value_above_1_anywhere_means_pixels():
    x = np.zeros((3000, 200), np.uint8)
    assert not are_pixels(x)
    x[2999, 199] = 2
    assert are_pixels(x)
    assert are_pixels(np.asfortranarray(x)[::-1])


@pytest.mark.parametrize("use", ["predict", "predict_proba", "evaluate", "loss_and_gradient"])
def test_no_other_call_decides(use):
    net = network()
    for x in BYTES, SCALED, BYTES.astype("f8"):
        USES[use](net, x)
        assert net.pixels == "auto"
    assert repr(net) == repr(network())


def test_an_untrained_network_scales_bytes_as_the_first_fit_would():
    np.testing.assert_allclose(
        network().predict_proba(BYTES), network().predict_proba(SCALED), rtol=1e-5
    )
    message = "x: found uint8 of only 0 and 1 for a network that has not been trained"
    for use in "predict", "evaluate", "loss_and_gradient":
        with pytest.raises(ValueError, match=message):
            USES[use](network(), BITS)
        USES[use](network(), np.zeros_like(BITS))
        USES[use](network(pixels=False), BITS)
        USES[use](network(pixels=True), BITS)


def test_a_failed_fit_decides_nothing():
    net = network()
    with pytest.raises(ValueError, match="y: "):
        net.fit(BYTES, Y[:5])
    assert net.pixels == "auto"


@pytest.mark.parametrize("pixels", [True, False])
def test_the_user_decides(pixels):
    net = network(pixels)
    assert net.pixels is pixels
    assert ("pixels" if pixels else "values") in repr(net)
    net.fit(BITS, Y, epochs=1, progress=False)
    assert net.pixels is pixels
    net.pixels = not pixels
    assert net.pixels is not pixels


@pytest.mark.parametrize("pixels", ["yes", "True", 1, 0, None, 255, [True]])
def test_another_decision_is_refused(pixels):
    with pytest.raises(ValueError, match="pixels: found .*, expected 'auto', True or False"):
        network(pixels)
    net = network()
    with pytest.raises(ValueError, match="pixels: found"):
        net.pixels = pixels


def test_the_rows_to_train_on_decide_about_those_to_validate_on():
    with pytest.raises(ValueError, match=r"validation\[0\]: found the uint8"):
        trained(BITS, validation=(BYTES, Y))
    with pytest.raises(ValueError, match=r"validation\[0\]: found int64"):
        trained(BYTES, validation=(BYTES.astype("i8"), Y))
    # All rows decide, before a share of them is held out.
    x = BITS.copy()
    x[np.random.default_rng(3).integers(60), 0] = 255
    assert trained(x, validation=0.5).pixels is True


# --- Networks of pixels ---------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
def test_a_network_of_pixels_takes_bytes_and_scaled_floats(use):
    results = []
    for x in BYTES, SCALED, SCALED.astype(np.float64), SCALED.tolist():
        found = USES[use](trained(BYTES), x)
        results.append(found if isinstance(found, np.ndarray) else np.zeros(1))
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "x", [BYTES.astype(np.int64), BYTES.tolist(), BITS.astype(np.int8), BYTES.astype(np.uint16)]
)
def test_a_network_of_pixels_refuses_other_integers(use, x):
    message = (
        "found u?int.*, but the inputs of this network are pixels; expected uint8.*dtype='uint8'"
    )
    with pytest.raises(ValueError, match=message):
        USES[use](trained(BYTES), x)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [1.5, 255, -0.5])
def test_a_network_of_pixels_refuses_floats_outside_0_to_1(use, dtype, value):
    x = SCALED.astype(dtype)
    x[7, 3] = value
    message = (
        rf"found {float(value)} at row 7, column 3 .*pixels; expected floats in \[0, 1\].* / 255"
    )
    with pytest.raises(ValueError, match=message):
        USES[use](trained(BYTES), x)


def test_a_network_of_pixels_names_nan_before_its_range():
    x = SCALED.copy()
    x[1, 1], x[2, 2] = 200, np.nan
    with pytest.raises(
        ValueError, match="found nan at row 2, column 2 .*, expected finite numbers"
    ):
        trained(BYTES).predict(x)


def test_a_network_of_pixels_takes_booleans_as_black_and_white():
    net = trained(BYTES)
    expected = net.predict_proba(BITS.astype(np.float32))
    np.testing.assert_array_equal(net.predict_proba(BITS.astype(bool)), expected)


def test_dark_pixels_are_pixels():
    net = trained(BYTES)
    expected = net.predict_proba((BITS / 255).astype(np.float32))
    np.testing.assert_allclose(net.predict_proba(BITS), expected, rtol=1e-5)


def test_sparse_pixels():
    net = trained(sparse(BYTES))
    expected = net.predict_proba(BYTES)
    for x in sparse(BYTES), sparse(SCALED):
        np.testing.assert_allclose(net.predict_proba(x), expected, rtol=1e-5)
    for x in sparse(BYTES.astype("i8")), sparse(BYTES.astype("f4")):
        with pytest.raises(ValueError, match="but the inputs of this network are pixels"):
            net.predict(x)


# --- Networks of values ---------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("form", [np.asarray, sparse])
def test_a_network_of_values_takes_bits_as_numbers(use, form):
    found = USES[use](trained(BITS), form(BITS))
    expected = USES[use](trained(BITS.astype(np.float32)), form(BITS.astype(np.float32)))
    if isinstance(found, np.ndarray):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("form", [np.asarray, sparse])
def test_a_network_of_values_refuses_larger_bytes(use, form):
    x = np.zeros((60, 5), np.uint8)
    x[9, 2] = 200
    message = (
        r"found the uint8 200 at row 9, column 2 \(counted from 0\), but the inputs of this "
        r"network are values and not pixels; expected .* / 255 .*\.astype\('float32'\)"
    )
    for net in trained(SCALED), trained(BYTES.astype(np.float32)), trained(BITS):
        with pytest.raises(ValueError, match=message):
            USES[use](net, form(x))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32", "float64"])
def test_one_hot_features_train_alike_with_every_dtype(dtype):
    x = np.eye(40)[np.arange(400) % 40]
    y = np.arange(400) % 40 % 3
    nets = []
    for kind in dtype, "float32":
        net = pynn.Network([40, 8, 3], backend="numpy", seed=1)
        net.fit(x.astype(kind), y, epochs=3, progress=False)
        nets.append(net)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


# --- One pass -------------------------------------------------------------------------------------


def test_the_range_is_checked_in_the_pass_that_looks_for_nan(monkeypatch):
    """One minimum and one maximum per block; the search ends in the block with a wrong value."""
    calls = []

    class Counted:
        def __init__(self, function: Any) -> None:
            self.function = function

        def reduce(self, block: np.ndarray, axis: None) -> Any:
            calls.append(block.shape)
            return self.function.reduce(block, axis=axis)

    net = Architecture.build([1024, 2])
    x = np.full((1024, 1024), 0.5, np.float32)
    for name in "minimum", "maximum":
        monkeypatch.setattr(arrays.np, name, Counted(getattr(np, name)))
    counts = []
    for pixels in None, False, True:
        calls.clear()
        assert features(x, net, pixels=pixels) is x
        counts.append(len(calls))
    assert counts == [8, 8, 8]
    x[300, 5] = 1.5
    calls.clear()
    with pytest.raises(ValueError, match="found 1.5 at row 300, column 5"):
        features(x, net, pixels=True)
    assert len(calls) == 4
    # The bytes of a network of pixels are not searched.
    calls.clear()
    features(np.zeros((1024, 1024), np.uint8), net, pixels=True)
    assert not calls


def test_bytes_of_pixels_are_not_copied():
    net = Architecture.build([5, 2])
    assert features(BYTES, net, pixels=True) is BYTES
    assert features(BYTES, net, pixels="auto") is BYTES
    found = features(BITS, net, pixels=False)
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.tolist()) == (np.float32, BITS.tolist())


# --- Files, checkpoints, pickles ------------------------------------------------------------------


@pytest.mark.parametrize("x", [BYTES, BITS, SCALED, None])
def test_the_decision_is_saved(tmp_path, x):
    net = network() if x is None else trained(x)
    net.save(tmp_path / "net")
    again = pynn.load(tmp_path / "net", backend="numpy")
    for twin in again, copy.deepcopy(net), pickle.loads(pickle.dumps(net)):
        assert twin.pixels == net.pixels
        assert type(twin.pixels) is type(net.pixels)
        assert repr(twin) == repr(net)


def _without(path: Path) -> Path:
    """Remove the decision from a model file, which an earlier version would have written."""
    tensors, document = load_tensors(path)
    del document["pixels"]
    if "checkpoint" in document:
        del document["checkpoint"]["settings"]["pixels"]
    save_tensors(path, tensors, document)
    return path


@pytest.mark.parametrize("x", [BYTES, BITS, SCALED])
def test_files_and_pickles_without_the_decision_predict_as_before(tmp_path, x):
    net = trained(x)
    net.save(tmp_path / "net")
    state = net.__getstate__()
    model_state = net._model.__getstate__()
    del model_state["pixels"]
    old = pynn.network.Network.__new__(pynn.Network)
    old.__setstate__({**state, "_model": type(net._model).from_state(model_state)})
    plain = network(False)
    plain.parameters = net.parameters
    for earlier in pynn.load(_without(tmp_path / "net"), backend="numpy"), old:
        assert earlier.pixels is None
        assert "pixels" not in repr(earlier)
        for rows in BYTES.astype(np.float32), BYTES.astype(np.int64), SCALED, BITS.astype(bool):
            np.testing.assert_array_equal(earlier.predict_proba(rows), plain.predict_proba(rows))
        for rows in BYTES, BITS:
            expected = plain.predict_proba((rows / 255).astype("f4"))
            np.testing.assert_allclose(earlier.predict_proba(rows), expected, rtol=1e-5)
        # Training continues with the same meaning, and saves it.
        earlier.fit(x, Y, epochs=1, progress=False)
        assert earlier.pixels is None
        earlier.save(tmp_path / "later")
        assert pynn.load(tmp_path / "later", backend="numpy").pixels is None
        earlier.pixels = True
        assert earlier.pixels is True


@pytest.mark.parametrize("pixels", [1, "yes", [], {}, "True"])
def test_a_file_with_another_decision_is_refused(tmp_path, pixels):
    network().save(tmp_path / "net")
    tensors, document = load_tensors(tmp_path / "net")
    save_tensors(tmp_path / "net", tensors, {**document, "pixels": pixels})
    with pytest.raises(ValueError, match="not a model that pynn can use: pixels: found"):
        pynn.load(tmp_path / "net")


class Stop(Exception):
    """Ends a training."""


def _stop(net: pynn.Network, record: Any) -> None:
    if net.epochs == 2:
        raise Stop


@pytest.mark.parametrize("x", [BYTES, BITS, SCALED])
@pytest.mark.parametrize("old", [False, True])
def test_the_decision_is_in_checkpoints(tmp_path, x, old):
    checkpoint = pynn.Checkpoint(tmp_path / "run", epochs=1)
    options: dict[str, Any] = {"epochs": 4, "progress": False}
    with pytest.raises(Stop):
        network().fit(x, Y, callbacks=_stop, checkpoint=checkpoint, **options)
    whole = network()
    whole.fit(x, Y, **options)
    assert pynn.load(tmp_path / "run", backend="numpy").pixels is whole.pixels
    if old:
        _without(tmp_path / "run")
    net = network()
    net.fit(x, Y, checkpoint=checkpoint, resume=True, **options)
    assert net.pixels is whole.pixels
    np.testing.assert_array_equal(net.parameters, whole.parameters)


def test_a_run_is_not_resumed_with_another_decision(tmp_path):
    checkpoint = pynn.Checkpoint(tmp_path / "run", epochs=1)
    options: dict[str, Any] = {"epochs": 4, "progress": False, "checkpoint": checkpoint}
    with pytest.raises(Stop):
        network(True).fit(SCALED, Y, callbacks=_stop, **options)
    with pytest.raises(ValueError, match="pixels: found False, but the run in .* has True"):
        network().fit(SCALED, Y, resume=True, **options)


# --- Interfaces that take values only -------------------------------------------------------------


def test_scikit_learn_interface_takes_values():
    sklearn = pytest.importorskip("pynn.sklearn")
    made = []
    for dtype in "uint8", "float64":
        estimator = sklearn.MLPClassifier((4,), max_iter=3, random_state=0)
        with pytest.warns(UserWarning, match="Maximum iterations"):
            estimator.fit(BYTES.astype(dtype), Y)
        made.append(estimator)
    for form in np.asarray, sparse:
        found = [e.predict_proba(form(x)) for e in made for x in (BYTES, BYTES.astype("f8"))]
        for other in found[1:]:
            np.testing.assert_allclose(found[0], other, rtol=1e-12)
