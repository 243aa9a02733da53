"""Turns a run into a page: machine, versions, tables of medians, ratios and losses, notes."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from pynn.backends.machine import cpu_name

from .cases import Case
from .runner import Result, Run

Table = list[list[str]]
"""Rows of cells; the first row is the header."""


def machine() -> dict[str, str]:
    """Return the date and a description of the machine."""
    count = f"{os.cpu_count()} processors"
    return {
        "date": date.today().isoformat(),
        "CPU": f"{cpu_name()}, {count}, {_instruction_sets()}",
        "OS": _system(),
        "Python": platform.python_version(),
    }


def _system() -> str:
    """Return the system and the C library with their versions, without names of a build."""
    version = ".".join(platform.release().split("-")[0].split(".")[:2])
    return ", ".join([f"{platform.system()} {version}", " ".join(platform.libc_ver())]).strip(", ")


def turns(run: Run) -> str:
    """Return what the times are medians of."""
    if run.epochs == 1:
        return f"{run.rounds} rounds"
    return f"{run.rounds} rounds of {run.epochs} epochs"


def _instruction_sets() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    flags = {
        flag
        for line in lines
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    }
    known = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve", "bf16")
    return " ".join([platform.machine(), *(flag for flag in known if flag in flags)])


def head(run: Run) -> dict[str, str]:
    """Return the description of machine, versions and settings above the tables."""
    found = {
        **machine(),
        "threads": ", ".join(map(str, run.threads)),
        "versions": ", ".join(
            f"{name} {v}" for name, v in run.versions.items() if name != "BLAS of NumPy"
        ),
        **{name: v for name, v in run.versions.items() if name == "BLAS of NumPy"},
        "settings": f"{run.dtype}, medians of {turns(run)}, MNIST to pynn as {run.input}",
    }
    if 2 * run.disturbed > run.turns:
        found["warning"] = (
            f"other programs slowed down {run.disturbed} of {run.turns} turns: close them, or "
            "measure again at another time"
        )
    return found


def ours(name: str) -> bool:
    """Return whether an entrant is a backend of pynn and not a peer."""
    return name.startswith("pynn")


def _shown(run: Run) -> list[str]:
    return [name for name in run.entrants if name not in run.missing]


def times(run: Run, threads: int, titles: bool = False) -> Table:
    """Return the medians in milliseconds, and the best peer's ratio to each pynn backend."""
    names = _shown(run)
    backends = [name for name in names if ours(name)]
    table = [["case", *(f"{name} [ms]" for name in names), *(f"best peer / {b}" for b in backends)]]
    for case in run.cases:
        found = run.of(case, threads)
        cells = [_milliseconds(found[name]) for name in names]
        cells += [_ratio(found, backend) for backend in backends]
        table.append([_label(case, titles), *cells])
    return table


def losses(run: Run, threads: int, titles: bool = False) -> Table:
    """Return the mean training losses of each entrant's first and last epoch."""
    names = _shown(run)
    table = [["case", *names]]
    for case in run.cases:
        found = [run.of(case, threads)[name].losses for name in names]
        cells = [f"{x[0]:.4f} to {x[-1]:.4f}" if x else "–" for x in found]
        table.append([_label(case, titles), *cells])
    return table


def _label(case: Case, titles: bool) -> str:
    return f"{case.name} {case.title}" if titles else case.name


def _milliseconds(result: Result) -> str:
    if result.error is not None:
        return "failed"
    if result.unsupported is not None:
        return "–"
    ms = result.median * 1e3
    return f"{ms:,.{2 if ms < 10 else 1 if ms < 100 else 0}f}"


def lead(found: dict[str, Result], backend: str = "pynn") -> tuple[float, str] | None:
    """Return the best peer's median divided by that of a pynn backend, and the peer's name."""
    peers = [r for name, r in found.items() if not ours(name) and r.error is None and r.seconds]
    mine = found[backend]
    if not peers or mine.error is not None or not mine.seconds:
        return None
    best = min(peers, key=lambda r: r.median)
    return best.median / mine.median, best.entrant


