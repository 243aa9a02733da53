"""What is particular to the Numba backend; that it follows the reference is in test_parity."""

from __future__ import annotations

import contextlib
import os
import types

import numpy as np
import pytest

from pynn.backends import activations, reference
from pynn.backends.contract import Data, ObjectiveSettings, TrainerSettings
from pynn.backends.numba import engine as numba_engine
from pynn.backends.numba import loop
from pynn.backends.numba import parameters as numba_parameters
from pynn.backends.numba import threads as numba_threads
from pynn.spec import names, optimizers, philox
from tests.child import python

pytest.importorskip("numba")

import numba

from pynn.spec.architecture import Architecture
from tests.training.injector import Injector

THREADS = (1, 2, 3, 5)


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture
def pace(monkeypatch):
    """Fix the threads and the chunks of every slice: ``pace(threads, chunks)``."""

    def fix(threads, chunks=10**9):
        monkeypatch.setattr(numba_threads.Pace, "choose", lambda self: (threads, chunks))
        monkeypatch.setattr(numba_threads.Pace, "note", lambda self, seconds, done: None)

    return fix


def make(net, rows, seed=0):
    """Parameters, x and labels for a network."""
    rng = np.random.default_rng(seed)
    parameters = rng.normal(scale=0.3, size=net.n_parameters).astype(net.dtype)
    x = rng.integers(0, 256, (rows, net.n_in)).astype(np.uint8)
    return parameters, x, rng.integers(0, net.n_out, rows).astype(np.int32)


def start(net, data, optimizer, batch_size, backend=numba_engine, threads=2):
    """A trainer, and the vectors that it is to store into."""
    parameters, x, y = data
    vectors = [parameters.copy(), *(np.zeros_like(parameters) for _ in range(optimizer.slots))]
    trainer = backend.Engine(net, threads).trainer(
        vectors[0],
        vectors[1:],
        Data(x, y),
        TrainerSettings(
            optimizer=optimizer, batch_size=batch_size, l2=0.01, seed=2**64 - 3, shuffle=True
        ),
    )
    return trainer, vectors


def train(net, data, optimizer, batch_size, epochs=2, backend=numba_engine):
    """Parameters, state and sums after some epochs."""
    trainer, vectors = start(net, data, optimizer, batch_size, backend)
    steps = -(-len(data[1]) // batch_size)
    sums = [trainer.steps(epoch, 0, np.full(steps, 0.01), epoch * steps) for epoch in range(epochs)]
    trainer.store()
    return [*vectors, np.array(sums)]


def assert_same_bits(got, want):
    assert [g.tobytes() for g in got] == [w.tobytes() for w in want]


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 + 5, 2**64 - 1])
def test_permutation_is_that_of_philox(seed):
    permutation = loop.compiled_permutation()
    for n in (1, 2, 3, 4, 5, 6, 7, 1000):
        for epoch in (0, 3, 2**32 - 1):
            order = permutation(np.uint64(seed), np.uint64(epoch), n)
            np.testing.assert_array_equal(order, philox.permutation(seed, epoch, n))


@pytest.mark.parametrize("optimizer", [kind() for kind in optimizers.OPTIMIZERS.values()], ids=str)
def test_numba_results_do_not_depend_on_threads(pace, monkeypatch, dtype, optimizer):
    # Threads take part for sure here, and most parts of a chunk are no multiple of a tile.
    monkeypatch.setattr(numba_parameters, "CHUNK_ROWS", 50)
    net = Architecture.build([70, 33, 17, 3], "tanh", dropout=0.2, dtype=dtype)
    for batch_size, rows in ((2, 15), (31, 100), (120, 151)):
        data = make(net, rows)
        runs = []
        for threads in THREADS:
            pace(threads)
            runs.append(train(net, data, optimizer, batch_size))
            assert_same_bits(runs[-1], runs[0])
        if dtype == "float64":  # test_parity follows float32, over fewer steps
            want = train(net, data, optimizer, batch_size, backend=reference)
            for g, w in zip(runs[0][:-1], want[:-1], strict=True):
                assert np.abs(g - w).max() <= 1e-10 * np.abs(w).max()


