"""Training steps of small networks from Python: pynn's tapes, PyTorch and JAX on one thread.

Every step is a forward pass, the mean squared error, a backward pass and Adam, on one batch;
"float64 gradient" leaves out the update. The libraries take turns of ten steps, and the table has
the median time of each:

    python -m benchmarks.small
    python -m benchmarks.small --compiled    # with torch.compile, which takes minutes

Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import pynn

Array = np.ndarray
Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A network and its batch."""

    sizes: tuple[int, ...]
    rows: int
    activation: str
    dtype: str = "float32"
    update: bool = True

    def __str__(self) -> str:
        what = "" if self.update else ", float64 gradient"
        return f"{'-'.join(map(str, self.sizes))} {self.activation}, {self.rows} rows{what}"

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        shapes = (self.rows, self.sizes[0]), (self.rows, self.sizes[-1])
        x, y = (rng.normal(size=shape).astype(self.dtype) for shape in shapes)
        return x, y


CASES = [
    Case((4, 32, 16, 4), 10_000, "tanh"),
    Case((24, 8, 2), 200, "tanh", "float64", update=False),
    Case((10, 46, 46, 10), 128, "relu"),
    Case((17, 64, 64, 6), 64, "relu"),
    Case((23, 256, 256, 1), 256, "relu"),
    Case((54, 100, 100, 7), 100, "relu"),
]


def network(case: Case) -> pynn.Network:
    return pynn.Network(
        case.sizes, activation=case.activation, loss="mse", dtype=case.dtype, threads=1, seed=0
    )


def tape_step(case: Case) -> Step:
    """Forward, loss, backward and step of a Network."""
    net, (x, y) = network(case), case.data()
    tape = net.forward(x)

    def step() -> None:
        net.forward(x, training=True, tape=tape)
        _, d_logits = tape.loss(y)
        _, gradient = tape.backward(d_logits=d_logits, inputs=False)
        if case.update:
            net.step(gradient)

    return step


def torch_layers(case: Case) -> Any:
    from torch import nn

    kind = {"tanh": nn.Tanh, "relu": nn.ReLU}[case.activation]
    layers: list[Any] = []
    for m, n in zip(case.sizes, case.sizes[1:]):
        layers += [nn.Linear(m, n), kind()]
    return nn.Sequential(*layers[:-1])


def torch_step(case: Case, model: Any, compiled: bool = False) -> Step:
    """The step of a module with PyTorch's mean squared error and fused Adam."""
    import torch

    torch.set_num_threads(1)
    model = model.to(getattr(torch, case.dtype))
    x, y = map(torch.from_numpy, case.data())
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def loss_of(x: Any, y: Any) -> Any:
        return torch.nn.functional.mse_loss(model(x), y)

    loss = torch.compile(loss_of) if compiled else loss_of

    def step() -> None:
        optimizer.zero_grad()
        loss(x, y).backward()
        if case.update:
            optimizer.step()

    return step


def module_step(case: Case) -> Step:
    """The same with ``pynn.torch.MLP`` in place of the layers."""
    from pynn.torch import MLP

    return torch_step(case, MLP(case.sizes, case.activation, threads=1))


def jax_step(case: Case) -> Step:
    """The whole step in one jit, with Adam written out."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", case.dtype == "float64")
    net, (x, y) = network(case), map(jnp.asarray, case.data())
    activate = {"tanh": jnp.tanh, "relu": jax.nn.relu}[case.activation]
    layers = [(jnp.asarray(w), jnp.asarray(b)) for w, b in zip(net.weights, net.biases)]
    zeros = jax.tree_util.tree_map(jnp.zeros_like, layers)
    state: list[Any] = [layers, zeros, zeros, jnp.zeros((), case.dtype)]

    def loss(layers: Any, x: Any, y: Any) -> Any:
        for k, (w, b) in enumerate(layers):
            x = x @ w + b
            x = activate(x) if k < len(layers) - 1 else x
        return ((x - y) ** 2).mean()

    def adam(layers: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        g, t, tree = jax.grad(loss)(layers, x, y), t + 1, jax.tree_util.tree_map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c, d = 1 - 0.9**t, 1 - 0.999**t
        return (
            tree(lambda w, m, v: w - 1e-3 * (m / c) / (jnp.sqrt(v / d) + 1e-8), layers, m, v),
            *(m, v, t),
        )

    gradient, update = jax.jit(jax.grad(loss)), jax.jit(adam)

    def step() -> None:
        if case.update:
            state[:] = update(*state, x, y)
            jax.block_until_ready(state)
        else:
            jax.block_until_ready(gradient(layers, x, y))

    return step


def contestants(compiled: bool) -> dict[str, Callable[[Case], Step]]:
    """The libraries that are installed."""
    found: dict[str, Callable[[Case], Step]] = {"pynn": tape_step}
    if importlib.util.find_spec("torch") is not None:
        found["pynn.torch.MLP"] = module_step
        found["PyTorch"] = lambda case: torch_step(case, torch_layers(case))
        if compiled:
            found["torch.compile"] = lambda case: torch_step(case, torch_layers(case), True)
    if importlib.util.find_spec("jax") is not None:
        found["JAX"] = jax_step
    return found


def measure(case: Case, makers: dict[str, Callable[[Case], Step]], seconds: float) -> list[float]:
    """Return the median seconds of a step for each library, which take turns of 10 steps."""
    steps = [make(case) for make in makers.values()]
    times: list[list[float]] = [[] for _ in steps]
    for step in steps:
        for _ in range(5):
            step()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not times[-1]:
        for step, own in zip(steps, times):
            for _ in range(10):
                began = time.perf_counter()
                step()
                own.append(time.perf_counter() - began)
    return [statistics.median(own) for own in times]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare training steps of small networks.")
    parser.add_argument("--compiled", action="store_true", help="include torch.compile")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each network")
    chosen = parser.parse_args(arguments)
    # Read when JAX is imported: one thread, as the others have.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    makers = contestants(chosen.compiled)
    print("| µs per step, one thread | " + " | ".join(makers) + " |")
    print("| --- |" + " ---: |" * len(makers))
    for case in CASES:
        found = measure(case, makers, chosen.seconds)
        print(f"| {case} | " + " | ".join(f"{s * 1e6:.1f}" for s in found) + " |", flush=True)


if __name__ == "__main__":
    main()
