"""Data sets that are installed with pynn."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from ..data.dataset import Pair
from ..data.idx import idx_header, load_idx
from ..files.disk import atomic_write

_MNIST_FOLDER = Path(__file__).with_name("mnist")
_MNIST = {
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
    x_train, y_train, x_test, y_test = (_mnist_file(name, sha) for name, sha in _MNIST.items())
    return (x_train, y_train.astype(np.int64)), (x_test, y_test.astype(np.int64))


def _mnist_file(name: str, sha256: str) -> np.ndarray:
    """Load a file from the cache, or from the package; then write it to the cache."""
    cache = _cache_folder()
    if cache is not None:
        try:
            array = load_idx(cache / "mnist" / name)
            if _sha256(array) == sha256:
                return array
        except (OSError, ValueError):
            pass  # missing or damaged: written again below

    packed = _MNIST_FOLDER / f"{name}.gz"
    advice = "the installation of pynn is damaged: install it again"
    try:
        array = load_idx(packed)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; {advice}") from error
    except ValueError as error:
        raise ValueError(f"{error}; {advice}") from error
    found = _sha256(array)
    if found != sha256:
        raise ValueError(
            f"{packed}: found content with SHA-256 {found}, expected {sha256}; {advice}"
        )

    if cache is not None:
        try:
            (cache / "mnist").mkdir(parents=True, exist_ok=True)
            # No sync: a file damaged by a power cut fails verification and is written again.
            with atomic_write(cache / "mnist" / name, sync=False) as file:
                file.write(idx_header(array))
                file.write(array.data)
        except (OSError, ValueError):
            pass  # without a cache, the next call is only slower
    return array


def _sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of the IDX file that holds a uint8 array."""
    import hashlib

    digest = hashlib.sha256(idx_header(array))
    digest.update(array.data)
    return digest.hexdigest()


def _cache_folder() -> Path | None:
    """Return pynn's cache folder; None if it is turned off or the home directory is unknown."""
    chosen = os.environ.get("PYNN_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pynn"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pynn"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pynn"
