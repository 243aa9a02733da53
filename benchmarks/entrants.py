"""The entrants: each library with its strongest settings, with the same two methods.

``setup(case, data, threads, dtype)`` prepares the training and is not timed. ``epoch()`` trains on
every row once, in a new random order, including the short last batch, and returns the mean loss,
each row's taken before the update with its batch. Peers have their floats in memory before the
clock starts. A library is imported when its entrant is created, in the worker that has set the
number of threads.
"""

from __future__ import annotations

import gc
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .cases import Case, Data, first_weights


class Unsupported(Exception):
    """The library does not support the network or the training."""


def _only_full(case: Case, library: str) -> None:
    if case.precision != "full":
        raise Unsupported(f"{library} has no {case.precision}")


class Entrant(Protocol):
    """Methods of an entrant. Creating one raises ImportError if the library is missing."""

    def versions(self) -> dict[str, str]:
        """Return the names and versions of the libraries used."""
        ...

    def setup(self, case: Case, data: Data, threads: int, dtype: str) -> None:
        """Prepare a case; raise Unsupported if the library does not support it."""
        ...

    def epoch(self) -> float:
        """Train for one epoch and return its mean loss."""
        ...


class NumPy:
    """Parameters, gradients and moments as flat vectors; an epoch allocates only its order."""

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "BLAS of NumPy": _blas_of_numpy()}

    def setup(self, case: Case, data: Data, threads: int, dtype: str) -> None:
        _only_full(case, "NumPy")
        if case.activation not in _ACTIVATE:
            raise Unsupported(f"NumPy has no {case.activation}")
        self.case = case
        self.x, self.y = data.features(dtype), data.one_hot(case.sizes[-1], dtype)
        self.rng = np.random.default_rng(2)
        shapes = [shape for n_in, n_out in pairwise(case.sizes) for shape in ((n_in, n_out), n_out)]
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
        self.flat, self.gradient, self.m, self.v = np.zeros((4, ends[-1]), dtype)
        views = [
            [
                part.reshape(shape)
                for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)
            ]
            for flat in (self.flat, self.gradient)
        ]
        (self.w, self.b), (self.dw, self.db) = [(v[::2], v[1::2]) for v in views]
        for w, first in zip(self.w, first_weights(case, dtype), strict=True):
            w[...] = first
        self.steps = 0
        sizes = {min(case.batch_size, case.rows), case.rows % case.batch_size} - {0}
        self.batches = {rows: _Batch(case, rows, dtype) for rows in sizes}
        if case.full_batch:
            batch = self.batches[case.rows]
            batch.a[0], batch.y = self.x, self.y

    def epoch(self) -> float:
        case = self.case
        if case.full_batch:
            return self._step(self.batches[case.rows]) / case.rows
        order = self.rng.permutation(case.rows)
        loss = 0.0
        for start in range(0, case.rows, case.batch_size):
            index = order[start : start + case.batch_size]
            batch = self.batches[len(index)]
            # With mode="clip" NumPy writes directly into `out`.
            np.take(self.x, index, axis=0, out=batch.a[0], mode="clip")
            np.take(self.y, index, axis=0, out=batch.y, mode="clip")
            loss += self._step(batch)
        return loss / case.rows

    def _step(self, batch: _Batch) -> float:
        """Train on one batch and return the sum of its losses."""
        a, d, layers = batch.a, batch.d, range(len(self.w))
        for k in layers:
            np.dot(a[k], self.w[k], out=a[k + 1])
            np.add(a[k + 1], self.b[k], out=a[k + 1])
            if k < layers[-1]:
                _ACTIVATE[self.case.activation](a[k + 1])
        loss = _LOSS[self.case.loss](batch)
        for k in reversed(layers):
            np.dot(a[k].T, d[k + 1], out=self.dw[k])
            np.dot(batch.ones, d[k + 1], out=self.db[k])
            if k:
                np.dot(d[k + 1], self.w[k].T, out=d[k])
                _TIMES_SLOPE[self.case.activation](d[k], a[k], batch.spare[k])
        if self.case.optimizer == "adam":
            self.steps += 1
            _adam(self.gradient, self.m, self.v, self.case.learning_rate, self.steps)
        else:
            self.gradient *= self.case.learning_rate
        self.flat -= self.gradient
        return loss


