"""Rows and targets of a further step that need none of scikit-learn's checks.

These take milliseconds, and a step of ``partial_fit`` with few rows takes microseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.preprocessing import LabelBinarizer

from ..arrays.vectors import finite_sum

Array = np.ndarray


def checked(owner: Any, X: Any, y: Any) -> tuple[Array, Array] | None:
    """Return what scikit-learn's checks of a further step would return for plain arrays; None for
    others, and for those that the checks may refuse.

    Parameters
    ----------
    owner : Perceptron
        The fitted estimator.
    X, y
        Of any type.
    """
    if not (_are_floats(X) and X.ndim == 2 and len(X) and X.shape[1] == owner.n_features_in_):
        return None
    if hasattr(owner, "feature_names_in_"):  # scikit-learn warns of rows without names
        return None
    if type(y) is not np.ndarray or y.shape != (len(X),):
        return None
    if is_classifier(owner):
        y = _binarized(owner, y)
    elif not _are_floats(y):
        return None
    return None if y is None else (X, y)


def _are_floats(a: Any) -> bool:
    """Return whether the argument is an array of finite numbers of float32 or float64."""
    return type(a) is np.ndarray and a.dtype.char in "fd" and a.dtype.isnative and finite_sum(a)


def _binarized(owner: Any, y: Array) -> Array | None:
    """Return booleans (n, 1) for two classes, or (n, classes), of labels y (n,); None if one is no
    class."""
    binarizer, classes = owner._label_binarizer, owner.classes_
    if (
        owner.warm_start
        or type(binarizer) is not LabelBinarizer
        or not np.array_equal(binarizer.classes_, classes)
        or binarizer.y_type_ not in ("binary", "multiclass")
        or classes.dtype != y.dtype
        or y.dtype.kind not in "biuU"
        or len(classes) < 2
    ):
        return None
    places = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    if (classes[places] != y).any():
        return None
    if len(classes) == 2:
        return places[:, None] == 1
    return places[:, None] == np.arange(len(classes))
