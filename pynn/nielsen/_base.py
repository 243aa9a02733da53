"""The network that chapters 1 and 3 share: passes for one input, and training on the compiled core.

Shapes as in the book, for a layer with x inputs and y outputs:
    w, b       (y, x), (y, 1)
    a, z       (y, 1)            activation and weighted input of one training input
A flat parameter vector of pynn holds (x, y) and (y,) instead. The lists ``weights`` and ``biases``
are authoritative: they are copied to a flat vector before every epoch or prediction on the core,
and copied back after an epoch.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backends import choose, contract
from ..backends.contract import Data, TrainerSettings
from ..checks.arrays import as_array, check_finite
from ..spec import arguments, optimizers
from ..spec.architecture import Architecture
from ._pairs import Pairs, as_pairs, as_trainable, real_array

Array = np.ndarray

_SHORT = 5_000_000
"""Rows × parameters that one thread trains in about 1 ms."""


def sigmoid(z: Any) -> Array:
    """Return 1 / (1 + e^−z), element by element (chapter 1, "Sigmoid neurons").

    Very negative z give 0 without an overflow warning.
    """
    with np.errstate(over="ignore", under="ignore"):
        return 1 / (1 + np.exp(np.negative(z)))


def sigmoid_prime(z: Any) -> Array:
    """Return σ′(z) = σ(z)·(1 − σ(z)) (chapter 1)."""
    s = sigmoid(z)
    return s * (1 - s)


class Training(NamedTuple):
    """Arguments of ``SGD`` that both chapters have."""

    data: list[Any]
    epochs: int
    mini_batch_size: int
    eta: float

    @classmethod
    def checked(cls, data: Any, epochs: Any, mini_batch_size: Any, eta: Any) -> Training:
        return cls(
            as_trainable(data),
            arguments.whole(epochs, "epochs", 0),
            arguments.whole(mini_batch_size, "mini_batch_size", 1),
            arguments.number(eta, "eta"),
        )


@functools.lru_cache(maxsize=16)
def _engine(net: Architecture, threads: int | None = None) -> contract.Engine:
    """Return the engine of an architecture, shared by all networks that have it."""
    return choose.capable(net, threads)


class SigmoidNetwork:
    """Layers of sigmoid neurons. Subclasses add initial weights, cost and ``SGD``.

    Attributes are those of ``network.Network``.
    """

    num_layers: int
    sizes: list[int]
    biases: list[Array]
    weights: list[Array]

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = list(Architecture.build(sizes, "sigmoid", "sigmoid", "mse").sizes)
        self.num_layers = len(self.sizes)

    def _draw(self) -> None:
        """Draw all biases from N(0, 1), then all weights, as both chapters do."""
        self.biases = [np.random.randn(y, 1) for y in self.sizes[1:]]
        self.weights = [np.random.randn(y, x) for x, y in zip(self.sizes[:-1], self.sizes[1:])]

    # --- The book's passes, for one training input ------------------------------------------------

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
            If ``a``, a weight matrix or a bias vector is not an array of numbers of its shape.
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
            ∂C/∂b (y, 1) and ∂C/∂w (y, x) of every layer, in the order of ``biases`` and
            ``weights``.

        Raises
        ------
        TypeError, ValueError
            If an argument is not an array of numbers of its shape.
        """
        layers = self._layers()
        activations, zs = [real_array(x, (self.sizes[0], 1), "x")], []
        for w, b in layers:
            zs.append(w @ activations[-1] + b)
            activations.append(sigmoid(zs[-1]))

        # BP1: δ = ∂C/∂z at the outputs, (n_out, 1).
        delta = real_array(
            self._output_error(zs[-1], activations[-1], y), zs[-1].shape, "delta of the cost"
        )
        nabla_b, nabla_w = [], []
        for k in reversed(range(len(layers))):
            nabla_b.append(delta)  # BP3: ∂C/∂b = δ
            # BP4: ∂C/∂w = δ·aᵀ, (y, 1)·(1, x). np.dot computes an outer product several times
            # faster than @.
            nabla_w.append(np.dot(delta, activations[k].T))
            if k > 0:  # BP2: δ = wᵀ·δ ⊙ σ′(z), (x, y)·(y, 1) ⊙ (x, 1)
                delta = (layers[k][0].T @ delta) * (activations[k] * (1 - activations[k]))
        return nabla_b[::-1], nabla_w[::-1]

    def _output_error(self, z: Array, a: Array, y: Any) -> Array:
        """Return δ = ∂C/∂z at the outputs, (n_out, 1)."""
        raise NotImplementedError

    def _update(self, mini_batch: Any, eta: float, decay: float) -> None:
        """Take one step of gradient descent, on the core if it computes the same as the methods.

        w ← (1 − η·decay)·w − η/m·Σ ∂C/∂w and b ← b − η/m·Σ ∂C/∂b over the m pairs.
        """
        if self._on_core():
            pairs = self._pairs(mini_batch, "mini_batch", numbered=False)
            self._descend(pairs, None, len(pairs), eta, decay)
        else:
            self._update_with_backprop(mini_batch, eta, decay)

    def _update_with_backprop(self, mini_batch: Any, eta: float, decay: float) -> None:
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
        # No call between these two lines: Ctrl-C must not leave one list without the other.
        self.weights = weights
        self.biases = biases

    # --- Passes and epochs on the compiled core, for many training inputs -------------------------

    def _loss(self) -> str:
        """Return pynn's loss whose gradient at the outputs is a multiple of the cost's."""
        return "mse"

    def _on_core(self) -> bool:
        """Return whether the core can replace ``backprop``: no step of it is overridden."""
        raise NotImplementedError

    def _unchanged(self, book: Mapping[str, object], *names: str) -> bool:
        """Return whether these methods are those of ``book``, so that the core may replace them."""
        return all(getattr(getattr(self, name), "__func__", None) is book[name] for name in names)

    def _outputs(self, pairs: Pairs) -> Array:
        """Return the outputs of all pairs, (m, n_out)."""
        if self._unchanged(BOOK, "feedforward"):
            net = self._architecture("mse")
            return _engine(net).forward(self._flat(net), pairs.x)
        columns = [self.feedforward(x.reshape(-1, 1)) for x in pairs.x]
        return np.array([real_array(c, (self.sizes[-1], 1), "output")[:, 0] for c in columns])

    def _count_right(self, pairs: Pairs) -> int:
        """Return the number of inputs whose first largest output is the label."""
        return int((self._outputs(pairs).argmax(axis=1) == pairs.labels).sum())

    def _pairs(self, data: Any, name: str, *, numbered: bool) -> Pairs:
        if isinstance(data, Pairs):  # converted by SGD, once for all epochs
            return data
        return Pairs(data, name, self.sizes, numbered=numbered)

    def _training_pairs(self, book: Mapping[str, object], data: list[Any]) -> Pairs | None:
        """Return the training data as arrays if ``SGD`` runs on the core, else None."""
        if self._on_core() and self._unchanged(book, "update_mini_batch"):
            return self._pairs(data, "training_data", numbered=False)
        return None

    def _epochs(
        self,
        training: Training,
        pairs: Pairs | None,
        decay: float,
        update: Callable[[list[Any]], None],
    ) -> Iterator[int]:
        """Shuffle the list, train on it and yield the number of the epoch, for every epoch.

        ``pairs`` holds the list in its current order, to train on the core; with None every
        mini-batch is passed to ``update``.
        """
        data, size = training.data, training.mini_batch_size
        n = len(data)
        original, rows = list(data), list(range(n))
        for epoch in range(training.epochs):
            if pairs is None:
                random.shuffle(data)
                for start in range(0, n, size):
                    update(data[start : start + size])
            else:
                # Shuffling the indices takes the same random draws as shuffling the list.
                random.shuffle(rows)
                data[:] = [original[i] for i in rows]
                self._descend(pairs, np.array(rows), size, training.eta, decay)
            yield epoch

    def _descend(
        self, pairs: Pairs, rows: Array | None, mini_batch_size: int, eta: float, decay: float
    ) -> None:
        """Take one step for each mini-batch of the rows in this order, on the core.

        pynn's losses are means over the outputs, so that their gradients are c times the book's:
        c = 2/n_out for mse, which has no ½, and 1/n_out for cross-entropy. The learning rate η/c
        and the L2 factor c·decay give w − η/c·(c·∇ + c·decay·w), the book's step.
        """
        net = self._architecture(self._loss())
        flat = self._flat(net)
        c = (2.0 if net.loss == "mse" else 1.0) / net.n_out
        # One small step takes less time than waking a second thread.
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
        rates = np.full(-(-len(pairs) // mini_batch_size), eta / c)
        # Allocated before training: its result is not lost if memory is short afterwards.
        layers = [(np.empty((y, x)), np.empty((y, 1))) for x, y in zip(net.sizes, net.sizes[1:])]

        def write() -> None:
            trainer.store()
            for (w, b), *trained in zip(layers, *net.views(flat)):
                w[...], b[:, 0] = trained[0].T, trained[1]
            # In one step, as an interrupt must not leave one list without the other.
            self.__dict__.update(weights=[w for w, _ in layers], biases=[b for _, b in layers])

        try:
            try:
                trainer.steps(0, 0, rates, 0)
            finally:  # after Ctrl-C too, with the parameters after the last complete step
                write()
        except BaseException:
            write()  # the first call may have been interrupted
            raise

    def _architecture(self, loss: str) -> Architecture:
        return Architecture.build(self.sizes, "sigmoid", "sigmoid", loss, dtype="float64")

    def _flat(self, net: Architecture) -> Array:
        """Return weights and biases as a flat parameter vector of pynn."""
        flat = np.empty(net.n_parameters)
        weights, biases = net.views(flat)
        for k, (w, b) in enumerate(self._layers()):
            weights[k][...] = w.T
            biases[k][...] = b[:, 0]
        return flat

    def _layers(self) -> list[tuple[Array, Array]]:
        """Return w and b of every layer, checked, as a program may have assigned them."""
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

    def _finite_layers(self) -> list[tuple[Array, Array]]:
        """Return w and b of every layer, checked, for a file: all finite."""
        layers = self._layers()
        for k, (w, b) in enumerate(layers):
            check_finite(w, f"weights[{k}]", np.dtype(np.float64))
            check_finite(b, f"biases[{k}]", np.dtype(np.float64))
        return layers


BOOK = dict(vars(SigmoidNetwork))
"""The methods as defined here, to notice subclasses and programs that replace them."""
