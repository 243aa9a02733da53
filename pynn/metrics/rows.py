"""``Rows``: targets and outputs of some rows, in the forms that metrics take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Rows:
    """Targets and outputs of some rows.

    Parameters
    ----------
    kind : {"labels", "multilabel", "values"}
        The kind of the task.
    y : ndarray
        Labels (n,) int32, or targets (n, n_out), as ``checks.targets`` returns them. NaN marks
        missing targets of the kinds multilabel and values.
    out : ndarray (n, n_out)
        Outputs of the network.
    weight : ndarray (n,), optional
        Weights of the rows.
    classes : ndarray, optional
        The label of each class, for kind labels.
    flat : bool
        Whether predicted values are (n,) rather than (n, 1).
    """

    kind: str
    y: Array
    out: Array
    weight: Array | None = None
    classes: Array | None = None
    flat: bool = False

    # --- Labels ---------------------------------------------------------------------------------

    @cached_property
    def n_classes(self) -> int:
        return max(2, self.out.shape[1])

    @cached_property
    def codes(self) -> Array:
        """The class of each row (n,), intp; of soft targets the most probable one."""
        return self.y.astype(np.intp) if self.y.ndim == 1 else _most_probable(self.y)

    @cached_property
    def predicted(self) -> Array:
        """The predicted class of each row (n,), intp."""
        return _most_probable(self.out)

    @cached_property
    def probabilities(self) -> Array:
        """What ``predict_proba`` returns: (n, classes)."""
        if self.kind == "multilabel" or self.out.shape[1] > 1:
            return self.out
        return np.concatenate([1 - self.out, self.out], axis=1)

    @cached_property
    def confusion(self) -> Array:
        """Number, or sum of the weights, of the rows of class i (row) predicted as j, float64."""
        k = self.n_classes
        cells = np.bincount(self.codes * k + self.predicted, self.weight, minlength=k * k)
        return cells.reshape(k, k).astype(np.float64)

    @cached_property
    def perfect(self) -> Rows:
        """The same rows with their targets as outputs."""
        out = self.y
        if self.y.ndim == 1:
            out = np.zeros_like(self.out)
            np.put_along_axis(out, self.codes[:, None], 1, axis=1)
        return replace(self, out=out)

    # --- What functions receive -----------------------------------------------------------------

    @cached_property
    def truth(self) -> Array:
        """Labels (n,), zeros and ones (n, n_out), or values shaped like ``predictions``."""
        if self.kind == "labels":
            return self.codes if self.classes is None else self.classes[self.codes]
        if self.kind == "multilabel":
            return (self.y > 0.5).astype(np.int64)
        return self.y.reshape(-1) if self.flat else self.y

    @cached_property
    def predictions(self) -> Array:
        """What ``predict`` returns."""
        if self.kind == "labels":
            return self.predicted if self.classes is None else self.classes[self.predicted]
        if self.kind == "multilabel":
            return (self.out > 0.5).astype(np.int64)
        return self.out.reshape(-1) if self.flat else self.out

    @cached_property
    def all_known(self) -> Rows:
        """The rows without a missing target."""
        known = self._known
        return self if known is None else self._select(np.all(known, axis=1))

    @cached_property
    def _known(self) -> Array | None:
        """Which targets are known, bool (n, n_out); None if all are."""
        if self.kind == "labels" or self.y.dtype.kind != "f":
            return None
        known: Array = ~np.isnan(self.y)
        return None if known.all() else known

    def _select(self, keep: Array) -> Rows:
        weight = None if self.weight is None else self.weight[keep]
        return replace(self, y=self.y[keep], out=self.out[keep], weight=weight)

    def columns(self) -> Iterator[Rows]:
        """Return the known rows of each output, with one column: two classes, or values."""
        kind = "labels" if self.kind == "multilabel" else self.kind
        for k in range(self.out.shape[1]):
            part = replace(self, kind=kind, y=self.y[:, k : k + 1], out=self.out[:, k : k + 1])
            yield part if self._known is None else part._select(self._known[:, k])


def _most_probable(a: Array) -> Array:
    """Return the class of each row of (n, n_out): of one output, whether it is above ½."""
    return a.argmax(axis=1) if a.shape[1] > 1 else (a[:, 0] > 0.5).astype(np.intp)
