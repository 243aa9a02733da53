"""Digests of many small trainings, to compare two builds of pynn on one machine.

A change that only moves code must not change a single result. This script trains some hundred small
networks on every backend and every instruction set of the machine, and prints one line for each::

    cython.avx2/float32/optimizer-adam  3f1c9a0b77d2e4c6

The second column is the beginning of a SHA-256 over parameters, optimizer state, outputs and
history (losses, accuracies, learning rates, validation, updates; not seconds). Record the digests
of one build and compare another with them::

    python -m tests.digests --out before.txt
    python -m tests.digests --compare before.txt

The digests depend on the processor (its instruction sets), on the versions of NumPy, SciPy and
scikit-learn and on their BLAS: compare files of one machine and one environment only.

The script uses the public interface alone, and trains whichever ``pynn`` Python finds: run as a
module in a checkout, an installed one or else the source tree. To take another build, run the file
by its path from another folder, with ``PYTHONPATH`` naming the folder that holds the package::

    cd /tmp && PYTHONPATH=/path/to/site python /path/to/checkout/tests/digests.py

Results must not depend on the number of threads: some networks are trained with 1, 2, 3 and 5 of
them (1 and 3 on instruction sets below AVX-512). If the results differ, the line reads ERROR in
place of a digest, and the exit code is 1, as after any other error.

Numba keeps machine code in a cache that only watches the file of the cached function. After a
change to another module of the numba backend use ``--fresh``, which compiles everything anew.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

UNSTABLE: dict[str, str] = {}
"""Regular expressions of cases whose digest can differ between two runs of one build, and why.
``--compare`` names them but does not count them."""


def import_pynn() -> Any:
    """Import whichever pynn Python finds; with this file run by its path, not from its folder."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != here]
    import pynn

    return pynn


# --- One process: one backend, one instruction set ------------------------------------------------


class _WithoutCore(MetaPathFinder):
    """Hides the compiled core, so that the compatible interfaces compute with NumPy."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name.startswith("pynn.") and name.endswith("._core"):
            raise ImportError("the compiled core is hidden by tests/digests.py")


def load_cases() -> Any:
    """Import tests/digest_cases by its path: this folder must not be on Python's search path.

    Its folders have the names of packages, such as ``sklearn``.
    """
    folder = Path(__file__).resolve().with_name("digest_cases")
    spec = importlib.util.spec_from_file_location(
        "digest_cases", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["digest_cases"] = module  # where its modules look for each other
    spec.loader.exec_module(module)
    return module


def run_part(part: str, pattern: str) -> int:
    """Print one JSON line for each case of one backend: name, digest and error."""
    backend, _, isa = part.partition(".")
    if backend == "numpy":
        sys.meta_path.insert(0, _WithoutCore())
    warnings.simplefilter("ignore")
    about = import_pynn().info()
    if backend == "numpy":
        assert about["backends"]["cython"], "the compiled core was not hidden"
    elif isa:
        assert about["isa"] == isa, f"PYNN_ISA={isa} was not obeyed"
    for case, run in load_cases().cases_of(backend, isa).items():
        name = f"{part}/{case}"
        if re.search(pattern, name):
            try:
                found, error = str(run()), ""
            except Exception as problem:
                found, error = "ERROR", f"{type(problem).__name__}: {problem}"
            print(json.dumps([name, found, error]), flush=True)
    return 0


# --- All of them ----------------------------------------------------------------------------------


def parts() -> Iterator[str]:
    """Name every backend that can be used here, cython once for each instruction set."""
    about = import_pynn().info()
    for backend, reason in about["backends"].items():
        if reason:
            print(f"left out: {backend}: {reason}", file=sys.stderr)
        elif backend == "cython":
            yield from (f"cython.{isa}" for isa in about["isas"])
        else:
            yield backend


def start(part: str, pattern: str, cache: str | None) -> list[list[str]]:
    """Run one part in a process of its own and return its lines."""
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = {**os.environ, **one}
    env.pop("PYNN_ISA", None)
    if "." in part:
        env["PYNN_ISA"] = part.partition(".")[2]
    if cache is not None:
        env["NUMBA_CACHE_DIR"] = cache
    # The same pynn as here, wherever this process found it.
    paths = [str(Path(import_pynn().__file__).parents[1]), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--only", pattern]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        lines.append([f"{part}/process", "ERROR", f"ended with exit code {done.returncode}"])
    return lines


def unstable(name: str) -> str:
    return next((why for pattern, why in UNSTABLE.items() if re.search(pattern, name)), "")


def compare(found: dict[str, str], path: Path, pattern: str) -> int:
    """Print the names whose digests differ from those in a file, and return how many count."""
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    before = {line[0]: line[1] for line in lines if re.search(pattern, line[0])}
    count = 0
    for name in sorted(before.keys() | found.keys()):
        old, new = before.get(name, "missing"), found.get(name, "missing")
        if old != new:
            why = unstable(name)
            print(f"differs: {name}: {old} {new}{why and f' (unstable: {why})'}")
            count += not why
    print(f"{len(found)} digests, {count} differ from {path}", file=sys.stderr)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="Print digests of many small trainings.")
    only = "run the cases whose name matches this regular expression"
    compare_with = (
        "print the names whose digests differ from this file; exit with 1 if there are any"
    )
    parser.add_argument("--only", default="", metavar="PATTERN", help=only)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the lines to FILE")
    parser.add_argument("--compare", type=Path, metavar="FILE", help=compare_with)
    parser.add_argument("--fresh", action="store_true", help="ignore Numba's cached machine code")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return run_part(options.part, options.only)
    print(f"pynn: {import_pynn().__file__}", file=sys.stderr)
    found: dict[str, str] = {}
    errors = 0
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory()) if options.fresh else None
        pool = stack.enter_context(ThreadPoolExecutor(options.jobs))
        for lines in pool.map(lambda part: start(part, options.only, cache), list(parts())):
            for name, digest, error in lines:
                found[name] = digest
                errors += digest == "ERROR"
                if options.compare is None:
                    print(f"{name}  {digest}", flush=True)
                if error:
                    print(f"{name}: {error}", file=sys.stderr)
    if options.out is not None:
        options.out.write_text("".join(f"{name}  {found[name]}\n" for name in found))
    differing = 0
    if options.compare is not None:
        differing = compare(found, options.compare, options.only)
    return int(bool(errors or differing))


if __name__ == "__main__":
    raise SystemExit(main())