@pytest.mark.parametrize("threads", [1, 3])
def test_numba_results_do_not_depend_on_slices_and_chunks(pace, monkeypatch, dtype, threads):
    net = Architecture.build([9, 33, 3], "gelu", dropout=0.2, dtype=dtype)
    data = make(net, 300)
    pace(threads)
    whole = train(net, data, optimizers.Adam(), 130)
    for rows, chunks in ((512, 1), (64, 1), (64, 2), (7, 5), (1, 10)):
        monkeypatch.setattr(numba_parameters, "CHUNK_ROWS", rows)
        pace(threads, chunks)
        assert_same_bits(train(net, data, optimizers.Adam(), 130), whole)


def test_padding_and_old_contents_of_memory_are_never_read(pace, dtype):
    pace(2)
    for loss, output in (("cross_entropy", None), ("binary_cross_entropy", None), ("mse", "elu")):
        net = Architecture.build([5, 17, 9, 3], "softplus", output, loss, 0.1, dtype)
        data = make(net, 40)
        results = []
        for poison in (False, True):
            trainer, vectors = start(net, data, optimizers.Adam(), 12)
            if poison:
                plan = trainer._job.plan
                ones = plan.block == 1
                plan.block[~ones] = np.nan
                plan.gradient[:] = np.nan
                for vector in (plan.weights, plan.transposed):
                    # Whatever is zero here is padding: no weight of ``make`` and no bias is.
                    assert (vector == 0).any()
                    vector[vector == 0] = np.nan
            trainer.steps(0, 0, np.full(4, 0.01), 0)
            trainer.store()
            results.append(vectors)
        assert_same_bits(results[1], results[0])


@pytest.mark.parametrize("name", names.ACTIVATIONS)
def test_activations_over_the_whole_range(dtype, name):
    far = np.array([1e-30, 1e-8, 1e-4, 0.3, 1, 5, 20, 50, 86.9, 87.1, 200, 707, 709, 1e4, np.inf])
    z = np.concatenate([-far[::-1], [0.0], far]).astype(dtype)
    z = z[np.isfinite(z)] if name == "gelu" else z  # 0·∞
    smooth = name in ("gelu", "gelu_tanh", "silu", "mish")
    net = Architecture.build([1, 1], output=name, loss="mse", dtype=dtype)
    engine = numba_engine.Engine(net, 1)
    # Weight one, bias zero: the output is f(x).
    parameters = np.array([1, 0], dtype)
    with np.errstate(all="ignore"):
        want = activations.ACTIVATION[name].function(z.astype(np.float64))
        slope = activations.ACTIVATION[name].derivative(z.astype(np.float64))
    near = {"rtol": 1e-13 if dtype == "float64" else 2e-6, "atol": np.finfo(dtype).tiny}
    if smooth:  # z times a factor that is 0 where it is no normal number
        near["atol"] *= 1000
    if name == "gelu_tanh":  # rounding of the cubic argument of the exponential
        near["rtol"] *= 4
    np.testing.assert_allclose(engine.forward(parameters, z[:, None])[:, 0], want, **near)
    nothing = np.full((1, 1), np.nan, dtype)
    assert np.isnan(engine.forward(parameters, nothing)).all()
    # The gradient by the bias of ½·(f(z) − t)² is f'(z) where t is f(z) − ½.
    for value, f, d in zip(z, want, slope, strict=True):
        if abs(f) < 1e3:
            t = np.array([[f - 0.5]], dtype)
            _, gradient = engine.objective(Data(np.array([[value]]), t), ObjectiveSettings(l2=0.0))(
                parameters
            )
            assert gradient[1] == pytest.approx(d, rel=3e-4, abs=1e-6 if smooth else 2e-7)


def packed(x):
    """Rows of a record with one byte before the pixels: floats that are not aligned."""
    table = np.zeros(len(x), np.dtype([("label", "u1"), ("x", x.dtype, x.shape[1])]))
    table["x"] = x
    return table["x"]


@pytest.mark.parametrize("x_dtype", ["uint8", "float32", "float64"])
def test_unusual_memory_of_x(tmp_path, x_dtype):
    net = Architecture.build([21, 9, 3])
    parameters, x, y = make(net, 50)
    x = x if x_dtype == "uint8" else (x / 255).astype(x_dtype)
    x.tofile(tmp_path / "x")
    forms = {
        "packed": packed(x),
        "mapped": np.memmap(tmp_path / "x", x_dtype, "r", shape=x.shape),
        "reversed rows of a wider table": np.tile(x, 2)[::-1].copy()[::-1, 3:24],
        "one row": np.broadcast_to(x[7], x.shape),
        "one column": np.broadcast_to(x[:, :1], x.shape),
    }
    for form in forms.values():
        plain = np.array(form)
        runs = [train(net, (parameters, a, y), optimizers.SGD(), 8) for a in (form, plain)]
        assert_same_bits(runs[0], runs[1])


