"""The benchmark's entrants train the same network, and its command line does what it says."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import depths, machine, performance, report, runner, scale, sweep
from benchmarks.cases import CASES, Case, Data, synthetic, training_data
from benchmarks.runner import Result, Run, Worker, WorkerFailed

ROOT = Path(__file__).resolve().parents[2]

ROWS = 150
RECIPES = {
    "sigmoid-mse-sgd": Case("1", (20, 8, 6, 3), "sigmoid", "mse", "sgd", 5.0, ROWS, ROWS),
    "sigmoid-ce-sgd": Case("2", (20, 8, 6, 3), "sigmoid", "cross_entropy", "sgd", 0.5, ROWS, ROWS),
    "relu-ce-adam": Case("3", (20, 8, 6, 3), "relu", "cross_entropy", "adam", 0.01, ROWS, ROWS),
    "two-classes": Case("4", (20, 8, 2), "relu", "cross_entropy", "adam", 0.01, ROWS, ROWS),
    "one-layer": Case("5", (20, 3), "relu", "cross_entropy", "sgd", 0.5, ROWS, ROWS),
}


def batched(case: Case, batch_size: int) -> Case:
    return Case(**{**vars(case), "batch_size": batch_size})


def losses(worker: Worker, case: Case, folder: Path, epochs: int = 3) -> list[float]:
    if worker.name == "scikit-learn" and case.sizes[-1] == 2:
        pytest.skip("scikit-learn has one output for two classes, which Adam moves half as fast")
    reason = worker.setup(case, folder)
    if reason is not None:
        pytest.skip(reason)
    return [worker.epoch()[1] for _ in range(epochs)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pixels and labels: random ones, sorted by label, and one row many times."""
    rng = np.random.default_rng(0)
    found = {}
    for classes in (2, 3):
        y = np.sort(np.arange(ROWS) % classes)
        bright = np.arange(20) % classes == y[:, None]
        x = (rng.integers(0, 160, (ROWS, 20)) + 90 * bright).astype(np.uint8)
        found[f"random {classes}"] = Data(x, y)
        found[f"equal {classes}"] = Data(x[[0] * ROWS], y[[0] * ROWS])
    folders = {}
    for name, data in found.items():
        folders[name] = tmp_path_factory.mktemp(name.replace(" ", "_"))
        data.save(folders[name])
    return folders


def start(name: str, dtype: str) -> Iterator[Worker]:
    worker = Worker(name, threads=1, dtype=dtype, as_float=False)
    try:
        if worker.missing is not None:
            pytest.skip(f"{name}: {worker.missing}")
        yield worker
    finally:
        worker.close()


@pytest.fixture(scope="module", params=["numpy", "scikit-learn", "torch", "jax", "pynn"])
def entrant(request: pytest.FixtureRequest) -> Iterator[Worker]:
    yield from start(request.param, "float64")


