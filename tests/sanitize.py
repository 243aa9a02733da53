"""The compiled core under the tools that find memory errors and races: ``make sanitize``.

    python -m tests.sanitize [--only STEP ...] [--folder build/sanitize]

Steps: ``guards`` (the checker of the kernels, all sizes between guard pages), then ``address``,
``undefined`` and ``thread`` (the checker, then the tests that train, under each sanitizer of GCC),
``valgrind`` (the checker up to AVX2, which is as far as it knows), ``lower`` (emulated processors
without SSE3 and without AVX: the checker and a training), ``arm64`` (the checker, cross-compiled
and emulated) and ``suite`` (all tests, on every lower instruction set that this machine has). A
step whose tools are not installed says so and is left out; any report ends it all.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ELSEWHERE = ROOT.anchor  # not where the source would hide the pynn that was built
CXX = os.environ.get("CXX", "g++")
X86 = platform.machine().lower() in ("x86_64", "amd64")

# What trains: with the highest instruction set and a low one, since the checker has all kernels of
# all. Not what measures memory, starts programs to kill them, waits for a full disk, or gives up
# on a program after a time.
TESTS = [
    "backends/test_team.py",
    "backends/test_parity.py",
    "backends/test_gradients.py",
    "backends/test_convention.py",
    "backends/test_zeros.py",
    "test_network.py",
    "test_network_training.py",
    "training/test_checkpoint_resume.py",
    "training/test_checkpoint_writing.py",
    "training/test_checkpoint_refusals.py",
    "sklearn/test_numbers.py",
    "sklearn/test_inputs.py",
]
LEFT_OUT = ["numba", "numpy", "kill", "disk", "not_copied", "own_tests"]
# A report ends the program. CPython and NumPy keep memory until the end, so leaks are looked for in
# the checker alone. The child of a fork starts its own team.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:die_after_fork=0",
    "PYTHONMALLOC": "malloc",
    # The threads of NumPy's BLAS meet where ThreadSanitizer cannot see it.
    "OPENBLAS_NUM_THREADS": "1",
}
RUNTIME = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}

# Enough to go through every part of a step: layers wide and narrow, pixels, dropout, a team.
TRAINING = """
import numpy as np, pynn
x = np.random.default_rng(1).integers(0, 255, (300, 70), dtype=np.uint8) * (np.arange(70) % 5 == 0)
y = np.arange(300) % 3
for dtype in ("float32", "float64"):
    for optimizer in ("sgd", "adam"):
        net = pynn.Network([70, 33, 19, 3], dtype=dtype, dropout=0.1, threads=2, backend="cython")
        net.fit(x.astype(np.uint8), y, epochs=2, batch_size=64, optimizer=optimizer)
        assert net.predict_proba(x.astype(np.uint8)).shape == (300, 3)
