"""Curves over epochs or updates: learning curves, comparisons of runs, norms."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .models import history_of
from .style import DASHES, MARKERS, label_axes, new_figure, paint, plain_text, styled, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
"""Number of panels side by side."""
_MARK = "mark"
"""The gid of lines that are no curves."""

# --- Learning curves ------------------------------------------------------------------------------


@styled
def learning_curves(
    history: Any,
    ax: Axes | Sequence[Axes] | None = None,
    title: str | None = None,
    style: str | None = None,
) -> tuple[Axes, ...]:
    """Draw loss, accuracy and metrics over the epochs, for training and validation.

    A ring marks the best epoch of each measure: of the validation if there is one, otherwise of the
    training. If EarlyStopping restored an epoch, a dotted line marks it, the values in the legend
    are of this epoch, and the epochs after it are pale.

    Parameters
    ----------
    history : History, Network or estimator
        The return value of ``Network.fit``, a trained network, or a fitted estimator of
        ``pynn.sklearn``.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes for the loss, or more for the accuracy and the metrics too.
    title : str, optional
        Title of the figure, or of the first given Axes. By default a new figure names the network,
        if it is known, and the number of epochs.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of the lines in `ax`. By default they suit the background.

    Returns
    -------
    tuple of Axes
        The loss; if it was recorded, the accuracy (in percent); and each metric of ``fit``.

    Raises
    ------
    ValueError
        If the history is empty, there are more Axes than values to draw (and more than two), or
        `style` is unknown.
    ImportError
        If matplotlib is not installed.
    """
    model, history = history, history_of(history)
    measures = measures_of(history)
    axes = _panels(ax, len(measures), most=max(2, len(measures)))
    for panel, measure in zip(axes, measures, strict=False):  # one Axes takes only the loss
        _draw_measure(panel, history, measure)
        _finish_curves(panel, measure)
    if ax is None:
        figure: Any = axes[0].figure
        figure.suptitle(plain_text(title or _title(model, history), 100), fontsize="medium")
        if _validation_starts_better(history):
            figure.supxlabel(_WHY_BETTER, fontsize="x-small", color=theme().faint)
    elif title is not None:
        axes[0].set_title(plain_text(title, 100))
    return tuple(axes[: len(measures)])


_WHY_BETTER = (
    "Training: mean over the epoch, while the network still learns, with dropout. Validation: "
    "after the epoch, without dropout;\nit can therefore start better than training."
)


def _draw_measure(panel: Axes, history: Any, measure: str) -> None:
    """Draw a measure of training and validation, and mark its best and the restored epoch."""
    colors, epochs = theme(), np.asarray(history.epoch)
    restored = getattr(history, "restored_epoch", None)
    end = len(epochs) - 1 if restored not in history.epoch else history.epoch.index(restored)
    best = None
    for name, role, color, dashes in (
        (measure, "training", colors.blue, "-"),
        (f"validation_{measure}", "validation", colors.orange, "--"),
    ):
        values = _values(history, name)
        if not np.isfinite(values).any():
            continue
        text = f"{role} ({_value_text(values[end], measure)})"
        line: dict[str, Any] = {"color": color, "linestyle": dashes}
        panel.plot(
            epochs[: end + 1], values[: end + 1], label=text if np.isfinite(values[end]) else role,
            marker="o", markevery=[-1], ms=5, **line,
        )  # fmt: skip
        if end < len(epochs) - 1:
            panel.plot(epochs[end:], values[end:], alpha=0.35, **line)
        at = best_index(values, measure)
        best = at, values[at], color
    if best is not None:
        at, value, color = best
        panel.plot(
            epochs[at], value, linestyle="", marker="o", ms=9, mfc="none", mew=1.5, color=color,
            label=f"best: {_value_text(value, measure)} in epoch {epochs[at]}",
        )  # fmt: skip
    if end < len(epochs) - 1:
        panel.axvline(
            epochs[end], color=colors.faint, linestyle=":", lw=1.2, gid=_MARK,
            label=f"restored epoch {restored}",
        )  # fmt: skip
    if panel.get_lines():
        panel.legend(frameon=False, fontsize="small")


_ERRORS = "loss", "error", "mae", "mse", "rmse", "mape", "brier", "entropy", "deviance"


def larger_is_better(measure: str) -> bool:
    """Whether a larger value of a measure is better.

    A history does not tell the direction of its metrics: metrics with the usual names of errors are
    better if smaller, unless scikit-learn's ``neg_`` stands before. A test compares the result with
    the catalogue of ``pynn.metrics`` for each of its names.
    """
    return measure.startswith("neg_") or not measure.endswith(_ERRORS)


def best_index(values: np.ndarray | Sequence[float], measure: str) -> int:
    """Return the index of the best value of a measure; NaN are left out, but not all are NaN."""
    return int(np.nanargmax(values) if larger_is_better(measure) else np.nanargmin(values))


def _title(model: Any, history: Any) -> str:
    """Return the title of learning curves: the network, if it is known, and the epochs."""
    count = len(history.epoch)
    sizes = getattr(model, "sizes", None)
    name = f"{'-'.join(map(str, sizes))}, " if sizes else ""
    return f"{name}{count:,} epoch{'' if count == 1 else 's'}"


def _validation_starts_better(history: Any) -> bool:
    """Whether the first validation loss or accuracy is better than the first training value."""
    for name, sign in (("loss", 1), ("accuracy", -1)):
        training, validation = _values(history, name)[0], _values(history, f"validation_{name}")[0]
        if sign * (validation - training) < 0:
            return True
    return False


def measures_of(history: Any) -> list[str]:
    """Return the values of a history that learning curves show, without ``validation_``."""
    has_accuracy = np.isfinite(_values(history, "accuracy")).any()
    metrics = dict.fromkeys(name.removeprefix("validation_") for name in history.metrics)
    return ["loss", *(["accuracy"] if has_accuracy else []), *metrics]


# --- Comparison of runs ---------------------------------------------------------------------------


@styled
def comparison(
    runs: Mapping[Any, Any] | Sequence[Any],
    measure: str = "loss",
    ax: Axes | Sequence[Axes] | None = None,
    ordered: bool | None = None,
    style: str | None = None,
) -> tuple[Axes, ...]:
    """Draw the curves of several runs, training on the left and validation on the right.

    Runs differ in colour, dashes and the marker at their last epoch. Up to eight runs are readable.
    A ring marks the best epoch of each run, and the legend has its value, the best run in bold.

    Parameters
    ----------
    runs : mapping of label to History, Network or estimator, or sequence of them
        The runs to compare, by label. The runs of a sequence are labelled ``run 1``, ``run 2``, ….
    measure : str
        What to compare: ``"loss"``, ``"accuracy"`` or the name of a metric of ``fit``.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes takes only the training curves.
    ordered : bool, optional
        Whether the labels are values of one setting, such as learning rates: lines go from dark to
        bright by these numbers. By default they are if all labels are numbers, or differ only in
        one number at their end.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of the lines in `ax`. By default they suit the background.

    Returns
    -------
    tuple of Axes
        Training and, if any run has validation data, validation, with the same axis limits. The
        last one holds the legend with the best value of each run: of the validation if the run has
        one, otherwise of the training.

    Raises
    ------
    ValueError
        If there are no runs, the history of a run is empty or lacks the measure, the measure is
        unknown, `ax` is neither one Axes nor two, or the runs are said to be ordered and a label
        has no number.
    ImportError
        If matplotlib is not installed.
    """
    if not isinstance(runs, Mapping):
        runs = {f"run {k}": run for k, run in enumerate(runs, 1)}
        ordered = bool(ordered)
    if not runs:
        raise ValueError("runs: found none, expected at least one")
    histories = {label: history_of(run, f"runs[{label!r}]") for label, run in runs.items()}
    _check_measure(measure, histories)
    found = [_compared(*run, measure) for run in histories.items()]
    colors = _run_colors(list(histories), ordered)
    validated = any(np.isfinite(run.curves[1]).any() for run in found)
    axes = _panels(ax, 1 + validated, legend=True)
    lines = []
    for k, run in enumerate(found):
        drawn = [
            panel.plot(run.epochs, values, lw=1.6, color=colors[k], **_look(k, 6))
            for panel, values in zip(axes, run.curves, strict=False)
        ]
        lines += drawn[0]
    bests = [_best_of(run, len(axes), measure) for run in found]
    for best, color in zip(bests, colors, strict=True):
        if best is not None:
            axes[best.panel].plot(
                *(best.epoch, best.value), "o", ms=10, mfc="none", mew=1.4, color=color
            )
    labels = [
        plain_text(run.label)
        + ("" if best is None else f" ({_value_text(best.value, measure)}, epoch {best.epoch})")
        for run, best in zip(found, bests, strict=True)
    ]
    for panel, title in zip(axes, ("training", "validation"), strict=False):
        _finish_curves(panel, measure)
        panel.set_title(title)
    _share_limits(axes)
    for panel in axes[1:]:
        panel.set_ylabel("")
    # Some runs may lack validation data; then the legend mixes both kinds of values.
    kind = "validation " if len(axes) > 1 and all(b and b.panel for b in bests) else ""
    legend = _add_legend(axes[-1], lines, labels, ax is None, f"best {kind}{measure} in brackets")
    values = [math.nan if best is None else best.value for best in bests]
    if len(values) > 1 and np.isfinite(values).any():
        legend.get_texts()[best_index(values, measure)].set_fontweight("bold")
    return tuple(axes)


class _Best(NamedTuple):
    """The best epoch of a run, in the panel of training (0) or of validation (1)."""

    panel: int
    epoch: int
    value: float


def _best_of(run: _Compared, panels: int, measure: str) -> _Best | None:
    """Return the best epoch of the validation, or of the training if there is none."""
    for panel in range(panels - 1, -1, -1):
        values = run.curves[panel]
        if np.isfinite(values).any():
            at = best_index(values, measure)
            return _Best(panel, run.epochs[at], float(values[at]))
    return None


def _run_colors(labels: list[Any], ordered: bool | None) -> list[Any]:
    """Return the colour of each run: in an order if the labels are, otherwise distinct ones."""
    numbers = _numbers_of(labels)
    if ordered and numbers is None:
        raise ValueError(
            f"ordered: found the labels {', '.join(map(repr, labels))}, expected a number at the "
            "end of each"
        )
    if numbers is None or ordered is False or len(labels) < 3:
        return [theme().colors[k % len(theme().colors)] for k in range(len(labels))]
    import matplotlib

    first, last = theme().sequential
    rank = np.argsort(np.argsort(numbers, kind="stable"), kind="stable") / (len(labels) - 1)
    return [matplotlib.colormaps["viridis"](first + (last - first) * share) for share in rank]


_NUMBER = re.compile(r"(.*?)([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


def _numbers_of(labels: Sequence[Any]) -> list[float] | None:
    """Return the number that each label is or ends in; None if they differ in anything else."""
    found = [_NUMBER.fullmatch(str(label)) for label in labels]
    matches = [match for match in found if match]
    if len(matches) < len(labels) or len({match[1] for match in matches}) > 1:
        return None
    return [float(match[2]) for match in matches]


class _Compared(NamedTuple):
    """A run of a comparison."""

    label: Any
    epochs: Any
    curves: tuple[np.ndarray, np.ndarray]
    """One measure, of training and validation."""


def _check_measure(measure: str, histories: Mapping[Any, Any]) -> None:
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


def _compared(label: Any, history: Any, measure: str) -> _Compared:
    both = _values(history, measure), _values(history, f"validation_{measure}")
    return _Compared(label, history.epoch, both)


# --- Norms ----------------------------------------------------------------------------------------


@styled
def norms(
    norms: Any, ax: Axes | Sequence[Axes] | None = None, style: str | None = None
) -> tuple[Axes, ...]:
    """Draw the norms of weights and gradients of every layer over the updates.

    Vanishing gradients (smaller in each layer from the last to the first) and exploding weights
    show here before they show in the loss.

    Parameters
    ----------
    norms : Norms
        The callback :class:`pynn.Norms` after training with it.
    ax : Axes or sequence of Axes, optional
        Where to draw: one Axes takes only the gradients.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of the lines in `ax`. By default they suit the background.

    Returns
    -------
    tuple of Axes
        The gradients and the weights, on logarithmic scales. The last one holds the legend.

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
    colors = theme().colors
    names = [f"layer {k + 1}: {a} → {b}" for k, (a, b) in enumerate(pairwise(norms.sizes))]
    lines: list[Any] = []
    panels = (norms.gradients, "gradient, L2 norm"), (norms.weights, "weights, L2 norm")
    for panel, (layers, title) in zip(axes, panels, strict=False):
        drawn = []
        for k, values in enumerate(layers):
            color = colors[k % len(colors)]
            drawn += panel.plot(norms.updates, values, color=color, lw=1.6, **_look(k, 5))
        lines = lines or drawn
        if any((np.asarray(values) > 0).any() for values in layers):
            _use_log(panel)
            _label_narrow(panel)
        label_axes(panel, "updates", title)
    _add_legend(axes[-1], lines, names, ax is None)
    return tuple(axes)


