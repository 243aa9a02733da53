"""Other data or settings, damaged files, arguments and the command line of checkpoints."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.arrays.fingerprint import SAMPLED_ROWS, WHOLE, fingerprint
from pynn.files.tensors import load_tensors, save_tensors
from tests.training import runs
from tests.training.runs import (
    BACKENDS,
    Cut,
    Data,
    assert_same,
    broken_off,
    fit,
    make,
    posix,
)


def change(path: Path, edit: Any) -> None:
    """Rewrite a checkpoint with its JSON, or its tensors, edited."""
    tensors, metadata = load_tensors(path)
    edit(metadata, tensors)
    save_tensors(path, tensors, metadata)


# --- Other data, other settings -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"seed": 4}, r"seed: found 4, but the run in .*a has 3; expected the same"),
        ({"dropout": 0.1}, r"dropout: found \[0\.1\], but .* has \[0\.2\]"),
        ({"activation": "tanh"}, r"activation: found \['tanh', 'softmax'\], but .*'relu'"),
        ({"dtype": "float64"}, "dtype: found float64, but .* has float32"),
        ({"loss": "mse"}, "loss: found mse|activation: found"),
        (
            {"init": "zeros"},
            "parameters: found other values than those that the run in .*a began with",
        ),
        ({"hidden_noise": 0.1}, r"hidden_noise: found \[0\.1\], but .* has 0\.0;"),
        ({"norm": "rms"}, r"norm: found \[.*'rms'.*, None\], but .* has None;"),
        ({"sizes": [4, 7, 3]}, r"sizes: found \[4, 7, 3\], but .* has \[4, 8, 3\]"),
        ({"backend": "cython"}, "backend: found cython, but .* has numpy"),
    ],
    ids=str,
)
def test_resuming_with_another_network_is_refused(
    tmp_path: Path, blobs: Data, network: dict[str, Any], message: str
) -> None:
    if network.get("backend", "numpy") not in BACKENDS:
        pytest.skip("the compiled core is not there")
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    written = path.read_bytes()
    settings = {"backend": "numpy", "dropout": 0.2, "seed": 3} | network
    net = pynn.Network(settings.pop("sizes", [4, 8, 3]), **settings)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        fit(net, blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
    assert (net.parameters == before).all()
    assert (net.updates, len(net.history), path.read_bytes()) == (0, 0, written)
    assert net.parameters.flags.writeable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 41}, r"batch_size: found 41, but the run in .*a has 40; expected the same"),
        ({"optimizer": "sgd"}, r"optimizer: found SGD\(\), but .* has Adam\(beta1=0\.9, "),
        ({"optimizer": pynn.Adam(beta2=0.9)}, r"optimizer: found Adam\(.*beta2=0\.9,.*0\.999"),
        ({"learning_rate": 0.1}, r"learning_rate: found 0\.1, but .* has 0\.001"),
        ({"l2": 0.1}, r"l2: found 0\.1, but .* has 0\.0"),
        ({"ema": 0.9}, r"ema: found 0\.9, but .* has None"),
        ({"layer_rates": [1, 2]}, r"layer_rates: found \[1\.0, 2\.0\], but .* has None"),
        ({"label_smoothing": 0.1}, r"label_smoothing: found 0\.1, but .* has 0\.0"),
        ({"schedule": "step"}, r"schedule: found StepDecay\(.*\), but .* has Constant\(\)"),
        pytest.param(
            {"schedule": lambda t: 1.0},
            r"schedule: found a function, but .* has Constant\(\)",
            id="schedule-function",
        ),
        ({"validation": 0.1}, r"validation: found 0\.1, but .* has None"),
        ({"shuffle": False}, "shuffle: found False, but .* has True"),
    ],
    ids=str,
)
def test_resuming_with_other_settings_is_refused(
    tmp_path: Path, blobs: Data, settings: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    with pytest.raises(ValueError, match=message):
        fit(make(), blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True, **settings)


def test_a_checkpoint_from_before_label_smoothing(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    change(path, lambda about, _: about["checkpoint"]["settings"].pop("label_smoothing"))
    whole, resumed = make(), make()
    fit(whole, blobs)
    fit(resumed, blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
    assert_same(resumed, whole)


def test_another_function(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6, schedule=lambda t: 1.0 if t < 2 else 0.1)
    kept = pynn.Checkpoint(path, steps=1)
    with pytest.raises(
        ValueError, match=r"schedule: found 1\.0 at epoch 2, but .* has 0\.1 at epo"
    ):
        fit(make(), blobs, schedule=lambda t: 1.0, checkpoint=kept, resume=True)


def other_rows(x: np.ndarray, y: np.ndarray) -> Data:
    x = x.copy()
    x[77, 2] = np.nextafter(x[77, 2], 9)
    return x, y


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (other_rows, r"x: found numbers of SHA-256 \w{12}…, but the run in .*a has numbers of SHA"),
        (
            lambda x, y: (x[:149], y[:149]),
            r"x: found float32 \(149, 4\), but .* float32 \(150, 4\)",
        ),
        (lambda x, y: (x.astype("f8"), y), r"x: found float64 \(150, 4\), but .* has float32"),
        (lambda x, y: (x, y[::-1]), "y: found numbers of SHA-256"),
        (lambda x, y: (x, y + 1), r"classes: found \[1, 2, 3\], but .* has \[0, 1, 2\]"),
    ],
)
def test_resuming_with_other_data_is_refused(
    tmp_path: Path, blobs: Data, edit: Any, message: str
) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6, batch_size=30)
    with pytest.raises(ValueError, match=message):
        kept = pynn.Checkpoint(path, steps=1)
        fit(make(), edit(*blobs), batch_size=30, checkpoint=kept, resume=True)


def test_other_validation_rows(tmp_path: Path, blobs: Data) -> None:
    x, y = blobs
    path = tmp_path / "a"
    broken_off(path, blobs, 6, validation=(x[:9], y[:9]))
    kept = pynn.Checkpoint(path, steps=1)
    for validation, message in [
        ((x[1:10], y[:9]), r"validation\[0\]: found numbers"),
        ((x[:9], y[1:10]), r"validation\[1\]: found numbers"),
        (0.1, "validation: found 0.1, but .* has rows of their own"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(make(), blobs, checkpoint=kept, validation=validation, resume=True)
    net = make()
    fit(net, blobs, checkpoint=kept, validation=(x[:9].copy(order="F"), y[:9]), resume=True)
    assert net.epochs == 4


def test_another_machine_causes_a_warning(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    change(path, lambda about, _: about["checkpoint"]["machine"].update(numpy="1.0"))
    with pytest.warns(RuntimeWarning, match=r"trained with numpy 1\.0, pynn .* last bits") as told:
        fit(make(), blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
    assert [w.filename for w in told] == [runs.__file__]


def test_another_instruction_set_causes_a_warning(tmp_path: Path, blobs: Data) -> None:
    core = pytest.importorskip("pynn.backends.cython._core")
    first, *others = core.info()["isas"]
    before = core.use_isa(first)
    try:
        path = tmp_path / "a"
        broken_off(path, blobs, 6, network={"backend": "cython"})
        kept = pynn.Checkpoint(path, steps=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit(make(backend="cython"), blobs, epochs=3, checkpoint=kept, resume=True)
        for isa in others[:1]:
            core.use_isa(isa)
            with pytest.warns(RuntimeWarning, match=f"trained with isa {first}, .* with isa {isa}"):
                fit(make(backend="cython"), blobs, epochs=4, checkpoint=kept, resume=True)
    finally:
        core.use_isa(before)


def test_amx_is_another_instruction_set_in_bf16_alone(tmp_path: Path, blobs: Data) -> None:
    core = pytest.importorskip("pynn.backends.cython._core")
    if "amx" not in core.info()["isas"]:
        pytest.skip("needs AMX")
    for precision in ("full", "bf16"):
        network = {"backend": "cython", "precision": precision}
        kept = pynn.Checkpoint(tmp_path / precision, steps=1)
        before = core.use_isa("avx512")
        try:
            broken_off(tmp_path / precision, blobs, 6, network=network)
            core.use_isa("amx")
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                fit(make(**network), blobs, epochs=3, checkpoint=kept, resume=True)
        finally:
            core.use_isa(before)
        assert [str(w.message) for w in told if "isa avx512" in str(w.message)] == (
            [] if precision == "full" else [str(told[0].message)]
        )


def test_fingerprint_covers_every_byte_and_no_layout() -> None:
    a = np.arange(3000, dtype=np.float32).reshape(500, 6)
    same = fingerprint(a)
    assert fingerprint(np.asfortranarray(a)) == fingerprint(a[::-1].copy()[::-1]) == same
    for row in range(0, 500, 7):
        b = a.copy()
        b[row, row % 6] += 1
        assert fingerprint(b) != same
    assert fingerprint(a.view(np.int32)) != same
    assert fingerprint(a.reshape(6, 500)) != same


@posix
def test_fingerprint_of_a_large_file_reads_some_of_it(tmp_path: Path) -> None:
    # A file with holes: 4 GB, of which nothing is on the disk.
    rows, width = 5_000_000, 784
    with open(tmp_path / "x", "wb") as file:
        file.truncate(rows * width)
    x = np.memmap(tmp_path / "x", np.uint8, "r", shape=(rows, width))
    assert x.nbytes > 50 * WHOLE
    before = fingerprint(x)
    for row in 0, rows - 1:
        with open(tmp_path / "x", "r+b") as file:
            file.seek(row * width)
            file.write(b"1")
        after = fingerprint(np.memmap(tmp_path / "x", np.uint8, "r", shape=(rows, width)))
        assert after != before
        before = after


def test_fingerprint_of_a_large_array_samples_rows_evenly() -> None:
    x = np.zeros((WHOLE // 100, 200), np.uint8)
    before = fingerprint(x)
    step = len(x) // SAMPLED_ROWS + 1
    for start in range(0, len(x) - step, len(x) // 5):
        x[start : start + step] += 1
        after = fingerprint(x)
        assert after != before
        before = after


# --- Files that are damaged or hostile ------------------------------------------------------------


def test_a_truncated_checkpoint_is_refused(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    content = path.read_bytes()
    net, kept = make(), pynn.Checkpoint(path, steps=1)
    for length in [0, 5, 8, 100, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        for resume in True, False:
            with pytest.raises(ValueError, match=str(path)):
                fit(net, blobs, checkpoint=kept, resume=resume)
        assert path.read_bytes() == content[:length]
    assert (net.parameters == make().parameters).all()


@pytest.mark.parametrize(
    "edit",
    [
        lambda about, tensors: about.update(checkpoint=7),
        lambda about, tensors: about["checkpoint"].clear(),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("place", "began")),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("settings", "data")),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("epochs", "machine")),
        *(lambda about, tensors, k=k: about["checkpoint"].pop(k) for k in ("ended", "schedule")),
        lambda about, tensors: about["checkpoint"]["place"].update(first=5),
        lambda about, tensors: about["checkpoint"]["place"].update(first=-1),
        lambda about, tensors: about["checkpoint"]["place"].update(loss="a lot"),
        lambda about, tensors: about["checkpoint"]["began"].update(epochs=10**30),
        lambda about, tensors: about["checkpoint"]["began"].update(history=9),
        lambda about, tensors: about["checkpoint"]["began"].update(updates=None),
        lambda about, tensors: about["checkpoint"].update(data=[]),
        lambda about, tensors: about["checkpoint"].update(data={"x": 1, "y": 2}),
        lambda about, tensors: about["checkpoint"].update(callbacks=[{"name": "a", "state": "{"}]),
        lambda about, tensors: about["checkpoint"].update(callbacks=3),
        lambda about, tensors: about["checkpoint"].update(machine=3),
        lambda about, tensors: about["checkpoint"].update(epochs="four"),
        lambda about, tensors: tensors.pop("weights.1"),
        lambda about, tensors: tensors.pop("optimizer.0"),
        lambda about, tensors: tensors.update({"weights.0": np.zeros((9, 9), "f4")}),
        lambda about, tensors: tensors.update({"callbacks.5.a": np.zeros(3)}),
        lambda about, tensors: about.update(optimizer=None),
    ],
)
def test_a_manipulated_checkpoint_raises_one_clear_error(
    tmp_path: Path, blobs: Data, edit: Any
) -> None:
    path = tmp_path / "a"
    broken_off(path, blobs, 6)
    change(path, edit)
    net, kept = make(), pynn.Checkpoint(path, steps=1)
    with pytest.raises(ValueError, match=str(path)):
        fit(net, blobs, checkpoint=kept, resume=True)
    assert (net.parameters == make().parameters).all()
    assert net.updates == 0


class Trap:
    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


def test_loading_runs_no_code(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps(Trap()))
    kept = pynn.Checkpoint(path, steps=1)
    for use in (
        lambda: pynn.load(path),
        lambda: fit(make(), blobs, checkpoint=kept, resume=True),
        lambda: fit(make(), blobs, checkpoint=kept),
    ):
        with pytest.raises(ValueError, match=str(path)):
            use()
    assert not Trap.sprung
    # It does spring for those who do run code.
    pickle.loads(path.read_bytes())
    assert Trap.sprung


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {},
            ValueError,
            "Checkpoint: found no interval, expected one of steps, epochs and sec.*seconds=60",
        ),
        ({"steps": 1, "epochs": 1}, ValueError, "Checkpoint: found steps and epochs, expected one"),
        ({"steps": 0}, ValueError, "steps: found 0"),
        ({"epochs": 1.5}, ValueError, "epochs: found 1.5"),
        ({"seconds": 0}, ValueError, "seconds: found 0"),
        ({"path": None, "steps": 1}, TypeError, "path: found None"),
    ],
)
def test_wrong_arguments_of_a_checkpoint_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pynn.Checkpoint(**{"path": "a"} | arguments)


def test_arguments_of_fit(tmp_path: Path, blobs: Data) -> None:
    net = make()
    for more, error, message in [
        (
            {"checkpoint": "run.ckpt"},
            TypeError,
            "checkpoint: found 'run.ckpt', expected pynn.Check",
        ),
        ({"resume": True}, ValueError, "resume: found True and no checkpoint"),
        ({"resume": "yes"}, TypeError, "resume: found 'yes'"),
        (
            {"checkpoint": pynn.Checkpoint(tmp_path / "no" / "a", steps=1)},
            FileNotFoundError,
            "checkpoint: found no folder .*no, expected one to write a into",
        ),
        ({"checkpoint": pynn.Checkpoint(tmp_path, steps=1)}, ValueError, "found a folder, expect"),
    ]:
        with pytest.raises(error, match=message):
            fit(net, blobs, **more)
    assert net.updates == 0


def test_the_path_stays_where_it_was(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = pynn.Checkpoint("run.ckpt", seconds=60)
    assert repr(kept) == f"Checkpoint({str(tmp_path / 'run.ckpt')!r}, seconds=60.0)"
    (tmp_path / "there").mkdir()
    monkeypatch.chdir("there")
    fit(make(), blobs, checkpoint=kept)
    assert (tmp_path / "run.ckpt").exists()


# --- The command line -----------------------------------------------------------------------------


def csv(folder: Path, data: Data) -> Path:
    x, y = data
    path = folder / "rows.csv"
    path.write_text("\n".join(f"{b}," + ",".join(map(str, a)) for a, b in zip(x, y, strict=True)))
    return path


def test_the_command_line_resumes_a_run(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from pynn.cli import app, output

    options = [
        *("train", "--data", str(csv(tmp_path, blobs)), "--backend", "numpy", "--hidden", "8"),
        *("--epochs", "4", "--batch-size", "40", "--no-pictures", "--plain"),
    ]

    def run(name: str, *more: str) -> Any:
        return CliRunner().invoke(app, [*options, str(tmp_path / name), *more])

    assert run("whole").exit_code == 0
    assert {p.name for p in (tmp_path / "whole").iterdir()} == {
        "model.safetensors",
        "history.json",
        "settings.json",
    }
    before = (tmp_path / "whole" / "model.safetensors").read_bytes()
    told = run("whole", "--resume")
    assert (told.exit_code, told.output.split()[-3:]) == (0, ["after", "4", "epochs"])
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == before
    (tmp_path / "whole" / "settings.json").unlink()
    told = run("whole", "--resume")
    assert told.exit_code == 1
    assert "already and no checkpoint to resume from" in " ".join(told.output.split())

    printed = output.print_epoch

    def die(epochs: int, record: pynn.Record) -> None:
        if record.epoch == 3 and record.step == record.steps:
            raise Cut

    monkeypatch.setattr(output, "print_epoch", die)
    # Without a checkpoint to resume it starts a new run.
    assert isinstance(run("cut", "--checkpoint", "1e-9", "--resume").exception, Cut)
    monkeypatch.setattr(output, "print_epoch", printed)
    told = run("cut")
    assert "RUN: found an interrupted run in" in told.output
    assert "expected --resume to continue it" in " ".join(told.output.split())
    told = run("cut", "--resume", "--learning-rate", "0.1")
    assert "--learning-rate: found 0.1, but the run in" in " ".join(told.output.split())
    done = run("cut", "--resume")
    assert done.exit_code == 0, done.output
    assert "epoch 1/" not in done.output
    assert "epoch 4/4 " in done.output
    for name in "whole", "cut":
        assert not (tmp_path / name / "checkpoint.safetensors").exists()
    whole, again = (
        pynn.load(tmp_path / name / "model.safetensors", backend="numpy")
        for name in ("whole", "cut")
    )
    assert_same(again, whole)
    history = json.loads((tmp_path / "cut" / "history.json").read_text())
    assert history["epoch"] == [1, 2, 3, 4]

    for more, message in [
        (
            ["--resume", "--checkpoint", "0"],
            "--resume: found --checkpoint 0, expected --checkpoint SECONDS",
        ),
        (["--resume", "--fast"], "--resume: found a preset, which writes no checkpoint"),
        (["--checkpoint", "-1"], "--checkpoint: found -1, expected seconds of 0 or more"),
    ]:
        assert message in " ".join(run("new", *more).output.split())
    told = CliRunner().invoke(app, [*options, "--resume"])
    assert "--resume: found no RUN" in told.output
    assert not (tmp_path / "new").exists()
