"""Custom functions that can be pickled, and small networks with them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy import exp as imported_exp

import pynn
from pynn.backends import choose

NUMBA = not choose.available()["numba"]
BACKENDS = ["numpy", *(["numba"] if NUMBA else [])]
needs_numba = pytest.mark.skipif(not NUMBA, reason="needs numba")


# At the level of the module, so that networks with them can be pickled.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def swish_function(z):
    return z * sigmoid(z)


def swish_derivative(z):
    s = sigmoid(z)
    return s + z * s * (1 - s)


def huber_function(a, t):
    far = np.abs(a - t)
    return np.where(far < 1, 0.5 * far**2, far - 0.5)


def huber_gradient(a, t):
    return np.clip(a - t, -1, 1)


swish = pynn.Activation("swish", swish_function, swish_derivative)
huber = pynn.Loss("huber", huber_function, huber_gradient)
falling = pynn.Activation("falling", lambda z: -np.tanh(z), lambda z: np.tanh(z) ** 2 - 1)
cube = pynn.Activation("cube", lambda z: z**3, lambda z: 3 * z**2)
# Least where a is t·e^½: the slopes by a and the Jacobian of a softmax are told apart.
skewed = pynn.Loss("skewed", lambda a, t: np.exp(a - t) - 2 * a, lambda a, t: np.exp(a - t) - 2)


def make(backend="numpy", sizes=(4, 8, 3), **more):
    return pynn.Network(sizes, backend=backend, **{"activation": swish, "seed": 3} | more)


def fit(net, data, **more):
    settings = {"epochs": 3, "batch_size": 40, "progress": False}
    return net.fit(*data, **settings | more)


def near(found, expected, tolerance):
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def ones(z):
    return np.ones_like(z)


def scaled(beta):
    """A function with a number and another function around it."""

    def gate(z):
        return 1 / (1 + imported_exp(-beta * z))

    def derivative(z):
        return gate(z) + beta * z * gate(z) * (1 - gate(z))

    return pynn.Activation("scaled", lambda z: z * gate(z), derivative)


def tanh(z):  # by the name of the attribute that it uses
    return np.tanh(z)


def tanh_slope(z):
    return 1 - np.tanh(z) ** 2
