"""Errors about sample weights, class weights and missing targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn

X = np.random.default_rng(0).normal(size=(6, 2))
LABELS = np.array([0, 1, 1, 0, 1, 1])
NAN = np.nan


def network(n_out: int = 2, loss: str = "cross_entropy", **more: Any) -> pynn.Network:
    return pynn.Network([2, n_out], loss=loss, backend="numpy", **more)


@pytest.mark.parametrize(
    "given, message",
    [
        (np.ones((6, 2)), r"found shape \(6, 2\), expected \(rows,\), one weight for each row"),
        (2.0, r"found shape \(\), expected \(rows,\)"),
        (np.ones(5), "found 5 rows, expected 6, as many as x has"),
        ([1, 1, -1, 1, 1, 1], r"found -1.0 at row 2 \(counted from 0\), expected weights of 0, or"),
        ([1, NAN, 1, 1, 1, 1], "found nan at row 1"),
        ([1, 1, 1, 1, 1, np.inf], "found inf at row 5"),
        ([1, 1, 1, 1, 1, 1e-200], "found 1e-200 at row 5"),
        (np.zeros(6), "found no weight above 0 among 6 rows, expected one at least"),
        (list("abcdef"), "found text"),
    ],
)
def test_sample_weights_that_do_not_fit(given: Any, message: str) -> None:
    net = network()
    before = net.parameters.copy()
    for name, call in {
        "sample_weight": lambda: net.fit(X, LABELS, sample_weight=given),
        r"validation\[2\]": lambda: net.fit(X, LABELS, validation=(X, LABELS, given)),
        "^sample_weight": lambda: net.evaluate(X, LABELS, sample_weight=given),
    }.items():
        said = message.replace(" x has", r" (x|validation\[0\]) has")
        with pytest.raises((TypeError, ValueError), match=f"{name}: {said}"):
            call()
    assert (net.parameters == before).all()


@pytest.mark.parametrize(
    "given, message",
    [
        ("even", "class_weight: found 'even', expected None, 'balanced' or a dict of labels"),
        ([1, 2], "class_weight: found .*, expected None, 'balanced' or a dict"),
        ({0: 1, 2: 3}, "class_weight: found the label 2, expected labels among the classes 0, 1"),
        ({0: -1}, r"class_weight\[0\]: found -1, expected a number"),
        ({np.int64(1): NAN}, r"class_weight\[1\]: found nan, expected a number"),
        ({0: 0, 1: 0}, "sample_weight, class_weight: found no weight above 0 among 6 rows"),
    ],
)
def test_class_weights_that_do_not_fit(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        network().fit(X, LABELS, class_weight=given)


@pytest.mark.parametrize(
    "n_out, loss, y, found",
    [
        (1, "mse", X[:, 0], "regression"),
        (3, "binary_cross_entropy", np.eye(3)[[0, 1, 2, 0, 1, 2]] + np.eye(3)[0], "multi-label"),
        (2, "cross_entropy", np.full((6, 2), 0.5), "probabilities"),
        (1, "binary_cross_entropy", np.full(6, 0.5), "probabilities"),
    ],
)
def test_class_weights_need_labels(n_out: int, loss: str, y: Any, found: str) -> None:
    y = np.minimum(y, 1) if found == "multi-label" else y
    for given in ("balanced", {0: 2.0}):
        with pytest.raises(ValueError, match=f"class_weight: found .* with targets for {found}"):
            network(n_out, loss).fit(X, y, class_weight=given)


def test_missing_targets_are_errors_unless_they_are_ignored() -> None:
    y = X.copy()
    y[3, 1] = NAN
    for loss, targets in {
        "mse": y,
        "binary_cross_entropy": np.where(np.isnan(y), NAN, y > 0),
        "poisson": abs(y),
    }.items():
        net = network(2, loss)
        with pytest.raises(ValueError, match=r"y: found nan at row 3, column 1"):
            net.fit(X, targets, progress=False)
        with pytest.raises(ValueError, match=r"y: found nan at row 3, column 1"):
            net.evaluate(X, targets)
        net.fit(X, targets, missing_targets="ignore", progress=False)
        with pytest.raises(ValueError, match=r"validation\[1\]: found nan at row 3"):
            net.fit(X, np.nan_to_num(targets), validation=(X, targets))
        with pytest.raises(ValueError, match="y: found inf at row 0, column 0"):
            net.fit(X, np.where(X[0, 0] == X, np.inf, targets), missing_targets="ignore")
        with pytest.raises(ValueError, match="y: found no target that is not nan"):
            net.fit(X, targets * NAN, missing_targets="ignore")
    with pytest.raises(ValueError, match="missing_targets: found 'drop', expected one of error, i"):
        network().fit(X, LABELS, missing_targets="drop")
    only = np.arange(6) == 3
    with pytest.raises(
        ValueError, match="sample_weight: found no weight above 0 among 6 rows with"
    ):
        net.fit(
            X, np.where(only[:, None], NAN, abs(X)), missing_targets="ignore", sample_weight=only
        )


@pytest.mark.parametrize(
    "n_out, loss, y, message",
    [
        (2, "cross_entropy", [[NAN, 1]] + [[0.5, 0.5]] * 5, "row 0, column 0 .*output softmax"),
        (2, "cross_entropy", [1, 1, NAN, 0, 0, 0], "found nan at row 2"),
        (1, "binary_cross_entropy", [1, 1, NAN, 0, 0, 0], "found nan at row 2"),
    ],
)
def test_targets_of_classes_must_not_be_missing(
    n_out: int, loss: str, y: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(n_out, loss).fit(X, y, missing_targets="ignore")
    softmax = pynn.Network([2, 2], loss="mse", output="softmax", backend="numpy")
    with pytest.raises(ValueError, match="output softmax"):
        softmax.fit(X, np.where(X > 1, NAN, X), missing_targets="ignore")


def test_missing_targets_of_objects_and_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    y = np.where(abs(X) > 0.7, NAN, X)
    objects = [[None if np.isnan(v) else v for v in row] for row in y.tolist()]
    frame = pandas.DataFrame(y).astype("Float64")
    frame[frame.isna()] = pandas.NA
    fitted = []
    for targets in (y, objects, frame):
        net = network(2, "mse")
        net.fit(X, targets, missing_targets="ignore", progress=False)
        fitted.append(net.parameters.tobytes())
    assert fitted[0] == fitted[1] == fitted[2]
    flat = network(1, "mse")
    flat.fit(X, frame[0], missing_targets="ignore", progress=False)
    assert flat.predict(X).shape == (6,)


def test_class_weights_from_a_series() -> None:
    pd = pytest.importorskip("pandas")
    net, x, y = network(), np.eye(2), np.array([0, 1])
    found = net.loss_and_gradient(x, y, class_weight=pd.Series({1: 3.0, 0: 0.5}))
    expected = net.loss_and_gradient(x, y, class_weight={0: 0.5, 1: 3.0})
    assert found[0] == expected[0]
    twice = pd.Series([1.0, 2.0], index=[1, 1])
    with pytest.raises(ValueError, match="class_weight: found a label twice in the index"):
        net.fit(x, y, class_weight=twice)


def test_remedies_for_labels_that_are_missing_and_rows_with_several_classes() -> None:
    x, several = np.eye(3, 2), np.array([[1, 1], [1, 0], [0, 1]])
    for n_out, loss in ((1, "binary_cross_entropy"), (2, "cross_entropy"), (2, "focal")):
        with pytest.raises(ValueError, match="y: found nan at row 1 .*, expected a label in each"):
            network(n_out, loss).fit(x, np.array([0, np.nan, 1]), missing_targets="ignore")
    for loss, remedy in (
        *(("cross_entropy", "use loss='binary_cross_entropy'"), ("focal", "use output='sigmoid'")),
    ):
        with pytest.raises(ValueError, match=f"for a yes or no in each column {remedy}"):
            network(2, loss).fit(x, several)
