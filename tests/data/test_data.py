from __future__ import annotations

import gzip
import itertools
import re
import struct
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pynn.data import Dataset, idx_header, load, load_csv, load_idx, load_npz
from pynn.data.csv import Table, read_integers, read_pandas, read_plain

in_any_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array: np.ndarray) -> bytes:
    """Return the bytes of an IDX file, written from the description of the format."""
    code = CODES[array.dtype.str[1:]]
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return (
        bytes([0, 0, code, array.ndim])
        + shape
        + array.astype(array.dtype.str.replace("<", ">")).tobytes()
    )


def write(path: Path, content: bytes, packed: bool = False) -> Path:
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def failure(function, *args, **kwargs) -> str:
    with pytest.raises(ValueError, match="found") as caught:
        function(*args, **kwargs)
    return str(caught.value)


def attempt(function, *args):
    """Return the result of a function and "", or None and the message of its ValueError."""
    try:
        return function(*args), ""
    except ValueError as error:
        return None, str(error)


# IDX


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


def peak(function, *args) -> int:
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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


# CSV


@pytest.fixture(params=["pandas", "neither"])
def reader(request, monkeypatch):
    """pandas can be imported, or not."""
    if request.param == "pandas":
        pytest.importorskip("pandas")
    else:
        monkeypatch.setitem(sys.modules, "pandas", None)
    return request.param


def csv(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "header",
    ["label,pixel0,pixel1,pixel2\n", "\ufefflabel,1x1,1x2,1x3\n", "n,pixel,PixelB,Pixel C\n"],
)
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_csv_of_pixels(tmp_path, reader, end, header, last):
    text = f"{header}7,0,128,255\n0,1,2,3{last}".replace("\n", end)
    x, y = load_csv(csv(tmp_path / "a.csv", text))
    assert x.dtype == np.uint8
    assert y.dtype == np.int64
    assert x.tolist() == [[0, 128, 255], [1, 2, 3]]
    assert y.tolist() == [7, 0]
    assert x.flags.writeable
    assert x.flags.c_contiguous
    assert y.flags.writeable


def test_csv_of_floats(tmp_path, reader):
    text = "label,a,b\n-1,0.1,256\n2,1e-3,-0\n"
    x, y = load_csv(csv(tmp_path / "a.csv", text))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.array([[0.1, 256], [1e-3, -0.0]], np.float32))
    assert y.tolist() == [-1, 2]
    assert x.flags.writeable
    assert x.flags.c_contiguous


@pytest.mark.parametrize(
    ("cell", "dtype"),
    [
        ("5", np.uint8),
        ("255", np.uint8),
        ("005", np.uint8),
        ("+5", np.uint8),
        (" 5 ", np.uint8),
        ('"5"', np.uint8),
        ("5.0", np.float32),
        ("256", np.float32),
        ("-1", np.float32),
        ("1e2", np.float32),
        ("123456789012345678901234567890", np.float32),
    ],
)
def test_pixels_are_recognised_by_their_format(tmp_path, reader, cell, dtype):
    x, _ = load_csv(csv(tmp_path / "a.csv", f"label,pixel0,pixel1\n1,0,{cell}\n2,3,4\n"))
    assert x.dtype == dtype
    assert x[0, 1] == dtype(float(cell.strip('"')))
    assert x[1].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("", 2),
        ("", 783),
        ("label,a,b\n", 2),
        ("label,pixel0,b\n", 2),
        ("label,1x1,1 x 2\n", 2),
        ("label,x1,2x\n", 2),
        ("label,subpixel,pixel\n", 2),
    ],
)
@pytest.mark.parametrize("most", [1, 200, 255, 256, 300, -1, 0.5])
def test_the_dtype_of_a_table_does_not_depend_on_its_values(
    tmp_path, reader, header, columns, most
):
    line = ",".join(["1", *["0"] * (columns - 1), str(most)])
    x, y = load_csv(csv(tmp_path / "a.csv", f"{header}{line}\n{line}\n"))
    assert (x.dtype, x.shape, y.tolist()) == (np.float32, (2, columns), [1, 1])
    assert x[:, -1].tolist() == [most, most]


