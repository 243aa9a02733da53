"""Pictures of a training run, drawn with matplotlib (the extra ``plots``).

Every function draws on the Axes it is given and returns it. Given none, it makes a figure of its
own: in a notebook, or where the caller has imported ``matplotlib.pyplot``, one that ``plt.show()``
knows; elsewhere a bare ``Figure``, which needs no display and is closed with its last reference.

Colours can be told apart by people with any kind of colour blindness, and nothing is said by colour
alone: lines differ in their dashes, bars and images in their labels, so that they survive a printer
without colours.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

# Okabe and Ito (2008): told apart by people with any kind of colour blindness.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8C8C8C"
# Their palette without the yellow, which is lost on white.
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00")
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^DvPX*"


def learning_curves(history: Any, ax: Axes | Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """Draw loss and accuracy over the epochs, for training and validation.

    Parameters
    ----------
    history : History or Network
        What ``fit`` returned, or a trained network.
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
    history = _history(history)
    curves = _curves(history)
    has_accuracy = np.isfinite(curves["accuracy"]).any()
    panels = ["loss", "accuracy"] if has_accuracy else ["loss"]
    axes = _panels(ax, len(panels))
    for target, panel in zip(axes, panels, strict=False):  # one Axes takes the loss alone
        scale = 100.0 if panel == "accuracy" else 1.0
        for name, role, color, dashes in (
            (panel, "training", BLUE, "-"),
            (f"validation_{panel}", "validation", ORANGE, "--"),
        ):
            values = curves[name] * scale
            if not np.isfinite(values).any():
                continue
            last = values[-1]
            label = f"{role} ({_figure_of(last, panel)})" if np.isfinite(last) else role
            target.plot(
                history.epoch, values, dashes, color=color, label=label,
                marker="o", markevery=[-1], ms=5,
            )  # fmt: skip
        _finish_curves(target, panel)
        if target.get_lines():
            target.legend(frameon=False)
    return tuple(axes[: len(panels)])


def comparison(
    runs: Mapping[str, Any] | Sequence[Any],
    measure: str = "loss",
    ax: Axes | Sequence[Axes] | None = None,
) -> tuple[Axes, ...]:
    """Draw the curves of several runs, training on the left and validation on the right.

    Runs are told apart by colour, dashes and the mark on their last epoch; eight stay readable.

    Parameters
    ----------
    runs : mapping of str to History or Network, or sequence of them
        What to compare, by label; in a sequence they are called ``run 1``, ``run 2``, ….
    measure : {"loss", "accuracy"}
        What to compare.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes takes the training curves alone.

    Returns
    -------
    tuple of Axes
        Training and, if any run was validated, validation, on one scale. The last one holds the
        legend, with each run's last figure: that of the validation if it has one.

    Raises
    ------
    ValueError
        If there is no run, a run has no epoch or none with this measure, the measure is unknown, or
        `ax` is neither one Axes nor two.
    ImportError
        If matplotlib is not installed.
    """
    if measure not in ("loss", "accuracy"):
        raise ValueError(f"measure: found {measure!r}, expected 'loss' or 'accuracy'")
    if not isinstance(runs, Mapping):
        runs = {f"run {k}": run for k, run in enumerate(runs, 1)}
    if not runs:
        raise ValueError("runs: found none, expected at least one")
    found = {}
    for label, run in runs.items():
        history = _history(run, f"runs[{label!r}]")
        curves = _curves(history)
        if measure == "accuracy" and all(v is None for v in history.accuracy):
            raise ValueError(
                f"runs[{label!r}]: found no accuracy, expected one; use measure='loss'"
            )
        found[label] = history.epoch, curves[measure], curves[f"validation_{measure}"]
    validated = any(np.isfinite(values).any() for _, _, values in found.values())
    axes = _panels(ax, 1 + validated, legend=True)
    lines, labels, all_validated = [], [], True
    scale = 100.0 if measure == "accuracy" else 1.0
    for k, (label, (epochs, *both)) in enumerate(found.items()):
        style: dict[str, Any] = {
            "color": COLORS[k % len(COLORS)],
            "linestyle": DASHES[k % len(DASHES)],
            "marker": MARKERS[k % len(MARKERS)],
        }
        for target, values in zip(axes, both, strict=False):
            (line,) = target.plot(epochs, scale * values, markevery=[-1], ms=6, lw=1.6, **style)
            if target is axes[0]:
                lines.append(line)
        # The last figure that is drawn: with one Axes, that of training.
        shown = [values[-1] for values in both[: len(axes)]]
        last = shown[-1] if np.isfinite(shown[-1]) else shown[0]
        all_validated &= bool(np.isfinite(shown[-1]))
        labels.append(f"{_text(label)} ({_figure_of(scale * last, measure)})")
    for target, title in zip(axes, ("training", "validation"), strict=False):
        _finish_curves(target, measure)
        target.set_title(title)
    _one_scale(axes)
    # A run without validation shows its last figure of training.
    every = len(axes) > 1 and all_validated
    heading = f"last {'validation ' if every else ''}{measure} in brackets"
    for target in axes[1:]:
        target.set_ylabel("")
    _legend(axes[-1], lines, labels, ax is None, heading)
    return tuple(axes)


