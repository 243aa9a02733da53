"""Chapter 1's ``network.py``: quadratic cost, mini-batch stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..spec import arguments
from ._base import (
    BOOK,
    SigmoidNetwork,
    as_pairs,
    as_trainable,
    real_array,
    sigmoid,
    sigmoid_prime,
)

__all__ = ["Network", "sigmoid", "sigmoid_prime"]

Array = np.ndarray


class Network(SigmoidNetwork):
    """The network of chapter 1, "Implementing our network to classify digits".

    The cost of a training input is C = ½·Σ (a − y)². Biases, all of them first, and then weights
    are drawn from N(0, 1) with ``numpy.random``.

    Parameters
    ----------
    sizes : sequence of int
        Neurons of every layer, from inputs to outputs: ``[784, 30, 10]``.

    Attributes
    ----------
    num_layers : int
        How many layers there are, the inputs among them.
    sizes : list of int
        Neurons of every layer.
    biases, weights : lists of ndarray
        For each layer but the first (y, 1) and (y, x), float64, for x neurons before it. Training
        puts new arrays into them, as in the book; what is changed by hand counts from the next call
        on.

    Raises
    ------
    ValueError
        If ``sizes`` are not at least two whole numbers of 1 or more.

    Notes
    -----
    In a subclass that has its own ``update_mini_batch``, ``backprop`` or ``cost_derivative``,
    ``SGD`` calls them for every mini-batch, at the book's speed; likewise ``evaluate`` its own
    ``feedforward``.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.biases = [np.random.randn(y, 1) for y in self.sizes[1:]]
        self.weights = [np.random.randn(y, x) for x, y in zip(self.sizes[:-1], self.sizes[1:])]

    def SGD(
        self,
        training_data: list[Any],
        epochs: int,
        mini_batch_size: int,
        eta: float,
        test_data: Any = None,
    ) -> None:
        """Train by mini-batch stochastic gradient descent (chapter 1).

        Prints ``Epoch 0: 9019 / 10000`` after every epoch, how many of the test data are classified
        rightly; or ``Epoch 0 complete`` without test data.

        Parameters
        ----------
        training_data : list of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` (n_out, 1). The list is shuffled in place with
            ``random.shuffle`` at the start of every epoch.
        epochs : int
            How many times to go through the training data.
        mini_batch_size : int
            Pairs for each step; the last mini-batch of an epoch may be shorter, and its step
            divides by its own length.
        eta : float
            The learning rate.
        test_data : sequence of pairs (x, y), optional
            ``x`` (n_in, 1) and ``y`` the number of the right output.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network and the list are unchanged then.

        Notes
        -----
        After Ctrl-C the parameters are those of the last whole step and the exception goes on.
        """
        training_data = as_trainable(training_data)
        epochs = arguments.whole(epochs, "epochs", 0)
        mini_batch_size = arguments.whole(mini_batch_size, "mini_batch_size", 1)
        eta = arguments.number(eta, "eta")
        pairs = test = None
        if self._on_core() and self._unchanged(_BOOK, "update_mini_batch"):
            pairs = self._pairs(training_data, "training_data", numbered=False)
        # `not test_data` alone would not do for arrays.
        if test_data is not None and not (hasattr(test_data, "__len__") and len(test_data) == 0):
            test = as_pairs(test_data, "test_data")
        scored: Any = test
        if test is not None and self._unchanged(_BOOK, "evaluate"):
            scored = self._pairs(test, "test_data", numbered=True)
        for epoch in self._epochs(
            training_data,
            pairs,
            epochs,
            mini_batch_size,
            eta,
            0.0,
            lambda mini_batch: self.update_mini_batch(mini_batch, eta),
        ):
            if test is None:
                print(f"Epoch {epoch} complete")
            else:
                print(f"Epoch {epoch}: {self.evaluate(scored)} / {len(test)}")

    def update_mini_batch(self, mini_batch: Any, eta: float) -> None:
        """Take one step of gradient descent (chapter 1, equations 20 and 21).

        w ← w − eta/m·Σ ∂C/∂w and b ← b − eta/m·Σ ∂C/∂b over the m pairs.

        Parameters
        ----------
        mini_batch : sequence of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` (n_out, 1).
        eta : float
            The learning rate.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is unchanged then.
        """
        eta = arguments.number(eta, "eta")
        if self._on_core():
            pairs = self._pairs(mini_batch, "mini_batch", numbered=False)
            self._descend(pairs, None, len(pairs), eta, 0.0)
        else:
            self._step(mini_batch, eta, 0.0)

    def evaluate(self, test_data: Any) -> int:
        """Return how many inputs have their largest output in the right place (chapter 1).

        Parameters
        ----------
        test_data : sequence of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` the number of the right output.

        Raises
        ------
        TypeError, ValueError
            If ``test_data`` does not fit.
        """
        pairs = self._pairs(test_data, "test_data", numbered=True)
        return self._count_right(pairs)

    def cost_derivative(self, output_activations: Array, y: Any) -> Array:
        """Return ∂C/∂a = a − y of the quadratic cost, (n_out, 1) (chapters 1 and 2).

        Raises
        ------
        TypeError, ValueError
            If ``y`` is no array of the shape of ``output_activations``.
        """
        return output_activations - real_array(y, np.shape(output_activations), "y")

    def _output_error(self, z: Array, a: Array, y: Any) -> Array:
        return self.cost_derivative(a, y) * sigmoid_prime(z)

    def _on_core(self) -> bool:
        return self._unchanged(_BOOK, "backprop", "cost_derivative", "_output_error")


_BOOK = {**BOOK, **vars(Network)}
