"""The command ``pynn``; also ``python -m pynn``."""

from __future__ import annotations

import sys

from ._interrupt import STOPPED, was_interrupted


def main() -> None:
    """Run the command line with the arguments of the process, and exit."""
    try:
        from .cli.app import app
    except BaseException as error:
        if was_interrupted(error):
            print(STOPPED, file=sys.stderr)
            sys.exit(130)  # 128 + SIGINT, as shells do
        if not isinstance(error, ImportError):
            raise
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        sys.exit(
            f"pynn: the command line needs typer and rich, which are not installed ({error}): "
            "pip install 'pynn-mlp[cli]'"
        )
    app(prog_name="pynn")


if __name__ == "__main__":
    main()
