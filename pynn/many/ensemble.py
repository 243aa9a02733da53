"""``Ensemble``: the combined predictions of several networks, and their file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..backends import reference
from ..checks import weights
from ..checks.shared import Shared
from ..network import Network
from ..spec.arguments import choose
from ..spec.functions import Activation, Function, Loss
from ..spec.losses import GaussianNLL
from ..training import evaluation, model_file, standardise

Array = np.ndarray
PathLike = str | os.PathLike[str]

VOTING = ("mean", "majority")
_SMALLEST = 1e-300
"""Least probability in the loss, as far as float64 goes."""


class Ensemble:
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
    def _kind(self) -> str:
        return self.networks[0]._model.known_task.kind

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
        if self._kind == "values":
            return self._mean(lambda net, x: net.predict(x), x)
        if not self._probabilities or self.voting == "majority":
            return self._majority(x)
        return self._labels(self._mean(lambda net, x: net.predict_proba(x), x))

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
        return self._mean(lambda net, x: net.predict_proba(x), x)

    def predict_distribution(self, x: Any) -> tuple[Array, Array]:
        """Return mean and standard deviation of each target, with loss gaussian_nll.

        They are those of the mixture of the members' distributions (Lakshminarayanan et al. 2017,
        section 2.4): the mean of μ, and √(mean of (σ² + μ²) − mean²).

        Parameters
        ----------
        x : array (n, n_in)
            As in ``predict``.

        Returns
        -------
        mean, deviation : ndarray
            Each in the shape of ``predict``.
        """
        mean: Any = 0.0
        variance: Any = 0.0
        x = Shared(x)
        for k, net in enumerate(self.networks):
            mu, sigma = (part.astype(np.float64) for part in net.predict_distribution(x))
            # Welford's update: differences of squares would cancel.
            change = mu - mean
            mean = mean + change / (k + 1)
            variance = variance + sigma**2 + change * (mu - mean)
        return np.asarray(mean), np.sqrt(variance / len(self))

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
        of = _values if self._kind == "values" else _probabilities
        mean: Any = 0.0
        squares: Any = 0.0
        x = Shared(x)
        for k, net in enumerate(self.networks):
            found = of(net, x).astype(np.float64)
            change = found - mean
            mean = mean + change / (k + 1)
            squares = squares + change * (found - mean)
        spread: Array = np.sqrt(squares / len(self))
        return spread

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
        y, task = first._targets(y, len(rows), missing)
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
            right = self.predict(shared) == _expected(y, task)
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

    def score(
        self, x: Any, y: Any, sample_weight: Any = None, missing_targets: str = "error"
    ) -> float:
        """Return the accuracy of ``predict``, or R² for a regression, as in scikit-learn.

        Parameters
        ----------
        x, y, sample_weight : array
            As in ``Network.score``.
        missing_targets : {"error", "ignore"}
            As in ``Network.score``.

        Returns
        -------
        float
            As from ``Network.score``.
        """
        if self._kind == "multilabel":
            predicted = self.predict(x)
            missing = weights.ignores_missing(missing_targets)
            y, _ = self.networks[0]._targets(y, len(predicted), missing)
            w = weights.sample_weight(sample_weight, len(predicted))
            return evaluation.exact_share(predicted, y, w)
        name = "r2" if self._kind == "values" else "accuracy"
        metrics = name if name == "r2" else None
        given = {"sample_weight": sample_weight, "missing_targets": missing_targets}
        return self.evaluate(x, y, **given, metrics=metrics)[name]

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
        losses = (net.architecture.loss_function for net in self.networks)
        return all(getattr(loss, "probabilities", True) for loss in losses)

    def _mean(self, of: Callable[[Network, Any], Array], x: Any) -> Array:
        """Return the mean of an array over the members, summed in float64."""
        x, total, dtypes = Shared(x), None, []
        for net in self.networks:
            found = of(net, x)
            dtypes.append(found.dtype)
            total = found.astype(np.float64) if total is None else total + found
        assert total is not None
        mean: Array = (total / len(self)).astype(np.result_type(*dtypes))
        return mean

    def _labels(self, proba: Array) -> Array:
        """Return the labels of probabilities or shares of votes (n, classes)."""
        classes = self.classes
        if classes is None:
            return (proba > 0.5).astype(np.int64)
        labels: Array = classes[proba.argmax(axis=1)]
        return labels

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
            return self._labels(np.asarray(votes / len(self) + (tie - 0.25) / len(self)))
        return self._labels(np.asarray(votes + tie))

    def _outputs(self, x: Any) -> Array:
        """Return the mean outputs (n, n_out), float64, in the original unit.

        With gaussian_nll they are the outputs whose mean and variance are those of the mixture.
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


def _values(net: Network, x: Any) -> Array:
    return net.predict(x)


def _probabilities(net: Network, x: Any) -> Array:
    return net.predict_proba(x)


def _check_fits(net: Network, first: Network, name: str) -> None:
    """Raise ValueError if a member differs from the first one in what the outputs mean."""
    task, other = net._model.known_task, first._model.known_task
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
    if not np.array_equal(net.classes, first.classes):  # type: ignore[arg-type]
        raise ValueError(
            f"{name}: found classes {net.classes}, expected {first.classes} as of networks[0]"
        )


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


def _expected(y: Array, task: Any) -> Array:
    """Return checked targets as ``predict`` returns labels."""
    if task.classes is None:
        return (y > 0.5).astype(np.int64)
    codes = y if y.ndim == 1 else y.argmax(axis=1) if y.shape[1] > 1 else (y[:, 0] > 0.5)
    labels: Array = task.classes[np.asarray(codes, np.intp)]
    return labels