class _Batch:
    """The arrays of a step: activations, their errors, and space for intermediate results."""

    def __init__(self, case: Case, rows: int, dtype: str) -> None:
        self.a, self.d, self.spare = (
            [np.empty((rows, n), dtype) for n in case.sizes] for _ in range(3)
        )
        self.y = np.empty((rows, case.sizes[-1]), dtype)
        self.column = np.empty((rows, 1), dtype)
        self.ones = np.ones(rows, dtype)


def _cross_entropy(batch: _Batch) -> float:
    out, delta, column = batch.a[-1], batch.d[-1], batch.column
    np.subtract(out, np.maximum.reduce(out, axis=1, keepdims=True, out=column), out=out)
    np.exp(out, out=delta)
    np.divide(delta, np.add.reduce(delta, axis=1, keepdims=True, out=column), out=delta)
    loss = np.log(column, out=column).sum() - np.vdot(out, batch.y)
    np.subtract(delta, batch.y, out=delta)
    np.multiply(delta, 1 / len(out), out=delta)
    return float(loss)


def _mse(batch: _Batch) -> float:
    out, delta = batch.a[-1], batch.d[-1]
    _sigmoid(out)
    np.subtract(out, batch.y, out=delta)
    loss = np.vdot(delta, delta) / out.shape[1]
    _times_sigmoid_slope(delta, out, batch.spare[-1])
    np.multiply(delta, 2 / out.size, out=delta)
    return float(loss)


def _adam(g: np.ndarray, m: np.ndarray, v: np.ndarray, rate: float, step: int) -> None:
    """Replace the gradient by the step that is subtracted from the parameters.

    m and v are stored divided by 1 - beta, which saves a pass over each.
    """
    m *= 0.9
    m += g
    v *= 0.999
    np.multiply(g, g, out=g)
    v += g
    scale = float(np.sqrt((1 - 0.999) / (1 - 0.999**step)))
    np.sqrt(v, out=g)
    g += 1e-8 / scale
    np.divide(m, g, out=g)
    g *= rate * (1 - 0.9) / (1 - 0.9**step) / scale


def _sigmoid(z: np.ndarray) -> None:
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)


def _relu(z: np.ndarray) -> None:
    np.maximum(z, 0, out=z)


def _times_sigmoid_slope(delta: np.ndarray, a: np.ndarray, spare: np.ndarray) -> None:
    np.subtract(1, a, out=spare)
    spare *= a
    delta *= spare


def _times_relu_slope(delta: np.ndarray, a: np.ndarray, spare: np.ndarray) -> None:
    # Multiplying by zeros and ones as floats is faster than a boolean mask.
    np.greater(a, 0, out=spare)
    delta *= spare


def _tanh(z: np.ndarray) -> None:
    np.tanh(z, out=z)


def _times_tanh_slope(delta: np.ndarray, a: np.ndarray, spare: np.ndarray) -> None:
    np.multiply(a, a, out=spare)
    np.subtract(1, spare, out=spare)
    delta *= spare


_ACTIVATE = {"sigmoid": _sigmoid, "relu": _relu, "tanh": _tanh}
_TIMES_SLOPE = {
    "sigmoid": _times_sigmoid_slope,
    "relu": _times_relu_slope,
    "tanh": _times_tanh_slope,
}
_LOSS = {"cross_entropy": _cross_entropy, "mse": _mse}


