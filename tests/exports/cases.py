"""Small networks that cover every option that changes predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pynn
from pynn.spec.losses import LOSSES
from pynn.spec.names import OUTPUTS
from pynn.spec.norms import NORMS

Array = np.ndarray

RNG = np.random.default_rng(7)
X = RNG.normal(size=(12, 5)) * 2


def network(*sizes: int, **settings: Any) -> pynn.Network:
    """A network whose biases, norms and running statistics are not their initial values."""
    net = pynn.Network(list(sizes), **{"backend": "numpy", "seed": 3, **settings})
    rng = np.random.default_rng(1)
    net.parameters = net.parameters + 0.1 * rng.normal(size=net.parameters.shape)
    if len(net.statistics):
        net.statistics = net.statistics + rng.uniform(0, 0.5, net.statistics.shape)
    return net


def standardized(net: pynn.Network, y: Array, x: Array = X) -> pynn.Network:
    net.fit(x, y, epochs=1)
    return net


def _with_classes(net: pynn.Network, classes: Any) -> pynn.Network:
    net.classes = classes
    return net


LOSS_WIDTHS = {"cross_entropy": 3, "gaussian_nll": 4}
ACTIVATIONS = [name for name in OUTPUTS if name not in ("softmax", "exp")]

PARAMETERS = [pynn.LeakyReLU(0.3), pynn.ELU(0.4), pynn.Softplus(2.5)]


Cases = dict[str, Callable[[], pynn.Network]]


def groups() -> dict[str, Cases]:
    """Return functions that make networks, by group and name."""
    found: dict[str, Cases] = {}
    for dtype in ("float32", "float64"):
        found[f"activations-{dtype}"] = {
            str(f): lambda f=f, d=dtype: network(5, 4, 3, activation=f, dtype=d)
            for f in (*ACTIVATIONS, *PARAMETERS)
        }
        found[f"outputs-{dtype}"] = {
            f: lambda f=f, d=dtype: network(5, 4, 3, loss="mse", output=f, dtype=d) for f in OUTPUTS
        }
        found[f"losses-{dtype}"] = {
            loss: lambda n=loss, d=dtype: network(5, 4, LOSS_WIDTHS.get(n, 2), loss=n, dtype=d)
            for loss in LOSSES
        }
        found[f"norms-{dtype}"] = {
            f"{norm}-{after}": lambda n=norm, a=after, d=dtype: network(
                *(5, 4, 4, 3), norm=n, norm_after=a, residual=True, dtype=d
            )
            for norm in NORMS
            for after in (False, True)
        }
    return {**found, "others": odd_cases()}


def odd_cases() -> Cases:
    """Return networks of unusual shapes, tasks and inputs."""
    y, rows = X[:, 0] * 1e3 + 5, np.arange(len(X))
    several = np.stack([y, X[:, 1]], axis=1)
    both: Any = {"standardize": True, "standardize_targets": True}
    quantiles = pynn.Quantile([0.1, 0.5, 0.9])
    return {
        "no hidden layer": lambda: network(5, 3),
        "one unit": lambda: network(5, 1, 1, loss="mse"),
        "residual": lambda: network(5, 5, 5, 3, residual=True, dropout=0.2, input_noise=0.1),
        "binary": lambda: network(5, 4, 1, loss="binary_cross_entropy"),
        "binary texts": lambda: _with_classes(
            network(5, 4, 1, loss="binary_cross_entropy"), ["no", "yes"]
        ),
        "binary hinge": lambda: _with_classes(network(5, 4, 1, loss="hinge"), ["a", "ä"]),
        "multilabel": lambda: _with_classes(network(5, 4, 3, loss="binary_cross_entropy"), None),
        "multilabel hinge": lambda: _with_classes(network(5, 4, 3, loss="squared_hinge"), None),
        "texts": lambda: _with_classes(network(5, 4, 3), ['ä"\\??/', "b", "a\nb"]),
        "floats": lambda: _with_classes(network(5, 4, 3), [0.5, 1.5, 2.5]),
        "booleans": lambda: _with_classes(
            network(5, 4, 1, loss="binary_cross_entropy"), [True, False]
        ),
        "labels with mse": lambda: _with_classes(network(5, 4, 3, loss="mse"), ["a", "b", "c"]),
        "yes or no with mse": lambda: _with_classes(
            network(5, 4, 1, loss="mse", output="sigmoid"), ["a", "b"]
        ),
        "batch norm of epsilon 0.1": lambda: network(
            5, 4, 3, norm=pynn.BatchNorm(epsilon=0.1, momentum=0.5)
        ),
        "norms of layers": lambda: network(
            5, 4, 4, 3, norm=[pynn.RMSNorm(0.02), pynn.LayerNorm(0.01)], activation=["tanh", "silu"]
        ),
        "average": lambda: _averaged(network(5, 4, 3, norm="batch")),
        "standardized": lambda: standardized(network(5, 4, 3, standardize=True), rows % 3),
        "standardized targets": lambda: standardized(network(5, 4, 1, loss="mse", **both), y),
        "two standardized targets": lambda: standardized(
            network(5, 4, 2, loss="huber", **both), several
        ),
        "standardized gaussian": lambda: standardized(
            network(5, 4, 2, loss="gaussian_nll", **both), y
        ),
        "two standardized gaussians": lambda: standardized(
            network(5, 4, 4, loss="gaussian_nll", **both), several
        ),
        "quantiles": lambda: network(5, 4, 3, loss=quantiles),
        "quantiles of two": lambda: standardized(network(5, 4, 6, loss=quantiles, **both), several),
        "column of values": lambda: standardized(network(5, 4, 1, loss="mse"), y[:, None] / 1e3),
        "pixels": lambda: network(5, 4, 3, pixels=True),
        "standardized pixels": lambda: standardized(
            network(5, 4, 3, pixels=True, standardize=True), rows % 3, pixels()
        ),
        "custom loss": lambda: network(
            5, 4, 2, loss=pynn.Loss("square", lambda a, t: (a - t) ** 2, lambda a, t: 2 * (a - t))
        ),
    }


def _averaged(net: pynn.Network) -> pynn.Network:
    net.fit(X, np.arange(len(X)) % 3, epochs=2, ema=0.5)
    assert net.average is not None
    return net


def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 256, (12, 5), dtype=np.uint8)


def rows_for(net: pynn.Network) -> Array:
    """Rows as the exported network takes them by default."""
    if net.pixels is True:
        return pixels()
    return X.astype("float64" if net.architecture.dtype == "float64" else "float32")


def distribution(net: pynn.Network) -> bool:
    return net.architecture.loss == "gaussian_nll"


def has_probabilities(net: pynn.Network) -> bool:
    return net._model.known_task.kind != "values" and "hinge" not in net.architecture.loss