@pytest.mark.parametrize("label", ["first", None])
@pytest.mark.parametrize("cell", ["255", "256", "0.5"])
def test_784_columns_of_whole_numbers_are_pixels(tmp_path, reader, label, cell):
    line = ",".join(["3"] * (784 + (label is not None) - 1) + [cell])
    x, _ = load_csv(csv(tmp_path / "a.csv", f"{line}\n{line}\n"), label=label)
    assert (x.dtype, x.shape) == (np.uint8 if cell == "255" else np.float32, (2, 784))


def test_the_caller_decides_whether_a_csv_has_pixels(tmp_path, reader):
    table = csv(tmp_path / "a.csv", "label,a\n1,200\n")
    assert load_csv(table, pixels=True)[0].dtype == np.uint8
    assert load(table, pixels=True).train[0].dtype == np.uint8
    pixels = csv(tmp_path / "b.csv", "label,pixel0\n1,200\n")
    x, _ = load_csv(pixels, pixels=False)
    assert (x.dtype, x.tolist()) == (np.float32, [[200]])


# Row numbers


@pytest.mark.parametrize(
    "header",
    [",label,pixel0", '"",label,pixel0', " ,label,pixel0", "Unnamed: 0,label,pixel0", ",0,1"],
)
def test_columns_of_row_numbers_are_skipped_by_their_header(tmp_path, reader, header):
    path = csv(tmp_path / "a.csv", f"{header}\n0,5,200\n1,6,100\n2,5,9\n")
    for function in load_csv, lambda path: load(path).train:
        with pytest.warns(UserWarning, match="skipped the first column") as caught:
            x, y = function(path)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert (x.tolist(), y.tolist()) == ([[200], [100], [9]], [5, 6, 5])
    with pytest.warns(UserWarning, match="skipped the first column"):
        assert load_csv(path, label=None)[0].tolist() == [[5, 200], [6, 100], [5, 9]]


def test_a_data_frame_written_twice_with_its_index(tmp_path, reader):
    text = ",Unnamed: 0.1,Unnamed: 0,label,pixel0\na,0,0,5,200\nb,1,1,6,100\n"
    with pytest.warns(UserWarning, match=r"columns \('', 'Unnamed: 0.1', 'Unnamed: 0'\)"):
        x, y = load_csv(csv(tmp_path / "a.csv", text))
    assert (x.tolist(), x.dtype, y.tolist()) == ([[200], [100]], np.uint8, [5, 6])


def test_a_column_without_a_name_can_be_the_label(tmp_path, reader):
    path = csv(tmp_path / "a.csv", ",a,b\n5,1,2\n6,3,4\n")
    x, y = load_csv(path, label="")
    assert (x.tolist(), y.tolist()) == ([[1, 2], [3, 4]], [5, 6])
    x, y = load_csv(path, index=False)
    assert (x.tolist(), y.tolist()) == ([[1, 2], [3, 4]], [5, 6])
    x, y = load_csv(path, index=True)
    assert (x.tolist(), y.tolist()) == ([[2], [4]], [1, 3])


@pytest.mark.parametrize("label", ["first", "label", None])
def test_row_numbers_with_another_header_are_refused_by_name(tmp_path, reader, label):
    path = csv(tmp_path / "a.csv", "id,label,a\n0,5,200\n1,6,100\n2,5,9\n")
    message = failure(load_csv, path, label=label)
    assert "found the row numbers 0 to 2 in the first column 'id'" in message
    assert "index=True" in message
    assert "--target" in message
    x, _ = load_csv(path, label="label", index=True)
    assert x.tolist() == [[200], [100], [9]]
    x, _ = load_csv(path, label="label", index=False)
    assert x.tolist() == [[0, 200], [1, 100], [2, 9]]
    # A label that was chosen by its name is a label.
    assert load_csv(path, label="id")[1].tolist() == [0, 1, 2]