def _blas_of_numpy() -> str:
    try:
        import threadpoolctl
    except ImportError:
        blas: Any = np.show_config(mode="dicts")
        blas = blas["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']} (install threadpoolctl to see the kernel)"
    found = [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]
    return ", ".join(
        f"{lib['internal_api']} {lib['version']}, {lib.get('architecture', 'unknown')} kernels"
        for lib in found
    )


class ScikitLearn:
    """``MLPClassifier.partial_fit``, which trains for one epoch, without the checks for NaN."""

    def __init__(self) -> None:
        import sklearn
        import sklearn.neural_network

        sklearn.set_config(assume_finite=True)
        self.sklearn: Any = sklearn

    def versions(self) -> dict[str, str]:
        return {"scikit-learn": self.sklearn.__version__}

    def setup(self, case: Case, data: Data, threads: int, dtype: str) -> None:
        _only_full(case, "scikit-learn")
        if case.loss == "mse":
            raise Unsupported("MLPClassifier has no mean squared error behind a sigmoid")
        self.x, self.y = data.features(dtype), data.y
        self.model = self.sklearn.neural_network.MLPClassifier(
            hidden_layer_sizes=case.sizes[1:-1],
            activation={"relu": "relu", "sigmoid": "logistic"}[case.activation],
            solver=case.optimizer,
            alpha=0.0,
            batch_size=case.batch_size,
            learning_rate_init=case.learning_rate,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=not case.full_batch,
            tol=0.0,
            max_iter=1,
            random_state=np.random.RandomState(2),
        )
        classes = np.arange(case.sizes[-1])
        # One step creates the arrays, which then get the common initial weights.
        self.model.set_params(batch_size=1).partial_fit(self.x[:1], self.y[:1], classes=classes)
        self.model.set_params(batch_size=case.batch_size)
        weights = first_weights(case, dtype)
        if len(classes) == 2:  # The model has one output, the difference of the two.
            weights[-1] = weights[-1][:, 1:] - weights[-1][:, :1]
        for mine, first in zip(self.model.coefs_, weights, strict=True):
            mine[...] = first
        for bias in self.model.intercepts_:
            bias[...] = 0
        del self.model._optimizer  # A new optimizer is created, without the moments of that step.

    def epoch(self) -> float:
        self.model.partial_fit(self.x, self.y)
        return float(self.model.loss_)


_MODULES = {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh", "gelu": "GELU"}
"""Activations in torch.nn."""


class PyTorch:
    """Eager mode, fused Adam, batches gathered from one tensor in memory; bf16 by autocast."""

    def __init__(self) -> None:
        import torch

        self.torch: Any = torch

    def versions(self) -> dict[str, str]:
        isa = self.torch.backends.cpu.get_cpu_capability()
        return {"torch": f"{self.torch.__version__} ({isa})"}

    def setup(self, case: Case, data: Data, threads: int, dtype: str) -> None:
        torch, nn = self.torch, self.torch.nn
        torch.set_num_threads(threads)
        torch.manual_seed(2)
        self.case = case
        self.x = torch.from_numpy(data.features(dtype))
        if case.precision == "bf16":  # This saves autocast the rounding in every step.
            self.x = self.x.to(torch.bfloat16)
        layers: list[Any] = []
        for first in first_weights(case, dtype):
            linear = nn.Linear(*first.shape, dtype=getattr(torch, dtype))
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(first).T)
                linear.bias.zero_()
            layers += [linear, getattr(nn, _MODULES[case.activation])()]
        if case.loss == "mse":
            self.loss = nn.functional.mse_loss
            self.y = torch.from_numpy(data.one_hot(case.sizes[-1], dtype))
        else:
            layers.pop()
            self.loss = nn.functional.cross_entropy
            self.y = torch.from_numpy(data.y)
        self.net = nn.Sequential(*layers)
        parameters, rate = self.net.parameters(), case.learning_rate
        if case.optimizer == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)
        else:  # For plain SGD the simplest loop is faster than a fused one.
            self.optimizer = torch.optim.SGD(parameters, lr=rate, foreach=False, fused=False)

    def epoch(self) -> float:
        if self.case.full_batch:
            return float(self._step(self.x, self.y))
        losses, sizes = [], []
        for batch in self.torch.randperm(self.case.rows).split(self.case.batch_size):
            x, y = self.x.index_select(0, batch), self.y.index_select(0, batch)
            losses.append(self._step(x, y))  # Converted at the end: .item() costs time.
            sizes.append(len(batch))
        return float(np.average(self.torch.stack(losses).numpy(), weights=sizes))

    def _step(self, x: Any, y: Any) -> Any:
        bf16 = self.case.precision == "bf16"
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=bf16):
            z = self.net(x)
        loss = self.loss(z.float() if bf16 else z, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class JAX:
    """The whole epoch as one compiled function: a scan over batches, state updated in place."""

    def __init__(self) -> None:
        import jax

        self.jax: Any = jax

    def versions(self) -> dict[str, str]:
        return {"jax": self.jax.__version__, "jaxlib": self.jax.lib.__version__}

    def setup(self, case: Case, data: Data, threads: int, dtype: str) -> None:
        jax = self.jax
        jax.config.update("jax_enable_x64", dtype == "float64")
        self.case = case
        self.rng = np.random.default_rng(2)
        self.x = jax.device_put(data.features(dtype))
        self.y = jax.device_put(data.one_hot(case.sizes[-1], dtype))
        weights = [(w, np.zeros(w.shape[1], dtype)) for w in first_weights(case, dtype)]
        moments = (
            jax.tree.map(np.zeros_like, (weights, weights)) if case.optimizer == "adam" else ()
        )
        self.state = jax.device_put((weights, moments, np.zeros((), dtype)))
        compiled = jax.jit(self._epoch, donate_argnums=0)
        self.run = compiled.lower(self.state, self._order(), self.x, self.y).compile()

    def epoch(self) -> float:
        self.state, loss = self.run(self.state, self._order(), self.x, self.y)
        self.jax.block_until_ready(self.state)
        return float(loss)

    def _order(self) -> np.ndarray:
        # NumPy shuffles faster than jax.random.permutation, which sorts random keys.
        return self.rng.permutation(self.case.rows).astype(np.int32)

    def _epoch(self, state: Any, order: Any, x: Any, y: Any) -> Any:
        lax, jnp = self.jax.lax, self.jax.numpy
        rows, size = self.case.rows, self.case.batch_size
        if self.case.full_batch:
            return self._step(state, x, y)

        def step(state: Any, batch: Any) -> Any:
            # Gathering here is faster than gathering all rows before the scan.
            return self._step(state, *(jnp.take(a, batch, axis=0, mode="clip") for a in (x, y)))

        whole = rows - rows % size
        state, losses = lax.scan(step, state, order[:whole].reshape(-1, size))
        total = losses.sum() * size
        if whole < rows:
            state, loss = step(state, order[whole:])
            total += loss * (rows - whole)
        return state, total / rows

    def _step(self, state: Any, x: Any, y: Any) -> Any:
        jnp, tree = self.jax.numpy, self.jax.tree
        weights, moments, t = state
        loss, gradient = self.jax.value_and_grad(self._loss)(weights, x, y)
        t, rate = t + 1, self.case.learning_rate
        if self.case.optimizer == "sgd":
            return (tree.map(lambda w, g: w - rate * g, weights, gradient), moments, t), loss
        m = tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradient)
        v = tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradient)
        scale, rate = jnp.sqrt(1 / (1 - 0.999**t)), rate / (1 - 0.9**t)
        weights = tree.map(
            lambda w, m, v: w - rate * m / (jnp.sqrt(v) * scale + 1e-8), weights, m, v
        )
        return (weights, (m, v), t), loss

    def _product(self, x: Any, w: Any) -> Any:
        if self.case.precision == "full":
            return x @ w
        bf16 = self.jax.numpy.bfloat16
        return (x.astype(bf16) @ w.astype(bf16)).astype(w.dtype)

    def _loss(self, weights: Any, x: Any, y: Any) -> Any:
        nn, jnp = self.jax.nn, self.jax.numpy
        activate = {
            "relu": nn.relu,
            "sigmoid": nn.sigmoid,
            "tanh": jnp.tanh,
            "gelu": lambda z: nn.gelu(z, approximate=False),
        }[self.case.activation]
        *hidden, (w, b) = weights
        for wk, bk in hidden:
            x = activate(self._product(x, wk) + bk)
        z = self._product(x, w) + b
        if self.case.loss == "mse":
            return jnp.mean((nn.sigmoid(z) - y) ** 2)
        return -jnp.mean(jnp.sum(y * nn.log_softmax(z), axis=1))


