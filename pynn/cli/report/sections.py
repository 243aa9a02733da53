"""The sections of the page of a run; each is a function that returns HTML."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...files.disk import counted
from ...plots.curves import best_index, measures_of, recorded
from ...plots.values import histogram_bins
from ..folder import Run
from . import html, options, svg, verdict
from .findings import Findings
from .numbers import count, label, measure, number, percent, seconds, ticks_of, title

# --- Top ------------------------------------------------------------------------------------------


def head(run: Run, name: str) -> str:
    """Return name, network, data and date of the run, and whether it ended early or diverged."""
    about, data = run.settings, run.settings["data"]
    line = "-".join(map(str, run.net.sizes))
    if data.get("source") is not None:
        line += f" on {html.text_of(data['source'])}"
    if about.get("date") is not None:
        line += f" · {html.text_of(about['date'])}"
    notes, result = [], about["result"]
    if result.get("unfinished"):
        notes.append(
            f"This run has not ended, or was ended by force: this page shows its last checkpoint, "
            f"after {count(run.net.epochs, 'complete epoch')}."
        )
    elif result.get("interrupted"):
        notes.append(
            f"This run was interrupted after {count(run.net.epochs, 'complete epoch')}; the "
            "results are measured on the network of that time."
        )
    diverged = result.get("diverged")
    if isinstance(diverged, str) and diverged:
        notes.append(f"The training diverged: {diverged}.")
    return html.header(name, line, notes)


def story(found: Findings) -> str:
    """Return what happened in the run."""
    about_result = []
    if found.has_rows:
        wrong = None if found.run.weights is None else found.mistakes
        about_result = verdict.result(found.values, len(found.run.test[0]), found.run.tested, wrong)
    more: list[str] = []
    if found.counts is not None:
        names = [html.text_of(str(name)) for name in found.net.classes.tolist()]
        if found.commonest is not None and "accuracy" in found.values:
            name, share = found.commonest
            commonest = html.text_of(name), share
            about_result += verdict.gain(found.values["accuracy"], commonest, names, found.counts)
        more += verdict.confusions(names, found.counts)
    if found.calibration is not None and found.probabilities is not None:
        more += verdict.calibration(
            found.calibration, found.probabilities.max(axis=1), found.predicted == found.labels
        )
    if found.has_rows and found.kind == "values" and found.targets == 1:
        true, predicted = found.target(0)
        if len(true):
            more += verdict.bias(true, predicted)
    worse = found.values.get("r2", 0.0) < 0
    poor = verdict.poor(worse, _remedies(found, worse)) if _is_poor(found) else ""
    return html.story([about_result, verdict.epochs(found.net.history, poor, worse), more])


def _is_poor(found: Findings) -> bool:
    """Whether the network predicts hardly better than the mean, or than any class for all rows.

    Accuracy alone does not tell: that of a network that finds many rows of a rare class may be
    below that of the most frequent class.
    """
    if "r2" in found.values:
        return not found.values["r2"] > 0.05
    if found.counts is None:
        return False
    sizes = found.counts.sum(axis=1)
    present = sizes > 0
    if present.sum() < 2:
        return False
    recall = float((np.diag(found.counts)[present] / sizes[present]).mean())
    least = 1 / present.sum()
    return bool(recall < least + 0.1 * (1 - least) and not found.auc > 0.6)


def _remedies(found: Findings, worse: bool) -> list[str]:
    """Return what may help a network that has learned little, or is ``worse`` than a mean."""
    net = found.net
    model = net._model
    advice = []
    if not model.standardize and net.pixels is not True:
        advice.append("standardised inputs (--standardize)")
    if found.kind == "values" and not model.standardize_targets:
        if net.architecture.activations[-1] == "exp":
            advice.append("another loss (--loss mse --standardize-targets)")
        elif net.architecture.activations[-1] == "identity":
            advice.append("standardised targets (--standardize-targets)")
    advice.append("another learning rate (--find-learning-rate)")
    return advice if worse else [*advice, "more epochs"]


def results(found: Findings) -> str:
    """Return the tiles with loss and accuracy, training time and epochs."""
    run, history, values = found.run, found.net.history, found.values
    order = [n for n in ("accuracy", "r2", "mae", "rmse", "loss") if n in values]
    names = [*order, *(name for name in values if name not in order)]
    tiles = [(measure(name, values[name]), f"{run.tested} {label(name)}") for name in names]
    if len(history):
        last = history[-1]
        if run.tested == "test" or not found.has_rows:
            if last.validation_accuracy is not None:
                tiles.append((percent(last.validation_accuracy), "last validation accuracy"))
            elif last.validation_loss is not None:
                tiles.append((number(last.validation_loss), "last validation loss"))
        if last.accuracy is not None:
            tiles.append((percent(last.accuracy), "last training accuracy"))
        else:
            tiles.append((number(last.loss), "last training loss"))
        tiles.append((seconds(sum(history.seconds)), "of training"))
    epochs = found.net.epochs
    tiles.append((f"{epochs:,}", "epoch" if epochs == 1 else "epochs"))
    rows = counted(len(run.test[0]), f"{run.tested} row")
    note = f"Measured on {rows}." if found.has_rows else ""
    return html.tiles(tiles, note)


# --- Curves ---------------------------------------------------------------------------------------


def curves(run: Run) -> str:
    """Return the section with the curves over the epochs."""
    history = run.net.history
    if not len(history):
        return html.section("Learning curves", html.paragraph("No complete epoch was trained."))
    figures = [_measure_figure(history, name) for name in measures_of(history)]
    note = ""
    if "validation_loss" in history.names and history[0].validation_loss is not None:
        dropout = any(run.net.architecture.dropout)
        note = html.paragraph(
            "Training: mean over the epoch, while the network still learns"
            f"{', with dropout' if dropout else ''}. Validation: after the epoch"
            f"{', without dropout' if dropout else ''}; it can therefore start better than "
            "training. Point at a curve for the values of an epoch."
        )
    rate = svg.Curve("learning rate", history.epoch, recorded(history, "learning_rate"), "--blue")
    time = svg.Curve("seconds", history.epoch, recorded(history, "seconds"), "--blue")
    more = [
        html.figure(svg.curves([rate], "learning rate", may_be_log=False), "Learning rate"),
        html.figure(
            svg.curves([time], "time", (), seconds, seconds, may_be_log=False), "Time per epoch"
        ),
    ]
    return html.section("Learning curves", html.row(figures) + note + html.row(more))


def _measure_figure(history: Any, name: str) -> str:
    """Return training and validation of a measure, with its best and the restored epoch."""
    restored = history.restored_epoch
    end = history.epoch.index(restored) if restored in history.epoch else None
    found, best = [], None
    for key, role, color, dashes in (
        (name, "training", "--blue", ""),
        (f"validation_{name}", "validation", "--orange", "6 3"),
    ):
        y = recorded(history, key)
        if np.isfinite(y).any():
            found.append(svg.Curve(role, history.epoch, y, color, dashes, end))
            at = best_index(y, name)
            best = svg.Mark(
                history.epoch[at], float(y[at]),
                f"best: {measure(name, float(y[at]))} in epoch {history.epoch[at]}", color,
            )  # fmt: skip
    marks = [] if best is None else [best]
    if end is not None and end < len(history) - 1:
        marks.append(svg.Mark(history.epoch[end], None, f"restored epoch {restored}", "--faint"))

    def text(value: float) -> str:
        return measure(name, value)

    graphic = svg.curves(found, label(name), marks, text, ticks_of(name))
    return html.figure(graphic, f"{title(name)} of each epoch")


# --- Regression -----------------------------------------------------------------------------------

MOST_TARGETS = 4
"""A page shows the plots of this many targets."""


def regression(found: Findings) -> str:
    """Return the section with predicted against true values and residuals; empty otherwise."""
    if not found.has_rows or found.kind != "values" or not found.targets:
        return ""
    parts = []
    for k in range(min(found.targets, MOST_TARGETS)):
        true, predicted = found.target(k)
        if not len(true):
            continue
        errors = true - predicted
        figures = [
            html.figure(
                svg.points(true, predicted, ("true", "predicted"), diagonal=True),
                "Predicted against true value; on the line they are equal",
            ),
            html.figure(
                svg.points(predicted, errors, ("predicted", "true − predicted"), zero=True),
                "Residuals: a slope, a bend or a funnel is something the network has not learned",
            ),
            html.figure(
                svg.histogram(errors, histogram_bins(len(errors)), ("true − predicted", "rows")),
                "Distribution of the residuals",
            ),
        ]
        name = f"<h3>Target {k + 1}</h3>" if found.targets > 1 else ""
        parts.append(name + html.row(figures))
    return html.section("Predictions", "".join(parts)) if parts else ""


# --- Rows of the page's end -----------------------------------------------------------------------


def timings(run: Run) -> str:
    """Return the section with seconds per epoch and in total."""
    history = run.net.history
    rows: list[tuple[str, str]] = []
    if len(history):
        rows = [
            ("time per epoch, median", seconds(statistics.median(history.seconds))),
            ("fastest epoch", seconds(min(history.seconds))),
            ("slowest epoch", seconds(max(history.seconds))),
            ("rows per second, median", f"{statistics.median(history.samples_per_second):,.0f}"),
            ("training, total", seconds(sum(history.seconds))),
        ]
    total = run.settings["result"].get("seconds")
    # The settings may come from someone else and hold any value.
    if isinstance(total, (int, float)) and 0 <= total < 1e12:
        rows.append(("with validation and progress", seconds(total)))
    return html.section("Timings", html.pairs(rows)) if rows else ""


def settings(run: Run) -> str:
    """Return the section with network, data, the options that were changed, and the command."""
    about, data, a = run.settings, run.settings["data"], run.net.architecture
    rows: list[tuple[str, Any]] = [
        ("network", "-".join(map(str, a.sizes))),
        ("parameters", f"{a.n_parameters:,}"),
        ("activations", ", ".join(map(str, a.given_activations()))),
        ("loss", a.loss_text),
    ]
    if data.get("path") or data.get("source"):
        measured = "test" if data.get("validation_rows") is None else "validation"
        rows += [
            ("data", data.get("path") or data.get("source")),
            ("training set", count(data.get("train_rows"), "row")),
            (f"{measured} set", count(data.get(f"{measured}_rows"), "row")),
            ("SHA-256 of the data", html.short(data["sha256"])),
        ]
    rows.append(("seed", about["seed"]))
    inside = "activation", "output", "loss"
    chosen = options.changed(about["options"])
    rows += [(k.replace("_", " "), v) for k, v in chosen.items() if k not in inside]
    body = html.pairs(rows)
    others = options.usual(about["options"])
    if others:
        listed = html.pairs((k.replace("_", " "), v) for k, v in others.items())
        body += html.details(f"{len(others)} options with their default values", listed)
    if about["options"]:
        body += "<h3>Repeat this run</h3>" + html.command(options.command(about))
    return html.section("Settings", body)


_LABELS = {
    "version": "pynn",
    "python": "Python",
    "numpy": "NumPy",
    "backends": "available backends",
    "bf16": "bfloat16 arithmetic",
    "cpu": "processor",
    "cores": "processors in use",
    "isa": "instruction set",
}


def environment(run: Run) -> str:
    """Return the section with backend, threads and machine."""
    about = run.settings
    rows: list[tuple[str, Any]] = [
        ("backend", about.get("backend", run.net.backend)),
        ("threads", about.get("threads", run.net.threads)),
    ]
    for name, value in about["environment"].items():
        if name in ("backend", "threads", "isas", "compiled"):
            continue
        if name == "backends" and isinstance(value, dict):
            value = ", ".join(k for k, reason in value.items() if not reason)
        rows.append((_LABELS.get(name, name.replace("_", " ")), value))
    body = html.pairs(rows)
    isas = about["environment"].get("isas")
    if isinstance(isas, (list, tuple)) and isas:
        body += html.paragraph(
            "Instruction set: the vector instructions that the compiled core used, the fastest "
            f"that this processor has (it has {', '.join(html.text_of(one) for one in isas)}). "
            "Results may differ between instruction sets in the last digits."
        )
    return html.section("Machine", body)


def all_sections(found: Findings, name: str, classes: Sequence[str]) -> list[str]:
    """Return all sections of a page, with the sections on classes and images in their place."""
    run = found.run
    return [
        head(run, name),
        story(found),
        results(found),
        curves(run),
        regression(found),
        *classes,
        timings(run),
        settings(run),
        environment(run),
    ]
