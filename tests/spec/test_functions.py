"""Custom activations and losses: checks, gradients, and every other setting with them."""

from __future__ import annotations

import copy
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose, reference
from pynn.backends.contract import Data, ObjectiveSettings
from pynn.files.tensors import load_tensors, save_tensors
from pynn.spec.architecture import Architecture
from pynn.training import initialise
from tests.spec.custom import (
    BACKENDS,
    NUMBA,
    cube,
    falling,
    fit,
    huber,
    huber_function,
    huber_gradient,
    make,
    near,
    needs_numba,
    ones,
    scaled,
    sigmoid,
    skewed,
    swish,
    swish_function,
    tanh_slope,
)

# --- What they must be ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "derivative", "message"),
    [
        (np.tanh, lambda z: 1 - np.tanh(z), r"derivative: found .* at z = .*, expected .*slope of"),
        (
            swish_function,
            sigmoid,
            r"'mine'\): derivative: found 0.868\d* at z = 1.8\d*, expected 1",
        ),
        (np.tanh, lambda z: 1.001 * (1 - np.tanh(z) ** 2), "derivative: found .* the slope"),
        (np.abs, lambda z: -np.sign(z), "derivative: found .* expected .* the slope"),
        (
            lambda z: z if z > 0 else 0 * z,
            ones,
            r"function: found one that fails .*np.where\(z > 0",
        ),
        (lambda z: 1.0, ones, r"function: found shape \(\) .*expected \(400,\).*np.ones_"),
        (lambda z: z, lambda z: 1.0, r"derivative: found shape \(\)"),
        (lambda z: z[:3], ones, r"function: found shape \(3,\)"),
        (lambda z: z + 0j, ones, "function: found complex128 for arrays of float64"),
        (lambda z: np.exp(z, out=z), np.exp, "function: found one that fails .*read-only"),
        (lambda z: z / z.sum(), ones, "function: found .*expected its value in a larger"),
        (np.log, lambda z: 1 / z, "function: found nan at z = -.*expected a finite number"),
        (lambda z: z, lambda z: z / 0, "derivative: found -?inf at z"),
        (lambda z: np.exp(z * z), lambda z: 2 * z * np.exp(z * z), "function: found inf"),
        (
            lambda z: np.exp(z) / (1 + np.exp(z)),
            ones,
            "function: found nan at z = 1000, expected a",
        ),
        (lambda a, b: a, ones, "function: found one that fails .*TypeError"),
    ],
)
def test_a_wrong_custom_function_is_refused(function, derivative, message):
    with pytest.raises(ValueError, match=message) as caught:
        pynn.Activation("mine", function, derivative)
    assert str(caught.value).startswith("Activation('mine'): ")


@pytest.mark.parametrize(
    ("function", "gradient", "output", "message"),
    [
        (huber_function, lambda a, t: t - a, "identity", r"gradient: found .* at a = .*, t = "),
        (lambda a, t: (a - t) ** 2, lambda a, t: a - t, "softmax", "gradient: found .*the slope"),
        (lambda a, t: np.log(a) * t, lambda a, t: t / a, "identity", "function: found nan at a"),
        (
            lambda a, t: -(t * np.log(a) + (1 - t) * np.log(1 - a)),
            lambda a, t: (a - t) / (a * (1 - a)),
            *("sigmoid", "function: found nan at a = 0, t = 0, expected a number, or infinity"),
        ),
        (huber_function, huber_gradient, "idntity", "output: found 'idntity', .*mean 'identity'"),
        (lambda a: a, huber_gradient, "identity", "function: found one that fails"),
    ],
)
def test_a_wrong_custom_loss_is_refused(function, gradient, output, message):
    with pytest.raises(ValueError, match=message) as caught:
        pynn.Loss("mine", function, gradient, output)
    assert str(caught.value).startswith("Loss('mine'): ")


@pytest.mark.parametrize("name", ["", "two words", "relu", "mse", "softmax", None, 3])
def test_a_wrong_name_of_a_custom_function_is_refused(name):
    for kind in (pynn.Activation, pynn.Loss):
        with pytest.raises(ValueError, match=rf"{kind.__name__}.name: found {name!r}"):
            kind(name, np.tanh, np.tanh)


def test_a_value_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"Activation\('mine'\): derivative: found 3, expected a"):
        pynn.Activation("mine", np.tanh, 3)