class Pynn:
    """pynn as users call it: one call of ``fit``, including checks, set-up and history."""

    backend = "cython"

    def __init__(self) -> None:
        import pynn

        pynn.Network(
            [1, 1], loss="mse", backend=self.backend
        )  # raises ImportError if it is missing
        self.pynn = pynn

    def versions(self) -> dict[str, str]:
        info = self.pynn.info()
        return {"pynn": info["version"], **({"ISA of pynn": info["isa"]} if "isa" in info else {})}

    def setup(self, case: Case, data: Data, threads: int, dtype: str) -> None:
        self.x, self.y = data.x, data.y
        try:
            self.net = self._network(case, threads, dtype)
        except ImportError as error:
            raise Unsupported(str(error)) from error
        for mine, first in zip(self.net.weights, first_weights(case, dtype), strict=True):
            mine[...] = first
        for bias in self.net.biases:
            bias[...] = 0
        self.options: dict[str, Any] = {
            "batch_size": case.batch_size,
            "optimizer": case.optimizer,
            "learning_rate": case.learning_rate,
        }

    def _network(self, case: Case, threads: int, dtype: str) -> Any:
        # pynn chooses the threads itself, out of the processors this process is pinned to.
        kept = hasattr(os, "sched_setaffinity")
        return self.pynn.Network(
            case.sizes,
            activation=case.activation,
            output="sigmoid" if case.loss == "mse" else None,
            loss=case.loss,
            dtype=dtype,
            precision=case.precision,
            backend=self.backend,
            threads=None if kept else threads,
        )

    def epoch(self) -> float:
        return self.epochs(1)

    def epochs(self, count: int) -> float:
        """Train for some epochs in one call and return the mean loss of the last one."""
        return self.net.fit(self.x, self.y, epochs=count, **self.options).loss[-1]


