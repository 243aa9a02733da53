"""Variables of a model of Keras and of its optimizer, and their places in the vectors of pynn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..backends.updates import nadam_product
from ..exports.chain import Chain, Slot
from ..exports.keras_layers import values, variable
from ..spec.groups import Group, Groups
from ..spec.optimizers import Adagrad, NAdam
from ..training.model import Model
from .optimizers import Rule

Array = np.ndarray

_TRAINED = ("weights", "biases", "scale", "shift")


class Frozen(NamedTuple):
    """What is not trained, and how the rest is.

    Attributes
    ----------
    layers
        Indices of layers that stay as they are.
    groups
        For each layer the groups of its arrays; empty if none differs from the optimizer.
    """

    layers: tuple[int, ...]
    groups: Groups


class Variables:
    """Exchanges the values of a Keras model and of its optimizer with those of a pynn model.

    Parameters
    ----------
    keras_model
        A compiled model.
    chain
        Its layers.
    model
        pynn's, of the same layers.
    rule
        Of the optimizer.
    """

    def __init__(self, keras_model: Any, chain: Chain, model: Model, rule: Rule) -> None:
        self._keras, self._model, self._rule = keras_model, model, rule
        self._optimizer = keras_model.optimizer
        self._slots = chain.slots(model.architecture, model.flat)
        self._pairs = [(variable(slot), slot) for slot in self._slots if slot.array is not None]
        if not self._optimizer.built:
            self._optimizer.build(keras_model.trainable_variables)
        known = {id(v): k for k, v in enumerate(self._optimizer._trainable_variables)}
        for slot in self._slots:
            if _is_trained(slot) and id(variable(slot)) not in known:
                slot.place.refuse(
                    "that the optimizer does not know", "model.compile after a change of trainable"
                )
        state = [chain.slots(model.architecture, vector) for vector in self._new_state()]
        self._state_pairs = [
            (self._slot(name, known[id(variable(slot))]), slot.view)
            for name, slots in zip(rule.slots, state, strict=True)
            for slot in slots
            if _is_trained(slot)
        ]

    def _slot(self, name: str, k: int) -> Any:
        """Return the optimizer's variable of the k-th variable that it trains."""
        found = getattr(self._optimizer, name, None)
        if not found:
            raise ValueError(
                f"model: found the optimizer {type(self._optimizer).__name__} without "
                f"{name.strip('_')}, expected settings for which it was built; call model.compile "
                "after such a change"
            )
        return found[k]

    def _new_state(self) -> list[Array]:
        """Give the model the state of the rule, with zeros; return it."""
        model, rule = self._model, self._rule
        state = model.state_for(rule.optimizer)
        model.replace(optimizer=rule.optimizer, optimizer_state=state, optimizer_began=0)
        return state

    @property
    def _initial(self) -> float:
        """What Keras's accumulators have more than those of pynn."""
        rule = self._rule.optimizer
        return rule.initial if isinstance(rule, Adagrad) else 0.0

    @property
    def iterations(self) -> int:
        """Updates that the optimizer has made."""
        return int(values(self._optimizer._iterations))

    def read(self) -> None:
        """Copy all values and the number of updates from Keras to pynn."""
        for source, slot in self._pairs:
            slot.view[...] = values(source)
        initial = self._initial
        for source, view in self._state_pairs:
            view[...] = values(source) - view.dtype.type(initial)
        self._model.replace(updates=self.iterations)

    def agree(self) -> bool:
        """Return whether Keras has the values that ``write`` gave it."""
        pairs = [(target, slot.view) for target, slot in self._pairs]
        initial = self._initial
        pairs += [(target, view + view.dtype.type(initial)) for target, view in self._state_pairs]
        for target, view in pairs:
            found = values(target)
            if not np.array_equal(found, view.astype(found.dtype), equal_nan=True):
                return False
        return self.iterations == self._model.updates

    def write(self) -> None:
        """Copy all values and the number of updates from pynn to Keras, even when interrupted."""
        try:
            self._write()
        except BaseException:
            self._write()
            raise

    def _write(self) -> None:
        for target, slot in self._pairs:
            target.assign(slot.view)
        for target, view in self._state_pairs:
            target.assign(view + view.dtype.type(self._initial))
        updates = self._model.updates
        self._optimizer._iterations.assign(updates)
        if isinstance(self._rule.optimizer, NAdam):
            self._optimizer._u_product.assign(nadam_product(self._rule.optimizer, updates))

    def frozen(self) -> Frozen:
        """Return what is not trained.

        Raises
        ------
        ValueError
            If nothing is trained, or a batch norm is frozen whose dense layer is not.
        """
        layers: dict[int, list[Slot]] = {}
        for slot in self._slots:
            layers.setdefault(slot.layer, []).append(slot)
        frozen = tuple(k for k, slots in layers.items() if _is_frozen(slots))
        if len(frozen) == len(layers):
            raise ValueError("model: found no layer to train, expected trainable=True for one")
        for k, slots in layers.items():
            norm = next((slot.place for slot in slots if slot.name == "mean"), None)
            if norm is not None and not norm.source.trainable and k not in frozen:
                norm.refuse(
                    "with trainable=False after a dense layer that is trained",
                    "both to be trained, or neither",
                )
        groups = tuple(self._groups(slots) for slots in layers.values())
        plain = all(group == Group() for layer in groups for group in layer)
        return Frozen(frozen, () if plain else groups)

    def _groups(self, slots: Iterable[Slot]) -> tuple[Group, ...]:
        return tuple(self._group(slot) for slot in slots if slot.name in _TRAINED)

    def _group(self, slot: Slot) -> Group:
        if not _is_trained(slot):
            return Group(rate=0.0)
        decayed = self._rule.decay and self._optimizer._use_weight_decay(variable(slot))
        return Group(decay=2 * l2_of(slot), decoupled=self._rule.decay if decayed else 0.0)


