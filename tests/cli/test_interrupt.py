"""Ctrl-C during the import of the command line prints no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pynn

INTERRUPT = """
import importlib.abc
import os
import sys


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == os.environ["INTERRUPTED_IMPORT"]:
            if os.environ["AS_IMPORT_ERROR"] == "1":
                try:
                    raise KeyboardInterrupt
                except KeyboardInterrupt as error:
                    raise ImportError("initialisation failed") from error
            raise KeyboardInterrupt


sys.meta_path.insert(0, Finder())
"""
SCRIPT = "import sys\nfrom pynn.__main__ import main\nsys.exit(main())\n"


def _run(tmp_path, module, kind, as_error="0"):
    site = tmp_path / "site"  # the folder of the script must not hide the package
    site.mkdir()
    (site / "sitecustomize.py").write_text(INTERRUPT)
    script = tmp_path / "pynn.py"  # named as the installed command
    script.write_text(SCRIPT)
    home = str(Path(pynn.__file__).parents[1])
    command = {
        "-m": ["-m", "pynn", "info"],
        "command": ["-P", str(script), "info"],
        "program": ["-c", "import pynn.cli"],
    }[kind]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), home]),
        "INTERRUPTED_IMPORT": module,
        "AS_IMPORT_ERROR": as_error,
    }
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, cwd=home
    )


MODULES = ["numpy", "pynn.network", "pynn.training.model", "typer", "pynn.cli.app"]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("kind", ["-m", pytest.param("command", marks=pytest.mark.slow)])
def test_ctrl_c_during_the_import_prints_no_traceback(module, kind, tmp_path):
    if kind == "command" and sys.version_info < (3, 11):
        pytest.skip("python -P is newer")
    done = _run(tmp_path, module, kind)
    assert done.returncode in (130, -2)
    assert done.stderr == "pynn: stopped\n"


def test_an_import_that_ctrl_c_broke_prints_no_traceback(tmp_path):
    assert _run(tmp_path, "numpy", "-m", as_error="1").stderr == "pynn: stopped\n"


def test_programs_that_import_pynn_get_the_exception(tmp_path):
    assert "KeyboardInterrupt" in _run(tmp_path, "numpy", "program").stderr
