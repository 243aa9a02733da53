"""Tables on the command line: training, predictions, evaluation and what they refuse."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
import pynn
from tests.cli.command import pynn_command, results

SMALL = ["--backend", "numpy", "--epochs", 3, "--no-pictures", "--plain"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A table with text, gaps, weights and a target that depends on its columns."""
    rng = np.random.default_rng(0)
    lines = ["name,age,sex,port,weight,survived,price"]
    for k in range(120):
        age = "" if k % 7 == 0 else f"{rng.normal(30, 9):.1f}"
        sex, port = ("female", "male")[k % 2], "ABC"[k % 3]
        survived = "yes" if sex == "female" or k % 5 == 0 else "no"
        price = "" if k % 11 == 0 else f"{10 * (k % 3) + rng.normal():.3f}"
        lines.append(f"P {k},{age},{sex},{port},{1 + k % 2},{survived},{price}")
    path = tmp_path_factory.mktemp("tables") / "mixed.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(mixed) -> Path:
    """A run of a classification with weights, without a row for the last columns."""
    folder = mixed.parent / "run"
    options = ["--target", "survived", "--drop", "name,price", "--impute", "median"]
    out = pynn_command("train", folder, "--data", mixed, *options, "--weights", "weight", *SMALL)
    assert "table     6 inputs from 3 columns" in out
    assert "target survived: classes no, yes" in out
    assert "96 rows to train, 24 to validate" in out
    assert re.search("^validation macro F1 .*\nvalidation AUC .*\nvalidation accuracy", out, re.M)
    assert f"pynn predict {folder} --data new.csv" in out.splitlines()[-1]
    return folder


def test_a_classification(mixed, run):
    net = pynn.load(run / "model.safetensors", backend="numpy")
    assert net.sizes == (6, 64, 32, 2)
    assert net.classes.tolist() == ["no", "yes"]
    assert net.table.inputs == ("age", "sex=female", "sex=male", "port=A", "port=B", "port=C")
    assert net.input_mean is not None
    settings = json.loads((run / "settings.json").read_text())
    found = settings["options"]
    assert (found["l2"], found["dropout"], found["task"]) == (0.05, "0", "classification")
    assert settings["result"]["validation_f1_macro"] >= 0

    # The rows that the run held out, with their weights.
    out = pynn_command("evaluate", run, "--backend", "numpy")
    assert f"validation loss {settings['result']['validation_loss']:.6g}\n" in out
    assert "24 rows" in out
    x, y, w = (f(mixed) for f in (net.table.x, net.table.y, net.table.sample_weight))
    loss = net.evaluate(x, y, sample_weight=w)["loss"]
    out = pynn_command("evaluate", run, "--data", mixed, "--backend", "numpy")
    assert f"\nloss {loss:.6g}\n" in out
    pytest.importorskip("matplotlib")
    pynn_command("report", run)
    page = (run / "report.html").read_text("utf-8")
    assert "<dt>training set</dt><dd>96 rows</dd>" in page
    assert "<dt>validation set</dt><dd>24 rows</dd>" in page
    assert "<dt>test set</dt>" not in page


