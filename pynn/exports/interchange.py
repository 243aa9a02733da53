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

    @classmethod
    def from_sklearn(
        cls: type[_Network], estimator: Any, *, backend: str = "auto", threads: int | None = None
    ) -> _Network:
        """Return a network with the parameters of a fitted perceptron of scikit-learn.

        Parameters
        ----------
        estimator : estimator
            An ``MLPClassifier`` or ``MLPRegressor`` of scikit-learn or of ``pynn.sklearn``, or a
            pipeline of ``StandardScaler`` and one of them, which becomes ``standardize=True``.
        backend, threads
            As for ``Network``.

        Returns
        -------
        Network
            Predictions, classes and names of columns are those of the estimator; ``dtype`` is that
            of its coefficients. Optimizer state and history begin anew, and ``fit`` needs its own
            settings. The inputs are values, never pixels.

        Raises
        ------
        TypeError
            If the estimator is of another kind.
        ValueError
            If it is not fitted, has one class only, or the pipeline has other steps.

        Examples
        --------
        >>> from sklearn.neural_network import MLPClassifier  # doctest: +SKIP
        >>> net = Network.from_sklearn(MLPClassifier().fit(x, y))  # doctest: +SKIP
        """
        from . import scikit

        def create(sizes: list[int], **settings: Any) -> _Network:
            make: Any = cls
            made: _Network = make(sizes, backend=backend, threads=threads, **settings)
            return made

        found: _Network = scikit.network(create, estimator)
        return found

    def to_sklearn(self) -> Any:
        """Return a fitted estimator of scikit-learn with the same predictions.

        Returns
        -------
        estimator
            An ``MLPClassifier`` or ``MLPRegressor`` of scikit-learn, independent of this network.
            If the inputs are standardised or pixels, a pipeline of ``StandardScaler`` and one of
            them: it takes the same x, pixels as uint8 from 0 to 255. Batch norms and standardised
            targets are part of its coefficients, which are those of ``average`` if there is one,
            and float64 if inputs or targets are standardised.

        Raises
        ------
        ValueError
            If scikit-learn cannot compute the predictions: other activations, or different ones in
            hidden layers; norms over the units of a row; residual layers; ``precision="bf16"``;
            hinge losses, quantiles and distributions; custom functions.
        ImportError
            If scikit-learn is not installed.

        Notes
        -----
        Options that change training alone, such as dropout, noise or a focal loss, are not carried
        over: further training of the estimator follows its own parameters. Its optimizer begins
        anew.

        Examples
        --------
        >>> estimator = net.to_sklearn()  # doctest: +SKIP
        >>> estimator.predict_proba(x)  # doctest: +SKIP
        """
        from . import scikit

        return scikit.estimator(self._model)

    def to_pytree(self) -> dict[str, Any]:
        """Return copies of the parameters as nested dictionaries with the names of Flax.

        Returns
        -------
        dict
            ``{"params": {"Dense_0": {"kernel": …, "bias": …}, …}}``, kernels (inputs, outputs).
            Norms are ``LayerNorm_0``, ``RMSNorm_0`` or ``BatchNorm_0`` with ``scale`` and ``bias``;
            running statistics are in ``"batch_stats"`` with ``mean`` and ``var``. The values are
            those of ``average`` if there is one. A Flax module of the same layers takes them:
            ``module.apply(net.to_pytree(), x)``.

        Raises
        ------
        ValueError
            If inputs or targets are standardised, for which there is no place.

        Notes
        -----
        Activations and the scaling of pixels are not included: the values of pixels are in [0, 1].
        """
        from . import pytree

        return pytree.from_model(self._model)

    @classmethod
    def from_pytree(cls: type[_Network], params: Mapping[str, Any], **settings: Any) -> _Network:
        """Return a network with parameters as Flax names them.

        Parameters
        ----------
        params : mapping
            As ``to_pytree`` returns them, or the value of ``"params"`` alone; arrays of NumPy or
            JAX.
        settings
            Arguments of ``Network`` other than ``sizes``, such as ``activation``, ``loss`` and
            ``norm``. Without ``dtype`` it is that of the kernels. Flax's ``LayerNorm`` and
            ``RMSNorm`` have ε = 1e-6: ``norm=pynn.LayerNorm(1e-6)``.

        Returns
        -------
        Network

        Raises
        ------
        TypeError, ValueError
            If a name or a shape does not fit, or a value is not finite.

        Examples
        --------
        >>> net = Network.from_pytree(variables, activation="relu")  # doctest: +SKIP
        """
        from . import pytree

        variables = pytree.Variables(params)
        if "sizes" in settings:
            raise TypeError(
                f"sizes: found {settings['sizes']!r}, expected no sizes, since they are those of "
                "the kernels"
            )
        make: Any = cls
        net: _Network = make(variables.sizes, **{"dtype": variables.dtype, **settings})
        variables.copy_to(net._model)
        return net
