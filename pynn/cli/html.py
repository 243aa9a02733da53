"""HTML of a report: the page, its style, and text, tables and pictures within it.

Every function escapes the text that it is given.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ..files.disk import shown

# Maximum number of characters of a value.
_LONGEST = 1000


def document(title: str, parts: Sequence[str]) -> str:
    """Return a complete page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Nothing can be fetched, whatever text the page contains.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} – pynn</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def header(title: str, line: str, notes: Iterable[str]) -> str:
    """Return the top of a page: title, a line of text, and notes that stand out."""
    text = f"<header>\n<h1>{escape(title)}</h1>\n<p>{escape(line)}</p>\n"
    return text + "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes) + "</header>"


def tiles(values: Iterable[tuple[str, str]], note: str) -> str:
    """Return a section with large values, a label below each, and a note."""
    items = "".join(
        f"<div><strong>{escape(value)}</strong> <span>{escape(label)}</span></div>"
        for value, label in values
    )
    return f'<section>\n<div class="tiles">{items}</div>\n{paragraph(note)}\n</section>'


def section(title: str, body: str) -> str:
    """Return a section; `body` is HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def row(pictures: Iterable[str]) -> str:
    """Return pictures side by side; below one another on a narrow screen."""
    return f'<div class="row">{"".join(pictures)}</div>'


def picture(ax: Any, caption: str) -> str:
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


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; the first cell of each row is its heading."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{cell(first)}</th>'
        + "".join(f"<td>{cell(value)}</td>" for value in rest)
        + "</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>"
    )


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """Return a list of names and values."""
    items = "".join(f"<div><dt>{cell(k)}</dt><dd>{cell(v)}</dd></div>\n" for k, v in rows)
    return f"<dl>\n{items}</dl>"


def text_of(value: Any) -> str:
    """Return a value from a file as text, without control characters and of limited length."""
    return shown(value, _LONGEST)


def cell(value: Any) -> str:
    """Return a value of any type as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return escape(", ".join(text_of(item) for item in value)) or "–"
    return escape(text_of(value))


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
