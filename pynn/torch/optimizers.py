"""Optimizers of PyTorch as optimizers of pynn, with their parameter groups and their state.

The state is read before training and written back after it, so that either side continues where
the other one ended. Formulas are those of PyTorch's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..backends.updates import nadam_product
from ..exports.chain import table
from ..spec.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AMSGrad,
    Momentum,
    NAdam,
    Nesterov,
    Optimizer,
    RMSProp,
)

Array = np.ndarray
Options = Mapping[str, Any]

MOMENTUM = "momentum_buffer"
WITHOUT_STEPS = SGD, Momentum, Nesterov
LEAST_RATE = 2.0**-64
"""The learning rate in place of 0, so that a momentum in learning rates is kept: a power of two
does not round. Parameters with it are not written back."""


class Setting(NamedTuple):
    """The learning rate and the decays of one parameter, as in ``spec.groups.Group``."""

    rate: float
    decay: float
    decoupled: float
    moves: bool = True
    """Whether PyTorch's learning rate is above 0."""


@dataclass(frozen=True)
class Rule:
    """An optimizer of PyTorch as pynn computes it.

    Parameters
    ----------
    source
        The optimizer.
    optimizer
        That of pynn.
    settings
        The settings of each parameter, by its ``id``.
    slots
        The name of the state for each of pynn's vectors.
    in_rate
        What the momentum of pynn is in learning rates times that of PyTorch; 0 without momentum.
    rate_decay
        The learning rate of step t, counted from 0, is divided by 1 + t · rate_decay.
    """

    source: torch.optim.Optimizer
    optimizer: Optimizer
    settings: dict[int, Setting]
    slots: tuple[str, ...]
    in_rate: int = 0
    rate_decay: float = 0.0

    def _factor(self, name: str, parameter: Tensor) -> float:
        """Return a state of pynn divided by that of PyTorch: a momentum contains the rate η."""
        rate = self.settings[id(parameter)].rate
        return self.in_rate * rate if name == MOMENTUM else 1.0

    # --- State ------------------------------------------------------------------------------------

    def steps(self, parameters: Mapping[str, Tensor]) -> int:
        """Return the steps that the optimizer has made with some parameters, by their names.

        Raises
        ------
        ValueError
            If they differ.
        """
        counts = {name: int(self._state(p).get("step", 0)) for name, p in parameters.items()}
        least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        same = counts[least] == counts[most]
        if not same and not isinstance(self.optimizer, (*WITHOUT_STEPS, RMSProp)):
            raise ValueError(
                f"optimizer: found {counts[least]} steps of {least!r} and {counts[most]} of "
                f"{most!r}, expected as many for all parameters, since an optimizer of pynn counts "
                "steps once: make a new optimizer after unfreezing, or take torch.optim.SGD"
            )
        return counts[most]

    def check_unchanged(self) -> None:
        """Raise ValueError if rates or other settings were changed since this rule was made."""
        now = rule(self.source)
        if now.settings != self.settings or now.optimizer != self.optimizer:
            raise ValueError(
                "optimizer: found lr or other settings changed by a callback, expected them to "
                "stay as they are within a call: call fit(…, epochs=1) and scheduler.step() in turn"
            )

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        return self.source.state.get(parameter, {})

    def read(self, parameter: Tensor, views: Sequence[Array]) -> None:
        """Copy the state of a parameter into views of pynn's vectors, in its shape."""
        state = self._state(parameter)
        self._check_keys(state)
        for name, view in zip(self.slots, views, strict=True):
            tensor = state.get(name)
            if tensor is None:
                view[...] = self._initial()
                continue
            if tensor.shape != parameter.shape or not tensor.is_floating_point():
                raise ValueError(
                    f"optimizer: found {name} of {tensor.dtype} and shape {tuple(tensor.shape)}, "
                    f"expected floats of shape {tuple(parameter.shape)}, that of its parameter"
                )
            view[...] = self._factor(name, parameter) * tensor.detach().cpu().numpy()
            if not np.isfinite(view).all():
                raise ValueError(
                    f"optimizer: found {name} with NaN or infinite values, expected finite ones"
                )

    def _check_keys(self, state: Options) -> None:
        """Raise ValueError if a state lacks values that PyTorch needs to continue."""
        if not state or isinstance(self.optimizer, WITHOUT_STEPS):
            return  # a missing momentum of SGD begins with the next step
        product = ["mu_product"] * isinstance(self.optimizer, NAdam)
        lacking = [name for name in ("step", *self.slots, *product) if state.get(name) is None]
        if lacking:
            raise ValueError(
                f"optimizer: found a state without {', '.join(lacking)}, expected that of its "
                "class, or a new optimizer"
            )

    def _initial(self) -> float:
        return float(self.source.defaults.get("initial_accumulator_value", 0.0))

    def write(self, parameter: Tensor, views: Sequence[Array], steps: int) -> None:
        """Copy views of pynn's vectors, in the shape of a parameter, into its state."""
        state = self.source.state[parameter]
        for name, view in zip(self.slots, views, strict=True):
            if state.get(name) is None:
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            values = view / self._factor(name, parameter)
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(values)))
        scalars: dict[str, float] = {}
        if not isinstance(self.optimizer, WITHOUT_STEPS):
            scalars["step"] = float(steps)
        if isinstance(self.optimizer, NAdam):
            scalars["mu_product"] = nadam_product(self.optimizer, steps)
        for name, value in scalars.items():
            if not isinstance(state.get(name), Tensor):  # states of PyTorch 1 have numbers
                wide = torch.get_default_dtype() is torch.float64
                dtype = torch.float64 if wide else torch.float32
                state[name] = torch.zeros((), dtype=dtype, device="cpu")
            state[name].fill_(value)


