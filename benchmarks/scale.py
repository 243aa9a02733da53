"""Time per sample and additional memory for data sets of 1,000 to 10 million rows.

``python -m benchmarks.scale`` trains 784-100-10 with Adam on MNIST's images, repeated as often as
needed, as bytes, in batches of 200. It times two epochs, or as many as contain 300,000 rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pynn

from . import performance, report
from .__main__ import _file, _whole, add_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
SIZES = (784, 100, 10)
BATCH = 200
LEAST = 300_000
"""Minimum number of rows to train on, so that the time exceeds its noise."""


class Cost(NamedTuple):
    """Costs of one size: median microseconds per sample, and peak memory in MB above the start."""

    rows: int
    sample: float
    memory: float | None


def measure(rows: int, x: np.ndarray, y: np.ndarray, least: int = LEAST) -> Cost:
    """Train on a number of rows, which repeat those of x (m, n) and y (m,)."""
    wide = np.empty((rows, x.shape[1]), x.dtype)
    labels = np.empty(rows, y.dtype)
    for start in range(0, rows, len(x)):
        wide[start : start + len(x)] = x[: rows - start]
        labels[start : start + len(x)] = y[: rows - start]
    net = pynn.Network([x.shape[1], *SIZES[1:]])
    before = _memory(reset=True)
    epochs = 1 + max(2, -(-least // rows))
    net.fit(wide, labels, epochs=epochs, batch_size=BATCH, optimizer="adam", progress=False)
    after = _memory()
    seconds = median(record.seconds for record in net.history[1:])
    memory = None if before is None or after is None else (after - before) / 1e6
    return Cost(rows, seconds / rows * 1e6, memory)


def _memory(reset: bool = False) -> float | None:
    """Return the peak memory of this process since the last reset; None if not on Linux."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return 1024.0 * int(status.split("VmHWM:")[1].split()[0])


def table(found: Sequence[Cost]) -> list[str]:
    """Return the costs as a table of Markdown."""
    lines = ["| rows | µs per sample | MB in addition to the data |", "| ---: | ---: | ---: |"]
    for cost in found:
        memory = "–" if cost.memory is None else f"{cost.memory:.1f}"
        lines.append(f"| {cost.rows:,} | {cost.sample:.2f} | {memory} |")
    return lines


def draw(found: Sequence[Cost]) -> Figure:
    """Return a plot of the cost per sample over the number of rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    ax = figure.subplots()
    ax.semilogx([c.rows for c in found], [c.sample for c in found], "o-")
    ax.set(xlabel="rows", ylabel="µs per sample", title="Cost per sample")
    ax.set_ylim(0, 1.5 * max(c.sample for c in found))
    ax.grid(alpha=0.3)
    return figure


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description="Measure the cost per sample for data sets of 1,000 to 10 million rows.",
    )
    parser.add_argument(
        "--rows",
        type=_whole,
        default=ROWS[-1],
        help="largest number of rows (default: 10 million, 8 GB)",
    )
    add_report(parser, "write scale.png into this folder, and the table into its performance.md")
    parser.add_argument(
        "--picture", type=_file, metavar="FILE", help="draw the curve into this file"
    )
    return parser


def main() -> int:
    """Measure, print the results and write them."""
    args = arguments().parse_args()
    (x, y), _ = pynn.datasets.mnist()
    x = x.reshape(len(x), -1)
    found = []
    for rows in sorted({min(rows, args.rows) for rows in ROWS}):
        found.append(measure(rows, x, y))
        print(f"{rows:>10,} rows: {found[-1].sample:.2f} µs per sample", flush=True)
    info = pynn.info()
    about: dict[str, Any] = {
        **report.machine(),
        "versions": f"numpy {info['numpy']}, pynn {info['version']}, backend {info['backend']}, "
        f"ISA of pynn {info.get('isa', '–')}",
        "settings": f"{'-'.join(map(str, SIZES))}, Adam, batch {BATCH}, float32, "
        f"{info.get('threads', 'all')} threads, images as bytes; medians of epochs",
    }
    lines = [f"- {name}: {value}" for name, value in about.items()] + ["", *table(found)]
    pictures = [args.picture]
    if args.report:
        performance.put(args.report, {"scale": lines})
        pictures.append(args.report / "scale.png")
    for path in filter(None, pictures):
        performance.save(draw(found), path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
