"""Callbacks: functions and objects that ``fit`` calls during training (see ``pynn.callbacks``).

:class:`Trained`, :class:`TrainedNetwork` and :class:`Differentiable` list the members of the
trained object that the callbacks of this module use.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..spec import arguments
from ..spec.architecture import Architecture
from ..spec.arguments import choose
from .history import History, Record, full_name

Array = np.ndarray


class Trained(Protocol):
    """An object with a ``fit`` that calls callbacks: the member that EarlyStopping uses."""

    @property
    def parameters(self) -> Array:
        """All weights and biases as one vector; setting it copies the values in."""
        ...

    @parameters.setter
    def parameters(self, values: Any) -> None: ...


@runtime_checkable
class TrainedNetwork(Trained, Protocol):
    """The members of a network that EarlyStopping uses; estimators have only ``parameters``."""

    history: History

    @property
    def average(self) -> Array | None:
        """The moving average of the parameters, or None; setting it copies the values in."""
        ...

    @average.setter
    def average(self, values: Any) -> None: ...

    @property
    def statistics(self) -> Array:
        """The running statistics of batch norms; setting it copies the values in."""
        ...

    @statistics.setter
    def statistics(self, values: Any) -> None: ...


class Differentiable(Protocol):
    """The members of a network that Norms uses."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of units of every layer."""
        ...

    @property
    def updates(self) -> int:
        """Number of parameter updates so far."""
        ...

    @property
    def weights(self) -> tuple[Array, ...]:
        """The weights of each layer, (n_in, n_out)."""
        ...

    def loss_and_gradient(self, x: Any, y: Any) -> tuple[float, Array]:
        """Mean loss and its gradient with respect to the parameters, a flat vector."""
        ...


# Any: functions and overriding methods may declare ``net`` as pynn.Network or as an estimator.
Function = Callable[[Any, Record], "bool | None"]

MONITORS = ("loss", "accuracy", "validation_loss", "validation_accuracy")


