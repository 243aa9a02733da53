"""pynn.keras.fit trains as model.fit does: the same values, logs, callbacks and state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="Keras runs on PyTorch here")
keras = pytest.importorskip("keras")

from keras.src.backend.common import dtypes  # noqa: E402

import pynn  # noqa: E402
import pynn.keras  # noqa: E402
from pynn.exports import keras_losses  # noqa: E402
from pynn.keras import optimizers  # noqa: E402

L, R, C = keras.layers, keras.optimizers, keras.callbacks
Array = np.ndarray

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 5))
LABELS = RNG.integers(0, 3, 50)
ONE_HOT = np.eye(3)[LABELS]
VALUES = RNG.normal(size=(50, 3))
YES = RNG.integers(0, 2, (50, 1)).astype("float64")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Keras compute in float64. On PyTorch and JAX it rounds products of float64 to float32."""
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def chain(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((5,)), *layers])


def mlp(output: str | None = "softmax", units: int = 3) -> Any:
    return chain(L.Dense(8, "tanh"), L.Dense(units, output))


def norms() -> Any:
    return chain(
        *(L.Rescaling(0.5, 0.1), L.Dense(8), L.BatchNormalization(momentum=0.9), L.ReLU()),
        *(L.Dense(6, use_bias=False), L.LayerNormalization(center=False), L.ELU(), L.Dense(3)),
    )


def norms_after() -> Any:
    return chain(
        *(L.Dense(8, "silu"), L.BatchNormalization(scale=False, epsilon=1e-5)),
        *(L.Dense(6, "gelu"), L.RMSNormalization(), L.Dense(3, "softmax")),
    )


def regularized() -> Any:
    r = keras.regularizers
    return chain(
        L.Dense(8, "tanh", kernel_regularizer=r.L1L2(0.01, 0.02), bias_regularizer=r.L2(0.1)),
        L.Dense(3, "softmax", kernel_regularizer=r.L1(0.01)),
    )


def frozen() -> Any:
    model = norms_after()
    model.layers[0].trainable = False
    model.layers[2].trainable = model.layers[3].trainable = False
    return model


def without_biases(optimizer: Any) -> Any:
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"])
    return optimizer


def scheduled() -> Any:
    return R.schedules.CosineDecay(0.1, 60, warmup_steps=10, warmup_target=0.2)


def logits(name: str, **settings: Any) -> Any:
    return getattr(keras.losses, name)(from_logits=True, **settings)


GRID: dict[str, tuple[Callable[[], Any], Callable[[], Any], Any, Array]] = {
    "momentum": (
        *(norms, lambda: R.SGD(0.1, 0.9, weight_decay=0.01)),
        *(lambda: logits("CategoricalCrossentropy", label_smoothing=0.1), ONE_HOT),
    ),
    "nesterov": (mlp, lambda: R.SGD(scheduled(), 0.9, nesterov=True), "mse", ONE_HOT),
    "adam": (norms_after, lambda: R.Adam(0.01), "sparse_categorical_crossentropy", LABELS),
    "adamw": (
        *(lambda: mlp("sigmoid", 1), lambda: without_biases(R.AdamW(0.01, weight_decay=0.1))),
        *(lambda: keras.losses.BinaryCrossentropy(label_smoothing=0.1), YES),
    ),
    "nadam": (lambda: mlp(None), lambda: R.Nadam(0.01), lambda: keras.losses.Huber(0.5), VALUES),
    "amsgrad": (mlp, lambda: R.Adam(0.01, amsgrad=True), "mse", ONE_HOT),
    "rmsprop": (
        *(lambda: mlp(None), lambda: R.RMSprop(0.0078125, momentum=0.5, centered=True)),
        *("mean_absolute_error", VALUES),
    ),
    "adagrad": (
        *(lambda: mlp(None), lambda: R.Adagrad(0.125)),
        *("squared_hinge", np.sign(VALUES)),
    ),
    "lion": (lambda: mlp(None), lambda: R.Lion(0.001, weight_decay=0.1), "log_cosh", VALUES),
    "focal": (
        *(mlp, lambda: R.SGD(0.125)),
        *("categorical_focal_crossentropy", ONE_HOT),
    ),
    "penalties": (regularized, lambda: R.SGD(0.1), "categorical_crossentropy", ONE_HOT),
    "frozen": (frozen, lambda: R.SGD(0.1), "sparse_categorical_crossentropy", LABELS),
}


