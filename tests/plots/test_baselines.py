"""Plots look like the images in ``baseline``."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pynn.plots import classes, curves, pictures, reliability, style, values

pytest.importorskip("matplotlib")
pytest.importorskip("pytest_mpl")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

from pynn.training.history import History
from tests.plots.shared import history


# Compared with the images in tests/plots/baseline, which were inspected. After an intended change:
#     pytest tests/plots/test_baselines.py --mpl-generate-path=tests/plots/baseline
# and inspect them again.
#
# They contain no text. Letters differ between releases of matplotlib and FreeType, and move
# everything else: with text, two releases differ more (RMS 25 to 43) than two plots with different
# curves (RMS 5 to 30). The tests above check the text. Without text, matplotlib 3.7, 3.10 and 3.11
# draw identical curves; the edges of images drawn by imshow may be off by a pixel, hence a
# tolerance, and images without sharp edges.
def picture(tolerance: float) -> pytest.MarkDecorator:
    return pytest.mark.mpl_image_compare(
        style="default", backend="agg", tolerance=tolerance, savefig_kwargs={"dpi": 50}
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


@picture_of_curves
def test_picture_in_a_dark_style():
    run = run_of(20, 5, 0.1)
    run.restored_epoch = 12
    return wordless(curves.learning_curves(run, style="dark")[0])


def values_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    true = 20 * np.sin(np.arange(n)) + 50
    return true, 0.8 * true + 12 + 4 * np.sin(7.0 * np.arange(n))


@picture_of_curves
def test_picture_of_predicted_against_true_values():
    return wordless(values.predicted_against_true(*values_of(80)))


@picture_of_curves
def test_picture_of_residuals():
    return wordless(values.residuals(*values_of(80), style="dark"))


@picture_of_curves
def test_picture_of_an_error_histogram():
    return wordless(values.error_histogram(*values_of(80)))


@picture_of_curves
def test_picture_of_a_calibration_curve():
    return wordless(reliability.calibration(TRUTH, SHARES, bins=5))


@picture_of_curves
def test_picture_of_a_range_test():
    rates = np.geomspace(1e-5, 1, 60)
    smoothed = 2 - 1.5 * np.exp(-((np.log10(rates) + 1.5) ** 2))
    losses = smoothed + 0.05 * np.sin(9 * np.arange(60))
    found = SimpleNamespace(rates=rates, losses=losses, smoothed=smoothed, suggestion=0.01)
    return wordless(curves.learning_rates(found))


TRUE = np.repeat([0, 1, 2], [10, 8, 4])
FOUND = np.array([0] * 9 + [1] + [1] * 6 + [0] * 2 + [2] * 4)


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
            figure.savefig(tmp_path / "found.png", dpi=50)
        baseline = Path(__file__).parent / "baseline" / "test_picture_of_learning_curves.png"
        shutil.copy(baseline, tmp_path / "baseline.png")
        found = compare_images(tmp_path / "baseline.png", tmp_path / "found.png", tol=1)
        compared.append(found is None)
    assert compared == [True, False]


def test_pictures_are_compared_at_all(request):
    assert request.config.getoption("--mpl")
