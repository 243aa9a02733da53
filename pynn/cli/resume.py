"""``pynn train RUN --resume``: the options that a run was begun with, from its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from ..files.disk import shown
from .options import PRESETS, Options, is_typed

FREE = ("run", "old_run", "resume", "checkpoint", "threads", "plain", "quiet")
"""Options that may differ when a run is resumed."""


def saved_options(settings: Mapping[str, Any], options: Options) -> Options:
    """Return the options in the settings of a run, but `FREE` as in ``options``.

    Raises
    ------
    ValueError
        If the settings hold a value that no option has.
    """
    saved = dict(settings["options"]) | {"data": settings["data"].get("path")}
    if saved.get("seed") == "random":
        saved["seed"] = str(settings.get("seed"))
    hints = get_type_hints(Options, include_extras=True)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Options):
        name = field.name
        if name in FREE or name in PRESETS or name not in saved:
            continue
        values[name] = _as_option(name, saved[name], hints[name])
    preset = saved.get("preset")
    if isinstance(preset, str) and preset in PRESETS:
        values[preset] = True
    checkpoint = saved.get("checkpoint")
    if isinstance(checkpoint, (int, float)) and options.checkpoint == Options.checkpoint:
        values["checkpoint"] = float(checkpoint)
    return replace(options, **values)


def _as_option(name: str, value: Any, hint: Any) -> Any:
    """Return a value of the settings as the type of an option."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if Path in kinds and isinstance(value, str):
        return Path(value)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        raise ValueError(
            f"run: found {shown(repr(value))} for {name} in its settings, expected the settings "
            "that pynn train writes"
        )
    return value


def check_unchanged(
    ctx: typer.Context, settings: Mapping[str, Any], options: Options, ended: bool
) -> None:
    """Raise a ValueError for a typed option with another value than in the settings of a run.

    The number of epochs may differ for a run that has not ended: ``fit`` decides whether the
    schedule allows it.
    """
    before = settings["options"] | {"data": settings["data"].get("path")}
    now = options.to_dict()
    if options.data is not None:
        now["data"] = str(options.data.resolve())
    for name in ctx.params:
        if name in FREE or not is_typed(ctx, name) or (name == "epochs" and not ended):
            continue
        found, was = now.get(name), before.get(name)
        if name in PRESETS:
            found, was = name, before.get("preset", "no preset")
        if found != was:
            state = " and has ended" if ended else ""
            raise ValueError(
                f"{name}: found {found}, but the run in {options.run} has {was}{state}; expected "
                "the same value, or another folder for another run"
            )
