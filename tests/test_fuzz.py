"""Files from strangers: what fuzzing found, replayed, and a short run of it (see tests/fuzz)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from tests.fuzz import mutators
from tests.fuzz.__main__ import APART, CORPUS, ROOT, start
from tests.fuzz.targets import TARGETS, Broken, Scratch, Target

with_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: make fuzz installs it (on Linux on x86-64)",
)

RUNS = 1000
"""Inputs of a short run."""

NEEDS = {"image": "PIL", "onnx": "onnx"}
"""What a target cannot do without."""


@pytest.mark.parametrize("name", TARGETS)
def test_stored_fuzz_inputs_satisfy_the_contract(tmp_path: Path, name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    target = TARGETS[name]
    files = sorted((CORPUS / name).iterdir()) if (CORPUS / name).is_dir() else []
    inputs = {f"seed {k}": content for k, content in enumerate(target.seeds())}
    inputs |= {path.name: path.read_bytes() for path in files}
    scratch = Scratch(target, tmp_path)
    loaded, broken = 0, {}
    try:
        scratch.warm_up()
        for label, content in inputs.items():
            try:
                scratch.try_one(content, measure=False)
                loaded += scratch.try_one(content) is None
            except Exception as error:
                broken[label] = repr(error)
    finally:
        scratch.close()
    assert broken == {}
    # Or all might be refused for want of a package, or for a mistake in the target.
    assert loaded > 0
    assert len(files) > 0


@pytest.mark.slow
@with_atheris
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_fuzz_run_finds_nothing(tmp_path: Path, name: str) -> None:
    """The same inputs every time; make fuzz tries others, and more."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    # Of a number of inputs, not of seconds: 0 is no limit.
    folders = tmp_path / "grown", tmp_path / "findings"
    run = start(name, RUNS, 0, *folders, more=("-seed=1",), quiet=True)
    assert [path.read_bytes() for path in run.findings] == [], run.output
    assert run.code == 0, run.output
    # It did run, and saw what of the loader was run.
    assert run.inputs >= RUNS
    assert run.coverage > 20


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is that of Linux")
def test_a_process_apart_does_not_count_the_memory_of_the_one_that_starts_it() -> None:
    grow = "b = bytearray(b'1') * 300_000_000; import subprocess, sys; subprocess.run(sys.argv[1:])"
    peak = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    small, large = (
        int(
            subprocess.run(
                [sys.executable, "-c", grow, *between, sys.executable, "-c", peak],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for between in (APART, ())
    )
    assert small < 100
    assert large > 200  # or the first line proves nothing


@with_atheris
def test_the_fuzz_command_reports_its_findings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "idx", "--runs", "200", "--grown", str(tmp_path)]
    root = str(Path(pynn.__file__).parents[1])
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "0 findings" in done.stdout.splitlines()[-1]
    assert list((tmp_path / "idx").iterdir())


# Each breaks the contract in its way.
def _runs_code(path: Path) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def _unpickles(path: Path) -> None:
    import pickle

    pickle.loads(b"cos\ngetcwd\n.")


def _writes(path: Path) -> None:
    path.with_name("b").write_bytes(b"")


def _warns(path: Path) -> None:
    warnings.warn("odd", RuntimeWarning, stacklevel=1)


def _takes_memory(path: Path) -> None:
    np.ones(20_000_000, np.uint8)


def _dies(path: Path) -> None:
    raise KeyError("x")


def _raises(text: str, kind: type[Exception] = ValueError) -> Callable[[Path], None]:
    def load(path: Path) -> None:
        raise kind(text)

    return load


@pytest.mark.parametrize(
    ("load", "error", "message"),
    [
        (_runs_code, Broken, "subprocess.Popen"),
        (_unpickles, Broken, "pickle.find_class"),
        (_writes, Broken, "open"),
        (_warns, Broken, "odd"),
        (_takes_memory, Broken, "20,0.* bytes of memory"),
        (_dies, KeyError, "x"),
        (_raises("x" * 1001), Broken, "1001 characters"),
        (_raises("\x1b[2J"), Broken, "control characters"),
        (_raises("a\nb"), Broken, "control characters"),
        (_raises("\ud800"), Broken, "control characters"),
        (_raises(""), Broken, "without words"),
        (_raises("a", UnicodeError), Broken, "plain ValueError"),
    ],
)
@pytest.mark.filterwarnings("always")
def test_a_loader_that_breaks_the_contract_is_detected(
    tmp_path: Path, load: Callable[[Path], Any], error: type[Exception], message: str
) -> None:
    scratch = Scratch(Target(load, lambda: iter(()), mutators.plain), tmp_path)
    try:
        with pytest.raises(error, match=message):
            scratch.try_one(b"1")
        kept = Target(_raises("found no file, expected one"), lambda: iter(()), mutators.plain)
        scratch.target = kept
        assert scratch.try_one(b"1") == "found no file, expected one"
    finally:
        scratch.close()
