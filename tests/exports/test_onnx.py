"""Networks as ONNX files, against ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from tests.exports import cases
from tests.exports.cases import network

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

Array = np.ndarray
GROUPS = cases.groups()


def open_model(path: Path) -> Any:
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(model: Any, **inputs: Array) -> dict[str, Array]:
    """The outputs by name of a model or of the file of one."""
    session = open_model(model) if isinstance(model, Path) else model
    names = [output.name for output in session.get_outputs()]
    for name, found in zip(names, session.get_outputs(), strict=True):
        assert found.shape[0] == "rows", name
    return dict(zip(names, session.run(names, inputs), strict=True))


def as_exported(net: pynn.Network) -> Array:
    x = cases.rows_for(net)
    wide = net._model.standardize and x.dtype != np.uint8
    return x.astype("float64") if wide else x


def same(found: Array, expected: Array, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = max(1.0, float(np.abs(expected).max()))
    assert float(np.abs(found - expected).max()) <= tolerance * scale


def check(net: pynn.Network, found: dict[str, Array], x: Array, tolerance: float = 1e-5) -> None:
    if cases.distribution(net):
        for part, expected in zip(("mean", "deviation"), net.predict_distribution(x), strict=True):
            same(found[part], expected, tolerance)
    elif net._model.known_task.kind == "values":
        same(found["prediction"], net.predict(x), tolerance)
    else:
        expected = net.predict(x)
        assert found["label"].tolist() == expected.tolist()
        assert found["label"].shape == expected.shape
        if cases.has_probabilities(net):
            same(found["probabilities"], net.predict_proba(x), tolerance)
        else:
            same(found["scores"], net.activations(x, -1), tolerance)


@pytest.mark.parametrize("group", GROUPS)
def test_onnx_runtime_computes_what_predict_does(group: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for name, make in GROUPS[group].items():
        net = make()
        net.to_onnx(path)
        onnx.checker.check_model(path, full_check=True)
        x = as_exported(net)
        print(name)  # shown if the comparison fails
        session = open_model(path)
        # ONNX Runtime has erf, which gelu needs, in float32 only.
        double = net.architecture.dtype == "float64" and name != "gelu"
        tolerance = 1e-10 if double else 1e-5
        check(net, run(session, x=x), x, tolerance)
        if group.startswith("activations"):
            check(net, run(session, x=300 * x), 300 * x, tolerance)
        one = run(session, x=np.asfortranarray(x)[3:4])
        check(net, one, x[3:4], tolerance)
        for found, expected in zip(run(session, x=x[:0]).values(), one.values(), strict=True):
            assert found.shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_the_input_has_the_format_that_is_asked_for(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for net in (network(5, 4, 3, pixels=True), GROUPS["others"]["standardized pixels"]()):
        net.to_onnx(path, input_dtype=dtype)
        x = cases.pixels() if dtype == "uint8" else (cases.pixels() / 255).astype(dtype)
        check(net, run(path, x=x), x)
    if dtype != "uint8":
        net = network(5, 4, 3)
        net.to_onnx(path, input_dtype=dtype)
        check(net, run(path, x=cases.X.astype(dtype)), cases.X)


def test_bfloat16_products_round_as_pynn_does(tmp_path: Path) -> None:
    net = network(5, 20, 20, 3, precision="bf16", residual=True)
    net.to_onnx(tmp_path / "model.onnx")
    x = cases.rows_for(net)
    check(net, run(tmp_path / "model.onnx", x=x), x, 2e-4)
    full = network(5, 20, 20, 3, residual=True)
    assert np.abs(full.predict_proba(x) - net.predict_proba(x)).max() > 1e-3


def test_the_columns_of_a_table_are_inputs(tmp_path: Path) -> None:
    data = {
        "size": [1.0, 3, 2, np.nan, 5, 4],
        "shape": ["ring", "bar", "ring", "", "bar", "ring"],
        "place": ["1", "2", "3.0", "1", "2", "1"],
        "label": [0.5, 1, 2, 1, 2, 3],
        "kind": list("abcabc"),
    }
    table = pynn.data.Table.of(data, target="kind", categories=["place"]).imputed(data, "median")
    net = network(len(table.inputs), 4, 3, standardize=True)
    net.fit(table.x(data), table.y(data), epochs=1)
    net.table, path = table, tmp_path / "model.onnx"
    net.to_onnx(path)
    names = [column.name for column in table.columns]
    given = {name: np.array(data[name])[:, None] for name in names}
    given = {k: v.astype(object if v.dtype.kind == "U" else "f8") for k, v in given.items()}
    found = run(path, **given)
    assert [*found] == ["label_1", "probabilities"]  # an input has the name label
    check(net, {**found, "label": found["label_1"]}, table.x(data))
    given["shape"][0] = "cube"
    with pytest.raises(Exception, match=r"OneHotEncoder|category"):
        run(path, **given)
    net.to_onnx(path, table=False)
    check(net, run(path, x=table.x(data)), table.x(data))
    facts = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(facts["columns"]) == list(table.inputs)
    assert json.loads(facts["classes"]) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="input_dtype: found 'float32' for inputs that are the"):
        net.to_onnx(path, input_dtype="float32")
    plain = pynn.data.Table.of({"a": [1, 2], "y": [0.5, 1]}, target="y")
    net = network(1, 2, 1, loss="mse")
    net.table = plain
    net.to_onnx(path)
    check(net, run(path, x=np.ones((3, 1), "f4")), np.ones((3, 1)))
    net.to_onnx(path, table=True)
    check(net, run(path, a=np.ones((3, 1))), np.ones((3, 1)))


def refused(net: pynn.Network, path: Path, text: str, **settings: Any) -> None:
    path.write_text("before")
    with pytest.raises((ValueError, TypeError), match=text):
        net.to_onnx(path, **settings)
    assert path.read_text() == "before"
    assert [*path.parent.iterdir()] == [path]


def test_refused_networks_and_arguments(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    double = pynn.Activation("double", lambda z: 2 * z, lambda z: 2 + 0 * z)
    refused(network(5, 4, 3, activation=double), path, "the custom activation 'double' in layer 0")
    net = network(5, 4, 3, standardize=True)
    refused(net, path, "standardize: found a network that has not been trained")
    refused(network(5, 3), path, "input_dtype: found 'int8', expected", input_dtype="int8")
    refused(network(5, 3), path, "input_dtype: found <obj", input_dtype=object())
    values = network(5, 3, pixels=False)
    refused(values, path, "input_dtype: found 'uint8' for a network whose", input_dtype="uint8")
    refused(values, path, "table: found True for a network without", table=True)
    refused(values, path, "table: found 3", table=3)
    table = pynn.data.Table.of({"": [1.0, 2], "y": [0.5, 1]}, target="y")
    nameless = network(1, 1, loss="mse")
    nameless.table = table
    refused(nameless, path, "table: found column 0 .* without a name, expected names", table=True)
    far = cases.standardized(net, np.arange(12) % 3, cases.X + 1e8)
    refused(far, path, "input_dtype: found 'float32' for input", input_dtype="float32")
    values.weights[0][0, 0] = np.nan
    refused(values, path, "parameters: found values that are NaN")
    with pytest.raises(FileNotFoundError):
        network(5, 3).to_onnx(tmp_path / "absent" / "model.onnx")
