"""Rms norms and residual layers in ONNX graphs, which are several nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .onnx_terms import Term, constant
from .operations import Dense, RowNorm

PASSED = "Identity", "Cast", "Dropout"


def through(term: Term) -> Term:
    """Return the term whose values another passes on."""
    while term.op in PASSED:
        term = term.argument(0)
    return term


def rms_norm(term: Term) -> tuple[RowNorm, Term] | None:
    """Return z / √(mean of z² + ε), which may be a product with the reciprocal; None for others."""
    if term.op not in ("Div", "Mul") or len(term.arguments) != 2:
        return None
    for k in (0, 1) if term.op == "Mul" else (0,):
        z, root = through(term.argument(k)), through(term.argument(1 - k))
        if term.op == "Mul":
            if root.op != "Reciprocal":
                continue
            root = through(root.argument(0))
        epsilon = _of_mean_square(root, z)
        if epsilon is not None:
            return RowNorm(False, epsilon, np.ones(1), None), z
    return None


def _of_mean_square(root: Term, z: Term) -> float | None:
    """Return ε if a term is √(mean of z² + ε) over the values of a row."""
    if root.op != "Sqrt" or through(root.argument(0)).op != "Add":
        return None
    added = through(root.argument(0))
    mean, epsilon = added.argument(0), added.argument(1)
    if not mean.depends:
        mean, epsilon = epsilon, mean
    mean = through(mean)
    if mean.op != "ReduceMean" or epsilon.depends or constant(epsilon).size != 1:
        return None
    axes = mean.settings.get("axes")
    if axes is None and len(mean.arguments) > 1:
        axes = constant(mean.argument(1)).ravel().tolist()
    keeps = mean.settings.get("keepdims", 1)
    if not (axes in ([1], [-1]) and keeps and _is_square(through(mean.argument(0)), z)):
        return None
    return float(str(np.float32(constant(epsilon).reshape(()))))


def _is_square(term: Term, z: Term) -> bool:
    if term.op == "Mul":
        return all(through(term.argument(k)) is z for k in (0, 1))
    if term.op == "Pow" and not term.argument(1).depends:
        return through(term.argument(0)) is z and bool((constant(term.argument(1)) == 2).all())
    return False


def residual(term: Term, last_step: Callable[[Term], tuple[object, Term]]) -> Term | None:
    """Return the values of a layer to which a term adds the input of the layer; None for others.

    Parameters
    ----------
    term
        A sum of two terms.
    last_step
        The function that returns the last step of a term, and what it is applied to.
    """
    for k in (0, 1):
        found, skipped = term.argument(k), through(term.argument(1 - k))
        step: object = None
        base = found
        while base.arguments and not isinstance(step, Dense):
            if base.order < skipped.order:
                break
            step, base = last_step(base)
        if isinstance(step, Dense) and through(base) is skipped:
            return found
    return None
