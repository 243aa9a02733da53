"""Sample predictions, mistakes and first-layer weights as images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import BLUE, GREY, ORANGE, _figure, _labels, _names, _ramp, _text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


def predictions(
    model: Any,
    x: np.ndarray,
    y: ArrayLike | None = None,
    count: int = 12,
    classes: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw sample images with the probabilities that the network gives them.

    The samples are a ladder: from the image that the network is surest of down to the one that it
    is least sure of, in equal steps of the highest probability, each the first row that is nearest
    to its step. Rows at random would be nearly all sure ones.

    Each shows its three most probable classes (the true one in place of the third if it is not
    among them), the true class in blue and bold, and a title that says what was taken for what.

    Parameters
    ----------
    model : Network or array_like, shape (n, n_classes)
        A trained network, or the probabilities it gave to every row of `x`.
    x : ndarray, shape (n, height, width) or (n, pixels)
        The images; pixels must be a square number.
    y : array_like, shape (n,), optional
        True labels.
    count : int, default 12
        How many images to show, at most.
    classes : array_like, optional
        Names of the classes. By default ``model.classes``, or 0, 1, 2, … for probabilities.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The frame of the whole picture; its ``child_axes`` hold an image and its bars in turn.

    Raises
    ------
    ValueError
        If `x` holds no images, or lengths differ.
    ImportError
        If matplotlib is not installed.
    """
    images, labels = _images(x), None if y is None else _labels(y, len(x))
    probabilities = _probabilities(model, x, len(images))
    names = _names(model, probabilities.shape[1], classes)
    rows = _ladder(np.nan_to_num(probabilities.max(axis=1)), max(1, count))
    truth = None if labels is None else labels[rows]
    ax = _tiles(images[rows], probabilities[rows], names, truth, ax)
    ax.set_title(f"{len(rows)} of {len(images):,} images, from surest to least sure")
    return ax


def _ladder(sureness: np.ndarray, count: int) -> np.ndarray:
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
    """Draw the worst mistakes: the wrongly classified images whose true class got least.

    Parameters
    ----------
    model : Network or array_like, shape (n, n_classes)
        A trained network, or the probabilities it gave to every row of `x`.
    x : ndarray, shape (n, height, width) or (n, pixels)
        The images; pixels must be a square number.
    y : array_like, shape (n,)
        True labels.
    count : int, default 12
        How many images to show, at most.
    classes : array_like, optional
        Names of the classes. By default ``model.classes``, or 0, 1, 2, … for probabilities.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The frame of the whole picture; its ``child_axes`` hold an image and its bars in turn.

    Raises
    ------
    ValueError
        If `x` holds no images, a label is none of the classes, or lengths differ.
    ImportError
        If matplotlib is not installed.
    """
    images, labels = _images(x), _labels(y, len(x))
    probabilities = _probabilities(model, x, len(images))
    names = _names(model, probabilities.shape[1], classes)
    index = {name: k for k, name in enumerate(names)}
    outside = set(labels.tolist()) - index.keys()
    if outside:
        raise ValueError(f"y: found {min(outside, key=str)!r}, expected one of the classes")
    truth = np.array([index[v] for v in labels.tolist()])
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    worst = wrong[np.argsort(probabilities[wrong, truth[wrong]], kind="stable")][: max(1, count)]
    if not len(wrong):
        ax = _figure(4.0, 1.5).add_subplot() if ax is None else ax
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"no mistake in {len(images):,}", ha="center", va="center")
        return ax
    ax = _tiles(images[worst], probabilities[worst], names, labels[worst], ax)
    many = f"the {len(worst)} worst of {len(wrong):,} mistakes in {len(images):,} images"
    ax.set_title(many if len(wrong) > 1 else f"the one mistake in {len(images):,} images")
    return ax


