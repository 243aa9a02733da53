"""Mutations that keep a file's outer form, so that what is inside gets read.

Random bytes rarely pass a checksum. These take a file apart, change a part, and put it together
again with lengths and checksums that are right, most of the time.
"""

from __future__ import annotations

import copy
import gzip as gzip_module
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Inner = Callable[[bytes, int], bytes]
"""The fuzzer's own mutation of bytes: ``inner(data, longest)``."""

Mutator = Callable[[bytes, int, random.Random, Inner], bytes]


def plain(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    return inner(data, longest)


# --- gzip -----------------------------------------------------------------------------------------


def gzipped(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    if rng.random() < 0.25:
        return inner(data, longest)
    try:
        content = zlib.decompressobj(31).decompress(data, 1 << 16)
    except zlib.error:
        return inner(data, longest)
    if rng.random() < 0.8:
        content = inner(content, longest)
    packed = gzip_module.compress(content, rng.choice([0, 1, 9]), mtime=0)
    match rng.randrange(12):
        case 0:  # in two members
            cut = rng.randrange(len(content) + 1)
            packed = b"".join(gzip_module.compress(c, 1) for c in (content[:cut], content[cut:]))
        case 1:  # zeros behind, which gzip allows
            packed += bytes(rng.randrange(1, 40))
        case 2:  # a long run behind, packed
            packed = gzip_module.compress(content + bytes(rng.randrange(1, 1 << 19)), 9)
        case 3:  # a name and a comment in the header
            name = inner(b"name", 40).replace(b"\0", b"a") + b"\0"
            packed = packed[:3] + bytes([packed[3] | 8]) + packed[4:10] + name + packed[10:]
    return packed[:longest]


# --- JSON -----------------------------------------------------------------------------------------

_DEEP = "@deep@"
_ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 255, 2**31, 2**32, 2**63, -(2**63), 2**64, 10**400),
    *(0.5, 1.0, -0.0, 1e308, 5e-324, float("nan"), float("inf"), -float("inf")),
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "a",
        "1",
        "1e400",
        "\0",
        "\n",
        "\x1b[31m",
        "\ud800",
        "é",
        "😀",
    ),
    *(
        "$\\frac{$",
        "<script>",
        "relu",
        "softmax",
        "mse",
        "float64",
        "O",
        "f4,f4",
        "(1,",
        "x" * 2000,
    ),
    *([], {}, [[]], [{}], [None], [0], [1, 2], {"": 0}, {"a": []}, [True, 1.5, "a"], _DEEP),
]


def _odd(rng: random.Random) -> Any:
    # A copy: what is put into a document may be changed there.
    return copy.deepcopy(rng.choice(_ODD))


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a document: what holds it, and the key there."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        node = todo.pop()
        keys = (
            list(node)
            if isinstance(node, dict)
            else range(len(node))
            if isinstance(node, list)
            else ()
        )
        for key in keys:
            found.append((node, key))
            todo.append(node[key])
    return found


def changed(document: Any, rng: random.Random, inner: Inner) -> Any:
    """Change a document in one to three places."""
    holder = [document]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = _nodes(holder)
        node, key = rng.choice(places)
        value = node[key]
        match rng.randrange(10):
            case 0 | 1 | 2:
                node[key] = _odd(rng)
            case 3 if isinstance(node, dict):
                del node[key]
            case 3 | 4 if isinstance(node, list) and node is not holder:
                if rng.random() < 0.5:
                    del node[key]
                else:
                    node.insert(key, _odd(rng) if rng.random() < 0.5 else copy.deepcopy(value))
            case 4 if isinstance(node, dict):
                name = rng.choice(["a", "", "__metadata__", "checkpoint", "\x1b", f"{key}s"])
                node[name] = node.pop(key) if rng.random() < 0.5 else copy.deepcopy(value)
            case 5:
                other, at = rng.choice(places)
                text = json.dumps(other[at])
                if len(text) < 2000:
                    node[key] = json.loads(text)
            case 6 if isinstance(value, str):
                node[key] = inner(value.encode(errors="replace"), 200).decode(errors="replace")
            case _ if isinstance(value, bool):
                node[key] = not value
            case _ if isinstance(value, int):
                node[key] = rng.choice(
                    [value + 1, value - 1, -value, value * 2, float(value % 999)]
                )
            case _ if isinstance(value, float):
                node[key] = rng.choice([value * 2, -value, value / 1e9, str(value)])
            case _ if isinstance(value, list) and value:
                node[key] = value * 2 if rng.random() < 0.5 else value[:-1]
            case _:
                node[key] = _odd(rng)
    return holder[0]


