"""Compare the speed of pynn.sklearn's multilayer perceptrons with scikit-learn's.

    python -m benchmarks.scikit_learn                                 print everything
    python -m benchmarks.scikit_learn --markdown docs/how-to/scikit-learn.md   and write the page
    python -m benchmarks.scikit_learn --quick --cases digits          a short trial

Both run in separate processes, with the same rows, ``random_state`` and number of processors, and
take turns. Each turn is checked: the results (``loss_``, ``n_iter_``, scores) must be equal.
Otherwise the two did not do the same work; the table then says so and the exit code is 1.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pynn.cli.folder import write_json
from pynn.files.disk import atomic_write

from .__main__ import _file, _names, _threads, _whole, processors, say
from .entrants import _blas_of_numpy
from .report import Table, _columns, _pipes, machine, thread_count
from .runner import Process, WorkerFailed

ENTRANTS = ("scikit-learn", "pynn")
DTYPES = ("float32", "float64")
TOLERANCES = {"float32": {"rel_tol": 1e-3, "abs_tol": 2e-5}, "float64": {"rel_tol": 1e-6}}
"""Tolerances within which two results count as equal."""

START, END = "<!-- table -->", "<!-- /table -->"

GRID: dict[str, list[Any]] = {
    "hidden_layer_sizes": [(50,), (100,)],
    "alpha": [1e-4, 1e-2],
    "learning_rate_init": [1e-3, 3e-3],
}
FOLDS = 3


@dataclass(frozen=True)
class Case:
    """The timed operation and its rows; ``settings`` are passed to the classifier."""

    name: str
    data: str
    rows: int
    settings: dict[str, Any] = field(default_factory=dict)
    what: str = "fit"
    """``fit``, ``grid`` (a search with one worker), ``grid-jobs`` (one worker per processor) or
    ``row`` (``predict_proba`` of one row)."""
    calls: int = 2000
    """Calls of ``predict_proba`` in one turn."""

    @property
    def title(self) -> str:
        """Return the case in a few words."""
        name, columns = {
            "mnist": ("MNIST", 784),
            "digits": ("digits", 64),
            "breast-cancer": ("breast cancer", 30),
            "table": ("table", 20),
        }[self.data]
        if self.what == "row":
            return f"predict_proba of one row: {name}, {columns} features"
        words = [f"{name}, {self.rows:,} × {columns}"]
        if self.what != "fit":
            points = math.prod(map(len, GRID.values()))
            words[:0] = [f"grid search, {points} points × {FOLDS} folds"]
        if "hidden_layer_sizes" in self.settings:
            words.append(f"hidden {self.settings['hidden_layer_sizes']}")
        if "max_iter" in self.settings:
            words.append(f"at most {self.settings['max_iter']} epochs")
        if self.what != "fit":
            words.append("n_jobs = threads" if self.what == "grid-jobs" else "n_jobs = 1")
        return ", ".join(words)


CASES = {
    case.name: case
    for case in (
        Case("mnist", "mnist", 60_000, {"max_iter": 5}),
        Case("digits", "digits", 1_797),
        Case("breast-cancer", "breast-cancer", 569),
        Case("table", "table", 20_000, {"hidden_layer_sizes": (64, 64), "max_iter": 20}),
        Case("grid", "digits", 1_797, {"max_iter": 50}, "grid"),
        Case("grid-jobs", "digits", 1_797, {"max_iter": 50}, "grid-jobs"),
        Case("row-mnist", "mnist", 10_000, {"max_iter": 2}, "row"),
        Case("row-digits", "digits", 1_797, {}, "row"),
        Case("row-breast-cancer", "breast-cancer", 569, {}, "row"),
    )
}

QUICK_ROWS, QUICK_EPOCHS, QUICK_CALLS = 300, 5, 100


def quick(case: Case) -> Case:
    """Return a case that takes almost no time."""
    return replace(
        case,
        rows=min(case.rows, QUICK_ROWS),
        settings={**case.settings, "max_iter": min(QUICK_EPOCHS, case.settings.get("max_iter", 5))},
        calls=QUICK_CALLS,
    )


def rows_of(data: str, rows: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return X (rows, features) and the labels y (rows,); no data set is downloaded."""
    from sklearn import datasets, preprocessing

    if data == "mnist":
        import pynn

        (pixels, y), _ = pynn.datasets.mnist()
        # The labels are uint8; users of scikit-learn usually have int64.
        x = pixels[:rows].reshape(-1, 784).astype(dtype)
        x /= 255
        return x, np.asarray(y[:rows], dtype=np.int64)
    if data == "digits":
        x, y = datasets.load_digits(return_X_y=True)
    elif data == "breast-cancer":
        x, y = datasets.load_breast_cancer(return_X_y=True)
        x = preprocessing.StandardScaler().fit_transform(x)
    else:
        x, y = datasets.make_classification(20_000, 20, n_informative=10, random_state=0)
    return np.ascontiguousarray(x[:rows], dtype=dtype), y[:rows]


