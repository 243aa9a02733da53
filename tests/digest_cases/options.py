"""Optimizers, activations, losses and other options of training, on small networks."""

from __future__ import annotations

from typing import Any

import numpy as np

import pynn

from .bench import Array, Bench, blobs, csr, labels, mnist, normal

ACTIVATIONS = ["identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "softplus"]
INITIALISERS = [
    *("he_normal", "he_uniform", "glorot_normal", "glorot_uniform"),
    *("lecun_normal", "lecun_uniform", "normal", "zeros"),
]
OPTIMIZERS = ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adam_hat", "adamw"]
SCHEDULES = ["constant", "step", "exponential", "inverse_time", "cosine", "one_cycle", "warm_up"]


def add_optimizers(bench: Bench, dtype: str) -> None:
    small = {"dtype": dtype, "dropout": 0.2}
    for name in OPTIMIZERS:
        rate = 0.05 if name in ("sgd", "momentum", "nesterov") else 0.003
        bench.train(
            f"{dtype}/optimizer-{name}",
            [20, 33, 17, 5],
            lambda: blobs(203, 20, 5, dtype),
            small,
            optimizer=name,
            learning_rate=rate,
            l2=1e-3,
            batch_size=17,
        )
        bench.train(
            f"{dtype}/optimizer-{name}-mnist",
            [784, 100, 10],
            lambda: mnist(500),
            {"dtype": dtype},
            optimizer=name,
            learning_rate=rate,
            batch_size=50,
        )
    settings = {
        "momentum-0.5": pynn.Momentum(0.5),
        "nesterov-0.99": pynn.Nesterov(0.99),
        "rmsprop": pynn.RMSProp(rho=0.7, epsilon=1e-4),
        "adagrad": pynn.Adagrad(epsilon=0.1),
        "adam": pynn.Adam(0.8, 0.95, 1e-3),
        "adam_hat": pynn.AdamHat(0.8, 0.95, 1e-3),
        "adamw": pynn.AdamW(0.8, 0.95, 1e-3, weight_decay=0.3),
        "amsgrad": pynn.AMSGrad(0.8, 0.95, 1e-3, weight_decay=0.3),
        "nadam": pynn.NAdam(0.8, 0.95, 1e-3, momentum_decay=0.1, weight_decay=0.3),
        "lion": pynn.Lion(0.8, 0.95, weight_decay=0.3),
    }
    for name, optimizer in settings.items():
        bench.train(
            f"{dtype}/settings-{name}",
            [20, 65, 5],
            lambda: blobs(203, 20, 5, dtype),
            {"dtype": dtype},
            optimizer=optimizer,
            learning_rate=0.01,
            batch_size=32,
        )


def add_activations(bench: Bench, dtype: str) -> None:
    for name in ACTIVATIONS:
        bench.train(
            f"{dtype}/activation-{name}",
            [17, 33, 40, 3],
            lambda: blobs(150, 17, 3, dtype),
            {"dtype": dtype, "activation": name, "dropout": [0.0, 0.1]},
            batch_size=33,
            learning_rate=0.01,
        )
        bench.train(
            f"{dtype}/init-{INITIALISERS[ACTIVATIONS.index(name)]}",
            [5, 19, 3],
            lambda: blobs(40, 5, 3, dtype),
            {"dtype": dtype, "init": INITIALISERS[ACTIVATIONS.index(name)]},
        )
    bench.train(
        f"{dtype}/activations-mixed",
        [9, 10, 11, 12, 13, 14, 15, 16, 17, 4],
        lambda: blobs(100, 9, 4, dtype),
        {"dtype": dtype, "activation": ACTIVATIONS},
    )


def add_losses(bench: Bench, dtype: str) -> None:
    x = normal(150, 13, dtype)
    rng = np.random.default_rng(4)
    soft = rng.random((150, 7)) + 0.01
    soft = (soft / soft.sum(axis=1, keepdims=True)).astype(dtype)
    yes = rng.integers(0, 2, (150, 7))
    values = rng.random((150, 7)).astype(dtype)
    counts = rng.poisson(1.5, (150, 7)).astype(dtype)
    targets = {
        "cross_entropy-labels": ([7], {}, labels(x, 7)),
        "cross_entropy-strings": ([7], {}, np.array(list("abcdefg"))[labels(x, 7)]),
        "cross_entropy-onehot": ([7], {}, np.eye(7)[labels(x, 7)]),
        "cross_entropy-soft": ([7], {}, soft),
        "binary-labels": ([1], {"loss": "binary_cross_entropy"}, labels(x, 2)),
        "binary-multilabel": ([7], {"loss": "binary_cross_entropy"}, yes),
        "binary-soft": ([7], {"loss": "binary_cross_entropy"}, values),
        "mse-flat": ([1], {"loss": "mse"}, values[:, 0]),
        "mse-labels": ([7], {"loss": "mse", "output": "sigmoid"}, labels(x, 7)),
        "poisson": ([7], {"loss": "poisson"}, counts),
        "mae-softplus": ([7], {"loss": "mae", "output": "softplus"}, values),
        **{name: ([7], {"loss": name}, values) for name in ("huber", "log_cosh", "quantile")},
        "quantiles": ([21], {"loss": pynn.Quantile([0.1, 0.5, 0.8])}, values),
        "gaussian_nll": ([14], {"loss": "gaussian_nll"}, values),
        "gamma": ([7], {"loss": "gamma"}, values + 1),
        "tweedie": ([7], {"loss": "tweedie"}, counts),
        **{f"{name}-labels": ([7], {"loss": name}, labels(x, 7)) for name in ("hinge", "focal")},
        "squared_hinge": ([7], {"loss": "squared_hinge"}, yes),
        "focal-multilabel": ([7], {"loss": pynn.Focal(1.5, 0.3), "output": "sigmoid"}, yes),
        **{
            f"mse-{output}": ([7], {"loss": "mse", "output": output}, values)
            for output in (*ACTIVATIONS, "softmax", "exp")
        },
    }
    for name, (outputs, network, y) in targets.items():
        bench.train(
            f"{dtype}/loss-{name}",
            [13, 21, *outputs],
            lambda y=y: (x, y),
            {"dtype": dtype, "activation": "tanh", **network},
            batch_size=33,
            validation=0.2,
        )


def add_settings(bench: Bench, dtype: str) -> None:
    net = {"dtype": dtype}
    sizes = [20, 64, 31, 6]

    def data() -> tuple[Array, Array]:
        return blobs(400, 20, 6, dtype)

    for name in SCHEDULES:
        bench.train(f"{dtype}/schedule-{name}", sizes, data, net, schedule=name, epochs=3)
    bench.train(f"{dtype}/schedule-function", sizes, data, net, schedule=lambda t: 1 / (1 + t))
    after = pynn.WarmUp(0.7, pynn.StepDecay(1.3, 0.5))
    bench.train(f"{dtype}/schedule-nested", sizes, data, net, schedule=after, epochs=4)
    for rate in (0.05, 0.5, 0.9):
        bench.train(f"{dtype}/dropout-{rate}", sizes, data, {**net, "dropout": rate})
    more = {"l2": 0.01, "label_smoothing": 0.1, "optimizer": "sgd", "learning_rate": 0.1}
    bench.train(f"{dtype}/smoothing", sizes, data, {**net, "dropout": 0.3}, validation=0.25, **more)
    bench.train(f"{dtype}/unshuffled", sizes, data, net, shuffle=False)
    for size in (1, 3, 17, 33, None, 399):
        for optimizer in ("sgd", "adam"):
            bench.train(
                *(f"{dtype}/batch-{size}-{optimizer}", sizes, data, net),
                batch_size=size,
                optimizer=optimizer,
            )
    bench.train(f"{dtype}/batch-full-1300", sizes, lambda: blobs(1300, 20, 6, dtype), net,
                threads=bench.counts, batch_size="full")  # fmt: skip
    for width in (1, 3, 5, 17, 33, 100, 256, 300):
        for optimizer in ("momentum", "adam"):
            bench.train(
                f"{dtype}/width-{width}-{optimizer}",
                [width, width, max(2, width // 2), 3],
                lambda width=width: blobs(130, width, 3, dtype),
                {**net, "dropout": 0.1},
                optimizer=optimizer,
                batch_size=32,
                learning_rate=0.01,
            )
    for rows in (2, 8, 16, 40):
        bench.train(f"{dtype}/batch-{rows}-mid", [96, 160, 96, 10],
                    lambda: blobs(240, 96, 10, dtype), {**net, "dropout": 0.5},
                    batch_size=rows, epochs=1)  # fmt: skip


def add_bf16(bench: Bench) -> None:
    net = {"precision": "bf16", "dropout": 0.1}
    for optimizer in ("sgd", "momentum", "adam", "adamw"):
        bench.train(f"bf16/mnist-{optimizer}", [784, 128, 64, 10], lambda: mnist(640), net,
                    optimizer=optimizer, learning_rate=0.002, validation=0.1)  # fmt: skip
    for batch in (1, 3, 17, 33, None):
        bench.train(f"bf16/batch-{batch}", [50, 33, 64, 17, 16], lambda: blobs(100, 50, 16), net,
                    batch_size=batch, epochs=1)  # fmt: skip
    for name in ACTIVATIONS:
        bench.train(f"bf16/activation-{name}", [30, 48, 20, 5], lambda: blobs(130, 30, 5),
                    {**net, "activation": name})  # fmt: skip
    bench.train("bf16/csr", [784, 64, 10], lambda: (csr(mnist(300)[0], "float32"), mnist(300)[1]),
                net)  # fmt: skip
    bench.train("bf16/regression", [30, 100, 17], lambda: (normal(200, 30), normal(200, 17)),
                {**net, "loss": "mse"}, l2=0.01)  # fmt: skip
    bench.train("bf16/wide-784-1024-700-10", [784, 1024, 700, 10], lambda: mnist(256),
                {**net, "dropout": 0.5}, epochs=1)  # fmt: skip
    bench.train("bf16/threads", [200, 300, 256, 10], lambda: blobs(600, 200, 10), net,
                threads=bench.counts, epochs=1)  # fmt: skip


def swish(z: Any) -> Any:
    return z / (1 + np.exp(-z))


def swish_slope(z: Any) -> Any:
    s = 1 / (1 + np.exp(-z))
    return s * (1 + z * (1 - s))


def huber(a: Any, t: Any) -> Any:
    return np.where(np.abs(a - t) < 1, 0.5 * (a - t) ** 2, np.abs(a - t) - 0.5)


def huber_slope(a: Any, t: Any) -> Any:
    return np.minimum(np.maximum(a - t, -1), 1)


def add_custom(bench: Bench, dtype: str) -> None:
    activation = pynn.Activation("swish", swish, swish_slope)
    loss = pynn.Loss("huber", huber, huber_slope)
    x = normal(200, 12, dtype)
    for optimizer in ("adam", "sgd"):
        bench.train(
            f"{dtype}/custom-activation-{optimizer}",
            *([12, 33, 20, 4], lambda: (x, labels(x, 4))),
            {"dtype": dtype, "activation": activation, "dropout": 0.1},
            optimizer=optimizer,
            batch_size=33,
        )
        bench.train(
            f"{dtype}/custom-loss-{optimizer}",
            *([12, 33, 4], lambda: (x, 2 * normal(200, 4, dtype, 5))),
            {"dtype": dtype, "activation": activation, "loss": loss},
            optimizer=optimizer,
            batch_size=17,
            l2=0.01,
        )
