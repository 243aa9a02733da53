"""Every compiled backend, instruction set and dtype against the reference, step by step."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest

from pynn.backends import choose, reference
from pynn.backends.contract import Data
from pynn.spec import names, optimizers, philox
from pynn.spec.architecture import Architecture
from tests.parity import (
    ACTIVATIONS,
    ISAS,
    OPTIMIZERS,
    PARAMETRIC,
    Case,
    Problem,
    assert_follows_reference,
    assert_identical,
    assert_same_for_any_threads,
    new_trainer,
    problem,
    some_weights,
    train,
    without_some,
)

_core = pytest.importorskip("pynn.backends.cython._core")


@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
def test_every_optimizer_follows_the_reference(backend, dtype, optimizer, rate):
    net = Architecture.build([17, 33, 3, 5], "tanh", dropout=[0.3, 0.1], dtype=dtype)
    case = Case(optimizer=optimizer, rate=rate, l2=0.01)
    # 73 rows leave a short last batch of 3.
    assert_follows_reference(backend, net, problem(net, 73), case)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation_follows_the_reference(backend, dtype, activation):
    net = Architecture.build([5, 33, 16, 20, 3], activation, dropout=[0.0, 0.2, 0.0], dtype=dtype)
    case = Case(batch_size=17, steps=20, rate=0.05)
    assert_follows_reference(backend, net, problem(net, 64), case)


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
        *[("mse", output, "values", 18) for output in (*names.OUTPUTS, *PARAMETRIC)],
        *[("mse", output, "values", 1) for output in ("identity", "sigmoid", "mish", "exp")],
        ("poisson", None, "counts", 1),
        ("poisson", None, "counts", 19),
        ("mse", "sigmoid", "labels", 10),
        ("mse", "softmax", "labels", 18),
    ],
)
def test_every_loss_follows_the_reference(backend, dtype, loss, output, kind, n_out):
    net = Architecture.build([7, 9, n_out], "sigmoid", output, loss, dtype=dtype)
    given, case = problem(net, 45, kind), Case(steps=30)
    assert_follows_reference(backend, net, given, case)
    weighted = case.but(sample_weight=some_weights(45), steps=20, rate=0.05)
    assert_follows_reference(backend, net, given, weighted)
    if kind in ("yes-no", "values", "counts") and output != "softmax":
        given, weights = without_some(given)
        missing = weighted.but(sample_weight=weights, missing=True)
        assert_follows_reference(backend, net, given, missing)


@pytest.mark.parametrize("convention", ["pynn", "sklearn"])
@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
def test_a_batch_without_weight_makes_no_update(backend, dtype, optimizer, rate, convention):
    """Also of several chunks, and with weight decay; but it counts as a step."""
    if backend == "numba" and convention == "sklearn":
        pytest.skip("Numba has pynn's convention only")
    net = Architecture.build([9, 20, 3], "tanh", dropout=0.1, dtype=dtype)
    for rows, size in ((50, 10), (2600, 650)):
        weights = some_weights(rows)
        weights[size : 2 * size] = weights[-(rows % size or size) :] = 0
        case = Case(
            optimizer=optimizer,
            rate=rate,
            batch_size=size,
            steps=8,
            l2=0.01,
            shuffle=False,
            sample_weight=weights,
            convention=convention,
        )
        assert_follows_reference(backend, net, problem(net, rows), case)


@pytest.mark.parametrize("sizes", [[1, 2], [1, 1, 2], [3, 1, 3], [33, 17, 16, 15, 2], [64, 64, 32]])
@pytest.mark.parametrize("batch_size", [1, 3, 40, 1000])
def test_odd_sizes_of_layers_and_batches_follow_the_reference(backend, dtype, sizes, batch_size):
    net = Architecture.build(sizes, "relu", dtype=dtype)
    case = Case(batch_size=batch_size, steps=12, optimizer=optimizers.Adam(), rate=0.01)
    assert_follows_reference(backend, net, problem(net, 40), case)


def test_a_batch_of_several_chunks_follows_the_reference(backend, dtype):
    net = Architecture.build([20, 40, 3], "relu", dropout=0.2, dtype=dtype)
    for optimizer in (optimizers.SGD(), optimizers.Adam()):
        case = Case(batch_size=1300, steps=6, optimizer=optimizer, rate=0.02, l2=0.1)
        assert_follows_reference(backend, net, problem(net, 1499), case)


def test_a_layer_of_several_blocks_follows_the_reference(backend, dtype):
    net = Architecture.build([300, 300, 260], "relu", dtype=dtype)
    case = Case(batch_size=30, steps=4, optimizer=optimizers.Adam(), rate=0.01)
    assert_follows_reference(backend, net, problem(net, 60), case)


@pytest.mark.parametrize("optimizer, rate", OPTIMIZERS, ids=lambda o: getattr(o, "name", ""))
def test_results_do_not_depend_on_the_number_of_threads(backend, dtype, optimizer, rate):
    net = Architecture.build([70, 33, 64, 5], "gelu", dropout=0.2, dtype=dtype)
    given = problem(net, 711)
    for batch_size in (2, 32, 700):  # 2 rows are fewer than some of the threads
        case = Case(optimizer=optimizer, rate=rate, batch_size=batch_size, l2=0.01, steps=8)
        one = train(backend, net, given, case.but(threads=1))
        for threads in (2, 3, 5):
            run = train(backend, net, given, case.but(threads=threads))
            assert_identical(run, one)
            np.testing.assert_array_equal(run.sums, one.sums)


def test_results_do_not_depend_on_how_an_epoch_is_divided_into_calls(backend, dtype):
    net = Architecture.build([20, 33, 5], "relu", dropout=0.2, dtype=dtype)
    given, case = problem(net, 95), Case(optimizer=optimizers.Adam(), rate=0.01)
    sliced = train(backend, net, given, case.but(slices=3))
    assert_identical(sliced, train(backend, net, given, case))


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_rows_in_a_given_order_follow_the_reference(backend, dtype, weighted):
    net = Architecture.build([9, 12, 3], dropout=0.2, dtype=dtype)
    given = problem(net, 43)
    orders = [np.random.default_rng(e).permutation(43) for e in range(12)]
    weights = some_weights(43) if weighted else None
    case = Case(orders=orders, optimizer=optimizers.Nesterov(), rate=0.01, sample_weight=weights)
    run = assert_follows_reference(backend, net, given, case)
    shuffled = train(backend, net, given, case.but(orders=None))
    assert run.parameters.tobytes() != shuffled.parameters.tobytes()


@pytest.mark.parametrize("rows", [np.arange(42), np.arange(44), np.arange(43) + 1, -np.arange(43)])
def test_an_order_that_is_no_permutation_is_refused(backend, rows):
    net = Architecture.build([9, 3])
    engine = choose.create(backend, net, 1)
    trainer = new_trainer(engine, problem(net, 43), Case(batch_size=9, shuffle=False))
    with pytest.raises(ValueError, match="rows: found"):
        trainer.order(rows)


@pytest.mark.parametrize("batch_size", [1, 2, 31, 90])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_wide_layers_and_few_rows_follow_the_reference(isa, dtype, activation, batch_size):
    """Threads share the outputs of wide layers, and dz · wᵀ may go without a transpose."""
    net = Architecture.build([33, 401, 379, 17, 400, 3], activation, dropout=0.2, dtype=dtype)
    given = problem(net, 91)
    # Not Adam: it divides the smallest gradients by themselves, and magnifies their rounding.
    case = Case(batch_size=batch_size, steps=6, rate=0.01, optimizer=optimizers.Momentum())
    run = assert_follows_reference("cython", net, given, case)
    assert_same_for_any_threads(net, given, case, run, slices=2)
    engine = _core.Engine(net, 3)
    one = engine.forward(given.parameters, given.x[:1])
    many = engine.forward(given.parameters, given.x)
    assert one.tobytes() == many[:1].tobytes()
    want = reference.Engine(net).forward(given.parameters, given.x)
    np.testing.assert_allclose(many, want, rtol=0, atol=1e-3 if dtype == "float32" else 1e-10)


def test_numba_refuses_the_convention_of_scikit_learn():
    if choose.available()["numba"]:
        pytest.skip("needs numba")
    net = Architecture.build([9, 3])
    with pytest.raises(ValueError, match="backend: found 'numba'"):
        train("numba", net, problem(net, 43), Case(convention="sklearn"))


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Adam()], ids=lambda o: o.name)
def test_training_stops_before_a_loss_that_is_not_finite(backend, dtype, optimizer):
    """The weights are those after the last update before it, in every bit."""
    net = Architecture.build([6, 9, 3], loss="mse", dtype=dtype)
    given = problem(net, 700, "values")
    given.parameters[...] *= 3
    given.x[123] = np.finfo(dtype).max / 4
    for batch_size in (7, 600):
        case = Case(optimizer=optimizer, batch_size=batch_size, rate=0.01)
        counts = set()
        for name, threads in ((backend, 1), (backend, 3), ("numpy", 1)):
            engine = choose.create(name, net, threads)
            watched, done = _epoch(engine, given, case.but(watch=True))
            in_epoch = -(-700 // batch_size)
            assert done < in_epoch
            assert np.isfinite(watched).all()
            unwatched, _ = _epoch(engine, given, case, done)
            assert unwatched.tobytes() == watched.tobytes()
            counts.add(done)
        assert len(counts) == 1


def _epoch(engine, given, case, steps=None):
    """The parameters after an epoch, or its first steps, at one rate; and how many were done."""
    vectors = [given.parameters.copy()]
    vectors += [np.zeros_like(vectors[0]) for _ in range(case.optimizer.slots)]
    data = Data(given.x, given.y)
    trainer = engine.trainer(vectors[0], vectors[1:], data, case.settings())
    in_epoch = -(-len(given.y) // case.batch_size)
    trainer.steps(0, 0, np.full(in_epoch if steps is None else steps, case.rate), 0)
    trainer.store()
    assert trainer.diverged == case.watch
    return vectors[0], trainer.done


def _read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


LAYOUTS = {
    "fortran": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": _read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("x_dtype", ["uint8", "float32", "float64"])
def test_results_do_not_depend_on_the_layout_of_x(backend, dtype, x_dtype, layout):
    net = Architecture.build([21, 9, 3], dtype=dtype)
    parameters, _, y = problem(net, 50)
    x = np.random.default_rng(3).integers(0, 256, (50, 21)).astype(x_dtype)
    x = x if x_dtype == "uint8" else x / 255
    laid = LAYOUTS[layout](x)
    assert (laid == x).all()
    case = Case(steps=10)
    plain = assert_follows_reference(backend, net, Problem(parameters, x, y), case)
    assert_identical(train(backend, net, Problem(parameters, laid, _read_only(y)), case), plain)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", [1, 4, 63, 1000])
def test_compiled_random_words_are_those_of_philox(isa, count):
    before = _core.use_isa(isa)
    got = _core.philox_words(0x0123456789ABCDEF, count, 7, 65537)
    _core.use_isa(before)
    assert (got == philox.words(0x0123456789ABCDEF, count, 7, 65537)).all()


def test_two_python_threads_that_train_at_once_get_the_results_of_one(backend):
    net = Architecture.build([30, 40, 5], dropout=0.1)
    given, case = problem(net, 400), Case(optimizer=optimizers.Adam(), rate=0.01, steps=200)
    alone = train(backend, net, given, case)
    runs = [None, None]

    def work(i):
        runs[i] = train(backend, net, given, case)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        assert_identical(run, alone)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a POSIX timer")
def test_a_signal_interrupts_training_between_two_updates(backend):
    net = Architecture.build([200, 200, 10])
    given = problem(net, 20000)
    parameters = given.parameters.copy()
    trainer = choose.create(backend, net, 2).trainer(
        parameters, [], Data(given.x, given.y), Case(batch_size=20000).settings()
    )
    trainer.steps(0, 0, np.full(1, 1e-3), 0)  # compiles what has to be compiled
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            for epoch in range(1, 10**9):
                trainer.steps(epoch, 0, np.full(1, 1e-3), epoch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    trainer.store()
    assert np.isfinite(parameters).all()
