"""Run a script with scikit-learn's multilayer perceptrons replaced."""

from __future__ import annotations

import sys


def _main() -> None:
    import os
    import runpy

    usage = "usage: python -m pynn.sklearn SCRIPT [ARGUMENTS]"
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(f"{usage}\n\nRun a script with pynn's classes in the place of scikit-learn's.")
        return
    if len(sys.argv) < 2:
        sys.exit(usage)
    if not os.path.exists(sys.argv[1]):
        sys.exit(f"python -m pynn.sklearn: found no file {sys.argv[1]!r}\n{usage}")
    del sys.argv[0]
    # This module runs as __main__ here; the classes must be those that can be imported.
    from pynn.sklearn import patch

    patch()
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
