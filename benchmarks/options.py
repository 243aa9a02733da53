"""What each option of pynn costs, and its names in other libraries: docs/reference/options.md.

    python -m benchmarks.options --page                 measure everything, for a quiet machine
    python -m benchmarks.options --groups Losses --page  one table; the results of the others stay
    python -m benchmarks.options --rows '`silu`' --page  one row
    python -m benchmarks.options --no-run --page        only write the page again

The rows are in ``option_rows.py``. Epochs with the option and without it take turns in one process,
on one thread, in the cases D and F of the benchmarks. Results: docs/reference/options.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import pynn
from pynn.cli.folder import write_json
from pynn.files.disk import atomic_write
from pynn.spec.losses import as_loss

from .cases import CASES, training_data
from .option_problem import Problem
from .option_rows import GROUPS, Option
from .report import machine

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "options.md"
RESULTS = ROOT / "docs" / "reference" / "options.json"
MEASURED = ("D", "F")
ROWS = 20_000
"""Rows of an epoch."""


def problem(name: str, folder: Path, rows: int | None = None) -> Problem:
    """Return the data of a case, or its first rows."""
    case = CASES[name]
    data = training_data(case.data)
    count = rows or ROWS
    return Problem(case, data.x[:count], data.y[:count], folder)


# --- With the option and without ------------------------------------------------------------------


def turns(option: Option, given: Problem, backend: str) -> tuple[Callable[[], object], ...]:
    """Return what is timed with the option, and without it if there is a comparison."""
    if option.call is not None:
        net = _network(option, given, backend, True)
        net.fit(given.x, _targets(option, given), epochs=1, **given.settings)
        calls = [option.call] if option.against is None else [option.call, option.against]
        return tuple(_bound(call, net, given) for call in calls)
    return _epoch(option, given, backend, True), _epoch(option, given, backend, False)


def _bound(call: Any, net: pynn.Network, given: Problem) -> Callable[[], object]:
    return lambda: call(net, given)


def _targets(option: Option, given: Problem) -> np.ndarray:
    found: np.ndarray = given.y if option.target == "labels" else getattr(given, option.target)
    return found


def _network(option: Option, given: Problem, backend: str, on: bool) -> pynn.Network:
    settings: dict[str, Any] = {"activation": given.case.activation}
    sizes = list(given.case.sizes)
    if option.target != "labels":
        settings["loss"] = "mse"
        sizes[-1] = 1 if option.target == "values" else 2
    if on:
        settings |= option.network
        loss = settings.get("loss", "cross_entropy")
        sizes[-1] *= getattr(as_loss(loss) if isinstance(loss, str) else loss, "per_target", 1)
    net = pynn.Network(sizes, backend=backend, threads=1, seed=0, **settings)
    if on and option.prepare is not None:
        option.prepare(net, given)
    return net


def _epoch(option: Option, given: Problem, backend: str, on: bool) -> Callable[[], object]:
    """Return a function that trains an epoch more."""
    net = _network(option, given, backend, on)
    settings = {**given.settings, **option.off}
    rows = {"x": given.x, "y": _targets(option, given)}
    if on:
        more = option.fit(given) if callable(option.fit) else option.fit
        rows |= {name: value for name, value in more.items() if name in rows}
        settings |= {name: value for name, value in more.items() if name not in rows}
    return lambda: net.fit(**rows, epochs=1, **settings)


def measure(option: Option, given: Problem, seconds: float) -> dict[str, float]:
    """Return median times in ms with the option and without, and the median ratio of a turn."""
    calls = turns(option, given, option.backend)
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()  # the first epoch plans memory and chooses kernels
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        order = list(range(len(calls)))
        for k in order if len(times[0]) % 2 else order[::-1]:
            began = time.perf_counter()
            calls[k]()
            times[k].append(1e3 * (time.perf_counter() - began))
    found = {"on": median(times[0]), "turns": len(times[0])}
    if len(calls) > 1:
        found["off"] = median(times[1])
        found["ratio"] = median(on / off for on, off in zip(*times, strict=True))
    return found


# --- The page -------------------------------------------------------------------------------------

HEAD = """# All options

Every option with its name in scikit-learn (its multilayer perceptrons, or the nearest function or class), Keras 3 and PyTorch (for metrics torchmetrics), and what it costs: the time of an epoch with the option and the ratio to the epoch without it, for two networks of the [benchmarks](../benchmarks/performance.md):

- **D**: 784-256-128-10, relu, Adam, batch 64, 20,000 rows of MNIST as pixels: 313 steps;
- **F**: 20-64-64-2, relu, Adam, batch 32, 20,000 rows: 625 steps.

{machine}

