"""What a backend lacks of the contract: the one list that refusals, tests and the docs read.

An entry here refuses a feature that a network shows to use, since ``choose.create`` calls
``check_network``. Features of the data or of a method are refused where they are used, by
``lacks``. ``tests/backends/test_gaps.py`` uses each of them on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..spec.architecture import Architecture
from ..spec.names import BACKENDS

MOST_LAYERS = 64
"""Layers that the arrays of the compiled core have room for: ``MAX_LAYERS`` in ``plan.pxi``."""


@dataclass(frozen=True)
class Gap:
    """A feature that not every backend has.

    Parameters
    ----------
    feature
        The feature in words, as in "which does not support …" and in the table (Markdown).
    lacking
        The backends without it, each with what the table says: ``"no"``, or a limit.
    uses
        Whether a network uses it; None if it depends on data, or on a method.
    partly
        What the table says of backends that have it under a condition.
    """

    feature: str
    lacking: Mapping[str, str]
    uses: Callable[[Architecture], bool] | None = None
    partly: Mapping[str, str] = field(default_factory=dict)


GAPS: dict[str, Gap] = {
    "functions": Gap(
        "custom activations and losses",
        {"cython": "no: kernels are compiled in advance"},
        lambda net: bool(net.functions),
    ),
    "bf16": Gap(
        "`precision='bf16'`",
        {"numba": "no"},
        lambda net: net.precision == "bf16",
        {"cython": "with AVX512-BF16 or AMX", "numpy": "emulated, slow"},
    ),
    "layers": Gap(
        f"more than {MOST_LAYERS} layers", {"cython": "no"}, lambda net: net.n_layers > MOST_LAYERS
    ),
    "norm": Gap("normalisation", {"numba": "no"}, lambda net: bool(net.norms)),
    "noise": Gap("`input_noise` and `hidden_noise`", {"numba": "no"}, lambda net: net.noisy),
    "sparse": Gap("sparse rows", {"numba": "no"}),
    "convention": Gap("the sums and means of `pynn.sklearn`", {"numba": "no"}),
    "profile": Gap(
        "`net.profile()`, times of each phase and layer", {"numba": "no", "numpy": "no"}
    ),
}
"""Every gap by a short name."""


def lacks(backend: str, gap: str) -> bool:
    """Whether a backend lacks a feature."""
    return backend in GAPS[gap].lacking


def having(*gaps: str) -> list[str]:
    """Return the backends that have all of these features, from the fastest to the slowest."""
    return [name for name in BACKENDS if not any(lacks(name, gap) for gap in gaps)]


def lacking_of(backend: str, net: Architecture) -> list[str]:
    """Return the gaps of a backend that a network runs into."""
    return [
        name
        for name, gap in GAPS.items()
        if gap.uses is not None and backend in gap.lacking and gap.uses(net)
    ]


def check_network(backend: str, net: Architecture) -> None:
    """Raise ValueError if a backend lacks what a network uses."""
    found = lacking_of(backend, net)
    if not found:
        return
    needed = [name for name, gap in GAPS.items() if gap.uses is not None and gap.uses(net)]
    expected = " or ".join(map(repr, having(*needed)))
    raise ValueError(
        f"backend: found {backend!r}, which does not support "
        f"{GAPS[found[0]].feature.replace('`', '')}; expected "
        + (expected or "a network without one of them")
    )


def table() -> str:
    """Return all gaps as a Markdown table."""
    lines = ["| | " + " | ".join(BACKENDS) + " |", "| --- |" + " --- |" * len(BACKENDS)]
    for gap in GAPS.values():
        cells = [gap.lacking.get(name, gap.partly.get(name, "yes")) for name in BACKENDS]
        lines.append(f"| {gap.feature} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
