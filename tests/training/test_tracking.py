"""CSVLogger, ModelCheckpoint and OptunaPruning."""

from __future__ import annotations

import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn.callbacks import CSVLogger, ModelCheckpoint, OptunaPruning
from pynn.training.history import Record

Data = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def data() -> Data:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    return random.normal(size=(120, 4)).astype(np.float32) + y[:, None], y


def network(**more) -> pynn.Network:
    return pynn.Network([4, 6, 3], seed=1, backend="numpy", **more)


def fit(net: pynn.Network, data: Data, **more) -> pynn.History:
    settings = {"epochs": 3, "batch_size": 30, "validation": 0.2, "progress": False, **more}
    return net.fit(*data, **settings)


def rows(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- CSVLogger ------------------------------------------------------------------------------------


def test_a_line_of_csv_for_each_epoch(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    seen: list[int] = []
    calls = [CSVLogger(path), lambda net, record: seen.append(len(rows(path)))]
    history = fit(network(), data, callbacks=calls, metrics=["f1"])
    found = rows(path)
    assert seen == [1, 2, 3]
    names = ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"]
    assert list(found[0])[:5] == names
    assert "validation_f1" in found[0]
    assert not {"step", "metrics"} & set(found[0])
    for name in [*names, "learning_rate", "validation_f1"]:
        assert [float(row[name]) for row in found] == history[name]  # repr: all digits


def test_csv_of_a_regression_has_no_accuracy_and_is_replaced(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("old\n")
    net = pynn.Network([4, 6, 1], loss="mse", backend="numpy")
    fit(net, (data[0], data[0][:, 0]), callbacks=CSVLogger(path), validation=None, epochs=1)
    (row,) = rows(path)
    assert list(row) == ["epoch", "loss", "learning_rate", "seconds", "samples_per_second"]


def test_append_continues_a_file_also_after_an_incomplete_line(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    net = network()
    fit(net, data, callbacks=CSVLogger(path, append=True))
    path.write_text(path.read_text()[:-20])
    fit(net, data, callbacks=CSVLogger(path, append=True))
    assert [row["epoch"] for row in rows(path)] == list("12456")
    header, _ = path.read_text().split("\n", 1)
    path.write_text(header)  # as another program may write it
    fit(net, data, callbacks=CSVLogger(path, append=True))
    assert [row["epoch"] for row in rows(path)] == list("789")
    with pytest.raises(ValueError, match="expected also validation_f1"):
        fit(net, data, callbacks=CSVLogger(path, append=True), metrics="f1")
    fit(net, data, callbacks=CSVLogger(path, append=True), validation=None, epochs=1)
    assert rows(path)[-1]["validation_loss"] == ""


def test_a_resumed_run_replaces_the_lines_that_the_checkpoint_lacks(
    data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"

    def stop(net: pynn.Network, record: Record) -> None:
        if record.epoch == 4 and net.seed == 1 and not done:
            done.append(True)
            raise LookupError

    done: list[bool] = []
    point = pynn.Checkpoint(tmp_path / "run.ckpt", epochs=2)
    settings = {"epochs": 5, "checkpoint": point, "resume": True}
    with pytest.raises(LookupError):
        fit(network(), data, callbacks=[CSVLogger(path), stop], **settings)
    assert len(rows(path)) == 4
    history = fit(network(), data, callbacks=[CSVLogger(path), stop], **settings)
    assert [row["epoch"] for row in rows(path)] == list("12345")
    assert [float(row["loss"]) for row in rows(path)] == history.loss
    path.unlink()
    with pytest.raises(ValueError, match=r"log.csv: found 0 bytes, expected the log"):
        fit(network(), data, callbacks=[CSVLogger(path), stop], **{**settings, "epochs": 6})


def test_csv_logger_refuses_what_it_cannot_use(data: Data, tmp_path: Path) -> None:
    for wrong in (3, None):
        with pytest.raises(TypeError, match="path: found"):
            CSVLogger(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="append: found 1"):
        CSVLogger("log.csv", append=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pass an object, CSVLogger\(…\), not the class"):
        fit(network(), data, callbacks=CSVLogger)
    with pytest.raises(FileNotFoundError, match="found no folder"):
        fit(network(), data, callbacks=CSVLogger(tmp_path / "none" / "log.csv"))


# --- ModelCheckpoint ------------------------------------------------------------------------------


def test_the_best_model_by_a_metric_is_in_the_file(data: Data, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best-{epoch}.safetensors", "val_f1", keep=1)
    net = network()
    history = fit(net, data, callbacks=best, metrics=["f1"], epochs=6)
    values = history["validation_f1"]
    assert best.best == max(values)
    assert best.best_epoch == values.index(max(values)) + 1
    assert [Path(one).name for one in best.files] == [f"best-{best.best_epoch}.safetensors"]
    assert os.listdir(tmp_path) == [Path(best.files[0]).name]
    assert pynn.load(best.files[0]).epochs == best.best_epoch


def test_every_second_epoch_with_values_in_the_name(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "{epoch:02d}-{val_loss:.3f}.safetensors"
    every = ModelCheckpoint(path, None, every=2, keep=2)
    history = fit(network(), data, callbacks=every, epochs=7)
    expected = [f"{n:02d}-{history.validation_loss[n - 1]:.3f}.safetensors" for n in (4, 6)]
    assert sorted(os.listdir(tmp_path)) == expected == [Path(one).name for one in every.files]


def test_epochs_between_do_not_count_for_the_best(data: Data, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best.safetensors", "loss", every=2)
    for epoch, loss in enumerate((0.9, 0.8, 0.1, 0.7), start=1):
        best.on_epoch_end(network(), Record(epoch=epoch, loss=loss))
    assert (best.best, best.best_epoch) == (0.7, 4)


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.safetensors"
    fit(network(), data, callbacks=ModelCheckpoint(path, None), epochs=1)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        fit(network(), data, callbacks=ModelCheckpoint(path, None), epochs=1)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_model_checkpoint_of_an_estimator(data: Data, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", "1.7")
    from pynn.sklearn import MLPClassifier

    best = ModelCheckpoint(tmp_path / "best.pickle", "validation_accuracy")
    calls = [best, lambda estimator, record: None]  # a lambda cannot be pickled
    one = MLPClassifier((5,), callbacks=calls, early_stopping=True, max_iter=20, random_state=0)
    one.fit(*data)
    with open(best.files[0], "rb") as file:
        found = pickle.load(file)
    assert found.n_iter_ == best.best_epoch
    assert found.callbacks is None
    assert (found.predict(data[0]) == one.predict(data[0])).all()  # early_stopping keeps the best


def test_model_checkpoint_continues_after_a_checkpoint(data: Data, tmp_path: Path) -> None:
    point = pynn.Checkpoint(tmp_path / "run.ckpt", epochs=1)

    def run(epochs: int) -> ModelCheckpoint:
        best = ModelCheckpoint(tmp_path / "{epoch}.safetensors", None, keep=2)
        fit(network(), data, callbacks=best, checkpoint=point, epochs=epochs, resume=True)
        return best

    assert [Path(one).name for one in run(2).files] == ["1.safetensors", "2.safetensors"]
    assert [Path(one).name for one in run(3).files] == ["2.safetensors", "3.safetensors"]


def test_model_checkpoint_refuses_what_it_cannot_use(data: Data, tmp_path: Path) -> None:
    for path, expected in [("{}", "expected names"), ("{0}", "names"), ("{epoch", "expected")]:
        with pytest.raises(ValueError, match=f"path: found .*{expected}"):
            ModelCheckpoint(path)
    for settings, name in [({"every": 0}, "every"), ({"keep": 0}, "keep"), ({"keep": 1.5}, "keep")]:
        with pytest.raises((ValueError, TypeError), match=name):
            ModelCheckpoint("a", **settings)
    with pytest.raises(ValueError, match=r"path: found .*\('auc'\), expected fields in braces of"):
        fit(network(), data, callbacks=ModelCheckpoint(tmp_path / "{auc}", "loss"))
    with pytest.raises(FileNotFoundError, match="found no folder"):
        fit(network(), data, callbacks=ModelCheckpoint(tmp_path / "none" / "a", "loss"))
    with pytest.raises(TypeError, match="found ModelCheckpoint for a object, expected a"):
        ModelCheckpoint("a").on_fit_begin(object())


def test_several_networks_need_callbacks_of_their_own(data: Data, tmp_path: Path) -> None:
    nets = [network(), network()]
    for call in (CSVLogger(tmp_path / "a"), ModelCheckpoint(tmp_path / "b", "loss")):
        with pytest.raises(ValueError, match=f"found one {type(call).__name__} for 2 networks"):
            pynn.fit_many(nets, *data, epochs=1, callbacks=call)


# --- OptunaPruning --------------------------------------------------------------------------------


class Direction:
    def __init__(self, name: str) -> None:
        self.name = name


class Trial:
    """A trial that prunes after a number of epochs."""

    def __init__(self, most: int, *directions: str) -> None:
        self.most, self.study, self.reports = most, self, []
        self.directions = [Direction(name) for name in directions]

    def report(self, value: float, step: int) -> None:
        self.reports.append((step, value))

    def should_prune(self) -> bool:
        return len(self.reports) >= self.most


def test_values_are_reported_and_directions_compared(data: Data) -> None:
    trial = Trial(99, "MAXIMIZE")
    pruning = OptunaPruning(trial, "val_accuracy")
    history = fit(network(), data, callbacks=pruning)
    assert trial.reports == list(enumerate(history.validation_accuracy, 1))
    assert pruning.best == max(history.validation_accuracy)
    with pytest.raises(ValueError, match="direction='maximize' for .*'loss', expected .*'minimize"):
        fit(network(), data, callbacks=OptunaPruning(trial, "loss"))
    with pytest.raises(ValueError, match="found a study of 2 objectives, expected one"):
        fit(network(), data, callbacks=OptunaPruning(Trial(9, "MINIMIZE", "MINIMIZE")))
    with pytest.raises(TypeError, match="trial: found 3, expected a trial"):
        OptunaPruning(3)


def test_a_study_prunes_trials(data: Data) -> None:
    optuna = pytest.importorskip("optuna", "3.0")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lengths = []

    def objective(trial) -> float:
        rate = trial.suggest_float("rate", 1e-5, 0.1, log=True)
        pruning = OptunaPruning(trial, "val_loss")
        net = network()
        try:
            fit(net, data, callbacks=pruning, epochs=8, learning_rate=rate)
        finally:
            lengths.append(len(net.history))
            net.predict(data[0])  # a pruned network is usable
        return pruning.best

    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2),
    )
    study.optimize(objective, n_trials=8)
    pruned = [t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    assert all(lengths[t.number] == max(t.intermediate_values) < 8 for t in pruned)
    assert study.best_value == min(v for t in study.trials for v in t.intermediate_values.values())


def test_callbacks_of_scikit_learn_and_pynn_are_told_apart(data: Data) -> None:
    theirs = pytest.importorskip("sklearn.callback")
    from pynn.sklearn import MLPClassifier

    with pytest.raises(TypeError, match=r"set_callbacks.…. of the estimators of pynn.sklearn"):
        fit(network(), data, callbacks=theirs.ProgressBar())
    with pytest.raises(TypeError, match="callbacks= of the estimator takes those of pynn"):
        MLPClassifier().set_callbacks(pynn.EarlyStopping())
