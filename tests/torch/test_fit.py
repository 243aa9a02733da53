"""pynn.torch.fit against loops of PyTorch with the same initial weights and order of rows."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn

torch = pytest.importorskip("torch")
nn = torch.nn

import pynn.torch  # noqa: E402
from pynn.torch import criteria, optimizers  # noqa: E402

ROWS, BATCH, EPOCHS = 44, 16, 34
"""Three batches in an epoch, the last of 12 rows: 102 steps."""


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    """NAdam keeps a product in the default dtype of PyTorch. One thread is faster here."""
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def made(*middle: Any, outputs: int = 3, end: Any = None, dtype: Any = torch.float64) -> Any:
    """Return a module of two layers; batch norms subtract biases, so that there are none."""
    torch.manual_seed(2)
    bias = not any(isinstance(layer, nn.BatchNorm1d) for layer in middle)
    layers = [nn.Linear(4, 6, bias), *(middle or [nn.Tanh()]), nn.Linear(6, outputs)]
    return nn.Sequential(*layers, *([end] if end is not None else [])).to(dtype)


def data(kind: str, dtype: Any = torch.float64) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(ROWS, 4))).to(dtype)
    y: Any = rng.normal(size=(ROWS, 3))
    if kind == "classes":
        return x, torch.from_numpy(rng.integers(0, 3, ROWS))
    if kind == "shares":
        y = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    elif kind == "yes":
        y = rng.uniform(size=(ROWS, 3)).round(1)
    elif kind == "counts":
        y = rng.poisson(2.0, (ROWS, 3))
    return x, torch.from_numpy(y).to(dtype)


def loop(
    module: Any, x: Any, y: Any, optimizer: Any, loss: Any, epochs: int = EPOCHS, clip: float = 0
) -> None:
    """Train as a program with PyTorch does."""
    module.train()
    for _ in range(epochs):
        for k in range(0, len(x), BATCH):
            optimizer.zero_grad()
            loss(module(x[k : k + BATCH]), y[k : k + BATCH]).backward()
            if clip:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()


def fit(module: Any, x: Any, y: Any, optimizer: Any, loss: Any, **more: Any) -> pynn.History:
    given = {"epochs": EPOCHS, "batch_size": BATCH, "shuffle": False, "threads": 1} | more
    return pynn.torch.fit(module, x, y, optimizer=optimizer, loss=loss, progress=False, **given)


def agree(one: Any, other: Any, tolerance: float = 1e-9) -> None:
    first, second = one.state_dict(), other.state_dict()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=tolerance, atol=tolerance, msg=name)


def compare(
    module: Any,
    x: Any,
    y: Any,
    loss: Any,
    optimizer: Callable[[Any], Any] = lambda p: torch.optim.Adam(p, 1e-3),
    tolerance: float = 1e-9,
    theirs: Any = None,
    **more: Any,
) -> tuple[Any, Any]:
    """Train copies of a module by both, which must agree; return the modules."""
    one, other = copy.deepcopy(module), copy.deepcopy(module)
    loop(one, x, y, optimizer(one.parameters()), theirs or loss)
    history = fit(other, x, y, optimizer(other.parameters()), loss, **more)
    agree(one, other, tolerance)
    assert len(history) == EPOCHS
    assert not torch.equal(next(other.parameters()), next(module.parameters()))
    return one, other


WEIGHT = torch.tensor([1.0, 0.25, 3.0], dtype=torch.float64)


def gaussian(out: Any, y: Any) -> Any:
    variance = nn.functional.softplus(out[:, 3:]) + 1e-6
    return nn.GaussianNLLLoss()(out[:, :3], y, variance)


LOSSES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "cross entropy": (nn.CrossEntropyLoss(), "classes", {}),
    "of log-softmax": (nn.CrossEntropyLoss(), "classes", {"end": nn.LogSoftmax(1)}),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), "classes", {}),
    "weight": (nn.CrossEntropyLoss(weight=WEIGHT), "classes", {}),
    "equal weights": (
        nn.CrossEntropyLoss(weight=2 + 0 * WEIGHT, label_smoothing=0.1),
        *("classes", {}),
    ),
    "ignore_index": (nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=1), "classes", {}),
    "smoothing, ignore_index": (
        nn.CrossEntropyLoss(ignore_index=1, label_smoothing=0.2),
        *("classes", {}),
    ),
    "probabilities": (nn.CrossEntropyLoss(label_smoothing=0.1), "shares", {}),
    "nll": (nn.NLLLoss(weight=WEIGHT, ignore_index=2), "classes", {"end": nn.LogSoftmax(-1)}),
    "bce with logits": (nn.BCEWithLogitsLoss(), "yes", {}),
    "bce": (nn.BCELoss(), "yes", {"end": nn.Sigmoid()}),
    "mse": (nn.MSELoss(), "values", {}),
    "mse of softmax": (nn.MSELoss(), "shares", {"end": nn.Softmax(1)}),
    "l1": (nn.L1Loss(), "values", {"end": nn.Tanh()}),
    "huber": (nn.HuberLoss(delta=0.7), "values", {}),
    "smooth l1": (nn.SmoothL1Loss(beta=0.3), "values", {}),
    "smooth l1 of 0": (nn.SmoothL1Loss(beta=0.0), "values", {"end": nn.Tanh()}),
    "weight and pos_weight": (
        nn.BCEWithLogitsLoss(torch.tensor(0.5), pos_weight=torch.tensor([3.0])),
        *("yes", {}),
    ),
    "weight of bce": (nn.BCELoss(torch.tensor(3.0)), "yes", {"end": nn.Sigmoid()}),
    "poisson": (nn.PoissonNLLLoss(), "counts", {}),
    "gaussian": (nn.GaussianNLLLoss(), "values", {"outputs": 6}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    loss, kind, settings = LOSSES[name]
    theirs = gaussian if name == "gaussian" else loss
    compare(made(**settings), *data(kind), loss, theirs=theirs)


def halves(make: Any, **second: Any) -> Callable[[Any], Any]:
    """Return a function that makes an optimizer with two groups of parameters."""

    def optimizer(parameters: Any) -> Any:
        weights, vectors = [], []
        for p in parameters:
            (weights if p.ndim == 2 else vectors).append(p)
        return make([{"params": weights}, {"params": vectors, **second}])

    return optimizer


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9),
    "nesterov": halves(
        lambda p: torch.optim.SGD(p, 0.02, momentum=0.8, nesterov=True, weight_decay=0.2),
        lr=0.05,
        weight_decay=0.01,
    ),
    "adam": lambda p: torch.optim.Adam(p, 0.003, (0.8, 0.95), 1e-6, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.003, amsgrad=True, foreach=False),
    "fused adam": lambda p: torch.optim.Adam(p, torch.tensor(0.003), fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.003, weight_decay=1.0, amsgrad=True),
    "adamw in groups": halves(lambda p: torch.optim.AdamW(p, 0.003), lr=0.001, weight_decay=0.0),
    "nadam": lambda p: torch.optim.NAdam(p, 0.003, momentum_decay=0.01, weight_decay=0.1),
    "nadamw": lambda p: torch.optim.NAdam(p, 0.003, weight_decay=1, decoupled_weight_decay=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.001, 0.9, 1e-6, weight_decay=0.1),
    "rmsprop with momentum": lambda p: torch.optim.RMSprop(p, 0.001, momentum=0.9, eps=1e-4),
    "centered rmsprop": halves(
        lambda p: torch.optim.RMSprop(p, 0.001, centered=True, momentum=0.5, eps=1e-3), lr=0.002
    ),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.05, 0.1, 0.1, initial_accumulator_value=0.2),
}


def state_of(module: Any, optimizer: Any) -> list[Any]:
    """Return the values of an optimizer's state."""
    found = [sorted(optimizer.state.get(p, {}).items()) for p in module.parameters()]
    return [(k, torch.as_tensor(v)) for items in found for k, v in items if v is not None]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_continue_on_either_side(name: str) -> None:
    """PyTorch, two calls of fit and PyTorch make the steps of PyTorch alone, with its state."""
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    module = made(nn.LayerNorm(6), nn.Tanh())
    one, other = copy.deepcopy(module), copy.deepcopy(module)
    first, second = (OPTIMIZERS[name](m.parameters()) for m in (one, other))
    loop(one, x, y, first, loss, 40)
    loop(other, x, y, second, loss, 10)
    fit(other, x, y, second, loss, epochs=9)
    fit(other, x, y, second, loss, epochs=11)
    loop(other, x, y, second, loss, 10)
    agree(one, other)
    for (key, mine), (same, its) in zip(state_of(one, first), state_of(other, second), strict=True):
        assert (key, mine.dtype) == (same, its.dtype)
        torch.testing.assert_close(mine, its, rtol=1e-7, atol=1e-9)


