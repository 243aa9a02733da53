"""One call of ``fit`` of an estimator."""

from __future__ import annotations

import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from ..backends.contract import Data, TrainerSettings
from ..training import rates as training_rates
from ..training.callbacks import EarlyStopping, as_callbacks, check_monitors, stops
from ..training.history import Record
from ..training.progress import reporter
from .core import _Core, _loss, _rows

Array = np.ndarray


class _Held(NamedTuple):
    """Rows to train on (X, y, sample_weight), and those to validate on or None."""

    training: tuple[Any, Array, Array | None]
    X: Any
    y: Array | None
    sample_weight: Array | None


class _Run:
    """One call of ``fit`` or ``partial_fit`` at work."""

    def __init__(
        self,
        owner: Any,
        core: _Core,
        X: Any,
        y: Array,
        sample_weight: Array | None,
        held: _Held,
    ) -> None:
        self.owner, self.core, self.held = owner, core, held
        self.rows = n = X.shape[0]
        self.order = np.arange(n)
        self.sample_weight = sample_weight
        self.no_loss = owner._has_no_loss(y)
        self.has_zeros = sample_weight is not None and bool((sample_weight == 0).any())
        if owner.batch_size == "auto":
            self.batch_size = min(200, n)
        else:
            if owner.batch_size > n:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than "
                    "sample size. It is going to be clipped",
                    stacklevel=2,
                )
            self.batch_size = int(np.clip(owner.batch_size, 1, n))
        self.steps = -(-n // self.batch_size)
        dtype = core.net.dtype
        self.y_held = None if held.y is None else owner._labels_of(held.y)
        dropped = any(core.net.dropout)
        self.trainer = core.engine.trainer(
            core.flat,
            owner._slots,
            Data(_rows(X, X.dtype), owner._targets(y, dtype), sample_weight),
            TrainerSettings(
                optimizer=owner._update_rule,
                batch_size=self.batch_size,
                l2=owner.alpha,
                seed=int(owner._random_state.randint(2**31 - 1)) if dropped else 0,
                shuffle=False,
                convention="sklearn",
            ),
        )
        self.calls = as_callbacks([] if owner.callbacks is None else owner.callbacks)
        for call in self.calls:
            monitor = call.monitor if isinstance(call, EarlyStopping) else ""
            if monitor.startswith("validation") and held.y is None:
                raise ValueError(
                    f"callbacks: found EarlyStopping on {monitor!r} but no validation data, "
                    "expected validation_data or early_stopping=True"
                )
        check_monitors(self.calls, True, is_classifier(owner))
        self.report: Any = None
        self.stop = False

    # --- Between epochs -------------------------------------------------------------------------

    def epochs(self, count: int, incremental: bool) -> None:
        owner = self.owner
        if self.held.y is not None and owner.validation_loss_curve_ is None:
            owner.validation_loss_curve_ = []
            if not owner.early_stopping:
                owner.validation_scores_, owner.best_validation_score_ = [], -np.inf
        schedule = None
        if owner.schedule is not None:
            schedule = training_rates.Rates(
                owner.schedule, 1.0, owner._epochs, owner._epochs + count
            )
        self.report = reporter(owner.progress, owner._epochs, owner._epochs + count)
        for call in self.calls:
            call.on_fit_begin(owner)
        owner.n_iter_ = 0
        for _ in range(count):
            self.shuffle()
            rates = np.full(self.steps, float(owner._optimizer.learning_rate_init))
            if isinstance(owner._optimizer, SGDOptimizer):
                rates[:] = owner._optimizer.learning_rate
            if schedule is not None:
                rates *= schedule.of(owner._epochs, self.steps)
            record = self.epoch(rates)
            if record is None:
                break
            owner.n_iter_ += 1
            owner._epochs += 1
            owner.loss_ = np.float64(record.loss)
            owner.t_ += self.rows
            owner.loss_curve_.append(owner.loss_)
            if owner.verbose:
                print(f"Iteration {owner.n_iter_}, loss = {owner.loss_:.8f}")
            record = self.judge(record)
            owner.history_.append(record)
            if self.report is not None:
                self.report.show(record)
            for call in self.calls:
                self.stop |= stops(call.on_epoch_end(owner, record))
            if self.no_longer_improves() or incremental or self.stop:
                break
            if owner.n_iter_ == owner.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({owner.max_iter}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )

    def shuffle(self) -> None:
        """Order the rows as scikit-learn's ``shuffle`` of their numbers does, draw for draw."""
        owner = self.owner
        if owner.shuffle:
            places = np.arange(self.rows)
            owner._random_state.shuffle(places)
            self.order = self.order[places]
            self.trainer.order(self.order)
        if self.has_zeros:
            assert self.sample_weight is not None
            starts = np.arange(0, self.rows, self.batch_size)
            if (np.add.reduceat(self.sample_weight[self.order], starts) == 0).any():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")

    def epoch(self, rates: Array) -> Record | None:
        """Train an epoch; None if a callback stopped it before its end."""
        owner, trainer = self.owner, self.trainer
        stepwise = [c for c in self.calls if c.steps is not None]
        first, loss, right, seconds = 0, 0.0, 0.0, 0.0

        def record() -> Record:
            n = min(first * self.batch_size, self.rows)
            return Record(
                epoch=owner._epochs + 1,
                loss=np.nan if self.no_loss else loss / n,
                accuracy=None if np.isnan(right) else right / n,
                learning_rate=float(rates[first - 1]),
                seconds=seconds,
                samples_per_second=n / max(seconds, 1e-9),
                step=first,
                steps=self.steps,
            )

        while first < self.steps and not self.stop:
            count = self.steps - first
            for call in stepwise:
                count = min(count, call.steps - owner._updates % call.steps)
            began = time.perf_counter()
            try:
                part = rates[first : first + count]
                loss, right = trainer.steps(owner._epochs, first, part, owner._updates)
            finally:
                owner._updates += trainer.done
            seconds += time.perf_counter() - began
            first += count
            due = [c for c in stepwise if owner._updates % c.steps == 0]
            if due:
                trainer.store()
                for call in due:
                    self.stop |= stops(call.on_steps(owner, record()))
        return record() if first == self.steps else None

    def judge(self, record: Record) -> Record:
        """Measure what decides on stopping, on the rows held out if there are any."""
        owner, held = self.owner, self.held
        if self.calls or held.y is not None:
            self.trainer.store()
        if held.y is None:
            owner._update_no_improvement_count(False, None, None, None)
            return record
        out = owner._outputs(held.X, check_input=False)
        loss = _loss(owner, held.y, out, held.sample_weight)
        owner.validation_loss_curve_.append(loss)
        self.scored = owner._score_outputs(self.y_held, out, held.sample_weight)
        # Their rules ask ``_score``, which answers with this.
        if owner.early_stopping:
            owner._scored = self.scored
            try:
                owner._update_no_improvement_count(True, held.X, held.y, held.sample_weight)
            finally:
                del owner._scored
        else:
            owner._update_no_improvement_count(False, None, None, None)
            owner.validation_scores_.append(self.scored)
            owner.best_validation_score_ = max(owner.best_validation_score_, self.scored)
        accuracy = self.scored if is_classifier(owner) else None
        return record._replace(validation_loss=loss, validation_accuracy=accuracy)

    def no_longer_improves(self) -> bool:
        owner = self.owner
        optimizer = owner._optimizer
        optimizer.iteration_ends(owner.t_)
        if owner._no_improvement_count <= owner.n_iter_no_change:
            return False
        what = "Validation score" if owner.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={owner.tol:f} for "
            f"{owner.n_iter_no_change} consecutive epochs."
        )
        if optimizer.trigger_stopping(message, owner.verbose):
            return True
        owner._no_improvement_count = 0
        return False

    def end(self) -> None:
        """Leave the estimator with the last whole update, whatever happened."""
        self.trainer.store()
        if isinstance(self.owner._optimizer, AdamOptimizer):
            self.owner._optimizer.t = self.owner._updates
        if self.report is not None:
            self.report.close()

    def after(self) -> None:
        """What callbacks do when training has come to its end."""
        for call in self.calls:
            call.on_fit_end(self.owner)
