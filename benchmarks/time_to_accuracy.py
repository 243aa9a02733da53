"""Time that a preset of ``pynn train`` takes to reach its accuracy, with pynn and its peers.

    python -m benchmarks.time_to_accuracy                      nine seeds of each preset
    python -m benchmarks.time_to_accuracy --presets fast --seeds 3
    python -m benchmarks.time_to_accuracy --page   also write docs/benchmarks/time-to-accuracy.md
    python -m benchmarks.time_to_accuracy --validation         accuracy on held-out training rows

Every training is a separate process: ``python -m pynn train --fast`` as a user types it, and the
same recipe in PyTorch and in JAX, with the same initial weights and learning rates. The entrants
take turns, seed by seed; one training of each before that does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import pynn
from pynn.cli.options import PRESETS, parse_spec, parse_widths
from pynn.files.disk import atomic_write
from pynn.spec.optimizers import OPTIMIZERS
from pynn.spec.schedules import SCHEDULES

from .__main__ import _names, _threads, _whole, processors
from .classics import ROOT, between, pipes
from .report import machine
from .runner import _LEFT_OVERS, _THREAD_VARIABLES
from .worker import pin

PEERS = ("torch", "jax")
LABELS = {"pynn": "pynn", "torch": "PyTorch", "jax": "JAX"}


@dataclass
class Training:
    """Seconds of one training, of compiling before it, and of the complete process."""

    training: float
    compiling: float
    process: float
    processor: float | None
    accuracy: float
    version: str


@dataclass
class Runs:
    """All trainings of a preset by one entrant, and its number of threads."""

    preset: str
    entrant: str
    threads: int
    trainings: list[Training] = field(default_factory=list)

    def median(self, name: str) -> float:
        return median(getattr(t, name) for t in self.trainings)


# --- The recipe -----------------------------------------------------------------------------------


def write_recipe(
    folder: Path,
    preset: str,
    seed: int,
    data: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    shuffle: bool = True,
) -> dict[str, Any]:
    """Write the files a peer needs to train a preset, and return the arguments for pynn.

    Returns
    -------
    dict
        ``network`` and ``fit``, the arguments of ``pynn.Network`` and of its ``fit``.
    """
    values = PRESETS[preset]
    (x, y), (x_test, y_test) = data
    sizes = [int(np.prod(x.shape[1:])), *parse_widths(values["hidden"]), int(y.max()) + 1]
    network = {"sizes": sizes, "activation": values["activation"], "seed": seed}
    net = pynn.Network(**network)
    optimizer = parse_spec("optimizer", values["optimizer"], OPTIMIZERS)
    schedule = parse_spec("schedule", values["schedule"], SCHEDULES)
    fit = {
        "epochs": values["epochs"],
        "batch_size": int(values["batch_size"]),
        "optimizer": optimizer,
        "learning_rate": values["learning_rate"],
        "schedule": schedule,
        "label_smoothing": values["label_smoothing"],
        "shuffle": shuffle,
    }
    assert isinstance(optimizer, pynn.Adam)
    steps = -(-len(x) // fit["batch_size"])
    times = np.arange(fit["epochs"] * steps) / steps
    arrays = {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
    arrays["rates"] = fit["learning_rate"] * schedule.factors(times, 0, fit["epochs"])
    for k, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        arrays[f"w{k}"], arrays[f"b{k}"] = w, b
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    about = {
        **{name: fit[name] for name in ("epochs", "batch_size", "label_smoothing", "shuffle")},
        **asdict(optimizer),
        "activation": values["activation"],
        "layers": len(net.weights),
        "seed": seed,
    }
    (folder / "recipe.json").write_text(json.dumps(about), encoding="utf-8")
    return {"network": network, "fit": fit}


# --- One process ----------------------------------------------------------------------------------


def run_pynn(preset: str, seed: int, threads: int, folder: Path) -> Training:
    """Train with the command line, as users do."""
    run = folder / "run"
    options = [f"--{preset}", "--seed", str(seed), "--run", str(run)]
    if not hasattr(os, "sched_setaffinity"):
        # On other systems the process is pinned to as many processors, and chooses the threads.
        options += ["--threads", str(threads)]
    # Run in the folder that holds this pynn: next to its source an installed one is not found.
    home = Path(pynn.__file__).resolve().parent.parent
    _, seconds, processor = _process(["-m", "pynn", "train", *options], dict(os.environ), home)
    settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    for file in run.iterdir():
        file.unlink()
    run.rmdir()
    result, info = settings["result"], settings["environment"]
    version = f"pynn {info['version']} ({info.get('isa', settings['backend'])})"
    return Training(result["seconds"], 0.0, seconds, processor, result["test_accuracy"], version)


def run_peer(name: str, folder: Path, threads: int) -> Training:
    """Train the recipe that ``write_recipe`` has written with a peer."""
    env = {k: v for k, v in os.environ.items() if k not in _LEFT_OVERS}
    env.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)), JAX_PLATFORMS="cpu")
    command = ["-m", "benchmarks.recipe_peers", name, str(folder), str(threads)]
    out, seconds, processor = _process(command, env)
    found = json.loads(out.splitlines()[-1])
    return Training(
        found["training"],
        found["compiling"],
        seconds,
        processor,
        found["accuracy"],
        found["version"],
    )


def _process(
    arguments: list[str], env: dict[str, str], folder: Path = ROOT
) -> tuple[str, float, float | None]:
    """Run Python in a folder; return its output, its seconds and its processor seconds."""
    # Installed modules are compiled to bytecode; those of a checkout are after the first run.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    before, start = _processor(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, encoding="utf-8"
    )
    seconds, after = time.perf_counter() - start, _processor()
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout, seconds, None if before is None or after is None else after - before


def _processor() -> float | None:
    """Return the processor seconds of all child processes that have ended."""
    times = os.times()
    used = times.children_user + times.children_system
    return used or (None if os.name == "nt" else 0.0)


# --- All trainings --------------------------------------------------------------------------------


def measure(presets: Sequence[str], peers: Sequence[str], seeds: int, threads: int) -> list[Runs]:
    """Train every preset with every entrant and seed, in turns."""
    data = pynn.datasets.mnist()
    found: list[Runs] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for preset in presets:
            write_recipe(folder, preset, 0, data)
            say(f"{preset}: warming up")
            run_pynn(preset, 0, threads, folder)
            entrants = [Runs(preset, "pynn", threads)]
            for peer in peers:
                # Small networks can be faster on one thread.
                tried = {n: run_peer(peer, folder, n).training for n in (threads, 1)}
                entrants.append(Runs(preset, peer, min(tried, key=lambda n: tried[n])))
            for seed in range(seeds):
                write_recipe(folder, preset, seed, data)
                for runs in entrants:
                    say(f"{preset}: seed {seed}, {runs.entrant}")
                    if runs.entrant == "pynn":
                        training = run_pynn(preset, seed, threads, folder)
                    else:
                        training = run_peer(runs.entrant, folder, runs.threads)
                    runs.trainings.append(training)
            found += entrants
    return found


def validation(preset: str, seeds: int) -> list[float]:
    """Return the accuracies on the last 10,000 training rows after training on the others.

    The presets were chosen on these rows, so that the test set had no influence on the choice.
    """
    (x, y), _ = pynn.datasets.mnist()
    kept, held = (x[:50_000], y[:50_000]), (x[50_000:], y[50_000:])
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            same = write_recipe(Path(folder), preset, seed, (kept, held))
            net = pynn.Network(**same["network"])
            net.fit(*kept, **same["fit"])
            found.append(net.evaluate(*held)["accuracy"])
    return found


def say(text: str) -> None:
    """Show the current step in a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<79}", end="", file=sys.stderr, flush=True)


