"""Training with L-BFGS on all rows at once: SciPy minimises the objective of a backend.

SciPy calls back after each iteration, which ``LbfgsLoop`` counts as an epoch of one step: it trains
with a trainer whose step takes the parameters of the iteration. The order of events and the state
after an exception are therefore those of ``Loop``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays.vectors import aligned, finite
from ..backends import choose
from ..backends.contract import Data, Engine, ObjectiveSettings, Sums, TrainerSettings
from ..spec.caller import warn_caller
from ..spec.optimizers import LBFGS
from .divergence import DivergenceError
from .job import Arguments, Job
from .loop import Loop
from .model import Model
from .rates import Rates

Array = np.ndarray
Objective = Callable[[Array], tuple[float, Array]]

LEARNING_RATE, BATCH_SIZE = 1e-3, 64
"""The defaults of ``fit``, which stand for arguments that were not given."""
CALLS = 2**31 - 1
"""Most evaluations of the objective, in SciPy's type: only the iterations are limited."""


def float64_objective(engine: Engine, data: Data, settings: ObjectiveSettings) -> Objective:
    """Return the function of flat float64 parameters that L-BFGS minimises, with its gradient.

    SciPy's L-BFGS-B computes in float64 for every dtype of the data, and its line search compares
    losses that differ by little: ``engine`` computes a float64 architecture, and targets are
    converted to float64.
    """
    if data.y.dtype.kind == "f":
        data = data._replace(y=np.ascontiguousarray(data.y, np.float64))
    return engine.objective(data, settings)


def adapted(job: Job, model: Model, given: Arguments) -> Job:
    """Return a job with the settings of full-batch iterations, or raise.

    ``given`` are the arguments of ``fit`` that ``job`` was made from.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    ValueError
        If an argument or the network has what the line search cannot work with.
    """
    net = model.architecture
    excluded = {
        "dropout": any(net.dropout) or net.input_dropout > 0,
        "noise": net.noisy,
        "ema": job.settings.ema > 0,
        "batch norm": bool(net.batch_layers),
        "precision='bf16'": net.precision != "full",
        "a schedule": job.rates.scheduled,
        "learning_rate": given.learning_rate != LEARNING_RATE,
        "batch_size": given.batch_size not in (None, "full", BATCH_SIZE),
        "layer_rates": given.layer_rates is not None,
        "groups": bool(job.settings.groups),
        "a convention": job.settings.convention != "pynn",
        "l1": job.settings.l1 > 0,
        "clip_norm": job.settings.clip_norm > 0,
        "max_norm": job.settings.max_norm > 0,
        "a checkpoint": job.checkpoint is not None,
        "shuffle='blocks'": job.blocks is not None,
        "profile": model.profile is not None,
    }
    found = [name for name, used in excluded.items() if used]
    if found:
        raise ValueError(
            f"optimizer: found 'lbfgs' with {' and '.join(found)}, expected none of "
            f"{', '.join(excluded)}: each iteration searches the step length on the exact loss of "
            "all rows, and SciPy's memory of earlier iterations cannot be saved"
        )
    _minimize()
    settings = replace(job.settings, batch_size=len(job.data.x), shuffle=False)
    rates = Rates(None, 0.0, model.epochs, model.epochs + job.epochs)
    return replace(job, settings=settings, rates=rates)


def _minimize() -> Callable[..., Any]:
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ImportError(
            f"optimizer: found 'lbfgs' and no SciPy ({error}), expected it to be installed: "
            "pip install 'pynn-mlp[scipy]'"
        ) from None
    return minimize


class _Stopped(Exception):
    """Ends SciPy's minimisation when a callback stops training."""


