"""Divergence: detecting it, restoring the last finite state, and finding the step that caused it.

A backend stops before an update whose loss is not finite. A weight can become infinite while the
loss stays finite, so all weights are checked from time to time too. A snapshot of the last state
known to be finite is kept; from there the steps are repeated, which gives identical results, until
the first step that leaves a value that is not finite.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..arrays.memory import Memory
from ..arrays.vectors import finite
from ..spec.architecture import Architecture
from .model import Model
from .rates import Rates
from .slices import Position
from .stepper import Stepper
from .stream import StreamTrainer

if TYPE_CHECKING:
    from ..backends import reference

Array = np.ndarray

PATIENCE = 300
"""Train at least this many times as long as the last finiteness check took before the next one, so
that checks cost at most 1/300 of the time."""


class DivergenceError(ArithmeticError):
    """Training stopped because a loss, a weight or the optimizer's state was no longer finite.

    The network is restored to its state before the step that diverged: its weights are finite, but
    may be so large that its outputs are not. Train a new network with a lower learning rate, or
    continue from an earlier checkpoint.

    Attributes
    ----------
    epoch, step : int
        The epoch and the batch in it that diverged, both counted from 1 as in
        :class:`pynn.Record`.
    layer : int or None
        The index k of ``net.weights[k]`` where divergence begins. For a loss, the layer nearest to
        the input whose values are not finite; for weights, the one nearest to the output. None if
        repeating the steps did not diverge again because the data had changed.
    """

    def __init__(self, message: str, epoch: int, step: int, layer: int | None) -> None:
        super().__init__(message)
        self.epoch, self.step, self.layer = epoch, step, layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.epoch, self.step, self.layer)


class Snapshot:
    """A finite state of a model: its counters, and a copy of its vectors once they are overwritten.

    Parameters
    ----------
    model : Model
        Its present counters belong to the first snapshot.
    vectors : list of ndarray
        The vectors that training changes.
    step : int
        Batches trained in its present epoch.
    vectors_stay : bool
        Whether training leaves the model's vectors unchanged until ``copy_vectors`` is called.
    """

    def __init__(self, model: Model, vectors: list[Array], step: int, vectors_stay: bool) -> None:
        self._model, self._vectors, self._vectors_stay = model, vectors, vectors_stay
        self._memory: Memory | None = None
        self.take(step)

    def take(self, step: int) -> None:
        """Replace the snapshot by the present state, ``step`` batches into the epoch."""
        self._copied = False
        self._epochs, self._updates, self.step = self._model.epochs, self._model.updates, step
        if not self._vectors_stay:
            self.copy_vectors()

    def copy_vectors(self) -> None:
        """Copy the vectors of the snapshot, before they are overwritten."""
        if self._copied:
            return
        for copy, vector in zip(self._copies(), self._vectors, strict=True):
            np.copyto(copy, vector)
        self._copied = True

    def restore(self) -> None:
        """Give the model the vectors and the counters of the snapshot."""
        try:
            self._restore()
        except BaseException:
            # Interrupted, perhaps between two vectors.
            self._restore()
            raise

    def _restore(self) -> None:
        if self._copied:
            for copy, vector in zip(self._copies(), self._vectors, strict=True):
                np.copyto(vector, copy)
        self._model.replace(epochs=self._epochs, updates=self._updates)

    def _copies(self) -> list[Array]:
        if self._memory is None:
            self._memory = Memory(sum(vector.nbytes for vector in self._vectors))
        rest, copies = self._memory.bytes, []
        for vector in self._vectors:
            copies.append(rest[: vector.nbytes].view(vector.dtype))
            rest = rest[vector.nbytes :]
        return copies


class Guard:
    """Writes back trained parameters, checks that they are finite, and restores them if not.

    Parameters
    ----------
    stepper : Stepper
        Trains the model.
    rates : Rates
        Learning rates, to repeat steps.
    began : float
        ``time.perf_counter()`` before the trainer was made. Copying the parameters into it takes
        about as long as a check.

    Raises
    ------
    ValueError
        If the model is not finite to begin with.
    """

    def __init__(self, stepper: Stepper, rates: Rates, began: float) -> None:
        self._stepper, self._model, self._rates = stepper, stepper.model, rates
        self._schedule_check(began)
        if not self._is_finite():
            k = layer_of_update(self._model.architecture, stepper.vectors)
            raise ValueError(
                f"fit: found NaN or infinity in weights[{k}], biases[{k}] or the optimizer state "
                "of that layer, expected finite numbers"
            )
        step, trainer = stepper.position.step, stepper.trainer
        self._snapshot = Snapshot(self._model, stepper.vectors, step, trainer.works_on_copies)

    def write_back(self) -> None:
        """Write trained parameters to the model; if they may not be finite, copy the old ones."""
        trainer = self._stepper.trainer
        will_be_finite = trainer.would_store_finite()
        if not will_be_finite:
            self._snapshot.copy_vectors()
        trainer.store()
        if will_be_finite:
            self._snapshot.take(self._stepper.position.step)

    def check(self) -> None:
        """Write back and raise DivergenceError if the model is not finite."""
        self.write_back()
        if not self._is_finite():
            self.raise_divergence()

    def check_if_due(self) -> None:
        """Check and take a snapshot, if the last check is long enough ago."""
        began = time.perf_counter()
        if began > self._next_check:
            self.check()
            self._snapshot.take(self._stepper.position.step)
            self._schedule_check(began)

    def recover(self) -> bool:
        """Write back after an exception; restore the snapshot if the model is not finite then.

        Returns
        -------
        bool
            Whether the model has its last update.
        """
        try:
            self._stepper.count()
            self.write_back()
        except BaseException:
            # Out of memory for a copy, or a second interrupt, perhaps while it was storing.
            try:
                self.write_back()
            except BaseException:
                if not self._stepper.trainer.stored_is_finite:
                    self._snapshot.restore()
                raise
            raise
        if self._is_finite():
            return True
        self._snapshot.restore()
        return False

    def _schedule_check(self, began: float) -> None:
        """Set the time of the next check, after one that began at ``began`` and ends now."""
        now = time.perf_counter()
        self._next_check = now + PATIENCE * (now - began)

    def _is_finite(self) -> bool:
        # Trainers check while they copy, which is faster than a second pass over the vectors.
        return self._stepper.trainer.stored_is_finite or finite(*self._stepper.vectors)

    # --- After divergence -------------------------------------------------------------------------

    def raise_divergence(self) -> NoReturn:
        """Restore the state before the first step that diverged, and raise DivergenceError."""
        stepper, model = self._stepper, self._model
        stepper.resumable = False
        self.write_back()
        repeated, layer = (True, None) if self._is_finite() else self._retrace()
        count = model.architecture.n_layers
        if layer is not None:
            found = f"made weights of layer {layer + 1} of {count} infinite or NaN"
        else:
            found = "gave a loss that is not finite"
            if repeated:
                layer = self._layer_of_loss()
                found += f", beginning in layer {layer + 1} of {count}"
        advice = "train a new network with a lower learning_rate"
        if model.updates == 0:
            # The learning rate has had no effect yet.
            advice = "check the scale of x and y, and the initial weights"
        epoch, step = model.epochs + 1, stepper.position.step + 1
        raise DivergenceError(
            f"fit: step {step} of epoch {epoch} {found}; training has stopped and the network is "
            "restored to its state before that step: its weights are finite, its outputs may not "
            f"be; {advice}",
            epoch,
            step,
            layer,
        )

    def _retrace(self) -> tuple[bool, int | None]:
        """Repeat the steps since the snapshot up to the one that diverged, found by bisection.

        Returns
        -------
        bool
            Whether the steps diverged again; they may not if x was changed from outside.
        int or None
            The layer whose weights the step made infinite; None if the loss diverged.
        """
        stepper, model = self._stepper, self._model
        last = model.epochs, stepper.position.step + stepper.trainer.diverged
        suspects = 0  # number of next steps that contain the faulty one; 0 if not known
        self._go_back()
        while (model.epochs, stepper.position.step) < last:
            end = last[1] if model.epochs == last[0] else stepper.steps
            count = max(1, suspects // 2) if suspects else end - stepper.position.step
            stepper.train(self._rates.of(model.epochs, stepper.steps, model.history), count)
            self.write_back()
            done = stepper.trainer.done
            if not self._is_finite():
                layer = layer_of_update(model.architecture, stepper.vectors)
                self._go_back()
                if done == 1:
                    return True, layer
                suspects = done
                continue
            if stepper.trainer.diverged:
                return True, None
            self._end_epoch_if_complete()
            self._snapshot.take(stepper.position.step)
            suspects = max(0, suspects - done)
        return False, None

    def _go_back(self) -> None:
        """Restore the snapshot and train from it."""
        self._snapshot.restore()
        self._stepper.position = Position(self._snapshot.step)
        self._end_epoch_if_complete()
        self._stepper.restart()

    def _end_epoch_if_complete(self) -> None:
        if self._stepper.position.step == self._stepper.steps:
            self._model.epochs += 1
            self._stepper.position = Position()

    def _layer_of_loss(self) -> int:
        """Return the layer nearest to the input whose values in the next batch are not finite."""
        stepper, model = self._stepper, self._model
        from ..backends import reference  # imported when needed: most runs do not diverge

        data, epoch, step = stepper.data, model.epochs, stepper.position.step
        if isinstance(stepper.trainer, StreamTrainer):
            data, epoch, step = stepper.trainer.place(epoch, step)
        trainer = reference.Engine(model.architecture).trainer(
            *(stepper.vectors[0], stepper.vectors[1:]), data, stepper.settings
        )
        if stepper.blocks is not None:
            trainer.order(stepper.blocks.order(model.epochs))
        return layer_of_loss(trainer, epoch, step)


def layer_of_update(architecture: Architecture, vectors: list[Array]) -> int:
    """Return the layer nearest to the output with a parameter or a state that is not finite."""
    for k in range(architecture.n_layers - 1, 0, -1):
        for vector in vectors:
            if not finite(architecture.layer_views(vector)[k]):
                return k
    return 0


def layer_of_loss(trainer: reference.Trainer, epoch: int, step: int) -> int:
    """Return the layer nearest to the input whose values are not finite in a batch.

    The output layer, if only the loss is not finite.
    """
    from ..backends.reference import forward

    _, x, _, masks, noises = trainer.batch(epoch, step)
    with np.errstate(all="ignore"):
        layers = trainer.weights, trainer.biases, trainer.scales, trainer.running
        _, zs = forward(trainer.net, *layers, x, masks, noises)
    for k, z in enumerate(zs):
        if not np.isfinite(z).all():
            return k
    return len(zs) - 1