HEAD = [
    "preset",
    "entrant",
    "training [s]",
    "compiling before [s]",
    "whole process [s]",
    "processor time of the process [s]",
    "test accuracy",
    "lowest to highest",
]


def table(found: Sequence[Runs]) -> list[list[str]]:
    """Return the medians, one row for each preset and entrant."""
    rows = []
    for runs in found:
        right = [100 * t.accuracy for t in runs.trainings]
        used = [t.processor for t in runs.trainings if t.processor is not None]
        threads = f"{runs.threads} thread{'s' if runs.threads > 1 else ''}"
        rows.append(
            [
                f"`--{runs.preset}`",
                f"{LABELS[runs.entrant]}, {threads}",
                f"{runs.median('training'):.3f}",
                f"{runs.median('compiling'):.2f}" if runs.entrant == "jax" else "–",
                f"{runs.median('process'):.2f}",
                f"{median(used):.2f}" if used else "–",
                f"{median(right):.2f} %",
                f"{min(right):.2f} to {max(right):.2f}",
            ]
        )
    return rows


def page(found: Sequence[Runs], threads: int) -> list[str]:
    """Return the table and the description of the machine, as lines of Markdown."""
    seeds = len(found[0].trainings)
    about = machine()
    versions = dict.fromkeys(runs.trainings[0].version for runs in found)
    load = f", load average {os.getloadavg()[2]:.1f}" if hasattr(os, "getloadavg") else ""
    return [
        *pipes(HEAD, table(found)),
        "",
        f"Medians of {seeds} seed{'s' if seeds > 1 else ''}, each in its own process, in turns. "
        f"{about['date']}, {about['CPU']}{load}; at most {threads} threads, float32; "
        f"{about['OS']}, Python {about['Python']}, NumPy {np.__version__}, {', '.join(versions)}.",
    ]


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.time_to_accuracy",
        description="Train the presets of pynn train on MNIST, with pynn, PyTorch and JAX.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--presets", type=_names(PRESETS), default=list(PRESETS))
    parser.add_argument("--peers", type=_names(("none", *PEERS)), default=list(PEERS))
    parser.add_argument("--seeds", type=_whole, default=9, help="number of seeds: 0, 1, 2, …")
    parser.add_argument("--threads", type=_threads, default=[min(processors(), 2)], metavar="N")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="only measure accuracies on held-out training rows",
    )
    parser.add_argument(
        "--page", action="store_true", help="write docs/benchmarks/time-to-accuracy.md"
    )
    return parser


def main() -> int:
    """Measure, print the table, and write the page if requested."""
    args = arguments().parse_args()
    threads = args.threads[0]
    pin(threads)
    if args.validation:
        for preset in args.presets:
            right = [100 * share for share in validation(preset, args.seeds)]
            print(
                f"--{preset}: {median(right):.2f} % (median; {min(right):.2f} to {max(right):.2f}) "
                f"of 10,000 held-out training rows, {args.seeds} seeds"
            )
        return 0
    peers = [name for name in args.peers if name != "none"]
    found = measure(args.presets, peers, args.seeds, threads)
    say("")
    lines = page(found, threads)
    print("\n".join(lines))
    if args.page:
        path = ROOT / "docs" / "benchmarks" / "time-to-accuracy.md"
        text = between(path.read_text(encoding="utf-8"), "table", lines)
        with atomic_write(path) as file:
            file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
