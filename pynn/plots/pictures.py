"""Images drawn from a network: sample predictions, mistakes, weights of the first layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .classes import class_indices
from .models import classes_of, names_of, probabilities_of, weights_of
from .style import BLUE, GREY, ORANGE, new_axes, percent, plain_text, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

_GAP = 2
"""Pixels between two images on the sheet of the first layer's weights."""

# --- Predictions and mistakes ---------------------------------------------------------------------


def predictions(
    model: Any,
    x: np.ndarray,
    y: ArrayLike | None = None,
    count: int = 12,
    classes: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw sample images with the probabilities that the network assigns to their classes.

    The samples range from the image with the highest probability to the one with the lowest, in
    equal steps of the highest probability of each image; each step takes the first row that is
    nearest to it. With random rows nearly all probabilities would be high.

    For each image the three most probable classes are shown (the true class replaces the third if
    it is not among them), the true class in blue and bold, and in the title the true and the
    predicted class.

    Parameters
    ----------
    model : Network, classifier or array_like, shape (n, n_classes)
        A trained network, also of ``pynn.nielsen``, a fitted classifier of ``pynn.sklearn``, or
        probabilities for every row of `x`.
    x : ndarray, shape (n, height, width) or (n, pixels)
        The images; without height and width the number of pixels must be a square. ``pynn.nielsen``
        has columns of pixels, (n, pixels, 1).
    y : array_like, shape (n,), optional
        True labels.
    count : int, default 12
        The maximum number of images.
    classes : array_like, optional
        Names of the classes. By default ``model.classes`` or ``model.classes_``, or 0, 1, 2, ….
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Holds the images and their bars, alternating, in ``child_axes``.

    Raises
    ------
    ValueError
        If `x` holds no images, or lengths differ.
    ImportError
        If matplotlib is not installed.
    """
    images, labels = _images(x), None if y is None else _labels(y, len(x))
    probabilities = probabilities_of(model, x, len(images))
    names = names_of(model, probabilities.shape[1], classes)
    rows = _evenly_sure(np.nan_to_num(probabilities.max(axis=1)), max(1, count))
    truth = None if labels is None else labels[rows]
    ax = _tiles(images[rows], probabilities[rows], names, truth, ax)
    ax.set_title(f"{len(rows)} of {len(images):,} images, from surest to least sure")
    return ax


def _evenly_sure(sureness: np.ndarray, count: int) -> np.ndarray:
    """Return rows whose sureness falls in equal steps from the highest to the lowest."""
    free = sureness.astype(float)
    rows = []
    for step in np.linspace(free.max(), free.min(), min(count, len(free))):
        nearest = int(np.nanargmin(np.abs(free - step)))
        rows.append(nearest)
        free[nearest] = np.nan
    rows.sort(key=lambda row: (-sureness[row], row))
    return np.array(rows)


def mistakes(
    model: Any,
    x: np.ndarray,
    y: ArrayLike,
    count: int = 12,
    classes: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the worst mistakes: wrongly classified images with the least probable true class.

    Parameters
    ----------
    model : Network, classifier or array_like, shape (n, n_classes)
        A trained network, also of ``pynn.nielsen``, a fitted classifier of ``pynn.sklearn``, or
        probabilities for every row of `x`.
    x : ndarray, shape (n, height, width) or (n, pixels)
        The images; without height and width the number of pixels must be a square. ``pynn.nielsen``
        has columns of pixels, (n, pixels, 1).
    y : array_like, shape (n,)
        True labels.
    count : int, default 12
        The maximum number of images.
    classes : array_like, optional
        Names of the classes. By default ``model.classes`` or ``model.classes_``, or 0, 1, 2, ….
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Holds the images and their bars, alternating, in ``child_axes``.

    Raises
    ------
    ValueError
        If `x` holds no images, a label is not one of the classes, or lengths differ.
    ImportError
        If matplotlib is not installed.
    """
    images, labels = _images(x), _labels(y, len(x))
    probabilities = probabilities_of(model, x, len(images))
    names = names_of(model, probabilities.shape[1], classes)
    truth = class_indices(labels, names, "y")
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    worst = wrong[np.argsort(probabilities[wrong, truth[wrong]], kind="stable")][: max(1, count)]
    if not len(wrong):
        ax = new_axes(4.0, 1.5) if ax is None else ax
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"no mistake in {len(images):,}", ha="center", va="center")
        return ax
    ax = _tiles(images[worst], probabilities[worst], names, labels[worst], ax)
    many = f"the {len(worst)} worst of {len(wrong):,} mistakes in {len(images):,} images"
    ax.set_title(many if len(wrong) > 1 else f"the one mistake in {len(images):,} images")
    return ax


