"""``load``, which chooses the reader by the name of the file or folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from pynn.data import Dataset, load
from tests.data.files import csv, failure, idx, npz, write

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
