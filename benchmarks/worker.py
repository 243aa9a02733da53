"""One library with one number of threads in its own process, which works only when it is told to.

The parent writes one JSON object a line and gets one back. The first line that comes says which
versions are at work, or that the library is missing. This file is run as a script, by the parent.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def physical_first(cpus: set[int]) -> list[int]:
    """Order processors so that two threads of one core come together as late as possible."""

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
    """Keep this process on as many processors as it has threads.

    That is what holds XLA, which knows no variable for it, and is the same for all.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, physical_first(os.sched_getaffinity(0))[:threads])


def fall_asleep(limit: float = 1.0) -> float:
    """Wait until the threads of this process rest; return the processor time it has used by then.

    Those of OpenBLAS spin for a tenth of a second after their work, which would slow down whoever
    is next.
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
    name, threads, dtype, as_float = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1"
    pin(threads)
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The checkout comes last, so that a pynn that is installed is found before its source.
    sys.path[0] = ""
    sys.path = [p for p in sys.path if p] + [str(Path(__file__).resolve().parent.parent)]

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    from benchmarks.cases import Case, Data
    from benchmarks.entrants import ENTRANTS, Unsupported

    try:
        answer(versions=ENTRANTS[name]().versions())
    except ImportError as error:
        answer(missing=str(error))
        return
    entrant: Any = None
    at_rest = 0.0
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "case" in asked:
                entrant = None  # The arrays of the case before go first.
                gc.collect()
                case = Case(**{**asked["case"], "sizes": tuple(asked["case"]["sizes"])})
                data = Data.load(Path(asked["data"]), case.rows)
                if as_float:
                    data = Data(data.features("float32"), data.y)
                entrant = ENTRANTS[name]()
                entrant.setup(case, data, threads, dtype)
                at_rest = fall_asleep()
                answer()
            else:
                idle = time.process_time() - at_rest
                start = time.perf_counter()
                loss = entrant.epoch()
                seconds = time.perf_counter() - start
                at_rest = fall_asleep()
                answer(seconds=seconds, loss=loss, idle=idle)
        except Unsupported as reason:
            answer(unsupported=str(reason))
        except Exception:
            answer(error=traceback.format_exc())


if __name__ == "__main__":
    main()
