"""CSV files."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pynn.data import load, load_csv
from pynn.data.csv import Table, read_integers, read_pandas, read_plain
from tests.data.files import attempt, csv, failure, in_any_folder, npz, peak


@pytest.fixture(params=["pandas", "neither"])
def reader(request, monkeypatch):
    """pandas can be imported, or not."""
    if request.param == "pandas":
        pytest.importorskip("pandas")
    else:
        monkeypatch.setitem(sys.modules, "pandas", None)
    return request.param


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
    for other in npz(tmp_path / "a.npz", x=np.eye(2), y=np.arange(2)), tmp_path:
        assert "label: found 'digit' for" in failure(load, other, label="digit")


def test_rows_of_one_column_are_not_skipped(tmp_path, reader):
    path = csv(tmp_path / "a.csv", 'a\n1\n""\n3\n')
    assert "line 3, column 1 ('a'): found an empty cell" in failure(load_csv, path, label=None)
    csv(path, "a\n1\n\n3\n")
    assert "line 3: found a blank line between rows" in failure(load_csv, path, label=None)
    csv(path, "a\n1\n3\n\n\n")
    assert load_csv(path, label=None)[0].tolist() == [[1], [3]]


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
        ("1;2;3\n", "separated by commas, not by semicolons"),
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
    assert "expected one of its columns: a, b, c, d" in failure(load_csv, path, label="e")
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
@example([["1"], [""], ["3"]], "\n", "a\n", None)
@example([["1.5"], ['""'], ["3"]], "\n", "pixel0\n", None)
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
