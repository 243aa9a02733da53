"""The code of the page on callbacks and tracking runs, where the packages are installed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "tracking.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
BEGINNING, *EXAMPLES = BLOCK.findall(PAGE)


@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: code.split()[1])
def test_an_example_of_the_page_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", "1.9" if "sklearn" in code else "1.7")
    for package in re.findall(r"^(?:import|from) (\w+)", code, re.M):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(BEGINNING, names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer")
        exec(code, names)
    assert len(names["net"].history) in (0, 5)
