"""The report of a run: one file, correct numbers, and safe with any names in the run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shlex
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pynn.cli import app, output, report
from pynn.cli.folder import write_json
from pynn.cli.report import options, sections
from pynn.cli.report.numbers import number, seconds

pytest.importorskip("typer")
pytest.importorskip("PIL")

from PIL import Image
from typer.testing import CliRunner

import pynn

EVIL = "<script>alert('x')</script> & \"b\""
ODD = "" if os.name == "nt" else "<i>"  # not allowed in file names on Windows
NAMES = np.array(["ant", EVIL, "cat"])


class Page(HTMLParser):
    """Parses a page; fails if tags are not closed or anything outside the page is requested."""

    VOID = ("meta", "img", "br")

    def handle_startendtag(self, tag, attributes):
        # An element of a graphic that closes itself.
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.words = ""
        self.tables: list[list[list[str]]] = []
        self.pairs: dict[str, str] = {}
        self.headings: list[str] = []
        self.links: list[str | None] = []
        self.titles: list[str | None] = []
        self._term = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        if "href" in given:
            self.links.append(given["href"])
        assert (given.get("href") or "./").startswith("./")
        if "title" in given:
            self.titles.append(given["title"])
        assert not any(name.startswith("on") for name in given)
        if tag == "img":
            self.images.append(given)
        else:
            assert "src" not in given
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag == "h2":
            self.headings.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        within = self.open[-1] if self.open else ""
        if within == "style":
            assert "url(" not in data
            assert "@import" not in data
            return
        if within == "script":
            assert "fetch" not in data
            return
        self.words += data
        if "th" in self.open or "td" in self.open:
            self.tables[-1][-1][-1] += data
        if within == "h2":
            self.headings[-1] += data
        if within == "dt":
            self._term = data
        if "dd" in self.open:
            self.pairs[self._term] = data


def train(*options: object, code: int = 0) -> None:
    fast = ["--backend", "numpy", "--hidden", "6", "--dropout", "0", "--plain", "--no-pictures"]
    result = CliRunner().invoke(app, [str(o) for o in ("train", *fast, *options)])
    assert result.exit_code == code, result.output


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert text.count("<script>") == 1
    for image in page.images:
        kind, _, data = (image["src"] or "").partition(";base64,")
        assert kind == "data:image/png"
        with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
            assert (int(image["width"]), int(image["height"])) == opened.size
        assert image["alt"]
    return page


def shapes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of 8 x 12 pixels with a bar in one of three places: x uint8, y int64."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.integers(0, 120, (n, 8, 12), dtype=np.uint8)
    for k, label in enumerate(y):
        x[k, :, 4 * label : 4 * label + 2] += 90
    return x, y


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A run on images that are not square, with a test set and names that contain HTML."""
    folder = tmp_path_factory.mktemp("images")
    (x, y), (x_test, y_test) = shapes(200, 0), shapes(50, 1)
    data = folder / f"{ODD}data.npz"
    np.savez(data, x_train=x, y_train=NAMES[y], x_test=x_test, y_test=NAMES[y_test])
    train("--data", data, "--epochs", 3, "--run", folder / f"run {ODD}&")
    return folder / f"run {ODD}&"


@pytest.fixture
def copy(images, tmp_path) -> Path:
    """A copy of that run, to be changed."""
    skip = shutil.ignore_patterns("*.html")
    return Path(shutil.copytree(images, tmp_path / "copy", ignore=skip))


@pytest.fixture(scope="module")
def page(images) -> Page:
    """The page of that run."""
    path = report.write(images)
    assert path == images / "report.html"
    return read(path)


@pytest.fixture
def blank(monkeypatch) -> None:
    """Replaces pages by a line of text, for tests of the file only."""
    monkeypatch.setattr(report, "page", lambda run: f"page of {run.folder.name}")


