"""Normalisations of the NumPy reference: formulas and gradients, with their sources.

``y = γ ⊙ ẑ + β`` with ``ẑ = (z − μ) / √(v + ε)``. Layer norm (Ba et al. 2016, section 3) takes mean
μ and variance v over the units of each row; rms norm (Zhang and Sennrich 2019, equation 4) leaves
out μ and β, and v is the mean of z².

To add one: a dataclass in ``spec/norms.py``, and the formulas here and in ``csrc/kernels/norm.h``.
"""

from __future__ import annotations

import numpy as np

from ..spec.norms import Norm

Array = np.ndarray


def standardize(norm: Norm, z: Array) -> tuple[Array, Array]:
    """Return ẑ (m, n) and 1 / √(v + ε) of each row (m, 1)."""
    centred = z - z.mean(axis=1, keepdims=True) if norm.centers else z
    inverse = 1 / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + norm.epsilon)
    return centred * inverse, inverse.astype(z.dtype)


def normalize(norm: Norm, z: Array, parameters: list[Array]) -> Array:
    """Return y; the parameters are γ (n,) and, unless it is an rms norm, β (n,)."""
    normed, _ = standardize(norm, z)
    y = normed * parameters[0]
    return y + parameters[1] if norm.centers else y


def normalize_gradient(
    norm: Norm, z: Array, parameters: list[Array], dy: Array, gradients: list[Array]
) -> Array:
    """Return ∂loss/∂z for dy = ∂loss/∂y, and write the gradients of the parameters.

    dz = (dẑ − mean(dẑ) − ẑ ⊙ mean(dẑ ⊙ ẑ)) / √(v + ε) with dẑ = γ ⊙ dy, by the chain rule; without
    mean(dẑ) in rms norm.
    """
    normed, inverse = standardize(norm, z)
    gradients[0][...] = (dy * normed).sum(axis=0)
    if norm.centers:
        gradients[1][...] = dy.sum(axis=0)
    dnormed = dy * parameters[0]
    through = normed * (dnormed * normed).mean(axis=1, keepdims=True)
    if norm.centers:
        dnormed = dnormed - dnormed.mean(axis=1, keepdims=True)
    dz: Array = (dnormed - through) * inverse
    return dz
