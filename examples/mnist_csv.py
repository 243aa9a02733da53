"""Writes MNIST as CSV files: a header, then a label and 784 pixels from 0 to 255 in each row.

This is the format of train.csv in Kaggle's "Digit Recognizer". Missing files are written into the
folder mnist-csv of the working directory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import QUICK

import pynn
from pynn.files.disk import atomic_write

FOLDER = Path("mnist-csv")
KAGGLE_ROWS = 42_000  # number of rows of Kaggle's train.csv


def train_and_test() -> tuple[Path, Path]:
    """Return the files with the 60,000 training images and the 10,000 test images."""
    return _file("mnist_train.csv", 0, 60_000), _file("mnist_test.csv", 1, 10_000)


def kaggle_train() -> Path:
    """Return a file with the first rows of MNIST's training set, as many as Kaggle's train.csv."""
    return _file("train.csv", 0, KAGGLE_ROWS)


def _file(name: str, part: int, rows: int) -> Path:
    if QUICK:
        name, rows = f"quick_{name}", rows // 20
    path = FOLDER / name
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        print(f"writing   {path}")
        x, y = pynn.datasets.mnist()[part]
        _write(path, x[:rows].reshape(rows, -1), y[:rows])
    return path


def _write(path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    text = [str(value) for value in range(256)]
    header = ["label", *(f"pixel{i}" for i in range(pixels.shape[1]))]
    with atomic_write(path) as file:  # complete or not at all, even if interrupted
        file.write((",".join(header) + "\n").encode())
        for row, label in zip(pixels, labels, strict=True):
            cells = [text[label], *(text[value] for value in row.tolist())]
            file.write((",".join(cells) + "\n").encode())
