"""Networks with the layers of Keras's models predict as they do, or a layer is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="Keras runs on PyTorch here")
keras = pytest.importorskip("keras")

import pynn  # noqa: E402
from pynn.exports import keras_layers  # noqa: E402

L = keras.layers
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "keras.md"


def chain(*layers: Any, shape: tuple[int, ...] = (6,)) -> Any:
    return keras.Sequential([keras.Input(shape), *layers])


def moved(model: Any) -> Any:
    """Give every parameter and statistic of a model another value."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(rng.uniform(0.2, 1, variable.shape))
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "norms before": lambda: chain(
        *(L.Dense(5, use_bias=False), L.BatchNormalization(), L.ReLU(), L.Dropout(0.5)),
        *(L.Dense(4), L.LayerNormalization(center=False), L.Activation("gelu"), L.Dense(3)),
    ),
    "norms after": lambda: chain(
        *(L.Dense(5, "tanh"), L.BatchNormalization(scale=False), L.GaussianNoise(0.1)),
        *(L.Dense(4, activation=L.LeakyReLU(0.3)), L.RMSNormalization(), L.Dense(3, "softmax")),
    ),
    "inputs": lambda: chain(
        *(L.Rescaling(0.5, offset=1.0), L.Normalization(mean=[1.0, 2, 3], variance=[1.0, 2, 3])),
        *(L.Flatten(), L.GaussianNoise(0.1), L.Dropout(0.1), L.Dense(2, "sigmoid")),
        shape=(2, 3),
    ),
    "functional": lambda: functional(),
}


def functional() -> Any:
    inputs = keras.Input((6,))
    h = keras.Sequential([L.Dense(5), L.ELU(0.7)])(L.Identity()(inputs))
    return keras.Model(inputs, L.Softmax()(L.Dense(3)(L.ReLU(max_value=6)(L.Dense(4)(h)))))


@pytest.mark.parametrize("name", MODELS)
def test_a_network_predicts_as_its_model_does(name: str) -> None:
    model = moved(MODELS[name]())
    net = pynn.Network.from_keras(model)
    x = np.random.default_rng(1).normal(size=(7, *model.input_shape[1:])).astype("float32")
    found = net.predict(x) if net.architecture.regression else net.predict_proba(x)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=2e-5, atol=1e-6)


def test_settings_and_loss_of_the_model() -> None:
    model = chain(L.Dense(4, "relu", dtype="float64"), L.Dense(3, dtype="float64"))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net = pynn.Network.from_keras(model, seed=3, threads=1)
    assert (net.architecture.activations, net.architecture.loss) == (
        ("relu", "softmax"),
        "cross_entropy",
    )
    assert (net.dtype, net.seed, net.pixels) == (np.float64, 3, False)
    assert pynn.Network.from_keras(model, loss="hinge").architecture.loss == "hinge"


def test_a_division_by_255_makes_pixels() -> None:
    model = chain(L.Rescaling(1 / 255), L.Dense(3, "softmax"))
    net = pynn.Network.from_keras(model)
    x = np.random.default_rng(0).integers(0, 256, (9, 6)).astype(np.uint8)
    assert net.pixels is True
    np.testing.assert_allclose(net.predict_proba(x), model.predict(x, verbose=0), atol=1e-6)


class Own(keras.layers.Dense):
    """A layer of a user's class."""


class OwnModel(keras.Model):
    """A model of a user's class."""

    def call(self, x: Any) -> Any:
        return x


def twice() -> Any:
    inputs, layer = keras.Input((6,)), L.Dense(6, name="both")
    return keras.Model(inputs, layer(layer(inputs)))


def branches() -> Any:
    inputs = keras.Input((6,))
    return keras.Model(inputs, L.Add(name="sum")([L.Dense(3)(inputs), L.Dense(3)(inputs)]))


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    (
        "Conv1D 'c' at position 0 .*dense layers only",
        lambda: chain(L.Conv1D(2, 2, name="c"), shape=(6, 1)),
    ),
    ("PReLU 'p' at position 1 .*slopes are trained", lambda: chain(L.Dense(2), L.PReLU(name="p"))),
    ("Own 'o' at position 0 .*class of your own", lambda: chain(Own(2, name="o"))),
    ("OwnModel", lambda: OwnModel()),
    ("without inputs, expected keras.Input", lambda: keras.Sequential([L.Dense(2)])),
    ("Dense 'both' at position 1 .*a second time", twice),
    ("Add 'sum' with 2 inputs", branches),
    ("the activation '<lambda>'", lambda: chain(L.Dense(2, activation=lambda z: z))),
    ("dtype policy 'mixed_float16'", lambda: chain(L.Dense(2, dtype="mixed_float16"))),
    (
        "dtype policy 'float64', expected 'float32'",
        lambda: chain(L.Dense(2), L.Dense(2, dtype="float64")),
    ),
    (
        "'e' at position 0 .*'exp' in a hidden",
        lambda: chain(L.Dense(2, "exponential", name="e"), L.Dense(2)),
    ),
    ("inputs of shape .*Flatten before", lambda: chain(L.Dense(2), shape=(3, 2))),
    ("before the first Dense", lambda: chain(L.BatchNormalization(), L.Dense(2))),
    ("loss KLDivergence", lambda: compiled("kl_divergence")),
    ("loss Poisson with the output activation 'softmax'", lambda: compiled("poisson")),
    ("reduction 'sum'", lambda: compiled(keras.losses.MeanSquaredError(reduction="sum"))),
]


def compiled(loss: Any) -> Any:
    model = chain(L.Dense(3, "softmax"))
    model.compile("sgd", loss if loss != "kl_divergence" else keras.losses.KLDivergence())
    return model


def test_what_networks_do_not_have_is_refused() -> None:
    for reason, make in REFUSED:
        with pytest.raises(ValueError, match=f"^model: found .*{reason}"):
            pynn.Network.from_keras(make())


def test_no_model() -> None:
    with pytest.raises(TypeError, match="model: found an? int, expected a model of Keras"):
        pynn.Network.from_keras(3)


def test_all_activations_of_keras_that_are_listed() -> None:
    z = np.linspace(-4, 4, 41, dtype="float32").reshape(-1, 1)
    for name, ours in keras_layers.ACTIVATIONS.items():
        layers = [] if ours in keras_layers.ONLY_OUTPUTS else [L.Dense(1)]
        model = chain(L.Dense(2, name), *layers, shape=(1,))
        net = pynn.Network.from_keras(model, loss="mse")
        expected = model.predict(z, verbose=0)
        found = net.predict(z).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_table_of_the_docs() -> None:
    names = {*keras_layers.READERS, *keras_layers.REFUSED}
    assert all(hasattr(keras.layers, name) for name in names)
    _, rest = PAGE.read_text("utf-8").split("<!-- layers: begin -->\n\n")
    assert rest.split("\n\n<!-- layers: end -->")[0] == keras_layers.table()
