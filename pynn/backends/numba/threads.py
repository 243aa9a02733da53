"""Threading layers, forks, and the choice of the number of threads."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

import numba

from .. import limits
from .plan import HALT, Plan

_calls: list[threading.Lock] = []
"""The lock of each call of ``run`` on several threads, held while it runs."""
_after_fork = False


def threading_layer() -> str | None:
    """Name of Numba's threading layer, or None before the first parallel region."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def _forked() -> None:
    """In a forked child: forget calls, and avoid GNU OpenMP, whose threads did not survive."""
    global _after_fork
    _calls.clear()
    _after_fork = _after_fork or threading_layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def call(
    function: Callable[..., int], plan: Plan, position: int, stop: int, chunks: int, threads: int
) -> int:
    """Call ``run`` on ``threads`` threads, or on one where a parallel region would abort."""
    plan.settings[HALT] = 0
    if threads == 1 or _after_fork:
        return function(plan, position, stop, chunks, 1)
    # The interpreter handles no signal between entering or leaving ``with`` a lock and the block,
    # so that an interrupt cannot leave the lock held for ever. It may leave it listed.
    own = threading.Lock()
    try:
        with own:
            _calls.append(own)
            first, *_ = [lock for lock in _calls.copy() if lock.locked()]
            # The work queue, Numba's layer without TBB and OpenMP, aborts the process when a second
            # thread enters it. That thread runs alone instead; results are identical.
            if first is not own and threading_layer() == "workqueue":
                return function(plan, position, stop, chunks, 1)
            return _call_on_team(function, plan, position, stop, chunks, threads)
    finally:
        for lock in [own, *[lock for lock in _calls.copy() if not lock.locked()]]:
            with suppress(ValueError):  # another thread has removed it
                _calls.remove(lock)


def _call_on_team(
    function: Callable[..., int], plan: Plan, position: int, stop: int, chunks: int, threads: int
) -> int:
    mask = numba.get_num_threads()
    # A region takes a thousand times longer while another process occupies a core that OpenMP
    # waits for. The timer ends the slice, so that Ctrl-C is still answered in time.
    watch = threading.Timer(2 * LONGEST_SLICE, plan.settings.__setitem__, (HALT, 1))
    watch.daemon = True
    try:
        watch.start()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        return function(plan, position, stop, chunks, threads)
    finally:
        numba.set_num_threads(mask)
        watch.cancel()


def default_numba_threads() -> int:
    """Return the default of all backends, within the limits of Numba and of the thread's mask."""
    # Before a layer has started no mask can be set, and asking for the mask would start one.
    mask = numba.get_num_threads() if threading_layer() else numba.config.NUMBA_NUM_THREADS
    return min(limits.default_threads(), int(mask))


FLOPS = 6e10
"""Operations per second of one thread, roughly: the first estimate of the time of a chunk."""
LAUNCH = 6e-6
"""Overhead of a parallel region in seconds, roughly (OpenMP 1.3 µs, work queue 60 µs)."""
FIRST_SLICE, LONGEST_SLICE = 2e-3, 0.1
"""Seconds between returns to Python, where Ctrl-C is handled; doubled from first to longest."""
TRIALS = 0.03
"""Fraction of the time spent on measuring other numbers of threads than the best one."""


class Pace:
    """Chooses the number of threads, and the number of chunks until the next return to Python.

    Starts from an estimate and then measures each slice, so that several threads are not used
    where steps are too small for them or other processes occupy the cores. Other numbers of threads
    are measured in turn, within the time budget TRIALS.

    Parameters
    ----------
    threads
        Largest number of threads.
    seconds
        Estimated time of a chunk on one thread.
    """

    def __init__(self, threads: int, seconds: float) -> None:
        choices = [2**i for i in range(threads.bit_length()) if 2**i < threads] + [threads]
        self.cost = {t: seconds / t + (2 * LAUNCH if t > 1 else 0.0) for t in choices}
        self.others = choices  # least recently measured first
        self.threads, self.slice, self.saved = 0, FIRST_SLICE / 2, 0.0

    def choose(self) -> tuple[int, int]:
        """Return the number of threads and of chunks of the next slice."""
        best = min(self.cost, key=self.cost.__getitem__)
        other = next((t for t in self.others if t != best), None)
        if other and self.saved > max(FIRST_SLICE, self.cost[other]):
            self.threads, self.saved = other, 0.0
            return other, max(1, int(FIRST_SLICE / self.cost[other]))
        self.threads = best
        self.slice = min(2 * self.slice, LONGEST_SLICE)
        return best, max(1, int(self.slice / self.cost[best]))

    def note(self, seconds: float, chunks: float) -> None:
        """Record the seconds per chunk of the last slice, which had this number of chunks."""
        self.cost[self.threads] = seconds
        self.others.remove(self.threads)
        self.others.append(self.threads)
        self.saved += TRIALS * seconds * chunks
