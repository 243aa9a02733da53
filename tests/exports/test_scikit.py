"""Networks from perceptrons of scikit-learn, and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")
from sklearn import neural_network as theirs
from sklearn.datasets import load_diabetes, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import pynn
import pynn.sklearn as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
RANDOM = np.random.default_rng(0)
MIXED = RANDOM.permutation(len(X))
X, SPECIES, NAMES = X[MIXED], SPECIES[MIXED], NAMES[MIXED]
FLAGS = np.stack([SPECIES == 0, X[:, 0] > 6], axis=1).astype(int)

CLASSIFIED = {
    "classes": NAMES,
    "two": np.where(SPECIES == 1, "yes", "no"),
    "numbers": SPECIES * 10.0,
    "flags": FLAGS,
}
VALUES = {"one": X[:, 3], "several": X[:, 2:], "counts": SPECIES.astype(float)}


def perceptron(module, kind, **settings):
    settings = {"hidden_layer_sizes": (7, 5), "max_iter": 15, "random_state": 0, **settings}
    return getattr(module, kind)(**settings)


# --- From scikit-learn ----------------------------------------------------------------------------


@pytest.mark.parametrize("module", [theirs, ours], ids=["scikit-learn", "pynn.sklearn"])
def test_a_classifier_becomes_a_network(module) -> None:
    activations = itertools.cycle(["relu", "tanh", "logistic", "identity"])
    for name, y in CLASSIFIED.items():
        for dtype in (np.float64, np.float32):
            x = X.astype(dtype)
            one = perceptron(module, "MLPClassifier", activation=next(activations)).fit(x, y)
            net = pynn.Network.from_sklearn(one)
            assert net.dtype == dtype
            tolerance = 1e-12 if dtype == np.float64 else 2e-6
            assert np.abs(net.predict_proba(x) - one.predict_proba(x)).max() < tolerance, name
            assert (net.predict(x) == one.predict(x)).all()
            assert net.score(x, y) == one.score(x, y)
    assert net.predict(X[:1]).shape == (1, 2)


@pytest.mark.parametrize("module", [theirs, ours], ids=["scikit-learn", "pynn.sklearn"])
def test_a_regressor_becomes_a_network(module) -> None:
    for name, y in VALUES.items():
        loss = "poisson" if name == "counts" else "squared_error"
        one = perceptron(module, "MLPRegressor", loss=loss, activation="tanh").fit(X, y)
        net = pynn.Network.from_sklearn(one)
        assert net.predict(X).shape == one.predict(X).shape
        assert np.abs(net.predict(X) - one.predict(X)).max() < 1e-11
        net.fit(X, y, epochs=1, progress=False)


def test_what_pynn_adds_to_scikit_learn_comes_along() -> None:
    one = perceptron(ours, "MLPClassifier", activation=["gelu", pynn.LeakyReLU(0.3)], dropout=0.2)
    net = pynn.Network.from_sklearn(one.fit(X, NAMES))
    assert np.abs(net.predict_proba(X) - one.predict_proba(X)).max() < 1e-12
    assert net.architecture.dropout[:2] == (0.2, 0.2)
    one = perceptron(ours, "MLPRegressor", loss="quantile", quantile=0.9).fit(X, X[:, 3])
    net = pynn.Network.from_sklearn(one)
    assert net.architecture.loss_function == pynn.Quantile(0.9)
    assert np.abs(net.predict(X) - one.predict(X)).max() < 1e-12


def test_a_pipeline_with_a_scaler_and_names_of_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    for scaler in (
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
    ):
        pipe = make_pipeline(scaler, perceptron(theirs, "MLPClassifier")).fit(frame, NAMES)
        net = pynn.Network.from_sklearn(pipe)
        assert np.abs(net.predict_proba(frame) - pipe.predict_proba(frame)).max() < 1e-12
        assert net.columns == ("a", "b", "c", "d")
        with pytest.raises(ValueError, match="found 'd' as column 0"):
            net.predict(frame[["d", "c", "b", "a"]])


def test_estimators_that_are_no_perceptrons() -> None:
    from sklearn.linear_model import LogisticRegression

    fitted = perceptron(theirs, "MLPClassifier").fit(X, NAMES)
    for wrong, kind, text in (
        (LogisticRegression(), TypeError, "found LogisticRegression, expected an MLPClassifier"),
        (3, TypeError, "found int, expected"),
        (theirs.MLPClassifier(), ValueError, "found a MLPClassifier that is not fitted"),
        (make_pipeline(MinMaxScaler(), fitted), ValueError, "found the steps MinMaxScaler, MLP"),
        (
            make_pipeline(StandardScaler(), fitted),
            ValueError,
            "found a StandardScaler that is not fi",
        ),
        (perceptron(theirs, "MLPClassifier").fit(X, [3] * len(X)), ValueError, "found one class"),
    ):
        with pytest.raises(kind, match=f"estimator: {text}" if kind is ValueError else text):
            pynn.Network.from_sklearn(wrong)


# --- To scikit-learn ------------------------------------------------------------------------------


def trained(sizes, x, y, **settings) -> pynn.Network:
    net = pynn.Network(sizes, seed=2, **settings)
    net.fit(x, y, epochs=3, batch_size=50, learning_rate=0.01, progress=False)
    return net


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_becomes_a_classifier(dtype: str) -> None:
    x = X.astype(dtype)
    cases = [
        trained([4, 9, 3], x, NAMES, dtype=dtype),
        trained([4, 9, 2], x, CLASSIFIED["two"], activation="tanh", dtype=dtype),
        trained([4, 3], x, NAMES, dtype=dtype),
        trained([4, 9, 8, 3], x, NAMES, norm="batch", dropout=0.1, loss="focal", dtype=dtype),
        trained([4, 9, 3], x, NAMES, norm="batch", norm_after=True, dtype=dtype),
        trained([4, 9, 3], x, NAMES, standardize=True, activation="sigmoid", dtype=dtype),
        trained([4, 9, 1], x, SPECIES == 1, loss="binary_cross_entropy", dtype=dtype),
        trained([4, 9, 2], x, FLAGS, loss="binary_cross_entropy", dtype=dtype),
    ]
    for net in cases:
        found = net.to_sklearn()
        tolerance = 1e-12 if dtype == "float64" else 5e-6
        assert np.abs(found.predict_proba(x) - net.predict_proba(x)).max() < tolerance, net
        assert (found.predict(x) == net.predict(x)).all()
        if not hasattr(found, "steps"):
            back = pynn.Network.from_sklearn(found)
            assert np.abs(back.predict_proba(x) - found.predict_proba(x)).max() < tolerance


def test_a_network_becomes_a_regressor() -> None:
    for y, settings in (
        (X[:, 3], {"loss": "mse", "standardize_targets": True}),
        (X[:, 2:], {"loss": "mae", "standardize": True, "activation": "identity"}),
        (VALUES["counts"], {"loss": "poisson"}),
    ):
        width = 1 if y.ndim == 1 else y.shape[1]
        net = trained([4, 6, width], X, y, dtype="float64", **settings)
        found = net.to_sklearn()
        assert found.predict(X).shape == net.predict(X).shape
        assert np.abs(found.predict(X) - net.predict(X)).max() < 1e-11


def test_large_means_stay_in_the_estimator() -> None:
    x, y = X + 1e6, 1e9 + X[:, 0]
    net = trained([4, 8, 1], x, y, loss="mse", standardize=True, standardize_targets=True)
    found = net.to_sklearn()
    assert found[-1].coefs_[0].dtype == np.float64
    assert np.abs(found.predict(x) - net.predict(x)).max() < 2e-6


def test_labels_in_another_order_and_pixels_and_averages() -> None:
    net = trained([4, 5, 3], X, NAMES, dtype="float64")
    net.classes = ["virginica", "setosa", "versicolor"]
    found = net.to_sklearn()
    assert (found.predict(X) == net.predict(X)).all()
    two = trained([4, 5, 1], X, SPECIES == 1, loss="binary_cross_entropy", dtype="float64")
    two.classes = ["yes", "no"]
    assert (two.to_sklearn().predict(X) == two.predict(X)).all()

    pixels = RANDOM.integers(0, 256, (80, 12), dtype=np.uint8)
    net = pynn.Network([12, 6, 2], pixels=True, seed=0, standardize=True, dtype="float64")
    net.fit(pixels, pixels[:, 0] > 99, epochs=2, ema=0.9, progress=False)
    found = net.to_sklearn()
    assert np.abs(found.predict_proba(pixels) - net.predict_proba(pixels)).max() < 1e-12
    back = pynn.Network.from_sklearn(found)
    assert np.abs(back.predict_proba(1.0 * pixels) - net.predict_proba(pixels)).max() < 1e-12


def test_the_estimator_is_independent_and_trains_on() -> None:
    net = trained([4, 5, 3], X, NAMES, dtype="float64")
    found = net.to_sklearn()
    before = found.predict_proba(X)
    net.fit(X, NAMES, epochs=1, progress=False)
    assert np.array_equal(found.predict_proba(X), before)
    found.partial_fit(X, NAMES)
    assert not np.array_equal(found.predict_proba(X), before)
    found.set_params(warm_start=True, max_iter=2).fit(X, NAMES)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"activation": "gelu"}, "activation: found 'gelu', expected one of 'identity', 'sig"),
        ({"activation": ["relu", "tanh"]}, "activation: found 'relu', 'tanh', expected one of"),
        ({"norm": "layer"}, "norm: found a norm over the units of a row, expected norm='batch'"),
        ({"residual": True}, "residual: found True, expected False"),
        ({"loss": "hinge"}, "loss: found 'hinge', expected one with probabilities"),
        ({"loss": "binary_cross_entropy"}, "output: found 'sigmoid', expected 'softmax' for more"),
        ({"loss": "mse", "output": "relu"}, "output: found 'relu', expected 'identity' or 'exp'"),
        ({"loss": pynn.Quantile([0.1, 0.5, 0.9])}, r"loss: found .*, expected one that predicts"),
        ({"standardize": True}, "standardize: found a network that has not been trained"),
    ],
)
def test_what_scikit_learn_cannot_compute_is_refused(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pynn.Network([5, 5, 5, 3], **settings).to_sklearn()


# --- The estimators of pynn.sklearn ---------------------------------------------------------------


def test_our_estimators_become_those_of_scikit_learn() -> None:
    for y in CLASSIFIED.values():
        one = perceptron(ours, "MLPClassifier", activation=["tanh", "tanh"], dropout=0.1)
        found = one.fit(X, y).to_sklearn()
        assert type(found) is theirs.MLPClassifier
        assert np.abs(found.predict_proba(X) - one.predict_proba(X)).max() < 1e-12
        assert (found.predict(X) == one.predict(X)).all()
    x, y = load_diabetes(return_X_y=True)
    one = perceptron(ours, "MLPRegressor", loss="huber", early_stopping=True).fit(x, y)
    found = one.to_sklearn()
    assert found.get_params().keys() == theirs.MLPRegressor().get_params().keys()
    assert np.abs(found.predict(x) - one.predict(x)).max() < 1e-9
    found.set_params(max_iter=1, warm_start=True).fit(x, y)
    found.set_params(max_iter=40).fit(x, y)
    assert not np.array_equal(found.coefs_[0], one.coefs_[0])


def test_our_estimators_that_scikit_learn_cannot_have() -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        ours.MLPClassifier().to_sklearn()
    for activation in ("gelu", ["relu", "tanh"], pynn.LeakyReLU(0.1)):
        one = perceptron(ours, "MLPClassifier", activation=activation).fit(X, NAMES)
        with pytest.raises(ValueError, match="activation: found .*, expected one of 'identity', "):
            one.to_sklearn()
