"""Fixtures of the tests of pynn.nielsen."""

from __future__ import annotations

import pytest

from pynn.nielsen import load_data_wrapper


@pytest.fixture(scope="module")
def mnist():
    return load_data_wrapper()
