"""Histories, and texts of plots, that the tests share."""

from __future__ import annotations

from matplotlib.axes import Axes

from pynn.training.history import History, Record


def history(**columns: list[float | None]) -> History:
    n = len(next(iter(columns.values())))
    return History(
        Record(epoch=i + 1, **{name: values[i] for name, values in columns.items()})
        for i in range(n)
    )


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]
