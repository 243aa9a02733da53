"""Read image files of digits and prepare them like the images of MNIST (needs Pillow)."""

from __future__ import annotations

import io
import os
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np

from ..files.disk import require_file, shown

if TYPE_CHECKING:
    from PIL.Image import Image


MAX_PIXELS = 50_000_000
"""Larger images are rejected: a small file can claim to unpack into any size."""

# Formats of cameras, scanners and the web. Pillow reads more, but starts other programs for some:
# Ghostscript for PostScript.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")

# A progressive JPEG can hold thousands of scans of a few bytes, each as slow as the whole image.
# Ordinary files have about ten.
_MAX_SCANS = 100
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")

# MNIST: the digit fits into 20 x 20 of 28 x 28 pixels.
_BOX, _SIDE = 20, 28

# Ink: pixels with more than this share of the strongest ink.
_INK = 0.25
# Least difference between the darkest and the lightest pixel of a usable picture.
_CONTRAST = 0.05

# Larger pictures are first reduced to this many pixels (10 times MNIST's), which averages out the
# noise of a camera.
_WORKING_SIDE = 280


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as greyscale.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, GIF, BMP, TIFF, WebP or PPM file in any mode. Of several frames the first is
        read. Transparent areas become white, or black if the picture has no contrast on white. An
        orientation in the EXIF data is applied.

    Returns
    -------
    ndarray, shape (height, width)
        float64, from 0 (black) to 1 (white).

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not an image of these formats, is damaged, or has more than ``MAX_PIXELS``
        pixels.
    OSError
        If the system cannot read it.
    ImportError
        If Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            f"reading pictures needs Pillow, which is not installed ({error}): "
            "pip install 'pynn-mlp[cli]'"
        ) from error
    path = require_file(path, "an image file")
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and of damage; both are checked here.
            warnings.simplefilter("ignore")
            return _decode(content)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path}: found an image too large to unpack ({shown(error)}), "
            f"expected at most {MAX_PIXELS:,} pixels"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path}: found no image that pynn can read, expected a PNG or JPEG file"
        ) from error
    # Pillow's readers raise many kinds of exceptions for damaged files.
    except Exception as error:
        raise ValueError(f"{path}: found a damaged image ({shown(error)})") from error


def _decode(content: bytes) -> np.ndarray:
    """Return the image in the bytes of a file, checked before it is unpacked."""
    # The two plugins define attributes of PIL that Pillow reads only once they are imported.
    from PIL import Image, ImageOps, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    # From memory: given a file, Pillow allocates the size that a damaged header asks for.
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        if not image.width * image.height:
            raise ValueError("it has no pixels")
        if image.format in ("JPEG", "MPO"):
            _check_scans(content)
        image.load()
        # In place: a copy would be as large as the image.
        ImageOps.exif_transpose(image, in_place=True)
        return _grey(image)


def _check_scans(content: bytes) -> None:
    """Raise a ValueError if a JPEG file has more than ``_MAX_SCANS`` scans."""
    at = scans = 0
    # Within the data of a scan, 0xFF is only followed by 0 or a restart marker.
    while (found := _MARKER.search(content, at)) and (kind := content[found.start() + 1]) != 0xD9:
        at = found.end()
        if kind not in (0x01, 0xD8):
            at += int.from_bytes(content[at : at + 2], "big")
        scans += kind == 0xDA
        if scans > _MAX_SCANS:
            raise ValueError(f"it has more than {_MAX_SCANS} scans")


def _grey(image: Image) -> np.ndarray:
    from PIL import Image as pillow

    if image.mode == "F" or image.mode.startswith("I"):
        # PNG and TIFF files with 16 bits have these modes; for other depths white is unknown.
        values = np.nan_to_num(np.array(image, dtype=np.float64), copy=False)
        top = 65535.0 if values.min(initial=0) >= 0 and values.max(initial=0) > 255 else 255.0
        if image.mode == "F" and values.max(initial=0) <= 1:
            top = 1.0
        values /= top
        return np.clip(values, 0.0, 1.0, out=values)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        for shade in ("white", "black"):
            paper = pillow.new("RGBA", layer.size, shade)
            flat = np.asarray(pillow.alpha_composite(paper, layer).convert("L"))
            if np.ptp(flat) > 255 * _CONTRAST:
                break
        return flat / 255.0
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L")) / 255.0


