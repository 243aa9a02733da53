"""Data larger than memory: the speed of reading and training, and the memory that it takes.

    python -m benchmarks.large_data                       1 GB, in a folder that is removed
    python -m benchmarks.large_data --gigabytes 4 --folder /data/rows

Writes Parquet files of 50 columns of float32 and a label, as many as the data takes, without
compression. Each round reads all files, and then trains one epoch on them in a process of its own;
the operating system forgets the files before each (POSIX_FADV_DONTNEED), so that both read from the
disk. The table shows megabytes of the files per second, for reading with 1 MiB per call and for
training; the largest resident memory of the process that trains; and what it had after importing
pynn and pyarrow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 50
FILE_ROWS = 500_000


def write(folder: Path, rows: int, group: int) -> None:
    """Write rows to Parquet files, unless the folder has some."""
    import pyarrow
    import pyarrow.parquet

    if list(folder.glob("*.parquet")):
        return
    rng = np.random.default_rng(0)
    weights = rng.normal(size=COLUMNS).astype(np.float32)
    for k, start in enumerate(range(0, rows, FILE_ROWS)):
        x = rng.normal(size=(min(FILE_ROWS, rows - start), COLUMNS)).astype(np.float32)
        columns = {f"f{j}": x[:, j] for j in range(COLUMNS)}
        table = pyarrow.table({**columns, "y": (x @ weights > 0).astype(np.int32)})
        options: dict[str, Any] = {"compression": "NONE", "use_dictionary": False}
        path = folder / f"part-{k:03d}.parquet"
        pyarrow.parquet.write_table(table, path, row_group_size=group, **options)
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def forget(files: list[Path]) -> None:
    """Let the operating system drop the pages of the files."""
    for path in files:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(files: list[Path]) -> float:
    """Return the seconds that reading the files takes."""
    buffer = bytearray(1 << 20)
    began = time.perf_counter()
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - began


def resident(name: str) -> float:
    """Return a size of this process in megabytes: VmRSS, or VmHWM for the largest so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def train(folder: str, batch: int, threads: int | None, buffer: int) -> dict[str, float]:
    """Train one epoch, in this process."""
    import pyarrow.dataset
    import pyarrow.parquet

    import pynn

    imports = resident("VmRSS")
    net = pynn.Network([COLUMNS, 32, 2], seed=1, threads=threads)
    began = time.perf_counter()
    source = pynn.data.Parquet(f"{folder}/*.parquet", label="y", buffer_bytes=buffer << 20)
    history = net.fit(source, epochs=1, batch_size=batch)
    seconds = time.perf_counter() - began
    del pyarrow
    accuracy = history[-1].accuracy
    assert accuracy is not None
    return {
        "seconds": seconds,
        "peak": resident("VmHWM"),
        "imports": imports,
        "accuracy": accuracy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows-per-group", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--buffer", type=int, default=64, help="MiB of a window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(train(given.child, given.batch, given.threads, given.buffer)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = round(given.gigabytes * 1e9 / (4 * (COLUMNS + 1)))
        write(folder, rows, given.rows_per_group)
        measure(folder, given)


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Print the table."""
    files = sorted(folder.glob("*.parquet"))
    size = sum(path.stat().st_size for path in files) / 1e6
    command = [sys.executable, "-m", "benchmarks.large_data", "--child", str(folder)]
    command += ["--batch", str(given.batch), "--buffer", str(given.buffer)]
    command += [] if given.threads is None else ["--threads", str(given.threads)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    disk, fit, found = [], [], {}
    for _ in range(given.rounds):
        forget(files)
        disk.append(size / read(files))
        forget(files)
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        fit.append(size / found["seconds"])
    print(f"{len(files)} files, {size:,.0f} MB, network {COLUMNS}-32-2, batches of {given.batch}")
    print(f"reading    {median(disk):8,.0f} MB/s")
    print(f"training   {median(fit):8,.0f} MB/s, {median(fit) / median(disk):.2f} of reading")
    print(f"memory     {found['peak']:8,.0f} MB at most, {found['imports']:,.0f} MB of it imports")
    print(f"accuracy   {found['accuracy']:8.4f}")


if __name__ == "__main__":
    main()
