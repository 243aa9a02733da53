"""Every compiled backend, instruction set and dtype against the reference, step by step."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

from pynn.arrays import sparse as arrays_sparse
from pynn.backends import choose, reference
from pynn.backends.contract import Data, ObjectiveSettings, TrainerSettings
from pynn.spec import names, optimizers, philox
from pynn.spec.architecture import Architecture

_core = pytest.importorskip("pynn.backends.cython._core")

# Not amx, whose kernels for floats are those of avx512.
ISAS = [isa for isa in _core.info()["isas"] if isa != "amx"]
VARIANTS = [("cython", isa) for isa in ISAS]
if not choose.available()["numba"]:
    VARIANTS.append(("numba", None))

# Of the largest weight after 50 steps.
TOLERANCE = {"float64": 1e-10, "float32": 1e-3}
OPTIMIZERS = [
    (optimizers.SGD(), 0.1),
    (optimizers.Momentum(), 0.03),
    (optimizers.Nesterov(), 0.03),
    (optimizers.RMSProp(), 0.003),
    (optimizers.Adagrad(), 0.03),
    (optimizers.Adam(), 0.003),
    (optimizers.AdamHat(epsilon=1e-4), 0.003),
    (optimizers.AdamW(weight_decay=0.1), 0.003),
]


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join(filter(None, v)))
def backend(request):
    """Name of a backend, with its instruction set chosen and scratch memory poisoned with NaN."""
    name, isa = request.param
    if isa is None:
        yield name
        return
    before = _core.use_isa(isa)
    poisoned = _core.poison(True)
    yield name
    _core.poison(poisoned)
    _core.use_isa(before)


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return request.param


def make(net: Architecture, rows: int, kind: str = "labels", seed: int = 0):
    """Parameters, x and y for a network: small weights, standard normal x."""
    rng = np.random.default_rng(seed)
    parameters = rng.normal(scale=0.3, size=net.n_parameters).astype(net.dtype)
    x = rng.normal(size=(rows, net.n_in)).astype(net.dtype)
    if kind == "labels":
        y = rng.integers(0, net.n_out, rows).astype(np.int32)
    elif kind == "soft":
        y = rng.random((rows, net.n_out))
        y = (y / y.sum(axis=1, keepdims=True)).astype(net.dtype)
    elif kind == "counts":
        y = rng.poisson(1.5, (rows, net.n_out)).astype(net.dtype)
    else:
        y = rng.random((rows, net.n_out)).round((kind == "yes-no" and 0) or 6).astype(net.dtype)
    return parameters, x, y


def train(
    name,
    net,
    data,
    optimizer=None,
    rate=0.1,
    batch_size=10,
    l2=0.0,
    steps=50,
    threads=2,
    shuffle=True,
    slices=None,
    orders=None,
    sample_weight=None,
    **more,
):
    """Parameters, state, and sums after so many steps, with the epochs cut into slices of steps."""
    optimizer = optimizer or optimizers.SGD()
    parameters, x, y = data
    parameters = parameters.copy()
    state = [np.zeros_like(parameters) for _ in range(optimizer.slots)]
    trainer = choose.create(name, net, threads).trainer(
        parameters,
        state,
        Data(x, y, sample_weight),
        TrainerSettings(
            optimizer=optimizer,
            batch_size=batch_size,
            l2=l2,
            seed=2**40 + 7,
            shuffle=shuffle,
            **more,
        ),
    )
    in_epoch = -(-len(x) // batch_size)
    done, sums = 0, []
    rng = np.random.default_rng(steps)
    while done < steps:
        if slices is not None and name == "cython":
            trainer.shares = rng.dirichlet([0.5] * threads, 2).tolist()
        epoch, first = divmod(done, in_epoch)
        if orders is not None and first == 0:
            trainer.order(orders[epoch])
        count = min(in_epoch - first, steps - done, slices or in_epoch)
        # A rate that changes at every step shows an update that took its neighbour's.
        rates = rate / (1.0 + 0.05 * np.arange(done, done + count))
        sums.append(trainer.steps(epoch, first, rates, done))
        done += count
    trainer.store()
    return parameters, state, np.array(sums)


def assert_same_run(got, want, dtype):
    tolerance = TOLERANCE[dtype]
    for g, w in zip([got[0], *got[1]], [want[0], *want[1]], strict=True):
        assert np.abs(g - w).max() <= tolerance * max(np.abs(w).max(), 1e-30)
    np.testing.assert_allclose(got[2][:, 0], want[2][:, 0], rtol=max(tolerance, 1e-9))
    assert np.abs(got[2][:, 1] - want[2][:, 1]).max() <= (1e-9 if dtype == "float64" else 1)


@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
def test_trajectory_of_every_optimizer(backend, dtype, optimizer, rate):
    net = Architecture.build([17, 33, 3, 5], "tanh", dropout=[0.3, 0.1], dtype=dtype)
    data = make(net, 73)  # a short last batch of 3
    run = {"optimizer": optimizer, "rate": rate, "l2": 0.01}
    assert_same_run(train(backend, net, data, **run), train("numpy", net, data, **run), dtype)


@pytest.mark.parametrize("activation", names.ACTIVATIONS)
def test_trajectory_of_every_activation(backend, dtype, activation):
    net = Architecture.build([5, 33, 16, 20, 3], activation, dropout=[0.0, 0.2, 0.0], dtype=dtype)
    data = make(net, 64)
    run = {"batch_size": 17, "steps": 20, "rate": 0.05}
    assert_same_run(train(backend, net, data, **run), train("numpy", net, data, **run), dtype)


@pytest.mark.parametrize(
    "loss, output, kind, n_out",
    [
        ("cross_entropy", None, "labels", 10),
        ("cross_entropy", None, "labels", 37),
        ("cross_entropy", None, "soft", 10),
        ("cross_entropy", None, "soft", 18),
        ("binary_cross_entropy", None, "yes-no", 1),
        ("binary_cross_entropy", None, "yes-no", 19),
        ("binary_cross_entropy", None, "labels", 4),
        *[("mse", output, "values", 18) for output in names.OUTPUTS],
        *[("mse", output, "values", 1) for output in (*names.ACTIVATIONS, "exp")],
        ("poisson", None, "counts", 1),
        ("poisson", None, "counts", 19),
        ("mse", "sigmoid", "labels", 10),
        ("mse", "softmax", "labels", 18),
    ],
)
def test_trajectory_of_every_loss(backend, dtype, loss, output, kind, n_out):
    net = Architecture.build([7, 9, n_out], "sigmoid", output, loss, dtype=dtype)
    data = make(net, 45, kind)
    got, want = (train(b, net, data, steps=30) for b in (backend, "numpy"))
    if np.isnan(want[2][:, 1]).all():
        assert np.isnan(got[2][:, 1]).all()
        got[2][:, 1] = want[2][:, 1] = 0
    assert_same_run(got, want, dtype)


@pytest.mark.parametrize("sizes", [[1, 2], [1, 1, 2], [3, 1, 3], [33, 17, 16, 15, 2], [64, 64, 32]])
@pytest.mark.parametrize("batch_size", [1, 3, 40, 1000])
def test_odd_sizes(backend, dtype, sizes, batch_size):
    net = Architecture.build(sizes, "relu", dtype=dtype)
    data = make(net, 40)
    run = {"batch_size": batch_size, "steps": 12, "optimizer": optimizers.Adam(), "rate": 0.01}
    assert_same_run(train(backend, net, data, **run), train("numpy", net, data, **run), dtype)


def test_large_batch_goes_through_in_chunks(backend, dtype):
    net = Architecture.build([20, 40, 3], "relu", dropout=0.2, dtype=dtype)
    data = make(net, 1499)
    for optimizer in (optimizers.SGD(), optimizers.Adam()):
        run = {"batch_size": 1300, "steps": 6, "optimizer": optimizer, "rate": 0.02, "l2": 0.1}
        assert_same_run(train(backend, net, data, **run), train("numpy", net, data, **run), dtype)


def test_blocks_of_a_large_layer(backend, dtype):
    net = Architecture.build([300, 300, 260], "relu", dtype=dtype)
    data = make(net, 60)
    run = {"batch_size": 30, "steps": 4, "optimizer": optimizers.Adam(), "rate": 0.01}
    assert_same_run(train(backend, net, data, **run), train("numpy", net, data, **run), dtype)


@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
def test_same_bits_for_any_number_of_threads(backend, dtype, optimizer, rate):
    net = Architecture.build([70, 33, 64, 5], "gelu", dropout=0.2, dtype=dtype)
    for batch_size in (2, 32, 700):  # 2 rows are fewer than some of the threads
        data = make(net, 711)
        runs = [
            train(backend, net, data, optimizer, rate, batch_size, 0.01, 8, threads)
            for threads in (1, 2, 3, 5)
        ]
        for run in runs[1:]:
            assert run[0].tobytes() == runs[0][0].tobytes()
            assert run[2].tobytes() == runs[0][2].tobytes()


def test_same_bits_however_an_epoch_is_sliced(backend, dtype):
    net = Architecture.build([20, 33, 5], "relu", dropout=0.2, dtype=dtype)
    data = make(net, 95)
    whole, sliced = (
        train(backend, net, data, optimizers.Adam(), 0.01, slices=s) for s in (None, 3)
    )
    assert whole[0].tobytes() == sliced[0].tobytes()
    assert whole[2][-1].tobytes() == sliced[2][-1].tobytes()


# --- What the drop-in for scikit-learn needs of a backend -----------------------------------------

SKLEARN_LOSSES = [
    ("cross_entropy", "labels", 5),
    ("cross_entropy", "labels", 21),
    ("binary_cross_entropy", "yes-no", 1),
    ("binary_cross_entropy", "yes-no", 18),
    ("mse", "values", 1),
    ("mse", "values", 18),
    ("poisson", "counts", 1),
    ("poisson", "counts", 18),
]


@pytest.fixture
def usual_costs():
    """What is decided by a measurement does not hang on the time of day."""
    before = {dtype: _core.skipping_costs(dtype) for dtype in ("float32", "float64")}
    for dtype in before:
        _core.skipping_costs(dtype, (1.3, 0.5))
    yield
    for dtype, costs in before.items():
        _core.skipping_costs(dtype, costs)


def test_costs_of_skipping_are_measured_once_and_in_bounds(isa, dtype):
    product, listing = _core.skipping_costs(dtype)
    assert 1 <= product <= 4
    assert 0.1 <= listing <= 4
    assert _core.skipping_costs(dtype) == (product, listing)


@pytest.mark.parametrize("costs, skips", [((1.0, 0.1), True), ((4.0, 4.0), False)])
def test_hidden_zeros_are_skipped_where_that_costs_little(dtype, usual_costs, costs, skips):
    _core.skipping_costs(dtype, costs)
    net = Architecture.build([40, 256, 256, 5], "tanh", dropout=0.5, dtype=dtype)
    parameters, x, y = make(net, 64)
    more = {"optimizer": optimizers.SGD(), "batch_size": 64, "l2": 0.0, "seed": 1, "shuffle": True}
    trainer = _core.Engine(net, 1).trainer(parameters, [], Data(x, y), TrainerSettings(**more))
    trainer.steps(0, 0, [0.01], 0)
    assert trainer.skips[1] == (skips, skips)


@pytest.fixture(params=ISAS)
def isa(request):
    before, poisoned = _core.use_isa(request.param), _core.poison(True)
    yield request.param
    _core.poison(poisoned)
    _core.use_isa(before)


def some_weights(rows):
    """Sample weights of which some are zero, one is large, and none has a short binary form."""
    weights = np.random.default_rng(9).gamma(1.0, size=rows)
    weights[::7], weights[4] = 0.0, 30.0
    return weights


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("convention", names.CONVENTIONS)
@pytest.mark.parametrize("weighed", [False, True], ids=["even", "weighed"])
@pytest.mark.parametrize("loss, kind, n_out", SKLEARN_LOSSES)
def test_conventions_and_sample_weights(
    isa, dtype, loss, kind, n_out, weighed, convention, optimizer
):
    net = Architecture.build([7, 19, 12, n_out], "tanh", None, loss, 0.1, dtype)
    data = make(net, 45, kind)
    run = {"steps": 30, "rate": 0.02, "l2": 0.3, "convention": convention, "optimizer": optimizer}
    if weighed:
        run["sample_weight"] = some_weights(45)
    got, want = (train(b, net, data, **run) for b in ("cython", "numpy"))
    if np.isnan(want[2][:, 1]).all():
        assert np.isnan(got[2][:, 1]).all()
        got[2][:, 1] = want[2][:, 1] = 0
    assert_same_run(got, want, dtype)
    for threads, slices in ((1, None), (5, 2)):
        again = train("cython", net, data, **run, threads=threads, slices=slices)
        assert again[0].tobytes() == got[0].tobytes()
        assert again[2][-1, 0].tobytes() == got[2][-1, 0].tobytes()


@pytest.mark.parametrize("convention", names.CONVENTIONS)
def test_weights_of_a_batch_in_chunks(isa, dtype, convention):
    net = Architecture.build([20, 40, 3], "relu", dtype=dtype)
    data = make(net, 1499)
    run = {"batch_size": 1300, "steps": 6, "rate": 0.02, "l2": 0.1, "convention": convention}
    run["sample_weight"] = some_weights(1499)
    assert_same_run(train("cython", net, data, **run), train("numpy", net, data, **run), dtype)


@pytest.mark.parametrize("convention", names.CONVENTIONS)
@pytest.mark.parametrize("weighed", [False, True], ids=["even", "weighed"])
@pytest.mark.parametrize("loss, kind, n_out", SKLEARN_LOSSES)
def test_objective_of_conventions(isa, dtype, loss, kind, n_out, weighed, convention):
    net = Architecture.build([7, 19, n_out], "relu", None, loss, dtype=dtype)
    parameters, x, y = make(net, 1100, kind)
    data = Data(x, y, some_weights(1100) if weighed else None)
    settings = ObjectiveSettings(l2=0.3, convention=convention)
    got, want = (e.Engine(net, 2).objective(data, settings) for e in (_core, reference))
    tolerance = 1e-12 if dtype == "float64" else 3e-5
    for scale in (1.0, 0.5, -0.1):  # planned once, called again
        loss_got, gradient = got(parameters * net_scale(net, scale))
        loss_want, expected = want(parameters * net_scale(net, scale))
        assert loss_got == pytest.approx(loss_want, rel=tolerance)
        assert np.abs(gradient - expected).max() <= tolerance * np.abs(expected).max()


def net_scale(net, scale):
    return np.dtype(net.dtype).type(scale)


@pytest.mark.parametrize(
    "loss, kind", [("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")]
)
def test_probabilities_are_clipped_in_the_convention_of_scikit_learn(isa, dtype, loss, kind):
    net = Architecture.build([3, 4], loss=loss, dtype=dtype)
    parameters, x, y = make(net, 30, kind)
    parameters *= 1e4
    engine, ref = _core.Engine(net, 1), reference.Engine(net)
    got, want = (
        e.objective(Data(x, y), ObjectiveSettings(l2=0.0, convention="sklearn"))(parameters)
        for e in (engine, ref)
    )
    assert got[0] == pytest.approx(want[0], rel=1e-6)
    assert want[0] < -4 * np.log(np.finfo(dtype).eps)


@pytest.mark.parametrize("weighed", [False, True], ids=["even", "weighed"])
def test_rows_in_a_given_order(backend, dtype, weighed):
    if weighed and backend == "numba":
        pytest.skip("not for numba")
    net = Architecture.build([9, 12, 3], dropout=0.2, dtype=dtype)
    data = make(net, 43)
    orders = [np.random.default_rng(e).permutation(43) for e in range(12)]
    run = {"orders": orders, "optimizer": optimizers.Nesterov(), "rate": 0.01}
    if weighed:
        run["sample_weight"] = some_weights(43)
    got = train(backend, net, data, **run)
    assert_same_run(got, train("numpy", net, data, **run), dtype)
    assert got[0].tobytes() != train(backend, net, data, **(run | {"orders": None}))[0].tobytes()


@pytest.mark.parametrize("rows", [np.arange(42), np.arange(44), np.arange(43) + 1, -np.arange(43)])
def test_a_wrong_order_is_refused(backend, rows):
    net = Architecture.build([9, 3])
    parameters, x, y = make(net, 43)
    trainer = choose.create(backend, net, 1).trainer(
        parameters,
        [],
        Data(x, y),
        TrainerSettings(optimizer=optimizers.SGD(), batch_size=9, l2=0.0, seed=0, shuffle=False),
    )
    with pytest.raises(ValueError, match="rows: found"):
        trainer.order(rows)


@pytest.mark.parametrize("batch_size", [1, 2, 31, 90])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_wide_layers_and_few_rows(isa, dtype, activation, batch_size):
    """Threads share the outputs of wide layers, and dz · wᵀ may go without a transpose."""
    net = Architecture.build([33, 401, 379, 17, 400, 3], activation, dropout=0.2, dtype=dtype)
    data = make(net, 91)
    # Adam would divide the smallest gradients by themselves, and blow up what was rounded.
    run = {"batch_size": batch_size, "steps": 6, "rate": 0.01, "optimizer": optimizers.Momentum()}
    got = train("cython", net, data, **run)
    assert_same_run(got, train("numpy", net, data, **run), dtype)
    for threads, slices in ((1, None), (5, 2)):
        again = train("cython", net, data, **run, threads=threads, slices=slices)
        for g, a in zip((got[0], *got[1]), (again[0], *again[1]), strict=True):
            assert g.tobytes() == a.tobytes()
    engine = _core.Engine(net, 3)
    one, many = engine.forward(data[0], data[1][:1]), engine.forward(data[0], data[1])
    assert one.tobytes() == many[:1].tobytes()
    want = reference.Engine(net).forward(*data[:2])
    np.testing.assert_allclose(many, want, rtol=0, atol=1e-3 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("optimizer", [None, optimizers.Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [1, 7, 130])
@pytest.mark.parametrize("units", [3, 16, 30, 48, 49, 130])
def test_mostly_zero_pixels(isa, dtype, units, batch_size, optimizer):
    """The first layer leaves them out; its gradient is scattered where it is narrow, and for few
    rows of SGD without L2 straight into the weights."""
    net = Architecture.build([1100, units, 5], "tanh", dtype=dtype)
    parameters, _, y = make(net, 150)
    rng = np.random.default_rng(units)
    x = rng.integers(1, 256, (150, 1100)).astype(np.uint8)
    x[rng.random(x.shape) > 0.03] = 0
    x[7], x[8:20, -1], x[9:30, 500:520] = 0, 255, 3  # nothing, the last one, and whole runs
    run = {"batch_size": batch_size, "steps": 25, "rate": 0.02, "optimizer": optimizer}
    run["l2"] = 0.01 if optimizer or units % 4 else 0.0
    data = parameters, x, y
    trainer = _core.Engine(net, 1).trainer(
        parameters.copy(),
        [],
        Data(x, y),
        TrainerSettings(optimizer=optimizers.SGD(), batch_size=7, l2=0.0, seed=1, shuffle=True),
    )
    assert trainer.sparse or units == 3
    got = train("cython", net, data, **run)
    assert_same_run(got, train("numpy", net, data, **run), dtype)
    for threads, slices in ((1, None), (5, 4)):
        again = train("cython", net, data, **run, threads=threads, slices=slices)
        assert again[0].tobytes() == got[0].tobytes()


def compressed(x, rng, dtype):
    """x in compressed rows, with some zeros among what is stored."""
    data, indices, indptr = [], [], [0]
    for row in x:
        columns = np.flatnonzero((row != 0) | (rng.random(len(row)) < 0.01))
        data.extend(row[columns])
        indices.extend(columns)
        indptr.append(len(indices))
    return arrays_sparse.Sparse(
        np.array(data, dtype), np.array(indices, np.int32), np.array(indptr, np.int64), x.shape
    )


@pytest.mark.parametrize("stored", ["float32", "float64"])
@pytest.mark.parametrize("inputs, share", [(150, 0.1), (700, 0.005), (66_000, 0.001)])
@pytest.mark.parametrize("units", [5, 130])
def test_compressed_rows(isa, dtype, stored, inputs, share, units):
    if inputs > 1000 and (units > 100 or stored != dtype):
        pytest.skip("a large layer once for each dtype")
    net = Architecture.build([inputs, units, 5], "relu", dtype=dtype)
    parameters, x, y = make(net, 120)
    rng = np.random.default_rng(2)
    x[rng.random(x.shape) > share] = 0
    x[7] = 0
    x[8:20, -1] = 1
    sparse = compressed(x, rng, stored)
    np.testing.assert_allclose(sparse.dense(slice(None), dtype), x, rtol=0, atol=1e-6)
    run = {"batch_size": 17, "steps": 20 if inputs < 1000 else 5, "l2": 0.01, "rate": 0.03}
    got = train("cython", net, (parameters, sparse, y), **run)
    assert_same_run(got, train("numpy", net, (parameters, sparse, y), **run), dtype)
    engine, ref = _core.Engine(net, 2), reference.Engine(net)
    for rows in (slice(0, 120), slice(3, 5)):
        part = compressed(x[rows], rng, stored)
        np.testing.assert_allclose(
            engine.forward(parameters, part), ref.forward(parameters, x[rows]), rtol=0, atol=1e-5
        )
    assert engine.evaluate(parameters, sparse, y)[0] == pytest.approx(
        ref.evaluate(parameters, x, y)[0], rel=1e-5
    )


def test_sparse_of_scipy():
    sparse = pytest.importorskip("scipy.sparse")
    x = np.random.default_rng(0).random((20, 30)) * (
        np.random.default_rng(1).random((20, 30)) < 0.2
    )
    for dtype in (np.float32, np.float64):
        matrix = sparse.csr_matrix(x.astype(dtype))
        taken = arrays_sparse.Sparse.of(matrix)
        assert taken.data is matrix.data or np.shares_memory(taken.data, matrix.data)
        assert (taken.dense(slice(None), dtype) == x.astype(dtype)).all()
    counts = arrays_sparse.Sparse.of(sparse.csr_array((x > 0).astype(np.int32)))
    assert (counts.dense(slice(2, 9), "float32") == (x > 0)[2:9]).all()
    # Columns in any order, and one named twice, whatever the matrix believes of itself.
    matrix = sparse.csr_matrix(([1.0, 2.0, 4.0, 8.0], [3, 1, 3, 0], [0, 3, 4]), shape=(2, 5))
    matrix.has_canonical_format = True
    assert arrays_sparse.Sparse.of(matrix).dense(slice(None), "float64").tolist() == [
        [0, 2, 0, 5, 0],
        [8, 0, 0, 0, 0],
    ]
    assert matrix.nnz == 4
    for damage in ("indices", "indptr"):
        for value in (10**6, -1):
            matrix = sparse.csr_matrix(x)
            getattr(matrix, damage)[2] = value
            with pytest.raises(ValueError, match="sparse|index|indices"):
                arrays_sparse.Sparse.of(matrix)


@pytest.mark.parametrize(
    "more", [{"sample_weight": np.ones(43)}, {"convention": "sklearn"}], ids=lambda m: next(iter(m))
)
def test_numba_says_what_it_cannot_do(more):
    if choose.available()["numba"]:
        pytest.skip("needs numba")
    net = Architecture.build([9, 3])
    with pytest.raises(ValueError, match="backend: found 'numba'"):
        train("numba", net, make(net, 43), **more)


@pytest.mark.parametrize("sizes", [[40, 16, 17, 4], [300, 64, 32], [5, 100, 3], [7, 33, 1], [3, 2]])
def test_a_few_rows_have_the_bits_of_many(isa, dtype, sizes):
    """A few rows go through weights that lie where they are; many through a padded copy."""
    loss = "binary_cross_entropy" if sizes[-1] == 1 else "cross_entropy"
    net = Architecture.build(sizes, "gelu", loss=loss, dtype=dtype)
    parameters, x, _ = make(net, 600, "values")
    engine = _core.Engine(net, 2)
    many = engine.forward(parameters, x)
    for count in (1, 3, 16, 17):
        assert engine.forward(parameters, x[:count]).tobytes() == many[:count].tobytes()


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
def test_training_stops_before_a_loss_that_is_not_finite(backend, dtype, optimizer):
    """The weights are those of the last update before it, bit for bit."""
    net = Architecture.build([6, 9, 3], loss="mse", dtype=dtype)
    parameters, x, y = make(net, 700, "values")
    parameters *= 3
    x[123] = np.finfo(dtype).max / 4
    steps = {}
    for name, threads in ((backend, 1), (backend, 3), ("numpy", 1)):
        for batch_size in (7, 600):
            trained, again = parameters.copy(), parameters.copy()
            rates = np.full(-(-700 // batch_size), 0.01)
            for vector, watch in ((trained, True), (again, False)):
                trainer = choose.create(name, net, threads).trainer(
                    vector,
                    [np.zeros_like(vector) for _ in range(optimizer.slots)],
                    Data(x, y),
                    TrainerSettings(
                        optimizer=optimizer,
                        batch_size=batch_size,
                        l2=0.0,
                        seed=1,
                        shuffle=True,
                        watch=watch,
                    ),
                )
                trainer.steps(0, 0, rates, 0)
                trainer.store()
                assert trainer.diverged == watch
                if watch:
                    steps[name, batch_size] = trainer.done
                    assert trainer.done < len(rates)
                    rates = rates[: trainer.done]
            assert np.isfinite(trained).all()
            assert again.tobytes() == trained.tobytes()
    for batch_size in (7, 600):
        assert steps[backend, batch_size] == steps["numpy", batch_size]


def mostly_zeros(net, rows, share=0.85):
    """Data of which so many values are zero, with one column all zeros and one all ones."""
    parameters, x, y = make(net, rows)
    x[np.random.default_rng(5).random(x.shape) < share] = 0
    x[:, 3], x[:, 5] = 0, 1
    return parameters, x, y


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("batch_size", [7, 64, 200, 1100])
def test_zeros_of_x_are_skipped(backend, dtype, optimizer, batch_size):
    net = Architecture.build([150, 270, 5], "relu", dtype=dtype)
    data = mostly_zeros(net, 1150)
    if backend == "cython":
        trainer = _core.Engine(net, 2).trainer(
            data[0].copy(),
            [],
            Data(*data[1:]),
            TrainerSettings(optimizer=optimizers.SGD(), batch_size=9, l2=0.0, seed=0, shuffle=True),
        )
        assert trainer.sparse
    run = {"batch_size": batch_size, "steps": 7, "optimizer": optimizer, "rate": 0.01, "l2": 0.01}
    got = train(backend, net, data, **run)
    assert_same_run(got, train("numpy", net, data, **run), dtype)
    for threads in (1, 5):
        assert got[0].tobytes() == train(backend, net, data, **run, threads=threads)[0].tobytes()


@pytest.mark.parametrize("isa", ISAS)
def test_skipping_zeros_changes_no_bits(isa, dtype):
    before = _core.use_isa(isa)
    # In eight rows nothing is skipped; in one and in many it is.
    net = Architecture.build([150, 270, 5], "tanh", dtype=dtype)
    parameters, x, _ = mostly_zeros(net, 40)
    engine = _core.Engine(net, 1)
    many = engine.forward(parameters, x)
    few = np.concatenate([engine.forward(parameters, x[i : i + 8]) for i in range(0, 40, 8)])
    alone = np.concatenate([engine.forward(parameters, row[None]) for row in x])
    _core.use_isa(before)
    assert few.tobytes() == many.tobytes() == alone.tobytes()


@pytest.mark.parametrize(
    "optimizer",
    [optimizers.SGD(), optimizers.Momentum(), optimizers.Adam(epsilon=0.1)],
    ids=lambda o: o.name,
)
@pytest.mark.parametrize("batch_size", [9, 16, 33, 70, 1100])
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
def test_empty_parts_of_rows(isa, dtype, source, batch_size, optimizer):
    """A narrow first layer leaves out the vectors of a row that are zero."""
    width = {"avx512": 64, "avx2": 32}.get(isa, 16) // np.dtype(dtype).itemsize
    units = max(1, width - 1)
    net = Architecture.build([1100, units, 3], "tanh", dtype=dtype)
    rng = np.random.default_rng(batch_size)
    parameters, _, y = make(net, 1150)
    x = rng.integers(1, 256, (1150, 2200)).astype(np.uint8)
    x[np.repeat(rng.random((1150, 22)) < 0.7, 100, axis=1)] = 0
    x[7], x[8:20, -5:], x[30:40] = 0, 255, 9
    x = (x / np.uint8(255)).astype(source) if source != np.uint8 else x
    x = x[:, ::-2] if batch_size == 33 else x[:, 1000:2100]
    data = parameters, x, y
    trainer = _core.Engine(net, 1).trainer(
        parameters.copy(),
        [],
        Data(x, y),
        TrainerSettings(
            optimizer=optimizers.SGD(), batch_size=batch_size, l2=0.0, seed=1, shuffle=True
        ),
    )
    assert trainer.marked == (batch_size >= 16 and units > 1)
    run = {"batch_size": batch_size, "steps": 9, "rate": 0.01, "optimizer": optimizer}
    run["l2"] = 0.0 if batch_size == 33 else 0.01
    got = train("cython", net, data, **run)
    assert_same_run(got, train("numpy", net, data, **run), dtype)
    for threads, slices in ((1, None), (5, 4)):
        again = train("cython", net, data, **run, threads=threads, slices=slices)
        for g, a in zip((got[0], *got[1]), (again[0], *again[1]), strict=True):
            assert g.tobytes() == a.tobytes()


def test_full_rows_are_not_marked():
    """Nor those of wide layers, nor those that are predicted."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 64).astype(np.int32)
    x = rng.integers(1, 256, (64, 800)).astype(np.uint8)
    empty = x.copy()
    empty[:, 100:] = 0
    for units, pixels, marked in ((3, empty, True), (3, x, False), (200, empty, False)):
        net = Architecture.build([800, 3] if units == 3 else [800, units, 3], "tanh")
        parameters, _, _ = make(net, 64)
        more = {
            "optimizer": optimizers.SGD(),
            "batch_size": 64,
            "l2": 0.0,
            "seed": 1,
            "shuffle": False,
        }
        trainer = _core.Engine(net, 1).trainer(
            parameters, [], Data(pixels, y), TrainerSettings(**more)
        )
        assert trainer.marked == marked
    net = Architecture.build([800, 3], "tanh")
    parameters, _, _ = make(net, 64)
    parameters[-5] = np.nan  # of a weight whose pixel is zero in all rows
    assert np.isnan(_core.Engine(net, 1).forward(parameters, empty)).any(axis=1).all()


