"""Networks from fitted perceptrons of scikit-learn, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np

from ..arrays.standard import Standard
from ..checks.columns import as_columns
from ..checks.refused import kind_of
from ..training.model import Model
from .operations import (
    Activate,
    AddInput,
    Affine,
    Cast,
    Dense,
    Operation,
    Outputs,
    RowNorm,
    describe,
    refuse,
)

Array = np.ndarray
_Network = TypeVar("_Network")

_OURS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_LOSSES = {
    "softmax": "cross_entropy",
    "logistic": "binary_cross_entropy",
    "identity": "mse",
    "exp": "poisson",
}
"""pynn's loss for each ``out_activation_`` of scikit-learn."""


# --- From scikit-learn ----------------------------------------------------------------------------


def network(create: Callable[..., Any], estimator: Any) -> Any:
    """Return a network with the parameters of a fitted estimator.

    Parameters
    ----------
    create : function
        ``create(sizes, **settings)`` returns a network.
    estimator
        A perceptron of scikit-learn or of pynn.sklearn, or a pipeline of StandardScaler and one.
    """
    scaler, perceptron = _parts(estimator)
    if not hasattr(perceptron, "coefs_"):
        raise ValueError(
            f"estimator: found {kind_of(perceptron)} that is not fitted, expected fit first"
        )
    coefs, intercepts = perceptron.coefs_, perceptron.intercepts_
    activation, loss = perceptron.activation, _LOSSES[perceptron.out_activation_]
    if hasattr(perceptron, "_core_loss"):  # one of pynn.sklearn, which has more of both
        activation = perceptron._activations(len(coefs) - 1)
        loss = perceptron._core_loss()
    else:
        activation = _OURS[activation]
    classes = getattr(perceptron, "classes_", None)
    if classes is not None and len(classes) < 2:
        raise ValueError(
            f"estimator: found one class, {classes[0]!r}, expected two or more, since a network "
            "with one class has nothing to choose"
        )
    net = create(
        [coefs[0].shape[0], *(w.shape[1] for w in coefs)],
        activation=activation,
        loss=loss,
        dropout=getattr(perceptron, "dropout", 0.0),
        init="zeros",
        pixels=False,
        standardize=scaler is not None,
        dtype=np.result_type(np.float32, *coefs, *intercepts).name,
    )
    net.weights = [np.asarray(w) for w in coefs]
    net.biases = [np.asarray(b) for b in intercepts]
    if classes is not None:
        labels = perceptron._label_binarizer.y_type_ != "multilabel-indicator"
        net.classes = np.asarray(classes) if labels else None
    first = perceptron if scaler is None else scaler
    names = getattr(first, "feature_names_in_", None)
    model: Model = net._model
    standard = None if scaler is None else _standard(scaler, model.architecture.n_in)
    columns = None if names is None else as_columns([str(name) for name in names], len(names))
    model.replace(input_standard=standard, columns=columns)
    return net


def _parts(estimator: Any) -> tuple[Any, Any]:
    """Return the StandardScaler, or None, and the perceptron of an estimator."""
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    steps = [estimator]
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
    if not steps or not isinstance(steps[-1], BaseMultilayerPerceptron):
        found = type(steps[-1]).__name__ if steps else "a pipeline without steps"
        raise TypeError(
            f"estimator: found {found}, expected an MLPClassifier or MLPRegressor of scikit-learn "
            "or pynn.sklearn, or a pipeline of StandardScaler and one of them"
        )
    if len(steps) == 1:
        return None, steps[0]
    if len(steps) > 2 or not isinstance(steps[0], StandardScaler):
        raise ValueError(
            f"estimator: found the steps {', '.join(type(one).__name__ for one in steps)}, "
            "expected StandardScaler and the perceptron; convert the last step alone, "
            "estimator[-1], and transform its inputs with the others, estimator[:-1]"
        )
    return steps[0], steps[1]


