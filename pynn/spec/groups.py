"""Settings of an optimizer for single arrays of parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .arguments import number


@dataclass(frozen=True)
class Group:
    """Rate and decay of one array: the weights or biases of a layer, or scale or shift of its norm.

    Parameters
    ----------
    rate
        Factor on the learning rate.
    decay
        Coupled decay: ``decay``·w is added to the gradient before the optimizer sees it, after its
        norm was limited, as in ``torch.optim.Adam(weight_decay=)``.
    decoupled
        Decoupled decay: w ← w − η·``decoupled``·w before the update, where η includes ``rate``, as
        in ``torch.optim.AdamW(weight_decay=)``. It replaces the optimizer's ``weight_decay``.
    """

    rate: float = 1.0
    decay: float = 0.0
    decoupled: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            number(getattr(self, field.name), f"Group.{field.name}", least=0)


Groups = tuple[tuple[Group, ...], ...]
"""For each layer the groups of its arrays: weights, biases, scale, shift; or nothing: no groups."""
