"""``pynn.data.Table``: columns become inputs, and what they refuse."""

from __future__ import annotations

import datetime
import re
import warnings

import numpy as np
import pytest

import pynn
from pynn.data import Table, cells

MIXED = """age,sex, fare ,class,name,survived
22,male,7.25,third,Ann,no
,female,71.5,first,Bob,yes
26,female,,third,Cas,yes
35, ,53,first,Dan,yes
54,male,8,third,Eve,no
"""


@pytest.fixture
def mixed(tmp_path):
    path = tmp_path / "mixed.csv"
    path.write_text(MIXED)
    return path


def error(call, *arguments, **more) -> str:
    with pytest.raises((ValueError, TypeError)) as found:
        call(*arguments, **more)
    return str(found.value)


def test_columns_become_inputs(mixed):
    table = Table.of(mixed, "survived", drop=["name"])
    assert table.inputs == (
        *("age", "sex=female", "sex=male", "fare", "class=first", "class=third"),
    )  # fmt: skip
    assert (table.task, table.classes) == ("classification", ("no", "yes"))
    assert table.y(mixed).tolist() == ["no", "yes", "yes", "yes", "no"]
    assert error(table.x, mixed) == (
        f"{mixed}: found missing values in 'age' (1 of 5, the first in line 3), 'sex' (1 of 5, the "
        "first in line 5), 'fare' (1 of 5, the first in line 4); expected a value in each cell, or "
        "a model trained with impute (--impute median)"
    )
    filled = table.imputed(mixed, "median")
    assert [column.fill for column in filled.columns] == [30.5, "female", 30.5, "third"]
    x = filled.x(mixed)
    assert x[:4].tolist() == [
        [22, 0, 1, 7.25, 0, 1],
        [30.5, 1, 0, 71.5, 1, 0],
        [26, 1, 0, 30.5, 0, 1],
        [35, 1, 0, 53, 1, 0],
    ]
    assert filled.imputed(mixed, "mean").columns[0].fill == 34.25
    assert filled.imputed(mixed, "most_frequent").columns[0].fill == 22
    # Statistics of some rows only.
    some = cells.as_cells(mixed).take(np.array([0, 2]))
    assert table.imputed(some, "median").columns[0].fill == 24


def test_frames_are_tables(mixed):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(mixed, skipinitialspace=True)
    frame.columns = frame.columns.str.strip()
    frame["class"] = frame["class"].astype("category")
    table = Table.of(mixed, "survived", drop=["name"]).imputed(mixed, "median")
    same = Table.of(frame, "survived", drop=["name"]).imputed(frame, "median")
    assert same == table
    np.testing.assert_array_equal(same.x(frame), table.x(mixed))
    # The columns may have any order, and the target may be missing.
    other = frame[["class", "fare", "sex", "age"]].convert_dtypes()
    np.testing.assert_array_equal(table.x(other), table.x(mixed))
    frame["day"] = pandas.date_range("2020-01-01", periods=5)
    assert "column 'day': found datetime64" in error(Table.of, frame, "survived")
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, None, 3], "b": ["x", None, "y"], "c": [True, False, True]})
    table = Table.of(frame, "c")
    assert table.classes == ("False", "True")
    assert table.imputed(frame, "mean").x(frame).tolist() == [[1, 1, 0], [2, 1, 0], [3, 0, 1]]


def test_the_task_depends_on_the_target():
    numbers = list(range(60))

    def of(target, **more):
        found = Table.of({"a": numbers, "y": target}, "y", **more)
        return found.task, found.classes

    assert of([k % 3 for k in numbers]) == ("classification", (0, 1, 2))
    assert of([k % 3 for k in numbers], task="regression") == ("regression", None)
    assert of([k % 21 for k in numbers]) == ("regression", None)
    assert of([k % 21 for k in numbers], task="classification")[1] == (*range(21),)
    assert of([k / 2 % 2 for k in numbers]) == ("regression", None)
    assert of([k / 2 % 2 for k in numbers], task="classification")[1] == (0, 0.5, 1, 1.5)
    assert of(["ab"[k % 2] for k in numbers]) == ("classification", ("a", "b"))
    table = {"a": numbers, "y": ["ab"[k % 2] for k in numbers]}
    assert "found 'regression' with the text 'a'" in error(Table.of, table, "y", task="regression")
    assert "found one class only (5)" in error(Table.of, {"a": numbers, "y": [5] * 60}, "y")
    labels = [f"id {k}" for k in numbers]
    assert "found 60 different labels" in error(Table.of, {"a": numbers, "y": labels}, "y")


