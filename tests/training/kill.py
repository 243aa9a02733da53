"""Kill training at random moments, and check that resumed runs end like uninterrupted ones.

    python -m tests.training.kill --kills 200

A process trains a small network with a checkpoint every few steps. It is killed (SIGKILL, which no
program can catch) after a random part of the time that the whole run takes, and started again with
``resume=True``, until it ends. After every kill the checkpoint must load. In the end parameters,
optimizer state, history and the state of callbacks must equal those of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pynn

TIMED = ("seconds", "samples_per_second")

# What the network is made with, what fit is given, and when a checkpoint is written.
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        {"dropout": 0.2},
        {"optimizer": "adam", "schedule": "one_cycle", "validation": 0.2},
        {"steps": 2},
    ),
    (
        {"backend": "numpy", "dtype": "float64"},
        {"optimizer": "nesterov", "schedule": pynn.StepDecay(2), "l2": 1e-3},
        {"steps": 7},
    ),
    ({"dropout": [0.1]}, {"optimizer": "adamw", "batch_size": 9}, {"epochs": 1}),
    (
        {"activation": "tanh"},
        {"optimizer": "rmsprop", "batch_size": 5, "validation": 0.1},
        {"seconds": 0.001},
    ),
]


def train(case: int, path: Path | None, threads: int) -> str:
    """Train, with a checkpoint if a path is given, and return a digest of all that came of it."""
    rng = np.random.default_rng(case)
    x, y = rng.normal(size=(400, 6)).astype("f4"), rng.integers(0, 3, 400)
    network, settings, every = CASES[case]
    net = pynn.Network([6, 16, 3], seed=case, threads=threads, **network)
    monitor = "validation_loss" if "validation" in settings else "loss"
    stopping, norms = pynn.EarlyStopping(monitor, patience=50), pynn.Norms(x[:20], y[:20], steps=5)
    more = {} if path is None else {"checkpoint": pynn.Checkpoint(path, **every), "resume": True}
    history = net.fit(
        x,
        y,
        **{"epochs": 8, "batch_size": 16, "progress": False, **settings},
        callbacks=[stopping, norms],
        **more,
    )
    digest = hashlib.sha256()
    for array in (net.parameters, *net._model.optimizer_state, net.predict_proba(x)):
        digest.update(array.tobytes())
    columns = {k: v for k, v in history.to_dict().items() if k not in TIMED}
    kept = [norms.updates, norms.weights, norms.gradients, stopping.best, stopping.best_epoch]
    digest.update(json.dumps([columns, net.epochs, net.updates, *kept]).encode())
    return digest.hexdigest()


def start(case: int, path: Path, threads: int) -> subprocess.Popen[str]:
    """Start a process that trains, and wait until it is about to."""
    # The same pynn as here, which may be an installed one: the source tree has no compiled core.
    root = str(Path(pynn.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, __file__, "--train", str(path), str(case), str(threads)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


class Found(NamedTuple):
    """What came of it."""

    kills: int
    runs: int
    """Runs that ended with the results of an uninterrupted one."""
    loaded: int
    """Kills after which there was a checkpoint; each was loaded."""
    leftovers: int
    """Kills in the middle of writing, which left a temporary file for the next start to remove."""


def kill(kills: int, seed: int, folder: Path, cases: Sequence[int]) -> Found:
    """Kill ``kills`` times, and let every run finish.

    Raises
    ------
    AssertionError, ValueError
        If a checkpoint does not load, or a run ends in other bits.
    """
    chance = random.Random(seed)
    expected, span = {}, {}
    for case in cases:
        expected[case] = train(case, None, 1)
        process = start(case, folder / "measured.ckpt", 1)
        began = time.perf_counter()
        assert process.communicate()[0] == expected[case] + "\n"
        span[case] = time.perf_counter() - began
        (folder / "measured.ckpt").unlink()
    killed = runs = loaded = leftovers = 0
    while killed < kills:
        case = cases[runs % len(cases)]
        path, updates = folder / f"{runs}.ckpt", 0
        while True:
            process = start(case, path, chance.choice([1, 2, 3]))
            patience = chance.uniform(0, span[case]) if killed < kills else None
            try:
                out, _ = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
                out, _ = process.communicate()
            if out:
                break
            killed += 1
            leftovers += any(folder.glob(".pynn-*"))
            if path.exists():
                loaded += 1
                net = pynn.load(path, backend="numpy")
                assert net.updates >= updates, f"{path}: went back from {updates} to {net.updates}"
                updates = net.updates
        assert out == expected[case] + "\n", f"{path}: other bits than those of a run left alone"
        assert [p.name for p in folder.iterdir()] == [path.name], "files were left behind"
        path.unlink()
        runs += 1
    return Found(killed, runs, loaded, leftovers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        path, case, threads = options.train
        # What is imported later would count as training.
        import safetensors.numpy  # noqa: F401

        print("ready", flush=True)
        # In one piece: unbuffered, print writes the end of a line by itself, and a kill between the
        # two would leave half an answer.
        sys.stdout.write(train(int(case), Path(path), int(threads)) + "\n")
        sys.stdout.flush()
        return
    with tempfile.TemporaryDirectory() as folder:
        found = kill(options.kills, options.seed, Path(folder), range(len(CASES)))
    print(
        f"{found.kills} kills, {found.leftovers} of them in the middle of writing; "
        f"{found.loaded} checkpoints found, each loaded; "
        f"{found.runs} runs ended, each with the results of an uninterrupted one"
    )


if __name__ == "__main__":
    main()
