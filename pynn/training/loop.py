"""One call of ``fit`` at work: the loop over epochs, and what happens between them."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, NoReturn

import numpy as np

from ..arrays.sparse import Sparse
from ..backends.contract import Data, Engine, Trainer, TrainerSettings
from .blocks import Blocks
from .callbacks import Callback, stops
from .divergence import Anchor, DivergenceError, layer_of_loss, layer_of_update
from .history import Record
from .model import Model
from .progress import Reporter, reporter
from .rates import Rates
from .saver import Place, Saver, Taken, keeps

Array = np.ndarray

PATIENCE = 300
"""How many times longer than a look at all weights, and a copy of them, training goes on without:
what it costs is one part in so many."""


class Loop:
    """One call of ``fit`` at work."""

    def __init__(
        self,
        net: Model,
        engine: Engine,
        owner: Any,
        data: Data,
        training: TrainerSettings,
        rates: Rates,
        calls: list[Callback],
        held: tuple[Array | Sparse, Array] | None,
        saver: Saver | None = None,
        taken: Taken | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        self.blocks, self.ordered = blocks, -1
        self.net, self.engine, self.owner = net, engine, owner
        self.data, self.training = data, training
        began = time.perf_counter()
        self.trainer = self.new_trainer()
        # To take all weights in takes as long as to write them back and look at them.
        self.look_after(began)
        self.rows, self.batch_size = len(data.x), training.batch_size
        self.steps = -(-self.rows // self.batch_size)
        self.rates = rates
        self.calls = calls
        self.stepwise = [c for c in calls if c.steps is not None]
        self.held = held
        self.report: Reporter | None = None
        self.pace: list[Reporter] = []
        self.saver, self.taken = saver, taken
        self.every = [c.steps for c in self.stepwise if c.steps is not None]
        if saver is not None and saver.checkpoint.steps is not None:
            self.every.append(saver.checkpoint.steps)
        self.place = Place() if taken is None else taken.place
        self.stop = taken is not None and taken.stopped
        # Where training could be taken up as things stand; None while that is not one moment of it.
        self.here: Place | None = None
        self.began_at: tuple[int, int] | None = None

    def run(self, start: int, stop: int, progress: Any) -> None:
        net = self.net
        if not self.is_finite():
            k = layer_of_update(net)
            raise ValueError(
                f"fit: found NaN or infinity in weights[{k}], biases[{k}] or what the optimizer "
                "keeps of them, expected finite numbers"
            )
        if self.saver is not None and self.saver.checkpoint.seconds is not None:
            # Slices as short as those of a report, so that there is a moment to look at the clock.
            self.pace.append(Reporter(lambda record: None))
        self.at, self.uncounted = self.place.first, len(net.history) - net.epochs
        self.anchor = Anchor(net, self.at, self.trainer.works_on_copies)
        net.set_writeable(False)
        try:
            for call in self.calls:
                # What had a state was restored when the checkpoint was read.
                if self.taken is None or not keeps(call):
                    call.on_fit_begin(self.owner)
            # Below what they print.
            self.report = reporter(progress, start, stop)
            if self.report is not None:
                self.pace.append(self.report)
            # One that was stopped with the last step of an epoch has yet to end that epoch.
            while net.epochs < stop and (not self.stop or self.place.first == self.steps):
                record = self.epoch()
                if record is None:
                    break
                self.here = None
                net.history.append(record)
                net.epochs += 1
                self.at = 0
                if time.perf_counter() > self.due:
                    self.look(True)
                if self.calls:
                    self.store()
                    for call in self.calls:
                        self.stop |= stops(call.on_epoch_end(self.owner, record))
                self.here = Place()
                if self.report is not None:
                    self.report.show(record)
                if self.saver is not None and net.epochs < stop and not self.stop:
                    self.save_if_due(Place(), True)
            self.look()
            taken = self.taken
            as_it_was = taken is not None and taken.ended and taken.model.updates == net.updates
            if self.saver is not None and not as_it_was:
                self.save(Place(), ended=True)
        except BaseException as error:
            try:
                self.store()
            except BaseException:
                # No memory for a copy, or a second interrupt: the network has what it had before.
                if not self.trainer.stored_is_finite:
                    self.anchor.give_back(net)
                raise
            if not self.is_finite():
                self.anchor.give_back(net)
            elif self.here is not None and isinstance(error, (KeyboardInterrupt, SystemExit)):
                self.write(self.here)
            raise
        finally:
            # Without epochs that were counted before it was seen that they led nowhere.
            net.history.cut(net.epochs + self.uncounted)
            net.set_writeable(True)
            if self.report is not None:
                self.report.close()
        for call in self.calls:
            call.on_fit_end(self.owner)

    def epoch(self) -> Record | None:
        """Train an epoch; None if a callback stopped it before its end."""
        net = self.net
        rates = self.rates.of(net.epochs, self.steps)
        (self.at, loss, right, seconds), self.place = self.place, Place()
        if self.at > 0:
            self.trainer.sums = loss, right

        def record() -> Record:
            n = min(self.at * self.batch_size, self.rows)
            return Record(
                epoch=net.epochs + 1,
                loss=loss / n,
                accuracy=_share(right, n),
                learning_rate=float(rates[self.at - 1]),
                seconds=seconds,
                samples_per_second=n / max(seconds, 1e-9),
                step=self.at,
                steps=self.steps,
            )

        while self.at < self.steps and not self.stop:
            count = self.steps - self.at
            for every in self.every:
                count = min(count, every - net.updates % every)
            for pace in self.pace:
                count = min(count, pace.slice or count)
            if self.blocks is not None:
                count = min(count, self.fetch())
            began, self.here = time.perf_counter(), None
            try:
                loss, right = self.train(rates, count)
            except (KeyboardInterrupt, SystemExit):
                self.here = self.broken_off(count, seconds + time.perf_counter() - began)
                raise
            took = time.perf_counter() - began
            seconds += took
            due = [c for c in self.stepwise if net.updates % c.steps == 0]  # type: ignore[operator]
            here = Place(self.at, loss, right, seconds)
            if not (due or self.trainer.diverged):
                self.here = here
            if self.trainer.diverged:
                self.diverge()
            if self.at < self.steps and time.perf_counter() > self.due:
                self.look(True)
            for pace in self.pace:
                pace.measure(count, took)
            if self.report is not None and self.at < self.steps and self.report.is_due():
                self.report.show(record())
            if due:
                self.store()
                for call in due:
                    self.stop |= stops(call.on_steps(self.owner, record()))
            self.here = here
            if self.saver is not None and self.at < self.steps and not self.stop:
                self.save_if_due(here, False)
        if self.at < self.steps:
            return None
        done = record()
        if self.held is None:
            return done
        held_loss, held_right = self.trainer.evaluate(*self.held)
        n = len(self.held[0])
        return done._replace(
            validation_loss=held_loss / n, validation_accuracy=_share(held_right, n)
        )

    def new_trainer(self) -> Trainer:
        net = self.net
        trainer = self.engine.trainer(net.flat, net.optimizer_state, self.data, self.training)
        if net.profile is not None:
            net.profile._watch(trainer)
        return trainer

    def train(self, rates: Array, count: int) -> tuple[float, float]:
        """Take so many steps of an epoch, of all of whose steps the rates are given."""
        net, first = self.net, self.at
        self.take_order()
        began = time.perf_counter()
        # What was done before is not counted again if an interrupt comes before the first step.
        self.began_at = None
        self.trainer.done = 0
        self.began_at = net.updates, first
        try:
            return self.trainer.steps(
                net.epochs, first, rates[first : first + count], net.updates - net.optimizer_began
            )
        finally:
            self.count_steps()
            if net.profile is not None:
                rows = min(self.at * self.batch_size, self.rows) - first * self.batch_size
                net.profile._add(self.trainer.done, rows, time.perf_counter() - began)

    def count_steps(self) -> None:
        """Count what was trained since ``train`` began; as often as one likes."""
        if self.began_at is not None:
            updates, first = self.began_at
            done = self.trainer.done
            self.net.updates, self.at = updates + done, first + done

    def take_order(self) -> None:
        """Have the rows of this epoch taken block by block, if they are to be."""
        if self.blocks is not None and self.ordered != self.net.epochs:
            self.trainer.order(self.blocks.order(self.net.epochs))
            self.ordered = self.net.epochs

    def fetch(self) -> int:
        """Have blocks read ahead; return the steps until that is due again."""
        assert self.blocks is not None
        self.take_order()
        window = self.blocks.fetch(self.net.epochs, self.at * self.batch_size)
        return max(1, (window + 1) * self.blocks.rows // self.batch_size - self.at)

    # --- Divergence -------------------------------------------------------------------------------

    def look(self, keep: bool = False) -> None:
        """Write back what is trained, and see that it is finite; ``keep`` it to go back to."""
        began = time.perf_counter()
        self.store()
        if not self.is_finite():
            self.diverge()
        if keep:
            self.anchor.take(self.net, self.at)
            self.look_after(began)

    def store(self) -> None:
        """Write back what is trained; if that may not be finite, copy what it is written over."""
        sound = self.trainer.would_store_finite()
        if not sound:
            self.anchor.keep(self.net)
        self.trainer.store()
        if sound:
            self.anchor.take(self.net, self.at)

    def look_after(self, began: float) -> None:
        """Put off the next look, in proportion to what one that began then has cost."""
        now = time.perf_counter()
        self.due = now + PATIENCE * (now - began)

    def is_finite(self) -> bool:
        # To look while it is copied takes less time than to look again.
        return self.trainer.stored_is_finite or self.net.is_finite()

    def diverge(self) -> NoReturn:
        """Go back to the last update that left all finite, and say what the next one did."""
        net, self.here = self.net, None
        self.store()
        again, layer = (True, None) if self.is_finite() else self.retrace()
        count = net.architecture.n_layers
        if layer is not None:
            what = f"made weights of layer {layer + 1} of {count} grow past all bounds"
        else:
            what = "came upon a loss that is not finite"
            if again:
                from ..backends import reference

                engine = reference.Engine(net.architecture)
                unwatched = dataclasses.replace(self.training, watch=False)
                trainer = engine.trainer(net.flat, net.optimizer_state, self.data, unwatched)
                if self.blocks is not None:
                    trainer.order(self.blocks.order(net.epochs))
                layer = layer_of_loss(trainer, net.epochs, self.at)
                what += f", from layer {layer + 1} of {count} on"
        advice = "start anew with a lower learning_rate"
        if net.updates == 0:
            # No rate was at work yet.
            advice = "look at the size of the numbers in x and y, and at the first weights"
        raise DivergenceError(
            f"fit: step {self.at + 1} of epoch {net.epochs + 1} {what}; training has stopped and "
            "the network is as it was before that step, with weights that are finite, though what "
            f"it gives may not be; {advice}",
            net.epochs + 1,
            self.at + 1,
            layer,
        )

    def retrace(self) -> tuple[bool, int | None]:
        """Take the steps since the last copy again, up to the one that went wrong.

        The same steps give the same bits, so that one is found by halving.

        Returns
        -------
        bool, int or None
            Whether it went wrong again, which it need not if x was changed from outside; and the
            layer that the step made infinite, None if it did not get that far.
        """
        net, too_many = self.net, 0
        last = net.epochs, self.at + self.trainer.diverged
        self.go_back()
        while (net.epochs, self.at) < last:
            count = (last[1] if net.epochs == last[0] else self.steps) - self.at
            if too_many:
                count = max(1, too_many // 2)
            self.train(self.rates.of(net.epochs, self.steps), count)
            self.store()
            done = self.trainer.done
            if self.is_finite():
                if self.trainer.diverged:
                    return True, None
                if self.at == self.steps:
                    net.epochs, self.at = net.epochs + 1, 0
                self.anchor.take(net, self.at)
                too_many = max(0, too_many - done)
            else:
                layer = layer_of_update(net)
                self.go_back()
                if done == 1:
                    return True, layer
                too_many = done
        return False, None

    def go_back(self) -> None:
        net = self.net
        self.anchor.give_back(net)
        self.at = self.anchor.first
        if self.at == self.steps:
            net.epochs, self.at = net.epochs + 1, 0
        self.trainer, self.ordered = self.new_trainer(), -1

    # --- Checkpoints ------------------------------------------------------------------------------

    def save_if_due(self, place: Place, whole_epoch: bool) -> None:
        if self.saver is not None and self.saver.is_due(self.net, whole_epoch):
            self.save(place)

    def broken_off(self, count: int, seconds: float) -> Place | None:
        """Where an interrupt has left the training of an epoch, unless a callback is to come."""
        self.count_steps()
        done = self.trainer.done
        due = [c for c in self.stepwise if self.net.updates % (c.steps or 1) == 0]
        if due and done == count:
            return None
        loss, right = self.trainer.sums if self.at > 0 else (0.0, 0.0)
        return Place(self.at, loss, right, seconds)

    def save(self, place: Place, ended: bool = False) -> None:
        self.look()
        self.write(place, ended)

    def write(self, place: Place, ended: bool = False) -> None:
        if self.saver is not None:
            self.saver.write(self.net, place, self.calls, ended=ended, stopped=self.stop)


def _share(right: float, n: int) -> float | None:
    return None if math.isnan(right) else right / n
