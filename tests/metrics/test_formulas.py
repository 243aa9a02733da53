"""The metrics of pynn, compared with scikit-learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from pynn.metrics.catalogue import METRICS, top
from pynn.metrics.measure import Measure, as_metrics
from pynn.metrics.rows import Rows

sk = pytest.importorskip("sklearn.metrics")

Array = np.ndarray


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Ignore scikit-learn's warnings about classes that are never predicted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def value(name: str, rows: Rows) -> float:
    metric = METRICS.get(name) or top(name, rows.n_classes)
    assert metric is not None
    return metric.of(rows)


def random_rows(classes: int, seed: int, n: int = 60, outputs: int = 0) -> Rows:
    """Return labels of ``classes`` classes with outputs that have many ties."""
    random = np.random.default_rng(seed)
    out = random.integers(1, 8, (n, outputs or classes)) / 8.0
    if (outputs or classes) > 1:
        out /= out.sum(axis=1, keepdims=True)
    y = random.integers(0, classes, n).astype(np.int32)
    return Rows("labels", y.astype(float).reshape(-1, 1) if outputs == 1 else y, out)


def weighed(rows: Rows, seed: int = 7) -> list[Rows]:
    weight = np.random.default_rng(seed).integers(0, 4, len(rows.out)).astype(float)
    return [rows, Rows(rows.kind, rows.y, rows.out, weight)]


def check(name: str, rows: Rows, expected: float) -> None:
    found = value(name, rows)
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-13, nan_ok=True), name


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_two_classes(outputs: int, seed: int) -> None:
    for rows in weighed(random_rows(2, seed, outputs=outputs)):
        y, predicted, w = rows.codes, rows.predicted, rows.weight
        p = rows.probabilities[:, 1]
        for name, function in (
            ("accuracy", sk.accuracy_score),
            ("balanced_accuracy", sk.balanced_accuracy_score),
            ("precision", sk.precision_score),
            ("recall", sk.recall_score),
            ("f1", sk.f1_score),
            ("mcc", sk.matthews_corrcoef),
        ):
            check(name, rows, function(y, predicted, sample_weight=w))
        for name, function in (
            ("auc", sk.roc_auc_score),
            ("average_precision", sk.average_precision_score),
            ("log_loss", sk.log_loss),
            ("cross_entropy", sk.log_loss),
            ("brier", sk.brier_score_loss),
        ):
            check(name, rows, function(y, p, sample_weight=w))


@pytest.mark.parametrize("seed", range(5))
def test_several_classes_some_without_rows_or_predictions(seed: int) -> None:
    base = random_rows(4, seed)
    out = base.out.copy()
    if seed % 2:
        out[:, 3] = 0  # never predicted
    y = np.where(base.y == 2, 1, base.y) if seed > 2 else base.y
    for rows in weighed(Rows("labels", y, out)):
        predicted, w = rows.predicted, rows.weight
        kept = np.ones(len(y), bool) if w is None else w > 0
        for name, function, more in (
            ("accuracy", sk.accuracy_score, {}),
            ("balanced_accuracy", sk.balanced_accuracy_score, {}),
            ("precision", sk.precision_score, {"average": "macro"}),
            ("recall", sk.recall_score, {"average": "macro"}),
            ("f1", sk.f1_score, {"average": "macro"}),
            ("f1_macro", sk.f1_score, {"average": "macro"}),
            ("mcc", sk.matthews_corrcoef, {}),
        ):
            weight = None if w is None else w[kept]
            check(name, rows, function(y[kept], predicted[kept], sample_weight=weight, **more))
        occur = [k for k in range(4) if (y == k).any()]
        for name, function in (
            ("auc", sk.roc_auc_score),
            ("average_precision", sk.average_precision_score),
        ):
            each = [function(y == k, out[:, k], sample_weight=w) for k in occur]
            check(name, rows, np.mean(each))
        one_hot = (y[:, None] == np.arange(4)).astype(float)
        check("brier", rows, np.average(((out - one_hot) ** 2).sum(axis=1), weights=w))
        check("log_loss", rows, sk.log_loss(y, out, sample_weight=w, labels=range(4)))


def test_the_k_largest_outputs() -> None:
    random = np.random.default_rng(3)
    y, out = random.integers(0, 6, 80).astype(np.int32), random.random((80, 6))
    for rows in weighed(Rows("labels", y, out)):
        for k in (1, 2, 5):
            expected = sk.top_k_accuracy_score(y, out, k=k, sample_weight=rows.weight)
            check(f"top_{k}", rows, expected)
    # Ties are resolved as predict does.
    ties = random_rows(5, 1)
    check("top_1", ties, value("accuracy", ties))
    with pytest.raises(ValueError, match="metrics: found 'top_5' for 5 classes, expected a number"):
        as_metrics("top_5", "labels", 5)


@pytest.mark.parametrize("seed", range(3))
def test_multi_label(seed: int) -> None:
    random = np.random.default_rng(seed)
    y, out = random.integers(0, 2, (40, 3)).astype(float), random.integers(0, 9, (40, 3)) / 8
    for rows in weighed(Rows("multilabel", y, out)):
        labels, predicted, w = y.astype(int), out > 0.5, rows.weight
        for name, function in (
            ("precision", sk.precision_score),
            ("recall", sk.recall_score),
            ("f1", sk.f1_score),
        ):
            check(name, rows, function(labels, predicted, average="macro", sample_weight=w))
        check("accuracy", rows, np.average((labels == predicted).mean(axis=1), weights=w))
        for name, function in (
            ("auc", sk.roc_auc_score),
            ("average_precision", sk.average_precision_score),
        ):
            check(name, rows, function(labels, out, sample_weight=w))
        each = [sk.log_loss(labels[:, k], out[:, k], sample_weight=w) for k in range(3)]
        check("log_loss", rows, np.mean(each))


@pytest.mark.parametrize("n_out", [1, 3])
def test_regression(n_out: int) -> None:
    random = np.random.default_rng(n_out)
    y = random.integers(-3, 4, (31, n_out)).astype(np.float64)
    y[:, -1] = 2.0  # constant
    out = y + random.integers(-2, 3, y.shape)
    for rows in weighed(Rows("values", y, out)):
        for name, function in (
            ("mae", sk.mean_absolute_error),
            ("mse", sk.mean_squared_error),
            ("rmse", sk.root_mean_squared_error),
            ("mape", sk.mean_absolute_percentage_error),
            ("r2", sk.r2_score),
            ("explained_variance", sk.explained_variance_score),
        ):
            check(name, rows, function(y, out, sample_weight=rows.weight))
    check("median_absolute_error", Rows("values", y, out), sk.median_absolute_error(y, out))
    perfect = Rows("values", y, y)
    assert value("r2", perfect) == value("explained_variance", perfect) == 1


@pytest.mark.parametrize("size", [1e150, 1e200, 1e308])
def test_metrics_of_large_values_do_not_overflow(size: float) -> None:
    y = np.array([[0.25], [0.5], [-1.0]])
    out = np.array([[0.5], [0.5], [-0.75]])
    small, large = Rows("values", y, out), Rows("values", size * y, size * out)
    for name in ("r2", "explained_variance"):
        assert value(name, large) == pytest.approx(value(name, small), rel=1e-12)
    assert value("rmse", large) == pytest.approx(size * value("rmse", small), rel=1e-12)
    assert value("mse", large) > 1e290  # or infinite, without a warning


def test_the_weighted_median_equals_that_of_repeated_rows() -> None:
    random = np.random.default_rng(0)
    for n in range(1, 12):
        y, out = np.zeros((n, 1)), random.integers(0, 6, (n, 1)).astype(float)
        weight = random.integers(0, 4, n).astype(float)
        weight[0] += 1
        repeated = np.repeat(out, weight.astype(int), axis=0)
        expected = float(np.median(np.abs(repeated)))
        check("median_absolute_error", Rows("values", y, out, weight), expected)


def test_the_area_is_exact_where_outputs_are_equal() -> None:
    y = np.array([0, 1, 0, 1, 1], np.int32)
    out = np.array([[0.5], [0.5], [0.5], [0.5], [0.75]])
    assert value("auc", Rows("labels", y[:, None].astype(float), out)) == (2 * 0.5 * 2 + 2) / 6
    # Counts whose product exceeds int64 and float64's integers.
    n = 1 << 20
    many = np.arange(n) % 2
    out = np.full((n, 1), 0.25, np.float32)
    assert value("auc", Rows("labels", many[:, None].astype(float), out)) == 0.5


def test_missing_targets_are_left_out() -> None:
    y = np.array([[1.0, np.nan], [3.0, 2.0], [np.nan, 4.0], [5.0, 1.0]])
    out = np.array([[1.5, 9.0], [3.0, 1.0], [9.0, 4.0], [3.0, 1.0]])
    rows = Rows("values", y, out, np.array([1.0, 2.0, 3.0, 1.0]))
    first = sk.mean_absolute_error([1, 3, 5], [1.5, 3, 3], sample_weight=[1, 2, 1])
    second = sk.mean_absolute_error([2, 4, 1], [1, 4, 1], sample_weight=[2, 3, 1])
    check("mae", rows, (first + second) / 2)
    # A function receives rows with all targets.
    seen = rows.all_known
    np.testing.assert_array_equal(seen.truth, y[[1, 3]])
    np.testing.assert_array_equal(seen.weight, [2, 1])


def test_undefined_values_are_nan_with_one_warning() -> None:
    warnings_ = []
    names = ["auc", "average_precision", "f1", "mcc"]
    measure = Measure(as_metrics(names, "labels", 1), warnings_.append)
    rows = Rows("labels", np.zeros((4, 1)), np.full((4, 1), 0.25))
    for _ in range(2):
        found = measure.of(rows)
        assert math.isnan(found["auc"])
        assert math.isnan(found["average_precision"])
        assert found["f1"] == found["mcc"] == 0
    assert len(warnings_) == 1
    assert warnings_[0].startswith("metrics: found NaN for auc, average_precision of 4 rows")
    assert math.isnan(Measure(as_metrics("r2", "values", 1), warnings_.append).of(
        Rows("values", np.ones((1, 1)), np.ones((1, 1))))["r2"])  # fmt: skip
    # Outputs that are not finite: no metric, and no error of a function.
    broken = Rows("labels", np.zeros((2, 1)), np.array([[0.5], [np.nan]]))
    assert all(map(math.isnan, measure.of(broken).values()))


def test_every_metric_says_whether_larger_is_better() -> None:
    codes = np.array([0, 1, 1], np.int32)
    out = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    values = np.array([[1.0], [2.0], [4.0]])
    for name, metric in METRICS.items():
        if "values" in metric.kinds:
            good, bad = Rows("values", values, values), Rows("values", values, values[::-1] + 0.5)
        else:
            good, bad = Rows("labels", codes, out), Rows("labels", codes, out[::-1])
        assert (metric.of(good) > metric.of(bad)) == metric.larger_is_better, name
        assert metric.function.__doc__, name


def test_weighted_shares_do_not_exceed_1() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 70))
        codes, weight = np.arange(n, dtype=np.int32) % 3, rng.random(n)
        rows = Rows("labels", codes, np.eye(3)[codes], weight)
        multi = Rows("multilabel", np.eye(3)[codes], np.eye(3)[codes], weight)
        for name in ("accuracy", "balanced_accuracy", "f1", "auc", "average_precision", "top_1"):
            found = [value(name, rows)] + ([] if name == "top_1" else [value(name, multi)])
            assert all(share > 1 - 1e-12 for share in found), name
            assert max(found) <= 1, (name, seed)
