"""Runs Python code in a child process, with the pynn that is being tested."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pynn

FOLDER = Path(pynn.__file__).parents[1]
"""The folder to import pynn from: of installed packages, or the source tree."""


def python(
    code: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with ``sys.argv[1:] == arguments``, and return its output and exit code.

    Its working directory is FOLDER, which Python searches first. In a source tree it would import
    the package there, which has no compiled core when pynn is installed elsewhere.
    """
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=FOLDER,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
