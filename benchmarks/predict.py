"""Times of predictions, from one row to 20,000, in comparison with other libraries.

``python -m benchmarks.predict`` prints machine, versions and a table of medians for each number of
threads. The entrants of a cell take turns in one process, in blocks of calls: a block begins with
calls that are not counted, in which threads wake up and caches fill. Every peer has all of its
settings in the table's process; the best of them counts. ONNX Runtime runs the same weights with
all graph optimisations, with 1 thread and with as many as pynn may use, with and without threads
that spin between two calls.

The 784-wide networks predict test images of MNIST, which are 19 % non-zero (``--dense``: uniform
random numbers), the others random numbers; all as float32 arrays of (rows, inputs).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import pynn
from pynn.datasets import mnist

from . import performance, report
from .__main__ import add_report
from .worker import fall_asleep

Array = np.ndarray
Call = Callable[[Array], Any]

NETWORKS = ((784, 256, 128, 10), (784, 100, 10), (20, 64, 64, 2), (784, 2048, 2048, 10))
ROWS = (1, 8, 64, 1024, 20000)
BLOCK = 0.02
"""Seconds of a block of calls."""
WARM = 0.25
"""Share of a block that is not counted."""
LONG = 1.0
"""Seconds of a call from which on a cell has one block of each entrant."""


class Cell(NamedTuple):
    """Medians in seconds of one network, number of rows and of threads, by entrant."""

    sizes: tuple[int, ...]
    rows: int
    threads: int
    seconds: dict[str, float]
    percentiles: dict[str, tuple[float, float, float]]

    @property
    def best(self) -> tuple[str, float] | None:
        """The fastest peer and its time."""
        peers = {k: v for k, v in self.seconds.items() if not k.startswith("pynn")}
        return min(peers.items(), key=lambda item: item[1], default=None)

    def ratio(self, name: str) -> str:
        """The time of the fastest peer divided by that of an entrant, and the name of the peer."""
        best = self.best
        return "–" if best is None else f"{best[1] / self.seconds[name]:.2f} ({best[0]})"


# --- The entrants ---------------------------------------------------------------------------------


def of_pynn(net: pynn.Network, threads: int) -> Iterator[tuple[str, Call]]:
    """The network, and its frozen copy, with this number of threads."""
    own = pynn.Network(net.sizes, threads=threads, pixels=False)
    own.parameters = net.parameters
    yield "pynn", own.predict_proba
    if hasattr(own, "compile"):
        yield "pynn compiled", own.compile().predict_proba


def of_onnx(net: pynn.Network, threads: int) -> Iterator[tuple[str, Call]]:
    """Sessions of ONNX Runtime: 1 thread; more threads, spinning or not."""
    import onnxruntime

    model = onnx_model(net)
    chosen = [("onnxruntime", 1, True)]
    if threads > 1:
        chosen += [(f"onnxruntime {threads}", threads, True)]
        chosen += [(f"onnxruntime {threads} idle", threads, False)]
    for name, count, spins in chosen:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def call(x: Array, run: Any = session.run) -> Any:
            return run(["p"], {"x": x})[0]

        yield name, call


def onnx_model(net: pynn.Network) -> bytes:
    """Return a network of relu layers and softmax as an ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, name = [], [], "x"
    for k, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        last = k == len(net.weights) - 1
        constants += [numpy_helper.from_array(np.ascontiguousarray(w), f"w{k}")]
        constants += [numpy_helper.from_array(np.ascontiguousarray(b), f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"z{k}"]))
        name = "p" if last else f"h{k}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{k}"], [name]))
    shapes = [("x", net.sizes[0]), ("p", net.sizes[-1])]
    x, p = (helper.make_tensor_value_info(s, TensorProto.FLOAT, ["n", n]) for s, n in shapes)
    graph = helper.make_graph(nodes, "network", [x], [p], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def of_torch(net: pynn.Network, threads: int) -> Iterator[tuple[str, Call]]:
    """PyTorch's layers, called one after the other under inference_mode."""
    import torch

    layers: list[Any] = []
    for w, b in zip(net.weights, net.biases, strict=True):
        layer = torch.nn.Linear(*w.shape)
        layer.weight.data = torch.from_numpy(w.T.copy())
        layer.bias.data = torch.from_numpy(b.copy())
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1], torch.nn.Softmax(dim=1)).eval()

    def call(x: Array) -> Array:
        with torch.inference_mode():
            out: Array = model(torch.from_numpy(x)).numpy()
        return out

    for count in sorted({1, threads}):

        def with_threads(x: Array, count: int = count) -> Array:
            if torch.get_num_threads() != count:
                torch.set_num_threads(count)
            return call(x)

        yield f"torch {count}" if count > 1 else "torch", with_threads


