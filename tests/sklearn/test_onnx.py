"""Estimators that skl2onnx and emlearn convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.ensemble import VotingClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pynn
from pynn.sklearn import MLPClassifier, MLPRegressor, register_onnx
from pynn.spec.names import ACTIVATIONS

Array = np.ndarray

RNG = np.random.default_rng(3)
X = RNG.normal(size=(24, 4)) * [1, 10, 100, 1]
CLASS = np.arange(24) % 3
MANY = np.stack([CLASS > 0, X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def converted(model: Any, x: Array, **settings: Any) -> list[Any]:
    """The outputs of a fitted model, converted and run."""
    skl2onnx = pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    register_onnx()
    found = skl2onnx.to_onnx(model, x[:1], **settings)
    onnx.checker.check_model(found, full_check=True)
    providers = ["CPUExecutionProvider"]
    session = runtime.InferenceSession(found.SerializeToString(), providers=providers)
    return session.run(None, {"X": x})


def check_classifier(model: Any, x: Array) -> None:
    label, probabilities = converted(model, x, options={"zipmap": False})
    expected = model.predict_proba(x)
    assert probabilities.dtype == x.dtype
    assert probabilities.shape == expected.shape
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert label.shape == model.predict(x).shape
    assert label.tolist() == model.predict(x).tolist()


def check_regressor(model: Any, x: Array) -> None:
    (found,) = converted(model, x)
    expected = model.predict(x)
    assert found.shape == (len(x), expected.size // len(x))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5 * scale)


def small(kind: Any = MLPClassifier, **settings: Any) -> Any:
    return kind(**{"hidden_layer_sizes": (5,), "random_state": 0, "max_iter": 3, **settings})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_classifiers(dtype: str) -> None:
    x = X.astype(dtype)
    for y in (CLASS, CLASS > 0, np.array(["ä", "b", "c"])[CLASS], CLASS % 2 * 5 - 3, MANY):
        check_classifier(small().fit(x, y), x)
    check_classifier(small(dtype="float32").fit(X, CLASS), x)
    check_classifier(make_pipeline(StandardScaler(), small()).fit(x, CLASS), x)
    both = VotingClassifier([("a", small()), ("b", small(random_state=1))], voting="soft")
    both.set_params(flatten_transform=False)
    check_classifier(both.fit(x, CLASS), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations(dtype: str) -> None:
    x = X.astype(dtype)
    for k in range(0, len(ACTIVATIONS), 3):
        names = ACTIVATIONS[k : k + 3]
        settings: Any = {"hidden_layer_sizes": [5] * len(names), "activation": names}
        check_regressor(small(MLPRegressor, **settings).fit(x, x[:, :2]), x)
    chosen = [pynn.LeakyReLU(0.2), pynn.ELU(0.5), pynn.Softplus(2.0)]
    settings = {"hidden_layer_sizes": [5] * 3, "activation": chosen}
    check_classifier(small(**settings).fit(x, CLASS), x)


def test_regressors() -> None:
    y = np.abs(X[:, 0])
    for loss in ("squared_error", "poisson", "absolute_error", "huber", "quantile"):
        check_regressor(small(MLPRegressor, loss=loss).fit(X, y), X)
    check_regressor(make_pipeline(StandardScaler(), small(MLPRegressor)).fit(X, y), X)
    check_regressor(MultiOutputRegressor(small(MLPRegressor)).fit(X, X[:, :2]), X)


def test_forms_of_probabilities() -> None:
    x = X.astype("f4")
    model = small().fit(x, np.array(["a", "b", "c"])[CLASS])
    expected = model.predict_proba(x)
    _, maps = converted(model, x)
    assert [*maps[0]] == ["a", "b", "c"]
    np.testing.assert_allclose([[*row.values()] for row in maps], expected, atol=1e-5)
    _, *columns = converted(model, x, options={"zipmap": "columns"})
    np.testing.assert_allclose(np.stack(columns, axis=1), expected, atol=1e-5)
    _, _, classes = converted(model, x, options={"zipmap": False, "output_class_labels": True})
    assert classes.tolist() == ["a", "b", "c"]
    label, _ = converted(model, x, options={"zipmap": False, "nocl": True})
    assert label.tolist() == expected.argmax(axis=1).tolist()
    _, maps = converted(small().fit(x, MANY), x)
    assert len(maps[0]) == 3
    label, _ = converted(model, x, options={"zipmap": False}, target_opset=15)
    assert label.tolist() == model.predict(x).tolist()
    assert converted(model, x[:0], options={"zipmap": False})[1].shape == (0, 3)


def test_refused_models() -> None:
    with pytest.raises(ValueError, match="target_opset: found 13, expected 14 or more"):
        converted(small().fit(X, CLASS), X, target_opset=13)


def test_emlearn_converts_classifiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emlearn = pytest.importorskip("emlearn")
    monkeypatch.chdir(tmp_path)  # where emlearn writes a folder
    for y in (CLASS, CLASS % 2):
        for activation in ("identity", "relu", "tanh", "logistic"):
            model = small(hidden_layer_sizes=(5, 4), activation=activation).fit(X, y)
            found = emlearn.convert(model, method="inline").predict(X)
            assert np.ravel(found).tolist() == model.predict(X).tolist()
    with pytest.raises(ValueError, match="gelu"):
        emlearn.convert(small(activation="gelu").fit(X, CLASS), method="inline")
