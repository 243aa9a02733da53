"""Dropout of inputs, and Gaussian noise of inputs and hidden units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.arrays.standard import Standard, Standardized
from pynn.backends import choose, gaps, reference
from pynn.backends.contract import Data
from pynn.spec import optimizers, philox
from pynn.spec.architecture import Architecture
from tests.parity import (
    Case,
    assert_follows_reference,
    assert_same_for_any_threads,
    compressed,
    mostly_zeros,
    new_trainer,
    problem,
    train,
)

NOISE: dict[str, Any] = {"input_noise": 0.2, "hidden_noise": 0.3}
ADAM = Case(optimizer=optimizers.Adam(), rate=0.003)


def everything(backend: str, **more: Any) -> dict[str, Any]:
    """All options of this file that a backend has."""
    return {"input_dropout": 0.3, **({} if gaps.lacks(backend, "noise") else NOISE), **more}


# --- The random numbers ---------------------------------------------------------------------------


def test_noise_is_standard_normal_and_independent() -> None:
    """Of 2 million numbers, all figures are within 5 standard errors."""
    z = philox.noise(3, 1, 0, 0, (10_000, 200))
    n = z.size
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert 4.5 < np.abs(z).max() < 5.78
    for limit, share in ((1, 0.31731051), (2, 0.04550026), (3, 0.00269980)):
        assert abs((np.abs(z) > limit).mean() - share) < 5 * (share / n) ** 0.5
    # Units of a row, also the two of a pair, rows, epochs and layers.
    others = [
        philox.noise(*key, (10_000, 200))
        for key in ((3, 2, 0, 0), (3, 1, 1, 0), (4, 1, 0, 0), (3, 1, philox.INPUTS, 0))
    ]
    shifted = [np.roll(z, shift, axis) for shift, axis in ((1, 1), (32, 1), (64, 1), (1, 0))]
    for other in (*others, *shifted):
        assert abs((z * other).mean()) < 5 / n**0.5
        assert abs((z**2 * other**2).mean() - 1) < 5 * (8 / n) ** 0.5


def test_noise_of_a_row_does_not_depend_on_the_others() -> None:
    whole = philox.noise(2**40 + 1, 5, 2, 10, (20, 130))
    part = philox.noise(2**40 + 1, 5, 2, 17, (3, 33))
    np.testing.assert_array_equal(whole[7:10, :33], part)


@pytest.mark.parametrize("n", [1, 3, 17, 31, 33, 64, 65, 130])
def test_the_words_are_those_of_the_reference(backend: str, dtype: str, n: int) -> None:
    """With zero weights, a target of -1 and one row, the weights become the inputs, as changed.

    A word with one different bit would change the noise by 1e-7.
    """
    net = Architecture.build([n, 1], loss="mse", dtype=dtype, **everything(backend))
    x = np.tile(np.linspace(1, 2, n, dtype=dtype), (7, 1))
    data, settings = Data(x, -np.ones((7, 1), dtype)), Case(batch_size=1, shuffle=False).settings()
    for row in range(7):
        found = np.zeros((2, n + 1), dtype)
        for parameters, name in zip(found, (backend, "numpy"), strict=True):
            trainer = choose.create(name, net, 2).trainer(parameters, [], data, settings)
            trainer.steps(3, row, np.ones(1), 0)
            trainer.store()
        np.testing.assert_array_equal(found[0] == 0, found[1] == 0)
        tiny = 1e-13 if dtype == "float64" else 3e-6
        np.testing.assert_allclose(found[0], found[1], rtol=0, atol=tiny)


# --- Training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1, 1, 2], [3, 17, 33, 3], [17, 33, 33, 5]])
@pytest.mark.parametrize("batch_size", [1, 3, 33])
def test_training_follows_the_reference(
    backend: str, dtype: str, sizes: list[int], batch_size: int
) -> None:
    for activation in ("relu", "gelu"):
        options = everything(backend, dropout=0.2, residual=sizes[1] == sizes[2])
        if not gaps.lacks(backend, "norm"):
            options |= {"norm": "rms", "norm_after": activation == "gelu"}
        net = Architecture.build(sizes, activation, dtype=dtype, **options)
        case = ADAM.but(batch_size=batch_size, steps=30)
        assert_follows_reference(backend, net, problem(net, 73), case)


def test_noise_of_some_layers(backend: str, dtype: str) -> None:
    if gaps.lacks(backend, "noise"):
        pytest.skip(f"{backend} has no noise")
    for noise in ([0.0, 0.3, 0.0], [0.2, 0.0, 0.1]):
        net = Architecture.build([9, 33, 16, 20, 3], "relu", dtype=dtype, hidden_noise=noise)
        assert_follows_reference(backend, net, problem(net, 64), ADAM.but(frozen=(0,)))


@pytest.mark.parametrize("n_out", [7, 40])
def test_inputs_that_are_mostly_zero(backend: str, dtype: str, n_out: int) -> None:
    """Rows whose zeros are skipped, also by narrow layers, in every format of x."""
    options = {"input_dropout": 0.4, "dtype": dtype}
    net = Architecture.build([130, n_out], **options)
    given = mostly_zeros(net, 80)
    assert isinstance(given.x, np.ndarray)
    wide = given._replace(x=np.asfortranarray(given.x))
    pixels = given._replace(x=(50 * np.abs(given.x)).astype(np.uint8))
    sparse = given._replace(x=compressed(given.x, np.random.default_rng(1), dtype))
    standard = Standard.of(np.full(130, 0.1), np.full(130, 2.0))
    scaled = given._replace(x=Standardized(given.x, standard))
    few = np.arange(130) % 120 < 10
    blocks = given._replace(x=np.where(few, given.x + 1, 0).astype(dtype))
    case = ADAM.but(batch_size=32, steps=20)
    dense = [given, blocks, wide, pixels, scaled]
    for each in [*dense, *([] if gaps.lacks(backend, "sparse") else [sparse])]:
        run = assert_follows_reference(backend, net, each, case)
        if backend == "cython":
            assert_same_for_any_threads(net, each, case, run, slices=2)
    if backend == "cython":
        engine = choose.create("cython", net, 2)
        trainers: list[Any] = [new_trainer(engine, each, case) for each in (given, blocks)]
        assert trainers[0].sparse or n_out < 40
        assert trainers[1].sparse or trainers[1].marked


def test_residual_layers_add_the_inputs_that_remain(backend: str, dtype: str) -> None:
    net = Architecture.build([40, 40, 3], "relu", dtype=dtype, input_dropout=0.4, residual=True)
    given = mostly_zeros(net, 60)
    assert isinstance(given.x, np.ndarray)
    sparse = given._replace(x=compressed(given.x, np.random.default_rng(1), dtype))
    for each in (given, *([] if gaps.lacks(backend, "sparse") else [sparse])):
        assert_follows_reference(backend, net, each, ADAM.but(steps=20))


def test_dropped_inputs_are_skipped() -> None:
    """Values that are not zero before dropout, but mostly after it."""
    pytest.importorskip("pynn.backends.cython._core")
    for rate, skips in ((0.8, True), (0.0, False)):
        net = Architecture.build([64, 256, 3], input_dropout=rate)
        trainer: Any = new_trainer(choose.create("cython", net, 1), problem(net, 64), ADAM)
        assert trainer.sparse == skips


def test_results_do_not_depend_on_the_number_of_threads(backend: str, dtype: str) -> None:
    options = everything(backend, residual=True)
    net = Architecture.build([64, 64, 33, 5], "relu", dtype=dtype, **options)
    given = problem(net, 211)
    for batch_size in (1, 2, 33, 200):
        case = ADAM.but(batch_size=batch_size, steps=6)
        runs = [train(backend, net, given, case.but(threads=k)) for k in (1, 2, 3)]
        for run in runs[1:]:
            for found, expected in zip(run.vectors, runs[0].vectors, strict=True):
                assert found.tobytes() == expected.tobytes()


def test_predictions_have_no_noise(backend: str) -> None:
    plain = Architecture.build([20, 33, 5], "tanh")
    noisy = Architecture.build([20, 33, 5], "tanh", **everything(backend, dropout=0.5))
    given = problem(plain, 50)
    found, expected = (
        (
            engine.forward(given.parameters, given.x),
            engine.evaluate(*given),
            engine.objective(Data(given.x, given.y), ADAM.settings())(given.parameters)[1],
            new_trainer(engine, given, ADAM).evaluate(given.x, given.y),
        )
        for engine in (choose.create(backend, net, 2) for net in (noisy, plain))
    )
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e)


def test_gradients_agree_with_finite_differences() -> None:
    """Of the reference, with the masks and the noise of one batch."""
    options = everything("numpy", dropout=0.3, norm="layer")
    net = Architecture.build([4, 6, 3, 5], ["gelu", "tanh"], dtype="float64", **options)
    given, h = problem(net, 9), 1e-6
    trainer = new_trainer(reference.Engine(net), given, Case(batch_size=9))
    assert isinstance(trainer, reference.Trainer)
    _, x, y, masks, noises = trainer.batch(0, 0)
    assert (x == 0).any()
    assert not np.isin(x[x != 0], given.x).any()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        (w, b), gradient = net.views(parameters), np.empty_like(parameters)
        scales, dscales = net.norm_views(parameters), net.norm_views(gradient)
        running: list[list[np.ndarray]] = [[] for _ in w]
        hs, zs = reference.forward(net, w, b, scales, running, x, masks, noises)
        losses, dz = reference.loss_and_output_gradient(net, zs[-1], y)
        dz /= len(x)
        parts = *net.views(gradient), dscales
        reference.backward(net, w, scales, running, hs, zs, dz, masks, *parts)
        return float(losses.mean()), gradient

    _, gradient = loss(given.parameters)
    for i in range(net.n_parameters):
        up, down = given.parameters.copy(), given.parameters.copy()
        up[i] += h
        down[i] -= h
        assert gradient[i] == pytest.approx((loss(up)[0] - loss(down)[0]) / (2 * h), abs=1e-8)
