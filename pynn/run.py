"""The folder of a training run: where it is, what is written into it, what it ran on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .files import atomic_write

RUNS = Path("runs")
MODEL = "model.safetensors"


def new_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Make the folder of a new run.

    Parameters
    ----------
    folder : path-like, optional
        Where; it may exist, but must not hold a model yet. By default the date and time, in
        ``runs`` of the working directory.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If `folder` already holds a run, which would be lost.
    OSError
        If it cannot be made.
    """
    if folder is not None:
        path = Path(folder)
        if (path / MODEL).exists():
            raise ValueError(f"run: found a run in {path} already, expected a new or empty folder")
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


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON, whole or not at all; NaN and infinity become null."""
    text = json.dumps(_plain(document), indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")


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


def fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 (hexadecimal) of dtypes, shapes and contents of arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Return what a run depends on besides its settings.

    Returns
    -------
    dict
        What ``pynn.info()`` says, and ``cpu``, ``cores`` (that this process may use) and
        ``platform``.
    """
    from . import info

    return {
        **info(),
        "cpu": cpu_name(),
        "cores": _cores(),
        "platform": platform.platform(),
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return the name of the processor as its maker spells it, as far as the system tells."""
    try:
        if sys.platform == "linux":
            with open("/proc/cpuinfo", encoding="utf-8") as file:
                for line in file:
                    if line.startswith("model name"):
                        return line.partition(":")[2].strip()
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine()
