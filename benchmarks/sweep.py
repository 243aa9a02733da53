"""Untuned sizes: one hidden layer of 8 to 4,096 units, in batches of 1 to 4,096 rows.

``python -m benchmarks.sweep`` times every cell with pynn and its peers, in the same way as
``python -m benchmarks``, and draws the best peer's time divided by pynn's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pynn.cli.folder import write_json
from pynn.files.disk import atomic_write

from . import performance, report
from .__main__ import _file, _names, _threads, _whole, add_report, processors, say
from .cases import Case
from .entrants import ENTRANTS
from .runner import Result, Run, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 8, 64, 512, 4096)
CLASSES = 10
SECONDS = 0.2
"""Approximate duration of an epoch of pynn; slower entrants take longer."""
MOST_STEPS = 1000


def steps(width: int, batch: int) -> int:
    """Return the number of steps that take about ``SECONDS``.

    Assumes 100 GFLOP/s, 10 GB/s and 10 million rows per second. There are at least ten steps, so
    that set-up does not dominate, or as many as fit into one second. There are always two or more,
    so that no batch contains all rows, which would need no reading in random order.
    """
    parameters = width * (width + CLASSES)
    arithmetic = 6 * batch * parameters / 100e9
    memory = 28 * parameters / 10e9  # Adam reads and writes 7 numbers per weight
    each = arithmetic + memory + batch / 10e6
    return max(2, min(MOST_STEPS, round(SECONDS / each)), min(10, round(1 / each)))


def grid(widths: Sequence[int], batches: Sequence[int]) -> list[Case]:
    """Return the cells as cases; the data have the layer's width and the longest case's rows."""
    cases = []
    for width in widths:
        rows = [batch * steps(width, batch) for batch in batches]
        cases += [
            Case(
                name=f"{width}x{batch}",
                sizes=(width, width, CLASSES),
                activation="relu",
                loss="cross_entropy",
                optimizer="adam",
                learning_rate=1e-3,
                batch_size=batch,
                rows=count,
                data=f"random {width} {max(rows)}",
            )
            for batch, count in zip(batches, rows, strict=True)
        ]
    return cases


def ratios(done: Run, threads: int) -> list[list[tuple[float, str] | None]]:
    """Return, for each width and batch size, the best peer's ratio to pynn and its name."""
    widths, batches = sides(done)
    found = {case.name: report.lead(done.of(case, threads)) for case in done.cases}
    return [[found[f"{width}x{batch}"] for batch in batches] for width in widths]


def again(done: Run, rounds: int) -> None:
    """Time the cells where pynn is slower again, with ``rounds`` rounds, and replace them."""
    for threads in done.threads:
        behind = []
        for case in done.cases:
            lead = report.lead(done.of(case, threads))
            if lead is not None and lead[0] < 1:
                behind.append(case)
        if not behind:
            continue
        entrants = [name for name in done.entrants if name not in done.missing]
        second = run(behind, entrants, [threads], rounds, done.dtype, done.input, say)
        names = {case.name for case in behind}
        kept = [r for r in done.results if r.case not in names or r.threads != threads]
        done.results = kept + second.results
        done.idle = max(done.idle, second.idle)
        done.turns += second.turns
        done.repeated += second.repeated
        done.disturbed += second.disturbed


def sides(done: Run) -> tuple[list[int], list[int]]:
    """Return the widths and the batch sizes of a sweep."""
    widths = sorted({case.sizes[0] for case in done.cases})
    return widths, sorted({case.batch_size for case in done.cases})