@pytest.fixture(scope="module")
def reference() -> Iterator[Callable[..., list[float]]]:
    """The losses of pynn's NumPy backend, which is the specification."""
    for worker in start("pynn-numpy", "float64"):
        yield functools.cache(functools.partial(losses, worker))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_full_batches_give_the_losses_of_the_reference(entrant, reference, folders, recipe):
    case = RECIPES[recipe]
    folder = folders[f"random {case.sizes[-1]}"]
    expected = reference(case, folder)
    assert expected[-1] < expected[0]
    # scikit-learn adds Adam's epsilon before it corrects the moments.
    np.testing.assert_allclose(losses(entrant, case, folder), expected, rtol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_short_last_batch_is_a_step_of_its_own_size(entrant, reference, folders, recipe):
    # All rows are the same, so the order in which they come is without effect.
    case = batched(RECIPES[recipe], 64)
    assert case.rows % case.batch_size == 22
    folder = folders[f"equal {case.sizes[-1]}"]
    expected = reference(case, folder)
    np.testing.assert_allclose(losses(entrant, case, folder), expected, rtol=1e-4)


def test_shuffled_batches_train_about_the_same(entrant, reference, folders):
    # The rows are sorted by label: whoever took them as they come would forget the first labels.
    case = Case("6", (20, 8, 6, 3), "relu", "cross_entropy", "sgd", 0.1, 10, ROWS)
    expected = reference(case, folders["random 3"], 10)
    assert expected[-1] < 0.3 * expected[0]
    found = losses(entrant, case, folders["random 3"], 10)
    np.testing.assert_allclose(np.mean(found), np.mean(expected), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", "jax", "pynn", "pynn-numpy", "numpy", "scikit-learn"])
def test_bfloat16(name, folders):
    full = Case("8", (20, 24, 16, 3), "relu", "cross_entropy", "adam", 0.01, ROWS, ROWS)
    case = Case(**{**vars(full), "precision": "bf16"})
    assert case.title == full.title.replace(", 150 rows", ", bf16, 150 rows")
    for worker in start(name, "float32"):
        expected = np.array(losses(worker, full, folders["random 3"], 6))
        if name in ("numpy", "scikit-learn"):
            assert "has no bf16" in worker.setup(case, folders["random 3"])
            continue
        found = np.array(losses(worker, case, folders["random 3"], 6))
        np.testing.assert_allclose(found, expected, rtol=0.02)
        assert np.abs(found / expected - 1).max() > 1e-5


def test_bfloat16_needs_the_option():
    assert command.arguments().parse_args([]).cases == list("ABCDEFGH")
    assert command.arguments().parse_args(["--cases", "G,G-bf16"]).cases == ["G", "G-bf16"]
    case = CASES["G-bf16"]
    assert Case(**{**vars(case), "name": "G", "precision": "full"}) == CASES["G"]


def test_a_failure_is_reported_with_its_traceback(folders):
    for worker in start("numpy", "float32"):
        case = Case("7", (20, 3), "relu", "hinge", "sgd", 0.1, 10, ROWS)
        worker.setup(case, folders["random 3"])
        with pytest.raises(WorkerFailed, match="KeyError: 'hinge'"):
            worker.epoch()
        assert worker.setup(RECIPES["one-layer"], folders["random 3"]) is None
        assert worker.epoch()[1] > 0


def test_the_synthetic_classes_can_be_learnt_and_are_even():
    data = synthetic()
    assert data.x.shape == (CASES["F"].rows, CASES["F"].sizes[0])
    assert data.x.dtype == np.float32
    assert data.y.mean() == 0.5
    np.testing.assert_array_equal(data.x, synthetic().x)


def test_command_line(tmp_path):
    page, numbers = tmp_path / "page.md", tmp_path / "numbers.json"
    command_line = "-m benchmarks --quick --cases F --peers numpy,pynn-numpy --threads 1 --rounds 2"
    done = subprocess.run(
        [sys.executable, *command_line.split(), "--markdown", page, "--json", numbers],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "best peer / pynn-numpy" in done.stdout
    assert "| F 20-64-64-2 relu cross-entropy, Adam, batch 32, 2,000 rows |" in page.read_text()
    found = json.loads(numbers.read_text())
    assert found["machine"]["CPU"]
    assert [r["entrant"] for r in found["results"]] == ["numpy", "pynn-numpy"]
    for result in found["results"]:
        assert len(result["seconds"]) == 2
        assert min(result["seconds"]) > 0
        assert len(result["losses"]) == 3
        assert result["losses"][-1] < result["losses"][0]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--cases", "A,Z", "--cases: found 'Z', expected some of A, B, C"),
        ("--peers", "caffe", "--peers: found 'caffe', expected some of numpy"),
        ("--threads", "0", "--threads: found '0', expected a whole number of 1 or more"),
        ("--threads", "4096", "--threads: found 4096, expected at most the number of processors"),
        ("--rounds", "two", "--rounds: found 'two', expected a whole number"),
        ("--json", "no/such/folder/file", "--json: found no folder"),
    ],
)
def test_wrong_options_are_named(capsys, option, value, message):
    with pytest.raises(SystemExit):
        command.arguments().parse_args([option, value])
    assert message in capsys.readouterr().err


# --- The sweep ------------------------------------------------------------------------------------


def test_cells_of_the_sweep():
    cases = sweep.grid([8, 4096], [1, 64, 4096])
    assert [case.name for case in cases[:4]] == ["8x1", "8x64", "8x4096", "4096x1"]
    for case in cases:
        assert case.rows % case.batch_size == 0
        assert 2 <= case.rows // case.batch_size <= sweep.MOST_STEPS
        assert not case.full_batch
        kind, features, rows = case.data.split()
        assert (kind, int(features)) == ("random", case.sizes[0])
        assert int(rows) >= case.rows
    assert len({case.data for case in cases}) == 2
    data = training_data("random 5 40")
    assert (data.x.shape, data.x.dtype, data.y.shape) == ((40, 5), np.float32, (40,))
    assert 0 <= data.y.min() <= data.y.max() < sweep.CLASSES


def swept() -> Run:
    cases = sweep.grid([8, 64], [1, 512])
    done = Run(cases, ["numpy", "torch", "pynn"], [2], 1, "float32", "float32")
    times = {"8x1": (4, 3, 2), "8x512": (1, 5, 2), "64x1": (30, 90, 1), "64x512": (1, 1, None)}
    for case in cases:
        for entrant, seconds in zip(done.entrants, times[case.name], strict=True):
            failed = None if seconds else "out of memory"
            done.results.append(
                Result(case.name, 2, entrant, [seconds] if seconds else [], error=failed)
            )
    return done


def test_tables_of_the_sweep():
    done = swept()
    assert sweep.table(done, 2) == [
        "| width | batch 1 | batch 512 |",
        "| ---: | ---: | ---: |",
        "| 8 | 1.50 (torch) | 0.50 (numpy) |",
        "| 64 | 30.00 (numpy) | – |",
    ]
    page = sweep.as_markdown([done])
    assert "**float32, 2 threads**" in page
    assert "- CPU: " in page


def test_tables_of_depths():
    cases = depths.grid([1, 8], [32], ["relu", "gelu"])
    assert cases[1].sizes == (784, *[32] * 8, 10)
    done = Run(cases, ["numpy", "torch", "pynn"], [1], 1, "float32", "float32")
    for case in cases:
        times = (None if case.activation == "gelu" else 9.0, 3.0, 2.0)
        for entrant, seconds in zip(done.entrants, times, strict=True):
            failed = None if seconds else "NumPy has no gelu"
            found = [seconds] if seconds else []
            done.results.append(Result(case.name, 1, entrant, found, error=failed))
    assert depths.table(done, 1, "gelu") == [
        "| hidden layers of gelu | width 32 |",
        "| ---: | ---: |",
        "| 1 | 1.50 (torch) |",
        "| 8 | 1.50 (torch) |",
    ]
    assert "8,192 rows of random floats (26 MB)" in "\n".join(depths.as_markdown(done))


def test_cells_below_one_are_measured_again(monkeypatch):
    done, asked = swept(), []

    def run(cases, entrants, threads, rounds, dtype, source, say):
        asked.append(([case.name for case in cases], entrants, threads, rounds))
        results = [Result("8x512", 2, "numpy", [3.0] * 9), Result("8x512", 2, "pynn", [2.0] * 9)]
        return Run(
            list(cases), entrants, threads, rounds, dtype, source, results,
            idle=0.5, turns=5, repeated=2, disturbed=1,
        )  # fmt: skip

    monkeypatch.setattr(sweep, "run", run)
    done.missing["torch"] = "no such module"
    sweep.again(done, 9)
    assert asked == [(["8x512"], ["numpy", "pynn"], [2], 9)]
    assert sweep.ratios(done, 2) == [[(1.5, "torch"), (1.5, "numpy")], [(30.0, "numpy"), None]]
    assert done.idle == 0.5
    assert (done.turns, done.repeated, done.disturbed) == (5, 2, 1)
    assert "timed again and show 9 rounds" in sweep.as_markdown([done], 9)


def test_results_of_a_dtype_that_is_not_measured_again_are_kept(tmp_path):
    path, done = tmp_path / "sweep.json", swept()
    assert sweep.former(path, []) == []
    path.write_text(json.dumps({"float32": report.as_json(done)}))
    assert sweep.former(path, ["float64"]) == [done]
    assert sweep.former(path, ["float32"]) == []


# --- Turns on processors that are not all there ---------------------------------------------------


class Looks:
    """What two looks at the processors, before a turn and after it, find each time."""

    def __init__(self, found: list[bool]) -> None:
        self.found = iter(found)

    def whole(self) -> bool:
        return next(self.found)


class Diary:
    """A worker whose epochs take 1, 2, 3, ... seconds."""

    name = "diary"
    missing = None

    def __init__(self) -> None:
        self.epochs = 0

    def setup(self, case: Case, data: Path) -> None:
        pass

    def epoch(self) -> tuple[float, float]:
        self.epochs += 1
        return float(self.epochs), 1 / self.epochs


@pytest.mark.parametrize(
    ("looks", "seconds", "repeated", "disturbed"),
    [
        ([True] * 6, [2, 3], 0, 0),
        # The first epoch does not count anyway.
        ([False, True] + [True] * 4, [2, 3], 0, 0),
        ([True, True, True, False, True, True, True, True], [3, 4], 1, 0),
        ([True, True, False, True, True, True, True, False, True, True], [3, 5], 2, 0),
        # As often as there are rounds, and not for ever.
        ([True, True] + [False] * 8, [4, 5], 2, 2),
    ],
)
def test_disturbed_measurements_are_repeated(looks, seconds, repeated, disturbed):
    done = Run([RECIPES["one-layer"]], ["diary"], [2], 2, "float32", "uint8")
    (result,) = runner._turns(
        done, done.cases[0], 2, [Diary()], Looks(looks), Path(), lambda text: None
    )
    assert result.seconds == seconds
    assert result.losses == [1, 1 / 2, 1 / 3]
    assert (done.turns, done.repeated, done.disturbed) == (2, repeated, disturbed)
    (note,) = [note for note in report.notes(done) if "repeated" in note]
    assert (
        f" {repeated} turns were repeated; of the 2 turns that count, {disturbed} were slowed"
        in note
    )
    assert ("warning" in report.head(done)) == (disturbed == 2)


def test_processors_are_compared_with_their_fastest_time(monkeypatch):
    paces = iter([100.0] * 10 + [91.0, 89.0, 200.0, 100.0] + [100.0] * machine.REMEMBERED)
    monkeypatch.setattr(machine.Processors, "pace", lambda self: next(paces))
    processors = machine.Processors(2)
    assert [processors.whole() for _ in range(4)] == [True, False, True, False]
    # A best that is long ago does not count any more.
    assert [processors.whole() for _ in range(machine.REMEMBERED)][-1]


def test_the_slowest_processor_counts(monkeypatch):
    processors = machine.Processors(3)

    class Core:
        paces = iter([30.0, 20.0, 25.0])

        @classmethod
        def peak(cls, dtype: str, seconds: float) -> float:
            return next(cls.paces)

    processors._core = Core
    assert processors.pace() == 20
    processors._core = None
    assert processors.whole()


def test_processors_as_they_are():
    pytest.importorskip("pynn.backends.cython._core")
    assert 0 < machine.Processors(2).pace() < 1e13


# --- Many rows ------------------------------------------------------------------------------------


def test_cost_of_a_sample():
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (70, 30), dtype=np.uint8), rng.integers(0, 10, 70)
    found = [scale.measure(rows, x, y, least=500) for rows in (50, 1000)]
    assert [cost.rows for cost in found] == [50, 1000]
    assert all(cost.sample > 0 for cost in found)
    assert "| 1,000 | " in scale.table(found)[-1]
    assert scale.table([scale.Cost(5, 1.25, None)])[-1] == "| 5 | 1.25 | – |"
    (line,) = scale.draw(found).axes[0].lines
    assert list(line.get_xdata()) == [50, 1000]


