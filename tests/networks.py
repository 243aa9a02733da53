"""Small networks and runs for the tests of Network."""

from __future__ import annotations

from typing import Any

import numpy as np

import pynn

Data = tuple[np.ndarray, np.ndarray]


def make(sizes: tuple[int, ...] = (4, 8, 3), **settings: Any) -> pynn.Network:
    return pynn.Network(sizes, **{"backend": "numpy", "seed": 3, **settings})


def quiet(net: pynn.Network, data: Data, **settings: Any) -> pynn.History:
    return net.fit(*data, **{"batch_size": 16, "learning_rate": 0.01, "epochs": 3, **settings})
