"""What is fuzzed, and the contract that every file must keep, whatever its bytes.

A loader returns something usable or raises one clear error of the kinds it documents. It runs no
code, starts no program, writes no file, warns of nothing, and takes no more memory than a file of
that size may ask for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import pynn
from pynn.cli import folder as run_folder
from pynn.cli import report
from pynn.data import csv, idx, images, loading
from pynn.nielsen import network2
from pynn.training import saver

from . import mutators, seeds

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MEGABYTE = 1 << 20

# The limit of images is a number of pixels: a smaller one gives the same test, faster.
MAX_PIXELS = 1 << 16


class Broken(Exception):
    """The contract is broken."""


class Target(NamedTuple):
    """A loader under test.

    ``load(path)`` reads the file and looks at what came of it; ``factor`` is how many bytes of
    memory a byte of the file may take, beside a few megabytes.
    """

    load: Callable[[Path], object]
    seeds: Callable[[], Iterator[bytes]]
    mutate: mutators.Mutator
    name: str = "input"
    factor: int = 64
    max_len: int = 4096
    beside: Callable[[], dict[str, bytes]] = dict


# --- The loaders ----------------------------------------------------------------------------------


def _idx(path: Path) -> None:
    array = idx.load_idx(path)
    assert array.flags.writeable
    assert array.dtype.isnative
    if array.ndim > 1:
        x, y = loading.load(path).train
        assert len(x) == len(y) == 3


def _csv(path: Path) -> None:
    size = path.stat().st_size
    more: list[dict[str, Any]] = [
        {},
        {"label": None},
        {"label": "label"},
        {"label": None, "header": True},
        {"header": False},
    ]
    options = more[size % len(more)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y = csv.load_csv(path, **options)
    assert x.dtype in (np.uint8, np.float32)
    assert x.ndim == 2
    assert np.isfinite(x).all()
    assert (y is None) == ("label" in options and options["label"] is None)
    # The fast readers return what the plain one does.
    table = csv.Table.open(path, options.get("label", "first"), options.get("header"))
    plain, labels = csv.read_plain(table)
    assert (x.dtype, x.shape, x.tobytes()) == (plain.dtype, plain.shape, plain.tobytes())
    if y is not None:
        assert labels is not None
        assert (y.dtype, y.tolist()) == (labels.dtype, labels.tolist())


def _npz(path: Path) -> None:
    found = loading.load(path)
    for x, y in filter(None, (found.train, found.test)):
        assert x.dtype.kind in "buif"
        assert not y.dtype.hasobject
        assert len(x) == len(y) > 0


def _image(path: Path) -> None:
    with mock.patch.object(images, "MAX_PIXELS", MAX_PIXELS):
        grey = images.read_grey(path)
    assert grey.dtype == np.float64
    assert grey.ndim == 2
    assert 0 <= grey.min() <= grey.max() <= 1
    assert images.resized(grey, 28).shape == (28, 28)
    assert images.like_mnist(grey).shape == (28, 28)


def _model(path: Path) -> None:
    for backend in "numpy", "auto":
        net = pynn.load(path, backend=backend, threads=1)
        _look_at(net)


def _onnx(path: Path) -> None:
    net = pynn.from_onnx(path, backend="numpy", threads=1)
    _look_at(net)


def _state_dict(path: Path) -> None:
    net = pynn.Network([4, 3, 3, 2], norm=["batch", None], backend="numpy", threads=1)
    before = net.parameters.copy()
    try:
        net.load_state_dict(path)
    except ValueError:
        assert np.array_equal(net.parameters, before)
        raise
    assert np.isfinite(net.parameters).all()
    _look_at(net)


def _look_at(net: pynn.Network) -> None:
    """Do with a network what people do first with one that they were given."""
    repr(net), repr(net.history)
    if net.sizes[0] > 1000 or len(net.parameters) > 10_000:
        return
    x = np.linspace(-1, 1, 2 * net.sizes[0], dtype=net.dtype).reshape(2, -1)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # Weights may lead to outputs past all bounds, of which it does warn.
        warnings.filterwarnings("ignore", "predict: found", RuntimeWarning)
        y = net.predict(x)
    settings = json.loads(seeds.settings())
    found = run_folder.Run(Path("run"), settings, net, "test", (x, y))
    small = bool(np.abs(net.parameters).max() < 1e3)  # not if there is NaN
    if small and (net.classes is not None or net.architecture.loss == "mse"):
        report.results(report.Findings(found))
    for section in report.timings, report.settings, report.environment:
        section(found)
    report.head(found, "run")


def _checkpoint(path: Path) -> None:
    with warnings.catch_warnings():
        # Of another machine, and of weights that lead nowhere, it does warn.
        warnings.simplefilter("ignore", RuntimeWarning)
        # Writing is not reading.
        nothing = mock.patch.object(saver.Saver, "write", return_value=None)
        with nothing, contextlib.suppress(pynn.DivergenceError):
            seeds.fit(path, path.stat().st_size % 7 > 0)


def _settings(path: Path) -> None:
    """The settings of a run; beside them lie its model and its data."""
    few = seeds.blobs()
    with mock.patch("pynn.datasets.mnist", return_value=(few, few)):
        found = run_folder.read(path.parent)
    for section in (
        lambda found: report.results(report.Findings(found)),
        report.timings,
        report.settings,
        report.environment,
        lambda found: report.head(found, "run"),
    ):
        section(found).encode(errors="replace")


def _nielsen(path: Path) -> None:
    net = network2.load(path)
    if sum(net.sizes) < 1000:
        with np.errstate(all="ignore"):
            net.feedforward(np.zeros((net.sizes[0], 1)))


TARGETS = {
    "idx": Target(_idx, seeds.of_idx, mutators.plain, "images", beside=seeds.labels),
    # A byte of deflate data unpacks to 1,032 at most.
    "gzip": Target(_idx, seeds.of_gzip, mutators.gzipped, "images", 2000, beside=seeds.labels),
    "csv": Target(_csv, seeds.of_csv, mutators.cells, "input.csv"),
    "npz": Target(_npz, seeds.of_npz, mutators.archive, "input.npz", 4500),
    "image": Target(_image, seeds.of_images, mutators.picture),
    "model": Target(_model, seeds.of_models, mutators.model, max_len=16384),
    "checkpoint": Target(_checkpoint, seeds.of_checkpoints, mutators.model, max_len=16384),
    "settings": Target(
        _settings,
        seeds.of_settings,
        mutators.document,
        run_folder.SETTINGS,
        beside=seeds.beside_settings,
    ),
    "onnx": Target(_onnx, seeds.of_onnx, mutators.plain, max_len=16384),
    "state_dict": Target(_state_dict, seeds.of_state_dicts, mutators.tensors),
    "nielsen": Target(_nielsen, seeds.of_nielsen, mutators.document),
}


# --- The contract ---------------------------------------------------------------------------------

# Events of sys.audit that no loader has a reason for, or how they begin.
_FORBIDDEN = (
    *("exec", "builtins.input", "pickle.find_class", "marshal.loads", "code.__new__"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"),
    *("os.chmod", "os.chown", "os.putenv", "os.unsetenv", "pty.spawn", "subprocess.", "shutil."),
    *("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "ctypes.", "tempfile.", "webbrowser."),
)
_watched: dict[int, list[str]] = {}  # by thread
_hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if (seen := _watched.get(threading.get_ident())) is None:
        return
    if event == "open":
        mode = arguments[1]
        if mode is not None and not set(mode) <= set("rbtU"):
            seen.append(f"open{arguments!r}")
    elif event.startswith(_FORBIDDEN):
        seen.append(f"{event}{arguments!r:.200}")


@contextmanager
def _watching() -> Iterator[list[str]]:
    """Collect what a loader does and must not; warnings too."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    seen: list[str] = []
    shown = warnings.showwarning
    warnings.showwarning = lambda message, *_: seen.append(f"warning: {message!r}")  # type: ignore[assignment]
    _watched[threading.get_ident()] = seen
    try:
        yield seen
    finally:
        del _watched[threading.get_ident()]
        warnings.showwarning = shown


