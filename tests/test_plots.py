"""Pictures: what is drawn is what was given."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pynn import plots
from pynn.history import History, Record


def history(**columns: list[float | None]) -> History:
    n = len(next(iter(columns.values())))
    return History(
        Record(epoch=i + 1, **{name: values[i] for name, values in columns.items()})
        for i in range(n)
    )


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


# --- Learning curves ------------------------------------------------------------------------------


def test_learning_curves_draw_the_history():
    h = history(
        loss=[0.5, 0.3, 0.2],
        accuracy=[0.8, 0.9, 0.95],
        validation_loss=[0.4, 0.35, 0.3],
        validation_accuracy=[0.85, 0.88, 0.91],
    )
    loss, accuracy = plots.learning_curves(h)
    for ax, names, scale in (
        (loss, ("loss", "validation_loss"), 1),
        (accuracy, ("accuracy", "validation_accuracy"), 100),
    ):
        lines = ax.get_lines()
        assert len(lines) == 2
        for line, name in zip(lines, names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_allclose(line.get_ydata(), np.multiply(getattr(h, name), scale))
        assert lines[0].get_color() != lines[1].get_color()
        assert ax.get_xlabel() == "epoch"
    legend = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert legend == ["training (95.00 %)", "validation (91.00 %)"]
    assert loss.get_yscale() == "linear"


def test_learning_curves_without_validation_or_accuracy():
    (ax,) = plots.learning_curves(history(loss=[3.0, 1.0, 0.01]))
    assert len(ax.get_lines()) == 1
    assert ax.get_yscale() == "log"
    assert len(ax.figure.axes) == 1


def test_learning_curves_keep_the_epochs_of_gaps():
    h = history(loss=[1.0, 0.9, 0.8], validation_loss=[None, 0.7, None])
    (ax,) = plots.learning_curves(h)
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), [np.nan, 0.7, np.nan])


def test_learning_curves_go_on_from_earlier_epochs():
    h = History([Record(epoch=8, loss=0.2), Record(epoch=9, loss=0.1)])
    (ax,) = plots.learning_curves(h)
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), [8, 9])


def test_learning_curves_on_given_axes():
    h = history(loss=[1.0, 0.5], accuracy=[0.1, 0.2])
    both = Figure().subplots(1, 2)
    assert plots.learning_curves(h, both) == tuple(both)
    one = Figure().add_subplot()
    assert plots.learning_curves(h, one) == (one,)
    np.testing.assert_array_equal(one.get_lines()[0].get_ydata(), [1.0, 0.5])


def test_learning_curves_refuse_an_empty_history():
    with pytest.raises(ValueError, match="history: found no epoch"):
        plots.learning_curves(History())
    with pytest.raises(ValueError, match="ax: found 3 Axes"):
        plots.learning_curves(history(loss=[1.0]), Figure().subplots(1, 3))


# --- Confusion matrix -----------------------------------------------------------------------------

TRUE = np.repeat([0, 1, 2], [10, 8, 4])
FOUND = np.array([0] * 9 + [1] + [1] * 6 + [0] * 2 + [2] * 4)


def test_confusion_matrix_shows_counts_and_rates():
    ax = plots.confusion_matrix(TRUE, FOUND)
    assert texts(ax) == ["9", "1", "0", "2", "6", "0", "0", "0", "4"]
    right, wrong = (image.get_array().filled(np.nan) for image in ax.get_images())
    np.testing.assert_allclose(np.diag(right), [0.9, 0.75, 1.0])
    np.testing.assert_allclose([wrong[0, 1], wrong[1, 0], wrong[0, 2]], [0.1, 0.25, 0.0])
    assert np.isnan([right[0, 1], wrong[0, 0]]).all()
    # The worst mistake takes the strongest orange, however rare it is.
    assert ax.get_images()[1].get_clim() == (0, 0.25)
    assert ax.get_title() == "86.36 % right, 3 of 22 wrong"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_confusion_matrix_normalized():
    ax = plots.confusion_matrix(TRUE, FOUND, normalize=True)
    assert texts(ax)[:5] == ["90.0", "10.0", "0", "25.0", "75.0"]


def test_confusion_matrix_orders_named_classes():
    ax = plots.confusion_matrix(["b", "a", "b"], ["b", "b", "b"], classes=["b", "c", "a"])
    assert texts(ax) == ["2", "0", "0", "0", "0", "0", "1", "0", "0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["b", "c", "a"]


def test_confusion_matrix_without_mistakes_has_no_scale_of_mistakes():
    ax = plots.confusion_matrix([0, 1], [0, 1])
    assert ax.get_title() == "100.00 % right, 0 of 2 wrong"
    assert len(ax.figure.axes) == 1
    assert len(plots.confusion_matrix(TRUE, FOUND).figure.axes) == 2


def test_confusion_matrix_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="y_pred: found 1 labels for 2 true ones"):
        plots.confusion_matrix([0, 1], [0])
    with pytest.raises(ValueError, match="y_pred: found 0 labels"):
        plots.confusion_matrix([], [])
    with pytest.raises(ValueError, match="y_true: found 7, expected one of the classes"):
        plots.confusion_matrix([7, 0], [0, 1], classes=[0, 1])


# --- Images ---------------------------------------------------------------------------------------

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


def tiles(ax) -> list[tuple]:
    return list(zip(ax.child_axes[::2], ax.child_axes[1::2], strict=True))


def colors(bars) -> list[str]:
    return [to_hex(bar.get_facecolor()).upper() for bar in bars.patches]


def test_predictions_show_images_truth_and_probabilities():
    drawn = tiles(plots.predictions(PROBABILITIES, IMAGES, LABELS))
    assert len(drawn) == 6
    for k, (picture, _) in enumerate(drawn):
        np.testing.assert_array_equal(picture.get_images()[0].get_array(), IMAGES[k].reshape(3, 3))
    titles = [picture.get_title(loc="left") for picture, _ in drawn]
    assert titles[0] == "0 ✓"
    assert titles[1] == "2 taken for 1 ✗"

    bars = drawn[1][1]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [0.6, 0.3, 0.1])
    assert [label.get_text() for label in bars.get_yticklabels()] == ["1", "2", "0"]
    assert texts(bars) == ["60.0 %", "30.0 %", "10.0 %"]
    assert colors(bars) == [plots.ORANGE, plots.BLUE, plots.ORANGE]
    assert texts(drawn[3][1]) == ["> 99.9 %", "< 0.1 %", "< 0.1 %"]


def test_predictions_show_the_true_class_though_it_is_the_least():
    bars = tiles(plots.predictions(PROBABILITIES, IMAGES, LABELS))[4][1]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["0", "1", "3"]
    assert colors(bars)[2] == plots.BLUE


def test_predictions_ask_a_network_about_the_rows_they_show():
    asked = []

    def predict_proba(x):
        asked.append(x)
        return PROBABILITIES[: len(x)]

    net = SimpleNamespace(predict_proba=predict_proba, classes=np.array(list("abcd")))
    drawn = tiles(plots.predictions(net, IMAGES.reshape(6, 3, 3), count=2))
    np.testing.assert_array_equal(asked[0], IMAGES[[0, 5]].reshape(2, 3, 3))
    assert [picture.get_title(loc="left") for picture, _ in drawn] == ["a", "b"]
    assert set(colors(drawn[0][1])) == {plots.GREY}


def test_mistakes_come_worst_first():
    ax = plots.mistakes(PROBABILITIES, IMAGES, LABELS, count=3)
    # Wrong are rows 1, 2, 4, 5; their true classes got .3, .06, .1, .25.
    shown = [picture.get_images()[0].get_array() for picture, _ in tiles(ax)]
    np.testing.assert_array_equal(shown, IMAGES[[2, 4, 5]].reshape(3, 3, 3))
    assert ax.get_title() == "the 3 worst of 4 mistakes in 6 images"


def test_mistakes_with_names():
    names = np.array(["ant", "bee", "cat", "dog"])
    ax = plots.mistakes(PROBABILITIES, IMAGES, names[LABELS], count=1, classes=names)
    assert tiles(ax)[0][0].get_title(loc="left") == "bee taken for ant ✗"


def test_no_mistake_is_said():
    ax = plots.mistakes(PROBABILITIES[:1], IMAGES[:1], [0])
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
def test_mistakes_refuse_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.mistakes(*arguments)


def test_first_layer_weights_are_the_largest_units_as_images():
    weights = np.random.default_rng(1).normal(size=(16, 5))
    weights[:, 3] *= 10
    net = SimpleNamespace(weights=(weights,))
    ax = plots.first_layer_weights(net, count=4)
    sheet = ax.get_images()[0].get_array().filled(np.nan)
    order = np.argsort(-np.linalg.norm(weights, axis=0))
    assert order[0] == 3
    assert sheet.shape == (10, 10)
    np.testing.assert_allclose(sheet[:4, :4], weights[:, order[0]].reshape(4, 4))
    np.testing.assert_allclose(sheet[6:, :4], weights[:, order[2]].reshape(4, 4))
    assert np.isnan(sheet[4:6]).all()
    low, high = ax.get_images()[0].get_clim()
    assert low == -high
    assert ax.get_title() == "first layer, the 4 of 5 units with the largest weights"
    with pytest.raises(ValueError, match="found shape"):
        plots.first_layer_weights(SimpleNamespace(weights=(weights[:15],)))


# --- Figures --------------------------------------------------------------------------------------


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_no_pyplot_unless_the_caller_uses_it():
    out = run(
        "import io, sys; from pynn import plots\n"
        "ax = plots.confusion_matrix([0, 1], [1, 1])\n"
        "ax.figure.savefig(io.BytesIO(), format='png')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert out.split() == ["False"]


def test_figures_are_known_to_pyplot_where_the_caller_uses_it():
    out = run(
        "import matplotlib; matplotlib.use('svg'); import matplotlib.pyplot as plt\n"
        "from pynn import plots\n"
        "ax = plots.confusion_matrix([0, 1], [1, 1])\n"
        "print(plt.figure(plt.get_fignums()[-1]) is ax.figure, matplotlib.get_backend())"
    )
    assert out.split() == ["True", "svg"]


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'pynn-mlp\[plots\]'"):
        plots.confusion_matrix([0, 1], [0, 1])
