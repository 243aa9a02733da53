"""``fit``: modules of PyTorch, trained by pynn's compiled core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..checks.targets import default_task, without_classes
from ..exports import chain as chains
from ..exports import pytorch
from ..exports.chain import Chain
from ..network import Network
from ..spec.arguments import BATCH_SIZE
from ..spec.optimizers import Optimizer, as_optimizer
from ..spec.schedules import Schedule
from ..training import fit as training
from ..training.callbacks import Callback, as_callbacks
from ..training.history import History, Record
from ..training.job import Arguments
from .batches import Reader
from .criteria import Criterion, criterion
from .link import Link, Plan, plan, slots_of, tensor_of
from .optimizers import Rule, rule

LEARNING_RATE = 1e-3
"""The default for optimizers of pynn, as of ``Network.fit``."""
NOT_OFFERED: dict[str, Any] = {
    "missing_targets": "error",
    "layer_rates": None,
    "l2": 0.0,
    "l1": 0.0,
    "max_norm": None,
    "ema": None,
    "training_metrics": False,
    "checkpoint": None,
    "resume": False,
}
"""Arguments of ``Network.fit`` that this ``fit`` does not have, with their defaults."""


def fit(
    module: nn.Module,
    x: Any,
    y: Any = None,
    *,
    optimizer: torch.optim.Optimizer | Optimizer | str = "adam",
    loss: Any,
    epochs: int = 10,
    batch_size: int | str | None = BATCH_SIZE,
    shuffle: bool = True,
    learning_rate: float | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    clip_norm: float | None = None,
    schedule: str | Schedule | Callable[[float], float] | None = None,
    validation: float | tuple[Any, ...] | Any = None,
    metrics: Any = None,
    stratify: bool = True,
    callbacks: Any = (),
    progress: bool | str | Callable[[Record], object] = "auto",
    seed: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> History:
    # The docstring is in docs/reference/torch.md too, since PyTorch is not installed there.
    """Train a module of PyTorch in place, on pynn's compiled core.

    The trained parameters, the running statistics of batch norms and the state of the optimizer are
    written back, so that PyTorch continues where this call ended. With equal initial weights and
    order of rows, and without dropout, the trajectory is that of a loop of PyTorch up to rounding.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of the layers that the reference page on PyTorch lists, nested too, float32 or float64 on
        the CPU. It is trained as in training mode, and keeps its own mode. Parameters stay as they
        are if they have ``requires_grad=False`` or are not in the groups of the optimizer.
    x : tensor or array (n, …), DataLoader, Dataset or iterable of batches
        Rows of numbers; uint8 are values, never pixels. Or batches ``(x, y)`` or ``(x, y,
        sample_weight)`` of an object that can be iterated again, such as a ``DataLoader``, which is
        read once for each epoch and once before.
    y : tensor or array, optional
        Targets as the loss takes them: class indices (n,) as integers or probabilities (n, classes)
        for ``nn.CrossEntropyLoss``, floats (n, outputs), or (n,) for one output, for others. None
        if x has them.
    optimizer : torch.optim.Optimizer, Optimizer or str
        An optimizer of PyTorch with parameters of this module, its groups and its state; or one of
        pynn, with ``learning_rate``, which begins without a state in each call.
    loss : torch.nn.Module
        One of the losses that the reference page on PyTorch lists, or its function in
        ``torch.nn.functional``.
    epochs, batch_size, shuffle, sample_weight, class_weight, metrics, stratify, progress
        As of :meth:`pynn.Network.fit`. Loaders keep their order, and their batches unless
        ``batch_size`` is given.
    learning_rate : float, optional
        Only for optimizers of pynn; None: 0.001.
    clip_norm : float, optional
        As ``clip_grad_norm_`` of the trained parameters with this limit before each step. Each
        layer must then have all of its parameters in the optimizer, or none.
    schedule : str, Schedule or function, optional
        As of :meth:`pynn.Network.fit`: a factor on all learning rates. For schedulers of PyTorch,
        call ``fit(…, epochs=1)`` and ``scheduler.step()`` in turn.
    validation : (x, y), (x, y, sample_weight), loader or float, optional
        As of :meth:`pynn.Network.fit`.
    callbacks : function, Callback or list of them
        As of :meth:`pynn.Network.fit`. They receive a network with the same parameters; the module
        is written before each call. They may not change its parameters before the last epoch ends.
    seed : int, optional
        Key of shuffling, dropout and held-out rows; None draws it from PyTorch's generator.
    backend, threads
        As for :class:`pynn.Network`.

    Returns
    -------
    History
        One record for each epoch.

    Raises
    ------
    TypeError, ValueError
        If the module, the loss, the optimizer or another argument is not one of those above; the
        module is unchanged then.
    DivergenceError
        If a loss or a weight is no longer finite. The module has the parameters before that step.

    Notes
    -----
    After Ctrl-C or an exception in a callback, module and optimizer have the values of the last
    complete update. The losses in records are those of PyTorch, except for constants: half the
    deviance for ``nn.PoissonNLLLoss``, and without ½·log 2π for ``nn.GaussianNLLLoss``. Losses of
    validation rows are without label smoothing.

    Examples
    --------
    >>> optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)  # doctest: +SKIP
    >>> pynn.torch.fit(  # doctest: +SKIP
    ...     module, x, y, optimizer=optimizer, loss=nn.CrossEntropyLoss(), epochs=5, batch_size=64
    ... )
    """
    chain = pytorch.read(module, training=True)
    target = criterion(loss, chain)
    _check_class_weight(target, class_weight)
    found = _rule(optimizer, learning_rate)
    reader = Reader(chain, target)
    options = (batch_size, shuffle)
    rows = reader.rows(x, y, sample_weight, ("x", "y", "sample_weight"), options)
    held = _validation(reader, validation)
    shuffles = shuffle is not False and not rows.are_batches
    random = shuffles or held.share or _drops(chain)
    net = _network(chain, target, _seed(seed, random), backend, threads)
    planned = plan(chain, net._model, module, found.rule, found.optimizer)
    _check_schedule(found, schedule)
    if clip_norm is not None:
        _check_clipping(chain, net, planned)
    net.freeze(planned.frozen)
    link = Link(chain, net._model, planned, found.rule)
    given = Arguments(
        **NOT_OFFERED,
        x=rows.x,
        y=rows.y,
        sample_weight=rows.weight,
        class_weight=class_weight,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=found.optimizer,
        learning_rate=found.rate if planned.rate is None else planned.rate,
        clip_norm=clip_norm,
        label_smoothing=target.smoothing,
        schedule=_schedule(schedule, found, link.began),
        validation=held.rows,
        metrics=metrics,
        stratify=stratify,
        shuffle=False if rows.are_batches else shuffle,
        callbacks=_synchronised(callbacks, link, epochs),
        progress=progress,
        groups=planned.groups,
        # Constant weights of the rows are factors on the loss then.
        convention="keras" if target.factor != 1 else "pynn",
        validation_factor=target.factor,
    )
    try:
        return training.fit(net, net._model, net._engine, net._lock, given)
    finally:
        link.write()


def _check_class_weight(target: Criterion, class_weight: Any) -> None:
    if target.factor != 1 and class_weight is not None:
        raise ValueError(
            f"class_weight: found {class_weight!r} with {target.found}, which is "
            f"{target.factor:g} times a mean of pynn, expected None"
        )


@dataclass(frozen=True)
class _Optimizer:
    """The optimizer of a call: that of pynn, and how it follows one of PyTorch."""

    optimizer: Optimizer
    rate: float
    rule: Rule | None = None


def _rule(optimizer: Any, learning_rate: Any) -> _Optimizer:
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        name = optimizer.__name__
        raise TypeError(
            f"optimizer: found the class {name}, expected an object: "
            f"torch.optim.{name}(module.parameters())"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        rate = LEARNING_RATE if learning_rate is None else learning_rate
        return _Optimizer(as_optimizer(optimizer), rate)
    if learning_rate is not None:
        raise ValueError(
            f"learning_rate: found {learning_rate!r} with an optimizer of PyTorch, expected None, "
            "since its parameter groups have lr"
        )
    found = rule(optimizer)
    return _Optimizer(found.optimizer, LEARNING_RATE, found)


def _check_schedule(found: _Optimizer, schedule: Any) -> None:
    """Raise if a schedule would not follow PyTorch."""
    if isinstance(schedule, torch.optim.lr_scheduler.LRScheduler):
        raise TypeError(
            f"schedule: found {type(schedule).__name__} of PyTorch, expected one of pynn; or call "
            "fit(…, epochs=1) and scheduler.step() in turn"
        )
    if schedule is None or found.rule is None:
        return
    if found.rule.in_rate or found.rule.rate_decay:
        reason = "momentum" if found.rule.in_rate else "lr_decay"
        raise ValueError(
            f"schedule: found {schedule!r} with {reason} of an optimizer of PyTorch, expected "
            "None: call fit(…, epochs=1) for each learning rate, or take an optimizer of pynn"
        )


def _check_clipping(chain: Chain, net: Network, planned: Plan) -> None:
    """Raise ValueError if the gradient has parts that PyTorch's gradient does not have."""
    for layer in slots_of(chain, net._model, net._model.flat):
        for slot in layer:
            kept = slot.array is None or id(tensor_of(slot)) not in planned.trained
            if slot.layer in planned.frozen or not kept:
                continue
            if slot.name == "biases" and net.architecture.subtracts_bias(slot.layer):
                continue  # their gradient is 0
            found = f"no {slot.name}" if slot.array is None else f"{slot.name} that are not trained"
            raise ValueError(
                f"clip_norm: found a limit with {slot.place} with {found}, expected None, since "
                "their gradient would count, or a layer of which all parameters are trained or none"
            )


