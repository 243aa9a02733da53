"""Many small networks: how many each library trains per second.

    python -m benchmarks.many                       all installed libraries, about ten minutes
    python -m benchmarks.many --networks 200        a faster run
    python -m benchmarks.many --entrants fit_many,processes

Each network, 20-64-64-2 with relu and Adam, trains on 1,000 rows of its own for 10 epochs in
batches of 64, with float32. Every entrant runs in a process of its own, pinned to --threads
processors. It trains a few networks before the clock starts, so that compiling and starting workers
do not count, nor does making networks before the call that trains them. Slow entrants train fewer
networks; the table shows networks per second. The entrants run in turns, --rounds times, and the
median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .worker import pin

ROOT = Path(__file__).resolve().parent.parent
SIZES = (20, 64, 64, 2)
RATE = 1e-3
BUDGET = 20.0
"""Seconds that a round of a slow entrant takes at most, about."""


class Task(NamedTuple):
    """The networks to train, and with how many threads."""

    networks: int
    rows: int
    epochs: int
    batch: int
    threads: int


def data(task: Task, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x (count, rows, 20) float32 and y (count, rows) int64 of some networks."""
    x = np.empty((count, task.rows, SIZES[0]), np.float32)
    y = np.empty((count, task.rows), np.int64)
    for k in range(count):
        rng = np.random.default_rng(first + k)
        x[k] = rng.normal(size=x.shape[1:])
        y[k] = x[k, :, 0] * x[k, :, 1] + 0.5 * x[k, :, 2] > 0
    return x, y


# --- Entrants -------------------------------------------------------------------------------------
# Each returns a function that makes ``count`` networks, and returns another one that trains them
# and returns their mean loss.

Train = Callable[[], float]
Make = Callable[[int], Train]


def _networks(count: int, first: int = 0) -> list[Any]:
    import pynn

    return [pynn.Network(SIZES, seed=first + k, threads=1) for k in range(count)]


def _settings(task: Task) -> dict[str, Any]:
    return {
        "epochs": task.epochs,
        "batch_size": task.batch,
        "learning_rate": RATE,
        "progress": False,
    }


def fit_many(task: Task) -> Make:
    """pynn.fit_many on all threads."""
    import pynn

    x, y = data(task, 0, task.networks)

    def make(count: int) -> Train:
        networks, xs, ys = _networks(count), list(x[:count]), list(y[:count])

        def train() -> float:
            found = pynn.fit_many(networks, xs, ys, threads=task.threads, **_settings(task))
            return float(np.mean([history[-1].loss for history in found]))

        return train

    return make


def loop(task: Task) -> Make:
    """A loop of pynn's fit on one thread."""
    x, y = data(task, 0, task.networks)

    def make(count: int) -> Train:
        networks = _networks(count)

        def train() -> float:
            settings = _settings(task)
            losses = [net.fit(x[k], y[k], **settings)[-1].loss for k, net in enumerate(networks)]
            return float(np.mean(losses))

        return train

    return make


