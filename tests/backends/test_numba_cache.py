"""Numba's cache must not return machine code of an earlier version of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pynn

pytest.importorskip("numba")

TRAIN = """
import numpy as np
import pynn
rng = np.random.default_rng(0)
x = rng.normal(size=(20, 3)).astype(np.float32)
net = pynn.Network([3, 4, 2], activation="leaky_relu", backend="numba", threads=1, seed=1)
net.fit(x, np.arange(20) % 2, epochs=1, batch_size=5, progress=False)
print(pynn.__file__, net.parameters.tobytes().hex())
"""


def parameters_after_training(tree: Path, cache: Path) -> str:
    """Train in a child process with the package in this folder, and return its parameters."""
    environment = os.environ | {"PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    imported_from, parameters = done.stdout.split()
    assert Path(imported_from).parents[1] == tree
    return parameters


@pytest.mark.slow
def test_an_edited_helper_module_is_compiled_again(tmp_path):
    tree = tmp_path / "tree"
    package = tree / "pynn"
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "datasets")
    shutil.copytree(Path(pynn.__file__).parent, package, ignore=ignored)
    shutil.copytree(
        Path(pynn.__file__).parent / "datasets",
        package / "datasets",
        ignore=shutil.ignore_patterns("mnist"),
    )
    cache = tmp_path / "cache"
    before = parameters_after_training(tree, cache)
    assert parameters_after_training(tree, cache) == before
    compiled = {path.name for path in cache.rglob("*.nbc")}

    helper = package / "backends" / "numba" / "activations.py"
    source = helper.read_text(encoding="utf-8")
    changed = source.replace("d = one if z[i] > zero else parameter", "d = one")
    assert changed != source
    helper.write_text(changed, encoding="utf-8")
    assert parameters_after_training(tree, cache) != before
    assert {path.name for path in cache.rglob("*.nbc")} > compiled