MIDDLES: dict[str, list[Any]] = {
    "batch norm, gelu": [nn.BatchNorm1d(6, momentum=0.3), nn.GELU()],
    "silu, batch norm": [nn.SiLU(), nn.BatchNorm1d(6)],
    "rms norm, mish": [nn.RMSNorm(6), nn.Mish()],
    "softplus, layer norm": [nn.Softplus(2.0), nn.LayerNorm(6, 1e-3)],
    "elu, nested": [nn.Sequential(nn.ELU(0.5), nn.Linear(6, 6)), nn.Softsign()],
    "hard": [nn.Hardtanh(), nn.Linear(6, 6), nn.Hardswish(), nn.Linear(6, 6), nn.LeakyReLU(0.1)],
    "relu": [nn.ReLU(inplace=True), nn.Flatten(), nn.Identity(), nn.Linear(6, 6), nn.ReLU6()],
}


@pytest.mark.parametrize("name", MIDDLES)
def test_layers(name: str) -> None:
    compare(made(*MIDDLES[name]), *data("classes"), nn.CrossEntropyLoss())


@pytest.mark.parametrize("name", ["cross entropy", "mse", "bce with logits"])
def test_float32(name: str) -> None:
    loss, kind, settings = LOSSES[name]
    module = made(nn.LayerNorm(6), nn.Tanh(), dtype=torch.float32, **settings)
    compare(module, *data(kind, torch.float32), loss, tolerance=1e-4)


