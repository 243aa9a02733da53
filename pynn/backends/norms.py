"""Normalisations of the NumPy reference: formulas and gradients, with their sources.

``y = γ ⊙ ẑ + β`` with ``ẑ = (z − μ) / √(v + ε)``. Layer norm (Ba et al. 2016, section 3) takes mean
μ and variance v over the units of each row; rms norm (Zhang and Sennrich 2019, equation 4) leaves
out μ and β, and v is the mean of z². Batch norm (Ioffe and Szegedy 2015, algorithm 1) takes them
over the rows of a batch; ``running`` statistics replace them in predictions and in frozen layers.

To add one: a dataclass in ``spec/norms.py``, and the formulas here and in ``csrc/kernels/norm.h``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..spec.norms import BatchNorm, Norm

Array = np.ndarray


def moments(norm: Norm, z: Array) -> tuple[Array, Array]:
    """Return μ and v of each row (m, 1), or of each unit (1, n)."""
    axis = 0 if norm.over_rows else 1
    mean = z.mean(axis=axis, keepdims=True) if norm.centers else z.dtype.type(0)
    return mean, np.square(z - mean).mean(axis=axis, keepdims=True)


def standardize(norm: Norm, z: Array, running: Sequence[Array]) -> tuple[Array, Array]:
    """Return ẑ (m, n) and 1 / √(v + ε); ``running`` is μ and v (n,), or empty."""
    mean, variance = running or moments(norm, z)
    inverse = (1 / np.sqrt(variance + norm.epsilon)).astype(z.dtype)
    return (z - mean) * inverse, inverse


def normalize(norm: Norm, z: Array, parameters: list[Array], running: Sequence[Array]) -> Array:
    """Return y; the parameters are γ (n,) and, unless it is an rms norm, β (n,)."""
    normed, _ = standardize(norm, z, running)
    y = normed * parameters[0]
    return y + parameters[1] if norm.centers else y


def normalize_gradient(
    norm: Norm,
    z: Array,
    parameters: list[Array],
    running: Sequence[Array],
    dy: Array,
    gradients: list[Array],
) -> Array:
    """Return ∂loss/∂z for dy = ∂loss/∂y, and write the gradients of the parameters.

    dz = (dẑ − mean(dẑ) − ẑ ⊙ mean(dẑ ⊙ ẑ)) / √(v + ε) with dẑ = γ ⊙ dy, by the chain rule; without
    mean(dẑ) in rms norm; with running statistics, which are constants, dẑ / √(v + ε).
    """
    normed, inverse = standardize(norm, z, running)
    gradients[0][...] = (dy * normed).sum(axis=0)
    if norm.centers:
        gradients[1][...] = dy.sum(axis=0)
    dnormed = dy * parameters[0]
    if running:
        return dnormed * inverse
    axis = 0 if norm.over_rows else 1
    through = normed * (dnormed * normed).mean(axis=axis, keepdims=True)
    if norm.centers:
        dnormed = dnormed - dnormed.mean(axis=axis, keepdims=True)
    return (dnormed - through) * inverse


def update_running(norm: BatchNorm, z: Array, running: Sequence[Array]) -> None:
    """r ← r + momentum·(statistic of the batch − r) (algorithm 2, as a moving average).

    The variance is that of m − 1 degrees of freedom for ``unbiased``.
    """
    mean, variance = moments(norm, z)
    if norm.unbiased:
        variance = variance * (len(z) / (len(z) - 1))
    for average, found in zip(running, (mean, variance), strict=True):
        average += norm.momentum * (found[0] - average)
