"""Sizes that nobody tuned: one hidden layer, from 8 wide to 4,096, in batches of 1 to 4,096 rows.

``python -m benchmarks.sweep`` times every cell on pynn and its peers as ``python -m benchmarks``
does, and draws the ratio of the best peer's time to pynn's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pynn.files import atomic_write
from pynn.run import write_json

from . import report
from .__main__ import processors
from .cases import Case
from .runner import Run, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 8, 64, 512, 4096)
CLASSES = 10
SECONDS = 0.2
"""About how long an epoch of pynn's is to last; slower entrants take as much longer."""
MOST_STEPS = 1000


def steps(width: int, batch: int) -> int:
    """Return how many steps last about ``SECONDS``, at 100 GFLOP/s and 10 GB/s."""
    parameters = width * (width + CLASSES)
    arithmetic = 6 * batch * parameters / 100e9
    memory = 28 * parameters / 10e9  # Adam reads and writes 7 numbers a weight
    return max(1, min(MOST_STEPS, round(SECONDS / (arithmetic + memory))))


def grid(widths: tuple[int, ...] = WIDTHS, batches: tuple[int, ...] = BATCHES) -> list[Case]:
    """Return the cells as cases, on data as wide as the layer and as long as the longest needs.

    Two steps at least: nobody's full batch, which needs no gathering.
    """
    cases = []
    for width in widths:
        rows = [batch * max(2, steps(width, batch)) for batch in batches]
        data = f"random {width} {max(rows)}"
        cases += [
            Case(
                f"{width}x{batch}", (width, width, CLASSES), "relu", "cross_entropy", "adam",
                1e-3, batch, count, data,
            )
            for batch, count in zip(batches, rows, strict=True)
        ]  # fmt: skip
    return cases


def ratios(done: Run, threads: int) -> dict[str, tuple[float, str]]:
    """Return for each cell the best peer's median over pynn's, and that peer."""
    found = {}
    for case in done.cases:
        results = {k: r for k, r in done.of(case, threads).items() if r.seconds}
        peers = [r for name, r in results.items() if not report.ours(name)]
        if peers and "pynn" in results:
            best = min(peers, key=lambda r: r.median)
            found[case.name] = best.median / results["pynn"].median, best.entrant
    return found


def draw(runs: list[Run]) -> Figure:
    """Return a heat map for each dtype and number of threads: blue is faster, red slower."""
    import numpy as np
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    panels = [(done, threads) for done in runs for threads in done.threads]
    figure = Figure(figsize=(5.2 * len(panels), 5.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (done, threads) in zip(axes, panels, strict=True):
        widths = sorted({case.sizes[0] for case in done.cases})
        batches = sorted({case.batch_size for case in done.cases})
        found = ratios(done, threads)
        values = np.array(
            [[found.get(f"{w}x{b}", (np.nan, ""))[0] for b in batches] for w in widths]
        )
        ax.imshow(values, norm=LogNorm(1 / 8, 8), cmap="RdBu", aspect="auto")
        for i, row in enumerate(values):
            for k, value in enumerate(row):
                if np.isfinite(value):
                    far = max(value, 1 / value) > 4
                    text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
                    ax.text(k, i, text, ha="center", va="center", color="w" if far else "k")
        ax.set_xticks(range(len(batches)), [f"{b:,}" for b in batches])
        ax.set_yticks(range(len(widths)), [f"{w:,}" for w in widths])
        ax.set(xlabel="batch size", title=f"{done.dtype}, {threads} thread{'s' * (threads > 1)}")
    axes[0].set_ylabel("width of input and hidden layer")
    figure.suptitle("Time of the best peer / time of pynn")
    return figure


def table(done: Run, threads: int) -> list[str]:
    """Return the cells as a table of Markdown."""
    widths = sorted({case.sizes[0] for case in done.cases})
    batches = sorted({case.batch_size for case in done.cases})
    found = ratios(done, threads)
    lines = [f"| width | {' | '.join(f'batch {b:,}' for b in batches)} |"]
    lines.append("| ---: " * (len(batches) + 1) + "|")
    for width in widths:
        cells = [found.get(f"{width}x{b}") for b in batches]
        text = [f"{c[0]:.2f} ({c[1]})" if c else "–" for c in cells]
        lines.append(f"| {width:,} | {' | '.join(text)} |")
    return lines


def as_markdown(runs: list[Run]) -> str:
    """Return the tables, with what they were measured on."""
    about = report.head(runs[0])
    about["versions"] = ", ".join(f"{k} {v}" for k, v in runs[0].versions.items())
    about["settings"] = (
        f"medians of {runs[0].rounds} rounds; input, one hidden layer of relu, {CLASSES} classes; "
        "Adam; all on rows of floats"
    )
    lines = [f"- {name}: {value}" for name, value in about.items()]
    for done in runs:
        for threads in done.threads:
            many = "s" if threads > 1 else ""
            lines += ["", f"**{done.dtype}, {threads} thread{many}**", "", *table(done, threads)]
    return "\n".join([*lines, ""])


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(sorted({int(part) for part in text.split(",")}))
    if found[0] < 1:
        raise argparse.ArgumentTypeError(f"found {found[0]}, expected 1 or more")
    return found


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep",
        description="Draw how much faster than its best peer pynn is, over widths and batch sizes.",
    )
    parser.add_argument("--widths", type=_numbers, default=WIDTHS, help="such as 8,64,512")
    parser.add_argument("--batches", type=_numbers, default=BATCHES, help="such as 1,64")
    parser.add_argument("--threads", type=_numbers, default=(1, 2)[: processors()])
    parser.add_argument("--dtypes", default="float32,float64", help="float32, float64 or both")
    parser.add_argument("--peers", default="numpy,torch,jax", help="those to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="epochs that count")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the heat map there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there")
    return parser


def main() -> int:
    """Run the sweep; return 1 if an entrant failed."""
    args = arguments().parse_args()
    cases = grid(args.widths, args.batches)
    entrants = [*args.peers.split(","), "pynn"]
    runs: list[Run] = []

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text:<79}", end="", file=sys.stderr, flush=True)

    for dtype in args.dtypes.split(","):
        done = run(cases, entrants, list(args.threads), args.rounds, dtype, "float32", say)
        runs.append(done)
        say("")
        for threads in done.threads:
            print(f"\n{dtype}, {threads} thread{'s' * (threads > 1)}", *table(done, threads),
                  sep="\n", flush=True)  # fmt: skip
    if args.markdown:
        with atomic_write(args.markdown) as file:
            file.write(as_markdown(runs).encode())
    if args.json:
        found: dict[str, Any] = {done.dtype: report.as_json(done) for done in runs}
        write_json(args.json, found)
    if args.picture:
        draw(runs).savefig(args.picture, dpi=120)
    return int(any(result.error is not None for done in runs for result in done.results))


if __name__ == "__main__":
    sys.exit(main())
