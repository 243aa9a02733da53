"""The algorithm in NumPy, written to be read: the specification of every backend.

A training step passes a mini-batch through ``forward``, ``loss_and_output_gradient``, ``backward``
and ``update``; ``Trainer.steps`` is the loop around them. The formulas of activations, losses and
optimizers are next to this file, in ``activations.py``, ``losses.py`` and ``updates.py``. The
compiled backends compute the same things in the same order under the same names, and are tested
against this file step by step.

Shapes: a batch has m rows; layer k maps n_in to n_out units.
    x or h  (m, n_in)     input of a layer
    w, b    (n_in, n_out), (n_out,)
    z       (m, n_out)    = h @ w + b, before the activation
    a       (m, n_out)    = f(z), with the normalisation of the layer before or after f; after
                          noise, dropout, and plus h if the layer is residual, the next layer's h
    dz      (m, n_out)    ∂loss/∂z
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import cast

import numpy as np

from ..arrays.sparse import Sparse
from ..arrays.standard import Standardized
from ..spec import philox
from ..spec.architecture import Architecture
from ..spec.groups import Group
from ..spec.norms import BatchNorm
from ..spec.optimizers import Optimizer
from . import norms, penalties
from .activations import activation_of, derivative_of
from .contract import (
    Data,
    Inputs,
    ObjectiveSettings,
    Pass,
    Sums,
    TrainerSettings,
    UpdateSettings,
    WithoutFastAnswers,
    lowest_trained,
)
from .draws import Draws
from .losses import loss_of, through_activation
from .updates import UPDATE, average

Array = np.ndarray

# --- The passes -----------------------------------------------------------------------------------


def to_bf16(a: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even, kept as float32.

    A bfloat16 is the upper half of a float32: 8 bits of exponent, 8 of precision.
    """
    bits = np.ascontiguousarray(a).view(np.uint32)
    up = np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return np.where(np.isnan(a), a, (bits + up & np.uint32(0xFFFF0000)).view(np.float32))


def multiply(net: Architecture, layer: int, a: Array, b: Array) -> Array:
    """Return a @ b, one of the three products of a layer, with operands in its precision."""
    return to_bf16(a) @ to_bf16(b) if net.rounds(layer) else a @ b


def read_rows(x: Inputs, rows: Array | slice, dtype: str) -> Array:
    """Gather rows of the data set as floats; uint8 values are pixels and are divided by 255.

    A standardised x is (x − mean) · (1 / scale), computed in float64 and then rounded.
    """
    if isinstance(x, Standardized):
        values = read_rows(x.rows, rows, "float64")
        standardized: Array = (values - x.standard.mean) * x.standard.inverse
        return standardized.astype(dtype)
    if isinstance(x, Sparse):
        return x.dense(rows, dtype)
    block = x[rows].astype(dtype)
    return block * block.dtype.type(1 / 255) if x.dtype == np.uint8 else block


Vectors = list[list[Array]]
"""For each layer, arrays (n_out,): parameters of its normalisation, or its running statistics."""


def activate(
    net: Architecture, layer: int, z: Array, norm: list[Array], running: list[Array]
) -> Array:
    """Return f(z) of a layer, normalised before or after f if the layer is, with the parameters
    ``norm`` and running statistics, or those of the rows: see ``norms.py``.
    """
    kind = net.norm(layer)
    if kind is None:
        return activation_of(net, layer, z)
    if net.norm_after:
        return norms.normalize(kind, activation_of(net, layer, z), norm, running)
    return activation_of(net, layer, norms.normalize(kind, z, norm, running))


