"""Networks as ONNX files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.disk import atomic_write
from ..version import __version__
from .onnx_graph import TYPES, results, translate
from .operations import Program, describe, input_format

if TYPE_CHECKING:
    import os

    from ..data.columns import Column
    from ..data.table import Table
    from ..training.model import Model

Array = np.ndarray

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
"""Versions of the operators and of the format: those of onnx 1.12 and ONNX Runtime 1.12."""
MOST_BYTES = 2**31 - 2**20
"""A protocol buffer holds less than 2 GiB; the rest of the file takes less than 1 MiB."""


def required(what: str) -> Any:
    """Return the package onnx, or raise an ImportError that says how to install it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f'{what} needs onnx: pip install "pynn-mlp[onnx]"') from error
    return onnx


class FileGraph:
    """The nodes and constants of a file; see ``onnx_graph.Graph``."""

    def __init__(self, onnx: Any, taken: Sequence[str]) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names = {*taken, ""}

    def unique(self, name: str) -> str:
        """Return a name that no value or node has yet."""
        found, count = name, 0
        while found in self._names:
            count += 1
            found = f"{name}_{count}"
        self._names.add(found)
        return found

    def constant(self, name: str, values: Array) -> str:
        found = self.unique(name)
        if values.dtype.kind == "U":
            flat = [text.encode() for text in values.ravel().tolist()]
            make = self._onnx.helper.make_tensor
            tensor = make(found, TYPES["string"], values.shape, flat)
        else:
            tensor = self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), found)
            tensor.dims[:] = values.shape
        self.constants.append(tensor)
        return found

    def node(self, op: str, *inputs: str, name: str = "", domain: str = "", **settings: Any) -> str:
        found = self.unique(name or f"outputs/{op}")
        make = self._onnx.helper.make_node
        self.nodes.append(make(op, inputs, [found], name=found, domain=domain, **settings))
        return found


def save(
    path: str | os.PathLike[str], model: Model, input_dtype: str | None, table: bool | None
) -> None:
    """Write a model as an ONNX file, completely or not at all."""
    onnx = required("to_onnx")
    columns = _columns(model.table, table)
    if columns and input_dtype is not None:
        raise ValueError(
            f"input_dtype: found {input_dtype!r} for inputs that are the columns of net.table, "
            "expected None, or table=False"
        )
    read = "float64" if columns else input_format(model, input_dtype, model.input_format)
    program = describe(model, read)
    size = model.architecture.n_parameters * np.dtype(program.dtype).itemsize
    if size > MOST_BYTES:
        raise ValueError(
            f"to_onnx: found {size / 2**30:.1f} GiB of parameters, expected less than 2 GiB, the "
            "limit of an ONNX file"
        )
    found = _model(onnx, program, columns, model)
    try:
        onnx.checker.check_model(found, full_check=True)
    except Exception as error:  # a defect of the exporter, not of the network
        raise RuntimeError(f"to_onnx: found a model that onnx.checker refuses: {error}") from error
    data = found.SerializeToString()
    with atomic_write(path) as file:
        file.write(data)


def _columns(table: Table | None, wanted: bool | None) -> tuple[Column, ...]:
    """Return the columns of the table that the file encodes; none if it takes encoded inputs."""
    if wanted is not None and not isinstance(wanted, (bool, np.bool_)):
        raise TypeError(f"table: found {wanted!r}, expected None, True or False")
    if wanted and table is None:
        raise ValueError("table: found True for a network without net.table, expected False")
    if table is None or wanted is False:
        return ()
    encodes = any(c.categories is not None or c.fill is not None for c in table.columns)
    return table.columns if wanted or encodes else ()


def _model(onnx: Any, program: Program, columns: Sequence[Column], model: Model) -> Any:
    """Return the model as a protocol buffer."""
    value_of = onnx.helper.make_tensor_value_info
    if columns:
        names = [column.name for column in columns]
        if "" in names:
            raise ValueError(
                f"table: found column {names.index('')} (counted from 0) without a name, expected "
                "names for the inputs of the file, or table=False"
            )
        kinds = [TYPES["float64" if c.categories is None else "string"] for c in columns]
        inputs = [value_of(n, k, ["rows", 1]) for n, k in zip(names, kinds, strict=True)]
    else:
        names = ["x"]
        inputs = [value_of("x", TYPES[program.input_dtype], ["rows", program.n_in])]
    graph = FileGraph(onnx, names)
    x = _encoded(graph, columns) if columns else "x"
    outputs = []
    for name, (value, dtype, shape) in results(
        program, graph, translate(program, graph, x)
    ).items():
        graph.nodes.append(
            onnx.helper.make_node("Identity", [value], [found := graph.unique(name)], name=found)
        )
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) if dtype != "string" else 8
        outputs.append(value_of(found, kind, ["rows", *shape]))
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    if columns:
        opsets.append(onnx.helper.make_opsetid("ai.onnx.ml", ML_OPSET))
    built = onnx.helper.make_graph(graph.nodes, "pynn", inputs, outputs, graph.constants)
    found = onnx.helper.make_model(
        *(built,),
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="pynn",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(found, _facts(model, program, columns))
    return found


def _facts(model: Model, program: Program, columns: Sequence[Column]) -> dict[str, str]:
    """Return the metadata of a file: facts that its nodes do not tell."""
    facts = {"loss": model.architecture.loss_text}
    classes = program.outputs.classes
    if classes is not None:
        facts["classes"] = json.dumps(classes.tolist())
    names = model.columns if model.table is None else model.table.inputs
    if names is not None and not columns:
        facts["columns"] = json.dumps(list(names))
    return facts


# --- Tables ---------------------------------------------------------------------------------------


def _encoded(graph: FileGraph, columns: Sequence[Column]) -> str:
    """Add the encoding of the columns of a table, and return the inputs of the network, float64."""
    parts = [_number(graph, c) if c.categories is None else _categories(graph, c) for c in columns]
    return graph.node("Concat", *parts, axis=1, name="table/Concat") if parts[1:] else parts[0]


def _number(graph: FileGraph, column: Column) -> str:
    if column.fill is None:
        return column.name
    missing = graph.node("IsNaN", column.name, name="table/IsNaN")
    fill = graph.constant("table/fill", np.asarray(column.fill, np.float64))
    return graph.node("Where", missing, fill, column.name, name="table/Where")


def _categories(graph: FileGraph, column: Column) -> str:
    """Add one input of 0 or 1 for each category; an unknown category is an error in the runtime."""
    assert column.categories is not None
    known = {text: text for text in column.categories}
    for text in column.categories:
        # As ``Table.x``: whole numbers may be written with .0, and the other way round.
        if re.fullmatch(r"-?\d+(\.0)?", text):
            known.setdefault(text[:-2] if text.endswith(".0") else f"{text}.0", text)
    if column.fill is not None:
        known.setdefault("", str(column.fill))
    ml: dict[str, Any] = {"domain": "ai.onnx.ml"}
    text = graph.node(
        *("LabelEncoder", column.name),
        keys_strings=list(known),
        values_strings=list(known.values()),
        default_string="",
        name="table/LabelEncoder",
        **ml,
    )
    hot = graph.node(
        *("OneHotEncoder", text),
        cats_strings=list(column.categories),
        zeros=0,
        name="table/OneHotEncoder",
        **ml,
    )
    # (rows, 1, categories) to (rows, categories).
    shape = graph.constant("table/shape", np.array([-1, len(column.categories)], np.int64))
    flat = graph.node("Reshape", hot, shape, name="table/Reshape")
    return graph.node("Cast", flat, to=TYPES["float64"], name="table/Cast")
