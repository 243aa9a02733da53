"""The kernels for other systems and processors: ``make cross``.

    python -m tests.cross [--only TARGET ...] [--folder build/cross]

Compiles everything in ``csrc`` with Clang of the PyPI package ziglang for each target. For targets
whose emulator is installed (qemu-user, wine) the checker of the kernels is linked and run as well.
Another target of zig, such as riscv64-linux-musl, may be given.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ziglang

ROOT = Path(__file__).parents[1]
ZIG = Path(ziglang.__file__).parent / "zig"
BIN = Path(sys.executable).parent

EMULATORS = {
    "aarch64-linux-musl": "qemu-aarch64",
    "aarch64-macos": "",
    "x86_64-macos": "",
    "x86_64-windows-gnu": "wine",
    "aarch64-windows-gnu": "",
}


def run(*command: object) -> None:
    print("+", *command, flush=True)
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([str(part) for part in command], check=True, env={**os.environ, "PATH": path})


def build(target: str, folder: Path) -> str:
    """Compile for one target, and run the checker where that is possible; return what was done."""
    options = [f"-DZIG={ZIG}", f"-DZIG_TARGET={target}", "-DPYNN_TESTS=ON"]
    toolchain = ROOT / "tests" / "csrc" / "zig.cmake"
    run("cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, "--toolchain", toolchain, *options)
    run("cmake", "--build", folder, "--target", "objects")
    emulator = EMULATORS.get(target, "")
    if not shutil.which(emulator):
        return f"compiled, not run{emulator and f': {emulator} is not installed'}"
    run("cmake", "--build", folder)
    run(emulator, folder / "kernels_test", "--short")
    return f"compiled, and the checker passed in {emulator}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="TARGET", default=list(EMULATORS))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "cross")
    arguments = parser.parse_args()
    done = []
    for target in arguments.only:
        began = time.perf_counter()
        said = build(target, arguments.folder.resolve() / target)
        done.append(f"{target:20} {said}, {time.perf_counter() - began:.0f} s")
    print("\n".join(done))


if __name__ == "__main__":
    main()
