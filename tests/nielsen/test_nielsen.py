"""Nielsen's programs on the compiled core, against his formulas in a few lines of NumPy."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pytest

from pynn.backends import choose, contract
from pynn.nielsen import Network, _base, load_data_wrapper, mnist_loader, network, network2

SMALL = [6, 5, 4, 3]


@pytest.fixture(scope="module")
def mnist():
    return load_data_wrapper()


@pytest.fixture(autouse=True)
def seeds():
    np.random.seed(5)
    random.seed(6)


def make(rows=47, n_in=6, n_out=3, labels=False, seed=0):
    """A list of pairs: 47 rows leave a last mini-batch of 7 for batches of 10."""
    rng = np.random.default_rng(seed)
    ys = rng.integers(0, n_out, rows)
    return [(rng.normal(size=(n_in, 1)), int(y) if labels else np.eye(n_out)[:, [y]]) for y in ys]


# --- The book's formulas, independently -----------------------------------------------------------


def logistic(z):
    return 1 / (1 + np.exp(-z))


def quadratic(z, a, y):
    return (a - y) * logistic(z) * (1 - logistic(z))


def cross_entropy(z, a, y):
    return a - y


def draw(sizes, scaled=False):
    biases = [np.random.randn(y, 1) for y in sizes[1:]]
    weights = [np.random.randn(y, x) / (np.sqrt(x) if scaled else 1) for x, y in pairwise(sizes)]
    return weights, biases


def forward(weights, biases, x):
    zs, activations = [], [x]
    for w, b in zip(weights, biases):
        zs.append(w.dot(activations[-1]) + b)
        activations.append(logistic(zs[-1]))
    return zs, activations


def step(weights, biases, batch, eta, decay, delta):
    """Equations 20 and 21, and 93, in matrix form: one column for each pair."""
    x, y = (np.hstack(columns).astype(float) for columns in zip(*batch))
    zs, activations = forward(weights, biases, x)
    d = delta(zs[-1], activations[-1], y)
    for k in reversed(range(len(weights))):
        dw, db = d.dot(activations[k].T), d.sum(axis=1, keepdims=True)
        if k:
            d = weights[k].T.dot(d) * activations[k] * (1 - activations[k])
        weights[k] = (1 - eta * decay) * weights[k] - eta / len(batch) * dw
        biases[k] = biases[k] - eta / len(batch) * db


def epoch(weights, biases, data, size, eta, decay=0.0, delta=quadratic):
    random.shuffle(data)
    for start in range(0, len(data), size):
        step(weights, biases, data[start : start + size], eta, decay, delta)


def assert_equal(net, weights, biases, tolerance=1e-9):
    for found, expected in zip([*net.weights, *net.biases], [*weights, *biases], strict=True):
        assert found.shape == expected.shape
        assert found.dtype == np.float64
        assert np.abs(found - expected).max() <= tolerance


def same_order(found, expected):
    return len(found) == len(expected) and all(a is b for a, b in zip(found, expected))


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


def test_evaluates_what_it_is_given():
    data, net = make(60, labels=True), Network(SMALL)
    right = sum(int(np.argmax(net.feedforward(x)) == y) for x, y in data)
    assert 0 < right < 60
    assert net.evaluate(data) == net.evaluate(tuple(data)) == net.evaluate(iter(data)) == right


def test_parameters_set_by_hand_count():
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


def cubed(z, a, y):
    return (a - y) ** 2 * np.sign(a - y) * a * (1 - a)


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


def test_own_feedforward_and_evaluate(capsys):
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


# --- Chapter 3 ------------------------------------------------------------------------------------

COSTS = {
    network2.QuadraticCost: (quadratic, lambda a, y: 0.5 * np.linalg.norm(a - y) ** 2),
    network2.CrossEntropyCost: (
        cross_entropy,
        lambda a, y: -np.sum(y * np.log(a) + (1 - y) * np.log(1 - a)),
    ),
}


def test_initializers():
    net = network2.Network(SMALL)
    np.random.seed(5)
    assert_equal(net, *draw(SMALL, scaled=True), tolerance=0)
    assert net.cost is network2.CrossEntropyCost
    for method, scaled in (("large", False), ("default", True)):
        np.random.seed(8)
        getattr(net, f"{method}_weight_initializer")()
        np.random.seed(8)
        assert_equal(net, *draw(SMALL, scaled), tolerance=0)


@pytest.mark.parametrize("lmbda", [0.0, 5.0])
@pytest.mark.parametrize("cost", COSTS)
def test_network2_follows_the_book(cost, lmbda, capsys):
    delta, fn = COSTS[cost]
    data, held = make(), make(31, labels=True, seed=1)
    mine, net = list(data), network2.Network(SMALL, cost=cost)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    found = net.SGD(data, 2, 10, 0.5, lmbda, held, True, True, True, True)
    printed = capsys.readouterr().out

    random.seed(6)
    lines, expected = [], ([], [], [], [])
    for j in range(2):
        epoch(weights, biases, mine, 10, 0.5, lmbda / 47, delta)
        lines.append(f"Epoch {j} training complete")
        for k, data_ in ((2, mine), (0, [(x, np.eye(3)[:, [y]]) for x, y in held])):
            outputs = [forward(weights, biases, x)[1][-1] for x, _ in data_]
            value = sum(fn(a, y) for a, (_, y) in zip(outputs, data_)) / len(data_)
            value += 0.5 * lmbda / len(data_) * sum((w**2).sum() for w in weights)
            expected[k].append(value)
            expected[k + 1].append(
                sum(int(a.argmax() == y.argmax()) for a, (_, y) in zip(outputs, data_))
            )
        for name, k, n in (("training", 2, 47), ("evaluation", 0, 31)):
            lines += [f"Cost on {name} data: {found[k][j]}"]
            lines += [f"Accuracy on {name} data: {expected[k + 1][j]} / {n}"]
        lines.append("")
    assert_equal(net, weights, biases)
    assert same_order(data, mine)
    assert found[1::2] == expected[1::2]
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    assert found[2] == pytest.approx(expected[2], rel=1e-12)
    assert printed.splitlines() == lines

    assert net.accuracy(held) == expected[1][1]
    assert net.accuracy(data, convert=True) == expected[3][1]
    assert net.total_cost(held, lmbda, convert=True) == found[0][1]
    assert net.total_cost(data, lmbda) == pytest.approx(found[2][1], rel=1e-12)


def test_nothing_monitored(capsys):
    net = network2.Network(SMALL)
    assert net.SGD(make(), 1, 10, 0.5, evaluation_data=make(5, labels=True)) == ([], [], [], [])
    assert capsys.readouterr().out == "Epoch 0 training complete\n\n"


def test_network2_on_mnist(mnist):
    data = mnist[0][:1500]
    mine, net = list(data), network2.Network([784, 30, 10], cost=network2.CrossEntropyCost)
    net.large_weight_initializer()
    weights, biases = copy.deepcopy((net.weights, net.biases))
    net.SGD(data, 1, 10, 0.5, lmbda=5.0, evaluation_data=mnist[1], monitor_evaluation_accuracy=True)
    random.seed(6)
    epoch(weights, biases, mine, 10, 0.5, 5.0 / 1500, cross_entropy)
    assert_equal(net, weights, biases)
    some = mnist[1][:500]
    assert net.accuracy(some) == sum(
        int(forward(weights, biases, x)[1][-1].argmax() == y) for x, y in some
    )


@pytest.mark.parametrize("cost", COSTS)
def test_network2_update_and_backprop(cost):
    delta, _ = COSTS[cost]
    batch, net = make(9), network2.Network(SMALL, cost)
    start = copy.deepcopy((net.weights, net.biases))
    weights, biases = copy.deepcopy(start)
    nabla_b, nabla_w = net.backprop(*batch[0])
    net.update_mini_batch(batch, 0.7, 2.0, 50)
    step(weights, biases, batch, 0.7, 2.0 / 50, delta)
    assert_equal(net, weights, biases, 1e-14)
    weights, biases = copy.deepcopy(start)
    step(weights, biases, batch[:1], 1.0, 0.0, delta)
    for k in range(3):
        assert nabla_w[k] == pytest.approx(start[0][k] - weights[k], abs=1e-14)
        assert nabla_b[k] == pytest.approx(start[1][k] - biases[k], abs=1e-14)


def test_costs():
    z, y = np.array([[-1.0], [0.5]]), np.array([[0.0], [1.0]])
    a = logistic(z)
    for cost, (delta, fn) in COSTS.items():
        assert cost.fn(a, y) == pytest.approx(fn(a, y), rel=1e-14)
        assert cost.delta(z, a, y) == pytest.approx(delta(z, a, y), rel=1e-14)
    # Certain and right costs nothing; certain and wrong the largest float.
    with np.errstate(all="raise"):
        assert network2.CrossEntropyCost.fn(y, y) == 0
        assert (
            network2.CrossEntropyCost.fn(np.array([[1.0]]), np.array([[0.0]])) == sys.float_info.max
        )


def test_total_cost_of_certain_mistakes():
    net = network2.Network([1, 1])
    net.weights, net.biases = [np.array([[100.0]])], [np.array([[0.0]])]
    data = [(np.ones((1, 1)), np.zeros((1, 1)))] * 4
    assert net.total_cost(data, 0.0) == pytest.approx(sys.float_info.max)


class CubicCost:
    """A cost of one's own, whose gradient needs ``y`` and ``z`` as columns."""

    @staticmethod
    def fn(a, y):
        assert a.shape == y.shape == (3, 1)
        return np.sum(np.abs(a - y) ** 3) / 3

    @staticmethod
    def delta(z, a, y):
        assert z.shape == a.shape == y.shape == (3, 1)
        return (a - y) ** 2 * np.sign(a - y) * network2.sigmoid_prime(z)


