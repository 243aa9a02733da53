"""Initial weights do not depend on whether the compiled core computes the random words."""

from __future__ import annotations

import numpy as np
import pytest

import pynn
from pynn.spec import philox
from pynn.training import initialise


@pytest.mark.parametrize("init", [None, "normal", "glorot_uniform", "zeros"])
def test_the_core_and_numpy_draw_the_same_weights(init, monkeypatch):
    def parameters() -> np.ndarray:
        return pynn.Network([7, 33, 2], init=init, seed=2**63 + 5, backend="numpy").parameters

    found = parameters().tobytes()
    monkeypatch.setattr(initialise, "_words", lambda: philox.words)
    assert parameters().tobytes() == found