def forward(
    net: Architecture,
    weights: list[Array],
    biases: list[Array],
    scales: Vectors,
    running: Vectors,
    x: Array,
    masks: list[Array],
    noises: Sequence[Array] = (),
) -> tuple[list[Array], list[Array]]:
    """Return every layer's input h and its z.

    ``scales`` holds the parameters of normalisations, as ``Architecture.norm_views``, and
    ``running`` the statistics of batch norms that do not use those of the rows. ``masks``
    holds a factor (m, n_out) on the a of each hidden layer: 0 for a dropped unit and 1 / (1 - p)
    for the others, so that the expected a is unchanged (inverted dropout, Srivastava et al. 2014,
    section 10). ``noises`` holds what is added to the a of each hidden layer before that (m,
    n_out). Both are empty outside training.

    A residual layer adds its own input to that, which is not dropped (He et al. 2016, equation 1,
    without an activation after the sum; dropout as in Vaswani et al. 2017, section 5.4).
    """
    hs, zs = [x], []
    for k in range(net.n_layers):
        zs.append(multiply(net, k, hs[k], weights[k]) + biases[k])
        if k < net.n_layers - 1:
            a = activate(net, k, zs[k], scales[k], running[k])
            if noises:
                a = a + noises[k]
            a = a * masks[k] if masks else a
            hs.append(a + hs[k] if net.adds_input(k) else a)
    return hs, zs


def outputs(
    net: Architecture, scales: Vectors, running: Vectors, hs: list[Array], zs: list[Array]
) -> Array:
    """Return the outputs of the last layer (m, n_out).

    It is normalised or residual only where it is a hidden layer of a larger network
    (``Network.activations``).
    """
    a = activate(net, -1, zs[-1], scales[-1], running[-1])
    return a + hs[-1] if net.adds_input(net.n_layers - 1) else a


def loss_and_output_gradient(
    net: Architecture, z: Array, y: Array, convention: str = "pynn", missing: bool = False
) -> tuple[Array, Array]:
    """Return the loss of each row (m,), float64, and its gradient dz (m, n_out).

    ``y`` is labels (m,), int, which stand for one-hot targets, or targets (m, n_targets). With
    ``missing``, targets that are NaN are left out. The formulas are in ``losses.py``.
    """
    t = np.eye(net.n_out, dtype=z.dtype)[y] if y.ndim == 1 else y
    loss = loss_of(net)
    if not missing:
        return loss(net, z, t, convention)
    # The loss of a row is the mean over its known targets, each counted as a row with one target.
    # The outputs of target k are columns k, n_targets + k, …
    known, terms = ~np.isnan(t), np.zeros(t.shape)
    by_target = z.reshape(len(z), -1, t.shape[1]).swapaxes(1, 2)
    gradient = np.zeros_like(by_target)
    terms[known], gradient[known] = loss(net, by_target[known], t[known][:, None], convention)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    dz = gradient.swapaxes(1, 2).reshape(z.shape) / count.astype(z.dtype)
    return (terms / count).sum(axis=1), dz


def weigh(
    losses: Array, dz: Array, sample_weight: Array | None, convention: str = "pynn"
) -> tuple[Array, Array, float]:
    """Return weighted losses, dz of their weighted mean, and the sum of the weights, by which the
    mean divides; with Keras's convention it divides by the number of rows.

    A row of weight 0 has no influence, whatever its loss. With scikit-learn's convention l2 is
    divided by that sum too, and the loss of a batch includes the L2 term.
    """
    if sample_weight is None:
        return losses, dz / len(dz), float(len(dz))
    total = float(len(dz) if convention == "keras" else sample_weight.sum())
    weighs = sample_weight != 0  # scikit-learn's convention has negative ones too
    share = (sample_weight / total)[:, None].astype(dz.dtype)
    return (
        np.where(weighs, losses * sample_weight, 0),
        np.where(weighs[:, None], dz * share, dz.dtype.type(0)),
        total,
    )


def penalty(l2: float, weights: list[Array]) -> float:
    """½·l2·Σw² over the weights, not the biases."""
    return 0.5 * l2 * sum(float(np.square(w, dtype=np.float64).sum()) for w in weights)


