"""The confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .style import new_axes, paint, plain_text, ramp, styled, text_color_on, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

# The scale of the mistakes ends at this share of a row at least, so that a few look like a few.
LEAST_SCALE = 0.05
# Width of the columns "rows" and "recall", in cells.
_MARGIN = 1.75
# More classes get no numbers in the cells.
_MOST_NUMBERS = 30
# More classes get no lines between the cells, and only this many names.
_MOST_NAMES = 60


@styled
def confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    classes: ArrayLike | None = None,
    normalize: bool = False,
    ax: Axes | None = None,
    style: str | None = None,
) -> Axes:
    """Draw how often each class was predicted for each true class.

    Rows are the true classes, columns the predicted ones. The diagonal is blue. Mistakes are orange
    with a colour scale of their own, so that rare mistakes stay visible beside thousands of correct
    predictions; it ends at the largest share, but not below 5 %. Colours show rates (shares of the
    row); numbers show counts or, if normalized, rates in percent. In the margins are the number of
    rows and the recall of each true class, and the precision of each predicted class. With more
    than 30 classes no numbers are drawn, with more than 60 only some of the names.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        True and predicted labels of any type that can be compared.
    classes : array_like, optional
        The classes in order. By default all labels that occur, sorted.
    normalize : bool, default False
        Write rates, in percent of the row, instead of counts.
    ax : Axes, optional
        Where to draw.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of the matrix in `ax`. By default they suit the background.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If `y_true` and `y_pred` differ in length, are empty, have more than one label per row, or
        contain labels that are not in `classes`.
    ImportError
        If matplotlib is not installed.
    """
    true, predicted = _check_labels(y_true, y_pred)
    names = _sorted_labels(true, predicted) if classes is None else np.asarray(classes)
    n = len(names)
    counts = class_counts(
        class_indices(true, names.tolist(), "y_true"),
        class_indices(predicted, names.tolist(), "y_pred"),
        n,
    )
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(n, dtype=bool)
    numbered = n <= _MOST_NUMBERS
    if ax is None:
        side = float(np.clip(0.56 * n, 2.6, 14))
        ax = new_axes(side + (2.9 if numbered else 1.7), side + (1.5 if numbered else 1.0))
    colors = theme()
    worst = max(float(rates[~diagonal].max(initial=0.0)), LEAST_SCALE)
    right = ax.imshow(
        np.where(diagonal, rates, np.nan), cmap=ramp(colors.paper, colors.blue), vmin=0, vmax=1
    )
    mistakes = ax.imshow(
        np.where(diagonal, np.nan, rates), cmap=ramp(colors.paper, colors.orange), vmin=0,
        vmax=worst,
    )  # fmt: skip
    _label_cells(ax, names)
    wrong = int(counts[~diagonal].sum())
    title = f"{100 * (1 - wrong / len(true)):.2f} % right, {wrong:,} of {len(true):,} wrong"
    ax.set_title(f"{title}\npercent of each true class" if normalize else title)
    if numbered:
        ax.set_xlim(-0.5, n + _MARGIN)
        ax.set_ylim(n + 0.2, -1.1)
        _write_numbers(ax, (right, mistakes), counts, rates, normalize)
        _write_margins(ax, counts)
    if wrong:
        _add_color_bar(ax, mistakes, n)
    return ax


def _add_color_bar(ax: Axes, mistakes: Any, n: int) -> None:
    """Add a colour bar for the mistakes, as tall as the matrix of n classes."""
    (low, high), (left, right) = ax.get_ylim(), ax.get_xlim()
    place = (1.02, (low - n + 0.5) / (low - high), 0.28 / (right - left), n / (low - high))
    bar = ax.figure.colorbar(mistakes, cax=ax.inset_axes(place))
    bar.set_label("share of the row" if n > 4 else "share of row")
    bar.ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
    bar.outline.set_visible(False)
    paint(bar.ax)


def _sorted_labels(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    try:
        return np.unique(np.concatenate([true, predicted]))
    except TypeError:
        kinds = sorted({type(label).__name__ for a in (true, predicted) for label in a.tolist()})
        raise TypeError(
            f"y_true, y_pred: found labels of type {', '.join(kinds)}, which have no order; "
            "expected labels of one type, or classes=[…]"
        ) from None


def class_indices(labels: np.ndarray, names: list[Any], argument: str) -> np.ndarray:
    """Return the index in `names` of each label; raise a ValueError for other labels."""
    index = {name: k for k, name in enumerate(names)}
    found = labels.tolist()
    outside = set(found) - index.keys()
    if outside:
        raise ValueError(
            f"{argument}: found {min(outside, key=str)!r}, expected one of the classes"
        )
    return np.array([index[label] for label in found], int)


def class_counts(true: np.ndarray, predicted: np.ndarray, n: int) -> np.ndarray:
    """Return how often each of n classes (row) was predicted as each class (column); indices."""
    return np.bincount(true * n + predicted, minlength=n * n).reshape(n, n)


def _check_labels(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
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
            "expected the same number, at least one"
        )
    for argument, labels in (("y_true", true), ("y_pred", predicted)):
        if labels.dtype.kind == "f" and not (labels == np.trunc(labels)).all():
            raise ValueError(
                f"{argument}: found numbers with fractions, expected labels; values of a "
                "regression have no classes"
            )
    return true, predicted


def _label_cells(ax: Axes, names: np.ndarray) -> None:
    n = len(names)
    named = range(0, n, -(-n // _MOST_NAMES))
    texts = [plain_text(names[k]) for k in named]
    ax.set_xticks(named, texts)
    ax.set_yticks(named, texts)
    ax.tick_params(labelsize=10 if n <= _MOST_NUMBERS else 8)
    if max(map(len, texts)) > 3 or n > _MOST_NUMBERS:
        ax.tick_params(axis="x", rotation=90)
    if n <= _MOST_NAMES:
        for edge in np.arange(n + 1) - 0.5:
            ax.plot([edge, edge], [-0.5, n - 0.5], color=theme().line, lw=0.6, zorder=3)
            ax.plot([-0.5, n - 0.5], [edge, edge], color=theme().line, lw=0.6, zorder=3)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(n > _MOST_NAMES)
    ax.spines[:].set_color(theme().line)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")


def _write_numbers(
    ax: Axes, images: tuple[Any, Any], counts: np.ndarray, rates: np.ndarray, normalize: bool
) -> None:
    """Write the number of each cell, in the colour with the larger contrast to it."""
    n = len(counts)
    longest = 5 if normalize else len(f"{counts.max():,}")
    size = 9.0 * min(1.0, 26 / n, 5 / longest)
    for i in range(n):
        for j in range(n):
            if normalize:
                text = f"{100 * rates[i, j]:.1f}" if counts[i, j] else "0"
            else:
                text = f"{counts[i, j]:,}"
            image = images[0 if i == j else 1]
            color = text_color_on(image.cmap(image.norm(rates[i, j]))[:3])
            if not counts[i, j]:
                color = theme().faint
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=size)


def _write_margins(ax: Axes, counts: np.ndarray) -> None:
    """Write rows and recall of each true class, and precision of each predicted class."""
    n = len(counts)
    size = 8.0 * min(1.0, 28 / n)
    style: dict[str, Any] = {"fontsize": size, "color": theme().faint, "va": "center"}
    rows, columns, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    ends = n + 0.55, n + _MARGIN
    for x, head in zip(ends, ("rows", "recall"), strict=True):
        ax.text(x, -0.8, head, ha="right", **style)
    ax.text(-0.6, n - 0.1, "precision", ha="right", **style)
    for k in range(n):
        ax.text(ends[0], k, f"{rows[k]:,}", ha="right", **style)
        ax.text(ends[1], k, _share(right[k], rows[k]), ha="right", **style)
        ax.text(k, n - 0.1, _share(right[k], columns[k]), ha="center", **style)


def _share(part: int, whole: int) -> str:
    """Return a share in percent; 100 % only if nothing is missing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.0f} %" if part in (0, whole) else f"{min(max(share, 0.1), 99.9):.1f} %"
