"""Sphinx extension: relative links that work on a repository page work in the site as well.

A page links to a source file by its relative path, for example ``../pynn/reference.py``. In the
site such a link leads to a page with the highlighted file, a link to a folder to a list of its
files, and a link to a Markdown file of the site to its page. A link to a file that does not exist
is a warning, which ``make docs`` treats as an error.

``{include}`` fences of Markdown files outside docs/ are expanded here, so that the links of the
included file are resolved relative to its own folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.osutil import relative_uri

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

INCLUDED = {
    "ARCHITECTURE.md": "development/architecture",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "development/contributing",
    "README.md": "index",
    "csrc/kernels/README.md": "development/kernels",
}
"""Markdown files outside docs/ and the pages that stand for them."""

SCHEME = "repository:"
FOLDER = "source/"
LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
BLOCK = re.compile(r"^ *(`{3,})[^\n]*\n.*?^ *\1 *$", re.M | re.S)
INCLUDE = re.compile(r"^```\{include\} (?P<path>\S+)\n```$", re.M)


def site_link(target: str, folder: Path, page: str) -> str:
    """Return the target of a link, found in a file of ``folder``, as ``page`` has to write it."""
    path, hash_sign, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return target
    file = (folder / path).resolve()
    if not file.exists():
        logger.warning("the link to %s leads to no file", target, location=page)
        return target
    if not file.is_relative_to(ROOT):
        logger.warning("the link to %s leaves the repository", target, location=page)
        return target
    name = file.relative_to(ROOT).as_posix()
    if name in INCLUDED:
        file = DOCS / f"{INCLUDED[name]}.md"
    if file.is_relative_to(DOCS) and file.is_file():
        return os.path.relpath(file, (DOCS / page).parent) + hash_sign + anchor
    return SCHEME + name


def rewrite(text: str, folder: Path, page: str) -> str:
    """Rewrite the links of a Markdown text that lies in ``folder``, outside code blocks."""

    def outside_code(part: str) -> str:
        return LINK.sub(
            lambda m: f"[{m['text']}]({site_link(m['target'], folder, page)})",
            part,
        )

    kept, end = [], 0
    for block in BLOCK.finditer(text):
        kept += [outside_code(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*kept, outside_code(text[end:])])


def read_source(app: Sphinx, page: str, source: list[str]) -> None:
    """Rewrite links, and expand includes, before a Markdown page is parsed."""
    file = Path(app.env.doc2path(page))
    if file.suffix != ".md":
        return

    parts, end = [], 0
    for match in INCLUDE.finditer(source[0]):
        other = (file.parent / match["path"]).resolve()
        app.env.note_dependency(str(other))
        parts.append(rewrite(source[0][end : match.start()], file.parent, page))
        parts.append(rewrite(other.read_text(encoding="utf-8"), other.parent, page))
        end = match.end()
    source[0] = "".join([*parts, rewrite(source[0][end:], file.parent, page)])


def link_to_sources(app: Sphinx, doctree: nodes.document) -> None:
    """Point the links to repository files at the pages that `source_pages` adds."""
    page = app.env.docname
    used: set[str] = set()
    for node in list(doctree.findall(nodes.reference)):
        target = str(node.get("refuri", ""))
        if target.startswith(SCHEME):
            name = target.removeprefix(SCHEME)
            used.add(name)
            node["refuri"] = relative_uri(page_uri(page), page_uri(FOLDER + name))
    sources(app.env)[page] = used


def page_uri(page: str) -> str:
    return f"{page}.html"


def sources(env: BuildEnvironment) -> dict[str, set[str]]:
    """Return, for each page, the repository files and folders that it links to."""
    if not hasattr(env, "repository_sources"):
        env.repository_sources = {}  # type: ignore[attr-defined]
    return env.repository_sources  # type: ignore[attr-defined, no-any-return]


def forget(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    sources(env).pop(page, None)


def merge(app: Sphinx, env: BuildEnvironment, pages: set[str], other: BuildEnvironment) -> None:
    sources(env).update({page: sources(other).get(page, set()) for page in pages})


def files_of(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix in (".py", ".ipynb", ".yml", ".md", ".toml")
    )


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each linked file, and for each linked folder and its files."""
    names = set().union(*sources(app.env).values())
    for name in list(names):
        if (ROOT / name).is_dir():
            names |= {file.relative_to(ROOT).as_posix() for file in files_of(ROOT / name)}
    for name in sorted(names):
        path = ROOT / name
        here = page_uri(FOLDER + name)
        if path.is_dir():
            rows = [
                f'<li><a href="{relative_uri(here, page_uri(FOLDER + f"{name}/{file.name}"))}">'
                f"{escape(file.name)}</a></li>"
                for file in files_of(path)
            ]
            body = f"<ul>{''.join(rows)}</ul>"
        else:
            text = path.read_text(encoding="utf-8")
            try:
                lexer = get_lexer_for_filename(name).aliases[0]
            except ClassNotFound:
                lexer = "text"
            body = app.builder.highlighter.highlight_block(  # type: ignore[attr-defined]
                text, lexer, location=name
            )
        context = {"title": escape(name), "body": f"<h1>{escape(name)}</h1>{body}", "parents": []}
        yield FOLDER + name, context, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", read_source)
    app.connect("doctree-read", link_to_sources)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("html-collect-pages", source_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
