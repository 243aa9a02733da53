"""Terms of an ONNX graph as the layers of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..arrays.standard import Standard
from ..files.disk import shown
from ..spec.names import ACTIVATIONS
from .onnx_functions import ELEMENTWISE, NEAR, POINTS, activation, apply, linear
from .onnx_norms import residual, rms_norm, through
from .onnx_terms import INVALID, Graph, Refused, Term, constant
from .operations import Activate, AddInput, Affine, Dense, RowNorm

Array = np.ndarray
Step = Affine | Dense | RowNorm | Activate | AddInput


@dataclass
class Layer:
    """A layer of a network: weights (n_in, n_out), biases, activation and normalisation."""

    weights: Array
    biases: Array
    term: Term
    norm: RowNorm | None = None
    norm_after: bool = False
    function: Activate | None = None
    residual: bool = False
    scaled: bool = False
    """Whether the weights include a scale of the inputs."""
    term_of_function: Term | None = None
    after: list[tuple[Affine, Term]] = field(default_factory=list)
    """Scales of the outputs that are not yet a part of the weights."""


@dataclass
class Found:
    """What a file contains: layers, classes, and the meaning of the outputs."""

    layers: list[Layer]
    classes: Array | None
    multilabel: bool
    pixels: bool
    dtype: str
    standard: Standard | None
    """The shift and scale of the inputs."""


def find(graph: Graph, output: str | None) -> Found:
    """Return the layers that compute an output of a graph.

    Raises
    ------
    ValueError
        If a node is no part of a layer that networks have.
    """
    try:
        with np.errstate(all="ignore"):  # infinite weights are refused by the network
            return _found(graph, output)
    except Refused as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("from_onnx: found nodes nested too deep, expected a chain") from None


def _found(graph: Graph, output: str | None) -> Found:
    name, classes, multilabel = _output(graph, output)
    term, flat = _values(graph.outputs[name])
    steps = _steps(term, graph)
    pixels = False
    if graph.input_dtype == "uint8" and steps and _is_pixel_scale(steps[0][0]):
        pixels = True
        steps = steps[1:]
    layers, standard = _layers(steps)
    if flat is not None and len(layers[-1].biases) > 1:
        flat.refuse("found several values of a row in one dimension, expected (rows, values)")
    width = layers[0].weights.shape[0]
    if graph.width not in (None, width):
        raise ValueError(
            f"from_onnx: found an input of {graph.width} values in a row, and {width} in the first "
            "layer, expected equal numbers"
        )
    dtypes = {layer.weights.dtype for layer in layers}
    return Found(layers, classes, multilabel, pixels, _dtype(dtypes, layers[0].term), standard)


def _dtype(dtypes: set[Any], term: Term) -> str:
    names = {np.dtype(each).name for each in dtypes}
    if not names <= {"float16", "bfloat16", "float32", "float64"}:
        term.refuse(f"found weights of {', '.join(sorted(names))}, expected floats")
    return "float64" if "float64" in names else "float32"


def _is_pixel_scale(step: Step) -> bool:
    if not isinstance(step, Affine) or step.center is not None or step.summand is not None:
        return False
    factor = np.asarray(step.factor)
    return factor.size == 1 and bool((abs(factor * 255 - 1) < 1e-6).all())


# --- The output -----------------------------------------------------------------------------------

_ZIP_MAP = "ai.onnx.ml::ZipMap"
_PASSED = "Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"


def _output(graph: Graph, name: str | None) -> tuple[str, Array | None, bool]:
    """Return the output that has the values, the classes if the file has labels, and whether they
    are a yes or no for each value.
    """
    classes, multilabel = None, False
    for term in graph.outputs.values():
        labels, several = _labels(term)
        classes = labels if classes is None else classes
        multilabel = multilabel or several
    if name is None:
        maps = [each for each, term in graph.outputs.items() if term.op == _ZIP_MAP]
        names = graph.floats + maps
        names = ["probabilities"] if "probabilities" in names else names
        if len(names) != 1:
            found = f"{len(names)} outputs of floats ({', '.join(map(shown, names))})"
            if not names:
                found = f"no output of floats, only {', '.join(map(shown, graph.outputs))}"
                raise ValueError(
                    f"output_name: found {found}, expected a file with probabilities, scores or "
                    "values as an output"
                )
            raise ValueError(f"output_name: found {found}, expected {_choice(graph)}")
        (name,) = names
    if name not in graph.outputs:
        raise ValueError(f"output_name: found {name!r}, expected {_choice(graph)}")
    if graph.outputs[name].op == _ZIP_MAP and classes is None and not multilabel:
        classes = _zip_classes(graph.outputs[name])
    return name, classes, multilabel


def _choice(graph: Graph) -> str:
    return f"one of {', '.join(map(shown, graph.outputs))}"


def _values(term: Term) -> tuple[Term, Term | None]:
    """Return the term (rows, values) of an output, and the node that makes it (rows,), if any."""
    flat = None
    while term.op in ("Identity", "Cast", "Reshape", "Squeeze", _ZIP_MAP):
        if term.op == "Reshape" and constant(term.argument(1)).ravel().tolist() != [-1]:
            break
        if term.op in ("Reshape", "Squeeze"):
            flat = term
        if term.op == "Cast" and term.settings.get("to") not in FLOATS:
            break
        term = term.argument(0)
    single = _of_yes(term)
    return (term if single is None else single), flat


def _zip_classes(term: Term) -> Array | None:
    texts = term.settings.get("classlabels_strings")
    if texts:
        return np.array([each.decode() for each in texts])
    numbers = term.settings.get("classlabels_int64s")
    return np.array(numbers, np.int64) if numbers else None


def _labels(term: Term) -> tuple[Array | None, bool]:
    """Return the classes of an output of labels, and whether it is a yes or no for each value."""
    while term.op in _PASSED and term.arguments:
        term = term.argument(0)
    if term.op in ("ai.onnx.ml::Binarizer", "Greater"):
        return None, True
    if term.op in ("ai.onnx.ml::ArrayFeatureExtractor", "Gather") and not term.argument(0).depends:
        found = constant(term.argument(0)).ravel()
        if found.dtype.kind == "O":
            texts = [each.decode() if isinstance(each, bytes) else str(each) for each in found]
            found = np.array(texts)
        return found, False
    return None, False


def _of_yes(term: Term) -> Term | None:
    """Return the probability of yes if a term is those of no and yes: 1 − p and p."""
    if term.op != "Concat" or len(term.arguments) != 2:
        return None
    no, yes = term.argument(0), term.argument(1)
    if no.op != "Sub" or no.argument(0).depends or through(no.argument(1)) is not through(yes):
        return None
    return yes if (constant(no.argument(0)) == 1).all() else None


# --- Steps ----------------------------------------------------------------------------------------


def _steps(term: Term, graph: Graph) -> list[tuple[Step, Term]]:
    """Return the steps from x to a term, with the terms that they are from."""
    found: list[tuple[Step, Term]] = []
    while term is not graph.input:
        before = term
        try:
            step, term = _last_step(term)
        except Refused:
            raise
        except INVALID as error:
            before.refuse(f"found {shown(error)}, expected a valid operation")
        if step is not None:
            found.append((step, before))
    return found[::-1]


def _last_step(term: Term) -> tuple[Step | None, Term]:
    """Return the last step of a term, None if it changes nothing, and what it is applied to."""
    if term.op in _READERS:
        return _READERS[term.op](term)
    if term.op in ELEMENTWISE:
        by_value = _function(term)
        if by_value is not None:
            return by_value
        normed = rms_norm(term)
        if normed is not None:
            return normed
        if term.op in _ARITHMETIC:
            return _arithmetic(term)
        term.refuse("found a function that is no activation of pynn, expected one of them")
    return term.refuse("found an operator that is no part of dense layers, expected one that is")


def _function(term: Term) -> tuple[Step | None, Term] | None:
    """Return a term as a function of single values, of the earliest term for which it is known."""
    last_linear: tuple[Affine, Term] | None = None
    for base in _bases(term)[::-1]:
        with np.errstate(all="ignore"):
            values = np.asarray(_evaluated(term, base, {}), np.float64)
        if values.shape != POINTS.shape or not np.isfinite(values[:NEAR]).all():
            continue
        scale = linear(values)
        if scale == (1.0, 0.0):
            return None, base
        if scale is not None and _is_exact(term):
            return _arithmetic(term)
        if scale is not None:  # of the next base, lest rounding of large summands counts
            last_linear = Affine(factor=np.array(scale[0]), summand=_unless_zero(scale[1])), base
        elif last_linear is None:
            name = activation(values)
            if name is not None:
                return Activate(*name), base
    return last_linear


def _is_exact(term: Term) -> bool:
    """Return whether a term is a sum or product with constants, which need not be estimated."""
    return term.op in _ARITHMETIC and sum(term.argument(k).depends for k in (0, 1)) == 1


def _unless_zero(value: float) -> Array | None:
    return np.array(value) if value else None


FLOATS = 1, 10, 11, 16
"""Formats of floats in ``onnx.TensorProto.DataType``."""
MOST_NODES = 40
"""Number of nodes of an activation."""


def _bases(term: Term) -> list[Term]:
    """Return the terms, from the next to the earliest, of which a term is a function of single
    values: all its ways to x lead through each of them.
    """
    found: list[Term] = []
    frontier, seen = {term}, 0
    while seen < MOST_NODES:
        last = max(frontier, key=lambda each: each.order)
        if not _is_pointwise(last):
            break
        frontier.remove(last)
        frontier |= {a for a in last.arguments if a is not None and a.depends}
        seen += 1
        if len(frontier) == 1:
            found += frontier
    return found


def _is_pointwise(term: Term) -> bool:
    """Return whether a term maps each value by itself, with constants that are single numbers."""
    if term.op not in ELEMENTWISE or (term.op == "Cast" and term.settings.get("to") not in FLOATS):
        return False
    constants = [a for a in term.arguments if a is not None and not a.depends]
    return all(constant(a).size <= 1 for a in constants)


def _evaluated(term: Term, base: Term, known: dict[Term, Any]) -> Any:
    """Return the values of a term if those of ``base`` are ``POINTS``."""
    if term is base:
        return POINTS
    if not term.depends:
        values = constant(term)
        return values.reshape(()) if values.size == 1 else None
    if term not in known:
        arguments = [None if a is None else _evaluated(a, base, known) for a in term.arguments]
        known[term] = apply(term.op, arguments, term.settings)
    return known[term]


_ARITHMETIC = "Add", "Sub", "Mul", "Div"


def _arithmetic(term: Term) -> tuple[Step, Term]:
    """Return a sum or product with one number for each column."""
    first, second = term.argument(0), term.argument(1)
    if first.depends and second.depends:
        layer = residual(term, _last_step) if term.op == "Add" else None
        if layer is None:
            term.refuse(
                "found two values that depend on x, expected a chain of layers, or a layer that "
                "adds its own input"
            )
        return AddInput(), layer
    x, values = (first, _row(second, term)) if first.depends else (second, _row(first, term))
    if term.op == "Add":
        return Affine(summand=values), x
    if term.op == "Mul":
        return Affine(factor=values), x
    if term.op == "Sub":
        if first.depends:
            return Affine(center=values), x
        return Affine(factor=-np.ones_like(values), summand=values), x
    if not first.depends:
        term.refuse("found a division by values that depend on x, expected layers of a network")
    return Affine(factor=1 / values.astype(np.float64)), x


def _row(term: Term, user: Term) -> Array:
    """Return a constant with one number for each column (n,)."""
    values = constant(term)
    if values.ndim > 2 or (values.ndim == 2 and values.shape[0] != 1):
        user.refuse(f"found a constant of shape {values.shape}, expected one number per column")
    return values.reshape(-1)


def _gemm(term: Term) -> tuple[Step, Term]:
    s = term.settings
    if s.get("transA", 0) or not term.argument(0).depends:
        term.refuse("found x as a matrix that is transposed or second, expected x @ weights")
    weights = _matrix(term.argument(1), term)
    weights = weights.T if s.get("transB", 0) else weights
    alpha, beta = s.get("alpha", 1.0), s.get("beta", 1.0)
    biases = np.zeros(weights.shape[1], weights.dtype)
    if len(term.arguments) > 2 and term.arguments[2] is not None:
        given = _row(term.argument(2), term)
        if given.size not in (1, biases.size):
            term.refuse(f"found {given.size} biases, expected {biases.size}")
        biases = biases + given.dtype.type(beta) * given
    return Dense(weights * weights.dtype.type(alpha), biases), term.argument(0)


def _matmul(term: Term) -> tuple[Step, Term]:
    if not term.argument(0).depends:
        term.refuse("found weights @ x, expected x @ weights")
    weights = _matrix(term.argument(1), term)
    return Dense(weights, np.zeros(weights.shape[1], weights.dtype)), term.argument(0)


def _matrix(term: Term, user: Term) -> Array:
    if term.depends:
        user.refuse("found weights that depend on x, expected constants")
    values = constant(term)
    if values.ndim != 2 or 0 in values.shape:
        user.refuse(f"found weights of shape {values.shape}, expected a matrix")
    return values


def _batch_norm(term: Term) -> tuple[Step, Term]:
    if term.settings.get("training_mode", 0):
        term.refuse("found training_mode=1, expected a model that was exported for inference")
    scale, shift, mean, variance = (
        _row(term.argument(k), term).astype(np.float64) for k in range(1, 5)
    )
    factor = scale / np.sqrt(variance + term.settings.get("epsilon", 1e-5))
    return Affine(mean, factor, shift), term.argument(0)


def _row_norm(term: Term) -> tuple[Step, Term]:
    if term.settings.get("axis", -1) not in (-1, 1):
        term.refuse(f"found axis {term.settings['axis']}, expected the last one")
    scale = _row(term.argument(1), term)
    shift = None
    centers = term.op == "LayerNormalization"
    if centers:
        given = len(term.arguments) > 2 and term.arguments[2] is not None
        shift = _row(term.argument(2), term) if given else np.zeros_like(scale)
    epsilon = float(str(np.float32(term.settings.get("epsilon", 1e-5))))
    return RowNorm(centers, epsilon, scale, shift), term.argument(0)


def _softmax(term: Term) -> tuple[Step, Term]:
    if term.settings.get("axis", -1) not in (-1, 1):
        term.refuse(f"found axis {term.settings['axis']}, expected the last one")
    return Activate("softmax"), term.argument(0)


def _scaler(term: Term) -> tuple[Step, Term]:
    center, factor = (np.array(term.settings.get(k, [d])) for k, d in (("offset", 0), ("scale", 1)))
    return Affine(center.astype(np.float64), factor.astype(np.float64)), term.argument(0)


def _flatten(term: Term) -> tuple[None, Term]:
    if term.settings.get("axis", 1) != 1:
        term.refuse(f"found axis {term.settings['axis']}, expected 1, the values of a row")
    return None, term.argument(0)


def _reshape(term: Term) -> tuple[None, Term]:
    shape = constant(term.argument(1)).ravel().tolist()
    if len(shape) != 2 or (shape[0] > 0 and shape[1] != -1):
        term.refuse(f"found shape {shape}, expected the values of a row (rows, values)")
    return None, term.argument(0)


_READERS: dict[str, Callable[[Term], tuple[Step | None, Term]]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _row_norm,
    "RMSNormalization": _row_norm,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,  # predict_proba returns probabilities, not their logarithms
    "ai.onnx.ml::Scaler": _scaler,
    "Flatten": _flatten,
    "Reshape": _reshape,
}


# --- Layers ---------------------------------------------------------------------------------------


def _layers(steps: list[tuple[Step, Term]]) -> tuple[list[Layer], Standard | None]:
    """Return layers, and the shift and scale of x; others become a part of the weights next to
    them.
    """
    layers: list[Layer] = []
    waiting: Affine | None = None  # before the next layer, after an activation
    steps, standard = _without_standard(steps)
    for step, term in steps:
        if layers and not isinstance(step, Affine):
            fold(layers[-1])
        if isinstance(step, Dense):
            if layers and len(layers[-1].biases) != len(step.weights):
                term.refuse(
                    f"found weights {step.weights.shape} after {len(layers[-1].biases)} values"
                )
            scaled = waiting is not None
            step, waiting = _absorbed(step, waiting, term), None
            layers.append(Layer(step.weights, step.biases, term, scaled=scaled))
            continue
        last = layers[-1] if layers else None
        if isinstance(step, Affine):
            waiting = _scaled(last, waiting, step, term)
            continue
        if last is None or waiting is not None:
            where = "before the first layer" if last is None else "after a scaled activation"
            term.refuse(f"found it {where}, expected it after a layer")
        if last.residual:
            term.refuse("found it after the sum of a residual layer, expected a layer")
        if isinstance(step, AddInput):
            _add_input(last, term)
        elif isinstance(step, RowNorm):
            if last.norm is not None:
                term.refuse("found two normalisations of one layer, expected one")
            n = len(last.biases)
            last.norm = replace(step, scale=np.broadcast_to(step.scale, (n,)))
            last.norm_after = last.function is not None
        elif last.function is not None or last.norm_after:
            term.refuse("found two activations of one layer, expected one")
        else:
            last.function, last.term_of_function = step, term
    if not layers:
        raise ValueError("from_onnx: found no layer (Gemm or MatMul), expected one or more")
    if waiting is not None:
        steps[-1][1].refuse("found a scale after the last activation, expected none")
    _check(layers)
    return layers, standard


def _without_standard(
    steps: list[tuple[Step, Term]],
) -> tuple[list[tuple[Step, Term]], Standard | None]:
    """Return the steps without shifts and scales of x, and what these are together.

    Float32 weights would lose a mean that is large in relation to the scale. The steps stay if a
    column has the factor 0. Negative factors become a part of the weights.
    """
    count = next((k for k, (step, _) in enumerate(steps) if not isinstance(step, Affine)), 0)
    first, term_of_first = steps[count] if steps else (None, None)
    if not count or not isinstance(first, Dense) or term_of_first is None:
        return steps, None
    n_in = len(first.weights)
    mean, scale = np.zeros(n_in), np.ones(n_in)
    for step, term in steps[:count]:
        assert isinstance(step, Affine)
        _, factor, _ = wide = _wide(step, n_in, term)
        mean = mean + scale * wide[0]
        scale = scale / factor
        mean = mean - scale * wide[2]
    if not (np.isfinite([mean, scale, 1 / scale]).all()):
        return steps, None
    weights = first.weights * np.sign(scale).astype(first.weights.dtype)[:, None]
    rest: list[tuple[Step, Term]] = [(replace(first, weights=weights), term_of_first)]
    return rest + steps[count + 1 :], Standard.of(mean, np.abs(scale))


def _check(layers: list[Layer]) -> None:
    """Raise ValueError unless a network can have such layers."""
    for layer in layers[:-1]:
        name = layer.function.name if layer.function is not None else "identity"
        if name not in ACTIVATIONS and layer.term_of_function is not None:
            layer.term_of_function.refuse(f"found {name} in a hidden layer, expected it at the end")
    if layers[-1].norm is not None:
        layers[-1].term.refuse("found a normalisation of the outputs, expected hidden layers")
    if layers[-1].residual:
        layers[-1].term.refuse("found an output layer that adds its input, expected hidden layers")
    square = [layer for layer in layers[:-1] if len(set(layer.weights.shape)) == 1]
    if len({layer.residual for layer in square}) > 1:
        other = next(layer for layer in square if not layer.residual)
        other.term.refuse(
            "found a layer that does not add its input, expected that all hidden layers with as "
            "many outputs as inputs do, or none"
        )
    normed = [layer for layer in layers if layer.norm is not None]
    if len({layer.norm_after for layer in normed}) > 1:
        normed[-1].term.refuse(
            "found normalisations before and after activations, expected one order for all layers"
        )


# --- Scales ---------------------------------------------------------------------------------------


def _add_input(layer: Layer, term: Term) -> None:
    if layer.weights.shape[0] != layer.weights.shape[1]:
        term.refuse(f"found a sum of {layer.weights.shape} values, expected equal numbers")
    if layer.scaled:
        term.refuse("found an input that is scaled before a residual layer, expected no scale")
    layer.residual = True


def _scaled(layer: Layer | None, waiting: Affine | None, step: Affine, term: Term) -> Affine | None:
    """Return what waits for the next layer after a scale of columns, which may be a part of the
    layer or of its normalisation instead.
    """
    if waiting is not None or layer is None or layer.residual:
        return _composed(waiting, step)
    if layer.norm is None and layer.function is None:
        _wide(step, len(layer.biases), term)
        layer.after.append((step, term))
        return None
    if layer.norm is None or layer.norm_after != (layer.function is not None):
        return step
    factor, summand = _parts(step, len(layer.biases), term)
    norm = layer.norm
    if norm.shift is None and summand.any():
        return step
    shift = None if norm.shift is None else norm.shift * factor + summand
    layer.norm = replace(norm, scale=norm.scale * factor, shift=shift)
    return None


def _absorbed(step: Dense, before: Affine | None, term: Term) -> Dense:
    """Return a layer whose weights include the scale of its inputs."""
    if before is None:
        return step
    n_in = len(step.weights)
    factor, summand = _parts(before, n_in, term)
    weights = factor[:, None] * step.weights.astype(np.float64)
    biases = step.biases + summand @ step.weights.astype(np.float64)
    dtype = step.weights.dtype
    return replace(step, weights=weights.astype(dtype), biases=biases.astype(dtype))


def fold(layer: Layer) -> None:
    """Let a layer's weights include the scales of its outputs."""
    dtype = layer.weights.dtype
    for after, term in layer.after:
        factor, summand = _parts(after, len(layer.biases), term)
        layer.weights = (layer.weights.astype(np.float64) * factor).astype(dtype)
        layer.biases = (layer.biases.astype(np.float64) * factor + summand).astype(dtype)
    layer.after = []


