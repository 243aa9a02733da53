"""Curves over epochs or updates: learning curves, comparisons of runs, norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .models import history_of
from .style import (
    BLUE,
    COLORS,
    DASHES,
    MARKERS,
    ORANGE,
    label_axes,
    new_figure,
    plain_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
"""Number of panels side by side."""

# --- Learning curves ------------------------------------------------------------------------------


def learning_curves(history: Any, ax: Axes | Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """Draw loss, accuracy and metrics over the epochs, for training and validation.

    Parameters
    ----------
    history : History, Network or estimator
        The return value of ``Network.fit``, a trained network, or a fitted estimator of
        ``pynn.sklearn``.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes for the loss, or more for the accuracy and the metrics too.

    Returns
    -------
    tuple of Axes
        The loss; if it was recorded, the accuracy (in percent); and each metric of ``fit``.

    Raises
    ------
    ValueError
        If the history is empty, or there are more Axes than values to draw (and more than two).
    ImportError
        If matplotlib is not installed.
    """
    history = history_of(history)
    measures = measures_of(history)
    axes = _panels(ax, len(measures), most=max(2, len(measures)))
    for panel, measure in zip(axes, measures, strict=False):  # one Axes takes only the loss
        for name, role, color, dashes in (
            (measure, "training", BLUE, "-"),
            (f"validation_{measure}", "validation", ORANGE, "--"),
        ):
            values = _values(history, name)
            if not np.isfinite(values).any():
                continue
            label = f"{role} ({_value_text(values[-1], measure)})"
            panel.plot(
                history.epoch, values, dashes, color=color,
                label=label if np.isfinite(values[-1]) else role,
                marker="o", markevery=[-1], ms=5,
            )  # fmt: skip
        _finish_curves(panel, measure)
        if panel.get_lines():
            panel.legend(frameon=False)
    return tuple(axes[: len(measures)])


def measures_of(history: Any) -> list[str]:
    """Return the values of a history that learning curves show, without ``validation_``."""
    has_accuracy = np.isfinite(_values(history, "accuracy")).any()
    metrics = dict.fromkeys(name.removeprefix("validation_") for name in history.metrics)
    return ["loss", *(["accuracy"] if has_accuracy else []), *metrics]


# --- Comparison of runs ---------------------------------------------------------------------------


def comparison(
    runs: Mapping[str, Any] | Sequence[Any],
    measure: str = "loss",
    ax: Axes | Sequence[Axes] | None = None,
) -> tuple[Axes, ...]:
    """Draw the curves of several runs, training on the left and validation on the right.

    Runs differ in colour, dashes and the marker at their last epoch. Up to eight runs are readable.

    Parameters
    ----------
    runs : mapping of str to History, Network or estimator, or sequence of them
        The runs to compare, by label. The runs of a sequence are labelled ``run 1``, ``run 2``, ….
    measure : str
        What to compare: ``"loss"``, ``"accuracy"`` or the name of a metric of ``fit``.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes takes only the training curves.

    Returns
    -------
    tuple of Axes
        Training and, if any run has validation data, validation, with the same axis limits. The
        last one holds the legend with the last value of each run: of the validation if the run has
        one, otherwise of the training.

    Raises
    ------
    ValueError
        If there are no runs, the history of a run is empty or lacks the measure, the measure is
        unknown, or `ax` is neither one Axes nor two.
    ImportError
        If matplotlib is not installed.
    """
    if not isinstance(runs, Mapping):
        runs = {f"run {k}": run for k, run in enumerate(runs, 1)}
    if not runs:
        raise ValueError("runs: found none, expected at least one")
    histories = {label: history_of(run, f"runs[{label!r}]") for label, run in runs.items()}
    _check_measure(measure, histories)
    found = [_compared(*run, measure) for run in histories.items()]
    validated = any(np.isfinite(run.curves[1]).any() for run in found)
    axes = _panels(ax, 1 + validated, legend=True)
    lines = []
    for k, run in enumerate(found):
        drawn = [
            panel.plot(run.epochs, values, lw=1.6, color=COLORS[k % len(COLORS)], **_look(k, 6))
            for panel, values in zip(axes, run.curves, strict=False)
        ]
        lines += drawn[0]
    # The last value that is drawn: with one Axes, that of the training.
    last = [[values[-1] for values in run.curves[: len(axes)]] for run in found]
    has_last = [bool(np.isfinite(values[-1])) for values in last]
    labels = [
        f"{plain_text(run.label)} ({_value_text(values[-1] if finite else values[0], measure)})"
        for run, values, finite in zip(found, last, has_last, strict=True)
    ]
    for panel, title in zip(axes, ("training", "validation"), strict=False):
        _finish_curves(panel, measure)
        panel.set_title(title)
    _share_limits(axes)
    for panel in axes[1:]:
        panel.set_ylabel("")
    # Some runs may lack validation data; then the legend mixes both kinds of values.
    kind = "validation " if len(axes) > 1 and all(has_last) else ""
    _add_legend(axes[-1], lines, labels, ax is None, f"last {kind}{measure} in brackets")
    return tuple(axes)


class _Compared(NamedTuple):
    """A run of a comparison."""

    label: str
    epochs: Any
    curves: tuple[np.ndarray, np.ndarray]
    """One measure, of training and validation."""


def _check_measure(measure: str, histories: Mapping[str, Any]) -> None:
    """Raise if a measure is unknown, or a run lacks it."""
    metrics = dict.fromkeys(name for h in histories.values() for name in measures_of(h)[1:])
    known = ["loss", *dict.fromkeys(["accuracy", *metrics])]
    if measure not in known:
        raise ValueError(
            f"measure: found {measure!r}, expected {', '.join(map(repr, known[:-1]))} or "
            f"{known[-1]!r}"
        )
    for label, history in histories.items():
        if measure != "loss" and measure not in measures_of(history):
            raise ValueError(
                f"runs[{label!r}]: found no {measure}, expected one; use measure='loss'"
            )


def _compared(label: str, history: Any, measure: str) -> _Compared:
    both = _values(history, measure), _values(history, f"validation_{measure}")
    return _Compared(label, history.epoch, both)


# --- Norms ----------------------------------------------------------------------------------------


def norms(norms: Any, ax: Axes | Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """Draw the norms of weights and gradients of every layer over the updates.

    Vanishing gradients (smaller in each layer from the last to the first) and exploding weights
    show here before they show in the loss.

    Parameters
    ----------
    norms : Norms
        The callback :class:`pynn.Norms` after training with it.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes takes only the gradients.

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
    colors = _layer_colors(len(norms.weights))
    names = [f"layer {k + 1}: {a} → {b}" for k, (a, b) in enumerate(pairwise(norms.sizes))]
    lines: list[Any] = []
    panels = (norms.gradients, "gradient, L2 norm"), (norms.weights, "weights, L2 norm")
    for panel, (layers, title) in zip(axes, panels, strict=False):
        drawn = []
        for k, values in enumerate(layers):
            drawn += panel.plot(norms.updates, values, color=colors[k], lw=1.6, **_look(k, 5))
        lines = lines or drawn
        _use_log_if_wide(panel)
        label_axes(panel, "updates", title)
    _add_legend(axes[-1], lines, names, ax is None)
    return tuple(axes)