def processes(task: Task) -> Make:
    """A loop of pynn's fit in as many processes as threads, without communication."""
    share = -(-task.networks // task.threads)
    one = task._replace(networks=share, threads=1)
    workers = [
        subprocess.Popen(
            command("loop", one, "--served"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for _ in range(task.threads)
    ]

    def ask(text: object) -> list[str]:
        for worker in workers:
            assert worker.stdin is not None
            print(text, file=worker.stdin, flush=True)
        return [worker.stdout.readline() for worker in workers if worker.stdout is not None]

    def make(count: int) -> Train:
        ask(-(-count // task.threads))
        return lambda: float(np.mean([float(line) for line in ask("train")]))

    return make


def scikit_learn(task: Task) -> Make:
    """scikit-learn's MLPClassifier in joblib's processes."""
    import joblib
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, y = data(task, 0, task.networks)

    def one(x: np.ndarray, y: np.ndarray) -> float:
        import warnings

        warnings.simplefilter("ignore", ConvergenceWarning)
        net = MLPClassifier(
            SIZES[1:-1],
            max_iter=task.epochs,
            batch_size=task.batch,
            learning_rate_init=RATE,
            n_iter_no_change=task.epochs + 1,
            alpha=0,
        )
        return float(net.fit(x, y).loss_)

    pool = joblib.Parallel(n_jobs=task.threads)

    def train(count: int) -> float:
        return float(np.mean(pool(joblib.delayed(one)(x[k], y[k]) for k in range(count))))

    return lambda count: lambda: train(count)


def _jax_fit(task: Task) -> Any:
    """Return a function that trains one network in JAX, and its initial parameters."""
    import jax
    import jax.numpy as jnp

    batches, rest = divmod(task.rows, task.batch)

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        for k, (w, b) in enumerate(params):
            x = x @ w + b
            x = jnp.maximum(x, 0) if k < len(params) - 1 else x
        return -jax.nn.log_softmax(x)[jnp.arange(len(y)), y].mean()

    def step(state: Any, rows: Any, x: Any, y: Any) -> tuple[Any, Any]:
        params, m, v, t = state
        loss, g = jax.value_and_grad(loss_of)(params, x[rows], y[rows])
        t = t + 1
        tree = jax.tree_util.tree_map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        params = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), params, m, v)
        return (params, m, v, t), loss

    def fit(params: Any, key: Any, x: Any, y: Any) -> Any:
        zeros = jax.tree_util.tree_map(jnp.zeros_like, params)

        def epoch(state: Any, key: Any) -> tuple[Any, Any]:
            order = jax.random.permutation(key, task.rows)
            whole = order[: batches * task.batch].reshape(batches, task.batch)
            state, losses = jax.lax.scan(lambda s, rows: step(s, rows, x, y), state, whole)
            if rest:
                state, _ = step(state, order[batches * task.batch :], x, y)
            return state, losses.mean()

        keys = jax.random.split(key, task.epochs)
        (params, *_), losses = jax.lax.scan(epoch, (params, zeros, zeros, 0.0), keys)
        return params, losses[-1]

    rng = np.random.default_rng(1)
    initial = [
        (
            (rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32),
            np.zeros(b, np.float32),
        )
        for a, b in pairwise(SIZES)
    ]
    return fit, initial


def jax_loop(task: Task) -> Make:
    """A loop of JAX, with one compiled function for a whole training."""
    import jax

    fit, initial = _jax_fit(task)
    fit = jax.jit(fit)
    x, y = data(task, 0, task.networks)
    keys = jax.random.split(jax.random.PRNGKey(0), task.networks)

    def train(count: int) -> float:
        losses = [fit(initial, keys[k], x[k], y[k])[1] for k in range(count)]
        return float(np.mean(jax.block_until_ready(losses)))

    return lambda count: lambda: train(count)


def jax_vmap(task: Task) -> Make:
    """JAX's vmap over all networks, compiled."""
    import jax
    import jax.numpy as jnp

    fit, initial = _jax_fit(task)
    fit = jax.jit(jax.vmap(fit))
    x, y = data(task, 0, task.networks)
    keys = jax.random.split(jax.random.PRNGKey(0), task.networks)

    def make(count: int) -> Train:
        params = jax.tree_util.tree_map(lambda p: jnp.broadcast_to(p, (count, *p.shape)), initial)
        given = keys[:count], x[:count], y[:count]
        return lambda: float(fit(params, *given)[1].mean())

    return make


def torch_loop(task: Task) -> Make:
    """A loop of PyTorch's modules and Adam on one thread."""
    import torch

    torch.set_num_threads(1)
    x, y = (torch.from_numpy(a) for a in data(task, 0, task.networks))

    def one(x: Any, y: Any) -> float:
        layers: list[Any] = []
        for a, b in pairwise(SIZES):
            layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
        for _ in range(task.epochs):
            total = 0.0
            for rows in torch.randperm(task.rows).split(task.batch):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(rows)
        return total / task.rows

    return lambda count: lambda: float(np.mean([one(x[k], y[k]) for k in range(count)]))


def torch_vmap(task: Task) -> Make:
    """PyTorch's torch.func.vmap over all networks."""
    import torch
    from torch.func import grad_and_value, vmap

    torch.set_num_threads(task.threads)
    x, y = (torch.from_numpy(a) for a in data(task, 0, task.networks))

    def loss_of(params: list[Any], x: Any, y: Any) -> Any:
        for k in range(0, len(params), 2):
            x = x @ params[k] + params[k + 1]
            x = x.relu() if k < len(params) - 2 else x
        return torch.nn.functional.cross_entropy(x, y)

    step = vmap(grad_and_value(loss_of))

    def train(count: int) -> float:
        params = []
        for a, b in pairwise(SIZES):
            params += [torch.randn(count, a, b) * (2 / a) ** 0.5, torch.zeros(count, b)]
        optimizer = torch.optim.Adam(params, lr=RATE, fused=True)
        each = torch.arange(count)[:, None]
        for _ in range(task.epochs):
            total = 0.0
            order = torch.rand(count, task.rows).argsort(dim=1)
            for rows in order.split(task.batch, dim=1):
                gradients, losses = step(params, x[each, rows], y[each, rows])
                for p, g in zip(params, gradients, strict=True):
                    p.grad = g
                optimizer.step()
                total += float(losses.mean()) * rows.shape[1]
        return total / task.rows

    return lambda count: lambda: train(count)


ENTRANTS: dict[str, Callable[[Task], Make]] = {
    "fit_many": fit_many,
    "processes": processes,
    "loop": loop,
    "scikit_learn": scikit_learn,
    "jax_vmap": jax_vmap,
    "jax_loop": jax_loop,
    "torch_vmap": torch_vmap,
    "torch_loop": torch_loop,
}
WHOLE = ("jax_vmap", "torch_vmap")
"""Entrants that train all networks in one call, whose shape must not change after compiling."""

# --- Running --------------------------------------------------------------------------------------


def command(name: str, task: Task, *more: str) -> list[str]:
    """Return the command of the process of an entrant."""
    return [sys.executable, "-m", "benchmarks.many", "--entrant", name, json.dumps(task), *more]


def environment() -> dict[str, str]:
    """Return the environment of an entrant: BLAS uses one thread in each process."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": path}


def measure(name: str, task: Task) -> dict[str, float]:
    """Train with an entrant in this process; return networks per second, and the last loss."""
    # The processes of pynn share the processors, as threads do.
    pin(task.threads)
    whole = name in WHOLE
    if whole:
        task = task._replace(networks=min(task.networks, 200))
    make = ENTRANTS[name](task)
    few = task.networks if whole else min(task.networks, 2 * task.threads)
    make(few)()
    pace = few / _timed(make(few))[0]
    count = task.networks if whole else int(min(task.networks, max(few, pace * BUDGET)))
    seconds, loss = _timed(make(count))
    return {"rate": count / seconds, "loss": loss, "networks": count}


def _timed(train: Train) -> tuple[float, float]:
    began = time.perf_counter()
    loss = train()
    return time.perf_counter() - began, loss


def serve(name: str, task: Task) -> None:
    """Make as many networks as each line of the input says, and train them after the next line."""
    make = ENTRANTS[name](task)
    for line in sys.stdin:
        train = make(int(line))
        print("ready", flush=True)
        sys.stdin.readline()
        print(train(), flush=True)


def table(rates: dict[str, list[dict[str, float]]]) -> str:
    """Return the results as a Markdown table."""
    first = median(found["rate"] for found in rates["fit_many"]) if "fit_many" in rates else None
    lines = [
        "| entrant | networks/s | fit_many is faster by | last loss |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, found in rates.items():
        rate = median(one["rate"] for one in found)
        factor = "" if first is None else f"{first / rate:.2f}"
        text = (ENTRANTS[name].__doc__ or name).rstrip(".")
        lines.append(f"| {text} | {rate:.1f} | {factor} | {found[-1]['loss']:.3f} |")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; return 1 if an entrant failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many", description="Time the training of many small networks."
    )
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entrants", default=",".join(ENTRANTS), help="(default: all)")
    parser.add_argument("--entrant", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--served", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.entrant:
        name, task = args.entrant[0], Task(*json.loads(args.entrant[1]))
        if args.served:
            serve(name, task)
        else:
            print(json.dumps(measure(name, task)))
        return 0
    task = Task(args.networks, args.rows, args.epochs, args.batch, args.threads)
    rates: dict[str, list[dict[str, float]]] = {}
    missing: dict[str, str] = {}
    for _ in range(args.rounds):
        for name in args.entrants.split(","):
            if name in missing:
                continue
            done = subprocess.run(
                command(name, task), env=environment(), capture_output=True, text=True, check=False
            )
            if done.returncode:
                missing[name] = (done.stderr.strip().splitlines() or ["no output"])[-1]
            else:
                found = json.loads(done.stdout.splitlines()[-1])
                rates.setdefault(name, []).append(found)
                print(f"{name}: {found['rate']:.1f} networks/s", file=sys.stderr)
    print(table(rates))
    for name, reason in missing.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return int(any("ModuleNotFoundError" not in reason for reason in missing.values()))


if __name__ == "__main__":
    sys.exit(main())
