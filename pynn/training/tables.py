"""Tables of text, and of HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any


def aligned(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return lines of cells as text, each column aligned to the right or to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def html_table(
    heads: Sequence[str], rows: Sequence[Sequence[Any]], total: Sequence[Any] | None = None
) -> str:
    """Return a table as HTML, for notebooks; all cells are escaped."""

    def line(cells: Sequence[Any], tag: str) -> str:
        inner = "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    foot = "" if total is None else f"<tfoot>{line(total, 'th')}</tfoot>"
    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(heads, 'th')}</thead><tbody>{body}</tbody>{foot}</table>"


def size_text(size: float) -> str:
    """Return a number of bytes with three digits and a unit: ``398 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.3g} GiB"
