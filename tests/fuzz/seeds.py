"""What fuzzing begins with: small files of every kind, most of them good, made by code."""

from __future__ import annotations

import contextlib
import functools
import gzip as gzip_module
import io
import json
import math
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_bytes

import pynn
from pynn.arrays.fingerprint import content_sha256
from pynn.cli import folder as run_folder
from pynn.data.idx import idx_header
from pynn.files.tensors import load_tensors, save_tensors
from pynn.nielsen import network2

from . import mutators

# --- IDX ------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return idx_header(array) + array.astype(array.dtype.newbyteorder(">")).tobytes()


def of_idx() -> Iterator[bytes]:
    for kind in "u1", "i1", "i2", "i4", "f4", "f8":
        yield idx(np.arange(3, dtype=kind))
        yield idx(np.arange(12, dtype=kind).reshape(3, 2, 2))
    yield idx(np.array(5, np.uint8))
    yield idx(np.zeros((3, 0), np.float32))
    yield idx(np.zeros((3, 28, 28), np.uint8))
    yield idx(np.zeros((1,) * 32 + (3,), np.uint8))
    yield b"\0\0\x08\x02" + struct.pack(">2I", 60_000, 60_000)
    yield b"\0\0\x0e\x04" + struct.pack(">4I", *[2**32 - 1] * 4)


def labels() -> dict[str, bytes]:
    """The file of labels that lies beside one of images."""
    return {"labels": idx(np.zeros(3, np.uint8))}


def of_gzip() -> Iterator[bytes]:
    for content in of_idx():
        yield gzip_module.compress(content, 9, mtime=0)
    yield gzip_module.compress(idx(np.zeros(3, np.uint8)), mtime=0) * 2
    yield gzip_module.compress(idx(np.zeros((3, 1000, 1000), np.uint8)), 9, mtime=0)


# --- CSV ------------------------------------------------------------------------------------------


def of_csv() -> Iterator[bytes]:
    for text in (
        "5,0,255\n3,1,2\n",
        "label,pixel0,pixel1\n5,0,255\n3,1,2\n",
        "a,b,label\n0,1.5,cat\n2,-3e5,dog\n",
        "cat,0.25,1\r\ndog,0,1\r\n",
        "0.5,1,2\n1.5,3,4\n",
        '"label","a"\n"1","2"\n\n"3","4"\n',
        "label,0,1,2,3\n1,0,0,0,0\n",
        "0,1,2,3,4\n",
        "\ufeff1,2\n3,4\n",
        "1,2\n3\n",
        "1\n2\n",
        'a\n1\n""\n2\n',
        "a\n0.5\n\n2\n",
        # Findings: polars panicked, int and float both gave up, one label made all of them huge,
        # a column for each byte.
        '+5,"',
        f"{'9' * 400},1\n2,3\n",
        f"{'a' * 3000},1\n" + "b,1\n" * 200,
        "," * 4000,
        "\x1b[2J,1,2\n3,4,5\n",
        "",
    ):
        yield text.encode()


# --- NPZ ------------------------------------------------------------------------------------------


def npz(packed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **arrays)
    # The time of writing would make each a different file.
    with zipfile.ZipFile(file) as found:
        method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        members = [(i.filename.encode(), method, found.read(i)) for i in found.infolist()]
    return mutators.zipped(members)