def of_sklearn(net: pynn.Network, threads: int) -> Iterator[tuple[str, Call]]:
    """scikit-learn's network with the same weights."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(net.sizes[1:-1], max_iter=1)
    classes = net.sizes[-1]
    # With two classes scikit-learn has one output, which takes the difference of the two.
    y = np.arange(2 * classes) % classes
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(np.zeros((len(y), net.sizes[0]), np.float32), y)
    model.coefs_ = [w.copy() for w in net.weights]
    model.intercepts_ = [b.copy() for b in net.biases]
    if classes == 2:
        model.coefs_[-1] = net.weights[-1][:, 1:] - net.weights[-1][:, :1]
        model.intercepts_[-1] = net.biases[-1][1:] - net.biases[-1][:1]
    yield "scikit-learn", model.predict_proba


# --- Measuring ------------------------------------------------------------------------------------


def measure(
    sizes: tuple[int, ...], rows: int, threads: int, rounds: int, dense: bool, peers: Sequence[str]
) -> Cell:
    """Return the medians of one cell of the table."""
    from threadpoolctl import threadpool_limits

    net = pynn.Network(sizes, seed=1, pixels=False)
    x = inputs(sizes[0], rows, dense)
    makers = {"onnxruntime": of_onnx, "torch": of_torch, "scikit-learn": of_sklearn}
    calls = dict(of_pynn(net, threads))
    with threadpool_limits(threads, "blas"):
        for name in peers:
            calls |= dict(makers[name](net, threads))
        check(calls, x)
        times: dict[str, list[float]] = {name: [] for name in calls}
        medians: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(rounds):
            for k in np.random.default_rng(turn).permutation(len(calls)):
                name, call = list(calls.items())[k]
                fall_asleep()
                found = block(call, x)
                medians[name].append(median(found))
                times[name] += found
            if max(map(min, medians.values())) > LONG:
                break
    seconds = {name: median(found) for name, found in medians.items()}
    spread = {}
    for name, found in times.items():
        half, most, slowest = np.percentile(found, (50, 95, 99)).tolist()
        spread[name] = half, most, slowest
    return Cell(sizes, rows, threads, seconds, spread)


def inputs(n_in: int, rows: int, dense: bool) -> Array:
    """Return rows of x (rows, n_in) in float32."""
    if n_in == 784 and not dense:
        _, (images, _) = mnist()
        pixels = np.resize(images.reshape(len(images), -1), (rows, n_in))
        return np.asarray(pixels / 255, np.float32)
    return np.random.default_rng(0).random((rows, n_in), np.float32)


def check(calls: dict[str, Call], x: Array) -> None:
    """Raise ValueError unless all entrants compute the same probabilities."""
    few = x[:100]
    expected = calls["pynn"](few)
    for name, call in calls.items():
        if not np.allclose(call(few), expected, atol=2e-5):
            raise ValueError(f"{name}: found other probabilities than those of pynn")


def block(call: Call, x: Array) -> list[float]:
    """Return the seconds of the calls of a block, at least one."""
    clock = time.perf_counter
    start = clock()
    call(x)
    took = clock() - start
    if took > BLOCK:
        begun = clock()
        call(x)
        return [clock() - begun]
    counted_from, end = start + WARM * BLOCK, start + BLOCK
    found = []
    now = clock()
    while now < end:
        call(x)
        before, now = now, clock()
        if before > counted_from:
            found.append(now - before)
    return found or [took]


# --- The tables -----------------------------------------------------------------------------------


def lines(cells: Sequence[Cell], threads: int) -> list[str]:
    """Return the medians of one number of threads as a table of Markdown."""
    some = [cell for cell in cells if cell.threads == threads]
    names = list(some[0].seconds)
    ours = [name for name in names if name.startswith("pynn")]
    heads = ["network", "rows", *(f"{name} [µs]" for name in names)]
    heads += [f"best peer / {name}" for name in ours]
    table = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for cell in some:
        row = ["-".join(map(str, cell.sizes)), f"{cell.rows:,}"]
        row += [micro(cell.seconds[name]) if name in cell.seconds else "–" for name in names]
        row += [cell.ratio(name) for name in ours]
        table.append(row)
    return [f"| {' | '.join(row)} |" for row in table]


def latency(cells: Sequence[Cell]) -> list[str]:
    """Return percentiles of the time of one row as a table of Markdown."""
    table = [["network", "threads", "entrant", "median [µs]", "95 % [µs]", "99 % [µs]"]]
    table.append(["---", "---:", "---", "---:", "---:", "---:"])
    for cell in cells:
        if cell.rows != min(c.rows for c in cells):
            continue
        for name, found in cell.percentiles.items():
            sizes = "-".join(map(str, cell.sizes))
            table.append([sizes, str(cell.threads), name, *map(micro, found)])
    return [f"| {' | '.join(row)} |" for row in table]


def micro(seconds: float) -> str:
    """Return seconds as microseconds with three digits."""
    us = seconds * 1e6
    return f"{us:,.{2 if us < 10 else 1 if us < 100 else 0}f}"


def head(peers: Sequence[str], rounds: int, dense: bool) -> list[str]:
    """Return machine, versions and settings."""
    info = pynn.info()
    versions = [f"numpy {np.__version__}", f"pynn {info['version']}"]
    versions += [f"ISA of pynn {info.get('isa', '–')}"]
    for name in peers:
        module = __import__("sklearn" if name == "scikit-learn" else name)
        versions.append(f"{name} {module.__version__}")
    about = {
        **report.machine(),
        "versions": ", ".join(versions),
        "settings": f"float32, medians of {rounds} blocks of {BLOCK * 1e3:g} ms, "
        + ("uniform random numbers" if dense else "MNIST in [0, 1] for 784 inputs"),
    }
    return [f"- {name}: {value}" for name, value in about.items()]


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.predict",
        description="Time predictions of pynn, ONNX Runtime, PyTorch and scikit-learn.",
    )
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="numbers of rows")
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--networks", nargs="+", help="sizes, such as 784-100-10")
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each entrant (default: 7)")
    parser.add_argument("--dense", action="store_true", help="no zeros in the inputs")
    parser.add_argument("--peers", nargs="*", default=["onnxruntime", "torch", "scikit-learn"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all medians to this file")
    add_report(parser, "write the tables into performance.md of this folder")
    return parser


def main() -> int:
    """Measure, print the tables and write them."""
    args = arguments().parse_args()
    networks = NETWORKS
    if args.networks:
        networks = tuple(tuple(map(int, name.split("-"))) for name in args.networks)
    text = head(args.peers, args.rounds, args.dense)
    print("\n".join(text), flush=True)
    cells = []
    for threads in args.threads:
        for sizes in networks:
            for rows in args.rows:
                cell = measure(sizes, rows, threads, args.rounds, args.dense, args.peers)
                cells.append(cell)
                print(lines([cell], threads)[-1], flush=True)
        text += ["", f"**{report.thread_count(threads).capitalize()}**", ""]
        text += lines(cells, threads)
    text += ["", "Latency of the fewest rows", "", *latency(cells)]
    print("\n".join(text))
    if args.json:
        args.json.write_text(json.dumps([cell._asdict() for cell in cells], indent=1))
    if args.report:
        performance.put(args.report, {"predict": text})
    return 0


if __name__ == "__main__":
    sys.exit(main())
