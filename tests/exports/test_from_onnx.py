"""Networks from ONNX files of pynn, skl2onnx, PyTorch and Keras."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.spec.names import ACTIVATIONS
from tests.exports import cases
from tests.exports.cases import network

onnx = pytest.importorskip("onnx")

Array = np.ndarray
X = cases.X.astype("f4")


def outputs(net: pynn.Network, x: Array) -> Array:
    return net.activations(x, -1)


def close(found: Array, expected: Any, tolerance: float = 1e-5) -> None:
    expected = np.asarray(expected).reshape(found.shape)
    scale = max(1.0, float(np.abs(expected).max()))
    assert float(np.abs(found - expected).max()) <= tolerance * scale


# --- pynn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_files_of_pynn(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    x = X.astype(dtype)
    for activation in (*ACTIVATIONS, pynn.LeakyReLU(0.3), pynn.ELU(0.4), pynn.Softplus(2.5)):
        net = network(5, 4, 3, activation=activation, dtype=dtype)
        net.to_onnx(path)
        found = pynn.from_onnx(path)
        assert found.architecture.given_activations() == net.architecture.given_activations()
        assert found.architecture.loss == "cross_entropy"
        assert found.dtype == net.dtype
        close(found.predict_proba(x), net.predict_proba(x))
        close(found.parameters, net.parameters, 1e-6)
    for output in ("sigmoid", "identity", "exp", "tanh", "softmax"):
        net = network(5, 1 if output == "sigmoid" else 2, loss="mse", output=output, dtype=dtype)
        net.to_onnx(path)
        found = pynn.from_onnx(path)
        close(outputs(found, x), outputs(net, x))


def test_norms_scales_and_labels_of_pynn(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    odd = cases.odd_cases()
    names = ("texts", "binary texts", "floats", "binary hinge", "no hidden layer", "standardized")
    for name in (*names, "multilabel", "multilabel hinge", "average", "batch norm of epsilon 0.1"):
        net = odd[name]()
        net.to_onnx(path)
        found = pynn.from_onnx(path)
        close(outputs(found, X), outputs(net, X))
        assert found.predict(X).tolist() == net.predict(X).tolist(), name
    for norm, after, adds in (
        *(("layer", False, True), ("layer", True, False), ("batch", True, False)),
        *(("rms", False, False), ("rms", True, True), ("batch", False, True), (None, False, True)),
    ):
        net = network(5, 5, 4, 4, 3, norm=norm, norm_after=after, activation="silu", residual=adds)
        net.to_onnx(path)
        found = pynn.from_onnx(path)
        close(outputs(found, X), outputs(net, X))
        kept = norm in ("layer", "rms")
        assert found.architecture.norms == (net.architecture.norms if kept else ())
        assert found.architecture.norm_after == (kept and after)
        assert found.architecture.residual == net.architecture.residual
        found.fit(X, np.arange(12) % 3, epochs=1)
    net = odd["pixels"]()
    net.to_onnx(path)
    found = pynn.from_onnx(path)
    assert found.pixels is True
    close(outputs(found, cases.pixels()), outputs(net, cases.pixels()))
    for name in ("standardized targets", "two standardized targets", "one unit"):
        net = odd[name]()
        net.to_onnx(path)
        close(pynn.from_onnx(path).predict(X), net.predict(X))


def test_large_means_are_kept_in_float64(tmp_path: Path) -> None:
    path, targets = tmp_path / "model.onnx", cases.X[:, :2] * [1e-3, 5] + [1e7, -1e5]
    for n_in, mean in ((5, 1e9), (1, 1e9), (5, 0.0)):
        net = network(n_in, 4, 2, standardize=True, standardize_targets=True, loss="mse")
        x = cases.X[:, :n_in] * [1, 1e3, 1, 1, 1][:n_in] + mean
        cases.standardized(net, targets, x).to_onnx(path)
        found = pynn.from_onnx(path)
        assert found._model.input_standard is not None
        assert found._model.target_standard is not None
        assert found.dtype == np.float32
        assert (np.abs(found.predict(x) - net.predict(x)) <= 5e-6 * targets.std(axis=0)).all()
    scaled = [("Sub", "x c"), ("Mul", "h0 s"), ("Add", "h1 s"), ("Gemm", "h2 w b")]
    s = np.array([2.0, -0.5, 4.0])
    net = pynn.from_onnx(graph(path, *scaled, w=W, b=B, c=[1e6, 5, 0], s=s))
    assert net._model.input_standard is not None
    x = X[:, :3] + np.array([1e6, 0, 0], "f4")
    close(net.predict(x), ((x.astype("f8") - [1e6, 5, 0]) * s + s) @ W + B)
    zero = [2.0, 0.0, 4.0]  # a column of factor 0 has no scale
    net = pynn.from_onnx(graph(path, *scaled, w=W, b=B, c=[1, 5, 0], s=zero))
    close(net.predict(X[:, :3]), ((X[:, :3] - [1, 5, 0]) * zero + zero) @ W + B)
    with pytest.raises(ValueError, match=r"\(Sub\): found a scale of 2 columns, expected 3"):
        pynn.from_onnx(graph(path, *scaled, w=W, b=B, c=[1.0, 5], s=s))


# --- Graphs by hand -------------------------------------------------------------------------------


def graph(path: Path, *nodes: tuple[Any, ...], **constants: Any) -> Path:
    """A file of nodes (type, inputs, settings), whose outputs are h0, h1, …; x has 3 columns."""
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    made = []
    for k, (op, inputs, *rest) in enumerate(nodes):
        settings = dict(*rest)
        domain = settings.pop("domain", "")
        made.append(
            make.make_node(
                op, inputs.split(), [f"h{k}"], name=f"node{k}", domain=domain, **settings
            )
        )
    arrays = [
        onnx.numpy_helper.from_array(
            np.asarray(v, "f4" if np.asarray(v).dtype == "f8" else None), n
        )
        for n, v in constants.items()
    ]
    built = make.make_graph(
        made,
        "test",
        [make.make_tensor_value_info("x", kind, ["n", 3])],
        [make.make_tensor_value_info(f"h{len(nodes) - 1}", kind, None)],
        arrays,
    )
    onnx.save(make.make_model(built), path)
    return path


W, B = np.arange(6.0).reshape(3, 2) / 3 - 0.8, np.array([0.5, -1.0])


def test_forms_of_layers_and_activations(tmp_path: Path) -> None:
    path, x = tmp_path / "model.onnx", X[:, :3]
    z = x @ W + B
    dense = ("MatMul", "x w"), ("Add", "b h0")
    for more, expected in (
        ([("Gemm", "x t b", {"transB": 1, "beta": 2.0, "alpha": 3.0})], 3 * (z - B) + 2 * B),
        ([*dense, ("Sigmoid", "h1"), ("Mul", "h2 h1")], z / (1 + np.exp(-z))),
        ([*dense, ("Clip", "h1 zero six")], np.clip(z, 0, 6)),
        ([*dense, ("Max", "h1 zero")], np.maximum(z, 0)),
        ([*dense, ("Neg", "h1"), ("Exp", "h2"), ("Add", "h3 one"), ("Div", "one h4")], None),
        ([*dense, ("Mul", "h1 two"), ("Tanh", "h2")], np.tanh(2 * z)),
        (
            [("Sub", "x c"), ("Div", "h0 s"), ("Gemm", "h1 w b")],
            (x - [1, 2, 3]) / [1, 2, 4] @ W + B,
        ),
        ([*dense, ("BatchNormalization", "h1 b b b one2")], None),
        ([("Gemm", "x w"), ("PRelu", "h0 half")], np.where(z - B > 0, z - B, (z - B) / 2)),
        ([*dense, ("Sub", "six h1")], 6 - z),
        ([("Mul", "x c"), ("Gemm", "h0 u"), ("Add", "h1 h0"), ("Gemm", "h2 w b")], None),
        ([*dense, ("LogSoftmax", "h1")], np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
        ([("Flatten", "x"), ("Reshape", "h0 shape"), ("Gemm", "h1 w b")], z),
        ([("Gemm", "x v"), ("Add", "h0 half"), ("Relu", "h1")], None),
    ):
        constants: Any = {"w": W, "t": W.T, "b": B, "zero": 0.0, "one": [1.0], "two": 2.0}
        constants |= {"six": [[6.0]], "c": [[1.0, 2, 3]], "s": [1.0, 2, 4], "half": 0.5}
        constants |= {
            "u": np.eye(3)[::-1],
            "one2": [1.0, 1.0],
            "shape": np.array([0, -1]),
            "v": W[:, :1],
        }
        net = pynn.from_onnx(graph(path, *more, **constants), loss="mse")
        if expected is None:
            runtime = pytest.importorskip("onnxruntime")
            session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
            expected = session.run(None, {"x": x})[0]
        close(outputs(net, x), expected)


def root_of(exponent: str, axis: int) -> list[Any]:
    """Nodes that differ from an rms norm in the exponent or the axis."""
    mean = ("ReduceMean", "h1", {"axes": [axis]})
    tail = [("Add", "h2 two"), ("Sqrt", "h3"), ("Div", "h0 h4"), ("Gemm", "h5 w")]
    return [("Gemm", "x u"), ("Pow", f"h0 {exponent}"), mean, *tail]


def test_refused_graphs_name_the_node(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    dense = ("Gemm", "x w b")
    for nodes, text in (
        ([dense, ("Sin", "h0")], r"node 'node1' \(Sin\): found an operator that is no part"),
        ([dense, ("Foo", "h0", {"domain": "a"})], r"node 'node1' \(a::Foo\)"),
        ([dense, ("Abs", "h0")], r"node 'node1' \(Abs\): found a function that is no activation"),
        ([dense, ("Relu", "h0"), ("Tanh", "h1")], r"\(Tanh\): found two activations of one layer"),
        ([("Relu", "x"), ("Gemm", "h0 w b")], r"\(Relu\): found it before the first layer"),
        ([dense, ("Tanh", "h0"), ("Mul", "h1 b")], r"\(Mul\): found a scale after the last"),
        ([dense, ("Softmax", "h0"), ("Gemm", "h1 w")], r"\(Gemm\): found weights \(3, 2\) after 2"),
        ([dense, ("Softmax", "h0"), ("Gemm", "h1 q")], r"\(Softmax\): found softmax in a hidden"),
        ([dense, ("Softmax", "h0", {"axis": 0})], r"\(Softmax\): found axis 0, expected the last"),
        ([dense, ("LayerNormalization", "h0 b b")], r"\(Gemm\): found a normalisation of the out"),
        (
            [("Gemm", "x u"), ("Add", "h0 x")],
            r"\(Gemm\): found an output layer that adds its input",
        ),
        (
            [("Gemm", "x u"), ("Add", "h0 x"), ("Gemm", "h1 u"), ("Gemm", "h2 w")],
            r"'node2' \(Gemm\): found a layer that does not add its input, expected that all",
        ),
        (
            [("Gemm", "x r"), ("Relu", "h0"), ("Mul", "h1 c"), ("Gemm", "h2 u"), ("Add", "h3 h2")],
            r"\(Add\): found an input that is scaled before a residual layer",
        ),
        ([dense, ("Clip", "h0 zero hundred")], r"\(Clip\): found a function that is no activation"),
        ([dense, ("LogSoftmax", "h0"), ("Gemm", "h1 q")], r"\(LogSoftmax\): found softmax in a h"),
        (
            [("Gemm", "x u"), ("Add", "h0 x"), ("Relu", "h1"), ("Gemm", "h2 w")],
            r"\(Relu\): found it after the sum of a residual layer",
        ),
        ([("Gemm", "x v"), ("Add", "h0 x")], r"\(Add\): found a sum of \(3, 1\) values"),
        (
            [("Gemm", "x u"), ("Gemm", "h0 u"), ("Add", "h1 x")],
            r"\(Add\): found two values that depend on x",
        ),
        ([dense, ("Mul", "h0 h0")], r"\(Mul\): found two values that depend|no activation"),
        ([("MatMul", "w x")], r"\(MatMul\): found weights @ x, expected x @ weights"),
        ([("MatMul", "x x")], r"\(MatMul\): found weights that depend on x"),
        ([("MatMul", "x b")], r"\(MatMul\): found weights of shape \(2,\), expected a matrix"),
        ([("Gemm", "x w c")], r"\(Gemm\): found 3 biases, expected 2"),
        ([("Gemm", "x q")], "found an input of 3 values in a row, and 2 in the first layer"),
        ([dense, ("Add", "h0 c")], r"\(Add\): found a scale of 3 columns, expected 2"),
        ([("Identity", "x")], "found no layer"),
        ([dense, ("Cast", "h0", {"to": 7})], r"\(Cast\): found a function that is no activation"),
        ([("Sin", "w"), ("Gemm", "x h0 b")], r"\(Sin\): found an operator of constants"),
        ([dense, ("Transpose", "h0")], r"\(Transpose\): found an operator that is no part"),
        ([dense, ("Reshape", "h0 long")], r"\(Reshape\): found shape \[1, 2, -1\], expected"),
        ([dense, ("Elu", "h0", {"alpha": "a"})], r"\(Elu\): found .*, expected a valid operation"),
        ([dense, ("Add", "h0")], r"\(Add\): found .*, expected a valid operation"),
        ([dense, ("Div", "b h0")], r"\(Div\): found a division by values that depend on x"),
        ([("Gemm", "x i")], r"\(Gemm\): found weights of int64, expected floats"),
        (root_of("three", 1), r"\(Div\): found two values that depend on x"),
        (root_of("two", 0), r"\(Div\): found two values that depend on x"),
        (
            [dense, ("Split", "h0", {"num_outputs": 2})],
            r"\(Split\): found an operator that is no part",
        ),
    ):
        constants: Any = {"w": W, "b": B, "c": B[[0, 0, 0]], "q": np.eye(2), "u": np.eye(3)}
        constants |= {"two": 2.0, "three": 3.0}
        constants |= {"zero": 0.0, "hundred": 1e4, "r": np.eye(3)[:, ::-1]}
        constants |= {"v": W[:, :1], "long": np.array([1, 2, -1]), "i": np.arange(6).reshape(3, 2)}
        graph(path, *nodes, **constants)
        print(nodes)  # shown if nothing is raised
        with pytest.raises(ValueError, match=text):
            pynn.from_onnx(path)


def test_refused_files(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for data in (b"", b"nothing", os.urandom(500), b"\x08" * 100):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="expected an ONNX file"):
            pynn.from_onnx(path)
    with pytest.raises(FileNotFoundError, match="found no such file, expected an ONNX file"):
        pynn.from_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ValueError, match="found a folder, expected an ONNX file"):
        pynn.from_onnx(tmp_path)
    graph(path, ("Gemm", "x w b"), w=W, b=B)
    with pytest.raises(ValueError, match="output_name: found 'y', expected one of h0"):
        pynn.from_onnx(path, output_name="y")
    with pytest.raises(ValueError, match="output: found 'tanh'"):
        pynn.from_onnx(graph(path, ("Gemm", "x w"), ("Tanh", "h0"), w=W), loss="cross_entropy")
    with pytest.raises(ValueError, match="found the input of node 'node0' .Gemm. 'z', expected"):
        pynn.from_onnx(graph(path, ("Gemm", "x z"), w=W))
    with pytest.raises(ValueError, match=r"found 2 inputs \('x', 'y'\), expected one"):
        model = onnx.load(graph(path, ("Gemm", "x w"), w=W))
        model.graph.input.append(model.graph.input[0])
        model.graph.input[1].name = "y"
        onnx.save(model, path)
        pynn.from_onnx(path)
    model = onnx.load(graph(path, ("Gemm", "x w"), ("ArgMax", "h0"), w=W))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    with pytest.raises(ValueError, match="found no output of floats, only h1, expected"):
        pynn.from_onnx(path)
    network(5, 4, 4, loss="gaussian_nll").to_onnx(path)
    with pytest.raises(ValueError, match=r"output_name: found 2 outputs .*mean, deviation"):
        pynn.from_onnx(path)


def test_values_in_another_file_must_be_in_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = graph(folder / "model.onnx", ("Gemm", "x w b"), w=W, b=B)
    expected = outputs(pynn.from_onnx(path), X[:, :3])
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="values", size_threshold=0)
    close(outputs(pynn.from_onnx(path), X[:, :3]), expected)

    def located(place: str) -> None:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for fact in tensor.external_data:
                if fact.key == "location":
                    fact.value = place
        path.write_bytes(model.SerializeToString())

    (tmp_path / "values").write_bytes((folder / "values").read_bytes())
    (folder / "link").symlink_to(tmp_path / "values")
    for place in ("../values", str(tmp_path / "values"), "link", "..", ""):
        located(place)
        with pytest.raises(ValueError, match="expected a file in the same folder"):
            pynn.from_onnx(path)
    located("values")
    (folder / "values").write_bytes(b"short")
    with pytest.raises(ValueError, match="bytes 0 to 24 of a file of 5 bytes"):
        pynn.from_onnx(path)
    (folder / "values").unlink()
    with pytest.raises(FileNotFoundError, match="expected the values of the model"):
        pynn.from_onnx(path)


# --- Other libraries ------------------------------------------------------------------------------


def test_files_of_skl2onnx(tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    path, y = tmp_path / "model.onnx", np.arange(12) % 3
    many = np.stack([y > 0, X[:, 0] > 0], axis=1).astype(int)
    for k, (activation, target) in enumerate(
        (("relu", y), ("tanh", y % 2), ("logistic", np.array(["a", "b", "c"])[y]), ("relu", many))
    ):
        model = MLPClassifier((4, 3), activation=activation, max_iter=3, random_state=0)
        steps = [StandardScaler(), MinMaxScaler()][: k % 3]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = make_pipeline(*steps, model).fit(X, target)
        for options in ({"zipmap": False}, {}):
            path.write_bytes(skl2onnx.to_onnx(pipeline, X[:1], options=options).SerializeToString())
            net = pynn.from_onnx(path)
            assert net.predict(X).tolist() == pipeline.predict(X).tolist()
            close(net.predict_proba(X), pipeline.predict_proba(X))
    for target in (X[:, 0], X[:, :1]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make_pipeline(
                StandardScaler(), MLPRegressor(hidden_layer_sizes=(4,), max_iter=3)
            ).fit(X, target)
        path.write_bytes(skl2onnx.to_onnx(model, X[:1]).SerializeToString())
        close(pynn.from_onnx(path).predict(X), model.predict(X))
        path.write_bytes(skl2onnx.to_onnx(model, cases.X[:1]).SerializeToString())
        close(pynn.from_onnx(path).predict(X), model.predict(X))


def torch_models(torch: Any, rms: bool) -> list[Any]:
    nn = torch.nn
    functions = [nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(2.0)]
    functions += [nn.ELU(0.5), nn.LeakyReLU(0.2), nn.SELU(), nn.Softsign(), nn.ReLU6(), nn.Tanh()]
    functions += [nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(), nn.Sigmoid(), nn.Softplus()]
    layers: list[Any] = [nn.Linear(5, 4)]
    for function in functions:
        layers += [function, nn.Linear(4, 4)]
    scaled = nn.Sequential(
        *(nn.Flatten(), nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4, 4, bias=False), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU()),
        *(nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Sigmoid()),
    )
    for module in scaled:
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, norm: Any) -> None:
            super().__init__()
            self.dense, self.norm = nn.Linear(5, 5), norm

        def forward(self, x: Any) -> Any:
            return x + nn.functional.silu(self.norm(self.dense(x)))

    norm = nn.RMSNorm(5, eps=1e-5) if rms else nn.Identity()  # the older exporter has no rms norm
    blocks = nn.Sequential(Block(nn.BatchNorm1d(5)), Block(norm), nn.Linear(5, 2))
    return [nn.Sequential(*layers, nn.Softmax(dim=1)).eval(), blocks.eval(), scaled.eval()]


@pytest.mark.parametrize("dynamo", [False, True])
def test_files_of_pytorch(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    path, x = tmp_path / "model.onnx", torch.from_numpy(X)
    for model in torch_models(torch, dynamo):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (x,), path, dynamo=dynamo, verbose=False)
        net = pynn.from_onnx(path)
        close(outputs(net, X), model(x).detach().numpy())
    assert net.architecture.loss == "binary_cross_entropy"
    assert [type(norm) for norm in net.architecture.norms] == [
        *(type(None), pynn.LayerNorm, type(None), type(None))
    ]


def test_files_of_keras(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    functions = ["relu", "gelu", "silu", "mish", "softplus", "elu", "leaky_relu", "selu", "relu6"]
    functions += ["softsign", "hard_sigmoid", "hard_silu", "hard_tanh", "tanh", "sigmoid"]
    dense = [layers.Dense(4, activation=name) for name in functions]
    norms = [layers.Dense(4), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.3)]
    path = tmp_path / "model.onnx"
    for end, middle in (("softmax", dense), (None, [*norms, layers.Dense(4, activation="tanh")])):
        model = keras.Sequential([keras.Input((5,)), *middle, layers.Dense(3, activation=end)])
        for weights in model.weights:
            if "moving" in weights.path:
                weights.assign(np.linspace(0.5, 1.5, 4))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.asarray(model(X))
            model.export(path, format="onnx", verbose=False)
        net = pynn.from_onnx(path, loss=None if end else "mse")
        close(outputs(net, X), expected)
