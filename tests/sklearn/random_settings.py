"""Random data, parameters and sequences of calls, the same for scikit-learn's class and pynn's.

``python -m tests.sklearn.random_settings FIRST COUNT`` compares many of them and prints the cases
that differ; ``test_random_settings`` compares a sample.
"""

from __future__ import annotations

import re
import sys
import traceback
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
from sklearn.neural_network import MLPRegressor

from tests.sklearn.side_by_side import CLASSIFIER, REGRESSOR, attempt, both, repeat, same

HIDDEN = [(), [], 1, 5, (1,), (4,), (7,), [6, 3], (4, 3), np.array([3, 4]), (3, 2, 4), (2, 2, 2, 2)]

PARAMETERS: dict[str, list[Any]] = {
    "hidden_layer_sizes": HIDDEN,
    "activation": ["identity", "logistic", "tanh", "relu"],
    "solver": ["sgd", "adam", "adam", "lbfgs"],
    "alpha": [0, 0.0, 1e-4, 0.1, 10],
    "batch_size": ["auto", 1, 3, 8, 64, 1000],
    "learning_rate": ["constant", "invscaling", "adaptive"],
    "learning_rate_init": [1e-4, 0.001, 0.01, 0.1],
    "power_t": [0, 0.3, 0.5, 1.5],
    "max_iter": [1, 2, 3, 6],
    "shuffle": [True, False],
    "tol": [0, 1e-4, 0.01, 0.5],
    "verbose": [False, True],
    "warm_start": [False, True],
    "momentum": [0, 0.5, 0.9, 1],
    "nesterovs_momentum": [True, False],
    "early_stopping": [False, False, True],
    "validation_fraction": [0.1, 0.3, 0.5],
    "beta_1": [0, 0.5, 0.9],
    "beta_2": [0.5, 0.9, 0.999],
    "epsilon": [1e-8, 1e-3, 1],
    "n_iter_no_change": [1, 2, 10, np.inf],
    "max_fun": [1, 4, 15000],
}

REFUSED: dict[str, list[Any]] = {
    "hidden_layer_sizes": [0, (3, 0), -1, (4, -2), "3", None],
    "learning_rate": ["fast"],
    "warm_start": [2, "yes"],
    "solver": ["newton", None],
    "alpha": [-1, None],
    "batch_size": [0, "all", 2.5],
    "learning_rate_init": [0, -1],
    "max_iter": [0, 1.5],
    "tol": [-1],
    "momentum": [1.1],
    "validation_fraction": [1, 0.01],
    "beta_1": [1],
    "n_iter_no_change": [0, 2.5],
    "random_state": ["x", -1],
}

ROWS = ["", "", "list", "integers", "uint8", "sparse", "csc", "fortran", "frame", "float32"]


class Case(NamedTuple):
    """One comparison."""

    name: str
    settings: dict[str, Any]
    actions: list[tuple[str, Any]]
    x: Any
    rtol: float

    def x_fits(self, estimator: Any) -> bool:
        """Return whether x has the features of the last fit."""
        return np.shape(self.x)[1] == estimator.n_features_in_ and hasattr(
            self.x, "columns"
        ) == hasattr(estimator, "feature_names_in_")


def choose(random: np.random.RandomState, values: list[Any]) -> Any:
    return values[random.randint(len(values))]


def some_parameters(random: np.random.RandomState, share: float) -> dict[str, Any]:
    return {k: choose(random, v) for k, v in PARAMETERS.items() if random.rand() < share}


def targets(name: str, random: np.random.RandomState, x: np.ndarray, kind: str) -> Any:
    """Return y of a kind that depends on x (n, n_in), so that there is something to learn."""
    raw = np.sin(3 * x[:, :1] + x.sum(axis=1, keepdims=True) + np.arange(3))
    if name == REGRESSOR:
        y = np.abs(raw) if kind == "poisson" else raw
        return y if kind == "several" else y[:, 0]
    classes = np.digitize(raw[:, 0], [-0.4, 0.4])
    if kind == "multilabel":
        return (raw > 0).astype(int)
    if kind == "words":
        return np.array(["no", "perhaps", "yes"])[classes]
    return classes > 1 if kind == "binary" else classes


def rows_of(x: np.ndarray, kind: str) -> Any:
    """Return x as an array, a list, a sparse matrix or a data frame."""
    if kind == "list":
        return x.tolist()
    if kind == "integers":
        return np.round(3 * x).astype(np.int64)
    if kind == "uint8":
        return np.clip(np.round(2 * x + 4), 0, 255).astype(np.uint8)
    if kind == "sparse":
        return scipy.sparse.csr_matrix(np.where(x > 0, x, 0))
    if kind == "csc":
        return scipy.sparse.csc_array(np.where(x > 0, x, 0))
    if kind == "fortran":
        return np.asfortranarray(x)
    if kind == "frame":
        return pd.DataFrame(x, columns=[f"column {k}" for k in range(x.shape[1])])
    return x.astype(np.float32) if kind == "float32" else x


def other_data(random: np.random.RandomState, x: np.ndarray, y: np.ndarray) -> tuple[Any, ...]:
    """Return data that differs in kind from those of the first fit."""
    change = random.randint(9)
    if change == 0:
        return x[:, :-1], y
    if change == 1:
        return np.where(x > 1.5, np.nan, x), y
    if change == 2:
        return x, y[::-1][:-1]
    if change == 3:
        return x, np.stack([y, y], axis=1) if y.ndim == 1 else y[:, 0]
    if change == 4:
        return x, y[:, None] if y.ndim == 1 else y[:, :1]
    if change == 5:
        return x, y, np.zeros(len(x))
    if change == 6:
        return x, y, np.arange(len(x)) % 2
    if change == 7:
        return x, np.full(y.shape, y.flat[0])
    return x, scipy.sparse.csr_matrix(y) if y.ndim == 2 and y.dtype.kind == "i" else y[::-1]


