"""Checkpoints: what a call of ``fit`` needs to be taken up where it was cut off.

A checkpoint is one file, replaced in one step by the next. It is a model too, which ``pynn.load``
reads; beside the network it holds how far the epoch is, what the call was given, and what the
callbacks remember.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays.fingerprint import fingerprint
from ..arrays.sparse import Sparse
from ..backends.contract import Engine
from ..files.tensors import load_tensors, save_tensors
from ..spec import arguments
from ..spec.schedules import has_horizon
from ..version import __version__
from .callbacks import Callback
from .checkpoint import Checkpoint
from .model import Model
from .model_file import TENSOR, describe
from .rates import _schedule

if TYPE_CHECKING:
    from .rates import Rates


Array = np.ndarray


def _spell(value: object) -> str:
    from ..files.disk import shown

    return shown(value, 120)


class Place(NamedTuple):
    """How far an epoch is: batches trained, the sums over them, and the time they took."""

    first: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: float = 0.0


class Taken(NamedTuple):
    """A checkpoint as it was read."""

    model: Model
    about: dict[str, Any]
    place: Place
    began: int
    """Epochs of the network when the call began."""
    history: int
    """Records of its history then."""
    ended: bool
    """Whether nothing was left to train."""
    stopped: bool
    """Whether a callback ended training."""
    states: list[tuple[str, dict[str, Any]]]


def read(path: Path, steps: int) -> Taken:
    """Read a checkpoint of a call with so many steps in an epoch.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is damaged or no checkpoint.
    """
    import json

    from .model_file import MISFITS, misfit, rebuild

    tensors, document = load_tensors(path)
    if "checkpoint" not in document:
        raise ValueError(f"checkpoint: found a model in {path}, expected a checkpoint")
    try:
        about = dict(document["checkpoint"])
        states = []
        for k, kept in enumerate(about["callbacks"]):
            state = dict(json.loads(kept["state"]))
            start = f"{TENSOR}{k}."
            for name in [name for name in tensors if name.startswith(start)]:
                state[name[len(start) :]] = tensors.pop(name)
            states.append((str(kept["name"]), state))
        model = rebuild(tensors, document, None)
        began = about["began"]
        arguments.whole(about["epochs"], "epochs", 0)
        arguments.whole(began["updates"], "updates", 0, model.updates)
        kept = about["place"]
        place = Place(
            arguments.whole(kept["first"], "first", 0, steps),
            float(kept["loss"]),
            float(kept["right"]),
            arguments.number(float(kept["seconds"]), "seconds", least=0),
        )
        return Taken(
            model,
            about,
            place,
            arguments.whole(began["epochs"], "epochs", 0, model.epochs),
            arguments.whole(began["history"], "history", 0, len(model.history)),
            bool(about["ended"]),
            bool(about["stopped"]),
            states,
        )
    except MISFITS as error:
        raise ValueError(f"{path}: not a checkpoint that pynn can use: {misfit(error)}") from error


# --- One call of fit ------------------------------------------------------------------------------


class Saver:
    """The checkpoint of one call of ``fit``.

    ``settings`` are those of the call by the names of its arguments, as JSON can hold them;
    ``arrays`` its data by theirs.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        net: Model,
        engine: Engine,
        rates: Rates,
        settings: Mapping[str, Any],
        arrays: Mapping[str, Array | Sparse],
        epochs: int,
        steps: int,
    ) -> None:
        self.checkpoint, self.path, self.steps = checkpoint, checkpoint.path, steps
        self.rates = rates
        self.epochs = epochs
        # Writing needs it, and an hour later would be late to find that it is missing.
        from safetensors.numpy import save  # noqa: F401

        from ..files import disk

        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"checkpoint: found no folder {self.path.parent}, expected one to write "
                f"{self.path.name} into"
            )
        if self.path.exists():
            disk.require_file(self.path, "a file to write to")
        a = net.architecture
        about = {
            # Lists, as they come back from the file.
            "sizes": list(a.sizes),
            "activation": list(a.activations),
            "loss": a.loss,
            "dropout": list(a.dropout),
            "dtype": a.dtype,
            "precision": a.precision,
            "seed": net.seed,
            "backend": engine.name,
            **settings,
        }
        if a.functions:
            about["functions"] = {own.name: own.fingerprint() for own in a.functions}
        self.about: dict[str, Any] = {
            "settings": about,
            "epochs": epochs,
            "schedule": _schedule(rates, net.epochs, net.epochs + epochs),
            "data": {name: fingerprint(array) for name, array in arrays.items()},
            "machine": {"pynn": __version__, **engine.depends_on()},
            "began": {
                "epochs": net.epochs,
                "updates": net.updates,
                "history": len(net.history),
                "parameters": fingerprint(net.parameters)["sha256"],
            },
        }
        self._last = time.monotonic()
        self._failed = False

    def begin(self, resume: bool, calls: Sequence[Callback], net: Model) -> Taken | None:
        """Return the checkpoint to go on from; None to start afresh.

        Raises
        ------
        ValueError
            If there is one that cannot be gone on from, or would be lost.
        """
        from ..files import disk
        from .model_file import MISFITS, misfit

        disk.remove_leftovers(self.path)
        if not self.path.exists():
            return None
        if not resume:
            _, document = load_tensors(self.path, tensors=False)
            kept = document.get("checkpoint")
            if not (isinstance(kept, dict) and kept.get("ended") is True):
                what = "a model" if kept is None else "a run that has not ended"
                raise ValueError(
                    f"checkpoint: found {what} in {self.path}, which would be lost; expected "
                    "resume=True to go on with it, or another path"
                )
            return None
        taken = read(self.path, self.steps)
        try:
            self._compare(taken, net)
        except ValueError:
            raise
        except MISFITS as error:
            raise ValueError(
                f"{self.path}: not a checkpoint that pynn can use: {misfit(error)}"
            ) from error
        saved = [name for name, _ in taken.states]
        found = [type(call).__name__ for call in calls if keeps(call)]
        if saved != found:
            raise ValueError(
                f"callbacks: found {', '.join(found) or 'none'} with a state, but the run in "
                f"{self.path} has {disk.shown(', '.join(saved)) or 'none'}; expected the same"
            )
        for call, (name, state) in zip(filter(keeps, calls), taken.states, strict=True):
            try:
                call.restore(state)
            except MISFITS as error:
                raise ValueError(
                    f"{self.path}: found a state that {name} cannot use: {misfit(error)}"
                ) from error
        self.about["began"] = taken.about["began"]
        return taken

    def _compare(self, taken: Taken, net: Model) -> None:
        kept = taken.about
        for name, value in self.about["settings"].items():
            # Runs of earlier versions name neither.
            older = {"precision": "full", "label_smoothing": 0.0}
            other = {**older, **kept["settings"]}.get(name)
            if value != other:
                raise self._differs(name, _spell(value), _spell(other))
        # A function is compared from where the run began, also by a network that is further on.
        schedule = _schedule(self.rates, taken.began, taken.began + self.epochs)
        self.about["schedule"], other = schedule, kept["schedule"]
        if isinstance(schedule, list) and isinstance(other, list):
            both = min(len(schedule), len(other))
            if schedule[:both] != other[:both]:
                k = next(k for k in range(both) if schedule[k] != other[k])
                at = f" at epoch {taken.began + k}"
                raise self._differs("schedule", schedule[k] + at, _spell(other[k]) + at)
        elif schedule != other:
            raise self._differs(
                "schedule",
                *("a function" if isinstance(s, list) else _spell(s) for s in (schedule, other)),
            )
        self._compare_data(kept["data"])
        self._compare_epochs(taken)
        self._compare_start(taken, net)
        machine = self.about["machine"]
        if kept["machine"] != machine:
            before, now = (
                _spell(", ".join(f"{name} {m.get(name)}" for name in sorted(m)))
                for m in (dict(kept["machine"]), machine)
            )
            warnings.warn(
                f"fit: the run in {self.path} was trained with {before} and goes on with {now}: "
                "its last bits can differ from those of a run on one of them",
                RuntimeWarning,
                stacklevel=_level(),
            )

    def _differs(self, name: str, found: str, kept: str) -> ValueError:
        return ValueError(
            f"{name}: found {found}, but the run in {self.path} has {kept}; expected the same to "
            "go on with it, or another path for another run"
        )

    def _compare_data(self, kept: Mapping[str, Any]) -> None:
        for name, now in self.about["data"].items():
            then = kept[name]
            if now["rows"] != then["rows"]:
                raise self._differs(name, now["rows"], _spell(then["rows"]))
            if now["sha256"] != then["sha256"]:
                found, was = (
                    f"numbers of SHA-256 {_spell(d['sha256'][:12])}…" for d in (now, then)
                )
                raise self._differs(name, found, was)

    def _compare_epochs(self, taken: Taken) -> None:
        kept = taken.about["epochs"]
        if self.epochs == kept:
            return
        if self.rates.function is None and has_horizon(self.rates.schedule):
            raise ValueError(
                f"epochs: found {self.epochs}, but the run in {self.path} has {kept}, and its "
                f"schedule {self.rates.schedule!r} runs over all of them; expected {kept}"
            )
        trained = taken.model.epochs - taken.began + (taken.place.first > 0)
        if self.epochs < trained:
            raise ValueError(
                f"epochs: found {self.epochs}, but the run in {self.path} is in epoch {trained} "
                f"already; expected {trained} or more"
            )

    def _compare_start(self, taken: Taken, net: Model) -> None:
        began = taken.about["began"]
        at = net.epochs, net.updates
        if at == (began["epochs"], began["updates"]):
            if self.about["began"]["parameters"] != began["parameters"]:
                raise ValueError(
                    f"parameters: found others than those that the run in {self.path} began with; "
                    "expected the same init, or the same model to go on from"
                )
        elif taken.ended or at < (began["epochs"], began["updates"]):
            # A network further on is one whose training was broken off in this very process.
            raise ValueError(
                f"checkpoint: found a network after {net.updates} updates, but the run in "
                f"{self.path} began after {began['updates']}; expected the network as it was then, "
                "and a file of its own for each call of fit"
            )

    def is_due(self, net: Model, whole_epoch: bool) -> bool:
        """Whether it is time to write, in the middle of an epoch or after one."""
        c = self.checkpoint
        if c.steps is not None:
            return net.updates % c.steps == 0
        if c.seconds is not None:
            return time.monotonic() - self._last >= c.seconds
        return whole_epoch and c.epochs is not None and net.epochs % c.epochs == 0

    def write(
        self,
        net: Model,
        place: Place,
        calls: Sequence[Callback],
        *,
        ended: bool,
        stopped: bool,
    ) -> None:
        """Write a checkpoint; if that fails, warn once in a call of ``fit``."""
        import json

        tensors, document = describe(net)
        states: list[dict[str, str]] = []
        for call in calls:
            if keeps(call):
                state = dict(call.state() or {})
                for name in [n for n, value in state.items() if isinstance(value, np.ndarray)]:
                    tensors[f"{TENSOR}{len(states)}.{name}"] = state.pop(name)
                name = type(call).__name__
                try:
                    states.append({"name": name, "state": json.dumps(state)})
                except (TypeError, ValueError, RecursionError) as error:
                    raise ValueError(
                        f"callbacks: found a state of {name} that JSON cannot hold ({error})"
                    ) from error
        document["checkpoint"] = {
            **self.about,
            # As text, for JSON has no NaN and no infinity.
            "place": {
                "first": place.first,
                **{name: str(float(getattr(place, name))) for name in ("loss", "right", "seconds")},
            },
            "ended": ended,
            "stopped": stopped,
            "callbacks": states,
        }
        try:
            save_tensors(self.path, tensors, document)
        # ValueError: something else than a file has come to stand there.
        except (OSError, ValueError) as error:
            if not self._failed:
                warnings.warn(
                    f"checkpoint: could not write {self.path}: "
                    f"{getattr(error, 'strerror', None) or error}; training goes on, and tries "
                    "again whenever a checkpoint is due",
                    RuntimeWarning,
                    stacklevel=_level(),
                )
            self._failed = True
        self._last = time.monotonic()


def keeps(call: Callback) -> bool:
    """Whether a callback has a state that a checkpoint keeps."""
    return type(call).state is not Callback.state


def _level() -> int:
    """Return the stack level, as warnings count it from the caller on, of who called pynn."""
    package = __name__.partition(".")[0]
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
