"""A module, its optimizer and the network that trains them: reading, and writing back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays.vectors import aligned
from ..exports.chain import Chain, Layer, Slot
from ..spec.groups import Group, Groups
from ..training.model import Model
from .optimizers import Rule, Setting, parameters

Array = np.ndarray

ATTRIBUTES = {
    "weights": "weight",
    "biases": "bias",
    "scale": "weight",
    "shift": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
"""The attribute of a layer of PyTorch for each array of a chain."""
STATISTICS = ("mean", "variance")


@dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    Parameters
    ----------
    trained
        The parameters that training changes, by ``id``.
    names
        Their names in the module, by ``id``.
    frozen
        The layers that stay as they are.
    groups
        Rates and decays of all arrays, or nothing if they are those of the optimizer.
    rate
        The learning rate that the rates of groups multiply; None without a rule.
    """

    trained: dict[int, Tensor]
    names: dict[int, str]
    frozen: tuple[int, ...]
    groups: Groups
    rate: float | None


def tensor_of(slot: Slot) -> Tensor:
    """Return the parameter or buffer of PyTorch for an array of a chain."""
    source = slot.place.source
    own = hasattr(source, slot.name)  # those of MLP have the names of a chain
    return getattr(source, slot.name if own else ATTRIBUTES[slot.name])


def slots_of(chain: Chain, model: Model, values: Array) -> list[list[Slot]]:
    """Return for each layer its parameters, in the order of groups, with views of some values."""
    found: list[list[Slot]] = [[] for _ in chain.layers]
    for slot in chain.slots(model.architecture, values):
        if slot.name not in STATISTICS:
            found[slot.layer].append(slot)
    return found


def plan(chain: Chain, model: Model, module: nn.Module, rule: Rule | None, ours: Any) -> Plan:
    """Decide which parameters are trained, with which rates and decays.

    Raises
    ------
    ValueError
        If none is trained, the optimizer has others, parameters share memory, or a batch norm is
        in evaluation mode in a layer that is trained.
    """
    _check_memory([s for s in chain.slots(model.architecture, model.flat) if _has(s)])
    layers = slots_of(chain, model, model.flat)
    known = {id(tensor_of(s)): tensor_of(s) for layer in layers for s in layer if _has(s)}
    if rule is not None:
        for k, p in parameters(rule.source):
            if id(p) not in known:
                raise ValueError(
                    f"optimizer: found a parameter of shape {tuple(p.shape)} in group {k} that is "
                    "none of the module's, expected those of the module alone"
                )
    trained = {
        i: p for i, p in known.items() if p.requires_grad and (rule is None or i in rule.settings)
    }
    if not trained:
        raise ValueError(
            "module: found no parameter to train, expected one with requires_grad=True"
            + (" in the optimizer" if rule is not None else "")
        )
    frozen = [
        k
        for k, layer in enumerate(layers)
        if not any(_has(s) and id(tensor_of(s)) in trained for s in layer)
        and not _updates_statistics(chain.layers[k], module)
    ]
    for k, layer in enumerate(chain.layers):
        norm = layer.normalize
        if norm is None or not norm.norm.over_rows or k in frozen:
            continue
        if not _updates_statistics(layer, module):
            norm.place.refuse(
                "in evaluation mode in a module in training mode, with parameters to train in it "
                f"or in {layer.dense.place}",
                "training mode, or requires_grad=False for the parameters of both",
            )
    rate = None if rule is None else max(rule.settings[i].rate for i in trained)
    groups = tuple(
        tuple(_group(slot, j, trained, rule, rate, ours) for j, slot in enumerate(layer))
        for layer in layers
    )
    names = {id(p): name for name, p in module.named_parameters()}
    return Plan(trained, names, tuple(frozen), () if _plain(groups, frozen, ours) else groups, rate)


def _check_memory(slots: list[Slot]) -> None:
    """Raise ValueError if two values of a module are at one address."""
    arrays = [tensor_of(slot).detach().numpy() for slot in slots]
    for i, (slot, array) in enumerate(zip(slots, arrays, strict=True)):
        if any(n > 1 and step == 0 for n, step in zip(array.shape, array.strides, strict=True)):
            slot.place.refuse(f"with expanded {slot.name}", "a tensor with memory for each value")
        for other, before in zip(slots[:i], arrays[:i], strict=True):
            if np.may_share_memory(array, before) and np.shares_memory(array, before):
                slot.place.refuse(
                    f"with {slot.name} in the memory of {other.name} of {other.place}",
                    "memory of their own",
                )


def _has(slot: Slot) -> bool:
    return slot.array is not None


def _updates_statistics(layer: Layer, module: nn.Module) -> bool:
    """Return whether a layer has a batch norm that a forward pass of training changes."""
    norm = layer.normalize
    if norm is None or not norm.norm.over_rows:
        return False
    return bool(norm.place.source.training) or not module.training


