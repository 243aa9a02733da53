"""``Shared``: an argument of several calls of ``fit``, which is checked and converted once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Shared:
    """An x, y or sample weight that several networks train on.

    ``features``, ``targets`` and ``sample_weight`` accept it in the place of its value. They check
    and convert the value once for all networks that require the same format, so that there is at
    most one converted copy for each format.

    Parameters
    ----------
    value
        The argument as the user gave it.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self._lock = threading.Lock()
        self._results: dict[Hashable, Any] = {}

    def once(self, key: Hashable, convert: Callable[[], Result]) -> Result:
        """Return the result of ``convert``, which is called once for each key.

        An exception is not kept: the next network repeats the check and raises its own.
        """
        with self._lock:
            if key not in self._results:
                self._results[key] = convert()
            return self._results[key]


def value_of(argument: Any) -> Any:
    """Return the value of a Shared, or any other argument unchanged."""
    return argument.value if isinstance(argument, Shared) else argument
