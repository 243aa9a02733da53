"""``python -m benchmarks --report``: the page on pynn's speed and what limits it.

One run measures the cases and their peers, the limits of this processor, where the time of each
case goes, and the cost of barriers and of moving weights between cores. In an existing page only
the text between the marks is replaced.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pynn
from pynn.cli.folder import write_json
from pynn.files.disk import atomic_write

from . import report
from .cases import Case, Data, training_data
from .machine import Processors
from .runner import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "performance.md"
SHOWN = ("D", "F", "G")
"""The cases whose profile is shown."""
CALIBRATION = "D"
"""The case from which the cost of moving weights between cores is computed."""
LOOKS = 50
CORES = (1, 2, 4, 8, 16, 32, 64)


@dataclass
class Profiled:
    """Where the time of one case goes: core-seconds per step, by layer and phase."""

    case: str
    threads: int
    steps: int
    step: float
    phases: list[str]
    seconds: list[list[float]]
    gflops: dict[str, list[float]]
    table: str

    def share(self, *phases: str) -> float:
        """Return the share of these phases in the total time."""
        all_of_it = sum(map(sum, self.seconds))
        at = [self.phases.index(phase) for phase in phases]
        return sum(row[i] for row in self.seconds for i in at) / all_of_it


@dataclass
class Ceilings:
    """Limits of one core, in operations and bytes per second, and the seconds of a barrier.

    ``at_once`` holds, by number of cores, the operations per second of all of them together, each
    counted as the slowest, in the best and in the worst of ``LOOKS`` measurements.
    """

    float32: float
    float64: float
    copied: float
    meeting: dict[int, float]
    at_once: dict[int, tuple[float, float]]


def ceilings(threads: Sequence[int]) -> Ceilings:
    """Measure the limits, each as the best of several runs."""
    from pynn.backends.cython import _core

    a, b = np.zeros((2, 64 * 2**20), np.uint8)

    def copy() -> float:
        began = time.perf_counter()
        np.copyto(b, a)
        return 2 * a.nbytes / (time.perf_counter() - began)

    at_once = {}
    for n in threads:
        if n > 1:
            processors = Processors(n)
            looks = [n * processors.pace() for _ in range(LOOKS)]
            at_once[n] = (max(looks), min(looks))
    return Ceilings(
        float32=max(_core.peak("float32") for _ in range(15)),
        float64=max(_core.peak("float64") for _ in range(15)),
        copied=max(copy() for _ in range(15)),
        meeting={n: min(_core.meeting(n) for _ in range(9)) for n in threads if n > 1},
        at_once=at_once,
    )


def profiled(case: Case, threads: int, rounds: int = 3) -> Profiled:
    """Return the profile of a case: that of its fastest epoch."""
    data = training_data(case.data)
    data = Data(np.array(data.x[: case.rows]), data.y[: case.rows])
    net = pynn.Network(
        case.sizes, activation=case.activation, output=output(case), loss=case.loss,
        threads=threads, backend="cython", seed=1,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "batch_size": case.batch_size,
        "optimizer": case.optimizer,
        "learning_rate": case.learning_rate,
        "progress": False,
        "epochs": 1,
    }
    net.fit(data.x, data.y, **settings)
    best: Profiled | None = None
    for _ in range(rounds):
        with net.profile() as profile:
            net.fit(data.x, data.y, **settings)
        step = profile.wall / profile.steps
        if best is None or step < best.step:
            best = Profiled(
                case.name, threads, profile.steps, step, list(profile.phases),
                (profile.seconds / profile.steps).tolist(),
                {name: rates.tolist() for name, rates in profile.gflops().items()}, str(profile),
            )  # fmt: skip
    assert best is not None
    return best


def output(case: Case) -> str | None:
    """Return the output activation; with MSE the peers use a sigmoid."""
    return "sigmoid" if case.loss == "mse" else None


def flops(case: Case) -> float:
    """Return the number of multiplications and additions of a step, including zeros."""
    layers = [2.0 * m * n for m, n in itertools.pairwise(case.sizes)]
    return min(case.batch_size, case.rows) * (3 * sum(layers) - layers[0])


def parameters(case: Case) -> int:
    """Return the number of weights."""
    return sum(m * n for m, n in itertools.pairwise(case.sizes))


def bound(found: Profiled) -> str:
    """Return the two kinds of work with the largest shares of a case's time."""
    kinds = {
        "arithmetic of the products": found.share("forward", "backward", "gradient"),
        "the optimizer's roots, divisions and memory": found.share("update", "transpose"),
        "reading scattered rows": found.share("read"),
        "losses": found.share("loss"),
        "waiting for the other threads": found.share("wait"),
    }
    first, second, *_ = sorted(kinds, key=lambda kind: -kinds[kind])
    return f"{first} ({kinds[first]:.0%}), then {second} ({kinds[second]:.0%})"


