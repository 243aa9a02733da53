"""docs/explanation/guarantees.md: every test it names exists, and every guarantee names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "guarantees.md"

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promises(text: str) -> list[tuple[str, str]]:
    """The rows of the page's tables: promise and what holds it."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    return [
        (row[0].strip(), row[1].strip())
        for row in rows
        if row[0].strip() not in ("guarantee", "---") and not set("".join(row)) <= set("-: ")
    ]


def unheld(text: str) -> list[str]:
    """The promises that no test holds, or none that exists."""
    found = []
    for promise, held in promises(text):
        named = NAMED.findall(held)
        # Nothing but tests may stand there: a name that is spelt otherwise is not looked for.
        rest = NAMED.sub("", held).replace(",", "").strip()
        if not named or rest or not all(name in names_in(path) for path, name in named):
            found.append(promise)
    return found


def names_in(path: str) -> set[str]:
    """The names of the tests of a file, which pytest would run."""
    file = ROOT / path
    if not file.is_file():
        return set()
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return {
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_guarantee_names_its_tests() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(promises(text)) == len(re.findall(r"^\| [A-Z`]", text, re.MULTILINE)) > 30
    assert unheld(text) == []


@pytest.mark.parametrize(
    "held",
    [
        "",
        "`tests/test_promises.py::test_that_is_not_there`",
        "`tests/test_not_there.py::test_every_guarantee_names_its_tests`",
        "`tests/test_promises.py::unheld`",
        "`tests/test_promises.py::test_every_guarantee_names_its_tests`, test_every_guarantee",
    ],
)
def test_a_guarantee_without_a_test_is_found(held: str) -> None:
    text = f"| guarantee | tested by |\n| --- | --- |\n| All is well | {held} |\n"
    assert unheld(text) == ["All is well"]
    good = "`tests/test_promises.py::test_every_guarantee_names_its_tests`"
    assert unheld(text.replace(f"| {held} |", f"| {good}, {good} |")) == []
