"""``Interchange``: the methods of ``Network`` that exchange parameters with other libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from .methods import Exports

_Network = TypeVar("_Network", bound="Interchange")


class Interchange(Exports):
    """Base class of ``Network``."""

    def load_state_dict(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any],
        *,
        layers: Sequence[str] | None = None,
    ) -> None:
        """Copy the parameters of a PyTorch module, from a safetensors file or a mapping.

        PyTorch need not be installed. The network is unchanged if a tensor does not fit.

        Parameters
        ----------
        source : str, path-like or mapping
            A safetensors file, or names with arrays or tensors, such as ``module.state_dict()``.
            There must be one ``nn.Linear`` for each layer, with ``MODULE.weight`` (outputs, inputs)
            and ``MODULE.bias``, and one norm for each normalised layer: ``BatchNorm1d`` with
            ``running_mean`` and ``running_var``, ``LayerNorm`` or ``RMSNorm``. All floating-point
            formats are converted, bfloat16 too.
        layers : sequence of str, optional
            The names of all modules, linear ones and norms, in order. None: ``state_dict()`` has
            the order of definition. In files and other mappings, modules whose names differ only in
            numbers are in the order of these (``0``, ``2``; ``fc1``, ``fc2``), and the shapes must
            tell where others belong.

        Raises
        ------
        ValueError
            If a tensor is missing, left over, of another shape or not finite, or the order is not
            known.
        FileNotFoundError
            If there is no such file.

        Notes
        -----
        A state dict does not hold activations: they must be those of this network, and so must the
        constants of norms. PyTorch's ``LayerNorm`` and ``BatchNorm1d`` have ε = 1e-5, as pynn's.

        Examples
        --------
        >>> net = Network([784, 128, 10])  # doctest: +SKIP
        >>> net.load_state_dict("mnist.safetensors")  # doctest: +SKIP
        """
        # Imported here, since most programs do not use it.
        from . import state_dict

        state_dict.load(self._model, source, layers)
