"""Parameters of the estimators that scikit-learn's do not have, and names that differ."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..spec.activations import Parametric
from ..spec.arguments import MOST_THREADS, choose
from ..spec.names import ACTIVATIONS, INITIALISERS
from ..spec.schedules import SCHEDULES, Schedule
from ..training.callbacks import Callback

_NAMES = {"logistic": "sigmoid"}
"""pynn's names of activations that have another in scikit-learn."""
_ACTIVATIONS = {*_NAMES, *ACTIVATIONS}

CONSTRAINTS: dict[str, Any] = {
    "activation": [StrOptions(_ACTIVATIONS), Parametric, "array-like"],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "init": [StrOptions(set(INITIALISERS)), "array-like", None],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "schedule": [StrOptions(set(SCHEDULES)), Schedule, callable, None],
    "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
    "threads": [Interval(Integral, 1, MOST_THREADS, closed="both"), None],
    "callbacks": [callable, list, tuple, Callback, None],
    "progress": ["boolean", StrOptions({"auto"}), callable],
}
"""Constraints of the parameters that scikit-learn does not have, and of ``activation``."""

NEW_PARAMETERS = (
    *(name for name in CONSTRAINTS if name != "activation"),
    *("class_weight", "quantile", "delta"),
)

NOT_WITH_LBFGS = {
    "dropout": 0.0,
    "weight_decay": 0.0,
    "schedule": None,
    "callbacks": None,
    "progress": False,
}
"""Parameters that ``solver="lbfgs"`` does not support, and their defaults."""

LOSSES = {
    "softmax": "cross_entropy",
    "logistic": "binary_cross_entropy",
    "identity": "mse",
    "exp": "poisson",
}
"""pynn's loss for each ``out_activation_`` of scikit-learn."""


def pynn_name(activation: Any) -> str:
    """Return pynn's name of an activation, which may be scikit-learn's; raise for others."""
    name = choose("activation", activation, sorted(_ACTIVATIONS))
    return _NAMES.get(name, name)
