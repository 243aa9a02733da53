"""What users give as x and y, and what comes of it: arrays for the kernels, or one clear error."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pynn.arrays.sparse import Sparse
from pynn.checks import targets as checks_targets
from pynn.checks.features import features
from pynn.checks.targets import Task, targets
from pynn.spec.architecture import Architecture

F32, F64, U8 = np.float32, np.float64, np.uint8


def build(n_in: int = 4, n_out: int = 3, **settings: Any) -> Architecture:
    return Architecture.build([n_in, n_out], **settings)


NET = build()
BCE = "binary_cross_entropy"


# --- x: what is passed on as it is ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [U8, F32, F64])
@pytest.mark.parametrize(
    "layout",
    [
        lambda a: a,
        np.asfortranarray,
        lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
        lambda a: a[::-1, ::-1],
    ],
    ids=["rows", "columns", "strided", "backwards"],
)
def test_x_is_not_copied(rng: np.random.Generator, dtype: type, layout: Any) -> None:
    x = layout(rng.integers(0, 9, (6, 4)).astype(dtype))
    x.flags.writeable = False
    assert features(x, NET) is x


def test_images_are_flattened_without_a_copy(rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (5, 2, 2), dtype=U8)
    found = features(x, NET)
    assert found.shape == (5, 4)
    assert np.shares_memory(found, x)
    assert (found == x.reshape(5, 4)).all()


def test_memory_mapped_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    big = np.lib.format.open_memmap(path, "w+", F32, (20_000, 100))
    big[:] = 1
    big.flush()
    x = np.load(path, mmap_mode="r")
    tracemalloc.start()
    found = features(x, build(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.shares_memory(found, x)
    assert peak < 100_000


def test_search_for_nan_allocates_no_copy() -> None:
    x: np.ndarray
    for x in (
        np.ones((20_000, 100), F32),
        np.ones((100, 20_000), F32).T,
        np.ones((40_000, 100))[::2],
    ):
        tracemalloc.start()
        features(x, build(100))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000  # 134 kB with NumPy 2.2


# --- x: what is converted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "uint16", "int64", "float16", "longdouble"]
)
@pytest.mark.parametrize("into", ["float32", "float64"])
def test_other_numbers_are_converted_to_the_dtype_of_the_network(dtype: str, into: str) -> None:
    x = np.array([[0, 1, 1, 0], [1, 0, 1, 1]], dtype=dtype)
    found = features(x, build(dtype=into))
    assert found.dtype == into
    assert (found == x).all()


def test_big_endian_and_unaligned_become_native() -> None:
    x = np.arange(8, dtype=">f4").reshape(2, 4)
    found = features(x, NET)
    assert found.dtype == F32
    assert found.dtype.isnative
    assert (found == x).all()
    raw = np.zeros(8 * 4 + 1, U8)[1:].view(F32).reshape(2, 4)
    assert not raw.flags.aligned
    assert features(raw, NET).flags.aligned


def test_lists_are_values_not_pixels() -> None:
    found = features([[1, 2, 3, 255]], NET)
    assert found.dtype == F32
    assert found.tolist() == [[1, 2, 3, 255]]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_train_the_same(library: str) -> None:
    frames = pytest.importorskip(library)
    x = frames.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": [5.0, 6.0], "d": [True, False]})
    if library == "pandas":
        x = x.astype({"d": "float64"})
    assert features(x, NET).tolist() == [[1, 3, 5, 1], [2, 4, 6, 0]]
    y, task = targets(frames.Series(["b", "c"]), 2, build(n_out=2), None)
    assert y.tolist() == [0, 1]
    assert task.classes is not None
    assert task.classes.tolist() == ["b", "c"]


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_frames_of_nullable_columns(backend: Any) -> None:
    pandas = pytest.importorskip("pandas")
    if backend == "pyarrow":
        pytest.importorskip("pyarrow")
    x = pandas.DataFrame({"a": [1.5, 2.5], "b": [3, 4], "c": [5.0, 6.5], "d": [True, False]})
    plain = x.astype("float64").to_numpy()
    frame = x.convert_dtypes(dtype_backend=backend)
    found = features(frame, NET)
    assert isinstance(found, np.ndarray)
    assert found.flags.c_contiguous
    assert (found == plain).all()
    assert (features(frame.astype({"a": "float32"}), NET) == plain).all()
    values, task = targets(frame, 2, build(4, 4, loss="mse"), None)
    assert (values == plain).all()
    assert task.kind == "values"
    # One column may be labels: those stay what they are.
    for column, classes in ("b", [3, 4]), ("d", [False, True]):
        _, task = targets(frame[[column]], 2, build(n_out=2), None)
        assert task.classes is not None
        assert task.classes.tolist() == classes
    frame.loc[1, "b"] = pandas.NA
    with pytest.raises(ValueError, match=r"x: found nan at row 1, column 1 \(counted from 0\)"):
        features(frame, NET)
    frame["c"] = ["x", "y"]
    with pytest.raises(TypeError, match=r"x: column 'c' contains text \('x'\)"):
        features(frame, NET)


# --- x: errors ------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            np.zeros((5, 3)),
            ValueError,
            r"x: found 3 values in a row \(shape \(5, 3\)\), expected 4",
        ),
        (np.zeros((5, 3, 2)), ValueError, "x: found 6 values in a row"),
        (np.zeros((2, 2)), ValueError, r"x: found 2 values in a row .*for one row write x\[None\]"),
        (np.zeros(4), ValueError, r"x: found shape \(4,\), expected \(rows, 4\).*x\[None, :\]"),
        (np.zeros(7), ValueError, r"x: found shape \(7,\), expected \(rows, 4\)$"),
        (3.0, ValueError, r"x: found shape \(\)"),
        (np.zeros((0, 4)), ValueError, r"x: found no rows \(shape \(0, 4\)\)"),
        ([], ValueError, r"x: found shape \(0,\)"),
        (None, TypeError, "x: found None, expected an array of numbers"),
        ("data.csv", TypeError, "x: found a str, expected an array"),
        ({"a": 1}, TypeError, "x: found a dict"),
        ([[1, 2, 3, 4], [1, 2]], ValueError, "x: found rows of different lengths"),
        (np.zeros((2, 4), complex), TypeError, "x: found dtype complex128, expected real numbers"),
        (np.zeros((2, 4), "M8[s]"), TypeError, "x: found dtype datetime64"),
        (np.zeros((2, 4), "U3"), TypeError, r"x: found text \(''\) at row 0, column 0"),
        ([["a", "b", "c", "d"]], TypeError, r"x: found text \('a'\) at row 0, column 0"),
        (np.zeros((2, 4), [("a", F32)]), TypeError, "x: found dtype"),
        (
            np.ma.masked_equal(np.eye(4), 1),
            ValueError,
            "x: found a masked array with 4 masked cells, expected none",
        ),
        ([[0, 0, 0, NAN]], ValueError, r"x: found nan at row 0, column 3 \(counted from 0\)"),
        ([[0, 0, 0, 0], [0, -INF, 0, 0]], ValueError, "x: found -inf at row 1, column 1"),
        (np.full((1, 4), INF, np.float16), ValueError, "x: found inf at row 0, column 0"),
        (np.full((1, 4), INF, F32), ValueError, "x: found inf at row 0, column 0"),
        (np.full((1, 4), 1e39), ValueError, "x: found 1e.39 at row 0.*that float32 can hold"),
    ],
)
def test_x_of_a_wrong_kind_is_refused(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        features(x, NET)


def test_sparse_matrices_stay_sparse() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.array([[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0]])
    for kind in ("csr_matrix", "csc_array", "coo_matrix", "lil_array"):
        found = features(getattr(sparse, kind)(dense), NET)
        assert isinstance(found, Sparse)
        assert (found.dense(slice(None), "float64") == dense).all()
        assert (found[np.array([True, False, True])].dense(slice(None), "f8") == dense[::2]).all()
    own = sparse.csr_matrix(dense.astype("f4"))
    assert np.shares_memory(features(own, NET).data, own.data)
    # Bytes are pixels here too; other whole numbers are what they are.
    pixels = features(sparse.csr_array(dense.astype("u1")), NET).dense(slice(None), "f4")
    assert (pixels == dense.astype("u1") * np.float32(1 / 255)).all()
    counts = features(sparse.csr_array(dense.astype("i8")), NET).dense(slice(None), "f4")
    assert (counts == dense.astype("i8")).all()


def test_sparse_matrices_that_do_not_fit() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match=r"x: found shape \(3, 5\), expected \(rows, 4\)"):
        features(sparse.csr_matrix((3, 5)), NET)
    with pytest.raises(ValueError, match=r"x: found no rows \(shape \(0, 4\)\)"):
        features(sparse.csr_matrix((0, 4)), NET)
    for bad in (np.nan, np.inf):
        for kind in ("csr_matrix", "csc_array", "coo_matrix"):
            rows = getattr(sparse, kind)([[1, 2.0, 0, 3], [0, 0, 0, 0], [4, 0, bad, 5]])
            with pytest.raises(
                ValueError, match=r"^v: found (nan|inf) at row 2, column 2 \(cou.*finite"
            ):
                features(rows, NET, "v")
    with pytest.raises(ValueError, match="x: found 1e.39 at row 1, column 0 .*float32 can hold"):
        features(sparse.csr_matrix([[0, 0, 0, 0], [1e39, 0, 0, 0]]), NET)
    with pytest.raises(TypeError, match="x: found a sparse matrix of complex128"):
        features(sparse.csr_matrix(np.ones((2, 4)) * 1j), NET)
    for kind, part, value in (
        *((kind, "indices", 10**9) for kind in ("csr", "csc", "bsr")),
        *((kind, "indptr", 10**8) for kind in ("csr", "csc", "bsr")),
        *(("coo", part, value) for part in ("row", "col") for value in (10**9, -1)),
    ):
        broken = sparse.coo_matrix(np.eye(500, 4)).asformat(kind)
        getattr(broken, part)[-1] = value
        with pytest.raises(ValueError, match="validation: found a broken sparse matrix"):
            features(broken, NET, "validation")
    with pytest.raises(TypeError, match=r"y: found a sparse matrix.*y.toarray\(\)"):
        targets(sparse.csr_matrix(np.eye(4)), 4, NET, None)


def test_an_error_about_one_column_has_a_hint() -> None:
    with pytest.raises(ValueError, match=r"x\[:, None\]"):
        features(np.zeros(9), build(1))


def test_masked_array_without_masked_cells_is_an_array() -> None:
    assert features(np.ma.MaskedArray(np.eye(4)), NET).tolist() == np.eye(4).tolist()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("place", [(0, 0), (2999, 99), (2621, 50), (1500, 0)])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_nan_is_found_wherever_it_is(
    order: Any, place: tuple[int, int], bad: float, dtype: type
) -> None:
    x: np.ndarray = np.ones((3000, 100), dtype, order=order)
    x[place] = bad
    with pytest.raises(ValueError, match=f"at row {place[0]}, column {place[1]} "):
        features(x, build(100, dtype="float64"))


def test_large_finite_numbers_pass() -> None:
    x = np.full((2, 4), np.finfo(F32).max)
    assert features(x, NET) is x
    huge = np.full((2, 4), 1e300)
    assert features(huge, build(dtype="float64")) is huge


# --- y: labels ------------------------------------------------------------------------------------


def label(y: Any, net: Architecture = NET, task: Task | None = None) -> tuple[list[Any], list[Any]]:
    codes, found = targets(y, len(y), net, task)
    assert codes.dtype == np.int32
    assert codes.flags.c_contiguous
    assert found.kind == "labels"
    assert found.classes is not None
    return codes.tolist(), found.classes.tolist()


@pytest.mark.parametrize(
    ("y", "codes", "classes"),
    [
        (np.array([2, 0, 0]), [2, 0, 0], [0, 1, 2]),
        (np.array([1, 1], np.uint8), [1, 1], [0, 1, 2]),
        ([[2], [1]], [2, 1], [0, 1, 2]),
        ([1, 2, 3], [0, 1, 2], [1, 2, 3]),
        ([-1, 5, 7, 5], [0, 1, 2, 1], [-1, 5, 7]),
        ([2.0, 0.0], [2, 0], [0, 1, 2]),
        ([0.5, 1.5, 2.5], [0, 1, 2], [0.5, 1.5, 2.5]),
        (["cat", "dog", "ape"], [1, 2, 0], ["ape", "cat", "dog"]),
        (np.array(["b", "a", "c"], object), [1, 0, 2], ["a", "b", "c"]),
        (np.array([3, 1, 2], object), [2, 0, 1], [1, 2, 3]),
        (np.eye(3)[[2, 0, 1]], [2, 0, 1], [0, 1, 2]),
        (np.eye(3, dtype=bool)[[1, 1]], [1, 1], [0, 1, 2]),
    ],
)
def test_targets_of_labels(y: Any, codes: list[int], classes: list[Any]) -> None:
    for loss in ("cross_entropy", BCE, "mse"):
        assert label(y, build(loss=loss)) == (codes, classes)


def test_labels_are_a_copy() -> None:
    y = np.array([0, 1, 2], np.int32)
    assert not np.shares_memory(targets(y, 3, NET, None)[0], y)


def test_booleans_for_two_outputs() -> None:
    assert label([True, True], build(n_out=2)) == ([1, 1], [False, True])


def test_later_labels_must_be_known() -> None:
    _, task = targets(["cat", "dog", "ape"], 3, NET, None)
    assert label(["dog", "ape"], task=task) == ([2, 0], ["ape", "cat", "dog"])
    assert label(np.eye(3)[:2], task=task)[0] == [0, 1]
    with pytest.raises(
        ValueError,
        match="y: found the label 'cow' at row 1, expected one of the classes 'ape', 'cat'",
    ):
        targets(["dog", "cow"], 2, NET, task)
    with pytest.raises(ValueError, match="y: found the label 0 at row 0, expected one of"):
        targets([0, 1], 2, NET, task)


@pytest.mark.parametrize("unknown", [3, -1, 99])
def test_later_numbers_must_be_known(unknown: int) -> None:
    _, task = targets([0, 1, 2], 3, NET, None)
    with pytest.raises(
        ValueError, match=f"y: found the label {unknown} at row 2.*classes 0, 1, 2$"
    ):
        targets([0, 1, unknown], 3, NET, task)


def test_given_classes_keep_their_order() -> None:
    task = Task("labels", checks_targets.as_classes(["shirt", "coat", "bag"], NET))
    assert label(["bag", "shirt", "coat", "bag"], task=task)[0] == [2, 0, 1, 2]


def test_errors_list_only_some_of_many_classes() -> None:
    net = build(n_out=100)
    _, task = targets(np.arange(100), 100, net, None)
    with pytest.raises(ValueError, match=r"classes 0, 1, .*, 9, …, 99$"):
        targets(np.full(2, 100), 2, net, task)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0, 1], ValueError, "y: found 2 rows, expected 3, as many as x has"),
        (np.zeros((3, 3, 1)), ValueError, r"y: found shape \(3, 3, 1\), expected \(rows,\) or"),
        (1, ValueError, r"y: found shape \(\)"),
        (np.full((3, 3), INF, F32), ValueError, "y: found inf at row 0, column 0"),
        ([4, 5, 5], ValueError, r"y: found 2 different labels \(4, 5\), expected 3.*from 0 to 2"),
        (["a", "b", "a"], ValueError, "y: found 2 different labels .*expected 3, one for each"),
        ([True, False, True], ValueError, "y: found 2 different labels"),
        ([0, NAN, 1], ValueError, "y: found nan at row 1"),
        (
            np.array(["a", None, "b"], object),
            ValueError,
            "y: found None at row 1, expected a label",
        ),
        (np.array(["a", NAN, "b"], object), ValueError, "y: found nan at row 1, expected a label"),
        ([1, "a", 2], TypeError, "y: found Python objects of type int, str, expected labels"),
        (np.array([[], [], 3], object), TypeError, "y: found Python objects of type int, list"),
        (np.zeros(3, "M8[s]"), TypeError, "y: found dtype datetime64"),
        (np.zeros(3, "S1"), TypeError, "y: found dtype .S1"),
        (np.zeros(3, complex), TypeError, "y: found dtype complex128"),
        (None, TypeError, "y: found None"),
        (np.zeros((3, 2)), ValueError, r"y: found 2 columns \(shape \(3, 2\)\), expected 3"),
        (np.full((3, 3), 0.5), ValueError, "y: found targets that sum to 1.5 in row 0"),
        (np.array([[2.0, -1, 0]] * 3), ValueError, "y: found a target of -1"),
        (np.full((3, 3), NAN), ValueError, "y: found nan at row 0, column 0"),
        (np.full((3, 3), "a"), TypeError, r"y: found text \('a'\) at row 0, column 0"),
    ],
)
def test_y_of_a_wrong_kind_is_refused(y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        targets(y, 3, NET, None)


def test_names_in_errors() -> None:
    with pytest.raises(ValueError, match=r"validation\[1\]: found 2 rows.* as validation\[0\] has"):
        targets([0, 1], 3, NET, None, "validation[1]", "validation[0]")


# --- y: one output --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "expected", "classes"),
    [
        ([0, 1, 1], [0, 1, 1], [0, 1]),
        ([[0], [1]], [0, 1], [0, 1]),
        ([-1, 1, 1], [0, 1, 1], [-1, 1]),
        (["no", "yes"], [0, 1], ["no", "yes"]),
        ([False, True], [0, 1], [False, True]),
        ([0.0, 1.0], [0, 1], [0, 1]),
        ([0.25, 1.0, 0.5], [0.25, 1, 0.5], [0, 1]),
    ],
)
def test_yes_or_no(y: Any, expected: list[float], classes: list[Any]) -> None:
    found, task = targets(y, len(y), build(n_out=1, loss=BCE), None)
    assert found.dtype == F32
    assert found.shape == (len(y), 1)
    assert found.ravel().tolist() == expected
    assert task.classes is not None
    assert task.classes.tolist() == classes


def test_more_than_yes_or_no() -> None:
    with pytest.raises(ValueError, match="y: found 3 different labels .*expected 2 for one output"):
        targets([5, 6, 7], 3, build(n_out=1, loss=BCE), None)


# --- y: targets and values ------------------------------------------------------------------------


def test_soft_targets_are_passed_on() -> None:
    y = np.array([[0.2, 0.3, 0.5], [1, 0, 0]], F32)
    found, task = targets(y, 2, NET, None)
    assert found is y
    assert task.kind == "labels"
    found, _ = targets(y.astype(F64), 2, NET, None)
    assert found.dtype == F32


def test_multilabel() -> None:
    net = build(loss=BCE)
    found, task = targets([[1, 1, 0], [0, 0, 0]], 2, net, None)
    assert task.kind == "multilabel"
    assert task.classes is None
    assert found.dtype == F32
    # A later batch that happens to be one-hot is multilabel all the same.
    found, task = targets([[0, 1, 0]], 1, net, task)
    assert found.tolist() == [[0, 1, 0]]
    assert task.kind == "multilabel"
    with pytest.raises(
        ValueError, match=r"y: found values from 0 to 2, expected targets in \[0, 1\]"
    ):
        targets([[2, 1, 0]], 1, net, None)


def test_targets_of_values() -> None:
    net = build(loss="mse", dtype="float64")
    y = np.array([[0.5, -1, 3], [2, 2, 2]])
    found, task = targets(y, 2, net, None)
    assert found is y
    assert (task.kind, task.flat) == ("values", False)
    assert targets(np.eye(3), 3, net, task)[0].shape == (3, 3)
    found, _ = targets(np.asfortranarray(y), 2, net, None)
    assert found.flags.c_contiguous
    with pytest.raises(ValueError, match=r"y: found 4 different.*values .* have shape \(rows, 3\)"):
        targets([0.1, 0.2, 0.3, 0.4], 4, net, None)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_values_of_one_output(shape: tuple[int, ...]) -> None:
    net = build(n_out=1, loss="mse")
    for dtype in (F64, np.int64, bool):
        found, task = targets(np.array([0, 1, 1, 0], dtype).reshape(shape), 4, net, None)
        assert found.shape == (4, 1)
        assert found.dtype == F32
        assert found.ravel().tolist() == [0, 1, 1, 0]
        assert (task.kind, task.flat) == ("values", shape == (4,))
    for bad, error in (
        (["a"] * 4, TypeError),
        ([0, 1, NAN, 0], ValueError),
        ([0, 1e39, 0, 0], ValueError),
    ):
        with pytest.raises(error, match="y: found"):
            targets(bad, 4, net, None)


def test_wrong_classes_are_refused() -> None:
    for bad in (["a", "b"], ["a", "b", "b"]):
        with pytest.raises(ValueError, match="classes: found .*expected 3 different labels"):
            checks_targets.as_classes(bad, NET)
