"""Networks with residual layers: files, pickles, outputs of layers, and PyTorch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.files.tensors import load_tensors

X = np.random.default_rng(0).normal(size=(40, 6))
Y = np.random.default_rng(1).integers(0, 3, 40)
BACKENDS = [name for name, missing in pynn.info()["backends"].items() if not missing]


def make(**settings: Any) -> pynn.Network:
    settings = {"activation": ["tanh", pynn.ELU(0.5), "relu"], "dropout": 0.1, **settings}
    return pynn.Network([6, 6, 5, 5, 3], residual=True, seed=3, **settings)


def fit(net: pynn.Network, epochs: int = 2, **more: Any) -> None:
    net.fit(X, Y, epochs=epochs, batch_size=8, progress=False, **more)


def test_files_and_pickles_have_them(tmp_path: Path) -> None:
    net, path = make(), tmp_path / "net.safetensors"
    fit(net)
    net.save(path)
    layers = load_tensors(path)[1]["architecture"]["activations"]
    assert layers == [
        {"name": "tanh", "residual": True},
        {"name": "elu", "alpha": 0.5},
        {"name": "relu", "residual": True},
        "softmax",
    ]
    for other in (pynn.load(path), pickle.loads(pickle.dumps(net))):
        assert other.architecture == net.architecture
        assert repr(other) == repr(net)
        assert "residual" in repr(net)
        assert (other.predict_proba(X) == net.predict_proba(X)).all()


def test_a_run_resumes_with_them_only(tmp_path: Path) -> None:
    whole = make()
    fit(whole, 4)
    checkpoint = pynn.Checkpoint(tmp_path / "run", epochs=1)

    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make().fit(
            X, Y, epochs=4, batch_size=8, checkpoint=checkpoint, progress=False, callbacks=[stop]
        )
    other = pynn.Network([6, 6, 5, 5, 3], activation=["tanh", pynn.ELU(0.5), "relu"], dropout=0.1)
    with pytest.raises(ValueError, match="residual"):
        fit(other, 4, checkpoint=checkpoint, resume=True)
    resumed = make()
    fit(resumed, 4, checkpoint=checkpoint, resume=True)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


@pytest.mark.parametrize(
    "backend", [name for name, ok in pynn.info()["backends"].items() if not ok]
)
def test_outputs_of_a_layer_include_its_input(backend: str) -> None:
    net = make(dtype="float64", backend=backend)
    h = X
    for k, f in enumerate((np.tanh, lambda z: np.where(z > 0, z, 0.5 * np.expm1(z)), None)):
        a = h @ net.weights[k] + net.biases[k]
        a = f(a) if f else np.maximum(a, 0)
        h = a + h if k != 1 else a
        np.testing.assert_allclose(net.activations(X, layer=k), h, rtol=1e-12)


def test_a_hundred_steps_follow_pytorch() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    net = make(dtype="float64", dropout=0.0, activation="tanh")
    layers = [nn.Linear(*w.shape, dtype=torch.float64) for w in net.weights]
    with torch.no_grad():
        for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight[...] = torch.from_numpy(w.T.copy())
            layer.bias[...] = torch.from_numpy(b.copy())
    parameters = [p for layer in layers for p in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        h = torch.from_numpy(X)
        for k, layer in enumerate(layers[:-1]):
            a = torch.tanh(layer(h))
            h = a + h if k != 1 else a
        nn.functional.cross_entropy(layers[-1](h), torch.from_numpy(Y)).backward()
        optimizer.step()
    fit_all = {"batch_size": "full", "optimizer": pynn.Adam(), "learning_rate": 0.01}
    net.fit(X, Y, epochs=100, progress=False, **fit_all)
    for layer, w in zip(layers, net.weights, strict=True):
        np.testing.assert_allclose(w, layer.weight.detach().numpy().T, rtol=0, atol=1e-9)