def _network(
    chain: Chain, target: Criterion, seed: int, backend: str, threads: int | None
) -> Network:
    """Return the network that trains a module."""
    net: Network = chains.network(
        *(Network, chain, target.loss),
        output=target.output,
        seed=seed,
        backend=backend,
        threads=threads,
    )
    a = net.architecture
    several = a.regression or (a.independent and a.n_out > 1)
    net._model.task = without_classes(a) if several else default_task(a)
    return net


def _drops(chain: Chain) -> bool:
    """Return whether a chain has dropout."""
    return bool(chain.drops) or any(layer.drops for layer in chain.layers)


def _seed(seed: int | None, random: bool) -> int:
    """Return the seed that is given; otherwise one of PyTorch's generator if it has any effect."""
    if seed is not None:
        return seed
    return int(torch.randint(2**62, (), device="cpu")) if random else 0


@dataclass(frozen=True)
class _Held:
    """The argument ``validation``, and whether it is a share of the rows."""

    rows: Any
    share: bool = False


def _validation(reader: Reader, validation: Any) -> _Held:
    """Return validation rows as arrays or batches; shares and wrong values as they are."""
    if validation is None or isinstance(validation, (bool, str)):
        return _Held(validation)
    if isinstance(validation, (int, float, np.number)):
        return _Held(validation, share=True)
    names = ("validation[0]", "validation[1]", "validation[2]")
    if isinstance(validation, (tuple, list)) and not _are_batches(validation):
        if len(validation) not in (2, 3):
            return _Held(validation)  # refused by the checks of all calls of fit
        x, y, weight = (*validation, None)[:3]
        rows = reader.rows(x, y, weight, names, (BATCH_SIZE, False))
        return _Held((rows.x, rows.y) if rows.weight is None else tuple(rows))
    rows = reader.rows(validation, None, None, ("validation", *names[1:]), (BATCH_SIZE, False))
    return _Held(rows.x if rows.are_batches else tuple(r for r in rows if r is not None))


