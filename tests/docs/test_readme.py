"""The code of the README, guides and tutorials runs, and the chart shows the measured times."""

from __future__ import annotations

import json
import re
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest

import pynn
from benchmarks import chart
from tests.docs.test_layers_page import BLOCK

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_code_of_the_readme_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    (x, y), test = pynn.datasets.mnist()
    monkeypatch.setattr(pynn.datasets, "mnist", lambda: ((x[:2000], y[:2000]), test))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, _ in BLOCK.findall(README):
        exec(code, names)
    printed = capsys.readouterr().out
    assert re.search(r"^\{'loss': 0\.\d+, 'accuracy': 0\.\d+\}$", printed, re.M)
    assert re.search(r"'r2': 0\.4\d+, 'mae': 4\d\.\d+\}$", printed, re.M)
    assert Path("digits.safetensors").exists()


def test_the_page_on_installing_lists_every_extra_for_users() -> None:
    page = (ROOT / "docs" / "how-to" / "install.md").read_text("utf-8")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, re.M)) - {"fuzz", "test", "docs", "lint"}
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.M)) == extras


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("theme", chart.COLORS)
def test_the_chart_shows_the_measured_times(theme: str) -> None:
    found = json.loads(chart.RESULTS.read_text("utf-8"))
    assert chart.path_of(theme).read_text("utf-8") == chart.chart(found, theme), (
        "run python -m benchmarks.chart"
    )


@pytest.mark.parametrize(
    "page",
    [
        "how-to/classification",
        "how-to/regression",
        "how-to/imbalance",
        "how-to/resuming",
        "how-to/tables",
        "how-to/troubleshooting",
        "tutorials/first-network",
        "tutorials/overfitting",
        "tutorials/backpropagation",
    ],
)
def test_the_code_on_the_page_prints_what_it_says(
    page: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, printed in BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text("utf-8")):
        exec(code, names)
        assert capsys.readouterr().out == printed


def test_the_code_on_the_page_on_plots_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    (x, y), (x_test, y_test) = pynn.datasets.mnist()
    few = (x[:1000], y[:1000]), (x_test[:500], y_test[:500])
    monkeypatch.setattr(pynn.datasets, "mnist", lambda: few)
    monkeypatch.setattr(pyplot, "show", lambda: None)
    monkeypatch.chdir(tmp_path)
    with pyplot.rc_context():
        pyplot.switch_backend("agg")
        for code, _ in BLOCK.findall((ROOT / "docs" / "how-to" / "plots.md").read_text("utf-8")):
            exec(code, {})
        pyplot.close("all")
    assert Path("curves.png").exists()


def test_the_tutorial_on_a_table_shows_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    from pynn.cli.app import app

    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tutorials" / "first-table.md").read_text("utf-8")
    code, printed = re.findall(r"^```(?:python|text)\n(.*?)^```$", page, re.M | re.S)
    exec(code, {})
    for line in re.findall(r"^pynn (train .*|predict .*|evaluate .*)$", page, re.M):
        app(line.split(), standalone_mode=False)
    found = capsys.readouterr().out
    assert printed in found
    assert "30 predictions in predictions.csv" in found
    tables = (ROOT / "docs" / "how-to" / "tables.md").read_text("utf-8")
    (shown,) = re.findall(r"^```text\n(species,p.*?)^```$", tables, re.M | re.S)
    rows = [line.split(",") for line in Path("predictions.csv").read_text().splitlines()]
    for expected, row in zip([line.split(",") for line in shown.splitlines()], rows, strict=False):
        assert row[0] == expected[0]
        if row is not rows[0]:  # the last digits depend on the instruction set
            np.testing.assert_allclose(
                [float(v) for v in row[1:]], [*map(float, expected[1:])], 0, 1e-3
            )
    assert Path("runs/iris/model.safetensors").exists()
    (script,) = re.findall(r"^```py\n(.*?)^```$", page, re.M | re.S)
    exec(script, {})
    assert "virginica" in capsys.readouterr().out


def test_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 5] = 255
    net = pynn.Network([784, 4, 10], seed=0)
    net.fit(images, [0, 1], epochs=1, progress=False)
    net.save("digits.safetensors")
    page = (ROOT / "docs" / "how-to" / "serving.md").read_text("utf-8")
    names: dict[str, Any] = {"__name__": "serve"}
    exec(re.findall(r"^```py\n# serve\.py\n(.*?)^```$", page, re.M | re.S)[0], names)
    server = ThreadingHTTPServer(("127.0.0.1", 0), names["Handler"])
    server.RequestHandlerClass.log_message = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with urlopen(url, json.dumps(images.tolist()).encode(), timeout=30) as answer:
        assert json.load(answer)["digits"] == net.predict(images).tolist()
    with pytest.raises(HTTPError, match="400"):
        urlopen(url, b"[1, 2]", timeout=30)
    with pytest.raises(HTTPError, match="400"):  # pixels that are scaled already
        urlopen(url, json.dumps((images / 510).tolist()).encode(), timeout=30)
    for body in (
        "[" * 100_000,
        "[[NaN]]",
        '[["1"]]',
        "[[true, 1]]",
        "{}",
        "[[1], [1, 2]]",
        "[" * 40 + "1" + "]" * 40,
        "[[256]]",
        "[[-1]]",
        "[1e999]",
    ):
        with pytest.raises(HTTPError, match="400"):
            urlopen(url, body.encode(), timeout=30)
    for length in ("-1", "0", "10000000000"):
        with pytest.raises(HTTPError, match="413"):
            urlopen(Request(url, b"[]", {"Content-Length": length}), timeout=30)
    server.shutdown()
    server.server_close()
