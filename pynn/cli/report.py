"""One page of a run: an HTML file that needs no other file, no network and no script."""

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
from . import folder as cli_folder

# Characters of a setting that are shown.
_LONGEST = 1000

# Settings that say where results went, not what was done.
_LEFT_OUT = ("run", "pictures", "plain", "quiet", "data", "seed", "backend", "threads")


def write(
    folder: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the page of a run.

    The network is measured again, on the rows that ``pynn train`` measured it on; an interrupted
    run, too, gets all its figures.

    Parameters
    ----------
    folder : path-like, optional
        That of the run; by default the newest in ``runs`` of the working directory.
    output : path-like, optional
        The file to write, whole or not at all; by default ``report.html`` in `folder`.
    data : path-like, optional
        Where the data of the run are now, if they have moved.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or the data are no longer where they were.
    ValueError
        If the folder holds no run, or the data are not those that it was trained on.
    ImportError
        If matplotlib is not installed.
    OSError
        If the file cannot be written.
    """
    from ..plots import style

    style.require()
    found = cli_folder.read(folder, data)
    target = found.folder / "report.html" if output is None else Path(output)
    if output is None and target.is_symlink():
        # The folder may be a stranger's, and its links may name any file of this user's.
        raise ValueError(f"{target}: found a symbolic link, expected a file or none")
    text = page(found)
    with atomic_write(target) as file:
        # Bytes of a path that are no text have no place on a page.
        file.write(text.encode(errors="replace"))
    return target


def page(run: cli_folder.Run) -> str:
    """Return the page of a run as HTML."""
    name = run.folder.resolve().name
    parts = [_head(run, name), _figures(run), _curves(run), *_classes(run), _weights(run)]
    parts += [_timings(run), _settings(run), _environment(run)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Nothing can be fetched, whatever the text of a run may hold.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)} – pynn</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


# --- Sections -------------------------------------------------------------------------------------


def _head(run: cli_folder.Run, name: str) -> str:
    about, data = run.settings, run.settings["data"]
    a = run.net.architecture
    text = f"<header>\n<h1>{escape(name)}</h1>\n"
    network = f"{'-'.join(map(str, a.sizes))} on {shown(data.get('source'), _LONGEST)}"
    text += f"<p>{escape(network)}{_after(' · ', about.get('date'))}</p>\n"
    if about["result"].get("interrupted"):
        text += (
            f'<p class="note">This run was interrupted after {run.net.epochs} whole epochs; '
            "the figures are those of the network as it was then.</p>\n"
        )
    diverged = about["result"].get("diverged")
    if isinstance(diverged, str) and diverged:
        text += f'<p class="note">The training diverged: {escape(diverged)}.</p>\n'
    return text + "</header>"


def _figures(run: cli_folder.Run) -> str:
    result = run.net.evaluate(*run.test)
    history = run.net.history
    figures = []
    if "accuracy" in result:
        figures.append((_percent(result["accuracy"]), f"{run.tested} accuracy"))
    figures.append((_number(result["loss"]), f"{run.tested} loss"))
    if len(history):
        last = history[-1]
        if run.tested == "test" and last.validation_accuracy is not None:
            figures.append((_percent(last.validation_accuracy), "last validation accuracy"))
        elif run.tested == "test" and last.validation_loss is not None:
            figures.append((_number(last.validation_loss), "last validation loss"))
        if last.accuracy is not None:
            figures.append((_percent(last.accuracy), "last training accuracy"))
        else:
            figures.append((_number(last.loss), "last training loss"))
        figures.append((_seconds(sum(history.seconds)), "of training"))
    figures.append((f"{run.net.epochs:,}", "epoch" if run.net.epochs == 1 else "epochs"))
    tiles = "".join(
        f"<div><strong>{escape(value)}</strong> <span>{escape(label)}</span></div>"
        for value, label in figures
    )
    return (
        f'<section>\n<div class="tiles">{tiles}</div>\n'
        f"<p>Measured on {len(run.test[0]):,} {run.tested} rows.</p>\n</section>"
    )


def _curves(run: cli_folder.Run) -> str:
    from ..plots import curves, style

    if not len(run.net.history):
        return _section("Learning curves", "<p>No whole epoch was trained.</p>")
    with style.for_files():
        # A picture each, so that they go below one another on a phone.
        both = [style.new_figure(4.6, 3.4).add_subplot() for _ in range(2)]
        axes = curves.learning_curves(run.net.history, both)
        pictures = [
            _picture(ax, f"{name} of each epoch, training and validation")
            for ax, name in zip(axes, ("Loss", "Accuracy"), strict=False)
        ]
    return _section("Learning curves", f'<div class="row">{"".join(pictures)}</div>')


def _classes(run: cli_folder.Run) -> list[str]:
    """Return what can be said of classes: the confusion matrix, a table, the worst mistakes."""
    from ..plots import classes as plots_classes
    from ..plots import pictures as plots_pictures
    from ..plots import style

    net, (x, y) = run.net, run.test
    labels = cli_folder.labels_of(net, y)
    if labels is None or net.classes is None:
        return []
    probabilities = net.predict_proba(x)
    predicted = net.classes[probabilities.argmax(axis=1)]
    images = cli_folder.images_of(x)
    with style.for_files():
        matrix = _picture(
            plots_classes.confusion_matrix(labels, predicted, net.classes),
            "Confusion matrix: rows are true classes, columns predicted ones",
        )
        sections = [
            _section("Confusion matrix", matrix),
            _section("Classes", _class_table(net.classes, labels, predicted)),
        ]
        if images is not None:
            mistakes = plots_pictures.mistakes(probabilities, images, labels, classes=net.classes)
            sections.append(
                _section("Worst mistakes", _picture(mistakes, "The images most wrongly classified"))
            )
    return sections


def _class_table(classes: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> str:
    rows = []
    for name in classes.tolist():
        of_class, as_class = true == name, predicted == name
        right = int((of_class & as_class).sum())
        precision = right / as_class.sum() if as_class.any() else None
        recall = right / of_class.sum() if of_class.any() else None
        wrong, counts = np.unique(predicted[of_class & ~as_class], return_counts=True)
        most = f"{wrong[counts.argmax()]} ({counts.max():,})" if len(wrong) else "–"
        rows.append((name, f"{of_class.sum():,}", _percent(precision), _percent(recall), most))
    table = _table(("class", "rows", "precision", "recall", "most often taken for"), rows)
    return (
        f"{table}\n<p>Precision: the share of the rows taken for a class that are of it. "
        "Recall: the share of the rows of a class that are taken for it.</p>"
    )


def _weights(run: cli_folder.Run) -> str:
    from ..plots import pictures as plots_pictures
    from ..plots import style

    images = cli_folder.images_of(run.test[0])
    if images is None:
        return ""
    with style.for_files():
        ax = plots_pictures.first_layer_weights(run.net, shape=images.shape[1:])
        words = (
            "What each unit of the first layer looks for: by an orange weight a lit pixel speaks "
            "for the unit, by a blue one against it"
        )
        return _section("First layer", _picture(ax, words))


def _timings(run: cli_folder.Run) -> str:
    history = run.net.history
    rows: list[tuple[str, str]] = []
    if len(history):
        rows = [
            ("seconds per epoch, median", f"{statistics.median(history.seconds):.4g}"),
            ("fastest epoch", _seconds(min(history.seconds))),
            ("slowest epoch", _seconds(max(history.seconds))),
            ("samples per second, median", f"{statistics.median(history.samples_per_second):,.0f}"),
            ("training in all", _seconds(sum(history.seconds))),
        ]
    seconds = run.settings["result"].get("seconds")
    # What a stranger's settings say may be anything.
    if isinstance(seconds, (int, float)) and 0 <= seconds < 1e12:
        rows.append(("with validation and progress", _seconds(seconds)))
    return _section("Timings", _pairs(rows)) if rows else ""


def _settings(run: cli_folder.Run) -> str:
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
    shown = {"activation", "output"}  # spelt out above
    for name, value in about["options"].items():
        if name not in shown and name not in _LEFT_OUT:
            rows.append((name.replace("_", " "), value))
    return _section("Settings", _pairs(rows))


def _environment(run: cli_folder.Run) -> str:
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
        label = {"version": "pynn", "backends": "backends that could be used"}
        rows.append((label.get(name, name.replace("_", " ")), value))
    return _section("Machine", _pairs(rows))


# --- Pieces ---------------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def _picture(ax: Any, words: str) -> str:
    """Return the figure of an Axes as an image that the page itself holds."""
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=160)
    width, height = (round(96 * inches) for inches in ax.figure.get_size_inches())
    source = base64.b64encode(file.getvalue()).decode()
    # On a phone it is panned, not shrunk until its words cannot be read.
    broad = f' style="min-width: {round(0.65 * width)}px"' if width > 800 else ""
    return (
        f'<figure><div class="wide"><img{broad} alt="{escape(words)}" width="{width}" '
        f'height="{height}" src="data:image/png;base64,{source}"></div>'
        f"<figcaption>{escape(words)}</figcaption></figure>\n"
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


def _after(separator: str, value: Any) -> str:
    return "" if value is None else escape(separator + shown(value, _LONGEST))


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
