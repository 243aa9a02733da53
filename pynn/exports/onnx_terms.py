"""ONNX files as terms: each value as an operator applied to other values.

Nothing of a file is executed. Constants are evaluated with NumPy, and only by the operators below.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..files.disk import require_file, shown
from .onnx_file import required
from .onnx_functions import ELEMENTWISE, apply

Array = np.ndarray

EXPECTED = "an ONNX file"
INVALID = LookupError, TypeError, ValueError, ArithmeticError
"""What operators raise for inputs and attributes that they cannot have."""


class Refused(ValueError):
    """A node that cannot be a part of a network."""


@dataclass(eq=False)
class Term:
    """A value of a graph: the result of an operator, a constant, or an input.

    Parameters
    ----------
    op
        The type of the node; ``"input"`` or ``"constant"`` for others.
    name
        The name of the node, for errors.
    arguments
        The inputs of the node; None for those that are left out.
    settings
        The attributes of the node.
    depends
        Whether it depends on an input of the graph.
    values
        Those of a constant, once they are known.
    """

    op: str
    name: str
    arguments: tuple[Term | None, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    depends: bool = False
    values: Array | None = None
    order: int = 0
    """Its place among the nodes of the file, each after its inputs."""

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error for a node that cannot be a part of a network."""
        raise Refused(f"from_onnx: node {shown(repr(self.name))} ({shown(self.op)}): {reason}")

    def argument(self, k: int) -> Term:
        """Return an input that must exist."""
        found = self.arguments[k] if k < len(self.arguments) else None
        if found is None:
            self.refuse(f"found no input {k}, expected one")
        return found


@dataclass
class Graph:
    """The terms of a file: its input and its outputs by name."""

    input: Term
    input_dtype: str
    width: int | None
    """Number of values in a row, if the file tells."""
    outputs: dict[str, Term]
    floats: list[str]
    """The outputs that are tensors of floats."""


def read(path: str | os.PathLike[str]) -> Graph:
    """Return the terms of an ONNX file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no ONNX file, or has several inputs.
    """
    onnx = required("from_onnx")
    file = require_file(path, EXPECTED)
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:
        raise ValueError(f"{path}: found {shown(error)}, expected {EXPECTED}") from error
    if not model.graph.node:
        raise ValueError(f"{path}: found no nodes, expected {EXPECTED}")
    return _Reader(onnx, file, model).graph()


class _Reader:
    """Makes the terms of one file."""

    def __init__(self, onnx: Any, path: Path, model: Any) -> None:
        self._onnx, self._path, self._model = onnx, path, model
        self._terms: dict[str, Term] = {}

    def graph(self) -> Graph:
        source = self._model.graph
        if source.sparse_initializer:
            raise ValueError(f"{self._path}: found sparse constants, expected dense ones")
        for tensor in source.initializer:
            self._terms[tensor.name] = self._constant(tensor.name, tensor)
        inputs = [each for each in source.input if each.name not in self._terms]
        if len(inputs) != 1:
            names = ", ".join(shown(repr(each.name)) for each in inputs[:5])
            raise ValueError(
                f"{self._path}: found {len(inputs)} inputs ({names}), expected one, the rows of x"
            )
        given = inputs[0]
        self._terms[given.name] = Term("input", given.name, depends=True)
        for node in source.node:
            self._node(node)
        kind = given.type.tensor_type
        dimensions = [each.dim_value for each in kind.shape.dim]
        known = len(dimensions) > 1 and all(dimensions[1:])
        floats = {each.name for each in source.output if self._is_float(each)}
        return Graph(
            self._terms[given.name],
            self._dtype(kind.elem_type),
            int(np.prod(dimensions[1:], dtype=np.int64)) if known else None,
            {each.name: self._of(each.name, "the output") for each in source.output},
            [each.name for each in source.output if each.name in floats],
        )

    def _dtype(self, kind: int) -> str:
        try:
            return str(self._onnx.helper.tensor_dtype_to_np_dtype(kind).name)
        except (KeyError, ValueError):
            return "unknown"

    def _is_float(self, value: Any) -> bool:
        return self._dtype(value.type.tensor_type.elem_type) in ("float16", "float32", "float64")

    def _of(self, name: str, user: str) -> Term:
        if name not in self._terms:
            raise ValueError(
                f"{self._path}: found {user} {shown(repr(name))}, expected the name of a value"
            )
        return self._terms[name]

    def _node(self, node: Any) -> None:
        name = node.name or (node.output[0] if node.output else "")
        op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        get = self._onnx.helper.get_attribute_value
        graphs = self._onnx.AttributeProto.GRAPH, self._onnx.AttributeProto.GRAPHS
        settings = {a.name: get(a) for a in node.attribute if a.type not in graphs}
        user = f"the input of node {shown(repr(name))} ({shown(op)})"
        arguments = tuple(self._of(each, user) if each else None for each in node.input)
        if node.op_type == "Constant":
            term = self._constant(name, self._value(name, settings))
        else:
            depends = any(each is not None and each.depends for each in arguments)
            # A node of several outputs is refused where another than the first is used.
            order = len(self._terms)
            term = Term(op, name, arguments, settings, depends or not arguments, order=order)
        for k, output in enumerate(node.output):
            other = Term(f"{op}, output {k},", name, arguments, settings, term.depends)
            self._terms[output] = term if k == 0 else other

    def _value(self, name: str, settings: dict[str, Any]) -> Any:
        """Return the tensor or values of a node of the type Constant."""
        for key, kind in (("value_float", np.float32), ("value_int", np.int64)):
            for each in (key, f"{key}s"):
                if each in settings:
                    return np.asarray(settings[each], kind)
        if not isinstance(settings.get("value"), self._onnx.TensorProto):
            raise ValueError(
                f"from_onnx: node {shown(repr(name))} (Constant): found a constant that is no "
                "tensor of numbers, expected one"
            )
        return settings["value"]

    def _constant(self, name: str, found: Any) -> Term:
        values = found if isinstance(found, np.ndarray) else self._array(name, found)
        return Term("constant", name, values=values)

    def _array(self, name: str, tensor: Any) -> Array:
        try:
            if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
                tensor = self._external(name, tensor)
            values: Array = self._onnx.numpy_helper.to_array(tensor)
            if values.dtype.name in ("float16", "bfloat16"):
                values = values.astype(np.float32)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{self._path}: constant {shown(repr(name))}: found {shown(error)}, expected "
                "a complete tensor"
            ) from error
        return values

    def _external(self, name: str, tensor: Any) -> Any:
        """Return a tensor with the values that are in another file of the same folder."""
        facts = {each.key: each.value for each in tensor.external_data}
        location = facts.get("location", "")
        folder = self._path.resolve().parent
        other = folder / location
        plain = Path(location).name == location and location not in ("", "..")
        if not plain or other.is_symlink():
            raise ValueError(
                f"the values in {shown(repr(location))}, expected a file in the same folder"
            )
        require_file(other, "the values of the model")
        offset, size = int(facts.get("offset", 0)), other.stat().st_size
        length = int(facts.get("length", size - offset))
        if offset < 0 or length < 0 or offset + length > size:
            raise ValueError(f"bytes {offset} to {offset + length} of a file of {size} bytes")
        copy = self._onnx.TensorProto()
        copy.CopyFrom(tensor)
        with other.open("rb") as file:
            file.seek(offset)
            copy.raw_data = file.read(length)
        copy.data_location = self._onnx.TensorProto.DEFAULT
        del copy.external_data[:]
        return copy


