"""Networks with batch norm: running statistics, refusals, runs, and PyTorch."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn

X = np.random.default_rng(0).normal(size=(40, 6))
Y = np.random.default_rng(1).integers(0, 3, 40)
BACKENDS = [name for name in ("cython", "numpy") if not pynn.info()["backends"][name]]


def make(**settings: Any) -> pynn.Network:
    settings = {"norm": ["batch", None, "batch"], "dropout": 0.1, "seed": 3} | settings
    return pynn.Network([6, 6, 5, 5, 3], **settings)


def fit(net: pynn.Network, epochs: int = 2, **more: Any) -> None:
    net.fit(X, Y, epochs=epochs, **{"batch_size": 8, "progress": False, **more})


def values(net: pynn.Network) -> bytes:
    return net.parameters.tobytes() + net.statistics.tobytes()


def test_running_statistics_are_not_parameters() -> None:
    net = make()
    assert len(net.statistics) == 2 * 6 + 2 * 5
    mean, variance = net.running_means[2], net.running_variances[2]
    assert mean is not None
    assert variance is not None
    assert (mean == 0).all()
    assert (variance == 1).all()
    assert net.running_means[1] is None
    fit(net)
    assert np.array_equal(net.statistics[12:17], mean)
    assert (mean != 0).all()
    before = net.statistics.copy()
    net.parameters = 0 * net.parameters
    assert np.array_equal(net.statistics, before)
    net.statistics = 2 * before
    assert np.array_equal(mean, 2 * before[12:17])


@pytest.mark.parametrize(
    "rows, batch_size", [(40, 1), (41, 8), (1, 8), (1, None)], ids=["size 1", "last", "row", "all"]
)
def test_a_batch_of_one_row_is_refused_before_training(rows: int, batch_size: Any) -> None:
    net = make()
    x, y = np.resize(X, (rows, 6)), np.resize(Y, rows)
    start = values(net)
    with pytest.raises(ValueError, match=r"(x: found 1 row|batch_size: found .*) .*expected"):
        net.fit(x, y, batch_size=batch_size, progress=False)
    assert values(net) == start
    assert net.epochs == 0
    with pytest.raises(ValueError, match="x: found 1 row, expected two or more"):
        net.loss_and_gradient(X[:1], Y[:1])


def test_the_error_names_the_nearest_size_that_works() -> None:
    for rows, batch_size, expected in ((33, 32, 33), (65, 64, 65), (65, 32, 33), (7, 1, 4)):
        x, y = np.resize(X, (rows, 6)), np.resize(Y, rows)
        with pytest.raises(ValueError, match=f"for example {expected}$"):
            make().fit(x, y, batch_size=batch_size, progress=False)
        make().fit(x, y, batch_size=expected, epochs=1, progress=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frozen_layers_take_a_batch_of_one_row(backend: str) -> None:
    net = make(backend=backend)
    net.freeze(0)
    with pytest.raises(ValueError, match="batch_size"):
        fit(net, batch_size=1)
    net.freeze(2)
    before = net.statistics.copy()
    for batch_size in (1, 39):
        fit(net, batch_size=batch_size)
    assert np.array_equal(net.statistics, before)
    assert np.isfinite(net.parameters).all()


def test_negative_variances_are_refused(tmp_path: Path) -> None:
    net = make()
    fit(net, ema=0.9)
    start, average = values(net), net.average
    assert average is not None
    wrong = net.statistics.copy()
    wrong[12 + 5 + 3] = -1
    message = "found the running variance -1 of unit 3 in layer 2 .*, expected 0 or more"
    with pytest.raises(ValueError, match=f"^statistics: {message}"):
        net.statistics = wrong
    with pytest.raises(ValueError, match=f"^average: {message}"):
        net.average = np.concatenate([net.parameters, wrong])
    assert values(net) == start
    assert np.array_equal(net.average, average)
    net.average = None
    net.running_variances[2][3] = -1  # type: ignore[index]
    net.save(tmp_path / "net")
    with pytest.raises(ValueError, match=message):
        pynn.load(tmp_path / "net")


def test_setting_the_statistics_removes_the_average() -> None:
    net = make()
    fit(net, ema=0.9)
    net.statistics = 2 * net.statistics
    assert net.average is None
    net.statistics[:] = 1  # writeable again


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_without_weight_leaves_the_statistics(backend: str) -> None:
    """It counts as a step; rows of weight 0 in another batch count in its statistics."""
    both, first = (make(backend=backend, dropout=0.0) for _ in range(2))
    more = {"shuffle": False, "epochs": 1, "batch_size": 8, "optimizer": "sgd", "progress": False}
    both.fit(X[:16], Y[:16], sample_weight=np.repeat([1.0, 0.0], 8), **more)
    first.fit(X[:8], Y[:8], **more)
    assert values(both) == values(first)
    assert both.updates == 2
    some = make(backend=backend, dropout=0.0)
    some.fit(X[:8], Y[:8], sample_weight=np.repeat([1.0, 0.0], 4), **more)
    assert np.array_equal(some.running_means[0], first.running_means[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_average_has_its_own_running_statistics(tmp_path: Path, backend: str) -> None:
    net = make(backend=backend, dtype="float64")
    more = {"optimizer": "sgd", "batch_size": 20, "shuffle": False, "ema": 0.9}
    fit(net, 1, **more)
    average = net.average
    assert average is not None
    path = tmp_path / "net"
    net.save(path)
    other = pynn.load(path, backend=backend)
    assert other.predict_proba(X).tobytes() == net.predict_proba(X).tobytes()
    assert len(average) == len(net.parameters) + len(net.statistics)
    assert (average[len(net.parameters) :] != net.statistics).all()


def test_lbfgs_is_refused() -> None:
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="'lbfgs' with batch norm"):
        fit(make(dropout=0.0), optimizer="lbfgs", batch_size=64)
    with pytest.raises(ValueError, match="'lbfgs' with batch norm"):
        make(dropout=0.0).fit(X[:33], Y[:33], batch_size=32, optimizer="lbfgs", progress=False)


def test_files_pickles_and_copies_have_the_statistics(tmp_path: Path) -> None:
    net, path = make(norm=pynn.BatchNorm(0.2, 1e-3, False), residual=True), tmp_path / "net"
    fit(net)
    net.save(path)
    for other in (pynn.load(path), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert other.architecture == net.architecture
        assert values(other) == values(net)
        assert other.predict_proba(X).tobytes() == net.predict_proba(X).tobytes()
        assert other.activations(X, 1).tobytes() == net.activations(X, 1).tobytes()
        fit(other)
        again = pickle.loads(pickle.dumps(net))
        fit(again)
        assert values(other) == values(again)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_resumed_run_ends_identically(tmp_path: Path, backend: str) -> None:
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
    resumed = make(**settings)
    fit(resumed, 4, checkpoint=checkpoint, resume=True, **stopping)
    assert values(resumed) == values(whole)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_early_stopping_restores_the_statistics_of_the_best_epoch(ema: float | None) -> None:
    net, epochs = make(), []

    def state(net: pynn.Network) -> bytes:
        return values(net) + (b"" if net.average is None else net.average.tobytes())

    def keep(net: pynn.Network, record: pynn.Record) -> None:
        epochs.append(state(net))
        if record.epoch == stopping.best_epoch:
            # A checkpoint has them too.
            assert np.array_equal(stopping.state()["statistics"], net.statistics)

    stopping = pynn.EarlyStopping("loss", patience=None)
    fit(net, 6, learning_rate=0.5, optimizer="sgd", callbacks=[stopping, keep], ema=ema)
    assert stopping.best_epoch is not None
    assert state(net) == epochs[stopping.best_epoch - 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_divergence_leaves_the_state_of_the_last_finite_step(backend: str) -> None:
    """The same as a run that was stopped before it."""
    rates = {"optimizer": "sgd", "l2": 0.01, "shuffle": False}
    x = X.copy()
    x[33] = 1e38  # overflows in the last batch
    net, stopped = (make(backend=backend, standardize=False) for _ in range(2))
    with pytest.raises(pynn.DivergenceError):
        net.fit(x, Y, epochs=1, batch_size=8, progress=False, **rates)
    stopped.fit(x[:32], Y[:32], epochs=1, batch_size=8, progress=False, **rates)
    assert net.updates == stopped.updates == 4
    assert values(net) == values(stopped)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_hundred_steps_follow_pytorch(backend: str, after: bool) -> None:
    """Parameters, running statistics, and predictions with them."""
    torch = pytest.importorskip("torch")
    nn, f8 = torch.nn, torch.float64
    settings = {"norm": "batch", "norm_after": after, "dropout": 0.0, "activation": "tanh"}
    net = make(dtype="float64", backend=backend, **settings)
    layers = [nn.Linear(*w.shape, dtype=f8) for w in net.weights]
    norms = [nn.BatchNorm1d(n, dtype=f8) for n in net.sizes[1:-1]]
    with torch.no_grad():
        for layer, w, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight[...] = torch.from_numpy(w.T.copy())
            layer.bias[...] = torch.from_numpy(b.copy())
    modules = []
    for layer, own in zip(layers, norms, strict=False):
        modules += [layer, nn.Tanh(), own] if after else [layer, own, nn.Tanh()]
    model = nn.Sequential(*modules, layers[-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    for _ in range(20):
        for rows in range(0, 40, 8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows : rows + 8]), y[rows : rows + 8]).backward()
            optimizer.step()
    more = {"optimizer": "momentum", "learning_rate": 0.05, "shuffle": False}
    fit(net, 20, **more)
    pairs = [(w, layer.weight.T) for w, layer in zip(net.weights, layers, strict=True)]
    for k, own in enumerate(norms):
        pairs += [(net.scales[k], own.weight), (net.shifts[k], own.bias)]
        pairs += [(net.running_means[k], own.running_mean)]
        pairs += [(net.running_variances[k], own.running_var)]
    model.eval()
    pairs += [(net.predict_proba(X), torch.softmax(model(x), dim=1))]
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-9)
