"""Converters of the estimators for skl2onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from ..exports.onnx_graph import TYPES, results, translate
from ..exports.operations import Outputs, Program, layers_of
from .core import flat_parameters
from .estimators import MLPClassifier, MLPRegressor

Array = np.ndarray

LEAST_OPSET = 14
"""The first opset with all operators that activations become."""


def register_onnx() -> None:
    """Register converters of :class:`MLPClassifier` and :class:`MLPRegressor` with skl2onnx.

    ``skl2onnx.to_onnx`` and ``skl2onnx.convert_sklearn`` then convert them, alone and in pipelines
    and other meta-estimators, from opset 14 on. A classifier has the outputs of scikit-learn's:
    labels, int64 or texts, (n, n_outputs) for multilabel targets; and probabilities, in the form
    that the option ``zipmap`` chooses. A regressor has one output (n, n_outputs). Inputs of doubles
    are computed in float64, other inputs in float32. Calling it again changes nothing.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> import pynn.sklearn  # doctest: +SKIP
    >>> pynn.sklearn.register_onnx()  # doctest: +SKIP
    >>> options = {"zipmap": False}  # doctest: +SKIP
    >>> model = skl2onnx.to_onnx(pipeline, x[:1], options=options)  # doctest: +SKIP
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        raise ImportError("register_onnx needs skl2onnx: pip install skl2onnx") from error
    update_registered_converter(
        *(MLPClassifier, "PynnMLPClassifier", _classifier_shapes, _convert),
        options={
            "zipmap": [True, False, "columns"],
            "output_class_labels": [False, True],
            "nocl": [True, False],
        },
    )
    update_registered_converter(MLPRegressor, "PynnMLPRegressor", _regressor_shapes, _convert)


# --- Shapes of outputs ----------------------------------------------------------------------------


def _values_type(operator: Any, columns: int) -> Any:
    """Return skl2onnx's type of the values (n, columns) that an operator returns."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if _is_double(operator) else FloatTensorType
    return kind([operator.inputs[0].get_first_dimension(), columns])


def _is_double(operator: Any) -> bool:
    from skl2onnx.common.data_types import DoubleTensorType

    return isinstance(operator.inputs[0].type, DoubleTensorType)


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    estimator, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    classes = len(estimator.classes_)
    multilabel = _is_multilabel(estimator)
    texts = _labels(estimator).dtype.kind == "U" and not _without_classes(operator)
    labels = StringTensorType if texts else Int64TensorType
    operator.outputs[0].set_type(labels([rows, classes] if multilabel else [rows]))
    # A single label has one output: the probabilities of no and yes, as in predict_proba.
    operator.outputs[1].set_type(_values_type(operator, max(2, estimator.n_outputs_)))


def _regressor_shapes(operator: Any) -> None:
    columns = operator.raw_operator.n_outputs_
    operator.outputs[0].set_type(_values_type(operator, columns))


def _is_multilabel(estimator: Any) -> bool:
    return bool(estimator._label_binarizer.y_type_ == "multilabel-indicator")


def _without_classes(operator: Any) -> bool:
    """Return the option ``nocl``: whether labels are the indices of classes."""
    options = operator.scope_inst.get_options(operator.raw_operator, {"nocl": False})
    return bool(options["nocl"])


def _labels(estimator: Any) -> Array:
    """Return the classes as int64 or texts, the two that skl2onnx has."""
    classes = np.asarray(estimator.classes_)
    if classes.dtype.kind in "OUT":
        return classes.astype(str)
    whole: Array = classes.astype(np.int64)  # scikit-learn refuses classes that are fractions
    return whole


# --- Conversion -----------------------------------------------------------------------------------


class _Container:
    """A container of skl2onnx as a graph; see ``exports.onnx_graph.Graph``."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def constant(self, name: str, values: Array) -> str:
        found: str = self._scope.get_unique_variable_name(name.replace("/", "_"))
        kind = "string" if values.dtype.kind == "U" else values.dtype.name
        flat = values.ravel().tolist()
        content = [text.encode() for text in flat] if kind == "string" else flat
        self._container.add_initializer(found, TYPES[kind], list(values.shape), content)
        return found

    def node(self, op: str, *inputs: str, name: str = "", domain: str = "", **settings: Any) -> str:
        place = (name or f"outputs/{op}").replace("/", "_")
        found: str = self._scope.get_unique_variable_name(place)
        self._add(op, inputs, found, place, op_domain=domain, **settings)
        return found

    def end(self, value: str, output: str) -> None:
        """Let a value be an output of the operator."""
        self._add("Identity", (value,), output, "outputs_Identity")

    def _add(
        self, op: str, inputs: tuple[str, ...], output: str, place: str, **settings: Any
    ) -> None:
        unique = self._scope.get_unique_operator_name(place)
        self._container.add_node(op, list(inputs), [output], name=unique, **settings)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a fitted estimator."""
    if container.target_opset < LEAST_OPSET:
        raise ValueError(
            f"target_opset: found {container.target_opset}, expected {LEAST_OPSET} or more for the "
            "estimators of pynn.sklearn"
        )
    estimator, graph = operator.raw_operator, _Container(scope, container)
    dtype = "float64" if _is_double(operator) else "float32"
    net = estimator._architecture(estimator.coefs_, dtype)
    flat = flat_parameters(net, estimator.coefs_, estimator.intercepts_)
    outputs = Outputs("values", net.n_out, net.n_out)
    if is_classifier(estimator):
        labels = None if _is_multilabel(estimator) else _labels(estimator)
        if labels is not None and _without_classes(operator):
            labels = np.arange(len(labels))
        outputs = Outputs("classes" if labels is not None else "multilabel", net.n_out, 1, labels)
    program = Program(dtype, dtype, net.n_in, tuple(layers_of(net, flat)), outputs)
    x = graph.node("Cast", operator.inputs[0].full_name, to=TYPES[dtype])
    found = results(program, graph, translate(program, graph, x)).values()
    for output, (value, _, _) in zip(operator.outputs, found, strict=True):
        graph.end(value, output.full_name)
