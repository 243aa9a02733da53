"""One library with one number of threads in its own process, which works only on request.

The parent writes one JSON object per line and gets one back. The first line of the answers contains
the versions, or says that the library is missing. The parent runs this file as a script, with the
name of a module, the number of threads and the other arguments of the module's ``Served``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def physical_first(cpus: set[int]) -> list[int]:
    """Order processors so that the first ones belong to different physical cores."""

    def place(cpu: int) -> tuple[int, int]:
        file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            spans = [span.split("-") for span in file.read_text().strip().split(",")]
        except OSError:
            return 0, cpu
        siblings = [c for span in spans for c in range(int(span[0]), int(span[-1]) + 1)]
        return siblings.index(cpu), cpu

    return sorted(cpus, key=place)


def pin(threads: int) -> None:
    """Pin this process to as many processors as it has threads.

    XLA has no variable for its number of threads; pinning limits it, and treats all alike.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, physical_first(os.sched_getaffinity(0))[:threads])


def fall_asleep(limit: float = 1.0) -> float:
    """Wait until the threads of this process are idle; return its processor time at that moment.

    Threads of OpenBLAS spin for a tenth of a second after their work, which would slow down the
    next entrant.
    """
    end = time.perf_counter() + limit
    used = time.process_time()
    while time.perf_counter() < end:
        time.sleep(0.02)
        before, used = used, time.process_time()
        if used - before < 0.001:
            break
    return used


def main() -> None:
    module, threads, arguments = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    pin(threads)
    # Output that a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The checkout comes last, so that an installed pynn is found before its source.
    sys.path[0] = ""
    sys.path = [p for p in sys.path if p] + [str(Path(__file__).resolve().parent.parent)]

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    from benchmarks.entrants import Unsupported

    try:
        served = importlib.import_module(module).Served(threads, *arguments)
        answer(versions=served.versions())
    except ImportError as error:
        answer(missing=str(error))
        return
    at_rest = 0.0
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked:
                served.setup(asked)
                at_rest = fall_asleep()
                answer()
            else:
                idle = time.process_time() - at_rest
                found = served.turn()
                at_rest = fall_asleep()
                answer(**found, idle=idle)
        except Unsupported as reason:
            answer(unsupported=str(reason))
        except Exception:
            answer(error=traceback.format_exc())


if __name__ == "__main__":
    main()
