"""The columns of CSV files on the command line: labels, row numbers and pixels."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("PIL")
from PIL import Image

import pynn
from pynn.files.tensors import load_tensors, save_tensors
from tests.cli.command import SMALL, digits, pynn_command

MODEL = "model.safetensors"


def write(path: Path, header: str, rows: np.ndarray) -> Path:
    lines = [",".join(f"{cell:g}" for cell in row) for row in rows]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def table(n: int = 60, most: int = 200) -> np.ndarray:
    """Return rows of class, age and cholesterol; the class depends on the age."""
    rng = np.random.default_rng(n)
    age = rng.integers(20, 90, n)
    return np.stack([age > 55, age, rng.integers(100, most, n)], axis=1).astype(int)


def train(data: Path, run: Path, *options: object, code: int = 0) -> str:
    return pynn_command("train", *SMALL, "--data", data, run, "--epochs", 3, *options, code=code)


def evaluate(run: Path, *options: object, code: int = 0) -> str:
    return pynn_command("evaluate", run, "--backend", "numpy", *options, code=code)


def test_the_columns_of_a_table_are_values_whatever_their_size(tmp_path):
    rows = table()
    low = write(tmp_path / "low.csv", "target,age,chol", rows)
    train(low, tmp_path / "run")
    net = pynn.load(tmp_path / "run" / MODEL, backend="numpy")
    assert net.pixels is False
    # One larger number in a file does not change the meaning of the others.
    more = np.concatenate([rows, [[1, 70, 300]]])
    high = write(tmp_path / "high.csv", "target,age,chol", more)
    for path, given in (low, rows), (high, more):
        loss = net.evaluate(given[:, 1:].astype("f4"), given[:, 0])["loss"]
        assert f"loss {loss:.6g}\n" in evaluate(tmp_path / "run", "--data", path)
    assert "values" in evaluate(tmp_path / "run")


def test_columns_named_pixel_are_pixels(tmp_path):
    x, y = digits(60, 2)
    rows = np.column_stack([y, x.reshape(60, -1)])
    for name, header in (
        ("a", [f"pixel{k}" for k in range(784)]),
        ("b", [f"p{k}" for k in range(784)]),
    ):
        path = write(tmp_path / f"{name}.csv", ",".join(["label", *header]), rows)
        train(path, tmp_path / name)
        net = pynn.load(tmp_path / name / MODEL, backend="numpy")
        assert net.pixels is True
        assert f"loss {net.evaluate(x, y)['loss']:.6g}\n" in evaluate(tmp_path / name)


def test_a_network_of_pixels_reads_whole_numbers_of_any_columns_as_pixels(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.arange(40) % 2, rng.integers(0, 256, (40, 4))])
    named = write(tmp_path / "named.csv", "label,1x1,1x2,2x1,2x2", rows)
    train(named, tmp_path / "run")
    other = write(tmp_path / "other.csv", "label,a,b,c,d", rows)
    losses = [evaluate(tmp_path / "run", "--data", p).splitlines()[-2] for p in (named, other)]
    assert losses[0] == losses[1]
    fractions = write(tmp_path / "f.csv", "label,a,b,c,d", rows + np.array([0, 0.5, 0, 0, 0]))
    out = evaluate(tmp_path / "run", "--data", fractions, code=1)
    assert "the inputs of this network are pixels; expected floats in [0, 1]" in out


def test_a_network_of_values_refuses_a_file_of_pixels(tmp_path):
    rows = np.column_stack([np.arange(40) % 2, np.arange(160).reshape(40, 4)])
    train(write(tmp_path / "a.csv", "label,a,b,c,d", rows), tmp_path / "run")
    named = write(tmp_path / "named.csv", "label,1x1,1x2,2x1,2x2", rows)
    out = evaluate(tmp_path / "run", "--data", named, code=1)
    assert "the inputs of this network are values and not pixels" in out


def test_the_user_decides_whether_columns_are_pixels(tmp_path):
    rows = np.column_stack([np.arange(40) % 2, np.arange(160).reshape(40, 4)])
    table = write(tmp_path / "table.csv", "label,a,b,c,d", rows)
    named = write(tmp_path / "named.csv", "label,1x1,1x2,2x1,2x2", rows)
    for path, option, pixels in (table, "--pixels", True), (named, "--no-pixels", False):
        run = tmp_path / option
        train(path, run, option)
        net = pynn.load(run / MODEL, backend="numpy")
        assert net.pixels is pixels
        x = rows[:, 1:].astype(np.uint8 if pixels else np.float32)
        line = f"loss {net.evaluate(x, rows[:, 0])['loss']:.6g}\n"
        for more in [], ["--data", table], ["--data", named]:
            assert line in evaluate(run, *more)
        pynn_command("report", run, "-o", tmp_path / "page.html")


def test_the_test_set_is_checked_as_the_training_set(tmp_path):
    x, y = digits(40, 3)
    flat = x.reshape(40, -1)
    np.savez(tmp_path / "d.npz", x_train=flat, y_train=y, x_test=flat.astype("i8"), y_test=y)
    out = train(tmp_path / "d.npz", tmp_path / "run", code=1)
    assert "data: the test set does not fit: x: found int64, but the inputs" in out
    assert not (tmp_path / "run").exists()


def test_all_rows_of_a_file_decide_before_rows_are_held_out(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (40, 6), dtype=np.uint8)
    y = np.arange(40) % 2
    x[11, 3] = 255
    for row in 0, 11, 39:
        np.savez(tmp_path / "d.npz", x=np.roll(x, row, axis=0), y=y)
        train(tmp_path / "d.npz", tmp_path / f"{row}", "--validation", 0.5)
        assert pynn.load(tmp_path / f"{row}" / MODEL, backend="numpy").pixels is True


# --- Labels and row numbers -----------------------------------------------------------------------


def test_a_data_frame_written_with_its_index(tmp_path):
    rows = np.column_stack([np.arange(60), table()])
    path = write(tmp_path / "a.csv", ",target,age,chol", rows)
    out = train(path, tmp_path / "run")
    assert re.search(r"^pynn: .*a.csv: skipped the first column \(''\)", out, re.MULTILINE)
    net = pynn.load(tmp_path / "run" / MODEL, backend="numpy")
    assert net.sizes == (2, 8, 2)


def test_row_numbers_with_a_name_are_refused(tmp_path):
    rows = np.column_stack([np.arange(60), table()])
    path = write(tmp_path / "a.csv", "id,target,age,chol", rows)
    for options in [], ["--target", "target"]:
        out = train(path, tmp_path / "run", *options, code=1)
        assert "found the row numbers 0 to 59 in the first column 'id'" in out


def test_the_user_decides_whether_the_first_column_holds_row_numbers(tmp_path):
    rows = np.column_stack([np.arange(60), table()])
    path = write(tmp_path / "a.csv", "id,target,age,chol", rows)
    train(path, tmp_path / "run", "--index")
    net = pynn.load(tmp_path / "run" / MODEL, backend="numpy")
    assert net.sizes == (2, 8, 2)
    line = f"loss {net.evaluate(rows[:, 2:].astype('f4'), rows[:, 1])['loss']:.6g}\n"
    for options in [], ["--index"], ["--data", path]:
        assert line in evaluate(tmp_path / "run", *options)
    pynn_command("report", tmp_path / "run", "-o", tmp_path / "page.html")
    out = train(path, tmp_path / "other", "--target", "target", "--no-index")
    assert "may be" not in out
    assert pynn.load(tmp_path / "other" / MODEL, backend="numpy").sizes == (3, 8, 2)
    for options in ["--index"], ["--index", "--data", tmp_path / "d.npz"]:
        np.savez(tmp_path / "d.npz", x=np.eye(4), y=np.arange(4) % 2)
        out = pynn_command("train", *SMALL, *options, code=1)
        assert "pynn: --index: found True for" in out


def test_columns_that_may_be_row_numbers_are_named(tmp_path):
    counted = np.column_stack([np.arange(1, 61), table()])
    path = write(tmp_path / "a.csv", "id,target,age,chol", counted)
    out = train(path, tmp_path / "run", "--target", "target")
    assert re.search(r"^pynn: .*a.csv: used the first column 'id' as values", out, re.MULTILINE)
    assert "--index on the command line" in out


def test_dropped_columns_hold_any_numbers(tmp_path):
    for first in 1, 0:
        rows = np.column_stack([np.arange(60) + first, table()])
        path = write(tmp_path / "a.csv", "id,target,age,chol", rows)
        if first:
            out = train(path, tmp_path / "run", "--target", "target", "--drop", "id")
            assert "first column" not in out
        out = pynn_command("predict", tmp_path / "run", "--data", path)
        assert out.startswith("target,p(0)")
        assert "first column" not in out
        assert "60 rows" in evaluate(tmp_path / "run", "--data", path)
    train(path, tmp_path / "other", "--target", "target", "--drop", "id")


def test_files_without_the_row_numbers_of_the_training_name_the_option(tmp_path):
    rows = np.column_stack([np.arange(60), table()])
    path = write(tmp_path / "a.csv", "id,target,age,chol", rows)
    out = train(path, tmp_path / "run", "--target", "target", "--index")
    assert "left out: id" in out
    # The table of the network skips the column as well, and so does its file alone.
    net = pynn.load(tmp_path / "run", backend="numpy")
    np.testing.assert_allclose(net.table.x(path), rows[:, 2:], rtol=1e-4)
    (tmp_path / "run" / MODEL).rename(tmp_path / "m.safetensors")
    alone = pynn_command("predict", tmp_path / "m.safetensors", "--data", path)
    assert alone.startswith("target,p(0)")
    (tmp_path / "m.safetensors").rename(tmp_path / "run" / MODEL)
    path = write(tmp_path / "b.csv", "age,chol", rows[:, 2:])
    asked = "predict", tmp_path / "run", "--data", path
    message = "--index skips the first column, 'age': --no-index uses it"
    assert message in pynn_command(*asked, code=1)
    assert pynn_command(*asked, "--no-index").startswith("target,p(0)")
    write(path, "target,age,chol", rows[:, 1:])
    out = pynn_command(*asked, code=1)
    assert "the column that index=True skips (--index; --no-index uses it)" in out


def test_whole_numbers_can_be_values(tmp_path):
    rows = np.stack([np.arange(60) % 5 + 1, np.arange(60) % 7], axis=1)
    path = write(tmp_path / "a.csv", "stars,rooms", rows)
    for k, (loss, options, n_out) in enumerate(
        [
            ("mse", [], 5),
            ("mse", ["--regression"], 1),
            ("mse", ["--classification"], 5),
            ("poisson", [], 1),
        ]
    ):
        train(path, tmp_path / f"{k}", "--loss", loss, *options)
        net = pynn.load(tmp_path / f"{k}" / MODEL, backend="numpy")
        assert net.sizes[-1] == n_out
        assert (net.classes is None) == (n_out == 1)
        line = f"loss {net.evaluate(rows[:, 1:].astype('f4'), rows[:, 0])['loss']:.6g}\n"
        assert line in evaluate(tmp_path / f"{k}")
    out = train(path, tmp_path / "run", "--regression", code=1)
    assert "--task: found 'regression' with loss 'cross_entropy', expected a loss of" in out
    out = train(path, tmp_path / "run", "--classification", "--loss", "poisson", code=1)
    assert "--task: found 'classification' with loss 'poisson'" in out
    text = tmp_path / "b.csv"
    text.write_text("label,a,b\ncat,1,2\ndog,2,3\ncat,3,5\n")
    out = train(text, tmp_path / "run", "--regression", "--loss", "mse", code=1)
    assert "found the label 'cat', expected numbers" in out


def test_tables_with_a_square_number_of_columns_are_no_images(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.arange(40) % 2, rng.integers(0, 256, (40, 64))])
    for name, options, pictures in ("values", [], 2), ("pixels", ["--pixels"], 5):
        header = ",".join(["label", *(f"c{k}" for k in range(64))])
        path = write(tmp_path / "a.csv", header, rows)
        train(path, tmp_path / name, *options, "--pictures")
        assert len(list((tmp_path / name).glob("*.png"))) == pictures


def test_target_names_the_column_with_the_labels(tmp_path):
    rows = table()[:, [1, 0, 2]]
    path = write(tmp_path / "a.csv", "age,target,chol", rows)
    train(path, tmp_path / "run", "--target", "target")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["options"]["target"] == "target"
    net = pynn.load(tmp_path / "run" / MODEL, backend="numpy")
    assert (net.sizes, net.classes.tolist()) == ((2, 8, 2), [0, 1])
    line = f"loss {net.evaluate(net.table.x(path), net.table.y(path))['loss']:.6g}\n"
    # The column of the run is the default, also for another file.
    other = write(tmp_path / "b.csv", "target,age,chol", table())
    for data in path, other:
        for options in [], ["--target", "target"]:
            assert line in evaluate(tmp_path / "run", "--data", data, *options)
    assert "12 rows" in evaluate(tmp_path / "run")
    out = evaluate(tmp_path / "run", "--target", "nothing", code=1)
    assert out.endswith("--target: found 'nothing', expected 'target' as in training\n")
    pynn_command("report", tmp_path / "run", "-o", tmp_path / "page.html")


def test_columns_in_another_order_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", "target,age,chol", table())
    train(path, tmp_path / "run")
    assert pynn.load(tmp_path / "run" / MODEL, backend="numpy").columns == ("age", "chol")
    other = write(tmp_path / "b.csv", "target,chol,age", table()[:, [0, 2, 1]])
    out = evaluate(tmp_path / "run", "--data", other, code=1)
    assert "--data: found 'chol' as column 0 of x (counted from 0), expected 'age'" in out
    renamed = write(tmp_path / "c.csv", "target,years,cholesterol", table())
    loss = evaluate(tmp_path / "run", "--data", path).splitlines()[-2:]
    assert evaluate(tmp_path / "run", "--data", renamed).splitlines()[-2:] == loss


def test_target_needs_a_csv_file(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.eye(4), y=np.arange(4) % 2)
    out = train(tmp_path / "d.npz", tmp_path / "run", "--target", "y", code=1)
    assert "--target: found 'y' for" in out
    assert "which has no named columns" in out
    out = pynn_command("train", *SMALL, "--target", "y", code=1)
    assert "--target: found 'y' for MNIST" in out


def test_an_ended_run_has_another_target(tmp_path):
    path = write(tmp_path / "a.csv", "target,age,chol", table())
    train(path, tmp_path / "run", "--target", "target", "--checkpoint", 1)
    more = ["--checkpoint", 1, "--resume", "--target"]
    assert "has ended already" in train(path, tmp_path / "run", *more, "target")
    out = train(path, tmp_path / "run", *more, "age", code=1)
    assert "--target: found age, but the run in" in out


def test_many_whole_numbers_are_not_taken_for_classes(tmp_path):
    rows = np.stack([np.arange(60) * 1000 + 5, np.arange(60) % 7], axis=1)
    path = write(tmp_path / "a.csv", "price,rooms", rows)
    for loss in "cross_entropy", "mse":
        out = train(path, tmp_path / "run", "--loss", loss, code=1)
        assert "found 60 different whole numbers as labels of 60 rows" in out


# --- Models of earlier versions, pictures ---------------------------------------------------------


def test_runs_of_earlier_versions_read_their_data_as_before(tmp_path):
    """They were trained on uint8 if a file had whole numbers from 0 to 255 only."""
    rows = table()
    path = write(tmp_path / "a.csv", "target,age,chol", rows)
    train(path, tmp_path / "run")
    model = tmp_path / "run" / MODEL
    tensors, document = load_tensors(model)
    del document["pixels"]
    save_tensors(model, tensors, document)
    net = pynn.load(model, backend="numpy")
    loss = net.evaluate(rows[:, 1:].astype(np.uint8), rows[:, 0])["loss"]
    assert f"loss {loss:.6g}\n" in evaluate(tmp_path / "run")


def test_predict_refuses_a_picture_for_a_network_of_values(tmp_path):
    x, y = digits(60, 2)
    net = pynn.Network([784, 8, 3], backend="numpy")
    net.fit(x / 255, y, epochs=4, progress=False)
    Image.fromarray(x[0]).save(tmp_path / "x.png")
    net.save(tmp_path / "net.safetensors")
    arguments = ["predict", tmp_path / "net.safetensors", tmp_path / "x.png", "--raw"]
    out = pynn_command(*arguments, "--backend", "numpy", code=1)
    assert "RUN: found one whose inputs are values and not pixels" in out
    assert "net.pixels = True" in out
    net.pixels = True
    net.save(tmp_path / "net.safetensors")
    out = pynn_command(*arguments, "--backend", "numpy")
    assert out.startswith(f"{tmp_path / 'x.png'}  {net.predict(x[:1])[0]}: ")


def test_standardized_columns(tmp_path):
    """The network of the run has the statistics, and results are in the unit of the targets."""
    rows = table().astype(float)
    rows[:, 0] = 1000 + 0.5 * rows[:, 1] + np.arange(60) / 7
    data = write(tmp_path / "table.csv", "target,age,chol", rows)
    options = "--loss mse --standardize --standardize-targets --label-smoothing 0 --dropout 0"
    out = train(data, tmp_path / "run", *options.split())
    assert ", standardized inputs, standardized targets: " in out
    net = pynn.load(tmp_path / "run" / MODEL, backend="numpy")
    assert net.input_mean.shape == (2,)
    assert abs(net.target_mean[0] - rows[:, 0].mean()) < 10
    assert (abs(net.predict(rows[:, 1:]) - 1000) < 200).all()
    loss = net.evaluate(rows[:, 1:], rows[:, 0].astype("f4"))["loss"]
    assert f"loss {loss:.5g}" in evaluate(tmp_path / "run", "--data", data)
    pynn_command("report", tmp_path / "run")
    report = (tmp_path / "run" / "report.html").read_text()
    assert re.search(r"standardize targets</dt>\s*<dd[^>]*>(True|yes)", report)
