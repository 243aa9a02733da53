# %% [markdown]
# # A model of Keras, trained here and handed back
# 784-256-128-10 with batch norm and dropout, on MNIST: trained by `pynn.keras.fit`, evaluated by
# Keras, and trained further by Keras, which continues with the state of the optimizer.
#
# The page on Keras of the documentation has the times of both.

# %%
import os
import time

import numpy as np
from common import QUICK, options

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from keras import layers

import pynn
import pynn.keras

args = options(epochs=5, quick_epochs=1)
keras.utils.set_random_seed(args.seed)
(x, y), (x_test, y_test) = pynn.datasets.mnist()
if QUICK:
    x, y, x_test, y_test = x[:2000], y[:2000], x_test[:500], y_test[:500]

# %% [markdown]
# The model divides pixels by 255 itself, so that x stays uint8, which pynn reads in place.

# %%
model = keras.Sequential(
    [
        keras.Input((28, 28), dtype="uint8"),
        layers.Rescaling(1 / 255),
        layers.Flatten(),
        layers.Dense(256),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.2),
        layers.Dense(128),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.2),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])

# %%
settings = {"batch_size": 128, "validation_split": 0.1, "verbose": 2}
began = time.perf_counter()
history = pynn.keras.fit(model, x, y, epochs=args.epochs, **settings)
ours = (time.perf_counter() - began) / args.epochs
_, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"pynn: {ours:.2f} s per epoch, accuracy on test images by Keras {accuracy:.4f}")

# %% [markdown]
# Keras trains one epoch more. `iterations` has all updates, those of pynn too.

# %%
updates = int(model.optimizer.iterations)
began = time.perf_counter()
model.fit(x, y, epochs=args.epochs + 1, initial_epoch=args.epochs, **settings)
theirs = time.perf_counter() - began
_, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"Keras on {keras.backend.backend()}: {theirs:.2f} s per epoch, accuracy {accuracy:.4f}")
print(f"{updates:,} updates by pynn, {int(model.optimizer.iterations) - updates:,} by Keras")
assert np.isfinite(history.history["val_loss"]).all()
