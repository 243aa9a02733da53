"""The folder of a run: its files, and how a run is found, resumed and read again.

A run has the model, the history, the settings and pictures, and a checkpoint until it has ended.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays.fingerprint import content_sha256
from ..files.disk import atomic_write, shown
from ..spec import arguments
from . import pictures, saved, tables
from .app import show_warning

if TYPE_CHECKING:
    from ..data.dataset import Pair
    from ..data.table import Table
    from ..network import Network

RUNS = Path("runs")
MODEL = "model.safetensors"
SETTINGS = "settings.json"
CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.json"
WRITTEN = (MODEL, SETTINGS, HISTORY, *pictures.FILES)
"""All files that a run leaves in its folder."""
OWN = (*WRITTEN, CHECKPOINT, "report.html")
"""All files of a run, also those of a run that has not ended and of its report."""

# --- Data -----------------------------------------------------------------------------------------


class Data(NamedTuple):
    """The data of a run: ``(x, y)`` to train and to test on, and their source."""

    source: str
    train: Pair
    test: Pair | None
    """None without a test set."""
    columns: tuple[str, ...] | None = None
    """The names of the columns of x, if the file has them."""
    table: Table | None = None
    """How the columns of the file became x and y."""
    weights: np.ndarray | None = None
    """Sample weights of the rows to train on."""


def read_data(
    path: str | os.PathLike[str] | None,
    target: str | None = None,
    pixels: bool | None = None,
    index: bool | None = None,
) -> Data:
    """Load a data set; MNIST if `path` is None.

    Parameters
    ----------
    path : path-like, optional
        The data set.
    target : str, optional
        The column of a CSV file with the labels; by default the first.
    pixels : bool, optional
        Whether a CSV file has pixels, as in ``load_csv``.
    index : bool, optional
        Whether the first column of a CSV file holds row numbers, as in ``load_csv``.

    Raises
    ------
    OSError, ValueError
        If it cannot be read or is not a data set.
    """
    if path is None:
        if target is not None:
            raise ValueError(
                f"target: found {target!r} for MNIST, expected it with --data FILE.csv"
            )
        if index:
            raise ValueError("index: found True for MNIST, expected it with --data FILE.csv")
        from ..datasets import mnist

        return Data("MNIST", *mnist())
    from ..data import load

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            label = "first" if target is None else target
            found = load(path, label=label, pixels=pixels, index=index)
    except ValueError as error:
        # The option has another name than the argument.
        text = re.sub("^label: ", "target: ", str(error))
        if target is None and "expected a finite number" in text:
            text += "; for a table with texts name its target with --target COLUMN"
        raise ValueError(text) from error
    return Data(str(path), found.train, found.test, found.columns)


def hold_out(
    pair: Pair, share: float, seed: int, labels: bool, stratify: bool
) -> tuple[Pair, Pair]:
    """Split data without a test set like ``fit``: rows to train on, and rows to measure on.

    Parameters
    ----------
    pair : (x, y)
        The data.
    share : float
        Share of the rows to measure on.
    seed : int
        Key of the random numbers.
    labels : bool
        Whether y of one column has class labels.
    stratify : bool
        Whether to hold out the same share of each class.

    Raises
    ------
    ValueError
        If one side would have no row, although `share` is above 0.
    """
    x, y = pair
    out = rows_held_out(y, share, seed, labels, stratify)
    return (x[~out], y[~out]), (x[out], y[out])


def rows_held_out(
    y: np.ndarray, share: float, seed: int, labels: bool, stratify: bool
) -> np.ndarray:
    """Return the rows (n,) that `hold_out` measures on, as booleans; none for the share 0."""
    from ..training.split import held_out

    if share == 0:
        return np.zeros(len(y), bool)
    try:
        return held_out(len(y), share, seed, _codes(y, labels) if stratify else None)
    except ValueError as error:
        raise ValueError(
            f"{error}; this data has no test set, so the result is measured on the held-out rows"
        ) from None


def _codes(y: np.ndarray, labels: bool) -> np.ndarray | None:
    """Return the class of each row as a number, if y has labels or one-hot targets."""
    if y.ndim == 1 or y.shape[1] == 1:
        return np.unique(y.ravel(), return_inverse=True)[1] if labels else None
    return y.argmax(axis=1) if pictures.are_one_hot(y) else None


# --- New, resumed and ended runs ------------------------------------------------------------------


def new_folder(folder: str | os.PathLike[str] | None = None, resume: bool = False) -> Path:
    """Create the folder of a new run, or find the folder of a run to resume.

    Parameters
    ----------
    folder : path-like, optional
        It may exist, but must not hold files that a run writes. By default date and time, in
        ``runs`` of the working directory.
    resume : bool
        Whether to continue an interrupted run in `folder`.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If `folder` holds a run that would be overwritten, or that cannot be resumed.
    OSError
        If it cannot be created.
    """
    if folder is None:
        return _dated_folder()
    path = Path(folder)
    if path.is_file():
        raise ValueError(f"run: found the file {path}, expected a new or empty folder")
    existing = [name for name in WRITTEN if (path / name).exists()]
    if (path / CHECKPOINT).exists():
        if not resume:
            raise ValueError(
                f"run: found an interrupted run in {path}, expected --resume to continue it, or a "
                "new or empty folder"
            )
    elif MODEL in existing:
        if not (resume and _untrained(path)):
            also = " and no checkpoint to resume from" if resume else ""
            raise ValueError(
                f"run: found a run in {path} already{also}, expected a new or empty folder"
            )
    elif existing == [SETTINGS] and settings_in(path) is not None:
        # Ended by force before its first checkpoint.
        if not resume:
            raise ValueError(
                f"run: found a run in {path} that was interrupted before its first checkpoint, "
                "expected --resume to begin it again, or a new or empty folder"
            )
    elif existing:
        raise ValueError(
            f"run: found {existing[0]} in {path}, which would be overwritten; expected a new or "
            "empty folder"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def _dated_folder() -> Path:
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


def settings_in(folder: Path) -> dict[str, Any] | None:
    """Return the settings in a folder; None if there are none, or none of a run."""
    try:
        found: dict[str, Any] = json.loads((folder / SETTINGS).read_bytes())
        parts = found["options"], found["data"], found["result"]
        return found if all(isinstance(part, dict) for part in parts) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def check_settings(folder: Path) -> None:
    """Raise a ValueError if a folder has a settings file that is not of a run."""
    path = folder / SETTINGS
    if not path.is_file() or settings_in(folder) is not None:
        return
    try:
        json.loads(path.read_bytes())
        found = "other content"
    except (ValueError, RecursionError) as error:
        found = f"no JSON ({shown(error)})"
    raise ValueError(f"run: {path}: found {found}, expected the settings that pynn train writes")


def is_older_split(folder: Path) -> bool:
    """Whether a folder has a checkpoint that was written before splits were stratified."""
    from ..training.resume import is_older_split

    return is_older_split(folder / CHECKPOINT)


def _untrained(folder: Path) -> bool:
    """Whether the run in a folder was interrupted before its first update."""
    settings = settings_in(folder)
    result = {} if settings is None else settings["result"]
    return bool(result.get("interrupted")) and result.get("updates") == 0


def ended(folder: Path) -> dict[str, Any] | None:
    """Return the settings of a run that has ended, so that nothing is left to resume.

    Returns None if the run has not ended, or if the folder holds no run.
    """
    if not (folder / MODEL).is_file() or (folder / CHECKPOINT).exists():
        return None
    settings = settings_in(folder)
    if settings is None or "path" not in settings["data"]:
        return None
    result = settings["result"]
    if not {"interrupted", "diverged"} <= result.keys():
        return None
    return None if result["interrupted"] or result["diverged"] else settings


# --- Runs that exist ------------------------------------------------------------------------------


LAST_RUN = "the last run in runs/"


def folder_of(run: Path) -> Path:
    """Return the folder of a run, which may be named by its model file."""
    return run.parent if run.is_file() else run


def are_same(a: Path, b: Path) -> bool:
    """Whether two paths name one file, which need not exist."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def settings_of(run: Path | None) -> dict[str, Any] | None:
    """Return the settings of a run; None if it has none. ``run`` is its folder or its model."""
    return settings_in(newest_run() if run is None else folder_of(run))


