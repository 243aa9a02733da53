"""``fit_many``: train many networks at once, each on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from ..backends.limits import default_threads
from ..checks.arrays import as_array
from ..checks.labels import plain_labels
from ..network import Network
from ..spec import arguments
from ..training.history import History
from .errors import FitManyError
from .parallel import Remote
from .progress import Display, ManyProgress, display_of
from .queue import Queue
from .settings import Each, Settings, row_count, train

Array = np.ndarray
Networks = Sequence[Network] | Mapping[Any, Network]


def fit_many(
    networks: Networks,
    x: Any,
    y: Any = None,  # required, as in fit
    *,
    groups: Any = None,
    rows: Any = None,
    threads: int | None = None,
    parallel: Any = None,
    progress: bool | str | Callable[[ManyProgress], object] = "auto",
    **settings: Any,
) -> list[History]:
    """Train many networks, each on one thread, with results identical to separate calls of ``fit``.

    The networks wait in one queue, those with most rows and parameters first. Training holds
    Python's global interpreter lock only between two slices of steps. Data that several networks
    share are checked and converted once, and not copied.

    Parameters
    ----------
    networks : list of Network, or dict with groups
        Different networks of any architectures. Their argument ``threads`` does not apply.
    x, y : array, or list of arrays
        As in ``Network.fit``, for all networks. A list has one data set for each network; rows that
        are lists must be made an array with ``numpy.asarray``. Sources such as
        :class:`pynn.data.Parquet` are read by every network for itself, with one reading thread for
        each network in training; not with ``groups`` or ``rows``.
    groups : array (n,), optional
        The group of each row of x, y and ``sample_weight``: numbers or strings. Each network trains
        on the rows of one group. ``networks`` is a list in ascending order of the groups, as
        ``numpy.unique`` returns them, or a dict from group to network. Not with ``rows``.
    rows : list of arrays, optional
        For each network the rows of x, y and ``sample_weight`` to train on: indices, of which some
        may be repeated, or a mask of booleans. Rows are copied when the training of their network
        begins, consecutive ones not at all.
    threads : int, optional
        Number of networks that train at a time; None for the default of ``Network``, and for all
        workers with ``parallel``.
    parallel : {"dask", "ray", "joblib"} or a backend of joblib, optional
        Where to train, if not on threads of this process: the workers of the Dask cluster whose
        ``Client`` is active, of Ray, or of ``joblib.parallel_config``; or a backend of joblib, such
        as ``"loky"`` for processes. Networks, data, callbacks and functions are pickled; workers
        read and write files on their own machine.
    progress : {"auto", True, False} or function
        One progress bar for all networks, as in ``fit``. A function receives a ``ManyProgress``
        about ten times a second.
    **settings
        Arguments of ``Network.fit``. A list has one value for each network; in ``metrics``,
        ``callbacks`` and ``layer_rates`` a list is one value for all, and :class:`pynn.Each` has
        one for each, as it does everywhere. Tuples and arrays are one value. Callback objects for
        all networks are copied for each of them; functions are called by several threads.
        Checkpoints, and files of ``SaveBest``, must be different.

    Returns
    -------
    list of History
        The result of ``fit`` of each network.

    Raises
    ------
    TypeError, ValueError
        If ``networks``, ``groups``, ``rows``, ``threads`` or the length of a list does not fit, or
        there is no such setting. No network is changed then.
    FitManyError
        At the end, if networks failed: an argument does not fit them, training diverged, or a
        callback raised. Each of them is as after its own ``fit``; the others are trained.

    Notes
    -----
    After Ctrl-C every network is as after Ctrl-C in its own ``fit``: whole updates and whole
    epochs, and a checkpoint if it has one. Networks that had not begun are unchanged. Training ends
    within a second, unless a callback runs longer.

    Examples
    --------
    >>> networks = [pynn.Network([20, 64, 2], seed=seed) for seed in range(100)]  # doctest: +SKIP
    >>> pynn.fit_many(networks, x, y, epochs=20)  # doctest: +SKIP
    >>> pynn.fit_many(networks, x, y, learning_rate=rates, l2=penalties)  # doctest: +SKIP
    """
    names, found = _networks(networks, groups)
    if groups is not None:
        if rows is not None:
            raise ValueError("rows: found rows and groups, expected one of them")
        rows = _rows_of_groups(networks, groups, None if isinstance(x, (list, Each)) else x)
    given = Settings(len(found), {"x": x, "y": y, **settings}, _rows(rows, len(found)))
    most = None if threads is None else arguments.threads(threads)
    display = display_of(progress)
    work = [given.work(k) * net.architecture.n_parameters for k, net in enumerate(found)]
    order = sorted(range(len(found)), key=lambda k: -work[k])
    trained: Queue | Remote
    try:
        if parallel is not None:
            trained = Remote(found, given)
            trained.run(parallel, most, order, display)
        else:
            trained = Queue(lambda k: train(found[k], given.of(k)), order)
            report = None if display is None else _Report(display, trained, found, given).show
            trained.run(min(most or default_threads(), len(found)), report)
    finally:
        if display is not None:
            display.close()
    histories = [trained.results.get(k) for k in range(len(found))]
    if trained.failures:
        raise FitManyError.of(trained.failures, names, histories)
    return [history for history in histories if history is not None]


def _networks(networks: Any, groups: Any) -> tuple[list[str], list[Network]]:
    """Return the names of networks in errors, and the networks."""
    if isinstance(networks, Mapping):
        if groups is None:
            raise TypeError("networks: found a dict without groups, expected a list")
        names, found = [f"networks[{key!r}]" for key in networks], list(networks.values())
    elif isinstance(networks, Sequence) and not isinstance(networks, str):
        found = list(networks)
        names = [f"networks[{k}]" for k in range(len(found))]
    else:
        raise TypeError(
            f"networks: found {type(networks).__name__}, expected a list of pynn.Network objects"
        )
    first: dict[int, str] = {}
    for name, net in zip(names, found, strict=True):
        if not isinstance(net, Network):
            raise TypeError(f"{name}: found {type(net).__name__}, expected a pynn.Network")
        if id(net) in first:
            raise ValueError(
                f"{name}: found the same network as {first[id(net)]}, expected different ones"
            )
        first[id(net)] = name
    return names, found


def _rows(rows: Any, count: int) -> list[Any] | None:
    """Return the argument ``rows``, one array for each network."""
    if rows is None:
        return None
    found = rows.values if isinstance(rows, Each) else rows
    if not isinstance(found, (list, tuple)) or len(found) != count:
        text = f"{len(found)}" if isinstance(found, (list, tuple)) else type(found).__name__
        raise ValueError(f"rows: found {text}, expected a list of {count}, one for each network")
    return [_indices(one, f"rows[{k}]") for k, one in enumerate(found)]


def _indices(rows: Any, name: str) -> Array:
    found = as_array(rows, name)
    if found.shape == (0,):
        found = found.astype(np.intp)  # an empty list is an array of floats
    if found.ndim != 1 or found.dtype.kind not in "iub":
        raise TypeError(
            f"{name}: found {found.dtype} of shape {found.shape}, expected indices of rows, or a "
            "mask of booleans, of one dimension"
        )
    return found


def _rows_of_groups(networks: Networks, groups: Any, x: Any) -> list[Array]:
    """Return the rows of each group, in the order of the networks; x is None if there are several.

    Missing groups are refused: which network they belong to is not known.
    """
    of_row = as_array(groups, "groups")
    if of_row.ndim != 1:
        raise ValueError(f"groups: found shape {of_row.shape}, expected (rows,)")
    count = row_count(x)
    if count is not None and count != len(of_row):
        raise ValueError(f"groups: found {len(of_row)}, expected {count}, as many as x has rows")
    days = of_row.dtype.kind == "O" and all(isinstance(one, date) for one in of_row.tolist())
    if of_row.dtype.kind != "M" and not days:
        of_row = plain_labels(of_row, "groups")
    labels, codes = np.unique(of_row, return_inverse=True)
    # One sort finds the rows of all groups; a stable one keeps their order.
    parts = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    if not isinstance(networks, Mapping):
        if len(networks) != len(labels):
            raise ValueError(
                f"groups: found {len(labels)} different groups, expected {len(networks)}, one for "
                "each network"
            )
        return parts
    by_label = dict(zip(labels.tolist(), parts, strict=True))
    missing = [key for key in networks if key not in by_label]
    others = [key for key in by_label if key not in networks]
    if missing or others:
        found = f"no rows of {missing[0]!r}" if missing else f"{others[0]!r} without a network"
        raise ValueError(f"groups: found {found}, expected the keys of networks")
    return [by_label[key] for key in networks]


class _Report:
    """Computes the progress of a queue of networks, and shows it."""

    def __init__(
        self, display: Display, queue: Queue, networks: list[Network], given: Settings
    ) -> None:
        self._display, self._queue = display, queue
        self._networks, self._given = networks, given
        self._before = [net.epochs for net in networks]
        self._began = time.perf_counter()

    def show(self) -> None:
        queue, count = self._queue, len(self._networks)
        finished, failed = len(queue.results), len(queue.failures)
        if count == 0:
            return
        share = (finished + failed + sum(map(self._share, list(queue.running)))) / count
        seconds = time.perf_counter() - self._began
        self._display.show(ManyProgress(finished, failed, count, min(share, 1.0), seconds))

    def _share(self, k: int) -> float:
        """Return the share of the epochs of a network in training that are complete."""
        done = self._networks[k].epochs - self._before[k]
        return min(done / max(self._given.epochs(k), 1), 1.0)
