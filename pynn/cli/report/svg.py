"""Vector graphics in a page: curves, points, bars and matrices as SVG.

Colours are variables of the style sheet, so that a graphic follows the light or the dark page, and
text has the size of the page. Every function escapes the text that it is given. Coordinates are in
pixels of a box that scales to the width of its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from ...plots.curves import epoch_ticks
from .numbers import number, percent_tick, tick

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 14, 40
"""The margins of a graph within its box, which hold the labels."""
MOST_POINTS = 1500
"""A scatter of more rows shows this many of them."""
MOST_SPOTS = 300
"""Curves of more epochs have hover values for this many of them."""

Format = Callable[[float], str]


@dataclass(frozen=True)
class Curve:
    """A curve of a graph.

    Parameters
    ----------
    name
        Its name in the legend and in hover values.
    x, y
        Its points; NaN in y interrupts it.
    color
        A colour variable of the style sheet.
    dashes
        Lengths of dashes and gaps; empty for a solid line.
    end
        Index of the last point of the network; the curve is pale after it.
    """

    name: str
    x: Sequence[float]
    y: np.ndarray
    color: str
    dashes: str = ""
    end: int | None = None


@dataclass(frozen=True)
class Mark:
    """A ring around a point, or a vertical line if there is no y."""

    x: float
    y: float | None
    text: str
    color: str = "--ink"


class Graph:
    """A graph with axes, ticks and labels; `body` collects its elements."""

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        labels: tuple[str, str],
        log: bool = False,
        formats: tuple[Format, Format] = (tick, tick),
    ) -> None:
        self.log = log
        self.x_range = _widened(*x_range)
        self.y_range = y_range if log else _widened(*y_range)
        self.labels, self.formats = labels, formats
        self.body: list[str] = []

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = self.x_range
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Return the vertical place of a value."""
        low, high = self.y_range
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
        """Add ticks, their labels and the names of the axes."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value in y_ticks:
            at = self.y(value)
            self.body.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
            self.text(LEFT - 6, at + 4, self.formats[1](value), "end")
        for value in x_ticks:
            at = self.x(value)
            self.body.append(f'<path class="tick" d="M{at:.1f} {bottom}v4"/>')
            text = self.formats[0](value)
            # The last label would be cut off at the edge.
            wide = at + 3.5 * len(text) > WIDTH
            self.text(WIDTH if wide else at, bottom + 17, text, "end" if wide else "middle")
        self.body.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        self.text((LEFT + right) / 2, HEIGHT - 5, self.labels[0], "middle", "name")
        middle = (TOP + bottom) / 2
        self.body.append(
            f'<text class="name" text-anchor="middle" transform="translate(12 {middle:.0f}) '
            f'rotate(-90)">{escape(self.labels[1])}</text>'
        )

    def text(self, x: float, y: float, text: str, anchor: str, kind: str = "") -> None:
        """Add text."""
        style = f' class="{kind}"' if kind else ""
        self.body.append(
            f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def svg(self, alt: str) -> str:
        """Return the graph; `alt` describes it to screen readers."""
        return box(self.body, alt, WIDTH, HEIGHT)


def box(body: Iterable[str], alt: str, width: float, height: float) -> str:
    """Return elements as a graphic of a size."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(alt)}">'
        + "".join(body)
        + "</svg>"
    )


# --- Curves ---------------------------------------------------------------------------------------


def curves(
    found: Sequence[Curve],
    label: str,
    marks: Sequence[Mark] = (),
    format: Format = number,
    ticks_as: Format = tick,
    may_be_log: bool = True,
) -> str:
    """Return curves over epochs, with a legend and hover values for each epoch.

    The scale is logarithmic if the largest value is more than 30 times the smallest.
    """
    shown = [curve for curve in found if np.isfinite(curve.y).any()]
    if not shown:
        return '<p class="empty">no finite value</p>'
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in shown])
    log = may_be_log and bool((values > 0).all() and values.max() > 30 * values.min())
    first, last = min(c.x[0] for c in shown), max(c.x[-1] for c in shown)
    low, high = float(values.min()), float(values.max())
    if log:
        y_range, ticks = (low / 1.1, high * 1.1), log_ticks(low / 1.1, high * 1.1)
    else:
        ticks = nice_ticks(low, high)
        y_range = min(low, ticks[0]), max(high, ticks[-1])
    graph = Graph((first, last), y_range, ("epoch", label), log, (tick, ticks_as))
    graph.axes(epoch_ticks(int(first), int(last)), ticks)
    for curve in shown:
        _add_curve(graph, curve)
    for mark in marks:
        _add_mark(graph, mark)
    _add_spots(graph, shown, format)
    named = [(mark.text, mark.color, mark.y) for mark in marks if mark.text]
    lines = [(curve.name, curve.color, curve.dashes) for curve in shown]
    graphic = graph.svg(f"{label} over the epochs")
    return graphic + (legend(lines, named) if len(lines) + len(named) > 1 else "")