def test_a_page_of_images_has_all_sections(page):
    assert page.headings == [
        "What happened", "Learning curves", "Confusion matrix", "Classes", "Calibration",
        "Worst mistakes", "Predictions", "First layer", "Timings", "Settings", "Machine",
    ]  # fmt: skip
    # Mistakes, predictions and units.
    assert len(page.images) > 12
    assert "svg" in page.tags


def test_a_report_shows_the_numbers_of_the_run(images, page):
    net = pynn.load(images / "model.safetensors", backend="numpy")
    x, y = shapes(50, 1)
    result = net.evaluate(x, NAMES[y])
    assert f"{100 * result['accuracy']:.2f} % test accuracy" in page.words
    assert f"{number(result['loss'])} test loss" in page.words
    assert f"{100 * net.history[-1].validation_accuracy:.2f} % last validation" in page.words
    assert "Measured on 50 test rows." in page.words
    assert page.pairs["time per epoch, median"] == seconds(np.median(net.history.seconds))
    speed = np.median(net.history.samples_per_second)
    assert page.pairs["rows per second, median"] == f"{speed:,.0f}"
    assert page.pairs["network"] == "96-6-3"
    assert page.pairs["epochs"] == "3"
    assert page.pairs["seed"] == "0"
    assert page.pairs["NumPy"] == np.__version__
    assert page.pairs["backend"] == "numpy"


def test_only_changed_settings_are_shown_with_the_command_that_repeats_the_run(images, page):
    shown = page.text.partition("options with their default values")[0]
    assert "<dt>hidden</dt>" in shown
    assert "<dt>learning rate</dt>" not in shown
    assert "<dt>l2</dt>" in page.text  # folded away
    data = json.loads((images / "settings.json").read_text())["data"]
    assert page.titles.count(data["sha256"]) == 1
    settings = json.loads((images / "settings.json").read_text())
    words = shlex.split(options.command(settings))
    assert options.command(settings) in page.words
    expected = ["--data", data["path"], "--hidden", "6", "--dropout", "0", "--epochs", "3"]
    assert words[:2] == ["pynn", "train"]
    assert sorted(words[2:]) == sorted([*expected, "--backend", "numpy"])


def test_the_command_repeats_a_run_exactly(tmp_path):
    x, y = shapes(80, 4)
    np.savez(tmp_path / "d.npz", x=x.reshape(80, 96).astype(np.float32) / 7, y=y)
    train(
        "--data", tmp_path / "d.npz", "--epochs", 2, tmp_path / "a", "--seed", "random",
        "--no-shuffle", "--class-weight", "balanced", "--standardize", "--l2", 1e-5,
        "--validation", 0.25, "--activation", "leaky_relu:slope=0.2",
    )  # fmt: skip
    settings = json.loads((tmp_path / "a/settings.json").read_text())
    words = shlex.split(options.command(settings))
    train(tmp_path / "b", *words[2:])
    first, second = (pynn.load(tmp_path / k / "model.safetensors") for k in "ab")
    np.testing.assert_array_equal(first.parameters, second.parameters)
    assert first.history.loss == second.history.loss


def test_curves_have_values_of_every_epoch_and_a_mark_of_the_best(images, page):
    history = pynn.load(images / "model.safetensors", backend="numpy").history
    for record in history:
        lines = [f"epoch {record.epoch}", f"training: {number(record.loss)}"]
        assert escape("\n".join([*lines, f"validation: {number(record.validation_loss)}"])) in (
            page.text
        )
    best = int(np.argmin(history.validation_loss))
    value = number(history.validation_loss[best])
    assert f"best: {value} in epoch {best + 1}" in page.words
    assert "Time per epoch" in page.words
    assert "Learning rate" in page.words