class PynnNumba(Pynn):
    """pynn with the Numba backend."""

    backend = "numba"

    def versions(self) -> dict[str, str]:
        import numba

        return {"numba": numba.__version__}


class PynnNumPy(Pynn):
    """pynn with the reference backend, which is written to be read."""

    backend = "numpy"

    def versions(self) -> dict[str, str]:
        return {}


ENTRANTS: dict[str, type[Any]] = {
    "numpy": NumPy,
    "scikit-learn": ScikitLearn,
    "torch": PyTorch,
    "jax": JAX,
    "pynn": Pynn,
    "pynn-numba": PynnNumba,
    "pynn-numpy": PynnNumPy,
}


class Served:
    """One entrant, controlled by the worker; see worker.py."""

    def __init__(self, threads: int, name: str, dtype: str, as_float: str, epochs: str) -> None:
        self.threads, self.name, self.dtype, self.as_float = threads, name, dtype, as_float == "1"
        self.epochs = int(epochs)
        self.entrant: Any = None

    def versions(self) -> dict[str, str]:
        return ENTRANTS[self.name]().versions()

    def setup(self, asked: dict[str, Any]) -> None:
        self.entrant = None  # Free the arrays of the previous case first.
        gc.collect()
        case = Case(**{**asked["case"], "sizes": tuple(asked["case"]["sizes"])})
        data = Data.load(Path(asked["data"]), case.rows)
        if self.as_float:
            data = Data(data.features("float32"), data.y)
        self.entrant = ENTRANTS[self.name]()
        self.entrant.setup(case, data, self.threads, self.dtype)

    def turn(self) -> dict[str, Any]:
        start = time.perf_counter()
        if isinstance(self.entrant, Pynn):
            loss = self.entrant.epochs(self.epochs)
        else:
            loss = [self.entrant.epoch() for _ in range(self.epochs)][-1]
        return {"seconds": (time.perf_counter() - start) / self.epochs, "loss": loss}
