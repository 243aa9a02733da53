"""Plots show the data that they are given."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest

from pynn.plots import classes, curves, pictures, style

pytest.importorskip("matplotlib")
pytest.importorskip("pytest_mpl")

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import pynn
from pynn.metrics.catalogue import METRICS
from pynn.training.history import History, Record
from tests.plots.shared import history, texts

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


@pytest.mark.parametrize("values", [(6.1, 8.9), (0.011, 0.018), (5.0, 5.0)])
def test_norms_within_a_decade_have_labels(values):
    recorded = SimpleNamespace(sizes=(5, 4), updates=[0, 7], weights=[values], gradients=[values])
    for ax in curves.norms(recorded):
        ax.figure.canvas.draw()
        low, high = ax.get_ylim()
        both = (False, True)
        shown = [
            text.get_text()
            for minor in both
            for place, text in zip(
                ax.get_yticks(minor=minor), ax.get_yticklabels(minor=minor), strict=True
            )
            if low <= place <= high and text.get_text()
        ]
        assert len(shown) >= 2


def test_norms_refuse_an_empty_record():
    with pytest.raises(ValueError, match="norms: found nothing recorded"):
        curves.norms(pynn.Norms(np.zeros((1, 2)), [0]))


def test_directions_are_those_of_the_catalogue():
    for name, metric in METRICS.items():
        assert curves.larger_is_better(name) == metric.larger_is_better
    assert curves.larger_is_better("neg_mae")
    assert not curves.larger_is_better("my_error")


# --- Confusion matrix -----------------------------------------------------------------------------

TRUE = np.repeat([0, 1, 2], [10, 8, 4])
FOUND = np.array([0] * 9 + [1] + [1] * 6 + [0] * 2 + [2] * 4)


def test_confusion_matrix_shows_counts_and_rates():
    ax = classes.confusion_matrix(TRUE, FOUND)
    assert texts(ax)[:9] == ["9", "1", "0", "2", "6", "0", "0", "0", "4"]
    right, wrong = (image.get_array().filled(np.nan) for image in ax.get_images())
    np.testing.assert_allclose(np.diag(right), [0.9, 0.75, 1.0])
    np.testing.assert_allclose([wrong[0, 1], wrong[1, 0], wrong[0, 2]], [0.1, 0.25, 0.0])
    assert np.isnan([right[0, 1], wrong[0, 0]]).all()
    # The worst mistake has the strongest orange.
    assert ax.get_images()[1].get_clim() == (0, 0.25)
    assert ax.get_title() == "86.36 % right, 3 of 22 wrong"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "share of row"


def test_a_few_mistakes_have_a_pale_colour():
    true = np.repeat(np.arange(6), 100)
    found = true.copy()
    found[0] = 1
    ax = classes.confusion_matrix(true, found)
    assert ax.get_images()[1].get_clim() == (0, 0.05)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "share of the row"
    # It is as tall as the matrix.
    ax.figure.draw_without_rendering()
    to_pixels = ax.transData.transform
    ends = [to_pixels((0, 5.5))[1], to_pixels((0, -0.5))[1]]
    np.testing.assert_allclose(bar.get_window_extent().intervaly, ends, rtol=0.02)


def test_margins_of_a_confusion_matrix():
    ax = classes.confusion_matrix(np.repeat(TRUE, 100), np.repeat(FOUND, 100), [0, 1, 2, 3])
    assert texts(ax)[:3] == ["900", "100", "0"]
    assert texts(ax)[16:19] == ["rows", "recall", "precision"]
    margins = [texts(ax)[19 + 3 * k : 22 + 3 * k] for k in range(4)]
    assert margins == [
        ["1,000", "90.0 %", "81.8 %"], ["800", "75.0 %", "85.7 %"],
        ["400", "100 %", "100 %"], ["0", "–", "–"],
    ]  # fmt: skip
    # Nearly all is not all.
    ax = classes.confusion_matrix([0] * 9999 + [1], [0] * 10000)
    assert "> 99.9 %" not in texts(ax)
    assert "9,999" in texts(ax)
    assert "99.9 %" in texts(ax)


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("normalize", [False, True])
def test_numbers_of_a_confusion_matrix_are_readable(name, normalize):
    true = np.repeat(np.arange(12), 60)
    # Every shade from 0 to 1.
    found = np.where(np.arange(720) % 60 < 5 * true, true, (true + 1) % 12)
    ax = classes.confusion_matrix(true, found, normalize=normalize, style=name)
    right, wrong = ax.get_images()
    paper = ax.get_facecolor()[:3]
    for text in ax.texts:
        column, row = (round(v) for v in text.get_position())
        behind = paper
        if 0 <= row < 12 and 0 <= column < 12:
            image = right if row == column else wrong
            behind = image.cmap(image.norm(image.get_array()[row, column]))[:3]
        assert style.contrast(behind, to_rgb(text.get_color())) >= 4.5, text.get_text()


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
    assert texts(ax)[:9] == ["2", "0", "0", "0", "0", "0", "1", "0", "0"]
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
    assert not ax.child_axes
    assert len(classes.confusion_matrix(TRUE, FOUND).child_axes) == 1


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
