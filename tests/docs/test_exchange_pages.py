"""The code of the pages on other libraries, saving and explanations prints what the pages say."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
EXAMPLES = [
    (page, code, printed)
    for page in ("saving", "exchange", "pytorch", "keras", "explanations")
    for code, printed in BLOCK.findall((HOW_TO / f"{page}.md").read_text("utf-8"))
]


@pytest.mark.parametrize("page, code, printed", EXAMPLES)
def test_the_code_on_the_page_prints_what_it_says(
    page: str,
    code: str,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for package in re.findall(r"^(?:import|from) (\w+)", code, re.M):
        pytest.importorskip(package)
    if "plots" in code:
        pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYNN_NUM_THREADS", "2")  # the pages print the number of threads
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer")
        exec(code, names)
    assert capsys.readouterr().out == printed
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
