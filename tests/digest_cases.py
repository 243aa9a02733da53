"""The trainings whose digests tests/digests.py prints: every case by its name.

Nothing here but the public interface is used, since the cases also run with older builds of pynn.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import pynn

Array = np.ndarray
Case = Callable[[], "Digest"]

ACTIVATIONS = ["identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "softplus"]
INITIALISERS = [
    *("he_normal", "he_uniform", "glorot_normal", "glorot_uniform"),
    *("lecun_normal", "lecun_uniform", "normal", "zeros"),
]
OPTIMIZERS = ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adam_hat", "adamw"]
SCHEDULES = ["constant", "step", "exponential", "inverse_time", "cosine", "one_cycle", "warm_up"]
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
            return _agreed(found, threads)

        self.add(name, run)

    def add(self, name: str, run: Case) -> None:
        assert name not in self.cases, name
        self.cases[name] = run


def _makes(value: Any) -> bool:
    return getattr(value, "__name__", "") == "make"


class Disagreement(Exception):
    """Different numbers of threads gave different results."""


def _agreed(found: list[Digest], threads: Sequence[int]) -> Digest:
    texts = [str(digest) for digest in found]
    if len(set(texts)) > 1:
        pairs = ", ".join(f"{n} threads {text}" for n, text in zip(threads, texts))
        raise Disagreement(f"results depend on the number of threads: {pairs}")
    return found[0]


# --- The cases: pynn's own interface --------------------------------------------------------------


def add_optimizers(bench: Bench, dtype: str) -> None:
    small = {"dtype": dtype, "dropout": 0.2}
    for name in OPTIMIZERS:
        rate = 0.05 if name in ("sgd", "momentum", "nesterov") else 0.003
        bench.train(
            f"{dtype}/optimizer-{name}",
            [20, 33, 17, 5],
            lambda: blobs(203, 20, 5, dtype),
            small,
            optimizer=name,
            learning_rate=rate,
            l2=1e-3,
            batch_size=17,
        )
        bench.train(
            f"{dtype}/optimizer-{name}-mnist",
            [784, 100, 10],
            lambda: mnist(500),
            {"dtype": dtype},
            optimizer=name,
            learning_rate=rate,
            batch_size=50,
        )
    settings = {
        "momentum-0.5": pynn.Momentum(0.5),
        "nesterov-0.99": pynn.Nesterov(0.99),
        "rmsprop": pynn.RMSProp(rho=0.7, epsilon=1e-4),
        "adagrad": pynn.Adagrad(epsilon=0.1),
        "adam": pynn.Adam(0.8, 0.95, 1e-3),
        "adam_hat": pynn.AdamHat(0.8, 0.95, 1e-3),
        "adamw": pynn.AdamW(0.8, 0.95, 1e-3, weight_decay=0.3),
        "amsgrad": pynn.AMSGrad(0.8, 0.95, 1e-3, weight_decay=0.3),
        "nadam": pynn.NAdam(0.8, 0.95, 1e-3, momentum_decay=0.1, weight_decay=0.3),
        "lion": pynn.Lion(0.8, 0.95, weight_decay=0.3),
    }
    for name, optimizer in settings.items():
        bench.train(
            f"{dtype}/settings-{name}",
            [20, 65, 5],
            lambda: blobs(203, 20, 5, dtype),
            {"dtype": dtype},
            optimizer=optimizer,
            learning_rate=0.01,
            batch_size=32,
        )


def add_functions(bench: Bench, dtype: str) -> None:
    for name in ACTIVATIONS:
        bench.train(
            f"{dtype}/activation-{name}",
            [17, 33, 40, 3],
            lambda: blobs(150, 17, 3, dtype),
            {"dtype": dtype, "activation": name, "dropout": [0.0, 0.1]},
            batch_size=33,
            learning_rate=0.01,
        )
        bench.train(
            f"{dtype}/init-{INITIALISERS[ACTIVATIONS.index(name)]}",
            [5, 19, 3],
            lambda: blobs(40, 5, 3, dtype),
            {"dtype": dtype, "init": INITIALISERS[ACTIVATIONS.index(name)]},
        )
    bench.train(
        f"{dtype}/activations-mixed",
        [9, 10, 11, 12, 13, 14, 15, 16, 17, 4],
        lambda: blobs(100, 9, 4, dtype),
        {"dtype": dtype, "activation": ACTIVATIONS},
    )
    x = normal(150, 13, dtype)
    rng = np.random.default_rng(4)
    soft = rng.random((150, 7)) + 0.01
    soft = (soft / soft.sum(axis=1, keepdims=True)).astype(dtype)
    yes = rng.integers(0, 2, (150, 7))
    values = rng.random((150, 7)).astype(dtype)
    counts = rng.poisson(1.5, (150, 7)).astype(dtype)
    targets = {
        "cross_entropy-labels": ([7], {}, labels(x, 7)),
        "cross_entropy-strings": ([7], {}, np.array(list("abcdefg"))[labels(x, 7)]),
        "cross_entropy-onehot": ([7], {}, np.eye(7)[labels(x, 7)]),
        "cross_entropy-soft": ([7], {}, soft),
        "binary-labels": ([1], {"loss": "binary_cross_entropy"}, labels(x, 2)),
        "binary-multilabel": ([7], {"loss": "binary_cross_entropy"}, yes),
        "binary-soft": ([7], {"loss": "binary_cross_entropy"}, values),
        "mse-flat": ([1], {"loss": "mse"}, values[:, 0]),
        "mse-labels": ([7], {"loss": "mse", "output": "sigmoid"}, labels(x, 7)),
        "poisson": ([7], {"loss": "poisson"}, counts),
        "mae-softplus": ([7], {"loss": "mae", "output": "softplus"}, values),
        **{name: ([7], {"loss": name}, values) for name in ("huber", "log_cosh", "quantile")},
        "quantiles": ([21], {"loss": pynn.Quantile([0.1, 0.5, 0.8])}, values),
        "gaussian_nll": ([14], {"loss": "gaussian_nll"}, values),
        "gamma": ([7], {"loss": "gamma"}, values + 1),
        "tweedie": ([7], {"loss": "tweedie"}, counts),
        **{f"{name}-labels": ([7], {"loss": name}, labels(x, 7)) for name in ("hinge", "focal")},
        "squared_hinge": ([7], {"loss": "squared_hinge"}, yes),
        "focal-multilabel": ([7], {"loss": pynn.Focal(1.5, 0.3), "output": "sigmoid"}, yes),
        **{
            f"mse-{output}": ([7], {"loss": "mse", "output": output}, values)
            for output in (*ACTIVATIONS, "softmax", "exp")
        },
    }
    for name, (outputs, network, y) in targets.items():
        bench.train(
            f"{dtype}/loss-{name}",
            [13, 21, *outputs],
            lambda y=y: (x, y),
            {"dtype": dtype, "activation": "tanh", **network},
            batch_size=33,
            validation=0.2,
        )


def add_settings(bench: Bench, dtype: str) -> None:
    net = {"dtype": dtype}
    sizes = [20, 64, 31, 6]

    def data() -> tuple[Array, Array]:
        return blobs(400, 20, 6, dtype)

    for name in SCHEDULES:
        bench.train(f"{dtype}/schedule-{name}", sizes, data, net, schedule=name, epochs=3)
    bench.train(f"{dtype}/schedule-function", sizes, data, net, schedule=lambda t: 1 / (1 + t))
    after = pynn.WarmUp(0.7, pynn.StepDecay(1.3, 0.5))
    bench.train(f"{dtype}/schedule-nested", sizes, data, net, schedule=after, epochs=4)
    for rate in (0.05, 0.5, 0.9):
        bench.train(f"{dtype}/dropout-{rate}", sizes, data, {**net, "dropout": rate})
    more = {"l2": 0.01, "label_smoothing": 0.1, "optimizer": "sgd", "learning_rate": 0.1}
    bench.train(f"{dtype}/smoothing", sizes, data, {**net, "dropout": 0.3}, validation=0.25, **more)
    bench.train(f"{dtype}/unshuffled", sizes, data, net, shuffle=False)
    for size in (1, 3, 17, 33, None, 399):
        for optimizer in ("sgd", "adam"):
            bench.train(
                *(f"{dtype}/batch-{size}-{optimizer}", sizes, data, net),
                batch_size=size,
                optimizer=optimizer,
            )
    bench.train(f"{dtype}/batch-full-1300", sizes, lambda: blobs(1300, 20, 6, dtype), net,
                threads=bench.counts, batch_size="full")  # fmt: skip
    for width in (1, 3, 5, 17, 33, 100, 256, 300):
        for optimizer in ("momentum", "adam"):
            bench.train(
                f"{dtype}/width-{width}-{optimizer}",
                [width, width, max(2, width // 2), 3],
                lambda width=width: blobs(130, width, 3, dtype),
                {**net, "dropout": 0.1},
                optimizer=optimizer,
                batch_size=32,
                learning_rate=0.01,
            )
    for rows in (2, 8, 16, 40):
        bench.train(f"{dtype}/batch-{rows}-mid", [96, 160, 96, 10],
                    lambda: blobs(240, 96, 10, dtype), {**net, "dropout": 0.5},
                    batch_size=rows, epochs=1)  # fmt: skip


def add_inputs(bench: Bench, dtype: str) -> None:
    """Pixels, floats with and without zeros, other layouts, sparse matrices and mapped files."""
    net = {"dtype": dtype}
    sizes = [784, 64, 10]
    forms: dict[str, Callable[[Array], Any]] = {
        "uint8": lambda x: x,
        "pictures": lambda x: x.reshape(len(x), 28, 28),
        "columns": np.asfortranarray,
        "float32-zeros": lambda x: x.astype(np.float32) / np.float32(255),
        "float64-zeros": lambda x: x / 255,
        "float32-dense": lambda x: normal(len(x), 784, "float32"),
        "float64-dense": lambda x: normal(len(x), 784, "float64"),
        "uint8-dense": lambda x: np.maximum(x, 1),
        "strided": lambda x: np.repeat(x, 2, axis=1).astype(np.float32)[:, ::2] / 255,
        "int16": lambda x: (x // 64).astype(np.int16),
    }
    if bench.backend != "numba":
        forms |= {
            "csr-float32": lambda x: csr(x, np.float32),
            "csr-float64": lambda x: csr(x, np.float64),
        }
    for name, form in forms.items():
        for optimizer in ("adam", "sgd"):
            bench.train(
                f"{dtype}/input-{name}-{optimizer}",
                sizes,
                lambda form=form: (form(mnist(600)[0]), mnist(600)[1]),
                {**net, "dropout": 0.2},
                optimizer=optimizer,
                l2=1e-4,
                validation=0.2,
                epochs=1,
            )
    for kind in ("uint8", "float32"):
        rows = 3000 if kind == "uint8" else 1000  # about three blocks of 1 MiB

        def run(kind: str = kind, rows: int = rows) -> Digest:
            x, y = mnist(rows)
            found = []
            with tempfile.TemporaryDirectory() as folder:
                np.save(Path(folder, "x.npy"), x if kind == "uint8" else x.astype(kind) / 255)
                for threads in bench.counts:
                    mapped = np.load(Path(folder, "x.npy"), mmap_mode="r")
                    model = bench.net([784, 10], threads, **net)
                    model.fit(mapped, y, epochs=2, shuffle="blocks", progress=False)
                    found.append(Digest().network(model))
                    del mapped
            return _agreed(found, bench.counts)

        bench.add(f"{dtype}/blocks-{kind}", run)


def add_classics(bench: Bench, dtype: str) -> None:
    """Narrow and wide networks on MNIST, as in the benchmarks."""
    quick = bench.backend == "numpy"
    for optimizer in ("sgd", "adam"):
        for form in ("uint8", "dense"):
            bench.train(
                f"{dtype}/narrow-784-10-{form}-{optimizer}",
                [784, 10],
                lambda form=form: (
                    mnist(1500) if form == "uint8" else (normal(500, 784, dtype), mnist(500)[1])
                ),
                {"dtype": dtype},
                optimizer=optimizer,
                learning_rate=0.01,
                threads=bench.counts,
            )
    bench.train(f"{dtype}/narrow-784-5-3", [784, 5, 3], lambda: (mnist(500)[0], mnist(500)[1] % 3),
                {"dtype": dtype, "activation": "sigmoid"}, batch_size=3, epochs=1)  # fmt: skip
    bench.train(
        *(f"{dtype}/A-784-30-10", [784, 30, 10], lambda: mnist(1000)),
        {"dtype": dtype, "activation": "sigmoid", "output": "sigmoid", "loss": "mse"},
        optimizer="sgd",
        learning_rate=0.3,
        batch_size=10,
    )
    bench.train(f"{dtype}/B-784-128-256-10", [784, 128, 256, 10], lambda: mnist(1024),
                {"dtype": dtype, "activation": "sigmoid"}, optimizer="sgd", learning_rate=0.1,
                batch_size=256, epochs=1)  # fmt: skip
    bench.train(f"{dtype}/C-784-532-10", [784, 532, 10], lambda: mnist(700), {"dtype": dtype},
                optimizer="sgd", learning_rate=0.1, batch_size=None)  # fmt: skip
    bench.train(
        *(f"{dtype}/D-784-256-128-10", [784, 256, 128, 10], lambda: mnist(3000)),
        {"dtype": dtype, "dropout": 0.1},
        schedule="one_cycle",
        validation=0.1,
        epochs=1,
        threads=(2,),
    )
    bench.train(f"{dtype}/E-784-100-10", [784, 100, 10], lambda: mnist(3000), {"dtype": dtype},
                batch_size=200, threads=bench.counts, epochs=1)  # fmt: skip
    bench.train(f"{dtype}/F-20-64-64-2", [20, 64, 64, 2], lambda: blobs(2000, 20, 2, dtype),
                {"dtype": dtype}, batch_size=32, threads=bench.counts)  # fmt: skip
    # Hidden layers most of whose values relu and dropout have set to zero.
    for sizes in ([784, 512, 512, 10], [784, 1024, 700, 10], [100, 600, 512, 512, 5]):
        for optimizer in ("adam", "sgd", "momentum"):
            n = 256 if quick or sizes[1] == 1024 else 640
            bench.train(
                f"{dtype}/zeros-{'-'.join(map(str, sizes))}-{optimizer}",
                sizes,
                lambda sizes=sizes, n=n: (
                    mnist(n) if sizes[0] == 784 else blobs(n, sizes[0], sizes[-1], dtype)
                ),
                {"dtype": dtype, "dropout": 0.5},
                optimizer=optimizer,
                learning_rate=0.002,
                epochs=1,
            )
    for batch in (8, 64):
        bench.train(
            f"{dtype}/wide-784-1024-700-10-batch-{batch}",
            [784, 1024, 700, 10],
            lambda batch=batch: mnist(2 * batch),
            {"dtype": dtype},
            batch_size=batch,
            threads=bench.counts,
            epochs=1,
        )
    bench.train(f"{dtype}/wide-40-1024-1024-3-batch-300", [40, 1024, 1024, 3],
                lambda: blobs(300, 40, 3, dtype), {"dtype": dtype}, batch_size=300,
                epochs=1)  # fmt: skip


def add_bf16(bench: Bench) -> None:
    net = {"precision": "bf16", "dropout": 0.1}
    for optimizer in ("sgd", "momentum", "adam", "adamw"):
        bench.train(f"bf16/mnist-{optimizer}", [784, 128, 64, 10], lambda: mnist(640), net,
                    optimizer=optimizer, learning_rate=0.002, validation=0.1)  # fmt: skip
    for batch in (1, 3, 17, 33, None):
        bench.train(f"bf16/batch-{batch}", [50, 33, 64, 17, 16], lambda: blobs(100, 50, 16), net,
                    batch_size=batch, epochs=1)  # fmt: skip
    for name in ACTIVATIONS:
        bench.train(f"bf16/activation-{name}", [30, 48, 20, 5], lambda: blobs(130, 30, 5),
                    {**net, "activation": name})  # fmt: skip
    bench.train("bf16/csr", [784, 64, 10], lambda: (csr(mnist(300)[0], "float32"), mnist(300)[1]),
                net)  # fmt: skip
    bench.train("bf16/regression", [30, 100, 17], lambda: (normal(200, 30), normal(200, 17)),
                {**net, "loss": "mse"}, l2=0.01)  # fmt: skip
    bench.train("bf16/wide-784-1024-700-10", [784, 1024, 700, 10], lambda: mnist(256),
                {**net, "dropout": 0.5}, epochs=1)  # fmt: skip
    bench.train("bf16/threads", [200, 300, 256, 10], lambda: blobs(600, 200, 10), net,
                threads=bench.counts, epochs=1)  # fmt: skip


def add_calls(bench: Bench, dtype: str) -> None:
    """Prediction, gradients, checkpoints, callbacks, several calls of fit."""
    net = {"dtype": dtype}

    def fitted(sizes: Sequence[int], threads: int = 2) -> Any:
        model = bench.net(sizes, threads, **net)
        model.fit(*mnist(256), epochs=1, progress=False)
        return model

    def predict() -> Digest:
        found = []
        x = mnist(1000)[0]
        for threads in bench.counts:
            digest = Digest()
            for sizes in ([784, 10], [784, 30, 10], [784, 256, 128, 10], [784, 600, 10]):
                model = fitted(sizes, threads)
                for rows in (1, 2, 7, 64, 1000):
                    digest.add("pixels", model.predict_proba(x[:rows]))
                    floats = 1 / (1 + normal(rows, 784, dtype, rows) ** 2)  # in [0, 1], as pixels
                    digest.add("floats", model.predict_proba(floats))
                    if bench.backend != "numba":
                        digest.add("csr", model.predict_proba(csr(x[:rows], dtype)))
            found.append(digest)
        return _agreed(found, bench.counts)

    def gradient() -> Digest:
        found = []
        x, y = mnist(700)
        for threads in bench.counts:
            digest = Digest()
            for sizes in ([784, 10], [784, 33, 10], [784, 256, 128, 10]):
                model = fitted(sizes, threads)
                for rows in (1, 7, 64, 700):
                    loss, slope = model.loss_and_gradient(x[:rows], y[:rows], l2=0.01)
                    digest.add("loss", loss).add("gradient", slope)
                    figures = model.evaluate(x[:rows], y[:rows])
                    digest.add("evaluate", [figures["loss"], figures["accuracy"]])
            found.append(digest)
        return _agreed(found, bench.counts)

    def again() -> Digest:
        """Fit twice, save and load between, and change the optimizer for a third call."""
        x, y = blobs(300, 20, 4, dtype)
        model = bench.net([20, 40, 4], **net, dropout=0.2)
        model.fit(x, y, epochs=2, schedule="exponential", progress=False)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder, "a"))
            model = pynn.load(Path(folder, "a"), backend=bench.backend)
        model.fit(x, y, epochs=2, schedule="exponential", progress=False)
        digest = Digest().network(model)
        model.fit(x, y, epochs=1, optimizer="nesterov", batch_size=7, progress=False)
        return digest.network(model)

    def resumed() -> Digest:
        """Break off in the middle of the second epoch, and resume from the checkpoint."""
        x, y = blobs(300, 20, 4, dtype)

        def stop(net: Any, record: Any) -> None:
            if net.updates >= 15:
                raise KeyError("stop")

        with tempfile.TemporaryDirectory() as folder:
            for broken in (True, False):
                model = bench.net([20, 40, 4], **net, dropout=0.2)
                calls = [pynn.Every(5, stop)] if broken else []
                with contextlib.suppress(KeyError):
                    model.fit(*(x, y), epochs=3, batch_size=32, progress=False, validation=0.1,
                              schedule="one_cycle", callbacks=calls, resume=True,
                              checkpoint=pynn.Checkpoint(Path(folder, "c"), steps=7))  # fmt: skip
        return Digest().network(model)

    def norms() -> Digest:
        x, y = blobs(200, 20, 4, dtype)
        model = bench.net([20, 40, 4], **net)
        model.fit(x, y, epochs=3, progress=False, callbacks=pynn.Norms(x, y, steps=2))
        return Digest().network(model)

    cases = {
        "predict_proba": predict,
        "loss_and_gradient": gradient,
        "fit-again": again,
        "resumed": resumed,
        "norms": norms,
    }
    for name, run in cases.items():
        bench.add(f"{dtype}/{name}", run)

    def make() -> list[Any]:
        return [pynn.EarlyStopping("validation_loss", patience=2)]

    bench.train(f"{dtype}/early-stopping", [20, 64, 4], lambda: blobs(120, 20, 4, dtype), net,
                validation=0.3, epochs=60, learning_rate=0.03, callbacks=make)  # fmt: skip


def swish(z: Any) -> Any:
    return z / (1 + np.exp(-z))


def swish_slope(z: Any) -> Any:
    s = 1 / (1 + np.exp(-z))
    return s * (1 + z * (1 - s))


def huber(a: Any, t: Any) -> Any:
    return np.where(np.abs(a - t) < 1, 0.5 * (a - t) ** 2, np.abs(a - t) - 0.5)


def huber_slope(a: Any, t: Any) -> Any:
    return np.minimum(np.maximum(a - t, -1), 1)


def add_custom(bench: Bench, dtype: str) -> None:
    activation = pynn.Activation("swish", swish, swish_slope)
    loss = pynn.Loss("huber", huber, huber_slope)
    x = normal(200, 12, dtype)
    for optimizer in ("adam", "sgd"):
        bench.train(
            f"{dtype}/custom-activation-{optimizer}",
            *([12, 33, 20, 4], lambda: (x, labels(x, 4))),
            {"dtype": dtype, "activation": activation, "dropout": 0.1},
            optimizer=optimizer,
            batch_size=33,
        )
        bench.train(
            f"{dtype}/custom-loss-{optimizer}",
            *([12, 33, 4], lambda: (x, 2 * normal(200, 4, dtype, 5))),
            {"dtype": dtype, "activation": activation, "loss": loss},
            optimizer=optimizer,
            batch_size=17,
            l2=0.01,
        )


# --- The cases: the interfaces of scikit-learn and of Nielsen's book ------------------------------


def estimator_digest(estimator: Any, x: Any) -> Digest:
    digest = Digest()
    for k, (w, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_)):
        digest.add(f"coefs.{k}", w).add(f"intercepts.{k}", b)
    names = "loss_ best_loss_ loss_curve_ validation_scores_ validation_loss_curve_ t_ n_iter_"
    for name in names.split():
        digest.add(name, getattr(estimator, name, None))
    digest.history(estimator.history_)
    digest.add("predict", estimator.predict(x))
    if hasattr(estimator, "predict_proba"):
        digest.add("predict_proba", estimator.predict_proba(x[:33]))
    return digest


def add_sklearn(bench: Bench, dtype: str) -> None:
    from pynn.sklearn import MLPClassifier, MLPRegressor

    x = normal(230, 20, dtype)
    y = labels(x, 4)
    rng = np.random.default_rng(8)
    weight = rng.random(230) * rng.integers(0, 3, 230)
    values = normal(230, 3, dtype, 6)
    counts = rng.poisson(2.0, 230).astype(dtype)
    several = rng.integers(0, 2, (230, 3))
    pixels = (mnist(230)[0] / 255).astype(dtype)
    sgd = {"solver": "sgd", "learning_rate_init": 0.05}
    cases: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "adam": (x, y, {}),
        "adam-odd": (x, y, {"hidden_layer_sizes": (33, 17), "batch_size": 17, "alpha": 0.1}),
        "sgd": (x, y, {**sgd, "momentum": 0.0}),
        "sgd-momentum": (x, y, {**sgd, "nesterovs_momentum": False}),
        "sgd-nesterov": (x, y, sgd),
        "sgd-adaptive": (x, y, {**sgd, "learning_rate": "adaptive", "tol": 0.05, "max_iter": 40}),
        "sgd-invscaling": (x, y, {**sgd, "learning_rate": "invscaling", "batch_size": 21}),
        "batch-1": (x, y, {**sgd, "batch_size": 1}),
        "early-stopping": (x, y, {"early_stopping": True, "max_iter": 40, "n_iter_no_change": 3}),
        "unshuffled": (x, y, {"shuffle": False, "activation": "logistic"}),
        "dropout": (x, y, {"dropout": 0.5, "weight_decay": 0.1, "schedule": "one_cycle"}),
        "class-weight": (x, y, {"class_weight": "balanced"}),
        "binary": (x, labels(x, 2), {"activation": "tanh"}),
        "multilabel": (x, several, {"activation": ["elu"]}),
        "full-batch": (x, y, {"batch_size": 230, **sgd}),
        "lbfgs": (x, y, {"solver": "lbfgs", "max_iter": 20}),
        "pixels": (pixels, mnist(230)[1], {"batch_size": 50}),
        "csr": (csr(pixels, dtype), mnist(230)[1], {"batch_size": 50}),
        "csr-sgd": (csr(pixels, dtype), mnist(230)[1], {"batch_size": 33, **sgd}),
        "wide": (x, y, {"hidden_layer_sizes": (600, 512), "batch_size": 64, "max_iter": 2}),
        "regressor": (x, values, {}),
        "regressor-flat": (x, values[:, 0], {**sgd, "activation": "relu"}),
        "regressor-poisson": (x, counts, {"loss": "poisson"}),
        "regressor-lbfgs": (x, values, {"solver": "lbfgs", "max_iter": 20}),
    }

    def fit(name: str, mode: str, threads: int) -> Digest:
        data, target, options = cases[name]
        kind = MLPRegressor if name.startswith("regressor") else MLPClassifier
        options = {"hidden_layer_sizes": (40,), "max_iter": 4, "random_state": 3, **options}
        estimator = kind(threads=threads, **options)
        if mode == "partial":
            more = {} if kind is MLPRegressor else {"classes": np.unique(target)}
            for _ in range(3):
                estimator.partial_fit(data, target, **more)
        else:
            estimator.fit(data, target, **({"sample_weight": weight} if mode == "weighted" else {}))
        return estimator_digest(estimator, data)

    threads = bench.counts
    partial = ("adam", "sgd-momentum", "sgd-nesterov", "csr", "regressor", "wide")
    unweighted = ("lbfgs", "regressor-lbfgs", "batch-1")
    for name in cases:
        for mode in ("", "weighted", "partial"):
            if (mode == "partial" and name not in partial) or (mode and name in unweighted):
                continue
            bench.add(
                f"{dtype}/sklearn-{name}{mode and '-' + mode}",
                lambda name=name, mode=mode: _agreed(
                    [fit(name, mode, count) for count in threads], threads
                ),
            )


def add_nielsen(bench: Bench) -> None:
    from pynn.nielsen import network, network2

    def pairs(rows: int) -> list[tuple[Array, Array]]:
        x, y = mnist(rows)
        return [((a / 255).reshape(784, 1), np.eye(10)[k].reshape(10, 1)) for a, k in zip(x, y)]

    def tested() -> list[tuple[Array, int]]:
        x, y = mnist(600)
        return [((a / 255).reshape(784, 1), int(k)) for a, k in zip(x[500:], y[500:])]

    def result(net: Any, printed: str, *figures: Any) -> Digest:
        digest = Digest().add("printed", printed)
        for k, (w, b) in enumerate(zip(net.weights, net.biases)):
            digest.add(f"weights.{k}", w).add(f"biases.{k}", b)
        for figure in figures:
            digest.add("figure", figure)
        return digest.add("feedforward", net.feedforward(tested()[0][0]))

    def chapter_1() -> Digest:
        np.random.seed(1)
        random.seed(2)
        net = network.Network([784, 30, 10])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            net.SGD(pairs(500), 2, 10, 3.0, test_data=tested())
        net.update_mini_batch(pairs(7), 0.5)
        nabla_b, nabla_w = net.backprop(*pairs(1)[0])
        return result(net, printed.getvalue(), *nabla_b, *nabla_w)

    def chapter_3(cost: Any) -> Digest:
        np.random.seed(1)
        random.seed(2)
        net = network2.Network([784, 30, 16, 10], cost=cost)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            figures = net.SGD(
                *(pairs(500), 2, 7, 0.5),
                lmbda=5.0,
                evaluation_data=tested(),
                monitor_evaluation_cost=True,
                monitor_evaluation_accuracy=True,
                monitor_training_cost=True,
                monitor_training_accuracy=True,
            )
        return result(net, printed.getvalue(), *figures)

    bench.add("float64/nielsen-network", chapter_1)
    bench.add("float64/nielsen-network2", lambda: chapter_3(network2.CrossEntropyCost))
    bench.add("float64/nielsen-network2-mse", lambda: chapter_3(network2.QuadraticCost))


# --- All cases of one backend ---------------------------------------------------------------------


def cases_of(backend: str, isa: str = "") -> dict[str, Case]:
    """Return the cases of a backend; fewer with amx, whose float kernels are those of avx512."""
    bench = Bench(backend, THREADS if isa in ("avx512", "amx", "neon", "") else (1, 3))
    for dtype in ("float32", "float64"):
        add_classics(bench, dtype)
        add_inputs(bench, dtype)
        if isa != "amx":
            for add in (add_optimizers, add_functions, add_settings, add_calls):
                add(bench, dtype)
        if backend != "cython":
            add_custom(bench, dtype)
        if backend != "numba" and isa != "amx":
            add_sklearn(bench, dtype)
    if backend == "numpy" or (backend == "cython" and pynn.info()["bf16"]):
        add_bf16(bench)
    if backend != "numba":
        add_nielsen(bench)
    return bench.cases