def test_row_numbers_without_a_header_are_refused(tmp_path, reader):
    message = failure(load_csv, csv(tmp_path / "a.csv", "0,5.5\n1,6\n2,5\n"))
    assert "found the row numbers 0 to 2 in the first column, expected labels" in message


def test_labels_that_do_not_count_the_rows_are_accepted(tmp_path, reader):
    for labels in "01", "012 0", "0122", "102", "345", "024":
        cells = [cell for cell in labels if cell != " "]
        path = csv(tmp_path / "a.csv", "l,a\n" + "".join(f"{cell},5\n" for cell in cells))
        assert load_csv(path)[1].tolist() == list(map(int, cells))


@pytest.mark.parametrize(
    ("name", "numbers", "warns"),
    [
        ("a", range(1, 4), True),
        ("a", range(1461, 1481), True),
        ("a", range(1461, 1480), False),
        ("year", np.repeat(range(1990, 2000), 2), False),
        ("PassengerId", np.random.default_rng(0).permutation(30), True),
        ("passenger_id", np.random.default_rng(0).permutation(30), True),
        ("casino", np.random.default_rng(0).permutation(30), False),
        ("ID", np.random.default_rng(0).permutation(30) * 7, True),
        ("id", np.random.default_rng(0).permutation(30) / 2, False),
        ("a", [255, *range(19)], False),
    ],
)
def test_columns_that_may_be_row_numbers_are_used_with_a_warning(tmp_path, name, numbers, warns):
    lines = "".join(f"{number},{5 + k % 2},7\n" for k, number in enumerate(numbers))
    path = csv(tmp_path / "a.csv", f"{name},label,a\n{lines}")
    for call in (
        lambda: load_csv(path, label="label"),
        lambda: load_csv(path, label="label", pixels=True),
        lambda: load(path, label="label").train,
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            x, _ = call()
        assert x.shape == (len(numbers), 2)
        assert [(w.category, w.filename) for w in caught] == [(UserWarning, __file__)] * warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in True, False:
            load_csv(path, label="label", index=index)
            load(path, label="label", index=index)


def test_two_columns_with_the_name_of_the_label_are_refused(tmp_path):
    path = csv(tmp_path / "a.csv", "a,label,label\n1,2,3\n")
    assert "label: found 2 columns named 'label'" in failure(load_csv, path, label="label")


def test_a_label_is_the_name_of_a_column_of_a_csv_file_only(tmp_path):
    path = csv(tmp_path / "a.csv", "a,digit\n1,2\n3,4\n")
    x, y = load(path, label="digit").train
    assert (x.tolist(), y.tolist()) == ([[1], [3]], [2, 4])
    for other in npz(tmp_path / "a.npz", x=X, y=Y), tmp_path:
        assert "label: found 'digit' for" in failure(load, other, label="digit")


def test_csv_where_the_label_is(tmp_path, reader):
    path = csv(tmp_path / "a.csv", "a,digit,b\n1,9,2\n3,8,4\n")
    x, y = load_csv(path, label="digit")
    assert (x.tolist(), y.tolist()) == ([[1, 2], [3, 4]], [9, 8])
    x, y = load_csv(path, label="b")
    assert (x.tolist(), y.tolist()) == ([[1, 9], [3, 8]], [2, 4])
    x, y = load_csv(path, label=None)
    assert (x.tolist(), y) == ([[1, 9, 2], [3, 8, 4]], None)
    x, y = load_csv(csv(tmp_path / "b.csv", "5\n6\n"), label=None)
    assert (x.tolist(), y) == ([[5], [6]], None)
    x, y = load_csv(csv(tmp_path / "c.csv", "0.5,1,7\n6,1,8\n"), label=None)
    assert (x.tolist(), y) == ([[0.5, 1, 7], [6, 1, 8]], None)


@pytest.mark.parametrize(
    ("cells", "labels", "dtype"),
    [
        (["3", "-7"], [3, -7], np.int64),
        (["3", "2.5"], [3, 2.5], np.float64),
        (["3.0", "2.0"], [3, 2], np.float64),
        (["9223372036854775807", "1"], [2**63 - 1, 1], np.int64),
        (["9223372036854775808", "1"], [2.0**63, 1], np.float64),
        (["cat", "größer"], ["cat", "größer"], np.str_),
        (['"a, ""b"" "', " b "], ['a, "b" ', " b "], np.str_),
    ],
)
@pytest.mark.parametrize("pixel", ["4", "0.5"])
def test_labels_of_every_kind(tmp_path, reader, cells, labels, dtype, pixel):
    path = csv(tmp_path / "a.csv", "".join(f"{cell},1,{pixel}\n" for cell in cells))
    x, y = load_csv(path, header=False)
    assert y.dtype.type == dtype
    assert y.tolist() == labels
    assert x.tolist() == [[1, float(pixel)]] * 2


@pytest.mark.parametrize(
    ("text", "label", "rows"),
    [
        ("label,1x1,1x2\n1,2,3\n", "first", 1),
        ("label,0,1,2,3\n1,2,3,4,5\n", "first", 1),
        ("label,1,2,3,4\n1,2,3,4,5\n", "first", 1),
        ("cat,1,2\ndog,2,3\n", "first", 2),
        ("0,1,3\n1,2,3\n", "first", 2),
        ("pixel0,pixel1\n2,3\n", None, 1),
        ("\n\nlabel,a\n1,2\n\n3,4\n", "first", 2),
        ('"label\nof two lines",a\n1,2\n3,4\n', "first", 2),
    ],
)
def test_a_csv_header_is_distinguished_from_data(tmp_path, reader, text, label, rows):
    x, _ = load_csv(csv(tmp_path / "a.csv", text), label=label)
    assert len(x) == rows


def test_a_first_line_that_counts_is_asked_about(tmp_path, reader):
    path = csv(tmp_path / "a.csv", "0,1,2\n5,6,7\n")
    for label in "first", None:
        assert "expected header=True or header=False" in failure(load_csv, path, label=label)
    assert load_csv(path, header=True)[1].tolist() == [5]
    assert load_csv(path, header=False)[1].tolist() == [0, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an empty file"),
        ("\n \n\n", "found an empty file"),
        ("\ufeff", "found an empty file"),
        ("label,a\n", "found no line after the header"),
        ("1\n2\n", "found 1 column, expected a column of labels and at least one of values"),
        ("1;2;3\n", "found 1 column"),
        ("label,a,b\n1,2,3\n4,x,6\n", r"line 3, column 2 \('a'\): found 'x', expected a finite"),
        ("1,2,3\n4,5,6\n7,8,nope\n", "line 3, column 3: found 'nope'"),
        ("1,2,x\n4,5,6\n", "line 1, column 3: found 'x'"),
        ("1,2,3\n\n\n4,,6\n", "line 4, column 2: found an empty cell"),
        ("1,2,3\n4, ,6\n", "line 2, column 2: found an empty cell"),
        ("1,2,0.5\n4,nan,6\n", "line 2, column 2: found 'nan'"),
        ("1,2,0.5\n4,5,-inf\n", "line 2, column 3: found '-inf'"),
        ("1,2,0.5\n4,1e39,6\n", "line 2, column 2: found '1e39', expected .* float32 can hold"),
        ("1,2,3\n4,1_0,6\n", "line 2, column 2: found '1_0'"),
        ("1,2,3\n4,٣,6\n", "line 2, column 2: found '٣'"),
        ("1,2,3\n4,True,6\n", "line 2, column 2: found 'True'"),
        ("1,2,3\n4,0x1F,6\n", "line 2, column 2: found '0x1F'"),
        ("a,b,c\n1,2,3,\n4,5,6,\n", "line 2: found 4 cells, expected 3"),
        ("1,2,3\n4,5\n", "line 2: found 2 cells, expected 3, as in the first line"),
        ("1,2,3\n4,5,6,7\n", "line 2: found 4 cells, expected 3"),
        ("1,2,3\n,5,6\n", "line 2, column 1: found an empty cell, expected a label"),
        ("1,2,3\n7x,5,6\n", "line 2, column 1: found '7x', expected labels that are all numbers"),
        ("1,2,0.5\n7x,5,6\n", "line 2, column 1: found '7x'"),
        ("cat,2,3\n4,5,6\n", "line 2, column 1: found '4', .* but line 1 holds 'cat'"),
        ("a,pixel\n1,2\nnan,3\n", r"line 3, column 1 \('a'\): found 'nan'"),
        ("pixel0,pixel1\n1,2\n", "found 'pixel0' and 'pixel1' as the names of the first two"),
        (b"\xff\xfe1\0,\x002\0", "expected comma-separated text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "expected comma-separated text in UTF-8"),
        (b"1,2\n3,\xe9\n", "expected comma-separated text in UTF-8"),
    ],
)
def test_bad_csv_is_named(tmp_path, reader, text, message):
    path = csv(tmp_path / "a.csv", text)
    with pytest.raises(ValueError, match=message) as caught:
        load_csv(path)
    assert str(path) in str(caught.value)


def test_a_missing_label_column_is_refused(tmp_path):
    path = csv(tmp_path / "a.csv", "a,b,c,d\n1,2,3,4\n")
    assert "label: found 'e' for " in failure(load_csv, path, label="e")
    assert "expected one of its columns: a, b, c, …" in failure(load_csv, path, label="e")
    message = failure(load_csv, path, label="a", header=False)
    assert "expected a file with a header" in message
    with pytest.raises(FileNotFoundError, match="expected a CSV file"):
        load_csv(tmp_path / "nowhere.csv")


CELLS = (
    *("0", "7", "255", "256", "-1", "-0", "+5", " 7", "7 ", "007", "0.5", "5.0", "-0.0", "1e2"),
    *("0.1", "0.30000001192092896", "16777217", "1e-46", "3.4028235677973366e38", "1e39", "1e999"),
    *("123456789012345678901", "1.", ".5", "1e", "1d2", "0x10", "1_0", "nan", "NA", "inf", "true"),
    *("", " ", "x", '"5"', '"5', '5"', '"a,b"', '"a""b"', '"1\n2"', "٣", "\0", "#1", "\t1", "(1)"),
)


def exact(x: np.ndarray, y: np.ndarray | None):
    return x.dtype, x.shape, x.tobytes(), y if y is None else (y.dtype, y.tolist())


@settings(in_any_folder, max_examples=150)
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.sampled_from(CELLS), min_size=width, max_size=width)
            | st.lists(st.integers(0, 255).map(str), min_size=width, max_size=width)
            | st.lists(st.floats(width=32).map(str), min_size=width, max_size=width)
            | st.lists(st.sampled_from(CELLS), max_size=4),
            max_size=4,
        )
    ),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n \n"]),
    st.sampled_from(
        [
            *("", "\n", "label,a,b\n", "\nlabel,a,b\n", '"la\nbel",a,b\n', "\ufeff"),
            *("label,pixel0,pixel1\n", ",label,1x1\n", "Unnamed: 0,a,pixel0,pixel1\n"),
        ]
    ),
    st.sampled_from(["first", None, "a"]),
)
@example([["1", "2", "0.5"], ["1", "2", "3"]], "\r", "label,a,b\n", "first")
@example([["1", "-0", "7"]], "\n", "", "first")
@example([["0", "-0", "0.1"]], "\n", "", "first")
@example([["0", "0", "-0"], ["0", "0", "0.1"]], "\n", "", "first")
@example([["0", "256", "true"]], "\n", "", "first")
@example([["1", "0.5"], ["3", "0.5"], ["5", "6.5"]], "\n", '"la\nbel",a\n', "first")
@example([["1", "0.5"], ["3", "0.5"], ["5", "6.5"]], "\n", "\nlabel,a\n", "first")
@example([["1", ""], ["3", "0.5"]], "\n", "", "first")
def test_fast_readers_agree_with_the_plain_one(tmp_path, rows, end, header, label):
    text = header + end.join(",".join(cells) for cells in rows)
    path = csv(tmp_path / "a.csv", text)
    table, _ = attempt(Table.open, path, label, None)
    if table is None:
        return
    plain, _ = attempt(read_plain, table)
    for read in read_integers, read_pandas:
        try:
            found = read(table)
        except Exception:
            continue
        assert plain is not None, read.__name__
        assert exact(*found) == exact(*plain), read.__name__


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_integers, "l,pixel0,pixel1\n7,0,255\n8,1,2\n"),
        (read_integers, "\ufeffl,1x1,1x2\r\n7,0,255\r\n8,1,2\r\n"),
        (read_integers, ",l,pixel0,pixel1\n0,7,0,255\n1,8,1,2\n"),
        (read_pandas, "l,p,q\n7,0.5,255\n8,1,2\n"),
        (read_pandas, "l,p,q\n7,0,255\n8,1,2\n"),
        (read_pandas, "l,p\n7,9007199791611905\n8,1\n"),
        (read_pandas, "Unnamed: 0,l,pixel0\nfirst,7,0.5\nsecond,8,1\n"),
    ],
)
def test_fast_readers_read_the_files_they_are_made_for(tmp_path, read, text):
    """The test above would also pass with readers that always fail."""
    if read is read_pandas:
        pytest.importorskip("pandas")
    table = Table.open(csv(tmp_path / "a [1] *.csv", text), "first", None)
    assert exact(*read(table)) == exact(*read_plain(table))


