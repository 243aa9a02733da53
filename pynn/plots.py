"""Pictures of a training run, drawn with matplotlib (the extra ``plots``).

Every function draws on the Axes it is given and returns it. Given none, it makes a figure of its
own: in a notebook, or where the caller has imported ``matplotlib.pyplot``, one that ``plt.show()``
knows; elsewhere a bare ``Figure``, which needs no display and is closed with its last reference.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

# Okabe and Ito (2008): told apart by people with any kind of colour blindness.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8C8C8C"


def learning_curves(history: Any, ax: Axes | Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """Draw loss and accuracy over the epochs, for training and validation.

    Parameters
    ----------
    history : History
        What ``fit`` returned, or ``net.history``.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes takes the loss alone, two take the loss and the accuracy.

    Returns
    -------
    tuple of Axes
        The loss and, where there is an accuracy, the accuracy (in percent).

    Raises
    ------
    ValueError
        If the history holds no epoch, or `ax` is neither one Axes nor two.
    ImportError
        If matplotlib is not installed.
    """
    curves = {
        name: np.asarray(getattr(history, name), dtype=float)
        for name in ("loss", "accuracy", "validation_loss", "validation_accuracy")
        if getattr(history, name) is not None
    }
    if not len(curves["loss"]):
        raise ValueError("history: found no epoch, expected at least one; call fit first")
    panels = [p for p in ("loss", "accuracy") if np.isfinite(curves.get(p, np.empty(0))).any()]
    if ax is None:
        figure = _figure(4.6 * len(panels), 3.4)
        axes = [figure.add_subplot(1, len(panels), i + 1) for i in range(len(panels))]
    else:
        axes = list(ax) if isinstance(ax, (Sequence, np.ndarray)) else [ax]
        if len(axes) not in (1, 2):
            raise ValueError(f"ax: found {len(axes)} Axes, expected one or two")
    for target, panel in zip(axes, panels, strict=False):  # one Axes takes the loss alone
        _curve_panel(target, panel, history.epoch, curves)
    return tuple(axes[: len(panels)])


def _curve_panel(
    ax: Axes, panel: str, epochs: Sequence[int], curves: dict[str, np.ndarray]
) -> None:
    from matplotlib.ticker import MaxNLocator

    scale = 100.0 if panel == "accuracy" else 1.0
    for name, role, color in (
        (panel, "training", BLUE),
        (f"validation_{panel}", "validation", ORANGE),
    ):
        values = curves.get(name, np.empty(0)) * scale
        if not np.isfinite(values).any():
            continue
        last = f"{values[-1]:.2f} %" if panel == "accuracy" else f"{values[-1]:.3g}"
        label = f"{role} ({last})" if np.isfinite(values[-1]) else role
        ax.plot(epochs, values, color=color, label=label, marker="o", markevery=[-1], ms=5)
    drawn = np.concatenate([line.get_ydata() for line in ax.get_lines()])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if panel == "loss" and len(drawn) and drawn.max() > 30 * drawn.min():
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel("accuracy (%)" if panel == "accuracy" else "loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)


def confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    classes: ArrayLike | None = None,
    normalize: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class was taken for each other.

    Rows are the true classes, columns the predicted ones. The diagonal is blue, the mistakes are
    orange and scaled for themselves, so that rare ones stay visible beside thousands of right ones.
    Colours show shares of the row, numbers show counts or, normalized, percent of the row.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        True and predicted labels, of any type that can be compared.
    classes : array_like, optional
        The classes in order. By default all that occur, sorted.
    normalize : bool, default False
        Write percent of the row instead of counts.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the labels differ in number, are none, or lie outside `classes`.
    ImportError
        If matplotlib is not installed.
    """
    true, predicted = np.asarray(y_true).ravel(), np.asarray(y_pred).ravel()
    if len(true) != len(predicted) or not len(true):
        raise ValueError(
            f"y_pred: found {len(predicted)} labels for {len(true)} true ones, "
            "expected as many, and at least one"
        )
    names = np.unique(np.concatenate([true, predicted])) if classes is None else np.asarray(classes)
    index = {name: k for k, name in enumerate(names.tolist())}
    counts = np.zeros((len(names), len(names)), int)
    for argument, labels in (("y_true", true), ("y_pred", predicted)):
        outside = set(labels.tolist()) - index.keys()
        if outside:
            raise ValueError(
                f"{argument}: found {min(outside, key=str)!r}, expected one of the classes"
            )
    rows = [index[v] for v in true.tolist()]
    columns = [index[v] for v in predicted.tolist()]
    np.add.at(counts, (rows, columns), 1)

    n = len(names)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(n, dtype=bool)
    if ax is None:
        side = float(np.clip(0.52 * n, 3.6, 14))
        ax = _figure(side + 1.3, side + 0.8).add_subplot()
    worst = float(rates[~right].max(initial=0.0)) or 1.0
    ax.imshow(np.where(right, rates, np.nan), cmap=_ramp("#FFFFFF", BLUE), vmin=0, vmax=1)
    errors = ax.imshow(
        np.where(right, np.nan, rates), cmap=_ramp("#FFFFFF", ORANGE), vmin=0, vmax=worst
    )
    ax.set_xticks(range(n), [str(c) for c in names])
    ax.set_yticks(range(n), [str(c) for c in names])
    if max(len(str(c)) for c in names) > 3:
        ax.tick_params(axis="x", rotation=90)
    ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="#E4E4E4", linewidth=0.6)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    wrong = int(counts[~right].sum())
    ax.set_title(f"{100 * (1 - wrong / len(true)):.2f} % right, {wrong:,} of {len(true):,} wrong")
    if wrong:
        bar = ax.figure.colorbar(errors, ax=ax, shrink=0.6, pad=0.02)
        bar.set_label("mistaken for, share of the true class")
        bar.ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
        bar.outline.set_visible(False)
    if n <= 30:
        _cell_texts(ax, counts, rates, normalize)
    return ax