class Callback:
    """Base class of callbacks. Every method does nothing; override the ones you need.

    ``net`` is the object whose ``fit`` was called, a :class:`pynn.Network` or an estimator, and
    ``record`` the :class:`pynn.Record` of the epoch. Parameters are read-only during training.

    Examples
    --------
    >>> class Printer(Callback):
    ...     def on_epoch_end(self, net, record):
    ...         print(record.epoch, record.loss)
    >>> net.fit(x, y, callbacks=Printer())  # doctest: +SKIP
    """

    steps: int | None = None
    """``on_steps`` is called each time this many updates have been made; None for never."""

    def on_fit_begin(self, net: Any) -> None:
        """Called before the first epoch of a call of ``fit``."""

    def on_steps(self, net: Any, record: Record) -> bool | None:
        """Called after every ``steps`` updates, counted over the network's life.

        ``record`` holds means over the epoch so far. Return True to stop training.
        """

    def on_epoch_end(self, net: Any, record: Record) -> bool | None:
        """Called after every epoch. Return True to stop training."""

    def on_fit_end(self, net: Any) -> None:
        """Called after the last epoch, unless an exception ended training.

        Parameters may be changed here.
        """

    def state(self) -> Mapping[str, Any] | None:
        """Return the state to store in a checkpoint: values that JSON can hold, and arrays.

        Called for every checkpoint. Override it together with ``restore``.
        """
        return None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Called instead of ``on_fit_begin`` when ``fit`` resumes from a checkpoint.

        ``state`` is the value that the method ``state`` returned, with lists in place of tuples.
        Raise ValueError if it does not fit: the network has not been changed yet.
        """


class _Function(Callback):
    def __init__(self, call: Function) -> None:
        self.call = call

    def on_epoch_end(self, net: Any, record: Record) -> bool | None:
        return self.call(net, record)


class Every(Callback):
    """Call a function each time a number of updates have been made, also within an epoch.

    Parameters
    ----------
    steps : int
        Number of updates between two calls.
    call : function
        ``call(net, record)``; ``record`` holds means over the epoch so far. If it returns True,
        training stops.

    Examples
    --------
    >>> def report(net, record):
    ...     print(net.updates, record.accuracy)
    >>> twenty = Every(steps=20, call=report)
    """

    def __init__(self, steps: int, call: Function) -> None:
        self.steps: int = arguments.whole(steps, "steps", 1)
        if not callable(call):
            raise TypeError(f"call: found {call!r}, expected a function of a network and a record")
        self.call = call

    def on_steps(self, net: Any, record: Record) -> bool | None:
        return self.call(net, record)


class Monitoring(Callback):
    """Base class of callbacks that follow the best value of a metric.

    Parameters
    ----------
    monitor : str
        ``"loss"``, ``"accuracy"``, ``"validation_loss"`` or ``"validation_accuracy"``, or one of
        the ``metrics`` of ``fit``, such as ``"validation_auc"`` (on training rows: ``"auc"``),
        which states whether larger is better. ``val_`` is short for ``validation_``.
    min_delta : float
        A value counts as an improvement only if it is better by more than this.

    Attributes
    ----------
    best : float or None
        The best value of the metric in the last call of ``fit``.
    best_epoch : int or None
        The epoch of the best value, as in ``Record.epoch``.
    """

    def __init__(self, monitor: str, min_delta: float) -> None:
        self.monitor = full_name(monitor) if isinstance(monitor, str) else ""
        if not self.monitor.isidentifier():
            choose("monitor", monitor, (*MONITORS, "or the name of a metric"))
        self.min_delta = arguments.number(min_delta, "min_delta", least=0)
        self._sign = 1.0 if self.monitor.endswith("loss") else -1.0
        self._forget()

    def follow(self, larger_is_better: bool) -> None:
        """Set the direction of the metric."""
        self._sign = -1.0 if larger_is_better else 1.0

    def _forget(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None

    def on_fit_begin(self, net: Any) -> None:
        self._forget()

    def _value(self, record: Record) -> float:
        value = record.get(self.monitor)
        if value is None:
            raise ValueError(
                f"callbacks: found no {self.monitor!r} in epoch {record.epoch} for "
                f"{type(self).__name__}"
            )
        return value

    def _improves(self, record: Record) -> bool:
        """Whether the epoch is the best so far, which is noted then."""
        value = self._value(record)
        before = math.inf if self.best is None else self._sign * self.best
        # The first epoch counts as the best so far even if its value is NaN.
        if self.best_epoch is None or self._sign * value < before - self.min_delta:
            self.best = value if not math.isnan(value) else None
            self.best_epoch = record.epoch
            return True
        return False

    def _settings(self) -> str:
        return f"{type(self).__name__}({self.monitor!r}, min_delta={self.min_delta!r})"

    def state(self) -> dict[str, Any]:
        return {"settings": self._settings(), "best": self.best, "best_epoch": self.best_epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        if state["settings"] != self._settings():
            raise ValueError(
                f"callbacks: found {self._settings()}, expected {state['settings']} as in the "
                "checkpoint"
            )
        best, epoch = state["best"], state["best_epoch"]
        if not isinstance(best, (float, int, type(None))):
            raise ValueError(f"best: found {best!r}, expected a number")
        if epoch is not None:
            arguments.whole(epoch, "best_epoch", 0)
        elif best is not None:
            raise ValueError("best_epoch: found none, expected the epoch of the best value")
        self.best, self.best_epoch = best, epoch


_NO_STATISTICS = np.empty(0)


class EarlyStopping(Monitoring):
    """Stop when a metric reaches a threshold or no longer improves, and restore the best weights.

    Parameters
    ----------
    monitor : str
        ``"loss"``, ``"accuracy"``, ``"validation_loss"`` or ``"validation_accuracy"``, or one of
        the ``metrics`` of ``fit``, such as ``"validation_auc"`` (on training rows: ``"auc"``),
        which states whether larger is better. ``val_`` is short for ``validation_``.
    patience : int or None
        Stop after this many epochs in a row without improvement; None for never.
    min_delta : float
        A value counts as an improvement only if it is better by more than this.
    threshold : float, optional
        Stop when the metric is at least as good as this value; None for never.
    restore_best : bool
        Whether to restore the parameters of the best epoch, and their average, when training ends
        (the optimizer state remains as after the last epoch).

    Attributes
    ----------
    best : float or None
        The best value of the metric in the last call of ``fit``.
    best_epoch : int or None
        The epoch of the best value, as in ``Record.epoch``.
    stopped_epoch : int or None
        The epoch after which training was stopped; None if all epochs were trained.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int | None = 5,
        min_delta: float = 0.0,
        threshold: float | None = None,
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, min_delta)
        self.patience = None if patience is None else arguments.whole(patience, "patience", 1)
        self.threshold = None if threshold is None else arguments.number(threshold, "threshold")
        self.restore_best = restore_best

    def _forget(self) -> None:
        super()._forget()
        self.stopped_epoch: int | None = None
        self._parameters: Array | None = None
        self._average: Array | None = None
        self._statistics: Array = _NO_STATISTICS

    def on_epoch_end(self, net: Trained, record: Record) -> bool | None:
        if self._improves(record) and self.restore_best:
            self._parameters = net.parameters.copy()
            if isinstance(net, TrainedNetwork):
                self._average = None if net.average is None else net.average.copy()
                self._statistics = net.statistics.copy()
        value = self._value(record)
        reached = self.threshold is not None and self._sign * (value - self.threshold) <= 0
        waited = record.epoch - (self.best_epoch or 0)
        if reached or (self.patience is not None and waited >= self.patience):
            self.stopped_epoch = record.epoch
            return True
        return None

    def on_fit_end(self, net: Trained) -> None:
        if self._parameters is not None:
            net.parameters = self._parameters
            if isinstance(net, TrainedNetwork):
                if len(self._statistics):
                    net.statistics = self._statistics
                if self._average is not None:  # last: the others remove it
                    net.average = self._average
                if net.history:
                    net.history.restored_epoch = self.best_epoch
            self._parameters = self._average = None

    def _settings(self) -> str:
        return (
            f"EarlyStopping({self.monitor!r}, patience={self.patience}, "
            f"min_delta={self.min_delta!r}, threshold={self.threshold!r}, "
            f"restore_best={bool(self.restore_best)})"
        )

    def state(self) -> dict[str, Any]:
        state = {**super().state(), "stopped_epoch": self.stopped_epoch}
        if self._parameters is not None:
            state["parameters"] = self._parameters
        if self._average is not None:
            state["average"] = self._average
        if len(self._statistics):
            state["statistics"] = self._statistics
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        stopped, parameters = state["stopped_epoch"], state.get("parameters")
        average = state.get("average")
        statistics = state.get("statistics", _NO_STATISTICS)
        if stopped is not None:
            arguments.whole(stopped, "stopped_epoch", 0)
        for name, found in (("parameters", parameters), ("average", average)):
            if not isinstance(found, (np.ndarray, type(None))):
                raise ValueError(f"{name}: found {found!r}, expected an array")
        super().restore(state)
        self.stopped_epoch, self._parameters, self._average = stopped, parameters, average
        self._statistics = statistics


