"""A recipe of ``pynn train`` in PyTorch or JAX: one training in a separate process.

    python -m benchmarks.recipe_peers torch FOLDER 2

It reads the recipe from the folder that ``time_to_accuracy`` has written: pixels and labels,
initial weights, and the learning rate of every step. It imports nothing of pynn and prints one line
of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


class Recipe:
    """Data and settings; ``x`` (rows, features) float32 in [0, 1], ``y`` (rows,) int64."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        self.epochs: int = about["epochs"]
        self.batch_size: int = about["batch_size"]
        self.activation: str = about["activation"]
        self.betas: tuple[float, float] = (about["beta1"], about["beta2"])
        self.epsilon: float = about["epsilon"]
        self.smoothing: float = about["label_smoothing"]
        self.shuffle: bool = about["shuffle"]
        self.seed: int = about["seed"]
        self.x, self.x_test = (_floats(folder / name) for name in ("x.npy", "x_test.npy"))
        self.y, self.y_test = (np.load(folder / name) for name in ("y.npy", "y_test.npy"))
        count = about["layers"]
        self.weights = [np.load(folder / f"w{k}.npy") for k in range(count)]
        self.biases = [np.load(folder / f"b{k}.npy") for k in range(count)]
        self.rates = np.load(folder / "rates.npy").astype(np.float32)
        self.steps = -(-len(self.x) // self.batch_size)


def _floats(path: Path) -> np.ndarray:
    pixels = np.load(path)
    scaled = pixels.reshape(len(pixels), -1).astype(np.float32)
    scaled /= 255
    return scaled


class PyTorch:
    """Eager mode, fused Adam, batches gathered from one tensor in memory."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        import torch

        self.torch: Any = torch
        nn: Any = torch.nn
        self.recipe = recipe
        torch.set_num_threads(threads)
        torch.manual_seed(recipe.seed)
        layers: list[Any] = []
        for w, b in zip(recipe.weights, recipe.biases, strict=True):
            linear = nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w).T)
                linear.bias.copy_(torch.from_numpy(b))
            layers += [linear, {"relu": nn.ReLU, "gelu": nn.GELU}[recipe.activation]()]
        self.net = nn.Sequential(*layers[:-1])
        self.x, self.y = torch.from_numpy(recipe.x), torch.from_numpy(recipe.y)
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), betas=recipe.betas, eps=recipe.epsilon, fused=True
        )
        self.compiling = 0.0

    def version(self) -> str:
        torch = self.torch
        return f"PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"

    def train(self) -> None:
        torch, recipe = self.torch, self.recipe
        rates = iter(recipe.rates.tolist())
        (group,) = self.optimizer.param_groups
        for _ in range(recipe.epochs):
            rows = len(self.x)
            order = torch.randperm(rows) if recipe.shuffle else torch.arange(rows)
            for batch in order.split(recipe.batch_size):
                group["lr"] = next(rates)
                x, y = self.x.index_select(0, batch), self.y.index_select(0, batch)
                self.optimizer.zero_grad(set_to_none=True)
                self.loss(self.net(x), y).backward()
                self.optimizer.step()

    def outputs(self, x: np.ndarray) -> np.ndarray:
        with self.torch.no_grad():
            found: np.ndarray = self.net(self.torch.from_numpy(x)).numpy()
        return found


class JAX:
    """An epoch as one compiled function: a scan over the batches, state updated in place."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        import jax

        self.jax: Any = jax
        self.recipe = recipe
        self.rng = np.random.default_rng(recipe.seed)
        classes = recipe.biases[-1].size
        soft = np.eye(classes, dtype=np.float32)[recipe.y] * (1 - recipe.smoothing)
        soft += recipe.smoothing / classes
        self.x, self.y = jax.device_put(recipe.x), jax.device_put(soft.astype(np.float32))
        weights = list(zip(recipe.weights, recipe.biases, strict=True))
        moments = jax.tree.map(np.zeros_like, (weights, weights))
        self.state = jax.device_put((weights, moments, np.zeros((), np.float32)))
        start = time.perf_counter()
        rates = recipe.rates[: recipe.steps]
        compiled = jax.jit(self._epoch, donate_argnums=0)
        self.run = compiled.lower(self.state, self._order(), rates, self.x, self.y).compile()
        self.compiling = time.perf_counter() - start

    def version(self) -> str:
        return f"JAX {self.jax.__version__}"

    def train(self) -> None:
        for k in range(self.recipe.epochs):
            rates = self.recipe.rates[k * self.recipe.steps : (k + 1) * self.recipe.steps]
            self.state = self.run(self.state, self._order(), rates, self.x, self.y)
        self.jax.block_until_ready(self.state)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.jax.jit(self._forward)(self.state[0], x))

    def _order(self) -> np.ndarray:
        # NumPy shuffles faster than jax.random.permutation, which sorts random keys.
        rows = len(self.recipe.x)
        order = self.rng.permutation(rows) if self.recipe.shuffle else np.arange(rows)
        return order.astype(np.int32)

    def _epoch(self, state: Any, order: Any, rates: Any, x: Any, y: Any) -> Any:
        lax, jnp = self.jax.lax, self.jax.numpy
        rows, size = len(self.recipe.x), self.recipe.batch_size

        def step(state: Any, now: Any) -> Any:
            batch, rate = now
            # Gathering here is faster than gathering all rows before the scan.
            xb, yb = (jnp.take(a, batch, axis=0, mode="clip") for a in (x, y))
            return self._step(state, rate, xb, yb), None

        whole = rows // size
        batches = order[: whole * size].reshape(whole, size)
        state, _ = lax.scan(step, state, (batches, rates[:whole]))
        if rows % size:
            state, _ = step(state, (order[whole * size :], rates[whole]))
        return state

    def _step(self, state: Any, rate: Any, x: Any, y: Any) -> Any:
        jnp, tree = self.jax.numpy, self.jax.tree
        weights, moments, t = state
        gradient = self.jax.grad(self._loss)(weights, x, y)
        (beta1, beta2), t = self.recipe.betas, t + 1
        m = tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, moments[0], gradient)
        v = tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, moments[1], gradient)
        scale, rate = jnp.sqrt(1 / (1 - beta2**t)), rate / (1 - beta1**t)
        epsilon = self.recipe.epsilon
        weights = tree.map(
            lambda w, m, v: w - rate * m / (jnp.sqrt(v) * scale + epsilon), weights, m, v
        )
        return weights, (m, v), t

    def _loss(self, weights: Any, x: Any, y: Any) -> Any:
        z = self._forward(weights, x)
        return -self.jax.numpy.mean(self.jax.numpy.sum(y * self.jax.nn.log_softmax(z), axis=1))

    def _forward(self, weights: Any, x: Any) -> Any:
        nn = self.jax.nn
        *hidden, (w, b) = weights
        for wk, bk in hidden:
            z = x @ wk + bk
            x = nn.relu(z) if self.recipe.activation == "relu" else nn.gelu(z, approximate=False)
        return x @ w + b


def main() -> None:
    """Train once; print the seconds, the test accuracy and the versions.

    The optional fourth argument names a file for the outputs of the test rows.
    """
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    entrant = {"torch": PyTorch, "jax": JAX}[name](Recipe(folder), threads)
    start = time.perf_counter()
    entrant.train()
    seconds = time.perf_counter() - start
    out = entrant.outputs(entrant.recipe.x_test)
    if len(sys.argv) > 4:
        np.save(sys.argv[4], out)
    right = float((out.argmax(axis=1) == entrant.recipe.y_test).mean())
    answer = {
        "training": seconds,
        "compiling": entrant.compiling,
        "accuracy": right,
        "version": entrant.version(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
