"""How exact the numbers are: elementary functions, losses and their sums, and denormals.

Exact values are mpmath's or, for float32 in dense samples, those of float64, which are exact to
some hundred-millionths of a float32 unit. An error is counted in units in the last place (ulp) of
the exact value: the distance from one number of the dtype to the next, there.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import math
import platform
import sys

import numpy as np
import pytest

import pynn
from pynn.backends import choose
from pynn.backends.contract import Data, ObjectiveSettings, TrainerSettings
from pynn.spec import optimizers
from pynn.spec.architecture import Architecture

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp.clone()
mp.prec = 160

MISSING = choose.available()
VARIANTS: list[tuple[str, str | None]] = [("numpy", None)]
if not MISSING["cython"]:
    from pynn.backends.cython import _core

    # Not amx, whose kernels for floats are those of avx512.
    VARIANTS += [("cython", isa) for isa in _core.info()["isas"] if isa != "amx"]
if not MISSING["numba"]:
    VARIANTS.append(("numba", None))
COMPILED = [variant for variant in VARIANTS if variant[0] != "numpy"]
CORE = [variant for variant in VARIANTS if variant[0] == "cython"]


def chosen(name, isa):
    if isa is None:
        yield name
        return
    before = _core.use_isa(isa)
    yield name
    _core.use_isa(before)


def named(variant):
    return "-".join(filter(None, variant))


@pytest.fixture(params=VARIANTS, ids=named)
def backend(request):
    """Name of a backend, with its instruction set chosen."""
    yield from chosen(*request.param)


@pytest.fixture(params=CORE, ids=named)
def core(request):
    """The compiled core, with its instruction set chosen."""
    yield from chosen(*request.param)


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(autouse=True)
def quiet():
    """The reference may overflow and divide as NumPy does, but need not speak of it here."""
    with np.errstate(all="ignore"):
        yield


def outputs(name, function, x):
    """f(x) as a network computes it: one layer of one unit whose logit is x."""
    net = Architecture.build([1, 1], output=function, loss="mse", dtype=x.dtype)
    return choose.create(name, net, 2).forward(np.array([1, 0], x.dtype), x[:, None])[:, 0]


# --- Elementary functions -------------------------------------------------------------------------

# The most that each may be off, in ulp: (at 0, and so many more for each unit of x²). x² in the
# exponent is rounded before e takes it up.
LIMITS = {"sigmoid": (2, 0), "tanh": (2, 0), "exp": (3, 0), "elu": (3, 0), "softplus": (4, 0)}
LIMITS |= {"silu": (4, 0), "mish": (6, 0), "selu": (4, 0), "softsign": (3, 0)}
LIMITS |= {"relu6": (0, 0), "hard_sigmoid": (2, 0), "hard_swish": (3, 0), "hard_tanh": (0, 0)}
LIMITS |= {"gelu": (4, 2), "gelu_tanh": (6, 4)}
WITH_TAILS = ("gelu", "gelu_tanh", "silu", "mish")
"""z times a function that is no normal number in its tail, long before the product is none."""
FUNCTIONS = {
    "sigmoid": lambda m, x: 1 / (1 + m.exp(-x)),
    "tanh": lambda m, x: m.tanh(x),
    "exp": lambda m, x: m.exp(x),
    "elu": lambda m, x: x if x > 0 else m.expm1(x),
    "softplus": lambda m, x: x + m.log1p(m.exp(-x)) if x > 0 else m.log1p(m.exp(x)),
    "gelu": lambda m, x: x * m.erfc(-x / m.sqrt(2)) / 2,
    "gelu_tanh": lambda m, x: (
        x / (1 + m.exp(-m.sqrt(8 / m.pi) * (x + m.mpf("0.044715") * x**3))) if x > -99 else 0 * x
    ),
    "silu": lambda m, x: x / (1 + m.exp(-x)),
    "mish": lambda m, x: x * m.tanh(m.log1p(m.exp(x))) if x < 99 else x,
    "selu": lambda m, x: (
        m.mpf("1.05070098735548049342")
        * (x if x > 0 else m.mpf("1.67326324235437728482") * m.expm1(x))
    ),
    "softsign": lambda m, x: x / (1 + abs(x)),
    "relu6": lambda m, x: min(max(x, 0), 6) * m.one,
    "hard_sigmoid": lambda m, x: min(max(x + 3, 0), 6) / m.mpf(6),
    "hard_swish": lambda m, x: x * min(max(x + 3, 0), 6) / 6,
    "hard_tanh": lambda m, x: min(max(x, -1), 1) * m.one,
}


def wide(function, x):
    """The same in float64, for x in float32."""
    x = x.astype(np.float64)
    if function == "sigmoid":
        return np.where(x > 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))
    if function == "softplus":
        return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))
    if function == "elu":
        return np.where(x > 0, x, np.expm1(x))
    return {"tanh": np.tanh, "exp": np.exp}[function](x)


@functools.cache
def edges(dtype):
    """Numbers beside every place where a range or a polynomial ends: a few before, a few after."""
    ln2, info = math.log(2), np.finfo(dtype)
    ends = [0.34657, ln2 / 2, ln2, 0.5, 1, 2, 2.5, 20, 40, info.eps, info.smallest_normal]
    ends += [(k + 0.5) * ln2 for k in range(-info.minexp, 0, -max(1, info.maxexp // 100))]
    ends += [(k + 0.5) * ln2 for k in range(12)]
    ends += [-math.log(info.smallest_normal), math.log(info.max), (info.maxexp + 0.5) * ln2]
    bits = np.array(ends, dtype).view(np.int32 if dtype == "float32" else np.int64)
    near = (bits[:, None] + np.arange(-4, 5)).ravel().view(dtype)
    return np.concatenate([near, -near])


@functools.cache
def sparse_sample(dtype):
    """Numbers of all sizes, some of them anywhere below 50, and those at the edges."""
    rng = np.random.default_rng(1)
    info = np.finfo(dtype)
    sizes = 2.0 ** np.concatenate([rng.uniform(-70, 11, 900), rng.uniform(info.minexp, -70, 100)])
    x = np.concatenate([sizes * rng.choice([-1, 1], len(sizes)), rng.uniform(-50, 50, 1000)])
    return np.concatenate([x.astype(dtype), edges(dtype)])


@functools.cache
def exact(function, dtype):
    """f of the sparse sample by mpmath, as float64 and what that leaves."""
    pairs = []
    for x in sparse_sample(dtype).tolist():
        if function != "tanh" and x > 800:  # e^x is infinite long before
            want = mp.inf if function == "exp" else FUNCTIONS[function](mp, mp.mpf(x))
        else:
            want = FUNCTIONS[function](mp, mp.mpf(x))
        high = float(want)
        pairs.append((high, float(want - high) if math.isfinite(high) else 0.0))
    return np.array(pairs).T


def errors(got, high, low, dtype):
    """Errors in ulp of high + low; those of results that are no normal numbers are set apart.

    Such a result may be zero too.
    """
    info = np.finfo(dtype)
    infinite = abs(high) >= float(info.max) * (1 + float(info.eps) / 4)
    assert (np.isinf(got) == infinite)[abs(high) != float(info.max)].all()
    normal = (abs(high) >= float(info.smallest_normal)) & ~infinite
    _, exponent = np.frexp(np.where(infinite, 1, high))
    ulp = np.ldexp(1.0, np.maximum(exponent, info.minexp + 1) - info.nmant - 1)
    with np.errstate(over="ignore"):
        error = abs((got.astype(np.float64) - high) - low) / ulp
    assert not np.isnan(got).any()
    small = ~normal & ~infinite & (got != 0)
    return np.where(normal, error, 0), error[small]


@pytest.mark.parametrize("function", LIMITS)
def test_functions_are_exact_to_a_few_units(backend, dtype, function):
    x, (high, low) = sparse_sample(dtype), exact(function, dtype)
    keep = np.ones(len(x), bool)
    if function == "selu":
        # λ·α·x can be normal where x is denormal, which counts as zero.
        keep = (x == 0) | (abs(x) >= np.finfo(dtype).smallest_normal)
    if function in WITH_TAILS:
        keep = (high == 0) | (abs(high) > np.finfo(dtype).smallest_normal * 1000)
    found, small = errors(outputs(backend, function, x)[keep], high[keep], low[keep], dtype)
    most, more = LIMITS[function]
    allowed = most + more * np.minimum(x[keep].astype(np.float64) ** 2, 2000)
    worst = (found - allowed).argmax()
    assert (found <= allowed).all(), f"{found[worst]} ulp at {x[keep][worst]!r}"
    if function in ("sigmoid", "tanh"):
        assert (small <= 2).all()


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "exp", "elu", "softplus"])
def test_functions_of_float32_in_a_dense_sample(backend, function):
    x = np.arange(0, 2**32, 16411, dtype=np.uint32).view(np.float32)  # of numbers of every size
    x = np.concatenate([x[np.isfinite(x)], edges("float32")])
    want = wide(function, x)
    found, _ = errors(outputs(backend, function, x), want, 0 * want, "float32")
    assert found.max() <= LIMITS[function][0], f"{found.max()} ulp at {x[found.argmax()]!r}"


@pytest.mark.parametrize("function", [f for f in LIMITS if f != "gelu"])
def test_infinities_and_large_numbers_give_the_limits(backend, dtype, function):
    x = np.array([-np.inf, -1e4, 1e4, np.inf], dtype)
    found = outputs(backend, function, x)
    low = {"tanh": -1, "elu": -1, "softsign": -1, "hard_tanh": -1, "selu": -1.7580993408473768}
    high = {"relu6": 6, **dict.fromkeys(["sigmoid", "tanh", "hard_sigmoid", "hard_tanh"], 1)}
    near = {"rel": 2 * float(np.finfo(dtype).eps), "abs": 0}
    assert found[0] == pytest.approx(low.get(function, 0), **near)
    if function == "softsign":
        assert found[3] == pytest.approx(1, **near)
        assert found[1:3] == pytest.approx([-1, 1], abs=2e-4)
    else:
        assert found[1] == found[0]
        assert found[3] == high.get(function, np.inf)
        if function in high:
            assert found[2] == found[3]
        elif function != "exp":
            factor = 1.0507009873554805 if function == "selu" else 1
            assert found[2] == pytest.approx(1e4 * factor, rel=1e-6)


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_sigmoid_and_tanh_at_the_ends(backend, dtype, function):
    info = np.finfo(dtype)
    x = np.array([0, 20, 50, 1e4, info.max, np.inf, info.smallest_normal, info.eps / 8], dtype)
    above, below = outputs(backend, function, x), outputs(backend, function, -x)
    if function == "tanh":
        assert above[0] == below[0] == 0
        assert (above[1:6] == 1).all()
        assert (above[6:] == x[6:]).all()
        assert (below == -above).all()
    else:
        assert (above[[0, 6, 7]] == 0.5).all()
        assert above[2:6].tolist() == [1, 1, 1, 1]
        assert (below[[0, 6, 7]] == 0.5).all()
        assert (below[3:6] == 0).all()
        assert below[1] == pytest.approx(math.exp(-20), rel=4 * float(info.eps))
        assert below[2] == pytest.approx(math.exp(-50), rel=4 * float(info.eps))
    assert np.isnan(outputs(backend, function, np.array([np.nan, 1, -np.nan], dtype))[[0, 2]]).all()


def test_softmax_is_exact_to_the_differences_of_logits(backend, dtype):
    rng = np.random.default_rng(3)
    info = np.finfo(dtype)
    for n in (2, 10, 37):
        net = Architecture.build([n, n], dtype=dtype)
        parameters = np.concatenate([np.eye(n).ravel(), np.zeros(n)]).astype(dtype)
        z = (rng.normal(size=(20, n)) * 10.0 ** rng.uniform(-3, 4, (20, 1))).astype(dtype)
        got = choose.create(backend, net, 1).forward(parameters, z)
        for row, found in zip(z, got, strict=True):
            p, _, below = probabilities(row.tobytes(), dtype)
            for j in range(n):
                off = abs(mp.mpf(float(found[j])) - p[j])
                allowed = float(info.eps) * (6 + n / 8 + below[j]) * p[j]
                assert off <= allowed + float(info.smallest_normal)


# --- Losses ---------------------------------------------------------------------------------------


@functools.cache
def probabilities(z, dtype):
    """Softmax of the bytes of a row, one less that of the largest, and how far below it each is."""
    z = np.frombuffer(z, dtype)
    below = [mp.mpf(float(z.max())) - mp.mpf(float(v)) for v in z]
    e = [mp.exp(-b) for b in below]
    rest = mp.fsum(e[j] for j in range(len(e)) if j != z.argmax())
    return [v / (1 + rest) for v in e], rest / (1 + rest), below


def loss_and_dz(name, loss, z, y):
    """The loss of one row and ∂loss/∂z, from a layer that only adds 0 to its inputs."""
    n = len(z)
    net = Architecture.build([n, n], loss=loss, dtype=z.dtype)
    parameters = np.concatenate([np.eye(n).ravel(), np.zeros(n)]).astype(z.dtype)
    objective = choose.create(name, net, 1).objective(Data(z[None], y), ObjectiveSettings(l2=0.0))
    value, gradient = objective(parameters)
    return value, gradient[n * n :]


def rows_of_logits(dtype):
    rng = np.random.default_rng(5)
    rows = [
        [1e4, -1e4, 0, 1e4],
        [-1e4, -1e4, -1e4],
        [1e4, 9999, 9998],
        [0, 0, 0, 0, 0],
        [1e4, 1e4],
        [0, 87],
        [0, 88.5],
        [0, 89],
        [-104, 0, 10],
        [700, 0, -8],
        [0, 710],
        [-750, 0],
        [3, -17, 2],
        [20, 0, 0],
        [1e-3, 0, -1e-3],
        [-9990, -1e4, -9995.5],
    ]
    rows += [(10.0**k * rng.normal(size=n)).tolist() for k in (-1, 0, 1, 2, 3) for n in (2, 10, 19)]
    return [np.clip(np.array(row, dtype), -1e4, 1e4) for row in rows]


@pytest.mark.parametrize("kind", ["labels", "one-hot", "soft"])
def test_cross_entropy_of_logits_up_to_ten_thousand(backend, dtype, kind):
    rng, info = np.random.default_rng(6), np.finfo(dtype)
    eps, tiny = float(info.eps), float(info.smallest_normal)
    for z in rows_of_logits(dtype):
        n, best = len(z), int(z.argmax())
        p, others, below = probabilities(z.tobytes(), dtype)
        log_sum = -mp.log1p(-others)
        # Every z − max is rounded, by half a unit of its own at most.
        rounded = mp.fsum(p[j] * below[j] for j in range(n))
        for label in {0, best, n - 1}:
            t = np.eye(n, dtype=dtype)[label]
            if kind == "soft":
                t = rng.dirichlet(np.ones(n)).astype(dtype)
            y = np.array([label], np.int32) if kind == "labels" else t[None]
            loss, dz = loss_and_dz(backend, "cross_entropy", z, y)
            assert math.isfinite(loss)
            goal = [mp.mpf(float(v)) for v in t]
            want = mp.fsum(goal[j] * (log_sum + below[j]) for j in range(n))
            allowed = eps * ((4 + n / 8) * want + rounded)
            assert abs(mp.mpf(loss) - want) <= allowed + tiny, (z, t, loss)
            for j in range(n):
                want = (1 - goal[j]) - others if j == best else p[j] - goal[j]
                size, off = max(p[j], goal[j]), below[j]
                if kind != "soft" and backend != "numpy":
                    size = abs(want)  # compiled: also where p is all but 1
                    if j == best:
                        off = rounded / max(others, tiny)
                allowed = eps * (6 + n / 8 + off) * size
                if j == best and kind == "soft":
                    allowed += eps * rounded
                assert abs(mp.mpf(float(dz[j])) - want) <= allowed + tiny, (z, t, j, dz[j])


def test_binary_cross_entropy_of_logits_up_to_ten_thousand(backend, dtype):
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).smallest_normal)
    sizes = [0, 1e-30, 1e-5, 0.3, 1, 9, 17, 40, 87, 88.5, 103, 700, 720, 1e4]
    for t in (0, 1, 0.25, 0.7):
        for size in [*sizes, *(-s for s in sizes)]:
            z, y = np.array([size], dtype), np.array([[t]], dtype)
            loss, dz = loss_and_dz(backend, "binary_cross_entropy", z, y)
            x, goal = mp.mpf(float(z[0])), mp.mpf(float(y[0, 0]))
            want = max(x, 0) - goal * x + mp.log1p(mp.exp(-abs(x)))
            assert abs(mp.mpf(loss) - want) <= 4 * eps * want + tiny, (size, t)
            q = mp.exp(-abs(x)) / (1 + mp.exp(-abs(x)))
            want = (1 - goal) - q if x > 0 else q - goal
            scale = abs(want)
            if backend == "numpy" or t not in (0, 1):
                scale = max(1 - q if x > 0 else q, goal)
            assert abs(mp.mpf(float(dz[0])) - want) <= 4 * eps * scale + tiny, (size, t)


def test_poisson_of_logits_up_to_overflow(backend, dtype):
    info = np.finfo(dtype)
    eps, tiny = float(info.eps), float(info.smallest_normal)
    top = math.log(info.max)
    for t in (0, 1, 3, 1000):
        for size in (-1e4, -100, -1, 0, 0.5, math.log(3), 7, 60, top - 0.6, top - 0.01):
            z, y = np.array([size], dtype), np.array([[t]], dtype)
            loss, dz = loss_and_dz(backend, "poisson", z, y)
            x = mp.mpf(float(z[0]))
            terms = [mp.exp(x), -t * x, mp.mpf(-t), t * mp.log(t) if t else mp.mpf(0)]
            most = eps * 4 * mp.fsum(abs(v) for v in terms)
            assert abs(mp.mpf(loss) - mp.fsum(terms)) <= most + tiny, (size, t)
            allowed = eps * 4 * max(terms[0], t) + tiny
            assert abs(mp.mpf(float(dz[0])) - (terms[0] - t)) <= allowed, (size, t)
        for size in (top + 0.01, top + 0.5, 2 * top, 1e4):
            loss, dz = loss_and_dz(backend, "poisson", np.array([size], dtype), y)
            assert loss == dz[0] == math.inf


# --- Sums -----------------------------------------------------------------------------------------

MILLION = 1_000_000


def loss_of(x):
    """What ``two_logits`` loses on x, in float64: the cross entropy of label 0."""
    return np.log1p(np.exp(-x.astype(np.float64)))


def two_logits(name, dtype):
    """An engine whose logits are (x, 0), with its parameters."""
    net = Architecture.build([1, 2], dtype=dtype)
    return choose.create(name, net, 2), np.array([1, 0, 0, 0], dtype)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0, 3], ids=["equal", "unequal"])
def test_losses_of_a_million_rows_are_summed_without_drift(backend, dtype, spread):
    engine, parameters = two_logits(backend, dtype)
    x = (0.7 + spread * np.random.default_rng(0).normal(size=(MILLION, 1))).astype(dtype)
    y = np.zeros(MILLION, np.int32)
    mean, near = float(loss_of(x).mean()), 3e-7 if dtype == "float32" else 1e-10
    loss, right, _ = engine.evaluate(parameters, x, y)
    assert loss / MILLION == pytest.approx(mean, rel=near)
    # The same losses summed a thousand at a time, and those sums exactly.
    parts = [
        engine.evaluate(parameters, x[i : i + 1000], y[:1000])[0] for i in range(0, 20000, 1000)
    ]
    first = engine.evaluate(parameters, x[:20000], y[:20000])[0]
    assert first == pytest.approx(math.fsum(parts), rel=1e-12)
    if spread == 0:
        one = engine.evaluate(parameters, x[:1], y[:1])[0]
        assert loss == pytest.approx(MILLION * one, rel=1e-10)
    for batch_size in (4000, MILLION):
        trainer = engine.trainer(
            parameters.copy(),
            [],
            Data(x, y),
            TrainerSettings(
                optimizer=optimizers.SGD(), batch_size=batch_size, l2=0.0, seed=0, shuffle=True
            ),
        )
        steps, half = MILLION // batch_size, MILLION // batch_size // 2
        trainer.steps(0, 0, np.zeros(half), 0)
        summed, counted, _ = trainer.steps(0, half, np.zeros(steps - half), half)
        assert summed == pytest.approx(loss, rel=1e-9)
        assert counted == right


def test_history_of_a_million_rows(dtype):
    x = np.random.default_rng(0).normal(size=(MILLION, 1)).astype(dtype)
    net = pynn.Network([1, 2], dtype=dtype, seed=0)
    net.weights[0][...] = [[1, 0]]
    y = np.arange(MILLION) % 2
    want = float(loss_of(np.where(y[:, None] == 0, x, -x)).mean())
    history = net.fit(x, y, epochs=2, batch_size=1000, optimizer="sgd", learning_rate=1e-30)
    for loss in (*history.loss, net.evaluate(x, y)["loss"]):
        assert loss == pytest.approx(want, rel=3e-7 if dtype == "float32" else 1e-12)


def test_loss_curve_of_a_million_rows():
    pytest.importorskip("sklearn")
    from pynn.sklearn.estimators import MLPClassifier

    x = np.random.default_rng(0).normal(size=(MILLION, 1)).astype(np.float32)
    y = np.arange(MILLION) % 2
    model = MLPClassifier(
        (), "identity", solver="sgd", alpha=0, batch_size=1000, learning_rate_init=1e-30, max_iter=1
    )
    with pytest.warns(UserWarning, match="converge"):
        model.fit(x, y)
    z = (x * model.coefs_[0] + model.intercepts_[0]).astype(np.float64)[:, 0]
    want = float(loss_of(np.where(y == 1, z, -z)).mean())
    assert model.loss_curve_[0] == pytest.approx(want, rel=3e-7)


# --- Denormal numbers -----------------------------------------------------------------------------


def tiny_numbers(dtype, shape, seed=0):
    """Denormal numbers of either sign."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(-1, 1, shape) * float(np.finfo(dtype).smallest_normal)).astype(dtype)


