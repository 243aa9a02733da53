"""Ctrl-C and signals that end ``pynn train``: what it saves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from pynn.cli import output, train

pytest.importorskip("typer")
import pynn
from tests.child import FOLDER
from tests.cli.command import SMALL, pynn_command


def test_ctrl_c_saves_the_trained_model(folder, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")

    def stop(epochs, record):
        if record.epoch == 2 and record.step == record.steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(output, "print_epoch", stop)
    run = tmp_path / "run"
    drawn = [o for o in SMALL if o != "--no-pictures"]
    options = ["--data", folder, "--epochs", 9]
    out = pynn_command("train", *drawn, *options, run, code=130)
    assert "pynn: stopped after 2 complete epochs" in out
    assert str(run) in out
    net = pynn.load(run / "model.safetensors", backend="numpy")
    assert net.epochs == 2
    assert net.parameters.any()
    assert json.loads((run / "settings.json").read_text())["result"]["interrupted"] is True
    assert {path.name for path in run.glob("*.png")} == {"learning_curve.png"}
    pynn_command("train", *SMALL, *options, tmp_path / "without", code=130)
    assert not list((tmp_path / "without").glob("*.png"))


def test_ctrl_c_in_the_first_epoch_leaves_no_curve(folder, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")

    def press(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pynn.Network, "fit", press)
    run = tmp_path / "run"
    drawn = [o for o in SMALL if o != "--no-pictures"]
    out = pynn_command("train", *drawn, "--data", folder, run, code=130)
    assert "stopped after 0 complete epochs" in out
    assert not list(run.glob("*.png"))


@pytest.mark.parametrize("place", ["_record", "evaluate"])
def test_ctrl_c_after_training_leaves_all_files(folder, tmp_path, monkeypatch, place):
    """While the files are written, and while the network is evaluated."""
    owner = pynn.Network if place == "evaluate" else train
    usual, calls = getattr(owner, place), []

    def press(*arguments, **named):
        calls.append(arguments)
        # The settings are also written when the training begins.
        if len(calls) == 1 + (place == "_record"):
            raise KeyboardInterrupt
        return usual(*arguments, **named)

    monkeypatch.setattr(owner, place, press)
    run = tmp_path / "run"
    pynn_command("train", *SMALL, "--data", folder, "--epochs", 1, run, code=130)
    assert json.loads((run / "settings.json").read_text())["result"]["epochs"] == 1
    assert len(json.loads((run / "history.json").read_text())["loss"]) == 1
    assert pynn.load(run / "model.safetensors", backend="numpy").epochs == 1


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", None)])
def test_termination_signals_save_the_trained_model(folder, tmp_path, number):
    run = tmp_path / "run"
    command = ["train", *SMALL, "--data", folder, run]
    endless = ["--schedule", "constant", "--epochs", 10**6]
    # Under nohup SIGHUP is ignored, and a child would inherit that.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pynn", *map(str, command + endless)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            # Python searches the working directory first: in a source tree it would import the
            # package there, which has no compiled core when pynn is installed elsewhere.
            cwd=FOLDER,
        )
    finally:
        signal.signal(number, before)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("epoch       1/1000000 ")
    process.send_signal(number)
    try:
        told = process.communicate(timeout=500)[1].splitlines()[-1]
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert re.match(r"pynn: stopped after \d+ complete epochs; the network is in", told)
    assert told.endswith(f"continue with pynn train {run} --resume")
    epochs = pynn.load(run / "model.safetensors", backend="numpy").epochs
    assert epochs > 0
    assert len(json.loads((run / "history.json").read_text())["loss"]) == epochs
    assert json.loads((run / "settings.json").read_text())["result"]["interrupted"] is True
    assert (run / "checkpoint.safetensors").exists()
    out = pynn_command("train", run, "--resume", "--epochs", epochs + 2)
    assert f"resumed   at epoch {epochs + 1} of {epochs + 2}" in out
    assert f"epoch {epochs + 1}/{epochs + 2} " in out


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_the_sigterm_handler_is_restored(folder, tmp_path, monkeypatch):
    def terminate(epochs, record):
        if record.step < record.steps:
            return
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # SIG_DFL would end the tests
        for _ in range(2):  # some programs send it twice
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(output, "print_epoch", terminate)
    command = ["train", *SMALL, "--data", folder]
    out = pynn_command(*command, tmp_path / "ours", code=143)
    assert "pynn: stopped after 1 complete epochs" in out
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    theirs = signal.getsignal(signal.SIGTERM)
    try:
        pynn_command(*command, tmp_path / "theirs", "--epochs", 1)
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM] * 2
    # Only the main thread may set handlers.
    monkeypatch.setattr(output, "print_epoch", lambda epochs, record: None)
    found = []
    options = [*command, tmp_path / "thread", "--epochs", 1]
    thread = threading.Thread(target=lambda: found.append(pynn_command(*options)))
    thread.start()
    thread.join()
    assert "trained   1 epochs" in found[0]
