"""The calibration curve: whether predictions of 80 % are right in 80 % of cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .classes import class_indices
from .models import are_probabilities
from .style import given_or_new, label_axes, styled, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


class Calibration(NamedTuple):
    """Predicted and observed shares of the rows in each bin that has any.

    Parameters
    ----------
    predicted
        Mean probability of the rows of each bin.
    observed
        Share of these rows where the predicted event happened.
    rows
        Number of rows of each bin.
    error
        Expected calibration error: mean of |observed − predicted|, weighted by rows.
    binary
        Whether the event is the second of two classes, and not that the predicted class is right.
    """

    predicted: np.ndarray
    observed: np.ndarray
    rows: np.ndarray
    error: float
    binary: bool

    @property
    def bias(self) -> float:
        """Mean of predicted − observed, weighted by rows: above 0 for too high probabilities."""
        return float(np.average(self.predicted - self.observed, weights=self.rows))


def calibration_of(
    y_true: ArrayLike, probabilities: ArrayLike, classes: ArrayLike | None = None, bins: int = 10
) -> Calibration:
    """Return predicted and observed shares in bins of equal width.

    The event is the second class if there are two, and otherwise that the most probable class is
    the true one, as in Guo et al. (2017), On Calibration of Modern Neural Networks.

    Parameters
    ----------
    y_true, probabilities, classes, bins
        As in :func:`calibration`.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    table = np.asarray(probabilities, float)
    labels = np.asarray(y_true).ravel()
    if table.ndim == 1:
        table = np.stack([1 - table, table], axis=1)
    if table.ndim != 2 or table.shape[1] < 2 or len(table) != len(labels) or not len(labels):
        raise ValueError(
            f"probabilities: found shape {np.shape(probabilities)} for {len(labels)} labels, "
            "expected a row for each label, at least one, with a probability for each class"
        )
    if not np.isfinite(table).all() or not are_probabilities(table):
        raise ValueError(
            "probabilities: found rows that are not in [0, 1] or do not sum to 1, expected the "
            "output of predict_proba"
        )
    if bins < 1:
        raise ValueError(f"bins: found {bins}, expected 1 or more")
    names = list(range(table.shape[1])) if classes is None else np.asarray(classes).tolist()
    try:
        truth = class_indices(labels, names, "y_true")
    except ValueError as unknown:
        if classes is not None:
            raise
        text = f"{unknown}, which are 0 to {len(names) - 1} without classes=net.classes"
        raise ValueError(text) from None
    binary = table.shape[1] == 2
    if binary:
        shares, events = table[:, 1], truth == 1
    else:
        shares, events = table.max(axis=1), table.argmax(axis=1) == truth
    place = np.minimum((shares * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    used = np.flatnonzero(rows)
    predicted = np.bincount(place, shares, bins)[used] / rows[used]
    observed = np.bincount(place, events, bins)[used] / rows[used]
    error = float(np.average(np.abs(observed - predicted), weights=rows[used]))
    return Calibration(predicted, observed, rows[used], error, binary)


@styled
def calibration(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    classes: ArrayLike | None = None,
    bins: int = 10,
    ax: Axes | None = None,
    style: str | None = None,
) -> Axes:
    """Draw how often predictions of a probability come true.

    Points on the diagonal are calibrated: of the predictions of 80 %, 80 % are right. Points below
    it are overconfident. With two classes the points show the probability of the second class; with
    more, the probability of the predicted class, which is right or wrong. The area of a point shows
    its number of rows.

    Parameters
    ----------
    y_true : array_like, shape (n,)
        True labels.
    probabilities : array_like, shape (n, n_classes) or (n,)
        The output of ``predict_proba``, or (n,) for the second of two classes.
    classes : array_like, optional
        The label of each column, such as ``net.classes``. By default 0, 1, 2, ….
    bins : int, default 10
        Number of bins of equal width in [0, 1].
    ax : Axes, optional
        Where to draw.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of what is drawn in `ax`. By default they suit the background.

    Returns
    -------
    Axes
        Its title has the expected calibration error, the mean distance from the diagonal, weighted
        by rows.

    Raises
    ------
    ValueError
        If lengths differ, a label is not one of the classes, or rows do not sum to 1.
    ImportError
        If matplotlib is not installed.
    """
    found = calibration_of(y_true, probabilities, classes, bins)
    ax = given_or_new(ax, 4.2, 4.2)
    colors = theme()
    ax.plot([0, 1], [0, 1], ":", color=colors.faint, label="calibrated")
    ax.plot(found.predicted, found.observed, "-", color=colors.blue, lw=1.4)
    sizes = 12 + 188 * found.rows / found.rows.max()
    ax.scatter(
        found.predicted, found.observed, s=sizes, color=colors.blue, alpha=0.75, zorder=3,
        label="bin; its area shows its rows",
    )  # fmt: skip
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_aspect("equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
    what = "second class" if found.binary else "predicted class"
    label_axes(ax, f"predicted probability of the {what}", "observed share")
    ax.legend(frameon=False, fontsize="small", loc="best")
    title = f"calibration error {100 * found.error:.2g} %"
    if not found.binary and abs(found.bias) > 0.5 * found.error:
        title += f", {'over' if found.bias > 0 else 'under'}confident"
    ax.set_title(title, fontsize="medium")
    return ax