@pytest.mark.parametrize(
    ("function", "derivative"),
    [
        (lambda z: np.maximum(z, 0), lambda z: z > 0),
        (np.abs, np.sign),
        (lambda z: np.clip(z, 0, 6), lambda z: (z > 0) & (z < 6)),
        (lambda z: z - np.floor(z), ones),  # it jumps
        (lambda z: np.where(z > 0, z, 0.2 * z), lambda z: np.where(z > 0, 1, 0.2)),
        (np.exp, np.exp),
        (lambda z: np.tanh(50 * z), lambda z: 50 - 50 * np.tanh(50 * z) ** 2),
        (lambda z: 1e-6 * z, lambda z: 1e-6 * np.ones_like(z)),
        (lambda z: 1e6 * z, lambda z: 1e6 * np.ones_like(z)),
    ],
)
def test_kinks_jumps_and_slopes_of_any_size_are_no_error(function, derivative):
    pynn.Activation("mine", function, derivative)


def test_losses_are_checked_on_values_in_the_range_of_the_output():
    def log_error(a, t):
        return (np.log1p(a) - np.log1p(t)) ** 2

    def gradient(a, t):
        return 2 * (np.log1p(a) - np.log1p(t)) / (1 + a)

    with pytest.raises(ValueError, match="function: found (nan|-?inf) at a = "):
        pynn.Loss("log_error", log_error, gradient)
    pynn.Loss("log_error", log_error, gradient, output="softplus")
    square = pynn.Activation("square", lambda z: z * z, lambda z: 2 * z)
    pynn.Loss("own_output", huber_function, huber_gradient, output=square)


def test_architecture_with_functions():
    net = Architecture.build([5, 4, 3, 2], ["tanh", swish], loss=huber)
    assert net.activations == ("tanh", "swish", "identity")
    assert net.loss == "huber"
    assert net.functions == (swish, huber)
    assert net.custom("swish") is swish
    assert net.custom("tanh") is None
    assert net.regression
    assert Architecture.build([2, 3], output="softmax", loss=huber).activations == ("softmax",)
    own_output = pynn.Loss("own_output", huber_function, huber_gradient, output=falling)
    assert Architecture.build([2, 3], loss=own_output).activations == ("falling",)
    with pytest.raises(
        ValueError, match=r"output: found Activation\('swish'\), expected 'softmax'"
    ):
        Architecture.build([2, 3], output=swish)
    with pytest.raises(ValueError, match="output: found 'softmax' with 1 output"):
        Architecture.build([2, 1], output="softmax", loss=huber)
    with pytest.raises(TypeError, match="activation: found .*a pynn.Activation"):
        Architecture.build([2, 3, 2], activation=np.tanh)
    with pytest.raises(ValueError, match=r"activation\[0\]: found Loss\('huber'\)"):
        Architecture.build([2, 3, 2], activation=[huber])
    with pytest.raises(ValueError, match=r"loss: found Activation\('swish'\)"):
        Architecture.build([2, 3, 2], loss=swish)
    other = pynn.Activation("swish", np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    with pytest.raises(ValueError, match="found two functions named 'swish'"):
        Architecture.build([2, 3, 3, 2], activation=[swish, other])


def test_initial_weights_suit_the_kind_of_activation():
    def names(activation):
        return initialise.names(Architecture.build([2, 3, 2], activation), None)

    assert names(swish) == names("gelu") == ["he_normal", "glorot_uniform"]
    assert names(falling) == names("tanh") == ["glorot_uniform", "glorot_uniform"]


# --- What comes of them ---------------------------------------------------------------------------


LIKE = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: z > 0),
    "elu": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.exp(np.minimum(z, 0)),
    ),
    "softplus": (lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), sigmoid),
}


@pytest.mark.parametrize("name", LIKE)
def test_a_function_that_pynn_has_trains_to_the_same_weights(blobs, backend, dtype, name):
    own = pynn.Activation("own", *LIKE[name])
    loss = pynn.Loss("own_mse", lambda a, t: (a - t) ** 2, lambda a, t: 2 * (a - t))
    for output in ("identity", "softmax", "tanh"):
        more = {"output": output, "dtype": dtype, "init": "glorot_normal", "dropout": 0.1}
        ours = make(backend, activation=own, loss=loss, **more)
        theirs = make(backend, activation=name, loss="mse", **more)
        for net in (ours, theirs):
            fit(net, blobs, optimizer="momentum", learning_rate=0.01, validation=0.2)
        assert near(ours.parameters, theirs.parameters, 1e-12 if dtype == "float64" else 1e-5)
        assert ours.history.accuracy == theirs.history.accuracy
        np.testing.assert_allclose(ours.history.loss, theirs.history.loss, rtol=1e-5)


