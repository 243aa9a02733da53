"""The code of the page on layers prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "layers.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


def test_the_code_on_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    names: dict[str, Any] = {}
    for code, printed in BLOCK.findall(PAGE):
        exec(code, names)
        assert capsys.readouterr().out == printed
