"""The command line of the benchmark; see ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from pynn.cli.folder import write_json
from pynn.files.disk import atomic_write

from . import report
from .cases import CASES, Case
from .entrants import ENTRANTS
from .runner import run

QUICK_ROWS, QUICK_ROUNDS = 10, 3


def quick(case: Case) -> Case:
    """Return a case with a tenth of its rows; a full batch stays full."""
    rows = case.rows // QUICK_ROWS
    return replace(case, rows=rows, batch_size=rows if case.full_batch else case.batch_size)


def processors() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"found {name!r}, expected some of {', '.join(known)}"
                )
        return list(dict.fromkeys(names))

    return parse


def _whole(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of 1 or more")
    return int(text)


def _threads(text: str) -> list[int]:
    counts = [_whole(part) for part in text.split(",")]
    if max(counts) > processors():
        raise argparse.ArgumentTypeError(
            f"found {max(counts)}, expected at most the number of processors, {processors()}"
        )
    return list(dict.fromkeys(counts))


def _file(text: str) -> Path:
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"found no folder {path.absolute().parent}, expected one")
    return path


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"found no folder {text}, expected one")
    return Path(text)


def say(text: str) -> None:
    """Show the current step in a terminal, on the same line as the step before."""
    if sys.stderr.isatty():
        print(f"\r{text:<79}", end="", file=sys.stderr, flush=True)


def add_report(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option ``--report [FOLDER]``; the default folder is docs/benchmarks."""
    parser.add_argument(
        "--report",
        type=_folder,
        nargs="?",
        const=Path("docs/benchmarks"),
        metavar="FOLDER",
        help=f"{what} (docs/benchmarks)",
    )


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time one epoch of each case with pynn and with the installed peers.",
        epilog="Cases: " + "; ".join(f"{case.name} {case.title}" for case in CASES.values()) + ".",
    )
    default = [name for name in ENTRANTS if name not in ("pynn-numba", "pynn-numpy")]
    parser.add_argument(
        "--cases",
        type=_names(CASES),
        default=[name for name, case in CASES.items() if case.precision == "full"],
        help="such as A,B (default: all but those in bf16)",
    )
    parser.add_argument(
        "--peers",
        type=_names(ENTRANTS),
        default=default,
        help=f"some of {','.join(ENTRANTS)} (default: all but the last two)",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=[1, 2][: processors()],
        help="thread counts, such as 1,2 (the default)",
    )
    parser.add_argument(
        "--rounds", type=_whole, help=f"turns that count (default: 5, {QUICK_ROUNDS} if quick)"
    )
    parser.add_argument(
        "--epochs",
        type=_whole,
        default=1,
        help="epochs of each turn, which pynn trains in one call of fit (default: 1)",
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--input",
        choices=("uint8", "float32"),
        default="uint8",
        help="type of MNIST's pixels for pynn; its peers always have floats of the dtype",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a tenth of the rows and {QUICK_ROUNDS} rounds: under two minutes",
    )
    add_report(
        parser,
        "also measure where the time goes, and write performance.md into this folder (with --input "
        "float32 the section on float inputs alone)",
    )
    parser.add_argument(
        "--markdown", type=_file, metavar="FILE", help="also write the page into this file"
    )
    parser.add_argument(
        "--json", type=_file, metavar="FILE", help="write all numbers into this file"
    )
    return parser


def main() -> int:
    """Run the benchmark; return 1 if an entrant failed."""
    args = arguments().parse_args()
    cases = [quick(CASES[name]) if args.quick else CASES[name] for name in args.cases]
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else 5)

    done = run(cases, args.peers, args.threads, rounds, args.dtype, args.input, say, args.epochs)
    say("")
    say("")
    print(report.as_text(done))
    if args.markdown:
        with atomic_write(args.markdown) as file:
            file.write(report.as_markdown(done).encode())
    if args.json:
        write_json(args.json, report.as_json(done))
    if args.report:
        from benchmarks import performance

        if args.input == "float32":
            path = performance.put(args.report, {"floats": report.described_times(done)})
        else:
            path = performance.write(args.report, done, args.threads, say)
        say("")
        print(f"\nwritten to {path}")
    return int(any(result.error is not None for result in done.results))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
