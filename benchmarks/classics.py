"""The five classic systems: their accuracy and training time, as tables in the docs.

    python -m benchmarks.classics --readings 3,4      everything, for a quiet machine
    python -m benchmarks.classics --rows 2 --seeds 2  one row; the results of the others stay
    python -m benchmarks.classics --no-run            only write the tables again

The systems are the scripts in examples/ themselves. To measure accuracy, each script is run
unchanged, once for each seed. To measure time, it is run up to its call of ``fit``. The network,
data and settings found there are then trained by each backend of pynn and by PyTorch, in turns,
each in its own process: two epochs that do not count, then as many as fit into --budget seconds.
The mean of these stands for the remaining epochs. docs/tutorials/classics.json stores all numbers;
the tables are written between marks in the pages of docs/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

import pynn
from pynn.files.disk import atomic_write

from .report import machine
from .runner import _LEFT_OVERS, _THREAD_VARIABLES
from .worker import pin

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = {
    "1": "1_logistic_regression.py",
    "2": "2_nielsen_chapter_1.py",
    "3": "3_two_sigmoid_layers.py",
    "4": "4_one_wide_relu_layer.py",
    "5": "5_adam_with_everything.py",
}
TITLES = {
    "1": "logistic regression, 784-10",
    "2": "chapter 1, 784-30-10",
    "3": "two sigmoid layers, 784-128-256-10",
    "4": "one wide ReLU layer, 784-532-10",
    "5": "Adam with everything, 784-256-128-10",
}
ENTRANTS = ("numpy", "numba", "cython", "torch")


# --- In a separate process ------------------------------------------------------------------------


def run_example(row: str, *options: str) -> dict[str, Any]:
    """Run an example as a script and return its variables; files go to the working directory."""
    sys.path.insert(0, str(ROOT / "examples"))
    sys.argv = [EXAMPLES[row], "--no-twin", "--out", "pictures", *options]
    return runpy.run_path(str(ROOT / "examples" / EXAMPLES[row]), run_name="__main__")


class Caught(Exception):
    """The call of ``fit`` of an example: its network, its data and its settings."""

    def __init__(self, net: pynn.Network, x: Any, y: Any, settings: dict[str, Any]) -> None:
        self.net, self.x, self.y, self.settings = net, x, y, settings


def catch_fit(row: str, *options: str) -> Caught:
    """Run an example up to its call of ``fit``."""

    def fit(net: pynn.Network, x: Any, y: Any, **settings: Any) -> None:
        raise Caught(net, x, y, settings)

    real, pynn.Network.fit = pynn.Network.fit, fit  # type: ignore[assignment, method-assign]
    try:
        run_example(row, *options)
    except Caught as caught:
        del caught.settings["callbacks"]  # They cost time that is not training.
        return caught
    finally:
        pynn.Network.fit = real  # type: ignore[method-assign]
    raise RuntimeError(f"{EXAMPLES[row]} ended without a call of fit")


def figures(row: str, seed: int) -> dict[str, Any]:
    """Run an example and return its accuracies and its number of epochs."""
    found = run_example(row, "--seed", str(seed))
    compared = sys.modules["common"].compared
    history = found["history"]
    return {"compared": compared, "epochs": len(history), "seconds": sum(history.seconds)}


def epoch_seconds(row: str, entrant: str, budget: float, epochs: int) -> dict[str, Any]:
    """Return the mean time of an epoch, the number of epochs measured, and the versions used."""
    backend = "auto" if entrant == "torch" else entrant
    caught = catch_fit(row, "--backend", backend)
    twin = TorchTwin(caught, epochs) if entrant == "torch" else None

    def train(count: int) -> None:
        if twin is not None:
            twin(count)
        else:
            caught.net.fit(caught.x, caught.y, **{**caught.settings, "epochs": count})

    def seconds_of(count: int) -> float:
        start = time.perf_counter()
        train(count)
        return time.perf_counter() - start

    train(1)
    if twin is not None:
        twin.choose_threads()
    count = min(max(1, int(budget / seconds_of(1))), epochs)
    seconds = seconds_of(count) / count
    return {"epoch": seconds, "counted": count, "versions": versions(entrant)}


def versions(entrant: str) -> dict[str, str]:
    """Return name and version of the libraries that an entrant computes with."""
    if entrant == "torch":
        import torch

        return {"PyTorch": f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"}
    if entrant == "numba":
        import numba

        return {"Numba": numba.__version__}
    if entrant == "numpy":
        return {"NumPy": np.__version__}
    return {"pynn": pynn.__version__, "ISA of pynn": pynn.info()["isa"]}


class TorchTwin:
    """The caught network and settings in PyTorch; a call trains for a number of epochs.

    It uses eager mode and fused Adam, gathers rows from one tensor of floats prepared beforehand,
    and runs on one thread if that is faster than all.
    """

    def __init__(self, caught: Caught, epochs: int) -> None:
        import torch

        self.torch: Any = torch
        nn = self.torch.nn
        net, settings = caught.net, caught.settings
        torch.manual_seed(net.seed)
        a = net.architecture
        layers: list[Any] = []
        for k, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
            linear = nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w).T)
                linear.bias.copy_(torch.from_numpy(b))
            layers.append(linear)
            if k < a.n_layers - 1:
                layers.append({"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[a.activations[k]]())
                if a.dropout[k]:
                    layers.append(nn.Dropout(a.dropout[k]))
        x = np.asarray(caught.x).reshape(len(caught.x), -1)
        self.x = torch.from_numpy(x.astype("float32") / np.float32(255))
        y = np.asarray(caught.y)
        labels = torch.from_numpy((y if y.ndim == 1 else y.argmax(axis=1)).astype("int64"))
        one_hot = nn.functional.one_hot(labels, a.n_out).float()
        if a.loss == "mse":
            layers.append(nn.Sigmoid())
            self.loss, self.y = nn.functional.mse_loss, one_hot
        elif a.loss == "binary_cross_entropy":
            self.loss, self.y = nn.functional.binary_cross_entropy_with_logits, one_hot
        else:
            self.loss, self.y = nn.functional.cross_entropy, labels
        self.model = nn.Sequential(*layers)
        rate = settings["learning_rate"]
        if settings["optimizer"] == "adam":
            groups: list[dict[str, Any]] = [
                {"params": [m.weight for m in layers if isinstance(m, nn.Linear)]},
                {"params": [m.bias for m in layers if isinstance(m, nn.Linear)]},
            ]
            # L2 is part of the gradient, for the weights only.
            groups[0]["weight_decay"] = settings.get("l2", 0.0)
            self.optimizer = self.torch.optim.Adam(groups, lr=rate, fused=True)
        else:
            self.optimizer = self.torch.optim.SGD(
                self.model.parameters(), lr=rate, foreach=False, fused=False
            )
        rows = len(self.x)
        self.size = rows if settings["batch_size"] == "full" else settings["batch_size"]
        self.steps_done = 0
        self.rates: list[float] | None = None
        if "schedule" in settings:
            steps = -(-rows // self.size)
            times = (
                np.arange((epochs + 4) * steps) / steps
            )  # some epochs run before the clock starts
            self.rates = (rate * settings["schedule"].factors(times, 0, epochs)).tolist()

    def __call__(self, epochs: int) -> None:
        for _ in range(epochs):
            self._epoch()

    def choose_threads(self) -> None:
        """Use one thread if an epoch is then faster: small layers gain nothing from more."""
        many = self.torch.get_num_threads()
        seconds = {}
        for threads in {1, many}:
            self.torch.set_num_threads(threads)
            start = time.perf_counter()
            self._epoch()
            seconds[threads] = time.perf_counter() - start
        self.torch.set_num_threads(min(seconds, key=lambda threads: seconds[threads]))

    def _epoch(self) -> None:
        if self.size == len(self.x):
            self._step(self.x, self.y)
            return
        for batch in self.torch.randperm(len(self.x)).split(self.size):
            self._step(self.x.index_select(0, batch), self.y.index_select(0, batch))

    def _step(self, x: Any, y: Any) -> None:
        if self.rates is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rates[self.steps_done]
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.model(x), y).backward()
        self.optimizer.step()
        self.steps_done += 1

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the share of rows of pixels x that are classified correctly."""
        self.model.eval()
        with self.torch.no_grad():
            out = self.model(self.torch.from_numpy(x.reshape(len(x), -1).astype("float32") / 255))
        return float((out.argmax(dim=1).numpy() == y).mean())