def _tiles(
    images: np.ndarray,
    probabilities: np.ndarray,
    names: list[Any],
    truth: np.ndarray | None,
    ax: Axes | None,
) -> Axes:
    """Draw images with bars of their most probable classes, side by side."""
    texts = [plain_text(name, 18) for name in names]
    # Long names go above their bars, and titles have two lines.
    long = max(map(len, texts)) > 3
    columns = min(3 if long else 4, len(images))
    lines = -(-len(images) // columns)
    if ax is None:
        tile = (3.4, 1.8) if long else (2.6, 1.5)
        ax = new_axes(tile[0] * columns, tile[1] * lines + 0.35)
    ax.set_axis_off()
    width, height = 1 / columns, 1 / lines
    share = 0.7 if long else 0.82
    for place, (image, row) in enumerate(zip(images, probabilities, strict=True)):
        left, bottom = place % columns * width, 1 - (place // columns + 1) * height
        picture = ax.inset_axes((left, bottom, (0.4 if long else 0.46) * width, share * height))
        _draw_image(picture, image)
        top = np.argsort(-row, kind="stable")[:3]
        true = None if truth is None else truth[place].item()
        if true in names and names.index(true) not in top:
            top[-1] = names.index(true)
        if long:
            frame = (left + 0.45 * width, bottom, 0.5 * width, share * height)
        else:
            frame = (left + 0.57 * width, bottom + 0.06 * height, 0.34 * width, 0.7 * height)
        correct = [None if true is None else names[k] == true for k in top]
        _draw_bars(ax.inset_axes(frame), row[top], [texts[k] for k in top], correct, long)
        _title_image(picture, names[int(top[0])], true, long)
    return ax


def _draw_image(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray_r", interpolation="nearest")
    ax.set_anchor("NW")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color("#CCCCCC")


def _title_image(ax: Axes, predicted: Any, true: Any, long: bool) -> None:
    """Write the predicted class and, if it is known, the true one above an image."""
    title = plain_text(predicted if true is None else true)
    style: dict[str, Any] = {}
    if true is not None and predicted == true:
        title, style = f"{title} ✓", {"color": BLUE}
    elif true is not None:
        separator = "\n" if long else " "
        title = f"{title}{separator}taken for {plain_text(predicted)} ✗"
        style = {"color": ORANGE}
    ax.set_title(title, loc="left", fontsize=9 if long else 10, pad=3, **style)


def _draw_bars(
    ax: Axes, shares: np.ndarray, names: list[str], correct: list[bool | None], long: bool
) -> None:
    """Draw a bar for each class: the true one blue and bold, others orange, grey if unknown."""
    colors = [GREY if c is None else BLUE if c else ORANGE for c in correct]
    weights = ["bold" if c else "normal" for c in correct]
    ax.barh(range(len(names)), shares, color=colors, height=0.34 if long else 0.62)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(names) - 0.7 if long else len(names) - 0.5, -0.8 if long else -0.5)
    ax.set_xticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    if long:
        ax.set_yticks([])
        for line, (name, share) in enumerate(zip(names, shares, strict=True)):
            ax.text(
                0.02, line - 0.22, f"{percent(share)}  {name}", fontsize=7.5, weight=weights[line],
                ha="left", va="bottom",
            )  # fmt: skip
        return
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0, labelsize=9)
    for label, weight in zip(ax.get_yticklabels(), weights, strict=True):
        label.set_fontweight(weight)
    for line, share in enumerate(shares):
        inside = share > 0.6
        ax.text(
            min(share, 1) - 0.04 if inside else np.nan_to_num(share) + 0.04,
            line,
            percent(share),
            ha="right" if inside else "left",
            va="center",
            fontsize=7.5,
            color=None if not inside else "white" if colors[line] == BLUE else "black",
        )


# --- Weights of the first layer -------------------------------------------------------------------


def first_layer_weights(
    net: Any, count: int = 100, ax: Axes | None = None, shape: tuple[int, int] | None = None
) -> Axes:
    """Draw the weights of each unit of the first layer as an image.

    The units with the largest weights (Euclidean norm) are shown, the largest first. For a network
    without hidden layers these are the outputs, in the order of their classes, with names. Orange
    marks positive weights, blue negative ones, white zero; in greyscale the negative ones are dark.
    All images share one scale, which ends at the 99.8th percentile of the absolute weights.

    Parameters
    ----------
    net : Network or estimator
        A network whose inputs are pixels, also of ``pynn.nielsen``, or a fitted estimator of
        ``pynn.sklearn``.
    count : int, default 100
        The maximum number of units.
    ax : Axes, optional
        Where to draw.
    shape : (int, int), optional
        Height and width of the images in pixels. By default they are square.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the number of inputs does not match `shape`, or is not a square.
    ImportError
        If matplotlib is not installed.
    """
    layers = weights_of(net)
    weights = np.asarray(layers[0], dtype=float)
    if shape is None:
        images = _images(weights.T, "net.weights[0].T")
    elif math.prod(shape) == len(weights):
        images = weights.T.reshape(-1, *shape)
    else:
        raise ValueError(f"shape: found {shape}, expected {len(weights)} pixels, the inputs of net")
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[: max(1, count)]
    classes = None if len(layers) > 1 else _classes_of_units(net, weights.shape[1], len(order))
    if classes is not None:
        order = np.arange(len(order))
    sizes = np.abs(images[order])
    sizes = sizes[np.isfinite(sizes)]  # a network that has diverged has others
    limit = float(np.percentile(sizes, 99.8)) if sizes.size else 0.0
    limit = limit or 1.0
    sheet, corners = _sheet(images[order])
    if ax is None:
        ax = _sheet_axes(images[order], sheet.shape)
    colors = ramp("#05304F", "#2A7FB8", "#F6F6F6", "#F3A56B", ORANGE)
    drawn = ax.imshow(sheet, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_axis_off()
    for (top, left), name in zip(corners, classes or (), strict=False):
        ax.text(left, top, plain_text(name), va="top", ha="left", fontsize="small")
    units = weights.shape[1]
    few = f"{len(order)} of {units} units, largest weights"
    every = f"all {units} units" if units > 1 else "its one unit"
    ax.set_title(f"first layer, {few if units > len(order) else every}", fontsize="medium")
    bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.8, pad=0.02, extend="both")
    bar.set_label("weight: against – for the unit")
    bar.outline.set_visible(False)
    return ax


def _classes_of_units(net: Any, units: int, drawn: int) -> list[Any] | None:
    """Return the names of the outputs of a network without hidden layers, if all are drawn."""
    classes: Any = classes_of(net)
    if classes is None or not len(classes) == units == drawn:
        return None
    return list(classes)


def _sheet(images: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return images (n, height, width) in rows on one large image, and their top left corners."""
    columns, lines = _grid(images)
    height, width = images.shape[1] + _GAP, images.shape[2] + _GAP
    sheet = np.full((lines * height - _GAP, columns * width - _GAP), np.nan)
    corners = [(k // columns * height, k % columns * width) for k in range(len(images))]
    for (top, left), image in zip(corners, images, strict=True):
        sheet[top : top + height - _GAP, left : left + width - _GAP] = image
    return sheet, corners


def _grid(images: np.ndarray) -> tuple[int, int]:
    """Return the numbers of columns and lines that make the sheet about square."""
    n, height, width = images.shape
    columns = min(n, max(1, round(math.sqrt(n * (height + _GAP) / (width + _GAP)))))
    return columns, -(-n // columns)


def _sheet_axes(images: np.ndarray, shape: tuple[int, ...]) -> Axes:
    height, width = shape
    side = float(np.clip(0.62 * max(_grid(images)), 3.4, 7.5))
    return new_axes(
        side * min(1, width / height) + 1.3, max(side * min(1, height / width), 1.6) + 0.5
    )


# --- Arguments ------------------------------------------------------------------------------------


def side_of(pixels: int) -> int | None:
    """Return height and width of a square image with `pixels` pixels; None if it is not square."""
    side = math.isqrt(pixels)
    return side if side * side == pixels else None


def _images(x: np.ndarray, argument: str = "x") -> np.ndarray:
    """Return rows as images (n, height, width)."""
    given, x = x, np.asarray(x)
    if x.ndim == 0:
        raise TypeError(
            f"{argument}: found a {type(given).__name__}, which is no array, expected images "
            "(n, height, width) or rows of a square number of pixels"
        )
    if x.ndim == 3 and x.shape[2] == 1 and side_of(x.shape[1]):
        x = x[:, :, 0]  # columns of pixels of pynn.nielsen
    side = side_of(x.shape[1]) if x.ndim == 2 else None
    if side and len(x):
        return x.reshape(len(x), side, side)
    if x.ndim != 3 or not len(x):
        raise ValueError(
            f"{argument}: found shape {x.shape}, expected images (n, height, width) "
            "or rows of a square number of pixels"
        )
    return x


def _labels(y: ArrayLike, n: int) -> np.ndarray:
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise ValueError(f"y: found shape {labels.shape}, expected ({n},), a label for each image")
    return labels
