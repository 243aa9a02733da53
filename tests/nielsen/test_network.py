"""network.py of chapter 1 on the compiled core, against the formulas of the book."""

from __future__ import annotations

import contextlib
import copy
import random
import sys

import numpy as np
import pytest

from pynn.backends import choose
from pynn.nielsen import Network, _base, mnist_loader, network, network2
from pynn.spec import names
from tests.child import python
from tests.nielsen.book import (
    SMALL,
    assert_equal,
    cubed,
    draw,
    epoch,
    forward,
    make,
    quadratic,
    same_order,
    step,
)
from tests.training.injector import Injector


@pytest.fixture(autouse=True)
def seeds():
    np.random.seed(5)
    random.seed(6)


# --- mnist_loader ---------------------------------------------------------------------------------


def test_load_data_wrapper(mnist):
    training, validation, test = mnist
    assert [len(part) for part in mnist] == [50_000, 10_000, 10_000]
    assert all(type(part) is list for part in mnist)
    x, y = training[0]
    assert x.shape == (784, 1)
    assert x.dtype == np.float32
    assert y.shape == (10, 1)
    assert y.ravel().tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    # The first ink of the first five, as it stands in the book's file: 3, 18, 18, 18, 126 of 256.
    assert x[152:157, 0].tolist() == [0.01171875, 0.0703125, 0.0703125, 0.0703125, 0.4921875]
    assert x.max() == 0.99609375
    assert [y for _, y in validation[:5]] == [3, 8, 6, 9, 6]
    assert [y for _, y in test[:5]] == [7, 2, 1, 0, 4]
    assert type(test[0][1]) is int
    assert training[7][0].base is training[8][0].base


def test_load_data(mnist):
    for arrays, pairs in zip(mnist_loader.load_data(), mnist):
        x, y = arrays
        assert x.shape == (len(pairs), 784)
        assert y.shape == (len(pairs),)
        assert (x[-1] == pairs[-1][0][:, 0]).all()
        assert y[-1] == np.argmax(pairs[-1][1]) or y[-1] == pairs[-1][1]


@pytest.mark.parametrize("module", [mnist_loader, network2])
def test_vectorized_result(module):
    assert module.vectorized_result(3).tolist() == [[float(i == 3)] for i in range(10)]
    for j in (10, -1, 2.5):
        with pytest.raises(ValueError, match="^j: found"):
            module.vectorized_result(j)


# --- Chapter 1 ------------------------------------------------------------------------------------


def test_first_weights():
    net = Network(SMALL)
    np.random.seed(5)
    assert_equal(net, *draw(SMALL), tolerance=0)
    assert network.Network is Network
    assert (net.num_layers, net.sizes) == (4, SMALL)


def test_follows_the_book_on_mnist(mnist, capsys):
    data, mine, test = mnist[0][:2005], mnist[0][:2005], mnist[2][:300]
    net = Network([784, 30, 10])
    np.random.seed(5)
    weights, biases = draw([784, 30, 10])
    random.seed(6)
    net.SGD(data, 1, 10, 3.0, test_data=test)
    random.seed(6)
    epoch(weights, biases, mine, 10, 3.0)
    assert_equal(net, weights, biases)
    right = sum(int(np.argmax(forward(weights, biases, x)[1][-1]) == y) for x, y in test)
    assert right > 100
    assert capsys.readouterr().out == f"Epoch 0: {right} / 300\n"
    assert net.evaluate(test) == right


@pytest.mark.parametrize("size", [10, 47, 100])
def test_sgd(size, capsys):
    data, net = make(), Network(SMALL)
    mine = list(data)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    assert net.SGD(data, 3, size, 3.0) is None
    after = random.getstate()
    random.seed(6)
    for _ in range(3):
        epoch(weights, biases, mine, size, 3.0)
    assert_equal(net, weights, biases)
    assert same_order(data, mine)
    assert random.getstate() == after
    assert capsys.readouterr().out == "Epoch 0 complete\nEpoch 1 complete\nEpoch 2 complete\n"


