"""The table of all options: each row runs on every backend and names a test that exists."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import pynn
from benchmarks import options
from benchmarks.option_rows import GROUPS, Option
from pynn.backends import choose, gaps
from pynn.spec.losses import LOSSES
from pynn.spec.names import ACTIVATIONS, BACKENDS
from pynn.spec.optimizers import ALL_OPTIMIZERS
from pynn.spec.schedules import SCHEDULES

ROOT = Path(__file__).resolve().parents[2]
ROWS = [option for group in GROUPS.values() for option in group]


@pytest.mark.parametrize("option", ROWS, ids=lambda option: option.name.strip("`"))
def test_a_row_runs_on_every_backend(option: Option, tmp_path: Path) -> None:
    needed = {"`lbfgs`": "scipy", "sparse rows": "scipy", "a name of scikit-learn": "sklearn"}
    if option.name in needed:
        pytest.importorskip(needed[option.name])
    given = options.problem("F", tmp_path, rows=60)
    for backend in BACKENDS:
        if choose.available()[backend]:
            continue
        if option.gap and gaps.lacks(backend, option.gap):
            with pytest.raises((ValueError, ImportError), match=f"found .*'{backend}'"):
                options.turns(option, given, backend)[0]()
            continue
        try:
            for call in options.turns(option, given, backend):
                call()
        except ImportError:  # bf16 without the instruction set
            assert backend in gaps.GAPS[option.gap].partly


@pytest.mark.parametrize("node", sorted({option.test for option in ROWS}))
def test_the_test_of_a_row_exists(node: str) -> None:
    path, _, name = node.partition("::")
    functions = ast.parse((ROOT / "tests" / path).read_text("utf-8")).body
    assert name in {f.name for f in functions if isinstance(f, ast.FunctionDef)}


def test_every_option_has_a_row() -> None:
    for options_of_group in GROUPS.values():
        assert len({option.name for option in options_of_group}) == len(options_of_group)
    names = [option.name for option in ROWS]
    text = " ".join(names).lower()
    words = set(re.findall(r"\w+", text.replace("reduceonplateau", "reduce_on_plateau")))
    baseline = {"relu", "cross_entropy", "adam", "constant"}
    known = {*ACTIVATIONS, *LOSSES, *ALL_OPTIMIZERS, *SCHEDULES} - baseline
    assert known - {"adam_hat"} <= words
    with_argument = {"x", "y", "epochs", "batch_size", "optimizer", "learning_rate", "schedule"}
    with_argument |= {"metrics", "callbacks", "resume", "l2", "validation"}
    with_argument |= {
        "sizes",
        "activation",
        "output",
        "loss",
        "pixels",
        "backend",
        "threads",
        "seed",
    }
    both = pynn.Network, pynn.Network.fit
    for name in [name for each in both for name in inspect.signature(each).parameters]:
        assert name in {*words, *with_argument, "self"}, name


def test_the_page_is_that_of_the_results() -> None:
    found = options.page(options.load())
    assert options.PAGE.read_text("utf-8") == found, (
        "run python -m benchmarks.options --no-run --page"
    )


def test_a_row_is_measured(tmp_path: Path) -> None:
    given = options.problem("F", tmp_path, rows=40)
    found = options.measure(ROWS[0], given, 0)
    assert found["turns"] == 5
    assert found["ratio"] > 0