def test_predictions(run, tmp_path):
    new = tmp_path / "new.csv"
    new.write_text("port,sex,age\nA,male,3\nC,female,\n")
    net = pynn.load(run / "model.safetensors", backend="numpy")
    p = net.predict_proba(net.table.x(new))
    out = pynn_command("predict", run, "--data", new, "--backend", "numpy")
    header, *rows = [line.split(",") for line in out.splitlines()]
    assert header == ["survived", "p(no)", "p(yes)"]
    assert [row[0] for row in rows] == net.predict(net.table.x(new)).tolist()
    np.testing.assert_allclose([[float(v) for v in row[1:]] for row in rows], p, atol=1e-6)
    out = pynn_command("predict", run, "--data", new, "--backend", "numpy", "--json")
    found = json.loads(out)
    assert found[1]["probabilities"]["yes"] == pytest.approx(p[1, 1], abs=1e-6)
    out = pynn_command("predict", run, "--data", new, "--out", tmp_path / "o", "--backend", "numpy")
    assert out == f"2 predictions in {tmp_path / 'o'}\n"
    assert (tmp_path / "o").read_text().startswith("survived,p(no),p(yes)\n")

    for text, message in {
        "port,sex\nA,male\n": "found no column 'age', expected the columns of the training",
        "port,sex,age,deck\nA,male,3,B\n": "found column 'deck' that the training did not have",
        "port,sex,age\nA,male,3\nD,male,3\n": "found the category 'D' in line 3, which the train",
        "port,sex,age\nA,male,x\n": "column 'age': found 'x' in line 2, expected a number",
    }.items():
        new.write_text(text)
        out = pynn_command("predict", run, "--data", new, "--backend", "numpy", code=1)
        assert message in out
        assert out.count("\n") == 1
    out = pynn_command("predict", run, code=1)
    assert "found neither pictures nor --data, expected one of them" in out


def test_a_regression(mixed, tmp_path):
    options = ["--target", "price", "--drop", "name,weight", "--impute", "mean", *SMALL]
    out = pynn_command("train", tmp_path / "a", "--data", mixed, *options, code=1)
    assert "target 'price': found 11 of 120 missing, the first in line 2" in out
    assert not (tmp_path / "a").exists()
    options += ["--missing-targets", "ignore"]
    out = pynn_command("train", tmp_path / "a", "--data", mixed, *options)
    assert "target price: values (regression; --task classification for classes)" in out
    assert "87 rows to train, 22 to validate" in out
    assert ", standardized inputs, standardized targets: " in out
    assert [line.split()[1] for line in results(out)[-4:]] == ["R2", "MAE", "RMSE", "loss"]
    out = pynn_command("evaluate", tmp_path / "a", "--backend", "numpy")
    assert "22 rows" in out
    assert [line.split()[1] for line in out.splitlines()[-3:]] == ["R2", "MAE", "RMSE"]
    out = pynn_command("predict", tmp_path / "a", "--data", mixed, "--backend", "numpy")
    assert out.startswith("price\n")
    assert out.count("\n") == 121


def test_the_command_in_a_report_repeats_a_run(mixed, tmp_path):
    from pynn.cli.report.options import command

    options = ["--target", "survived", "--drop", "name,price", "--impute", "mean", *SMALL]
    options += ["--no-standardize", "--dropout", 0.1, "--weights", "weight"]
    pynn_command("train", tmp_path / "a", "--data", mixed, *options)
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    words = shlex.split(command(settings))[1:]
    assert "--no-standardize" in words
    pynn_command(*words, tmp_path / "b", "--plain", "--no-pictures")
    a, b = (pynn.load(tmp_path / name / "model.safetensors", backend="numpy") for name in "ab")
    np.testing.assert_array_equal(a.parameters, b.parameters)


def test_options_of_tables(mixed, tmp_path):
    base = ["--data", mixed, *SMALL]
    for options, message in {
        "--target alive": "--target: found 'alive'",
        "--target survived": "column 'name': found 120 different texts in 120 rows",
        "--target survived --drop nome": "--drop: found 'nome' for",
        "--target survived --drop name": "found missing values in 'age' (18 of 120, the first in",
        "--target survived --drop name,price --impute magic": "--impute: found 'magic'",
        "--target survived --drop name --task regression": "--task: found 'regression' with the te",
        "--target survived --drop name --task guess": "--task: found 'guess'",
        "--drop name": "--drop: found name, expected it with --data FILE.csv and --target COLUMN",
    }.items():
        out = pynn_command("train", tmp_path / "run", *base, *options.split(), code=1)
        assert message in out
        assert not (tmp_path / "run").exists()
    other = tmp_path / "other.csv"
    other.write_text("no run")
    out = pynn_command("train", other, *base, "--target", "sex", "--drop", "name,age,price", code=1)
    assert f"RUN: found the file {other}, expected a new or empty folder" in out
    for text, options, message in (
        ("a;b\n1;2\n3;4\n", ["--target", "b"], "separated by commas, not by semicolons"),
        ("1,2\n3,4\n", ["--target", "b"], "the names of columns in its first line, which holds 1,"),
        ("y,b\n3,x\n4,z\n", [], "; for a table with texts name its target with --target COLUMN"),
    ):
        other.write_text(text)
        out = pynn_command("train", tmp_path / "run", "--data", other, *SMALL, *options, code=1)
        assert message in out
    options = "--target weight --drop name,price,survived --impute median --task regression"
    options += " --no-standardize --no-standardize-targets --hidden 5 --l2 0 --metrics mae"
    pynn_command("train", tmp_path / "run", *base, *options.split())
    net = pynn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
    assert (net.sizes, net.input_mean, net.target_mean) == ((6, 5, 1), None, None)
    options = "--target weight --drop name,price,survived --impute median --categories port"
    out = pynn_command("train", tmp_path / "classes", *base, *options.split())
    assert "target weight: classes 1, 2 (--task regression for values)" in out


