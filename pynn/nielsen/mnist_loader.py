"""MNIST in the book's split and shapes (chapter 1, "Implementing our network to classify digits").

The book's file holds pixel / 256 as float32, without rounding; a pixel of 255 is 0.99609375.
"""

from __future__ import annotations

import numpy as np

from ..spec import arguments

Array = np.ndarray


def load_data() -> tuple[tuple[Array, Array], tuple[Array, Array], tuple[Array, Array]]:
    """Return MNIST in the book's split, as arrays (chapter 1, ``mnist_loader.load_data``).

    Returns
    -------
    training_data, validation_data, test_data : pairs of arrays
        50,000, 10,000 and 10,000 images and digits: ``x`` (n, 784), float32, in [0, 1), and ``y``
        (n,), int64. The first 50,000 images of MNIST's training set are the training data, the
        others the validation data.

    Raises
    ------
    FileNotFoundError, ValueError
        If the files included in pynn are missing or damaged.
    """
    from ..datasets import mnist

    (x, y), (x_test, y_test) = mnist()
    x, x_test = _as_floats(x), _as_floats(x_test)
    return (x[:50_000], y[:50_000]), (x[50_000:], y[50_000:]), (x_test, y_test)


def load_data_wrapper() -> tuple[
    list[tuple[Array, Array]], list[tuple[Array, int]], list[tuple[Array, int]]
]:
    """Return MNIST as lists of pairs (chapter 1, ``mnist_loader.load_data_wrapper``).

    Returns
    -------
    training_data : list of 50,000 pairs (x, y)
        ``x`` (784, 1), float32, in [0, 1); ``y`` (10, 1), float64, 1 for the digit and 0 elsewhere.
    validation_data, test_data : lists of 10,000 pairs (x, y)
        ``x`` (784, 1), float32; ``y`` the digit, an int.

    Raises
    ------
    FileNotFoundError, ValueError
        If the files included in pynn are missing or damaged.

    Notes
    -----
    The columns are views of a few large arrays, 224 MB in total, allocated by every call.
    """
    (x, y), (x_validation, y_validation), (x_test, y_test) = load_data()
    return (
        list(zip(_columns(x), np.eye(10)[y].reshape(-1, 10, 1))),
        list(zip(_columns(x_validation), y_validation.tolist())),
        list(zip(_columns(x_test), y_test.tolist())),
    )


def vectorized_result(j: int) -> Array:
    """Return the target of the digit ``j``, (10, 1): 1 at index ``j``, else 0 (chapter 1).

    Raises
    ------
    ValueError
        If ``j`` is not a whole number from 0 to 9.
    """
    e = np.zeros((10, 1))
    e[arguments.whole(j, "j", 0, 9)] = 1.0
    return e


def _as_floats(pixels: Array) -> Array:
    return np.multiply(pixels.reshape(len(pixels), -1), np.float32(1 / 256), dtype=np.float32)


def _columns(x: Array) -> Array:
    return x.reshape(*x.shape, 1)
