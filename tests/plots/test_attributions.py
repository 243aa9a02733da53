"""The plot of attributions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from pynn import plots

X = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
VALUES = np.random.default_rng(1).normal(size=(5, 16))


def test_images_and_maps_alternate():
    ax = plots.attributions(VALUES, X, [3, 1, 4, 1, 5], count=3)
    assert len(ax.child_axes) == 6
    for k in range(3):
        picture, below = ax.child_axes[2 * k : 2 * k + 2]
        assert np.array_equal(picture.images[0].get_array(), X[k])
        assert np.array_equal(below.images[0].get_array().ravel(), VALUES[k])
        assert picture.get_title() == str([3, 1, 4][k])
    low, high = ax.child_axes[1].images[0].get_clim()
    assert low == -high < 0
    plots.attributions(np.zeros((1, 16)), X[:1].reshape(1, 16), style="dark")
    plots.attributions(np.full((1, 4, 4), np.nan), X[:1])


def test_shapes_that_differ():
    with pytest.raises(ValueError, match=r"values: found shape \(4, 16\), expected \(5, 4, 4\)"):
        plots.attributions(VALUES[:4], X)
    with pytest.raises(ValueError, match="titles: found 2, expected 5"):
        plots.attributions(VALUES, X, [1, 2])
    with pytest.raises(ValueError, match="x: found shape"):
        plots.attributions(VALUES[:, :7], X.reshape(5, 16)[:, :7])
