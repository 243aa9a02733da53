"""Fingerprints of arrays, to recognise the data that a checkpoint belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .sparse import Sparse

Array = np.ndarray

WHOLE = 1 << 26
"""Bytes up to which all of an array goes into its fingerprint."""
SAMPLED_ROWS = 1 << 16
"""How many rows of a larger array do at most; and no more bytes than ``WHOLE``."""
MAPPED_ROWS = 256
"""How many if it is memory-mapped: systems read up to megabytes of a file around each."""


# --- What is compared -----------------------------------------------------------------------------


def fingerprint(array: Array | Sparse) -> dict[str, str]:
    """Return dtype and shape of an array, and its SHA-256; of a large one that of some rows."""
    import hashlib

    if isinstance(array, Sparse):
        parts = [fingerprint(part) for part in (array.data, array.indices, array.indptr)]
        about = f"{array.data.dtype.name} {array.shape}, {len(array.data)} stored"
        together = "".join(part["sha256"] for part in parts).encode()
        return {"rows": about, "sha256": hashlib.sha256(together).hexdigest()}
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    rows: Any = range(len(array))
    if array.nbytes > WHOLE:
        most = MAPPED_ROWS if _is_mapped(array) else SAMPLED_ROWS
        count = max(2, min(most, WHOLE // row_bytes))
        rows = np.unique(np.linspace(0, len(array) - 1, count).astype(np.int64))
    digest = hashlib.sha256()
    block = max(1, (1 << 20) // row_bytes)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        chosen = array[part] if isinstance(part, np.ndarray) else array[part.start : part.stop]
        digest.update(np.ascontiguousarray(chosen).data.cast("B"))
    return {
        "rows": f"{array.dtype.name} {array.shape}",
        "sha256": digest.hexdigest(),
    }


def content_sha256(arrays: Iterable[Array]) -> str:
    """Return the SHA-256 (hexadecimal) of dtypes, shapes and complete contents of arrays."""
    import hashlib

    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def _is_mapped(array: Array) -> bool:
    import mmap

    base: object = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return isinstance(base, mmap.mmap)
