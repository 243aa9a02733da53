"""scikit-learn's multilayer perceptrons against pynn.sklearn's, which take their place.

    python -m benchmarks.scikit_learn                                 everything, to the terminal
    python -m benchmarks.scikit_learn --markdown docs/scikit-learn.md   and into the page
    python -m benchmarks.scikit_learn --quick --cases digits          to see it work

Both have processes of their own, the same rows, ``random_state`` and number of processors, and take
turns. Each turn is checked: what they reach (``loss_``, ``n_iter_``, scores) must be the same, or
else the times are not of equal work, the table says so and the exit code is 1.
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
"""How far the two may be apart and still count as the same."""

START, END = "<!-- table -->", "<!-- /table -->"

GRID: dict[str, list[Any]] = {
    "hidden_layer_sizes": [(50,), (100,)],
    "alpha": [1e-4, 1e-2],
    "learning_rate_init": [1e-3, 3e-3],
}
FOLDS = 3


@dataclass(frozen=True)
class Case:
    """What is timed, and on which rows; ``settings`` go to the classifier."""

    name: str
    data: str
    rows: int
    settings: dict[str, Any] = field(default_factory=dict)
    what: str = "fit"
    """``fit``, ``grid`` (a search by one worker), ``grid-jobs`` (by one for each processor) or
    ``row`` (``predict_proba`` of one row)."""
    calls: int = 2000
    """Of ``predict_proba``, in one turn."""

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
    """Return a case that takes next to no time."""
    return replace(
        case,
        rows=min(case.rows, QUICK_ROWS),
        settings={**case.settings, "max_iter": min(QUICK_EPOCHS, case.settings.get("max_iter", 5))},
        calls=QUICK_CALLS,
    )


def rows_of(data: str, rows: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return X (rows, features) and the labels y (rows,) of a data set that needs no network."""
    from sklearn import datasets, preprocessing

    if data == "mnist":
        import pynn

        (pixels, y), _ = pynn.datasets.mnist()
        # A label is a uint8 there; scikit-learn's users have whole numbers.
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


# --- In a process of its own ----------------------------------------------------------------------


class Served:
    """One of the two libraries, as the worker asks it; see worker.py."""

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
            # Its own choice of threads, as its users have it, from the processors it is kept on.
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
            # One thread for each process of scikit-learn's: it would be all of them otherwise,
            # because this worker has set the variables that the processes inherit.
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


# --- The parent -----------------------------------------------------------------------------------


@dataclass
class Result:
    """What both did in one case: seconds of every turn that counts, and what they reached."""

    case: str
    title: str
    threads: int
    dtype: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {e: [] for e in ENTRANTS})
    reached: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str | None = None

    @property
    def medians(self) -> dict[str, float]:
        """Seconds, by entrant."""
        return {entrant: median(times) for entrant, times in self.seconds.items()}

    @property
    def ratio(self) -> float:
        """scikit-learn's time, divided by pynn's."""
        return self.medians["scikit-learn"] / self.medians["pynn"]


@dataclass
class Run:
    """All results, and what was seen beside them."""

    rounds: int
    calls: int = 0
    """Of ``predict_proba``, in one turn."""
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
                    # With one processor it would be the same as ``grid``.
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
    """Return whether both reached the same, and what that is.

    Counts must be equal, other numbers within the tolerance of the dtype; how far these are apart,
    in relation to their size, stands in brackets.
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
    """Return a time with three digits, or four, and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            number = seconds / size
            decimals = 2 if number < 10 else 1 if number < 100 else 0
            return f"{number:,.{decimals}f} {unit}"
    raise AssertionError


def times(results: Sequence[Result]) -> Table:
    """Return the medians, their ratio and what was reached, a row for each result."""
    table = [["case", *ENTRANTS, "ratio", "reached by both (apart)"]]
    for result in results:
        if result.error is not None:
            last = result.error.strip().splitlines()[-1]
            table.append([result.title, "failed", "failed", "–", last])
            continue
        cells = [duration(result.medians[entrant]) for entrant in ENTRANTS]
        table.append([result.title, *cells, f"{result.ratio:.1f}", agreement(result)[1]])
    return table


def ratios(done: Run) -> Table:
    """Return the ratios alone: a row for each case, a column for each dtype and thread count."""
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
    """Return everything that stands above the tables."""
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
    """Return what a reader must know to believe the tables."""
    cases = {r.case for r in done.results}
    found = [
        "A time is that of the whole call of fit, with checks, set-up and all epochs, for "
        "MLPClassifier(random_state=0) with scikit-learn's defaults but for what the case names. "
        "ConvergenceWarning is silenced.",
        f"Each of the two has a process of its own, pinned to as many processors as there are "
        f"threads, and they take turns; the first turn is not counted. While the other worked, "
        f"none used more than {done.idle * 1e3:.1f} ms of processor time.",
        "Beside the times stands what both reached in the same run and, in brackets, how far "
        "they are apart in relation to it. In float64 it must agree to 1e-6, in float32 to 1e-3 or "
        "0.00002, and counts of epochs exactly.",
    ]
    if "breast-cancer" in cases or "row-breast-cancer" in cases:
        found.append("The features of breast cancer are standardised.")
    if "grid-jobs" in cases:
        found.append(
            "n_jobs = threads: scikit-learn's class in as many processes (loky, started before, "
            "one thread of BLAS each), pynn's in as many threads of joblib's threading backend."
        )
    if any(case.startswith("row-") for case in cases):
        found.append(
            f"predict_proba of one row: medians of {done.calls:,} calls, a row of the training set "
            "each; the log loss is that of the answers."
        )
    one = {(r.case, r.dtype): r for r in done.results if r.threads == 1 and not r.error}
    slower = dict.fromkeys(
        f"{r.title} ({thread_count(r.threads)}, {r.dtype})"
        for r in done.results
        if not r.error and (r.case, r.dtype) in one
        if r.medians["scikit-learn"] > one[r.case, r.dtype].medians["scikit-learn"]
    )
    if slower:
        found.append("scikit-learn is faster with 1 thread than in " + "; ".join(slower) + ".")
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
    """Return a page with other lines between its two marks.

    Raises
    ------
    ValueError
        If it does not have each mark once, in their order.
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
        description="Time pynn.sklearn's MLPClassifier against scikit-learn's.",
    )
    parser.add_argument(
        "--cases", type=_names(CASES), default=list(CASES), help=f"some of {','.join(CASES)}"
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=[1, 2][: processors()],
        help="how many, such as 1,2 (the default)",
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
    """Run the benchmark; return 1 if one failed or the two did not reach the same."""
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
