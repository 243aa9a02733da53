"""Old names of modules: imports, and pickles of small objects that name them.

Commit 94f5bfd wrote ``objects.pickle``, when pynn was one package without subpackages;
``training/test_earlier_files.py`` tests networks, model files and checkpoints of that commit.
"""

from __future__ import annotations

import importlib
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import pynn
from pynn import renamed
from pynn.spec import OPTIMIZERS

OBJECTS = Path(__file__).parent / "training" / "earlier_files" / "objects.pickle"

MODULES = [
    "backends",
    "blocks",
    "callbacks",
    "checkpoint",
    "checks",
    "cli",
    "data",
    "datasets",
    "divergence",
    "files",
    "functions",
    "history",
    "images",
    "initialise",
    "memory",
    "network",
    "nielsen",
    "nielsen.mnist_loader",
    "nielsen.network",
    "nielsen.network2",
    "numba_functions",
    "numba_kernels",
    "philox",
    "plots",
    "profile",
    "progress",
    "reference",
    "report",
    "run",
    "sklearn",
    "spec",
    "training",
    "_core",
]
NEEDS = {
    "cli": "typer",
    "report": "typer",
    "run": "typer",
    "numba_functions": "numba",
    "numba_kernels": "numba",
    "plots": "matplotlib",
    "sklearn": "sklearn",
    "_core": "pynn.backends.cython._core",
}


@pytest.mark.parametrize("name", MODULES)
def test_old_module_name_imports(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    old = f"pynn.{name}"
    module = importlib.import_module(old)
    assert module.__name__ == renamed.RENAMED.get(old, old)
    assert module is importlib.import_module(module.__name__)
    assert module.__spec__ is not None
    assert module.__spec__.name == module.__name__


def test_name_that_never_existed_does_not_import() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'pynn\.abacus'"):
        importlib.import_module("pynn.abacus")


@pytest.fixture(scope="module")
def objects() -> Any:
    pytest.importorskip("sklearn")
    return pickle.loads(OBJECTS.read_bytes())


def test_old_pickles_of_settings_equal_new_objects(objects: Any) -> None:
    assert len(objects["optimizers"]) == 8
    assert objects["optimizers"] == [OPTIMIZERS[o.name]() for o in objects["optimizers"]]
    assert objects["schedules"] == [
        pynn.WarmUp(epochs=2, after=pynn.OneCycle()),
        pynn.StepDecay(),
        pynn.Exponential(),
        pynn.InverseTime(),
        pynn.Cosine(),
        pynn.Constant(),
    ]
    assert objects["architecture"] == pynn.Network([4, 6, 3]).architecture
    for value in (*objects["optimizers"], *objects["schedules"], objects["architecture"]):
        assert all(hasattr(value, field.name) for field in fields(value))


def test_old_pickles_of_other_objects_load_with_their_class(objects: Any) -> None:
    import pynn.nielsen.network as first
    import pynn.nielsen.network2 as second
    import pynn.sklearn

    assert isinstance(objects["record"], pynn.Record)
    assert isinstance(objects["norms"], pynn.Norms)
    assert isinstance(objects["classifier"], pynn.sklearn.MLPClassifier)
    assert isinstance(objects["regressor"], pynn.sklearn.MLPRegressor)
    assert isinstance(objects["book"], first.Network)
    assert objects["book2"].cost is second.QuadraticCost
    error = objects["error"]
    assert (type(error), error.epoch, error.step) == (pynn.DivergenceError, 3, 4)
