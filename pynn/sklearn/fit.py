"""One call of ``fit`` or ``partial_fit`` with ``solver="sgd"`` or ``"adam"``.

pynn trains the epochs. Shuffles, learning rates, scores and the decision to stop follow the rules
of scikit-learn's ``_fit_stochastic``, in part by calling its methods.
"""

from __future__ import annotations

from numbers import Real
from operator import is_not
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils import compute_sample_weight

from ..backends.contract import Data, TrainerSettings
from ..backends.losses import TERM
from ..checks.weights import as_mapping
from ..training.callbacks import as_callbacks, check_monitors, stops
from ..training.history import Record
from ..training.progress import Reporter, reporter
from ..training.rates import Rates
from ..training.slices import Position, due, train_slice, until_due
from .core import Core, as_rows, as_weights, warn
from .tasks import Tasks

Array = np.ndarray


class TrainingRows(NamedTuple):
    """Rows to train on, and rows to validate on or None. Targets are (n, n_outputs)."""

    X: Any
    y: Array
    sample_weight: Array | None
    X_held: Any = None
    y_held: Array | None = None
    weight_held: Array | None = None


class Fit:
    """Trains an estimator.

    Parameters
    ----------
    owner : Perceptron
        The estimator, whose fitted attributes are updated after every epoch.
    core : Core
        Its engine and parameter vector.
    rows : TrainingRows
        The data.
    epochs : int
        Epochs to train at most.
    """

    def __init__(self, owner: Any, core: Core, rows: TrainingRows, epochs: int) -> None:
        self.owner, self.core, self.held = owner, core, rows
        self.tasks: Tasks = owner._tasks
        self.rows = rows.X.shape[0]
        self.row_order = np.arange(self.rows)
        self.sample_weight = as_weights(rows.sample_weight)
        self.loss_is_nan = owner._loss_is_nan(rows.y)
        self.batch_size = _batch_size(owner.batch_size, self.rows)
        self.steps = -(-self.rows // self.batch_size)
        self.labels_held = None if rows.y_held is None else owner._labels_of(rows.y_held)
        dropped = any(core.net.dropout)
        self.trainer = core.engine.trainer(
            core.flat,
            owner._slots,
            Data(
                as_rows(rows.X, rows.X.dtype),
                owner._targets(rows.y, core.net.dtype),
                self.sample_weight,
            ),
            TrainerSettings(
                optimizer=owner._update_rule,
                batch_size=self.batch_size,
                l2=owner.alpha,
                seed=int(owner._random_state.randint(2**31 - 1)) if dropped else 0,
                shuffle=False,
                convention="sklearn",
                epochs=epochs if owner.shuffle else 1,
            ),
        )
        self.calls = as_callbacks([] if owner.callbacks is None else owner.callbacks)
        check_monitors(
            self.calls,
            rows.y_held is not None,
            is_classifier(owner),
            source="validation_data or early_stopping=True",
        )
        self.stepwise = [call for call in self.calls if call.steps is not None]
        self.periods = [call.steps for call in self.stepwise if call.steps is not None]
        self.report: Reporter | None = None
        self.stop = False
        self._slice_began: int | None = None  # updates before the slice in training

    def epochs(self, count: int, incremental: bool) -> None:
        """Train at most ``count`` epochs; ``incremental`` is that of ``partial_fit``."""
        owner = self.owner
        schedule = self._begin(count)
        for _ in range(count):
            self.tasks.begin()
            self._shuffle()
            record = self._train_epoch(self._rates(schedule))
            if record is None:
                break
            self._end_epoch(record)
            if self._no_longer_improves() or incremental or self.stop:
                break
            if owner.n_iter_ == owner.max_iter:
                warn(
                    f"Stochastic Optimizer: Maximum iterations ({owner.max_iter}) "
                    "reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                )

    def end(self) -> None:
        """Write the parameters after the last complete update, also after an exception.

        Calling it again changes nothing.
        """
        self._count()
        self._store()
        self.core.set_writeable(True)
        report, self.report = self.report, None
        if report is not None:
            report.close()

    def call_on_fit_end(self) -> None:
        """Call ``on_fit_end`` of the callbacks."""
        for call in self.calls:
            call.on_fit_end(self.owner)

    # --- Epochs ---------------------------------------------------------------------------------

    def _begin(self, count: int) -> Rates | None:
        """Prepare the estimator's attributes; return the schedule if there is one."""
        owner = self.owner
        # The trainer has read the parameters: values that a callback writes would be lost.
        self.core.set_writeable(False)
        _complete_state(owner)
        if self.held.y_held is not None and owner.validation_loss_curve_ is None:
            owner.validation_loss_curve_ = []
            if not owner.early_stopping:
                owner.validation_scores_, owner.best_validation_score_ = [], -np.inf
        first, last = owner._epochs, owner._epochs + count
        schedule = None if owner.schedule is None else Rates(owner.schedule, 1.0, first, last)
        self.report = reporter(owner.progress, first, last)
        for call in self.calls:
            call.on_fit_begin(owner)
        owner.n_iter_ = 0
        return schedule

    def _shuffle(self) -> None:
        """Order the rows as scikit-learn's ``shuffle`` of their indices, with the same draws."""
        owner = self.owner
        if owner.shuffle:
            permutation = np.arange(self.rows)
            owner._random_state.shuffle(permutation)
            self.row_order = self.row_order[permutation]
            self.trainer.order(self.row_order)
        if self.sample_weight is not None and (self.sample_weight == 0).any():
            starts = np.arange(0, self.rows, self.batch_size)
            if (np.add.reduceat(self.sample_weight[self.row_order], starts) == 0).any():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")

    def _rates(self, schedule: Rates | None) -> Array:
        """Return the learning rates of the epoch's steps (steps,)."""
        owner, optimizer = self.owner, self.owner._optimizer
        sgd = isinstance(optimizer, SGDOptimizer)
        rate = optimizer.learning_rate if sgd else optimizer.learning_rate_init
        rates = np.full(self.steps, float(rate))
        return rates if schedule is None else rates * schedule.of(owner._epochs, self.steps)

    def _train_epoch(self, rates: Array) -> Record | None:
        """Train an epoch; return None if a callback stopped training before its end."""
        owner, trainer = self.owner, self.trainer
        position = Position()
        while position.step < self.steps and not self.stop:
            count = until_due(owner._updates, self.periods, self.steps - position.step)
            trainer.done = 0  # an interrupt before the first step must not count earlier ones
            self._slice_began = owner._updates
            try:
                position = train_slice(
                    trainer, owner._epochs, position, rates, count, owner._updates
                )
            finally:
                self._count()
            calls = due(self.stepwise, owner._updates)
            if calls:
                self._store()
                record = self._record(position, rates)
                for call in calls:
                    self.stop |= stops(call.on_steps(owner, record))
                self._check_parameters()
        return self._record(position, rates) if position.step == self.steps else None

    def _count(self) -> None:
        """Count the completed steps of a slice; calling it again changes nothing."""
        if self._slice_began is None:
            return
        updates = self._slice_began + self.trainer.done
        trained = self.owner._trained or self.trainer.done > 0
        vars(self.owner).update(_updates=updates, _trained=trained)
        self._slice_began = None

    def _store(self) -> None:
        """Write parameters and optimizer state to the estimator."""
        self.trainer.store()
        if isinstance(self.owner._optimizer, AdamOptimizer):
            self.owner._optimizer.t = self.owner._updates

    def _check_parameters(self) -> None:
        """Raise if a callback assigned other arrays, which training would not use."""
        arrays = (*self.owner.coefs_, *self.owner.intercepts_)
        if len(arrays) != len(self.core.views) or any(map(is_not, arrays, self.core.views)):
            raise ValueError(
                "callbacks: found other coefs_ or intercepts_ than before the call, expected "
                "callbacks that do not assign them; assign estimator.parameters in on_fit_end"
            )

    def _record(self, position: Position, rates: Array) -> Record:
        record = position.record(self.owner._epochs, rates, self.rows, self.batch_size)
        return record._replace(loss=np.nan) if self.loss_is_nan else record

    def _end_epoch(self, record: Record) -> None:
        """Update the estimator's attributes, validate, show progress and call the callbacks."""
        owner = self.owner
        self._count_epoch(record)
        if owner.verbose:
            print(f"Iteration {owner.n_iter_}, loss = {owner.loss_:.8f}")
        record = self._validate(record)
        owner._optimizer.iteration_ends(owner.t_)
        if self.report is not None:
            self.report.show(record)
        for call in self.calls:
            self.stop |= stops(call.on_epoch_end(owner, record))
        self.stop |= self.tasks.end()
        if self.calls or self.tasks.active:
            self._check_parameters()

    def _count_epoch(self, record: Record) -> None:
        """Add an epoch to counters and curves, or to none of them if that fails."""
        owner, loss = self.owner, np.float64(record.loss)
        curves: list[Any] = [owner.loss_curve_, owner.history_]
        values: list[Any] = [loss, record]
        if self.held.y_held is not None:
            # Replaced after the validation, which can be interrupted.
            curves.append(owner.validation_loss_curve_)
            values.append(np.nan)
        lengths = [len(curve) for curve in curves]
        names = "n_iter_", "_epochs", "loss_", "t_"
        before = {name: vars(owner)[name] for name in names if name in vars(owner)}
        after = owner.n_iter_ + 1, owner._epochs + 1, loss, owner.t_ + self.rows
        try:
            for curve, value in zip(curves, values, strict=True):
                curve.append(value)
            vars(owner).update(zip(names, after, strict=True))
        except BaseException:
            vars(owner).update(before)
            for curve, length in zip(curves, lengths, strict=True):
                del curve[length:]
            raise

    # --- Validation and stopping ----------------------------------------------------------------

    def _validate(self, record: Record) -> Record:
        """Measure loss and score of the validation rows, and count epochs without improvement."""
        owner, held = self.owner, self.held
        if self.calls or self.tasks.active or held.y_held is not None:
            self._store()
        if held.y_held is None:
            owner._update_no_improvement_count(False, None, None, None)
            return record
        out = owner._outputs(held.X_held, check_input=False)
        # The score first: scikit-learn's error for weights without a score is raised there.
        score = owner._score_outputs(self.labels_held, out, held.weight_held)
        loss = _loss(owner, held.y_held, out, held.weight_held)
        owner.validation_loss_curve_[-1] = loss
        accuracy = score if is_classifier(owner) else None
        record = record._replace(validation_loss=loss, validation_accuracy=accuracy)
        owner.history_.replace_last(record)
        if owner.early_stopping:
            # scikit-learn's method calls ``_score``, which returns ``_scored`` if it is set.
            owner._scored = score
            try:
                owner._update_no_improvement_count(True, held.X_held, held.y_held, held.weight_held)
            finally:
                del owner._scored
        else:
            owner._update_no_improvement_count(False, None, None, None)
            owner.validation_scores_.append(score)
            owner.best_validation_score_ = max(owner.best_validation_score_, score)
        return record

    def _no_longer_improves(self) -> bool:
        """Return whether to stop, after scikit-learn's rules have changed the learning rate."""
        owner = self.owner
        optimizer = owner._optimizer
        if owner._no_improvement_count <= owner.n_iter_no_change:
            return False
        measure = "Validation score" if owner.early_stopping else "Training loss"
        message = (
            f"{measure} did not improve more than tol={owner.tol:f} for "
            f"{owner.n_iter_no_change} consecutive epochs."
        )
        if optimizer.trigger_stopping(message, owner.verbose):
            return True
        owner._no_improvement_count = 0
        return False


def _complete_state(owner: Any) -> None:
    """Set the attributes of the stopping rules that the first fit did not need.

    scikit-learn sets them in the first fit, for its solver and ``early_stopping``. A further fit
    with other values fails in the middle there; here it continues.
    """
    state = vars(owner)
    if state.get("loss_curve_") is None:
        owner.loss_curve_, owner._no_improvement_count = [], 0
    for name in ("best_loss_", "validation_scores_", "best_validation_score_"):
        state.setdefault(name, None)
    if not owner.early_stopping:
        if owner.best_loss_ is None:
            owner.best_loss_ = np.inf
    elif owner.best_validation_score_ is None:
        owner.validation_scores_, owner.best_validation_score_ = [], -np.inf


def _batch_size(batch_size: Any, rows: int) -> int:
    """Return the number of rows per step, with scikit-learn's warning."""
    if batch_size == "auto":
        return min(200, rows)
    if batch_size > rows:
        warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
    return int(np.clip(batch_size, 1, rows))


def _loss(owner: Any, y: Array, out: Array, sample_weight: Array | None) -> float:
    """Return the loss of outputs (n, n_outputs) as in ``loss_curve_``, without the L2 term.

    It is NaN if all weights are zero.
    """
    if sample_weight is not None and not sample_weight.any():
        return float("nan")
    loss = owner._core_loss()
    if not isinstance(loss, str):
        rows = TERM[loss.name](loss, out, y)[0].sum(axis=1, dtype=np.float64)
        return float(np.average(rows, weights=sample_weight))
    name = owner.loss
    if name == "log_loss" and owner.out_activation_ == "logistic":
        name = "binary_log_loss"
    return float(LOSS_FUNCTIONS[name](y, out, sample_weight))


def weight_by_class(class_weight: Any, y: Any, sample_weight: Any, incremental: bool) -> Array:
    """Return the rows' weights: ``sample_weight`` times the weights of their classes."""
    if incremental and isinstance(class_weight, str):
        raise ValueError(
            f"class_weight: found {class_weight!r} in partial_fit, which gets only a part of the "
            "data, expected a dictionary from labels to weights"
        )
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.ravel()
    class_weight = as_mapping(class_weight)
    for given in class_weight if isinstance(class_weight, list) else [class_weight]:
        for label, weight in given.items() if isinstance(given, dict) else ():
            if not isinstance(weight, Real):
                raise ValueError(
                    f"class_weight[{label!r}]: found {weight!r}, expected a number of 0 or more"
                )
    weights = compute_sample_weight(class_weight, labels)
    if not (weights >= 0).all():
        raise ValueError(
            f"class_weight: found {class_weight!r}, expected a weight of 0 or more for each class"
        )
    return weights if sample_weight is None else weights * np.asarray(sample_weight, np.float64)