def test_heat_map_of_the_sweep():
    pytest.importorskip("matplotlib")
    figure = sweep.draw([swept()])
    (ax,) = figure.axes
    found = {tuple(text.get_position()): text for text in ax.texts}
    assert {place: text.get_text() for place, text in found.items()} == {
        (0, 0): "1.50",
        (1, 0): "0.50",
        (0, 1): "30",
    }
    assert found[0, 1].get_color() == "w"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["8", "64"]
    fast, slow = (ax.images[0].to_rgba(np.array([[v]]))[0, 0] for v in (2.0, 0.5))
    assert fast[2] > fast[0]
    assert slow[0] > slow[2]


@pytest.mark.slow
def test_command_line_of_the_sweep(tmp_path):
    pytest.importorskip("matplotlib")
    files = {name: tmp_path / name for name in ("page.md", "numbers.json", "map.png")}
    line = "-m benchmarks.sweep --widths 8 --batches 64,4 --dtypes float32 --peers numpy"
    wanted = zip(("--markdown", "--json", "--picture"), files.values(), strict=True)
    done = subprocess.run(
        [
            sys.executable,
            *line.split(),
            "--threads",
            "1",
            "--rounds",
            "1",
            "--report",
            str(tmp_path),
        ]
        + [str(part) for pair in wanted for part in pair],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "| width | batch 4 | batch 64 |" in done.stdout
    assert "(numpy)" in files["page.md"].read_text()
    found = json.loads(files["numbers.json"].read_text())["float32"]["results"]
    assert [(r["case"], r["entrant"]) for r in found] == [
        (case, entrant) for case in ("8x4", "8x64") for entrant in ("numpy", "pynn")
    ]
    assert files["map.png"].read_bytes().startswith(b"\x89PNG")
    assert "| width | batch 4 | batch 64 |" in (tmp_path / "performance.md").read_text()
    assert (tmp_path / "sweep.png").exists()
    assert json.loads((tmp_path / "sweep.json").read_text())["float32"]["results"] == found


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--widths", "8,0", "--widths: found '0', expected a whole number of 1 or more"),
        ("--dtypes", "float16", "--dtypes: found 'float16', expected some of float32"),
        ("--peers", "pynn", "--peers: found 'pynn', expected some of numpy"),
        ("--picture", "no/such/folder/file", "--picture: found no folder"),
    ],
)
def test_wrong_options_of_the_sweep_are_named(capsys, option, value, message):
    with pytest.raises(SystemExit):
        sweep.arguments().parse_args([option, value])
    assert message in capsys.readouterr().err


