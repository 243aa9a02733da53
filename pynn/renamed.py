"""Old module names, for pickles and scripts that were written before modules moved."""

from __future__ import annotations

import importlib
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
    "pynn.numba_functions": "pynn.backends.numba.custom",
    "pynn.numba_kernels": "pynn.backends.numba.engine",
    "pynn.philox": "pynn.spec.philox",
    "pynn.profile": "pynn.training.profile",
    "pynn.progress": "pynn.training.progress",
    "pynn.reference": "pynn.backends.reference",
    "pynn.report": "pynn.cli.report",
    "pynn.run": "pynn.cli.folder",
    "pynn._core": "pynn.backends.cython._core",
}
"""New name of each module that moved. Modules that became packages of the same name, such as
``pynn.spec``, are not listed: the packages export the classes that pickles name."""


class _Finder:
    # No base class: importlib.abc takes tens of milliseconds to import.

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name not in RENAMED:
            return None
        return importlib.machinery.ModuleSpec(name, self)  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> None:
        """Let the import system create the module."""

    def exec_module(self, module: ModuleType) -> None:
        # The import system returns what a loader leaves in sys.modules.
        sys.modules[module.__name__] = importlib.import_module(RENAMED[module.__name__])


def install() -> None:
    """Make imports of the old names return the new modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
