"""Old module names, so that pickles and scripts that name them still load."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

RENAMED = {
    "pynn.blocks": "pynn.training.blocks",
    "pynn.checkpoint": "pynn.training.checkpoint",
    "pynn.divergence": "pynn.training.divergence",
    "pynn.functions": "pynn.spec.functions",
    "pynn.history": "pynn.training.history",
    "pynn.images": "pynn.data.images",
    "pynn.initialise": "pynn.training.initialise",
    "pynn.memory": "pynn.arrays.memory",
    "pynn.philox": "pynn.spec.philox",
    "pynn.profile": "pynn.training.profile",
    "pynn.progress": "pynn.training.progress",
    "pynn.reference": "pynn.backends.reference",
    "pynn.report": "pynn.cli.report",
    "pynn.run": "pynn.cli.folder",
    "pynn._core": "pynn.backends.cython._core",
}
"""Old name: new name, for modules whose old name is no package today."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the new module where the old name is asked for."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name not in RENAMED:
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec: Any) -> ModuleType:
        return importlib.import_module(RENAMED[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        pass


def install() -> None:
    """Let imports of the old names find the new modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