def count_correct(
    net: Architecture, z: Array, y: Array, sample_weight: Array | None = None
) -> float:
    """Return how many rows are classified correctly, or their weight; NaN for regression.

    The class is that of the largest z, or of the largest output if the output activation is custom,
    since it may not increase; for one output the sign of z decides. A row of several independent
    binary targets counts as the fraction of its known targets that are correct.
    """
    if net.n_out == 1 or (net.independent and y.ndim == 2):
        if net.regression:
            return math.nan
        t = y.reshape(len(y), -1)
        known = ~np.isnan(t)
        right = (((z > 0) == (t > 0.5)) & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    else:
        if net.custom(net.activations[-1]):
            z = activation_of(net, -1, z)
        if y.ndim == 2 and net.regression:
            return math.nan
        right = z.argmax(axis=1) == (y if y.ndim == 1 else y.argmax(axis=1))
    return float(right.sum() if sample_weight is None else (right * sample_weight).sum())


def activation_gradient(
    net: Architecture,
    layer: int,
    z: Array,
    norm: list[Array],
    running: list[Array],
    mask: Array | None,
    da: Array,
    dnorm: list[Array],
) -> Array:
    """Return ∂loss/∂z of a hidden layer for da, that of what ``activate`` returns times the mask,
    and write the gradients of the parameters of its normalisation.
    """
    kind = net.norm(layer)
    if kind is None:
        dz = da * derivative_of(net, layer, z)
        return dz if mask is None else dz * mask
    if mask is not None:
        da = da * mask
    if net.norm_after:
        a = activation_of(net, layer, z)
        dz = norms.normalize_gradient(kind, a, norm, running, da, dnorm)
        return dz * derivative_of(net, layer, z)
    dy = da * derivative_of(net, layer, norms.normalize(kind, z, norm, running))
    return norms.normalize_gradient(kind, z, norm, running, dy, dnorm)


def backward(
    net: Architecture,
    weights: list[Array],
    scales: Vectors,
    running: Vectors,
    hs: list[Array],
    zs: list[Array],
    dz: Array,
    masks: list[Array],
    dweights: list[Array],
    dbiases: list[Array],
    dscales: Vectors,
    lowest: int = 0,
) -> tuple[Array, Array]:
    """Write the gradients, from the last layer to ``lowest`` (Nielsen 2015, BP1-BP4); return those
    of z and of the outputs of that layer.

    ``dh``, the gradient of a layer's output, also goes past a residual layer to its input.
    """
    dh = dz
    for k in reversed(range(lowest, net.n_layers)):
        dweights[k][...] = multiply(net, k, hs[k].T, dz)
        dbiases[k][...] = dz.sum(axis=0)
        if net.subtracts_bias(k) and not running[k]:
            dbiases[k][...] = 0
        if k > lowest:
            dz = multiply(net, k, dz, weights[k].T)
            dh = dz + dh if net.adds_input(k) else dz
            mask = masks[k - 1] if masks else None
            below = net, k - 1, zs[k - 1], scales[k - 1], running[k - 1]
            dz = activation_gradient(*below, mask, dh, dscales[k - 1])
    return dz, dh


def input_gradient(net: Architecture, weights: list[Array], dz: Array, dh: Array) -> Array:
    """Return the gradient of the first layer's input (m, n_in) from what ``backward`` returns."""
    dx = multiply(net, 0, dz, weights[0].T)
    return dx + dh if net.adds_input(0) else dx


def update_running(
    net: Architecture, running: Vectors, zs: list[Array], frozen: Collection[int]
) -> None:
    """Move the running statistics of batch norms towards those of the batch, except in frozen
    layers.
    """
    for k in net.batch_layers:
        if k not in frozen:
            z = activation_of(net, k, zs[k]) if net.norm_after else zs[k]
            norms.update_running(cast(BatchNorm, net.norm(k)), z, running[k])


def update(
    optimizer: Optimizer,
    w: Array,
    g: Array,
    state: list[Array],
    step: int,
    rate: float,
    decay: bool,
) -> None:
    """Apply one step of an optimizer in place to parameters w with gradient g.

    ``step`` counts from 1 and is never reset; ``decay`` says whether w are weights (AdamW's weight
    decay leaves biases unchanged). The formulas are in ``updates.py``.
    """
    if optimizer.name not in UPDATE:
        raise ValueError(f"optimizer: found {optimizer.name!r}, which this backend does not know")
    UPDATE[optimizer.name](optimizer, w, g, state, step, rate, decay)


def update_group(
    optimizer: Optimizer,
    group: Group,
    w: Array,
    g: Array,
    state: list[Array],
    step: int,
    rate: float,
) -> None:
    """As ``update``, with the rate and the decays of a group instead of the optimizer's."""
    rate *= group.rate
    if group.decay:
        g = g + group.decay * w
    if group.decoupled:
        w -= rate * group.decoupled * w
    update(optimizer, w, g, state, step, rate, False)


# --- The backend: the functions above applied to a whole data set ---------------------------------


SILENT = np.errstate(all="ignore")
"""Overflow and NaN are results, as in the other backends: NumPy neither warns nor, after
``numpy.seterr``, raises. Those who call the backend check the results."""


class Engine(WithoutFastAnswers):
    """The NumPy backend; ``contract.Engine`` documents the methods."""

    name = "numpy"
    threads = 1

    def __init__(self, net: Architecture, threads: int | None = None) -> None:
        self.net = net

    def depends_on(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    @SILENT
    def forward(self, parameters: Array, x: Inputs, out: Array | None = None) -> Array:
        (weights, biases), scales = self.net.views(parameters), self.net.norm_views(parameters)
        running = self.net.running_views(parameters)
        if out is None:
            out = np.empty((len(x), self.net.n_out), self.net.dtype)
        for rows in _blocks(len(x)):
            block = read_rows(x, rows, self.net.dtype)
            hs, zs = forward(self.net, weights, biases, scales, running, block, [])
            out[rows] = outputs(self.net, scales, running, hs, zs)
        return out

    @SILENT
    def evaluate(
        self,
        parameters: Array,
        x: Inputs,
        y: Array,
        sample_weight: Array | None = None,
        missing: bool = False,
    ) -> Sums:
        net, (weights, biases) = self.net, self.net.views(parameters)
        scales, running = net.norm_views(parameters), net.running_views(parameters)
        loss = correct = weight = 0.0
        for rows in _blocks(len(x)):
            own = None if sample_weight is None else sample_weight[rows]
            block = read_rows(x, rows, net.dtype)
            _, zs = forward(net, weights, biases, scales, running, block, [])
            losses, dz = loss_and_output_gradient(net, zs[-1], y[rows], missing=missing)
            losses, _, total = weigh(losses, dz, own)
            loss += float(losses.sum())
            correct += count_correct(net, zs[-1], y[rows], own)
            weight += total
        return Sums(loss, correct, weight)

    def objective(
        self, data: Data, settings: ObjectiveSettings
    ) -> Callable[[Array], tuple[float, Array]]:
        net, x, y, sample_weight = self.net, data.x, data.y, data.sample_weight
        l2, convention = settings.l2, settings.convention

        @SILENT
        def loss_and_gradient(parameters: Array) -> tuple[float, Array]:
            weights, biases = net.views(parameters)
            gradient = np.empty(net.n_parameters, net.dtype)
            dweights, dbiases = net.views(gradient)
            scales, dscales = net.norm_views(parameters), net.norm_views(gradient)
            rows = read_rows(x, slice(None), net.dtype)
            of_rows: Vectors = [[] for _ in weights]
            hs, zs = forward(net, weights, biases, scales, of_rows, rows, [])
            losses, dz = loss_and_output_gradient(net, zs[-1], y, convention, data.missing)
            losses, dz, total = weigh(losses, dz, sample_weight, convention)
            parts = dweights, dbiases, dscales
            backward(net, weights, scales, of_rows, hs, zs, dz, [], *parts)
            decay = l2 / total if convention == "sklearn" else l2
            for w, dw in zip(weights, dweights, strict=True):
                dw += decay * w
            return float(losses.sum()) / total + penalty(decay, weights), gradient

        return loss_and_gradient

    def trainer(
        self,
        parameters: Array,
        state: list[Array],
        data: Data,
        settings: TrainerSettings,
    ) -> Trainer:
        return Trainer(self.net, parameters, state, data, settings)

    def tape(self) -> Tape:
        return Tape(self.net)

    @SILENT
    def update(
        self, parameters: Array, state: list[Array], gradient: Array, settings: UpdateSettings
    ) -> None:
        net, o, how = self.net, settings.optimizer, (settings.updates + 1, settings.rate)
        arrays, gradients = arrays_of(net, parameters), arrays_of(net, gradient)
        states = [arrays_of(net, slot) for slot in state]
        for k in range(net.n_layers):
            for j, w in enumerate(arrays[k] if k not in settings.frozen else ()):
                slots = [slot[k][j] for slot in states]
                if settings.groups:
                    group = settings.groups[k][j]
                    update_group(o, group, w, gradients[k][j], slots, *how)
                else:
                    update(o, w, gradients[k][j], slots, *how, j == 0)


class Tape:
    """The passes over one batch; ``contract.Tape`` documents the methods."""

    def __init__(self, net: Architecture) -> None:
        self.net = net
        self._gradient = np.empty(0, net.dtype)

    @SILENT
    def forward(self, parameters: Array, x: Inputs, how: Pass) -> None:
        net, draws = self.net, Draws(self.net, how.seed)
        self._weights, biases = net.views(parameters)
        self._scales, running = net.norm_views(parameters), net.running_views(parameters)
        of_rows = [how.training and k not in how.frozen for k in range(net.n_layers)]
        self._running = [[] if of_rows[k] else part for k, part in enumerate(running)]
        rows = read_rows(x, slice(None), net.dtype)
        self._masks: list[Array] = []
        self._input_mask, noises = None, []
        if how.training:
            place = how.epoch, how.first_row, len(rows)
            rows = draws.changed_inputs(rows, how.epoch, how.first_row)
            self._masks, noises = draws.masks(*place), draws.noises(*place)
            self._input_mask = draws.input_mask(*place)
        layers = self._weights, biases, self._scales, self._running
        self._hs, self._zs = forward(net, *layers, rows, self._masks, noises)
        if how.training:
            update_running(net, running, self._zs, how.frozen)

    def inputs(self) -> Array:
        return self._hs[0]

    def logits(self) -> Array:
        return self._zs[-1].copy()

    @SILENT
    def outputs(self) -> Array:
        return activation_of(self.net, -1, self._zs[-1].copy())

    @SILENT
    def loss(
        self, y: Array, sample_weight: Array | None = None, missing: bool = False
    ) -> tuple[float, Array]:
        losses, dz = loss_and_output_gradient(self.net, self._zs[-1], y, missing=missing)
        losses, dz, total = weigh(losses, dz, sample_weight)
        return float(losses.sum()) / total, dz

    @SILENT
    def output_gradient(self, d_outputs: Array) -> Array:
        z = self._zs[-1]
        return through_activation(self.net, z, activation_of(self.net, -1, z), d_outputs)

    @SILENT
    def backward(self, d_logits: Array, inputs: bool) -> Array | None:
        net, weights = self.net, self._weights
        self._gradient = np.empty(net.n_parameters, net.dtype)
        parts = *net.views(self._gradient), net.norm_views(self._gradient)
        layers = weights, self._scales, self._running, self._hs, self._zs
        found = backward(net, *layers, d_logits, self._masks, *parts)
        if not inputs:
            return None
        dx = input_gradient(net, weights, *found)
        return dx if self._input_mask is None else dx * self._input_mask

    def gradient(self) -> Array:
        return self._gradient


class Trainer:
    """The mini-batch loop; ``contract.Trainer`` documents the methods."""

    stored_is_finite = works_on_copies = False

    def __init__(
        self,
        net: Architecture,
        parameters: Array,
        state: list[Array],
        data: Data,
        settings: TrainerSettings,
    ) -> None:
        self.net, self.parameters = net, parameters
        self.weights, self.biases = net.views(parameters)
        self.scales, self._running = net.norm_views(parameters), net.running_views(parameters)
        frozen = settings.frozen
        self.running = [part if k in frozen else [] for k, part in enumerate(self._running)]
        self._average = state[-1] if settings.ema else None
        slots = state[:-1] if settings.ema else state
        self._arrays, self._states = arrays_of(net, parameters), [arrays_of(net, s) for s in slots]
        gradient = np.empty(net.n_parameters, net.dtype)
        self.gradients, self._dscales = net.views(gradient), net.norm_views(gradient)
        self._gradients = arrays_of(net, gradient)
        self._vectors = [parameters, *state]
        self._before = [np.empty_like(vector) for vector in self._vectors]
        self.data, self.settings, self.draws = data, settings, Draws(net, settings.seed)
        self.done, self.sums, self.diverged = 0, Sums(0.0, 0.0, 0.0), False
        self._in_update = False
        self._lowest = lowest_trained(net.n_layers, settings.frozen)
        self._order: tuple[int, Array] | None = None
        self._given: Array | None = None

    def order(self, rows: Array) -> None:
        """Use this order of the rows from the next epoch on."""
        self._order, self._given = None, rows.astype(np.intp)

    def steps(self, epoch: int, first: int, rates: Array, updates: int) -> Sums:
        """Train on batches first, first + 1, … of an epoch, one per learning rate."""
        self.done, self.diverged = 0, False
        return self._steps(epoch, first, rates, updates)

    @SILENT
    def _steps(self, epoch: int, first: int, rates: Array, updates: int) -> Sums:
        net, settings, data = self.net, self.settings, self.data
        dweights, dbiases = self.gradients
        sums = self.sums if first else Sums(0.0, 0.0, 0.0)
        for i, rate in enumerate(rates.tolist()):
            rows, x, y, masks, noises = self.batch(epoch, first + i)
            own = None if data.sample_weight is None else data.sample_weight[rows]
            layers = self.weights, self.biases, self.scales, self.running
            hs, zs = forward(net, *layers, x, masks, noises)
            losses, dz = loss_and_output_gradient(net, zs[-1], y, settings.convention, data.missing)
            losses, dz, total = weigh(losses, dz, own, settings.convention)
            if settings.watch and not np.isfinite(losses).all():
                self.diverged = True
                break
            sums = self._added(sums, losses, total, zs[-1], y, own)
            if total == 0:
                self.done, self.sums = i + 1, sums
                continue
            backward(
                *(net, self.weights, self.scales, self.running, hs, zs, dz, masks),
                *(dweights, dbiases, self._dscales, self._lowest),
            )
            trained = [k for k in range(self._lowest, net.n_layers) if k not in settings.frozen]
            penalties.penalize(self._l2(total), settings.l1, self.weights, dweights, trained)
            if settings.clip_norm:
                penalties.clip(settings.clip_norm, [g for k in trained for g in self._gradients[k]])
            for vector, before in zip(self._vectors, self._before, strict=True):
                before[...] = vector
            try:
                self._in_update = True
                update_running(net, self._running, zs, settings.frozen)
                self._update(updates + i + 1, rate, trained)
                self.done, self.sums, self._in_update = i + 1, sums, False
            except BaseException:
                self._undo()
                raise
        return self.sums

    def _undo(self) -> None:
        """Undo a step that was interrupted between the updates of two layers.

        A second interrupt can stop this too; ``store`` calls it again.
        """
        if self._in_update:
            for vector, before in zip(self._vectors, self._before, strict=True):
                vector[...] = before
            self._in_update = False

    def _l2(self, total: float) -> float:
        """The factor of L2 for a batch of this weight."""
        settings = self.settings
        return settings.l2 / total if settings.convention == "sklearn" else settings.l2

    def _added(
        self, sums: Sums, losses: Array, total: float, z: Array, y: Array, own: Array | None
    ) -> Sums:
        """Add the weighted losses of a batch and its correct rows to the sums of the epoch."""
        mean, weight = float(losses.sum()) / total if total else 0.0, total
        if self.settings.convention == "keras":
            own = None
        elif self.settings.convention == "sklearn":
            weight, own = float(len(losses)), None
            mean += penalty(self._l2(total), self.weights) if total else 0.0
        return Sums(
            sums.loss + mean * weight,
            sums.correct + count_correct(self.net, z, y, own),
            sums.weight + weight,
        )

    def _update(self, step: int, rate: float, trained: list[int]) -> None:
        settings = self.settings
        settings = self.settings
        o, factors, groups = settings.optimizer, settings.layer_rates, settings.groups
        for k in trained:
            own = rate * factors[k] if factors else rate
            for j, (w, g) in enumerate(zip(self._arrays[k], self._gradients[k], strict=True)):
                slots = [state[k][j] for state in self._states]
                if groups:
                    update_group(o, groups[k][j], w, g, slots, step, own)
                else:
                    update(o, w, g, slots, step, own, j == 0)
            if self.settings.max_norm:
                penalties.limit_units(self.settings.max_norm, self.weights[k])
        if self._average is not None:
            # Also that of frozen layers, which approaches their parameters.
            offset = self.settings.ema_offset
            average(self._average, self.parameters, self.settings.ema, step - offset)

    def batch(self, epoch: int, index: int) -> tuple[Array, Array, Array, list[Array], list[Array]]:
        """Return the indices of the rows of a batch, the rows with noise and dropout, their
        targets, and dropout masks and noise of the hidden layers.
        """
        data, settings = self.data, self.settings
        n = len(data.x)
        if self._order is None or self._order[0] != epoch:
            order = self._given
            if order is None:
                order = np.arange(n)
                if settings.shuffle:
                    order = philox.permutation(settings.seed, epoch, n)
            self._order = epoch, order
        start = index * settings.batch_size
        rows = self._order[1][start : start + settings.batch_size]
        x = read_rows(data.x, rows, self.net.dtype)
        place = epoch, start, len(rows)
        x = self.draws.changed_inputs(x, epoch, start)
        return rows, x, data.y[rows], self.draws.masks(*place), self.draws.noises(*place)

    def evaluate(
        self,
        x: Inputs,
        y: Array,
        sample_weight: Array | None = None,
        missing: bool = False,
    ) -> Sums:
        parameters = self.parameters if self._average is None else self._average
        return Engine(self.net).evaluate(parameters, x, y, sample_weight, missing)

    def would_store_finite(self) -> bool:
        """Unknown: the trainer works on the caller's vectors, which the caller can check."""
        return False

    def store(self) -> None:
        """Undo an incomplete step; otherwise nothing, since training is in place."""
        self._undo()


def arrays_of(net: Architecture, parameters: Array) -> Vectors:
    """Return each layer's weights and biases, and scale and shift of its normalisation."""
    layers = zip(*net.views(parameters), net.norm_views(parameters), strict=True)
    return [[w, b, *scales] for w, b, scales in layers]


def _blocks(n: int, rows: int = 4096) -> list[slice]:
    return [slice(i, i + rows) for i in range(0, n, rows)]