@pytest.mark.parametrize(
    "text",
    [
        "," * 50_000,  # more columns than a DataFrame can hold
        "1," * 25_000 + "1",
        ".5," * 20_000 + "1",
        "a,1\n" * 10_000,
        "1,.5\n" * 8_000,
        "1,.5\n" * 8_000 + "1,x\n",
        f"{'a' * 25_000},1\n" + "b,1\n" * 6_000,  # one long label among many
        '"' * 50_000,
        "\n" * 50_000,
    ],
    ids=lambda text: f"{text[:5]!r}",
)
def test_reading_a_csv_allocates_a_small_multiple_of_its_size(tmp_path, reader, text):
    path = csv(tmp_path / "a.csv", text)
    attempt(load_csv, path)  # first, for imports
    taken = peak(attempt, load_csv, path)
    assert taken < 500_000 + 45 * path.stat().st_size, taken / path.stat().st_size


def test_csv_with_one_label_of_another_kind_of_length(tmp_path):
    path = csv(tmp_path / "a.csv", f"{'a' * 100_000},1\n" + "b,1\n" * 250_000)
    message = failure(load_csv, path)
    assert message.startswith(f"{path}: line 1, column 1: found 'aaa")
    assert "expected a label of at most" in message
    # A long label is accepted if the array stays small.
    path = csv(tmp_path / "b.csv", f"{'a' * 1000},1\nb,1\n")
    assert [len(label) for label in load_csv(path)[1]] == [1000, 1]


