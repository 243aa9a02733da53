"""Read NPZ files."""

from __future__ import annotations

import io
import math
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..files.disk import require_file, shown
from .dataset import Pair, _check_lengths
from .idx import _DEFLATE_LIMIT, _fill

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo


# NPZ ----------------------------------------------------------------------------------------------


def load_npz(path: str | os.PathLike[str]) -> Pair | tuple[Pair, Pair]:
    """Load examples and labels from an ``.npz`` file, by the names of its arrays.

    Parameters
    ----------
    path : str or path-like
        A file with arrays named ``x`` and ``y``; or ``x_train`` and ``y_train``; or these two and
        ``x_test`` and ``y_test`` (the layout of Keras' ``mnist.npz``). Capitals do not matter,
        and other arrays are left alone.

    Returns
    -------
    (x, y), or ((x_train, y_train), (x_test, y_test)) if the file has a test set
        The arrays as they are stored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no whole ``.npz`` file, has other names, holds Python objects (they are never
        unpickled), or has not one label for each example.
    """
    import zipfile

    path = require_file(path, "an .npz file")
    with open(path, "rb") as file:
        whole = os.fstat(file.fileno()).st_size
        if file.read(2) != b"PK":
            raise ValueError(f"{path}: found no ZIP archive, expected an .npz file")
        file.seek(0)
        # The readers of archives and headers fail on damaged files in a dozen ways.
        try:
            with zipfile.ZipFile(file) as archive:
                members = {
                    member.filename.removesuffix(".npy").lower(): member
                    for member in archive.infolist()
                }
                layout = _npz_layout(list(members))
                arrays = {
                    name: _read_npy(archive, members[name], whole)
                    for pair in layout
                    for name in pair
                }
        except Exception as error:
            raise ValueError(
                f"{path}: found an archive that is damaged or holds no plain arrays "
                f"({shown(error)}), expected an .npz file of numbers"
            ) from error
    if not layout:
        names = ", ".join(member.filename.removesuffix(".npy") for member in members.values())
        raise ValueError(
            f"{path}: found arrays named {shown(names or 'nothing')}, "
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
        _check_lengths(path, x, y_name, y)
        pairs.append((x, y))
    return pairs[0] if len(pairs) == 1 else (pairs[0], pairs[1])


_LONGEST_NPY_HEADER = 10_000  # as NumPy has it


def _read_npy(archive: ZipFile, about: ZipInfo, whole: int) -> np.ndarray:
    """Read an array from an archive of so many bytes, with no more memory than they can fill."""
    from zipfile import ZIP_DEFLATED, ZIP_STORED

    name = shown(about.filename)
    # As NumPy packs; what others pack has no such limit.
    limits = {ZIP_STORED: 1, ZIP_DEFLATED: _DEFLATE_LIMIT}
    if about.compress_type not in limits:
        raise ValueError(f"{name} is packed by method {about.compress_type}, not by deflate")
    size = min(about.file_size, min(about.compress_size, whole) * limits[about.compress_type])
    with archive.open(about) as file:
        start = file.read(12)
        wide = start[6:7] > b"\1"
        length = int.from_bytes(start[8 : 12 if wide else 10], "little")
        if length > _LONGEST_NPY_HEADER:
            raise ValueError(f"{name} has a header of {length} bytes")
        rest = length + (12 if wide else 10) - len(start)
        header = io.BytesIO(start + file.read(max(0, rest)))
        np.lib.format.read_magic(header)
        read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
        with warnings.catch_warnings():
            # It tells of headers that Python 2 wrote.
            warnings.simplefilter("ignore", UserWarning)
            shape, fortran, dtype = read(header)
        # NumPy takes text of no length for text of length 1.
        if dtype.kind not in "buifSU" or not dtype.itemsize:
            raise ValueError(
                f"{name} has dtype {shown(dtype)}, which holds neither numbers nor text"
            )
        needed = math.prod(shape) * dtype.itemsize
        if needed > size - header.tell():
            raise ValueError(f"{name} is too short for its shape {shown(shape)} of {dtype}")
        array = np.empty(shape[::-1] if fortran else shape, dtype)
        filled = _fill(array, file)
        if filled < needed:
            raise ValueError(f"{name} is cut off after {filled} bytes of data")
        if file.read(1):  # which also compares the checksum
            raise ValueError(f"{name} goes on after its data")
    if dtype.kind == "U" and array.size:
        points = array.reshape(-1).view(np.uint32 if dtype.isnative else ">u4")
        if points.max() > sys.maxunicode:
            raise ValueError(f"{name} holds what is no text")
    return array.T if fortran else array


def _npz_layout(names: Sequence[str]) -> list[tuple[str, str]]:
    train, test = ("x_train", "y_train"), ("x_test", "y_test")
    for layout in [train, test], [train], [("x", "y")]:
        if all(name in names for pair in layout for name in pair):
            # Half a test set is a mistake, not a file without one.
            return [] if layout == [train] and set(test) & set(names) else layout
    return []
