"""The state of a network that training changes and a model file stores."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.vectors import aligned, finite
from ..checks.arrays import as_array, check_finite
from ..checks.features import Pixels
from ..checks.targets import Task, default_task
from ..spec.architecture import Architecture
from ..spec.optimizers import Optimizer
from .history import History

if TYPE_CHECKING:
    from .profile import Profile

Array = np.ndarray


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

    Attributes
    ----------
    flat : ndarray (n_parameters,)
        The parameters: weights row by row, then biases, by layer. Always writeable.
    parameters : ndarray (n_parameters,)
        A view of ``flat`` for users, read-only during training.
    weights, biases : tuple of ndarray
        For each layer, views (n_in, n_out) and (n_out,) of ``parameters``.
    pixels : bool, "auto" or None
        Whether the inputs are pixels. None if the file or pickle of the model does not tell.
    task : Task or None
        Kind of the targets and the labels of the outputs; None before the first training.
    optimizer : Optimizer or None
        The settings that ``optimizer_state`` belongs to.
    optimizer_state : list of ndarray (n_parameters,)
        For example first and second moments of Adam.
    optimizer_began : int
        Value of ``updates`` when the optimizer state was zero.
    history : History
        One record for each trained epoch.
    epochs, updates : int
        Number of whole epochs and of parameter updates so far.
    profile : Profile or None
        The active profile, which records the times of training steps.
    """

    def __init__(self, architecture: Architecture, seed: int, pixels: Pixels = "auto") -> None:
        self.architecture, self.seed = architecture, seed
        self.pixels: Pixels = pixels
        self.task: Task | None = None
        self.optimizer: Optimizer | None = None
        self.optimizer_state: list[Array] = []
        self.optimizer_began = 0
        self.history = History()
        self.epochs = 0
        self.updates = 0
        self._allocate()

    def _allocate(self) -> None:
        self.flat = aligned(self.architecture.n_parameters, self.architecture.dtype)
        # Views of a view: they can be made read-only while training writes to ``flat``.
        self.parameters = self.flat.view()
        self.weights, self.biases = map(tuple, self.architecture.views(self.parameters))
        self.profile: Profile | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.architecture.dtype)

    @property
    def known_task(self) -> Task:
        """``task``, or before the first training the default of the architecture."""
        return self.task if self.task is not None else default_task(self.architecture)

    @property
    def vectors(self) -> list[Array]:
        """All vectors that an update changes, each (n_parameters,)."""
        return [self.flat, *self.optimizer_state]

    def is_finite(self) -> bool:
        """Whether parameters and optimizer state contain neither NaN nor infinity."""
        return finite(*self.vectors)

    def set_parameters(self, values: Any) -> None:
        """Copy values (n_parameters,) into the parameters."""
        self._copy_in([(values, self.flat, "parameters")])

    def set_layers(self, values: Any, name: str) -> None:
        """Copy a list of arrays, one per layer, into ``"weights"`` or ``"biases"``."""
        layers = self.architecture.views(self.flat)[name == "biases"]
        if not isinstance(values, (list, tuple)) or len(values) != len(layers):
            found = f"{len(values)}" if isinstance(values, (list, tuple)) else type(values).__name__
            raise ValueError(
                f"{name}: found {found}, expected a list of {len(layers)} arrays, one for each "
                "layer"
            )
        self._copy_in(
            [(v, w, f"{name}[{k}]") for k, (v, w) in enumerate(zip(values, layers, strict=True))]
        )

    def _copy_in(self, parts: Sequence[tuple[Any, Array, str]]) -> None:
        """Copy values into named parts of ``flat``: all of them or, after an error, none."""
        arrays = []
        for values, part, name in parts:
            a = as_array(values, name)
            if a.shape != part.shape:
                transposed = part.ndim == 2 and a.shape == part.shape[::-1]
                hint = ", (inputs, outputs): take the transpose" if transposed else ""
                raise ValueError(f"{name}: found shape {a.shape}, expected {part.shape}{hint}")
            if a.dtype.kind not in "iuf":
                raise TypeError(f"{name}: found dtype {a.dtype}, expected real numbers")
            check_finite(a, name, self.dtype)
            # A view of the parameters would be overwritten before it is read.
            arrays.append(a.copy() if np.may_share_memory(a, self.flat) else a)
        if not self.parameters.flags.writeable:
            raise ValueError(
                f"{parts[0][2]}: found a network in training; its parameters are read-only "
                "until fit has ended"
            )
        for a, (_, part, _) in zip(arrays, parts, strict=True):
            part[...] = a

    def set_writeable(self, writeable: bool) -> None:
        """Make the views for users writeable or read-only."""
        for view in (self.parameters, *self.weights, *self.biases):
            view.flags.writeable = writeable

    def set_optimizer(self, optimizer: Optimizer) -> None:
        """Keep the optimizer state if it belongs to an equal optimizer, else set it to zero."""
        if self.optimizer == optimizer:
            return
        self.optimizer, self.optimizer_began = optimizer, self.updates
        self.optimizer_state = [aligned(len(self.flat), self.dtype) for _ in range(optimizer.slots)]

    def restore(self, other: Model) -> None:
        """Continue from another model of the same architecture, which must not be used again."""
        self.flat[...] = other.flat
        self.optimizer, self.optimizer_state = other.optimizer, other.optimizer_state
        self.optimizer_began = other.optimizer_began
        self.history, self.epochs, self.updates = other.history, other.epochs, other.updates

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Model:
        """Return the model of a pickled state."""
        model = cls.__new__(cls)
        model.__setstate__(state)
        return model

    def __getstate__(self) -> dict[str, Any]:
        left_out = "parameters", "weights", "biases", "profile"
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.architecture = state["architecture"]
        self._allocate()
        flat = self.flat
        flat[...] = state["flat"]
        # Pickles of earlier versions do not name it.
        self.pixels = None
        self.__dict__.update(state, flat=flat)


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
    """Allows one call of ``fit`` at a time on one network."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0

    @contextmanager
    def hold(self, model: Model, epochs: int, task: Task | None, pixels: Pixels) -> Iterator[None]:
        """Hold the lock.

        Parameters
        ----------
        model : Model
            To be trained.
        epochs, task, pixels : int, Task or None, bool, "auto" or None
            Those of the model when the arguments were checked.

        Raises
        ------
        RuntimeError
            If the network is in training, or was trained since its arguments were checked.
        """
        acquired = self._lock.acquire(blocking=False)
        unchanged = model.epochs == epochs and model.task is task and model.pixels == pixels
        if not (acquired and unchanged):
            if acquired:
                self._lock.release()
            elif self._process not in (0, os.getpid()):
                raise RuntimeError(
                    f"fit: found this network in training by process {self._process} when it "
                    f"forked process {os.getpid()}, this one, where that training never ends and "
                    "the parameters may be half updated; expected a fork before fit or after it, "
                    "or a network that is created or loaded here"
                )
            raise RuntimeError(
                "fit: found another call of fit on this network, expected one at a time"
            )
        self._process = os.getpid()
        try:
            yield
        finally:
            self._process = 0
            self._lock.release()
