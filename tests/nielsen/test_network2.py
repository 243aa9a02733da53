"""network2.py of chapter 3 on the compiled core, its files, and bad input."""

from __future__ import annotations

import copy
import json
import random
import sys

import numpy as np
import pytest

from pynn.nielsen import Network, network2
from tests.nielsen.book import (
    SMALL,
    assert_equal,
    cubed,
    draw,
    epoch,
    forward,
    logistic,
    make,
    quadratic,
    same_order,
    step,
)


@pytest.fixture(autouse=True)
def seeds():
    np.random.seed(5)
    random.seed(6)


# --- The book's formulas, independently -----------------------------------------------------------


def cross_entropy(z, a, y):
    return a - y


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
    """A custom cost whose gradient needs ``y`` and ``z`` as columns."""

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
def test_a_custom_cost_is_used(cost, delta, tmp_path):
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
    """Changes that a custom method makes to the weights between two epochs are kept."""

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


def test_a_failed_save_keeps_the_old_file(tmp_path):
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
        ({"weights": [[["1.0"], ["2.0"]]]}, r"weights\[0\]: found text \('1.0'\) at row 0"),
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
