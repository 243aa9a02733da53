"""Untuned networks of 1 to 8 hidden layers with 32 to 512 units of relu, tanh or gelu.

``python -m benchmarks.depths`` times an epoch of random floats that are larger than the caches of a
core, with pynn and its peers, in the same way as ``python -m benchmarks``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pynn.cli.folder import write_json

from . import performance, report
from .__main__ import _file, _names, _threads, _whole, add_report, processors, say
from .cases import Case
from .runner import Run, run
from .sweep import add_comparison, again

DEPTHS = (1, 2, 4, 8)
WIDTHS = (32, 128, 512)
ACTIVATIONS = ("relu", "tanh", "gelu")
BATCH = 64
ROWS = 8192
INPUTS = 784
"""An array of rows has 26 MB."""


def grid(depths: Sequence[int], widths: Sequence[int], activations: Sequence[str]) -> list[Case]:
    """Return the cells as cases."""
    return [
        Case(
            name=f"{activation}-{depth}x{width}",
            sizes=(INPUTS, *[width] * depth, 10),
            activation=activation,
            loss="cross_entropy",
            optimizer="adam",
            learning_rate=1e-3,
            batch_size=BATCH,
            rows=ROWS,
            data=f"random {INPUTS} {ROWS}",
        )
        for activation in activations
        for depth in depths
        for width in widths
    ]


def table(done: Run, threads: int, activation: str) -> list[str]:
    """Return the ratios of the best peer to pynn as a Markdown table."""
    cases = [case for case in done.cases if case.activation == activation]
    depths = sorted({len(case.sizes) - 2 for case in cases})
    widths = sorted({case.sizes[1] for case in cases})
    found = {case.name: report.lead(done.of(case, threads)) for case in cases}
    lines = [f"| hidden layers of {activation} | {' | '.join(f'width {w}' for w in widths)} |"]
    lines.append("| ---: " * (len(widths) + 1) + "|")
    for depth in depths:
        cells = [found[f"{activation}-{depth}x{width}"] for width in widths]
        texts = ["–" if cell is None else f"{cell[0]:.2f} ({cell[1]})" for cell in cells]
        lines.append(f"| {depth} | {' | '.join(texts)} |")
    return lines


def as_markdown(done: Run) -> list[str]:
    """Return the tables and the description of the machine."""
    about = report.head(done)
    about["settings"] = (
        f"medians of {done.rounds} rounds; {INPUTS} inputs, 10 classes, Adam, batch {BATCH}, "
        f"{ROWS:,} rows of random floats ({ROWS * INPUTS * 4 / 1e6:.0f} MB)"
    )
    lines = [f"- {name}: {value}" for name, value in about.items()]
    activations = list(dict.fromkeys(case.activation for case in done.cases))
    for threads in done.threads:
        lines += ["", f"**{report.thread_count(threads)}**"]
        for activation in activations:
            lines += ["", *table(done, threads, activation)]
    return lines


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.depths",
        description="Compare pynn with its best peer over depths, widths and activations.",
    )
    parser.add_argument("--depths", type=_numbers, default=DEPTHS, help="such as 1,8")
    parser.add_argument("--widths", type=_numbers, default=WIDTHS, help="such as 32,512")
    parser.add_argument("--activations", type=_names(ACTIVATIONS), default=ACTIVATIONS)
    parser.add_argument("--threads", type=_threads, default=[1, 2][: processors()], help="or 1,2")
    add_comparison(parser)
    add_report(parser, "write the tables into this folder's performance.md")
    parser.add_argument("--json", type=_file, metavar="FILE", help="write all numbers into a file")
    return parser


def _numbers(text: str) -> list[int]:
    return sorted({_whole(part) for part in text.split(",")})


def main() -> int:
    """Run the cells; return 1 if an entrant failed."""
    args = arguments().parse_args()
    cases = grid(args.depths, args.widths, args.activations)
    done = run(cases, [*args.peers, "pynn"], args.threads, args.rounds, "float32", "float32", say)
    if args.again:
        again(done, args.again)
    say("")
    lines = as_markdown(done)
    print("", *lines, sep="\n", flush=True)
    if args.report:
        performance.put(args.report, {"depths": lines})
    if args.json:
        write_json(args.json, report.as_json(done))
    return int(any(result.error is not None for result in done.results))


if __name__ == "__main__":
    sys.exit(main())