def write(path: Path, header: str, row, rows: int = 40) -> Path:
    """Write a table."""
    path.write_text("\n".join([header, *(row(k) for k in range(rows))]) + "\n")
    return path


def test_predictions_of_values_have_all_digits_and_names(tmp_path):
    data = write(tmp_path / "v.csv", "a,y", lambda k: f"{k % 11},{1e9 + k / 8}")
    for loss, head in {
        "mse": ["y"],
        "quantile:q=0.1/0.5": ["y(q=0.1)", "y(q=0.5)"],
        "gaussian_nll": ["y", "y(std)"],
    }.items():
        run = tmp_path / head[-1]
        pynn_command("train", run, "--data", data, "--target", "y", "--loss", loss, *SMALL)
        measured = set(json.loads((run / "settings.json").read_text())["result"])
        assert "validation_mae" in measured
        assert ("validation_r2" in measured) == ("quantile" not in loss)
        asked = "predict", run, "--data", data, "--backend", "numpy"
        header, first, *_ = pynn_command(*asked).splitlines()
        assert header.split(",") == head
        found = json.loads(pynn_command(*asked, "--json"))[0]
        values = found["prediction"]
        values = list(values.values()) if len(head) == 2 and "std" not in found else [values]
        values += [found["std"]] if "std" in found else []
        assert [float(cell) for cell in first.split(",")] == values
        assert 1e9 - 100 < values[0] < 1e9 + 100
    assert set(found) == {"prediction", "std"}


