"""Starts the workers, which train in turns, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from .cases import Case, training_data
from .machine import Processors

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # XLA's pool, where processes cannot be pinned to processors
)

# These variables, if set on a machine, would slow down NumPy: OpenBLAS would run the kernels of
# another processor, at half the speed, or choose blocks for another cache.
_LEFT_OVERS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class WorkerFailed(Exception):
    """A worker ended, or answered with a traceback."""


class Process:
    """The parent's side of a worker process, which runs the ``Served`` of a module; see worker.py.

    ``arguments`` are the arguments of ``Served`` after the number of threads.
    """

    def __init__(self, module: str, name: str, threads: int, *arguments: str) -> None:
        env = {k: v for k, v in os.environ.items() if k not in _LEFT_OVERS}
        env.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
        env["JAX_PLATFORMS"] = "cpu"
        self.name = name
        self.idle = 0.0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        script = str(Path(__file__).with_name("worker.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, module, str(threads), name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=env,
            encoding="utf-8",
        )
        hello = self._read()
        self.missing: str | None = hello.get("missing")
        self.versions: dict[str, str] = hello.get("versions", {})

    def prepare(self, **asked: Any) -> str | None:
        """Set up a case in the worker; return the reason if the library cannot do it."""
        reason: str | None = self._ask(**asked).get("unsupported")
        return reason

    def turn(self) -> dict[str, Any]:
        """Run one turn; return its results, including the seconds."""
        found = self._ask()
        self.idle = max(self.idle, found.pop("idle"))
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._log.close()

    def _ask(self, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin
        try:
            print(json.dumps(fields), file=self._process.stdin, flush=True)
        except OSError as error:
            raise WorkerFailed(f"the worker has ended: {error}\n{self._log_text()}") from error
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"the worker has ended\n{self._log_text()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise WorkerFailed(found["error"])
        return found

    def _log_text(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


class Worker(Process):
    """A process with one of the entrants."""

    def __init__(
        self, name: str, threads: int, dtype: str, as_float: bool, epochs: int = 1
    ) -> None:
        flag = "1" if as_float else "0"
        super().__init__("benchmarks.entrants", name, threads, dtype, flag, str(epochs))

    def setup(self, case: Case, data: Path) -> str | None:
        """Prepare a case; return the reason if the library does not support the network."""
        return self.prepare(case=asdict(case), data=str(data))

    def epoch(self) -> tuple[float, float]:
        """Train for the epochs of a turn; return seconds per epoch and the last loss."""
        found = self.turn()
        return found["seconds"], found["loss"]


@dataclass
class Result:
    """The epochs of one entrant in one case, or the reason why there are none."""

    case: str
    threads: int
    entrant: str
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    unsupported: str | None = None
    error: str | None = None

    @property
    def median(self) -> float:
        return median(self.seconds)


@dataclass
class Run:
    """All results, and the conditions of the measurement."""

    cases: list[Case]
    entrants: list[str]
    threads: list[int]
    rounds: int
    dtype: str
    input: str
    results: list[Result] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    idle: float = 0.0
    turns: int = 0
    repeated: int = 0
    disturbed: int = 0
    epochs: int = 1

    def of(self, case: Case, threads: int) -> dict[str, Result]:
        """The results of one row of a table, by entrant."""
        return {r.entrant: r for r in self.results if (r.case, r.threads) == (case.name, threads)}


def run(
    cases: Sequence[Case],
    entrants: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    dtype: str,
    source: str,
    say: Callable[[str], object],
    epochs: int = 1,
) -> Run:
    """Time every case with every installed entrant.

    The entrants take turns of one or more epochs, so that all run under the same conditions. Their
    first turn is not counted. A turn before or after which the processors were disturbed is
    repeated, for each entrant and case at most as often as there are rounds.
    """
    done = Run(list(cases), list(entrants), list(threads), rounds, dtype, source, epochs=epochs)
    with tempfile.TemporaryDirectory() as temporary:
        folders = {kind: Path(temporary, kind) for kind in {case.data for case in cases}}
        for kind, folder in folders.items():
            folder.mkdir()
            training_data(kind).save(folder)
        for n in threads:
            workers: list[Worker] = []
            processors = Processors(n)
            try:
                for name in entrants:
                    say(f"starting {name}")
                    worker = Worker(name, n, dtype, source == "float32", epochs)
                    workers.append(worker)
                    done.versions.update(worker.versions)
                    if worker.missing is not None:
                        done.missing[name] = worker.missing
                present = [w for w in workers if w.missing is None]
                for case in cases:
                    data = folders[case.data]
                    done.results += _turns(done, case, n, present, processors, data, say)
                done.idle = max([done.idle, *(w.idle for w in present)])
            finally:
                for worker in workers:
                    worker.close()
    return done


def _turns(
    done: Run,
    case: Case,
    threads: int,
    workers: Sequence[Worker],
    processors: Processors,
    data: Path,
    say: Callable[[str], object],
) -> list[Result]:
    results = {w.name: Result(case.name, threads, w.name) for w in workers}
    at_work = []
    for worker in workers:
        say(f"case {case.name}, {threads} threads: setting up {worker.name}")
        result = results[worker.name]
        try:
            result.unsupported = worker.setup(case, data)
        except WorkerFailed as error:
            result.error = str(error)
        if result.unsupported is None and result.error is None:
            at_work.append(worker)
    rounds = done.rounds
    left = {worker.name: rounds for worker in at_work}
    for turn in range(rounds + 1):
        for worker in list(at_work):
            say(f"case {case.name}, {threads} threads: round {turn} of {rounds}, {worker.name}")
            result = results[worker.name]
            try:
                while True:
                    whole = processors.whole()
                    seconds, loss = worker.epoch()
                    result.losses.append(loss)
                    whole = processors.whole() and whole
                    if whole or not turn or not left[worker.name]:
                        break
                    left[worker.name] -= 1
                    done.repeated += 1
            except WorkerFailed as error:
                result.error = str(error)
                at_work.remove(worker)
                continue
            if turn:
                result.seconds.append(seconds)
                done.turns += 1
                done.disturbed += not whole
    for result in results.values():
        del result.losses[rounds + 1 :]  # all have trained this many turns
    return list(results.values())
