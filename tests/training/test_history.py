"""History: records by epoch, numbers by name, and back."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from pynn import History, Record


@pytest.fixture
def history() -> History:
    return History(
        [
            Record(1, 0.9, 0.5, None, None, 0.1, 2.0, 50.0, 4, 4),
            Record(2, 0.4, 0.75, 0.5, 0.7, 0.05, 1.0, 100.0, 4, 4),
        ]
    )


def test_by_epoch_and_by_name(history: History) -> None:
    assert len(history) == 2
    assert history[1].validation_accuracy == history[-1].validation_accuracy == 0.7
    assert [r.epoch for r in history] == history.epoch == [1, 2]
    assert history.loss == [0.9, 0.4]
    assert history.validation_loss == [None, 0.5]
    assert history.samples_per_second == [50.0, 100.0]
    assert "validation_accuracy" in dir(history)


def test_a_part_is_a_history(history: History) -> None:
    part = history[1:]
    assert isinstance(part, History)
    assert part.loss == [0.4]
    part.append(history[0])
    assert len(history) == 2


def test_unknown_name(history: History) -> None:
    with pytest.raises(AttributeError, match="History has no 'val_loss'; it has epoch, loss"):
        history.val_loss  # noqa: B018
    with pytest.raises(IndexError):
        history[2]


def test_dictionary_and_back(history: History) -> None:
    columns = json.loads(json.dumps(history.to_dict()))
    assert columns["accuracy"] == [0.5, 0.75]
    assert History.from_dict(columns) == history
    assert History.from_dict(History().to_dict()) == History() != history


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val loss": [1, 2]}, "history: found the unknown 'val loss'"),
        ({"loss": None}, "history: found no 'loss'"),
        ({"loss": [1.0]}, r"history: found columns of \[1, 2\] epochs"),
    ],
)
def test_wrong_dictionaries_of_a_history_are_refused(
    history: History, change: dict[str, object], message: str
) -> None:
    columns = {**history.to_dict(), **change}
    columns = {name: column for name, column in columns.items() if column is not None}
    with pytest.raises(ValueError, match=message):
        History.from_dict(columns)  # type: ignore[arg-type]


def test_table(history: History) -> None:
    lines = repr(history).splitlines()
    assert lines[0].split("  ")[0] == "epoch"
    assert lines[1].split() == ["1", "0.9000", "0.5000", "–", "–", "0.1", "2.000", "50"]
    assert len({len(line) for line in lines}) == 1
    assert repr(History()) == "History: no epochs"
    assert "accuracy" not in repr(History([Record(1, 0.5)]))


def test_table_of_a_long_history() -> None:
    lines = repr(History(Record(k + 1, 1 / (k + 1)) for k in range(1000))).splitlines()
    assert len(lines) == 12
    assert lines[6].split()[0] == "…"
    assert lines[-1].split()[0] == "1000"


def test_a_history_plots_its_curves(history: History, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = history.plot()
    assert np.asarray(axes[0].lines[0].get_xydata()).tolist() == [[1, 0.9], [2, 0.4]]
    pyplot.close("all")
    with pytest.raises(FileNotFoundError, match=r"h\.png: found no folder .*nodir, expected one"):
        history.plot(tmp_path / "nodir" / "h.png")
    history.plot(tmp_path / "h.png")
    assert (tmp_path / "h.png").stat().st_size


def test_metrics_are_columns() -> None:
    history = History(
        [
            Record(1, 0.9, metrics={"validation_auc": 0.5}),
            Record(2, 0.5),
            Record(3, 0.4, metrics={"validation_auc": math.nan, "f1": 2.0}),
        ]
    )
    assert (history[0].validation_auc, history[2].metrics["f1"]) == (0.5, 2.0)
    assert [record.get("validation_auc") for record in history[:2]] == [0.5, None]
    with pytest.raises(AttributeError, match="Record has no 'auc'; it has .*steps, validation_auc"):
        history[0].auc  # noqa: B018
    assert history.f1 == history["f1"] == [None, None, 2.0]
    assert history["val_auc"][:2] == history.validation_auc[:2] == [0.5, None]
    assert history["val_loss"] == [None, None, None]
    assert list(history.metrics) == ["validation_auc", "f1"]
    with pytest.raises(KeyError, match="History has no 'auc'"):
        history["auc"]
    columns = history.to_dict()
    assert columns["f1"] == [None, None, 2.0]
    assert repr(History.from_dict(columns)) == repr(history)
    assert repr(history).splitlines()[3].split()[-2:] == ["nan", "2"]
    assert pickle.loads(pickle.dumps(history)).to_dict()["f1"] == columns["f1"]
    assert copy.deepcopy(history[:2]) == history[:2]
