"""One call of ``pynn.keras.fit``: its arguments, and the loop over epochs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..backends import choose
from ..backends.contract import Engine, TrainerSettings
from ..checks.refused import kind_of
from ..exports import keras_layers, keras_losses
from ..exports.chain import Chain
from ..exports.keras_losses import Objective
from ..spec import arguments
from ..spec.architecture import Architecture
from ..training.divergence import DivergenceError
from ..training.history import Record
from ..training.job import Job
from ..training.loop import Loop
from ..training.model import Model
from . import data
from .calls import Batches, Calls
from .data import Reader, Rows
from .metrics import Metrics, part_of
from .optimizers import KerasRates, rule
from .variables import Penalties, Variables

Array = np.ndarray

_TRAINING = "x", "y", "sample_weight"
_VALIDATION = "validation_data[0]", "validation_data[1]", "validation_data[2]"


def fit(model: Any, **given: Any) -> Any:
    """Train a model of Keras; the arguments are those of ``pynn.keras.fit``."""
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise ModuleNotFoundError(
            "pynn.keras.fit needs Keras and one of its backends: pip install 'pynn-mlp[keras]'",
            name="keras",
        ) from error

    if not isinstance(model, keras.Model):
        raise TypeError(f"model: found {kind_of(model)}, expected a compiled model of Keras")
    if not model.compiled:
        raise ValueError("model: found a model that is not compiled, expected model.compile first")
    _check(given)
    return _Run(model, given).train()


def _check(given: dict[str, Any]) -> None:
    for name in ("steps_per_epoch", "validation_steps"):
        if given[name] is not None:
            raise ValueError(
                f"{name}: found {given[name]!r}, expected None: an epoch takes all rows"
            )
    for name in ("epochs", "initial_epoch"):
        arguments.whole(given[name], name, 0)
    if given["verbose"] not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose: found {given['verbose']!r}, expected 'auto', 0, 1 or 2")
    if not isinstance(given["shuffle"], (bool, np.bool_)):
        raise ValueError(f"shuffle: found {given['shuffle']!r}, expected True or False")
    if given["validation_batch_size"] is not None:
        arguments.whole(given["validation_batch_size"], "validation_batch_size", 1)
    frequency = given["validation_freq"]
    if not isinstance(frequency, list):
        given["validation_freq"] = arguments.whole(frequency, "validation_freq", 1)
    split = given["validation_split"]
    arguments.number(0.0 if split is None else split, "validation_split", least=0, below=1)


class _Model(NamedTuple):
    """A Keras model as pynn computes it."""

    chain: Chain
    objective: Objective
    model: Model
    engine: Engine
    shown: Engine
    """Computes the outputs of the Keras model, which may be logits."""


def _converted(keras_model: Any, x: Array, given: dict[str, Any]) -> _Model:
    """Return a Keras model as pynn's; uint8 x are pixels if the model divides them by 255."""
    if not keras_model.built:
        keras_model.build((None, *x.shape[1:]))
    chain = keras_layers.read(keras_model)
    aim = keras_losses.objective(keras_model, chain.output, chain.sizes[-1])
    pixels = x.dtype == np.uint8 and keras_layers.scales_pixels(chain)
    if pixels:
        chain = replace(chain, scales=[])
    settings = chain.settings()
    names = "pixels", "standardize"
    net = Architecture.build(
        chain.sizes,
        output=aim.output,
        loss=aim.loss,
        **{name: value for name, value in settings.items() if name not in names},
    )
    seed = given["seed"]
    if seed is None:
        seed = int(np.random.randint(0, 2**32, dtype=np.uint64))
    model = Model(net, arguments.whole(seed, "seed", 0, 2**64 - 1), pixels, bool(chain.scales))
    if chain.scales:
        model.replace(input_standard=chain.standard)
    chain.copy_to(net, model.flat)
    threads = arguments.threads(given["threads"])
    engine = shown = choose.create(given["backend"], net, threads)
    if aim.from_logits:
        outputs = replace(
            net,
            activations=(*net.activations[:-1], "identity"),
            activation_parameters=(),
            loss="mse",
            loss_parameters=(),
        )
        if net.activation_parameters:
            outputs = replace(outputs, activation_parameters=(*net.activation_parameters[:-1], 0.0))
        shown = choose.create(given["backend"], outputs, threads)
    return _Model(chain, aim, model, engine, shown)


