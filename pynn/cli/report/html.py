"""HTML of a report: the page, and text, tables and images within it.

Every function escapes the text that it is given. The style and the script are files beside this
one; a page contains both, so that it is one file that needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ...files.disk import shown

# Maximum number of characters of a value.
_LONGEST = 1000


@cache
def _file(name: str) -> str:
    return (Path(__file__).with_name(name)).read_text(encoding="utf-8")


def document(title: str, parts: Sequence[str]) -> str:
    """Return a complete page."""
    script = _file("script.js")
    # Nothing can be fetched, and no other script can run, whatever text the page contains.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} – pynn</title>\n<style>{_file('style.css')}</style>\n</head>\n"
        "<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def header(title: str, line: str, notes: Iterable[str] = ()) -> str:
    """Return the top of a page: title, a line of text, and notes that stand out."""
    text = f"<header>\n<h1>{escape(title)}</h1>\n<p>{escape(line)}</p>\n"
    return text + "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes) + "</header>"


def story(sentences: Sequence[Sequence[str]]) -> str:
    """Return a section with paragraphs, each of several sentences."""
    body = "\n".join(f"<p>{escape(' '.join(part))}</p>" for part in sentences if part)
    return f'<section class="story">\n<h2>What happened</h2>\n{body}\n</section>' if body else ""


def tiles(values: Iterable[tuple[str, str]], note: str) -> str:
    """Return a section with large values, a label below each, and a note."""
    items = "".join(
        f"<div><strong>{escape(value)}</strong> <span>{escape(label)}</span></div>"
        for value, label in values
    )
    note = paragraph(note) if note else ""
    return f'<section>\n<div class="tiles">{items}</div>\n{note}\n</section>'


def section(title: str, body: str) -> str:
    """Return a section; `body` is HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def row(figures: Iterable[str]) -> str:
    """Return figures side by side; below one another on a narrow screen."""
    return f'<div class="row">{"".join(figures)}</div>'


def figure(graphic: str, caption: str) -> str:
    """Return a graphic, which is HTML, below a caption."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{graphic}</figure>\n"


def details(summary: str, body: str) -> str:
    """Return HTML that is folded away below a line."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def command(text: str) -> str:
    """Return a command with a button that copies it."""
    # Lines break between words, and not at the hyphens of an option.
    code = " ".join(
        f"<span>{escape(word)}</span>" if len(word) <= 30 else escape(word)
        for word in text.split(" ")
    )
    button = '<button type="button" data-copy>copy</button>'
    return f'<div class="command"><code>{code}</code>{button}</div>'


def image(pixels: np.ndarray, alt: str) -> str:
    """Return an image; uint8 (height, width) of dark on light, or (height, width, 4) with colour.

    Browsers enlarge it without blur.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG", optimize=True)
    source = base64.b64encode(file.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{source}">'
    )


# --- Tables ---------------------------------------------------------------------------------------


class Markup(str):
    """HTML in the cell of a table."""

    __slots__ = ()


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Any]],
    less: Sequence[str] = (),
    kind: str = "",
    keys: Sequence[Sequence[Any]] | None = None,
) -> str:
    """Return a table; the first cell of each row is its heading.

    Parameters
    ----------
    heads, rows
        The cells; text is escaped, except for `Markup`.
    less
        Heads of columns that a narrow screen leaves out.
    kind
        A class of the style sheet.
    keys
        Values that columns are sorted by when their head is clicked.
    """
    hidden = {k for k, head in enumerate(heads) if head in less}

    def tag(name: str, k: int, content: Any, more: str = "") -> str:
        style = ' class="less"' if k in hidden else ""
        return f"<{name}{style}{more}>{content}</{name}>"

    sort = "" if keys is None else ' data-sort=""'
    head = "".join(
        tag("th", k, escape(text), f' scope="col"{sort}') for k, text in enumerate(heads)
    )
    body = ""
    for place, cells in enumerate(rows):
        line = ""
        for k, value in enumerate(cells):
            key = "" if keys is None else f' data-value="{escape(_key(keys[place][k]))}"'
            line += (
                tag("td", k, cell(value), key)
                if k
                else tag("th", 0, cell(value), ' scope="row"' + key)
            )
        body += f"<tr>{line}</tr>\n"
    style = f' class="{kind}"' if kind else ""
    return (
        f'<div class="wide"><table{style}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>"
    )


def _key(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def meter(share: float) -> Markup:
    """Return a bar for a share."""
    return Markup(f'<span class="meter"><i style="width:{100 * share:.1f}%"></i></span>')


def link(target: str, text: str) -> Markup:
    """Return a link to a file beside the page; ``./`` keeps a name from being read as a scheme."""
    from urllib.parse import quote

    return Markup(f'<a href="./{quote(target)}">{escape(text)}</a>')


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """Return a list of names and values."""
    items = "".join(f"<div><dt>{cell(k)}</dt><dd>{cell(v)}</dd></div>\n" for k, v in rows)
    return f"<dl>\n{items}</dl>"


def short(text: str, count: int = 12) -> Markup:
    """Return the start of a text, whose rest appears when the pointer is on it."""
    text = text_of(text)
    if len(text) <= count:
        return Markup(escape(text))
    return Markup(f'<span title="{escape(text)}">{escape(text[:count])}…</span>')


def text_of(value: Any) -> str:
    """Return a value from a file as text, without control characters and of limited length."""
    return shown(value, _LONGEST)


def cell(value: Any) -> str:
    """Return a value of any type as text."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return escape(", ".join(text_of(item) for item in value)) or "–"
    return escape(text_of(value))
