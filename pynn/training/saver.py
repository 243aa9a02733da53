"""Writing checkpoints during one call of ``fit``.

A checkpoint is one file, which the next one replaces atomically. It is also a model file that
``pynn.load`` reads; besides the model it holds the position in the epoch, a description of the run
(see ``compare``) and the states of the callbacks. ``resume`` reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import disk
from ..files.tensors import save_tensors
from ..spec.caller import warn_caller
from .callbacks import Callback, has_state
from .checkpoint import Checkpoint
from .model import Model
from .model_file import TENSOR, describe
from .slices import Position


def require_writeable(path: Path) -> None:
    """Raise if a checkpoint cannot be written to ``path``, before an hour of training.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    FileNotFoundError
        If its folder does not exist.
    ValueError
        If something other than a file has its name.
    """
    from safetensors.numpy import save  # noqa: F401

    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"checkpoint: found no folder {path.parent}, expected one to write {path.name} into"
        )
    if path.exists():
        disk.require_file(path, "a file to write to")


class Saver:
    """Writes the checkpoints of one call of ``fit``.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where and how often.
    run : dict
        The description of the run, written into every checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, run: dict[str, Any]) -> None:
        self.checkpoint, self._run = checkpoint, run
        self._last = time.monotonic()
        self._failed = False

    def is_due(self, model: Model, whole_epoch: bool) -> bool:
        """Whether it is time to write, in the middle of an epoch or after one."""
        c = self.checkpoint
        if c.steps is not None:
            return model.updates % c.steps == 0
        if c.seconds is not None:
            return time.monotonic() - self._last >= c.seconds
        return whole_epoch and c.epochs is not None and model.epochs % c.epochs == 0

    def write(
        self,
        model: Model,
        position: Position,
        calls: Sequence[Callback],
        *,
        ended: bool,
        stopped: bool,
    ) -> None:
        """Write a checkpoint; warn at the first failure in a call of ``fit``.

        ``ended`` is whether training is complete, ``stopped`` whether a callback stopped it.
        """
        tensors, document = describe(model)
        states, arrays = _states(calls)
        tensors |= arrays
        # Sums and seconds as text: JSON has neither NaN nor infinity.
        names = "loss", "right", "weight", "seconds"
        sums = {name: str(float(getattr(position, name))) for name in names}
        document["checkpoint"] = {
            **self._run,
            "place": {"first": position.step, **sums},
            "ended": ended,
            "stopped": stopped,
            "callbacks": states,
        }
        path = self.checkpoint.path
        try:
            save_tensors(path, tensors, document)
        # ValueError: since training began, something other than a file has taken the name.
        except (OSError, ValueError) as error:
            if not self._failed:
                reason = getattr(error, "strerror", None) or error
                warn_caller(
                    f"checkpoint: could not write {path}: {reason}; training continues, and "
                    "writes again when the next checkpoint is due"
                )
            self._failed = True
        self._last = time.monotonic()


def _states(calls: Sequence[Callback]) -> tuple[list[dict[str, str]], dict[str, np.ndarray]]:
    """Return the states of callbacks: names with JSON texts, and the arrays among them."""
    states: list[dict[str, str]] = []
    tensors = {}
    for call in filter(has_state, calls):
        state = dict(call.state() or {})
        for key in [key for key, value in state.items() if isinstance(value, np.ndarray)]:
            tensors[f"{TENSOR}{len(states)}.{key}"] = state.pop(key)
        name = type(call).__name__
        try:
            states.append({"name": name, "state": json.dumps(state)})
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"callbacks: found a state of {name} that JSON cannot hold ({error})"
            ) from error
    return states, tensors
