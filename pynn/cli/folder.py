"""The folder of a training run: where it is, what is written into it, what it ran on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..files.disk import atomic_write, shown
from ..spec import arguments

if TYPE_CHECKING:
    from ..network import Network


Pair = tuple[np.ndarray, np.ndarray]

RUNS = Path("runs")
MODEL = "model.safetensors"
SETTINGS = "settings.json"
CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.json"
PICTURES = (
    "learning_curve.png",
    "confusion_matrix.png",
    "predictions.png",
    "mistakes.png",
    "first_layer.png",
)
WRITTEN = (MODEL, SETTINGS, HISTORY, *PICTURES)
"""What a run leaves in its folder."""


class Data(NamedTuple):
    """What a run trains and tests on: ``(x, y)`` each; no test set is None."""

    source: str
    train: Pair
    test: Pair | None


def read_data(path: str | os.PathLike[str] | None) -> Data:
    """Read a data set, MNIST if `path` is None.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or holds no data set.
    """
    if path is None:
        from ..datasets import mnist

        return Data("MNIST", *mnist())
    from ..data.loading import load

    found = load(path)
    return Data(str(path), found.train, found.test)


def hold_out(pair: Pair, share: float, seed: int) -> tuple[Pair, Pair]:
    """Set aside the rows that ``fit`` would hold out for the same share and seed.

    Returns
    -------
    (x, y), (x, y)
        The rows to train on and those held out.

    Raises
    ------
    ValueError
        If the share leaves no row on one side.
    """
    from ..spec import philox

    x, y = pair
    count = round(share * len(x))
    if not 0 < count < len(x):
        raise ValueError(
            f"validation: found the share {share:g}, which is {count} of {len(x)} rows; this data "
            "has no test set, so the result is measured on the rows held out: expected at least "
            "one row to train on and one to hold out"
        )
    out = philox.held_out(seed, len(x), count)
    return (x[~out], y[~out]), (x[out], y[out])


def new_folder(folder: str | os.PathLike[str] | None = None, resume: bool = False) -> Path:
    """Make the folder of a new run, or find that of one to resume.

    Parameters
    ----------
    folder : path-like, optional
        Where; it may exist, but must hold nothing yet that a run writes. By default the date and
        time, in ``runs`` of the working directory.
    resume : bool
        Whether a run in `folder` that was cut off is to go on.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If `folder` already holds a run, which would be lost, or has nothing left to resume.
    OSError
        If it cannot be made.
    """
    if folder is not None:
        path = Path(folder)
        if (path / CHECKPOINT).exists():
            if not resume:
                raise ValueError(
                    f"run: found a run in {path} that was cut off, expected --resume to go on with "
                    "it, or a new or empty folder"
                )
        elif (path / MODEL).exists():
            if not (resume and _untrained(path)):
                what = " and no checkpoint to resume from" if resume else ""
                raise ValueError(
                    f"run: found a run in {path} already{what}, expected a new or empty folder"
                )
        else:
            there = [name for name in WRITTEN if (path / name).exists()]
            if there:
                raise ValueError(
                    f"run: found {there[0]} in {path}, which would be lost; expected a new or "
                    "empty folder"
                )
        path.mkdir(parents=True, exist_ok=True)
        return path
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while True:
        path = RUNS / (name if number == 1 else f"{name}_{number}")
        try:
            path.mkdir(parents=True)
            return path
        # Two runs can start in the same second.
        except FileExistsError:
            if not RUNS.is_dir():
                raise
            number += 1


def _told(folder: Path) -> dict[str, Any] | None:
    """What the settings in a folder say; None if there are none, or not those of a run."""
    try:
        found: dict[str, Any] = json.loads((folder / SETTINGS).read_bytes())
        parts = found["options"], found["data"], found["result"]
        return found if all(isinstance(part, dict) for part in parts) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _untrained(folder: Path) -> bool:
    """Whether the run in a folder was broken off before it had made an update."""
    told = _told(folder)
    result = {} if told is None else told["result"]
    return bool(result.get("interrupted")) and result.get("updates") == 0


def ended(folder: Path) -> dict[str, Any] | None:
    """Return the settings of a run that came to its end, so that nothing is left to resume.

    None if it has not, or if the folder holds none.
    """
    if not (folder / MODEL).is_file() or (folder / CHECKPOINT).exists():
        return None
    told = _told(folder)
    if told is None or "path" not in told["data"]:
        return None
    result = told["result"]
    if not {"interrupted", "diverged"} <= result.keys():
        return None
    return None if result["interrupted"] or result["diverged"] else told


def newest_model() -> Path:
    """Return the model of the last run in ``runs`` of the working directory.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    models = sorted(RUNS.glob(f"*/{MODEL}"), key=lambda path: path.stat().st_mtime_ns)
    if not models:
        raise FileNotFoundError(
            f"model: found none in {RUNS.resolve()}, expected a run there or the path of a model; "
            "pynn train makes one"
        )
    return models[-1]