def norms(norms: Any, ax: Axes | Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """Draw the norms of weights and gradients of every layer over the updates.

    A gradient that shrinks from the last layer to the first, or weights that grow without end, are
    seen here before the loss tells of them.

    Parameters
    ----------
    norms : Norms
        The callback :class:`pynn.Norms` after training with it.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes takes the gradients alone.

    Returns
    -------
    tuple of Axes
        The gradients and the weights. The last one holds the legend.

    Raises
    ------
    ValueError
        If nothing has been recorded, or `ax` is neither one Axes nor two.
    ImportError
        If matplotlib is not installed.
    """
    if not norms.updates:
        raise ValueError("norms: found nothing recorded, expected it in callbacks of a call of fit")
    axes = _panels(ax, 2, legend=True)
    layers = len(norms.weights)
    shades = _shades(layers)
    names = [f"layer {k + 1}: {a} → {b}" for k, (a, b) in enumerate(pairwise(norms.sizes))]
    lines: list[Any] = []
    panels = (norms.gradients, "gradient, L2 norm"), (norms.weights, "weights, L2 norm")
    for target, (columns, title) in zip(axes, panels, strict=False):
        drawn = []
        for k, values in enumerate(columns):
            drawn += target.plot(
                norms.updates, values, DASHES[k % len(DASHES)], color=shades[k], lw=1.6,
                marker=MARKERS[k % len(MARKERS)], markevery=[-1], ms=5,
            )  # fmt: skip
        lines = lines or drawn
        _log_if_wide(target)
        _tidy(target, "updates", title)
    _legend(axes[-1], lines, names, ax is None)
    return tuple(axes)


def _history(run: Any, argument: str = "history") -> Any:
    """Return the history of a network, or the history given, if it holds an epoch."""
    found = getattr(run, "history", run)
    if not hasattr(found, "validation_loss"):
        raise TypeError(f"{argument}: found a {type(run).__name__}, expected a History or Network")
    if not len(found.loss):
        raise ValueError(f"{argument}: found no epoch, expected at least one; call fit first")
    return found


def _curves(history: Any) -> dict[str, np.ndarray]:
    """Return what was measured as float64, NaN where it was not."""
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    return {name: np.asarray(getattr(history, name), dtype=float) for name in names}


def _figure_of(value: float, measure: str) -> str:
    return f"{value:.2f} %" if measure == "accuracy" else f"{value:.3g}"


def _panels(ax: Axes | Sequence[Axes] | None, count: int, legend: bool = False) -> list[Axes]:
    """Return the Axes given, or `count` new ones side by side."""
    if ax is None:
        figure = _figure(4.6 * count + (1.8 if legend else 0), 3.4)
        return [figure.add_subplot(1, count, i + 1) for i in range(count)]
    axes = list(ax) if isinstance(ax, (Sequence, np.ndarray)) else [ax]
    if len(axes) not in (1, 2):
        raise ValueError(f"ax: found {len(axes)} Axes, expected one or two")
    return axes[:count]


def _log_if_wide(ax: Axes) -> None:
    drawn = np.concatenate([line.get_ydata() for line in ax.get_lines()] or [np.empty(0)])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn) and drawn.max() > 30 * drawn.min():
        ax.set_yscale("log")


def _one_scale(axes: Sequence[Axes]) -> None:
    if any(ax.get_yscale() == "log" for ax in axes):
        for ax in axes:
            ax.set_yscale("log")
    low, high = zip(*(ax.get_ylim() for ax in axes), strict=True)
    left, right = zip(*(ax.get_xlim() for ax in axes), strict=True)
    for ax in axes:
        ax.set_ylim(min(low), max(high))
        ax.set_xlim(min(left), max(right))


def _finish_curves(ax: Axes, measure: str) -> None:
    from matplotlib.ticker import MaxNLocator

    if measure == "loss":
        _log_if_wide(ax)
    if not any(np.isfinite(line.get_ydata()).any() for line in ax.get_lines()):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no finite value", ha="center", va="center", transform=ax.transAxes)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _tidy(ax, "epoch", "accuracy (%)" if measure == "accuracy" else "loss")