def _peak() -> int:
    """The most memory this process has taken, in bytes."""
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, in memory where that can be had."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="pynn-fuzz-", dir=memory) as folder:
        yield Path(folder)


class Scratch:
    """A folder for the file under test, and the working directory meanwhile."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self.path = self.folder / target.name
        for name, content in target.beside().items():
            (self.folder / name).write_bytes(content)
        self._back = os.getcwd()
        # The settings of a run name its data; so their path is as long on every machine.
        os.chdir(self.folder)

    def close(self) -> None:
        os.chdir(self._back)

    def warm_up(self) -> None:
        """Import what the loader imports on its way: that is no reading of a file."""
        import difflib  # noqa: F401

        for encoding in "utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be", "utf-32-le":
            "".encode(encoding)  # which JSON may be in
        for content in self.target.seeds():
            try:
                self._write(content)
                self.target.load(self.path)
            except (ValueError, OSError):
                pass
            except Exception:  # found again and reported then
                pass

    def _write(self, content: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(content)

    def try_one(self, content: bytes, measure: bool = True) -> str | None:
        """Load a file of these bytes; return the error it was refused with, or None.

        Raises
        ------
        Broken
            If the contract is.
        """
        self._write(content)
        limit = self.target.factor * len(content) + 8 * MEGABYTE
        refused: Exception | None = None
        before = _peak()
        if measure:
            tracemalloc.start()
        began = time.process_time()
        try:
            with _watching() as seen:
                try:
                    self.target.load(self.path)
                except (ValueError, OSError) as error:
                    refused = error
            seconds = time.process_time() - began
            taken = tracemalloc.get_traced_memory()[1] if measure else 0
        finally:
            if measure:
                tracemalloc.stop()
        if seen:
            raise Broken(f"did what no loader may: {seen[0]}")
        # Measuring itself allocates memory.
        taken = taken if measure else _peak() - before
        if taken > limit:
            raise Broken(
                f"{len(content)} bytes took {taken:,} bytes of memory, expected at most {limit:,}"
            )
        if seconds > 60:
            raise Broken(f"took {seconds:.1f} s")
        return None if refused is None else _judged(refused)


def _judged(error: Exception) -> str:
    text = str(error)
    if isinstance(error, ValueError) and type(error) is not ValueError:
        raise Broken(f"raised {error!r}, expected a plain ValueError") from error
    if len(text) > 1000:
        raise Broken(f"an error of {len(text)} characters: {text[:200]}") from error
    # No line breaks, no control characters for the terminal, no half of a surrogate pair.
    if not text.isprintable():
        raise Broken(f"an error with control characters: {text!r}") from error
    if not text:
        raise Broken("an error without words") from error
    return text
