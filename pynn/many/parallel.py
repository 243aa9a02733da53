"""``fit_many`` on the workers of a joblib backend: other processes, or a cluster of Dask or Ray.

Each network is pickled, trained by a worker on one thread and pickled back. A network whose worker
is lost is trained again by another one, if the backend does so; the result is the same.
"""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks.shared import value_of
from ..network import Network
from ..training.callbacks import Callback
from ..training.history import History
from ..training.model import Call, Model
from .progress import Display, ManyProgress
from .settings import ROWWISE, Settings, listed, take, train

Array = np.ndarray

RETRIES = 3
"""How often Ray trains the networks of a lost worker again; Dask's default is the same. Also how
often they are sent to Dask again after it lost their data."""


class Result(NamedTuple):
    """What a worker sends back.

    Parameters
    ----------
    number
        The index of the network.
    model
        The model after training, also if it failed.
    history
        The result of ``fit``, or its error.
    calls
        The callbacks after training.
    """

    number: int
    model: Model
    history: History | Exception
    calls: list[Any]


PARTS = (*ROWWISE, "validation[0]", "validation[1]", "validation[2]")
"""Arguments of a task that networks may share."""


def train_remotely(number: int, own: tuple[Any, ...], *shared: Any) -> Result:
    """Train a network in a worker.

    Parameters
    ----------
    number
        The index of the network.
    own
        The network, its settings, its rows or None, and its own values of ``PARTS``. They are a
        tuple since Dask would store large arguments on one worker, and lose them with it.
    *shared
        Values of ``PARTS`` that all networks have, or None.
    """
    net, given, rows, parts = own
    shared = tuple(map(_received, shared))
    parts = [part if part is not None else other for part, other in zip(parts, shared, strict=True)]
    for name, part in zip(ROWWISE, parts, strict=False):
        given[name] = part if rows is None or part is None else take(part, rows)
    held = [part for part in parts[len(ROWWISE) :] if part is not None]
    if held:
        given["validation"] = tuple(held)
    try:
        history: History | Exception = train(net, given)
    except Exception as error:
        history = error
    return Result(number, net._model, history, listed(given["callbacks"]))


class Remote:
    """Trains networks on the workers of a joblib backend.

    Parameters
    ----------
    networks : list of Network
        To be trained.
    given : Settings
        Their arguments.

    Attributes
    ----------
    results, failures : dict
        As in ``Queue``.
    """

    def __init__(self, networks: list[Network], given: Settings) -> None:
        self._networks, self._given = networks, given
        self.results: dict[int, History] = {}
        self.failures: dict[int, Exception] = {}

    def run(self, parallel: Any, threads: int | None, order: list[int], display: Any) -> None:
        """Train all networks in this order; after an exception, trained ones keep their results.

        Raises
        ------
        ImportError, ValueError
            If the backend cannot be used.
        """
        from joblib import Parallel, delayed, parallel_config

        began = time.perf_counter()
        calls = [Call() for _ in self._networks]
        with parallel_config(**configuration(parallel)):
            if _is_dask():
                self._refuse_collections()
            for attempt in range(RETRIES + 1):
                done = {*self.results, *self.failures}
                workers = Parallel(
                    n_jobs=jobs(parallel, threads),
                    return_as="generator_unordered" if _generates() else "list",
                    batch_size="auto",
                )
                try:
                    shared = _stored(self._shared())
                    tasks = (
                        delayed(train_remotely)(*self._task(k), *shared)
                        for k in order
                        if k not in done
                    )
                    for result in workers(tasks):
                        self._keep(result, calls[result.number])
                        if display is not None:
                            self._show(display, time.perf_counter() - began)
                    return
                except Exception as error:
                    if attempt == RETRIES or not lost_data(error):
                        raise

    def _refuse_collections(self) -> None:
        """Raise TypeError for a collection of Dask, for which a task of Dask would wait forever."""
        given = self._given
        for name in (*ROWWISE, "validation"):
            for value in (given.one.get(name), *given.each.get(name, ())):
                for part in map(value_of, value if isinstance(value, tuple) else (value,)):
                    if hasattr(part, "__dask_graph__"):
                        raise TypeError(
                            f"{name}: found a Dask {type(part).__name__} and networks that train "
                            "on Dask, expected arrays, files such as pynn.data.Parquet(…), or "
                            "fit_many without parallel, which computes partitions on the cluster"
                        )

    def _shared(self) -> list[Any]:
        """Return the values of ``PARTS`` that are of all networks; None for others."""
        given = self._given
        found = [None if given.sends_rows else value_of(given.one.get(name)) for name in ROWWISE]
        held = given.one.get("validation")
        parts = [value_of(part) for part in held] if isinstance(held, tuple) else []
        return [*found, *parts, *[None] * (len(PARTS) - len(found) - len(parts))]

    def _task(self, k: int) -> tuple[Any, ...]:
        given, rows = self._given.plain(k), self._given.rows(k)
        own = [given.pop(name, None) for name in ROWWISE]
        if rows is not None and self._given.sends_rows:
            own = [None if part is None else take(part, rows) for part in own]
            rows = None
        shared = self._shared()
        own += [None] * (len(PARTS) - len(own))
        own = [None if part is not None else one for part, one in zip(shared, own, strict=True)]
        if any(part is not None for part in shared[len(ROWWISE) :]):
            given["validation"] = None
        return k, (self._networks[k], given, rows, own)

    def _keep(self, result: Result, call: Call) -> None:
        """Give a network the state that it has in the worker."""
        net, records = self._networks[result.number], result.model
        model = net._model
        try:
            with call.running:
                net._lock.claim(call, model, model.epochs, model.task, model.pixels)
                model.restore(records)
        finally:
            net._lock.remove(call)
        for own, found in zip(self._given.own_callbacks(result.number), result.calls, strict=False):
            if isinstance(own, Callback) and type(own) is type(found):
                own.__dict__.update(found.__dict__)
        if isinstance(result.history, Exception):
            self.failures[result.number] = result.history
        else:
            self.results[result.number] = result.history

    def _show(self, display: Display, seconds: float) -> None:
        finished, failed, count = len(self.results), len(self.failures), len(self._networks)
        share = (finished + failed) / count
        display.show(ManyProgress(finished, failed, count, share, seconds))


