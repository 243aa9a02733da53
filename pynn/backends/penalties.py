"""Penalties on weights and limits of norms, for the NumPy reference.

``docs/reference/regularisation.md`` says where in a step they apply.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def penalize(
    l2: float, l1: float, weights: list[Array], dweights: list[Array], layers: list[int]
) -> None:
    """Add the gradients of ½·l2·Σw² and l1·Σ|w| to those of the weights of some layers."""
    for k in layers:
        if l2:
            dweights[k] += l2 * weights[k]
        if l1:
            dweights[k] += l1 * np.sign(weights[k])


def clip_factor(limit: float, gradients: list[Array]) -> float:
    """Return min(1, limit / (norm + 1e-6)) for the L2 norm of all gradients together.

    Pascanu, Mikolov and Bengio 2013, algorithm 1, with the 1e-6 of PyTorch's ``clip_grad_norm_``.
    """
    norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))
    factor = limit / (norm + 1e-6)
    return factor if factor < 1 else 1.0


def clip(limit: float, gradients: list[Array]) -> None:
    """Multiply all gradients by ``clip_factor``."""
    factor = clip_factor(limit, gradients)
    if factor < 1:
        for g in gradients:
            g *= factor


def limit_units(limit: float, w: Array) -> None:
    """Multiply the weights into each unit, a column of w, by limit / norm if the norm is larger.

    Srivastava et al. 2014, section 5.1.
    """
    norms = np.sqrt(np.square(w, dtype=np.float64).sum(axis=0))
    large = norms > limit
    w[:, large] *= (limit / norms[large]).astype(w.dtype)