def test_update_mini_batch():
    batch, net = make(9), Network(SMALL)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    net.update_mini_batch(batch, 0.7)
    step(weights, biases, batch, 0.7, 0.0, quadratic)
    assert_equal(net, weights, biases, 1e-14)


def test_backprop():
    net = Network(SMALL)
    x, y = make(1)[0]
    nabla_b, nabla_w = net.backprop(x, y)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    step(weights, biases, [(x, y)], 1.0, 0.0, quadratic)
    for k in range(3):
        assert nabla_w[k] == pytest.approx(net.weights[k] - weights[k], abs=1e-14)
        assert nabla_b[k] == pytest.approx(net.biases[k] - biases[k], abs=1e-14)


def test_feedforward():
    net = Network(SMALL)
    x = make(4)
    found = net.feedforward(x[0][0])
    assert found == pytest.approx(forward(net.weights, net.biases, x[0][0])[1][-1], abs=1e-15)
    side_by_side = net.feedforward(np.hstack([x for x, _ in x]))
    assert side_by_side.shape == (3, 4)
    assert side_by_side[:, :1] == pytest.approx(found, abs=1e-15)


def test_sigmoid():
    z = np.array([[-1000.0], [-2.0], [0.0], [3.0], [1000.0]])
    with np.errstate(all="raise"):
        found = network.sigmoid(z)
    assert found.ravel() == pytest.approx([0, 1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-3), 1])
    assert network.sigmoid_prime(z) == pytest.approx(found * (1 - found), abs=1e-16)
    assert network.sigmoid(0) == 0.5
    assert network2.sigmoid is network.sigmoid


def test_cost_derivative():
    a, y = np.array([[0.25], [0.5]]), np.array([[1.0], [0.0]])
    assert Network([2, 2]).cost_derivative(a, y).tolist() == [[-0.75], [0.5]]


def test_evaluate_takes_the_first_of_equal_outputs():
    net = Network([2, 3])
    net.weights, net.biases = [np.zeros((3, 2))], [np.full((3, 1), 800.0)]  # three outputs of 1
    assert net.evaluate([(np.ones((2, 1)), label) for label in (0, 1, 2, 0)]) == 2


def test_evaluate_counts_on_the_given_data():
    data, net = make(60, labels=True), Network(SMALL)
    right = sum(int(np.argmax(net.feedforward(x)) == y) for x, y in data)
    assert 0 < right < 60
    assert net.evaluate(data) == net.evaluate(tuple(data)) == net.evaluate(iter(data)) == right


def test_assigned_weights_are_used():
    data, net = make(20, labels=True), Network([6, 3])
    net.weights[0][...] = 0
    net.biases[0][...] = [[0], [1], [0]]
    ones = sum(y == 1 for _, y in data)
    assert net.evaluate(data) == ones
    net.biases = [np.array([[0], [0], [1]])]  # whole numbers
    assert net.evaluate(data) == sum(y == 2 for _, y in data)
    twin = Network([6, 3])
    twin.weights, twin.biases = [np.zeros((3, 6))], [np.array([[0.0], [0.0], [1.0]])]
    random.seed(1)
    net.SGD(make(20), 1, 10, 1.0)
    random.seed(1)
    twin.SGD(make(20), 1, 10, 1.0)
    assert_equal(net, twin.weights, twin.biases, 0)


def test_training_makes_new_arrays():
    net = Network(SMALL)
    held, before = net.weights, copy.deepcopy(net.weights)
    net.SGD(make(), 1, 10, 1.0)
    assert all((a == b).all() for a, b in zip(held, before))
    assert all((a != b).any() for a, b in zip(net.weights, before))
    # None of them shares memory with another or with what trains.
    net.weights[0][...] = 0
    assert net.biases[0].any()
    assert net.weights[1].any()


@pytest.mark.parametrize("sizes", [[1, 1], [1, 4, 1], [2, 3]])
def test_narrow_networks(sizes):
    data = [(x, y) for x, y in make(13, sizes[0], sizes[-1])]
    mine, net = list(data), Network(sizes)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    net.SGD(data, 2, 5, 2.0)
    random.seed(6)
    for _ in range(2):
        epoch(weights, biases, mine, 5, 2.0)
    assert_equal(net, weights, biases, 1e-12)


