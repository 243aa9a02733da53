"""Load NPZ files, without unpickling and with bounded memory."""

from __future__ import annotations

import io
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..files.disk import require_file, shown
from .dataset import Pair, check_lengths
from .idx import DEFLATE_LIMIT, read_into

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo


# NumPy's own limit.
_LONGEST_HEADER = 10_000

_TRAIN, _TEST = ("x_train", "y_train"), ("x_test", "y_test")


def load_npz(path: str | os.PathLike[str]) -> Pair | tuple[Pair, Pair]:
    """Load examples and labels from an ``.npz`` file, by the names of its arrays.

    Parameters
    ----------
    path : str or path-like
        A file with arrays named ``x`` and ``y``; or ``x_train`` and ``y_train``; or these two and
        ``x_test`` and ``y_test`` (the layout of Keras' ``mnist.npz``). Upper case is accepted, and
        other arrays are ignored.

    Returns
    -------
    (x, y), or ((x_train, y_train), (x_test, y_test)) if the file has a test set
        The arrays with their stored dtypes and shapes.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not a complete ``.npz`` file, has other names, holds Python objects (they are
        never unpickled), or does not have one label for each example.
    """
    path = require_file(path, "an .npz file")
    names, layout, arrays = _read_archive(path)
    if not layout:
        raise ValueError(
            f"{path}: found arrays named {shown(', '.join(names) or 'nothing')}, "
            "expected x and y, or x_train, y_train and perhaps x_test, y_test"
        )
    pairs = []
    for x_name, y_name in layout:
        x, y = arrays[x_name], arrays[y_name]
        for name, array in (x_name, x), (y_name, y):
            if not array.ndim:
                raise ValueError(f"{path}: found no array in {name}, expected one row per example")
        if x.dtype.kind not in "buif":
            raise ValueError(f"{path}: found dtype {x.dtype} in {x_name}, expected numbers")
        check_lengths(path, x, y_name, y)
        pairs.append((x, y))
    return pairs[0] if len(pairs) == 1 else (pairs[0], pairs[1])


def _read_archive(path: Path) -> tuple[list[str], list[tuple[str, str]], dict[str, np.ndarray]]:
    """Return the names of all arrays, the pairs to use, and the arrays of these pairs."""
    import zipfile

    with open(path, "rb") as file:
        file_size = os.fstat(file.fileno()).st_size
        if file.read(2) != b"PK":
            raise ValueError(f"{path}: found no ZIP archive, expected an .npz file")
        file.seek(0)
        # Readers of archives and headers raise a dozen kinds of exceptions for damaged files.
        try:
            with zipfile.ZipFile(file) as archive:
                members = {
                    member.filename.removesuffix(".npy").lower(): member
                    for member in archive.infolist()
                }
                layout = _layout(list(members))
                arrays = {
                    name: _read_array(archive, members[name], file_size)
                    for pair in layout
                    for name in pair
                }
        except Exception as error:
            raise ValueError(
                f"{path}: found an archive that is damaged or holds no plain arrays "
                f"({shown(error)}), expected an .npz file of numbers"
            ) from error
    return [member.filename.removesuffix(".npy") for member in members.values()], layout, arrays


def _layout(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names of x and y, for training and testing; empty if the names do not fit."""
    for layout in [_TRAIN, _TEST], [_TRAIN], [("x", "y")]:
        if all(name in names for pair in layout for name in pair):
            # Half a test set is a mistake, not a file without a test set.
            return [] if layout == [_TRAIN] and set(_TEST) & set(names) else layout
    return []


def _read_array(archive: ZipFile, member: ZipInfo, file_size: int) -> np.ndarray:
    """Read an array of an archive; allocate no more memory than `file_size` bytes can fill."""
    from zipfile import ZIP_DEFLATED, ZIP_STORED

    name = shown(member.filename)
    # NumPy writes these two; other methods have no limit on the size of the unpacked data.
    limits = {ZIP_STORED: 1, ZIP_DEFLATED: DEFLATE_LIMIT}
    if member.compress_type not in limits:
        raise ValueError(
            f"{name} uses compression method {member.compress_type}, expected none or deflate"
        )
    size = min(
        member.file_size, min(member.compress_size, file_size) * limits[member.compress_type]
    )
    with archive.open(member) as file:
        shape, fortran, dtype, start = _read_header(name, file)
        needed = math.prod(shape) * dtype.itemsize
        if needed > size - start:
            raise ValueError(f"{name} is too short for its shape {shown(shape)} of {dtype}")
        array = np.empty(shape[::-1] if fortran else shape, dtype)
        filled = read_into(array, file)
        if filled < needed:
            raise ValueError(f"{name} is cut off after {filled} bytes of data")
        if file.read(1):  # at the end of the file, this also verifies the checksum
            raise ValueError(f"{name} has more bytes after its data")
    if dtype.kind == "U" and array.size:
        code_points = array.reshape(-1).view(np.uint32 if dtype.isnative else ">u4")
        if code_points.max() > sys.maxunicode:
            raise ValueError(f"{name} holds invalid text")
    return array.T if fortran else array


def _read_header(name: str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether in Fortran order, dtype, and the number of bytes before the data."""
    start = file.read(12)
    wide = start[6:7] > b"\1"  # version 2 or later: the length has 4 bytes
    length = int.from_bytes(start[8 : 12 if wide else 10], "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"{name} has a header of {length} bytes")
    rest = length + (12 if wide else 10) - len(start)
    header = io.BytesIO(start + file.read(max(0, rest)))
    np.lib.format.read_magic(header)
    read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
    with warnings.catch_warnings():
        # NumPy warns of headers that Python 2 wrote.
        warnings.simplefilter("ignore", UserWarning)
        shape, fortran, dtype = read(header)
    # np.empty turns text of length 0 into text of length 1, so the size check would not hold.
    if dtype.kind not in "buifSU" or not dtype.itemsize:
        raise ValueError(f"{name} has dtype {shown(dtype)}, expected numbers or text")
    return shape, fortran, dtype, header.tell()