Each time is a median in ms, each ratio the median of the ratios of neighbouring epochs, one with the option and one without, in one process. {baseline}On a machine that other programs use, single ratios are off by up to 0.1, and the times of different rows cannot be compared. Losses of values, and options that need values, are compared with `mse` and one output, all others with cross entropy. `lbfgs` has one iteration on all rows for an epoch. Costs that a network has once, such as the means and scales of `standardize`, are not part of an epoch. Every row works on all three [backends](backends.md), except for the gaps listed there, and names a test in the [list of rows](../../benchmarks/option_rows.py), from which `python -m benchmarks.options` measures and writes this page.
"""  # noqa: E501


def page(results: Mapping[str, Any]) -> str:
    """Return the page for the stored results."""
    found = results.get("machine")
    machine_text = "The costs have not been measured on this version yet."
    if found:
        machine_text = (
            f"Machine: {found['CPU']}; instruction set {found['ISA']}; one thread; float32; "
            f"pynn {found['pynn']}, NumPy {found['NumPy']}, Python {found['Python']}; "
            f"{found['date']}."
        )
    text = HEAD.format(machine=machine_text, baseline=_baseline(results))
    parts = [text]
    for group, options in GROUPS.items():
        peer = "torchmetrics" if group == "Metrics" else "PyTorch"
        parts.append(
            f"## {group}\n\n"
            f"| pynn | scikit-learn | Keras | {peer} | D: ms | ratio | F: ms | ratio |\n"
            "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |\n"
            + "\n".join(_row(option, results.get("rows", {}).get(group, {})) for option in options)
            + "\n"
        )
    return "\n".join(parts)


def _baseline(results: Mapping[str, Any]) -> str:
    """Return the times of D without an option, which show whether other programs ran."""
    rows = results.get("rows", {}).get("Activations", {}).values()
    times = [row["D"]["off"] for row in rows if "D" in row]
    if not times:
        return ""
    return (
        "In the rows of the first table, an epoch of D without the option took "
        f"{min(times):.0f} to {max(times):.0f} ms. "
    )


def _row(option: Option, rows: Mapping[str, Any]) -> str:
    cells = [option.name, *(name or "–" for name in (option.sklearn, option.keras, option.torch))]
    for case in MEASURED:
        found = rows.get(option.name, {}).get(case)
        cells.append("–" if found is None else f"{found['on']:,.{1 if case == 'D' else 2}f}")
        ratio = None if found is None else found.get("ratio")
        cells.append("–" if ratio is None else f"{ratio:.2f}")
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def described_machine() -> dict[str, str]:
    """Return the machine and the versions that results belong to."""
    info = pynn.info()
    return {
        **machine(),
        "ISA": str(info.get("isa")),
        "pynn": pynn.__version__,
        "NumPy": np.__version__,
    }


def load() -> dict[str, Any]:
    """Return the stored results."""
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure, store the results, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.options", description=__doc__)
    parser.add_argument("--groups", help="headings of tables, separated by semicolons")
    parser.add_argument("--rows", help="names of rows, separated by semicolons")
    parser.add_argument("--cases", default="D,F")
    parser.add_argument("--seconds", type=float, help="for each row: 2.5 for D and 1 for F")
    parser.add_argument("--no-run", action="store_true")
    parser.add_argument("--page", action="store_true", help="write docs/reference/options.md")
    given = parser.parse_args(arguments)
    groups = given.groups.split(";") if given.groups else list(GROUPS)
    names = given.rows.split(";") if given.rows else None
    chosen = [
        (group, option)
        for group in groups
        for option in GROUPS[group]
        if names is None or option.name in names
    ]
    results = load()
    if not given.no_run:
        _measure_all(chosen, given.cases.split(","), given.seconds, results)
    if given.page:
        with atomic_write(PAGE) as file:
            file.write(page(results).encode("utf-8"))


def _measure_all(
    chosen: list[tuple[str, Option]],
    cases: list[str],
    seconds: float | None,
    results: dict[str, Any],
) -> None:
    results["machine"] = described_machine()
    rows = results.setdefault("rows", {})
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            given = problem(case, Path(folder))
            for group, option in chosen:
                if case not in option.cases:
                    continue
                part = replace(given, folder=Path(tempfile.mkdtemp(dir=folder)))
                try:
                    found = measure(option, part, seconds or {"D": 2.5, "F": 1}[case])
                except ImportError as error:  # bf16 without the instruction set
                    print(f"{option.name}: {error}", file=sys.stderr)
                    continue
                rows.setdefault(group, {}).setdefault(option.name, {})[case] = found
                print(case, option.name, {k: round(v, 3) for k, v in found.items()}, flush=True)
                write_json(RESULTS, results)


if __name__ == "__main__":
    main()
