"""Load and write IDX files, the format of MNIST."""

from __future__ import annotations

import math
import os
import sys
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from ..files.disk import require_file, shown
from .dataset import Dataset, Pair, check_lengths

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _IDX_DTYPES.items()}

DEFLATE_LIMIT = 1032
"""Bytes that one byte of deflate data unpacks to at most (zlib's technical notes: 1032:1)."""


def load_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Load one IDX file, the format of MNIST, plain or gzip (recognised by content).

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ndarray
        A new, writable array in native byte order, with the dtype (uint8, int8, int16, int32,
        float32 or float64) and the shape from the header.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not an IDX file, is truncated or damaged, or has extra bytes after its data.
        The header is checked against the file size before memory is allocated.
    """
    import gzip
    import zlib

    path = require_file(path, "an IDX file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _read_array(path, file, size)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_array(path, unpacked, size * DEFLATE_LIMIT)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path}: found gzip data that is cut off or damaged ({error}), "
                "expected a whole IDX file"
            ) from error


def _read_array(path: Path, file: BufferedIOBase, limit: int) -> np.ndarray:
    """Read header and data of an IDX file of at most `limit` bytes."""
    dtype, shape = _read_header(path, file)
    needed = math.prod(shape) * dtype.itemsize
    claim = f"{shown(needed)} bytes of data, as its header says "
    claim += f"(shape {shown(shape)}, {dtype.name})"
    if needed > limit - 4 - 4 * len(shape):
        raise ValueError(f"{path}: found a file too short, expected {claim}")
    try:
        array = np.empty(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{path}: found {claim}, expected an array that fits ({error})") from error
    filled = read_into(array, file)
    if filled < needed:
        raise ValueError(f"{path}: found {filled} bytes of data, expected {claim}")
    if file.read(1):
        raise ValueError(f"{path}: found more bytes after the data, expected {claim}")
    if dtype.itemsize > 1 and sys.byteorder == "little":
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def _read_header(path: Path, file: BufferedIOBase) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype (big-endian) and shape."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"{path}: found {magic.hex(' ') or 'nothing'} at the start, "
            "expected an IDX file: 00 00, a dtype code and the number of dimensions"
        )
    code, rank = magic[2], magic[3]
    if code not in _IDX_DTYPES:
        known = ", ".join(f"0x{code:02x} ({np.dtype(t).name})" for code, t in _IDX_DTYPES.items())
        raise ValueError(f"{path}: found IDX dtype code 0x{code:02x}, expected one of {known}")
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise ValueError(
            f"{path}: found an IDX header cut off after {4 + len(header)} bytes, "
            f"expected {4 + 4 * rank} bytes for {rank} dimensions"
        )
    return np.dtype(_IDX_DTYPES[code]), tuple(int(n) for n in np.frombuffer(header, ">u4"))


def idx_header(array: np.ndarray) -> bytes:
    """Return the IDX header of an array; its big-endian bytes follow in a file.

    Parameters
    ----------
    array : ndarray
        Of one of the dtypes that `load_idx` returns.

    Returns
    -------
    bytes
        ``4 + 4 * array.ndim`` bytes.
    """
    code = _IDX_CODES[array.dtype.newbyteorder("=")]
    return bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()


def load_folder(folder: Path) -> Dataset:
    """Load a folder with the IDX files of MNIST, or files with the same names."""
    pairs = {}
    for part in "train", "t10k":
        images = _existing(folder / f"{part}-images-idx3-ubyte")
        labels = _existing(folder / f"{part}-labels-idx1-ubyte")
        # The test set is optional, but half a test set is a mistake.
        if part == "train" or images.exists() or labels.exists():
            pairs[part] = _images_and_labels(images, labels)
    return Dataset(pairs["train"], pairs.get("t10k"))


def load_images_and_labels(images: Path) -> Pair:
    """Load an IDX file of images and the IDX file of labels next to it."""
    name = images.name.removesuffix(".gz")
    if "images" not in name:
        raise ValueError(
            f"{images}: found an IDX or gzip file without 'images' in its name, expected a name "
            "with 'images', next to a file with 'labels' in its place"
        )
    partner = name.replace("images", "labels").replace("idx3", "idx1")
    return _images_and_labels(images, _existing(images.with_name(partner)))


def _existing(path: Path) -> Path:
    """Return the path with the spelling that exists (.idx, .gz), or `path` if none exists."""
    for name in path.name, path.name.replace("-idx", ".idx"):
        for spelling in name, name + ".gz":
            if path.with_name(spelling).exists():
                return path.with_name(spelling)
    return path


def _images_and_labels(images: Path, labels: Path) -> Pair:
    require_file(images, "an IDX file of images, plain or .gz")
    require_file(labels, "an IDX file of labels, plain or .gz")
    x, y = load_idx(images), load_idx(labels)
    if x.ndim < 2:
        raise ValueError(f"{images}: found shape {x.shape}, expected images: 2 dimensions or more")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(
            f"{labels}: found shape {y.shape} of {y.dtype}, expected integer labels in 1 dimension"
        )
    check_lengths(images, x, f"{labels}", y)
    return x, y.astype(np.int64)


def read_into(array: np.ndarray, file: Any) -> int:
    """Read a file into a C-contiguous array until either ends; return the number of bytes read."""
    view = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < array.nbytes:
        # In pieces of 1 MiB, since Python's readers allocate a copy of the requested size.
        count = file.readinto(view[filled : filled + (1 << 20)])
        if not count:
            break
        filled += count
    return filled
