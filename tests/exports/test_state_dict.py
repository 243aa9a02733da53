"""``Network.load_state_dict``: files and mappings of PyTorch, without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import pynn

Tensors = dict[str, np.ndarray]


def tensors(names: list[str], sizes: list[int], seed: int = 0) -> Tensors:
    """Return the tensors of linear modules."""
    random = np.random.default_rng(seed)
    found = {}
    for name, m, n in zip(names, sizes, sizes[1:]):
        found[f"{name}.weight"] = random.normal(size=(n, m)).astype(np.float32)
        found[f"{name}.bias"] = random.normal(size=n).astype(np.float32)
    return found


def network(sizes: list[int], **more) -> pynn.Network:
    return pynn.Network(sizes, backend="numpy", seed=3, **more)


def holds(net: pynn.Network, state: Tensors, names: list[str]) -> bool:
    return all(
        np.array_equal(net.weights[k].T, state[f"{name}.weight"])
        and np.array_equal(net.biases[k], state[f"{name}.bias"])
        for k, name in enumerate(names)
    )


@pytest.mark.parametrize(
    "names",
    [
        ["0", "2", "10"],  # "10" < "2" as text
        ["layers.0", "layers.1", "layers.2"],
        ["fc1", "fc2", "head"],
        ["in_proj", "body", "a_head"],
    ],
)
def test_a_file_is_read_in_the_order_of_the_layers(names: list[str], tmp_path: Path) -> None:
    sizes = [5, 7, 6, 3]
    state = tensors(names, sizes)
    path = tmp_path / "state.safetensors"
    save_file(dict(sorted(state.items())), path)
    for source in (path, str(path), state, dict(sorted(state.items()))):
        net = network(sizes)
        net.load_state_dict(source)
        assert holds(net, state, names)


def test_equal_shapes_in_numbered_modules_follow_the_numbers() -> None:
    names = [str(k) for k in range(0, 24, 2)]
    sizes = [4] * 13
    state = tensors(names, sizes)
    net = network(sizes)
    net.load_state_dict(dict(sorted(state.items())))
    assert holds(net, state, names)


def test_an_order_that_nothing_tells_must_be_given() -> None:
    state = tensors(["encoder", "body", "out"], [4, 4, 4, 2])
    net = network([4, 4, 4, 2])
    before = net.parameters.copy()
    with pytest.raises(
        ValueError, match=r"found the modules 'body', 'encoder', 'out', whose order"
    ):
        net.load_state_dict(state)
    with pytest.raises(ValueError, match="layers: found 'body', 'out', expected all modules"):
        net.load_state_dict(state, layers=["body", "out"])
    assert np.array_equal(net.parameters, before)
    net.load_state_dict(state, layers=["encoder", "body", "out"])
    assert holds(net, state, ["encoder", "body", "out"])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("2.bias"), r"found no '2.bias', expected shape \(2,\) for layer 1"),
        (lambda s: s.pop("2.weight"), "found 2.bias, expected 2.weight too"),
        (
            lambda s: s.update({"2.weight": s["2.weight"][:, :3]}),
            r"found '2.weight' of shape \(2, 3\), expected \(2, 4\) for layer 1",
        ),
        (
            lambda s: s.update({"0.weight": s["0.weight"].T}),
            r"found '0.weight' of shape \(3, 4\), expected \(4, 3\) .*; take the transpose",
        ),
        (
            lambda s: s.update({"4.weight": s["0.weight"]}),
            r"found 3 nn.Linear \('0', '2', '4'\), expected 2 by the network's sizes",
        ),
        (
            lambda s: s.update({"1.weight": np.ones(4, np.float32)}),
            r"found 1 norms \('1'\), expected 0 by the network's norm",
        ),
        (lambda s: s.update({"0.weight": np.full((4, 3), np.nan)}), "'0.weight' that is not fini"),
        (lambda s: s.update({"0.bias": np.full(4, 1e300)}), "'0.bias' that is not finite in float"),
        (lambda s: s.update({"0.conv": np.ones(3)}), "found the tensor '0.conv', expected names"),
        (lambda s: s.update({"0.weight": np.ones((4, 3, 1))}), r"0.weight of shape \(4, 3, 1\)"),
        (lambda s: s.update({"0.running_mean": np.ones(4)}), "'0.running_mean', expected only wei"),
        (lambda s: s.clear(), "found 0 nn.Linear, expected 2"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_change_nothing(change, message: str) -> None:
    net = network([3, 4, 2])
    before = net.parameters.copy()
    state = tensors(["0", "2"], [3, 4, 2])
    change(state)
    with pytest.raises(ValueError, match=message):
        net.load_state_dict(state)
    assert np.array_equal(net.parameters, before)


def test_sources_that_are_no_state_dict(tmp_path: Path) -> None:
    net = network([3, 4, 2])
    for wrong in (3, None, [1, 2]):
        with pytest.raises(TypeError, match="state dict: found (an int|None|a list), expected"):
            net.load_state_dict(wrong)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="found no such file"):
        net.load_state_dict(tmp_path / "no.safetensors")
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(ValueError, match=r"no safetensors file .*; torch.load reads it"):
        net.load_state_dict(path)
    with pytest.raises(ValueError, match=r"found the dtype I64 in '0.weight', expected one of F64"):
        save_file({"0.weight": np.ones((4, 3), np.int64)}, path)
        net.load_state_dict(path)


def norm_tensors(kind: str) -> Tensors:
    random = np.random.default_rng(5)
    state = tensors(["0", "3", "6"], [3, 4, 5, 2])
    for name, width in (("1", 4), ("4", 5)):
        state[f"{name}.weight"] = random.normal(size=width)
        if kind != "rms":
            state[f"{name}.bias"] = random.normal(size=width)
        if kind == "batch":
            state[f"{name}.running_mean"] = random.normal(size=width)
            state[f"{name}.running_var"] = random.uniform(0.5, 2, width)
            state[f"{name}.num_batches_tracked"] = np.asarray(7)
    return state


@pytest.mark.parametrize("kind", ["layer", "rms", "batch"])
def test_norms(kind: str, tmp_path: Path) -> None:
    state = norm_tensors(kind)
    path = tmp_path / "state.safetensors"
    save_file(state, path)
    for source in (path, state):
        net = network([3, 4, 5, 2], norm=kind, dtype="float64")
        net.load_state_dict(source)
        assert np.array_equal(net.scales[1], state["4.weight"])
        assert kind == "rms" or np.array_equal(net.shifts[0], state["1.bias"])
        if kind == "batch":
            assert np.array_equal(net.running_variances[1], state["4.running_var"])
        assert np.isfinite(net.predict_proba(np.ones((2, 3)))).all()


def test_norms_that_do_not_fit() -> None:
    net = network([3, 4, 5, 2], norm="batch")
    with pytest.raises(ValueError, match="found no '1.running_mean', expected shape"):
        net.load_state_dict(norm_tensors("layer"))
    negative = norm_tensors("batch")
    negative["1.running_var"][2] = -1
    with pytest.raises(ValueError, match="running variance -1 of unit 2 in layer 0"):
        net.load_state_dict(negative)
    with pytest.raises(ValueError, match="'1.running_mean', expected only weight, bias for"):
        network([3, 4, 5, 2], norm="layer").load_state_dict(norm_tensors("batch"))
    inputs = {  # a norm of the inputs, which pynn does not have, as wide as the hidden layer
        "0.weight": np.ones(4),
        "0.bias": np.ones(4),
        **tensors(["1", "3"], [4, 4, 2]),
    }
    with pytest.raises(ValueError, match="found the norm '0' before or after other layers"):
        network([4, 4, 2], norm="layer").load_state_dict(inputs)


def test_half_precision_and_bfloat16(tmp_path: Path) -> None:
    state = tensors(["0"], [3, 2])
    half = {name: tensor.astype(np.float16) for name, tensor in state.items()}
    net = network([3, 2])
    net.load_state_dict(half)
    assert np.array_equal(net.weights[0], half["0.weight"].T)
    upper = {name: (t.view(np.uint32) >> 16).astype("<u2") for name, t in state.items()}
    header, data = {}, b""
    for name, t in upper.items():
        place = [len(data), len(data) + t.nbytes]
        header[name] = {"dtype": "BF16", "shape": t.shape, "data_offsets": place}
        data += t.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "bf16.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    net.load_state_dict(tmp_path / "bf16.safetensors")
    expected = (upper["0.weight"].astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(net.weights[0], expected.T)


def test_predictions_are_those_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", "2.4")
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(9, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4), nn.Softmax(1)),
    )
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    with torch.no_grad():
        module(torch.from_numpy(x))  # moves the running statistics
        expected = module.eval()(torch.from_numpy(x)).numpy()
    path = tmp_path / "state.safetensors"
    pytest.importorskip("safetensors.torch").save_file(module.state_dict(), path)
    renamed = nn.Sequential()
    for name, one in zip("hgfedcba_", module):
        renamed.add_module(name, one)  # letters in the opposite order
    for source in (path, module.state_dict(), module.bfloat16().float().state_dict()):
        net = network([6, 9, 9, 4], norm="batch")
        net.load_state_dict(source)
        assert np.abs(net.predict_proba(x) - expected).max() < 0.01
    net.load_state_dict(path)
    assert np.abs(net.predict_proba(x) - expected).max() < 1e-6
    net.load_state_dict(renamed.state_dict())
    with pytest.raises(TypeError, match=r"found a Sequential, .*; pass module.state_dict\(\)"):
        net.load_state_dict(module)
