"""Load a data set of any supported format; the command line uses it for ``--data``."""

from __future__ import annotations

import os

from ..files.disk import as_path, require_file
from .csv import load_columns
from .dataset import Dataset
from .idx import load_folder, load_images_and_labels
from .npz import load_npz


def load(
    path: str | os.PathLike[str],
    *,
    label: str = "first",
    pixels: bool | None = None,
    index: bool | None = None,
) -> Dataset:
    """Load examples and labels from a file or folder of any supported format.

    Parameters
    ----------
    path : str or path-like
        One of

        - a folder with the MNIST files (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``
          and, for a test set, the two ``t10k-`` ones; also spelt ``.idx``), plain or ``.gz``;
        - an IDX file of images, plain or gzip, with "images" in its name, next to a file of labels
          with "labels" in its place;
        - a ``.csv`` file for `load_csv`, with labels in the column `label`;
        - an ``.npz`` file for `load_npz`.
    label : str, default "first"
        The column of a ``.csv`` file with the labels, as in `load_csv`.
    pixels : bool, optional
        Whether a ``.csv`` file has pixels, as in `load_csv`.
    index : bool, optional
        Whether the first column of a ``.csv`` file holds row numbers, as in `load_csv`.

    Returns
    -------
    Dataset
        ``train`` and, if there is a test set, ``test``. Labels from IDX files are int64.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, images and labels do not match, the format is unknown, or `label`
        or `index` is for a column of a file that is no ``.csv`` file.
    """
    expected = "a folder of IDX files, an IDX file, a .csv or an .npz file"
    path = as_path(path)
    start = b""
    if not path.is_dir():
        require_file(path, expected)
        with open(path, "rb") as file:
            start = file.read(4)
    columns = path.suffix.lower() == ".csv" and not start.startswith((b"PK", b"\x1f\x8b", b"\0\0"))
    if label != "first" and (path.is_dir() or not columns):
        raise ValueError(
            f"label: found {label!r} for {path}, which has no named columns; expected a .csv file"
        )
    if index and (path.is_dir() or not columns):
        raise ValueError(
            f"index: found True for {path}, which has no columns of row numbers; expected a .csv "
            "file"
        )
    if path.is_dir():
        return load_folder(path)
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        found = load_npz(path)
        if isinstance(found[0], tuple):
            return Dataset(*found)
        return Dataset(found)
    if start.startswith((b"\x1f\x8b", b"\0\0")):
        return Dataset(load_images_and_labels(path))
    if path.suffix.lower() == ".csv":
        x, y, names = load_columns(path, label, None, index, pixels, stacklevel=3)
        assert y is not None
        return Dataset((x, y), columns=names)
    raise ValueError(
        f"{path}: found a file that starts with {start!r} and does not end in .csv, "
        f"expected {expected}"
    )