class _Engine:
    """An engine whose trainer takes iterations; everything else is that of a backend."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def trainer(
        self, parameters: Array, state: list[Array], data: Data, settings: TrainerSettings
    ) -> Any:
        return _Trainer(self._engine, parameters, data)


class _Trainer:
    """A ``contract.Trainer`` of one step per epoch, which takes the parameters in ``next``.

    Attributes
    ----------
    next : ndarray (n_parameters,), float64
        The parameters after SciPy's last iteration.
    """

    stored_is_finite, works_on_copies, diverged = False, True, False

    def __init__(self, engine: Engine, parameters: Array, data: Data) -> None:
        self._engine, self._parameters, self._data = engine, parameters, data
        self._present = parameters.copy()
        self.next = self._present
        self.done, self.sums = 0, Sums(0.0, 0.0, 0.0)

    def steps(self, epoch: int, first: int, rates: Array, updates: int) -> Sums:
        new = aligned(len(self._parameters), self._parameters.dtype)
        with np.errstate(over="ignore"):
            new[...] = self.next
        sums = self._engine.evaluate(new, *self._data)
        if not (finite(new) and math.isfinite(sums.loss)):
            raise divergence(epoch)
        # In one step, so that an interrupt cannot count an iteration without its parameters.
        self.__dict__.update(_present=new, done=1, sums=sums)
        return sums

    def evaluate(self, *rows: Any) -> Sums:
        return self._engine.evaluate(self._present, *rows)

    def would_store_finite(self) -> bool:
        return True  # ``steps`` takes no others

    def store(self) -> None:
        np.copyto(self._parameters, self._present)


def divergence(epoch: int) -> DivergenceError:
    """Return the error for iteration number ``epoch``, counted from 0."""
    return DivergenceError(
        f"fit: iteration {epoch + 1} of optimizer 'lbfgs' gave a loss or a gradient that is not "
        "finite; training has stopped and the network has the parameters after the iteration "
        "before; check the scale of x and y, and the initial weights",
        epoch + 1,
        1,
        None,
    )


class LbfgsLoop(Loop):
    """Trains the iterations of one call of ``fit``; the parameters are those of ``Loop``."""

    def __init__(self, owner: Any, model: Model, engine: Engine, job: Job) -> None:
        super().__init__(owner, model, _Engine(engine), job)
        net = model.architecture
        if net.dtype != "float64":
            net = replace(net, dtype="float64")
            engine = choose.create(engine.name, net, engine.threads)
        settings = ObjectiveSettings(l2=job.settings.l2)
        self._objective = float64_objective(engine, job.data, settings)
        self._trained = np.ones(net.n_parameters, bool)
        layers = net.layer_views(self._trained)
        for k in job.settings.frozen:
            layers[k][...] = False
        self._start = model.flat.astype(np.float64)
        self._last = 0
        self._began = 0.0

    def _train_epochs(self, last: int) -> None:
        self._last = last
        if self.model.epochs < last and not self.stop:
            self._minimise()
        self.guard.check()

    def _minimise(self) -> None:
        optimizer, model = self.job.settings.optimizer, self.model
        assert isinstance(optimizer, LBFGS)
        options = {
            "maxiter": self._last - model.epochs,
            "maxfun": CALLS,
            "maxcor": optimizer.memory,
            "gtol": optimizer.gradient_tolerance,
            "ftol": optimizer.loss_tolerance,
        }
        self._began = time.perf_counter()
        try:
            result = _minimize()(
                *(self._loss_and_gradient, self._start[self._trained]),
                method="L-BFGS-B",
                jac=True,
                options=options,
                callback=self._end_iteration,
            )
        except _Stopped:
            return
        if result.status == 2:
            warn_caller(
                f"fit: optimizer 'lbfgs' found no lower loss along its last direction and stopped "
                f"after {result.nit} iterations (SciPy: {result.message})"
            )

    def _loss_and_gradient(self, parameters: Array) -> tuple[float, Array]:
        loss, gradient = self._objective(self._complete(parameters))
        gradient = gradient[self._trained]
        if not (math.isfinite(loss) and finite(gradient)):
            raise divergence(self.model.epochs)
        return loss, gradient

    def _complete(self, parameters: Array) -> Array:
        """Return all parameters, given those of the layers that are not frozen."""
        flat = self._start.copy()
        flat[self._trained] = parameters
        return flat

    def _end_iteration(self, parameters: Array) -> None:
        """Count an iteration as an epoch, with everything that happens at the end of one."""
        seconds = time.perf_counter() - self._began
        trainer: Any = self.stepper.trainer
        trainer.next = self._complete(parameters)
        record = self._train_epoch()
        assert record is not None  # an epoch of one step ends, whatever callbacks say
        seconds += record.seconds
        record = record._replace(
            seconds=seconds, samples_per_second=self.stepper.rows / max(seconds, 1e-9)
        )
        self._end_epoch(record, self._last)
        if self.stop:
            raise _Stopped
        self._began = time.perf_counter()