def of_npz() -> Iterator[bytes]:
    x, y = np.arange(12.0).reshape(3, 4), np.array([2, 0, 1])
    yield npz(x=x, y=y)
    yield npz(True, x=x.astype("u1"), y=y)
    yield npz(x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    yield npz(True, X=np.asfortranarray(x), Y=np.array(["cat", "dog", "cat"]))
    yield npz(x=x.astype(">f4"), y=y, z=y)
    yield npz(x=x > 3, y=np.eye(3, dtype="f2"))
    yield npz(x=x, y=np.array([(1, 2.0)] * 3, [("a", "i4"), ("b", "f8")]))
    yield npz(x=x.reshape(3, 2, 2), y=np.array([b"ab", b"c", b""]))
    yield npz(x=np.array(1.0), y=y)
    yield npz()
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (3,)}\n"
    thing = mutators.npy(header, b"cos\nsystem\n(S'true'\ntR.")
    good = mutators.npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}\n", b"abc", 2)
    # Findings: text of no length that NumPy makes longer, text that is none, sizes that lie.
    for descr, shape in ("<U0", (65536, 784)), ("<U1", (1,)), ("|u1", (2**31,)), ("|u1", (3, True)):
        header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
        odd = mutators.npy(header, b"\xff" * 4)
        yield mutators.zipped([(b"x.npy", 0, good), (b"y.npy", 0, odd)])
    packed = zlib.compress(bytes(1 << 16))[2:-4]
    long = b"\x93NUMPY\2\0" + struct.pack("<I", 2**31) + packed
    yield mutators.zipped([(b"x.npy", 0, long), (b"y.npy", 0, good)])
    yield mutators.zipped([(b"\x1b[2J", 0, good), (b"a" * 2000, 0, good)])
    for method in zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2:
        yield mutators.zipped([(b"x.npy", method, thing), (b"y.npy", method, good)])
        yield mutators.zipped([(b"x.npy", method, good), (b"y.npy", method, good)])


# --- Pictures -------------------------------------------------------------------------------------