def test_unknown_names_show_the_closest(tmp_path):
    data = {"city": ["a", "b"], "plan": [1, 2], "outcome": ["x", "y"]}
    message = "expected one of its columns: city, plan, outcome; similar: 'outcome'"
    assert error(Table.of, data, "Outcome").endswith(message)
    assert error(Table.of, data, "outcome", drop=["outcom"]).endswith(message)
    assert error(Table.of, data, "price").endswith("city, plan, outcome")
    many = {f"c{k}": [1, 2] for k in range(25)}
    assert "c18, c19, …; similar: 'c24', " in error(Table.of, many, "C24 ")


def test_messages_about_the_target_show_what_was_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,y\n" + "1,yes\n2,None\n" * 20)
    assert error(Table.of, path, "y").endswith(
        "target 'y': found one class only (yes) and 20 missing values (empty cells, and texts such "
        "as NA and None), expected at least two classes"
    )
    path.write_text("a,y\n1,12\n" + "".join(f'{k},"{k + 1},{100 + k}.19"\n' for k in range(30)))
    assert error(Table.of, path, "y").endswith(
        "target 'y': found 31 different labels in 31 rows, read as texts since '1,100.19' in line "
        "3 is no number, expected classes that recur"
    )


def test_other_data_are_refused_by_name(mixed):
    table = Table.of(mixed, "survived", drop=["name"]).imputed(mixed, "median")
    one = {"age": [3], "sex": ["male"], "fare": [1], "class": ["third"]}
    assert table.x(one).shape == (1, 6)
    assert "found the category 'second' in row 0" in error(table.x, one | {"class": ["second"]})
    assert "found no column 'age', expected the columns" in error(
        table.x, {k: v for k, v in one.items() if k != "age"}
    )
    assert "found column 'deck' that the training did not have" in error(
        table.x, one | {"deck": [1]}
    )
    assert "column 'age': found 'old' in row 0" in error(table.x, one | {"age": ["old"]})
    assert "column 'age': found an infinite" in error(table.x, one | {"age": [np.inf]})
    assert "found the class 'maybe' in row 0" in error(table.y, {"survived": ["maybe"]})
    assert "found 1 of 1 missing, the first in row 0" in error(table.y, {"survived": [None]})
    assert "target: found 'alive' for" in error(Table.of, mixed, "alive")


def test_columns_that_are_no_categories_are_refused(tmp_path):
    n = 150
    table = {"id": [f"row {k}" for k in range(n)], "y": [0, 1] * 75}
    assert "found 150 different texts in 150 rows" in error(Table.of, table, "y")
    path = tmp_path / "a.csv"
    path.write_text("a,y\n" + "".join(f"{k},{k % 2}\n" for k in range(0, 200, 2)) + "?,1\n")
    assert "found 1 text among 100 numbers, the first '?' in line 102" in error(Table.of, path, "y")
    table = {"code": [10, 20.5, 10] * 50, "y": [0, 1] * 75}
    assert Table.of(table, "y").inputs == ("code",)
    assert Table.of(table, "y", categories=["code"]).inputs == ("code=10", "code=20.5")
    weighted = Table.of({**table, "w": [1.0] * n}, "y", weights="w")
    assert weighted.inputs == ("code",)
    assert weighted.sample_weight({"w": [0, 2]}).tolist() == [0, 2]
    assert "weights 'w': found -1 in row 1" in error(weighted.sample_weight, {"w": [0, -1]})
    assert "found 1 of 2 missing" in error(weighted.sample_weight, {"w": [0, None]})


