"""Chapter 1's ``network.py``: quadratic cost, mini-batch stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..spec import arguments
from ._base import BOOK, SigmoidNetwork, Training, sigmoid, sigmoid_prime
from ._pairs import as_pairs, real_array

__all__ = ["Network", "sigmoid", "sigmoid_prime"]

Array = np.ndarray


class Network(SigmoidNetwork):
    """The network of chapter 1, "Implementing our network to classify digits".

    The cost of a training input is C = ½·Σ (a − y)². All biases and then all weights are drawn
    from N(0, 1) with ``numpy.random``.

    Parameters
    ----------
    sizes : sequence of int
        Neurons of every layer, from inputs to outputs: ``[784, 30, 10]``.

    Attributes
    ----------
    num_layers : int
        Number of layers, including the inputs.
    sizes : list of int
        Neurons of every layer.
    biases, weights : lists of ndarray
        (y, 1) and (y, x), float64, for each layer after the first, which has y neurons and x
        inputs. Training replaces the arrays, as in the book. Arrays assigned or changed by a
        program are used from the next call on.

    Raises
    ------
    ValueError
        If ``sizes`` are not at least two whole numbers of 1 or more.

    Notes
    -----
    If a subclass overrides ``update_mini_batch``, ``backprop`` or ``cost_derivative``, ``SGD``
    calls them for every mini-batch instead of the compiled core, at the book's speed. ``evaluate``
    does so if ``feedforward`` is overridden.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self._draw()

    def SGD(
        self,
        training_data: list[Any],
        epochs: int,
        mini_batch_size: int,
        eta: float,
        test_data: Any = None,
    ) -> None:
        """Train by mini-batch stochastic gradient descent (chapter 1).

        Prints ``Epoch 0: 9019 / 10000`` after every epoch, the number of test inputs classified
        correctly, or ``Epoch 0 complete`` without test data.

        Parameters
        ----------
        training_data : list of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` (n_out, 1). The list is shuffled in place with
            ``random.shuffle`` at the start of every epoch.
        epochs : int
            Number of passes through the training data.
        mini_batch_size : int
            Pairs per step. The last mini-batch of an epoch may be smaller; its step divides by its
            own size.
        eta : float
            The learning rate.
        test_data : sequence of pairs (x, y), optional
            ``x`` (n_in, 1) and ``y`` the index of the correct output.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid. The network and the list are then unchanged.

        Notes
        -----
        After Ctrl-C the network has the parameters after the last complete step; KeyboardInterrupt
        is raised.
        """
        training = Training.checked(training_data, epochs, mini_batch_size, eta)
        pairs = self._training_pairs(_BOOK, training.data)
        test = None
        # `not test_data` alone is ambiguous for arrays.
        if test_data is not None and not (hasattr(test_data, "__len__") and len(test_data) == 0):
            test = as_pairs(test_data, "test_data")
        scored: Any = test
        if test is not None and self._unchanged(_BOOK, "evaluate"):
            scored = self._pairs(test, "test_data", numbered=True)
        for epoch in self._epochs(
            training,
            pairs,
            0.0,
            lambda mini_batch: self.update_mini_batch(mini_batch, training.eta),
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
            If an argument is invalid. The network is then unchanged.
        """
        self._update(mini_batch, arguments.number(eta, "eta"), 0.0)

    def evaluate(self, test_data: Any) -> int:
        """Return the number of inputs classified correctly by their largest output (chapter 1).

        Parameters
        ----------
        test_data : sequence of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` the index of the correct output.

        Raises
        ------
        TypeError, ValueError
            If ``test_data`` is invalid.
        """
        return self._count_right(self._pairs(test_data, "test_data", numbered=True))

    def cost_derivative(self, output_activations: Array, y: Any) -> Array:
        """Return ∂C/∂a = a − y of the quadratic cost, (n_out, 1) (chapters 1 and 2).

        Raises
        ------
        TypeError, ValueError
            If ``y`` is not an array of the shape of ``output_activations``.
        """
        return output_activations - real_array(y, np.shape(output_activations), "y")

    def _output_error(self, z: Array, a: Array, y: Any) -> Array:
        return self.cost_derivative(a, y) * sigmoid_prime(z)

    def _on_core(self) -> bool:
        return self._unchanged(_BOOK, "backprop", "cost_derivative", "_output_error")


_BOOK = {**BOOK, **vars(Network)}