class SaveBest(Monitoring):
    """Write a model file each time a metric is better than after any epoch before.

    The file holds the whole model after its best epoch, as ``Network.save`` writes it. Unlike the
    weights that EarlyStopping restores, it survives the process, and has the optimizer state of
    that epoch. A ``Checkpoint`` holds the last state of a run instead.

    Parameters
    ----------
    path : str or path-like
        The file to write, atomically; its folder must exist. An existing file is replaced after the
        first epoch.
    monitor : str
        As for :class:`pynn.EarlyStopping`.
    min_delta : float
        A value counts as an improvement only if it is better by more than this.

    Attributes
    ----------
    best : float or None
        The best value of the metric in the last call of ``fit``.
    best_epoch : int or None
        The epoch of the best value, as in ``Record.epoch``: the one that the file holds.

    Raises
    ------
    TypeError
        When training begins, if an estimator is trained: only a Network can be saved.
    OSError
        If the file cannot be written. The network is then as after any exception in a callback.

    Examples
    --------
    >>> best = SaveBest("best.safetensors", "validation_auc")
    >>> net.fit(x, y, validation=0.1, metrics="auc", callbacks=best)  # doctest: +SKIP
    >>> net = pynn.load("best.safetensors")  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "validation_loss",
        min_delta: float = 0.0,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path: found {path!r}, expected the path of a file")
        # The working directory may change during training.
        self.path = os.path.abspath(path)
        super().__init__(monitor, min_delta)

    def on_fit_begin(self, net: Any) -> None:
        if not hasattr(net, "save"):
            raise TypeError(
                f"callbacks: found SaveBest for a {type(net).__name__}, expected a pynn.Network, "
                "which can be saved"
            )
        if not os.path.isdir(os.path.dirname(self.path)):
            raise FileNotFoundError(
                f"callbacks: found no folder {os.path.dirname(self.path)}, expected one for the "
                "file of SaveBest"
            )
        super().on_fit_begin(net)

    def on_epoch_end(self, net: Any, record: Record) -> None:
        if self._improves(record):
            net.save(self.path)


class Norms(Callback):
    """Record the norms of weights and gradients of each layer during training.

    The gradients are of the mean loss of a fixed batch, without dropout and L2, so that they can be
    compared over time. The first record is made before training, the next ones after every epoch
    or after every ``steps`` updates. Recording does not change the results of training.

    Parameters
    ----------
    x, y : array
        The rows to compute the gradient on, as in ``fit``; a few hundred are enough. Each record
        takes as long as a training step on them.
    steps : int, optional
        Number of updates between two records; None for one record after each epoch.

    Attributes
    ----------
    updates : list of int
        Number of updates of the network at each record.
    weights, gradients : list of list of float
        For each layer, the L2 norm of its weights, and of the gradient with respect to them, at
        each record; without biases.
    sizes : tuple of int
        Number of units of every layer of the network; empty before training.

    Raises
    ------
    ValueError
        When training begins, if the network is not the one recorded so far.

    Examples
    --------
    >>> norms = Norms(x[:200], y[:200], steps=50)  # doctest: +SKIP
    >>> net.fit(x, y, callbacks=norms)  # doctest: +SKIP
    >>> pynn.plots.norms(norms)  # doctest: +SKIP
    """

    def __init__(self, x: Any, y: Any, steps: int | None = None) -> None:
        self.x, self.y = x, y
        self.steps = None if steps is None else arguments.whole(steps, "steps", 1)
        self.updates: list[int] = []
        self.weights: list[list[float]] = []
        self.gradients: list[list[float]] = []
        self.sizes: tuple[int, ...] = ()

    def on_fit_begin(self, net: Differentiable) -> None:
        if not hasattr(net, "loss_and_gradient"):
            raise TypeError(
                f"callbacks: found Norms for a {type(net).__name__}, expected a pynn.Network, "
                "which computes gradients"
            )
        if self.updates and (net.sizes != self.sizes or net.updates < self.updates[-1]):
            raise ValueError(
                f"callbacks: found Norms of a network {'-'.join(map(str, self.sizes))} with "
                f"{self.updates[-1]} updates, for one of {'-'.join(map(str, net.sizes))} with "
                f"{net.updates}; expected a new Norms(x, y) for each network"
            )
        if not self.updates:
            self.sizes = net.sizes
            self.weights = [[] for _ in net.weights]
            self.gradients = [[] for _ in net.weights]
        self._record(net)

    def on_steps(self, net: Differentiable, record: Record) -> None:
        self._record(net)

    def on_epoch_end(self, net: Differentiable, record: Record) -> None:
        if self.steps is None:
            self._record(net)

    def _record(self, net: Differentiable) -> None:
        # A second call of fit begins with the parameters that the first one recorded last.
        if self.updates and self.updates[-1] == net.updates:
            return
        _, flat = net.loss_and_gradient(self.x, self.y)
        gradients, _ = net.architecture.views(flat)
        for columns, arrays in (self.weights, net.weights), (self.gradients, gradients):
            for column, array in zip(columns, arrays, strict=True):
                # float64: squares of large float32 numbers overflow.
                column.append(float(np.linalg.norm(array.astype(np.float64))))
        self.updates.append(net.updates)

    def state(self) -> dict[str, Any]:
        return {
            "sizes": list(self.sizes),
            "updates": np.array(self.updates, np.int64),
            "weights": np.array(self.weights, np.float64),
            "gradients": np.array(self.gradients, np.float64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        sizes = tuple(arguments.whole(size, "sizes", 1) for size in state["sizes"])
        arrays = [np.asarray(state[name]) for name in ("updates", "weights", "gradients")]
        records = arrays[0].size
        shape = (len(sizes) - 1, records) if sizes else (0,)
        for array, expected in zip(arrays, [(records,), shape, shape], strict=True):
            if array.dtype.kind not in "if" or array.shape != expected:
                raise ValueError(
                    f"norms: found {array.dtype} {array.shape}, expected numbers {expected}"
                )
        self.sizes = sizes
        self.updates, self.weights, self.gradients = (array.tolist() for array in arrays)


def as_callbacks(callbacks: object) -> list[Callback]:
    """Return the argument ``callbacks`` of ``fit`` as a list of Callback objects."""
    given = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    found: list[Callback] = []
    for one in given:
        if isinstance(one, Callback):
            found.append(one)
        elif callable(one) and not isinstance(one, type):
            arguments.must_take(
                one, (None, None), "callbacks", "two arguments, the network and a record"
            )
            found.append(_Function(one))
        else:
            raise TypeError(
                f"callbacks: found {one!r}, expected functions f(net, record) or Callback objects"
                f"{_hint(one)}"
            )
    return found


def _hint(one: object) -> str:
    """Return what to do with an object that is no callback of pynn."""
    if isinstance(one, type) and issubclass(one, Callback):
        return f"; pass an object, {one.__name__}(…), not the class"
    if hasattr(one, "on_fit_task_end"):
        return "; set_callbacks(…) of the estimators of pynn.sklearn takes scikit-learn's callbacks"
    return ""


def check_monitors(
    calls: list[Callback],
    validated: bool,
    classified: bool,
    directions: Mapping[str, bool] | None = None,
    source: str = "validation=(x, y) or a share of the rows",
) -> None:
    """Raise if a callback monitors a value that this call of ``fit`` does not measure.

    ``directions`` says of each metric whether larger is better. ``source`` names the arguments that
    would provide validation rows.
    """
    for call in calls:
        if isinstance(call, Monitoring):
            where = f"callbacks: {type(call).__name__}"
            found = (validated, classified, directions or {}, source)
            call.follow(larger_is_better(call.monitor, where, *found))


def larger_is_better(
    monitor: str,
    where: str,
    validated: bool,
    classified: bool,
    directions: Mapping[str, bool],
    source: str = "validation=(x, y) or a share of the rows",
) -> bool:
    """Return the direction of a value; raise if this call of ``fit`` does not measure it.

    ``where`` names the argument and the object that monitor it, as ``callbacks: EarlyStopping``;
    ``directions`` and ``source`` are as in ``check_monitors``.
    """
    if monitor in directions:
        return directions[monitor]
    if monitor not in MONITORS:
        choose(f"{where}.monitor", monitor, (*MONITORS, *directions))
    where = where.replace(": ", ": found ")
    if monitor.startswith("validation") and not validated:
        raise ValueError(f"{where} on {monitor!r} but no validation data, expected {source}")
    if monitor.endswith("accuracy") and not classified:
        raise ValueError(f"{where} on {monitor!r}, expected a loss: regression has no accuracy")
    return monitor.endswith("accuracy")


def has_state(call: Callback) -> bool:
    """Whether a callback has a state that checkpoints hold."""
    return type(call).state is not Callback.state


def stops(answer: object) -> bool:
    """Whether the return value of a callback stops training."""
    return isinstance(answer, (bool, np.bool_)) and bool(answer)
