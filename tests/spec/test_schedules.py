"""Schedules that repeat, and those that follow the history: compared with PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec.schedules import has_horizon


def factor(schedule: pynn.ReduceOnPlateau, values: list[float], larger: bool = False) -> float:
    found = schedule.given(values, larger).factors(np.zeros(2), 0, 1)
    assert found.shape == (2,)
    return float(found[0])


def noisy(n: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    return (np.exp(-np.arange(n) / 8) + 0.1 * rng.random(n)).tolist()


@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"factor": 0.5, "patience": 0, "minimum": 0.01},
        {"factor": 0.3, "patience": 2, "threshold": 0.1, "cooldown": 3},
        {"factor": 0.0, "patience": 1, "cooldown": 1},
    ],
    ids=str,
)
def test_reduce_on_plateau_follows_pytorch(settings: dict[str, Any], larger: bool) -> None:
    torch = pytest.importorskip("torch")
    values = noisy(80, 3)
    values[30] = values[55] = math.nan
    if larger:
        values = [1 / v for v in values]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    others = {k: v for k, v in settings.items() if k != "minimum"}
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if larger else "min",
        eps=0.0,
        min_lr=settings.get("minimum", 0.0),
        **others,
    )
    ours = pynn.ReduceOnPlateau(**settings)
    seen = set()
    for epoch in range(len(values)):
        assert factor(ours, values[:epoch], larger) == optimizer.param_groups[0]["lr"]
        seen.add(optimizer.param_groups[0]["lr"])
        theirs.step(values[epoch])
    assert len(seen) > 1


def test_reduce_on_plateau_of_negative_values() -> None:
    """A share of a negative best value must not make worse values count as improvements."""
    schedule = pynn.ReduceOnPlateau(patience=1, threshold=0.1)
    assert factor(schedule, [-1.0, -0.95, -0.95]) == 0.1
    assert factor(schedule, [-1.0, -1.2, -1.4]) == 1
    assert factor(schedule, [math.inf, 1.0, -math.inf, -math.inf, -math.inf]) == 0.1


@pytest.mark.parametrize(("every", "growth"), [(4, 1), (3, 2), (1, 3), (7, 2)])
def test_cosine_with_restarts_follows_pytorch(every: int, growth: int) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, every, growth, 0.1)
    times, expected = np.arange(0, 50, 0.25), []
    for time in times.tolist():
        theirs.step(time)
        expected.append(optimizer.param_groups[0]["lr"])
    ours = pynn.CosineRestarts(every, growth, final=0.1)
    np.testing.assert_allclose(ours.factors(times, 3, 4), expected, rtol=0, atol=1e-12)


def test_a_cycle_begins_exactly_where_the_last_one_ends() -> None:
    for every, growth in [(0.7, 1.3), (3.0, 1.0), (0.1, 1.0001), (1.0, 10.0)]:
        cycles = np.arange(8)
        ends = np.cumsum(every * growth**cycles)
        factors = pynn.CosineRestarts(every, growth).factors(np.append(0, ends) + 1e-9, 0, 1)
        np.testing.assert_allclose(factors, 1, atol=1e-9)
        assert (pynn.CosineRestarts(every, growth).factors(ends - 1e-6 * every, 0, 1) < 1e-9).all()


def test_flat_then_cosine() -> None:
    schedule = pynn.FlatCosine(flat=0.5, final=0.2)
    found = schedule.factors(np.array([10.0, 14.9, 15.0, 17.5, 20.0]), 10, 20)
    np.testing.assert_allclose(found, [1, 1, 1, 0.6, 0.2])
    assert pynn.FlatCosine(flat=1).factors(np.arange(3.0), 0, 2).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(
        pynn.FlatCosine(0).factors(np.arange(3.0), 0, 3),
        pynn.Cosine().factors(np.arange(3.0), 0, 3),
    )
    assert has_horizon(schedule)
    assert not has_horizon(pynn.CosineRestarts())
    assert not has_horizon(pynn.WarmUp(1, pynn.ReduceOnPlateau()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pynn.CosineRestarts(every=0), "CosineRestarts.every: found 0"),
        (lambda: pynn.CosineRestarts(growth=0.9), "CosineRestarts.growth: found 0.9"),
        (lambda: pynn.FlatCosine(flat=2), "FlatCosine.flat: found 2"),
        (lambda: pynn.ReduceOnPlateau(1), "ReduceOnPlateau.monitor: found 1"),  # type: ignore[arg-type]
        (lambda: pynn.ReduceOnPlateau(factor=1), r"factor: found 1, expected a number in \[0, 1\)"),
        (lambda: pynn.ReduceOnPlateau(patience=1.5), "ReduceOnPlateau.patience: found 1.5"),  # type: ignore[arg-type]
        (lambda: pynn.ReduceOnPlateau(minimum=2), "ReduceOnPlateau.minimum: found 2"),
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
