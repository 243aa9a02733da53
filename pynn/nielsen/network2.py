"""Chapter 3's ``network2.py``: costs, smaller initial weights, regularization, monitoring."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..files.disk import atomic_write, require_file, shown
from ..spec import arguments
from ._base import BOOK, SigmoidNetwork, Training, sigmoid, sigmoid_prime
from ._pairs import as_pairs, real_array
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
    """Interface of a cost class (chapter 3, "Handwriting recognition revisited: the code")."""

    @staticmethod
    def fn(a: Any, y: Any) -> Any:
        """Return the cost of the output ``a`` (n_out, 1) for the target ``y`` (n_out, 1)."""
        ...

    @staticmethod
    def delta(z: Any, a: Any, y: Any) -> Any:
        """Return ∂C/∂z at the outputs, (n_out, 1), for weighted inputs z and a = σ(z)."""
        ...


class QuadraticCost:
    """C = ½·Σ (a − y)² (chapter 3; chapter 1, equation 6, for one training input)."""

    @staticmethod
    def fn(a: Any, y: Any) -> float:
        """Return the cost of the output ``a`` (n_out, 1) for the target ``y`` (n_out, 1)."""
        return float(_quadratic(np.asarray(a), np.asarray(y)).sum())

    @staticmethod
    def delta(z: Any, a: Any, y: Any) -> Array:
        """Return ∂C/∂z = (a − y)·σ′(z) at the outputs, (n_out, 1)."""
        return np.subtract(a, y) * sigmoid_prime(z)


class CrossEntropyCost:
    """C = −Σ (y·ln a + (1 − y)·ln(1 − a)) (chapter 3, "The cross-entropy cost function")."""

    @staticmethod
    def fn(a: Any, y: Any) -> float:
        """Return the cost of the output ``a`` (n_out, 1) for the target ``y`` (n_out, 1).

        As in the book, 0·ln 0 is 0 and an infinite cost becomes the largest float.
        """
        return float(_cross_entropy(np.asarray(a), np.asarray(y)).sum())

    @staticmethod
    def delta(z: Any, a: Any, y: Any) -> Array:
        """Return ∂C/∂z = a − y at the outputs, (n_out, 1); σ′ cancels."""
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
        ``CrossEntropyCost``, ``QuadraticCost`` or a user-defined class with static methods
        ``fn(a, y)``, the cost of one output, and ``delta(z, a, y)``, its gradient ∂C/∂z (n_out, 1).
        A user-defined class is called for every training input, at the book's speed.

    Attributes
    ----------
    num_layers : int
        Number of layers, including the inputs.
    sizes : list of int
        Neurons of every layer.
    biases, weights : lists of ndarray
        (y, 1) and (y, x), float64, for each layer after the first, which has y neurons and x
        inputs. Training replaces the arrays, as in the book. Arrays assigned or changed by a
        program are used from the next call on. The initial ones are drawn by
        ``default_weight_initializer``.
    cost : class
        The parameter ``cost``.

    Raises
    ------
    TypeError, ValueError
        If ``sizes`` are not at least two whole numbers of 1 or more, or ``cost`` lacks a method.

    Notes
    -----
    If a subclass overrides ``update_mini_batch`` or ``backprop``, ``SGD`` calls them for every
    mini-batch instead of the compiled core, at the book's speed. ``accuracy`` and ``total_cost`` do
    so if ``feedforward`` is overridden.
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
        """Draw all biases and then all weights from N(0, 1), as in chapter 1."""
        self._draw()

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

        Prints ``Epoch 0 training complete`` after every epoch, and the monitored figures.

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
        lmbda : float
            λ of ½·λ/n·Σw², 0 or more, where n is the number of training pairs.
        evaluation_data : sequence of pairs (x, y), optional
            ``x`` (n_in, 1) and ``y`` the index of the correct output.
        monitor_evaluation_cost, monitor_evaluation_accuracy : bool
            Whether to measure on ``evaluation_data`` after every epoch.
        monitor_training_cost, monitor_training_accuracy : bool
            Whether to measure on ``training_data`` after every epoch.

        Returns
        -------
        evaluation_cost, evaluation_accuracy, training_cost, training_accuracy : lists
            One cost, or number of pairs classified correctly, per epoch; empty if it was not
            monitored.

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
        n = len(training.data)
        lmbda = arguments.number(lmbda, "lmbda", least=0)
        pairs = self._training_pairs(_BOOK, training.data)
        monitors_evaluation = monitor_evaluation_cost or monitor_evaluation_accuracy
        measured: Any = training.data
        evaluation: Any = None
        if monitors_evaluation:
            if evaluation_data is None:
                raise ValueError("evaluation_data: found None, expected the data to monitor")
            evaluation = as_pairs(evaluation_data, "evaluation_data")
        if self._unchanged(_BOOK, "accuracy", "total_cost"):
            # They take arrays too, which are converted once instead of after every epoch.
            measured = training.data if pairs is None else pairs
            if monitors_evaluation:
                evaluation = self._pairs(evaluation, "evaluation_data", numbered=True)

        evaluation_cost: list[float] = []
        evaluation_accuracy: list[int] = []
        training_cost: list[float] = []
        training_accuracy: list[int] = []
        for epoch in self._epochs(
            training,
            pairs,
            lmbda / n,
            lambda mini_batch: self.update_mini_batch(mini_batch, training.eta, lmbda, n),
        ):
            print(f"Epoch {epoch} training complete")
            if monitor_training_cost:
                training_cost.append(self.total_cost(measured, lmbda))
                print(f"Cost on training data: {training_cost[-1]}")
            if monitor_training_accuracy:
                training_accuracy.append(self.accuracy(measured, convert=True))
                print(f"Accuracy on training data: {training_accuracy[-1]} / {n}")
            if monitor_evaluation_cost:
                evaluation_cost.append(self.total_cost(evaluation, lmbda, convert=True))
                print(f"Cost on evaluation data: {evaluation_cost[-1]}")
            if monitor_evaluation_accuracy:
                evaluation_accuracy.append(self.accuracy(evaluation))
                print(f"Accuracy on evaluation data: {evaluation_accuracy[-1]} / {len(evaluation)}")
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
            Number of pairs of the whole training data.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid. The network is then unchanged.
        """
        eta = arguments.number(eta, "eta")
        decay = arguments.number(lmbda, "lmbda", least=0) / arguments.whole(n, "n", 1)
        self._update(mini_batch, eta, decay)

    def accuracy(self, data: Any, convert: bool = False) -> int:
        """Return the number of inputs classified correctly by their largest output (chapter 3).

        Parameters
        ----------
        data : sequence of pairs (x, y)
            ``x`` (n_in, 1) and ``y`` the index of the correct output.
        convert : bool
            True if ``y`` is a vector (n_out, 1), as in the training data.

        Raises
        ------
        TypeError, ValueError
            If ``data`` is invalid.
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
            True if ``y`` is the index of an output, as in validation and test data.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        """
        lmbda = arguments.number(lmbda, "lmbda", least=0)
        pairs = self._pairs(data, "data", numbered=convert)
        n = len(pairs)
        # Divided before the sum, as in the book: costs can be the largest float.
        cost = float((_costs(self.cost, self._outputs(pairs), pairs.targets) / n).sum())
        return cost + 0.5 * (lmbda / n) * sum(float(np.sum(np.square(w))) for w in self.weights)

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write the network to a JSON file, which is complete or not written at all (chapter 3).

        Parameters
        ----------
        filename : str or path-like
            The file to write. Its keys are those of the book: ``sizes``, ``weights``, ``biases``
            and ``cost``, the name of the cost class.

        Raises
        ------
        ValueError
            If a weight or bias is NaN or infinite or has another shape, or if the path is not that
            of a file.
        FileNotFoundError
            If the folder does not exist.
        OSError
            If the file cannot be written.
        """
        layers = self._finite_layers()
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
    """Read a network written by ``Network.save`` or by the book's program (chapter 3).

    Parameters
    ----------
    filename : str or path-like
        The JSON file.
    cost : class, optional
        A user-defined cost class, if the file names one. Loading runs no code: the name in the file
        must be ``QuadraticCost``, ``CrossEntropyCost`` or that of this class.

    Returns
    -------
    Network

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is not the complete JSON file of a network, or names an unknown cost.
    OSError
        If the file cannot be read.
    """
    expected = "a network saved as JSON, with sizes, weights, biases and cost"
    path = require_file(filename, expected)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: found no complete JSON document ({shown(error)}), expected {expected}"
        ) from error
    keys = ("sizes", "weights", "biases", "cost")
    if not isinstance(document, dict) or not all(key in document for key in keys):
        raise ValueError(f"{path}: found other JSON, expected {expected}")
    known = dict(_KNOWN)
    if cost is not None:
        known[getattr(cost, "__name__", type(cost).__name__)] = _checked_cost(cost)
    name = document["cost"]
    if not isinstance(name, str) or name not in known:
        found_name = shown(repr(name) if isinstance(name, str) else name)
        raise ValueError(
            f"{path}: cost: found {found_name}, expected one of {', '.join(known)}; "
            "pass a user-defined class by load(filename, cost=...)"
        )
    try:
        # Checked before memory is allocated for a network: the file may claim any size.
        found = SigmoidNetwork(document["sizes"])
        found.weights, found.biases = document["weights"], document["biases"]
        layers = found._finite_layers()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: {shown(error, 400)}") from error
    net = Network(found.sizes, cost=known[name])
    net.weights = [w.astype(np.float64) for w, _ in layers]
    net.biases = [b.astype(np.float64) for _, b in layers]
    return net
