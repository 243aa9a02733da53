"""The state of a network that training changes and a model file stores."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.standard import Standard
from ..arrays.vectors import aligned, cast
from ..checks.arrays import check_finite
from ..checks.columns import Columns
from ..checks.convert import as_numbers
from ..checks.features import Pixels
from ..checks.targets import Task, default_task
from ..spec.architecture import Architecture
from ..spec.optimizers import Optimizer
from .history import History

if TYPE_CHECKING:
    from ..data.table import Table
    from .profile import Profile

Array = np.ndarray

MOST_EPOCHS, MOST_UPDATES = 2**32 - 1, 2**62

SETTINGS = (
    *("task", "pixels", "columns", "input_standard", "target_standard"),
    *("optimizer", "optimizer_state", "optimizer_began", "average", "average_began"),
)
"""Attributes of a model that ``fit`` sets before the first step."""


class Model:
    """Architecture, parameters, optimizer state, counters and history of one network.

    A model computes nothing: ``Network`` combines it with an engine and the public methods, the
    training loop updates it, and model files and checkpoints store it. A new model has
    uninitialised parameters.

    Parameters
    ----------
    architecture : Architecture
        Layers, functions and number format.
    seed : int
        Key of all random numbers.
    pixels : bool or "auto"
        Whether the inputs are pixels; ``"auto"`` until the first training decides.
    standardize, standardize_targets : bool
        Whether the inputs, and the targets, are standardised.

    Attributes
    ----------
    flat : ndarray (n_values,)
        The parameters: weights row by row, then biases, by layer; then the running statistics of
        batch norms. Always writeable.
    parameters : ndarray (n_parameters,)
        A view of ``flat`` for users, read-only during training.
    statistics : ndarray (n_statistics,)
        The running statistics of batch norms, as a view of ``flat`` for users.
    running_means, running_variances : tuple of ndarray or None
        For each layer, views (n_out,) of ``statistics``; None without a batch norm.
    weights, biases : tuple of ndarray
        For each layer, views (n_in, n_out) and (n_out,) of ``parameters``.
    scales, shifts : tuple of ndarray or None
        For each layer, views (n_out,) of ``parameters``; None where it has none.
    pixels : bool, "auto" or None
        Whether the inputs are pixels. None if the file or pickle of the model does not tell.
    columns : tuple of str or None
        The names of the columns of x in the first training; None for arrays.
    table : Table or None
        How the columns of files become inputs and targets.
    standardize, standardize_targets : bool
        Whether the inputs, and the targets, are standardised.
    input_standard, target_standard : Standard or None
        Means and scales of the inputs, and of the targets; None before the first training, or
        without standardisation.
    task : Task or None
        Kind of the targets and the labels of the outputs; None before the first training.
    frozen : tuple of int
        The layers that training leaves as they are, in ascending order.
    optimizer : Optimizer or None
        The settings that ``optimizer_state`` belongs to.
    optimizer_state : list of ndarray (n_values,)
        For example first and second moments of Adam; 0 in the places of running statistics.
    optimizer_began : int
        Value of ``updates`` when the optimizer state was zero; negative if a program has reduced
        ``updates``.
    average : ndarray (n_values,) or None
        Moving average of the parameters and of the running statistics, which predictions use; None
        without one.
    average_began : int
        Value of ``updates`` when the average was equal to the parameters.
    training : bool
        Whether ``fit`` trains the model now.
    history : History
        One record for each trained epoch.
    epochs, updates : int
        Number of whole epochs and of parameter updates so far.
    passes : int
        Number of forward passes in training mode without a key, which is the key of the next one.
    version : int
        Increases with every change of the parameters by a method, so that tapes recognise it.
    profile : Profile or None
        The last profile that was entered.
    """

    def __init__(
        self,
        architecture: Architecture,
        seed: int,
        pixels: Pixels = "auto",
        standardize: bool = False,
        standardize_targets: bool = False,
    ) -> None:
        self.architecture, self.seed = architecture, seed
        self.pixels: Pixels = pixels
        self.columns: Columns | None = None
        self.table: Table | None = None
        self.frozen: tuple[int, ...] = ()
        self.standardize, self.standardize_targets = standardize, standardize_targets
        self.input_standard: Standard | None = None
        self.target_standard: Standard | None = None
        self.task: Task | None = None
        self.optimizer: Optimizer | None = None
        self.optimizer_state: list[Array] = []
        self.optimizer_began = 0
        self.average: Array | None = None
        self.average_began = 0
        self.history = History()
        self.epochs = 0
        self.updates = 0
        self.passes = 0
        self._allocate()

    def _allocate(self) -> None:
        n = self.architecture.n_parameters
        self.flat = aligned(self.architecture.n_values, self.architecture.dtype)
        # Views of a view: they can be made read-only while training writes to ``flat``.
        self.parameters, self.statistics = self.flat[:n], self.flat[n:]
        self.weights, self.biases = map(tuple, self.architecture.views(self.parameters))
        norms = [[*part, None, None] for part in self.architecture.norm_views(self.parameters)]
        self.scales = tuple(part[0] for part in norms)
        self.shifts = tuple(part[1] for part in norms)
        values = self.flat.view()
        running = [[*part, None, None] for part in self.architecture.running_views(values)]
        self.running_means = tuple(part[0] for part in running)
        self.running_variances = tuple(part[1] for part in running)
        self.profile: Profile | None = None
        self.training = False
        self.version = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.architecture.dtype)

    @property
    def input_format(self) -> str:
        """The dtype that holds inputs: float64 if they are standardised, which is done in it."""
        return "float64" if self.standardize else self.architecture.dtype

    @property
    def target_format(self) -> str:
        """The dtype that holds targets: float64 if they are standardised, which is done in it."""
        return "float64" if self.standardize_targets else self.architecture.dtype

    @property
    def known_task(self) -> Task:
        """``task``, or before the first training the default of the architecture."""
        return self.task if self.task is not None else default_task(self.architecture)

    @property
    def active_profile(self) -> Profile | None:
        """The profile that records the times of training steps now."""
        profile = self.profile
        return profile if profile is not None and profile.is_active else None

    @property
    def vectors(self) -> list[Array]:
        """All vectors that an update changes, each (n_values,)."""
        average = [] if self.average is None else [self.average]
        return [self.flat, *self.optimizer_state, *average]

    @property
    def evaluated(self) -> Array:
        """The values that predictions use (n_values,): the average if there is one."""
        return self.flat if self.average is None else self.average

    def set_parameters(self, values: Any) -> None:
        """Copy values (n_parameters,) into the parameters."""
        self._store(self._checked(values, self.parameters, "parameters"), "parameters")

    def set_statistics(self, values: Any) -> None:
        """Copy values (n_statistics,) into the running statistics of batch norms."""
        new = self.flat.copy()
        new[len(self.parameters) :] = self._checked(values, self.statistics, "statistics")
        self.check_variances(new, "statistics")
        self._store(new, "statistics")

    def set_values(self, values: Array, name: str) -> None:
        """Copy values (n_values,) into the parameters and running statistics."""
        self.check_variances(values, name)
        self._store(values, name)

    def check_variances(self, values: Array, name: str) -> None:
        """Raise ValueError if values (n_values,) have a negative running variance."""
        for k, (_, variance) in zip(
            self.architecture.batch_layers,
            filter(None, self.architecture.running_views(values)),
            strict=True,
        ):
            if (variance < 0).any():
                unit = int(np.argmax(variance < 0))
                raise ValueError(
                    f"{name}: found the running variance {variance[unit]:g} of unit {unit} in "
                    f"layer {k} (counted from 0), expected 0 or more"
                )

    def set_layers(self, values: Any, name: str) -> None:
        """Copy a list of arrays, one per layer, into ``"weights"``, ``"biases"``, ``"scales"`` or
        ``"shifts"``; None for layers without.
        """
        new = self.parameters.copy()
        layers: Sequence[Array | None]
        if name in ("weights", "biases"):
            layers = self.architecture.views(new)[name == "biases"]
        else:
            number = int(name == "shifts")
            norms = self.architecture.norm_views(new)
            layers = [part[number] if len(part) > number else None for part in norms]
        if not isinstance(values, (list, tuple)) or len(values) != len(layers):
            found = f"{len(values)}" if isinstance(values, (list, tuple)) else type(values).__name__
            raise ValueError(
                f"{name}: found {found}, expected a list of {len(layers)} arrays, one for each "
                "layer"
            )
        for k, (layer, part) in enumerate(zip(values, layers, strict=True)):
            if part is not None:
                part[...] = self._checked(layer, part, f"{name}[{k}]")
            elif layer is not None:
                raise ValueError(f"{name}[{k}]: found {layer!r}, expected None: the layer has none")
        self._store(new, name)

    def _checked(self, values: Any, part: Array, name: str) -> Array:
        """Return values as an array of the model's dtype and of the shape of ``part``."""
        a = as_numbers(values, name)
        if a.shape != part.shape:
            transposed = part.ndim == 2 and a.shape == part.shape[::-1]
            hint = ", (inputs, outputs): take the transpose" if transposed else ""
            raise ValueError(f"{name}: found shape {a.shape}, expected {part.shape}{hint}")
        if a.dtype.kind not in "iuf":
            raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")
        check_finite(a, name, self.dtype)
        return cast(a, self.dtype)

    def _store(self, values: Array, name: str) -> None:
        """Replace all parameters, or all values (n_values,), in one step, so that an exception
        changes all of them or none.
        """
        self._require_idle(name, "parameters are")
        self.average = None  # first: an interrupt must not leave the average of other parameters
        self.flat[: len(values)] = values
        self.set_writeable(True)

    def set_average(self, values: Any) -> None:
        """Copy values (n_values,) into the average, or remove it for None."""
        self._require_idle("average", "parameters are")
        if values is not None:
            values = self._owned(self._checked(values, self.flat, "average"))
            self.check_variances(values, "average")
        self.average = values
        self.set_writeable(True)

    def assign(self, name: str, value: Any, **others: Any) -> None:
        """Set an attribute for the user, and others with it."""
        self._require_idle(name, f"{name} is" if name in ("seed", "history") else f"{name} are")
        self.replace(**{name: value}, **others)

    def updated(self, optimizer: Optimizer, state: list[Array]) -> None:
        """Count an update of the parameters by an optimizer with this state, in one step; it drops
        the average.
        """
        kept = state is self.optimizer_state
        self.replace(
            optimizer=optimizer,
            optimizer_state=state,
            optimizer_began=self.optimizer_began if kept else self.updates,
            updates=self.updates + 1,
        )
        self.drop_average()

    def drop_average(self) -> None:
        """Remove the average, and let tapes know that the parameters have changed."""
        if self.average is not None:
            self.average = None
            self.set_writeable(True)
        self.version += 1

    def require_idle(self, name: str) -> None:
        """Raise ValueError if the model is in training."""
        self._require_idle(name, "parameters are")

    def _require_idle(self, name: str, read_only: str) -> None:
        if self.training:
            raise ValueError(
                f"{name}: found a network in training; its {read_only} read-only until fit has "
                "ended"
            )

    def set_writeable(self, writeable: bool) -> None:
        """Make the views for users writeable or read-only: before and after training.

        While there is an average they stay read-only, since nothing would tell that it no longer
        belongs to the parameters.
        """
        self.training = not writeable
        self.version += 1
        writeable = writeable and self.average is None
        views = self.parameters, *self.weights, *self.biases, *self.scales, *self.shifts
        for view in (*views, self.statistics, *self.running_means, *self.running_variances):
            if view is not None:
                view.flags.writeable = writeable

    def state_for(self, optimizer: Optimizer) -> list[Array]:
        """Return the optimizer state if it belongs to an equal optimizer, else new zeros."""
        if self.optimizer is optimizer or self.optimizer == optimizer:
            return self.optimizer_state
        return [aligned(len(self.flat), self.dtype) for _ in range(optimizer.slots)]

    def average_for(self, ema: float) -> Array | None:
        """Return the average to train with: None for an ``ema`` of 0, or a copy of the parameters
        if there is none yet.
        """
        if not ema:
            return None
        return self._owned(self.flat) if self.average is None else self.average

    def settings(self) -> dict[str, Any]:
        """Return the attributes that ``begin`` changes."""
        return {name: self.__dict__[name] for name in SETTINGS}

    def begin(
        self,
        task: Task | None,
        pixels: Pixels,
        optimizer: Optimizer,
        state: list[Array],
        columns: Columns | None,
        standards: tuple[Standard | None, Standard | None],
        average: Array | None = None,
    ) -> None:
        """Begin to train for a task, with an optimizer and the result of ``state_for``, with means
        and scales of inputs and of targets, and with the result of ``average_for``.
        """
        kept = state is self.optimizer_state
        averaged = average is not None and average is self.average
        self.replace(
            task=task,
            pixels=pixels,
            columns=columns,
            input_standard=standards[0],
            target_standard=standards[1],
            optimizer=optimizer,
            optimizer_state=state,
            optimizer_began=self.optimizer_began if kept else self.updates,
            average=average,
            average_began=self.average_began if averaged else self.updates,
        )

    def replace(self, **attributes: Any) -> None:
        """Set attributes in one step: no exception, not even Ctrl-C, can leave a part of them."""
        self.__dict__.update(attributes)

    def restore(self, other: Model) -> None:
        """Continue from another model of the same architecture, which must not be used again."""
        names = *SETTINGS, "history", "epochs", "updates"
        attributes = {name: other.__dict__[name] for name in names}
        try:
            self.flat[...] = other.flat
            self.replace(**attributes)
        except BaseException:
            # Interrupted, perhaps between the two lines.
            self.flat[...] = other.flat
            self.replace(**attributes)
            raise

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Model:
        """Return the model of a pickled state."""
        model = cls.__new__(cls)
        model.__setstate__(state)
        return model

    def __getstate__(self) -> dict[str, Any]:
        left_out = (
            *("parameters", "weights", "biases", "scales", "shifts", "profile", "training"),
            *("version", "statistics", "running_means", "running_variances"),
        )
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.architecture = state["architecture"]
        self._allocate()
        self.flat[...] = state["flat"]
        # The arrays of a pickle can be read-only, unaligned, of another byte order, or in a file
        # that changes later: training writes to copies.
        slots = [self._owned(slot) for slot in state["optimizer_state"]]
        task = state["task"]
        if task is not None and task.classes is not None:
            task = replace(task, classes=task.classes.copy())
        # Pickles of earlier versions do not tell whether inputs are pixels.
        self.pixels = self.columns = self.table = None
        self.frozen = ()
        self.standardize = self.standardize_targets = False
        new: dict[str, Any] = {"flat": self.flat, "optimizer_state": slots, "task": task}
        for name in ("input_standard", "target_standard"):
            found = state.get(name)
            new[name] = None if found is None else Standard.of(found.mean, found.scale)
        # Pickles of earlier versions have neither.
        self.passes = 0
        average, self.average_began = state.get("average"), 0
        new["average"] = None if average is None else self._owned(average)
        self.__dict__.update({**state, **new})
        self.set_writeable(True)

    def _owned(self, values: Array) -> Array:
        """Return a copy (n_values,) as training requires it: aligned, writeable, in dtype."""
        copied = aligned(len(self.flat), self.dtype)
        copied[...] = values
        return copied


