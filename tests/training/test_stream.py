"""Training on rows that are read part by part: windows, resuming, interrupts, failures."""

from __future__ import annotations

import _thread
import errno
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.backends.contract import Data
from pynn.data.stream import Chunk, Source
from pynn.training.stream import Reader, StreamTrainer, _Window, cut

RNG = np.random.default_rng(5)
X = RNG.normal(size=(1000, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
BACKENDS = [name for name, reason in choose.available().items() if not reason]


class Parts(Source):
    """Arrays in parts."""

    def __init__(self, x, y, rows, window=10**6, weight=None, delay=0.0, fails_at=None):
        self.x, self.y, self.weight, self.delay = x, y, weight, delay
        self.starts = list(range(0, len(x), rows))
        self.stops = [*self.starts[1:], len(x)]
        self.buffer_bytes = window * x.shape[1] * x.itemsize
        self.has_targets, self.has_weights = y is not None, weight is not None
        self.fails_at, self.reads = fails_at, 0

    def parts(self) -> list[int | None]:
        return [b - a for a, b in zip(self.starts, self.stops, strict=True)]

    def read(self, part: int, x: bool = True) -> Iterator[Chunk]:
        self.reads += 1
        if x and self.reads == self.fails_at:
            raise OSError("disk: read error")
        time.sleep(self.delay)
        a, b = self.starts[part], self.stops[part]
        for start in range(a, b, 37):
            rows = slice(start, min(b, start + 37))
            weight = None if self.weight is None else self.weight[rows]
            yield Chunk(
                self.x[rows] if x else None, self.y[rows], weight, f"part {part}", start - a
            )

    def fingerprint(self) -> dict[str, str]:
        return {"rows": "parts", "sha256": "0"}


def network(**options) -> pynn.Network:
    return pynn.Network([6, 9, 3], seed=4, **options)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pynn reader"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_window_trains_as_arrays_do(backend) -> None:
    settings = {"epochs": 3, "batch_size": 64, "l2": 1e-4, "ema": 0.9, "validation": (X, Y)}
    settings["sample_weight"] = weight = RNG.uniform(0.5, 2, len(X))
    a = network(backend=backend, dropout=0.2)
    expected = a.fit(X, Y, **settings)
    b = network(backend=backend, dropout=0.2)
    del settings["sample_weight"]
    found = b.fit(Parts(X, Y, 1000, weight=weight), **settings)
    np.testing.assert_array_equal(a.parameters, b.parameters)
    assert [r._replace(seconds=0, samples_per_second=0) for r in found] == [
        r._replace(seconds=0, samples_per_second=0, loss=pytest.approx(r.loss)) for r in expected
    ]
    assert not readers()


@pytest.mark.parametrize("backend", BACKENDS)
def test_windows_train_as_arrays_do_without_shuffling(backend) -> None:
    a, b = network(backend=backend), network(backend=backend)
    a.fit(X, Y, epochs=2, batch_size=32, shuffle=False, schedule="one_cycle")
    b.fit(
        Parts(X, Y, 170, window=100), epochs=2, batch_size=32, shuffle=False, schedule="one_cycle"
    )
    np.testing.assert_array_equal(a.parameters, b.parameters)
    assert a.updates == b.updates
    assert a.history[-1].loss == pytest.approx(b.history[-1].loss)


def test_shuffling_depends_on_seed_and_epoch_alone() -> None:
    def trained(seed: int, threads: int) -> np.ndarray:
        net = pynn.Network([6, 9, 3], seed=seed, threads=threads, dropout=0.1)
        net.fit(Parts(X, Y, 50, window=200), epochs=1, batch_size=32)
        net.fit(Parts(X, Y, 50, window=200), epochs=1, batch_size=32)
        return net.parameters

    first = trained(1, 1)
    np.testing.assert_array_equal(first, trained(1, 2))
    assert (first != trained(2, 1)).any()

    order = []

    class Seen(Parts):
        def read(self, part: int, x: bool = True) -> Iterator[Chunk]:
            if x:
                order.append(part)
            return super().read(part, x)

    network().fit(Seen(X, Y, 50, window=200), epochs=2)
    assert sorted(order[-40:-20]) == sorted(order[-20:]) == list(range(20))
    assert order[-40:-20] != order[-20:]


def test_every_window_of_every_epoch_has_random_numbers_of_its_own() -> None:
    trainer = StreamTrainer.__new__(StreamTrainer)
    trainer._windows = 4
    numbers = [trainer._number(epoch, window) for epoch in range(3) for window in range(4)]
    assert numbers == list(range(12))


def test_pieces_with_and_without_weights_share_a_window() -> None:
    window = _Window(6, 6, np.dtype(np.float32))
    weight = np.array([2.0, 3.0])
    assert window.add(Data(X[:2], Y[:2], None, True), 0) == 2
    assert window.add(Data(X[2:4], Y[2:4], weight), 0) == 2
    assert window.add(Data(X[3:9], Y[3:9], None), 1) == 3
    found = window.data()
    assert found.missing
    assert found.sample_weight is not None
    assert found.sample_weight.tolist() == [1, 1, 2, 3, 1, 1]
    np.testing.assert_array_equal(found.x, X[:6])
    np.testing.assert_array_equal(found.y, Y[:6])


def test_a_chunk_without_its_first_rows_counts_them() -> None:
    found = cut(Chunk(X[:9], Y[:9], None, "part 0", 20), 4)
    assert found.first == 24
    np.testing.assert_array_equal(found.x, X[4:9])


@pytest.mark.parametrize("at", [3, 8, 17, 32])
def test_resuming_in_the_middle_of_an_epoch(tmp_path, at) -> None:
    settings = {"epochs": 3, "batch_size": 32, "optimizer": "adam", "validation": (X, Y)}
    source = Parts(X, Y, 90, window=128)
    whole = network(dropout=0.1)
    whole.fit(source, **settings)

    def stop(net) -> None:
        if net.updates == at + 1:
            raise KeyboardInterrupt

    broken = network(dropout=0.1)
    point = pynn.Checkpoint(tmp_path / "run", steps=at)
    every = pynn.callbacks.Callback

    class Stop(every):
        steps = 1

        def on_steps(self, net, record) -> None:
            stop(net)

    with pytest.raises(KeyboardInterrupt):
        broken.fit(source, checkpoint=point, callbacks=Stop(), **settings)
    assert broken.updates == at + 1
    assert not readers()
    again = network(dropout=0.1)
    again.fit(source, checkpoint=point, resume=True, **settings)
    np.testing.assert_array_equal(whole.parameters, again.parameters)
    assert [r.loss for r in whole.history] == [r.loss for r in again.history]


def test_standardised_inputs_are_those_of_arrays() -> None:
    x = X * np.float32(3) + np.float32(100)
    a, b = network(standardize=True), network(standardize=True)
    a.fit(x, Y, epochs=1, shuffle=False)
    b.fit(Parts(x, Y, 170, window=128), epochs=1, shuffle=False)
    np.testing.assert_array_equal(a.input_mean, b.input_mean)
    np.testing.assert_array_equal(a.input_scale, b.input_scale)
    np.testing.assert_array_equal(a.parameters, b.parameters)


def test_standardised_targets_are_those_of_arrays() -> None:
    y = X[:, 0] * 1000 + 5
    options = {"loss": "mse", "standardize": True, "standardize_targets": True}
    a, b = (pynn.Network([6, 9, 1], seed=4, **options) for _ in range(2))
    a.fit(X, y, epochs=2, shuffle=False, validation=(X, y))
    source = Parts(X, y, 170, window=128)
    b.fit(source, epochs=2, shuffle=False, validation=source)
    np.testing.assert_array_equal(a.parameters, b.parameters)
    np.testing.assert_array_equal(a.target_scale, b.target_scale)
    assert a.history[-1].loss == pytest.approx(b.history[-1].loss)
    assert a.history[-1].validation_loss == pytest.approx(b.history[-1].validation_loss)
    np.testing.assert_array_equal(a.predict(X), b.predict(source))


def test_predict_and_evaluate_read_in_windows() -> None:
    net = network()
    net.fit(X, Y, epochs=1)
    source = Parts(X, Y, 90, window=128)
    np.testing.assert_array_equal(net.predict(X), net.predict(source))
    np.testing.assert_array_equal(net.predict_proba(X), net.predict_proba(source))
    expected = net.evaluate(X, Y, metrics=["f1", "auc"])
    assert net.evaluate(source, metrics=["f1", "auc"]) == pytest.approx(expected)
    weight = np.arange(1000.0)
    expected = net.evaluate(X, Y, sample_weight=weight)
    assert net.evaluate(Parts(X, Y, 90, 128, weight)) == pytest.approx(expected)
    net.fit(source, epochs=1, validation=source, metrics="f1")
    assert net.history[-1].validation_f1 == pytest.approx(net.evaluate(X, Y, metrics="f1")["f1"])
    assert not readers()


def test_validation_on_a_source_while_training_on_arrays() -> None:
    source = Parts(X, Y, 90, window=128)
    a, b = (network(standardize=True) for _ in range(2))
    expected = a.fit(X, Y, epochs=2, ema=0.9, validation=(X, Y), metrics="f1")
    found = b.fit(X, Y, epochs=2, ema=0.9, validation=source, metrics="f1")
    np.testing.assert_array_equal(a.parameters, b.parameters)
    assert found[-1].validation_loss == pytest.approx(expected[-1].validation_loss)
    assert found[-1].validation_f1 == pytest.approx(expected[-1].validation_f1)
    assert not readers()


def test_class_weights_and_smoothing() -> None:
    words = np.array(["low", "mid", "top"])[Y]
    for given in ("balanced", {"top": 3.0}):
        a, b = network(), network()
        settings = {"epochs": 1, "shuffle": False, "label_smoothing": 0.1, "class_weight": given}
        a.fit(X, words, **settings)
        b.fit(Parts(X, words, 90, window=128), **settings)
        np.testing.assert_array_equal(a.parameters, b.parameters)
        assert b.classes.tolist() == ["low", "mid", "top"]


def test_pixels_are_decided_by_all_rows() -> None:
    x = np.zeros((200, 6), np.uint8)
    x[150:] = 9
    net = network()
    net.fit(Parts(x, Y[:200], 50), epochs=1)
    assert net.pixels is True
    net = network()
    net.fit(Parts(np.minimum(x, 1), Y[:200], 50), epochs=1)
    assert net.pixels is False


def test_missing_targets() -> None:
    y = X[:, :2].copy()
    y[::3, 0] = np.nan
    a, b = (pynn.Network([6, 9, 2], seed=4, loss="mse") for _ in range(2))
    a.fit(X, y, epochs=1, shuffle=False, missing_targets="ignore")
    b.fit(Parts(X, y, 90, 128), epochs=1, shuffle=False, missing_targets="ignore")
    np.testing.assert_array_equal(a.parameters, b.parameters)


# --- Batches --------------------------------------------------------------------------------------


def test_batches_are_updates_in_their_order() -> None:
    batches = [(X[k : k + 48], Y[k : k + 48]) for k in range(0, 1000, 48)]
    a, b, c = network(), network(), network()
    a.fit(X, Y, epochs=2, batch_size=48, shuffle=False)
    b.fit(batches, epochs=2)
    assert b.updates == 2 * len(batches)
    np.testing.assert_array_equal(a.parameters, b.parameters)
    c.fit(batches, epochs=2, batch_size=64)
    np.testing.assert_array_equal(
        c.parameters, network_after(X, Y, epochs=2, batch_size=64, shuffle=False)
    )
    assert a.evaluate(batches) == pytest.approx(a.evaluate(X, Y))


def network_after(x, y, **settings) -> np.ndarray:
    net = network()
    net.fit(x, y, **settings)
    return net.parameters


def test_iterables_that_cannot_be_used() -> None:
    class Once:
        def __init__(self) -> None:
            self.left = [(X[:50], Y[:50])] * 4

        def __iter__(self):
            while self.left:
                yield self.left.pop()

    net = network()
    before = net.parameters.copy()
    with pytest.raises(TypeError, match="found a generator, which can be read only once"):
        net.fit((X[k : k + 9], Y[k : k + 9]) for k in range(9))
    with pytest.raises(ValueError, match=r"found 0 rows in part 0 .*, expected 200"):
        net.fit(Once())
    with pytest.raises(ValueError, match="found 60 rows in batch 1 .*expected 50 as in the first"):
        net.fit([(X[:50], Y[:50]), (X[:60], Y[:60])])
    with pytest.raises(ValueError, match="batch 1: x: found 5 values in a row"):
        net.fit([(X[:50], Y[:50]), (X[:50, :5], Y[:50])])
    with pytest.raises(ValueError, match="batch 1: y: found 49 rows, expected 50"):
        net.fit([(X[:50], Y[:50]), (X[:50], Y[:49])])
    with pytest.raises(TypeError, match="found a tuple of 4 as batch 0"):
        net.evaluate(Tuples())
    np.testing.assert_array_equal(before, net.parameters)
    assert not readers()


class Tuples:
    def __iter__(self):
        return iter([(X, Y, Y, Y)])


# --- Failures -------------------------------------------------------------------------------------


def test_arguments_that_need_all_rows_are_refused() -> None:
    source = Parts(X, Y, 90)
    for settings, message in (
        ({"validation": 0.2}, "validation: found 0.2 with rows that are read part by part"),
        ({"optimizer": "lbfgs"}, "optimizer: found 'lbfgs'"),
        ({"batch_size": None}, "batch_size: found None"),
        ({"metrics": "f1", "training_metrics": True}, "training_metrics: found True"),
        ({"y": Y}, "y: found a ndarray with a Parts"),
    ):
        with pytest.raises(ValueError, match=message):
            network().fit(source, **settings)
    with pytest.raises(ValueError, match="y: found no targets"):
        network().fit(Parts(X, None, 90))


def test_a_bad_cell_stops_training_after_the_last_complete_update() -> None:
    x = X.copy()
    x[400, 3] = np.nan
    updates = []
    net = network()
    step = pynn.callbacks.Callback

    class Count(step):
        steps = 1

        def on_steps(self, net, record) -> None:
            updates.append(net.parameters.copy())

    with pytest.raises(ValueError, match=r"part 4: column 3 .* of x: found nan in row 0"):
        net.fit(Parts(x, Y, 100, window=128), shuffle=False, batch_size=32, callbacks=Count())
    assert net.updates == len(updates) == 12
    np.testing.assert_array_equal(net.parameters, updates[-1])
    assert net.epochs == 0
    assert not readers()
    net.fit(X, Y, epochs=1)


def test_a_failed_read_is_raised() -> None:
    net = network()
    with pytest.raises(OSError, match="read error"):
        net.fit(Parts(X, Y, 100, window=128, fails_at=27), epochs=3)
    assert net.updates > 0
    assert not readers()


def test_a_full_disk_at_checkpoint_time(tmp_path, monkeypatch) -> None:
    written = []

    def full(*arguments, **options):
        written.append(0)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(*arguments, **options)

    replace = os.replace
    monkeypatch.setattr(os, "replace", full)
    net = network()
    point = pynn.Checkpoint(tmp_path / "run", steps=10)
    source = Parts(X, Y, 90, window=128)
    with pytest.warns(RuntimeWarning, match="No space left on device; training continues"):
        net.fit(source, epochs=3, batch_size=32, checkpoint=point)
    assert not readers()
    expected = network_after(source, None, epochs=3, batch_size=32)
    np.testing.assert_array_equal(net.parameters, expected)


def test_ctrl_c_while_waiting_for_rows() -> None:
    net = network()
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        net.fit(Parts(X, Y, 500, window=128, delay=0.3), epochs=100)
    assert time.perf_counter() - began < 10  # the delay of one read, and no hang
    timer.join()
    deadline = time.perf_counter() + 10
    while readers() and time.perf_counter() < deadline:
        time.sleep(0.05)
    assert not readers()


def test_divergence_is_found_in_its_window() -> None:
    y = X[:, :1].astype(np.float64)
    x = X.copy()
    x[700] = 1e30
    net = pynn.Network([6, 9, 1], seed=4, loss="mse", activation="relu")
    with pytest.raises(pynn.DivergenceError) as caught:
        net.fit(Parts(x, y, 100, 128), shuffle=False, batch_size=32, epochs=3, optimizer="sgd")
    assert caught.value.epoch == 1
    assert caught.value.step == 700 // 32 + 1
    assert np.isfinite(net.parameters).all()
    assert not readers()


def test_learning_rates_are_found_on_a_source() -> None:
    found = network().find_learning_rate(Parts(X, Y, 90, 128), None, steps=40)
    assert len(found.rates) > 10
    assert not readers()


def test_a_reader_that_nobody_closed_ends() -> None:
    gone = Reader(lambda stopped: iter(range(9))).start()
    assert gone.take() == 0
    del gone
    for _ in range(100):
        if not readers():
            break
        time.sleep(0.05)
    assert not readers()


def test_later_passes_with_more_rows_are_refused() -> None:
    class Growing:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([(X[:50], Y[:50])] * (2 if self.passes < 3 else 3))

    with pytest.raises(ValueError, match="found more than 100 rows in part 0 .*, expected 100"):
        network().fit(Growing(), epochs=3)
    assert not readers()


def test_sparse_batches_are_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="found sparse rows in batch 0"):
        network().fit([(sparse.csr_matrix(X), Y)])


def test_parts_without_a_known_target() -> None:
    y = X[:, :1].copy()
    y[:300] = np.nan
    a, b = (pynn.Network([6, 9, 1], seed=4, loss="mse") for _ in range(2))
    settings = {"epochs": 1, "shuffle": False, "missing_targets": "ignore"}
    a.fit(X, y, **settings)
    b.fit(Parts(X, y, 90, 128), **settings)
    np.testing.assert_array_equal(a.parameters, b.parameters)
    with pytest.raises(ValueError, match="y: found no target that is not nan"):
        b.fit(Parts(X, y * np.nan, 90, 128), **settings)
