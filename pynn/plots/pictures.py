"""Images drawn from a network: sample predictions, mistakes, weights of the first layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .classes import class_indices
from .models import are_probabilities, classes_of, names_of, probabilities_of, weights_of
from .style import (
    given_or_new,
    new_axes,
    paint,
    percent,
    plain_text,
    ramp,
    styled,
    text_color_on,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

_GAP = 2
"""Pixels between two images side by side on the sheet of the first layer's weights."""

# --- Predictions and mistakes ---------------------------------------------------------------------


@styled
def predictions(
    model: Any,
    x: np.ndarray,
    y: ArrayLike | None = None,
    count: int = 12,
    classes: ArrayLike | None = None,
    ax: Axes | None = None,
    style: str | None = None,
) -> Axes:
    """Draw sample images with the probabilities that the network assigns to their classes.

    The samples range from the image with the highest probability to the one with the lowest, in
    equal steps of the highest probability of each image; each step takes the first row that is
    nearest to it. With random rows nearly all probabilities would be high.

    Outputs that are not in [0, 1] or do not sum to 1 are no probabilities; they are shown without
    per cent signs.

    Columns of a table are no images: unless ``net.pixels`` is True, rows (n, pixels) are refused if
    the network has a ``table``, fewer than 64 columns with names, or fewer than 16 values. Pass
    images (n, height, width) to draw them all the same.

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
    style : {"light", "dark"}, optional
        Colours of a new figure, or of what is drawn in `ax`. By default they suit the background.

    Returns
    -------
    Axes
        Holds the images and their bars, alternating, in ``child_axes``.

    Raises
    ------
    ValueError
        If `x` holds no images but columns of a table, or lengths differ.
    ImportError
        If matplotlib is not installed.
    """
    images, probabilities, names = _classified(model, x, classes)
    labels = None if y is None else _labels(y, len(images))
    rows = evenly_confident(np.nan_to_num(probabilities.max(axis=1)), max(1, count))
    truth = None if labels is None else labels[rows]
    ax = _tiles(_Sample(images, probabilities, rows), names, truth, ax)
    many = f"{len(rows)} of {len(images):,} images from most to least confident"
    return _title_sheet(ax, many, "equal steps of confidence, not a random sample", labels)


def _classified(
    model: Any, x: np.ndarray, classes: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Return images (n, height, width), outputs (n, n_classes) and the names of the classes."""
    _require_pixels(model, x)
    images = _images(x)
    outputs = probabilities_of(model, x, len(images))
    return images, outputs, names_of(model, outputs.shape[1], classes)


def _title_sheet(ax: Axes, title: str, line: str, labels: np.ndarray | None) -> Axes:
    """Write a title, and below it a line about the choice of images and the bold class."""
    bold = "" if labels is None else "; the true class is bold"
    ax.set_title(title, pad=18)
    ax.annotate(
        line + bold, (0.5, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        ha="center", va="bottom", fontsize="small", color=theme().faint,
    )  # fmt: skip
    return ax


class _Sample(NamedTuple):
    """Rows that are drawn."""

    all_images: np.ndarray
    all_outputs: np.ndarray
    rows: np.ndarray

    @property
    def probabilities(self) -> bool:
        """Whether the outputs are probabilities."""
        return are_probabilities(self.all_outputs)


def evenly_confident(confidence: np.ndarray, count: int) -> np.ndarray:
    """Return rows whose confidence falls in equal steps from the highest to the lowest."""
    free = confidence.astype(float)
    rows = []
    for step in np.linspace(free.max(), free.min(), min(count, len(free))):
        nearest = int(np.nanargmin(np.abs(free - step)))
        rows.append(nearest)
        free[nearest] = np.nan
    rows.sort(key=lambda row: (-confidence[row], row))
    return np.array(rows)


@styled
def mistakes(
    model: Any,
    x: np.ndarray,
    y: ArrayLike,
    count: int = 12,
    classes: ArrayLike | None = None,
    ax: Axes | None = None,
    style: str | None = None,
) -> Axes:
    """Draw the worst mistakes: wrongly classified images with the least probable true class.

    For each image the title has the true class, the predicted one, and the number of its row in
    `x`; bars show the three most probable classes, and the true class, in blue and bold, in place
    of the third if it is not among them. Columns of a table are refused as by :func:`predictions`.

    Parameters
    ----------
    model, x, count, classes, ax, style
        As in :func:`predictions`.
    y : array_like, shape (n,)
        True labels.

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
    images, probabilities, names = _classified(model, x, classes)
    labels = _labels(y, len(images))
    truth = class_indices(labels, names, "y")
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    worst = wrong[np.argsort(probabilities[wrong, truth[wrong]], kind="stable")][: max(1, count)]
    if not len(wrong):
        ax = given_or_new(ax, 4.0, 1.5)
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"no mistake in {len(images):,}", ha="center", va="center")
        return ax
    ax = _tiles(_Sample(images, probabilities, worst), names, labels[worst], ax)
    many = f"the {len(worst)} worst of {len(wrong):,} mistakes in {len(images):,} images"
    title = many if len(wrong) > 1 else f"the one mistake in {len(images):,} images"
    kind = "probability" if are_probabilities(probabilities) else "output"
    return _title_sheet(ax, title, f"worst: the least {kind} for the true class", labels)