def _standard(scaler: Any, n_in: int) -> Standard:
    """Return mean and scale of a fitted StandardScaler."""
    if not hasattr(scaler, "scale_"):
        raise ValueError("estimator: found a StandardScaler that is not fitted, expected fit first")
    mean = scaler.mean_ if scaler.with_mean else np.zeros(n_in)
    scale = scaler.scale_ if scaler.with_std else np.ones(n_in)
    return Standard.of(mean, scale)


# --- To scikit-learn ------------------------------------------------------------------------------


class _Layers:
    """The layers of a program, with affine steps folded into weights and biases (float64)."""

    def __init__(self, n_in: int) -> None:
        self.weights: list[Array] = []
        self.biases: list[Array] = []
        self.activations: list[str] = []
        self.mean, self.scale = np.zeros(n_in), np.ones(n_in)
        self.scaled = False
        self._factor: Array = np.ones(n_in)  # of the values that the next layer reads
        self._summand: Array = np.zeros(n_in)

    def add(self, step: Operation) -> None:
        if isinstance(step, Dense):
            self._add_layer(step)
        elif isinstance(step, Affine):
            self._add_affine(step)
        elif isinstance(step, Activate):
            self.activations[-1] = step.name
        elif isinstance(step, RowNorm):
            refuse("norm", "a norm over the units of a row", "norm='batch' or none")
        elif isinstance(step, AddInput):
            refuse("residual", "True", "False: scikit-learn has no residual layers")
        else:
            assert isinstance(step, Cast)

    def _add_layer(self, step: Dense) -> None:
        if step.rounds:
            refuse("precision", "'bf16'", "'full'")
        weights, biases = step.weights.astype(np.float64), step.biases.astype(np.float64)
        self.weights.append(self._factor[:, None] * weights)
        self.biases.append(biases + self._summand @ weights)
        self.activations.append("identity")
        self._factor, self._summand = np.ones(len(biases)), np.zeros(len(biases))

    def _add_affine(self, step: Affine) -> None:
        center = 0.0 if step.center is None else step.center.astype(np.float64)
        factor = 1.0 if step.factor is None else step.factor.astype(np.float64)
        summand = 0.0 if step.summand is None else step.summand.astype(np.float64)
        if not self.weights:  # (x − mean) / scale, as StandardScaler computes
            self.mean = self.mean + self.scale * center
            self.scale, self.scaled = self.scale / factor, True
        elif self.activations[-1] == "identity":
            self.weights[-1] = self.weights[-1] * factor
            self.biases[-1] = (self.biases[-1] - center) * factor + summand
        else:
            self._factor = self._factor * factor
            self._summand = (self._summand - center) * factor + summand

    @property
    def hidden_activation(self) -> str:
        """scikit-learn's name of the activation of all hidden layers."""
        names = list(dict.fromkeys(self.activations[:-1]))
        if len(names) > 1 or any(name not in _THEIRS for name in names):
            refuse(
                "activation",
                ", ".join(map(repr, names)),
                f"one of {', '.join(map(repr, _THEIRS))} for all hidden layers, as scikit-learn "
                "has it",
            )
        return _THEIRS[names[0]] if names else "relu"


def estimator(model: Model) -> Any:
    """Return a fitted estimator of scikit-learn that predicts as a model does.

    It is a pipeline that begins with a StandardScaler if the model scales its inputs.
    """
    net = model.architecture
    program = describe(model, _input_dtype(model))
    layers = _Layers(net.n_in)
    for step in program.operations:
        layers.add(step)
    if program.outputs.kind in ("classes", "multilabel"):
        found = _classifier(layers, program.outputs, net.loss_text)
    else:
        found = _regressor(layers, program.outputs, net.loss_text)
    # Standardised values are computed in float64, and float32 may not hold a large mean.
    dtype = "float64" if model.standardize or model.standardize_targets else net.dtype
    found.coefs_ = [w.astype(dtype) for w in layers.weights]
    found.intercepts_ = [b.astype(dtype) for b in layers.biases]
    found.n_layers_, found.n_outputs_ = len(found.coefs_) + 1, found.coefs_[-1].shape[1]
    found.n_features_in_ = net.n_in
    losses = [float(loss) for loss in model.history.loss]
    found.loss_curve_, found.loss_ = losses, losses[-1] if losses else np.nan
    found.n_iter_, found.t_ = model.epochs, 0
    found.best_loss_, found._no_improvement_count = np.inf, 0
    found.validation_scores_ = found.best_validation_score_ = None
    first = found
    if layers.scaled:
        found, first = _pipeline(layers, found)
    if model.columns is not None:
        first.feature_names_in_ = np.array(model.columns, dtype=object)
    return found