def _are_batches(validation: Any) -> bool:
    """Return whether these are batches (x, y), not rows and targets, which may be lists too."""
    first = validation[0] if len(validation) else None
    if not isinstance(first, (tuple, list)):
        return False
    return isinstance(validation, list) or (len(first) > 0 and hasattr(first[0], "shape"))


@dataclass(frozen=True)
class _RateDecay(Schedule):
    """1 / (1 + t·decay) for steps t, of which ``began`` were made before."""

    decay: float = 0.0
    began: int = 0

    def factors(self, epoch: np.ndarray, start: float, stop: float) -> np.ndarray:
        steps = self.began + np.rint((epoch - start) * len(epoch))
        return 1 / (1 + steps * self.decay)


def _schedule(schedule: Any, found: _Optimizer, began: int) -> Any:
    if found.rule is None or not found.rule.rate_decay:
        return schedule
    return _RateDecay(found.rule.rate_decay, began)


class _Write(Callback):
    """Writes the network's values to the module before other callbacks are called."""

    def __init__(self, link: Link, steps: int | None) -> None:
        self._link, self.steps = link, steps

    def on_steps(self, net: Any, record: Record) -> None:
        self._link.write()

    def on_epoch_end(self, net: Any, record: Record) -> None:
        self._link.write()


class _Unchanged(Callback):
    """Raises after other callbacks if one of them changed the module or the optimizer."""

    def __init__(self, link: Link, epochs: int, steps: int | None) -> None:
        self._link, self._epochs, self.steps = link, epochs, steps

    def on_steps(self, net: Any, record: Record) -> None:
        self._check()

    def on_epoch_end(self, net: Any, record: Record) -> None:
        if record.epoch < self._epochs:  # the next call follows a change after the last epoch
            self._check()

    def _check(self) -> None:
        self._link.check_unchanged()
        if self._link.rule is not None:
            self._link.rule.check_unchanged()


def _synchronised(callbacks: Any, link: Link, epochs: int) -> Sequence[Callback]:
    found = as_callbacks(callbacks)
    periods = {call.steps for call in found} if found else set()
    checks = [_Unchanged(link, epochs, steps) for steps in periods]
    return [*(_Write(link, steps) for steps in periods), *found, *checks]
