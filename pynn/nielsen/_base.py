"""What the networks of both chapters share: lists of pairs as arrays, the passes, the fast epochs.

The book's shapes, for a layer from x inputs to y outputs:
    w, b       (y, x), (y, 1)
    a, z       (y, 1)            activation and weighted input, for one training input
pynn's own parameters are (x, y) and (y,), in one flat vector. The lists ``weights`` and ``biases``
are the truth: they are copied to a flat vector before every fast pass and from it after an epoch.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends import choose, contract
from ..backends.contract import Data, TrainerSettings
from ..checks.arrays import as_array, check_finite
from ..spec import arguments, optimizers
from ..spec.architecture import Architecture

Array = np.ndarray

_SHORT = 5_000_000
"""Rows times parameters of about a millisecond's work."""


def sigmoid(z: Any) -> Array:
    """Return 1 / (1 + e^−z), element by element (chapter 1, "Sigmoid neurons").

    Very negative z give 0 without a warning of overflow.
    """
    with np.errstate(over="ignore", under="ignore"):
        return 1 / (1 + np.exp(np.negative(z)))


def sigmoid_prime(z: Any) -> Array:
    """Return σ′(z) = σ(z)·(1 − σ(z)) (chapter 1)."""
    s = sigmoid(z)
    return s * (1 - s)


def as_pairs(data: Any, name: str) -> list[Any] | tuple[Any, ...]:
    """Return data as a list or tuple that is not empty; iterators, such as a zip, are used up."""
    if not isinstance(data, (list, tuple)):
        try:
            data = list(data)
        except TypeError:
            raise TypeError(
                f"{name}: found a {type(data).__name__}, expected a list of pairs (x, y)"
            ) from None
    if not data:
        raise ValueError(f"{name}: found no pairs (x, y), expected one or more")
    return data


def as_trainable(data: Any) -> list[Any]:
    """Return ``training_data`` if it can be shuffled in place, as the book does."""
    if not isinstance(data, list):
        kind = type(data).__name__
        hint = "; use list(training_data)" if hasattr(data, "__iter__") else ""
        raise TypeError(
            f"training_data: found a {kind}, expected a list of pairs (x, y), which is "
            f"shuffled in place{hint}"
        )
    as_pairs(data, "training_data")
    return data


def real_array(value: Any, shape: tuple[int, ...], name: str) -> Array:
    """Return value as an array of real numbers of this shape, or raise."""
    a = as_array(value, name)
    if a.dtype.kind not in "biuf":
        raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")
    if a.shape != shape:
        found = f"the number {a}" if a.ndim == 0 else f"shape {a.shape}"
        raise ValueError(f"{name}: found {found}, expected an array of shape {shape}")
    return a


class Pairs:
    """A list of pairs (x, y) turned to arrays once, for as many epochs as it takes.

    Parameters
    ----------
    data : sequence or iterator of pairs
        ``x`` (n_in, 1); ``y`` the number of the right output if ``numbered``, else (n_out, 1).
    name : str
        Of the argument, for errors.

    Attributes
    ----------
    x : ndarray (m, n_in), float32 or float64
    targets : ndarray (m, n_out), float64
    labels : ndarray (m,), int64
    """

    def __init__(self, data: Any, name: str, sizes: Sequence[int], *, numbered: bool) -> None:
        data = as_pairs(data, name)
        try:
            xs, ys = [x for x, _ in data], [y for _, y in data]
        except (TypeError, ValueError):
            i = next(i for i, item in enumerate(data) if not _is_pair(item))
            raise ValueError(
                f"{name}[{i}]: found a {type(data[i]).__name__}, expected a pair (x, y)"
            ) from None
        n_out = sizes[-1]
        self.x = _stack(xs, sizes[0], "x", name)
        if numbered:
            self.labels = _numbers(ys, n_out, name)
            self.targets = np.eye(max(n_out, 2))[self.labels][:, :n_out]
        else:
            self.targets = _stack(ys, n_out, "y", name).astype(np.float64, copy=False)
            self.labels = self.targets.argmax(axis=1)

    def __len__(self) -> int:
        return len(self.x)


def _is_pair(item: Any) -> bool:
    try:
        _, _ = item
    except (TypeError, ValueError):
        return False
    return True


def _stack(columns: list[Any], n: int, part: str, name: str) -> Array:
    """Return m columns (n, 1) as the rows of an array (m, n), float32 or float64."""
    shape = (n, 1)
    if not all(
        type(c) is np.ndarray and c.shape == shape and c.dtype.kind in "biuf" for c in columns
    ):
        columns = [real_array(c, shape, f"{part} of {name}[{i}]") for i, c in enumerate(columns)]
    rows = np.concatenate(columns).reshape(len(columns), n)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)  # bytes among them: here they are numbers, not pixels
    check_finite(rows, f"{part} of {name}", np.dtype(np.float64))
    return rows


