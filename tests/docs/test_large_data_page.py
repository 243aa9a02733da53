"""The code of the page on data larger than memory prints what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_layers_page import BLOCK

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "large-data.md").read_text("utf-8")


def test_the_code_on_the_page_prints_what_it_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="needs pynn-mlp[arrow]")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, printed in BLOCK.findall(PAGE):
        exec(code, names)
        assert capsys.readouterr().out == printed
