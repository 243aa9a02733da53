"""``Ensemble``: the combined predictions of several networks, and their file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..backends import reference
from ..checks import weights
from ..checks.shared import Shared
from ..checks.targets import Task
from ..network import Network
from ..spec.arguments import choose
from ..spec.functions import Activation, Function, Loss
from ..spec.losses import GaussianNLL
from ..training import evaluation, model_file, standardise
from ..training.evaluation import Scored

Array = np.ndarray
PathLike = str | os.PathLike[str]

VOTING = ("mean", "majority")
_SMALLEST = 1e-300
"""Least probability in the loss, as far as float64 goes."""


class Ensemble(Scored):
    """Several trained networks that predict together.

    Parameters
    ----------
    networks : sequence of Network
        The members, at least one, with the same number of inputs and of outputs and the same
        classes. They are not copied.
    voting : {"mean", "majority"}
        How ``predict`` chooses labels. ``"mean"``: the largest mean probability (for multi-label
        data, a mean above ½). ``"majority"``: the label that most members predict; the larger mean
        probability decides ties, or the first label if members have no probabilities.

    Attributes
    ----------
    networks : tuple of Network
        The members.
    voting : str
        As above.

    Raises
    ------
    TypeError, ValueError
        If a member is no Network or does not fit the others.

    Examples
    --------
    >>> networks = [pynn.Network([20, 64, 3], seed=seed) for seed in range(8)]  # doctest: +SKIP
    >>> pynn.fit_many(networks, x, y)  # doctest: +SKIP
    >>> ensemble = pynn.Ensemble(networks)  # doctest: +SKIP
    >>> ensemble.predict(x), ensemble.spread(x)  # doctest: +SKIP
    """

    def __init__(self, networks: Sequence[Network], voting: str = "mean") -> None:
        self.voting = choose("voting", voting, VOTING)
        self.networks = tuple(networks)
        if not self.networks:
            raise ValueError("networks: found none, expected at least one")
        for k, net in enumerate(self.networks):
            if not isinstance(net, Network):
                raise TypeError(f"networks[{k}]: found {type(net).__name__}, expected a Network")
            _check_fits(net, self.networks[0], f"networks[{k}]")

    def __len__(self) -> int:
        return len(self.networks)

    def __iter__(self) -> Iterator[Network]:
        return iter(self.networks)

    def __getitem__(self, k: int) -> Network:
        return self.networks[k]

    def __repr__(self) -> str:
        return f"Ensemble({len(self)} × {self.networks[0]!r}, {self.voting})"

    @property
    def classes(self) -> Array | None:
        """The labels of the outputs, as in the members; None for regression and multi-label."""
        return self.networks[0].classes

    @property
    def _task(self) -> Task:
        return self.networks[0]._task

    def _targets(self, y: Any, rows: int, missing: bool = False) -> tuple[Array, Task]:
        return self.networks[0]._targets(y, rows, missing)

    def predict(self, x: Any) -> Array:
        """Return the label of each row by ``voting``, or the mean of the predicted values.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``Network.predict``.

        Returns
        -------
        ndarray
            In the shape and dtype of ``Network.predict``.
        """
        if self._task.kind == "values":
            return self._mean(Network.predict, x)
        if not self._probabilities or self.voting == "majority":
            return self._majority(x)
        return self._task.labels(self.predict_proba(x))

    def predict_proba(self, x: Any) -> Array:
        """Return the mean over the members of the probability of each class.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``predict``.

        Returns
        -------
        ndarray (n, classes)
            As from ``Network.predict_proba``.
        """
        return self._mean(Network.predict_proba, x)

    def predict_distribution(self, x: Any) -> tuple[Array, Array]:
        """Return mean and standard deviation of each target, with loss gaussian_nll.

        The distribution is the mixture of the members' distributions (Lakshminarayanan et al.
        2017, section 2.4): its mean is the mean of μ, its deviation √(mean of (σ² + μ²) − mean²).

        Parameters
        ----------
        x : array (n, n_in)
            As in ``predict``.

        Returns
        -------
        mean, deviation : ndarray
            Each in the shape of ``predict``.
        """
        x = Shared(x)
        return _mixture(net.predict_distribution(x) for net in self.networks)

    def spread(self, x: Any) -> Array:
        """Return how much the members disagree: the standard deviation between their predictions.

        √(Σ (pₖ − p̄)² / K) over the K members, of the values that ``predict`` returns for a
        regression, and otherwise of the probabilities of ``predict_proba``. It is 0 for one member.

        Parameters
        ----------
        x : array (n, n_in)
            As in ``predict``.

        Returns
        -------
        ndarray, float64
            In the shape of ``predict`` for a regression, otherwise (n, classes).
        """
        of = Network.predict if self._task.kind == "values" else Network.predict_proba
        x = Shared(x)
        return _mixture((of(net, x), np.zeros(())) for net in self.networks)[1]

    # --- Evaluation -------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        missing_targets: str = "error",
        metrics: Any = None,
    ) -> dict[str, float]:
        """Return mean loss and accuracy of the ensemble on a data set.

        Parameters
        ----------
        x, y : array
            As in ``Network.evaluate``.
        sample_weight : array (n,), optional
            Weights of the rows; None for 1.
        missing_targets : {"error", "ignore"}
            As in ``Network.evaluate``.
        metrics : str, function, Metric, or list of them, optional
            As in ``Network.evaluate``.

        Returns
        -------
        dict
            ``"loss"``: the loss of the members, of the mean of their outputs (with gaussian_nll of
            mean and variance of the mixture); left out if the members have different losses.
            ``"accuracy"``, except for regression: the share of labels that ``predict`` returns.
            Metrics follow by their names; they are of the mean outputs.
        """
        first = self.networks[0]
        shared = Shared(x)
        rows = first._features(shared)
        missing = weights.ignores_missing(missing_targets)
        y, task = self._targets(y, len(rows), missing)
        w = weights.sample_weight(sample_weight, len(rows))
        share, missing = weights.combined(y, w, missing=missing)
        out = self._outputs(shared)
        net, found = first.architecture, {}
        if all(one.architecture.loss_text == net.loss_text for one in self.networks):
            with np.errstate(all="ignore"):
                losses, _ = reference.loss_and_output_gradient(
                    *_before_output(net, out), y, missing=missing
                )
            found["loss"] = _average(losses, share)
        if task.kind != "values":
            right = self.predict(shared) == task.labels(y)
            if right.ndim == 2:
                known = ~np.isnan(y)
                right = (right & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
            found["accuracy"] = _average(right, share)
        if metrics is not None:
            from ..training.measurement import measured

            others = evaluation.chosen(metrics, first._model, task)
            others = tuple(metric for metric in others if metric.name not in found)
            found |= measured(others, task, y, net.loss_function.measured(out), w)
        return found

    # --- Files ------------------------------------------------------------------------------------

    def save(self, path: PathLike) -> None:
        """Write all members to one safetensors file, atomically.

        Parameters
        ----------
        path : str or path-like
            The file to write; its folder must exist.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        from ..files.tensors import save_tensors

        tensors: dict[str, Array] = {}
        documents = []
        for k, net in enumerate(self.networks):
            found, document = model_file.describe(net._model)
            tensors |= {f"{k}.{name}": tensor for name, tensor in found.items()}
            documents.append(document)
        save_tensors(path, tensors, {"ensemble": documents, "voting": self.voting})

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        functions: Activation | Loss | Sequence[Activation | Loss] = (),
        backend: str = "auto",
        threads: int | None = None,
    ) -> Ensemble:
        """Return the ensemble in a file. Loading never executes code from the file.

        Parameters
        ----------
        path : str or path-like
            A file written by ``save``.
        functions, backend, threads
            As in :func:`pynn.load`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is incomplete or no ensemble, or one of its functions is not given.
        """
        from ..files.tensors import load_tensors

        given = [functions] if isinstance(functions, Function) else list(functions)
        tensors, document = load_tensors(path)
        documents = document.get("ensemble")
        if not isinstance(documents, list) or not documents:
            raise ValueError(f"{path}: found no ensemble, expected a file written by Ensemble.save")
        try:
            parts: list[dict[str, Array]] = [{} for _ in documents]
            for name, tensor in tensors.items():
                k, _, rest = name.partition(".")
                parts[int(k)][rest] = tensor
            models = [
                model_file.rebuild(part, one, given)
                for part, one in zip(parts, documents, strict=True)
            ]
            networks = [Network._from_model(model, backend, threads) for model in models]
            return cls(networks, document["voting"])
        except model_file.OtherFunctions as error:
            raise ValueError(f"{path}: {error}") from error
        except model_file.MISFITS as error:
            text = model_file.misfit(error)
            raise ValueError(f"{path}: not an ensemble that pynn can use: {text}") from error

    # --- Combined outputs -------------------------------------------------------------------------

    @property
    def _probabilities(self) -> bool:
        """Whether all members predict probabilities; hinges do not."""
        return all(net.architecture.loss_function.probabilities for net in self.networks)

    def _mean(self, of: Callable[[Network, Any], Array], x: Any) -> Array:
        """Return the mean of an array over the members, summed in float64."""
        x, total, dtypes = Shared(x), None, []
        for net in self.networks:
            found = of(net, x)
            dtypes.append(found.dtype)
            total = found.astype(np.float64) if total is None else total + found
        assert total is not None
        return (total / len(self)).astype(np.result_type(*dtypes))

    def _majority(self, x: Any) -> Array:
        votes: Any = 0.0
        proba: Any = 0.0
        x = Shared(x)
        for net in self.networks:
            predicted = net.predict(x)
            one = predicted if self.classes is None else predicted[:, None] == self.classes
            votes = votes + one
            if self._probabilities:
                proba = proba + net.predict_proba(x).astype(np.float64)
        # Probabilities are at most the number of members: they decide between equal votes only.
        tie = 0.5 * proba / len(self)
        if self.classes is None:
            return self._task.labels(np.asarray(votes / len(self) + (tie - 0.25) / len(self)))
        return self._task.labels(np.asarray(votes + tie))

    def _outputs(self, x: Any) -> Array:
        """Return the mean outputs (n, n_out), float64, in the original unit.

        With gaussian_nll they are the outputs that stand for mean and variance of the mixture.
        """
        if isinstance(self.networks[0].architecture.loss_function, GaussianNLL):
            mean, deviation = self.predict_distribution(x)
            variance = np.maximum(deviation**2 - 1e-6, _SMALLEST)
            s = variance + np.log(-np.expm1(-variance))  # inverse of softplus
            return np.concatenate([part.reshape(len(s), -1) for part in (mean, s)], axis=1)
        return self._mean(
            lambda net, x: standardise.outputs(net._model, net._engine, net._features(x)).astype(
                np.float64
            ),
            x,
        )


