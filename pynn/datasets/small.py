"""The small data sets that are installed with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.dataset import Pair

Array = np.ndarray


def iris() -> tuple[Pair, Pair]:
    """Load Fisher's irises, which are installed with scikit-learn.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        ``x``: lengths and widths of sepals and petals in cm, float64, (120, 4) and (30, 4).
        ``y``: setosa, versicolor or virginica, text. Every fifth row of each class is a test row.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = iris()
    >>> x_train.shape, x_test.shape, str(y_test[0])
    ((120, 4), (30, 4), 'setosa')
    """
    return _classes("iris")


def digits() -> tuple[Pair, Pair]:
    """Load 1,797 handwritten digits of 8 x 8 pixels, which are installed with scikit-learn.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        ``x``: pixels from 0 to 1, float32, (1442, 8, 8) and (355, 8, 8). ``y``: the digits 0 to 9,
        int64. Every fifth row of each class is a test row.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    found = _loaded("digits")
    x = (found.images / 16).astype(np.float32)
    return _split(x, found.target.astype(np.int64), found.target)


def diabetes() -> tuple[Pair, Pair]:
    """Load the progression of diabetes in 442 patients, which is installed with scikit-learn.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        ``x``: age, sex, body-mass index, blood pressure and six blood values in their units,
        float64, (354, 10) and (88, 10). ``y``: the progression in a year, float64. Every fifth row
        is a test row.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    found = _loaded("diabetes", scaled=False)
    return _split(found.data, found.target, np.zeros(len(found.target), dtype=np.intp))


def breast_cancer() -> tuple[Pair, Pair]:
    """Load 569 tumours of the breast, which are installed with scikit-learn.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        ``x``: 30 measures of cell nuclei, float64, (456, 30) and (113, 30). ``y``: benign or
        malignant, text. Every fifth row of each class is a test row.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    return _classes("breast_cancer")


def _classes(name: str) -> tuple[Pair, Pair]:
    found = _loaded(name)
    return _split(found.data, np.asarray(found.target_names)[found.target], found.target)


def _loaded(name: str, **options: Any) -> Any:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"pynn.datasets.{name} needs scikit-learn, which is not installed ({error}): "
            "pip install 'pynn-mlp[sklearn]'"
        ) from error
    return getattr(datasets, f"load_{name}")(**options)


def _split(x: Array, y: Array, codes: Array) -> tuple[Pair, Pair]:
    """Take every fifth row of each class as a test row."""
    test = np.zeros(len(x), dtype=bool)
    for code in np.unique(codes):
        test[np.flatnonzero(codes == code)[4::5]] = True
    return (x[~test], y[~test]), (x[test], y[test])