# --- Constants ------------------------------------------------------------------------------------


def constant(term: Term) -> Array:
    """Return the values of a term that does not depend on x."""
    if term.values is None:
        if term.depends:
            term.refuse("found a value that depends on x, expected a constant")
        arguments = [None if a is None else constant(a) for a in term.arguments]
        if term.op not in (*ELEMENTWISE, *_SHAPES):
            term.refuse("found an operator of constants, expected values that are stored")
        try:
            with np.errstate(all="ignore"):
                if term.op in _SHAPES:
                    term.values = np.asarray(_SHAPES[term.op](arguments, term.settings))
                else:
                    term.values = _computed(term, [a for a in arguments if a is not None])
        except INVALID as error:
            term.refuse(f"found {shown(error)}, expected a valid operation")
    return term.values


def _computed(term: Term, arguments: list[Array]) -> Array:
    """Return the result of an operator for each value, in the dtype of the arguments."""
    if np.broadcast(*arguments).size > max(a.size for a in arguments):
        raise ValueError("a result that is larger than its parts")
    found = np.asarray(apply(term.op, arguments, term.settings))
    kinds = [a.dtype for a in arguments if a.dtype.kind == "f"]
    return found.astype(np.result_type(*kinds)) if kinds and found.dtype.kind == "f" else found


def _reshape(arguments: list[Any], settings: dict[str, Any]) -> Array:
    values, shape = arguments[0], arguments[1].tolist()
    if not settings.get("allowzero", 0):
        shape = [values.shape[k] if n == 0 else n for k, n in enumerate(shape)]
    return np.asarray(values.reshape(shape))


def _axes(arguments: list[Any], settings: dict[str, Any]) -> tuple[int, ...]:
    found = arguments[1].tolist() if len(arguments) > 1 else settings["axes"]
    return tuple(found)


_CAST = {1: "float32", 6: "int32", 7: "int64", 10: "float32", 11: "float64", 16: "float32"}
"""Dtypes by their numbers in ``onnx.TensorProto.DataType``; half precision is read as float32."""

_SHAPES: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Reshape": _reshape,
    "Transpose": lambda a, s: a[0].transpose(s.get("perm")),
    "Unsqueeze": lambda a, s: np.expand_dims(a[0], _axes(a, s)),
    "Squeeze": lambda a, s: a[0].squeeze(_axes(a, s) if len(a) > 1 or "axes" in s else None),
    "Cast": lambda a, s: a[0].astype(_CAST[s["to"]]),
}
"""Operators that change the shape or the dtype of constants."""
