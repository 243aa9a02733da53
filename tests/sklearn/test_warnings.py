"""Warnings point to the line of the program that called pynn."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from pynn.sklearn import estimators, fit

pytest.importorskip("sklearn", "1.7")
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pynn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.arange(60) % 3


def places(action):
    """Return category and place of each warning of pynn and scikit-learn that ``action`` causes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    found = {(w.category, w.filename) for w in caught if "encountered in" not in str(w.message)}
    lines = {w.lineno for w in caught if w.filename == __file__}
    source, first = inspect.getsourcelines(action)
    assert lines <= set(range(first, first + len(source)))
    return found


HERE = {(ConvergenceWarning, __file__)}


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_convergence_warnings_point_to_the_caller(name, solver):
    one = getattr(estimators, name)(
        hidden_layer_sizes=(5,), solver=solver, max_iter=2, random_state=0
    )
    assert places(lambda: one.fit(X, Y)) == HERE
    assert places(lambda: make_pipeline(StandardScaler(), one).fit(X, Y)) == HERE
    assert places(lambda: cross_val_score(one, X, Y, cv=2)) == HERE
    assert places(lambda: GridSearchCV(one, {"alpha": [0.1, 1]}, cv=2).fit(X, Y)) == HERE
    if solver != "lbfgs":
        one.set_params(max_iter=1)
        assert places(lambda: one.fit(X, Y)) == HERE


def test_other_warnings_point_to_the_caller(monkeypatch):
    one = estimators.MLPClassifier((5,), batch_size=100, max_iter=20, tol=10, n_iter_no_change=1)
    assert places(lambda: one.fit(X, Y)) == {(UserWarning, __file__)}

    one.set_params(tol=0, n_iter_no_change=50, batch_size=10, max_iter=1)
    column = {(DataConversionWarning, __file__), *HERE}
    assert places(lambda: one.fit(X, Y[:, None])) == column
    assert places(lambda: one.fit(X, Y, validation_data=(X, Y[:, None]))) == column

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit.Fit, "epochs", interrupt)
    one.set_params(batch_size=10)
    assert places(lambda: one.fit(X, Y)) == {(UserWarning, __file__)}


def test_the_convergence_warning_of_a_script_names_its_line(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from pynn.sklearn import MLPRegressor\n"
        "one = MLPRegressor(max_iter=1)\n"
        "one.fit(np.eye(9), np.arange(9))\n"
    )
    path = os.pathsep.join([str(Path(pynn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
    )
    assert f"{script}:4: ConvergenceWarning" in done.stderr