def torch_accuracy(row: str, epochs: int) -> dict[str, Any]:
    """Train PyTorch on a system for all epochs; return its accuracy on MNIST's test set."""
    twin = TorchTwin(catch_fit(row), epochs)
    twin.torch.set_num_threads(1)  # Only the accuracy is measured.
    twin(epochs)
    return {"accuracy": twin.accuracy(*pynn.datasets.mnist()[1])}


def footprint(package: str) -> dict[str, Any]:
    """Return the import time of a package after NumPy, and its size on disk in megabytes."""
    program = (
        f"import time, numpy; start = time.perf_counter(); import {package}; "
        f"print(time.perf_counter() - start, {package}.__path__[0], sep='\\n')"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(pynn.__file__).parent.parent)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", check=True)
    seconds, folder = done.stdout.splitlines()
    files = (f for f in Path(folder).rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return {"import": float(seconds), "megabytes": sum(f.stat().st_size for f in files) / 1e6}


# --- Interpretations of the published descriptions ------------------------------------------------

Fill = Callable[[np.random.Generator, int, int], np.ndarray]

INITS: dict[str, Fill] = {
    "N(0, 1)": lambda rng, m, n: rng.standard_normal((m, n)),
    "N(0, 0.1²)": lambda rng, m, n: 0.1 * rng.standard_normal((m, n)),
    "N(0, 0.01²)": lambda rng, m, n: 0.01 * rng.standard_normal((m, n)),
    "N(0, 1/n_in)": lambda rng, m, n: rng.standard_normal((m, n)) * (1 / m) ** 0.5,
    "N(0, 1/n_out)": lambda rng, m, n: rng.standard_normal((m, n)) * (1 / n) ** 0.5,
    "N(0, 2/n_in), He": lambda rng, m, n: rng.standard_normal((m, n)) * (2 / m) ** 0.5,
    "N(0, 2/(n_in + n_out)), Glorot": (
        lambda rng, m, n: rng.standard_normal((m, n)) * (2 / (m + n)) ** 0.5
    ),
    "U(-0.5, 0.5)": lambda rng, m, n: rng.uniform(-0.5, 0.5, (m, n)),
}
"""Initial weights common in from-scratch projects, for m inputs and n outputs; biases are zero."""

STEPS = 3_000  # a possible meaning of "3000 iterations" in system 3


def readings(row: str, init: str) -> dict[str, Any]:
    """Train system 3 or 4 from other initial weights, for each reading of its description."""
    caught = catch_fit(row)
    (x, y), (x_test, y_test) = pynn.datasets.mnist()
    settings = dict(caught.settings)
    rate, found = settings["learning_rate"], {}
    if row == "3":
        batch = settings["batch_size"]
        # The gradient of a batch as a mean or as a sum; pixels from 0 to 1 or from 0 to 255.
        variants = {
            "mean": (rate, 1),
            "sum": (rate * batch, 1),
            "sum, pixels to 255": (rate * batch, 255),
        }
        settings["epochs"] = -(-STEPS * batch // len(x))
        settings["callbacks"] = pynn.Every(STEPS, lambda net, record: True)
    else:
        variants = {"mean": (rate, 1)}
    for name, (step, top) in variants.items():
        net = caught.net
        net = pynn.Network(net.sizes, activation=net.architecture.activations[0], seed=0)
        rng = np.random.default_rng(0)
        for w in net.weights:
            w[...] = INITS[init](rng, *w.shape)
        given, tested = (a if top == 1 else a.astype("float32") for a in (x, x_test))
        net.fit(given, y, **{**settings, "learning_rate": step})
        found[name] = [net.evaluate(*pair)["accuracy"] for pair in ((given, y), (tested, y_test))]
    return found


# --- The parent process ---------------------------------------------------------------------------

TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f for f in (figures, epoch_seconds, torch_accuracy, footprint, readings)
}


def in_own_process(threads: int, folder: Path, task: str, *arguments: Any) -> dict[str, Any]:
    """Call one of TASKS in a new process, pinned to as many processors as it has threads."""
    env = {k: v for k, v in os.environ.items() if k not in _LEFT_OVERS}
    env.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    env.update(MPLBACKEND="agg", PYNN_EXAMPLES_QUICK="0")
    answer = folder / "answer.json"
    call = json.dumps([task, threads, str(answer), *arguments])
    # The checkout comes last, so that an installed pynn is found before its source.
    program = (
        "import sys; sys.path.append(sys.argv[1]); from benchmarks import classics; "
        "classics.child(sys.argv[2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT), call],
        cwd=folder,
        env=env,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise RuntimeError(f"{task}{arguments} failed:\n{done.stdout}\n{done.stderr}")
    return json.loads(answer.read_text(encoding="utf-8"))


def child(call: str) -> None:
    """Run the task that `in_own_process` asks for, in the process it has started."""
    task, threads, answer, *arguments = json.loads(call)
    pin(threads)
    found = TASKS[task](*arguments)
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


class Bench:
    """Measures rows one after the other and adds the results to the file of numbers."""

    def __init__(self, folder: Path, args: argparse.Namespace, numbers: Path) -> None:
        self.folder, self.args, self.numbers = folder, args, numbers

    def run(self, task: str, *arguments: Any) -> dict[str, Any]:
        print(f"{time.strftime('%H:%M:%S')} {task} {' '.join(map(str, arguments))}", flush=True)
        return in_own_process(self.args.threads, self.folder, task, *arguments)

    def keep(self, kind: str, row: str, found: dict[str, Any]) -> None:
        """Add results to the file, to which another process may have added its own."""
        known = read(self.numbers)
        known.setdefault(kind, {}).setdefault(row, {}).update(found)
        with atomic_write(self.numbers) as file:
            file.write((json.dumps(known, indent=1, ensure_ascii=False) + "\n").encode())
        write_pages(known, self.args.docs)

    def figures(self, row: str) -> None:
        """Train a system from every seed, except seeds that the same example has already run."""
        text = example_text(row)
        for seed in range(self.args.seeds):
            had = read(self.numbers).get("rows", {}).get(row, {}).get("runs", {})
            runs = {s: run for s, run in had.items() if run["example"] == text}
            if str(seed) in runs:
                continue
            runs[str(seed)] = {**self.run("figures", row, seed), "example": text}
            done = [runs[key] for key in sorted(runs, key=int)]
            compared = zip(*(run["compared"] for run in done), strict=True)
            found = {
                "runs": runs,
                "figures": [
                    {"what": same[0][0], "published": same[0][1], "ours": [one[2] for one in same]}
                    for same in compared
                ],
                "seeds": sorted(map(int, runs)),
                "epochs": [run["epochs"] for run in done],
            }
            self.keep("rows", row, found)

    def times(self, row: str) -> None:
        """Time an epoch of a system with every backend and with PyTorch, in turns."""
        epochs = round(median(read(self.numbers)["rows"][row]["epochs"]))
        times: dict[str, list[float]] = {entrant: [] for entrant in ENTRANTS}
        counted: dict[str, int] = {}
        software: dict[str, str] = {}
        for _ in range(self.args.rounds):
            for entrant in ENTRANTS:
                budget = self.args.budget
                found = self.run("epoch_seconds", row, entrant, budget, epochs)
                times[entrant].append(found["epoch"])
                counted[entrant] = max(counted.get(entrant, 0), found["counted"])
                software.update(found["versions"])
        found = {
            "epoch_seconds": times,
            "counted": counted,
            "threads": self.args.threads,
            "machine": machine(),
            "versions": software,
        }
        self.keep("rows", row, found)
        if row == "2":
            beside = {
                "row": row,
                **self.run("torch_accuracy", row, epochs),
                "footprint": {
                    package: {
                        key: median(found[key] for found in tries)
                        for key in ("import", "megabytes")
                    }
                    for package in ("pynn", "torch")
                    for tries in [[self.run("footprint", package) for _ in range(3)]]
                },
            }
            self.keep("torch", "2", beside)

    def readings(self, row: str) -> None:
        """Train system 3 or 4 from other initial weights."""
        for init in INITS:
            self.keep("readings", row, {init: self.run("readings", row, init)})


def read(numbers: Path) -> dict[str, Any]:
    """Return the results measured so far."""
    return json.loads(numbers.read_text(encoding="utf-8")) if numbers.exists() else {}


def example_text(row: str) -> str:
    """Return a hash of the example and of the version of pynn that runs it."""
    text = (ROOT / "examples" / EXAMPLES[row]).read_bytes() + pynn.__version__.encode()
    return hashlib.sha256(text).hexdigest()[:16]


# --- Pages ----------------------------------------------------------------------------------------


def percent(shares: list[float]) -> str:
    """Return mean and standard deviation of shares, in percent."""
    if len(shares) == 1:
        return f"{100 * shares[0]:.2f} %"
    return f"{100 * mean(shares):.2f} ± {100 * stdev(shares):.2f} %"


def training_seconds(row: dict[str, Any], entrant: str) -> float:
    """Return the time of a complete training."""
    return median(row["epoch_seconds"][entrant]) * round(median(row["epochs"]))


def seconds_cell(row: dict[str, Any], entrant: str) -> str:
    """Return the seconds of a training, with ≈ if they come from a part of its epochs."""
    seconds = training_seconds(row, entrant)
    shown = f"{seconds:,.{0 if seconds >= 100 else 1 if seconds >= 10 else 2}f}"
    return shown if row["counted"][entrant] >= round(median(row["epochs"])) else f"≈ {shown}"


def pipes(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def systems_table(known: dict[str, Any]) -> Iterator[str]:
    """The five systems: published and measured accuracies, and seconds of training."""
    head = ["system", "figure", "published", "pynn", "epochs", *("numpy", "numba", "cython")]
    body = []
    for name, row in sorted(known.get("rows", {}).items()):
        for k, figure in enumerate(row["figures"]):
            published = figure["published"]
            cells = [
                f"{name} {TITLES[name]}" if not k else "",
                figure["what"],
                "–" if published is None else f"{100 * published:.1f} %",
                percent(figure["ours"]),
            ]
            if not k:
                cells.append(f"{round(median(row['epochs'])):,}")
                cells += [seconds_cell(row, entrant) for entrant in ENTRANTS]
                ratio = training_seconds(row, "torch") / training_seconds(row, "cython")
                cells.append(f"{ratio:.1f}")
            body.append(cells + [""] * (10 - len(cells)))
    yield from pipes([*head, "PyTorch", "PyTorch / cython"], body)
    yield ""
    yield (
        "Accuracies are means and standard deviations over the seeds (number of seeds in each row: "
        + ", ".join(f"{n}: {len(r['seeds'])}" for n, r in sorted(known.get("rows", {}).items()))
        + "). The columns from numpy to PyTorch show seconds of training, for the complete call of "
        "`fit` without callbacks; ≈ marks the mean of a few epochs times the number of epochs."
    )
    machines: dict[str, list[str]] = {}
    for name, row in sorted(known.get("rows", {}).items()):
        m, versions = row["machine"], row["versions"]
        text = ", ".join(
            [m["date"], m["CPU"], f"{row['threads']} threads, float32", f"Python {m['Python']}"]
            + [f"{library} {version}" for library, version in versions.items()]
        )
        machines.setdefault(text, []).append(name)
    for text, names in machines.items():
        yield ""
        yield f"Row{'s' if len(names) > 1 else ''} {', '.join(names)}: {text}."


def readings_table(known: dict[str, Any], row: str) -> Iterator[str]:
    """The accuracies of system 3 or 4 from other initial weights."""
    found = known.get("readings", {}).get(row, {})
    if not found:
        yield "Not measured yet."
        return
    variants = list(next(iter(found.values())))
    titles = {
        "mean": "mean of the batch",
        "sum": "sum over the batch",
        "sum, pixels to 255": "sum, pixels to 255",
    }
    head = ["initial weights", *(titles[v] if row == "3" else "train / test" for v in variants)]
    body = [
        [init, *(" / ".join(f"{100 * share:.1f} %" for share in one[v]) for v in variants)]
        for init, one in found.items()
    ]
    yield from pipes(head, body)


def torch_table(known: dict[str, Any]) -> Iterator[str]:
    """pynn and PyTorch side by side on system 2."""
    if "torch" not in known or "2" not in known.get("rows", {}):
        yield "Not measured yet."
        return
    row, torch = known["rows"]["2"], known["torch"]["2"]
    epoch = {e: 1e3 * median(row["epoch_seconds"][e]) for e in ENTRANTS}
    footprints = [torch["footprint"][package] for package in ("pynn", "torch")]
    ours = row["figures"][0]["ours"]
    epochs = round(median(row["epochs"]))
    yield from pipes(
        ["", "pynn", "PyTorch"],
        [
            [
                "one epoch of 5,000 updates",
                f"{epoch['cython']:.0f} ms",
                f"{epoch['torch']:,.0f} ms",
            ],
            [
                f"training, {epochs} epochs",
                f"{training_seconds(row, 'cython'):.1f} s",
                f"{training_seconds(row, 'torch'):.0f} s",
            ],
            [
                "time for one update",
                f"{epoch['cython'] / 5:.1f} µs",
                f"{epoch['torch'] / 5:.0f} µs",
            ],
            ["test accuracy", percent(ours), f"{100 * torch['accuracy']:.2f} %"],
            ["import", *(f"{1e3 * found['import']:,.0f} ms" for found in footprints)],
            ["size on disk", *(f"{found['megabytes']:,.0f} MB" for found in footprints)],
        ],
    )
    m = row["machine"]
    yield ""
    yield (
        f"{m['date']}, {m['CPU']}, {row['threads']} threads, float32, "
        + ", ".join(f"{library} {version}" for library, version in row["versions"].items())
        + f". One epoch takes {epoch['numpy']:,.0f} ms with pynn's NumPy backend and "
        f"{epoch['numba']:,.0f} ms with its Numba backend. The size of pynn includes MNIST; "
        "neither size includes NumPy."
    )


PAGES: dict[str, dict[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "tutorials/classics.md": {
        "table": systems_table,
        "readings of 3": lambda known: readings_table(known, "3"),
        "readings of 4": lambda known: readings_table(known, "4"),
    },
    "explanation/how-it-learns.md": {"table": torch_table},
}


def between(text: str, mark: str, lines: list[str]) -> str:
    """Return a page with new lines between ``<!-- mark -->`` and ``<!-- end of mark -->``.

    Raises
    ------
    ValueError
        If the page does not contain each of the two marks once, in this order.
    """
    start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, found, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not found or not found_end or start in after or end in before:
        raise ValueError(f"found no single {start.strip()} … {end}, expected one")
    return "\n".join([before + start.rstrip("\n"), *lines, end]) + after


def write_pages(known: dict[str, Any], docs: Path) -> None:
    """Write every table into its page; the text around the tables stays."""
    for name, marks in PAGES.items():
        text = (docs / name).read_text(encoding="utf-8")
        for mark, table in marks.items():
            try:
                text = between(text, mark, list(table(known)))
            except ValueError as error:
                raise ValueError(f"{docs / name}: {error}") from error
        with atomic_write(docs / name) as file:
            file.write(text.encode())


def _rows(text: str, known: Sequence[str] = tuple(EXAMPLES)) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"found {name!r}, expected some of {','.join(known)}")
    return names


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.classics",
        description="Run the five classic systems and write their tables into the docs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--rows", type=_rows, default=list(EXAMPLES), help="such as 1,2")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds: 0, 1, 2, …")
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of timing, whose median is reported"
    )
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of one timing")
    parser.add_argument("--threads", type=int, default=min(cpus or 1, 2))
    parser.add_argument(
        "--readings",
        type=lambda text: _rows(text, ("3", "4")),
        default=[],
        help="some of 3,4: train them from other initial weights as well",
    )
    parser.add_argument(
        "--only", choices=["figures", "times"], help="measure only this part of each row"
    )
    parser.add_argument("--no-run", action="store_true", help="only write the tables again")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the pages")
    return parser


def main() -> int:
    """Run the requested measurements; results are stored after every row."""
    args = arguments().parse_args()
    numbers = args.docs / "tutorials" / "classics.json"
    if args.no_run:
        write_pages(read(numbers), args.docs)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args, numbers)
        for row in args.rows:
            if args.only != "times":
                bench.figures(row)
            if args.only != "figures":
                bench.times(row)
        for row in args.readings:
            bench.readings(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
