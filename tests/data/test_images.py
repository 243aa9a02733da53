"""Image files are read and prepared like the images of MNIST."""

from __future__ import annotations

import contextlib
import os
import zlib

import numpy as np
import pytest

from pynn.data import images

pytest.importorskip("PIL")

from PIL import Image


def seven() -> np.ndarray:
    """Return a 7 in the format of MNIST, ink 255 on 0, shape (28, 28)."""
    digit = np.zeros((20, 14), np.uint8)
    digit[:3] = 255
    for row in range(3, 20):
        column = 11 - row // 2
        digit[row, column : column + 3] = 255
    field = np.zeros((28, 28), np.uint8)
    mass = digit / digit.sum()
    top = round(14 - mass.sum(axis=1) @ np.arange(20))
    left = round(14 - mass.sum(axis=0) @ np.arange(14))
    field[top : top + 20, left : left + 14] = digit
    return field


def large(scale: int = 10, border: tuple[int, int] = (40, 90)) -> np.ndarray:
    """Return the 7 enlarged without smoothing, on a large field and not centred: uint8."""
    return np.pad(np.kron(seven(), np.ones((scale, scale), np.uint8)), border)


def prepared(path) -> np.ndarray:
    return images.like_mnist(images.read_grey(path))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_an_image_of_mnist_stays_as_it_is():
    np.testing.assert_array_equal(images.like_mnist(seven() / 255), seven())


@pytest.mark.parametrize("scale", [1, 2, 3, 10, 25])
def test_normalisation_ignores_size_and_position(scale):
    found = images.like_mnist(large(scale) / 255)
    assert found.dtype == np.uint8
    assert difference(found, seven()) < 4


def test_the_digit_fits_the_box_and_its_mass_is_central():
    ring = np.hypot(*np.mgrid[-50:50, -30:30] / np.array([45, 20])[:, None, None])
    found = images.like_mnist(np.pad(np.abs(ring - 1) < 0.2, ((3, 60), (70, 5))).astype(float))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert rows[-1] - rows[0] + 1 == 20
    assert columns[-1] - columns[0] + 1 in (9, 10)
    mass = found / found.sum()
    assert abs(mass.sum(axis=1) @ np.arange(28) - 14) <= 0.5
    assert abs(mass.sum(axis=0) @ np.arange(28) - 14) <= 0.5


def test_a_digit_on_grey_noisy_paper_is_found():
    rng = np.random.default_rng(0)
    paper = 0.75 - 0.5 * large() / 255
    found = images.like_mnist(np.clip(paper + rng.normal(0, 0.02, paper.shape), 0, 1))
    assert difference(found, seven()) < 8


def test_a_long_thin_stroke_keeps_a_pixel():
    found = images.like_mnist(np.pad(np.ones((400, 1)), 30))
    assert 1 <= (found.max(axis=0) > 0).sum() <= 3
    assert (found.max(axis=1) > 0).sum() == 20


def rgba(ink: int) -> np.ndarray:
    """Return the 7 on a transparent background."""
    found = np.full((*large().shape, 4), ink, np.uint8)
    found[..., 3] = large()
    return found


MODES = {
    "grey.png": lambda: Image.fromarray(large()),
    "inverted.png": lambda: Image.fromarray(255 - large()),
    "one_bit.png": lambda: Image.fromarray(255 - large()).convert("1"),
    "palette.png": lambda: Image.fromarray(255 - large()).convert("P"),
    "rgb.jpg": lambda: Image.fromarray(255 - large()).convert("RGB"),
    "cmyk.jpg": lambda: Image.fromarray(255 - large()).convert("RGB").convert("CMYK"),
    "black_ink.png": lambda: Image.fromarray(rgba(0)),
    "white_ink.png": lambda: Image.fromarray(rgba(255)),
    "grey_alpha.png": lambda: Image.fromarray(rgba(0)).convert("LA"),
    "16_bit.png": lambda: Image.fromarray(large().astype(np.uint16) * 257),
    "32_bit.tif": lambda: Image.fromarray(large().astype(np.int32)),
    "float.tif": lambda: Image.fromarray(large().astype(np.float32) / 255),
    "frames.gif": lambda: Image.fromarray(255 - large()),
}


