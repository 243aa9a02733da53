"""Callbacks of Keras: which of their methods are called, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..training.callbacks import Callback
from ..training.history import Record

Logs = dict[str, float]
Check = Callable[[str], None]

_BATCH = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


class Calls:
    """The callbacks of one call of ``fit``.

    Parameters
    ----------
    keras_model
        The model.
    given
        The arguments of ``fit``.
    steps
        Batches in each epoch.

    Attributes
    ----------
    list : keras.callbacks.CallbackList
        All callbacks, with Keras's history and progress bar.
    stops_at_nan : bool
        Whether there is a ``TerminateOnNaN``.
    """

    def __init__(self, keras_model: Any, given: dict[str, Any], steps: int) -> None:
        import keras

        self._keras, self._steps = keras_model, steps
        found = given["callbacks"]
        if isinstance(found, keras.callbacks.CallbackList):
            self.list = found
        else:
            self.list = keras.callbacks.CallbackList(
                _checked(found),
                add_history=True,
                add_progbar=given["verbose"] != 0,
                model=keras_model,
                verbose=given["verbose"],
                epochs=given["epochs"],
                steps=steps,
            )
        every = self.list.callbacks
        self._bars = [c for c in every if isinstance(c, keras.callbacks.ProgbarLogger)]
        self.stops_at_nan = any(isinstance(c, keras.callbacks.TerminateOnNaN) for c in every)
        self._batchwise = [c for c in every if c not in self._bars and _has_batches(c)]

    def batches(
        self, write: Callable[[], None], check: Check, logs: Callable[[Record], Logs]
    ) -> Batches | None:
        """Return what calls the methods for each batch; None if no callback has one."""
        if not self._batchwise:
            return None
        return Batches(self._keras, self._batchwise, write, check, logs)

    def progress(self, logs: Callable[[Record], Logs]) -> Any:
        """Return the argument ``progress`` of training: it moves Keras's bar."""
        if not self._bars:
            return False

        def show(record: Record) -> None:
            if record.step < record.steps:  # Keras draws the end of an epoch
                for bar in self._bars:
                    bar.on_train_batch_end(record.step - 1, logs(record))

        return show


def _checked(found: Any) -> list[Any]:
    import keras

    if found is None:
        return []
    calls = list(found) if isinstance(found, (list, tuple)) else [found]
    for call in calls:
        if not isinstance(call, keras.callbacks.Callback):
            raise TypeError(f"callbacks: found {call!r}, expected objects of keras.callbacks")
        if type(call).__name__ == "SwapEMAWeights":
            raise ValueError("callbacks: found SwapEMAWeights, which needs use_ema; expected none")
    return calls


def _has_batches(call: Any) -> bool:
    """Return whether a callback overrides a method that is called for each batch, and needs it."""
    import keras

    kind = type(call)
    if kind.__module__.split(".")[0] == "keras":
        if isinstance(call, keras.callbacks.TerminateOnNaN):
            return False  # training stops at such a loss anyway
        if (
            getattr(call, "save_freq", None) == "epoch"
            or getattr(call, "update_freq", "") == "epoch"
        ):
            return False
    base = keras.callbacks.Callback
    return any(
        name in vars(call) or getattr(kind, name) is not getattr(base, name) for name in _BATCH
    )


class Batches(Callback):
    """Calls the methods of Keras's callbacks before and after each batch.

    Parameters
    ----------
    keras_model
        The model.
    calls
        Callbacks with such a method.
    write
        Writes the values to the Keras model.
    check
        Raises ValueError if a method, which it gets by name, changed the model.
    logs
        Returns the logs of a record.
    """

    steps = 1

    def __init__(
        self,
        keras_model: Any,
        calls: list[Any],
        write: Callable[[], None],
        check: Check,
        logs: Callable[[Record], Logs],
    ) -> None:
        self._keras, self._calls, self._write, self._logs = keras_model, calls, write, logs
        self._check = check
        self.record: Record | None = None
        """The last one."""

    def on_fit_begin(self, net: Any) -> None:
        self._rate = self._keras.optimizer._learning_rate
        self._value = self._constant()
        self._write()  # sums of Adagrad are rounded, and are compared with those after each call
        self._begin(0)

    def on_steps(self, net: Any, record: Record) -> bool | None:
        self.record = record
        self._write()
        for call in self._calls:
            call.on_train_batch_end(record.step - 1, self._logs(record))
        if (
            self._constant() != self._value
            or self._keras.optimizer._learning_rate is not self._rate
        ):
            raise ValueError(
                "callbacks: found a change of the learning rate within an epoch, expected it "
                "between epochs, or a schedule of keras.optimizers.schedules"
            )
        self._check("on_train_batch_end")
        if self._keras.stop_training:
            return True
        if record.step < record.steps:
            self._begin(record.step)
        return None

    def _begin(self, step: int) -> None:
        for call in self._calls:
            call.on_train_batch_begin(step, {})
        self._check("on_train_batch_begin")

    def _constant(self) -> float | None:
        rate = self._keras.optimizer._learning_rate
        return float(rate) if hasattr(rate, "assign") else None
