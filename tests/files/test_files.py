from __future__ import annotations

import errno
import json
import os
import stat
import struct
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pynn
from pynn.files import disk
from pynn.files.tensors import FORMAT_VERSION, load_tensors, save_tensors
from tests.child import python

in_any_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
posix = pytest.mark.skipif(os.name != "posix", reason="about POSIX file systems")

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def raw(header: object, data: bytes = b"") -> bytes:
    """The bytes of a safetensors file, by the format's description."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# What an error shows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b é 😀", "a b é 😀"),
        ("a\n\t\x1b[2J\x00\x85\u2028\ud800", r"a\n\t\x1b[2J\x00\x85\u2028\ud800"),
        (["a"], "['a']"),
        (ValueError("a\nb"), r"a\nb"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 198 + " …"),
        ("\n" * 150, (r"\n" * 100)[:198] + " …"),
        (10**150, "1" + 150 * "0"),
    ],
)
def test_values_in_errors_are_short_and_printable(value, text):
    assert disk.shown(value) == text
    assert disk.shown(value).isprintable()
    assert len(disk.shown(value, 20)) <= 20


def test_deeply_nested_values_in_errors_are_shortened():
    value: list = []
    for _ in range(100_000):
        value = [value]
    assert disk.shown(value) == "a list nested too deep to show"
    while value:  # taken apart from outside: all at once would nest as deep
        value = value.pop()


# atomic_write


def test_atomic_write_makes_and_replaces_a_file(tmp_path):
    path = tmp_path / "a.bin"
    for content in b"first", b"2":
        with disk.atomic_write(path) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() == b"first"
        assert path.read_bytes() == content
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, b"old"])
def test_atomic_write_leaves_no_trace_of_a_failure(tmp_path, error, old):
    path = tmp_path / "a.bin"
    if old:
        path.write_bytes(old)

    def fail():
        with disk.atomic_write(path) as file:
            file.write(b"new" * 10_000)
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == (["a.bin"] if old else [])
    assert not old or path.read_bytes() == old


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_atomic_write_cleans_up_when_the_system_fails(tmp_path, monkeypatch, function):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space"), disk.atomic_write(path) as file:
        file.write(b"new")
    assert names(tmp_path) == ["a.bin"]
    assert path.read_bytes() == b"old"


def test_atomic_write_reaches_the_disk_before_it_replaces(tmp_path, monkeypatch):
    calls = []
    path = tmp_path / "a.bin"
    replace = os.replace

    def fsync(number):
        about = os.fstat(number)
        calls.append("folder" if stat.S_ISDIR(about.st_mode) else ("fsync", about.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    with disk.atomic_write(path) as file:
        file.write(b"12345")
    # Windows does not open folders.
    synced = [("fsync", 5), "replace", *(["folder"] if os.name == "posix" else [])]
    assert calls == synced
    with disk.atomic_write(path, sync=False) as file:
        file.write(b"1")
    assert calls == [*synced, "replace"]


def test_a_program_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    program = (
        "import os, sys\n"
        "from pynn.files.disk import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'new' * 100_000)\n"
        "    os._exit(3)\n"
    )
    assert python(program, path).returncode == 3
    assert path.read_bytes() == b"old"


@posix
def test_atomic_write_honours_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with disk.atomic_write(tmp_path / "a.bin"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


@posix
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o400])
def test_atomic_write_keeps_permissions(tmp_path, mode):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(mode)
    with disk.atomic_write(path) as file:
        file.write(b"new")
        # What is private is so from the first byte on.
        assert os.fstat(file.fileno()).st_mode & 0o777 == mode
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may")
def test_atomic_write_keeps_the_owner(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    os.chown(path, 65534, 65533)
    path.chmod(0o600)
    with disk.atomic_write(path) as file:
        file.write(b"new")
    told = path.stat()
    assert (told.st_uid, told.st_gid, told.st_mode & 0o777) == (65534, 65533, 0o600)


def test_an_unreadable_file_counts_as_existing(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    pynn.Network([2, 2], backend="numpy").save(path)

    def refuse(name, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(name))

    # As root, to whom all may be readable, too.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match="Permission denied: .*m.safetensors"):
        pynn.load(path)


@posix
def test_atomic_write_follows_links_and_spares_devices(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.bin")
    with disk.atomic_write(tmp_path / "link") as file:
        file.write(b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a.bin").read_bytes() == b"1"

    os.mkfifo(tmp_path / "pipe")
    found = pytest.raises(ValueError, match="pipe: found a device or a pipe, expected a file")
    with found, disk.atomic_write(tmp_path / "pipe"):
        pass


@posix
def test_a_link_that_leads_back_to_itself_is_not_replaced(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b"):
        with (
            pytest.raises(OSError, match="symbolic links") as error,
            disk.atomic_write(tmp_path / name),
        ):
            pass
        assert error.value.errno == errno.ELOOP
    net = pynn.Network([2, 2], backend="numpy")
    with pytest.raises(OSError, match="symbolic links"):
        net.save(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links|no folder"):
        net.save(tmp_path / "a" / "model")
    with pytest.raises((OSError, ValueError), match="symbolic links|no such file"):
        pynn.load(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").is_symlink()
    (tmp_path / "dangling").symlink_to("new")
    net.save(tmp_path / "dangling")
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "new").is_file()


def test_atomic_write_names_the_faulty_path(tmp_path):
    with pytest.raises(ValueError, match="found a folder"), disk.atomic_write(tmp_path):
        pass
    path = tmp_path / "missing" / "a.bin"
    with pytest.raises(FileNotFoundError, match=r"a\.bin: found no folder"):  # noqa: SIM117
        with disk.atomic_write(path):
            pass
    assert names(tmp_path) == []


def test_atomic_write_names_the_file_that_the_system_refuses(tmp_path, monkeypatch):
    # Folders cannot be closed to the superuser, whom tests may run as.
    def refuse(name, mode):
        raise PermissionError(13, "Permission denied", str(name))

    monkeypatch.setattr(disk, "open", refuse, raising=False)
    found = pytest.raises(PermissionError, match=r"Permission denied: .*a\.bin")
    with found, disk.atomic_write(tmp_path / "a.bin"):
        pass


# save and load


@settings(in_any_folder, max_examples=40)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
        ),
        max_size=4,
    ),
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    ),
)
def test_saved_tensors_load_unchanged(tmp_path, tensors, metadata):
    save_tensors(tmp_path / "m", tensors, metadata)
    arrays, document = load_tensors(tmp_path / "m")
    assert document == metadata
    assert arrays.keys() == tensors.keys()
    for name, array in arrays.items():
        assert array.dtype == tensors[name].dtype
        assert array.shape == tensors[name].shape
        assert array.tobytes() == tensors[name].tobytes()
        assert array.flags.c_contiguous
        assert array.flags.writeable


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">i8", "<u2", "?"])
def test_memory_layout_does_not_matter(tmp_path, dtype):
    array = np.arange(24).reshape(4, 6).astype(dtype)
    locked = array.copy()
    locked.setflags(write=False)
    tensors = {"t": array.T, "fortran": np.asfortranarray(array), "strided": array[::2, ::-3]}
    tensors |= {"locked": locked, "zero_d": array[1, 1]}
    save_tensors(tmp_path / "m", tensors, {})
    for name, found in load_tensors(tmp_path / "m")[0].items():
        np.testing.assert_array_equal(found, tensors[name])
        assert found.dtype == np.dtype(dtype).newbyteorder("=")


def test_loaded_arrays_do_not_hang_on_the_file(tmp_path):
    path = tmp_path / "m"
    save_tensors(path, {"w": np.ones(5)}, {})
    before = path.read_bytes()
    array = load_tensors(path)[0]["w"]
    array[:] = 2
    assert path.read_bytes() == before
    path.unlink()
    assert array.sum() == 10


def test_any_reader_of_safetensors_reads_a_model(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    save_tensors(tmp_path / "m", {"w": np.eye(3, dtype="f4")}, {"layers": (np.int64(7), 1)})
    with safetensors.safe_open(tmp_path / "m", framework="numpy") as file:
        assert json.loads(file.metadata()["pynn"]) == {
            "version": FORMAT_VERSION,
            "metadata": {"layers": [7, 1]},
        }
        np.testing.assert_array_equal(file.get_tensor("w"), np.eye(3))


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"w": np.array([{}])}, {}, r"tensors\['w'\]: found dtype object"),
        ({"w": np.array(["a"])}, {}, "found dtype <U1, expected one of bool, int8"),
        ({"w": np.zeros(1, "c16")}, {}, "found dtype complex128"),
        ({"w": np.zeros(1, "i4,f4")}, {}, "tensors.*found dtype"),
        ({"w": [[1], [1, 2]]}, {}, "inhomogeneous"),
        ({"__metadata__": np.zeros(1)}, {}, "found the name '__metadata__'"),
        ({3: np.zeros(1)}, {}, "found the name 3"),
        ({}, {"loss": float("nan")}, "metadata: found a value that JSON cannot represent"),
        ({}, {"loss": np.float32("inf")}, "metadata: found a value that JSON cannot represent"),
        (
            {},
            {"x": {"y": np.zeros(3)}},
            "metadata: found a value that JSON cannot represent .a ndarray",
        ),
        ({}, {(1, 2): 3}, "metadata: found a value that JSON cannot represent"),
    ],
)
def test_values_that_cannot_be_saved_are_refused_and_nothing_is_written(
    tmp_path, tensors, metadata, message
):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        save_tensors(path, tensors, metadata)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["m"]


def test_metadata_that_holds_itself_is_refused(tmp_path):
    loop: dict[str, object] = {}
    loop["loop"] = loop
    with pytest.raises(ValueError, match="metadata: found a value that JSON cannot represent"):
        save_tensors(tmp_path / "m", {}, loop)


def test_a_truncated_model_is_refused(tmp_path):
    path = tmp_path / "m"
    save_tensors(path, {"w": np.arange(6.0), "b": np.zeros(2, "f4")}, {"sizes": [2, 3]})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"m: found .*, expected a complete model file"):
            load_tensors(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="expected a complete model file"):
        load_tensors(path)


@in_any_folder
@given(st.data())
def test_a_damaged_model_never_crashes(tmp_path, data):
    path = tmp_path / "m"
    save_tensors(path, {"w": np.arange(6.0), "b": np.zeros(2, "f4")}, {"sizes": [2, 3]})
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = ""
    try:
        tensors, metadata = load_tensors(path)
    except ValueError as error:
        message = str(error)
    else:
        assert isinstance(metadata, dict)
        assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())
    assert not message or message.startswith(f"{path}: found ")


@in_any_folder
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_no_model(tmp_path, content):
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m: found .*expected"):
        load_tensors(path)


GOOD = json.dumps({"version": 1, "metadata": {}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "truncated, damaged or not a model"),
        (b"hello, I am a text file\n", "truncated, damaged or not a model"),
        (raw({}), "without metadata under the key 'pynn'"),
        (raw({"__metadata__": {"format": "pt"}}), "without metadata under the key 'pynn'"),
        (raw({"__metadata__": {"pynn": 3}}), "truncated, damaged or not a model"),
        (raw({"__metadata__": {"pynn": "{"}}), "metadata that is not JSON"),
        (raw({"__metadata__": {"pynn": "[" * 100_000}}), "metadata that is not JSON"),
        (raw({"__metadata__": {"pynn": "[]"}}), "metadata without a format version"),
        (raw({"__metadata__": {"pynn": "{}"}}), "metadata without a format version"),
        (
            raw({"__metadata__": {"pynn": '{"version": 2, "metadata": {}}'}}),
            "found format version 2, expected 1; a newer pynn",
        ),
        (
            raw({"__metadata__": {"pynn": '{"version": 1, "metadata": []}'}}),
            "metadata of type list, expected a JSON object",
        ),
        (
            raw(
                {
                    "__metadata__": {"pynn": GOOD},
                    "w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
                },
                bytes(4),
            ),
            "found tensor 'w', which NumPy cannot hold",
        ),
        (
            raw(
                {
                    "__metadata__": {"pynn": GOOD},
                    "w": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]},
                },
                bytes(4),
            ),
            "found tensor 'w', which NumPy cannot hold",
        ),
        (
            raw(
                {
                    "__metadata__": {"pynn": GOOD},
                    "w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
                },
                bytes(8),
            ),
            "truncated, damaged or not a model",
        ),
    ],
)
def test_an_error_says_why_a_file_is_no_model(tmp_path, content, message):
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_tensors(path)
    assert str(caught.value).startswith(f"{path}: found ")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: found no such file, expected a complete"):
        load_tensors(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found a folder, expected a complete model"):
        load_tensors(tmp_path)
    with pytest.raises(FileNotFoundError, match="found no folder"):
        save_tensors(tmp_path / "no" / "m", {}, {})


def test_a_write_that_fails_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, disk.atomic_write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize("path", [None, 5, 1.5, True, ["a"], "", b"", "a\0b"])
def test_other_objects_are_no_paths(path):
    net = pynn.Network([2, 2], backend="numpy")
    for call in (
        lambda: net.save(path),
        lambda: pynn.load(path),
        lambda: pynn.Checkpoint(path, steps=1),
        lambda: pynn.data.load(path),
        lambda: pynn.data.load_csv(path),
        lambda: pynn.data.load_npz(path),
        lambda: pynn.data.load_idx(path),
    ):
        with pytest.raises((TypeError, ValueError), match="^path: found .*, expected the path of"):
            call()


def test_paths_of_bytes(tmp_path):
    net = pynn.Network([2, 2], backend="numpy")
    path = os.fsencode(tmp_path / "é a")
    net.save(path)
    assert np.array_equal(pynn.load(path).parameters, net.parameters)
    assert pynn.Checkpoint(path, steps=1).path == Path(os.fsdecode(path))
    with pytest.raises(FileNotFoundError, match="use os.path.expanduser"):
        pynn.load("~/there is no such file")
