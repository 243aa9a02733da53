"""The trainings whose digests tests/digests.py prints: every case by its name.

Nothing here but the public interface is used, since the cases also run with older builds of pynn.
"""

from __future__ import annotations

import pynn

from .bench import THREADS, Bench, Case
from .calls import add_calls, add_inputs
from .interfaces import add_nielsen, add_sklearn
from .options import (
    add_activations,
    add_bf16,
    add_custom,
    add_losses,
    add_optimizers,
    add_settings,
)
from .sizes import add_classics, add_wide


def cases_of(backend: str, isa: str = "") -> dict[str, Case]:
    """Return the cases of a backend; fewer with amx, whose float kernels are those of avx512."""
    bench = Bench(backend, THREADS if isa in ("avx512", "amx", "neon", "") else (1, 3))
    for dtype in ("float32", "float64"):
        add_classics(bench, dtype)
        add_wide(bench, dtype)
        add_inputs(bench, dtype)
        if isa != "amx":
            for add in (add_optimizers, add_activations, add_losses, add_settings, add_calls):
                add(bench, dtype)
        if backend != "cython":
            add_custom(bench, dtype)
        if backend != "numba" and isa != "amx":
            add_sklearn(bench, dtype)
    if backend == "numpy" or (backend == "cython" and pynn.info()["bf16"]):
        add_bf16(bench)
    if backend != "numba":
        add_nielsen(bench)
    return bench.cases