# --- In a separate process ------------------------------------------------------------------------


class Served:
    """One of the two libraries, controlled by the worker; see worker.py."""

    def __init__(self, threads: int, name: str, dtype: str) -> None:
        import sklearn.neural_network
        from sklearn.exceptions import ConvergenceWarning

        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        self.threads, self.name, self.dtype = threads, name, dtype
        self.more: dict[str, Any] = {}
        self.Classifier: Any = sklearn.neural_network.MLPClassifier
        if name == "pynn":
            import pynn.sklearn

            self.Classifier = pynn.sklearn.MLPClassifier
            # pynn chooses the threads itself, out of the processors this process is pinned to.
            if not hasattr(os, "sched_setaffinity"):
                self.more["threads"] = threads

    def versions(self) -> dict[str, str]:
        import joblib
        import sklearn

        if self.name == "scikit-learn":
            return {
                "scikit-learn": sklearn.__version__,
                "joblib": joblib.__version__,
                "numpy": np.__version__,
                "BLAS": _blas_of_numpy(),
            }
        import pynn

        info = pynn.info()
        return {"pynn": info["version"], "ISA of pynn": info.get("isa", info["backend"])}

    def setup(self, asked: dict[str, Any]) -> None:
        case = self.case = Case(**asked["case"])
        self.x = self.y = None
        gc.collect()
        self.x, self.y = rows_of(case.data, case.rows, self.dtype)
        if case.what == "row":
            self.fitted = self.classifier().fit(self.x, self.y)

    def classifier(self) -> Any:
        return self.Classifier(random_state=0, **self.case.settings, **self.more)

    def turn(self) -> dict[str, Any]:
        work = {"fit": self.fit, "row": self.single_rows}.get(self.case.what, self.search)
        seconds, reached = work()
        return {"seconds": seconds, "reached": reached}

    def fit(self) -> tuple[float, dict[str, Any]]:
        model = self.classifier()
        start = time.perf_counter()
        model.fit(self.x, self.y)
        return time.perf_counter() - start, _reached(model)

    def search(self) -> tuple[float, dict[str, Any]]:
        from joblib import parallel_config
        from sklearn.model_selection import GridSearchCV

        jobs = self.threads if self.case.what == "grid-jobs" else 1
        backend: Any = nullcontext()
        if jobs > 1:
            # One thread for each of scikit-learn's processes. Otherwise each would use all
            # threads, because the processes inherit the environment variables of this worker.
            backend = (
                parallel_config("threading")
                if self.name == "pynn"
                else parallel_config("loky", inner_max_num_threads=1)
            )
        search = GridSearchCV(self.classifier(), GRID, cv=FOLDS, n_jobs=jobs)
        with backend:
            start = time.perf_counter()
            search.fit(self.x, self.y)
            seconds = time.perf_counter() - start
        score = float(np.mean(search.cv_results_["mean_test_score"]))
        return seconds, {**_reached(search.best_estimator_), "mean score": score}

    def single_rows(self) -> tuple[float, dict[str, Any]]:
        predict, x, calls = self.fitted.predict_proba, self.x, self.case.calls
        rows = [i % len(x) for i in range(calls)]
        found, times = [], []
        for i in rows:
            row = x[i : i + 1]
            start = time.perf_counter()
            out = predict(row)
            times.append(time.perf_counter() - start)
            found.append(out[0])
        right = np.array(found, np.float64)[range(calls), self.y[rows]]
        loss = -float(np.log(np.clip(right, 1e-7, None)).mean())
        return median(times), {"log loss": loss, "n_iter_": int(self.fitted.n_iter_)}


