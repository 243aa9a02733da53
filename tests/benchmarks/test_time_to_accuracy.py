"""The benchmark of the presets: its entrants train the same, and its page says what they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pynn.cli import app, folder
from pynn.cli.options import PRESETS

pytest.importorskip("typer")

import pynn
from benchmarks import recipe_peers, time_to_accuracy
from benchmarks.classics import between
from benchmarks.time_to_accuracy import Runs, Training

ROOT = Path(__file__).resolve().parents[2]


def small(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 6 x 6 pixels, lit most where their label says."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 4
    x = rng.integers(0, 160, (rows, 36)) + 90 * (np.arange(36) % 4 == y[:, None])
    return x.astype(np.uint8).reshape(rows, 6, 6), y


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("peer", "module"), [("torch", "torch"), ("jax", "jax")])
def test_entrants_train_the_same(tmp_path, preset, peer, module):
    """Without shuffling, all come to the same outputs: also by the short last batch."""
    pytest.importorskip(module)
    data = small(600, 1), small(50, 2)
    same = time_to_accuracy.write_recipe(tmp_path, preset, 3, data, shuffle=False)
    net = pynn.Network(**same["network"])
    net.fit(*data[0], **same["fit"])

    command = [sys.executable, "-m", "benchmarks.recipe_peers", peer, str(tmp_path), "1"]
    done = subprocess.run(
        [*command, str(tmp_path / "out.npy")],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"] == net.evaluate(*data[1])["accuracy"]
    assert found["training"] > 0
    out = np.load(tmp_path / "out.npy").astype(float)
    shares = np.exp(out - out.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    first = pynn.Network(**same["network"]).predict_proba(data[1][0])
    moved = np.abs(net.predict_proba(data[1][0]) - first).max()
    assert moved > 0.1
    np.testing.assert_allclose(shares, net.predict_proba(data[1][0]), atol=2e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_recipe_is_what_the_command_trains(tmp_path, preset, monkeypatch):
    from typer.testing import CliRunner

    data = small(600, 1), small(50, 2)
    instead = folder.Data("MNIST", *data)
    monkeypatch.setattr(folder, "read_data", lambda path, *options: instead)
    options = [f"--{preset}", "--seed", "5", "--run", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["train", *options])
    assert done.exit_code == 0, done.output
    same = time_to_accuracy.write_recipe(tmp_path, preset, 5, data)
    net = pynn.Network(**same["network"])
    net.fit(*data[0], **same["fit"])
    found = pynn.load(tmp_path / "run" / "model.safetensors")
    np.testing.assert_array_equal(found.parameters, net.parameters)

    recipe = recipe_peers.Recipe(tmp_path)
    assert len(recipe.rates) == recipe.epochs * recipe.steps == recipe.epochs * 3
    assert recipe.rates.max() <= same["fit"]["learning_rate"]
    assert recipe.x.max() <= 1
    for w, first in zip(recipe.weights, pynn.Network(**same["network"]).weights, strict=True):
        np.testing.assert_array_equal(w, first)


def test_the_page_has_medians():
    def runs(entrant: str, *seconds: float) -> Runs:
        trainings = [Training(s, 2 * s, 3 * s, None, 0.98 + s / 100, "1") for s in seconds]
        return Runs("fast", entrant, 2 if entrant == "pynn" else 1, trainings)

    found = [runs("pynn", 0.3, 0.1, 0.2), runs("jax", 0.5, 0.4, 0.9)]
    lines = time_to_accuracy.page(found, 2)
    assert lines[2] == (
        "| `--fast` | pynn, 2 threads | 0.200 | – | 0.60 | – | 98.20 % | 98.10 to 98.30 |"
    )
    assert lines[3] == (
        "| `--fast` | JAX, 1 thread | 0.500 | 1.00 | 1.50 | – | 98.50 % | 98.40 to 98.90 |"
    )
    assert "Medians of 3 seeds" in lines[5]
    # The page that the command writes into has room for the table.
    text = (ROOT / "docs" / "benchmarks" / "time-to-accuracy.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in between(text, "table", lines)


@pytest.mark.parametrize("option", [["--presets", "slow"], ["--seeds", "0"], ["--peers", "x"]])
def test_options_that_are_wrong(option):
    with pytest.raises(SystemExit):
        time_to_accuracy.arguments().parse_args(option)