def _require_two_rows(n: int, batch: int) -> None:
    """Raise ValueError if a batch of n rows in batches, also the last one, has a single row."""
    if n == 1 or arguments.leaves_one(n, batch):
        raise ValueError(
            f"batch_size: found {batch} for {n} rows, which leaves a batch of 1; expected two rows "
            "or more in every batch, since BatchNormalization is used"
        )


class _Run:
    """One call of ``fit``."""

    def __init__(self, keras_model: Any, given: dict[str, Any]) -> None:
        self._keras, self._given = keras_model, given
        found = data.given(given["x"], given["y"], given["sample_weight"], _TRAINING)
        held = None
        validation, split = given["validation_data"], given["validation_split"]
        if validation is not None:
            if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
                raise ValueError(
                    f"validation_data: found {kind_of(validation)}, expected (x, y) or "
                    "(x, y, sample_weight)"
                )
            weight = validation[2] if len(validation) == 3 else None
            held = data.given(validation[0], validation[1], weight, _VALIDATION)
        elif split:
            found, held = data.split(found, float(split))
        found = data.by_class(found, given["class_weight"])
        rule(keras_model.optimizer)  # refuses before anything is computed
        self._converted = _converted(keras_model, found.x, given)
        _, objective, model, self._engine, shown = self._converted
        self._model, self._by_weight = model, objective.by_weight
        reader = Reader(model, objective, tuple(keras_model.input_shape[1:]))
        self._rows = reader.rows(found, _TRAINING)
        self._held = None if held is None else reader.rows(held, _VALIDATION)
        self._metrics = Metrics(keras_model, objective, model, shown)
        self._prepare()
        model.replace(task=reader.task)

    def _prepare(self) -> None:
        """Read the settings of optimizer and layers, which callbacks may change between epochs."""
        keras_model, chain, model = self._keras, self._converted.chain, self._model
        self._rule = rule(keras_model.optimizer)
        self._penalties = Penalties(chain, model)
        self._variables = Variables(keras_model, chain, model, self._rule)
        self._frozen = self._variables.frozen()
        self._settings = self._trainer_settings(self._rule.optimizer)

    def _require_unchanged(self, method: str) -> None:
        """Raise ValueError if a callback's method for batches changed the model."""
        same = self._variables.agree() and rule(self._keras.optimizer) == self._rule
        if not same or self._variables.frozen() != self._frozen:
            raise ValueError(
                f"callbacks: found a change of weights, of trainable or of the optimizer in "
                f"{method}, expected it between epochs, in on_epoch_begin or on_epoch_end"
            )

    def _trainer_settings(self, optimizer: Any) -> TrainerSettings:
        given, frozen = self._given, self._frozen
        size = given["batch_size"]
        batch = arguments.whole(32 if size is None else size, "batch_size", 1)
        batch = min(batch, self._rows.n)
        if {*self._model.architecture.batch_layers} - {*frozen.layers}:
            _require_two_rows(self._rows.n, batch)
        return TrainerSettings(
            optimizer=optimizer,
            batch_size=batch,
            seed=self._model.seed,
            shuffle=bool(given["shuffle"]),
            watch=True,
            frozen=frozen.layers,
            groups=frozen.groups,
            l1=self._penalties.l1,
            convention="pynn" if self._by_weight else "keras",
        )

    # --- The loop over epochs ---------------------------------------------------------------------

    def train(self) -> Any:
        """Train all epochs, and return Keras's history."""
        given, keras_model, settings = self._given, self._keras, self._settings
        steps = -(-self._rows.n // settings.batch_size)
        self._calls = Calls(keras_model, given, steps)
        self._metrics.build(self._rows)
        self._counted = self._metrics.counted(self._rows, settings.convention != "keras")
        self._variables.read()
        keras_model.stop_training = False
        self._calls.list.on_train_begin()
        first = getattr(keras_model, "_initial_epoch", None) or given["initial_epoch"]
        self._variables.read()  # callbacks may have changed it
        self._model.epochs = first
        self._rates = KerasRates(keras_model.optimizer, self._variables.iterations, first)
        logs: dict[str, float] = {}
        for epoch in range(first, given["epochs"]):
            self._calls.list.on_epoch_begin(epoch)
            logs = self._train_epoch(epoch)
            self._calls.list.on_epoch_end(epoch, logs)
            if keras_model.stop_training:
                break
        self._calls.list.on_train_end(logs)
        return keras_model.history

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch, write the values to the Keras model, and return the logs."""
        self._prepare()
        self._variables.read()
        before = self._penalties.value()
        batches = self._calls.batches(
            self._variables.write, self._require_unchanged, self._record_logs
        )
        loop = Loop(self, self._model, self._engine, self._job(batches))
        try:
            loop.run(epoch, epoch + 1)
        except DivergenceError:
            if not self._calls.stops_at_nan:
                raise
            self._keras.stop_training = True
            return {"loss": math.nan}
        finally:
            self._variables.write()
        if self._model.epochs > epoch:
            record = self._model.history[-1]
        else:  # a callback stopped within the epoch
            assert batches is not None
            assert batches.record is not None
            record = batches.record
        penalty = (before + self._penalties.value()) / 2
        return self._logs(epoch, record, penalty)

    def _job(self, batches: Batches | None) -> Job:
        return Job(
            data=self._rows.data,
            held=None,
            measured=None,
            task=self._model.task,  # type: ignore[arg-type]
            pixels=bool(self._model.pixels),
            columns=None,
            settings=self._settings,
            rates=self._rates,  # type: ignore[arg-type]
            epochs=1,
            blocks=None,
            calls=[] if batches is None else [batches],
            progress=self._calls.progress(self._record_logs),
            checkpoint=None,
            resume=False,
            compared={},
            arrays={},
            input_standard=self._model.input_standard,
        )

    def _logs(self, epoch: int, record: Record, penalty: float) -> dict[str, float]:
        loss = record.loss - self._rows.constant + penalty
        weighted = self._settings.convention != "keras"
        logs = self._metrics.logs(self._rows, loss, record.accuracy, weighted)
        if self._held is not None and self._keras._should_eval(
            epoch, self._given["validation_freq"]
        ):
            self._calls.list.on_test_begin()
            self._variables.read()  # callbacks may have changed it
            found = self._validation_logs(self._held)
            self._calls.list.on_test_end(found)
            logs |= {f"val_{name}": value for name, value in found.items()}
        return logs

    def _validation_logs(self, rows: Rows) -> dict[str, float]:
        sums = self._engine.evaluate(self._model.flat, *rows.data)
        accuracy = None if np.isnan(sums.correct) else sums.correct / sums.weight
        if self._by_weight and rows.weight is not None:
            loss = self._mean_of_batches(rows)
        else:
            loss = sums.loss / rows.n - rows.constant
        return self._metrics.logs(rows, loss + self._penalties.value(), accuracy, True)

    def _mean_of_batches(self, rows: Rows) -> float:
        """Return the mean of the batches' losses, which Keras divides by their weights."""
        size = self._given["validation_batch_size"] or self._given["batch_size"] or 32
        x, y, weight, _ = rows.data
        assert weight is not None
        total = 0.0
        for start in range(0, rows.n, size):
            part = slice(start, start + size)
            sums = self._engine.evaluate(self._model.flat, part_of(x, part), y[part], weight[part])
            if sums.weight:  # Keras's loss of a batch without weight is 0
                loss = sums.loss / sums.weight
                if self._model.architecture.loss == "poisson":
                    loss -= data.of_poisson(y[part], weight[part], weight[part])
                total += loss * len(y[part])
        return total / rows.n

    def _record_logs(self, record: Record) -> dict[str, float]:
        """Return the logs of a part of an epoch."""
        logs = {"loss": record.loss - self._rows.constant}
        if record.accuracy is not None:
            logs |= dict.fromkeys(self._counted, record.accuracy)
        return logs