def _numbers(ys: list[Any], n_out: int, name: str) -> Array:
    """Return the numbers of the right outputs, (m,), int64."""
    n_out = max(n_out, 2)  # of one output the largest is always number 0: a 1 is never right
    numbers = np.empty(len(ys), np.int64)
    for i, y in enumerate(ys):
        if isinstance(y, np.ndarray) and y.ndim:
            raise ValueError(
                f"y of {name}[{i}]: found shape {y.shape}, expected a whole number from 0 to "
                f"{n_out - 1}"
            )
        numbers[i] = arguments.whole(y, f"y of {name}[{i}]", 0, n_out - 1)
    return numbers


@functools.lru_cache(maxsize=16)
def _engine(net: Architecture, threads: int | None = None) -> contract.Engine:
    return choose.capable(net, threads)


class SigmoidNetwork:
    """Layers of sigmoid neurons; the chapters add how they start, what they cost, how they train.

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
    """

    num_layers: int
    sizes: list[int]
    biases: list[Array]
    weights: list[Array]

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = list(Architecture.build(sizes, "sigmoid", "sigmoid", "mse").sizes)
        self.num_layers = len(self.sizes)

    # --- The passes of the book, for one training input -------------------------------------------

    def feedforward(self, a: Any) -> Array:
        """Return the network's output for the input ``a`` (chapter 1).

        Parameters
        ----------
        a : array (n_in, 1), or (n_in, m) for m inputs side by side

        Returns
        -------
        ndarray (n_out, 1) or (n_out, m)

        Raises
        ------
        TypeError, ValueError
            If ``a``, a weight matrix or a bias vector is no array of numbers or has another shape.
        """
        a = as_array(a, "a")
        a = real_array(a, (self.sizes[0], a.shape[1] if a.ndim == 2 else 1), "a")
        for w, b in self._layers():
            a = sigmoid(w @ a + b)
        return a

    def backprop(self, x: Any, y: Any) -> tuple[list[Array], list[Array]]:
        """Return the gradient of the cost of one training input (chapter 2, BP1 to BP4).

        Parameters
        ----------
        x : array (n_in, 1)
        y : array (n_out, 1)
            The desired output.

        Returns
        -------
        nabla_b, nabla_w : lists of ndarray
            ∂C/∂b (y, 1) and ∂C/∂w (y, x) of every layer, like ``biases`` and ``weights``.

        Raises
        ------
        TypeError, ValueError
            If an argument is no array of numbers or has another shape.
        """
        layers = self._layers()
        activations, zs = [real_array(x, (self.sizes[0], 1), "x")], []
        for w, b in layers:
            zs.append(w @ activations[-1] + b)
            activations.append(sigmoid(zs[-1]))

        # BP1: δ = ∂C/∂z of the outputs, (n_out, 1).
        delta = real_array(
            self._output_error(zs[-1], activations[-1], y), zs[-1].shape, "delta of the cost"
        )
        nabla_b, nabla_w = [], []
        for k in reversed(range(len(layers))):
            nabla_b.append(delta)  # BP3: ∂C/∂b = δ
            # BP4: ∂C/∂w = (y, 1) · (1, x); for such a product np.dot is several times as fast as @.
            nabla_w.append(np.dot(delta, activations[k].T))
            if k > 0:  # BP2: (x, y) · (y, 1), times σ′ (x, 1)
                delta = (layers[k][0].T @ delta) * (activations[k] * (1 - activations[k]))
        return nabla_b[::-1], nabla_w[::-1]

    def _output_error(self, z: Array, a: Array, y: Any) -> Array:
        raise NotImplementedError

    def _step(self, mini_batch: Any, eta: float, decay: float) -> None:
        """One step of gradient descent through ``backprop``, pair by pair.

        w ← (1 − η·decay)·w − η/m·Σ ∂C/∂w and b ← b − η/m·Σ ∂C/∂b over the m pairs.
        """
        pairs = as_pairs(mini_batch, "mini_batch")
        sum_b = [np.zeros_like(b, dtype=np.float64) for b in self.biases]
        sum_w = [np.zeros_like(w, dtype=np.float64) for w in self.weights]
        for x, y in pairs:
            nabla_b, nabla_w = self.backprop(x, y)
            for total, nabla in zip(sum_b + sum_w, nabla_b + nabla_w):
                total += nabla
        rate = eta / len(pairs)
        weights = [(1 - eta * decay) * w - rate * s for w, s in zip(self.weights, sum_w)]
        biases = [b - rate * s for b, s in zip(self.biases, sum_b)]
        # Nothing that Ctrl-C can interrupt stands between these two.
        self.weights = weights
        self.biases = biases

    # --- The same on the compiled core, for many --------------------------------------------------

    def _loss(self) -> str:
        """The loss of pynn whose gradient at the outputs is the book's, but for a factor."""
        return "mse"

    def _unchanged(self, book: Mapping[str, object], *names: str) -> bool:
        """Whether these methods are still those of the book, so that the core may stand in."""
        return all(getattr(getattr(self, name), "__func__", None) is book[name] for name in names)

    def _outputs(self, pairs: Pairs) -> Array:
        """Return the outputs for all pairs, (m, n_out)."""
        if self._unchanged(BOOK, "feedforward"):
            net = self._architecture("mse")
            return _engine(net).forward(self._flat(net), pairs.x)
        columns = [self.feedforward(x.reshape(-1, 1)) for x in pairs.x]
        return np.array([real_array(c, (self.sizes[-1], 1), "output")[:, 0] for c in columns])

    def _count_right(self, pairs: Pairs) -> int:
        """How many inputs have their largest output in the right place; the first of equals."""
        return int((self._outputs(pairs).argmax(axis=1) == pairs.labels).sum())

    def _pairs(self, data: Any, name: str, *, numbered: bool) -> Pairs:
        if isinstance(data, Pairs):  # made by SGD, for all its epochs
            return data
        return Pairs(data, name, self.sizes, numbered=numbered)

    def _epochs(
        self,
        training_data: list[Any],
        pairs: Pairs | None,
        epochs: int,
        mini_batch_size: int,
        eta: float,
        decay: float,
        update: Callable[[list[Any]], None],
    ) -> Iterator[int]:
        """Shuffle the list, train on it and give the number of the epoch, again and again.

        ``pairs`` are those of the list as it stands, for the core; None leaves every mini-batch to
        ``update``.
        """
        n = len(training_data)
        original, rows = list(training_data), list(range(n))
        for epoch in range(epochs):
            if pairs is None:
                random.shuffle(training_data)
                for start in range(0, n, mini_batch_size):
                    update(training_data[start : start + mini_batch_size])
            else:
                # Shuffling the numbers takes the same random draws as shuffling the list.
                random.shuffle(rows)
                training_data[:] = [original[i] for i in rows]
                self._descend(pairs, np.array(rows), mini_batch_size, eta, decay)
            yield epoch

    def _descend(
        self, pairs: Pairs, rows: Array | None, mini_batch_size: int, eta: float, decay: float
    ) -> None:
        """Take one step for each mini-batch of the rows in this order, on the core.

        pynn's losses are means over the outputs, with gradients c times the book's: 2/n_out for
        mse, which has no ½, and 1/n_out for cross-entropy. The rate η/c and the l2 c·decay give
        w − η/c·(c·∇ + c·decay·w), which is the book's step.
        """
        net = self._architecture(self._loss())
        flat = self._flat(net)
        c = (2.0 if net.loss == "mse" else 1.0) / net.n_out
        # A single small step is over before a second thread is awake.
        short = mini_batch_size >= len(pairs) and len(pairs) * net.n_parameters < _SHORT
        trainer = _engine(net, 1 if short else None).trainer(
            flat,
            [],
            Data(pairs.x, pairs.targets),
            TrainerSettings(
                optimizer=optimizers.SGD(),
                batch_size=min(mini_batch_size, len(pairs)),
                l2=c * decay,
                shuffle=False,
            ),
        )
        if rows is not None:
            trainer.order(rows)
        try:
            trainer.steps(0, 0, np.full(-(-len(pairs) // mini_batch_size), eta / c), 0)
        finally:  # after Ctrl-C too: the parameters are then those of the last whole step
            trainer.store()
            weights, biases = net.views(flat)
            self.weights = [w.T.copy() for w in weights]
            self.biases = [b.reshape(-1, 1).copy() for b in biases]

    def _architecture(self, loss: str) -> Architecture:
        return Architecture.build(self.sizes, "sigmoid", "sigmoid", loss, dtype="float64")

    def _flat(self, net: Architecture) -> Array:
        flat = np.empty(net.n_parameters)
        weights, biases = net.views(flat)
        for k, (w, b) in enumerate(self._layers()):
            weights[k][...] = w.T
            biases[k][...] = b[:, 0]
        return flat

    def _layers(self) -> list[tuple[Array, Array]]:
        """Return every layer's w and b, which may have been set by hand, checked."""
        for name, values in (("weights", self.weights), ("biases", self.biases)):
            if not isinstance(values, (list, tuple)) or len(values) != self.num_layers - 1:
                found = f"{len(values)} values" if hasattr(values, "__len__") else repr(values)
                raise ValueError(
                    f"{name}: found {found}, expected a list of {self.num_layers - 1} arrays"
                )
        return [
            (
                real_array(self.weights[k], (y, x), f"weights[{k}]"),
                real_array(self.biases[k], (y, 1), f"biases[{k}]"),
            )
            for k, (x, y) in enumerate(zip(self.sizes[:-1], self.sizes[1:]))
        ]


BOOK = dict(vars(SigmoidNetwork))
"""The methods as they stand here, whatever a program puts in their place later."""