def like_mnist(grey: np.ndarray) -> np.ndarray:
    """Turn a picture of one digit into an image like those of MNIST.

    As LeCun, Cortes and Burges describe MNIST: light ink on black, the digit scaled to fit 20 x 20
    pixels with its aspect ratio kept, smoothed, and moved so that its centre of mass is the centre
    of 28 x 28 pixels. A picture with a light border is inverted first, and the shade of its border
    becomes black.

    Parameters
    ----------
    grey : ndarray, shape (height, width)
        From 0 (black) to 1 (white).

    Returns
    -------
    ndarray, shape (28, 28)
        uint8.

    Raises
    ------
    ValueError
        If all pixels have nearly the same shade.
    """
    longest = max(grey.shape)
    if longest > _WORKING_SIDE:
        height, width = (max(1, round(n * _WORKING_SIDE / longest)) for n in grey.shape)
        grey = _scaled(grey, height, width)
    digit = _cropped(_ink(grey))
    height, width = digit.shape
    scale = _BOX / max(height, width)
    return _to_uint8(
        _centred(_scaled(digit, max(1, round(height * scale)), max(1, round(width * scale))))
    )


def _ink(grey: np.ndarray) -> np.ndarray:
    """Return the ink of a picture: 0 for the background, 1 for the strongest ink."""
    border = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    darkest, lightest = float(grey.min()), float(grey.max())
    if lightest - darkest < _CONTRAST:
        raise ValueError(
            f"image: found shades from {darkest:.2f} to {lightest:.2f} (0 is black, 1 is white), "
            "expected a digit that stands out from its background"
        )
    ink = border - grey if border > (darkest + lightest) / 2 else grey - border
    return np.clip(ink / ink.max(), 0.0, 1.0)


def _cropped(ink: np.ndarray) -> np.ndarray:
    """Remove faint pixels, then the empty rows and columns around the digit."""
    # Keep one more pixel around strong ink, since the smoothed edge of a stroke is fainter.
    padded = np.pad(ink > _INK, 1)
    height, width = ink.shape
    kept = np.zeros(ink.shape, dtype=bool)
    for i in range(3):
        for j in range(3):
            kept |= padded[i : i + height, j : j + width]
    ink = np.where(kept, ink, 0.0)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centred(digit: np.ndarray) -> np.ndarray:
    """Place a digit into 28 x 28 pixels so that its centre of mass is pixel 14 both ways.

    That is the mean of MNIST's own images, counted from 0.
    """
    height, width = digit.shape
    total = digit.sum()
    y = _SIDE / 2 - float(digit.sum(axis=1) @ np.arange(height)) / total
    x = _SIDE / 2 - float(digit.sum(axis=0) @ np.arange(width)) / total
    top = min(max(round(y), 0), _SIDE - height)
    left = min(max(round(x), 0), _SIDE - width)
    field = np.zeros((_SIDE, _SIDE))
    field[top : top + height, left : left + width] = digit
    return field


def resized(grey: np.ndarray, side: int) -> np.ndarray:
    """Scale a picture to a square, without cropping or inverting.

    Parameters
    ----------
    grey : ndarray, shape (height, width)
        From 0 (black) to 1 (white).
    side : int
        Height and width of the result in pixels.

    Returns
    -------
    ndarray, shape (side, side)
        uint8.
    """
    return _to_uint8(_scaled(grey, side, side))


def _scaled(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    if grey.shape == (height, width):
        return grey
    image = Image.fromarray(grey.astype(np.float32))
    resample = Image.Resampling
    smaller = height * width < grey.size
    # The box filter has no ringing, so it adds no ink to the background.
    method = resample.BOX if smaller else resample.BILINEAR
    return np.asarray(image.resize((width, height), method), dtype=np.float64)


def _to_uint8(grey: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(grey, 0.0, 1.0)).astype(np.uint8)
