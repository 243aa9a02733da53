"""Packed IDX files: verified by their SHA-256 and unpacked into the cache folder of the user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from ..data.idx import idx_header, load_idx
from ..files.disk import atomic_write


def load_verified(packed: Path, sha256: str, folder: str) -> np.ndarray:
    """Load a gzip-compressed IDX file of uint8, from the cache if it is there.

    Parameters
    ----------
    packed : Path
        The file as installed, ending in ``.gz``.
    sha256 : str
        SHA-256 of the unpacked file, hexadecimal.
    folder : str
        Name of the folder within the cache folder.

    Returns
    -------
    ndarray
        A new, writable array of uint8.

    Raises
    ------
    FileNotFoundError, ValueError
        If the installed file is missing or damaged.
    """
    cache = cache_folder()
    cached = None if cache is None else cache / folder / packed.stem
    if cached is not None:
        try:
            array = load_idx(cached)
            if _sha256(array) == sha256:
                return array
        except (OSError, ValueError):
            pass  # missing or damaged: written again below
    array = _load_installed(packed, sha256)
    if cached is not None:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            # No sync: a file damaged by a power cut fails verification and is written again.
            with atomic_write(cached, sync=False) as file:
                file.write(idx_header(array))
                file.write(array.data)
        except (OSError, ValueError):
            pass  # without a cache, the next call is only slower
    return array


def _load_installed(packed: Path, sha256: str) -> np.ndarray:
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
    return array


def _sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of the IDX file that holds a uint8 array."""
    import hashlib

    digest = hashlib.sha256(idx_header(array))
    digest.update(array.data)
    return digest.hexdigest()


def cache_folder() -> Path | None:
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
