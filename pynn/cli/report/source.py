"""The run that a page shows: finished, interrupted, or not finished yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...network import load
from .. import folder as folders


def read(
    folder: str | os.PathLike[str] | None = None, data: str | os.PathLike[str] | None = None
) -> folders.Run:
    """Read a run and its data; of a run without settings only what its checkpoint has.

    Parameters
    ----------
    folder, data
        As for :func:`pynn.cli.folder.read`.

    Returns
    -------
    Run
        Without rows (``len(run.test[0]) == 0``) if the checkpoint does not tell its data.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As :func:`pynn.cli.folder.read`.
    """
    path = None if folder is None else Path(folder)
    if path is None or not is_unfinished(path):
        return folders.read(folder, data)
    net = load(path / folders.CHECKPOINT)
    nothing = np.empty((0, net.sizes[0]), np.float32), np.empty(0, np.float32)
    settings: dict[str, Any] = {
        "options": {},
        "data": {"path": None, "source": None, "sha256": ""},
        "result": {"unfinished": True},
        "environment": {},
        "seed": net.seed,
    }
    return folders.Run(path, settings, net, "test", nothing)


def is_unfinished(folder: Path) -> bool:
    """Whether a folder has a checkpoint, and no settings that would tell its data."""
    return (folder / folders.CHECKPOINT).is_file() and not (folder / folders.SETTINGS).is_file()


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    names = folders.MODEL, folders.CHECKPOINT, folders.SETTINGS
    return any((folder / name).is_file() for name in names)
