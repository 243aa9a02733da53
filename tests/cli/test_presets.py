"""The presets of ``pynn train``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pynn.cli import folder as run_folder
from pynn.cli.options import PRESETS

pytest.importorskip("typer")
pytest.importorskip("PIL")
import pynn
from tests.child import python
from tests.cli.command import SMALL, digits, pynn_command, results


def settings_of(run: Path) -> dict:
    return json.loads((run / "settings.json").read_text())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_replaces_defaults(tmp_path, preset, monkeypatch):
    run = tmp_path / "run"
    instead = run_folder.Data("MNIST", digits(300, 300), digits(60, 60))
    monkeypatch.setattr(run_folder, "read_data", lambda path, *options: instead)
    out = pynn_command("train", f"--{preset}", "--backend", "numpy", "--plain", run)
    assert {path.name for path in run.iterdir()} == {
        "model.safetensors", "history.json", "settings.json"
    }  # fmt: skip
    values = PRESETS[preset]
    found = settings_of(run)
    assert found["options"].items() >= values.items()
    assert found["options"]["preset"] == preset
    assert "300 rows to train, 60 to test" in out
    assert "label smoothing 0.1" in out
    assert re.search(r"trained   \d epochs in \d+\.\d\d s", out)
    if sys.platform == "linux":
        seconds = float(re.search(r"total     (\d+\.\d\d) s since the command was started", out)[1])
        assert seconds > found["result"]["seconds"]

    same = pynn.Network(found["sizes"], activation="gelu", backend="numpy")
    same.fit(
        *digits(300, 300),
        epochs=values["epochs"],
        batch_size=int(values["batch_size"]),
        optimizer=pynn.Adam(beta1=0.8, beta2=0.95),
        learning_rate=values["learning_rate"],
        schedule=pynn.OneCycle(warmup=0.2, initial=0.2),
        label_smoothing=values["label_smoothing"],
    )
    net = pynn.load(run / "model.safetensors", backend="numpy")
    np.testing.assert_array_equal(net.parameters, same.parameters)


def test_given_options_override_a_preset(folder, tmp_path):
    run = tmp_path / "run"
    out = pynn_command("train", "--fast", *SMALL, "--epochs", 1, "--data", folder, run)
    options = settings_of(run)["options"]
    assert (options["hidden"], options["epochs"], options["dropout"]) == ("8", 1, "0")
    assert options["batch_size"] == PRESETS["fast"]["batch_size"]
    # With other data, rows are held out for validation.
    assert options["validation"] == 0.1
    assert "270 rows to train, 30 to validate, 60 to test" in out

    options = ["--batch-size", 64, "--label-smoothing", 0, "--dropout", "0.1", "--pictures"]
    pytest.importorskip("matplotlib")
    small = ["--backend", "numpy", "--hidden", "8", "--quiet", "--data", folder]
    pynn_command("train", "--accurate", *small, *options, tmp_path / "second")
    found = settings_of(tmp_path / "second")["options"]
    assert (found["batch_size"], found["label_smoothing"], found["dropout"]) == ("64", 0, "0.1")
    assert (tmp_path / "second" / "learning_curve.png").exists()


def test_a_preset_with_other_data(tmp_path):
    x, y = digits(200, 1)
    np.savez(tmp_path / "no_test.npz", x=x, y=y)
    small = ["--backend", "numpy", "--fast", "--hidden", "8", "--plain"]
    run = tmp_path / "a"
    out = pynn_command("train", *small, "--data", tmp_path / "no_test.npz", run)
    assert results(out)[-1].startswith("validation accuracy ")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 3)).astype(np.float32)
    np.savez(tmp_path / "values.npz", x=x, y=x.sum(axis=1))
    run = tmp_path / "b"
    pynn_command("train", *small, "--data", tmp_path / "values.npz", run, "--loss", "mse")
    assert settings_of(run)["options"]["label_smoothing"] == 0


def test_presets_are_one_at_a_time(folder, tmp_path):
    arguments = ["train", "--fast", "--accurate", "--data", folder, tmp_path / "run"]
    out = pynn_command(*arguments, code=1)
    assert "--fast: found --accurate as well, expected one of them" in out
    assert not (tmp_path / "run").exists()


def test_a_preset_imports_no_slow_modules(folder, tmp_path):
    program = (
        "import sys; from typer.testing import CliRunner; from pynn import cli;"
        "done = CliRunner().invoke(cli.app, sys.argv[1:]); assert done.exit_code == 0, done.output;"
        "slow = {'matplotlib', 'numpy.ma', 'scipy', 'numba', 'PIL'};"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    arguments = ["train", "--fast", "--data", str(folder), str(tmp_path / "run")]
    done = python(program, *arguments)
    assert done.returncode == 0, done.stderr
