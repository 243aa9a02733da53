"""``Access``: the methods of ``Network`` that look inside a model without changing it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import choose
from ..spec import arguments
from ..spec.architecture import Architecture
from .properties import ModelProperties

if TYPE_CHECKING:
    from ..backends.contract import Engine
    from .profile import Profile
    from .range_test import LearningRates

Array = np.ndarray


class Access(ModelProperties):
    """Base class of ``Network``; ``_engine`` computes, ``_asked`` are its backend and threads."""

    _engine: Engine
    _asked: tuple[str, int | None]

    def _features(self, x: Any) -> Any:
        raise NotImplementedError

    def activations(self, x: Any, layer: int) -> Array:
        """Return the outputs of a layer, after its activation and without dropout.

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
            return self._engine.forward(self._model.flat, x)
        # The layers up to k are a network of their own, whose parameters come first.
        part = first_layers(net, k + 1)
        engine = choose.create(self._engine.name, part, self._asked[1])
        return engine.forward(self._model.flat[: part.n_parameters], x)

    def find_learning_rate(
        self,
        x: Any,
        y: Any,
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
            Arguments of ``fit`` that a step depends on: ``batch_size``, ``optimizer``, ``l2``,
            ``label_smoothing`` and ``shuffle``, with the defaults of ``fit``.

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
        if name != "cython":
            raise ValueError(f"profile: found the backend {name!r}, expected 'cython'")
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
        # Any loss that can be combined with every output: it is not computed.
        loss="mse",
        loss_parameters=(),
        functions=tuple(f for f in net.functions if f.name in used),
        activation_parameters=net.activation_parameters[:count],
    )


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
