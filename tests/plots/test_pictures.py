"""Sample predictions, mistakes and weights of the first layer."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest

from pynn.plots import classes, pictures, style

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex

import pynn
from tests.plots.shared import texts

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 9), dtype=np.uint8)
PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1, 0.0],
        [0.1, 0.6, 0.3, 0.0],
        [0.9, 0.06, 0.04, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.45, 0.3, 0.15, 0.1],
        [0.25, 0.5, 0.125, 0.125],
    ]
)
LABELS = np.array([0, 2, 1, 2, 3, 0])
BY_SURENESS = (3, 2, 0, 1, 5, 4)


def tiles(ax) -> list[tuple]:
    return list(zip(ax.child_axes[::2], ax.child_axes[1::2], strict=True))


def colors(bars) -> list[str]:
    return [to_hex(bar.get_facecolor()).upper() for bar in bars.patches]


def test_predictions_show_images_truth_and_probabilities():
    ax = pictures.predictions(PROBABILITIES, IMAGES, LABELS)
    drawn = tiles(ax)
    assert ax.get_title() == "6 of 6 images from most to least confident"
    expected = "equal steps of confidence, not a random sample; the true class is bold"
    assert texts(ax) == [expected]
    for row, (shown, _) in zip(BY_SURENESS, drawn, strict=True):
        np.testing.assert_array_equal(shown.get_images()[0].get_array(), IMAGES[row].reshape(3, 3))
    titles = [shown.get_title(loc="left") for shown, _ in drawn]
    assert titles[2] == "0 ✓"
    assert titles[3] == "2 predicted as 1 ✗"
    rows = [shown.xaxis.label.get_text() for shown, _ in drawn]
    assert rows == [f"row {row}" for row in BY_SURENESS]

    bars = drawn[3][1]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [0.6, 0.3, 0.1])
    assert [label.get_text() for label in bars.get_yticklabels()] == ["1", "2", "0"]
    assert texts(bars) == ["60.0 %", "30.0 %", "10.0 %"]
    assert colors(bars) == [style.ORANGE, style.BLUE, style.ORANGE]
    # In greyscale, the true class is recognised by bold text.
    assert [label.get_fontweight() for label in bars.get_yticklabels()] == [
        "normal",
        "bold",
        "normal",
    ]
    assert texts(drawn[0][1]) == ["> 99.9 %", "< 0.1 %", "< 0.1 %"]


def test_predictions_show_the_true_class_though_it_is_the_least():
    bars = tiles(pictures.predictions(PROBABILITIES, IMAGES, LABELS))[5][1]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["0", "1", "3"]
    assert colors(bars)[2] == style.BLUE


def test_predictions_of_a_network_without_labels():
    net = SimpleNamespace(predict_proba=lambda x: PROBABILITIES, classes=np.array(list("abcd")))
    drawn = tiles(pictures.predictions(net, IMAGES.reshape(6, 3, 3), count=2))
    assert [shown.get_title(loc="left") for shown, _ in drawn] == ["c", "a"]
    assert set(colors(drawn[0][1])) == {style.GREY}


def test_predictions_are_spread_evenly_over_confidence():
    # 196 sure rows and four others, which evenly spaced rows would miss.
    sureness = np.full(200, 0.999)
    sureness[[17, 60, 61, 150]] = 0.4, 0.8, 0.79, 0.6
    probabilities = np.stack([sureness, *2 * [(1 - sureness) / 2]], axis=1)
    images = np.arange(200 * 64, dtype=float).reshape(200, 8, 8)

    def rows(count: int) -> list[int]:
        drawn = tiles(pictures.predictions(probabilities, images, count=count))
        return [int(shown.get_images()[0].get_array()[0, 0]) // 64 for shown, _ in drawn]

    assert rows(4) == [0, 60, 150, 17]
    assert rows(1) == [0]
    assert len(set(rows(30))) == 30


def test_pictures_of_a_network_that_has_diverged():
    nothing = np.full((6, 4), np.nan)
    drawn = tiles(pictures.predictions(nothing, IMAGES, LABELS))
    assert len(drawn) == 6
    assert texts(drawn[0][1]) == ["NaN"] * 3
    pictures.mistakes(nothing, IMAGES, LABELS).figure.savefig(io.BytesIO())
    net = SimpleNamespace(weights=(np.full((9, 2), np.nan),))
    pictures.first_layer_weights(net).figure.savefig(io.BytesIO())


def test_long_names_stand_above_their_bars():
    names = np.array(["ant", "bee", "caterpillar", "dog"])
    ax = pictures.predictions(PROBABILITIES, IMAGES, names[LABELS], classes=names)
    shown, bars = tiles(ax)[3]
    assert shown.get_title(loc="left") == "caterpillar\npredicted as bee ✗"
    assert texts(bars) == ["60.0 %  bee", "30.0 %  caterpillar", "10.0 %  ant"]
    assert [text.get_fontweight() for text in bars.texts] == ["normal", "bold", "normal"]


def test_names_are_no_formulas():
    names = np.array(["$\\frac$", "a\nb", "x" * 99])
    ax = classes.confusion_matrix(names, names)
    # An invalid formula would raise an error here.
    ax.figure.savefig(io.BytesIO())
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown == [r"\$\frac\$", "a b", "x" * 23 + "…"]


def test_mistakes_are_sorted_worst_first():
    ax = pictures.mistakes(PROBABILITIES, IMAGES, LABELS, count=3)
    # Rows 1, 2, 4, 5 are wrong; probabilities of their true classes: .3, .06, .1, .25.
    shown = [picture.get_images()[0].get_array() for picture, _ in tiles(ax)]
    np.testing.assert_array_equal(shown, IMAGES[[2, 4, 5]].reshape(3, 3, 3))
    assert ax.get_title() == "the 3 worst of 4 mistakes in 6 images"
    assert texts(ax) == ["worst: the least probability for the true class; the true class is bold"]


@pytest.mark.parametrize("factor", [1.5, -3.0])
def test_outputs_that_are_no_probabilities_have_no_per_cent_signs(factor):
    ax = pictures.mistakes(factor * PROBABILITIES, IMAGES, LABELS)
    (line,) = texts(ax)
    assert line.startswith("worst: the least output for the true class")
    drawn = [text for _, bars in tiles(ax) for text in texts(bars)]
    assert drawn
    assert not any("%" in text for text in drawn)
    assert f"{factor * 0.3:.2f}" in drawn  # of the true class of row 1
    ax.figure.savefig(io.BytesIO())


def test_mistakes_of_a_network_with_a_hinge_show_its_outputs():
    x, y = (IMAGES / 255.0).reshape(-1, 3, 3), LABELS % 2
    for outputs, loss in ((1, "hinge"), (2, "squared_hinge")):
        net = pynn.Network([9, outputs], loss=loss, backend="numpy")
        net.fit(x, y, epochs=1, progress=False)
        net.predict(x)
        assert "output" in texts(pictures.mistakes(net, x, 1 - net.predict(x)))[0]


def test_mistakes_with_names():
    names = np.array(["ant", "bee", "cat", "dog"])
    ax = pictures.mistakes(PROBABILITIES, IMAGES, names[LABELS], count=1, classes=names)
    assert tiles(ax)[0][0].get_title(loc="left") == "bee predicted as ant ✗"


def test_a_picture_without_mistakes_says_so():
    ax = pictures.mistakes(PROBABILITIES[:1], IMAGES[:1], [0])
    assert texts(ax) == ["no mistake in 1"]
    assert not ax.child_axes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PROBABILITIES, IMAGES[:, :8], LABELS), r"x: found shape \(6, 8\)"),
        ((PROBABILITIES, IMAGES[:0], LABELS[:0]), r"x: found shape \(0, 9\)"),
        ((PROBABILITIES, IMAGES, LABELS[:3]), r"y: found shape \(3,\)"),
        ((PROBABILITIES[:2], IMAGES, LABELS), r"model: found shape \(2, 4\)"),
        ((PROBABILITIES, IMAGES, LABELS, 3, [0, 1]), "classes: found 2, expected 4"),
        ((PROBABILITIES, IMAGES, LABELS + 9), "y: found 10, expected one of the classes"),
    ],
)
def test_mistakes_refuse_mismatched_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        pictures.mistakes(*arguments)


def test_first_layer_weights_are_the_largest_units_as_images():
    weights = np.random.default_rng(1).normal(size=(16, 5))
    weights[:, 3] *= 10
    net = SimpleNamespace(weights=(weights,))
    ax = pictures.first_layer_weights(net, count=4)
    sheet = ax.get_images()[0].get_array().filled(np.nan)
    order = np.argsort(-np.linalg.norm(weights, axis=0))
    assert order[0] == 3
    assert sheet.shape == (10, 10)
    assert texts(ax) == [f"unit {k}" for k in order[:4]]
    np.testing.assert_allclose(sheet[:4, :4], weights[:, order[0]].reshape(4, 4))
    np.testing.assert_allclose(sheet[6:, :4], weights[:, order[2]].reshape(4, 4))
    assert np.isnan(sheet[4:6]).all()
    low, high = ax.get_images()[0].get_clim()
    assert low == -high
    assert ax.get_title() == "first layer, 4 of 5 units with the largest weights"
    with pytest.raises(ValueError, match="found shape"):
        pictures.first_layer_weights(SimpleNamespace(weights=(weights[:15],)))


def test_first_layer_weights_of_images_that_are_not_square():
    weights = np.random.default_rng(1).normal(size=(15, 2))
    net = SimpleNamespace(weights=(weights,))
    ax = pictures.first_layer_weights(net, shape=(3, 5))
    sheet = ax.get_images()[0].get_array().filled(np.nan)
    best = np.argmax(np.linalg.norm(weights, axis=0))
    np.testing.assert_allclose(sheet[:3, :5], weights[:, best].reshape(3, 5))
    with pytest.raises(ValueError, match=r"shape: found \(3, 4\), expected 15 pixels"):
        pictures.first_layer_weights(net, shape=(3, 4))


def test_weights_of_pixels_that_are_always_zero_are_pale():
    net = SimpleNamespace(weights=(np.random.default_rng(1).normal(size=(9, 2)),))
    x = np.ones((4, 9), np.uint8)
    x[:, 4] = 0
    ax = pictures.first_layer_weights(net, x=x.reshape(4, 3, 3))
    tile = ax.get_images()[0].get_alpha()[:3, :3]
    assert tile[1, 1] < 0.2
    assert np.delete(tile.ravel(), 4).tolist() == [1] * 8
    assert ax.get_title().endswith("\npale: pixels that are 0 in all rows")
    with pytest.raises(ValueError, match=r"x: found shape \(4, 8\), expected rows of 9 pixels"):
        pictures.first_layer_weights(net, x=x[:, :8])


def test_the_colour_key_of_first_layer_weights_shows_the_sign():
    ax = pictures.first_layer_weights(SimpleNamespace(weights=(np.eye(4),)))
    (image,) = ax.get_images()
    against, nothing, for_it = (np.array(image.cmap(v)[:3]) for v in (0.0, 0.5, 1.0))
    assert to_hex(for_it).upper() == style.ORANGE
    assert nothing.min() > 0.9
    assert against[2] > against[0]
    # The ends also differ in greyscale.
    grey = np.array([0.299, 0.587, 0.114])
    assert grey @ for_it - grey @ against > 0.2
    assert ax.figure.axes[-1].get_ylabel() == "weight: blue lowers, orange raises the unit's sum"


def test_columns_of_a_table_are_no_images():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 4)), np.arange(20) % 2
    net = pynn.Network([4, 3, 2], backend="numpy")
    net.fit(x, y, epochs=1, progress=False)
    wide = pynn.Network([16, 3, 2], backend="numpy")
    wide.fit(rng.normal(size=(20, 16)), y, epochs=1, progress=False)
    pictures.first_layer_weights(wide)
    wide.columns = [f"column {k}" for k in range(16)]
    for given, found in ((net, "4 values"), (wide, "16 columns with names")):
        with pytest.raises(ValueError, match=f"net: found a network of {found}, expected pixels"):
            pictures.first_layer_weights(given)
    side = pictures.first_layer_weights(net, shape=(2, 2))
    assert side.get_images()
    for draw in (pictures.predictions, pictures.mistakes):
        with pytest.raises(ValueError, match=r"x: found a network of 4 values, .* x of three axes"):
            draw(net, x, y)
        draw(net, x.reshape(20, 2, 2), y)
    net.table = pynn.data.Table.of(
        {**{name: [1.5, 2.5] for name in "abcd"}, "y": ["no", "yes"]}, target="y"
    )
    with pytest.raises(ValueError, match="found a network with a table, expected pixels"):
        pictures.predictions(net, x)
    bright = pynn.Network([4, 3, 2], backend="numpy", pixels=True)
    pictures.first_layer_weights(bright)