class Doubting(network2.CrossEntropyCost):
    @staticmethod
    def delta(z, a, y):
        return a - (0.9 * y + 0.05)


@pytest.mark.parametrize(
    "cost, delta", [(CubicCost, cubed), (Doubting, lambda z, a, y: a - (0.9 * y + 0.05))]
)
def test_own_cost(cost, delta, tmp_path):
    data, net = make(), network2.Network(SMALL, cost=cost)
    mine, held = list(data), make(31, labels=True, seed=1)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    found = net.SGD(data, 2, 10, 0.5, 5.0, held, True, True, True, True)
    random.seed(6)
    for _ in range(2):
        epoch(weights, biases, mine, 10, 0.5, 5.0 / 47, delta)
    assert_equal(net, weights, biases)
    value = sum(cost.fn(forward(weights, biases, x)[1][-1], y) for x, y in mine) / 47
    value += 0.5 * 5.0 / 47 * sum((w**2).sum() for w in weights)
    assert found[2][1] == pytest.approx(value, rel=1e-12)

    net.save(tmp_path / "net.json")
    with pytest.raises(ValueError, match=rf"cost: found '{cost.__name__}', expected one of"):
        network2.load(tmp_path / "net.json")
    assert network2.load(tmp_path / "net.json", cost=cost).cost is cost