@pytest.mark.parametrize("output", ["identity", "softmax", "exp", "tanh", "gelu", falling, swish])
@pytest.mark.parametrize("loss", [huber, skewed, "mse"])
def test_gradients_are_slopes(rng, backend, output, loss):
    labels, targets = rng.integers(0, 3, 9), rng.normal(size=(9, 3))
    x = rng.normal(size=(9, 4))
    net = make(backend, (4, 5, 3), output=output, loss=loss, dtype="float64")
    net.parameters = rng.normal(scale=0.6, size=len(net.parameters))
    for y in (labels, targets):
        _, gradient = net.loss_and_gradient(x, y, l2=0.1)
        start, step = net.parameters.copy(), 1e-5
        for k in range(len(start)):
            sides = []
            for h in (step, -step):
                net.parameters[k] = start[k] + h
                sides.append(net.loss_and_gradient(x, y, l2=0.1)[0])
            net.parameters[k] = start[k]
            slope = (sides[0] - sides[1]) / (2 * step)
            assert gradient[k] == pytest.approx(slope, rel=1e-7, abs=1e-8)


def test_loss_is_the_mean_over_outputs_of_one_hot_targets_or_values(rng, backend, dtype):
    x, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    net = make(backend, loss=huber, dtype=dtype)
    a = net._engine.forward(net.parameters, x)
    for given, t in ((y, np.eye(3)[y]), (a[::-1].copy(), a[::-1])):
        expected = huber_function(a, t).mean()
        assert net.evaluate(x, given)["loss"] == pytest.approx(expected, rel=1e-6)
    right = (a.argmax(axis=1) == y).mean()
    assert net.evaluate(x, y)["accuracy"] == pytest.approx(right)


def test_accuracy_depends_on_the_largest_output(rng, backend):
    x, y = rng.normal(size=(200, 4)), rng.integers(0, 3, 200)
    for loss in (huber, "mse"):
        net = make(backend, loss=loss, output=falling)
        fit(net, (x, y), epochs=1)
        accuracy = (net.predict(x) == y).mean()
        assert net.evaluate(x, y)["accuracy"] == pytest.approx(accuracy)


def test_weighed_rows_count_as_often(rng):
    net = Architecture.build([4, 5, 3], swish, loss=huber, dtype="float64")
    engine, p = reference.Engine(net), rng.normal(size=net.n_parameters)
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    often = np.array([1, 3, 2])
    loss, gradient = engine.objective(Data(x, y, often.astype(float)), ObjectiveSettings(l2=0.1))(p)
    rows = np.repeat(np.arange(3), often)
    other, expected = engine.objective(Data(x[rows], y[rows]), ObjectiveSettings(l2=0.1))(p)
    assert loss == pytest.approx(other)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


def test_a_network_of_values(rng, backend):
    x = rng.uniform(-2, 2, size=(400, 2))
    y = np.sin(x[:, 0]) * x[:, 1]
    net = make(backend, (2, 30, 1), loss=huber)
    history = fit(net, (x, y), epochs=60, learning_rate=0.01, validation=0.25)
    assert history.validation_loss[-1] < 0.01 < history.validation_loss[0]
    assert net.predict(x).shape == (400,)
    assert history.accuracy[-1] is None


# --- Backends -------------------------------------------------------------------------------------


def test_the_choice_of_a_backend(monkeypatch):
    assert make("auto").backend == ("numba" if NUMBA else "numpy")
    with pytest.raises(ValueError, match=r"found 'cython' and Activation\('swish'\).* 'numba'"):
        make("cython")
    with pytest.raises(ValueError, match=r"found 'cython' and Loss\('huber'\)"):
        make("cython", activation="relu", loss=huber)
    with pytest.raises(ValueError, match="backend: found 'abacus'"):
        make("abacus")
    without = {**choose.available(), "numba": "the package numba is not installed"}
    monkeypatch.setattr(choose, "available", lambda: without)
    choose._warn_without_numba.cache_clear()
    with pytest.warns(UserWarning, match="'numpy' for custom functions: .*pip install") as w:
        assert make("auto").backend == "numpy"
    assert w[0].filename == __file__
    with pytest.raises(ValueError, match="expected 'numba' .*not installed: pip install"):
        make("cython")
    with pytest.raises(ImportError, match="numba is not installed"):
        make("numba")