# --- The report -----------------------------------------------------------------------------------


def test_text_around_measurements_is_kept():
    parts = {"tables": ["1 | \\1"], "profile": ["a", "b"]}
    page = performance.fill("# Performance\n\nBefore.\n", parts)
    assert page.startswith(
        "# Performance\n\nBefore.\n\n## Comparison with other libraries\n\n<!-- tables -->\n"
    )
    page = page.replace("## Where", "Between.\n\n## Where") + "\nAfter.\n"
    again = performance.fill(page, parts | {"tables": ["2"]})
    assert again == page.replace("1 | \\1", "2")
    assert performance.fill(again, {"tables": ["2"]}) == again


def profile_of(case: str, threads: int, step: float) -> performance.Profiled:
    phases = ["read", "forward", "loss", "backward", "gradient", "update", "transpose", "wait"]
    seconds = [[0.1, 0.3, 0, 0, 0.2, 0.25, 0, 0.05], [0, 0.05, 0.01, 0.03, 0.01, 0, 0, 0]]
    return performance.Profiled(case, threads, 10, step, phases, seconds, {}, f"table of {case}")


def test_the_model_of_more_cores_is_exact_where_it_was_calibrated():
    d, h = CASES["D"], CASES["H"]
    found = [
        profile_of(case, n, step)
        for case, n, step in [("D", 1, 4e-4), ("D", 2, 2.5e-4), ("H", 1, 3e-5), ("H", 2, 2e-5)]
    ]
    most = performance.Ceilings(1e11, 5e10, 2e10, {2: 1e-7}, {2: (1.9e11, 1.2e11)})
    lines = performance.scaling([d, h], found, most)
    row = next(line for line in lines if line.startswith("| D |"))
    assert row.split(" | ")[1:4] == ["250.0 µs", "250.0 µs", "1.6"]
    # On two cores each reads 8 bytes for each weight of the other's half.
    passing = (2.5e-4 - 2e-4 - 2e-7) / (4 * (784 * 256 + 256 * 128 + 128 * 10))
    want = 1.5e-5 + 4 * 7840 * passing + 2e-7
    row = next(line for line in lines if line.startswith("| H |"))
    assert row.split(" | ")[1] == f"{want * 1e6:.1f} µs"
    assert "two processors" in performance.scaling([h], found[2:], most)[0]


