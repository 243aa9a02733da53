"""Gradients of gradients, by a tangent pass: the NumPy reference.

Let ``d`` be a gradient of the logits, and dx and dθ what ``reference.backward`` makes of it. For a
function of dx and dθ with the gradients ẋ and θ̇ (tangents), its gradient with respect to d, x and θ
is that of S = Σ ẋ·dx + Σ θ̇·dθ, which equals Σ d·ż of the last layer, where ż is the derivative of
the logits in the direction (ẋ, θ̇) (Pearlmutter 1994, section 3). So a pass forward computes the
derivatives of all layers in that direction, and a pass backward the gradient of S. Its adjoints of
tangents are the gradients of the first backward pass.

Names are those of ``reference.py``, with these prefixes and suffixes:
    t_z, t_h    derivatives of z and h in the direction of the tangents
    dz, dh      gradients of the first backward pass
    sz, sh      gradients of S with respect to z and h
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..spec.architecture import Architecture
from ..spec.norms import Norm
from . import norms
from .activations import activation_of, derivative_of, softmax_gradient
from .contract import Pass
from .curvatures import CURVATURE, curvature_of
from .draws import Draws
from .losses import through_activation
from .reference import SILENT, forward

Array = np.ndarray


class Twice(NamedTuple):
    """Gradients of S: see ``backward_twice``."""

    d: Array
    """With respect to ``d`` (m, n_out): the derivatives of logits or outputs."""
    x: Array
    """With respect to the rows (m, n_in)."""
    parameters: Array
    """With respect to the parameters (n_parameters,)."""


def unsupported(net: Architecture) -> str:
    """Return what a network has of which there are no gradients of gradients, or an empty text."""
    if net.batch_layers:
        return "batch norm"
    known = {*CURVATURE, "softmax"}
    custom = next((name for name in net.activations if name not in known), None)
    return "" if custom is None else f"the custom activation {custom!r}"


def through_outputs(
    net: Architecture, z: Array, d: Array, t_z: Array
) -> tuple[Array, Array, Array]:
    """Return the gradient of the logits for d, that of the outputs; the gradient of S with respect
    to the logits; and the derivatives of the outputs.
    """
    a = activation_of(net, -1, z)
    dz = through_activation(net, z, a, d)
    if net.activations[-1] == "softmax":
        # S = Σ a·d·(t_z − Σ a·t_z), whose gradient with respect to a goes through the softmax.
        total, along = ((a * u).sum(axis=1, keepdims=True) for u in (d, t_z))
        return dz, softmax_gradient(a, d * t_z - t_z * total - d * along), softmax_gradient(a, t_z)
    slope = derivative_of(net, -1, z)
    return dz, d * curvature_of(net, -1, z) * t_z, slope * t_z


class Layer:
    """One hidden layer's map from z to a, and its derivatives."""

    def __init__(
        self, net: Architecture, k: int, z: Array, scales: list[Array], mask: Array | None
    ) -> None:
        self.kind: Norm | None = net.norm(k)
        self.after, self.mask, self.scales = net.norm_after, mask, scales
        # The activation is applied to y: z, or what the normalisation makes of z.
        if self.kind is not None and not self.after:
            self.normed, self.inverse = norms.standardize(self.kind, z, [])
            y = norms.normalize(self.kind, z, scales, [])
        else:
            y = z
        self.slope, self.curve = derivative_of(net, k, y), curvature_of(net, k, y)
        if self.kind is not None and self.after:
            self.normed, self.inverse = norms.standardize(self.kind, activation_of(net, k, y), [])

    def _project(self, u: Array) -> Array:
        """The derivative of ẑ in the direction u, which is symmetric: its own adjoint."""
        assert self.kind is not None
        through = self.normed * (u * self.normed).mean(axis=1, keepdims=True)
        if self.kind.centers:
            u = u - u.mean(axis=1, keepdims=True)
        return (u - through) * self.inverse

    def _norm_tangent(self, t: Array, t_scales: list[Array]) -> Array:
        self.t_normed = self._project(t)
        found: Array = self.scales[0] * self.t_normed + t_scales[0] * self.normed
        return found + t_scales[1] if len(t_scales) > 1 else found

    def tangent(self, t_z: Array, t_scales: list[Array]) -> Array:
        """Return the derivative of a for that of z."""
        self.t_scales = t_scales
        if self.kind is not None and self.after:
            self.t_y, self.t_in = t_z, self.slope * t_z
            t_a = self._norm_tangent(self.t_in, t_scales)
        else:
            self.t_in = t_z
            self.t_y = t_z if self.kind is None else self._norm_tangent(t_z, t_scales)
            t_a = self.slope * self.t_y
        return t_a if self.mask is None else t_a * self.mask

    def _norm_back(self, dy: Array, sy: Array, gradients: list[Array]) -> tuple[Array, Array]:
        """Return gradients of the normalised values' input: of the first pass, and of S; write
        those of S with respect to scale and shift.
        """
        n, normed, t = dy.shape[1], self.normed, self.t_in
        gradients[0][...] = (dy * self.t_normed + sy * normed).sum(axis=0)
        if len(gradients) > 1:
            gradients[1][...] = sy.sum(axis=0)
        du = self.scales[0] * dy
        # S has the term Σ du·t_normed, whose gradient with respect to ẑ and to 1 / √(v + ε) is
        # added to that of the values themselves.
        along = (du * self.t_normed).sum(axis=1, keepdims=True)
        su = self.scales[0] * sy + self.t_scales[0] * dy
        su = su - self.inverse / n * (
            du * (normed * t).sum(axis=1, keepdims=True)
            + t * (du * normed).sum(axis=1, keepdims=True)
        )
        return self._project(du), self._project(su) - along * self.inverse * normed / n

    def back(self, da: Array, sa: Array, gradients: list[Array]) -> tuple[Array, Array]:
        """Return dz and sz for the gradients of a."""
        if self.mask is not None:
            da, sa = da * self.mask, sa * self.mask
        if self.kind is not None and self.after:
            da, sa = self._norm_back(da, sa, gradients)
        dy, sy = da * self.slope, sa * self.slope + da * self.curve * self.t_y
        if self.kind is not None and not self.after:
            return self._norm_back(dy, sy, gradients)
        return dy, sy


