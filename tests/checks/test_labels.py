"""Labels keep their dtype and their differences, in training and in model files."""

import decimal
import fractions
import pickle

import numpy as np
import pytest

import pynn

X = np.random.default_rng(0).random((6, 3))
STRINGS = np.dtypes.StringDType()


def _trained(labels):
    net = pynn.Network([3, 2], backend="numpy")
    net.fit(X, labels, epochs=1)
    return net


NUMBERS = [
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *(">i2", ">u8"),
]
FRACTIONS = ["float16", "float32", "float64", ">f4", "longdouble"]


@pytest.mark.parametrize("dtype", NUMBERS + FRACTIONS)
@pytest.mark.parametrize("column", [False, True])
def test_classes_keep_their_dtype_in_files_and_pickles(dtype, column, tmp_path):
    labels = np.array([3, 5] * 3 if dtype in NUMBERS else [0.25, 1.5] * 3, dtype)
    net = _trained(labels[:, None] if column else labels)
    expected = np.float64 if dtype == "longdouble" else np.dtype(dtype).newbyteorder("=")
    net.save(tmp_path / "model")
    for other in (net, pynn.load(tmp_path / "model"), pickle.loads(pickle.dumps(net))):
        assert other.classes.dtype == expected
        assert other.classes.tolist() == np.unique(labels).tolist()
        assert other.predict(X).dtype == expected
        assert 0 <= other.evaluate(X, labels)["accuracy"] <= 1


@pytest.mark.parametrize(
    "labels",
    [[True, False] * 3, ["a", "bb"] * 3, ["", "\udc80"] * 3, ["a\0b", "a\0c"] * 3, [-1, 1] * 3],
)
def test_other_classes_in_files(labels, tmp_path):
    net = _trained(labels)
    net.save(tmp_path / "model")
    found = pynn.load(tmp_path / "model").classes
    assert (found.dtype, found.tolist()) == (net.classes.dtype, sorted(set(labels)))


@pytest.mark.parametrize(
    "labels",
    [
        [1, 2**63] * 3,
        [2**63, 2**63 + 1] * 3,
        np.array([2**63, 2**63 + 1] * 3, np.uint64),
        np.array([1, 2**63 + 1] * 3, object),
        [2**53, 2**53 + 1] * 3,
        (5, 2**64 - 1) * 3,
    ],
)
def test_whole_numbers_of_64_bits_are_not_rounded(labels, tmp_path):
    net = _trained(labels)
    net.save(tmp_path / "model")
    for other in (net, pynn.load(tmp_path / "model")):
        assert other.classes.tolist() == sorted({int(v) for v in labels})
        assert set(other.predict(X).tolist()) <= {int(v) for v in labels}
    assigned = pynn.Network([3, 2], backend="numpy")
    assigned.classes = list(labels)[:2]
    assert assigned.classes.tolist() == [int(v) for v in labels[:2]]


@pytest.mark.parametrize("labels", [[1, 2**64] * 3, [-1, 2**63] * 3, [-(2**70), 0] * 3])
def test_whole_numbers_beyond_64_bits_are_refused(labels):
    with pytest.raises(ValueError, match="y: found whole numbers from .* int64 or uint64"):
        _trained(labels)


def test_decimals_and_fractions_are_numbers():
    net = _trained([decimal.Decimal(3), fractions.Fraction(5)] * 3)
    assert net.classes.tolist() == [3, 5]
    assert net.classes.dtype == np.int64
    assert _trained([decimal.Decimal("0.5"), 2] * 3).classes.tolist() == [0.5, 2]


def test_longdoubles_that_float64_would_merge_are_refused():
    third = np.longdouble(1) / 3
    close = np.array([third, np.nextafter(third, 1)] * 3)
    if np.float64(close[0]) != np.float64(close[1]):
        pytest.skip("longdouble is float64 here")
    with pytest.raises(ValueError, match="equal as float64"):
        _trained(close)


def test_strings_of_stringdtype(tmp_path):
    net = _trained(np.array(["north", "s"] * 3, dtype=STRINGS))
    assert net.classes.tolist() == ["north", "s"]
    net.save(tmp_path / "model")
    assert pynn.load(tmp_path / "model").classes.tolist() == ["north", "s"]
    assert net.evaluate(X, np.array(["s"] * 6, dtype=STRINGS))["loss"] > 0


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_values_of_stringdtype(missing):
    dtype = np.dtypes.StringDType(na_object=missing)
    with pytest.raises(ValueError, match="y: found (None|nan) at row 1, expected a label"):
        _trained(np.array(["a", missing] * 3, dtype=dtype))


@pytest.mark.parametrize(
    "convert", [list, tuple, lambda y: np.array(y, object), lambda y: np.array(y, dtype=STRINGS)]
)
def test_strings_that_numpy_would_merge_are_refused(convert):
    with pytest.raises(ValueError, match=r"y: found the label 'a\\x00' at row 1, .*null character"):
        _trained(convert(["a", "a\0"] * 3))
    net = pynn.Network([3, 2], backend="numpy")
    with pytest.raises(ValueError, match=r"classes: found the label 'a\\x00'"):
        net.classes = convert(["a", "a\0"])


@pytest.mark.parametrize("task", [{"dtype": "int8", "classes": [3, 300]}, {"dtype": "U1"}])
def test_files_with_other_dtypes_are_refused(task, tmp_path):
    from pynn.files.tensors import load_tensors, save_tensors

    _trained(np.array([3, 5] * 3, np.int8)).save(tmp_path / "model")
    arrays, document = load_tensors(tmp_path / "model")
    assert document["task"]["dtype"] == "int8"
    document["task"] |= task
    save_tensors(tmp_path / "model", arrays, document)
    with pytest.raises(ValueError, match="not a model that pynn can use"):
        pynn.load(tmp_path / "model")


def test_files_without_the_dtype_still_load(tmp_path):
    from pynn.files.tensors import load_tensors, save_tensors

    _trained(np.array([3, 5] * 3, np.int8)).save(tmp_path / "model")
    arrays, document = load_tensors(tmp_path / "model")
    del document["task"]["dtype"]
    save_tensors(tmp_path / "model", arrays, document)
    assert pynn.load(tmp_path / "model").classes.tolist() == [3, 5]