def test_precision_and_recall_by_class():
    true = np.array(["a", "a", "a", "b", "b", "d"])
    found = np.array(["a", "b", "b", "b", "a", "b"])
    (table,) = Page(report.class_table(np.array(list("abcd")), true, found)).tables
    assert table == [
        ["class", "rows", "precision", "recall", "F1", "most often predicted as"],
        ["a", "3", "50.0 %", "33.3 %", "40.0 %", "b (2)"],
        ["b", "2", "25.0 %", "50.0 %", "33.3 %", "a (1)"],
        ["c", "0", "–", "–", "–", "–"],
        ["d", "1", "–", "0.0 %", "0.0 %", "b (1)"],
    ]


def test_names_of_classes_and_paths_are_text(page):
    assert f"<h1>run {escape(ODD)}&amp;</h1>" in page.text
    # The first cell of every row, as displayed.
    assert [line[0] for line in page.tables[0][1:]] == sorted(NAMES)
    assert page.pairs["data"].endswith(f"{ODD}data.npz")


def test_the_page_may_fetch_nothing(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page.text)
    assert policy
    script = re.search(r"<script>(.*)</script>", page.text, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    # No other script can run, whatever text the page contains.
    assert policy.group(1) == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    assert not re.search(r"https?://", page.text)


def test_it_is_for_light_and_dark_paper_and_phones(page):
    text = page.text
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text


def test_regression(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=(x @ [0.5, -1, 0.25]).astype(np.float32))
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "run", "--pictures"
    train("--data", tmp_path / "d.npz", "--loss", "mse", "--epochs", 2, *drawn)
    assert {path.name for path in (tmp_path / "run").glob("*.png")} == {
        "learning_curve.png", "regression.png"
    }  # fmt: skip
    page = read(report.write(tmp_path / "run"))
    assert page.headings == [
        "What happened", "Learning curves", "Predictions", "Timings", "Settings", "Machine",
    ]  # fmt: skip
    assert not page.images
    net = pynn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
    # Without a test set, the held-out rows are measured, with the weights of the last epoch.
    assert f"{number(net.history[-1].validation_loss)} validation loss" in page.words
    for name in ("R²", "MAE", "RMSE"):
        assert f" validation {name}" in page.words
    assert "Residuals" in page.words
    assert "Measured on 9 validation rows." in page.words
    assert "accuracy" not in page.words
    assert not re.findall(r".{9}\de[-+]\d.{9}", page.words)


def test_one_hot_targets(tmp_path):
    x, y = shapes(80, 4)
    np.savez(tmp_path / "d.npz", x=x.reshape(80, 96), y=np.eye(3, dtype=np.float32)[y])
    train("--data", tmp_path / "d.npz", "--epochs", 1, tmp_path / "run")
    page = read(report.write(tmp_path / "run"))
    # 96 columns are not a square number: classes, but no images.
    assert page.headings[1:4] == ["Learning curves", "Confusion matrix", "Classes"]
    assert [line[0] for line in page.tables[0][1:]] == ["0", "1", "2"]
    assert sum(int(line[1]) for line in page.tables[0][1:]) == 8


def test_an_interrupted_run(images, tmp_path, monkeypatch):
    def stop(epochs, record):
        if record.step == record.steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(output, "print_epoch", stop)
    data = images.parent / f"{ODD}data.npz"
    train("--data", data, "--epochs", 9, tmp_path / "run", code=130)
    page = read(report.write(tmp_path / "run"))
    assert "interrupted after 1 complete epoch;" in page.words
    assert "test accuracy" in page.words


def test_no_epoch_at_all(images, tmp_path):
    data = images.parent / f"{ODD}data.npz"
    train("--data", data, "--epochs", 0, tmp_path / "run")
    page = read(report.write(tmp_path / "run"))
    assert "No complete epoch was trained." in page.words
    assert "Timings" in page.headings


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_diverged(images, tmp_path):
    data = images.parent / f"{ODD}data.npz"
    with pytest.raises(AssertionError, match="gave a loss that is not finite"):
        train(
            "--data", data, "--epochs", 1, tmp_path / "run", "--loss", "mse", "--output",
            "identity", "--optimizer", "sgd", "--learning-rate", 1e20,
        )  # fmt: skip
    page = read(report.write(tmp_path / "run"))
    assert "The training diverged: step 2 of epoch 1 gave a loss" in page.words


def test_report_uses_the_newest_run(images, tmp_path, monkeypatch, blank):
    monkeypatch.chdir(tmp_path)
    data = images.parent / f"{ODD}data.npz"
    for name in "ba":
        train("--data", data, "--epochs", 0, "--run", Path("runs") / name)
    assert report.write() == Path("runs/a/report.html")
    assert (tmp_path / "runs/a/report.html").read_text() == "page of a"


def test_symbolic_links_are_not_followed(copy, tmp_path, blank):
    (tmp_path / "mine").write_text("mine")
    (copy / "report.html").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"report\.html: found a symbolic link"):
        report.write(copy)
    assert (tmp_path / "mine").read_text() == "mine"


