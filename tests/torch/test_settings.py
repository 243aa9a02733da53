"""pynn.torch.fit with optimizers, schedulers and losses in unusual states."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import pynn

torch = pytest.importorskip("torch")
nn = torch.nn

from .test_fit import _float64, agree, data, fit, halves, loop, made, state_of  # noqa: E402, F401


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, 0.01),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
        halves(lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1), lr=0.0),
    ],
)
def test_learning_rates_of_zero_move_state_and_statistics_alone(make: Any) -> None:
    """Warm-ups begin with lr=0, and cosine schedules end with it."""
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    results = []
    for ours in (False, True):
        module = made(nn.BatchNorm1d(6), nn.Tanh())
        optimizer = make(module.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: k / 4)
        before = copy.deepcopy(module)
        for k in range(3):
            (fit if ours else loop)(*(module, x, y, optimizer, loss), epochs=2)
            if k == 0:
                assert torch.equal(module[0].weight, before[0].weight)
                assert torch.equal(module[1].bias, before[1].bias)
                assert not torch.equal(module[1].running_mean, before[1].running_mean)
            scheduler.step()
        results.append((module, state_of(module, optimizer)))
    (one, first), (other, second) = results
    agree(one, other)
    for (name, a), (_, b) in zip(first, second, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-9, atol=1e-9, msg=name)


def test_optimizers_that_callbacks_change() -> None:
    module, (x, y), loss = made(), data("classes"), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(module.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def call(net: Any, record: Any) -> None:
        scheduler.step()

    fit(module, x, y, optimizer, loss, epochs=1, callbacks=call)  # the next call follows
    with pytest.raises(ValueError, match="lr or other settings changed by a callback.*epochs=1"):
        fit(module, x, y, optimizer, loss, epochs=2, callbacks=call)
    assert int(optimizer.state[module[0].weight]["step"]) == 6


def test_parameters_that_callbacks_change() -> None:
    module, (x, _), loss = made(nn.BatchNorm1d(6), nn.Tanh()), data("classes"), nn.MSELoss()

    def halve(net: Any, record: Any) -> None:
        with torch.no_grad():
            module[0].weight.mul_(0.5)

    given = (module, x, x[:, :3], "adam", loss)
    fit(*given, epochs=1, callbacks=halve)
    changed = module[0].weight.clone()
    fit(*given, epochs=0)
    assert torch.equal(module[0].weight, changed)
    for call, epochs in ((halve, 2), (pynn.callbacks.Every(2, halve), 1)):
        with pytest.raises(ValueError, match="callbacks: found weights of nn.Linear '0' .*in turn"):
            fit(*given, epochs=epochs, callbacks=call)


def test_values_that_callbacks_restore_are_written_to_the_module() -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    module = made(nn.BatchNorm1d(6), nn.Tanh())
    optimizer = torch.optim.Adam(module.parameters(), 0.1)
    stop = pynn.EarlyStopping(patience=2)
    given = {"epochs": 99, "validation": (x[:9], (y[:9] + 1) % 3), "callbacks": stop}
    history = fit(module, x, y, optimizer, loss, **given)
    assert stop.best_epoch < len(history) < 99
    with torch.no_grad():
        found = loss(module.eval()(x[:9]), given["validation"][1]).item()
    assert found == pytest.approx(history[stop.best_epoch - 1].validation_loss, rel=1e-12)
    assert int(optimizer.state[module[0].weight]["step"]) == 3 * len(history)
    assert int(module[1].num_batches_tracked) == 3 * len(history)


def test_states_losses_and_memory_that_cannot_be_followed() -> None:
    (x, y), loss = data("classes"), nn.CrossEntropyLoss()
    module = made()
    module[0].requires_grad_(False)
    optimizer = torch.optim.Adam(module.parameters())
    fit(module, x, y, optimizer, loss, epochs=1)
    module[0].requires_grad_(True)
    with pytest.raises(ValueError, match="found 0 steps of '0.weight' and 3 of '2.weight'.*SGD"):
        fit(module, x, y, optimizer, loss, epochs=1)
    module[0].requires_grad_(False)
    del optimizer.state[module[2].bias]["exp_avg_sq"]
    with pytest.raises(ValueError, match="optimizer: found a state without exp_avg_sq"):
        fit(module, x, y, optimizer, loss, epochs=1)
    with pytest.raises(ValueError, match="on the device meta, .*module.to_empty"):
        fit(made().to("meta"), x, y, "adam", loss)
    loss.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="nn.CrossEntropyLoss with hooks, expected none"):
        fit(module, x, y, "adam", loss)
    flat = torch.zeros(9)
    module = made()
    module[0].bias = nn.Parameter(flat[:6])
    module[2].bias = nn.Parameter(flat[5:8])
    with pytest.raises(ValueError, match="nn.Linear '2' .*biases in the memory of biases of"):
        fit(module, x, y, "adam", nn.CrossEntropyLoss())
    module[2].bias = nn.Parameter(torch.zeros(1).expand(3))
    with pytest.raises(ValueError, match="nn.Linear '2' .*with expanded biases"):
        fit(module, x, y, "adam", nn.CrossEntropyLoss())