def model_in(folder: Path) -> Path:
    """Return the model of a run: its checkpoint if that is newer, or has no model beside it."""
    model, checkpoint = folder / MODEL, folder / CHECKPOINT
    if not checkpoint.is_file():
        return model
    if not model.is_file():
        return checkpoint
    newer = checkpoint.stat().st_mtime_ns > model.stat().st_mtime_ns
    return checkpoint if newer else model


def load_model(run: Path | None, backend: str = "auto", threads: int | None = None) -> Network:
    """Load the network of a run, given by its folder or its model file; by default the last."""
    from ..network import load

    path = newest_run() if run is None else run
    return load(model_in(path) if path.is_dir() else path, backend=backend, threads=threads)


def newest_run() -> Path:
    """Return the folder of the last run in ``runs`` of the working directory.

    Raises
    ------
    FileNotFoundError
        If there is no model.
    """
    models = [*RUNS.glob(f"*/{MODEL}"), *RUNS.glob(f"*/{CHECKPOINT}")]
    models.sort(key=lambda path: path.stat().st_mtime_ns)
    if not models:
        raise FileNotFoundError(
            f"run: found none in {RUNS.resolve()}, expected a run there or the folder of a run; "
            "pynn train writes one"
        )
    return models[-1].parent


def data_of(model: Path) -> str | None:
    """Return the path of the data of a model's run; None for MNIST or if it is unknown."""
    settings = settings_of(model)
    return None if settings is None else saved.text(settings["data"], "path")


