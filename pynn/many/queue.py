"""One queue of jobs that a few threads take from, and ending them after Ctrl-C."""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..backends.interrupts import raise_pending

WAIT = 0.1
"""Seconds between two reports; also the longest that Ctrl-C waits on Windows, where waiting for a
lock cannot be interrupted."""


class _Worker:
    """One thread, whether it may be interrupted, and whether it has ended.

    ``Thread.join`` and ``is_alive`` do not tell after Ctrl-C: Python up to 3.12 takes a thread for
    ended if Ctrl-C interrupts ``join``.
    """

    def __init__(self, queue: Queue, number: int) -> None:
        self._queue, self._lock, self._busy = queue, threading.Lock(), False
        self.ended, self._end = False, threading.Lock()
        self._end.acquire()
        # Settings such as numpy.errstate are those of the caller.
        context = contextvars.copy_context()
        self.thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"pynn.fit_many-{number}", daemon=True
        )

    def _run(self) -> None:
        try:
            try:
                with self._lock:
                    self._busy = True
                self._queue.work()
            finally:
                with self._lock:
                    self._busy = False
                raise_pending()
        except BaseException as error:
            self._queue.end(error)
        finally:
            self.ended = True
            self._end.release()

    def wait(self) -> None:
        """Wait until the thread has ended, but at most ``WAIT`` seconds."""
        if not self.ended:
            self._end.acquire(timeout=WAIT)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the thread, as Ctrl-C does in the main thread.

        ``fit`` leaves a usable network after it: the compiled loop handles it after its slice.
        """
        with self._lock:
            if self._busy and self.thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread.ident), ctypes.py_object(KeyboardInterrupt)
                )


class Queue:
    """Jobs numbered from 0, each of which one thread does completely.

    Parameters
    ----------
    call : function
        Does the job of a number, and returns its result.
    order : sequence of int
        The jobs in the order in which they begin.

    Attributes
    ----------
    results : dict of int
        The results of completed jobs.
    failures : dict of int to Exception
        The errors of the jobs that failed.
    running : set of int
        Jobs that have begun and not ended.
    """

    def __init__(self, call: Callable[[int], Any], order: Sequence[int]) -> None:
        self._call = call
        self._waiting = deque(order)
        self._stopped = False
        self._error: BaseException | None = None
        self.results: dict[int, Any] = {}
        self.failures: dict[int, Exception] = {}
        self.running: set[int] = set()

    def run(self, threads: int, report: Callable[[], object] | None = None) -> None:
        """Do all jobs on new threads, and call ``report`` about every ``WAIT`` seconds.

        An exception other than an Exception, such as Ctrl-C or SystemExit of a callback, ends the
        jobs between two of their updates; it is passed on when all threads have ended.
        """
        workers = [_Worker(self, number) for number in range(threads)]
        started: list[_Worker] = []
        try:
            for worker in workers:
                started.append(worker)
                worker.thread.start()
            for worker in workers:
                while not (worker.ended or self._stopped):
                    worker.wait()
                    if report is not None and not worker.ended:
                        report()
            if report is not None:
                report()
        except BaseException as error:
            self.end(error)
            raise
        finally:
            self._wait_for([worker for worker in started if worker.thread.ident is not None])
        if self._error is not None:
            raise self._error

    def work(self) -> None:
        """Do jobs until none is left."""
        while not self._stopped:
            try:
                number = self._waiting.popleft()
            except IndexError:
                return
            self.running.add(number)
            try:
                self.results[number] = self._call(number)
            except Exception as error:
                self.failures[number] = error
            finally:
                self.running.discard(number)

    def end(self, error: BaseException) -> None:
        """Begin no other job, and have ``run`` raise an error."""
        if self._error is None:
            self._error = error
        self._stopped = True

    def _wait_for(self, workers: list[_Worker]) -> None:
        """Wait until all threads have ended; each further Ctrl-C interrupts them again."""
        interrupted = False
        while not all(worker.ended for worker in workers):
            with suppress(KeyboardInterrupt):
                if self._stopped and not interrupted:
                    for worker in workers:
                        worker.interrupt()
                    interrupted = True
                for worker in workers:
                    worker.wait()
                continue
            interrupted = False
        with suppress(KeyboardInterrupt):
            for worker in workers:
                worker.thread.join()