@pytest.mark.parametrize("name", MODES)
def test_every_kind_of_file_gives_the_same_image(tmp_path, name):
    MODES[name]().save(tmp_path / name)
    expected = images.like_mnist(large() / 255)
    # JPEG blurs edges a little.
    assert difference(prepared(tmp_path / name), expected) < (1 if name.endswith("jpg") else 0.1)


def test_a_rotated_photograph_is_turned_upright(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = Image.fromarray(255 - large()).rotate(90, expand=True)
    picture.save(tmp_path / "turned.png", exif=turned)
    expected = images.like_mnist(large() / 255)
    assert difference(prepared(tmp_path / "turned.png"), expected) < 0.1


def test_transparency_in_a_palette(tmp_path):
    picture = Image.fromarray(255 - large()).convert("P")
    picture.save(tmp_path / "p.png", transparency=picture.getpixel((0, 0)))
    assert difference(prepared(tmp_path / "p.png"), images.like_mnist(large() / 255)) < 0.1


def test_resized_only_scales():
    grey = np.linspace(0, 1, 64).reshape(8, 8)
    np.testing.assert_array_equal(images.resized(grey, 8), np.rint(255 * grey))
    halves = images.resized(grey, 4)
    np.testing.assert_array_equal(halves[0, 0], np.rint(255 * grey[:2, :2].mean()))
    assert images.resized(grey, 28).shape == (28, 28)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file with a size in its header and no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([1, 0, 0, 0, 0]))
    return start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 100_000])
def test_decompression_bombs_are_refused(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    with pytest.raises(ValueError, match=r"bomb\.png: found an image too large"):
        images.read_grey(tmp_path / "bomb.png")


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    Image.fromarray(large()).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_bytes(b"hello")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match="found a damaged image"):
        images.read_grey(tmp_path / "cut.png")
    for name in "text.png", "empty.png":
        with pytest.raises(ValueError, match="found no image that pynn can read"):
            images.read_grey(tmp_path / name)
    with pytest.raises(ValueError, match="found a folder"):
        images.read_grey(tmp_path)
    with pytest.raises(FileNotFoundError, match="found no such file"):
        images.read_grey(tmp_path / "none.png")
    for blank in np.zeros((1, 1)), np.full((50, 60), 0.8):
        with pytest.raises(ValueError, match="expected a digit that stands out"):
            images.like_mnist(blank)


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 9 9
%%EndComments
(%pipe%touch started) (w) file
"""


@pytest.mark.skipif(os.name != "posix", reason="puts a script in the place of a program")
def test_no_other_program_is_started(tmp_path, monkeypatch):
    """Pillow runs Ghostscript for PostScript, whatever the name of the file."""
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # searched again
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(ValueError, match="found no image that pynn can read"):
        images.read_grey(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()
    # Pillow without restrictions does start it.
    with Image.open(tmp_path / "a.png") as image, contextlib.suppress(OSError):
        image.load()
    assert (tmp_path / "started").exists()


def test_a_jpeg_that_paints_over_itself_is_refused(tmp_path):
    """Each scan takes only a few bytes, but as much time as the complete image."""
    path = tmp_path / "a.jpg"
    Image.fromarray(large()).save(path, progressive=True)
    whole = path.read_bytes()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    for count, refused in (20, False), (200, True):
        # Markers in a comment or after the end do not count.
        comment = b"\xff\xfe\xff\xff" + b"\xff\xda" * 32_766 + b"\0"
        more = whole[:2] + comment + whole[2:-2] + last * count + b"\xff\xd9" + b"\xff\xda" * 999
        path.write_bytes(more)
        if refused:
            with pytest.raises(ValueError, match=r"a\.jpg: found .* more than 100 scans"):
                images.read_grey(path)
        else:
            assert images.read_grey(path).shape == large().shape


@pytest.mark.filterwarnings("error")
def test_pillow_warns_of_nothing(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(large()).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="found a damaged image"):
        images.read_grey(path)
    # A file with truncated tags, of which Pillow warns.
    path.write_bytes(b"II*\0\x08\0\0\0\x05\0\0\x01\x03\0\x01\0\0\0")
    with pytest.raises(ValueError, match="found"):
        images.read_grey(path)
