"""Checks whether the processors have their full speed during a measurement.

A virtual processor may be half of a real core whose other half belongs to another tenant. This, and
the clock, may change from one second to the next, and does not show in the load of the machine. The
speed at which all processors multiply and add at once, without reading memory, does show it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import Any

from .worker import physical_first

LEAST = 0.9
"""Share of their best speed above which processors count as undisturbed."""
REMEMBERED = 40
"""Number of recent measurements for the best, so that a permanent drop of the clock is ignored."""
SECONDS = 0.005


class Processors:
    """The processors that an entrant with a number of threads is timed on.

    Without pynn's compiled core their speed cannot be measured, and they count as undisturbed.
    """

    def __init__(self, threads: int) -> None:
        try:
            from pynn.backends.cython import _core
        except ImportError:
            self._core: Any = None
        else:
            self._core = _core
        self.cpus: list[int | None] = [None] * threads
        if hasattr(os, "sched_getaffinity"):
            found = physical_first(os.sched_getaffinity(0))[:threads]
            self.cpus[: len(found)] = found
        self.paces: deque[float] = deque(maxlen=REMEMBERED)
        for _ in range(10):
            self.whole()

    def whole(self) -> bool:
        """Measure; return whether all of them are about as fast as at their recent best."""
        if self._core is None:
            return True
        self.paces.append(self.pace())
        return self.paces[-1] >= LEAST * max(self.paces)

    def pace(self) -> float:
        """Return the operations per second of the slowest while all are busy."""
        together = threading.Barrier(len(self.cpus))
        paces: list[float] = []

        def work(cpu: int | None) -> None:
            if cpu is not None:
                # Pins this thread only. If it cannot be pinned, the others must not wait for it.
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(0, [cpu])
            together.wait()
            paces.append(self._core.peak("float32", SECONDS))

        team = [threading.Thread(target=work, args=[cpu]) for cpu in self.cpus]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        return min(paces)
