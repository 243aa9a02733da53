"""The same seed gives identical results: whole trainings of random networks in many settings.

``PYNN_SAME_BITS=5000`` trains 5,000 random networks for each property and instruction set, new
ones in every run, instead of a few fixed ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pynn
from pynn.arrays import sparse
from pynn.backends import choose
from pynn.backends.contract import Data, ObjectiveSettings, TrainerSettings
from pynn.spec import names as spec_names
from pynn.spec import optimizers as spec_optimizers
from pynn.spec import schedules
from pynn.spec.architecture import Architecture
from pynn.spec.losses import LOSSES
from tests.child import python

_core = pytest.importorskip("pynn.backends.cython._core")

SWEEP = int(os.environ.get("PYNN_SAME_BITS") or 0)
# Not amx, whose kernels for floats are those of avx512.
ISAS = [isa for isa in _core.info()["isas"] if isa != "amx"]
CORES = os.cpu_count() or 1
# Rows are at most 300 but in a few networks: this many threads have none.
TOO_MANY = 23

pytestmark = pytest.mark.timeout(600 + 60 * SWEEP)


def few(count: int) -> settings:
    return settings(
        max_examples=SWEEP or count,
        derandomize=not SWEEP,
        print_blob=bool(SWEEP),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# --- What is trained ------------------------------------------------------------------------------

WIDTHS = st.one_of(
    st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130]), st.integers(1, 70)
)
SHARE = st.floats(0.0, 0.95)


@st.composite
def optimizers(draw: st.DrawFn) -> spec_optimizers.Optimizer:
    kind = spec_optimizers.OPTIMIZERS[draw(st.sampled_from(sorted(spec_optimizers.OPTIMIZERS)))]
    more: dict[str, float] = {}
    for name, values in {
        "momentum": SHARE,
        "rho": SHARE,
        "beta1": SHARE,
        "beta2": st.floats(0.5, 0.9999),
        "epsilon": st.sampled_from([1e-8, 1e-4, 0.1]),
        "weight_decay": st.floats(0.0, 0.5),
    }.items():
        if hasattr(kind, name) and draw(st.booleans()):
            more[name] = draw(values)
    return kind(**more)


@st.composite
def architectures(draw: st.DrawFn) -> tuple[Architecture, str]:
    """A network, and which kind of targets it is to learn."""
    loss = LOSSES[draw(st.sampled_from(list(LOSSES)))]()
    output = draw(st.sampled_from(loss.outputs))
    kind = {"poisson": "counts", "gamma": "positive"}.get(loss.name, "values")
    if not loss.regression:
        kind = draw(st.sampled_from(["labels", "soft" if output == "softmax" else "yes-no"]))
    least = 2 if output == "softmax" or kind == "labels" else 1
    hidden = draw(st.lists(WIDTHS, max_size=4))
    sizes = [draw(WIDTHS), *hidden, loss.per_target * draw(st.integers(least, 19))]
    names = [draw(st.sampled_from(spec_names.ACTIVATIONS)) for _ in hidden]
    dropout = [draw(st.sampled_from([0.0, 0.1, 0.5])) for _ in hidden]
    dtype = draw(st.sampled_from(spec_names.DTYPES))
    return Architecture.build(sizes, names, output, loss, dropout, dtype), kind


@st.composite
def data(draw: st.DrawFn, net: Architecture, kind: str) -> tuple[np.ndarray, np.ndarray, int]:
    """x, y and the size of a batch: of one row, with a short last one, of more than there are."""
    rows, batch = draw(
        st.one_of(
            st.tuples(st.integers(1, 300), st.integers(10, 400)),
            st.tuples(st.integers(1, 40), st.integers(1, 9)),
            st.just((1300, 1100)),  # goes through in chunks
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = draw(st.sampled_from(["uint8", "float32", "float64"]))
    x = rng.integers(0, 256, (rows, net.n_in)) / (1 if pixels == "uint8" else 100)
    x[rng.random(x.shape) > draw(st.sampled_from([1.0, 0.5, 0.1]))] = 0
    if kind == "labels":
        y = rng.integers(0, net.n_out, rows).astype(np.int32)
    elif kind == "soft":
        y = rng.random((rows, net.n_out)) + 0.01
        y = y / y.sum(axis=1, keepdims=True)
    elif kind == "counts":
        y = rng.poisson(1.5, (rows, net.n_targets))
    elif kind == "positive":
        y = rng.gamma(1.0, size=(rows, net.n_targets)) + 1e-3
    elif kind == "yes-no":
        y = rng.integers(0, 2, (rows, net.n_out))
    else:
        y = np.abs(rng.normal(size=(rows, net.n_targets)))
    return x.astype(pixels), y if kind == "labels" else y.astype(net.dtype), batch


# --- Through Network.fit --------------------------------------------------------------------------


@st.composite
def fits(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of a network and of its fit."""
    net, kind = draw(architectures())
    x, y, batch = draw(data(net, kind))
    network = {
        "sizes": net.sizes,
        "activation": net.activations[:-1],
        "output": net.activations[-1],
        "loss": net.loss,
        "dropout": net.dropout,
        "dtype": net.dtype,
        "seed": draw(st.integers(0, 2**64 - 1)),
    }
    held: Any = draw(st.sampled_from([None, 0.3, "pair"]))
    if held == "pair":
        held = x[: len(x) // 2 + 1], y[: len(x) // 2 + 1]
    if len(x) < 4:
        held = None
    fit = {
        "x": x,
        "y": y,
        "batch_size": draw(st.sampled_from([batch, batch, None])),
        "epochs": draw(st.integers(1, 3)),
        "optimizer": draw(optimizers()),
        "learning_rate": draw(st.sampled_from([1e-4, 1e-3, 0.01])),
        "l2": draw(st.sampled_from([0.0, 0.0, 0.1])),
        "schedule": draw(st.sampled_from(SCHEDULES)),
        "shuffle": draw(st.booleans()),
        "validation": held,
    }
    return {"network": network, "fit": fit}


# The default of ReduceOnPlateau needs validation rows.
SCHEDULES = [
    *sorted(schedules.SCHEDULES.keys() - {"reduce_on_plateau"}),
    schedules.ReduceOnPlateau("loss", patience=0),
    None,
    lambda t: 1 / (1 + t * t),
]

MEASURED = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")


def fitted(case: dict[str, Any], threads: int | None, backend: str = "cython") -> list[bytes]:
    """The bits of all that a training leaves behind."""
    net = pynn.Network(**case["network"], threads=threads, backend=backend)
    try:
        net.fit(**case["fit"])
    except pynn.DivergenceError as error:
        # One that comes to nothing does so at the same step, from the same weights.
        return [str(error).encode(), net.parameters.tobytes()]
    x, y = case["fit"]["x"], case["fit"]["y"]
    gradient = net.loss_and_gradient(x, y, l2=0.1)
    columns = [np.array(getattr(net.history, name), np.float64) for name in MEASURED]
    return [
        net.parameters.tobytes(),
        *(vector.tobytes() for vector in net._model.optimizer_state),
        *(column.tobytes() for column in columns),
        net._engine.forward(net._model.flat, x).tobytes(),
        repr(net.evaluate(x, y)).encode(),
        repr(gradient[0]).encode(),
        gradient[1].tobytes(),
    ]


def elsewhere(function: Any, *arguments: Any) -> Any:
    """Call a function in a separate thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*arguments)))
    thread.start()
    thread.join()
    return found[0]


@contextmanager
def instruction_set(isa: str) -> Iterator[None]:
    before, poisoned = _core.use_isa(isa), _core.poison(True)
    try:
        yield
    finally:
        _core.poison(poisoned)
        _core.use_isa(before)


@pytest.mark.parametrize("isa", ISAS)
@few(14)
@given(case=fits())
def test_fit_gives_identical_results_with_any_threads_on_every_instruction_set(
    isa: str, case: dict[str, Any]
) -> None:
    """With 1 to twice as many threads as cores, with more than rows, again, and in a thread."""
    with instruction_set(isa):
        want = fitted(case, 1)
        for threads in sorted({2, 3, CORES, 2 * CORES, TOO_MANY}):
            assert fitted(case, threads) == want, f"with {threads} threads"
        assert fitted(case, 1) == want, "again"
        assert fitted(case, None) == want, "with threads chosen by measuring"
        assert elsewhere(fitted, case, 2) == want, "in a thread"


@pytest.mark.skipif(bool(choose.available()["numba"]), reason="needs numba")
@few(8)
@given(case=fits())
def test_numba_fit_gives_identical_results_with_any_threads(case: dict[str, Any]) -> None:
    from pynn.backends.numba import threads as numba_threads

    def paced(threads: int, chunks: int) -> list[bytes]:
        """With a fixed number of threads, and of chunks of rows in a slice."""
        with (
            mock.patch.object(numba_threads.Pace, "choose", return_value=(threads, chunks)),
            mock.patch.object(numba_threads.Pace, "note"),
        ):
            return fitted(case, threads, "numba")

    want = paced(1, 10**9)
    for threads in sorted({2, 3, CORES, 2 * CORES, TOO_MANY}):
        assert paced(threads, 3) == want, f"with {threads} threads"
    assert fitted(case, None, "numba") == want, "with threads chosen by measuring"
    assert elsewhere(fitted, case, 2, "numba") == want, "in a thread"


@few(8)
@given(case=fits())
def test_numpy_fit_gives_identical_results_again_and_in_a_thread(case: dict[str, Any]) -> None:
    want = fitted(case, None, "numpy")
    assert fitted(case, None, "numpy") == want, "again"
    assert elsewhere(fitted, case, None, "numpy") == want, "in a thread"


# --- What pynn.sklearn asks of the core besides ---------------------------------------------------


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """What a trainer is given: compressed rows, sample weights, an order, scikit-learn's sums."""
    net, kind = draw(architectures())
    x, y, batch = draw(data(net, kind))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows: Any = x
    if draw(st.booleans()):
        x = x if x.dtype.kind == "f" else x.astype(np.float32)
        lit = [np.flatnonzero(row) for row in x]
        rows = sparse.Sparse(
            np.concatenate([row[columns] for row, columns in zip(x, lit, strict=True)]),
            np.concatenate(lit).astype(np.int32),
            np.cumsum([0, *map(len, lit)]),
            x.shape,
        )
    weights = rng.gamma(1.0, size=len(x)) if draw(st.booleans()) else None
    return {
        "net": net,
        "parameters": rng.normal(scale=0.2, size=net.n_parameters).astype(net.dtype),
        "data": (rows, y),
        "weights": weights,
        "convention": draw(st.sampled_from(spec_names.CONVENTIONS)),
        "optimizer": draw(optimizers()),
        "l2": draw(st.sampled_from([0.0, 0.1])),
        "batch_size": batch,
        "seed": draw(st.integers(0, 2**64 - 1)),
        "order": rng.permutation(len(x)) if draw(st.booleans()) else None,
        "watch": draw(st.booleans()),
    }


def uneven(rng: np.random.Generator, threads: int) -> list[list[float]]:
    """Shares of the rows and of the weights, some of which are next to nothing."""
    return rng.dirichlet([0.3] * threads, 2).tolist()


def trained(run: dict[str, Any], threads: int, slices: int) -> list[bytes]:
    """Two epochs in calls of ``slices`` steps; returns all results and the engine's outputs."""
    optimizer, (x, y) = run["optimizer"], run["data"]
    parameters = run["parameters"].copy()
    state = [np.zeros_like(parameters) for _ in range(optimizer.slots)]
    engine = _core.Engine(run["net"], threads)
    data = Data(x, y, run["weights"])
    trainer = engine.trainer(
        parameters,
        state,
        data,
        TrainerSettings(
            optimizer=optimizer,
            batch_size=run["batch_size"],
            l2=run["l2"],
            seed=run["seed"],
            shuffle=True,
            watch=run["watch"],
            convention=run["convention"],
        ),
    )
    steps = -(-len(y) // run["batch_size"])
    rng = np.random.default_rng(run["seed"])
    found = []
    for epoch in range(2):
        if run["order"] is not None:
            trainer.order(run["order"])
        for first in range(0, steps, slices):
            rates = 1e-3 / (1.0 + np.arange(first, min(steps, first + slices)))
            if threads > 1 and rng.random() < 0.7:
                trainer.shares = uneven(rng, threads)
            total = trainer.steps(epoch, first, rates, epoch * steps + first)
            if trainer.diverged:
                break
        found.append(np.array([*total, trainer.diverged]))
        found.append(np.array(trainer.evaluate(x, y)))
    trainer.store()
    settings = ObjectiveSettings(l2=run["l2"], convention=run["convention"])
    loss, gradient = engine.objective(data, settings)(parameters)
    found += [parameters, *state, np.array(loss), gradient, engine.forward(parameters, x)]
    # Which of two NaN goes on, and so its sign, is left to the processor. A network that fit has
    # trained never holds one.
    return [np.where(np.isnan(values), np.nan, values).tobytes() for values in found]


@pytest.mark.parametrize("isa", ISAS)
@few(14)
@given(run=runs())
def test_trainer_gives_identical_results_with_any_threads_and_shares(
    isa: str, run: dict[str, Any]
) -> None:
    with instruction_set(isa), np.errstate(all="ignore"):
        want = trained(run, 1, 10**6)
        for threads in sorted({2, 3, CORES, 2 * CORES, TOO_MANY}):
            assert trained(run, threads, 10**6) == want, f"with {threads} threads"
        assert trained(run, 2, 3) == want, "in slices of three steps"


# --- Elsewhere ------------------------------------------------------------------------------------


def case(k: int, rows: int = 700) -> dict[str, Any]:
    """One of some trainings of several slices, with what there is to them."""
    optimizer = [kind() for kind in spec_optimizers.OPTIMIZERS.values()][
        k % len(spec_optimizers.OPTIMIZERS)
    ]
    rng = np.random.default_rng(k)
    x = rng.integers(0, 256, (rows, 60)).astype(np.uint8)
    x[rng.random(x.shape) < 0.8 * (k % 2)] = 0
    return {
        "network": {"sizes": [60, 65 - k, 33, 3], "activation": "gelu", "dropout": 0.2, "seed": k},
        "fit": {"x": x, "y": rng.integers(0, 3, rows), "epochs": 3, "batch_size": 17 + k}
        | {"optimizer": optimizer, "validation": 0.2, "schedule": "one_cycle"},
    }


# Not NumPy's: the bits of a matrix product of OpenBLAS depend on how many threads it has.
BACKENDS = [name for name in ("cython", "numba") if not choose.available()[name]]
BUSY = "import time\nend = time.monotonic() + 100\nwhile time.monotonic() < end: pass"


@pytest.fixture
def busy() -> Iterator[None]:
    """Other processes that would have every core for themselves."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(CORES + 1)]
    yield
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_identical_on_a_busy_machine(
    backend: str, request: pytest.FixtureRequest
) -> None:
    cases = [case(k, 300) for k in range(4)]
    want = [fitted(c, 1, backend) for c in cases]
    request.getfixturevalue("busy")
    for threads in (None, 2, 2 * CORES):
        assert [fitted(c, threads, backend) for c in cases] == want


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["threading", "loky"])
def test_results_are_identical_under_joblib(how: str, backend: str) -> None:
    joblib = pytest.importorskip("joblib")
    cases = [case(k, 300) for k in range(4)]
    want = [fitted(c, None, backend) for c in cases]
    with joblib.parallel_backend(how, n_jobs=2):
        for threads in (None, 2):
            jobs = [joblib.delayed(fitted)(c, threads, backend) for c in cases]
            assert joblib.Parallel()(jobs) == want
    assert [fitted(c, 2, backend) for c in cases] == want


FORK = """
import hashlib, os, sys
from tests.backends.test_identical_results import case, fitted

CASES = [case(k, 300) for k in range(4)]

def digest(threads):
    found = hashlib.sha256()
    for each in CASES:
        for bits in fitted(each, threads, sys.argv[1]):
            found.update(bits)
    return found.digest()

def in_a_child(function, *arguments):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, function(*arguments))
        finally:
            os._exit(0)
    os.close(write)
    found = os.read(read, 100)
    os.close(read)
    os.waitpid(child, 0)
    return found

early = in_a_child(digest, 2)  # before the first training of the parent
want = digest(2)
assert early == want
for threads in (1, 2, 5, None):
    assert in_a_child(digest, threads) == want, threads
assert in_a_child(in_a_child, digest, 2) == want
assert digest(2) == want
print("same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_identical_before_and_after_a_fork(backend: str) -> None:
    tests = Path(__file__).parents[2]
    done = python(FORK, backend, environment={"PYTHONPATH": str(tests)})
    assert done.stdout.strip() == "same", done.stderr