@needs_numba
def test_errors_say_why_the_backend_is_numba(blobs):
    sparse = pytest.importorskip("scipy.sparse")
    x, y = blobs
    rows = sparse.csr_matrix(x)
    why = r"found 'numba' \(chosen for Activation\('swish'\), a custom function\), which does not"
    net = make("auto")
    for ask in (
        lambda: net.predict(rows),
        lambda: net.evaluate(rows, y),
        lambda: net.loss_and_gradient(rows, y),
        lambda: net.fit(rows, y),
        lambda: net.fit(x, y, validation=(rows, y), epochs=1),
    ):
        with pytest.raises(ValueError, match=f"backend: {why} .*; expected backend='numpy'"):
            ask()
    assert len(make("numpy").predict(rows)) == len(x)
    with pytest.raises(ValueError, match="backend: found 'numba', which .*'cython' or 'numpy'"):
        make("numba", activation="relu").predict(rows)
    why = r"'bf16' with the backend 'numba' \(chosen for Activation\('swish'\), a custom function"
    with pytest.raises(ImportError, match=f"precision: found {why}.*backend='numpy'"):
        make("auto", precision="bf16")
    assert make("numpy", precision="bf16").precision == "bf16"


# --- With everything else -------------------------------------------------------------------------


@needs_numba
def test_custom_functions_work_with_every_other_setting(blobs):
    x, y = blobs
    names = np.array(["rook", "ant", "bee"])[y]
    nets = [make(b, loss=huber, dropout=0.1, dtype="float64") for b in BACKENDS]
    for net in nets:
        fit(
            *(net, (x, names)),
            epochs=12,
            optimizer=pynn.AdamW(weight_decay=0.01),
            learning_rate=0.02,
            l2=1e-3,
            schedule=pynn.WarmUp(1, pynn.Exponential(0.9)),
            validation=0.2,
            callbacks=[pynn.EarlyStopping(patience=2), pynn.Norms(x, names)],
        )
    first, second = (net.history for net in nets)
    np.testing.assert_allclose(first.loss, second.loss, rtol=1e-9)
    np.testing.assert_allclose(first.validation_loss, second.validation_loss, rtol=1e-9)
    assert first.validation_accuracy == second.validation_accuracy
    assert (nets[0].predict(x) == nets[1].predict(x)).all()
    assert nets[1].evaluate(x, names)["accuracy"] > 0.9


def test_divergence_names_the_layer(blobs, backend):
    x, y = blobs
    net = make(backend, (4, 8, 8, 3), activation=["tanh", cube], loss=huber, init="normal")
    with pytest.raises(pynn.DivergenceError) as caught:
        fit(net, (x, y), epochs=50, optimizer="sgd", learning_rate=1e4)
    assert caught.value.layer is not None
    assert np.isfinite(net.parameters).all()