def roofline(cases: Sequence[Case], found: Sequence[Profiled], most: Ceilings) -> list[str]:
    """Return a table with the share of the peak that each case reaches, and what limits it."""
    lines = [
        "| case | threads | µs per step | GFLOP/s | share of the peak | limited by |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    by_name = {case.name: case for case in cases}
    for p in found:
        rate = flops(by_name[p.case]) / p.step
        share = rate / (p.threads * most.float32)
        lines.append(
            f"| {p.case} | {p.threads} | {p.step * 1e6:,.1f} | {rate / 1e9:,.0f} | {share:.0%} | "
            f"{bound(p)} |"
        )
    meetings = ", ".join(f"{n} threads {t * 1e9:,.0f} ns" for n, t in most.meeting.items())
    at_once = "".join(
        f" {n} cores at once: {best / 1e9:.1f} in float32 in the best of {LOOKS} measurements, "
        f"{worst / 1e9:.1f} in the worst."
        for n, (best, worst) in most.at_once.items()
    )
    return [
        f"The peak of one core, measured in the same run: {most.float32 / 1e9:.1f} GFLOP/s in "
        f"float32, {most.float64 / 1e9:.1f} in float64.{at_once} Copying memory: "
        f"{most.copied / 1e9:.1f} GB/s, reads plus writes. One barrier: {meetings or '–'}.",
        "",
        *lines,
        "",
        "Operations are counted as if no value were zero. A case that skips zeros, as most of "
        "these do, can therefore exceed the peak.",
    ]


def profiles(found: Sequence[Profiled]) -> list[str]:
    """Return the complete profiles of some cases."""
    lines: list[str] = []
    for p in found:
        if p.case in SHOWN:
            lines += [f"**{p.case}, {report.thread_count(p.threads)}**", "", "```text"]
            lines += [*p.table.splitlines(), "```", ""]
    return lines


def scaling(cases: Sequence[Case], found: Sequence[Profiled], most: Ceilings) -> list[str]:
    """Return the model of a step on T cores, compared with 2, and its prediction up to 64."""
    alone = {p.case: p.step for p in found if p.threads == 1}
    two = {p.case: p.step for p in found if p.threads == 2}
    by_name = {case.name: case for case in cases}
    if not {CALIBRATION} <= alone.keys() & two.keys() or 2 not in most.meeting:
        return ["Calibrating the model needs two processors and case D."]
    meeting, base = most.meeting[2], by_name[CALIBRATION]
    passing = max(0.0, two[CALIBRATION] - alone[CALIBRATION] / 2 - 2 * meeting)
    passing /= 8 * parameters(base) / 2  # seconds per byte

    def model(case: Case, cores: int) -> float:
        if cores == 1:
            return alone[case.name]
        traffic = 8 * parameters(case) * (cores - 1) / cores * passing
        return alone[case.name] / cores + traffic + 2 * meeting * cores / 2

    lines = [
        f"Moving a byte of weights from the core that updated it to a core that reads it takes "
        f"{passing * 1e9:.3f} ns (from case {CALIBRATION}), a barrier of two threads "
        f"{meeting * 1e9:,.0f} ns.",
        "",
        f"| case | 2 cores, model | 2 cores, measured | {' | '.join(f'×{n}' for n in CORES[1:])} |",
        "| --- " * (3 + len(CORES) - 1) + "|",
    ]
    for name in alone:
        if name not in two:
            continue
        case = by_name[name]
        gains = [f"{alone[name] / model(case, n):.1f}" for n in CORES[1:]]
        lines.append(
            f"| {name} | {model(case, 2) * 1e6:,.1f} µs | {two[name] * 1e6:,.1f} µs | "
            f"{' | '.join(gains)} |"
        )
    return lines


def sections(run: Run, found: Sequence[Profiled], most: Ceilings) -> dict[str, list[str]]:
    """Return all measurements as the lines of each part of the page."""
    return {
        "tables": report.as_markdown(run).splitlines(),
        "roofline": roofline(run.cases, found, most),
        "profile": profiles(found),
        "scaling": scaling(run.cases, found, most),
    }


TITLES = {
    "tables": "Comparison with other libraries",
    "roofline": "Limits of the processor",
    "profile": "Where the time goes",
    "scaling": "More cores",
    "sweep": "Widths and batch sizes",
    "depths": "Depths and activations",
    "scale": "Large data sets",
    "floats": "Float inputs",
}


def fill(page: str, parts: dict[str, list[str]]) -> str:
    """Write every part between its marks, or at the end of the page if it has none."""
    for name, lines in parts.items():
        text = "\n".join([f"<!-- {name} -->", "", *lines, "", f"<!-- end of {name} -->"])
        marked = re.compile(f"<!-- {name} -->.*?<!-- end of {name} -->", re.DOTALL)
        if marked.search(page):
            page = marked.sub(lambda _, text=text: text, page)
        else:
            page = f"{page.rstrip()}\n\n## {TITLES[name]}\n\n{text}\n"
    return page.lstrip("\n")


def put(folder: Path, parts: dict[str, list[str]]) -> Path:
    """Write parts into the page of a folder, creating it if necessary; return its path."""
    path = folder / PAGE
    page = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n"
    with atomic_write(path) as file:
        file.write(fill(page, parts).encode())
    return path


def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format of its suffix."""
    with atomic_write(path) as file:
        figure.savefig(file, dpi=120, format=path.suffix[1:] or "png")


def write(folder: Path, run: Run, threads: Sequence[int], say: Callable[[str], object]) -> Path:
    """Measure profiles and limits, and write the page and all its numbers."""
    found = []
    for case, n in itertools.product(run.cases, threads):
        say(f"profile of case {case.name}, {report.thread_count(n)}")
        found.append(profiled(case, n))
    say("limits of the processor")
    most = ceilings(sorted({*threads, 2}))
    path = put(folder, sections(run, found, most))
    numbers = report.as_json(run) | {
        "profiles": [asdict(p) for p in found],
        "ceilings": asdict(most),
        "ratios": {
            str(n): {case.name: report.lead(run.of(case, n)) for case in run.cases} for n in threads
        },
    }
    write_json(path.with_suffix(".json"), numbers)
    return path
