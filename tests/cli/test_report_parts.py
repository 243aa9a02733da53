"""Parts of reports: numbers, sentences, graphics, and pages about several runs."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("PIL")

import pynn
from pynn.cli import pages, report
from pynn.cli.report import classes, numbers, runs, sections, svg, verdict
from pynn.plots.reliability import Calibration
from pynn.plots.style import contrast
from pynn.training.history import History, Record
from tests.cli.command import SMALL, digits, pynn_command
from tests.cli.test_report import Page, read

# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (-2.5, "−2.5"), (31090.4, "31,090"), (0.08692, "0.08692"),
        (0.25, "0.25"), (1e-7, "1 × 10⁻⁷"), (3.2e15, "3.2 × 10¹⁵"), (0.000931, "0.000931"),
        (float("nan"), "not finite"), (None, "–"),
    ],
)  # fmt: skip
def test_numbers_are_written_without_exponents(value, text):
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"), (9e-7, "0.9 µs"), (0.000931, "931 µs"), (0.0009999, "1 ms"),
        (0.0313, "31.3 ms"), (0.9999, "1 s"), (12.34, "12.3 s"), (59.97, "1 min 0 s"),
        (3725.0, "1 h 2 min"), (-1.0, "–"),
    ],
)  # fmt: skip
def test_times_have_a_unit_that_suits_them(value, text):
    assert numbers.seconds(value) == text


def test_shares_are_rounded_to_all_and_none_only_if_they_are():
    shares = (0.0, 1e-9, 0.981234, 1 - 1e-9, 1.0)
    found = [numbers.percent(share) for share in shares]
    assert found == ["0.00 %", "0.01 %", "98.12 %", "99.99 %", "100.00 %"]


# --- What happened --------------------------------------------------------------------------------


def history(loss, validation, accuracy=None, rate=None):
    accuracy = [None] * len(loss) if accuracy is None else accuracy
    rates = [0.1] * len(loss) if rate is None else rate
    rows = zip(loss, validation, accuracy, rates, strict=True)
    return History(
        Record(k, a, None, b, c, learning_rate=r) for k, (a, b, c, r) in enumerate(rows, 1)
    )


def told(*arguments, **more) -> str:
    return " ".join(verdict.epochs(history(*arguments), **more))


def test_a_rising_loss_with_a_rising_accuracy_is_overconfidence():
    text = told([0.2, 0.1, 0.05, 0.002], [0.12, 0.087, 0.09, 0.101], [0.96, 0.9765, 0.98, 0.9848])
    assert "lowest in epoch 2 (0.087), the validation accuracy highest in epoch 4 (98.48 %)" in text
    assert "rose from 0.087 to 0.101, while its accuracy went from 97.65 % to 98.48 %" in text
    assert "overconfident" in text
    assert "overfitted" not in text
    # A few more mistakes are chance.
    text = told([0.2, 0.1, 0.002], [0.12, 0.087, 0.101], [0.96, 0.98, 0.979])
    assert "its accuracy stayed at about 97.90 %" in text


def test_a_rising_loss_with_a_falling_accuracy_is_overfitting():
    text = told([0.5, 0.2, 0.1, 0.05], [0.5, 0.4, 0.5, 0.6], [0.8, 0.85, 0.82, 0.8])
    assert "its accuracy fell from 85.00 % to 80.00 %" in text
    assert "overfitted. --early-stopping 5" in text
    text = told([5.0, 2.0, 1.0], [5.0, 4.0, 6.0])
    assert "rose from 4 to 6, while the training loss kept falling: the network is overf" in text


def test_a_rise_within_its_noise_is_no_overfitting():
    noise = 0.01 * np.random.default_rng(0).normal(size=60)
    falling = 0.2 + 0.5 * np.exp(-np.arange(60) / 4)
    training = falling - 0.1 - 0.001 * np.arange(60)
    flat = falling + noise
    flat[30], flat[-1] = 0.17, 0.2
    text = told(training, flat)
    assert "lowest in epoch 31 (0.17)" in text
    assert "no clear sign of overfitting: from its lowest value, 0.17, to the last, 0.2" in text
    assert "has risen by 18 %, within its noise between epochs" in text
    assert "early-stopping" not in text
    rising = falling + 0.004 * np.maximum(0, np.arange(60) - 20)
    for clear in (rising, rising + noise):
        assert "the network is overfitted" in told(training, clear)
        assert "the network is overfitted" in told(training + 1, clear)
    slight = falling + 0.0007 * np.maximum(0, np.arange(60) - 20)
    assert "the network is overfitted" in told(training, slight)
    # Dropout raises the training loss alone.
    assert "%, but is not above the training loss" in told(training + 1, slight)
    text = told(-training, rising)
    assert "has risen by 75 %, and the training loss has not fallen since" in text


def test_other_ends_of_a_training():
    falling = [1 / k for k in range(1, 11)]
    assert "still falling at the end" in told(falling, falling)
    flat = [1.0, 0.5, *[0.4] * 8]
    assert "has learned what it can" in told(flat, flat)
    assert "has learned little" in told(flat, flat, poor=verdict.poor(False, ["more epochs"]))
    # The lowest loss is near the end, the last is not: nothing that more epochs would mend.
    jumping = [1.0] * 7 + [0.8, 0.6732, 0.7908]
    assert "still falling" not in told(jumping, jumping)
    steep = [10.0] * 7 + [5.0, 0.6732, 0.7908]
    assert "still falling" not in told(steep, steep)
    # Nor does a network that is worse than the mean need more epochs.
    worse = verdict.poor(True, ["another loss", "another learning rate"])
    text = told(falling, falling, poor=worse, worse=True)
    assert "still falling" not in text
    assert text.endswith(
        "need other settings rather than more epochs: another loss and another learning rate may "
        "help."
    )
    rates = [0.1] * 9 + [0.001]
    assert "had fallen to almost 0" in told(flat, flat, None, rates)
    assert "no sign of overfitting" in told([0.1] * 4, [0.8, 0.5, 0.5, 0.5])
    stopped = history([3.0, 2.0, 1.0], [3.0, 1.0, 2.0])
    stopped.restored_epoch = 2
    assert "restored the weights of epoch 2" in verdict.epochs(stopped)[1]
    alone = history([3.0, 1.0], [None, None])
    assert "fell from 3 to 1 in 2 epochs. Without validation rows" in verdict.epochs(alone)[0]
    infinite = told([3.0, 1.0], [np.inf, np.inf])
    assert "The validation loss was never finite" in infinite
    assert "Without validation" not in infinite
    assert verdict.epochs(History()) == ["No complete epoch was trained."]


def test_results_confusions_and_calibration():
    (text,) = verdict.result({"accuracy": 0.5, "loss": 1.0}, 4, "test")
    assert text == "The network classifies 50.00 % of the 4 test rows correctly; 2 are wrong."
    (text,) = verdict.result({"accuracy": 0.5, "loss": 1.0}, 4, "test", 1)
    assert "50.00 % of the weight of the 4 test rows correctly; 1 is wrong." in text
    (text,) = verdict.result({"accuracy": 1.0, "loss": 1.0}, 1, "validation")
    assert "of the 1 validation row correctly; none is wrong." in text
    (text,) = verdict.result({"r2": 0.451, "mae": 43.21}, 88, "validation")
    assert text.startswith("The network explains 45 % of the variance of the 88 validation rows")
    (text,) = verdict.result({"r2": -2.81, "mae": 43.21}, 88, "test")
    assert "worse than the mean of the targets (R² −2.81)" in text
    counts = np.array([[5, 0, 3], [1, 5, 0], [2, 0, 5]])
    assert verdict.confusions(list("abc"), counts) == [
        "Confused most often: a and c (5), a and b (1)."
    ]
    assert verdict.bias(np.zeros(100), np.tile([1.0, 3.0], 50)) == [
        "Predictions are 2 too high on average."
    ]
    assert verdict.bias(np.zeros(100), np.tile([-3.0, 3.0], 50)) == []


def calibrated(probable, right, error) -> str:
    """Return the sentence on rows of which some are right, with these probabilities."""
    probable = np.asarray(probable, float)
    correct = np.arange(len(probable)) < right
    shares = np.array([probable.mean()]), np.array([correct.mean()])
    found = Calibration(*shares, np.array([float(len(probable))]), error, False)
    (text,) = verdict.calibration(found, probable, correct)
    return text


def test_a_gap_of_probabilities_is_compared_with_chance():
    for error, probable, kind in (
        (0.01, 0.98, "well calibrated"),
        (0.02, 0.999, "overconfident"),
        (0.1, 0.8, "underconfident"),
        (0.1, 0.98, "not well calibrated"),
    ):
        assert kind in calibrated(np.full(1000, probable), 980, error)
    # 91.6 % for 94.3 % of 300 rows have a chance of 8 %; of 3,000 rows, none.
    mixed = [0.7, *[0.97] * 4]
    text = calibrated(np.tile(mixed, 60), 283, 0.028)
    assert "as well calibrated as 300 rows can show" in text
    assert "can be chance" in text
    assert "are too low (underconfident)" in calibrated(np.tile(mixed, 600), 2830, 0.028)
    # One mistake of 300 rows where none is expected is chance too; two are not.
    assert "overconf" not in calibrated(np.full(300, 0.9999), 299, 0.0032)
    assert "overconfident" in calibrated(np.full(300, 0.9999), 298, 0.0066)
    # 68.9 % for 59.3 % of 140 rows: less than 3 standard errors, but rare.
    for right, kind in ((85, "probably too high"), (88, "can be chance"), (83, "are too high")):
        gap = abs(0.6889 - right / 140)
        assert kind in calibrated(np.tile([0.5, 0.8778], 70), right, gap)


def test_the_test_of_probabilities_keeps_its_level():
    """Exact probabilities are called wrong in no more than 5 % of cases."""
    rng = np.random.default_rng(0)
    for p in (rng.uniform(0.4, 1, 140), np.full(60, 0.99), rng.uniform(0.97, 1, 2000)):
        drawn = rng.random((800, len(p))) < p
        chances = np.array([verdict._chance(p, right) for right in drawn])
        for level in (0.05, 0.01):
            assert (chances <= level).mean() <= level + 3 * np.sqrt(level / 800)


def test_rankings_and_recalls_tell_what_was_learned():
    """A network that finds rows of a rare class may have a lower accuracy than none."""
    balanced = np.array([[540, 48], [5, 7]])
    nothing = np.array([[48, 0], [32, 0]])
    for counts, area, is_poor in (
        (balanced, 0.92, False), (balanced, np.nan, False), (nothing, 0.5, True),
        (nothing, 0.8, False), (nothing, np.nan, True), (np.diag([9, 0]), np.nan, False),
    ):  # fmt: skip
        found = SimpleNamespace(values={"accuracy": 0.5}, counts=counts, auc=area)
        assert sections._is_poor(found) is is_poor
    assert sections._is_poor(SimpleNamespace(values={"r2": -0.1}))
    assert not sections._is_poor(SimpleNamespace(values={"r2": 0.1}))


def test_remedies_leave_out_what_the_network_has():
    def advice(kind: str, **options: object) -> str:
        net = pynn.Network([3, 1], backend="numpy", **options)
        found = SimpleNamespace(net=net, kind=kind)
        assert "more epochs" not in sections._remedies(found, worse=True)
        return ", ".join(sections._remedies(found, worse=False))

    both = "another learning rate (--find-learning-rate), more epochs"
    given = {"loss": "mse", "standardize": True, "standardize_targets": True}
    assert advice("values", **given) == both
    assert advice("labels", loss="binary_cross_entropy", standardize=True) == both
    assert advice("values", loss="mse") == (
        f"standardised inputs (--standardize), standardised targets (--standardize-targets), {both}"
    )
    assert advice("values", loss="gamma", standardize=True) == (
        f"another loss (--loss mse --standardize-targets), {both}"
    )


def test_an_accuracy_is_compared_with_the_most_frequent_class():
    counts = np.array([[1178, 2], [18, 2]])
    told = verdict.gain(1180 / 1200, ("0", 1180 / 1200), ["0", "1"], counts)
    assert told == [
        "The most frequent class alone, 0 for every row, would be right in 98.33 %, as often as "
        "the network.",
        "Of the 20 rows of class 1, 10.00 % are found (recall).",
    ]
    # Half of the mistakes are avoided, and most rows of all classes found.
    assert verdict.gain(0.9, ("0", 0.8), ["0", "1"], np.array([[76, 4], [6, 14]])) == []
    told = verdict.gain(0.82, ("0", 0.8), ["0", "1"], np.array([[70, 10], [8, 12]]))
    assert told == ["The most frequent class alone, 0 for every row, would be right in 80.00 %."]
    counts = np.array([[5, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert "of 1 other class less than half" in verdict.gain(5 / 7, ("a", 5 / 7), "abc", counts)[1]
    assert verdict.gain(1.0, ("a", 1.0), "ab", np.array([[4, 0], [0, 0]])) == []


# --- Graphics -------------------------------------------------------------------------------------


def test_ticks_lie_around_the_values():
    for low, high in ((0, 1), (0.0003, 0.002), (-7, 31090), (5, 5), (0, 0), (-1e9, 1e9)):
        ticks = svg.nice_ticks(low, high)
        assert 2 <= len(ticks) <= 7
        assert ticks[0] <= low
        assert ticks[-1] >= high
    assert svg.log_ticks(0.02, 3.0) == [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    "y", [[1.0], [1.0, np.nan, 2.0], [np.nan, 3.0], [1e-8, 1e8], [0.0, 0.0], list(range(5000))]
)
def test_curves_stay_within_their_box(y):
    curve = svg.Curve("<a>", list(range(1, len(y) + 1)), np.array(y, float), "--blue", "6 3", 0)
    drawn = svg.curves([curve], "loss", [svg.Mark(1, None, "here")])
    Page(drawn)
    for path in re.findall(r'class="curve[^"]*"[^>]* d="([^"]*)"', drawn.partition("</svg>")[0]):
        places = np.array([p.split() for p in re.split("[ML]", path)[1:]], float)
        assert (places >= [svg.LEFT - 1, svg.TOP - 1]).all()
        assert (places <= [svg.WIDTH - svg.RIGHT + 1, svg.HEIGHT - svg.BOTTOM + 1]).all()
    assert "&lt;a&gt;" in drawn
    assert svg.curves([svg.Curve("a", [1], np.array([np.nan]), "--blue")], "loss").startswith("<p")


def test_numbers_of_the_matrix_are_readable_in_both_themes():
    style = (report.html._file("style.css")).replace(" ", "")
    for page in classes._PAGE_LIGHT, classes._PAGE_DARK:
        for color in page:
            assert color in style
        for right in False, True:
            for level in np.linspace(0, 1, 50):
                paper, full = classes._rgb(page[0]), classes._rgb(page[1 if right else 2])
                mixed = [a + (b - a) * level for a, b in zip(paper, full)]
                ink = 0.0 if classes._text_color(page, right, level) == "#000" else 1.0
                assert contrast(mixed, [ink] * 3) >= 4.5
        assert contrast(classes._rgb(page[0]), classes._rgb(page[3])) >= 4.5


# --- Several runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A folder with a run of labels, one of values, and one that was killed."""
    folder = tmp_path_factory.mktemp("several")
    x, y = digits(80, 0)
    np.savez(folder / "labels.npz", x=x, y=y)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    np.savez(folder / "values.npz", x=x, y=(x @ [0.5, -1, 0.25]).astype(np.float32))
    for name, options in (
        ("labels", ["--epochs", 3]),
        ("values", ["--loss", "mse", "--epochs", 2, "--learning-rate", 0.01]),
    ):
        data = ["--data", folder / f"{name}.npz", "--run", folder / "runs" / name]
        pynn_command("train", *SMALL, *data, *options)
    (folder / "runs" / "killed").mkdir()
    net = pynn.Network([3, 4, 1], loss="mse", backend="numpy")
    path = folder / "runs" / "killed" / "checkpoint.safetensors"
    net.fit(
        x,
        x[:, 0],
        epochs=4,
        progress=False,
        checkpoint=pynn.Checkpoint(path, epochs=1),
        validation=0.2,
    )
    return folder / "runs"