def case(seed: int) -> Case:
    """Return the comparison that belongs to a seed."""
    random = np.random.RandomState(seed)
    name = choose(random, [CLASSIFIER, REGRESSOR])
    n, n_in = random.randint(12, 60), random.randint(1, 7)
    x = random.standard_normal((n, n_in))
    if name == REGRESSOR:
        kind = choose(random, ["one", "several", "poisson"])
    else:
        kind = choose(random, ["several classes", "binary", "multilabel", "words"])
    y = targets(name, random, x, kind)
    dense, rows = x, choose(random, ROWS)
    x = rows_of(x, rows)
    settings = {"max_iter": 3, "random_state": random.randint(100), "hidden_layer_sizes": (5,)}
    settings |= some_parameters(random, 0.35)
    if kind == "poisson":
        settings["loss"] = "poisson"
    if random.rand() < 0.08:
        wrong = choose(random, list(REFUSED))
        settings[wrong] = choose(random, REFUSED[wrong])
    weights = random.uniform(0, 2, n) if random.rand() < 0.25 else None
    part = np.arange(n)[: max(3, n // 2)]
    some = x[: len(part)], y[: len(part)]
    more = {} if name == REGRESSOR or kind == "multilabel" else {"classes": np.unique(y)}
    possible = [
        ("fit", (x, y, weights)),
        ("fit", (x, y, weights)),
        ("fit", some),
        ("partial_fit", (x, y, weights, *more.values())),
        ("partial_fit", (*some, None, *more.values())),
        ("set", None),
        ("set hidden", None),
        ("predict", x),
        ("score", (x, y, weights)),
        ("fit", other_data(random, dense, y)),
        ("partial_fit", other_data(random, dense, y)),
        ("predict", other_data(random, dense, y)[0]),
    ]
    actions = [("fit", (x, y, weights))] if random.rand() < 0.7 else []
    for _ in range(random.randint(0 if actions else 1, 5)):
        action, given = choose(random, possible)
        if action == "set":
            given = some_parameters(random, 0.1)
            given.pop("hidden_layer_sizes", None)
        if action == "set hidden":
            action, given = "set", {"hidden_layer_sizes": choose(random, HIDDEN)}
        actions.append((action, given))
    solvers = [settings.get("solver")] + [g.get("solver") for a, g in actions if a == "set"]
    single = rows == "float32" and "lbfgs" not in solvers
    return Case(name, settings, actions, x, 1e-2 if single else 1e-6)


def perform(action: str, given: Any) -> Any:
    """Return a function of an estimator that performs an action."""
    if action == "set":
        return lambda e: e.set_params(**given)
    if action == "predict":
        return lambda e: e.predict(given)
    return lambda e: getattr(e, action)(*given)


def changed_layers(estimator: Any, action: str, given: Any) -> bool:
    """Return whether a further fit asks for other layers than the first fit made."""
    if not action.endswith("fit") or not hasattr(estimator, "coefs_"):
        return False
    fitted = [len(b) for b in estimator.intercepts_]
    y = given[1]
    outputs = fitted[-1]
    if isinstance(estimator, MLPRegressor):
        outputs = 1 if y.ndim == 1 else y.shape[1]
    return fitted != [*np.atleast_1d(estimator.hidden_layer_sizes), outputs]


def changed_rules(estimator: Any, action: str) -> bool:
    """Return whether a further fit has stopping rules for which the first fit set no attributes."""
    if not action.endswith("fit") or not hasattr(estimator, "coefs_"):
        return False
    best = "best_validation_score_" if estimator.early_stopping else "best_loss_"
    return getattr(estimator, best, None) is None


CHANGED_RULES = re.compile(r"NoneType|no attribute '(loss_curve_|best_loss_|validation_scores_)'")
"""Errors of scikit-learn after a change of early_stopping or of the solver."""


def compare(found: Case) -> None:
    """Perform the actions with both classes and compare output, warnings, errors and results.

    For changed layers pynn's error is another one than scikit-learn's, whose training fails at some
    step. After a change of early_stopping or of the solver pynn continues where scikit-learn fails.
    """
    two = both(found.name, lambda e: None, **found.settings)
    for action, given in found.actions:
        if changed_layers(two[0], action, given):
            errors = [attempt(e, perform(action, given))[2] for e in two]
            if two[0].solver == "lbfgs" and errors[0] is None:
                return  # scikit-learn computes with weights in wrong places
            assert bool(errors[0]) == bool(errors[1]), errors
        elif changed_rules(two[0], action):
            errors = [attempt(e, perform(action, given))[2] for e in two]
            if errors[0] is not None and CHANGED_RULES.search(errors[0][1]):
                assert errors[1] is None, errors
                return
            assert errors[0] == errors[1], errors
        else:
            errors = [repeat(two, perform(action, given), found.rtol)[2]]
        if errors[0] is not None and action.endswith("fit"):
            return
    if hasattr(two[0], "coefs_"):
        same(two, found.x if found.x_fits(two[0]) else None, found.rtol)


def main() -> None:
    first, count = map(int, sys.argv[1:3])
    different = 0
    for seed in range(first, first + count):
        found = case(seed)
        try:
            compare(found)
        except Exception as error:
            different += 1
            actions = [(a, g if a == "set" else "") for a, g in found.actions]
            print(f"--- seed {seed}: {found.name}({found.settings})\n    {actions}")
            lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
            print("    " + "\n    ".join(lines[:14]), flush=True)
    print(f"{different} of {count} cases differ")


if __name__ == "__main__":
    main()