def test_a_case_names_its_bottleneck():
    found = profile_of("D", 2, 2e-4)
    assert performance.bound(found) == (
        "arithmetic of the products (59%), then the optimizer's roots, divisions and memory (25%)"
    )
    most = performance.Ceilings(1e11, 5e10, 2e10, {2: 1e-7}, {2: (1.9e11, 1.2e11)})
    lines = performance.roofline([CASES["D"]], [found], most)
    assert (
        "2 cores at once: 190.0 in float32 in the best of 50 measurements, 120.0 in the worst."
        in lines[0]
    )
    row = next(x for x in lines if "| D |" in x)
    total = 64 * 2 * (3 * (784 * 256 + 256 * 128 + 1280) - 784 * 256)
    assert row.split(" | ")[2:5] == ["200.0", f"{total / 2e-4 / 1e9:.0f}", f"{total / 4e7:.0%}"]


def test_report(tmp_path):
    pytest.importorskip("pynn.backends.cython._core")
    found = performance.profiled(CASES["F"], 1, rounds=1)
    assert found.steps == 625
    assert 0 < sum(map(sum, found.seconds)) <= found.step
    assert found.table.startswith("625 steps of 32 rows")
    most = performance.ceilings([1, 2])
    assert min(most.float32, most.float64, most.copied) > 0
    assert list(most.meeting) == list(most.at_once) == [2]
    best, worst = most.at_once[2]
    assert 0 < worst <= best


def test_an_installed_pynn_is_imported_before_the_source():
    """With ``python -m`` the checkout would come first."""
    program = "import sys; import benchmarks; print(*sys.path, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = done.stdout.splitlines()
    assert found[-1] == str(ROOT)
    assert not {"", str(ROOT)} & set(found[:-1])
