"""The chart of epoch times in the README: python -m benchmarks.chart.

It shows the times stored in docs/benchmarks/performance.json, on two threads, and writes one SVG
file for light and one for dark backgrounds into docs/_static.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from pynn.files.disk import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks" / "performance.json"
FOLDER = ROOT / "docs" / "_static"
THREADS = 2
NAMES = {
    "pynn": "pynn",
    "jax": "JAX",
    "numpy": "NumPy",
    "torch": "PyTorch",
    "scikit-learn": "scikit-learn",
}
COLORS = {
    "light": {
        "ink": "#1f2328", "faint": "#59636e", "line": "#d8dee4",
        "pynn": "#D55E00", "jax": "#0072B2", "numpy": "#009E73", "torch": "#A0527F",
        "scikit-learn": "#8C8C8C",
    },
    "dark": {
        "ink": "#e6edf3", "faint": "#9aa4af", "line": "#3a4149",
        "pynn": "#FF8A3C", "jax": "#56B4E9", "numpy": "#35C79A", "torch": "#E29BC3",
        "scikit-learn": "#A8A8A8",
    },
}  # fmt: skip
WIDTH, LEFT, RIGHT, TOP, ROW = 860, 292, 700, 58, 30
"""Sizes in pixels: the axis reaches from LEFT to RIGHT; each case has one ROW."""
FIRST, LAST = 5, 5000
"""Ends of the axis, in milliseconds."""


def times(found: dict[str, Any], case: str) -> dict[str, float]:
    """Return the median time of an epoch in milliseconds, by library."""
    return {
        row["entrant"]: 1000 * median(row["seconds"])
        for row in found["results"]
        if row["case"] == case and row["threads"] == THREADS and row["seconds"]
    }


def title(case: dict[str, Any]) -> str:
    """Return the network and the settings of a case in a few words."""
    size = case["batch_size"]
    batch = "full batch" if size in ("full", case["rows"]) else f"batch {size}"
    optimizer = {"sgd": "SGD", "adam": "Adam"}[case["optimizer"]]
    return f"{'-'.join(map(str, case['sizes']))}, {optimizer}, {batch}"


def position(milliseconds: float) -> float:
    """Return the place of a time on the logarithmic axis."""
    return LEFT + (RIGHT - LEFT) * math.log(milliseconds / FIRST) / math.log(LAST / FIRST)


def mark(library: str, x: float, y: float, color: str) -> str:
    """Return the symbol of a library."""
    if library == "pynn":
        return f'<circle cx="{x:.1f}" cy="{y}" r="7" fill="{color}"/>'
    if library == "jax":
        return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9" fill="{color}"/>'
    if library == "numpy":
        corners = f"{x:.1f},{y - 6} {x + 6:.1f},{y} {x:.1f},{y + 6} {x - 6:.1f},{y}"
    elif library == "torch":
        corners = f"{x:.1f},{y - 6} {x + 6:.1f},{y + 5} {x - 6:.1f},{y + 5}"
    else:
        corners = f"{x:.1f},{y + 6} {x + 6:.1f},{y - 5} {x - 6:.1f},{y - 5}"
    return f'<polygon points="{corners}" fill="{color}"/>'


def chart(found: dict[str, Any], theme: str) -> str:
    """Return the chart as the text of an SVG file."""
    colors = COLORS[theme]
    bottom = TOP + ROW * len(found["cases"])
    parts: list[str] = []

    def text(x: float, y: float, words: str, color: str = "ink", more: str = "") -> None:
        parts.append(
            f'<text x="{x:.1f}" y="{y}" fill="{colors[color]}"{more}>{escape(words)}</text>'
        )

    at = float(LEFT)
    for library, name in NAMES.items():
        parts.append(mark(library, at, 16, colors[library]))
        text(at + 12, 20, name, more=' font-weight="bold"' if library == "pynn" else "")
        at += 36 + 7.5 * len(name)
    text(RIGHT + 24, 20, "next fastest / pynn", "faint")
    for tick in (10, 100, 1000):
        x = position(tick)
        parts.append(f'<path d="M{x:.1f} {TOP - 16}V{bottom}" stroke="{colors["line"]}"/>')
        text(x, bottom + 18, f"{tick:,} ms", "faint", ' text-anchor="middle"')
    text(LEFT - 16, bottom + 18, "time of one epoch, logarithmic", "faint", ' text-anchor="end"')
    for k, case in enumerate(found["cases"]):
        y = TOP + ROW * k
        measured = times(found, case["name"])
        ours = measured["pynn"]
        best = min((t, library) for library, t in measured.items() if library != "pynn")
        ends = f"M{position(ours):.1f} {y}H{position(max(measured.values())):.1f}"
        parts.append(f'<path d="{ends}" stroke="{colors["line"]}" stroke-width="2"/>')
        text(LEFT - 16, y + 4, title(case), more=' text-anchor="end"')
        parts += [
            mark(p, position(measured[p]), y, colors[p]) for p in reversed(NAMES) if p in measured
        ]
        text(RIGHT + 24, y + 4, f"{best[0] / ours:.1f} ({NAMES[best[1]]})")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" '
        f'width="{WIDTH}" height="{bottom + 30}" font-family="system-ui, sans-serif" '
        'font-size="13" role="img">\n<title>Milliseconds per epoch of eight networks</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def path_of(theme: str) -> Path:
    """Return the path of the chart for a light or a dark background."""
    return FOLDER / f"epochs-{theme}.svg"


def main() -> None:
    """Write both files."""
    found = json.loads(RESULTS.read_text("utf-8"))
    for theme in COLORS:
        with atomic_write(path_of(theme)) as file:
            file.write(chart(found, theme).encode())


if __name__ == "__main__":
    main()
