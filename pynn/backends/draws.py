"""Dropout and noise of the NumPy reference: what training changes in the rows of a batch.

Every number depends on the seed, the epoch, and the place of a row in the epoch; see
``spec/philox.py``.
"""

from __future__ import annotations

import numpy as np

from ..spec import philox
from ..spec.architecture import Architecture

Array = np.ndarray


class Draws:
    """The random numbers of one network.

    Parameters
    ----------
    net
        Its dropout and noise.
    seed
        Key of the numbers.
    """

    def __init__(self, net: Architecture, seed: int) -> None:
        self.net, self.seed = net, seed

    def changed_inputs(self, x: Array, epoch: int, first_row: int) -> Array:
        """Return rows of x (m, n_in) with noise, then dropout."""
        deviation = self.net.input_noise
        if deviation:
            x = x + self._noise(epoch, philox.INPUTS, first_row, x.shape, deviation)
        mask = self.input_mask(epoch, first_row, len(x))
        return x if mask is None else x * mask

    def input_mask(self, epoch: int, first_row: int, m: int) -> Array | None:
        """Return the factors of dropout on m rows of x (m, n_in), or None without it."""
        rate = self.net.input_dropout
        if not rate:
            return None
        return self._mask(epoch, philox.INPUTS, first_row, (m, self.net.n_in), rate)

    def masks(self, epoch: int, first_row: int, m: int) -> list[Array]:
        """Return the factors of dropout on the outputs of each hidden layer, or an empty list."""
        net = self.net
        if not any(net.dropout):
            return []
        return [
            self._mask(epoch, k, first_row, (m, net.sizes[k + 1]), rate)
            for k, rate in enumerate(net.dropout)
        ]

    def noises(self, epoch: int, first_row: int, m: int) -> list[Array]:
        """Return what is added to the outputs of each hidden layer, or an empty list."""
        net = self.net
        return [
            self._noise(epoch, k, first_row, (m, net.sizes[k + 1]), deviation)
            for k, deviation in enumerate(net.hidden_noise)
        ]

    def _mask(
        self, epoch: int, layer: int, first_row: int, shape: tuple[int, int], rate: float
    ) -> Array:
        keep = philox.dropout_mask(self.seed, epoch, layer, first_row, shape, rate)
        factors: Array = keep.astype(self.net.dtype)
        factors *= factors.dtype.type(1 / (1 - rate))
        return factors

    def _noise(
        self, epoch: int, layer: int, first_row: int, shape: tuple[int, int], deviation: float
    ) -> Array:
        normal = philox.noise(self.seed, epoch, layer, first_row, shape)
        return (deviation * normal).astype(self.net.dtype)