def _cell_texts(ax: Axes, counts: np.ndarray, rates: np.ndarray, normalize: bool) -> None:
    n = len(counts)
    size = 9.0 * min(1.0, 26 / n)
    for i in range(n):
        for j in range(n):
            if normalize:
                text = f"{100 * rates[i, j]:.1f}" if counts[i, j] else "0"
            else:
                text = str(counts[i, j])
            # Black reads better than white on every shade of the orange.
            color = "black" if counts[i, j] else "#B0B0B0"
            if i == j and rates[i, j] > 0.5:
                color = "white"
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=size)


def predictions(
    model: Any,
    x: np.ndarray,
    y: ArrayLike | None = None,
    count: int = 12,
    classes: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw sample images with the probabilities that the network gives them.

    The samples lie evenly over the rows of `x`. Each shows its three most probable classes (the
    true one in place of the third if it is not among them), blue for the true class, and a title
    that says what was taken for what.

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
    rows = np.unique(np.linspace(0, len(images) - 1, max(1, count)).round().astype(int))
    if hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(x[rows])
    else:
        probabilities = _probabilities(model, len(images))[rows]
    names = _names(model, probabilities.shape[1], classes)
    truth = None if labels is None else labels[rows]
    ax = _tiles(images[rows], probabilities, names, truth, ax)
    ax.set_title(f"{len(rows)} of {len(images):,} images")
    return ax


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
    if hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(x)
    else:
        probabilities = _probabilities(model, len(images))
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


def first_layer_weights(net: Any, count: int = 100, ax: Axes | None = None) -> Axes:
    """Draw the weights that lead to each unit of the first layer as an image.

    Shown are the units with the largest weights (Euclidean norm), in falling order. Blue weights
    speak for a lit pixel, red ones against it; all share one scale, which ends at the 99.8th
    percentile of their size.

    Parameters
    ----------
    net : Network
        A network with a square number of inputs.
    count : int, default 100
        How many units to show, at most.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the number of inputs is no square number.
    ImportError
        If matplotlib is not installed.
    """
    weights = np.asarray(net.weights[0], dtype=float)
    tiles = _images(weights.T, "net.weights[0].T")
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[: max(1, count)]
    columns = int(np.ceil(np.sqrt(len(order))))
    lines = -(-len(order) // columns)
    height, width = tiles.shape[1:]
    sheet = np.full((lines * (height + 2) - 2, columns * (width + 2) - 2), np.nan)
    for place, unit in enumerate(order):
        top, left = place // columns * (height + 2), place % columns * (width + 2)
        sheet[top : top + height, left : left + width] = tiles[unit]
    limit = float(np.percentile(np.abs(tiles[order]), 99.8)) or 1.0
    if ax is None:
        side = float(np.clip(0.62 * columns, 3.0, 9.0))
        ax = _figure(side + 1.0, side * lines / columns + 0.25).add_subplot()
    shown = ax.imshow(sheet, cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_axis_off()
    units = weights.shape[1]
    few = f"the {len(order)} of {units} units with the largest weights"
    ax.set_title(f"first layer, {few if units > len(order) else f'all {units} units'}")
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.6, pad=0.02, extend="both")
    bar.set_label("weight")
    bar.outline.set_visible(False)
    return ax


# --- What they share ------------------------------------------------------------------------------


def require() -> None:
    """Raise an ImportError that says what to install if matplotlib is not there."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib, which is not there ({error}): pip install 'pynn-mlp[plots]'"
        ) from error


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches."""
    require()
    from matplotlib.figure import Figure

    ipython = sys.modules.get("IPython")
    if "matplotlib.pyplot" in sys.modules or (ipython and ipython.get_ipython()):
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(width, height), layout="constrained")
    return Figure(figsize=(width, height), layout="constrained")


def _ramp(start: str, end: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(f"{start}-{end}", [start, end])


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


def _labels(y: ArrayLike, n: int) -> np.ndarray:
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise ValueError(f"y: found shape {labels.shape}, expected ({n},), a label for each image")
    return labels


def _probabilities(model: Any, n: int) -> np.ndarray:
    probabilities = np.asarray(model, dtype=float)
    if probabilities.ndim != 2 or len(probabilities) != n:
        raise ValueError(
            f"model: found shape {probabilities.shape}, expected a network or probabilities "
            f"({n}, n_classes)"
        )
    return probabilities


def _names(model: Any, n: int, classes: ArrayLike | None) -> list[Any]:
    classes = getattr(model, "classes", None) if classes is None else classes
    names = list(range(n)) if classes is None else np.asarray(classes).tolist()
    if len(names) != n:
        raise ValueError(f"classes: found {len(names)}, expected {n}, one for each probability")
    return names


def percent(share: float) -> str:
    """Return a share in percent with one decimal, never rounded to nothing or to all."""
    if share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.9995 else "> 99.9 %"


def _tiles(
    images: np.ndarray,
    probabilities: np.ndarray,
    names: list[Any],
    truth: np.ndarray | None,
    ax: Axes | None,
) -> Axes:
    """Draw images with bars of their most probable classes, side by side."""
    columns = min(4, len(images))
    lines = -(-len(images) // columns)
    if ax is None:
        ax = _figure(2.6 * columns, 1.5 * lines + 0.35).add_subplot()
    ax.set_axis_off()
    width, height = 1 / columns, 1 / lines
    for place, (image, row) in enumerate(zip(images, probabilities, strict=True)):
        left, bottom = place % columns * width, 1 - (place // columns + 1) * height
        picture = ax.inset_axes((left, bottom, 0.46 * width, 0.82 * height))
        picture.imshow(image, cmap="gray_r", interpolation="nearest")
        picture.set_xticks([])
        picture.set_yticks([])
        picture.spines[:].set_color("#CCCCCC")

        top = np.argsort(-row, kind="stable")[:3]
        true = None if truth is None else truth[place].item()
        if true in names and names.index(true) not in top:
            top[-1] = names.index(true)
        colors = [GREY if true is None else BLUE if names[k] == true else ORANGE for k in top]
        bars = ax.inset_axes(
            (left + 0.57 * width, bottom + 0.06 * height, 0.34 * width, 0.7 * height)
        )
        bars.barh(range(len(top)), row[top], color=colors, height=0.62)
        bars.set_xlim(0, 1)
        bars.set_ylim(len(top) - 0.5, -0.5)
        bars.set_xticks([])
        bars.set_yticks(range(len(top)), [str(names[k]) for k in top])
        bars.tick_params(length=0, labelsize=9)
        bars.spines[["top", "right", "bottom"]].set_visible(False)
        for line, k in enumerate(top):
            inside = row[k] > 0.6
            bars.text(
                min(row[k], 1) - 0.04 if inside else row[k] + 0.04,
                line,
                percent(row[k]),
                ha="right" if inside else "left",
                va="center",
                fontsize=7.5,
                color=None if not inside else "white" if colors[line] == BLUE else "black",
            )
        found = names[int(top[0])]
        if true is None:
            title, color = str(found), None
        elif found == true:
            title, color = f"{true} ✓", BLUE
        else:
            title, color = f"{true} taken for {found} ✗", ORANGE
        style: dict[str, Any] = {"color": color} if color else {}
        picture.set_title(title, loc="left", fontsize=10, pad=3, **style)
    return ax
