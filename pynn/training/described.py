"""``Described``: a network as a table of text or HTML."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from .prediction import Prediction
from .properties import ModelProperties
from .tables import aligned, html_table, size_text

Array = np.ndarray

NUMBERS = ("layer", "inputs", "outputs", "dropout", "parameters")
"""Columns of the table of layers that are aligned to the right."""


class Described(Prediction):
    """Base class of ``Network``: methods that describe the network."""

    def summary(self) -> Text:
        """Return a table of the layers, with their parameters and the memory that they take.

        Returns
        -------
        str
            The table; in an interactive session it is displayed with its line breaks. Layers are
            counted from 0, as in ``net.weights``.

        Examples
        --------
        >>> from pynn import Network
        >>> print(Network([4, 8, 3], backend="numpy").summary())
        layer  inputs  outputs  activation  parameters
            0       4        8  relu                40
            1       8        3  softmax             27
        total                                       67
        loss: cross_entropy
        memory: 268 B for parameters in float32
        trained: not yet
        """
        rows = _layers(self)
        heads = list(rows[0])
        lines = [heads, *([str(row[name]) for name in heads] for row in rows)]
        lines.append(["total", *[""] * (len(heads) - 2), f"{self.architecture.n_parameters:,}"])
        table = aligned(lines, [name in NUMBERS for name in heads])
        return Text("\n".join([table, *(f"{k}: {v}" for k, v in _facts(self))]))

    def _repr_html_(self) -> str:
        rows = _layers(self)
        total = ["total", *[""] * (len(rows[0]) - 2), f"{self.architecture.n_parameters:,}"]
        table = html_table(list(rows[0]), [list(row.values()) for row in rows], total)
        facts = "<br>".join(f"{escape(k)}: {escape(v)}" for k, v in _facts(self))
        return f"{table}<p>{facts}</p>"


class Text(str):
    """Text that an interactive session displays with its line breaks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _layers(net: ModelProperties) -> list[dict[str, Any]]:
    """Return a row of the table for each layer."""
    a = net.architecture
    has_dropout = any(a.dropout)
    rows = []
    for k, activation in enumerate(a.given_activations()):
        n_in, n_out = a.sizes[k], a.sizes[k + 1]
        row = {"layer": k, "inputs": f"{n_in:,}", "outputs": f"{n_out:,}"}
        row["activation"] = str(activation)
        if a.norms:
            norm = a.norm(k)
            row["norm"] = "–" if norm is None else norm.name
        if has_dropout:
            row["dropout"] = f"{a.dropout[k]:g}" if k < len(a.dropout) else "–"
        if any(a.residual):
            row["residual"] = "yes" if a.residual[k] else "no"
        if net._model.frozen:
            row["frozen"] = "yes" if k in net._model.frozen else "no"
        row["parameters"] = f"{(n_in + 1 + a.norm_vectors(k)) * n_out:,}"
        rows.append(row)
    return rows


def _facts(net: ModelProperties) -> list[tuple[str, str]]:
    """Return names and values of what the table of layers does not show."""
    a, model = net.architecture, net._model
    item = np.dtype(a.dtype).itemsize
    memory = f"{size_text(a.n_parameters * item)} for parameters in {a.dtype}"
    if a.n_statistics:
        memory += f", {size_text(a.n_statistics * item)} for running statistics"
    if model.average is not None:
        memory += f", {size_text(a.n_values * item)} for their average"
    if model.optimizer is not None and model.optimizer_state:
        # In the places of running statistics it is 0.
        state = len(model.optimizer_state) * a.n_parameters * item
        memory += f", {size_text(state)} for the state of {model.optimizer.name}"
    facts = [("loss", a.loss_text), ("memory", memory)]
    if a.norm_after:
        facts.append(("norm", "after the activation"))
    if a.noise_text:
        facts.append(("noise in training", ", ".join(a.noise_text)))
    inputs = ["pixels" if net.pixels else "values"] if isinstance(net.pixels, bool) else []
    inputs += ["standardized"] if model.standardize else []
    if inputs:
        facts.append(("inputs", ", ".join(inputs)))
    if model.standardize_targets:
        facts.append(("targets", "standardized"))
    classes = net.classes if model.task is not None else None
    if classes is not None:
        names = [str(name) for name in classes[:10].tolist()]
        facts.append(("classes", ", ".join(names) + (", …" if len(classes) > 10 else "")))
    trained = f"{net.epochs:,} epochs, {net.updates:,} updates" if net.updates else "not yet"
    return [*facts, ("trained", trained)]
