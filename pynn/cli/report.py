"""``pynn report``: a run as one HTML page, without other files, network access or scripts.

`page` is the document, and each of its sections is a function that takes a run.
"""

from __future__ import annotations

import base64
import io
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..files.disk import atomic_write, shown
from . import pictures
from .folder import Run, read

# Maximum number of characters of a setting.
_LONGEST = 1000

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
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Nothing can be fetched, whatever text the run contains.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)} – pynn</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


# --- Sections -------------------------------------------------------------------------------------


def head(run: Run, name: str) -> str:
    """Return name, network, data and date of the run, and whether it failed."""
    about, data = run.settings, run.settings["data"]
    a = run.net.architecture
    text = f"<header>\n<h1>{escape(name)}</h1>\n"
    network = f"{'-'.join(map(str, a.sizes))} on {shown(data.get('source'), _LONGEST)}"
    date = "" if about.get("date") is None else escape(f" · {shown(about['date'], _LONGEST)}")
    text += f"<p>{escape(network)}{date}</p>\n"
    if about["result"].get("interrupted"):
        text += (
            f'<p class="note">This run was interrupted after {run.net.epochs} complete epochs; '
            "the results are those of the network at that time.</p>\n"
        )
    diverged = about["result"].get("diverged")
    if isinstance(diverged, str) and diverged:
        text += f'<p class="note">The training diverged: {escape(diverged)}.</p>\n'
    return text + "</header>"


def results(run: Run) -> str:
    """Return the section with loss and accuracy, training time and epochs."""
    result = run.net.evaluate(*run.test)
    history = run.net.history
    tiles = []
    if "accuracy" in result:
        tiles.append((_percent(result["accuracy"]), f"{run.tested} accuracy"))
    tiles.append((_number(result["loss"]), f"{run.tested} loss"))
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
    html = "".join(
        f"<div><strong>{escape(value)}</strong> <span>{escape(label)}</span></div>"
        for value, label in tiles
    )
    return (
        f'<section>\n<div class="tiles">{html}</div>\n'
        f"<p>Measured on {len(run.test[0]):,} {run.tested} rows.</p>\n</section>"
    )


def curves(run: Run) -> str:
    """Return the section with the learning curves."""
    from ..plots import for_files, learning_curves
    from ..plots.style import new_axes

    if not len(run.net.history):
        return _section("Learning curves", "<p>No complete epoch was trained.</p>")
    with for_files():
        # Two figures, so that a phone shows them below one another.
        axes = learning_curves(run.net.history, [new_axes(4.6, 3.4) for _ in range(2)])
        figures = [
            _picture(ax, f"{name} of each epoch, training and validation")
            for ax, name in zip(axes, ("Loss", "Accuracy"), strict=False)
        ]
    return _section("Learning curves", f'<div class="row">{"".join(figures)}</div>')


