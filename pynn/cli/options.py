"""Options of the command line and their conversion."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import typer

from ..spec.arguments import choose
from ..spec.optimizers import Optimizer
from ..spec.schedules import Schedule
from .app import Command

# --- From text to settings ------------------------------------------------------------------------

Spec = TypeVar("Spec", Optimizer, Schedule)


def _spec(option: str, text: str, kinds: Mapping[str, type[Spec]]) -> Spec:
    """Read ``name`` or ``name:parameter=value,parameter=value``."""
    name, _, rest = text.partition(":")
    kind = kinds[choose(option, name.strip().replace("-", "_"), kinds)]
    known = [field.name for field in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    while rest.strip():
        key, _, rest = rest.partition("=")
        key = key.strip().replace("-", "_")
        if key not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise ValueError(f"{option}: found parameter {key!r} of {name}, expected {expected}")
        if key == "after":
            # The rest belongs to the schedule inside: warm_up:after=step:every=5,factor=0.5
            values[key], rest = _spec(option, rest, kinds), ""
        else:
            value, _, rest = rest.partition(",")
            values[key] = _number(f"{option}: {name}.{key}", value)
    return kind(**values)


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{what}: found {text.strip()!r}, expected a number") from None


def _whole(what: str, text: str, expected: str = "a whole number") -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what}: found {text.strip()!r}, expected {expected}") from None


def _one_or_each(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _hidden(text: str) -> list[int]:
    widths = [_whole("hidden", part, "widths such as 256,128") for part in _parts(text)]
    if any(width < 1 for width in widths):
        raise ValueError(f"hidden: found {text!r}, expected widths of 1 or more, such as 256,128")
    return widths


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() not in ("", "none") else []


DATA = "Folder of IDX files, .csv (labels in the first column) or .npz."
BACKEND = "auto, cython, numba or numpy."
THREADS = "How many threads compute."
LAST_RUN = "that of the last run in runs/"


def _option(panel: str, help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def _names(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)


# Chosen on rows 50,000 to 59,999 of the training set; docs/time-to-accuracy.md says how.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "hidden": "144",
        "epochs": 2,
        "batch_size": "256",
        "learning_rate": 0.014,
    },
    "accurate": {
        "hidden": "384",
        "epochs": 3,
        "batch_size": "256",
        "learning_rate": 0.01,
    },
}
for _preset in PRESETS.values():
    _preset |= {
        "activation": "gelu",
        "dropout": "0",
        "optimizer": "adam:beta1=0.8,beta2=0.95",
        "schedule": "one_cycle:warmup=0.2,initial=0.2",
        "label_smoothing": 0.1,
        "validation": 0.0,
        "pictures": False,
        # Its SHA-256 of all data and its files take a good part of the time of so short a training.
        "checkpoint": 0.0,
    }


def _with_presets(command: Command) -> Command:
    """Have a preset stand in for the defaults of options that were not given."""

    @functools.wraps(command)
    def run(ctx: typer.Context, **options: Any) -> None:
        asked = [name for name in PRESETS if options[name]]
        if len(asked) > 1:
            raise ValueError(f"{asked[0]}: found --{asked[1]} as well, expected one of them")
        for name in asked:
            values = dict(PRESETS[name])
            if options["data"] is not None:
                # Other data may have no test set, and nobody knows yet when to stop on them.
                del values["validation"]
            if options["loss"] != "cross_entropy":
                del values["label_smoothing"]
            for option, value in values.items():
                source = ctx.get_parameter_source(option)
                if source is not None and source.name == "DEFAULT":
                    options[option] = value
        command(ctx=ctx, **options)

    return run  # type: ignore[return-value]