def _is_trained(slot: Slot) -> bool:
    if slot.array is None or slot.name not in _TRAINED:
        return False
    return bool(slot.place.source.trainable and variable(slot).trainable)


def _is_frozen(slots: list[Slot]) -> bool:
    """Return whether a layer stays as it is, running statistics included."""
    running = any(slot.name == "mean" and slot.place.source.trainable for slot in slots)
    return not running and not any(map(_is_trained, slots))


# --- Penalties ------------------------------------------------------------------------------------

_REGULARIZERS = {
    "weights": "kernel_regularizer",
    "biases": "bias_regularizer",
    "scale": "gamma_regularizer",
    "shift": "beta_regularizer",
}
_CONSTRAINTS = ("kernel_constraint", "bias_constraint", "gamma_constraint", "beta_constraint")


def _regularizer(slot: Slot) -> tuple[float, float]:
    """Return the factors of |w| and w² of an array's regularizer."""
    found = getattr(slot.place.source, _REGULARIZERS.get(slot.name, ""), None)
    if found is None or slot.array is None:
        return 0.0, 0.0
    kind = type(found).__name__
    if type(found).__module__.split(".")[0] != "keras" or kind not in ("L1", "L2", "L1L2"):
        slot.place.refuse(f"with the regularizer {kind}", "L1, L2 or L1L2")
    l1, l2 = (values(getattr(found, name, 0) or 0) for name in ("l1", "l2"))
    return float(l1), float(l2)


def l2_of(slot: Slot) -> float:
    """Return the factor of w² in the penalty of an array."""
    return _regularizer(slot)[1]


class Penalties:
    """The terms of the loss that regularizers add.

    Parameters
    ----------
    chain
        The layers.
    model
        pynn's, of whose values the penalties are computed.

    Attributes
    ----------
    l1 : float
        The factor of |w| of all kernels.
    """

    def __init__(self, chain: Chain, model: Model) -> None:
        self._terms: list[tuple[Array, float, float]] = []
        factors: list[float] = []
        for slot in filter(_is_trained, chain.slots(model.architecture, model.flat)):
            self._check(slot)
            l1, l2 = _regularizer(slot)
            if l1 or l2:
                self._terms.append((slot.view, l1, l2))
            if slot.name == "weights":
                factors.append(l1)
                if not np.isclose(l1, factors[0], rtol=1e-6, atol=0):
                    slot.place.refuse(
                        f"with L1 of {l1:g}", f"{factors[0]:g}, as for the kernels of other layers"
                    )
            elif l1:
                slot.place.refuse(f"with L1 of its {slot.name}", "L1 of kernels only")
        self.l1 = factors[0] if factors else 0.0

    def _check(self, slot: Slot) -> None:
        layer = slot.place.source
        for name in _CONSTRAINTS:
            if getattr(layer, name, None) is not None:
                slot.place.refuse(
                    f"with {name} {type(getattr(layer, name)).__name__}",
                    "none: Keras's constraints have other formulas than max_norm",
                )
        if getattr(layer, "activity_regularizer", None) is not None:
            slot.place.refuse("with an activity_regularizer", "none")

    def value(self) -> float:
        """Return the sum of all penalties."""
        found = 0.0
        for view, l1, l2 in self._terms:
            w = view.astype(np.float64)
            found += l1 * float(np.abs(w).sum()) + l2 * float(np.square(w).sum())
        return found
