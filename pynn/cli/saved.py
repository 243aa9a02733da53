"""Single options in the settings of a run; the file may hold any value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import parse_list


def flag(options: Mapping[str, Any], name: str) -> bool | None:
    """Return an option that is True, False or None."""
    found = options.get(name)
    return found if isinstance(found, bool) else None


def text(options: Mapping[str, Any], name: str) -> str | None:
    """Return an option that is text or None."""
    found = options.get(name)
    return found if isinstance(found, str) else None


def missing_targets(options: Mapping[str, Any]) -> str:
    """Return the argument ``missing_targets`` of ``fit``."""
    return "ignore" if options.get("missing_targets") == "ignore" else "error"


def metrics(options: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics."""
    return parse_list(text(options, "metrics"))