def test_bytes_are_numbers_here():
    """pynn takes uint8 for pixels of 1/255; the book's formulas take them as they are."""
    batch = [(np.array([[3], [0]], np.uint8), np.array([[1], [0]])), ([[2], [1]], [[0], [1]])]
    net = Network([2, 2])
    weights, biases = copy.deepcopy((net.weights, net.biases))
    net.update_mini_batch(batch, 0.5)
    step(weights, biases, batch, 0.5, 0.0, quadratic)
    assert_equal(net, weights, biases, 1e-14)


def test_copies_are_independent():
    net = Network(SMALL)
    net.SGD(make(), 1, 10, 1.0)
    twin = copy.deepcopy(net)
    net.SGD(make(), 1, 10, 1.0)
    assert (twin.weights[0] != net.weights[0]).any()


# --- Subclasses -----------------------------------------------------------------------------------


class Cubed(Network):
    """C = Σ |a − y|³ / 3."""

    def cost_derivative(self, output_activations, y):
        return (output_activations - y) ** 2 * np.sign(output_activations - y)


class HalfSpeed(Network):
    def update_mini_batch(self, mini_batch, eta):
        super().update_mini_batch(mini_batch, eta / 2)


class Doubled(Network):
    def backprop(self, x, y):
        return tuple([2 * g for g in part] for part in super().backprop(x, y))


@pytest.mark.parametrize(
    "kind, rate, delta", [(Cubed, 1, cubed), (HalfSpeed, 0.5, quadratic), (Doubled, 2, quadratic)]
)
def test_subclasses_are_asked(kind, rate, delta):
    data, net = make(), kind(SMALL)
    mine = list(data)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    net.SGD(data, 2, 10, 1.5)
    random.seed(6)
    for _ in range(2):
        epoch(weights, biases, mine, 10, 1.5 * rate, delta=delta)
    assert_equal(net, weights, biases)
    assert same_order(data, mine)


def test_methods_of_an_object_are_asked():
    net, twin = Network(SMALL), Cubed(SMALL)
    net.weights, net.biases = copy.deepcopy((twin.weights, twin.biases))
    net.cost_derivative = lambda a, y: (a - y) ** 2 * np.sign(a - y)
    net.update_mini_batch(make(5), 1.0)
    twin.update_mini_batch(make(5), 1.0)
    assert_equal(net, twin.weights, twin.biases, 0)


def test_a_method_put_in_the_class_is_asked(monkeypatch):
    net, twin = Network(SMALL), Cubed(SMALL)
    net.weights, net.biases = copy.deepcopy((twin.weights, twin.biases))
    monkeypatch.setattr(Network, "cost_derivative", Cubed.cost_derivative)
    net.update_mini_batch(make(5), 1.0)
    twin.update_mini_batch(make(5), 1.0)
    assert_equal(net, twin.weights, twin.biases, 0)


def test_overridden_feedforward_and_evaluate_are_called(capsys):
    class Turned(Network):
        def feedforward(self, a):
            return super().feedforward(a)[::-1]

    class Told(Network):
        def evaluate(self, test_data):
            return f"{len(test_data)} and {super().evaluate(test_data)}"

    data = make(60, labels=True)
    net = Turned(SMALL)
    right = sum(
        int(2 - np.argmax(forward(net.weights, net.biases, x)[1][-1]) == y) for x, y in data
    )
    assert net.evaluate(data) == right
    told = Told(SMALL)
    told.SGD(make(), 1, 10, 1.0, test_data=data)
    assert capsys.readouterr().out == f"Epoch 0: {told.evaluate(data)} / 60\n"


# --- Ctrl-C, and where it runs --------------------------------------------------------------------


