"""The Cython sources keep to the layers of pyproject.toml; import-linter reads Python alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CYTHON = sorted(
    path for kind in ("pyx", "pxi", "pxd") for path in (ROOT / "pynn").rglob(f"*.{kind}")
)

pytestmark = pytest.mark.skipif(not CYTHON, reason="needs a checkout of the sources")


def layers() -> list[set[str]]:
    """The packages of each layer, the highest layer first, as pyproject.toml gives them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (found,) = re.findall(r"^layers = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    return [set(re.findall(r"\w+", line)) for line in found.splitlines()]


def imported(text: str, package: str) -> set[str]:
    """The modules of pynn that a Cython source in a package imports or cimports.

    Of ``from pynn.spec import names`` these are both pynn.spec and pynn.spec.names, since a name
    may be a module.
    """
    found = set()
    text = re.sub(r"\(([^()]*)\)", lambda match: " ".join(match[1].split()), text)
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if match := re.match(r"from\s+(\.*)([\w.]*)\s+c?import\s+(.+)", line):
            dots, module, names = match.groups()
            if dots:
                parents = package.split(".")
                parents = parents[: len(parents) - len(dots) + 1]
                module = ".".join([*parents, *filter(None, [module])])
            found.add(module)
            found |= {f"{module}.{name.split()[0]}" for name in names.split(",") if name.strip()}
        elif match := re.match(r"c?import\s+(.+)", line):
            found |= {name.split()[0] for name in match[1].split(",")}
    return {name for name in found if name.partition(".")[0] == "pynn"}


def file_of(module: str) -> Path | None:
    """The Python source of a module, if there is one."""
    base = ROOT.joinpath(*module.split("."))
    files = (base.with_suffix(".py"), base / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def imported_by_python(module: str) -> set[str]:
    """As ``imported``, of a Python module; imports for type checkers alone do not count."""
    file = file_of(module)
    if file is None:
        return set()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    statements = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    return imported("\n".join(statements), package)


def package_of(source: Path) -> str:
    return ".".join(source.parent.relative_to(ROOT).parts)


@pytest.mark.parametrize("source", CYTHON, ids=lambda path: path.name)
def test_cython_sources_import_from_lower_layers_only(source: Path) -> None:
    package = package_of(source)
    order = layers()
    level = {name: depth for depth, names in enumerate(order) for name in names}
    own = package.split(".")[1]
    for module in imported(source.read_text(encoding="utf-8"), package):
        assert module != "pynn", f"{source.name} imports pynn itself"
        target = module.split(".")[1]
        if target != own:
            assert level[target] > level[own], f"{source.name} imports {module}"
        else:
            assert not module.startswith("pynn.backends.numba"), f"{source.name} imports {module}"


@pytest.mark.parametrize("source", CYTHON, ids=lambda path: path.name)
def test_nothing_that_cython_sources_import_imports_them(source: Path) -> None:
    """No cycle leads through the compiled module."""
    package = package_of(source)
    waiting = imported(source.read_text(encoding="utf-8"), package)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in seen and file_of(module) is not None:
            seen.add(module)
            waiting |= imported_by_python(module)
    compiled = {f"{package}.{path.stem}" for path in CYTHON if path.suffix == ".pyx"}
    for module in seen:
        assert not compiled & imported_by_python(module), f"{module} imports the compiled module"


def test_imports_and_cimports_are_found() -> None:
    text = """
import os, numpy as np  # import pynn.plots
cimport cython
from libc.math cimport (
    pow,
    sqrt,
)
from pynn.spec import names, optimizers as given
from ..contract import (
    Data,
)
    from .kernels cimport Tables
from . cimport plan
import pynn.files.disk as disk
"""
    assert imported(text, "pynn.backends.cython") == {
        *("pynn.spec", "pynn.spec.names", "pynn.spec.optimizers"),
        *("pynn.backends.contract", "pynn.backends.contract.Data"),
        *("pynn.backends.cython.kernels", "pynn.backends.cython.kernels.Tables"),
        *("pynn.backends.cython", "pynn.backends.cython.plan"),
        "pynn.files.disk",
    }


def test_every_package_has_a_layer() -> None:
    names = {path.stem for path in (ROOT / "pynn").iterdir() if file_of(f"pynn.{path.stem}")}
    assert set.union(*layers()) == names - {"__init__"}
