"""The backends and dtypes that custom functions are tested with."""

from __future__ import annotations

import pytest

from tests.spec.custom import (
    BACKENDS,
)


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param
