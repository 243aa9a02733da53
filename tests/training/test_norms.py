"""Networks with layer norm and rms norm: views, files, pickles, runs, and PyTorch."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.files.tensors import load_tensors

X = np.random.default_rng(0).normal(size=(40, 6))
Y = np.random.default_rng(1).integers(0, 3, 40)
BACKENDS = [name for name in ("cython", "numpy") if not pynn.info()["backends"][name]]


def make(**settings: Any) -> pynn.Network:
    settings = {"norm": ["layer", None, pynn.RMSNorm(1e-3)], "dropout": 0.1, "seed": 3} | settings
    return pynn.Network([6, 6, 5, 5, 3], **settings)


def fit(net: pynn.Network, epochs: int = 2, **more: Any) -> None:
    net.fit(X, Y, epochs=epochs, **{"batch_size": 8, "progress": False, **more})


def test_parameters_hold_scale_and_shift_after_the_biases() -> None:
    net = make()
    assert len(net.parameters) == (7 * 6 + 2 * 6) + 7 * 5 + (6 * 5 + 5) + 6 * 3
    scale, shift = net.scales[0], net.shifts[0]
    assert scale is not None
    assert shift is not None
    assert (scale == 1).all()
    assert (shift == 0).all()
    assert net.scales[1] is None
    assert net.shifts[2] is None
    assert net.scales[3] is None
    scale[2], shift[3] = 5, 7
    assert net.parameters[42 + 2] == 5
    assert net.parameters[48 + 3] == 7
    net.scales = net.scales
    with pytest.raises(ValueError, match=r"shifts\[2\]: found .* expected None"):
        net.shifts = (shift, None, shift, None)
    assert "norm LayerNorm(epsilon=1e-05)/None/RMSNorm(epsilon=0.001)" in repr(net)
    assert str(net.summary()).count("layer") >= 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_files_pickles_and_copies_have_them(tmp_path: Path, after: bool) -> None:
    net, path = (
        make(norm_after=after, residual=True, activation=pynn.LeakyReLU(0.2)),
        tmp_path / "n",
    )
    fit(net)
    net.save(path)
    layers = load_tensors(path)[1]["architecture"]["activations"]
    norm = {"name": "layer", "epsilon": 1e-5, "after": after}
    assert layers[0] == {"name": "leaky_relu", "slope": 0.2, "residual": True, "norm": norm}
    assert layers[3] == "softmax"
    for other in (pynn.load(path), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert other.architecture == net.architecture
        assert repr(other) == repr(net)
        assert other.parameters.tobytes() == net.parameters.tobytes()
        fit(other)
        again = pickle.loads(pickle.dumps(net))
        fit(again)
        assert other.parameters.tobytes() == again.parameters.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_resumes_with_the_same_norms_only(tmp_path: Path, backend: str) -> None:
    """With everything on: standardised inputs, residual layers, dropout, early stopping."""
    settings = {"standardize": True, "residual": True, "norm_after": True, "backend": backend}
    whole = make(**settings)
    stopping = {"validation": 0.2, "callbacks": [pynn.EarlyStopping("validation_loss", patience=9)]}
    fit(whole, 4, **stopping)
    checkpoint = pynn.Checkpoint(tmp_path / "run", steps=3)

    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    begun = stopping | {"callbacks": [*stopping["callbacks"], stop]}  # type: ignore[misc]
    with pytest.raises(KeyboardInterrupt):
        fit(make(**settings), 4, checkpoint=checkpoint, **begun)
    with pytest.raises(ValueError, match="norm"):
        other = make(**settings | {"norm": "layer"})
        fit(other, 4, checkpoint=checkpoint, resume=True, **stopping)
    resumed = make(**settings)
    fit(resumed, 4, checkpoint=checkpoint, resume=True, **stopping)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_outputs_of_a_layer_are_the_inputs_of_the_next(backend: str, after: bool) -> None:
    settings = {"norm_after": after, "residual": True, "dtype": "float64", "backend": backend}
    net = make(activation="tanh", **settings)
    fit(net)

    def normalized(z: np.ndarray, k: int) -> np.ndarray:
        scale, shift = net.scales[k], net.shifts[k]
        if scale is None:
            return z
        if shift is None:
            return scale * z / np.sqrt((z**2).mean(axis=1, keepdims=True) + 1e-3)
        return scale * (z - z.mean(1)[:, None]) / np.sqrt(z.var(1)[:, None] + 1e-5) + shift

    h = X
    for k in range(3):
        z = h @ net.weights[k] + net.biases[k]
        a = normalized(np.tanh(z), k) if after else np.tanh(normalized(z, k))
        h = a + h if k != 1 else a
        np.testing.assert_allclose(net.activations(X, layer=k), h, rtol=1e-11)


@pytest.mark.parametrize("optimizer", [pynn.AdamW(weight_decay=0.3), "sgd"], ids=["adamw", "sgd"])
def test_decay_and_l2_leave_scale_and_shift(optimizer: Any) -> None:
    """Their gradient is that without l2, and a step with a gradient of 0 does not move them."""
    net = make(dtype="float64", dropout=0.0)
    _, with_l2 = net.loss_and_gradient(X, Y, l2=0.5)
    _, without = net.loss_and_gradient(X, Y)
    for a, b in zip(*map(net.architecture.norm_views, (with_l2, without)), strict=True):
        assert all((p == q).all() for p, q in zip(a, b, strict=True))
    last = np.zeros_like(net.weights[-1])
    net.weights = (*net.weights[:-1], last)  # no gradient reaches the hidden layers
    fit(net, 1, optimizer=optimizer, batch_size=None, l2=0.0)
    assert net.scales[0] is not None
    assert (net.scales[0] == 1).all()


def test_training_stops_at_a_divergence_with_the_parameters_before_it() -> None:
    net = make(backend=BACKENDS[0])
    with pytest.raises(pynn.DivergenceError):
        fit(net, 50, learning_rate=1e30, optimizer="sgd")
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("norm", [pynn.LayerNorm(1e-5), pynn.RMSNorm(1e-3)], ids=lambda n: n.name)
def test_a_hundred_steps_follow_pytorch(backend: str, after: bool, norm: Any) -> None:
    torch = pytest.importorskip("torch")
    nn, f8 = torch.nn, torch.float64
    kind = nn.LayerNorm if norm.name == "layer" else nn.RMSNorm
    net = make(
        norm=norm,
        norm_after=after,
        dropout=0.0,
        activation="tanh",
        dtype="float64",
        backend=backend,
    )
    layers = [nn.Linear(*w.shape, dtype=f8) for w in net.weights]
    norms = [kind(n, eps=norm.epsilon, dtype=f8) for n in net.sizes[1:-1]]
    with torch.no_grad():
        for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight[...] = torch.from_numpy(w.T.copy())
            layer.bias[...] = torch.from_numpy(b.copy())
    modules = []
    for layer, own in zip(layers, norms, strict=False):
        modules += [layer, nn.Tanh(), own] if after else [layer, own, nn.Tanh()]
    model = nn.Sequential(*modules, layers[-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(X)), torch.from_numpy(Y)).backward()
        optimizer.step()
    net.fit(X, Y, epochs=100, batch_size=None, learning_rate=0.01, progress=False)
    pairs = [(w, layer.weight.T) for w, layer in zip(net.weights, layers, strict=True)]
    pairs += [(s, own.weight) for s, own in zip(net.scales, norms, strict=False)]
    if norm.name == "layer":
        pairs += [(s, own.bias) for s, own in zip(net.shifts, norms, strict=False)]
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-9)
