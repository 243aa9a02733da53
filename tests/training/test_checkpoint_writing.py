"""When a checkpoint is written, what it never replaces, and disks that fail."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pynn
from pynn.files import disk
from pynn.files.tensors import save_tensors
from pynn.training import saver
from tests.training import runs
from tests.training.runs import (
    Cut,
    Data,
    assert_same,
    broken_off,
    cut,
    document,
    fit,
    make,
    posix,
)

# --- When it is written ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "moments"),
    [
        ({"steps": 3}, [(0, 3), (1, 6), (2, 9), (3, 12), (3, 15), (4, 16)]),
        ({"steps": 4}, [(1, 4), (2, 8), (3, 12), (4, 16)]),
        ({"epochs": 2}, [(2, 8), (4, 16)]),
        ({"epochs": 9}, [(4, 16)]),
        ({"seconds": 1e-9}, [(e, u) for u in range(1, 17) for e in [u // 4]]),
        ({"seconds": 1e9}, [(4, 16)]),
    ],
)
def test_moments(
    tmp_path: Path,
    blobs: Data,
    monkeypatch: pytest.MonkeyPatch,
    every: dict[str, Any],
    moments: list[tuple[int, int]],
) -> None:
    found = []

    def spy(path: Any, tensors: Any, metadata: Any) -> None:
        found.append((metadata["epochs"], metadata["updates"]))
        save_tensors(path, tensors, metadata)

    monkeypatch.setattr(saver, "save_tensors", spy)
    kept = pynn.Checkpoint(tmp_path / "a", **every)
    # A function for progress: slices of 1, 2, 4 … steps, as those of seconds.
    fit(make(), blobs, checkpoint=kept)
    if "seconds" in every:
        # Slices of 1, 2 and 1 steps in the first epoch, and longer ones later.
        assert found[-1] == (4, 16)
        assert set(found) <= set(moments)
        assert len(found) == len(set(found)) >= min(4, len(moments))
    else:
        assert found == moments


def test_resuming_without_a_checkpoint_starts_a_new_run(tmp_path: Path, blobs: Data) -> None:
    whole, net = make(), make()
    fit(whole, blobs)
    fit(net, blobs, checkpoint=pynn.Checkpoint(tmp_path / "a", epochs=1), resume=True)
    assert_same(net, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_resuming_a_finished_run_trains_nothing(tmp_path: Path, blobs: Data) -> None:
    kept = pynn.Checkpoint(tmp_path / "a", steps=5)
    whole, again = make(), make()
    history = fit(whole, blobs, checkpoint=kept, resume=True)
    written = (tmp_path / "a").stat().st_mtime_ns, (tmp_path / "a").read_bytes()

    def never(net: pynn.Network, record: pynn.Record) -> None:
        raise AssertionError

    assert fit(again, blobs, checkpoint=kept, resume=True, callbacks=never) == history
    assert_same(again, whole)
    assert ((tmp_path / "a").stat().st_mtime_ns, (tmp_path / "a").read_bytes()) == written


def test_no_epochs(tmp_path: Path, blobs: Data) -> None:
    kept = pynn.Checkpoint(tmp_path / "a", steps=5)
    for _ in range(2):
        net = make()
        assert len(fit(net, blobs, epochs=0, checkpoint=kept, resume=True)) == 0
        assert (net.parameters == make().parameters).all()
    assert document(tmp_path / "a")["ended"] is True


@pytest.mark.parametrize("schedule", [None, "exponential", lambda t: 0.9**t, pynn.WarmUp(3)])
@pytest.mark.parametrize("after", [7, None])
def test_resuming_with_more_epochs_continues(
    tmp_path: Path, blobs: Data, schedule: Any, after: int | None
) -> None:
    """Both of a run that was cut off and of one that had come to its end."""
    kept, stopping = pynn.Checkpoint(tmp_path / "a", steps=1), lambda: pynn.EarlyStopping("loss")
    whole, net = make(), make()
    fit(whole, blobs, epochs=6, schedule=schedule, callbacks=stopping())
    with contextlib.suppress(Cut):
        calls = [stopping(), cut(after)] if after else stopping()
        fit(make(), blobs, schedule=schedule, checkpoint=kept, callbacks=calls)
    more = {"epochs": 6, "schedule": schedule, "callbacks": stopping()}
    history = fit(net, blobs, checkpoint=kept, resume=True, **more)
    assert_same(net, whole)
    assert history.epoch == [1, 2, 3, 4, 5, 6]


def test_resuming_with_other_epochs_is_refused_if_the_schedule_needs_them(
    tmp_path: Path, blobs: Data
) -> None:
    path = tmp_path / "a"
    kept = pynn.Checkpoint(path, steps=1)
    broken_off(path, blobs, 9, schedule="cosine")
    with pytest.raises(
        ValueError, match=r"epochs: found 5, but the run in .*a has 4, and its sche"
    ):
        fit(make(), blobs, epochs=5, schedule="cosine", checkpoint=kept, resume=True)
    path.unlink()
    broken_off(path, blobs, 10)
    with pytest.raises(ValueError, match=r"epochs: found 2, but the run in .*a is in epoch 3 alr"):
        fit(make(), blobs, epochs=2, checkpoint=kept, resume=True)
    net = make()
    fit(net, blobs, epochs=3, checkpoint=kept, resume=True)
    assert net.epochs == 3


# --- Nothing lost ---------------------------------------------------------------------------------


def test_an_unfinished_run_is_not_overwritten(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    kept = pynn.Checkpoint(path, steps=1)
    broken_off(path, blobs, 6)
    written = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint: found a run that has not ended in .*a, whi"):
        fit(make(), blobs, checkpoint=kept)
    assert path.read_bytes() == written
    fit(make(), blobs, checkpoint=kept, resume=True)
    # One that has ended may be followed by another.
    fit(make(), blobs, checkpoint=kept, learning_rate=0.1)
    assert document(path)["settings"]["learning_rate"] == 0.1


def test_a_model_file_is_not_overwritten_by_a_checkpoint(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "model.safetensors"
    net = make()
    net.save(path)
    written = path.read_bytes()
    kept = pynn.Checkpoint(path, epochs=1)
    for resume in False, True:
        with pytest.raises(ValueError, match="checkpoint: found a model in"):
            fit(net, blobs, checkpoint=kept, resume=resume)
    assert path.read_bytes() == written


@pytest.mark.parametrize("resume", [False, True])
def test_each_call_needs_a_file_of_its_own(tmp_path: Path, blobs: Data, resume: bool) -> None:
    net, kept = make(), pynn.Checkpoint(tmp_path / "a", epochs=1)
    fit(net, blobs, checkpoint=kept, resume=True)
    if resume:
        with pytest.raises(ValueError, match="found a network after 16 updates, but .* after 0"):
            fit(net, blobs, checkpoint=kept, resume=True)
        return
    fit(net, blobs, checkpoint=kept)
    assert net.epochs == 8
    with pytest.raises(ValueError, match="found a network after 0 updates, but .* after 16"):
        fit(make(), blobs, checkpoint=kept, resume=True)


def test_a_checkpoint_is_a_model(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"
    x, y = blobs
    calls = [pynn.Norms(x, y), pynn.EarlyStopping("loss")]
    broken_off(path, blobs, 6, callbacks=calls)
    net, same = pynn.load(path, backend="numpy"), make()
    with pytest.raises(Cut):
        fit(same, blobs, callbacks=cut(5))
    assert_same(net, same)
    assert net.updates == 5


# --- Disks that fail ------------------------------------------------------------------------------


class Full:
    """A disk that takes some bytes and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self.attempts = room, 0
        monkeypatch.setattr(disk, "open", self.open, raising=False)

    def open(self, path: Any, mode: str) -> Any:
        self.attempts += 1
        file = open(path, mode)  # noqa: SIM115
        write = file.write

        class Limited:
            fileno, flush = file.fileno, file.flush

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(_, data: bytes) -> int:
                write(data[: self.room])
                if len(data) > self.room:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return len(data)

        return Limited()