def classes(run: Run) -> list[str]:
    """Return the sections on classes: confusion matrix, table, worst mistakes; none otherwise."""
    from ..plots import confusion_matrix, for_files, mistakes

    net, (x, y) = run.net, run.test
    labels = pictures.labels_of(net, y)
    if labels is None or net.classes is None:
        return []
    probabilities = net.predict_proba(x)
    predicted = net.classes[probabilities.argmax(axis=1)]
    images = pictures.images_of(x)
    with for_files():
        matrix = _picture(
            confusion_matrix(labels, predicted, net.classes),
            "Confusion matrix: rows are true classes, columns predicted ones",
        )
        sections = [
            _section("Confusion matrix", matrix),
            _section("Classes", class_table(net.classes, labels, predicted)),
        ]
        if images is not None:
            worst = mistakes(probabilities, images, labels, classes=net.classes)
            sections.append(
                _section("Worst mistakes", _picture(worst, "The worst misclassified images"))
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
    table = _table(("class", "rows", "precision", "recall", "most often predicted as"), rows)
    return (
        f"{table}\n<p>Precision: of the rows predicted as this class, how many are. "
        "Recall: of the rows of this class, how many are found.</p>"
    )


def weights(run: Run) -> str:
    """Return the section with the weights of the first layer; empty if the rows are no images."""
    from ..plots import first_layer_weights, for_files

    images = pictures.images_of(run.test[0])
    if images is None:
        return ""
    with for_files():
        ax = first_layer_weights(run.net, shape=images.shape[1:])
        caption = (
            "Weights of each unit of the first layer: light on an orange pixel increases the sum "
            "of the unit, light on a blue pixel decreases it"
        )
        return _section("First layer", _picture(ax, caption))


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
    return _section("Timings", _pairs(rows)) if rows else ""


def settings(run: Run) -> str:
    """Return the section with network, data and options."""
    about, data, a = run.settings, run.settings["data"], run.net.architecture
    rows: list[tuple[str, Any]] = [
        ("network", "-".join(map(str, a.sizes))),
        ("parameters", f"{a.n_parameters:,}"),
        ("activations", ", ".join(a.activations)),
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
    return _section("Settings", _pairs(rows))


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
    return _section("Machine", _pairs(rows))


# --- Pieces ---------------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def _picture(ax: Any, caption: str) -> str:
    """Return the figure of an Axes as an image within the page."""
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=160)
    width, height = (round(96 * inches) for inches in ax.figure.get_size_inches())
    source = base64.b64encode(file.getvalue()).decode()
    # On a phone, wide figures scroll instead of shrinking until the text is unreadable.
    broad = f' style="min-width: {round(0.65 * width)}px"' if width > 800 else ""
    return (
        f'<figure><div class="wide"><img{broad} alt="{escape(caption)}" width="{width}" '
        f'height="{height}" src="data:image/png;base64,{source}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{_cell(first)}</th>'
        + "".join(f"<td>{_cell(value)}</td>" for value in rest)
        + "</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>"
    )


def _pairs(rows: Iterable[tuple[str, Any]]) -> str:
    items = "".join(f"<div><dt>{_cell(k)}</dt><dd>{_cell(v)}</dd></div>\n" for k, v in rows)
    return f"<dl>\n{items}</dl>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return escape(", ".join(shown(item, _LONGEST) for item in value)) or "–"
    return escape(shown(value, _LONGEST))


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


_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --faint: #5d6670; --line: #d9dee3; --tile: #f3f5f7;
  --note: #fff3d6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --faint: #9aa4ae; --line: #333a41; --tile: #1f242a;
    --note: #40340f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.2rem 0 0.7rem; font-size: 1.15rem; }
p { margin: 0.3rem 0; color: var(--faint); }
.note { margin-top: 0.8rem; padding: 0.5rem 0.8rem; border-radius: 6px; background: var(--note);
  color: var(--ink); }
.tiles { display: grid; gap: 0.6rem; margin: 1.2rem 0 0.6rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.tiles div { padding: 0.6rem 0.8rem; border-radius: 6px; background: var(--tile); }
.tiles strong { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.tiles span, dt, figcaption { color: var(--faint); font-size: 0.9rem; }
.row { display: grid; gap: 0.8rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
figure { margin: 0; break-inside: avoid; }
img { max-width: 100%; height: auto; padding: 0.5rem; border-radius: 6px; background: #ffffff;
  border: 1px solid var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; border-bottom: 1px solid var(--line);
  text-align: right; white-space: nowrap; }
th:first-child, td:last-child, th:last-child { text-align: left; }
thead th { color: var(--faint); font-weight: normal; font-size: 0.9rem; }
td:last-child, thead th:last-child { padding-left: 0.9rem; }
tr { break-inside: avoid; }
dl { display: grid; gap: 0 2rem; margin: 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
dl div { display: flex; justify-content: space-between; gap: 1rem; padding: 0.25rem 0;
  border-bottom: 1px solid var(--line); break-inside: avoid; }
dt { flex: none; max-width: 50%; }
dd { margin: 0; text-align: right; }
@media print {
  :root { --paper: #ffffff; --ink: #000000; --faint: #444444; --line: #bbbbbb; --tile: #f3f5f7;
    --note: #fff3d6; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  img { min-width: 0 !important; border: 0; padding: 0; }
}
"""