def test_an_interrupt_leaves_the_weights_after_a_complete_update(monkeypatch):
    """Ctrl-C after seven steps leaves the network as seven steps leave it."""
    real = _base._engine

    def engine(net, threads=None):
        found = real(net, threads)

        class Interrupted:
            @staticmethod
            def trainer(*arguments, **settings):
                trainer = found.trainer(*arguments, **settings)

                class Trainer:
                    order, store = trainer.order, trainer.store

                    @staticmethod
                    def steps(epoch, first, rates, updates):
                        trainer.steps(epoch, first, rates[:7], updates)
                        raise KeyboardInterrupt

                return Trainer

        return Interrupted

    data, net = make(100), Network(SMALL)
    twin = copy.deepcopy(net)
    with monkeypatch.context() as patch:
        patch.setattr(_base, "_engine", engine)
        with pytest.raises(KeyboardInterrupt):
            net.SGD(data, 3, 10, 1.0)
    for k in range(7):
        twin.update_mini_batch(data[10 * k : 10 * k + 10], 1.0)
    assert_equal(net, twin.weights, twin.biases, 1e-13)
    net.SGD(data, 1, 10, 1.0)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_an_exception_leaves_weights_and_biases_of_the_same_step(request, error):
    data, net = make(20), Network(SMALL)
    states, twin = [], copy.deepcopy(net)
    for k in range(3):
        states.append(figures(twin))
        if k < 2:
            twin.update_mini_batch(data[10 * k : 10 * k + 10], 1.0)

    def run(found):
        for k in range(2):
            found.update_mini_batch(data[10 * k : 10 * k + 10], 1.0)

    with Injector() as counter:
        run(copy.deepcopy(net))
    places = counter.extremes()
    count = 120 if request.config.getoption("--all") else 30
    for at in places[:: max(1, len(places) // count)]:
        found, injector = copy.deepcopy(net), Injector(error, at)
        with contextlib.suppress(error), injector:
            run(found)
        assert figures(found) in states, injector.place


def figures(net):
    return [a.tobytes() for a in (*net.weights, *net.biases)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timer")
@pytest.mark.parametrize("core", [True, False])
def test_ctrl_c(core):
    """A real signal in the middle of training, in a separate process."""
    code = f"""
        import signal, numpy as np
        from pynn.nielsen import Network
        class Own(Network):
            def cost_derivative(self, a, y):
                return a - y
        rng = np.random.default_rng(0)
        data = [(rng.normal(size=(20, 1)), np.eye(3)[:, [i % 3]]) for i in range(20_000)]
        net = {"Network" if core else "Own"}([20, 100, 3])
        start = net.weights[0].copy()
        signal.signal(signal.SIGPROF, signal.default_int_handler)
        # After processor time, so that the first update is done on a busy machine too.
        signal.setitimer(signal.ITIMER_PROF, 0.5)
        try:
            net.SGD(data, 10**9, 1, 0.1)
        except KeyboardInterrupt:
            assert len({{id(pair) for pair in data}}) == 20_000
            assert np.isfinite(net.weights[0]).all() and (net.weights[0] != start).any()
            net.SGD(data[:100], 1, 10, 0.1)
            print("answered")
    """
    done = python(code)
    assert done.stdout.splitlines()[-2:] == ["Epoch 0 complete", "answered"], done.stderr


@pytest.fixture
def fresh_engines():
    _base._engine.cache_clear()
    yield
    _base._engine.cache_clear()


def test_runs_on_the_compiled_core(monkeypatch, fresh_engines):
    pytest.importorskip("pynn.backends.cython._core")
    names = []
    real = choose.create
    monkeypatch.setattr(choose, "create", lambda name, *a: names.append(name) or real(name, *a))
    for net in (Network(SMALL), network2.Network(SMALL)):
        net.SGD(make(), 1, 10, 1.0)
    assert names == ["cython", "cython"]


def test_without_the_core(monkeypatch, fresh_engines):
    data, net = make(), Network(SMALL)
    mine = list(data)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    monkeypatch.setattr(choose, "available", lambda: dict.fromkeys(names.BACKENDS, "test"))
    monkeypatch.setattr(choose, "resolve", lambda name: name)
    choose._warn_without_core.cache_clear()
    with pytest.warns(UserWarning, match="pynn uses the backend 'numpy'"):
        net.SGD(data, 2, 10, 1.0)
    random.seed(6)
    for _ in range(2):
        epoch(weights, biases, mine, 10, 1.0)
    assert_equal(net, weights, biases, 1e-12)
