"""When training diverges: what is raised, what is kept, and where it went wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.memory import Memory
from ..arrays.vectors import finite
from ..backends import reference
from .model import Model

Array = np.ndarray


class DivergenceError(ArithmeticError):
    """Training stopped, because a loss, a weight or the optimizer's state was no longer finite.

    The network is as it was before the step that went wrong: its weights are finite, but may well
    be so large that its outputs are not. To learn something after all, start anew with a lower
    learning rate, or go back to an earlier checkpoint.

    Attributes
    ----------
    epoch, step : int
        The epoch and the batch of it that went wrong, both counted from 1 as in
        :class:`pynn.Record`.
    layer : int or None
        Where it shows first: the k of ``net.weights[k]``. For a loss, the layer nearest to the
        input whose values are not finite; for weights, the one nearest to the output. None if it
        did not happen again when the steps were gone through again, because the data had changed.
    """

    def __init__(self, message: str, epoch: int, step: int, layer: int | None) -> None:
        super().__init__(message)
        self.epoch, self.step, self.layer = epoch, step, layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.epoch, self.step, self.layer)


class Anchor:
    """A network that was finite, to go back to: where it stood, and a copy once it is overwritten.

    Parameters
    ----------
    apart : bool
        Whether the network's own vectors stay as they are between calls of ``take`` and ``keep``.
    """

    def __init__(self, net: Model, first: int, apart: bool) -> None:
        self._apart = apart
        self._memory: Memory | None = None
        self.take(net, first)

    def take(self, net: Model, first: int) -> None:
        """Go back to the network as it stands, before step ``first`` of its epoch."""
        self._kept = False
        self._epochs, self._updates, self.first = net.epochs, net.updates, first
        if not self._apart:
            self.keep(net)

    def keep(self, net: Model) -> None:
        """Copy what the network was when it was taken, if that has not been done."""
        if self._kept:
            return
        for mine, vector in zip(self._copies(net), net.vectors, strict=True):
            np.copyto(mine, vector)
        self._kept = True

    def give_back(self, net: Model) -> None:
        """Make the network what it was."""
        if self._kept:
            for mine, vector in zip(self._copies(net), net.vectors, strict=True):
                np.copyto(vector, mine)
        net.epochs, net.updates = self._epochs, self._updates

    def _copies(self, net: Model) -> list[Array]:
        wanted = net.vectors
        if self._memory is None:
            self._memory = Memory(sum(vector.nbytes for vector in wanted))
        flat, copies = self._memory.bytes, []
        for vector in wanted:
            copies.append(flat[: vector.nbytes].view(vector.dtype))
            flat = flat[vector.nbytes :]
        return copies


def layer_of_update(net: Model) -> int:
    """Return the layer nearest to the output that has a weight or a state that is not finite."""
    architecture = net.architecture
    for k in range(architecture.n_layers - 1, 0, -1):
        for vector in net.vectors:
            weights, biases = architecture.views(vector)
            if not finite(weights[k].ravel(), biases[k]):
                return k
    return 0


def layer_of_loss(trainer: reference.Trainer, epoch: int, step: int) -> int:
    """Return the layer nearest to the input whose values are not finite.

    The output layer, if only the loss itself is not finite.
    """
    from ..backends.reference import forward

    _, x, _, masks = trainer.batch(epoch, step)
    with np.errstate(all="ignore"):
        _, zs = forward(trainer.net, trainer.weights, trainer.biases, x, masks)
    for k, z in enumerate(zs):
        if not np.isfinite(z).all():
            return k
    return len(zs) - 1
