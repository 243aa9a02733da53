"""pynn.torch.MLP against modules of PyTorch, its numerical gradients and its tools."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import pynn

torch = pytest.importorskip("torch")

from pynn.torch import MLP, operations  # noqa: E402
from pynn.torch.passes import Call  # noqa: E402

BUILDS: list[dict[str, Any]] = [
    {"activation": "tanh"},
    {"activation": "gelu", "norm": "layer", "residual": True},
    {"activation": "silu", "norm": "rms", "norm_after": True},
    {"activation": ["softplus", "mish"], "output": "softmax"},
]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the passes ran in pynn's kernels."""
    counts = dict.fromkeys(("forward", "backward", "backward_twice"), 0)
    for name in counts:
        original = getattr(Call, name)

        def count(self: Call, *given: Any, _name: str = name, _of: Any = original, **more: Any):
            counts[_name] += 1
            return _of(self, *given, **more)

        monkeypatch.setattr(Call, name, count)
    return counts


def built(**settings: Any) -> MLP:
    torch.manual_seed(3)
    return MLP([4, 4, 4, 3], **{"dtype": torch.float64, **settings})


def rows(n: int = 5, dtype: Any = torch.float64) -> Any:
    torch.manual_seed(1)
    return torch.randn(n, 4, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("settings", BUILDS, ids=str)
def test_gradients_and_their_gradients(settings: dict[str, Any], counted: dict[str, int]) -> None:
    """With respect to inputs and parameters, in pynn's kernels."""
    model, x = built(**settings), rows()
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def outputs(x: Any, *values: Any) -> Any:
        return torch.func.functional_call(model, dict(zip(names, values)), (x,))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.autograd.gradcheck(model, (x,))
        assert torch.autograd.gradcheck(outputs, (x, *values), fast_mode=True)
        assert torch.autograd.gradgradcheck(outputs, (x, *values), fast_mode=True)
    assert all(counted.values())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("settings", [*BUILDS, {"norm": "batch"}], ids=str)
def test_outputs_and_gradients_are_those_of_pytorch(
    settings: dict[str, Any], training: bool
) -> None:
    model = built(**settings).train(training)
    found = []
    for in_kernels in (True, False):
        twin, x = copy.deepcopy(model), rows()
        if in_kernels:
            out = twin(x)
        else:
            out = operations.forward(twin.architecture, list(twin.layers), x, training)
        (out * torch.arange(15.0).reshape(5, 3)).sum().backward()
        found.append([out, x.grad, *(p.grad for p in twin.parameters()), *twin.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_it_trains_as_layers_of_pytorch_do() -> None:
    torch.manual_seed(0)
    model = MLP([4, 16, 3], activation="tanh")
    layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    with torch.no_grad():
        for mine, its in zip(model.parameters(), layers.parameters(), strict=True):
            its.copy_(mine)
    x, y = torch.randn(30, 4), torch.randint(0, 3, (30,))
    losses = []
    for one in (model, layers):
        optimizer = torch.optim.Adam(one.parameters(), lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(one(x), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(one.parameters(), 0.5)
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # The parameters still are views of one tensor.
    flat = model._flat
    assert {p.untyped_storage().data_ptr() for p in model.parameters()} == {
        flat.untyped_storage().data_ptr()
    }


def test_copies_pickles_and_state_dicts() -> None:
    model = MLP([4, 8, 3], norm="batch", dropout=0.2)
    model(rows(9, torch.float32))
    model.eval()
    x = rows(7, torch.float32)
    expected = model(x)
    loaded = MLP([4, 8, 3], norm="batch").eval()
    loaded.load_state_dict(model.state_dict())
    assigned = MLP([4, 8, 3], norm="batch").eval()
    assigned.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded, assigned, saved]
    for other in others:
        assert torch.equal(other(x), expected)
        with torch.no_grad():
            other.layers[1].bias += 1
        assert torch.equal(model(x), expected)
        assert not torch.equal(other(x), expected)
    assert "norm=BatchNorm" in repr(model)
    double = copy.deepcopy(model).double()
    torch.testing.assert_close(double(x.double()), expected.double(), rtol=1e-5, atol=1e-5)


def test_dropout_follows_the_generator_of_pytorch() -> None:
    model, x, found = built(dropout=0.5), rows(), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(model(x))
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(model.eval()(x), model(x))


def test_other_dtypes_and_transforms_fall_back_with_one_warning() -> None:
    operations.warn.cache_clear()
    model, x = built(), rows(6).detach()
    with pytest.warns(UserWarning, match="found a transform of torch.func"):
        found = torch.vmap(model)(x)
    torch.testing.assert_close(found, model(x))
    half = copy.deepcopy(model).to(torch.bfloat16)
    with pytest.warns(UserWarning, match=r"found dtype torch\.bfloat16"):
        assert half(x.bfloat16()).dtype is torch.bfloat16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half(x.bfloat16())
    assert model(x[:0]).shape == (0, 3)
    assert model(x.reshape(2, 3, 4)).shape == (2, 3, 3)
    assert model(x[0]).shape == (3,)
    strided = torch.randn(4, 6, dtype=torch.float64).t()
    torch.testing.assert_close(model(strided), model(strided.contiguous()))


def test_graphs_are_kept_apart_and_changes_in_place_are_refused() -> None:
    model, x = built(), rows()
    torch.autograd.grad(model(x).sum(), x)  # its tape is used again, by one of the next two
    first, second = model(x), model(1 - x)
    one = torch.autograd.grad(first.sum(), x, retain_graph=True)[0]
    again = torch.autograd.grad(first.sum(), x)[0]
    assert torch.equal(one, again)
    assert torch.equal(one, torch.autograd.grad(built()(x).sum(), x)[0])
    expected = torch.autograd.grad(built()(1 - x).sum(), x)[0]
    assert torch.equal(torch.autograd.grad(second.sum(), x)[0], expected)
    late = model(x)
    with torch.no_grad():
        model.layers[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        late.sum().backward()
    with torch.no_grad():
        assert not model(x).requires_grad


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dtype: found torch.float16, expected torch.float32"):
        MLP([4, 3], dtype=torch.float16)
    double = pynn.Activation("double", lambda z: 2 * z, lambda z: 2.0 + 0 * z)
    with pytest.raises(ValueError, match="activation: found .*custom function"):
        MLP([4, 3, 2], activation=double)
    with pytest.raises(ValueError, match=r"x: found shape \(2, 5\), expected \(…, 4\)"):
        built()(torch.zeros(2, 5, dtype=torch.float64))
    model = built(norm="batch")
    with pytest.raises(ValueError, match="x: found 1 rows, expected two or more"):
        model(rows(1))
    x = rows()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="a second derivative through batch norm"):
        slope.square().sum().backward()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    found = []
    for threads in (1, 3):
        torch.manual_seed(0)
        model = MLP([64, 512, 256, 8], threads=threads)
        x = torch.randn(300, 64, requires_grad=True)
        out = model(x)
        out.square().sum().backward()
        found.append([out, x.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one.detach().numpy(), other.detach().numpy())