def of_images() -> Iterator[bytes]:
    from PIL import Image

    grey = np.full((12, 9), 250, np.uint8)
    grey[3:9, 4:6] = 10
    base = Image.fromarray(grey)
    turned = Image.Exif()
    turned[0x0112] = 6
    settings: list[tuple[str, str, dict[str, Any]]] = [
        *[("PNG", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")],
        ("PNG", "RGB", {"transparency": (250, 250, 250), "exif": turned}),
        ("PNG", "P", {"transparency": 0, "bits": 2}),
        *[("JPEG", mode, {"exif": turned}) for mode in ("L", "RGB", "CMYK")],
        ("JPEG", "RGB", {"progressive": True, "quality": 20}),
        ("MPO", "RGB", {"save_all": True, "append_images": [base.convert("RGB")]}),
        *[("GIF", mode, {}) for mode in ("L", "P", "RGB")],
        ("GIF", "L", {"save_all": True, "append_images": [base.rotate(90)], "transparency": 0}),
        *[("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")],
        *[("TIFF", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "F", "I;16")],
        *[
            ("TIFF", "L", {"compression": kind})
            for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ],
        ("TIFF", "1", {"compression": "group4"}),
        *[("WEBP", mode, {"lossless": True, "exif": turned}) for mode in ("RGB", "RGBA")],
        ("WEBP", "RGB", {"quality": 20}),
        ("WEBP", "RGB", {"save_all": True, "append_images": [base.convert("RGB").rotate(90)]}),
        *[("PPM", mode, {}) for mode in ("1", "L", "RGB", "I")],
        ("ICO", "RGBA", {}),
        ("TGA", "RGB", {}),
        ("PCX", "L", {}),
    ]
    for kind, mode, more in settings:
        file = io.BytesIO()
        picture = base if mode == "I;16" else base.convert(mode)
        if mode == "I;16":
            picture = Image.fromarray(grey.astype(np.uint16) * 256)
        try:
            picture.save(file, kind, **more)
        except (OSError, KeyError, ValueError):  # a Pillow built without this kind
            continue
        yield file.getvalue()
    yield b"P2\n3 2\n9\n1 2 3\n4 5 6\n"
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%true) (w) file\n"
    rows = zlib.compress(bytes(8 + 1 << 14))
    claim = struct.pack(">2I5B", 40_000, 40_000, 8, 0, 0, 0, 0)
    yield mutators.png([(b"IHDR", claim), (b"IDAT", rows), (b"IEND", b"")])
    yield mutators.png([(b"IHDR", claim[:8] + b"\x10\6\0\0\0"), (b"IDAT", rows), (b"IEND", b"")])


# --- Models and checkpoints -----------------------------------------------------------------------


@functools.cache
def blobs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    y = np.arange(30) % 3
    return (3 * np.eye(3, 4)[y] + rng.normal(scale=0.7, size=(30, 4))).astype("f4"), y


def _file(net: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        net.save(path)
        return path.read_bytes()


def _untimed(net: pynn.Network) -> pynn.Network:
    """Without what differs from one run to the next."""
    records = [r._replace(seconds=0.5, samples_per_second=60.0) for r in net.history]
    net.history = pynn.History(records)
    return net


@functools.cache
def _models() -> list[bytes]:
    x, y = blobs()
    about: dict[str, Any] = {"backend": "numpy", "seed": 3}
    once: dict[str, Any] = {"epochs": 2, "batch_size": 10, "progress": False}
    found = [_file(pynn.Network([4, 2], **about)), _file(pynn.Network([4, 5, 3, 2], **about))]
    for optimizer in "sgd", "momentum", "adam":
        net = pynn.Network([4, 3, 3], dropout=0.2, **about)
        held: dict[str, Any] = {"validation": 0.2, "metrics": "f1"}
        net.fit(x, np.array(["cat", "dog", "owl"])[y], optimizer=optimizer, **held, **once)
        found.append(_file(_untimed(net)))
    net = pynn.Network([4, 3, 1], loss="mse", dtype="float64", **about)
    net.fit(x, y.astype("f8"), optimizer="adamw", **once)
    found.append(_file(_untimed(net)))
    net = pynn.Network([4, 3, 3], activation="tanh", loss="binary_cross_entropy", **about)
    net.fit(x, np.eye(3)[y], optimizer=pynn.RMSProp(), **once)
    found.append(_file(_untimed(net)))
    return found


Edit = Callable[[dict[str, Any]], object]

_DEEP = json.loads("[" * 900 + "]" * 900)
MISFITS: list[Edit] = [
    lambda about: about["architecture"].update(dtype="(1,"),
    lambda about: about["architecture"].update(dtype=_DEEP),
    lambda about: about["architecture"].update(sizes=_DEEP),
    lambda about: about["architecture"].update(sizes=[4, 10**300, 3]),
    lambda about: about["architecture"].update(loss="\x1b[2J" + "x" * 5000),
    lambda about: about["history"].update(epoch=["nan", None]),
    lambda about: about["history"].update(loss=[None, None]),
    lambda about: about["history"].update(seconds=["inf", "nan"]),
    lambda about: about["history"].update(accuracy=["cat", []]),
    lambda about: about["history"].update({"\ud800": []}),
    lambda about: about["task"].update(classes=_DEEP),
    lambda about: about["task"].update(classes=["\x1b[2J", "$\\frac{$", "\ud800"]),
    lambda about: about.update(seed=10**400),
    lambda about: about.update(optimizer={"name": "adam", "x": 1}),
]


def _edited(content: bytes) -> Callable[[Edit], bytes]:
    """Return a function that rewrites a model or checkpoint with an edited document."""

    def edited(edit: Edit) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        document = json.loads(header["__metadata__"]["pynn"])
        edit(document["metadata"])
        header["__metadata__"]["pynn"] = json.dumps(document)
        return mutators.safetensors(json.dumps(header).encode(), content[8 + length :])

    return edited


def of_models() -> Iterator[bytes]:
    yield from _models()
    # Findings: what reads as Python, what nests too deep to show, columns that hold anything.
    yield from map(_edited(_models()[4]), MISFITS)
    document = json.dumps({"version": 1, "metadata": {}})
    yield mutators.safetensors(json.dumps({"__metadata__": {"pynn": document}}).encode(), b"")
    yield mutators.safetensors(b"{}", b"")
    yield struct.pack("<Q", 2**63)


def of_state_dicts() -> Iterator[bytes]:
    """State dicts of a module with a batch norm, in three number formats."""
    random = np.random.default_rng(0)
    for kind in ("<f4", "<f8", "<f2"):
        for names in (("0", "1", "3", "5"), ("first", "norm", "second", "last")):
            first, norm, second, last = names
            state = {
                f"{norm}.running_mean": random.normal(size=3),
                f"{norm}.running_var": random.uniform(1, 2, 3),
                f"{norm}.weight": np.ones(3),
                f"{norm}.bias": np.zeros(3),
            }
            for name, m, n in ((first, 4, 3), (second, 3, 3), (last, 3, 2)):
                state[f"{name}.weight"] = random.normal(size=(n, m))
                state[f"{name}.bias"] = np.zeros(n)
            yield to_bytes({name: tensor.astype(kind) for name, tensor in state.items()})


def of_onnx() -> Iterator[bytes]:
    """Files of pynn with labels, scales, norms and several activations."""
    x, y = blobs()
    about: dict[str, Any] = {"backend": "numpy", "seed": 3}
    names = pynn.Network([4, 3, 3], activation="mish", norm="layer", **about)
    names.classes = ["cat", "dog", "owl"]
    scaled = pynn.Network([4, 3, 1], loss="mse", standardize=True, norm="batch", **about)
    scaled.fit(x, y.astype("f4"), epochs=1, progress=False)
    single = pynn.Network([4, 1], loss="binary_cross_entropy", **about)
    deep = pynn.Network([4, 2, 2, 2, 2], activation=["gelu", "elu", "softplus"], **about)
    with tempfile.TemporaryDirectory() as folder:
        for net in (names, scaled, single, deep):
            path = Path(folder) / "a"
            net.to_onnx(path)
            yield path.read_bytes()
    yield b"\x08\x08"


class _Cut(Exception):
    pass


def fit(path: Path, resume: bool, cut: int | None = None) -> pynn.Network:
    """Train a small network, always the same, with a checkpoint after every update."""
    net = pynn.Network([4, 3, 3], backend="numpy", seed=3)
    x, y = blobs()

    def stop(net: pynn.Network, record: pynn.Record) -> None:
        if net.updates == cut:
            raise _Cut

    calls: list[Any] = [pynn.EarlyStopping("loss", patience=9), pynn.Norms(x, y)]
    net.fit(
        *(x, y),
        epochs=3,
        batch_size=10,
        optimizer="momentum",
        callbacks=[*calls, pynn.Every(1, stop)] if cut is not None else calls,
        checkpoint=pynn.Checkpoint(path, steps=1),
        resume=resume,
        progress=False,
    )
    return net


@functools.cache
def _checkpoints() -> list[bytes]:
    found = []
    for cut in 2, 5, 8, None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a"
            with contextlib.suppress(_Cut):
                fit(path, False, cut)
            tensors, document = load_tensors(path)
        for name in "seconds", "samples_per_second":
            column = document["history"][name]
            document["history"][name] = [0.5] * len(column)
        document["checkpoint"]["place"]["seconds"] = "0.5"
        # What the machine has differs, and is warned of where it does.
        document["checkpoint"]["machine"] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a"
            save_tensors(path, tensors, document)
            found.append(path.read_bytes())
    return found


def of_checkpoints() -> Iterator[bytes]:
    yield from _checkpoints()
    yield _models()[2]

    def state(k: int, **values: Any) -> Edit:
        def edit(about: dict[str, Any]) -> None:
            kept = about["checkpoint"]["callbacks"][k]
            kept["state"] = json.dumps(json.loads(kept["state"]) | values)

        return edit

    # Findings: what callbacks remember and cannot use, what is shown of what differs.
    edits: list[Edit] = [
        state(0, best="cat"),
        state(0, best=0.5, best_epoch=None),
        state(0, stopped_epoch=[]),
        state(0, parameters=[1, 2]),
        state(0, settings="\x1b[2J" + "x" * 5000),
        state(1, sizes=["cat"]),
        state(1, updates={}, weights=[1], gradients=None),
        lambda about: about["checkpoint"]["callbacks"].append({"name": "\x1b", "state": "{}"}),
        lambda about: about["checkpoint"]["place"].update(seconds="inf", loss="1e999"),
        lambda about: about["checkpoint"]["settings"].update(batch_size="\x1b[2J"),
        lambda about: about["checkpoint"]["settings"].update(batch_size=_DEEP),
        lambda about: about["checkpoint"]["data"]["x"].update(sha256=_DEEP),
        lambda about: about["checkpoint"].update(machine={"\x1b": "y" * 5000}),
        lambda about: about["checkpoint"].update(schedule=[_DEEP]),
    ]
    for content in _checkpoints()[1:3]:
        yield from map(_edited(content), edits)


# --- Runs and networks of the book ----------------------------------------------------------------


@functools.cache
def beside_settings() -> dict[str, bytes]:
    """What lies beside the settings of a run."""
    x, y = blobs()
    return {
        run_folder.MODEL: _models()[4],
        "data.npz": npz(x=x, y=np.array(["cat", "dog", "owl"])[y]),
    }


@functools.cache
def settings() -> bytes:
    x, y = blobs()
    document = {
        "options": {"data": "data.npz", "epochs": 2, "validation": 0.2, "hidden": [3], "l2": 0.0},
        "sizes": [4, 3, 3],
        "parameters": 27,
        "seed": 3,
        "backend": "numpy",
        "threads": 1,
        "data": {
            "source": "data.npz",
            "path": "data.npz",
            "train_rows": 30,
            "test_rows": None,
            "sha256": content_sha256((x, np.array(["cat", "dog", "owl"])[y])),
        },
        "environment": {"version": "0.1.0", "backends": {"numpy": "", "numba": "no"}, "cores": 2},
        "date": "2026-01-01 00:00:00",
        "result": {"epochs": 2, "seconds": 1.5, "interrupted": False, "validation_loss": 0.5},
    }
    return json.dumps(document).encode()


def of_settings() -> Iterator[bytes]:
    yield settings()
    yield b"{}"
    yield b"[" * 5000
    # Findings: numbers that are none, paths that are none, sections that nest too deep to show.
    for section, name, value in (
        (None, "seed", math.inf),
        (None, "seed", -1),
        (None, "date", _DEEP),
        (None, "backend", _DEEP),
        ("options", "validation", math.nan),
        ("options", "validation", 10**400),
        ("options", "epochs", _DEEP),
        ("data", "path", ["data.npz"]),
        ("data", "path", 3),
        ("data", "path", "\x1b[2J\0"),
        ("data", "path", "\ud800"),
        ("data", "path", "x" * 5000),
        ("data", "sha256", _DEEP),
        ("data", "sha256", "\x1b[2J"),
        ("data", "source", {"a": _DEEP}),
        ("data", "train_rows", 10**400),
        ("result", "seconds", 10**400),
        ("result", "seconds", "1"),
        ("result", "seconds", math.inf),
        ("environment", "backends", []),
        ("environment", "cores", _DEEP),
    ):
        document = json.loads(settings())
        (document if section is None else document[section])[name] = value
        yield json.dumps(document).encode()


def of_nielsen() -> Iterator[bytes]:
    state = np.random.get_state()
    np.random.seed(7)
    for sizes in [2, 1], [3, 2, 2]:
        net = network2.Network(sizes)
        net.weights = [w.round(2) for w in net.weights]
        net.biases = [b.round(2) for b in net.biases]
        yield _file(net)
    np.random.set_state(state)
    yield b"{}"
    for values in (
        {"cost": "\x1b[2J"},
        {"cost": _DEEP},
        {"sizes": _DEEP},
        {"sizes": [2, 10**300]},
        {"weights": [[[10**400, 1]]]},
        {"weights": [_DEEP]},
        {"biases": [[["cat"]]]},
        {"biases": "x" * 3000},
    ):
        document = {"sizes": [2, 1], "weights": [[[1, 2]]], "biases": [[[1]]]}
        yield json.dumps(document | {"cost": "QuadraticCost"} | values).encode()
