"""Data and a run that the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("PIL")
from PIL import Image

from pynn.data.idx import idx_header
from tests.cli.command import SMALL, digits, pynn_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of IDX files: 300 rows to train, 60 to test."""
    path = tmp_path_factory.mktemp("idx")
    for part, n in ("train", 300), ("t10k", 60):
        x, y = digits(n, n)
        (path / f"{part}-images-idx3-ubyte").write_bytes(idx_header(x) + x.tobytes())
        labels = y.astype(np.uint8)
        (path / f"{part}-labels-idx1-ubyte").write_bytes(idx_header(labels) + labels.tobytes())
    return path


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "first"
    options = [*SMALL, "--epochs", 4, "--batch-size", 8, "--learning-rate", 0.01]
    pynn_command("train", *options, "--data", folder, run)
    return run


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Large pictures of the three shapes, black on white, not centred."""
    x, y = digits(30, 6)
    paths = []
    for k in range(3):
        big = np.kron(x[np.flatnonzero(y == k)[0]] > 0, np.ones((9, 9)))
        grey = 255 - 255 * np.pad(big, ((10, 200), (150, 20))).astype(np.uint8)
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(grey).convert("RGB").save(paths[-1])
    return paths
