"""Run a script with pynn's classes in place of scikit-learn's multilayer perceptrons."""

from __future__ import annotations

import os
import runpy
import sys

from .patching import patch

USAGE = "usage: python -m pynn.sklearn SCRIPT [ARGUMENTS]"


def main() -> None:
    """Replace scikit-learn's classes and run the script named by the first argument."""
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(f"{USAGE}\n\nRun a script with pynn's classes in place of scikit-learn's.")
        return
    if len(sys.argv) < 2:
        sys.exit(USAGE)
    if not os.path.exists(sys.argv[1]):
        sys.exit(f"python -m pynn.sklearn: found no file {sys.argv[1]!r}\n{USAGE}")
    del sys.argv[0]
    patch()
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
