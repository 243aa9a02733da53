"""Callbacks that write the course of training to files, or report it to another program."""

from __future__ import annotations

import copy
import csv
import io
import os
import pickle
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.disk import as_path, atomic_write, require_folder
from ..spec import arguments
from .callbacks import Callback, Monitoring
from .history import FIELDS, Record

_BATCHES = ("step", "steps")
"""Values of a record that are equal after every whole epoch."""


class CSVLogger(Callback):
    """Write a line with the results of each epoch to a CSV file.

    Each line is on the disk before the next epoch begins, so that another program can follow the
    file. The columns are the values that were measured in the first epoch: ``epoch``, ``loss``,
    ``accuracy``, ``validation_loss``, …, and the ``metrics`` of ``fit``; ``step`` and ``steps`` are
    left out.

    Parameters
    ----------
    path : str or path-like
        The file to write; its folder must exist.
    append : bool
        Whether to continue an existing file with the same columns; a last line without an end, as
        a process that was killed leaves it, is removed. Otherwise the file is replaced when
        training begins.

    Raises
    ------
    ValueError
        If the file to continue has other columns. The network is then as after any exception in a
        callback.
    OSError
        If the file cannot be written.

    Notes
    -----
    When ``fit`` resumes from a ``Checkpoint``, epochs that the file has, but the checkpoint does
    not, are removed from the file and written again.

    Examples
    --------
    >>> log = CSVLogger("log.csv")
    >>> net.fit(x, y, validation=0.1, callbacks=log)  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        # The working directory may change during training.
        self.path = os.path.abspath(as_path(path))
        if not isinstance(append, bool):
            raise ValueError(f"append: found {append!r}, expected True or False")
        self.append = append
        self._columns: list[str] = []
        self._size = 0
        self._cut = False  # whether the file has lines of epochs that a resumed run repeats

    def on_fit_begin(self, net: Any) -> None:
        require_folder(self.path)
        self._cut = False
        old = Path(self.path)
        if self.append and old.exists() and old.stat().st_size:
            with old.open(encoding="utf-8", newline="") as file:
                self._columns = next(csv.reader(file), [])
            self._size, self._cut = _whole_lines(old), True
            return
        self._columns, self._size = [], 0
        with atomic_write(self.path):
            pass

    def on_epoch_end(self, net: Any, record: Record) -> None:
        values = {name: record.get(name) for name in FIELDS if name not in _BATCHES}
        values |= record.metrics or {}
        measured = [name for name, value in values.items() if value is not None]
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._columns:
            self._columns = measured
            writer.writerow(measured)
        if set(measured) - set(self._columns):
            raise ValueError(
                f"{self.path}: found the columns {', '.join(self._columns)}, expected also "
                f"{', '.join(name for name in measured if name not in self._columns)}; "
                "CSVLogger(append=False) or another path writes a new file"
            )
        writer.writerow(["" if (v := values.get(name)) is None else v for name in self._columns])
        # Opened for each epoch: the file can be moved, and a killed process loses no line.
        with open(self.path, "ab+") as file:
            if self._cut:
                file.truncate(self._size)
                self._cut = False
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                # A header that another program wrote may have no end.
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(text.getvalue().encode())
            self._size = file.tell()

    def state(self) -> dict[str, Any]:
        return {"columns": list(self._columns), "size": self._size}

    def restore(self, state: Mapping[str, Any]) -> None:
        size = arguments.whole(state["size"], "size", 0)
        columns = [str(name) for name in state["columns"]]
        require_folder(self.path)
        found = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        if found < size:
            raise ValueError(
                f"{self.path}: found {found} bytes, expected the log of the training to resume, "
                f"with {size} bytes or more; to start a new log, resume without this CSVLogger"
            )
        self._columns, self._size, self._cut = columns, size, True


def _whole_lines(path: Path) -> int:
    """Return the size of a file without a last line that has no end, unless it is the first."""
    data = path.read_bytes()
    return len(data) if data[-1:] == b"\n" else data.rfind(b"\n") + 1 or len(data)


class ModelCheckpoint(Monitoring):
    """Write the model to a file after the best epochs, or after all.

    It is :class:`pynn.SaveBest` with names of files that hold the epoch or a value, for every epoch
    if wanted, and for estimators too. A ``Checkpoint`` holds the state of a run to resume instead.

    Parameters
    ----------
    path : str or path-like
        The file to write, completely or not at all; its folder must exist. It may have fields of
        the record, as in ``"{epoch:03d}-{validation_loss:.4f}.safetensors"``, metrics included.
        A Network writes what ``Network.save`` writes. An estimator of ``pynn.sklearn`` writes a
        pickle of itself without its callbacks, as if training had ended after this epoch.
    monitor : str or None
        As for :class:`pynn.EarlyStopping`: the file is written if this value is better than after
        all epochs before. None writes after every epoch; ``best`` and ``best_epoch`` are then those
        of the training loss.
    every : int
        Interval in epochs: with 10, only the epochs 10, 20, 30, … count.
    keep : int, optional
        The number of files to keep: the oldest one that this object wrote is removed then. None
        keeps all.
    min_delta : float
        A value counts as an improvement only if it is better by more than this.

    Attributes
    ----------
    best : float or None
        The best value of the metric in the last call of ``fit``.
    best_epoch : int or None
        The epoch of the best value, as in ``Record.epoch``.
    files : list of str
        The files written in the last call of ``fit`` that are kept, oldest first.

    Raises
    ------
    TypeError
        When training begins, if the trained object is neither a Network nor an estimator.
    ValueError
        If the path has a field that the record does not have.
    OSError
        If the file cannot be written. The network is then as after any exception in a callback.

    Examples
    --------
    >>> best = ModelCheckpoint("best-{epoch}.safetensors", "validation_auc", keep=1)
    >>> net.fit(x, y, validation=0.1, metrics="auc", callbacks=best)  # doctest: +SKIP
    >>> net = pynn.load(best.files[-1])  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = "validation_loss",
        *,
        every: int = 1,
        keep: int | None = None,
        min_delta: float = 0.0,
    ) -> None:
        # The working directory may change during training.
        self.path = os.path.abspath(as_path(path))
        self.every = arguments.whole(every, "every", 1)
        self.keep = None if keep is None else arguments.whole(keep, "keep", 1)
        self.best_only = monitor is not None
        super().__init__("loss" if monitor is None else monitor, min_delta)
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(self.path)]
        except ValueError as error:
            raise ValueError(f"path: found {self.path!r} ({error}), expected {{epoch}}") from None
        if any(name is not None and not name.isidentifier() for name in fields):
            raise ValueError(f"path: found {self.path!r}, expected names as {{epoch}} in braces")

    def _forget(self) -> None:
        super()._forget()
        self.files: list[str] = []

    def on_fit_begin(self, net: Any) -> None:
        if not hasattr(net, "save") and not hasattr(net, "get_params"):
            raise TypeError(
                f"callbacks: found ModelCheckpoint for a {type(net).__name__}, expected a "
                "pynn.Network or an estimator of pynn.sklearn"
            )
        if "{" not in os.path.dirname(self.path):
            require_folder(self.path)
        super().on_fit_begin(net)

    def on_epoch_end(self, net: Any, record: Record) -> None:
        better = self._improves(record)
        if record.epoch % self.every == 0 and (better or not self.best_only):
            self._write(net, self._name(record))

    def _improves(self, record: Record) -> bool:
        # With every=5 the best of epochs 5, 10, 15, … is written: those between do not count.
        return record.epoch % self.every == 0 and super()._improves(record)

    def _name(self, record: Record) -> str:
        values = {name: record.get(name) for name in (*FIELDS, *(record.metrics or ()))}
        values = {name: value for name, value in values.items() if value is not None}
        short = {
            f"val_{name[11:]}": value
            for name, value in values.items()
            if name.startswith("validation_")
        }
        try:
            return self.path.format_map({**short, **values})
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"path: found {self.path!r} ({error}), expected fields in braces of "
                f"{', '.join(values)}"
            ) from None

    def _write(self, net: Any, path: str) -> None:
        if hasattr(net, "save"):
            net.save(path)
        else:
            found = copy.copy(net).set_params(callbacks=None, progress=False)
            vars(found).pop("_skl_callbacks", None)
            with atomic_write(path) as file:
                pickle.dump(found, file, protocol=5)
        self.files = [*(other for other in self.files if other != path), path]
        while self.keep is not None and len(self.files) > self.keep:
            Path(self.files.pop(0)).unlink(missing_ok=True)

    def _settings(self) -> str:
        monitor = self.monitor if self.best_only else None
        return (
            f"ModelCheckpoint({monitor!r}, every={self.every}, keep={self.keep}, "
            f"min_delta={self.min_delta!r})"
        )

    def state(self) -> dict[str, Any]:
        return {**super().state(), "files": list(self.files)}

    def restore(self, state: Mapping[str, Any]) -> None:
        files = [str(path) for path in state["files"]]
        super().restore(state)
        self.files = files