def test_csv_floats_are_rounded_alike(tmp_path):
    pytest.importorskip("pandas")
    values = np.random.default_rng(1).standard_normal((200, 50)) * 10.0 ** np.arange(-25, 25)
    text = "\n".join(",".join(map(repr, row)) for row in values.tolist())
    table = Table.open(csv(tmp_path / "a.csv", text), None, None)
    expected = values.astype(np.float32).tobytes()
    for read in read_plain, read_pandas:
        assert read(table)[0].tobytes() == expected, read.__name__


# NPZ


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


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
    assert "x.npy is too short for its shape" in failure(load_npz, path)


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


# load

X = np.arange(5 * 4 * 3, dtype="u1").reshape(5, 4, 3)
Y = np.array([3, 1, 4, 1, 5], "u1")


def put(folder: Path, part: str, x: np.ndarray = X, y: np.ndarray = Y, *, packed=False, dot=False):
    for kind, array in ("images-idx3", x), ("labels-idx1", y):
        name = f"{part}-{kind.replace('-idx', '.idx') if dot else kind}-ubyte"
        write(folder / (name + ".gz" * packed), idx(array), packed)


@pytest.mark.parametrize(("packed", "dot"), list(itertools.product([False, True], repeat=2)))
def test_load_a_folder(tmp_path, packed, dot):
    put(tmp_path, "train", packed=packed, dot=dot)
    found = load(tmp_path)
    assert found.test is None
    put(tmp_path, "t10k", X[:2], Y[:2], packed=not packed, dot=dot)
    found = load(str(tmp_path))
    for (x, y), count in (found.train, 5), (found.test, 2):
        np.testing.assert_array_equal(x, X[:count])
        np.testing.assert_array_equal(y, Y[:count])
        assert (x.dtype, y.dtype) == (np.uint8, np.int64)


