"""pynn.torch.MLP in differential equations, transforms, threads and processes."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from pynn.exports import pytorch  # noqa: E402
from pynn.torch import MLP, operations  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:pynn.torch.MLP computes:UserWarning")


def pair(**settings: Any) -> tuple[MLP, Any]:
    """A module, and its values as a function that is computed by PyTorch alone."""
    torch.manual_seed(0)
    model = MLP([3, 8, 8, 2], **{"activation": "tanh", "dtype": torch.float64, **settings})
    return model, lambda x: operations.forward(model.architecture, model.layers, x, False)


def equation(u: Any, model: MLP, x: Any) -> list[Any]:
    """Gradients of a loss with the Laplacian, and the third derivative."""
    (d,) = torch.autograd.grad(u(x)[:, 0].sum(), x, create_graph=True)
    parts = [torch.autograd.grad(d[:, k].sum(), x, create_graph=True)[0] for k in range(3)]
    laplacian = sum(part[:, k] for k, part in enumerate(parts))
    (third,) = torch.autograd.grad(laplacian.sum(), x, create_graph=True)
    loss = (laplacian - 1).square().mean() + third.square().mean()
    found = torch.autograd.grad(loss, [x, *model.parameters()], allow_unused=True)
    return [laplacian, third, *(torch.zeros(()) if g is None else g for g in found)]


@pytest.mark.parametrize(
    "settings", [{}, {"norm": "layer", "residual": True, "dropout": 0.5}], ids=["plain", "norm"]
)
def test_derivatives_of_second_derivatives(settings: dict[str, Any]) -> None:
    model, plain = pair(**settings)
    model.eval()
    operations.warn.cache_clear()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    with pytest.warns(UserWarning, match="found derivatives of second derivatives"):
        found = equation(model, model, x)
    for one, other in zip(found, equation(plain, model, x), strict=True):
        torch.testing.assert_close(one, other.reshape(one.shape).to(one.dtype))


def test_derivatives_of_second_derivatives_repeat_dropout() -> None:
    """Those of PyTorch's operations equal those of the kernels for the same pass."""
    model, _ = pair(dropout=0.5)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for graph in (True, False):
        torch.manual_seed(1)
        (d,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(d.square().sum(), x, create_graph=graph)[0])
    torch.testing.assert_close(*found)


def test_transforms_and_batched_gradients() -> None:
    model, plain = pair()
    x = torch.randn(4, 3, dtype=torch.float64)
    functional = torch.autograd.functional

    def results(u: Any) -> list[Any]:
        def loss(z: Any) -> Any:
            return u(z).square().sum()

        return [
            functional.hvp(loss, x, x)[1],
            functional.hessian(loss, x[0], vectorize=True),
            functional.jacobian(u, x, vectorize=True),
            functional.jvp(u, x, x)[1],
            torch.func.jvp(u, (x,), (x,))[1],
        ]

    for one, other in zip(results(model), results(plain), strict=True):
        torch.testing.assert_close(one, other)

    values = dict(model.named_parameters())
    found = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(values)
    model(x).sum().backward()
    for name, p in values.items():
        torch.testing.assert_close(found[name], p.grad)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        tangent = torch.autograd.forward_ad.unpack_dual(model(dual)).tangent
    torch.testing.assert_close(tangent, results(plain)[4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of sizes
        traced = torch.jit.trace(model, x)
    torch.testing.assert_close(traced(x), model(x))


def test_first_calls_of_several_threads() -> None:
    torch.manual_seed(0)
    model, x = MLP([8, 64, 3]), torch.randn(16, 8)
    expected = model(x)
    for _ in range(5):
        twin = MLP([8, 64, 3])
        twin.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
        outs: list[Any] = []
        threads = [threading.Thread(target=lambda: outs.append(twin(x))) for _ in range(3)]  # noqa: B023
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outs) == 3
        assert all(torch.equal(out, expected) for out in [*outs, twin(x)])


def test_shared_memory_stays_shared() -> None:
    model, x = MLP([8, 16, 3], norm="batch"), torch.randn(16, 8)
    expected = model.eval()(x)
    model.share_memory()
    assert torch.equal(model(x), expected)
    assert all(p.is_shared() for p in model.parameters())
    for p in model.parameters():
        p.data = p.data.clone().share_memory_()  # each in its own storage
    assert torch.equal(model(x), expected)
    assert all(p.is_shared() for p in model.parameters())
    twin = MLP([8, 16, 3], norm="batch")
    twin.load_state_dict(model.state_dict())
    for one in (model, twin):
        one.train()(x)
    for name, statistics in model.named_buffers():
        assert torch.equal(statistics, twin.get_buffer(name))


def test_to_sequential_computes_the_same() -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    norms = [{}, {"norm": "layer"}, {"norm": "rms", "norm_after": True}, {"norm": "batch"}]
    for k, output in enumerate(pytorch.MODULES):
        model, _ = pair(output=output, dropout=0.2, **norms[k % 4])
        other = model.eval().to_sequential()
        torch.testing.assert_close(other(x), model(x))
        assert all(p.is_contiguous() for p in other.parameters())


def test_to_sequential_refuses_other_layers() -> None:
    with pytest.raises(ValueError, match="to_sequential: found residual connections"):
        pair(residual=True)[0].to_sequential()
    with pytest.raises(ValueError, match="to_sequential: found the activation 'exp'"):
        pair(output="exp")[0].to_sequential()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weights_that_are_computed(old: bool) -> None:
    model, plain = pair()
    utils = torch.nn.utils
    (utils.weight_norm if old else utils.parametrizations.weight_norm)(model.layers[0], "weight")
    x = torch.randn(4, 3, dtype=torch.float64)
    parameters = list(model.parameters())
    for _ in range(2):
        found = torch.autograd.grad(model(x).sum(), parameters, retain_graph=True)
        for one, other in zip(found, torch.autograd.grad(plain(x).sum(), parameters), strict=True):
            torch.testing.assert_close(one, other)
        with torch.no_grad():
            for p in parameters:
                p.add_(0.1)


def test_meta_device_and_wrong_inputs() -> None:
    with torch.device("meta"):
        model = MLP([3, 4, 2])
    assert {p.device.type for p in model.parameters()} == {"meta"}
    other = MLP([3, 4, 2])
    model = model.to_empty(device="cpu")
    model.load_state_dict(other.state_dict())
    assert torch.equal(model(torch.ones(2, 3)), other(torch.ones(2, 3)))
    with pytest.raises(TypeError, match="x: found a list, expected a torch.Tensor"):
        model([[1.0, 2.0, 3.0]])
    with pytest.raises(TypeError, match=r"x: found torch.int64, expected floating-point"):
        model(torch.ones(2, 3, dtype=torch.int64))
