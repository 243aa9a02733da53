"""The default number of threads: processors of this process, and limits set by other software.

`default_threads` combines all sources and is read at every call, because most of them can change
while a process runs. ``docs/how-to/threads.md`` describes them for users.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..spec.arguments import MOST_THREADS

VARIABLE = "PYNN_NUM_THREADS"
_LIMITS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "LOKY_MAX_CPU_COUNT")
"""Variables that limit the default. joblib, Dask and Ray set the first one for their workers."""
_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables that set the threads of BLAS only, which do not apply to pynn."""


def default_threads() -> int:
    """Return the number of threads where ``threads`` is None.

    ``PYNN_NUM_THREADS`` if it is set; otherwise the smallest limit of the affinity mask, cgroups,
    ``OMP_NUM_THREADS``, ``OMP_THREAD_LIMIT``, ``LOKY_MAX_CPU_COUNT``, threadpoolctl, joblib and
    Dask.

    Raises
    ------
    ValueError
        If ``PYNN_NUM_THREADS`` is not a whole number from 1 to 4096.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen:
        count = _count(chosen)
        if count is None or count > MOST_THREADS:
            raise ValueError(
                f"{VARIABLE}: found {chosen!r}, expected a whole number from 1 to {MOST_THREADS}"
            )
        return useful(count)
    limits = [_count(os.environ.get(name, "").partition(",")[0]) for name in _LIMITS]
    counts = [processors(), MOST_THREADS, *(count for count in limits if count is not None)]
    counts += _pool_limits(min(counts))
    if limits[0] is None and (_in_joblib_worker() or _in_dask_task()):
        counts.append(1)
    return min(counts)


def useful(count: int) -> int:
    """Return a number of threads, or 4 per processor (at least 64) if it is larger.

    More threads train no faster, and each has a stack of several MiB of address space.
    """
    return min(count, max(64, 4 * processors()))


def _count(text: str) -> int | None:
    """Return a whole number of at least 1, or None for other text, which OpenMP ignores too."""
    digits = text.strip().lstrip("0")
    return int(digits[:10]) if digits.isdecimal() and digits.isascii() else None  # any count fits


def processors() -> int:
    """Return the number of processors that the affinity mask and the cgroups give this process."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    if hasattr(os, "process_cpu_count"):  # Python 3.13 reads PYTHON_CPU_COUNT and -X cpu_count
        count = min(count, os.process_cpu_count() or count)
    quota = _process_quota()
    return count if quota is None else min(count, quota)


# --- cgroups ------------------------------------------------------------------------------------


@functools.cache
def _process_quota() -> int | None:
    """Return the processors that the cgroups of this process allow, read once."""
    return cgroup_quota(Path("/")) if sys.platform == "linux" else None


def cgroup_quota(root: Path) -> int | None:
    """Return the number of processors that cgroups allow, rounded up, or None without a limit.

    Every group above the one of this process can have a limit; the smallest applies.

    Parameters
    ----------
    root
        The folder that holds ``proc`` and ``sys``, which tests replace.
    """
    quotas = []
    for folder, top in _cgroup_folders(root):
        while True:
            found = _quota(folder)
            if found is not None:
                quotas.append(max(1, math.ceil(found)))
            if folder == top or folder == folder.parent:
                break
            folder = folder.parent
    return min(quotas, default=None)


def _cgroup_folders(root: Path) -> list[tuple[Path, Path]]:
    """Return the folders of this process's groups, each with the mount point that it lies in."""
    paths: dict[str, str] = {}  # "" is version 2, "cpu" the controller of version 1
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or "cpu" in controllers.split(","):
            paths["cpu" if controllers else ""] = path
    folders = []
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, kind = line.partition(" - ")
        fields, system = mount.split(), kind.split()
        if len(fields) < 5 or not system or system[0] not in ("cgroup", "cgroup2"):
            continue
        if system[0] == "cgroup" and "cpu" not in system[-1].split(","):
            continue
        group = paths.get("cpu" if system[0] == "cgroup" else "")
        if group is None:
            continue
        top = root / fields[4].lstrip("/")
        inside = os.path.relpath(group, fields[3])
        # Without a cgroup namespace a container sees paths of the host, which it has not mounted.
        outside = inside.split("/")[0] == ".." or not (top / inside).is_dir()
        folders.append((top if outside or inside == "." else top / inside, top))
    return folders


def _quota(folder: Path) -> float | None:
    """Return the limit of one group of version 2 or 1 as a number of processors."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    if not words:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [word for name in names for word in _lines(folder / name)[:1]]
    with suppress(ValueError, ZeroDivisionError):
        quota, period = (float(word) for word in words[:2])  # "max 100000" has no limit
        if quota > 0:  # version 1 writes -1 for no limit
            return quota / period
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


# --- Limits set within the process --------------------------------------------------------------


_pools: tuple[int, list[Any]] = (-1, [])
"""Number of imported modules, and the libraries that threadpoolctl found at that number. The
libraries are searched for again when the number has changed, since libraries come with modules."""


def _pool_limits(most: int) -> list[int]:
    """Return the thread counts of loaded OpenMP libraries, or of BLAS if there is no OpenMP.

    They are what threadpoolctl sets. Without threadpoolctl there are no such limits to ask for.
    """
    global _pools
    threadpoolctl = sys.modules.get("threadpoolctl")
    if threadpoolctl is None or not hasattr(threadpoolctl, "ThreadpoolController"):
        return []
    modules, libraries = _pools
    if modules != len(sys.modules):
        modules = len(sys.modules)
        libraries = threadpoolctl.ThreadpoolController().lib_controllers
        _pools = modules, libraries
    counts = [_threads_of(library) for library in libraries if library.user_api == "openmp"]
    if not counts:
        # threadpool_limits(1) also limits BLAS. A variable that only concerns BLAS does not count.
        own = {_count(os.environ.get(name, "")) for name in _BLAS}
        blas = [_threads_of(library) for library in libraries if library.user_api == "blas"]
        counts = [count for count in blas if count not in own]
    return [count for count in counts if count is not None and 0 < count < most]


def _threads_of(library: Any) -> int | None:
    count = library.num_threads
    return count if isinstance(count, int) else None


def _in_joblib_worker() -> bool:
    """Return whether this thread works for joblib, whose threading backend sets no other limit."""
    parallel = sys.modules.get("joblib.parallel")
    if parallel is None or not hasattr(parallel, "get_active_backend"):
        return False
    return (getattr(parallel.get_active_backend()[0], "nesting_level", 0) or 0) > 0


def _in_dask_task() -> bool:
    """Return whether this thread runs a task of Dask, which has as many at a time as threads.

    Nannies set ``OMP_NUM_THREADS`` for their processes; workers in this process set nothing.
    """
    worker = sys.modules.get("distributed.worker")
    return hasattr(getattr(worker, "thread_state", None), "execution_state")
