"""Every interface converts containers of numbers alike; errors name the first wrong cell."""

import collections
import contextlib
import decimal
import fractions
from types import SimpleNamespace

import numpy as np
import pytest

import pynn
from pynn.checks.convert import as_numbers

N = 6
NUMBERS = np.arange(18.0).reshape(N, 3) / 4
LABELS = np.arange(N) % 2


def _pandas(change):
    pandas = pytest.importorskip("pandas")
    return change(pandas, pandas.DataFrame(NUMBERS, columns=["age", "height", "weight"]))


def _polars(change):
    polars = pytest.importorskip("polars")
    return change(polars, polars.DataFrame(NUMBERS, schema=["age", "height", "weight"]))


def _objects(rows):
    return np.array(rows, dtype=object)


FRAMES = {
    "integers and floats": lambda p, df: df.assign(age=np.arange(N)),
    "booleans and integers": lambda p, df: df.round().astype(int).assign(age=[True, False] * 3),
    "booleans and floats": lambda p, df: df.astype("float32").assign(age=[True, False] * 3),
    "objects": lambda p, df: df.astype(object),
    "a column of objects": lambda p, df: df.assign(age=df.age.astype(object)),
    "nullable": lambda p, df: df.assign(age=p.array([1] * N, dtype="Int64")),
    "nullable and objects": lambda p, df: df.assign(
        age=p.array([1] * N, dtype="Int64"), weight=df.weight.astype(object)
    ),
    "nullable booleans": lambda p, df: df.assign(age=p.array([True] * N, dtype="boolean")),
    "categories of numbers": lambda p, df: df.assign(age=p.Categorical([1, 2] * 3)),
    "categories and objects": lambda p, df: df.assign(
        age=p.Categorical([1, 2] * 3), weight=df.weight.astype(object)
    ),
    "decimals": lambda p, df: df.assign(age=[decimal.Decimal("1.5")] * N),
    "equal labels": lambda p, df: df.astype(object).set_axis(["a", "a", "b"], axis=1),
    "two levels": lambda p, df: df.astype(object).set_axis(
        p.MultiIndex.from_product([["a"], ["x", "y", "z"]]), axis=1
    ),
    "another index": lambda p, df: df.assign(age=True).sort_index(ascending=False),
    "sparse columns": lambda p, df: df.assign(age=p.arrays.SparseArray([0, 1] * 3)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_of_pandas(name):
    frame = _pandas(FRAMES[name])
    expected = np.column_stack([frame.iloc[:, i].astype("float64") for i in range(3)])
    found = as_numbers(frame, "x")
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)
    plain, net = pynn.Network([3, 2], backend="numpy"), pynn.Network([3, 2], backend="numpy")
    net.fit(frame, LABELS, epochs=1, validation=(frame, LABELS))
    plain.fit(expected, LABELS, epochs=1, validation=(expected, LABELS))
    np.testing.assert_array_equal(net.parameters, plain.parameters)
    np.testing.assert_array_equal(net.predict_proba(frame), plain.predict_proba(expected))
    assert net.evaluate(frame, LABELS) == plain.evaluate(expected, LABELS)


def test_get_dummies_of_floats_and_text():
    def change(pandas, frame):
        return pandas.get_dummies(frame[["age"]].assign(region=["north", "south"] * 3))

    frame = _pandas(change)
    assert {str(d) for d in frame.dtypes} == {"float64", "bool"}
    pynn.Network([3, 2], backend="numpy").fit(frame, LABELS, epochs=1)


@pytest.mark.parametrize("lazy", [False, True])
def test_frames_of_polars(lazy):
    def change(polars, frame):
        mixed = frame.with_columns(age=polars.Series([True, False] * 3))
        return mixed.lazy() if lazy else mixed

    net = pynn.Network([3, 2], backend="numpy")
    net.fit(_polars(change), LABELS, epochs=1)
    expected = np.column_stack([[1.0, 0] * 3, NUMBERS[:, 1:]])
    np.testing.assert_array_equal(net.predict(_polars(change)), net.predict(expected))


def test_lazy_frames_as_targets():
    y = _polars(lambda polars, frame: frame.lazy())
    net = pynn.Network([3, 3], loss="mse", backend="numpy")
    assert len(net.fit(NUMBERS, y, epochs=1)) == 1


@pytest.mark.parametrize(
    "rows",
    [
        _objects(NUMBERS),
        NUMBERS.astype(object).tolist(),
        list(_objects(NUMBERS)),
        [[decimal.Decimal(v) for v in row] for row in NUMBERS.tolist()],
        [[fractions.Fraction(v) for v in row] for row in NUMBERS.tolist()],
        [[np.array(v) for v in row] for row in NUMBERS.tolist()],
        collections.UserList(NUMBERS.tolist()),
        collections.deque(NUMBERS.tolist()),
        memoryview(NUMBERS),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_objects_that_are_numbers(rows):
    found = as_numbers(rows, "x")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, NUMBERS)


def test_targets_of_objects_and_mixed_columns():
    y = NUMBERS.copy()
    for given in (_objects(y), _pandas(lambda pandas, frame: frame.astype(object))):
        plain, net = (pynn.Network([3, 3], loss="mse", backend="numpy") for _ in range(2))
        plain.fit(NUMBERS, y, epochs=1)
        net.fit(NUMBERS, given, epochs=1)
        np.testing.assert_array_equal(net.parameters, plain.parameters)
    one = pynn.Network([3, 1], loss="mse", backend="numpy")
    one.fit(NUMBERS, [decimal.Decimal(v) for v in y[:, 0].tolist()], epochs=1)


# --- Errors ---------------------------------------------------------------------------------------


def _with(value):
    rows = NUMBERS.astype(object)
    rows[1, 2] = value
    return rows


class Missing:
    """A missing value of another library, as the one of pandas."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise TypeError("ambiguous")

    def __repr__(self):
        return "<NA>"

    __hash__ = object.__hash__


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("north", TypeError, r"text \('north'\).* encode it, .* pandas.get_dummies"),
        ("1.5", TypeError, r"text \('1.5'\).* convert it, .* astype\('float64'\)"),
        (None, ValueError, r"None.*fill missing values"),
        ([1, 2], TypeError, "a list.*numpy.stack"),
        (np.zeros(2), TypeError, "an ndarray.*numpy.stack"),
        (1j, TypeError, "a complex"),
        (np.datetime64("2020-01-01"), TypeError, "datetime64|a date"),
        (10**400, ValueError, "a number of 401 digits at.*float64 can hold"),
        (decimal.Decimal("sNaN"), ValueError, "Decimal.*fill missing values"),
        (Missing(), ValueError, "<NA>.*fill missing values"),
        (b"1", TypeError, "a bytes"),
    ],
)
def test_the_first_wrong_cell_is_named(value, error, message):
    net = pynn.Network([3, 2], backend="numpy")
    with pytest.raises(error, match=rf"^x: found {message}"):
        net.fit(_with(value), LABELS)
    with pytest.raises(error, match=r"row 1, column 2 \(counted from 0\)"):
        net.predict(_with(value))
    with pytest.raises(error, match=r"^validation\[0\]: found"):
        net.fit(NUMBERS, LABELS, validation=(_with(value), LABELS))

    def frame(pandas, df):
        return df.assign(age=1, weight=pandas.Series(_with(value)[:, 2], dtype=object))

    with pytest.raises(error, match="column 'weight'"):
        net.fit(_pandas(frame), LABELS)


@pytest.mark.parametrize("digits", [400, 5000])  # Python prints at most 4,300
def test_a_number_that_is_too_large_has_an_error_of_its_own(digits):
    net = pynn.Network([1, 2], backend="numpy")
    message = f"a number of {digits:,} digits, expected numbers that float64 can hold"
    with pytest.raises(ValueError, match=f"^x: found {message}$"):
        net.predict(10**digits - 1)
    message = f"whole numbers from 0 to a number of {digits + 1:,} digits, expected labels"
    with pytest.raises(ValueError, match=f"^y: found {message}"):
        net.fit([[1], [2]], [0, 10**digits])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p, df: df.assign(region="north"),
            r"column 'region' contains text \('north'\); encode it, for example with "
            "pandas.get_dummies$",
        ),
        (
            lambda p, df: df.assign(when=p.date_range("2020", periods=N)),
            "column 'when' contains dates",
        ),
        (
            lambda p, df: df.assign(took=p.to_timedelta(np.arange(N))),
            "column 'took' contains durations",
        ),
        (lambda p, df: df.assign(z=1j), "column 'z' contains complex numbers"),
        (lambda p, df: df.assign(c=p.Categorical(["a"] * N)), r"column 'c' contains text \('a'\)"),
        (lambda p, df: df.assign(u=list(NUMBERS)), "column 'u' contains an ndarray.*numpy.stack"),
        (lambda p, df: df.assign(u=p.period_range("2020", periods=N, freq="D")), "column 'u'"),
        (lambda p, df: df.assign(u=[{}] * N), "column 'u' contains a dict"),
    ],
)
def test_the_first_wrong_column_is_named(change, message):
    def frame(pandas, df):
        return change(pandas, df[["age", "height"]])

    with pytest.raises(TypeError, match=f"^x: {message}"):
        pynn.Network([3, 2], backend="numpy").fit(_pandas(frame), LABELS)


@pytest.mark.parametrize("kind", ["Struct", "Array"])
def test_columns_of_arrays_are_named(kind):
    def frame(polars, df):
        rows = df.select(c=polars.struct("age", "height"))["c"]
        if kind == "Array":
            rows = polars.Series(NUMBERS[:, :2].tolist(), dtype=polars.Array(polars.Float64, 2))
        return df.with_columns(weight=rows)

    with pytest.raises(TypeError, match="x: column 'weight' contains"):
        pynn.Network([3, 2], backend="numpy").fit(_polars(frame), LABELS)


def test_missing_values_of_frames_are_named():
    net = pynn.Network([3, 2], backend="numpy")
    missing = _pandas(lambda p, df: df.assign(age=p.array([1, None] * 3, dtype="Int64")))
    with pytest.raises(ValueError, match="x: found nan at row 1, column 0"):
        net.fit(missing, LABELS)
    with pytest.raises(ValueError, match="x: found None at row 1 of column 'age'"):
        net.fit(_polars(lambda p, df: df.with_columns(age=p.Series([True, None] * 3))), LABELS)


class TensorDataset:
    """As in PyTorch."""

    def __init__(self, *tensors):
        self.tensors = tensors

    def __len__(self):
        return N

    def __getitem__(self, i):
        return tuple(tensor[i] for tensor in self.tensors)


class Renamed(TensorDataset):
    pass


class Images(TensorDataset):
    """A data set without an attribute that holds all rows."""

    def __init__(self, *tensors):
        self.pairs = tensors

    def __getitem__(self, i):
        return tuple(tensor[i] for tensor in self.pairs)


class DataLoader:
    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        return iter(self.dataset)


class Stream:
    def __iter__(self):
        return iter(NUMBERS)


class Grouped:
    """A sequence only in part, as the groups of a data frame."""

    def __len__(self):
        return N

    def __getitem__(self, name):
        raise KeyError(name)


DATASET = TensorDataset(NUMBERS, LABELS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((row for row in NUMBERS), r"a generator.*numpy.stack\(list\(x\)\)"),
        (map(list, NUMBERS), "a map.*numpy.stack"),
        (zip(NUMBERS, LABELS, strict=True), "a zip.*numpy.stack"),
        (iter(NUMBERS), "an iterator.*numpy.stack"),
        (DATASET, "a TensorDataset.*x, y = dataset.tensors"),
        (Renamed(NUMBERS, LABELS), "a Renamed.*x, y = dataset.tensors"),
        (Images(NUMBERS, LABELS), "an Images.*its inputs and its targets in two arrays"),
        (DataLoader(DATASET), "a DataLoader.*behind its dataset"),
        (SimpleNamespace(as_numpy_iterator=None), "a SimpleNamespace.*arrays that it was made of"),
        (SimpleNamespace(to_pandas=None), r"a SimpleNamespace.*use x.to_pandas\(\)"),
        (Stream(), r"a Stream.*numpy.stack\(list\(x\)\)"),
        (dict(enumerate(NUMBERS)).values(), r"a dict_values.*list\(x\)"),
        (collections.OrderedDict(a=NUMBERS), "an OrderedDict"),
        (list(DATASET), r"a list of pairs.*x, y = zip\(\*x\)"),
        ("train.csv", "a str.*pynn.data.load"),
        (b"train.csv", "a bytes"),
        ({1, 2}, "a set"),
        (Grouped(), "a Grouped.*no conversion"),
        (len, "a builtin_function_or_method"),
        (np.ndarray, "the class ndarray"),
        (
            np.zeros(N, [("a", float), ("b", int)]),
            "dtype .* with fields.*structured_to_unstructured",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_get_their_remedy(value, message):
    net = pynn.Network([3, 2], backend="numpy")
    with pytest.raises(TypeError, match=f"^x: found {message}"):
        net.fit(value, LABELS)
    # Without y, objects that can be iterated again are batches.
    batches = f"^x: found ({message}|a tuple of 2 as batch 0)|^batch 0: [xy]: found"
    with pytest.raises((TypeError, ValueError), match=batches):
        net.fit(value)
    with pytest.raises((TypeError, ValueError), match="^x: found|^batch 0: "):
        net.evaluate(value)


class Arrow:
    """Refuses to copy in ``to_numpy``, as the arrays of pyarrow."""

    def __init__(self, rows):
        self.rows = rows

    def to_numpy(self):
        raise ValueError("zero_copy_only was True")

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.rows)


class Failing(Arrow):
    """A tensor that requires gradients, or of another device."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("use tensor.detach()")


class Capsule:
    """Only has the protocol of DLPack."""

    def __init__(self, rows):
        self.__dlpack__, self.__dlpack_device__ = rows.__dlpack__, rows.__dlpack_device__


def test_arrays_of_other_libraries():
    net = pynn.Network([3, 2], backend="numpy")
    net.fit(Arrow(NUMBERS), Arrow(LABELS), epochs=1)
    expected = net.predict_proba(NUMBERS)
    assert np.array_equal(net.predict_proba(Capsule(NUMBERS)), expected)
    # As h5py names the byte order of this machine.
    for dtype in "f4", "f8":
        named = NUMBERS.astype(dtype).view(np.dtype(dtype).newbyteorder("<"))
        for backend in "cython", "numpy":
            with contextlib.suppress(ImportError):
                other = pynn.Network([3, 2], backend=backend)
                assert other.predict(named).shape == (N,)
    message = r"^x: found a Failing whose .* fails \(use tensor.detach\(\)\)"
    with pytest.raises(TypeError, match=message):
        net.predict(Failing(NUMBERS))


def test_dtypes_of_other_libraries():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    net = pynn.Network([3, 2], backend="numpy")
    expected = net.predict_proba(NUMBERS)
    assert np.array_equal(net.predict_proba(NUMBERS.astype(bfloat16)), expected)
    net.fit(NUMBERS, LABELS.astype(bfloat16), epochs=1)


def test_sparse_matrices_of_another_library():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_array(NUMBERS)
    other = SimpleNamespace(nnz=matrix.nnz, todense=matrix.todense, tocsr=lambda: matrix)
    net = pynn.Network([3, 2], backend="numpy")
    assert np.array_equal(net.predict_proba(other), net.predict_proba(matrix))
    with pytest.raises(TypeError, match=r"^y: found a sparse matrix.*use y.todense\(\)"):
        net.fit(NUMBERS, other)


@pytest.mark.parametrize("value", [(label for label in LABELS), DATASET, DataLoader(DATASET)])
def test_other_objects_as_targets(value):
    with pytest.raises(TypeError, match="^y: found a .*; (use|pass)"):
        pynn.Network([3, 2], backend="numpy").fit(NUMBERS, value)


# --- Regression with the default loss, and names that are no misspellings -------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("y", [NUMBERS[:, 0] + 0.1, NUMBERS[:, :2] + 0.1, NUMBERS[:, :1] + 0.1])
def test_float_targets_suggest_mse(loss, y):
    net = pynn.Network([3, 2], loss=loss, backend="numpy")
    with pytest.raises(ValueError, match='for regression use .*loss="mse"'):
        net.fit(NUMBERS, y)


def test_targets_are_required():
    net = pynn.Network([3, 2], backend="numpy")
    for call in (net.fit, net.evaluate):
        with pytest.raises(TypeError, match="y: found None"):
            call(NUMBERS)


def test_parameters_may_be_objects_and_frames():
    net, other = (pynn.Network([3, 2], backend="numpy", seed=seed) for seed in (0, 1))
    pandas = pytest.importorskip("pandas")
    net.weights = [pandas.DataFrame(w.astype(object)) for w in other.weights]
    net.biases = [b.astype(object).tolist() for b in other.biases]
    np.testing.assert_array_equal(net.parameters, other.parameters)
    with pytest.raises(TypeError, match=r"biases\[0\]: found text \('a'\) at row 1"):
        net.biases = [[1, "a"]]


def test_one_output_suggests_mse():
    with pytest.raises(ValueError, match="loss='mse'"):
        pynn.Network([3, 1])
    net = pynn.Network([3, 1], loss="binary_cross_entropy", backend="numpy")
    for y in (NUMBERS[:, 0] + 0.1, np.arange(N)):
        with pytest.raises(ValueError, match='for regression use .*loss="mse"'):
            net.fit(NUMBERS, y)
    net.fit(NUMBERS, LABELS, epochs=1)
    with pytest.raises(ValueError, match='expected one of the classes 0, 1; .*loss="mse"'):
        net.evaluate(NUMBERS, NUMBERS[:, 0] + 0.1)


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        *(("loss", name) for name in ("msle", "MSLE", "rmse", "mape", "l1", "kl_div")),
        *(("activation", name) for name in ("celu", "prelu", "rrelu", "tanhshrink")),
        *(("output", name) for name in ("log_softmax", "log-sigmoid", "softmin")),
    ],
)
def test_another_function_is_no_misspelling(argument, name):
    with pytest.raises(ValueError, match=f"{argument}: found '{name}'") as error:
        pynn.Network([3, 4, 2], **{argument: name})
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("name", ["radam", "adamax", "adadelta", "lamb"])
def test_another_optimizer_is_no_misspelling(name):
    with pytest.raises(ValueError, match=f"optimizer: found '{name}'") as error:
        pynn.Network([3, 2], backend="numpy").fit(NUMBERS, LABELS, optimizer=name)
    assert "did you mean" not in str(error.value)


def test_misspellings_still_get_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'mse'"):
        pynn.Network([3, 2], loss="MSE")
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        pynn.Network([3, 4, 2], activation="rellu")