def test_a_run_that_was_killed_is_shown_from_its_checkpoint(several):
    page = read(report.write(several / "killed"))
    assert "has not ended, or was ended by force" in page.words
    assert "after 4 complete epochs" in page.words
    assert page.headings == ["What happened", "Learning curves", "Timings", "Settings", "Machine"]
    assert page.pairs["network"] == "3-4-1"


def test_an_index_of_a_folder_of_runs(several, tmp_path):
    copy = shutil.copytree(several, tmp_path / "runs")
    out = pynn_command("report", copy)
    assert out.splitlines()[-1] == f"report    {copy / 'index.html'}"
    assert all((copy / name / "report.html").is_file() for name in ("labels", "values", "killed"))
    page = read(copy / "index.html")
    assert sorted(page.links) == [
        f"./{name}/report.html" for name in ("killed", "labels", "values")
    ]
    rows = {row[0]: row for row in page.tables[0][1:]}
    assert [rows[name][3] for name in ("labels", "values", "killed")] == [
        "ended", "ended", "unfinished"
    ]  # fmt: skip
    assert rows["labels"][7].endswith("% validation accuracy")
    assert rows["values"][4] == "2"
    # Pages that are newer than their runs are left as they are.
    (copy / "labels" / "report.html").write_text("mine")
    pynn_command("report", copy)
    assert (copy / "labels" / "report.html").read_text() == "mine"
    # Runs that cannot be read are named, and the others shown.
    (copy / "values" / "settings.json").write_text("[]")
    out = pynn_command("report", copy)
    assert "values: found settings of another kind" in out
    page = read(copy / "index.html")
    assert len(page.tables[0]) == 3
    assert "values: found settings of another kind" in page.words


