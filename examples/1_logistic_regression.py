# %% [markdown]
# # 1. Logistic regression
# This network has no hidden layer: 784 pixels are connected directly to 10 sigmoid outputs. Each
# output answers one yes-or-no question, from "is this a 0?" to "is this a 9?". Every step of
# gradient descent on the logistic loss (binary cross-entropy) uses all images. Training stops when
# the loss falls below a threshold, at the latest after a maximum number of epochs.

# %%
import mnist_csv
import numpy as np
import pandas as pd
import twins
from common import compare, options, save

import pynn

args = options(epochs=500)

# %% [markdown]
# The data are two CSV files, for training and test. x is uint8 with values above 1, so the network
# takes its inputs as pixels and divides them by 255. A data frame stores each column contiguously;
# an array that stores each row contiguously trains faster.

# %%
train, test = (pd.read_csv(file, dtype="uint8") for file in mnist_csv.train_and_test())
x_train, y_train = np.ascontiguousarray(train.drop(columns="label")), train["label"].to_numpy()
x_test, y_test = np.ascontiguousarray(test.drop(columns="label")), test["label"].to_numpy()

# %%
net = pynn.Network(
    [784, 10],
    loss="binary_cross_entropy",  # the output activation of this loss is the sigmoid
    init="zeros",
    seed=args.seed,
    backend=args.backend,
)


def report(net, record):
    if record.epoch % 20 == 0:
        print(f"epoch {record.epoch}: loss {record.loss:.4f}, accuracy {record.accuracy:.2%}")


enough = pynn.EarlyStopping(monitor="loss", threshold=0.08, patience=None)
history = net.fit(
    x_train,
    y_train,
    epochs=args.epochs,
    batch_size="full",
    optimizer="sgd",
    learning_rate=5.0,  # high, because the loss is also a mean over the 10 outputs
    callbacks=[report, enough],
    progress=False,
)
print(f"stopped after {len(history)} epochs at loss {history.loss[-1]:.4f}")

# %%
compare("test accuracy", None, net.evaluate(x_test, y_test)["accuracy"])
save(pynn.plots.learning_curves(history), args.out, "1_curves")
save(pynn.plots.first_layer_weights(net, x=x_train), args.out, "1_weights")
save(pynn.plots.confusion_matrix(y_test, net.predict(x_test)), args.out, "1_confusion")

# %% The same network in Keras or PyTorch, for comparison
if args.twin:
    twins.logistic_regression(x_train, y_train, x_test, y_test, epochs=len(history), rate=5.0)