def _reached(model: Any) -> dict[str, Any]:
    return {"loss_": float(model.loss_), "n_iter_": int(model.n_iter_)}


# --- The parent process ---------------------------------------------------------------------------


@dataclass
class Result:
    """The seconds of every counted turn and the results of both libraries in one case."""

    case: str
    title: str
    threads: int
    dtype: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {e: [] for e in ENTRANTS})
    reached: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str | None = None

    @property
    def medians(self) -> dict[str, float]:
        """The median seconds of each library."""
        return {entrant: median(times) for entrant, times in self.seconds.items()}

    @property
    def ratio(self) -> float:
        """scikit-learn's time, divided by pynn's."""
        return self.medians["scikit-learn"] / self.medians["pynn"]


@dataclass
class Run:
    """All results, and the conditions of the measurement."""

    rounds: int
    calls: int = 0
    """Calls of ``predict_proba`` in one turn."""
    results: list[Result] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    idle: float = 0.0


def run(
    cases: Sequence[Case],
    threads: Sequence[int],
    dtypes: Sequence[str],
    rounds: int,
    say: Callable[[str], object],
) -> Run:
    """Time every case. The two take turns; the first turn of each is not counted.

    Raises
    ------
    SystemExit
        If one of the two is not installed.
    """
    done = Run(rounds, max(case.calls for case in cases))
    for count in threads:
        for dtype in dtypes:
            workers: list[Process] = []
            try:
                for name in ENTRANTS:
                    say(f"starting {name}")
                    worker = Process("benchmarks.scikit_learn", name, count, dtype)
                    workers.append(worker)
                    if worker.missing is not None:
                        sys.exit(f"{name}: {worker.missing}")
                    done.versions.update(worker.versions)
                for case in cases:
                    # With one processor this case would equal ``grid``.
                    if case.what != "grid-jobs" or count > 1:
                        result = Result(case.name, case.title, count, dtype)
                        done.results.append(result)
                        _turns(case, result, workers, rounds, say)
                done.idle = max([done.idle, *(worker.idle for worker in workers)])
            finally:
                for worker in workers:
                    worker.close()
    return done


def _turns(
    case: Case,
    result: Result,
    workers: Sequence[Process],
    rounds: int,
    say: Callable[[str], object],
) -> None:
    where = f"{case.name}, {thread_count(result.threads)}, {result.dtype}"
    try:
        for worker in workers:
            say(f"{where}: setting up {worker.name}")
            worker.prepare(case=asdict(case))
        for turn in range(rounds + 1):
            for worker in workers:
                say(f"{where}: round {turn} of {rounds}, {worker.name}")
                found = worker.turn()
                result.reached[worker.name] = found["reached"]
                if turn:
                    result.seconds[worker.name].append(found["seconds"])
    except WorkerFailed as error:
        result.error = str(error)


# --- The report -----------------------------------------------------------------------------------


