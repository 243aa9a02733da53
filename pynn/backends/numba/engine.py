"""``Engine`` and ``Trainer`` of the Numba backend."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np

from ...arrays.sparse import Sparse
from ...arrays.standard import Standardized
from ...arrays.vectors import finite
from ...spec import philox
from ...spec.architecture import Architecture
from ...spec.groups import Groups
from ...spec.optimizers import Optimizer
from .. import gaps
from ..activations import softmax_gradient
from ..contract import (
    Data,
    Inputs,
    ObjectiveSettings,
    Pass,
    Sums,
    TrainerSettings,
    UpdateSettings,
    WithoutFastAnswers,
    lowest_trained,
    why_numba,
)
from ..draws import Draws
from .loop import compiled_permutation, compiled_run
from .parameters import Weights, carve_block, chunk_rows, flat_source
from .plan import (
    AT_APPLY,
    AT_BACK,
    AT_LOSS,
    AT_OUTPUTS,
    AT_READ,
    AT_SUM,
    AVERAGED,
    BATCH,
    BY_HALF,
    BY_LABEL,
    BY_LARGEST,
    BY_ROWS,
    C1,
    C1_REST,
    C2,
    C2_REST,
    CENTERED,
    CHUNK,
    CLIPS,
    COUNTED,
    COUPLED,
    CUSTOM,
    DIVERGED,
    DONE,
    DZ,
    EPOCH,
    EPSILON,
    EVALUATE,
    FACTOR,
    FIRST_BATCH,
    FIRST_ROW,
    FORWARD,
    FROZEN,
    GRADIENT,
    H_ROW,
    HAS_LABELS,
    INPUT_KEPT,
    INPUT_THRESHOLD,
    INSIDE,
    KEPT,
    L1,
    L2,
    LIMITS_UNITS,
    LOSS,
    LOSS_ADDRESS,
    LOWEST,
    MISSING,
    N_IN,
    N_OUT,
    N_TARGETS,
    NOT_COUNTED,
    OPTIMIZER,
    OUTPUT_LOSS,
    ROWS,
    SEED,
    SETTINGS,
    SHUFFLED,
    STAGE,
    STREAM,
    TASK,
    TRAIN,
    UPDATE_RULE,
    UPDATES,
    WATCH,
    WEIGHTED,
    X_COLUMN,
    X_KIND,
    X_ROW,
    X_START,
    Z_ROW,
    H,
    Plan,
    Z,
)
from .threads import FLOPS, Pace, call, default_numba_threads

Array = np.ndarray


class Job:
    """One task (a number of ``plan``) on one data set, which can run from any position in it."""

    def __init__(
        self,
        weights: Weights,
        threads: int,
        task: int,
        data: Data,
        batch_size: int,
        optimizer: Optimizer | None = None,
        l2: float = 0.0,
        at_once: bool = False,
    ) -> None:
        net, n = weights.net, len(data.x)
        x: Any = data.x  # not sparse
        y = data.y if task > FORWARD else None
        chunk = n if at_once else chunk_rows(net, min(batch_size, n))
        layers = weights.layers.copy()
        block = carve_block(layers, chunk, net.dtype)
        settings = settings_of(weights, optimizer)
        settings[[TASK, ROWS, BATCH, CHUNK]] = task, n, batch_size, chunk
        settings[COUNTED] = rule_to_count(net, y)
        settings[MISSING] = data.missing
        inputs = flat_inputs(x, settings)
        labels, goals = flat_targets(y, net, settings)
        sample_weight = flat_weights(data.sample_weight, settings)
        constants, coefficients = optimizer_constants(net, optimizer, l2)
        groups, decoupled = groups_of(net, optimizer)
        self.plan = Plan(
            layers=layers,
            settings=settings,
            coefficients=coefficients,
            groups=groups,
            decoupled=decoupled,
            constants=constants,
            limits=np.zeros(3),
            squares=np.zeros((0, 0, 0)),
            weights=weights.weights,
            transposed=weights.transposed,
            gradient=weights.gradient,
            state=weights.state,
            block=block,
            x_bytes=inputs[0],
            x_single=inputs[1],
            x_double=inputs[2],
            mean=inputs[3],
            inverse=inputs[4],
            labels=labels,
            targets=goals,
            loss_parameters=loss_parameters(net),
            sample_weight=sample_weight,
            order=np.empty(0, np.int64),
            rates=np.empty(0),
            losses=np.zeros(chunk),
            correct=np.zeros(chunk),
            sums=np.zeros(6),
            out=np.empty(n * net.n_out if task == FORWARD else 0, net.dtype),
            known=np.zeros(
                chunk * 2 * (net.n_out // net.n_targets) if data.missing else 0, net.dtype
            ),
        )
        operations = (6 if task >= GRADIENT else 2) * net.n_parameters * chunk
        self.pace = Pace(threads, operations / FLOPS)

    def run(self, start: int, stop: int) -> Sums:
        """Take the rows of the epoch from ``start`` to ``stop``, in slices between which Python
        handles Ctrl-C.

        Returns
        -------
        Sums
            Those since the start of the epoch.
        """
        if start == 0:
            self.plan.sums[:3] = 0
        function = compiled_run(self.plan.weights.dtype.name)
        position = start
        while position < stop and not self.plan.settings[DIVERGED]:
            threads, chunks = self.pace.choose()
            began, before = time.perf_counter(), position
            position = call(function, self.plan, position, stop, chunks, threads)
            took = time.perf_counter() - began
            done = max(1.0, (position - before) / int(self.plan.settings[CHUNK]))
            self.pace.note(took / done, done)
        return Sums(*self.plan.sums[:3].tolist())


def settings_of(weights: Weights, optimizer: Optimizer | None) -> Array:
    """Return ``settings`` of a plan, of which the task, the data and the run are not set yet."""
    net = weights.net
    settings = np.zeros(SETTINGS, np.int64)
    settings[OUTPUT_LOSS] = LOSS.get(net.loss, CUSTOM)
    if net.custom(net.loss):
        settings[OUTPUT_LOSS] = CUSTOM
        settings[LOSS_ADDRESS] = weights.custom[net.loss].address
    settings[N_TARGETS] = net.n_targets
    settings[STREAM] = philox.DROPOUT
    settings[AVERAGED] = -1
    rate = net.input_dropout
    settings[INPUT_THRESHOLD] = philox.dropout_threshold(rate) if rate else -1
    settings[UPDATE_RULE] = OPTIMIZER[optimizer.name] if optimizer else 0
    return settings


def groups_of(net: Architecture, optimizer: Optimizer | None) -> tuple[Array, Array]:
    """Return ``groups`` and ``decoupled`` of a plan, for equal rates and decays of all layers."""
    groups = np.zeros((net.n_layers, 2, 3), net.dtype)
    groups[:, :, FACTOR] = 1
    decoupled = np.zeros((net.n_layers, 2))
    decoupled[:, 0] = getattr(optimizer, "weight_decay", 0.0)
    return groups, decoupled


def flat_inputs(x: Array | Standardized, settings: Array) -> list[Array]:
    """Return ``x_bytes``, ``x_single`` and ``x_double`` of a plan, and write their strides; then
    ``mean`` and ``inverse``.

    Of the first three, only the array of the dtype of x has elements.
    """
    mean = inverse = np.empty(0)
    if isinstance(x, Standardized):
        mean, inverse = x.standard.mean.view(), x.standard.inverse
        assert isinstance(x.rows, np.ndarray)
        x = x.rows
    flat, start, row, column = flat_source(x)
    kind = ("uint8", "float32", "float64").index(x.dtype.name)
    settings[[X_KIND, X_START, X_ROW, X_COLUMN]] = kind, start, row, column
    inputs = [np.empty(0, dtype) for dtype in (np.uint8, np.float32, np.float64)]
    inputs[kind] = flat
    inputs += [mean, inverse]
    for array in inputs:
        array.flags.writeable = False
    return inputs


def flat_targets(y: Array | None, net: Architecture, settings: Array) -> tuple[Array, Array]:
    """Return ``labels`` and ``targets`` of a plan, one of them empty, and write which one."""
    labels, goals = np.empty(0, np.int32), np.empty(0, net.dtype)
    if y is not None and y.ndim == 2:
        goals = np.asarray(y).reshape(-1)
    elif y is not None:
        if net.n_out == 1:
            raise ValueError("y: found labels for a single output, expected targets (n, 1)")
        labels = np.asarray(y).view()
    settings[HAS_LABELS] = len(labels) > 0
    for array in (labels, goals):
        array.flags.writeable = False
    return labels, goals


def loss_parameters(net: Architecture) -> Array:
    """Return ``loss_parameters`` of a plan."""
    found = () if net.custom(net.loss) else net.loss_function.numbers()
    return np.array(found, net.dtype)


def flat_weights(sample_weight: Array | None, settings: Array) -> Array:
    """Return ``sample_weight`` of a plan, and write whether it has any."""
    weights = np.empty(0) if sample_weight is None else sample_weight.view()
    settings[WEIGHTED] = sample_weight is not None
    weights.flags.writeable = False
    return weights


def optimizer_constants(
    net: Architecture, optimizer: Optimizer | None, l2: float
) -> tuple[Array, Array]:
    """Return ``constants`` and ``coefficients`` of a plan."""
    o: Any = optimizer
    name = "" if optimizer is None else optimizer.name
    c = np.zeros(KEPT + 2 * net.n_layers, net.dtype)
    constants = np.zeros(9)
    c[L2] = l2
    c[INPUT_KEPT] = 1 / (1 - net.input_dropout)
    for k, rate in enumerate(net.dropout):
        c[KEPT + k] = 1 / (1 - rate)
    for k in range(net.n_layers):
        c[KEPT + net.n_layers + k] = net.activation_parameter(k)
    if name in ("momentum", "nesterov"):
        c[C1] = o.momentum
    elif name == "rmsprop":
        c[C1], c[C1_REST], c[C2], c[CENTERED] = o.rho, 1 - o.rho, o.momentum, o.centered
        c[INSIDE if o.epsilon_inside else EPSILON] = o.epsilon
    elif name == "adagrad":
        c[C1], c[C1_REST], c[INSIDE], c[EPSILON] = 1, 1, o.initial, o.epsilon
        if o.epsilon_inside:
            c[INSIDE], c[EPSILON] = o.initial + o.epsilon, 0
    elif hasattr(o, "beta2"):
        c[C1], c[C1_REST], c[C2], c[C2_REST] = o.beta1, 1 - o.beta1, o.beta2, 1 - o.beta2
        fields = ("beta1", "beta2", "epsilon", "momentum_decay")
        constants[:4] = [getattr(o, field, 0.0) for field in fields]
        constants[8] = getattr(o, "epsilon_hat", False)
    return constants, c


def set_groups(plan: Plan, groups: Groups, layer_rates: tuple[float, ...] = ()) -> None:
    """Write the rates and decays of the arrays."""
    if layer_rates:
        plan.groups[:, :, FACTOR] = np.array(layer_rates)[:, None]
    for k, layer in enumerate(groups):
        for j, group in enumerate(layer):
            plan.groups[k, j, [FACTOR, COUPLED]] = group.rate, group.decay
            plan.decoupled[k, j] = group.decoupled


def set_limits(job: Job, settings: TrainerSettings) -> None:
    """Write the factor of L1, the limits of norms, and memory for their sums."""
    plan = job.plan
    plan.coefficients[L1] = settings.l1
    plan.limits[:2] = settings.clip_norm, settings.max_norm
    plan.settings[[CLIPS, LIMITS_UNITS]] = settings.clip_norm > 0, settings.max_norm > 0
    if plan.limits.any():
        widest = int(plan.layers[:, [N_IN, N_OUT]].max()) + 1
        job.plan = plan._replace(squares=np.zeros((2, len(plan.layers), widest)))


def rule_to_count(net: Architecture, y: Array | None) -> int:
    """Return the rule of ``count_correct``, as in ``reference.count_correct``."""
    if y is None:
        return NOT_COUNTED
    if net.n_out == 1 or (net.independent and y.ndim == 2):
        return NOT_COUNTED if net.regression else BY_HALF
    if y.ndim == 1:
        return BY_LABEL
    return NOT_COUNTED if net.regression else BY_LARGEST


def _refuse(net: Architecture, x: Inputs, convention: str = "pynn") -> Array | Standardized:
    """Return x, or raise ValueError for input that this backend does not support."""
    rows = x.rows if isinstance(x, Standardized) else x
    used = {"sparse": isinstance(rows, Sparse), "convention": convention == "sklearn"}
    for gap in [gap for gap in used if used[gap] and gaps.lacks("numba", gap)]:
        name = gaps.GAPS[gap].feature.replace("`", "")
        others = gaps.having(gap, "functions") if net.functions else gaps.having(gap)
        raise ValueError(
            f"backend: found 'numba'{why_numba(net)}, which does not support {name}; "
            f"expected backend={' or '.join(map(repr, others))}"
            + (", or dense rows" if gap == "sparse" else "")
        )
    return cast("Array | Standardized", x)


class Engine(WithoutFastAnswers):
    """The Numba backend: see ``contract.Engine``.

    Parameters
    ----------
    net
        What to compute.
    threads
        The most threads to use; None takes the default of ``limits``. Steps too
        small for several threads run on fewer.

    Raises
    ------
    ValueError
        If a custom function cannot be compiled.
    """

    name = "numba"

    def __init__(self, net: Architecture, threads: int | None = None) -> None:
        self.net = net
        self.custom: dict[str, Any] = {}
        if net.functions:
            from . import custom

            self.custom = {
                function.name: custom.compiled(function, net.dtype) for function in net.functions
            }
        self._threads = threads

    @property
    def threads(self) -> int:
        return default_numba_threads() if self._threads is None else self._threads

    def depends_on(self) -> dict[str, str]:
        return {"numba": numba.__version__}

    def forward(self, parameters: Array, x: Inputs, out: Array | None = None) -> Array:
        x = _refuse(self.net, x)
        weights = Weights(self.net, self.custom, parameters, [], learning=False)
        job = Job(weights, self.threads, FORWARD, Data(x, np.empty(0)), len(x))
        job.run(0, len(x))
        found = job.plan.out.reshape(len(x), self.net.n_out)
        if out is None:
            return found
        out[...] = found
        return out

    def evaluate(
        self,
        parameters: Array,
        x: Inputs,
        y: Array,
        sample_weight: Array | None = None,
        missing: bool = False,
    ) -> Sums:
        weights = Weights(self.net, self.custom, parameters, [], learning=False)
        data = Data(_refuse(self.net, x), y, sample_weight, missing)
        return Job(weights, self.threads, EVALUATE, data, len(x)).run(0, len(x))

    def objective(
        self, data: Data, settings: ObjectiveSettings
    ) -> Callable[[Array], tuple[float, Array]]:
        _refuse(self.net, data.x, settings.convention)
        net, n, l2 = self.net, len(data.x), settings.l2

        def loss_and_gradient(parameters: Array) -> tuple[float, Array]:
            weights = Weights(net, self.custom, parameters, [], learning=True)
            job = Job(weights, self.threads, GRADIENT, data, n)
            job.plan.settings[BY_ROWS] = settings.convention == "keras"
            sums = job.run(0, n)
            loss = sums.loss / sums.weight
            gradient = np.empty_like(parameters)
            weights.copy(weights.gradient, gradient)
            for w, dw in zip(net.views(parameters)[0], net.views(gradient)[0], strict=True):
                dw += l2 * w
                loss += 0.5 * l2 * float(np.square(w, dtype=np.float64).sum())
            return loss, gradient

        return loss_and_gradient

    def trainer(
        self,
        parameters: Array,
        state: list[Array],
        data: Data,
        settings: TrainerSettings,
    ) -> Trainer:
        _refuse(self.net, data.x, settings.convention)
        optimizer = settings.optimizer
        if optimizer.name not in OPTIMIZER:
            raise ValueError(
                f"optimizer: found {optimizer.name!r}, which this backend does not know"
            )
        weights = Weights(self.net, self.custom, parameters, state, learning=True)
        batch_size, l2 = settings.batch_size, settings.l2
        job = Job(weights, self.threads, TRAIN, data, batch_size, optimizer, l2)
        job.plan.settings[WATCH] = settings.watch
        job.plan.settings[BY_ROWS] = settings.convention == "keras"
        if settings.ema:
            job.plan.settings[AVERAGED] = optimizer.slots
            job.plan.constants[6:8] = settings.ema, settings.ema_offset
        set_limits(job, settings)
        job.plan.layers[list(settings.frozen), FROZEN] = 1
        set_groups(job.plan, settings.groups, settings.layer_rates)
        job.plan.settings[LOWEST] = lowest_trained(self.net.n_layers, settings.frozen)
        return Trainer(weights, job, self.threads, settings.seed, settings.shuffle)

    def tape(self) -> Tape:
        return Tape(self.net, self.custom, self.threads)

    def update(
        self, parameters: Array, state: list[Array], gradient: Array, settings: UpdateSettings
    ) -> None:
        weights = Weights(self.net, self.custom, parameters, state, learning=True)
        weights.copy(gradient, weights.gradient)
        row = Data(np.zeros((1, self.net.n_in), self.net.dtype), NO_TARGETS)
        job = Job(weights, 1, TRAIN, row, 1, settings.optimizer)
        set_groups(job.plan, settings.groups)
        job.plan.layers[list(settings.frozen), FROZEN] = 1
        job.plan.settings[UPDATES] = settings.updates
        # The stage is that of a clipped gradient, with the factor 1.
        job.plan.limits[2] = 1
        job.plan.settings[[STAGE, CLIPS]] = AT_APPLY, 1
        plan = job.plan._replace(rates=np.array([settings.rate]))
        threads = self.threads if self.net.n_parameters > UPDATE_VALUES else 1
        call(compiled_run(self.net.dtype), plan, 0, 1, 1, threads)
        weights.store()


NO_TARGETS: Any = None
"""In ``Data`` of passes that compute no loss."""
UPDATE_VALUES = 1 << 18
"""Parameters from which on several threads share an update with a given gradient."""


class Tape:
    """One batch; see ``contract.Tape``.

    The gradients of outputs and of x, which no training has, are computed with NumPy.
    """

    def __init__(self, net: Architecture, custom: dict[str, Any], threads: int) -> None:
        self.net, self._custom, self._threads = net, custom, threads

    def forward(self, parameters: Array, x: Inputs, how: Pass) -> None:
        x = _refuse(self.net, x)
        self._weights = Weights(self.net, self._custom, parameters, [], learning=True)
        data = Data(x, NO_TARGETS)
        self._job = Job(self._weights, 1, GRADIENT, data, len(x), at_once=True)
        settings, self._how = self._job.plan.settings, how
        settings[TASK] = TRAIN if how.training else GRADIENT
        settings[[SEED, EPOCH]] = np.uint64(how.seed).astype(np.int64), how.epoch
        # Dropout depends on the place of a row, from which the row is read too.
        if how.training:
            settings[FIRST_ROW] = how.first_row
            settings[X_START] -= how.first_row * settings[X_ROW]
        self._run(AT_READ)
        self._z = self._matrix(Z, -1).copy()
        self._consumed = False

    def _run(self, stage: int) -> None:
        """Run a stage for all rows."""
        plan, rows = self._job.plan, len(self._job.plan.losses)
        enough = 2 * self.net.n_parameters * rows > SHARED_FLOPS
        plan.settings[STAGE] = stage
        function = compiled_run(self.net.dtype)
        call(function, plan, 0, rows, 1, self._threads if enough else 1)

    def _matrix(self, name: int, layer: int) -> Array:
        """A view of z or dz of a layer (rows, n_out)."""
        plan = self._job.plan
        of, rows = plan.layers[layer], len(plan.losses)
        begin, row = int(of[name]), int(of[Z_ROW])
        return plan.block[begin : begin + rows * row].reshape(rows, row)[:, : of[N_OUT]]

    def _restore(self) -> None:
        """Write the logits over what replaced them."""
        self._matrix(Z, -1)[...] = self._z

    def inputs(self) -> Array:
        plan = self._job.plan
        of, rows = plan.layers[0], len(plan.losses)
        begin, row = int(of[H]), int(of[H_ROW])
        return plan.block[begin : begin + rows * row].reshape(rows, row)[:, : of[N_IN]].copy()

    def logits(self) -> Array:
        return self._z.copy()

    def outputs(self) -> Array:
        self._restore()
        self._run(AT_OUTPUTS)
        return self._matrix(DZ, -1).copy()

    def loss(
        self, y: Array, sample_weight: Array | None = None, missing: bool = False
    ) -> tuple[float, Array]:
        net, settings = self.net, self._job.plan.settings
        labels, goals = flat_targets(y, net, settings)
        weights = flat_weights(sample_weight, settings)
        settings[MISSING] = missing
        rows = len(self._z)
        known = np.zeros(rows * 2 * (net.n_out // net.n_targets) if missing else 0, net.dtype)
        self._job.plan = self._job.plan._replace(
            labels=labels, targets=goals, sample_weight=weights, known=known
        )
        self._restore()
        self._run(AT_LOSS)
        sums = self._job.plan.sums
        return float(sums[3] / sums[5]), self._matrix(DZ, -1).copy()

    def output_gradient(self, d_outputs: Array) -> Array:
        a = self.outputs()  # which writes f'(z) over z
        if self.net.activations[-1] == "softmax":
            return softmax_gradient(a, d_outputs)
        return d_outputs * self._matrix(Z, -1)

    def backward(self, d_logits: Array, inputs: bool) -> Array | None:
        net = self.net
        if self._consumed:
            self._run(AT_READ)
        self._consumed = any(net.residual)
        self._matrix(DZ, -1)[...] = d_logits
        self._run(AT_BACK)
        if not inputs:
            return None
        dx: Array = self._matrix(DZ, 0) @ net.views(self._weights.parameters)[0][0].T
        if net.adds_input(0):
            dx += self._matrix(Z, 0)
        how = self._how
        mask = None
        if how.training:
            mask = Draws(net, how.seed).input_mask(how.epoch, how.first_row, len(dx))
        return dx if mask is None else dx * mask

    def gradient(self) -> Array:
        gradient = np.empty(self.net.n_parameters, self.net.dtype)
        self._run(AT_SUM)
        self._weights.copy(self._weights.gradient, gradient)
        return gradient


SHARED_FLOPS = 4e6
"""Operations from which on several threads share a pass of a tape."""


class Trainer:
    """The mini-batch loop; see ``contract.Trainer``."""

    stored_is_finite, works_on_copies = False, True

    def __init__(self, weights: Weights, job: Job, threads: int, seed: int, shuffle: bool) -> None:
        self._weights, self._job, self._threads = weights, job, threads
        self._seed, self._shuffle = np.uint64(seed & 0xFFFFFFFFFFFFFFFF), shuffle
        job.plan.settings[SHUFFLED] = shuffle
        job.plan.settings[SEED] = self._seed.astype(np.int64)
        self._epoch: int | None = None
        self._given = False
        self.done, self.diverged = 0, False

    @property
    def done(self) -> int:
        return int(self._job.plan.settings[DONE])

    @done.setter
    def done(self, count: int) -> None:
        self._job.plan.settings[DONE] = count

    @property
    def sums(self) -> Sums:
        return Sums(*self._job.plan.sums[:3].tolist())

    @sums.setter
    def sums(self, found: Sums) -> None:
        self._job.plan.sums[:3] = found

    def order(self, rows: Array) -> None:
        """Take the rows in this order from the next epoch on."""
        job = self._job
        n = int(job.plan.settings[ROWS])
        if len(rows) != n or rows.min() < 0 or rows.max() >= n:
            raise ValueError(f"rows: found {rows!r}, expected {n} numbers from 0 to {n - 1}")
        order = np.array(rows, dtype=job.plan.order.dtype)
        job.plan, self._given = job.plan._replace(order=order), True
        job.plan.settings[SHUFFLED] = True

    def steps(self, epoch: int, first: int, rates: Array, updates: int) -> Sums:
        """Train on batches first, first + 1, … of an epoch, one for each learning rate."""
        job = self._job
        settings = job.plan.settings
        n, batch = int(settings[ROWS]), int(settings[BATCH])
        settings[DONE] = settings[DIVERGED] = 0
        if self._shuffle and not self._given and self._epoch != epoch:
            order = compiled_permutation()(self._seed, np.uint64(epoch & 0xFFFFFFFF), n)
            job.plan, self._epoch = job.plan._replace(order=order), epoch
        job.plan = job.plan._replace(rates=np.array(rates, np.float64))
        settings[[EPOCH, FIRST_BATCH, UPDATES]] = epoch, first, updates
        try:
            return job.run(first * batch, min(n, (first + len(rates)) * batch))
        finally:
            self.diverged = bool(settings[DIVERGED])

    def evaluate(
        self,
        x: Inputs,
        y: Array,
        sample_weight: Array | None = None,
        missing: bool = False,
    ) -> Sums:
        """Return the sums with the parameters as they stand or their average, without dropout."""
        weights = self._weights
        data = Data(_refuse(weights.net, x), y, sample_weight, missing)
        if self._job.plan.settings[AVERAGED] >= 0:
            padded, _ = weights.pairs()[-1]
            parameters = np.empty_like(weights.parameters)
            weights.copy(padded, parameters)
            weights = Weights(weights.net, weights.custom, parameters, [], learning=False)
        return Job(weights, self._threads, EVALUATE, data, len(x)).run(0, len(x))

    def would_store_finite(self) -> bool:
        """Whether all that ``store`` would write is finite."""
        return finite(*(padded for padded, _ in self._weights.pairs()))

    def store(self) -> None:
        """Write parameters and state back to the vectors the trainer was made with."""
        self._weights.store()