def test_loading_an_incomplete_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte: found no such file"):
        load(tmp_path)
    put(tmp_path, "train")
    put(tmp_path, "t10k")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte: found no such file"):
        load(tmp_path)
    put(tmp_path, "t10k", X, Y[:4])
    assert "found 5 examples but 4 labels in " in failure(load, tmp_path)
    put(tmp_path, "t10k", X[:0], Y[:0])
    assert "found no examples" in failure(load, tmp_path)
    put(tmp_path, "t10k", Y, X)
    assert "found shape (5,), expected images" in failure(load, tmp_path)
    put(tmp_path, "t10k", X, X)
    assert "found shape (5, 4, 3) of uint8, expected integer labels" in failure(load, tmp_path)
    put(tmp_path, "t10k", X, Y.astype("f4"))
    assert "found shape (5,) of float32, expected integer" in failure(load, tmp_path)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("my-images.idx", "my-labels.idx"),
        ("my-images.idx.gz", "my-labels.idx"),
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"),
        ("images.idx3", "labels.idx1"),
    ],
)
def test_load_one_idx_file(tmp_path, images, labels):
    write(tmp_path / images, idx(X), images.endswith(".gz"))
    with pytest.raises(FileNotFoundError, match=r"labels.*found no such file"):
        load(tmp_path / images)
    write(tmp_path / labels, idx(Y), labels.endswith(".gz"))
    found = load(tmp_path / images)
    np.testing.assert_array_equal(found.train[0], X)
    np.testing.assert_array_equal(found.train[1], Y)
    assert found.test is None


