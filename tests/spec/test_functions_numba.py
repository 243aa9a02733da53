"""Custom activations and losses that Numba compiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.backends.contract import Data, TrainerSettings
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.spec.custom import (
    BACKENDS,
    cube,
    falling,
    fit,
    huber,
    make,
    near,
    needs_numba,
    scaled,
    sigmoid,
    skewed,
    swish,
    swish_derivative,
    tanh,
    tanh_slope,
)

# --- Numba follows the reference ------------------------------------------------------------------


def train(name, net, optimizer, rows=37, batch=10, threads=2, epochs=3):
    rng = np.random.default_rng(1)
    p = rng.normal(scale=0.4, size=net.n_parameters).astype(net.dtype)
    x = rng.normal(size=(rows, net.n_in)).astype(net.dtype)
    y: Any = rng.normal(size=(rows, net.n_out)).astype(net.dtype)
    if net.n_out > 1 and rows % 2:
        y = rng.integers(0, net.n_out, rows).astype(np.int32)
    state = [np.zeros_like(p) for _ in range(optimizer.slots)]
    trainer = choose.create(name, net, threads).trainer(
        p,
        state,
        Data(x, y),
        TrainerSettings(optimizer=optimizer, batch_size=batch, l2=0.02, seed=5),
    )
    steps = -(-rows // batch)
    sums = []
    for epoch in range(epochs):
        rates = 0.02 / (1 + 0.1 * np.arange(steps))
        sums.append(trainer.steps(epoch, 0, rates, epoch * steps))
    trainer.store()
    return p, *state, np.array(sums)


@needs_numba
@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD(),
        optimizers.Momentum(),
        optimizers.Adam(),
        optimizers.AdamW(weight_decay=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1, 3), (17, 33, 1), (3, 33, 17, 3), (33, 17, 33)])
def test_numba_trains_as_the_reference(dtype, sizes, optimizer):
    outputs = [("identity", huber), (swish, "mse"), (falling, skewed)]
    for output, loss in outputs + [("softmax", huber)] * (sizes[-1] > 1):
        net = Architecture.build(sizes, swish, output, loss, 0.2, dtype)
        for rows in (37, 20):  # labels, and values; a last batch of seven rows
            got, want = (train(name, net, optimizer, rows) for name in ("numba", "numpy"))
            for g, w in zip(got, want, strict=True):
                close = (1e-10 if dtype == "float64" else 1e-4) * np.nanmax(np.abs(w))
                assert 0 < close < np.inf
                np.testing.assert_allclose(g, w, rtol=0, atol=close)


@needs_numba
def test_results_do_not_depend_on_threads_and_chunks(monkeypatch, dtype):
    from pynn.backends.numba import parameters
    from pynn.backends.numba import threads as numba_threads

    softmax = Architecture.build([17, 33, 3], swish, "softmax", skewed, 0.2, dtype)
    nets = [softmax, Architecture.build([17, 33, 9, 3], [cube, swish], falling, huber, 0.1, dtype)]
    monkeypatch.setattr(numba_threads.Pace, "note", lambda self, seconds, done: None)
    for net in nets:
        runs = []
        for rows in (512, 7, 50):
            monkeypatch.setattr(parameters, "CHUNK_ROWS", rows)
            for threads in (1, 2, 3, 5):
                monkeypatch.setattr(numba_threads.Pace, "choose", lambda self, t=threads: (t, 3))
                got = train("numba", net, optimizers.Adam(), 101, 60, threads)
                runs.append([g.tobytes() for g in got])
        assert all(run == runs[0] for run in runs)


FAR = [1e-30, 1e-8, 1e-4, 0.3, 0.999, 1, 5, 20, 50, 87.1, 88.5, 200, 707, 709.5, 1e4, 1e30, np.inf]
POINTS = np.array([-x for x in FAR[::-1]] + [0.0, *FAR, np.nan])


def compiled(function, *places):
    """What a function gives number by number, in an array as the first of ``places``."""
    from numba import njit

    from pynn.backends.numba import custom

    number = custom.for_numbers(function, places[0].dtype.name)

    def over_one(out, z):
        for i in range(len(out)):
            out[i] = number(z[i])

    def over_two(out, a, t):
        for i in range(len(out)):
            out[i] = number(a[i], t[i])

    out = np.empty_like(places[0])
    njit(over_two if len(places) == 2 else over_one, error_model="numpy")(out, *places)
    return out


@needs_numba
@pytest.mark.parametrize(
    "name", ["exp", "expm1", "tanh", "log", "log1p", "ones_like", "zeros_like"]
)
def test_functions_of_numpy_over_the_whole_range(dtype, name):
    from pynn.backends.numba import custom

    function = getattr(np, name)
    assert function in custom.REPLACED
    info = np.finfo(dtype)
    z = np.concatenate([POINTS, [info.tiny, info.tiny / 4, info.max, 1 + info.eps, -1 + info.eps]])
    z = np.concatenate([z, np.linspace(-3, 3, 1001), np.exp(np.linspace(-80, 80, 1001))])
    with np.errstate(all="ignore"):
        z = z.astype(dtype)
        want = function(z.astype(np.longdouble)).astype(dtype)
    found = compiled(lambda z: function(z), z)
    np.testing.assert_allclose(found, want, rtol=5 * info.eps, atol=info.tiny)


@needs_numba
@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: np.maximum(a, b),
        lambda a, b: np.minimum(a, b),
        lambda a, b: np.maximum(a, 0) - np.minimum(1, b),
        lambda a, b: np.clip(a, -1, b),
        lambda a, b: np.where((a > 0) & (b < 2), a, 7),
        lambda a, b: (a > b) * a + ~(a > b) * b,
        lambda a, b: np.sign(a) * np.square(b) - np.abs(a) ** 3 / (b**2 + 1),
    ],
)
def test_choices_and_powers_equal_those_of_numpy(dtype, function):
    numbers = [-np.inf, -1.5, 0.0, 0.7, 2.0, np.inf, np.nan]
    a, b = (g.reshape(-1).astype(dtype) for g in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        want = function(a, b).astype(dtype)
    np.testing.assert_array_equal(compiled(function, a, b), want)


@needs_numba
def test_single_precision_stays_so():
    """Step by step the bits of NumPy: were 0.1 or what comes of 1 + x a float64, they would not."""
    tenth = 0.1

    def function(z):
        return (z + tenth) * (1 - z) / (3 + 0.7 * z * z) - np.sqrt(np.abs(z) / 3)

    z = np.random.default_rng(0).normal(size=500).astype(np.float32)
    want = function(z)
    assert want.dtype == np.float32
    assert compiled(function, z).tobytes() == want.tobytes()
    assert (function(z.astype(np.float64)).astype(np.float32) != want).any()


# --- Numba takes them as they are -----------------------------------------------------------------


def assert_as_numpy(activation, data):
    nets = [make(backend, activation=activation, dtype="float64") for backend in BACKENDS]
    for net in nets:
        fit(net, data)
    assert near(nets[-1].parameters, nets[0].parameters, 1e-11)
    return nets[-1].parameters


@needs_numba
def test_numbers_and_functions_around_a_function(blobs):
    ends = [assert_as_numpy(scaled(beta), blobs) for beta in (1.0, 2.0, 1.0)]
    assert not near(ends[0], ends[1], 1e-3)
    assert ends[0].tobytes() == ends[2].tobytes()


BETA = 1.0


@needs_numba
def test_global_numbers_are_read_when_a_network_is_created(blobs, monkeypatch):
    changing = pynn.Activation(
        "changing", lambda z: np.tanh(BETA * z), lambda z: BETA * (1 - np.tanh(BETA * z) ** 2)
    )
    first = assert_as_numpy(changing, blobs)
    monkeypatch.setitem(globals(), "BETA", 3.0)
    assert not near(assert_as_numpy(changing, blobs), first, 1e-3)


def twice(z, share=0.5):
    return share * tanh(z) + (1 - share) * tanh(z)


@needs_numba
def test_functions_and_numbers_by_any_name(blobs):
    assert_as_numpy(pynn.Activation("mine", twice, lambda z: 1 - tanh(z) ** 2), blobs)
    assert_as_numpy(pynn.Activation("mine", np.tanh, tanh_slope), blobs)


@needs_numba
def test_functions_that_numba_has_compiled_already(blobs):
    from numba import njit

    gate = njit(sigmoid)
    assert_as_numpy(pynn.Activation("mine", lambda z: z * gate(z), swish_derivative), blobs)
    assert_as_numpy(pynn.Activation("mine", njit(lambda z: np.exp(-z * z)), bell_slope), blobs)


def bell_slope(z):
    return -2 * z * np.exp(-z * z)


class Callable:
    def __call__(self, z):
        return np.tanh(z)


TABLE = {"one": 1.0}


@needs_numba
@pytest.mark.parametrize(
    "function",
    [Callable(), lambda z: np.tanh(z).astype(z.dtype), lambda z: np.tanh(z * TABLE["one"])],
)
def test_functions_that_numba_cannot_compile_are_refused(blobs, function):
    own = pynn.Activation("mine", function, tanh_slope)
    message = (
        r"Activation\('mine'\): found a function that Numba cannot compile .*"
        r"backend='numpy' accepts any"
    )
    for backend in ("numba", "auto"):
        with pytest.raises(ValueError, match=message):
            make(backend, activation=own)
    fit(make("numpy", activation=own), blobs)


@needs_numba
def test_functions_that_numba_computes_differently_are_refused(monkeypatch):
    from pynn.backends.numba import custom

    monkeypatch.setitem(custom.REPLACED, np.tanh, custom.REPLACED[np.exp])
    own = pynn.Activation("mine", np.tanh, tanh_slope)
    with pytest.raises(
        ValueError, match=r"'mine'\): function: found .* compiled by Numba, expected"
    ):
        make("numba", activation=own)
