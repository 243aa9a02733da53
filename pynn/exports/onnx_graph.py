"""Operations as ONNX nodes: what every writer of ONNX graphs shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..backends.activations import SELU_ALPHA, SELU_SCALE
from .operations import (
    Activate,
    AddInput,
    Affine,
    Cast,
    Dense,
    Operation,
    Outputs,
    Program,
    RowNorm,
    refuse,
)

Array = np.ndarray

TYPES = {
    "float32": 1,
    "uint8": 2,
    "int64": 7,
    "string": 8,
    "bool": 9,
    "float64": 11,
    "bfloat16": 16,
}
"""Numbers of ``onnx.TensorProto.DataType``."""


class Graph(Protocol):
    """A graph under construction. Names of nodes and constants are made unique by it."""

    def constant(self, name: str, values: Array) -> str:
        """Store a constant and return the name of its value."""
        ...

    def node(self, op: str, *inputs: str, name: str = "", domain: str = "", **settings: Any) -> str:
        """Add a node with one output and return the name of its value."""
        ...


def translate(program: Program, graph: Graph, x: str) -> str:
    """Add the operations of a program, and return the name of their result (rows, width)."""
    writer, value = _Writer(graph, program.input_dtype), x
    for step in program.operations:
        value = writer.translate(step, value)
    return value


class _Writer:
    """Translates operations; ``dtype`` is the format of the current values."""

    def __init__(self, graph: Graph, dtype: str) -> None:
        self.graph, self.dtype = graph, dtype
        self.layer = -1
        self.entering = ""
        """The input of the last ``Dense``."""

    def constant(self, name: str, values: Any) -> str:
        return self.graph.constant(f"{self._place}{name}", np.asarray(values, self.dtype))

    def node(self, op: str, *inputs: str, **settings: Any) -> str:
        return self.graph.node(op, *inputs, name=f"{self._place}{op}", **settings)

    @property
    def _place(self) -> str:
        return "inputs/" if self.layer < 0 else f"layer{self.layer}/"

    def translate(self, step: Operation, value: str) -> str:
        """Add one operation on a value and return the name of the result."""
        if isinstance(step, Cast):
            self.dtype = step.dtype
            return self.node("Cast", value, to=TYPES[step.dtype])
        if isinstance(step, Affine):
            return self._affine(step, value)
        if isinstance(step, Dense):
            self.layer += 1
            self.entering = value
            if step.rounds:
                value = self.node("Cast", value, to=TYPES["bfloat16"])
                value = self.node("Cast", value, to=TYPES[self.dtype])
            weights = self.constant("weights", step.weights)
            return self.node("Gemm", value, weights, self.constant("biases", step.biases))
        if isinstance(step, RowNorm):
            return self._row_norm(step, value)
        if isinstance(step, AddInput):
            return self.node("Add", value, self.entering)
        return self.activate(step, value)

    def _affine(self, step: Affine, value: str) -> str:
        for op, name, part in (
            ("Sub", "center", step.center),
            ("Mul", "factor", step.factor),
            ("Add", "summand", step.summand),
        ):
            if part is not None:
                value = self.node(op, value, self.constant(name, part))
        return value

    def _row_norm(self, step: RowNorm, value: str) -> str:
        scale = self.constant("scale", step.scale)
        if step.centers:
            inputs = value, scale, self.constant("shift", step.shift)
            return self.node("LayerNormalization", *inputs, axis=1, epsilon=step.epsilon)
        mean = self.node("ReduceMean", self.node("Mul", value, value), axes=[1], keepdims=1)
        root = self.node("Sqrt", self.node("Add", mean, self.constant("epsilon", step.epsilon)))
        return self.node("Mul", self.node("Div", value, root), scale)

    def activate(self, step: Activate, value: str) -> str:
        """Add an activation.

        ONNX Runtime computes some operators in float32 only; float64 uses their formulas.
        """
        z, name = value, step.name
        single = self.dtype == "float32"
        if name in _OPERATORS:
            return self.node(_OPERATORS[name], z)
        if name == "softmax":
            return self.node("Softmax", z, axis=1)
        if single and name in _SINGLE:
            return self.node(_SINGLE[name], z)
        if single and name in _WITH_ALPHA:
            return self.node(_WITH_ALPHA[name], z, alpha=step.parameter)
        if single and name == "hard_sigmoid":
            return self.node("HardSigmoid", z, alpha=1 / 6, beta=0.5)
        if name not in _FORMULAS:
            refuse("to_onnx", f"the activation {name!r}", "one that the exporter has")
        return _FORMULAS[name](_Formula(self), z, step.parameter)


_OPERATORS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "exp": "Exp"}
_SINGLE = {"softsign": "Softsign", "hard_swish": "HardSwish", "selu": "Selu"}
_WITH_ALPHA = {"elu": "Elu", "leaky_relu": "LeakyRelu"}


class _Formula:
    """Elementary operations on values, for the formulas of activations."""

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer

    def __call__(self, op: str, *values: str | float, **settings: Any) -> str:
        w = self._writer
        names = [v if isinstance(v, str) else w.constant("number", v) for v in values]
        return w.node(op, *names, **settings)

    def clip(self, z: str, low: float, high: float) -> str:
        return self("Min", self("Max", z, low), high)

    def softplus(self, z: str) -> str:
        if self._writer.dtype == "float32":
            return self("Softplus", z)
        e = self("Exp", self("Neg", self("Abs", z)))
        return self("Add", self("Max", z, 0.0), self("Log", self("Add", e, 1.0)))

    def elu(self, z: str, alpha: float) -> str:
        below = self("Sub", self("Exp", self("Min", z, 0.0)), 1.0)
        return self("Add", self("Max", z, 0.0), self("Mul", below, alpha))

    def erf(self, z: str) -> str:
        if self._writer.dtype == "float32":
            return self("Erf", z)
        found = self("Erf", self("Cast", z, to=TYPES["float32"]))
        return self("Cast", found, to=TYPES[self._writer.dtype])


def _leaky_relu(f: _Formula, z: str, slope: float) -> str:
    return f("Add", f("Max", z, 0.0), f("Mul", f("Min", z, 0.0), slope))


def _gelu(f: _Formula, z: str, _: float) -> str:
    cdf = f("Add", f.erf(f("Mul", z, math.sqrt(0.5))), 1.0)
    return f("Mul", f("Mul", z, 0.5), cdf)


def _gelu_tanh(f: _Formula, z: str, _: float) -> str:
    # As the reference: z·sigmoid(u), with z clipped in u to where sigmoid(u) is 0 or 1.
    near = f.clip(z, -40.0, 40.0)
    inner = f("Add", f("Mul", f("Mul", near, near), 0.044715), 1.0)
    u = f("Mul", f("Mul", near, math.sqrt(8 / math.pi)), inner)
    return f("Mul", z, f("Sigmoid", u))


def _softplus(f: _Formula, z: str, beta: float) -> str:
    return f.softplus(z) if beta == 1 else f("Div", f.softplus(f("Mul", z, beta)), beta)


def _hard_sigmoid(f: _Formula, z: str, _: float) -> str:
    return f("Div", f.clip(f("Add", z, 3.0), 0.0, 6.0), 6.0)


_FORMULAS: dict[str, Callable[[_Formula, str, float], str]] = {
    "identity": lambda f, z, _: z,
    "leaky_relu": _leaky_relu,
    "elu": lambda f, z, alpha: f.elu(z, alpha),
    "gelu": _gelu,
    "softplus": _softplus,
    "silu": lambda f, z, _: f("Mul", z, f("Sigmoid", z)),
    "mish": lambda f, z, _: f("Mul", z, f("Tanh", f.softplus(z))),
    "selu": lambda f, z, _: f("Mul", f.elu(z, SELU_ALPHA), SELU_SCALE),
    "softsign": lambda f, z, _: f("Div", z, f("Add", f("Abs", z), 1.0)),
    "relu6": lambda f, z, _: f.clip(z, 0.0, 6.0),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda f, z, _: f("Mul", z, _hard_sigmoid(f, z, 0.0)),
    "hard_tanh": lambda f, z, _: f.clip(z, -1.0, 1.0),
    "gelu_tanh": _gelu_tanh,
}
"""Formulas of activations that ONNX has no operator for, or none in float64."""


# --- Outputs --------------------------------------------------------------------------------------


def output_dtype(program: Program) -> str:
    """Return the number format of the values that the operations end with."""
    casts = [step.dtype for step in program.operations if isinstance(step, Cast)]
    last = program.operations[-1]
    after = isinstance(last, (Affine, Cast)) and "float64" in casts[-1:]
    return "float64" if after else program.dtype


def results(program: Program, graph: Graph, value: str) -> dict[str, tuple[str, str, list[int]]]:
    """Add what the values mean, and return the outputs by name.

    Returns
    -------
    dict
        For each output the name of its value, its format and its shape without the rows.
    """
    outputs, dtype = program.outputs, output_dtype(program)
    if outputs.kind == "classes":
        return _classes(outputs, graph, value, dtype)
    name = "probabilities" if outputs.probabilities else "scores"
    if outputs.kind == "multilabel":
        label = graph.node("Greater", value, _number(graph, outputs.threshold, dtype))
        label = graph.node("Cast", label, to=TYPES["int64"])
        found = _both(graph, value, dtype) if outputs.width == 1 else value
        shape = [max(2, outputs.width)] if outputs.probabilities else [outputs.width]
        found = found if outputs.probabilities else value
        return {"label": (label, "int64", [outputs.width]), name: (found, dtype, shape)}
    if outputs.kind == "distribution":
        return _distribution(outputs, graph, value, dtype)
    if outputs.kind == "quantiles":
        count = outputs.width // outputs.targets
        shape = [count] if outputs.targets == 1 else [outputs.targets, count]
        if outputs.targets > 1:
            order = np.array([-1, count, outputs.targets], np.int64)
            value = graph.node("Reshape", value, graph.constant("quantiles", order))
            value = graph.node("Transpose", value, perm=[0, 2, 1])
        return {"prediction": (value, dtype, shape)}
    return {"prediction": _flat(outputs, graph, value, dtype, outputs.width)}


def _number(graph: Graph, value: float, dtype: str) -> str:
    return graph.constant("number", np.asarray(value, dtype))


def _both(graph: Graph, value: str, dtype: str) -> str:
    """Return the probabilities of no and yes for that of yes."""
    no = graph.node("Sub", _number(graph, 1.0, dtype), value)
    return graph.node("Concat", no, value, axis=1)


def _flat(
    outputs: Outputs, graph: Graph, value: str, dtype: str, width: int
) -> tuple[str, str, list[int]]:
    """Return an output of one value for each target; (rows,) if y was."""
    if not outputs.flat:
        return value, dtype, [width]
    flat = graph.constant("flat", np.array([-1], np.int64))
    return graph.node("Reshape", value, flat), dtype, []


def _classes(
    outputs: Outputs, graph: Graph, value: str, dtype: str
) -> dict[str, tuple[str, str, list[int]]]:
    assert outputs.classes is not None
    found, width = value, outputs.width
    if width > 1:
        index = graph.node("ArgMax", value, axis=1, keepdims=0)
    else:
        yes = graph.node("Greater", value, _number(graph, outputs.threshold, dtype))
        flat = graph.constant("flat", np.array([-1], np.int64))
        index = graph.node("Reshape", graph.node("Cast", yes, to=TYPES["int64"]), flat)
        if outputs.probabilities:
            found, width = _both(graph, value, dtype), 2
    classes = outputs.classes
    kind = "string" if classes.dtype.kind == "U" else classes.dtype.name
    label = graph.node("Gather", graph.constant("classes", classes), index, axis=0)
    name = "probabilities" if outputs.probabilities else "scores"
    return {"label": (label, kind, []), name: (found, dtype, [width])}


def _distribution(
    outputs: Outputs, graph: Graph, value: str, dtype: str
) -> dict[str, tuple[str, str, list[int]]]:
    """Return the means, and the standard deviations √(softplus(s) + 10⁻⁶)."""
    n = outputs.targets
    places = np.arange(2 * n, dtype=np.int64)
    mean = graph.node("Gather", value, graph.constant("means", places[:n]), axis=1)
    s = graph.node("Gather", value, graph.constant("deviations", places[n:]), axis=1)
    f = _Formula(_Writer(graph, dtype))
    deviation = f("Sqrt", f("Add", f.softplus(s), outputs.least_variance))
    if outputs.deviation_scale is not None:
        scale = graph.constant("deviation_scale", outputs.deviation_scale.astype(dtype))
        deviation = f("Mul", deviation, scale)
    return {
        "mean": _flat(outputs, graph, mean, dtype, n),
        "deviation": _flat(outputs, graph, deviation, dtype, n),
    }