def _average(values: Array, weight: Array | None) -> float:
    """Return a weighted mean of rows (n,); values of rows of weight 0 may be NaN."""
    if weight is None:
        return float(values.mean())
    return float(np.where(weight > 0, values * weight, 0.0).sum() / weight.sum())


def _mixture(parts: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return mean and standard deviation of the mixture of some distributions, float64.

    ``parts`` has mean and standard deviation of each.
    """
    mean: Any = 0.0
    squares: Any = 0.0
    k = 0
    for k, part in enumerate(parts, 1):
        mu, sigma = (values.astype(np.float64) for values in part)
        # Welford's update: differences of squares would cancel.
        change = mu - mean
        mean = mean + change / k
        squares = squares + sigma**2 + change * (mu - mean)
    return np.asarray(mean), np.sqrt(squares / k)


def _check_fits(net: Network, first: Network, name: str) -> None:
    """Raise ValueError if a member differs from the first one in what the outputs mean."""
    task, other = net._task, first._task
    for what, found, expected in (
        ("inputs", net.sizes[0], first.sizes[0]),
        ("outputs", net.sizes[-1], first.sizes[-1]),
        ("targets of the kind", task.kind, other.kind),
        ("the shape (n,) of predictions", task.flat, other.flat),
    ):
        if found != expected:
            raise ValueError(
                f"{name}: found {what}: {found}, expected {expected} as of networks[0]"
            )
    if not _equal(net.classes, first.classes):
        raise ValueError(
            f"{name}: found classes {net.classes}, expected {first.classes} as of networks[0]"
        )


def _equal(classes: Array | None, other: Array | None) -> bool:
    if classes is None or other is None:
        return classes is other
    return np.array_equal(classes, other)


def _before_output(net: Any, out: Array) -> tuple[Any, Array]:
    """Return an architecture and its z with these outputs, to compute its loss."""
    output = net.activations[-1]
    if output in ("softmax", "exp"):
        return net, np.log(np.maximum(out, _SMALLEST))
    if output == "sigmoid":
        return net, np.log(np.maximum(out, _SMALLEST)) - np.log(np.maximum(1 - out, _SMALLEST))
    identity = (*net.activations[:-1], "identity")
    parameters = (*net.activation_parameters[:-1], 0.0) if net.activation_parameters else ()
    return replace(net, activations=identity, activation_parameters=parameters), out
