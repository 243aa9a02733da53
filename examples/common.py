"""What the examples share: their options, their pictures, the line that compares.

With the environment variable PYNN_EXAMPLES_QUICK=1, which the tests set, an example trains for an
epoch or two on few rows and leaves out its twin: it shows that everything runs, not how well.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

QUICK = os.environ.get("PYNN_EXAMPLES_QUICK", "0") != "0"

compared: list[tuple[str, float | None, float]] = []
"""Every figure of this run: its name, the published one and ours, as shares of 1."""


def options(epochs: int, quick_epochs: int = 2) -> argparse.Namespace:
    """Read the command line; in a notebook there is none and everything keeps its default."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    default = quick_epochs if QUICK else epochs
    parser.add_argument("--epochs", type=int, default=default, help="times through the data")
    parser.add_argument("--seed", type=int, default=0, help="of weights, shuffling and dropout")
    backends = ("auto", "cython", "numba", "numpy")
    parser.add_argument("--backend", default="auto", choices=backends, help="what computes")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for pictures")
    parser.add_argument("--no-twin", action="store_true", help="leave PyTorch and Keras out")
    in_notebook = "ipykernel" in Path(sys.argv[0]).name
    found = parser.parse_args([] if in_notebook else None)
    if found.epochs < 1 or not 0 <= found.seed < 2**64:
        parser.error("--epochs must be 1 or more, and --seed from 0 to 2^64 - 1")
    found.out.mkdir(parents=True, exist_ok=True)
    if found.epochs != epochs:
        print(f"{found.epochs:,} epochs instead of {epochs:,}: expect other figures")
    found.twin = not (found.no_twin or QUICK)
    return found


def save(axes: Any, folder: Path, name: str) -> None:
    """Write the figure that `axes` belong to as `name`.png and say where it is."""
    path = folder / f"{name}.png"
    first = axes[0] if isinstance(axes, tuple) else axes
    first.figure.savefig(path, dpi=110)
    print(f"picture   {path}")


def compare(what: str, published: float | None, ours: float) -> None:
    """Print a published accuracy and ours side by side."""
    compared.append((what, published, ours))
    beside = "none published" if published is None else f"published {100 * published:.1f} %"
    print(f"{what}: {beside}, here {100 * ours:.2f} %")