def _group(
    slot: Slot, j: int, trained: dict[int, Tensor], rule: Rule | None, rate: Any, ours: Any
) -> Group:
    """Return the group of an array: that of an optimizer of pynn without a rule."""
    if not _has(slot) or id(tensor_of(slot)) not in trained:
        return Group(0.0)
    if rule is None:
        return Group(decoupled=float(getattr(ours, "weight_decay", 0.0)) if j == 0 else 0.0)
    setting: Setting = rule.settings[id(tensor_of(slot))]
    return Group(setting.rate / rate, setting.decay, setting.decoupled)


def _plain(groups: Groups, frozen: list[int], ours: Any) -> bool:
    """Return whether the optimizer alone does what groups say."""
    decay = float(getattr(ours, "weight_decay", 0.0))
    return all(
        group == Group(decoupled=decay if j == 0 else 0.0)
        for k, layer in enumerate(groups)
        if k not in frozen
        for j, group in enumerate(layer)
    )


class Link:
    """A network that trains a module and the state of an optimizer.

    Parameters
    ----------
    chain
        The layers of the module.
    model
        Of the network, with the parameters of the module.
    planned
        What is trained.
    rule
        The optimizer of PyTorch, or None.
    """

    def __init__(self, chain: Chain, model: Model, planned: Plan, rule: Rule | None) -> None:
        self.chain, self.model, self.plan, self.rule = chain, model, planned, rule
        self.began = (
            0
            if rule is None
            else rule.steps({planned.names[i]: p for i, p in planned.trained.items()})
        )
        self._written = 0
        self._values: Array | None = None
        """The network's values that were written last."""
        if rule is not None:
            self._read_state(rule)

    def _read_state(self, rule: Rule) -> None:
        model = self.model
        vectors = [aligned(len(model.flat), model.dtype) for _ in rule.slots]
        for p, views in self._states(vectors):
            rule.read(p, views)
        model.replace(
            optimizer=rule.optimizer, optimizer_state=vectors, optimizer_began=-self.began
        )

    def _states(self, vectors: list[Array]) -> list[tuple[Tensor, list[Array]]]:
        """Return the trained parameters, each with its views of the state vectors."""
        per_vector = [
            [s for layer in slots_of(self.chain, self.model, vector) for s in layer]
            for vector in vectors
        ]
        layers = slots_of(self.chain, self.model, self.model.flat)
        found = []
        for i, slot in enumerate(s for layer in layers for s in layer):
            if _has(slot) and id(tensor_of(slot)) in self.plan.trained:
                found.append((tensor_of(slot), [_turned(v[i]) for v in per_vector]))
        return found

    def write(self) -> None:
        """Write parameters, statistics and state back, if they have changed since the last time: by
        updates, or by callbacks such as EarlyStopping.

        Ctrl-C is passed on after all have been written.
        """
        known = self._values is None or np.array_equal(self._values, self.model.flat)
        if known and self.model.updates == self._written:
            return
        try:
            self._write()
        except KeyboardInterrupt:
            self._write()
            raise

    def _write(self) -> None:
        model = self.model
        updates = model.updates
        with torch.inference_mode(False), torch.no_grad():
            for slot in self.chain.slots(model.architecture, model.flat):
                if not _has(slot) or slot.layer in self.plan.frozen:
                    continue
                tensor = tensor_of(slot)
                if slot.name in STATISTICS or self._moves(tensor):
                    tensor.copy_(torch.from_numpy(_turned(slot)))
            for k in model.architecture.batch_layers:
                norm = self.chain.layers[k].normalize
                known = norm is not None and hasattr(norm.place.source, "num_batches_tracked")
                if norm is not None and known and k not in self.plan.frozen:
                    norm.place.source.num_batches_tracked += updates - self._written
            if self.rule is not None:
                for p, views in self._states(model.optimizer_state):
                    self.rule.write(p, views, self.began + updates)
                if hasattr(self.rule.source.step, "_wrapped_by_lr_sched"):
                    # Schedulers warn unless the optimizer has made a step before their own.
                    self.rule.source._opt_called = True
        self._written, self._values = updates, model.flat.copy()

    def check_unchanged(self) -> None:
        """Raise ValueError if a parameter of the module is not as it was written."""
        for slot in self.chain.slots(self.model.architecture, self.model.flat):
            if not _has(slot) or slot.name in STATISTICS or not self._moves(tensor_of(slot)):
                continue
            found = tensor_of(slot).detach().numpy()
            if not np.array_equal(found, _turned(slot), equal_nan=True):
                raise ValueError(
                    f"callbacks: found {slot.name} of {slot.place} changed in the module, expected "
                    "them to stay as they are within a call: call fit(…, epochs=1) and change them "
                    "in turn"
                )

    def _moves(self, tensor: Tensor) -> bool:
        """Return whether a parameter is trained with a learning rate above 0."""
        trained = id(tensor) in self.plan.trained
        return trained and (self.rule is None or self.rule.settings[id(tensor)].moves)


def _turned(slot: Slot) -> Array:
    """Return the view of an array in the shape that PyTorch gives it."""
    return slot.view.T if slot.name == "weights" else slot.view
