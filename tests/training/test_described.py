"""Tables, HTML and scores of networks and histories."""

from __future__ import annotations

import copy
import html
import re
import sys

import numpy as np
import pytest

import pynn
from pynn.training.history import History, Record


def test_summary_of_an_untrained_network() -> None:
    net = pynn.Network([784, 128, 10], dropout=0.1, backend="numpy")
    net.freeze(0)
    assert net.summary().splitlines() == [
        "layer  inputs  outputs  activation  dropout  frozen  parameters",
        "    0     784      128  relu            0.1  yes        100,480",
        "    1     128       10  softmax           –  no           1,290",
        "total                                                   101,770",
        "loss: cross_entropy",
        "memory: 398 KiB for parameters in float32",
        "trained: not yet",
    ]
    # An interactive session displays the table and not its quoted text.
    assert repr(net.summary()) == str(net.summary())


def test_summary_names_residual_layers() -> None:
    net = pynn.Network([4, 8, 8, 3], residual=True, backend="numpy")
    rows = [line.split() for line in net.summary().splitlines()[1:4]]
    assert [row[4] for row in rows] == ["no", "yes", "no"]


def test_summary_names_noise_and_counts_running_statistics() -> None:
    settings = {"input_dropout": 0.1, "input_noise": 0.2, "hidden_noise": [0.3, 0.1]}
    net = pynn.Network([4, 8, 8, 3], norm="batch", norm_after=True, backend="numpy", **settings)
    x, y = np.eye(4), np.array([0, 1, 2, 0])
    net.fit(x, y, epochs=1, optimizer="momentum", ema=0.9, progress=False)
    noise = "input dropout 0.1, input noise 0.2, hidden noise 0.3/0.1"
    memory = (
        "memory: 684 B for parameters in float32, 128 B for running statistics, 812 B for their "
        "average, 684 B for the state of momentum"
    )
    lines = net.summary().splitlines()
    assert lines[-6:-3] == [memory, "norm: after the activation", f"noise in training: {noise}"]
    assert noise in repr(net)


def test_summary_and_html_of_a_trained_network(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = blobs
    net = pynn.Network([4, 8, 3], standardize=True, backend="numpy")
    net.fit(x, np.array(["a", "<b>", "c"])[y], epochs=2, progress=False)
    assert net.summary().splitlines()[-4:] == [
        "memory: 268 B for parameters in float32, 536 B for the state of adam",
        "inputs: values, standardized",
        "classes: <b>, a, c",
        "trained: 2 epochs, 6 updates",
    ]
    found = net._repr_html_()
    assert found.count("<tr>") == 4
    assert "&lt;b&gt;" in found
    assert "<b>" not in found
    # The same values as in the text.
    words = html.unescape(re.sub(r"<[^>]*>", " ", found)).split()
    assert set(net.summary().split()) <= set(words)


def test_score_is_accuracy_or_r2(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = blobs
    weight = np.linspace(0.1, 1, len(x))
    net = pynn.Network([4, 8, 3], backend="numpy")
    net.fit(x, y, epochs=1, progress=False)
    assert net.score(x, y) == pytest.approx((net.predict(x) == y).mean())
    right = net.predict(x) == y
    assert net.score(x, y, weight) == pytest.approx(np.average(right, weights=weight))

    many = np.stack([y == 0, x[:, 0] > 0], axis=1)
    net = pynn.Network([4, 8, 2], loss="binary_cross_entropy", backend="numpy")
    net.fit(x, many.astype(float), epochs=1, progress=False)
    right = (net.predict(x) == many).all(axis=1)
    assert net.score(x, many.astype(float)) == pytest.approx(right.mean())

    values = x[:, :2] @ [[1, 2], [3, -1]]
    net = pynn.Network([4, 8, 2], loss="mse", backend="numpy")
    net.fit(x, values, epochs=1, progress=False)
    error = ((values - net.predict(x)) ** 2).sum(axis=0)
    expected = 1 - error / ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    assert net.score(x, values) == pytest.approx(expected.mean(), rel=1e-5)


def records(n: int = 5) -> History:
    return History(Record(k, 1 / k, validation_loss=abs(k - 3.0)) for k in range(1, n + 1))


def test_frame_has_a_row_per_epoch() -> None:
    pytest.importorskip("pandas")
    history = records(3)
    history.append(Record(4, 0.1, metrics={"validation_auc": 0.5}))
    frame = history.to_frame()
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame.index.name == "epoch"
    assert "accuracy" not in frame
    assert frame["loss"].tolist() == history.loss
    assert frame["validation_auc"].isna().tolist() == [True, True, True, False]
    assert History().to_frame().shape[0] == 0


def test_a_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'pynn-mlp\[data\]'"):
        records().to_frame()


def test_html_of_a_history() -> None:
    assert records()._repr_html_().count("<tr>") == 6
    assert records(100)._repr_html_().count("<tr>") == 12
    assert History()._repr_html_() == "<p>History: no epochs</p>"


def test_a_history_names_the_restored_epoch(
    blobs: tuple[np.ndarray, np.ndarray], tmp_path: object
) -> None:
    x, y = blobs
    net = pynn.Network([4, 8, 3], backend="numpy")
    stop = pynn.EarlyStopping("accuracy", patience=2)
    history = net.fit(x, y, epochs=60, learning_rate=0.05, callbacks=stop, progress=False)
    assert stop.best_epoch == history.restored_epoch == net.history.restored_epoch
    assert history.restored_epoch < len(history)
    assert copy.deepcopy(net).history.restored_epoch == stop.best_epoch
    net.save(f"{tmp_path}/net.safetensors")
    loaded = pynn.load(f"{tmp_path}/net.safetensors", backend="numpy")
    assert loaded.history.restored_epoch == stop.best_epoch
    # Further training leaves the network in the state after its last epoch.
    net.fit(x, y, epochs=1, progress=False)
    assert net.history.restored_epoch is None


def test_parts_of_a_history_know_whether_they_have_the_restored_epoch() -> None:
    history = records()
    history.restored_epoch = 3
    assert history[2:].restored_epoch == 3
    assert history[3:].restored_epoch is None
    history.cut(4)
    assert history.restored_epoch == 3
    history.cut(2)
    assert history.restored_epoch is None
