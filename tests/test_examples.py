"""The examples run as a user runs them, their notebooks are in step, and so are the docs."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import pynn
from benchmarks import classics

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
DOCS = ROOT / "docs"
LEARNING = DOCS / "explanation" / "how-it-learns.md"
SCRIPTS = sorted(set(EXAMPLES.glob("[1-9]_*.py")) - set(EXAMPLES.glob("*_torch.py")))
LINES = {"7": 125, "8": 90, "9": 80}  # at most; of all others 70

PRINTED = {
    "1": [
        r"epoch 20: loss 0\.\d{4}, accuracy \d\d\.\d\d%",
        "test accuracy: none published, measured",
    ],
    "2": [r"Epoch 0: \d{4} / 10000", r"test accuracy: published 95\.0 %, measured \d\d\.\d\d %"],
    "3": [
        r"training accuracy: published 92\.1 %, measured",
        r"test accuracy: published 90\.2 %, measured",
    ],
    "4": [r"test accuracy: published 89\.0 %, measured", r"\d predicted as \d: \d+ of \d+"],
    "5": [
        r"iteration 20: training .*%, dev .*%",
        r"development accuracy: published 97\.9 %, measured",
    ],
    "6": [r"swish, huber: \d+ ms per epoch", r"gelu, mse: test accuracy: none published, measured"],
    "7": [r"pynn: [\d,]+ updates per second", r"pynn: return -\d+ \(mean of 2 episodes"],
    "8": [r"trained on energies and forces: error of energies \d\.\d{4}, of forces \d\.\d{4}"],
    "9": [r"epoch 1: loss \d", r"by outputs: mean average precision: none published, measured"],
}
EPOCHS = {
    "1": "20",
    "5": "8",
    "7": "2",
}  # Few rows need this many epochs until the first line is printed.
PICTURES = {
    "1": {"1_curves", "1_weights", "1_confusion"},
    "2": {"2_curves", "2_weights", "2_mistakes"},
    "3": {"3_curves", "3_confusion", "3_mistakes"},
    "4": {"4_curves", "4_confusion", "4_mistakes"},
    "5": {"5_curve", "5_samples"},
    "6": {"6_functions", "6_curves"},
    "7": {"7_returns"},
    "8": {"8_surfaces"},
    "9": {"9_similarity"},
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorten what is started from here, and let it find this pynn from any folder."""
    monkeypatch.setenv("PYNN_EXAMPLES_QUICK", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", str(Path(pynn.__file__).parent.parent))
    yield
    for name in ("common", "make_notebooks", "mnist_csv", "pendulum", "twins"):
        sys.modules.pop(name, None)


def example_module(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return what a module of the examples defines."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_there_are_nine_short_examples():
    assert [script.name[0] for script in SCRIPTS] == list("123456789")
    for script in SCRIPTS:
        lines = len(script.read_text(encoding="utf-8").splitlines())
        assert lines <= LINES.get(script.name[0], 70), script.name


def test_the_example_of_tabular_data(capsys):
    pytest.importorskip("sklearn")
    runpy.run_path(str(EXAMPLES / "tabular_data.py"))
    tumours, patients, share = capsys.readouterr().out.splitlines()
    named = dict(re.findall(r"(\w+) (-?\d+\.\d+)", tumours))
    assert named.keys() == {"loss", "accuracy", "auc", "f1"}
    assert float(named["auc"]) > 0.97
    assert dict(re.findall(r"(\w+) (-?\d+\.\d+)", patients)).keys() == {"loss", "mae", "r2"}
    assert 75 < int(share.partition("%")[0]) < 98


def test_the_example_of_a_ranking(quick, capsys):
    runpy.run_path(str(EXAMPLES / "ranking.py"))
    *epochs, pairs, means = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in epochs] == ["epoch 1", "epoch 2"]
    assert float(pairs.split()[0]) > 75
    assert means.count(", ") == 9


def test_the_pendulum_is_that_of_gymnasium(monkeypatch):
    gymnasium = pytest.importorskip("gymnasium")
    ours = example_module("pendulum", monkeypatch)["Pendulum"]()
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=1)
    ours.reset(seed=1)
    ours.angle, ours.speed = map(float, theirs.state)
    for torque in np.random.default_rng(0).uniform(-2.5, 2.5, (100, 1)):
        state, reward, *_ = ours.step(torque)
        expected, expected_reward, *_ = theirs.step(torque)
        np.testing.assert_allclose(state, expected, atol=1e-5)
        assert reward == pytest.approx(float(expected_reward), abs=1e-5)


