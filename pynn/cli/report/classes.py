"""The sections of a page on classes and images: matrix, table, mistakes, samples and weights."""

from __future__ import annotations

from html import escape

import numpy as np

from ...plots.classes import LEAST_SCALE, class_indices
from ...plots.models import are_probabilities
from ...plots.pictures import evenly_confident, shown_classes
from ...plots.style import DARK, LIGHT, black_or_white, percent
from . import html, svg
from .findings import Findings
from .numbers import percent as share_text

Array = np.ndarray

MOST_NUMBERS = 30
"""More classes get no numbers in the cells; more than four times this number, no matrix."""
CARDS = 12
"""Number of mistakes and of samples."""
UNITS = 24
"""Number of units of the first layer."""


def class_sections(found: Findings) -> list[str]:
    """Return the sections on classes and images; none if the targets are no labels."""
    parts = []
    if found.labels is not None and found.counts is not None:
        names = found.net.classes
        if len(names) <= 4 * MOST_NUMBERS:
            body = matrix([html.text_of(str(name)) for name in names.tolist()], found.counts)
            parts.append(html.section("Confusion matrix", body))
        parts.append(html.section("Classes", class_table(names, found.labels, found.predicted)))
        parts.append(calibration(found))
        if found.images is not None and found.probabilities is not None:
            parts += [mistakes(found), samples(found)]
    parts.append(first_layer(found))
    return [part for part in parts if part]


# --- Confusion matrix -----------------------------------------------------------------------------