def arrays(variables: Any) -> list[Array]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables if "seed" not in v.path]


def twins(make: Callable[[], Any], optimizer: Any, loss: Any, **settings: Any) -> list[Any]:
    """Return two compiled models with equal weights."""
    keras.utils.set_random_seed(1)
    models = [make(), make()]
    models[1].set_weights(models[0].get_weights())
    for model in models:
        model.compile(optimizer(), loss() if callable(loss) else loss, **settings)
    return models


def train_by_keras(
    model: Any, x: Array, y: Array, epochs: int, weight: Array | None = None
) -> None:
    """Train as ``model.fit`` does, without its logs, which take most of the time."""
    for _ in range(epochs):
        for start in range(0, len(x), 10):
            part = slice(start, start + 10)
            w = None if weight is None else weight[part]
            loss = model.compute_loss(x[part], y[part], model(x[part], training=True), w)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                variables = model.trainable_variables
                model.optimizer.apply([v.value.grad for v in variables], variables)


def assert_equal(found: Any, expected: Any, rtol: float) -> None:
    for name in ("variables", "optimizer.variables"):
        pairs = zip(*(arrays(of(m, name)) for m in (found, expected)), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (1 + np.abs(b).max()))


def of(model: Any, name: str) -> Any:
    return model.variables if name == "variables" else model.optimizer.variables


def assert_trained_alike(name: str, epochs: int) -> None:
    make, optimizer, loss, y = GRID[name]
    expected, found = twins(make, optimizer, loss)
    train_by_keras(expected, X, y, epochs)
    pynn.keras.fit(found, X, y, epochs=epochs, batch_size=10, shuffle=False, verbose=0)
    assert int(found.optimizer.iterations) == 5 * epochs
    assert_equal(found, expected, 1e-9)


@pytest.mark.parametrize("name", GRID)
def test_trajectories_in_float64(name: str, float64: None) -> None:
    assert_trained_alike(name, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRID)
def test_trajectories_of_a_hundred_steps(name: str, float64: None) -> None:
    assert_trained_alike(name, 20)


def test_trajectory_in_float32() -> None:
    make, optimizer, loss, y = GRID["momentum"]
    expected, found = twins(make, optimizer, loss)
    x = X.astype("float32")
    train_by_keras(expected, x, y, 20)
    pynn.keras.fit(found, x, y, epochs=20, batch_size=10, shuffle=False, verbose=0)
    assert_equal(found, expected, 1e-4)


def test_keras_and_pynn_continue_each_other(float64: None) -> None:
    expected, found = twins(mlp, lambda: R.Adam(0.01), "sparse_categorical_crossentropy")
    train_by_keras(expected, X, LABELS, 4)
    pynn.keras.fit(found, X, LABELS, epochs=1, batch_size=10, shuffle=False, verbose=0)
    train_by_keras(found, X, LABELS, 2)
    pynn.keras.fit(found, X, LABELS, epochs=1, batch_size=10, shuffle=False, verbose=0)
    assert_equal(found, expected, 1e-9)


def test_weights_of_rows_and_classes(float64: None) -> None:
    weight = RNG.uniform(0, 3, 50)
    weight[20:30] = 0  # a batch without weight makes an update
    expected, found = twins(mlp, lambda: R.Adam(0.01), "sparse_categorical_crossentropy")
    train_by_keras(expected, X, LABELS, 4, weight)
    settings = {"epochs": 4, "batch_size": 10, "shuffle": False, "verbose": 0}
    pynn.keras.fit(found, X, LABELS, sample_weight=weight, **settings)
    assert_equal(found, expected, 1e-9)
    train_by_keras(expected, X, LABELS, 4, np.array([1.0, 2.0, 0.5])[LABELS])
    pynn.keras.fit(found, X, LABELS, class_weight={1: 2.0, 2: 0.5}, **settings)
    assert_equal(found, expected, 1e-9)


