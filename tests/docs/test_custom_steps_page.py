"""The code of the page on custom training steps runs in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "custom-steps.md").read_text("utf-8")


def test_the_code_on_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S):
        exec(code, names)
    assert float(capsys.readouterr().out) < 0.2
    assert names["jacobian"].shape == (10, 3, 5)
