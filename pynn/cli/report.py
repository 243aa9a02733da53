"""``pynn report``: a run as one HTML page, without other files, network access or scripts.

`page` is the document, and each of its sections is a function that takes a run.
"""

from __future__ import annotations

import math
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from ..files.disk import atomic_write
from . import html, pictures
from .folder import Run, read

# Options that do not change the results, or that have a line of their own.
_LEFT_OUT = (
    *("run", "pictures", "plain", "quiet"),
    *("data", "seed", "backend", "threads", "activation", "output"),
)


def write(
    folder: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the page of a run.

    The network is evaluated again, on the rows that ``pynn train`` evaluates; so an interrupted
    run has results too.

    Parameters
    ----------
    folder : path-like, optional
        The folder of the run; by default the newest in ``runs`` of the working directory.
    output : path-like, optional
        The file to write (atomically); by default ``report.html`` in `folder`.
    data : path-like, optional
        The data of the run, if they have moved.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileNotFoundError
        If the folder or the data do not exist.
    ValueError
        If the folder holds no run, or the run was trained on other data.
    ImportError
        If matplotlib is not installed.
    OSError
        If the file cannot be written.
    """
    from ..plots import require

    require()
    found = read(folder, data)
    target = found.folder / "report.html" if output is None else Path(output)
    if output is None and target.is_symlink():
        # The folder may come from someone else, with a link to any file of the user.
        raise ValueError(f"{target}: found a symbolic link, expected a file or none")
    text = page(found)
    with atomic_write(target) as file:
        # Bytes of a path that are not UTF-8 become question marks.
        file.write(text.encode(errors="replace"))
    return target


def page(run: Run) -> str:
    """Return the page of a run as HTML."""
    name = run.folder.resolve().name
    parts = [head(run, name), results(run), curves(run), *classes(run), weights(run)]
    parts += [timings(run), settings(run), environment(run)]
    return html.document(name, parts)


# --- Sections -------------------------------------------------------------------------------------


def head(run: Run, name: str) -> str:
    """Return name, network, data and date of the run, and whether it failed."""
    about, data = run.settings, run.settings["data"]
    line = f"{'-'.join(map(str, run.net.sizes))} on {html.text_of(data.get('source'))}"
    if about.get("date") is not None:
        line += f" · {html.text_of(about['date'])}"
    notes = []
    if about["result"].get("interrupted"):
        notes.append(
            f"This run was interrupted after {run.net.epochs} complete epochs; the results are "
            "those of the network at that time."
        )
    diverged = about["result"].get("diverged")
    if isinstance(diverged, str) and diverged:
        notes.append(f"The training diverged: {diverged}.")
    return html.header(name, line, notes)


def results(run: Run) -> str:
    """Return the section with loss and accuracy, training time and epochs."""
    result = run.net.evaluate(
        *run.test,
        sample_weight=run.weights,
        metrics=run.metrics,
        missing_targets=run.missing_targets,
    )
    history = run.net.history
    tiles = []
    if "accuracy" in result:
        tiles.append((_percent(result["accuracy"]), f"{run.tested} accuracy"))
    tiles.append((_number(result["loss"]), f"{run.tested} loss"))
    tiles += [
        (_number(value), f"{run.tested} {name.replace('_', ' ')}")
        for name, value in result.items()
        if name not in ("loss", "accuracy")
    ]
    if len(history):
        last = history[-1]
        if run.tested == "test" and last.validation_accuracy is not None:
            tiles.append((_percent(last.validation_accuracy), "last validation accuracy"))
        elif run.tested == "test" and last.validation_loss is not None:
            tiles.append((_number(last.validation_loss), "last validation loss"))
        if last.accuracy is not None:
            tiles.append((_percent(last.accuracy), "last training accuracy"))
        else:
            tiles.append((_number(last.loss), "last training loss"))
        tiles.append((_seconds(sum(history.seconds)), "of training"))
    tiles.append((f"{run.net.epochs:,}", "epoch" if run.net.epochs == 1 else "epochs"))
    return html.tiles(tiles, f"Measured on {len(run.test[0]):,} {run.tested} rows.")


def curves(run: Run) -> str:
    """Return the section with the learning curves."""
    from ..plots import for_files, learning_curves
    from ..plots.curves import measures_of
    from ..plots.style import new_axes

    if not len(run.net.history):
        return html.section("Learning curves", html.paragraph("No complete epoch was trained."))
    with for_files():
        # A figure for each measure, so that a phone shows them below one another.
        measures = measures_of(run.net.history)
        axes = learning_curves(run.net.history, [new_axes(4.6, 3.4) for _ in measures])
        figures = [
            html.picture(ax, f"{_title(name)} of each epoch, training and validation")
            for ax, name in zip(axes, measures, strict=True)
        ]
    return html.section("Learning curves", html.row(figures))


def _title(measure: str) -> str:
    """Return the name of a measure with a capital: ``Loss``, ``AUC``, ``RMSE``."""
    words = measure.replace("_", " ")
    short = len(words) <= 4 and words != "loss"
    return words.upper() if short else words[:1].upper() + words[1:]


def classes(run: Run) -> list[str]:
    """Return the sections on classes: confusion matrix, table, worst mistakes; none otherwise."""
    from ..plots import confusion_matrix, for_files, mistakes

    net, (x, y) = run.net, run.test
    labels = pictures.labels_of(net, y)
    if labels is None or net.classes is None:
        return []
    has_probabilities = net.architecture.loss_function.probabilities
    probabilities = net.predict_proba(x) if has_probabilities else None
    predicted = net.predict(x)
    images = pictures.images_of(net, x)
    with for_files():
        matrix = html.picture(
            confusion_matrix(labels, predicted, net.classes),
            "Confusion matrix: rows are true classes, columns predicted ones",
        )
        sections = [
            html.section("Confusion matrix", matrix),
            html.section("Classes", class_table(net.classes, labels, predicted)),
        ]
        if images is not None and probabilities is not None:
            worst = mistakes(probabilities, images, labels, classes=net.classes)
            sections.append(
                html.section(
                    "Worst mistakes", html.picture(worst, "The worst misclassified images")
                )
            )
    return sections


def class_table(names: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> str:
    """Return a table with rows, precision, recall and the most frequent mistake of each class."""
    rows = []
    for name in names.tolist():
        of_class, as_class = true == name, predicted == name
        right = int((of_class & as_class).sum())
        precision = right / as_class.sum() if as_class.any() else None
        recall = right / of_class.sum() if of_class.any() else None
        wrong, counts = np.unique(predicted[of_class & ~as_class], return_counts=True)
        most = f"{wrong[counts.argmax()]} ({counts.max():,})" if len(wrong) else "–"
        rows.append((name, f"{of_class.sum():,}", _percent(precision), _percent(recall), most))
    table = html.table(("class", "rows", "precision", "recall", "most often predicted as"), rows)
    note = html.paragraph(
        "Precision: of the rows predicted as this class, how many are. "
        "Recall: of the rows of this class, how many are found."
    )
    return f"{table}\n{note}"


def weights(run: Run) -> str:
    """Return the section with the weights of the first layer; empty if the rows are no images."""
    from ..plots import first_layer_weights, for_files

    images = pictures.images_of(run.net, run.test[0])
    if images is None:
        return ""
    with for_files():
        ax = first_layer_weights(run.net, shape=images.shape[1:])
        caption = (
            "Weights of each unit of the first layer: light on an orange pixel increases the sum "
            "of the unit, light on a blue pixel decreases it"
        )
        return html.section("First layer", html.picture(ax, caption))


def timings(run: Run) -> str:
    """Return the section with seconds per epoch and in total."""
    history = run.net.history
    rows: list[tuple[str, str]] = []
    if len(history):
        rows = [
            ("seconds per epoch, median", f"{statistics.median(history.seconds):.4g}"),
            ("fastest epoch", _seconds(min(history.seconds))),
            ("slowest epoch", _seconds(max(history.seconds))),
            ("samples per second, median", f"{statistics.median(history.samples_per_second):,.0f}"),
            ("training, total", _seconds(sum(history.seconds))),
        ]
    seconds = run.settings["result"].get("seconds")
    # The settings may come from someone else and hold any value.
    if isinstance(seconds, (int, float)) and 0 <= seconds < 1e12:
        rows.append(("with validation and progress", _seconds(seconds)))
    return html.section("Timings", html.pairs(rows)) if rows else ""


def settings(run: Run) -> str:
    """Return the section with network, data and options."""
    about, data, a = run.settings, run.settings["data"], run.net.architecture
    rows: list[tuple[str, Any]] = [
        ("network", "-".join(map(str, a.sizes))),
        ("parameters", f"{a.n_parameters:,}"),
        ("activations", ", ".join(map(str, a.given_activations()))),
        ("data", data.get("path") or data.get("source")),
        ("training set, rows", _count(data.get("train_rows"))),
        ("test set, rows", _count(data.get("test_rows"))),
        ("SHA-256 of the data", data["sha256"]),
        ("seed", about["seed"]),
    ]
    rows += [
        (name.replace("_", " "), value)
        for name, value in about["options"].items()
        if name not in _LEFT_OUT
    ]
    return html.section("Settings", html.pairs(rows))


def environment(run: Run) -> str:
    """Return the section with backend, threads and machine."""
    about = run.settings
    rows: list[tuple[str, Any]] = [
        ("backend", about.get("backend")),
        ("threads", about.get("threads")),
    ]
    for name, value in about["environment"].items():
        if name == "backends" and isinstance(value, dict):
            value = ", ".join(k for k, reason in value.items() if not reason)
        elif name in ("backend", "threads"):
            continue
        label = {"version": "pynn", "backends": "available backends"}
        rows.append((label.get(name, name.replace("_", " ")), value))
    return html.section("Machine", html.pairs(rows))


# --- Numbers --------------------------------------------------------------------------------------


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"
