"""Random parameters and sequences of calls give scikit-learn's results, errors and warnings."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn", "1.7")
pytest.importorskip("pandas")

from tests.sklearn import random_settings

TESTED = 400


@pytest.mark.parametrize("first", range(0, TESTED, 50))
def test_random_settings_give_the_same_results(first):
    for seed in range(first, first + 50):
        try:
            random_settings.compare(random_settings.case(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed} of random_settings.case") from error