def _layer_colors(count: int) -> list[Any]:
    """Return colours from dark to light, all visible on white."""
    import matplotlib

    colors = matplotlib.colormaps["viridis"]
    return [colors(0.8 * k / max(1, count - 1)) for k in range(count)]


# --- Learning rates -------------------------------------------------------------------------------


def learning_rates(found: Any, ax: Axes | None = None) -> Axes:
    """Draw the losses of a learning-rate range test over the rates, and the suggested rate.

    Parameters
    ----------
    found : LearningRates
        The return value of ``Network.find_learning_rate``.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The loss of every batch as points, the smoothed loss as a line, and the suggestion as a
        dashed line.

    Raises
    ------
    TypeError
        If `found` is no result of a range test.
    ImportError
        If matplotlib is not installed.
    """
    if not hasattr(found, "suggestion"):
        raise TypeError(
            f"found: found a {type(found).__name__}, expected the result of "
            "Network.find_learning_rate"
        )
    (panel,) = _panels(ax, 1)
    panel.plot(found.rates, found.losses, ".", ms=3, color=BLUE, alpha=0.5, label="batch")
    panel.plot(found.rates, found.smoothed, color=BLUE, lw=1.6, label="smoothed")
    if found.suggestion is not None:
        label = f"suggestion {found.suggestion:.2g}"
        panel.axvline(found.suggestion, color=ORANGE, linestyle="--", lw=1.6, label=label)
    panel.set_xscale("log")
    _use_log_if_wide(panel)
    label_axes(panel, "learning rate", "loss")
    panel.legend(frameon=False)
    return panel