def test_load_csv_and_npz(tmp_path):
    found = load(csv(tmp_path / "a.CSV", "label,a\n1,2\n"))
    assert (found.train[0].tolist(), found.train[1].tolist(), found.test) == ([[2]], [1], None)
    found = load(npz(tmp_path / "a.npz", x=X, y=Y))
    assert (found.train[0].shape, found.test) == (X.shape, None)
    path = npz(tmp_path / "b.npz", x_train=X, y_train=Y, x_test=X[:1], y_test=Y[:1])
    found = load(path.rename(tmp_path / "without a suffix"))
    assert (len(found.train[1]), len(found.test[1])) == (5, 1)


def test_loading_an_unknown_format_is_refused(tmp_path):
    path = csv(tmp_path / "a.png", b"\x89PNG\r\n\x1a\n")
    assert r"a.png: found a file that starts with b'\x89PNG'" in failure(load, path)
    path = csv(tmp_path / "a.txt", b"")
    assert "a.txt: found a file that starts with b''" in failure(load, path)
    path = write(tmp_path / "digits.idx", idx(X))
    assert "without 'images' in its name" in failure(load, path)
    with pytest.raises(FileNotFoundError, match="nowhere: found no such file, expected a folder"):
        load(tmp_path / "nowhere")


def test_a_dataset_is_frozen():
    found = Dataset((X, Y))
    with pytest.raises(AttributeError):
        found.test = (X, Y)
