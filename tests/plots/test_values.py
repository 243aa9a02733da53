"""Calibration, and plots of a regression."""

from __future__ import annotations

import numpy as np
import pytest

from pynn.plots import calibration, error_histogram, predicted_against_true, residuals
from pynn.plots.reliability import calibration_of

pytest.importorskip("matplotlib")

TRUE, FOUND = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.5, 2.0, 2.0, 6.5])
NAN = float("nan")


def test_calibration_of_two_classes_is_that_of_the_second():
    shares = np.array([0.1, 0.15, 0.85, 0.95, 1.0])
    found = calibration_of(["a", "b", "b", "b", "a"], shares, ["a", "b"], bins=5)
    np.testing.assert_allclose(found.predicted, [0.125, 2.8 / 3])
    np.testing.assert_allclose(found.observed, [0.5, 2 / 3])
    assert found.rows.tolist() == [2, 3]
    assert found.error == pytest.approx((2 * 0.375 + 3 * (2.8 / 3 - 2 / 3)) / 5)
    table = np.stack([1 - shares, shares], axis=1)
    again = calibration_of([0, 1, 1, 1, 0], table, bins=5)
    assert again.error == found.error


def test_calibration_of_many_classes_is_that_of_the_predicted_one():
    table = np.array([[0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.3, 0.3, 0.4]])
    ax = calibration([0, 0, 2], table)
    exact, line = ax.get_lines()
    np.testing.assert_allclose(exact.get_ydata(), [0, 1])
    np.testing.assert_allclose(line.get_xdata(), [0.4, 0.8, 0.9])
    np.testing.assert_allclose(line.get_ydata(), [1, 1, 0])
    assert ax.get_xlabel() == "predicted probability of the predicted class"
    assert ax.get_title() == "calibration error 57 %"
    ax = calibration([0, 0, 1], table)
    assert ax.get_title() == "calibration error 50 %, overconfident"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], np.eye(2)), r"probabilities: found shape \(2, 2\) for 1 labels"),
        (([0, 1], 2 * np.eye(2)), "probabilities: found rows that are not in"),
        (([0, 1], NAN * np.eye(2)), "probabilities: found rows that are not in"),
        (([0, 7], np.eye(2)), "y_true: found 7, expected one of the classes"),
        ((["b", "a"], np.eye(2)), "found 'a', .* are 0 to 1 without classes=net.classes"),
        (([0, 7], np.eye(2), [0, 1]), "y_true: found 7, expected one of the classes$"),
        (([0, 1], np.eye(2), None, 0), "bins: found 0"),
    ],
)
def test_calibration_refuses_mismatched_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibration(*arguments)


def test_predicted_against_true_values():
    ax = predicted_against_true(TRUE, FOUND[:, None])
    exact, points = ax.get_lines()
    np.testing.assert_array_equal(points.get_xydata(), np.stack([TRUE, FOUND], axis=1))
    np.testing.assert_array_equal(exact.get_xydata(), [[1, 1], [6.5, 6.5]])
    assert ax.get_title() == "R² 0.893, MAE 0.5, 4 rows"


def test_residuals_and_their_histogram():
    _, points = residuals(TRUE, FOUND).get_lines()
    np.testing.assert_array_equal(points.get_xydata()[:, 1], [-0.5, 0, 1, -0.5])
    ax = error_histogram([*TRUE, NAN], [*FOUND, 1.0])
    assert sum(bar.get_height() for bar in ax.patches) == 4
    assert ax.get_title() == "mean 0, deviation 0.612"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.eye(2), np.eye(2)), r"y_true: found shape \(2, 2\), expected \(n,\)"),
        ((["low", "high"], [1, 2]), "y_true: found values such as 'low', expected numbers"),
        (([1, 2], [1]), "y_pred: found 1 values for 2 true ones"),
        (([1.0, NAN], [NAN, 2.0]), "y_true: found no row with finite values"),
    ],
)
def test_plots_of_values_refuse_mismatched_arguments(arguments, message):
    for draw in predicted_against_true, residuals, error_histogram:
        with pytest.raises(ValueError, match=message):
            draw(*arguments)