def first_layer_weights(
    net: Any, count: int = 100, ax: Axes | None = None, shape: tuple[int, int] | None = None
) -> Axes:
    """Draw the weights that lead to each unit of the first layer as an image.

    Shown are the units with the largest weights (Euclidean norm), in falling order; the outputs of
    a network without hidden layers in the order of their classes, by name. By an orange
    weight a lit pixel speaks for the unit, by a blue one against it, and white is nothing; without
    colours, the dark ones speak against. All share one scale, which ends at the 99.8th percentile
    of their size.

    Parameters
    ----------
    net : Network
        A network whose inputs are pixels.
    count : int, default 100
        How many units to show, at most.
    ax : Axes, optional
        Where to draw.
    shape : (int, int), optional
        Height and width of the images, in pixels. By default they are square.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the number of inputs is not that of `shape`, or no square number.
    ImportError
        If matplotlib is not installed.
    """
    weights = np.asarray(net.weights[0], dtype=float)
    if shape is None:
        tiles = _images(weights.T, "net.weights[0].T")
    elif math.prod(shape) == len(weights):
        tiles = weights.T.reshape(-1, *shape)
    else:
        raise ValueError(f"shape: found {shape}, expected {len(weights)} pixels, as net has inputs")
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[: max(1, count)]
    classes = _classes_of_units(net, len(order))
    if classes is not None:
        order = np.arange(len(order))
    height, width = tiles.shape[1:]
    # As many columns as make the whole about square.
    columns = min(len(order), max(1, round(math.sqrt(len(order) * (height + 2) / (width + 2)))))
    lines = -(-len(order) // columns)
    sheet = np.full((lines * (height + 2) - 2, columns * (width + 2) - 2), np.nan)
    for place, unit in enumerate(order):
        top, left = place // columns * (height + 2), place % columns * (width + 2)
        sheet[top : top + height, left : left + width] = tiles[unit]
    sizes = np.abs(tiles[order])
    sizes = sizes[np.isfinite(sizes)]  # a network that has diverged
    limit = float(np.percentile(sizes, 99.8)) if sizes.size else 0.0
    limit = limit or 1.0
    if ax is None:
        side = float(np.clip(0.62 * max(columns, lines), 3.4, 7.5))
        tall, wide = sheet.shape
        ax = _figure(
            side * min(1, wide / tall) + 1.3, max(side * min(1, tall / wide), 1.6) + 0.5
        ).add_subplot()
    colors = _ramp("#05304F", "#2A7FB8", "#F6F6F6", "#F3A56B", ORANGE)
    shown = ax.imshow(sheet, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_axis_off()
    for place, name in enumerate(classes or ()):
        top, left = place // columns * (height + 2), place % columns * (width + 2)
        ax.text(left, top, _text(name), va="top", ha="left", fontsize="small")
    units = weights.shape[1]
    few = f"{len(order)} of {units} units, largest weights"
    every = f"all {units} units" if units > 1 else "its one unit"
    ax.set_title(f"first layer, {few if units > len(order) else every}", fontsize="medium")
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.8, pad=0.02, extend="both")
    bar.set_label("weight: against – for the unit")
    bar.outline.set_visible(False)
    return ax


def _classes_of_units(net: Any, shown: int) -> list[Any] | None:
    """The names of the first layer's units, where they are the outputs and all are shown."""
    classes = getattr(net, "classes", None)
    units = net.weights[0].shape[1]
    if len(net.weights) > 1 or classes is None or not len(classes) == units == shown:
        return None
    return list(classes)


def side_of(pixels: int) -> int | None:
    """Return the edge of a square image of so many pixels; None if there is none."""
    side = math.isqrt(pixels)
    return side if side * side == pixels else None


def _images(x: np.ndarray, argument: str = "x") -> np.ndarray:
    """Return rows as images (n, height, width)."""
    x = np.asarray(x)
    side = side_of(x.shape[1]) if x.ndim == 2 else None
    if side and len(x):
        return x.reshape(len(x), side, side)
    if x.ndim != 3 or not len(x):
        raise ValueError(
            f"{argument}: found shape {x.shape}, expected images (n, height, width) "
            "or rows of a square number of pixels"
        )
    return x


def _probabilities(model: Any, x: np.ndarray, n: int) -> np.ndarray:
    if hasattr(model, "predict_proba"):
        model = model.predict_proba(x)
    probabilities = np.asarray(model, dtype=float)
    if probabilities.ndim != 2 or len(probabilities) != n:
        raise ValueError(
            f"model: found shape {probabilities.shape}, expected a network or probabilities "
            f"({n}, n_classes)"
        )
    return probabilities


def _tiles(
    images: np.ndarray,
    probabilities: np.ndarray,
    names: list[Any],
    truth: np.ndarray | None,
    ax: Axes | None,
) -> Axes:
    """Draw images with bars of their most probable classes, side by side."""
    texts = [_text(name, 18) for name in names]
    # Long names stand above their bars and in titles of two lines.
    long = max(map(len, texts)) > 3
    columns = min(3 if long else 4, len(images))
    lines = -(-len(images) // columns)
    if ax is None:
        tile = (3.4, 1.8) if long else (2.6, 1.5)
        ax = _figure(tile[0] * columns, tile[1] * lines + 0.35).add_subplot()
    ax.set_axis_off()
    width, height = 1 / columns, 1 / lines
    for place, (image, row) in enumerate(zip(images, probabilities, strict=True)):
        left, bottom = place % columns * width, 1 - (place // columns + 1) * height
        share = 0.7 if long else 0.82
        picture = ax.inset_axes((left, bottom, (0.4 if long else 0.46) * width, share * height))
        picture.imshow(image, cmap="gray_r", interpolation="nearest")
        picture.set_anchor("NW")
        picture.set_xticks([])
        picture.set_yticks([])
        picture.spines[:].set_color("#CCCCCC")

        top = np.argsort(-row, kind="stable")[:3]
        true = None if truth is None else truth[place].item()
        if true in names and names.index(true) not in top:
            top[-1] = names.index(true)
        if long:
            frame = (left + 0.45 * width, bottom, 0.5 * width, share * height)
        else:
            frame = (left + 0.57 * width, bottom + 0.06 * height, 0.34 * width, 0.7 * height)
        _bars(ax.inset_axes(frame), row[top], [texts[k] for k in top], [
            None if true is None else names[k] == true for k in top
        ], long)  # fmt: skip

        found = names[int(top[0])]
        shown, other = _text(found if true is None else true), _text(found)
        if true is None:
            title, color = shown, None
        elif found == true:
            title, color = f"{shown} ✓", BLUE
        else:
            title, color = f"{shown}{chr(10) if long else ' '}taken for {other} ✗", ORANGE
        style: dict[str, Any] = {"color": color} if color else {}
        picture.set_title(title, loc="left", fontsize=9 if long else 10, pad=3, **style)
    return ax


def _bars(
    ax: Axes, shares: np.ndarray, names: list[str], right: list[bool | None], long: bool
) -> None:
    """Draw a bar for each class: the true one blue and bold, others orange, unknown ones grey."""
    colors = [GREY if r is None else BLUE if r else ORANGE for r in right]
    weights = ["bold" if r else "normal" for r in right]
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
