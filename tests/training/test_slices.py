"""Position, records and lengths of slices of an epoch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pynn
from pynn.training.slices import Position, due, until_due


@pytest.mark.parametrize(
    ("updates", "periods", "most", "count"),
    [
        (0, [], 7, 7),
        (0, [3], 7, 3),
        (4, [3], 7, 2),
        (4, [3, 5], 7, 1),
        (6, [3], 2, 2),
        (5, [100, 4], 50, 3),
    ],
)
def test_slice_ends_at_the_next_multiple_of_a_period(
    updates: int, periods: list[int], most: int, count: int
) -> None:
    assert until_due(updates, periods, most) == count


def test_callbacks_are_due_at_multiples_of_their_steps() -> None:
    every = [pynn.Every(steps, lambda net, record: None) for steps in (2, 3)]
    calls = [*every, pynn.Callback()]
    assert due(calls, 3) == [every[1]]
    assert due(calls, 6) == every
    assert due(calls, 7) == []


def test_record_of_a_position_has_means_over_its_weights() -> None:
    rates = np.array([0.1, 0.2, 0.4])
    record = Position(2, 30.0, 15.0, 40.0, 0.5).record(4, rates, rows=50, batch_size=20)
    assert record == pynn.Record(
        epoch=5,
        loss=30 / 40,
        accuracy=15 / 40,
        learning_rate=0.2,
        seconds=0.5,
        samples_per_second=80.0,
        step=2,
        steps=3,
    )
    last = Position(3, 25.0, math.nan, 50.0, 0.5).record(4, rates, rows=50, batch_size=20)
    assert (last.loss, last.accuracy, last.learning_rate) == (0.5, None, 0.4)
    weighted = Position(2, 30.0, 15.0, 60.0, 0.5).record(4, rates, rows=50, batch_size=20)
    assert (weighted.loss, weighted.accuracy) == (0.5, 0.25)
    assert weighted.samples_per_second == 80.0
    nothing = Position(1, 0.0, 0.0, 0.0, 0.5).record(4, rates, rows=50, batch_size=20)
    assert math.isnan(nothing.loss)
    assert nothing.accuracy is None