def _input_dtype(model: Model) -> str:
    if model.pixels is True:
        return "uint8"
    return "float64" if model.standardize else model.architecture.dtype


def _classifier(layers: _Layers, outputs: Outputs, loss: str) -> Any:
    """Return a classifier with labels, but without parameters; orders the outputs."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    if not outputs.probabilities:
        refuse("loss", repr(loss), "one with probabilities, since a classifier has predict_proba")
    last, width = layers.activations[-1], outputs.width
    if last not in ("softmax", "sigmoid"):
        _refuse_output(last, "'softmax' or 'sigmoid'")
    if outputs.kind == "classes" and last == "sigmoid" and width > 1:
        _refuse_output(last, "'softmax' for more than two classes")
    classes = np.array([0, 1]) if outputs.classes is None else np.asarray(outputs.classes)
    binarizer = LabelBinarizer()
    if outputs.kind == "multilabel" and width > 1:
        if last != "sigmoid":
            _refuse_output(last, "'sigmoid' for multi-label targets")
        binarizer.fit(np.array([[0] * width, [1] * width]))
    else:
        _sort(layers, np.argsort(classes))
        binarizer.fit(classes)
    found = MLPClassifier(_widths(layers), layers.hidden_activation)
    found.classes_, found._label_binarizer = binarizer.classes_, binarizer
    found.out_activation_ = "softmax" if len(layers.biases[-1]) > 2 and last == "softmax" else ""
    found.out_activation_ = found.out_activation_ or "logistic"
    return found


def _sort(layers: _Layers, order: Array) -> None:
    """Order the outputs by class; two become one, the probability of the second class."""
    weights, biases = layers.weights[-1], layers.biases[-1]
    if len(biases) == 1:
        sign = 1.0 if order[0] == 0 else -1.0
        weights, biases = sign * weights, sign * biases
    else:
        weights, biases = weights[:, order], biases[order]
    if len(biases) == 2:  # softmax(z₀, z₁)₁ = sigmoid(z₁ − z₀)
        weights, biases = weights[:, 1:] - weights[:, :1], biases[1:] - biases[:1]
    layers.weights[-1], layers.biases[-1] = weights, biases


def _regressor(layers: _Layers, outputs: Outputs, loss: str) -> Any:
    """Return a regressor without parameters."""
    from sklearn.neural_network import MLPRegressor

    if outputs.kind != "values":
        refuse("loss", repr(loss), "one that predicts a single number for each target")
    last = layers.activations[-1]
    if last not in ("identity", "exp"):
        _refuse_output(last, "'identity' or 'exp'")
    poisson = {"loss": "poisson"} if last == "exp" else {}
    found = MLPRegressor(
        hidden_layer_sizes=_widths(layers), activation=layers.hidden_activation, **poisson
    )
    found.out_activation_ = last
    return found


def _refuse_output(found: str, expected: str) -> NoReturn:
    refuse("output", repr(found), f"{expected}, as scikit-learn's perceptrons have it")


def _widths(layers: _Layers) -> tuple[int, ...]:
    return tuple(len(b) for b in layers.biases[:-1])


def _pipeline(layers: _Layers, perceptron: Any) -> tuple[Any, Any]:
    """Return a pipeline that scales the inputs first, and its scaler."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = layers.mean, layers.scale
    scaler.var_ = layers.scale**2
    scaler.n_features_in_, scaler.n_samples_seen_ = len(layers.mean), 1
    steps: Sequence[tuple[str, Any]] = [("scaler", scaler), ("perceptron", perceptron)]
    return Pipeline(list(steps)), scaler
