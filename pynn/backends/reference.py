"""The whole algorithm in NumPy, written to be read: the specification of every backend.

One training step takes a mini-batch through ``forward``, ``loss_and_output_gradient``, ``backward``
and ``update``; ``Trainer.steps`` is the loop around them. The compiled backends do the same things
in the same order under the same names and are tested against this file step by step.

Shapes: a batch has m rows; layer k maps n_in to n_out units.
    x or h  (m, n_in)     what goes into a layer
    w, b    (n_in, n_out), (n_out,)
    z       (m, n_out)    = h @ w + b, before the activation
    a       (m, n_out)    = f(z); after dropout it is the next layer's h
    dz      (m, n_out)    ∂loss/∂z
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np

from ..arrays.sparse import Sparse
from ..spec import philox
from ..spec.architecture import Architecture
from ..spec.names import LEAKY_SLOPE
from ..spec.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamHat,
    AdamW,
    Momentum,
    Nesterov,
    Optimizer,
    RMSProp,
)
from .contract import Data, ObjectiveSettings, TrainerSettings

Array = np.ndarray

# --- Activations: f(z), and f'(z) -----------------------------------------------------------------


def sigmoid(z: Array) -> Array:
    # e^-|z| never overflows, whatever the sign of z. In float64, since NumPy's float32 exp is less
    # exact; and e - e·q is q with fewer roundings that count where e is small.
    e = np.exp(-np.abs(z, dtype=np.float64))
    q = e / (1 + e)
    return np.where(z >= 0, 1 - q, e - e * q).astype(z.dtype)


def softplus(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def normal_cdf(z: Array) -> Array:
    """Φ(z), by erfc, which keeps its relative precision in the lower tail."""
    erfc = np.frompyfunc(math.erfc, 1, 1)
    return 0.5 * np.asarray(erfc(z * -math.sqrt(0.5)), dtype=z.dtype)


def normal_density(z: Array) -> Array:
    return np.exp(-0.5 * z * z) * z.dtype.type(1 / math.sqrt(2 * math.pi))


ACTIVATION: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, z.dtype.type(LEAKY_SLOPE) * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),  # Clevert et al. 2016
    "gelu": lambda z: z * normal_cdf(z),  # Hendrycks and Gimpel 2016, section 2
    "softplus": softplus,
}

DERIVATIVE: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: np.ones_like(z),
    "sigmoid": lambda z: sigmoid(z) * (1 - sigmoid(z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0).astype(z.dtype),
    "leaky_relu": lambda z: np.where(z > 0, z.dtype.type(1), z.dtype.type(LEAKY_SLOPE)),
    "elu": lambda z: np.exp(np.minimum(z, 0)),
    "gelu": lambda z: normal_cdf(z) + z * normal_density(z),
    "softplus": sigmoid,
}


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _of_own(function: Callable[..., Array], *places: Array) -> Array:
    """What a function of the user's own gives; e^-z may overflow on the way to a number."""
    with np.errstate(over="ignore"):
        return np.asarray(function(*places), places[0].dtype)


def activation_of(net: Architecture, layer: int, z: Array) -> Array:
    """f(z) of a layer."""
    name = net.activations[layer]
    own = net.own(name)
    if own is not None:
        return _of_own(own.function, z)
    if name == "softmax":
        return softmax(z)
    return np.exp(z) if name == "exp" else ACTIVATION[name](z)


def derivative_of(net: Architecture, layer: int, z: Array) -> Array:
    """f'(z) of a layer, where f goes number by number."""
    name = net.activations[layer]
    own = net.own(name)
    if own is not None:
        return _of_own(own.derivative, z)
    return np.exp(z) if name == "exp" else DERIVATIVE[name](z)


# --- The passes -----------------------------------------------------------------------------------


