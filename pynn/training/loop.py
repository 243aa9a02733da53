"""The loop over epochs of one call of ``fit``, and the order of events between its steps."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.contract import Engine
from .callbacks import Callback, has_state, stops
from .divergence import Guard
from .history import Record
from .job import Job
from .model import Model
from .progress import Reporter, reporter
from .slices import Position, due, share, until_due
from .standardise import Reported, outputs
from .stepper import Stepper
from .stream import stream_of

if TYPE_CHECKING:
    from .compare import Resumed
    from .saver import Saver

Array = np.ndarray


class Loop:
    """Trains the epochs of one call of ``fit``.

    ``Stepper`` trains the steps and counts them, ``Guard`` checks that parameters stay finite,
    ``Saver`` writes checkpoints, and a ``Reporter`` shows progress.

    Parameters
    ----------
    owner : object
        The object whose ``fit`` was called, which callbacks receive.
    model : Model
        Trained in place.
    engine : Engine
        Computes.
    job : Job
        The arguments of the call.
    saver : Saver, optional
        Writes checkpoints.
    resumed : Resumed, optional
        The checkpoint that the model was restored from.
    """

    def __init__(
        self,
        owner: Any,
        model: Model,
        engine: Engine,
        job: Job,
        saver: Saver | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        # Everything is allocated here, and ``run`` changes the model afterwards.
        self.state = model.state_for(job.settings.optimizer)
        self.average = model.average_for(job.settings.ema)
        job = self._with_offset(model, job)
        self.owner, self.model, self.engine, self.job = owner, model, engine, job
        self.reported = None if job.target_standard is None else Reported(model, engine, job)
        self.saver, self.resumed = saver, resumed
        began = time.perf_counter()
        position = Position() if resumed is None else resumed.position
        average = [] if self.average is None else [self.average]
        vectors = [model.flat, *self.state, *average]
        self.stepper = Stepper(model, engine, vectors, job, position)
        self.guard = Guard(self.stepper, job.rates, began)
        self.calls = job.calls
        self.stepwise = [call for call in job.calls if call.steps is not None]
        self.periods = [call.steps for call in self.stepwise if call.steps is not None]
        self.report: Reporter | None = None
        self.pace: list[Reporter] = []
        if saver is not None and saver.checkpoint.steps is not None:
            self.periods.append(saver.checkpoint.steps)
        if saver is not None and saver.checkpoint.seconds is not None:
            # Slices as short as for a report, so that the clock is read about every 0.1 s.
            self.pace.append(Reporter(lambda record: None))
        self.stop = resumed is not None and resumed.stopped

    def _with_offset(self, model: Model, job: Job) -> Job:
        """Return the job with the updates between the beginnings of optimizer and average."""
        kept, averaged = self.state is model.optimizer_state, self.average is model.average
        optimizer_began = model.optimizer_began if kept else model.updates
        average_began = model.average_began if averaged else model.updates
        offset = average_began - optimizer_began if job.settings.ema else 0
        if offset == job.settings.ema_offset:
            return job
        return replace(job, settings=replace(job.settings, ema_offset=offset))

    def run(self, first: int, last: int) -> None:
        """Train from epoch ``first``, counted over the network's life, to before ``last``.

        After an exception the model has its last finite state, the counters and the history agree
        with it, and Ctrl-C or SystemExit writes a checkpoint if training can resume from there.
        Before the first update, the model is unchanged.
        """
        model, job = self.model, self.job
        before, updates = model.settings(), model.updates
        # The user may have replaced the history or the number of epochs.
        surplus = len(model.history) - model.epochs
        try:
            try:
                model.set_writeable(False)
                model.begin(
                    *(job.task, job.pixels, job.settings.optimizer, self.state, job.columns),
                    (job.input_standard, job.target_standard),
                    self.average,
                )
                self._begin(first, last)
                self._train_epochs(last)
            except BaseException as error:
                self._recover(error)
                raise
            finally:
                self._end(surplus)
        except BaseException:
            if model.updates == updates:
                model.replace(**before)
            # Ctrl-C can interrupt the first call, also after the last epoch.
            self._end(surplus)
            raise
        if model.updates == updates:
            # Without an update there is no other average, and none is dropped.
            model.replace(average=before["average"], average_began=before["average_began"])
            model.set_writeable(True)
        for call in self.calls:
            call.on_fit_end(self.owner)

    def _end(self, surplus: int) -> None:
        """Give the model back to the user, whose history had ``surplus`` more records than epochs.

        Calling it again changes nothing.
        """
        # Drop epochs recorded before the divergence was noticed.
        self.model.history.cut(self.model.epochs + surplus)
        self.model.set_writeable(True)
        report, self.report = self.report, None
        if report is not None:
            report.close()

    def _begin(self, first: int, last: int) -> None:
        for call in self.calls:
            # Callbacks with a state got it back when the checkpoint was read.
            if self.resumed is None or not has_state(call):
                call.on_fit_begin(self.owner)
        # After the callbacks, so that the progress is shown below the text that they print.
        self.report = reporter(self.job.progress, first, last)
        if self.report is not None:
            self.pace.append(self.report)

    def _recover(self, error: BaseException) -> None:
        """Leave a usable model after an exception, and a checkpoint after Ctrl-C."""
        current = self.guard.recover()
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        if current and interrupted and self.stepper.resumable:
            self._write(self.stepper.position)

    # --- Epochs ---------------------------------------------------------------------------------

    def _train_epochs(self, last: int) -> None:
        model, stepper = self.model, self.stepper
        # A run stopped by a callback after the last step of an epoch still has to end that epoch.
        while model.epochs < last and (not self.stop or stepper.position.step == stepper.steps):
            record = self._train_epoch()
            if record is None:
                break
            self._end_epoch(record, last)
        self.guard.check()
        resumed = self.resumed
        unchanged = resumed is not None and resumed.ended and resumed.model.updates == model.updates
        if self.saver is not None and not unchanged:
            self._write(Position(), ended=True)

    def _train_epoch(self) -> Record | None:
        """Train an epoch; return None if a callback stopped training before its end."""
        stepper = self.stepper
        rates = self.job.rates.of(self.model.epochs, stepper.steps, self.model.history)
        stepper.begin_epoch()
        while stepper.position.step < stepper.steps and not self.stop:
            self._train_slice(rates)
        if stepper.position.step < stepper.steps:
            return None
        record = self._record(rates)
        if self.reported is not None:
            self.guard.write_back()
            record = self.reported.complete(record)
        return self._measure(self._validate(record))

    def _validate(self, record: Record) -> Record:
        """Add loss and accuracy on the validation rows."""
        if self.job.held is None or self.reported is not None:
            return record
        if stream_of(self.job.held.x)[0] is None:
            loss, right, weight = self.stepper.trainer.evaluate(*self.job.held)
        else:
            self.guard.write_back()
            loss, right, weight = self.engine.evaluate(self.model.evaluated, *self.job.held)
        return record._replace(
            validation_loss=self.job.validation_factor * loss / weight,
            validation_accuracy=share(right, weight),
        )

    def _measure(self, record: Record) -> Record:
        """Add the metrics, of the parameters after the last step."""
        if self.job.measured is None:
            return record
        self.guard.write_back()
        model, engine = self.model, self.engine
        readable = model.architecture.loss_function.measured
        return record._replace(
            metrics=self.job.measured.values(lambda x: readable(outputs(model, engine, x)))
        )

    def _end_epoch(self, record: Record, last: int) -> None:
        """Count an epoch, call the callbacks, show progress and write a checkpoint if due."""
        model, stepper = self.model, self.stepper
        stepper.resumable = False
        model.history.append(record)
        model.epochs += 1
        stepper.position = Position()
        self.guard.check_if_due()
        if self.calls:
            self.guard.write_back()
            for call in self.calls:
                self.stop |= stops(call.on_epoch_end(self.owner, record))
        stepper.resumable = True
        if self.report is not None:
            self.report.show(record)
        if model.epochs < last and not self.stop:
            self._save_if_due(True)

    # --- Slices of an epoch -----------------------------------------------------------------------

    def _train_slice(self, rates: Array) -> None:
        """Train until the next event, and handle it; ``rates`` (steps,) are of the whole epoch."""
        stepper = self.stepper
        count = self._slice_length()
        stepper.resumable, updates = False, self.model.updates
        try:
            seconds = stepper.train(rates, count)
        except BaseException:
            stepper.count()
            missed = self.model.updates == updates + count and self._due()
            stepper.resumable = not missed
            raise
        calls = self._due()
        stepper.resumable = not (calls or stepper.trainer.diverged)
        if stepper.trainer.diverged:
            self.guard.raise_divergence()
        in_epoch = stepper.position.step < stepper.steps
        if in_epoch:
            self.guard.check_if_due()
        for pace in self.pace:
            pace.measure(count, seconds)
        if self.report is not None and in_epoch and self.report.is_due():
            self.report.show(self._record(rates))
        if calls:
            self.guard.write_back()
            for call in calls:
                self.stop |= stops(call.on_steps(self.owner, self._record(rates)))
        stepper.resumable = True
        if in_epoch and not self.stop:
            self._save_if_due(False)

    def _slice_length(self) -> int:
        """Return the steps until a callback, a checkpoint, a report or reading ahead is due."""
        stepper = self.stepper
        left = stepper.steps - stepper.position.step
        count = until_due(self.model.updates, self.periods, left)
        for pace in self.pace:
            count = min(count, pace.slice or count)
        if stepper.blocks is not None:
            count = min(count, stepper.read_ahead())
        return count

    def _due(self) -> list[Callback]:
        return due(self.stepwise, self.model.updates)

    def _record(self, rates: Array) -> Record:
        stepper = self.stepper
        counted = self.model.epochs, rates, stepper.rows, stepper.batch_size
        record = stepper.position.record(*counted)
        return record if self.reported is None else self.reported.converted(record)

    # --- Checkpoints ------------------------------------------------------------------------------

    def _save_if_due(self, whole_epoch: bool) -> None:
        if self.saver is not None and self.saver.is_due(self.model, whole_epoch):
            self.guard.check()
            self._write(self.stepper.position)

    def _write(self, position: Position, ended: bool = False) -> None:
        if self.saver is not None:
            self.saver.write(self.model, position, self.calls, ended=ended, stopped=self.stop)
