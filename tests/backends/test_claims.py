"""Predictions of the compiled core on several threads, which claim blocks of rows or columns."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import pynn
from tests.child import python

_core = pytest.importorskip("pynn.backends.cython._core")

Array = np.ndarray

MANY_ROWS = (300, 300, 40, 5)
"""Few weights: a team divides many rows."""
FEW_ROWS = (500, 2100, 1300, 33, 7)
"""Many weights: a team divides the columns of few rows."""


@pytest.fixture(autouse=True, params=[True, False], ids=["together", "as they come"])
def _await_workers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Predictions begin when all threads are there, which on a busy machine is rare, or at once."""
    before = _core.await_workers(request.param)
    yield
    _core.await_workers(before)


@lru_cache(maxsize=16)
def network(sizes: tuple[int, ...], threads: int, **settings: Any) -> pynn.Network:
    """A network that no test changes."""
    return pynn.Network(sizes, seed=3, threads=threads, backend="cython", **settings)


def outputs(sizes: tuple[int, ...], x: Any, threads: int, **settings: Any) -> Array:
    return network(sizes, threads, **settings).predict_proba(x)


def rows_of(sizes: tuple[int, ...], rows: int, dtype: str = "float32", zeros: float = 0) -> Array:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    x[rng.random(x.shape) < zeros] = 0
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes, rows",
    [(MANY_ROWS, 600), (MANY_ROWS, 1729), *((FEW_ROWS, m) for m in (1, 3, 12, 17, 64, 161, 520))],
)
def test_outputs_do_not_depend_on_the_number_of_threads(sizes, rows, dtype):
    x = rows_of(sizes, rows, dtype)
    want = outputs(sizes, x, 1, dtype=dtype)
    reference = pynn.Network(sizes, seed=3, backend="numpy", dtype=dtype).predict_proba(x)
    np.testing.assert_allclose(want, reference, rtol=0, atol=5e-6 if dtype == "float32" else 1e-14)
    for threads in (2, 3, 5):
        assert outputs(sizes, x, threads, dtype=dtype).tobytes() == want.tobytes()


def test_copies_of_many_parameters_do_not_depend_on_the_number_of_threads():
    """Of a training: into the layers, of a state, of an average, and back."""
    x, y = rows_of(FEW_ROWS, 40), np.arange(40) % FEW_ROWS[-1]
    found = []
    for threads in (1, 2, 5):
        net = pynn.Network(FEW_ROWS, seed=3, threads=threads, backend="cython")
        for _ in range(2):
            net.fit(x, y, epochs=1, batch_size=20, optimizer="adam", ema=0.5, progress=False)
        found.append(net.parameters.tobytes() + net.predict_proba(x).tobytes())
    assert len(set(found)) == 1


SETTINGS: list[dict[str, Any]] = [
    {"activation": "tanh", "norm": "layer"},
    {"activation": "gelu", "residual": True},
    {"standardize": True},
    {"activation": "sigmoid", "output": "softmax"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("sizes, rows", [(MANY_ROWS, 777), ((900, 1900, 1900, 9), 19)])
def test_options(sizes, rows, settings):
    x = rows_of(sizes, rows)
    networks = []
    for threads in (1, 2, 5):
        net = pynn.Network(sizes, seed=3, threads=threads, backend="cython", **settings)
        if "standardize" in settings:
            net.fit(x[:32], np.arange(min(rows, 32)) % sizes[-1], epochs=1, progress=False)
        networks.append(net.predict_proba(x).tobytes())
    assert len(set(networks)) == 1


@pytest.mark.parametrize("sizes, rows", [(MANY_ROWS, 1001), (FEW_ROWS, 33)])
def test_forms_of_x(sizes, rows):
    """Bytes, zeros, compressed rows, and arrays that are strided or read-only."""
    sparse = pytest.importorskip("scipy.sparse")
    x = rows_of(sizes, rows, zeros=0.8)
    wide = np.repeat(x, 2, axis=1)
    locked = x.copy()
    locked.flags.writeable = False
    want = outputs(sizes, x, 1).tobytes()
    for form in (x, wide[:, ::2], np.asfortranarray(x), locked, sparse.csr_matrix(x)):
        for threads in (1, 2, 3):
            assert outputs(sizes, form, threads).tobytes() == want
    pixels = np.random.default_rng(1).integers(0, 256, x.shape).astype(np.uint8)
    few, many = (outputs(sizes, pixels, threads, pixels=True) for threads in (1, 3))
    assert few.tobytes() == many.tobytes()


@pytest.mark.skipif(not pynn.info().get("bf16"), reason="needs an instruction set with bfloat16")
@pytest.mark.parametrize("sizes, rows", [(MANY_ROWS, 1001), (FEW_ROWS, 33)])
def test_bf16(sizes, rows):
    x = rows_of(sizes, rows)
    few, many = (outputs(sizes, x, threads, precision="bf16") for threads in (1, 3))
    assert few.tobytes() == many.tobytes()


@pytest.mark.parametrize("sizes, rows", [(MANY_ROWS, 900), (FEW_ROWS, 9)])
def test_a_compiled_network_on_several_threads(sizes, rows):
    x = rows_of(sizes, rows)
    net = pynn.Network(sizes, seed=3, threads=3, backend="cython")
    want = net.predict_proba(x)
    out = np.empty_like(want)
    frozen = net.compile()
    for _ in range(5):
        assert frozen.predict_proba(x, out=out) is out
        assert out.tobytes() == want.tobytes()


def test_one_network_in_several_threads_of_python():
    cases = [(sizes, rows_of(sizes, rows)) for sizes, rows in ((MANY_ROWS, 900), (FEW_ROWS, 9))]
    wants = [outputs(sizes, x, 1).tobytes() for sizes, x in cases]
    networks = [network(sizes, 2) for sizes, _ in cases]
    wrong = []

    def call(number: int) -> None:
        for turn in range(12):
            k = (number + turn) % 2
            if networks[k].predict_proba(cases[k][1]).tobytes() != wants[k]:
                wrong.append((number, turn))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


PINNED = """
    import os, sys
    import numpy as np, pynn
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for sizes, rows in (((300, 300, 40, 5), 900), ((500, 2100, 1300, 33, 7), 9)):
        x = np.random.default_rng(1).normal(size=(rows, sizes[0])).astype(np.float32)
        want = pynn.Network(sizes, threads=1, backend="cython").predict_proba(x).tobytes()
        net = pynn.Network(sizes, threads=4, backend="cython")
        for _ in range(20):
            assert net.predict_proba(x).tobytes() == want
        if (child := os.fork()) == 0:
            os._exit(net.predict_proba(x).tobytes() != want)
        assert os.waitpid(child, 0)[1] == 0
        assert net.predict_proba(x).tobytes() == want
    print("right")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_more_threads_than_processors_and_a_fork():
    done = python(PINNED)
    assert done.stdout == "right\n", done.stderr
