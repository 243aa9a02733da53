"""The argument ``metrics``: names, functions, objects, and the names of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

import pynn
from pynn.metrics import scikit
from pynn.metrics.measure import Measure, as_metrics
from pynn.metrics.rows import Rows

LABELS = Rows(
    "labels",
    np.array([0, 2, 1, 2], np.int32),
    np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]),
    classes=np.array(["ant", "bee", "cat"]),
)
TWO = Rows(
    "labels",
    np.array([[0.0], [1.0], [1.0], [0.0]]),
    np.array([[0.2], [0.7], [0.4], [0.4]]),
    classes=np.array(["no", "yes"]),
)
MULTI = Rows("multilabel", np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.2, 0.7], [0.6, 0.4]]))
VALUES = Rows("values", np.array([[1.0], [2.0], [4.0]]), np.array([[1.5], [2.0], [3.0]]), flat=True)


def measured(metrics: object, rows: Rows) -> dict[str, float]:
    return Measure(as_metrics(metrics, rows.kind, rows.out.shape[1])).of(rows)


def test_functions_receive_what_predict_and_predict_proba_return() -> None:
    seen = []

    def look(y_true, y_pred):
        seen.append((y_true, y_pred))
        return 1

    metric = pynn.Metric("look_too", look, needs="probabilities")
    for rows in (LABELS, TWO, MULTI, VALUES):
        assert measured([look, metric], rows) == {"look": 1.0, "look_too": 1.0}
    assert [(y.tolist(), p.tolist()) for y, p in seen[:6]] == [
        (["ant", "cat", "bee", "cat"], ["ant", "cat", "ant", "cat"]),
        (["ant", "cat", "bee", "cat"], LABELS.out.tolist()),
        (["no", "yes", "yes", "no"], ["no", "yes", "no", "no"]),
        (["no", "yes", "yes", "no"], [[0.8, 0.2], [1 - 0.7, 0.7], [0.6, 0.4], [0.6, 0.4]]),
        ([[0, 1], [1, 1]], [[0, 1], [1, 0]]),
        ([[0, 1], [1, 1]], MULTI.out.tolist()),
    ]
    for y_true, y_pred in seen[6:]:
        np.testing.assert_array_equal(y_true, [1.0, 2.0, 4.0])
        np.testing.assert_array_equal(y_pred, [1.5, 2.0, 3.0])


def test_functions_receive_weights_if_they_take_them() -> None:
    def weighted(y_true, y_pred, sample_weight=None):
        return 0 if sample_weight is None else sample_weight.sum()

    def plain(y_true, y_pred):
        return len(y_true)

    weights = Rows(LABELS.kind, LABELS.y, LABELS.out, np.array([1.0, 2.0, 0.5, 0.0]))
    assert measured([weighted, plain], weights) == {"weighted": 3.5, "plain": 4}
    assert measured([weighted], LABELS) == {"weighted": 0}


def test_an_object_with_a_name_and_a_direction() -> None:
    class Worst:
        name, larger_is_better = "worst", False

        def __call__(self, y_true, y_pred):
            return np.abs(y_true - y_pred).max()

    (metric,) = as_metrics(Worst(), "values", 1)
    assert (metric.name, metric.larger_is_better) == ("worst", False)
    assert measured(Worst(), VALUES) == {"worst": 1.0}


@pytest.mark.parametrize(
    "given, kind, error, message",
    [
        ("ac", "labels", ValueError, "metrics: found 'ac', expected one of accuracy, bal"),
        ("recal", "labels", ValueError, "did you mean 'recall'"),
        ("auc", "values", ValueError, "metrics: found 'auc' for regression, expected one of mae"),
        ("r2", "multilabel", ValueError, "'r2' for multi-label targets, expected one of accuracy"),
        (["f1", "f1"], "labels", ValueError, "metrics: found 'f1' twice, expected different names"),
        (lambda y, p: 1, "labels", ValueError, "metrics: found <function .*> without a name"),
        (3, "labels", TypeError, "metrics: found 3, expected names, functions"),
        (pynn.Network, "labels", TypeError, "metrics: found <class .*expected names, functions"),
    ],
)
def test_refused_metrics(given, kind, error, message) -> None:
    with pytest.raises(error, match=message):
        as_metrics(given, kind, 3)


def test_refused_functions() -> None:
    def seconds(y_true, y_pred):
        return "soon"

    def one(y):
        return 1

    with pytest.raises(ValueError, match="metrics: found a function named 'seconds', a name that"):
        as_metrics(seconds, "labels", 3, taken=["seconds"])
    with pytest.raises(TypeError, match="metrics: found str from seconds, expected a number"):
        measured(seconds, LABELS)
    with pytest.raises(TypeError, match="metrics: one: found <function .*two arguments"):
        as_metrics(one, "labels", 3)
    with pytest.raises(ValueError, match=r"Metric.name: found 'a b', expected letters"):
        pynn.Metric("a b", seconds)
    with pytest.raises(ValueError, match=r"Metric.needs: found 'labels', expected one of classes"):
        pynn.Metric("a", seconds, needs="labels")
    with pytest.raises(TypeError, match=r"Metric.larger_is_better: found 'no', expected True"):
        pynn.Metric("a", seconds, larger_is_better="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Metric.function: found 3, expected a function"):
        pynn.Metric("a", 3)  # type: ignore[arg-type]


def test_scorers_and_functions_of_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    names = ["f1_macro", "neg_log_loss", "roc_auc_ovr", "cohen_kappa_score", "hamming_loss"]
    weighed = Rows(LABELS.kind, LABELS.y, LABELS.out, np.arange(4.0) + 1, LABELS.classes)
    for rows in (LABELS, weighed):
        y, predicted, w = rows.truth, rows.predictions, rows.weight
        assert measured(names, rows) == pytest.approx(
            {
                "f1_macro": sk.f1_score(y, predicted, average="macro", sample_weight=w),
                "neg_log_loss": -sk.log_loss(y, rows.out, sample_weight=w),
                "roc_auc_ovr": sk.roc_auc_score(y, rows.out, multi_class="ovr", sample_weight=w),
                "cohen_kappa_score": sk.cohen_kappa_score(y, predicted, sample_weight=w),
                "hamming_loss": sk.hamming_loss(y, predicted, sample_weight=w),
            }
        )
    p = TWO.out[:, 0]
    assert measured(["roc_auc", "roc_auc_score", "neg_brier_score"], TWO) == pytest.approx(
        {
            "roc_auc": sk.roc_auc_score(TWO.codes, p),
            "roc_auc_score": sk.roc_auc_score(TWO.codes, p),
            "neg_brier_score": -sk.brier_score_loss(TWO.codes, p),
        }
    )
    assert measured("jaccard_macro", MULTI)["jaccard_macro"] == sk.jaccard_score(
        MULTI.truth, MULTI.predictions, average="macro"
    )
    assert measured(["max_error", "neg_median_absolute_error"], VALUES) == {
        "max_error": 1.0,
        "neg_median_absolute_error": -0.5,
    }
    larger = [metric.larger_is_better for metric in as_metrics(names, "labels", 3)]
    assert larger == [True, True, True, True, False]
    for name in ("make_scorer", "RocCurveDisplay", "fbeta_score", "silhouette_score"):
        with pytest.raises(ValueError, match=f"metrics: found '{name}', expected one of"):
            as_metrics(name, "labels", 3)


def test_other_names_need_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scikit, "is_installed", lambda: False)
    with pytest.raises(ValueError, match="found 'f1_weighted'.*need scikit-learn, which is"):
        as_metrics("f1_weighted", "labels", 3)


def test_functions_need_a_row_whose_targets_are_all_known() -> None:
    def worst(y_true, y_pred):
        return np.abs(y_true - y_pred).max()

    y = np.array([[1.0, np.nan], [np.nan, 2.0]])
    rows = Rows("values", y, np.ones((2, 2)))
    for metric in as_metrics([worst, "max_error", "neg_mean_squared_error"], "values", 2):
        with pytest.raises(ValueError, match=f"found '{metric.name}' and no row among 2 whose tar"):
            metric.check(rows)
    (mae,) = as_metrics("mae", "values", 2)
    mae.check(rows)
    assert mae.of(rows) == 0.5


def test_what_scikit_learn_does_not_define_is_an_error_before_training_or_nan() -> None:
    pytest.importorskip("sklearn")
    (metric,) = as_metrics("mean_gamma_deviance", "values", 1)
    with pytest.raises(ValueError, match="found 'mean_gamma_deviance', which scikit-learn does no"):
        metric.check(Rows("values", np.array([[1.0], [-1.0]]), np.ones((2, 1))))

    found = []
    good = Rows("values", np.array([[1.0], [2.0]]), np.array([[1.5], [2.0]]))
    bad = Rows("values", good.y, np.array([[-1.0], [2.0]]))
    metric.check(good)
    measure = Measure([metric], found.append)
    values = [measure.of(rows)["mean_gamma_deviance"] for rows in (bad, good, bad)]
    assert [np.isnan(value) for value in values] == [True, False, True]
    assert len(found) == 1
    assert found[0].startswith("metrics: found NaN for mean_gamma_deviance of 2 rows, expected a ")
    # A label that no row has is a matter of the rows, not of the predictions.
    (loss,) = as_metrics("neg_log_loss", "labels", 3)
    with pytest.raises(ValueError, match="which scikit-learn does not define for these 2 rows"):
        loss.check(Rows("labels", np.zeros(2, np.int32), np.full((2, 3), 1 / 3)))


def test_nan_from_a_function_warns_once() -> None:
    found = []

    def lost(y_true, y_pred):
        return np.nan

    measure = Measure(as_metrics(lost, "labels", 3), found.append)
    for _ in range(2):
        assert np.isnan(measure.of(LABELS)["lost"])
    assert found == ["metrics: found NaN for lost of 4 rows, expected a number"]