# --- Histories ------------------------------------------------------------------------------------


def _values(history: Any, name: str) -> np.ndarray:
    """Return values as float64, NaN where nothing was recorded; accuracies in percent."""
    known = name in history.names
    values = np.asarray(history[name] if known else [None] * len(history), float)
    return 100.0 * values if name in ("accuracy", "validation_accuracy") else values


def _value_text(value: float, measure: str) -> str:
    return f"{value:.2f} %" if measure == "accuracy" else f"{value:.3g}"


# --- Panels ---------------------------------------------------------------------------------------


def _panels(
    ax: Axes | Sequence[Axes] | None, count: int, legend: bool = False, most: int = 2
) -> list[Axes]:
    """Return the given Axes, at most `most`, or `count` new ones in rows of `_COLUMNS`."""
    if ax is None:
        columns = min(count, _COLUMNS)
        rows = -(-count // columns)
        figure = new_figure(4.6 * columns + (1.8 if legend else 0), 3.4 * rows)
        return [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    axes = list(ax) if isinstance(ax, (Sequence, np.ndarray)) else [ax]
    if not 1 <= len(axes) <= most:
        expected = "one or two" if most == 2 else f"from 1 to {most}"
        raise ValueError(f"ax: found {len(axes)} Axes, expected {expected}")
    return axes[:count]


def _look(k: int, marker_size: float) -> dict[str, Any]:
    """Return the dashes of line `k` and the marker at its last point."""
    return {
        "linestyle": DASHES[k % len(DASHES)],
        "marker": MARKERS[k % len(MARKERS)],
        "markevery": [-1],
        "ms": marker_size,
    }


def _finish_curves(ax: Axes, measure: str) -> None:
    """Scale and label the panel of a measure over the epochs."""
    from matplotlib.ticker import MaxNLocator

    if measure == "loss":
        _use_log_if_wide(ax)
    if not any(np.isfinite(line.get_ydata()).any() for line in ax.get_lines()):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no finite value", ha="center", va="center", transform=ax.transAxes)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    label = "accuracy (%)" if measure == "accuracy" else measure.replace("_", " ")
    label_axes(ax, "epoch", label)


def _use_log_if_wide(ax: Axes) -> None:
    """Use a logarithmic scale if the largest value is more than 30 times the smallest."""
    drawn = np.concatenate([line.get_ydata() for line in ax.get_lines()] or [np.empty(0)])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn) and drawn.max() > 30 * drawn.min():
        ax.set_yscale("log")


def _share_limits(axes: Sequence[Axes]) -> None:
    if any(ax.get_yscale() == "log" for ax in axes):
        for ax in axes:
            ax.set_yscale("log")
    low, high = zip(*(ax.get_ylim() for ax in axes), strict=True)
    left, right = zip(*(ax.get_xlim() for ax in axes), strict=True)
    for ax in axes:
        ax.set_ylim(min(low), max(high))
        ax.set_xlim(min(left), max(right))


def _add_legend(
    ax: Axes, lines: list[Any], labels: list[str], outside: bool, title: str | None = None
) -> None:
    """Add a legend, to the right of the panel if `outside`."""
    where: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)} if outside else {}
    legend = ax.legend(
        lines, labels, frameon=False, handlelength=3.2, title=title, alignment="left", **where
    )
    legend.get_title().set_fontsize("small")