def test_rows_of_one_column_have_a_prediction_each(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", lambda k: f"{k % 7},{k % 7 + 0.5}")
    pynn_command(
        "train", tmp_path / "run", "--data", path, "--target", "y", "--impute", "median", *SMALL
    )
    new = tmp_path / "n.csv"
    new.write_text('x\n1.0\n""\n2.0\n3.0\n')
    assert len(pynn_command("predict", tmp_path / "run", "--data", new).splitlines()) == 5
    new.write_text("x\n1.0\n\n2.0\n3.0\n")
    out = pynn_command("predict", tmp_path / "run", "--data", new, code=1)
    assert "line 3: found a blank line between rows of one column" in out


def test_a_target_in_another_case_shows_the_closest_name(mixed):
    out = pynn_command("train", "--data", mixed, "--target", "Survived", *SMALL, code=1)
    assert "sex, port, weight, survived, price; similar: 'survived'" in out


def test_numbers_that_are_too_large_are_named_by_line_and_column(tmp_path):
    def row(k, age="3"):
        return f"{'ab'[k % 2]},{age if k == at else k % 9},{'yn'[k % 3 % 2]}"

    at = -1
    path = write(tmp_path / "a.csv", "plan,age,y", row)
    run = tmp_path / "run"
    pynn_command("train", run, "--data", path, "--target", "y", *SMALL)
    found = set()
    for at in range(0, 40, 2):
        write(path, "plan,age,y", lambda k: row(k, "1e300"))
        out = pynn_command("train", tmp_path / "x", "--data", path, "--target", "y", *SMALL, code=1)
        text = f"pynn: {path}: column 'age': found 1e+300 in line {at + 2}, which "
        assert text in out
        found.add("gives the column the scale" in out)
    assert found == {True, False}  # of rows to train on, and held out
    for command in "predict", "evaluate":
        out = pynn_command(command, run, "--data", path, code=1)
        assert f"column 'age': found 1e+300 in line {at + 2}, which standardised" in out


def test_evaluate_leaves_rows_without_a_target_out(run, mixed, tmp_path):
    text = mixed.read_text()
    path = tmp_path / "gap.csv"
    path.write_text(text + text.splitlines()[1].replace("yes", "") + "\n")
    out = pynn_command("evaluate", run, "--data", path, code=1)
    assert "--missing-targets ignore" in out
    out = pynn_command("evaluate", run, "--data", path, "--missing-targets", "ignore")
    assert "gap.csv: 120 rows" in out
    assert "expected one of error, ignore" in pynn_command(
        "evaluate", run, "--data", path, "--missing-targets", "no", code=1
    )


def test_options_can_be_repeated_and_name_columns_with_commas(tmp_path):
    from pynn.cli.report.options import command

    def row(k):
        label = "x=1" if k % 3 else '"b,c"'
        return f"{k % 11},{k},{k % 7},{'01' if k % 2 else '1'},0,{label}"

    data = write(tmp_path / "c.csv", 'a,"p, q",r,z,w,y', row)
    options = ["--data", data, "--target", "y", "--drop", "p, q", "--drop", "r,w", *SMALL]
    options += ["--categories", "z", "--class-weight", "b,c=2", "--class-weight", "x=1=3"]
    options += ["--metrics", "f1", "--metrics", "auc,mcc"]
    out = pynn_command("train", tmp_path / "a", *options)
    assert "left out: p, q, r, w" in out
    assert "class weights b,c=2,x=1=3" in out
    assert pynn.load(tmp_path / "a" / "model.safetensors").table.inputs == ("a", "z=01", "z=1")
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert {"validation_f1", "validation_auc", "validation_mcc"} <= set(settings["result"])
    words = shlex.split(command(settings))[1:]
    assert [words[k + 1] for k, word in enumerate(words) if word == "--drop"] == ["p, q", "r,w"]
    asked = "evaluate", tmp_path / "a", "--metrics", "mcc", "--metrics", "f1"
    assert "validation MCC" in pynn_command(*asked, "--backend", "numpy")

    for more, message in {
        ("--drop", "y"): "--drop: found 'y', the target",
        ("--weights", "w"): "--drop: found 'w', the column of the weights",
    }.items():
        assert message in pynn_command("train", tmp_path / "b", *options, *more, code=1)
    options = ["--data", data, "--target", "y", "--weights", "w", *SMALL]
    out = pynn_command("train", tmp_path / "b", *options, code=1)
    assert "--weights: found 0 in the column 'w' of all 32 rows to train on" in out


def test_a_run_that_does_not_exist_or_is_damaged_is_named(run, tmp_path):
    out = pynn_command("train", tmp_path / "typo", "--resume", code=1)
    assert f"pynn: RUN: found no run in {tmp_path / 'typo'}, expected the folder of a run" in out
    assert not (tmp_path / "typo").exists()
    out = pynn_command("predict", tmp_path / "typo", "--data", "new.csv", code=1)
    assert f"pynn: RUN: {tmp_path / 'typo'}: found no such run" in out
    settings = tmp_path / "settings.json"
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    settings.write_text("{")
    for command in (["train", tmp_path, "--resume"], ["evaluate", tmp_path]):
        assert f"pynn: RUN: {settings}: found no JSON" in pynn_command(*command, code=1)


def test_batch_norm_has_no_last_batch_of_one_row(tmp_path):
    data = write(tmp_path / "s.csv", "a,y", lambda k: f"{k % 11},{'rs'[k % 2]}", rows=121)
    asked = ["--data", data, "--target", "y", "--norm", "batch", *SMALL]
    out = pynn_command("train", tmp_path / "a", *asked)
    assert "97 rows to train" in out
    assert "batch 33" in out
    out = pynn_command("train", tmp_path / "b", *asked, "--batch-size", 32, code=1)
    assert "found 32, which leaves a last batch of 1 for 97 rows" in out


def test_presets_warnings_and_small_losses(tmp_path):
    data = write(tmp_path / "s.csv", "a,y", lambda k: f"{k % 11},{k % 11}e-9")
    asked = ["--data", data, "--target", "y", "--fast", "--backend", "numpy", "--plain"]
    asked += ["--epochs", 2, "--batch-size", 8]
    out = pynn_command("train", tmp_path / "a", *asked)
    assert re.search(r"^epoch 2/2  loss \S+e-\d\d  validation loss", out, re.M)
    out = pynn_command(
        "train", tmp_path / "b", *asked, "--metrics", "", "--training-metrics", code=1
    )
    assert "--training-metrics: found no metrics, expected --metrics NAMES" in out

    # One class among the rows held out: AUC has no value.
    data = write(tmp_path / "r.csv", "a,y", lambda k: f"{k % 11},{'r' if k == 3 else 's'}")
    out = pynn_command("train", tmp_path / "c", "--data", data, "--target", "y", *SMALL)
    assert out.count("pynn: metrics: found NaN for auc of 8 rows") == 1
    assert "RuntimeWarning" not in out
    pynn_command(
        "train", tmp_path / "d", "--data", data, "--target", "y", "--loss", "hinge", *SMALL
    )
    out = pynn_command("evaluate", tmp_path / "d", "--backend", "numpy")
    assert "macro F1" in out
    assert "AUC" not in out


def test_files_of_other_formats_are_named(tmp_path):
    path = tmp_path / "a.csv"
    for content, message in (
        (b'"x, 1";y\n1;2\n', "1 semicolon and 0 commas in the first line"),
        (b"a,b;c;d;e;y\n1,2;3;4;5;6\n", "separated by commas, not by semicolons"),
        (b"a\ty\n1\t2\n", "separated by commas, not by tabs"),
        ("a,y\n1,2\n".encode("utf-16"), "a.csv: found text in UTF-16, expected"),
        (b"", "found an empty file, expected comma-separated lines"),
        (b"\xe4,y\n1,2\n", "found invalid CSV at its beginning"),
    ):
        path.write_bytes(content)
        for target in ([], ["--target", "y"], ["--target", "y", "--impute", "median"]):
            out = pynn_command("train", tmp_path / "r", "--data", path, *target, *SMALL, code=1)
            assert message in out


def test_quantiles_without_the_median_have_no_default_metrics(tmp_path):
    data = write(tmp_path / "v.csv", "a,y", lambda k: f"{k % 11},{k / 8}")
    options = ["--data", data, "--target", "y", "--loss", "quantile:q=0.1/0.9", *SMALL]
    out = pynn_command("train", tmp_path / "a", *options)
    assert "no metrics by default: no quantile is 0.5; --metrics chooses some" in out
    assert "MAE" not in out + pynn_command("evaluate", tmp_path / "a", "--backend", "numpy")
    assert "validation MAE" in pynn_command("train", tmp_path / "b", *options, "--metrics", "mae")


@pytest.mark.parametrize("size", ["e154", "e306"])
def test_targets_whose_squares_overflow_are_refused_before_training(tmp_path, size):
    rows = [f"{k},{k % 7}{size}" for k in range(60)]
    (tmp_path / "y.csv").write_text("a,price\n" + "\n".join(rows) + "\n")
    data = ["--data", tmp_path / "y.csv", "--target", "price", "--no-index"]
    out = pynn_command("train", tmp_path / "run", *data, *SMALL, "--task", "regression", code=1)
    assert out == (
        f"pynn: target 'price': found 6e+{size[1:]}, expected values of at most 1e+150, whose "
        "squares float64 can hold; divide them by a power of ten\n"
    )
    assert not (tmp_path / "run").exists()
    np.savez(tmp_path / "y.npz", x=np.eye(60), y=np.arange(60) * float(f"1{size}"))
    out = pynn_command(
        "train", tmp_path / "run", "--data", tmp_path / "y.npz", "--loss", "mse", *SMALL, code=1
    )
    assert "data: found 5.9e+" in out


@pytest.mark.parametrize("loss", ["gamma", "poisson"])
def test_exponential_outputs_begin_at_the_mean_of_the_targets(tmp_path, loss):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    price = np.exp(8 + x + 0.1 * rng.normal(size=200))
    rows = [f"{a},{1 + (a > 0)},{y}" for a, y in zip(x, price)]
    (tmp_path / "y.csv").write_text("a,w,price\n" + "\n".join(rows) + "\n")
    data = ["--data", tmp_path / "y.csv", "--target", "price", "--weights", "w", "--loss", loss]
    small = [*SMALL, "--learning-rate", 1e-12, "--quiet"]
    pynn_command("train", tmp_path / "start", *data, *small)
    pynn_command("train", tmp_path / "run", *data, *SMALL, "--epochs", 30)
    net = pynn.load(tmp_path / "start" / "model.safetensors", backend="numpy")
    assert net.biases[-1][0] == pytest.approx(np.log(np.average(price, weights=1 + (x > 0))), 0.02)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["result"]["validation_r2"] > 0.7


def test_validation_0_trains_on_all_rows(mixed, tmp_path):
    data = ["--data", mixed, "--target", "survived", "--drop", "name,price", "--impute", "mean"]
    run = tmp_path / "all"
    out = pynn_command(
        "train", run, *data, *SMALL, "--validation", 0, "--weights", "weight", "--pictures"
    )
    assert "120 rows to train, none to validate" in out
    assert re.search("^training accuracy .* %$", out, re.M)
    assert "validation loss" not in out
    assert f"pynn evaluate {run} --data test.csv" in out
    assert (run / "learning_curve.png").is_file()
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["data"]["train_rows"], settings["data"]["validation_rows"]) == (120, 0)
    pynn_command("report", run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Without validation rows" in page
    assert "last training accuracy" in page
    assert "found no held-out rows" in pynn_command("evaluate", run, code=1)
    assert "120 rows" in pynn_command("evaluate", run, "--data", mixed)
    out = pynn_command("train", tmp_path / "b", *data, *SMALL, "--validation", 0.001, code=1)
    assert "0 of 120 rows" in out
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "y.npz", x=x, y=x[:, 0])
    data = ["--data", tmp_path / "y.npz", "--loss", "mse", "--validation", 0]
    assert "training loss" in pynn_command("train", tmp_path / "c", *data, *SMALL)


def test_predict_names_the_last_run_and_keeps_its_training_data(mixed, run, tmp_path, monkeypatch):
    (tmp_path / "new.csv").write_text("sex,age,port\nmale,30,A\n")
    data = tmp_path / "data.csv"
    shutil.copy(mixed, data)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "runs" / "last")
    settings = json.loads((run / "settings.json").read_text())
    settings["data"]["path"] = str(data)
    (tmp_path / "runs" / "last" / "settings.json").write_text(json.dumps(settings))
    last = f"run       {Path('runs/last')} (the last one; RUN chooses another)"
    asked = ["predict", "--data", "new.csv", "--backend", "numpy"]
    assert pynn_command(*asked).splitlines()[0] == last
    assert "run       " not in pynn_command("predict", run, *asked[1:])
    (tmp_path / "wrong.csv").write_text("a\n1\n")
    assert pynn_command("predict", "--data", "wrong.csv", code=1).startswith(last)
    for out in (data, Path("data.csv")):
        text = pynn_command(*asked, "--out", out, code=1)
        assert f"--out: found {out}, the training data of the run" in text
    assert data.read_bytes() == mixed.read_bytes()
