"""``Predictor``: what ``Network.compile`` returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.standard import Standard
from ..arrays.vectors import aligned
from ..backends import choose
from ..checks.columns import Columns
from ..checks.features import Pixels
from ..checks.targets import Task, default_task
from ..spec.architecture import Architecture
from ..spec.arguments import choose as one_of
from ..spec.names import PRECISIONS
from .answers import Answers
from .model import Model

if TYPE_CHECKING:
    from ..data.table import Table

Array = np.ndarray


@dataclass(frozen=True)
class Snapshot:
    """What predictions of a model depend on, at one time.

    Parameters
    ----------
    evaluated
        Parameters and running statistics (n_values,), read-only.
    architecture, pixels, columns, table, standardize, standardize_targets
        As in ``Model``.
    input_standard, target_standard, task
        As in ``Model``.
    """

    architecture: Architecture
    evaluated: Array
    pixels: Pixels
    columns: Columns | None
    table: Table | None
    standardize: bool
    standardize_targets: bool
    input_standard: Standard | None
    target_standard: Standard | None
    task: Task | None

    @classmethod
    def of(cls, model: Model, precision: str) -> Snapshot:
        """Return a copy of the present values of a model."""
        architecture = model.architecture
        values = aligned(architecture.n_values, architecture.dtype)
        values[...] = model.evaluated
        values.flags.writeable = False
        return cls(
            replace(architecture, precision=precision),
            values,
            model.pixels,
            model.columns,
            model.table,
            model.standardize,
            model.standardize_targets,
            model.input_standard,
            model.target_standard,
            model.task,
        )

    @property
    def input_format(self) -> str:
        return "float64" if self.standardize else self.architecture.dtype

    @property
    def known_task(self) -> Task:
        return self.task if self.task is not None else default_task(self.architecture)


class Predictor(Answers):
    """A frozen copy of a network that predicts, made by ``Network.compile``.

    It has packed the parameters once, in the layout of the products, and does not follow a later
    training or a change of ``net.weights``. Several threads may predict with it at the same time;
    it can be pickled.

    Attributes
    ----------
    sizes : tuple of int
        Number of units of every layer.
    classes : ndarray or None
        The labels of the outputs, as in ``Network``.
    dtype : numpy.dtype
        Of the parameters.
    precision : {"full", "bf16"}
        Format of the factors in matrix products.
    backend, threads : str, int
        The implementation that computes, and its maximum number of threads.
    """

    def __init__(self, snapshot: Snapshot, backend: str, threads: int | None) -> None:
        self._model, self._made = snapshot, (backend, threads)
        self._engine = choose.create(backend, snapshot.architecture, threads)
        self._engine.freeze(snapshot.evaluated)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._model.architecture.sizes

    @property
    def classes(self) -> Array | None:
        classes = self._model.known_task.classes
        return None if classes is None else classes.copy()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._model.architecture.dtype)

    @property
    def precision(self) -> str:
        return str(self._model.architecture.precision)

    @property
    def backend(self) -> str:
        return self._engine.name

    @property
    def threads(self) -> int:
        return self._engine.threads

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictor, (self._model, *self._made)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.sizes))
        return (
            f"Predictor({sizes}, {self.dtype}, precision {self.precision!r}, {self.backend} with "
            f"{self.threads} thread{'s' if self.threads > 1 else ''})"
        )


def predictor(model: Model, precision: str | None, asked: tuple[str, int | None]) -> Predictor:
    """Return a predictor of the present values of a model.

    Raises
    ------
    ValueError
        If the precision is not one of ``PRECISIONS``, or does not fit the dtype.
    ImportError
        If the backend does not have it here.
    """
    net = model.architecture
    precision = net.precision if precision is None else one_of("precision", precision, PRECISIONS)
    if precision == "bf16" and net.dtype != "float32":
        raise ValueError(
            f"precision: found 'bf16' with dtype {net.dtype}, expected a network of float32"
        )
    return Predictor(Snapshot.of(model, precision), *asked)