@pytest.mark.parametrize(
    # Adam with its usual epsilon divides the smallest gradients by themselves.
    "optimizer",
    [optimizers.SGD(), optimizers.Momentum(), optimizers.Adam(epsilon=0.1)],
    ids=lambda o: o.name,
)
@pytest.mark.parametrize("batch_size", [16, 33, 70, 1100])
def test_zeros_of_hidden_layers_are_skipped(isa, usual_costs, dtype, optimizer, batch_size):
    """Those of dropout and of relu, as soon as they have been counted; no bit shows it."""
    net = Architecture.build(
        [40, 130, 97, 300, 5], ["relu", "tanh", "relu"], dropout=[0.6, 0.8, 0.7], dtype=dtype
    )
    data = make(net, 1150)
    run = {"batch_size": batch_size, "steps": 19, "optimizer": optimizer, "rate": 0.003}
    run["l2"] = 0.0 if batch_size == 33 else 0.01
    got = train("cython", net, data, **run)
    assert_same_run(got, train("numpy", net, data, **run), dtype)
    for threads, slices in ((1, None), (5, 3)):
        again = train("cython", net, data, **run, threads=threads, slices=slices)
        for g, a in zip((got[0], *got[1]), (again[0], *again[1]), strict=True):
            assert g.tobytes() == a.tobytes()

    # A new trainer has counted nothing yet: its first step skips none.
    parameters, x, y = data
    parameters = parameters.copy()
    state = [np.zeros_like(parameters) for _ in range(optimizer.slots)]
    more = {"batch_size": batch_size, "l2": run["l2"], "seed": 2**40 + 7, "shuffle": True}
    in_epoch = -(-len(x) // batch_size)
    for done in range(run["steps"]):
        trainer = _core.Engine(net, 2).trainer(
            parameters, state, Data(x, y), TrainerSettings(optimizer=optimizer, **more)
        )
        assert not any(map(any, trainer.skips))
        trainer.steps(*divmod(done, in_epoch), [run["rate"] / (1.0 + 0.05 * done)], done)
        trainer.store()
        # Few rows are multiplied by wᵀ without a transpose of it, and then with their zeros.
        dz = batch_size > 32
        assert trainer.skips[1:3] == [(True, dz or found) for _, found in trainer.skips[1:3]]
    for g, a in zip((got[0], *got[1]), (parameters, *state), strict=True):
        assert g.tobytes() == a.tobytes()


def test_zeros_are_counted_again_and_again(usual_costs):
    """Whether steps come one at a time or not."""
    net = Architecture.build([3, 130, 130, 3], "relu")
    parameters, _, y = make(net, 60 * 16)
    x = np.ones((60 * 16, 3), np.float32)
    x[20 * 16 : 50 * 16] = -1  # with weights above zero, no unit is on
    for count in (1, 4):
        trainer = _core.Engine(net, 2).trainer(
            np.abs(parameters),
            [],
            Data(x, y),
            TrainerSettings(
                optimizer=optimizers.SGD(), batch_size=16, l2=0.0, seed=1, shuffle=False
            ),
        )
        found = []
        for step in range(0, 60, count):
            trainer.steps(0, step, [1e-9] * count, step)
            found += [trainer.skips[1][0]] * count
        assert not any(found[:20] + found[52:])
        assert all(found[38:48])


def test_what_is_not_zero_is_not_skipped(usual_costs):
    """Nor what is, where it is little, or in narrow layers, or in few rows."""
    for sizes, dropout, batch_size in (
        ([20, 200, 200, 3], 0.1, 64),
        ([20, 300, 5, 3], [0.9, 0.0], 64),
        ([20, 200, 200, 3], 0.9, 9),
    ):
        net = Architecture.build(sizes, "tanh", dropout=dropout)
        parameters, x, y = make(net, 300)
        more = {"optimizer": optimizers.SGD(), "batch_size": batch_size, "l2": 0.0, "seed": 1}
        trainer = _core.Engine(net, 2).trainer(
            parameters, [], Data(x, y), TrainerSettings(shuffle=True, **more)
        )
        trainer.steps(0, 0, [0.01] * 4, 0)
        assert not any(map(any, trainer.skips))


def read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


LAYOUTS = {
    "fortran": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("x_dtype", ["uint8", "float32", "float64"])
def test_layouts_of_x(backend, dtype, x_dtype, layout):
    net = Architecture.build([21, 9, 3], dtype=dtype)
    parameters, _, y = make(net, 50)
    x = np.random.default_rng(3).integers(0, 256, (50, 21)).astype(x_dtype)
    x = x if x_dtype == "uint8" else x / 255
    laid = LAYOUTS[layout](x)
    assert (laid == x).all()
    got = train(backend, net, (parameters, laid, read_only(y)), steps=10)
    assert got[0].tobytes() == train(backend, net, (parameters, x, y), steps=10)[0].tobytes()
    assert_same_run(got, train("numpy", net, (parameters, x, y), steps=10), dtype)


def test_pixels_are_scaled_to_one(backend):
    net = Architecture.build([5, 2], dtype="float64")
    parameters, _, _ = make(net, 1)
    x = np.array([[0, 1, 127, 254, 255]], np.uint8)
    engine = choose.create(backend, net, 1)
    np.testing.assert_allclose(
        engine.forward(parameters, x), engine.forward(parameters, x / 255), rtol=1e-14
    )


@pytest.mark.parametrize("rows", [1, 5, 1500])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_forward_evaluate_and_gradient(backend, dtype, rows, threads):
    for kind, loss in (("labels", "cross_entropy"), ("soft", "cross_entropy"), ("values", "mse")):
        net = Architecture.build([33, 20, 6, 17], "elu", None, loss, 0.5, dtype)
        parameters, x, y = make(net, rows, kind)
        engine, ref = choose.create(backend, net, threads), reference.Engine(net)
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(
            engine.forward(parameters, x), ref.forward(parameters, x), rtol=0, atol=tolerance
        )
        np.testing.assert_allclose(
            engine.evaluate(parameters, x, y), ref.evaluate(parameters, x, y), rtol=tolerance
        )
        loss_got, gradient = engine.objective(Data(x, y), ObjectiveSettings(l2=0.1))(parameters)
        loss_want, want = ref.objective(Data(x, y), ObjectiveSettings(l2=0.1))(parameters)
        assert loss_got == pytest.approx(loss_want, rel=tolerance)
        assert np.abs(gradient - want).max() <= tolerance * np.abs(want).max()


def test_gradient_agrees_with_finite_differences(backend):
    net = Architecture.build([4, 6, 3, 5], ["gelu", "softplus"], dtype="float64")
    parameters, x, y = make(net, 9)
    engine = choose.create(backend, net, 2)
    _, gradient = engine.objective(Data(x, y), ObjectiveSettings(l2=0.1))(parameters)
    h = 1e-6
    for i in range(len(parameters)):
        up, down = parameters.copy(), parameters.copy()
        up[i] += h
        down[i] -= h
        slope = engine.objective(Data(x, y), ObjectiveSettings(l2=0.1))(up)[0]
        slope -= engine.objective(Data(x, y), ObjectiveSettings(l2=0.1))(down)[0]
        assert gradient[i] == pytest.approx(slope / (2 * h), abs=1e-7 * np.abs(gradient).max())


def test_extreme_logits_stay_finite(backend, dtype):
    for loss, kind in (("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")):
        net = Architecture.build([3, 4], loss=loss, dtype=dtype)
        parameters, x, y = make(net, 30, kind)
        parameters *= 1e4
        engine, ref = choose.create(backend, net, 1), reference.Engine(net)
        got, want = (
            e.objective(Data(x, y), ObjectiveSettings(l2=0.0))(parameters) for e in (engine, ref)
        )
        assert np.isfinite(got[1]).all()
        assert got[0] == pytest.approx(want[0], rel=1e-6)


@pytest.mark.parametrize("activation", names.ACTIVATIONS)
def test_nan_is_never_swallowed(backend, dtype, activation):
    for loss, kind in (("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")):
        net = Architecture.build([20, 9, 4], activation, loss=loss, dtype=dtype)
        parameters, x, y = make(net, 3, kind)
        net.views(parameters)[0][0][2, 5] = np.nan
        engine = choose.create(backend, net, 1)
        assert np.isnan(engine.forward(parameters, x)).all()
        assert np.isnan(engine.evaluate(parameters, x, y)[0])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", [1, 4, 63, 1000])
def test_compiled_random_words(isa, count):
    before = _core.use_isa(isa)
    got = _core.philox_words(0x0123456789ABCDEF, count, 7, 65537)
    _core.use_isa(before)
    assert (got == philox.words(0x0123456789ABCDEF, count, 7, 65537)).all()


def test_two_python_threads_train_at_once(backend):
    net = Architecture.build([30, 40, 5], dropout=0.1)
    data = make(net, 400)
    alone = train(backend, net, data, optimizers.Adam(), 0.01, steps=200)[0]
    results = [None, None]

    def work(i):
        results[i] = train(backend, net, data, optimizers.Adam(), 0.01, steps=200)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(r.tobytes() == alone.tobytes() for r in results)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a POSIX timer")
def test_interrupt_is_answered_within_a_second(backend):
    net = Architecture.build([200, 200, 10])
    parameters, x, y = make(net, 20000)
    trainer = choose.create(backend, net, 2).trainer(
        parameters,
        [],
        Data(x, y),
        TrainerSettings(optimizer=optimizers.SGD(), batch_size=20000, l2=0.0, seed=0, shuffle=True),
    )
    trainer.steps(0, 0, np.full(1, 1e-3), 0)  # compile what is to be compiled
    asked = []

    def ask(*_):
        asked.append(time.monotonic())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ask)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            for epoch in range(1, 10**6):
                trainer.steps(epoch, 0, np.full(1, 1e-3), epoch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - asked[0] < 1.0
    trainer.store()
    assert np.isfinite(parameters).all()
