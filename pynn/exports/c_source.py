"""Networks as C99 source code: one header with constants and a function, without allocation."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from ..backends.activations import SELU_ALPHA, SELU_SCALE
from ..files.disk import atomic_write
from ..version import __version__
from .c_outputs import labels, returned
from .c_text import C_TYPES, array, comment, literal, suffix
from .operations import (
    Activate,
    AddInput,
    Affine,
    Cast,
    Dense,
    Operation,
    Program,
    RowNorm,
    describe,
    input_format,
    refuse,
)

if TYPE_CHECKING:
    import os

    from ..training.model import Model

Array = np.ndarray


def save(path: str | os.PathLike[str], model: Model, name: str, input_dtype: str | None) -> None:
    """Write a model as a C header, completely or not at all."""
    if not isinstance(name, str):
        raise TypeError(f"name: found {name!r}, expected a text")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            f"name: found {name!r}, expected an identifier of C that begins with a letter: ASCII "
            "letters, digits and _"
        )
    program = describe(model, input_format(model, input_dtype, model.architecture.dtype))
    names = model.columns if model.table is None else model.table.inputs
    text = source(program, name, names, model.architecture.loss_text)
    with atomic_write(path) as file:
        file.write(text.encode("ascii"))


def source(program: Program, name: str, columns: tuple[str, ...] | None, loss: str) -> str:
    """Return the text of the header."""
    body = _Body(program, name)
    for step in program.operations:
        body.translate(step)
    out, count, finish = returned(program, body.value, body.dtype)
    body.loop(program.outputs.width, [out])
    x, result = C_TYPES[program.input_dtype], C_TYPES[body.dtype]
    guard = f"PYNN_{name.upper()}_H"
    scratch = body.largest * len(body.buffers)
    about = _about(program, columns, loss, scratch * np.dtype(program.dtype).itemsize)
    return "\n".join(
        [
            *comment(about),
            *(f"#ifndef {guard}", f"#define {guard}", "", "#include <math.h>"),
            *(["#include <stdint.h>"] if body.rounds else []),
            "",
            f"#define {name.upper()}_INPUTS {program.n_in}",
            f"#define {name.upper()}_OUTPUTS {count}",
            "",
            *(_bf16(name) if body.rounds else []),
            f"static inline void {name}_predict(const {x} *x, {result} *out)",
            "{",
            *(f"    {line}".rstrip() for line in (*body.declarations(), *body.lines, *finish)),
            "}",
            *labels(program, name),
            "",
            f"#endif /* {guard} */",
            "",
        ]
    )


def _about(program: Program, columns: tuple[str, ...] | None, loss: str, stack: int) -> list[str]:
    """Return the lines of the comment at the top."""
    outputs = program.outputs
    meaning = {
        "classes": "probabilities of the classes" if outputs.probabilities else "scores",
        "multilabel": "a probability for each label" if outputs.probabilities else "scores",
        "values": "the predicted values",
        "quantiles": "for each target its quantiles",
        "distribution": "the means of the targets, then their standard deviations",
    }[outputs.kind]
    pixels = " from 0 to 255" if program.input_dtype == "uint8" else ""
    lines = [
        f"A neural network {'-'.join(map(str, program.widths))}, written by pynn {__version__}.",
        f"Loss: {loss}. x: {program.n_in} values{pixels}. out: {meaning}.",
        f"It takes about {stack} bytes of stack, changes no other memory but out, and may be",
        "called by several threads.",
    ]
    if columns is not None:
        lines += ["Inputs, in this order:", *(f"  {k} {c}" for k, c in enumerate(columns))]
    return lines


def _bf16(name: str) -> list[str]:
    """Return the function that rounds a float to bfloat16: to nearest, ties to even."""
    return [
        f"static inline float {name}_bf16(float value)",
        "{",
        "    union { float value; uint32_t bits; } u;",
        "",
        "    u.value = value;",
        "    u.bits += 0x7FFFu + ((u.bits >> 16) & 1u);",
        "    u.bits &= 0xFFFF0000u;",
        "    return u.value;",
        "}",
        "",
    ]


class _Body:
    """The statements of the function, while they are written.

    Operations on single values are collected in ``_loop``, the body of one loop over the values,
    which ``loop`` writes when a layer needs all of them. ``value`` is the expression of the current
    value in that loop, with the index j.
    """

    def __init__(self, program: Program, name: str) -> None:
        self._name = name
        self.dtype = program.input_dtype
        self.width = program.n_in
        self.lines: list[str] = []
        self.buffers: list[str] = []
        self.largest = 0
        self.rounds = False
        self.value = "x[j]"
        self._final = program.dtype
        self._arrays: list[str] = []
        self._loop: list[str] = []
        self._count = 0
        self._at = "x"
        """The array that holds all values, or nothing while the loop computes them."""
        self._entering = ""

    def declarations(self) -> list[str]:
        """Return the constants and buffers."""
        kind = C_TYPES[self._final]
        return [
            *self._arrays,
            *(f"{kind} {name}[{self.largest}];" for name in self.buffers),
            "int i, j;",
            "",
        ]

    def translate(self, step: Operation) -> None:
        """Add one operation."""
        if isinstance(step, Dense):
            self._dense(step)
        elif isinstance(step, RowNorm):
            self._row_norm(step)
        elif isinstance(step, Activate) and step.name == "softmax":
            self._softmax()
        elif isinstance(step, Cast):
            self.dtype = step.dtype
            self._assign(f"({C_TYPES[step.dtype]}){self.value}")
        elif isinstance(step, Affine):
            self._affine(step)
        elif isinstance(step, AddInput):
            self._assign(f"{self.value} + {self._entering}[j]")
        else:
            self._activate(step)

    def loop(self, width: int, statements: list[str]) -> None:
        """Write the loop over the values, with statements that use the current value."""
        lines = [*self._loop, *statements]
        self.lines += [f"for (j = 0; j < {width}; j++) {{", *(f"    {s}" for s in lines), "}"]
        self._loop = []

    # --- Single values --------------------------------------------------------------------------

    def _assign(self, expression: str) -> None:
        """Let the loop compute the next value."""
        name = f"v{self._count}"
        self._count += 1
        self._loop.append(f"const {C_TYPES[self.dtype]} {name} = {expression};")
        self.value, self._at = name, ""

    def _constant(self, values: Array) -> str:
        """Store constants, and return the expression of one of them in the loop."""
        values = np.asarray(values)
        if values.ndim == 0:
            return literal(float(values), self.dtype)
        name = f"c{len(self._arrays)}"
        self._arrays += array(name, values, self.dtype)
        return f"{name}[j]"

    def _affine(self, step: Affine) -> None:
        found = self.value
        if step.center is not None:
            found = f"({found} - {self._constant(step.center)})"
        if step.factor is not None:
            found = f"{found} * {self._constant(step.factor)}"
        if step.summand is not None:
            found = f"{found} + {self._constant(step.summand)}"
        self._assign(found)

    def _activate(self, step: Activate) -> None:
        if step.name not in FORMULAS:
            refuse("to_c", f"the activation {step.name!r}", "one that the exporter has")
        numbers = {"p": step.parameter, "lambda": SELU_SCALE, "alpha": SELU_ALPHA}
        numbers |= {"root2": math.sqrt(2 / math.pi) * 2, "half": math.sqrt(0.5)}

        def replace(match: re.Match[str]) -> str:
            word = match[0]
            if word == "z":
                return self.value
            if word[0].isdigit():
                return literal(float(word), self.dtype)
            if word in numbers:
                return literal(numbers[word], self.dtype)
            return word + suffix(self.dtype)

        self._assign(re.sub(r"[a-z][a-z0-9]*|\d[\d.]*", replace, FORMULAS[step.name]))

    # --- All values of a row ----------------------------------------------------------------------

    def _stored(self) -> str:
        """Return the name of an array with all values."""
        if not self._at:
            self._at = self._buffer()
            self.loop(self.width, [f"{self._at}[j] = {self.value};"])
            self.value = f"{self._at}[j]"
        return self._at

    def _buffer(self) -> str:
        """Return the name of a buffer that the loop may write: not that of the input."""
        name = "b" if self._entering == "a" else "a"
        if name not in self.buffers:
            self.buffers.append(name)
        self.largest = max(self.largest, self.width)
        return name

    def _dense(self, step: Dense) -> None:
        n_in, n_out = step.weights.shape
        kind, dtype = C_TYPES[self.dtype], self.dtype
        rows = self._entering = self._stored()
        factor = f"{rows}[i]"
        if step.rounds:
            self.rounds = True
            factor = f"{self._name}_bf16({factor})"
        weights, biases = f"w{len(self._arrays)}", f"c{len(self._arrays)}"
        self._arrays += array(weights, step.weights.T, dtype) + array(biases, step.biases, dtype)
        self._loop = [
            f"{kind} sum = {biases}[j];",
            f"for (i = 0; i < {n_in}; i++)",
            f"    sum += {factor} * {weights}[j * {n_in}L + i];",
        ]
        self.width, self.value, self._at = n_out, "sum", ""

    def _row_norm(self, step: RowNorm) -> None:
        z, n, dtype = self._stored(), self.width, self.dtype
        kind, k, zero = C_TYPES[dtype], self._count, literal(0.0, dtype)
        self._count += 1
        size = literal(float(n), dtype)
        self.lines.append(f"{kind} mean{k} = {zero}, variance{k} = {zero};")
        if step.centers:
            self.loop(n, [f"mean{k} += {z}[j];"])
            self.lines.append(f"mean{k} /= {size};")
        self.loop(n, [f"variance{k} += ({z}[j] - mean{k}) * ({z}[j] - mean{k});"])
        epsilon = literal(step.epsilon, dtype)
        root = f"sqrt{suffix(dtype)}(variance{k} / {size} + {epsilon})"
        self.lines.append(f"variance{k} = {root};")
        found = f"({z}[j] - mean{k}) / variance{k} * {self._constant(step.scale)}"
        if step.shift is not None:
            found += f" + {self._constant(step.shift)}"
        self._assign(found)

    def _softmax(self) -> None:
        z, k, dtype = self._stored(), self._count, self.dtype
        kind, f = C_TYPES[dtype], suffix(dtype)
        self._count += 1
        self.lines.append(f"{kind} largest{k} = {z}[0], total{k} = {literal(0.0, dtype)};")
        self.loop(self.width, [f"largest{k} = fmax{f}(largest{k}, {z}[j]);"])
        exponential = f"exp{f}({z}[j] - largest{k})"
        self.loop(self.width, [f"{z}[j] = {exponential};", f"total{k} += {z}[j];"])
        self._assign(f"{z}[j] / total{k}")


FORMULAS = {
    "identity": "z",
    "sigmoid": "1 / (1 + exp(-z))",
    "tanh": "tanh(z)",
    "relu": "fmax(z, 0)",
    "leaky_relu": "z > 0 ? z : p * z",
    "elu": "z > 0 ? z : p * expm1(z)",
    "gelu": "0.5 * z * erfc(-half * z)",
    "softplus": "(fmax(p * z, 0) + log1p(exp(-fabs(p * z)))) / p",
    "silu": "z / (1 + exp(-z))",
    "mish": "z * tanh(fmax(z, 0) + log1p(exp(-fabs(z))))",
    "selu": "lambda * (z > 0 ? z : alpha * expm1(z))",
    "softsign": "z / (1 + fabs(z))",
    "relu6": "fmin(fmax(z, 0), 6)",
    "hard_sigmoid": "fmin(fmax(z + 3, 0), 6) / 6",
    "hard_swish": "z * (fmin(fmax(z + 3, 0), 6) / 6)",
    "hard_tanh": "fmin(fmax(z, -1), 1)",
    "gelu_tanh": "z / (1 + exp(-root2 * z * (1 + 0.044715 * z * z)))",
    "exp": "exp(z)",
}
"""C expressions of activations in z; p is the parameter, and names and numbers get the suffix of
their type. ``backends/activations.py`` has the sources."""
