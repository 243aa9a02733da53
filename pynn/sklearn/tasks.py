"""The tasks of a call of ``fit`` or ``partial_fit`` that scikit-learn's callbacks are told of.

scikit-learn 1.9 and later have ``set_callbacks``, for example for ``ProgressBar`` and
``ScoringMonitor``. The root task is the call itself; its subtasks are the epochs, or the iterations
of ``solver="lbfgs"``. Without callbacks nothing is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils import _safe_indexing

from ..training.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin as _Theirs

    class CallbackSupportMixin(_Theirs):  # type: ignore[misc]
        """scikit-learn's, with an error for callbacks of pynn."""

        def set_callbacks(self, *callbacks: Any) -> Any:
            for one in callbacks:
                if isinstance(one, Callback):
                    raise TypeError(
                        f"set_callbacks: found {one!r}, expected callbacks of scikit-learn; the "
                        "parameter callbacks= of the estimator takes those of pynn"
                    )
            return super().set_callbacks(*callbacks)
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """scikit-learn before 1.9 has no ``set_callbacks``."""


Array = np.ndarray

ONLY_IN_FIT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
"""scikit-learn's attributes of an estimator with callbacks, which exist only in ``fit``."""


class Tasks:
    """Tells scikit-learn's callbacks of the tasks of one call.

    Parameters
    ----------
    owner : Perceptron
        The estimator.
    X, y, sample_weight
        The arguments of the call, which callbacks receive: data frames keep their names, and
        labels are not encoded.
    incremental : bool
        Whether the call is ``partial_fit``, which trains one epoch.
    """

    def __init__(self, owner: Any, X: Any, y: Any, sample_weight: Any, incremental: bool) -> None:
        self.owner = owner
        self.active = bool(owner.__dict__.get("_skl_callbacks"))
        self._given = X, y, sample_weight
        self._rows: Array | None = None
        self._selected: dict[int, Any] = {}
        self._task: Any = None
        if not self.active:
            return
        self._most = 1 if incremental else max(int(owner.max_iter), 1)
        self._name = "iteration" if owner.solver == "lbfgs" else "epoch"
        self._begun = 0
        name = "partial_fit" if incremental else "fit"
        self._root = owner._init_callback_context(task_name=name, max_subtasks=self._most)
        self._root.call_on_fit_task_begin(estimator=owner, **self._data())

    def train_on(self, rows: Array) -> None:
        """Pass only these rows to callbacks: the others are held out."""
        self._rows, self._selected = rows, {}

    def begin(self) -> None:
        """Begin an epoch or iteration, unless one has begun already."""
        if self.active and self._task is None and self._begun < self._most:
            self._begun += 1
            self._task = self._root.subcontext(task_name=self._name)
            self._task.call_on_fit_task_begin(estimator=self.owner, **self._data())

    def end(self, attributes: Callable[[], dict[str, Any]] = dict) -> bool:
        """End an epoch or iteration; return whether a callback wants to stop training.

        ``attributes`` returns the attributes that a copy of the estimator lacks to predict.
        """
        task, self._task = self._task, None
        return task is not None and bool(self._tell_end(task, attributes))

    def end_all(self) -> None:
        """End the call."""
        if not self.active:
            return
        if self._task is not None:  # stopped within an epoch or iteration
            self._task.call_on_fit_task_end(estimator=self.owner)
        self._tell_end(self._root, dict)

    def _tell_end(self, task: Any, attributes: Callable[[], dict[str, Any]]) -> bool:
        stop: bool = task.call_on_fit_task_end(
            estimator=self.owner, reconstruction_attributes=attributes, **self._data()
        )
        return stop

    def _data(self) -> dict[str, Any]:
        """Return the arguments for a hook; functions are called if a callback needs the value."""
        return {
            "X": functools.partial(self._rows_of, 0),
            "y": functools.partial(self._rows_of, 1),
            "metadata": None if self._given[2] is None else self._metadata,
        }

    def _metadata(self) -> dict[str, Any]:
        return {"sample_weight": self._rows_of(2)}

    def _rows_of(self, number: int) -> Any:
        """Return the training rows of one of X, y and sample_weight."""
        if self._rows is None:
            return self._given[number]
        if number not in self._selected:
            self._selected[number] = _safe_indexing(self._given[number], self._rows)
        return self._selected[number]


class Iterations:
    """Tells callbacks of the iterations of ``solver="lbfgs"``."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.stopped = False

    def globals_for_fit(self, check: Callable[..., int]) -> dict[str, Any]:
        """Return what ``_fit_lbfgs`` is to find instead of SciPy and of its check of the result."""
        if not self.tasks.active:
            return {"_check_optimize_result": check}
        minimize = functools.partial(scipy.optimize.minimize, callback=self._end)

        def check_unless_stopped(solver: str, result: Any, *more: Any) -> int:
            # A stop that a callback wants is no failure to converge.
            return int(result.nit) if self.stopped else check(solver, result, *more)

        return {
            "_check_optimize_result": check_unless_stopped,
            "scipy": SimpleNamespace(optimize=SimpleNamespace(minimize=minimize)),
        }

    def begun_by(
        self, objective: Callable[[Array], tuple[float, Array]]
    ) -> Callable[[Array], tuple[float, Array]]:
        """Return an objective whose first evaluation after an iteration begins the next one."""

        def evaluate(packed: Array) -> tuple[float, Array]:
            self.tasks.begin()
            return objective(packed)

        return evaluate if self.tasks.active else objective

    def _end(self, packed: Array) -> None:
        owner, values = self.tasks.owner, packed.copy()

        def attributes() -> dict[str, Any]:
            coefs = [values[a:b].reshape(shape) for a, b, shape in owner._coef_indptr]
            return {
                "coefs_": coefs,
                "intercepts_": [values[a:b] for a, b in owner._intercept_indptr],
            }

        if self.tasks.end(attributes):
            self.stopped = True
            raise StopIteration