def test_logs_of_weighted_rows() -> None:
    weight = RNG.uniform(0.1, 3, 50)
    expected, found = twins(
        *(mlp, lambda: R.SGD(0.01), "sparse_categorical_crossentropy"),
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    )
    held = X[:20], LABELS[:20], weight[:20]
    settings = {"epochs": 2, "batch_size": 10, "shuffle": False, "verbose": 0}
    settings |= {"sample_weight": weight, "validation_data": held}
    theirs = expected.fit(X, LABELS, **settings).history
    ours = pynn.keras.fit(found, X, LABELS, **settings).history
    assert list(ours) == list(theirs)
    theirs.pop("weighted_accuracy")  # measured after the epoch
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "make, loss, y, metrics",
    [
        (mlp, "sparse_categorical_crossentropy", LABELS, ["accuracy"]),
        (lambda: mlp("sigmoid", 1), "binary_crossentropy", YES[:, 0], ["accuracy", "auc"]),
        (lambda: mlp(None, 1), lambda: logits("BinaryCrossentropy"), YES, ["accuracy"]),
        (lambda: mlp("exponential"), "poisson", ONE_HOT + 1, ["mae"]),
        (regularized, "categorical_crossentropy", ONE_HOT, None),
    ],
    ids=["labels", "yes or no", "logits", "poisson", "penalties"],
)
def test_logs(make: Callable[[], Any], loss: Any, y: Array, metrics: Any) -> None:
    expected, found = twins(make, lambda: R.SGD(0.01), loss, metrics=metrics)
    settings = {"epochs": 2, "batch_size": 10, "shuffle": False, "verbose": 0}
    theirs = expected.fit(X, y, **settings, validation_split=0.3)
    ours = pynn.keras.fit(found, X, y, **settings, validation_split=0.3)
    assert isinstance(ours, C.History)
    assert found.history is ours
    assert (ours.epoch, ours.params, ours.model) == ([0, 1], theirs.params, found)
    assert list(ours.history) == list(theirs.history)
    trained = int(len(X) * 0.7)
    last = expected.evaluate(X[:trained], y[:trained], verbose=0, return_dict=True)
    for name, values in theirs.history.items():
        # Other metrics of training rows than accuracy are measured after the epoch.
        if name in ("auc", "mae") or (name == "accuracy" and make is not mlp and callable(loss)):
            assert ours.history[name][-1] == pytest.approx(last[name], rel=1e-5), name
            continue
        tolerance = 2e-3 if name == "loss" and make is regularized else 1e-5
        np.testing.assert_allclose(ours.history[name], values, rtol=tolerance, err_msg=name)


# --- Callbacks ------------------------------------------------------------------------------------


