"""Starting Dask and Ray for tests, and repeating what lost data ended."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pynn.many.parallel import lost_data

Result = TypeVar("Result")

# Processes start slowly on a machine with other work.
DASK = {
    "distributed.comm.timeouts.connect": "120s",
    "distributed.comm.timeouts.tcp": "120s",
}
RAY = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "disabled",  # otherwise Ray writes a file to the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_worker_niceness": "0",  # beside tests in other processes, workers of 15 would wait
    "RAY_worker_register_timeout_seconds": "180",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
ATTEMPTS = 3


@contextmanager
def environment() -> Iterator[None]:
    """Restore the environment: Dask sets OMP_NUM_THREADS to 1 where it starts workers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def dask_cluster() -> Iterator[Any]:
    """A cluster of two processes, each with one thread."""
    distributed = pytest.importorskip("distributed", reason="needs pynn-mlp[distributed]")
    import dask

    with (
        environment(),
        dask.config.set(DASK),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def signal_handlers() -> Iterator[None]:
    """Restore the handlers of signals, which Ray and Ray Tune replace: after Tune the first Ctrl-C
    of later tests would be ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _outside_the_checkout() -> Iterator[None]:
    """Work in another folder: Ray's workers import from that of ``ray.init`` first, and the pynn of
    the checkout may have no compiled core."""
    before = os.getcwd()
    os.chdir(tempfile.gettempdir())
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Ray on this machine, with two processors; skipped if it cannot start twice."""
    ray = pytest.importorskip("ray", reason="needs pynn-mlp[distributed]")
    pytest.importorskip("ray.util.joblib", reason="needs a Ray with its joblib backend")
    # Processes that Ray starts in advance inherit the environment; with a runtime_env each worker
    # would be another process.
    with environment():
        os.environ.update(RAY)
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        for attempt in 1, 2:
            others = _children()
            try:
                with _outside_the_checkout():
                    ray.init(
                        num_cpus=2,
                        include_dashboard=False,
                        log_to_driver=False,
                        object_store_memory=100 * 2**20,
                    )
                break
            except Exception as error:
                _end(_children() - others)
                if not _is_from(error, os.path.join("ray", "_private")):
                    raise
                if attempt == 2:
                    pytest.skip(f"Ray did not start twice: {error}")
        try:
            yield ray
        finally:
            ray.shutdown()


def again(run: Callable[[Path], Result], folder: Path) -> Result:
    """Call a function with a folder, and again with another one if Dask lost its data.

    Searches store data through joblib, which gives up if all workers with a copy are lost; a worker
    that is starting has none. Other exceptions are raised.
    """
    for attempt in range(1, ATTEMPTS + 1):
        own = folder / str(attempt)
        own.mkdir()
        try:
            return run(own)
        except Exception as error:
            if attempt == ATTEMPTS or not lost_data(error):
                raise
    raise AssertionError


def _is_from(error: BaseException, path: str) -> bool:
    """Whether the last line of the traceback of an exception is in files of a path."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and path in frames[-1].filename


def _children() -> set[Any]:
    import psutil

    return set(psutil.Process().children(recursive=True))


def _end(processes: set[Any]) -> None:
    """End processes that a failed start left."""
    import psutil

    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(processes, timeout=10)
