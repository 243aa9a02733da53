"""Pages about several runs: an index of a folder, and a comparison side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...plots.curves import best_index, measures_of, recorded
from ...training.history import History
from .. import folder as folders
from . import html, options, source, svg
from .numbers import count, label, measure, number, seconds, ticks_of, title

COLORS = ("--blue", "--orange", "--green", "--pink", "--sky", "--black", "--amber")
DASHES = ("", "6 3", "2 2", "8 3 2 3")
PARTS = ("options", "data", "result", "environment")


@dataclass(frozen=True)
class Entry:
    """A run as it appears beside others, without its data."""

    folder: Path
    settings: dict[str, Any]
    history: History
    state: str

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def result(self) -> dict[str, float]:
        """The measures of its test rows, by names such as ``test_accuracy``."""
        return {
            name: float(value)
            for name, value in self.settings["result"].items()
            if name.startswith(("test_", "validation_"))
            # The file may hold any number, even one that is no float.
            and isinstance(value, (int, float))
            and abs(value) < 1e300
        }

    @property
    def score(self) -> tuple[str, float] | None:
        """The name and the value of its first measure among accuracy, R² and loss."""
        for kind in ("accuracy", "r2", "loss"):
            for name, value in self.result.items():
                if name.partition("_")[2] == kind:
                    return name, value
        return None

    @property
    def best(self) -> tuple[int, float] | None:
        """The epoch of the lowest validation loss, or training loss without validation."""
        for name in ("validation_loss", "loss"):
            values = recorded(self.history, name)
            if np.isfinite(values).any():
                at = best_index(values, "loss")
                return self.history.epoch[at], float(values[at])
        return None


def entry(folder: Path) -> Entry:
    """Read settings and history of a run.

    Raises
    ------
    ValueError, OSError
        If a file of the run cannot be read.
    """
    settings: dict[str, Any] = {}
    if (folder / folders.SETTINGS).is_file():
        try:
            settings = json.loads((folder / folders.SETTINGS).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{folder}: found settings that are no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{folder}: found settings of another kind, expected a JSON object")
    for part in PARTS:
        if not isinstance(settings.setdefault(part, {}), dict):
            raise ValueError(f"{folder}: found {part} of another kind, expected a JSON object")
    return Entry(folder, settings, _history(folder), _state(folder, settings["result"]))


def _history(folder: Path) -> History:
    from ...network import load

    # The checkpoint is newer than what an earlier part of the run left.
    for name in (folders.CHECKPOINT, folders.MODEL):
        if (folder / name).is_file():
            return load(folder / name, backend="numpy").history
    return History()


def _state(folder: Path, result: dict[str, Any]) -> str:
    if result.get("diverged"):
        return "diverged"
    if result.get("interrupted") and not result.get("unfinished"):
        return "interrupted"
    unfinished = (folder / folders.CHECKPOINT).is_file() or result.get("unfinished")
    return "unfinished" if unfinished else "ended"


def found_in(folder: Path) -> list[Path]:
    """Return the folders of all runs in a folder, the newest first."""
    runs = [path for path in folder.iterdir() if path.is_dir() and source.is_run(path)]
    return sorted(runs, key=lambda path: -path.stat().st_mtime_ns)


# --- Index ----------------------------------------------------------------------------------------


def index(folder: Path, entries: Sequence[Entry], failures: Sequence[str]) -> str:
    """Return the index of a folder of runs, and what could not be read, as HTML."""
    heads = ("run", "data", "network", "state", "epochs", "best loss", "validation loss",
             "result", "time", "date")  # fmt: skip
    rows, keys = [], []
    for one in entries:
        row, key = _index_row(one)
        rows.append(row)
        keys.append(key)
    less = ("data", "network", "best loss", "validation loss", "time", "date")
    name = folder.resolve().name
    line = f"{count(len(entries), 'run')}; click on a heading to sort"
    parts = [
        html.header(f"Runs in {name}", line, failures),
        html.section("All runs", html.table(heads, rows, less, "sortable", keys)),
        html.paragraph("pynn report RUN RUN … compares runs side by side."),
    ]
    return html.document(f"Runs in {name}", parts)


def _index_row(one: Entry) -> tuple[list[Any], list[Any]]:
    page = one.folder / "report.html"
    name: Any = one.name
    if page.is_file():
        name = html.link(os.path.join(one.folder.name, "report.html"), html.text_of(one.name))
    data, best, score = one.settings["data"], one.best, one.score
    sizes = one.settings.get("sizes")
    network = "-".join(map(str, sizes)) if isinstance(sizes, list) else None
    losses = recorded(one.history, "validation_loss")
    if np.isnan(losses).all():
        losses = recorded(one.history, "loss")
    place = data.get("source")
    place = Path(place).name if isinstance(place, str) else None
    time, date = sum(one.history.seconds), one.settings.get("date")
    row = [
        *(name, place, network, one.state, f"{len(one.history):,}"),
        None if best is None else f"{number(best[1])} (epoch {best[0]})",
        html.Markup(svg.spark(losses)),
        None if score is None else _score_text(*score),
        seconds(time) if len(one.history) else None,
        date[:10] if isinstance(date, str) else None,
    ]
    key = [
        *(one.name, place, network, one.state, len(one.history)),
        *(None if best is None else best[1], None if best is None else best[1]),
        *(None if score is None else score[1], time, date),
    ]
    return row, key


def _score_text(name: str, value: float) -> str:
    tested, _, kind = name.partition("_")
    return f"{measure(kind, value)} {tested} {label(kind)}"


# --- Comparison -----------------------------------------------------------------------------------


def comparison(entries: Sequence[Entry]) -> str:
    """Return the page that compares runs side by side, as HTML."""
    names = _names(entries)
    parts = [html.header(f"Comparison of {count(len(entries), 'run')}", ", ".join(names))]
    parts.append(html.section("Results", _results(entries, names)))
    figures = []
    for name in dict.fromkeys(m for one in entries for m in measures_of(one.history)):
        for key, role in ((f"validation_{name}", "validation"), (name, "training")):
            figures.append(_curves(entries, names, name, key, f"{title(name)}, {role}"))
    parts.append(html.section("Learning curves", html.row(f for f in figures if f)))
    parts.append(html.section("Different settings", _settings(entries, names)))
    return html.document("Comparison of runs", parts)


def _names(entries: Sequence[Entry]) -> list[str]:
    """Return the name of each run; with its folder where two have the same."""
    plain = [one.name for one in entries]
    return [
        html.text_of(name if plain.count(name) == 1 else str(one.folder))
        for name, one in zip(plain, entries, strict=True)
    ]


def _results(entries: Sequence[Entry], names: list[str]) -> str:
    kinds = dict.fromkeys(name for one in entries for name in one.result)
    rows: list[list[Any]] = [["state", *(one.state for one in entries)]]
    for kind in kinds:
        values = [one.result.get(kind, np.nan) for one in entries]
        tested, _, name = kind.partition("_")
        rows.append([f"{tested} {label(name)}", *_with_best(values, name)])
    best = [one.best for one in entries]
    rows.append(
        ["lowest validation loss", *_with_best([b[1] if b else np.nan for b in best], "loss")]
    )
    rows.append(["… in epoch", *(b[0] if b else None for b in best)])
    rows.append(["epochs", *(len(one.history) for one in entries)])
    rows.append(["time of training", *(seconds(sum(one.history.seconds)) for one in entries)])
    rows.append(["parameters", *(count(one.settings.get("parameters")) for one in entries)])
    return html.table(["", *names], rows, kind="compared")


def _with_best(values: list[float], name: str) -> list[Any]:
    """Return values as text, the best in bold."""
    texts: list[Any] = [measure(name, v) if np.isfinite(v) else "–" for v in values]
    if np.isfinite(values).sum() > 1:
        at = best_index(values, name)
        texts[at] = html.Markup(f"<strong>{texts[at]}</strong>")
    return texts


def _curves(
    entries: Sequence[Entry], names: list[str], name: str, key: str, caption: str
) -> str | None:
    """Return a measure of all runs, with their best epochs; None if no run has it."""
    found, marks = [], []
    for k, (one, run) in enumerate(zip(entries, names, strict=True)):
        y = recorded(one.history, key)
        if not np.isfinite(y).any():
            continue
        color = COLORS[k % len(COLORS)]
        found.append(svg.Curve(run, one.history.epoch, y, color, DASHES[k % len(DASHES)]))
        at = best_index(y, name)
        marks.append(svg.Mark(one.history.epoch[at], float(y[at]), "", color))
    if not found:
        return None

    def text(value: float) -> str:
        return measure(name, value)

    return html.figure(svg.compared(found, label(name), marks, text, ticks_of(name)), caption)


def _settings(entries: Sequence[Entry], names: list[str]) -> str:
    """Return a table of the settings in which the runs differ."""
    every = []
    for one in entries:
        about = {k: v for k, v in one.settings["options"].items() if k not in options.LEFT_OUT}
        about |= {"data": one.settings["data"].get("source"), "seed": one.settings.get("seed")}
        about |= {name: one.settings.get(name) for name in ("backend", "threads")}
        every.append(about | {"pynn": one.settings["environment"].get("version")})
    rows = []
    for key in dict.fromkeys(key for about in every for key in about):
        values = [about.get(key) for about in every]
        # A run that was ended by force may have no settings.
        known = [v for v, one in zip(values, entries, strict=True) if one.settings["options"]]
        if any(value != known[0] for value in known):
            rows.append([key.replace("_", " "), *values])
    if not rows:
        return html.paragraph("All known settings are equal.")
    return html.table(["setting", *names], rows, kind="compared")
