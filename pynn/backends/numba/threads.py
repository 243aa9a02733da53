"""Threading layer, forks, and the number of threads that pays."""

# The types of kernels are Numba's business.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from .plan import HALT, Plan, _numba

# --- Compilation and calls ------------------------------------------------------------------------

_guard = threading.Lock()
_after_fork = False


def _layer() -> str | None:
    """Numba's threading layer, or None as long as nothing has started one."""
    try:
        return str(_numba.threading_layer())
    except ValueError:
        return None


def _forked() -> None:
    """In a child process: take new locks, and stay clear of a GNU OpenMP that did not survive."""
    global _guard, _after_fork
    _guard = threading.Lock()
    _after_fork = _after_fork or _layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _call(
    function: Callable[..., int], plan: Plan, position: int, stop: int, chunks: int, threads: int
) -> int:
    """Call ``run`` on so many threads, or on one where a parallel region would end the process."""
    plan.settings[HALT] = 0
    if threads == 1 or _after_fork:
        return function(plan, position, stop, chunks, 1)
    mask = _numba.get_num_threads()
    # The work queue, Numba's layer where there is neither TBB nor OpenMP, aborts when a second
    # thread enters it. Whoever finds it taken does without: the bits are the same.
    alone = _layer() == "workqueue"
    if alone and not _guard.acquire(blocking=False):
        return function(plan, position, stop, chunks, 1)
    # A region lasts a thousand times longer when another process takes a core that OpenMP waits
    # for, and Ctrl-C must not wait as long.
    watch = threading.Timer(2 * LONGEST_SLICE, plan.settings.__setitem__, (HALT, 1))
    watch.daemon = True
    try:
        watch.start()
        _numba.set_num_threads(min(threads, _numba.config.NUMBA_NUM_THREADS))
        return function(plan, position, stop, chunks, threads)
    finally:
        watch.cancel()
        _numba.set_num_threads(mask)
        if alone:
            _guard.release()


def _default_threads() -> int:
    """Processors that this process may use, within what Numba and this thread's mask allow."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:
        processors = os.cpu_count() or 1
    # Without a layer nobody can have set a mask, and asking for it would start one.
    mask = _numba.get_num_threads() if _layer() else _numba.config.NUMBA_NUM_THREADS
    return min(processors, int(mask))


FLOPS = 6e10
"""Operations a second on one thread, roughly, for the first guess of how many threads pay."""
LAUNCH = 6e-6
"""Seconds that a parallel region costs, roughly: 1.3 µs with OpenMP, 60 with the work queue."""
FIRST_SLICE, LONGEST_SLICE = 2e-3, 0.1
"""Seconds between returns to Python, where Ctrl-C is answered; doubled from first to longest."""
TRIALS = 0.03
"""Share of the time to spend on trying other numbers of threads than the best known one."""


class _Pace:
    """How many threads to use and how many chunks to take before returning to Python.

    Starts from a guess and goes on with what each slice took, so that threads are not used where
    steps are too small for them or other processes hold the processors. Other numbers of threads
    are tried in turn, whenever the time for it has been saved up.
    """

    def __init__(self, threads: int, seconds: float) -> None:
        choices = [2**i for i in range(threads.bit_length()) if 2**i < threads] + [threads]
        self.cost = {t: seconds / t + (2 * LAUNCH if t > 1 else 0.0) for t in choices}
        self.others = choices  # those tried longest ago come first
        self.threads, self.slice, self.saved = 0, FIRST_SLICE / 2, 0.0

    def choose(self) -> tuple[int, int]:
        """Return threads and chunks of the next slice."""
        best = min(self.cost, key=self.cost.__getitem__)
        other = next((t for t in self.others if t != best), None)
        if other and self.saved > max(FIRST_SLICE, self.cost[other]):
            self.threads, self.saved = other, 0.0
            return other, max(1, int(FIRST_SLICE / self.cost[other]))
        self.threads = best
        self.slice = min(2 * self.slice, LONGEST_SLICE)
        return best, max(1, int(self.slice / self.cost[best]))

    def note(self, seconds: float, chunks: float) -> None:
        """Learn what the chunks of the last slice took each on the threads chosen for it."""
        self.cost[self.threads] = seconds
        self.others.remove(self.threads)
        self.others.append(self.threads)
        self.saved += TRIALS * seconds * chunks
