"""Every compiled backend, instruction set and dtype against the reference, step by step."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

from pynn import backends, philox, reference, spec
from pynn.spec import Architecture

_core = pytest.importorskip("pynn._core")

ISAS = _core.info()["isas"]
VARIANTS = [("cython", isa) for isa in ISAS]
if not backends.available()["numba"]:
    VARIANTS.append(("numba", None))

# Of the largest weight after 50 steps.
TOLERANCE = {"float64": 1e-10, "float32": 1e-3}
OPTIMIZERS = [
    (spec.SGD(), 0.1),
    (spec.Momentum(), 0.03),
    (spec.Nesterov(), 0.03),
    (spec.RMSProp(), 0.003),
    (spec.Adagrad(), 0.03),
    (spec.Adam(), 0.003),
    (spec.AdamW(weight_decay=0.1), 0.003),
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
):
    """Parameters, state, and sums after so many steps, with the epochs cut into slices of steps."""
    optimizer = optimizer or spec.SGD()
    parameters, x, y = data
    parameters = parameters.copy()
    state = [np.zeros_like(parameters) for _ in range(optimizer.slots)]
    trainer = backends.create(name, net, threads).trainer(
        parameters,
        state,
        x,
        y,
        optimizer=optimizer,
        batch_size=batch_size,
        l2=l2,
        seed=2**40 + 7,
        shuffle=shuffle,
    )
    in_epoch = -(-len(x) // batch_size)
    done, sums = 0, []
    while done < steps:
        epoch, first = divmod(done, in_epoch)
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


@pytest.mark.parametrize("activation", spec.ACTIVATIONS)
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
        *[("mse", output, "values", 18) for output in spec.OUTPUTS],
        *[("mse", output, "values", 1) for output in spec.ACTIVATIONS],
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
    run = {"batch_size": batch_size, "steps": 12, "optimizer": spec.Adam(), "rate": 0.01}
    assert_same_run(train(backend, net, data, **run), train("numpy", net, data, **run), dtype)


def test_large_batch_goes_through_in_chunks(backend, dtype):
    net = Architecture.build([20, 40, 3], "relu", dropout=0.2, dtype=dtype)
    data = make(net, 1499)
    for optimizer in (spec.SGD(), spec.Adam()):
        run = {"batch_size": 1300, "steps": 6, "optimizer": optimizer, "rate": 0.02, "l2": 0.1}
        assert_same_run(train(backend, net, data, **run), train("numpy", net, data, **run), dtype)


def test_blocks_of_a_large_layer(backend, dtype):
    net = Architecture.build([300, 300, 260], "relu", dtype=dtype)
    data = make(net, 60)
    run = {"batch_size": 30, "steps": 4, "optimizer": spec.Adam(), "rate": 0.01}
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
    whole, sliced = (train(backend, net, data, spec.Adam(), 0.01, slices=s) for s in (None, 3))
    assert whole[0].tobytes() == sliced[0].tobytes()
    assert whole[2][-1].tobytes() == sliced[2][-1].tobytes()


def mostly_zeros(net, rows, share=0.85):
    """Data of which so many values are zero, with one column all zeros and one all ones."""
    parameters, x, y = make(net, rows)
    x[np.random.default_rng(5).random(x.shape) < share] = 0
    x[:, 3], x[:, 5] = 0, 1
    return parameters, x, y


@pytest.mark.parametrize("optimizer", [spec.SGD(), spec.Adam()], ids=lambda o: o.name)
@pytest.mark.parametrize("batch_size", [7, 64, 200, 1100])
def test_zeros_of_x_are_skipped(backend, dtype, optimizer, batch_size):
    net = Architecture.build([150, 270, 5], "relu", dtype=dtype)
    data = mostly_zeros(net, 1150)
    if backend == "cython":
        trainer = _core.Engine(net, 2).trainer(
            data[0].copy(),
            [],
            *data[1:],
            optimizer=spec.SGD(),
            batch_size=9,
            l2=0.0,
            seed=0,
            shuffle=True,
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
    # Where rows are few, nothing is skipped: the same row, once among many and once alone.
    net = Architecture.build([150, 270, 5], "tanh", dtype=dtype)
    parameters, x, _ = mostly_zeros(net, 40)
    engine = _core.Engine(net, 1)
    many = engine.forward(parameters, x)
    alone = np.concatenate([engine.forward(parameters, row[None]) for row in x])
    _core.use_isa(before)
    assert many.tobytes() == alone.tobytes()


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
    engine = backends.create(backend, net, 1)
    np.testing.assert_allclose(
        engine.forward(parameters, x), engine.forward(parameters, x / 255), rtol=1e-14
    )


@pytest.mark.parametrize("rows", [1, 5, 1500])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_forward_evaluate_and_gradient(backend, dtype, rows, threads):
    for kind, loss in (("labels", "cross_entropy"), ("soft", "cross_entropy"), ("values", "mse")):
        net = Architecture.build([33, 20, 6, 17], "elu", None, loss, 0.5, dtype)
        parameters, x, y = make(net, rows, kind)
        engine, ref = backends.create(backend, net, threads), reference.Engine(net)
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(
            engine.forward(parameters, x), ref.forward(parameters, x), rtol=0, atol=tolerance
        )
        np.testing.assert_allclose(
            engine.evaluate(parameters, x, y), ref.evaluate(parameters, x, y), rtol=tolerance
        )
        loss_got, gradient = engine.loss_and_gradient(parameters, x, y, 0.1)
        loss_want, want = ref.loss_and_gradient(parameters, x, y, 0.1)
        assert loss_got == pytest.approx(loss_want, rel=tolerance)
        assert np.abs(gradient - want).max() <= tolerance * np.abs(want).max()


def test_gradient_agrees_with_finite_differences(backend):
    net = Architecture.build([4, 6, 3, 5], ["gelu", "softplus"], dtype="float64")
    parameters, x, y = make(net, 9)
    engine = backends.create(backend, net, 2)
    _, gradient = engine.loss_and_gradient(parameters, x, y, 0.1)
    h = 1e-6
    for i in range(len(parameters)):
        up, down = parameters.copy(), parameters.copy()
        up[i] += h
        down[i] -= h
        slope = engine.loss_and_gradient(up, x, y, 0.1)[0]
        slope -= engine.loss_and_gradient(down, x, y, 0.1)[0]
        assert gradient[i] == pytest.approx(slope / (2 * h), abs=1e-7 * np.abs(gradient).max())


def test_extreme_logits_stay_finite(backend, dtype):
    for loss, kind in (("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")):
        net = Architecture.build([3, 4], loss=loss, dtype=dtype)
        parameters, x, y = make(net, 30, kind)
        parameters *= 1e4
        engine, ref = backends.create(backend, net, 1), reference.Engine(net)
        got, want = (e.loss_and_gradient(parameters, x, y, 0.0) for e in (engine, ref))
        assert np.isfinite(got[1]).all()
        assert got[0] == pytest.approx(want[0], rel=1e-6)


@pytest.mark.parametrize("activation", spec.ACTIVATIONS)
def test_nan_is_never_swallowed(backend, dtype, activation):
    for loss, kind in (("cross_entropy", "labels"), ("binary_cross_entropy", "yes-no")):
        net = Architecture.build([20, 9, 4], activation, loss=loss, dtype=dtype)
        parameters, x, y = make(net, 3, kind)
        net.views(parameters)[0][0][2, 5] = np.nan
        engine = backends.create(backend, net, 1)
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
    alone = train(backend, net, data, spec.Adam(), 0.01, steps=200)[0]
    results = [None, None]

    def work(i):
        results[i] = train(backend, net, data, spec.Adam(), 0.01, steps=200)[0]

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
    trainer = backends.create(backend, net, 2).trainer(
        parameters, [], x, y, optimizer=spec.SGD(), batch_size=20000, l2=0.0, seed=0, shuffle=True
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
