from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from pynn import datasets
from pynn.datasets import bundled, verified

LABELS = "t10k-labels-idx1-ubyte"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the installed files that tests may damage."""
    folder = tmp_path / "package"
    shutil.copytree(bundled.MNIST_FOLDER, folder)
    monkeypatch.setattr(bundled, "MNIST_FOLDER", folder)
    return folder


def load(name: str) -> np.ndarray:
    return verified.load_verified(bundled.MNIST_FOLDER / f"{name}.gz", bundled.MNIST[name], "mnist")


def test_mnist_has_its_published_counts_and_mean(cache):
    """Class counts and mean as published for the data set."""
    (x_train, y_train), (x_test, y_test) = datasets.mnist()
    assert (x_train.shape, x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert (y_train.shape, y_test.shape) == ((60_000,), (10_000,))
    assert x_train.dtype == x_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int64
    assert np.bincount(y_train).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]
    assert np.bincount(y_test).tolist() == [
        *(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    ]
    assert round(float(x_train.mean()) / 255, 4) == 0.1307
    assert round(float(x_train.std()) / 255, 4) == 0.3081


def test_later_calls_give_fresh_arrays_with_the_same_content(cache):
    first = datasets.mnist()
    kept = [[array.copy() for array in pair] for pair in first]
    for pair in first:
        for array in pair:
            array[:] = 0
    for pair, copies in zip(datasets.mnist(), kept, strict=True):
        for array, copy in zip(pair, copies, strict=True):
            np.testing.assert_array_equal(array, copy)


def test_each_file_is_unpacked_once(cache, package, monkeypatch):
    """Later calls read only the cache, each file once."""
    opened = []
    load_idx = verified.load_idx
    monkeypatch.setattr(verified, "load_idx", lambda path: opened.append(path) or load_idx(path))
    datasets.mnist()
    packed = [path for path in opened if path.suffix == ".gz"]
    assert sorted(packed) == sorted(package.glob("*.gz"))
    opened.clear()
    datasets.mnist()
    assert sorted(opened) == sorted((cache / "mnist").iterdir())


def test_the_cache_holds_the_unpacked_files(cache, package):
    datasets.mnist()
    for name, sha256 in bundled.MNIST.items():
        content = (cache / "mnist" / name).read_bytes()
        assert content == gzip.decompress((package / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == sha256
    assert len(list((cache / "mnist").iterdir())) == 4
    # Files in the cache are verified, so the installed files are not needed.
    shutil.rmtree(package)
    assert datasets.mnist()[1][1].sum() == 44_434


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        Path.unlink,
    ],
)
def test_a_damaged_cache_is_replaced(cache, damage):
    good = load(LABELS)
    whole = (cache / "mnist" / LABELS).read_bytes()
    damage(cache / "mnist" / LABELS)
    np.testing.assert_array_equal(load(LABELS), good)
    assert (cache / "mnist" / LABELS).read_bytes() == whole


def test_without_a_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYNN_CACHE", "")
    assert load(LABELS).shape == (10_000,)
    assert list(tmp_path.iterdir()) == []


def test_mnist_loads_without_a_writable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("PYNN_CACHE", str(tmp_path / "file"))
    assert load(LABELS).shape == (10_000,)
    monkeypatch.setenv("PYNN_CACHE", str(tmp_path))
    (tmp_path / "mnist" / LABELS).mkdir(parents=True)
    assert load(LABELS).shape == (10_000,)


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, ".cache/pynn"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/pynn"),
        ("darwin", {}, "Library/Caches/pynn"),
        ("win32", {}, "AppData/Local/pynn"),
        ("win32", {"LOCALAPPDATA": "/y"}, "/y/pynn"),
        ("linux", {"PYNN_CACHE": "/z"}, "/z"),
    ],
)
def test_the_cache_folder_of_each_platform(tmp_path, monkeypatch, platform, variables, folder):
    for name in "PYNN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA":
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", platform)
    assert verified.cache_folder() == tmp_path / folder


def test_without_a_home_folder_there_is_no_cache(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PYNN_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    assert verified.cache_folder() is None


def test_a_damaged_package_is_named(cache, package):
    path = package / f"{LABELS}.gz"
    whole = path.read_bytes()

    content = bytearray(gzip.decompress(whole))
    content[5000] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"idx1-ubyte\.gz: found content with SHA-256") as caught:
        load(LABELS)
    assert f"expected {bundled.MNIST[LABELS]}; the installation of pynn is damaged" in str(
        caught.value
    )

    path.write_bytes(whole[:-100])
    with pytest.raises(
        ValueError, match=r"cut off or damaged.*; the installation of pynn is damaged"
    ):
        load(LABELS)

    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no such file.*the installation of pynn is damaged"
    ):
        load(LABELS)
    assert not (cache / "mnist" / LABELS).exists()


def test_mnist_itself_reports_a_damaged_package(cache, package):
    path = package / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: found gzip data"):
        datasets.mnist()


def test_the_licence_notice_is_installed():
    notice = (bundled.MNIST_FOLDER / "NOTICE").read_text(encoding="utf-8")
    for word in "LeCun", "Cortes", "Burges", "CC BY-SA 3.0":
        assert word in notice


def test_small_data_sets_come_from_scikit_learn(monkeypatch):
    pytest.importorskip("sklearn")
    for name, shapes, first in (
        ("iris", ((120, 4), (30, 4)), "setosa"),
        ("digits", ((1442, 8, 8), (355, 8, 8)), 0),
        ("diabetes", ((354, 10), (88, 10)), 151.0),
        ("breast_cancer", ((456, 30), (113, 30)), "malignant"),
    ):
        train, test = getattr(datasets, name)()
        assert (train[0].shape, test[0].shape) == shapes
        assert [len(x) == len(y) for x, y in (train, test)] == [True, True]
        assert train[1][0] == first
        assert set(test[1].tolist()) <= set(train[1].tolist()) or name == "diabetes"
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pynn.datasets.iris needs scikit-learn"):
        datasets.iris()