def data_of(model: Path) -> str | None:
    """Return where the data of a model's run were; None for MNIST, and where nothing tells."""
    told = _told(model if model.is_dir() else model.parent)
    place = None if told is None else told["data"].get("path")
    return place if isinstance(place, str) else None


class Run(NamedTuple):
    """A run as it was written: its folder, settings, network, and the rows it is measured on."""

    folder: Path
    settings: dict[str, Any]
    net: Network
    tested: str
    """``"test"``, or ``"validation"`` where the data have no test set."""
    test: Pair


def read(
    folder: str | os.PathLike[str] | None = None, data: str | os.PathLike[str] | None = None
) -> Run:
    """Read a run that ``pynn train`` wrote, and its data again from where they were.

    Parameters
    ----------
    folder : path-like, optional
        That of the run; by default the newest in ``runs`` of the working directory.
    data : path-like, optional
        Where the data are now, if they have moved.

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no longer such data.
    ValueError
        If the folder holds no run, or the data are not those it was trained on.
    OSError
        If the system refuses to read them.
    """
    from ..network import load

    path = newest_model().parent if folder is None else Path(folder)
    if not path.is_dir():
        what = "a file" if path.exists() else "no such folder"
        raise FileNotFoundError(f"folder: {path}: found {what}, expected the folder of a run")
    for name in (MODEL, SETTINGS):
        if not (path / name).is_file():
            raise ValueError(
                f"folder: {path}: found no {name}, expected the folder of a run, as pynn train "
                "makes it"
            )
    try:
        settings = json.loads((path / SETTINGS).read_bytes())
        options, about = settings["options"], settings["data"]
        place, digest = about["path"], str(about["sha256"])
        share = arguments.number(options["validation"], "validation", least=0)
        if share >= 1:
            raise ValueError(f"validation: found {share:g}, expected a share of less than 1")
        seed = arguments.whole(settings["seed"], "seed", 0, 2**64 - 1)
        result, environment = settings["result"], settings["environment"]
        if not all(isinstance(part, dict) for part in (options, about, result, environment)):
            raise TypeError("a section is no object")
        if not isinstance(place, (str, type(None))):
            raise TypeError(f"path: found {shown(place)}, expected text")
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        what = f"no {shown(str(error))}" if isinstance(error, KeyError) else shown(error)
        raise ValueError(
            f"folder: {path / SETTINGS}: found {what}, expected the settings that pynn train writes"
        ) from error
    net = load(path / MODEL)

    place = place if data is None else data
    try:
        found = read_data(place)
    except FileNotFoundError as error:
        moved = "; if it has moved, say where with --data" if data is None else ""
        raise FileNotFoundError(f"data: {shown(error, 600)}{moved}") from error
    # The path that they name is what the settings say.
    except ValueError as error:
        raise ValueError(shown(error, 600)) from error
    except OSError as error:
        raise OSError(f"data: {shown(error, 600)}") from error
    if fingerprint(found.train + (found.test or ())) != digest:
        raise ValueError(
            f"data: {shown(found.source)}: found other data than those the run was trained on, "
            f"expected the same bytes (SHA-256 {shown(digest[:12])}…); say with --data where they "
            "are"
        )
    if found.test is not None:
        return Run(path, settings, net, "test", found.test)
    return Run(path, settings, net, "validation", hold_out(found.train, share, seed)[1])


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON, whole or not at all; NaN and infinity become null."""
    text = json.dumps(_plain(document), indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as file:
        # A path may hold bytes that are no text; as \udc80 and the like they are good JSON.
        file.write(text.encode(errors="backslashreplace") + b"\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def write_picture(path: Path, ax: Any) -> None:
    """Write the figure of an Axes as PNG, whole or not at all."""
    with atomic_write(path) as file:
        ax.figure.savefig(file, format="png", dpi=150)


def images_of(x: np.ndarray) -> np.ndarray | None:
    """Return rows as images (n, height, width), or None if they are none.

    A square number of columns is taken for pixels from 8 x 8 on: in tables it occurs by chance too.
    """
    if x.ndim == 3:
        return x
    pixels = math.prod(x.shape[1:])
    side = math.isqrt(pixels)
    return x.reshape(-1, side, side) if side * side == pixels and side >= 8 else None


def labels_of(net: Network, y: np.ndarray) -> np.ndarray | None:
    """Return the labels (n,) that targets stand for, or None if they stand for no single class."""
    if net.classes is None:
        return None
    if y.ndim == 1 or y.shape[1] == 1:
        return y.reshape(-1)
    one_hot = ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()
    return net.classes[y.argmax(axis=1)] if one_hot else None


def fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 (hexadecimal) of dtypes, shapes and contents of arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def process_seconds() -> float | None:
    """Return how many seconds ago this process was started; None where that takes a package.

    To 0.01 s on Linux: what the interpreter and imports took is in it.
    """
    try:
        # The name of the program, in brackets, may hold anything.
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return None
