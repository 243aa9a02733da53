"""The page on metrics: its code, and its table of all metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pynn.metrics.catalogue import METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


def test_the_code_on_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for code, printed in BLOCK.findall(PAGE):
        exec(code, names)
        assert capsys.readouterr().out == printed


def test_the_table_has_every_metric_with_its_direction() -> None:
    table = PAGE[PAGE.index("## By name") : PAGE.index("## Names in other libraries")]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    listed = {}
    for names, _, larger, averaging in rows:
        for name in re.findall(r"`([\w<>]+)`", names.split(", as")[0]):
            listed[name] = larger, "macro" in averaging
    assert listed.pop("top_<k>") == ("yes", False)
    assert listed == {
        name: ("yes" if metric.larger_is_better else "no", "macro" in metric.averaging)
        for name, metric in METRICS.items()
    }


def test_names_in_other_libraries_exist() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    table = PAGE[PAGE.index("## Names in other libraries") : PAGE.index("## Functions and")]
    rows = [line.split(" | ")[:2] for line in table.splitlines() if line.startswith("| `")]
    listed = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    assert set(listed) == {*METRICS, "top_5"}
    for names, theirs in rows:
        if "(" not in names and "=" not in theirs:
            assert all(hasattr(sk, name) for name in re.findall(r"`(\w+)`", theirs)), theirs
