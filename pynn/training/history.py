"""``History`` and ``Record``: losses, accuracies and times of the trained epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Record(NamedTuple):
    """Results of one epoch, or of the part of it trained so far.

    Parameters
    ----------
    epoch
        Number of the epoch, from 1, counted over the network's life.
    loss
        Mean loss of the rows, measured on each batch before its update; without the L2 term.
    accuracy
        Share of the rows classified correctly, in [0, 1], measured likewise; None for regression.
    validation_loss, validation_accuracy
        Loss and accuracy on the validation rows, after the epoch and without dropout; None without
        validation.
    learning_rate
        The rate of the last step.
    seconds
        Time of training, without validation, callbacks and progress.
    samples_per_second
        Rows trained per second.
    step, steps
        Batches trained in this epoch, and batches per epoch.
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


class History:
    """The records of several epochs, by index, and their values, by name.

    ``history[0]`` is the first :class:`Record`, ``history[2:]`` a History, and ``history.loss`` a
    list of the losses of all epochs, as are ``epoch``, ``accuracy``, ``validation_loss``,
    ``validation_accuracy``, ``learning_rate``, ``seconds`` and ``samples_per_second``. Values that
    were not measured are None.

    Examples
    --------
    >>> history = History([Record(1, 0.5, 0.8), Record(2, 0.3, 0.9)])
    >>> history.loss
    [0.5, 0.3]
    >>> history[-1].accuracy
    0.9
    """

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

    def __getattr__(self, name: str) -> list[Any]:
        if name in Record._fields:
            return [getattr(record, name) for record in self._records]
        raise AttributeError(f"History has no {name!r}; it has {', '.join(Record._fields)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *Record._fields]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> History: ...
    def __getitem__(self, at: int | slice) -> Record | History:
        found = self._records[at]
        return History(found) if isinstance(found, list) else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._records == other._records

    __hash__ = None  # type: ignore[assignment]

    def append(self, record: Record) -> None:
        """Add the record of an epoch."""
        self._records.append(record)

    def cut(self, length: int) -> None:
        """Remove all but the first ``length`` records."""
        del self._records[length:]

    def to_dict(self) -> dict[str, list[Any]]:
        """Return a dictionary from names to lists of one number (or None) per epoch.

        It can be written as JSON or converted to a data frame.
        """
        return {name: getattr(self, name) for name in Record._fields}

    @classmethod
    def from_dict(cls, columns: Mapping[str, list[Any]]) -> History:
        """Return the History of a dictionary made by ``to_dict``.

        Raises
        ------
        ValueError
            If a name is unknown or missing, or the lists differ in length.
        """
        unknown = [name for name in columns if name not in Record._fields]
        missing = [name for name in Record._fields if name not in columns]
        if unknown or missing:
            wrong = f"the unknown {unknown[0]!r}" if unknown else f"no {missing[0]!r}"
            raise ValueError(f"history: found {wrong}, expected {', '.join(Record._fields)}")
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise ValueError(
                f"history: found columns of {sorted(lengths)} epochs, expected one length"
            )
        rows = zip(*(columns[name] for name in Record._fields), strict=True)
        return cls(Record(*row) for row in rows)

    def __repr__(self) -> str:
        """Return a small table; of a long history its first and last epochs."""
        if not self._records:
            return "History: no epochs"
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
        names = [name for name in shown if any(v is not None for v in getattr(self, name))]
        records = self._records
        cut = len(records) > 20
        if cut:
            records = records[:5] + records[-5:]
        rows = [
            ["–" if (v := getattr(r, name)) is None else shown[name].format(v) for name in names]
            for r in records
        ]
        if cut:
            rows.insert(5, ["…"] * len(names))
        heads = [name.replace("_", " ") for name in names]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [heads, *rows]
        return "\n".join(
            "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines
        )

    def plot(self) -> tuple[Axes, ...]:
        """Draw loss and accuracy over the epochs (requires matplotlib).

        Returns
        -------
        tuple of matplotlib Axes
            Those of :func:`pynn.plots.learning_curves`, which can also draw into existing axes.
        """
        from ..plots import curves

        return curves.learning_curves(self)
