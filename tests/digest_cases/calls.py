"""Kinds of inputs, and calls other than one ``fit``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import pynn

from .bench import Array, Bench, Digest, agreed, blobs, csr, mnist, normal


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
            return agreed(found, bench.counts)

        bench.add(f"{dtype}/blocks-{kind}", run)


# --- Calls ----------------------------------------------------------------------------------------


def fitted(bench: Bench, dtype: str, sizes: Sequence[int], threads: int) -> Any:
    model = bench.net(sizes, threads, dtype=dtype)
    model.fit(*mnist(256), epochs=1, progress=False)
    return model


def predict(bench: Bench, dtype: str) -> Digest:
    found = []
    x = mnist(1000)[0]
    for threads in bench.counts:
        digest = Digest()
        for sizes in ([784, 10], [784, 30, 10], [784, 256, 128, 10], [784, 600, 10]):
            model = fitted(bench, dtype, sizes, threads)
            for rows in (1, 2, 7, 64, 1000):
                digest.add("pixels", model.predict_proba(x[:rows]))
                floats = 1 / (1 + normal(rows, 784, dtype, rows) ** 2)  # in [0, 1], as pixels
                digest.add("floats", model.predict_proba(floats))
                if bench.backend != "numba":
                    digest.add("csr", model.predict_proba(csr(x[:rows], dtype)))
        found.append(digest)
    return agreed(found, bench.counts)


def gradient(bench: Bench, dtype: str) -> Digest:
    found = []
    x, y = mnist(700)
    for threads in bench.counts:
        digest = Digest()
        for sizes in ([784, 10], [784, 33, 10], [784, 256, 128, 10]):
            model = fitted(bench, dtype, sizes, threads)
            for rows in (1, 7, 64, 700):
                loss, slope = model.loss_and_gradient(x[:rows], y[:rows], l2=0.01)
                digest.add("loss", loss).add("gradient", slope)
                figures = model.evaluate(x[:rows], y[:rows])
                digest.add("evaluate", [figures["loss"], figures["accuracy"]])
        found.append(digest)
    return agreed(found, bench.counts)


def again(bench: Bench, dtype: str) -> Digest:
    """Fit twice, save and load between, and change the optimizer for a third call."""
    x, y = blobs(300, 20, 4, dtype)
    model = bench.net([20, 40, 4], dtype=dtype, dropout=0.2)
    model.fit(x, y, epochs=2, schedule="exponential", progress=False)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "a"))
        model = pynn.load(Path(folder, "a"), backend=bench.backend)
    model.fit(x, y, epochs=2, schedule="exponential", progress=False)
    digest = Digest().network(model)
    model.fit(x, y, epochs=1, optimizer="nesterov", batch_size=7, progress=False)
    return digest.network(model)


def resumed(bench: Bench, dtype: str) -> Digest:
    """Break off in the middle of the second epoch, and resume from the checkpoint."""
    x, y = blobs(300, 20, 4, dtype)

    def stop(net: Any, record: Any) -> None:
        if net.updates >= 15:
            raise KeyError("stop")

    with tempfile.TemporaryDirectory() as folder:
        for broken in (True, False):
            model = bench.net([20, 40, 4], dtype=dtype, dropout=0.2)
            calls = [pynn.Every(5, stop)] if broken else []
            with contextlib.suppress(KeyError):
                model.fit(*(x, y), epochs=3, batch_size=32, progress=False, validation=0.1,
                          schedule="one_cycle", callbacks=calls, resume=True,
                          checkpoint=pynn.Checkpoint(Path(folder, "c"), steps=7))  # fmt: skip
    return Digest().network(model)


def norms(bench: Bench, dtype: str) -> Digest:
    x, y = blobs(200, 20, 4, dtype)
    model = bench.net([20, 40, 4], dtype=dtype)
    model.fit(x, y, epochs=3, progress=False, callbacks=pynn.Norms(x, y, steps=2))
    return Digest().network(model)


def add_calls(bench: Bench, dtype: str) -> None:
    """Prediction, gradients, checkpoints, callbacks, several calls of fit."""
    calls = {
        "predict_proba": predict,
        "loss_and_gradient": gradient,
        "fit-again": again,
        "resumed": resumed,
        "norms": norms,
    }
    for name, run in calls.items():
        bench.add(f"{dtype}/{name}", partial(run, bench, dtype))

    def make() -> list[Any]:
        return [pynn.EarlyStopping("validation_loss", patience=2)]

    bench.train(f"{dtype}/early-stopping", [20, 64, 4], lambda: blobs(120, 20, 4, dtype),
                {"dtype": dtype}, validation=0.3, epochs=60, learning_rate=0.03,
                callbacks=make)  # fmt: skip
