"""``Access``: methods of ``Network`` beyond fit, predict and evaluate.

They look inside a model, freeze layers or measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import choose, gaps
from ..spec import arguments
from ..spec.architecture import Architecture
from .described import Described

if TYPE_CHECKING:
    from .profile import Profile
    from .range_test import LearningRates

Array = np.ndarray


class Access(Described):
    """Base class of ``Network``; ``_asked`` are its backend and threads."""

    _asked: tuple[str, int | None]

    def activations(self, x: Any, layer: int) -> Array:
        """Return the outputs of a layer, which are the inputs of the next, without dropout.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``predict``.
        layer : int
            Index of the layer as in ``net.weights``: 0 is the first hidden layer and −1 the output
            layer, whose outputs are those of ``predict_proba`` before they are arranged by class.

        Returns
        -------
        ndarray (n, units), in ``dtype``
            Rows in the order of x.

        Raises
        ------
        TypeError, ValueError
            If x does not fit, or there is no such layer.

        Examples
        --------
        >>> import numpy as np
        >>> from pynn import Network
        >>> net = Network([4, 8, 3], backend="numpy")
        >>> net.activations(np.ones((2, 4)), layer=0).shape
        (2, 8)
        """
        net = self.architecture
        count = net.n_layers
        k = _layer(layer, count)
        x = self._features(x)
        if k == count - 1:
            return self._engine.forward(self._model.evaluated, x)
        # The layers up to k are a network of their own, whose parameters come first.
        part = first_layers(net, k + 1)
        engine = choose.create(self._engine.name, part, self._asked[1])
        values, n = self._model.evaluated, part.n_parameters
        running = values[net.n_parameters :][: part.n_statistics]
        return engine.forward(np.concatenate([values[:n], running]), x)

    @property
    def frozen(self) -> tuple[int, ...]:
        """Indices of the layers that training leaves as they are, in ascending order."""
        return self._model.frozen

    def freeze(self, *layers: int | Iterable[int]) -> None:
        """Let training leave the weights and biases of some layers as they are.

        Their optimizer state does not change either, and the L2 term and weight decay do not apply
        to them. The backward pass ends at the lowest layer that is trained. Layers stay frozen in
        files and copies of the network; ``loss_and_gradient`` has the gradient of all layers.

        Parameters
        ----------
        *layers : int or iterable of int
            Indices as in ``net.weights``; layers frozen before stay frozen. 0 is the first
            hidden layer and −1 the output layer.

        Raises
        ------
        TypeError
            If no layer is given.
        ValueError
            If there is no such layer, or the network is in training.

        Examples
        --------
        >>> from pynn import Network
        >>> net = Network([4, 8, 8, 3], backend="numpy")
        >>> net.freeze(0, 1)
        >>> net.frozen
        (0, 1)
        """
        if not layers:
            raise TypeError("freeze: found no layer, expected indices such as freeze(0, 1)")
        count = self.architecture.n_layers
        self._freeze({*self.frozen, *(k for one in layers for k in _layers(one, count))})

    def unfreeze(self, *layers: int | Iterable[int]) -> None:
        """Let training change some layers again, with the optimizer state that they had.

        Parameters
        ----------
        *layers : int or iterable of int
            As in ``freeze``; without any, all.

        Raises
        ------
        ValueError
            If there is no such layer, or the network is in training.
        """
        count = self.architecture.n_layers
        chosen = (k for one in layers or (range(count),) for k in _layers(one, count))
        self._freeze({*self.frozen} - {*chosen})

    def _freeze(self, layers: set[int]) -> None:
        if self._model.training:
            raise ValueError(
                "layers: found a network in training, expected freeze and unfreeze before or after"
            )
        self._model.frozen = tuple(sorted(layers))

    def find_learning_rate(
        self,
        x: Any,
        y: Any = None,
        *,
        lowest: float = 1e-6,
        highest: float = 10.0,
        steps: int = 100,
        **settings: Any,
    ) -> LearningRates:
        """Train a copy while the learning rate grows from step to step, to find a good one.

        The learning-rate range test of Smith 2017, section 3.3. It begins with the present
        parameters and an empty optimizer state, and changes neither; results depend on the seed
        alone. It ends early when the loss diverges.

        Parameters
        ----------
        x, y : array
            As in ``fit``.
        lowest, highest : float
            The first rate and the last; in between they grow exponentially.
        steps : int
            Number of steps, each with a batch of its own; at least 2.
        **settings
            Arguments of ``fit`` that a step depends on, with the defaults of ``fit``:
            ``sample_weight``, ``class_weight``, ``missing_targets``, ``batch_size``, ``optimizer``,
            ``layer_rates``, ``l2``, ``l1``, ``clip_norm``, ``max_norm``, ``label_smoothing`` and
            ``shuffle``. Not those of whole epochs, such as ``validation``, ``metrics`` and
            ``schedule``.

        Returns
        -------
        LearningRates
            ``rates``, ``losses`` and ``suggestion``: a tenth of the rate with the lowest smoothed
            loss (Howard and Gugger 2020, chapter 5). ``plot()`` draws them.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the first loss is not finite.

        Examples
        --------
        >>> found = net.find_learning_rate(x, y, batch_size=128)  # doctest: +SKIP
        >>> net.fit(x, y, batch_size=128, learning_rate=found.suggestion)  # doctest: +SKIP
        """
        # Imported here, since most programs do not use it.
        from .range_test import range_test

        return range_test(
            *(self, self._model, self._engine, (x, y), (lowest, highest, steps), settings)
        )

    def profile(self) -> Profile:
        """Measure the time of every phase of the training steps inside a ``with`` block.

        It costs about 25 ns per phase and layer, and nothing elsewhere. Backend cython only.

        Returns
        -------
        Profile
            A context manager; print or read it after ``fit``. Entered again, it continues adding.

        Raises
        ------
        ValueError
            If the network is on another backend.
        RuntimeError
            From ``with``, if another profile of this network is active.

        Examples
        --------
        >>> with net.profile() as profile:  # doctest: +SKIP
        ...     net.fit(x, y)
        >>> print(profile)  # doctest: +SKIP
        """
        name = self._engine.name
        if gaps.lacks(name, "profile"):
            expected = " or ".join(map(repr, gaps.having("profile")))
            raise ValueError(f"profile: found the backend {name!r}, expected {expected}")
        from .profile import Profile

        return Profile(self._model)


def first_layers(net: Architecture, count: int) -> Architecture:
    """Return the architecture of the first layers of a network, for predictions."""
    used = set(net.activations[:count])
    return replace(
        net,
        sizes=net.sizes[: count + 1],
        activations=net.activations[:count],
        dropout=net.dropout[: count - 1],
        input_noise=0.0,
        hidden_noise=(),
        # Any loss that can be combined with every output: it is not computed.
        loss="mse",
        loss_parameters=(),
        functions=tuple(f for f in net.functions if f.name in used),
        activation_parameters=net.activation_parameters[:count],
        residual=net.residual[:count],
        norms=net.norms[:count],
    )


def _layers(layers: Any, count: int) -> list[int]:
    """Return indices of layers from 0."""
    several = isinstance(layers, Iterable) and not isinstance(layers, str)
    return [_layer(layer, count) for layer in (layers if several else [layers])]


def _layer(layer: Any, count: int) -> int:
    """Return the index of a layer from 0; negative ones count from the last."""
    try:
        k = arguments.whole(layer, "layer", -count, count - 1)
    except ValueError:
        raise ValueError(
            f"layer: found {layer!r}, expected a whole number from 0, the first layer after the "
            f"inputs, to {count - 1}, the output layer, or from {-count} to -1"
        ) from None
    return k % count
