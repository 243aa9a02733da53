"""Networks as C source code, compiled and compared with predict."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from tests.exports import cases
from tests.exports.cases import network

Array = np.ndarray
GROUPS = {k: v for k, v in cases.groups().items() if k not in ("outputs-float64", "losses-float64")}
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow"]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")


def compiled(folder: Path, networks: dict[str, tuple[pynn.Network, dict[str, Any]]]) -> Any:
    """A library with the functions of several networks."""
    source = ["#include <stddef.h>"]
    for name, (net, settings) in networks.items():
        net.to_c(folder / f"{name}.h", name=name, **settings)
        text = (folder / f"{name}.h").read_text("ascii")
        types = text.partition(f"void {name}_predict(const ")[2].partition(")")[0]
        x, out = types.split(" *x, ")
        out = out.removesuffix(" *out")
        source += [
            f'#include "{name}.h"',
            f"void run_{name}(const {x} *x, {out} *out, int *index, const char **text, size_t n);",
            f"void run_{name}(const {x} *x, {out} *out, int *index, const char **text, size_t n)",
            "{",
            "    size_t k;",
            "    for (k = 0; k < n; k++) {",
            f"        {name}_predict(x + k * {name.upper()}_INPUTS,",
            f"                       out + k * {name.upper()}_OUTPUTS);",
        ]
        if f"int {name}_class" in text:
            result = f"out + k * {name.upper()}_OUTPUTS"
            source += [
                f"        index[k] = {name}_class({result});",
                f"        text[k] = {name}_class_name(index[k]);",
            ]
        else:
            source += ["        index[k] = 0; text[k] = 0;"]
        source += ["    }", "}"]
    (folder / "all.c").write_text("\n".join(source) + "\n")
    library = folder / "all.so"
    command = [COMPILER, *FLAGS, "-fPIC", "-shared", "-o", library, folder / "all.c", "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def run(library: Any, name: str, net: pynn.Network, x: Array, width: int) -> tuple[Any, ...]:
    out = np.zeros((len(x), width), net._model.target_format)
    index, text = np.zeros(len(x), np.intc), (ctypes.c_char_p * len(x))()
    x = np.ascontiguousarray(x)
    arguments = [a.ctypes.data_as(ctypes.c_void_p) for a in (x, out, index)]
    getattr(library, f"run_{name}")(*arguments, text, ctypes.c_size_t(len(x)))
    return out, index, [each and each.decode() for each in text]


def check(library: Any, name: str, net: pynn.Network, x: Array, tolerance: float) -> None:
    if cases.distribution(net):
        parts = [part.reshape(len(x), -1) for part in net.predict_distribution(x)]
        expected = np.concatenate(parts, axis=1)
    elif net._model.known_task.kind == "values":
        expected = net.predict(x).reshape(len(x), -1)
    elif cases.has_probabilities(net):
        expected = net.predict_proba(x)
    else:
        expected = net.activations(x, -1)
    out, index, text = run(library, name, net, x, expected.shape[1])
    scale = max(1.0, float(np.abs(expected).max()))
    assert float(np.abs(out - expected).max()) <= tolerance * scale, name
    if net.classes is not None:
        labels = net.predict(x)
        assert net.classes[index].tolist() == labels.tolist()
        assert text == [str(label) for label in labels.tolist()]


@needs_compiler
@pytest.mark.parametrize("group", GROUPS)
def test_the_compiled_code_computes_what_predict_does(group: str, tmp_path: Path) -> None:
    networks = {f"n{k}": make() for k, make in enumerate(GROUPS[group].values())}
    library = compiled(tmp_path, {name: (net, {}) for name, net in networks.items()})
    for name, net in networks.items():
        tolerance = 1e-10 if net.architecture.dtype == "float64" else 1e-5
        check(library, name, net, cases.rows_for(net), tolerance)
        if group.startswith("activations"):
            check(library, name, net, 300 * cases.rows_for(net), tolerance)


@needs_compiler
def test_types_of_inputs_and_rounding(tmp_path: Path) -> None:
    pixels, values = network(5, 4, 3, pixels=True), network(5, 4, 3)
    far = cases.standardized(network(5, 4, 3, standardize=True), np.arange(12) % 3, cases.X + 1e7)
    rounded = network(5, 20, 20, 3, precision="bf16", residual=True)
    tall = network(5, 4, 1, loss="mse", standardize_targets=True)
    cases.standardized(tall, 1e9 + cases.X[:, 0])
    networks: Any = {
        "tall": (tall, {}),
        "pixels": (pixels, {"input_dtype": "float32"}),
        "bytes": (pixels, {"input_dtype": "uint8"}),
        "values": (values, {"input_dtype": "float64"}),
        "far": (far, {"input_dtype": "float64"}),
        "rounded": (rounded, {}),
    }
    library = compiled(tmp_path, networks)
    check(library, "pixels", pixels, (cases.pixels() / 255).astype("f4"), 1e-5)
    check(library, "bytes", pixels, cases.pixels(), 1e-5)
    check(library, "values", values, cases.X, 1e-5)
    check(library, "tall", tall, cases.X.astype("f4"), 1e-15)
    check(library, "far", far, cases.X + 1e7, 1e-5)
    check(library, "rounded", rounded, cases.X.astype("f4"), 2e-4)


@needs_compiler
def test_several_files_in_one_program_and_in_cpp(tmp_path: Path) -> None:
    network(5, 4, 3).to_c(tmp_path / "first.h", name="first")
    network(3, 2).to_c(tmp_path / "second.h", name="second")
    main = tmp_path / "main.c"
    main.write_text('#include "first.h"\n#include "second.h"\nint main(void) { return 0; }\n')
    command = [COMPILER, *FLAGS, "-fsyntax-only"]
    subprocess.run([*command, main], check=True, timeout=60)
    subprocess.run([COMPILER, "-xc++", "-Wall", "-Werror", "-fsyntax-only", main], check=True)


def refused(net: pynn.Network, path: Path, text: str, **settings: Any) -> None:
    path.write_text("before")
    with pytest.raises((ValueError, TypeError), match=text):
        net.to_c(path, **settings)
    assert path.read_text() == "before"


def test_refused_networks_and_arguments(tmp_path: Path) -> None:
    path = tmp_path / "model.h"
    net = network(5, 3)
    for name in ("", "1a", "a b", "é", "_a", "a_b ", "a-b"):
        refused(net, path, f"name: found '{name}', expected an identifier", name=name)
    refused(net, path, "name: found 3, expected a text", name=3)
    refused(net, path, "input_dtype: found 'float16', expected one of", input_dtype="float16")
    double = pynn.Activation("double", lambda z: 2 * z, lambda z: 2 + 0 * z)
    refused(network(5, 4, 3, activation=double), path, "the custom activation 'double' in layer 0")
    far = cases.standardized(network(5, 4, 3, standardize=True), np.arange(12) % 3, cases.X + 1e8)
    refused(far, path, "input_dtype: found 'float32' for input .*, expected 'float64'")
    net.biases[0][0] = np.inf
    refused(net, path, "parameters: found values that are NaN")


def test_comments_and_texts_cannot_end_early(tmp_path: Path) -> None:
    net = network(2, 3)
    net.columns, net.classes = ["*/ int ü???/;", "a\nb\\"], ["ü", '"; ', "??/"]
    net.to_c(tmp_path / "model.h")
    text = (tmp_path / "model.h").read_text("ascii")
    assert text.count("*/") == 4
    assert r"0 \x2a/ int \xfc?\x3f?/;" in text
    assert "??" not in text
    assert r'"\303\274"' in text
    assert r'"\042\073 "' in text
    assert r'"\077\077/"' in text
