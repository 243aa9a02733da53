"""The arguments of one call of ``fit``: as a user gives them, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standard
from ..backends.contract import Data, TrainerSettings
from ..checks.targets import Task
from .blocks import Blocks
from .callbacks import Callback
from .checkpoint import Checkpoint
from .rates import Rates
from .stream import stream_of

if TYPE_CHECKING:
    from .measurement import Measurement

Array = np.ndarray


@dataclass(frozen=True)
class Arguments:
    """The arguments of ``Network.fit`` as a user gives them."""

    x: Any
    y: Any
    sample_weight: Any
    class_weight: Any
    missing_targets: Any
    epochs: Any
    batch_size: Any
    optimizer: Any
    learning_rate: Any
    layer_rates: Any
    l2: Any
    l1: Any
    clip_norm: Any
    max_norm: Any
    label_smoothing: Any
    ema: Any
    schedule: Any
    validation: Any
    metrics: Any
    training_metrics: Any
    stratify: Any
    shuffle: Any
    callbacks: Any
    progress: Any
    checkpoint: Any
    resume: Any
    groups: Any = ()
    """``TrainerSettings.groups``, for interfaces to other libraries; ``Network.fit`` has none."""
    convention: str = "pynn"
    """``TrainerSettings.convention``, likewise."""
    validation_factor: float = 1.0
    """Factor on the losses of the validation rows in records, likewise."""


@dataclass(frozen=True)
class Job:
    """The checked arguments of one call of ``fit``."""

    data: Data
    """Rows to train on."""
    held: Data | None
    """Rows to validate on."""
    measured: Measurement | None
    """The metrics to compute after each epoch."""
    task: Task
    """Kind of the targets."""
    pixels: bool | None
    """Whether the inputs are pixels; None for networks of files that do not tell."""
    columns: tuple[str, ...] | None
    """The names of the columns of x, if the first training had a data frame."""
    settings: TrainerSettings
    """Settings of the backend's trainer."""
    rates: Rates
    epochs: int
    """Epochs to train in this call."""
    blocks: Blocks | None
    """The order of the rows for ``shuffle="blocks"``."""
    calls: list[Callback]
    progress: Any
    """The argument ``progress``."""
    checkpoint: Checkpoint | None
    resume: bool
    compared: dict[str, Any]
    """Arguments that must not change when a run is resumed, as JSON can hold them."""
    arrays: dict[str, Array | Sparse]
    """The data by the names of their arguments, whose fingerprints are compared."""
    input_standard: Standard | None = None
    """Means and scales of the inputs, if they are standardised."""
    target_standard: Standard | None = None
    """Means and scales of the targets, if they are standardised: in ``data``, not in ``held``."""
    validation_factor: float = 1.0
    """Factor on the losses of the validation rows in records."""
    values: Array | None = None
    """The targets of the rows to train on in their original unit, if they are standardised."""

    @property
    def streams(self) -> bool:
        """Whether rows to train or to validate on are read part by part."""
        held = None if self.held is None else self.held.x
        return any(stream_of(x)[0] is not None for x in (self.data.x, held))

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-len(self.data.x) // self.settings.batch_size)