def test_row_numbers_are_skipped_or_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",a,y\n0,1,2\n1,3,4\n2,5,7\n")
    with pytest.warns(UserWarning, match="skipped the first column"):
        assert Table.of(path, "y").inputs == ("a",)
    path.write_text("id,a,y\n0,1,2\n1,3,4\n2,5,7\n")
    message = error(Table.of, path, "y")
    assert "found the row numbers 0 to 2 in the first column 'id'" in message
    assert "leave it out with drop=['id'] (--drop id)" in message


def test_a_table_remembers_whether_the_first_column_is_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,a,y\n7,1,2.5\n4,3,4\n9,5,7\n")
    table = Table.of(path, "y", index=True)
    assert (table.inputs, table.index, table.ignored) == (("a",), True, ("id",))
    assert table.x(path).tolist() == [[1], [3], [5]]
    assert table.y(path).tolist() == [2.5, 4, 7]
    saved = table.to_dict()
    assert Table.from_dict(saved) == table
    del saved["index"]  # a file of an earlier version
    assert Table.from_dict(saved).index is None
    assert "index" in error(Table.from_dict, saved | {"index": 1})
    # A data frame may have the column.
    frame = {"id": ["x", "y"], "a": [8, 9]}
    assert table.x(frame).tolist() == table.x({"a": [8, 9]}).tolist() == [[8], [9]]
    assert "expected it with a CSV file" in error(Table.of, {"a": [1], "y": [2]}, "y", index=True)
    # Without the column, the first one is not skipped silently.
    path.write_text("a,y\n1,2\n")
    assert "--index skips the first column, 'a': --no-index uses it" in error(table.x, path)
    path.write_text(",a,y\n0,1,2\n1,3,4\n2,5,7\n")
    assert Table.of(path, "y", index=True).x({"Unnamed: 0": [5], "a": [6]}).tolist() == [[6]]
    table = Table.of(path, "y", index=False)
    assert table.inputs == ("", "a")
    assert table.x(path).tolist() == [[0, 1], [1, 3], [2, 5]]