def test_a_comparison_shows_results_curves_and_different_settings(several, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [several / name for name in ("labels", "values", "killed")]
    opened = []
    monkeypatch.setattr(pages.typer, "launch", opened.append)
    assert pynn_command("report", *names, "--open") == "report    comparison.html\n"
    assert opened == [(tmp_path / "comparison.html").as_uri()]
    page = read(tmp_path / "comparison.html")
    results, settings = page.tables
    assert results[0] == ["", "labels", "values", "killed"]
    assert results[1] == ["state", "ended", "ended", "unfinished"]
    shown = {row[0]: row[1:] for row in settings[1:]}
    assert shown["learning rate"] == ["0.002", "0.01", "–"]
    assert "dropout" not in shown
    assert "Loss, validation" in page.words
    assert "Accuracy, training" in page.words


def test_runs_with_equal_names_are_told_apart(several, tmp_path):
    other = shutil.copytree(several / "labels", tmp_path / "labels")
    page = Page(runs.comparison([runs.entry(several / "labels"), runs.entry(other)]))
    assert page.tables[0][0][1:] == [str(several / "labels"), str(other)]
    assert "All known settings are equal." in page.words


@pytest.mark.parametrize("part", ["options", "data", "result", "environment"])
def test_settings_of_another_kind_are_refused(several, tmp_path, part):
    copy = shutil.copytree(several / "labels", tmp_path / "labels")
    settings = json.loads((copy / "settings.json").read_text())
    (copy / "settings.json").write_text(json.dumps(settings | {part: [1]}))
    with pytest.raises(ValueError, match=f"found {part} of another kind"):
        runs.entry(copy)
