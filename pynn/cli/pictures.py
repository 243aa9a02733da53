"""The pictures of a run, as PNG files in its folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.disk import atomic_write

if TYPE_CHECKING:
    from ..data.dataset import Pair
    from ..network import Network
    from ..training.range_test import LearningRates

FILES = (
    "learning_curve.png",
    "confusion_matrix.png",
    "predictions.png",
    "mistakes.png",
    "first_layer.png",
    "regression.png",
    "learning_rates.png",
)
"""Names of all pictures; a run has those that its data allow."""


def check_matplotlib() -> None:
    """Raise an ImportError if matplotlib is missing: before the training, not after it."""
    from ..plots.style import require

    try:
        require()
    except ImportError as error:
        raise ImportError(f"{error}, or train with --no-pictures") from error


def write_curves(folder: Path, net: Network, found: LearningRates | None = None) -> None:
    """Write the learning curves, if at least one epoch was trained, and the range test."""
    from ..plots import for_files, learning_curves, learning_rates

    if found is not None:
        with for_files():
            _write(folder / "learning_rates.png", learning_rates(found))
    if len(net.history):
        with for_files():
            axes = learning_curves(net, title=_title(folder, net))
            _write(folder / "learning_curve.png", axes[0])


def write_all(folder: Path, net: Network, test: Pair, found: LearningRates | None = None) -> None:
    """Write all pictures that the network and the rows (x, y) allow."""
    from ..plots import confusion_matrix, first_layer_weights, for_files, mistakes, predictions

    write_curves(folder, net, found)
    images, labels = images_of(net, test[0]), labels_of(net, test[1])
    with for_files():
        if net.classes is None:
            _write_regression(folder / "regression.png", net, test)
        if labels is not None and net.classes is not None:
            ax = confusion_matrix(labels, net.predict(test[0]), net.classes)
            _write(folder / "confusion_matrix.png", ax)
            if images is not None and net.architecture.loss_function.probabilities:
                probabilities = net.predict_proba(test[0])
                for name, draw in (("predictions", predictions), ("mistakes", mistakes)):
                    ax = draw(probabilities, images, labels, classes=net.classes)
                    _write(folder / f"{name}.png", ax)
        if images is not None:
            ax = first_layer_weights(net, shape=images.shape[1:], x=images)
            _write(folder / "first_layer.png", ax)


def _title(folder: Path, net: Network) -> str:
    count = len(net.history)
    sizes = "-".join(map(str, net.sizes))
    return f"{folder.resolve().name}: {sizes}, {count:,} epoch{'' if count == 1 else 's'}"


def _write_regression(path: Path, net: Network, test: Pair) -> None:
    """Write the plots of a regression side by side, if there is one target."""
    from ..plots import error_histogram, predicted_against_true, residuals
    from ..plots.style import new_figure

    true, found = np.asarray(test[1], float), np.asarray(net.predict(test[0]), float)
    finite = np.isfinite(true.ravel()) if true.size == len(true) == found.size else None
    if finite is None or not (finite & np.isfinite(found.ravel())).any():
        return
    figure = new_figure(12.6, 3.9)
    axes = [figure.add_subplot(1, 3, k) for k in (1, 2, 3)]
    for draw, ax in zip((predicted_against_true, residuals, error_histogram), axes, strict=True):
        draw(true, found, ax=ax)
    _write(path, axes[0])


def _write(path: Path, ax: Any) -> None:
    with atomic_write(path) as file:
        ax.figure.savefig(file, format="png", dpi=150)


def images_of(net: Network, x: np.ndarray) -> np.ndarray | None:
    """Return rows as images (n, height, width), or None if they are not images.

    The columns of a network of pixels are images if their number is a square from 8 x 8 on. The
    columns of a network of values are images only if they are 28 x 28, since tables can have any
    number of columns.
    """
    if x.ndim == 3:
        return x
    if net.pixels is False and math.prod(x.shape[1:]) != 28 * 28:
        return None
    pixels = math.prod(x.shape[1:])
    side = math.isqrt(pixels)
    return x.reshape(-1, side, side) if side * side == pixels and side >= 8 else None


def labels_of(net: Network, y: np.ndarray) -> np.ndarray | None:
    """Return one label per row (n,) for labels or one-hot rows, None for other targets."""
    if net.classes is None:
        return None
    if y.ndim == 1 or y.shape[1] == 1:
        return y.reshape(-1)
    return net.classes[y.argmax(axis=1)] if are_one_hot(y) else None


def are_one_hot(y: np.ndarray) -> bool:
    """Whether every row of targets (n, n_classes) has a single 1 and otherwise 0."""
    return bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