class Recorder(C.Callback):
    """Notes what is called, and what the model is then."""

    def __init__(self, stop_after: int = 99) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.stop_after = stop_after

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("begin")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 0.1 / (epoch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        loss = self.model.evaluate(X, LABELS, verbose=0)
        self.calls.append((epoch, int(self.model.optimizer.iterations)))
        assert loss == pytest.approx(logs["val_loss"], rel=1e-5)
        self.model.stop_training = epoch >= self.stop_after

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append("end")


def test_callbacks_see_the_model_and_change_the_learning_rate(float64: None) -> None:
    expected, found = twins(mlp, lambda: R.SGD(0.1), "sparse_categorical_crossentropy")
    calls = Recorder(stop_after=3)
    settings = {"batch_size": 10, "shuffle": False, "verbose": 0, "validation_data": (X, LABELS)}
    history = pynn.keras.fit(
        found, X, LABELS, epochs=9, initial_epoch=1, callbacks=[calls], **settings
    )
    assert calls.calls == ["begin", (1, 5), (2, 10), (3, 15), "end"]
    assert history.epoch == [1, 2, 3]
    for epoch in (1, 2, 3):
        expected.optimizer.learning_rate = 0.1 / (epoch + 1)
        train_by_keras(expected, X, LABELS, 1)
    assert_equal(found, expected, 1e-9)


def test_callbacks_of_keras(tmp_path: Any) -> None:
    (model,) = twins(mlp, lambda: R.Adam(0.01), "sparse_categorical_crossentropy")[:1]
    stop = C.EarlyStopping(patience=2, restore_best_weights=True)
    calls = [
        stop,
        C.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        C.ReduceLROnPlateau(patience=0, min_delta=10, factor=0.5),
        C.CSVLogger(tmp_path / "log.csv"),
    ]
    history = pynn.keras.fit(
        model, X, LABELS, epochs=50, validation_split=0.3, callbacks=calls, verbose=0, seed=0
    )
    assert len(history.epoch) < 50
    rates = history.history["learning_rate"]
    np.testing.assert_allclose(rates[:3], [0.01, 0.01, 0.005], rtol=1e-6)
    best = keras.models.load_model(tmp_path / "best.keras")
    for a, b in zip(arrays(best.variables), arrays(model.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(best.optimizer.iterations) == 2 * (stop.best_epoch + 1)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == len(history.epoch) + 1


class EveryBatch(C.Callback):
    """Notes the batches, and raises or changes the learning rate at one of them."""

    def __init__(self, at: int, act: str) -> None:
        super().__init__()
        self.at, self.act, self.batches = at, act, []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.batches.append(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert logs["loss"] > 0
        if batch != self.at:
            return
        if self.act == "raise":
            raise KeyboardInterrupt
        if self.act == "stop":
            self.model.stop_training = True
        else:
            self.model.optimizer.learning_rate = 1.0


def test_methods_for_batches(float64: None) -> None:
    expected, found = twins(mlp, lambda: R.Adam(0.1), "sparse_categorical_crossentropy")
    train_by_keras(expected, X[:30], LABELS, 1)
    settings = {"epochs": 2, "batch_size": 10, "shuffle": False, "verbose": 0}
    calls = EveryBatch(2, "raise")
    with pytest.raises(KeyboardInterrupt):
        pynn.keras.fit(found, X, LABELS, callbacks=[calls], **settings)
    assert calls.batches == [0, 1, 2]
    assert_equal(found, expected, 1e-9)
    history = pynn.keras.fit(found, X, LABELS, callbacks=[EveryBatch(1, "stop")], **settings)
    assert (history.epoch, int(found.optimizer.iterations)) == ([0], 5)
    with pytest.raises(ValueError, match="change of the learning rate within an epoch"):
        pynn.keras.fit(found, X, LABELS, callbacks=[EveryBatch(1, "rate")], **settings)


def act(change: Callable[[Any, int], None], at: int = -1) -> list[Any]:
    """Return callbacks that change a model at the end of each epoch, or of one batch."""
    call = C.Callback()
    if at < 0:
        call.on_epoch_end = lambda epoch, logs=None: change(call.model, epoch)
    else:
        call.on_train_batch_end = lambda k, logs=None: change(call.model, k) if k == at else None
    return [call]


def test_callbacks_change_settings_between_epochs(float64: None) -> None:
    def change(model: Any, epoch: int) -> None:
        model.optimizer.momentum = (0.5, 0.0, 0.25, 0.25)[epoch]
        model.optimizer.weight_decay = 0.125 * epoch
        model.layers[0].trainable = epoch >= 2

    loss = "sparse_categorical_crossentropy"
    expected, found = twins(mlp, lambda: R.SGD(0.125, 0.875, weight_decay=0.25), loss)
    settings = {"batch_size": 10, "shuffle": False, "verbose": 0}
    pynn.keras.fit(found, X, LABELS, epochs=4, callbacks=act(change), **settings)
    for epoch in range(4):
        train_by_keras(expected, X, LABELS, 1)
        change(expected, epoch)
    assert_equal(found, expected, 1e-9)
    plain, _ = twins(mlp, lambda: R.SGD(0.125), loss)
    with pytest.raises(ValueError, match="the optimizer SGD without momentums, expected settings"):
        pynn.keras.fit(plain, X, LABELS, epochs=4, callbacks=act(change), **settings)


def halve(model: Any, batch: int) -> None:
    model.set_weights([w / 2 for w in model.get_weights()])


def freeze(model: Any, batch: int) -> None:
    model.layers[0].trainable = False


def brake(model: Any, batch: int) -> None:
    model.optimizer.momentum = 0.0


def test_changes_within_an_epoch_are_refused() -> None:
    for change in (halve, freeze, brake):
        model, _ = twins(mlp, lambda: R.SGD(0.1, 0.9), "sparse_categorical_crossentropy")
        with pytest.raises(ValueError, match="in on_train_batch_end, expected it between epochs"):
            pynn.keras.fit(model, X, LABELS, batch_size=10, callbacks=act(change, 1), verbose=0)
        assert int(model.optimizer.iterations) == 2


def test_methods_for_batches_that_change_nothing() -> None:
    model, _ = twins(lambda: mlp(None), lambda: R.Adagrad(0.1, 2**-10), "mse")
    pynn.keras.fit(model, X, VALUES, verbose=0)
    for variable in model.optimizer._accumulators:  # float32 rounds value − 2⁻¹⁰ + 2⁻¹⁰
        variable.assign(RNG.uniform(2**14, 2**15, variable.shape))
    pynn.keras.fit(model, X, VALUES, epochs=2, callbacks=act(lambda *_: None, 0), verbose=0)


def test_a_loss_divided_by_weights_and_calls_of_validation() -> None:
    weight = RNG.uniform(0.1, 3, 50)
    weight[:10] = 0
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    found, _ = twins(mlp, lambda: R.SGD(0.01), lambda: loss)
    calls: list[Any] = []
    call = C.LambdaCallback()
    call.on_test_begin = lambda logs=None: calls.append("begin")
    call.on_test_end = lambda logs=None: calls.append(logs["loss"])
    settings = {"sample_weight": weight, "batch_size": 10, "verbose": 0, "callbacks": [call]}
    held = X[:25], LABELS[:25], weight[:25]
    history = pynn.keras.fit(found, [X], [LABELS], validation_data=held, **settings).history
    begin, ended = calls
    assert (begin, history["val_loss"]) == ("begin", [ended])
    theirs = found.evaluate(held[0], held[1], 10, 0, held[2])
    assert ended == pytest.approx(theirs, rel=1e-5)


def test_a_loss_that_is_not_finite() -> None:
    def model() -> Any:
        return twins(lambda: mlp(None), lambda: R.SGD(1e30), "mse")[0]

    history = pynn.keras.fit(model(), X, VALUES, verbose=0, callbacks=[C.TerminateOnNaN()])
    assert np.isnan(history.history["loss"]).all()
    diverged = model()
    with pytest.raises(pynn.DivergenceError):
        pynn.keras.fit(diverged, X, VALUES, epochs=3, verbose=0)
    assert all(np.isfinite(w).all() for w in diverged.get_weights())


def test_a_model_that_is_not_built_and_other_kinds_of_data() -> None:
    pandas = pytest.importorskip("pandas")
    results = []
    for x, y in (
        (pandas.DataFrame(X), pandas.Series(YES[:, 0] * 2 - 1)),
        (torch.from_numpy(X), YES.astype("int8")),
        (X[::-1][::-1], (YES * 2 - 1).tolist()),
    ):
        keras.utils.set_random_seed(4)
        model = keras.Sequential([L.Dense(4, "relu"), L.Dense(1)])
        model.compile("sgd", "hinge", metrics=["binary_accuracy"])
        results.append(pynn.keras.fit(model, x, y, epochs=2, verbose=0).history["loss"])
    assert results[0] == results[1] == results[2]


# --- Arguments ------------------------------------------------------------------------------------


def test_the_seed_and_numpys_generator_decide() -> None:
    def trained(**settings: Any) -> list[Array]:
        keras.utils.set_random_seed(2)
        model = chain(L.GaussianNoise(0.1), L.Dense(8, "relu"), L.Dropout(0.5), L.Dense(3))
        model.compile("adam", logits("SparseCategoricalCrossentropy"))
        pynn.keras.fit(model, X, LABELS, epochs=2, verbose=0, **settings)
        return model.get_weights()

    for settings in ({}, {"seed": 5}):
        for a, b in zip(trained(**settings), trained(**settings, threads=1), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (trained()[0] != trained(seed=5)[0]).any()


@pytest.mark.parametrize("scaled", [False, True])
def test_uint8_are_numbers(scaled: bool) -> None:
    def model() -> Any:
        return chain(*[L.Rescaling(1 / 255)] * scaled, L.Dense(3, "softmax"))

    x = RNG.integers(0, 256 if scaled else 5, (50, 5)).astype("uint8")
    settings = {"epochs": 2, "batch_size": 10, "shuffle": False, "verbose": 0}
    bytes_, floats = twins(model, lambda: R.SGD(1e-4), "sparse_categorical_crossentropy")
    pynn.keras.fit(bytes_, x, LABELS, **settings)
    pynn.keras.fit(floats, x.astype("float64"), LABELS, **settings)
    expected, _ = twins(model, lambda: R.SGD(1e-4), "sparse_categorical_crossentropy")
    train_by_keras(expected, x, LABELS, 2)
    assert_equal(bytes_, expected, 1e-4)
    assert_equal(floats, expected, 1e-4)


def refused(**settings: Any) -> Callable[[], Any]:
    def call() -> Any:
        given = {"x": X, "y": LABELS, **settings}
        model = (
            given.pop("model", None)
            or twins(mlp, given.pop("optimizer", lambda: "sgd"), "sparse_categorical_crossentropy")[
                0
            ]
        )
        return pynn.keras.fit(model, given.pop("x"), given.pop("y"), verbose=0, **given)

    return call


def wrong(label: float) -> Array:
    """Return labels of which that of row 7 is another one."""
    found = LABELS.astype("float64")
    found[7] = label
    return found


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("optimizer Adamax .pynn has no such", refused(optimizer=lambda: R.Adamax())),
    ("optimizer SGD with clipnorm=1.0", refused(optimizer=lambda: R.SGD(clipnorm=1.0))),
    ("optimizer SGD with use_ema=True", refused(optimizer=lambda: R.SGD(use_ema=True))),
    ("^steps_per_epoch: found 3", refused(steps_per_epoch=3)),
    ("^validation_split: found 0.5 for 1 rows", refused(x=X[:1], y=[1], validation_split=0.5)),
    ("^validation_data: found an? ndarray", refused(validation_data=X)),
    (r"^x: found shape \(50, 4\)", refused(x=X[:, :4])),
    ("^y: found 3.0 at row 7, expected whole numbers from 0 to 2", refused(y=wrong(3))),
    ("^y: found NaN at row 7, expected whole numbers", refused(y=wrong(np.nan))),
    ("^validation_freq: found 0, expected", refused(validation_freq=0)),
    ("^y: found shape .3,., expected 50 rows", refused(y=LABELS[:3])),
    ("^y: found None", refused(x=[(X, LABELS)], y=None)),
    ("^x: .*nan", refused(x=np.full((50, 5), np.nan))),
]


def test_what_is_refused_trains_nothing() -> None:
    model = norms()
    model.compile("sgd", logits("SparseCategoricalCrossentropy"))
    single = ("^batch_size: found 1 for 50 rows", refused(model=model, batch_size=1))
    for message, call in [*REFUSED, single]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="not compiled"):
        pynn.keras.fit(mlp(), X, LABELS)
    with pytest.raises(TypeError, match="callbacks: found"):
        refused(callbacks=[print])()
    with pytest.raises(TypeError, match="class_weight: found the key '1'"):
        refused(class_weight={"1": 2.0})()


def test_the_tables_of_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "keras.md").read_text("utf-8")
    for module, names in ((keras.losses, keras_losses), (R, optimizers)):
        rows = [f"| `{name}` | {text} |" for name, text in names.ACCEPTED.items()]
        assert "\n".join(rows) in page
        assert all(hasattr(module, name) for name in names.ACCEPTED)
