"""Standardised rows: every backend trains as on rows that were standardised before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.arrays.standard import Standard, Standardized, column_standard
from pynn.backends import choose
from pynn.backends.contract import Data
from pynn.backends.reference import read_rows
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture

from ..parity import (
    VARIANTS,
    Case,
    Problem,
    assert_follows_reference,
    assert_identical,
    assert_same_for_any_threads,
    compressed,
    instruction_set,
    objective,
    problem,
    train,
)
from ..parity import mostly_zeros as problem_with_zeros

CASE = Case(optimizer=optimizers.Adam(), rate=0.01, batch_size=16, steps=12)
NETS = {"narrow": [21, 3], "wide": [37, 24, 3], "one": [1, 9, 2]}


def sources(rows: int, n: int) -> dict[str, np.ndarray]:
    """The same kind of data in every dtype, and in memory with gaps."""
    rng = np.random.default_rng(4)
    x = rng.normal(50, 20, (rows, n))
    pixels = rng.integers(0, 256, (rows, n), dtype=np.uint8)
    gaps = np.zeros((rows, 2 * n + 1), np.float32)
    gaps[:, 1::2] = x
    readonly = x.copy()
    readonly.flags.writeable = False
    return {
        "uint8": pixels,
        "uint8 by column": np.asfortranarray(pixels),
        "float32": x.astype(np.float32),
        "float32 with gaps": gaps[::-1, 1::2],
        "float64": readonly,
        "float64 by column": np.asfortranarray(x)[:, ::-1],
    }


@pytest.fixture(params=VARIANTS, ids=lambda v: v[1] or v[0])
def backend(request: pytest.FixtureRequest) -> Any:
    name, isa = request.param
    if isa is None:
        yield name
        return
    with instruction_set(isa):
        yield name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", NETS)
def test_as_on_rows_standardized_before(backend: str, kind: str, dtype: str) -> None:
    """In every bit: training, outputs of one row and of many, losses and gradients."""
    net = Architecture.build(NETS[kind], "tanh", dtype=dtype)
    given = problem(net, 50)
    engine = choose.create(backend, net, 2)
    for x in sources(50, net.n_in).values():
        standard = column_standard(x)
        lazily = Standardized(x, standard)
        before = given._replace(x=read_rows(lazily, slice(None), dtype))
        after = given._replace(x=lazily)
        assert_identical(train(backend, net, after, CASE), train(backend, net, before, CASE))
        out = engine.forward(given.parameters, lazily)
        assert out.tobytes() == engine.forward(given.parameters, before.x).tobytes()
        one = engine.forward(given.parameters, Standardized(x[7:8], standard))
        assert one.tobytes() == out[7:8].tobytes()
        losses = [engine.evaluate(given.parameters, p.x, p.y) for p in (after, before)]
        assert losses[0] == losses[1]
        (loss, gradient), (loss_before, gradient_before) = (
            objective(engine, p) for p in (after, before)
        )
        assert loss == loss_before
        assert gradient.tobytes() == gradient_before.tobytes()


def test_follows_the_reference(backend: str) -> None:
    net = Architecture.build([23, 12, 4], dtype="float64")
    parameters, _, y = problem(net, 64)
    x = sources(64, 23)["uint8"]
    given = Problem(parameters, Standardized(x, column_standard(x)), y)
    run = assert_follows_reference(backend, net, given, CASE)
    if backend == "cython":
        assert_same_for_any_threads(net, given, CASE, run, 2)


def test_zeros_are_not_skipped(backend: str) -> None:
    """Most inputs are 0, and none is after standardising."""
    if backend != "cython":
        pytest.skip("only the compiled core skips zeros")
    for sizes in ([40, 30, 3], [40, 3]):
        net = Architecture.build(sizes, "tanh", dtype="float64")
        given = problem_with_zeros(net, 64)
        x = Standardized(given.x, column_standard(given.x))
        trainer: Any = choose.create(backend, net, 1).trainer(
            *(given.parameters, [], Data(x, given.y), Case().settings())
        )
        assert not trainer.sparse
        assert not trainer.marked
        assert_follows_reference(backend, net, given._replace(x=x), CASE.but(batch_size=32))


def test_sparse_rows_are_scaled(backend: str) -> None:
    if backend == "numba":
        pytest.skip("Numba has no sparse input")
    for dtype in ("float32", "float64"):
        net = Architecture.build([40, 30, 3], "tanh", dtype=dtype)
        given = problem_with_zeros(net, 64)
        assert isinstance(given.x, np.ndarray)
        rows = compressed(given.x, np.random.default_rng(1), "float64")
        scale = np.random.default_rng(2).random(40) + 0.5
        x = Standardized(rows, Standard.of(np.zeros(40), scale))
        assert_follows_reference(backend, net, given._replace(x=x), CASE)


def test_large_inputs_overflow_without_warnings() -> None:
    """As results of predictions do, in every backend."""
    net = Architecture.build([2, 2], output="identity", loss="mse")
    x = Standardized(np.full((1, 2), 1e300), Standard.of(np.zeros(2), np.ones(2)))
    for name in [name for name, missing in choose.available().items() if not missing]:
        parameters = np.ones(net.n_parameters, np.float32)
        assert np.isinf(choose.create(name, net, 1).forward(parameters, x)).all()