def options_of(run: Path | None) -> dict[str, Any]:
    """Return the options in the settings of a run; an empty dict if it has no settings."""
    settings = settings_of(run)
    return {} if settings is None else settings["options"]


def csv_options(
    model: Path, data: str | os.PathLike[str] | None, net: Network
) -> tuple[str | None, bool | None, bool | None]:
    """Return the arguments ``target``, ``pixels`` and ``index`` of `read_data` for a model's data.

    They are the options of its run. Without these, a network of pixels reads any columns as pixels.
    """
    if data is None or Path(data).suffix.lower() != ".csv":
        return None, None, None
    options = options_of(model)
    pixels = _pixels(options, net)
    if pixels is None and net.pixels is True:
        pixels = True
    return saved.text(options, "target"), pixels, saved.flag(options, "index")


def _pixels(options: Mapping[str, Any], net: Network) -> bool | None:
    """Return the argument ``pixels`` of `read_data` that gives the data of a run again.

    Models of earlier versions were trained on uint8 if a file had whole numbers from 0 to 255.
    """
    found = saved.flag(options, "pixels")
    return True if found is None and net.pixels is None else found


class Run(NamedTuple):
    """A run, finished or not, read from its folder."""

    folder: Path
    settings: dict[str, Any]
    net: Network
    tested: str
    """``"test"``, or ``"validation"`` if the data have no test set."""
    test: Pair
    """The rows that the run was measured on; none if it held out none."""
    weights: np.ndarray | None = None
    """Their sample weights."""

    @property
    def metrics(self) -> list[str]:
        """The names of its metrics."""
        return saved.metrics(self.settings["options"])

    @property
    def missing_targets(self) -> str:
        """Its option ``missing_targets``."""
        return saved.missing_targets(self.settings["options"])