def test_interrupt_falls_between_two_updates(pace, monkeypatch):
    net = Architecture.build([9, 20, 3], dropout=0.1)
    data = make(net, 100)
    rates = np.linspace(0.01, 0.02, 5)
    monkeypatch.setattr(numba_parameters, "CHUNK_ROWS", 6)
    pace(1, 1)
    snapshots = []
    for count in range(6):
        trainer, vectors = start(net, data, optimizers.Adam(), 24)
        sums = trainer.steps(0, 0, rates[:count], 0)
        assert trainer.done == count
        trainer.store()
        snapshots.append([*vectors, np.array(sums)])

    call, allowed = numba_threads.call, [0]

    def interrupted(*arguments):
        position = call(*arguments)
        allowed[0] -= 1
        if allowed[0] == 0:
            raise KeyboardInterrupt
        return position

    monkeypatch.setattr(numba_engine, "call", interrupted)
    for slices in range(1, 18):
        trainer, vectors = start(net, data, optimizers.Adam(), 24)
        allowed[0] = slices
        with pytest.raises(KeyboardInterrupt):
            trainer.steps(0, 0, rates, 0)
        done = trainer.done
        assert done == (slices // 4 if slices < 17 else 5)  # the last batch is one chunk of four
        trainer.store()
        assert_same_bits(vectors, snapshots[done][:-1])
        sums = trainer.steps(0, done, rates[done:], done)
        trainer.store()
        assert_same_bits([*vectors, np.array(sums)], snapshots[5])


def test_a_parallel_slice_that_lasts_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(numba_threads, "LONGEST_SLICE", 0.01)
    net = Architecture.build([20, 60, 10])
    rows = 10**6
    parameters, x, y = make(net, 1000)
    data = parameters, np.broadcast_to(x[0], (rows, 20)), np.resize(y, rows)
    trainer, vectors = start(net, data, optimizers.SGD(), 1)
    trainer.steps(0, 0, np.full(1, 0.01), 0)
    plan = trainer._job.plan._replace(rates=np.full(rows, 1e-4))
    position = numba_threads.call(loop.compiled_run(net.dtype), plan, 0, rows, rows, 2)
    assert 0 < position < rows
    trainer.store()
    assert np.isfinite(vectors[0]).all()


def test_mask_of_the_caller_is_respected_and_restored(pace):
    net = Architecture.build([9, 20, 3])
    data = make(net, 100)
    pace(2)
    train(net, data, optimizers.SGD(), 10)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert numba_engine.Engine(net).threads == 1
        train(net, data, optimizers.SGD(), 10)
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)
    assert 1 <= numba_engine.Engine(net).threads <= before


def test_the_pace_depends_on_the_time_of_slices():
    pace = numba_threads.Pace(6, seconds=1e-3)
    assert list(pace.cost) == [1, 2, 4, 6]

    def spend(true):
        spent = dict.fromkeys(true, 0.0)
        for _ in range(300):
            threads, chunks = pace.choose()
            # The watch of _call ends a slice that lasts too long.
            chunks = min(chunks, max(1, int(2 * numba_threads.LONGEST_SLICE / true[threads])))
            spent[threads] += chunks * true[threads]
            pace.note(true[threads], chunks)
        return spent

    for true in (
        {1: 1e-4, 2: 6e-5, 4: 9e-5, 6: 5e-4},
        {1: 1e-4, 2: 1e-3, 4: 1e-3, 6: 1e-3},  # another process holds a core
        {1: 1e-4, 2: 6e-5, 4: 3e-5, 6: 2e-5},
    ):
        spent = spend(true)
        best = min(true, key=true.get)
        assert spent[best] > 0.85 * sum(spent.values())
        assert min(spent.values()) > 0


def test_small_steps_start_on_one_thread_and_large_ones_on_all():
    for sizes, batch_size, threads in (([20, 8, 2], 32, 1), ([784, 256, 10], 512, 2)):
        net = Architecture.build(sizes)
        trainer, _ = start(net, make(net, batch_size), optimizers.SGD(), batch_size)
        assert trainer._job.pace.choose()[0] == threads