def test_another_place_for_the_page(copy, tmp_path, blank):
    path = report.write(copy, tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert path.read_text() == "page of copy"
    assert not (copy / "report.html").exists()


# --- Errors ---------------------------------------------------------------------------------------


def test_a_failed_report_leaves_no_partial_page(copy, monkeypatch):
    (copy / "report.html").write_text("the old one")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(sections, "environment", fail)  # the last section
    with pytest.raises(MemoryError):
        report.write(copy)
    assert (copy / "report.html").read_text() == "the old one"
    assert not list(copy.glob(".pynn-*"))


def test_a_folder_that_is_no_run_is_refused(tmp_path, copy):
    with pytest.raises(FileNotFoundError, match="folder: .*nothing: found no such folder"):
        report.write(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="found a file, expected the folder of a run"):
        report.write(copy / "history.json")
    with pytest.raises(ValueError, match=r"found no model\.safetensors, expected the folder"):
        report.write(tmp_path)
    (copy / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"found no settings\.json, expected the folder"):
        report.write(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"found no JSON \(Expecting property name"),
        ("[]", "found list indices"),
        ("{}", "found no 'options'"),
        ('{"options": {}, "data": {}}', "found no 'path'"),
    ],
)
def test_a_report_refuses_invalid_settings(copy, text, message):
    (copy / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=rf"settings\.json: {message}.*, expected the settings"):
        report.write(copy)


def test_a_file_that_is_no_model_is_refused(copy):
    (copy / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.safetensors: found"):
        report.write(copy)


def test_data_that_have_moved_or_changed(copy, tmp_path, images, blank):
    moved = tmp_path / "moved.npz"
    shutil.copy(images.parent / f"{ODD}data.npz", moved)
    settings = json.loads((copy / "settings.json").read_text())
    settings["data"]["path"] = str(tmp_path / "gone.npz")
    (copy / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(FileNotFoundError, match=r"data: .*gone\.npz: .* pass its path with --data"):
        report.write(copy)
    assert not (copy / "report.html").exists()

    report.write(copy, data=moved)
    (copy / "report.html").unlink()

    x, y = shapes(200, 9)
    np.savez(moved, x=x, y=NAMES[y])
    with pytest.raises(ValueError, match=r"data: .*moved\.npz: found data that differ"):
        report.write(copy, data=moved)
    assert not (copy / "report.html").exists()


def test_the_working_folder_does_not_matter(images, tmp_path, monkeypatch, blank):
    monkeypatch.chdir(images.parent)
    train("--data", f"{ODD}data.npz", "--epochs", 0, tmp_path / "run")
    monkeypatch.chdir("/")
    assert report.write(tmp_path / "run").is_file()


def test_a_path_that_is_no_text(copy, tmp_path, monkeypatch):
    write_json(tmp_path / "s.json", {"data": "a\udc80"})
    assert json.loads((tmp_path / "s.json").read_bytes()) == {"data": "a\udc80"}
    monkeypatch.setattr(report, "page", lambda run: "<p>a\udc80</p>")
    assert report.write(copy).read_text(encoding="utf-8") == "<p>a?</p>"