def draw(runs: Sequence[Run]) -> Figure:
    """Return a heat map for each dtype and number of threads: blue is faster, red slower."""
    import numpy as np
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    panels = [(done, threads) for done in runs for threads in done.threads]
    figure = Figure(figsize=(5.2 * len(panels), 5.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (done, threads) in zip(axes, panels, strict=True):
        widths, batches = sides(done)
        found = ratios(done, threads)
        values = np.array([[np.nan if cell is None else cell[0] for cell in row] for row in found])
        ax.imshow(values, norm=LogNorm(1 / 8, 8), cmap="RdBu", aspect="auto")
        for (i, k), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = max(value, 1 / value) > 3
                text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
                ax.text(k, i, text, ha="center", va="center", color="w" if dark else "k")
        ax.set_xticks(range(len(batches)), [f"{b:,}" for b in batches])
        ax.set_yticks(range(len(widths)), [f"{w:,}" for w in widths])
        ax.set(xlabel="batch size", title=f"{done.dtype}, {report.thread_count(threads)}")
    axes[0].set_ylabel("width of input and hidden layer")
    figure.suptitle("Time of the best peer / time of pynn")
    return figure


def table(done: Run, threads: int) -> list[str]:
    """Return the cells as a Markdown table."""
    widths, batches = sides(done)
    lines = [f"| width | {' | '.join(f'batch {b:,}' for b in batches)} |"]
    lines.append("| ---: " * (len(batches) + 1) + "|")
    for width, row in zip(widths, ratios(done, threads), strict=True):
        cells = ["–" if cell is None else f"{cell[0]:.2f} ({cell[1]})" for cell in row]
        lines.append(f"| {width:,} | {' | '.join(cells)} |")
    return lines


def as_markdown(runs: Sequence[Run], again_rounds: int = 0) -> str:
    """Return the tables and the description of the machine."""
    about = report.head(runs[0])
    about["settings"] = (
        f"medians of {runs[0].rounds} rounds; input, one hidden layer of relu, {CLASSES} classes; "
        "Adam; random floats"
    )
    if again_rounds:
        about["settings"] += f"; cells under 1 were timed again and show {again_rounds} rounds"
    lines = [f"- {name}: {value}" for name, value in about.items()]
    for done in runs:
        for threads in done.threads:
            heading = f"**{done.dtype}, {report.thread_count(threads)}**"
            lines += ["", heading, "", *table(done, threads)]
    return "\n".join([*lines, ""])


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--peers``, ``--rounds`` and ``--again`` of a grid of cells."""
    parser.add_argument(
        "--peers",
        type=_names([name for name in ENTRANTS if not report.ours(name)]),
        default=["numpy", "torch", "jax"],
        help="libraries to compare with (default: numpy,torch,jax)",
    )
    parser.add_argument("--rounds", type=_whole, default=3, help="epochs that count (default: 3)")
    parser.add_argument(
        "--again",
        type=_whole,
        metavar="ROUNDS",
        help="time cells below 1 again with this number of rounds, and show these results",
    )


def _sizes(text: str) -> list[int]:
    return sorted({_whole(part) for part in text.split(",")})


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep",
        description="Compare pynn with its best peer over widths and batch sizes.",
    )
    dtypes = ["float32", "float64"]
    parser.add_argument("--widths", type=_sizes, default=WIDTHS, help="such as 8,64,512")
    parser.add_argument("--batches", type=_sizes, default=BATCHES, help="such as 1,64")
    parser.add_argument("--threads", type=_threads, default=[1, 2][: processors()], help="or 1,2")
    parser.add_argument("--dtypes", type=_names(dtypes), default=dtypes, help=",".join(dtypes))
    add_comparison(parser)
    add_report(
        parser,
        "write sweep.png and sweep.json into this folder, the tables into its performance.md",
    )
    parser.add_argument(
        "--picture", type=_file, metavar="FILE", help="draw the heat map into this file"
    )
    parser.add_argument(
        "--markdown", type=_file, metavar="FILE", help="also write the tables into this file"
    )
    parser.add_argument(
        "--json", type=_file, metavar="FILE", help="write all numbers into this file"
    )
    return parser


def main() -> int:
    """Run the sweep; return 1 if an entrant failed."""
    args = arguments().parse_args()
    cases = grid(args.widths, args.batches)
    runs = former(args.report / "sweep.json", args.dtypes) if args.report else []
    for dtype in args.dtypes:
        done = run(cases, [*args.peers, "pynn"], args.threads, args.rounds, dtype, "float32", say)
        if args.again:
            again(done, args.again)
        runs = sorted([*runs, done], key=lambda run: run.dtype)
        write(args, runs)
        say("")
        say("")
        for threads in done.threads:
            print(
                f"\n{dtype}, {report.thread_count(threads)}",
                *table(done, threads),
                sep="\n",
                flush=True,
            )
    return int(any(result.error is not None for done in runs for result in done.results))


def former(path: Path, anew: Sequence[str]) -> list[Run]:
    """Return the runs of an earlier sweep for the dtypes that are not measured again."""
    if not path.exists():
        return []
    runs = []
    for dtype, found in json.loads(path.read_text(encoding="utf-8")).items():
        if dtype not in anew:
            del found["machine"]
            cases = [Case(**case | {"sizes": tuple(case["sizes"])}) for case in found["cases"]]
            results = [Result(**result) for result in found["results"]]
            runs.append(Run(**found | {"cases": cases, "results": results}))
    return runs


def write(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Write the results so far, because a long sweep may be interrupted."""
    pictures, numbers = [args.picture], [args.json]
    if args.report:
        page = as_markdown(runs, args.again or 0)
        performance.put(args.report, {"sweep": page.splitlines()})
        pictures.append(args.report / "sweep.png")
        numbers.append(args.report / "sweep.json")
    if args.markdown:
        with atomic_write(args.markdown) as file:
            file.write(as_markdown(runs, args.again or 0).encode())
    for path in filter(None, numbers):
        write_json(path, {done.dtype: report.as_json(done) for done in runs})
    for path in filter(None, pictures):
        performance.save(draw(runs), path)


if __name__ == "__main__":
    sys.exit(main())
