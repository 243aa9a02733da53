"""The description of a run in its checkpoints, and comparing it with the call that resumes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ..arrays.fingerprint import fingerprint
from ..backends.contract import Engine
from ..files.disk import shown
from ..spec import activations, norms
from ..spec.caller import warn_caller
from ..spec.schedules import has_horizon
from ..version import __version__
from .job import Job
from .model import Model
from .slices import Position
from .stream import Stream

OLDER = {
    "precision": "full",
    "label_smoothing": 0.0,
    "metrics": [],
    "stratify": False,
    "class_weight": None,
    "missing_targets": "error",
    "frozen": [],
    "layer_rates": [],
    "groups": [],
    "convention": "pynn",
    "l1": 0.0,
    "clip_norm": 0.0,
    "max_norm": 0.0,
    "standardize": False,
    "standardize_targets": False,
    "residual": False,
    "norm": [],
    "norm_after": False,
    "ema": 0.0,
    "input_dropout": 0.0,
    "input_noise": 0.0,
    "hidden_noise": [],
}
"""Settings that checkpoints of earlier versions do not name, and their values then."""

OFF: dict[str, Any] = {
    **dict.fromkeys(("metrics", "layer_rates", "groups", "clip_norm", "max_norm", "norm", "ema")),
    "hidden_noise": 0.0,
}
"""What a user passes to switch a setting off, where a run stores 0 or an empty list then."""


def describe_run(model: Model, engine: Engine, job: Job) -> dict[str, Any]:
    """Return the description of a run, as JSON can hold it."""
    a = model.architecture
    settings = {
        # Lists, as they come back from the file.
        "sizes": list(a.sizes),
        "activation": [activations.describe(f) for f in a.given_activations()],
        "loss": a.loss_text,
        "dropout": list(a.dropout),
        "residual": any(a.residual),
        "norm": [None if norm is None else norms.describe(norm) for norm in a.norms],
        "norm_after": a.norm_after,
        "input_dropout": a.input_dropout,
        "input_noise": a.input_noise,
        "hidden_noise": list(a.hidden_noise),
        "dtype": a.dtype,
        "precision": a.precision,
        "standardize": model.standardize,
        "standardize_targets": model.standardize_targets,
        "seed": model.seed,
        "backend": engine.name,
        **job.compared,
    }
    if a.functions:
        settings["functions"] = {own.name: own.fingerprint() for own in a.functions}
    return {
        "settings": settings,
        "epochs": job.epochs,
        "schedule": job.rates.description(model.epochs, model.epochs + job.epochs),
        "data": {name: _fingerprint(array) for name, array in job.arrays.items()},
        "machine": {"pynn": __version__, **engine.depends_on()},
        "began": {
            "epochs": model.epochs,
            "updates": model.updates,
            "history": len(model.history),
            "parameters": fingerprint(model.parameters)["sha256"],
        },
    }


def _fingerprint(rows: Any) -> dict[str, str]:
    return rows.fingerprint() if isinstance(rows, Stream) else fingerprint(rows)


class Resumed(NamedTuple):
    """The contents of a checkpoint."""

    model: Model
    run: dict[str, Any]
    """The description of the run."""
    position: Position
    """Position in the epoch ``model.epochs``."""
    began: int
    """Epochs of the model when the run began."""
    history: int
    """Length of its history when the run began."""
    ended: bool
    """Whether training is complete."""
    stopped: bool
    """Whether a callback stopped training."""
    states: list[tuple[str, dict[str, Any]]]
    """Class and state of each callback that has one."""


class Comparison:
    """Compares the call that resumes a run with the checkpoint of the run.

    Parameters
    ----------
    path : Path
        The checkpoint, for error messages.
    run : dict
        The description of the call; its schedule is evaluated again from where the run began.
    job : Job
        The arguments of the call.
    saved : dict
        The description of the run in the checkpoint.
    """

    def __init__(self, path: Path, run: dict[str, Any], job: Job, saved: dict[str, Any]) -> None:
        self._path, self._run, self._job, self._saved = path, run, job, saved

    def check(self, resumed: Resumed, model: Model) -> None:
        """Raise ValueError for a difference in the results, warn of another machine."""
        self._check_settings()
        self._check_schedule(resumed.began)
        self._check_data()
        self._check_epochs(resumed)
        self._check_start(resumed, model)
        self._check_machine()

    def _difference(self, name: str, found: str, saved: str) -> ValueError:
        return ValueError(
            f"{name}: found {found}, but the run in {self._path} has {saved}; expected the same "
            "to continue it, or another path for another run"
        )

    def _check_settings(self) -> None:
        saved = {**OLDER, **self._saved["settings"]}
        # Checkpoints of earlier versions do not tell whether inputs are pixels. Their fingerprint
        # of the data names the dtype, which distinguishes uint8 that were scaled from numbers.
        saved.setdefault("pixels", self._run["settings"]["pixels"])
        for name, value in self._run["settings"].items():
            if value != saved.get(name):
                found, before = (
                    _text(OFF[name] if name in OFF and not v else v)
                    for v in (value, saved.get(name))
                )
                raise self._difference(name, found, before)

    def _check_schedule(self, began: int) -> None:
        schedule = self._job.rates.description(began, began + self._job.epochs)
        self._run["schedule"], saved = schedule, self._saved["schedule"]
        if isinstance(schedule, list) and isinstance(saved, list):
            both = min(len(schedule), len(saved))
            differing = [k for k in range(both) if schedule[k] != saved[k]]
            if differing:
                k = differing[0]
                at = f" at epoch {began + k}"
                raise self._difference("schedule", schedule[k] + at, _text(saved[k]) + at)
        elif schedule != saved:
            found, other = (
                "a function" if isinstance(s, list) else _text(s) for s in (schedule, saved)
            )
            raise self._difference("schedule", found, other)

    def _check_data(self) -> None:
        found, before = self._run["data"], self._saved["data"]
        for name in [*found, *(name for name in before if name not in found)]:
            if name not in found or name not in before:
                shown = (_text(d[name]["rows"]) if name in d else "none" for d in (found, before))
                raise self._difference(_text(name), *shown)
            now, saved = found[name], before[name]
            if now["rows"] != saved["rows"]:
                raise self._difference(name, now["rows"], _text(saved["rows"]))
            if now["sha256"] != saved["sha256"]:
                shown = (f"numbers of SHA-256 {_text(d['sha256'][:12])}…" for d in (now, saved))
                raise self._difference(name, *shown)

    def _check_epochs(self, resumed: Resumed) -> None:
        epochs, saved, rates = self._job.epochs, self._saved["epochs"], self._job.rates
        if epochs == saved:
            return
        if rates.function is None and has_horizon(rates.schedule):
            raise ValueError(
                f"epochs: found {epochs}, but the run in {self._path} has {saved}, and its "
                f"schedule {rates.schedule!r} covers all of them; expected {saved}"
            )
        trained = resumed.model.epochs - resumed.began + (resumed.position.step > 0)
        if epochs < trained:
            raise ValueError(
                f"epochs: found {epochs}, but the run in {self._path} is in epoch {trained} "
                f"already; expected {trained} or more"
            )

    def _check_start(self, resumed: Resumed, model: Model) -> None:
        began = self._saved["began"]
        now, then = (model.epochs, model.updates), (began["epochs"], began["updates"])
        if now == then:
            if self._run["began"]["parameters"] != began["parameters"]:
                raise ValueError(
                    f"parameters: found other values than those that the run in {self._path} "
                    "began with; expected the same init, or the same model to continue from"
                )
        # A model with more updates is one whose training was interrupted in this process.
        elif resumed.ended or now < then:
            raise ValueError(
                f"checkpoint: found a network after {model.updates} updates, but the run in "
                f"{self._path} began after {began['updates']}; expected the network before "
                "that run, and another file for each call of fit"
            )

    def _check_machine(self) -> None:
        machine, saved = self._run["machine"], self._saved["machine"]
        if saved == machine:
            return
        before, now = (
            _text(", ".join(f"{name} {m.get(name)}" for name in sorted(m)))
            for m in (dict(saved), machine)
        )
        warn_caller(
            f"fit: the run in {self._path} was trained with {before} and continues with {now}: "
            "its results can differ in the last bits from those of a run on one of them"
        )


def _text(value: Any) -> str:
    """Return a text of at most 120 characters that is safe to print, whatever the file holds."""
    return shown(value, 120)