def read(
    folder: str | os.PathLike[str] | None = None, data: str | os.PathLike[str] | None = None
) -> Run:
    """Read a run that ``pynn train`` wrote, and load its data again.

    Parameters
    ----------
    folder : path-like, optional
        The folder of the run; by default the newest in ``runs`` of the working directory.
    data : path-like, optional
        The data, if they have moved.

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError
        If the folder or the data do not exist.
    ValueError
        If the folder holds no run, or the run was trained on other data.
    OSError
        If the system cannot read them.
    """
    path = newest_run() if folder is None else Path(folder)
    if not path.is_dir():
        found = "a file" if path.exists() else "no such folder"
        raise FileNotFoundError(f"folder: {path}: found {found}, expected the folder of a run")
    expected = "expected the folder of a run written by pynn train"
    if not (path / MODEL).is_file() and not (path / CHECKPOINT).is_file():
        also = f" and no {CHECKPOINT}" if (path / SETTINGS).is_file() else ""
        raise ValueError(f"folder: {path}: found no {MODEL}{also}, {expected}")
    if not (path / SETTINGS).is_file():
        raise ValueError(f"folder: {path}: found no {SETTINGS}, {expected}")
    settings = _read_settings(path / SETTINGS)
    net = load_model(path)
    options, seed = settings["options"], int(settings["seed"])
    share = float(options["validation"])
    # Runs of earlier versions, whose settings do not name it, held out any rows.
    stratify = options.get("stratify") is True
    loaded = _read_data_again(settings, data, net)
    if loaded.test is not None:
        return Run(path, settings, net, "test", loaded.test)
    (x, y), labels = loaded.train, net.classes is not None
    held = rows_held_out(y, share, seed, labels, stratify)
    weights = None if loaded.weights is None else loaded.weights[held]
    return Run(path, settings, net, "validation", (x[held], y[held]), weights)


def _read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a run; check the parts that a report needs."""
    try:
        settings: dict[str, Any] = _json_in(path)
        options, data = settings["options"], settings["data"]
        place = data["path"]
        data["sha256"] = str(data["sha256"])  # compared and printed as text
        share = arguments.number(options["validation"], "validation", least=0)
        if share >= 1:
            raise ValueError(f"validation: found {share:g}, expected a share of less than 1")
        arguments.whole(settings["seed"], "seed", 0, 2**64 - 1)
        target = options.get("target")
        if not isinstance(target, (str, type(None))):
            raise TypeError(f"target: found {shown(target)}, expected text")
        result, environment = settings["result"], settings["environment"]
        if not all(isinstance(part, dict) for part in (options, data, result, environment)):
            raise TypeError("a section is not an object")
        if not isinstance(place, (str, type(None))):
            raise TypeError(f"path: found {shown(place)}, expected text")
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        found = f"no {shown(str(error))}" if isinstance(error, KeyError) else shown(error)
        raise ValueError(
            f"folder: {path}: found {found}, expected the settings that pynn train writes"
        ) from error
    return settings


def _json_in(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from error


def _read_data_again(
    settings: dict[str, Any], moved: str | os.PathLike[str] | None, net: Network
) -> Data:
    """Load the data of a run from their path, or from `moved`, and compare their SHA-256."""
    about, options = settings["data"], settings["options"]
    path, index = about["path"] if moved is None else moved, saved.flag(options, "index")
    try:
        if net.table is not None and path is not None:
            x, y, weights = tables.read_again(path, net.table, options)
            found = Data(str(path), (x, y), None, net.table.inputs, net.table, weights)
        else:
            found = read_data(path, options.get("target"), _pixels(options, net), index)
    # The errors quote the path in the settings, which may hold any characters.
    except FileNotFoundError as error:
        advice = "; if it has moved, pass its path with --data" if moved is None else ""
        raise FileNotFoundError(f"data: {shown(error, 600)}{advice}") from error
    except ValueError as error:
        raise ValueError(shown(error, 600)) from error
    except OSError as error:
        raise OSError(f"data: {shown(error, 600)}") from error
    digest = about["sha256"]
    if content_sha256(found.train + (found.test or ())) != digest:
        raise ValueError(
            f"data: {shown(found.source)}: found data that differ from the run's, expected "
            f"identical data (SHA-256 {shown(digest[:12])}…); pass their path with --data"
        )
    return found


# --- Files ----------------------------------------------------------------------------------------


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON, atomically; NaN and infinity become null."""
    text = json.dumps(plain(document), indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as file:
        # Bytes of a path that are not UTF-8 become escapes such as \udc80, which JSON allows.
        file.write(text.encode(errors="backslashreplace") + b"\n")


def plain(value: Any) -> Any:
    """Return a value as JSON types; NaN and infinity become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


# --- Time -----------------------------------------------------------------------------------------


def process_seconds() -> float | None:
    """Return the age of this process, including interpreter start and imports.

    On Linux it is exact to 0.01 s; elsewhere it is None, as it would need another package.
    """
    try:
        # The name of the program, in brackets, may hold any characters.
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return None
