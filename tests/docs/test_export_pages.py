"""The code of the pages on exports prints what the pages say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


def run_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for code, printed in BLOCK.findall((FOLDER / name).read_text("utf-8")):
        exec(code, names)
        assert capsys.readouterr().out == printed


def test_the_page_on_onnx(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("skl2onnx")
    monkeypatch.chdir(tmp_path)
    run_page("onnx.md", capsys)


def test_the_page_on_c(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page("c-code.md", capsys)
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    page = (FOLDER / "c-code.md").read_text("utf-8")
    (program,) = re.findall(r"^```c\n(.*?)^```\n", page, re.M | re.S)
    Path("main.c").write_text(program)
    subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "main.c", "-lm"],
        check=True,
        timeout=60,
    )
    printed = subprocess.run(["./a.out"], capture_output=True, text=True, check=True, timeout=60)
    assert printed.stdout in ("same\n", "other\n")
