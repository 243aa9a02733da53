"""pynn's classes in the place of scikit-learn's."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pynn.sklearn import __main__, patch, unpatch

pytest.importorskip("sklearn", "1.7")
from sklearn import neural_network

import pynn
from pynn.sklearn.estimators import MLPClassifier, MLPRegressor
from tests.sklearn.estimators import X, Y

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("error::RuntimeWarning"),
]


def test_patch_replaces_the_classes_of_scikit_learn():
    before = neural_network.MLPClassifier, neural_network.MLPRegressor
    try:
        patch()
        patch()
        from sklearn.neural_network import MLPClassifier as Found

        assert Found is MLPClassifier
        assert neural_network.MLPRegressor is MLPRegressor
        assert pickle.loads(pickle.dumps(Found().fit(X, Y))).score(X, Y) > 0.5
    finally:
        unpatch()
    assert (neural_network.MLPClassifier, neural_network.MLPRegressor) == before
    assert before[0].__module__.startswith("sklearn.")
    unpatch()
    assert neural_network.MLPClassifier is before[0]


def test_a_script_runs_unchanged(tmp_path):
    """With its arguments, its neighbours, its own errors, and what it pickles."""
    (tmp_path / "neighbour.py").write_text("NAME = 'next door'\n")
    script = tmp_path / "script.py"
    text = """
        import neighbour, pickle, sys
        from sklearn.datasets import load_iris
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        if __name__ == "__main__":
            print(MLPClassifier.__module__, MLPRegressor.__module__, neighbour.NAME, sys.argv)
            one = MLPClassifier(max_iter=2).fit(*load_iris(return_X_y=True))
            print(type(pickle.loads(pickle.dumps(one))) is MLPClassifier)
        sys.exit(3)
    """
    script.write_text(textwrap.dedent(text), encoding="utf-8")
    home = str(Path(pynn.__file__).parents[1])
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH")) if p)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pynn.sklearn", script, "--flag", "3"],
        capture_output=True,
        encoding="utf-8",
        timeout=500,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout.splitlines() == [
        f"pynn.sklearn pynn.sklearn next door {[str(script), '--flag', '3']}",
        "True",
    ], done.stderr
    assert done.returncode == 3


def test_a_script_must_be_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pynn.sklearn"])
    with pytest.raises(SystemExit, match=r"^usage: python -m pynn\.sklearn SCRIPT"):
        __main__.main()
    monkeypatch.setattr(sys, "argv", ["pynn.sklearn", "gone.py"])
    with pytest.raises(SystemExit, match=r"^python -m pynn\.sklearn: found no file 'gone.py'"):
        __main__.main()
    for option in ("-h", "--help"):
        monkeypatch.setattr(sys, "argv", ["pynn.sklearn", option])
        __main__.main()
        assert "usage: python -m pynn.sklearn SCRIPT" in capsys.readouterr().out
