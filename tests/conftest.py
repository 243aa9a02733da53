"""Fixtures that several test modules share, and the sample of tests that a plain run takes.

A plain run (``pytest``, ``make test``) leaves out

- the tests marked ``slow``, and
- of a test function with more than GRID sets of parameters every set but a sample: see ``sampled``.

``pytest --all`` (``make test-all``) runs everything. So does a run that names its tests
(``pytest tests/test_processes.py::test_sigterm``).
"""

from __future__ import annotations

import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from tests.child import python

# Keras reads these when it is imported. Its other backends are not installed in CI, and without a
# folder for its settings it writes to the home folder.
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_HOME", os.path.join(tempfile.gettempdir(), "pynn-keras"))

# Modules of assertions that tests share: pytest explains those that fail.
pytest.register_assert_rewrite(
    "tests.cli.command",
    "tests.nielsen.book",
    "tests.parity",
    "tests.sklearn.side_by_side",
    "tests.training.runs",
)

GRID = 12
"""The largest number of sets of parameters of which a plain run takes all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all",
        action="store_true",
        help="run the tests marked slow, and every set of parameters of every test",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = any("::" in argument for argument in config.args)
    if config.getoption("--all") or named:
        return
    grids: dict[str, list[pytest.Item]] = {}
    for item in items:
        grids.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {grid[k] for grid in grids.values() for k in sampled(len(grid))}
    if not config.option.markexpr:
        kept = {item for item in kept if item.get_closest_marker("slow") is None}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def sampled(count: int) -> list[int]:
    """Return the indices of the parameter sets, out of ``count``, that a plain run takes.

    They are the first, every k-th, and the last. k is the smallest step that takes about GRID sets
    and has no divisor in common with the count. pytest orders a grid like the digits of a number:
    the values of one parameter change fastest. A step that shared a divisor with the number of
    these values would skip some of them always; this step reaches all of them in turn.
    """
    if count <= GRID:
        return list(range(count))
    step = -(-count // GRID)
    while math.gcd(step, count) > 1:
        step += 1
    return sorted({*range(0, count, step), count - 1})


COMPILE = """
import sys, numpy as np, pynn
net = pynn.Network([2, 3, 2], backend="numba", dtype=sys.argv[1])
net.fit(np.zeros((8, 2)), np.arange(8) % 2, epochs=1, progress=False)
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Fill Numba's cache before pytest-xdist starts its processes.

    Each of them would compile the backend otherwise, for both dtypes. A failure is left for the
    tests to show.
    """
    if choose.available()["numba"]:
        return
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda dtype: python(COMPILE, dtype), ("float32", "float64")))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of points that are easy to tell apart: x (150, 4) float32, y (150,) int64."""
    y = np.arange(150) % 3
    centres = 3 * np.eye(3, 4)
    x = centres[y] + rng.normal(scale=0.7, size=(150, 4))
    return x.astype(np.float32), y


@pytest.fixture
def net() -> pynn.Network:
    """A small classifier of 4 inputs and 3 classes on the reference backend."""
    return pynn.Network([4, 8, 3], backend="numpy", seed=3)
