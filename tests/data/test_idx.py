"""IDX files."""

from __future__ import annotations

import gzip
import struct
import zlib

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynn.data import idx_header, load_idx
from tests.data.files import CODES, attempt, failure, idx, in_any_folder, peak, write


@in_any_folder
@given(
    st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: hnp.arrays(
            np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4)
        )
    ),
    st.booleans(),
)
def test_idx_of_every_dtype_and_rank(tmp_path, array, packed):
    path = write(tmp_path / "a", idx(array), packed)
    found = load_idx(path)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable
    assert idx_header(array) + found.astype(array.dtype.newbyteorder(">")).tobytes() == idx(array)


def test_idx_longer_than_one_piece(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, 700, 901), np.uint8)
    for packed in False, True:
        path = write(tmp_path / "a", idx(array), packed)
        np.testing.assert_array_equal(load_idx(path), array)


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_idx_file_is_refused(tmp_path, packed):
    whole = idx(np.arange(12, dtype="i2").reshape(3, 4))
    for length in range(len(whole)):
        message = failure(load_idx, write(tmp_path / "a", whole[:length], packed))
        assert message.startswith(f"{tmp_path / 'a'}: found "), message
        assert "expected" in message
        if length == 5:
            assert "an IDX header cut off after 5 bytes, expected 12" in message
        if length > 12:
            assert "expected 24 bytes of data, as its header says (shape (3, 4), int16)" in message
    message = failure(load_idx, write(tmp_path / "a", whole + b"\0", packed))
    assert "found more bytes after the data, expected 24 bytes" in message


def test_a_truncated_or_damaged_gzip_file_is_refused(tmp_path):
    path = tmp_path / "a.gz"
    whole = gzip.compress(idx(np.arange(100, dtype="f8")))
    for length in range(len(whole)):
        assert f"{path}: found" in failure(load_idx, write(path, whole[:length]))
    for tail in b"x", b"\x1f\x8b", whole:
        assert f"{path}: found" in failure(load_idx, write(path, whole + tail))
    # A complete file with a wrong checksum.
    damaged = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    assert "gzip data that is cut off or damaged (CRC" in failure(load_idx, write(path, damaged))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found nothing at the start"),
        (b"\0\0\x08", "found 00 00 08 at the start"),
        (b"\x89PNG\r\n\x1a\n", "found 89 50 4e 47 at the start, expected an IDX file"),
        (b"label,pixel0\n1,2\n", "found 6c 61 62 65 at the start"),
        (b"\0\0\x0a\x01\0\0\0\1\0", "found IDX dtype code 0x0a, expected one of 0x08 .uint8"),
        (b"\0\0\x08\x03\0\0\0\1", "header cut off after 8 bytes, expected 16 bytes for 3"),
        (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"x", "expected an array that fits"),
        (b"\0\0\x08\x04\0\0\0\0" + b"\xff" * 12, "expected an array that fits"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_error_says_why_a_file_is_no_idx(tmp_path, content, message, packed):
    path = write(tmp_path / "a", content, packed)
    with pytest.raises(ValueError, match=message) as caught:
        load_idx(path)
    assert str(caught.value).startswith(f"{path}: found")


@in_any_folder
@given(st.binary(max_size=40), st.booleans())
@example(b"\x1f\x8b", False)
@example(b"\0\0\x08\x00x", False)
def test_idx_of_any_bytes_never_crashes(tmp_path, content, packed):
    path = write(tmp_path / "a", content, packed)
    array, message = attempt(load_idx, path)
    if array is None:
        assert message.startswith(f"{path}: found")
    else:
        assert idx(array) == content


@pytest.mark.parametrize("packed", [False, True])
def test_a_false_idx_header_allocates_no_memory(tmp_path, packed):
    path = write(tmp_path / "a", b"\0\0\x08\x02" + struct.pack(">2I", 60_000, 60_000), packed)
    assert peak(failure, load_idx, path) < 4_000_000


def test_a_gzip_bomb_allocates_no_memory(tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path = tmp_path / "a.gz"
    with open(path, "wb") as file:
        file.write(packer.compress(idx(np.zeros(10, np.uint8))))
        file.writelines(packer.compress(bytes(1 << 20)) for _ in range(64))
        file.write(packer.flush())
    assert peak(failure, load_idx, path) < 4_000_000
    assert "found more bytes after the data" in failure(load_idx, path)


def test_a_missing_idx_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: found no such file, expected an IDX"):
        load_idx(tmp_path / "nowhere")
    assert "found a folder, expected an IDX file" in failure(load_idx, tmp_path)
