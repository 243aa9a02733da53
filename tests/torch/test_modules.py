"""Modules of PyTorch become networks, and networks become modules, with the same predictions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import Network

torch = pytest.importorskip("torch")
nn = torch.nn

from pynn.exports import pytorch  # noqa: E402


def filled(*layers: Any, dtype: Any = torch.float64) -> Any:
    """Return a sequential module in evaluation mode with random parameters and statistics."""
    torch.manual_seed(0)
    module = nn.Sequential(*layers).to(dtype)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand_like(tensor) * 0.8 + 0.1)
    return module.eval()


def outputs(module: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


X = np.random.default_rng(0).normal(size=(7, 4))

ACTIVATIONS = [
    *(nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.LeakyReLU(0.0), nn.ELU(0.7), nn.CELU()),
    *(nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(2.0), nn.Softsign()),
    *(nn.Sigmoid(), nn.Tanh(), nn.ReLU6(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh()),
    *(nn.Hardtanh(0.0, 6.0), nn.Identity()),
]


def test_every_layer_there_and_back() -> None:
    """Each activation in a layer of one module, with all norms before and after it."""
    used = set()
    for k, activation in enumerate(ACTIVATIONS):
        norms = [nn.BatchNorm1d(5), nn.LayerNorm(5, 1e-3), nn.RMSNorm(5), nn.BatchNorm1d(5, 1e-3)]
        pair = (activation, norms[k % 4])
        nested = nn.Sequential(*(pair if k % 2 else pair[::-1]))
        end = [nn.Softmax(dim=1), nn.LogSoftmax(-1), nn.Sigmoid(), nn.Identity()][k % 4]
        module = filled(
            *(nn.Dropout(0.1), nn.Flatten(), nn.Linear(4, 5, bias=k % 3 > 0), nested),
            *(nn.Dropout(0.3), nn.Flatten(), nn.Linear(5, 3), end),
        )
        used |= {type(layer).__name__ for layer in module.modules()}
        net = Network.from_torch(module, backend="numpy")
        back = net.to_torch()
        expected = outputs(module, X)
        if isinstance(end, nn.LogSoftmax):
            expected = np.exp(expected)
        probabilities = net.architecture.loss != "mse"
        found = net.predict_proba(X) if probabilities else net.predict(X)
        if isinstance(end, nn.Sigmoid):
            found = net.activations(X, -1)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(outputs(back, X), expected, rtol=1e-9)
        assert [type(layer) for layer in back if isinstance(layer, nn.Dropout)] == [nn.Dropout] * 2
        assert net.architecture.dropout == (0.3,)
        again = Network.from_torch(back, loss=net.architecture.loss, backend="numpy")
        assert again.architecture == net.architecture
        np.testing.assert_array_equal(again.parameters, net.parameters)
    assert used >= {*pytorch.ACCEPTED}


def test_a_loss_completes_a_module_and_logits_leave_it_out() -> None:
    module = filled(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), dtype=torch.float32)
    net = Network.from_torch(module, loss="cross_entropy", backend="numpy")
    assert (net.dtype, net.architecture.activations[-1]) == (np.float32, "softmax")
    x = X.astype(np.float32)
    expected = torch.softmax(torch.from_numpy(outputs(module, x)), 1).numpy()
    np.testing.assert_allclose(net.predict_proba(x), expected, rtol=1e-5)
    np.testing.assert_allclose(outputs(net.to_torch(), x), expected, rtol=1e-5)
    np.testing.assert_allclose(
        outputs(net.to_torch(logits=True), x), outputs(module, x), rtol=1e-5, atol=1e-6
    )
    with torch.no_grad():
        module[0].weight.zero_()
    assert net.weights[0].all()  # copies
    with pytest.raises(ValueError, match="logits: found 1, expected True or False"):
        net.to_torch(logits=1)


def test_standardised_and_averaged_networks_become_modules() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) * [1, 10, 0.1, 5] + [0, 100, 3, -7]
    y = np.c_[x[:, 0] * 7 + 100, x[:, 1] - 50]
    settings: dict[str, Any] = {"standardize": True, "standardize_targets": True}
    net = Network([4, 6, 2], loss="mse", norm="batch", backend="numpy", dtype="float64", **settings)
    with pytest.raises(ValueError, match="standardize: found True for to_torch"):
        net.to_torch()
    net.fit(x, y, epochs=3, batch_size=10, ema=0.9, progress=False)
    for logits in (False, True):
        np.testing.assert_allclose(outputs(net.to_torch(logits=logits), x), net.predict(x), 1e-9)
    single = Network([1, 2], loss="mse", backend="numpy", standardize=True)
    single.fit(np.array([[1e8], [1e8 + 1e3]]), np.eye(2), epochs=1, progress=False)
    with pytest.raises(ValueError, match="to_torch: found input 0 .* mean 1e\\+08 .*float64"):
        single.to_torch()


@pytest.mark.parametrize(
    "settings, found",
    [
        ({"residual": True}, "residual connections"),
        ({"output": "exp", "loss": "poisson"}, "the activation 'exp'"),
        ({"precision": "bf16"}, "precision 'bf16'"),
        (
            {"activation": pynn.Activation("twice", lambda z: 2 * z, lambda z: 2 + 0 * z)},
            "the activation 'twice'",
        ),
    ],
    ids=str,
)
def test_networks_that_pytorch_does_not_have(settings: dict[str, Any], found: str) -> None:
    net = Network([4, 4, 2], backend="numpy", **settings)
    with pytest.raises(ValueError, match=f"to_torch: found {found}.*expected"):
        net.to_torch()
    if "exp" in found:
        rates = net.predict(X.astype(np.float32))
        log = outputs(net.to_torch(logits=True), X.astype(np.float32))
        np.testing.assert_allclose(np.exp(log), rates, rtol=1e-5)


class OwnForward(nn.Sequential):
    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


class OwnModule(nn.Module):
    pass


class Named(nn.Sequential):
    """A subclass that computes the same."""


def linear() -> Any:
    return nn.Linear(4, 4)


def hooked() -> Any:
    layer = linear()
    layer.register_forward_hook(lambda *_: None)
    return layer


def hooked_parameter() -> Any:
    layer = linear()
    layer.bias.register_hook(lambda g: g)
    return layer


def patched() -> Any:
    layer = linear()
    layer.forward = lambda x: x
    return layer


def hooked_container() -> Any:
    found = nn.Sequential(linear())
    found.register_full_backward_hook(lambda *_: None)
    return found


def shared() -> Any:
    first, second = linear(), linear()
    second.weight = first.weight
    return nn.Sequential(first, second)


def twice() -> Any:
    layer = linear()
    return nn.Sequential(layer, nn.ReLU(), layer)


REFUSED = [
    (lambda: nn.Conv2d(1, 1, 3), "nn.Conv2d '1' at position 1 .*convolution"),
    (lambda: nn.PReLU(), "nn.PReLU .*slope"),
    (lambda: nn.LogSigmoid(), "nn.LogSigmoid .*does not have"),
    (lambda: nn.Fold(2, 2), "nn.Fold .*does not have"),
    (lambda: nn.Softmax(0), "nn.Softmax .*dim=0, expected dim=1"),
    (lambda: nn.Hardtanh(0, 1), "nn.Hardtanh .*from 0 to 1"),
    (lambda: nn.CELU(2.0), "nn.CELU .*alpha=2"),
    (lambda: nn.LeakyReLU(-1.0), "nn.LeakyReLU .*negative_slope=-1"),
    (lambda: nn.Softplus(threshold=1), "nn.Softplus .*threshold=1"),
    (lambda: nn.Dropout(1.0), "nn.Dropout .*p=1"),
    (lambda: nn.Flatten(0), "nn.Flatten .*start_dim=0"),
    (lambda: nn.BatchNorm1d(4, track_running_stats=False), "track_running_stats=False"),
    (lambda: nn.BatchNorm1d(4, momentum=None), "momentum=None"),
    (lambda: nn.LayerNorm([2, 4]), r"normalized_shape=\(2, 4\), expected one axis"),
    (lambda: nn.LayerNorm(4, 0.0), "epsilon: found 0"),
    (lambda: nn.LazyLinear(4), "nn.LazyLinear .*call the module once"),
    (lambda: nn.Linear(4, 4, dtype=torch.bfloat16), "torch.bfloat16, expected float32 or float64"),
    (lambda: nn.Linear(4, 4, device="meta"), "device meta, expected the CPU"),
    (lambda: nn.Linear(4, 4, dtype=torch.float64), "of float64, expected float32, that of nn.Lin"),
    (lambda: nn.Linear(3, 4), "with 3 inputs, expected 4"),
    (lambda: OwnForward(linear()), "OwnForward '1' .*forward of its own"),
    (lambda: OwnModule(), "OwnModule '1' .*forward of its own"),
    (patched, "nn.Linear '1' at position 1 .*expected"),
    (hooked, "nn.Linear '1' .*with forward hooks"),
    (hooked_parameter, "nn.Linear '1' .*hooks of its bias"),
    (hooked_container, "nn.Sequential '1' with backward hooks"),
    (shared, "nn.Linear '1.1' at position 2 .*same parameters as nn.Linear '1.0'"),
    (twice, "nn.Linear '1.2' at position 3 .*same parameters a second time"),
    (lambda: nn.utils.parametrizations.weight_norm(linear()), "parametrization of its weights"),
    (lambda: nn.DataParallel(linear()), "DataParallel '1' .*module.module"),
]


@pytest.mark.parametrize("make, found", REFUSED, ids=[found for _, found in REFUSED])
def test_other_layers_are_refused_with_their_position(make: Any, found: str) -> None:
    module = nn.Sequential(linear(), make(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=f"module: found .*{found}"):
        Network.from_torch(module)


def test_what_is_no_module() -> None:
    for found, kind in ((nn.Sequential, "type"), ([linear()], "list"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"module: found a {kind}, expected an nn.Sequential"):
            Network.from_torch(found)
    with pytest.raises(ValueError, match=re.escape("module: found no nn.Linear")):
        Network.from_torch(nn.Sequential())
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.raises(ValueError, match="module: found hooks for all modules"):
            Network.from_torch(linear())
    finally:
        handle.remove()


def test_single_layers_subclasses_and_layers_without_all_parameters() -> None:
    assert Network.from_torch(linear(), backend="numpy").sizes == (4, 4)
    for norm in (
        *(nn.LayerNorm(4, bias=False), nn.LayerNorm(4, elementwise_affine=False)),
        *(nn.RMSNorm(4, elementwise_affine=False), nn.BatchNorm1d(4, affine=False)),
    ):
        module = filled(Named(nn.Linear(4, 4, bias=False), norm, nn.ReLU(True)), nn.Linear(4, 2))
        net = Network.from_torch(module, backend="numpy")
        np.testing.assert_allclose(net.predict(X), outputs(module, X), rtol=1e-9)


def test_the_table_names_every_layer() -> None:
    rows = pytorch.layers_table().splitlines()[2:]
    names = set(re.findall(r"`nn\.(\w+)`", "\n".join(rows)))
    assert names == {"Sequential", *pytorch.ACCEPTED, *pytorch._REASONS}
    assert all(hasattr(nn, name) for name in names)
    page = Path(__file__).parents[2] / "docs" / "reference" / "torch.md"
    _, rest = page.read_text(encoding="utf-8").split("<!-- layers: begin -->\n\n")
    assert rest.split("\n\n<!-- layers: end -->")[0] == pytorch.layers_table()
