"""Writes the files of the tests of readers, and calls the readers."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

in_any_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array: np.ndarray) -> bytes:
    """Return the bytes of an IDX file, written from the description of the format."""
    code = CODES[array.dtype.str[1:]]
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return (
        bytes([0, 0, code, array.ndim])
        + shape
        + array.astype(array.dtype.str.replace("<", ">")).tobytes()
    )


def write(path: Path, content: bytes, packed: bool = False) -> Path:
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def failure(function, *args, **kwargs) -> str:
    with pytest.raises(ValueError, match="found") as caught:
        function(*args, **kwargs)
    return str(caught.value)


def attempt(function, *args):
    """Return the result of a function and "", or None and the message of its ValueError."""
    try:
        return function(*args), ""
    except ValueError as error:
        return None, str(error)


def peak(function, *args) -> int:
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def csv(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path
