"""Relative links of the Markdown pages lead to files, and the reference has every public name."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import pynn

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")
BLOCK = re.compile(r"^ *(`{3,}).*?^ *\1 *$", re.M | re.S)


def broken_links(text: str, folder: Path) -> list[str]:
    """Return the relative links of a Markdown text that lead to no file or heading."""
    broken = []
    for target in LINK.findall(BLOCK.sub("", text)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = folder / path
        linked = text
        if path:
            linked = file.read_text("utf-8") if file.is_file() and file.suffix == ".md" else ""
        headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", linked), re.M)
        if not file.exists() or (anchor and anchor not in map(as_anchor, headings)):
            broken.append(target)
    return broken


def as_anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_page_exist(page: Path) -> None:
    assert broken_links(page.read_text(encoding="utf-8"), page.parent) == []


def test_broken_links_are_found() -> None:
    text = (
        "# A heading\n[1](#a-heading) [2](#no) [3](nothing.md) [4](https://pynn) [5](README.md#no)"
    )
    assert broken_links(text, ROOT) == ["#no", "nothing.md", "README.md#no"]


def test_reference_documents_every_public_name() -> None:
    pages = (ROOT / "docs" / "reference").glob("*.md")
    listed = re.findall(
        r"^   (?:[\w.]+\.)?(\w+)$", "\n".join(p.read_text("utf-8") for p in pages), re.M
    )
    names = {name for name in pynn.__all__ if not isinstance(getattr(pynn, name), ModuleType)}
    assert names - set(listed) == set()