# --- What is trained ------------------------------------------------------------------------------


def test_frozen_layers_keep_their_parameters_and_batch_norms_move() -> None:
    """requires_grad=False, or parameters that the optimizer does not have."""
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    module = made(nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
    for part in (module[3], module[:4]):
        one, other = copy.deepcopy(module), copy.deepcopy(module)
        for m in (one, other):
            kept = [id(p) for p in (m[3] if part is module[3] else m[:4]).parameters()]
            for p in m.parameters():
                p.requires_grad_(id(p) not in kept)
        loop(one, x, y, torch.optim.Adam(one.parameters()), loss)
        fit(other, x, y, torch.optim.Adam(other.parameters()), loss)
        agree(one, other)
        assert torch.equal(other[3].weight, module[3].weight)
        assert not torch.equal(other[1].running_mean, module[1].running_mean)
        assert int(other[1].num_batches_tracked) == 3 * EPOCHS
    one, other = copy.deepcopy(module), copy.deepcopy(module)
    loop(one, x, y, torch.optim.SGD(one[-1].parameters(), 0.1), loss)
    optimizer = torch.optim.SGD(other[-1].parameters(), 0.1)
    fit(other, x, y, optimizer, loss)
    agree(one, other)
    assert torch.equal(other[0].weight, module[0].weight)


def test_batch_norms_in_evaluation_mode() -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    module = made(nn.BatchNorm1d(6), nn.Tanh())
    module[1].running_mean.fill_(0.3)
    module.train()
    module[1].eval()
    both = "nn.BatchNorm1d '1' .*in evaluation mode.*in it or in nn.Linear '0'.*requires_grad"
    with pytest.raises(ValueError, match=both):
        fit(module, x, y, "adam", loss, epochs=1)
    for p in module[:2].parameters():
        p.requires_grad_(False)
    one, other = copy.deepcopy(module), copy.deepcopy(module)
    optimizer = torch.optim.Adam(one.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        loss(one(x), y).backward()
        optimizer.step()
    fit(other, x, y, torch.optim.Adam(other.parameters()), loss, epochs=3, batch_size=None)
    agree(one, other)
    assert other.training
    assert not other[1].training


def test_modules_keep_their_mode_and_their_tensors() -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    module = made().eval()
    flat = torch.empty(100)
    view = flat[7 : 7 + 48 : 2].reshape(6, 4)
    with torch.no_grad():
        view.copy_(module[0].weight)
    module[0].weight.data = flat[7 : 7 + 48 : 2].view(6, 4)  # strided
    before = [p.data_ptr() for p in module.parameters()]
    versions = [p._version for p in module.parameters()]
    optimizer = torch.optim.Adam(module.parameters())
    fit(module, x, y, optimizer, loss, epochs=2)
    assert before == [p.data_ptr() for p in module.parameters()]
    assert all(p._version > v for p, v in zip(module.parameters(), versions))
    assert not module.training
    assert torch.equal(module[0].weight, view)
    assert not torch.equal(view, made()[0].weight)


# --- Arguments ------------------------------------------------------------------------------------


def test_optimizers_of_pynn_and_functions_as_losses() -> None:
    (x, y), module = data("classes"), made()
    fit(module, x, y, pynn.AMSGrad(), nn.functional.cross_entropy, learning_rate=1e-3)
    expected = made()
    optimizer = torch.optim.Adam(expected.parameters(), 1e-3, amsgrad=True)
    loop(expected, x, y, optimizer, nn.CrossEntropyLoss())
    agree(expected, module)
    with pytest.raises(ValueError, match="learning_rate: found 0.1 with an optimizer of PyTorch"):
        fit(module, x, y, optimizer, nn.CrossEntropyLoss(), learning_rate=0.1)


def test_clipping_is_that_of_clip_grad_norm() -> None:
    (x, y), loss = data("values"), nn.MSELoss()
    one, other = made(), made()
    make = lambda m: torch.optim.SGD(m.parameters(), 0.1, weight_decay=0.3)  # noqa: E731
    loop(one, x, y, make(one), loss, clip=0.05)
    fit(other, x, y, make(other), loss, clip_norm=0.05)
    agree(one, other)
    unbiased = nn.Sequential(nn.Linear(4, 3, bias=False))
    with pytest.raises(
        ValueError, match="clip_norm: found a limit with nn.Linear '0' .* no biases"
    ):
        fit(unbiased, x, y, make(unbiased), loss, clip_norm=0.1)


def test_weights_of_rows_multiply_those_of_classes() -> None:
    (x, y), rows = data("classes"), torch.linspace(0.1, 2, ROWS)
    one, other = made(), made()
    optimizer = torch.optim.SGD(one.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        weight = WEIGHT[y] * rows
        losses = nn.functional.cross_entropy(one(x), y, reduction="none")
        ((weight * losses).sum() / weight.sum()).backward()
        optimizer.step()
    given = {"epochs": 3, "batch_size": None, "sample_weight": rows}
    loss = nn.CrossEntropyLoss(weight=WEIGHT)
    fit(other, x, y, torch.optim.SGD(other.parameters(), 0.1), loss, **given)
    agree(one, other)


def test_records_have_the_losses_of_pytorch() -> None:
    (x, y), module = data("classes"), made()
    with torch.no_grad():
        expected = nn.CrossEntropyLoss()(module(x), y).item()
    seen = []

    def look(net: Any, record: Any) -> None:
        own = dict(module.named_parameters())
        np.testing.assert_array_equal(net.weights[0].T, own["0.weight"].detach().numpy())
        seen.append(record.validation_accuracy)

    history = fit(
        *(module, x, y, torch.optim.Adam(module.parameters(), 1e-3), nn.CrossEntropyLoss()),
        epochs=2,
        batch_size=None,
        validation=(x[:5], y[:5].numpy()),
        metrics="f1",
        callbacks=look,
    )
    assert history[0].loss == pytest.approx(expected, rel=1e-12)
    assert len(seen) == 2
    assert history[-1].validation_f1 is not None
    (x, y), module, loss = data("values"), made(), nn.SmoothL1Loss(beta=0.25)
    with torch.no_grad():
        expected = loss(module(x), y).item()
    history = fit(module, x, y, "sgd", loss, epochs=1, batch_size=None, validation=(x, y))
    assert history[0].loss == pytest.approx(expected, rel=1e-12)
    with torch.no_grad():
        expected = loss(module(x), y).item()
    assert history[0].validation_loss == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="sample_weight: found weights with nn.SmoothL1Loss"):
        fit(module, x, y, "sgd", loss, sample_weight=np.ones(ROWS))
    with pytest.raises(ValueError, match="class_weight: found .* with nn.SmoothL1Loss"):
        fit(module, x, y, "sgd", loss, class_weight={0: 2.0})


def test_seeds_repeat_shuffling_and_dropout() -> None:
    x, y = data("classes")
    found = []
    for seed in (1, 1, 2, None, None, None):
        module = made(nn.Tanh(), nn.Dropout(0.5))
        if seed is None:
            torch.manual_seed(9 if len(found) < 5 else 8)
        fit(module, x, y, "adam", nn.CrossEntropyLoss(), seed=seed, shuffle=True, epochs=2)
        found.append(module[0].weight.detach().clone())
    equal = [torch.equal(a, b) for a, b in itertools.pairwise(found)]
    assert equal == [True, False, False, True, False]


def test_dropout_in_evaluation_mode_drops_nothing() -> None:
    (x, y), module = data("classes"), made(nn.Tanh(), nn.Dropout(0.5))
    one, other = copy.deepcopy(module), copy.deepcopy(module)
    one[2].p = 0.0
    other.train()
    other[2].eval()
    loop(one, x, y, torch.optim.Adam(one.parameters()), nn.CrossEntropyLoss(), 2)
    fit(other, x, y, torch.optim.Adam(other.parameters()), nn.CrossEntropyLoss(), epochs=2)
    agree(one, other)


# --- Loaders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"generator": 3}], ids=str)
def test_loaders_shuffle_as_in_a_loop_of_pytorch(options: dict[str, Any]) -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    results = []
    for ours in (False, True):
        module, given = made(), dict(options)
        torch.manual_seed(5)
        if "generator" in given:
            given["generator"] = torch.Generator().manual_seed(given["generator"])
        rows = torch.utils.data.TensorDataset(x, y)
        loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, **given)
        optimizer = torch.optim.Adam(module.parameters())
        if ours:
            fit(module, loader, None, optimizer, loss, epochs=3)
        else:
            for _ in range(3):
                for some, targets in loader:
                    optimizer.zero_grad()
                    loss(module(some), targets).backward()
                    optimizer.step()
        results.append(module)
    agree(*results)


class Items(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, k: int) -> tuple[Any, Any]:
        x, y = data("classes")
        return x[k], y[k]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return zip(*data("classes"))


def test_data_sets_and_lists_of_batches() -> None:
    x, y = data("classes")
    expected = made()
    optimizer = torch.optim.Adam(expected.parameters())
    loop(expected, x, y, optimizer, nn.CrossEntropyLoss(), 2)
    parts = [slice(k, k + BATCH) for k in range(0, ROWS, BATCH)]
    for rows in (
        *(Items(), Stream(), torch.utils.data.TensorDataset(x, y)),
        *([(x[p], y[p]) for p in parts], tuple((x[p].numpy(), y[p].numpy()) for p in parts)),
        [(x[p], y[p], torch.full((len(y[p]),), 2.0)) for p in parts],
    ):
        module = made()
        loss = nn.CrossEntropyLoss()
        history = fit(module, rows, None, "adam", loss, epochs=2, validation=rows)
        agree(expected, module)
        assert history[-1].validation_loss > 0
    held = fit(made(), x, y, "adam", loss, epochs=2, validation=(x.tolist(), y.tolist()))
    assert held[-1].validation_loss == pytest.approx(history[-1].validation_loss, rel=1e-12)


def test_batches_that_cannot_be_read_again() -> None:
    x, y = data("classes")
    loss = nn.CrossEntropyLoss()
    with pytest.raises(TypeError, match="x: found a zip, which can be read only once"):
        fit(made(), zip(x, y), None, "adam", loss)
    with pytest.raises(TypeError, match="y: found None with a Tensor as x, expected targets"):
        fit(made(), x, None, "adam", loss)
    with pytest.raises(TypeError, match="y: found Tensor with a Items, expected None"):
        fit(made(), Items(), y, "adam", loss)
    with pytest.raises(ValueError, match="batch 1: y: found the class [34] in row"):
        fit(made(), [(x[:9], y[:9]), (x[9:18], y[9:18] + 3)], None, "adam", loss)
    with pytest.raises(ValueError, match="sample_weight: found Tensor with batches"):
        fit(made(), Items(), None, "adam", loss, sample_weight=y)


# --- Rows and targets -----------------------------------------------------------------------------


def test_rows_of_every_kind() -> None:
    """uint8 are values; strided, read-only, integer and float16 rows are read."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4, (ROWS, 2, 2), dtype=np.uint8)
    y = rng.integers(0, 3, ROWS)
    fixed = pixels.astype(np.float64)
    fixed.flags.writeable = False
    expected = nn.Sequential(nn.Flatten(), made())
    x = torch.from_numpy(fixed.copy())
    optimizer = torch.optim.Adam(expected.parameters())
    loop(expected, x, torch.from_numpy(y), optimizer, nn.CrossEntropyLoss(), 2)
    for rows in (
        *(pixels, torch.from_numpy(pixels), fixed, pixels.astype(np.int16), x.half(), x.bfloat16()),
        *(np.repeat(fixed, 2, axis=2)[:, :, ::2], fixed.tolist(), x.float().requires_grad_()),
    ):
        module = nn.Sequential(nn.Flatten(), made())
        fit(module, rows, y.astype(np.uint8), "adam", nn.CrossEntropyLoss(), epochs=2)
        agree(expected, module, 1e-12)


X, CLASSES = data("classes")
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"x": X[:, :3]}, r"x: found shape \(44, 3\), expected \(rows, 4\), the inputs of nn.Linear"),
    ({"x": X.reshape(ROWS, 2, 2)}, "x: found shape .*begin the module with nn.Flatten"),
    ({"x": X[:0], "y": CLASSES[:0]}, "x: found no rows|x: found 0 rows|x: found an empty"),
    ({"x": X * float("nan")}, "x: found nan at row 0, column 0"),
    ({"x": X.to(torch.complex64)}, "x: found dtype complex64, expected numbers"),
    ({"x": X.to("meta")}, "x: found a tensor on meta, expected one on the CPU"),
    ({"x": X.to_sparse()}, "x: found a tensor of torch.sparse_coo"),
    ({"y": CLASSES[:-1]}, "y: found 43 rows, expected 44"),
    ({"y": CLASSES.double()}, r"y: found float64 of shape \(44,\), expected class indices.*long"),
    ({"y": CLASSES[:, None]}, r"expected class indices.*squeeze\(1\)"),
    ({"y": CLASSES + 1}, "y: found the class 3 in row [0-9]+ .*from 0 to 2"),
    ({"y": CLASSES - 1}, "y: found the class -1 in row"),
    ({"y": torch.tensor(1)}, "y: found a number, expected 44 rows"),
    ({"y": X[:, :3].abs()}, "y: found targets that sum to"),
    ({"loss": nn.MSELoss()}, r"y: found shape \(44,\), expected \(rows, 3\)"),
    ({"loss": nn.CrossEntropyLoss}, "loss: found the class CrossEntropyLoss, expected an object"),
    ({"loss": "mse"}, "loss: found 'mse', expected one of nn.CrossEntropyLoss"),
    ({"loss": nn.KLDivLoss()}, "loss: found KLDivLoss, expected one of"),
    ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "reduction='sum', expected 'mean'"),
    ({"loss": nn.CrossEntropyLoss(reduction="none")}, "reduction='none', .*a step needs one"),
    ({"x": np.ma.masked_less(X.numpy(), 0)}, "x: found a masked array"),
    ({"loss": nn.NLLLoss()}, "nn.NLLLoss with a module that ends with no activation"),
    ({"loss": nn.BCELoss()}, "nn.BCELoss with a module that ends with no activation"),
    ({"loss": nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1)}, "weight and label_smoothing"),
    ({"loss": nn.CrossEntropyLoss(torch.ones(2))}, "weight of 2 numbers, expected 3"),
    ({"loss": nn.CrossEntropyLoss(-WEIGHT)}, "weight .*expected finite numbers of 0 or more"),
    ({"loss": nn.PoissonNLLLoss(log_input=False)}, "log_input=False, expected True"),
    ({"loss": nn.GaussianNLLLoss()}, "nn.GaussianNLLLoss with a module with 3 outputs"),
    ({"optimizer": torch.optim.Adam}, "optimizer: found the class Adam, expected an object"),
    ({"optimizer": torch.optim.Adamax([nn.Parameter(X)])}, "optimizer: found Adamax, expected one"),
    ({"optimizer": torch.optim.Adam([nn.Parameter(X)])}, "shape .* in group 0 that is none of the"),
    ({"optimizer": torch.optim.SGD([nn.Parameter(X)], 0.1, 0.5, 0.5)}, "dampening=0.5, expected 0"),
    ({"optimizer": torch.optim.SGD([nn.Parameter(X)], 0.1, maximize=True)}, "maximize=True"),
    ({"validation": (X,)}, "validation: found a tuple of 1, expected a pair"),
    ({"validation": (X, CLASSES + 1)}, r"validation\[1\]: found the class 3"),
    ({"sample_weight": torch.ones(3)}, "sample_weight: found 3 rows, expected 44"),
    ({"epochs": -1}, "epochs: found -1"),
]


@pytest.mark.parametrize("change, found", WRONG, ids=[found for _, found in WRONG])
def test_wrong_arguments_leave_the_module_as_it_is(change: dict[str, Any], found: str) -> None:
    module = made()
    before = copy.deepcopy(module.state_dict())
    given = {"x": X, "y": CLASSES, "optimizer": "adam", "loss": nn.CrossEntropyLoss(), **change}
    with pytest.raises((ValueError, TypeError), match=found):
        fit(module, **given)
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


def test_parameter_groups_that_cannot_be_followed() -> None:
    module, (x, y) = made(), data("classes")
    groups = [{"params": module[0].parameters()}, {"params": module[2].parameters()}]
    loss = nn.CrossEntropyLoss()
    groups[1]["betas"] = (0.5, 0.9)
    with pytest.raises(ValueError, match=r"betas=\(0.5, 0.9\) in parameter group 1"):
        fit(module, x, y, torch.optim.Adam(groups), loss)
    optimizer = torch.optim.Adam(module.parameters())
    optimizer.register_step_pre_hook(lambda *_: None)
    with pytest.raises(ValueError, match="optimizer: found hooks of step"):
        fit(module, x, y, optimizer, loss)
    for p in module.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="module: found no parameter to train"):
        fit(module, x, y, "adam", loss)


def test_schedulers_step_between_calls() -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    results = []
    for ours in (False, True):
        module = made()
        optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        for _ in range(3):
            (fit if ours else loop)(*(module, x, y, optimizer, loss), epochs=2)
            scheduler.step()
        results.append(module)
    agree(*results)
    with pytest.raises(ValueError, match="schedule: found 'cosine' with momentum"):
        fit(module, x, y, optimizer, loss, schedule="cosine")
    with pytest.raises(TypeError, match="schedule: found StepLR of PyTorch"):
        fit(module, x, y, optimizer, loss, schedule=scheduler)


def test_mlps_alone_and_in_a_module() -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    for settings in ({"norm": "batch", "activation": "gelu"}, {"norm": "rms", "norm_after": True}):
        torch.manual_seed(0)
        mlp = pynn.torch.MLP([4, 6, 5, 3], **settings)
        for module in (mlp, nn.Sequential(nn.Linear(4, 4), nn.Tanh(), mlp)):
            one, other = copy.deepcopy(module), copy.deepcopy(module)
            loop(one, x, y, torch.optim.Adam(one.parameters()), loss, 5)
            fit(other, x, y, torch.optim.Adam(other.parameters()), loss, epochs=5)
            agree(one, other)
    residual = pynn.torch.MLP([4, 4, 3], residual=True)
    with pytest.raises(ValueError, match="MLP 'module' .*with residual=True, expected False"):
        fit(residual, x, y, "adam", loss)


def test_an_exception_leaves_a_complete_update() -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    one, other = made(), made()
    first, second = (torch.optim.Adam(m.parameters()) for m in (one, other))

    def stop(net: Any, record: Any) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(other, x, y, second, loss, callbacks=stop)
    loop(one, x, y, first, loss, 2)
    agree(one, other)
    loop(one, x, y, first, loss, 2)
    loop(other, x, y, second, loss, 2)
    agree(one, other)
    big = torch.optim.SGD(other.parameters(), 1e200)
    with pytest.raises(pynn.DivergenceError):
        fit(other, *data("values"), big, nn.MSELoss())
    assert all(torch.isfinite(p).all() for p in other.parameters())


def test_the_documentation_has_the_tables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "torch.md").read_text("utf-8")
    for name, table in (
        ("losses", criteria.losses_table()),
        ("optimizers", optimizers.optimizers_table()),
    ):
        _, rest = page.split(f"<!-- {name}: begin -->\n\n")
        assert rest.split(f"\n\n<!-- {name}: end -->")[0] == table
