"""The interfaces of scikit-learn and of Nielsen's book."""

from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import numpy as np

from .bench import Array, Bench, Digest, agreed, csr, labels, mnist, normal


def estimator_digest(estimator: Any, x: Any) -> Digest:
    digest = Digest()
    for k, (w, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_)):
        digest.add(f"coefs.{k}", w).add(f"intercepts.{k}", b)
    names = "loss_ best_loss_ loss_curve_ validation_scores_ validation_loss_curve_ t_ n_iter_"
    for name in names.split():
        digest.add(name, getattr(estimator, name, None))
    digest.history(estimator.history_)
    digest.add("predict", estimator.predict(x))
    if hasattr(estimator, "predict_proba"):
        digest.add("predict_proba", estimator.predict_proba(x[:33]))
    return digest


def add_sklearn(bench: Bench, dtype: str) -> None:
    from pynn.sklearn import MLPClassifier, MLPRegressor

    x = normal(230, 20, dtype)
    y = labels(x, 4)
    rng = np.random.default_rng(8)
    weight = rng.random(230) * rng.integers(0, 3, 230)
    values = normal(230, 3, dtype, 6)
    counts = rng.poisson(2.0, 230).astype(dtype)
    several = rng.integers(0, 2, (230, 3))
    pixels = (mnist(230)[0] / 255).astype(dtype)
    sgd = {"solver": "sgd", "learning_rate_init": 0.05}
    cases: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "adam": (x, y, {}),
        "adam-odd": (x, y, {"hidden_layer_sizes": (33, 17), "batch_size": 17, "alpha": 0.1}),
        "sgd": (x, y, {**sgd, "momentum": 0.0}),
        "sgd-momentum": (x, y, {**sgd, "nesterovs_momentum": False}),
        "sgd-nesterov": (x, y, sgd),
        "sgd-adaptive": (x, y, {**sgd, "learning_rate": "adaptive", "tol": 0.05, "max_iter": 40}),
        "sgd-invscaling": (x, y, {**sgd, "learning_rate": "invscaling", "batch_size": 21}),
        "batch-1": (x, y, {**sgd, "batch_size": 1}),
        "early-stopping": (x, y, {"early_stopping": True, "max_iter": 40, "n_iter_no_change": 3}),
        "unshuffled": (x, y, {"shuffle": False, "activation": "logistic"}),
        "dropout": (x, y, {"dropout": 0.5, "weight_decay": 0.1, "schedule": "one_cycle"}),
        "class-weight": (x, y, {"class_weight": "balanced"}),
        "binary": (x, labels(x, 2), {"activation": "tanh"}),
        "multilabel": (x, several, {"activation": ["elu"]}),
        "full-batch": (x, y, {"batch_size": 230, **sgd}),
        "lbfgs": (x, y, {"solver": "lbfgs", "max_iter": 20}),
        "pixels": (pixels, mnist(230)[1], {"batch_size": 50}),
        "csr": (csr(pixels, dtype), mnist(230)[1], {"batch_size": 50}),
        "csr-sgd": (csr(pixels, dtype), mnist(230)[1], {"batch_size": 33, **sgd}),
        "wide": (x, y, {"hidden_layer_sizes": (600, 512), "batch_size": 64, "max_iter": 2}),
        "regressor": (x, values, {}),
        "regressor-flat": (x, values[:, 0], {**sgd, "activation": "relu"}),
        "regressor-poisson": (x, counts, {"loss": "poisson"}),
        "regressor-lbfgs": (x, values, {"solver": "lbfgs", "max_iter": 20}),
    }

    def fit(name: str, mode: str, threads: int) -> Digest:
        data, target, options = cases[name]
        kind = MLPRegressor if name.startswith("regressor") else MLPClassifier
        options = {"hidden_layer_sizes": (40,), "max_iter": 4, "random_state": 3, **options}
        estimator = kind(threads=threads, **options)
        if mode == "partial":
            more = {} if kind is MLPRegressor else {"classes": np.unique(target)}
            for _ in range(3):
                estimator.partial_fit(data, target, **more)
        else:
            estimator.fit(data, target, **({"sample_weight": weight} if mode == "weighted" else {}))
        return estimator_digest(estimator, data)

    threads = bench.counts
    partial = ("adam", "sgd-momentum", "sgd-nesterov", "csr", "regressor", "wide")
    unweighted = ("lbfgs", "regressor-lbfgs", "batch-1")
    for name in cases:
        for mode in ("", "weighted", "partial"):
            if (mode == "partial" and name not in partial) or (mode and name in unweighted):
                continue
            bench.add(
                f"{dtype}/sklearn-{name}{mode and '-' + mode}",
                lambda name=name, mode=mode: agreed(
                    [fit(name, mode, count) for count in threads], threads
                ),
            )


def add_nielsen(bench: Bench) -> None:
    from pynn.nielsen import network, network2

    def pairs(rows: int) -> list[tuple[Array, Array]]:
        x, y = mnist(rows)
        return [((a / 255).reshape(784, 1), np.eye(10)[k].reshape(10, 1)) for a, k in zip(x, y)]

    def tested() -> list[tuple[Array, int]]:
        x, y = mnist(600)
        return [((a / 255).reshape(784, 1), int(k)) for a, k in zip(x[500:], y[500:])]

    def result(net: Any, printed: str, *figures: Any) -> Digest:
        digest = Digest().add("printed", printed)
        for k, (w, b) in enumerate(zip(net.weights, net.biases)):
            digest.add(f"weights.{k}", w).add(f"biases.{k}", b)
        for figure in figures:
            digest.add("figure", figure)
        return digest.add("feedforward", net.feedforward(tested()[0][0]))

    def chapter_1() -> Digest:
        np.random.seed(1)
        random.seed(2)
        net = network.Network([784, 30, 10])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            net.SGD(pairs(500), 2, 10, 3.0, test_data=tested())
        net.update_mini_batch(pairs(7), 0.5)
        nabla_b, nabla_w = net.backprop(*pairs(1)[0])
        return result(net, printed.getvalue(), *nabla_b, *nabla_w)

    def chapter_3(cost: Any) -> Digest:
        np.random.seed(1)
        random.seed(2)
        net = network2.Network([784, 30, 16, 10], cost=cost)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            figures = net.SGD(
                *(pairs(500), 2, 7, 0.5),
                lmbda=5.0,
                evaluation_data=tested(),
                monitor_evaluation_cost=True,
                monitor_evaluation_accuracy=True,
                monitor_training_cost=True,
                monitor_training_accuracy=True,
            )
        return result(net, printed.getvalue(), *figures)

    bench.add("float64/nielsen-network", chapter_1)
    bench.add("float64/nielsen-network2", lambda: chapter_3(network2.CrossEntropyCost))
    bench.add("float64/nielsen-network2-mse", lambda: chapter_3(network2.QuadraticCost))