def matrix(names: list[str], counts: Array) -> str:
    """Return how often each class (row) was predicted as each class (column).

    The diagonal is blue, mistakes are orange, by their share of the row.
    """
    n = len(names)
    cell = 84 if n <= 4 else 44 if n <= 12 else 30 if n <= MOST_NUMBERS else max(4, 700 // n)
    widest = max(map(len, names))
    left = min(140, 12 + 8 * widest) + 8
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off = rates[~np.eye(n, dtype=bool)]
    scale = max(LEAST_SCALE, float(off.max(initial=0.0)))
    body = []
    for i in range(n):
        for j in range(n):
            level = rates[i, j] if i == j else rates[i, j] / scale
            text = f"{counts[i, j]:,}" if n <= MOST_NUMBERS else ""
            what = (
                f"true {names[i]}, predicted {names[j]}: {counts[i, j]:,} "
                f"({100 * rates[i, j]:.1f} % of the row)"
            )
            place = left + j * cell, 4 + i * cell
            body.append(_cell(place, cell, i == j, float(level), text, what))
    body += _names_beside(names, cell, left)
    width, height = left + n * cell + 6, n * cell + 30
    graphic = svg.box(body, "Confusion matrix", width, height)
    note = (
        "Rows are true classes, columns predicted ones. Orange: share of the row, from 0 to "
        f"{100 * scale:.0f} %."
    )
    style = f' style="max-width:{1.15 * width:.0f}px"'
    return f'{html.paragraph(note)}<figure class="matrix"{style}>{graphic}</figure>'


def _cell(
    place: tuple[float, float], size: float, right: bool, level: float, text: str, what: str
) -> str:
    x, y = place
    kind = "right" if right else "wrong"
    rect = (
        f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{size - 1:.0f}" '
        f'height="{size - 1:.0f}" fill-opacity="{level:.3f}"/>'
    )
    inner = ""
    if text:
        light, dark = (_text_color(theme, right, level) for theme in (_PAGE_LIGHT, _PAGE_DARK))
        if text == "0":
            light, dark = _PAGE_LIGHT[3], _PAGE_DARK[3]
        font = min(18, 0.36 * size, 1.55 * size / max(1, len(text)))
        inner = (
            f'<text style="--l:{light};--d:{dark};font-size:{font:.1f}px" text-anchor="middle" '
            f'x="{x + size / 2:.1f}" y="{y + 0.62 * size:.1f}">{escape(text)}</text>'
        )
    return f'<g class="cell"><title>{escape(what)}</title>{rect}{inner}</g>'


# Paper, blue, orange and the colour of zeros of the style sheet.
_PAGE_LIGHT = ("#ffffff", "#0072b2", "#c65500", "#5d6670")
_PAGE_DARK = ("#14171a", "#56b4e9", "#ff9a4d", "#9aa4ae")


def _text_color(page: tuple[str, ...], right: bool, level: float) -> str:
    """Return black or white, whichever has more contrast to a cell."""
    paper, full = _rgb(page[0]), _rgb(page[1 if right else 2])
    mixed = [a + (b - a) * min(1.0, level) for a, b in zip(paper, full, strict=True)]
    return {"black": "#000", "white": "#fff"}[black_or_white(mixed)]


def _rgb(color: str) -> list[float]:
    return [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def _names_beside(names: list[str], cell: float, left: float) -> list[str]:
    """Return the names of the classes, on the left and below."""
    n = len(names)
    step = 1 if n <= 2 * MOST_NUMBERS else 5
    body = []
    for k in range(0, n, step):
        name = names[k] if len(names[k]) <= 16 else names[k][:15] + "…"
        fits = len(name) * 8 < cell + 8
        head = name if fits else name[: max(1, int(cell / 9))] + "…"
        middle = 4 + (k + 0.62) * cell, left + (k + 0.5) * cell
        for x, y, text, anchor in (
            (left - 8, middle[0], name, "end"),
            (middle[1], 4 + n * cell + 17, head, "middle"),
        ):
            body.append(
                f'<text class="name" style="font-size:14px" x="{x:.1f}" y="{y:.1f}" '
                f'text-anchor="{anchor}">{escape(text)}</text>'
            )
    return body


# --- Table ----------------------------------------------------------------------------------------


def class_table(names: Array, true: Array, predicted: Array) -> str:
    """Return a table with rows, precision, recall, F1 and the commonest mistake of each class."""
    rows = []
    for name in names.tolist():
        of_class, as_class = true == name, predicted == name
        right = int((of_class & as_class).sum())
        precision = right / as_class.sum() if as_class.any() else None
        recall = right / of_class.sum() if of_class.any() else None
        both = int(of_class.sum() + as_class.sum())
        f1 = 2 * right / both if both else None
        wrong, counts = np.unique(predicted[of_class & ~as_class], return_counts=True)
        most = f"{wrong[counts.argmax()]} ({counts.max():,})" if len(wrong) else "–"
        found = html.Markup(
            (html.meter(recall) if recall is not None else "") + share_text(recall, 1)
        )
        rows.append(
            (name, f"{of_class.sum():,}", share_text(precision, 1), found, share_text(f1, 1), most)
        )
    heads = ("class", "rows", "precision", "recall", "F1", "most often predicted as")
    note = html.paragraph(
        "Precision: share of the rows predicted as this class that belong to it. Recall: share of "
        "the rows of this class that are predicted as it. F1: their harmonic mean."
    )
    return f"{html.table(heads, rows, ('rows',), 'narrow')}\n{note}"


def calibration(found: Findings) -> str:
    """Return the calibration curve; empty if the outputs are no probabilities."""
    curve = found.calibration
    if curve is None:
        return ""
    what = html.text_of(str(found.net.classes[1])) if curve.binary else "the predicted class"
    graphic = svg.calibration(
        curve.predicted, curve.observed, curve.rows, f"predicted probability of {what}"
    )
    caption = (
        "How often predictions of a probability come true; on the line they are calibrated, below "
        "it too high. The area of a point shows its rows."
    )
    return html.section("Calibration", html.figure(graphic, caption))


# --- Images ---------------------------------------------------------------------------------------


def mistakes(found: Findings) -> str:
    """Return the wrongly classified images with the least probable true class."""
    assert found.labels is not None
    assert found.probabilities is not None
    wrong = np.flatnonzero(found.predicted != found.labels)
    if not len(wrong):
        text = f"No mistake in {len(found.labels):,} rows."
        return html.section("Worst mistakes", html.paragraph(text))
    truth = class_indices(found.labels[wrong], found.net.classes.tolist(), "y")
    order = np.argsort(found.probabilities[wrong, truth], kind="stable")[:CARDS]
    kind = "probability" if are_probabilities(found.probabilities) else "output"
    note = (
        f"{len(order)} of {len(wrong):,} mistakes in {len(found.labels):,} rows, with the "
        f"least {kind} for the true class, which is bold and blue. Rows are counted from 0."
    )
    return html.section("Worst mistakes", html.paragraph(note) + _cards(found, wrong[order]))


def samples(found: Findings) -> str:
    """Return images from the most to the least confident prediction."""
    assert found.probabilities is not None
    confidence = np.nan_to_num(found.probabilities.max(axis=1))
    note = (
        "From the most to the least confident prediction, in equal steps of confidence: not a "
        "random sample, in which nearly all would be right."
    )
    rows = evenly_confident(confidence, CARDS)
    return html.section("Predictions", html.paragraph(note) + _cards(found, rows))


def _cards(found: Findings, rows: Array) -> str:
    return f'<div class="cards">{"".join(_card(found, int(row)) for row in rows)}</div>'


def _card(found: Findings, row: int) -> str:
    """Return an image with its true and predicted class and the bars of three classes."""
    assert found.labels is not None
    assert found.probabilities is not None
    assert found.images is not None
    outputs = found.probabilities[row]
    names = found.net.classes.tolist()
    true, predicted = found.labels[row].item(), found.predicted[row].item()
    said = html.text_of(str(true))
    right = true == predicted
    title = f"{said} ✓" if right else f"{said} predicted as {html.text_of(str(predicted))} ✗"
    spell = percent if are_probabilities(found.probabilities) else "{:.2f}".format
    largest = max(1.0, float(np.nan_to_num(outputs).max()))
    bars = ""
    for k in shown_classes(outputs, names.index(true)):
        tag, kind = ("b", ' class="true"') if names[k] == true else ("span", "")
        width = 100 * float(np.clip(np.nan_to_num(outputs[k]) / largest, 0, 1))
        bars += (
            f"<{tag}>{escape(html.text_of(str(names[k])))}</{tag}>"
            f'<i{kind} style="width:{width:.0f}%"></i>'
            f'<span class="value">{escape(spell(outputs[k]))}</span>'
        )
    return (
        f'<div class="card">{html.image(_dark_on_light(found.images[row]), f"Row {row}: {title}")}'
        f'<div class="name {"yes" if right else "no"}">{escape(title)}</div>'
        f'<small>row {row:,}</small><div class="share">{bars}</div></div>'
    )


def _dark_on_light(image: Array) -> Array:
    """Return an image as uint8 in which 0 is white and the largest value of the image black."""
    values = np.nan_to_num(np.asarray(image, float))
    low, high = min(0.0, float(values.min())), float(values.max())
    return 255 - np.rint(255 * (values - low) / ((high - low) or 1)).astype(np.uint8)


def first_layer(found: Findings) -> str:
    """Return the weights of units of the first layer as images; empty if rows are no images."""
    if found.images is None:
        return ""
    weights = np.asarray(found.net.weights[0], float)
    shape = found.images.shape[1:]
    norms = np.linalg.norm(weights, axis=0)
    order = np.argsort(-np.nan_to_num(norms), kind="stable")[:UNITS]
    used = (found.images != 0).any(axis=0)
    sizes = np.abs(weights[used.ravel()][:, order])
    sizes = sizes[np.isfinite(sizes)]
    limit = (float(np.percentile(sizes, 99.5)) if sizes.size else 0.0) or 1.0
    tiles = ""
    for k in order.tolist():
        image = _colored(np.nan_to_num(weights[:, k]).reshape(shape) / limit, used)
        tiles += f"<div>{html.image(image, f'Weights of unit {k}')}<span>unit {k}</span></div>"
    note = (
        f"{len(order)} of {weights.shape[1]:,} units, with the largest weights. Light on an "
        "orange pixel raises the sum of the unit, light on a blue pixel lowers it. Pale pixels are "
        f"0 in all {found.run.tested} rows."
    )
    return html.section("First layer", f'{html.paragraph(note)}<div class="units">{tiles}</div>')


def _colored(weights: Array, used: Array) -> Array:
    """Return weights in [−1, 1] as colours, transparent at 0 and where pixels are not used."""
    # Between the colours of both themes: readable on light and on dark pages.
    blue, orange = (
        np.mean([[255 * c for c in _rgb(getattr(theme, name))] for theme in (LIGHT, DARK)], axis=0)
        for name in ("blue", "orange")
    )
    rgba = np.empty((*weights.shape, 4), np.uint8)
    rgba[..., :3] = np.where(weights[..., None] < 0, blue, orange)
    opacity = np.clip(np.abs(weights), 0, 1) * np.where(used, 1.0, 0.1)
    rgba[..., 3] = np.rint(255 * opacity)
    return rgba
