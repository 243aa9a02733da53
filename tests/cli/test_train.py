"""``pynn train`` on small data."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from pynn.cli import folder as run_folder
from pynn.cli import output, train
from pynn.cli.options import parse_spec
from pynn.spec import optimizers, schedules
from pynn.spec.losses import LOSSES, as_loss

pytest.importorskip("typer")
pytest.importorskip("PIL")
from PIL import Image

import pynn
from tests.cli.command import SMALL, digits, pynn_command, results


def test_train_writes_all_of_a_run(folder, tmp_path):
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    options = [o for o in SMALL if o != "--no-pictures"]
    out = pynn_command("train", *options, "--data", folder, "--epochs", 3, run)

    pictures = ["learning_curve", "confusion_matrix", "predictions", "mistakes", "first_layer"]
    names = {f"{name}.png" for name in pictures}
    names |= {"model.safetensors", "history.json", "settings.json"}
    assert {path.name for path in run.iterdir()} == names
    assert names | {"learning_rates.png", "regression.png"} == set(run_folder.WRITTEN)
    for name in pictures:
        with Image.open(run / f"{name}.png") as image:
            assert min(image.size) > 200

    net = pynn.load(run / "model.safetensors", backend="numpy")
    (x, y), (x_test, y_test) = digits(300, 300), digits(60, 60)
    accuracy = net.evaluate(x_test, y_test)["accuracy"]
    assert results(out)[-1] == f"test accuracy {100 * accuracy:.2f} %"
    assert "784-8-3, relu, softmax, cross_entropy" in out
    assert "270 rows to train, 30 to validate, 60 to test" in out
    assert str(run) in out
    assert len(re.findall(r"epoch \d/3  loss .* validation", out)) == 3

    # Results identical to the library.
    same = pynn.Network([784, 8, 3], backend="numpy")
    history = same.fit(
        x, y, epochs=3, learning_rate=LEARNING_RATE, schedule="one_cycle", validation=0.1
    )
    np.testing.assert_array_equal(net.parameters, same.parameters)
    written = json.loads((run / "history.json").read_text())
    assert written["validation_loss"] == history.validation_loss

    settings = json.loads((run / "settings.json").read_text())
    assert settings["options"]["epochs"] == 3
    assert settings["seed"] == 0
    assert settings["sizes"] == [784, 8, 3]
    assert settings["environment"]["numpy"] == np.__version__
    assert settings["environment"]["cpu"]
    assert settings["result"]["test_accuracy"] == accuracy
    assert settings["result"]["interrupted"] is False
    assert len(settings["data"]["sha256"]) == 64


LEARNING_RATE = inspect.signature(train.train).parameters["learning_rate"].default


def test_metrics_are_in_the_results_of_a_run(folder, tmp_path):
    run = tmp_path / "run"
    small = [*SMALL, "--data", folder]
    options = "--metrics auc,f1 --training-metrics --epochs 3 --early-stopping 9 --monitor val_auc"
    out = pynn_command("train", *small, *options.split(), run)
    found = pynn.load(run / "model.safetensors", backend="numpy").evaluate(
        *digits(60, 60), metrics=["auc", "f1"]
    )
    assert len(re.findall(r"epoch \d/3 .*validation auc \S+  validation f1 .*  auc ", out)) == 3
    lines = [f"test {name.upper()} {found[name]:.6g}" for name in ("auc", "f1")]
    assert results(out)[-3:-1] == lines
    written = json.loads((run / "history.json").read_text())
    assert {"validation_auc", "validation_f1", "auc", "f1"} < set(written)
    settings = json.loads((run / "settings.json").read_text())
    assert settings["result"]["test_f1"] == found["f1"]

    command = ["evaluate", run, "--data", folder, "--backend", "numpy"]
    assert pynn_command(*command).splitlines()[-3:-1] == lines
    assert "test log loss" in pynn_command(*command, "--metrics", "log_loss")
    last = pynn_command(*command, "--metrics", "none").splitlines()[-3:]
    assert [line.split()[:2] for line in last][1:] == [["test", "loss"], ["test", "accuracy"]]
    assert last[0].startswith("data")

    if importlib.util.find_spec("matplotlib"):
        pynn_command("report", run)
        page = (run / "report.html").read_text("utf-8")
        assert page.count("AUC of each epoch") == page.count("F1 of each epoch") == 1
        assert "<span>test AUC</span>" in page

    # Without validation, metrics are those of the result, and still checked before the training.
    new = [tmp_path / "new", "--validation", 0, "--epochs", 1]
    out = pynn_command("train", *small, *new, "--metrics", "mae", code=1)
    assert "pynn: --metrics: found 'mae' for classes" in out
    assert "test brier" in pynn_command("train", *small, *new, "--metrics", "brier")


def test_classes_are_weighted(folder, tmp_path):
    small = [*SMALL, "--data", folder, "--validation", 0]
    losses = []
    for k, options in enumerate(([], ["--class-weight", "balanced"])):
        run = tmp_path / str(k)
        pynn_command("train", *small, *options, run)
        losses.append(json.loads((run / "history.json").read_text())["loss"])
    assert losses[0] != losses[1]
    weights = 300 / 3 / np.bincount(digits(300, 300)[1])
    text = ",".join(f"{label}={weight}" for label, weight in enumerate(weights))
    pynn_command("train", *small, "--class-weight", text, tmp_path / "2")
    losses.append(json.loads((tmp_path / "2" / "history.json").read_text())["loss"])
    assert losses[2] == pytest.approx(losses[1], rel=1e-6)
    options = ["--class-weight", "0=1,3=2", tmp_path / "new"]
    assert "pynn: --class-weight: found the label '3', expected 0, 1, 2" in (
        pynn_command("train", *small, *options, code=1)
    )
    options = ["--class-weight", "even", tmp_path / "new"]
    assert "pynn: --class-weight: found 'even', expected None, 'balanced' or a dict" in (
        pynn_command("train", *small, *options, code=1)
    )


def test_lbfgs_trains_on_all_rows(folder, tmp_path):
    pytest.importorskip("scipy")
    run = tmp_path / "run"
    small = [option for option in SMALL if option not in ("--dropout", "0")]
    given = [*small, "--data", folder, "--optimizer", "lbfgs:memory=5", "--epochs", 3, run]
    out = pynn_command("train", *given, "--validation", 0)
    assert "training  3 iterations, all rows, lbfgs:memory=5, l2 0, seed 0" in out
    net = pynn.Network([784, 8, 3], backend="numpy")
    net.fit(*digits(300, 300), optimizer=pynn.LBFGS(5), epochs=3, progress=False)
    found = pynn.load(run / "model.safetensors", backend="numpy")
    np.testing.assert_array_equal(found.parameters, net.parameters)
    given[-1] = tmp_path / "other"
    assert "found 'lbfgs' with dropout, expected" in (
        pynn_command("train", *given, "--dropout", 0.1, code=1)
    )
    assert "found 'lbfgs', which has no learning rate" in (
        pynn_command("train", *given, "--find-learning-rate", code=1)
    )
    assert not given[-1].exists()


def test_the_learning_rate_is_found(folder, tmp_path):
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    given = [*SMALL, "--data", folder, "--epochs", 2, "--find-learning-rate", run]
    out = pynn_command("train", *given, "--pictures", "--validation", 0)
    same = pynn.Network([784, 8, 3], backend="numpy")
    found = same.find_learning_rate(*digits(300, 300))
    assert f"learning rate {found.suggestion:g} (from a range test)" in out
    with Image.open(run / "learning_rates.png") as image:
        assert min(image.size) > 200
    settings = json.loads((run / "settings.json").read_text())
    assert settings["range_test"] == found.to_dict()
    assert settings["options"]["learning_rate"] == found.suggestion
    same.fit(*digits(300, 300), epochs=2, learning_rate=found.suggestion, schedule="one_cycle")
    net = pynn.load(run / "model.safetensors", backend="numpy")
    np.testing.assert_array_equal(net.parameters, same.parameters)
    given[-1] = tmp_path / "other"
    assert "--find-learning-rate: found --learning-rate as well" in (
        pynn_command("train", *given, "--learning-rate", 0.1, code=1)
    )


def test_missing_targets_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3)).astype(np.float32)
    y = np.where(rng.random((80, 2)) < 0.3, np.nan, x[:, :2])
    np.savez(tmp_path / "data.npz", x=x, y=y)
    given = ["--data", tmp_path / "data.npz", "--loss", "mse", "--regression", "--metrics", "mae"]
    given += [tmp_path / "run", "--validation", 0.2, "--no-pictures", "--plain"]
    given += ["--backend", "numpy", "--hidden", "4", "--epochs", 2]
    assert "found nan at row" in pynn_command("train", *given, code=1)
    out = pynn_command("train", *given, "--missing-targets", "ignore")
    assert re.search(r"validation loss \S+  mae ", out)
    out = pynn_command("evaluate", tmp_path / "run", "--backend", "numpy")
    assert re.search(r"^MAE \d", out, re.M)


def test_every_option_of_the_library_is_reachable():
    known = set(inspect.signature(train.train).parameters)
    elsewhere = {
        "sizes": "hidden",
        "callbacks": "early_stopping",
        "progress": "plain",
    }
    for function in pynn.Network, pynn.Network.fit:
        for name in inspect.signature(function).parameters:
            if name not in ("self", "x", "y", "sample_weight"):
                assert elsewhere.get(name, name) in known, name


def test_options_reach_the_library(folder, tmp_path):
    run = tmp_path / "run"
    options = (
        "--hidden 6,5,5 --activation leaky_relu:slope=0.2,silu,tanh --dropout 0.1,0.3,0 "
        "--norm layer,none,rms:epsilon=0.1 --norm-after --residual "
        "--init lecun_normal --loss mse "
        "--output softplus:beta=2 --dtype float64 --seed 7 --optimizer adam:beta2=0.9,epsilon=1e-6 "
        "--schedule step:every=2,factor=0.5 --learning-rate 0.01 --l2 0.001 --batch-size full "
        "--label-smoothing 0 --epochs 5 --no-shuffle --validation 0 --ema 0.9 "
        "--input-dropout 0.1 --input-noise 0.2 --hidden-noise 0.3,0,0.1"
    )
    out = pynn_command("train", *SMALL, "--data", folder, run, *options.split())
    (x, y) = digits(300, 300)
    net = pynn.Network(
        [784, 6, 5, 5, 3],
        activation=[pynn.LeakyReLU(0.2), "silu", "tanh"],
        dropout=[0.1, 0.3, 0],
        norm=["layer", None, pynn.RMSNorm(0.1)],
        norm_after=True,
        residual=True,
        input_dropout=0.1,
        input_noise=0.2,
        hidden_noise=[0.3, 0, 0.1],
        init="lecun_normal",
        loss="mse",
        output=pynn.Softplus(2),
        dtype="float64",
        seed=7,
        backend="numpy",
    )
    net.fit(
        x,
        y,
        optimizer=pynn.Adam(beta2=0.9, epsilon=1e-6),
        schedule=pynn.StepDecay(every=2, factor=0.5),
        learning_rate=0.01,
        l2=0.001,
        ema=0.9,
        batch_size="full",
        epochs=5,
        shuffle=False,
    )
    found = pynn.load(run / "model.safetensors", backend="numpy")
    assert found.architecture == net.architecture
    np.testing.assert_array_equal(found.parameters, net.parameters)
    np.testing.assert_array_equal(found.average, net.average)
    assert "noise 0.3/0/0.1" in out
    assert "300 rows to train, 60 to test" in out


def test_the_precision_option_reaches_the_model(folder, tmp_path):
    options = [*SMALL, "--data", folder, "--epochs", 1, "--precision"]
    out = pynn_command("train", *options, "bf16", tmp_path / "run")
    assert "float32, bf16" in out
    found = pynn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
    assert found.architecture.precision == "bf16"
    out = pynn_command("train", *options, "bf16", "--dtype", "float64", code=1)
    assert "pynn: --precision: found 'bf16' with dtype float64" in out


def test_no_hidden_layer(folder, tmp_path):
    run = tmp_path / "run"
    pynn_command("train", *SMALL, "--data", folder, run, "--hidden", "none", "--epochs", 1)
    assert pynn.load(run / "model.safetensors", backend="numpy").sizes == (784, 3)


@pytest.mark.parametrize(
    ("text", "kinds", "expected"),
    [
        ("adam", optimizers.OPTIMIZERS, pynn.Adam()),
        ("momentum:momentum=0.5", optimizers.OPTIMIZERS, pynn.Momentum(0.5)),
        (
            "adamw: beta1=0.8, weight-decay=0.1",
            optimizers.OPTIMIZERS,
            pynn.AdamW(0.8, weight_decay=0.1),
        ),
        ("one-cycle:warmup=0.2", schedules.SCHEDULES, pynn.OneCycle(warmup=0.2)),
        (
            "warm_up:epochs=2,after=step:every=5,factor=0.5",
            schedules.SCHEDULES,
            pynn.WarmUp(2, pynn.StepDecay(5, 0.5)),
        ),
        (
            "reduce-on-plateau:monitor=val_auc,patience=3,factor=0.5",
            schedules.SCHEDULES,
            pynn.ReduceOnPlateau("val_auc", 0.5, 3),
        ),
    ],
)
def test_names_with_parameters(text, kinds, expected):
    assert parse_spec("option", text, kinds) == expected


def test_losses_with_parameters():
    for text, expected in {
        "mae": "mae",
        "huber:delta=2": pynn.Huber(2.0),
        "quantile:q=0.1/0.5/0.9": pynn.Quantile([0.1, 0.5, 0.9]),
        "focal:gamma=1.5,alpha=0.3": pynn.Focal(1.5, 0.3),
        "log-cosh": "log_cosh",
    }.items():
        assert parse_spec("loss", text, LOSSES) == as_loss(expected)


def test_quantiles_and_hinges_from_training_to_prediction(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 64)).astype("f4"), rng.random(60)
    np.savez(tmp_path / "v.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y > 0.5, x_test=x, y_test=y > 0.5)
    Image.fromarray((255 * rng.random((8, 8))).astype(np.uint8)).save(tmp_path / "x.png")
    for data, loss, columns in (("v", "quantile:q=0.2/0.8", 2), ("c", "hinge", 1)):
        run = tmp_path / data
        pynn_command(
            *("train", *SMALL, "--data", tmp_path / f"{data}.npz", run, "--epochs", 1),
            *("--loss", loss, "--pixels", "--pictures"),
        )
        assert "test loss" in pynn_command("evaluate", run, "--backend", "numpy").replace("\n", " ")
        pynn_command("report", run)
        out = pynn_command("predict", run, tmp_path / "x.png", "--raw", "--backend", "numpy")
        assert len(out.split()) == 1 + columns


def test_without_a_test_set_the_result_is_that_of_the_rows_held_out(tmp_path):
    x, y = digits(200, 1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    run = tmp_path / "run"
    out = pynn_command(
        "train", *SMALL, "--data", tmp_path / "data.npz", run, "--epochs", 2,
        "--validation", 0.25, "--seed", 5,
    )  # fmt: skip
    net = pynn.Network([784, 8, 3], backend="numpy", seed=5)
    history = net.fit(
        x, y, epochs=2, learning_rate=LEARNING_RATE, schedule="one_cycle", validation=0.25
    )
    found = pynn.load(run / "model.safetensors", backend="numpy")
    np.testing.assert_array_equal(found.parameters, net.parameters)
    last = f"validation accuracy {100 * history[-1].validation_accuracy:.2f} %"
    assert results(out)[-1] == last
    assert "150 rows to train, 50 to validate" in out


@pytest.mark.parametrize("options", [(), ("--no-stratify",), ("--resume",)])
def test_a_run_is_read_with_the_rows_that_it_held_out(tmp_path, monkeypatch, options):
    # A run that earlier versions began goes on with its own rows.
    monkeypatch.setattr(train.folders, "is_older_split", lambda folder: True)
    x, y = digits(90, 1)
    x, y = x[np.argsort(y)][:70], np.sort(y)[:70]
    np.savez(tmp_path / "data.npz", x=x, y=y)
    run = tmp_path / "run"
    command = ["train", *SMALL, "--data", tmp_path / "data.npz", run, "--epochs", 1]
    pynn_command(*command, "--validation", 0.3, *options)
    found = run_folder.read(run)
    result = found.net.evaluate(*found.test)
    assert found.settings["result"]["validation_loss"] == pytest.approx(result["loss"], rel=1e-4)
    counts, all_rows = np.bincount(found.test[1], minlength=3), np.bincount(y)
    assert bool((np.abs(counts - 0.3 * all_rows) < 1).all()) != bool(options)
    assert found.settings["options"]["stratify"] != bool(options)
    if options:
        # The settings of earlier versions do not name it.
        settings = json.loads((run / "settings.json").read_text())
        del settings["options"]["stratify"]
        (run / "settings.json").write_text(json.dumps(settings))
        np.testing.assert_array_equal(run_folder.read(run).test[1], found.test[1])


def test_csv_with_labels_of_any_kind(tmp_path):
    x, y = digits(60, 2)
    names = np.array(["bar", "cross", "ring"])[y]
    rows = [",".join([name, *map(str, row.ravel())]) for name, row in zip(names, x, strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    run = tmp_path / "run"
    pynn_command("train", *SMALL, "--data", tmp_path / "data.csv", run, "--epochs", 1)
    net = pynn.load(run / "model.safetensors", backend="numpy")
    assert net.classes.tolist() == ["bar", "cross", "ring"]
    out = pynn_command("evaluate", run, "--data", tmp_path / "data.csv", "--backend", "numpy")
    accuracy = net.evaluate(x, names)["accuracy"]
    assert results(out)[-1] == f"accuracy {100 * accuracy:.2f} %"


def test_regression_reports_its_loss(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 3)).astype(np.float32)
    y = (x @ [0.5, -1.0, 0.25]).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    run = tmp_path / "run"
    out = pynn_command(
        "train", *SMALL, "--data", tmp_path / "d.npz", run, "--loss", "mse", "--epochs", 2
    )
    net = pynn.load(run / "model.safetensors", backend="numpy")
    assert net.sizes == (3, 8, 1)
    assert results(out)[-1] == f"test loss {net.evaluate(x[60:], y[60:])['loss']:.6g}"


@pytest.mark.parametrize(("loss", "outputs"), [("binary_cross_entropy", 1), ("cross_entropy", 2)])
def test_two_classes(tmp_path, loss, outputs):
    x, y = digits(80, 3)
    np.savez(tmp_path / "d.npz", x=x, y=np.where(y == 0, 4, 9))
    run = tmp_path / "run"
    pynn_command("train", *SMALL, "--data", tmp_path / "d.npz", run, "--loss", loss, "--epochs", 1)
    net = pynn.load(run / "model.safetensors", backend="numpy")
    assert net.sizes[-1] == outputs
    assert net.classes.tolist() == [4, 9]


def test_a_class_that_only_the_test_set_has_gets_an_output(tmp_path):
    x, y = digits(90, 4)
    known = y < 2
    np.savez(tmp_path / "d.npz", x_train=x[known], y_train=y[known] + 5, x_test=x, y_test=y + 5)
    run = tmp_path / "run"
    pynn_command("train", *SMALL, "--data", tmp_path / "d.npz", run, "--epochs", 1)
    net = pynn.load(run / "model.safetensors", backend="numpy")
    assert net.classes.tolist() == [5, 6, 7]


def epochs_of(run: Path) -> int:
    return len(json.loads((run / "history.json").read_text())["loss"])


def test_stopping_early(folder, tmp_path):
    common = ["train", *SMALL, "--data", folder, "--epochs", 9]
    pynn_command(*common, "--stop-at-loss", 1000, tmp_path / "a")
    assert epochs_of(tmp_path / "a") == 1
    # Steps too small to change a float32: the loss never improves after the first epoch.
    pynn_command(*common, "--early-stopping", 2, "--learning-rate", 1e-30, tmp_path / "b")
    assert epochs_of(tmp_path / "b") == 3


def test_quiet_prints_the_result_alone(folder, tmp_path):
    options = [*SMALL, "--quiet", "--data", folder, "--epochs", 1, tmp_path / "run"]
    out = pynn_command("train", *options)
    assert re.fullmatch(r"test accuracy \d+\.\d\d %\n", out)


def test_random_seeds_differ_and_are_kept(folder, tmp_path):
    seeds = set()
    for name in "ab":
        run = tmp_path / name
        pynn_command("train", *SMALL, "--data", folder, run, "--epochs", 0, "--seed", "random")
        seeds.add(json.loads((run / "settings.json").read_text())["seed"])
    assert len(seeds) == 2


def test_a_warning_is_a_line_of_the_command(folder, tmp_path, monkeypatch):
    fit = pynn.Network.fit

    def warn(*arguments, **named):
        warnings.warn("the disk is full", RuntimeWarning, stacklevel=2)
        return fit(*arguments, **named)

    monkeypatch.setattr(pynn.Network, "fit", warn)
    out = pynn_command("train", *SMALL, "--data", folder, tmp_path / "run")
    assert "pynn: the disk is full\n" in out
    assert "RuntimeWarning" not in out


def test_every_run_gets_its_own_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        pynn_command("train", *SMALL, "--data", folder, "--epochs", 0)
    assert len(list(Path("runs").iterdir())) == 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_pictures_of_other_shapes_and_of_a_training_that_diverged(tmp_path):
    pytest.importorskip("matplotlib")
    x, y = digits(60, 7)
    np.savez(tmp_path / "d.npz", x=x[:, :20], y=np.array(["a", "b", "$c$"])[y])
    drawn = [o for o in SMALL if o != "--no-pictures"]
    settings = ["--epochs", 2, "--loss", "mse", "--output", "identity", "--optimizer", "sgd"]
    command = ["train", *drawn, "--data", tmp_path / "d.npz", *settings]
    for rate, run, code, pictures in ((0.01, "whole", 0, 5), (1e20, "diverged", 1, 1)):
        out = pynn_command(*command, tmp_path / run, "--learning-rate", rate, code=code)
        assert ("gave a loss that is not finite" in out) == (run == "diverged")
        assert len(list((tmp_path / run).glob("*.png"))) == pictures
        assert (tmp_path / run / "model.safetensors").exists()


def test_the_first_compilation_is_named_once(capsys):
    numba = pytest.importorskip("numba")
    for backend, text in ("numba", "compiling for this machine, once …\n"), ("cython", ""):
        with output.compilation_named(backend):
            for _ in range(2):
                assert numba.njit(lambda x: x + 1)(1) == 2
        assert capsys.readouterr().err == text
