"""Save and load tensors with a JSON document in the safetensors format.

Loading never runs code: a safetensors file contains only numbers and text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .disk import atomic_write, require_file, shown

FORMAT_VERSION = 1

_TENSOR_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


def _to_json(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and a JSON document to one safetensors file, completely or not at all.

    Parameters
    ----------
    path : str or path-like
        The file to write. Its folder must exist.
    tensors : mapping of str to ndarray
        Arrays of any shape, of a boolean, integer or floating-point dtype.
    metadata : mapping
        Values of JSON types: nested mappings with string keys, lists, text, finite numbers,
        booleans and None. NumPy scalars become plain numbers, and tuples are read back as lists.

    Raises
    ------
    ValueError
        If a tensor or a value of the metadata cannot be stored; nothing is written then.
    FileNotFoundError
        If the folder does not exist.
    OSError
        If the system refuses to write there.
    """
    # Imported here, since they would slow down the import of pynn.
    import json

    from safetensors.numpy import save as to_bytes

    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise ValueError(f"tensors: found the name {name!r}, expected text, not '__metadata__'")
        array = np.asarray(tensor, order="C")
        if array.dtype.name not in _TENSOR_DTYPES:
            raise ValueError(
                f"tensors[{name!r}]: found dtype {array.dtype}, expected one of "
                + ", ".join(_TENSOR_DTYPES)
            )
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        document = json.dumps(
            {"version": FORMAT_VERSION, "metadata": dict(metadata)},
            default=_to_json,
            allow_nan=False,
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"metadata: found a value that JSON cannot represent ({error}), expected JSON types"
        ) from error
    data = to_bytes(arrays, metadata={"pynn": document})
    with atomic_write(path) as file:
        file.write(data)


def load_tensors(
    path: str | os.PathLike[str], *, tensors: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file written by `save_tensors`.

    The caller must check that the shapes of the tensors agree with the metadata.

    Parameters
    ----------
    path : str or path-like
        A file written by `save_tensors`.
    tensors : bool, default True
        Whether to read the arrays as well as the metadata.

    Returns
    -------
    tensors : dict of str to ndarray
        Fresh, writable arrays in row-major order.
    metadata : dict
        The JSON document.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is truncated, is not a safetensors file, or was not written by this or an earlier
        version of pynn.
    OSError
        If the system refuses to read it.
    """
    expected = "a complete model file written by pynn (safetensors)"
    path = require_file(path, expected)
    # safetensors reports every file that it cannot open as missing.
    with path.open("rb") as opened:
        if not opened.read(1):
            raise ValueError(f"{path}: found an empty file, expected {expected}")

    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = _read_metadata(path, (file.metadata() or {}).get("pynn"))
            names = file.keys() if tensors else ()
            found = {name: _tensor(path, file, name) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path}: found a file that is truncated, damaged or not a model "
            f"({shown(error)}), expected {expected}"
        ) from error
    return found, metadata


def _tensor(path: Path, file: Any, name: str) -> np.ndarray:
    try:
        array: np.ndarray = file.get_tensor(name)
        if array.dtype.isbuiltin != 1:  # of ml_dtypes, if a program imported it
            raise TypeError(f"found dtype {array.dtype}")
    # safetensors has dtypes that NumPy lacks, such as bfloat16; each raises another exception.
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: found tensor {shown(repr(name))}, which NumPy cannot hold "
            f"({shown(error)}), expected a file written by pynn"
        ) from error
    return array


def _read_metadata(path: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise ValueError(
            f"{path}: found a safetensors file without metadata under the key 'pynn', "
            "expected one written by pynn"
        )
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: found metadata that is not JSON ({shown(error)}), "
            "expected a file written by pynn"
        ) from error
    if not isinstance(document, dict) or "version" not in document:
        raise ValueError(
            f"{path}: found metadata without a format version, expected a file written by pynn"
        )
    if document["version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path}: found format version {shown(document['version'])}, "
            f"expected {FORMAT_VERSION}; a newer pynn may have written it"
        )
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        return metadata
    raise ValueError(
        f"{path}: found metadata of type {type(metadata).__name__}, expected a JSON object"
    )
