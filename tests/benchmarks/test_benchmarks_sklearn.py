"""The benchmark against scikit-learn compares equal work, and its report says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")

from threadpoolctl import threadpool_limits

from benchmarks import scikit_learn as bench
from benchmarks.scikit_learn import CASES, Case, Result, Run, Served, quick

ROOT = Path(__file__).resolve().parents[2]


def result(case="digits", threads=1, dtype="float64", mine=None, **fields):
    theirs = {"loss_": 0.25, "n_iter_": 130}
    return Result(
        case,
        CASES[case].title,
        threads,
        dtype,
        {"scikit-learn": [3.0, 2.0, 9.0], "pynn": [0.5, 0.4, 0.1]},
        {"scikit-learn": theirs, "pynn": {**theirs, **(mine or {})}},
        **fields,
    )


def finished(*results):
    versions = {"scikit-learn": "1.9.1", "pynn": "0.1.0", "ISA of pynn": "avx512"}
    return Run(3, 2000, list(results), versions, 0.0015)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", bench.DTYPES)
@pytest.mark.parametrize("name", ["digits", "table", "grid", "row-breast-cancer"])
def test_pynn_and_scikit_learn_do_the_same_work(name, dtype):
    case = quick(CASES[name])
    done = Result(name, case.title, 1, dtype)
    with threadpool_limits(1):
        for entrant in bench.ENTRANTS:
            served = Served(1, entrant, dtype)
            served.setup({"case": json.loads(json.dumps(asdict(case)))})
            assert served.x.dtype == dtype
            found = served.turn()
            assert found["seconds"] > 0
            done.reached[entrant] = found["reached"]
    same, words = bench.agreement(done)
    assert same, words
    assert done.reached["pynn"]["n_iter_"] == bench.QUICK_EPOCHS


def test_rows_come_from_the_data_sets_in_their_dtype():
    for data, rows, columns, classes in [
        ("mnist", 50, 784, 10),
        ("digits", 1797, 64, 10),
        ("breast-cancer", 569, 30, 2),
        ("table", 20_000, 20, 2),
    ]:
        x, y = bench.rows_of(data, rows, "float32")
        assert x.shape == (rows, columns)
        assert x.dtype == np.float32
        assert np.array_equal(np.unique(y), np.arange(classes))
    x, _ = bench.rows_of("mnist", 50, "float64")
    assert x.dtype == np.float64
    assert (x.min(), x.max()) == (0, 1)


def test_cases_are_named_in_a_few_words():
    assert CASES["mnist"].title == "MNIST, 60,000 × 784, at most 5 epochs"
    assert CASES["digits"].title == "digits, 1,797 × 64"
    title = "table, 20,000 × 20, hidden (64, 64), at most 20 epochs"
    assert CASES["table"].title == title
    title = "grid search, 8 points × 3 folds, digits, 1,797 × 64, at most 50 epochs, n_jobs = "
    assert CASES["grid"].title == title + "1"
    assert CASES["grid-jobs"].title == title + "threads"
    assert CASES["row-mnist"].title == "predict_proba of one row: MNIST, 784 features"
    small = quick(CASES["table"])
    assert small == Case(
        "table", "table", 300, {**CASES["table"].settings, "max_iter": 5}, "fit", 100
    )


@pytest.mark.parametrize(
    ("dtype", "mine", "same", "words"),
    [
        ("float64", {}, True, "loss_ 0.25 (0e+00), n_iter_ 130"),
        ("float64", {"loss_": 0.25 * (1 + 1e-9)}, True, "loss_ 0.25 (1e-09), n_iter_ 130"),
        ("float64", {"loss_": 0.25001}, False, "NOT THE SAME: loss_ 0.25 and 0.25001 (4e-05), "),
        ("float32", {"loss_": 0.25001}, True, "loss_ 0.25 (4e-05), n_iter_ 130"),
        ("float32", {"loss_": 0.26}, False, "NOT THE SAME: loss_ 0.25 and 0.26 (4e-02), "),
        (
            "float32",
            {"n_iter_": 131},
            False,
            "NOT THE SAME: loss_ 0.25 (0e+00), n_iter_ 130 and 131",
        ),
        ("float32", {"loss_": float("nan")}, False, "NOT THE SAME: loss_ 0.25 and nan (nan), "),
    ],
)
def test_agreement_compares_results_in_words(dtype, mine, same, words):
    found = bench.agreement(result(dtype=dtype, mine=mine))
    assert found[0] is same
    assert found[1].startswith(words)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1234.5, "1,234 s"),
        (2.0, "2.00 s"),
        (0.5, "500 ms"),
        (0.012345, "12.3 ms"),
        (1.5e-4, "150 µs"),
        (8.765e-6, "8.77 µs"),
        (2e-8, "0.02 µs"),
    ],
)
def test_times_have_a_unit(seconds, words):
    assert bench.duration(seconds) == words


def test_tables_hold_the_results():
    failed = result("mnist", error="Traceback:\n  File\nMemoryError: no room\n")
    failed.seconds = {"scikit-learn": [], "pynn": []}
    done = finished(result(), failed, result(threads=2), result("grid-jobs", 2))
    assert done.results[0].ratio == 3 / 0.4
    assert bench.times(done.results[:2]) == [
        ["case", "scikit-learn", "pynn", "ratio", "results of both (relative difference)"],
        ["digits, 1,797 × 64", "3.00 s", "400 ms", "7.5", "loss_ 0.25 (0e+00), n_iter_ 130"],
        [CASES["mnist"].title, "failed", "failed", "–", "MemoryError: no room"],
    ]
    assert bench.ratios(done) == [
        ["scikit-learn's time / pynn's", "1 thread, float64", "2 threads, float64"],
        [CASES["mnist"].title, "–", "–"],
        [CASES["digits"].title, "7.5", "7.5"],
        [CASES["grid-jobs"].title, "–", "7.5"],
    ]


def test_the_report_names_the_machine():
    done = finished(result(), result("row-digits", 2, "float32"))
    for markdown in (False, True):
        text = "\n".join(bench.report(done, markdown))
        assert ("| digits, 1,797 × 64 | 3.00 s | 400 ms | 7.5 |" in text) is markdown
        for words in (
            "CPU: ",
            "versions: scikit-learn 1.9.1, pynn 0.1.0\n",
            "ISA of pynn: avx512\n",
            "threads: 1, 2\n",
            "medians of 3 rounds",
            "the other used at most 1.5 ms of processor time",
            "medians of 2,000 calls",
        ):
            assert words in text
        assert "n_jobs" not in text
        assert "breast cancer" not in text
        assert text.index("1 thread, float64") < text.index("2 threads, float32")


def test_threads_that_slow_scikit_learn_down_are_noted():
    fast, slow, row = result(), result(threads=2), result("row-digits", 2)
    assert "slower than with 1 thread" not in "".join(bench.notes(finished(fast, slow, row)))
    fast.seconds["scikit-learn"] = [2.9]
    words = (
        "In these cases scikit-learn itself is slower than with 1 thread: "
        "digits, 1,797 × 64 (2 threads, float64)."
    )
    assert words in bench.notes(finished(fast, slow, row))


def test_text_outside_the_marks_is_kept():
    page = "before\n<!-- table -->\nold\n<!-- /table -->\nafter\n"
    fresh = "before\n<!-- table -->\n| a |\n| b |\n<!-- /table -->\nafter\n"
    assert bench.between(page, ["| a |", "| b |"]) == fresh
    assert bench.between(fresh, ["| a |", "| b |"]) == fresh
    for wrong in ("", "<!-- table -->\n", "<!-- /table -->\n<!-- table -->\n", page + page):
        with pytest.raises(ValueError, match="found no single <!-- table -->"):
            bench.between(wrong, [])


def test_the_page_in_docs_has_the_marks():
    bench.between((ROOT / "docs" / "how-to" / "scikit-learn.md").read_text(encoding="utf-8"), [])


@pytest.mark.parametrize("equal", [True, False])
def test_unequal_work_is_a_failure(tmp_path, monkeypatch, capsys, equal):
    done = finished(result(mine={} if equal else {"n_iter_": 7}))
    monkeypatch.setattr(bench, "run", lambda *settings: done)
    monkeypatch.setattr(sys, "argv", ["benchmarks.scikit_learn"])
    assert bench.main() == (0 if equal else 1)
    assert ("NOT THE SAME" in capsys.readouterr().out) is not equal


def test_command_line(tmp_path):
    page, numbers = tmp_path / "page.md", tmp_path / "numbers.json"
    page.write_text("above\n<!-- table -->\n<!-- /table -->\nbelow\n", encoding="utf-8")
    options = "-m benchmarks.scikit_learn --quick --cases digits --threads 1 --dtypes float64"
    done = subprocess.run(
        [sys.executable, *options.split(), "--markdown", page, "--json", numbers],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "digits, 300 × 64, at most 5 epochs" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert text.startswith("above\n<!-- table -->\n- date: ")
    assert text.endswith("\n<!-- /table -->\nbelow\n")
    assert "| digits, 300 × 64, at most 5 epochs |" in text
    found = json.loads(numbers.read_text(encoding="utf-8"))
    assert found["machine"]["CPU"]
    assert set(found["versions"]) > {"scikit-learn", "pynn", "numpy", "ISA of pynn"}
    (only,) = found["results"]
    assert (only["case"], only["threads"], only["dtype"]) == ("digits", 1, "float64")
    assert only["error"] is None
    for entrant in bench.ENTRANTS:
        assert len(only["seconds"][entrant]) == 1
        assert only["seconds"][entrant][0] > 0
        assert only["reached"][entrant]["n_iter_"] == 5


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--cases", "digits,iris", "--cases: found 'iris', expected some of mnist, digits"),
        ("--dtypes", "float16", "--dtypes: found 'float16', expected some of float32, float64"),
        ("--threads", "0", "--threads: found '0', expected a whole number of 1 or more"),
        ("--markdown", "README.md", "README.md: found no single <!-- table --> … <!-- /table -->"),
        ("--markdown", "no-such-page.md", "no-such-page.md"),
        ("--json", "no/such/folder/file", "--json: found no folder"),
    ],
)
def test_wrong_options_are_named(capsys, monkeypatch, option, value, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        bench.arguments().parse_args([option, value])
    assert message in capsys.readouterr().err
