"""The command line of the fuzzing.

    python -m tests.fuzz                                   # every target, a minute each
    python -m tests.fuzz idx csv --runs 10000000 --seconds 1800

Whatever breaks the contract of ``targets.py`` is written into ``tests/corpus/<target>/``, where
``tests/test_fuzz.py`` replays it from then on. Needs atheris (Linux on x86-64). Options that are
not known here go to libFuzzer.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import types
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus"
GROWN = ROOT / "build" / "fuzz"

# In which modules atheris counts branches, beside pynn. Compiled ones have none that it sees.
INSTRUMENTED = {
    "idx": ("gzip",),
    "gzip": ("gzip",),
    "npz": ("zipfile",),
    "image": ("PIL",),
    "model": ("safetensors",),
    "state_dict": ("safetensors",),
    "checkpoint": ("safetensors",),
}
# Much that no loader runs.
LEFT_OUT = ("pynn.backends.numba", "pynn.sklearn", "pynn.plots", "pynn.cli")

MEASURED = 16
"""One of this many inputs is also checked for the memory that Python and NumPy allocate."""

# What differs between two findings of one kind: numbers, paths and what is quoted.
_VARYING = re.compile(r"[\d,]+|'[^']*'|/\S*|\[.*")


class Run(NamedTuple):
    """What came of fuzzing one target."""

    inputs: int
    coverage: int
    """Branches of pynn, and of the modules that are counted with it, that were reached."""
    findings: list[Path]
    code: int
    """What the process ended with; not 0 after a crash, a hang, or too much memory."""
    output: str
    """The end of what it printed."""


def fuzz(name: str, arguments: Sequence[str]) -> None:
    """Fuzz one target in this process, with arguments for libFuzzer; never returns."""
    import random

    import atheris

    include = ["pynn", *INSTRUMENTED.get(name, ())]
    with atheris.instrument_imports(include=include, exclude=list(LEFT_OUT)):
        from tests.fuzz import targets

        if name == "image":
            from PIL import Image, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

            Image.preinit()
    if name == "npz":
        # All of NumPy would take long.
        for value in np.lib.format.read_magic.__globals__.values():
            if isinstance(value, types.FunctionType):
                atheris.instrument_func(value)
    target = targets.TARGETS[name]
    scratch = targets.Scratch(target, Path(os.environ["PYNN_FUZZ_SCRATCH"]))
    scratch.warm_up()
    prefix = "-artifact_prefix="
    findings = Path(next(a[len(prefix) :] for a in arguments if a.startswith(prefix)))
    kinds: set[str] = set()

    def inner(content: bytes, longest: int) -> bytes:
        # Of more bytes than it may return it would write past the end.
        return atheris.Mutate(content[:longest], longest)

    def mutate(content: bytes, longest: int, seed: int) -> bytes:
        return target.mutate(content, longest, random.Random(seed), inner)[:longest]

    def one(content: bytes) -> None:
        try:
            scratch.try_one(content, measure=zlib.crc32(content) % MEASURED == 0)
        except Exception as error:
            # One of each kind is enough, and the search goes on.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            kind = f"{where} {type(error).__name__} {_VARYING.sub('', str(error))[:60]}"
            if kind in kinds:
                return
            kinds.add(kind)
            path = findings / f"finding-{hashlib.sha1(content).hexdigest()[:12]}"
            path.write_bytes(content)
            print(f"\nFINDING {path.name} of {len(content)} bytes: {where}", flush=True)
            traceback.print_exc(limit=-4)

    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=mutate)
    atheris.Fuzz()


# To Linux, the most memory of a process includes that of the one that started it, up to its exec.
# libFuzzer would stop at its limit for what a run of pytest took. So a small one comes between.
APART = (
    sys.executable,
    "-c",
    "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)",
)
"""What a command follows that is to count its own memory alone."""


def start(
    name: str,
    runs: int,
    seconds: int,
    grown: Path,
    findings: Path = CORPUS,
    more: Sequence[str] = (),
    quiet: bool = False,
) -> Run:
    """Fuzz one target in a separate process, up to a number of inputs or seconds; 0 is no limit.

    The corpus grows in ``grown``, a folder that the next run may go on from; what breaks the
    contract goes into ``findings``.
    """
    import pynn
    from tests.fuzz import targets

    target = targets.TARGETS[name]
    kept, grown, findings = CORPUS / name, grown / name, findings / name
    for folder in kept, grown, findings:
        folder.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    with targets.scratch_folder() as scratch, tempfile.TemporaryDirectory() as seeds:
        for k, content in enumerate(target.seeds()):
            (Path(seeds) / f"{k:03d}").write_bytes(content)
        command = [
            *(*APART, sys.executable, "-m", "tests.fuzz", name, "--here"),
            *(str(grown), seeds, str(kept)),
            *(f"-runs={runs}", f"-max_total_time={seconds}", f"-max_len={target.max_len}"),
            *(
                "-timeout=300",
                "-report_slow_units=300",
                "-rss_limit_mb=2048",
                "-use_value_profile=1",
                "-print_final_stats=1",
            ),
            f"-artifact_prefix={findings}/",
            *more,
        ]
        environment = {
            **os.environ,
            # The same pynn as here, which may be an installed one.
            "PYTHONPATH": str(Path(pynn.__file__).parents[1]),
            "PYNN_FUZZ_SCRATCH": str(scratch),
            # For arrays as small as these.
            **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"),
        }
        output = ""
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not quiet:
                    print(line, end="", flush=True)
                output = (output + line)[-20_000:]
    inputs = re.findall(r"number_of_executed_units: (\d+)", output) or re.findall(r"#(\d+)", output)
    covered = re.findall(r"cov: (\d+)", output)
    return Run(
        int(inputs[-1]) if inputs else 0,
        int(covered[-1]) if covered else 0,
        sorted(set(findings.iterdir()) - before),
        process.returncode,
        output,
    )


def main() -> None:
    if "--here" in sys.argv:
        at = sys.argv.index("--here")
        fuzz(sys.argv[1], sys.argv[at + 1 :])
        return
    from tests.fuzz import targets

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", nargs="*", help=", ".join(targets.TARGETS) + "; all by default")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target, at most")
    parser.add_argument("--seconds", type=int, default=60, help="for each target, at most")
    parser.add_argument("--grown", type=Path, default=GROWN, help="where the corpus grows")
    options, more = parser.parse_known_args()
    unknown = set(options.target) - set(targets.TARGETS)
    if unknown:
        parser.error(f"target: found {', '.join(unknown)}, expected {', '.join(targets.TARGETS)}")
    broken = []
    told = []
    for name in options.target or targets.TARGETS:
        began = time.monotonic()
        found = start(name, options.runs, options.seconds, options.grown.resolve(), more=more)
        seconds = time.monotonic() - began
        told.append(
            f"{name:<10} {found.inputs:>10,} inputs in {seconds:,.0f} s, "
            f"{found.coverage:,} branches, {len(found.findings)} findings"
        )
        print(told[-1], flush=True)
        broken += [str(path) for path in found.findings]
        if found.code and not found.findings:
            broken.append(f"{name}: ended with {found.code}")
    print("", *told, *broken, sep="\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
