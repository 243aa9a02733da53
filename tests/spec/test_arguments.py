"""Checks of numbers and functions given as arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynn.spec import arguments

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("bad", [0, -3, 2.0, True, "7", None, NAN])
def test_whole_numbers_out_of_range_are_refused(bad: Any) -> None:
    assert arguments.whole(np.int32(7), "epochs", 1) == 7
    with pytest.raises(ValueError, match="epochs: found .*, expected a whole number of 1 or more"):
        arguments.whole(bad, "epochs", 1)


@pytest.mark.parametrize("bad", [0, -1.0, NAN, INF, True, "1", None, 1j])
def test_numbers_out_of_range_are_refused(bad: Any) -> None:
    assert arguments.number(np.float32(0.5), "rate", above=0) == 0.5
    assert arguments.number(0, "l2", least=0) == 0
    with pytest.raises(ValueError, match="rate: found .*, expected a finite number above 0"):
        arguments.number(bad, "rate", above=0)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "ful", "all", [64]])
def test_wrong_batch_sizes_are_refused(bad: Any) -> None:
    assert arguments.batch_size(64) == 64
    assert arguments.batch_size(None) is None
    assert arguments.batch_size("full") is None
    with pytest.raises(ValueError, match="batch_size: found .*, expected "):
        arguments.batch_size(bad)


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "expected"),
    [
        ({"least": 0, "below": 1}, [0, 0.999], [-0.1, 1], r"a number in \[0, 1\)"),
        ({"least": 0, "most": 1}, [0, 1], [-0.1, 1.1], r"a number in \[0, 1\]"),
        ({"above": 0, "most": 1}, [1e-9, 1], [0, 2], r"a number in \(0, 1\]"),
        ({"above": 0, "below": 1}, [0.5], [0, 1], r"a number in \(0, 1\)"),
        ({"below": 3}, [-9, 2.9], [3], "a finite number below 3"),
        ({"most": 3}, [-9, 3], [3.1], "a finite number of 3 or less"),
        ({}, [-1e308, 1e308], [NAN, 10**400], "a finite number$"),
    ],
)
def test_bounds_of_numbers(
    bounds: dict[str, float], good: list[float], bad: list[float], expected: str
) -> None:
    for value in good:
        assert arguments.number(value, "rate", **bounds) == value
    for value in bad:
        with pytest.raises(ValueError, match=f"rate: found .*, expected {expected}"):
            arguments.number(value, "rate", **bounds)
