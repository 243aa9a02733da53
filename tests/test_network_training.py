"""Errors, callbacks, early stopping and progress of fit, and copies and files of a network."""

from __future__ import annotations

import copy
import io
import math
import pickle
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends import reference
from pynn.files.tensors import load_tensors, save_tensors
from pynn.training import progress
from pynn.training.history import Record
from tests.child import python
from tests.networks import Data, make, quiet

# --- Errors leave the network as it was -----------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"x": np.zeros((150, 5))}, ValueError, "x: found 5 values in a row"),
        ({"x": np.zeros((0, 4)), "y": []}, ValueError, "x: found no rows"),
        ({"x": np.full((150, 4), np.nan)}, ValueError, "x: found nan at row 0, column 0"),
        ({"y": np.zeros(149)}, ValueError, "y: found 149 rows, expected 150"),
        ({"y": ["a", "b"] * 75}, ValueError, "y: found 2 different labels"),
        ({"epochs": -1}, ValueError, "epochs: found -1"),
        ({"epochs": 1.5}, ValueError, "epochs: found 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size: found 0"),
        ({"batch_size": -1}, ValueError, "batch_size: found -1"),
        ({"batch_size": True}, ValueError, "batch_size: found True"),
        ({"batch_size": 2.5}, ValueError, "batch_size: found 2.5"),
        ({"optimizer": "addam"}, ValueError, "optimizer: found 'addam'.*did you mean 'adam"),
        ({"optimizer": pynn.Adam}, TypeError, "optimizer: found the class Adam"),
        ({"learning_rate": 0}, ValueError, "learning_rate: found 0, expected .* above 0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate: found nan"),
        ({"l2": -0.1}, ValueError, "l2: found -0.1, expected a finite number of 0 or more"),
        ({"label_smoothing": 1.0}, ValueError, "label_smoothing: found 1.0, expected a number in"),
        ({"label_smoothing": -1}, ValueError, "label_smoothing: found -1, expected a number in"),
        ({"schedule": "cosyne"}, ValueError, "schedule: found 'cosyne'.*did you mean 'cosine'"),
        ({"schedule": pynn.Cosine}, TypeError, "schedule: found the class Cosine"),
        ({"shuffle": "no"}, TypeError, "shuffle: found 'no', expected True, False or 'blocks'"),
        ({"callbacks": [3]}, TypeError, "callbacks: found 3, expected functions"),
        ({"callbacks": pynn.EarlyStopping}, TypeError, "callbacks: found <class"),
        ({"progress": "atuo"}, ValueError, "progress: found 'atuo'.*did you mean 'auto'"),
        ({"progress": "x"}, ValueError, "progress: found 'x', .* auto, True, False or a function"),
        ({"progress": 3}, ValueError, "progress: found 3, .* auto, True, False or a function"),
        (
            {"callbacks": pynn.EarlyStopping()},
            ValueError,
            "callbacks: found EarlyStopping on 'validation_loss' but no validation data",
        ),
    ],
)
def test_wrong_arguments_of_fit_are_refused(
    net: pynn.Network,
    blobs: Data,
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    before = net.parameters.copy()
    x, y = settings.pop("x", blobs[0]), settings.pop("y", blobs[1])
    with pytest.raises(error, match=message):
        quiet(net, (x, y), **settings)
    assert (net.parameters == before).all()
    assert net.parameters.flags.writeable
    assert len(net.history) == net.updates == net.epochs == 0
    assert len(quiet(net, blobs)) == 3


@pytest.mark.parametrize(
    ("sizes", "loss", "y"),
    [
        ((4, 8, 3), "cross_entropy", None),
        ((4, 1), "binary_cross_entropy", None),
        ((4, 2), "binary_cross_entropy", np.ones((150, 2))),
    ],
    ids=["classes", "yes or no", "multilabel"],
)
def test_labels_of_outputs_that_are_not_finite(
    blobs: Data, sizes: tuple[int, ...], loss: str, y: Any
) -> None:
    x = blobs[0]
    net = make(sizes, loss=loss)
    if y is not None:
        quiet(net, (x, y), epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.predict(x)
        values = make(sizes, loss="mse")
        values.biases[-1][0] = np.nan
        values.predict(x)  # shows it itself
    net.biases[-1][-1] = np.nan
    last = 0 if len(sizes) == 3 else sizes[-1] - 1
    with pytest.warns(RuntimeWarning, match=f"predict: found nan at row 0, output {last} ") as told:
        assert len(net.predict(x)) == 150
    assert [w.filename for w in told] == [__file__]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_an_error_names_the_first_row_without_a_label(blobs: Data) -> None:
    net, x = make((4, 3)), blobs[0].copy()
    net.weights[0][...] = 2
    x[[5, 9]] = np.finfo(np.float32).max
    with pytest.warns(RuntimeWarning, match="predict: found nan at row 5, output 0 "):
        net.predict(x)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_wrong_arguments_of_predict_are_refused(net: pynn.Network, method: str) -> None:
    with pytest.raises(ValueError, match=r"x: found shape \(4,\).*x\[None, :\]"):
        getattr(net, method)(np.zeros(4))
    with pytest.raises(ValueError, match="x: found no rows"):
        getattr(net, method)(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="x: found inf"):
        getattr(net, method)(np.full((1, 4), np.inf))


# --- Callbacks ------------------------------------------------------------------------------------


def test_function_as_callback(net: pynn.Network, blobs: Data) -> None:
    seen: list[tuple[int, float, float]] = []

    def look(n: pynn.Network, record: Record) -> bool | None:
        seen.append((record.epoch, record.loss, n.evaluate(*blobs)["loss"]))
        return record.epoch == 4

    history = quiet(net, blobs, epochs=50, callbacks=look)
    assert [s[0] for s in seen] == [1, 2, 3, 4]
    assert [s[1] for s in seen] == history.loss
    assert seen[-1][2] == net.evaluate(*blobs)["loss"]
    assert len({s[2] for s in seen}) == 4
    # Watching changes nothing.
    twin = make()
    quiet(twin, blobs, epochs=4)
    assert (twin.parameters == net.parameters).all()


def test_callback_object(net: pynn.Network, blobs: Data) -> None:
    calls: list[str] = []

    class Watch(pynn.Callback):
        steps = 7

        def on_fit_begin(self, net: pynn.Network) -> None:
            calls.append("begin")

        def on_steps(self, net: pynn.Network, record: Record) -> None:
            calls.append(f"{net.updates}:{record.step}")

        def on_epoch_end(self, net: pynn.Network, record: Record) -> None:
            calls.append(f"epoch {record.epoch}")

        def on_fit_end(self, net: pynn.Network) -> None:
            calls.append("end")

    quiet(net, blobs, epochs=2, callbacks=[Watch()])
    assert calls == ["begin", "7:7", "epoch 1", "14:4", "epoch 2", "end"]


def test_callbacks_every_n_steps_do_not_change_results(blobs: Data) -> None:
    a, b = make(dropout=0.2), make(dropout=0.2)
    seen: list[tuple[int, int, int]] = []
    every = pynn.Every(3, lambda net, r: seen.append((net.updates, r.epoch, r.step)))
    with_calls = quiet(a, blobs, callbacks=every)
    without = quiet(b, blobs)
    assert a.parameters.tobytes() == b.parameters.tobytes()
    assert with_calls.loss == pytest.approx(without.loss, rel=1e-12)
    assert seen[:4] == [(3, 1, 3), (6, 1, 6), (9, 1, 9), (12, 2, 2)]
    assert len(seen) == 10


def test_stopping_between_steps(net: pynn.Network, blobs: Data) -> None:
    history = quiet(net, blobs, callbacks=pynn.Every(4, lambda n, r: n.updates == 12))
    assert net.updates == 12
    assert net.epochs == len(history) == 1
    history = quiet(net, blobs, callbacks=pynn.Every(11, lambda n, r: n.updates == 22))
    assert net.updates == 22  # the last step of an epoch, which counts
    assert net.epochs == 2
    assert history.epoch == [2]


@pytest.mark.parametrize("answer", [None, False, np.False_, 1, "stop"])
def test_only_true_stops(net: pynn.Network, blobs: Data, answer: Any) -> None:
    assert len(quiet(net, blobs, callbacks=lambda n, r: answer)) == 3


def test_parameters_are_read_only_while_training(net: pynn.Network, blobs: Data) -> None:
    def meddle(n: pynn.Network, record: Record) -> None:
        for change in (
            lambda: n.parameters.fill(0),
            lambda: n.weights[0].fill(0),
            lambda: n.biases[1].fill(0),
            lambda: setattr(n, "parameters", np.zeros(67)),
        ):
            with pytest.raises(ValueError, match="read-only"):
                change()
        with pytest.raises(RuntimeError, match="fit: found another call of fit on this network"):
            n.fit(*blobs)

    assert len(quiet(net, blobs, callbacks=meddle)) == 3
    net.parameters[:] = 1
    assert (net.weights[0] == 1).all()


def test_exception_in_a_callback(net: pynn.Network, blobs: Data) -> None:
    class Mine(Exception):
        pass

    def fail(n: pynn.Network, record: Record) -> None:
        if record.epoch == 2:
            raise Mine

    with pytest.raises(Mine):
        quiet(net, blobs, callbacks=fail)
    twin = make()
    quiet(twin, blobs, epochs=2)
    assert (net.parameters == twin.parameters).all()
    assert net.history.loss == twin.history.loss
    assert net.parameters.flags.writeable
    # It goes on from there, as if nothing had happened.
    quiet(net, blobs)
    quiet(twin, blobs)
    assert (net.parameters == twin.parameters).all()


def test_an_interrupt_between_updates_leaves_whole_epochs(net: pynn.Network, blobs: Data) -> None:
    def press(n: pynn.Network, record: Record) -> None:
        if n.updates == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quiet(net, blobs, callbacks=pynn.Every(5, press))
    assert net.updates == 15
    assert net.epochs == len(net.history) == 1
    assert np.isfinite(net.parameters).all()
    assert net.parameters.flags.writeable
    assert quiet(net, blobs).epoch == [2, 3, 4]


@pytest.mark.parametrize("call", range(1, 9))
@pytest.mark.parametrize("again", [False, True])
def test_interrupt_in_the_middle_of_an_update(
    blobs: Data, monkeypatch: pytest.MonkeyPatch, call: int, again: bool
) -> None:
    """NumPy's steps are Python, and so can be broken off between two layers, or within one.

    A second interrupt can arrive while the step is undone.
    """
    net = pynn.Network([2, 5, 3], seed=1, backend="numpy")
    x, y = blobs[0][:, :2], blobs[1]
    update, calls = reference.update, 0

    def broken(optimizer: Any, w: Any, g: Any, state: Any, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4 + call:
            state[0][...] = 1
            raise KeyboardInterrupt
        update(optimizer, w, g, state, *rest)

    undo, undone = reference.Trainer._undo, 0

    def interrupted(trainer: Any) -> None:
        nonlocal undone
        undone += 1
        if undone == 1:
            raise KeyboardInterrupt
        undo(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(reference, "update", broken)
        if again:
            patch.setattr(reference.Trainer, "_undo", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.fit(x, y, epochs=1, batch_size=30, progress=False)
    whole = 1 + (call - 1) // 4
    assert net.updates == whole
    twin = pynn.Network([2, 5, 3], seed=1, backend="numpy")
    with pytest.raises(ZeroDivisionError):
        twin.fit(
            x, y, batch_size=30, progress=False, callbacks=pynn.Every(whole, lambda n, r: 1 / 0)
        )
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    assert [s.tobytes() for s in net._model.vectors] == [s.tobytes() for s in twin._model.vectors]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timer")
def test_ctrl_c() -> None:
    """A real signal in the middle of training, in a separate process."""
    code = """
        import signal, numpy as np, pynn
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2000, 20)).astype("f4"), rng.integers(0, 3, 2000)
        net = pynn.Network([20, 64, 3], backend="numpy")
        start = net.parameters.copy()
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        def begin(net, record):
            if record.epoch == 1:
                signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            net.fit(x, y, epochs=10**9, callbacks=begin)
        except KeyboardInterrupt:
            assert len(net.history) == net.epochs > 0, net.epochs
            assert np.isfinite(net.parameters).all() and (net.parameters != start).any()
            assert len(net.fit(x, y, epochs=2)) == 2
            print("answered")
    """
    done = python(code)
    assert done.stdout.strip() == "answered", done.stderr


# --- Early stopping -------------------------------------------------------------------------------


def test_stops_at_a_loss(net: pynn.Network, blobs: Data) -> None:
    stop = pynn.EarlyStopping("loss", patience=None, threshold=0.4)
    history = quiet(net, blobs, epochs=500, callbacks=stop)
    assert history.loss[-1] <= 0.4 < history.loss[-2]
    assert stop.stopped_epoch == len(history) < 500


def test_stops_at_an_accuracy(net: pynn.Network, blobs: Data) -> None:
    stop = pynn.EarlyStopping("validation_accuracy", patience=None, threshold=0.9)
    history = quiet(net, blobs, epochs=500, callbacks=[stop], validation=blobs)
    figures = [a or 0.0 for a in history.validation_accuracy]
    assert figures[-1] >= 0.9 > figures[-2]


def test_keeps_the_best(blobs: Data, rng: np.random.Generator) -> None:
    """Random labels to validate on: their loss can only rise once the others are learnt."""
    held = (rng.normal(size=(60, 4)) * 3, rng.integers(0, 3, 60))
    stop = pynn.EarlyStopping(patience=4)
    net = make()
    history = quiet(net, blobs, epochs=300, learning_rate=0.05, validation=held, callbacks=stop)
    losses = [loss or 0.0 for loss in history.validation_loss]
    best = int(np.argmin(losses))
    assert stop.best_epoch == best + 1
    assert stop.best == losses[best]
    assert stop.stopped_epoch == len(history) == best + 1 + 4
    assert net.evaluate(*held)["loss"] == losses[best]
    kept = make()
    stop = pynn.EarlyStopping(patience=4, restore_best=False)
    quiet(kept, blobs, epochs=300, learning_rate=0.05, validation=held, callbacks=stop)
    assert kept.evaluate(*held)["loss"] == losses[-1] != losses[best]


def play(stop: pynn.EarlyStopping, net: pynn.Network, losses: list[float]) -> int:
    """How many epochs with these losses it lets pass."""
    stop.on_fit_begin(net)
    for k, loss in enumerate(losses, start=1):
        if stop.on_epoch_end(net, Record(k, loss)):
            return k
    return len(losses)


def test_patience_and_min_delta(net: pynn.Network) -> None:
    stop = pynn.EarlyStopping("loss", patience=2)
    assert play(stop, net, [5, 4, 4.5, 3, 3, 3, 2]) == 6
    assert play(stop, net, [5, 4, 3, 2, 1]) == 5
    assert stop.stopped_epoch is None
    assert play(pynn.EarlyStopping("loss", 2, min_delta=1), net, [5, 4.5, 4.2, 3]) == 3
    assert play(stop, net, [math.nan, math.nan, math.nan]) == 3
    assert play(stop, net, [math.nan, 2, math.nan, 1, 1, 1, 1]) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monitor": 3}, "monitor: found 3, expected one of loss, accuracy"),
        ({"patience": 0}, "patience: found 0"),
        ({"min_delta": -1}, "min_delta: found -1"),
        ({"threshold": math.nan}, "threshold: found nan"),
    ],
)
def test_wrong_settings_of_early_stopping_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pynn.EarlyStopping(**settings)


def test_regression_has_no_accuracy_to_watch(rng: np.random.Generator) -> None:
    net = make((4, 1), loss="mse")
    with pytest.raises(ValueError, match="found EarlyStopping on 'accuracy', expected a loss"):
        net.fit(rng.normal(size=(9, 4)), np.zeros(9), callbacks=pynn.EarlyStopping("accuracy"))


def test_wrong_settings_of_every_are_refused() -> None:
    with pytest.raises(ValueError, match="steps: found 0"):
        pynn.Every(0, print)
    with pytest.raises(TypeError, match="call: found None"):
        pynn.Every(1, None)  # type: ignore[arg-type]


# --- Progress -------------------------------------------------------------------------------------


def test_a_progress_function_does_not_change_results(
    blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    seen: list[Record] = []
    a, b = make(dropout=0.2), make(dropout=0.2)
    quiet(a, blobs, progress=seen.append, validation=blobs)
    quiet(b, blobs, progress=False, validation=blobs)
    assert a.parameters.tobytes() == b.parameters.tobytes()
    assert len(seen) > 10
    ends = [r for r in seen if r.step == r.steps]
    assert ends == list(a.history)
    assert all(r.validation_loss is None for r in seen if r.step < r.steps)


def test_slices_grow_to_the_interval() -> None:
    report = progress.Reporter(print)
    for _ in range(30):
        assert report.slice is not None
        report.measure(report.slice, report.slice * 1e-4)
    assert report.slice is not None
    assert 500 <= report.slice <= 2000
    report.measure(report.slice, 10.0)
    assert report.slice <= 1000


def test_nothing_is_printed_without_a_terminal(
    net: pynn.Network, blobs: Data, capfd: pytest.CaptureFixture[str]
) -> None:
    quiet(net, blobs)
    assert capfd.readouterr() == ("", "")


def test_lines(net: pynn.Network, blobs: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    quiet(net, blobs, progress=True, validation=blobs)
    lines = stderr.getvalue().splitlines()
    assert lines[0].startswith("epoch 1/3  loss ")
    assert lines[-1].startswith("epoch 3/3  loss ")  # the last is never left out
    assert "samples/s" in lines[-1]
    accuracy = net.history[-1].validation_accuracy
    assert accuracy is not None
    assert f"validation {100 * accuracy:.2f} %" in lines[-1]


def test_the_progress_bar_shows_epochs_and_loss(
    net: pynn.Network, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    quiet(net, blobs, validation=blobs)
    text = stderr.getvalue()
    assert "epoch 3/3" in text
    assert "validation" in text
    assert "samples/s" in text
    assert text.rstrip("\n").endswith("\x1b[?25h")  # the cursor is back


# --- To disk and back, copies ---------------------------------------------------------------------


def test_training_continues_exactly_after_save_and_load(tmp_path: Path, blobs: Data) -> None:
    x, y = blobs
    names = np.array(["rook", "ant", "bee"])[y]
    net = make(dropout=0.2)
    quiet(net, (x, names), validation=0.2)
    path = tmp_path / "net.safetensors"
    net.save(path)
    twin = pynn.load(path, backend="numpy")
    assert repr(twin) == repr(net)
    assert twin.parameters.tobytes() == net.parameters.tobytes()
    assert twin.history == net.history
    assert (twin.predict(x) == net.predict(x)).all()
    assert (twin.epochs, twin.updates) == (net.epochs, net.updates)
    for one in (net, twin):
        quiet(one, (x, names), validation=0.2)
    assert twin.parameters.tobytes() == net.parameters.tobytes()
    assert twin.history.loss == net.history.loss


@pytest.mark.parametrize("labels", [[3, 5, 9], [0.5, 1.5, 2.5], ["a", "ü", "c"]])
def test_classes_survive(tmp_path: Path, net: pynn.Network, blobs: Data, labels: list[Any]) -> None:
    x, y = blobs
    quiet(net, (x, np.array(labels)[y]))
    net.save(tmp_path / "net")
    classes = pynn.load(tmp_path / "net", backend="numpy").classes
    assert classes is not None
    assert net.classes is not None
    assert classes.tolist() == net.classes.tolist()
    assert classes.dtype.kind == net.classes.dtype.kind


def test_untrained_regression_and_multilabel_survive(tmp_path: Path, blobs: Data) -> None:
    x, y = blobs
    path = tmp_path / "net"
    net = make(seed=2**64 - 1)
    net.save(path)
    assert pynn.load(path, backend="numpy").seed == 2**64 - 1
    net = make((4, 1), loss="mse", output="tanh", dtype="float64")
    quiet(net, (x, y / 3))
    net.save(path)
    again = pynn.load(path, backend="numpy")
    assert (again.predict(x) == net.predict(x)).all()
    assert again.predict(x).shape == (150,)
    net = make(loss="binary_cross_entropy")
    quiet(net, (x, np.ones((150, 3))))
    net.save(path)
    assert pynn.load(path, backend="numpy").predict(x).shape == (150, 3)


def test_a_history_that_is_not_finite_survives(tmp_path: Path, net: pynn.Network) -> None:
    net.history.append(pynn.Record(1, math.nan, validation_loss=math.inf))
    net.save(tmp_path / "net")
    again = pynn.load(tmp_path / "net", backend="numpy")
    assert math.isnan(again.history.loss[0])
    assert again.history.validation_loss == [math.inf]


def change(about: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        about = about[name]
    if value is KeyError:
        del about[last]
    else:
        about[last] = value


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("architecture", KeyError, "found no 'architecture'"),
        ("architecture.sizes", [4, 9, 3], r"tensor 'weights.0': found float32 \(4, 8\), expected"),
        ("architecture.sizes", [4, 8, 3, 3], "activation: found 1 names, expected one or 2"),
        ("architecture.sizes", [10**9, 10**9, 10**9], r"'weights.0': found float32 \(4, 8\)"),
        ("architecture.dtype", "float64", "expected float64"),
        ("architecture.activations", [], "not a model that pynn can use"),
        ("architecture.activations", ["relu", "exec"], "output: found 'exec'"),
        ("architecture.loss", None, "loss: found None"),
        ("seed", -1, "seed: found -1"),
        ("epochs", 1e99, "epochs: found 1e.99"),
        ("task.kind", "magic", "task: found 'magic'"),
        ("task.classes", None, "task: found 'labels' with classes None"),
        ("task.classes", ["a", "b"], "classes: found 2"),
        ("task", 3, "not a model that pynn can use"),
        ("optimizer.name", "adam9", "optimizer: found 'adam9'"),
        ("optimizer.name", "sgd", "not a model that pynn can use"),
        ("optimizer.beta1", 2, "Adam.beta1: found 2"),
        ("optimizer", None, "found the tensor 'optimizer.0', which belongs nowhere"),
        ("optimizer_began", 10**6, "optimizer_began: found 1000000"),
        ("history.loss", [1.0], "history: found columns of"),
        ("history.loss", ["a", "b", "c"], "history: loss: found 'a', expected a finite number"),
        ("history", [], "not a model that pynn can use"),
    ],
)
def test_models_that_do_not_fit(
    tmp_path: Path, net: pynn.Network, blobs: Data, where: str, value: Any, message: str
) -> None:
    path = tmp_path / "net"
    quiet(net, blobs)
    net.save(path)
    tensors, about = load_tensors(path)
    change(about, where, value)
    save_tensors(path, tensors, about)
    with pytest.raises(ValueError, match=message) as caught:
        pynn.load(path, backend="numpy")
    assert str(path) in str(caught.value)


def test_a_missing_tensor(tmp_path: Path, net: pynn.Network) -> None:
    path = tmp_path / "net"
    net.save(path)
    tensors, about = load_tensors(path)
    del tensors["biases.1"]
    save_tensors(path, tensors, about)
    with pytest.raises(
        ValueError, match=r"found no tensor 'biases.1', expected one of shape \(3,\)"
    ):
        pynn.load(path, backend="numpy")


@pytest.mark.parametrize("way", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_whole_and_separate(net: pynn.Network, blobs: Data, way: Any) -> None:
    quiet(net, blobs)
    twin = way(net)
    assert twin.parameters.ctypes.data % 64 == 0
    for one in (net, twin):
        quiet(one, blobs)
        one.weights[0][0, 0] += 1
    assert twin.parameters.tobytes() == net.parameters.tobytes()
    twin.weights[0][:] = 0
    assert twin.parameters[0] == 0 != net.parameters[0]
    assert len(twin.history) == 6


def test_many_threads_predict_at_once(net: pynn.Network, blobs: Data) -> None:
    x, _ = blobs
    expected = net.predict_proba(x).tobytes()
    found: list[bytes] = []

    def work() -> None:
        found.extend(net.predict_proba(x).tobytes() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [expected] * 160
