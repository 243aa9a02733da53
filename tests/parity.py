"""The parity harness: train one case on a backend and on the reference, and compare the runs.

A test makes a problem (parameters, x, y) for a network, says in a ``Case`` how to train on it, and
compares::

    net = Architecture.build([17, 33, 5], "tanh", dtype=dtype)
    case = Case(optimizer=optimizers.Adam(), rate=0.01)
    run = assert_follows_reference(backend, net, problem(net, 73), case)

``train`` gives the run of one backend. ``assert_identical`` compares two runs of one backend, which
must agree in every bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from pynn.arrays.sparse import Sparse
from pynn.backends import choose
from pynn.backends.contract import Data, Engine, ObjectiveSettings, Trainer, TrainerSettings
from pynn.spec import ELU, LeakyReLU, Parametric, Softplus, names, optimizers
from pynn.spec.architecture import Architecture
from pynn.spec.groups import Groups

_missing = choose.available()
_core: Any = None if _missing["cython"] else import_module("pynn.backends.cython._core")

# Without amx: its float32 and float64 kernels are those of avx512.
ISAS = [isa for isa in _core.info()["isas"] if isa != "amx"] if _core else []
VARIANTS: list[tuple[str, str | None]] = [("cython", isa) for isa in ISAS]
if not _missing["numba"]:
    VARIANTS.append(("numba", None))

TOLERANCE = {"float64": 1e-10, "float32": 1e-3}
"""Largest difference of two runs of 50 steps, relative to the largest weight."""

BF16_GRADIENT = 3e-4
"""Largest difference of a gradient with ``precision="bf16"``, for each layer's weights as in
``of_weights``, and of outputs; an operand that is not rounded makes 5e-4."""

OPTIMIZERS = [
    (optimizers.SGD(), 0.1),
    (optimizers.Momentum(), 0.03),
    (optimizers.Nesterov(), 0.03),
    (optimizers.RMSProp(), 0.003),
    (optimizers.Adagrad(), 0.03),
    (optimizers.Adam(), 0.003),
    (optimizers.AdamHat(epsilon=1e-4), 0.003),
    (optimizers.AdamW(weight_decay=0.1), 0.003),
    (optimizers.AMSGrad(beta2=0.9, weight_decay=0.1), 0.003),
    (optimizers.NAdam(weight_decay=0.1), 0.003),
    (optimizers.Lion(weight_decay=0.1), 0.001),
]
"""Every optimizer with a learning rate that suits it."""

FORMS = [
    (optimizers.RMSProp(momentum=0.8), 0.001),
    (optimizers.RMSProp(rho=0.8, centered=True, epsilon=1e-3), 0.001),
    (optimizers.RMSProp(momentum=0.8, centered=True, epsilon=1e-5, epsilon_inside=True), 0.001),
    (optimizers.RMSProp(epsilon=1e-4, epsilon_inside=True), 0.003),
    (optimizers.Adagrad(initial=0.1), 0.03),
    (optimizers.Adagrad(initial=0.01, epsilon=1e-4, epsilon_inside=True), 0.03),
    (optimizers.AMSGrad(beta2=0.9, epsilon=1e-4, epsilon_hat=True), 0.003),
]
"""Other forms of optimizers."""

PARAMETRIC: list[Parametric] = [LeakyReLU(0.2), ELU(0.6), Softplus(3)]
ACTIVATIONS: list[str | Parametric] = [*names.ACTIVATIONS, *PARAMETRIC]

SEED = 2**40 + 7
"""Key of the permutations and of dropout, of more than 32 bits."""


class Problem(NamedTuple):
    """Initial parameters, and the rows to train on."""

    parameters: np.ndarray
    x: np.ndarray | Sparse
    y: np.ndarray


class Run(NamedTuple):
    """The results of a training."""

    parameters: np.ndarray
    state: list[np.ndarray]
    """The vectors of the optimizer, and the average of the parameters."""
    sums: np.ndarray
    """The ``Sums`` since the epoch began, after each call: (calls, 3)."""

    @property
    def vectors(self) -> list[np.ndarray]:
        return [self.parameters, *self.state]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """How to train.

    Parameters
    ----------
    optimizer, batch_size, l2, shuffle, convention, watch, frozen, layer_rates, groups, l1,
    clip_norm, max_norm, ema, ema_offset
        As in ``TrainerSettings``.
    sample_weight, missing
        As in ``Data``.
    rate
        Learning rate of the first step. It falls at every step, so that an update with the rate of
        the step before it shows.
    steps
        Number of updates; the last epoch may be incomplete.
    threads
        Threads of the engine; the reference ignores them.
    slices
        Steps in a call of ``Trainer.steps``; None for a call per epoch. With slices the compiled
        core also divides each step among its threads in random parts.
    orders
        Orders of the rows, one for each epoch, instead of shuffling.
    """

    optimizer: optimizers.Optimizer = optimizers.SGD()  # noqa: RUF009, as it is immutable
    rate: float = 0.1
    batch_size: int = 10
    l2: float = 0.0
    steps: int = 50
    threads: int = 2
    shuffle: bool = True
    convention: str = "pynn"
    watch: bool = False
    frozen: tuple[int, ...] = ()
    layer_rates: tuple[float, ...] = ()
    groups: Groups = ()
    l1: float = 0.0
    clip_norm: float = 0.0
    max_norm: float = 0.0
    ema: float = 0.0
    ema_offset: int = 0
    sample_weight: np.ndarray | None = None
    missing: bool = False
    slices: int | None = None
    orders: Sequence[np.ndarray] | None = None

    def but(self, **changes: Any) -> Case:
        """This case with other settings."""
        return replace(self, **changes)

    def settings(self) -> TrainerSettings:
        return TrainerSettings(
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            l2=self.l2,
            seed=SEED,
            shuffle=self.shuffle,
            convention=self.convention,
            watch=self.watch,
            frozen=self.frozen,
            layer_rates=self.layer_rates,
            groups=self.groups,
            l1=self.l1,
            clip_norm=self.clip_norm,
            max_norm=self.max_norm,
            ema=self.ema,
            ema_offset=self.ema_offset,
        )

    def rates(self, done: int, count: int) -> np.ndarray:
        """The learning rates of the ``count`` steps after the first ``done``."""
        return self.rate / (1.0 + 0.05 * np.arange(done, done + count))


@contextmanager
def instruction_set(isa: str) -> Iterator[None]:
    """Run the compiled core with an instruction set, its scratch memory poisoned with NaN."""
    before, poisoned = _core.use_isa(isa), _core.poison(True)
    try:
        yield
    finally:
        _core.poison(poisoned)
        _core.use_isa(before)


# --- Problems -------------------------------------------------------------------------------------


def problem(net: Architecture, rows: int, kind: str = "labels", seed: int = 0) -> Problem:
    """Small random parameters, standard normal x, and y of a kind that fits the loss.

    Kinds are labels, soft (rows of shares that add up to 1), counts, yes-no (0 or 1), values,
    positive (above 0) and claims (many are 0).
    """
    rng = np.random.default_rng(seed)
    parameters = rng.normal(scale=0.3, size=net.n_parameters).astype(net.dtype)
    if net.n_statistics:
        parameters = np.concatenate([parameters, np.empty(net.n_statistics, net.dtype)])
        for mean, variance in filter(None, net.running_views(parameters)):
            mean[...], variance[...] = 0, 1
    x = rng.normal(size=(rows, net.n_in)).astype(net.dtype)
    if kind == "labels":
        return Problem(parameters, x, rng.integers(0, net.n_out, rows).astype(np.int32))
    if kind == "soft":
        y = rng.random((rows, net.n_out))
        y /= y.sum(axis=1, keepdims=True)
    elif kind == "counts":
        y = rng.poisson(1.5, (rows, net.n_targets))
    elif kind in ("positive", "claims"):
        y = rng.gamma(2.0, 0.5, (rows, net.n_targets)).round(6) + 1e-3
        y *= (kind == "positive") | (rng.random(y.shape) < 0.4)
    else:
        y = rng.random((rows, net.n_targets)).round(0 if kind == "yes-no" else 6)
    return Problem(parameters, x, y.astype(net.dtype))


def mostly_zeros(net: Architecture, rows: int, share: float = 0.85) -> Problem:
    """A problem with this share of zeros in x, one column all zeros and one all ones."""
    parameters, x, y = problem(net, rows)
    assert isinstance(x, np.ndarray)
    x[np.random.default_rng(5).random(x.shape) < share] = 0
    x[:, 3], x[:, 5] = 0, 1
    return Problem(parameters, x, y)


def some_weights(rows: int) -> np.ndarray:
    """Sample weights of which some are zero, one is large, and none has a short binary form."""
    weights = np.random.default_rng(9).gamma(1.0, size=rows)
    weights[::7], weights[4] = 0.0, 30.0
    return weights


def without_some(given: Problem) -> tuple[Problem, np.ndarray]:
    """A problem with NaN for a third of its targets, all in one row; and the weights of its rows,
    the shares of known targets times weights of which some are zero."""
    y = given.y.copy()
    y[np.random.default_rng(6).random(y.shape) < 0.3] = np.nan
    y[5] = np.nan
    return given._replace(y=y), some_weights(len(y)) * (~np.isnan(y)).mean(axis=1)


def compressed(x: np.ndarray, rng: np.random.Generator, dtype: str) -> Sparse:
    """x in compressed rows, with some zeros among the stored values."""
    data: list[float] = []
    indices: list[int] = []
    indptr = [0]
    for row in x:
        columns = np.flatnonzero((row != 0) | (rng.random(len(row)) < 0.01))
        data.extend(row[columns])
        indices.extend(columns)
        indptr.append(len(indices))
    return Sparse(
        np.array(data, dtype), np.array(indices, np.int32), np.array(indptr, np.int64), x.shape
    )


# --- Runs -----------------------------------------------------------------------------------------


def new_trainer(engine: Engine, given: Problem, case: Case) -> Trainer:
    """A trainer that stores into copies of the parameters and of fresh state."""
    return _trainer(engine, given, case)[0]


def _trainer(engine: Engine, given: Problem, case: Case) -> tuple[Trainer, list[np.ndarray]]:
    parameters = given.parameters.copy()
    state = [np.zeros_like(parameters) for _ in range(case.optimizer.slots)]
    if case.ema:
        state.append(parameters.copy())
    data = Data(given.x, given.y, case.sample_weight, case.missing)
    return engine.trainer(parameters, state, data, case.settings()), [parameters, *state]


def train(backend: str, net: Architecture, given: Problem, case: Case) -> Run:
    """Train a case on a backend."""
    trainer, (parameters, *state) = _trainer(choose.create(backend, net, case.threads), given, case)
    in_epoch = -(-len(given.y) // case.batch_size)
    done, sums = 0, []
    rng = np.random.default_rng(case.steps)
    while done < case.steps:
        if case.slices is not None and backend == "cython":
            trainer.shares = rng.dirichlet([0.5] * case.threads, 2).tolist()  # type: ignore[attr-defined]
        epoch, first = divmod(done, in_epoch)
        if case.orders is not None and first == 0:
            trainer.order(case.orders[epoch])
        count = min(in_epoch - first, case.steps - done, case.slices or in_epoch)
        sums.append(trainer.steps(epoch, first, case.rates(done, count), done))
        done += count
    trainer.store()
    return Run(parameters, state, np.array(sums))


def objective(engine: Engine, given: Problem, case: Case = Case()) -> tuple[float, np.ndarray]:
    """The loss of a problem with the settings of a case, and its gradient."""
    settings = ObjectiveSettings(l2=case.l2, convention=case.convention)
    data = Data(given.x, given.y, case.sample_weight, case.missing)
    return engine.objective(data, settings)(given.parameters)


# --- Comparisons ----------------------------------------------------------------------------------


def of_weights(
    net: Architecture, got: np.ndarray, want: np.ndarray, start: np.ndarray | None = None
) -> list[float]:
    """The difference of each layer's weights, relative to the weights or to their change."""
    gone = want if start is None else want - start
    layers = zip(net.views(got - want)[0], net.views(gone)[0], strict=True)
    return [float(np.linalg.norm(d) / np.linalg.norm(w)) for d, w in layers]