# --- Learning rates -------------------------------------------------------------------------------


@styled
def learning_rates(found: Any, ax: Axes | None = None, style: str | None = None) -> Axes:
    """Draw the losses of a learning-rate range test over the rates, and the suggested rate.

    Parameters
    ----------
    found : LearningRates
        The return value of ``Network.find_learning_rate``.
    ax : Axes, optional
        Where to draw.
    style : {"light", "dark"}, optional
        Colours of a new figure, or of the lines in `ax`. By default they suit the background.

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
    panel.plot(found.rates, found.losses, ".", ms=3, color=theme().blue, alpha=0.5, label="batch")
    panel.plot(found.rates, found.smoothed, color=theme().blue, lw=1.6, label="smoothed")
    if found.suggestion is not None:
        label = f"suggestion {found.suggestion:.2g}"
        panel.axvline(found.suggestion, color=theme().orange, linestyle="--", lw=1.6, label=label)
    panel.set_xscale("log")
    _use_log_if_wide(panel)
    label_axes(panel, "learning rate", "loss")
    panel.legend(frameon=False)
    return panel


# --- Histories ------------------------------------------------------------------------------------


def recorded(history: Any, name: str) -> np.ndarray:
    """Return the values of a history as float64, NaN where nothing was recorded."""
    return np.asarray(history[name] if name in history.names else [None] * len(history), float)


def _values(history: Any, name: str) -> np.ndarray:
    """Return the values of a history as `recorded` does, but accuracies in percent."""
    values = recorded(history, name)
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
        # Without it the label of the right panel touches the left one.
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
        new = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
        for panel in new:
            paint(panel)
        return new
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
    if measure == "loss":
        _use_log_if_wide(ax)
    if not any(np.isfinite(line.get_ydata()).any() for line in ax.get_lines()):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no finite value", ha="center", va="center", transform=ax.transAxes)
    else:
        drawn = np.concatenate([line.get_xdata() for line in ax.get_lines() if _is_curve(line)])
        first, last = int(drawn.min()), int(drawn.max())
        ax.set_xticks(epoch_ticks(first, last))
        if last - first <= 40:
            ax.set_xticks(range(first, last + 1), minor=True)
    label = "accuracy (%)" if measure == "accuracy" else measure.replace("_", " ")
    label_axes(ax, "epoch", label)


def epoch_ticks(first: int, last: int) -> list[int]:
    """Return the first and the last epoch, and round numbers between them."""
    step = next(
        unit * 10**power
        for power in range(20)
        for unit in (1, 2, 5)
        if (last - first) / (unit * 10**power) <= 6
    )
    between = range((first // step + 1) * step, last, step)
    # A label closer to an end than half a step would overlap with its label.
    free = [k for k in between if k - first >= 0.6 * step and last - k >= 0.6 * step]
    return sorted({first, *free, last})


def _is_curve(line: Any) -> bool:
    return line.get_gid() != _MARK


def _use_log_if_wide(ax: Axes) -> None:
    """Use a logarithmic scale if the largest value is more than 30 times the smallest."""
    curves = [line.get_ydata() for line in ax.get_lines() if _is_curve(line)]
    drawn = np.concatenate(curves or [np.empty(0)])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn) and drawn.max() > 30 * drawn.min():
        _use_log(ax)


def _use_log(ax: Axes) -> None:
    """Use a logarithmic scale with plain numbers; within a decade, label 2 and 5 too."""
    from matplotlib.ticker import FuncFormatter

    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))

    def minor(value: float, _: Any) -> str:
        low, high = ax.get_ylim()
        leading = round(value / 10.0 ** math.floor(math.log10(value)))
        return f"{value:.1g}" if high < 30 * low and leading in (2, 3, 5) else ""

    ax.yaxis.set_minor_formatter(FuncFormatter(minor))


def _label_narrow(ax: Axes) -> None:
    """Label round numbers on a logarithmic scale with fewer than two of 1, 2, 3, 5, 10, 20, …."""
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    low, high = ax.get_ylim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    labelled = [k * 10.0**decade for decade in decades for k in (1, 2, 3, 5)]
    if sum(low <= value <= high for value in labelled) < 2:
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        ax.yaxis.set_minor_locator(NullLocator())


def _share_limits(axes: Sequence[Axes]) -> None:
    if any(ax.get_yscale() == "log" for ax in axes):
        for ax in axes:
            _use_log(ax)
    low, high = zip(*(ax.get_ylim() for ax in axes), strict=True)
    left, right = zip(*(ax.get_xlim() for ax in axes), strict=True)
    for ax in axes:
        ax.set_ylim(min(low), max(high))
        ax.set_xlim(min(left), max(right))


def _add_legend(
    ax: Axes, lines: list[Any], labels: list[str], outside: bool, title: str | None = None
) -> Any:
    """Add a legend, to the right of the panel if `outside`, and return it."""
    where: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)} if outside else {}
    legend = ax.legend(
        lines, labels, frameon=False, handlelength=3.2, title=title, alignment="left", **where
    )
    legend.get_title().set_fontsize("small")
    return legend