def test_network2_subclass():
    class Noisy(network2.Network):
        def update_mini_batch(self, mini_batch, eta, lmbda, n):
            super().update_mini_batch(mini_batch, 2 * eta, lmbda, n)

    data, net = make(), Noisy(SMALL)
    mine = list(data)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    net.SGD(data, 1, 10, 0.5, lmbda=1.0, monitor_training_accuracy=True)
    random.seed(6)
    epoch(weights, biases, mine, 10, 1.0, 1.0 / 47, cross_entropy)
    assert_equal(net, weights, biases)


def test_changes_between_epochs_count():
    """What a method of one's own does to the weights between two epochs is not lost."""

    class Pruned(network2.Network):
        def accuracy(self, data, convert=False):
            self.weights[0][np.abs(self.weights[0]) < 0.1] = 0
            return super().accuracy(data, convert)

    data, net = make(), Pruned(SMALL)
    mine = list(data)
    weights, biases = copy.deepcopy((net.weights, net.biases))
    net.SGD(data, 3, 10, 0.5, monitor_training_accuracy=True)
    random.seed(6)
    for _ in range(3):
        epoch(weights, biases, mine, 10, 0.5, delta=cross_entropy)
        weights[0][np.abs(weights[0]) < 0.1] = 0
    assert_equal(net, weights, biases)
    assert (net.weights[0] == 0).any()


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", COSTS)
def test_save_and_load(cost, tmp_path):
    net = network2.Network(SMALL, cost)
    net.SGD(make(), 1, 10, 0.5)
    path = tmp_path / "net.json"
    net.save(path)
    document = json.loads(path.read_text())
    assert list(document) == ["sizes", "weights", "biases", "cost"]
    assert (document["sizes"], document["cost"]) == (SMALL, cost.__name__)
    twin = network2.load(path)
    assert_equal(twin, net.weights, net.biases, 0)
    assert (twin.sizes, twin.cost) == (SMALL, cost)
    data = make(labels=True)
    assert twin.accuracy(data) == net.accuracy(data)
    random.seed(1)
    net.SGD(make(), 1, 10, 0.5)
    random.seed(1)
    twin.SGD(make(), 1, 10, 0.5)
    assert_equal(twin, net.weights, net.biases, 0)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    net, path = network2.Network(SMALL), tmp_path / "net.json"
    net.save(path)
    before = path.read_bytes()
    net.biases[1][2] = np.nan
    with pytest.raises(ValueError, match=r"^biases\[1\]: found nan at row 2"):
        net.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.json"]


