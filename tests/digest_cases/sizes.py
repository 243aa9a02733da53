"""Narrow and wide networks on MNIST, as in the benchmarks."""

from __future__ import annotations

from .bench import Bench, blobs, mnist, normal


def add_classics(bench: Bench, dtype: str) -> None:
    """The networks of the benchmarks, and narrow ones."""
    for optimizer in ("sgd", "adam"):
        for form in ("uint8", "dense"):
            bench.train(
                f"{dtype}/narrow-784-10-{form}-{optimizer}",
                [784, 10],
                lambda form=form: (
                    mnist(1500) if form == "uint8" else (normal(500, 784, dtype), mnist(500)[1])
                ),
                {"dtype": dtype},
                optimizer=optimizer,
                learning_rate=0.01,
                threads=bench.counts,
            )
    bench.train(f"{dtype}/narrow-784-5-3", [784, 5, 3], lambda: (mnist(500)[0], mnist(500)[1] % 3),
                {"dtype": dtype, "activation": "sigmoid"}, batch_size=3, epochs=1)  # fmt: skip
    bench.train(
        *(f"{dtype}/A-784-30-10", [784, 30, 10], lambda: mnist(1000)),
        {"dtype": dtype, "activation": "sigmoid", "output": "sigmoid", "loss": "mse"},
        optimizer="sgd",
        learning_rate=0.3,
        batch_size=10,
    )
    bench.train(f"{dtype}/B-784-128-256-10", [784, 128, 256, 10], lambda: mnist(1024),
                {"dtype": dtype, "activation": "sigmoid"}, optimizer="sgd", learning_rate=0.1,
                batch_size=256, epochs=1)  # fmt: skip
    bench.train(f"{dtype}/C-784-532-10", [784, 532, 10], lambda: mnist(700), {"dtype": dtype},
                optimizer="sgd", learning_rate=0.1, batch_size=None)  # fmt: skip
    bench.train(
        *(f"{dtype}/D-784-256-128-10", [784, 256, 128, 10], lambda: mnist(3000)),
        {"dtype": dtype, "dropout": 0.1},
        schedule="one_cycle",
        validation=0.1,
        epochs=1,
        threads=(2,),
    )
    bench.train(f"{dtype}/E-784-100-10", [784, 100, 10], lambda: mnist(3000), {"dtype": dtype},
                batch_size=200, threads=bench.counts, epochs=1)  # fmt: skip
    bench.train(f"{dtype}/F-20-64-64-2", [20, 64, 64, 2], lambda: blobs(2000, 20, 2, dtype),
                {"dtype": dtype}, batch_size=32, threads=bench.counts)  # fmt: skip


def add_wide(bench: Bench, dtype: str) -> None:
    quick = bench.backend == "numpy"
    # Hidden layers most of whose values relu and dropout have set to zero.
    for sizes in ([784, 512, 512, 10], [784, 1024, 700, 10], [100, 600, 512, 512, 5]):
        for optimizer in ("adam", "sgd", "momentum"):
            n = 256 if quick or sizes[1] == 1024 else 640
            bench.train(
                f"{dtype}/zeros-{'-'.join(map(str, sizes))}-{optimizer}",
                sizes,
                lambda sizes=sizes, n=n: (
                    mnist(n) if sizes[0] == 784 else blobs(n, sizes[0], sizes[-1], dtype)
                ),
                {"dtype": dtype, "dropout": 0.5},
                optimizer=optimizer,
                learning_rate=0.002,
                epochs=1,
            )
    for batch in (8, 64):
        bench.train(
            f"{dtype}/wide-784-1024-700-10-batch-{batch}",
            [784, 1024, 700, 10],
            lambda batch=batch: mnist(2 * batch),
            {"dtype": dtype},
            batch_size=batch,
            threads=bench.counts,
            epochs=1,
        )
    bench.train(f"{dtype}/wide-40-1024-1024-3-batch-300", [40, 1024, 1024, 3],
                lambda: blobs(300, 40, 3, dtype), {"dtype": dtype}, batch_size=300,
                epochs=1)  # fmt: skip
