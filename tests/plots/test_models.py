"""Plots accept the networks of pynn.nielsen and the estimators of pynn.sklearn."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.plots import curves, models, pictures

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn", "1.7")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import pynn
from pynn.nielsen import network, network2
from pynn.sklearn import MLPClassifier, MLPRegressor

RNG = np.random.default_rng(0)
X = RNG.random((30, 9))
IMAGES = X.reshape(-1, 3, 3)
Y = np.arange(30) % 3
WORDS = np.array(["one", "two", "three"])[Y]

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:lbfgs failed")


def classifier(hidden=(5,), y=WORDS, **settings) -> MLPClassifier:
    return MLPClassifier(hidden, max_iter=3, random_state=0, **settings).fit(X, y)


def nielsen(kind, sizes=(9, 5, 3)):
    np.random.seed(0)
    net = kind.Network(list(sizes))
    net.SGD([(x[:, None], np.eye(3)[k][:, None]) for x, k in zip(X, Y)], 1, 10, 0.5)
    return net


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def bars(ax: Axes) -> list[float]:
    return [p.get_width() for child in ax.child_axes for p in child.patches]


@pytest.mark.parametrize("x", [X, IMAGES, IMAGES.astype("float32")], ids=["rows", "images", "f4"])
def test_predictions_and_mistakes_of_a_classifier(x):
    one = classifier()
    rows = x.reshape(30, 9)
    for draw in (pictures.predictions, pictures.mistakes):
        ax = draw(one, x, WORDS, count=4)
        expected = draw(one.predict_proba(rows), x, WORDS, count=4, classes=one.classes_)
        assert bars(ax) == bars(expected)
        titles = [[c.get_title("left") for c in a.child_axes] for a in (ax, expected)]
        assert titles[0] == titles[1]
        assert any(word in title for title in titles[0] for word in ("one", "two", "three"))


@pytest.mark.parametrize("y", [Y == 1, WORDS == "two"], ids=["bool", "also bool"])
def test_predictions_of_two_classes(y):
    pictures.predictions(classifier(y=y), IMAGES, y, count=3)
    pictures.mistakes(classifier(y=y), IMAGES, y, count=3)


@pytest.mark.parametrize("kind", [network, network2], ids=["chapter 1", "chapter 3"])
@pytest.mark.parametrize("x", [X, IMAGES, X[:, :, None]], ids=["rows", "images", "columns"])
def test_predictions_and_mistakes_of_nielsens_networks(x, kind):
    net = nielsen(kind)
    expected = np.hstack([net.feedforward(row[:, None]) for row in X]).T
    np.testing.assert_allclose(models.probabilities_of(net, x, 30), expected, rtol=1e-12)
    for draw in (pictures.predictions, pictures.mistakes):
        np.testing.assert_allclose(
            bars(draw(net, x, Y, count=4)), bars(draw(expected, IMAGES, Y, count=4)), rtol=1e-9
        )


@pytest.mark.parametrize(
    "make, weights",
    [
        (lambda: classifier(), lambda m: m.coefs_[0]),
        (
            lambda: MLPRegressor(hidden_layer_sizes=(4,), max_iter=2).fit(X, Y),
            lambda m: m.coefs_[0],
        ),
        (lambda: nielsen(network), lambda m: m.weights[0].T),
        (lambda: nielsen(network2), lambda m: m.weights[0].T),
        (lambda: pynn.Network([9, 4, 3]), lambda m: m.weights[0]),
    ],
    ids=["classifier", "regressor", "chapter 1", "chapter 3", "Network"],
)
def test_first_layer_weights_are_those_of_the_model(make, weights):
    model = make()
    image = pictures.first_layer_weights(model, count=1).images[0].get_array()
    w = weights(model)
    largest = w[:, np.argmax(np.linalg.norm(w, axis=0))]
    np.testing.assert_allclose(image, largest.reshape(3, 3))


def test_first_layer_weights_of_outputs_have_the_names_of_classes():
    assert texts(pictures.first_layer_weights(classifier(()))) == ["one", "three", "two"]
    drawn = texts(pictures.first_layer_weights(nielsen(network, (9, 3))))
    assert sorted(drawn) == ["unit 0", "unit 1", "unit 2"]


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}], ids=str)
def test_learning_curves_and_comparison_of_estimators(settings):
    one = classifier(**settings)
    regressor = MLPRegressor(max_iter=2, random_state=0).fit(X, Y)
    loss = curves.learning_curves(one)[0]
    restored = one.history_.restored_epoch
    assert (restored is not None) == bool(settings)
    if restored:
        assert one.validation_scores_[restored - 1] == one.best_validation_score_
    end = restored or len(one.loss_curve_)
    np.testing.assert_array_equal(loss.get_lines()[0].get_ydata(), one.loss_curve_[:end])
    axes = curves.comparison({"one": one, "two": regressor, "three": one.history_})
    assert len(axes) == (2 if settings else 1)
    np.testing.assert_array_equal(axes[0].get_lines()[1].get_ydata(), regressor.loss_curve_)
    (ax,) = curves.learning_curves(regressor, Figure().add_subplot())
    assert ax.get_lines()


def test_models_without_what_a_plot_draws():
    with pytest.raises(TypeError, match=r"history: found a Network, .* pynn.nielsen keep none"):
        curves.learning_curves(nielsen(network))
    with pytest.raises(TypeError, match="history: found a MLPClassifier, .*; call fit first"):
        curves.learning_curves(MLPClassifier())
    with pytest.raises(ValueError, match="found no epoch, .*; solver='lbfgs' records none"):
        curves.learning_curves(classifier(solver="lbfgs"))
    with pytest.raises(TypeError, match="model: found a MLPRegressor, which predicts no prob"):
        pictures.predictions(MLPRegressor(max_iter=1).fit(X, Y), IMAGES)
    with pytest.raises(TypeError, match="net: found a MLPClassifier, .*; call fit first"):
        pictures.first_layer_weights(MLPClassifier())
    with pytest.raises(TypeError, match="net: found a list, expected a network"):
        pictures.first_layer_weights([1.0])