GOOD = {
    "sizes": [1, 2],
    "weights": [[[1.0], [2.0]]],
    "biases": [[[0.0], [1.0]]],
    "cost": "QuadraticCost",
}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"cost": "Network"}, "cost: found 'Network', expected one of QuadraticCost, CrossEntr"),
        ({"cost": "os"}, "cost: found 'os'"),
        ({"cost": ["QuadraticCost"]}, r"cost: found \['QuadraticCost'\]"),
        ({"sizes": [1]}, "sizes: found"),
        ({"sizes": [10**9, 10**9]}, r"weights\[0\]: found shape \(2, 1\), expected"),
        ({"weights": [[[1.0]]]}, r"weights\[0\]: found shape \(1, 1\), expected .*\(2, 1\)"),
        ({"weights": [[["1.0"], ["2.0"]]]}, r"weights\[0\]: found dtype object"),
        ({"weights": [[[1.0], [float("nan")]]]}, r"weights\[0\]: found nan"),
        ({"weights": []}, "weights: found 0 values, expected a list of 1"),
        ({"biases": "x"}, "biases: found 1 values, expected a list"),
        ({"biases": 5}, "biases: found 5, expected a list"),
    ],
)
def test_bad_files(change, message, tmp_path):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(GOOD))
    assert network2.load(path).cost is network2.QuadraticCost
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(ValueError, match=f"net.json: {message}"):
        network2.load(path)


@pytest.mark.parametrize("text", ["", '{"sizes": [1', "[" * 100_000, "[]", '{"sizes": [1, 2]}'])
def test_files_of_something_else(text, tmp_path):
    path = tmp_path / "net.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected a network saved as JSON"):
        network2.load(path)
    with pytest.raises(FileNotFoundError):
        network2.load(tmp_path / "none.json")


# --- Bad input ------------------------------------------------------------------------------------

X, Y = np.zeros((6, 1)), np.zeros((3, 1))


@pytest.mark.parametrize("make_net", [Network, network2.Network])
@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([], 1, 10, 1.0), ValueError, "training_data: found no pairs"),
        ((zip([X], [Y]), 1, 10, 1.0), TypeError, "training_data: found a zip, .* use list"),
        ((None, 1, 10, 1.0), TypeError, "training_data: found a NoneType, expected a list"),
        (([(X, Y), (X,)], 1, 10, 1.0), ValueError, r"training_data\[1\]: found a tuple, .* a pair"),
        (([(X, Y), 7], 1, 10, 1.0), ValueError, r"training_data\[1\]: found a int, .* a pair"),
        (
            ([(X, Y), (X[:5], Y)], 1, 10, 1.0),
            ValueError,
            r"x of training_data\[1\]: found shape \(5, 1\), expected an array of shape \(6, 1\)",
        ),
        (([(X[:, 0], Y)], 1, 10, 1.0), ValueError, r"x of training_data\[0\]: found shape \(6,\)"),
        (
            ([(X, 2)], 1, 10, 1.0),
            ValueError,
            r"y of training_data\[0\]: found the number 2, expected an array of shape \(3, 1\)",
        ),
        (([("text", Y)], 1, 10, 1.0), TypeError, r"x of training_data\[0\]: found a str"),
        (([(X + 1j, Y)], 1, 10, 1.0), TypeError, r"x of training_data\[0\]: found dtype complex"),
        (([(X + np.nan, Y)], 1, 10, 1.0), ValueError, "x of training_data: found nan at row 0"),
        (([(X, Y)], 1.5, 10, 1.0), ValueError, "epochs: found 1.5"),
        (([(X, Y)], 1, 0, 1.0), ValueError, "mini_batch_size: found 0"),
        (([(X, Y)], 1, 10, np.inf), ValueError, "eta: found inf"),
        (([(X, Y)], 1, 10, "3"), ValueError, "eta: found '3'"),
    ],
)
def test_bad_training_data(make_net, arguments, error, message):
    net = make_net(SMALL)
    before, order = copy.deepcopy((net.weights, net.biases)), copy.copy(arguments[0])
    with pytest.raises(error, match=f"^{message}"):
        net.SGD(*arguments)
    assert_equal(net, *before, tolerance=0)
    if isinstance(order, list):
        assert same_order(arguments[0], order)


