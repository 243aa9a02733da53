"""Confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .style import BLUE, ORANGE, _figure, _ramp, _text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


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
