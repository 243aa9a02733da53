"""The environment of a run: processor, instruction sets, versions."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from ..version import __version__
from . import choose
from .limits import processors


def environment() -> dict[str, Any]:
    """Return what a run depends on besides its settings.

    Returns
    -------
    dict
        The result of ``info``, and ``cpu``, ``cores`` (that this process may use) and ``platform``.
    """
    return {
        **info(),
        "cpu": cpu_name(),
        "cores": processors(),
        "platform": platform.platform(),
    }


def cpu_name() -> str:
    """Return the model name of the processor, or its architecture if the name is unknown."""
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        import subprocess  # takes milliseconds to import

        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        with suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
    return platform.processor() or platform.machine()


def info() -> dict[str, Any]:
    """Return versions, backends and the instruction set in use.

    Returns
    -------
    dict
        ``version``, ``python`` and ``numpy``: versions. ``backend``: the one that ``"auto"``
        selects. ``backends``: for each an empty string, or why it cannot be used. If the compiled
        core can be used: ``isa``, the instruction set in use, which ``PYNN_ISA`` can lower;
        ``isas``, those of this processor; ``compiled``, those in this build; ``bf16``, whether
        ``precision="bf16"`` is available; and ``threads``, the default number of threads.

    Examples
    --------
    >>> pynn.info()["backend"]  # doctest: +SKIP
    'cython'
    """
    reasons = choose.available()
    found = {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "backend": choose.resolve("auto"),
        "backends": reasons,
    }
    if not reasons["cython"]:
        from .cython import _core  # type: ignore[attr-defined]

        found.update(_core.info())
    return found