def test_bad_evaluation_data():
    net, net2 = Network(SMALL), network2.Network(SMALL)
    good = make(5)
    calls = [
        (lambda: net.evaluate([(X, 3)]), r"y of test_data\[0\]: found 3, .* from 0 to 2"),
        (lambda: net.evaluate([(X, Y)]), r"y of test_data\[0\]: found shape \(3, 1\), .* number"),
        (lambda: net.evaluate([]), "test_data: found no pairs"),
        (lambda: net.SGD(good, 1, 10, 1.0, test_data=[(X, Y)]), r"y of test_data\[0\]"),
        (lambda: net2.accuracy([(X, 1)], convert=True), r"y of data\[0\]: found the number 1"),
        (lambda: net2.total_cost([(X, 1)], 0.0), r"y of data\[0\]: found the number 1"),
        (lambda: net2.total_cost([(X, Y)], 0.0, convert=True), r"y of data\[0\]: found shape"),
        (lambda: net2.total_cost([(X, Y)], -1.0), "lmbda: found -1.0"),
        (
            lambda: net2.SGD(good, 1, 10, 1.0, monitor_evaluation_cost=True),
            "evaluation_data: found None",
        ),
        (lambda: net2.SGD(good, 1, 10, 1.0, lmbda=-1), "lmbda: found -1"),
        (lambda: net2.update_mini_batch(good, 1.0, 1.0, 0), "n: found 0"),
        (lambda: net.update_mini_batch([], 1.0), "mini_batch: found no pairs"),
        (lambda: net.backprop(X, 1), "y: found the number 1"),
        (lambda: net.backprop(X[:2], Y), r"x: found shape \(2, 1\)"),
        (lambda: net2.backprop(X, 1), "y: found the number 1"),
        (lambda: net.feedforward(X[:, 0]), r"a: found shape \(6,\), .* \(6, 1\)"),
        (lambda: Network([6]), "sizes: found"),
        (lambda: Network([6, 0]), "sizes: found"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
    with pytest.raises(TypeError, match="^test_data: found a int"):
        net.evaluate(5)
    with pytest.raises(TypeError, match="^cost: found 'CrossEntropyCost', expected a class"):
        network2.Network(SMALL, cost="CrossEntropyCost")


@pytest.mark.parametrize("call", ["feedforward", "evaluate", "SGD", "update_mini_batch"])
def test_parameters_of_a_wrong_shape(call):
    net = Network(SMALL)
    net.biases[1] = net.biases[1][:, 0]  # NumPy would broadcast it to a matrix
    arguments = {
        "feedforward": (X,),
        "evaluate": (make(3, labels=True),),
        "SGD": (make(3), 1, 2, 1.0),
        "update_mini_batch": (make(3), 1.0),
    }[call]
    with pytest.raises(ValueError, match=r"^biases\[1\]: found shape \(4,\), .* \(4, 1\)"):
        getattr(net, call)(*arguments)
    net = Network(SMALL)
    net.weights = net.weights[:2]
    with pytest.raises(ValueError, match="^weights: found 2 values, expected a list of 3"):
        getattr(net, call)(*arguments)


# --- Ctrl-C, and where it runs --------------------------------------------------------------------


def test_interrupted_after_whole_updates(monkeypatch):
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timer")
@pytest.mark.parametrize("core", [True, False])
def test_ctrl_c(core):
    """A real signal in the middle of training, in a process of its own."""
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
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
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
    monkeypatch.setattr(choose, "available", lambda: dict.fromkeys(contract.BACKENDS, "test"))
    monkeypatch.setattr(choose, "resolve", lambda name: name)
    choose._warn_without_core.cache_clear()
    with pytest.warns(UserWarning, match="pynn uses the backend 'numpy'"):
        net.SGD(data, 2, 10, 1.0)
    random.seed(6)
    for _ in range(2):
        epoch(weights, biases, mine, 10, 1.0)
    assert_equal(net, weights, biases, 1e-12)
