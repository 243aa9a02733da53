"""The code of the page on many models prints what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pynn
from tests.docs.test_layers_page import BLOCK

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "many-models.md").read_text("utf-8")


def test_the_code_on_the_page_prints_what_it_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, printed in BLOCK.findall(PAGE):
        exec(code, names)
        assert capsys.readouterr().out == printed


@pytest.mark.slow  # the processes of a cluster; tests/many/test_distributed.py has the same calls
def test_the_code_for_clusters_prints_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs pynn-mlp[distributed]")
    pytest.importorskip("sklearn")
    blocks = BLOCK.findall(PAGE.replace("```py\n", "```python\n"))
    cluster = [
        k for k, (code, _) in enumerate(blocks) if "__main__" in code and "import ray" not in code
    ]
    code = "\n".join(blocks[k][0] for k in [0, *cluster])
    script = tmp_path / "script.py"
    script.write_text("import warnings\nwarnings.simplefilter('ignore')\n" + code, "utf-8")
    path = os.pathsep.join([str(Path(pynn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    # The processes of the cluster run the script too, up to its first condition.
    assert done.stdout.endswith("".join(blocks[k][1] for k in cluster)), done.stderr
