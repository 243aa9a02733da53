"""Invalid options, help, information, and missing packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("PIL")
import pynn
from tests.child import python
from tests.cli.command import SMALL, digits, pynn_command

# --- Errors ---------------------------------------------------------------------------------------


BAD = {
    "--optimizer adm": "--optimizer: found 'adm'.*did you mean 'adam'",
    "--optimizer adam:beta3=1": "--optimizer: found parameter 'beta3' of adam, expected one of",
    "--optimizer sgd:momentum=0.9": "parameter 'momentum' of sgd, expected none",
    "--optimizer adam:beta2=x": "--optimizer: adam.beta2: found 'x', expected a number",
    "--optimizer adam:beta2=2": "beta2: found 2",
    "--schedule cosin": "did you mean 'cosine'",
    "--hidden 0": "--hidden: found '0'",
    "--hidden 8,x": "--hidden: found 'x'",
    "--activation rely": "--activation: found 'rely'.*did you mean 'relu'",
    "--activation elu:slope=1": "--activation: found parameter 'slope' of elu, expected one of al",
    "--activation elu:alpha=0": "ELU.alpha: found 0",
    "--activation silu:beta=2": "--activation: found 'silu:beta=2', expected one of",
    "--activation relu,tanh": "--activation: found 2 names",
    "--loss rmse": "--loss: found 'rmse'",
    "--loss huber:delta=0": "Huber.delta: found 0",
    "--loss huber:width=2": "--loss: found parameter 'width' of huber, expected one of delta",
    "--output softmax --loss binary_cross_entropy": "--output: found 'softmax'",
    "--dropout 1": "--dropout: found 1",
    "--dropout a": "--dropout: found 'a'",
    "--init she": "--init: found 'she'",
    "--norm lawyer": "--norm: found 'lawyer'.*did you mean 'layer'",
    "--residual": "--residual: found True with sizes",
    "--dtype float16": "--dtype: found 'float16'",
    "--backend gpu": "--backend: found 'gpu'",
    "--threads 0": "--threads: found 0",
    "--threads 100000": "--threads: found 100000, expected a whole number from 1 to 4096",
    "--seed -1": "--seed: found -1",
    "--seed x": "--seed: found 'x', expected a whole number or random",
    "--epochs -1": "--epochs: found -1",
    "--batch-size 0": "--batch-size: found 0",
    "--batch-size half": "--batch-size: found 'half'",
    "--learning-rate 0": "--learning-rate: found 0",
    "--layer-rates 1": "--layer-rates: found 1 numbers, expected 2 finite numbers",
    "--layer-rates 1,x,1": "--layer-rates: found 'x'",
    "--l2 -1": "--l2: found -1",
    "--l1 -1": "--l1: found -1",
    "--clip-norm 0": "--clip-norm: found 0.0, expected a finite number above 0",
    "--max-norm -2": "--max-norm: found -2.0, expected a finite number above 0",
    "--validation 1": "--validation: found 1",
    "--validation 0.0001": "--validation: found the share 0.0001, which is 0 of 300 rows",
    "--early-stopping 2 --validation 0": "--early-stopping: found no validation",
    "--early-stopping 0": "--early-stopping: found 0, expected 1 epoch",
    "--data nothing.csv": "nothing.csv: found no such file",
}


@pytest.mark.parametrize("options", BAD)
def test_bad_options_get_one_line_and_leave_nothing(folder, tmp_path, options):
    run = tmp_path / "run"
    arguments = ["train", *SMALL, "--data", folder, run, *options.split()]
    out = pynn_command(*arguments, code=1)
    (line,) = out.splitlines()
    assert line.startswith("pynn: ")
    assert re.search(BAD[options], line), line
    assert not run.exists()


@pytest.mark.parametrize("options", ["--nope", "--epochs many", "--learning-rate fast"])
def test_wrong_usage_exits_with_2(options):
    assert "Usage" in pynn_command("train", *options.split(), code=2)


def test_data_that_cannot_be_learnt(tmp_path):
    x, y = digits(20, 5)
    np.savez(tmp_path / "one.npz", x=x, y=np.zeros_like(y))
    arguments = ["train", *SMALL, "--data", tmp_path / "one.npz", tmp_path / "run"]
    assert "--data: found labels of one class only" in pynn_command(*arguments, code=1)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    arguments[-2] = tmp_path / "x.npz"
    out = pynn_command(*arguments, "--validation", 0.001, code=1)
    assert "this data has no test set" in out


def test_a_test_set_that_does_not_fit_is_noticed_before_training(tmp_path):
    x, y = digits(20, 5)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:, 1:], y_test=y)
    run = tmp_path / "run"
    out = pynn_command("train", *SMALL, "--data", tmp_path / "d.npz", run, code=1)
    assert re.match("pynn: --data: the test set does not fit: x: found 756 values", out)
    assert not run.exists()


def test_a_run_is_never_overwritten(folder, trained):
    before = (trained / "model.safetensors").read_bytes()
    out = pynn_command("train", *SMALL, "--data", folder, trained, code=1)
    assert "RUN: found a run in" in out
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["settings.json", "history.json", "mistakes.png"])
def test_nothing_else_is_overwritten(folder, tmp_path, name):
    (tmp_path / "notes.txt").touch()
    (tmp_path / name).write_text("precious")
    for more in [], ["--resume"]:
        out = pynn_command("train", *SMALL, "--data", folder, tmp_path, *more, code=1)
        assert f"RUN: found {name} in" in out
    assert (tmp_path / name).read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", name}


def test_a_run_stopped_before_its_first_step_restarts(folder, tmp_path, monkeypatch):
    command = ["train", *SMALL, "--data", folder, tmp_path / "run"]
    command += ["--epochs", 2, "--resume"]

    def press(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pynn.Network, "fit", press)
        pynn_command(*command, code=130)
        # Interrupted again before the first update.
        pynn_command(*command, code=130)
        # A run with updates is kept, even without a checkpoint.
        settings = tmp_path / "run" / "settings.json"
        untrained = settings.read_text()
        settings.write_text(untrained.replace('"updates": 0', '"updates": 1'))
        assert "no checkpoint to resume from" in pynn_command(*command, code=1)
        settings.write_text(untrained)
    pynn_command(*command)
    assert pynn.load(tmp_path / "run" / "model.safetensors").epochs == 2


def test_evaluate_uses_the_data_of_the_run(folder, tmp_path):
    data = tmp_path / "there"
    shutil.copytree(folder, data)
    run = tmp_path / "run"
    pynn_command("train", *SMALL, "--epochs", 1, "--data", data, run)
    out = pynn_command("evaluate", run)
    assert f"data      {data}: " in out
    assert out == pynn_command("evaluate", run / "model.safetensors").replace(
        "/model.safetensors", ""
    )
    data.rename(tmp_path / "elsewhere")
    out = pynn_command("evaluate", run, code=1)
    assert str(data) in out
    assert "if it has moved, pass its path with --data" in out
    pynn_command("evaluate", run, "--data", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--epochs 5", r"--epochs: found 5, but the run in .*first has 4 and has ended; expected"),
        ("--learning-rate 0.1", "--learning-rate: found 0.1, but .* has 0.01 and has ended"),
        ("--no-shuffle", "--shuffle: found False, but .* has True"),
        ("--data other.csv", "--data: found .*other.csv, but .* has .*idx"),
        ("--fast --checkpoint 60", "--fast: found fast, but .* has no preset"),
    ],
)
def test_resuming_a_finished_run_with_other_settings_is_refused(trained, typed, message):
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    out = pynn_command("train", trained, "--resume", *typed.split(), code=1)
    assert re.match(f"pynn: {message}", out), out
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_a_run_that_has_ended_says_so(folder, trained, monkeypatch):
    monkeypatch.chdir(folder.parent)
    same = [*SMALL, "--epochs", 4, "--batch-size", 8, "--data", folder.name]
    free = ["--threads", 3, "--checkpoint", 7, "--quiet"]
    for options in [], same, [*same, *free]:
        out = pynn_command("train", trained, "--resume", *options)
        assert out.split()[-3:] == ["after", "4", "epochs"]


def test_a_file_where_the_folder_should_be(folder, tmp_path):
    (tmp_path / "file").write_text("")
    options = [*SMALL, "--data", folder, tmp_path / "file" / "run"]
    assert pynn_command("train", *options, code=1).startswith("pynn: ")


# --- info, help, extras ---------------------------------------------------------------------------


def test_info():
    lines = [line.partition(" ") for line in pynn_command("info").splitlines()]
    found = {name: text.strip() for name, _, text in lines}
    assert found["pynn"] == pynn.__version__
    assert {"python", "cpu", "platform"} <= set(found)
    backends = [text.strip() for name, _, text in lines if name == "backend"]
    assert [text.partition(":")[0] for text in backends] == ["cython", "numba", "numpy"]
    assert sum("used by default" in text for text in backends) == 1
    if not pynn.backends.available()["cython"]:
        from pynn.backends.cython import _core

        assert found["code"] == f"for  {_core.info()['isa']} (the instruction set in use)"
        assert {"bf16", "threads"} <= set(found)


def test_version():
    assert pynn_command("--version") == f"pynn {pynn.__version__}\n"


def test_help_names_every_command():
    out = pynn_command("--help")
    for command in "train", "evaluate", "report", "predict", "compare", "info":
        assert command in out
    assert "--learning-rate" in pynn_command("train", "--help")


def test_help_imports_no_slow_modules():
    result = python(
        "import sys; from typer.testing import CliRunner; from pynn.cli import app\n"
        "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0\n"
        "print({'matplotlib', 'numba', 'PIL', 'safetensors', 'pandas', 'polars'} & {*sys.modules})"
    )
    assert result.stdout == "set()\n", result.stderr


def test_missing_command_line_extra():
    result = python(
        "import sys; sys.modules['typer'] = None; sys.argv = ['pynn', 'info']\n"
        "from pynn.__main__ import main; main()"
    )
    assert result.returncode == 1
    assert re.fullmatch(r"pynn: .*pip install 'pynn-mlp\[cli\]'\n", result.stderr)


def test_missing_matplotlib_is_noticed_before_training(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = [o for o in SMALL if o != "--no-pictures"]
    run = tmp_path / "run"
    out = pynn_command("train", *options, "--data", folder, run, code=1)
    assert re.fullmatch(r"pynn: .*pip install 'pynn-mlp\[plots\]', or .*--no-pictures\n", out)
    assert not run.exists()


def test_missing_pillow(trained, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    arguments = ["predict", trained, pictures[0], "--backend", "numpy"]
    assert "pip install 'pynn-mlp[cli]'" in pynn_command(*arguments, code=1)


def test_the_module_runs_and_errors_go_to_standard_error(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "pynn", "train", "--optimizer", "adm"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(pynn.__file__).parents[1])},
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("pynn: --optimizer: found 'adm'")
    assert result.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