# --- Reading --------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """How a class of optimizers is read.

    ``read`` returns pynn's optimizer and the names of its state. ``shared`` are the options that
    all parameter groups must have in common.
    """

    read: Callable[[Options], tuple[Optimizer, tuple[str, ...]]]
    shared: tuple[str, ...]
    text: str


def _sgd(o: Options) -> tuple[Optimizer, tuple[str, ...]]:
    if not o["momentum"]:
        return SGD(), ()
    if o["dampening"]:
        raise ValueError(
            f"optimizer: found dampening={o['dampening']:g}, expected 0: the first step has none"
        )
    kind = Nesterov if o["nesterov"] else Momentum
    return kind(float(o["momentum"])), (MOMENTUM,)


def _betas(o: Options) -> dict[str, Any]:
    beta1, beta2 = o["betas"]
    return {"beta1": float(beta1), "beta2": float(beta2), "epsilon": float(o["eps"])}


def _adam(o: Options) -> tuple[Optimizer, tuple[str, ...]]:
    names = ("exp_avg", "exp_avg_sq")
    if o["amsgrad"]:
        return AMSGrad(**_betas(o)), (*names, "max_exp_avg_sq")
    return Adam(**_betas(o)), names


def _nadam(o: Options) -> tuple[Optimizer, tuple[str, ...]]:
    decay = float(o["momentum_decay"])
    return NAdam(**_betas(o), momentum_decay=decay), ("exp_avg", "exp_avg_sq")


def _rmsprop(o: Options) -> tuple[Optimizer, tuple[str, ...]]:
    momentum, centered = float(o["momentum"]), bool(o["centered"])
    names = ["square_avg", *[MOMENTUM] * (momentum > 0), *["grad_avg"] * centered]
    found = RMSProp(float(o["alpha"]), float(o["eps"]), momentum=momentum, centered=centered)
    return found, tuple(names)


def _adagrad(o: Options) -> tuple[Optimizer, tuple[str, ...]]:
    return Adagrad(float(o["eps"])), ("sum",)


_ADAM = ("betas", "eps", "amsgrad")
KINDS: dict[str, Kind] = {
    "SGD": Kind(
        _sgd, ("momentum", "dampening", "nesterov"), "`momentum`, `nesterov`; `dampening=0`"
    ),
    "Adam": Kind(_adam, _ADAM, "`betas`, `eps`, `amsgrad`"),
    "AdamW": Kind(_adam, _ADAM, "`betas`, `eps`, `amsgrad`"),
    "NAdam": Kind(
        _nadam,
        ("betas", "eps", "momentum_decay"),
        "`betas`, `eps`, `momentum_decay`, `decoupled_weight_decay`",
    ),
    "RMSprop": Kind(
        _rmsprop, ("alpha", "eps", "momentum", "centered"), "`alpha`, `eps`, `momentum`, `centered`"
    ),
    "Adagrad": Kind(
        _adagrad,
        ("eps", "lr_decay", "initial_accumulator_value"),
        "`eps`, `lr_decay`, `initial_accumulator_value`",
    ),
}
"""Classes of ``torch.optim`` that ``fit`` computes."""


def optimizers_table() -> str:
    """Return the optimizers that ``fit`` accepts, as a Markdown table."""
    common = "; `lr` and `weight_decay` of each parameter group"
    return table(
        {f"`torch.optim.{name}`": kind.text + common for name, kind in KINDS.items()},
        {
            "different betas, eps … of parameter groups": "an optimizer of pynn has one of each",
            "`maximize`, hooks": "`fit` minimises, and calls no hooks of the optimizer",
            "other optimizers": "pynn has none with these formulas",
        },
        "optimizer",
    )


def rule(optimizer: torch.optim.Optimizer) -> Rule:
    """Return an optimizer of PyTorch as pynn computes it.

    Raises
    ------
    ValueError
        If pynn does not have it, or not with its options.
    """
    name = type(optimizer).__name__
    if name not in KINDS or type(optimizer) is not getattr(torch.optim, name, None):
        expected = ", ".join(KINDS)
        raise ValueError(
            f"optimizer: found {name}, expected one of torch.optim.{expected}, or of pynn"
        )
    kind, first = KINDS[name], optimizer.param_groups[0]
    _check_hooks(optimizer)
    for k, group in enumerate(optimizer.param_groups):
        for option in kind.shared:
            if group[option] != first[option]:
                raise ValueError(
                    f"optimizer: found {option}={group[option]!r} in parameter group {k} and "
                    f"{first[option]!r} in group 0, expected one value for all groups"
                )
        for option in ("maximize", "differentiable"):
            if group[option]:
                raise ValueError(f"optimizer: found {option}=True, expected False")
    ours, slots = kind.read(first)
    settings = {
        id(p): _setting(group, k, name)
        for k, group in enumerate(optimizer.param_groups)
        for p in group["params"]
    }
    in_rate = 0
    if MOMENTUM in slots:  # v is −η times PyTorch's, but +η times that of RMSprop
        in_rate = 1 if isinstance(ours, RMSProp) else -1
    rate_decay = float(first.get("lr_decay", 0.0))
    return Rule(optimizer, ours, settings, slots, in_rate, rate_decay)


def _check_hooks(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError if an optimizer has hooks, or a replaced ``step``."""
    for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
        if getattr(optimizer, name, None):
            raise ValueError("optimizer: found hooks of step, expected none: they are not called")
    own = vars(optimizer).get("step")
    # Schedulers replace it by a function that counts its calls.
    if own is not None and not hasattr(own, "_wrapped_by_lr_sched"):
        raise ValueError("optimizer: found a step of its own, expected that of its class")


def _setting(group: Options, k: int, name: str) -> Setting:
    """Return learning rate and decays of a parameter group."""
    rate, decay = float(group["lr"]), float(group["weight_decay"])
    if not (np.isfinite(rate) and rate >= 0 and np.isfinite(decay) and decay >= 0):
        raise ValueError(
            f"optimizer: found lr={rate:g} and weight_decay={decay:g} in parameter group {k}, "
            "expected finite numbers of 0 or more"
        )
    decoupled = group.get("decoupled_weight_decay", name == "AdamW")
    coupled, decoupled = (0.0, decay) if decoupled else (decay, 0.0)
    return Setting(rate or LEAST_RATE, coupled, decoupled, rate > 0)


def parameters(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, Tensor]]:
    """Yield the parameters of an optimizer, each with the number of its group."""
    for k, group in enumerate(optimizer.param_groups):
        for p in group["params"]:
            yield k, p
