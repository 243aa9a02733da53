"""Functions that the examples share: options, saving of plots, comparison with published results.

With the environment variable PYNN_EXAMPLES_QUICK=1, which the tests set, an example trains for one
or two epochs on few rows and without PyTorch or Keras. This shows that it runs, not how well.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

QUICK = os.environ.get("PYNN_EXAMPLES_QUICK", "0") != "0"

compared: list[tuple[str, float | None, float]] = []
"""The accuracies of this run: name, published value and measured value, between 0 and 1."""


def options(epochs: int, quick_epochs: int = 2) -> argparse.Namespace:
    """Read the command line; in a notebook, which has none, all options keep their defaults."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    default = quick_epochs if QUICK else epochs
    parser.add_argument("--epochs", type=int, default=default, help="passes over the data")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and dropout")
    backends = ("auto", "cython", "numba", "numpy")
    parser.add_argument("--backend", default="auto", choices=backends, help="backend of pynn")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for the plots")
    parser.add_argument("--no-twin", action="store_true", help="do not train in PyTorch or Keras")
    in_notebook = "ipykernel" in Path(sys.argv[0]).name
    found = parser.parse_args([] if in_notebook else None)
    if found.epochs < 1 or not 0 <= found.seed < 2**64:
        parser.error("--epochs must be 1 or more, and --seed from 0 to 2^64 - 1")
    found.out.mkdir(parents=True, exist_ok=True)
    if found.epochs != epochs:
        print(f"{found.epochs:,} epochs instead of {epochs:,}: expect other results")
    found.twin = not (found.no_twin or QUICK)
    return found


def save(axes: Any, folder: Path, name: str) -> None:
    """Write the figure of `axes` to `name`.png and print its path."""
    path = folder / f"{name}.png"
    first = axes[0] if isinstance(axes, tuple) else axes
    first.figure.savefig(path, dpi=110)
    print(f"picture   {path}")


def compare(what: str, published: float | None, ours: float) -> None:
    """Print the published accuracy and the measured one."""
    compared.append((what, published, ours))
    beside = "none published" if published is None else f"published {100 * published:.1f} %"
    print(f"{what}: {beside}, measured {100 * ours:.2f} %")
