"""What plots need of a model: histories, probabilities, class names and weights.

Models are ``pynn.Network``, the estimators of ``pynn.sklearn`` (and others with scikit-learn's
attributes) and the networks of ``pynn.nielsen``. They are told apart by their attributes, since
this package imports none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def history_of(run: Any, argument: str = "history") -> Any:
    """Return the history of a model, or the given history, if it is not empty."""
    found = getattr(run, "history", getattr(run, "history_", run))
    if not hasattr(found, "validation_loss"):
        why = ""
        if hasattr(run, "feedforward"):
            why = "; networks of pynn.nielsen keep none, SGD returns its curves"
        elif hasattr(run, "get_params"):
            why = "; call fit first"
        raise TypeError(
            f"{argument}: found a {type(run).__name__}, expected a History, a Network or a fitted "
            f"estimator of pynn.sklearn{why}"
        )
    if not len(found.loss):
        why = "call fit first"
        if getattr(run, "solver", "") == "lbfgs":
            why = "solver='lbfgs' records none"
        raise ValueError(f"{argument}: found no epoch, expected at least one; {why}")
    return found


def probabilities_of(model: Any, x: np.ndarray, n: int) -> np.ndarray:
    """Return the probabilities (n, n_classes) of a model or of the caller.

    Models whose outputs are no probabilities give these outputs.

    Parameters
    ----------
    model : Network, classifier or array_like, shape (n, n_classes)
    x : ndarray, shape (n, height, width), (n, pixels) or (n, pixels, 1)
    n : int
        Number of images.
    """
    if hasattr(model, "feedforward"):  # pynn.nielsen: inputs and outputs are columns
        model = np.asarray(model.feedforward(np.asarray(x).reshape(n, -1).T)).T
    elif _has_margins(model):  # a Network with a hinge loss
        out = np.asarray(model.activations(x, layer=-1))
        model = np.concatenate([-out, out], axis=1) if out.shape[1] == 1 else out
    elif hasattr(model, "predict_proba"):
        # Estimators accept only two axes.
        model = model.predict_proba(np.asarray(x).reshape(n, -1) if _is_estimator(model) else x)
    elif hasattr(model, "predict"):
        raise TypeError(
            f"model: found a {type(model).__name__}, which predicts no probabilities, expected a "
            "network or a classifier"
        )
    probabilities = np.asarray(model, dtype=float)
    if probabilities.ndim != 2 or len(probabilities) != n:
        raise ValueError(
            f"model: found shape {probabilities.shape}, expected a network or probabilities "
            f"({n}, n_classes)"
        )
    return probabilities


def _has_margins(model: Any) -> bool:
    loss = getattr(getattr(model, "architecture", None), "loss_function", None)
    return hasattr(model, "activations") and not getattr(loss, "probabilities", True)


def are_probabilities(rows: np.ndarray) -> bool:
    """Whether outputs (n, n_classes) are in [0, 1] and sum to 1 in every row that is finite."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    within = ((rows >= -1e-6) & (rows <= 1 + 1e-6)).all()
    return bool(within and (np.abs(rows.sum(axis=1) - 1) < 1e-3).all())


def classes_of(model: Any) -> ArrayLike | None:
    """Return the labels of a model's outputs, or None if it has none."""
    return getattr(model, "classes", getattr(model, "classes_", None))


def names_of(model: Any, n: int, classes: ArrayLike | None) -> list[Any]:
    """Return the names of `n` classes: the given names, the model's, or 0, 1, 2, …."""
    classes = classes_of(model) if classes is None else classes
    names = list(range(n)) if classes is None else np.asarray(classes).tolist()
    if len(names) != n:
        raise ValueError(f"classes: found {len(names)}, expected {n}, one for each probability")
    return names


def weights_of(net: Any) -> list[np.ndarray]:
    """Return the weights of each layer of a model, (n_in, n_out)."""
    if hasattr(net, "coefs_"):
        return list(net.coefs_)
    if not hasattr(net, "weights"):
        why = "; call fit first" if hasattr(net, "get_params") else ""
        raise TypeError(
            f"net: found a {type(net).__name__}, expected a network or a fitted estimator of "
            f"pynn.sklearn{why}"
        )
    if hasattr(net, "feedforward"):  # pynn.nielsen has (n_out, n_in)
        return [np.asarray(w).T for w in net.weights]
    return list(net.weights)


def _is_estimator(model: Any) -> bool:
    return hasattr(model, "classes_") or hasattr(model, "get_params")
