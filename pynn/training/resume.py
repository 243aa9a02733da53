"""Reading a checkpoint and resuming the run that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import disk
from ..files.tensors import load_tensors
from ..spec import arguments
from .callbacks import Callback, has_state
from .compare import Comparison, Resumed
from .job import Job
from .model import Model
from .model_file import MISFITS, TENSOR, misfit, rebuild
from .slices import Position


def resume(path: Path, run: dict[str, Any], job: Job, model: Model) -> Resumed | None:
    """Return the checkpoint to resume from, after restoring callbacks; None to start a new run.

    Parameters
    ----------
    path : Path
        Where checkpoints of the run are written.
    run : dict
        The description of the run, which is changed to begin where the checkpoint says.
    job : Job
        The arguments of the call.
    model : Model
        As it is before training.

    Raises
    ------
    ValueError
        If there is a checkpoint of another run, or one that would be lost.
    """
    disk.remove_leftovers(path)
    if not path.exists():
        return None
    if not job.resume:
        _require_ended(path)
        return None
    found = read(path, job.steps, len(job.data.x), job.settings.batch_size)
    try:
        Comparison(path, run, job, found.run).check(found, model)
    except ValueError:
        raise
    except MISFITS as error:
        raise _unusable(path, error) from error
    _restore_callbacks(path, job.calls, found.states)
    run["began"] = found.run["began"]
    return found


def is_older_split(path: Path) -> bool:
    """Whether there is a checkpoint at ``path`` that was written before splits were stratified."""
    if not path.is_file():
        return False
    try:
        _, document = load_tensors(path, tensors=False)
        return "stratify" not in document["checkpoint"]["settings"]
    except (OSError, *MISFITS):
        return False  # reading the whole file will raise


def _require_ended(path: Path) -> None:
    """Raise if a file would be lost that is not the checkpoint of a complete run."""
    _, document = load_tensors(path, tensors=False)
    run = document.get("checkpoint")
    if not (isinstance(run, dict) and run.get("ended") is True):
        found = "a model" if run is None else "a run that has not ended"
        raise ValueError(
            f"checkpoint: found {found} in {path}, which would be lost; expected "
            "resume=True to continue it, or another path"
        )


def _restore_callbacks(
    path: Path, calls: Sequence[Callback], states: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    saved = [name for name, _ in states]
    found = [type(call).__name__ for call in calls if has_state(call)]
    if saved != found:
        raise ValueError(
            f"callbacks: found {', '.join(found) or 'none'} with a state, but the run in "
            f"{path} has {disk.shown(', '.join(saved)) or 'none'}; expected the same"
        )
    for call, (name, state) in zip(filter(has_state, calls), states, strict=True):
        try:
            call.restore(state)
        except MISFITS as error:
            raise ValueError(
                f"{path}: found a state that {name} cannot use: {misfit(error)}"
            ) from error


def read(path: Path, steps: int, rows: int, batch_size: int) -> Resumed:
    """Read a checkpoint of a run with ``steps`` batches per epoch of ``rows`` rows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or no checkpoint.
    """
    tensors, document = load_tensors(path)
    if "checkpoint" not in document:
        raise ValueError(f"checkpoint: found a model in {path}, expected a checkpoint")
    try:
        return _parse(tensors, document, steps, rows, batch_size)
    except MISFITS as error:
        raise _unusable(path, error) from error


def _parse(
    tensors: dict[str, np.ndarray], document: dict[str, Any], steps: int, rows: int, batch_size: int
) -> Resumed:
    run = dict(document["checkpoint"])
    states = [_state(k, saved, tensors) for k, saved in enumerate(run["callbacks"])]
    # Nothing is computed, so that custom functions need not be given.
    model = rebuild(tensors, document, None)
    arguments.whole(run["epochs"], "epochs", 0)
    began, place = run["began"], run["place"]
    arguments.whole(began["updates"], "updates", 0, model.updates)
    first = arguments.whole(place["first"], "first", 0, steps)
    position = Position(
        first,
        float(place["loss"]),
        float(place["right"]),
        # Checkpoints of earlier versions have no weights: every row weighs 1.
        float(place.get("weight", min(first * batch_size, rows))),
        arguments.number(float(place["seconds"]), "seconds", least=0),
    )
    return Resumed(
        model,
        run,
        position,
        arguments.whole(began["epochs"], "epochs", 0, model.epochs),
        arguments.whole(began["history"], "history", 0, len(model.history)),
        bool(run["ended"]),
        bool(run["stopped"]),
        states,
    )


def _state(
    k: int, saved: Mapping[str, Any], tensors: dict[str, np.ndarray]
) -> tuple[str, dict[str, Any]]:
    """Return class and state of the callback number k; its arrays are removed from ``tensors``."""
    state = dict(json.loads(saved["state"]))
    prefix = f"{TENSOR}{k}."
    for name in [name for name in tensors if name.startswith(prefix)]:
        state[name[len(prefix) :]] = tensors.pop(name)
    return str(saved["name"]), state


def _unusable(path: Path, error: BaseException) -> ValueError:
    return ValueError(f"{path}: not a checkpoint that pynn can use: {misfit(error)}")
