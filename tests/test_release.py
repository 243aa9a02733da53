"""What a release needs: one version everywhere, and workflows that run what was reviewed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pynn

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="needs a checkout of the sources")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_all_files_name_one_version() -> None:
    version = pynn.__version__
    assert f'__version__ = "{version}"' in text("pynn/version.py")
    assert f"\nversion: {version}\n" in text("CITATION.cff")
    first = re.search(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", text("CHANGELOG.md"), re.M)
    assert first
    assert first[1] == version
    assert f'\n  version: "{version}"\n' in text("conda-recipe/recipe.yaml")


def test_workflows_name_actions_by_commit_and_grant_nothing_by_default() -> None:
    for path in WORKFLOWS:
        workflow = path.read_text(encoding="utf-8")
        assert "\npermissions: {}\n" in workflow, path.name
        for used in re.findall(r"uses: (\S+.*)", workflow):
            local = used.startswith("./")
            assert local or re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", used), (path.name, used)


def test_the_recipe_and_the_wheel_have_the_same_requirements() -> None:
    project, recipe = text("pyproject.toml"), text("conda-recipe/recipe.yaml")
    (dependencies,) = re.findall(r"^dependencies = \[(.+)\]$", project, re.M)
    (build,) = re.findall(r"^requires = \[(.+)\]$", project, re.M)
    for requirement in re.findall(r'"([^"]+)"', f"{dependencies}, {build}"):
        name, bound = re.fullmatch(r"([\w-]+)(>=.+)", requirement).groups()  # type: ignore[union-attr]
        assert f"- {name} {bound}\n" in recipe, requirement