def test_a_full_disk_causes_one_warning_and_training_continues(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, net = make(), make()
    fit(whole, blobs)
    path = tmp_path / "a"
    full = Full(monkeypatch, 100)
    kept = pynn.Checkpoint(path, steps=2)
    with pytest.warns(RuntimeWarning) as told:
        fit(net, blobs, checkpoint=kept)
    assert_same(net, whole)
    (warning,) = told
    assert "could not write" in str(warning.message)
    assert str(path) in str(warning.message)
    assert os.strerror(errno.ENOSPC) in str(warning.message)
    assert warning.filename == runs.__file__  # the caller of pynn
    assert full.attempts == 8
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_resume_once_a_full_disk_has_space(
    tmp_path: Path, blobs: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands there stays whole, and the next one is written when there is room again."""
    path = tmp_path / "a"
    broken_off(path, blobs, 4)
    written = path.read_bytes()
    full = Full(monkeypatch, 100)

    def look(net: pynn.Network, record: pynn.Record) -> None:
        if net.updates < 10:
            assert path.read_bytes() == written
            assert [p.name for p in tmp_path.iterdir()] == ["a"]
        else:
            full.room = 10**9

    kept, net, whole = pynn.Checkpoint(path, steps=1), make(), make()
    with pytest.warns(RuntimeWarning, match="could not write") as told:
        fit(net, blobs, checkpoint=kept, callbacks=pynn.Every(1, look), resume=True)
    assert len(told) == 1
    assert document(path)["ended"] is True
    fit(whole, blobs)
    assert_same(net, whole)


@contextlib.contextmanager
def no_superuser() -> Iterator[None]:
    """The superuser may write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@posix
def test_a_read_only_folder_causes_one_warning_and_training_continues(blobs: Data) -> None:
    # Not in tmp_path, into which nobody but its owner may look.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    kept, net = pynn.Checkpoint(folder / "a", steps=2), make()
    denied = pytest.warns(RuntimeWarning, match="could not write .*: Permission denied")
    try:
        with denied as told, no_superuser():
            fit(net, blobs, checkpoint=kept)
        assert len(told) == 1
        assert net.epochs == 4
        assert list(folder.iterdir()) == []
    finally:
        folder.rmdir()


@posix
def test_a_disk_that_holds_one_checkpoint_keeps_the_old_one(tmp_path: Path, blobs: Data) -> None:
    """A file system of 16 kB, where it can be had."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "pynn-test", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this user may not mount a file system")
    try:
        path = tmp_path / "a"
        broken_off(path, blobs, 3)
        kept = document(path)["place"]
        with contextlib.suppress(OSError), open(tmp_path / "filler", "wb", 0) as file:
            while file.write(b"1" * 1024):
                pass
        net = make()
        with pytest.warns(RuntimeWarning, match="could not write") as told:
            fit(net, blobs, checkpoint=pynn.Checkpoint(path, steps=1), resume=True)
        assert len(told) == 1
        assert net.epochs == 4
        assert document(path)["place"] == kept
        assert {p.name for p in tmp_path.iterdir()} == {"a", "filler"}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@posix
def test_another_file_that_appears_is_not_overwritten(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "a"

    def obstruct(net: pynn.Network, record: pynn.Record) -> None:
        path.mkdir()

    kept = pynn.Checkpoint(path, steps=10)
    with pytest.warns(RuntimeWarning, match="could not write .*found a folder"):
        fit(make(), blobs, checkpoint=kept, callbacks=pynn.Every(9, obstruct))


def test_temporary_files_of_killed_writers_are_removed(tmp_path: Path, blobs: Data) -> None:
    path = tmp_path / "run.ckpt"
    with contextlib.suppress(Cut), disk.atomic_write(path) as file:
        (leftover,) = tmp_path.iterdir()
        file.write(b"half")
        copy = leftover.with_name(leftover.name[:15] + "0" * 16 + ".tmp")
        copy.write_bytes(b"half")
        raise Cut
    other = tmp_path / ".pynn-other.tmp"
    other.write_bytes(b"not ours")
    assert copy.exists()
    fit(make(), blobs, checkpoint=pynn.Checkpoint(path, epochs=1))
    assert {p.name for p in tmp_path.iterdir()} == {"run.ckpt", ".pynn-other.tmp"}