def test_no_cache_is_no_error():
    scope: dict = {}
    exec("def plus_one(x):\n    return x + 1\n", scope)  # source in no file cannot be cached
    signature = numba.int64(numba.int64)
    with pytest.raises(RuntimeError, match="cache"):
        numba.njit([signature], cache=True)(scope["plus_one"])
    assert loop.compile_cached(scope["plus_one"], signature)(1) == 2


def test_bad_input_is_named():
    net = Architecture.build([4, 1], loss="binary_cross_entropy")
    parameters, x, y = make(net, 5)
    with pytest.raises(ValueError, match=r"y: found labels for a single output"):
        numba_engine.Engine(net).evaluate(parameters, x, y)

    class Unknown(optimizers.SGD):
        name = "unknown"

    with pytest.raises(ValueError, match="optimizer: found 'unknown'"):
        start(net, (parameters, x, y[:, None].astype(np.float32)), Unknown(), 5)


SCRIPT = """
import os, sys, threading
import numpy as np
from pynn import spec
from pynn.backends.contract import Data, TrainerSettings
from pynn.backends.numba import engine, threads

threads.Pace.choose = lambda self: (2, 20)
threads.Pace.note = lambda self, seconds, done: None
net = spec.Architecture.build([30, 40, 5], dropout=0.1)
rng = np.random.default_rng(0)
x = rng.normal(size=(400, 30)).astype(np.float32)
y = rng.integers(0, 5, 400).astype(np.int32)
w = rng.normal(scale=0.3, size=net.n_parameters).astype(np.float32)


def train():
    vectors = [w.copy(), np.zeros_like(w), np.zeros_like(w)]
    trainer = engine.Engine(net, 2).trainer(
        vectors[0], vectors[1:], Data(x, y),
        TrainerSettings(optimizer=spec.Adam(), batch_size=20, seed=1),
    )
    for epoch in range(15):
        trainer.steps(epoch, 0, np.full(20, 0.01), 20 * epoch)
    trainer.store()
    return vectors[0].tobytes()


alone = train()
"""
AT_ONCE = """
results = []
workers = [threading.Thread(target=lambda: results.append(train())) for _ in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert results == [alone] * 4
print("the same", threads.threading_layer())
"""
FORKED = """
child = os.fork()
if child == 0:
    same = train() == alone
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert train() == alone
print("the same", threads.threading_layer())
"""


def run_script(script, layer):
    environment = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    result = python(SCRIPT + script, environment=environment)
    if "No threading layer could be loaded" in result.stderr:
        pytest.skip(f"no layer {layer} here")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("the same")
    return result.stdout.split()[-1]


@pytest.mark.parametrize("layer", ["default", "workqueue", "omp"])
def test_python_threads_train_at_once(layer):
    # The work queue ends the process when two threads meet in it.
    used = run_script(AT_ONCE, layer)
    assert layer in ("default", used)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_numba_trains_in_a_forked_process(layer):
    # GNU OpenMP ends a forked process that enters it again.
    assert run_script(FORKED, layer) == layer


def test_numba_is_imported_only_when_used():
    code = "import sys, pynn; pynn.Network([2, 2], backend='numpy'); print('numba' in sys.modules)"
    result = python(code)
    assert result.stdout.strip() == "False", result.stderr


def test_an_interrupt_does_not_keep_later_calls_from_the_work_queue(monkeypatch):
    """One call at a time uses several threads of the work queue, also after interrupts."""
    plan = types.SimpleNamespace(settings=np.zeros(64))
    used = []

    def run(plan, position, stop, chunks, threads):
        used.append(threads)
        if len(used) == 1:  # a call from another thread
            numba_threads.call(run, plan, 0, 1, 1, 2)
        return 1

    monkeypatch.setattr(numba_threads, "threading_layer", lambda: "workqueue")
    mask = numba.get_num_threads()
    with Injector() as counter:
        numba_threads.call(run, plan, 0, 1, 1, 2)
    assert used == [2, 1]
    for at in range(len(counter.events)):
        with contextlib.suppress(KeyboardInterrupt), Injector(at=at):
            numba_threads.call(run, plan, 0, 1, 1, 2)
        numba.set_num_threads(mask)
        used[:] = [0]
        numba_threads.call(run, plan, 0, 1, 1, 2)
        assert used == [0, 2]
    assert not numba_threads._calls
