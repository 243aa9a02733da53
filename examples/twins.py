"""Two of the networks in PyTorch and Keras, with the same settings, for comparison.

Both use the same distribution of initial weights and the same steps as the examples. If a library
is not installed, the comparison is skipped and a line says so.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise

import numpy as np


def logistic_regression(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    epochs: int,
    rate: float,
) -> None:
    """Train 784-10 with sigmoid outputs by full-batch gradient descent, in Keras or PyTorch."""
    x_train, x_test = (x.astype("float32") / 255 for x in (x_train, x_test))
    one_hot = np.eye(10, dtype="float32")[y_train]
    for name, train in (("Keras", _keras_logistic), ("PyTorch", _torch_logistic)):
        try:
            start = time.perf_counter()
            predicted = train(x_train, one_hot, x_test, epochs, rate)
        except ImportError:
            print(f"{name} is not installed")
            continue
        accuracy = (predicted == y_test).mean()
        seconds = time.perf_counter() - start
        print(f"{name}: test accuracy {accuracy:.2%} after {epochs} epochs in {seconds:.1f} s")
        return


def _keras_logistic(x_train, one_hot, x_test, epochs, rate):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras  # installed with TensorFlow, which it uses

    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(10, activation="sigmoid", kernel_initializer="zeros"),
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="binary_crossentropy")
    model.fit(x_train, one_hot, batch_size=len(x_train), epochs=epochs, shuffle=False, verbose=0)
    return model.predict(x_test, verbose=0).argmax(axis=1)


def _torch_logistic(x_train, one_hot, x_test, epochs, rate):
    import torch

    model = torch.nn.Linear(784, 10)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    loss_function = torch.nn.BCEWithLogitsLoss()  # includes the sigmoid
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    x, y = torch.from_numpy(x_train), torch.from_numpy(one_hot)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss_function(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        return model(torch.from_numpy(x_test)).argmax(dim=1).numpy()


def nielsen(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    epochs: int,
    eta: float,
) -> None:
    """Train 784-30-10 with sigmoids and quadratic cost in batches of 10, in PyTorch."""
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed")
        return
    flat = torch.nn.Flatten()
    x, x_test = (flat(torch.from_numpy(pixels) / 255) for pixels in (x_train, x_test))
    y = torch.nn.functional.one_hot(torch.from_numpy(y_train), 10).float()
    layers = [torch.nn.Linear(n_in, n_out) for n_in, n_out in pairwise([784, 30, 10])]
    for parameters in (p for layer in layers for p in layer.parameters()):
        torch.nn.init.normal_(parameters)
    model = torch.nn.Sequential(layers[0], torch.nn.Sigmoid(), layers[1], torch.nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), lr=eta)
    start = time.perf_counter()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(10):
            optimizer.zero_grad()
            cost = ((model(x[batch]) - y[batch]) ** 2).sum() / (2 * len(batch))
            cost.backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        accuracy = (model(x_test).argmax(dim=1).numpy() == y_test).mean()
    print(f"PyTorch: test accuracy {accuracy:.2%} after {epochs} epochs in {seconds:.1f} s")