def agreement(result: Result) -> tuple[bool, str]:
    """Return whether the results of both are equal, and the results as text.

    Counts must be equal, other numbers must agree within the tolerance of the dtype. The relative
    difference of these numbers is given in brackets.
    """
    same, words = True, []
    theirs, mine = (result.reached[entrant] for entrant in ENTRANTS)
    for name, a in theirs.items():
        b = mine[name]
        if isinstance(a, int):
            same &= a == b
            words.append(f"{name} {a}" if a == b else f"{name} {a} and {b}")
        else:
            close = math.isclose(a, b, **TOLERANCES[result.dtype])
            same &= close
            apart = abs(a - b) / max(abs(a), abs(b), 1e-300)
            shown = f"{a:.4g}" if close else f"{a:.7g} and {b:.7g}"
            words.append(f"{name} {shown} ({apart:.0e})")
    return same, ("" if same else "NOT THE SAME: ") + ", ".join(words)


def duration(seconds: float) -> str:
    """Return a time with three or four digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            number = seconds / size
            decimals = 2 if number < 10 else 1 if number < 100 else 0
            return f"{number:,.{decimals}f} {unit}"
    raise AssertionError


def times(results: Sequence[Result]) -> Table:
    """Return the medians, their ratio and the results of both, one row for each case."""
    table = [["case", *ENTRANTS, "ratio", "results of both (relative difference)"]]
    for result in results:
        if result.error is not None:
            last = result.error.strip().splitlines()[-1]
            table.append([result.title, "failed", "failed", "–", last])
            continue
        cells = [duration(result.medians[entrant]) for entrant in ENTRANTS]
        table.append([result.title, *cells, f"{result.ratio:.1f}", agreement(result)[1]])
    return table


def ratios(done: Run) -> Table:
    """Return the ratios: one row for each case, one column for each dtype and thread count."""
    columns = list(dict.fromkeys((r.threads, r.dtype) for r in done.results))
    found = {(r.case, r.threads, r.dtype): r for r in done.results}
    titles = {
        r.case: r.title for r in sorted(done.results, key=lambda r: list(CASES).index(r.case))
    }
    table = [
        ["scikit-learn's time / pynn's", *(f"{thread_count(n)}, {dtype}" for n, dtype in columns)]
    ]
    for case, title in titles.items():
        row = [found.get((case, *column)) for column in columns]
        table.append([title, *("–" if not r or r.error else f"{r.ratio:.1f}" for r in row)])
    return table


def head(done: Run) -> dict[str, str]:
    """Return the description of machine, versions and settings above the tables."""
    apart = ("BLAS", "ISA of pynn")
    versions = {name: v for name, v in done.versions.items() if name not in apart}
    threads = dict.fromkeys(str(r.threads) for r in done.results)
    return {
        **machine(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        **{name: v for name, v in done.versions.items() if name in apart},
        "threads": ", ".join(threads),
        "settings": f"medians of {done.rounds} round{'s' if done.rounds > 1 else ''}",
    }


def notes(done: Run) -> list[str]:
    """Return the notes below the tables, on how the times were measured."""
    cases = {r.case for r in done.results}
    found = [
        "A time covers the complete call of fit, including checks, set-up and all epochs, of "
        "MLPClassifier(random_state=0). Settings that the case does not name are scikit-learn's "
        "defaults. ConvergenceWarning is silenced.",
        f"Each library has its own process, pinned to as many processors as there are threads. "
        f"They take turns; the first turn is not counted. While one worked, the other used at most "
        f"{done.idle * 1e3:.1f} ms of processor time.",
        "The last column shows the results of the same run, which must be equal, and in brackets "
        "their relative difference. The tolerance is 1e-6 in float64, and 1e-3 or 0.00002 in "
        "float32; counts of epochs must be exactly equal.",
    ]
    if "breast-cancer" in cases or "row-breast-cancer" in cases:
        found.append("The features of breast cancer are standardised.")
    if "grid-jobs" in cases:
        found.append(
            "n_jobs = threads: scikit-learn's class runs in that number of processes (loky, "
            "started before, one BLAS thread each), pynn's class in that number of threads of "
            "joblib's threading backend."
        )
    if any(case.startswith("row-") for case in cases):
        found.append(
            f"predict_proba of one row: medians of {done.calls:,} calls, each with one row of the "
            "training set. The log loss is that of these predictions."
        )
    one = {(r.case, r.dtype): r for r in done.results if r.threads == 1 and not r.error}
    slower = dict.fromkeys(
        f"{r.title} ({thread_count(r.threads)}, {r.dtype})"
        for r in done.results
        if not r.error and (r.case, r.dtype) in one
        if r.medians["scikit-learn"] > one[r.case, r.dtype].medians["scikit-learn"]
    )
    if slower:
        found.append(
            "In these cases scikit-learn itself is slower than with 1 thread: "
            + "; ".join(slower)
            + "."
        )
    return found


def report(done: Run, markdown: bool) -> list[str]:
    """Return the lines of the report, for a page or for a terminal."""
    layout, item = (_pipes, "- {}: {}") if markdown else (_columns, "{}: {}")
    lines = [item.format(name, value) for name, value in head(done).items()]
    lines += ["", *layout(ratios(done))]
    for n, dtype in dict.fromkeys((r.threads, r.dtype) for r in done.results):
        title = f"{thread_count(n)}, {dtype}"
        lines += ["", f"**{title}**" if markdown else title, *([""] if markdown else [])]
        lines += layout(times([r for r in done.results if (r.threads, r.dtype) == (n, dtype)]))
    return [*lines, "", *(f"- {note}" for note in notes(done))]


def between(page: str, lines: Sequence[str]) -> str:
    """Return a page with new lines between its two marks.

    Raises
    ------
    ValueError
        If the page does not contain each mark once, in this order.
    """
    before, found, rest = page.partition(f"{START}\n")
    _, found_end, after = rest.partition(END)
    if not found or not found_end or START in rest or END in before + after:
        raise ValueError(f"found no single {START} … {END}, expected one")
    return "\n".join([before + START, *lines, END]) + after


def _page(text: str) -> Path:
    path = _file(text)
    try:
        between(path.read_text(encoding="utf-8"), [])
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error
    return path


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scikit_learn",
        description="Compare the times of pynn.sklearn's MLPClassifier and scikit-learn's.",
    )
    parser.add_argument(
        "--cases", type=_names(CASES), default=list(CASES), help=f"some of {','.join(CASES)}"
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=[1, 2][: processors()],
        help="thread counts, such as 1,2 (the default)",
    )
    parser.add_argument(
        "--dtypes", type=_names(DTYPES), default=list(DTYPES), help="float32,float64"
    )
    parser.add_argument("--rounds", type=_whole, default=5, help="turns that count (default: 5)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_ROWS} rows, {QUICK_EPOCHS} epochs, {QUICK_CALLS} calls, one round",
    )
    parser.add_argument("--json", type=_file, metavar="FILE", help="write every number there")
    parser.add_argument(
        "--markdown",
        type=_page,
        metavar="FILE",
        help=f"write the tables between {START} and {END} of that page",
    )
    return parser


def main() -> int:
    """Run the benchmark; return 1 if a case failed or the results were not equal."""
    args = arguments().parse_args()
    cases = [quick(CASES[name]) if args.quick else CASES[name] for name in args.cases]

    done = run(cases, args.threads, args.dtypes, 1 if args.quick else args.rounds, say)
    say("")
    say("")
    print("\n".join(report(done, markdown=False)))
    if args.markdown:
        page = between(args.markdown.read_text(encoding="utf-8"), report(done, markdown=True))
        with atomic_write(args.markdown) as file:
            file.write(page.encode())
    if args.json:
        write_json(args.json, {"machine": machine(), **asdict(done)})
    return int(any(r.error is not None or not agreement(r)[0] for r in done.results))


if __name__ == "__main__":
    sys.exit(main())
