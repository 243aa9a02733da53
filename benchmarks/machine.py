"""Whether the processors are all there while somebody is timed on them.

A virtual processor may be half of a real one, of which somebody else has the other half, and that
may change from one second to the next; so may a clock. Nothing of it shows in the load of the
machine. What shows it is how fast all processors multiply and add at once, with nothing to read.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import Any

from .worker import physical_first

LEAST = 0.9
"""The part of their best that processors which are all there reach."""
REMEMBERED = 40
"""Looks that the best is taken of: a clock that has come down for good is no disturbance."""
SECONDS = 0.005


class Processors:
    """Those that an entrant with so many threads is timed on.

    Without pynn's compiled core there is nothing to look with, and they count as whole.
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
        """Whether all of them are as fast as they lately were."""
        if self._core is None:
            return True
        self.paces.append(self.pace())
        return self.paces[-1] >= LEAST * max(self.paces)

    def pace(self) -> float:
        """Return the operations a second of the slowest while all are at work."""
        together = threading.Barrier(len(self.cpus))
        paces: list[float] = []

        def work(cpu: int | None) -> None:
            if cpu is not None:
                # Of this thread alone. One that may not go there must not keep the others waiting.
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