from pynn.backends.cython import _core
print("trained with", _core.info()["isa"])
"""


class Missing(Exception):
    """A tool that a step needs and that is not installed."""


def need(tool: str) -> str:
    found = shutil.which(tool, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise Missing(f"{tool} is not installed")
    return found


def run(*command: object, env: Mapping[str, str] | None = None, cwd: str | None = None) -> None:
    print("+", " ".join(str(part).strip().partition("\n")[0] for part in command), flush=True)
    subprocess.run(
        [str(part) for part in command], check=True, env={**os.environ, **(env or {})}, cwd=cwd
    )


def checker(folder: Path, *options: str) -> Path:
    run(need("cmake"), "-S", ROOT, "-B", folder, "-DPYNN_TESTS=ON", *options)
    run(need("cmake"), "--build", folder, "--parallel", os.cpu_count() or 1)
    return folder / "kernels_test"


def module(folder: Path, *options: str) -> Path:
    """Install pynn into its own folder and return that folder, for PYTHONPATH."""
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"),
        *("--target", folder / "site", ROOT, f"-Cbuild-dir={folder / 'module'}", *options),
    )
    return folder / "site"


def guards(folder: Path) -> None:
    run(checker(folder))


def sanitizer(folder: Path) -> None:
    name = folder.name
    found = subprocess.run(
        [need(CXX), f"-print-file-name={RUNTIME[name]}"], capture_output=True, text=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        raise Missing(f"{CXX} has no {RUNTIME[name]}")
    run(
        checker(folder / "checker", f"-DPYNN_SANITIZE={name}", "-DCMAKE_BUILD_TYPE=Debug"),
        "--short",
    )
    site = module(folder, "-Ccmake.build-type=Debug", f"-Ccmake.define.PYNN_SANITIZE={name}")
    # Its runtime has to be there before Python, and finds the C++ library only if that is too.
    library = subprocess.run(
        [CXX, "-print-file-name=libstdc++.so.6"], capture_output=True, text=True
    ).stdout.strip()
    env = {**OPTIONS, "PYTHONPATH": str(site), "LD_PRELOAD": f"{found} {library}"}
    run(sys.executable, "-c", TRAINING, env=env, cwd=ELSEWHERE)
    lower = [isa for isa in usable(env)[:-1] if isa != "sse4"]
    run(
        *(BIN / "pytest", "-q", "-x", "--all", "--timeout", 3600),
        *("-k", " and ".join(f"not {word}" for word in LEFT_OUT + lower)),
        *(ROOT / "tests" / test for test in TESTS),
        env=env,
    )


def usable(env: Mapping[str, str]) -> list[str]:
    """The instruction sets of this machine, lowest first."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from pynn.backends.cython import _core; print(*_core.info()['isas'])",
        ],
        env={**os.environ, **env},
        cwd=ELSEWHERE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def suite(folder: Path) -> None:
    for isa in usable({})[:-1]:  # the highest is what they are run on every day
        run(BIN / "pytest", "-q", "-x", "--all", env={"PYNN_ISA": isa})


def valgrind(folder: Path) -> None:
    tool = [need("valgrind"), "-q", "--error-exitcode=9", "--exit-on-first-error=yes"]
    found = checker(folder / "checker")
    for isa in ("plain", "sse4", "avx2") if X86 else ("plain", "neon"):
        run(*tool, found, "--short", "--isa", isa)


def lower(folder: Path) -> None:
    if not X86:
        raise Missing("this is no x86-64 machine")
    emulator = need("qemu-x86_64")
    found = checker(folder / "checker")
    site = module(folder)
    # An instruction above the processor's own, SSE3 and then SSE4.2, would be the end.
    run(emulator, "-cpu", "qemu64,-sse3", found, "--short", "--isa", "plain")
    run(emulator, "-cpu", "Nehalem", found, "--short", "--isa", "sse4")
    env = {"PYTHONPATH": str(site)}
    run(emulator, "-cpu", "Nehalem", sys.executable, "-c", TRAINING, env=env, cwd=ELSEWHERE)


def arm64(folder: Path) -> None:
    need("aarch64-linux-gnu-g++")
    found = checker(
        folder,
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    )
    run(need("qemu-aarch64"), found, "--short")


STEPS: dict[str, Callable[[Path], None]] = {
    "guards": guards,
    "address": sanitizer,
    "undefined": sanitizer,
    "thread": sanitizer,
    "valgrind": valgrind,
    "lower": lower,
    "arm64": arm64,
    "suite": suite,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "sanitize")
    arguments = parser.parse_args()
    said = []
    for name in arguments.only:
        began = time.perf_counter()
        try:
            STEPS[name](arguments.folder.resolve() / name)
        except Missing as missing:
            said.append(f"{name:10} left out: {missing}")
            continue
        except subprocess.CalledProcessError as error:
            print("\n".join(said))
            print(f"{name:10} FAILED: {error.cmd[0]} ended with {error.returncode}")
            return 1
        said.append(f"{name:10} clean, {time.perf_counter() - began:.0f} s")
    print("\n".join(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
