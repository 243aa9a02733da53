"""``pynn evaluate``, ``report`` and ``predict``."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("PIL")
from PIL import Image

import pynn
from pynn.cli import compare, output
from tests.cli.command import SMALL, digits, pynn_command, results

# --- evaluate -------------------------------------------------------------------------------------


def test_evaluate_prints_the_figures_of_a_model(folder, trained):
    out = pynn_command(
        "evaluate", trained / "model.safetensors", "--data", folder, "--backend", "numpy"
    )
    net = pynn.load(trained / "model.safetensors", backend="numpy")
    result = net.evaluate(*digits(60, 60))
    assert results(out)[-2:] == [
        f"test loss {result['loss']:.6g}",
        f"test accuracy {100 * result['accuracy']:.2f} %",
    ]


def test_the_newest_run_is_evaluated(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = pynn_command("evaluate", "--data", folder, "--backend", "numpy", code=1)
    assert "RUN: found none in" in out
    for seed in 1, 2:
        run = f"runs/{9 - seed}"
        options = ["--data", folder, "--epochs", 0, "--seed", seed, run]
        pynn_command("train", *SMALL, *options)
    out = pynn_command("evaluate", "--data", folder, "--backend", "numpy")
    assert "seed 2" in out


def test_evaluate_refuses_data_of_another_width(trained, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 5), np.uint8), y=np.arange(4) % 2)
    arguments = ["evaluate", trained, "--data", tmp_path / "d.npz", "--backend", "numpy"]
    assert "expected 784" in pynn_command(*arguments, code=1)


def test_evaluate_refuses_a_file_that_is_no_model(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"no model")
    arguments = ["evaluate", tmp_path / "m.safetensors", "--backend", "numpy"]
    out = pynn_command(*arguments, code=1)
    assert re.fullmatch(r"pynn: .*m\.safetensors: found .*\n", out)


# --- report ---------------------------------------------------------------------------------------


def test_report(trained, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # a report needs none
    out = pynn_command("report", trained, "--output", tmp_path / "page.html", "--data", folder)
    assert out == f"report    {tmp_path / 'page.html'}\n"
    assert "784-8-3" in (tmp_path / "page.html").read_text(encoding="utf-8")

    monkeypatch.chdir(tmp_path)
    pynn_command("train", *SMALL, "--data", folder, "--epochs", 0, "runs/one")
    out = pynn_command("report")
    assert out == f"report    {Path('runs/one/report.html')}\n"
    assert Path("runs/one/report.html").stat().st_size > 1000


def test_report_prints_errors_in_one_line(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        ([], "pynn: RUN: found none in"),
        ([tmp_path], f"pynn: RUN: {tmp_path}: found no model.safetensors, expected"),
        (["nowhere"], "pynn: RUN: nowhere: found no such folder"),
        ([trained, "--data", "gone.csv"], "pynn: --data: gone.csv: found no such file"),
        ([trained, "--output", tmp_path], f"pynn: {tmp_path}: found a folder"),
        ([trained, "nowhere"], "pynn: RUN: nowhere: found no such folder"),
        ([trained, tmp_path], f"pynn: RUN: {tmp_path}: found no run"),
        ([trained, trained, "--data", "a.csv"], "pynn: --data: found it with several runs"),
    ):
        out = pynn_command("report", *arguments, code=1)
        assert out.startswith(message)
        assert out.count("\n") == 1


# --- predict --------------------------------------------------------------------------------------


def test_predict_prints_the_digit_of_a_picture(trained, pictures):
    out = pynn_command("predict", *pictures, "--model", trained, "--backend", "numpy")
    warned, *lines = out.splitlines()
    assert warned == f"pynn: --model is deprecated, expected the run as argument: {trained}"
    assert len(lines) == 3
    for k, (line, path) in enumerate(zip(lines, pictures, strict=True)):
        found = re.fullmatch(rf"{re.escape(str(path))}  (\d): .*%, \d: .*%, \d: .*%", line)
        assert found, line
        assert found.group(1) == str(k)


def test_predict_never_overwrites_its_input_or_a_file_of_the_run(trained, pictures, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(pictures[0])
    new = tmp_path / "new.csv"
    new.write_text("a\n1\n")
    model = trained / "model.safetensors"
    inputs = {path: path.read_bytes() for path in (pictures[0], new, model)}
    for run, given, out, found in (
        (trained, [pictures[0]], pictures[0], f"the input {pictures[0]}"),
        (trained, pictures, link, f"the input {pictures[0]}"),
        (trained, ["--data", new], tmp_path / "." / "new.csv", f"the input {new}"),
        (trained, ["--data", new], model, f"a file of the run {trained}"),
        (model, ["--data", new], model, f"a file of the run {trained}"),
        (trained, ["--data", new], trained / "checkpoint.safetensors", "a file of the run"),
        (trained, ["--data", new], trained / ".." / trained.name / "history.json", "a file of"),
    ):
        text = pynn_command("predict", run, *given, "--out", out, code=1)
        assert text.startswith(f"pynn: --out: found {out}, {found}"), text
        assert text.endswith(", expected another file to write\n")
    assert all(path.read_bytes() == content for path, content in inputs.items())


def test_two_digits_in_a_picture_are_named(trained, tmp_path):
    two = np.zeros((60, 90), np.uint8)
    two[10:50, 10:16] = two[10:50, 60:80] = 255
    Image.fromarray(two).save(tmp_path / "10.png")
    out = pynn_command("predict", trained, tmp_path / "10.png", "--backend", "numpy")
    assert out.startswith(f"pynn: {tmp_path / '10.png'}: found two shapes side by side")


def test_the_options_of_runs_still_work(trained, folder, tmp_path):
    run = tmp_path / "run"
    out = pynn_command("train", *SMALL, "--data", folder, "--epochs", 1, "--run", run)
    assert out.startswith(f"pynn: --run is deprecated, expected the run as argument: {run}\n")
    out = pynn_command("evaluate", "--run", run, "--backend", "numpy")
    assert "--run is deprecated" in out
    assert "test accuracy" in out
    out = pynn_command("evaluate", trained, "--run", run, code=1)
    assert f"RUN: found {trained} and --run {run}, expected one of them" in out


def test_predict_raw_does_not_preprocess_the_picture(trained, tmp_path):
    x, y = digits(30, 6)
    Image.fromarray(x[0]).save(tmp_path / "x.png")
    net = pynn.load(trained / "model.safetensors", backend="numpy")
    best = net.predict_proba(x[:1]).max()
    out = pynn_command(
        "predict", trained, tmp_path / "x.png", "--raw", "--top", 1, "--backend", "numpy"
    )
    from pynn.plots.style import percent

    assert out == f"{tmp_path / 'x.png'}  {y[0]}: {percent(best)}\n"


def test_predict_for_other_sizes(tmp_path):
    net = pynn.Network([64, 2], backend="numpy")
    net.weights[0][:, 0], net.weights[0][:, 1] = 1, -1
    net.biases[0][:] = -8, 8
    net.classes = ["dark", "light"]
    net.save(tmp_path / "m.safetensors")
    Image.new("L", (40, 30), 255).save(tmp_path / "x.png")
    arguments = ["predict", tmp_path / "m.safetensors", tmp_path / "x.png"]
    assert "  dark: " in pynn_command(*arguments, "--backend", "numpy")
    # Labels from a model file do not control the terminal, and can always be printed.
    net.classes = ["\x1b[2J", "\ud800\n"]
    net.save(tmp_path / "m.safetensors")
    out = pynn_command(*arguments, "--backend", "numpy").splitlines()[-1]
    assert r"  \x1b[2J: " in out
    assert r", \ud800\n: " in out
    for n_in in (15, 4):  # four columns are a table, not a picture
        pynn.Network([n_in, 2], backend="numpy").save(tmp_path / "m.safetensors")
        out = pynn_command(*arguments, "--backend", "numpy", code=1)
        assert f"RUN: found one with {n_in} inputs, expected a square number" in out


def test_predict_names_the_picture_at_fault(trained, pictures, tmp_path):
    Image.new("L", (40, 30), 255).save(tmp_path / "blank.png")
    arguments = ["predict", trained, "--backend", "numpy", pictures[0]]
    out = pynn_command(*arguments, tmp_path / "blank.png", code=1)
    assert f"{tmp_path / 'blank.png'}: image: found shades" in out
    out = pynn_command(*arguments, tmp_path / "none.png", code=1)
    assert "none.png: found no such file" in out
    # The other picture is classified.
    assert f"{pictures[0]}  " in out


def test_predictions_of_values_are_not_shown_as_classes(tmp_path):
    lines = ["price,a,b", *(f"{1.5 + i},{i % 3},{i % 5}" for i in range(40))]
    (tmp_path / "prices.csv").write_text("\n".join(lines))
    arguments = [
        "train",
        "--data",
        tmp_path / "prices.csv",
        "--run",
        tmp_path / "run",
        "--epochs",
        1,
    ]
    assert "use --loss mse" in pynn_command(*arguments, "--backend", "numpy", code=1)
    assert "validation loss" in pynn_command(
        *arguments, "--backend", "numpy", "--loss", "mse", "--no-pictures"
    )


# --- compare --------------------------------------------------------------------------------------


def test_compare(trained, folder, tmp_path, monkeypatch):
    other = tmp_path / "other"
    options = ["--epochs", 2, "--batch-size", 8, "--learning-rate", 0.02]
    pynn_command("train", *SMALL, *options, "--data", folder, other)
    out = pynn_command("compare", trained, other, "--no-pictures")
    head, *rows = [re.split("  +", line) for line in out.splitlines()]
    assert head[:4] == ["run", "network", "epochs", "training s"]
    assert {"test loss", "test accuracy", "learning rate"} < set(head)
    assert "batch size" not in head
    assert [row[:3] for row in rows] == [["first", "784-8-3", "4"], ["other", "784-8-3", "2"]]
    assert [row[head.index("learning rate")] for row in rows] == ["0.01", "0.02"]
    for path, found in (tmp_path, "a folder of runs"), (tmp_path / "no", "no such folder or file"):
        out = pynn_command("compare", trained, path, "--no-pictures", code=1)
        assert f"pynn: RUN: {path}: found {found}, expected" in out
    monkeypatch.setattr(compare, "_width", lambda: 40)
    lines = pynn_command("compare", trained, other, "--no-pictures").splitlines()
    assert lines[0].split() == ["run", "first", "other"]
    assert re.search("^learning rate +0.01 +0.02$", "\n".join(lines), re.M)
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    out = pynn_command("compare", trained, other, "-o", plot, "--measure", "accuracy")
    assert out.endswith(f"plot      {plot}\n")
    with Image.open(plot) as image:
        assert min(image.size) > 200


def test_runs_that_were_killed_can_be_used(folder, tmp_path, monkeypatch):
    """They have settings and a checkpoint, but no model."""
    run = tmp_path / "run"

    class Killed(BaseException):
        pass

    def die(epochs, record):
        if record.epoch == 2 and record.step == record.steps:
            raise Killed

    command = ["train", *SMALL, "--data", folder, "--epochs", 3, "--checkpoint", 1e-9, run]
    with monkeypatch.context() as patched:
        patched.setattr(output, "print_epoch", die)
        with pytest.raises(Killed):
            pynn_command(*command)
    assert {path.name for path in run.iterdir()} == {"settings.json", "checkpoint.safetensors"}
    assert "run (not ended)" in pynn_command("compare", run, "--no-pictures")
    assert "test accuracy" in pynn_command("evaluate", run, "--backend", "numpy")
    if importlib.util.find_spec("matplotlib"):
        pynn_command("report", run)
        assert "has not ended, or was ended by force" in (run / "report.html").read_text("utf-8")
    out = pynn_command("train", run, "--resume", "--learning-rate", 1, code=1)
    assert "--learning-rate: found 1.0, but the run in" in out
    out = pynn_command("train", run, "--resume")
    assert re.search(r"^resumed   at epoch [12] of 3$", out, re.M)
    assert re.search(r"^trained   \d epochs in \d+\.\d\d s", out, re.M)
    assert pynn.load(run / "model.safetensors", backend="numpy").epochs == 3


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(folder, tmp_path):
    run = tmp_path / "run"
    command = ["train", *SMALL, "--data", folder, "--epochs", 2, run]
    pynn_command(*command)
    settings = json.loads((run / "settings.json").read_text())
    settings["result"] = {"epochs": 0, "updates": 0, "interrupted": True, "unfinished": True}
    for path in run.iterdir():
        path.unlink()
    (run / "settings.json").write_text(json.dumps(settings))
    assert "interrupted before its first checkpoint" in pynn_command(*command, code=1)
    out = pynn_command("train", run, "--resume")
    assert "resumed   no checkpoint to resume from: starts at the first epoch" in out
    assert pynn.load(run / "model.safetensors", backend="numpy").epochs == 2
