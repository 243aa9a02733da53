"""Files written by, and imports written for, the flat package that pynn was before November 2026.

The files in ``written_before`` come from commit 94f5bfd: a pickle of one object of every class that
users pickle, a model file, and a checkpoint of an interrupted run.
"""

from __future__ import annotations

import importlib
import pickle
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import renamed
from pynn.spec import OPTIMIZERS

FILES = Path(__file__).parent / "written_before"

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
    return pickle.loads((FILES / "objects.pickle").read_bytes())


@pytest.fixture
def data() -> Any:
    with np.load(FILES / "data.npz") as arrays:
        return dict(arrays)


def test_old_pickle_of_a_network_predicts_and_trains_on(objects: Any, data: Any) -> None:
    net = objects["network"]
    np.testing.assert_allclose(net.predict_proba(data["x"]), data["out"], rtol=1e-5)
    assert net.classes.tolist() == ["a", "b", "c"]
    assert len(net.history) == len(objects["history"]) == 2
    net.fit(data["x"], net.classes[data["y"]], epochs=1, batch_size=8, progress=False)
    assert net.epochs == 3


def test_old_pickles_of_settings_equal_new_objects(objects: Any) -> None:
    assert objects["optimizers"] == [kind() for kind in OPTIMIZERS.values()]
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


def test_old_pickles_of_other_objects_have_their_class(objects: Any) -> None:
    import pynn.nielsen.network as first
    import pynn.nielsen.network2 as second
    import pynn.sklearn

    assert isinstance(objects["record"], pynn.Record)
    assert isinstance(objects["early_stopping"], pynn.EarlyStopping)
    assert isinstance(objects["norms"], pynn.Norms)
    assert isinstance(objects["classifier"], pynn.sklearn.MLPClassifier)
    assert isinstance(objects["regressor"], pynn.sklearn.MLPRegressor)
    assert isinstance(objects["book"], first.Network)
    assert objects["book2"].cost is second.QuadraticCost
    error = objects["error"]
    assert (type(error), error.epoch, error.step) == (pynn.DivergenceError, 3, 4)


def test_old_model_file_loads(data: Any) -> None:
    net = pynn.load(FILES / "model.safetensors", backend="numpy")
    np.testing.assert_allclose(net.predict_proba(data["x"]), data["out"], rtol=1e-5)
    assert len(net.history) == 2


# The versions of pynn and NumPy that wrote the checkpoint are older.
@pytest.mark.filterwarnings("ignore:fit. the run in .* was trained with:RuntimeWarning")
def test_old_checkpoint_resumes(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "checkpoint.safetensors"
    shutil.copy(FILES / path.name, path)
    net = pynn.Network([4, 6, 3], backend="numpy", seed=1, dropout=0.1)
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 4, "progress": False}
    net.fit(
        data["x"], data["y"], **settings, checkpoint=pynn.Checkpoint(path, steps=5), resume=True
    )
    assert (net.epochs, net.updates) == (3, 30)
