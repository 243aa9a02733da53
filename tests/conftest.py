"""Fixtures that several test modules share."""

from __future__ import annotations

import numpy as np
import pytest

import pynn


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of points that are easy to tell apart: x (150, 4) float32, y (150,) int64."""
    y = np.arange(150) % 3
    centres = 3 * np.eye(3, 4)
    x = centres[y] + rng.normal(scale=0.7, size=(150, 4))
    return x.astype(np.float32), y


@pytest.fixture
def net() -> pynn.Network:
    """A small classifier of 4 inputs and 3 classes on the reference backend."""
    return pynn.Network([4, 8, 3], backend="numpy", seed=3)
