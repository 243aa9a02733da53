"""``FitManyError``: the errors of the networks that ``fit_many`` could not train."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.history import History

_SHOWN = 3
"""Errors that the message has in full."""


class OlderGroup(Exception):
    """The attributes of ExceptionGroup, which Python 3.10 does not have."""

    def __init__(self, message: str, exceptions: Sequence[Exception]) -> None:
        super().__init__(message, exceptions)
        self.message, self.exceptions = message, tuple(exceptions)


if TYPE_CHECKING:
    _Group = OlderGroup
else:
    _Group = getattr(builtins, "ExceptionGroup", OlderGroup)


class FitManyError(_Group):
    """Some networks of a call of ``fit_many`` could not be trained; the others are trained.

    Each network that failed is as after the same error in its own ``fit``. From Python 3.11 on this
    is an ``ExceptionGroup``, so that ``except* pynn.DivergenceError`` selects errors of one kind;
    ``exceptions`` are the errors in the order of the networks.

    Attributes
    ----------
    failures : dict of int to Exception
        The error of each network that failed, by its index in ``networks``.
    histories : list of History or None
        The result of ``fit`` of each network; None for a network that failed.
    """

    failures: dict[int, Exception]
    histories: list[History | None]

    def __new__(cls, message: str, exceptions: Sequence[Exception]) -> FitManyError:
        return super().__new__(cls, message, exceptions)

    def __str__(self) -> str:
        return self.message

    def derive(self, exceptions: Sequence[Exception]) -> Exception:
        """Return a group of a part of the errors, as ``except*`` requires it."""
        return _Group(self.message, exceptions)

    @classmethod
    def of(
        cls,
        failures: Mapping[int, Exception],
        names: Sequence[str],
        histories: list[History | None],
    ) -> FitManyError:
        """Return the error of some networks, whose ``names`` are as in ``networks[3]``."""
        ordered = dict(sorted(failures.items()))
        shown = [
            f"{names[k]}: {type(error).__name__}: {error}"
            for k, error in list(ordered.items())[:_SHOWN]
        ]
        if len(ordered) > _SHOWN:
            shown.append(f"and {len(ordered) - _SHOWN} more, see the attribute failures")
        count = f"{len(ordered)} of {len(names)} networks failed"
        if len(ordered) < len(names):
            count += "; the others are trained"
        error = cls("\n".join([f"fit_many: {count}", *shown]), list(ordered.values()))
        error.failures, error.histories = ordered, histories
        return error