def _ratio(found: dict[str, Result], backend: str) -> str:
    ahead = lead(found, backend)
    return "–" if ahead is None else f"{ahead[0]:.2f} ({ahead[1]})"


def notes(run: Run) -> list[str]:
    """Return the notes below the tables, on how the times were measured."""
    found = [
        f"Times are milliseconds per epoch. The entrants take turns of {_count(run.epochs)}; their "
        "first turn is not counted. All start from the same weights, shuffle before every epoch "
        "(except for a full batch) and train the short last batch as well.",
        "The time of pynn is that of the complete call of fit, one for each turn. Its peers have "
        "their floats in memory before the clock starts.",
        "A step of MSE is the same for all: the mean over rows and outputs.",
        f"Every entrant has its own process, pinned to as many processors as it has threads. While "
        f"other entrants took their turns, each used at most {run.idle * 1e3:.1f} ms of processor "
        f"time.",
    ]
    if run.turns:
        found.append(
            f"Before and after each turn, the benchmark measures how fast all processors multiply "
            f"at once. If they were below nine tenths of their best, because of other programs or, "
            f"on a virtual machine, of other tenants, the turn was repeated, for each entrant and "
            f"case at most as often as there are rounds. {run.repeated} turns were repeated; of "
            f"the {run.turns} turns that count, {run.disturbed} were slowed down all the same."
        )
    if "torch" in run.versions and "AMD" in cpu_name():
        found.append(
            "This is an AMD processor: the MKL inside PyTorch multiplies float32 matrices there at "
            "about half the speed that it reaches on Intel's."
        )
    if "scikit-learn" in run.versions and any(case.sizes[-1] == 2 for case in run.cases):
        found.append("scikit-learn uses one logistic output where the others have two.")
    found += dict.fromkeys(
        f"{r.entrant} cannot do {r.case}: {r.unsupported}." for r in run.results if r.unsupported
    )
    found += [f"Not installed: {name} ({reason})." for name, reason in run.missing.items()]
    found += [
        f"{r.entrant} failed in {r.case}, {thread_count(r.threads)}: "
        f"{r.error.strip().splitlines()[-1]}"
        for r in run.results
        if r.error is not None
    ]
    return found


def as_text(run: Run) -> str:
    """Return the page for a terminal."""
    lines = [f"{name}: {value}" for name, value in head(run).items()]
    lines += ["", *(f"{case.name}: {case.title}" for case in run.cases)]
    for threads in run.threads:
        lines += ["", thread_count(threads), *_columns(times(run, threads))]
        lines += ["", "training loss, first epoch to last", *_columns(losses(run, threads))]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(run))])


def described_times(run: Run) -> list[str]:
    """Return machine, versions, settings and the tables of times as lines of Markdown."""
    lines = [f"- {name}: {value}" for name, value in head(run).items()]
    for threads in run.threads:
        lines += ["", f"**{thread_count(threads).capitalize()}**", ""]
        lines += _pipes(times(run, threads, titles=True))
    return lines


def as_markdown(run: Run) -> str:
    """Return the page as Markdown."""
    lines = described_times(run)
    for threads in run.threads:
        lines += ["", f"Training loss, first epoch to last, {thread_count(threads)}", ""]
        lines += _pipes(losses(run, threads, titles=True))
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(run)), ""])


def as_json(run: Run) -> dict[str, Any]:
    """Return all measurements, and the complete traceback of each failure."""
    return {"machine": machine(), **asdict(run)}


def _count(epochs: int) -> str:
    return "one epoch" if epochs == 1 else f"{epochs} epochs"


def thread_count(threads: int) -> str:
    """Return a number of threads with its unit."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in table]


def _pipes(table: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(table[0]) - 1)]
    return [f"| {' | '.join(row)} |" for row in (table[0], rule, *table[1:])]
