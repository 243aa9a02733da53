"""``History`` and ``Record``: losses, accuracies and times of the trained epochs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from .tables import aligned, html_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class Record(NamedTuple):
    """Results of one epoch, or of the part of it trained so far.

    Parameters
    ----------
    epoch : int
        Number of the epoch, from 1, counted over the network's life.
    loss : float
        Mean loss of the rows, measured on each batch before its update; without the L2 term.
    accuracy : float or None
        Share of the rows classified correctly, in [0, 1], measured likewise; None for regression.
    validation_loss, validation_accuracy : float or None
        Loss and accuracy on the validation rows, after the epoch and without dropout; None without
        validation.
    learning_rate : float
        The rate of the last step.
    seconds : float
        Time of training, without validation, callbacks and progress.
    samples_per_second : float
        Rows trained per second.
    step, steps : int
        Batches trained in this epoch, and batches per epoch.
    metrics : dict or None
        The values of the ``metrics`` of ``fit`` after the epoch, by name, without dropout:
        ``"validation_auc"`` on the validation rows, ``"auc"`` on the training rows. They are
        attributes too: ``record.validation_auc``. None without metrics, and within an epoch.
    """

    epoch: int
    loss: float
    accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    learning_rate: float = 0.0
    seconds: float = 0.0
    samples_per_second: float = 0.0
    step: int = 0
    steps: int = 0
    metrics: Mapping[str, float] | None = None

    def __getattr__(self, name: str) -> float:
        metrics = self.metrics or {}
        if name in metrics:
            return metrics[name]
        raise AttributeError(f"Record has no {name!r}; it has {', '.join([*FIELDS, *metrics])}")

    def get(self, name: str) -> float | None:
        """Return a value by its name, of a field or of a metric; None if it was not measured."""
        if name in FIELDS:
            return getattr(self, name)
        return (self.metrics or {}).get(name)


FIELDS = tuple(name for name in Record._fields if name != "metrics")
"""The values of every record."""

_ALWAYS = ("epoch", "loss", "learning_rate", "seconds", "samples_per_second", "step", "steps")


def full_name(name: str) -> str:
    """Return the name of a value, where ``val_`` is short for ``validation_``."""
    return f"validation_{name[4:]}" if name.startswith("val_") else name


class History:
    """The records of several epochs, by index, and their values, by name.

    ``history[0]`` is the first :class:`Record`, ``history[2:]`` a History, and ``history.loss`` a
    list of the losses of all epochs, as are ``epoch``, ``accuracy``, ``validation_loss``,
    ``validation_accuracy``, ``learning_rate``, ``seconds`` and ``samples_per_second``, and every
    metric: ``history["validation_auc"]``, ``history["val_auc"]`` or ``history.validation_auc``.
    Values that were not measured are None. ``restored_epoch`` is the epoch that EarlyStopping
    restored the parameters of, or None.

    Examples
    --------
    >>> history = History([Record(1, 0.5, 0.8), Record(2, 0.3, 0.9)])
    >>> history.loss
    [0.5, 0.3]
    >>> history[-1].accuracy
    0.9
    """

    restored_epoch: int | None = None
    """The epoch that EarlyStopping restored the parameters of; None if they are of the last."""

    epoch: list[int]
    loss: list[float]
    accuracy: list[float | None]
    validation_loss: list[float | None]
    validation_accuracy: list[float | None]
    learning_rate: list[float]
    seconds: list[float]
    samples_per_second: list[float]

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records = list(records)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all values: those of every record, then those of the metrics."""
        # While an object is being copied or unpickled, it has no records.
        records: list[Record] = self.__dict__.get("_records", [])
        metrics = dict.fromkeys(name for record in records for name in record.metrics or ())
        return *FIELDS, *metrics

    @property
    def metrics(self) -> dict[str, list[float | None]]:
        """The values of all metrics, by name."""
        return {name: self[name] for name in self.names[len(FIELDS) :]}

    def __getattr__(self, name: str) -> list[Any]:
        if name not in FIELDS and name not in self.names:
            raise AttributeError(f"History has no {name!r}; it has {', '.join(self.names)}")
        return [record.get(name) for record in self._records]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.names]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> History: ...
    @overload
    def __getitem__(self, at: str) -> list[Any]: ...
    def __getitem__(self, at: int | slice | str) -> Record | History | list[Any]:
        if isinstance(at, str):
            name = full_name(at)
            if name not in FIELDS and name not in self.names:
                raise KeyError(f"History has no {at!r}; it has {', '.join(self.names)}")
            return [record.get(name) for record in self._records]
        found = self._records[at]
        if not isinstance(found, list):
            return found
        part = History(found)
        restored = self.restored_epoch
        if restored is not None and any(record.epoch == restored for record in found):
            part.restored_epoch = self.restored_epoch
        return part

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._records == other._records

    __hash__ = None  # type: ignore[assignment]

    def append(self, record: Record) -> None:
        """Add the record of an epoch."""
        self._records.append(record)
        self.restored_epoch = None  # the parameters belong to this epoch

    def replace_last(self, record: Record) -> None:
        """Replace the last record."""
        self._records[-1] = record

    def __delitem__(self, at: slice) -> None:
        del self._records[at]

    def cut(self, length: int) -> None:
        """Remove all but the first ``length`` records."""
        del self._records[length:]
        restored = self.restored_epoch  # mostly None: a search would cost each fit a pass over all
        if restored is not None and all(record.epoch != restored for record in self._records):
            self.restored_epoch = None

    def to_dict(self) -> dict[str, list[Any]]:
        """Return a dictionary from names to lists of one number (or None) per epoch.

        Metrics are columns like any other. It can be written as JSON or converted to a data frame.
        """
        return {name: self[name] for name in self.names}

    @classmethod
    def from_dict(cls, columns: Mapping[str, list[Any]]) -> History:
        """Return the History of a dictionary made by ``to_dict``.

        Other names than those of every record are metrics.

        Raises
        ------
        ValueError
            If a name is missing or no name of a metric, or the lists differ in length.
        """
        metrics = [name for name in columns if name not in FIELDS]
        wrong = [name for name in metrics if not name.isidentifier() or name == "metrics"]
        missing = [name for name in FIELDS if name not in columns]
        if wrong or missing:
            found = f"the unknown {wrong[0]!r}" if wrong else f"no {missing[0]!r}"
            raise ValueError(f"history: found {found}, expected {', '.join(FIELDS)} and metrics")
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise ValueError(
                f"history: found columns of {sorted(lengths)} epochs, expected one length"
            )
        rows = zip(*(columns[name] for name in FIELDS), strict=True)
        records = []
        for k, row in enumerate(rows):
            values = {name: columns[name][k] for name in metrics}
            known = {name: value for name, value in values.items() if value is not None}
            records.append(Record(*row)._replace(metrics=known or None))
        return cls(records)

    def to_frame(self) -> DataFrame:
        """Return a data frame with a row per epoch (requires pandas).

        Returns
        -------
        pandas.DataFrame
            The index is the epoch; the columns are the values that were measured, metrics included.
            A value that a single epoch lacks is NaN.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                f"to_frame needs pandas, which is not installed ({error}): "
                "pip install 'pynn-mlp[data]'"
            ) from error
        columns = {
            name: column
            for name, column in self.to_dict().items()
            if name in _ALWAYS or any(value is not None for value in column)
        }
        index = pandas.Index(columns.pop("epoch"), name="epoch", dtype="int64")
        whole = {name: "int64" if name in ("step", "steps") else "float64" for name in columns}
        return pandas.DataFrame(columns, index=index).astype(whole)

    def _rows(self) -> list[list[str]]:
        """Return heads and rows of a small table; of a long history its first and last epochs."""
        shown = {
            "epoch": "{:d}",
            "loss": "{:.4f}",
            "accuracy": "{:.4f}",
            "validation_loss": "{:.4f}",
            "validation_accuracy": "{:.4f}",
            "learning_rate": "{:.3g}",
            "seconds": "{:.3f}",
            "samples_per_second": "{:,.0f}",
        }
        shown |= dict.fromkeys(self.metrics, "{:.4g}")
        names = [name for name in shown if any(v is not None for v in self[name])]
        records = self._records
        cut = len(records) > 20
        if cut:
            records = records[:5] + records[-5:]
        rows = [
            ["–" if (v := r.get(name)) is None else shown[name].format(v) for name in names]
            for r in records
        ]
        if cut:
            rows.insert(5, ["…"] * len(names))
        return [[name.replace("_", " ") for name in names], *rows]

    def __repr__(self) -> str:
        """Return a small table; of a long history its first and last epochs."""
        if not self._records:
            return "History: no epochs"
        lines = self._rows()
        return aligned(lines, [True] * len(lines[0]))

    def _repr_html_(self) -> str:
        if not self._records:
            return "<p>History: no epochs</p>"
        heads, *rows = self._rows()
        return html_table(heads, rows)

    def plot(self, path: str | os.PathLike[str] | None = None) -> tuple[Axes, ...]:
        """Draw loss, accuracy and metrics over the epochs (requires matplotlib).

        Parameters
        ----------
        path : str or path-like, optional
            An image file to write; its name ends in ``.png``, ``.svg``, ``.pdf`` or another format
            of matplotlib. ``pyplot`` does not keep the figure then, so that nothing has to be
            closed.

        Returns
        -------
        tuple of matplotlib Axes
            Those of :func:`pynn.plots.learning_curves`, which can also draw into existing axes.
            Without a path the figure is the current one of ``pyplot``: ``plt.savefig`` writes it
            and ``plt.show`` displays it.

        Raises
        ------
        ValueError
            If the history is empty, or matplotlib does not know the format of the file.
        OSError
            If the file cannot be written, or its folder does not exist.
        ImportError
            If matplotlib is not installed.
        """
        from ..files.disk import require_folder
        from ..plots import curves
        from ..plots.style import unregistered

        if path is None:
            return curves.learning_curves(self)
        if isinstance(path, (str, os.PathLike)):
            require_folder(path)
        with unregistered():
            axes = curves.learning_curves(self)
            figure: Any = axes[0].figure
            figure.savefig(path)
        return axes
