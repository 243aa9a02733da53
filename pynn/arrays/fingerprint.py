"""Fingerprints of arrays, to recognise the data of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .sparse import Sparse
from .vectors import mapped_file

Array = np.ndarray

WHOLE = 1 << 26
"""Arrays of at most this many bytes are hashed completely, and no more bytes of larger ones."""
SAMPLED_ROWS = 1 << 16
"""Maximum number of rows hashed of a larger array, evenly spaced."""
MAPPED_ROWS = 256
"""The same for a memory-mapped array: operating systems read up to megabytes around each row."""


def fingerprint(array: Array | Sparse) -> dict[str, str]:
    """Return dtype and shape of an array, and the SHA-256 of all or, if it is large, some rows."""
    import hashlib

    if isinstance(array, Sparse):
        parts = [fingerprint(part) for part in (array.data, array.indices, array.indptr)]
        about = f"{array.data.dtype.name} {array.shape}, {len(array.data)} stored"
        together = "".join(part["sha256"] for part in parts).encode()
        return {"rows": about, "sha256": hashlib.sha256(together).hexdigest()}
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    rows: Any = range(len(array))
    if array.nbytes > WHOLE:
        most = SAMPLED_ROWS if mapped_file(array) is None else MAPPED_ROWS
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
