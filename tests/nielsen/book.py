"""The formulas of the book in a few lines of NumPy, and small data."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np

SMALL = [6, 5, 4, 3]


def make(rows=47, n_in=6, n_out=3, labels=False, seed=0):
    """A list of pairs: 47 rows leave a last mini-batch of 7 for batches of 10."""
    rng = np.random.default_rng(seed)
    ys = rng.integers(0, n_out, rows)
    return [(rng.normal(size=(n_in, 1)), int(y) if labels else np.eye(n_out)[:, [y]]) for y in ys]


def logistic(z):
    return 1 / (1 + np.exp(-z))


def quadratic(z, a, y):
    return (a - y) * logistic(z) * (1 - logistic(z))


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


def cubed(z, a, y):
    return (a - y) ** 2 * np.sign(a - y) * a * (1 - a)
