"""Pictures of digits from any image file, prepared as the images of MNIST were (needs Pillow)."""

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
"""Larger images are refused: a small file can claim to unpack into any size."""

# The kinds of cameras, scanners and the web. Pillow knows more, some of which hand the file on to
# other programs: PostScript is run by Ghostscript.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")

# A JPEG can paint over itself thousands of times from a few bytes each; honest ones need some ten.
_MAX_SCANS = 100
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")

# A digit fills at most 20 of 28 pixels, and the border around it is empty.
_BOX, _SIDE = 20, 28

# Ink is what has more than this share of the strongest ink; less contrast is no picture at all.
_INK, _CONTRAST = 0.25, 0.05

# Photographs are reduced to this many pixels first, which averages the noise of the camera away.
_WORKING_SIDE = 280


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as shades of grey.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, GIF, BMP, TIFF, WebP or PPM file, in any mode. Of several frames the first is
        read; transparent parts lie on white, or on black if the picture cannot be
        told from white; the turn that a camera noted down is applied.

    Returns
    -------
    ndarray, shape (height, width)
        float64, from 0, black, to 1, white.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such image, is damaged, or has more than ``MAX_PIXELS`` pixels.
    OSError
        If the system refuses to read it.
    ImportError
        If Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError

        # Pillow defines these two submodules only once they are imported.
        from PIL import TiffImagePlugin, WebPImagePlugin  # noqa: F401 # isort: skip
    except ImportError as error:
        raise ImportError(
            f"reading pictures needs Pillow, which is not there ({error}): "
            "pip install 'pynn-mlp[cli]'"
        ) from error
    path = require_file(path, "an image file")
    content = path.read_bytes()
    with warnings.catch_warnings():
        # What matters of the things that Pillow warns of is checked here.
        warnings.simplefilter("ignore")
        try:
            # Asked for more than there is, a file on the disk takes that much memory first.
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
                if not image.width * image.height:
                    raise ValueError("it has no pixels")
                if image.format in ("JPEG", "MPO"):
                    _check_scans(content)
                image.load()
                # Another copy would be as large as the picture.
                ImageOps.exif_transpose(image, in_place=True)
                return _grey(image)
        except Image.DecompressionBombError as error:
            raise ValueError(
                f"{path}: found an image too large to unpack ({shown(error)}), "
                f"expected at most {MAX_PIXELS:,} pixels"
            ) from error
        except UnidentifiedImageError as error:
            raise ValueError(
                f"{path}: found no image that pynn can read, expected a PNG or JPEG file"
            ) from error
        # The readers of the single formats fail on damaged files in many ways.
        except Exception as error:
            raise ValueError(f"{path}: found a damaged image ({shown(error)})") from error


def _check_scans(content: bytes) -> None:
    """Raise if a JPEG file goes over its picture more often than an honest one."""
    at = scans = 0
    # Between the bytes of a scan 0xFF stands before 0 and restart markers alone.
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
        # PNG and TIFF hold 16 bits in these; other depths say nothing about what white is.
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
    """Turn a picture of one digit into an image as the network saw them in training.

    As LeCun, Cortes and Burges describe MNIST: light ink on black, the digit scaled to fit 20 x 20
    pixels in its proportions, smoothed, and moved so that its centre of mass is the centre of
    28 x 28. A picture with a light border is inverted first, and the shade of its border becomes
    the black of the background.

    Parameters
    ----------
    grey : ndarray, shape (height, width)
        From 0, black, to 1, white.

    Returns
    -------
    ndarray, shape (28, 28)
        uint8.

    Raises
    ------
    ValueError
        If the picture has (nearly) one shade all over.
    """
    longest = max(grey.shape)
    if longest > _WORKING_SIDE:
        height, width = (max(1, round(n * _WORKING_SIDE / longest)) for n in grey.shape)
        grey = _resized(grey, height, width)
    border = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    darkest, lightest = float(grey.min()), float(grey.max())
    if lightest - darkest < _CONTRAST:
        raise ValueError(
            f"image: found shades from {darkest:.2f} to {lightest:.2f} (0 is black, 1 is white), "
            "expected a digit that stands out from its background"
        )
    ink = border - grey if border > (darkest + lightest) / 2 else grey - border
    ink = np.clip(ink / ink.max(), 0.0, 1.0)
    # With one pixel more around it: the smoothed edge of a stroke is fainter.
    padded = np.pad(ink > _INK, 1)
    height, width = ink.shape
    written = np.zeros(ink.shape, dtype=bool)
    for i in range(3):
        for j in range(3):
            written |= padded[i : i + height, j : j + width]
    ink = np.where(written, ink, 0.0)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = digit.shape
    scale = _BOX / max(height, width)
    digit = _resized(digit, max(1, round(height * scale)), max(1, round(width * scale)))

    # The mean centre of mass of MNIST's own images is pixel 14 (counted from 0) both ways.
    height, width = digit.shape
    total = digit.sum()
    y = _SIDE / 2 - float(digit.sum(axis=1) @ np.arange(height)) / total
    x = _SIDE / 2 - float(digit.sum(axis=0) @ np.arange(width)) / total
    top = min(max(round(y), 0), _SIDE - height)
    left = min(max(round(x), 0), _SIDE - width)
    field = np.zeros((_SIDE, _SIDE))
    field[top : top + height, left : left + width] = digit
    return _pixels(field)


def resized(grey: np.ndarray, side: int) -> np.ndarray:
    """Return a picture as it is, only scaled to a square.

    Parameters
    ----------
    grey : ndarray, shape (height, width)
        From 0, black, to 1, white.
    side : int
        Pixels along each edge.

    Returns
    -------
    ndarray, shape (side, side)
        uint8.
    """
    return _pixels(grey if grey.shape == (side, side) else _resized(grey, side, side))


def _resized(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    if grey.shape == (height, width):
        return grey
    image = Image.fromarray(grey.astype(np.float32))
    resample = Image.Resampling
    smaller = height * width < grey.size
    # Area averages when it shrinks: no ringing, so no ink where there was none.
    method = resample.BOX if smaller else resample.BILINEAR
    scaled: np.ndarray = np.asarray(image.resize((width, height), method), dtype=np.float64)
    return scaled


def _pixels(grey: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = np.rint(255 * np.clip(grey, 0.0, 1.0)).astype(np.uint8)
    return pixels