def halves(dtype):
    """Whether this thread still calculates with denormal numbers, and rounds them."""
    least = np.finfo(dtype).smallest_normal
    return least * np.dtype(dtype).type(0.25) > 0 and least / 8 * 8 == least


def some_steps(name, net, data, optimizer, threads, rate=0.01):
    parameters, x, y, state = data
    parameters, state = parameters.copy(), [s.copy() for s in state]
    trainer = choose.create(name, net, threads).trainer(
        parameters,
        state,
        Data(x, y),
        TrainerSettings(
            optimizer=optimizer,
            batch_size=16,
            l2=0.01,
            seed=1,
            shuffle=True,
            convention="sklearn" if name == "cython" else "pynn",
        ),
    )
    trainer.steps(0, 0, np.full(len(x) // 16, rate), 0)
    trainer.store()
    return parameters, state


def with_denormals(dtype, optimizer):
    """A network, and data among which every second number is denormal."""
    net = Architecture.build([40, 33, 5], "tanh", dtype=dtype)
    rng = np.random.default_rng(0)
    parameters = rng.normal(scale=0.3, size=net.n_parameters).astype(dtype)
    x = rng.normal(size=(160, 40)).astype(dtype)
    state = [abs(rng.normal(size=net.n_parameters)).astype(dtype) for _ in range(optimizer.slots)]
    for i, array in enumerate([parameters, x.reshape(-1), *state]):
        array[::2] = abs(tiny_numbers(dtype, array[::2].shape, i))
    return net, (parameters, x, rng.integers(0, 5, 160).astype(np.int32), state)


@pytest.mark.parametrize(
    "optimizer", [optimizers.SGD(), optimizers.Momentum(), optimizers.Adam()], ids=repr
)
def test_denormals_count_as_zero_in_every_thread(core, dtype, optimizer):
    net, data = with_denormals(dtype, optimizer)
    least = np.finfo(dtype).smallest_normal
    runs = [some_steps(core, net, data, optimizer, threads) for threads in (1, 2, 3, 5)]
    cleared = [np.where(abs(a) < least, 0 * a, a) for a in (data[0], data[1], *data[3])]
    zeros = cleared[0], cleared[1], data[2], cleared[2:]
    runs.append(some_steps(core, net, zeros, optimizer, 2))
    for parameters, state in runs[1:]:
        assert parameters.tobytes() == runs[0][0].tobytes()
        assert [s.tobytes() for s in state] == [s.tobytes() for s in runs[0][1]]
    # Whatever was touched is zero or a normal number.
    for array in (runs[0][0], *runs[0][1]):
        assert not ((array != 0) & (abs(array) < least)).any()


def test_moments_that_decay_end_at_zero(core, dtype):
    net = Architecture.build([3, 2], dtype=dtype)
    least = np.finfo(dtype).smallest_normal
    for optimizer in (
        optimizers.Momentum(),
        optimizers.RMSProp(),
        optimizers.Adam(),
        optimizers.AdamW(),
    ):
        state = [np.full(net.n_parameters, least, dtype) for _ in range(optimizer.slots)]
        data = np.zeros(net.n_parameters, dtype), np.zeros((16, 3), dtype), None, state
        y = np.array([0, 1] * 8, np.int32)  # whose gradients are exactly 0
        parameters, state = some_steps(core, net, (*data[:2], y, state), optimizer, 1)
        assert all((s == 0).all() for s in state)
        assert abs(parameters).max() <= 1  # none of it is NaN or infinite


def test_the_reference_keeps_denormals():
    x = tiny_numbers("float32", 50)
    assert (outputs("numpy", "tanh", x) == x).all()


@pytest.mark.parametrize("name", sorted({name for name, _ in VARIANTS}))
def test_floating_point_modes_of_the_caller_are_restored(name, dtype):
    seen = []
    net = pynn.Network([4, 3], backend=name, threads=2, dtype=dtype, seed=0)
    x, y = np.random.default_rng(0).normal(size=(64, 4)), np.arange(64) % 3
    assert halves(dtype)
    net.fit(x, y, epochs=2, callbacks=[lambda net, record: seen.append(halves(dtype))])
    assert seen == [True, True]
    net.predict(x)
    net.evaluate(x, y)
    assert halves(dtype)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="needs fesetround of glibc"
)
def test_floating_point_modes_of_the_caller_do_not_change_results(core, dtype):
    maths = ctypes.CDLL(ctypes.util.find_library("m"))
    upward, nearest = 0x800, 0
    net, data = with_denormals(dtype, optimizers.Adam())
    want = some_steps(core, net, data, optimizers.Adam(), 1)
    for threads in (1, 3):
        assert maths.fesetround(upward) == 0
        try:
            got = some_steps(core, net, data, optimizers.Adam(), threads)
            left = maths.fegetround()
        finally:
            maths.fesetround(nearest)
        assert left == upward
        assert got[0].tobytes() == want[0].tobytes()
