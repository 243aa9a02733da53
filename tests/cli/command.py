"""Run the command line in this process, on small images."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.cli import app

pytest.importorskip("typer")
pytest.importorskip("PIL")
from typer.testing import CliRunner

SMALL = ["--backend", "numpy", "--hidden", "8", "--dropout", "0", "--no-pictures", "--plain"]


def pynn_command(*arguments: object, code: int = 0) -> str:
    """Run the command in this process and return its output."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of bars, crosses and rings in the format of MNIST: x uint8, y int64."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-14:14, -14:14]
    shapes = np.stack(
        [
            (abs(columns) < 2) & (abs(rows) < 10),
            ((abs(columns) < 2) | (abs(rows) < 2)) & (np.maximum(abs(rows), abs(columns)) < 10),
            abs(np.hypot(rows, columns) - 8) < 2,
        ]
    )
    y = rng.integers(0, 3, n)
    ink = rng.integers(150, 256, (n, 1, 1))
    return (shapes[y] * ink).astype(np.uint8), y.astype(np.int64)


def results(output: str) -> list[str]:
    """Return the lines of an output above the commands that ``pynn train`` suggests."""
    lines = output.splitlines()
    first = next((k for k, line in enumerate(lines) if line.startswith("next ")), len(lines))
    return lines[:first]
