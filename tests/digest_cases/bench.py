"""What the cases of tests/digests.py are made of: digests, data, and a network that is trained."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import pynn

Array = np.ndarray
Case = Callable[[], "Digest"]

THREADS = (1, 2, 3, 5)
NOT_COMPARED = ("seconds", "samples_per_second")
"""Columns of a history that hold times."""


class Digest:
    """A SHA-256 over named arrays, numbers and histories."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, value: Any) -> Digest:
        if value is None or isinstance(value, (str, int, bool)):
            self._hash.update(f"{name}={value!r};".encode())
            return self
        array = np.asarray(value)
        if array.dtype == object:
            for k, item in enumerate(value):
                self.add(f"{name}[{k}]", item)
            return self
        self._hash.update(f"{name}:{array.dtype.str}{array.shape};".encode())
        self._hash.update(np.ascontiguousarray(array).tobytes())
        return self

    def history(self, history: Any) -> Digest:
        for name, column in history.to_dict().items():
            if name not in NOT_COMPARED:
                self.add(f"history.{name}", np.array(column, dtype=object))
        return self

    def network(self, net: Any) -> Digest:
        """Add everything that training changes, the optimizer's state from a saved model file."""
        from safetensors.numpy import load_file

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.safetensors")
            net.save(path)
            tensors = load_file(path)
        for name in sorted(tensors):
            self.add(name, tensors[name])
        self.add("epochs", net.epochs).add("updates", net.updates)
        return self.history(net.history)

    def __str__(self) -> str:
        return self._hash.hexdigest()[:16]


# --- Data -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _mnist() -> tuple[Array, Array]:
    (x, y), _ = pynn.datasets.mnist()
    return np.array(x[:3000]), np.array(y[:3000])


def mnist(rows: int) -> tuple[Array, Array]:
    """Return uint8 pixels (rows, 784), four fifths of them zero, and labels (rows,)."""
    x, y = _mnist()
    return x[:rows].reshape(rows, 784), y[:rows]


def normal(rows: int, n_in: int, dtype: Any = "float32", seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, n_in)).astype(dtype)


def labels(x: Array, classes: int) -> Array:
    """Return labels (n,) that a network can learn from x (n, n_in)."""
    rng = np.random.default_rng(2)
    scores = x.astype(np.float64) @ rng.normal(size=(x.shape[1], classes))
    scores -= scores.mean(axis=0)
    y: Array = scores.argmax(axis=1)
    y[:classes] = np.arange(classes)[: len(y)]
    return y


def blobs(rows: int, n_in: int, classes: int, dtype: Any = "float32") -> tuple[Array, Array]:
    x = normal(rows, n_in, dtype)
    return x, labels(x, classes)


def csr(x: Array, dtype: Any) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(x.astype(dtype) / (255 if x.dtype == np.uint8 else 1))


# --- One training ---------------------------------------------------------------------------------


class Bench:
    """The cases of one backend; they are collected in ``cases`` by name."""

    def __init__(self, backend: str, counts: Sequence[int] = THREADS) -> None:
        self.backend = backend
        self.counts = counts if backend == "cython" else (1,)
        self.cases: dict[str, Case] = {}

    def net(self, sizes: Sequence[int], threads: int = 2, **options: Any) -> Any:
        return pynn.Network(sizes, backend=self.backend, threads=threads, seed=11, **options)

    def train(
        self,
        name: str,
        sizes: Sequence[int],
        data: Callable[[], tuple[Any, Any]],
        network: dict[str, Any] | None = None,
        *,
        threads: Sequence[int] = (2,),
        **fit: Any,
    ) -> None:
        """Add a case: a network of ``sizes`` is trained on ``data`` with every number of threads.

        ``fit`` are arguments of ``Network.fit``; a value that is a function named ``make`` is
        called first, for objects such as callbacks that a training changes.
        """

        def run() -> Digest:
            x, y = data()
            found = []
            for count in threads:
                net = self.net(sizes, count, **(network or {}))
                options = {k: v() if _makes(v) else v for k, v in fit.items()}
                net.fit(x, y, **{"epochs": 2, "batch_size": 64, "progress": False, **options})
                digest = Digest().network(net)
                for key, value in net.evaluate(x, y).items():
                    digest.add(f"evaluate.{key}", value)
                digest.add("predict", net.predict(x[:37]))
                found.append(digest)
            return agreed(found, threads)

        self.add(name, run)

    def add(self, name: str, run: Case) -> None:
        assert name not in self.cases, name
        self.cases[name] = run


def _makes(value: Any) -> bool:
    return getattr(value, "__name__", "") == "make"


class Disagreement(Exception):
    """Different numbers of threads gave different results."""


def agreed(found: list[Digest], threads: Sequence[int]) -> Digest:
    texts = [str(digest) for digest in found]
    if len(set(texts)) > 1:
        pairs = ", ".join(f"{n} threads {text}" for n, text in zip(threads, texts))
        raise Disagreement(f"results depend on the number of threads: {pairs}")
    return found[0]
