"""The confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .style import BLUE, ORANGE, new_axes, plain_text, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

# More classes get no numbers in the cells.
_MOST_NUMBERS = 30
# More classes get no lines between the cells, and only this many names.
_MOST_NAMES = 60


def confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    classes: ArrayLike | None = None,
    normalize: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class was predicted for each true class.

    Rows are the true classes, columns the predicted ones. The diagonal is blue. Mistakes are orange
    with a colour scale of their own, so that rare mistakes stay visible beside thousands of correct
    predictions. Colours show rates (shares of the row); numbers show counts or, if normalized,
    rates in percent. With more than 30 classes no numbers are drawn, with more than 60 only some of
    the names.

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
    counts = np.zeros((n, n), int)
    rows = class_indices(true, names.tolist(), "y_true")
    columns = class_indices(predicted, names.tolist(), "y_pred")
    np.add.at(counts, (rows, columns), 1)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(n, dtype=bool)
    if ax is None:
        side = float(np.clip(0.52 * n, 3.6, 14))
        ax = new_axes(side + 1.3, side + 0.8)
    worst = float(rates[~diagonal].max(initial=0.0)) or 1.0
    ax.imshow(np.where(diagonal, rates, np.nan), cmap=ramp("#FFFFFF", BLUE), vmin=0, vmax=1)
    mistakes = ax.imshow(
        np.where(diagonal, np.nan, rates), cmap=ramp("#FFFFFF", ORANGE), vmin=0, vmax=worst
    )
    _label_cells(ax, names)
    wrong = int(counts[~diagonal].sum())
    title = f"{100 * (1 - wrong / len(true)):.2f} % right, {wrong:,} of {len(true):,} wrong"
    ax.set_title(f"{title}\npercent of each true class" if normalize else title)
    if wrong:
        bar = ax.figure.colorbar(mistakes, ax=ax, shrink=0.7, pad=0.02, aspect=25)
        bar.set_label("mistaken for it, share of true class" if n > 4 else "mistaken for it")
        bar.ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g} %")
        bar.outline.set_visible(False)
    if n <= _MOST_NUMBERS:
        _write_numbers(ax, counts, rates, normalize)
    return ax


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
        ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="#E4E4E4", linewidth=0.6)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(n > _MOST_NAMES)
    ax.spines[:].set_color("#E4E4E4")
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")


def _write_numbers(ax: Axes, counts: np.ndarray, rates: np.ndarray, normalize: bool) -> None:
    n = len(counts)
    size = 9.0 * min(1.0, 26 / n)
    for i in range(n):
        for j in range(n):
            if normalize:
                text = f"{100 * rates[i, j]:.1f}" if counts[i, j] else "0"
            else:
                text = str(counts[i, j])
            # Black is easier to read than white on every shade of the orange.
            color = "black" if counts[i, j] else "#B0B0B0"
            if i == j and rates[i, j] > 0.5:
                color = "white"
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=size)
