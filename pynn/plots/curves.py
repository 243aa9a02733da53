"""Learning curves, comparisons of runs, norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import BLUE, COLORS, DASHES, MARKERS, ORANGE, _figure, _text, _tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