_MODEL_ATTRIBUTES = {
    "architecture": "architecture",
    "seed": "seed",
    "history": "history",
    "epochs": "epochs",
    "updates": "updates",
    "_flat": "flat",
    "_task": "task",
    "_optimizer": "optimizer",
    "_state": "optimizer_state",
    "_state_began": "optimizer_began",
}
"""Attributes in pickles of ``Network`` that precede ``Model``, and their names in ``Model``."""


def from_earlier_pickle(state: dict[str, Any]) -> dict[str, Any]:
    """Convert the state of a ``Network`` that was pickled before ``Model`` existed."""
    model = Model.from_state({new: state[old] for old, new in _MODEL_ATTRIBUTES.items()})
    others = {k: v for k, v in state.items() if k not in _MODEL_ATTRIBUTES}
    return {**others, "_model": model}


class TrainingLock:
    """Allows one call of ``fit`` at a time on one network.

    ::

        call = Call()
        try:
            with call.running:
                lock.claim(call, model, epochs, task, pixels)
                ...
        finally:
            lock.remove(call)

    A call has the network while it is listed here and its ``running`` is locked. The interpreter
    handles no signal between entering ``with`` a lock and the block, or between the block and the
    release, so that an interrupt cannot leave the network in training for ever. ``remove`` covers
    what raises there all the same, such as the trace function of a debugger.
    """

    def __init__(self) -> None:
        # Every access is a single atomic operation, since threads may switch between any two.
        self._calls: list[Call] = []

    def claim(
        self, call: Call, model: Model, epochs: int, task: Task | None, pixels: Pixels
    ) -> None:
        """Give the network to a call, whose ``running`` is locked.

        Parameters
        ----------
        call : Call
            The call.
        model : Model
            To be trained.
        epochs, task, pixels : int, Task or None, bool, "auto" or None
            Those of the model when the arguments were checked.

        Raises
        ------
        RuntimeError
            If the network is in training, or was trained since its arguments were checked.
        """
        self._calls.append(call)
        first, *_ = [c for c in self._calls.copy() if c.running.locked()]
        unchanged = model.epochs == epochs and model.task is task and model.pixels == pixels
        if first is call and unchanged:
            return
        if first.process != call.process:
            raise RuntimeError(
                f"fit: found this network in training by process {first.process} when it forked "
                f"process {call.process}, this one, where that training never ends and the "
                "parameters may be half updated; expected a fork before fit or after it, or a "
                "network that is created or loaded here"
            )
        raise RuntimeError("fit: found another call of fit on this network, expected one at a time")

    def remove(self, call: Call) -> None:
        """Take the network from a call, if it has it."""
        with suppress(ValueError):
            self._calls.remove(call)


class Call:
    """One call of ``fit`` for ``TrainingLock``, made by the process with the number ``process``."""

    def __init__(self) -> None:
        self.running, self.process = threading.Lock(), os.getpid()