def to_bf16(a: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even, kept as float32.

    A bfloat16 is the upper half of a float32: 8 bits of exponent, 8 of precision.
    """
    bits = np.ascontiguousarray(a).view(np.uint32)
    up = np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    rounded: Array = np.where(np.isnan(a), a, (bits + up & np.uint32(0xFFFF0000)).view(np.float32))
    return rounded


def multiply(net: Architecture, layer: int, a: Array, b: Array) -> Array:
    """Return a @ b, one of the three products of a layer: in its precision, summed in its dtype."""
    return to_bf16(a) @ to_bf16(b) if net.rounds(layer) else a @ b


def read_rows(x: Array | Sparse, rows: Array | slice, dtype: str) -> Array:
    """Gather rows of the data set as floats; bytes are pixels and become value / 255."""
    if isinstance(x, Sparse):
        return x.dense(rows, dtype)
    block = x[rows].astype(dtype)
    return block * block.dtype.type(1 / 255) if x.dtype == np.uint8 else block


def forward(
    net: Architecture, weights: list[Array], biases: list[Array], x: Array, masks: list[Array]
) -> tuple[list[Array], list[Array]]:
    """Return every layer's input h and its z.

    ``masks`` holds, for each hidden layer, a factor (m, n_out) on a: 0 where dropout silences a
    unit and 1 / (1 - p) where it stays, so that the expected a is unchanged (inverted dropout,
    Srivastava et al. 2014, section 10). It is empty outside training.
    """
    hs, zs = [x], []
    for k in range(net.n_layers):
        zs.append(multiply(net, k, hs[k], weights[k]) + biases[k])
        if k < net.n_layers - 1:
            a = activation_of(net, k, zs[k])
            hs.append(a * masks[k] if masks else a)
    return hs, zs


def loss_and_output_gradient(
    net: Architecture, z: Array, y: Array, convention: str = "pynn"
) -> tuple[Array, Array]:
    """Return the loss of each row (m,), float64, and its gradient dz (m, n_out).

    ``y`` is labels (m,), int, which stand for one-hot targets, or targets (m, n_out).

    cross_entropy          L = Σ y·(log Σ exp z − z)              dz = softmax(z) − y
    binary_cross_entropy   L = mean(softplus(z) − y·z)            dz = (sigmoid(z) − y) / n_out
    mse                    L = mean((f(z) − y)²)                  dz = f'(z)·2·(f(z) − y) / n_out
    poisson                L = mean(exp z − y·z + y·log y − y)    dz = (exp z − y) / n_out
    one of the user's own  L = mean(loss(f(z), y))                dz = f'(z)·gradient / n_out

    Sums and means are over the outputs of a row. Targets of cross_entropy sum to one; that of
    poisson is half the deviance.

    The convention ``"sklearn"`` is that of scikit-learn's multilayer perceptrons: means are sums
    but for mse, whose loss is halved and whose dz is that of ½·Σ(f(z) − y)²; and cross entropies
    are logarithms of the probabilities as they are rounded, none less than the machine epsilon or
    more than one less it.
    """
    n, sums = net.n_out, convention == "sklearn"
    t = np.eye(n, dtype=z.dtype)[y] if y.ndim == 1 else y
    if net.loss == "cross_entropy":
        shifted = z - z.max(axis=1, keepdims=True)
        # The largest of the exponentials is 1. Kept out of the sum it takes no digits from the
        # rest, which is all there is of a loss near 0.
        e = np.exp(shifted)
        e[np.arange(len(e)), z.argmax(axis=1)] = 0
        log_sum = np.log1p(e.sum(axis=1, keepdims=True))
        terms, dz = t * (log_sum - shifted), softmax(z) - t
        if sums:
            terms = -t * np.log(_clipped(softmax(z)))
        return terms.sum(axis=1, dtype=np.float64), dz
    if net.loss == "binary_cross_entropy":
        terms, dz = np.maximum(z, 0) - t * z + np.log1p(np.exp(-np.abs(z))), sigmoid(z) - t
        if sums:
            p = _clipped(sigmoid(z))
            terms = -t * np.log(p) - (1 - t) * np.log(1 - p)
    elif net.loss == "poisson":
        log_t = np.log(np.where(t > 0, t, 1))
        terms, dz = np.exp(z) - t * z + (t * log_t - t), np.exp(z) - t
    else:
        a, own = activation_of(net, -1, z), net.own(net.loss)
        if own is None:
            terms, da = (a - t) ** 2, a - t
        else:
            terms, da = _of_own(own.function, a, t), _of_own(own.gradient, a, t)
        if net.activations[-1] == "softmax":
            dz = a * (da - (a * da).sum(axis=1, keepdims=True))
        else:
            dz = da * derivative_of(net, -1, z)
        if own is None:
            if sums:
                return 0.5 * terms.mean(axis=1, dtype=np.float64), dz
            dz = 2 * dz
        return terms.mean(axis=1, dtype=np.float64), dz / n
    if sums:
        return terms.sum(axis=1, dtype=np.float64), dz
    return terms.mean(axis=1, dtype=np.float64), dz / n


def _clipped(p: Array) -> Array:
    epsilon = np.finfo(p.dtype).eps
    return np.clip(p, epsilon, 1 - epsilon)


def weigh(losses: Array, dz: Array, sample_weight: Array | None) -> tuple[Array, Array, float]:
    """Weigh the rows of a batch: their losses, dz as part of their mean, and the sum of weights.

    In the convention of scikit-learn the sum divides l2 too, and a batch's loss has the L2 term.
    """
    if sample_weight is None:
        return losses, dz / len(dz), float(len(dz))
    total = float(sample_weight.sum())
    return losses * sample_weight, dz * (sample_weight / total)[:, None].astype(dz.dtype), total


def penalty(l2: float, weights: list[Array]) -> float:
    """½·l2·Σw² over the weights, not the biases."""
    return 0.5 * l2 * sum(float(np.square(w, dtype=np.float64).sum()) for w in weights)


def count_correct(net: Architecture, z: Array, y: Array) -> float:
    """How many rows are classified rightly, by the largest logit or, for one output, its sign.

    By the largest output if its activation is the user's own, which need not rise. Rows of several
    independent yes-or-no targets count by the share that is right. Regression has no right or
    wrong: NaN.
    """
    if net.n_out == 1 or (net.loss == "binary_cross_entropy" and y.ndim == 2):
        if net.regression:
            return math.nan
        t = y.reshape(len(y), -1)
        return float(((z > 0) == (t > 0.5)).mean(axis=1).sum())
    if net.own(net.activations[-1]):
        z = activation_of(net, -1, z)
    if y.ndim == 1:
        return float((z.argmax(axis=1) == y).sum())
    return math.nan if net.regression else float((z.argmax(axis=1) == y.argmax(axis=1)).sum())


def backward(
    net: Architecture,
    weights: list[Array],
    hs: list[Array],
    zs: list[Array],
    dz: Array,
    masks: list[Array],
    dweights: list[Array],
    dbiases: list[Array],
) -> None:
    """Write the gradient of every layer, from the last to the first (Nielsen 2015, BP1-BP4)."""
    for k in reversed(range(net.n_layers)):
        dweights[k][...] = multiply(net, k, hs[k].T, dz)
        dbiases[k][...] = dz.sum(axis=0)
        if k > 0:
            dz = multiply(net, k, dz, weights[k].T)
            dz *= derivative_of(net, k - 1, zs[k - 1])
            if masks:
                dz *= masks[k - 1]


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

    ``step`` counts from 1 and never starts again; ``decay`` says whether w are weights (AdamW's
    weight decay leaves biases alone).
    """
    o = optimizer
    if isinstance(o, SGD):
        w -= rate * g
    elif isinstance(o, Momentum):
        (v,) = state
        v[...] = o.momentum * v - rate * g
        w += v
    elif isinstance(o, Nesterov):
        (v,) = state
        v[...] = o.momentum * v - rate * g
        w += o.momentum * v - rate * g
    elif isinstance(o, RMSProp):
        (s,) = state
        s[...] = o.rho * s + (1 - o.rho) * g * g
        w -= rate * g / (np.sqrt(s) + o.epsilon)
    elif isinstance(o, Adagrad):
        (s,) = state
        s += g * g
        w -= rate * g / (np.sqrt(s) + o.epsilon)
    elif isinstance(o, (Adam, AdamHat, AdamW)):
        m, v = state
        m[...] = o.beta1 * m + (1 - o.beta1) * g
        v[...] = o.beta2 * v + (1 - o.beta2) * g * g
        if isinstance(o, AdamW) and decay:
            w -= rate * o.weight_decay * w
        # The two bias corrections of algorithm 1, moved into the step size and epsilon:
        # m̂ / (√v̂ + ε) = (c / (1 − β₁ᵗ))·m / (√v + c·ε) with c = √(1 − β₂ᵗ).
        c = math.sqrt(1 - o.beta2**step)
        epsilon = o.epsilon if isinstance(o, AdamHat) else c * o.epsilon
        w -= (rate * c / (1 - o.beta1**step)) * m / (np.sqrt(v) + epsilon)
    else:
        raise ValueError(f"optimizer: found {o.name!r}, which this backend does not know")


# --- The backend: the same for a whole data set ---------------------------------------------------


class Engine:
    """The NumPy backend: the contract of ``pynn.backends.Engine`` on the functions above."""

    name = "numpy"
    threads = 1

    def __init__(self, net: Architecture, threads: int | None = None) -> None:
        self.net = net

    def forward(self, parameters: Array, x: Array | Sparse) -> Array:
        weights, biases = self.net.views(parameters)
        out = np.empty((len(x), self.net.n_out), self.net.dtype)
        for rows in _blocks(len(x)):
            _, zs = forward(self.net, weights, biases, read_rows(x, rows, self.net.dtype), [])
            out[rows] = activation_of(self.net, -1, zs[-1])
        return out

    def evaluate(self, parameters: Array, x: Array | Sparse, y: Array) -> tuple[float, float]:
        weights, biases = self.net.views(parameters)
        loss = correct = 0.0
        for rows in _blocks(len(x)):
            _, zs = forward(self.net, weights, biases, read_rows(x, rows, self.net.dtype), [])
            loss += float(loss_and_output_gradient(self.net, zs[-1], y[rows])[0].sum())
            correct += count_correct(self.net, zs[-1], y[rows])
        return loss, correct

    def objective(
        self, data: Data, settings: ObjectiveSettings
    ) -> Callable[[Array], tuple[float, Array]]:
        net, x, y, sample_weight = self.net, data.x, data.y, data.sample_weight
        l2, convention = settings.l2, settings.convention

        def loss_and_gradient(parameters: Array) -> tuple[float, Array]:
            weights, biases = net.views(parameters)
            gradient = np.empty_like(parameters)
            dweights, dbiases = net.views(gradient)
            hs, zs = forward(net, weights, biases, read_rows(x, slice(None), net.dtype), [])
            losses, dz = loss_and_output_gradient(net, zs[-1], y, convention)
            losses, dz, total = weigh(losses, dz, sample_weight)
            backward(net, weights, hs, zs, dz, [], dweights, dbiases)
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


class Trainer:
    """The mini-batch loop; the contract is that of ``pynn.backends.Trainer``."""

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
        self.states = [net.views(s) for s in state]
        self.gradients = net.views(np.empty_like(parameters))
        self._vectors = [parameters, *state]
        self._before = [np.empty_like(vector) for vector in self._vectors]
        self.data, self.settings = data, settings
        self.done, self.sums, self.diverged = 0, (0.0, 0.0), False
        self._order: tuple[int, Array] | None = None
        self._given: Array | None = None

    def order(self, rows: Array) -> None:
        """Take the rows in this order from the next epoch on."""
        self._order, self._given = None, rows.astype(np.intp)

    def steps(self, epoch: int, first: int, rates: Array, updates: int) -> tuple[float, float]:
        """Train on batches first, first + 1, … of an epoch, one for each learning rate."""
        self.done, self.diverged = 0, False
        # Where somebody watches, NumPy need not warn as well, or raise in the middle of a step.
        with np.errstate(all="ignore") if self.settings.watch else contextlib.nullcontext():
            return self._steps(epoch, first, rates, updates)

    def _steps(self, epoch: int, first: int, rates: Array, updates: int) -> tuple[float, float]:
        net, settings, given = self.net, self.settings, self.data.sample_weight
        dweights, dbiases = self.gradients
        loss, correct = self.sums if first else (0.0, 0.0)
        for i, rate in enumerate(rates.tolist()):
            rows, x, y, masks = self.batch(epoch, first + i)
            hs, zs = forward(net, self.weights, self.biases, x, masks)
            losses, dz = loss_and_output_gradient(net, zs[-1], y, settings.convention)
            losses, dz, total = weigh(losses, dz, None if given is None else given[rows])
            if settings.watch and not np.isfinite(losses).all():
                self.diverged = True
                break
            backward(net, self.weights, hs, zs, dz, masks, dweights, dbiases)

            l2, batch_loss = settings.l2, float(losses.sum()) / total
            if settings.convention == "sklearn":
                l2 /= total
                batch_loss += penalty(l2, self.weights)
            loss += batch_loss * len(rows)
            correct += count_correct(net, zs[-1], y)
            for k in range(net.n_layers):
                if l2:
                    dweights[k] += l2 * self.weights[k]
            for vector, before in zip(self._vectors, self._before, strict=True):
                before[...] = vector
            try:
                self._update(updates + i + 1, rate)
                self.done, self.sums = i + 1, (loss, correct)
            except BaseException:  # Ctrl-C, between two layers
                if self.done == i:
                    for vector, before in zip(self._vectors, self._before, strict=True):
                        vector[...] = before
                raise
        return self.sums

    def _update(self, step: int, rate: float) -> None:
        (dweights, dbiases), o = self.gradients, self.settings.optimizer
        for k in range(self.net.n_layers):
            slots_w = [w[k] for w, _ in self.states]
            slots_b = [b[k] for _, b in self.states]
            update(o, self.weights[k], dweights[k], slots_w, step, rate, True)
            update(o, self.biases[k], dbiases[k], slots_b, step, rate, False)

    def batch(self, epoch: int, index: int) -> tuple[Array, Array, Array, list[Array]]:
        """Return the numbers of the rows of a batch, the rows, their targets and dropout masks."""
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
        return rows, x, data.y[rows], self._masks(epoch, start, len(rows))

    def _masks(self, epoch: int, first_row: int, m: int) -> list[Array]:
        net = self.net
        if not any(net.dropout):
            return []
        masks = []
        for k, rate in enumerate(net.dropout):
            shape = (m, net.sizes[k + 1])
            keep = philox.dropout_mask(self.settings.seed, epoch, k, first_row, shape, rate)
            masks.append(keep.astype(net.dtype) * np.dtype(net.dtype).type(1 / (1 - rate)))
        return masks

    def evaluate(self, x: Array | Sparse, y: Array) -> tuple[float, float]:
        return Engine(self.net).evaluate(self.parameters, x, y)

    def would_store_finite(self) -> bool:
        """Not known: parameters and state are not copies, so the caller can check them."""
        return False

    def store(self) -> None:
        """Parameters and state are trained in place: nothing to write back."""


def _blocks(n: int, rows: int = 4096) -> list[slice]:
    return [slice(i, i + rows) for i in range(0, n, rows)]