def configuration(parallel: Any) -> dict[str, Any]:
    """Return the arguments of ``joblib.parallel_config`` for the argument ``parallel``.

    Raises
    ------
    ImportError
        If joblib or the engine is not installed.
    TypeError
        If it is neither a name nor a backend of joblib.
    """
    from joblib.parallel import ParallelBackendBase

    if not isinstance(parallel, (str, ParallelBackendBase)):
        raise TypeError(
            f"parallel: found {parallel!r}, expected 'dask', 'ray', 'joblib', or a backend of "
            "joblib or its name"
        )
    if parallel == "joblib":
        return {}
    if parallel == "dask":
        _require("distributed", "dask", "from dask.distributed import Client; client = Client()")
        return {"backend": "dask"}
    if parallel != "ray":
        return {"backend": parallel}
    _require("ray", "ray", "ray.init()")
    from ray.util import joblib as ray_joblib

    # Ray has no types; without Ray mypy would find nothing to ignore.
    register: Any = ray_joblib.register_ray
    register()
    # Dask gives the task of a lost worker to another one; Ray only if it is told to.
    retries = {"max_restarts": RETRIES, "max_task_retries": RETRIES}
    return {"backend": "ray", "ray_remote_args": retries}


def _stored(shared: list[Any]) -> list[Any]:
    """Return data of all networks as tasks of the active backend receive them.

    Dask gets them once, for every worker: joblib would store them on one, whose loss would end the
    training. Their names are new in each call. Names by content, as from ``scatter`` of joblib, are
    those of the call before, and Dask could forget the data while it stores them.
    """
    from joblib.parallel import get_active_backend

    unique = {id(value): value for value in shared if value is not None}
    if not _is_dask() or not unique:
        return shared
    backend = get_active_backend()[0]
    stored = backend.client.scatter(list(unique.values()), broadcast=True, hash=False)
    by_id = dict(zip(unique, stored, strict=True))
    return [None if value is None else by_id[id(value)] for value in shared]


def _is_dask() -> bool:
    """Return whether the active backend of joblib is a cluster of Dask."""
    from joblib.parallel import get_active_backend

    return type(get_active_backend()[0]).__name__ == "DaskDistributedBackend"


def _received(part: Any) -> Any:
    """Return data that ``_stored`` stored: joblib trains here if Dask has a single worker."""
    is_future = type(part).__module__.startswith("distributed.") and hasattr(part, "result")
    return part.result() if is_future else part


def lost_data(error: Exception) -> bool:
    """Return whether Dask has lost stored data, with the only worker that had them.

    Workers that are starting do not get them. Dask cancels the tasks that need them, or its
    scheduler raises KeyError if it has just begun to copy them.
    """
    kind, frames = type(error), traceback.extract_tb(error.__traceback__)
    if kind is KeyError:
        return bool(frames) and "distributed" in Path(frames[-1].filename).parts
    cancelled = any(one.__name__ == "CancelledError" for one in kind.__mro__)
    return cancelled and kind.__module__.startswith("distributed.")


def jobs(parallel: Any, threads: int | None) -> int | None:
    """Return the argument ``n_jobs`` of joblib: all workers, unless the user says otherwise."""
    if threads is not None:
        return threads
    if parallel != "joblib":
        return -1
    from joblib.parallel import get_active_backend

    count = get_active_backend()[1]
    return count if count is not None and count != 1 else -1


def _generates() -> bool:
    """Return whether the active backend gives results as they arrive."""
    from joblib.parallel import get_active_backend

    return bool(getattr(get_active_backend()[0], "supports_return_generator", False))


def _require(module: str, name: str, before: str) -> None:
    """Raise ImportError unless a module is installed."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ImportError(
            f"parallel: found {name!r}, but the package {module} is not installed; expected "
            f"pip install 'pynn-mlp[distributed]', and before fit_many: {before}"
        )