def test_later_files_have_no_warning_about_row_numbers(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{k},{k % 5},{k / 7}\n" for k in range(1, 31))
    path.write_text(f"id,a,y\n{rows}")
    with pytest.warns(UserWarning, match="used the first column 'id'") as found:
        table = Table.of(path, "y")
    assert found[0].filename == __file__
    text = str(found[0].message)
    assert "drop=['id'] (--drop id)" in text
    assert "label=" not in text  # the target has been named
    assert table.x(path).shape == (30, 2)
    path.write_text(f"no,a,y\n{rows}")
    table = Table.of({"a": [1, 2], "y": [2.5, 3]}, "y")
    assert error(table.x, path).endswith(
        "found column 'no' that the training did not have, expected 'a'; --index skips the first "
        "column on the command line"
    )


@pytest.mark.parametrize(
    ("header", "k"), [("a,,y", 2), ('a,y," "', 3), (",a,,y", 3), (",a,,,y", 3)]
)
def test_columns_without_a_name_are_refused(tmp_path, header, k):
    path = tmp_path / "a.csv"
    n = header.count(",") + 1
    cells = ",".join("1" * n)
    path.write_text(f"{header}\n{cells}\n{cells}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for more in {}, {"index": True}, {"index": False}:
            assert error(Table.of, path, "y", **more) == (
                f"{path}: line 1: found no name of column {k} of {n}, expected one (only the first "
                "column, of row numbers, needs none); name this column, or remove it"
            )


def test_dropped_columns_are_not_checked(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,a,y\n0,1,2\n1,3,4\n2,5,7\n")
    table = Table.of(path, "y", drop=["id"])
    assert table.inputs == ("a",)
    assert table.x(path).tolist() == [[1], [3], [5]]
    assert table.y(path).tolist() == [2, 4, 7]
    path.write_text("a,y\n0,2\n1,4\n2,7\n")
    assert table.x(path).tolist() == [[0], [1], [2]]  # values, as in the training
    path.write_text("no,a\n0,2\n1,4\n2,7\n")
    message = error(table.x, path)
    assert "found the row numbers 0 to 2 in the first column 'no'" in message
    assert "drop=" not in message
    for ids in (range(1, 31), [*range(0, 60, 2), "x"]):  # no warning, no mix of numbers and texts
        path.write_text("id,a,y\n" + "".join(f"{k},{k % 7 if k != 'x' else 1},2.5\n" for k in ids))
        assert Table.of(path, "y", task="regression", drop=["id"]).x(path).shape == (len(ids), 1)


def test_large_files_are_read_alike(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    path = tmp_path / "a.csv"
    path.write_text(
        "a,b,c,d,e\n1, x,True, 2.5 ,NA\n-1e-3,NA,FALSE,,1\n0.1,y z,true,12345678901234567890,2\n"
    )
    plain = cells.as_cells(path)
    monkeypatch.setattr(cells, "LARGE", 0)
    calls = []
    monkeypatch.setattr(cells, "_plain", lambda *_: calls.append(1))
    large = cells.as_cells(path)
    assert not calls
    assert list(plain.columns) == list(large.columns)
    for name, column in plain.columns.items():
        np.testing.assert_array_equal(column, large.columns[name], name)


def test_rows_of_one_column_are_never_left_out(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    table = Table.of({"a": [1, 2, 6], "y": [1.5, 2, 3]}, "y").imputed({"a": [1, 2, 6]}, "mean")
    path = tmp_path / "a.csv"
    for large in False, True:
        monkeypatch.setattr(cells, "LARGE", 0 if large else 1 << 21)
        path.write_text('a\n1.0\n""\n2.0\n""\n\n')  # as pandas writes gaps
        assert table.x(path).tolist() == [[1], [3], [2], [3]]
        assert cells.as_cells(path).place(2) == "line 4"
        for blank in "", " ":
            path.write_text(f"a\n1.0\n{blank}\n2.0\n")
            assert error(table.x, path) == (
                f"{path}: line 3: found a blank line between rows of one column, expected a value, "
                'or "" or NA for a missing one'
            )
        # In other files a row has commas.
        path.write_text('a,y\n1,2\n\n""\n  \n,4\n')
        assert table.x(path).tolist() == [[1], [3]]
        path.write_text("a,y\n1,2\n3\n")
        assert "line 3: found 1 cell, expected 2" in error(table.x, path)


def test_complete_rows_with_gaps_are_read_by_pandas(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,2,x\n3,,\n,4,y\n\n,,\n")
    plain = cells.as_cells(path)
    monkeypatch.setattr(cells, "LARGE", 0)
    monkeypatch.setattr(cells, "_plain", None)
    large = cells.as_cells(path)
    for name, column in plain.columns.items():
        np.testing.assert_array_equal(column, large.columns[name], name)


def test_model_files_contain_the_table(mixed, tmp_path):
    table = Table.of(mixed, "survived", drop=["name"]).imputed(mixed, "median")
    net = pynn.Network([6, 2], backend="numpy")
    net.table = table
    net.save(tmp_path / "m.safetensors")
    found = pynn.load(tmp_path / "m.safetensors", backend="numpy")
    assert found.table == table
    assert Table.from_dict(table.to_dict()) == table
    for name, value in {
        "columns": [{"name": 1}],
        "task": "guess",
        "classes": [[1]],
        "target": None,
        "ignored": "x",
    }.items():
        assert error(Table.from_dict, table.to_dict() | {name: value})
    assert "expected 3" in error(setattr, pynn.Network([3, 2], backend="numpy"), "table", table)
    assert re.match("table: found a dict", error(setattr, net, "table", {}))


def test_categories_are_the_texts_of_cells(tmp_path, monkeypatch):
    path = tmp_path / "z.csv"
    big = 2**53
    rows = [("01", 0.5, big), ("1", 1.5, big + 1), ("", 2.5, big), ("1.0", 3.5, big + 1)] * 3
    path.write_text("z,a,y\n" + "".join(f"{z},{a},{y}\n" for z, a, y in rows))
    assert "labels of 2**53 or more, which float64 rounds" in error(
        Table.of, path, "y", task="classification"
    )
    for size in (1 << 40, 0):
        monkeypatch.setattr(cells, "LARGE", size)  # 0 reads with pandas if it is installed
        table = Table.of(path, "y", categories=["z", "y"]).imputed(path, "mean")
        assert table.inputs == ("z=01", "z=1", "z=1.0", "a")
        assert table.classes == (str(big), str(big + 1))
        assert table.x(path)[:2, :3].tolist() == [[1, 0, 0], [0, 1, 0]]
        assert Table.from_dict(table.to_dict()).y(path).tolist() == [str(y) for *_, y in rows]
    # A column with a gap is written by pandas as 3.0.
    table = Table.of({"k": [3, 4, 3], "y": [big, big + 1, big]}, "y", categories=["k", "y"])
    assert table.inputs == ("k=3", "k=4")
    assert table.x({"k": ["4.0", "3"]}).tolist() == [[0, 1], [1, 0]]
    assert table.y({"k": [3], "y": [big + 1]}).tolist() == [str(big + 1)]


def test_a_column_is_one_thing():
    data = {"a": [1.0, 2.0], "y": [1.5, 2.5], "w": [1e-200, 1.0]}
    assert error(Table.of, data, "y", drop=["y"]).startswith("drop: found 'y', the target")
    assert "the column of the weights" in error(Table.of, data, "y", drop=["w"], weights="w")
    assert error(Table.of, data, "y", weights="y").startswith("weights: found 'y', the target")
    table = Table.of(data, "y", weights="w")
    assert "weights 'w': found 1e-200 in row 0" in error(table.sample_weight, data)


@pytest.mark.parametrize(
    "dates",
    [
        ["2024-03-31", "2024-04-01", None, "2024-03-31"],
        ["2024-03-31 12:30", "2024-03-31T12:30:59.25Z", "2024-03-31", "2024-03-31T01:00+02:00"],
        [f"20{k:02}-01-01" for k in range(100)] * 2,
        ["31.03.2024", "1.4.2024", None, "31.03.2024 12:30"],
        ["31.03.24", "01.04.24", "31.03.24"],
        ["04/20/2024", "4/2/2024", "04/20/2024 1:05 PM"],
        ["20/04/2024", "2/4/2024", "20/4/24"],
        ["20-04-2024", "2-4-2024", "20-4-2024"],
        ["04-20-2024", "4-2-2024", "04-20-2024"],
        ["2024/04/20", "2024/4/2", "2024/04/20"],
        ["2024.04.20", "2024.4.2", "2024.04.20"],
        ["20 Apr 2024", "2 April 2024", "20-Sep-24", "2 MAY 2024 12:30"],
    ],
)
def test_dates_are_no_categories(tmp_path, dates):
    rows = {"day": dates, "y": [float(k) for k in range(len(dates))]}
    lines = [f"{day or ''},{y}" for day, y in zip(*rows.values(), strict=True)]
    path = tmp_path / "dates.csv"
    path.write_text("\n".join(["day,y", *lines]) + "\n")
    for data in (rows, path):
        message = error(Table.of, data, "y")
        assert f"column 'day': found dates, the first {dates[0]!r}, expected numbers" in message
        assert "convert dates to numbers, such as days since a date, or leave them out" in message
        assert Table.of(data, "y", categories=["day"]).columns[0].categories is not None
    objects = {"day": [datetime.date(2024, 3, 31), None], "y": [1.5, 2.5]}
    assert "expected numbers or texts; convert dates to" in error(Table.of, objects, "y")
    for other in (
        ["2024-04-01", "2024-13-31"],
        ["04/20/2024", "20/04/2024"],  # two forms
        ["1.2.10", "1.2.9"],  # versions
        ["192.168.0.1", "192.168.0.2"],
        ["20 Apr", "21 Apr"],
        ["1/2", "3/4"],
        ["2024/04/20", "unknown"],
    ):
        rows = {"day": other, "y": [1.5, 2.5]}
        assert Table.of(rows, "y").inputs == tuple(f"day={text}" for text in other)


def test_single_values_are_no_columns():
    table = Table.of({"age": [1.0, 2.0], "y": [1.5, 2.5]}, "y")
    for value, found in (
        (40, "a number"),
        (np.float32(40), "a number"),
        (np.array(40), "a ndarray"),
        ("40", "text"),
        (None, "a NoneType"),
    ):
        message = f"column 'age': found {found}, expected a list of values, one for each row"
        assert error(table.x, {"age": value}) == message