def assert_follows_reference(backend: str, net: Architecture, given: Problem, case: Case) -> Run:
    """Assert that a backend trains as the reference does, up to rounding; returns its run."""
    got, want = train(backend, net, given, case), train("numpy", net, given, case)
    tolerance = TOLERANCE[net.dtype]
    for g, w in zip(got.vectors, want.vectors, strict=True):
        assert np.abs(g - w).max() <= tolerance * max(np.abs(w).max(), 1e-30)
    np.testing.assert_allclose(got.sums[:, 0], want.sums[:, 0], rtol=max(tolerance, 1e-9))
    np.testing.assert_allclose(got.sums[:, 2], want.sums[:, 2], rtol=1e-12)
    # In float32 one row that is almost a tie may count as the other class.
    if np.isnan(want.sums[:, 1]).all():
        assert np.isnan(got.sums[:, 1]).all()
    else:
        off = np.abs(got.sums[:, 1] - want.sums[:, 1])
        heaviest = 1 if case.sample_weight is None else case.sample_weight.max()
        assert off.max() <= (1e-9 if net.dtype == "float64" else heaviest)
    return got


def assert_identical(found: Run, expected: Run) -> None:
    """Assert that two runs agree in every bit: parameters, state and the sums of the last epoch."""
    for f, e in zip(found.vectors, expected.vectors, strict=True):
        assert f.tobytes() == e.tobytes()
    np.testing.assert_array_equal(found.sums[-1], expected.sums[-1])


def assert_same_for_any_threads(
    net: Architecture, given: Problem, case: Case, expected: Run, slices: int
) -> None:
    """Assert that the compiled core repeats a run with one thread, and with five in slices."""
    for threads, steps in ((1, None), (5, slices)):
        again = train("cython", net, given, case.but(threads=threads, slices=steps))
        assert_identical(again, expected)