@SILENT
def backward_twice(
    net: Architecture,
    parameters: Array,
    rows: Array,
    how: Pass,
    d: Array,
    of_outputs: bool,
    t_x: Array,
    t_parameters: Array | None,
) -> Twice:
    """Return the gradients of S.

    Parameters
    ----------
    net
        A network without batch norms and custom functions.
    parameters
        (n_values,)
    rows
        Input of the first layer (m, n_in), with noise and dropout.
    how
        Of the forward pass.
    d
        Gradient of the logits (m, n_out), or ``of_outputs``.
    t_x, t_parameters
        ẋ (m, n_in), and θ̇ (n_parameters,) or None for 0.
    """
    (weights, biases), scales = net.views(parameters), net.norm_views(parameters)
    if t_parameters is None:
        t_parameters = np.zeros(net.n_parameters, net.dtype)
    (t_weights, t_biases), t_scales = net.views(t_parameters), net.norm_views(t_parameters)
    gradient = np.empty(net.n_parameters, net.dtype)
    (dweights, dbiases), dscales = net.views(gradient), net.norm_views(gradient)
    draws, place = Draws(net, how.seed), (how.epoch, how.first_row, len(rows))
    masks = draws.masks(*place) if how.training else []
    noises = draws.noises(*place) if how.training else []
    running: list[list[Array]] = [[] for _ in weights]
    hs, zs = forward(net, weights, biases, scales, running, rows, masks, noises)
    layers, t_hs = [], [t_x]
    for k in range(net.n_layers):
        t_z = t_hs[k] @ weights[k] + hs[k] @ t_weights[k] + t_biases[k]
        if k < net.n_layers - 1:
            layers.append(Layer(net, k, zs[k], scales[k], masks[k] if masks else None))
            t_a = layers[k].tangent(t_z, t_scales[k])
            t_hs.append(t_a + t_hs[k] if net.adds_input(k) else t_a)
    dz, sz, t_out = d, np.zeros_like(d), t_z
    if of_outputs:
        dz, sz, t_out = through_outputs(net, zs[-1], d, t_z)
    dh, sh = dz, sz
    for k in reversed(range(net.n_layers)):
        dweights[k][...] = t_hs[k].T @ dz + hs[k].T @ sz
        dbiases[k][...] = sz.sum(axis=0)
        below = dz @ weights[k].T, sz @ weights[k].T + dz @ t_weights[k].T
        dh, sh = (below[0] + dh, below[1] + sh) if net.adds_input(k) else below
        if k:
            dz, sz = layers[k - 1].back(dh, sh, dscales[k - 1])
    return Twice(t_out, sh, gradient)