def _tiles(sample: _Sample, names: list[Any], truth: np.ndarray | None, ax: Axes | None) -> Axes:
    """Draw images with bars of their most probable classes, side by side."""
    images, probabilities = sample.all_images[sample.rows], sample.all_outputs[sample.rows]
    texts = [plain_text(name, 18) for name in names]
    spell = percent if sample.probabilities else "{:.2f}".format
    # Long names go above their bars, and titles have two lines.
    long = max(map(len, texts)) > 3
    columns = min(3 if long else 4, len(images))
    lines = -(-len(images) // columns)
    if ax is None:
        tile = (3.4, 1.8) if long else (2.6, 1.5)
        ax = new_axes(tile[0] * columns, tile[1] * lines + 0.6)
    ax.set_axis_off()
    width, height = 1 / columns, 1 / lines
    share = 0.7 if long else 0.82
    for place, (image, row) in enumerate(zip(images, probabilities, strict=True)):
        left, bottom = place % columns * width, 1 - (place // columns + 1) * height
        picture = ax.inset_axes((left, bottom, (0.4 if long else 0.46) * width, share * height))
        _draw_image(picture, image)
        true = None if truth is None else truth[place].item()
        top = shown_classes(row, names.index(true) if true in names else None)
        if long:
            frame = (left + 0.45 * width, bottom, 0.5 * width, share * height)
        else:
            frame = (left + 0.57 * width, bottom + 0.06 * height, 0.34 * width, 0.7 * height)
        correct = [None if true is None else names[k] == true for k in top]
        bars = ax.inset_axes(frame)
        _draw_bars(bars, row[top], [texts[k] for k in top], correct, long, spell)
        _title_image(picture, names[top[0]], true, int(sample.rows[place]), long)
    return ax


def shown_classes(outputs: np.ndarray, true: int | None) -> list[int]:
    """Return the three most probable classes; the true class may replace the third."""
    top: list[int] = np.argsort(-outputs, kind="stable")[:3].tolist()
    if true is not None and true not in top:
        top[-1] = true
    return top


def _draw_image(ax: Axes, image: np.ndarray) -> None:
    colors = ramp(theme().paper, theme().ink)
    ax.imshow(image, cmap=colors, interpolation="nearest")
    ax.set_anchor("NW")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color(theme().line)


def _title_image(ax: Axes, predicted: Any, true: Any, row: int, long: bool) -> None:
    """Write predicted and, if it is known, true class above an image, and its row below."""
    title = plain_text(predicted if true is None else true)
    style: dict[str, Any] = {}
    if true is not None and predicted == true:
        title, style = f"{title} ✓", {"color": theme().blue}
    elif true is not None:
        separator = "\n" if long else " "
        title = f"{title}{separator}predicted as {plain_text(predicted)} ✗"
        style = {"color": theme().orange}
    ax.set_title(title, loc="left", fontsize=9 if long else 10, pad=3, **style)
    ax.set_xlabel(f"row {row:,}", loc="left", fontsize=7, labelpad=2, color=theme().faint)


def _draw_bars(
    ax: Axes,
    shares: np.ndarray,
    names: list[str],
    correct: list[bool | None],
    long: bool,
    spell: Callable[[float], str],
) -> None:
    """Draw a bar for each class: the true one blue and bold, others orange, grey if unknown."""
    colors = [theme().grey if c is None else theme().blue if c else theme().orange for c in correct]
    weights = ["bold" if c else "normal" for c in correct]
    ax.barh(range(len(names)), shares, color=colors, height=0.34 if long else 0.62)
    # Outputs that are no probabilities may be of any size.
    largest = max(1.0, float(np.nan_to_num(shares).max()))
    ax.set_xlim(min(0.0, float(np.nan_to_num(shares).min())), largest)
    ax.set_ylim(len(names) - 0.7 if long else len(names) - 0.5, -0.8 if long else -0.5)
    ax.set_xticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    if long:
        ax.set_yticks([])
        for line, (name, share) in enumerate(zip(names, shares, strict=True)):
            ax.text(
                0.02, line - 0.22, f"{spell(share)}  {name}", fontsize=7.5, weight=weights[line],
                ha="left", va="bottom",
            )  # fmt: skip
        return
    ax.set_yticks(range(len(names)), names)
    paint(ax)
    ax.tick_params(length=0, labelsize=9)
    for label, weight in zip(ax.get_yticklabels(), weights, strict=True):
        label.set_fontweight(weight)
    for line, share in enumerate(shares):
        inside = share > 0.6 * largest
        gap = 0.04 * largest
        ax.text(
            min(share, largest) - gap if inside else max(np.nan_to_num(share), 0.0) + gap,
            line,
            spell(share),
            ha="right" if inside else "left",
            va="center",
            fontsize=7.5,
            color=text_color_on(colors[line]) if inside else None,
        )


# --- Weights of the first layer -------------------------------------------------------------------


@styled
def first_layer_weights(
    net: Any,
    count: int = 25,
    ax: Axes | None = None,
    shape: tuple[int, int] | None = None,
    x: ArrayLike | None = None,
    style: str | None = None,
) -> Axes:
    """Draw the weights of each unit of the first layer as an image.

    The units with the largest weights (Euclidean norm) are shown, the largest first, with their
    numbers, counted from 0. For a network without hidden layers these are the outputs, in the order
    of their classes, with names. Orange marks positive weights, which raise the unit's sum where
    the pixel is bright, blue negative ones, white zero; in greyscale the negative ones are dark.
    All images share one scale, which ends at the 99.8th percentile of the absolute weights.

    Columns of a table are no images: without `shape`, networks are refused as by
    :func:`predictions`.

    Parameters
    ----------
    net : Network or estimator
        A network whose inputs are pixels, also of ``pynn.nielsen``, or a fitted estimator of
        ``pynn.sklearn``.
    count : int, default 25
        The maximum number of units.
    ax : Axes, optional
        Where to draw.
    shape : (int, int), optional
        Height and width of the images in pixels. By default they are square.
    x : array_like, shape (n, height, width) or (n, pixels), optional
        The rows of the training. Pixels that are 0 in all of them are drawn pale: training has left
        their weights at the random numbers they began with, or only made them smaller.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of what is drawn in `ax`. By default they suit the background.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the number of inputs does not match `shape` or `x`, or is not a square.
    ImportError
        If matplotlib is not installed.
    """
    layers = weights_of(net)
    weights = np.asarray(layers[0], dtype=float)
    if shape is None:
        _require_pixels(net)
        images = _images(weights.T, "net.weights[0].T")
    elif math.prod(shape) == len(weights):
        images = weights.T.reshape(-1, *shape)
    else:
        raise ValueError(f"shape: found {shape}, expected {len(weights)} pixels, the inputs of net")
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[: max(1, count)]
    classes = None if len(layers) > 1 else _classes_of_units(net, weights.shape[1], len(order))
    if classes is not None:
        order = np.arange(len(order))
    used = _used_pixels(x, len(weights)).reshape(images.shape[1:])
    sizes = np.abs(images[order][:, used])
    sizes = sizes[np.isfinite(sizes)]  # a network that has diverged has others
    limit = float(np.percentile(sizes, 99.8)) if sizes.size else 0.0
    limit = limit or 1.0
    sheet, corners = _sheet(images[order])
    opacity, _ = _sheet(np.broadcast_to(np.where(used, 1.0, 0.12), images[order].shape))
    if ax is None:
        ax = _sheet_axes(images[order], sheet.shape)
    drawn = ax.imshow(
        sheet, cmap=ramp(*theme().diverging), vmin=-limit, vmax=limit, interpolation="nearest",
        alpha=np.nan_to_num(opacity),
    )  # fmt: skip
    ax.set_axis_off()
    names = [f"unit {k}" for k in order] if classes is None else [plain_text(c) for c in classes]
    for (top, left), name in zip(corners, names, strict=True):
        ax.text(left - 0.5, top - 0.6, name, va="bottom", ha="left", fontsize="x-small")
    ax.set_ylim(sheet.shape[0] - 0.5, -_gap(images) - 0.5)
    ax.set_title(_sheet_title(len(order), weights.shape[1], used), fontsize="medium")
    bar = ax.figure.colorbar(_opaque(drawn), ax=ax, shrink=0.8, pad=0.02, extend="both")
    bar.set_label("weight: blue lowers, orange raises the unit's sum")
    bar.outline.set_visible(False)
    paint(bar.ax)
    return ax


def _sheet_title(drawn: int, units: int, used: np.ndarray) -> str:
    few = f"{drawn} of {units:,} units with the largest weights"
    every = f"all {units:,} units" if units > 1 else "its one unit"
    pale = "" if used.all() else "\npale: pixels that are 0 in all rows"
    return f"first layer, {few if units > drawn else every}{pale}"


def _opaque(image: Any) -> Any:
    """Return the colour scale of an image without its opacity, which a colour bar would show."""
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm=image.norm, cmap=image.cmap)


def _used_pixels(x: ArrayLike | None, pixels: int) -> np.ndarray:
    """Return which pixels are not 0 in all rows."""
    if x is None:
        return np.ones(pixels, bool)
    rows = np.asarray(x)
    if not len(rows) or rows.size != len(rows) * pixels:
        raise ValueError(
            f"x: found shape {rows.shape}, expected rows of {pixels} pixels, the inputs of net"
        )
    return (rows.reshape(len(rows), pixels) != 0).any(axis=0)


def _classes_of_units(net: Any, units: int, drawn: int) -> list[Any] | None:
    """Return the names of the outputs of a network without hidden layers, if all are drawn."""
    classes: Any = classes_of(net)
    if classes is None or not len(classes) == units == drawn:
        return None
    return list(classes)


def _gap(images: np.ndarray) -> int:
    """Return the pixels between two rows of images (n, height, width), which hold a name."""
    return max(2, round(0.22 * images.shape[1]))


def _sheet(images: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return images (n, height, width) in rows on one large image, and their top left corners."""
    columns, lines = _grid(images)
    gap = _gap(images)
    height, width = images.shape[1] + gap, images.shape[2] + _GAP
    sheet = np.full((lines * height - gap, columns * width - _GAP), np.nan)
    corners = [(k // columns * height, k % columns * width) for k in range(len(images))]
    for (top, left), image in zip(corners, images, strict=True):
        sheet[top : top + height - gap, left : left + width - _GAP] = image
    return sheet, corners


def _grid(images: np.ndarray) -> tuple[int, int]:
    """Return the numbers of columns and lines that make the sheet about square."""
    n, height, width = images.shape
    columns = math.sqrt(n * (height + _gap(images)) / (width + _GAP))
    columns = min(n, max(1, round(columns)))
    return columns, -(-n // columns)


def _sheet_axes(images: np.ndarray, shape: tuple[int, ...]) -> Axes:
    height, width = shape
    side = float(np.clip(1.25 * max(_grid(images)), 3.4, 7.5))
    return new_axes(
        side * min(1, width / height) + 1.3, max(side * min(1, height / width), 1.6) + 0.7
    )


# --- Arguments ------------------------------------------------------------------------------------


def side_of(pixels: int) -> int | None:
    """Return height and width of a square image with `pixels` pixels; None if it is not square."""
    side = math.isqrt(pixels)
    return side if side * side == pixels else None


_FEWEST_PIXELS, _FEWEST_NAMED = 16, 64
"""Fewer inputs of a network of values, or fewer with names, are columns of a table, not images."""


def _require_pixels(net: Any, x: Any = None) -> None:
    """Raise ValueError if the inputs of a network are columns of a table, and x is no images."""
    pixels = getattr(net, "pixels", None)
    if pixels is True or getattr(x, "ndim", 2) > 2:
        return
    names = getattr(net, "columns", getattr(net, "feature_names_in_", None))
    sizes = getattr(net, "sizes", None)
    if getattr(net, "table", None) is not None:
        found = "a network with a table"
    elif names is not None and len(names) < _FEWEST_NAMED:
        found = f"a network of {len(names)} columns with names"
    elif pixels is False and sizes is not None and sizes[0] < _FEWEST_PIXELS:
        found = f"a network of {sizes[0]} values"
    else:
        return
    argument, remedy = ("net", "shape=(height, width)") if x is None else ("x", "x of three axes")
    raise ValueError(
        f"{argument}: found {found}, expected pixels; if its inputs are images, pass {remedy}"
    )


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
