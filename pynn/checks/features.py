"""Convert x to the arrays that the backends accept, or raise one clear error."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.vectors import cast, native
from ..spec.architecture import Architecture
from .arrays import check_finite, first_above, is_sparse, place
from .convert import as_numbers
from .shared import Shared

Array = np.ndarray

Pixels = bool | str | None
"""The meaning of the inputs of a network.

``True``: pixels, uint8 from 0 to 255 or floats in [0, 1]. ``False``: values, which are never
scaled. ``"auto"``: the first training decides. None: networks of files and pickles that do not name
it; uint8 counts as value / 255, and other numbers are not scaled.
"""


def features(
    x: Any,
    net: Architecture,
    name: str = "x",
    pixels: Pixels = None,
    number_format: str | None = None,
) -> Array | Sparse:
    """Return x as a uint8, float32 or float64 array (n, n_in), n ≥ 1, or as compressed rows.

    Arrays of these three dtypes are passed on without a copy, with any strides, except uint8 for a
    network of values; other numbers are converted to ``number_format``. SciPy's sparse matrices
    stay sparse, as float32 or float64. Every uint8 array that is returned holds pixels.

    Parameters
    ----------
    x
        The user's input.
    net
        The network's architecture.
    name
        The name of x in errors.
    pixels
        Whether the inputs of the network are pixels.
    number_format
        The dtype that must be able to hold the numbers; None means that of the network.

    Raises
    ------
    TypeError
        If x is not an array of real numbers.
    ValueError
        If its shape does not fit, or it is empty, masked, or holds NaN or infinity; if its values
        are neither pixels nor values as the network requires.
    """
    dtype = np.dtype(number_format or net.dtype)
    if isinstance(x, Shared):
        return x.once(
            (net.n_in, pixels, dtype), lambda: features(x.value, net, name, pixels, number_format)
        )
    return _converted(_rows(x, net, name), dtype, name, pixels)


def training_features(
    x: Any,
    net: Architecture,
    pixels: Pixels,
    name: str = "x",
    number_format: str | None = None,
) -> tuple[Array | Sparse, bool | None]:
    """Return x as `features` does, and whether the inputs of the network are pixels.

    This decides ``"auto"``: uint8 with a value above 1 means pixels.
    """
    dtype = np.dtype(number_format or net.dtype)
    if isinstance(x, Shared):
        return x.once(
            ("training", net.n_in, pixels, dtype),
            lambda: training_features(x.value, net, pixels, name, number_format),
        )
    rows = _rows(x, net, name)
    if isinstance(pixels, str):
        pixels = are_pixels(rows, name)
    return _converted(rows, dtype, name, pixels), pixels


def are_pixels(rows: Any, name: str = "x") -> bool:
    """Return whether an array or sparse matrix for training has pixels: uint8 above 1."""
    if rows.dtype != np.uint8:
        return False
    elements = rows if isinstance(rows, np.ndarray) else Sparse.of(rows, name).data
    return first_above(elements, 1) is not None


def as_pixels(pixels: Any) -> bool | str:
    """Return the argument ``pixels`` of a network: "auto", True or False."""
    if isinstance(pixels, (bool, np.bool_)):
        return bool(pixels)
    if isinstance(pixels, str) and pixels == "auto":
        return pixels
    raise ValueError(f"pixels: found {pixels!r}, expected 'auto', True or False")


def _rows(x: Any, net: Architecture, name: str) -> Any:
    """Return x as an array of numbers (n, n_in) or a sparse matrix, with its own dtype."""
    if is_sparse(x):
        if not hasattr(x, "toarray") and hasattr(x, "tocsr"):  # of another library than SciPy
            x = x.tocsr()
        _check_matrix(x, net, name)
        return x
    a = as_numbers(x, name)
    _check_shape(a, net.n_in, name)
    return a if a.ndim == 2 else a.reshape(len(a), net.n_in)


def _converted(rows: Any, dtype: np.dtype[Any], name: str, pixels: Pixels) -> Array | Sparse:
    """Return the result of `features` for the result of `_rows`."""
    if is_sparse(rows):
        return _compressed_rows(rows, dtype, name, pixels)
    a: Array = rows
    if a.dtype == np.uint8:
        if _scales_bytes(a, name, pixels):
            return a
        return a.astype(dtype)
    if pixels is True:
        _refuse_integers(a.dtype, name)
    in_place = a.dtype.char in "fd"
    if in_place:
        a = native(a)
    if a.dtype == np.float16:
        a = a.astype(np.float32)  # NumPy compares them ten times as fast
    _check_values(a, name, dtype, pixels)
    if in_place:
        return a
    return cast(a, dtype)


# --- Pixels and values ----------------------------------------------------------------------------

_NOT_PIXELS = "inputs that are not pixels require Network(…, pixels=False)"


def _scales_bytes(a: Array, name: str, pixels: Pixels, matrix: Sparse | None = None) -> bool:
    """Return whether uint8 inputs of a network are pixels, which count as value / 255.

    Raises
    ------
    ValueError
        If they can only be pixels, and the network takes values; or if the network is untrained,
        and they could be either.
    """
    if pixels is True or pixels is None:
        return True
    above = first_above(a, 1)
    if pixels is False:
        if above is not None:
            raise ValueError(
                f"{name}: found the uint8 {int(a[above])} at {place(above, matrix)} (counted from "
                "0), but the inputs of this network are values and not pixels; expected "
                f"{name} / 255 if it was trained on pixels divided by 255, or "
                f"{name}.astype('float32') if it was trained on numbers like these"
            )
        return False
    if above is None and a.any():
        raise ValueError(
            f"{name}: found uint8 of only 0 and 1 for a network that has not been trained, which "
            "can be pixels or numbers; expected Network(…, pixels=True) or pixels=False"
        )
    return True


def _refuse_integers(dtype: np.dtype[Any], name: str) -> None:
    if dtype.kind in "iu":
        raise ValueError(
            f"{name}: found {dtype}, but the inputs of this network are pixels; expected uint8 "
            f"from 0 to 255, such as numpy.asarray({name}, dtype='uint8'), or floats in [0, 1]; "
            f"{_NOT_PIXELS}"
        )


def _check_values(
    a: Array, name: str, dtype: np.dtype[Any], pixels: Pixels, matrix: Sparse | None = None
) -> None:
    """Raise unless the elements are finite and, if the inputs are pixels, floats in [0, 1]."""
    if pixels is not True:
        check_finite(a, name, dtype, matrix)
        return
    remedy = (
        ", but the inputs of this network are pixels; expected floats in [0, 1] or uint8 from 0 to "
        f"255, such as {name} / 255 for pixels from 0 to 255; {_NOT_PIXELS}"
    )
    check_finite(a, name, dtype, matrix, (0.0, 1.0), remedy)


# --- Shapes and sparse matrices -------------------------------------------------------------------


def _check_shape(a: Array, n_in: int, name: str) -> None:
    """Raise unless an array has rows of n_in values, which may be of any shape, such as images."""
    if a.ndim < 2:
        hint = ""
        if a.ndim == 1 and n_in == 1:
            hint = f"; for one column write {name}[:, None]"
        elif a.ndim == 1 and len(a) == n_in:
            hint = f"; for one row write {name}[None, :]"
        raise ValueError(f"{name}: found shape {a.shape}, expected (rows, {n_in}){hint}")
    if a.shape[0] == 0:
        raise ValueError(f"{name}: found no rows (shape {a.shape}), expected at least one")
    width = math.prod(a.shape[1:])
    if width != n_in:
        hint = f"; for one row write {name}[None]" if a.size == n_in else ""
        raise ValueError(
            f"{name}: found {width} values in a row (shape {a.shape}), expected {n_in}{hint}"
        )


def _check_matrix(x: Any, net: Architecture, name: str) -> None:
    """Raise unless a sparse matrix has rows of n_in numbers."""
    if len(x.shape) != 2 or x.shape[1] != net.n_in:
        raise ValueError(f"{name}: found shape {x.shape}, expected (rows, {net.n_in})")
    if x.shape[0] == 0:
        raise ValueError(f"{name}: found no rows (shape {x.shape}), expected at least one")
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: found a sparse matrix of {x.dtype}, expected numbers")


def _compressed_rows(x: Any, dtype: np.dtype[Any], name: str, pixels: Pixels) -> Sparse:
    found = Sparse.of(x, name)
    if x.dtype == np.uint8:
        data = found.data.astype(dtype)
        if _scales_bytes(found.data, name, pixels, found):
            data *= dtype.type(1 / 255)
        return replace(found, data=data)
    if pixels is True:
        _refuse_integers(x.dtype, name)
    _check_values(found.data, name, dtype, pixels, found)
    return found if x.dtype.char in "fd" else replace(found, data=cast(found.data, dtype))
