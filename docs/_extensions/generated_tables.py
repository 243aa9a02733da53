"""Sphinx extension: tables that are generated from the code when the site is built.

A page has a line such as ``<!-- table: gaps -->``, which the table replaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sphinx.application import Sphinx

from pynn.backends import gaps

TABLES: dict[str, Callable[[], str]] = {"gaps": gaps.table}
PLACE = re.compile(r"^<!-- table: (\w+) -->$", re.M)


def insert(app: Sphinx, page: str, source: list[str]) -> None:
    """Insert the tables of a page before it is parsed."""
    source[0] = PLACE.sub(lambda match: TABLES[match[1]](), source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", insert)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