def compared(
    found: Sequence[Curve],
    label: str,
    marks: Sequence[Mark],
    format: Format = number,
    ticks_as: Format = tick,
) -> str:
    """Return the curves of several runs; the legend has the best value of each."""
    named = [
        replace(curve, name=f"{curve.name} (best {format(mark.y or 0.0)}, epoch {mark.x:g})")
        for curve, mark in zip(found, marks, strict=True)
    ]
    rings = [replace(mark, text="") for mark in marks]
    return curves(named, label, rings, format, ticks_as)


def _add_curve(graph: Graph, curve: Curve) -> None:
    end = len(curve.x) - 1 if curve.end is None else curve.end
    dashes = f' stroke-dasharray="{curve.dashes}"' if curve.dashes else ""
    for first, last, kind in ((0, end, "curve"), (end, len(curve.x) - 1, "curve pale")):
        path = _path(graph, curve, first, last)
        if path and (first < last or kind == "curve"):
            graph.body.append(
                f'<path class="{kind}" style="stroke:var({curve.color})"{dashes} d="{path}"/>'
            )
    if np.isfinite(curve.y[end]):
        x, y = graph.x(curve.x[end]), graph.y(curve.y[end])
        graph.body.append(
            f'<circle style="fill:var({curve.color})" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        )


def _path(graph: Graph, curve: Curve, first: int, last: int) -> str:
    # Thousands of epochs have more points than pixels.
    step = max(1, (last - first) // 1200)
    parts, pen = [], "M"
    for k in [*range(first, last, step), last]:
        if not np.isfinite(curve.y[k]):
            pen = "M"
            continue
        parts.append(f"{pen}{graph.x(curve.x[k]):.1f} {graph.y(float(curve.y[k])):.1f}")
        pen = "L"
    return "".join(parts)


def _add_mark(graph: Graph, mark: Mark) -> None:
    x, color = graph.x(mark.x), f"stroke:var({mark.color})"
    if mark.y is None:
        graph.body.append(
            f'<path class="line" style="{color}" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        )
        return
    graph.body.append(
        f'<circle class="ring" style="{color}" cx="{x:.1f}" cy="{graph.y(mark.y):.1f}" r="7"/>'
    )


def _add_spots(graph: Graph, found: Sequence[Curve], format: Format) -> None:
    """Add a strip for each epoch that shows the values of all curves while the pointer is on it."""
    epochs = sorted({x for curve in found for x in curve.x})
    step = -(-len(epochs) // MOST_SPOTS)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(epochs[::step]))
    for epoch in epochs[::step]:
        lines = [f"epoch {epoch:g}"]
        for curve in found:
            if epoch in curve.x:
                value = curve.y[list(curve.x).index(epoch)]
                if np.isfinite(value):
                    lines.append(f"{curve.name}: {format(float(value))}")
        title = escape("\n".join(lines))
        graph.body.append(
            f'<rect class="spot" x="{graph.x(epoch) - width / 2:.1f}" y="{TOP}" '
            f'width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"><title>{title}</title></rect>'
        )


def legend(
    lines: Iterable[tuple[str, str, str]],
    marks: Iterable[tuple[str, str, float | None]] = (),
) -> str:
    """Return a legend as HTML, which wraps on a narrow screen."""
    items = []
    for name, color, dashes in lines:
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        items.append(
            f'<span><svg viewBox="0 0 26 8" class="key"><path class="curve" '
            f'style="stroke:var({color})"{dash} d="M0 4H26"/></svg>{escape(name)}</span>'
        )
    for text, color, y in marks:
        shape = (
            '<circle class="ring" cx="13" cy="4" r="3.4" '
            if y is not None
            else '<path class="line" d="M13 0V8" '
        )
        items.append(
            f'<span><svg viewBox="0 0 26 8" class="key">{shape}style="stroke:var({color})"/></svg>'
            f"{escape(text)}</span>"
        )
    return f'<div class="legend">{"".join(items)}</div>'


def spark(y: np.ndarray) -> str:
    """Return the course of values as a small curve without axes."""
    good = np.isfinite(y)
    if good.sum() < 2:
        return ""
    low, high = y[good].min(), y[good].max()
    x = np.arange(len(y))[good] * 96 / (len(y) - 1) + 2
    up = 22 - 20 * (y[good] - low) / ((high - low) or 1)
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, up, strict=True))
    curve = f'<path class="curve" style="stroke:var(--blue)" d="M{path}"/>'
    return f'<svg class="spark" viewBox="0 0 100 24" aria-hidden="true">{curve}</svg>'


# --- Points and bars ------------------------------------------------------------------------------


def points(
    x: np.ndarray,
    y: np.ndarray,
    labels: tuple[str, str],
    diagonal: bool = False,
    zero: bool = False,
) -> str:
    """Return points with a diagonal (x = y) or a line at zero; of many rows an even choice."""
    step = -(-len(x) // MOST_POINTS)
    x, y = x[::step], y[::step]
    both = np.concatenate([x, y]) if diagonal else x
    across = nice_ticks(float(both.min()), float(both.max()))
    rising = np.append(y, 0.0) if zero else y
    up = across if diagonal else nice_ticks(float(rising.min()), float(rising.max()))
    graph = Graph((across[0], across[-1]), (up[0], up[-1]), labels)
    graph.axes(across, up)
    if diagonal:
        ends = (graph.x_range[0], graph.x_range[1])
        a, b = ((graph.x(v), graph.y(v)) for v in ends)
        graph.body.append(f'<path class="exact" d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}"/>')
    if zero:
        graph.body.append(f'<path class="exact" d="M{LEFT} {graph.y(0):.1f}H{WIDTH - RIGHT}"/>')
    opacity = float(np.clip(12 / math.sqrt(len(x)), 0.25, 0.85))
    graph.body.append(f'<g class="points" style="opacity:{opacity:.2f}">')
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        graph.body.append(
            f'<circle cx="{graph.x(a):.1f}" cy="{graph.y(b):.1f}" r="2.6">'
            f"<title>{escape(f'{labels[0]} {number(a)}, {labels[1]} {number(b)}')}</title></circle>"
        )
    graph.body.append("</g>")
    return graph.svg(f"{labels[1]} over {labels[0]}")


def histogram(values: np.ndarray, bins: int, labels: tuple[str, str]) -> str:
    """Return the number of values in bins of equal width, with a line at zero."""
    counts, edges = np.histogram(values, bins)
    ticks = nice_ticks(float(edges[0]), float(edges[-1]))
    up = nice_ticks(0.0, float(counts.max()))
    graph = Graph((edges[0], edges[-1]), (0, max(up[-1], counts.max())), labels)
    inside = [v for v in ticks if edges[0] <= v <= edges[-1]]
    graph.axes(inside, [v for v in up if v == int(v)])
    for number_of, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        left, top = graph.x(low), graph.y(number_of)
        graph.body.append(
            f'<rect class="bar" x="{left + 0.5:.1f}" y="{top:.1f}" '
            f'width="{max(0.5, graph.x(high) - left - 1):.1f}" '
            f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{number(low)} to {number(high)}: '
            f"{number_of:,} rows</title></rect>"
        )
    if edges[0] <= 0 <= edges[-1]:
        graph.body.append(f'<path class="exact" d="M{graph.x(0):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    return graph.svg(f"Distribution of {labels[0]}")


def calibration(predicted: np.ndarray, observed: np.ndarray, rows: np.ndarray, label: str) -> str:
    """Return a calibration curve; the area of a point shows its rows."""
    ticks = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    graph = Graph((0, 1), (0, 1), (label, "observed share"), formats=(percent_tick, percent_tick))
    graph.axes(ticks, ticks)
    start, end = (graph.x(0), graph.y(0)), (graph.x(1), graph.y(1))
    graph.body.append(
        f'<path class="exact" d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"/>'
    )
    places = [(graph.x(a), graph.y(b)) for a, b in zip(predicted.tolist(), observed.tolist())]
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
    graph.body.append(f'<path class="curve" style="stroke:var(--blue)" d="M{path}"/>')
    for (a, b), p, o, n in zip(places, predicted, observed, rows.tolist(), strict=True):
        radius = 3 + 7 * math.sqrt(n / rows.max())
        graph.body.append(
            f'<circle class="point" cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}"><title>predicted '
            f"{100 * p:.1f} %, observed {100 * o:.1f} %, {n:,} rows</title></circle>"
        )
    return graph.svg("Calibration curve")


# --- Ticks ----------------------------------------------------------------------------------------


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return a range of some width."""
    if high > low:
        return low, high
    pad = abs(low) / 2 or 0.5
    return low - pad, high + pad


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at least two multiples of 1, 2 or 5 times a power of ten around a range."""
    low, high = _widened(low, high)
    power = math.floor(math.log10(high - low)) - 1
    for step in (unit * 10.0**p for p in range(power, power + 4) for unit in (1, 2, 5)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < most:
            return [round(k * step, 12 - power) for k in range(first, last + 1)]
    return [low, high]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten in a range; with fewer than three also 2 and 5 times them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(tens) >= 3:
        return tens[:: -(-len(tens) // 7)]
    fine = [unit * 10.0**p for p in powers for unit in (1, 2, 5)]
    return [v for v in fine if low <= v <= high] or [low, high]
