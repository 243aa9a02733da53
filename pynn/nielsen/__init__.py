"""The programs of Nielsen's "Neural Networks and Deep Learning" (2015), on pynn's compiled core.

The book's lines run on Python 3 with changed imports only. Chapter 1:

>>> from pynn.nielsen import mnist_loader, network
>>> training_data, validation_data, test_data = mnist_loader.load_data_wrapper()  # doctest: +SKIP
>>> net = network.Network([784, 30, 10])
>>> net.SGD(training_data, 30, 10, 3.0, test_data=test_data)  # doctest: +SKIP
Epoch 0: 9019 / 10000

and so on, 30 lines in all. Chapter 3:

>>> from pynn.nielsen import network2
>>> net = network2.Network([784, 30, 10], cost=network2.CrossEntropyCost)
>>> net.large_weight_initializer()
>>> net.SGD(training_data, 30, 10, 0.5, lmbda=5.0, evaluation_data=test_data,
...         monitor_evaluation_accuracy=True)  # doctest: +SKIP

==================  ==============================================================
``network``         chapter 1: quadratic cost, weights from N(0, 1)
``network2``        chapter 3: cost classes, regularization, monitoring, JSON files
``mnist_loader``    MNIST in the book's split and shapes
==================  ==============================================================

Random draws are those of the book's programs: with the same ``numpy.random.seed`` for the initial
weights and ``random.seed`` for the shuffles, the weights after every update agree with its formulas
up to float64 rounding. Epochs run on the compiled core. With a user-defined cost class, or in a
subclass that overrides a step of the algorithm, ``backprop`` runs pair by pair, as fast as in the
book. Functions assigned to these modules (``network.sigmoid = ...``) have no effect.

``_base`` and ``_pairs`` are not part of the book: the network that both chapters share, and the
conversion of pairs to arrays.
"""

from __future__ import annotations

from . import mnist_loader, network, network2
from .mnist_loader import load_data_wrapper
from .network import Network

__all__ = ["Network", "load_data_wrapper", "mnist_loader", "network", "network2"]