class OptunaPruning(Monitoring):
    """Report a metric to a trial of Optuna after every epoch, and end a trial that it prunes.

    Parameters
    ----------
    trial : optuna.trial.Trial
        The argument of the objective.
    monitor : str
        As for :class:`pynn.EarlyStopping`.

    Attributes
    ----------
    best : float or None
        The best value of the metric in the last call of ``fit``.
    best_epoch : int or None
        The epoch of the best value, as in ``Record.epoch``.

    Raises
    ------
    optuna.TrialPruned
        From ``fit``, if the study's pruner ends the trial.
    ValueError
        When training begins, if the study has several objectives, or the opposite direction to that
        of the metric.

    Examples
    --------
    >>> def objective(trial):  # doctest: +SKIP
    ...     net = pynn.Network([64, trial.suggest_int("units", 8, 128), 10])
    ...     pruning = pynn.callbacks.OptunaPruning(trial, "validation_loss")
    ...     net.fit(x, y, validation=(x_val, y_val), epochs=30, callbacks=pruning)
    ...     return pruning.best
    >>> study = optuna.create_study(pruner=optuna.pruners.MedianPruner())  # doctest: +SKIP
    >>> study.optimize(objective, n_trials=50)  # doctest: +SKIP
    """

    def __init__(self, trial: Any, monitor: str = "validation_loss") -> None:
        if not (hasattr(trial, "report") and hasattr(trial, "should_prune")):
            raise TypeError(f"trial: found {trial!r}, expected a trial of Optuna")
        self.trial = trial
        super().__init__(monitor, 0.0)

    def on_fit_begin(self, net: Any) -> None:
        study = getattr(self.trial, "study", None)  # FixedTrial has none
        directions = [] if study is None else [one.name.lower() for one in study.directions]
        if len(directions) > 1:
            raise ValueError(
                f"trial: found a study of {len(directions)} objectives, expected one, since Optuna "
                "prunes by one value"
            )
        own = "minimize" if self._sign > 0 else "maximize"
        if directions and directions[0] != own:
            raise ValueError(
                f"trial: found a study with direction={directions[0]!r} for the monitor "
                f"{self.monitor!r}, expected direction={own!r}, or a metric of the other direction"
            )
        super().on_fit_begin(net)

    def on_epoch_end(self, net: Any, record: Record) -> None:
        self._improves(record)
        value = self._value(record)
        self.trial.report(value, record.epoch)
        if self.trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned(f"epoch {record.epoch}: {self.monitor} {value:.6g}")
