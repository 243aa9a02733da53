"""The data sets whose files are installed with pynn: MNIST."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.dataset import Pair
from .verified import load_verified

MNIST_FOLDER = Path(__file__).with_name("mnist")
MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""Names and SHA-256 of the unpacked files."""


def mnist() -> tuple[Pair, Pair]:
    """Load the MNIST database of handwritten digits, which is installed with pynn.

    The first call unpacks the files into the user's cache folder (55 MB), so that later calls and
    later programs load them faster. The content is always verified by its SHA-256. The environment
    variable ``PYNN_CACHE`` names another folder. If it is empty, or if the folder cannot be
    written, every call unpacks the files again.

    MNIST is by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, under CC BY-SA 3.0.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        ``x``: pixels, uint8, shape (60000, 28, 28) and (10000, 28, 28), from 0 (background) to 255
        (full ink). ``y``: the digits 0 to 9, int64, shape (60000,) and (10000,). All four are new,
        writable arrays.

    Raises
    ------
    FileNotFoundError, ValueError
        If the installed files are missing or damaged.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = mnist()
    >>> x_train.shape, x_train.dtype, y_train[:3].tolist()
    ((60000, 28, 28), dtype('uint8'), [5, 0, 4])
    """
    x_train, y_train, x_test, y_test = (
        load_verified(MNIST_FOLDER / f"{name}.gz", sha256, "mnist")
        for name, sha256 in MNIST.items()
    )
    return (x_train, y_train.astype(np.int64)), (x_test, y_test.astype(np.int64))
