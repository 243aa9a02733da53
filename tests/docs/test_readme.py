"""The code of the README and of three guides runs, and the chart shows the measured times."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

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


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("theme", chart.COLORS)
def test_the_chart_shows_the_measured_times(theme: str) -> None:
    found = json.loads(chart.RESULTS.read_text("utf-8"))
    assert chart.path_of(theme).read_text("utf-8") == chart.chart(found, theme), (
        "run python -m benchmarks.chart"
    )


@pytest.mark.parametrize("page", ["regression", "imbalance", "resuming"])
def test_the_code_on_the_page_prints_what_it_says(
    page: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, printed in BLOCK.findall(
        (ROOT / "docs" / "how-to" / f"{page}.md").read_text("utf-8")
    ):
        exec(code, names)
        assert capsys.readouterr().out == printed
