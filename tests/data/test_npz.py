"""Archives of NumPy, .npz."""

from __future__ import annotations

import re
import struct
import zipfile

import numpy as np
import pytest

from pynn.data import load_npz
from tests.data.files import attempt, failure, npz, peak


def test_npz_layouts(tmp_path):
    x, y = np.arange(12, dtype="u1").reshape(3, 2, 2), np.array([1, 2, 3])
    found = load_npz(npz(tmp_path / "a.npz", X=x, y=y, other=np.zeros(1)))
    assert [array.tolist() for array in found] == [x.tolist(), y.tolist()]
    found = load_npz(npz(tmp_path / "b.npz", x_train=x, y_train=y))
    assert [array.tolist() for array in found] == [x.tolist(), y.tolist()]
    np.savez_compressed(tmp_path / "c.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1])
    (x_train, y_train), (x_test, y_test) = load_npz(tmp_path / "c.npz")
    assert (x_train.dtype, x_train.shape, y_train.tolist()) == (np.uint8, (3, 2, 2), [1, 2, 3])
    assert (x_test.shape, y_test.tolist()) == ((1, 2, 2), [1])


def npy(descr: str, shape: object, content: bytes, version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + content


@pytest.mark.parametrize(
    ("member", "method", "message"),
    [
        (npy("'|u1'", (2**40,), b"abc"), zipfile.ZIP_STORED, "is too short for its shape"),
        (npy("'|u1'", (2**40,), b"abc"), zipfile.ZIP_DEFLATED, "is too short for its shape"),
        (npy("'|u1'", (4,), b"abc"), zipfile.ZIP_DEFLATED, "is too short for its shape"),
        (npy("'|u1'", (2,), b"abc"), zipfile.ZIP_DEFLATED, "has more bytes after its data"),
        (
            npy("'|u1'", (3,), b"abc"),
            zipfile.ZIP_BZIP2,
            "uses compression method 12, expected none or deflate",
        ),
        (npy("'|O'", (3,), b"abc"), zipfile.ZIP_STORED, r"has dtype dtype\('O'\)"),
        (
            npy("[('a', 'u1')]", (3,), b"abc"),
            zipfile.ZIP_STORED,
            "has dtype .* expected numbers or text",
        ),
        # NumPy allocates length 1 for text of length 0.
        (
            npy("'<U0'", (65536, 784), b""),
            zipfile.ZIP_STORED,
            "has dtype .* expected numbers or text",
        ),
        (npy("'<U1'", (3,), b"\xff" * 12), zipfile.ZIP_STORED, "holds invalid text"),
        (npy("'>U1'", (3,), b"\xff" * 12), zipfile.ZIP_STORED, "holds invalid text"),
        (npy("'|u1'" + " " * 20_000, (3,), b"abc", 2), zipfile.ZIP_DEFLATED, "has a header of 2"),
    ],
)
def test_an_npz_with_a_false_header_is_refused(tmp_path, member, method, message):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("y.npy", member)
        archive.writestr("x.npy", npy("'|u1'", (3,), b"abc"), zipfile.ZIP_STORED)
    assert peak(attempt, load_npz, path) < 2_000_000
    found = failure(load_npz, path)
    assert re.search(rf"found an archive that is damaged .*\(y.npy {message}", found)


def test_an_npz_bomb_allocates_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy("'|u1'", (3,), bytes(1 << 26)))
        archive.writestr("y.npy", npy("'|u1'", (3,), b"abc"))
    assert peak(attempt, load_npz, path) < 4_000_000
    assert "x.npy has more bytes after its data" in failure(load_npz, path)


def test_an_npz_with_a_false_directory_allocates_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy("'|u1'", (10**9,), b"abc"))
        archive.writestr("y.npy", npy("'|u1'", (10**9,), b"abc"))
        for member in archive.infolist():  # the directory, written at the end
            member.file_size = member.compress_size = 2 * 10**9
    assert peak(attempt, load_npz, path) < 2_000_000
    # Recent versions of zipfile refuse members that reach into each other.
    message = failure(load_npz, path)
    assert "x.npy is too short for its shape" in message or "Overlapped entries" in message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_load_unchanged(tmp_path, save):
    rows = np.arange(24).reshape(3, 2, 4)
    y = np.array(["é", "", "cat"])
    path = tmp_path / "a.npz"
    for kind in "?", "i1", ">i2", "u4", "<i8", "f2", ">f4", "f8":
        for values in rows, np.asfortranarray(rows), rows[:, ::-1, ::2]:
            x = values.astype(kind, order="K")
            save(path, x=x, y=y)
            found, labels = load_npz(path)
            assert found.dtype == x.dtype
            assert found.flags.writeable
            np.testing.assert_array_equal(found, x)
            np.testing.assert_array_equal(labels, y)


@pytest.mark.filterwarnings("error")
def test_npz_that_python_2_wrote(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy("'|u1'", "(3L, 1L)", b"abc"))
        archive.writestr("y.npy", npy("'|u1'", "(3L,)", b"abc"))
    assert load_npz(path)[0].shape == (3, 1)


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": [1]}, "found arrays named a, expected x and y, or x_train"),
        ({}, "found arrays named nothing"),
        ({"x": [[1]]}, "found arrays named x, expected"),
        ({"x_train": [[1]], "y_train": [1], "x_test": [[1]]}, "found arrays named x_train, y_"),
        ({"x": [[1], [2]], "y": [1]}, "found 2 examples but 1 labels in y, expected one label"),
        ({"x": np.zeros((0, 3)), "y": []}, "found no examples"),
        ({"x": 3, "y": [1]}, "found no array in x"),
        ({"x": [["a"]], "y": [1]}, "found dtype <U1 in x, expected numbers"),
        ({"x": np.array([[Trap()]]), "y": [1]}, "damaged or holds no plain arrays"),
    ],
)
def test_npz_that_does_not_fit(tmp_path, arrays, message):
    path = npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load_npz(path)
    assert str(path) in str(caught.value)
    assert not Trap.sprung


def test_a_truncated_or_damaged_npz_file_is_refused(tmp_path):
    path = npz(tmp_path / "a.npz", x=np.arange(6.0).reshape(2, 3), y=np.array([1, 2]))
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        assert failure(load_npz, path).startswith(f"{path}: found")
    for place in range(0, len(whole), 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        found, message = attempt(load_npz, path)
        assert found or message.startswith(f"{path}: found")
    path.write_bytes(b"x,y\n1,2\n")
    assert "found no ZIP archive, expected an .npz file" in failure(load_npz, path)
    with pytest.raises(FileNotFoundError, match=r"expected an \.npz file"):
        load_npz(tmp_path / "nowhere.npz")
