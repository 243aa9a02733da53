"""``Interchange``: the methods of ``Network`` that exchange parameters with other libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..spec.functions import Loss
from ..spec.losses import LossFunction
from ..training.standardise import as_flag
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
            return make(sizes, backend=backend, threads=threads, **settings)

        return scikit.network(create, estimator)

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

    @classmethod
    def from_keras(
        cls: type[_Network],
        model: Any,
        *,
        loss: str | LossFunction | Loss | None = None,
        backend: str = "auto",
        threads: int | None = None,
        seed: int | None = 0,
    ) -> _Network:
        """Return a network with the layers and the parameters of a model of Keras 3.

        Parameters
        ----------
        model : keras.Model
            A ``keras.Sequential``, or a functional model whose layers form a chain, of the layers
            that the page on Keras lists. It stays unchanged, and shares nothing with the network.
        loss : str, LossFunction or Loss, optional
            As for ``Network``. None: that of ``model.compile``; if the model is not compiled,
            cross_entropy after a softmax, binary_cross_entropy after a sigmoid, otherwise mse. With
            logits, as from ``from_logits=True``, the network gets the output activation that the
            loss has, so that it predicts probabilities.
        backend, threads, seed
            As for ``Network``.

        Returns
        -------
        Network
            ``dtype`` is that of the model, dropout and noise are kept. ``Rescaling`` and
            ``Normalization`` become means and scales of ``standardize``, which later training
            leaves as they are; ``Rescaling(1 / 255)`` alone becomes ``pixels=True``: x is uint8
            from 0 to 255, or floats that are divided by 255 already. Without them the inputs are
            values, never pixels. The optimizer state is zero; :func:`pynn.keras.fit` keeps it.

        Raises
        ------
        TypeError
            If it is no model of Keras.
        ValueError
            If it is not built, or a layer or the compiled loss is not supported; the error names
            the layer's position, its name and the reason.

        Examples
        --------
        >>> net = Network.from_keras(keras.models.load_model("model.keras"))  # doctest: +SKIP
        """
        from . import keras_layers

        def create(sizes: list[int], **settings: Any) -> _Network:
            make: Any = cls
            return make(sizes, backend=backend, threads=threads, seed=seed, **settings)

        return keras_layers.network(create, model, loss)

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

    @classmethod
    def from_torch(
        cls: type[_Network],
        module: Any,
        *,
        loss: Any = None,
        backend: str = "auto",
        threads: int | None = None,
        seed: int | None = 0,
    ) -> _Network:
        """Return a network with the layers and parameters of a PyTorch module.

        Parameters
        ----------
        module : torch.nn.Sequential
            Layers of ``nn.Linear``, activations, norms and dropout on the CPU, float32 or float64,
            also nested; the page on PyTorch has a table. The network has copies of the parameters.
        loss : str, LossFunction or Loss, optional
            As for ``Network``. If the module ends without an activation, as a classifier usually
            does, the network gets the output activation of the loss. None: cross_entropy after
            ``nn.Softmax`` and ``nn.LogSoftmax``, binary_cross_entropy after ``nn.Sigmoid``,
            otherwise mse.
        backend, threads, seed
            As for ``Network``.

        Returns
        -------
        Network
            Its inputs are values, never pixels. ``predict_proba`` returns probabilities, also for a
            module with ``nn.LogSoftmax``.

        Raises
        ------
        TypeError
            If it is no module.
        ValueError
            If it has another layer, hooks, shared or missing parameters, or a value that is not
            finite; the error names the position of the layer and the reason.
        ImportError
            If PyTorch is not installed.

        Examples
        --------
        >>> net = Network.from_torch(module, loss="cross_entropy")  # doctest: +SKIP
        """
        # Imported here, since PyTorch is optional.
        from . import chain, pytorch

        make: Any = cls
        found: _Network = chain.network(
            make, pytorch.read(module), loss, backend=backend, threads=threads, seed=seed
        )
        return found

    def to_torch(self, *, logits: bool = False) -> Any:
        """Return an ``nn.Sequential`` of PyTorch that predicts as this network does.

        Parameters
        ----------
        logits : bool
            Whether to leave out the output activation, as losses such as ``nn.CrossEntropyLoss``
            and ``nn.BCEWithLogitsLoss`` expect for further training.

        Returns
        -------
        torch.nn.Sequential
            In evaluation mode, with copies of the parameters, those of ``average`` if there is one,
            with norms and dropout. It takes tensors of ``dtype`` (n, n_in), pixels in [0, 1], and
            returns (n, n_out): probabilities in the order of ``classes``, or values in their unit.
            Means and scales of ``standardize`` are a part of the first ``nn.Linear``, those of
            ``standardize_targets`` of the last.

        Raises
        ------
        ValueError
            If PyTorch has no such layers: residual ones, custom activations, the output ``exp``
            (except with ``logits=True``); ``precision="bf16"``; or means so much larger than scales
            that ``dtype`` cannot hold the inputs.
        ImportError
            If PyTorch is not installed.

        Examples
        --------
        >>> module = net.to_torch()  # doctest: +SKIP
        """
        from . import pytorch

        return pytorch.module_of(self._model, as_flag(logits, "logits"))