def test_training_continues_exactly_after_pickling_and_copying(blobs, backend):
    net = make(backend, loss=huber, dropout=0.2)
    fit(net, blobs)
    twins = [pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]
    for each in (net, *twins):
        fit(each, blobs)
    assert {twin.parameters.tobytes() for twin in twins} == {net.parameters.tobytes()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_gets_identical_results(blobs, backend):
    net = make(backend, loss=huber)
    fit(net, blobs)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        fit(net, blobs)
        fresh = make(backend, loss=skewed)  # which compiles
        os.write(writer, net.parameters.tobytes() + bytes([len(fit(fresh, blobs))]))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    fit(net, blobs)
    assert found == net.parameters.tobytes() + bytes([3])


# --- To disk and back -----------------------------------------------------------------------------


def test_training_continues_exactly_after_saving_and_loading(tmp_path: Path, blobs, backend):
    path = tmp_path / "net.safetensors"
    net = make(backend, loss=huber, output=falling, dropout=0.2)
    fit(net, blobs)
    net.save(path)
    twin = pynn.load(path, functions=[cube, huber, swish, falling], backend=backend)
    assert repr(twin) == repr(net)
    assert twin.architecture == net.architecture
    for each in (net, twin):
        fit(each, blobs)
    assert twin.parameters.tobytes() == net.parameters.tobytes()


def test_a_file_holds_names_and_numbers(tmp_path: Path):
    path = tmp_path / "net.safetensors"
    make(loss=huber).save(path)
    kept = load_tensors(path)[1]["architecture"]
    assert kept["activations"] == ["swish", "identity"]
    assert kept["loss"] == "huber"
    assert set(kept["functions"]) == {"swish", "huber"}
    for values in kept["functions"].values():
        assert len(values) == 16
        assert all(isinstance(value, (int, float)) for value in values)
    assert b"function" in path.read_bytes()
    assert b"lambda" not in path.read_bytes()
    assert b"sigmoid" not in path.read_bytes()


def test_loading_needs_the_functions(tmp_path: Path):
    path = tmp_path / "net.safetensors"
    make(loss=huber).save(path)
    with pytest.raises(ValueError, match=r"found none named 'swish', expected the pynn.Activation"):
        pynn.load(path)
    with pytest.raises(ValueError, match=r"found none named 'huber', expected the pynn.Loss") as e:
        pynn.load(path, functions=swish)
    assert "pynn.load(path, functions=[…])" in str(e.value)
    other = pynn.Activation("swish", np.tanh, tanh_slope)
    with pytest.raises(ValueError, match=r"found Activation\('swish'\) with other values"):
        pynn.load(path, functions=[other, huber])
    with pytest.raises(TypeError, match="functions: found <function"):
        pynn.load(path, functions=[swish_function])
    with pytest.raises(ValueError, match="found 'cython' and Activation"):
        pynn.load(path, functions=[swish, huber], backend="cython")
    pynn.Network([2, 2], backend="numpy").save(path)
    assert pynn.load(path, functions=[swish], backend="numpy").architecture.functions == ()


@pytest.mark.parametrize(
    "functions",
    [
        3,
        [],
        ["swish"],
        {"swish": []},
        {"swish": ["a"] * 16},
        {"swish": [[1]]},
        {"relu": [1.0]},
        None,
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, functions):
    path = tmp_path / "net.safetensors"
    make().save(path)
    tensors, about = load_tensors(path)
    about["architecture"]["functions"] = functions
    save_tensors(path, tensors, about)
    other = functions in ({"swish": []}, {"swish": [[1]]})
    with pytest.raises(ValueError, match="other values" if other else "not a model that pynn can"):
        pynn.load(path, functions=[swish])


class Cut(Exception):
    pass


def cut(net, record):
    if net.updates == 6:
        raise Cut


def test_a_run_that_was_cut_off_resumes_exactly(tmp_path: Path, blobs, backend):
    path = tmp_path / "run.ckpt"

    def run(*calls, **more):
        net = make(backend, **{"loss": huber, "dropout": 0.2} | more)
        kept = pynn.Checkpoint(path, steps=1)
        fit(net, blobs, checkpoint=kept, resume=True, callbacks=list(calls))
        return net

    whole = make(backend, loss=huber, dropout=0.2)
    fit(whole, blobs)
    with pytest.raises(Cut):
        run(pynn.Every(1, cut))
    other = pynn.Activation("swish", np.tanh, tanh_slope)
    with pytest.raises(
        ValueError, match=r"functions: found \{'swish': .*expected the same to continue"
    ):
        run(activation=other)
    with pytest.raises(ValueError, match=r"activation: found \['relu'.*has \['swish'"):
        run(activation="relu")
    with pytest.raises(ValueError, match="loss: found mse, but the run in .* has huber"):
        run(loss="mse")
    assert run().parameters.tobytes() == whole.parameters.tobytes()
    assert pynn.load(path, functions=[swish, huber], backend=backend).epochs == 3
    with pytest.raises(ValueError, match="found none named 'swish'"):
        pynn.load(path)


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "custom-functions.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


def test_the_code_on_the_page_prints_what_it_says(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert sum(bool(printed) for _, printed in blocks) == 3
    names: dict[str, Any] = {}
    for code, printed in blocks:
        exec(code, names)
        assert capsys.readouterr().out == printed
    assert names["net"].epochs == 3


@needs_numba
def test_the_page_lists_the_vectorized_functions():
    from pynn.backends.numba import custom

    page = PAGE.read_text(encoding="utf-8")
    sentence = page[page.rindex("`np.exp`,") : page.index("become vector code")]
    constants = {np.ones_like, np.zeros_like}
    named = {getattr(np, name.removeprefix("np.")) for name in re.findall(r"`([\w.]+)`", sentence)}
    assert named == custom.REPLACED.keys() - constants


def test_values_at_fixed_points_tell_functions_apart():
    assert swish.fingerprint() == pynn.Activation("x", *_of(swish)).fingerprint()
    assert scaled(1.0).fingerprint() == swish.fingerprint() != scaled(1.01).fingerprint()
    assert all(math.isfinite(value) for value in huber.fingerprint())


def _of(own):
    return own.function, own.derivative
