"""The backends, instruction sets and dtypes that tests of backends are run with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import parity


@pytest.fixture(params=parity.VARIANTS, ids=lambda v: "-".join(filter(None, v)))
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of a backend other than the reference, with one of its instruction sets in use."""
    name, isa = request.param
    if isa is None:
        yield name
        return
    with parity.instruction_set(isa):
        yield name


@pytest.fixture(params=parity.ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """An instruction set, which the compiled core uses."""
    with parity.instruction_set(request.param):
        yield request.param


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param