def _text(document: Any, rng: random.Random) -> bytes:
    text = json.dumps(document)
    if _DEEP in text:
        n = rng.choice([3, 40, 200, 500, 900, 970, 985, 995, 2000])
        left, right = rng.choice(["[]", ('{"a":', "}")])
        text = text.replace(f'"{_DEEP}"', left * n + ("0" if left != "[" else "") + right * n)
    return text.encode()


def document(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    if rng.random() < 0.15:
        return inner(data, longest)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return inner(data, longest)
    try:
        return _text(changed(found, rng, inner), rng)[:longest]
    except (ValueError, RecursionError):
        return inner(data, longest)


# --- Models and checkpoints -----------------------------------------------------------------------

_ITEMSIZES = {"F64": 8, "F32": 4, "I64": 8, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1, "U64": 8}
_STRANGE = ("F8_E4M3", "F8_E5M2", "F4", "F6_E2M3", "C64", "I128", "E8M0", "", "f32")
_SIZES = (0, 1, 2, 3, 4, 8, 16, 255, 2**31, 2**32, 2**62, 2**63 - 1, 2**64 - 1, 2**64, -1)


def safetensors(header: bytes, payload: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + payload


def tensors(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    """Change the header of a safetensors file as a document, or its bytes."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header, payload = json.loads(data[8 : 8 + length]), data[8 + length :]
        if rng.random() < 0.6:
            return safetensors(_text(changed(header, rng, inner), rng), payload)
        return safetensors(data[8 : 8 + length], inner(payload, max(1, longest - 8 - length)))
    except (struct.error, ValueError, RecursionError, UnicodeError, LookupError, TypeError):
        return inner(data, longest)


def model(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    if rng.random() < 0.1:
        return inner(data, longest)
    try:
        (length,) = struct.unpack_from("<Q", data)
        header, payload = json.loads(data[8 : 8 + length]), data[8 + length :]
        about = header["__metadata__"]
        found = json.loads(about["pynn"])
    except (struct.error, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return inner(data, longest)
    if not isinstance(header, dict) or not isinstance(about, dict):
        return inner(data, longest)
    try:
        match rng.randrange(10):
            case 0 | 1 | 2 | 3 | 4:
                about["pynn"] = _text(_changed_within(found, rng, inner), rng).decode()
            case 5:
                about["pynn"] = inner(about["pynn"].encode(), longest).decode(errors="replace")
            case 6:
                payload = inner(payload, max(1, longest - 8 - length))
            case 7:
                header = changed(header, rng, inner)
            case 8 | 9:
                payload = _retensored(header, payload, rng)
        text = _text(header, rng) if rng.random() < 0.95 else inner(_text(header, rng), longest)
    except (ValueError, RecursionError, UnicodeError, LookupError, TypeError, AttributeError):
        return inner(data, longest)
    return safetensors(text, payload)[:longest]


def _changed_within(found: Any, rng: random.Random, inner: Inner) -> Any:
    # The state of a callback is a document within the document.
    states = [
        (node, key)
        for node, key in _nodes(found)
        if key == "state" and isinstance(node, dict) and isinstance(node[key], str)
    ]
    if states and rng.random() < 0.3:
        node, key = rng.choice(states)
        node[key] = _text(changed(json.loads(node[key]), rng, inner), rng).decode()
        return found
    return changed(found, rng, inner)


def _retensored(header: dict[str, Any], payload: bytes, rng: random.Random) -> bytes:
    """Change tensors with all lengths right, most of the time."""
    tensors = {
        name: [t["dtype"], list(t["shape"]), payload[slice(*t["data_offsets"])]]
        for name, t in header.items()
        if name != "__metadata__"
    }
    name = rng.choice(list(tensors))
    kind, shape, content = tensors[name]
    match rng.randrange(8):
        case 0:
            tensors[name][1] = rng.choice([shape[::-1], [*shape, 1], [1, *shape], shape[:-1], [0]])
        case 1:
            tensors[name][0] = rng.choice(list(_ITEMSIZES))
        case 2:
            tensors[name][0] = rng.choice(_STRANGE)
        case 3 if shape:
            shape[rng.randrange(len(shape))] = rng.choice(_SIZES)
        case 4:
            del tensors[name]
        case 5:
            tensors[rng.choice(["callbacks.0.parameters", "callbacks.1.updates", "a", ""])] = [
                *(kind, shape, content)
            ]
        case 6:
            content = bytearray(content)
            width = _ITEMSIZES.get(kind, 1)
            odd = {8: (0x7FF8 << 48, 0x7FF0 << 48), 4: (0x7FC00000, 0x7F800000)}.get(width, (0,))
            at = rng.randrange(0, max(1, len(content) - width + 1))
            content[at : at + width] = rng.choice(odd).to_bytes(width, "little")
            tensors[name][2] = bytes(content)
        case _:
            other = rng.choice(list(tensors))
            tensors[name], tensors[other] = tensors[other], tensors[name]
    name = rng.choice([*tensors, None])
    for key in [key for key in header if key != "__metadata__"]:
        del header[key]
    out = b""
    for name, (kind, shape, content) in tensors.items():
        if rng.random() < 0.8 and kind in _ITEMSIZES:
            # As long as the header says, if that is not too long.
            count = _ITEMSIZES[kind]
            for n in shape:
                count *= n if isinstance(n, int) and n >= 0 else 1
            if count <= 4096:
                content = (content * (count // max(1, len(content)) + 1))[:count].ljust(count, b"?")
        stop = len(out) + len(content)
        if rng.random() < 0.02:
            stop = rng.choice(_SIZES)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(out), stop]}
        out += content
    return out


# --- ZIP and NPY ----------------------------------------------------------------------------------

_DESCRS = (
    *("|u1", "<f4", "<f8", ">f8", "<i8", ">i2", "|b1", "<f2", "<c16", "<M8[s]", "<m8", "|O", "|V4"),
    *(
        "<U5",
        "<U0",
        "|S0",
        "|S3",
        "<U1000000000",
        "|V0",
        "O",
        "<f16",
        "T",
        "f4,f4",
        "<u9",
        "a" * 300,
    ),
    *([("a", "<f4"), ("b", "|O")], [("a", "<f4", (2, 2))], [("a", "|u1", (2**31, 2**31))], [], ()),
    *({"names": ["a"], "formats": ["O"]}, None, 1, "(2,)f4", "(1000000000,)f8", ("<f4", (3,))),
)
_SHAPES = (
    *(
        (),
        (0,),
        (1,),
        (3,),
        (3, 4),
        (4, 3),
        (3, 0),
        (0, 2**62),
        (2**40,),
        (2**31, 2**31),
        (3, 2**60),
    ),
    *(
        (2**63,),
        (2**64, 0),
        (-1,),
        (-3, -4),
        (3, True),
        (3.0,),
        ("3",),
        (1,) * 33,
        (1,) * 65,
        3,
        None,
    ),
    *((10**9,), (5 * 10**8, 2), (65536, 784), (3, 1, 4)),
)
_NAMES = ("x", "y", "X", "Y", "x_train", "y_train", "x_test", "y_test", "a", "", "../x", "\x1b[2J")


def npy(header: bytes, content: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + content


def zipped(members: list[tuple[bytes, int, bytes]], rng: random.Random | None = None) -> bytes:
    """A ZIP archive of (name, method, content); with `rng` a size in it may be a lie."""
    out, directory = io.BytesIO(), io.BytesIO()
    liar = None if rng is None or rng.random() < 0.7 else rng.randrange(len(members) or 1)
    for k, (name, method, content) in enumerate(members):
        packed, crc = content, zlib.crc32(content)
        if method == zipfile.ZIP_DEFLATED:
            packer = zlib.compressobj(6, zlib.DEFLATED, -15)
            packed = packer.compress(content) + packer.flush()
        elif method == zipfile.ZIP_BZIP2:
            import bz2

            packed = bz2.compress(content)
        flags, packed_size, size, offset = 0, len(packed), len(content), out.tell()
        local = True
        if rng is not None and k == liar:
            lie = rng.choice([0, 1, size // 2, size + 1, size * 3, 2**31, 2**32 - 2, 2**32 - 1])
            match rng.randrange(7):
                case 0:
                    size = lie
                case 1:
                    packed_size = lie
                case 2:
                    size, packed_size = lie, lie
                case 3:
                    offset = rng.choice([0, lie])
                case 4:
                    flags = rng.choice([1, 8, 0x20, 0x40, 0x800, 0x2000])
                case 5:
                    crc ^= 1
                case 6:
                    local = False
        fields = (20, flags, method, 0, 33, crc, packed_size, size, len(name), 0)
        if local:
            out.write(struct.pack("<4s5H3I2H", b"PK\3\4", *fields) + name)
        out.write(packed)
        directory.write(
            struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *fields, 0, 0, 0, 0, offset) + name
        )
    start = out.tell()
    out.write(directory.getvalue())
    end = (0, 0, len(members), len(members), out.tell() - start, start, 0)
    return out.getvalue() + struct.pack("<4s4H2IH", b"PK\5\6", *end)


def archive(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    if rng.random() < 0.15:
        return inner(data, longest)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            members = [
                (i.filename.encode(), i.compress_type, found.read(i))
                for i in found.infolist()[:8]
                if i.file_size <= 1 << 16
            ]
    except Exception:  # it fails in a dozen ways
        return inner(data, longest)
    if not members:
        return inner(data, longest)
    k = rng.randrange(len(members))
    name, method, content = members[k]
    match rng.randrange(12):
        case 0:
            content = inner(content, longest)
        case 1 | 2:
            content = _renamed(content, rng, inner)
        case 3 | 4 | 5:
            header = {
                "descr": rng.choice(_DESCRS),
                "fortran_order": rng.random() < 0.3,
                "shape": rng.choice(_SHAPES),
            }
            if rng.random() < 0.1:
                header[rng.choice(["extra", "descr", "shape"])] = rng.choice([None, 1, (), [1]])
            body = (
                content[10 + struct.unpack_from("<H", content, 8)[0] :] if len(content) > 9 else b""
            )
            if rng.random() < 0.3:
                body = bytes(rng.choice([0, 1, 24, 1000, 60_000]))
            content = npy(repr(header).encode() + b"\n", body, rng.choice([1, 1, 1, 2, 3]))
        case 6:
            name = rng.choice(_NAMES).encode() + rng.choice([b".npy", b".npy", b"", b".NPY"])
        case 7:
            method = rng.choice([0, 8, 8, 9, 12, 14, 93, 99])
        case 8:
            members.append((rng.choice(_NAMES).encode() + b".npy", method, content))
        case 9:
            del members[k]
            return zipped(members, rng)[:longest]
        case 10:
            content += bytes(rng.choice([1, 1000, 1 << 16]))
        case 11:
            name = inner(name, 100)
    members[k] = name, method, content
    return zipped(members, rng)[:longest]


def _renamed(content: bytes, rng: random.Random, inner: Inner) -> bytes:
    """Change the header of an array as text, with its length right."""
    if len(content) < 10:
        return inner(content, 4096)
    (length,) = struct.unpack_from("<H", content, 8)
    header = inner(content[10 : 10 + length], 2000)
    if rng.random() < 0.1:
        header = rng.choice([b"(", b"-", b"[", b"{1:", b"not "]) * rng.choice([50, 300, 3000])
    return npy(header, content[10 + length :])


# --- CSV ------------------------------------------------------------------------------------------

_CELLS = (
    *("", " ", "0", "1", "255", "256", "-1", "-0", "+5", "007", "1.5", ".5", "5.", "1e3", "1e400"),
    *(
        "1e39",
        "-1e39",
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "true",
        "1_0",
        "٣",
        "0x10",
        "1,5",
        "a",
        "cat",
    ),
    *(
        "label",
        '"1"',
        '"1',
        '1"',
        '""',
        "'1'",
        "1 ",
        " 1",
        "\t1",
        "1\t",
        "\0",
        "\x1b[31m",
        "é",
        "#",
        "1#2",
    ),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 400, "1" * 5000),
    *(
        "a" * 300,
        '"a\nb"',
        "\u2028",
        "\x0b",
        "\x1c",
        "None",
        "NA",
        "2020-01-01",
        "1j",
        "1d5",
        "5e-324",
    ),
)
_ENDS = ("\n", "\r\n", "\r", "\n\n", "\n,\n", "\x0b", "\x85", "")


def cells(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    if rng.random() < 0.3:
        return inner(data, longest)
    lines = data.decode("latin-1").split("\n")
    end = "\n"
    for _ in range(rng.choice([1, 1, 2, 4])):
        k = rng.randrange(len(lines))
        found = lines[k].split(",")
        at = rng.randrange(len(found))
        match rng.randrange(9):
            case 0 | 1 | 2:
                found[at] = rng.choice(_CELLS)
            case 3:
                found.insert(at, rng.choice(_CELLS))
            case 4:
                del found[at]
            case 5:
                lines.insert(k, lines[rng.randrange(len(lines))])
            case 6 if len(lines) > 1:
                del lines[k]
                continue
            case 7:
                end = rng.choice(_ENDS)
            case _:  # the same in every line: a column
                cell = rng.choice(_CELLS)
                lines = [",".join([cell, *line.split(",")[1:]]) if line else "" for line in lines]
                continue
        lines[k] = ",".join(found)
    text = end.join(lines)
    if rng.random() < 0.02:
        text = "\ufeff" + text
    # Latin-1 came in, so what it cannot hold was put there as text.
    return b"".join(
        c.encode("latin-1") if ord(c) < 256 else c.encode(errors="replace") for c in text
    )[:longest]


# --- Pictures -------------------------------------------------------------------------------------

_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNKS = (
    *(b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"sRGB", b"pHYs"),
    *(b"cHRM", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IHDR", b"IEND", b"bKGD", b"abcd"),
)


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return _PNG + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def picture(data: bytes, longest: int, rng: random.Random, inner: Inner) -> bytes:
    if not data.startswith(_PNG) or rng.random() < 0.1:
        return inner(data, longest)
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return inner(data, longest)
    k = rng.randrange(len(chunks))
    kind, body = chunks[k]
    match rng.randrange(9):
        case 0 | 1:
            body = inner(body, longest)
        case 2:
            fields = [
                rng.choice([1, 2, 28, 255, 256, 257, 65535, 2**24, 2**31 - 1, 2**32 - 1, 0])
                for _ in range(2)
            ]
            more = [rng.choice(c) for c in ([1, 2, 4, 8, 16], [0, 2, 3, 4, 6], [0], [0], [0, 1])]
            chunks[0] = b"IHDR", struct.pack(">2I5B", *fields, *more)
            return png(chunks)[:longest]
        case 3:
            idat = b"".join(body for kind, body in chunks if kind == b"IDAT")
            try:
                content = zlib.decompressobj().decompress(idat, 1 << 16)
            except zlib.error:
                return inner(data, longest)
            content = inner(content, 1 << 14) if rng.random() < 0.7 else bytes(1 << 16)
            chunks = [c for c in chunks if c[0] != b"IDAT"]
            chunks.insert(max(1, len(chunks) - 1), (b"IDAT", zlib.compress(content)))
            return png(chunks)[:longest]
        case 4 | 5:
            kind = rng.choice(_CHUNKS)
            body = rng.choice(
                [
                    inner(body, longest),
                    b"a\0\0" + zlib.compress(bytes(rng.choice([10, 1 << 16, 1 << 22]))),
                    b"a\0" + inner(b"abc", 200),
                    b"Raw profile type exif\0\nexif\n8\n" + inner(b"4d4d002a00000008", 200),
                    b"XML:com.adobe.xmp\0\0\0\0\0" + inner(b'<tiff:Orientation="3"', 200),
                    struct.pack(">2I", rng.choice([0, 1, 2, 2**31, 2**32 - 1]), 0),
                ]
            )
            chunks.insert(rng.randrange(len(chunks)), (kind, body))
            return png(chunks)[:longest]
        case 6:
            del chunks[k]
            return png(chunks)[:longest]
        case 7:
            chunks.insert(rng.randrange(len(chunks) + 1), chunks[k])
            return png(chunks)[:longest]
        case _:
            kind = rng.choice(_CHUNKS)
    chunks[k] = kind, body
    return png(chunks)[:longest]
