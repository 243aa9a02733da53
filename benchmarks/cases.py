"""The timed cases, and the data and initial weights that all entrants share.

One table defines the cases. This module imports no entrant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Case:
    """One network, its training recipe and its data; the benchmark times one epoch.

    ``mse`` is the mean over the rows and the outputs, ``cross_entropy`` the mean over the rows, so
    that a learning rate means the same step for every entrant. With the precision ``bf16`` matrix
    products use bfloat16; parameters and optimizer state stay float32.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    learning_rate: float
    batch_size: int
    rows: int
    data: str = "mnist"
    precision: str = "full"

    @property
    def full_batch(self) -> bool:
        """Whether one step uses all rows; their order then has no effect."""
        return self.batch_size >= self.rows

    @property
    def title(self) -> str:
        """A short description of the case, such as ``784-10 cross-entropy, SGD, batch 64``."""
        words = ["-".join(map(str, self.sizes))]
        if len(self.sizes) > 2:
            words.append(self.activation)
        words.append("MSE" if self.loss == "mse" else "cross-entropy")
        optimizer = {"sgd": "SGD", "adam": "Adam"}[self.optimizer]
        batch = "full batch" if self.full_batch else f"batch {self.batch_size}"
        if self.precision != "full":
            batch += f", {self.precision}"
        return f"{' '.join(words)}, {optimizer}, {batch}, {self.rows:,} rows"


# A is the network of Nielsen's book, whose learning rate is 3.0 for half the sum of the squares.
# The mean over ten outputs has a gradient five times smaller, so 15.0 makes equal steps.
CASES = {
    case.name: case
    for case in (
        Case("A", (784, 30, 10), "sigmoid", "mse", "sgd", 15.0, 10, 50_000),
        Case("B", (784, 128, 256, 10), "sigmoid", "cross_entropy", "sgd", 0.5, 256, 60_000),
        Case("C", (784, 532, 10), "relu", "cross_entropy", "sgd", 0.1, 60_000, 60_000),
        Case("D", (784, 256, 128, 10), "relu", "cross_entropy", "adam", 1e-3, 64, 60_000),
        Case("E", (784, 100, 10), "relu", "cross_entropy", "adam", 1e-3, 200, 60_000),
        Case("F", (20, 64, 64, 2), "relu", "cross_entropy", "adam", 1e-3, 32, 20_000, "synthetic"),
        Case("G", (784, 2048, 2048, 10), "relu", "cross_entropy", "adam", 1e-3, 512, 15_000),
        Case("H", (784, 10), "relu", "cross_entropy", "sgd", 0.1, 64, 60_000),
    )
}
# Cases in bfloat16, which run only when they are named.
CASES |= {
    f"{name}-bf16": replace(CASES[name], name=f"{name}-bf16", precision="bf16") for name in "DG"
}


@dataclass(frozen=True)
class Data:
    """Training rows in the type of their file, and their labels.

    ``x`` is (rows, features), uint8 pixels or float32; ``y`` is (rows,), int64 class numbers.
    """

    x: np.ndarray
    y: np.ndarray

    def features(self, dtype: str) -> np.ndarray:
        """Return the rows as floats, pixels scaled to [0, 1]."""
        if self.x.dtype != np.uint8:
            return self.x.astype(dtype)
        scaled = self.x.astype(dtype)
        scaled /= 255
        return scaled

    def one_hot(self, classes: int, dtype: str) -> np.ndarray:
        """Return the labels as one-hot rows, (rows, classes)."""
        rows: np.ndarray = np.eye(classes, dtype=dtype)[self.y]
        return rows

    def save(self, folder: Path) -> None:
        """Write both arrays into `folder`, where the workers read them."""
        np.save(folder / "x.npy", self.x)
        np.save(folder / "y.npy", self.y)

    @classmethod
    def load(cls, folder: Path, rows: int) -> Data:
        """Read the first `rows` rows that `save` wrote."""
        x, y = (np.load(folder / name, mmap_mode="r") for name in ("x.npy", "y.npy"))
        return cls(np.array(x[:rows]), np.array(y[:rows]))


def training_data(kind: str) -> Data:
    """Return the ``mnist`` training set, the ``synthetic`` one, or ``random <features> <rows>``."""
    if kind == "mnist":
        import pynn

        (x, y), _ = pynn.datasets.mnist()
        return Data(np.asarray(x).reshape(len(x), -1), np.asarray(y, dtype=np.int64))
    if kind.startswith("random "):
        features, rows = map(int, kind.split()[1:])
        rng = np.random.default_rng(features)
        x = rng.standard_normal((rows, features), dtype=np.float32)
        return Data(x, rng.integers(0, 10, rows))
    return synthetic()


def synthetic(rows: int = 20_000, features: int = 20, seed: int = 20) -> Data:
    """Return two classes of equal size, separated by the output of a random two-layer network."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features), dtype=np.float32)
    hidden = np.tanh(x @ rng.standard_normal((features, 16), dtype=np.float32) / 2)
    score = hidden @ rng.standard_normal(16, dtype=np.float32)
    return Data(x, (score > np.median(score)).astype(np.int64))


def first_weights(case: Case, dtype: str, seed: int = 1) -> list[np.ndarray]:
    """Return the common initial weights, one (n_in, n_out) array per layer; biases are 0.

    The distribution is He's normal one before a relu and LeCun's elsewhere.
    """
    rng = np.random.default_rng(seed)
    gain = 2.0 if case.activation == "relu" else 1.0
    return [
        (rng.standard_normal((n_in, n_out)) * np.sqrt(gain / n_in)).astype(dtype)
        for n_in, n_out in pairwise(case.sizes)
    ]