def _tidy(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(
    ax: Axes, lines: list[Any], labels: list[str], outside: bool, title: str | None = None
) -> None:
    """Explain the lines, beside the last panel of a figure of our own."""
    where: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)} if outside else {}
    found = ax.legend(
        lines, labels, frameon=False, handlelength=3.2, title=title, alignment="left", **where
    )
    found.get_title().set_fontsize("small")


def _shades(count: int) -> list[Any]:
    """Return colours from dark to light, all seen on white."""
    import matplotlib

    ramp = matplotlib.colormaps["viridis"]
    return [ramp(0.8 * k / max(1, count - 1)) for k in range(count)]


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
    Colours show rates, shares of the row; numbers show counts or, normalized, rates in percent.
    More than 30 classes get no numbers, and more than 60 not all of their names.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        True and predicted labels, of any type that can be compared.
    classes : array_like, optional
        The classes in order. By default all that occur, sorted.
    normalize : bool, default False
        Write rates, in percent of the row, instead of counts.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the labels differ in number, are none or more than one in a row, or lie outside
        `classes`.
    ImportError
        If matplotlib is not installed.
    """
    for argument, given in (("y_true", y_true), ("y_pred", y_pred)):
        shape = np.shape(given)
        if len(shape) > 1 and max(shape) != np.size(given):
            raise ValueError(
                f"{argument}: found shape {shape}, expected one label for each row; of one-hot "
                "rows or probabilities take argmax(axis=1)"
            )
    true, predicted = np.asarray(y_true).ravel(), np.asarray(y_pred).ravel()
    if len(true) != len(predicted) or not len(true):
        raise ValueError(
            f"y_pred: found {len(predicted)} labels for {len(true)} true ones, "
            "expected as many, and at least one"
        )
    for argument, labels in (("y_true", true), ("y_pred", predicted)):
        if labels.dtype.kind == "f" and not (labels == np.trunc(labels)).all():
            raise ValueError(
                f"{argument}: found numbers that are not whole, expected labels; a regression has "
                "no classes to confuse"
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
    named = range(0, n, -(-n // 60))
    texts = [_text(names[k]) for k in named]
    ax.set_xticks(named, texts)
    ax.set_yticks(named, texts)
    ax.tick_params(labelsize=10 if n <= 30 else 8)
    if max(map(len, texts)) > 3 or n > 30:
        ax.tick_params(axis="x", rotation=90)
    if n <= 60:
        ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="#E4E4E4", linewidth=0.6)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(n > 60)
    ax.spines[:].set_color("#E4E4E4")
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    wrong = int(counts[~right].sum())
    title = f"{100 * (1 - wrong / len(true)):.2f} % right, {wrong:,} of {len(true):,} wrong"
    ax.set_title(f"{title}\npercent of each true class" if normalize else title)
    if wrong:
        bar = ax.figure.colorbar(errors, ax=ax, shrink=0.7, pad=0.02, aspect=25)
        bar.set_label("mistaken for it, share of true class" if n > 4 else "mistaken for it")
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
    shown = "matplotlib.pyplot" in sys.modules or (ipython and ipython.get_ipython())
    if shown and not _for_files.get():
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(width, height), layout="constrained")
    return Figure(figsize=(width, height), layout="constrained")


def _ramp(*colors: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("-".join(colors), colors)


def _text(name: object, most: int = 24) -> str:
    """Return a name as matplotlib can draw it: on one line, cut to so many signs, no formula."""
    # A label from a stranger's file may hold what is no sign at all.
    text = files.shown(" ".join(str(name).split()), 1000)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


_for_files: ContextVar[bool] = ContextVar("_for_files", default=False)


@contextlib.contextmanager
def for_files() -> Iterator[None]:
    """Draw with matplotlib's own settings, dark on white, but in the user's fonts.

    What is right in a user's notebook can be wrong on paper and on a page. ``pyplot`` never hears
    of these figures, and so neither shows nor keeps them.
    """
    require()
    import matplotlib

    settings: Any = matplotlib.rcParams
    fonts = {k: settings[k] for k in settings if k.startswith("font.") and k != "font.size"}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings.update(fonts)
        token = _for_files.set(True)
        try:
            yield
        finally:
            _for_files.reset(token)


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


def _names(model: Any, n: int, classes: ArrayLike | None) -> list[Any]:
    classes = getattr(model, "classes", None) if classes is None else classes
    names = list(range(n)) if classes is None else np.asarray(classes).tolist()
    if len(names) != n:
        raise ValueError(f"classes: found {len(names)}, expected {n}, one for each probability")
    return names


def percent(share: float) -> str:
    """Return a share in percent with one decimal, never rounded to nothing or to all."""
    if math.isnan(share):
        return "NaN"
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
