"""The settings of a run that differ from the defaults, and the command that repeats it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from ..options import IDLE, PRESETS, REPEATED, Options
from ..tables import OF_TABLES
from .html import text_of

# Options that do not change the results, or that have a line of their own.
LEFT_OUT = (*IDLE, "threads", "backend", "data", "seed", "preset")


def defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default of every option; the preset of a run, if it has one, replaces some.

    Options whose default depends on the table are left out for tables.
    """
    found = {field.name: field.default for field in dataclasses.fields(Options)}
    if options.get("task") is not None:
        found = {name: value for name, value in found.items() if name not in OF_TABLES}
    preset = options.get("preset")
    return found | (PRESETS.get(preset, {}) if isinstance(preset, str) else {})


def changed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run whose value is not the default."""
    usual = defaults(options)
    return {
        name: value
        for name, value in options.items()
        if name not in LEFT_OUT and (name not in usual or usual[name] != value)
    }


def usual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run whose value is the default."""
    other = changed(options)
    return {k: v for k, v in options.items() if k not in other and k not in LEFT_OUT}


def command(settings: Mapping[str, Any]) -> str:
    """Return the command that trains a run again, with the same data and the same seed."""
    options, known = settings["options"], defaults({})
    words = ["pynn", "train"]
    path = settings["data"].get("path")
    if isinstance(path, str):
        words += ["--data", path]
    preset = options.get("preset")
    if isinstance(preset, str) and preset in PRESETS:
        words.append(f"--{preset}")
    for name, value in changed(options).items():
        # The settings may come from a file with other names.
        if name in known and name.isidentifier():
            words += _typed(name, value)
    backend = options.get("backend")
    if isinstance(backend, str) and backend != "auto":
        words += ["--backend", backend]
    if str(settings["seed"]) != "0":
        words += ["--seed", str(settings["seed"])]
    return shlex.join(text_of(word) for word in words)


def _typed(name: str, value: Any) -> list[str]:
    """Return an option as it is typed."""
    option = "--" + name.replace("_", "-")
    if name == "regression" and value is False:
        return ["--classification"]
    if value is True:
        return [option]
    if value is False:
        return [f"--no-{option[2:]}"]
    if value is None:
        return []
    if name in REPEATED:
        return [word for part in str(value).split("\n") for word in (option, part)]
    return [option, str(value)]
