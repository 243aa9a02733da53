"""Plots of a regression: predictions, residuals and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .style import given_or_new, label_axes, styled, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


@styled
def predicted_against_true(
    y_true: ArrayLike, y_pred: ArrayLike, ax: Axes | None = None, style: str | None = None
) -> Axes:
    """Draw the predicted value over the true value of each row; the diagonal is exact.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        True and predicted values of one target.
    ax : Axes, optional
        Where to draw.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of what is drawn in `ax`. By default they suit the background.

    Returns
    -------
    Axes
        Its title has R² and the mean absolute error (MAE).

    Raises
    ------
    ValueError
        If the lengths differ, there is no row, or there is more than one target.
    ImportError
        If matplotlib is not installed.
    """
    true, predicted = _finite_values(y_true, y_pred)
    ax = given_or_new(ax, 4.4, 4.2)
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    ax.plot(ends, ends, ":", color=theme().orange, label="exact")
    ax.plot(true, predicted, linestyle="", color=theme().blue, **_points(len(true)))
    label_axes(ax, "true value", "predicted value")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    mae = np.abs(predicted - true).mean()
    r2 = _r2(true, predicted)
    ax.set_title(f"R² {r2:.3f}, MAE {mae:.3g}, {len(true):,} rows", fontsize="medium")
    return ax


@styled
def residuals(
    y_true: ArrayLike, y_pred: ArrayLike, ax: Axes | None = None, style: str | None = None
) -> Axes:
    """Draw the residual (true − predicted) of each row over its predicted value.

    The residuals of a good model have no pattern around 0; a slope, a bend or a funnel shows
    something that the model has not learned.

    Parameters
    ----------
    y_true, y_pred, ax, style
        As in :func:`predicted_against_true`.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError, ImportError
        As :func:`predicted_against_true`.
    """
    true, predicted = _finite_values(y_true, y_pred)
    ax = given_or_new(ax, 4.4, 4.2)
    ax.axhline(0, color=theme().orange, linestyle=":")
    ax.plot(predicted, true - predicted, linestyle="", color=theme().blue, **_points(len(true)))
    label_axes(ax, "predicted value", "residual: true − predicted")
    return ax


@styled
def error_histogram(
    y_true: ArrayLike, y_pred: ArrayLike, ax: Axes | None = None, style: str | None = None
) -> Axes:
    """Draw the distribution of the residuals (true − predicted), with their mean.

    Parameters
    ----------
    y_true, y_pred, ax, style
        As in :func:`predicted_against_true`.

    Returns
    -------
    Axes
        Its title has the mean and the standard deviation of the residuals.

    Raises
    ------
    ValueError, ImportError
        As :func:`predicted_against_true`.
    """
    true, predicted = _finite_values(y_true, y_pred)
    ax = given_or_new(ax, 4.4, 3.6)
    errors = true - predicted
    ax.hist(errors, bins=histogram_bins(len(errors)), color=theme().blue, alpha=0.85)
    ax.axvline(0, color=theme().orange, linestyle=":", label="exact")
    ax.axvline(errors.mean(), color=theme().ink, linestyle="--", label="mean")
    label_axes(ax, "residual: true − predicted", "rows")
    ax.legend(frameon=False, fontsize="small")
    ax.set_title(f"mean {errors.mean():.3g}, deviation {errors.std():.3g}", fontsize="medium")
    return ax


def _finite_values(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of one target as float64 (n,), without rows that are not finite."""
    found = []
    for argument, given in (("y_true", y_true), ("y_pred", y_pred)):
        try:
            values = np.asarray(given, dtype=float)
        except (TypeError, ValueError):
            kind = np.asarray(given, dtype=object).ravel()[:1].tolist()
            raise ValueError(
                f"{argument}: found values such as {kind[0]!r}, expected numbers, one for each row"
            ) from None
        if values.ndim == 0 or values.size != len(values):
            raise ValueError(
                f"{argument}: found shape {values.shape}, expected (n,): one target; of several "
                "take a column"
            )
        found.append(values.ravel())
    true, predicted = found
    if len(true) != len(predicted):
        raise ValueError(
            f"y_pred: found {len(predicted)} values for {len(true)} true ones, expected the same "
            "number"
        )
    finite = np.isfinite(true) & np.isfinite(predicted)
    if not finite.any():
        raise ValueError("y_true: found no row with finite values, expected at least one")
    return true[finite], predicted[finite]


def _r2(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)²; NaN if all true values are equal."""
    total = ((true - true.mean()) ** 2).sum()
    return float(1 - ((true - predicted) ** 2).sum() / total) if total else float("nan")


def histogram_bins(rows: int) -> int:
    """Return the number of bins: about twice the cube root of the rows, as Rice's rule."""
    return int(np.clip(2 * np.cbrt(rows), 5, 60))


def _points(rows: int) -> dict[str, Any]:
    """Return size and opacity of points: many overlap."""
    alpha = float(np.clip(30 / np.sqrt(rows), 0.08, 0.8))
    return {"marker": "o", "ms": 4 if rows < 5000 else 2, "alpha": alpha, "mew": 0}
