"""Plots show the data that they are given."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pynn.plots import classes, curves, pictures, style

pytest.importorskip("matplotlib")
pytest.importorskip("pytest_mpl")

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

import pynn
from pynn.training.history import History, Record
from tests.child import python


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
    loss, accuracy = curves.learning_curves(h)
    for ax, names, scale in (
        (loss, ("loss", "validation_loss"), 1),
        (accuracy, ("accuracy", "validation_accuracy"), 100),
    ):
        *lines, ring = ax.get_lines()
        assert len(lines) == 2
        assert ring.get_xdata() == [3]
        for line, name in zip(lines, names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_allclose(line.get_ydata(), np.multiply(getattr(h, name), scale))
        assert lines[0].get_color() != lines[1].get_color()
        assert ax.get_xlabel() == "epoch"
    legend = [text.get_text() for text in accuracy.get_legend().get_texts()]
    expected = ["training (95.00 %)", "validation (91.00 %)", "best: 91.00 % in epoch 3"]
    assert legend == expected
    assert loss.get_yscale() == "linear"
    assert loss.figure.get_suptitle() == "3 epochs"


def test_learning_curves_without_validation_or_accuracy():
    (ax,) = curves.learning_curves(history(loss=[3.0, 1.0, 0.01]))
    assert len(ax.get_lines()) == 2  # the training and a ring
    assert ax.get_yscale() == "log"
    assert len(ax.figure.axes) == 1


def test_learning_curves_keep_the_epochs_of_gaps():
    h = history(loss=[1.0, 0.9, 0.8], validation_loss=[None, 0.7, None])
    (ax,) = curves.learning_curves(h)
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), [np.nan, 0.7, np.nan])


def test_learning_curves_continue_from_earlier_epochs():
    h = History([Record(epoch=8, loss=0.2), Record(epoch=9, loss=0.1)])
    (ax,) = curves.learning_curves(h)
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), [8, 9])


def test_learning_curves_on_given_axes():
    h = history(loss=[1.0, 0.5], accuracy=[0.1, 0.2])
    both = Figure().subplots(1, 2)
    assert curves.learning_curves(h, both) == tuple(both)
    one = Figure().add_subplot()
    assert curves.learning_curves(h, one) == (one,)
    np.testing.assert_array_equal(one.get_lines()[0].get_ydata(), [1.0, 0.5])


def test_metrics_have_panels():
    values = [{"validation_auc": v, "auc": v / 2, "validation_log_loss": 1 - v} for v in (0.5, 0.8)]
    h = History([Record(k, 0.1, metrics=m) for k, m in enumerate(values, 1)])
    axes = curves.learning_curves(h)
    assert [ax.get_ylabel() for ax in axes] == ["loss", "auc", "log loss"]
    training, validation, best = axes[1].get_lines()
    np.testing.assert_array_equal(training.get_ydata(), [0.25, 0.4])
    np.testing.assert_array_equal(validation.get_ydata(), [0.5, 0.8])
    np.testing.assert_array_equal(best.get_xydata(), [[2, 0.8]])
    assert len(axes[2].get_lines()) == 2
    given = Figure().subplots(1, 2)
    assert curves.learning_curves(h, given) == tuple(given)
    training, validation = curves.comparison({"a": h, "b": h}, "auc")
    np.testing.assert_array_equal(validation.get_lines()[1].get_ydata(), [0.5, 0.8])
    with pytest.raises(ValueError, match="measure: found 'f1', expected 'loss', 'accuracy', 'auc'"):
        curves.comparison({"a": h}, "f1")
    with pytest.raises(ValueError, match=r"runs\['b'\]: found no auc, expected one; use measure="):
        curves.comparison({"a": h, "b": history(loss=[1.0])}, "auc")
    four = h[:]
    four.append(Record(3, 0.1, 0.5, metrics={"f1": 1.0}))
    assert curves.learning_curves(four)[-1].get_subplotspec().rowspan.start == 1


def test_learning_curves_refuse_an_empty_history():
    with pytest.raises(ValueError, match="history: found no epoch"):
        curves.learning_curves(History())
    with pytest.raises(ValueError, match="ax: found 3 Axes"):
        curves.learning_curves(history(loss=[1.0]), Figure().subplots(1, 3))


def test_learning_curves_of_a_network_show_its_history():
    h = history(loss=[1.0, 0.5])
    (ax,) = curves.learning_curves(SimpleNamespace(history=h))
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), [1.0, 0.5])
    with pytest.raises(TypeError, match="history: found a list, expected a History, a Network"):
        curves.learning_curves([1.0, 0.5])


def test_curves_that_are_not_finite_are_labelled():
    nan = float("nan")
    (ax,) = curves.learning_curves(history(loss=[nan, nan]))
    assert texts(ax) == ["no finite value"]
    ax.figure.savefig(io.BytesIO())


def test_training_and_validation_differ_without_colours():
    (ax,) = curves.learning_curves(history(loss=[2.0, 1.0], validation_loss=[2.0, 1.5]))
    assert len({line.get_linestyle() for line in ax.get_lines()[:2]}) == 2


def test_learning_curves_show_the_epoch_that_early_stopping_restored():
    h = history(loss=[4.0, 3.0, 2.0, 1.0], validation_loss=[3.0, 1.0, 2.0, 3.0])
    h.restored_epoch = 2
    (ax,) = curves.learning_curves(h)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    best = "best: 1 in epoch 2"
    assert legend == ["training (3)", "validation (1)", best, "restored epoch 2"]
    training, later, *_, line = ax.get_lines()
    np.testing.assert_array_equal(training.get_xdata(), [1, 2])
    np.testing.assert_array_equal(later.get_ydata(), [3, 2, 1])
    assert later.get_alpha() < 1
    assert line.get_xdata() == [2, 2]


def test_a_note_explains_a_validation_that_starts_better():
    better = history(loss=[2.0, 1.0], validation_loss=[1.5, 1.2])
    (ax,) = curves.learning_curves(better)
    assert "it can therefore start better than training" in ax.figure.get_supxlabel()
    (ax,) = curves.learning_curves(history(loss=[2.0, 1.0], validation_loss=[2.5, 1.2]))
    assert ax.figure.get_supxlabel() == ""
    given = Figure().add_subplot()
    curves.learning_curves(better, given, title="mine")
    assert (given.get_title(), given.figure.get_supxlabel()) == ("mine", "")


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((1, 1), [1]),
        ((1, 3), [1, 2, 3]),
        ((1, 20), [1, 5, 10, 15, 20]),
        ((1, 21), [1, 5, 10, 15, 21]),
        ((1, 60), [1, 10, 20, 30, 40, 50, 60]),
        ((8, 108), [8, 20, 40, 60, 80, 108]),
        ((1, 1000), [1, 200, 400, 600, 800, 1000]),
    ],
)
def test_ticks_show_the_first_and_the_last_epoch(ends, ticks):
    assert curves.epoch_ticks(*ends) == ticks


# --- Comparison -----------------------------------------------------------------------------------

RUNS = {
    "slow": history(loss=[3.0, 2.0], validation_loss=[3.5, 2.5], accuracy=[0.5, 0.6]),
    "$fast$": history(loss=[3.0, 1.0, 0.05], accuracy=[0.5, 0.8, 0.9]),
}


def test_comparison_draws_every_run_in_both_panels():
    training, validation = curves.comparison(RUNS)
    for ax, name in (training, "loss"), (validation, "validation_loss"):
        for line, run in zip(ax.get_lines()[:2], RUNS.values(), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), run.epoch)
            expected = np.array(getattr(run, name), dtype=float)
            np.testing.assert_array_equal(line.get_ydata(), expected)
    assert [ax.get_title() for ax in (training, validation)] == ["training", "validation"]
    assert training.get_ylim() == validation.get_ylim()
    assert training.get_xlim() == validation.get_xlim()
    # One panel has a range that needs a logarithmic scale, and both must be comparable.
    assert training.get_yscale() == validation.get_yscale() == "log"
    assert training.get_legend() is None
    legend = [text.get_text() for text in validation.get_legend().get_texts()]
    assert legend == ["slow (2.5, epoch 2)", r"\$fast\$ (0.05, epoch 3)"]
    weights = [text.get_fontweight() for text in validation.get_legend().get_texts()]
    assert weights == ["normal", "bold"]
    # Rings at the best epochs: the second run has no validation.
    assert [line.get_xdata().tolist() for line in validation.get_lines()[2:]] == [[2]]
    assert [line.get_xdata().tolist() for line in training.get_lines()[2:]] == [[3]]


def test_comparison_of_accuracies_without_validation():
    (ax,) = curves.comparison(list(RUNS.values()), measure="accuracy")
    np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), [50, 80, 90])
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["run 1 (60.00 %, epoch 2)", "run 2 (90.00 %, epoch 3)"]


def test_comparison_on_one_given_axes_is_of_training():
    ax = Figure().add_subplot()
    assert curves.comparison(RUNS, ax=ax) == (ax,)
    assert ax.get_legend().get_texts()[0].get_text() == "slow (2, epoch 2)"


def test_eight_runs_look_different_in_colour_and_in_grey():
    h = history(loss=[2.0, 1.0])
    (ax,) = curves.comparison([h] * 8)
    looks = [(x.get_color(), x.get_linestyle(), x.get_marker()) for x in ax.get_lines()[:8]]
    assert len(set(looks)) == 8
    assert len({look[1:] for look in looks}) == 8


def test_runs_of_ordered_values_go_from_dark_to_bright():
    h = history(loss=[2.0, 1.0])
    for labels in ((0.1, 0.001, 0.01), ("rate 0.1", "rate 1e-3", "rate .01")):
        (ax,) = curves.comparison(dict.fromkeys(labels, h))
        light = [style.luminance(line.get_color()[:3]) for line in ax.get_lines()[:3]]
        assert np.argsort(light).tolist() == [1, 2, 0]
        (ax,) = curves.comparison(dict.fromkeys(labels, h), ordered=False)
        assert [line.get_color() for line in ax.get_lines()[:3]] == list(style.COLORS[:3])
    (ax,) = curves.comparison(dict.fromkeys(["sgd 1", "adam 2", "adam 3"], h))
    assert ax.get_lines()[0].get_color() == style.BLUE
    with pytest.raises(ValueError, match="ordered: found the labels 'a', 'b'"):
        curves.comparison({"a": h, "b": h}, ordered=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "runs: found none"),
        ((RUNS, "error"), "measure: found 'error'"),
        (({"a": History()},), r"runs\['a'\]: found no epoch"),
        (({"a": history(loss=[1.0])}, "accuracy"), r"runs\['a'\]: found no accuracy"),
        ((RUNS, "loss", [1, 2, 3]), "ax: found 3 Axes"),
    ],
)
def test_comparison_refuses_mismatched_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        curves.comparison(*arguments)


# --- Norms ----------------------------------------------------------------------------------------


def test_norms_plot_every_recorded_value():
    recorded = SimpleNamespace(
        sizes=(5, 4, 3), updates=[0, 7], weights=[[1.0, 2.0], [3.0, 4.0]],
        gradients=[[1e-3, 1e-4], [1.0, 0.5]],
    )  # fmt: skip
    gradients, weights = curves.norms(recorded)
    for ax, values in (gradients, recorded.gradients), (weights, recorded.weights):
        np.testing.assert_array_equal([line.get_ydata() for line in ax.get_lines()], values)
        assert [line.get_color() for line in ax.get_lines()] == list(style.COLORS[:2])
        np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), [0, 7])
        assert len({line.get_linestyle() for line in ax.get_lines()}) == 2
    assert gradients.get_yscale() == weights.get_yscale() == "log"
    legend = [text.get_text() for text in weights.get_legend().get_texts()]
    assert legend == ["layer 1: 5 → 4", "layer 2: 4 → 3"]
    one = Figure().add_subplot()
    assert curves.norms(recorded, one) == (one,)
    assert one.get_ylabel() == "gradient, L2 norm"


def test_norms_refuse_an_empty_record():
    with pytest.raises(ValueError, match="norms: found nothing recorded"):
        curves.norms(pynn.Norms(np.zeros((1, 2)), [0]))


# --- Confusion matrix -----------------------------------------------------------------------------

TRUE = np.repeat([0, 1, 2], [10, 8, 4])
FOUND = np.array([0] * 9 + [1] + [1] * 6 + [0] * 2 + [2] * 4)


def test_confusion_matrix_shows_counts_and_rates():
    ax = classes.confusion_matrix(TRUE, FOUND)
    assert texts(ax) == ["9", "1", "0", "2", "6", "0", "0", "0", "4"]
    right, wrong = (image.get_array().filled(np.nan) for image in ax.get_images())
    np.testing.assert_allclose(np.diag(right), [0.9, 0.75, 1.0])
    np.testing.assert_allclose([wrong[0, 1], wrong[1, 0], wrong[0, 2]], [0.1, 0.25, 0.0])
    assert np.isnan([right[0, 1], wrong[0, 0]]).all()
    # The worst mistake has the strongest orange, however rare it is.
    assert ax.get_images()[1].get_clim() == (0, 0.25)
    assert ax.get_title() == "86.36 % right, 3 of 22 wrong"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_confusion_matrix_normalized():
    ax = classes.confusion_matrix(TRUE, FOUND, normalize=True)
    assert texts(ax)[:5] == ["90.0", "10.0", "0", "25.0", "75.0"]
    assert ax.get_title().endswith("\npercent of each true class")


def test_confusion_matrix_of_many_classes_names_some_of_them():
    ax = classes.confusion_matrix(np.arange(100), np.arange(100))
    assert [t.get_text() for t in ax.get_xticklabels()] == [str(k) for k in range(0, 100, 2)]
    assert not texts(ax)


def test_confusion_matrix_orders_named_classes():
    ax = classes.confusion_matrix(["b", "a", "b"], ["b", "b", "b"], classes=["b", "c", "a"])
    assert texts(ax) == ["2", "0", "0", "0", "0", "0", "1", "0", "0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["b", "c", "a"]


def test_labels_that_no_font_has_are_drawn(tmp_path):
    names = ["\ud800", "\x1b[2J", "$\\frac{$", "a\n\tb"]
    ax = classes.confusion_matrix(np.array(names), np.array(names), names)
    ax.figure.savefig(tmp_path / "a.png")
    drawn = [t.get_text() for t in ax.get_xticklabels()]
    assert drawn == [r"\ud800", r"\x1b[2J", r"\$\frac{\$", "a b"]


def test_confusion_matrix_without_mistakes_has_no_scale_of_mistakes():
    ax = classes.confusion_matrix([0, 1], [0, 1])
    assert ax.get_title() == "100.00 % right, 0 of 2 wrong"
    assert len(ax.figure.axes) == 1
    assert len(classes.confusion_matrix(TRUE, FOUND).figure.axes) == 2


def test_labels_without_an_order_and_images_that_are_no_array_are_named():
    with pytest.raises(TypeError, match="found labels of type NoneType, str, which have no order"):
        classes.confusion_matrix(["a", None], ["a", "b"])
    classes.confusion_matrix(["a", None], ["a", "b"], classes=["a", "b", None])
    for images in SimpleNamespace(), iter([]):
        for draw in pictures.predictions, pictures.mistakes:
            with pytest.raises(TypeError, match="^x: found a .*, which is no array"):
                draw(np.eye(2), images, [0, 1])


def test_confusion_matrix_refuses_mismatched_arguments():
    with pytest.raises(ValueError, match="y_pred: found 1 labels for 2 true ones"):
        classes.confusion_matrix([0, 1], [0])
    with pytest.raises(ValueError, match="y_pred: found 0 labels"):
        classes.confusion_matrix([], [])
    with pytest.raises(ValueError, match="y_true: found 7, expected one of the classes"):
        classes.confusion_matrix([7, 0], [0, 1], classes=[0, 1])
    with pytest.raises(ValueError, match=r"y_pred: found shape \(3, 3\).*argmax"):
        classes.confusion_matrix([0, 1, 2], np.eye(3))
    assert classes.confusion_matrix(TRUE.reshape(-1, 1), FOUND) is not None


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
BY_SURENESS = (3, 2, 0, 1, 5, 4)


def tiles(ax) -> list[tuple]:
    return list(zip(ax.child_axes[::2], ax.child_axes[1::2], strict=True))


def colors(bars) -> list[str]:
    return [to_hex(bar.get_facecolor()).upper() for bar in bars.patches]


def test_predictions_show_images_truth_and_probabilities():
    ax = pictures.predictions(PROBABILITIES, IMAGES, LABELS)
    drawn = tiles(ax)
    assert ax.get_title() == "6 of 6 images, from surest to least sure"
    for row, (shown, _) in zip(BY_SURENESS, drawn, strict=True):
        np.testing.assert_array_equal(shown.get_images()[0].get_array(), IMAGES[row].reshape(3, 3))
    titles = [shown.get_title(loc="left") for shown, _ in drawn]
    assert titles[2] == "0 ✓"
    assert titles[3] == "2 taken for 1 ✗"

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
    assert shown.get_title(loc="left") == "caterpillar\ntaken for bee ✗"
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


def test_mistakes_with_names():
    names = np.array(["ant", "bee", "cat", "dog"])
    ax = pictures.mistakes(PROBABILITIES, IMAGES, names[LABELS], count=1, classes=names)
    assert tiles(ax)[0][0].get_title(loc="left") == "bee taken for ant ✗"


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
    np.testing.assert_allclose(sheet[:4, :4], weights[:, order[0]].reshape(4, 4))
    np.testing.assert_allclose(sheet[6:, :4], weights[:, order[2]].reshape(4, 4))
    assert np.isnan(sheet[4:6]).all()
    low, high = ax.get_images()[0].get_clim()
    assert low == -high
    assert ax.get_title() == "first layer, 4 of 5 units, largest weights"
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
    assert ax.figure.axes[-1].get_ylabel() == "weight: against – for the unit"


# --- As they look ---------------------------------------------------------------------------------


# Compared with the images in tests/plots/baseline, which were inspected. After an intended change:
#     pytest tests/plots/test_plots.py --mpl-generate-path=tests/plots/baseline
# and inspect them again.
#
# They contain no text. Letters differ between releases of matplotlib and FreeType, and move
# everything else: with text, two releases differ more (RMS 25 to 43) than two plots with different
# curves (RMS 5 to 30). The tests above check the text. Without text, matplotlib 3.7, 3.10 and 3.11
# draw identical curves; the edges of images drawn by imshow may be off by a pixel, hence a
# tolerance, and images without sharp edges.
def picture(tolerance: float) -> pytest.MarkDecorator:
    return pytest.mark.mpl_image_compare(
        style="default", backend="agg", tolerance=tolerance, savefig_kwargs={"dpi": 60}
    )


picture_of_curves, picture_of_images = picture(1), picture(12)


def wordless(ax) -> Figure:
    """Return the figure without text, and with everything else in its place."""
    figure = ax.figure
    figure.set_layout_engine("none")
    for axes in figure.findobj(Axes):
        axes.tick_params(which="both", **dict.fromkeys(SIDES, False))
        if axes.get_legend():
            axes.get_legend().set_visible(False)
    for text in figure.findobj(Text):
        text.set_visible(False)
    return figure


SIDES = ("labelleft", "labelright", "labelbottom", "labeltop")


def wave(n: int, fall: float, floor: float, phase: float = 0.0) -> list[float]:
    t = np.arange(1, n + 1)
    return (2.3 * np.exp(-t / fall) + floor + 0.02 * np.sin(9 * t + phase)).tolist()


def run_of(n: int, fall: float, floor: float) -> History:
    loss, validation = wave(n, fall, floor), wave(n, fall, floor + 0.05, 2.0)
    return history(
        loss=loss,
        accuracy=[1 - v / 3 for v in loss],
        validation_loss=validation,
        validation_accuracy=[1 - v / 3 for v in validation],
    )


PLACES = np.linspace(-1, 1, 20)
DIGITS = np.stack(
    [
        255 * np.exp(-3 * np.add.outer((PLACES - np.sin(k)) ** 2, (PLACES - np.cos(2 * k)) ** 2))
        for k in range(24)
    ]
).astype(np.uint8)
SHARES = np.abs(np.sin(1.0 + 2.3 * np.arange(24)[:, None] + np.arange(5) ** 2)) ** 3 + 0.01
SHARES /= SHARES.sum(axis=1, keepdims=True)
TRUTH = np.where(np.arange(24) % 3, SHARES.argmax(axis=1), np.arange(24) % 5)
LONG = np.array(["ant", "bumblebee & co", "a cat with a long name", "$dog$", "eel"])


@picture_of_curves
def test_picture_of_learning_curves():
    return wordless(curves.learning_curves(run_of(20, 5, 0.1))[0])


@picture_of_curves
def test_picture_of_a_comparison():
    runs = {f"run of {k}": run_of(15 + k, 2.0 + k, 0.05 * k + 0.1) for k in range(8)}
    return wordless(curves.comparison(runs)[0])


@picture_of_curves
def test_picture_of_norms():
    recorded = SimpleNamespace(
        sizes=(784, 64, 32, 10),
        updates=list(range(0, 100, 10)),
        weights=[wave(10, 8.0, 5.0 + k) for k in range(3)],
        gradients=[[10.0**-k * v for v in wave(10, 4.0, 0.1)] for k in range(3)],
    )
    return wordless(curves.norms(recorded)[0])


@picture_of_images
def test_picture_of_a_confusion_matrix():
    return wordless(classes.confusion_matrix(TRUE, FOUND))


@picture_of_images
def test_picture_of_confusion_rates():
    found = LONG[SHARES.argmax(axis=1)]
    return wordless(classes.confusion_matrix(LONG[TRUTH], found, LONG, normalize=True))


@picture_of_images
def test_picture_of_predictions():
    return wordless(pictures.predictions(SHARES, DIGITS, TRUTH, count=8))


@picture_of_images
def test_picture_of_mistakes():
    return wordless(pictures.mistakes(SHARES, DIGITS, LONG[TRUTH], count=6, classes=LONG))


@picture_of_images
def test_picture_of_first_layer_weights():
    x, y = np.meshgrid(np.arange(24), np.arange(16))
    fading = np.sin(np.pi * (x + 0.5) / 24) * np.sin(np.pi * (y + 0.5) / 16)
    waves = [fading * np.sin(k + x * k / 24 + y * (7 - k) / 24) for k in range(7)]
    weights = np.stack(waves).reshape(7, -1).T
    net = SimpleNamespace(weights=(weights,))
    return wordless(pictures.first_layer_weights(net, shape=(16, 24)))


def test_a_changed_curve_is_no_longer_the_picture(tmp_path):
    run = run_of(20, 5, 0.1)
    compared = []
    for share in (1.0, 0.9):
        records = [r._replace(validation_loss=share * r.validation_loss) for r in run]
        with style.for_files():
            figure = wordless(curves.learning_curves(History(records))[0])
            figure.savefig(tmp_path / "found.png", dpi=60)
        baseline = Path(__file__).parent / "baseline" / "test_picture_of_learning_curves.png"
        shutil.copy(baseline, tmp_path / "baseline.png")
        found = compare_images(tmp_path / "baseline.png", tmp_path / "found.png", tol=1)
        compared.append(found is None)
    assert compared == [True, False]


def test_pictures_are_compared_at_all(request):
    assert request.config.getoption("--mpl")


# --- Figures --------------------------------------------------------------------------------------


def run(code: str) -> str:
    done = python(code)
    assert done.returncode == 0, done.stderr
    return done.stdout


DRAW_AND_SAVE = """
import io, sys
import numpy as np
from pynn import plots
from pynn.training.history import History, Record
{before}
history = History([Record(1, 0.5), Record(2, 0.3)])
axes = history.plot()
import matplotlib, matplotlib.pyplot as plt
print(plt.gcf() is axes[0].figure, len(plt.get_fignums()), matplotlib.get_backend().lower())
file = io.BytesIO()
plt.savefig(file, format="rgba")
print(len(np.unique(np.frombuffer(file.getvalue(), "u1"))) > 10)
plt.close("all")
print(len(plt.get_fignums()))
"""


@pytest.mark.parametrize(
    ("before", "backend"),
    [
        ("", "agg"),
        ("import matplotlib.pyplot", "agg"),
        ("import matplotlib; matplotlib.use('svg')", "svg"),
        ("import matplotlib.pyplot as plt; plt.switch_backend('svg')", "svg"),
    ],
)
def test_pyplot_saves_a_plot_however_it_was_imported(before, backend):
    code = DRAW_AND_SAVE.format(before=before)
    done = python(code, environment={"MPLBACKEND": "agg"})
    assert done.stdout.split() == ["True", "1", backend, "True", "0"], done.stderr


def test_a_history_writes_a_file_without_pyplot(tmp_path):
    out = run(
        "import sys; from pynn.training.history import History, Record\n"
        f"axes = History([Record(1, 0.5)]).plot({str(tmp_path / 'a.svg')!r})\n"
        "print('matplotlib.pyplot' in sys.modules, len(axes))"
    )
    assert out.split() == ["False", "1"]
    assert (tmp_path / "a.svg").read_text().rstrip().endswith("</svg>")


def test_plots_are_drawn_in_a_dark_style():
    h = history(loss=[2.0, 1.0], validation_loss=[2.0, 1.5])
    (ax,) = curves.learning_curves(h, style="dark")
    paper = ax.get_facecolor()[:3]
    assert style.luminance(paper) < 0.02
    shown = [line.get_color() for line in ax.get_lines()]
    shown += [text.get_color() for text in ax.figure.findobj(Text) if text.get_text()]
    for color in (*shown, *style.DARK.colors, style.DARK.faint, style.DARK.grey):
        assert style.contrast(paper, to_rgb(color)) >= 4.5, color
    for color in (style.LIGHT.blue, style.LIGHT.faint):
        assert style.contrast((1, 1, 1), to_rgb(color)) >= 4.5
    assert style.contrast((1, 1, 1), to_rgb(style.ORANGE)) >= 3  # lines need less than text
    with pytest.raises(ValueError, match="style: found 'black', expected 'light', 'dark' or None"):
        curves.learning_curves(h, style="black")


def test_plots_follow_a_dark_background_of_the_user():
    import matplotlib.pyplot as plt

    h = history(loss=[2.0, 1.0])
    with plt.style.context("dark_background"):
        assert curves.learning_curves(h)[0].get_lines()[0].get_color() == style.DARK.blue
    dark = Figure(facecolor="black").add_subplot(facecolor="black")
    assert curves.learning_curves(h, dark)[0].get_lines()[0].get_color() == style.DARK.blue
    assert curves.learning_curves(h)[0].get_lines()[0].get_color() == style.BLUE


def test_figures_for_files_are_white_and_stay_away_from_pyplot():
    out = run(
        "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt\n"
        "from pynn import plots\n"
        "plt.style.use('dark_background'); plt.rcParams['font.family'] = ['serif']\n"
        "with plots.for_files():\n"
        "    ax = plots.confusion_matrix([0, 1], [1, 1])\n"
        "    print(plt.get_fignums(), ax.figure.get_facecolor(), plt.rcParams['font.family'])\n"
        "print(plt.rcParams['figure.facecolor'])"
    )
    assert out.splitlines() == ["[] (1.0, 1.0, 1.0, 1.0) ['serif']", "black"]


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'pynn-mlp\[plots\]'"):
        classes.confusion_matrix([0, 1], [0, 1])
