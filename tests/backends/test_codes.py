"""Copies of x with codes of one byte: results are those of x itself, in every bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.arrays.standard import Standardized, column_standard
from pynn.backends.contract import Data
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture
from tests.parity import Case, Problem, assert_identical, new_trainer, problem, train

_core = pytest.importorskip("pynn.backends.cython._core")

ROWS = 90


@contextmanager
def coding(wanted: bool | None) -> Iterator[None]:
    before = _core.use_codes(wanted)
    try:
        yield
    finally:
        _core.use_codes(before)


def is_coded(net: Architecture, x: Any) -> bool:
    """Whether a trainer copies x, if it is to do so whenever that is possible."""
    given = problem(net, len(x))._replace(x=x)
    with coding(True):
        trainer: Any = new_trainer(_core.Engine(net, 2), given, Case())
    return bool(trainer.coded)


def pixels(rows: int, columns: int) -> np.ndarray:
    """Mostly 0, and every number from 0 to 255 in the first rows or the last."""
    rng = np.random.default_rng(columns)
    x = rng.integers(1, 256, (rows, columns))
    x[rng.random(x.shape) > 0.2] = 0
    x.reshape(-1)[-256:] = np.arange(256)
    return x


def arrays(rows: int, columns: int) -> dict[str, np.ndarray]:
    """Arrays of multiples of a number."""
    p = pixels(rows, columns)
    wide = np.zeros((rows, columns + 3), np.float32)
    wide[:, 2:-1] = p
    readonly = p / 255
    readonly.flags.writeable = False
    return {
        "divided": (p / np.float32(255)).astype(np.float32),
        "multiplied": p.astype(np.float32) * np.float32(1 / 255),
        "float64": readonly,
        "sixteenths": (p % 17 / 16).astype(np.float32),
        "one and zero": (p > 128).astype(np.float32),
        "part of wider rows, backwards": wide[::-1, 2:-1],
        "one value": np.full((rows, columns), 0.3, np.float32),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [[150, 30, 5], [65, 4], [33, 60, 3]], ids=str)
def test_codes_change_no_bit(isa: str, sizes: list[int], dtype: str) -> None:
    """On one to three threads, also with dropout of the inputs."""
    net = Architecture.build(sizes, "relu", dtype=dtype, input_dropout=0.2 if sizes[1] == 4 else 0)
    case = Case(optimizer=optimizers.Adam(), rate=0.01, batch_size=32, steps=7)
    for number, (name, x) in enumerate(arrays(ROWS, net.n_in).items()):
        given = problem(net, ROWS)._replace(x=x)
        # A product is rounded twice without FMA, and float64 has no rounded numbers of float32.
        fused = isa not in ("plain", "sse4")
        rounds = name in ("divided", "multiplied", "one value") and dtype == "float64"
        if fused and not rounds:
            assert is_coded(net, x), name
        with coding(False):
            want = train("cython", net, given, case)
        with coding(True):
            found = train("cython", net, given, case.but(threads=1 + number % 3))
        assert_identical(found, want)


def test_other_arrays_have_no_codes() -> None:
    net = Architecture.build([30, 3])
    p = pixels(4000, 30).astype(np.float32)
    assert is_coded(net, p)
    changes: list[Any] = [0.5, -1.0, -0.0, 256.0, 1e-40]
    for change in changes:  # a number that no sample has
        x = p.copy()
        x[3001, 29] = change
        assert not is_coded(net, x), change
    rng = np.random.default_rng(0)
    standard = Standardized(p, column_standard(p))
    others = [rng.normal(size=p.shape), p - 1, p * 0, p.astype(np.uint8), p[:, ::-1], standard]
    for number, x in enumerate(others):
        assert not is_coded(net, x), number


def test_copies_are_made_where_they_pay() -> None:
    """For large arrays that are read in random order, in several epochs."""
    net = Architecture.build([256, 3])
    small, large = np.ones((64, 256), np.float32), np.ones((16500, 256), np.float32)
    given = problem(net, len(large))._replace(x=large)
    engine = _core.Engine(net, 1)

    def coded(given: Problem, epochs: int) -> bool:
        settings = replace(Case().settings(), epochs=epochs)
        trainer = engine.trainer(given.parameters.copy(), [], Data(given.x, given.y), settings)
        return bool(trainer.coded)

    assert not coded(given, 1)
    assert coded(given, 10)
    assert not coded(Problem(given.parameters, small, given.y[:64]), 10)
    rng = np.random.default_rng(1)
    x = (rng.integers(0, 256, (16500, 256)) / 255).astype(np.float32)
    y = rng.integers(0, 3, 16500)
    weights, made = [], []

    class Spy:
        """An engine that notes whether its trainers copy x."""

        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def trainer(self, *given: Any) -> Any:
            found = self._engine.trainer(*given)
            made.append(bool(found.coded))
            return found

    for wanted in (None, False):
        with coding(wanted):
            trained = pynn.Network([256, 3], seed=1, backend="cython")
            trained._engine = Spy(trained._engine)  # type: ignore[assignment]
            trained.fit(x, y, epochs=6, progress=False)
            weights.append(trained.weights[0].tobytes())
    assert weights[0] == weights[1]
    fused = _core.info()["isa"] not in ("plain", "sse4")
    assert made == [True, False] or not fused