def test_the_example_of_an_actor_and_critics_in_torch(quick, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["", "--epochs", "2", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "7_actor_critic_torch.py"))
    assert re.search(r"PyTorch: [\d,]+ updates per second", capsys.readouterr().out)


def test_the_example_of_a_module_of_torch(quick, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "torch_module.py"))
    found = re.findall(r"^([\w-]+).* accuracy (0\.\d{4})$", capsys.readouterr().out, re.M)
    assert [name for name, _ in found] == ["pynn", "PyTorch", "fine-tuned"]
    assert all(float(accuracy) > 0.75 for _, accuracy in found)


def test_the_example_of_a_model_of_keras(quick, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("keras")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "keras_model.py"))
    found = re.findall(r"^(pynn|Keras).* accuracy.* (0\.\d{4})$", capsys.readouterr().out, re.M)
    assert [name for name, _ in found] == ["pynn", "Keras"]
    assert all(float(accuracy) > 0.5 for _, accuracy in found)


def test_the_example_of_explanations(quick, tmp_path, monkeypatch, capsys):
    pytest.importorskip("shap")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "explanations.py"))
    digits, tumours = capsys.readouterr().out.splitlines()
    assert float(re.findall(r"(\d+\.\d+)%", digits)[0]) <= 0.1
    assert float(tumours.rpartition(" ")[2]) > 0.7
    assert {path.name for path in tmp_path.glob("*.png")} == {
        *("explained_digits.png", "explained_tumours.png")
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs_from_any_folder(quick, tmp_path, script):
    number = script.name[0]
    done = subprocess.run(
        [sys.executable, str(script), "--epochs", EPOCHS.get(number, "1")],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    for printed in PRINTED[number]:
        assert re.search(printed, done.stdout), done.stdout
    pictures = {path.stem: path for path in (tmp_path / "pictures").glob("*.png")}
    assert set(pictures) == PICTURES[number]
    for path in pictures.values():
        image = _pixels(path)
        assert min(image.shape[:2]) > 150
        assert 0.002 < (image[..., :3].min(axis=2) < 0.8).mean() < 0.9, f"{path.name} is blank"
        assert f"picture   {Path('pictures') / path.name}" in done.stdout


def _pixels(path: Path) -> np.ndarray:
    from matplotlib import image

    return image.imread(path)


@pytest.mark.slow
def test_options_reach_the_training(quick, tmp_path):
    def lines(*given: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, str(SCRIPTS[4]), "--epochs", "8", "--out", "p", *given],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return [line for line in done.stdout.splitlines() if line.startswith("iteration")]

    found = lines("--seed", "3", "--backend", "numpy")
    assert len(found) == 1
    assert lines("--seed", "4", "--backend", "numpy") != found
    assert (tmp_path / "p" / "5_curve.png").exists()
    with pytest.raises(subprocess.CalledProcessError) as failed:
        lines("--backend", "abacus")
    assert "invalid choice: 'abacus'" in failed.value.stderr


def test_csv_files_hold_mnist(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = example_module("mnist_csv", monkeypatch)
    (x, y), (x_test, y_test) = pynn.datasets.mnist()
    train, test = found["train_and_test"]()
    for path, pixels, labels in (
        (train, x, y),
        (test, x_test, y_test),
        (found["kaggle_train"](), x, y),
    ):
        with open(path, newline="") as file:
            head, *rows = csv.reader(file)
        assert head == ["label", *(f"pixel{i}" for i in range(784))]
        cells = np.array(rows, dtype=np.int64)
        assert len(cells) >= 500
        np.testing.assert_array_equal(cells[:, 0], labels[: len(cells)])
        np.testing.assert_array_equal(cells[:, 1:], pixels[: len(cells)].reshape(len(cells), -1))
    before = train.stat().st_mtime_ns
    found["train_and_test"]()
    assert train.stat().st_mtime_ns == before


# --- Notebooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebooks_are_in_step(script, monkeypatch):
    pytest.importorskip("jupytext")
    nbformat = pytest.importorskip("nbformat")
    made = example_module("make_notebooks", monkeypatch)
    lies = nbformat.read(made["path_of"](script), as_version=4)
    nbformat.validate(lies)

    def cells(notebook):
        return [(c.cell_type, c.source, c.get("outputs", [])) for c in notebook.cells]

    assert cells(lies) == cells(made["notebook"](script)), "run examples/make_notebooks.py"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_pages_are_in_step(script, monkeypatch):
    pytest.importorskip("jupytext")
    made = example_module("make_pages", monkeypatch)
    page = made["page_of"](script).read_text(encoding="utf-8")
    end = 0
    for source in made["cells_of"](script):
        assert source in page[end:], f"run examples/make_pages.py {script.stem[0]}"
        end += page[end:].index(source) + len(source)
    for picture in re.findall(r"!\[[^]]*\]\((images/[^)]+)\)", page):
        assert (DOCS / "tutorials" / picture).exists()


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_notebook_runs(quick, tmp_path, script, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    # In a notebook the pictures are also shown, by the kernel's own choice of a backend.
    monkeypatch.delenv("MPLBACKEND")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    folder = tmp_path / "examples" / "notebooks"
    notebook = nbformat.read(folder / f"{script.stem}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=500, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    assert re.search(PRINTED[script.name[0]][-1], text), text
    shown = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(shown) == len(PICTURES[script.name[0]])
    assert {p.stem for p in (folder / "pictures").glob("*.png")} == PICTURES[script.name[0]]


# --- The environment ------------------------------------------------------------------------------


def test_the_conda_environment_installs_this_checkout():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((EXAMPLES / "environment.yml").read_text(encoding="utf-8"))
    assert found["name"] == "pynn"
    *packages, by_pip = found["dependencies"]
    names = {package.partition("=")[0] for package in packages}
    assert {"python", "numpy", "matplotlib", "pandas", "pip"} <= names
    (requirement,) = by_pip["pip"]
    path, extras = re.fullmatch(r"(.+)\[([\w,]+)\]", requirement).groups()
    # conda runs pip in the folder of the file.
    project = EXAMPLES / path / "pyproject.toml"
    text = project.resolve().read_text(encoding="utf-8")
    assert 'name = "pynn-mlp"' in text
    for extra in extras.split(","):
        assert f"\n{extra} = [" in text


# --- The tables and pages -------------------------------------------------------------------------


def test_the_tables_show_the_measured_numbers(tmp_path):
    for name in classics.PAGES:
        (tmp_path / name).parent.mkdir()
        shutil.copy(DOCS / name, tmp_path / name)
    numbers = DOCS / "tutorials" / "classics.json"
    classics.write_pages(json.loads(numbers.read_text("utf-8")), tmp_path)
    for name in classics.PAGES:
        made = (tmp_path / name).read_text(encoding="utf-8")
        assert made == (DOCS / name).read_text(encoding="utf-8"), (
            "run python -m benchmarks.classics --no-run"
        )


def test_every_row_of_the_table_is_an_example():
    # The others are no systems of somebody else's.
    assert list(classics.EXAMPLES.values()) == [script.name for script in SCRIPTS[:5]]
    assert set(classics.TITLES) == set(classics.EXAMPLES)


def test_only_text_between_the_marks_changes():
    page = "a\n<!-- t -->\nold\n<!-- end of t -->\nb\n"
    assert classics.between(page, "t", ["new"]) == page.replace("old", "new")
    for wrong in ("a\n", "<!-- t -->\n", "<!-- end of t -->\n<!-- t -->\n", page + page):
        with pytest.raises(ValueError, match="found no single"):
            classics.between(wrong, "t", [])


def test_settings_are_caught_from_an_example(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    fit = pynn.Network.fit
    caught = classics.catch_fit("3", "--backend", "numpy")
    assert pynn.Network.fit is fit
    assert caught.net.sizes == (784, 128, 256, 10)
    assert caught.net.backend == "numpy"
    assert caught.x.shape == (60_000, 28, 28)
    assert caught.settings["batch_size"] == 256
    assert caught.settings["learning_rate"] == 0.001
    assert "callbacks" not in caught.settings


RECIPES = {
    "logistic": (
        {"sizes": [20, 3], "loss": "binary_cross_entropy"},
        {"optimizer": "sgd", "learning_rate": 0.5},
    ),
    "mse": (
        {"sizes": [20, 8, 3], "loss": "mse", "output": "sigmoid", "activation": "sigmoid"},
        {"optimizer": "sgd", "learning_rate": 5.0},
    ),
    "adam": (
        {"sizes": [20, 8, 6, 3]},
        {
            "optimizer": "adam",
            "learning_rate": 0.01,
            "l2": 0.1,
            "schedule": pynn.InverseTime(decay=0.5),
        },
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_twin_in_torch_takes_the_same_steps(rng, recipe):
    pytest.importorskip("torch")
    about, settings = RECIPES[recipe]
    net = pynn.Network(**about, backend="numpy", seed=1)
    net.biases[0][...] = 0.1
    x = rng.integers(0, 256, (30, 20)).astype(np.uint8)
    y = np.arange(30) % 3
    settings = {**settings, "batch_size": "full"}
    twin = classics.TorchTwin(classics.Caught(net, x, y, settings), epochs=6)
    before = net.parameters.copy()
    twin(6)
    net.fit(x, y, epochs=6, **settings)
    linear = [layer for layer in twin.model if hasattr(layer, "weight")]
    found = [p.detach().numpy().T.ravel() for layer in linear for p in (layer.weight, layer.bias)]
    assert np.abs(net.parameters - before).max() > 0.02
    np.testing.assert_allclose(np.concatenate(found), net.parameters, rtol=1e-3, atol=1e-5)


def test_the_page_on_learning_is_right_about_the_reference():
    page = LEARNING.read_text(encoding="utf-8")
    linked = re.findall(r"\[`([\w.]+)`\]\(\.\./\.\./pynn/backends/(\w+\.py)\)", page)
    assert {"forward", "backward", "update"} <= {name for name, _ in linked}
    for name, file in linked:
        tree = ast.parse((ROOT / "pynn" / "backends" / file).read_text(encoding="utf-8"))
        defined = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        } | {
            target.id
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(target := node.target, ast.Name)
        }
        assert set(name.split(".")) <= defined, name
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page):
        assert (LEARNING.parent / link).exists(), link


def statements(code: str) -> int:
    return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(code)))


def test_the_code_on_the_page_runs_and_is_counted(monkeypatch):
    page = LEARNING.read_text(encoding="utf-8")
    ours, theirs = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    counts = f"{statements(ours)} statements with pynn and {statements(theirs)} with PyTorch"
    assert counts in page

    (x, y), test = pynn.datasets.mnist()
    monkeypatch.setattr(pynn.datasets, "mnist", lambda: ((x[:500], y[:500]), test))
    found: dict[str, Callable] = {}
    exec(ours.replace("epochs=30", "epochs=1"), found)
    assert found["net"].epochs == 1
    pytest.importorskip("torch")
    exec(theirs.replace("range(30)", "range(1)"), found)
    assert len(found["x"]) == 500
    assert found["loss"].item() > 0