def unit(layer: Layer) -> tuple[Array, Array] | None:
    """Return factor and summand (n,) of the outputs, None unless the file computes the outputs in
    float64, and the layer in float32, which may not hold the summand.
    """
    double = any(
        not a.depends and constant(a).dtype == np.float64
        for _, term in layer.after
        for a in term.arguments
        if a is not None
    )
    if not double or layer.weights.dtype == np.float64:
        return None
    total: Affine | None = None
    for step, _ in layer.after:
        total = _composed(total, step)
    assert total is not None
    return _parts(total, len(layer.biases), layer.after[-1][1])


def _parts(step: Affine, n: int, term: Term) -> tuple[Array, Array]:
    """Return factor and summand (n,) of a step."""
    center, factor, summand = _wide(step, n, term)
    return factor, summand - center * factor


def _wide(step: Affine, n: int, term: Term) -> tuple[Array, Array, Array]:
    """Return center, factor and summand (n,) of a step, float64."""
    parts = [
        np.asarray(default if part is None else part, np.float64)
        for part, default in ((step.center, 0), (step.factor, 1), (step.summand, 0))
    ]
    try:
        center, factor, summand = (np.broadcast_to(part, (n,)) for part in parts)
    except ValueError:
        term.refuse(f"found a scale of {max(part.size for part in parts)} columns, expected {n}")
    return center, factor, summand


def _composed(first: Affine | None, second: Affine) -> Affine:
    """Return two steps as one."""
    if first is None:
        return second
    n = max(np.size(part) for step in (first, second) for part in vars(step).values())
    term = Term("Add", "")
    (f, s), (g, t) = _parts(first, n, term), _parts(second, n, term)
    return Affine(factor=f * g, summand=s * g + t)
