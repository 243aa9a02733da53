"""Chapter 3's ``network2.py``: cost classes, better first weights, regularization, monitoring."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..checks.arrays import check_finite
from ..files.disk import atomic_write, require_file, shown
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
from .mnist_loader import vectorized_result

__all__ = [
    "CrossEntropyCost",
    "Network",
    "QuadraticCost",
    "load",
    "sigmoid",
    "sigmoid_prime",
    "vectorized_result",
]

Array = np.ndarray


# --- Costs ----------------------------------------------------------------------------------------


class Cost(Protocol):
    """What a cost class has (chapter 3, "Handwriting recognition revisited: the code")."""

    @staticmethod
    def fn(a: Any, y: Any) -> Any:
        """Return the cost of the output ``a`` (n_out, 1) where ``y`` (n_out, 1) was desired."""
        ...

    @staticmethod
    def delta(z: Any, a: Any, y: Any) -> Any:
        """Return ∂C/∂z at the outputs, (n_out, 1), for the weighted inputs z and a = σ(z)."""
        ...


class QuadraticCost:
    """C = ½·Σ (a − y)² (chapter 3; chapter 1, equation 6, for one training input)."""

    @staticmethod
    def fn(a: Any, y: Any) -> float:
        """Return the cost of the output ``a`` (n_out, 1) where ``y`` (n_out, 1) was desired."""
        return float(_quadratic(np.asarray(a), np.asarray(y)).sum())

    @staticmethod
    def delta(z: Any, a: Any, y: Any) -> Array:
        """Return ∂C/∂z = (a − y)·σ′(z) at the outputs, (n_out, 1)."""
        return np.subtract(a, y) * sigmoid_prime(z)


class CrossEntropyCost:
    """C = −Σ (y·ln a + (1 − y)·ln(1 − a)) (chapter 3, "The cross-entropy cost function")."""

    @staticmethod
    def fn(a: Any, y: Any) -> float:
        """Return the cost of the output ``a`` (n_out, 1) where ``y`` (n_out, 1) was desired.

        0·ln 0 counts as 0, and the cost of a certain mistake as the largest float, as in the book.
        """
        return float(_cross_entropy(np.asarray(a), np.asarray(y)).sum())

    @staticmethod
    def delta(z: Any, a: Any, y: Any) -> Array:
        """Return ∂C/∂z = a − y at the outputs, (n_out, 1); σ′ has cancelled out."""
        return np.subtract(a, y)


def _quadratic(a: Array, y: Array) -> Array:
    return 0.5 * (a - y) ** 2


def _cross_entropy(a: Array, y: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(-y * np.log(a) - (1 - y) * np.log(1 - a))


_KNOWN: dict[str, type[Cost]] = {
    "QuadraticCost": QuadraticCost,
    "CrossEntropyCost": CrossEntropyCost,
}


def _costs(cost: type[Cost], a: Array, y: Array) -> Array:
    """Return the cost of every row of a and y (m, n_out)."""
    if cost is QuadraticCost:
        return _quadratic(a, y).sum(axis=1)
    if cost is CrossEntropyCost:
        with np.errstate(over="ignore"):
            return _cross_entropy(a, y).sum(axis=1)
    columns = zip(a[:, :, np.newaxis], y[:, :, np.newaxis])
    return np.array([float(cost.fn(*column)) for column in columns])


def _checked_cost(cost: Any) -> Any:
    if callable(getattr(cost, "fn", None)) and callable(getattr(cost, "delta", None)):
        return cost
    raise TypeError(
        f"cost: found {cost!r}, expected a class with fn(a, y) and delta(z, a, y), "
        "such as network2.CrossEntropyCost"
    )


# --- The network ----------------------------------------------------------------------------------


class Network(SigmoidNetwork):
    """The network of chapter 3, "Handwriting recognition revisited: the code".

    Parameters
    ----------
    sizes : sequence of int
        Neurons of every layer, from inputs to outputs: ``[784, 30, 10]``.
    cost : class
        ``CrossEntropyCost``, ``QuadraticCost`` or a class of one's own with static methods
        ``fn(a, y)``, the cost of one output, and ``delta(z, a, y)``, its gradient ∂C/∂z (n_out, 1).
        One's own are called for every training input, at the book's speed.

    Attributes
    ----------
    num_layers : int
        How many layers there are, the inputs among them.
    sizes : list of int
        Neurons of every layer.
    biases, weights : lists of ndarray
        For each layer but the first (y, 1) and (y, x), float64, for x neurons before it. Training
        puts new arrays into them, as in the book; what is changed by hand counts from the next call
        on. They start as ``default_weight_initializer`` leaves them.
    cost : class
        As above.

    Raises
    ------
    TypeError, ValueError
        If ``sizes`` are not at least two whole numbers of 1 or more, or ``cost`` lacks a method.

    Notes
    -----
    In a subclass that has its own ``update_mini_batch`` or ``backprop``, ``SGD`` calls them for
    every mini-batch, at the book's speed; likewise ``accuracy`` and ``total_cost`` its own
    ``feedforward``.
    """

    def __init__(self, sizes: Sequence[int], cost: type[Cost] = CrossEntropyCost) -> None:
        super().__init__(sizes)
        self.cost: type[Cost] = _checked_cost(cost)
        self.default_weight_initializer()

    def default_weight_initializer(self) -> None:
        """Draw biases from N(0, 1) and weights from N(0, 1/x) (chapter 3, "Weight initialization").

        x is the number of inputs of a neuron. All biases are drawn before the weights.
        """
        self.large_weight_initializer()
        self.weights = [w / np.sqrt(w.shape[1]) for w in self.weights]

    def large_weight_initializer(self) -> None:
        """Draw biases, all of them first, and weights from N(0, 1), as chapter 1 does."""
        self.biases = [np.random.randn(y, 1) for y in self.sizes[1:]]
        self.weights = [np.random.randn(y, x) for x, y in zip(self.sizes[:-1], self.sizes[1:])]

    def SGD(
        self,
        training_data: list[Any],
        epochs: int,
        mini_batch_size: int,
        eta: float,
        lmbda: float = 0.0,
        evaluation_data: Any = None,
        monitor_evaluation_cost: bool = False,
        monitor_evaluation_accuracy: bool = False,
        monitor_training_cost: bool = False,
        monitor_training_accuracy: bool = False,
    ) -> tuple[list[float], list[int], list[float], list[int]]:
        """Train by mini-batch stochastic gradient descent with L2 regularization (chapter 3).

        Prints ``Epoch 0 training complete`` after every epoch, and what is monitored.

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
        lmbda : float
            λ of ½·λ/n·Σw², 0 or more, where n is the number of training pairs.
        evaluation_data : sequence of pairs (x, y), optional
            ``x`` (n_in, 1) and ``y`` the number of the right output.
        monitor_evaluation_cost, monitor_evaluation_accuracy : bool
            Whether to measure on ``evaluation_data`` after every epoch.
        monitor_training_cost, monitor_training_accuracy : bool
            Whether to measure on ``training_data`` after every epoch.

        Returns
        -------
        evaluation_cost, evaluation_accuracy, training_cost, training_accuracy : lists
            A cost, or a number of pairs classified rightly, for every epoch; empty if it was not
            monitored.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network and the list are unchanged then.

        Notes
        -----
        After Ctrl-C the parameters are those of the last whole step and the exception goes on.
        """
        training_data = as_trainable(training_data)
        n = len(training_data)
        epochs = arguments.whole(epochs, "epochs", 0)
        mini_batch_size = arguments.whole(mini_batch_size, "mini_batch_size", 1)
        eta = arguments.number(eta, "eta")
        lmbda = arguments.number(lmbda, "lmbda", least=0)
        pairs = None
        if self._on_core() and self._unchanged(_BOOK, "update_mini_batch"):
            pairs = self._pairs(training_data, "training_data", numbered=False)
        measured = self._unchanged(_BOOK, "accuracy", "total_cost")
        training: Any = pairs if measured and pairs is not None else training_data
        evaluation: Any = None
        n_evaluation = 0
        if monitor_evaluation_cost or monitor_evaluation_accuracy:
            if evaluation_data is None:
                raise ValueError("evaluation_data: found None, expected the data to monitor")
            evaluation = as_pairs(evaluation_data, "evaluation_data")
            n_evaluation = len(evaluation)
            if measured:
                evaluation = self._pairs(evaluation, "evaluation_data", numbered=True)

        evaluation_cost: list[float] = []
        evaluation_accuracy: list[int] = []
        training_cost: list[float] = []
        training_accuracy: list[int] = []
        for epoch in self._epochs(
            training_data,
            pairs,
            epochs,
            mini_batch_size,
            eta,
            lmbda / n,
            lambda mini_batch: self.update_mini_batch(mini_batch, eta, lmbda, n),
        ):
            print(f"Epoch {epoch} training complete")
            if monitor_training_cost:
                training_cost.append(self.total_cost(training, lmbda))
                print(f"Cost on training data: {training_cost[-1]}")
            if monitor_training_accuracy:
                training_accuracy.append(self.accuracy(training, convert=True))
                print(f"Accuracy on training data: {training_accuracy[-1]} / {n}")
            if monitor_evaluation_cost:
                evaluation_cost.append(self.total_cost(evaluation, lmbda, convert=True))
                print(f"Cost on evaluation data: {evaluation_cost[-1]}")
            if monitor_evaluation_accuracy:
                evaluation_accuracy.append(self.accuracy(evaluation))
                print(f"Accuracy on evaluation data: {evaluation_accuracy[-1]} / {n_evaluation}")
            print()
        return evaluation_cost, evaluation_accuracy, training_cost, training_accuracy

    def update_mini_batch(self, mini_batch: Any, eta: float, lmbda: float, n: int) -> None:
        """Take one step of gradient descent with L2 regularization (chapter 3, equation 93).

        w ← (1 − eta·lmbda/n)·w − eta/m·Σ ∂C/∂w and b ← b − eta/m·Σ ∂C/∂b over the m pairs.

        Parameters
        ----------
        mini_batch : sequence of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` (n_out, 1).
        eta : float
            The learning rate.
        lmbda : float
            The regularization parameter λ, 0 or more.
        n : int
            How many pairs the whole training data have.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; the network is unchanged then.
        """
        eta = arguments.number(eta, "eta")
        decay = arguments.number(lmbda, "lmbda", least=0) / arguments.whole(n, "n", 1)
        if self._on_core():
            pairs = self._pairs(mini_batch, "mini_batch", numbered=False)
            self._descend(pairs, None, len(pairs), eta, decay)
        else:
            self._step(mini_batch, eta, decay)

    def accuracy(self, data: Any, convert: bool = False) -> int:
        """Return how many inputs have their largest output in the right place (chapter 3).

        Parameters
        ----------
        data : sequence of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` the number of the right output.
        convert : bool
            True if ``y`` are vectors (n_out, 1), as those of the training data are.

        Raises
        ------
        TypeError, ValueError
            If ``data`` do not fit.
        """
        return self._count_right(self._pairs(data, "data", numbered=not convert))

    def total_cost(self, data: Any, lmbda: float, convert: bool = False) -> float:
        """Return the mean cost of the data plus ½·lmbda/n·Σw² (chapter 3, equation 87).

        Parameters
        ----------
        data : sequence of n pairs (x, y)
            ``x`` (n_in, 1) and ``y`` (n_out, 1).
        lmbda : float
            The regularization parameter λ, 0 or more.
        convert : bool
            True if ``y`` are numbers of outputs, as those of validation and test data are.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        lmbda = arguments.number(lmbda, "lmbda", least=0)
        pairs = self._pairs(data, "data", numbered=convert)
        n = len(pairs)
        # Divided first, as in the book: the costs of certain mistakes would overflow.
        cost = float((_costs(self.cost, self._outputs(pairs), pairs.targets) / n).sum())
        return cost + 0.5 * (lmbda / n) * sum(float(np.sum(np.square(w))) for w in self.weights)

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write the network to a JSON file, whole or not at all (chapter 3).

        Parameters
        ----------
        filename : str or path-like
            The file to write. Its keys are those of the book: ``sizes``, ``weights``, ``biases``
            and ``cost``, the name of the cost class.

        Raises
        ------
        ValueError
            If a weight or bias is NaN or infinite, or has been set to something of another shape;
            or if the path is no file.
        FileNotFoundError
            If the folder does not exist.
        OSError
            If the system refuses to write there.
        """
        layers = self._layers()
        for k, (w, b) in enumerate(layers):
            check_finite(w, f"weights[{k}]", np.dtype(np.float64))
            check_finite(b, f"biases[{k}]", np.dtype(np.float64))
        document = {
            "sizes": self.sizes,
            "weights": [w.tolist() for w, _ in layers],
            "biases": [b.tolist() for _, b in layers],
            "cost": getattr(self.cost, "__name__", type(self.cost).__name__),
        }
        text = json.dumps(document, allow_nan=False)
        with atomic_write(filename) as file:
            file.write(text.encode())

    def _output_error(self, z: Array, a: Array, y: Any) -> Array:
        if self.cost in (QuadraticCost, CrossEntropyCost):
            y = real_array(y, a.shape, "y")
        return self.cost.delta(z, a, y)

    def _loss(self) -> str:
        return "mse" if self.cost is QuadraticCost else "binary_cross_entropy"

    def _on_core(self) -> bool:
        known = self.cost is QuadraticCost or self.cost is CrossEntropyCost
        return known and self._unchanged(_BOOK, "backprop", "_output_error", "_loss")


_BOOK = {**BOOK, **vars(Network)}


def load(filename: str | os.PathLike[str], cost: type[Cost] | None = None) -> Network:
    """Read a network that ``Network.save``, or the book's program, wrote (chapter 3).

    Parameters
    ----------
    filename : str or path-like
        The JSON file.
    cost : class, optional
        A cost class of one's own, if the file names it. Loading runs no code: a name in the file
        stands for ``QuadraticCost``, ``CrossEntropyCost`` or this class, or is an error.

    Returns
    -------
    Network

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no whole JSON file of a network, or names a cost that is not known.
    OSError
        If the system refuses to read it.
    """
    expected = "a network saved as JSON, with sizes, weights, biases and cost"
    path = require_file(filename, expected)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: found no whole JSON document ({shown(error)}), expected {expected}"
        ) from error
    keys = ("sizes", "weights", "biases", "cost")
    if not isinstance(document, dict) or not all(key in document for key in keys):
        raise ValueError(f"{path}: found JSON of something else, expected {expected}")
    known = dict(_KNOWN)
    if cost is not None:
        known[getattr(cost, "__name__", type(cost).__name__)] = _checked_cost(cost)
    name = document["cost"]
    if not isinstance(name, str) or name not in known:
        said = shown(repr(name) if isinstance(name, str) else name)
        raise ValueError(
            f"{path}: cost: found {said}, expected one of {', '.join(known)}; "
            "a class of your own goes in load(filename, cost=...)"
        )
    try:
        # Before a network is made: the file may claim any size.
        found = SigmoidNetwork(document["sizes"])
        found.weights, found.biases = document["weights"], document["biases"]
        layers = found._layers()
        for k, (w, b) in enumerate(layers):
            check_finite(w, f"weights[{k}]", np.dtype(np.float64))
            check_finite(b, f"biases[{k}]", np.dtype(np.float64))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: {shown(error, 400)}") from error
    net = Network(found.sizes, cost=known[name])
    net.weights = [w.astype(np.float64) for w, _ in layers]
    net.biases = [b.astype(np.float64) for _, b in layers]
    return net
