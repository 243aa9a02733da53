"""Train an estimator of scikit-learn and its counterpart in pynn side by side, and compare them."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import warnings

import numpy as np
import pytest

import pynn.sklearn

pytest.importorskip("sklearn", "1.7")
import scipy.sparse
from sklearn import datasets, neural_network
from sklearn.preprocessing import scale

import pynn

CLASSIFIER, REGRESSOR = "MLPClassifier", "MLPRegressor"
NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?|\binf\b|\bnan\b")
NEW = {"history_", "validation_loss_curve_"}


@functools.cache
def data(name, dtype=np.float64):
    """A part of a bundled data set, scaled, in an order that mixes the classes."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    some = np.random.RandomState(0).permutation(len(x))[:230]
    x = x / 16 if name == "digits" else scale(x)
    return x[some].astype(dtype), scale(y)[some] if name == "diabetes" else y[some]


@functools.cache
def outputs(n=2):
    """Diabetes with several targets, none of them alike."""
    x, y = data("diabetes")
    return x, np.stack([y, *(np.sin(k + x[:, k]) for k in range(n - 1))], axis=1)


def attempt(estimator, action):
    """What ``action`` printed, warned and raised.

    Of warnings, not those of NumPy's arithmetic, and not the one that the compiled core is missing.
    """
    out, error = io.StringIO(), None
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        try:
            action(estimator)
        except Exception as raised:
            error = type(raised), str(raised)
    said = [
        (w.category, str(w.message))
        for w in caught
        if not re.search("encountered in|^pynn uses the backend", str(w.message))
        and w.category is not DeprecationWarning
    ]
    return out.getvalue(), said, error


def pair(name, **settings):
    return getattr(neural_network, name)(**settings), getattr(pynn.sklearn, name)(**settings)


def both(name, action, rtol=1e-8, **settings):
    """Do the same with scikit-learn's class and ours, and compare what they say."""
    two = pair(name, **settings)
    repeat(two, action, rtol)
    return two


def repeat(two, action, rtol=1e-8):
    (text, said, error), (our_text, our_said, our_error) = (attempt(e, action) for e in two)
    assert our_error == error, f"raised {our_error}, expected {error}"
    assert our_said == said, f"warned {our_said}, expected {said}"
    assert NUMBER.sub("#", our_text) == NUMBER.sub("#", text)
    numbers = ([float(n) for n in NUMBER.findall(t)] for t in (our_text, text))
    np.testing.assert_allclose(*numbers, rtol=rtol, atol=1.1e-6)
    return text, said, error


def close(found, expected, rtol, what):
    """Within rtol of the largest of the expected numbers, and of the same kind."""
    if isinstance(expected, list):
        assert type(found) is list, what
        assert len(found) == len(expected), what
        for k, (one, other) in enumerate(zip(found, expected)):
            close(one, other, rtol, f"{what}[{k}]")
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        assert found.dtype == expected.dtype, what
        largest = np.abs(expected).max(initial=0, where=np.isfinite(expected))
        np.testing.assert_allclose(found, expected, rtol, rtol * largest, err_msg=what)
    elif isinstance(expected, (float, np.floating)):
        # With SciPy 1.18 scikit-learn's losses of float32 rows are float32, with 1.17 float64.
        single = isinstance(expected, np.float32)
        assert type(found) is type(expected) or (single and type(found) is np.float64), what
        np.testing.assert_allclose(found, expected, rtol, 1e-12, err_msg=what)
    elif scipy.sparse.issparse(expected):
        assert found.format == expected.format, what
        close(found.toarray(), expected.toarray(), rtol, what)
    else:
        assert np.array_equal(found, expected), what
        assert getattr(found, "dtype", None) == getattr(expected, "dtype", None), what


def fitted(estimator):
    return {k: v for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("_")}


def same(two, x=None, rtol=1e-8):
    """Compare all that was fitted, where the random draws stand, and predictions."""
    theirs, mine = two
    expected, found = fitted(theirs), fitted(mine)
    assert set(found) - NEW == set(expected)
    for name, value in expected.items():
        close(found[name], value, rtol, name)
    states = (e._random_state.get_state(legacy=False) for e in two)
    np.testing.assert_equal(*states)
    assert getattr(mine, "_no_improvement_count", 0) == getattr(theirs, "_no_improvement_count", 0)
    if x is None:
        return
    methods = ["predict"]
    if hasattr(theirs, "predict_proba"):
        methods += ["predict_proba", "predict_log_proba"]
    for method in methods:
        with np.errstate(divide="ignore"):
            expected, found = (getattr(e, method)(x) for e in two)
        if method == "predict_log_proba":
            # What is near 0 is lost to any arithmetic.
            expected, found = np.maximum(expected, -20), np.maximum(found, -20)
        assert np.shape(found) == np.shape(expected)
        close(found, expected, rtol, method)


def compare(name, x, y, rtol=1e-8, action=None, **settings):
    settings = {"random_state": 3, "max_iter": 20, "hidden_layer_sizes": (9,), **settings}
    settings.setdefault("verbose", settings.get("solver") != "lbfgs")
    two = both(name, action or (lambda e: e.fit(x, y)), rtol, **settings)
    same(two, x, rtol)
    return two


def kind(dataset):
    return REGRESSOR if dataset == "diabetes" else CLASSIFIER


SOLVER_NAMES = ["sgd", "adam", "lbfgs"]
